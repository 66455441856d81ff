//! What brings a killed and restarted applet back into its session: the ticket, and what the customer has granted and taken
//! back, in a file that only this user can read. It is written anew whole, and deleted when the session ends.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tandem_protocol::Sender;
use tandem_protocol::message::Rights;

use crate::journal::Journal;
use crate::platform;

/// The file's name in the state directory.
const NAME: &str = "session.json";
/// The journal's name there.
const JOURNAL: &str = "input.journal";
/// No state file is larger.
const BYTES_MAX: u64 = 64 << 10;

/// A session that can be resumed. A secret: its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Version of this format: 1.
    version: u32,
    /// The relay's address.
    pub relay: String,
    /// Where the session was last: a relay that leaves service names others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_relay: Option<String>,
    /// The certificates that it may have; empty: by authority.
    pub fingerprints: Vec<String>,
    /// The code that began the session.
    pub code: String,
    /// The ticket, base64.
    ticket: String,
    /// How long the ticket is good after a loss, in seconds.
    grace_s: u64,
    /// Rights by participant.
    grants: BTreeMap<u16, Vec<i32>>,
    /// Rights that the customer has taken back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    taken_back: Vec<i32>,
}

impl std::fmt::Debug for Saved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saved").field("relay", &self.relay).finish_non_exhaustive()
    }
}

impl Saved {
    /// A session that is about to be joined.
    pub fn new(relay: String, fingerprints: Vec<String>, code: String) -> Self {
        Self {
            version: 1,
            relay,
            last_relay: None,
            fingerprints,
            code,
            ticket: String::new(),
            grace_s: 0,
            grants: BTreeMap::new(),
            taken_back: Vec::new(),
        }
    }

    /// It can be resumed with this.
    pub fn set_ticket(&mut self, ticket: &[u8], grace_s: u64) {
        (self.ticket, self.grace_s) = (STANDARD.encode(ticket), grace_s);
    }

    /// The ticket's bytes.
    pub fn ticket(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.ticket).ok()
    }

    /// The customer's grants.
    pub fn grants(&self) -> BTreeMap<Sender, Rights> {
        self.grants.iter().map(|(&who, rights)| (Sender(who), Rights::from_wire(rights))).collect()
    }

    /// What the customer has taken back.
    pub fn taken_back(&self) -> Rights {
        Rights::from_wire(&self.taken_back)
    }

    /// Takes over what is granted and taken back now; whether any of it differs.
    pub fn set_rights(&mut self, grants: &BTreeMap<Sender, Rights>, taken_back: Rights) -> bool {
        let grants = grants.iter().map(|(who, rights)| (who.0, rights.to_wire())).collect();
        let granted = std::mem::replace(&mut self.grants, grants) != self.grants;
        let taken_back = taken_back.to_wire();
        granted | (std::mem::replace(&mut self.taken_back, taken_back) != self.taken_back)
    }
}

