//! Records out of the pieces in which they arrive.

use bytes::{Bytes, BytesMut};

use crate::lane::LaneKind;
use crate::limits;
use crate::record::{Header, Layout, Record, RecordError};

/// Puts a lane's records together. Each gets memory of its own, allocated once and no larger than it is: what is held of a screen keeps
/// nothing else alive, and what has arrived is copied only once.
#[derive(Debug)]
pub struct Assembler {
    lane: LaneKind,
    /// The record that is under way, or what has come of its header.
    buffer: BytesMut,
    known: Option<(Header, Layout)>,
}

impl Assembler {
    /// Of a lane of which nothing has arrived.
    pub fn new(lane: LaneKind) -> Self {
        Self { lane, buffer: BytesMut::new(), known: None }
    }

    /// Takes what belongs to the next record away from the front of `bytes`, which follows what was given before; the record, if
    /// that completes it. `None`: all was taken.
    ///
    /// # Errors
    /// As [`Header::parse`]. Nothing more can come of the lane then.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Record>, RecordError> {
        if self.known.is_none() {
            self.begin(bytes)?;
        }
        let Some((header, layout)) = self.known else { return Ok(None) };
        let (body, rest) = bytes.split_at(bytes.len().min(layout.record_len() - self.buffer.len()));
        self.buffer.extend_from_slice(body);
        *bytes = rest;
        if self.buffer.len() < layout.record_len() {
            return Ok(None);
        }
        self.known = None;
        let bytes: Bytes = std::mem::take(&mut self.buffer).freeze();
        Ok(Some(Record { header, bytes, body_at: layout.header_len }))
    }

    /// Reads the header, and makes room for the record once that says that it is allowed.
    fn begin(&mut self, bytes: &mut &[u8]) -> Result<(), RecordError> {
        if self.buffer.is_empty() {
            if let Some((header, layout)) = Header::parse(self.lane, bytes)? {
                self.buffer = BytesMut::with_capacity(layout.record_len());
                self.known = Some((header, layout));
                return Ok(());
            }
        } else if let Some((header, layout)) = self.parse_after(bytes)? {
            let mut buffer = BytesMut::with_capacity(layout.record_len());
            buffer.extend_from_slice(&self.buffer);
            self.buffer = buffer;
            self.known = Some((header, layout));
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        *bytes = &[];
        Ok(())
    }

    /// Reads a header of which a part came before.
    fn parse_after(&self, bytes: &[u8]) -> Result<Option<(Header, Layout)>, RecordError> {
        let mut whole = [0; limits::HEADER_MAX];
        let before = self.buffer.len();
        let more = bytes.len().min(limits::HEADER_MAX - before);
        whole[..before].copy_from_slice(&self.buffer);
        whole[before..before + more].copy_from_slice(&bytes[..more]);
        Header::parse(self.lane, &whole[..before + more])
    }

    /// Whether nothing of a record has arrived that is not whole.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.known.is_none()
    }
}
