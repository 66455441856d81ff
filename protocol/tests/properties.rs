//! What holds for any message, any header and any bytes.

#[path = "common/schema.rs"]
mod schema;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use tandem_protocol::message::{self, Control, Right, Rights};
use tandem_protocol::{
    Assembler, AttemptId, Close, Code, DisplayId, Flags, Header, LaneKey, LaneKind, Point, Record, Rendition,
    ScreenHeader, ScreenKind, Sender, SessionId, close, limits,
};

/// Any value of a field, repeated or not.
fn value(field: &FieldDescriptor) -> BoxedStrategy<Value> {
    let one = match field.kind() {
        Kind::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Kind::Uint32 => any::<u32>().prop_map(Value::U32).boxed(),
        Kind::Uint64 => any::<u64>().prop_map(Value::U64).boxed(),
        Kind::Sint32 => any::<i32>().prop_map(Value::I32).boxed(),
        Kind::String => any::<String>().prop_map(Value::String).boxed(),
        Kind::Bytes => any::<Vec<u8>>().prop_map(|bytes| Value::Bytes(Bytes::from(bytes))).boxed(),
        // Numbers of later versions included.
        Kind::Enum(_) => prop_oneof![0..9, any::<i32>()].prop_map(Value::EnumNumber).boxed(),
        Kind::Message(inner) => message(inner).prop_map(Value::Message).boxed(),
        other => panic!("the schemas did not use {other:?} so far: say here what it may hold"),
    };
    if field.is_list() { prop::collection::vec(one, 0..4).prop_map(Value::List).boxed() } else { one }
}

/// Any message of this kind: each field set or not, at most one of a `oneof`.
fn message(kind: MessageDescriptor) -> BoxedStrategy<DynamicMessage> {
    let fields: Vec<FieldDescriptor> = kind.fields().collect();
    let values: Vec<_> = fields.iter().map(|field| prop::option::weighted(0.8, value(field))).collect();
    (values, any::<Index>())
        .prop_map(move |(values, index)| {
            let mut message = DynamicMessage::new(kind.clone());
            for (field, value) in fields.iter().zip(values) {
                let chosen =
                    field.containing_oneof().filter(|oneof| !oneof.is_synthetic()).is_none_or(|oneof| {
                        let members: Vec<_> = oneof.fields().collect();
                        &members[index.index(members.len())] == field
                    });
                if let Some(value) = value.filter(|_| chosen) {
                    message.set_field(field, value);
                }
            }
            message
        })
        .boxed()
}

/// Any message at all, with its name's place in [`schema::MESSAGES`].
fn any_message() -> impl Strategy<Value = (usize, DynamicMessage)> {
    let kinds = schema::MESSAGES.iter().enumerate();
    let kinds = kinds.map(|(at, (name, _))| (Just(at), message(schema::declared(name))).boxed());
    prop::strategy::Union::new(kinds.collect::<Vec<_>>())
}

/// A field with a number that no version so far has given, in every wire type that is not deprecated.
fn unknown_field() -> impl Strategy<Value = Vec<u8>> {
    let length_delimited = prop::collection::vec(any::<u8>(), 0..20);
    (100u32..(1 << 28), 0u8..4, any::<u64>(), length_delimited).prop_map(|(number, kind, bits, content)| {
        let mut bytes = Vec::new();
        let mut tag = |wire| prost::encoding::encode_varint(u64::from(number << 3 | wire), &mut bytes);
        match kind {
            0 => {
                tag(0);
                prost::encoding::encode_varint(bits, &mut bytes);
            }
            1 => {
                tag(1);
                bytes.extend_from_slice(&bits.to_le_bytes());
            }
            2 => {
                tag(2);
                prost::encoding::encode_varint(content.len() as u64, &mut bytes);
                bytes.extend_from_slice(&content);
            }
            _ => {
                tag(5);
                bytes.extend_from_slice(&(bits as u32).to_le_bytes());
            }
        }
        bytes
    })
}

fn any_kind() -> impl Strategy<Value = LaneKind> {
    prop::sample::select(&LaneKind::ALL[..])
}

