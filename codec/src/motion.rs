//! Scrolls: rows of the shadow that appear again, higher or lower. Found by hashing, verified pixel by pixel, sent as
//! copies.

use crate::owed::Region;
use crate::picture::{Picture, PictureRef, Rect};

/// Pixels of the shadow that moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) from: (u16, u16),
    pub(crate) to: Rect,
}

/// The copies of one update. All read the shadow as it was before it.
#[derive(Debug, Default)]
pub(crate) struct Copies(Vec<Copy>);

impl Copies {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Copy> {
        self.0.iter()
    }

    pub(crate) fn apply(&self, _shadow: &mut Picture) {}
}

/// Looks for motion.
#[derive(Debug, Default)]
pub(crate) struct Motion {}

impl Motion {
    pub(crate) fn find(
        &mut self,
        _picture: PictureRef<'_>,
        _shadow: &Picture,
        _regions: &[Region],
    ) -> Copies {
        Copies::default()
    }
}
