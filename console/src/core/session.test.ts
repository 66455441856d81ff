import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { EndReason, Right, Role, SessionState } from "../gen/control_pb";
import { DisplayLayoutSchema, PeerPingSchema, PeerPongSchema } from "../gen/peer_pb";
import { closeNamed } from "./close";
import { type LaneKey, LaneKind, plainLane } from "./lane";
import { type ControlInit, RecordType } from "./message";
import type { Fate, ScreenSink } from "./pictures";
import { encodeRecord, type Point, parseRecord, type Record, ScreenKind } from "./record";
import { Session, type SessionView } from "./session";
import { FakeClock, type FakeTransport, fakeWays, fixedChance, settled } from "./testing/fakes";

const CUSTOMER = 9;
const SELF = 3;
const WELCOME = {
  version: 1,
  sender: SELF,
  role: Role.LEAD,
  permitted: [Right.VIEW, Right.CONTROL, Right.CHAT],
  ticket: Uint8Array.of(1),
  heartbeatMs: 2000,
};
const SCREEN: LaneKey = { kind: LaneKind.Screen, display: 0, rendition: 0, sender: CUSTOMER };

class Sink implements ScreenSink {
  readonly applied: Record[] = [];
  readonly keyLanes: LaneKey[] = [];
  forgotten = 0;
  isBroken = false;
  /** What comes is but a part. */
  holds = false;
  point: Point | undefined;

  apply(_: LaneKey, record: Record): Fate {
    if (this.holds) return "passed";
    if (this.isBroken) {
      this.point = undefined;
      return "lost";
    }
    this.applied.push(record);
    this.point = { rendition: record.header.screen?.rendition ?? 0, segment: 1, seq: record.header.seq };
    return "applied";
  }

  keyLaneOpened(lane: LaneKey): void {
    this.keyLanes.push(lane);
  }

  shown(_: number, rendition: number) {
    return this.point?.rendition === rendition ? { applied: this.point, drawnSeq: this.point.seq } : {};
  }

  showing() {
    return this.point ? [{ display: 0, point: this.point }] : [];
  }

  forget(): void {
    this.forgotten += 1;
    this.point = undefined;
  }
}

async function stage(ways = 1) {
  const clock = new FakeClock();
  // The page was there before.
  clock.advance(1234);
  const { openers, made } = fakeWays(ways);
  const sink = new Sink();
  const views: SessionView[] = [];
  const session = new Session({
    clock,
    chance: fixedChance(),
    agent: "test",
    codecs: [1],
    h264Levels: [],
    openers: async () => openers,
    looksForBetter: ways > 1,
    token: async () => "token",
    sink,
    onView: (view) => views.push(view),
    onCursorShape() {},
    onCursorPosition() {},
    onTicket() {},
  });
  const last = () => made.at(-1) as FakeTransport;
  const admit = () => {
    last().handler.ready();
    last().say({ case: "welcome", value: WELCOME });
  };
  session.start();
  await settled();
  // Only the last way works at first.
  if (ways > 1) last().breakOff();
  admit();
  /** A record arrives over the transport that is in use. */
  const arrive = (key: LaneKey, record: Record) => {
    const inlet = { key, received: record.bytes.length };
    const used = made.filter(({ isAdmitted, closed }) => isAdmitted && !closed).at(-1) as FakeTransport;
    used.handler.arrived(inlet);
    used.handler.record(inlet, record);
  };
  return { clock, session, sink, made, last, admit, arrive, view: () => views.at(-1) as SessionView };
}

function roster(rights: Right[], more: { asking?: boolean; online?: boolean } = {}): ControlInit {
  const { asking = false, online = true } = more;
  const participants = [
    { sender: CUSTOMER, role: Role.CUSTOMER, online, publisher: true },
    { sender: SELF, role: Role.LEAD, online: true, rights, asking },
  ];
  return { case: "roster", value: { state: SessionState.ACTIVE, participants } };
}

function screenRecord(seq: bigint, rendition = 0, kind: number = ScreenKind.Update): Record {
  const screen = { display: 0, rendition, kind, segment: 1 };
  const header = { type: 0, flags: 0, sender: CUSTOMER, keyId: 0, epoch: 5n, seq, timeUs: 0n, screen };
  return parseRecord(LaneKind.Screen, encodeRecord(header, new Uint8Array(10)));
}

