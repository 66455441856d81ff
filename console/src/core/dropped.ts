// Input that did not arrive, by kind: what the page shows of it.

/** Input that was not delivered, by what it was. Motion is not counted: the next one says it all. */
export interface Dropped {
  readonly keys: number;
  readonly texts: number;
  readonly clicks: number;
  readonly wheels: number;
}

export const NOTHING_DROPPED: Dropped = { keys: 0, texts: 0, clicks: 0, wheels: 0 };
