//! The public keys whose tokens are taken: those of the configuration, and files in a directory that may change at any time.
//!
//! `NAME.pem` holds one Ed25519 public key, as `tandem-relay token key` or `openssl pkey -pubout` write it. It verifies tokens whose
//! header says `kid: NAME`. To change keys without refusing anybody: add the new file, let the desk sign with it, and delete
//! the old file once the last token that was signed by the old key is over.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use jsonwebtoken::DecodingKey;
use parking_lot::RwLock;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// How often the directory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Keys at most.
const KEYS_MAX: usize = 1000;
/// What is before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410).
const SPKI_ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The keys whose tokens are taken, and for which audience.
pub struct TokenKeys {
    audience: String,
    nameless: Vec<DecodingKey>,
    directory: Option<PathBuf>,
    named: RwLock<Named>,
}

#[derive(Default)]
struct Named {
    keys: HashMap<String, DecodingKey>,
    seen: Listing,
}

/// What tells whether something has changed: names, times and lengths.
type Listing = Vec<(OsString, Option<SystemTime>, u64)>;

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = self.named.read().keys.len();
        write!(f, "TokenKeys({} and {named} named for {})", self.nameless.len(), self.audience)
    }
}

impl TokenKeys {
    /// Takes tokens for this audience, signed by any of these Ed25519 public keys of 32 bytes, or by one in a directory.
    ///
    /// # Errors
    /// If a file of the directory is no key.
    pub fn new(
        audience: impl Into<String>,
        keys: &[[u8; 32]],
        directory: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let nameless = keys.iter().map(|key| DecodingKey::from_ed_der(key)).collect();
        let keys = Self { audience: audience.into(), nameless, directory, named: RwLock::default() };
        keys.reload()?;
        Ok(keys)
    }

    /// Whom tokens must be for.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// The keys that may have signed a token with this name of a key in its header.
    pub(super) fn of(&self, kid: Option<&str>) -> Vec<DecodingKey> {
        let named = kid.and_then(|kid| self.named.read().keys.get(kid).cloned());
        named.map_or_else(|| self.nameless.clone(), |key| vec![key])
    }

    /// Reads the directory again. Those of before stay in use if that fails.
    ///
    /// # Errors
    /// Names the file that is no key.
    pub fn reload(&self) -> anyhow::Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let seen = list(directory);
        // Whatever comes of it, it is not tried again before something changes.
        self.named.write().seen = seen?;
        let keys = read(directory)?;
        info!(keys = keys.len(), directory = %directory.display(), "token keys read");
        self.named.write().keys = keys;
        Ok(())
    }

    /// Reads the directory again whenever it has changed, until told to stop.
    pub async fn watch(&self, stop: CancellationToken) {
        let Some(directory) = &self.directory else { return };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if list(directory).is_ok_and(|seen| seen != self.named.read().seen)
                && let Err(error) = self.reload()
            {
                error!(error = format!("{error:#}"), "keeping the last good token keys");
            }
        }
    }
}

fn list(directory: &Path) -> anyhow::Result<Listing> {
    let cannot = || format!("cannot read the directory of token keys {}", directory.display());
    let mut listing = Listing::new();
    for entry in std::fs::read_dir(directory).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        // Through links, by which some tools replace all files at once.
        let metadata = std::fs::metadata(entry.path()).ok();
        let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
        listing.push((entry.file_name(), modified, metadata.map_or(0, |metadata| metadata.len())));
    }
    listing.sort();
    Ok(listing)
}

fn read(directory: &Path) -> anyhow::Result<HashMap<String, DecodingKey>> {
    let mut keys = HashMap::new();
    for (name, ..) in list(directory)? {
        let path = directory.join(&name);
        if path.extension().is_none_or(|extension| extension != "pem") {
            continue;
        }
        let Some(kid) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        let key = public_key(&path)?;
        keys.insert(kid.to_owned(), DecodingKey::from_ed_der(&key));
        ensure!(keys.len() <= KEYS_MAX, "more than {KEYS_MAX} keys in {}", directory.display());
    }
    Ok(keys)
}

/// The Ed25519 public key in a PEM file.
///
/// # Errors
/// If there is none.
pub fn public_key(path: &Path) -> anyhow::Result<[u8; 32]> {
    let no_key = || format!("{} holds no Ed25519 public key in PEM", path.display());
    let key = SubjectPublicKeyInfoDer::from_pem_file(path).with_context(no_key)?;
    let key = key.strip_prefix(&SPKI_ED25519).and_then(|key| key.try_into().ok());
    key.with_context(no_key)
}

/// The same as a PEM file holds it.
pub fn public_key_info(key: &[u8; 32]) -> Vec<u8> {
    [&SPKI_ED25519[..], key].concat()
}
