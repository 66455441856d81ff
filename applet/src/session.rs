//! One session, from joining to its end: joins the connection, the screen's thread, the hands' thread and the windows.

use prost::Message;
use tandem_capture::Halves;
use tandem_client::{Event, Events, Handle, Join, Options, Outgoing, Proxies, Target, Transport};
use tandem_codec::EncoderOptions;
use tandem_protocol::message::{self, Capabilities, ClipboardText, EndReason, Right, Rights, control, types};
use tandem_protocol::{Close, LaneKey, LaneKind, Record, Sender};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Duration, Instant, sleep_until};

use crate::audience::Audience;
use crate::clipboard::Clipboard;
use crate::consent::{Consent, Output, Person};
use crate::hands::{self, Hands};
use crate::prompt::{Answer, StatusAction};
use crate::screens::{self, Screens, Told};
use crate::state::{Saved, Store};
use crate::windows::{Said, Windows};

/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a session needs.
#[derive(Debug)]
pub struct Settings {
    /// The relay.
    pub target: Target,
    /// Over which binding.
    pub transport: Transport,
    /// Through which proxy.
    pub proxies: Proxies,
    /// The code, or the ticket of an earlier run.
    pub join: Join,
    /// What is written down for a restart: relay, code and earlier grants; the ticket comes with the connection.
    pub saved: Saved,
    /// Where; `None`: nowhere.
    pub store: Option<Store>,
    /// What is granted without a prompt.
    pub automatic: Rights,
    /// No windows: what is not automatic is refused.
    pub headless: bool,
    /// What moves may go as video.
    pub video: bool,
    /// How screens are encoded. Sizes and layouts are theirs.
    pub look: EncoderOptions,
    /// There is a clipboard to share.
    pub clipboard: bool,
    /// The X display of the windows and the clipboard.
    pub display: Option<String>,
}

/// How a session ended.
#[derive(Debug)]
pub enum Outcome {
    /// The relay said so, or refused us.
    Closed(Close, String),
    /// The connection's own task failed.
    Failed,
    /// The screen is gone.
    Screen(String),
}

struct Session {
    handle: Handle,
    screens: Screens,
    /// Somebody may see them.
    shown: bool,
    audience: Audience,
    /// Video is allowed at all.
    video: bool,
    hands: Hands,
    windows: Option<Windows>,
    /// There is a clipboard to share, on this display.
    has_clipboard: bool,
    display: Option<String>,
    /// While somebody may have it.
    clipboard: Option<Clipboard>,
    prompt: u64,
    consent: Consent,
    me: Option<Sender>,
    saved: Saved,
    store: Option<Store>,
    /// When the farewell is over.
    leaving: Option<Instant>,
}

/// Runs a session until it ends, or until `stop`, which ends it.
///
/// # Errors
/// When a thread cannot be started.
pub async fn run(
    settings: Settings,
    halves: Halves,
    stop: impl Future<Output = ()>,
) -> std::io::Result<Outcome> {
    let agent = concat!("tandem-applet ", env!("CARGO_PKG_VERSION"));
    let options = Options {
        transport: settings.transport,
        proxies: settings.proxies.clone(),
        capabilities: Capabilities {
            codecs: tandem_codec::VERSIONS.map(u32::from).to_vec(),
            ..Capabilities::default()
        },
        ..Options::new(settings.target.clone(), settings.join.clone(), agent)
    };
    let connection = tandem_client::start(options);
    over(connection, settings, halves, stop).await
}

/// Runs a session over this connection.
async fn over(
    (handle, events): (Handle, Events),
    settings: Settings,
    halves: Halves,
    stop: impl Future<Output = ()>,
) -> std::io::Result<Outcome> {
    let (session, told, hears) = begin(handle, settings, halves)?;
    Ok(session.run(events, told, hears, stop).await)
}

/// Starts a session's threads: with what the screen's and the windows' tell.
fn begin(
    handle: Handle,
    settings: Settings,
    (source, injector): Halves,
) -> std::io::Result<(Session, UnboundedReceiver<Told>, UnboundedReceiver<Said>)> {
    let resumes = matches!(settings.join, Join::Ticket(_));
    let journal = settings.store.as_ref().and_then(|store| {
        let journal = store.journal(resumes);
        journal.inspect_err(|error| tracing::warn!(%error, "there is no journal of input")).ok()
    });
    let (said, hears) = unbounded_channel();
    let (tell, told) = unbounded_channel();
    let look = settings.look;
    let screens = Screens::start(source, handle.clone(), look, move |news| drop(tell.send(news)))?;
    let windows = match settings.headless {
        true => None,
        false => Some(Windows::start(settings.display.clone(), said)?),
    };
    let session = Session {
        hands: Hands::start(injector, handle.clone(), journal.unwrap_or_default())?,
        screens,
        shown: false,
        audience: Audience::default(),
        video: settings.video,
        windows,
        has_clipboard: settings.clipboard,
        display: settings.display,
        clipboard: None,
        prompt: 0,
        consent: Consent::new(settings.automatic, settings.saved.grants(), settings.saved.taken_back()),
        me: None,
        saved: settings.saved,
        store: settings.store,
        leaving: None,
        handle,
    };
    Ok((session, told, hears))
}

