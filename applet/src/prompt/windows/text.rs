//! Text as stencils, drawn by GDI with the font that the system uses for its own messages. It shapes all scripts, and takes
//! characters that the font lacks from others.

use tandem_capture::windows::Bitmap;
use windows_sys::Win32::Foundation::RECT;
use windows_sys::Win32::Graphics::Gdi::{
    ANTIALIASED_QUALITY, CreateFontIndirectW, DT_CALCRECT, DT_NOPREFIX, DT_RTLREADING, DT_WORDBREAK,
    DeleteObject, DrawTextW, FW_BOLD, FW_NORMAL, HGDIOBJ, LOGFONTW, SelectObject, SetBkMode, SetTextColor,
    TRANSPARENT,
};
use windows_sys::Win32::UI::HiDpi::SystemParametersInfoForDpi;
use windows_sys::Win32::UI::WindowsAndMessaging::{NONCLIENTMETRICSW, SPI_GETNONCLIENTMETRICS};

use super::failed;
use crate::prompt::PromptError;
use crate::prompt::canvas::Stencil;
use crate::prompt::window::Style;

/// Writes text.
#[derive(Clone, Debug)]
pub(in crate::prompt) struct Writer {
    scale: f32,
    /// The system's name of its font.
    face: [u16; 32],
}

impl Writer {
    /// `scale` is how many pixels a logical pixel has.
    pub(super) fn new(scale: f32) -> Self {
        let size = size_of::<NONCLIENTMETRICSW>() as u32;
        let mut metrics = NONCLIENTMETRICSW { cbSize: size, ..NONCLIENTMETRICSW::default() };
        // SAFETY: `cbSize` and the length given say how large the structure is. If it fails the name stays empty, which
        // is any font.
        unsafe {
            SystemParametersInfoForDpi(SPI_GETNONCLIENTMETRICS, size, (&raw mut metrics).cast(), 0, 96)
        };
        Self { scale, face: metrics.lfMessageFont.lfFaceName }
    }

    /// The text in lines of at most `width` pixels.
    pub(super) fn write(&self, text: &str, style: Style, width: i32) -> Result<Stencil, PromptError> {
        let font = LOGFONTW {
            // Negative: the height of the characters, without the space between lines.
            lfHeight: -((style.size * self.scale).round() as i32),
            lfWeight: if style.bold { FW_BOLD } else { FW_NORMAL } as i32,
            // Shades, not colours for the thirds of an LCD's pixels: the text is put on all sorts of grounds.
            lfQuality: ANTIALIASED_QUALITY,
            lfFaceName: self.face,
            ..LOGFONTW::default()
        };
        let mut units: Vec<u16> = text.encode_utf16().collect();
        let direction = if is_right_to_left(text) { DT_RTLREADING } else { 0 };
        let format = DT_NOPREFIX | DT_WORDBREAK | direction;
        let mut rect = RECT { left: 0, top: 0, right: width.max(1), bottom: 0 };
        // Measuring needs the font on a picture, however small.
        Page::new(&font, (1, 1))?.draw(&mut units, &mut rect, format | DT_CALCRECT)?;
        // A word that is longer than the line is cut.
        let (width, height) = (rect.right.clamp(1, width.max(1)), rect.bottom.clamp(1, u16::MAX.into()));
        let mut page = Page::new(&font, (width, height))?;
        let mut rect = RECT { left: 0, top: 0, right: width, bottom: height };
        page.draw(&mut units, &mut rect, format)?;
        Ok(page.read(width, height))
    }
}

/// Whether a text begins in a script that is written from the right: its first strong letter is Hebrew or Arabic.
fn is_right_to_left(text: &str) -> bool {
    let first = text.chars().find(|c| c.is_alphabetic());
    first.is_some_and(
        |c| matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}'),
    )
}

/// A picture on which a font draws white on black.
struct Page {
    picture: Bitmap,
    font: HGDIOBJ,
    before: HGDIOBJ,
}

impl Page {
    fn new(font: &LOGFONTW, (width, height): (i32, i32)) -> Result<Self, PromptError> {
        let side = |length: i32| u16::try_from(length).unwrap_or(u16::MAX);
        let mut picture = Bitmap::new((side(width), side(height)))?;
        // SAFETY: the description lives during the call.
        let font = unsafe { CreateFontIndirectW(font) };
        if font.is_null() {
            return Err(failed("make a font"));
        }
        let dc = picture.dc();
        // SAFETY: the place to draw is there as long as the picture, and the font was made above.
        let before = unsafe {
            SetTextColor(dc, 0xff_ffff);
            SetBkMode(dc, TRANSPARENT as i32);
            SelectObject(dc, font)
        };
        Ok(Self { picture, font, before })
    }

    fn draw(&mut self, text: &mut [u16], rect: &mut RECT, format: u32) -> Result<(), PromptError> {
        let dc = self.picture.dc();
        // SAFETY: the length given is the text's; without DT_MODIFYSTRING it is only read.
        let height = unsafe { DrawTextW(dc, text.as_mut_ptr(), text.len() as i32, rect, format) };
        if height == 0 && !text.is_empty() { Err(failed("write")) } else { Ok(()) }
    }

    fn read(&self, width: i32, height: i32) -> Stencil {
        let mut stencil = Stencil::empty(width, height);
        for (coverage, pixel) in stencil.coverage.iter_mut().zip(self.picture.bytes().as_chunks::<4>().0) {
            *coverage = pixel[1];
        }
        stencil
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: made by us and used by nobody else; a font can only go once it is not drawn with any more.
        unsafe {
            SelectObject(self.picture.dc(), self.before);
            DeleteObject(self.font);
        }
    }
}
