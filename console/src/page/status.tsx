// The connection's state and how far away the customer is: to be seen, and announced when it changes notably.
import type { SessionView } from "../core/session";
import { text } from "../i18n";

/** Round trips that people notice, and that get in their way, ms. */
const NOTICED_MS = 150;
const IN_THE_WAY_MS = 400;

type Quality = "good" | "slow" | "bad";

function qualityOf(ms: number | undefined): Quality {
  if (ms === undefined || ms < NOTICED_MS) return "good";
  return ms < IN_THE_WAY_MS ? "slow" : "bad";
}

function inWords(ms: number | undefined): string {
  return ms === undefined ? text.connection.unknown : text.connection.latency(Math.max(Math.round(ms), 1));
}

export function Status({ view }: { view: SessionView | undefined }) {
  const connection = view?.connection ?? { phase: "connecting" as const };
  const isOpen = connection.phase === "open";
  const ms = view?.latencyMs ?? view?.relayMs;
  const quality = isOpen ? qualityOf(ms) : "bad";
  const words = text.connection[connection.phase];
  const transport = isOpen ? text.connection.transport[connection.transport] : "";
  const title = text.connection.latencyTitle(inWords(view?.latencyMs), inWords(view?.relayMs));
  return (
    <div class="status" title={title}>
      <span class={`dot ${isOpen ? quality : "off"}`} aria-hidden="true" />
      <span>{words}</span>
      {isOpen && <span class="hint">{transport}</span>}
      {isOpen && ms !== undefined && <span class="figures latency">{inWords(ms)}</span>}
      <span class="unseen" role="status">
        {/* Drawn anew only when the state or the quality changes, so that nobody hears every measurement. */}
        <Announcement key={`${connection.phase} ${quality} ${ms === undefined}`} words={words} latency={inWords(ms)} />
      </span>
    </div>
  );
}

function Announcement({ words, latency }: { words: string; latency: string }) {
  return (
    <span>
      {words}, {latency}
    </span>
  );
}
