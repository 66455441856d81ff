// What the page and its view worker say to one another. The worker has the connection, the decoder and the canvas; the
// page has the keyboard, the pointer and everything that is read.

import type { Locks, Position } from "../core/input";
import type { SessionView } from "../core/session";
import type { TransportKind } from "../core/transport";
import type { CursorImage } from "./cursor";
import type { Rect } from "./decoder";

/** What the technician does. */
export type Act =
  | { readonly do: "key"; readonly usage: number; readonly down: boolean; readonly locks: Locks; readonly text: string }
  | { readonly do: "text"; readonly text: string }
  | { readonly do: "button"; readonly button: number; readonly down: boolean; readonly position: Position }
  | { readonly do: "wheel"; readonly x: number; readonly y: number; readonly position: Position }
  | { readonly do: "motion"; readonly position: Position }
  | { readonly do: "release" }
  | { readonly do: "show"; readonly display: number }
  | { readonly do: "visible"; readonly isVisible: boolean }
  | { readonly do: "ask" }
  | { readonly do: "end" }
  | { readonly do: "leave" }
  | { readonly do: "retry" };

/** What tests and measurements want to know. */
export type Question =
  | { readonly what: "pixels" }
  | { readonly what: "statistics" }
  | { readonly what: "log" }
  | { readonly what: "nextDraw"; readonly rect: Rect };

export interface Start {
  readonly canvas: OffscreenCanvas;
  readonly session: string;
  /** From before the page was loaded again. */
  readonly ticket: Uint8Array | undefined;
  /** Only this binding. */
  readonly transport: TransportKind | undefined;
  /** Keep a log of what is sent and drawn. */
  readonly isTest: boolean;
}

export type ToWorker =
  | { readonly type: "start"; readonly start: Start }
  | { readonly type: "act"; readonly act: Act }
  | { readonly type: "ask"; readonly id: number; readonly question: Question };

export type FromWorker =
  | { readonly type: "view"; readonly view: SessionView }
  | { readonly type: "size"; readonly display: number; readonly width: number; readonly height: number }
  | { readonly type: "cursor"; readonly image: CursorImage }
  | {
      readonly type: "pointer";
      readonly display: number;
      readonly x: number;
      readonly y: number;
      readonly visible: boolean;
    }
  | { readonly type: "ticket"; readonly ticket: Uint8Array }
  | { readonly type: "signedOut" }
  /** This browser has no decoder for video. */
  | { readonly type: "noVideo" }
  /** The worker cannot go on. */
  | { readonly type: "failed"; readonly reason: string }
  | { readonly type: "answer"; readonly id: number; readonly answer: unknown };

/** A record of input that left the core; times in ms since 1970. */
export interface SentEntry {
  readonly type: number;
  readonly seq: number;
  readonly madeAt: number;
  readonly sentAt: number;
}

/** A painting; time in ms since 1970. */
export interface DrawnEntry {
  readonly at: number;
  readonly seq: number;
  readonly rects: readonly Rect[];
}
