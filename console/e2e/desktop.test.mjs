// The main job, end to end: a real desktop, the applet on it, the relay, and the console in a real Chromium. What arrives
// is read on the customer's side, not in Tandem.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Applet, bothAtRest, difference } from "./customer.mjs";
import { scene, stayedBright, until } from "./scene.mjs";

/** Whatever hangs fails. */
const limit = { timeout: 90_000 };

const stage = scene();

for (const transport of ["webtransport", "websocket"]) {
  describe(`over ${transport}`, () => {
    test("the technician sees exactly the customer's screen and types into it", limit, async () => {
      const { desk, desktop } = await stage.work({ transport });
      const sentence = "Größe: 3 × 5 – «naïve» 漢字 {ok}!";
      await desk.type(sentence);
      await stage.saved((text) => text === sentence);
      const { seen, real } = await bothAtRest(desk, desktop);
      assert.deepEqual(difference(seen, real), { pixels: 0 });
      assert.equal((await desk.state()).view.connection.transport, transport);
      assert.deepEqual(desk.errors, []);
    });

    test(
      "a relay killed in the middle of typing: no new consent, and no key twice, late or silently lost",
      limit,
      async () => {
        const { desk, relay } = await stage.work({ transport });
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
        const text = await stage.saved(
          (text) => text.startsWith(typed.slice(0, 15)) && text.endsWith(typed.slice(-10)),
        );
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
      const { desk, desktop, relay } = await stage.work({ transport });
      await bothAtRest(desk, desktop);
      const watch = await desk.watchBrightness();
      await relay.crash();
      await desk.waitForState(({ view }) => view?.connection.phase !== "open");
      await relay.restart();
      await desk.waitForState(({ view }) => view?.connection.phase === "open" && view.rights.includes(2));
      // What is typed to a customer who takes longer than a second to come back is dropped, and said to be.
      const joins = () => relay.metric('tandem_relay_joins_total{by="ticket"}');
      await until(async () => (await joins()) >= 2, "both came back by their tickets");
      const sentence = "it goes on";
      await desk.type(sentence);
      await stage.saved((text) => text === sentence);
      const { seen, real } = await bothAtRest(desk, desktop);
      assert.deepEqual(difference(seen, real), { pixels: 0 });
      await stayedBright(watch);
      // It went on where it was: nothing began anew, and nobody needed a key.
      assert.equal(await relay.metric("tandem_relay_keys_wanted_total"), 0);
      assert.equal(await relay.metric("tandem_relay_segments_total"), 0);
    });

    test("an applet killed and started again goes on without asking", limit, async () => {
      const { applet, desk, desktop } = await stage.work({ transport });
      await desk.type("before ");
      await stage.saved((text) => text === "before");
      await applet.crash();
      await desk.waitForState(({ view }) => !view.isCustomerOnline);
      applet.resume();
      await desk.waitForState(({ view }) => view.isCustomerOnline && view.rights.includes(2));
      await desk.waitForControl();
      await desk.type("after");
      await stage.saved((text) => text === "before after");
      const { seen, real } = await bothAtRest(desk, desktop);
      assert.deepEqual(difference(seen, real), { pixels: 0 });
    });
  });
}

test("without the customer's consent nothing is seen and nothing arrives", limit, async () => {
  const { desk, desktop } = await stage.meet();
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
  const relay = await stage.startRelay();
  const desk = await stage.openConsole();
  await stage.startCustomer();
  await desk.page.locator("[data-session].primary").waitFor();
  assert.equal(await desk.page.locator("tbody .wrong").count(), 0);
  for (const times of ["1 time", "2 times"]) {
    const other = new Applet(stage.desktop, relay, relay.ready.code, "other");
    assert.equal((await other.program.exited)[0], 3, other.program.log);
    await desk.page.locator("tbody").getByText(`Somebody else tried its code (${times})`).waitFor();
  }
  assert.deepEqual(desk.errors, []);
});

test("the customer takes control back, and ends the session", limit, async () => {
  const { applet, desk, desktop } = await stage.work();
  await desktop.stopControl();
  await desk.waitForState(({ view }) => view.rights.length === 1);
  await desk.type("ignored");
  await desktop.endSession();
  await desk.page.getByRole("alert").getByText("customer ended the session").waitFor();
  await applet.program.exited;
  assert.equal(await desktop.editorText(), "");
});
