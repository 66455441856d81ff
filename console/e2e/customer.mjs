// The customer's side as the end-to-end tests need it: a small real desktop, the applet on it, and hands and eyes of the
// customer that do not go through Tandem.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Program } from "./programs.mjs";

const run = promisify(execFile);
const scripts = fileURLToPath(new URL("../../scripts", import.meta.url));

/** What was typed is in the editor within this time, ms. */
const SAVED_MS = 15_000;

/** A display of its own with a window manager, a terminal and a text editor (scripts/desktop). */
export class Desktop {
  /** What the script says of it: DISPLAY, EDITOR_FILE, XTERM_WINDOW, … */
  env = {};

  static async start(size = "1280x800") {
    const desktop = new Desktop();
    desktop.child = spawn(join(scripts, "desktop"), [size], { stdio: ["pipe", "pipe", "inherit"] });
    desktop.exited = once(desktop.child, "exit");
    for await (const line of createInterface({ input: desktop.child.stdout })) {
      const [name, value] = line.split(/=(.*)/s);
      desktop.env[name] = value;
      if (name === "READY") return desktop;
    }
    throw new Error("the desktop did not start");
  }

  /** A desktop that runs already, by its display. */
  static on(env) {
    const desktop = new Desktop();
    desktop.env = env;
    return desktop;
  }

  get display() {
    return this.env.DISPLAY;
  }

  /** Runs a program on the display. */
  async x(program, ...args) {
    const options = { env: { ...process.env, DISPLAY: this.display }, encoding: "buffer", maxBuffer: 1 << 28 };
    return (await run(program, args, options)).stdout;
  }

  /** Allows what the consent prompt asks, with the mouse, as a customer does. */
  allow() {
    return this.x(join(scripts, "answer"), "allow");
  }

  /** Refuses it. */
  refuse() {
    return this.x(join(scripts, "answer"), "refuse");
  }

  /** Takes mouse and keyboard back, in the applet's status bar, and waits until the bar says so. */
  async stopControl() {
    const before = await this.statusBar();
    await this.pressStatus(before, 189);
    // It says something else then, and has one button less.
    while ((await this.statusBar()).width >= before.width);
  }

  /** Ends the session in the applet's status bar. */
  async endSession() {
    await this.pressStatus(await this.statusBar(), 65);
  }

  /** Where the applet's status bar is. */
  async statusBar() {
    const search = ["search", "--sync", "--onlyvisible", "--limit", "1", "--classname", "^status$"];
    return this.geometry(String(await this.x("xdotool", ...search)).trim());
  }

  /** Presses a button of the bar, so far from its right end at 96 dots an inch, where the bar is 44 high. */
  async pressStatus(bar, fromRight) {
    const place = [bar.x + bar.width - fromRight * (bar.height / 44), bar.y + bar.height / 2];
    await this.x("xdotool", "mousemove", "--sync", ...place.map((at) => String(Math.round(at))), "click", "1");
  }

  /** Where a window's contents are, in the desktop's pixels. */
  async geometry(window) {
    const text = String(await this.x("xwininfo", "-id", window));
    const field = (name) => Number(text.match(new RegExp(`${name}: +(-?\\d+)`))[1]);
    const [x, y] = [field("Absolute upper-left X"), field("Absolute upper-left Y")];
    return { x, y, width: field("Width"), height: field("Height") };
  }

  /** What the editor has saved. */
  editorText() {
    return readFile(this.env.EDITOR_FILE, "utf8");
  }

  /** The desktop's picture as RGBA, without the pointer, taken by X's own tool. */
  async grab() {
    return parseXwd(await this.x("xwd", "-root", "-silent"));
  }

  /**
   * Notes when keys are pressed on the display, ms since 1970, as another X client learns it: `nth` waits for one, `stop`
   * ends it.
   */
  async watchKeys() {
    const env = { ...process.env, DISPLAY: this.display };
    const child = spawn("stdbuf", ["-oL", "xinput", "test-xi2", "--root"], {
      env,
      stdio: ["ignore", "pipe", "inherit"],
    });
    const pressed = [];
    const lines = createInterface({ input: child.stdout });
    const listening = once(lines, "line");
    lines.on("line", (line) => {
      if (line.includes("(RawKeyPress)")) pressed.push(performance.timeOrigin + performance.now());
    });
    await listening;
    const nth = async (index) => {
      while (pressed.length <= index) await once(lines, "line");
      return pressed[index];
    };
    return { pressed, nth, stop: () => child.kill() };
  }

