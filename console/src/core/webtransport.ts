// The WebTransport binding: control on the first bidirectional stream, every other lane a unidirectional stream of its
// own, with its priority as `sendOrder`. The streams' own windows are the credit.
import { concat } from "./bytes";
import { type Close, closeFromNumber, closeNamed } from "./close";
import { CONTROL, encodeOpening, type LaneKey, LaneKind, OPENING_LEN, parseOpening, priority } from "./lane";
import { LANES_TO_CLIENT_MAX } from "./limits";
import type { Half, Source } from "./mux";
import { RecordBuffer, RecordError } from "./record";
import type { Inlet, Outlet, Transport, TransportHandler } from "./transport";
import { cut } from "./websocket";

interface OpenInlet extends Inlet {
  received: number;
}

/** WebTransport's send order: higher goes first. */
function sendOrder(key: LaneKey): number {
  return -priority(key, true);
}

export class WebTransportTransport implements Transport {
  readonly kind = "webtransport";
  bytesReceived = 0;
  private readonly session: WebTransport;
  private readonly controls: Uint8Array[] = [];
  private controlLane: OutStream | undefined;
  private lanes = 0;
  private isClosed = false;

  constructor(
    url: string,
    hashes: readonly Uint8Array[],
    public handler: TransportHandler,
  ) {
    this.session = new WebTransport(url, {
      congestionControl: "low-latency",
      serverCertificateHashes: hashes.map((value) => ({ algorithm: "sha-256", value: new Uint8Array(value) })),
    });
    this.session.closed.then(
      (info) => this.ended(closeOf(info.closeCode), info.reason ?? ""),
      (error: unknown) => this.ended(undefined, String(error)),
    );
    // A failure to open is reported by `closed` as well.
    this.start().catch((error: unknown) => this.ended(undefined, String(error)));
  }

  admit(): void {
    this.accept().catch(() => {});
  }

  control(record: Uint8Array): void {
    this.controls.push(record);
    this.controlLane?.wake();
  }

  open(key: LaneKey, source: Source): Outlet {
    const stream = () => this.session.createUnidirectionalStream({ sendOrder: sendOrder(key) });
    return new OutStream(stream, encodeOpening(key), source);
  }

  raise(): void {}

  /** Nothing is better than this: nobody leaves it for another. */
  rest(): readonly Half[] {
    return [];
  }

  close(close: Close, reason: string): void {
    if (this.isClosed) return;
    this.session.close({ closeCode: close.number, reason: cut(reason) });
    this.ended(close, reason);
  }

  private ended(close: Close | undefined, reason: string): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.handler.closed({ close, reason });
  }

  private async start(): Promise<void> {
    await this.session.ready;
    const control = await this.session.createBidirectionalStream({ sendOrder: sendOrder(CONTROL) });
    if (this.isClosed) return;
    this.controlLane = new OutStream(
      () => Promise.resolve(control.writable),
      new Uint8Array(0),
      () => this.controls.shift(),
    );
    this.handler.ready();
    this.controlLane.wake();
    const inlet: OpenInlet = { key: CONTROL, received: 0 };
    await this.read(inlet, control.readable.getReader(), new Uint8Array(0));
    // The relay keeps its control stream to the end.
    this.ended(undefined, "the control stream ended");
  }

  private async accept(): Promise<void> {
    const streams = this.session.incomingUnidirectionalStreams.getReader() as ReadableStreamDefaultReader<
      ReadableStream<Uint8Array>
    >;
    for (let next = await streams.read(); !next.done; next = await streams.read()) {
      if (this.lanes >= LANES_TO_CLIENT_MAX) return this.fail(new RecordError("too many lanes"));
      this.lanes += 1;
      this.lane(next.value.getReader())
        .catch((error: unknown) => this.fail(error))
        .finally(() => {
          this.lanes -= 1;
        });
    }
  }

  private async lane(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
    let head = new Uint8Array(0);
    while (head.length < OPENING_LEN) {
      const { value } = await reader.read().catch(() => ({ value: undefined }));
      if (!value) return;
      this.bytesReceived += value.length;
      head = concat(head, value);
    }
    const key = parseOpening(head);
    if (!key || key.kind === LaneKind.Control) throw new RecordError("unknown lane kind");
    if (this.isClosed) return;
    const inlet: OpenInlet = { key, received: 0 };
    this.handler.opened(inlet);
    await this.read(inlet, reader, head.subarray(OPENING_LEN));
    if (!this.isClosed) this.handler.ended(inlet);
  }

  /** Reads records until the stream ends or is reset. */
  private async read(
    inlet: OpenInlet,
    reader: ReadableStreamDefaultReader<Uint8Array>,
    first: Uint8Array,
  ): Promise<void> {
    const buffer = new RecordBuffer(inlet.key.kind);
    let chunk: Uint8Array | undefined = first;
    while (chunk && !this.isClosed) {
      this.take(inlet, buffer, chunk);
      const { value } = await reader.read().catch(() => ({ value: undefined }));
      chunk = value;
      this.bytesReceived += chunk?.length ?? 0;
    }
  }

  private take(inlet: OpenInlet, buffer: RecordBuffer, chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    inlet.received += chunk.length;
    buffer.push(chunk);
    this.handler.arrived(inlet);
    try {
      for (let record = buffer.next(); record && !this.isClosed; record = buffer.next()) {
        this.handler.record(inlet, record);
      }
    } catch (error) {
      this.fail(error);
    }
  }

  private fail(error: unknown): void {
    if (!(error instanceof RecordError)) throw error;
    this.close(closeNamed("protocol"), error.message);
  }
}

/** WebTransport's 0 is an end without a word. */
function closeOf(code: number | undefined): Close | undefined {
  return code ? closeFromNumber(code) : undefined;
}

/** Moves records from a source into a stream, one at a time, as the stream takes them. Opened with the first one. */
class OutStream implements Outlet {
  private isRunning = false;
  private isFinishing = false;
  private writer: WritableStreamDefaultWriter<Uint8Array> | undefined;

  constructor(
    private readonly stream: () => Promise<WritableStream<Uint8Array>>,
    private opening: Uint8Array,
    private readonly source: Source,
  ) {}

  wake(): void {
    if (this.isRunning) return;
    this.isRunning = true;
    // A stream breaks only with its connection, whose end is told elsewhere.
    this.run().catch(() => {});
  }

  finish(): void {
    this.isFinishing = true;
    if (this.writer) this.wake();
  }

  private async run(): Promise<void> {
    this.writer ??= (await this.stream()).getWriter();
    for (;;) {
      await this.writer.ready;
      const record = this.isFinishing ? undefined : this.source();
      if (!record) break;
      // Not awaited: `ready` above is what paces, and one write may overlap the next record's making.
      this.writer.write(this.withOpening(record)).catch(() => {});
    }
    this.isRunning = false;
    if (this.isFinishing) await this.writer.close();
  }

  private withOpening(record: Uint8Array): Uint8Array {
    if (this.opening.length === 0) return record;
    const first = concat(this.opening, record);
    this.opening = new Uint8Array(0);
    return first;
  }
}
