//! docs/protocol.md says what the code does: its tables, its worked examples and the numbers in its sentences.

#[path = "common/vector.rs"]
mod vector;

use std::time::Duration;

use tandem_protocol::close::WEBSOCKET_BASE;
use tandem_protocol::message::types;
use tandem_protocol::record::{HEADER_LEN, SCREEN_HEADER_LEN, START_HEADER_LEN};
use tandem_protocol::{Close, DisplayId, Flags, LaneKey, LaneKind, Rendition, Sender, limits, mux};
use vector::{lane_kind, load, text, unhex};

const DOCUMENT: &str = include_str!("../../docs/protocol.md");

/// The rows of the table with this first line, below its rule.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let mut lines = DOCUMENT.lines().skip_while(|line| *line != head);
    assert!(lines.next().is_some(), "the document has no table {head}");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The bytes of a worked example: what stands before two spaces in each line of the block below its heading.
fn example(heading: &str) -> Vec<u8> {
    let heading = format!("### Vector: {heading}");
    let mut lines = DOCUMENT.lines().skip_while(|line| *line != heading);
    assert!(lines.next().is_some(), "the document has no {heading}");
    let block = lines.skip_while(|line| *line != "```").skip(1).take_while(|line| *line != "```");
    block.flat_map(|line| unhex(line.split("  ").next().unwrap_or_default())).collect()
}

/// The bytes of a vector.
fn named(file: &str, name: &str) -> Vec<u8> {
    let found = load(file).into_iter().find(|vector| text(vector, "name") == name);
    let found = found.unwrap_or_else(|| panic!("{file} has no {name}"));
    match found["hex"].as_array() {
        Some(words) => words.iter().flat_map(|words| unhex(words.as_str().expect("hex"))).collect(),
        None => unhex(text(&found, "hex")),
    }
}

/// A number of bytes as the document writes it.
fn size(bytes: u64) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

fn size_of(bytes: usize) -> String {
    size(bytes as u64)
}

#[test]
fn the_table_of_lanes_is_the_code() {
    let head = "| kind | name | from → to | priority | most bytes of a body | credit at first | right of the subscriber |";
    let rows = table(head);
    assert_eq!(rows.len(), LaneKind::ALL.len());
    for (row, kind) in rows.iter().zip(LaneKind::ALL) {
        let [number, name, _, priority, body_max, credit, right] = row[..] else { panic!("{row:?}") };
        assert_eq!(number, (kind as u8).to_string(), "{row:?}");
        assert_eq!(lane_kind(name), kind, "{row:?}");
        assert_eq!(LaneKind::from_wire(kind as u8), Some(kind));
        let urgency = |rendition, focused| {
            LaneKey::screen(kind, DisplayId(0), rendition, Sender(1)).priority(focused).0
        };
        let (focused, live, reduced) = (
            urgency(Rendition::LIVE, true),
            urgency(Rendition::LIVE, false),
            urgency(Rendition::REDUCED, true),
        );
        if focused == live && live == reduced {
            assert_eq!(priority, live.to_string(), "{row:?}");
        } else {
            assert_eq!(priority, format!("{focused} live and focused, {live} live, {reduced} reduced"));
        }
        assert_eq!(body_max, size_of(kind.body_max()), "{row:?}");
        let none_needed = kind == LaneKind::Control;
        assert_eq!(credit, if none_needed { "none needed".into() } else { size(kind.credit()) }, "{row:?}");
        let words = |to_subscriber| {
            kind.right(to_subscriber)
                .map(|right| right.as_str_name()["RIGHT_".len()..].to_lowercase().replace('_', " "))
        };
        let expected = match (words(false), words(true)) {
            (None, None) if kind == LaneKind::Control => String::new(),
            (None, None) => "none".into(),
            (Some(send), Some(receive)) if send == receive => send,
            (Some(send), Some(receive)) => format!("{} or {receive}", send.trim_end_matches(" files")),
            odd => panic!("{kind:?} needs {odd:?}"),
        };
        assert_eq!(right, expected, "{row:?}");
    }
}

