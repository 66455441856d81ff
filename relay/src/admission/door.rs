//! The door: who may begin at all, before anything is known of it but its address.
//!
//! A handshake is charged to its network and given back once it has led to an admission, so that neither the clients of a large
//! office nor five hundred that come back after a restart ever meet the limit, while who knocks in vain does. What a spoofed
//! address could be charged with is not charged: a QUIC client that has not proven its address pays when its handshake is whole.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tandem_protocol::{Close, limits};

use super::{Network, Refusal, Throttle, Total};
use crate::limits::Limits;
use crate::metrics::{Failure, Metrics, Phase, TurnedAway};

/// Who is at the door.
pub struct Door {
    limits: Limits,
    handshakes: Throttle,
    guesses: Throttle,
    all_guesses: Total,
    /// Unadmitted connections by network. No more entries than such connections.
    unadmitted: Mutex<HashMap<Network, usize>>,
    unadmitted_count: AtomicUsize,
    tcp_count: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// What to do with a QUIC client's first packet.
#[derive(Debug)]
pub enum Verdict {
    /// Shake hands.
    Enter(Visitor),
    /// Let it prove its address first: that costs the relay nothing.
    Retry,
    /// Send it away.
    Away,
}

/// Somebody who has knocked. Counted as unadmitted until it is admitted or gone.
#[derive(Debug)]
pub struct Visitor {
    door: Arc<Door>,
    network: Network,
    /// When it knocked.
    pub began: Instant,
    is_tcp: bool,
    /// A handshake was charged that is not given back.
    charged: AtomicBool,
    waiting: AtomicBool,
    /// Whether it has sent a request, and since when it has time to be admitted.
    asked: Mutex<(bool, Instant)>,
    /// How far it has come, until it says what it wants.
    phase: Mutex<Option<Phase>>,
}

impl Door {
    /// An open one.
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            limits,
            handshakes: Throttle::new(limits.handshakes),
            guesses: Throttle::new(limits.guesses),
            all_guesses: Total::new(limits.all_guesses),
            unadmitted: Mutex::default(),
            unadmitted_count: AtomicUsize::new(0),
            tcp_count: AtomicUsize::new(0),
            metrics,
        }
    }

    /// A TCP connection was accepted. `None`: it is to be closed at once; that was counted.
    pub fn tcp(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<Visitor> {
        let network = Network::of(address);
        if self.tcp_count.load(Ordering::Relaxed) >= self.limits.tcp_connections {
            self.metrics.turned_away(TurnedAway::Descriptors);
            return None;
        }
        let visitor = self.enter(network, true, now)?;
        visitor.pay(now).then_some(visitor)
    }

    /// A QUIC client's first packet came. `proven`: it has proven that it receives at its address.
    pub fn udp(self: &Arc<Self>, address: IpAddr, proven: bool, now: Instant) -> Verdict {
        let network = Network::of(address);
        let busy = self.unadmitted_count.load(Ordering::Relaxed) >= self.limits.retry_above;
        if !proven && (busy || !self.handshakes.has(network, now)) {
            self.metrics.turned_away(TurnedAway::Retry);
            return Verdict::Retry;
        }
        match self.enter(network, false, now) {
            Some(visitor) if !proven || visitor.pay(now) => Verdict::Enter(visitor),
            _ => Verdict::Away,
        }
    }

    fn enter(self: &Arc<Self>, network: Network, is_tcp: bool, began: Instant) -> Option<Visitor> {
        let mut unadmitted = self.unadmitted.lock();
        let of_network = unadmitted.get(&network).copied().unwrap_or(0);
        let all = self.unadmitted_count.load(Ordering::Relaxed);
        if all >= self.limits.unadmitted || of_network >= self.limits.unadmitted_per_network {
            self.metrics.turned_away(TurnedAway::Unadmitted);
            return None;
        }
        unadmitted.insert(network, of_network + 1);
        self.unadmitted_count.fetch_add(1, Ordering::Relaxed);
        if is_tcp {
            self.tcp_count.fetch_add(1, Ordering::Relaxed);
        }
        drop(unadmitted);
        self.metrics.unadmitted.increment(1.0);
        let (charged, waiting) = (AtomicBool::new(false), AtomicBool::new(true));
        let asked = Mutex::new((false, began));
        let phase = Mutex::new(Some(if is_tcp { Phase::First } else { Phase::Quic }));
        Some(Visitor { door: self.clone(), network, began, is_tcp, charged, waiting, asked, phase })
    }

    fn leave(&self, network: Network) {
        let mut unadmitted = self.unadmitted.lock();
        if let Some(count) = unadmitted.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                unadmitted.remove(&network);
            }
        }
        self.unadmitted_count.fetch_sub(1, Ordering::Relaxed);
        drop(unadmitted);
        self.metrics.unadmitted.decrement(1.0);
    }
}

