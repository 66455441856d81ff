//! What a TCP socket holds, and how much it should: everything given to the kernel and not yet delivered counts as under way,
//! sent or not, and is bounded like the packets of a QUIC connection.
//!
//! The kernel's own congestion control goes on underneath, as a second bound. CUBIC stands still less than BBR as long as nothing
//! is lost (BBR sends next to nothing for 200 ms every ten seconds), and takes random loss for congestion; so a connection
//! begins with the one, changes to the other when it loses packets without a queue, and back when it has lost none for a
//! minute, where the system allows that.
//!
//! Systems other than Linux do not tell enough; there only the kernel's own bound on unsent bytes holds.
#![cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    expect(dead_code, reason = "other systems don't tell what a socket holds")
)]

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux;
mod losses;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::bucket::{self, Bucket};
use crate::control::Control;
use crate::quic::Congestion;
use crate::state::State;

use losses::Losses;

/// Unsent bytes at which the kernel asks for more.
pub const NOTSENT: u32 = 16 << 10;
/// Longest time between two tries to send again what was not acknowledged: after a black-out the next is never far.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Shortest and longest wait before a full socket is looked at again.
const LOOK_MIN: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_millis(8);
/// Bytes of a message that it does not know of: the WebSocket's frame, the TLS record, and the headers of TCP and IP, which the
/// rate that a socket tells leaves out, about.
const MESSAGE_OVERHEAD: usize = 60;
/// Time of the path's rate that may wait in the kernel to be sent.
const UNSENT: Duration = Duration::from_millis(5);
/// Largest piece before the path's rate is known.
const FIRST_PIECE: usize = 4096;

/// Prepares a connected socket: nothing waits to be joined with more, little waits unsent, and retries are not too far apart.
/// What the system does not know or allow is left as it is.
pub fn prepare(socket: &SockRef<'_>, congestion: Congestion) {
    let _ = socket.set_tcp_nodelay(true);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let _ = socket.set_tcp_notsent_lowat(NOTSENT);
        let _ = socket.set_tcp_thin_linear_timeouts(true);
        let _ = linux::set_retry_max(socket, RETRY_MAX);
        let _ = socket.set_tcp_congestion(match congestion {
            Congestion::Bbr => b"bbr",
            Congestion::Cubic | Congestion::Delay => b"cubic",
            Congestion::NewReno => b"reno",
        });
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (congestion, RETRY_MAX);
}

/// One end's bound on one TCP connection.
#[derive(Debug)]
pub struct Bound {
    congestion: Congestion,
    control: Control,
    bucket: Bucket,
    /// Ends of what was given to the kernel, and when (`None`: nobody knows, or before a black-out); acknowledged ones are gone.
    log: VecDeque<(u64, Option<Instant>)>,
    /// As the kernel counts: given to it, and delivered.
    accepted: u64,
    delivered: u64,
    retransmitted: u32,
    /// What was lost before this was delivered was lost in a black-out.
    forgiven: u64,
    looked: Option<Instant>,
    state: State,
    known: bool,
    /// Something was written that was not looked after: when it was given to the kernel is not known.
    untimed: bool,
    losses: Losses,
}

/// What a socket says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sample {
    /// Bytes acknowledged without a gap.
    acknowledged: u64,
    /// Bytes given to it and not acknowledged, sent or not.
    held: u64,
    /// Bytes of these that were not sent.
    unsent: u64,
    /// Segments under way, and those of them that were acknowledged beyond a gap.
    under_way: u32,
    beyond: u32,
    /// Segments sent again, ever.
    retransmitted: u32,
    /// Segments sent, ever.
    segments: u32,
    /// How long ago an acknowledgement came, in ticks of the kernel's.
    heard: Duration,
    /// The kernel's shortest round trip; zero: unknown.
    round_trip_min: Duration,
}

impl Bound {
    /// Of a connection that begins.
    pub fn new(congestion: Congestion) -> Self {
        Self {
            congestion,
            control: Control::new(SEGMENT, 0, 0).over_kernel(),
            bucket: Bucket::default(),
            log: VecDeque::new(),
            accepted: 0,
            delivered: 0,
            retransmitted: 0,
            forgiven: 0,
            looked: None,
            state: State::default(),
            known: false,
            untimed: false,
            losses: Losses::default(),
        }
    }

