//! The schemas in `protocol/proto`, read anew, and the Rust messages that were made of them, by name.

use std::sync::LazyLock;

use prost::{DecodeError, Message};
use prost_reflect::{DescriptorPool, MessageDescriptor};
use tandem_protocol::message;

/// What the schemas declare.
pub(crate) static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let files = protox::compile(["control.proto", "input.proto", "peer.proto"], [folder]);
    DescriptorPool::from_file_descriptor_set(files.expect("valid schemas")).expect("whole schemas")
});

/// Decodes bytes as one Rust message and encodes it again.
pub(crate) type Again = fn(&[u8]) -> Result<Vec<u8>, DecodeError>;

fn again<T: Message + Default>(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    T::decode(bytes).map(|message| message.encode_to_vec())
}

macro_rules! messages {
    ($($name:ident)*) => { &[$((stringify!($name), again::<message::$name> as Again)),*] };
}

/// Every message, by its name in the schema.
pub(crate) const MESSAGES: &[(&str, Again)] = messages! {
    Control Hello Keeps Capabilities Welcome Refused Lane LanePosition Point Applied Ping Pong Credit Ack Feedback Want
    Skipped Grants Ask Roster Participant Visible Reopen GoAway End Move
    Position LockState Key Text Button Wheel Motion Held
    DisplayLayout Display LockKeys PeerPing PeerPong InputReport CursorShape CursorPosition ChatMessage ClipboardText
};

/// A message's declaration.
pub(crate) fn declared(name: &str) -> MessageDescriptor {
    let full = format!("tandem.v1.{name}");
    POOL.get_message_by_name(&full).unwrap_or_else(|| panic!("the schemas have no {full}"))
}
