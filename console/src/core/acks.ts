// Acknowledgements of screen and key lanes: soon after something arrived, at most every 8 ms a lane. What could be
// decoded and painted of it is said in the same message.
import type { Clock } from "./clock";
import { ACK_EVERY_MS } from "./limits";
import type { ControlInit } from "./message";
import type { LanePosition } from "./positions";
import type { Point } from "./record";
import type { Inlet } from "./transport";

/** What a display shows of a rendition. */
export interface Shown {
  readonly applied?: Point | undefined;
  readonly drawnSeq?: bigint | undefined;
}

interface Due {
  arrivedAt: number;
  saidAt: number;
  cancel: (() => void) | undefined;
}

export class Acks {
  private readonly lanes = new Map<Inlet, Due>();

  constructor(
    private readonly clock: Clock,
    private readonly send: (message: ControlInit) => void,
    private readonly position: (inlet: Inlet) => LanePosition | undefined,
    private readonly shown: (inlet: Inlet) => Shown,
  ) {}

  /** Bytes of a lane have arrived. The acknowledgement waits for the end of the event, so that it can say what came of them. */
  arrived(inlet: Inlet): void {
    const now = this.clock.now();
    const due = this.lanes.get(inlet) ?? { arrivedAt: now, saidAt: Number.NEGATIVE_INFINITY, cancel: undefined };
    this.lanes.set(inlet, due);
    due.arrivedAt = now;
    due.cancel ??= this.clock.after(Math.max(due.saidAt + ACK_EVERY_MS - now, 0), () => this.say(inlet, due));
  }

  ended(inlet: Inlet): void {
    this.lanes.get(inlet)?.cancel?.();
    this.lanes.delete(inlet);
  }

  /** The connection is gone, and all its lanes. */
  clear(): void {
    for (const due of this.lanes.values()) due.cancel?.();
    this.lanes.clear();
  }

  private say(inlet: Inlet, due: Due): void {
    due.cancel = undefined;
    due.saidAt = this.clock.now();
    const position = this.position(inlet);
    const { applied, drawnSeq } = this.shown(inlet);
    this.send({
      case: "ack",
      value: {
        lane: inlet.key,
        receivedBytes: BigInt(inlet.received),
        epoch: position?.epoch ?? 0n,
        receivedNextSeq: position?.nextSeq ?? 0n,
        ...(applied ? { applied } : {}),
        drawnSeq: drawnSeq ?? 0n,
        ackDelayUs: Math.round((due.saidAt - due.arrivedAt) * 1000),
      },
    });
  }
}
