//! `tandem-applet`: arguments, logging, signals and exit codes; everything else is in the library.
#![forbid(unsafe_code)]
// No console window beside the program's own.
#![cfg_attr(windows, windows_subsystem = "windows")]

mod arguments;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context;
use clap::Parser;
use tandem_applet::session::{self, Outcome, Settings};
use tandem_applet::state::{Saved, Store};
use tandem_applet::{platform, policy};
use tandem_capture::Halves;
use tandem_client::{Join, Proxies, Target};
use tandem_codec::{EncoderOptions, Size};
use tandem_protocol::Close;
use tandem_protocol::message::Rights;
use tracing_subscriber::EnvFilter;

use arguments::{Arguments, Binding, Source};

/// Something failed here. (2 are wrong arguments, as clap has it.)
const EXIT_FAILED: u8 = 1;
/// The code is not (any more) one of a session.
const EXIT_CODE: u8 = 3;
/// The relay refused for another reason, or the session was lost for good.
const EXIT_REFUSED: u8 = 4;
/// The screen cannot be shown.
const EXIT_SCREEN: u8 = 5;

fn main() -> ExitCode {
    platform::attach_console();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if platform::is_mute() => {
            // Nothing was parsed. With this somewhere in it, nobody is there to close a window.
            let alone = std::env::args_os().any(|argument| argument == "--headless");
            platform::tell(&error.to_string(), !alone);
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
        Err(error) => error.exit(),
    };
    if let Err(error) = start_log(&arguments.log) {
        return failed(&error).tell(&arguments);
    }
    #[cfg(windows)]
    if goes_on_elevated(&arguments) {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let end = match runtime {
        Ok(runtime) => runtime.block_on(run(&arguments)).unwrap_or_else(|error| failed(&error)),
        Err(error) => failed(&error.into()),
    };
    if arguments.remove_program
        && end.for_good
        && let Err(error) = self_replace::self_delete()
    {
        tracing::warn!(%error, "this program's file could not be removed");
    }
    end.tell(&arguments)
}

/// How the program ends.
#[derive(Debug, PartialEq, Eq)]
struct End {
    /// What the customer is told.
    text: String,
    code: u8,
    /// The session is over, and nothing is left that this program could be started for again.
    for_good: bool,
}

impl End {
    /// One after which the customer may start the program again.
    fn new(text: impl Into<String>, code: u8) -> Self {
        Self { text: text.into(), code, for_good: false }
    }

    /// Tells the customer. Last of all: where that takes a window, it is there until somebody closes it.
    fn tell(self, arguments: &Arguments) -> ExitCode {
        platform::tell(&self.text, !arguments.is_headless());
        ExitCode::from(self.code)
    }
}

fn failed(error: &anyhow::Error) -> End {
    End::new(format!("tandem-applet: {error:#}"), EXIT_FAILED)
}

/// Whether another process goes on with an administrator's rights in this one's place.
#[cfg(windows)]
fn goes_on_elevated(arguments: &Arguments) -> bool {
    if !arguments.as_administrator || platform::is_elevated() {
        return false;
    }
    let started = platform::start_elevated();
    started
        .inspect_err(|error| tracing::info!(%error, "it goes on without an administrator's rights"))
        .is_ok()
}

fn start_log(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("--log {filter}"))?;
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    Ok(())
}

async fn run(arguments: &Arguments) -> anyhow::Result<End> {
    let store = open_store(arguments);
    let earlier = store.as_ref().and_then(|store| store.load(SystemTime::now()));
    let mut session = Begin::of(arguments, earlier)?;
    loop {
        let halves = match open_screen(arguments) {
            Ok(halves) => halves,
            Err(error) => {
                return Ok(End::new(format!("tandem-applet: {error}"), EXIT_SCREEN));
            }
        };
        let resumed = session.ticket.is_some();
        let settings = settings(arguments, session, store.clone())?;
        let outcome = session::run(settings, halves, platform::stopped()?).await?;
        if let Some(store) = store.as_ref().filter(|_| forgets(&outcome)) {
            store.delete();
        }
        let stale = matches!(outcome, Outcome::Closed(Close::TICKET_INVALID | Close::TICKET_EXPIRED, _));
        match &arguments.code {
            Some(_) if resumed && stale => session = Begin::of(arguments, None)?,
            _ => {
                // Only the usual directory is ours to take away.
                if let (Some(store), None) = (store, &arguments.state_dir) {
                    store.vacate();
                }
                return Ok(farewell(&outcome));
            }
        }
    }
}

