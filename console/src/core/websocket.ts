// The WebSocket binding: all lanes share one TCP connection as fragments (mux.ts). A fragment is chosen only when the
// socket can take it, so that what is urgent never waits behind more than a few milliseconds of what is not.
import { concat } from "./bytes";
import type { Clock } from "./clock";
import { type Close, closeFromWebsocket, closeNamed, websocketCode } from "./close";
import type { LaneKey } from "./lane";
import { FRAGMENT_MAX, FRAGMENT_MIN, FRAGMENT_MS, MESSAGE_MAX, REASON_MAX, WEBSOCKET_PROTOCOL } from "./limits";
import { type Half, Incoming, Outgoing, type Source } from "./mux";
import { RecordError } from "./record";
import type { Outlet, Transport, TransportHandler } from "./transport";

/** How often a full socket is looked at again, ms: browsers do not say when one drains. */
const POLL_MS = 5;

/** What this file needs of a browser's WebSocket; tests bring their own. */
export type Socket = Pick<
  WebSocket,
  "binaryType" | "bufferedAmount" | "close" | "send" | "onopen" | "onmessage" | "onclose"
>;

export type OpenSocket = (url: string, protocol: string) => Socket;

const openSocket: OpenSocket = (url, protocol) => new WebSocket(url, protocol);

export class WebSocketTransport implements Transport {
  readonly kind = "websocket";
  bytesReceived = 0;
  private readonly socket: Socket;
  private readonly controls: Uint8Array[] = [];
  /** Fragments that give lanes up: they go before anything else. */
  private resets: Uint8Array[] = [];
  private readonly outgoing = new Outgoing("client", () => this.controls.shift());
  private readonly incoming: Incoming;
  private readonly pace: Pace;
  private isOpen = false;
  private isClosed = false;
  private isPumping = false;
  private cancelPoll: (() => void) | undefined;

  constructor(
    url: string,
    public handler: TransportHandler,
    private readonly clock: Clock,
    open: OpenSocket = openSocket,
  ) {
    this.pace = new Pace(clock);
    // Looked up anew at each event: the handler may have been replaced.
    this.incoming = new Incoming("relay", {
      opened: (lane) => this.handler.opened(lane),
      arrived: (lane) => this.handler.arrived(lane),
      record: (lane, record) => this.handler.record(lane, record),
      ended: (lane) => this.handler.ended(lane),
      credit: (id, bytes) => this.handler.credit(id, bytes),
    });
    this.socket = open(url, WEBSOCKET_PROTOCOL);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => {
      this.isOpen = true;
      this.handler.ready();
      this.pump();
    };
    this.socket.onmessage = (event) => this.receive(event.data);
    this.socket.onclose = (event) => this.ended(closeFromWebsocket(event.code), event.reason);
  }

  admit(): void {}

  control(record: Uint8Array): void {
    this.controls.push(record);
    this.pump();
  }

  open(key: LaneKey, source: Source): Outlet {
    const id = this.outgoing.open(key, source);
    return {
      wake: () => this.pump(),
      finish: () => {
        this.outgoing.finish(id);
        this.pump();
      },
    };
  }

  raise(id: number, bytes: number): void {
    this.outgoing.credit(id, bytes);
    this.pump();
  }

  rest(): readonly Half[] {
    const { fragments, half } = this.outgoing.rest();
    this.resets.push(...fragments);
    this.pump();
    return half;
  }

  close(close: Close, reason: string): void {
    if (this.isClosed) return;
    // A close handshake needs the far end, which may be gone: the end is told at once.
    this.socket.close(websocketCode(close), cut(reason));
    this.ended(close, reason);
  }

  private receive(data: unknown): void {
    if (this.isClosed) return;
    try {
      if (!(data instanceof ArrayBuffer)) throw new RecordError("a text message");
      this.bytesReceived += data.byteLength;
      this.incoming.message(new Uint8Array(data));
    } catch (error) {
      if (!(error instanceof RecordError)) throw error;
      this.close(closeNamed("protocol"), error.message);
    }
  }

  private ended(close: Close | undefined, reason: string): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.cancelPoll?.();
    this.handler.closed({ close, reason });
  }

  /** Sends what may go now, several fragments in a message. */
  private pump(): void {
    // Handing out a record may lead its owner to say more, whose turn comes when this one is on its way.
    if (!this.isOpen || this.isClosed || this.isPumping || this.cancelPoll) return;
    this.isPumping = true;
    while (this.pace.mayGo(this.socket.bufferedAmount)) {
      const message = this.message(this.pace.fragmentMax());
      if (!message) {
        this.isPumping = false;
        return;
      }
      this.socket.send(message);
      this.pace.sent(message.byteLength, this.socket.bufferedAmount);
    }
    this.isPumping = false;
    this.cancelPoll = this.clock.after(POLL_MS, () => {
      this.cancelPoll = undefined;
      this.pump();
    });
  }

  private message(fragmentMax: number): ArrayBuffer | undefined {
    const parts = this.resets;
    this.resets = [];
    let length = parts.reduce((sum, part) => sum + part.length, 0);
    // More than one fragment's worth would decide too early what goes next.
    while (length < fragmentMax && length + 2 * FRAGMENT_MIN + fragmentMax <= MESSAGE_MAX) {
      const fragment = this.outgoing.fragment(fragmentMax);
      if (!fragment) break;
      for (const part of fragment) length += part.length;
      parts.push(...fragment);
    }
    return length === 0 ? undefined : concat(...parts).buffer;
  }
}

/** How fast the socket drains, and so how much of it may be filled: about 10 ms of the path's rate. */
export class Pace {
  /** Bytes per ms; as fast as can be until the socket was once seen to hold something back. */
  private rate = FRAGMENT_MAX / FRAGMENT_MS;
  private buffered = 0;
  private at: number;

  constructor(private readonly clock: Clock) {
    this.at = clock.now();
  }

  /** Whether the socket, which holds so many bytes, may be given more. */
  mayGo(buffered: number): boolean {
    this.measure(buffered);
    return buffered < this.fragmentMax();
  }

  fragmentMax(): number {
    return Math.min(Math.max(Math.floor(this.rate * FRAGMENT_MS), FRAGMENT_MIN), FRAGMENT_MAX);
  }

  sent(bytes: number, buffered: number): void {
    // What the socket took at once has left it: only what stays is measured.
    this.buffered = Math.min(buffered, this.buffered + bytes);
  }

  private measure(buffered: number): void {
    const now = this.clock.now();
    const elapsed = now - this.at;
    if (elapsed < 1) return;
    const drained = this.buffered - buffered;
    if (this.buffered > 0 && buffered > 0) {
      this.rate += (drained / elapsed - this.rate) / 4;
    } else if (this.buffered > 0) {
      // It ran empty in between: the rate is at least this.
      this.rate = Math.max(this.rate, drained / elapsed);
    }
    this.buffered = buffered;
    this.at = now;
  }
}

/** A reason cut to what a close frame can carry, at a character's border. */
export function cut(reason: string): string {
  const encoder = new TextEncoder();
  const room = new Uint8Array(REASON_MAX);
  return reason.slice(0, encoder.encodeInto(reason, room).read);
}
