//! Where the X server puts a display's pixels: memory shared with it, or a copy sent over the connection.

use std::fs::File;

use memmap2::{Mmap, MmapOptions};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use x11rb::connection::Connection;
use x11rb::errors::{ReplyError, ReplyOrIdError};
use x11rb::protocol::ErrorKind;
use x11rb::protocol::shm::{ConnectionExt as _, Seg};
use x11rb::protocol::xproto::{ConnectionExt as _, ImageFormat};

use super::link::{Asked, Link, OrLost};
use crate::{CaptureError, Rect};

/// The pixels of one display, B, G, R, unused, as of the last reading of each row.
#[derive(Debug)]
pub(super) struct Pixels {
    size: (u16, u16),
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    /// The server writes here, and only while it answers a request of ours.
    Shared(Seg, Mmap),
    /// Rows arrive as replies.
    Own(Vec<u8>),
}

impl Pixels {
    /// Room for a display, shared with the server if `shared` and it can be.
    pub(super) fn new(link: &Link, size: (u16, u16), shared: bool) -> Result<Self, CaptureError> {
        let bytes = usize::from(size.0) * usize::from(size.1) * 4;
        if shared {
            match share(link, bytes) {
                Ok((segment, memory)) => return Ok(Self { size, memory: Memory::Shared(segment, memory) }),
                Err(CaptureError::Lost(reason)) => return Err(CaptureError::Lost(reason)),
                // Another machine's server, or one in another container.
                Err(error) => {
                    tracing::info!(%error, "no memory can be shared with the X server; the screen is read slower")
                }
            }
        }
        Ok(Self { size, memory: Memory::Own(vec![0; bytes]) })
    }

    pub(super) fn stride(&self) -> usize {
        usize::from(self.size.0) * 4
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match &self.memory {
            Memory::Shared(_, memory) => memory,
            Memory::Own(memory) => memory,
        }
    }

    /// Reads the rows of `part` anew; the display lies at `origin`. Whole rows, so that they land in their places.
    pub(super) fn read(&mut self, link: &Link, origin: (i32, i32), part: Rect) -> Result<(), CaptureError> {
        let (conn, root, stride) = (&link.conn, link.root(), self.stride());
        let (x, y) = (origin.0 as i16, (origin.1 + i32::from(part.y)) as i16);
        let (width, height, first) = (self.size.0, part.height, usize::from(part.y) * stride);
        let format = ImageFormat::Z_PIXMAP;
        match &mut self.memory {
            Memory::Shared(segment, _) => {
                let offset = u32::try_from(first).map_err(|_| CaptureError::LayoutChanged)?;
                let image =
                    conn.shm_get_image(root, x, y, width, height, !0, format.into(), *segment, offset);
                image.or_lost()?.reply().map_err(outside)?;
            }
            Memory::Own(memory) => {
                let image = conn
                    .get_image(format, root, x, y, width, height, !0)
                    .or_lost()?
                    .reply()
                    .map_err(outside)?;
                let rows = &mut memory[first..first + stride * usize::from(height)];
                // A server that sends fewer bytes than it was asked for is not to be trusted with the rest either.
                rows.copy_from_slice(image.data.get(..rows.len()).ok_or(CaptureError::LayoutChanged)?);
            }
        }
        Ok(())
    }

    /// Gives the memory back.
    pub(super) fn discard(self, link: &Link) -> Result<(), CaptureError> {
        if let Memory::Shared(segment, _) = self.memory {
            link.conn.shm_detach(segment).or_lost()?;
        }
        Ok(())
    }
}

/// A rectangle outside the screen means that the screen has shrunk; other refusals are told as they are.
fn outside(error: ReplyError) -> CaptureError {
    match error {
        ReplyError::X11Error(error) if error.error_kind == ErrorKind::Match => CaptureError::LayoutChanged,
        other => Err::<(), _>(other).asked("show the screen").expect_err("it was an error"),
    }
}

/// Memory of ours that the server may write: passed as a file descriptor, so nothing outlives the two processes.
fn share(link: &Link, bytes: usize) -> Result<(Seg, Mmap), CaptureError> {
    let what = "make memory to share";
    let fd = memfd_create("tandem-screen", MemfdFlags::CLOEXEC)
        .and_then(|fd| ftruncate(&fd, bytes as u64).map(|()| fd))
        .map_err(|error| CaptureError::System { what, source: error.into() })?;
    let file = File::from(fd);
    // SAFETY: the file is anonymous memory of the right length that no other program can name. The X server, which gets its
    // descriptor, neither shrinks it (it has no reason to; every X client trusts it with that) nor writes to it but
    // while it answers `shm_get_image`, for which `Pixels::read` waits with `&mut self`: no borrow sees bytes change.
    let memory = unsafe { MmapOptions::new().len(bytes).map(&file) };
    let memory = memory.map_err(|source| CaptureError::System { what, source })?;
    let segment = link.conn.generate_id().asked("name a segment")?;
    let attached = link.conn.shm_attach_fd(segment, file, false).map_err(ReplyOrIdError::from);
    attached.and_then(|cookie| cookie.check().map_err(ReplyOrIdError::from)).asked("share memory")?;
    Ok((segment, memory))
}
