// Reaching a relay: WebTransport first, the WebSocket beside it a little later, the first that is welcomed wins. Both
// connections are one attempt, and to the relay a second `Hello` of an attempt replaces the first connection: so the
// second connection says `Hello` only once the first has had time to be answered, or is lost.
import type { Welcome } from "../gen/control_pb";
import type { Clock } from "./clock";
import { type Close, closeFromNumber, closeNamed } from "./close";
import { LaneKind } from "./lane";
import { ADMISSION_MS, RACE_HEAD_START_MS } from "./limits";
import { decodeControl } from "./message";
import { type Record, RecordError } from "./record";
import type { Ending, Inlet, Open, Transport, TransportHandler } from "./transport";

/** How long the connection that said `Hello` first is waited for before the other says it too, ms. */
const PATIENCE_MS = 1000;

/** How an attempt ends without a welcome. */
export interface Failure extends Ending {
  /** The relay asks for no other try before this has passed. */
  readonly retryAfterMs: number;
}

export interface DialOptions {
  readonly clock: Clock;
  /** In order of preference. */
  readonly openers: readonly Open[];
  /** The `Hello` record, anew for each connection. */
  readonly hello: () => Uint8Array;
  /** Without a welcome after so long it has failed, ms. */
  readonly patienceMs?: number | undefined;
  /** Called from within the welcomed transport's event: its handler is to be set before this returns. */
  readonly onWelcome: (transport: Transport, welcome: Welcome) => void;
  readonly onFailure: (failure: Failure) => void;
}

interface Runner {
  transport: Transport | undefined;
  state: "opening" | "ready" | "asked" | "over";
}

/** One attempt to connect. */
export class Dial {
  private readonly runners: Runner[] = [];
  private readonly timers: (() => void)[] = [];
  private failure: Failure = { reason: "no way to the relay", retryAfterMs: 0 };
  private isOver = false;

  constructor(private readonly options: DialOptions) {
    this.later(options.patienceMs ?? ADMISSION_MS, () =>
      this.fail({ reason: "no answer from the relay", retryAfterMs: 0 }),
    );
    this.startNext();
  }

  /** Gives the attempt up without a word to its owner. */
  cancel(): void {
    this.finish(undefined);
  }

  private later(ms: number, task: () => void): void {
    this.timers.push(this.options.clock.after(ms, () => !this.isOver && task()));
  }

  private startNext(): void {
    const open = this.options.openers[this.runners.length];
    if (!open) return this.failIfAllOver();
    const runner: Runner = { transport: undefined, state: "opening" };
    this.runners.push(runner);
    const position = this.runners.length;
    this.later(RACE_HEAD_START_MS, () => this.runners.length === position && this.startNext());
    try {
      runner.transport = open(this.handler(runner));
    } catch (error) {
      // Browsers throw at once where a binding is not to be had.
      this.over(runner, { reason: String(error) });
    }
  }

  private handler(runner: Runner): TransportHandler {
    return {
      ready: () => {
        runner.state = "ready";
        this.ask(runner);
      },
      record: (inlet, record) => this.answer(runner, inlet, record),
      closed: (ending) => this.over(runner, ending),
      arrived() {},
      opened() {},
      ended() {},
      credit() {},
    };
  }

  /** Says `Hello` unless another connection is waiting for its answer. */
  private ask(runner: Runner): void {
    if (this.isOver || runner.state !== "ready") return;
    if (this.runners.some((other) => other.state === "asked")) {
      this.later(PATIENCE_MS, () => this.say(runner));
    } else {
      this.say(runner);
    }
  }

  private say(runner: Runner): void {
    if (runner.state !== "ready") return;
    runner.state = "asked";
    runner.transport?.control(this.options.hello());
  }

  private answer(runner: Runner, inlet: Inlet, record: Record): void {
    if (this.isOver || inlet.key.kind !== LaneKind.Control) return;
    const message = readControl(record);
    if (message.case === "welcome" && runner.transport) {
      const { transport } = runner;
      this.finish(runner);
      this.options.onWelcome(transport, message.value);
    } else if (message.case === "refused") {
      const { code, reason, retryAfterMs } = message.value;
      const close = closeFromNumber(code);
      // The attempt's other connection is in use, whose welcome is on its way.
      if (close.name === "race_lost") this.over(runner, { close, reason });
      else this.fail({ close, reason, retryAfterMs });
    }
  }

  private over(runner: Runner, ending: Ending): void {
    if (this.isOver || runner.state === "over") return;
    runner.state = "over";
    // A code says more than a broken path, and what was said first more than what followed.
    if (!this.failure.close) this.failure = { ...ending, retryAfterMs: 0 };
    if (isFinal(ending.close)) return this.fail(this.failure);
    for (const other of this.runners) if (other.state === "ready") this.say(other);
    if (this.runners.at(-1) === runner) this.startNext();
    this.failIfAllOver();
  }

  private failIfAllOver(): void {
    const isAll = this.runners.length === this.options.openers.length;
    if (isAll && this.runners.every((runner) => runner.state === "over")) this.fail(this.failure);
  }

  private fail(failure: Failure): void {
    if (this.isOver) return;
    this.finish(undefined);
    this.options.onFailure(failure);
  }

  private finish(winner: Runner | undefined): void {
    this.isOver = true;
    for (const cancel of this.timers) cancel();
    for (const runner of this.runners) {
      if (runner !== winner) runner.transport?.close(closeNamed("race_lost"), "");
    }
  }
}

/** Whether the relay's answer would be the same on every other connection of the attempt. */
function isFinal(close: Close | undefined): boolean {
  return close?.retry === "never" && close.name !== "race_lost";
}

/** A control record's message. Throws a RecordError if it is none. */
export function readControl(record: Record): ReturnType<typeof decodeControl> {
  try {
    return decodeControl(record.body);
  } catch (error) {
    throw new RecordError(`not a control message: ${error}`);
  }
}
