// Where in the console one is: the address's fragment, so that going back and loading again work. The one-time secret
// comes by the fragment too, and is taken out of the address before anything else happens.
import { Store } from "./store";

export type Place = { readonly at: "list" } | { readonly at: "session"; readonly id: string };

function read(): Place {
  const id = /^#session\/([0-9a-f]{32})$/.exec(location.hash)?.[1];
  return id ? { at: "session", id } : { at: "list" };
}

/** The secret in the address, which is removed from it and from the history. */
export function takeSecret(): string | undefined {
  const secret = new URLSearchParams(location.hash.slice(1)).get("secret");
  if (secret === null) return undefined;
  history.replaceState(null, "", location.pathname + location.search);
  return secret || undefined;
}

/** Where one is now. Read after {@link takeSecret}. */
export const place = new Store<Place>(read());

addEventListener("hashchange", () => place.set(read()));

export function go(to: Place): void {
  const hash = to.at === "session" ? `#session/${to.id}` : "";
  history.pushState(null, "", location.pathname + location.search + hash);
  place.set(to);
}

const query = new URLSearchParams(location.search);

/** `?transport=websocket` or `webtransport`: only this binding, for tests. */
export const onlyTransport = ((): "websocket" | "webtransport" | undefined => {
  const asked = query.get("transport");
  return asked === "websocket" || asked === "webtransport" ? asked : undefined;
})();

/** `?test`: measurements and pixels can be asked for. */
export const isTest = query.has("test");
