//! The prompt's windows on an X display.

mod text;
mod window;

pub(super) use self::text::Writer;
pub(super) use self::window::Window;
