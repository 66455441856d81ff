//! Which binding reaches the relay: QUIC, and 250 ms later the WebSocket beside it. The first that is welcomed is used.
//!
//! Both are one attempt to the relay, and a second `Hello` of an attempt replaces the first. So the connection that is ready
//! second holds its `Hello` back while the first may still be answered: only a first that stays silent is overtaken.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_path::Congestion;
use tandem_protocol::message::{Welcome, control};
use tandem_protocol::{Close, limits};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::link::{Link, Lost};
use crate::proxy::Proxy;
use crate::target::Target;
use crate::{Binding, Options, Transport, quic, websocket};

/// How long the first `Hello` may stay unanswered before the other connection sends its own.
const HEAD_START_OF_A_HELLO: Duration = Duration::from_secs(2);

/// How far the race is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// Nobody has said `Hello`.
    Open,
    /// Somebody has, then.
    Hello(Instant),
    /// Somebody was welcomed, or refused for both.
    Over,
}

/// A connection that was welcomed.
#[derive(Debug)]
pub(crate) struct Joined {
    pub link: Link,
    pub welcome: Welcome,
    pub binding: Binding,
    /// When the relay answered.
    pub at: Instant,
}

/// Why nobody was welcomed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub lost: Lost,
    /// Another try before this has passed is refused too.
    pub retry_after: Duration,
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        Self { lost, retry_after: Duration::ZERO }
    }
}

/// Joins over the binding that answers first.
pub(crate) async fn join(options: &Options, target: &Target, hello: &Bytes) -> Result<Joined, Failure> {
    let Options { transport, congestion, .. } = *options;
    let proxy = options.proxies.towards(target).cloned();
    let (gate, _) = watch::channel(Gate::Open);
    let mut runners = JoinSet::new();
    let start = |runners: &mut JoinSet<_>, binding| {
        let way = Way { target: target.clone(), proxy: proxy.clone(), congestion };
        runners.spawn(run(binding, way, hello.clone(), gate.clone()));
    };
    let mut websocket_waits = transport == Transport::Auto && target.is_secure() && proxy.is_none();
    if websocket_waits || transport == Transport::Quic {
        start(&mut runners, Binding::Quic);
    } else {
        start(&mut runners, Binding::WebSocket);
    }
    let head_start = tokio::time::sleep(limits::RACE_HEAD_START);
    tokio::pin!(head_start);
    let mut failure: Option<Failure> = None;
    loop {
        tokio::select! {
            () = &mut head_start, if websocket_waits => {
                websocket_waits = false;
                start(&mut runners, Binding::WebSocket);
            }
            finished = runners.join_next() => match finished {
                Some(Ok(Ok(joined))) => {
                    // The loser says farewell; it has a deadline of its own.
                    runners.detach_all();
                    return Ok(joined);
                }
                Some(Ok(Err(failed))) => {
                    let refused = failed.lost.close.is_some();
                    failure = Some(worse(failure, failed));
                    if refused {
                        break;
                    }
                    if std::mem::take(&mut websocket_waits) {
                        start(&mut runners, Binding::WebSocket);
                    }
                }
                Some(Err(error)) => failure = Some(Lost::path(error).into()),
                None => break,
            }
        }
    }
    gate.send_replace(Gate::Over);
    runners.detach_all();
    Err(failure.unwrap_or_else(|| Lost::path("no binding was tried").into()))
}

/// Of two failures the one that says more: what the relay said, or else what came last (the WebSocket's, which people know).
fn worse(one: Option<Failure>, other: Failure) -> Failure {
    one.filter(|one| one.lost.close.is_some()).unwrap_or(other)
}

/// How a relay is reached, whatever the binding.
struct Way {
    target: Target,
    proxy: Option<Proxy>,
    congestion: Congestion,
}

