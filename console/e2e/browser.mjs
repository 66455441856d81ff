// Drives the console in a real Chromium: open it, sign in, open a session, type, read pixels. Used by this folder's tests
// and by whatever else needs the console as a person sees it.
//
//   const browser = await launch();
//   const console = await openConsole(browser, "http://127.0.0.1:4433/#secret=…", { transport: "websocket" });
//   await console.openFirstSession();
//   await console.waitForPicture();
//   await console.screenshot("console.png");
import { chromium } from "playwright-core";

/** A page that does not get there within this time has failed, ms. */
const PATIENCE_MS = 20_000;

/** Characters that the US layout has on a key with Shift: the driver itself presses none. */
const SHIFTED = /[A-Z~!@#$%^&*()_+{}|:"<>?]/;

/**
 * Starts Chromium: Debian's, or the one that the environment's CHROMIUM names. UDP stays on, for WebTransport.
 * @param {{ args?: string[], headless?: boolean }} [options]
 */
export function launch({ args = [], headless = true } = {}) {
  const quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  // Chromium refuses to run as root otherwise.
  const sandbox = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless,
    args: [...sandbox, "--disable-gpu", ...quiet, ...args],
  });
}

/**
 * Opens the console at a URL, with its one-time secret in the fragment, and waits for the list of sessions.
 * @param {import("playwright-core").Browser} browser
 * @param {string} url
 * @param {{ transport?: "webtransport" | "websocket", viewport?: { width: number, height: number },
 *   colorScheme?: "light" | "dark", locale?: string }} [options]
 */
export async function openConsole(browser, url, options = {}) {
  const { transport, viewport = { width: 1440, height: 900 }, colorScheme = "light", locale = "en-US" } = options;
  const context = await browser.newContext({ viewport, colorScheme, locale });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  const opened = new Console(page);
  const address = new URL(url);
  address.searchParams.set("test", "");
  if (transport) address.searchParams.set("transport", transport);
  await page.goto(address.href);
  await page.waitForSelector("main.list");
  return opened;
}

/** The console in one tab. */
export class Console {
  /** What the page has complained about. */
  errors = [];

  /** @param {import("playwright-core").Page} page */
  constructor(page) {
    this.page = page;
    page.on("pageerror", (error) => this.errors.push(String(error)));
    page.on("console", (message) => {
      if (message.type() === "error") this.errors.push(message.text());
    });
  }

  /** Creates a session; its code. Others, which the list may not even show yet when the button is there, are not taken for it. */
  async createSession() {
    const answered = this.page.waitForResponse(
      (answer) => answer.request().method() === "POST" && /\/sessions$/.test(answer.url()),
    );
    await this.page.getByRole("button", { name: "New session" }).click();
    const { id } = await (await answered).json();
    await this.page.waitForSelector(`[data-session="${id}"]`);
    const digits = await this.page.locator(".digits").textContent();
    return digits.replace(/\D/g, "");
  }

  /** Opens the session at the top of the list. */
  async openFirstSession() {
    await this.page.locator("[data-session]").first().click();
    await this.page.waitForSelector(".session");
  }

  /** Waits until the customer's screen is shown; its size. */
  async waitForPicture() {
    await this.page.waitForSelector(".frame:not([hidden]) canvas");
    return (await this.state()).size;
  }

  /** Waits until keys go to the customer. */
  async waitForControl() {
    await this.page.waitForSelector(".picture.has-keyboard");
  }