impl Visitor {
    /// Whose it is.
    pub fn network(&self) -> Network {
        self.network
    }

    /// Until when it must have asked for something, and what it asks for must have come to an end that admits it.
    pub fn deadline(&self) -> Instant {
        self.asked.lock().1 + limits::ADMISSION_TIME
    }

    /// It has come so far. If it comes no further, that is counted when it goes.
    pub fn reaches(&self, phase: Phase) {
        *self.phase.lock() = Some(phase);
    }

    /// It has said what it wants.
    pub fn arrives(&self) {
        *self.phase.lock() = None;
    }

    /// It sent an HTTP request. The first counts from when it knocked.
    pub fn asks(&self, now: Instant) {
        self.arrives();
        let mut asked = self.asked.lock();
        let first = !std::mem::replace(&mut asked.0, true);
        if !first {
            asked.1 = now;
        }
    }

    /// Whether it has sent an HTTP request.
    pub fn has_asked(&self) -> bool {
        self.asked.lock().0
    }

    /// Charges its handshake to its network. `false`: there is none left, which was counted.
    pub fn pay(&self, now: Instant) -> bool {
        let paid = self.charged.load(Ordering::Relaxed) || self.door.handshakes.take(self.network, now);
        if !paid {
            self.door.metrics.turned_away(TurnedAway::Handshakes);
        }
        self.charged.store(paid, Ordering::Relaxed);
        paid
    }

    /// It has joined a session: what it was charged with is given back, and it is unadmitted no more.
    pub fn admitted(&self) {
        self.forgive();
        self.no_longer_waits();
    }

    /// What it came for was its right: what it was charged with is given back.
    pub fn forgive(&self) {
        if self.charged.swap(false, Ordering::Relaxed) {
            self.door.handshakes.give_back(self.network);
        }
    }

    /// Whether it may try a code.
    ///
    /// # Errors
    /// [`Close::TOO_MANY`].
    pub fn may_guess(&self, now: Instant) -> Result<(), Refusal> {
        let reason = if !self.door.guesses.has(self.network, now) {
            "too many wrong codes from your network: wait a little"
        } else if !self.door.all_guesses.has(now) {
            "too many wrong codes from everywhere: wait a little"
        } else {
            return Ok(());
        };
        Err(Refusal::new(Close::TOO_MANY, reason))
    }

    /// Its code was wrong.
    pub fn guessed_wrong(&self, now: Instant) {
        let last = !self.door.guesses.take(self.network, now) || !self.door.guesses.has(self.network, now);
        if last {
            tracing::warn!(network = %self.network, "wrong codes: no more of this network for now");
        }
        if !self.door.all_guesses.take(now) || !self.door.all_guesses.has(now) {
            tracing::warn!("wrong codes from many networks: no codes are taken for now");
        }
    }

