// What this participant tells the other ends, on its peer lane: messages wait here until the transport takes them.
import { LaneKind } from "./lane";
import type { Half, Source } from "./mux";
import { encodeRecord, type Header } from "./record";
import type { Outlet } from "./transport";

export class PeerSender {
  private outlet: Outlet | undefined;
  private queue: Uint8Array[] = [];
  private seq = 0n;

  /** `header`: one of the connection's present participant. */
  constructor(private readonly header: (type: number, seq: bigint) => Header) {}

  /** A connection is there: the lane is opened on it, and what waits goes. */
  connect(open: (source: Source) => Outlet | undefined): void {
    this.outlet = open(() => this.queue.shift());
    if (this.queue.length > 0) this.outlet?.wake();
  }

  /** The connection is lost. What waited goes with it: it was about how things were. */
  disconnect(): void {
    this.outlet = undefined;
    this.queue = [];
  }

  /** The connection is left for another: what of this lane was half sent goes again there, first. */
  again(half: readonly Half[]): void {
    for (const { key, record } of half) if (key.kind === LaneKind.Peer) this.queue.unshift(record);
  }

  /** Says something; nothing happens while there is no connection. */
  say(type: number, body: Uint8Array): void {
    if (!this.outlet) return;
    this.queue.push(encodeRecord(this.header(type, this.seq), body));
    this.seq += 1n;
    this.outlet.wake();
  }
}
