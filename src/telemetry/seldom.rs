//! Log lines for what may happen often: one for many times, with their number. A layer of tracing that
//! limits the rate of lines would do so for all of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Counts something, and says when its count is to be logged.
#[derive(Debug)]
pub struct Seldom {
    interval: Duration,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    count: u64,
    logged_at: Option<Instant>,
}

impl Seldom {
    /// Makes a counter that is logged once in an interval at most.
    pub const fn new(interval: Duration) -> Self {
        Self {
            interval,
            counted: Mutex::new(Counted {
                count: 0,
                logged_at: None,
            }),
        }
    }

    /// Counts once more. Returns the count since the last time that it was returned, if it is to be logged.
    pub fn count(&self) -> Option<u64> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.count += 1;
        let recently = |at: Instant| at.elapsed() < self.interval;
        if counted.logged_at.is_some_and(recently) {
            return None;
        }
        counted.logged_at = Some(Instant::now());
        Some(std::mem::take(&mut counted.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_is_logged_and_then_those_of_each_interval() {
        let seldom = Seldom::new(Duration::from_secs(60));
        assert_eq!(seldom.count(), Some(1));
        for _ in 0..3 {
            assert_eq!(seldom.count(), None);
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(seldom.count(), Some(4));
        assert_eq!(seldom.count(), None);
    }
}
