//! Text as stencils: shaped with the system's font files, or drawn by the display with a font of its own if there are none.

use cosmic_text::fontdb::{Database, Family as FontFamily, Query};
use cosmic_text::{Attrs, Buffer, Color, Family, FontSystem, Metrics, Shaping, SwashCache, Weight};
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{
    Char2b, ConnectionExt as _, CreateGCAux, Font, Gcontext, ImageFormat, QueryFontReply, Rectangle,
    Window as XWindow,
};
use x11rb::rust_connection::RustConnection;

use super::window::x;
use crate::prompt::PromptError;
use crate::prompt::canvas::Stencil;
use crate::prompt::window::Style;

/// Writes text. Loading the fonts takes some megabytes and tens of milliseconds: drop it when nothing is to be written.
#[derive(Debug)]
pub(in crate::prompt) struct Writer {
    scale: f32,
    fonts: Fonts,
}

#[derive(Debug)]
enum Fonts {
    Files { system: Box<FontSystem>, cache: Box<SwashCache>, family: Option<String> },
    Display { font: Font, metrics: Box<QueryFontReply> },
}

impl Writer {
    /// Loads the fonts. `scale` is how many pixels a logical pixel has.
    pub(in crate::prompt) fn new(conn: &RustConnection, scale: f32) -> Result<Self, PromptError> {
        let mut files = Database::new();
        files.load_system_fonts();
        if files.is_empty() {
            return Self::of_display(conn, scale);
        }
        // What desktops use for their own windows, the first that there is.
        const FAMILIES: [&str; 7] =
            ["Cantarell", "Ubuntu", "Noto Sans", "Inter", "Open Sans", "DejaVu Sans", "Liberation Sans"];
        let has = |name: &&str| {
            files.query(&Query { families: &[FontFamily::Name(name)], ..Query::default() }).is_some()
        };
        let family = FAMILIES.iter().find(|name| has(name)).map(|name| (*name).to_owned());
        let system = Box::new(FontSystem::new_with_locale_and_db("en".into(), files));
        Ok(Self { scale, fonts: Fonts::Files { system, cache: Box::new(SwashCache::new()), family } })
    }

    /// Uses a font of the display: small and plain, but always there.
    pub(in crate::prompt) fn of_display(conn: &RustConnection, scale: f32) -> Result<Self, PromptError> {
        let font = x(conn.generate_id())?;
        const NAMES: [&str; 3] = ["-misc-fixed-medium-r-normal--15-*-iso10646-1", "9x15", "fixed"];
        let opened =
            |name: &&str| conn.open_font(font, name.as_bytes()).is_ok_and(|cookie| cookie.check().is_ok());
        NAMES.iter().find(|name| opened(name)).ok_or(PromptError::NoFont)?;
        let metrics = Box::new(x(x(conn.query_font(font))?.reply())?);
        Ok(Self { scale, fonts: Fonts::Display { font, metrics } })
    }

    /// The text in lines of at most `width` pixels.
    pub(in crate::prompt) fn write(
        &mut self,
        conn: &RustConnection,
        root: XWindow,
        text: &str,
        style: Style,
        width: i32,
    ) -> Result<Stencil, PromptError> {
        let size = style.size * self.scale;
        match &mut self.fonts {
            Fonts::Files { system, cache, family } => {
                let family = family.as_deref().map_or(Family::SansSerif, Family::Name);
                Ok(shaped(system, cache, family, text, size, style.bold, width))
            }
            Fonts::Display { font, metrics } => drawn(conn, root, *font, metrics, text, width),
        }
    }
}

