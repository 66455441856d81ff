// Who is signed in, and which view that leads to.
import { useEffect, useState } from "preact/hooks";
import { DeskError, type Me, me, signIn, signOut } from "../desk/api";
import { text } from "../i18n";
import { SessionList } from "./list";
import { place } from "./place";
import { SessionPage } from "./session";
import { SignIn, type SignInNote } from "./sign-in";
import { useStore } from "./store";

type Who =
  | { readonly is: "unknown" }
  | { readonly is: "in"; readonly me: Me }
  | { readonly is: "out"; readonly note: SignInNote };

export function App({ secret }: { secret: string | undefined }) {
  const [who, setWho] = useState<Who>({ is: "unknown" });
  const where = useStore(place);

  async function enter(by: () => Promise<Me>): Promise<void> {
    try {
      setWho({ is: "in", me: await by() });
    } catch (error) {
      setWho({ is: "out", note: noteOf(error) });
    }
  }

  useEffect(() => {
    enter(async () => {
      // A link that was used may be opened by who is signed in already.
      if (secret) return signIn(secret).catch((error) => me().catch(() => Promise.reject(error)));
      return me().catch((error) => {
        throw error instanceof DeskError && error.status === 401 ? new NotSignedIn() : error;
      });
    });
  }, [secret]);

  function signedOut(): void {
    setWho({ is: "out", note: "signedOut" });
  }

  if (who.is === "unknown") return <p class="loading">{text.loading}</p>;
  if (who.is === "out") return <SignIn note={who.note} onSecret={(given) => enter(() => signIn(given))} />;
  if (where.at === "session") return <SessionPage key={where.id} id={where.id} onSignedOut={signedOut} />;
  return <SessionList me={who.me} onSignedOut={signedOut} onSignOut={() => signOut().finally(signedOut)} />;
}

/** Nobody has signed in yet: no reason to complain. */
class NotSignedIn extends Error {}

function noteOf(error: unknown): SignInNote {
  if (error instanceof NotSignedIn) return undefined;
  if (error instanceof DeskError && error.status === 401) return "wrong";
  return "unreachable";
}
