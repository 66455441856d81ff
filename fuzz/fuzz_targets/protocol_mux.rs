//! Any bytes as a WebSocket's messages. The first says whose lanes they are and whether the reader keeps up; each message
//! follows its length, two bytes.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use tandem_protocol::mux::{Event, Incoming, LaneId, Side};
use tandem_protocol::{Header, LaneKey, LaneKind, Record, limits};

fuzz_target!(|data: &[u8]| {
    let [how, rest @ ..] = data else { return };
    let mut incoming = Incoming::new(if how & 1 == 0 { Side::Client } else { Side::Relay });
    let mut open: HashMap<LaneId, LaneKey> = HashMap::from([(LaneId::CONTROL, LaneKey::CONTROL)]);
    let mut granted: HashMap<LaneId, u64> = HashMap::new();
    let mut rest = rest;
    while let [low, high, bytes @ ..] = rest {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(bytes.len());
        let (message, next) = bytes.split_at(len);
        let mut consumed = Vec::new();
        let outcome = incoming.message(message, |event| match event {
            Event::Opened(id, key) => {
                assert_ne!(key.kind, LaneKind::Control);
                assert_eq!(id.0 & 1, u16::from(how & 1));
                assert!(open.insert(id, key).is_none(), "opened twice");
                granted.insert(id, key.kind.credit());
                assert!(open.len() <= limits::LANES_TO_CLIENT_MAX + 1);
            }
            Event::Record(id, key, record) => {
                assert_eq!(open.get(&id), Some(&key));
                check(key.kind, &record);
                consumed.push((id, record.bytes.len()));
            }
            Event::Finished(id, key) | Event::Reset(id, key) => assert_eq!(open.remove(&id), Some(key)),
        });
        if outcome.is_err() {
            return;
        }
        let credits = consumed.into_iter().filter(|_| how & 2 == 0);
        let mut credits: Vec<_> =
            credits.filter_map(|(id, bytes)| Some((id, incoming.consumed(id, bytes)?))).collect();
        credits.extend(incoming.overdue());
        for (id, credit) in credits {
            let before = granted.insert(id, credit).expect("credit is for open lanes");
            assert!(credit > before, "credit never goes down");
        }
        rest = next;
    }
});

fn check(lane: LaneKind, record: &Record) {
    let (header, layout) = Header::parse(lane, &record.bytes).expect("a header").expect("a whole one");
    assert_eq!(header, record.header);
    assert_eq!(layout.record_len(), record.bytes.len());
    assert_eq!(layout.header_len, record.body_at);
    assert!(record.body().len() <= lane.body_max());
}
