//! The one table of limits. A peer that exceeds one is closed with [`crate::Close::LIMIT`]; docs/protocol.md lists them.

use std::time::Duration;

/// The protocol's version, in `Hello` and in the names below.
pub const VERSION: u32 = 1;
/// ALPN of the protocol directly over QUIC.
pub const ALPN_QUIC: &[u8] = b"tandem/1";
/// ALPN of HTTP/3, under which WebTransport arrives.
pub const ALPN_H3: &[u8] = b"h3";
/// WebSocket subprotocol.
pub const WEBSOCKET_PROTOCOL: &str = "tandem.1";
/// Path of the WebSocket and of the WebTransport session.
pub const CONNECT_PATH: &str = "/v1/connect";
/// Where a relay says how it can be reached.
pub const WELL_KNOWN_PATH: &str = "/.well-known/tandem";

/// Most bytes of a record's body.
pub const BODY_MAX: usize = 1 << 20;
/// Most bytes of a control record's body.
pub const CONTROL_BODY_MAX: usize = 64 << 10;
/// Most bytes of an input record's body.
pub const INPUT_BODY_MAX: usize = 4 << 10;
/// Most bytes of a record's header: the known part and whatever a later version appends.
pub const HEADER_MAX: usize = 128;
/// Most bytes that a client may send before it is admitted.
pub const UNADMITTED_MAX: usize = 4 << 10;
/// Time that a client has to be admitted.
pub const ADMISSION_TIME: Duration = Duration::from_secs(5);
/// Most bytes of an update or key assembled from several records.
pub const ASSEMBLED_MAX: usize = 64 << 20;
/// Most lanes that one end keeps open at once, beside control.
pub const LANES_MAX: usize = 64;
/// The same from the relay to a client: as many as all participants together may have.
pub const LANES_TO_CLIENT_MAX: usize = 256;
/// Most payload bytes of a WebSocket fragment.
pub const FRAGMENT_MAX: usize = 16 << 10;
/// Fewest payload bytes a WebSocket fragment is cut to, but for a record's last.
pub const FRAGMENT_MIN: usize = 512;
/// Longest time one fragment may occupy the path.
pub const FRAGMENT_TIME: Duration = Duration::from_millis(10);
/// Largest WebSocket message: several fragments may share one.
pub const MESSAGE_MAX: usize = 64 << 10;
/// Credit of a lane when it opens.
pub const CREDIT: u64 = 64 << 10;
/// Credit of a screen or key lane when it opens.
pub const CREDIT_SCREEN: u64 = 4 << 20;
/// Credit of a file or clipboard lane when it opens: 80 Mbit/s across a round trip of 200 ms.
pub const CREDIT_BULK: u64 = 2 << 20;
/// Bytes of unacknowledged input kept for a resume.
pub const RESEND_INPUT: usize = 1 << 20;
/// Bytes of unacknowledged screen kept for a resume.
pub const RESEND_SCREEN: usize = 8 << 20;
/// Input older than this after an outage is dropped, counted and shown.
pub const INPUT_AGE_MAX: Duration = Duration::from_secs(1);
/// Held keys and buttons are restated this often.
pub const HELD_EVERY: Duration = Duration::from_millis(250);
/// Held keys and buttons are released after this much silence.
pub const HELD_SILENCE: Duration = Duration::from_millis(750);
/// Heartbeats of an active session.
pub const HEARTBEAT_ACTIVE: Duration = Duration::from_secs(2);
/// Heartbeats of a waiting session.
pub const HEARTBEAT_WAITING: Duration = Duration::from_secs(20);
/// How long a lost connection may come back with its ticket, by default.
pub const GRACE: Duration = Duration::from_secs(300);
/// Answer time of a consent prompt; silence is a refusal.
pub const CONSENT_TIME: Duration = Duration::from_secs(30);
/// Head start of QUIC before the WebSocket is tried beside it.
pub const RACE_HEAD_START: Duration = Duration::from_millis(250);
/// Most bytes of a close reason (RFC 6455, section 5.5).
pub const REASON_MAX: usize = 123;
/// Largest side of a picture.
pub const PICTURE_SIDE_MAX: u16 = 8192;
/// Most copies in one update.
pub const COPIES_MAX: usize = 64;
/// Largest side of a cursor.
pub const CURSOR_SIDE_MAX: u32 = 256;
/// Most `Feedback` messages a second; and at least [`FEEDBACK_MIN`] while something is unacknowledged.
pub const FEEDBACK_MAX: u32 = 60;
/// Fewest `Feedback` messages a second while something is unacknowledged.
pub const FEEDBACK_MIN: u32 = 4;
/// A subscriber that sees a display and takes nothing of what waits for it is closed after this long.
pub const STALLED_TIME: Duration = Duration::from_secs(15);
/// Bytes of a segment that the relay holds for late joiners.
pub const HELD_SEGMENT_MAX: usize = 16 << 20;
/// Displays that a publisher may have, and a subscriber may want.
pub const DISPLAYS_MAX: usize = 16;
/// Participants of a session.
pub const PARTICIPANTS_MAX: usize = 32;
