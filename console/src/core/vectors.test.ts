// The vectors of protocol/vectors, which the relay's tests read too: what bytes mean, and how it is written
// (docs/protocol.md, section 10).
import { type DescMessage, equals, fromBinary, fromJson, type JsonValue, toBinary } from "@bufbuild/protobuf";
import type { GenFile } from "@bufbuild/protobuf/codegenv2";
import { describe, expect, test } from "vitest";
import closes from "../../../protocol/vectors/closes.json";
import control from "../../../protocol/vectors/control.json";
import fragments from "../../../protocol/vectors/fragments.json";
import input from "../../../protocol/vectors/input.json";
import lanes from "../../../protocol/vectors/lanes.json";
import peer from "../../../protocol/vectors/peer.json";
import records from "../../../protocol/vectors/records.json";
import refused from "../../../protocol/vectors/refused.json";
import { file_control } from "../gen/control_pb";
import { file_input } from "../gen/input_pb";
import { file_peer } from "../gen/peer_pb";
import { concat } from "./bytes";
import { CLOSES, closeFromNumber, closeFromWebsocket, websocketCode } from "./close";
import { encodeOpening, type LaneKey, LaneKind, parseOpening } from "./lane";
import { Incoming, Outgoing, type Side, type Source } from "./mux";
import { encodeRecord, type Header, parseRecord, RecordBuffer, RecordError, ScreenKind } from "./record";
import { hex } from "./testing/fakes";

