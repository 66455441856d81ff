import { describe, expect, test } from "vitest";
import { concat } from "./bytes";
import { type LaneKey, LaneKind, plainLane } from "./lane";
import { FRAGMENT_HEADER_LEN, Fragment, Incoming, type InHandler, type InLane, Outgoing } from "./mux";
import { encodeRecord, RecordError } from "./record";
import { fixedChance } from "./testing/fakes";

function record(seq: number, length: number): Uint8Array {
  const header = { type: 0, flags: 0, sender: 1, keyId: 0, epoch: 7n, seq: BigInt(seq), timeUs: 0n };
  return encodeRecord(header, new Uint8Array(length).fill(seq));
}

function join(parts: Uint8Array[] | undefined): Uint8Array {
  return concat(...(parts ?? []));
}

/** A lane's records, and the source that hands them out. */
function queue(records: Uint8Array[]) {
  return { records, source: () => records.shift() };
}

const none = () => undefined;

/** The number of the lane that a fragment is of. */
function laneOf(fragment: Uint8Array[] | undefined): number | undefined {
  return fragment?.[0]?.[0];
}

class Seen implements InHandler {
  readonly records: [LaneKey, bigint, number][] = [];
  readonly ends: LaneKey[] = [];
  readonly credits: [number, number][] = [];
  opened() {}
  arrived() {}
  record(lane: InLane, { header, bytes }: { header: { seq: bigint }; bytes: Uint8Array }) {
    this.records.push([lane.key, header.seq, bytes.length]);
  }
  ended(lane: InLane) {
    this.ends.push(lane.key);
  }
  credit(id: number, bytes: number) {
    this.credits.push([id, bytes]);
  }
}

describe("sending", () => {
  test("a first fragment is these bytes", () => {
    const out = new Outgoing("client", none);
    const id = out.open(plainLane(LaneKind.Input, 5), queue([record(0, 1)]).source);
    const fragment = join(out.fragment(9999));
    expect(id).toBe(2);
    expect([...fragment.subarray(0, 12)]).toEqual([2, 0, Fragment.First | Fragment.Last, 45, 0, 1, 0, 0, 0, 5, 0, 38]);
    expect(fragment.length).toBe(FRAGMENT_HEADER_LEN + 6 + 39);
  });

  test("input overtakes a long record between its fragments", () => {
    const out = new Outgoing("client", none);
    const chat = out.open(plainLane(LaneKind.Chat, 1), queue([record(0, 5000)]).source);
    const keys = queue([]);
    const input = out.open(plainLane(LaneKind.Input, 1), keys.source);
    const order = [laneOf(out.fragment(2000))];
    keys.records.push(record(0, 3));
    for (let turn = 0; turn < 3; turn += 1) order.push(laneOf(out.fragment(2000)));
    expect(order).toEqual([chat, input, chat, chat]);
    expect(out.fragment(2000)).toBeUndefined();
  });

  test("bulk gets a tenth while others are busy", () => {
    const out = new Outgoing("client", none);
    const endless = (length: number) => () => record(0, length);
    const chat = out.open(plainLane(LaneKind.Chat, 1), endless(962));
    const file = out.open(plainLane(LaneKind.File, 1), endless(962));
    out.credit(chat, 1e9);
    out.credit(file, 1e9);
    const turns = Array.from({ length: 1000 }, () => laneOf(out.fragment(1000)));
    const share = turns.filter((id) => id === file).length / turns.length;
    expect(share).toBeGreaterThanOrEqual(0.09);
    expect(share).toBeLessThan(0.12);
  });

  test("lanes of one priority take turns", () => {
    const out = new Outgoing("client", none);
    const one = out.open(plainLane(LaneKind.Chat, 1), queue([record(0, 900), record(1, 900)]).source);
    const two = out.open(plainLane(LaneKind.Peer, 1), queue([record(0, 900), record(1, 900)]).source);
    const order = Array.from({ length: 4 }, () => laneOf(out.fragment(1024)));
    expect(order).toEqual([one, two, one, two]);
  });

  test("nothing goes beyond the credit, and more credit lets it go on", () => {
    const out = new Outgoing("client", none);
    const id = out.open(plainLane(LaneKind.Chat, 1), queue([record(0, 100_000)]).source);
    let sent = 0;
    for (let f = out.fragment(16_384); f; f = out.fragment(16_384)) sent += join(f).length - FRAGMENT_HEADER_LEN;
    expect(sent).toBe(65_536);
    out.credit(id, 10);
    expect(out.fragment(16_384)).toBeUndefined();
    out.credit(id, 200_000);
    for (let f = out.fragment(16_384); f; f = out.fragment(16_384)) sent += join(f).length - FRAGMENT_HEADER_LEN;
    expect(sent).toBe(100_000 + 38 + 6);
  });

  test("a finished lane ends with its last record, an unopened one without a word", () => {
    const out = new Outgoing("client", none);
    out.finish(out.open(plainLane(LaneKind.Chat, 1), none));
    expect(out.fragment(1000)).toBeUndefined();
    const records = queue([record(0, 800)]);
    const id = out.open(plainLane(LaneKind.Chat, 1), records.source);
    expect(join(out.fragment(512))[2]).toBe(Fragment.First);
    out.finish(id);
    expect(join(out.fragment(512))[2]).toBe(Fragment.Last | Fragment.Fin);
    expect(out.fragment(512)).toBeUndefined();
  });
});

