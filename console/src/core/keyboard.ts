// What a keyboard's events mean: keys by position, text that an input method or a dead key composes, and the one chord
// that gives the keyboard back to the page. Knows events by their shape alone.
import type { Locks } from "./input";
import { isModifier, usageOf } from "./keys";

/** What this file needs of a KeyboardEvent. */
export interface KeyLike {
  readonly code: string;
  readonly key: string;
  readonly isComposing: boolean;
  readonly repeat: boolean;
  readonly timeStamp: number;
  getModifierState(modifier: string): boolean;
}

export interface KeyboardHandler {
  key(usage: number, down: boolean, locks: Locks, text: string): void;
  text(text: string): void;
  release(): void;
  /** Ctrl, Alt and Shift were pressed and let go without another key: the page gets the keyboard back. */
  escape(): void;
}

/** Windows reports AltGr as a left Control that never was, and AltGr, at the same moment, ms. */
const SAME_MOMENT_MS = 2;

export class Keyboard {
  /** Codes that are down and were sent as keys. */
  private readonly down = new Map<string, number>();
  private afterDead = false;
  private isChord = false;
  private controlAt = Number.NEGATIVE_INFINITY;

  constructor(private readonly handler: KeyboardHandler) {}

  /** Whether the browser must do nothing about it: what is composed needs the browser, everything else is the customer's. */
  keyDown(event: KeyLike): boolean {
    if (event.isComposing || event.key === "Process") return false;
    if (event.key === "Dead") {
      this.afterDead = true;
      return false;
    }
    if (this.afterDead && isPrintable(event.key)) {
      // The browser puts the composed character into the text field, from where it is sent.
      this.afterDead = false;
      return false;
    }
    const usage = usageOf(event.code);
    if (usage === undefined) {
      // A virtual keyboard: characters without positions.
      if (isPrintable(event.key)) this.handler.text(event.key);
      return isPrintable(event.key);
    }
    if (!isModifier(usage)) this.afterDead = false;
    if (this.isPhantomControl(event)) return true;
    this.down.set(event.code, usage);
    this.isChord = isEscapeChord(this.down) && !event.repeat ? true : this.isChord && isModifier(usage);
    this.handler.key(usage, true, locksOf(event), isPrintable(event.key) ? event.key : "");
    return true;
  }

  keyUp(event: KeyLike): boolean {
    const usage = this.down.get(event.code);
    if (usage === undefined) return false;
    this.down.delete(event.code);
    this.handler.key(usage, false, locksOf(event), "");
    if (event.key === "Meta") this.releaseHidden(event);
    if (this.isChord) {
      this.isChord = false;
      this.releaseAll();
      this.handler.escape();
    }
    return true;
  }

  /** An input method or a dead key has composed text. */
  composed(text: string): void {
    this.afterDead = false;
    if (text) this.handler.text(text);
  }

  /** The view has lost the keyboard. */
  releaseAll(): void {
    this.down.clear();
    this.afterDead = false;
    this.isChord = false;
    this.handler.release();
  }

  private isPhantomControl(event: KeyLike): boolean {
    if (event.code === "ControlLeft") {
      this.controlAt = event.timeStamp;
      return event.repeat && this.down.has("AltRight");
    }
    const isAltGr = event.code === "AltRight" && event.key === "AltGraph";
    if (isAltGr && event.timeStamp - this.controlAt <= SAME_MOMENT_MS && this.down.has("ControlLeft")) {
      this.down.delete("ControlLeft");
      this.handler.key(0xe0, false, locksOf(event), "");
    }
    return false;
  }

  /** macOS tells of no release of a key while Command is held. */
  private releaseHidden(event: KeyLike): void {
    for (const [code, usage] of this.down) {
      if (isModifier(usage)) continue;
      this.down.delete(code);
      this.handler.key(usage, false, locksOf(event), "");
    }
  }
}

function isPrintable(key: string): boolean {
  // Names of keys have several letters; characters are one code point.
  return [...key].length === 1;
}

function locksOf(event: KeyLike): Locks {
  return {
    caps: event.getModifierState("CapsLock"),
    num: event.getModifierState("NumLock"),
    scroll: event.getModifierState("ScrollLock"),
  };
}

function isEscapeChord(down: ReadonlyMap<string, number>): boolean {
  const has = (name: string) => down.has(`${name}Left`) || down.has(`${name}Right`);
  return has("Control") && has("Alt") && has("Shift") && [...down.values()].every(isModifier);
}