/** Bytes from words of hexadecimal digits; `5a*300` is 300 times the byte 5a. */
function unhex(words: string): Uint8Array {
  const digits = words
    .split(" ")
    .map((word) => word.split("*"))
    .map(([once = "", times = "1"]) => once.repeat(Number(times)));
  return Uint8Array.from(digits.join("").match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

/** A lane kind as the document names it. */
function laneKind(name: string): LaneKind {
  const found = Object.entries(LaneKind).find(([known]) => known.toLowerCase() === name);
  if (!found) throw new Error(`no lane kind is named ${name}`);
  return found[1];
}

interface LaneValue {
  readonly kind: string;
  readonly display: number;
  readonly rendition: number;
  readonly sender: number;
}

function laneKey({ kind, ...rest }: LaneValue): LaneKey {
  return { kind: laneKind(kind), ...rest };
}

describe.each<[string, GenFile, { name: string; message: string; hex: string; value: unknown }[]]>([
  ["control.proto", file_control, control],
  ["input.proto", file_input, input],
  ["peer.proto", file_peer, peer],
])("%s", (_, file, vectors) => {
  const schemas = new Map<string, DescMessage>(file.messages.map((schema) => [schema.name, schema]));

  test.each(vectors)("$name", (vector) => {
    const schema = schemas.get(vector.message);
    if (!schema) throw new Error(`no message is named ${vector.message}`);
    const value = fromJson(schema, vector.value as JsonValue);
    const bytes = unhex(vector.hex);
    expect(hex(toBinary(schema, value))).toBe(hex(bytes));
    expect(equals(schema, fromBinary(schema, bytes), value)).toBe(true);
  });
});

describe("an opening", () => {
  test.each(lanes)("$name", (vector) => {
    const key = laneKey(vector.value);
    expect(hex(encodeOpening(key))).toBe(hex(unhex(vector.hex)));
    expect(parseOpening(unhex(vector.hex))).toEqual(key);
  });
});

interface PointValue {
  readonly rendition: number;
  readonly segment: number;
  readonly seq: string;
}

interface ScreenValue {
  readonly display: number;
  readonly rendition: number;
  readonly kind: string;
  readonly segment: number;
  readonly from?: PointValue | null;
}

interface RecordValue {
  readonly type: number;
  readonly flags: number;
  readonly sender: number;
  readonly key_id: number;
  readonly epoch: string;
  readonly seq: string;
  readonly time_us: string;
  readonly screen?: ScreenValue;
  readonly extension?: string;
  readonly body: string;
}

const SCREEN_KINDS: Readonly<{ [name: string]: number }> = {
  update: ScreenKind.Update,
  start: ScreenKind.Start,
  key: ScreenKind.Key,
};

function header({ type, flags, sender, key_id, epoch, seq, time_us, screen }: RecordValue): Header {
  return {
    type,
    flags,
    sender,
    keyId: key_id,
    epoch: BigInt(epoch),
    seq: BigInt(seq),
    timeUs: BigInt(time_us),
    screen: screen && {
      ...screen,
      kind: SCREEN_KINDS[screen.kind] ?? -1,
      from: screen.from ? { ...screen.from, seq: BigInt(screen.from.seq) } : undefined,
    },
  };
}

describe("a record", () => {
  test.each<{ name: string; lane: string; hex: string; value: RecordValue }>(records)("$name", (vector) => {
    const kind = laneKind(vector.lane);
    const bytes = unhex(vector.hex);
    const record = parseRecord(kind, bytes);
    expect(record.header).toEqual(header(vector.value));
    expect(hex(record.body)).toBe(hex(unhex(vector.value.body)));
    if (vector.value.extension === undefined) {
      expect(hex(encodeRecord(header(vector.value), unhex(vector.value.body)))).toBe(hex(bytes));
    }
    const buffer = new RecordBuffer(kind);
    for (const byte of bytes.subarray(0, -1)) {
      buffer.push(Uint8Array.of(byte));
      expect(buffer.next()).toBeUndefined();
    }
    buffer.push(bytes.subarray(-1));
    expect(hex(buffer.next()?.bytes ?? new Uint8Array())).toBe(hex(bytes));
  });
});

/** One thing that a sender does; its one number is the lane's, or the most bytes of a fragment's payload. */
interface Action {
  readonly open?: number;
  readonly lane?: LaneValue;
  readonly send?: number;
  readonly record?: string;
  readonly fragment?: number;
  readonly finish?: number;
  readonly reset?: number;
}

interface FragmentsVector {
  readonly name: string;
  readonly sender: string;
  readonly actions: Action[];
  readonly hex: string[];
  readonly events: {
    opened?: number;
    lane?: LaneValue;
    record?: number;
    hex?: string;
    finished?: number;
    reset?: number;
  }[];
}

/** Does it, and answers the fragments. */
function send({ sender, actions }: FragmentsVector): Uint8Array[] {
  const queues = new Map<number, Uint8Array[]>();
  const source = (id: number): Source => {
    const queue: Uint8Array[] = [];
    queues.set(id, queue);
    return () => queue.shift();
  };
  const out = new Outgoing(sender as Side, source(0));
  const sent: Uint8Array[] = [];
  for (const { open, lane, send, record, fragment, finish, reset } of actions) {
    if (open !== undefined && lane) expect(out.open(laneKey(lane), source(open))).toBe(open);
    if (send !== undefined && record) queues.get(send)?.push(unhex(record));
    if (fragment !== undefined) sent.push(concat(...(out.fragment(fragment) ?? [])));
    if (finish !== undefined) out.finish(finish);
    if (reset !== undefined) sent.push(out.reset(reset) ?? new Uint8Array());
  }
  return sent;
}

/** What arrives with these messages. */
function receive(sender: Side, messages: readonly Uint8Array[]): unknown[] {
  const events: unknown[] = [];
  const incoming = new Incoming(sender, {
    opened: ({ id, key }) => events.push({ opened: id, key }),
    arrived: () => {},
    record: ({ id }, { bytes }) => events.push({ record: id, hex: hex(bytes) }),
    ended: ({ id }) => events.push({ ended: id }),
    credit: () => {},
  });
  for (const message of messages) incoming.message(message);
  return events;
}

describe("fragments", () => {
  test.each<FragmentsVector>(fragments)("$name", (vector) => {
    const messages = vector.hex.map(unhex);
    expect(send(vector).map(hex)).toEqual(messages.map(hex));
    const expected = vector.events.map(({ opened, lane, record, hex: words, finished, reset }) => {
      if (lane) return { opened, key: laneKey(lane) };
      // The console does not tell a lane that ended from one that was given up.
      return words === undefined ? { ended: finished ?? reset } : { record, hex: hex(unhex(words)) };
    });
    expect(receive(vector.sender as Side, messages)).toEqual(expected);
    expect(receive(vector.sender as Side, [concat(...messages)])).toEqual(expected);
  });
});

describe("refused", () => {
  test.each<{ name: string; hex: string; lane?: string; sender?: string }>(refused)(
    "$name",
    ({ hex, lane, sender }) => {
      if (lane !== undefined) {
        const buffer = new RecordBuffer(laneKind(lane));
        buffer.push(unhex(hex));
        expect(() => buffer.next()).toThrow(RecordError);
      } else {
        expect(() => receive(sender as Side, [unhex(hex)])).toThrow(RecordError);
      }
    },
  );
});

describe("close codes", () => {
  test.each(closes)("$number", ({ websocket, ...vector }) => {
    const close = closeFromNumber(vector.number);
    expect(close).toEqual(vector);
    expect(websocketCode(close)).toBe(websocket);
    expect(closeFromWebsocket(websocket)).toEqual(vector);
  });

  test("are all of them", () => {
    const known = closes.filter(({ name }) => name !== "unknown");
    expect(CLOSES.map(({ number }) => number)).toEqual(known.map(({ number }) => number));
  });
});
