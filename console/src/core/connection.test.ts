import { describe, expect, test } from "vitest";
import { CLOSES, closeFromNumber, closeFromWebsocket, closeNamed, websocketCode } from "./close";
import { JoinError, toBeSigned } from "./joining";
import { LaneKind, plainLane } from "./lane";
import { type FakeTransport, settled } from "./testing/fakes";
import { record, stage, WELCOME } from "./testing/stage";

describe("joining", () => {
  test("says Hello with a token once open, and is open once welcomed", async () => {
    const s = stage();
    await s.begin();
    expect(s.last().said).toEqual([]);
    s.last().handler.ready();
    const [hello] = s.last().heard("hello");
    expect(hello).toMatchObject({
      versions: [1],
      join: { case: "token", value: "token 1" },
      received: [],
      showing: [],
    });
    expect(hello?.attemptId.length).toBe(16);
    expect(hello?.epoch).toBe(s.connection.epoch);
    s.admit();
    expect(s.state()).toEqual({ phase: "open", transport: "websocket" });
    expect(s.connection.sender).toBe(3);
    expect(s.last().isAdmitted).toBe(true);
    expect(s.welcomes[0]?.[1]).toBe("fresh");
  });

  test("shows the key that its token is bound to, for this attempt alone", async () => {
    const s = stage({ prove: async (signed) => signed.slice() });
    await s.begin();
    s.last().handler.ready();
    const [hello] = s.last().heard("hello");
    expect(hello?.proof).toEqual(toBeSigned(hello?.attemptId ?? new Uint8Array(), s.connection.epoch, "token 1"));
    expect([...toBeSigned(Uint8Array.of(9), 0x0102n, "t")]).toEqual([
      ...new TextEncoder().encode("tandem hello 1"),
      ...[9, 2, 1, 0, 0, 0, 0, 0, 0, 0x74],
    ]);
  });

  test("a refusal that no try would change closes, with the relay's words", async () => {
    const s = stage();
    await s.begin();
    s.last().handler.ready();
    s.last().say({ case: "refused", value: { code: 34, reason: "too late" } });
    expect(s.state()).toEqual({ phase: "closed", close: closeNamed("token_expired"), reason: "too late" });
  });

  test("a refusal for now is tried again, with a fresh token, no sooner than the relay says", async () => {
    const s = stage();
    await s.begin();
    s.last().handler.ready();
    s.last().say({ case: "refused", value: { code: 50, reason: "", retryAfterMs: 5000 } });
    await s.nextTry(4999);
    expect(s.made.length).toBe(1);
    await s.nextTry(2000);
    expect(s.made.length).toBe(2);
    s.last().handler.ready();
    expect(s.last().heard("hello")[0]?.join.value).toBe("token 2");
  });

  test("the desk's no is final", async () => {
    const s = stage({
      token: async () => {
        throw new JoinError(closeNamed("ended"), "gone");
      },
    });
    await s.begin();
    expect(s.state()).toEqual({ phase: "closed", close: closeNamed("ended"), reason: "gone" });
  });

  test("a relay that never answers is given up after ten seconds and tried again", async () => {
    const s = stage();
    await s.begin();
    s.last().handler.ready();
    await s.nextTry(10_000);
    expect(s.last().closed?.close?.name).toBe("race_lost");
    await s.nextTry(1000);
    expect(s.made.length).toBe(2);
  });
});

describe("the race", () => {
  test("the WebSocket starts 250 ms later and says nothing while WebTransport waits for its answer", async () => {
    const s = stage({ ways: 2 });
    await s.begin();
    s.clock.advance(249);
    expect(s.made.map(({ kind }) => kind)).toEqual(["webtransport"]);
    s.clock.advance(1);
    const [quic, socket] = s.made as [FakeTransport, FakeTransport];
    quic.handler.ready();
    socket.handler.ready();
    expect([quic.heard("hello").length, socket.heard("hello").length]).toEqual([1, 0]);
    quic.say({ case: "welcome", value: WELCOME });
    expect(s.state()).toEqual({ phase: "open", transport: "webtransport" });
    expect(socket.closed?.close?.name).toBe("race_lost");
  });

  test("both say the same attempt, the second after a second without answer", async () => {
    const s = stage({ ways: 2 });
    await s.begin();
    s.clock.advance(250);
    const [quic, socket] = s.made as [FakeTransport, FakeTransport];
    quic.handler.ready();
    socket.handler.ready();
    s.clock.advance(1000);
    expect(socket.heard("hello")[0]?.attemptId).toEqual(quic.heard("hello")[0]?.attemptId);
    socket.say({ case: "welcome", value: WELCOME });
    expect(s.state()).toEqual({ phase: "open", transport: "websocket" });
    expect(quic.closed?.close?.name).toBe("race_lost");
  });

  test("a connection that comes too late in its attempt does not end the other", async () => {
    const s = stage({ ways: 2 });
    await s.begin();
    s.clock.advance(250);
    const [quic, socket] = s.made as [FakeTransport, FakeTransport];
    quic.handler.ready();
    socket.handler.ready();
    s.clock.advance(1000);
    socket.say({ case: "refused", value: { code: closeNamed("race_lost").number } });
    quic.say({ case: "welcome", value: WELCOME });
    expect(s.state()).toEqual({ phase: "open", transport: "webtransport" });
  });

  test("where UDP does not pass, the WebSocket starts as soon as that is known", async () => {
    const s = stage({ ways: 2 });
    await s.begin();
    s.last().breakOff();
    expect(s.made.map(({ kind }) => kind)).toEqual(["webtransport", "websocket"]);
    s.admit();
    expect(s.state()).toEqual({ phase: "open", transport: "websocket" });
  });
});

