// A participant's connection to a relay, over as many transports as it takes: joins with a token, comes back with the
// ticket, keeps watch over the heartbeats, and waits between tries. What is said on it is its owner's business.
import type { GoAway, Welcome } from "../gen/control_pb";
import { backoff } from "./backoff";
import { type Chance, type Clock, randomU64 } from "./clock";
import { type Close, closeNamed, type Retry } from "./close";
import { Dial, type Failure, readControl } from "./dial";
import { helloOf, JoinError, type Joining, toBeSigned } from "./joining";
import { LaneKind, plainLane } from "./lane";
import { stamp } from "./latency";
import { HEARTBEATS_SILENT } from "./limits";
import { type ControlInit, type ControlMessage, encodeControl, isOwn, isStillMeant, RecordType } from "./message";
import { LASTS_MS, LOOK_AFTER_MS, longer, Mover } from "./mover";
import type { Half, Source } from "./mux";
import { Positions } from "./positions";
import { encodeRecord, Flag, type Header, type Point, type Record } from "./record";
import { type Place, Route } from "./route";
import type { Ending, Inlet, Open, Outlet, Transport, TransportHandler, TransportKind } from "./transport";

/** However long a relay that leaves service would have us wait, we are back sooner than this, ms. */
const SPREAD_MAX_MS = 60_000;

/** What the page shows of it. */
export type ConnectionState =
  | { readonly phase: "connecting" }
  | { readonly phase: "open"; readonly transport: TransportKind }
  /** `retryInMs`: until the next try; nothing while one is under way. */
  | { readonly phase: "reconnecting"; readonly attempt: number; readonly retryInMs?: number | undefined }
  | { readonly phase: "closed"; readonly close?: Close | undefined; readonly reason: string };

export interface ConnectionOptions {
  readonly clock: Clock;
  readonly chance: Chance;
  /** Program and version, for the operator's log. */
  readonly agent: string;
  /** Codec versions that can be decoded. */
  readonly codecs: readonly number[];
  /** H.264 levels that can be decoded, times ten; none: no video. */
  readonly h264Levels: readonly number[];
  /** The ways to a relay, best first; asked before every attempt. */
  readonly openers: (place: Place) => Promise<readonly Open[]>;
  /** While there is but a WebSocket, WebTransport is looked for now and then. */
  readonly looksForBetter: boolean;
  /** A fresh token. Throws a JoinError when there is none to be had. */
  readonly token: () => Promise<string>;
  /** Signs with the key that the tokens are bound to, if they are. */
  readonly prove?: ((signed: Uint8Array<ArrayBuffer>) => Promise<Uint8Array>) | undefined;
  /** From an earlier run of the program. */
  readonly ticket?: Uint8Array | undefined;
}

/**
 * How a connection came about: as somebody of whom the relay knows nothing; as one that goes on after a loss; or over from
 * another transport, where nothing was lost and nothing needs to be said anew.
 */
export type Arrival = "fresh" | "resumed" | "moved";

/** What its owner hears. */
export interface ConnectionHandler {
  state(state: ConnectionState): void;
  /** Admitted. Lanes are to be opened. */
  welcome(welcome: Welcome, arrival: Arrival): void;
  /** What is shown of every rendition, for a resume. */
  showing(): { display: number; point: Point }[];
  control(message: ControlMessage): void;
  arrived(inlet: Inlet): void;
  /** A record that was not there before, on any lane but control. */
  record(inlet: Inlet, record: Record): void;
  ended(inlet: Inlet): void;
  /** The transport is gone; another is sought. */
  lost(): void;
  /** Whether this is a time to go over to a better transport. */
  mayMove(): boolean;
  /** Lanes rest until the next welcome, which comes over a better transport. These records go again there, first on their lanes. */
  resting(half: readonly Half[]): void;
  /** Nothing more comes over the transport that is left: what is asked for on the next one is to be what is missing here. */
  leaving(): void;
}

export class Connection {
  readonly epoch: bigint;
  readonly positions = new Positions();
  private readonly began: number;
  private state: ConnectionState = { phase: "connecting" };
  private transport: Transport | undefined;
  private dial: Dial | undefined;
  private welcomed: Welcome | undefined;
  private ticket: Uint8Array | undefined;
  private attempt = 0;
  private controlSeq = 0n;
  private admittedAt = 0;
  private heardAt = 0;
  private heartbeatMs = 0;
  private cancelWatch: (() => void) | undefined;
  private cancelRetry: (() => void) | undefined;
  /** The attempt under way goes on where the last connection ended. */
  private isResuming = false;
  private readonly route = new Route();
  /** The relay said that it leaves service: over how long those who come back are to spread. */
  private spreadMs = 0;
  private cancelLeave: (() => void) | undefined;
  private bytesBefore = 0;
  /** Looks for WebTransport while there is but a WebSocket, and how soon it begins to. */
  private mover: Mover | undefined;
  private lookAfterMs = LOOK_AFTER_MS;
  /** What was said on the way from one transport to the other, for the next welcome. */
  private carried: ControlInit[] = [];
  /** The end that was said here. The relay's agreement closes this connection; without it, it is said again on the next. */
  private end: ControlInit | undefined;

