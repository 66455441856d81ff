// Pictures of all displays, each kept by its decoder (which takes both of a display's renditions), and the one that is shown painted onto the canvas: changed
// rectangles straight from the decoder's memory. Video comes through the browser's decoder and is drawn over them; until it is there nothing
// is painted, so that an update is shown whole.
import type { Shown } from "../core/acks";
import type { LaneKey } from "../core/lane";
import type { Fate, ScreenSink } from "../core/pictures";
import { type Point, type Record, ScreenKind } from "../core/record";
import { type Applied, Decoder, type Rect } from "./decoder";
import { Video, type VideoPicture } from "./video";

/** With more video than this on its way the newest is shown as it comes: a slow computer sees something rather than nothing. */
const VIDEO_PENDING_MAX = 4;

/**
 * A picture that begins again from black (the applet was started again, or the relay and too much had happened meanwhile) takes the
 * place of the last one when it is whole: nothing more has come for this long, or that has been awaited for so long, ms.
 */
const WHOLE_AFTER_MS = 150;
const WHOLE_AT_MOST_MS = 2000;

/** One painting of new pixels. */
export interface Drawn {
  readonly display: number;
  readonly rects: readonly Rect[];
  readonly point: Point | undefined;
}

/** A picture of a video region. */
interface Frame {
  readonly picture: VideoPicture;
  readonly frame: VideoFrame;
  isDrawn: boolean;
}

interface Display {
  readonly decoder: Decoder;
  readonly video: Video;
  /** The newest frame of every region that goes on, and those that are still to be drawn. */
  readonly frames: Map<number, Frame>;
  /** Where its picture has changed since it was painted. */
  dirty: Rect[];
  /** Whose records it has decoded: with another epoch begins another decoder. */
  readonly sender: number;
  readonly epoch: bigint;
  drawn: Point | undefined;
  /** It began again from black, and is not painted yet: since when, and what paints it. */
  anew: { readonly since: number; timer: ReturnType<typeof setTimeout> | undefined } | undefined;
}

export class Screens implements ScreenSink {
  updates = 0;
  paintings = 0;
  /** Why the last picture was lost. */
  trouble: string | undefined;
  private hasVideo = true;
  private readonly displays = new Map<number, Display>();
  private readonly context: OffscreenCanvasRenderingContext2D;
  private shownDisplay: number | undefined;
  /** Whose picture is on the canvas. */
  private paintedDisplay: number | undefined;

  constructor(
    private readonly module: WebAssembly.Module,
    private readonly canvas: OffscreenCanvas,
    private readonly onDrawn: (drawn: Drawn) => void,
    private readonly onSize: (display: number, width: number, height: number) => void,
    /** A display's picture was lost after its record had been applied. */
    private readonly onLost: (display: number, rendition: number) => void,
  ) {
    const context = canvas.getContext("2d", { alpha: false });
    if (!context) throw new Error("no 2D canvas to be had");
    this.context = context;
  }

  apply(lane: LaneKey, record: Record): Fate {
    const display = this.displayOf(lane, record);
    const applied = this.attempt(display, lane, record);
    if (applied.outcome === "lost") {
      this.trouble = applied.why;
      return "lost";
    }
    if (applied.outcome === "passed") return "passed";
    this.updates += 1;
    const { screen } = record.header;
    if (screen?.kind === ScreenKind.Start && !screen.from) this.beginAnew(display, lane.display);
    for (const frame of display.frames.values()) {
      // What is painted now is newer than a frame that still waits.
      frame.isDrawn ||= applied.rects.some((rect) => overlaps(rect, frame.picture.rect));
    }
    display.dirty.push(...applied.rects);
    if (this.hasVideo) for (const picture of applied.videos) display.video.decode(picture);
    display.video.keep((region) => display.decoder.hasRegion(region));
    this.settle(display, lane.display);
    return "applied";
  }

  keyLaneOpened(lane: LaneKey): void {
    this.displays.get(lane.display)?.decoder.keyLaneOpened(lane.rendition);
  }

  shown(display: number, rendition: number): Shown {
    const { decoder, drawn } = this.displays.get(display) ?? {};
    const applied = decoder?.point;
    if (applied?.rendition !== rendition) return {};
    const isSame = drawn?.rendition === applied.rendition && drawn.segment === applied.segment;
    return { applied, drawnSeq: isSame ? drawn.seq : undefined };
  }

  showing(): { display: number; point: Point }[] {
    return [...this.displays].flatMap(([display, { decoder }]) =>
      decoder.point ? [{ display, point: decoder.point }] : [],
    );
  }

  forget(display?: number): void {
    for (const [number, state] of [...this.displays]) {
      if (display !== undefined && number !== display) continue;
      this.release(state);
      this.displays.delete(number);
    }
  }

  /** Whether this browser decodes H.264; what comes of it is left out otherwise. At first it does. */
  setVideo(hasVideo: boolean): void {
    this.hasVideo = hasVideo;
  }

  /** From now on this display is painted. */
  show(display: number | undefined): void {
    if (display === this.shownDisplay) return;
    this.shownDisplay = display;
    const state = display === undefined ? undefined : this.displays.get(display);
    if (display === undefined || !state) return;
    this.endAnew(state);
    this.paint(state, display, undefined);
  }