function peerRecord(type: number, seq: bigint, body: Uint8Array): Record {
  const header = { type, flags: 0, sender: CUSTOMER, keyId: 0, epoch: 5n, seq, timeUs: 0n };
  return parseRecord(LaneKind.Peer, encodeRecord(header, body));
}

function layout(...ids: number[]): Record {
  const displays = ids.map((id) => ({ id, width: 100, height: 50, primary: id === 1 }));
  return peerRecord(1, 0n, toBinary(DisplayLayoutSchema, create(DisplayLayoutSchema, { generation: 4, displays })));
}

describe("consent", () => {
  test("is asked for as soon as the customer is there, once", async () => {
    const s = await stage();
    s.last().say(roster([], { online: false }));
    expect(s.last().heard("ask")).toEqual([]);
    s.last().say(roster([]));
    s.last().say(roster([], { asking: true }));
    expect(s.last().heard("ask")).toMatchObject([{ rights: [Right.VIEW, Right.CONTROL] }]);
    expect(s.view().isAsking).toBe(true);
    s.last().say(roster([Right.VIEW, Right.CONTROL]));
    expect(s.view()).toMatchObject({ isAsking: false, isDeclined: false, rights: [Right.VIEW, Right.CONTROL] });
  });

  test("an answer that grants nothing is a no, until it is asked again", async () => {
    const s = await stage();
    s.last().say(roster([]));
    s.last().say(roster([], { asking: true }));
    s.last().say(roster([]));
    expect(s.view().isDeclined).toBe(true);
    expect(s.last().heard("ask").length).toBe(1);
    s.session.ask();
    expect(s.view().isDeclined).toBe(false);
    expect(s.last().heard("ask").length).toBe(2);
  });

  test("is not asked for again after a resume", async () => {
    const s = await stage();
    s.last().say(roster([Right.VIEW, Right.CONTROL]));
    s.last().breakOff();
    s.clock.advance(250);
    await settled();
    s.admit();
    s.last().say(roster([]));
    expect(s.last().heard("ask")).toEqual([]);
  });
});

describe("rights", () => {
  test("outlast a resume until the customer's program has had time to restate them", async () => {
    const s = await stage();
    s.last().say(roster([Right.VIEW, Right.CONTROL]));
    s.clock.advance(10);
    s.last().breakOff();
    s.clock.advance(250);
    await settled();
    s.admit();
    s.last().say(roster([]));
    expect(s.view().rights).toEqual([Right.VIEW, Right.CONTROL]);
    s.last().say(roster([Right.VIEW]));
    s.clock.advance(3000);
    expect(s.view().rights).toEqual([Right.VIEW]);
  });

  test("that the customer takes back are gone at once", async () => {
    const s = await stage();
    s.last().say(roster([Right.VIEW, Right.CONTROL]));
    s.clock.advance(3000);
    s.last().say(roster([Right.VIEW]));
    expect(s.view().rights).toEqual([Right.VIEW]);
  });
});

describe("displays", () => {
  test("the primary one is wanted, again after every welcome, and a hidden page says so", async () => {
    const s = await stage();
    s.arrive(plainLane(LaneKind.Peer, CUSTOMER), layout(0, 1));
    expect(s.view().display).toBe(1);
    s.session.setVisible(false);
    expect(s.last().heard("visible")).toMatchObject([
      { display: 1, visible: true, focused: true },
      { display: 1, visible: false },
    ]);
    s.last().breakOff();
    s.clock.advance(250);
    await settled();
    s.admit();
    expect(s.last().heard("visible")).toMatchObject([{ display: 1, visible: false }]);
  });

  test("another one can be shown", async () => {
    const s = await stage();
    s.arrive(plainLane(LaneKind.Peer, CUSTOMER), layout(0, 1));
    s.session.show(0);
    expect(s.last().heard("visible").slice(1)).toMatchObject([
      { display: 1, visible: false },
      { display: 0, visible: true, focused: true },
    ]);
  });
});

