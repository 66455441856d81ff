// The session's toolbar: the way back, how the connection is, and what can be done.
import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Usage } from "../core/keys";
import { Right } from "../core/rights";
import type { SessionView } from "../core/session";
import { text } from "../i18n";
import { go } from "./place";
import type { Scale } from "./session";
import type { Viewer } from "./viewer";

interface Props {
  readonly elementRef: RefObject<HTMLElement>;
  readonly viewer: Viewer;
  readonly view: SessionView | undefined;
  readonly scale: Scale;
  readonly status: ComponentChildren;
  readonly onScale: (scale: Scale) => void;
  readonly onFullScreen: () => void;
  readonly onEnd: () => void;
  /** The screen gets the focus back. */
  readonly onDone: () => void;
}

export function Toolbar({ elementRef, viewer, view, status, scale, onScale, onFullScreen, onEnd, onDone }: Props) {
  const isFull = useFullScreen();
  const canControl = view?.rights.includes(Right.CONTROL) ?? false;
  const mayAsk = view?.rights.includes(Right.VIEW) && !canControl && view.permitted.includes(Right.CONTROL);
  const customer = view?.participants.find(({ publisher }) => publisher);
  const dialog = useRef<HTMLDialogElement>(null);

  function then(work: () => void): () => void {
    return () => {
      work();
      onDone();
    };
  }

  return (
    <header class="toolbar" ref={elementRef} role="toolbar" aria-label={text.session.toolbar}>
      <button type="button" onClick={() => go({ at: "list" })}>
        ‹ {text.session.back}
      </button>
      {status}
      <span class="spacer" />
      {customer && <span class="hint who">{customer.name || text.session.customer}</span>}
      {mayAsk && (
        <button
          type="button"
          class="primary"
          disabled={view?.isAsking ?? false}
          onClick={() => viewer.act({ do: "ask" })}
        >
          {text.session.requestControl}
        </button>
      )}
      <DisplayChoice view={view} onChoice={(display) => viewer.act({ do: "show", display })} />
      {/* biome-ignore lint/a11y/useSemanticElements: a fieldset's look cannot be taken from it in every browser. */}
      <span class="group" role="group">
        <button
          type="button"
          aria-pressed={scale === "fit"}
          title={text.session.fitTitle}
          onClick={then(() => onScale("fit"))}
        >
          {text.session.fit}
        </button>
        <button
          type="button"
          aria-pressed={scale === "actual"}
          title={text.session.actualTitle}
          onClick={then(() => onScale("actual"))}
        >
          {text.session.actual}
        </button>
      </span>
      <button type="button" onClick={then(onFullScreen)}>
        {isFull ? text.session.leaveFullScreen : text.session.fullScreen}
      </button>
      <button
        type="button"
        disabled={!canControl}
        title={text.session.cadTitle}
        onClick={then(() => sendCtrlAltDel(viewer))}
      >
        {text.session.cad}
      </button>
      <button type="button" class="danger" onClick={() => dialog.current?.showModal()}>
        {text.session.end}
      </button>
      <dialog ref={dialog} aria-labelledby="end-title">
        <h2 id="end-title">{text.session.endTitle}</h2>
        <p>{text.session.endLead}</p>
        <form method="dialog" class="buttons">
          <button type="submit">{text.session.cancel}</button>
          <button type="submit" class="danger solid" onClick={onEnd}>
            {text.session.endConfirm}
          </button>
        </form>
      </dialog>
    </header>
  );
}

interface ChoiceProps {
  readonly view: SessionView | undefined;
  readonly onChoice: (display: number) => void;
}

/** Nothing to choose with one display. */
function DisplayChoice({ view, onChoice }: ChoiceProps) {
  const displays = view?.layout?.displays ?? [];
  if (displays.length < 2) return null;
  return (
    <select
      aria-label={text.session.display}
      value={view?.display ?? 0}
      onChange={(event) => onChoice(Number(event.currentTarget.value))}
    >
      {displays.map(({ id, name, width, height }) => (
        <option key={id} value={id}>
          {text.session.displayName(name || String(id + 1), width, height)}
        </option>
      ))}
    </select>
  );
}

function useFullScreen(): boolean {
  const [isFull, setFull] = useState(false);
  useEffect(() => {
    const onChange = () => setFull(document.fullscreenElement !== null);
    document.addEventListener("fullscreenchange", onChange);
    return () => document.removeEventListener("fullscreenchange", onChange);
  }, []);
  return isFull;
}

function sendCtrlAltDel(viewer: Viewer): void {
  const usages = [Usage.ControlLeft, Usage.AltLeft, Usage.Delete];
  const locks = { caps: false, num: false, scroll: false };
  for (const usage of usages) viewer.act({ do: "key", usage, down: true, locks, text: "" });
  for (const usage of usages.reverse()) viewer.act({ do: "key", usage, down: false, locks, text: "" });
}
