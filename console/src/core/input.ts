// The technician's hands: turns keys, text, buttons, wheel and motion into the records of the input lane, keeps what the
// far end has not acknowledged, and holds to the rules of a resume (docs/protocol.md, section 4): nothing doubled,
// nothing late, nothing silently lost.
import { create, toBinary } from "@bufbuild/protobuf";
import {
  ButtonSchema,
  HeldSchema,
  KeySchema,
  MotionSchema,
  PositionSchema,
  TextSchema,
  WheelSchema,
} from "../gen/input_pb";
import type { Clock } from "./clock";
import { type Dropped, NOTHING_DROPPED } from "./dropped";
import { HELD_EVERY_MS, INPUT_AGE_MAX_MS, INPUT_BODY_MAX, RESEND_INPUT } from "./limits";
import { RecordType } from "./message";
import type { Source } from "./mux";
import { encodeRecord, type Header } from "./record";
import type { Outlet } from "./transport";

/** Pointer motion is sent at most this often, ms: as often as the fastest common screens draw. */
const MOTION_EVERY_MS = 8;
/** Most characters of one `Text`: four bytes each at most, within a body. */
const TEXT_MAX = (INPUT_BODY_MAX - 16) / 4;

/** A pixel of one display of one layout. */
export interface Position {
  readonly display: number;
  readonly generation: number;
  readonly x: number;
  readonly y: number;
}

/** The locks at this keyboard. */
export interface Locks {
  readonly caps: boolean;
  readonly num: boolean;
  readonly scroll: boolean;
}

/** One record that left this core, for measurements. */
export interface Sent {
  readonly type: number;
  readonly seq: bigint;
  /** When it was made and when it was handed to the transport, ms of the clock. */
  readonly madeAt: number;
  readonly sentAt: number;
}

export interface InputOptions {
  readonly clock: Clock;
  /** A header of the connection's present participant. */
  readonly header: (type: number, seq: bigint) => Header;
  /** Input was dropped: the total so far. */
  readonly onDropped: (total: Dropped) => void;
  readonly onSent?: ((sent: Sent) => void) | undefined;
}

/** What a dropped record counts as. */
type Kind = keyof Dropped | undefined;

interface Entry {
  readonly type: number;
  readonly seq: bigint;
  readonly kind: Kind;
  madeAt: number;
  bytes: Uint8Array;
}

export class InputSender {
  private sender = 0;
  private seq = 0n;
  /** Unacknowledged records in order; from `unsent` on they have not been sent on this lane. */
  private entries: Entry[] = [];
  private unsent = 0;
  private bytes = 0;
  private outlet: Outlet | undefined;
  private dropped = NOTHING_DROPPED;
  private readonly keys = new Set<number>();
  private readonly buttons = new Set<number>();
  private locks: Locks = { caps: false, num: false, scroll: false };
  private cancelHeld: (() => void) | undefined;
  private pendingMotion: Position | undefined;
  private motionAt = Number.NEGATIVE_INFINITY;
  private cancelMotion: (() => void) | undefined;

  constructor(private readonly options: InputOptions) {}

  /** Bytes that the far end has not acknowledged. */
  get unacknowledgedBytes(): number {
    return this.bytes;
  }

  /** A key by its physical position (USB HID usage); a repeat is another `down`. */
  key(usage: number, down: boolean, locks: Locks, text: string): void {
    if (!down && !this.keys.has(usage)) return;
    this.locks = locks;
    if (down) this.keys.add(usage);
    else this.keys.delete(usage);
    const body = toBinary(KeySchema, create(KeySchema, { usage, down, locks, text }));
    this.add(RecordType.Key, body, down ? "keys" : undefined);
    this.scheduleHeld();
  }

  /** What an input method or a dead key composed. */
  text(text: string): void {
    const characters = [...text];
    for (let at = 0; at < characters.length; at += TEXT_MAX) {
      const part = characters.slice(at, at + TEXT_MAX).join("");
      this.add(RecordType.Text, toBinary(TextSchema, create(TextSchema, { text: part })), "texts");
    }
  }

  /** 1 left, 2 middle, 3 right, 4 back, 5 forward. */
  button(button: number, down: boolean, position: Position): void {
    if (!down && !this.buttons.has(button)) return;
    if (down) this.buttons.add(button);
    else this.buttons.delete(button);
    this.pendingMotion = undefined;
    const body = toBinary(ButtonSchema, create(ButtonSchema, { button, down, position: positionOf(position) }));
    this.add(RecordType.Button, body, down ? "clicks" : undefined);
    this.scheduleHeld();
  }

  /** In 1/120 of a notch; positive is right and down. */
  wheel(x: number, y: number, position: Position): void {
    if (x === 0 && y === 0) return;
    this.add(
      RecordType.Wheel,
      toBinary(WheelSchema, create(WheelSchema, { x, y, position: positionOf(position) })),
      "wheels",
    );
  }

  /** Coalesced: the first at once, then the newest at most every 8 ms, and before whatever else is sent. */
  motion(position: Position): void {
    this.pendingMotion = position;
    const wait = this.motionAt + MOTION_EVERY_MS - this.options.clock.now();
    if (wait <= 0) return this.flushMotion();
    this.cancelMotion ??= this.options.clock.after(wait, () => {
      this.cancelMotion = undefined;
      this.flushMotion();
    });
  }