#[test]
fn the_table_of_the_header_is_the_code() {
    let rows = table("| at | bytes | field | |");
    // Every byte of this record's header is another than its neighbours: its own place, but for header_len, the type,
    // the screen record's kind and body_len.
    let bytes = named("records.json", "every byte of the header its own");
    let mut end = 0;
    for row in &rows {
        let (at, len): (usize, usize) = (row[0].parse().expect("a place"), row[1].parse().expect("a length"));
        assert_eq!(at, end, "{row:?}: fields follow one another");
        end = at + len;
        match row[2] {
            "header_len" => assert_eq!(usize::from(bytes[at]), START_HEADER_LEN),
            "type" | "kind" => assert_eq!(bytes[at], 1),
            "body_len" => assert_eq!(bytes[at..end], [1, 0, 0, 0]),
            _ => assert!((at..end).all(|at| usize::from(bytes[at]) == at), "{row:?}"),
        }
    }
    let place = |field: &str| rows.iter().find(|row| row[2] == field).expect("a field")[0].to_owned();
    assert_eq!(place("display"), HEADER_LEN.to_string());
    assert_eq!(place("from.rendition"), SCREEN_HEADER_LEN.to_string());
    assert_eq!(end, START_HEADER_LEN);
    let lengths = format!(
        "{HEADER_LEN}; {SCREEN_HEADER_LEN} on screen and key lanes; {START_HEADER_LEN} for a start. More: an \
         extension, forwarded and ignored; at most {}",
        limits::HEADER_MAX
    );
    assert_eq!(rows[0][3], lengths);
    let (latest, sealed, more) = (Flags::LATEST.0, Flags::SEALED.0, Flags::MORE.0);
    assert_eq!(rows[2][3], format!("{latest} latest, {sealed} sealed, {more} more; others 0, ignored"));
}

#[test]
fn the_table_of_record_types_is_the_code() {
    let list = |entries: &[(u8, &str)]| {
        let entries: Vec<_> = entries.iter().map(|(number, name)| format!("{number} {name}")).collect();
        entries.join(", ")
    };
    let expected = [
        ("control", types::CONTROL.to_string()),
        (
            "input",
            list(&[
                (types::KEY, "Key"),
                (types::TEXT, "Text"),
                (types::BUTTON, "Button"),
                (types::WHEEL, "Wheel"),
                (types::MOTION, "Motion"),
                (types::HELD, "Held"),
            ]),
        ),
        ("chat", types::CHAT.to_string()),
        (
            "peer",
            list(&[
                (types::DISPLAY_LAYOUT, "DisplayLayout (latest)"),
                (types::LOCK_KEYS, "LockKeys (latest)"),
                (types::PEER_PING, "PeerPing"),
                (types::PEER_PONG, "PeerPong"),
                (types::INPUT_REPORT, "InputReport"),
                (types::CAPABILITIES, "Capabilities"),
            ]),
        ),
        (
            "cursor",
            list(&[
                (types::CURSOR_SHAPE, "CursorShape (latest)"),
                (types::CURSOR_POSITION, "CursorPosition (latest)"),
            ]),
        ),
        ("screen, key", types::SCREEN.to_string()),
        ("clipboard", types::CLIPBOARD_TEXT.to_string()),
    ];
    let rows = table("| lane | type | body |");
    let rows: Vec<_> = rows.iter().map(|row| (row[0], row[1].to_owned())).collect();
    assert_eq!(rows, expected);
}

#[test]
fn the_table_of_close_codes_is_the_code() {
    let rows = table("| number | name | fault | try again |");
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row[0].to_owned(),
                row[1].split(':').next().unwrap_or_default(),
                row[2].to_owned(),
                row[3].to_owned(),
            )
        })
        .collect();
    let lower = |name: String| name.to_lowercase();
    let expected: Vec<_> = Close::ALL
        .iter()
        .map(|close| {
            let (fault, retry) = (format!("{:?}", close.fault()), format!("{:?}", close.retry()));
            (close.number().to_string(), close.name(), lower(fault), lower(retry))
        })
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn the_table_of_limits_is_the_code() {
    let before = format!("{}, {} s", size_of(limits::UNADMITTED_MAX), limits::ADMISSION_TIME.as_secs());
    let side = limits::PICTURE_SIDE_MAX;
    let cursor = limits::CURSOR_SIDE_MAX;
    let expected = [
        ("before `Welcome`", before),
        ("header, body", format!("{}; by lane (section 2)", size_of(limits::HEADER_MAX))),
        (
            "lanes beside control, from a client; from the relay",
            format!("{}; {}", limits::LANES_MAX, limits::LANES_TO_CLIENT_MAX),
        ),
        ("participants of a session", limits::PARTICIPANTS_MAX.to_string()),
        ("displays of a session", limits::DISPLAYS_MAX.to_string()),
        ("picture", format!("{side} × {side}")),
        ("cursor", format!("{cursor} × {cursor}")),
        ("copies in an update", limits::COPIES_MAX.to_string()),
        ("update or key of several records", size_of(limits::ASSEMBLED_MAX)),
        ("segment held by the relay", size_of(limits::HELD_SEGMENT_MAX)),
    ];
    let rows = table("| what | limit |");
    let rows: Vec<_> = rows.iter().map(|row| (row[0], row[1].to_owned())).collect();
    assert_eq!(rows, expected);
}

