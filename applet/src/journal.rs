//! How far the input of each participant was done, in a small file: written before a record is acted upon, so that a program
//! that is killed and restarted never does anything twice, even if its acknowledgement was still to be sent.
//!
//! The file is not forced to the disk: it must outlive this program, not the computer, whose restart ends all sessions.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use tandem_protocol::Sender;

use crate::platform;

/// Bytes of a participant's place in the file: number, epoch, next record, 8 bytes each.
const PLACE: usize = 24;
/// Participants that are kept; numbers beyond these are only known until the program ends.
const PLACES_MAX: usize = 256;

/// The file, and what is in it.
#[derive(Debug, Default)]
pub struct Journal {
    file: Option<File>,
    /// Where the file is to be, emptied, once there is something to write: until then it is that of an earlier session, which
    /// can still be resumed.
    fresh: Option<PathBuf>,
    done: BTreeMap<Sender, Done>,
}

#[derive(Clone, Copy, Debug)]
struct Done {
    place: usize,
    epoch: u64,
    next_seq: u64,
}

impl Journal {
    /// The journal at `path`, with what an earlier run of this session has left there if `resumes`, else empty.
    ///
    /// # Errors
    /// When the file of an earlier run cannot be opened or read.
    pub fn open(path: &Path, resumes: bool) -> io::Result<Self> {
        if !resumes {
            return Ok(Self { fresh: Some(path.to_owned()), ..Self::default() });
        }
        let file = file(path, false)?;
        let mut bytes = vec![0; PLACE * PLACES_MAX];
        let mut len = 0;
        while len < bytes.len() {
            match platform::read_at(&file, &mut bytes[len..], len as u64)? {
                0 => break,
                read => len += read,
            }
        }
        let mut done = BTreeMap::new();
        for (place, bytes) in bytes[..len].as_chunks::<PLACE>().0.iter().enumerate() {
            let [sender, epoch, next_seq] = [0, 8, 16].map(|at| {
                u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes are eight bytes"))
            });
            if let Ok(sender) = u16::try_from(sender) {
                done.insert(Sender(sender), Done { place, epoch, next_seq });
            }
        }
        Ok(Self { file: Some(file), fresh: None, done })
    }

    /// Notes that this record is about to be acted upon; `false`: it was before, or its number is the last that there is, which
    /// nobody reaches by counting.
    pub fn begin(&mut self, who: Sender, epoch: u64, seq: u64) -> bool {
        let Some(next_seq) = seq.checked_add(1) else { return false };
        if let Some(path) = self.fresh.take() {
            let made = file(&path, true);
            self.file = made.inspect_err(|error| tracing::warn!(%error, "there is no journal of input")).ok();
        }
        let place = self.done.len();
        let done = self.done.entry(who).or_insert(Done { place, epoch, next_seq: 0 });
        if done.epoch == epoch && seq < done.next_seq {
            return false;
        }
        (done.epoch, done.next_seq) = (epoch, next_seq);
        if let Some(file) = self.file.as_ref().filter(|_| done.place < PLACES_MAX) {
            let words = [u64::from(who.0), epoch, next_seq].map(u64::to_le_bytes).concat();
            if let Err(error) = platform::write_all_at(file, &words, (done.place * PLACE) as u64) {
                tracing::warn!(%error, "the journal of input cannot be written");
                self.file = None;
            }
        }
        true
    }
}

fn file(path: &Path, empty: bool) -> io::Result<File> {
    let mut options = File::options();
    platform::private(options.read(true).write(true).create(true).truncate(empty)).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Sender = Sender(7);
    const BOB: Sender = Sender(9);

    #[test]
    fn what_was_begun_is_never_begun_again_not_even_by_the_next_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let mut journal = Journal::open(&path, false).expect("a journal");
        assert!(journal.begin(ANN, 1, 0) && journal.begin(BOB, 2, 5) && journal.begin(ANN, 1, 3));
        assert!(!journal.begin(ANN, 1, 3) && !journal.begin(ANN, 1, 1));
        // Killed here.
        let mut next = Journal::open(&path, true).expect("a journal");
        assert!(!next.begin(ANN, 1, 3) && !next.begin(BOB, 2, 4));
        assert!(next.begin(ANN, 1, 4) && next.begin(BOB, 3, 0), "later ones, and those of a new epoch");
        let mut fresh = Journal::open(&path, false).expect("a journal");
        let mut resumed = Journal::open(&path, true).expect("a journal");
        assert!(!resumed.begin(ANN, 1, 4), "a session that never began has left it as it was");
        assert!(fresh.begin(ANN, 1, 0), "another session begins with nothing");
        let mut next = Journal::open(&path, true).expect("a journal");
        assert!(!next.begin(ANN, 1, 0) && next.begin(BOB, 3, 0), "and leaves nothing of the earlier one");
    }

    /// Numbers come from peers.
    #[test]
    fn the_last_number_of_all_is_never_begun() {
        let mut journal = Journal::default();
        assert!(!journal.begin(ANN, 1, u64::MAX));
        assert!(journal.begin(ANN, u64::MAX, u64::MAX - 1) && !journal.begin(ANN, u64::MAX, u64::MAX - 1));
    }

    #[test]
    fn without_a_file_and_with_a_torn_one_it_works_for_this_run() {
        let mut journal = Journal::default();
        assert!(journal.begin(ANN, 1, 0) && !journal.begin(ANN, 1, 0));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        std::fs::write(&path, [7; PLACE + 3]).expect("written");
        assert!(Journal::open(&path, true).expect("a journal").begin(ANN, 1, 0));
    }
}
