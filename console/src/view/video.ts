// H.264 through the browser's decoder: a display's video regions, each with a VideoDecoder of its own. What the codec's module
// takes out of a record goes in, frames to be drawn over its picture come out.
import type { Rect } from "./decoder";

/** A picture of a region, as the module hands it out. */
export interface VideoPicture {
  readonly serial: number;
  readonly region: number;
  /** The region begins: an IDR. */
  readonly begins: boolean;
  readonly rect: Rect;
  /** The upper left corner of what is shown of the decoded picture. */
  readonly cropX: number;
  readonly cropY: number;
  /** Annex B. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Baseline at level 3.1 and at 5.1: what regions of any size use. */
const PROBES = ["avc1.42e01f", "avc1.42e033"];
/** The level that is named in `Hello`, times ten. */
const LEVEL = 51;

/** The H.264 levels that this browser decodes, times ten; none: no video. */
export async function h264Levels(): Promise<number[]> {
  if (typeof VideoDecoder === "undefined") return [];
  const isSupported = async (codec: string) => {
    const { supported } = await VideoDecoder.isConfigSupported({ codec, optimizeForLatency: true });
    return supported === true;
  };
  try {
    const all = await Promise.all(PROBES.map(isSupported));
    return all.every(Boolean) ? [LEVEL] : [];
  } catch {
    return [];
  }
}

interface Region {
  readonly decoder: VideoDecoder;
  /** What is being decoded, by serial. */
  readonly pictures: Map<number, VideoPicture>;
}

export class Video {
  /** Pictures that have not come out yet. */
  pending = 0;
  private readonly regions = new Map<number, Region>();

  constructor(
    /** Takes over the frame. */
    private readonly onPicture: (picture: VideoPicture, frame: VideoFrame) => void,
    private readonly onError: (why: string) => void,
  ) {}

  decode(picture: VideoPicture): void {
    if (picture.begins) this.open(picture);
    const region = this.regions.get(picture.region);
    if (!region) return this.fail("a video picture without a first one");
    region.pictures.set(picture.serial, picture);
    this.pending += 1;
    const { serial, begins, bytes } = picture;
    try {
      region.decoder.decode(new EncodedVideoChunk({ type: begins ? "key" : "delta", timestamp: serial, data: bytes }));
    } catch (error) {
      this.fail(String(error));
    }
  }

  /** Closes the decoders of regions that do not go on and have given all that they had. */
  keep(isGoingOn: (region: number) => boolean): void {
    for (const [number, { pictures }] of this.regions) {
      if (!isGoingOn(number) && pictures.size === 0) this.close(number);
    }
  }

  /** Ends all; nothing is told any more. */
  clear(): void {
    for (const number of [...this.regions.keys()]) this.close(number);
  }

  private open(picture: VideoPicture): void {
    this.close(picture.region);
    const pictures = new Map<number, VideoPicture>();
    const decoder = new VideoDecoder({
      output: (frame) => this.take(frame, pictures),
      error: (error) => {
        if (this.regions.get(picture.region)?.decoder === decoder) this.fail(error.message);
      },
    });
    this.regions.set(picture.region, { decoder, pictures });
    const codec = codecOf(picture.bytes);
    if (!codec) return this.fail("a video region without parameters");
    decoder.configure({ codec, optimizeForLatency: true });
  }

  private close(number: number): void {
    const region = this.regions.get(number);
    if (!region) return;
    this.regions.delete(number);
    this.pending -= region.pictures.size;
    region.pictures.clear();
    if (region.decoder.state !== "closed") region.decoder.close();
  }

  private take(frame: VideoFrame, pictures: Map<number, VideoPicture>): void {
    const picture = pictures.get(frame.timestamp);
    // Its region may have been closed meanwhile.
    if (!picture) return frame.close();
    pictures.delete(picture.serial);
    this.pending -= 1;
    this.onPicture(picture, frame);
  }

  private fail(why: string): void {
    this.clear();
    this.onError(`video cannot be decoded: ${why}`);
  }
}

/** The codec string of the sequence parameters in Annex B bytes: profile, constraints, level. */
export function codecOf(bytes: Uint8Array): string | undefined {
  for (let at = 0; at + 6 < bytes.length; at += 1) {
    const isStart = bytes[at] === 0 && bytes[at + 1] === 0 && bytes[at + 2] === 1;
    if (!isStart || ((bytes[at + 3] ?? 0) & 0x1f) !== 7) continue;
    const hex = [...bytes.subarray(at + 4, at + 7)].map((byte) => byte.toString(16).padStart(2, "0"));
    return `avc1.${hex.join("")}`;
  }
  return undefined;
}
