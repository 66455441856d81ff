//! Any bytes as one lane's. The first says the lane's kind, the rest arrive at once and, to another buffer, one by one.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use tandem_protocol::{Assembler, Header, LaneKind, Record, limits};

fuzz_target!(|data: &[u8]| {
    let [kind, bytes @ ..] = data else { return };
    let lane = LaneKind::ALL[usize::from(*kind) % LaneKind::ALL.len()];
    let mut whole = BytesMut::from(bytes);
    let mut slow = Assembler::new(lane);
    let mut unread = bytes;
    loop {
        let at = bytes.len() - whole.len();
        let parsed = Header::parse(lane, &whole);
        match parsed {
            Ok(None) => assert!(whole.len() < limits::HEADER_MAX),
            Ok(Some((header, layout))) => {
                assert!(layout.body_len <= lane.body_max());
                assert!((header.encoded_len()..=limits::HEADER_MAX).contains(&layout.header_len));
            }
            Err(_) => {}
        }
        let record = Record::split_from(lane, &mut whole);
        assert!(whole.capacity() <= 2 * (bytes.len() + limits::HEADER_MAX + lane.body_max()));
        let Ok(Some(record)) = record else {
            assert_eq!(record.is_err(), parsed.is_err());
            return;
        };
        assert_eq!(record.bytes, bytes[at..at + record.bytes.len()]);
        let known = record.header.record(record.body());
        let again = Record::split_from(lane, &mut BytesMut::from(&known[..]))
            .expect("a record")
            .expect("a whole one");
        assert_eq!(again.header, record.header);
        // Byte by byte the same record appears, with its last byte.
        for (count, byte) in unread.iter().enumerate().take(record.bytes.len()) {
            let came = slow.next(&mut &[*byte][..]).expect("no error before the end");
            assert_eq!(came.as_ref(), (count + 1 == record.bytes.len()).then_some(&record));
        }
        unread = &unread[record.bytes.len()..];
    }
});