describe("screens", () => {
  test("are acknowledged at once, then at most every 8 ms, with what was applied and drawn", async () => {
    const s = await stage();
    s.arrive(SCREEN, screenRecord(0n));
    s.clock.advance(0);
    expect(s.last().heard("ack")).toMatchObject([
      { lane: { kind: 6, sender: CUSTOMER }, receivedBytes: 56n, epoch: 5n, receivedNextSeq: 1n, applied: { seq: 0n } },
    ]);
    const inlet = { key: SCREEN, received: 56 };
    for (let seq = 1n; seq <= 16n; seq += 1n) {
      inlet.received += 56;
      s.last().handler.arrived(inlet);
      s.last().handler.record(inlet, screenRecord(seq));
      s.clock.advance(1);
    }
    s.clock.advance(100);
    const acks = s.last().heard("ack").slice(1);
    expect(acks.length).toBe(3);
    expect(acks.at(-1)).toMatchObject({ receivedBytes: BigInt(56 * 17), receivedNextSeq: 17n, drawnSeq: 16n });
  });

  test("are acknowledged lane by lane when they cross to the reduced rendition, and a resume names the one shown", async () => {
    const s = await stage();
    const reduced = { ...SCREEN, rendition: 1 };
    s.arrive(SCREEN, screenRecord(6n));
    s.arrive(reduced, screenRecord(3n, 1));
    s.clock.advance(8);
    const acks = s.last().heard("ack");
    expect(acks).toMatchObject([
      { lane: { rendition: 0 }, receivedNextSeq: 7n },
      { lane: { rendition: 1 }, receivedNextSeq: 4n, applied: { rendition: 1, seq: 3n } },
    ]);
    expect(acks[0]?.applied).toBeUndefined();
    s.last().breakOff();
    s.clock.advance(250);
    await settled();
    s.last().handler.ready();
    const [hello] = s.last().heard("hello");
    expect(hello?.showing).toMatchObject([{ display: 0, point: { rendition: 1, seq: 3n } }]);
    expect(hello?.received).toMatchObject([{ lane: { rendition: 1 }, nextSeq: 4n }]);
  });

  test("learn of every opening of a key lane", async () => {
    const s = await stage();
    const key = { ...SCREEN, kind: LaneKind.Key };
    const inlet = { key, received: 56 };
    s.last().handler.record(inlet, screenRecord(0n));
    s.last().handler.record(inlet, screenRecord(0n));
    expect(s.sink.keyLanes).toEqual([key]);
    s.arrive(key, screenRecord(0n));
    s.arrive({ ...key, rendition: 1 }, screenRecord(0n, 1));
    expect(s.sink.keyLanes).toEqual([key, key, { ...key, rendition: 1 }]);
  });

  test("that cannot be decoded are asked for anew, once, with a start and a key", async () => {
    const s = await stage();
    s.arrive(SCREEN, screenRecord(0n));
    s.sink.isBroken = true;
    s.arrive(SCREEN, screenRecord(1n));
    s.arrive(SCREEN, screenRecord(2n));
    expect(s.last().heard("want")).toMatchObject([{ display: 0, rendition: 0, start: true, key: true }]);
    s.sink.isBroken = false;
    s.arrive({ ...SCREEN, kind: LaneKind.Key }, screenRecord(1n));
    s.clock.advance(5000);
    expect(s.last().closed).toBeUndefined();
  });

  test("whose video is lost are waited for until one begins, whatever can still be applied", async () => {
    for (const begins of [false, true]) {
      const s = await stage();
      s.arrive(SCREEN, screenRecord(0n));
      s.session.pictureLost(0, 0);
      s.arrive(SCREEN, screenRecord(1n));
      s.session.pictureLost(0, 0);
      expect(s.last().heard("want").length).toBe(1);
      if (begins) s.arrive(SCREEN, screenRecord(2n, 0, ScreenKind.Start));
      s.clock.advance(5000);
      expect(s.made[0]?.closed?.close?.name).toBe(begins ? undefined : "internal");
    }
  });

  test("whose key takes its time on a narrow path are waited for as long as more of it comes", async () => {
    const s = await stage();
    s.session.pictureLost(0, 0);
    s.sink.holds = true;
    for (let part = 0; part < 4; part += 1) {
      s.clock.advance(4000);
      s.last().say({ case: "ping", value: {} });
      s.arrive({ ...SCREEN, kind: LaneKind.Key }, screenRecord(1n));
    }
    expect(s.last().closed).toBeUndefined();
    s.clock.advance(5000);
    expect(s.made[0]?.closed?.close?.name).toBe("internal");
  });

  test("whose video is lost when the connection is are not named as shown on the next", async () => {
    const s = await stage();
    s.arrive(SCREEN, screenRecord(0n));
    s.session.pictureLost(0, 0);
    s.last().breakOff();
    s.clock.advance(250);
    await settled();
    s.last().handler.ready();
    expect(s.last().heard("hello")[0]).toMatchObject({ received: [], showing: [] });
  });

  test("whose key never comes are begun anew by a resume that holds nothing", async () => {
    const s = await stage();
    s.sink.isBroken = true;
    s.arrive(SCREEN, screenRecord(0n));
    s.clock.advance(5000);
    expect(s.made[0]?.closed?.close?.name).toBe("internal");
    s.clock.advance(250);
    await settled();
    s.last().handler.ready();
    const [hello] = s.last().heard("hello");
    expect(hello).toMatchObject({ join: { case: "ticket" }, received: [], showing: [] });
  });

  test("that can never be decoded are an end", async () => {
    const s = await stage();
    s.sink.isBroken = true;
    for (let n = 0; n < 4; n += 1) {
      s.arrive(SCREEN, screenRecord(0n));
      s.clock.advance(5250);
      await settled();
      if (s.view().connection.phase !== "closed") s.admit();
    }
    expect(s.view().connection).toMatchObject({ phase: "closed", close: { name: "internal" } });
  });

  test("what has arrived but is not shown is wanted again after a loss", async () => {
    const s = await stage();
    s.arrive(SCREEN, screenRecord(0n));
    s.arrive(SCREEN, screenRecord(1n));
    s.sink.point = { rendition: 0, segment: 1, seq: 0n };
    s.last().breakOff();
    s.clock.advance(250);
    await settled();
    s.last().handler.ready();
    expect(s.last().heard("hello")[0]?.received).toMatchObject([{ lane: { kind: 6 }, nextSeq: 1n }]);
  });
});

