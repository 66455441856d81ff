// A technician in a session: one connection, and what becomes of what arrives on it. Tells the page what is the case,
// feeds screens to their sink, and sends what the technician does. Knows nothing of the DOM.
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  CapabilitiesSchema,
  EndReason,
  type Participant,
  Right,
  Role,
  type Roster,
  SessionState,
  type Welcome,
} from "../gen/control_pb";
import {
  type CursorPosition,
  CursorPositionSchema,
  type CursorShape,
  CursorShapeSchema,
  type DisplayLayout,
  DisplayLayoutSchema,
  PeerPingSchema,
  PeerPongSchema,
} from "../gen/peer_pb";
import { closeNamed } from "./close";
import { type Arrival, Connection, type ConnectionOptions, type ConnectionState } from "./connection";
import { type Dropped, NOTHING_DROPPED } from "./dropped";
import { InputSender, type Sent } from "./input";
import { receivedOf } from "./joining";
import { LaneKind, plainLane } from "./lane";
import { Latency } from "./latency";
import { type ControlMessage, laneOf, RecordType } from "./message";
import { ROUND_TRIP_MAX_MS } from "./mover";
import { PeerSender } from "./peer";
import { Pictures, type ScreenSink } from "./pictures";
import type { Record } from "./record";
import type { Inlet } from "./transport";

/** While something happens, round trips are measured this often, ms. */
const PING_EVERY_MS = 2000;
/** What the console has a use for, as soon as the customer agrees. */
const WANTED = [Right.VIEW, Right.CONTROL];
/** The customer's program restates its grants within this time after a resume, ms. */
const RESTATE_MS = 3000;

/** What the page knows of the session. */
export interface SessionView {
  readonly connection: ConnectionState;
  readonly state: SessionState;
  readonly end: EndReason;
  readonly self: number;
  readonly role: Role;
  readonly participants: readonly Participant[];
  /** The customer's program is connected. */
  readonly isCustomerOnline: boolean;
  readonly permitted: readonly Right[];
  /** What the customer has granted; through a resume, what was granted before it. */
  readonly rights: readonly Right[];
  /** The customer has been asked and has not answered. */
  readonly isAsking: boolean;
  /** The customer's last answer was no, or none. */
  readonly isDeclined: boolean;
  readonly layout: DisplayLayout | undefined;
  /** The display that is shown. */
  readonly display: number | undefined;
  readonly dropped: Dropped;
  /** From here to the customer's computer and back, ms. */
  readonly latencyMs: number | undefined;
  /** From here to the relay and back, ms. */
  readonly relayMs: number | undefined;
}

export interface SessionStatistics {
  readonly bytesReceived: number;
  /** How old the newest picture was when it was applied, ms; nothing before the clocks are known. */
  readonly pictureAgeMs: number | undefined;
  readonly unacknowledgedInputBytes: number;
  /** Messages of the other end that could not be read. */
  readonly malformed: number;
}

export interface SessionOptions extends ConnectionOptions {
  readonly sink: ScreenSink;
  readonly onView: (view: SessionView) => void;
  readonly onCursorShape: (shape: CursorShape) => void;
  readonly onCursorPosition: (position: CursorPosition) => void;
  /** The secret that brings this participant back after the page was loaded again. */
  readonly onTicket: (ticket: Uint8Array) => void;
  readonly onSent?: ((sent: Sent) => void) | undefined;
}

export class Session {
  readonly input: InputSender;
  private readonly connection: Connection;
  private readonly latency: Latency;
  private readonly relayLatency: Latency;
  private readonly peer: PeerSender;
  private readonly pictures: Pictures;
  private pingId = 0n;
  private pingedAt = Number.NEGATIVE_INFINITY;
  private pictureAgeMs: number | undefined;
  private askedPublisher: number | undefined;
  /** The customer's program that is there now knows what can be decoded here. */
  private hasToldPublisher = false;
  private isVisible = true;
  private malformed = 0;
  /** When this end or the customer's last came back. */
  private returnedAt = Number.NEGATIVE_INFINITY;
  private cancelSettling: (() => void) | undefined;
  private view: SessionView = {
    connection: { phase: "connecting" },
    state: SessionState.UNSPECIFIED,
    end: EndReason.UNSPECIFIED,
    self: 0,
    role: Role.UNSPECIFIED,
    participants: [],
    isCustomerOnline: false,
    permitted: [],
    rights: [],
    isAsking: false,
    isDeclined: false,
    layout: undefined,
    display: undefined,
    dropped: NOTHING_DROPPED,
    latencyMs: undefined,
    relayMs: undefined,
  };

