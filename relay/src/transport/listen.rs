//! Binding the public port: TCP and UDP under one number.

use std::net::SocketAddr;

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tracing::info;

/// UDP buffers that are asked for; the system may grant less.
const UDP_BUFFER: usize = 4 << 20;

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
        match bind_udp(same) {
            Ok(udp) => return Ok((tcp, Some(udp))),
            Err(_) if address.port() == 0 && tries > 0 => tries -= 1,
            Err(error) => return Err(error).with_context(|| format!("cannot listen on {same} (UDP)")),
        }
    }
}

fn bind_udp(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_recv_buffer_size(UDP_BUFFER)?;
    socket.set_send_buffer_size(UDP_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // Linux reports twice what it grants.
    let granted = socket.recv_buffer_size()? / 2;
    if granted < UDP_BUFFER {
        info!(
            wanted = UDP_BUFFER,
            granted, "small UDP buffers: raise net.core.rmem_max and wmem_max for bulk throughput"
        );
    }
    UdpSocket::from_std(socket.into())
}
