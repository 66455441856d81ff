// How lanes share one WebSocket: fragments, chosen by priority one at a time, each within its receiver's credit
// (docs/protocol.md, section 3). A fragment is {lane u16, flags u8, length u16, payload}; a message holds whole ones.
//
// Both halves are plain data. `Outgoing` asks for a lane's next record only when it can be sent now, so that what waits
// can still be replaced or dropped by its owner.
import {
  CONTROL,
  encodeOpening,
  firstCredit,
  isBulk,
  type LaneKey,
  LaneKind,
  OPENING_LEN,
  parseOpening,
  priority,
} from "./lane";
import { FRAGMENT_MAX, FRAGMENT_MIN, LANES_MAX, LANES_TO_CLIENT_MAX } from "./limits";
import { type Record, RecordBuffer, RecordError } from "./record";

/** Bytes before a fragment's payload. */
export const FRAGMENT_HEADER_LEN = 5;

/** Bits of a fragment's flags: the payload begins with the lane's opening; a record ends here; given up; the lane ends. */
export const Fragment = { First: 1, Last: 2, Reset: 4, Fin: 8 } as const;

/** Hands out a lane's next record; nothing if there is none. */
export type Source = () => Uint8Array | undefined;

/** A record that was taken from its owner and has not left altogether. */
export interface Half {
  readonly key: LaneKey;
  /** All of it, as its owner gave it. */
  readonly record: Uint8Array;
}

/** Whose lane numbers. */
export type Side = "client" | "relay";

const NOTHING = new Uint8Array(0);

interface OutLane {
  readonly id: number;
  readonly key: LaneKey;
  readonly source: Source;
  priority: number;
  /** The record that is being sent, and what is left of it. */
  whole: Uint8Array;
  record: Uint8Array;
  opened: boolean;
  finishing: boolean;
  sent: number;
  credit: number;
}

/** The sending half. */
export class Outgoing {
  private next: number;
  private lanes: OutLane[] = [];
  /** Bytes that others have sent while bulk was waiting. */
  private bulkWaited = 0;
  private isResting = false;

  constructor(side: Side, control: Source) {
    this.next = side === "client" ? 2 : 1;
    this.add(0, CONTROL, control, false);
  }

  /** Opens a lane and says its number. Its opening goes out with its first record. */
  open(key: LaneKey, source: Source, focused = true): number {
    for (;;) {
      const id = this.next;
      this.next = id + 2 > 0xffff ? 2 - (id & 1) : id + 2;
      if (this.lanes.every((lane) => lane.id !== id)) {
        this.add(id, key, source, focused);
        return id;
      }
    }
  }

  private add(id: number, key: LaneKey, source: Source, focused: boolean): void {
    const isControl = key.kind === LaneKind.Control;
    this.lanes.push({
      id,
      key,
      source,
      priority: priority(key, focused),
      whole: NOTHING,
      record: NOTHING,
      opened: isControl,
      finishing: false,
      sent: 0,
      credit: isControl ? Number.POSITIVE_INFINITY : firstCredit(key.kind),
    });
    this.lanes.sort((a, b) => a.priority - b.priority);
  }

  /** The receiver allows so many payload bytes since the lane opened. Never goes down; unknown lanes are ignored. */
  credit(id: number, bytes: number): void {
    const lane = this.find(id);
    if (lane) lane.credit = Math.max(lane.credit, bytes);
  }

  /** Ends a lane after the record that is being sent. */
  finish(id: number): void {
    const lane = this.find(id);
    if (!lane) return;
    lane.finishing = true;
    if (!lane.opened && lane.record.length === 0) this.remove(lane);
  }

  /** Gives a lane up at once. The fragment that says so, if the other side knows of the lane. */
  reset(id: number): Uint8Array | undefined {
    const lane = this.find(id);
    if (!lane) return undefined;
    this.remove(lane);
    return lane.opened ? fragmentHeader(id, Fragment.Reset, 0) : undefined;
  }