fn shaped(
    system: &mut FontSystem,
    cache: &mut SwashCache,
    family: Family<'_>,
    text: &str,
    size: f32,
    bold: bool,
    width: i32,
) -> Stencil {
    let mut buffer = Buffer::new(system, Metrics::new(size, (size * 1.35).round()));
    buffer.set_size(Some(width as f32), None);
    let weight = if bold { Weight::BOLD } else { Weight::NORMAL };
    buffer.set_text(text, &Attrs::new().family(family).weight(weight), Shaping::Advanced, None);
    buffer.shape_until_scroll(system, false);
    let (mut right, mut bottom) = (0f32, 0f32);
    for run in buffer.layout_runs() {
        right = right.max(if run.rtl { width as f32 } else { run.line_w });
        bottom = bottom.max(run.line_top + run.line_height);
    }
    let mut stencil = Stencil::empty((right.ceil() as i32 + 1).min(width), bottom.ceil() as i32);
    buffer.draw(system, cache, Color::rgb(0, 0, 0), |x, y, w, h, colour| {
        for y in y..y + h as i32 {
            (x..x + w as i32).for_each(|x| stencil.cover(x, y, colour.a()));
        }
    });
    stencil
}

/// Draws white on black into a pixmap and reads it back. Characters beyond the Basic Multilingual Plane become a question mark.
fn drawn(
    conn: &RustConnection,
    root: XWindow,
    font: Font,
    metrics: &QueryFontReply,
    text: &str,
    width: i32,
) -> Result<Stencil, PromptError> {
    let advance = i32::from(metrics.max_bounds.character_width).max(1);
    let (ascent, height) =
        (metrics.font_ascent, i32::from(metrics.font_ascent) + i32::from(metrics.font_descent));
    let lines = wrapped(text, (width / advance).max(8) as usize);
    let longest = lines.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let (width, spacing) = (longest as i32 * advance, height + 4);
    let mut stencil = Stencil::empty(width, spacing * lines.len() as i32);
    let (pixmap, gc): (_, Gcontext) = (x(conn.generate_id())?, x(conn.generate_id())?);
    let (w, h) = (stencil.width as u16, stencil.height as u16);
    x(conn.create_pixmap(24, pixmap, root, w, h))?;
    x(conn.create_gc(gc, pixmap, &CreateGCAux::new().foreground(0).font(font)))?;
    x(conn.poly_fill_rectangle(pixmap, gc, &[Rectangle { x: 0, y: 0, width: w, height: h }]))?;
    let white = x11rb::protocol::xproto::ChangeGCAux::new().foreground(0xff_ffff).background(0);
    x(conn.change_gc(gc, &white))?;
    for (row, line) in (0..).zip(&lines) {
        x(conn.image_text16(pixmap, gc, 0, (row * spacing) as i16 + ascent, line))?;
    }
    let image = x(x(conn.get_image(ImageFormat::Z_PIXMAP, pixmap, 0, 0, w, h, !0))?.reply())?;
    x(conn.free_pixmap(pixmap))?;
    x(conn.free_gc(gc))?;
    for (coverage, pixel) in stencil.coverage.iter_mut().zip(image.data.as_chunks::<4>().0) {
        *coverage = pixel[1];
    }
    Ok(stencil)
}

/// Words in lines of at most so many characters (and of at most 255, which is what one request takes).
fn wrapped(text: &str, most: usize) -> Vec<Vec<Char2b>> {
    let most = most.min(255);
    let mut lines: Vec<Vec<Char2b>> = vec![Vec::new()];
    for word in text.split_whitespace() {
        let mut word: Vec<Char2b> = word
            .chars()
            .map(|character| u16::try_from(u32::from(character)).unwrap_or(0x3f).to_be_bytes())
            .map(|[byte1, byte2]| Char2b { byte1, byte2 })
            .collect();
        word.truncate(most);
        match lines.last_mut() {
            Some(line) if line.is_empty() => *line = word,
            Some(line) if line.len() + 1 + word.len() <= most => {
                line.push(Char2b { byte1: 0, byte2: b' ' });
                line.extend(word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words() {
        let lines = wrapped("one two three four", 9);
        assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [7, 5, 4]);
    }
}