/// The state directory's session file.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// In this directory, which is made, for this user alone, if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(directory: &Path) -> io::Result<Self> {
        platform::create_private_directory(directory)?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// The directory that the environment suggests, for this system's users.
    pub fn usual(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
        platform::state_directory(|name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute()))
    }

    fn path(&self) -> PathBuf {
        self.directory.join(NAME)
    }

    /// The session that can be resumed, if its file is ours, whole and not too old.
    pub fn load(&self, now: SystemTime) -> Option<Saved> {
        let file = std::fs::File::open(self.path()).ok()?;
        let metadata = file.metadata().ok().filter(|metadata| metadata.len() <= BYTES_MAX)?;
        let saved: Saved = serde_json::from_reader(io::BufReader::new(file)).ok()?;
        let saved = Some(saved).filter(|saved| saved.version == 1)?;
        let written = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_secs();
        let age = now.duration_since(UNIX_EPOCH).ok()?.as_secs().saturating_sub(written);
        // A session without news writes nothing for days; the relay decides in the end.
        (age <= saved.grace_s.max(7 * 24 * 3600)).then_some(saved)
    }

    /// Writes the session down: all of it or, after a crash, what was there before.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn save(&self, saved: &Saved) -> io::Result<()> {
        let fresh = self.directory.join(format!("{NAME}.{}", std::process::id()));
        let mut options = std::fs::OpenOptions::new();
        let mut file = platform::private(options.write(true).create(true).truncate(true)).open(&fresh)?;
        file.write_all(&serde_json::to_vec(saved)?)?;
        file.sync_all()?;
        drop(file);
        std::fs::rename(&fresh, self.path())
    }

    /// How far input was done: of the session that is resumed, or of a new one.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn journal(&self, resumes: bool) -> io::Result<Journal> {
        Journal::open(&self.directory.join(JOURNAL), resumes)
    }

    /// Forgets the session, and what runs that were killed while they wrote it down have left.
    pub fn delete(&self) {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let torn = |path: &PathBuf| {
            path.file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_prefix(NAME))
                .is_some_and(|rest| {
                    rest.strip_prefix('.').is_some_and(|number| number.parse::<u32>().is_ok())
                })
        };
        let torn = entries.map(|entry| entry.path()).filter(torn);
        for path in torn.chain([self.path(), self.directory.join(JOURNAL)]) {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "a file of the session cannot be deleted");
                }
                _ => {}
            }
        }
    }

    /// Takes the directory away too if nothing is in it.
    pub fn vacate(self) {
        // Somebody else's file in it, or no right to: it stays.
        let _ = std::fs::remove_dir(self.directory);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tandem_protocol::message::Right;

    fn saved() -> Saved {
        let mut saved = Saved::new("https://relay.example:443".into(), Vec::new(), "042917".into());
        saved.set_ticket(b"secret", 300);
        let grants = BTreeMap::from([(Sender(2), Rights::of(&[Right::View]))]);
        assert!(saved.set_rights(&grants, Rights::NONE), "other grants");
        assert!(saved.set_rights(&grants, Rights::of(&[Right::Control])), "something was taken back");
        assert!(!saved.set_rights(&grants, Rights::of(&[Right::Control])), "the same again");
        saved
    }

    #[test]
    fn a_session_is_kept_for_this_user_alone_until_it_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("a/b")).expect("a store");
        assert_eq!(store.load(SystemTime::now()), None);
        store.save(&saved()).expect("saved");
        let mode = std::fs::metadata(store.path()).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let loaded = store.load(SystemTime::now()).expect("loaded");
        assert_eq!(loaded, saved());
        assert_eq!(loaded.ticket().as_deref(), Some(&b"secret"[..]));
        assert!(loaded.grants()[&Sender(2)].has(Right::View) && loaded.taken_back().has(Right::Control));
        let [torn, foreign] =
            ["a/b/session.json.4711", "a/b/session.json.old"].map(|name| folder.path().join(name));
        std::fs::write(&torn, "{").expect("written");
        std::fs::write(&foreign, "{").expect("written");
        store.delete();
        assert_eq!(store.load(SystemTime::now()), None);
        assert!(!torn.exists() && foreign.exists(), "only what this program names so");
    }

    #[test]
    fn what_is_damaged_or_old_is_not_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).expect("a store");
        store.save(&saved()).expect("saved");
        let month = std::time::Duration::from_secs(31 * 24 * 3600);
        assert_eq!(store.load(SystemTime::now() + month), None);
        std::fs::write(store.path(), "{\"version\":1").expect("written");
        assert_eq!(store.load(SystemTime::now()), None);
        assert!(!format!("{:?}", saved()).contains("042917"));
    }

    /// The program may have been replaced by a newer one when it comes back.
    #[test]
    fn a_file_of_an_earlier_version_takes_nothing_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).expect("a store");
        let text = r#"{"version":1,"relay":"https://relay.example","fingerprints":[],"code":"042917",
            "ticket":"c2VjcmV0","grace_s":300,"grants":{"2":[1,2]}}"#;
        std::fs::write(store.path(), text).expect("written");
        let saved = store.load(SystemTime::now()).expect("loaded");
        assert!(saved.taken_back().is_empty() && !saved.grants().is_empty());
    }

    #[test]
    fn the_usual_place_ends_with_the_login() {
        let of = |pairs: &'static [(&str, &str)]| {
            Store::usual(move |name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.to_owned()))
        };
        assert_eq!(
            of(&[("XDG_RUNTIME_DIR", "/run/user/7"), ("HOME", "/home/a")]),
            Some("/run/user/7/tandem".into())
        );
        assert_eq!(
            of(&[("XDG_RUNTIME_DIR", "x"), ("HOME", "/home/a")]),
            Some("/home/a/.local/state/tandem".into())
        );
        assert_eq!(of(&[]), None);
    }
}
