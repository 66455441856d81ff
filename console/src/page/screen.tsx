// The customer's screen: the canvas that the worker paints, the cursor, and the keyboard and pointer while the
// technician may use them.
import type { RefObject } from "preact";
import { useEffect, useImperativeHandle, useRef, useState } from "preact/hooks";
import type { Position } from "../core/input";
import { Right } from "../core/rights";
import { text } from "../i18n";
import { pixelAt, type Size, scaleFor } from "./geometry";
import { listenToPointer } from "./pointer";
import { RemoteCursor, useCursorStyle } from "./remote-cursor";
import type { Scale } from "./session";
import { useStore } from "./store";
import { listenToKeyboard } from "./typing";
import type { Viewer } from "./viewer";

export interface ScreenHandle {
  /** The keyboard goes to the customer. */
  focus(): void;
}

interface Props {
  readonly handleRef: RefObject<ScreenHandle>;
  readonly viewer: Viewer;
  readonly scale: Scale;
  readonly isHidden: boolean;
  readonly onEscape: () => void;
}

export function Screen({ handleRef, viewer, scale, isHidden, onEscape }: Props) {
  const { view, size, cursor, pointer } = useStore(viewer.state);
  const frame = useRef<HTMLDivElement>(null);
  const picture = useRef<HTMLDivElement>(null);
  const field = useRef<HTMLTextAreaElement>(null);
  const [moved, setMoved] = useState<Position>();
  const [hasKeyboard, setHasKeyboard] = useState(false);
  const room = useRoom(frame);
  const canControl = !isHidden && (view?.rights.includes(Right.CONTROL) ?? false);
  const drawn = size && sized(size, scaleFor(scale, size, room, devicePixelRatio));
  const style = useCursorStyle(cursor, canControl);

  const focus = () => field.current?.focus({ preventScroll: true });
  useImperativeHandle(handleRef, () => ({ focus }), []);

  useEffect(() => {
    picture.current?.prepend(viewer.canvas);
  }, [viewer]);

  useEffect(() => {
    if (!canControl || !picture.current || !field.current) return;
    focus();
    const stopPointer = listenToPointer({
      element: picture.current,
      positionAt: (x, y) => positionAt(viewer, x, y),
      act: (act) => viewer.act(act),
      onMoved: setMoved,
      onPressed: focus,
    });
    const stopKeyboard = listenToKeyboard(field.current, (act) => viewer.act(act), onEscape);
    return () => {
      stopPointer();
      stopKeyboard();
      viewer.act({ do: "release" });
    };
  }, [viewer, canControl]);

  return (
    <div class={`frame ${scale}`} ref={frame} hidden={isHidden}>
      <div
        class={`picture ${hasKeyboard ? "has-keyboard" : ""}`}
        ref={picture}
        style={{ ...style, width: drawn && `${drawn.width}px`, height: drawn && `${drawn.height}px` }}
      >
        {size && drawn && (
          <RemoteCursor
            cursor={cursor}
            pointer={pointer?.display === view?.display ? pointer : undefined}
            moved={canControl ? moved : undefined}
            scale={drawn.width / size.width}
          />
        )}
        <textarea
          class="keys"
          ref={field}
          disabled={!canControl}
          aria-label={text.session.screenLabel(text.session.escape)}
          autocomplete="off"
          autocapitalize="off"
          spellcheck={false}
          onFocus={() => setHasKeyboard(true)}
          onBlur={() => setHasKeyboard(false)}
        />
      </div>
      <p class="keyboard-note hint" aria-hidden="true">
        {noteOn(canControl, hasKeyboard)}
      </p>
    </div>
  );
}

function noteOn(canControl: boolean, hasKeyboard: boolean): string {
  if (!canControl) return text.session.viewOnly;
  return hasKeyboard ? `${text.session.keyboardHere} · ${text.session.escapeHint}` : text.session.keyboardAway;
}

function sized({ width, height }: Size, scale: number): Size {
  return { width: width * scale, height: height * scale };
}

/** Which pixel of the customer's screen lies there, of the layout that is shown. */
function positionAt(viewer: Viewer, clientX: number, clientY: number): Position | undefined {
  const { view, size } = viewer.state.get();
  if (!size || view?.display === undefined || !view.layout) return undefined;
  const box = viewer.canvas.getBoundingClientRect();
  if (box.width === 0 || box.height === 0) return undefined;
  const pixel = pixelAt(clientX - box.left, clientY - box.top, box, size);
  return { display: view.display, generation: view.layout.generation, ...pixel };
}

/** The room that an element offers. */
function useRoom(element: RefObject<HTMLElement>): Size {
  const [room, setRoom] = useState<Size>({ width: innerWidth, height: innerHeight });
  useEffect(() => {
    if (!element.current) return;
    const observer = new ResizeObserver(([entry]) => {
      if (entry && entry.contentRect.width > 0) setRoom(entry.contentRect);
    });
    observer.observe(element.current);
    return () => observer.disconnect();
  }, [element]);
  return room;
}