/// A session to join: which, and how.
struct Begin {
    saved: Saved,
    ticket: Option<Vec<u8>>,
}

impl Begin {
    /// The earlier session if it is the one that is meant, else a new one.
    fn of(arguments: &Arguments, earlier: Option<Saved>) -> anyhow::Result<Self> {
        let same = |saved: &Saved| {
            let code = arguments.code.map(|code| code.to_string());
            let relay = arguments.relay.as_ref();
            code.as_ref().is_none_or(|code| *code == saved.code)
                && relay.is_none_or(|relay| *relay == saved.relay)
        };
        if let Some(saved) = earlier.filter(same)
            && let Some(ticket) = saved.ticket()
        {
            return Ok(Self { saved, ticket: Some(ticket) });
        }
        anyhow::ensure!(!arguments.resume, "there is no session to resume");
        let relay = arguments.relay.clone().context("--relay is missing")?;
        let code = arguments.code.context("--code is missing")?;
        let fingerprints = arguments.fingerprints.iter().map(ToString::to_string).collect();
        Ok(Self { saved: Saved::new(relay, fingerprints, code.to_string()), ticket: None })
    }
}

fn settings(arguments: &Arguments, begin: Begin, store: Option<Store>) -> anyhow::Result<Settings> {
    let Begin { saved, ticket } = begin;
    let fingerprints = match arguments.fingerprints.is_empty() {
        true => saved.fingerprints.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
        false => arguments.fingerprints.clone(),
    };
    let target = Target::new(saved.last_relay.as_ref().unwrap_or(&saved.relay), fingerprints)?;
    let dev = arguments.dev && target.is_loopback();
    anyhow::ensure!(dev || !arguments.dev, "--dev is for a relay on this computer only");
    let automatic = policy::automatic(arguments.source == Source::Pattern, dev).unwrap_or_else(|error| {
        tracing::warn!(%error, "the policy is not followed: everything is asked");
        Rights::NONE
    });
    Ok(Settings {
        transport: arguments.transport.into(),
        proxies: proxies(arguments)?,
        join: match ticket {
            Some(ticket) => Join::Ticket(ticket.into()),
            None => Join::Code(saved.code.parse()?),
        },
        target,
        saved,
        store,
        automatic,
        headless: arguments.is_headless(),
        video: !arguments.no_video,
        clipboard: arguments.source != Source::Pattern,
        look: EncoderOptions {
            colours: arguments.colours.into(),
            low_memory_up_to: arguments.memory.low_up_to(),
            video: true,
            ..EncoderOptions::new(Size::default())
        },
        display: arguments.display.clone(),
    })
}

fn proxies(arguments: &Arguments) -> anyhow::Result<Proxies> {
    if arguments.transport == Binding::Quic {
        anyhow::ensure!(arguments.proxy.is_none(), "--transport quic does not go through a proxy");
        return Ok(Proxies::none());
    }
    match &arguments.proxy {
        Some(proxy) => Ok(Proxies::always(proxy.clone())),
        None => Proxies::from_environment(|name| std::env::var(name).ok())
            .map_err(|(name, error)| anyhow::anyhow!("{name}: {error}")),
    }
}

fn open_store(arguments: &Arguments) -> Option<Store> {
    let usual = || Store::usual(|name| std::env::var(name).ok());
    let Some(directory) = arguments.state_dir.clone().or_else(usual) else {
        tracing::warn!(
            "there is no directory for state: the session will not survive a restart of this program"
        );
        return None;
    };
    Store::open(&directory)
        .inspect_err(|error| tracing::warn!(directory = %directory.display(), %error, "no state can be kept"))
        .ok()
}

fn open_screen(arguments: &Arguments) -> Result<Halves, tandem_capture::CaptureError> {
    match arguments.source {
        Source::Screen => tandem_capture::open(arguments.display.as_deref()),
        #[cfg(windows)]
        Source::Gdi => {
            let (screen, injector) = tandem_capture::windows::open(false)?;
            Ok((Box::new(screen), Box::new(injector)))
        }
        Source::Pattern => {
            let (screen, injector) = tandem_capture::pattern::open(arguments.pattern());
            Ok((Box::new(screen), Box::new(injector)))
        }
    }
}

