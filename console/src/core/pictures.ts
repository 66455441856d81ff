// What arrives of screens: handed to who shows it, acknowledged, and mended when it can be shown no more.
import { Acks, type Shown } from "./acks";
import type { Clock } from "./clock";
import { type LaneKey, LaneKind, laneName } from "./lane";
import { Mender } from "./mender";
import type { ControlInit } from "./message";
import type { Positions } from "./positions";
import { type Point, type Record, ScreenKind } from "./record";
import type { Inlet } from "./transport";

/** What becomes of a screen's record: shown; held or not needed; or the picture is stale until a start and a key come. */
export type Fate = "applied" | "passed" | "lost";

/** Where screens go. */
export interface ScreenSink {
  /** Takes a record of a screen or key lane. */
  apply(lane: LaneKey, record: Record): Fate;
  /** A key lane was opened, perhaps again: what was begun on the one before does not go on. */
  keyLaneOpened(lane: LaneKey): void;
  /** What a display shows, if it is of this rendition. */
  shown(display: number, rendition: number): Shown;
  showing(): { display: number; point: Point }[];
  /** Forgets a display's pictures, or all. */
  forget(display?: number): void;
}

export interface PicturesOptions {
  readonly clock: Clock;
  readonly sink: ScreenSink;
  readonly send: (message: ControlInit) => void;
  readonly positions: () => Positions;
  /** A picture went stale and no key came: the connection is to begin anew with nothing in hand, or, if that has not helped, to end. */
  readonly anew: (isHopeless: boolean) => void;
}

export class Pictures {
  private readonly acks: Acks;
  private readonly mender: Mender;
  /** The newest opening of each key lane. */
  private readonly keyLanes = new Map<string, Inlet>();

  constructor(private readonly options: PicturesOptions) {
    const { clock, sink, send, positions, anew } = options;
    this.acks = new Acks(
      clock,
      send,
      (inlet) => positions().of(inlet.key),
      (inlet) => sink.shown(inlet.key.display, inlet.key.rendition),
    );
    this.mender = new Mender({
      clock,
      want: (display, rendition) => send({ case: "want", value: { display, rendition, start: true, key: true } }),
      anew: (display, isHopeless) => {
        sink.forget(display);
        anew(isHopeless);
      },
    });
  }

  /** Bytes of a lane have arrived. */
  arrived(inlet: Inlet): void {
    if (isScreen(inlet.key)) this.acks.arrived(inlet);
  }

  ended(inlet: Inlet): void {
    this.acks.ended(inlet);
  }

  /** A record of a screen or key lane. */
  record(inlet: Inlet, record: Record): Fate {
    const lane = inlet.key;
    this.noteKeyLane(inlet);
    const isKey = lane.kind === LaneKind.Key;
    const fate = this.options.sink.apply(lane, record);
    // An update that was on its way already, and can be applied, brings back no video that was lost: that begins with a start.
    const begins = isKey || record.header.screen?.kind === ScreenKind.Start;
    if (fate === "lost") this.mender.lost(lane.display, lane.rendition);
    else if (fate === "applied" && begins) this.mender.shown(lane.display);
    else if (isKey) this.mender.partOfKey(lane.display);
    return fate;
  }

  /** A display's picture is stale: asks for a start and a key. */
  lost(display: number, rendition: number): void {
    this.mender.lost(display, rendition);
  }

  /** A connection is there. */
  connected(): void {
    this.mender.goOn();
  }

  /**
   * Nothing more comes over this connection. What has arrived but is not shown is wanted again on the next; what is stale is
   * forgotten, so that it is not named as shown there and begins anew, with whatever key the relay has.
   */
  leaving(): void {
    this.acks.clear();
    for (const display of this.mender.waiting) this.options.sink.forget(display);
    this.mender.rest();
    const positions = this.options.positions();
    for (const { lane } of positions.list()) {
      if (lane.kind !== LaneKind.Screen) continue;
      const { applied } = this.options.sink.shown(lane.display, lane.rendition);
      positions.rewind(lane, applied && applied.seq + 1n);
    }
  }

  /** The connection is lost, and what was asked for on it. */
  disconnected(): void {
    this.leaving();
    this.mender.clear();
  }

  private noteKeyLane(inlet: Inlet): void {
    if (inlet.key.kind !== LaneKind.Key) return;
    const name = laneName(inlet.key);
    if (this.keyLanes.get(name) === inlet) return;
    this.keyLanes.set(name, inlet);
    this.options.sink.keyLaneOpened(inlet.key);
  }
}

function isScreen({ kind }: LaneKey): boolean {
  return kind === LaneKind.Screen || kind === LaneKind.Key;
}