describe("a lost connection", () => {
  test("is resumed with the ticket, saying what has been received and is shown", async () => {
    const s = stage();
    await s.begin();
    s.admit();
    const inlet = { key: plainLane(LaneKind.Peer, 9), received: 0 };
    for (const seq of [0n, 1n, 2n]) s.last().handler.record(inlet, record(seq));
    s.last().breakOff();
    expect(s.state()).toMatchObject({ phase: "reconnecting" });
    await s.nextTry(250);
    s.admit();
    const [hello] = s.last().heard("hello");
    expect(hello?.join).toEqual({ case: "ticket", value: Uint8Array.of(7, 7) });
    expect(hello?.received).toMatchObject([{ lane: { kind: 4, sender: 9 }, epoch: 5n, nextSeq: 3n }]);
    expect(hello?.showing).toMatchObject([{ display: 0, point: { segment: 5, seq: 40n } }]);
    expect(s.welcomes[1]?.[1]).toBe("resumed");
    for (const seq of [1n, 2n, 3n]) s.last().handler.record(inlet, record(seq));
    s.last().handler.record(inlet, record(0n, 6n));
    expect(s.records.map(({ header }) => [header.epoch, header.seq])).toEqual([
      [5n, 0n],
      [5n, 1n],
      [5n, 2n],
      [5n, 3n],
      [6n, 0n],
    ]);
  });

  test("waits longer and longer, and not at all when told to try now", async () => {
    const s = stage();
    await s.begin();
    s.admit();
    s.last().breakOff();
    const waits: number[] = [];
    for (let attempt = 0; attempt < 12; attempt += 1) {
      const state = s.state();
      waits.push(state.phase === "reconnecting" ? (state.retryInMs ?? 0) : -1);
      await s.nextTry(30_000);
      s.last().breakOff();
    }
    expect(Math.max(...waits.slice(0, 2))).toBeLessThanOrEqual(250);
    expect(Math.max(...waits)).toBeGreaterThan(2000);
    expect(Math.max(...waits)).toBeLessThanOrEqual(10_000);
    const before = s.made.length;
    s.connection.retryNow();
    await settled();
    expect(s.made.length).toBe(before + 1);
  });

  test("with a ticket that is no longer good joins anew by token", async () => {
    const s = stage();
    await s.begin();
    s.admit();
    s.last().breakOff();
    await s.nextTry(250);
    s.last().handler.ready();
    s.last().say({ case: "refused", value: { code: 37, reason: "" } });
    await s.nextTry(1000);
    s.admit({ sender: 8 });
    const [hello] = s.last().heard("hello");
    expect(hello?.join.case).toBe("token");
    expect([hello?.received, hello?.showing]).toEqual([[], []]);
    expect(s.welcomes[1]?.[1]).toBe("fresh");
  });

  test("an ended session is not sought again", async () => {
    const s = stage();
    await s.begin();
    s.admit();
    s.last().breakOff(closeNamed("ended"));
    expect(s.state()).toMatchObject({ phase: "closed", close: { name: "ended" } });
    await s.nextTry();
    expect(s.made.length).toBe(1);
  });

  test("a race lost to its own twin is resumed", async () => {
    const s = stage();
    await s.begin();
    s.admit();
    s.last().breakOff(closeNamed("race_lost"));
    await s.nextTry(250);
    expect(s.made.length).toBe(2);
  });

  test("a ticket from an earlier run of the program joins as somebody of whom nothing is known", async () => {
    const s = stage({ ticket: Uint8Array.of(1) });
    await s.begin();
    s.admit();
    const [hello] = s.last().heard("hello");
    expect(hello?.join).toEqual({ case: "ticket", value: Uint8Array.of(1) });
    expect(hello?.received).toEqual([]);
    expect(s.welcomes[0]?.[1]).toBe("fresh");
  });
});

