//! `print-config`: the configuration in effect, and where each value comes from.

use std::process::ExitCode;

use anyhow::Context;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use toml::{Table, Value};

use super::settings::Settings;

#[derive(Args, Debug)]
pub(super) struct PrintConfig {
    #[command(flatten)]
    settings: Settings,
}

/// Arguments with the section and key that they are stronger than.
const OVERRIDES: [(&str, &str, &str); 4] = [
    ("listen", "listen", "address"),
    ("operations", "listen", "operations"),
    ("udp", "listen", "udp"),
    ("state_directory", "state", "directory"),
];

impl PrintConfig {
    pub(super) fn run(self, matches: Option<&ArgMatches>) -> anyhow::Result<ExitCode> {
        let settings = self.settings.of_installed();
        // A file that does not work is not shown as if it did.
        settings.resolve()?;
        let mut file = settings.file()?;
        let written = match &settings.config {
            None => Table::new(),
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?
                .parse()
                .with_context(|| format!("cannot parse {}", path.display()))?,
        };
        let overrides = settings.overrides(false);
        file.listen.address = overrides.listen.unwrap_or(file.listen.address);
        file.listen.operations = overrides.operations.or(file.listen.operations);
        file.listen.udp = overrides.udp.unwrap_or(file.listen.udp);
        file.state.directory = overrides.state_directory.or(file.state.directory);
        let effective = Table::try_from(file).context("the settings are no TOML")?;
        let source = |section: &str, key: &str| {
            let flag = OVERRIDES.iter().find(|(_, of, name)| (*of, *name) == (section, key));
            let given = flag.and_then(|(id, ..)| Some((*id, matches?.value_source(id)?)));
            match given {
                Some((id, ValueSource::CommandLine)) => format!("--{}", id.replace('_', "-")),
                Some((id, ValueSource::EnvVariable)) => format!("TANDEM_{}", id.to_uppercase()),
                _ if written.get(section).and_then(|keys| keys.get(key)).is_some() => settings.file_name(),
                _ => "default".into(),
            }
        };
        print!("{}", render(&effective, source));
        Ok(ExitCode::SUCCESS)
    }
}

/// TOML with the source of each value behind it.
fn render(effective: &Table, source: impl Fn(&str, &str) -> String) -> String {
    let mut text = String::new();
    for (section, keys) in effective {
        text += &format!("[{section}]\n");
        for (key, value) in keys.as_table().into_iter().flatten() {
            text += &format!("{key} = {}  # {}\n", masked(key, value), source(section, key));
        }
        text.push('\n');
    }
    text
}

/// A value, without what only the relay may know: passwords, private keys given in the file itself, and those in URLs.
fn masked(key: &str, value: &Value) -> Value {
    const SECRET: [&str; 4] = ["password", "secret", "token", "private_key"];
    match value {
        _ if SECRET.iter().any(|name| key.ends_with(name)) => Value::String("********".into()),
        Value::String(text) => Value::String(match url::Url::parse(text) {
            Ok(mut url) if url.password().is_some() => {
                // A URL that has a password can have another one.
                let _ = url.set_password(Some("********"));
                url.into()
            }
            _ => text.clone(),
        }),
        Value::Array(values) => Value::Array(values.iter().map(|value| masked(key, value)).collect()),
        Value::Table(keys) => {
            Value::Table(keys.iter().map(|(key, value)| (key.clone(), masked(key, value))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_wherever_they_stand_and_nothing_else_is() {
        let table: Table = "[a]\npassword = 'one'\nkeys = ['public']\nurl = 'https://me:two@host/'\n\
             many = [{ name = 'n', push_token = 'three' }]"
            .parse()
            .unwrap();
        let text = render(&table, |section, key| format!("{section}.{key}"));
        for secret in ["one", "two", "three"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(text.contains("keys = [\"public\"]  # a.keys"), "{text}");
        assert!(text.contains("https://me:********@host/"), "{text}");
    }
}