  async end() {
    this.child.stdin.end();
    await this.exited;
  }
}

/** Reads an X window dump (XWDFile.h) of three or four bytes a pixel, true colour, the least byte first. */
function parseXwd(dump) {
  const word = (index) => dump.readUInt32BE(index * 4);
  const [headerSize, width, height, order, bits, stride] = [0, 4, 5, 7, 11, 12].map(word);
  if (order !== 0 || (bits !== 24 && bits !== 32)) throw new Error(`a dump of ${bits} bits a pixel, order ${order}`);
  const rgba = Buffer.alloc(width * height * 4);
  const start = headerSize + word(19) * 12;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = start + y * stride + (x * bits) / 8;
      const to = (y * width + x) * 4;
      rgba[to] = dump[from + 2];
      rgba[to + 1] = dump[from + 1];
      rgba[to + 2] = dump[from];
      rgba[to + 3] = 255;
    }
  }
  return { width, height, rgba };
}

/** The applet on a desktop, sharing it with the session of this code. */
export class Applet {
  /** @param {Desktop} desktop @param {import("./programs.mjs").Relay} relay */
  constructor(desktop, relay, code = relay.ready.code, state = "applet") {
    this.desktop = desktop;
    this.args = ["--relay", relay.ready.relay, "--fingerprint", relay.ready.fingerprint];
    this.state = ["--state-dir", join(relay.folder, state)];
    this.program = this.run("--code", code);
  }

  run(...join) {
    const env = { DISPLAY: this.desktop.display, LANG: "en_US.UTF-8" };
    return new Program("tandem-applet", [...this.args, ...join, ...this.state], env);
  }

  /** Kills it without a chance to say goodbye. */
  async crash() {
    await this.program.end("SIGKILL");
  }

  /** Starts it again: it finds its session by itself. */
  resume() {
    this.program = this.run("--resume");
  }

  async end() {
    await this.program.end();
  }
}

/**
 * What the console shows and what the display shows, once neither changes any more.
 * @param {import("./browser.mjs").Console} desk @param {Desktop} desktop
 */
export async function bothAtRest(desk, desktop) {
  for (;;) {
    const before = await desktop.grab();
    await desk.waitForRest();
    const seen = await desk.readPixels({ rgba: true });
    const real = await desktop.grab();
    // A program that was slow to paint has painted in between.
    if (real.rgba.equals(before.rgba)) return { seen, real };
  }
}

/** Saves in the editor until it holds what `test` accepts, and answers that. */
export async function saved(desk, desktop, test) {
  const deadline = Date.now() + SAVED_MS;
  for (;;) {
    await desk.page.keyboard.press("Control+s");
    await desk.page.waitForTimeout(100);
    const text = (await desktop.editorText()).trimEnd();
    if (test(text)) return text;
    if (Date.now() > deadline) throw new Error(`the editor holds ${JSON.stringify(text)}`);
  }
}

/** Where two pictures of the same size differ: the number of pixels and the box around them. */
export function difference(one, other) {
  if (one.width !== other.width || one.height !== other.height) {
    return { pixels: Number.POSITIVE_INFINITY, why: `${one.width}×${one.height} and ${other.width}×${other.height}` };
  }
  let pixels = 0;
  const box = { left: one.width, top: one.height, right: -1, bottom: -1 };
  for (let at = 0; at < one.rgba.length; at += 4) {
    if (one.rgba.readUInt32LE(at) === other.rgba.readUInt32LE(at)) continue;
    pixels += 1;
    const [x, y] = [(at / 4) % one.width, Math.floor(at / 4 / one.width)];
    box.left = Math.min(box.left, x);
    box.right = Math.max(box.right, x);
    box.top = Math.min(box.top, y);
    box.bottom = Math.max(box.bottom, y);
  }
  return pixels === 0 ? { pixels } : { pixels, box };
}
