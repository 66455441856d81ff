// Lanes: ordered streams of records, told apart by kind, display, rendition and sender, each with its priority
// (docs/protocol.md, section 2).
import * as limits from "./limits";

/** What a lane carries. */
export const LaneKind = {
  Control: 0,
  Input: 1,
  Audio: 2,
  Chat: 3,
  Peer: 4,
  Cursor: 5,
  Screen: 6,
  Key: 7,
  Clipboard: 8,
  File: 9,
} as const;
export type LaneKind = (typeof LaneKind)[keyof typeof LaneKind];

const KINDS = Object.keys(LaneKind).length;

/** Bytes of a lane's opening. */
export const OPENING_LEN = 6;

/** Which lane: at most one of each key is open in one direction of a connection at a time. */
export interface LaneKey {
  readonly kind: LaneKind;
  /** For screens and keys; otherwise 0. */
  readonly display: number;
  /** For screens and keys: 0 live, 1 reduced; otherwise 0. */
  readonly rendition: number;
  /** Whose records it carries. */
  readonly sender: number;
}

/** The control lane of a connection. */
export const CONTROL: LaneKey = { kind: LaneKind.Control, display: 0, rendition: 0, sender: 0 };

/** A lane that is not about a display. */
export function plainLane(kind: LaneKind, sender: number): LaneKey {
  return { kind, display: 0, rendition: 0, sender };
}

/** A key as text, for maps. */
export function laneName(key: LaneKey): string {
  return `${key.kind}/${key.display}/${key.rendition}/${key.sender}`;
}

/** Whether the records on it carry the screen header. */
export function isScreen(kind: LaneKind): boolean {
  return kind === LaneKind.Screen || kind === LaneKind.Key;
}

/** Whether it is moved by what the path has left, with a guaranteed tenth. */
export function isBulk(kind: LaneKind): boolean {
  return kind === LaneKind.Clipboard || kind === LaneKind.File;
}

/** Most bytes of a record's body on such a lane. */
export function bodyMax(kind: LaneKind): number {
  if (kind === LaneKind.Control) return limits.CONTROL_BODY_MAX;
  return kind === LaneKind.Input ? limits.INPUT_BODY_MAX : limits.BODY_MAX;
}

/** Receiver credit when such a lane opens. */
export function firstCredit(kind: LaneKind): number {
  if (isScreen(kind)) return limits.CREDIT_SCREEN;
  return isBulk(kind) ? limits.CREDIT_BULK : limits.CREDIT;
}

/** Order of sending: the lowest goes first. `focused` is whether the receiver works in this display. */
export function priority(key: LaneKey, focused: boolean): number {
  switch (key.kind) {
    case LaneKind.Control:
      return 0;
    case LaneKind.Input:
      return 1;
    case LaneKind.Audio:
      return 2;
    case LaneKind.Chat:
    case LaneKind.Peer:
      return 3;
    case LaneKind.Cursor:
      return 4;
    case LaneKind.Screen:
      if (key.rendition !== 0) return 7;
      return focused ? 5 : 6;
    case LaneKind.Key:
      return 8;
    default:
      return 9;
  }
}

/** The first bytes of a lane: kind u8, display u16, rendition u8, sender u16. */
export function encodeOpening(key: LaneKey): Uint8Array {
  const { kind, display, rendition, sender } = key;
  return Uint8Array.of(kind, display & 255, display >> 8, rendition, sender & 255, sender >> 8);
}

/** Reads an opening; nothing if its kind is of a later version, for which the connection must close. */
export function parseOpening(bytes: Uint8Array): LaneKey | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, OPENING_LEN);
  const kind = view.getUint8(0);
  if (kind >= KINDS) return undefined;
  return {
    kind: kind as LaneKind,
    display: view.getUint16(1, true),
    rendition: view.getUint8(3),
    sender: view.getUint16(4, true),
  };
}
