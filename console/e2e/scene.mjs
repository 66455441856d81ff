// What end-to-end tests stand on: one browser for a file's tests, and the programs of each test, which end with it.
//
//   const stage = scene();
//   test("…", async () => {
//     const { desk, desktop } = await stage.work({ transport: "websocket" });
//   });
import assert from "node:assert/strict";
import { after, afterEach, before } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { launch, openConsole } from "./browser.mjs";
import { Applet, Desktop, saved } from "./customer.mjs";
import { Gate } from "./gate.mjs";
import { Relay } from "./programs.mjs";

/** What is waited for is so within this time, ms. */
const PATIENCE_MS = 30_000;
/** Between two looks, ms. */
const LOOK_EVERY_MS = 50;
/** What a test has started ends within this time each, ms: longer than programs wait themselves before they are killed. */
const END_MS = 15_000;

/** A scene for the tests of the file that calls this. */
export function scene() {
  const made = new Scene();
  before(() => made.open());
  afterEach(() => made.clear());
  after(() => made.close());
  return made;
}

class Scene {
  /** @type {import("playwright-core").Browser} */
  browser;
  /** @type {Relay | undefined} */
  relay;
  /** @type {Gate | undefined} */
  gate;
  /** @type {Desktop | undefined} */
  desktop;
  /** @type {Applet | undefined} */
  applet;
  /** @type {import("./browser.mjs").Console | undefined} */
  desk;

  async open() {
    this.browser = await launch();
  }

  async close() {
    await this.browser?.close();
  }

  /** @param {{ udp?: boolean }} [options] */
  async startRelay(options) {
    this.relay = await Relay.start(options);
    return this.relay;
  }

  /** A firewall before the relay. */
  async startGate() {
    this.gate = await Gate.before(this.relay);
    return this.gate;
  }

  /** The customer's computer, with the applet in the session of the relay's first code. */
  async startCustomer() {
    this.desktop = await Desktop.start();
    this.applet = new Applet(this.desktop, this.relay);
  }

  /**
   * The console in a tab of its own, signed in.
   * @param {{ url?: string, transport?: "webtransport" | "websocket", locale?: string }} [options]
   */
  async openConsole({ url = this.relay.ready.console, ...options } = {}) {
    this.desk = await openConsole(this.browser, url, options);
    return this.desk;
  }

  /**
   * Everything runs, and the technician is in the session; the customer has not been asked yet.
   * @param {{ url?: string, transport?: "webtransport" | "websocket" | "any" }} [options] `url`: of a relay that runs already
   */
  async meet({ url, transport = "webtransport" } = {}) {
    if (!this.relay) await this.startRelay({ udp: transport !== "websocket" });
    await this.startCustomer();
    await this.openConsole({ url, transport: transport === "any" ? undefined : transport });
    await this.desk.openFirstSession();
    return this;
  }

  /**
   * The same, with everything allowed and the editor under the technician's hands.
   * @param {{ url?: string, transport?: "webtransport" | "websocket" | "any" }} [options]
   */
  async work(options) {
    const { desk, desktop } = await this.meet(options);
    await desktop.allow();
    await desk.waitForPicture();
    await desk.waitForControl();
    const editor = await desktop.geometry(desktop.env.EDITOR_WINDOW);
    await desk.click(editor.x + Math.floor(editor.width / 2), editor.y + Math.floor(editor.height / 2));
    return this;
  }

  /** Saves in the editor until it holds what `test` accepts, and answers that. */
  saved(test) {
    return saved(this.desk, this.desktop, test);
  }

  /** Ends what a test has started: farewells go through the gate, and to a relay. What fails to, or hangs, keeps nothing else from it. */
  async clear() {
    const { browser, applet, desktop, relay, gate } = this;
    this.desk = this.applet = this.desktop = this.relay = this.gate = undefined;
    const tabs = { end: async () => Promise.all((browser?.contexts() ?? []).map((context) => context.close())) };
    const failures = [];
    for (const [name, owned] of Object.entries({ tabs, applet, desktop, relay, gate })) {
      if (owned) await within(END_MS, owned.end(), name).catch((error) => failures.push(error));
    }
    if (failures.length > 0) throw new AggregateError(failures, failures.map(({ message }) => message).join("; "));
  }
}

/**
 * Ends a wait that takes longer than `ms`. The rest of it goes on unseen.
 * @param {number} ms
 * @param {Promise<unknown>} ended
 * @param {string} name of what is waited for
 */
async function within(ms, ended, name) {
  let timer;
  const overdue = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${name} did not end within ${ms} ms`)), ms);
  });
  await Promise.race([ended, overdue]).finally(() => clearTimeout(timer));
}

/**
 * Waits until `test` answers true.
 * @param {() => Promise<boolean>} test
 * @param {string} what to say if it never does
 */
export async function until(test, what) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await test())) {
    assert.ok(Date.now() < deadline, `never: ${what}`);
    await pause(LOOK_EVERY_MS);
  }
}

/**
 * Ends a watch over the canvas's brightness: the picture was there all the time.
 * @param {{ end(): Promise<{ first: number, least: number, frames: number }> }} watch
 */
export async function stayedBright(watch) {
  const { first, least, frames } = await watch.end();
  assert.ok(first > 20 && least > 0.9 * first, `of ${first} the brightness fell to ${least} in ${frames} frames`);
}
