//! Every vector is read as what it means and written as its bytes. The console's tests read the same files.

#[path = "common/schema.rs"]
mod schema;
#[path = "common/vector.rs"]
mod vector;

use std::collections::{BTreeSet, HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use prost::Message;
use prost_reflect::{DynamicMessage, ReflectMessage, Value as Field};
use serde_json::{Value, json};
use tandem_protocol::message::{self, Control, control};
use tandem_protocol::mux::{Event, Incoming, LaneId, Outgoing, Side};
use tandem_protocol::record::{HEADER_LEN, SCREEN_HEADER_LEN, START_HEADER_LEN};
use tandem_protocol::{
    Close, DisplayId, Flags, Header, LaneKey, LaneKind, Point, Record, Rendition, ScreenHeader, ScreenKind,
    Sender,
};
use vector::{lane_kind, load, text, unhex};

const MESSAGE_FILES: [&str; 3] = ["control.json", "input.json", "peer.json"];

/// A vector's value in the JSON form that protobuf defines, read by the schema.
fn value_of(vector: &Value) -> DynamicMessage {
    let kind = schema::declared(text(vector, "message"));
    DynamicMessage::deserialize(kind, &vector["value"]).unwrap_or_else(|error| panic!("{vector}: {error}"))
}

#[test]
fn every_message_is_these_bytes_and_they_are_it() {
    for vector in MESSAGE_FILES.into_iter().flat_map(load) {
        let (name, kind, bytes) =
            (text(&vector, "name"), text(&vector, "message"), unhex(text(&vector, "hex")));
        let value = value_of(&vector);
        assert_eq!(value.encode_to_vec(), bytes, "{name}, written by the schema");
        assert_eq!(DynamicMessage::decode(value.descriptor(), &*bytes).as_ref(), Ok(&value), "{name}, read");
        let (_, again) = schema::MESSAGES.iter().find(|(other, _)| *other == kind).expect("a Rust message");
        assert_eq!(again(&bytes).as_ref(), Ok(&bytes), "{name}, read and written by the crate");
    }
}

/// Rust's own names for a few fields of every type, so that these are not only consistent but right.
#[test]
fn the_crate_reads_what_the_vectors_say() {
    let bytes_of = |file, name| {
        let found = load(file).into_iter().find(|vector| text(vector, "name") == name);
        unhex(text(&found.expect("this vector"), "hex"))
    };
    let ack = control::Message::Ack(message::Ack {
        lane: Some(LaneKey::screen(LaneKind::Screen, DisplayId(2), Rendition::REDUCED, Sender(3)).into()),
        received_bytes: 1_000_000,
        epoch: 0x1122_3344_5566_7788,
        received_next_seq: 101,
        applied: Some(Point { rendition: Rendition::REDUCED, segment: 7, seq: 99 }.into()),
        drawn_seq: 98,
        ack_delay_us: 8000,
    });
    assert_eq!(
        Control::decode_body(&bytes_of("control.json", "ack, every field set")),
        Ok(Some(ack.clone()))
    );
    assert_eq!(Control::encode_body(ack), bytes_of("control.json", "ack, every field set"));
    let wheel = message::Wheel {
        x: -120,
        y: 120,
        position: Some(message::Position { display: 2, generation: 5, x: 1, y: i32::MAX }),
    };
    assert_eq!(wheel.encode_to_vec(), bytes_of("input.json", "wheel, every field set"));
    let nobody = bytes_of("control.json", "nothing: a message that nobody knows");
    assert_eq!(Control::decode_body(&nobody), Ok(None));
}

/// A field or an enumeration's value without a vector could change its number and nobody would notice.
#[test]
fn every_field_and_every_name_of_the_schemas_occurs_in_a_vector() {
    fn collect(message: &DynamicMessage, seen: &mut BTreeSet<String>) {
        for (field, value) in message.fields() {
            seen.insert(field.full_name().to_owned());
            let values =
                if let Field::List(list) = value { list.as_slice() } else { std::slice::from_ref(value) };
            for value in values {
                match value {
                    Field::Message(inner) => collect(inner, seen),
                    Field::EnumNumber(number) => {
                        let kind = field.kind();
                        let values = kind.as_enum().expect("an enumeration");
                        seen.extend(values.get_value(*number).map(|value| value.full_name().to_owned()));
                    }
                    _ => {}
                }
            }
        }
    }
    let mut seen = BTreeSet::new();
    MESSAGE_FILES.into_iter().flat_map(load).for_each(|vector| collect(&value_of(&vector), &mut seen));
    let fields = schema::POOL.all_messages().flat_map(|m| m.fields().collect::<Vec<_>>());
    let values = schema::POOL.all_enums().flat_map(|e| e.values().collect::<Vec<_>>());
    let wanted: BTreeSet<String> = fields
        .map(|field| field.full_name().to_owned())
        .chain(values.filter(|value| value.number() != 0).map(|value| value.full_name().to_owned()))
        .collect();
    assert_eq!(wanted.difference(&seen).collect::<Vec<_>>(), Vec::<&String>::new(), "without a vector");
    let names: BTreeSet<String> = schema::POOL.all_messages().map(|m| m.name().to_owned()).collect();
    assert_eq!(names, schema::MESSAGES.iter().map(|(name, _)| (*name).to_owned()).collect(), "in Rust");
}

fn key_of(value: &Value) -> LaneKey {
    let number = |member: &str| value[member].as_u64().expect("a number");
    LaneKey {
        kind: lane_kind(text(value, "kind")),
        display: DisplayId(number("display") as u16),
        rendition: Rendition(number("rendition") as u8),
        sender: Sender(number("sender") as u16),
    }
}

#[test]
fn every_opening_is_these_bytes_and_they_are_it() {
    let mut kinds = BTreeSet::from([LaneKind::Control]);
    for vector in load("lanes.json") {
        let (key, bytes) = (key_of(&vector["value"]), unhex(text(&vector, "hex")));
        assert_eq!(key.opening()[..], bytes, "{}", vector["name"]);
        assert_eq!(LaneKey::parse(bytes.try_into().expect("six bytes")), Ok(key), "{}", vector["name"]);
        kinds.insert(key.kind);
    }
    assert_eq!(kinds, BTreeSet::from(LaneKind::ALL));
}

/// A number, or one of 64 bits as text, decimal or `0x`.
fn wide(value: &Value) -> u64 {
    let Some(text) = value.as_str() else { return value.as_u64().expect("a number") };
    let parsed =
        text.strip_prefix("0x").map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16));
    parsed.expect("a number as text")
}

