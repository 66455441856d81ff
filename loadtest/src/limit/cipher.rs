//! AES-256-GCM as our TLS and QUIC do it, record after record.

use std::time::Duration;

use anyhow::Context as _;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::timed;

/// Records that are sealed and then opened at a time: few enough for the processor's cache, as in a relay.
const BATCH: usize = 32;
/// Bytes of a tag.
const TAG: usize = 16;

/// Which of the two is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    Seal,
    Open,
}

/// Seals and opens about so many bytes in records of this size; answers with the time of one of the two.
pub(super) fn run(does: Does, record: usize, bytes: u64) -> anyhow::Result<(u64, Duration)> {
    let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).ok().context("no cipher")?;
    let key = LessSafeKey::new(key);
    let mut records = vec![vec![1; record + TAG]; BATCH];
    let (mut sealing, mut opening) = (Duration::ZERO, Duration::ZERO);
    let mut done = 0;
    // Nonces may come again here, as nothing of this is a secret.
    let nonce = |at: usize| Nonce::assume_unique_for_key([at as u8; NONCE_LEN]);
    while done < bytes {
        timed(&mut sealing, || {
            for (at, bytes) in records.iter_mut().enumerate() {
                let (body, end) = bytes.split_at_mut(record);
                let tag = key.seal_in_place_separate_tag(nonce(at), Aad::from([0; 5]), body).ok()?;
                end.copy_from_slice(tag.as_ref());
            }
            Some(())
        })
        .context("cannot seal")?;
        timed(&mut opening, || {
            for (at, bytes) in records.iter_mut().enumerate() {
                key.open_in_place(nonce(at), Aad::from([0; 5]), bytes).ok()?;
            }
            Some(())
        })
        .context("what was sealed cannot be opened")?;
        done += (BATCH * record) as u64;
    }
    Ok((done, if does == Does::Seal { sealing } else { opening }))
}
