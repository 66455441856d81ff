// Signing in by a one-time secret, for who did not come by its link.
import { useEffect, useRef, useState } from "preact/hooks";
import { text } from "../i18n";

/** What to say above the form. */
export type SignInNote = "wrong" | "signedOut" | "unreachable" | undefined;

export function SignIn({ note, onSecret }: { note: SignInNote; onSecret: (secret: string) => Promise<void> }) {
  const [secret, setSecret] = useState("");
  const [isBusy, setBusy] = useState(false);
  const field = useRef<HTMLInputElement>(null);

  useEffect(() => field.current?.focus(), []);

  async function submit(event: Event): Promise<void> {
    event.preventDefault();
    setBusy(true);
    await onSecret(secretOf(secret));
    setBusy(false);
  }

  return (
    <main class="sign-in">
      <h1>{text.product}</h1>
      <form onSubmit={submit}>
        <p>{text.signIn.lead}</p>
        <p class="note" role="alert">
          {note && text.signIn[note]}
        </p>
        <label for="secret">{text.signIn.secret}</label>
        <input
          id="secret"
          ref={field}
          type="password"
          autocomplete="off"
          required
          value={secret}
          onInput={(event) => setSecret(event.currentTarget.value)}
        />
        <button type="submit" class="primary" disabled={isBusy}>
          {text.signIn.submit}
        </button>
      </form>
    </main>
  );
}

/** People paste the whole link, too. */
function secretOf(given: string): string {
  return /[#&]secret=([^&\s]+)/.exec(given)?.[1] ?? given.trim();
}