fn farewell(outcome: &Outcome) -> End {
    match outcome {
        Outcome::Screen(reason) => {
            End::new(format!("The screen cannot be shown any more: {reason}"), EXIT_SCREEN)
        }
        Outcome::Failed => {
            End::new("The program has failed. Start it again to go on with the session.", EXIT_FAILED)
        }
        Outcome::Closed(close, reason) => {
            let (text, code) = closed(*close, reason);
            End { for_good: is_for_good(*close), ..End::new(text, code) }
        }
    }
}

/// Whether a session that was closed for this reason is over. Not where it was interrupted for too long: whoever helps has a new code,
/// for which the customer needs the program.
const fn is_for_good(close: Close) -> bool {
    matches!(close, Close::ENDED | Close::LEFT | Close::TIME_OVER | Close::REVOKED)
}

/// Whether what resumes the session is of no use any more. It stays where another program goes on with it, the relay refused what it
/// may allow in a moment, or a wrong code was of another session.
fn forgets(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Closed(Close::TICKET_INVALID | Close::TICKET_EXPIRED, _) | Outcome::Screen(_) => true,
        Outcome::Closed(close, _) => is_for_good(*close),
        Outcome::Failed => false,
    }
}

fn closed(close: Close, reason: &str) -> (String, u8) {
    let told = match close {
        Close::ENDED | Close::LEFT => return ("The session has ended.".to_owned(), 0),
        Close::TIME_OVER => "The time of this session is over.",
        Close::REVOKED => "The session was withdrawn.",
        Close::CODE_UNKNOWN => "No session has this code. Check it, or ask for a new one.",
        Close::CODE_EXPIRED => "This code is too old. Ask for a new one.",
        Close::CODE_USED => "Somebody has used this code already. Ask for a new one.",
        Close::TICKET_INVALID | Close::TICKET_EXPIRED => {
            "The session was interrupted for too long. Ask for a new code."
        }
        Close::REPLACED => "The session goes on in another program of this computer.",
        Close::VERSION => "The relay needs another version of this program.",
        Close::FORBIDDEN => "The relay does not allow this.",
        _ => return (format!("The relay closed the connection: {} ({close}).", reason), EXIT_REFUSED),
    };
    let of_code = (Close::CODE_UNKNOWN..=Close::CODE_USED).contains(&close);
    (told.to_owned(), if of_code { EXIT_CODE } else { EXIT_REFUSED })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_session_that_is_over_ends_for_good() {
        let over: Vec<Close> = Close::ALL.iter().copied().filter(|close| is_for_good(*close)).collect();
        assert_eq!(over, [Close::ENDED, Close::LEFT, Close::TIME_OVER, Close::REVOKED]);
        assert!(!is_for_good(Close::from_number(777)));
        assert!(farewell(&Outcome::Closed(Close::ENDED, String::new())).for_good);
        assert_eq!(farewell(&Outcome::Failed).code, EXIT_FAILED);
    }

    #[test]
    fn what_resumes_a_session_stays_while_it_could() {
        let of = |close: Close| forgets(&Outcome::Closed(close, String::new()));
        let forgotten: Vec<Close> = Close::ALL.iter().copied().filter(|close| of(*close)).collect();
        let over = [Close::ENDED, Close::LEFT, Close::TIME_OVER, Close::REVOKED];
        assert_eq!(forgotten, [&over[..], &[Close::TICKET_INVALID, Close::TICKET_EXPIRED]].concat());
        assert!(forgets(&Outcome::Screen(String::new())) && !forgets(&Outcome::Failed));
    }

    #[test]
    fn every_end_has_a_text_and_an_exit_code() {
        assert_eq!(closed(Close::ENDED, "").1, 0);
        for close in [Close::CODE_UNKNOWN, Close::CODE_EXPIRED, Close::CODE_USED] {
            assert_eq!(closed(close, "").1, EXIT_CODE);
        }
        let (text, code) = closed(Close::from_number(777), "something new");
        assert!(code == EXIT_REFUSED && text.contains("something new"));
        for close in Close::ALL {
            assert!(!closed(*close, "x").0.is_empty());
        }
    }
}