/// Any header that may stand on such a lane.
fn header(lane: LaneKind) -> impl Strategy<Value = Header> {
    // 255 says that there is no predecessor, so it is no rendition.
    let point = (0u8..255, any::<u32>(), any::<u64>()).prop_map(|(rendition, segment, seq)| Point {
        rendition: Rendition(rendition),
        segment,
        seq,
    });
    let kind = match lane {
        LaneKind::Key => Just(ScreenKind::Key).boxed(),
        _ => prop_oneof![
            Just(ScreenKind::Update),
            prop::option::of(point).prop_map(|from| ScreenKind::Start { from })
        ]
        .boxed(),
    };
    let screen =
        (any::<u16>(), any::<u8>(), any::<u32>(), kind).prop_map(|(display, rendition, segment, kind)| {
            ScreenHeader { display: DisplayId(display), rendition: Rendition(rendition), segment, kind }
        });
    let plain = (any::<u8>(), any::<u16>(), any::<u16>(), any::<u32>());
    (plain, any::<[u64; 3]>(), screen).prop_map(
        move |((record_type, flags, sender, key_id), [epoch, seq, time_us], screen)| Header {
            record_type,
            flags: Flags(flags),
            sender: Sender(sender),
            key_id,
            epoch,
            seq,
            time_us,
            screen: lane.is_screen().then_some(screen),
        },
    )
}

fn any_record() -> impl Strategy<Value = (LaneKind, Header, Vec<u8>)> {
    any_kind().prop_flat_map(|lane| (Just(lane), header(lane), prop::collection::vec(any::<u8>(), 0..300)))
}

/// Bytes that are a header in most places, so that the checks behind the first are reached.
fn near_header() -> impl Strategy<Value = (LaneKind, Vec<u8>)> {
    let noise = prop::collection::vec((any::<Index>(), any::<u8>()), 0..4);
    let tail = prop::collection::vec(any::<u8>(), limits::HEADER_MAX);
    (any_record(), noise, tail, prop_oneof![Just(0u8), any::<u8>()]).prop_map(
        |((lane, header, body), noise, tail, len)| {
            let mut bytes = header.record(&body).to_vec();
            bytes.extend_from_slice(&tail);
            noise.into_iter().for_each(|(at, byte)| *at.get_mut(&mut bytes) = byte);
            if len > 0 {
                bytes[0] = len;
            }
            (lane, bytes)
        },
    )
}

