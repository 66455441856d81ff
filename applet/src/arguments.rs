//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use tandem_capture::pattern;
use tandem_client::{Fingerprint, Proxy, Transport};
use tandem_protocol::Code;

const EXITS: &str = "\
Exit codes:
  0  the session has ended
  1  something failed here
  2  the arguments are wrong
  3  the code is unknown, too old or used
  4  the relay refused, or the session was withdrawn, out of time or interrupted for too long
  5  the screen cannot be shown";

/// Show this computer's screen to a technician, who works on it if you allow it.
#[derive(Debug, Parser)]
#[command(name = "tandem-applet", version, after_help = EXITS)]
pub(crate) struct Arguments {
    /// The relay, like https://relay.example.
    #[arg(long, env = "TANDEM_RELAY", required_unless_present = "resume")]
    pub relay: Option<String>,
    /// The six digits that the technician told you.
    #[arg(long, required_unless_present = "resume")]
    pub code: Option<Code>,
    /// Believe this certificate of the relay (its SHA-256), and no other. May be given several times.
    #[arg(long = "fingerprint")]
    pub fingerprints: Vec<Fingerprint>,
    /// Go on with the session that this program was in when it was killed. With the same relay and code that is done
    /// anyway.
    #[arg(long)]
    pub resume: bool,
    /// What to show.
    #[arg(long, default_value = "screen")]
    pub source: Source,
    /// The X display, like :0, if not the usual one.
    #[arg(long, hide = cfg!(windows))]
    pub display: Option<String>,
    /// Over which binding to reach the relay.
    #[arg(long, default_value = "auto")]
    pub transport: Binding,
    /// Reach the relay through this HTTP proxy, like http://user:password@proxy.example:3128, over WebSocket. Otherwise
    /// HTTPS_PROXY, ALL_PROXY and NO_PROXY count, but never for a relay on this computer.
    #[arg(long)]
    pub proxy: Option<Proxy>,
    /// No windows: what would be asked is refused, nothing on the screen says that somebody is connected, and why the
    /// program ends is only printed.
    #[arg(long)]
    pub headless: bool,
    /// Every pixel exact at any time: what moves is not sent as video.
    #[arg(long)]
    pub no_video: bool,
    /// Which colours to send: fewer make very slow lines usable.
    #[arg(long, value_enum, default_value = "all")]
    pub colours: Colours,
    /// How much memory a screen that is watched may take.
    #[arg(long, value_enum, default_value = "auto")]
    pub memory: Memory,
    /// Try out, with a relay on this computer: everything is allowed without asking.
    #[arg(long)]
    pub dev: bool,
    /// Remove this program's own file when the session is over: ended by anybody, out of time or withdrawn. It stays when the
    /// code was wrong, the relay refused, another program goes on with the session, or it was interrupted for too long: a new
    /// code then needs the program.
    #[arg(long)]
    pub remove_program: bool,
    /// Work on windows of programs with an administrator's rights too. Windows asks the customer for that; who refuses goes on
    /// without. To be given as an argument like everything else: what the environment says is not handed on.
    #[cfg(windows)]
    #[arg(long)]
    pub as_administrator: bool,
    /// Where to keep what resumes the session after a crash.
    #[arg(long, env = "TANDEM_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Width and height of the test pattern.
    #[arg(long, default_value = "1280x720", value_parser = size)]
    pattern_size: (u16, u16),
    /// Pictures a second of the test pattern; 0: it rests.
    #[arg(long, default_value_t = 30)]
    pattern_rate: u16,
    /// What to log on stderr: a level, or per module (tracing's filter).
    #[arg(long, env = "TANDEM_LOG", default_value = "info")]
    pub log: String,
}

/// Which colours are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colours {
    /// As they are.
    All,
    /// 256.
    Eight,
    /// Sixteen greys.
    Grey,
}

impl From<Colours> for tandem_codec::Colours {
    fn from(colours: Colours) -> Self {
        match colours {
            Colours::All => Self::All,
            Colours::Eight => Self::Eight,
            Colours::Grey => Self::Grey,
        }
    }
}

/// How much memory a watched screen may take, here and at whoever watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Memory {
    /// Little for displays of up to 1024 × 768, whatever saves bytes for larger ones.
    Auto,
    /// Little: windows of about one picture, and some more bytes to send.
    Low,
    /// Whatever saves bytes: windows of up to 32 MB.
    Full,
}

impl Memory {
    /// Displays of at most so many pixels get little memory.
    pub(crate) const fn low_up_to(self) -> usize {
        match self {
            Self::Auto => 1024 * 768,
            Self::Low => usize::MAX,
            Self::Full => 0,
        }
    }
}

impl Arguments {
    /// Nothing is shown: nobody is there, or with the test pattern no desktop.
    pub(crate) fn is_headless(&self) -> bool {
        self.headless || self.source == Source::Pattern
    }

    /// The test pattern as asked for.
    pub(crate) fn pattern(&self) -> pattern::Options {
        let rests = self.pattern_rate == 0;
        pattern::Options {
            size: self.pattern_size,
            frames_per_second: self.pattern_rate,
            blink: !rests,
            ..pattern::Options::default()
        }
    }
}

/// What to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Source {
    /// This computer's screen.
    #[value(alias = "x11")]
    Screen,
    /// This computer's screen, read in the way that works everywhere and costs more.
    #[cfg(windows)]
    Gdi,
    /// A moving picture that needs no display.
    Pattern,
}

/// Over which binding to reach the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Binding {
    /// Whichever answers first.
    Auto,
    /// QUIC.
    Quic,
    /// WebSocket.
    Websocket,
}

impl From<Binding> for Transport {
    fn from(binding: Binding) -> Self {
        match binding {
            Binding::Auto => Self::Auto,
            Binding::Quic => Self::Quic,
            Binding::Websocket => Self::WebSocket,
        }
    }
}

fn size(text: &str) -> Result<(u16, u16), String> {
    let parsed = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    let large_enough = |&(w, h): &(u16, u16)| (320..=8192).contains(&w) && (120..=8192).contains(&h);
    parsed.filter(large_enough).ok_or_else(|| "a size is like 1280x720, at least 320x120".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
        let arguments =
            parse("x --relay https://r.example --code 042-917 --pattern-size 640x480").expect("good");
        assert_eq!(arguments.code.map(|code| code.to_string()).as_deref(), Some("042917"));
        assert_eq!(arguments.pattern().size, (640, 480));
        assert!(parse("x --resume").is_ok());
        for bad in [
            "x",
            "x --resume --proxy ftp://proxy.example",
            "x --relay https://r.example",
            "x --relay u --code 12345",
            "x --resume --pattern-size 1x1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
