import { fromBinary } from "@bufbuild/protobuf";
import { beforeEach, describe, expect, test } from "vitest";
import { ButtonSchema, HeldSchema, KeySchema, MotionSchema, TextSchema } from "../gen/input_pb";
import type { Dropped } from "./dropped";
import { InputSender } from "./input";
import { LaneKind } from "./lane";
import { RESEND_INPUT } from "./limits";
import { RecordType } from "./message";
import type { Source } from "./mux";
import { parseRecord, type Record } from "./record";
import { FakeClock } from "./testing/fakes";

const NO_LOCKS = { caps: false, num: false, scroll: false };
const at = (x: number) => ({ display: 0, generation: 1, x, y: 0 });

let clock: FakeClock;
let dropped: Dropped | undefined;
let input: InputSender;

/** A lane that takes everything at once, or nothing while it is blocked. */
class Lane {
  readonly records: Record[] = [];
  isBlocked = false;
  isFinished = false;
  private source: Source | undefined;

  readonly open = (source: Source) => {
    this.source = source;
    return {
      wake: () => this.take(),
      finish: () => {
        this.isFinished = true;
      },
    };
  };

  take(): void {
    if (this.isBlocked || this.isFinished) return;
    for (let next = this.source?.(); next; next = this.source?.()) {
      this.records.push(parseRecord(LaneKind.Input, next));
    }
  }

  get types(): number[] {
    return this.records.map(({ header }) => header.type);
  }

  get seqs(): number[] {
    return this.records.map(({ header }) => Number(header.seq));
  }
}

function connect(from?: bigint, sender = 3): Lane {
  const lane = new Lane();
  input.connect(sender, from, lane.open);
  return lane;
}

function press(usage: number): void {
  input.key(usage, true, NO_LOCKS, "");
}

function release(usage: number): void {
  input.key(usage, false, NO_LOCKS, "");
}

beforeEach(() => {
  clock = new FakeClock();
  dropped = undefined;
  input = new InputSender({
    clock,
    header: (type, seq) => ({ type, flags: 0, sender: 3, keyId: 0, epoch: 9n, seq, timeUs: 0n }),
    onDropped: (total) => {
      dropped = total;
    },
  });
});

const { Key, Text, Button, Motion, Held } = RecordType;

test("a lane begins with what is held, and numbers rise from 0", () => {
  const lane = connect();
  press(4);
  release(4);
  expect(lane.types).toEqual([Held, Key, Key]);
  expect(lane.seqs).toEqual([0, 1, 2]);
  const [, down] = lane.records as [Record, Record];
  expect(fromBinary(KeySchema, down.body)).toMatchObject({ usage: 4, down: true });
});

test("a release of what is not pressed is not sent", () => {
  const lane = connect();
  release(4);
  input.button(1, false, at(0));
  expect(lane.types).toEqual([Held]);
});

test("what is held is restated every 250 ms until it is let go", () => {
  const lane = connect();
  press(4);
  input.button(1, true, at(5));
  clock.advance(1000);
  expect(lane.types).toEqual([Held, Key, Button, Held, Held, Held, Held]);
  expect(fromBinary(HeldSchema, lane.records.at(-1)?.body as Uint8Array)).toMatchObject({ usages: [4], buttons: [1] });
  release(4);
  input.button(1, false, at(5));
  clock.advance(1000);
  expect(lane.types.slice(7)).toEqual([Key, Button]);
});

describe("motion", () => {
  test("goes at once, then the newest every 8 ms", () => {
    const lane = connect();
    for (let x = 0; x < 16; x += 1) {
      input.motion(at(x));
      clock.advance(1);
    }
    clock.advance(20);
    const xs = lane.records.slice(1).map(({ body }) => fromBinary(MotionSchema, body).position?.x);
    // At 8 ms the seventh is the newest.
    expect(xs).toEqual([0, 7, 15]);
  });

  test("is sent before a key that follows it, and taken in by a button at its place", () => {
    const lane = connect();
    input.motion(at(1));
    input.motion(at(2));
    press(4);
    input.motion(at(3));
    input.button(1, true, at(3));
    clock.advance(50);
    expect(lane.types).toEqual([Held, Motion, Motion, Key, Button]);
    expect(fromBinary(ButtonSchema, lane.records[4]?.body as Uint8Array).position).toMatchObject({ x: 3 });
  });

  test("that waits for a slow path is replaced by newer motion", () => {
    const lane = connect();
    lane.isBlocked = true;
    for (let x = 0; x < 100; x += 1) {
      input.motion(at(x));
      clock.advance(10);
    }
    lane.isBlocked = false;
    lane.take();
    expect(lane.types).toEqual([Held, Motion]);
    expect(fromBinary(MotionSchema, lane.records[1]?.body as Uint8Array).position).toMatchObject({ x: 99 });
    expect(lane.seqs).toEqual([0, 1]);
  });
});

