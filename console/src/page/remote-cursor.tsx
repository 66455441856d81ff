// The customer's cursor: as the technician's own while the technician moves it, and drawn where it is while the
// customer does, or where a browser cannot show one so large.
import { useEffect, useState } from "preact/hooks";
import type { Position } from "../core/input";
import type { ViewerState } from "./viewer";

/** Browsers show no larger cursors. */
const LARGEST = 128;
/** The technician's own pointer is told from the customer's by what was not sent within this time, ms. */
const OWN_MS = 500;
/** Programs may adjust a position by a little. */
const NEAR = 4;

type Cursor = ViewerState["cursor"];

function isTooLarge(cursor: Cursor): boolean {
  return cursor !== undefined && (cursor.image.width > LARGEST || cursor.image.height > LARGEST);
}

/** The CSS that shows the customer's cursor over the screen. */
export function useCursorStyle(cursor: Cursor, canControl: boolean): { cursor: string } {
  if (!canControl || !cursor) return { cursor: "default" };
  if (!cursor.url || isTooLarge(cursor)) return { cursor: "none" };
  const { hotX, hotY } = cursor.image;
  return { cursor: `url("${cursor.url}") ${hotX} ${hotY}, default` };
}

interface Props {
  readonly cursor: Cursor;
  readonly pointer: ViewerState["pointer"];
  /** Where the technician last moved it. */
  readonly moved: Position | undefined;
  readonly scale: number;
}

export function RemoteCursor({ cursor, pointer, moved, scale }: Props) {
  const isOwn = useRecent(moved, OWN_MS);
  if (!cursor?.url || !pointer?.visible) return null;
  const isNear = moved && Math.abs(moved.x - pointer.x) <= NEAR && Math.abs(moved.y - pointer.y) <= NEAR;
  if (!isTooLarge(cursor) && (isOwn || isNear)) return null;
  const { width, height, hotX, hotY } = cursor.image;
  const left = pointer.x * scale - hotX;
  const top = pointer.y * scale - hotY;
  return (
    <img
      class="remote-cursor"
      src={cursor.url}
      width={width}
      height={height}
      alt=""
      style={{ transform: `translate(${left}px, ${top}px)` }}
    />
  );
}

/** Whether the value has changed within the last so many ms. */
function useRecent(value: unknown, ms: number): boolean {
  const [settled, setSettled] = useState<unknown>(undefined);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return value !== settled;
}
