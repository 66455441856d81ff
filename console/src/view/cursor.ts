// The customer's cursor as an image that a page can show: premultiplied B, G, R, A in, a PNG out.

import { CURSOR_SIDE_MAX } from "../core/limits";
import type { CursorShape } from "../gen/peer_pb";

export interface CursorImage {
  readonly width: number;
  readonly height: number;
  readonly hotX: number;
  readonly hotY: number;
  /** Nothing: the cursor is hidden. */
  readonly png: Blob | undefined;
}

/** The shape's pixels as a canvas has them: R, G, B, A, not premultiplied. */
export function straightRgba(pixels: Uint8Array): Uint8ClampedArray<ArrayBuffer> {
  const rgba = new Uint8ClampedArray(pixels.length);
  for (let at = 0; at + 3 < pixels.length; at += 4) {
    const alpha = pixels[at + 3] ?? 0;
    const scale = alpha === 0 ? 0 : 255 / alpha;
    rgba[at] = (pixels[at + 2] ?? 0) * scale;
    rgba[at + 1] = (pixels[at + 1] ?? 0) * scale;
    rgba[at + 2] = (pixels[at] ?? 0) * scale;
    rgba[at + 3] = alpha;
  }
  return rgba;
}

/** Nothing if the shape contradicts itself. */
export async function cursorImage(shape: CursorShape): Promise<CursorImage | undefined> {
  const { width, height, hotX, hotY, pixels } = shape;
  if (width === 0 || height === 0) return { width: 0, height: 0, hotX: 0, hotY: 0, png: undefined };
  const isSound = width <= CURSOR_SIDE_MAX && height <= CURSOR_SIDE_MAX && pixels.length === width * height * 4;
  if (!isSound) return undefined;
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d")?.putImageData(new ImageData(straightRgba(pixels), width, height), 0, 0);
  const png = await canvas.convertToBlob({ type: "image/png" });
  return { width, height, hotX: Math.min(hotX, width - 1), hotY: Math.min(hotY, height - 1), png };
}
