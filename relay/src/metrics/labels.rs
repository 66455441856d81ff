//! What metrics are counted by. Labels come from these enums and from the protocol's, never from ids or addresses, so that their
//! number is known when the relay starts.

use metrics::Label;
use tandem_protocol::message::SkipReason;
use tandem_protocol::{Close, LaneKind};

/// A set of labels of which every combination is known.
pub trait Labels: Copy + Sized {
    /// How many combinations there are.
    const COUNT: usize;
    /// Every combination, in the order of [`Labels::index`].
    fn all() -> Vec<Self>;
    /// Its place in [`Labels::all`].
    fn index(self) -> usize;
    /// As Prometheus shows it.
    fn labels(self) -> Vec<Label>;
}

/// Enums of which each is a label: its key, and the values that it may have.
macro_rules! labels {
    ($($(#[doc = $doc:literal])+ $name:ident as $key:literal {
        $($(#[doc = $of:literal])+ $variant:ident = $text:literal,)+
    })+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $of])+ $variant,)+
        }

        impl $name {
            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As labels and logs show it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl Labels for $name {
            const COUNT: usize = Self::ALL.len();

            fn all() -> Vec<Self> {
                Self::ALL.to_vec()
            }

            fn index(self) -> usize {
                self as usize
            }

            fn labels(self) -> Vec<Label> {
                vec![Label::from_static_parts($key, self.name())]
            }
        }
    )+};
}

labels! {
    /// How a client is connected.
    Binding as "transport" {
        /// QUIC.
        Quic = "quic",
        /// WebTransport.
        WebTransport = "webtransport",
        /// WebSocket.
        WebSocket = "websocket",
    }

    /// With what a client was let in.
    JoinedBy as "by" {
        /// A code that a customer typed.
        Code = "code",
        /// A token of a desk.
        Token = "token",
        /// A ticket: it has been here before.
        Ticket = "ticket",
    }

    /// How far a client came that never said a `Hello`.
    Phase as "phase" {
        /// It sent nothing on its TCP connection, or neither TLS nor HTTP.
        First = "first_byte",
        /// TLS over TCP.
        Tls = "tls",
        /// An HTTP request.
        Http = "http",
        /// QUIC, whose handshake is TLS too.
        Quic = "quic",
        /// HTTP/3 and the session in it.
        WebTransport = "webtransport",
        /// The connection stood, but no `Hello` came.
        Hello = "hello",
    }

    /// Why it came no further.
    Failure as "reason" {
        /// It took too long.
        Late = "late",
        /// It said something else than it should, or was gone.
        Broken = "broken",
    }

    /// Why a record was dropped.
    Dropped as "reason" {
        /// The customer has not granted it.
        NoRight = "no_right",
        /// A consent prompt is open.
        Prompt = "prompt",
        /// The publisher is not connected.
        Away = "away",
        /// Its lane was open before the publisher came back, or is not open any more.
        Stale = "stale",
        /// A newer record took its place before it was sent.
        Replaced = "replaced",
        /// Whom it was for was gone, or not allowed it any more, before it was sent.
        Unsent = "unsent",
        /// Too much was waiting for its receiver, who is closed for that.
        Full = "full",
        /// It had come before: a publisher that resumes sends again what it has no word of.
        Duplicate = "duplicate",
        /// It is of a display or rendition that there is not.
        Unknown = "unknown",
    }

    /// Why a subscriber does not get a record of a screen.
    Skip as "reason" {
        /// A key shows what it led to.
        Key = "key",
        /// The subscriber reads the reduced rendition instead.
        Fork = "fork",
        /// The subscriber reads the live rendition instead.
        Merge = "merge",
        /// The bound on held bytes was reached.
        HeldMax = "held_max",
        /// The publisher began from black.
        Restarted = "restarted",
        /// The right to see it was withdrawn.
        Right = "right",
    }

    /// What a client that was closed with `stalled` did not take.
    Stalled as "reason" {
        /// A screen that it sees.
        Screen = "screen",
        /// Control messages.
        Control = "control",
        /// Anything else.
        Queue = "queue",
    }

    /// Why a client was turned away before it could say anything.
    TurnedAway as "reason" {
        /// Told to prove its address first, over QUIC.
        Retry = "retry",
        /// Too many handshakes of its network.
        Handshakes = "handshakes",
        /// Too many connections that are not admitted yet.
        Unadmitted = "unadmitted",
        /// No descriptors are left for TCP connections.
        Descriptors = "descriptors",
    }

    /// What a client sends faster than it may.
    Slowed as "reason" {
        /// Records.
        Records = "records",
        /// Control messages.
        Control = "control",
    }

    /// Lanes on which it is measured how long records stay in the relay.
    Timed as "lane" {
        /// Keys and pointer.
        Input = "input",
        /// Updates of screens.
        Screen = "screen",
    }

    /// A way through a socket.
    Direction as "direction" {
        /// From clients.
        Receive = "receive",
        /// To clients.
        Send = "send",
    }

    /// Of something that the system may cut.
    Share as "share" {
        /// As much as the relay asked for.
        Wanted = "wanted",
        /// As much as it got.
        Granted = "granted",
    }
}