  constructor(
    private readonly options: ConnectionOptions,
    private readonly handler: ConnectionHandler,
  ) {
    this.epoch = randomU64(options.chance);
    this.began = options.clock.now();
    this.ticket = options.ticket;
  }

  /** This participant's number; 0 before it is welcomed. */
  get sender(): number {
    return this.welcomed?.sender ?? 0;
  }

  /** Bytes received over all transports. */
  get bytesReceived(): number {
    return this.bytesBefore + (this.transport?.bytesReceived ?? 0);
  }

  get isOpen(): boolean {
    return this.state.phase === "open";
  }

  /** µs since the epoch began: the clock of the records' times. */
  timeUs(): bigint {
    return BigInt(Math.round((this.options.clock.now() - this.began) * 1000));
  }

  /** A header for a record made here. */
  header(type: number, seq: bigint, flags = 0): Header {
    return { type, flags, sender: this.sender, keyId: 0, epoch: this.epoch, seq, timeUs: this.timeUs() };
  }

  start(): void {
    this.connect();
  }

  /** Leaves for good. */
  stop(close: Close, reason: string): void {
    if (this.state.phase === "closed") return;
    this.abandon(close, reason);
    this.become({ phase: "closed", close, reason });
  }

  /** Tries at once instead of waiting. */
  retryNow(): void {
    if (this.cancelRetry) this.connect();
  }

  /** Drops the transport, telling the relay why, and resumes on another. */
  resume(close: Close, reason: string): void {
    const { transport } = this;
    if (!transport) return;
    this.lose({ reason });
    transport.close(close, reason);
  }

  /**
   * Sends a control message. On the way from one transport to the other it waits for the welcome, unless it is about the
   * connection that is left, or an end, of which nobody may wait to hear; while there is no connection nothing happens.
   */
  send(message: ControlInit): void {
    const isEnd = message.case === "end";
    if (isEnd) this.end = message;
    if (this.mover?.isMoving && !isOwn(message) && !isEnd) this.carried.push(message);
    else this.transport?.control(this.controlRecord(message));
  }

  /** Opens one of this participant's lanes. */
  open(kind: LaneKind, source: Source): Outlet | undefined {
    return this.transport?.open(plainLane(kind, this.sender), source);
  }

  /** The session is active, or not: how soon silence is noticed. */
  expectHeartbeat(ms: number): void {
    this.heartbeatMs = ms;
    this.watch();
  }

  private become(state: ConnectionState): void {
    this.state = state;
    this.handler.state(state);
  }

  private controlRecord(message: ControlInit): Uint8Array {
    const header = this.header(RecordType.Control, this.controlSeq);
    this.controlSeq += 1n;
    return encodeRecord(header, encodeControl(message));
  }

  private connect(): void {
    this.cancelRetry?.();
    this.cancelRetry = undefined;
    if (this.attempt > 0 || this.welcomed) this.become({ phase: "reconnecting", attempt: this.attempt });
    else this.become({ phase: "connecting" });
    const attempt = ++this.attempt;
    this.join().then(
      ([openers, hello]) => {
        if (attempt === this.attempt && this.state.phase !== "closed") this.race(openers, hello);
      },
      (error: unknown) => {
        if (attempt === this.attempt) this.joinFailed(error);
      },
    );
  }

  private async join(): Promise<[readonly Open[], () => Uint8Array]> {
    const join = this.ticket
      ? { case: "ticket" as const, value: this.ticket }
      : { case: "token" as const, value: await this.options.token() };
    const attemptId = this.options.chance.bytes(16);
    const { prove } = this.options;
    const proof =
      prove && join.case === "token" ? await prove(toBeSigned(attemptId, this.epoch, join.value)) : new Uint8Array();
    const openers = await this.options.openers(this.route.place);
    this.isResuming = join.case === "ticket" && this.welcomed !== undefined;
    const hello = this.hello({ join, attemptId, proof }, this.isResuming);
    return [openers, () => this.controlRecord(hello)];
  }

