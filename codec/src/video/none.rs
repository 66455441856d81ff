//! A build without an encoder of H.264: no region ever begins.

use crate::picture::{PictureRef, Rect, Size};
use crate::wire::CodedSize;

/// The codec refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed;

/// There is none.
pub(crate) enum Coder {}

impl Coder {
    pub(crate) fn can(_: Size) -> bool {
        false
    }

    pub(crate) fn new(_: Size) -> Option<Self> {
        None
    }

    pub(crate) fn coded(&self) -> CodedSize {
        match *self {}
    }

    pub(crate) fn encode(
        &mut self,
        _: PictureRef<'_>,
        _: Rect,
        _: bool,
        _: u8,
        _: &mut Vec<u8>,
    ) -> Result<(), Failed> {
        match *self {}
    }
}
