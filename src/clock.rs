//! The present time, waiting for a time, and fresh ids: the only file that asks the machine.
//!
//! Everything else is handed an instant. Deadlines of calls and heartbeats do not come from here:
//! they follow the machine's monotonic clock, whatever this one shows.

mod follow;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::Utc;
use tokio::sync::watch;
use uuid::{ContextV7, Timestamp, Uuid};

use crate::domain::calendar::{ClockReading, Instant, from_micros, micros};
use follow::Follower;

/// Longest single sleep on the real clock. The machine's clock may be stepped meanwhile, so that a
/// distant instant is reached early; a waiter notices within this time.
const SLEEP_CHUNK_MAX: Duration = Duration::from_secs(30);

/// The clock that the service goes by. Clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    /// Follows the machine's clock.
    Real(Box<Machine>),
    /// Stands still between one move and the next.
    Sandbox(watch::Sender<Instant>),
}

/// The machine's two clocks, and the time that is derived from them.
struct Machine {
    wall: Box<dyn Fn() -> Instant + Send + Sync>,
    monotonic: Box<dyn Fn() -> Duration + Send + Sync>,
    follower: Mutex<Follower>,
    /// Keeps ids apart that are made in the same millisecond.
    ids: Mutex<ContextV7>,
}

impl Machine {
    fn read(&self) -> ClockReading {
        // Both are read under the lock, so that readings come in the order in which they were taken.
        let mut follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner);
        // The monotonic clock is finer than what is stored.
        match follower.read(whole((self.wall)()), (self.monotonic)()) {
            ClockReading::Machine(now) => ClockReading::Machine(whole(now)),
            ClockReading::InDoubt(now) => ClockReading::InDoubt(whole(now)),
            ClockReading::Sandbox(now) => ClockReading::Sandbox(whole(now)),
        }
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Machine").finish_non_exhaustive()
    }
}

/// Reason for which a clock was not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A sandbox clock never moves backwards.
    #[error("must not be before the server's present time")]
    Backwards,
    /// The real clock moves by itself.
    #[error("only a sandbox clock can be moved")]
    Real,
}

impl Clock {
    /// Returns the machine's clock.
    pub fn real() -> Self {
        let start = std::time::Instant::now();
        Self::over(Utc::now, move || start.elapsed())
    }

