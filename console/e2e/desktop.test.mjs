// The main job, end to end: a real desktop, the applet on it, the relay, and the console in a real Chromium. What arrives
// is read on the customer's side, not in Tandem.
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { launch, openConsole } from "./browser.mjs";
import { Applet, bothAtRest, Desktop, difference, saved as savedOn } from "./customer.mjs";
import { Relay } from "./programs.mjs";

/** Whatever hangs fails. */
const limit = { timeout: 90_000 };

let browser;
let relay;
let desktop;
let applet;
let desk;

before(async () => {
  browser = await launch();
});
after(() => browser.close());
afterEach(async () => {
  await Promise.all(browser.contexts().map((context) => context.close()));
  await applet?.end();
  await desktop?.end();
  await relay?.end();
  applet = desktop = relay = undefined;
});

/** Everything runs, and the technician is in the session; the customer has not been asked yet. */
async function meet({ transport = "webtransport" } = {}) {
  relay = await Relay.start({ udp: transport === "webtransport" });
  desktop = await Desktop.start();
  applet = new Applet(desktop, relay);
  desk = await openConsole(browser, relay.ready.console, { transport });
  await desk.openFirstSession();
}

/** The same, with everything allowed and the editor under the technician's hands. */
async function work(options) {
  await meet(options);
  await desktop.allow();
  await desk.waitForPicture();
  await desk.waitForControl();
  const editor = await desktop.geometry(desktop.env.EDITOR_WINDOW);
  await desk.click(editor.x + Math.floor(editor.width / 2), editor.y + Math.floor(editor.height / 2));
}

/** Saves in the editor until it holds what `test` accepts. */
const saved = (test) => savedOn(desk, desktop, test);

for (const transport of ["webtransport", "websocket"]) {
  describe(`over ${transport}`, () => {
    test("the technician sees exactly the customer's screen and types into it", limit, async () => {
      await work({ transport });
      const sentence = "Größe: 3 × 5 – «naïve» 漢字 {ok}!";
      await desk.type(sentence);
      await saved((text) => text === sentence);
      const { seen, real } = await bothAtRest(desk, desktop);
      assert.deepEqual(difference(seen, real), { pixels: 0 });
      assert.equal((await desk.state()).view.connection.transport, transport);
      assert.deepEqual(desk.errors, []);
    });

    test(
      "a relay killed in the middle of typing: no new consent, and no key twice, late or silently lost",
      limit,
      async () => {
        await work({ transport });
        const typed = "abcdefghijklmnopqrstuvwxyz0123456789".repeat(2);
        for (const [at, key] of [...typed].entries()) {
          await desk.page.keyboard.press(key);
          await desk.page.waitForTimeout(15);
          if (at === 20) {
            await relay.crash();
            await relay.restart();
          }
        }
        // Nobody sits at the customer's display any more: a new prompt would stay open and refuse.
        await desk.waitForState(({ view }) => view?.connection.phase === "open" && view.rights.includes(2));
        await desk.page.keyboard.press("Enter");
        const text = await saved((text) => text.startsWith(typed.slice(0, 15)) && text.endsWith(typed.slice(-10)));
        const { dropped } = (await desk.state()).view;
        let at = 0;
        for (const key of text) {
          const found = typed.indexOf(key, at);
          assert.ok(found >= at, `${JSON.stringify(key)} is doubled or out of order in ${JSON.stringify(text)}`);
          at = found + 1;
        }
        const lost = typed.length - text.length;
        assert.ok(lost === 0 || dropped.keys > 0, `${lost} keys were lost without a word: ${text}`);
      },
    );

    test("a relay killed and started again: the picture stays and goes on", limit, async () => {
      await work({ transport });
      await bothAtRest(desk, desktop);
      const watch = await desk.watchBrightness();
      await relay.crash();
      await desk.waitForState(({ view }) => view?.connection.phase !== "open");
      await relay.restart();
      await desk.waitForState(({ view }) => view?.connection.phase === "open" && view.rights.includes(2));
      // What is typed to a customer who takes longer than a second to come back is dropped, and said to be.
      while ((await relay.metric('tandem_relay_joins_total{by="ticket"}')) < 2) await desk.page.waitForTimeout(20);
      const sentence = "it goes on";
      await desk.type(sentence);
      await saved((text) => text === sentence);
      const { seen, real } = await bothAtRest(desk, desktop);
      assert.deepEqual(difference(seen, real), { pixels: 0 });
      const { first, least, frames } = await watch.end();
      assert.ok(first > 20 && least > 0.9 * first, `of ${first} the brightness fell to ${least} in ${frames} frames`);
      // It went on where it was: nothing began anew, and nobody needed a key.
      assert.equal(await relay.metric("tandem_relay_keys_wanted_total"), 0);
      assert.equal(await relay.metric("tandem_relay_segments_total"), 0);
    });

    test("an applet killed and started again goes on without asking", limit, async () => {
      await work({ transport });
      await desk.type("before ");
      await saved((text) => text === "before");
      await applet.crash();
      await desk.waitForState(({ view }) => !view.isCustomerOnline);
      applet.resume();
      await desk.waitForState(({ view }) => view.isCustomerOnline && view.rights.includes(2));
      await desk.waitForControl();
      await desk.type("after");
      await saved((text) => text === "before after");
      const { seen, real } = await bothAtRest(desk, desktop);
      assert.deepEqual(difference(seen, real), { pixels: 0 });
    });
  });
}

test("without the customer's consent nothing is seen and nothing arrives", limit, async () => {
  await meet();
  await desk.waitForState(({ view }) => view?.isAsking);
  await desk.type("rm -rf /");
  await desktop.refuse();
  await desk.waitForState(({ view }) => view.isDeclined);
  const { size, view } = await desk.state();
  assert.equal(size ?? undefined, undefined);
  assert.deepEqual(view.rights, []);
  assert.equal(await desktop.editorText(), "");
});

test("that somebody else tries a session's code is read in the list", limit, async () => {
  relay = await Relay.start();
  desktop = await Desktop.start();
  desk = await openConsole(browser, relay.ready.console);
  applet = new Applet(desktop, relay);
  await desk.page.locator("[data-session].primary").waitFor();
  assert.equal(await desk.page.locator("tbody .wrong").count(), 0);
  for (const times of ["1 time", "2 times"]) {
    const other = new Applet(desktop, relay, relay.ready.code, "other");
    assert.equal((await other.program.exited)[0], 3, other.program.log);
    await desk.page.locator("tbody").getByText(`Somebody else tried its code (${times})`).waitFor();
  }
  assert.deepEqual(desk.errors, []);
});

test("the customer takes control back, and ends the session", limit, async () => {
  await work();
  await desktop.stopControl();
  await desk.waitForState(({ view }) => view.rights.length === 1);
  await desk.type("ignored");
  await desktop.endSession();
  await desk.page.getByRole("alert").getByText("customer ended the session").waitFor();
  await applet.program.exited;
  assert.equal(await desktop.editorText(), "");
});