describe("heartbeats", () => {
  test("a ping is answered at once", async () => {
    const s = stage();
    await s.begin();
    s.admit();
    s.last().say({ case: "ping", value: { id: 5n, timeUs: 6n } });
    expect(s.last().heard("pong")).toMatchObject([{ id: 5n, timeUs: 6n }]);
  });

  test("half of the silence is asked about, all of it is a lost connection", async () => {
    const s = stage();
    await s.begin();
    s.admit();
    s.clock.advance(2999);
    expect(s.last().heard("ping").length).toBe(0);
    s.clock.advance(1);
    expect(s.last().heard("ping").length).toBe(1);
    s.clock.advance(2999);
    expect(s.last().closed).toBeUndefined();
    s.clock.advance(1);
    expect(s.last().closed?.close?.name).toBe("silent");
    expect(s.state().phase).toBe("reconnecting");
  });

  test("whatever arrives is a sign of life", async () => {
    const s = stage();
    await s.begin();
    s.admit();
    for (let n = 0; n < 10; n += 1) {
      s.clock.advance(2000);
      s.last().say({ case: "ping", value: {} });
    }
    expect(s.last().heard("ping").length).toBe(0);
    expect(s.state().phase).toBe("open");
  });
});

test("leaving tells the relay and ends for good", async () => {
  const s = stage();
  await s.begin();
  s.admit();
  s.connection.stop(closeNamed("left"), "bye");
  expect(s.last().closed).toMatchObject({ close: { name: "left" }, reason: "bye" });
  expect(s.state().phase).toBe("closed");
  await s.nextTry();
  expect(s.made.length).toBe(1);
});

test("close codes have a WebSocket twin, and unknown ones are the relay's fault", () => {
  for (const close of CLOSES) expect(closeFromWebsocket(websocketCode(close))).toBe(close);
  expect(closeFromWebsocket(1006)).toBeUndefined();
  expect(closeFromNumber(777)).toEqual({ number: 777, name: "unknown", fault: "relay", retry: "later" });
});

describe("a relay that leaves service", () => {
  const B = "https://b.example";
  const C = "https://c.example:4433";

  test("without alternatives it is stayed with until it closes, and come back to, spread in time", async () => {
    const s = stage();
    await s.begin();
    s.admit();
    s.last().say({ case: "goAway", value: { deadlineMs: 10_000, spreadMs: 5_000 } });
    s.clock.advance(5_500);
    expect(s.last().closed).toBeUndefined();
    s.last().breakOff(closeNamed("going_away"));
    const { retryInMs = 0 } = s.state() as { retryInMs?: number };
    expect(retryInMs).toBeGreaterThan(250);
    expect(retryInMs).toBeLessThanOrEqual(5_250);
    await s.nextTry();
    expect(s.places).toEqual([undefined, undefined]);
  });

  test("with alternatives it is left when it says, for the first, with the ticket", async () => {
    const s = stage();
    await s.begin();
    s.admit();
    s.last().say({ case: "goAway", value: { deadlineMs: 10_000, leaveMs: 2_000, alternatives: [B, C] } });
    s.clock.advance(1_900);
    expect(s.last().closed).toBeUndefined();
    s.clock.advance(200);
    expect(s.made[0]?.closed?.close?.name).toBe("going_away");
    await s.nextTry();
    expect(s.places).toEqual([undefined, B]);
    s.last().handler.ready();
    expect(s.last().heard("hello")[0]?.join.case).toBe("ticket");
    s.admit();
    // Once there it is not left for another: that is where the customer is.
    s.last().breakOff();
    await s.nextTry();
    expect(s.places.at(-1)).toBe(B);
  });

  test("that says so twice, the second time with others, is still known as the last resort", async () => {
    const s = stage();
    await s.begin();
    s.admit();
    s.last().say({ case: "goAway", value: { deadlineMs: 10_000, leaveMs: 2_000, alternatives: [B] } });
    s.last().say({ case: "goAway", value: { deadlineMs: 8_000, leaveMs: 1_000, alternatives: [C] } });
    s.clock.advance(1_000);
    for (const place of [C, undefined, C]) {
      await s.nextTry();
      expect(s.places.at(-1)).toBe(place);
      s.last().breakOff();
    }
  });

  test("an alternative that cannot be reached, or cannot read tickets, is passed over", async () => {
    const s = stage();
    await s.begin();
    s.admit();
    s.last().say({ case: "goAway", value: { deadlineMs: 10_000, alternatives: ["ftp://x", B, C] } });
    s.clock.advance(0);
    await s.nextTry();
    s.last().breakOff();
    await s.nextTry();
    expect(s.places).toEqual([undefined, B, C]);
    s.last().handler.ready();
    s.last().say({ case: "refused", value: { code: 36, reason: "not one of ours" } });
    await s.nextTry();
    expect(s.places.at(-1)).toBe(undefined);
    s.last().handler.ready();
    expect(s.last().heard("hello")[0]?.join.case).toBe("ticket");
  });
});
