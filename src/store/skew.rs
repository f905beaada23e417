//! Clock skew: the clock by which a batch is decided is compared with the database's in the statement that writes the
//! batch.
//!
//! While the machine's clock was stepped, or is too far from the database's, only operations that tolerate that are
//! executed, such as the acknowledgement that a notification was handed over; they are dated by the database if the two
//! are apart. A sandbox clock is right whatever other clocks show.

use std::sync::{Arc, OnceLock};

use chrono::TimeDelta;
use tokio::time::Instant as Moment;

use crate::domain::calendar::{ClockReading, Instant};

/// Maximum difference between the machine's clock and the database's.
pub const CLOCK_SKEW_MAX: TimeDelta = TimeDelta::seconds(2);

/// Maximum difference between the clocks of two replicas: both may be as far from the database's as that.
pub const CLOCKS_APART_MAX: TimeDelta = TimeDelta::seconds(4);

/// A fault of the clock by which batches are decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClockFault {
    /// It was stepped, and has not settled yet.
    #[error("this replica's clock was stepped and is in doubt")]
    Stepped,
    /// It is too far from the database's.
    #[error("this replica's clock and the database's are apart")]
    Apart {
        /// Time on the database's clock.
        database: Instant,
    },
}

/// Returns the minimum difference between the database's clock and another, when the former was read between two readings
/// of the latter.
pub fn distance(database: Instant, before: Instant, after: Instant) -> TimeDelta {
    let behind = before - database;
    let ahead = database - after;
    behind.max(ahead).max(TimeDelta::zero())
}

/// The clock by which batches are decided. Until one is set, none is doubted.
#[derive(Clone, Default)]
pub struct DecisionClock(Arc<OnceLock<Box<dyn Fn() -> ClockReading + Send + Sync>>>);

impl DecisionClock {
    /// Sets the clock. The first that is set stays.
    pub fn set(&self, clock: impl Fn() -> ClockReading + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(clock));
    }

    /// Reads the clock for a batch that is decided now; uses the database's clock instead, if there is one because the two
    /// were found to be apart.
    pub fn date(&self, database: Option<ClockSample>) -> Date {
        if let Some(database) = database {
            let fault = ClockFault::Apart {
                database: database.now,
            };
            return Date {
                sample: Some(database),
                fault: Some(fault),
            };
        }
        let (now, fault) = match self.0.get().map(|clock| clock()) {
            None | Some(ClockReading::Sandbox(_)) => return Date::default(),
            Some(ClockReading::Machine(now)) => (now, None),
            Some(ClockReading::InDoubt(now)) => (now, Some(ClockFault::Stepped)),
        };
        Date {
            sample: Some(ClockSample::taken_now(now)),
            fault,
        }
    }
}

/// A reading of a clock, and the moment of the reading.
#[derive(Clone, Copy, Debug)]
pub struct ClockSample {
    now: Instant,
    at: Moment,
}

impl ClockSample {
    /// Returns a reading that is made now.
    pub fn taken_now(now: Instant) -> Self {
        let at = Moment::now();
        Self { now, at }
    }

    /// Returns the time that the clock shows now, if it runs like the process's.
    fn present(&self) -> Instant {
        let passed = TimeDelta::from_std(self.at.elapsed());
        self.now + passed.expect("a batch does not last for centuries")
    }
}

/// The clock by which a batch is decided.
#[derive(Clone, Copy, Debug, Default)]
pub struct Date {
    /// Reading of the clock; none of a sandbox clock.
    sample: Option<ClockSample>,
    /// Fault of this replica's clock.
    fault: Option<ClockFault>,
}

impl Date {
    /// Returns the fault of this replica's clock.
    pub fn fault(&self) -> Option<ClockFault> {
        self.fault
    }

    /// Returns true when the clock has no known fault and the database's clock may show one.
    pub fn is_unverified(&self) -> bool {
        self.sample.is_some() && self.fault.is_none()
    }

    /// Returns the time to record when this replica's clock shows `now`: that of the database, if the two are apart.
    pub fn correct(&self, now: Instant) -> Instant {
        match (self.fault, self.sample) {
            (Some(ClockFault::Apart { .. }), Some(database)) => database.present(),
            (Some(ClockFault::Apart { .. } | ClockFault::Stepped) | None, _) => now,
        }
    }

    /// Compares the clock with the present time of the database's clock.
    ///
    /// # Errors
    ///
    /// [`ClockFault::Apart`] when they differ by more than [`CLOCK_SKEW_MAX`].
    pub fn check(&self, database: Instant) -> Result<(), ClockFault> {
        match self.sample {
            Some(sample) if CLOCK_SKEW_MAX < distance(database, sample.now, sample.present()) => {
                Err(ClockFault::Apart { database })
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Instant {
        text.parse().expect("a test instant")
    }

    #[test]
    fn clocks_are_as_far_apart_as_the_readings_prove() {
        let before = at("2026-03-02T09:00:00Z");
        let after = at("2026-03-02T09:00:00.800Z");
        for (database, millis) in [
            ("2026-03-02T09:00:00Z", 0),
            ("2026-03-02T09:00:00.500Z", 0),
            ("2026-03-02T09:00:00.800Z", 0),
            ("2026-03-02T09:00:03.300Z", 2_500),
            ("2026-03-02T08:59:57.500Z", 2_500),
        ] {
            let apart = distance(at(database), before, after);
            assert_eq!(apart, TimeDelta::milliseconds(millis), "{database}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_takes_long_is_not_taken_for_a_wrong_clock() {
        let now = at("2026-03-02T09:00:00Z");
        let clock = DecisionClock::default();
        clock.set(move || ClockReading::Machine(now));
        let date = clock.date(None);
        tokio::time::advance(std::time::Duration::from_secs(9)).await;
        for (database, fits) in [
            ("2026-03-02T08:59:58Z", true),
            ("2026-03-02T09:00:11Z", true),
            ("2026-03-02T08:59:57.999Z", false),
            ("2026-03-02T09:00:11.001Z", false),
        ] {
            assert_eq!(date.check(at(database)).is_ok(), fits, "{database}");
        }
        assert_eq!(date.correct(now), now);
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_clocks_are_apart_the_database_says_what_time_it_is() {
        let clock = DecisionClock::default();
        clock.set(|| ClockReading::Machine(at("2026-03-22T09:00:00Z")));
        let database = at("2026-03-02T09:00:00Z");
        let fault = clock.date(None).check(database).expect_err("apart");
        assert_eq!(fault, ClockFault::Apart { database });
        let date = clock.date(Some(ClockSample::taken_now(database)));
        assert_eq!(date.fault(), Some(fault));
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        let corrected = date.correct(at("2026-03-22T09:00:01Z"));
        assert_eq!(corrected, at("2026-03-02T09:00:01Z"));
    }

    #[test]
    fn a_sandbox_clock_is_compared_with_nothing() {
        let clock = DecisionClock::default();
        clock.set(|| ClockReading::Sandbox(at("2099-03-22T09:00:00Z")));
        for date in [clock.date(None), DecisionClock::default().date(None)] {
            assert!(!date.is_unverified());
            assert_eq!(date.check(at("2026-03-02T09:00:00Z")), Ok(()));
            assert_eq!(date.fault(), None);
        }
    }
}
