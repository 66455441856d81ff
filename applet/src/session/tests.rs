//! A session without a relay: whatever needs none.

use tandem_capture::pattern;
use tandem_codec::Size;

use super::*;

/// It is no end of the session: what resumes it has to stay.
#[tokio::test]
async fn a_connection_whose_task_has_died_is_a_failure_here() {
    let target = Target::new("http://127.0.0.1:1", Vec::new()).expect("an address");
    let dies = std::thread::spawn({
        let options = Options::new(target, code(), "test");
        move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let _inside = runtime.enter();
            tandem_client::start(options)
        }
    });
    let connection = dies.join().expect("started");
    let settings = settings(new(), None, Rights::NONE);
    let outcome = over(connection, settings, halves(), std::future::pending()).await;
    assert!(matches!(outcome, Ok(Outcome::Failed)), "{outcome:?}");
}

/// What a policy grants without asking, the customer takes back, the program is killed, and is started again.
#[tokio::test]
async fn what_is_taken_back_stays_so_when_the_program_is_killed() {
    const ANN: Sender = Sender(2);
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a store");
    let both = Rights::of(&[Right::View, Right::Control]);
    let ask = || {
        let rights = both.to_wire();
        control::Message::Ask(message::Ask { participant: ANN.0.into(), rights })
    };
    let mut session = beginning(new(), &store, both);
    session.control(ask());
    assert!(session.consent.may(ANN).has(Right::Control), "the policy says so");
    session.said(Said::Action(StatusAction::Stop));
    assert!(!session.consent.may(ANN).has(Right::Control));
    drop(session);

    let saved = store.load(std::time::SystemTime::now()).expect("written down");
    let mut session = beginning(saved, &store, both);
    assert_eq!(session.consent.may(ANN), Rights::of(&[Right::View]), "it remembers");
    session.control(ask());
    // It was asked for, and there is no window to ask in.
    assert_eq!(session.consent.may(ANN), Rights::of(&[Right::View]));
}

/// A session that has heard that Ann is there.
fn beginning(saved: Saved, store: &Store, automatic: Rights) -> Session {
    let target = Target::new("http://127.0.0.1:1", Vec::new()).expect("an address");
    let (handle, _events) = tandem_client::start(Options::new(target, code(), "test"));
    let settings = settings(saved, Some(store.clone()), automatic);
    let (mut session, ..) = begin(handle, settings, halves()).expect("threads");
    session.me = Some(Sender(1));
    let ann = message::Participant { sender: 2, online: true, ..message::Participant::default() };
    let roster = message::Roster { participants: vec![ann], ..message::Roster::default() };
    session.control(control::Message::Roster(roster));
    session
}

fn settings(saved: Saved, store: Option<Store>, automatic: Rights) -> Settings {
    Settings {
        target: Target::new("http://127.0.0.1:1", Vec::new()).expect("an address"),
        transport: Transport::Auto,
        proxies: Proxies::none(),
        join: code(),
        saved,
        store,
        automatic,
        headless: true,
        video: false,
        look: EncoderOptions::new(Size::default()),
        clipboard: false,
        display: None,
    }
}

fn new() -> Saved {
    Saved::new("http://127.0.0.1:1".into(), Vec::new(), "042917".into())
}

fn code() -> Join {
    Join::Code("042917".parse().expect("a code"))
}

fn halves() -> Halves {
    let (screen, injector) = pattern::open(pattern::Options::default());
    (Box::new(screen), Box::new(injector))
}
