import { describe, expect, test } from "vitest";
import { closeNamed } from "./close";
import { LaneKind, plainLane } from "./lane";
import { settled } from "./testing/fakes";
import { record, stage, WELCOME } from "./testing/stage";

/** Longer than the first look is waited for. */
const LOOKED_MS = 6250;

/** A connection over a WebSocket because UDP does not pass at first. */
async function overWebSocket() {
  const s = stage({ ways: 2 });
  await s.begin();
  s.last().breakOff();
  const socket = s.last();
  s.admit();
  expect(s.state()).toEqual({ phase: "open", transport: "websocket" });
  /** Keeps the relay there while time passes. */
  const pass = async (ms: number) => {
    for (let left = ms; left > 0; left -= 250) {
      s.clock.advance(Math.min(left, 250));
      const alive = s.made.find(({ isAdmitted, closed }) => isAdmitted && !closed);
      if (s.state().phase === "open") alive?.say({ case: "ping", value: {} });
      await settled();
    }
  };
  /** Lets it look, and UDP pass: the new connection, before the relay has been told. */
  const find = async () => {
    const before = s.made.length;
    await pass(LOOKED_MS);
    expect(s.made.length).toBe(before + 1);
    return s.last();
  };
  return { ...s, socket, pass, find };
}

/** The same, with the relay asked to let it go. */
async function leaving() {
  const s = await overWebSocket();
  const better = await s.find();
  better.handler.ready();
  return { ...s, better };
}

/** The same, with the relay's answer. */
async function joining() {
  const s = await leaving();
  s.socket.say({ case: "move", value: {} });
  await settled();
  return s;
}

const peer = { key: plainLane(LaneKind.Peer, 9), received: 0 };

describe("going over", () => {
  test("is said on the WebSocket when lanes rest, and on the new one only when the relay has answered", async () => {
    const s = await leaving();
    expect([s.better.kind, s.better.said]).toEqual(["webtransport", []]);
    expect([s.socket.isResting, s.steps]).toEqual([true, ["resting 0"]]);
    expect(s.socket.said.at(-1)?.case).toBe("move");
    s.socket.handler.record(peer, record(4n));
    s.socket.say({ case: "move", value: {} });
    expect(s.steps).toEqual(["resting 0", "leaving"]);
    await settled();
    const [hello] = s.better.heard("hello");
    expect(hello).toMatchObject({
      join: { case: "ticket", value: Uint8Array.of(7, 7) },
      received: [{ lane: { kind: 4, sender: 9 }, epoch: 5n, nextSeq: 5n }],
      showing: [{ display: 0, point: { segment: 5, seq: 40n } }],
      epoch: s.connection.epoch,
    });
    expect(s.socket.closed).toBeUndefined();
    s.better.say({ case: "welcome", value: { ...WELCOME, ticket: Uint8Array.of(8) } });
    expect(s.welcomes[1]?.[1]).toBe("moved");
    expect(s.better.isAdmitted).toBe(true);
    expect(s.socket.closed?.close?.name).toBe("replaced");
    // Nobody was told of anything else than that it is open.
    expect(s.states.slice(1)).toEqual([
      { phase: "open", transport: "websocket" },
      { phase: "open", transport: "webtransport" },
    ]);
    expect(s.steps).not.toContain("lost");
    await s.pass(LOOKED_MS);
    expect(s.made.at(-1)).toBe(s.better);
  });

  test("takes what is said meanwhile along, but not what is about the connection that is left", async () => {
    const s = await leaving();
    const before = s.socket.said.length;
    s.connection.send({ case: "ask", value: { rights: [1] } });
    s.socket.say({ case: "ping", value: { id: 6n } });
    expect(s.socket.said.slice(before).map((message) => message.case)).toEqual(["pong"]);
    s.socket.say({ case: "move", value: {} });
    s.connection.send({ case: "credit", value: { lane: 2, bytes: 1n } });
    s.connection.send({ case: "end", value: {} });
    await settled();
    s.better.say({ case: "welcome", value: WELCOME });
    expect(s.better.said.map((message) => message.case)).toEqual(["hello", "ask", "end"]);
    expect([...s.socket.heard("ask"), ...s.socket.heard("end")]).toEqual([]);
  });

  test("an end waits for nothing: it is said on the WebSocket at once, and again on the new one", async () => {
    const s = await leaving();
    s.connection.send({ case: "end", value: { reason: 2 } });
    expect(s.socket.heard("end")).toMatchObject([{ reason: 2 }]);
    s.socket.say({ case: "move", value: {} });
    await settled();
    s.better.say({ case: "welcome", value: WELCOME });
    expect(s.better.heard("end")).toMatchObject([{ reason: 2 }]);
    expect(s.socket.heard("end").length).toBe(1);
  });

  test("counts the bytes of both", async () => {
    const s = await leaving();
    s.socket.bytesReceived = 100;
    s.socket.say({ case: "move", value: {} });
    await settled();
    expect(s.connection.bytesReceived).toBe(100);
    s.better.bytesReceived = 7;
    s.better.say({ case: "welcome", value: WELCOME });
    expect(s.connection.bytesReceived).toBe(107);
  });

  test("hears nothing of the WebSocket once the relay has answered", async () => {
    const s = await joining();
    s.socket.handler.record(peer, record(0n));
    s.socket.breakOff(closeNamed("replaced"));
    s.better.say({ case: "welcome", value: WELCOME });
    expect([s.records, s.state()]).toEqual([[], { phase: "open", transport: "webtransport" }]);
  });

  test("a word that nobody asked for changes nothing", async () => {
    const s = await overWebSocket();
    s.socket.say({ case: "move", value: {} });
    expect([s.steps, s.state().phase]).toEqual([[], "open"]);
  });
});