describe("after an outage", () => {
  test("what the relay has is not sent again, what it lacks is, then what is held", () => {
    connect();
    press(4);
    press(5);
    input.disconnect();
    press(6);
    clock.advance(500);
    const lane = connect(2n);
    expect(lane.seqs).toEqual([2, 3, 4]);
    expect(lane.types).toEqual([Key, Key, Held]);
    expect(fromBinary(HeldSchema, lane.records[2]?.body as Uint8Array).usages).toEqual([4, 5, 6]);
    expect(dropped).toBeUndefined();
  });

  test("what is older than a second is dropped and counted, and takes its numbers with it", () => {
    connect();
    input.disconnect();
    press(4);
    release(4);
    input.text("é");
    input.button(1, true, at(0));
    clock.advance(600);
    press(5);
    clock.advance(500);
    const lane = connect(1n);
    expect(dropped).toEqual({ keys: 1, texts: 1, clicks: 1, wheels: 0 });
    expect(lane.seqs).toEqual([5, 6]);
    expect(lane.types).toEqual([Key, Held]);
  });

  test("exactly a second is not too old", () => {
    connect();
    input.disconnect();
    press(4);
    clock.advance(1000);
    expect(connect(1n).types).toEqual([Key, Held]);
    expect(dropped).toBeUndefined();
  });

  test("a lane that is reopened carries again what is not acknowledged and fresh, however often", () => {
    const first = connect();
    press(4);
    release(4);
    input.acknowledged(2n);
    press(5);
    const second = connect(undefined);
    expect(first.isFinished).toBe(true);
    expect(second.seqs).toEqual([2, 3, 4]);
    expect(second.types).toEqual([Key, Key, Held]);
    clock.advance(1001);
    const third = connect(undefined);
    expect(third.types.every((type) => type === Held)).toBe(true);
    expect(dropped?.keys).toBe(1);
  });

  test("what was made under another number is dropped", () => {
    connect();
    press(4);
    input.disconnect();
    const lane = connect(undefined, 8);
    expect(lane.types).toEqual([Held]);
    expect(dropped?.keys).toBe(1);
  });

  test("nothing that is only held is said while there is no lane", () => {
    connect();
    press(4);
    input.disconnect();
    clock.advance(10_000);
    expect(connect(2n).types).toEqual([Held]);
  });
});

test("acknowledged records are forgotten, unsent ones are not", () => {
  const lane = connect();
  press(4);
  const before = input.unacknowledgedBytes;
  lane.isBlocked = true;
  press(5);
  input.acknowledged(100n);
  expect(input.unacknowledgedBytes).toBeLessThan(before);
  lane.isBlocked = false;
  lane.take();
  expect(lane.seqs).toEqual([0, 1, 2]);
});

test("more than a mebibyte of unacknowledged input is not kept, and what is refused is counted", () => {
  const lane = connect();
  lane.isBlocked = true;
  for (let n = 0; n < 40_000; n += 1) input.text("x");
  expect(input.unacknowledgedBytes).toBeLessThanOrEqual(RESEND_INPUT);
  lane.isBlocked = false;
  lane.take();
  const sent = lane.types.filter((type) => type === Text).length;
  expect(sent + (dropped?.texts ?? 0)).toBe(40_000);
});

test("a long text is cut between characters", () => {
  const lane = connect();
  const text = "🙂".repeat(3000);
  input.text(text);
  const parts = lane.records.filter(({ header }) => header.type === Text);
  expect(parts.length).toBeGreaterThan(1);
  expect(parts.map(({ body }) => fromBinary(TextSchema, body).text).join("")).toBe(text);
});

test("letting go of everything releases keys in reverse and says that nothing is held", () => {
  const lane = connect();
  press(0xe0);
  press(4);
  input.button(1, true, at(0));
  input.releaseAll();
  const released = lane.records.slice(4, 6).map(({ body }) => fromBinary(KeySchema, body));
  expect(released.map(({ usage, down }) => [usage, down])).toEqual([
    [4, false],
    [0xe0, false],
  ]);
  expect(fromBinary(HeldSchema, lane.records.at(-1)?.body as Uint8Array)).toMatchObject({ usages: [], buttons: [] });
  clock.advance(1000);
  expect(lane.records.length).toBe(7);
});