impl Session {
    async fn run(
        mut self,
        mut events: Events,
        mut told: UnboundedReceiver<Told>,
        mut hears: UnboundedReceiver<Said>,
        stop: impl Future<Output = ()>,
    ) -> Outcome {
        tokio::pin!(stop);
        let mut stopped = false;
        loop {
            let leaving = self.leaving;
            tokio::select! {
                // Input first: everything else may wait for it.
                biased;
                event = events.next() => match event {
                    Some(Event::Closed { close, reason }) => return Outcome::Closed(close, reason),
                    Some(event) => self.event(event).await,
                    None => return Outcome::Failed,
                },
                Some(said) = hears.recv() => self.said(said),
                Some(news) = told.recv() => match news {
                    Told::Layout(generation) => self.hands.order(hands::Order::Layout(generation)),
                    Told::Failed(error) => {
                        self.end();
                        return Outcome::Screen(error.to_string());
                    }
                },
                () = &mut stop, if !stopped => {
                    stopped = true;
                    self.end();
                }
                () = sleep_until(leaving.unwrap_or_else(Instant::now)), if leaving.is_some() => {
                    self.leaving = None;
                    self.handle.leave();
                }
            }
        }
    }

    /// The customer ends the session: here at once, and for the others as soon as the relay hears of it.
    fn end(&mut self) {
        let outputs = self.consent.end();
        self.perform(outputs);
        if let Some(store) = &self.store {
            store.delete();
        }
        match self.handle.end(EndReason::ClosedByCustomer) {
            Ok(()) => self.leaving = Some(Instant::now() + FAREWELL),
            Err(_) => self.handle.leave(),
        }
    }

    async fn event(&mut self, event: Event) {
        match event {
            Event::Connected(connected) => {
                self.me = Some(connected.sender);
                tracing::info!(session = %connected.session, binding = ?connected.binding, "connected to the relay");
                self.saved.last_relay = Some(connected.relay);
                self.saved.set_ticket(&connected.ticket, connected.grace.as_secs());
                self.save();
                let outputs = self.consent.connected();
                self.perform(outputs);
                self.screens.order(screens::Order::Connected(connected.restart));
            }
            Event::Disconnected { why, retry_in, .. } => {
                self.screens.order(screens::Order::Disconnected);
                tracing::warn!(
                    reason = why,
                    retry_in_ms = retry_in.as_millis() as u64,
                    "no connection to the relay"
                );
            }
            Event::Control(message) => self.control(message),
            Event::Record { lane, record } if lane.kind == LaneKind::Input => {
                self.hands.record(lane, record).await
            }
            Event::Record { lane, record } if lane.kind == LaneKind::Peer => {
                self.hands.heard(lane.sender, record.header);
                self.peer(lane, &record);
            }
            Event::Record { lane, record } if lane.kind == LaneKind::Clipboard => self.copied(lane, &record),
            _ => {}
        }
    }

    fn control(&mut self, message: control::Message) {
        match message {
            control::Message::Feedback(_) => self.screens.wake(),
            control::Message::Want(want) => self.screens.order(screens::Order::Want(want)),
            control::Message::Ask(ask) => {
                let Ok(who) = u16::try_from(ask.participant) else { return };
                let outputs = self.consent.ask(Sender(who), Rights::from_wire(&ask.rights), now());
                self.perform(outputs);
            }
            control::Message::Roster(roster) => {
                let Some(me) = self.me else { return };
                self.audience.roster(&roster);
                self.set_video();
                let outputs = self.consent.roster(&roster, me, now());
                self.perform(outputs);
            }
            _ => {}
        }
    }

    fn peer(&mut self, lane: LaneKey, record: &Record) {
        match record.header.record_type {
            types::PEER_PING => self.pong(lane, record),
            types::CAPABILITIES => {
                let Ok(capabilities) = Capabilities::decode(record.body()) else { return };
                self.audience.told(lane.sender, &capabilities);
                self.set_video();
            }
            _ => {}
        }
    }

