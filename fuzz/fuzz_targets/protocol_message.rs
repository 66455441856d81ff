//! Any bytes as the body of a record: the first says of which message, and control's are looked at as a relay does. What
//! is read is written in one way, which is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use tandem_protocol::message::{self, Control, Rights, control, hello};
use tandem_protocol::{AttemptId, Close, Code, LaneKey, Point, SessionId, close, limits};

fuzz_target!(|data: &[u8]| {
    let [which, body @ ..] = data else { return };
    match which {
        0 => {
            again::<Control>(body);
            if let Ok(Some(message)) = Control::decode_body(body) {
                convert(&message);
            }
        }
        1 => again::<message::Key>(body),
        2 => again::<message::Text>(body),
        3 => again::<message::Button>(body),
        4 => again::<message::Wheel>(body),
        5 => again::<message::Motion>(body),
        6 => again::<message::Held>(body),
        7 => again::<message::DisplayLayout>(body),
        8 => again::<message::LockKeys>(body),
        9 => again::<message::PeerPing>(body),
        10 => again::<message::PeerPong>(body),
        11 => again::<message::InputReport>(body),
        12 => again::<message::CursorShape>(body),
        13 => again::<message::CursorPosition>(body),
        14 => again::<message::ChatMessage>(body),
        _ => again::<message::ClipboardText>(body),
    }
});

fn again<T: Message + Default + PartialEq>(body: &[u8]) {
    let Ok(message) = T::decode(body) else { return };
    let written = message.encode_to_vec();
    assert_eq!(message.encoded_len(), written.len());
    assert!(T::decode(&*written).as_ref() == Ok(&message));
}

/// Every checked conversion of what a message holds.
fn convert(message: &control::Message) {
    match message {
        control::Message::Hello(hello) => {
            let _ = AttemptId::try_from(&hello.attempt_id[..]);
            if let Some(hello::Join::Code(code)) = &hello.join
                && let Ok(read) = code.parse::<Code>()
            {
                assert_eq!(read.to_string().parse(), Ok(read));
            }
            hello.received.iter().filter_map(|position| position.lane.as_ref()).for_each(lane);
            hello.showing.iter().filter_map(|shown| shown.point.as_ref()).for_each(point);
        }
        control::Message::Welcome(welcome) => {
            if let Ok(id) = SessionId::try_from(&welcome.session_id[..]) {
                assert_eq!(id.to_string().parse(), Ok(id));
            }
            rights(&welcome.permitted);
        }
        control::Message::Refused(refused) => {
            let close = Close::from_number(refused.code.into());
            assert!(!close.name().is_empty());
            assert!(close::reason(&refused.reason).len() <= limits::REASON_MAX);
        }
        control::Message::Ack(ack) => {
            ack.lane.iter().for_each(lane);
            ack.applied.iter().for_each(point);
        }
        control::Message::Feedback(feedback) => feedback.applied.iter().for_each(point),
        control::Message::Skipped(skipped) => skipped.lane.iter().for_each(lane),
        control::Message::Reopen(reopen) => reopen.lane.iter().for_each(lane),
        control::Message::Grants(grants) => rights(&grants.rights),
        control::Message::Ask(ask) => rights(&ask.rights),
        control::Message::Roster(roster) => {
            roster.participants.iter().for_each(|participant| rights(&participant.rights));
        }
        _ => {}
    }
}

fn lane(sent: &message::Lane) {
    if let Ok(key) = LaneKey::try_from(sent) {
        assert_eq!(message::Lane::from(key), *sent);
        assert_eq!(LaneKey::parse(key.opening()), Ok(key));
    }
}

fn point(sent: &message::Point) {
    if let Ok(point) = Point::try_from(sent) {
        assert_eq!(message::Point::from(point), *sent);
    }
}

fn rights(sent: &[i32]) {
    let rights = Rights::from_wire(sent);
    assert_eq!(Rights::from_wire(&rights.to_wire()), rights);
    assert!(rights.iter().all(|right| sent.contains(&(right as i32))));
}