describe("input", () => {
  const locks = { caps: false, num: false, scroll: false };
  const lanes = (transport: FakeTransport) => transport.lanes.filter(({ key }) => key.kind === LaneKind.Input);

  test("goes on the input lane under the participant's number, and acknowledgements of its epoch empty the buffer", async () => {
    const s = await stage();
    s.session.input.key(4, true, locks, "a");
    const [lane] = lanes(s.last());
    expect(lane?.key).toEqual(plainLane(LaneKind.Input, SELF));
    const header = lane?.records[1]?.header;
    expect(header).toMatchObject({ type: RecordType.Key, sender: SELF, seq: 1n });
    const ack = { lane: lane?.key as LaneKey, receivedNextSeq: 2n };
    s.last().say({ case: "ack", value: { ...ack, epoch: 1n } });
    expect(s.session.statistics().unacknowledgedInputBytes).toBeGreaterThan(0);
    s.last().say({ case: "ack", value: { ...ack, epoch: header?.epoch ?? 0n } });
    expect(s.session.statistics().unacknowledgedInputBytes).toBe(0);
  });

  test("is sent again on a new lane when the relay asks to reopen it", async () => {
    const s = await stage();
    s.session.input.key(4, true, locks, "a");
    const [first] = lanes(s.last());
    s.last().say({ case: "reopen", value: { lane: first?.key as LaneKey } });
    const [, second] = lanes(s.last());
    expect(first?.isFinished).toBe(true);
    expect(second?.records.map(({ header }) => header.seq)).toEqual([0n, 1n, 2n]);
  });

  test("that grew too old during an outage is shown as dropped", async () => {
    const s = await stage();
    s.last().breakOff();
    s.session.input.key(4, true, locks, "a");
    s.session.input.key(4, false, locks, "a");
    s.clock.advance(1500);
    await settled();
    s.admit();
    expect(s.view().dropped).toEqual({ keys: 1, texts: 0, clicks: 0, wheels: 0 });
  });
});

