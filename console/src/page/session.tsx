// One session: toolbar, banners, the customer's screen, and what stands in its place while there is none.
import { useEffect, useRef, useState } from "preact/hooks";
import { Right } from "../core/rights";
import { endSession } from "../desk/api";
import { Banners } from "./banners";
import { Ended } from "./ended";
import { go } from "./place";
import { Screen, type ScreenHandle } from "./screen";
import { Status } from "./status";
import { useStore } from "./store";
import { exposeForTests } from "./test-hooks";
import { Toolbar } from "./toolbar";
import { Viewer } from "./viewer";
import { Waiting } from "./waiting";

export type Scale = "fit" | "actual";

export function SessionPage({ id, onSignedOut }: { id: string; onSignedOut: () => void }) {
  const [viewer, setViewer] = useState<Viewer>();
  const [round, setRound] = useState(0);

  useEffect(() => {
    const made = new Viewer(id);
    setViewer(made);
    exposeForTests(made);
    return () => made.leave();
  }, [id, round]);

  if (!viewer) return null;
  const again = () => setRound((before) => before + 1);
  return <Running key={round} viewer={viewer} onSignedOut={onSignedOut} onAgain={again} />;
}

interface Props {
  readonly viewer: Viewer;
  readonly onSignedOut: () => void;
  readonly onAgain: () => void;
}

function Running({ viewer, onSignedOut, onAgain }: Props) {
  const state = useStore(viewer.state);
  const [scale, setScale] = useState<Scale>("fit");
  const screen = useRef<ScreenHandle>(null);
  const toolbar = useRef<HTMLElement>(null);
  const root = useRef<HTMLDivElement>(null);
  const { view, failure } = state;

  useEffect(() => {
    if (state.isSignedOut) onSignedOut();
  }, [state.isSignedOut, onSignedOut]);

  function end(): void {
    if (view?.connection.phase === "open") viewer.act({ do: "end" });
    else endSession(viewer.session).finally(() => go({ at: "list" }));
  }

  if (failure !== undefined || view?.connection.phase === "closed") {
    return <Ended view={view} failure={failure} onAgain={onAgain} onBack={() => go({ at: "list" })} />;
  }
  const canView = view?.rights.includes(Right.VIEW) ?? false;
  const isShown = canView && state.size !== undefined;
  return (
    <div class="session" ref={root}>
      <Toolbar
        elementRef={toolbar}
        viewer={viewer}
        view={view}
        scale={scale}
        onScale={setScale}
        onFullScreen={() => toggleFullScreen(root.current)}
        onEnd={end}
        onDone={() => screen.current?.focus()}
        status={<Status view={view} />}
      />
      <main class="stage">
        <Banners view={view} hasVideo={state.hasVideo} act={(act) => viewer.act(act)} />
        <Screen
          handleRef={screen}
          viewer={viewer}
          scale={scale}
          isHidden={!isShown}
          onEscape={() => toolbar.current?.querySelector<HTMLElement>("button")?.focus()}
        />
        {!isShown && (
          <Waiting
            view={view}
            session={viewer.session}
            onAsk={() => viewer.act({ do: "ask" })}
            onSignedOut={onSignedOut}
          />
        )}
      </main>
    </div>
  );
}

function toggleFullScreen(element: HTMLElement | null): void {
  if (document.fullscreenElement) document.exitFullscreen().catch(() => {});
  else element?.requestFullscreen().catch(() => {});
}
