import { expect, test } from "vitest";
import { pixelAt, scaleFor } from "./geometry";

const PICTURE = { width: 1920, height: 1080 };

test("a fitted screen fills the room in one direction and is never larger than life", () => {
  expect(scaleFor("fit", PICTURE, { width: 960, height: 900 }, 1)).toBe(0.5);
  expect(scaleFor("fit", PICTURE, { width: 1920, height: 270 }, 2)).toBe(0.25);
  expect(scaleFor("fit", { width: 640, height: 480 }, { width: 1920, height: 1080 }, 1)).toBe(1);
});

test("1:1 is one device pixel each", () => {
  expect(scaleFor("actual", PICTURE, { width: 10, height: 10 }, 2)).toBe(0.5);
});

test("every pixel of the customer's screen can be pointed at, and none beside it", () => {
  const drawn = { width: 960, height: 540 };
  expect(pixelAt(0, 0, drawn, PICTURE)).toEqual({ x: 0, y: 0 });
  expect(pixelAt(959.6, 539.6, drawn, PICTURE)).toEqual({ x: 1919, y: 1079 });
  expect(pixelAt(-5, 600, drawn, PICTURE)).toEqual({ x: 0, y: 1079 });
  expect(pixelAt(480, 270, drawn, PICTURE)).toEqual({ x: 960, y: 540 });
});