describe("going over to another transport", () => {
  const locks = { caps: false, num: false, scroll: false };
  const lane = (transport: FakeTransport, kind: LaneKind) => transport.lanes.find(({ key }) => key.kind === kind);
  const seqs = (transport: FakeTransport, kind: LaneKind) =>
    lane(transport, kind)?.records.map(({ header }) => Number(header.seq));

  /** Two keys are pressed before the relay is told, of which the second gets no further than its half; then the relay lets go. */
  async function leave() {
    const s = await stage(2);
    const socket = s.last();
    const said = roster([Right.VIEW, Right.CONTROL]);
    socket.say(said);
    s.arrive(SCREEN, screenRecord(0n));
    s.arrive(SCREEN, screenRecord(1n));
    for (let second = 0; second < 6; second += 1) {
      s.clock.advance(1000);
      socket.say(said);
      await settled();
    }
    const better = s.last();
    expect(better.kind).toBe("webtransport");
    s.session.input.key(4, true, locks, "a");
    s.session.input.key(4, false, locks, "a");
    const key = plainLane(LaneKind.Peer, SELF);
    const peers = lane(socket, LaneKind.Peer)?.records ?? [];
    socket.half = [{ key, record: (peers.at(-1) as Record).bytes.slice() }];
    better.handler.ready();
    return { ...s, socket, better };
  }

  test("loses and doubles nothing of what is typed or told, and nobody sees it", async () => {
    const s = await leave();
    const input = seqs(s.socket, LaneKind.Input) ?? [];
    const peer = seqs(s.socket, LaneKind.Peer) ?? [];
    s.session.input.key(5, true, locks, "b");
    s.arrive(
      plainLane(LaneKind.Peer, CUSTOMER),
      peerRecord(3, 9n, toBinary(PeerPingSchema, create(PeerPingSchema, {}))),
    );
    expect(seqs(s.socket, LaneKind.Input)).toEqual(input);
    s.sink.point = { rendition: 0, segment: 1, seq: 0n };
    s.socket.say({ case: "move", value: {} });
    await settled();
    s.session.input.key(5, false, locks, "b");
    expect(s.better.heard("hello")[0]).toMatchObject({
      showing: [{ display: 0, point: { seq: 0n } }],
      received: expect.arrayContaining([expect.objectContaining({ nextSeq: 1n })]),
    });
    const last = input.at(-1) as number;
    const position = { lane: plainLane(LaneKind.Input, SELF), nextSeq: BigInt(last) };
    const epoch = s.better.heard("hello")[0]?.epoch ?? 0n;
    s.better.say({ case: "welcome", value: { ...WELCOME, received: [{ ...position, epoch }] } });
    // The half, and the two that were made on the way; then what is held.
    expect(seqs(s.better, LaneKind.Input)?.slice(0, 3)).toEqual([last, last + 1, last + 2]);
    const half = peer.at(-1) as number;
    expect(seqs(s.better, LaneKind.Peer)?.slice(0, 2)).toEqual([half, half + 1]);
    expect(s.view()).toMatchObject({
      connection: { phase: "open", transport: "webtransport" },
      isCustomerOnline: true,
    });
    expect(s.view().rights).toEqual([Right.VIEW, Right.CONTROL]);
    expect(s.sink.forgotten).toBe(1);
    s.better.say(roster([Right.VIEW, Right.CONTROL]));
    const told = [s.socket, s.better].flatMap((transport) => lane(transport, LaneKind.Peer)?.records ?? []);
    expect(told.filter(({ header }) => header.type === RecordType.Capabilities).length).toBe(1);
  });

  test("drops what grew older than a second on the way, and shows it: at the other end it would be too late", async () => {
    const s = await leave();
    const input = seqs(s.socket, LaneKind.Input) ?? [];
    s.session.input.key(5, true, locks, "b");
    s.session.input.key(5, false, locks, "b");
    s.clock.advance(500);
    s.session.input.key(6, true, locks, "c");
    s.socket.say({ case: "move", value: {} });
    await settled();
    s.clock.advance(501);
    const epoch = s.better.heard("hello")[0]?.epoch ?? 0n;
    const received = [{ lane: plainLane(LaneKind.Input, SELF), epoch, nextSeq: BigInt((input.at(-1) as number) + 1) }];
    s.better.say({ case: "welcome", value: { ...WELCOME, received } });
    const types = lane(s.better, LaneKind.Input)?.records.map(({ header }) => header.type);
    expect(types).toEqual([RecordType.Key, RecordType.Held]);
    expect(s.view().dropped).toEqual({ keys: 1, texts: 0, clicks: 0, wheels: 0 });
  });

  test("is put off while the relay is too far away for that", async () => {
    for (const [roundTripMs, goesOver] of [
      [300, true],
      [301, false],
    ] as const) {
      const s = await stage(2);
      const socket = s.last();
      for (let time = 0; time < 4; time += 1) {
        // Something happens, so it is measured.
        s.session.input.key(4, true, locks, "a");
        const { id = 0n, timeUs = 0n } = socket.heard("ping").at(-1) ?? {};
        s.clock.advance(roundTripMs);
        socket.say({ case: "pong", value: { id, timeUs } });
        expect(s.view().relayMs).toBeCloseTo(roundTripMs, 0);
        s.clock.advance(2000 - roundTripMs);
        await settled();
      }
      expect(s.last() === socket).toBe(!goesOver);
    }
  });

  test("wants no key again that was wanted before: who names no picture is given one", async () => {
    const s = await leave();
    s.sink.isBroken = true;
    s.arrive(SCREEN, screenRecord(2n));
    s.socket.say({ case: "move", value: {} });
    await settled();
    expect(s.better.heard("hello")[0]?.showing).toEqual([]);
    s.better.say({ case: "welcome", value: WELCOME });
    expect([s.socket, s.better].flatMap((transport) => transport.heard("want"))).toEqual([]);
  });

  test("names no picture that waits for a start, though it is there: what was wanted for it need not be said", async () => {
    const s = await leave();
    s.session.pictureLost(0, 0);
    s.arrive(SCREEN, screenRecord(2n));
    expect(s.sink.point).toMatchObject({ seq: 2n });
    s.socket.say({ case: "move", value: {} });
    await settled();
    const [hello] = s.better.heard("hello");
    expect(hello?.showing).toEqual([]);
    expect(hello?.received.filter(({ lane }) => lane?.kind === LaneKind.Screen)).toEqual([]);
    s.better.say({ case: "welcome", value: WELCOME });
    expect([s.socket, s.better].flatMap((transport) => transport.heard("want"))).toEqual([]);
  });

  test("wants a key for what turned out not to be shown when that had been said already", async () => {
    const s = await leave();
    s.socket.say({ case: "move", value: {} });
    await settled();
    s.session.pictureLost(0, 0);
    s.better.say({ case: "welcome", value: WELCOME });
    expect(s.better.heard("want")).toMatchObject([{ display: 0, start: true, key: true }]);
  });

  test("waits on for a key that was wanted before, and begins anew if it does not come there either", async () => {
    const s = await leave();
    s.session.pictureLost(0, 0);
    s.clock.advance(2500);
    s.socket.say({ case: "move", value: {} });
    await settled();
    s.clock.advance(2900);
    s.better.say({ case: "welcome", value: WELCOME });
    s.clock.advance(4999);
    expect(s.better.closed).toBeUndefined();
    s.clock.advance(1);
    expect(s.better.closed?.close?.name).toBe("internal");
  });
});