  constructor(private readonly options: SessionOptions) {
    const { clock } = options;
    this.latency = new Latency(clock);
    this.relayLatency = new Latency(clock);
    this.connection = new Connection(options, {
      state: (connection) => this.update({ connection }),
      welcome: (welcome, arrival) => this.welcomed(welcome, arrival),
      showing: () => options.sink.showing(),
      control: (message) => this.control(message),
      arrived: (inlet) => this.pictures.arrived(inlet),
      record: (inlet, record) => this.record(inlet, record),
      ended: (inlet) => this.pictures.ended(inlet),
      lost: () => this.lost(),
      // A hidden page may be frozen half-way.
      mayMove: () => this.isVisible && (this.relayLatency.roundTripMs ?? 0) <= ROUND_TRIP_MAX_MS,
      // Input keeps what is not acknowledged, and of what it has sent the next welcome tells.
      resting: (half) => this.peer.again(half),
      leaving: () => this.pictures.leaving(),
    });
    this.peer = new PeerSender((type, seq) => this.connection.header(type, seq));
    this.pictures = new Pictures({
      clock,
      sink: options.sink,
      send: (message) => this.connection.send(message),
      positions: () => this.connection.positions,
      anew: (isHopeless) => this.anew(isHopeless),
    });
    this.input = new InputSender({
      clock,
      header: (type, seq) => this.connection.header(type, seq),
      onDropped: (dropped) => this.update({ dropped }),
      onSent: (sent) => {
        options.onSent?.(sent);
        this.ping();
      },
    });
  }

  start(): void {
    this.connection.start();
  }

  /** Leaves; the session goes on. */
  leave(): void {
    this.input.releaseAll();
    this.connection.stop(closeNamed("left"), "the technician left");
  }

  /** Ends the session for all. False while there is no connection. If this one is lost before the relay agrees, it is said on the next. */
  end(): boolean {
    if (!this.connection.isOpen) return false;
    const reason = EndReason.CLOSED_BY_TECHNICIAN;
    this.connection.send({ case: "end", value: { reason } });
    // The relay's own word may not come any more.
    this.update({ end: reason });
    return true;
  }

  retryNow(): void {
    this.connection.retryNow();
  }

  /** Asks the customer for what the console needs, as `end` ends. */
  ask(): void {
    const rights = WANTED.filter((right) => this.view.permitted.includes(right));
    this.connection.send({ case: "ask", value: { rights } });
    this.update({ isDeclined: false });
  }

  /** Whether anybody can see the picture: a hidden page paces nobody. */
  setVisible(isVisible: boolean): void {
    if (isVisible === this.isVisible) return;
    this.isVisible = isVisible;
    this.sayVisible();
  }

  /** Shows another display. */
  show(display: number): void {
    const before = this.view.display;
    if (before === display) return;
    if (before !== undefined) this.connection.send({ case: "visible", value: { display: before, visible: false } });
    this.update({ display });
    this.sayVisible();
  }

  statistics(): SessionStatistics {
    return {
      bytesReceived: this.connection.bytesReceived,
      pictureAgeMs: this.pictureAgeMs,
      unacknowledgedInputBytes: this.input.unacknowledgedBytes,
      malformed: this.malformed,
    };
  }

  private update(change: Partial<SessionView>): void {
    this.view = { ...this.view, ...change };
    this.options.onView(this.view);
  }