describe("resting", () => {
  /** A chat of long records, with the number of its lane, and control. */
  function busy() {
    const controls = queue([]);
    const out = new Outgoing("client", controls.source);
    const chats = queue([record(0, 700), record(1, 700), record(2, 700)]);
    const chat = out.open(plainLane(LaneKind.Chat, 1), chats.source);
    return { controls, out, chats, chat };
  }

  test("lets control go and nothing else, whatever more is opened or credited", () => {
    const { controls, out, chats, chat } = busy();
    expect(out.fragment(1000)).toBeDefined();
    expect(out.rest()).toEqual({ fragments: [], half: [] });
    out.credit(chat, 1e9);
    out.open(plainLane(LaneKind.Input, 1), queue([record(0, 3)]).source);
    expect(out.fragment(1000)).toBeUndefined();
    controls.records.push(record(0, 600), record(1, 3));
    expect([out.fragment(512), out.fragment(512), out.fragment(512)].map(laneOf)).toEqual([0, 0, 0]);
    expect(out.fragment(1000)).toBeUndefined();
    out.finish(chat);
    expect(out.fragment(1000)).toBeUndefined();
    expect(chats.records.length).toBe(2);
  });

  test("gives up a record that is half sent, for which the other end is none the worse, and hands it back whole", () => {
    const { out, chats, chat } = busy();
    const seen = new Seen();
    const incoming = new Incoming("client", seen);
    for (let turn = 0; turn < 3; turn += 1) incoming.message(join(out.fragment(512)));
    const { fragments, half } = out.rest();
    expect(half).toEqual([{ key: plainLane(LaneKind.Chat, 1), record: record(1, 700) }]);
    expect(fragments.map((fragment) => [...fragment])).toEqual([[chat, 0, Fragment.Reset, 0, 0]]);
    for (const fragment of fragments) incoming.message(fragment);
    expect(seen.records.map(([, seq]) => seq)).toEqual([0n]);
    expect(seen.ends).toEqual([plainLane(LaneKind.Chat, 1)]);
    expect(chats.records.length).toBe(1);
  });

  test("says nothing of a lane that the other end does not know, and hands back what was taken for it", () => {
    const out = new Outgoing("client", none);
    const file = queue([record(0, 5)]);
    out.open(plainLane(LaneKind.File, 1), file.source);
    out.open(plainLane(LaneKind.Chat, 1), queue([record(0, 5)]).source);
    // Of two that could go the chat goes first; the file's record was asked for all the same.
    expect(join(out.fragment(512))[0]).toBe(4);
    expect(file.records.length).toBe(0);
    expect(out.rest()).toEqual({ fragments: [], half: [{ key: plainLane(LaneKind.File, 1), record: record(0, 5) }] });
  });
});

