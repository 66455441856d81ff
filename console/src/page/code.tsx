// A session's code, large enough to be read out on the telephone.
import type { DeskSession } from "../desk/api";
import { text } from "../i18n";

/** Two groups of three, as people say it. */
export function spaced(code: string): string {
  return code.length === 6 ? `${code.slice(0, 3)} ${code.slice(3)}` : code;
}

export function Code({ session }: { session: DeskSession }) {
  if (!session.code) return null;
  const minutes = Math.ceil((Date.parse(session.code_expires_at) - Date.now()) / 60_000);
  return (
    <section class="code" aria-label={text.list.tell}>
      <p class="hint">{text.list.tell}</p>
      {minutes > 0 ? (
        <>
          {/* Read out digit by digit. */}
          <output class="digits" aria-label={[...session.code].join(" ")}>
            {spaced(session.code)}
          </output>
          <p class="hint">{text.list.expiresIn(minutes)}</p>
        </>
      ) : (
        <p>{text.list.expired}</p>
      )}
    </section>
  );
}
