//! Cuts off an HTTP/2 stream whose peer does not read.
//!
//! Bytes that have been handed to the transport wait there for the peer's window, and the response body
//! is not polled meanwhile. So a timer is polled beside the task of the stream: when the task is dropped,
//! the transport discards the unsent bytes and sends RST_STREAM to the peer.
//!
//! The body timeouts of tower-http run only while a body is polled, so that they miss this very case.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::time::{Instant, sleep_until};

tokio::task_local! {
    static CUT_OFF: CutOff;
}

/// The end of the rights by which a stream was opened, and of the time that its reader has to notice.
pub type RightsEnd = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The instant at which a stream is to be cut off, if any, and the end of its rights. Set and read by the stream's
/// task alone.
#[derive(Clone, Default)]
pub struct CutOff(Arc<Mutex<Causes>>);

#[derive(Default)]
struct Causes {
    at: Option<Instant>,
    rights_end: Option<RightsEnd>,
}

impl CutOff {
    /// Returns the one of the stream whose task this is; outside of any, one without effect.
    pub fn of_this_stream() -> Self {
        CUT_OFF.try_with(Clone::clone).unwrap_or_default()
    }

    /// Sets the instant at which the stream is cut off unless its task has ended by then; none for never.
    pub fn set(&self, at: Option<Instant>) {
        self.causes(|it| it.at = at);
    }

    /// Cuts the stream off at the end of its rights too, whenever that comes.
    pub fn end_with(&self, rights: RightsEnd) {
        self.causes(|it| it.rights_end = Some(rights));
    }

    /// Cuts nothing off any more: the connection goes on to another call.
    pub fn clear(&self) {
        self.causes(|it| *it = Causes::default());
    }

    fn poll_rights_end(&self, context: &mut Context<'_>) -> Poll<()> {
        self.causes(|it| match &mut it.rights_end {
            Some(end) => end.as_mut().poll(context),
            None => Poll::Pending,
        })
    }

    fn causes<T>(&self, with: impl FnOnce(&mut Causes) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs the task of one stream to its end, or until it is cut off.
pub async fn run(stream: impl Future<Output = ()>) {
    let cut_off = CutOff::default();
    let mut stream = pin!(CUT_OFF.scope(cut_off.clone(), stream));
    // Allocated only for the few streams that have to wait.
    let mut timer = None;
    poll_fn(|context| {
        if stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        if cut_off.poll_rights_end(context).is_ready() {
            return Poll::Ready(());
        }
        let Some(at) = cut_off.causes(|it| it.at) else {
            return Poll::Pending;
        };
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(context)
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_cut_off_at_the_instant_that_was_set_last() {
        let began = Instant::now();
        let second = Duration::from_secs(1);
        run(async {
            let cut_off = CutOff::of_this_stream();
            cut_off.set(Some(began + second));
            tokio::time::sleep(second / 2).await;
            cut_off.set(None);
            tokio::time::sleep(second).await;
            cut_off.set(Some(began + 3 * second));
            pending().await
        })
        .await;
        assert_eq!(began.elapsed(), 3 * second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_cut_off_at_the_end_of_its_rights() {
        let began = Instant::now();
        run(async {
            let cut_off = CutOff::of_this_stream();
            cut_off.end_with(Box::pin(tokio::time::sleep(Duration::from_secs(3))));
            cut_off.set(Some(began + Duration::from_secs(9)));
            pending().await
        })
        .await;
        assert_eq!(began.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_ends_by_itself_is_not() {
        run(async { CutOff::of_this_stream().set(Some(Instant::now())) }).await;
        CutOff::of_this_stream().set(Some(Instant::now()));
    }
}
