// A technician whose network lets UDP through only when the work is already under way.
import assert from "node:assert/strict";
import { test } from "node:test";
import { bothAtRest, difference } from "./customer.mjs";
import { scene, stayedBright, until } from "./scene.mjs";

/** It has gone over within this time, ms. */
const PATIENCE_MS = 30_000;
/** Typed over and over, each in a line: a key that is doubled, lost or overtaken shows. */
const KEYS = "abcdefghijklmnopqrstuvwxyz0123456789\n";
/** Between two keys, ms. */
const PAUSE_MS = 15;

const stage = scene();

/** What going over must not cost: keys asked of the customer, and records that do not reach whom they are for. */
async function costs(relay) {
  const dropped = (reason) => relay.metric(`tandem_relay_dropped_records_total{reason="${reason}"}`);
  return {
    keys: await relay.metric("tandem_relay_keys_wanted_total"),
    dropped: await Promise.all(["unsent", "stale", "no_right", "away", "full"].map(dropped)),
  };
}

test("a console goes over to WebTransport while its technician types", { timeout: 120_000 }, async () => {
  const relay = await stage.startRelay();
  const gate = await stage.startGate();
  const { desk, desktop } = await stage.work({ url: gate.url(relay.ready.console), transport: "any" });
  assert.equal((await desk.state()).view.connection.transport, "websocket");
  assert.ok(gate.turnedAway > 0, "the browser never tried UDP");
  await bothAtRest(desk, desktop);
  const [before, watch] = [await costs(relay), await desk.watchBrightness()];
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
  await stage.saved((text) => text === typed.trimEnd());
  const { seen, real } = await bothAtRest(desk, desktop);
  assert.deepEqual(difference(seen, real), { pixels: 0 });
  assert.deepEqual(await costs(relay), before);
  await stayedBright(watch);
  // What a person reads: never anything but that it is connected, at first so and then so.
  assert.deepEqual(await status.end(), ["Connected WebSocket", "Connected WebTransport"]);
  const metric = 'tandem_relay_connections{transport="websocket"}';
  await until(async () => (await relay.metric(metric)) === 0, "nobody over a WebSocket any more");
});
