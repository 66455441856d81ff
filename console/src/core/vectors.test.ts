// The protocol's vectors (../protocol/vectors), which the Rust side keeps too: the same bytes mean the same on both.
import { type DescMessage, fromBinary, fromJson, type JsonValue, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { ControlSchema, file_control } from "../gen/control_pb";
import { file_input } from "../gen/input_pb";
import { file_peer } from "../gen/peer_pb";
import { concat } from "./bytes";
import { CLOSES, closeFromNumber, websocketCode } from "./close";
import { encodeOpening, type LaneKey, LaneKind, parseOpening } from "./lane";
import { Incoming, type InHandler, Outgoing, type Side } from "./mux";
import { encodeRecord, type Header, parseRecord, RecordBuffer, RecordError, ScreenKind } from "./record";
import { hex, unhex } from "./testing/fakes";

const FOLDER = "../../../protocol/vectors";
const FILES = import.meta.glob("../../../protocol/vectors/*.json", { eager: true, import: "default" });

function load<Vector>(name: string): Vector[] {
  return FILES[`${FOLDER}/${name}.json`] as Vector[];
}

/** Hexadecimal with spaces, where `5a*460` is a byte so many times. */
function bytesOf(text: string): Uint8Array {
  return unhex(text.replace(/([0-9a-f]{2})\*(\d+)/g, (_, byte: string, times: string) => byte.repeat(Number(times))));
}

const KINDS: { readonly [name: string]: LaneKind } = Object.fromEntries(
  Object.entries(LaneKind).map(([name, kind]) => [name.toLowerCase(), kind]),
);

function kindOf(name: string): LaneKind {
  const kind = KINDS[name];
  if (kind === undefined) throw new Error(`no lane kind ${name}`);
  return kind;
}

interface LaneValue {
  kind: string;
  display: number;
  rendition: number;
  sender: number;
}

function laneOf(value: LaneValue): LaneKey {
  return { ...value, kind: kindOf(value.kind) };
}

test.each(load<{ name: string; number: number; websocket: number; fault: string; retry: string }>("closes"))(
  "close code $name",
  ({ name, number, websocket, fault, retry }) => {
    const close = closeFromNumber(number);
    expect(close).toEqual({ number, name, fault, retry });
    expect(websocketCode(close)).toBe(websocket);
  },
);

test("there are no further close codes", () => {
  const known = load<{ name: string }>("closes").filter(({ name }) => name !== "unknown");
  expect(CLOSES.map(({ name }) => name)).toEqual(known.map(({ name }) => name));
});

test.each(load<{ name: string; hex: string; value: LaneValue }>("lanes"))("lane: $name", ({ hex: bytes, value }) => {
  expect(parseOpening(bytesOf(bytes))).toEqual(laneOf(value));
  expect(hex(encodeOpening(laneOf(value)))).toBe(hex(bytesOf(bytes)));
});

interface RecordValue {
  type: number;
  flags: number;
  sender: number;
  key_id: number;
  epoch: string;
  seq: string;
  time_us: string;
  screen?: {
    display: number;
    rendition: number;
    kind: "update" | "start" | "key";
    segment: number;
    from?: { rendition: number; segment: number; seq: string } | null;
  };
  extension?: string;
  body: string;
}

function headerOf({ screen, ...value }: RecordValue): Header {
  const kinds = { update: ScreenKind.Update, start: ScreenKind.Start, key: ScreenKind.Key };
  const from = screen?.from ? { ...screen.from, seq: BigInt(screen.from.seq) } : undefined;
  const { type, flags, sender } = value;
  return {
    ...{ type, flags, sender },
    keyId: value.key_id,
    epoch: BigInt(value.epoch),
    seq: BigInt(value.seq),
    timeUs: BigInt(value.time_us),
    screen: screen && { ...screen, kind: kinds[screen.kind], from },
  };
}

test.each(load<{ name: string; lane: string; hex: string; value: RecordValue }>("records"))(
  "record: $name",
  ({ lane, hex: text, value }) => {
    const bytes = bytesOf(text);
    const record = parseRecord(kindOf(lane), bytes);
    expect(record.header).toEqual(headerOf(value));
    expect(hex(record.body)).toBe(value.body);
    // What is made here has no extension.
    if (!value.extension) expect(hex(encodeRecord(headerOf(value), unhex(value.body)))).toBe(hex(bytes));
  },
);

const SCHEMAS = new Map<string, DescMessage>(
  [file_control, file_input, file_peer].flatMap(({ messages }) => messages.map((schema) => [schema.name, schema])),
);

interface MessageVector {
  name: string;
  message: string;
  hex: string;
  value: JsonValue;
}

describe.each(["control", "input", "peer"])("messages of %s", (file) => {
  test.each(load<MessageVector>(file))("$name", ({ message, hex: text, value }) => {
    const schema = SCHEMAS.get(message) ?? ControlSchema;
    const bytes = bytesOf(text);
    const expected = fromJson(schema, value);
    const { $unknown: _, ...read } = fromBinary(schema, bytes);
    expect(read).toEqual(expected);
    // Bytes of a later version are kept when they are written again.
    expect(hex(toBinary(schema, fromBinary(schema, bytes)))).toBe(hex(bytes));
  });
});

interface FragmentVector {
  name: string;
  sender: Side;
  actions: {
    open?: number;
    lane?: LaneValue;
    send?: number;
    record?: string;
    fragment?: number;
    finish?: number;
    reset?: number;
  }[];
  hex: string[];
  events: { opened?: number; lane?: LaneValue; record?: number; hex?: string; finished?: number; reset?: number }[];
}

/** What the sending half makes of a vector's actions. */
function fragmentsOf({ sender, actions }: FragmentVector): string[] {
  const queues = new Map<number, Uint8Array[]>([[0, []]]);
  const out = new Outgoing(sender, () => queues.get(0)?.shift());
  const made: Uint8Array[] = [];
  for (const { open, lane, send, record, fragment, finish, reset } of actions) {
    if (open !== undefined && lane) {
      queues.set(open, []);
      expect(out.open(laneOf(lane), () => queues.get(open)?.shift())).toBe(open);
    }
    if (send !== undefined && record) queues.get(send)?.push(bytesOf(record));
    if (fragment !== undefined) made.push(concat(...(out.fragment(fragment) ?? [])));
    if (finish !== undefined) out.finish(finish);
    if (reset !== undefined) made.push(out.reset(reset) ?? new Uint8Array(0));
  }
  return made.map(hex);
}

/** What the receiving half makes of messages, in the vectors' words. */
function eventsOf(sender: Side, messages: Uint8Array[]): unknown[] {
  const events: unknown[] = [];
  const handler: InHandler = {
    opened: ({ id, key }) => events.push({ opened: id, lane: key }),
    arrived() {},
    record: ({ id }, { bytes }) => events.push({ record: id, hex: hex(bytes) }),
    ended: ({ id }) => events.push({ ended: id }),
    credit() {},
  };
  const incoming = new Incoming(sender, handler);
  for (const message of messages) incoming.message(message);
  return events;
}

describe("fragments", () => {
  test.each(load<FragmentVector>("fragments"))("$name", (vector) => {
    expect(fragmentsOf(vector)).toEqual(vector.hex.map((text) => hex(bytesOf(text))));
    const expected = vector.events.map((event) => {
      if (event.opened !== undefined && event.lane) return { opened: event.opened, lane: laneOf(event.lane) };
      if (event.record !== undefined) return { record: event.record, hex: hex(bytesOf(event.hex ?? "")) };
      return { ended: event.finished ?? event.reset };
    });
    expect(eventsOf(vector.sender, vector.hex.map(bytesOf))).toEqual(expected);
    // Several fragments may share a message.
    expect(eventsOf(vector.sender, [concat(...vector.hex.map(bytesOf))])).toEqual(expected);
  });
});

describe("refused", () => {
  interface Refused {
    name: string;
    lane?: string;
    sender?: Side;
    hex: string;
  }
  test.each(load<Refused>("refused"))("$name", ({ lane, sender, hex: text }) => {
    const bytes = bytesOf(text);
    const read = () => {
      if (sender) return eventsOf(sender, [bytes]);
      const buffer = new RecordBuffer(kindOf(lane ?? ""));
      buffer.push(bytes);
      return buffer.next();
    };
    expect(read).toThrow(RecordError);
  });
});
