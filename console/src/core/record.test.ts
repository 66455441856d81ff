import { fromBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { KeySchema } from "../gen/input_pb";
import { concat } from "./bytes";
import { encodeOpening, LaneKind, OPENING_LEN, parseOpening, plainLane } from "./lane";
import { encodeRecord, type Header, parseRecord, RecordBuffer, RecordError, ScreenKind } from "./record";
import { fixedChance, hex, unhex } from "./testing/fakes";

// docs/protocol.md, "an input lane's first bytes".
const OPENING = "01 0000 00 0300";
const KEY_RECORD =
  "26 01 0000 0300 00000000 8877665544332211 0000000000000000 dc05000000000000 04000000 08 04 10 01".replace(/\s/g, "");
const KEY_HEADER: Header = {
  type: 1,
  flags: 0,
  sender: 3,
  keyId: 0,
  epoch: 0x1122334455667788n,
  seq: 0n,
  timeUs: 1500n,
};

function start(bodyLength: number): Uint8Array {
  const from = { rendition: 0, segment: 6, seq: 99n };
  const screen = { display: 2, rendition: 1, kind: ScreenKind.Start, segment: 7, from };
  return encodeRecord({ ...KEY_HEADER, screen }, new Uint8Array(bodyLength).fill(9));
}

describe("the protocol's vector", () => {
  test("is read as it says", () => {
    const lane = parseOpening(unhex(OPENING));
    expect(lane).toEqual(plainLane(LaneKind.Input, 3));
    const record = parseRecord(LaneKind.Input, unhex(KEY_RECORD));
    expect(record.header).toEqual({ ...KEY_HEADER, screen: undefined });
    expect(fromBinary(KeySchema, record.body)).toMatchObject({ usage: 4, down: true });
  });

  test("is written as it says", () => {
    expect(hex(encodeOpening(plainLane(LaneKind.Input, 3)))).toBe(OPENING.replace(/\s/g, ""));
    expect(hex(encodeRecord(KEY_HEADER, unhex("08041001")))).toBe(KEY_RECORD);
  });
});

test("an opening of a later version's lane kind is not known", () => {
  expect(parseOpening(Uint8Array.of(10, 0, 0, 0, 0, 0))).toBeUndefined();
  expect(OPENING_LEN).toBe(6);
});

test("a start has 59 bytes of header with its origin at the end", () => {
  const bytes = start(0);
  expect(bytes.length).toBe(59);
  expect(hex(bytes.subarray(38))).toBe("0200010107000000" + "00060000006300000000000000");
  const { header } = parseRecord(LaneKind.Screen, bytes);
  expect(header.screen).toEqual({
    display: 2,
    rendition: 1,
    kind: 1,
    segment: 7,
    from: { rendition: 0, segment: 6, seq: 99n },
  });
});

test("a start from nowhere says so with rendition 255", () => {
  const screen = { display: 0, rendition: 0, kind: ScreenKind.Start, segment: 1 };
  const bytes = encodeRecord({ ...KEY_HEADER, screen }, new Uint8Array(0));
  expect(bytes[46]).toBe(255);
  expect(parseRecord(LaneKind.Screen, bytes).header.screen?.from).toBeUndefined();
});

test("unknown extension bytes of a header are skipped", () => {
  const bytes = unhex(KEY_RECORD);
  const extended = Uint8Array.of(40, ...bytes.subarray(1, 38), 0xee, 0xee, ...bytes.subarray(38));
  expect(hex(parseRecord(LaneKind.Input, extended).body)).toBe("08041001");
});

describe("bytes that are no record", () => {
  const cases: [string, LaneKind, (bytes: Uint8Array) => void][] = [
    ["a header too short", LaneKind.Screen, (bytes) => bytes.set([45], 0)],
    ["a header too long", LaneKind.Screen, (bytes) => bytes.set([129], 0)],
    ["a body above the lane's bound", LaneKind.Screen, (bytes) => bytes.set([1, 0, 16, 0], 34)],
    ["an unknown screen kind", LaneKind.Screen, (bytes) => bytes.set([3], 41)],
    ["a key on a screen lane", LaneKind.Screen, (bytes) => bytes.set([2], 41)],
    ["a start on a key lane", LaneKind.Key, () => {}],
  ];
  test.each(cases)("%s", (_, kind, spoil) => {
    const bytes = start(3);
    spoil(bytes);
    const buffer = new RecordBuffer(kind);
    buffer.push(bytes);
    expect(() => buffer.next()).toThrow(RecordError);
  });

  test("an input body above 4 KiB is refused by its header alone", () => {
    const buffer = new RecordBuffer(LaneKind.Input);
    buffer.push(encodeRecord(KEY_HEADER, new Uint8Array(4097)).subarray(0, 38));
    expect(() => buffer.next()).toThrow(/4097/);
  });
});

test("records come out whole however their bytes are cut", () => {
  const chance = fixedChance(7);
  for (let round = 0; round < 50; round += 1) {
    const records = Array.from({ length: 6 }, () => start(Math.floor(chance.random() ** 4 * 100_000)));
    const all = concat(...records);
    const buffer = new RecordBuffer(LaneKind.Screen);
    const got: Uint8Array[] = [];
    for (let at = 0; at < all.length; ) {
      const length = 1 + Math.floor(chance.random() ** 3 * 60_000);
      buffer.push(all.subarray(at, at + length));
      at += length;
      for (let record = buffer.next(); record; record = buffer.next()) got.push(record.bytes);
    }
    expect(got.map((bytes) => bytes.length)).toEqual(records.map((bytes) => bytes.length));
    expect(got.every((bytes, index) => bytes.every((byte, at) => byte === records[index]?.[at]))).toBe(true);
    expect(buffer.pending).toBe(0);
  }
});
