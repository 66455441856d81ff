//! Binding the public port: TCP and UDP under one number.

use std::io;
use std::net::SocketAddr;

use anyhow::Context;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tracing::info;

/// UDP buffers that are asked for; the system may grant less.
pub(crate) const UDP_BUFFER: usize = 4 << 20;

/// Binds TCP and, on the same port number, UDP. A port of 0 is one that both have.
pub(crate) async fn listen(
    address: SocketAddr,
    udp: bool,
) -> anyhow::Result<(TcpListener, Option<UdpSocket>)> {
    let mut tries = 20;
    loop {
        let tcp =
            TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} (TCP)"))?;
        if !udp {
            return Ok((tcp, None));
        }
        let same = SocketAddr::new(address.ip(), tcp.local_addr()?.port());
        match udp_for_tokio(same) {
            Ok(udp) => return Ok((tcp, Some(udp))),
            Err(_) if address.port() == 0 && tries > 0 => tries -= 1,
            Err(error) => return Err(error).with_context(|| format!("cannot listen on {same} (UDP)")),
        }
    }
}

fn udp_for_tokio(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = udp(address)?;
    let granted = buffers(&socket)?;
    if granted.receive.min(granted.send) < UDP_BUFFER {
        info!(
            wanted = UDP_BUFFER,
            granted = granted.receive.min(granted.send),
            "small UDP buffers: raise net.core.rmem_max and wmem_max for bulk throughput"
        );
    }
    UdpSocket::from_std(socket.into())
}

/// A UDP socket with buffers as large as the system allows.
pub(crate) fn udp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_recv_buffer_size(UDP_BUFFER)?;
    socket.set_send_buffer_size(UDP_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Bytes of a socket's buffers, as they were granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffers {
    pub(crate) receive: usize,
    pub(crate) send: usize,
}

/// What a socket was granted.
pub(crate) fn buffers<'s, S>(socket: &'s S) -> io::Result<Buffers>
where
    SockRef<'s>: From<&'s S>,
{
    let socket = SockRef::from(socket);
    // Linux reports twice what it grants.
    Ok(Buffers { receive: socket.recv_buffer_size()? / 2, send: socket.send_buffer_size()? / 2 })
}
