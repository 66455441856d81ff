//! Opens sessions ahead of when they are to begin, so that the time that a relay's desk takes is nobody's lateness.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::desk::{Opener, Seats};
use super::{PATIENCE, sleep_until};
use crate::plan::{Plan, Session};

/// A session is opened so long before it is to begin: longer than a desk takes, and shorter than what it gives is good for (a minute).
const AHEAD: Duration = Duration::from_secs(20);
/// So many are opened at once: across a long path one after the other would take too long, and a desk is not to be flooded.
const AT_ONCE: usize = 16;

/// A session, how its ends join, and when they are to.
#[derive(Debug)]
pub(super) struct Seated {
    pub(super) session: Session,
    pub(super) seats: Seats,
    pub(super) arrives: Instant,
}

/// A session of which only this is known yet: how long after the first it is to begin.
type Planned = (Duration, Session);

/// A session that was opened, and when that was asked for.
#[derive(Debug)]
struct Opened {
    after: Duration,
    session: Session,
    seats: Seats,
    asked: Instant,
}

/// The sessions of a try, in the order in which they come.
#[derive(Debug)]
pub(super) struct Usher {
    /// Bounded by how many there are.
    seated: mpsc::Receiver<anyhow::Result<Opened>>,
    /// When the first is to begin.
    began: Instant,
    _opens: AbortOnDropHandle<()>,
}

impl Usher {
    /// Opens those that come soon; only then the first begins. Goes on with the others in their time.
    ///
    /// # Errors
    /// When one of them cannot be opened, or the desk took so long that the relay might refuse what it gave first.
    pub(super) async fn start(opener: Arc<Opener>, plan: &Plan) -> anyhow::Result<Self> {
        let after = |number: usize| plan.ramp.mul_f64(number as f64 / plan.sessions as f64);
        let sessions = plan.sample().into_iter().map(|session| (after(session.number), session));
        let (soon, later): (Vec<_>, Vec<_>) = sessions.partition(|&(after, _)| after < AHEAD);
        let good_for = opener.good_for();
        let open = move |planned| open(opener.clone(), planned);

        let mut opened = Vec::with_capacity(soon.len());
        let first = Instant::now();
        open_each(soon, open.clone(), |seat| opened.push(seat)).await?;
        let began = Instant::now();
        let ages = opened.iter().map(|seat| began + seat.after - seat.asked);
        let oldest = ages.max().unwrap_or_default();
        ensure!(
            is_good(oldest, good_for),
            "the desk is too slow for this plan, and nothing was measured: it took {:.1} s to open {} sessions, what it gives is good for {} s, \
             and clients may take {} s to join. Let them come over a longer time (--ramp-seconds), or take fewer",
            (began - first).as_secs_f64(),
            opened.len(),
            good_for.as_secs(),
            PATIENCE.as_secs()
        );

        let (seats, seated) = mpsc::channel(plan.sessions.max(1));
        let give = {
            let seats = seats.clone();
            // An error means that nobody waits for them any more.
            move |seat| drop(seats.try_send(Ok(seat)))
        };
        opened.into_iter().for_each(&give);
        let in_time = move |planned: Planned| {
            let (from, open) = (began + planned.0.saturating_sub(AHEAD), open.clone());
            async move {
                sleep_until(from).await;
                open(planned).await
            }
        };
        let opens = tokio::spawn(async move {
            if let Err(error) = open_each(later, in_time, give).await {
                let _ = seats.try_send(Err(error));
            }
        });
        Ok(Self { seated, began, _opens: AbortOnDropHandle::new(opens) })
    }

    /// The next session. There must be one.
    pub(super) async fn next(&mut self) -> anyhow::Result<Seated> {
        let opened = self.seated.recv().await.context("no session is left")??;
        let Opened { after, session, seats, .. } = opened;
        Ok(Seated { session, seats, arrives: self.began + after })
    }
}

/// Opens one now.
async fn open(opener: Arc<Opener>, (after, session): Planned) -> anyhow::Result<Opened> {
    let asked = Instant::now();
    let seats = opener.open(session.technicians.len()).await?;
    Ok(Opened { after, session, seats, asked })
}

/// Whether the relay still takes what is so old when its client comes.
fn is_good(age: Duration, good_for: Duration) -> bool {
    age + PATIENCE <= good_for
}

/// Opens sessions, several at once, and hands them on in their order. Ends with the first that cannot be opened.
async fn open_each<S, O, W>(
    sessions: Vec<S>,
    open: impl Fn(S) -> W,
    mut hand_on: impl FnMut(O),
) -> anyhow::Result<()>
where
    O: Send + 'static,
    W: Future<Output = anyhow::Result<O>> + Send + 'static,
{
    let mut sessions = sessions.into_iter();
    let mut opening = VecDeque::with_capacity(AT_ONCE);
    loop {
        let more = sessions.by_ref().take(AT_ONCE - opening.len());
        opening.extend(more.map(|session| AbortOnDropHandle::new(tokio::spawn(open(session)))));
        let Some(next) = opening.pop_front() else { return Ok(()) };
        hand_on(next.await.context("opening a session failed")??);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use anyhow::bail;
    use tokio::sync::Barrier;

    use super::*;
    use crate::plan::Written;
    use crate::run::desk::Signer;

    /// Three sessions that come within this time.
    async fn usher(ramp: Duration) -> Usher {
        let plan = Written::default().resolve().unwrap();
        let opener = Arc::new(Opener::Signer(Signer::generate().unwrap()));
        Usher::start(opener, &Plan { sessions: 3, ramp, ..plan }).await.unwrap()
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

    #[tokio::test]
    async fn sixteen_are_opened_at_once_and_handed_on_in_order() {
        // None of sixteen goes on before all are there: fewer at once would never end.
        let (barrier, open) = (Arc::new(Barrier::new(AT_ONCE)), Arc::new(AtomicUsize::new(0)));
        let most = Arc::new(AtomicUsize::new(0));
        let opened = {
            let (open, most) = (open.clone(), most.clone());
            move |number: usize| {
                let (barrier, open, most) = (barrier.clone(), open.clone(), most.clone());
                async move {
                    most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    barrier.wait().await;
                    open.fetch_sub(1, Ordering::SeqCst);
                    Ok(number)
                }
            }
        };
        let mut numbers = Vec::new();
        open_each((0..3 * AT_ONCE).collect(), opened, |number| numbers.push(number)).await.unwrap();
        assert_eq!(numbers, (0..3 * AT_ONCE).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::SeqCst), AT_ONCE);
    }

    #[tokio::test]
    async fn the_first_that_cannot_be_opened_ends_it() {
        let open = async |number: usize| if number == 3 { bail!("no") } else { Ok(number) };
        let mut numbers = Vec::new();
        assert!(open_each((0..40).collect(), open, |number| numbers.push(number)).await.is_err());
        assert_eq!(numbers, [0, 1, 2]);
    }

    #[test]
    fn a_token_is_not_used_in_the_last_third_of_its_minute() {
        let minute = Duration::from_secs(60);
        assert!(is_good(Duration::from_secs(40), minute));
        assert!(!is_good(Duration::from_millis(40_001), minute));
        // Those that this program signs itself are good for longer.
        assert!(is_good(Duration::from_secs(500), Duration::from_secs(600)));
    }
}