  /** Lets go of everything: the view has lost the keyboard. */
  releaseAll(): void {
    if (this.keys.size === 0 && this.buttons.size === 0) return;
    for (const usage of [...this.keys].reverse()) this.key(usage, false, this.locks, "");
    this.buttons.clear();
    this.restate();
  }

  /** The far end has every record of this epoch before `nextSeq`. */
  acknowledged(nextSeq: bigint): void {
    let count = 0;
    while (count < this.unsent && (this.entries[count] as Entry).seq < nextSeq) count += 1;
    for (const entry of this.entries.splice(0, count)) this.bytes -= entry.bytes.length;
    this.unsent -= count;
  }

  /**
   * A lane is to be had: after a welcome (`from`: the first record that the relay does not have, if it says) or after
   * a `Reopen` (`from` undefined: everything unacknowledged goes again). Of what goes, what is older than a second is dropped:
   * the customer's program would not do it any more.
   */
  connect(sender: number, from: bigint | undefined, open: (source: Source) => Outlet | undefined): void {
    this.outlet?.finish();
    // What was made under another number may not be sent.
    const isSame = sender === this.sender;
    const oldest = this.options.clock.now() - INPUT_AGE_MAX_MS;
    const first = from === undefined ? 0 : this.indexOf(from);
    this.sender = sender;
    this.unsent = first;
    this.drop((entry, index) => isSame && (index < first || entry.madeAt >= oldest));
    this.outlet = open(() => this.next());
    this.restate();
  }

  /** The transport is gone. What is made from now on waits, for a second at most. */
  disconnect(): void {
    this.outlet = undefined;
    this.cancelHeld?.();
    this.cancelHeld = undefined;
  }

  private indexOf(seq: bigint): number {
    const index = this.entries.findIndex((entry) => entry.seq >= seq);
    return index < 0 ? this.entries.length : index;
  }

  /** Drops the entries that `keep` denies, counts and tells. */
  private drop(keep: (entry: Entry, index: number) => boolean): void {
    const kept: Entry[] = [];
    let unsent = 0;
    let dropped = this.dropped;
    this.entries.forEach((entry, index) => {
      if (keep(entry, index)) {
        if (index < this.unsent) unsent += 1;
        kept.push(entry);
      } else {
        this.bytes -= entry.bytes.length;
        dropped = count(dropped, entry.kind);
      }
    });
    this.entries = kept;
    this.unsent = unsent;
    this.tell(dropped);
  }

  private tell(dropped: Dropped): void {
    if (dropped === this.dropped) return;
    this.dropped = dropped;
    this.options.onDropped(dropped);
  }

  /** The lane's source. */
  private next(): Uint8Array | undefined {
    const entry = this.entries[this.unsent];
    if (!entry) return undefined;
    this.unsent += 1;
    const { type, seq, madeAt } = entry;
    this.options.onSent?.({ type, seq, madeAt, sentAt: this.options.clock.now() });
    return entry.bytes;
  }

  private add(type: number, body: Uint8Array, kind: Kind): void {
    if (type !== RecordType.Motion) this.flushMotion();
    const replaceable = type === RecordType.Motion || type === RecordType.Held;
    const last = this.entries.length > this.unsent ? this.entries.at(-1) : undefined;
    const seq = replaceable && last?.type === type ? last.seq : this.seq;
    const bytes = encodeRecord(this.options.header(type, seq), body);
    const madeAt = this.options.clock.now();
    if (last && seq === last.seq) {
      // Only the newest of a run that waits is worth sending.
      this.bytes += bytes.length - last.bytes.length;
      last.bytes = bytes;
      last.madeAt = madeAt;
    } else if (this.bytes + bytes.length > RESEND_INPUT) {
      this.tell(count(this.dropped, kind));
    } else {
      this.seq += 1n;
      this.bytes += bytes.length;
      this.entries.push({ type, seq, kind, madeAt, bytes });
    }
    this.outlet?.wake();
  }

  private flushMotion(): void {
    const position = this.pendingMotion;
    if (!position) return;
    this.pendingMotion = undefined;
    this.cancelMotion?.();
    this.cancelMotion = undefined;
    this.motionAt = this.options.clock.now();
    const body = toBinary(MotionSchema, create(MotionSchema, { position: positionOf(position) }));
    this.add(RecordType.Motion, body, undefined);
  }

  private scheduleHeld(): void {
    const isHolding = this.keys.size > 0 || this.buttons.size > 0;
    if (isHolding && this.outlet) {
      this.cancelHeld ??= this.options.clock.after(HELD_EVERY_MS, () => this.restate());
    } else {
      this.cancelHeld?.();
      this.cancelHeld = undefined;
    }
  }

  /** Says all that is held now. */
  private restate(): void {
    this.cancelHeld?.();
    this.cancelHeld = undefined;
    const held = create(HeldSchema, { usages: [...this.keys], buttons: [...this.buttons], locks: this.locks });
    this.add(RecordType.Held, toBinary(HeldSchema, held), undefined);
    this.scheduleHeld();
  }
}

function positionOf(position: Position) {
  return create(PositionSchema, { ...position });
}

function count(dropped: Dropped, kind: Kind): Dropped {
  return kind ? { ...dropped, [kind]: dropped[kind] + 1 } : dropped;
}
