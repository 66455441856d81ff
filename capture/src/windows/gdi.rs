//! Pixels through GDI: it works on every Windows, in remote desktops and under wine, and costs a copy of the whole display.

use std::io;
use std::ptr::{NonNull, null_mut};
use std::time::{Duration, Instant};

use windows_sys::Win32::Graphics::Gdi::{
    BI_RGB, BITMAPINFO, BITMAPINFOHEADER, BitBlt, CreateCompatibleDC, CreateDIBSection, DIB_RGB_COLORS,
    DeleteDC, DeleteObject, GdiFlush, GetDC, HBITMAP, HDC, HGDIOBJ, ReleaseDC, SRCCOPY, SelectObject,
};

use super::last;
use crate::layout::Damage;
use crate::{CaptureError, Rect, compare};

/// A picture that young is not taken again.
const FRESH: Duration = Duration::from_millis(8);

/// One display's pixels, and those before.
#[derive(Debug)]
pub(super) struct Surface {
    origin: (i32, i32),
    size: (u16, u16),
    shown: Bitmap,
    spare: Bitmap,
    taken: Option<Instant>,
    /// How long taking and comparing took the last time.
    pub(super) cost: Duration,
}

impl Surface {
    pub(super) fn new(origin: (i32, i32), size: (u16, u16)) -> Result<Self, CaptureError> {
        let (shown, spare) = (Bitmap::new(size)?, Bitmap::new(size)?);
        Ok(Self { origin, size, shown, spare, taken: None, cost: Duration::ZERO })
    }

    /// Looks at the display unless that has just been done, and adds what changed since the last look.
    ///
    /// # Errors
    /// While the system shows a desktop of its own.
    pub(super) fn look(&mut self, damage: &mut Damage) -> io::Result<()> {
        let began = Instant::now();
        if self.taken.is_some_and(|taken| began - taken < FRESH) {
            return Ok(());
        }
        self.spare.take(self.origin)?;
        if self.taken.is_none() {
            damage.add(Rect::whole(self.size));
        } else {
            compare::differences(self.shown.bytes(), self.spare.bytes(), self.size, damage);
        }
        std::mem::swap(&mut self.shown, &mut self.spare);
        let now = Instant::now();
        (self.taken, self.cost) = (Some(now), now - began);
        Ok(())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.shown.bytes()
    }
}

/// A picture in memory that GDI draws into: B, G, R, unused; rows from the top without gaps.
#[derive(Debug)]
struct Bitmap {
    dc: HDC,
    bitmap: HBITMAP,
    before: HGDIOBJ,
    bits: NonNull<u8>,
    size: (u16, u16),
}

// SAFETY: its handles belong to nobody else, and GDI lets any one thread at a time use them.
unsafe impl Send for Bitmap {}

impl Bitmap {
    fn new(size: (u16, u16)) -> Result<Self, CaptureError> {
        // SAFETY: without conditions.
        let dc = unsafe { CreateCompatibleDC(null_mut()) };
        if dc.is_null() {
            return Err(last("make a place to draw"));
        }
        let header = BITMAPINFOHEADER {
            biSize: size_of::<BITMAPINFOHEADER>() as u32,
            biWidth: size.0.into(),
            // Negative: from the top.
            biHeight: -i32::from(size.1),
            biPlanes: 1,
            biBitCount: 32,
            biCompression: BI_RGB,
            ..BITMAPINFOHEADER::default()
        };
        let info = BITMAPINFO { bmiHeader: header, ..BITMAPINFO::default() };
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

    /// Copies what the desktop shows from here on.
    fn take(&mut self, (x, y): (i32, i32)) -> io::Result<()> {
        // SAFETY: without conditions; given back below, by this thread.
        let screen = unsafe { GetDC(null_mut()) };
        if screen.is_null() {
            return Err(io::Error::last_os_error());
        }
        let (width, height) = (self.size.0.into(), self.size.1.into());
        // SAFETY: both places to draw are valid; whatever lies outside of either is left out by the system.
        let copied = unsafe { BitBlt(self.dc, 0, 0, width, height, screen, x, y, SRCCOPY) };
        let error = io::Error::last_os_error();
        // SAFETY: from the call above. Flushing has no conditions: after it the bits can be read.
        unsafe {
            GdiFlush();
            ReleaseDC(null_mut(), screen);
        }
        if copied == 0 { Err(error) } else { Ok(()) }
    }

    fn bytes(&self) -> &[u8] {
        let length = usize::from(self.size.0) * usize::from(self.size.1) * 4;
        // SAFETY: the system made so many bytes for as long as the bitmap lives, set to 0, and GDI only writes to them in
        // `take`, which needs the bitmap alone and flushes.
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
