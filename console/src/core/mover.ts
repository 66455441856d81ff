// The way from a WebSocket to WebTransport while the session goes on (docs/protocol.md, section 4): who had to do without
// UDP looks for it now and then. A connection is made beside the WebSocket, and says nothing yet. Then our lanes rest, and
// `Move` says so; the relay does the same and answers. Now nothing is on its way in either direction, and the ticket brings
// us back in over the new connection, where every lane goes on with its next record.
import type { Welcome } from "../gen/control_pb";
import type { Chance, Clock } from "./clock";
import { type Close, closeNamed } from "./close";
import { Dial } from "./dial";
import { ADMISSION_MS } from "./limits";
import { DEAF, type Open, type Transport } from "./transport";

/** How long a WebSocket lasts before WebTransport is looked for, at first and at most, ms. */
export const LOOK_AFTER_MS = 5000;
const LOOK_AFTER_MOST_MS = 300_000;
/** A WebTransport connection that was heard for so long was worth it, ms: else it may be let through for moments only, and each of those
 * costs the session a moment. */
export const LASTS_MS = LOOK_AFTER_MOST_MS;
/** How long the relay may take to let us go, and then to welcome us, ms; after that the connection counts as lost. */
const ANSWER_MS = 3000;
/**
 * With a round trip of more than this nobody goes over, ms: it takes two, by which what is typed meanwhile is late, and input may be no older
 * than a second.
 */
export const ROUND_TRIP_MAX_MS = 300;

/** How long to wait the next time, after so long. */
export function longer(waitMs: number): number {
  return Math.min(2 * waitMs, LOOK_AFTER_MOST_MS);
}

export interface MoverOptions {
  readonly clock: Clock;
  readonly chance: Chance;
  /** The first look is after about so long, ms. */
  readonly firstMs: number;
  /** Whether this is a time to go over; if not, it is put off. Asked before each look, and again when it has found something. */
  readonly mayMove: () => boolean;
  /** The ways to the relay, best first. */
  readonly ways: () => Promise<readonly Open[]>;
  /** There is a connection: lanes are to rest, and the relay is to be told. */
  readonly onFound: () => void;
  /** From within the new transport's event: its handler is to be set before this returns. The old one is closed afterwards. */
  readonly onWelcome: (transport: Transport, welcome: Welcome) => void;
  /** The relay was told, and nothing came of it. */
  readonly onFailure: (reason: string) => void;
}

/** Of one connection over a WebSocket. */
export class Mover {
  private phase: "looks" | "leaves" | "joins" | "over" = "looks";
  private better: Transport | undefined;
  private old: Transport | undefined;
  private dial: Dial | undefined;
  private cancelTimer: () => void = () => {};

  constructor(private readonly options: MoverOptions) {
    this.later(options.firstMs);
  }

  /** The relay was told: nothing but control leaves the WebSocket any more. */
  get isMoving(): boolean {
    return this.phase === "leaves" || this.phase === "joins";
  }

  /** The relay lets us go. The old connection stays until we are seated on the new one: else we would have left for a moment. */
  join(old: Transport, hello: () => Uint8Array): void {
    const { better, options } = this;
    if (this.phase !== "leaves" || !better) return;
    this.cancelTimer();
    this.phase = "joins";
    this.old = old;
    this.dial = new Dial({
      clock: options.clock,
      openers: [opened(better)],
      hello,
      patienceMs: ANSWER_MS,
      onWelcome: (transport, welcome) => {
        this.phase = "over";
        options.onWelcome(transport, welcome);
        old.close(closeNamed("replaced"), "");
      },
      onFailure: ({ reason }) => this.fail(reason),
    });
  }

  /** Gives it up, and both connections if the relay let us go. */
  cancel(close: Close, reason: string): void {
    if (this.phase === "over") return;
    this.phase = "over";
    this.cancelTimer();
    this.drop(close, reason);
    this.dial?.cancel();
    this.old?.close(close, reason);
  }

  private later(waitMs: number): void {
    const { clock, chance } = this.options;
    // Those who lost it together do not look together.
    const part = 0.75 + chance.random() / 2;
    this.cancelTimer = clock.after(waitMs * part, () => this.look(waitMs));
  }

  private look(waitMs: number): void {
    if (!this.options.mayMove()) return this.later(waitMs);
    this.options.ways().then(
      (ways) => this.phase === "looks" && this.open(ways, waitMs),
      () => this.phase === "looks" && this.later(longer(waitMs)),
    );
  }

  private open([best, ...others]: readonly Open[], waitMs: number): void {
    const missed = () => {
      this.cancelTimer();
      this.drop(closeNamed("race_lost"), "");
      this.later(longer(waitMs));
    };
    this.cancelTimer = this.options.clock.after(ADMISSION_MS, missed);
    // The last way is what we have.
    if (!best || others.length === 0) return missed();
    try {
      this.better = best({ ...DEAF, ready: () => this.found(waitMs), closed: missed });
    } catch {
      missed();
    }
  }

  private found(waitMs: number): void {
    const { better, options } = this;
    if (this.phase !== "looks" || !better) return;
    this.cancelTimer();
    if (!options.mayMove()) {
      this.drop(closeNamed("race_lost"), "");
      return this.later(waitMs);
    }
    this.phase = "leaves";
    better.handler = { ...DEAF, closed: ({ reason }) => this.fail(reason) };
    this.cancelTimer = options.clock.after(ANSWER_MS, () => this.fail("the relay did not let us go over"));
    options.onFound();
  }

  private fail(reason: string): void {
    if (!this.isMoving) return;
    this.cancel(closeNamed("silent"), reason);
    this.options.onFailure(reason);
  }

  private drop(close: Close, reason: string): void {
    const { better } = this;
    this.better = undefined;
    if (!better) return;
    better.handler = DEAF;
    better.close(close, reason);
  }
}

/** A connection that is open already, as one to be dialled. */
function opened(transport: Transport): Open {
  return (handler) => {
    transport.handler = handler;
    // Not from within this call: an event never is.
    queueMicrotask(() => handler.ready());
    return transport;
  };
}
