//! What time it is, waiting for a time, and fresh ids: the only file that asks the machine.
//!
//! Everything else is handed an instant. Deadlines of calls and heartbeats do not come from here:
//! they follow the real clock whatever this one says.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::Utc;
use tokio::sync::watch;
use uuid::Uuid;

use crate::domain::calendar::{Instant, from_micros, micros};

/// The longest single sleep on the real clock. The machine's clock may be stepped meanwhile, so
/// that what was far off is due; a waiter notices within this time.
const NAP_MAX: Duration = Duration::from_secs(30);

/// The clock that the service goes by. Clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    /// The machine's clock, with the latest instant that was given out.
    Real(AtomicI64),
    /// Stands still between one move and the next.
    Sandbox(watch::Sender<Instant>),
}

/// What the machine's clock shows now, whatever the service goes by. For comparing it with other
/// machines', never for what is written down.
pub fn wall() -> Instant {
    Utc::now()
}

/// Why a clock was not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It would have run backwards.
    #[error("must not be before the server's present time")]
    Backwards,
    /// The real clock moves by itself.
    #[error("only a sandbox clock can be moved")]
    Real,
}

impl Clock {
    /// The machine's clock.
    pub fn real() -> Self {
        Self(Arc::new(Source::Real(AtomicI64::new(i64::MIN))))
    }

    /// A clock that shows `start`, cut to whole microseconds, until it is moved.
    pub fn sandbox(start: Instant) -> Self {
        let start = from_micros(micros(start));
        Self(Arc::new(Source::Sandbox(watch::Sender::new(start))))
    }

    /// Whether it stands still until it is moved.
    pub fn is_sandbox(&self) -> bool {
        match &*self.0 {
            Source::Real(_) => false,
            Source::Sandbox(_) => true,
        }
    }

    /// The present instant, in whole microseconds. Never before one that was given out earlier by
    /// this clock or a clone of it.
    pub fn now(&self) -> Instant {
        match &*self.0 {
            Source::Real(latest) => {
                let read = micros(Utc::now());
                from_micros(read.max(latest.fetch_max(read, Ordering::Relaxed)))
            }
            Source::Sandbox(shown) => *shown.borrow(),
        }
    }

    /// Waits until the clock shows `at` or later. Safe to cancel.
    pub async fn sleep_until(&self, at: Instant) {
        match &*self.0 {
            Source::Real(_) => {
                while let Ok(left) = (at - self.now()).to_std()
                    && !left.is_zero()
                {
                    tokio::time::sleep(left.min(NAP_MAX)).await;
                }
            }
            Source::Sandbox(shown) => {
                let reached = shown.subscribe().wait_for(|now| at <= *now).await.is_ok();
                assert!(reached, "the sender lives as long as the clock does");
            }
        }
    }

    /// Moves a sandbox clock forward to `to`, cut to whole microseconds, and wakes those who wait
    /// for what is passed. Returns what it shows then.
    ///
    /// # Errors
    ///
    /// [`Error::Backwards`] when it shows a later time already; [`Error::Real`].
    pub fn advance(&self, to: Instant) -> Result<Instant, Error> {
        let to = from_micros(micros(to));
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

    /// An id that sorts after those made earlier by this process. Taken from the machine's clock,
    /// because a sandbox clock that stands still would not keep them apart.
    pub fn fresh_id(&self) -> Uuid {
        Uuid::now_v7()
    }

    /// A token that nobody can guess.
    pub fn lease_token(&self) -> Uuid {
        Uuid::new_v4()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Instant {
        text.parse().expect("a test instant")
    }

    #[test]
    fn the_real_clock_gives_whole_microseconds_and_never_runs_backwards() {
        let clock = Clock::real();
        let ahead = micros(Utc::now()) + 3_600_000_000;
        let Source::Real(latest) = &*clock.0 else {
            panic!("it is real")
        };
        latest.store(ahead, Ordering::Relaxed);
        assert_eq!(clock.now(), from_micros(ahead));
        assert_eq!(clock.advance(clock.now()), Err(Error::Real));
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
