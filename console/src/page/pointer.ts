// The mouse, or what acts like one, over the screen: positions in the customer's pixels, every button by itself.

import type { Position } from "../core/input";
import { Wheel } from "../core/wheel";
import type { Act } from "../view/messages";

/** Bits of `PointerEvent.buttons`, with the wire's numbers: left, middle, right, back, forward. */
const BUTTONS: readonly [bit: number, button: number][] = [
  [1, 1],
  [4, 2],
  [2, 3],
  [8, 4],
  [16, 5],
];

export interface PointerOptions {
  readonly element: HTMLElement;
  /** Where on the customer's screen a point of the window is; nothing while there is no picture. */
  readonly positionAt: (clientX: number, clientY: number) => Position | undefined;
  readonly act: (act: Act) => void;
  /** The technician moves the pointer there. */
  readonly onMoved: (position: Position) => void;
  readonly onPressed: () => void;
}

/** Listens until the answer is called. */
export function listenToPointer({ element, positionAt, act, onMoved, onPressed }: PointerOptions): () => void {
  const wheel = new Wheel();
  let pressed = 0;

  function follow(event: PointerEvent): void {
    const position = positionAt(event.clientX, event.clientY);
    if (!position) return;
    onMoved(position);
    // Further buttons while one is down come as moves: only the bits tell.
    const changed = event.buttons ^ pressed;
    if (changed === 0) return act({ do: "motion", position });
    pressed = event.buttons;
    for (const [bit, button] of BUTTONS) {
      if (changed & bit) act({ do: "button", button, down: (pressed & bit) !== 0, position });
    }
  }

  function onDown(event: PointerEvent): void {
    event.preventDefault();
    onPressed();
    element.setPointerCapture(event.pointerId);
    follow(event);
  }

  function onWheel(event: WheelEvent): void {
    event.preventDefault();
    const position = positionAt(event.clientX, event.clientY);
    if (position) act({ do: "wheel", ...wheel.take(event), position });
  }

  function onCancel(): void {
    pressed = 0;
    act({ do: "release" });
  }

  const prevent = (event: Event) => event.preventDefault();
  const listeners: [string, (event: never) => void][] = [
    ["pointerdown", onDown],
    ["pointermove", follow],
    ["pointerup", follow],
    ["pointercancel", onCancel],
    ["wheel", onWheel],
    ["contextmenu", prevent],
    // Back and forward buttons would leave the page, the middle one would scroll it.
    ["mousedown", prevent],
    ["mouseup", prevent],
    ["auxclick", prevent],
  ];
  for (const [type, listener] of listeners) {
    element.addEventListener(type, listener as EventListener, { passive: false });
  }
  return () => {
    for (const [type, listener] of listeners) element.removeEventListener(type, listener as EventListener);
  };
}