    /// Returns a real clock on a machine with this wall clock and this monotonic one.
    pub fn over(
        wall: impl Fn() -> Instant + Send + Sync + 'static,
        monotonic: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Self {
        let follower = Follower::new(whole(wall()), monotonic());
        Self(Arc::new(Source::Real(Box::new(Machine {
            wall: Box::new(wall),
            monotonic: Box::new(monotonic),
            follower: Mutex::new(follower),
            ids: Mutex::new(ContextV7::new()),
        }))))
    }

    /// Returns a clock that shows `start`, cut to whole microseconds, until it is moved.
    pub fn sandbox(start: Instant) -> Self {
        Self(Arc::new(Source::Sandbox(watch::Sender::new(whole(start)))))
    }

    /// Returns whether the clock stands still until it is moved.
    pub fn is_sandbox(&self) -> bool {
        match &*self.0 {
            Source::Real(_) => false,
            Source::Sandbox(_) => true,
        }
    }

    /// Returns the present instant, and whether it can be trusted.
    pub fn reading(&self) -> ClockReading {
        match &*self.0 {
            Source::Real(machine) => machine.read(),
            Source::Sandbox(shown) => ClockReading::Sandbox(*shown.borrow()),
        }
    }

    /// Returns the present instant, in whole microseconds. It is never before one that this clock or a
    /// clone of it returned earlier, unless the machine's clock was stepped back and has stayed so.
    pub fn now(&self) -> Instant {
        self.reading().now()
    }

    /// Returns the present instant as others have it, which the times in tokens are compared with: a sandbox
    /// clock stands still, and the clocks of issuers do not.
    pub fn machine_now(&self) -> Instant {
        match &*self.0 {
            Source::Real(machine) => machine.read().now(),
            Source::Sandbox(_) => whole(Utc::now()),
        }
    }

    /// Waits until the clock shows `at` or later. Safe to cancel.
    pub async fn sleep_until(&self, at: Instant) {
        match &*self.0 {
            Source::Real(_) => {
                while let Ok(left) = (at - self.now()).to_std()
                    && !left.is_zero()
                {
                    tokio::time::sleep(left.min(SLEEP_CHUNK_MAX)).await;
                }
            }
            Source::Sandbox(shown) => {
                let reached = shown.subscribe().wait_for(|now| at <= *now).await.is_ok();
                assert!(reached, "the sender lives as long as the clock does");
            }
        }
    }

    /// Moves a sandbox clock forward to `to`, cut to whole microseconds, and wakes the waiters whose
    /// instant is reached. Returns the time that it shows then.
    ///
    /// # Errors
    ///
    /// [`Error::Backwards`] when it shows a later time already; [`Error::Real`] for the real clock.
    pub fn advance(&self, to: Instant) -> Result<Instant, Error> {
        let to = whole(to);
        let shown = match &*self.0 {
            Source::Real(_) => return Err(Error::Real),
            Source::Sandbox(shown) => shown,
        };
        let mut moved = false;
        shown.send_if_modified(|now| {
            moved = *now <= to;
            if moved {
                *now = to;
            }
            moved
        });
        if moved { Ok(to) } else { Err(Error::Backwards) }
    }

    /// Returns an id that sorts after those made earlier by this process. Ids under a sandbox clock, which
    /// would not keep them apart while it stands still, take their time from the machine's clock.
    pub fn new_id(&self) -> Uuid {
        match &*self.0 {
            Source::Real(machine) => {
                let now = machine.read().now();
                let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
                let nanos = now.timestamp_subsec_nanos();
                Uuid::new_v7(Timestamp::from_unix(&machine.ids, seconds, nanos))
            }
            Source::Sandbox(_) => Uuid::now_v7(),
        }
    }

    /// Returns a random token for a lease, which nobody can guess.
    pub fn lease_token(&self) -> Uuid {
        Uuid::new_v4()
    }
}

/// Cuts an instant to whole microseconds.
fn whole(at: Instant) -> Instant {
    from_micros(micros(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Instant {
        text.parse().expect("a test instant")
    }

    #[test]
    fn the_real_clock_gives_whole_microseconds_and_cannot_be_moved() {
        let clock = Clock::over(|| at("2026-03-02T09:00:00.123456789Z"), || Duration::ZERO);
        let shown = at("2026-03-02T09:00:00.123456Z");
        assert_eq!(clock.reading(), ClockReading::Machine(shown));
        assert_eq!(clock.advance(clock.now()), Err(Error::Real));
    }

    #[test]
    fn ids_go_by_the_time_that_is_shown_and_sort_as_they_are_made() {
        let wall = Arc::new(Mutex::new(at("2026-03-02T09:00:00Z")));
        let read = Arc::clone(&wall);
        let clock = Clock::over(move || *read.lock().expect("no panic"), || Duration::ZERO);
        let before = clock.new_id();
        *wall.lock().expect("no panic") = at("2026-05-11T09:00:00Z");
        let during = clock.new_id();
        *wall.lock().expect("no panic") = at("2026-03-02T09:00:01Z");
        let after = clock.new_id();
        assert!(before < during && during < after);
        let (made, _) = after.get_timestamp().expect("a time").to_unix();
        assert_eq!(i64::try_from(made), Ok(clock.now().timestamp()));
    }

    #[test]
    fn a_sandbox_clock_moves_forward_alone() {
        let clock = Clock::sandbox(at("2026-03-02T09:00:00.123456789Z"));
        let start = at("2026-03-02T09:00:00.123456Z");
        assert_eq!(clock.now(), start);
        assert_eq!(clock.advance(start), Ok(start));
        let later = at("2026-04-06T07:00:00Z");
        assert_eq!(clock.clone().advance(later), Ok(later));
        assert_eq!(clock.advance(start), Err(Error::Backwards));
        assert_eq!(clock.now(), later);
    }

    #[tokio::test]
    async fn who_waits_for_a_sandbox_clock_wakes_when_it_gets_there() {
        let clock = Clock::sandbox(at("2026-03-02T09:00:00Z"));
        let due = at("2026-04-06T07:00:00Z");
        clock.sleep_until(at("2026-03-02T08:00:00Z")).await;
        let waiter = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep_until(due).await;
                clock.now()
            }
        });
        clock.advance(at("2026-04-06T06:59:59Z")).expect("forward");
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        clock.advance(due).expect("forward");
        assert_eq!(waiter.await.expect("the waiter"), due);
    }
}