  /**
   * Waits until what the page knows fulfils `test`, and answers it.
   * @param {(state: any) => unknown} test of `tandemTest.state()`
   */
  async waitForState(test) {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      // The page forbids that its text is made into programs, so the test runs here.
      const state = await this.page.evaluate(() => globalThis.tandemTest?.state() ?? {});
      if (test(state)) return state;
      if (Date.now() > deadline) throw new Error(`it never came to ${test}: ${JSON.stringify(state.view)}`);
      await this.page.waitForTimeout(20);
    }
  }

  /** Waits until nothing has been painted for `ms`: longer than programs take to tidy up after themselves. */
  async waitForRest(ms = 1000) {
    const began = Date.now();
    for (;;) {
      // By when all that the log tells had happened: the answer may be long on its way.
      const asked = Date.now();
      const { drawn } = await this.log();
      // What was done just before has yet to be drawn.
      const quiet = asked - Math.max(began, drawn.at(-1)?.at ?? began);
      if (quiet >= ms) return;
      if (Date.now() > began + PATIENCE_MS) throw new Error("the picture never comes to rest");
      await this.page.waitForTimeout(ms - quiet);
    }
  }

  /** What the page knows: connection, rights, latency, dropped input. */
  state() {
    return this.page.evaluate(() => globalThis.tandemTest.state());
  }

  statistics() {
    return this.page.evaluate(() => globalThis.tandemTest.statistics());
  }

  /** When input left the core and pictures were painted, ms since 1970. */
  log() {
    return this.page.evaluate(() => globalThis.tandemTest.log());
  }

  /** Watches how bright the canvas is, frame by frame, until `end`, which tells how it was at first and at its darkest (0 to 255). */
  async watchBrightness() {
    await this.page.evaluate(() => {
      const canvas = document.querySelector(".frame canvas");
      const small = new OffscreenCanvas(64, 48).getContext("2d", { willReadFrequently: true });
      const watch = { first: undefined, least: 255, frames: 0, isOver: false };
      globalThis.brightness = watch;
      function look() {
        small.drawImage(canvas, 0, 0, 64, 48);
        const { data } = small.getImageData(0, 0, 64, 48);
        let sum = 0;
        for (let at = 0; at < data.length; at += 4) sum += data[at] + data[at + 1] + data[at + 2];
        const mean = sum / ((data.length / 4) * 3);
        watch.first ??= mean;
        watch.least = Math.min(watch.least, mean);
        watch.frames += 1;
        if (!watch.isOver) requestAnimationFrame(look);
      }
      look();
    });
    return {
      end: () =>
        this.page.evaluate(() => {
          const { brightness } = globalThis;
          brightness.isOver = true;
          return brightness;
        }),
    };
  }

  /** Notes what a person reads of the connection from now on, until `end`, which tells it in order. */
  async watchStatus() {
    await this.page.evaluate(() => {
      const status = document.querySelector(".status");
      const said = [];
      const look = () => {
        const words = [...status.querySelectorAll(":scope > span:not(.dot, .latency, .unseen)")];
        const text = words.map((word) => word.textContent).join(" ");
        if (text !== said.at(-1)) said.push(text);
      };
      look();
      const observer = new MutationObserver(look);
      observer.observe(status, { childList: true, characterData: true, subtree: true });
      globalThis.statusWatch = { said, observer };
    });
    return {
      end: () =>
        this.page.evaluate(() => {
          globalThis.statusWatch.observer.disconnect();
          return globalThis.statusWatch.said;
        }),
    };
  }

  /**
   * The picture's size and SHA-256 of its RGBA bytes, as decoded and as painted; with `rgba`, the canvas's bytes.
   * @param {{ rgba?: boolean }} [options]
   */
  async readPixels({ rgba = false } = {}) {
    const pixels = await this.page.evaluate((wanted) => globalThis.tandemTest.readPixels({ rgba: wanted }), rgba);
    return pixels && { ...pixels, rgba: pixels.rgba && Buffer.from(pixels.rgba, "base64") };
  }

  /** Where a pixel of the customer's screen is in the window. */
  async pointOf(x, y) {
    const { size } = await this.state();
    const box = await this.page.locator(".picture canvas").boundingBox();
    return { x: box.x + ((x + 0.5) / size.width) * box.width, y: box.y + ((y + 0.5) / size.height) * box.height };
  }

  /** Clicks a pixel of the customer's screen. */
  async click(x, y) {
    const point = await this.pointOf(x, y);
    await this.page.mouse.click(point.x, point.y);
  }

  /** Types on the customer's computer as a person does, with Shift where the US layout needs it. */
  async type(text) {
    const { keyboard } = this.page;
    for (const character of text) {
      if (!SHIFTED.test(character)) {
        await keyboard.type(character);
        continue;
      }
      await keyboard.down("Shift");
      await keyboard.press(character);
      await keyboard.up("Shift");
    }
  }

  /**
   * Presses a key and waits for the next painting within a rectangle of the customer's screen. Times in ms since 1970.
   * @param {string} key
   * @param {{ x: number, y: number, width: number, height: number }} rect
   * @returns {Promise<{ madeAt: number, sentAt: number, drawnAt: number }>}
   */
  async measureKey(key, rect) {
    const drawn = await this.page.evaluateHandle((within) => {
      const entry = globalThis.tandemTest.nextDraw(within);
      return { entry };
    }, rect);
    const { sent: before } = await this.log();
    await this.page.keyboard.press(key);
    const { at: drawnAt } = await drawn.evaluate(({ entry }) => entry);
    const { sent } = await this.log();
    const known = new Set(before.map(({ seq }) => seq));
    const down = sent.find(({ type, seq }) => type === 1 && !known.has(seq));
    return { madeAt: down.madeAt, sentAt: down.sentAt, drawnAt };
  }

  async screenshot(path) {
    await this.page.screenshot({ path });
  }

  async close() {
    await this.page.context().close();
  }
}
