// The view worker: connection, decoder and canvas in one thread, so that what arrives is decoded, painted and
// acknowledged without waiting for the page.
import { systemChance, systemClock } from "../core/clock";
import { closeNamed } from "../core/close";
import { JoinError } from "../core/joining";
import { Session } from "../core/session";
import { DeskError, token } from "../desk/api";
import { type Key, makeKey } from "../desk/key";
import { cursorImage } from "./cursor";
import { loadDecoder } from "./decoder";
import type { Act, FromWorker, Start, ToWorker } from "./messages";
import { Probe } from "./probe";
import { looksForBetter, ways } from "./reach";
import { Screens } from "./screens";
import { h264Levels } from "./video";

/** Codec versions that the decoder reads, best first. */
const CODECS = [3, 2, 1];

const scope = globalThis as unknown as DedicatedWorkerScope;
const module = loadDecoder();
const levels = h264Levels();
let session: Session | undefined;
let probe: Probe | undefined;

/** What this file uses of its own scope; TypeScript's libraries for pages and workers exclude one another. */
interface DedicatedWorkerScope {
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
  postMessage(message: FromWorker, transfer?: Transferable[]): void;
}

function tell(message: FromWorker): void {
  scope.postMessage(message);
}

function fail(error: unknown): void {
  tell({ type: "failed", reason: String(error) });
}

scope.onmessage = ({ data }) => {
  if (data.type === "act") {
    if (session) perform(session, data.act);
  } else if (data.type === "ask") {
    const { id, question } = data;
    probe?.answer(question).then((answer) => tell({ type: "answer", id, answer }), fail);
  } else {
    start(data.start).catch(fail);
  }
};

async function start({ canvas, session: id, ticket, transport, isTest }: Start): Promise<void> {
  let statistics: Probe | undefined;
  const screens = new Screens(
    await module,
    canvas,
    (drawn) => statistics?.drawn(drawn),
    (display, width, height) => tell({ type: "size", display, width, height }),
    (display, rendition) => session?.pictureLost(display, rendition),
  );
  const hasVideo = (await levels).length > 0;
  screens.setVideo(hasVideo);
  if (!hasVideo) tell({ type: "noVideo" });
  const key = await makeKey();
  session = new Session({
    clock: systemClock,
    chance: systemChance,
    agent: `tandem-console ${__VERSION__}`,
    codecs: CODECS,
    h264Levels: await levels,
    openers: (place) => ways(transport, place),
    looksForBetter: looksForBetter(transport),
    token: () => join(id, key),
    prove: key && ((signed) => key.sign(signed)),
    ticket,
    sink: screens,
    onView: (view) => {
      screens.show(view.display);
      tell({ type: "view", view });
    },
    onCursorShape: (shape) => {
      cursorImage(shape).then((image) => image && tell({ type: "cursor", image }), fail);
    },
    onCursorPosition: ({ display, x, y, visible }) => tell({ type: "pointer", display, x, y, visible }),
    onTicket: (newTicket) => tell({ type: "ticket", ticket: newTicket }),
    onSent: isTest ? (sent) => statistics?.sent(sent) : undefined,
  });
  if (isTest) statistics = probe = new Probe(session, screens);
  session.start();
}

/** A token from the desk, or its no in the relay's words. */
async function join(id: string, key: Key | undefined): Promise<string> {
  try {
    return await token(id, key?.x);
  } catch (error) {
    if (!(error instanceof DeskError)) throw error;
    if (error.status === 401) {
      tell({ type: "signedOut" });
      throw new JoinError(closeNamed("token_expired"), error.message);
    }
    if (error.status === 404 || error.status === 410) throw new JoinError(closeNamed("ended"), error.message);
    if (error.status === 403) throw new JoinError(closeNamed("forbidden"), error.message);
    throw error;
  }
}

function perform(to: Session, act: Act): void {
  const { input } = to;
  switch (act.do) {
    case "key":
      return input.key(act.usage, act.down, act.locks, act.text);
    case "text":
      return input.text(act.text);
    case "button":
      return input.button(act.button, act.down, act.position);
    case "wheel":
      return input.wheel(act.x, act.y, act.position);
    case "motion":
      return input.motion(act.position);
    case "release":
      return input.releaseAll();
    case "show":
      return to.show(act.display);
    case "visible":
      return to.setVisible(act.isVisible);
    case "ask":
      return to.ask();
    case "end":
      to.end();
      return;
    case "leave":
      return to.leave();
    case "retry":
      return to.retryNow();
  }
}
