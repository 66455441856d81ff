//! Sockets for QUIC. Where the system lacks what quinn asks of a socket (marks of congestion, the receiving address, segments sent
//! at once) a plain one carries QUIC as well, only with more calls a second.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, TokioRuntime, UdpPoller};
use tokio::net::UdpSocket;

/// Windows' number for a packet that did not fit the buffer (winerror.h).
const WSAEMSGSIZE: i32 = 10040;

/// An endpoint that connects from this address.
pub(crate) fn endpoint(local: SocketAddr) -> io::Result<Endpoint> {
    Endpoint::client(local).or_else(|error| {
        tracing::debug!(%error, "this system's sockets lack something; QUIC goes over a plain one");
        plain(local)
    })
}

/// Lets an endpoint go on from this address.
pub(crate) fn rebind(endpoint: &Endpoint, local: SocketAddr) -> io::Result<()> {
    let fresh = std::net::UdpSocket::bind(local)?;
    endpoint.rebind(fresh).or_else(|_| endpoint.rebind_abstract(Plain::bind(local)?))
}

fn plain(local: SocketAddr) -> io::Result<Endpoint> {
    let socket = Plain::bind(local)?;
    Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))
}

/// A socket of which nothing is asked but to send and receive.
#[derive(Debug)]
struct Plain(UdpSocket);

impl Plain {
    fn bind(local: SocketAddr) -> io::Result<Arc<Self>> {
        let socket = std::net::UdpSocket::bind(local)?;
        socket.set_nonblocking(true)?;
        Ok(Arc::new(Self(UdpSocket::from_std(socket)?)))
    }
}

impl AsyncUdpSocket for Plain {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match self.0.try_send_to(transmit.contents, transmit.destination) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                // As good as lost on the way, which QUIC deals with.
                tracing::debug!(%error, "a packet was not sent");
                Ok(())
            }
            sent => sent.map(drop),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (Some(buffer), Some(meta)) = (bufs.first_mut(), meta.first_mut()) else {
            return Poll::Ready(Ok(0));
        };
        loop {
            ready!(self.0.poll_recv_ready(cx))?;
            match self.0.try_recv_from(buffer) {
                Ok((len, addr)) => {
                    *meta = RecvMeta { addr, len, stride: len, ecn: None, dst_ip: None };
                    return Poll::Ready(Ok(1));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // What Windows says when nobody listened to an earlier packet, and of packets larger than any of ours.
                Err(error)
                    if error.kind() == io::ErrorKind::ConnectionReset
                        || error.raw_os_error() == Some(WSAEMSGSIZE) =>
                {
                    tracing::debug!(%error, "a packet was not received");
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Waits until the socket takes more.
struct Writable {
    socket: Arc<Plain>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Writable").field(&self.socket).finish()
    }
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = Arc::clone(&self.socket);
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(async move { socket.0.writable().await }));
        let done = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(done)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Two plain endpoints hear what each other sends, however often they had to wait.
    #[tokio::test]
    async fn a_plain_socket_sends_receives_and_waits() {
        let local: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let socket = || Plain::bind(local).expect("a socket");
        let (one, other) = (socket(), socket());
        let mut writable = Arc::clone(&one).create_io_poller();
        let mut bytes = [0; 1500];
        for length in [1usize, 1200] {
            std::future::poll_fn(|cx| writable.as_mut().poll_writable(cx)).await.expect("room");
            let contents = vec![7; length];
            let transmit = Transmit {
                destination: other.local_addr().expect("an address"),
                ecn: None,
                contents: &contents,
                segment_size: None,
                src_ip: None,
            };
            one.try_send(&transmit).expect("sent");
            let mut meta = [RecvMeta::default()];
            let heard =
                std::future::poll_fn(|cx| other.poll_recv(cx, &mut [IoSliceMut::new(&mut bytes)], &mut meta));
            let heard = tokio::time::timeout(Duration::from_secs(5), heard).await.expect("in time");
            assert_eq!((heard.expect("received"), meta[0].len), (1, length));
            assert_eq!(meta[0].addr, one.local_addr().expect("an address"));
        }
    }
}
