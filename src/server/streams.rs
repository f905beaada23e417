//! The calls of one connection, counted, so that one that is idle can be closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::sleep;

use crate::grpc::middleware::reset;

/// Runs the HTTP/2 streams of one connection, which are its calls, and counts them.
#[derive(Clone, Debug, Default)]
pub struct Streams(Arc<Counts>);

/// Numbers of streams that have begun and ended.
#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Counts {
    fn get(&self) -> (u64, u64) {
        let ended = self.ended.load(Ordering::Acquire);
        (self.begun.load(Ordering::Acquire), ended)
    }
}

impl Streams {
    /// Waits until the connection has been without a call for this time.
    pub async fn idle_for(&self, time: Duration) {
        loop {
            let before = self.0.get();
            sleep(time).await;
            let (begun, ended) = self.0.get();
            if begun == ended && before == (begun, ended) {
                return;
            }
        }
    }

    /// Counts a call that has begun, until what is returned is dropped.
    pub fn begin(&self) -> CountEnd {
        self.0.begun.fetch_add(1, Ordering::AcqRel);
        CountEnd(self.0.clone())
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let count_end = self.begin();
        tokio::spawn(async move {
            let _count_end = count_end;
            reset::run(stream).await;
        });
    }
}

/// Counts the end of a call when dropped, however it comes.
#[derive(Debug)]
pub struct CountEnd(Arc<Counts>);

impl Drop for CountEnd {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn idle_is_without_a_call_for_the_whole_time() {
        let streams = Streams::default();
        let second = Duration::from_secs(1);
        let began = Instant::now();
        streams.execute(sleep(5 * second));
        streams.idle_for(2 * second).await;
        assert_eq!(began.elapsed(), 8 * second);
    }
}
