//! People who go over to another connection: nothing is lost, sent twice or overtaken, and nothing is asked of anybody anew.

use super::*;

fn key(seq: u64) -> Record {
    plain(ANNA, types::KEY, seq, Flags::default())
}

fn seqs(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.header.seq).collect()
}

/// What this connection was welcomed with.
fn welcome(messages: &[control::Message]) -> &message::Welcome {
    let welcome = messages.iter().find_map(|message| match message {
        control::Message::Welcome(welcome) => Some(welcome),
        _ => None,
    });
    welcome.expect("a welcome comes first")
}

#[test]
fn who_moves_gets_what_waited_for_it_and_goes_on_where_it_was() {
    let (mut scene, customer, mut anna, _) = sharing();
    let mut said = customer;
    let chat = scene.open(&mut said, LaneKind::Chat);
    let word = |seq| plain(CUSTOMER, types::CHAT, seq, Flags::default());
    scene.give(&said, chat, &word(0));
    scene.give(&said, chat, &word(1));
    let lane = scene.session.outbox(anna.seat).unwrap().find_by(|key| key.kind == LaneKind::Chat).unwrap();
    // The first has gone, the second is being written.
    for _ in 0..2 {
        assert!(matches!(scene.session.pull(anna.seat, lane, scene.now), Pull::Record(_)));
    }
    let input = scene.open(&mut anna, LaneKind::Input);
    scene.give(&anna, input, &key(0));
    scene.give(&anna, input, &key(1));
    scene.messages(&anna);
    scene.session.park(anna.seat, vec![(lane, word(1).bytes)]);
    scene.give(&said, chat, &word(2));
    assert!(
        matches!(scene.session.pull(anna.seat, lane, scene.now), Pull::Nothing),
        "nothing leaves it any more"
    );

    let again = scene.join(ANNA, Role::Lead);
    assert_eq!(*anna.told.0.lock(), Some(Close::REPLACED));
    let taken = scene.take(&again);
    let of = |kind| -> Vec<Record> {
        taken.iter().filter(|(of, _)| *of == kind).map(|(_, record)| record.clone()).collect()
    };
    assert_eq!(seqs(&of(LaneKind::Chat)), [1, 2]);
    let messages: Vec<_> = of(LaneKind::Control)
        .iter()
        .map(|record| Control::decode_body(record.body()).unwrap().unwrap())
        .collect();
    let input = message::LanePosition {
        lane: Some(LaneKey::plain(LaneKind::Input, ANNA).into()),
        epoch: u64::from(ANNA.0),
        next_seq: 2,
    };
    assert_eq!(welcome(&messages).received, [input]);
    assert!(!messages.iter().any(|message| matches!(message, control::Message::Reopen(_))));
    assert_eq!(scene.dropped("unsent"), 0);
    // Who comes back after a loss is told nothing of its input: the customer says what it has done.
    let lost = scene.join(ANNA, Role::Lead);
    assert_eq!(welcome(&scene.messages(&lost)).received, []);
}

#[test]
fn a_publisher_that_moves_has_granted_what_it_had_and_gets_input_in_its_order() {
    let (mut scene, customer, mut anna, lane) = sharing();
    scene.say(&anna, control::Message::Ask(message::Ask { participant: 0, rights: vec![1, 2] }));
    let input = scene.open(&mut anna, LaneKind::Input);
    for seq in 0..3 {
        assert_eq!(scene.give(&anna, input, &key(seq)), Taken::Yes);
    }
    scene.messages(&anna);
    let slot =
        scene.session.outbox(customer.seat).unwrap().find_by(|key| key.kind == LaneKind::Input).unwrap();
    let Pull::Record(half) = scene.session.pull(customer.seat, slot, scene.now) else { panic!("no input") };
    scene.session.park(customer.seat, vec![(slot, half)]);
    scene.give(&anna, input, &key(3));
    scene.give(&customer, lane, &screen(1, 0, ScreenKind::Update));

    let again = scene.join(CUSTOMER, Role::Customer);
    scene.give(&anna, input, &key(4));
    let taken = scene.take(&again);
    let of = |kind| -> Vec<Record> {
        taken.iter().filter(|(of, _)| *of == kind).map(|(_, record)| record.clone()).collect()
    };
    assert_eq!(seqs(&of(LaneKind::Input)), [0, 1, 2, 3, 4]);
    let messages: Vec<_> = of(LaneKind::Control)
        .iter()
        .map(|record| Control::decode_body(record.body()).unwrap().unwrap())
        .collect();
    assert_eq!(welcome(&messages).received[0].next_seq, 2);
    assert!(messages.iter().any(|message| matches!(message, control::Message::Ask(_))), "it may not know");
    assert!(!messages.iter().any(|message| matches!(message, control::Message::Want(want) if want.key)));
    let anna_is_told = scene.messages(&anna);
    assert!(!anna_is_told.iter().any(|message| matches!(message, control::Message::Reopen(_))));
    for reason in ["no_right", "stale", "away", "unsent"] {
        assert_eq!(scene.dropped(reason), 0, "{reason}");
    }
}