async fn run(binding: Binding, way: Way, hello: Bytes, gate: watch::Sender<Gate>) -> Result<Joined, Failure> {
    let mut over = gate.subscribe();
    let Way { target, proxy, congestion } = way;
    let connecting = async {
        Ok::<_, Lost>(match binding {
            Binding::Quic => Link::Quic(Box::new(quic::connect(&target, congestion).await?)),
            Binding::WebSocket => {
                Link::WebSocket(Box::new(websocket::connect(&target, proxy.as_ref(), congestion).await?))
            }
        })
    };
    let mut link = tokio::select! {
        link = tokio::time::timeout(limits::ADMISSION_TIME, connecting) => {
            link.map_err(|_| Lost::path("no answer"))??
        }
        () = is_over(&mut over) => return Err(Lost::path("the race is over").into()),
    };
    if !turn(&gate).await {
        link.close(Close::RACE_LOST, "").await;
        return Err(Lost::path("the race is over").into());
    }
    let answer = tokio::select! {
        answer = tokio::time::timeout(limits::ADMISSION_TIME, link.exchange(hello)) => {
            answer.map_err(|_| Lost::path("no answer to the Hello"))
        }
        () = is_over(&mut over) => {
            link.close(Close::RACE_LOST, "").await;
            return Err(Lost::path("the race is over").into());
        }
    };
    match answer.and_then(|answer| answer) {
        Ok(message) => {
            if matches!(message, control::Message::Welcome(_) | control::Message::Refused(_)) {
                gate.send_replace(Gate::Over);
            }
            answered(link, binding, message).await
        }
        Err(lost) => {
            // The other need not wait for an answer that will not come.
            gate.send_if_modified(|gate| {
                matches!(gate, Gate::Hello(_)) && std::mem::replace(gate, Gate::Open) != Gate::Open
            });
            Err(lost.into())
        }
    }
}

/// Makes of the relay's first answer what it says.
async fn answered(link: Link, binding: Binding, message: control::Message) -> Result<Joined, Failure> {
    match message {
        control::Message::Welcome(welcome) => Ok(Joined { link, welcome, binding, at: Instant::now() }),
        control::Message::Refused(refused) => {
            let close = Close::from_number(refused.code.into());
            link.close(close, "").await;
            let retry_after = Duration::from_millis(refused.retry_after_ms.into());
            Err(Failure { lost: Lost { close: Some(close), reason: refused.reason }, retry_after })
        }
        _ => Err(Lost::protocol("neither a welcome nor a refusal").into()),
    }
}

/// Joins over a connection that is there already.
pub(crate) async fn join_over(mut link: Link, binding: Binding, hello: Bytes) -> Result<Joined, Failure> {
    let answer = tokio::time::timeout(limits::ADMISSION_TIME, link.exchange(hello)).await;
    let message = answer.map_err(|_| Lost::path("no answer to the Hello"))??;
    answered(link, binding, message).await
}

async fn is_over(gate: &mut watch::Receiver<Gate>) {
    // An error means that nobody races any more.
    let _ = gate.wait_for(|gate| *gate == Gate::Over).await;
}

/// Waits until this connection may say `Hello`; `false`: the race is over.
async fn turn(gate: &watch::Sender<Gate>) -> bool {
    let mut changes = gate.subscribe();
    loop {
        let now = Instant::now();
        let mut wait = Duration::MAX;
        let mut mine = false;
        gate.send_if_modified(|gate| {
            match *gate {
                Gate::Hello(since) if now < since + HEAD_START_OF_A_HELLO => {
                    wait = since + HEAD_START_OF_A_HELLO - now;
                }
                Gate::Open | Gate::Hello(_) => {
                    *gate = Gate::Hello(now);
                    mine = true;
                }
                Gate::Over => wait = Duration::ZERO,
            }
            mine
        });
        if mine || wait.is_zero() {
            return mine;
        }
        // Either way the gate is looked at again.
        let _ = tokio::time::timeout(wait, changes.changed()).await;
    }
}
