//! The limits on one subject, over all its connections: calls a second, streams, rows a minute; and its share of
//! what all may have at once. Behind a proxy, where all have one address, subjects are told apart by this.
//!
//! governor's limiters refuse what is too much and forget it. The rows of an answer are known when they have
//! been read: too many of them are owed, and the next list waits for it. tower's `RateLimit` makes callers
//! wait, and knows none of them.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;
use tonic::Status;

use super::Limits;
use super::load::{Caller, Resource, SubjectLoad};
use super::rows::Rows;
use crate::grpc::status::{self, RateLimit};

/// Maximum subjects that are remembered; of others than the latest nothing is owed.
const SUBJECTS_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("not zero");
/// Time whose calls may come at once.
const CALLS_WINDOW: Duration = Duration::from_secs(1);
/// Time whose rows may be read at once.
const ROWS_WINDOW: Duration = Duration::from_secs(60);
/// Pause after which a stream may find a place: it is not known when one ends.
const STREAM_PAUSE: Duration = Duration::from_secs(1);

/// Limits on one subject. None is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubjectLimits {
    /// Calls a second, streams that are opened included; as many may come at once.
    pub calls_per_second: Option<NonZeroU32>,
    /// Open streams.
    pub streams: Option<NonZeroU32>,
    /// Rows in answers and streams in a minute; as many may be read at once.
    pub rows_per_minute: Option<NonZeroU32>,
}

impl SubjectLimits {
    /// Returns the limit on streams, within another one.
    pub fn streams_within(&self, max: usize) -> usize {
        let streams = self.streams.and_then(|it| usize::try_from(it.get()).ok());
        streams.map_or(max, |streams| streams.min(max))
    }
}

/// The time that a rate takes for what has been done, in the manner of the generic cell rate algorithm.
#[derive(Debug)]
struct Rate {
    /// Time for one of what is counted.
    each: Duration,
    window: Duration,
    /// Instant at which all that was counted has had its time.
    done_at: Mutex<Instant>,
}

impl Rate {
    fn new(count: NonZeroU32, window: Duration) -> Self {
        Self {
            each: window / count.get(),
            window,
            done_at: Mutex::new(Instant::now()),
        }
    }

    /// Counts one more.
    ///
    /// # Errors
    ///
    /// It is too many; after this pause it is not, if no other comes before.
    fn take(&self) -> Result<(), Duration> {
        let mut done_at = self.done_at.lock().unwrap_or_else(PoisonError::into_inner);
        *done_at = self.after_one_more(*done_at)?;
        Ok(())
    }

    /// Counts more, though they may be too many.
    fn owe(&self, count: u32) {
        let now = Instant::now();
        let mut done_at = self.done_at.lock().unwrap_or_else(PoisonError::into_inner);
        *done_at = (*done_at).max(now) + self.each.saturating_mul(count);
    }

    /// Returns whether there is room for one more.
    ///
    /// # Errors
    ///
    /// There is none; after this pause there is.
    fn check(&self) -> Result<(), Duration> {
        let done_at = *self.done_at.lock().unwrap_or_else(PoisonError::into_inner);
        self.after_one_more(done_at).map(|_| ())
    }

    /// Returns the instant at which one more has had its time too, or the pause after which there is room for it.
    fn after_one_more(&self, done_at: Instant) -> Result<Instant, Duration> {
        let now = Instant::now();
        let next = done_at.max(now) + self.each;
        let pause = (next - now).saturating_sub(self.window);
        match pause.is_zero() {
            true => Ok(next),
            false => Err(pause),
        }
    }
}

/// One subject.
#[derive(Debug)]
pub struct Subject {
    /// Amounts that it has in use.
    pub load: Arc<SubjectLoad>,
    /// Calls that it has made.
    calls: Option<Rate>,
    /// Rows that it has read.
    rows: Option<Rate>,
}

impl Subject {
    fn new(limits: Limits) -> Self {
        let SubjectLimits {
            calls_per_second,
            streams: _,
            rows_per_minute,
        } = limits.subject;
        Self {
            load: SubjectLoad::new(limits),
            calls: calls_per_second.map(|count| Rate::new(count, CALLS_WINDOW)),
            rows: rows_per_minute.map(|count| Rate::new(count, ROWS_WINDOW)),
        }
    }

