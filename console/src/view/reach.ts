// How a relay is reached: the one that serves this page, or one that it named when it left service.
import { systemClock } from "../core/clock";
import { WELL_KNOWN_PATH } from "../core/limits";
import type { Place } from "../core/route";
import type { Open, TransportKind } from "../core/transport";
import { WebSocketTransport } from "../core/websocket";
import { WebTransportTransport } from "../core/webtransport";

/** A relay that does not answer is dialled as it was last described after this time, ms. */
const PATIENCE_MS = 1500;

interface WellKnown {
  readonly quic_port?: number | undefined;
  readonly path: string;
  readonly certificate_hashes?: readonly string[] | undefined;
}

const UNKNOWN: WellKnown = { path: "/v1/connect" };
/** As relays last described themselves. */
const described = new Map<Place, WellKnown>();

/** Whether WebTransport may yet be found where it was not at first: the relay may be another by then, or the network. */
export function looksForBetter(only: TransportKind | undefined): boolean {
  return only === undefined && "WebTransport" in globalThis;
}

/** The ways to a relay, best first; only one of them if `only` says so. */
export async function ways(only: TransportKind | undefined, place: Place): Promise<Open[]> {
  const base = new URL(place ?? location.href);
  const known = await describe(base).catch(() => described.get(place) ?? UNKNOWN);
  described.set(place, known);
  const { path, quic_port: port, certificate_hashes: hashes = [] } = known;
  const { protocol, host, hostname } = base;
  const socketUrl = `${protocol === "https:" ? "wss" : "ws"}://${host}${path}`;
  const found: Open[] = [];
  if (port && only !== "websocket" && "WebTransport" in globalThis) {
    const bytes = hashes.map((hash) => Uint8Array.from(atob(hash), (character) => character.charCodeAt(0)));
    found.push((handler) => new WebTransportTransport(`https://${hostname}:${port}${path}`, bytes, handler));
  }
  if (only !== "webtransport") found.push((handler) => new WebSocketTransport(socketUrl, handler, systemClock));
  return found;
}

/** Asked before every attempt: a relay that was restarted may have another certificate. */
async function describe(base: URL): Promise<WellKnown> {
  const response = await fetch(new URL(WELL_KNOWN_PATH, base), {
    signal: AbortSignal.timeout(PATIENCE_MS),
    cache: "no-store",
  });
  return (await response.json()) as WellKnown;
}
