//! The impaired link through real sockets: what it does to UDP and TCP is what it was told to do.
//!
//! These tests make network namespaces, so they need root; without it each fails and says how to run it.

use std::hint::spin_loop;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tandem_loadtest::link::way::{Buffer, Rate, Shape};
use tandem_loadtest::link::{FAR_IP, Link, LinkConfig, LinkError, Side};

/// Bytes of IPv4 and UDP before a datagram's own.
const UDP_HEADERS: usize = 28;

/// Longest that a receiver waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(10);

fn shape(megabits: u64, delay_ms: u64) -> Shape {
    Shape {
        rate: Rate::from_bits_per_second(megabits * 1_000_000).expect("not zero"),
        delay: Duration::from_millis(delay_ms),
        jitter: Duration::ZERO,
        loss: 0.0,
        buffer: Buffer::Bytes(256 * 1024),
    }
}

/// A link that is the same both ways.
fn link(shape: Shape) -> Link {
    match Link::start(LinkConfig { near_to_far: shape, far_to_near: shape, seed: 1 }) {
        Ok(link) => link,
        Err(error @ LinkError::NotPermitted) => panic!(
            "{error}; run these tests as root:\n  sudo --preserve-env=HOME env PATH=\"$PATH\" cargo test -p tandem-loadtest --test link"
        ),
        Err(error) => panic!("{error}"),
    }
}

/// The value that work at one end gives; a socket made there stays there.
fn at<T: Send + 'static>(link: &Link, side: Side, work: impl FnOnce() -> T + Send + 'static) -> T {
    finish(link.inside(side, work).expect("a thread"))
}

fn finish<T>(thread: JoinHandle<std::io::Result<T>>) -> T {
    thread.join().expect("no panic").expect("the namespace can be entered")
}

/// A pair of sockets, the near one connected to the far one.
fn udp_pair(link: &Link) -> (UdpSocket, UdpSocket) {
    let far = at(link, Side::Far, || UdpSocket::bind((FAR_IP, 0)).expect("bind"));
    let address = far.local_addr().expect("bound");
    let near = at(link, Side::Near, move || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
        socket.connect(address).expect("connect");
        socket
    });
    far.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    near.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    (near, far)
}

/// Waits by asking again and again: how long this thread takes to wake from sleep is not the link's error.
fn receive_spinning(socket: &UdpSocket, buffer: &mut [u8]) -> (usize, SocketAddr) {
    socket.set_nonblocking(true).expect("no blocking");
    let start = Instant::now();
    let received = loop {
        match socket.recv_from(buffer) {
            Ok(received) => break received,
            Err(error) if error.kind() == ErrorKind::WouldBlock && start.elapsed() < PATIENCE => spin_loop(),
            Err(error) => panic!("nothing arrives: {error}"),
        }
    };
    socket.set_nonblocking(false).expect("blocking again");
    received
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn one_way_delay_and_round_trip_are_exact() {
    let link = link(shape(20, 100));
    let (near, far) = udp_pair(&link);
    // This thread holds the stopwatch: on a busy machine others would otherwise run just when a packet arrives.
    rustix::process::setpriority_process(None, -20).expect("root may");
    let payload = [0_u8; 100];
    let on_wire = (payload.len() + UDP_HEADERS) as f64 * 8.0 / 20e6;
    let mut there = Vec::new();
    let mut round = Vec::new();
    for _ in 0..11 {
        let mut buffer = [0_u8; 200];
        let sent = Instant::now();
        near.send(&payload).expect("send");
        let (length, from) = receive_spinning(&far, &mut buffer);
        there.push((sent.elapsed().as_secs_f64() - 0.1 - on_wire) * 1e3);
        far.send_to(&buffer[..length], from).expect("send");
        receive_spinning(&near, &mut buffer);
        round.push((sent.elapsed().as_secs_f64() - 0.2 - 2.0 * on_wire) * 1e3);
    }
    let (there, round) = (median(there), median(round));
    let lateness = link.statistics(Side::Near).expect("counters").lateness_ms;
    println!(
        "error of the delay: {there:.3} ms one way, {round:.3} ms there and back (medians); {lateness:?}"
    );
    assert!((0.0..0.3).contains(&there), "one way: {there} ms off");
    assert!((0.0..0.6).contains(&round), "round trip: {round} ms off");
}

#[test]
fn udp_passes_at_the_rate() {
    let link = link(shape(20, 5));
    let (near, far) = udp_pair(&link);
    const DATAGRAMS: usize = 3000;
    let length = 1500 - UDP_HEADERS;
    let sender = std::thread::spawn(move || {
        // A third faster than the link, so that it is never idle; what the buffer drops is not waited for.
        let start = Instant::now();
        for n in 0..DATAGRAMS {
            let due = start + Duration::from_micros(450) * u32::try_from(n).expect("few");
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            near.send(&vec![0; length]).expect("send");
        }
        near
    });
    let mut buffer = [0_u8; 1500];
    far.recv(&mut buffer).expect("the first arrives");
    let first = Instant::now();
    let mut bytes = 0;
    // The link is saturated until the sender ends, 1.35 s after the start.
    while first.elapsed() < Duration::from_millis(1200) {
        bytes += far.recv(&mut buffer).expect("more arrive") + UDP_HEADERS;
    }
    let rate = bytes as f64 * 8.0 / first.elapsed().as_secs_f64();
    sender.join().expect("sent");
    println!("UDP at 20 Mbit/s: {:.3} Mbit/s", rate / 1e6);
    assert!((rate / 20e6 - 1.0).abs() < 0.02, "{rate} bit/s");
}

#[test]
fn tcp_fills_the_rate() {
    let link = link(shape(20, 10));
    let listener = at(&link, Side::Far, || TcpListener::bind((FAR_IP, 0)).expect("bind"));
    let address = listener.local_addr().expect("bound");
    let (done, stop) = mpsc::channel::<()>();
    let sender = link.in_near(move || {
        let mut stream = TcpStream::connect(address).expect("connect");
        let block = vec![0_u8; 64 * 1024];
        while stop.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
            stream.write_all(&block).expect("the far end reads");
        }
    });
    let (mut stream, _) = listener.accept().expect("a connection");
    let mut buffer = vec![0_u8; 64 * 1024];
    let mut read_until = |end: Instant| {
        let mut bytes = 0;
        while Instant::now() < end {
            bytes += stream.read(&mut buffer).expect("more arrives");
        }
        bytes
    };
    // Past slow start, whose overshoot costs a round of repair.
    read_until(Instant::now() + Duration::from_secs(1));
    let start = Instant::now();
    let bytes = read_until(start + Duration::from_secs(3));
    let rate = bytes as f64 * 8.0 / start.elapsed().as_secs_f64();
    drop(done);
    while stream.read(&mut buffer).expect("the rest") > 0 {}
    finish(sender.expect("a thread"));
    // 1448 of each 1500 bytes are payload: 20 of IPv4, 20 of TCP and 12 of its timestamps are not.
    let ideal = 20e6 * 1448.0 / 1500.0;
    println!("TCP at 20 Mbit/s: {:.3} Mbit/s of payload, ideally {:.3}", rate / 1e6, ideal / 1e6);
    assert!((rate / ideal - 1.0).abs() < 0.02, "{rate} bit/s instead of {ideal}");
}

