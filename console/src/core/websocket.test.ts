import { beforeEach, describe, expect, test } from "vitest";
import { closeNamed } from "./close";
import { LaneKind, plainLane } from "./lane";
import { Incoming } from "./mux";
import { encodeRecord } from "./record";
import { FakeClock } from "./testing/fakes";
import type { Ending, TransportHandler } from "./transport";
import { cut, Pace, type Socket, WebSocketTransport } from "./websocket";

/** A socket that keeps what is sent until it is drained. */
class FakeSocket implements Socket {
  binaryType: BinaryType = "blob";
  bufferedAmount = 0;
  isStuck = false;
  readonly sent: Uint8Array[] = [];
  closedWith: [number | undefined, string | undefined] | undefined;
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onclose: Socket["onclose"] = null;

  send(data: Parameters<Socket["send"]>[0]): void {
    const bytes = new Uint8Array(data as ArrayBuffer);
    this.sent.push(bytes);
    if (this.isStuck) this.bufferedAmount += bytes.length;
  }

  close(code?: number, reason?: string): void {
    this.closedWith = [code, reason];
  }

  open(): void {
    this.onopen?.call(this as unknown as WebSocket, {} as Event);
  }

  receive(data: unknown): void {
    this.onmessage?.call(this as unknown as WebSocket, { data } as MessageEvent);
  }
}

let clock: FakeClock;
let socket: FakeSocket;
let transport: WebSocketTransport;
let asked: [string, string] | undefined;
let credits: [number, number][];
let endings: Ending[];

function header(seq: number) {
  return { type: 1, flags: 0, sender: 3, keyId: 0, epoch: 1n, seq: BigInt(seq), timeUs: 0n };
}

beforeEach(() => {
  clock = new FakeClock();
  socket = new FakeSocket();
  credits = [];
  endings = [];
  const handler: TransportHandler = {
    ready() {},
    record() {},
    arrived() {},
    opened() {},
    ended() {},
    credit: (id, bytes) => credits.push([id, bytes]),
    closed: (ending) => endings.push(ending),
  };
  transport = new WebSocketTransport("wss://relay/v1/connect", handler, clock, (url, protocol) => {
    asked = [url, protocol];
    return socket;
  });
});

test("asks for the subprotocol and for bytes", () => {
  expect(asked).toEqual(["wss://relay/v1/connect", "tandem.1"]);
  expect(socket.binaryType).toBe("arraybuffer");
});

test("what is said before it is open goes out when it is", () => {
  transport.control(encodeRecord(header(0), new Uint8Array(1)));
  expect(socket.sent).toEqual([]);
  socket.open();
  expect([...(socket.sent[0]?.subarray(0, 6) ?? [])]).toEqual([0, 0, 2, 39, 0, 38]);
});

test("while the socket is full nothing is decided: what is urgent by then goes first", () => {
  socket.open();
  socket.isStuck = true;
  const chats = Array.from({ length: 40 }, (_, seq) => encodeRecord(header(seq), new Uint8Array(1000)));
  const chat = transport.open(plainLane(LaneKind.Chat, 3), () => chats.shift());
  chat.wake();
  const before = socket.sent.length;
  expect(chats.length).toBeGreaterThan(0);
  const keys = [encodeRecord(header(0), new Uint8Array(4))];
  transport.open(plainLane(LaneKind.Input, 3), () => keys.shift()).wake();
  expect(keys.length).toBe(1);
  socket.bufferedAmount = 0;
  clock.advance(5);
  expect(keys.length).toBe(0);
  // Lane 4, the input's, stands at the front of what went out next.
  expect(socket.sent[before]?.[0]).toBe(4);
});

test("a lane's order holds when handing out a record leads to a control message", () => {
  socket.open();
  const keys = [0, 1, 2].map((seq) => encodeRecord(header(seq), new Uint8Array(4)));
  const source = () => {
    if (keys.length > 0) transport.control(encodeRecord(header(9), new Uint8Array(0)));
    return keys.shift();
  };
  transport.open(plainLane(LaneKind.Input, 3), source).wake();
  const seqs: number[] = [];
  const incoming = new Incoming("client", {
    record: ({ id }, { header: { seq } }) => id !== 0 && seqs.push(Number(seq)),
    opened() {},
    arrived() {},
    ended() {},
    credit() {},
  });
  for (const message of socket.sent) incoming.message(message);
  expect(seqs).toEqual([0, 1, 2]);
});

