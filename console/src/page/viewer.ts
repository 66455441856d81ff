// The page's end of the view worker: what it says becomes a store, what the technician does goes to it.
import type { SessionView } from "../core/session";
import type { CursorImage } from "../view/cursor";
import type { Act, FromWorker, Question, ToWorker } from "../view/messages";
import { isTest, onlyTransport } from "./place";
import { Store } from "./store";

export interface ViewerState {
  readonly view: SessionView | undefined;
  /** Of the shown display's picture; nothing before the first. */
  readonly size: { readonly width: number; readonly height: number } | undefined;
  readonly cursor: { readonly image: CursorImage; readonly url: string | undefined } | undefined;
  /** Where the customer's pointer is. */
  readonly pointer:
    | { readonly display: number; readonly x: number; readonly y: number; readonly visible: boolean }
    | undefined;
  readonly isSignedOut: boolean;
  /** This browser decodes the customer's video. */
  readonly hasVideo: boolean;
  readonly failure: string | undefined;
}

const NOTHING: ViewerState = {
  view: undefined,
  size: undefined,
  cursor: undefined,
  pointer: undefined,
  isSignedOut: false,
  hasVideo: true,
  failure: undefined,
};

/** Where a session's ticket waits for the page to be loaded again. */
function ticketKey(session: string): string {
  return `tandem.ticket.${session}`;
}

export class Viewer {
  readonly state = new Store<ViewerState>(NOTHING);
  readonly canvas = document.createElement("canvas");
  private readonly worker = new Worker(new URL("../view/worker.ts", import.meta.url), { type: "module" });
  private readonly questions = new Map<number, (answer: unknown) => void>();
  private asked = 0;
  private readonly onVisibility = () => this.act({ do: "visible", isVisible: !document.hidden });
  private readonly onOnline = () => this.act({ do: "retry" });

  constructor(readonly session: string) {
    this.worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.hear(data);
    this.worker.onerror = (event) => this.state.merge({ failure: event.message });
    const canvas = this.canvas.transferControlToOffscreen();
    const saved = sessionStorage.getItem(ticketKey(session));
    const ticket = saved ? Uint8Array.from(atob(saved), (character) => character.charCodeAt(0)) : undefined;
    this.say({ type: "start", start: { canvas, session, ticket, transport: onlyTransport, isTest } }, [canvas]);
    document.addEventListener("visibilitychange", this.onVisibility);
    addEventListener("online", this.onOnline);
    if (document.hidden) this.onVisibility();
  }

  act(act: Act): void {
    this.say({ type: "act", act });
  }

  /** For tests and measurements; answered only with `?test`. */
  ask(question: Question): Promise<unknown> {
    const id = ++this.asked;
    this.say({ type: "ask", id, question });
    return new Promise((resolve) => this.questions.set(id, resolve));
  }

  /** Leaves the session, which goes on without this technician. */
  leave(): void {
    sessionStorage.removeItem(ticketKey(this.session));
    this.act({ do: "leave" });
    this.dispose();
  }

  private dispose(): void {
    document.removeEventListener("visibilitychange", this.onVisibility);
    removeEventListener("online", this.onOnline);
    // The worker needs a moment to say goodbye; it is told to go by its own last message.
    const { worker } = this;
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
      if (data.type === "view" && data.view.connection.phase === "closed") setTimeout(() => worker.terminate(), 1000);
    };
    const { cursor } = this.state.get();
    if (cursor?.url) URL.revokeObjectURL(cursor.url);
  }

  private say(message: ToWorker, transfer: Transferable[] = []): void {
    this.worker.postMessage(message, transfer);
  }

  private hear(message: FromWorker): void {
    switch (message.type) {
      case "view":
        return this.viewChanged(message.view);
      case "size":
        return this.state.merge({ size: { width: message.width, height: message.height } });
      case "cursor":
        return this.cursorChanged(message.image);
      case "pointer":
        return this.state.merge({ pointer: message });
      case "ticket":
        return sessionStorage.setItem(ticketKey(this.session), btoa(String.fromCharCode(...message.ticket)));
      case "signedOut":
        return this.state.merge({ isSignedOut: true });
      case "noVideo":
        return this.state.merge({ hasVideo: false });
      case "failed":
        return this.state.merge({ failure: message.reason });
      case "answer":
        this.questions.get(message.id)?.(message.answer);
        this.questions.delete(message.id);
    }
  }

  private viewChanged(view: SessionView): void {
    if (view.connection.phase === "closed") sessionStorage.removeItem(ticketKey(this.session));
    this.state.merge({ view });
  }

  private cursorChanged(image: CursorImage): void {
    const before = this.state.get().cursor;
    this.state.merge({ cursor: { image, url: image.png && URL.createObjectURL(image.png) } });
    if (before?.url) URL.revokeObjectURL(before.url);
  }
}