fn header_of(value: &Value) -> Header {
    let narrow = |value: &Value| u16::try_from(wide(value)).expect("two bytes");
    let byte = |value: &Value| u8::try_from(wide(value)).expect("a byte");
    let four = |value: &Value| u32::try_from(wide(value)).expect("four bytes");
    let point = |from: &Value| Point {
        rendition: Rendition(byte(&from["rendition"])),
        segment: four(&from["segment"]),
        seq: wide(&from["seq"]),
    };
    let screen = value.get("screen").map(|screen| ScreenHeader {
        display: DisplayId(narrow(&screen["display"])),
        rendition: Rendition(byte(&screen["rendition"])),
        segment: four(&screen["segment"]),
        kind: match text(screen, "kind") {
            "update" => ScreenKind::Update,
            "start" => ScreenKind::Start { from: screen["from"].is_object().then(|| point(&screen["from"])) },
            "key" => ScreenKind::Key,
            other => panic!("no screen record is a {other}"),
        },
    });
    Header {
        record_type: byte(&value["type"]),
        flags: Flags(narrow(&value["flags"])),
        sender: Sender(narrow(&value["sender"])),
        key_id: four(&value["key_id"]),
        epoch: wide(&value["epoch"]),
        seq: wide(&value["seq"]),
        time_us: wide(&value["time_us"]),
        screen,
    }
}

#[test]
fn every_record_is_these_bytes_and_they_are_it() {
    let mut lengths = BTreeSet::new();
    for vector in load("records.json") {
        let (name, lane, value) = (text(&vector, "name"), lane_kind(text(&vector, "lane")), &vector["value"]);
        let (header, body, bytes) =
            (header_of(value), unhex(text(value, "body")), unhex(text(&vector, "hex")));
        let extension = unhex(value["extension"].as_str().unwrap_or_default());
        let mut buffer = BytesMut::from(&bytes[..]);
        buffer.extend_from_slice(b"the next record");
        let record = Record::split_from(lane, &mut buffer).expect("a record").expect("a whole one");
        assert_eq!(record.header, header, "{name}");
        assert_eq!(record.body(), body, "{name}");
        assert_eq!(record.bytes, bytes, "{name}, forwarded");
        assert_eq!(record.bytes[header.encoded_len()..record.body_at], extension, "{name}");
        assert_eq!(buffer, &b"the next record"[..], "{name}");
        if extension.is_empty() {
            assert_eq!(Record::new(header, &body), record, "{name}, written");
            lengths.insert(record.body_at);
        }
        for short in 0..bytes.len() {
            let mut part = BytesMut::from(&bytes[..short]);
            assert_eq!(Record::split_from(lane, &mut part), Ok(None), "{short} bytes of {name}");
        }
    }
    assert_eq!(lengths, BTreeSet::from([HEADER_LEN, SCREEN_HEADER_LEN, START_HEADER_LEN]));
}

fn side(vector: &Value) -> Side {
    if text(vector, "sender") == "client" { Side::Client } else { Side::Relay }
}