#[test]
fn what_is_left_behind_finds_room_once() {
    let (mut scene, customer, mut anna, _) = sharing();
    let bulk = scene.open(&mut anna, LaneKind::Clipboard);
    let chat = scene.open(&mut anna, LaneKind::Chat);
    let body = vec![7; 256 << 10];
    let part = |seq| Record::new(plain(ANNA, types::CLIPBOARD_TEXT, seq, Flags::default()).header, &body);
    let mut seq = 0;
    while scene.give(&anna, bulk, &part(seq)) == Taken::Yes {
        seq += 1;
    }
    let mut behind = 0;
    let breach = loop {
        // The second one would fit, but not behind a gap; what comes on another lane is none of its business.
        let tiny = plain(ANNA, types::CLIPBOARD_TEXT, seq + 1, Flags::default());
        let word = plain(ANNA, types::CHAT, 0, Flags::default());
        let held = [(bulk, part(seq)), (bulk, tiny), (chat, word)];
        match scene.session.records_left_behind(anna.seat, &held[..1], scene.now) {
            Ok(()) => (seq, behind) = (seq + 1, behind + body.len()),
            Err(breach) => {
                assert_eq!(scene.dropped("full"), 1);
                assert_eq!(
                    scene.session.records_left_behind(anna.seat, &held, scene.now),
                    Err(breach.clone())
                );
                break breach;
            }
        }
    };
    assert_eq!(breach.close, Close::STALLED);
    assert_eq!(scene.dropped("full"), 3, "each is counted");
    assert!(behind as u64 >= limits::CREDIT_BULK, "all that its credit let in: {behind}");
    let taken = scene.take(&customer);
    let of = |kind| taken.iter().filter(|taken| taken.0 == kind).count() as u64;
    assert_eq!((of(LaneKind::Clipboard), of(LaneKind::Chat)), (seq, 1), "its receiver is none the worse");
    assert_eq!(*customer.told.0.lock(), None);
}

#[test]
fn a_publisher_that_was_told_that_nobody_watches_while_somebody_moves_is_told_otherwise() {
    let (mut scene, customer, anna, lane) = sharing();
    let paces = |scene: &mut Scene| {
        scene.now += Duration::from_millis(20);
        scene.session.due(scene.now);
        let mut feedback = scene.messages(&customer).into_iter().filter_map(|message| match message {
            control::Message::Feedback(feedback) => Some(feedback.subscriber),
            _ => None,
        });
        feedback.next_back()
    };
    paces(&mut scene);
    scene.take(&anna);
    scene.give(&customer, lane, &screen(1, 0, ScreenKind::Update));
    scene.take(&anna);
    scene.session.park(anna.seat, Vec::new());
    let again = scene.join(ANNA, Role::Lead);
    // What is due is told between her arrival and her first word.
    scene.now += Duration::from_millis(200);
    assert_eq!(paces(&mut scene), Some(0));
    scene.watch(&again);
    assert_eq!(paces(&mut scene), Some(ANNA.0.into()));
}
