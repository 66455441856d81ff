//! Who may be let in without asking: nobody, but on the test pattern, on a developer's own relay, or where the computer's
//! administrator has said so in a file that only the administrator can change.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Deserialize;
use tandem_protocol::message::{Right, Rights};
use tandem_protocol::token::TokenRight;

use crate::consent::SUPPORTED;

/// Where the administrator writes.
pub const PATH: &str = "/etc/tandem/applet-policy.toml";

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    /// Rights that are granted without a prompt.
    automatic_consent: Vec<TokenRight>,
}

/// Why a policy file is not followed.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It cannot be read.
    #[error("{PATH}: {0}")]
    Io(#[from] std::io::Error),
    /// Others than the administrator could have written it.
    #[error("{PATH} and its directory must belong to root and be writable by root alone")]
    Owner,
    /// Not a policy.
    #[error("{PATH}: {0}")]
    Syntax(#[from] toml::de::Error),
}

/// What is granted without a prompt.
///
/// # Errors
/// [`PolicyError`]: there is a policy that cannot be followed. Then nothing is granted without a prompt.
pub fn automatic(pattern: bool, dev_on_loopback: bool) -> Result<Rights, PolicyError> {
    if pattern || dev_on_loopback { Ok(Rights::of(SUPPORTED)) } else { read(Path::new(PATH), 0) }
}

/// The policy in a file that only `owner` can change, and nothing when there is none.
fn read(path: &Path, owner: u32) -> Result<Rights, PolicyError> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Rights::NONE),
        text => text?,
    };
    for place in [Some(path), path.parent()].into_iter().flatten() {
        let metadata = std::fs::symlink_metadata(place)?;
        if metadata.uid() != owner || metadata.mode() & 0o022 != 0 || metadata.is_symlink() {
            return Err(PolicyError::Owner);
        }
    }
    let file: File = toml::from_str(&text)?;
    let rights: Vec<Right> = file.automatic_consent.into_iter().map(right).collect();
    Ok(Rights::of(&rights))
}

fn right(right: TokenRight) -> Right {
    match right {
        TokenRight::View => Right::View,
        TokenRight::Control => Right::Control,
        TokenRight::Clipboard => Right::Clipboard,
        TokenRight::SendFiles => Right::SendFiles,
        TokenRight::ReceiveFiles => Right::ReceiveFiles,
        TokenRight::Chat => Right::Chat,
        TokenRight::Audio => Right::Audio,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_a_file_that_nobody_else_can_change_is_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("policy.toml");
        let me = std::fs::metadata(folder.path()).expect("metadata").uid();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("permissions");
        };
        assert_eq!(read(&path, me).expect("none"), Rights::NONE);
        std::fs::write(&path, "automatic_consent = [\"view\", \"control\"]").expect("written");
        mode(&path, 0o644);
        assert_eq!(read(&path, me).expect("good"), Rights::of(&[Right::View, Right::Control]));
        assert!(matches!(read(&path, me + 1), Err(PolicyError::Owner)));
        mode(&path, 0o664);
        assert!(matches!(read(&path, me), Err(PolicyError::Owner)));
        mode(&path, 0o600);
        mode(folder.path(), 0o777);
        assert!(matches!(read(&path, me), Err(PolicyError::Owner)));
        mode(folder.path(), 0o700);
        std::fs::write(&path, "automatic_consent = [\"everything\"]").expect("written");
        assert!(matches!(read(&path, me), Err(PolicyError::Syntax(_))));
    }
}
