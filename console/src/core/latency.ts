// How far away the other end is: round trips by pings, and from the publisher's answers how its clock relates to ours,
// which tells the age of what it sends without comparing two computers' clocks.
import type { Clock } from "./clock";

/** How many of the newest round trips are kept; the shortest of them is the least disturbed. */
const KEPT = 8;

interface Sample {
  readonly roundTripMs: number;
  /** Ours minus theirs, ms. */
  readonly offsetMs: number;
}

/** What a ping carries: the time by this end's clock, µs. */
export function stamp(clock: Clock): bigint {
  return BigInt(Math.round(clock.now() * 1000));
}

export class Latency {
  private samples: Sample[] = [];

  constructor(private readonly clock: Clock) {}

  stamp(): bigint {
    return stamp(this.clock);
  }

  /** An answer: our stamp, and the answerer's clock in its epoch if it says. */
  answered(stamp: bigint, theirsUs: bigint | undefined): void {
    const now = this.clock.now();
    const sentAt = Number(stamp) / 1000;
    const roundTripMs = now - sentAt;
    if (!(roundTripMs >= 0 && roundTripMs < 600_000)) return;
    const theirs = theirsUs === undefined ? Number.NaN : Number(theirsUs) / 1000;
    this.samples = [...this.samples.slice(1 - KEPT), { roundTripMs, offsetMs: (sentAt + now) / 2 - theirs }];
  }

  /** The newest round trip, ms. */
  get roundTripMs(): number | undefined {
    return this.samples.at(-1)?.roundTripMs;
  }

  /** How long ago the answerer's clock said `timeUs`, ms, by the least disturbed round trip. */
  age(timeUs: bigint): number | undefined {
    if (this.samples.length === 0) return undefined;
    const best = this.samples.reduce((a, b) => (b.roundTripMs < a.roundTripMs ? b : a));
    const age = this.clock.now() - best.offsetMs - Number(timeUs) / 1000;
    return Number.isNaN(age) ? undefined : age;
  }

  /** Another answerer. */
  clear(): void {
    this.samples = [];
  }
}