    /// A technician copied something for the customer.
    fn copied(&self, lane: LaneKey, record: &Record) {
        let may = self.consent.may(lane.sender).has(Right::Clipboard);
        let Some(clipboard) = self.clipboard.as_ref().filter(|_| may) else {
            tracing::debug!("a text for the clipboard from somebody who may not have it");
            return;
        };
        if record.header.record_type == types::CLIPBOARD_TEXT
            && let Ok(copied) = ClipboardText::decode(record.body())
        {
            clipboard.put(copied.text);
        }
    }

    fn set_video(&self) {
        self.screens.order(screens::Order::Video(self.video && self.audience.takes_video()));
    }

    /// A subscriber asks how far away we are.
    fn pong(&self, lane: LaneKey, record: &Record) {
        let Ok(ping) = message::PeerPing::decode(record.body()) else { return };
        let pong = message::PeerPong {
            id: ping.id,
            time_us: ping.time_us,
            to: lane.sender.0.into(),
            epoch_time_us: self.handle.time_us(),
        };
        let out = pong.encode_to_vec();
        // Without a connection nobody waits for it.
        let _ = self
            .handle
            .send(LaneKey::plain(LaneKind::Peer, Sender::RELAY), Outgoing::message(types::PEER_PONG, &out));
    }

    fn said(&mut self, said: Said) {
        match said {
            Said::Answer(number, answer) if number == self.prompt => {
                tracing::info!(?answer, "the customer has answered");
                let outputs = self.consent.answered(answer == Answer::Allow, now());
                self.perform(outputs);
            }
            // Of a prompt that was taken back.
            Said::Answer(..) => {}
            Said::Action(StatusAction::EndSession) | Said::Unseen => self.end(),
            Said::Action(StatusAction::Stop) => {
                let outputs = self.consent.revoke(Rights::of(&[Right::Control, Right::Clipboard]));
                self.perform(outputs);
            }
        }
    }

    /// Does what the consent says, in its order: input stops before a prompt is shown.
    fn perform(&mut self, outputs: Vec<Output>) {
        self.set_controllers();
        for output in outputs {
            match output {
                // Without a connection it is restated on the next one.
                Output::Grant(grants) => drop(self.handle.control(control::Message::Grants(grants))),
                Output::Dismiss => self.windows.iter().for_each(Windows::dismiss),
                Output::Prompt(who, rights) => self.prompt(who, rights),
            }
        }
        self.set_controllers();
        self.set_viewers();
        self.set_clipboard();
        if let Some(windows) = &mut self.windows {
            windows.status(self.consent.people().values());
        }
        if self.saved.set_rights(&self.consent.grants(), self.consent.taken_back()) {
            self.save();
        }
    }

    fn prompt(&mut self, who: Sender, rights: Rights) {
        match (&mut self.windows, self.consent.people().get(&who)) {
            (Some(windows), Some(person)) => self.prompt = windows.prompt(person, rights),
            _ => {
                tracing::warn!("a request was refused: there is no window to ask the customer in");
                let outputs = self.consent.answered(false, now());
                self.perform(outputs);
            }
        }
    }

    fn set_controllers(&self) {
        self.hands.order(hands::Order::Controllers(self.consent.controllers()));
    }

    /// Without anybody who may see the screen nothing of it leaves this computer, whatever the relay wants.
    fn set_viewers(&mut self) {
        let shown = self.consent.people().values().any(|person| person.granted.has(Right::View));
        if std::mem::replace(&mut self.shown, shown) != shown {
            self.screens.order(screens::Order::Shown(shown));
        }
    }

    /// The clipboard is looked at while somebody may have it, and at no other time.
    fn set_clipboard(&mut self) {
        let may = |person: &Person| person.online && person.granted.has(Right::Clipboard);
        if !self.has_clipboard || !self.consent.people().values().any(may) {
            self.clipboard = None;
        } else if self.clipboard.is_none() {
            let shared = Clipboard::start(self.display.clone(), self.handle.clone());
            self.clipboard =
                shared.inspect_err(|error| tracing::warn!(%error, "the clipboard is not shared")).ok();
        }
    }

    fn save(&self) {
        // A farewell has deleted it.
        if self.leaving.is_some() {
            return;
        }
        if let Some(error) = self.store.as_ref().and_then(|store| store.save(&self.saved).err()) {
            tracing::warn!(%error, "the session cannot be written down: it would not survive a restart of this program");
        }
    }
}

/// What consent and hands go by.
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

#[cfg(test)]
mod tests;
