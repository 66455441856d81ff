// Time and chance come in through these, so that tests can fix them.

/** A monotonic clock with timers. */
export interface Clock {
  /** Milliseconds since an arbitrary moment, with fractions. */
  now(): number;
  /** Runs `task` once after `ms`; the answer calls it off. */
  after(ms: number, task: () => void): () => void;
}

/** Random numbers: `random()` in [0, 1), `bytes(n)` good enough for identifiers. */
export interface Chance {
  random(): number;
  bytes(length: number): Uint8Array;
}

/** The browser's clock. */
export const systemClock: Clock = {
  now: () => performance.now(),
  after(ms, task) {
    const timer = setTimeout(task, ms);
    return () => clearTimeout(timer);
  },
};

/** The browser's random numbers. */
export const systemChance: Chance = {
  random: () => Math.random(),
  bytes: (length) => crypto.getRandomValues(new Uint8Array(length)),
};

/** 64 random bits. */
export function randomU64(chance: Chance): bigint {
  const bytes = chance.bytes(8);
  return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
}
