//! Fragments in both directions.

use super::*;
use crate::ids::{DisplayId, Rendition, Sender};
use crate::record::{Flags, Header};
use proptest::prelude::*;
use std::collections::VecDeque;

fn record(seq: u64, len: usize) -> Bytes {
    let header = Header {
        record_type: 0,
        flags: Flags::default(),
        sender: Sender(1),
        key_id: 0,
        epoch: 7,
        seq,
        time_us: 0,
        screen: None,
    };
    header.record(&vec![seq as u8; len])
}

#[test]
fn a_first_fragment_is_these_bytes() {
    let mut out = Outgoing::new(Side::Client);
    let lane = out.open(LaneKey::plain(LaneKind::Input, Sender(5)), true);
    let mut one = Some(record(0, 1));
    let mut bytes = BytesMut::new();
    assert_eq!(out.fragment(9999, |id, _| one.take_if(|_| id == lane), &mut bytes), Some(lane));
    assert_eq!(bytes[..12], [2, 0, FIRST | LAST, 45, 0, 1, 0, 0, 0, 5, 0, 38]);
    assert_eq!(bytes.len(), FRAGMENT_HEADER_LEN + 6 + 39);
}

#[test]
fn input_overtakes_a_screen_record_between_its_fragments() {
    let mut out = Outgoing::new(Side::Relay);
    let screen = out.open(LaneKey::plain(LaneKind::Chat, Sender(1)), true);
    let input = out.open(LaneKey::plain(LaneKind::Input, Sender(2)), true);
    let mut chat = VecDeque::from([record(0, 5000)]);
    let mut keys = VecDeque::new();
    let mut order = Vec::new();
    for turn in 0..4 {
        if turn == 1 {
            keys.push_back(record(0, 3));
        }
        let source = |id, _| {
            if id == input {
                keys.pop_front()
            } else if id == screen {
                chat.pop_front()
            } else {
                None
            }
        };
        order.push(out.fragment(2000, source, &mut BytesMut::new()));
    }
    assert_eq!(order, [Some(screen), Some(input), Some(screen), Some(screen)]);
}

#[test]
fn what_is_half_sent_when_a_lane_is_given_up_comes_back_whole() {
    let mut out = Outgoing::new(Side::Client);
    let lane = out.open(LaneKey::plain(LaneKind::Chat, Sender(1)), true);
    let mut records = VecDeque::from([record(0, 100), record(1, 5000)]);
    let mut message = BytesMut::new();
    let mut send = |out: &mut Outgoing| {
        let next = |id, _| if id == lane { records.pop_front() } else { None };
        out.fragment(2000, next, &mut message).is_some()
    };
    assert!(send(&mut out) && !out.in_record(lane));
    assert!(send(&mut out) && out.in_record(lane));
    assert_eq!(out.reset(lane, &mut message), Some(record(1, 5000)));
    let mut events = Vec::new();
    Incoming::new(Side::Client).message(&message, |event| events.push(event)).unwrap();
    assert!(
        matches!(&events[..], [Event::Opened(..), Event::Record(_, _, whole), Event::Reset(..)] if whole.header.seq == 0),
        "{events:?}"
    );
    let lane = out.open(LaneKey::plain(LaneKind::Chat, Sender(1)), true);
    assert_eq!(out.reset(lane, &mut message), None);
}

#[test]
fn bulk_is_never_starved() {
    let mut out = Outgoing::new(Side::Client);
    let bulk = out.open(LaneKey::plain(LaneKind::File, Sender(1)), true);
    let peer = out.open(LaneKey::plain(LaneKind::Peer, Sender(1)), true);
    out.credit(bulk, u64::MAX);
    out.credit(peer, u64::MAX);
    let mut of_bulk = 0;
    for _ in 0..1000 {
        let source = |id, _| (id != LaneId::CONTROL).then(|| record(0, 100_000));
        of_bulk += usize::from(out.fragment(1000, source, &mut BytesMut::new()) == Some(bulk));
    }
    assert!((95..=105).contains(&of_bulk), "{of_bulk} of 1000");
}

#[test]
fn bulk_is_not_starved_by_cursors_that_go_before_all() {
    let mut out = Outgoing::new(Side::Relay);
    let cursor = out.open(LaneKey::plain(LaneKind::Cursor, Sender(1)), true);
    let screen = out.open(LaneKey::screen(LaneKind::Screen, DisplayId(0), Rendition::LIVE, Sender(1)), true);
    let bulk = out.open(LaneKey::plain(LaneKind::File, Sender(1)), true);
    for lane in [cursor, screen, bulk] {
        out.credit(lane, u64::MAX);
    }
    let (mut of_bulk, mut pointers) = (0, 0);
    for round in 0..1000 {
        let mut moved = Some(record(round, 20));
        let mut source = |id, _: LaneKey| match id {
            id if id == cursor => moved.take(),
            id if id == screen || id == bulk => Some(record(0, 100_000)),
            _ => None,
        };
        while out.fragment_of(Priority::URGENT, 1000, &mut source, &mut BytesMut::new()).is_some() {
            pointers += 1;
        }
        of_bulk += usize::from(out.fragment(1000, source, &mut BytesMut::new()) == Some(bulk));
    }
    assert_eq!(pointers, 1000);
    assert!((95..=105).contains(&of_bulk), "{of_bulk} of 1000");
}

