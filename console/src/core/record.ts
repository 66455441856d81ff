// Records: the unit of every lane. A header in the clear, then a body (docs/protocol.md, section 2).
import { bodyMax, isScreen, LaneKind } from "./lane";
import { HEADER_MAX } from "./limits";

/** Bytes of the header that every record has; on screen and key lanes; of a segment's start. */
export const HEADER_LEN = 38;
export const SCREEN_HEADER_LEN = 46;
export const START_HEADER_LEN = 59;

/** Bits of a record's flags. */
export const Flag = { Latest: 1, Sealed: 2, More: 4 } as const;

/** Values of `ScreenHeader.kind`. */
export const ScreenKind = { Update: 0, Start: 1, Key: 2 } as const;

/** How a start without predecessor says so. */
const NO_RENDITION = 255;

/** An update of a rendition: the shadow that subscribers hold after it. */
export interface Point {
  readonly rendition: number;
  readonly segment: number;
  readonly seq: bigint;
}

/** What screen and key lanes add to the header. */
export interface ScreenHeader {
  readonly display: number;
  readonly rendition: number;
  readonly kind: number;
  readonly segment: number;
  /** Starts only: the update whose shadow the segment starts with; nothing if it starts with a black picture. */
  readonly from?: Point | undefined;
}

/** A record's header. */
export interface Header {
  readonly type: number;
  readonly flags: number;
  readonly sender: number;
  readonly keyId: number;
  readonly epoch: bigint;
  readonly seq: bigint;
  /** The sender's monotonic clock since its epoch began, µs. */
  readonly timeUs: bigint;
  readonly screen?: ScreenHeader | undefined;
}

/** A record with its bytes, header included, exactly as they came. */
export interface Record {
  readonly header: Header;
  readonly bytes: Uint8Array;
  readonly body: Uint8Array;
}

/** Bytes that are no record. The connection that sent them must close with `protocol`. */
export class RecordError extends Error {
  override readonly name = "RecordError";
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The record of such a header and body. */
export function encodeRecord(header: Header, body: Uint8Array): Uint8Array {
  const { screen } = header;
  const isStart = screen?.kind === ScreenKind.Start;
  const headerLen = isStart ? START_HEADER_LEN : screen ? SCREEN_HEADER_LEN : HEADER_LEN;
  const bytes = new Uint8Array(headerLen + body.length);
  const view = viewOf(bytes);
  view.setUint8(0, headerLen);
  view.setUint8(1, header.type);
  view.setUint16(2, header.flags, true);
  view.setUint16(4, header.sender, true);
  view.setUint32(6, header.keyId, true);
  view.setBigUint64(10, header.epoch, true);
  view.setBigUint64(18, header.seq, true);
  view.setBigUint64(26, header.timeUs, true);
  view.setUint32(34, body.length, true);
  if (screen) {
    view.setUint16(38, screen.display, true);
    view.setUint8(40, screen.rendition);
    view.setUint8(41, screen.kind);
    view.setUint32(42, screen.segment, true);
  }
  if (isStart) {
    view.setUint8(46, screen.from?.rendition ?? NO_RENDITION);
    view.setUint32(47, screen.from?.segment ?? 0xffff_ffff, true);
    view.setBigUint64(51, screen.from?.seq ?? 0xffff_ffff_ffff_ffffn, true);
  }
  bytes.set(body, headerLen);
  return bytes;
}

/** How long the record is that `bytes` begin with, in header and body; nothing if more bytes are needed to say. */
function measure(kind: LaneKind, bytes: Uint8Array): { headerLen: number; bodyLen: number } | undefined {
  const headerLen = bytes[0];
  if (headerLen === undefined) return undefined;
  const least = isScreen(kind) ? SCREEN_HEADER_LEN : HEADER_LEN;
  if (headerLen < least || headerLen > HEADER_MAX) {
    throw new RecordError(`a header of ${headerLen} bytes does not fit lane kind ${kind}`);
  }
  if (bytes.length < HEADER_LEN) return undefined;
  const bodyLen = viewOf(bytes).getUint32(34, true);
  if (bodyLen > bodyMax(kind)) throw new RecordError(`a body of ${bodyLen} bytes on lane kind ${kind}`);
  return { headerLen, bodyLen };
}

/** Reads the header of a whole record. */
export function parseRecord(kind: LaneKind, bytes: Uint8Array): Record {
  const lengths = measure(kind, bytes);
  if (!lengths || lengths.headerLen + lengths.bodyLen !== bytes.length) throw new RecordError("a record is cut off");
  const view = viewOf(bytes);
  const header: Header = {
    type: view.getUint8(1),
    flags: view.getUint16(2, true),
    sender: view.getUint16(4, true),
    keyId: view.getUint32(6, true),
    epoch: view.getBigUint64(10, true),
    seq: view.getBigUint64(18, true),
    timeUs: view.getBigUint64(26, true),
    screen: isScreen(kind) ? parseScreen(kind, view, lengths.headerLen) : undefined,
  };
  return { header, bytes, body: bytes.subarray(lengths.headerLen) };
}

function parseScreen(lane: LaneKind, view: DataView, headerLen: number): ScreenHeader {
  const kind = view.getUint8(41);
  if (kind > ScreenKind.Key) throw new RecordError(`unknown kind ${kind} of a screen record`);
  if ((kind === ScreenKind.Key) !== (lane === LaneKind.Key)) throw new RecordError("a record on the wrong lane");
  if (kind === ScreenKind.Start && headerLen < START_HEADER_LEN) throw new RecordError("a start without its origin");
  const hasFrom = kind === ScreenKind.Start && view.getUint8(46) !== NO_RENDITION;
  return {
    display: view.getUint16(38, true),
    rendition: view.getUint8(40),
    kind,
    segment: view.getUint32(42, true),
    from: hasFrom
      ? { rendition: view.getUint8(46), segment: view.getUint32(47, true), seq: view.getBigUint64(51, true) }
      : undefined,
  };
}

/** Cuts a lane's bytes into records. Never holds more than one unfinished record and what was just pushed. */
export class RecordBuffer {
  private bytes = new Uint8Array(1024);
  private start = 0;
  private end = 0;

  constructor(private readonly kind: LaneKind) {}

  /** Bytes of the unfinished record. */
  get pending(): number {
    return this.end - this.start;
  }

  /** Appends what arrived; afterwards {@link next} is to be called until it answers nothing. */
  push(chunk: Uint8Array): void {
    this.reserve(chunk.length);
    this.bytes.set(chunk, this.end);
    this.end += chunk.length;
  }

  /** The next whole record, as a copy of its own. */
  next(): Record | undefined {
    const held = this.bytes.subarray(this.start, this.end);
    const lengths = measure(this.kind, held);
    if (!lengths) return undefined;
    const length = lengths.headerLen + lengths.bodyLen;
    if (held.length < length) {
      // Only now is the length known to be allowed, so only now may it be reserved.
      this.reserve(length - held.length);
      return undefined;
    }
    this.start += length;
    if (this.start === this.end) this.start = this.end = 0;
    return parseRecord(this.kind, held.slice(0, length));
  }

  private reserve(more: number): void {
    const needed = this.pending + more;
    if (this.end + more <= this.bytes.length) return;
    const room = needed <= this.bytes.length ? this.bytes : new Uint8Array(Math.max(needed, 2 * this.bytes.length));
    room.set(this.bytes.subarray(this.start, this.end));
    this.bytes = room;
    this.end -= this.start;
    this.start = 0;
  }
}
