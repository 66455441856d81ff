// What a client says first, what the key of a bound token signs, and what the relay's answer says of its lanes
// (docs/protocol.md, section 4).
import type { Welcome } from "../gen/control_pb";
import type { Close } from "./close";
import type { LaneKey } from "./lane";
import { VERSION } from "./limits";
import type { ControlInit } from "./message";
import type { LanePosition } from "./positions";
import type { Point } from "./record";

/** Joining failed in a way that no further try would change: the desk's answer, not the relay's. */
export class JoinError extends Error {
  override readonly name = "JoinError";

  constructor(
    readonly close: Close,
    reason: string,
  ) {
    super(reason);
  }
}

/** Who comes, and with what. */
export interface Joining {
  readonly join:
    | { readonly case: "ticket"; readonly value: Uint8Array }
    | { readonly case: "token"; readonly value: string };
  readonly attemptId: Uint8Array;
  readonly proof: Uint8Array;
  readonly epoch: bigint;
  readonly agent: string;
  readonly codecs: readonly number[];
  readonly h264Levels: readonly number[];
  /** Of who goes on where it was; else nothing. */
  readonly received: LanePosition[];
  readonly showing: { display: number; point: Point }[];
}

/** The first message. */
export function helloOf({ codecs, h264Levels, ...rest }: Joining): ControlInit {
  const capabilities = { codecs: [...codecs], h264Levels: [...h264Levels] };
  return { case: "hello", value: { versions: [VERSION], capabilities, ...rest } };
}

/** Where a resume goes on with one of this participant's own lanes: the relay's word in `Welcome.received`. */
export function receivedOf(welcome: Welcome, lane: LaneKey, epoch: bigint): LanePosition["nextSeq"] | undefined {
  const at = welcome.received.find(
    (position) => position.lane?.kind === lane.kind && position.lane.sender === lane.sender && position.epoch === epoch,
  );
  return at?.nextSeq;
}

/** What the key of a bound token signs: docs/protocol.md, section 4. */
export function toBeSigned(attemptId: Uint8Array, epoch: bigint, token: string): Uint8Array<ArrayBuffer> {
  const encoder = new TextEncoder();
  const [head, tail] = [encoder.encode("tandem hello 1"), encoder.encode(token)];
  const signed = new Uint8Array(head.length + attemptId.length + 8 + tail.length);
  signed.set(head);
  signed.set(attemptId, head.length);
  new DataView(signed.buffer).setBigUint64(head.length + attemptId.length, epoch, true);
  signed.set(tail, head.length + attemptId.length + 8);
  return signed;
}
