// What has arrived of everybody's lanes: a record that came before is ignored, and a resume says from where to go on.
import { type LaneKey, LaneKind, laneName } from "./lane";
import type { Header } from "./record";

/** Lanes whose positions a `Hello` can name within the 4 KiB that it may take. */
const NAMED_MAX = 48;

export interface LanePosition {
  readonly lane: LaneKey;
  readonly epoch: bigint;
  /** The first record that has not been received. */
  readonly nextSeq: bigint;
}

export class Positions {
  private readonly lanes = new Map<string, LanePosition>();

  /** Notes a record and says whether it is new. Keys carry another lane's numbers and are always new. */
  accept(lane: LaneKey, header: Header): boolean {
    if (lane.kind === LaneKind.Key || lane.kind === LaneKind.Control) return true;
    const name = laneName(lane);
    const before = this.lanes.get(name);
    if (before && before.epoch === header.epoch && header.seq < before.nextSeq) return false;
    // The lanes of which something came last are the last ones.
    this.lanes.delete(name);
    this.lanes.set(name, { lane, epoch: header.epoch, nextSeq: header.seq + 1n });
    return true;
  }

  /** The position of a lane, if anything came of it. */
  of(lane: LaneKey): LanePosition | undefined {
    return this.lanes.get(laneName(lane));
  }

  /** Puts a lane back: to what was really used of it, or to nothing. */
  rewind(lane: LaneKey, nextSeq: bigint | undefined): void {
    const before = this.lanes.get(laneName(lane));
    if (!before) return;
    if (nextSeq === undefined) this.lanes.delete(laneName(lane));
    else this.lanes.set(laneName(lane), { ...before, nextSeq });
  }

  /** Forgets everything: whoever joins anew is sent everything anew. */
  clear(): void {
    this.lanes.clear();
  }

  /** All of them; if there are too many to name, screens, since what is shown is of their epoch, and those of which something came last. */
  list(): LanePosition[] {
    const all = [...this.lanes.values()];
    const isScreen = ({ lane }: LanePosition) => lane.kind === LaneKind.Screen;
    const screens = all.filter(isScreen);
    return [...all.filter((one) => !isScreen(one)), ...screens].slice(-NAMED_MAX);
  }
}
