//! Updates of given sizes: a tiny picture's, which are real and follow every rule, each in a body as long as is wanted.
//!
//! A body is the codec's length in four bytes, what the codec made, and filling. The relay looks into none of it, and who receives
//! it takes the filling off again.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};

use crate::plan::ByteRange;

/// Bytes before the codec's.
const LENGTH: usize = 4;

/// How long updates are to be.
#[derive(Clone, Debug)]
pub(crate) struct Padding {
    range: ByteRange,
    filling: Arc<[u8]>,
}

impl Padding {
    /// Filling is random, so that nobody on the way can shorten it.
    pub(crate) fn new(range: ByteRange, seed: u64) -> Self {
        let mut filling = vec![0; usize::try_from(range.high()).unwrap_or(0)];
        StdRng::seed_from_u64(seed).fill_bytes(&mut filling);
        Self { range, filling: filling.into() }
    }

    /// A body with this in it. It is longer than was drawn if the codec's part is.
    pub(crate) fn wrap(&self, body: &[u8], rng: &mut StdRng) -> Vec<u8> {
        let wanted = self.range.sample(rng) as usize;
        let filling = wanted.saturating_sub(LENGTH + body.len());
        let mut wrapped = Vec::with_capacity(LENGTH + body.len() + filling);
        wrapped.extend_from_slice(&(body.len() as u32).to_le_bytes());
        wrapped.extend_from_slice(body);
        wrapped.extend_from_slice(&self.filling[..filling]);
        wrapped
    }

    /// What is in a body; of one that is no such body nothing.
    pub(crate) fn unwrap(body: &[u8]) -> &[u8] {
        let inner = body
            .split_first_chunk()
            .and_then(|(length, rest)| rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?));
        inner.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_the_size_that_was_drawn_and_what_was_put_into_it() {
        let padding = Padding::new("300B..400B".parse().unwrap(), 1);
        let mut rng = StdRng::seed_from_u64(1);
        for len in [0, 1, 100, 500] {
            let inner = vec![7; len];
            let body = padding.wrap(&inner, &mut rng);
            assert!((300..=400).contains(&body.len()) || len == 500 && body.len() == 504, "{}", body.len());
            assert_eq!(Padding::unwrap(&body), inner);
        }
        assert!(Padding::unwrap(&[9, 0, 0, 0, 1]).is_empty());
        assert!(Padding::unwrap(&[1]).is_empty());
    }
}
