// The desk's list of sessions, asked for every two seconds while somebody looks at it.
import { useEffect, useState } from "preact/hooks";
import { DeskError, type DeskSession, listSessions } from "../desk/api";

const EVERY_MS = 2000;

export interface Sessions {
  /** Nothing before the first answer. */
  readonly sessions: readonly DeskSession[] | undefined;
  /** The desk did not answer last time. */
  readonly isStale: boolean;
  readonly refresh: () => void;
}

export function useSessions(isWanted: boolean, onSignedOut: () => void): Sessions {
  const [sessions, setSessions] = useState<readonly DeskSession[]>();
  const [isStale, setStale] = useState(false);
  const [round, setRound] = useState(0);

  useEffect(() => {
    if (!isWanted) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isOver = false;
    async function ask(): Promise<void> {
      try {
        const answer = document.hidden ? undefined : await listSessions();
        if (isOver) return;
        if (answer) setSessions(answer);
        setStale(false);
      } catch (error) {
        if (isOver) return;
        if (error instanceof DeskError && error.status === 401) return onSignedOut();
        setStale(true);
      }
      timer = setTimeout(ask, EVERY_MS);
    }
    ask();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [isWanted, round]);

  return { sessions, isStale, refresh: () => setRound((before) => before + 1) };
}