    /// Looks at the socket: to be called before more is written that the path must have room for, and right after.
    pub fn look(&mut self, socket: &SockRef<'_>, now: Instant) -> State {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Ok(sample) = linux::sample(socket) {
            let lost = self.take(sample, now);
            let queue = self.control.has_queue();
            // Not everybody may change it.
            if self.congestion == Congestion::Delay
                && let Some(lossy) = self.losses.judge(sample, lost, queue, now)
                && socket.set_tcp_congestion(if lossy { b"bbr" } else { b"cubic" }).is_ok()
                && lossy
            {
                self.control.start_again();
            }
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _ = socket;
        self.bucket.fill(self.state.pace, now);
        self.state
    }

    /// Whether more than what is urgent may be written.
    pub fn is_open(&self) -> bool {
        let State { window, in_flight, unsent, rate, pace, .. } = self.state;
        // Where the kernel's own window is what holds us back, nothing is gained by what waits for it, and its wait would count as the
        // path's.
        let unsent_max = (rate * UNSENT.as_secs_f64()).max(2.0 * f64::from(SEGMENT));
        !self.known
            || (self.bucket.is_open(pace) && in_flight + unsent < window && (unsent as f64) < unsent_max)
    }

    /// When to look again, if it is not open.
    pub fn opens_at(&self, now: Instant) -> Instant {
        if !self.bucket.is_open(self.state.pace) {
            return self.bucket.opens_at(self.state.pace, now).max(now + LOOK_MIN);
        }
        let packet = Duration::from_secs_f64(f64::from(SEGMENT) / self.state.rate.max(1.0));
        now + packet.clamp(LOOK_MIN, LOOK_MAX)
    }

    /// Bytes to be written at once.
    pub fn piece(&self) -> usize {
        match self.known {
            true if self.state.pace > 0.0 => bucket::piece(self.state.pace),
            true => FIRST_PIECE,
            false => bucket::piece(0.0),
        }
    }

    /// A message of so many bytes, not all of it urgent, was written.
    pub fn wrote(&mut self, bytes: usize) {
        self.bucket.take(bytes + MESSAGE_OVERHEAD);
    }

    /// Something was written and nobody will look right after: little enough for it not to matter. It tells nothing of the path.
    pub fn wrote_unseen(&mut self) {
        self.untimed = true;
    }

    /// What is known of the path.
    pub fn state(&self) -> State {
        self.state
    }

    /// Takes a look in, and tells how many segments were sent again since the last one.
    fn take(&mut self, sample: Sample, now: Instant) -> u32 {
        let accepted = sample.acknowledged + sample.held;
        // Segments are as long as what was written at once: the kernel counts them, not their bytes.
        let segment = sample.held.saturating_sub(sample.unsent) / u64::from(sample.under_way.max(1));
        let beyond = sample.acknowledged + u64::from(sample.beyond) * segment;
        if !self.known {
            // Handshakes came before us.
            (self.accepted, self.delivered) = (accepted, sample.acknowledged);
            self.retransmitted = sample.retransmitted;
            self.known = true;
        }
        // Where nobody has looked for a while, it was delivered before now.
        let heard = now.checked_sub(sample.heard).unwrap_or(now).max(self.looked.unwrap_or(now));
        let heard = if self.looked.is_some_and(|looked| now < looked + LOOK_MAX) { now } else { heard };
        self.looked = Some(now);
        let delivered = match sample.beyond {
            0 => sample.acknowledged,
            _ => sample.acknowledged.max(beyond.min(self.arrived_by(heard, sample.round_trip_min))),
        };
        self.forgive_black_out(delivered, now);
        self.delivered(delivered.clamp(self.delivered, self.accepted), heard);
        if accepted > self.accepted {
            self.control.sent(accepted - self.accepted, now);
            self.log.push_back((accepted, (!self.untimed).then_some(now)));
            self.accepted = accepted;
        }
        self.untimed = false;
        let again = sample.retransmitted.saturating_sub(self.retransmitted);
        if again > 0 {
            self.retransmitted = sample.retransmitted;
        }
        let counts = again > 0 && self.delivered >= self.forgiven;
        if counts {
            self.control.lost(u64::from(again) * segment.min(SEGMENT.into()), false, now);
        }
        let held = self.accepted - self.delivered;
        let unsent = sample.unsent.min(held);
        self.state = State { unsent, in_flight: held - unsent, ..self.control.state() };
        if counts { again } else { 0 }
    }

    /// What can have been delivered and heard of by then. How many bytes beyond a gap have arrived is reckoned, and to take some for
    /// delivered before they can have been would make a round trip that there is not, and a queue of all that come after.
    fn arrived_by(&self, heard: Instant, round_trip_min: Duration) -> u64 {
        let sent_by = |at: Option<Instant>| at.is_none_or(|at| at + round_trip_min <= heard);
        let sent = self.log.iter().take_while(|&&(_, at)| sent_by(at));
        sent.last().map_or(self.delivered, |&(end, _)| end)
    }