impl Default for Binding {
    /// What clients try first.
    fn default() -> Self {
        Self::Quic
    }
}

impl Skip {
    /// As subscribers are told.
    pub fn reason(self) -> SkipReason {
        match self {
            Self::Key => SkipReason::Key,
            Self::Fork => SkipReason::Fork,
            Self::Merge => SkipReason::Merge,
            Self::HeldMax => SkipReason::HeldMax,
            Self::Restarted => SkipReason::Restarted,
            Self::Right => SkipReason::Right,
        }
    }
}

impl Timed {
    /// Of the lanes of this kind, if it is measured.
    pub fn of(kind: LaneKind) -> Option<Self> {
        match kind {
            LaneKind::Input => Some(Self::Input),
            LaneKind::Screen => Some(Self::Screen),
            _ => None,
        }
    }
}

impl Labels for LaneKind {
    const COUNT: usize = Self::ALL.len();

    fn all() -> Vec<Self> {
        Self::ALL.to_vec()
    }

    fn index(self) -> usize {
        self as usize
    }

    fn labels(self) -> Vec<Label> {
        let name = match self {
            Self::Control => "control",
            Self::Input => "input",
            Self::Audio => "audio",
            Self::Chat => "chat",
            Self::Peer => "peer",
            Self::Cursor => "cursor",
            Self::Screen => "screen",
            Self::Key => "key",
            Self::Clipboard => "clipboard",
            Self::File => "file",
        };
        vec![Label::from_static_parts("lane", name)]
    }
}

impl Labels for Close {
    const COUNT: usize = Self::ALL.len();

    fn all() -> Vec<Self> {
        Self::ALL.to_vec()
    }

    /// A code that this version does not know, which only a client can have made up, counts as the relay's own failure: it is to
    /// be seen.
    fn index(self) -> usize {
        let of = |code| Self::ALL.iter().position(|known| *known == code);
        of(self).or_else(|| of(Self::INTERNAL)).unwrap_or_default()
    }

    fn labels(self) -> Vec<Label> {
        vec![Label::from_static_parts("code", self.name())]
    }
}

impl<A: Labels, B: Labels> Labels for (A, B) {
    const COUNT: usize = A::COUNT * B::COUNT;

    fn all() -> Vec<Self> {
        let second = B::all();
        A::all().into_iter().flat_map(|a| second.iter().map(move |&b| (a, b))).collect()
    }

    fn index(self) -> usize {
        self.0.index() * B::COUNT + self.1.index()
    }

    fn labels(self) -> Vec<Label> {
        [self.0.labels(), self.1.labels()].concat()
    }
}
