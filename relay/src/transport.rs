//! The bindings of the protocol: what differs between QUIC, WebTransport and WebSocket ends here.

pub(crate) mod https;
pub(crate) mod listen;
pub mod quic;
mod side_by_side;
pub mod tcp;
pub(crate) mod udp;
pub mod websocket;

use bytes::Bytes;
use tandem_protocol::message::{Control, Refused, control, types};
use tandem_protocol::{Close, Flags, Header, Sender};

use crate::admission::Refusal;

/// The record that tells a client why it is not admitted.
fn refusal_record(refusal: &Refusal) -> Bytes {
    let header = Header {
        record_type: types::CONTROL,
        flags: Flags::default(),
        sender: Sender::RELAY,
        key_id: 0,
        epoch: 0,
        seq: 0,
        time_us: 0,
        screen: None,
    };
    let refused = Refused {
        code: refusal.close.number().into(),
        reason: refusal.reason.clone(),
        retry_after_ms: if refusal.close == Close::TOO_MANY { 10_000 } else { 0 },
    };
    header.record(&Control::encode_body(control::Message::Refused(refused)))
}