test("a rest gives up what is half sent before anything else is said, and then lets nothing but control go", () => {
  socket.open();
  socket.isStuck = true;
  const seqs = [0, 1, 2, 3];
  const source = () => {
    const seq = seqs.shift();
    return seq === undefined ? undefined : encodeRecord(header(seq), new Uint8Array(20_000));
  };
  const chat = transport.open(plainLane(LaneKind.Chat, 3), source);
  chat.wake();
  expect(seqs).toEqual([1, 2, 3]);
  const half = transport.rest();
  expect(half.map(({ record }) => record.length)).toEqual([20_038]);
  transport.control(encodeRecord(header(9), new Uint8Array(1)));
  socket.bufferedAmount = 0;
  clock.advance(5);
  chat.wake();
  expect(seqs).toEqual([1, 2, 3]);
  const heard: string[] = [];
  const incoming = new Incoming("client", {
    record: ({ id }, record) => heard.push(`${id}: ${record.header.seq}`),
    opened() {},
    arrived() {},
    ended: ({ id }) => heard.push(`${id} ended`),
    credit() {},
  });
  for (const message of socket.sent) incoming.message(message);
  expect(heard).toEqual(["2 ended", "0: 9"]);
});

test("a slow reader of a lane gets credit as records are taken", () => {
  socket.open();
  const record = encodeRecord(header(0), new Uint8Array(16_000));
  const opening = Uint8Array.of(1, 0, 1, 6, 0, 3, 0, 0, 0, 9, 0);
  socket.receive(opening.buffer);
  for (let n = 0; n < 4; n += 1) {
    const fragment = Uint8Array.of(1, 0, 2, record.length & 255, record.length >> 8, ...record);
    socket.receive(fragment.buffer);
  }
  expect(credits[0]?.[0]).toBe(1);
  expect(credits.at(-1)?.[1]).toBeGreaterThan(65_536);
});

describe("the end", () => {
  test("by the relay has its code", () => {
    socket.onclose?.call(socket as unknown as WebSocket, { code: 4001, reason: "over" } as CloseEvent);
    expect(endings).toEqual([{ close: closeNamed("ended"), reason: "over" }]);
  });

  test("of the path has none", () => {
    socket.onclose?.call(socket as unknown as WebSocket, { code: 1006, reason: "" } as CloseEvent);
    expect(endings).toEqual([{ close: undefined, reason: "" }]);
  });

  test("by this side is told once, without waiting for the relay", () => {
    transport.close(closeNamed("silent"), "ä".repeat(100));
    expect(socket.closedWith?.[0]).toBe(4040);
    expect(new TextEncoder().encode(socket.closedWith?.[1]).length).toBeLessThanOrEqual(123);
    socket.onclose?.call(socket as unknown as WebSocket, { code: 4040, reason: "" } as CloseEvent);
    expect(endings.length).toBe(1);
  });

  test.each([
    ["text", "hello"],
    ["garbage", Uint8Array.of(1, 2, 3).buffer],
  ])("comes with %s, which is no message", (_, data) => {
    socket.open();
    socket.receive(data);
    expect(socket.closedWith?.[0]).toBe(4020);
    expect(endings[0]?.close?.name).toBe("protocol");
  });
});

test("a reason is cut between characters", () => {
  expect(cut("short")).toBe("short");
  expect(cut("ä".repeat(100))).toBe("ä".repeat(61));
});

describe("the pace", () => {
  test("falls to ten milliseconds of a slow path's rate, and no lower than a fragment must be", () => {
    const pace = new Pace(clock);
    let buffered = 16_384;
    pace.sent(buffered, buffered);
    // 100 bytes a millisecond.
    for (let n = 0; n < 30; n += 1) {
      clock.advance(5);
      buffered -= 500;
      pace.mayGo(buffered);
    }
    expect(pace.fragmentMax()).toBeGreaterThan(900);
    expect(pace.fragmentMax()).toBeLessThan(1200);
  });

  test("rises again when the socket runs empty quickly", () => {
    const pace = new Pace(clock);
    pace.sent(16_384, 16_384);
    clock.advance(1000);
    pace.mayGo(16_000);
    const slow = pace.fragmentMax();
    pace.sent(10_000, 26_000);
    clock.advance(5);
    pace.mayGo(0);
    expect(pace.fragmentMax()).toBeGreaterThan(slow);
  });
});
