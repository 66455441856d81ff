//! What waits in the relay because whoever it is for does not take it comes whole, although the lane that it came on is given up.

#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

mod common;

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use common::people::{Desk, relay};
use common::{PATIENCE, Relay, Socket, record};
use tandem_protocol::message::{Credit, Grants, Move, Right, Rights, control, hello::Join, types};
use tandem_protocol::mux::{Event, FIRST, LAST, LaneId, RESET};
use tandem_protocol::token::TokenRole;
use tandem_protocol::{LaneKey, LaneKind, Sender, limits};
use tokio_tungstenite::tungstenite::Message;

const SESSION: &str = "000102030405060708090a0b0c0d0e0f";
/// As many as the lane's credit lets in at once, and far more than a socket takes that nobody reads.
const RECORDS: u64 = 24;
const BODY: usize = 64 << 10;
/// The number of the lane that what was copied goes on.
const LANE: u16 = 2;

/// Somebody who is in the session, and its number there.
async fn joins(relay: &Relay, join: tandem_client::Join) -> (Socket, Sender) {
    let tandem_client::Join::Token(token) = join else { panic!("{join:?}") };
    let join = Join::Token(token);
    let mut socket = Socket::join(relay, join).await;
    match socket.next().await.unwrap() {
        control::Message::Welcome(welcome) => (socket, Sender(welcome.sender as u16)),
        other => panic!("{other:?}"),
    }
}

/// Fragments of a record, behind the opening of its lane if that is new; at most the first so many.
fn fragments(lane: u16, opening: &[u8], record: &[u8], most: usize) -> Vec<Message> {
    let payload = [opening, record].concat();
    let count = payload.len().div_ceil(limits::FRAGMENT_MAX);
    let fragment = |(at, part): (usize, &[u8])| {
        let first = if at == 0 && !opening.is_empty() { FIRST } else { 0 };
        let last = if at + 1 == count { LAST } else { 0 };
        let mut bytes = BytesMut::new();
        bytes.put_u16_le(lane);
        bytes.put_u8(first | last);
        bytes.put_u16_le(part.len() as u16);
        bytes.put_slice(part);
        Message::Binary(bytes.freeze())
    };
    payload.chunks(limits::FRAGMENT_MAX).enumerate().take(most).map(fragment).collect()
}

fn gives_up_the_lane() -> Message {
    let mut bytes = BytesMut::new();
    bytes.put_u16_le(LANE);
    bytes.put_u8(RESET);
    bytes.put_u16_le(0);
    Message::Binary(bytes.freeze())
}

/// What the customer has copied goes to a technician who does not read, until the relay holds it. Then the lane is given up in the
/// middle of a record, and its number taken by another, or the customer leaves for a better connection.
async fn what_is_held_comes(leaves: bool) {
    let (mut desk, directory) = (Desk::new(), tempfile::tempdir().unwrap());
    let relay = relay(&desk, directory.path(), "127.0.0.1:0").await;
    let (mut customer, me) = joins(&relay, desk.token(SESSION, TokenRole::Customer)).await;
    let (mut technician, watcher) = joins(&relay, desk.token(SESSION, TokenRole::Lead)).await;
    let rights = Rights::of(&[Right::View, Right::Chat, Right::Clipboard]).to_wire();
    let grants = Grants { participant: watcher.0.into(), rights, revision: 1, prompt_open: false };
    customer.say(control::Message::Grants(grants)).await;

    let clipboard = LaneKey::plain(LaneKind::Clipboard, me).opening();
    let copied = |seq| record(types::CLIPBOARD_TEXT, me, seq, &[7; BODY]);
    for seq in 0..RECORDS {
        let opening = if seq == 0 { &clipboard[..] } else { &[] };
        for fragment in fragments(LANE, opening, &copied(seq), usize::MAX) {
            customer.raw(fragment).await;
        }
    }
    for fragment in fragments(LANE, &[], &copied(RECORDS), 1) {
        customer.raw(fragment).await;
    }
    customer.raw(gives_up_the_lane()).await;
    // What follows on another lane is passed on at once, under the same number if nobody leaves.
    let chat = LaneKey::plain(LaneKind::Chat, me).opening();
    let lane = if leaves { LANE + 2 } else { LANE };
    for fragment in fragments(lane, &chat, &record(types::CHAT, me, 0, b"?"), usize::MAX) {
        customer.raw(fragment).await;
    }
    let taken =
        |lane| format!("tandem_relay_received_records_total{{lane=\"{lane}\",transport=\"websocket\"}}");
    relay.settles(&taken("chat"), 1.0).await;
    assert!(relay.metric(&taken("clipboard")).await < RECORDS as f64, "nothing is held");
    if leaves {
        customer.say(control::Message::Move(Move {})).await;
        // What is left behind is taken, whatever room there is.
        relay.settles(&taken("clipboard"), RECORDS as f64).await;
    }

    let mut come = BTreeMap::new();
    let all = async {
        while (come.get(&LaneKind::Clipboard), come.get(&LaneKind::Chat)) != (Some(&RECORDS), Some(&1)) {
            let Event::Record(lane, key, _) = technician.event().await.unwrap() else { continue };
            if lane != LaneId::CONTROL {
                *come.entry(key.kind).or_insert(0) += 1;
                technician
                    .say(control::Message::Credit(Credit { lane: lane.0.into(), bytes: u64::MAX }))
                    .await;
            }
        }
    };
    let result = tokio::time::timeout(PATIENCE, all).await;
    assert!(result.is_ok(), "only {come:?} come");
}

#[tokio::test]
async fn although_the_lane_is_given_up_and_another_takes_its_number() {
    what_is_held_comes(false).await;
}

#[tokio::test]
async fn although_the_sender_leaves_for_another_connection() {
    what_is_held_comes(true).await;
}
