// The codec as WebAssembly (../codec/wasm): whole records in, a picture in RGBA out. One instance for each display's
// sender, so that a trap costs one picture and memory goes when the display goes.

import type { LaneKind } from "../core/lane";
import type { Point } from "../core/record";
import wasmUrl from "../gen/tandem_codec.wasm?url";
import type { VideoPicture } from "./video";

/** The version of the module's interface that this file speaks. */
const INTERFACE = 3;

interface Exports {
  readonly memory: WebAssembly.Memory;
  view_interface(): number;
  view_new(pixelsMax: number, windowLogMax: number): number;
  view_input(view: number, length: number): number;
  view_apply(view: number, lane: number): number;
  view_key_lane_opened(view: number, rendition: number): void;
  view_show_video(view: number, serial: number): number;
  view_report(view: number): number;
}

/** What `view_apply` answers. */
const Outcome = { Applied: 0, Held: 1, Skipped: 2 } as const;

/** Words of the module's report, in its order. */
const Word = {
  Picture: 0,
  Width: 1,
  Height: 2,
  Rects: 4,
  RectCount: 5,
  Shown: 6,
  Rendition: 7,
  Segment: 8,
  SeqLow: 9,
  SeqHigh: 10,
  Error: 16,
  ErrorLength: 17,
  Videos: 18,
  VideoCount: 19,
  Regions: 20,
  Count: 21,
} as const;

/** Words of a video picture in the module. */
const VIDEO_WORDS = 11;

export interface Rect {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** What became of a record: the picture changed; nothing to see yet, or any more; the picture is stale until a key comes. */
export type Applied =
  | { readonly outcome: "applied"; readonly rects: readonly Rect[]; readonly videos: readonly VideoPicture[] }
  | { readonly outcome: "passed" }
  | { readonly outcome: "lost"; readonly why: string };

/** Fetches and compiles the module, once for the worker. */
export async function loadDecoder(): Promise<WebAssembly.Module> {
  const response = await fetch(wasmUrl);
  if (!response.ok) throw new Error(`the decoder could not be loaded: ${response.status}`);
  return WebAssembly.compile(await response.arrayBuffer());
}

export class Decoder {
  private readonly wasm: Exports;
  private readonly view: number;
  private image: ImageData | undefined;

  constructor(module: WebAssembly.Module) {
    this.wasm = new WebAssembly.Instance(module).exports as unknown as Exports;
    if (this.wasm.view_interface() !== INTERFACE) throw new Error("the decoder is of another version");
    this.view = this.wasm.view_new(0, 0);
  }

  /** Takes a whole record of a screen or key lane. Throws a WebAssembly.RuntimeError when the module is spent. */
  apply(lane: LaneKind, record: Uint8Array): Applied {
    const at = this.wasm.view_input(this.view, record.length);
    if (at === 0) return { outcome: "lost", why: "a record is too long" };
    new Uint8Array(this.wasm.memory.buffer, at, record.length).set(record);
    const outcome = this.wasm.view_apply(this.view, lane);
    if (outcome === Outcome.Applied) return { outcome: "applied", rects: this.rects(), videos: this.videos() };
    if (outcome === Outcome.Held || outcome === Outcome.Skipped) return { outcome: "passed" };
    return { outcome: "lost", why: this.error() };
  }

  /** A rendition's key lane was opened again: a key begun on the lane before it does not go on. */
  keyLaneOpened(rendition: number): void {
    this.wasm.view_key_lane_opened(this.view, rendition);
  }

  /** Whether a decoded video picture is to be drawn over the picture; not if something newer is shown there. To be asked once. */
  showVideo(serial: number): boolean {
    return this.wasm.view_show_video(this.view, serial) === 1;
  }

  /** Whether a video region goes on. */
  hasRegion(region: number): boolean {
    return (((this.report()[Word.Regions] ?? 0) >> region) & 1) === 1;
  }

  /** The update that is shown, if any. */
  get point(): Point | undefined {
    const report = this.report();
    if (report[Word.Shown] !== 1) return undefined;
    const [low = 0, high = 0] = [report[Word.SeqLow], report[Word.SeqHigh]];
    return {
      rendition: report[Word.Rendition] ?? 0,
      segment: report[Word.Segment] ?? 0,
      seq: (BigInt(high) << 32n) | BigInt(low),
    };
  }

  /** The picture, in the module's own memory: good until the next record. Nothing before the first. */
  picture(): ImageData | undefined {
    const report = this.report();
    const [at = 0, width = 0, height = 0] = [report[Word.Picture], report[Word.Width], report[Word.Height]];
    if (width === 0 || height === 0) return undefined;
    const { buffer } = this.wasm.memory;
    const { data } = this.image ?? {};
    const isSame =
      data?.buffer === buffer && data.byteOffset === at && this.image?.width === width && this.image.height === height;
    if (!isSame) {
      // A memory that grew has a new buffer and left the old one empty.
      const pixels = new Uint8ClampedArray(buffer as ArrayBuffer, at, width * height * 4);
      this.image = new ImageData(pixels, width, height);
    }
    return this.image;
  }

  private report(): Uint32Array {
    return new Uint32Array(this.wasm.memory.buffer, this.wasm.view_report(this.view), Word.Count);
  }

  private rects(): Rect[] {
    const report = this.report();
    const [at = 0, count = 0] = [report[Word.Rects], report[Word.RectCount]];
    const words = new Uint16Array(this.wasm.memory.buffer, at, count * 4);
    return Array.from({ length: count }, (_, index) => {
      const [x = 0, y = 0, width = 0, height = 0] = words.subarray(4 * index, 4 * index + 4);
      return { x, y, width, height };
    });
  }

  /** The video pictures that the last record has brought, copied out of the module's memory. */
  private videos(): VideoPicture[] {
    const report = this.report();
    const [at = 0, count = 0] = [report[Word.Videos], report[Word.VideoCount]];
    if (count === 0) return [];
    const { buffer } = this.wasm.memory;
    const words = new Uint32Array(buffer, at, count * VIDEO_WORDS);
    return Array.from({ length: count }, (_, index) => {
      const [
        serial = 0,
        region = 0,
        begins = 0,
        x = 0,
        y = 0,
        width = 0,
        height = 0,
        cropX = 0,
        cropY = 0,
        bytes = 0,
        length = 0,
      ] = words.subarray(VIDEO_WORDS * index, VIDEO_WORDS * (index + 1));
      const rect = { x, y, width, height };
      const copy = new Uint8Array(buffer as ArrayBuffer, bytes, length).slice();
      return { serial, region, begins: begins === 1, rect, cropX, cropY, bytes: copy };
    });
  }

  private error(): string {
    const report = this.report();
    const [at = 0, length = 0] = [report[Word.Error], report[Word.ErrorLength]];
    return new TextDecoder().decode(new Uint8Array(this.wasm.memory.buffer, at, length));
  }
}