describe("what goes wrong counts as a lost connection:", () => {
  type Moving = Awaited<ReturnType<typeof leaving>>;

  /** It comes back with the ticket, by whatever way there is, and has closed both. */
  async function expectResumed(s: Moving) {
    expect(s.steps).toContain("lost");
    expect(s.state()).toMatchObject({ phase: "reconnecting" });
    expect([s.socket.closed?.close?.name, s.better.closed !== undefined]).toEqual(["silent", true]);
    await s.nextTry(250);
    s.admit();
    expect(s.last().heard("hello")[0]?.join.case).toBe("ticket");
    expect(s.state().phase).toBe("open");
    expect(s.welcomes.at(-1)?.[1]).toBe("resumed");
  }

  test("a relay that does not answer for three seconds", async () => {
    const s = await leaving();
    s.clock.advance(2999);
    expect(s.state().phase).toBe("open");
    s.clock.advance(1);
    await expectResumed(s);
  });

  test("a new connection that is lost before the answer", async () => {
    const s = await leaving();
    s.better.breakOff(closeNamed("admission"));
    await expectResumed(s);
  });

  test("a new connection that is lost after it", async () => {
    const s = await joining();
    s.better.breakOff();
    await expectResumed(s);
  });

  test("a relay that does not welcome for three seconds", async () => {
    const s = await joining();
    s.clock.advance(3000);
    await expectResumed(s);
  });

  test("a refusal, whatever it says", async () => {
    const s = await joining();
    s.better.say({ case: "refused", value: { code: closeNamed("ticket_invalid").number } });
    await expectResumed(s);
  });

  /** What a technician does on the way; then it fails. */
  async function decideAndFail() {
    const s = await leaving();
    s.connection.send({ case: "want", value: { display: 0, start: true, key: true } });
    s.connection.send({ case: "ask", value: { rights: [1] } });
    s.connection.send({ case: "visible", value: { display: 0 } });
    s.connection.send({ case: "end", value: { reason: 1 } });
    s.clock.advance(3000);
    await s.nextTry(250);
    return s;
  }

  test("then what the technician has decided meanwhile is said, and what was about the picture is not", async () => {
    const s = await decideAndFail();
    s.admit();
    expect(s.last().said.map((message) => message.case)).toEqual(["hello", "ask", "end"]);
    s.last().breakOff();
    await s.nextTry(250);
    s.admit();
    // The relay has not agreed to the end.
    expect(s.last().said.map((message) => message.case)).toEqual(["hello", "end"]);
  });

  test("but who has to begin anew has said nothing", async () => {
    const s = await decideAndFail();
    s.last().handler.ready();
    s.last().say({ case: "refused", value: { code: closeNamed("ticket_expired").number } });
    await s.nextTry(1000);
    s.admit();
    expect(s.welcomes.at(-1)?.[1]).toBe("fresh");
    expect(s.last().said.map((message) => message.case)).toEqual(["hello"]);
  });
});