  /**
   * Lets nothing but control go from now on. Lanes that are in the middle of a record are given up: the fragments that say
   * so, and the records, which are to go again, whole, on another connection.
   */
  rest(): { fragments: Uint8Array[]; half: Half[] } {
    this.isResting = true;
    const begun = this.lanes.filter(({ key, record }) => key.kind !== LaneKind.Control && record.length > 0);
    return {
      half: begun.map(({ key, whole }) => ({ key, record: whole })),
      fragments: begun.flatMap(({ id }) => this.reset(id) ?? []),
    };
  }

  /**
   * The most urgent fragment that may go now, as header and payload parts, with at most `payloadMax` bytes (at least
   * FRAGMENT_MIN are used); nothing if nothing may go. Bulk gets every tenth byte at least while it waits; otherwise
   * the order is strict.
   */
  fragment(payloadMax: number): Uint8Array[] | undefined {
    const most = Math.min(Math.max(payloadMax, FRAGMENT_MIN), FRAGMENT_MAX);
    const lane = this.choose(most);
    if (!lane) return undefined;
    const opening = lane.opened ? NOTHING : encodeOpening(lane.key);
    const length = Math.min(lane.record.length, most - opening.length, lane.credit - lane.sent - opening.length);
    const body = lane.record.subarray(0, length);
    const ends = lane.finishing && length === lane.record.length;
    const flags =
      (lane.opened ? 0 : Fragment.First) |
      (length > 0 && length === lane.record.length ? Fragment.Last : 0) |
      (ends ? Fragment.Fin : 0);
    lane.opened = true;
    lane.record = lane.record.subarray(length);
    lane.sent += opening.length + length;
    this.remove(lane);
    if (!ends) this.putBehindEquals(lane);
    return [fragmentHeader(lane.id, flags, opening.length + length), opening, body];
  }

  private choose(most: number): OutLane | undefined {
    if (this.isResting) return this.lanes.find((lane) => lane.key.kind === LaneKind.Control && isReady(lane));
    const bulk = this.lanes.find((lane) => isBulk(lane.key.kind) && isReady(lane));
    if (bulk && this.bulkWaited >= 9 * most) {
      this.bulkWaited = 0;
      return bulk;
    }
    const urgent = this.lanes.find((lane) => !isBulk(lane.key.kind) && isReady(lane));
    this.bulkWaited = urgent && bulk ? this.bulkWaited + most : 0;
    return urgent ?? bulk;
  }

  private find(id: number): OutLane | undefined {
    return this.lanes.find((lane) => lane.id === id);
  }

  private remove(lane: OutLane): void {
    this.lanes.splice(this.lanes.indexOf(lane), 1);
  }

  /** Lanes of one priority take turns. */
  private putBehindEquals(lane: OutLane): void {
    const at = this.lanes.findIndex((other) => other.priority > lane.priority);
    this.lanes.splice(at < 0 ? this.lanes.length : at, 0, lane);
  }
}

/** Whether it could send now; asks its owner for a record if it has none. */
function isReady(lane: OutLane): boolean {
  if (lane.credit - lane.sent <= OPENING_LEN) return false;
  if (lane.record.length === 0 && !lane.finishing) {
    lane.whole = lane.source() ?? NOTHING;
    lane.record = lane.whole;
  }
  return lane.record.length > 0 || (lane.finishing && lane.opened);
}

function fragmentHeader(id: number, flags: number, length: number): Uint8Array {
  return Uint8Array.of(id & 255, id >> 8, flags, length & 255, length >> 8);
}

/** A lane that the other end has opened. */
export interface InLane {
  readonly id: number;
  readonly key: LaneKey;
  /** Bytes of records since it opened, the opening not counted: what an `Ack` reports. */
  received: number;
}

interface InState extends InLane {
  readonly buffer: RecordBuffer;
  /** Of payload bytes, opening included. */
  granted: number;
  consumed: number;
}

/** What arrives. */
export interface InHandler {
  opened(lane: InLane): void;
  /** Bytes of a record, whole or not; before the record itself. */
  arrived(lane: InLane): void;
  record(lane: InLane, record: Record): void;
  /** In order, or given up with an unfinished record void. */
  ended(lane: InLane): void;
  /** The new absolute limit of a lane, to be sent to the other end. */
  credit(id: number, bytes: number): void;
}

