// How long to wait before the next try: full jitter, so that a relay that comes back is not met by everybody at once.
import type { Chance } from "./clock";
import type { Retry } from "./close";

const BASE_MS = { now: 250, later: 1000 } as const;
const MOST_MS = { now: 10_000, later: 30_000 } as const;

/** The wait before try number `attempt` (from 0), ms; at least `leastMs`, which the relay has asked for. */
export function backoff(retry: Exclude<Retry, "never">, attempt: number, leastMs: number, chance: Chance): number {
  const most = Math.min(BASE_MS[retry] * 2 ** Math.min(attempt, 16), MOST_MS[retry]);
  return leastMs + chance.random() * most;
}
