// Why it is over, whose fault that is, and whether trying again helps.

import type { Close } from "../core/close";
import { EndReason } from "../core/rights";
import type { SessionView } from "../core/session";
import { text } from "../i18n";

interface Props {
  readonly view: SessionView | undefined;
  readonly failure: string | undefined;
  readonly onAgain: () => void;
  readonly onBack: () => void;
}

/** Ends after which connecting again would only end the same way. */
const FINAL = new Set<Close["name"]>(["ended", "left", "forbidden", "version"]);

export function Ended({ view, failure, onAgain, onBack }: Props) {
  const connection = view?.connection.phase === "closed" ? view.connection : undefined;
  const close = connection?.close;
  const details = failure ?? connection?.reason;
  const isFinal = close !== undefined && failure === undefined && FINAL.has(close.name);
  return (
    <main class="ended">
      <h1>{text.end.title[failure === undefined ? (close?.fault ?? "path") : "client"]}</h1>
      <p role="alert">{failure === undefined ? sentence(close, view?.end) : text.end.failed}</p>
      <p class="buttons">
        {!isFinal && (
          <button type="button" class="primary" onClick={onAgain}>
            {text.end.retry}
          </button>
        )}
        <button type="button" class={isFinal ? "primary" : ""} onClick={onBack}>
          {text.end.back}
        </button>
      </p>
      <p class="hint">{small(close, details)}</p>
    </main>
  );
}

function sentence(close: Close | undefined, end: EndReason | undefined): string {
  if (close?.name === "ended") {
    if (end === EndReason.CLOSED_BY_CUSTOMER) return text.end.byCustomer;
    if (end === EndReason.CLOSED_BY_TECHNICIAN) return text.end.byTechnician;
    if (end === EndReason.TIMED_OUT) return text.end.timedOut;
    if (end === EndReason.LEFT) return text.end.left;
  }
  return text.end.closes[close?.name ?? "silent"];
}

/** For whoever is asked about it; an ordinary end needs no number. */
function small(close: Close | undefined, details: string | undefined): string {
  if (close?.fault === "nobody") return "";
  const parts = [close && text.end.code(close.number, close.name), details && `${text.end.reason}: ${details}`];
  return parts.filter(Boolean).join(" · ");
}