  private welcomed(welcome: Welcome, arrival: Arrival): void {
    this.options.onTicket(welcome.ticket);
    if (arrival === "fresh") {
      this.options.sink.forget();
      this.askedPublisher = undefined;
      // If the session was to end, the relay was not told: it took this participant in anew.
      this.update({ end: EndReason.UNSPECIFIED });
    }
    if (arrival !== "moved") {
      this.hasToldPublisher = false;
      this.returnedAt = this.options.clock.now();
    }
    this.update({ self: welcome.sender, role: welcome.role, permitted: welcome.permitted });
    this.openInput(receivedOf(welcome, plainLane(LaneKind.Input, welcome.sender), this.connection.epoch));
    this.peer.connect((source) => this.connection.open(LaneKind.Peer, source));
    this.pictures.connected();
    this.sayVisible();
    this.pingedAt = Number.NEGATIVE_INFINITY;
    this.ping();
  }

  private openInput(from: bigint | undefined): void {
    const { connection } = this;
    this.input.connect(connection.sender, from, (source) => connection.open(LaneKind.Input, source));
  }

  private lost(): void {
    this.pictures.disconnected();
    this.input.disconnect();
    this.peer.disconnect();
  }

  private control(message: ControlMessage): void {
    switch (message.case) {
      case "roster":
        return this.roster(message.value);
      case "pong":
        this.relayLatency.answered(message.value.timeUs, undefined);
        return this.update({ relayMs: this.relayLatency.roundTripMs });
      case "ack": {
        const lane = laneOf(message.value.lane);
        const isOurs = lane?.kind === LaneKind.Input && lane.sender === this.connection.sender;
        if (isOurs && message.value.epoch === this.connection.epoch) {
          this.input.acknowledged(message.value.receivedNextSeq);
        }
        return;
      }
      case "reopen": {
        const lane = laneOf(message.value.lane);
        if (lane?.kind === LaneKind.Input && lane.sender === this.connection.sender) this.openInput(undefined);
        return;
      }
      case "end":
        // The first word counts.
        if (this.view.end === EndReason.UNSPECIFIED) this.update({ end: message.value.reason });
        return this.connection.stop(closeNamed("ended"), "the session has ended");
    }
  }

  private roster(roster: Roster): void {
    const { participants, state } = roster;
    const self = participants.find((one) => one.sender === this.connection.sender);
    const publisher = participants.find((one) => one.publisher);
    const isCustomerOnline = publisher?.online ?? false;
    if (isCustomerOnline && !this.view.isCustomerOnline) this.returnedAt = this.options.clock.now();
    const rights = this.settle(self?.rights ?? [], isCustomerOnline);
    const isAsking = self?.asking ?? false;
    const wasAsking = this.view.isAsking;
    const hasAll = WANTED.every((right) => rights.includes(right) || !this.view.permitted.includes(right));
    this.update({
      state,
      participants,
      isCustomerOnline,
      rights,
      isAsking,
      isDeclined: (this.view.isDeclined || (wasAsking && !isAsking)) && !isAsking && !hasAll,
    });
    if (roster.heartbeatMs > 0) this.connection.expectHeartbeat(roster.heartbeatMs);
    if (publisher?.online && this.askedPublisher !== publisher.sender) {
      // Once for each customer's program: what was granted before a resume is restated without being asked for.
      this.askedPublisher = publisher.sender;
      if (!rights.includes(Right.VIEW) && !isAsking) this.ask();
    }
    this.tellPublisher(isCustomerOnline);
    if (publisher?.online) this.ping();
    else this.latency.clear();
  }

  /** Tells each customer's program, whenever it has come, what can be decoded here. */
  private tellPublisher(isOnline: boolean): void {
    if (isOnline && !this.hasToldPublisher) {
      const { codecs, h264Levels } = this.options;
      const capabilities = { codecs: [...codecs], h264Levels: [...h264Levels] };
      this.peer.say(RecordType.Capabilities, toBinary(CapabilitiesSchema, create(CapabilitiesSchema, capabilities)));
    }
    this.hasToldPublisher = isOnline;
  }