    /// Counts a call, whose answer has these rows.
    ///
    /// # Errors
    ///
    /// The status of a call that is too much.
    pub fn begin(&self, rows: &Rows) -> Result<(), Status> {
        if rows.is_list {
            self.check_rows()?;
        }
        let taken = self.calls.as_ref().map_or(Ok(()), Rate::take);
        taken.map_err(|pause| status::rate_limited(RateLimit::CallsPerSecond, pause))
    }

    /// Returns whether more rows may be read.
    ///
    /// # Errors
    ///
    /// The status of a list that has to wait.
    pub fn check_rows(&self) -> Result<(), Status> {
        let checked = self.rows.as_ref().map_or(Ok(()), Rate::check);
        checked.map_err(|pause| status::rate_limited(RateLimit::RowsPerMinute, pause))
    }

    /// Counts rows that are read.
    pub fn count_rows(&self, count: usize) {
        if let Some(rows) = &self.rows {
            rows.owe(u32::try_from(count).unwrap_or(u32::MAX));
        }
    }
}

/// Returns the status of a call for which its subject has no place.
pub fn no_place(resource: Resource) -> Status {
    match resource {
        Resource::Stream => status::rate_limited(RateLimit::Streams, STREAM_PAUSE),
        Resource::Call | Resource::Check | Resource::Byte | Resource::Connection => {
            status::overloaded()
        }
    }
}

/// The subjects that have called of late.
#[derive(Debug)]
pub struct Subjects {
    limits: Limits,
    known: Mutex<LruCache<Caller, Arc<Subject>>>,
}

impl Subjects {
    /// Makes a memory of subjects with these limits.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            known: Mutex::new(LruCache::new(SUBJECTS_MAX)),
        }
    }

    /// Returns the subject of a caller.
    pub fn find(&self, caller: Caller) -> Arc<Subject> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || Arc::new(Subject::new(self.limits));
        known.get_or_insert(caller, make).clone()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn rate(count: u32, window: Duration) -> Rate {
        Rate::new(NonZeroU32::new(count).expect("not zero"), window)
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_as_the_window_has_may_come_at_once_and_then_one_after_each_pause() {
        let rate = rate(10, CALLS_WINDOW);
        for _ in 0..10 {
            rate.take().expect("room");
        }
        for _ in 0..3 {
            let pause = rate.take().expect_err("too many");
            assert_eq!(pause, Duration::from_millis(100), "a refusal costs nothing");
        }
        for _ in 0..30 {
            let pause = rate.take().expect_err("too many");
            advance(pause - MILLISECOND).await;
            rate.take().expect_err("too early");
            advance(MILLISECOND).await;
            rate.take().expect("the pause was true");
        }
        advance(Duration::from_secs(3_600)).await;
        let taken = (0..99).filter(|_| rate.take().is_ok()).count();
        assert_eq!(taken, 10, "an hour of silence saves no more than a window");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_much_is_owed() {
        let rate = rate(60, ROWS_WINDOW);
        rate.check().expect("room");
        rate.owe(59);
        rate.check().expect("room for one");
        rate.owe(31);
        let pause = rate.check().expect_err("30 too many");
        assert_eq!(pause, Duration::from_secs(31));
        advance(pause - MILLISECOND).await;
        rate.check().expect_err("too early");
        advance(MILLISECOND).await;
        rate.check().expect("the pause was true");
    }

    #[tokio::test(start_paused = true)]
    async fn rows_keep_their_reader_from_lists_alone() {
        let limits = SubjectLimits {
            rows_per_minute: NonZeroU32::new(10),
            ..SubjectLimits::default()
        };
        let subject = Subject::new(Limits {
            subject: limits,
            ..Limits::default()
        });
        let (one, mut list) = (Rows::default(), Rows::default());
        list.is_list = true;
        subject.count_rows(500);
        subject.begin(&one).expect("a lease has to be acknowledged");
        subject.begin(&list).expect_err("rows are owed");
    }
}
