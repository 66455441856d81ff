//! A message: a head that says when it was due, and bytes that cannot be compressed. The first four bytes are its length, so
//! that messages can follow one another in a stream.

use std::time::{Duration, Instant};

/// Bytes of a head, the least that a message can have.
pub const HEAD: usize = 24;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first of an end.
    Hello,
    /// Of a screen.
    Frame,
    /// Of a keyboard or mouse.
    Input,
    /// Never sent: a system says that it has given up input, which `number` counts.
    GivenUp,
}

/// A message's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the whole message.
    pub len: u32,
    /// What it is for.
    pub kind: Kind,
    /// Counts from 0 for each kind and sender.
    pub number: u32,
    /// When it was due, on the clock of [`Clock`].
    pub due: Duration,
}

impl Head {
    /// Reads the head of a message of which perhaps not all is there. `None`: not even the head is.
    ///
    /// # Errors
    /// If this is no message of ours.
    pub fn parse(bytes: &[u8]) -> anyhow::Result<Option<Self>> {
        let Some((head, _)) = bytes.split_first_chunk::<HEAD>() else { return Ok(None) };
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let kind = match head[4] {
            0 => Kind::Hello,
            1 => Kind::Frame,
            2 => Kind::Input,
            other => anyhow::bail!("a message of kind {other}"),
        };
        let len = word(0);
        anyhow::ensure!(len as usize >= HEAD, "a message of {len} bytes");
        let due = u64::from(word(16)) | u64::from(word(20)) << 32;
        Ok(Some(Self { len, kind, number: word(8), due: Duration::from_nanos(due) }))
    }
}

/// A message that is sent again and again with another head.
#[derive(Clone, Debug)]
pub struct Message(Vec<u8>);

impl Message {
    /// One of so many bytes, but at least a head.
    #[must_use]
    pub fn new(kind: Kind, len: u32) -> Self {
        let mut bytes: Vec<u8> = (0..(len as usize).max(HEAD)).map(|_| rand::random()).collect();
        let len = bytes.len() as u32;
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        bytes[4..8].copy_from_slice(&[kind as u8, 0, 0, 0]);
        Self(bytes)
    }

    /// Bytes of it.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it has a head at least")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The same with this number, due then.
    pub fn numbered(&mut self, number: u32, due: Duration) -> &[u8] {
        self.0[8..12].copy_from_slice(&number.to_le_bytes());
        self.0[16..24].copy_from_slice(&(due.as_nanos() as u64).to_le_bytes());
        &self.0
    }
}

/// The one clock of a run.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Duration {
        self.0.elapsed()
    }

    pub(crate) fn instant(self, at: Duration) -> Instant {
        self.0 + at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_back() {
        let mut message = Message::new(Kind::Input, 32);
        let due = Duration::from_nanos(0x1_2345_6789_abcd);
        let bytes = message.numbered(7, due).to_vec();
        assert_eq!(bytes.len(), 32);
        let head = Head { len: 32, kind: Kind::Input, number: 7, due };
        assert_eq!(Head::parse(&bytes).unwrap(), Some(head));
        assert_eq!(Head::parse(&bytes[..HEAD - 1]).unwrap(), None);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let mut bytes = Message::new(Kind::Frame, 0).0;
        assert_eq!(Head::parse(&bytes).unwrap().unwrap().len as usize, HEAD);
        bytes[4] = 3;
        assert!(Head::parse(&bytes).is_err());
        assert!(Head::parse(&[0; HEAD]).is_err());
    }
}