  /**
   * After a resume of either end no right holds until the customer's program has restated it. What the technician does
   * meanwhile is kept and sent again (or shown as dropped), so for that moment the page goes on as before.
   */
  private settle(rights: readonly Right[], isCustomerOnline: boolean): readonly Right[] {
    this.cancelSettling?.();
    this.cancelSettling = undefined;
    if (this.view.rights.every((right) => rights.includes(right))) return rights;
    if (!isCustomerOnline) return this.view.rights;
    const wait = this.returnedAt + RESTATE_MS - this.options.clock.now();
    if (wait <= 0) return rights;
    this.cancelSettling = this.options.clock.after(wait, () => this.update({ rights }));
    return this.view.rights;
  }

  private record(inlet: Inlet, record: Record): void {
    switch (inlet.key.kind) {
      case LaneKind.Screen:
      case LaneKind.Key:
        if (this.pictures.record(inlet, record) === "applied") {
          this.pictureAgeMs = this.latency.age(record.header.timeUs);
        }
        return this.ping();
      case LaneKind.Cursor:
        return this.lenient(() => this.cursor(record));
      case LaneKind.Peer:
        return this.lenient(() => this.peerRecord(record));
    }
  }

  /** The relay does not read what ends tell one another: a malformed message is no reason to leave it. */
  private lenient(read: () => void): void {
    try {
      read();
    } catch {
      this.malformed += 1;
    }
  }

  /** A display's picture is stale: asks for a start and a key. */
  pictureLost(display: number, rendition: number): void {
    this.pictures.lost(display, rendition);
  }

  /** No key has come. Resumes with nothing in hand, which begins everything anew. */
  private anew(isHopeless: boolean): void {
    const close = closeNamed("internal");
    if (isHopeless) this.connection.stop(close, "the picture cannot be decoded");
    else this.connection.resume(close, "the picture cannot be decoded");
  }

  private cursor(record: Record): void {
    if (record.header.type === RecordType.CursorShape) {
      this.options.onCursorShape(fromBinary(CursorShapeSchema, record.body));
    } else if (record.header.type === RecordType.CursorPosition) {
      this.options.onCursorPosition(fromBinary(CursorPositionSchema, record.body));
    }
  }

  private peerRecord(record: Record): void {
    const { type } = record.header;
    if (type === RecordType.DisplayLayout) {
      this.layout(fromBinary(DisplayLayoutSchema, record.body));
    } else if (type === RecordType.PeerPing) {
      const ping = fromBinary(PeerPingSchema, record.body);
      const { id, timeUs } = ping;
      const pong = { id, timeUs, to: record.header.sender, epochTimeUs: this.connection.timeUs() };
      this.peer.say(RecordType.PeerPong, toBinary(PeerPongSchema, create(PeerPongSchema, pong)));
    } else if (type === RecordType.PeerPong) {
      const pong = fromBinary(PeerPongSchema, record.body);
      if (pong.to !== this.connection.sender) return;
      this.latency.answered(pong.timeUs, pong.epochTimeUs);
      this.update({ latencyMs: this.latency.roundTripMs });
    }
  }

  private layout(layout: DisplayLayout): void {
    const { displays } = layout;
    const isThere = displays.some((one) => one.id === this.view.display);
    const display = isThere ? this.view.display : (displays.find((one) => one.primary) ?? displays[0])?.id;
    this.update({ layout, display });
    if (!isThere) this.sayVisible();
  }

  private sayVisible(): void {
    const { display } = this.view;
    if (display === undefined) return;
    this.connection.send({ case: "visible", value: { display, visible: this.isVisible, focused: true } });
  }

  /** Measures the round trips, but only while something happens: an idle session is silent. */
  private ping(): void {
    const now = this.options.clock.now();
    if (now < this.pingedAt + PING_EVERY_MS || !this.connection.isOpen) return;
    this.pingedAt = now;
    this.pingId += 1n;
    const id = this.pingId;
    this.connection.send({ case: "ping", value: { id, timeUs: this.relayLatency.stamp() } });
    if (!this.view.isCustomerOnline) return;
    const ping = { id, timeUs: this.latency.stamp() };
    this.peer.say(RecordType.PeerPing, toBinary(PeerPingSchema, create(PeerPingSchema, ping)));
  }
}