#[test]
fn what_breaks_the_rules_is_refused() {
    let open = |id: u16, kind: u8| {
        let mut m = BytesMut::new();
        put_header(&mut m, LaneId(id), FIRST, 6);
        m.put_slice(&[kind, 0, 0, 0, 1, 0]);
        m
    };
    let check = |message: &[u8]| Incoming::new(Side::Client).message(message, |_| {});
    assert_eq!(check(&[2, 0, 0, 9]), Err(MuxError::Truncated));
    assert_eq!(check(&[2, 0, 0, 9, 0, 1]), Err(MuxError::Truncated));
    assert_eq!(check(&[2, 0, 0, 0, 0]), Err(MuxError::Lane(2)));
    let long = [&[2, 0, 0, 1, 64][..], &[0; 16385]].concat();
    assert_eq!(check(&long), Err(MuxError::Length(16385)));
    assert_eq!(check(&open(3, 1)), Err(MuxError::Number(3)));
    assert_eq!(check(&open(2, 99)), Err(MuxError::Kind(UnknownKind(99))));
    assert_eq!(check(&open(2, 0)), Err(MuxError::Lane(2)));
    assert_eq!(check(&open(0, 1)), Err(MuxError::Lane(0)));
    let lanes = |count: usize| (1..=count as u16).flat_map(|n| open(2 * n, 1)).collect::<Vec<u8>>();
    assert_eq!(check(&lanes(limits::LANES_MAX)), Ok(()));
    assert_eq!(check(&lanes(limits::LANES_MAX + 1)), Err(MuxError::Lanes));
    let of_relay = |count: usize| {
        let lanes = (0..count as u16).flat_map(|n| open(2 * n + 1, 1)).collect::<Vec<u8>>();
        Incoming::new(Side::Relay).message(&lanes, |_| {})
    };
    assert_eq!(of_relay(limits::LANES_TO_CLIENT_MAX), Ok(()));
    assert_eq!(of_relay(limits::LANES_TO_CLIENT_MAX + 1), Err(MuxError::Lanes));
    let mut twice = open(2, 1).to_vec();
    twice.extend_from_slice(&open(2, 1));
    assert_eq!(check(&twice), Err(MuxError::Lane(2)));
    let mut early = open(2, 1).to_vec();
    early.extend_from_slice(&[2, 0, FIN, 1, 0, 38]);
    assert_eq!(check(&early), Err(MuxError::Boundary(2)));
    let mut flood = open(2, 3).to_vec();
    for _ in 0..5 {
        flood.extend_from_slice(&[2, 0, 0, 0, 64]);
        flood.extend_from_slice(&record(0, 20_000)[..16384]);
    }
    assert!(matches!(check(&flood), Err(MuxError::Record(_) | MuxError::Credit(2))));
}

proptest! {
    /// Whatever the fragment sizes and the reader's pace: every record arrives once, whole, in its lane's order, and
    /// no more than the credit is ever on the way.
    #[test]
    fn records_arrive_in_order_within_credit(
        sizes in proptest::collection::vec((0usize..3, 0usize..90_000), 1..40),
        payload in 1usize..20_000,
        lag in 1usize..8,
    ) {
        let mut out = Outgoing::new(Side::Client);
        let kinds = [LaneKind::Input, LaneKind::Peer, LaneKind::Clipboard];
        let ids = kinds.map(|kind| out.open(LaneKey::plain(kind, Sender(1)), true));
        let mut queues: HashMap<LaneId, VecDeque<Bytes>> = HashMap::new();
        let mut wanted: HashMap<LaneId, Vec<Bytes>> = HashMap::new();
        for (seq, &(lane, size)) in sizes.iter().enumerate() {
            let size = if kinds[lane] == LaneKind::Input { size % 4000 } else { size };
            let record = record(seq as u64, size);
            queues.entry(ids[lane]).or_default().push_back(record.clone());
            wanted.entry(ids[lane]).or_default().push(record);
        }
        let mut incoming = Incoming::new(Side::Client);
        let mut got: HashMap<LaneId, Vec<Bytes>> = HashMap::new();
        let mut unread: VecDeque<(LaneId, usize)> = VecDeque::new();
        loop {
            let mut message = BytesMut::new();
            let source = |id, _: LaneKey| queues.get_mut(&id).and_then(VecDeque::pop_front);
            let sent = out.fragment(payload, source, &mut message).is_some();
            incoming.message(&message, |event| if let Event::Record(id, _, record) = event {
                unread.push_back((id, record.bytes.len()));
                got.entry(id).or_default().push(record.bytes);
            }).unwrap();
            if !sent || unread.len() > lag {
                if let Some((id, len)) = unread.pop_front() {
                    if let Some(credit) = incoming.consumed(id, len) {
                        out.credit(id, credit);
                    }
                } else {
                    // Records larger than the window need credit while they are unfinished.
                    let more = incoming.overdue();
                    if more.is_empty() {
                        break;
                    }
                    more.into_iter().for_each(|(id, credit)| out.credit(id, credit));
                }
            }
        }
        prop_assert_eq!(got, wanted);
    }

    #[test]
    fn garbage_never_panics(message in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Incoming::new(Side::Client).message(&message, |_| {});
    }
}