    /// When something is delivered again after a black-out: what was lost in it says nothing of the path.
    fn forgive_black_out(&mut self, delivered: u64, now: Instant) {
        let since = self.control.state().silent_since.unwrap_or(now);
        if delivered > self.delivered && self.control.was_black_out(now.saturating_duration_since(since)) {
            self.forgiven = self.accepted;
            self.log.iter_mut().for_each(|entry| entry.1 = None);
            self.control.resume(now);
        }
    }

    /// So much has been delivered.
    fn delivered(&mut self, delivered: u64, now: Instant) {
        if delivered <= self.delivered {
            return;
        }
        while self.delivered < delivered
            && let Some(&(end, at)) = self.log.front()
        {
            if let Some(at) = at {
                self.control.acknowledge(at, delivered.min(end) - self.delivered);
            }
            self.delivered = delivered.min(end);
            if end > delivered {
                break;
            }
            self.log.pop_front();
        }
        self.delivered = delivered;
        self.control.acknowledged(self.accepted - delivered, now);
    }
}

/// Bytes of a segment, about.
const SEGMENT: u16 = 1448;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn what_a_socket_holds_is_known_until_the_other_end_has_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        prepare(&SockRef::from(&near), Congestion::default());
        let mut bound = Bound::new(Congestion::default());
        let now = Instant::now();
        bound.look(&SockRef::from(&near), now);
        assert!(bound.is_open());
        near.write_all(&[7; 5000]).unwrap();
        far.read_exact(&mut [0; 5000]).unwrap();
        bound.look(&SockRef::from(&near), now + Duration::from_millis(1));
        let sample = linux::sample(&SockRef::from(&near)).unwrap();
        assert_eq!(sample.acknowledged + sample.held, bound.accepted);
        assert!(sample.segments > 0);
    }

    fn given(acknowledged: u64, held: u64) -> Sample {
        Sample { acknowledged, held, under_way: (held / 1000) as u32, ..Sample::default() }
    }

    #[test]
    fn a_full_window_closes_until_something_arrives() {
        let mut bound = Bound::new(Congestion::default());
        let mut now = Instant::now();
        bound.take(given(0, 0), now);
        bound.take(given(0, 100_000), now);
        assert!(!bound.is_open());
        now += Duration::from_millis(100);
        bound.take(given(90_000, 10_000), now);
        assert!(bound.is_open());
        // Beyond a gap counts as arrived.
        bound.take(Sample { beyond: 10, ..given(90_000, 10_000) }, now + Duration::from_millis(1));
        assert_eq!(bound.state().in_flight, 0);
    }

    #[test]
    fn a_black_out_changes_nothing_of_what_is_known() {
        let mut bound = Bound::new(Congestion::default());
        let mut now = Instant::now();
        let mut given_bytes = 0;
        for _ in 0..50 {
            bound.take(given(given_bytes, 0), now);
            bound.take(given(given_bytes, 10_000), now);
            given_bytes += 10_000;
            now += Duration::from_millis(50);
        }
        let known = bound.state();
        assert!(known.rate > 100_000.0 && known.rtt_min == Duration::from_millis(50), "{known:?}");
        // What is under way comes two seconds late, and half of it had to be sent again.
        now += Duration::from_secs(2);
        bound.take(Sample { retransmitted: 5, ..given(given_bytes, 0) }, now);
        assert_eq!((bound.state().rate, bound.state().rtt_min), (known.rate, known.rtt_min));
    }

    #[test]
    fn what_arrived_beyond_a_gap_makes_no_round_trip_that_there_is_not() {
        let mut bound = Bound::new(Congestion::default());
        let mut now = Instant::now();
        let path = Duration::from_millis(100);
        let sample = |acknowledged, held| Sample { round_trip_min: path, ..given(acknowledged, held) };
        bound.take(sample(0, 0), now);
        let mut given_bytes = 0;
        for _ in 0..10 {
            // A hundred small segments, then after a while ten large ones.
            bound.take(Sample { under_way: 100, ..sample(given_bytes, 10_000) }, now);
            let later = now + path * 9 / 10;
            bound.take(Sample { under_way: 110, ..sample(given_bytes, 24_000) }, later);
            // All small ones but the first have arrived, which are fewer bytes than as many segments on average.
            now += path + Duration::from_millis(1);
            bound.take(Sample { under_way: 110, beyond: 99, ..sample(given_bytes, 24_000) }, now);
            assert!(bound.state().rtt_min >= path, "{:?}", bound.state().rtt_min);
            given_bytes += 24_000;
            now += path;
            bound.take(sample(given_bytes, 0), now);
        }
    }
}