  private hello(who: Pick<Joining, "join" | "attemptId" | "proof">, isResuming: boolean): ControlInit {
    const { agent, codecs, h264Levels } = this.options;
    const received = isResuming ? this.positions.list() : [];
    const showing = isResuming ? this.handler.showing() : [];
    return helloOf({ ...who, epoch: this.epoch, agent, codecs, h264Levels, received, showing });
  }

  private joinFailed(error: unknown): void {
    if (this.state.phase === "closed") return;
    if (error instanceof JoinError) this.become({ phase: "closed", close: error.close, reason: error.message });
    else this.retry("later", 0);
  }

  private race(openers: readonly Open[], hello: () => Uint8Array): void {
    const { clock } = this.options;
    this.dial = new Dial({
      clock,
      openers,
      hello,
      onWelcome: (transport, welcome) => {
        this.dial = undefined;
        this.attempt = 0;
        this.spreadMs = 0;
        this.route.arrived();
        if (!this.isResuming) this.positions.clear();
        this.admitted(transport, welcome, this.isResuming ? "resumed" : "fresh");
        this.look(transport);
      },
      onFailure: (failure) => this.refused(failure),
    });
  }

  private admitted(transport: Transport, welcome: Welcome, arrival: Arrival): void {
    this.transport = transport;
    this.welcomed = welcome;
    this.ticket = welcome.ticket;
    transport.handler = this.transportHandler(transport);
    this.admittedAt = this.heardAt = this.options.clock.now();
    this.expectHeartbeat(welcome.heartbeatMs);
    // Whoever hears that it is open knows already who they are.
    this.handler.welcome(welcome, arrival);
    this.become({ phase: "open", transport: transport.kind });
    transport.admit();
    const carried = [...this.carried.splice(0), ...(this.end ? [this.end] : [])];
    // Somebody of whom the relay knows nothing begins with nothing said.
    if (arrival === "fresh") this.end = undefined;
    else for (const message of carried) this.send(message);
  }

  /** Over a WebSocket: looks for more than that. */
  private look(transport: Transport): void {
    const { clock, chance, openers, looksForBetter } = this.options;
    if (transport.kind !== "websocket" || !looksForBetter) return;
    this.mover = new Mover({
      clock,
      chance,
      firstMs: this.lookAfterMs,
      mayMove: () => this.handler.mayMove(),
      ways: () => openers(this.route.here),
      onFound: () => {
        // If it comes to nothing, or does not last, it is not looked for so soon again.
        this.lookAfterMs = longer(this.lookAfterMs);
        this.handler.resting(transport.rest());
        transport.control(this.controlRecord({ case: "move", value: {} }));
      },
      onWelcome: (better, welcome) => this.moved(better, welcome),
      onFailure: (reason) => {
        if (this.transport) this.resume(closeNamed("silent"), reason);
        else this.lose({ reason });
      },
    });
  }

  /** The relay has sent all that it will over this transport: goes on over the better one. */
  private goOver(): void {
    const { transport, ticket, mover } = this;
    if (!mover?.isMoving || !transport || !ticket) return;
    this.leaveBehind(transport);
    this.handler.leaving();
    // What was wanted until now the `Hello` asks for, by what it does not name as shown.
    this.carried = this.carried.filter((message) => message.case !== "want");
    const attemptId = this.options.chance.bytes(16);
    const join = { case: "ticket" as const, value: ticket };
    const hello = this.hello({ join, attemptId, proof: new Uint8Array() }, true);
    mover.join(transport, () => this.controlRecord(hello));
  }

  private moved(better: Transport, welcome: Welcome): void {
    this.mover = undefined;
    this.admitted(better, welcome, "moved");
  }

  private leaveBehind(transport: Transport | undefined): void {
    this.bytesBefore += transport?.bytesReceived ?? 0;
    const lastedMs = this.heardAt - this.admittedAt;
    // It was worth the wait: without it, it is looked for as soon as at first.
    if (transport?.kind === "webtransport" && lastedMs >= LASTS_MS) this.lookAfterMs = LOOK_AFTER_MS;
    this.transport = undefined;
    this.cancelWatch?.();
  }

  private refused(failure: Failure): void {
    this.dial = undefined;
    const { close } = failure;
    // Of several relays that may have the session this is none.
    if (close?.name === "ticket_invalid" && this.route.ruleOut()) return this.retry("later", failure.retryAfterMs);
    if (close?.name === "ticket_invalid" || close?.name === "ticket_expired") {
      // The place is gone; the desk may give another.
      this.ticket = undefined;
      return this.retry("now", failure.retryAfterMs);
    }
    if (close?.retry === "never") return this.become({ phase: "closed", close, reason: failure.reason });
    this.route.failed();
    // A path that broke, or a relay that is about to come back: every second counts.
    this.retry(close?.retry ?? "now", failure.retryAfterMs);
  }

