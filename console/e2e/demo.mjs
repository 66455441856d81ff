// `make demo CHECK=1`: plays technician and customer on programs that run already, checks that the main job works, and
// prints what it measured. The environment says where everything is (scripts/demo).
import assert from "node:assert/strict";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { launch, openConsole } from "./browser.mjs";
import { bothAtRest, Desktop, difference } from "./customer.mjs";

const { OUT: out, CONSOLE_URL: url, TRANSPORT: transport, APPLET_PID: applet, RELAY_PID: relay } = process.env;
const SENTENCE = "The quick brown fox jumps over the lazy dog: 0123456789, äöü – naïve €!";
const KEYS = 100;

const say = (text) => process.stderr.write(`==> demo: ${text}\n`);

/** Resident memory of a process, MiB. */
async function resident(pid) {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(status.match(/^VmRSS:\s+(\d+) kB$/m)[1]) / 1024;
}

/** The value below which so many percent of the values lie. */
function percentile(values, percent) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil((percent / 100) * sorted.length) - 1)];
}

const round = (value) => Math.round(value * 10) / 10;

async function readEnv(file) {
  const lines = (await readFile(file, "utf8")).split("\n");
  return Object.fromEntries(lines.map((line) => line.split(/=(.*)/s).slice(0, 2)));
}

/** Bytes of everything that the first view loads, as the relay sends it to a browser that takes brotli. */
async function firstViewBytes() {
  const dist = fileURLToPath(new URL("../dist", import.meta.url));
  const files = (await readdir(dist, { recursive: true })).filter((file) => file.endsWith(".br"));
  const sizes = await Promise.all(files.map(async (file) => (await stat(join(dist, file))).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

const desktop = Desktop.on(await readEnv(join(out, "desktop.env")));
const browser = await launch();
try {
  const idleMemory = await resident(applet);
  say("the technician signs in and opens the session");
  const desk = await openConsole(browser, url, { transport });
  await desk.openFirstSession();
  say("the customer is asked, and allows it");
  await desktop.allow();
  await desk.waitForPicture();
  await desk.waitForControl();

  say("typing a sentence into the customer's editor");
  const editor = await desktop.geometry(desktop.env.EDITOR_WINDOW);
  await desk.click(editor.x + Math.floor(editor.width / 2), editor.y + Math.floor(editor.height / 2));
  await desk.type(SENTENCE);
  await desk.page.keyboard.press("Control+s");
  const deadline = Date.now() + 10_000;
  while ((await desktop.editorText()).trimEnd() !== SENTENCE) {
    assert.ok(Date.now() < deadline, `the editor holds ${JSON.stringify(await desktop.editorText())}`);
    await desk.page.waitForTimeout(50);
  }

  say(`${KEYS} keys in the customer's terminal, one after the other`);
  const xterm = await desktop.geometry(desktop.env.XTERM_WINDOW);
  // Where the editor does not lie over it.
  await desk.click(xterm.x + 60, xterm.y + Math.floor(xterm.height / 2));
  await desk.waitForRest();
  const latencies = [];
  const toX = [];
  const keys = await desktop.watchKeys();
  for (let i = 0; i < KEYS; i++) {
    const { madeAt, sentAt, drawnAt } = await desk.measureKey("abcdefghij"[i % 10], xterm);
    latencies.push(drawnAt - madeAt);
    toX.push((await keys.nth(i)) - sentAt);
  }
  keys.stop();
  assert.equal(keys.pressed.length, KEYS, "every key reaches the display once");

  say("comparing the canvas with the customer's display");
  const { seen, real } = await bothAtRest(desk, desktop);
  await desk.screenshot(join(out, "console.png"));
  const differs = difference(seen, real);
  assert.equal(differs.pixels, 0, `canvas and display differ: ${JSON.stringify(differs)}`);

  const state = await desk.state();
  assert.deepEqual(desk.errors, []);
  const result = {
    schema: 1,
    kind: "demo",
    transport: state.view.connection.transport,
    picture: `${seen.width}x${seen.height}`,
    keystroke_to_canvas_ms: { median: round(percentile(latencies, 50)), p99: round(percentile(latencies, 99)) },
    input_to_x_ms: { median: round(percentile(toX, 50)), p99: round(percentile(toX, 99)) },
    applet_resident_mib: { idle: round(idleMemory), session: round(await resident(applet)) },
    relay_resident_mib: round(await resident(relay)),
    console_first_view_bytes: await firstViewBytes(),
    screenshot: join(out, "console.png"),
  };
  assert.ok((await stat(result.screenshot)).size > 10_000);
  process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
} finally {
  await browser.close();
}
