//! A TCP connection that can be asked about its socket while HTTP and TLS own it.

use std::io::{self, Read as _};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// A handle on an accepted connection. The connection lives as long as any handle on it.
#[derive(Clone, Debug)]
pub struct Tcp(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stream: TcpStream,
    /// Bytes that may still be read.
    allowance: AtomicUsize,
    opened: Instant,
    /// When a write found no room that has not succeeded since, in milliseconds since `opened` and one more; 0: none.
    blocked: AtomicU64,
}

impl Tcp {
    /// Of an accepted connection, of which nothing may be read yet.
    pub fn new(stream: TcpStream) -> Self {
        let (allowance, blocked) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self(Arc::new(Inner { stream, allowance, opened: Instant::now(), blocked }))
    }

    /// The socket, to be asked.
    pub fn socket(&self) -> SockRef<'_> {
        SockRef::from(&self.0.stream)
    }

    /// From now on so many bytes may be read: who sends more is gone.
    pub fn allow(&self, bytes: usize) {
        self.0.allowance.store(bytes, Ordering::Relaxed);
    }

    /// From now on there is no bound here.
    pub fn allow_all(&self) {
        self.allow(usize::MAX);
    }

    /// Ends when the client has taken nothing of what waits for it for so long.
    pub async fn is_stuck(&self, patience: Duration) {
        loop {
            tokio::time::sleep(patience / 4).await;
            let since = self.0.blocked.load(Ordering::Relaxed);
            if since > 0 && self.0.opened.elapsed() >= Duration::from_millis(since) + patience {
                return;
            }
        }
    }

    fn note_blocked(&self) {
        let since = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let _ = self.0.blocked.compare_exchange(0, since, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.stream.poll_read_ready(cx))?;
            let allowance = self.0.allowance.load(Ordering::Relaxed);
            if allowance == 0 {
                let text = "more bytes than a client may send before it is admitted";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
            }
            let room = buffer.remaining().min(allowance);
            // Less than there was room for is all that there is: to wait for more now saves asking once more only to be told so.
            let mut read = None;
            let asked = self.0.stream.try_io(Interest::READABLE, || {
                let len = (&*self.socket()).read(buffer.initialize_unfilled_to(room))?;
                read = Some(len);
                if (1..room).contains(&len) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (read, asked) {
                (Some(read), _) => {
                    if allowance != usize::MAX {
                        self.0.allowance.fetch_sub(read, Ordering::Relaxed);
                    }
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                (None, _) => {}
            }
        }
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let Poll::Ready(ready) = self.0.stream.poll_write_ready(cx) else {
                self.note_blocked();
                return Poll::Pending;
            };
            ready?;
            match self.0.stream.try_write_vectored(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => {
                    self.0.blocked.store(0, Ordering::Relaxed);
                    return Poll::Ready(done);
                }
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket().shutdown(std::net::Shutdown::Write))
    }
}
