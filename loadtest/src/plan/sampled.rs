//! What each client of a plan is: drawn from the seed and the session's number alone, so that a session is the same however many
//! there are beside it.
//!
//! Shares are met as closely as whole clients allow, however few there are: clients are spread over them evenly, not by lot.

use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tandem_client::Transport;

use super::{Plan, Range, Shares, Transports};

/// How a technician behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Manner {
    /// Comes, watches, stays.
    Steady,
    /// Never comes.
    Absent,
    /// Comes, and looks elsewhere once it has seen a picture.
    Hidden,
    /// Leaves and comes back, over and over: for how many seconds it stays and is away.
    Churning { stay: Range, away: Range },
    /// Behind a line that takes no more than so many kbit/s.
    Slow { kbit: f64 },
}

/// A technician.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Technician {
    pub(crate) transport: Transport,
    pub(crate) manner: Manner,
    /// After how many seconds it is killed and started again, over and over.
    pub(crate) drops: Option<Range>,
    /// For what it draws itself.
    pub(crate) seed: u64,
}

/// A session.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Session {
    pub(crate) number: usize,
    /// Its customer.
    pub(crate) transport: Transport,
    pub(crate) drops: Option<Range>,
    pub(crate) seed: u64,
    /// Pictures and input events a second.
    pub(crate) fps: f64,
    pub(crate) inputs: f64,
    /// The first one leads.
    pub(crate) technicians: Vec<Technician>,
}

/// Multiples of it, without their whole parts, are spread evenly, however many there are.
const GOLDEN: f64 = 0.618_033_988_749_895;
/// Another such number, so that two spreads have nothing to do with one another.
const SILVER: f64 = 0.414_213_562_373_095;
/// And a third.
const BRONZE: f64 = 0.302_775_637_731_995;

impl Plan {
    /// Every session, with all that its clients draw.
    pub(crate) fn sample(&self) -> Vec<Session> {
        (0..self.sessions).map(|number| self.session(number)).collect()
    }

    fn session(&self, number: usize) -> Session {
        // An odd factor keeps neighbours apart; the generator's seeding mixes the rest.
        let own = self.seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut rng = StdRng::seed_from_u64(own);
        let clients = self.technicians + 1;
        let technicians = (0..self.technicians)
            .map(|at| {
                let client = number * clients + at + 1;
                Technician {
                    transport: self.transport(client),
                    manner: self.manner(number, at, &mut rng),
                    drops: self.drop(client),
                    seed: rng.random(),
                }
            })
            .collect();
        Session {
            number,
            transport: self.transport(number * clients),
            drops: self.drop(number * clients),
            seed: rng.random(),
            fps: self.fps.sample(&mut rng),
            inputs: self.inputs.sample(&mut rng),
            technicians,
        }
    }

    /// A number from 0 to 1 for each client, spread evenly.
    fn spread(&self, client: usize, step: f64) -> f64 {
        let offset = (self.seed % 1_000) as f64 / 1e3;
        (offset + (client as f64 + 0.5) * step).fract()
    }

    fn transport(&self, client: usize) -> Transport {
        match self.transports {
            Transports::Quic => Transport::Quic,
            Transports::WebSocket => Transport::WebSocket,
            Transports::Mixed if self.spread(client, GOLDEN) < self.quic_share => Transport::Quic,
            Transports::Mixed => Transport::WebSocket,
        }
    }

    fn drop(&self, client: usize) -> Option<Range> {
        (self.spread(client, SILVER) < self.drops).then_some(self.drop_every)
    }

    fn manner(&self, session: usize, at: usize, rng: &mut StdRng) -> Manner {
        // Where there are several, the one that leads keeps the session going for the others.
        let others = self.technicians - usize::from(self.technicians > 1);
        if self.technicians > 1 && at == 0 {
            return Manner::Steady;
        }
        let among = session * others + at - usize::from(self.technicians > 1);
        let place = self.spread(among, BRONZE);
        let Shares { absent, hidden, churn, slow } = self.shares;
        let manners = [
            (absent, Manner::Absent),
            (hidden, Manner::Hidden),
            (churn, Manner::Churning { stay: self.stay, away: self.away }),
            (slow, Manner::Slow { kbit: self.slow_kbit.sample(rng) }),
        ];
        let mut end = 0.0;
        for (share, manner) in manners {
            end += share;
            if place < end {
                return manner;
            }
        }
        Manner::Steady
    }
}

#[cfg(test)]
mod tests {
    use super::super::Written;
    use super::*;

    fn plan(text: &str) -> Plan {
        Written::parse(text).unwrap().resolve().unwrap()
    }

    #[test]
    fn a_session_is_the_same_however_many_there_are_beside_it() {
        let text = "pairs = 3\nfps = \"1..60\"\ninputs = \"20..1000\"\nslow = 0.5\nslow_kbit = \"100..900\"\ndrops = 0.5";
        let few = plan(text).sample();
        let many = plan(&text.replace("pairs = 3", "pairs = 30")).sample();
        assert_eq!(few[..], many[..3]);
        let other = plan(&format!("{text}\nseed = 2")).sample();
        assert_ne!(few, other);
        let rates: Vec<f64> = many.iter().map(|session| session.inputs).collect();
        assert!(rates.iter().all(|rate| (20.0..=1000.0).contains(rate)));
        assert!(rates.iter().any(|&rate| rate > 600.0) && rates.iter().any(|&rate| rate < 400.0));
    }

    #[test]
    fn shares_are_met_with_few_clients_too_and_nobody_is_two_things() {
        for seed in 0..20 {
            let plan = plan(&format!(
                "pairs = 20\nseed = {seed}\nabsent = 0.1\nhidden = 0.2\nchurn = 0.3\nslow = 0.2\nstay_seconds = 1"
            ));
            let sessions = plan.sample();
            let count = |is: fn(Manner) -> bool| {
                sessions.iter().filter(|session| is(session.technicians[0].manner)).count()
            };
            let counts = [
                (count(|manner| manner == Manner::Absent), 2),
                (count(|manner| manner == Manner::Hidden), 4),
                (count(|manner| matches!(manner, Manner::Churning { .. })), 6),
                (count(|manner| matches!(manner, Manner::Slow { .. })), 4),
                (count(|manner| manner == Manner::Steady), 4),
            ];
            for (count, expected) in counts {
                assert!(count.abs_diff(expected) <= 1, "{counts:?} with seed {seed}");
            }
        }
    }

    #[test]
    fn who_leads_others_is_steady_and_transports_are_mixed() {
        let plan = plan("pairs = 10\ntechnicians = 4\nslow = 1\ntransport = \"mixed\"\nquic_share = 0.3");
        let sessions = plan.sample();
        for session in &sessions {
            assert_eq!(session.technicians[0].manner, Manner::Steady);
            assert!(session.technicians[1..].iter().all(|one| matches!(one.manner, Manner::Slow { .. })));
        }
        let clients = sessions.iter().flat_map(|session| {
            std::iter::once(session.transport).chain(session.technicians.iter().map(|one| one.transport))
        });
        let quic = clients.filter(|&transport| transport == Transport::Quic).count();
        assert!((14..=16).contains(&quic), "{quic} of 50");
    }
}
