// What the bindings have in common: one open connection to a relay that carries lanes of records. Nothing above this
// file knows whether it runs on WebTransport or on a WebSocket.
import type { Close } from "./close";
import type { LaneKey } from "./lane";
import type { Half, Source } from "./mux";
import type { Record } from "./record";

export type TransportKind = "webtransport" | "websocket";

/** A lane that the relay has opened. */
export interface Inlet {
  readonly key: LaneKey;
  /** Bytes of whole and partial records since it opened on this connection, the opening not counted. */
  readonly received: number;
}

/** A lane opened here. Its owner keeps the records; they are asked for when they can be sent. */
export interface Outlet {
  /** The lane's source has something. */
  wake(): void;
  /** Ends the lane after the record that is being sent. */
  finish(): void;
}

/** Why a connection ended. */
export interface Ending {
  /** The peer's or our own code; nothing when the path broke or could not be opened. */
  readonly close?: Close | undefined;
  readonly reason: string;
}

/** What a transport reports. All calls come from its own events, never from within a call to it. */
export interface TransportHandler {
  /** It can send and receive. */
  ready(): void;
  /** A whole record. What is needed of it must be taken before this returns. */
  record(inlet: Inlet, record: Record): void;
  /** Bytes of a lane, of whole records or not; comes before their records. */
  arrived(inlet: Inlet): void;
  opened(inlet: Inlet): void;
  ended(inlet: Inlet): void;
  /** WebSocket only: a lane's new limit, to be sent to the relay. */
  credit(id: number, bytes: number): void;
  /** Once, at the end. */
  closed(ending: Ending): void;
}

export interface Transport {
  readonly kind: TransportKind;
  /** May be replaced at any time: who dials hands a welcomed connection over to who uses it. */
  handler: TransportHandler;
  /** Bytes received so far, everything included as far as the browser tells. */
  readonly bytesReceived: number;
  /** Lets the relay's lanes in; before, only control is read. */
  admit(): void;
  /** Sends a record on the control lane. */
  control(record: Uint8Array): void;
  open(key: LaneKey, source: Source): Outlet;
  /** The relay has raised a lane's limit (WebSocket). */
  raise(id: number, bytes: number): void;
  /**
   * Lets nothing but control leave any more, since another connection takes the rest (WebSocket). What was half sent is given
   * up, and is to go again there.
   */
  rest(): readonly Half[];
  /** Ends it; `handler.closed` follows. */
  close(close: Close, reason: string): void;
}

/** Hears nothing of a transport. */
export const DEAF: TransportHandler = {
  ready() {},
  record() {},
  arrived() {},
  opened() {},
  ended() {},
  credit() {},
  closed() {},
};

/** Opens a transport. The handler's `ready` or `closed` follows. */
export type Open = (handler: TransportHandler) => Transport;

/** Where a relay is reached. */
export interface Endpoints {
  readonly websocket: string;
  readonly webtransport?: { readonly url: string; readonly hashes: readonly Uint8Array[] } | undefined;
}