describe("receiving", () => {
  const bad: [string, Uint8Array][] = [
    ["a cut-off fragment header", Uint8Array.of(1, 0, 1)],
    ["a cut-off payload", Uint8Array.of(0, 0, 0, 9, 0, 1)],
    ["a lane that was not opened", Uint8Array.of(1, 0, 0, 1, 0, 1)],
    ["a number of our own side", Uint8Array.of(2, 0, 1, 6, 0, 3, 0, 0, 0, 1, 0)],
    ["an unknown kind", Uint8Array.of(1, 0, 1, 6, 0, 99, 0, 0, 0, 1, 0)],
    ["a second control lane", Uint8Array.of(1, 0, 1, 6, 0, 0, 0, 0, 0, 1, 0)],
    ["a record that ends elsewhere", Uint8Array.of(1, 0, 3, 7, 0, 3, 0, 0, 0, 1, 0, 38)],
  ];
  test.each(bad)("%s is no message", (_, bytes) => {
    expect(() => new Incoming("relay", new Seen()).message(bytes)).toThrow(RecordError);
  });

  test.each([
    ["client", 64],
    ["relay", 256],
  ] as const)("more lanes of a %s than %i are no message", (side, most) => {
    const incoming = new Incoming(side, new Seen());
    const open = (id: number) => incoming.message(Uint8Array.of(id & 255, id >> 8, 1, 6, 0, 3, 0, 0, 0, 1, 0));
    const number = (lane: number) => 2 * lane + (side === "relay" ? 1 : 2);
    for (let lane = 0; lane < most; lane += 1) open(number(lane));
    expect(() => open(number(most))).toThrow(/too many/);
  });

  test("random bytes end in a RecordError or in nothing, never otherwise", () => {
    const chance = fixedChance(3);
    for (let round = 0; round < 2000; round += 1) {
      const bytes = chance.bytes(Math.floor(chance.random() * 100));
      try {
        new Incoming("relay", new Seen()).message(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(RecordError);
      }
    }
  });
});

test("whatever is sent arrives once, in its lane's order, within credit, and a record larger than the window too", () => {
  const chance = fixedChance(11);
  for (let round = 0; round < 30; round += 1) {
    const out = new Outgoing("relay", none);
    const seen = new Seen();
    const incoming = new Incoming("relay", seen);
    const kinds = [LaneKind.Input, LaneKind.Chat, LaneKind.Cursor, LaneKind.File];
    const sent = kinds.map((kind) => {
      const most = kind === LaneKind.Input ? 4096 : 300_000;
      const records = Array.from({ length: 5 }, (_, seq) => record(seq, Math.floor(chance.random() ** 3 * most)));
      const lengths = records.map((one) => one.length);
      const id = out.open(plainLane(kind, 1), queue(records).source);
      return { kind, id, lengths };
    });
    for (let f = out.fragment(1 + Math.floor(chance.random() * 20_000)); f; ) {
      incoming.message(join(f));
      for (const [id, bytes] of seen.credits.splice(0)) out.credit(id, bytes);
      f = out.fragment(1 + Math.floor(chance.random() * 20_000));
    }
    for (const { kind, id, lengths } of sent) {
      const got = seen.records.filter(([key]) => key.kind === kind);
      expect(got.map(([, seq]) => seq)).toEqual([0n, 1n, 2n, 3n, 4n]);
      expect(got.map(([, , length]) => length)).toEqual(lengths);
      out.finish(id);
    }
    for (let f = out.fragment(1000); f; f = out.fragment(1000)) incoming.message(join(f));
    expect(seen.ends.length).toBe(kinds.length);
  }
});
