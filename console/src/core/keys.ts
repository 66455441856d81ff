// Keys by their physical position: `KeyboardEvent.code` (W3C UI Events KeyboardEvent code Values) to usages of USB HID's
// keyboard page (HID Usage Tables 1.5, section 10). Media keys that only the consumer page has are left to the browser.

const NAMED: { readonly [code: string]: number } = {
  Enter: 0x28,
  Escape: 0x29,
  Backspace: 0x2a,
  Tab: 0x2b,
  Space: 0x2c,
  Minus: 0x2d,
  Equal: 0x2e,
  BracketLeft: 0x2f,
  BracketRight: 0x30,
  Backslash: 0x31,
  Semicolon: 0x33,
  Quote: 0x34,
  Backquote: 0x35,
  Comma: 0x36,
  Period: 0x37,
  Slash: 0x38,
  CapsLock: 0x39,
  PrintScreen: 0x46,
  ScrollLock: 0x47,
  Pause: 0x48,
  Insert: 0x49,
  Home: 0x4a,
  PageUp: 0x4b,
  Delete: 0x4c,
  End: 0x4d,
  PageDown: 0x4e,
  ArrowRight: 0x4f,
  ArrowLeft: 0x50,
  ArrowDown: 0x51,
  ArrowUp: 0x52,
  NumLock: 0x53,
  NumpadDivide: 0x54,
  NumpadMultiply: 0x55,
  NumpadSubtract: 0x56,
  NumpadAdd: 0x57,
  NumpadEnter: 0x58,
  Numpad0: 0x62,
  NumpadDecimal: 0x63,
  IntlBackslash: 0x64,
  ContextMenu: 0x65,
  Power: 0x66,
  NumpadEqual: 0x67,
  Open: 0x74,
  Help: 0x75,
  Props: 0x76,
  Select: 0x77,
  BrowserStop: 0x78,
  Again: 0x79,
  Undo: 0x7a,
  Cut: 0x7b,
  Copy: 0x7c,
  Paste: 0x7d,
  Find: 0x7e,
  AudioVolumeMute: 0x7f,
  AudioVolumeUp: 0x80,
  AudioVolumeDown: 0x81,
  NumpadComma: 0x85,
  IntlRo: 0x87,
  KanaMode: 0x88,
  IntlYen: 0x89,
  Convert: 0x8a,
  NonConvert: 0x8b,
  Lang1: 0x90,
  HangulMode: 0x90,
  Lang2: 0x91,
  Hanja: 0x91,
  Lang3: 0x92,
  Katakana: 0x92,
  Lang4: 0x93,
  Hiragana: 0x93,
  Lang5: 0x94,
  Abort: 0x9b,
  NumpadParenLeft: 0xb6,
  NumpadParenRight: 0xb7,
  NumpadBackspace: 0xbb,
  NumpadMemoryStore: 0xd0,
  NumpadMemoryRecall: 0xd1,
  NumpadMemoryClear: 0xd2,
  NumpadMemoryAdd: 0xd3,
  NumpadMemorySubtract: 0xd4,
  NumpadClear: 0xd8,
  NumpadClearEntry: 0xd9,
  ControlLeft: 0xe0,
  ShiftLeft: 0xe1,
  AltLeft: 0xe2,
  MetaLeft: 0xe3,
  OSLeft: 0xe3,
  ControlRight: 0xe4,
  ShiftRight: 0xe5,
  AltRight: 0xe6,
  MetaRight: 0xe7,
  OSRight: 0xe7,
};

/** Usages that this file's users name. */
export const Usage = { Delete: 0x4c, ControlLeft: 0xe0, AltLeft: 0xe2 } as const;

const USAGES = new Map<string, number>(Object.entries(NAMED));
for (let n = 0; n < 26; n += 1) USAGES.set(`Key${String.fromCharCode(65 + n)}`, 0x04 + n);
for (let n = 1; n <= 9; n += 1) USAGES.set(`Digit${n}`, 0x1d + n).set(`Numpad${n}`, 0x58 + n);
USAGES.set("Digit0", 0x27);
for (let n = 1; n <= 12; n += 1) USAGES.set(`F${n}`, 0x39 + n).set(`F${n + 12}`, 0x67 + n);

/** The usage of a key's position; nothing if the keyboard page has none. */
export function usageOf(code: string): number | undefined {
  return USAGES.get(code);
}

/** Whether a usage is a modifier: the last eight of the page. */
export function isModifier(usage: number): boolean {
  return usage >= 0xe0;
}