describe("latency", () => {
  test("is measured end to end while something happens, and not while nothing does", async () => {
    const s = await stage();
    s.last().say(roster([Right.VIEW]));
    s.clock.advance(1);
    const peer = () => s.last().lanes.find(({ key }) => key.kind === LaneKind.Peer)?.records ?? [];
    s.clock.advance(2000);
    s.arrive(SCREEN, screenRecord(0n));
    const ping = fromBinary(PeerPingSchema, peer().at(-1)?.body as Uint8Array);
    s.clock.advance(40);
    const pong = { id: ping.id, timeUs: ping.timeUs, to: SELF, epochTimeUs: 1_000_000n };
    const record = peerRecord(4, 1n, toBinary(PeerPongSchema, create(PeerPongSchema, pong)));
    s.arrive(plainLane(LaneKind.Peer, CUSTOMER), record);
    expect(s.view().latencyMs).toBeCloseTo(40, 0);
    const before = peer().length;
    s.clock.advance(2500);
    expect(peer().length).toBe(before);
  });

  test("to the relay is measured by what silence asks of it, too", async () => {
    const s = await stage();
    const before = s.last().heard("ping").length;
    s.clock.advance(3000);
    const asked = s.last().heard("ping").slice(before);
    expect(asked.length).toBe(1);
    s.clock.advance(70);
    s.last().say({ case: "pong", value: { timeUs: asked[0]?.timeUs ?? 0n } });
    expect(s.view().relayMs).toBeCloseTo(70, 0);
  });

  test("to a relay that asks less often, silence is no longer asked about", async () => {
    const s = await stage();
    const participants = [{ sender: SELF, role: Role.LEAD, online: true }];
    s.last().say({ case: "roster", value: { state: SessionState.WAITING, participants, heartbeatMs: 10_000 } });
    const before = s.last().heard("ping").length;
    s.clock.advance(14_999);
    expect(s.last().heard("ping").length).toBe(before);
    s.clock.advance(1);
    expect(s.last().heard("ping").length).toBe(before + 1);
  });

  test("a malformed message of the other end is not the relay's fault", async () => {
    const s = await stage();
    s.arrive(plainLane(LaneKind.Peer, CUSTOMER), peerRecord(1, 0n, Uint8Array.of(255, 255)));
    expect(s.session.statistics().malformed).toBe(1);
    expect(s.view().connection.phase).toBe("open");
  });
});