#[test]
fn the_given_share_of_packets_is_lost_and_every_packet_is_accounted_for() {
    let link = link(Shape { loss: 0.05, buffer: Buffer::Bytes(10 << 20), ..shape(100, 5) });
    let (near, far) = udp_pair(&link);
    const DATAGRAMS: u64 = 2000;
    let receiver = std::thread::spawn(move || {
        let mut buffer = [0_u8; 200];
        let mut received = 0_u64;
        // The last mark is sent until it arrives, so that its loss does not matter.
        while far.recv(&mut buffer).expect("the last mark arrives") != 1 {
            received += 1;
        }
        received
    });
    for n in 0..DATAGRAMS {
        // In step with the link, so that no socket buffer overflows.
        near.send(&[0; 100]).expect("send");
        if n % 50 == 49 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    while !receiver.is_finished() {
        near.send(&[0; 1]).expect("send");
        std::thread::sleep(Duration::from_millis(5));
    }
    let received = receiver.join().expect("counted");
    let share = 1.0 - received as f64 / DATAGRAMS as f64;
    // Three standard deviations of 2000 draws at 5 %.
    assert!((share - 0.05).abs() < 0.015, "{share} lost");
    let statistics = link.statistics(Side::Near).expect("counters");
    let counters = statistics.counters;
    assert_eq!((statistics.missed, statistics.refused, counters.dropped_by_buffer), (0, 0, 0));
    assert!(counters.lost_by_chance >= DATAGRAMS - received);
}

#[test]
fn a_burst_beyond_the_buffer_is_cut_to_the_buffer() {
    // At 1 Mbit/s a burst of 60 datagrams arrives before even one is sent.
    let link = link(Shape { buffer: Buffer::Bytes(20_000), ..shape(1, 5) });
    let (near, far) = udp_pair(&link);
    let length = 1000 - UDP_HEADERS;
    for _ in 0..60 {
        near.send(&vec![0; length]).expect("send");
    }
    let mut buffer = [0_u8; 1500];
    for _ in 0..20 {
        far.recv(&mut buffer).expect("twenty fit");
    }
    let statistics = link.statistics(Side::Near).expect("counters");
    assert_eq!(statistics.counters.packets_in, 60);
    assert!((39..=40).contains(&statistics.counters.dropped_by_buffer), "{statistics:?}");
    assert!((19_000..=20_000).contains(&statistics.counters.queued_bytes_max), "{statistics:?}");
    // The twentieth waited for the nineteen before it: 8 ms each, and its own.
    assert!((150.0..165.0).contains(&statistics.queue_delay_ms.max), "{statistics:?}");
}

#[test]
fn a_blackout_loses_everything_until_it_ends() {
    let link = link(shape(20, 1));
    let (near, far) = udp_pair(&link);
    let mut buffer = [0_u8; 10];
    near.send(b"before").expect("send");
    assert_eq!(far.recv(&mut buffer).expect("it arrives"), 6);
    link.blackout(true);
    near.send(b"during").expect("send");
    far.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
    far.recv(&mut buffer).expect_err("nothing arrives");
    link.blackout(false);
    far.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    near.send(b"afterwards").expect("send");
    assert_eq!(far.recv(&mut buffer).expect("it arrives"), 10);
    assert_eq!(link.statistics(Side::Near).expect("counters").counters.lost_in_blackout, 1);
}

#[test]
fn a_new_rate_counts_from_now_on() {
    let link = link(shape(100, 0));
    let (near, far) = udp_pair(&link);
    link.set_rate(Side::Near, Rate::from_bits_per_second(100_000).expect("not zero"));
    let sent = Instant::now();
    near.send(&[0; 1250 - UDP_HEADERS]).expect("send");
    far.recv(&mut [0; 1500]).expect("it arrives");
    // At the rate before it takes a thousandth of that. How much later it is read is the machine's affair.
    let took = sent.elapsed().as_secs_f64() * 1e3;
    assert!(took >= 100.0, "10 000 bits at 100 kbit/s took {took} ms");
}
