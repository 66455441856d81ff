//! Several things that one task does side by side.

use std::future::Future;
use std::pin::Pin;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

/// Something that goes on until the connection ends.
pub(super) type Side<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs all until the first is ready. Unlike in `select!`, which asks everybody whenever the task wakes up, only those are polled
/// that were woken: of a connection that reads and writes thousands of records a second it is nearly always one.
pub(super) async fn first<T, const N: usize>(sides: [Side<'_, T>; N]) -> T {
    let mut sides = FuturesUnordered::from_iter(sides);
    match sides.next().await {
        Some(done) => done,
        None => std::future::pending().await,
    }
}
