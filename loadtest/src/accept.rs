//! Taking connections, whatever becomes of single ones.

use std::io::{self, ErrorKind};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

/// Before the next try where the system has nothing left to make a connection of: it would refuse at once again.
const PAUSE: Duration = Duration::from_millis(100);

/// The next connection. What hinders one is told as `who`'s, and does not hinder the next.
pub(crate) async fn accept(listener: &TcpListener, who: &str) -> TcpStream {
    next(who, || listener.accept()).await.0
}

async fn next<T, F: Future<Output = io::Result<T>>>(who: &str, mut accept: impl FnMut() -> F) -> T {
    loop {
        match accept().await {
            Ok(stream) => return stream,
            // It was gone before it was taken.
            Err(error) if is_of_one(error.kind()) => eprintln!("{who}: a connection was lost: {error}"),
            Err(error) => {
                eprintln!("{who}: cannot take a connection: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

const fn is_of_one(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_hinders_one_connection_does_not_hinder_the_next() {
        let full = rustix::io::Errno::MFILE.into();
        let mut comes = vec![Ok(7), Err(full), Err(ErrorKind::ConnectionAborted.into())];
        let next = next("test", || std::future::ready(comes.pop().expect("no more than these"))).await;
        assert_eq!((next, comes.len()), (7, 0));
    }
}
