// All sessions of the technician, and the code of the one that was just created.
import { useState } from "preact/hooks";
import { createSession, DeskError, type DeskSession, endSession, type Me } from "../desk/api";
import { language, text } from "../i18n";
import { Code, spaced } from "./code";
import { go } from "./place";
import { useSessions } from "./sessions";

interface Props {
  readonly me: Me;
  readonly onSignedOut: () => void;
  readonly onSignOut: () => void;
}

export function SessionList({ me, onSignedOut, onSignOut }: Props) {
  const { sessions, isStale, refresh } = useSessions(true, onSignedOut);
  const [created, setCreated] = useState<string>();
  const [note, setNote] = useState("");
  const newest = sessions?.find(({ id }) => id === created);
  // Somebody has to be told a code as long as nobody has joined with it.
  const toTell = [newest, ...(sessions ?? [])].find((one) => one?.state === "connecting" && one.code);

  async function attempt(work: () => Promise<void>): Promise<void> {
    try {
      setNote("");
      await work();
    } catch (error) {
      if (error instanceof DeskError && error.status === 401) onSignedOut();
      else if (error instanceof DeskError && error.code === "leaving") setNote(text.list.leaving);
      else setNote(error instanceof Error ? error.message : String(error));
    }
    refresh();
  }

  return (
    <>
      <header class="top">
        <strong>{text.product}</strong>
        <span class="spacer" />
        <span>{text.header.signedInAs(me.name, me.organisation)}</span>
        <button type="button" onClick={onSignOut}>
          {text.header.signOut}
        </button>
      </header>
      <main class="list">
        <div class="heading">
          <h1>{text.list.title}</h1>
          <button
            type="button"
            class="primary"
            onClick={() => attempt(async () => setCreated((await createSession()).id))}
          >
            {text.list.create}
          </button>
        </div>
        <p class="note" role="status">
          {isStale ? text.list.stale : note}
        </p>
        {toTell && <Code session={toTell} />}
        {sessions?.length === 0 && <p class="hint">{text.list.empty}</p>}
        {sessions && sessions.length > 0 && (
          <table>
            <thead>
              <tr>
                <th scope="col">{text.list.code}</th>
                <th scope="col">{text.list.state}</th>
                <th scope="col">{text.list.created}</th>
                <th scope="col">
                  <span class="unseen">{text.list.actions}</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {sessions.map((session) => (
                <Row
                  key={session.id}
                  session={session}
                  onEnd={() => attempt(() => endSession(session.id).then(() => setNote(text.list.ended)))}
                />
              ))}
            </tbody>
          </table>
        )}
      </main>
    </>
  );
}

function Row({ session, onEnd }: { session: DeskSession; onEnd: () => void }) {
  const { id, code, state } = session;
  const name = code ? spaced(code) : id.slice(0, 6);
  const created = new Date(session.created_at);
  return (
    <tr>
      <td class={code ? "figures" : "hint"}>{code ? name : text.list.noCode}</td>
      <td>
        <span class={`state ${state}`}>{text.list.states[state]}</span>
        {session.code_failures > 0 && <p class="wrong">{text.list.codeFailures(session.code_failures)}</p>}
      </td>
      <td>
        <time dateTime={session.created_at} title={created.toLocaleString(language)}>
          {created.toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit" })}
        </time>
      </td>
      <td class="actions">
        <button
          type="button"
          class={session.customer_online ? "primary" : ""}
          data-session={id}
          aria-label={text.list.openLabel(name)}
          onClick={() => go({ at: "session", id })}
        >
          {text.list.open}
        </button>
        <button type="button" aria-label={text.list.endLabel(name)} onClick={onEnd}>
          {text.list.end}
        </button>
      </td>
    </tr>
  );
}
