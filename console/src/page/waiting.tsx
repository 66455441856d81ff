// What stands in the screen's place until there is one: whose turn it is, and what to do.
import { Right } from "../core/rights";
import type { SessionView } from "../core/session";
import { text } from "../i18n";
import { Code } from "./code";
import { useSessions } from "./sessions";

interface Props {
  readonly view: SessionView | undefined;
  readonly session: string;
  readonly onAsk: () => void;
  readonly onSignedOut: () => void;
}

export function Waiting({ view, session, onAsk, onSignedOut }: Props) {
  const isForCustomer = view?.connection.phase === "open" && !view.isCustomerOnline;
  const { sessions } = useSessions(isForCustomer, onSignedOut);
  const desk = sessions?.find(({ id }) => id === session);
  const { title, lead, canAsk } = wordsFor(view);
  return (
    <section class="in-place">
      <div role="status">
        <h1>{title}</h1>
        <p class="hint">{lead}</p>
      </div>
      {isForCustomer && desk?.state === "connecting" && <Code session={desk} />}
      {canAsk && (
        <button type="button" class="primary" onClick={onAsk}>
          {text.session.requestView}
        </button>
      )}
    </section>
  );
}

interface Words {
  readonly title: string;
  readonly lead?: string | undefined;
  readonly canAsk?: boolean;
}

function wordsFor(view: SessionView | undefined): Words {
  const { waiting } = text;
  if (!view || view.connection.phase === "connecting") return { title: text.connection.connecting };
  if (view.connection.phase === "reconnecting") return { title: text.connection.reconnecting };
  if (!view.isCustomerOnline) {
    const wasThere = view.participants.some(({ publisher }) => publisher);
    return wasThere ? { title: waiting.customerAway } : { title: waiting.customer, lead: waiting.customerLead };
  }
  if (view.isAsking) return { title: waiting.consent, lead: waiting.consentLead };
  if (!view.rights.includes(Right.VIEW)) {
    if (view.isDeclined) return { title: waiting.declined, lead: waiting.declinedLead, canAsk: true };
    return { title: waiting.consent, canAsk: true };
  }
  return { title: waiting.picture };
}
