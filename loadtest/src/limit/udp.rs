//! Datagrams over loopback, one at a time or many with one call, as our QUIC sends and receives them.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};

use super::timed;

/// Datagrams that are sent before they are received: what fits into any socket's buffer.
const BATCH: usize = 64;
/// Datagrams in one call, where several can be.
const SEGMENTS: usize = 32;

/// Which end is measured, and whether several datagrams go with one call (GSO, GRO).
#[derive(Clone, Copy, Debug)]
pub(super) enum Does {
    Send { offload: bool },
    Receive { offload: bool },
}

/// Sends and receives about so many bytes as datagrams of this size; answers with the time of one end. On loopback the
/// sending end also does what brings a datagram into the receiving socket.
pub(super) fn run(does: Does, datagram: usize, bytes: u64) -> io::Result<(u64, Duration)> {
    let (Does::Send { offload } | Does::Receive { offload }) = does;
    let (from, to) = (UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
    let address = to.local_addr()?;
    from.connect(address)?;
    // The state of the receiving end turns GRO on, so there is none without it.
    let sender = UdpSocketState::new(UdpSockRef::from(&from))?;
    let receiver = if offload { Some(UdpSocketState::new(UdpSockRef::from(&to))?) } else { None };
    to.set_nonblocking(true)?;
    let segments = if offload { sender.max_gso_segments().clamp(1, SEGMENTS) } else { 1 };
    let contents = vec![1; datagram * segments];
    let transmit = Transmit {
        destination: address,
        ecn: None,
        contents: &contents,
        segment_size: (segments > 1).then_some(datagram),
        src_ip: None,
    };
    let (mut sending, mut receiving) = (Duration::ZERO, Duration::ZERO);
    let mut buffers = vec![vec![0; 64 << 10]; BATCH_SIZE];
    let mut done = 0;
    while done < bytes {
        timed(&mut sending, || {
            (0..BATCH.div_ceil(segments))
                .try_for_each(|_| sender.try_send(UdpSockRef::from(&from), &transmit))
        })?;
        let received = timed(&mut receiving, || match &receiver {
            Some(receiver) => receive(receiver, &to, &mut buffers),
            None => receive_single(&to, &mut buffers[0]),
        })?;
        if received == 0 {
            return Err(io::Error::other("datagrams are lost on loopback"));
        }
        done += received;
    }
    Ok((done, if matches!(does, Does::Send { .. }) { sending } else { receiving }))
}

/// Receives all that is there.
fn receive(state: &UdpSocketState, socket: &UdpSocket, buffers: &mut [Vec<u8>]) -> io::Result<u64> {
    let mut received = 0;
    loop {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut slices: Vec<IoSliceMut<'_>> =
            buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
        match state.recv(UdpSockRef::from(socket), &mut slices, &mut metas) {
            Ok(count) => received += metas[..count].iter().map(|meta| meta.len as u64).sum::<u64>(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(received),
            Err(error) => return Err(error),
        }
    }
}

fn receive_single(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<u64> {
    let mut received = 0;
    loop {
        match socket.recv(buffer) {
            Ok(len) => received += len as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(received),
            Err(error) => return Err(error),
        }
    }
}
