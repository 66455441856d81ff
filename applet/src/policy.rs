//! Who may be let in without asking: nobody, but on the test pattern, on a developer's own relay, or where the computer's
//! administrator has said so where only administrators can (see [`platform::POLICY`]).

use serde::Deserialize;
use tandem_protocol::message::{Right, Rights};
use tandem_protocol::token::TokenRight;

use crate::consent::SUPPORTED;
use crate::platform::{self, POLICY};

/// What the administrator says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Policy {
    /// Rights that are granted without a prompt.
    automatic_consent: Vec<TokenRight>,
}

/// Why a policy is not followed.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It cannot be read, or others than the administrator could have written it.
    #[error("{POLICY}: {0}")]
    Io(#[from] std::io::Error),
    /// Not a policy.
    #[error("{POLICY}: {0}")]
    Syntax(#[from] toml::de::Error),
}

/// What is granted without a prompt.
///
/// # Errors
/// [`PolicyError`]: there is a policy that cannot be followed. Then nothing is granted without a prompt.
pub fn automatic(pattern: bool, dev_on_loopback: bool) -> Result<Rights, PolicyError> {
    if pattern || dev_on_loopback {
        return Ok(Rights::of(SUPPORTED));
    }
    platform::policy()?.map_or(Ok(Rights::NONE), |text| parse(&text))
}

fn parse(text: &str) -> Result<Rights, PolicyError> {
    let policy: Policy = toml::from_str(text)?;
    let rights: Vec<Right> = policy.automatic_consent.into_iter().map(right).collect();
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

    #[test]
    fn a_policy_names_rights_and_nothing_else() {
        let rights = parse("automatic_consent = [\"view\", \"control\"]").expect("good");
        assert_eq!(rights, Rights::of(&[Right::View, Right::Control]));
        assert_eq!(parse("").expect("good"), Rights::NONE);
        for bad in ["automatic_consent = [\"everything\"]", "automatic = []"] {
            assert!(matches!(parse(bad), Err(PolicyError::Syntax(_))), "{bad}");
        }
    }
}