describe("the end", () => {
  test("is told to the relay, and the technician's own doing is known before the relay's answer", async () => {
    const s = await stage();
    expect(s.session.end()).toBe(true);
    expect(s.last().heard("end")).toMatchObject([{ reason: EndReason.CLOSED_BY_TECHNICIAN }]);
    s.last().breakOff(closeNamed("ended"));
    expect(s.view()).toMatchObject({ end: EndReason.CLOSED_BY_TECHNICIAN, connection: { phase: "closed" } });
  });

  test("comes from the customer with its reason, and closes the connection", async () => {
    const s = await stage();
    s.last().say({ case: "end", value: { reason: EndReason.CLOSED_BY_CUSTOMER } });
    const close = closeNamed("ended");
    expect(s.view()).toMatchObject({ end: EndReason.CLOSED_BY_CUSTOMER, connection: { phase: "closed", close } });
  });

  test("that was not told before everything began anew has not come", async () => {
    const s = await stage();
    s.session.end();
    s.last().breakOff();
    s.clock.advance(250);
    await settled();
    s.last().handler.ready();
    s.last().say({ case: "refused", value: { code: closeNamed("ticket_expired").number } });
    s.clock.advance(1000);
    await settled();
    s.admit();
    expect(s.view()).toMatchObject({ end: EndReason.UNSPECIFIED, connection: { phase: "open" } });
    expect(s.last().heard("end")).toEqual([]);
    s.last().breakOff();
    s.clock.advance(250);
    await settled();
    s.admit();
    expect(s.last().heard("end")).toEqual([]);
  });

  test("is told again after a loss, until the relay agrees", async () => {
    const s = await stage();
    s.session.end();
    for (let time = 0; time < 2; time += 1) {
      s.last().breakOff();
      s.clock.advance(250);
      await settled();
      s.admit();
      expect(s.last().heard("end")).toMatchObject([{ reason: EndReason.CLOSED_BY_TECHNICIAN }]);
    }
    s.last().say({ case: "end", value: { reason: EndReason.CLOSED_BY_TECHNICIAN } });
    expect(s.view()).toMatchObject({ end: EndReason.CLOSED_BY_TECHNICIAN, connection: { phase: "closed" } });
  });

  test("cannot be told without a connection", async () => {
    const s = await stage();
    s.last().breakOff();
    expect(s.session.end()).toBe(false);
  });
});
