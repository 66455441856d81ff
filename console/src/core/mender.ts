// Pictures that went stale: a start and a key are asked for. If no key comes, the connection is begun anew with nothing in
// hand; if that does not help either, it is hopeless.
import type { Clock } from "./clock";

/** A key that was asked for comes within this time, or the connection is begun anew, ms. */
const PATIENCE_MS = 5000;
/** A connection is begun anew so many times within a minute before that is called a failure. */
const ANEW_MAX = 3;
const ANEW_WINDOW_MS = 60_000;

export interface MenderOptions {
  readonly clock: Clock;
  /** Asks for a start and a key. */
  readonly want: (display: number, rendition: number) => void;
  /** No key came: everything is to begin anew, or, if that has not helped before, to end. */
  readonly anew: (display: number, isHopeless: boolean) => void;
}

export class Mender {
  /** Displays whose picture is stale, with what calls off the waiting for their key. */
  private readonly stale = new Map<number, () => void>();
  /** When connections were begun anew. */
  private times: number[] = [];

  constructor(private readonly options: MenderOptions) {}

  /** A display's picture is stale. It is asked for once until it is shown again. */
  lost(display: number, rendition: number): void {
    if (this.stale.has(display)) return;
    this.options.want(display, rendition);
    this.wait(display);
  }

  /** Displays whose picture is stale. */
  get waiting(): number[] {
    return [...this.stale.keys()];
  }

  /** A part of a display's key has come: on a narrow path the whole takes its time. */
  partOfKey(display: number): void {
    const cancel = this.stale.get(display);
    if (!cancel) return;
    cancel();
    this.wait(display);
  }

  /** A display's picture is as it should be. */
  shown(display: number): void {
    this.stale.get(display)?.();
    this.stale.delete(display);
  }

  /** For now no key can come: nobody waits for one. */
  rest(): void {
    for (const cancel of this.stale.values()) cancel();
  }

  /** Keys can come again, also those that were asked for before. */
  goOn(): void {
    this.rest();
    for (const display of this.stale.keys()) this.wait(display);
  }

  /** What was asked for was asked on a connection that is lost. The next one begins with what is shown. */
  clear(): void {
    this.rest();
    this.stale.clear();
  }

  private wait(display: number): void {
    this.stale.set(
      display,
      this.options.clock.after(PATIENCE_MS, () => this.over(display)),
    );
  }

  private over(display: number): void {
    this.stale.delete(display);
    const now = this.options.clock.now();
    this.times = [...this.times.filter((at) => at > now - ANEW_WINDOW_MS), now];
    this.options.anew(display, this.times.length > ANEW_MAX);
  }
}