/// What [`Header::parse`] promises about any bytes.
fn check_header(lane: LaneKind, bytes: &[u8]) -> Result<(), TestCaseError> {
    let whole = Header::parse(lane, bytes);
    match whole {
        Ok(None) => prop_assert!(bytes.len() < limits::HEADER_MAX, "{} bytes do not suffice", bytes.len()),
        Ok(Some((header, layout))) => {
            prop_assert!(layout.body_len <= lane.body_max());
            prop_assert!(
                layout.header_len <= limits::HEADER_MAX && layout.header_len >= header.encoded_len()
            );
            prop_assert_eq!(layout.record_len(), layout.header_len + layout.body_len);
            prop_assert_eq!(header.screen.is_some(), lane.is_screen());
        }
        Err(_) => {}
    }
    // What fewer bytes refuse, more do not make good; and a verdict stays.
    for len in 0..bytes.len().min(limits::HEADER_MAX) {
        let part = Header::parse(lane, &bytes[..len]);
        prop_assert!(part == Ok(None) || part == whole, "{:?} of {} bytes, {:?} of all", part, len, whole);
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_message_survives_the_wire((at, message) in any_message()) {
        let (name, again) = schema::MESSAGES[at];
        let bytes = message.encode_to_vec();
        let written = again(&bytes);
        prop_assert_eq!(written.as_ref(), Ok(&bytes), "{}", name);
    }

    #[test]
    fn fields_of_later_versions_are_ignored(
        (at, message) in any_message(), before in unknown_field(), after in unknown_field(),
    ) {
        let bytes = message.encode_to_vec();
        let written = schema::MESSAGES[at].1(&[&before[..], &bytes, &after].concat());
        prop_assert_eq!(written, Ok(bytes), "{}", schema::MESSAGES[at].0);
    }

    #[test]
    fn control_messages_of_later_versions_are_ignored(unknown in unknown_field()) {
        prop_assert_eq!(Control::decode_body(&unknown), Ok(None));
    }

    /// What bytes are read as is written in one way, which is read as the same.
    #[test]
    fn any_bytes_as_a_message_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for (name, again) in schema::MESSAGES {
            let Ok(written) = again(&bytes) else { continue };
            prop_assert_eq!(again(&written), Ok(written.clone()), "{}", name);
        }
    }

    #[test]
    fn any_record_survives_the_wire((lane, header, body) in any_record(), cut in any::<Index>()) {
        prop_assume!(body.len() <= lane.body_max());
        let record = Record::new(header, &body);
        prop_assert_eq!(record.body_at, header.encoded_len());
        let cut = cut.index(record.bytes.len());
        let mut buffer = BytesMut::from(&record.bytes[..cut]);
        prop_assert_eq!(Record::split_from(lane, &mut buffer), Ok(None));
        buffer.extend_from_slice(&record.bytes[cut..]);
        prop_assert_eq!(Record::split_from(lane, &mut buffer), Ok(Some(record)));
        prop_assert!(buffer.is_empty());
    }

    /// However a lane's bytes are cut, its records come out the same, and each in memory of its own.
    #[test]
    fn records_are_put_together_from_any_pieces(
        (lane, header, body) in any_record(), count in 1usize..4, broken in any::<bool>(),
        cuts in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        prop_assume!(body.len() <= lane.body_max());
        let record = Record::new(header, &body);
        let mut bytes = record.bytes.repeat(count);
        if broken {
            bytes.push(0);
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let (mut records, mut came, mut failed) = (Assembler::new(lane), Vec::new(), false);
        for piece in cuts.windows(2) {
            let mut piece = &bytes[piece[0]..piece[1]];
            while let Some(record) = records.next(&mut piece).unwrap_or_else(|_| { failed = true; None }) {
                prop_assert!(record.bytes.is_unique());
                came.push(record);
            }
            prop_assert!(failed || piece.is_empty());
        }
        prop_assert_eq!((came, failed), (vec![record; count], broken));
        prop_assert!(broken || records.is_empty());
    }

    #[test]
    fn what_a_later_version_appends_to_a_header_is_kept(
        (lane, header, body) in any_record(), extension in prop::collection::vec(any::<u8>(), 1..70),
    ) {
        let plain = header.record(&body);
        let known = header.encoded_len();
        let header_len = known + extension.len();
        prop_assume!(header_len <= limits::HEADER_MAX);
        let mut bytes = [&plain[..known], &extension, &body].concat();
        bytes[0] = header_len as u8;
        let record = Record::split_from(lane, &mut BytesMut::from(&bytes[..]));
        let record = record.expect("a record").expect("a whole one");
        prop_assert_eq!(record.header, header);
        prop_assert_eq!(record.body(), &body[..]);
        prop_assert_eq!(&record.bytes[..], &bytes[..]);
    }

    #[test]
    fn any_bytes_as_a_header_do_no_harm(lane in any_kind(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_header(lane, &bytes)?;
    }

    #[test]
    fn bytes_that_are_nearly_a_header_do_no_harm((lane, bytes) in near_header()) {
        check_header(lane, &bytes)?;
    }

    /// Nothing is reserved for a body before its length is known to be allowed.
    #[test]
    fn a_buffer_never_grows_beyond_one_record((lane, bytes) in near_header(), len in 0usize..200) {
        let mut buffer = BytesMut::from(&bytes[..len.min(bytes.len())]);
        if Record::split_from(lane, &mut buffer) == Ok(None) {
            prop_assert!(buffer.capacity() <= 2 * (limits::HEADER_MAX + lane.body_max() + 200));
        }
    }

    #[test]
    fn any_opening_is_a_lane_of_a_known_kind_or_none(opening in any::<[u8; LaneKey::OPENING_LEN]>()) {
        match LaneKey::parse(opening) {
            Ok(key) => prop_assert_eq!(key.opening(), opening),
            Err(_) => prop_assert!(opening[0] > LaneKind::File as u8),
        }
    }

    #[test]
    fn a_lane_in_a_message_is_one_that_can_be_opened(
        kind in prop_oneof![0u32..12, any::<u32>()], display in prop_oneof![0u32..70_000, any::<u32>()],
        rendition in prop_oneof![0u32..300, any::<u32>()], sender in prop_oneof![0u32..70_000, any::<u32>()],
    ) {
        let lane = message::Lane { kind, display, rendition, sender };
        let fits = kind <= 9 && display <= 0xffff && rendition <= 0xff && sender <= 0xffff;
        let key = LaneKey::try_from(&lane);
        prop_assert_eq!(key.is_ok(), fits);
        prop_assert!(key.is_err() || message::Lane::from(key.unwrap()) == lane);
    }

    #[test]
    fn a_point_in_a_message_fits_a_header(
        rendition in prop_oneof![0u32..300, any::<u32>()], segment in any::<u32>(), seq in any::<u64>(),
    ) {
        let sent = message::Point { rendition, segment, seq };
        let point = Point::try_from(&sent);
        prop_assert_eq!(point.is_ok(), rendition <= 0xff);
        prop_assert!(point.is_err() || message::Point::from(point.unwrap()) == sent);
    }

    #[test]
    fn rights_are_those_that_have_a_name(numbers in prop::collection::vec(prop_oneof![-2i32..12, any::<i32>()], 0..12)) {
        let rights = Rights::from_wire(&numbers);
        for number in (-2..12).chain(numbers.iter().copied()) {
            let named = (1..=7).contains(&number);
            let has = Right::try_from(number).is_ok_and(|right| rights.has(right));
            prop_assert_eq!(has, named && numbers.contains(&number), "{}", number);
        }
        prop_assert_eq!(Rights::from_wire(&rights.to_wire()), rights);
    }

    #[test]
    fn a_code_is_six_digits(number in prop_oneof![0u32..2_000_000, any::<u32>()], text in "[0-9 -]{5,8}|.{0,8}") {
        let code = Code::from_number(number);
        prop_assert_eq!(code.is_some(), number < 1_000_000);
        if let Some(code) = code {
            prop_assert_eq!(code.to_string().parse(), Ok(code));
            prop_assert_eq!(code.to_string().len(), 6);
        }
        let digits: String = text.chars().filter(|c| !" -".contains(*c)).collect();
        let right = digits.len() == 6 && digits.chars().all(|c| c.is_ascii_digit());
        let read = text.parse::<Code>().map(|code| code.to_string()).ok();
        prop_assert_eq!(read, right.then_some(digits));
    }

    #[test]
    fn ids_are_sixteen_bytes(bytes in prop::collection::vec(any::<u8>(), 0..40), text in "[0-9a-f]{31,33}|.{0,40}") {
        let id = SessionId::try_from(&bytes[..]);
        prop_assert_eq!(id.is_ok(), bytes.len() == 16);
        prop_assert_eq!(AttemptId::try_from(&bytes[..]).is_ok(), bytes.len() == 16);
        if let Ok(id) = id {
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
        let right = text.len() == 32 && text.chars().all(|c| c.is_ascii_hexdigit());
        prop_assert_eq!(text.parse::<SessionId>().is_ok(), right);
    }

    #[test]
    fn any_close_number_is_a_code_on_every_binding(number in any::<u64>(), code in any::<u16>(), text in any::<String>()) {
        let known = Close::from_number(number);
        prop_assert!(u64::from(known.number()) == number || known == Close::INTERNAL);
        let from = Close::from_websocket(code);
        prop_assert_eq!(from.is_some(), (4000..5000).contains(&code));
        prop_assert!(from.is_none_or(|close| close.websocket() == code));
        let reason = close::reason(&text);
        prop_assert!(reason.len() <= limits::REASON_MAX && text.starts_with(reason));
        prop_assert!(reason == text || reason.len() > limits::REASON_MAX - 4);
    }
}
