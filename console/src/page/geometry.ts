// How large the customer's screen is drawn, and which of its pixels a point of the window is.
import type { Scale } from "./session";

export interface Size {
  readonly width: number;
  readonly height: number;
}

/**
 * CSS pixels for each of the customer's. Fitted: as large as there is room, but no larger than life. 1:1: one device
 * pixel each.
 */
export function scaleFor(scale: Scale, picture: Size, room: Size, devicePixelRatio: number): number {
  if (scale === "actual") return 1 / devicePixelRatio;
  return Math.min(room.width / picture.width, room.height / picture.height, 1);
}

/** The pixel under a point given in CSS pixels from the picture's corner; the nearest one if the point lies outside. */
export function pixelAt(x: number, y: number, drawn: Size, picture: Size): { x: number; y: number } {
  const inside = (value: number, size: number) => Math.min(Math.max(Math.floor(value), 0), size - 1);
  return {
    x: inside((x / drawn.width) * picture.width, picture.width),
    y: inside((y / drawn.height) * picture.height, picture.height),
  };
}
