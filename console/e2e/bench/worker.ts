// Plays recorded records at 30 pictures a second through the console's own decoder and canvas, and notes how long each took
// from its arrival until it was painted. No connection, no page: the view worker's part alone.
import { LaneKind } from "../../src/core/lane";
import { parseRecord } from "../../src/core/record";
import { loadDecoder } from "../../src/view/decoder";
import { Screens } from "../../src/view/screens";
import { h264Levels } from "../../src/view/video";

const INTERVAL_MS = 1000 / 30;
const LANE = { kind: LaneKind.Screen, display: 0, rendition: 0, sender: 1 };
/** The last entry of a file is the last picture. */
const LAST = 0xffff_ffff;
/** Whatever is still being decoded after the last record is there by then. */
const SETTLE_MS = 500;

interface Entry {
  readonly time: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

function entries(file: ArrayBuffer): Entry[] {
  const view = new DataView(file);
  const found: Entry[] = [];
  for (let at = 0; at < file.byteLength; ) {
    const [time, length] = [view.getUint32(at, true), view.getUint32(at + 4, true)];
    found.push({ time, bytes: new Uint8Array(file, at + 8, length) });
    at += 8 + length;
  }
  return found;
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, Math.max(ms, 0)));

async function sha256(bytes: BufferSource): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function play(canvas: OffscreenCanvas, file: ArrayBuffer): Promise<unknown> {
  const took: number[] = [];
  let waiting: number[] = [];
  let skipped = 0;
  const lost: string[] = [];
  const screens = new Screens(
    await loadDecoder(),
    canvas,
    () => {
      const now = performance.now();
      took.push(...waiting.map((since) => now - since));
      skipped += Math.max(waiting.length - 1, 0);
      waiting = [];
    },
    () => {},
    () => lost.push(screens.trouble ?? "video"),
  );
  screens.show(0);
  const hasVideo = (await h264Levels()).length > 0;
  screens.setVideo(hasVideo);
  const all = entries(file);
  const last = all.at(-1);
  if (last?.time !== LAST) throw new Error("the file of records has no end");
  const began = performance.now();
  let [picture, time] = [0, all[0]?.time];
  for (const entry of all.slice(0, -1)) {
    if (entry.time !== time) {
      picture += 1;
      time = entry.time;
      await sleep(began + picture * INTERVAL_MS - performance.now());
    }
    const since = performance.now();
    const before = screens.updates;
    const painted = screens.paintings;
    const fate = screens.apply(LANE, parseRecord(LaneKind.Screen, entry.bytes));
    if (fate === "lost") lost.push(screens.trouble ?? "a record");
    if (screens.updates === before) continue;
    // What was painted at once was not noted when it was.
    if (screens.paintings > painted) took.push(performance.now() - since);
    else waiting.push(since);
  }
  await sleep(SETTLE_MS);
  const shown = screens.pixels()?.painted.data;
  const isRight = shown !== undefined && (await sha256(shown)) === (await sha256(last.bytes.subarray(8)));
  return { took, skipped: skipped + waiting.length, updates: screens.updates, lost, hasVideo, isRight };
}

globalThis.onmessage = ({ data }: MessageEvent<{ canvas: OffscreenCanvas; file: ArrayBuffer }>) => {
  play(data.canvas, data.file).then(
    (result) => postMessage({ result }),
    (error) => postMessage({ error: String(error) }),
  );
};
