// Close codes: why a connection ended, whose fault that is, and whether trying again helps (docs/protocol.md, section 8).

/** Added to a code on WebSocket, whose own codes end below 4000. */
const WEBSOCKET_BASE = 4000;

/** Whose fault an end is. */
export type Fault = "nobody" | "client" | "relay" | "path";
/** Whether to try again: at once, after a wait that grows, or never. */
export type Retry = "now" | "later" | "never";

/** One line of the registry. */
export interface Close {
  readonly number: number;
  readonly name: CloseName;
  readonly fault: Fault;
  readonly retry: Retry;
}

const TABLE = [
  [1, "ended", "nobody", "never"],
  [2, "left", "nobody", "never"],
  [3, "race_lost", "nobody", "never"],
  [4, "replaced", "nobody", "never"],
  [5, "going_away", "nobody", "now"],
  [6, "time_over", "nobody", "never"],
  [7, "revoked", "nobody", "never"],
  [20, "protocol", "client", "never"],
  [21, "limit", "client", "never"],
  [22, "version", "client", "never"],
  [23, "admission", "client", "later"],
  [30, "code_unknown", "client", "never"],
  [31, "code_expired", "client", "never"],
  [32, "code_used", "client", "never"],
  [33, "token_invalid", "client", "never"],
  [34, "token_expired", "client", "never"],
  [35, "token_used", "client", "never"],
  [36, "ticket_invalid", "client", "never"],
  [37, "ticket_expired", "client", "never"],
  [38, "forbidden", "client", "never"],
  [39, "too_many", "client", "later"],
  [40, "silent", "path", "now"],
  [41, "stalled", "path", "now"],
  [50, "overloaded", "relay", "later"],
  [51, "internal", "relay", "later"],
] as const;

/** The short names of all codes, and "unknown" for those of a later version. */
export type CloseName = (typeof TABLE)[number][1] | "unknown";

const BY_NUMBER = new Map<number, Close>(
  TABLE.map(([number, name, fault, retry]) => [number, { number, name, fault, retry }]),
);
const BY_NAME = new Map([...BY_NUMBER.values()].map((close) => [close.name, close]));

/** Every code of this version, in order. */
export const CLOSES: readonly Close[] = [...BY_NUMBER.values()];

/** The code of this name. */
export function closeNamed(name: Exclude<CloseName, "unknown">): Close {
  return BY_NAME.get(name) as Close;
}

/** From the number on WebTransport. One of a later version counts as the relay's fault, to be tried later. */
export function closeFromNumber(number: number): Close {
  return BY_NUMBER.get(number) ?? { number, name: "unknown", fault: "relay", retry: "later" };
}

/** The number on WebSocket. */
export function websocketCode(close: Close): number {
  return WEBSOCKET_BASE + close.number;
}

/** From a WebSocket close code; nothing for the WebSocket protocol's own. */
export function closeFromWebsocket(code: number): Close | undefined {
  const number = code - WEBSOCKET_BASE;
  return number >= 0 && number < 1000 ? closeFromNumber(number) : undefined;
}