    fn no_longer_waits(&self) {
        if self.waiting.swap(false, Ordering::Relaxed) {
            self.door.leave(self.network);
        }
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.no_longer_waits();
        if self.is_tcp {
            self.door.tcp_count.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(phase) = *self.phase.get_mut() {
            let late = Instant::now() >= self.deadline();
            self.door.metrics.handshake_failed(phase, if late { Failure::Late } else { Failure::Broken });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Rate;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

    fn door(change: impl FnOnce(&mut Limits)) -> Arc<Door> {
        let mut limits = Limits { handshakes: Rate::new(10, 1, SECOND), ..Limits::default() };
        change(&mut limits);
        Arc::new(Door::new(limits, Arc::default()))
    }

    #[test]
    fn who_is_admitted_gets_its_handshake_back_and_who_is_not_does_not() {
        let door = door(|_| {});
        let now = Instant::now();
        for _ in 0..500 {
            door.tcp(HERE, now).unwrap().admitted();
        }
        for _ in 0..10 {
            drop(door.tcp(HERE, now).unwrap());
        }
        assert!(door.tcp(HERE, now).is_none());
        assert!(door.tcp(THERE, now).is_some(), "another network is not concerned");
        assert!(door.tcp(HERE, now + SECOND).is_some());
    }

    #[test]
    fn an_address_that_was_not_proven_is_charged_only_when_its_handshake_is_whole() {
        let door = door(|_| {});
        let now = Instant::now();
        for _ in 0..100 {
            assert!(matches!(door.udp(HERE, false, now), Verdict::Enter(_)), "a spoofed one leaves nothing");
        }
        for _ in 0..10 {
            let Verdict::Enter(visitor) = door.udp(HERE, false, now) else { panic!("there was room") };
            assert!(visitor.pay(now));
        }
        assert!(matches!(door.udp(HERE, false, now), Verdict::Retry), "it must prove itself first");
        assert!(matches!(door.udp(HERE, true, now), Verdict::Away), "and then there is none left");
    }

    #[test]
    fn under_pressure_addresses_are_to_be_proven_and_there_is_an_end_to_waiting() {
        let door = door(|limits| (limits.retry_above, limits.unadmitted) = (2, 4));
        let now = Instant::now();
        let enter = |proven| door.udp(HERE, proven, now);
        let mut inside = vec![enter(false), enter(false)];
        assert!(inside.iter().all(|verdict| matches!(verdict, Verdict::Enter(_))));
        assert!(matches!(enter(false), Verdict::Retry));
        inside.extend([enter(true), enter(true)]);
        assert!(matches!(enter(true), Verdict::Away));
        assert!(door.tcp(THERE, now).is_none());
        inside.pop();
        assert!(door.tcp(THERE, now).is_some());
        drop(inside);
        assert!(door.unadmitted.lock().is_empty() && door.unadmitted_count.load(Ordering::Relaxed) == 0);
        assert!(matches!(enter(false), Verdict::Enter(_)));
    }

    #[test]
    fn wrong_codes_end_by_network_and_in_all() {
        let door = door(|limits| {
            limits.guesses = Rate::new(3, 1, 60 * SECOND);
            limits.all_guesses = Rate::new(5, 1, 60 * SECOND);
        });
        let now = Instant::now();
        let (here, there) = (door.tcp(HERE, now).unwrap(), door.tcp(THERE, now).unwrap());
        for visitor in [&here, &here, &here, &there] {
            assert!(visitor.may_guess(now).is_ok());
            visitor.guessed_wrong(now);
        }
        assert_eq!(here.may_guess(now).unwrap_err().close, Close::TOO_MANY);
        assert!(there.may_guess(now).is_ok());
        there.guessed_wrong(now);
        assert!(there.may_guess(now).unwrap_err().reason.contains("everywhere"));
        assert!(there.may_guess(now + 60 * SECOND).is_ok());
    }

    #[test]
    fn tcp_connections_end_where_descriptors_do() {
        let door = door(|limits| limits.tcp_connections = 2);
        let now = Instant::now();
        let one = door.tcp(HERE, now).unwrap();
        one.admitted();
        let other = door.tcp(HERE, now).unwrap();
        assert!(door.tcp(THERE, now).is_none(), "the admitted count too");
        assert!(matches!(door.udp(THERE, true, now), Verdict::Enter(_)), "UDP needs none");
        drop((one, other));
        assert!(door.tcp(THERE, now).is_some());
    }
}
