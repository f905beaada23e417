//! Following the machine's clock: drift and small corrections at once, a step when it has lasted.
//!
//! The monotonic clock says how much time has passed, and so which time the wall clock should show. A
//! wall clock that is off by more than a minute was stepped, rightly or wrongly. Time goes on as
//! expected until the step has lasted for some seconds; then the wall clock is followed again. Asks no
//! clock itself.

use std::time::Duration;

use chrono::TimeDelta;

use crate::domain::calendar::{ClockReading, Instant};

/// Largest difference between the wall clock and the expected time that is no step yet.
const STEP_MIN: TimeDelta = TimeDelta::minutes(1);
/// Time for which a step is in doubt.
const DOUBT: Duration = Duration::from_secs(5);

/// The time that is shown, derived from readings of the machine's clocks.
#[derive(Debug)]
pub struct Follower {
    /// Time that was shown last.
    shown: Instant,
    /// Reading of the monotonic clock at that time.
    at: Duration,
    /// Step that is in doubt.
    step: Option<Step>,
}

/// A step of the wall clock.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Reading of the monotonic clock at which it was noticed.
    since: Duration,
    /// Distance from the expected time, negative for a step back.
    by: TimeDelta,
}

impl Follower {
    /// Begins at the time that the wall clock shows.
    pub fn new(wall: Instant, monotonic: Duration) -> Self {
        Self {
            shown: wall,
            at: monotonic,
            step: None,
        }
    }

    /// Returns the time to show for these readings of the two clocks. It goes back only where a step
    /// back has been accepted.
    pub fn read(&mut self, wall: Instant, monotonic: Duration) -> ClockReading {
        let passed = monotonic.saturating_sub(self.at);
        let passed = TimeDelta::from_std(passed).unwrap_or(TimeDelta::MAX);
        let expected = self.shown + passed;
        let off = wall - expected;
        let reading = match self.step {
            _ if off.abs() <= STEP_MIN => {
                if let Some(step) = self.step.take() {
                    log("the step of the machine's clock was reverted", step.by);
                }
                // A clock that was set back a little is waited for at half the speed.
                ClockReading::Machine(wall.max(self.shown + passed / 2))
            }
            Some(step) if (off - step.by).abs() <= STEP_MIN => {
                match monotonic.saturating_sub(step.since) < DOUBT {
                    true => ClockReading::InDoubt(expected),
                    false => {
                        self.step = None;
                        log("the step of the machine's clock is accepted", off);
                        ClockReading::Machine(wall)
                    }
                }
            }
            Some(_) | None => {
                self.step = Some(Step {
                    since: monotonic,
                    by: off,
                });
                log("the machine's clock was stepped and is in doubt", off);
                ClockReading::InDoubt(expected)
            }
        };
        (self.shown, self.at) = (reading.now(), monotonic);
        reading
    }
}

fn log(event: &'static str, by: TimeDelta) {
    let direction = match by < TimeDelta::zero() {
        true => "back",
        false => "ahead",
    };
    tracing::warn!(
        seconds = by.abs().as_seconds_f64(),
        direction,
        in_doubt_seconds = DOUBT.as_secs(),
        "{event}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAYS_70: i64 = 70 * 86_400;

    /// Reads at seconds of the monotonic clock, each with the seconds on the wall clock; expects the
    /// seconds that are shown, and whether they are in doubt.
    fn follow(reads: &[(f64, f64, f64, bool)]) {
        let start: Instant = "2026-03-02T09:00:00Z".parse().expect("an instant");
        let at = |seconds: f64| start + TimeDelta::microseconds((seconds * 1e6).round() as i64);
        let mut follower = Follower::new(start, Duration::from_secs(100));
        for &(monotonic, wall, shown, in_doubt) in reads {
            let reading = follower.read(at(wall), Duration::from_secs_f64(100.0 + monotonic));
            let expected = match in_doubt {
                true => ClockReading::InDoubt(at(shown)),
                false => ClockReading::Machine(at(shown)),
            };
            assert_eq!(reading, expected, "at {monotonic}, {wall} in {reads:?}");
        }
    }

    #[test]
    fn drift_and_small_steps_ahead_are_followed_at_once() {
        follow(&[
            (0.5, 0.501, 0.501, false),
            (1.0, 1.0, 1.0, false),
            (2.0, 61.5, 61.5, false),
            (3.0, 62.5, 62.5, false),
        ]);
    }

    #[test]
    fn a_clock_that_was_set_back_a_little_is_waited_for_without_standing_still() {
        follow(&[
            (100.0, 100.0, 100.0, false),
            (101.0, 71.0, 100.5, false),
            (141.0, 111.0, 120.5, false),
            (161.0, 131.0, 131.0, false),
            (162.0, 132.0, 132.0, false),
        ]);
    }

    #[test]
    fn a_step_that_is_reverted_leaves_nothing_behind() {
        for step in [DAYS_70 as f64, -(DAYS_70 as f64), 61.0, -61.0] {
            follow(&[
                (1.0, 1.0, 1.0, false),
                (2.0, 2.0 + step, 2.0, true),
                (4.9, 4.9 + step, 4.9, true),
                (5.0, 5.0, 5.0, false),
                (50.0, 50.0, 50.0, false),
            ]);
        }
    }

    #[test]
    fn a_step_that_lasts_is_accepted_after_five_seconds() {
        for step in [DAYS_70 as f64, -(DAYS_70 as f64)] {
            follow(&[
                (2.0, 2.0 + step, 2.0, true),
                (6.9, 6.9 + step, 6.9, true),
                (7.0, 7.0 + step, 7.0 + step, false),
                (8.0, 8.0 + step, 8.0 + step, false),
            ]);
        }
    }

    #[test]
    fn another_step_is_in_doubt_for_five_seconds_of_its_own() {
        follow(&[
            (2.0, 1_002.0, 2.0, true),
            (6.0, 9_006.0, 6.0, true),
            (8.0, 9_008.0, 8.0, true),
            (11.0, 9_011.0, 9_011.0, false),
        ]);
    }
}
