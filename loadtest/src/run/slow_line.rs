//! A slow line in front of one client, without privileges: a port of our own that passes everything on to the relay, and what comes from
//! there at a given rate. What waits for longer than a home router would keep it is lost, or over TCP not read.
//!
//! For delay, loss and exact figures there is `impair`, whose links are the kernel's.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use super::sleep_until;
use crate::accept::accept as accept_next;

/// As much as waits in front of the line, in time at its rate.
const BUFFER: Duration = Duration::from_millis(300);
/// Pieces in which TCP goes over the line, in time at its rate.
const PIECE: Duration = Duration::from_millis(20);
/// Least piece, and the least that the kernel is asked to keep.
const PIECE_MIN: usize = 512;
const KEPT_MIN: u32 = 8 << 10;
/// Largest datagram.
const DATAGRAM_MAX: usize = 65_536;
/// How often a port is looked for that is free for both.
const TRIES: usize = 20;

/// A line. Dropping it cuts it.
#[derive(Debug)]
pub(super) struct SlowLine {
    port: u16,
    _tasks: JoinSet<()>,
}

impl SlowLine {
    /// In front of a relay, with so many kbit/s towards the client.
    ///
    /// # Errors
    /// When there is no port.
    pub(super) async fn start(relay: SocketAddr, kbit: f64) -> io::Result<Self> {
        let (tcp, udp) = ports().await?;
        let port = tcp.local_addr()?.port();
        let upstream = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        upstream.connect(relay).await?;
        let pace = Pace { bytes_per_second: kbit * 125.0 };
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(tcp, relay, pace));
        tasks.spawn(datagrams(udp, upstream, pace));
        Ok(Self { port, _tasks: tasks })
    }

    /// Where the client finds it.
    pub(super) fn url(&self) -> String {
        format!("https://{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }
}

/// One port number for both.
async fn ports() -> io::Result<(TcpListener, UdpSocket)> {
    let mut last = io::ErrorKind::AddrInUse.into();
    for _ in 0..TRIES {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((tcp, udp)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// How long bytes take.
#[derive(Clone, Copy, Debug)]
struct Pace {
    bytes_per_second: f64,
}

impl Pace {
    fn time(self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bytes_per_second)
    }

    fn bytes(self, time: Duration) -> usize {
        (self.bytes_per_second * time.as_secs_f64()) as usize
    }
}

async fn accept(listener: TcpListener, relay: SocketAddr, pace: Pace) {
    let mut connections = JoinSet::new();
    loop {
        let client = accept_next(&listener, "run: a slow line").await;
        // Whoever comes when the relay is gone finds out by being cut off.
        connections.spawn(async move {
            let _ = stream(client, relay, pace).await;
        });
    }
}

/// One TCP connection, until either side ends it.
async fn stream(client: TcpStream, relay: SocketAddr, pace: Pace) -> io::Result<()> {
    let socket = if relay.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // What is not read yet waits at the relay.
    socket.set_recv_buffer_size(u32::try_from(pace.bytes(BUFFER)).unwrap_or(u32::MAX).max(KEPT_MIN))?;
    let relay = socket.connect(relay).await?;
    client.set_nodelay(true)?;
    relay.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_relay, mut to_relay) = relay.into_split();
    let up = tokio::io::copy(&mut from_client, &mut to_relay);
    let down = async {
        let mut piece = vec![0; pace.bytes(PIECE).max(PIECE_MIN)];
        let mut free = Instant::now();
        loop {
            let len = from_relay.read(&mut piece).await?;
            if len == 0 {
                return io::Result::Ok(());
            }
            free = free.max(Instant::now()) + pace.time(len);
            sleep_until(free).await;
            to_client.write_all(&piece[..len]).await?;
        }
    };
    tokio::select! {
        done = up => done.map(drop),
        done = down => done,
    }
}

/// What waits in front of a line: each datagram with the moment at which it is through.
#[derive(Debug)]
struct Queue {
    pace: Pace,
    waiting: VecDeque<(Instant, Vec<u8>)>,
    /// When the line is free again.
    free: Instant,
}

impl Queue {
    fn new(pace: Pace, now: Instant) -> Self {
        Self { pace, waiting: VecDeque::new(), free: now }
    }

    /// Takes a datagram, unless so much waits that it is lost.
    fn offer(&mut self, datagram: &[u8], now: Instant) -> bool {
        let begins = self.free.max(now);
        let fits = begins <= now + BUFFER;
        if fits {
            self.free = begins + self.pace.time(datagram.len());
            self.waiting.push_back((self.free, datagram.to_vec()));
        }
        fits
    }

    /// When the next one is through.
    fn next(&self) -> Option<Instant> {
        self.waiting.front().map(|&(at, _)| at)
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        self.waiting.pop_front().map(|(_, datagram)| datagram)
    }
}

/// Datagrams of one client, which may change its port.
async fn datagrams(own: UdpSocket, upstream: UdpSocket, pace: Pace) {
    let mut client = None;
    let mut queue = Queue::new(pace, Instant::now());
    let (mut up, mut down) = (vec![0; DATAGRAM_MAX], vec![0; DATAGRAM_MAX]);
    loop {
        let next = queue.next();
        tokio::select! {
            // A relay that is gone says so; it may be there again for the next one.
            came = own.recv_from(&mut up) => if let Ok((len, from)) = came {
                client = Some(from);
                let _ = upstream.send(&up[..len]).await;
            },
            came = upstream.recv(&mut down) => if let Ok(len) = came {
                queue.offer(&down[..len], Instant::now());
            },
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                if let (Some(datagram), Some(client)) = (queue.take(), client) {
                    let _ = own.send_to(&datagram, client).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_goes_both_ways_and_no_faster_than_the_line() {
        let relay = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let line = SlowLine::start(relay.local_addr().unwrap(), 800.0).await.unwrap();
        let began = Instant::now();
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, line.port)).await.unwrap();
        let (mut served, _) = relay.accept().await.unwrap();
        client.write_all(b"hello").await.unwrap();
        let mut said = [0; 5];
        served.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello");
        served.write_all(&[7; 30_000]).await.unwrap();
        let mut came = vec![0; 30_000];
        client.read_exact(&mut came).await.unwrap();
        assert!(came.iter().all(|&byte| byte == 7));
        // 30 kB at 100 kB/s.
        assert!(began.elapsed() >= Duration::from_millis(299), "{:?}", began.elapsed());
    }

    #[test]
    fn datagrams_that_would_wait_too_long_are_lost_and_there_is_room_again_later() {
        let start = Instant::now();
        let mut queue = Queue::new(Pace { bytes_per_second: 100_000.0 }, start);
        // A second of the line at once, of which it keeps 0.3 and what begins then.
        let kept = (0..100).filter(|_| queue.offer(&[7; 1000], start)).count();
        assert_eq!(kept, 31);
        let times: Vec<_> = std::iter::from_fn(|| queue.next().inspect(|_| drop(queue.take()))).collect();
        let expected = |number: u32| start + Duration::from_millis(10) * number;
        assert_eq!((times.first(), times.last()), (Some(&expected(1)), Some(&expected(31))));
        let later = start + Duration::from_secs(1);
        assert!(queue.offer(&[7; 1000], later));
        assert_eq!(queue.next(), Some(later + Duration::from_millis(10)));
    }

    #[tokio::test]
    async fn datagrams_go_both_ways_wherever_the_client_asks_from() {
        let relay = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let line = SlowLine::start(relay.local_addr().unwrap(), 800.0).await.unwrap();
        for text in [b"one", b"two"] {
            let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            client.send_to(text, (Ipv4Addr::LOCALHOST, line.port)).await.unwrap();
            let mut said = [0; 10];
            let (len, from) = relay.recv_from(&mut said).await.unwrap();
            relay.send_to(&said[..len], from).await.unwrap();
            let len = client.recv(&mut said).await.unwrap();
            assert_eq!(&said[..len], text);
        }
    }
}
