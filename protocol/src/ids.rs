//! The identifiers that appear on the wire, each its own type so that none can stand in for another.

use std::fmt;
use std::str::FromStr;

/// A session: 128 random bits, written as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub [u8; 16]);

/// One attempt to join: 128 random bits, the same on every connection of a QUIC/WebSocket race, so that the race spends
/// a token or a code once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttemptId(pub [u8; 16]);

/// A participant's number in its session, assigned by the relay and never used again there. 0 is the relay itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sender(pub u16);

impl Sender {
    /// The relay, as the sender of its own control messages.
    pub const RELAY: Self = Self(0);
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A captured monitor, stable while the applet runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DisplayId(pub u16);

/// One encoder's stream of a display: [`Rendition::LIVE`] or [`Rendition::REDUCED`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rendition(pub u8);

impl Rendition {
    /// Paced by the controlling technician.
    pub const LIVE: Self = Self(0);
    /// For those who cannot keep up with [`Rendition::LIVE`].
    pub const REDUCED: Self = Self(1);
}

/// The code that a customer types: six digits. It addresses a session and proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(u32);

impl Code {
    /// The number of codes there are: 000000 to 999999.
    pub const COUNT: u32 = 1_000_000;

    /// The code with this number, or `None` from [`Code::COUNT`] on.
    pub fn from_number(number: u32) -> Option<Self> {
        (number < Self::COUNT).then_some(Self(number))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

/// Codes are kept out of logs: `Debug` hides the digits.
impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(······)")
    }
}

/// A code, an id or an address of a session was not written as it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// Not six digits.
    #[error("a code is six digits, like 042917")]
    Code,
    /// Not 32 hexadecimal digits.
    #[error("an id is 32 hexadecimal digits")]
    Hex,
}

/// Accepts spaces and hyphens between the digits, as people type them.
impl FromStr for Code {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
        if digits.len() != 6 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ParseIdError::Code);
        }
        digits.parse().map(Self).map_err(|_| ParseIdError::Code)
    }
}

macro_rules! hex_id {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let bytes = text.as_bytes();
                if bytes.len() != 32 {
                    return Err(ParseIdError::Hex);
                }
                let mut id = [0; 16];
                for (byte, pair) in id.iter_mut().zip(bytes.chunks_exact(2)) {
                    let digit = |c: u8| (c as char).to_digit(16).ok_or(ParseIdError::Hex);
                    *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?)
                        .map_err(|_| ParseIdError::Hex)?;
                }
                Ok(Self(id))
            }
        }

        /// From exactly 16 bytes of a message.
        impl TryFrom<&[u8]> for $name {
            type Error = ParseIdError;

            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                bytes.try_into().map(Self).map_err(|_| ParseIdError::Hex)
            }
        }
    };
}

hex_id!(SessionId);
hex_id!(AttemptId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_people_type_it_and_never_shown_in_debug() {
        let code: Code = "04 29-17".parse().unwrap();
        assert_eq!(code.to_string(), "042917");
        assert!(!format!("{code:?}").contains('9'));
        for bad in ["", "12345", "1234567", "12345a", "１２３４５６"] {
            assert_eq!(bad.parse::<Code>(), Err(ParseIdError::Code), "{bad}");
        }
    }

    #[test]
    fn an_id_survives_its_text() {
        let id = SessionId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 254, 255]);
        assert_eq!(id.to_string(), "000102030405060708090a0b0c0dfeff");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("zz0102030405060708090a0b0c0dfeff".parse::<SessionId>().is_err());
        assert!(SessionId::try_from(&[1u8; 15][..]).is_err());
    }
}
