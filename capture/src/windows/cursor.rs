//! The pointer's place and picture.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ptr::null_mut;
use std::sync::Arc;

use windows_sys::Win32::Graphics::Gdi::{
    BITMAP, CreateCompatibleDC, DIB_RGB_COLORS, DeleteDC, DeleteObject, GetDIBits, GetObjectW, HBITMAP,
};
use windows_sys::Win32::UI::WindowsAndMessaging::{
    CURSOR_SHOWING, CURSORINFO, GetCursorInfo, GetIconInfo, HCURSOR, ICONINFO,
};

use super::bitmap;
use crate::{CursorShape, masks};

/// No pointer is larger, along either side.
const SIDE_MAX: i32 = 1024;
/// So many different pictures are known by their ids; beyond, ids are given anew.
const KNOWN_MAX: usize = 1024;

/// Where the pointer is, and by what the system knows its picture (0: it has none now).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    pub(super) place: (i32, i32),
    pub(super) picture: usize,
}

/// The pointer now; `None` while the system shows a desktop of its own.
pub(super) fn pointer() -> Option<Pointer> {
    let mut info = CURSORINFO { cbSize: size_of::<CURSORINFO>() as u32, ..CURSORINFO::default() };
    // SAFETY: `cbSize` says how large the structure is.
    if unsafe { GetCursorInfo(&raw mut info) } == 0 {
        return None;
    }
    let picture = if info.flags == CURSOR_SHOWING { info.hCursor as usize } else { 0 };
    Some(Pointer { place: (info.ptScreenPos.x, info.ptScreenPos.y), picture })
}

/// The pictures that were seen, by their contents.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    known: HashMap<u64, u32>,
    given: u32,
}

impl Shapes {
    /// The picture of a pointer; nothing of it is to be seen when it is hidden. `None` when it has just gone.
    pub(super) fn shape(&mut self, picture: usize) -> Option<Arc<CursorShape>> {
        let (size, hot, pixels) = match picture {
            0 => ((1, 1), (0, 0), vec![0; 4]),
            handle => read(handle as HCURSOR)?,
        };
        let mut hasher = DefaultHasher::new();
        (size, hot, &pixels).hash(&mut hasher);
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        let id = *self.known.entry(hasher.finish()).or_insert_with(|| {
            self.given += 1;
            self.given
        });
        CursorShape::new(id, size, hot, pixels).map(Arc::new)
    }
}

type Picture = ((u16, u16), (u16, u16), Vec<u8>);

fn read(cursor: HCURSOR) -> Option<Picture> {
    let mut info = ICONINFO::default();
    // SAFETY: a handle that is none (any more) makes it fail.
    if unsafe { GetIconInfo(cursor, &raw mut info) } == 0 {
        return None;
    }
    let (mask, colour) = (Owned(info.hbmMask), Owned(info.hbmColor));
    let (mask_size, mask_pixels) = mask.pixels()?;
    let (size, pixels) = match colour.pixels() {
        Some((size, pixels)) => (size, masks::coloured(&pixels, &mask_pixels, size.0.into())),
        None => ((mask_size.0, mask_size.1 / 2), masks::monochrome(&mask_pixels, mask_size.0.into())),
    };
    let hot = |at: u32| u16::try_from(at).unwrap_or(u16::MAX);
    Some((size, (hot(info.xHotspot), hot(info.yHotspot)), pixels))
}

/// A bitmap that the system made for us; null where there is none.
struct Owned(HBITMAP);

impl Owned {
    /// Its size and pixels: B, G, R, A, rows from the top.
    fn pixels(&self) -> Option<((u16, u16), Vec<u8>)> {
        if self.0.is_null() {
            return None;
        }
        let mut about = BITMAP::default();
        // SAFETY: the length is the structure's; a bitmap is described by this one.
        let told = unsafe { GetObjectW(self.0, size_of::<BITMAP>() as i32, (&raw mut about).cast()) };
        let (width, height) = (about.bmWidth, about.bmHeight);
        // A monochrome picture has two masks, one below the other.
        if told == 0 || !(1..=SIDE_MAX).contains(&width) || !(1..=2 * SIDE_MAX).contains(&height) {
            return None;
        }
        let mut info = bitmap::described(width, height);
        let mut pixels = vec![0u8; width as usize * height as usize * 4];
        // SAFETY: without conditions; a null place to draw makes the next call fail.
        let dc = unsafe { CreateCompatibleDC(null_mut()) };
        // SAFETY: `info` describes so many rows of 32-bit pixels as `pixels` has room for, without a palette.
        let rows = unsafe {
            GetDIBits(dc, self.0, 0, height as u32, pixels.as_mut_ptr().cast(), &raw mut info, DIB_RGB_COLORS)
        };
        // SAFETY: made above, and not used any more.
        unsafe { DeleteDC(dc) };
        let size = (u16::try_from(width).ok()?, u16::try_from(height).ok()?);
        (rows == height).then_some((size, pixels))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the system made it for us and nobody else uses it; null is refused without harm.
        unsafe { DeleteObject(self.0) };
    }
}
