// What the technician has to know while the screen is shown: interruptions, what became of input, and open questions.
import { useEffect, useState } from "preact/hooks";
import { type Dropped, NOTHING_DROPPED } from "../core/dropped";
import { Right, ScreenAccess } from "../core/rights";
import type { SessionView } from "../core/session";
import { text } from "../i18n";
import type { Act } from "../view/messages";

/** A message about dropped input stays this long, ms. */
const SHOWN_MS = 15_000;

interface BannersProps {
  readonly view: SessionView | undefined;
  readonly hasVideo: boolean;
  readonly act: (act: Act) => void;
}

export function Banners({ view, hasVideo, act }: BannersProps) {
  const [isVideoRead, setVideoRead] = useState(false);
  const dropped = useNewlyDropped(view?.dropped ?? NOTHING_DROPPED);
  if (!view) return null;
  const { connection, rights, isCustomerOnline, isAsking, isDeclined } = view;
  const canView = rights.includes(Right.VIEW);
  const lacksControl = canView && !rights.includes(Right.CONTROL) && view.permitted.includes(Right.CONTROL);
  const access = isCustomerOnline ? view.layout?.access : undefined;
  const isReconnecting = connection.phase === "reconnecting";
  return (
    <div class="banners" role="status">
      {isReconnecting && canView && (
        <p class="banner warn">
          {text.banner.reconnecting} <Retry retryInMs={connection.retryInMs} onRetry={() => act({ do: "retry" })} />
        </p>
      )}
      {!isReconnecting && canView && !isCustomerOnline && <p class="banner warn">{text.banner.customerAway}</p>}
      {canView && access === ScreenAccess.SECURE && <p class="banner warn">{text.banner.screenSecure}</p>}
      {canView && access === ScreenAccess.AWAY && <p class="banner warn">{text.banner.screenAway}</p>}
      {lacksControl && isAsking && <p class="banner">{text.banner.controlPending}</p>}
      {lacksControl && isDeclined && <p class="banner">{text.banner.controlDeclined}</p>}
      {canView && !hasVideo && !isVideoRead && (
        <p class="banner">
          {text.banner.noVideo}{" "}
          <button type="button" onClick={() => setVideoRead(true)}>
            {text.banner.dismiss}
          </button>
        </p>
      )}
      {dropped.words && (
        <p class="banner warn">
          {text.banner.dropped(dropped.words)}{" "}
          <button type="button" onClick={dropped.dismiss}>
            {text.banner.dismiss}
          </button>
        </p>
      )}
    </div>
  );
}

function Retry({ retryInMs, onRetry }: { retryInMs: number | undefined; onRetry: () => void }) {
  if (retryInMs === undefined) return <>{text.banner.retrying}</>;
  const seconds = Math.ceil(retryInMs / 1000);
  return (
    <>
      {seconds > 1 && text.banner.retryIn(seconds)}{" "}
      <button type="button" onClick={onRetry}>
        {text.banner.retryNow}
      </button>
    </>
  );
}

/** What was dropped since the last time that was read or grew old. */
function useNewlyDropped(total: Dropped): { words: string; dismiss: () => void } {
  const [seen, setSeen] = useState(total);
  const dismiss = () => setSeen(total);
  useEffect(() => {
    if (total === seen) return;
    const timer = setTimeout(dismiss, SHOWN_MS);
    return () => clearTimeout(timer);
  }, [total]);
  const { banner } = text;
  const parts: [number, (n: number) => string][] = [
    [total.keys - seen.keys, banner.droppedKeys],
    [total.texts - seen.texts, banner.droppedTexts],
    [total.clicks - seen.clicks, banner.droppedClicks],
    [total.wheels - seen.wheels, banner.droppedWheels],
  ];
  const words = parts.flatMap(([n, say]) => (n > 0 ? [say(n)] : [])).join(", ");
  return { words, dismiss };
}
