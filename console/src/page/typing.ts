// The keyboard while the screen has the focus. A text field without a look receives the events, because only a text
// field gets what input methods and dead keys compose.
import { Keyboard } from "../core/keyboard";
import type { Act } from "../view/messages";

/** Keys that a page does not see unless it asks for them; browsers grant this in full screen. */
interface KeyboardLock {
  lock(): Promise<void>;
  unlock(): void;
}

const keyboardLock = (navigator as Navigator & { keyboard?: KeyboardLock }).keyboard;

/** Listens until the answer is called. `onEscape`: the technician wants the keyboard back. */
export function listenToKeyboard(
  field: HTMLTextAreaElement,
  act: (act: Act) => void,
  onEscape: () => void,
): () => void {
  const keyboard = new Keyboard({
    key: (usage, down, locks, text) => act({ do: "key", usage, down, locks, text }),
    text: (text) => act({ do: "text", text }),
    release: () => act({ do: "release" }),
    escape: onEscape,
  });

  function onDown(event: KeyboardEvent): void {
    if (keyboard.keyDown(event)) event.preventDefault();
  }

  function onUp(event: KeyboardEvent): void {
    if (keyboard.keyUp(event)) event.preventDefault();
  }

  function onInput(event: Event): void {
    if ((event as InputEvent).isComposing) return;
    keyboard.composed(field.value);
    field.value = "";
  }

  function onCompositionEnd(event: CompositionEvent): void {
    keyboard.composed(event.data);
    field.value = "";
  }

  function onFullScreen(): void {
    if (!keyboardLock) return;
    if (document.fullscreenElement) keyboardLock.lock().catch(() => {});
    else keyboardLock.unlock();
  }

  const onBlur = () => keyboard.releaseAll();
  field.addEventListener("keydown", onDown);
  field.addEventListener("keyup", onUp);
  field.addEventListener("input", onInput);
  field.addEventListener("compositionend", onCompositionEnd);
  field.addEventListener("blur", onBlur);
  document.addEventListener("fullscreenchange", onFullScreen);
  return () => {
    field.removeEventListener("keydown", onDown);
    field.removeEventListener("keyup", onUp);
    field.removeEventListener("input", onInput);
    field.removeEventListener("compositionend", onCompositionEnd);
    field.removeEventListener("blur", onBlur);
    document.removeEventListener("fullscreenchange", onFullScreen);
  };
}
