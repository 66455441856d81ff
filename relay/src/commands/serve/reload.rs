//! Reading configuration, certificates and token keys again while the relay runs: on SIGHUP, and when their files have changed.
//! What does not work changes nothing.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tandem_relay::config::file::File;
use tandem_relay::config::{Config, Tls};
use tandem_relay::relay::Relay;
use tandem_relay::tls::Certificates;
use toml::Table;
use tracing::{info, warn};

use super::service;
use crate::commands::settings::Settings;

/// Keys that a running relay takes over. Others wait for its restart.
const TAKEN_OVER: [&str; 2] = ["tls.certificate", "tls.key"];

/// What can be read again.
pub(super) struct Reload {
    settings: Settings,
    certificates: Arc<Certificates>,
    relay: Arc<Relay>,
    /// What the relay runs with.
    applied: File,
    tls: Tls,
    /// The files when they were last read, and when they were last looked at.
    stamps: Vec<Option<Stamp>>,
    seen: Vec<Option<Stamp>>,
}

/// Enough of a file to see that it is another one; of what a symbolic link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl Reload {
    pub(super) fn new(
        settings: Settings,
        (certificates, relay): (Arc<Certificates>, Arc<Relay>),
        applied: File,
        tls: Tls,
    ) -> Self {
        let (stamps, seen) = (Vec::new(), Vec::new());
        let mut reload = Self { settings, certificates, relay, applied, tls, stamps, seen };
        reload.stamps = reload.look();
        reload.seen = reload.stamps.clone();
        reload
    }

    /// To be called from time to time: reads everything again if a file has changed, and is the same as at the last look. What
    /// is only half written is left until it is whole.
    pub(super) fn if_changed(&mut self) {
        let look = self.look();
        let rests = look == std::mem::replace(&mut self.seen, look.clone());
        if rests && look != self.stamps {
            self.now();
        }
    }

    /// Reads everything again.
    pub(super) fn now(&mut self) {
        service::reloading();
        self.read_config();
        match self.certificates.renew_from(self.tls.clone()) {
            Ok(()) => info!("certificates read again"),
            // Also while somebody is between writing the certificate and its key: the second change is seen too.
            Err(error) => warn!(error = format!("{error:#}"), "keeping the last good certificate"),
        }
        // Changed files are seen without being told, too, within a second.
        if let Err(error) = self.relay.admitter().tokens.reload() {
            warn!(error = format!("{error:#}"), "keeping the last good token keys");
        }
        self.stamps = self.look();
        self.seen = self.stamps.clone();
        service::ready();
    }

    fn read_config(&mut self) {
        if self.settings.config.is_none() {
            return;
        }
        let read = self.settings.file().and_then(|file| {
            let config = Config::resolve(
                file.clone(),
                self.settings.overrides(matches!(self.tls, Tls::SelfSigned { .. })),
            )?;
            Ok((file, config))
        });
        match read {
            Err(error) => warn!(%error, "keeping the last good configuration"),
            Ok((file, config)) => {
                let changed = changed(&self.applied, &file);
                let waiting: Vec<&String> =
                    changed.iter().filter(|key| !TAKEN_OVER.contains(&key.as_str())).collect();
                if !waiting.is_empty() {
                    warn!(keys = ?waiting, "changed in the configuration, and in effect after a restart");
                }
                self.tls = config.tls;
                self.applied = file;
            }
        }
    }

    fn look(&self) -> Vec<Option<Stamp>> {
        let mut files: Vec<PathBuf> = self.settings.config.iter().cloned().collect();
        if let Tls::Files { certificate, key } = &self.tls {
            files.extend([certificate.clone(), key.clone()]);
        }
        files.iter().map(|file| stamp(file)).collect()
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let metadata = file.metadata().ok()?;
    Some(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        len: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    })
}

/// Keys, as `section.key`, that are not the same in both.
fn changed(before: &File, after: &File) -> Vec<String> {
    let [before, after] = [before, after].map(|file| Table::try_from(file).unwrap_or_default());
    let keys = |table: &Table| -> Vec<(String, String)> {
        let of = |(section, keys): (&String, &toml::Value)| {
            let keys = keys.as_table().cloned().unwrap_or_default();
            keys.keys().map(|key| (section.clone(), key.clone())).collect::<Vec<_>>()
        };
        table.iter().flat_map(of).collect()
    };
    let mut all = [keys(&before), keys(&after)].concat();
    all.sort();
    all.dedup();
    let value = |table: &Table, (section, key): &(String, String)| table.get(section)?.get(key).cloned();
    all.retain(|at| value(&before, at) != value(&after, at));
    all.into_iter().map(|(section, key)| format!("{section}.{key}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_is_named_and_only_that() {
        let file = |text: &str| toml::from_str::<File>(text).unwrap();
        let before = file("[tls]\nkey = 'a'\n[session]\ngrace_seconds = 60");
        let after = file("[tls]\nkey = 'a'\ncertificate = 'b'\n[session]\ngrace_seconds = 61");
        assert_eq!(changed(&before, &after), ["session.grace_seconds", "tls.certificate"]);
        assert!(changed(&after, &after).is_empty());
    }
}