  /** The picture of the shown display, as decoded and as painted. */
  pixels(): { decoded: ImageData; painted: ImageData } | undefined {
    const state = this.shownDisplay === undefined ? undefined : this.displays.get(this.shownDisplay);
    const decoded = state?.decoder.picture();
    if (!decoded) return undefined;
    return { decoded, painted: this.context.getImageData(0, 0, this.canvas.width, this.canvas.height) };
  }

  private displayOf(lane: LaneKey, { header }: Record): Display {
    const before = this.displays.get(lane.display);
    if (before && before.sender === header.sender && before.epoch === header.epoch) return before;
    if (before) this.release(before);
    const { sender, epoch } = header;
    const decoder = new Decoder(this.module);
    const video = new Video(
      (picture, frame) => this.showVideo(display, lane.display, picture, frame),
      (why) => this.loseVideo(display, lane.display, why),
    );
    const display: Display = {
      decoder,
      video,
      frames: new Map(),
      dirty: [],
      sender,
      epoch,
      drawn: undefined,
      anew: undefined,
    };
    this.displays.set(lane.display, display);
    return display;
  }

  private showVideo(display: Display, number: number, picture: VideoPicture, frame: VideoFrame): void {
    if (this.displays.get(number) !== display || !display.decoder.showVideo(picture.serial)) {
      frame.close();
    } else {
      display.frames.get(picture.region)?.frame.close();
      display.frames.set(picture.region, { picture, frame, isDrawn: false });
    }
    if (this.displays.get(number) === display) this.settle(display, number);
  }

  private loseVideo(display: Display, number: number, why: string): void {
    if (this.displays.get(number) !== display) return;
    this.trouble = why;
    const { point } = display.decoder;
    if (point) this.onLost(number, point.rendition);
    this.settle(display, number);
  }

  /** What is on the canvas stays there until this display's picture is whole again. */
  private beginAnew(display: Display, number: number): void {
    const picture = display.decoder.picture();
    const { width, height } = this.canvas;
    const isShown = number === this.shownDisplay && number === this.paintedDisplay;
    if (!isShown || picture?.width !== width || picture.height !== height) return;
    display.anew ??= { since: performance.now(), timer: undefined };
  }

  private endAnew(display: Display): void {
    clearTimeout(display.anew?.timer);
    display.anew = undefined;
  }

  /** Paints what has changed, unless its video is still to come, or the rest of it. */
  private settle(display: Display, number: number): void {
    const { anew } = display;
    if (anew) {
      const left = anew.since + WHOLE_AT_MOST_MS - performance.now();
      clearTimeout(anew.timer);
      anew.timer = setTimeout(
        () => {
          this.endAnew(display);
          const { width, height } = this.canvas;
          display.dirty = [{ x: 0, y: 0, width, height }];
          this.settle(display, number);
        },
        Math.max(0, Math.min(left, WHOLE_AFTER_MS)),
      );
      return;
    }
    const { pending } = display.video;
    if (pending > 0 && pending < VIDEO_PENDING_MAX) return;
    const { dirty } = display;
    display.dirty = [];
    if (number === this.shownDisplay) this.paint(display, number, dirty);
    // What has ended stays on the canvas until something else is painted there.
    for (const [region, { frame, isDrawn }] of display.frames) {
      if (display.decoder.hasRegion(region) || (!isDrawn && number === this.shownDisplay)) continue;
      frame.close();
      display.frames.delete(region);
    }
  }

  /** The display is not needed any more. */
  private release(display: Display): void {
    const { video, frames } = display;
    this.endAnew(display);
    video.clear();
    for (const { frame } of frames.values()) frame.close();
    frames.clear();
  }

  private attempt(display: Display, lane: LaneKey, record: Record): Applied {
    try {
      return display.decoder.apply(lane.kind, record.bytes);
    } catch (error) {
      if (!(error instanceof WebAssembly.RuntimeError)) throw error;
      // A trap leaves the instance useless.
      this.release(display);
      this.displays.delete(lane.display);
      return { outcome: "lost", why: String(error) };
    }
  }

  private drawFrame({ picture, frame }: Frame): void {
    const { rect, cropX, cropY } = picture;
    const { x, y, width, height } = rect;
    this.context.drawImage(frame, cropX, cropY, width, height, x, y, width, height);
  }

  /** Paints these rectangles, or all. */
  private paint(state: Display, display: number, rects: readonly Rect[] | undefined): void {
    const picture = state.decoder.picture();
    if (!picture) return;
    const { width, height } = picture;
    const all = [{ x: 0, y: 0, width, height }];
    let changed = rects ?? all;
    const isOther = display !== this.paintedDisplay;
    if (this.canvas.width !== width || this.canvas.height !== height || isOther || !state.drawn) {
      this.canvas.width = width;
      this.canvas.height = height;
      changed = all;
      this.onSize(display, width, height);
    }
    for (const rect of changed) {
      this.context.putImageData(picture, 0, 0, rect.x, rect.y, rect.width, rect.height);
    }
    for (const frame of state.frames.values()) {
      if (frame.isDrawn && changed !== all) continue;
      frame.isDrawn = true;
      this.drawFrame(frame);
      if (changed !== all) changed = [...changed, frame.picture.rect];
    }
    this.paintings += 1;
    this.paintedDisplay = display;
    state.drawn = state.decoder.point;
    this.onDrawn({ display, rects: changed, point: state.drawn });
  }
}

export function overlaps(a: Rect, b: Rect): boolean {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}
