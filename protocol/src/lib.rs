//! What Tandem says on the wire. No I/O, no clock, no async: bytes in, checked types out, and back.
//!
//! - [`ids`], [`limits`], [`close`]: names, bounds and the registry of ends;
//! - [`lane`], [`record`]: ordered streams of records, and what stands in front of each;
//! - [`assembler`]: records out of the pieces in which they arrive;
//! - [`mux`]: how lanes share one WebSocket;
//! - [`message`]: control, input, cursor and peer messages (feature `messages`), [`token`]: what admits a technician.
//!
//! docs/protocol.md says the same without Rust.
#![forbid(unsafe_code)]

pub mod assembler;
pub mod close;
pub mod ids;
pub mod lane;
pub mod limits;
#[cfg(feature = "messages")]
pub mod message;
pub mod mux;
pub mod record;
pub mod share;
pub mod token;

pub use assembler::Assembler;
pub use close::{Close, Fault, Retry};
pub use ids::{AttemptId, Code, DisplayId, Rendition, Sender, SessionId};
pub use lane::{LaneKey, LaneKind, Priority};
pub use record::{Flags, Header, Point, Record, RecordError, ScreenHeader, ScreenKind};