/// Sends as the vector's actions say and answers the fragments, each on its own.
fn send(vector: &Value) -> Vec<Vec<u8>> {
    let mut out = Outgoing::new(side(vector));
    let mut queues: HashMap<LaneId, VecDeque<Bytes>> = HashMap::new();
    let mut fragments = Vec::new();
    for action in vector["actions"].as_array().expect("actions") {
        let (verb, operand) = action
            .as_object()
            .and_then(|members| members.iter().find(|(_, v)| v.is_u64()))
            .expect("an action");
        let number = operand.as_u64().expect("a number");
        let id = LaneId(number as u16);
        let mut bytes = BytesMut::new();
        match verb.as_str() {
            "open" => assert_eq!(out.open(key_of(&action["lane"]), true), id),
            "send" => queues.entry(id).or_default().push_back(unhex(text(action, "record")).into()),
            "finish" => out.finish(id),
            "reset" => drop(out.reset(id, &mut bytes)),
            "fragment" => {
                let next = |id, _| queues.get_mut(&id).and_then(VecDeque::pop_front);
                assert!(out.fragment(number as usize, next, &mut bytes).is_some(), "{action} sends nothing");
            }
            other => panic!("unknown action {other}"),
        }
        fragments.extend((!bytes.is_empty()).then(|| bytes.to_vec()));
    }
    fragments
}

/// What arrives with these messages, as the vectors say it, but for records, which are given as bytes.
fn receive(sender: Side, messages: &[Vec<u8>]) -> Vec<(Value, Vec<u8>)> {
    let mut incoming = Incoming::new(sender);
    let mut events = Vec::new();
    for message in messages {
        let on = |event| {
            events.push(match event {
                Event::Opened(id, key) => (json!({"opened": id.0}), key.opening().to_vec()),
                Event::Record(id, _, record) => (json!({"record": id.0}), record.bytes.to_vec()),
                Event::Finished(id, _) => (json!({"finished": id.0}), Vec::new()),
                Event::Reset(id, _) => (json!({"reset": id.0}), Vec::new()),
            });
        };
        incoming.message(message, on).expect("a message");
    }
    events
}

#[test]
fn fragments_are_these_bytes_and_carry_these_records() {
    for vector in load("fragments.json") {
        let name = text(&vector, "name");
        let hex = vector["hex"].as_array().expect("fragments");
        let fragments: Vec<_> = hex.iter().map(|words| unhex(words.as_str().expect("hex"))).collect();
        assert_eq!(send(&vector), fragments, "{name}");
        let expected = vector["events"].as_array().expect("events").iter().map(|event| {
            let mut event = event.as_object().expect("an event").clone();
            let bytes = match (event.remove("hex"), event.remove("lane")) {
                (Some(hex), None) => unhex(hex.as_str().expect("hex")),
                (None, Some(lane)) => key_of(&lane).opening().to_vec(),
                _ => Vec::new(),
            };
            (Value::from(event), bytes)
        });
        let expected: Vec<_> = expected.collect();
        assert_eq!(receive(side(&vector), &fragments), expected, "{name}, a message each");
        assert_eq!(receive(side(&vector), &[fragments.concat()]), expected, "{name}, in one message");
    }
}

#[test]
fn what_must_be_refused_is_refused_for_its_reason() {
    for vector in load("refused.json") {
        let bytes = unhex(text(&vector, "hex"));
        let error = if let Some(lane) = vector["lane"].as_str() {
            let error = Header::parse(lane_kind(lane), &bytes).expect_err(text(&vector, "name"));
            format!("{error:?}")
        } else {
            let error = Incoming::new(side(&vector)).message(&bytes, |_| {});
            format!("{:?}", error.expect_err(text(&vector, "name")))
        };
        let reason = error.split(|c: char| !c.is_alphanumeric()).next();
        assert_eq!(reason, vector["error"].as_str(), "{}: {error}", vector["name"]);
    }
}

#[test]
fn every_close_code_has_this_number_on_each_binding() {
    let vectors = load("closes.json");
    for vector in &vectors {
        let close = Close::from_number(wide(&vector["number"]));
        let websocket = wide(&vector["websocket"]) as u16;
        assert_eq!(close.websocket(), websocket, "{vector}");
        assert_eq!(Close::from_websocket(websocket), Some(close), "{vector}");
        assert_eq!(close.name(), text(vector, "name"));
        assert_eq!(format!("{:?}", close.fault()).to_lowercase(), text(vector, "fault"), "{vector}");
        assert_eq!(format!("{:?}", close.retry()).to_lowercase(), text(vector, "retry"), "{vector}");
    }
    let known = vectors.iter().filter(|vector| text(vector, "name") != "unknown");
    assert!(
        known
            .map(|vector| wide(&vector["number"]))
            .eq(Close::ALL.iter().map(|close| u64::from(close.number())))
    );
}
