// A technician whose network lets UDP through only when the work is already under way.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { launch, openConsole } from "./browser.mjs";
import { Applet, bothAtRest, Desktop, difference, saved } from "./customer.mjs";
import { Gate } from "./gate.mjs";
import { Relay } from "./programs.mjs";

const PATIENCE_MS = 30_000;
/** Typed over and over, each in a line: a key that is doubled, lost or overtaken shows. */
const KEYS = "abcdefghijklmnopqrstuvwxyz0123456789\n";
/** Between two keys, ms. */
const PAUSE_MS = 15;

let browser;
let relay;
let gate;
let desktop;
let applet;

before(async () => {
  browser = await launch();
});
after(() => browser.close());
afterEach(async () => {
  await Promise.all(browser.contexts().map((context) => context.close()));
  await applet?.end();
  await desktop?.end();
  await relay?.end();
  // Last: farewells go through it.
  await gate?.end();
  gate = applet = desktop = relay = undefined;
});

/** What going over must not cost: keys asked of the customer, and records that do not reach whom they are for. */
async function costs() {
  const dropped = (reason) => relay.metric(`tandem_relay_dropped_records_total{reason="${reason}"}`);
  return {
    keys: await relay.metric("tandem_relay_keys_wanted_total"),
    dropped: await Promise.all(["unsent", "stale", "no_right", "away", "full"].map(dropped)),
  };
}

/** Waits until so many are connected over a WebSocket. */
async function settles(count) {
  const deadline = Date.now() + PATIENCE_MS;
  while ((await relay.metric('tandem_relay_connections{transport="websocket"}')) !== count) {
    assert.ok(Date.now() < deadline, `not ${count} over a WebSocket`);
  }
}

test("a console goes over to WebTransport while its technician types", { timeout: 120_000 }, async () => {
  relay = await Relay.start();
  gate = await Gate.before(relay);
  desktop = await Desktop.start();
  applet = new Applet(desktop, relay);
  const desk = await openConsole(browser, gate.url(relay.ready.console));
  await desk.openFirstSession();
  await desktop.allow();
  await desk.waitForPicture();
  await desk.waitForControl();
  assert.equal((await desk.state()).view.connection.transport, "websocket");
  assert.ok(gate.turnedAway > 0, "the browser never tried UDP");
  const editor = await desktop.geometry(desktop.env.EDITOR_WINDOW);
  await desk.click(editor.x + Math.floor(editor.width / 2), editor.y + Math.floor(editor.height / 2));
  await bothAtRest(desk, desktop);
  const [before, watch] = [await costs(), await desk.watchBrightness()];
  const status = await desk.watchStatus();

  gate.letUdp(true);
  let typed = "";
  // And a little more once it is there.
  for (let left = KEYS.length; left > 0; ) {
    const key = KEYS[typed.length % KEYS.length];
    await desk.page.keyboard.press(key === "\n" ? "Enter" : key);
    typed += key;
    await desk.page.waitForTimeout(PAUSE_MS);
    const { connection } = (await desk.state()).view;
    assert.equal(connection.phase, "open");
    if (connection.transport === "webtransport") left -= 1;
    assert.ok(typed.length < PATIENCE_MS / PAUSE_MS, "it never went over");
  }

  const { view } = await desk.state();
  assert.deepEqual(view.dropped, { keys: 0, texts: 0, clicks: 0, wheels: 0 });
  await saved(desk, desktop, (text) => text === typed.trimEnd());
  const { seen, real } = await bothAtRest(desk, desktop);
  assert.deepEqual(difference(seen, real), { pixels: 0 });
  assert.deepEqual(await costs(), before);
  const { first, least, frames } = await watch.end();
  assert.ok(first > 20 && least > 0.9 * first, `of ${first} the brightness fell to ${least} in ${frames} frames`);
  // What a person reads: never anything but that it is connected, at first so and then so.
  assert.deepEqual(await status.end(), ["Connected WebSocket", "Connected WebTransport"]);
  await settles(0);
});
