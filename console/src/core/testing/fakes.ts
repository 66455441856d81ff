// What the core's tests stand on: a clock that is moved by hand, chance that repeats, and the relay's end of a transport.
import { create, toBinary } from "@bufbuild/protobuf";
import { ControlSchema } from "../../gen/control_pb";
import type { Chance, Clock } from "../clock";
import type { Close } from "../close";
import { CONTROL, type LaneKey } from "../lane";
import { type ControlInit, type ControlMessage, decodeControl, RecordType } from "../message";
import type { Half, Source } from "../mux";
import { encodeRecord, parseRecord, type Record } from "../record";
import type { Open, Outlet, Transport, TransportHandler, TransportKind } from "../transport";

/** A clock that stands still until it is moved. */
export class FakeClock implements Clock {
  private at = 0;
  private tasks: { at: number; task: () => void }[] = [];

  now(): number {
    return this.at;
  }

  after(ms: number, task: () => void): () => void {
    const entry = { at: this.at + ms, task };
    this.tasks.push(entry);
    return () => {
      this.tasks = this.tasks.filter((other) => other !== entry);
    };
  }

  /** Lets time pass; what falls due runs at its time, in order. */
  advance(ms: number): void {
    const end = this.at + ms;
    for (;;) {
      const due = this.tasks.filter((entry) => entry.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.tasks = this.tasks.filter((entry) => entry !== due);
      this.at = Math.max(this.at, due.at);
      due.task();
    }
    this.at = end;
  }
}

/** The same numbers every time. */
export function fixedChance(seed = 1): Chance {
  let state = seed;
  const random = () => {
    // Mulberry32.
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return { random, bytes: (length) => Uint8Array.from({ length }, () => Math.floor(random() * 256)) };
}

/** Control messages by their case. */
type ControlValues = { [Message in ControlMessage as Message["case"] & string]: Message["value"] };

/** A lane that the client opened, as the relay sees it. */
export interface SeenLane {
  readonly key: LaneKey;
  readonly records: Record[];
  isFinished: boolean;
}

/** A transport whose other end is the test. */
export class FakeTransport implements Transport {
  bytesReceived = 0;
  isAdmitted = false;
  readonly said: ControlMessage[] = [];
  readonly lanes: SeenLane[] = [];
  /** How it ended, whoever ended it; without a code if the path broke. */
  closed: { close?: Close | undefined; reason: string } | undefined;
  /** Nothing but control leaves it any more. */
  isResting = false;
  /** What a rest gives up. */
  half: readonly Half[] = [];
  private seq = 0n;

  constructor(
    public handler: TransportHandler,
    readonly kind: TransportKind = "websocket",
  ) {}

  admit(): void {
    this.isAdmitted = true;
  }

  control(record: Uint8Array): void {
    this.said.push(decodeControl(parseRecord(CONTROL.kind, record).body));
  }

  open(key: LaneKey, source: Source): Outlet {
    const lane: SeenLane = { key, records: [], isFinished: false };
    this.lanes.push(lane);
    const wake = () => {
      for (let record = source(); record; record = source()) lane.records.push(parseRecord(key.kind, record));
    };
    return {
      wake: () => !this.closed && !this.isResting && wake(),
      finish: () => {
        lane.isFinished = true;
      },
    };
  }

  raise(): void {}

  rest(): readonly Half[] {
    this.isResting = true;
    return this.half;
  }

  close(close: Close, reason: string): void {
    if (this.closed) return;
    this.closed = { close, reason };
    this.handler.closed({ close, reason });
  }

  /** The relay says something on control. */
  say(message: ControlInit): void {
    const body = toBinary(ControlSchema, create(ControlSchema, { message }));
    const header = { type: RecordType.Control, flags: 0, sender: 0, keyId: 0, epoch: 1n, seq: this.seq, timeUs: 0n };
    this.seq += 1n;
    const record = parseRecord(CONTROL.kind, encodeRecord(header, body));
    const inlet = { key: CONTROL, received: 0 };
    this.handler.arrived(inlet);
    this.handler.record(inlet, record);
  }

  /** The path breaks, or the relay closes. */
  breakOff(close?: Close): void {
    this.closed = { close, reason: "" };
    this.handler.closed(this.closed);
  }

  /** The messages of one kind that the client has sent. */
  heard<Case extends keyof ControlValues>(which: Case): ControlValues[Case][] {
    return this.said.flatMap(({ case: said, value }) => (said === which ? [value as ControlValues[Case]] : []));
  }
}

/** Openers that make fake transports and keep them in order of making. */
export function fakeWays(count = 1): { openers: Open[]; made: FakeTransport[] } {
  const made: FakeTransport[] = [];
  const kinds: TransportKind[] = count === 1 ? ["websocket"] : ["webtransport", "websocket"];
  const openers = kinds.map((kind) => (handler: TransportHandler) => {
    const transport = new FakeTransport(handler, kind);
    made.push(transport);
    return transport;
  });
  return { openers, made };
}

/** Lets promises that are settled run their course. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function unhex(text: string): Uint8Array {
  return Uint8Array.from(text.replace(/\s/g, "").match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}
