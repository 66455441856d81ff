//! Pictures in memory, as GDI takes and makes them: 32 bits a pixel (B, G, R, unused), rows from the top without gaps.

use std::io;
use std::ptr::{NonNull, null_mut};

use windows_sys::Win32::Graphics::Gdi::{
    BI_RGB, BITMAPINFO, BITMAPINFOHEADER, BitBlt, CreateCompatibleDC, CreateDIBSection, DIB_RGB_COLORS,
    DeleteDC, DeleteObject, GdiFlush, GetDC, HBITMAP, HDC, HGDIOBJ, ReleaseDC, SRCCOPY, SelectObject,
};

use super::last;
use crate::CaptureError;

/// How GDI is told of a picture of this size, in pixels.
pub fn described(width: i32, height: i32) -> BITMAPINFO {
    let header = BITMAPINFOHEADER {
        biSize: size_of::<BITMAPINFOHEADER>() as u32,
        biWidth: width,
        // Negative: from the top.
        biHeight: -height,
        biPlanes: 1,
        biBitCount: 32,
        biCompression: BI_RGB,
        ..BITMAPINFOHEADER::default()
    };
    BITMAPINFO { bmiHeader: header, ..BITMAPINFO::default() }
}

/// A picture that GDI draws into, black at first.
#[derive(Debug)]
pub struct Bitmap {
    dc: HDC,
    bitmap: HBITMAP,
    before: HGDIOBJ,
    bits: NonNull<u8>,
    size: (u16, u16),
}

// SAFETY: handles and pixels are valid in the whole process until they are given back in `Drop`, and two threads never use them at once:
// drawing takes `&mut`. A place to draw goes with the thread that made it; from then on drawing fails, which is told and touches no memory. GDI
// keeps what is to be drawn back for each thread: `take` lets it all out before it returns, and who draws by `dc` reads on the same thread.
unsafe impl Send for Bitmap {}

impl Bitmap {
    /// One of this size, in pixels.
    ///
    /// # Errors
    /// When the system has no room for it.
    pub fn new(size: (u16, u16)) -> Result<Self, CaptureError> {
        // SAFETY: without conditions.
        let dc = unsafe { CreateCompatibleDC(null_mut()) };
        if dc.is_null() {
            return Err(last("make a place to draw"));
        }
        let info = described(size.0.into(), size.1.into());
        let mut bits = null_mut();
        // SAFETY: `info` describes a picture without a palette; `bits` can be written to.
        let bitmap =
            unsafe { CreateDIBSection(dc, &raw const info, DIB_RGB_COLORS, &raw mut bits, null_mut(), 0) };
        let error = last("make a picture");
        let Some(bits) = NonNull::new(bits.cast::<u8>()).filter(|_| !bitmap.is_null()) else {
            // SAFETY: made above, and not used any more.
            unsafe { DeleteDC(dc) };
            return Err(error);
        };
        // SAFETY: both were made above.
        let before = unsafe { SelectObject(dc, bitmap) };
        Ok(Self { dc, bitmap, before, bits, size })
    }

    /// What GDI draws into it by. It is there as long as the picture is; whoever selects something into it takes that out again
    /// before. What was drawn is in the [bytes](Self::bytes) that the same thread reads.
    pub fn dc(&mut self) -> HDC {
        self.dc
    }

    /// Copies what the desktop shows from here on, in its pixels.
    ///
    /// # Errors
    /// While the system shows a desktop of its own.
    pub(super) fn take(&mut self, (x, y): (i32, i32)) -> io::Result<()> {
        // SAFETY: without conditions; given back below, by this thread.
        let screen = unsafe { GetDC(null_mut()) };
        if screen.is_null() {
            return Err(io::Error::last_os_error());
        }
        let (width, height) = (self.size.0.into(), self.size.1.into());
        // SAFETY: both places to draw are valid; whatever lies outside of either is left out by the system.
        let copied = unsafe { BitBlt(self.dc, 0, 0, width, height, screen, x, y, SRCCOPY) };
        let error = io::Error::last_os_error();
        // SAFETY: the handle is from the call above. What this thread drew is in the bits then, whoever reads them.
        unsafe {
            ReleaseDC(null_mut(), screen);
            GdiFlush();
        }
        if copied == 0 { Err(error) } else { Ok(()) }
    }

    /// Its pixels.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: without conditions; after it all that this thread drew is in the bits.
        unsafe { GdiFlush() };
        let length = usize::from(self.size.0) * usize::from(self.size.1) * 4;
        // SAFETY: the system made so many bytes for as long as the bitmap lives, set to 0, and GDI only writes to them by the
        // place to draw, which is handed out to whoever has the bitmap alone.
        unsafe { std::slice::from_raw_parts(self.bits.as_ptr(), length) }
    }
}

impl Drop for Bitmap {
    fn drop(&mut self) {
        // SAFETY: made together and used by nobody else; a bitmap can only go once it is not drawn into any more.
        unsafe {
            SelectObject(self.dc, self.before);
            DeleteObject(self.bitmap);
            DeleteDC(self.dc);
        }
    }
}
