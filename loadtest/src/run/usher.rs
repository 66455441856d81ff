//! Opens sessions ahead of when they are to begin, so that the time that a relay's desk takes is nobody's lateness.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::desk::{Opener, Seats};
use super::sleep_until;
use crate::plan::{Plan, Session};

/// A session is opened so long before it is to begin: longer than a desk takes, and shorter than what it gives is good for (a minute).
const AHEAD: Duration = Duration::from_secs(20);

/// A session, how its ends join, and when they are to.
#[derive(Debug)]
pub(super) struct Seated {
    pub(super) session: Session,
    pub(super) seats: Seats,
    pub(super) arrives: Instant,
}

/// A session of which only this is known yet: how long after the first it is to begin.
type Planned = (Duration, Session);

/// The sessions of a try, in the order in which they come.
#[derive(Debug)]
pub(super) struct Usher {
    /// Bounded by how many there are.
    seated: mpsc::Receiver<anyhow::Result<(Planned, Seats)>>,
    /// When the first is to begin.
    began: Instant,
    _opens: AbortOnDropHandle<()>,
}

impl Usher {
    /// Opens those that come soon; only then the first begins. Goes on with the others in their time.
    pub(super) async fn start(opener: Arc<Opener>, plan: &Plan) -> Self {
        let after = |number: usize| plan.ramp.mul_f64(number as f64 / plan.sessions as f64);
        let sessions = plan.sample().into_iter().map(|session| (after(session.number), session)).collect();
        let (seats, seated) = mpsc::channel(plan.sessions.max(1));
        let (begins, began) = oneshot::channel();
        let opens = AbortOnDropHandle::new(tokio::spawn(open_all(opener, sessions, seats, begins)));
        // Nothing is said when one cannot be opened: the next answer does.
        let began = began.await.unwrap_or_else(|_| Instant::now());
        Self { seated, began, _opens: opens }
    }

    /// The next session. There must be one.
    pub(super) async fn next(&mut self) -> anyhow::Result<Seated> {
        let ((after, session), seats) = self.seated.recv().await.context("no session is left")??;
        Ok(Seated { session, seats, arrives: self.began + after })
    }
}

/// Opens all, and says when the first may begin. Ends with the first that cannot be opened.
async fn open_all(
    opener: Arc<Opener>,
    sessions: Vec<Planned>,
    seats: mpsc::Sender<anyhow::Result<(Planned, Seats)>>,
    begins: oneshot::Sender<Instant>,
) {
    let open = async |planned: Planned| {
        let opened = opener.open(planned.1.technicians.len()).await;
        let is_open = opened.is_ok();
        is_open & seats.send(opened.map(|seats| (planned, seats))).await.is_ok()
    };
    let (soon, later): (Vec<_>, Vec<_>) = sessions.into_iter().partition(|&(after, _)| after < AHEAD);
    for planned in soon {
        if !open(planned).await {
            return;
        }
    }
    let began = Instant::now();
    // An error means that nobody waits for them any more, as the next one will find.
    let _ = begins.send(began);
    for planned in later {
        sleep_until(began + planned.0.saturating_sub(AHEAD)).await;
        if !open(planned).await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Written;
    use crate::run::desk::Signer;

    /// Three sessions that come within this time.
    async fn usher(ramp: Duration) -> Usher {
        let plan = Written::default().resolve().unwrap();
        let opener = Arc::new(Opener::Signer(Signer::generate().unwrap()));
        Usher::start(opener, &Plan { sessions: 3, ramp, ..plan }).await
    }

    #[tokio::test]
    async fn whoever_comes_soon_has_a_seat_before_the_first_begins() {
        let mut usher = usher(Duration::from_secs(30)).await;
        assert_eq!(usher.seated.len(), 2, "the third comes after 20 s, which is not soon");
        let mut arrive = Vec::new();
        for number in 0..2 {
            let Seated { session, seats, arrives } = usher.next().await.unwrap();
            assert_eq!((session.number, seats.technicians.len()), (number, session.technicians.len()));
            arrive.push((arrives - usher.began).as_secs_f64());
        }
        assert_eq!(arrive, [0.0, 10.0]);
        assert_eq!(usher.next().await.unwrap().session.number, 2);
        assert!(usher.next().await.is_err());
    }

    #[tokio::test]
    async fn nobody_has_a_seat_so_early_that_it_is_not_good_any_more() {
        let usher = usher(Duration::from_secs(3000)).await;
        assert_eq!(usher.seated.len(), 1);
    }
}
