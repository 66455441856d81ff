// The protocol's limits that concern a subscriber (docs/protocol.md, section 9), and times both ends agree on.

/** WebSocket subprotocol. */
export const WEBSOCKET_PROTOCOL = "tandem.1";
/** Where a relay says how it can be reached. */
export const WELL_KNOWN_PATH = "/.well-known/tandem";
/** The protocol version spoken here. */
export const VERSION = 1;

/** Most bytes of a record's body. */
export const BODY_MAX = 1 << 20;
/** Most bytes of a control record's body. */
export const CONTROL_BODY_MAX = 64 << 10;
/** Most bytes of an input record's body. */
export const INPUT_BODY_MAX = 4 << 10;
/** Most bytes of a record's header, extensions included. */
export const HEADER_MAX = 128;
/** Most lanes that a client has open beside control. */
export const LANES_MAX = 64;
/** The same of a relay towards a client. */
export const LANES_TO_CLIENT_MAX = 256;
/** Most payload bytes of a WebSocket fragment. */
export const FRAGMENT_MAX = 16 << 10;
/** Fewest payload bytes that a fragment is cut to, but for a record's last. */
export const FRAGMENT_MIN = 512;
/** Longest time one fragment may occupy the path, ms. */
export const FRAGMENT_MS = 10;
/** Largest WebSocket message: several fragments may share one. */
export const MESSAGE_MAX = 64 << 10;
/** Credit of a lane when it opens. */
export const CREDIT = 64 << 10;
/** Credit of a screen or key lane when it opens. */
export const CREDIT_SCREEN = 4 << 20;
/** Credit of a file or clipboard lane when it opens: 80 Mbit/s across a round trip of 200 ms. */
export const CREDIT_BULK = 2 << 20;
/** Bytes of unacknowledged input kept for a resume. */
export const RESEND_INPUT = 1 << 20;
/** Input older than this when it goes on another connection is dropped, counted and shown, ms. */
export const INPUT_AGE_MAX_MS = 1000;
/** Held keys and buttons are restated this often, ms. */
export const HELD_EVERY_MS = 250;
/** Head start of WebTransport before the WebSocket is tried beside it, ms. */
export const RACE_HEAD_START_MS = 250;
/** Time that a connection has to open and be welcomed, ms: longer than the relay's own 5 s of admission. */
export const ADMISSION_MS = 10_000;
/** Time between acknowledgements of a lane, at least, ms. */
export const ACK_EVERY_MS = 8;
/** Heartbeats without a byte that mean a lost connection. */
export const HEARTBEATS_SILENT = 3;
/** Most bytes of a close reason (RFC 6455, section 5.5). */
export const REASON_MAX = 123;
/** Largest side of a picture. */
export const PICTURE_SIDE_MAX = 8192;
/** Largest side of a cursor. */
export const CURSOR_SIDE_MAX = 256;
