// The console in a real Chromium against the real relay: signing in, sessions, both bindings, and a relay that dies.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { scene } from "./scene.mjs";

const stage = scene();
const isOpen = ({ view }) => view?.connection.phase === "open";

test("the secret signs in once and does not stay in the address", async () => {
  const relay = await stage.startRelay();
  const desk = await stage.openConsole();
  assert.equal(new URL(desk.page.url()).hash, "");
  await desk.page.reload();
  await desk.page.waitForSelector("main.list");

  const other = await (await stage.browser.newContext()).newPage();
  await other.goto(relay.ready.console);
  await other.getByRole("alert").getByText("not valid").waitFor();
  assert.equal(await other.getByLabel("One-time secret").isVisible(), true);
  assert.deepEqual(desk.errors, []);
});

test("the page breaks no rule of its content security policy and says which language it speaks", async () => {
  await stage.startRelay();
  const desk = await stage.openConsole({ locale: "de-DE" });
  await desk.page.getByRole("heading", { name: "Sitzungen" }).waitFor();
  assert.equal(await desk.page.locator("html").getAttribute("lang"), "de");
  assert.deepEqual(desk.errors, []);
});

for (const transport of ["webtransport", "websocket"]) {
  describe(`over ${transport}`, () => {
    test("a session is created, opened, and waits for its customer with the code", async () => {
      await stage.startRelay({ udp: transport === "webtransport" });
      const desk = await stage.openConsole({ transport });
      const code = await desk.createSession();
      assert.match(code, /^\d{6}$/);
      await desk.openFirstSession();
      const { view } = await desk.waitForState(isOpen);
      assert.equal(view.connection.transport, transport);
      await desk.page.getByText("Waiting for the customer to join").waitFor();
      const shown = await desk.page.locator(".digits").textContent();
      assert.equal(shown.replace(/\D/g, ""), code);
      assert.deepEqual(desk.errors, []);
    });

    test("a relay that was killed is found again, as the same participant", async () => {
      const relay = await stage.startRelay({ udp: transport === "webtransport" });
      const desk = await stage.openConsole({ transport });
      await desk.createSession();
      await desk.openFirstSession();
      const { view: before } = await desk.waitForState(isOpen);
      await relay.crash();
      await desk.waitForState(({ view }) => view?.connection.phase === "reconnecting");
      await relay.restart();
      const { view: after } = await desk.waitForState(isOpen);
      assert.equal(after.self, before.self);
    });
  });
}

test("where UDP is not served, the WebSocket is used without being asked for", async () => {
  await stage.startRelay({ udp: false });
  const desk = await stage.openConsole();
  await desk.openFirstSession();
  await desk.waitForState(({ view }) => view?.connection.transport === "websocket");
});

test("loading the page again keeps the place in the session", async () => {
  await stage.startRelay();
  const desk = await stage.openConsole();
  await desk.openFirstSession();
  const { view: before } = await desk.waitForState(isOpen);
  await desk.page.reload();
  const { view: after } = await desk.waitForState(isOpen);
  assert.equal(after.self, before.self);
});

test("ending a session says so, and leads back to the list", async () => {
  await stage.startRelay();
  const desk = await stage.openConsole();
  await desk.openFirstSession();
  await desk.waitForState(isOpen);
  await desk.page.getByRole("button", { name: "End session" }).click();
  await desk.page.getByRole("dialog").getByRole("button", { name: "End session" }).click();
  await desk.page.getByRole("alert").getByText("You ended the session.").waitFor();
  await desk.page.getByRole("button", { name: "Back to sessions" }).click();
  await desk.page.waitForSelector("main.list");
});

test("signing out leads to the form, and loading again stays there", async () => {
  await stage.startRelay();
  const desk = await stage.openConsole();
  await desk.page.getByRole("button", { name: "Sign out" }).click();
  await desk.page.getByLabel("One-time secret").waitFor();
  await desk.page.reload();
  await desk.page.getByLabel("One-time secret").waitFor();
});
