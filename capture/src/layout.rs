//! Where the displays are: their places and sizes in the desktop, in physical pixels.

use tandem_protocol::DisplayId;

/// All displays, and which arrangement of them this is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    /// Counts up at every change, from 1.
    pub generation: u32,
    /// The displays, the primary one first, then from left to right.
    pub displays: Vec<Display>,
}

impl Layout {
    /// The display with this id.
    pub fn display(&self, id: DisplayId) -> Option<&Display> {
        self.displays.iter().find(|display| display.id == id)
    }

    /// The display on which a point of the desktop lies, and the point's place in it.
    pub fn locate(&self, x: i32, y: i32) -> Option<(DisplayId, i32, i32)> {
        self.displays.iter().find_map(|display| {
            let (dx, dy) = (x - display.origin.0, y - display.origin.1);
            let inside =
                (0..i32::from(display.size.0)).contains(&dx) && (0..i32::from(display.size.1)).contains(&dy);
            inside.then_some((display.id, dx, dy))
        })
    }

    /// Takes another arrangement over, if it is one, under the next generation number.
    pub(crate) fn replace(&mut self, displays: Vec<Display>) -> bool {
        if self.displays == displays {
            return false;
        }
        self.displays = displays;
        self.generation += 1;
        true
    }
}

/// One captured monitor.
#[derive(Clone, Debug, PartialEq)]
pub struct Display {
    /// Stable while the program runs, also when the monitor is unplugged and returns.
    pub id: DisplayId,
    /// What the platform calls it, such as `HDMI-1`.
    pub name: String,
    /// Its upper left pixel in the desktop.
    pub origin: (i32, i32),
    /// Width and height in physical pixels, as it is seen (after rotation).
    pub size: (u16, u16),
    /// How much larger than usual the desktop draws on it: 1.0 is 96 dots an inch.
    pub scale: f32,
    /// How the monitor stands. The pixels are captured upright.
    pub rotation: Rotation,
    /// Whether the desktop's main bar is here.
    pub primary: bool,
}

/// How far a monitor is turned, clockwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rotation {
    /// Upright.
    #[default]
    None,
    /// By 90 degrees.
    Quarter,
    /// By 180 degrees.
    Half,
    /// By 270 degrees.
    ThreeQuarters,
}

impl Rotation {
    /// The angle in degrees: 0, 90, 180 or 270.
    pub fn degrees(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Quarter => 90,
            Self::Half => 180,
            Self::ThreeQuarters => 270,
        }
    }
}

/// A rectangle of a display's pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rect {
    /// Left edge.
    pub x: u16,
    /// Upper edge.
    pub y: u16,
    /// Pixels across, never 0 in what this crate reports.
    pub width: u16,
    /// Pixels down, never 0 in what this crate reports.
    pub height: u16,
}

impl Rect {
    /// A whole picture.
    pub fn whole((width, height): (u16, u16)) -> Self {
        Self { x: 0, y: 0, width, height }
    }

    /// The part of the rectangle from (`x`, `y`) to before (`right`, `bottom`) that lies in a picture of `size`.
    pub(crate) fn clipped(x: i32, y: i32, right: i32, bottom: i32, size: (u16, u16)) -> Option<Self> {
        let clip = |value: i32, limit: u16| u16::try_from(value.clamp(0, i32::from(limit))).unwrap_or(limit);
        let (left, top) = (clip(x, size.0), clip(y, size.1));
        let (right, bottom) = (clip(right, size.0), clip(bottom, size.1));
        (left < right && top < bottom).then(|| Self {
            x: left,
            y: top,
            width: right - left,
            height: bottom - top,
        })
    }

    /// The smallest rectangle that holds both.
    pub fn union(self, other: Self) -> Self {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let right = (self.x + self.width).max(other.x + other.width);
        let bottom = (self.y + self.height).max(other.y + other.height);
        Self { x, y, width: right - x, height: bottom - y }
    }
}

/// The rectangles of one display that changed and were not yet handed out: bounded, because a busy screen can touch
/// thousands of places between two looks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Damage(Vec<Rect>);

impl Damage {
    /// More rectangles than this become the one around them: comparing pixels is cheaper than walking longer lists.
    const MOST: usize = 128;

    pub(crate) fn add(&mut self, rect: Rect) {
        if self.0.iter().any(|known| known.union(rect) == *known) {
            return;
        }
        self.0.push(rect);
        if self.0.len() > Self::MOST {
            let around = self.bounds();
            self.0.clear();
            self.0.extend(around);
        }
    }

    pub(crate) fn bounds(&self) -> Option<Rect> {
        self.0.iter().copied().reduce(Rect::union)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self) -> Vec<Rect> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_found_on_the_display_that_shows_it() {
        let display = |id, x, width| Display {
            id: DisplayId(id),
            name: id.to_string(),
            origin: (x, 0),
            size: (width, 100),
            scale: 1.0,
            rotation: Rotation::None,
            primary: id == 0,
        };
        let layout = Layout { generation: 1, displays: vec![display(0, 0, 200), display(1, 200, 50)] };
        assert_eq!(layout.locate(199, 99), Some((DisplayId(0), 199, 99)));
        assert_eq!(layout.locate(200, 0), Some((DisplayId(1), 0, 0)));
        assert_eq!(layout.locate(250, 0), None);
        assert_eq!(layout.locate(-1, 0), None);
    }

    #[test]
    fn damage_stays_bounded_and_covers_everything_that_was_added() {
        let mut damage = Damage::default();
        for n in 0..10_000u16 {
            damage.add(Rect { x: n % 777, y: n % 555, width: 3, height: 4 });
        }
        assert_eq!(damage.bounds(), Some(Rect { x: 0, y: 0, width: 779, height: 558 }));
        assert!(damage.take().len() <= Damage::MOST);
        assert!(damage.is_empty());
    }

    #[test]
    fn clipping_keeps_what_lies_inside_and_nothing_else() {
        assert_eq!(
            Rect::clipped(-5, 90, 10, 200, (100, 100)),
            Some(Rect { x: 0, y: 90, width: 10, height: 10 })
        );
        assert_eq!(Rect::clipped(100, 0, 120, 10, (100, 100)), None);
    }
}
