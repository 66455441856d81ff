// Answers what tests and measurements ask: pixels as decoded and as painted, when input left and pictures came, and
// counts. Exists only when the page was opened with `?test`.
import type { Sent } from "../core/input";
import type { Session } from "../core/session";
import type { Rect } from "./decoder";
import type { DrawnEntry, Question, SentEntry } from "./messages";
import { type Drawn, overlaps, type Screens } from "./screens";

/** Entries kept of each log. */
const KEPT = 8192;

/** Worker and page count from different moments; since 1970 they agree. */
function sinceEpoch(ms: number): number {
  return performance.timeOrigin + ms;
}

export class Probe {
  private readonly sentLog: SentEntry[] = [];
  private readonly drawnLog: DrawnEntry[] = [];
  private waiting: { rect: Rect; resolve: (entry: DrawnEntry) => void }[] = [];

  constructor(
    private readonly session: Session,
    private readonly screens: Screens,
  ) {}

  sent({ type, seq, madeAt, sentAt }: Sent): void {
    if (this.sentLog.length === KEPT) this.sentLog.shift();
    this.sentLog.push({ type, seq: Number(seq), madeAt: sinceEpoch(madeAt), sentAt: sinceEpoch(sentAt) });
  }

  drawn({ rects, point }: Drawn): void {
    const entry = { at: sinceEpoch(performance.now()), seq: Number(point?.seq ?? -1n), rects };
    if (this.drawnLog.length === KEPT) this.drawnLog.shift();
    this.drawnLog.push(entry);
    const [met, waiting] = [this.waiting, [] as typeof this.waiting];
    this.waiting = waiting;
    for (const one of met) {
      if (rects.some((rect) => overlaps(rect, one.rect))) one.resolve(entry);
      else waiting.push(one);
    }
  }

  async answer(question: Question): Promise<unknown> {
    switch (question.what) {
      case "pixels":
        return this.pixels();
      case "statistics":
        return {
          ...this.session.statistics(),
          updates: this.screens.updates,
          paintings: this.screens.paintings,
          trouble: this.screens.trouble,
        };
      case "log":
        return { sent: this.sentLog, drawn: this.drawnLog };
      case "nextDraw":
        return new Promise((resolve) => this.waiting.push({ rect: question.rect, resolve }));
    }
  }

  private async pixels(): Promise<unknown> {
    const pixels = this.screens.pixels();
    if (!pixels) return undefined;
    const { decoded, painted } = pixels;
    // Copies first: the decoder's memory may move while the digests are made.
    const [fromDecoder, fromCanvas] = [decoded.data.slice(), painted.data];
    return {
      width: decoded.width,
      height: decoded.height,
      decoded: await sha256(fromDecoder),
      painted: await sha256(fromCanvas),
      rgba: fromCanvas.buffer,
    };
  }
}

async function sha256(bytes: Uint8ClampedArray): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", bytes as Uint8ClampedArray<ArrayBuffer>);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
