// A connection whose relay is the test.
import type { Welcome } from "../../gen/control_pb";
import { type Arrival, Connection, type ConnectionState } from "../connection";
import { LaneKind } from "../lane";
import type { ControlMessage } from "../message";
import { encodeRecord, parseRecord, type Record } from "../record";
import type { Place } from "../route";
import { FakeClock, type FakeTransport, fakeWays, fixedChance, settled } from "./fakes";

export const WELCOME = { version: 1, sender: 3, ticket: Uint8Array.of(7, 7), graceMs: 300_000, heartbeatMs: 2000 };

/** What a test decides. */
interface Staged {
  /** How many ways there are to the relay: the WebSocket, and before it WebTransport. */
  ways?: number;
  /** Whether WebTransport is looked for over a WebSocket; as there are ways, if a test does not say. */
  looksForBetter?: boolean;
  token?: () => Promise<string>;
  prove?: (signed: Uint8Array) => Promise<Uint8Array>;
  ticket?: Uint8Array;
}

export function stage(options: Staged = {}) {
  const clock = new FakeClock();
  const { openers, made } = fakeWays(options.ways ?? 1);
  const states: ConnectionState[] = [];
  const welcomes: [Welcome, Arrival][] = [];
  const heard: ControlMessage[] = [];
  const records: Record[] = [];
  const places: Place[] = [];
  const steps: string[] = [];
  const page = { mayMove: true };
  const reach = { openers };
  let tokens = 0;
  const connection = new Connection(
    {
      clock,
      chance: fixedChance(),
      agent: "test",
      codecs: [1],
      h264Levels: [],
      openers: async (place) => {
        places.push(place);
        return reach.openers;
      },
      looksForBetter: options.looksForBetter ?? openers.length > 1,
      token: options.token ?? (async () => `token ${++tokens}`),
      prove: options.prove,
      ticket: options.ticket,
    },
    {
      state: (state) => states.push(state),
      welcome: (welcome, arrival) => welcomes.push([welcome, arrival]),
      showing: () => [{ display: 0, point: { rendition: 0, segment: 5, seq: 40n } }],
      control: (message) => heard.push(message),
      arrived() {},
      record: (_, record) => records.push(record),
      ended() {},
      lost: () => steps.push("lost"),
      mayMove: () => page.mayMove,
      resting: (half) => steps.push(`resting ${half.length}`),
      leaving: () => steps.push("leaving"),
    },
  );
  const last = () => made.at(-1) as FakeTransport;
  return {
    clock,
    connection,
    made,
    states,
    welcomes,
    heard,
    records,
    places,
    steps,
    page,
    /** The ways to the relay; a test may change them. */
    reach,
    last,
    state: () => states.at(-1) as ConnectionState,
    /** Starts: the first transport is dialled, and has yet to open. */
    async begin() {
      connection.start();
      await settled();
    },
    /** Lets the newest transport open, and says the relay's welcome on it. */
    admit(welcome = {}) {
      last().handler.ready();
      last().say({ case: "welcome", value: { ...WELCOME, ...welcome } });
    },
    /** Lets so much time pass that the next try is under way: its transport is dialled, and has yet to open. */
    async nextTry(ms = 30_000) {
      clock.advance(ms);
      await settled();
    },
  };
}

/** A record of another participant's peer lane. */
export function record(seq: bigint, epoch = 5n): Record {
  const header = { type: 1, flags: 0, sender: 9, keyId: 0, epoch, seq, timeUs: 0n };
  return parseRecord(LaneKind.Peer, encodeRecord(header, new Uint8Array(0)));
}
