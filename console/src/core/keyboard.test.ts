import { beforeEach, describe, expect, test } from "vitest";
import { Keyboard, type KeyLike } from "./keyboard";
import { usageOf } from "./keys";
import { Wheel } from "./wheel";

let said: string[];
let keyboard: Keyboard;

beforeEach(() => {
  said = [];
  keyboard = new Keyboard({
    key: (usage, down, _, text) => said.push(`${down ? "+" : "-"}${usage.toString(16)}${text}`),
    text: (text) => said.push(`"${text}"`),
    release: () => said.push("release"),
    escape: () => said.push("escape"),
  });
});

function event(code: string, key: string, more: Partial<KeyLike> = {}): KeyLike {
  return { code, key, isComposing: false, repeat: false, timeStamp: 0, getModifierState: () => false, ...more };
}

const down = (code: string, key: string, more?: Partial<KeyLike>) => keyboard.keyDown(event(code, key, more));
const up = (code: string, key: string) => keyboard.keyUp(event(code, key));

test("a key is sent by its position, with what the layout makes of it, and repeats are further downs", () => {
  expect(down("KeyY", "z")).toBe(true);
  down("KeyY", "z", { repeat: true });
  expect(up("KeyY", "z")).toBe(true);
  expect(said).toEqual(["+1cz", "+1cz", "-1c"]);
});

test("keys without a character carry none", () => {
  down("F5", "F5");
  down("ArrowLeft", "ArrowLeft");
  expect(said).toEqual(["+3e", "+50"]);
});

describe("composing", () => {
  test("a dead key is left to the browser, and what it composes is sent as text", () => {
    expect(down("BracketLeft", "Dead")).toBe(false);
    expect(up("BracketLeft", "Dead")).toBe(false);
    expect(down("KeyE", "é")).toBe(false);
    keyboard.composed("é");
    expect(up("KeyE", "é")).toBe(false);
    down("KeyE", "e");
    expect(said).toEqual(['"é"', "+8e"]);
  });

  test("a dead key followed by Escape composes nothing", () => {
    down("BracketLeft", "Dead");
    down("Escape", "Escape");
    down("KeyE", "e");
    expect(said).toEqual(["+29", "+8e"]);
  });

  test("what an input method is busy with is not sent as keys", () => {
    expect(down("KeyN", "Process")).toBe(false);
    expect(down("KeyI", "i", { isComposing: true })).toBe(false);
    keyboard.composed("你");
    expect(said).toEqual(['"你"']);
  });

  test("a virtual keyboard's characters are text", () => {
    expect(down("", "ß")).toBe(true);
    expect(said).toEqual(['"ß"']);
  });
});

describe("Ctrl+Alt+Shift alone", () => {
  test("gives the keyboard back, with everything released", () => {
    down("ControlLeft", "Control");
    down("AltLeft", "Alt");
    down("ShiftRight", "Shift");
    up("AltLeft", "Alt");
    expect(said.slice(-2)).toEqual(["release", "escape"]);
  });

  test("with another key is the customer's", () => {
    down("ControlLeft", "Control");
    down("AltLeft", "Alt");
    down("ShiftLeft", "Shift");
    down("KeyT", "t");
    up("KeyT", "t");
    up("ShiftLeft", "Shift");
    expect(said).not.toContain("escape");
  });
});

test("Windows' AltGr lets go of the Control that came with it", () => {
  down("ControlLeft", "Control", { timeStamp: 100 });
  down("AltRight", "AltGraph", { timeStamp: 100 });
  down("KeyQ", "@");
  expect(said).toEqual(["+e0", "-e0", "+e6", "+14@"]);
});

test("keys whose release macOS hides are released with Command", () => {
  down("MetaLeft", "Meta");
  down("KeyC", "c");
  up("MetaLeft", "Meta");
  expect(said).toEqual(["+e3", "+6c", "-e3", "-6"]);
});

test("the table agrees with the HID usage tables where they are easily misread", () => {
  const expected: [string, number][] = [
    ["KeyA", 0x04],
    ["KeyZ", 0x1d],
    ["Digit1", 0x1e],
    ["Digit9", 0x26],
    ["Digit0", 0x27],
    ["F1", 0x3a],
    ["F12", 0x45],
    ["F13", 0x68],
    ["F24", 0x73],
    ["Numpad1", 0x59],
    ["Numpad9", 0x61],
    ["Numpad0", 0x62],
    ["IntlBackslash", 0x64],
    ["MetaRight", 0xe7],
  ];
  for (const [code, usage] of expected) expect([code, usageOf(code)]).toEqual([code, usage]);
  expect(usageOf("Fn")).toBeUndefined();
});

test("wheels add up to whole 1/120 of a notch", () => {
  const wheel = new Wheel();
  expect(wheel.take({ deltaX: 0, deltaY: 100, deltaMode: 0 })).toEqual({ x: 0, y: 120 });
  expect(wheel.take({ deltaX: -3, deltaY: 0, deltaMode: 1 })).toEqual({ x: -120, y: 0 });
  const parts = Array.from({ length: 10 }, () => wheel.take({ deltaX: 0, deltaY: 0.5, deltaMode: 0 }).y);
  expect(parts.reduce((a, b) => a + b)).toBe(6);
});