/** The receiving half. Records count as consumed when the handler returns. */
export class Incoming {
  private readonly lanes = new Map<number, InState>();
  private readonly parity: number;

  /** For the lanes that `sender` numbers. */
  constructor(
    sender: Side,
    private readonly handler: InHandler,
  ) {
    this.parity = sender === "relay" ? 1 : 0;
    this.lanes.set(0, newLane(0, CONTROL));
  }

  /** Reads one message. Throws a RecordError if it is none; the connection must then close with `protocol`. */
  message(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let at = 0;
    while (at < bytes.length) {
      if (bytes.length - at < FRAGMENT_HEADER_LEN) throw new RecordError("a fragment is cut off");
      const id = view.getUint16(at, true);
      const flags = view.getUint8(at + 2);
      const from = at + FRAGMENT_HEADER_LEN;
      at = from + view.getUint16(at + 3, true);
      if (at > bytes.length) throw new RecordError("a fragment is cut off");
      this.fragment(id, flags, bytes.subarray(from, at));
    }
    for (const lane of this.lanes.values()) this.grant(lane);
  }

  private fragment(id: number, flags: number, payload: Uint8Array): void {
    const isFirst = (flags & Fragment.First) !== 0;
    if (isFirst) this.open(id, payload);
    const lane = this.lanes.get(id);
    if (!lane) throw new RecordError(`lane ${id} is not open`);
    const body = isFirst ? payload.subarray(OPENING_LEN) : payload;
    lane.received += body.length;
    if (lane.received + OPENING_LEN > lane.granted) throw new RecordError(`lane ${id} went beyond its credit`);
    if (flags & Fragment.Reset && id !== 0) return this.end(lane);
    if (body.length > 0) {
      lane.buffer.push(body);
      this.handler.arrived(lane);
      this.drain(lane);
    }
    const ends = (flags & Fragment.Fin) !== 0;
    if ((flags & Fragment.Last || ends) && lane.buffer.pending > 0) {
      throw new RecordError(`records and fragments of lane ${id} do not end together`);
    }
    if (ends && id !== 0) this.end(lane);
  }

  private drain(lane: InState): void {
    for (let record = lane.buffer.next(); record; record = lane.buffer.next()) {
      this.handler.record(lane, record);
      lane.consumed += record.bytes.length;
    }
  }

  private open(id: number, payload: Uint8Array): void {
    if ((id & 1) !== this.parity) throw new RecordError(`lane ${id} has a number of the other side`);
    if (payload.length < OPENING_LEN) throw new RecordError("an opening is cut off");
    const key = parseOpening(payload);
    if (!key) throw new RecordError("unknown lane kind");
    if (key.kind === LaneKind.Control || this.lanes.has(id)) throw new RecordError(`lane ${id} is opened twice`);
    if (this.lanes.size > (this.parity === 0 ? LANES_MAX : LANES_TO_CLIENT_MAX))
      throw new RecordError("too many lanes");
    const lane = newLane(id, key);
    this.lanes.set(id, lane);
    this.handler.opened(lane);
  }

  private end(lane: InState): void {
    this.lanes.delete(lane.id);
    this.handler.ended(lane);
  }

  /** Raises a lane's limit when a quarter of its window is free, and for a record that is larger than the window. */
  private grant(lane: InState): void {
    const window = firstCredit(lane.key.kind);
    const unfinished = lane.received - lane.consumed;
    const limit = lane.consumed + Math.max(window, unfinished + window / 2) + OPENING_LEN;
    if (limit < lane.granted + window / 4) return;
    lane.granted = limit;
    this.handler.credit(lane.id, limit);
  }
}

function newLane(id: number, key: LaneKey): InState {
  const isControl = key.kind === LaneKind.Control;
  return {
    id,
    key,
    received: 0,
    buffer: new RecordBuffer(key.kind),
    granted: isControl ? Number.POSITIVE_INFINITY : firstCredit(key.kind),
    consumed: 0,
  };
}
