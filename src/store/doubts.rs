//! Commits whose outcome this process does not know: they are announced once they prove to have been executed.
//!
//! | database | when |
//! | --- | --- |
//! | PostgreSQL | the change feed finds the row of the commit, as it finds those of other replicas |
//! | PostgreSQL, no row after the time by which the feed looks back | listeners look for themselves |
//! | SQLite | listeners look for themselves after the next commit, which waits for the one before |

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant as Moment;

/// Commits in doubt.
#[derive(Clone, Default)]
pub struct Doubts {
    /// Numbers of their rows in the change feed.
    numbers: Arc<Mutex<HashMap<i64, Moment>>>,
    /// True if there is one without a row.
    has_unnumbered: Arc<AtomicBool>,
}

impl Doubts {
    /// Adds a commit, by the number of its row if it has one.
    pub fn add(&self, number: Option<i64>) {
        match number {
            Some(number) => {
                self.locked().insert(number, Moment::now());
            }
            None => self.has_unnumbered.store(true, Ordering::Release),
        }
    }

    /// Returns the numbers of the rows to look for.
    pub fn numbers(&self) -> Vec<i64> {
        self.locked().keys().copied().collect()
    }

    /// Removes commits whose rows were found.
    pub fn settle(&self, found: impl Iterator<Item = i64>) {
        let mut numbers = self.locked();
        for number in found {
            numbers.remove(&number);
        }
    }

    /// Removes commits whose rows have not been found for so long, and returns whether there were any.
    pub fn give_up(&self, after: Duration) -> bool {
        let mut numbers = self.locked();
        let before = numbers.len();
        numbers.retain(|_, since| since.elapsed() < after);
        numbers.len() < before
    }

    /// Returns whether there was a commit without a row, and forgets it.
    pub fn take_unnumbered(&self) -> bool {
        self.has_unnumbered.swap(false, Ordering::AcqRel)
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<i64, Moment>> {
        self.numbers.lock().unwrap_or_else(|lock| lock.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_row_is_looked_for_until_it_is_found_or_given_up() {
        let doubts = Doubts::default();
        doubts.add(Some(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        doubts.add(Some(2));
        doubts.settle([1].into_iter());
        assert_eq!(doubts.numbers(), [2]);
        assert!(!doubts.give_up(Duration::from_secs(1)), "it is newer");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(doubts.give_up(Duration::from_secs(1)));
        assert!(doubts.numbers().is_empty());
        assert!(!doubts.take_unnumbered());
        doubts.add(None);
        assert!(doubts.take_unnumbered());
        assert!(!doubts.take_unnumbered());
    }
}