describe("looking", () => {
  /** When the next look is, by which it does not get through. */
  async function nextLook(s: Awaited<ReturnType<typeof overWebSocket>>): Promise<number> {
    const [count, began] = [s.made.length, s.clock.now()];
    while (s.made.length === count) await s.pass(250);
    s.last().breakOff();
    return s.clock.now() - began;
  }

  test("is after five seconds, then twice as long each time, up to five minutes, and never quite then", async () => {
    const s = await overWebSocket();
    const waits: number[] = [];
    for (let look = 0; look < 9; look += 1) waits.push(await nextLook(s));
    const parts = waits.map((wait, look) => wait / Math.min(5000 * 2 ** look, 300_000));
    expect(Math.min(...parts)).toBeGreaterThanOrEqual(0.75);
    expect(Math.max(...parts)).toBeLessThanOrEqual(1.3);
    expect(new Set(parts).size).toBeGreaterThan(4);
    expect(s.state()).toEqual({ phase: "open", transport: "websocket" });
  });

  test("gives up what does not open within ten seconds, and hears no more of it", async () => {
    const s = await overWebSocket();
    const late = await s.find();
    await s.pass(10_250);
    expect(late.closed?.close?.name).toBe("race_lost");
    late.handler.ready();
    expect(s.socket.heard("move")).toEqual([]);
  });

  test("is put off while this is no time to go over", async () => {
    const s = await overWebSocket();
    s.page.mayMove = false;
    await s.pass(60_000);
    expect(s.made.at(-1)).toBe(s.socket);
    s.page.mayMove = true;
    await s.find();
  });

  test("has an end when this was no time any more when something was found, and begins again", async () => {
    const s = await overWebSocket();
    const found = await s.find();
    s.page.mayMove = false;
    found.handler.ready();
    expect(found.closed?.close?.name).toBe("race_lost");
    expect([s.steps, s.socket.heard("move")]).toEqual([[], []]);
    await s.pass(60_000);
    expect(s.last()).toBe(found);
    s.page.mayMove = true;
    const again = await s.find();
    again.handler.ready();
    expect(s.socket.heard("move").length).toBe(1);
  });

  test("finds what was not there when the connection was made", async () => {
    const s = stage({ ways: 2 });
    const { openers } = s.reach;
    s.reach.openers = openers.slice(-1);
    await s.begin();
    s.admit();
    s.clock.advance(5900);
    await settled();
    expect(s.made.length).toBe(1);
    s.reach.openers = openers;
    s.last().say({ case: "ping", value: {} });
    for (let second = 0; second < 13; second += 1) {
      s.clock.advance(1000);
      s.made[0]?.say({ case: "ping", value: {} });
      await settled();
    }
    expect(s.last().kind).toBe("webtransport");
  });

  test("is not at all for who is to have nothing else", async () => {
    const s = stage({ looksForBetter: false });
    await s.begin();
    s.admit();
    s.clock.advance(5900);
    await settled();
    expect(s.places.length).toBe(1);
  });

  test("ends when the relay leaves service", async () => {
    const s = await overWebSocket();
    s.socket.say({ case: "goAway", value: { deadlineMs: 600_000 } });
    await s.pass(60_000);
    expect(s.made.at(-1)).toBe(s.socket);
  });

  /** Back over a WebSocket after a loss: how long until the next look, ms. */
  async function lookAfterLoss(s: Awaited<ReturnType<typeof leaving>>): Promise<number> {
    await s.nextTry(250);
    expect(s.last().kind).toBe("webtransport");
    s.last().breakOff();
    s.admit();
    return nextLook(s);
  }

  test("takes twice as long when what was found did not last", async () => {
    const s = await joining();
    s.better.say({ case: "welcome", value: WELCOME });
    s.better.breakOff();
    const wait = await lookAfterLoss(s);
    expect(wait).toBeGreaterThanOrEqual(7500);
    expect(wait).toBeLessThanOrEqual(13_000);
  });

  test("takes twice as long after each time that going over failed", async () => {
    const s = await leaving();
    for (const least of [7500, 15_000, 30_000]) {
      s.clock.advance(3000);
      expect(s.state().phase).toBe("reconnecting");
      await s.nextTry(250);
      s.last().breakOff();
      s.admit();
      const [count, began] = [s.made.length, s.clock.now()];
      while (s.made.length === count) await s.pass(250);
      expect(s.clock.now() - began).toBeGreaterThanOrEqual(least);
      s.last().handler.ready();
    }
  });

  test("is as soon as at first when what was found has lasted", async () => {
    const s = await joining();
    s.better.say({ case: "welcome", value: WELCOME });
    for (let second = 0; second <= 300; second += 1) {
      s.better.say({ case: "ping", value: {} });
      await s.pass(1000);
    }
    s.better.breakOff();
    expect(await lookAfterLoss(s)).toBeLessThanOrEqual(6500);
  });
});

describe("a relay that leaves service on the way", () => {
  const B = "https://b.example";

  test("and says so on both connections is left for another, and stays the last resort", async () => {
    const s = await leaving();
    const goAway = { deadlineMs: 10_000, leaveMs: 1000, alternatives: [B] };
    s.socket.say({ case: "goAway", value: goAway });
    s.socket.say({ case: "move", value: {} });
    await settled();
    s.better.say({ case: "welcome", value: WELCOME });
    s.better.say({ case: "goAway", value: goAway });
    await s.pass(1000);
    expect(s.better.closed?.close?.name).toBe("going_away");
    for (const place of [B, undefined]) {
      await s.nextTry();
      expect(s.places.at(-1)).toBe(place);
      s.last().breakOff();
      s.last().breakOff();
    }
  });
});

describe("leaving for good on the way", () => {
  test("is told on both connections", async () => {
    for (const way of [leaving, joining]) {
      const s = await way();
      s.connection.stop(closeNamed("left"), "bye");
      expect([s.socket, s.better].map(({ closed }) => closed?.close?.name)).toEqual(["left", "left"]);
      expect(s.state()).toMatchObject({ phase: "closed", close: { name: "left" } });
      await s.nextTry();
      expect(s.last()).toBe(s.better);
    }
  });

  test("by the relay's word is an end", async () => {
    const s = await leaving();
    s.socket.breakOff(closeNamed("ended"));
    expect(s.state()).toMatchObject({ phase: "closed", close: { name: "ended" } });
    expect(s.better.closed).toBeDefined();
  });
});
