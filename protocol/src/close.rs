//! Close codes: why a connection ended, whose fault that is, and whether trying again helps. One registry for all
//! bindings; docs/protocol.md shows it as a table.

use std::fmt;

/// Added to a code on WebSocket, whose own codes end below 4000 (RFC 6455, section 7.4.2).
pub const WEBSOCKET_BASE: u16 = 4000;

/// Whose fault an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It was meant to end.
    Nobody,
    /// The client did what it may not.
    Client,
    /// The relay could not.
    Relay,
    /// What lies between.
    Path,
}

/// Whether to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// At once, with the ticket, after a short random wait.
    Now,
    /// After a wait that grows.
    Later,
    /// It would end the same way.
    Never,
}

/// Why a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Close(u16);

macro_rules! registry {
    ($($(#[doc = $doc:literal])+ $constant:ident = $number:literal, $name:literal, $fault:ident, $retry:ident;)*) => {
        impl Close {
            $($(#[doc = $doc])+ pub const $constant: Self = Self($number);)*

            /// Every code of this version, in order.
            pub const ALL: &'static [Self] = &[$(Self::$constant),*];

            /// Its short name, as metrics and logs show it.
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($number => $name,)*
                    _ => "unknown",
                }
            }

            /// Whose fault it is. A code of a later version counts as the relay's.
            pub fn fault(self) -> Fault {
                match self.0 {
                    $($number => Fault::$fault,)*
                    _ => Fault::Relay,
                }
            }

            /// Whether to try again. A code of a later version: later.
            pub fn retry(self) -> Retry {
                match self.0 {
                    $($number => Retry::$retry,)*
                    _ => Retry::Later,
                }
            }
        }
    };
}

registry! {
    /// The session has ended for all.
    ENDED = 1, "ended", Nobody, Never;
    /// This participant left; the session may go on.
    LEFT = 2, "left", Nobody, Never;
    /// The other connection of the same race is in use.
    RACE_LOST = 3, "race_lost", Nobody, Never;
    /// The same participant connected anew.
    REPLACED = 4, "replaced", Nobody, Never;
    /// The relay is leaving service.
    GOING_AWAY = 5, "going_away", Nobody, Now;
    /// The session's time, or this participant's in it, is over.
    TIME_OVER = 6, "time_over", Nobody, Never;
    /// The operator has withdrawn the session, or what this participant was admitted by.
    REVOKED = 7, "revoked", Nobody, Never;
    /// Bytes that are no records, messages out of order, records on the wrong lane.
    PROTOCOL = 20, "protocol", Client, Never;
    /// More than a limit allows.
    LIMIT = 21, "limit", Client, Never;
    /// No common protocol version.
    VERSION = 22, "version", Client, Never;
    /// No `Hello` in time, or too many bytes before it.
    ADMISSION = 23, "admission", Client, Later;
    /// No session has this code.
    CODE_UNKNOWN = 30, "code_unknown", Client, Never;
    /// The code's time is over.
    CODE_EXPIRED = 31, "code_expired", Client, Never;
    /// Somebody has joined with this code.
    CODE_USED = 32, "code_used", Client, Never;
    /// The token is not one of ours, or not for this relay.
    TOKEN_INVALID = 33, "token_invalid", Client, Never;
    /// The token's time is over.
    TOKEN_EXPIRED = 34, "token_expired", Client, Never;
    /// The token was used before, by another attempt.
    TOKEN_USED = 35, "token_used", Client, Never;
    /// The ticket is not one of ours.
    TICKET_INVALID = 36, "ticket_invalid", Client, Never;
    /// The grace period is over.
    TICKET_EXPIRED = 37, "ticket_expired", Client, Never;
    /// The role or the rights do not allow it.
    FORBIDDEN = 38, "forbidden", Client, Never;
    /// Too many tries from this network.
    TOO_MANY = 39, "too_many", Client, Later;
    /// Nothing was heard for three heartbeats.
    SILENT = 40, "silent", Path, Now;
    /// Nothing was received for too long while much was waiting.
    STALLED = 41, "stalled", Path, Now;
    /// The relay has no room now.
    OVERLOADED = 50, "overloaded", Relay, Later;
    /// The relay failed.
    INTERNAL = 51, "internal", Relay, Later;
}

impl Close {
    /// The number on QUIC and WebTransport.
    pub fn number(self) -> u16 {
        self.0
    }

    /// From the number on QUIC and WebTransport, unknown ones included.
    pub fn from_number(number: u64) -> Self {
        u16::try_from(number).map_or(Self::INTERNAL, Self)
    }

    /// The number on WebSocket.
    pub fn websocket(self) -> u16 {
        WEBSOCKET_BASE + self.0
    }

    /// From a WebSocket close code; `None` for the WebSocket protocol's own.
    pub fn from_websocket(code: u16) -> Option<Self> {
        code.checked_sub(WEBSOCKET_BASE).filter(|&n| n < 1000).map(Self)
    }
}

impl fmt::Debug for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A reason cut to what every binding can carry, at a character's border.
pub fn reason(text: &str) -> &str {
    let mut end = text.len().min(crate::limits::REASON_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_small_and_have_a_websocket_twin() {
        for (i, close) in Close::ALL.iter().enumerate() {
            assert!(close.number() < 1000);
            assert!(Close::ALL[..i].iter().all(|other| other < close), "{close} is out of order");
            assert_eq!(Close::from_websocket(close.websocket()), Some(*close));
            assert_ne!(close.name(), "unknown");
        }
        assert_eq!(Close::from_websocket(1006), None);
        assert_eq!(Close::from_number(777).retry(), Retry::Later);
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        let long = "ä".repeat(100);
        assert_eq!(reason(&long).len(), 122);
        assert_eq!(reason("short"), "short");
    }
}
