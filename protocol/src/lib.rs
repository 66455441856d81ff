//! What Tandem says on the wire. No I/O, no clock, no async: bytes in, checked types out, and back.
#![forbid(unsafe_code)]

pub mod ids;
pub mod lane;
pub mod limits;
pub mod record;

pub use ids::{AttemptId, Code, DisplayId, Rendition, Sender, SessionId};
pub use lane::{LaneKey, LaneKind, Priority};
pub use record::{Flags, Header, Point, Record, RecordError, ScreenHeader, ScreenKind};