#[test]
fn the_numbers_in_its_sentences_are_the_code() {
    let prose = DOCUMENT.split_whitespace().collect::<Vec<_>>().join(" ");
    let utf8 = |bytes: &'static [u8]| std::str::from_utf8(bytes).expect("ASCII");
    let ms = |time: Duration| format!("{} ms", time.as_millis());
    let s = |time: Duration| format!("{} s", time.as_secs());
    let sentences = [
        format!("Version {}.", limits::VERSION),
        format!("ALPN `{}`", utf8(limits::ALPN_QUIC)),
        format!("ALPN `{}`, path `{}`", utf8(limits::ALPN_H3), limits::CONNECT_PATH),
        format!("path `{}`, subprotocol `{}`", limits::CONNECT_PATH, limits::WEBSOCKET_PROTOCOL),
        format!("`GET {}`", limits::WELL_KNOWN_PATH),
        format!("the WebSocket {} later", ms(limits::RACE_HEAD_START)),
        format!("first bytes are its **opening**, {} bytes", LaneKey::OPENING_LEN),
        format!("such bodies are at most {}", size_of(limits::ASSEMBLED_MAX)),
        format!("whole fragments and at most {}", size_of(limits::MESSAGE_MAX)),
        format!("At most {} lanes beside control are open", limits::LANES_MAX),
        format!("from a client, and {} from the relay", limits::LANES_TO_CLIENT_MAX),
        format!("{} *first*", mux::FIRST),
        format!("{} *last*", mux::LAST),
        format!("{} *reset*", mux::RESET),
        format!("{} *fin*", mux::FIN),
        format!("at most min({}, {} of the path", size_of(limits::FRAGMENT_MAX), ms(limits::FRAGMENT_TIME)),
        format!("unless the record ends, at least {}", limits::FRAGMENT_MIN),
        format!("may send {} in all and has {}", size_of(limits::UNADMITTED_MAX), s(limits::ADMISSION_TIME)),
        format!("(input {}, screen {})", size_of(limits::RESEND_INPUT), size_of(limits::RESEND_SCREEN)),
        format!("*but not what is older than {}*", s(limits::INPUT_AGE_MAX)),
        format!("at most {} a second, at least {} while", limits::FEEDBACK_MAX, limits::FEEDBACK_MIN),
        format!("acknowledges anything for {} is closed with `stalled`", s(limits::STALLED_TIME)),
        format!(
            "({} while active or reconnecting, {} while waiting)",
            s(limits::HEARTBEAT_ACTIVE),
            s(limits::HEARTBEAT_WAITING)
        ),
        format!("are restated every {} (`Held`)", ms(limits::HELD_EVERY)),
        format!("released by the applet after {} of silence", ms(limits::HELD_SILENCE)),
        format!(
            "WebSocket with {WEBSOCKET_BASE} + number; the reason is at most {} bytes",
            limits::REASON_MAX
        ),
    ];
    let missing: Vec<_> = sentences.iter().filter(|sentence| !prose.contains(*sentence)).collect();
    assert!(missing.is_empty(), "the document does not say: {missing:#?}");
}

#[test]
fn its_worked_examples_are_vectors() {
    let first = [named("lanes.json", "input"), named("records.json", "a key pressed")].concat();
    assert_eq!(example("an input lane's first bytes"), first);
    assert_eq!(example("a Hello with a code"), named("control.json", "hello, with a code"));
    assert_eq!(example("an update's header"), named("records.json", "an update")[..SCREEN_HEADER_LEN]);
    assert_eq!(
        example("a record in two WebSocket fragments"),
        named("fragments.json", "a record cut in two")
    );
}