  private transportHandler(transport: Transport): TransportHandler {
    const { handler } = this;
    // A transport that was given up may still hand over what it was in the middle of.
    const isPresent = () => this.transport === transport;
    return {
      ready() {},
      opened() {},
      arrived: (inlet) => {
        if (!isPresent()) return;
        this.heardAt = this.options.clock.now();
        if (inlet.key.kind !== LaneKind.Control) handler.arrived(inlet);
      },
      record: (inlet, record) => isPresent() && this.received(inlet, record),
      ended: (inlet) => isPresent() && handler.ended(inlet),
      credit: (lane, bytes) => isPresent() && this.send({ case: "credit", value: { lane, bytes: BigInt(bytes) } }),
      closed: (ending) => isPresent() && this.lose(ending),
    };
  }

  private received(inlet: Inlet, record: Record): void {
    if (inlet.key.kind !== LaneKind.Control) {
      // What is sealed cannot be read by this version.
      if (this.positions.accept(inlet.key, record.header) && !(record.header.flags & Flag.Sealed)) {
        this.handler.record(inlet, record);
      }
      return;
    }
    const message = readControl(record);
    switch (message.case) {
      case "ping":
        return this.send({ case: "pong", value: { id: message.value.id, timeUs: message.value.timeUs } });
      case "credit":
        return this.transport?.raise(message.value.lane, Number(message.value.bytes));
      case "goAway":
        return this.goAway(message.value);
      case "move":
        return this.goOver();
      default:
        this.handler.control(message);
    }
  }

  /** The relay leaves service: goes where it says, when it says, or stays and comes back to the same address. */
  private goAway({ deadlineMs, alternatives, spreadMs, leaveMs }: GoAway): void {
    const { transport } = this;
    this.cancelLeave?.();
    this.cancelLeave = undefined;
    if (!this.mover?.isMoving) this.stay(closeNamed("going_away"), "");
    if (!this.route.leave(alternatives)) {
      this.spreadMs = Math.min(spreadMs, SPREAD_MAX_MS);
      return;
    }
    this.cancelLeave = this.options.clock.after(Math.min(leaveMs, deadlineMs, SPREAD_MAX_MS), () => {
      if (this.transport === transport) this.resume(closeNamed("going_away"), "the relay leaves service");
    });
  }

  private lose(ending: Ending): void {
    this.leaveBehind(this.transport);
    this.cancelLeave?.();
    const { close } = ending;
    this.stay(close ?? closeNamed("silent"), ending.reason);
    this.handler.lost();
    // A welcomed connection loses a race only against its own twin: the relay has kept the other one.
    if (close?.retry === "never" && close.name !== "race_lost") {
      this.become({ phase: "closed", close, reason: ending.reason });
    } else {
      const spread = close?.name === "going_away" ? this.options.chance.random() * this.spreadMs : 0;
      this.retry(close?.retry === "later" ? "later" : "now", spread);
    }
  }

  /** Looks for nothing better any more, and gives up what was found; of what was said on the way there, what is still meant is kept. */
  private stay(close: Close, reason: string): void {
    this.mover?.cancel(close, reason);
    this.mover = undefined;
    this.carried = this.carried.filter(isStillMeant);
  }

  private retry(retry: Retry, leastMs: number): void {
    const wait = backoff(
      retry === "now" ? "now" : "later",
      Math.max(this.attempt - 1, 0),
      leastMs,
      this.options.chance,
    );
    this.cancelRetry = this.options.clock.after(wait, () => this.connect());
    if (this.welcomed) this.become({ phase: "reconnecting", attempt: this.attempt, retryInMs: wait });
    else this.become({ phase: "connecting" });
  }

  /** Asks after one and a half silent heartbeats, gives up after three. */
  private watch(): void {
    this.cancelWatch?.();
    if (!this.heartbeatMs) return;
    const { clock } = this.options;
    const silent = clock.now() - this.heardAt;
    const most = HEARTBEATS_SILENT * this.heartbeatMs;
    if (silent >= most) return this.resume(closeNamed("silent"), "nothing was heard for three heartbeats");
    if (silent >= most / 2) this.send({ case: "ping", value: { timeUs: stamp(clock) } });
    const next = silent >= most / 2 ? most : most / 2;
    this.cancelWatch = clock.after(next - silent, () => this.watch());
  }

  private abandon(close: Close, reason: string): void {
    this.cancelRetry?.();
    this.cancelRetry = undefined;
    this.cancelWatch?.();
    this.cancelLeave?.();
    this.dial?.cancel();
    this.stay(close, reason);
    this.carried = [];
    const { transport } = this;
    this.transport = undefined;
    transport?.close(close, reason);
  }
}
