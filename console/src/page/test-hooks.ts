// What end-to-end tests and measurements use, as `globalThis.tandemTest`: there only when the page was opened with
// `?test`. Times are ms since 1970.
import type { Rect } from "../view/decoder";
import type { DrawnEntry, SentEntry } from "../view/messages";
import { isTest } from "./place";
import type { Viewer } from "./viewer";

interface Pixels {
  readonly width: number;
  readonly height: number;
  /** SHA-256 of the RGBA bytes as decoded, and as painted on the canvas. */
  readonly decoded: string;
  readonly painted: string;
  /** The canvas's bytes, base64; only if asked for. */
  readonly rgba?: string;
}

/** What `tandemTest` offers. */
export interface TestHooks {
  /** Nothing while there is no picture. */
  readPixels(options?: { rgba?: boolean }): Promise<Pixels | undefined>;
  /** The next painting that touches the rectangle. */
  nextDraw(rect: Rect): Promise<DrawnEntry>;
  /** Input that left the core and paintings, the newest 8192 of each. */
  log(): Promise<{ sent: SentEntry[]; drawn: DrawnEntry[] }>;
  statistics(): Promise<unknown>;
  /** What the page shows: connection, rights, latency, dropped input. */
  state(): unknown;
}

declare global {
  var tandemTest: TestHooks | undefined;
}

export function exposeForTests(viewer: Viewer): void {
  if (!isTest) return;
  globalThis.tandemTest = {
    async readPixels({ rgba = false } = {}) {
      const answer = (await viewer.ask({ what: "pixels" })) as
        | (Omit<Pixels, "rgba"> & { rgba: ArrayBuffer })
        | undefined;
      if (!answer) return undefined;
      const { rgba: bytes, ...pixels } = answer;
      return rgba ? { ...pixels, rgba: base64(new Uint8Array(bytes)) } : pixels;
    },
    nextDraw: (rect) => viewer.ask({ what: "nextDraw", rect }) as Promise<DrawnEntry>,
    log: () => viewer.ask({ what: "log" }) as Promise<{ sent: SentEntry[]; drawn: DrawnEntry[] }>,
    statistics: () => viewer.ask({ what: "statistics" }),
    state: () => plain(viewer.state.get()),
  };
}

/** As JSON has it: 64-bit numbers as text, no binary. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value, (_, item) => (typeof item === "bigint" ? item.toString() : item)));
}

function base64(bytes: Uint8Array): string {
  let text = "";
  // A call takes only so many arguments.
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}
