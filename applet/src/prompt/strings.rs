//! Every word that the prompt's windows show, by language. A language is one value of [`Strings`], so none can lack a text.

use crate::platform;

/// What a technician can be allowed to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Permission {
    /// See and change the clipboard.
    Clipboard,
    /// Use mouse and keyboard.
    Control,
    /// Browse and change files.
    ManageFiles,
    /// Fetch files from this computer.
    ReceiveFiles,
    /// Restart the computer.
    Reboot,
    /// Record the session.
    Record,
    /// Run scripts.
    Scripts,
    /// Put files on this computer.
    SendFiles,
    /// Read what the computer is and what runs on it.
    SystemInformation,
    /// See the screen.
    View,
    /// Anything else, in the customer's language.
    Other(String),
}

/// The texts of one language. `{technician}`, `{organisation}`, `{names}` and `{seconds}` are filled in.
#[derive(Debug)]
pub(super) struct Strings {
    pub(super) title: &'static str,
    pub(super) headline: &'static str,
    pub(super) will_be_able: &'static str,
    pub(super) any_time: &'static str,
    pub(super) warning: &'static str,
    pub(super) allow: &'static str,
    pub(super) refuse: &'static str,
    pub(super) countdown: &'static str,
    pub(super) connected: &'static str,
    pub(super) sees: &'static str,
    pub(super) controls: &'static str,
    /// What follows those three if the clipboard is shared too.
    pub(super) and_clipboard: &'static str,
    pub(super) and_more: &'static str,
    pub(super) stop_control: &'static str,
    pub(super) stop_clipboard: &'static str,
    pub(super) stop_both: &'static str,
    pub(super) end_session: &'static str,
    clipboard: &'static str,
    control: &'static str,
    manage_files: &'static str,
    receive_files: &'static str,
    reboot: &'static str,
    record: &'static str,
    scripts: &'static str,
    send_files: &'static str,
    system_information: &'static str,
    view: &'static str,
}

impl Strings {
    pub(super) fn permission<'a>(&'a self, permission: &'a Permission) -> &'a str {
        match permission {
            Permission::Clipboard => self.clipboard,
            Permission::Control => self.control,
            Permission::ManageFiles => self.manage_files,
            Permission::ReceiveFiles => self.receive_files,
            Permission::Reboot => self.reboot,
            Permission::Record => self.record,
            Permission::Scripts => self.scripts,
            Permission::SendFiles => self.send_files,
            Permission::SystemInformation => self.system_information,
            Permission::View => self.view,
            Permission::Other(text) => text,
        }
    }
}

/// Fills values into a text, each once, without looking for further places in what was filled in.
pub(super) fn filled(text: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let Some((name, after)) = after.split_once('}') else { break };
        filled.push_str(values.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value));
        rest = after;
    }
    filled + rest
}

/// The languages there are, by their codes.
pub const LANGUAGES: &[&str] = &["de", "en"];

/// The texts of a language such as `de`, `de_AT.UTF-8` or `de-AT`, of the environment's for `None`, else English.
pub(super) fn of(language: Option<&str>) -> &'static Strings {
    let language = language.map_or_else(platform::language, str::to_owned);
    match language.split(['_', '-', '.', '@']).next() {
        Some("de") => &DE,
        _ => &EN,
    }
}

static EN: Strings = Strings {
    title: "Remote support",
    headline: "{technician} from {organisation} asks to help you on this computer",
    will_be_able: "If you allow it, {technician} can:",
    any_time: "You see all that happens and can end it at any time.",
    warning: "Only allow this if you called for help yourself. If somebody called you unexpectedly, refuse.",
    allow: "Allow",
    refuse: "Refuse",
    countdown: "Refused automatically in {seconds} s",
    connected: "{names} is connected and does not see your screen yet",
    sees: "{names} sees your screen",
    controls: "{names} sees your screen and uses mouse and keyboard",
    and_clipboard: " · reads and changes your clipboard",
    and_more: "and others",
    stop_control: "Stop control",
    stop_clipboard: "Stop clipboard",
    stop_both: "Stop control and clipboard",
    end_session: "End session",
    clipboard: "read and change the clipboard",
    control: "use your mouse and keyboard",
    manage_files: "look through and change your files",
    receive_files: "fetch files from this computer",
    reboot: "restart this computer",
    record: "record the session",
    scripts: "run scripts on this computer",
    send_files: "put files on this computer",
    system_information: "read information about this computer",
    view: "see your screen",
};

static DE: Strings = Strings {
    title: "Fernhilfe",
    headline: "{technician} von {organisation} möchte Ihnen an diesem Computer helfen",
    will_be_able: "Wenn Sie zustimmen, kann {technician}:",
    any_time: "Sie sehen alles, was geschieht, und können es jederzeit beenden.",
    warning: "Stimmen Sie nur zu, wenn Sie selbst um Hilfe gebeten haben. Wurden Sie unerwartet angerufen, lehnen Sie ab.",
    allow: "Zulassen",
    refuse: "Ablehnen",
    countdown: "Ohne Antwort abgelehnt in {seconds} s",
    connected: "{names} ist verbunden und sieht Ihren Bildschirm noch nicht",
    sees: "{names} sieht Ihren Bildschirm",
    controls: "{names} sieht Ihren Bildschirm und bedient Maus und Tastatur",
    and_clipboard: " · liest und ändert Ihre Zwischenablage",
    and_more: "und andere",
    stop_control: "Steuerung beenden",
    stop_clipboard: "Zwischenablage beenden",
    stop_both: "Steuerung und Zwischenablage beenden",
    end_session: "Sitzung beenden",
    clipboard: "die Zwischenablage lesen und ändern",
    control: "Ihre Maus und Tastatur bedienen",
    manage_files: "Ihre Dateien durchsehen und ändern",
    receive_files: "Dateien von diesem Computer holen",
    reboot: "diesen Computer neu starten",
    record: "die Sitzung aufzeichnen",
    scripts: "Skripte auf diesem Computer ausführen",
    send_files: "Dateien auf diesem Computer ablegen",
    system_information: "Angaben über diesen Computer lesen",
    view: "Ihren Bildschirm sehen",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_names_who_and_how_long() {
        for language in LANGUAGES {
            let strings = of(Some(language));
            for (text, places) in [
                (strings.headline, vec!["{technician}", "{organisation}"]),
                (strings.will_be_able, vec!["{technician}"]),
                (strings.countdown, vec!["{seconds}"]),
                (strings.connected, vec!["{names}"]),
                (strings.sees, vec!["{names}"]),
                (strings.controls, vec!["{names}"]),
            ] {
                assert_eq!(text.matches('{').count(), places.len(), "{language}: {text}");
                assert!(places.iter().all(|place| text.contains(place)), "{language}: {text}");
            }
        }
    }

    #[test]
    fn what_is_filled_in_is_not_filled_again() {
        let values = [("technician", "{organisation}"), ("organisation", "Acme")];
        assert_eq!(filled("{technician} of {organisation}.", &values), "{organisation} of Acme.");
    }

    #[test]
    fn a_language_is_found_by_its_first_part() {
        assert_eq!(of(Some("de_AT.UTF-8")).allow, "Zulassen");
        assert_eq!(of(Some("de-CH")).allow, "Zulassen");
        assert_eq!(of(Some("xx")).allow, "Allow");
    }
}
