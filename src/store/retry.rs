//! Retry policies: how often work that failed is attempted again, and after which pauses. One for each need; the
//! attempts themselves are `backon`'s. An operation that is requeued waits for another writer and is no attempt: its
//! delay stands in the committer.
//!
//! Jitter makes each pause up to twice as long, at random, so that those who failed together do not meet again.

use std::time::Duration;

use backon::{ConstantBuilder, ExponentialBuilder, Retryable};

use crate::store::error::Error;

/// Pause before a stream or a timer asks the store again.
pub const ANSWER_PAUSE: Duration = Duration::from_secs(1);
/// For reads that a stream or a timer cannot go on without: attempted until the store answers.
pub const ANSWER: ConstantBuilder = ConstantBuilder::new()
    .with_delay(ANSWER_PAUSE)
    .without_max_times();

/// Asks the store until it answers. Each failure is logged with `what` was asked for.
pub async fn until_answered<T, F>(what: &'static str, question: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, Error>>,
{
    let answer = question.retry(ANSWER).notify(|error, _| {
        tracing::warn!(%error, "reading {what} failed");
    });
    answer.await.expect("it is retried until the store answers")
}

/// For what matters while leases last, such as the release of lost claims: 60 attempts, for a minute, and longer when the
/// attempts themselves take long. Who must be done within a time limits that too.
pub const WHILE_LEASED: ConstantBuilder = ConstantBuilder::new()
    .with_delay(Duration::from_secs(1))
    .with_max_times(59);

/// For a single operation with a conflict: 7 attempts, beside the one that left it alone, before its caller is told of
/// contention. The last pause is 50 to 100 ms.
pub const CONFLICT: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_micros(1_600))
    .with_max_delay(Duration::from_millis(50))
    .with_max_times(6)
    .with_jitter();

/// For what waits for locks of other writers alone: 90 attempts, for about as long as a caller waits.
pub const WHILE_LOCKED: ConstantBuilder = ConstantBuilder::new()
    .with_delay(Duration::from_millis(20))
    .with_max_times(89);

/// For a batch of an operator's command that has a conflict, or for which the database is unavailable: 8 attempts. The
/// last pause is 4 to 8 s, and all pauses together are less than twice as long.
pub const COMMAND_BATCH: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_micros(62_500))
    .with_max_delay(Duration::from_secs(4))
    .with_max_times(7)
    .with_jitter();

/// Returns the policy for a batch for which the database is unavailable: so many attempts, as the timeouts of the database
/// have them, after pauses of 40 to 80 ms.
pub fn unavailable_batch(attempts_max: u32) -> ConstantBuilder {
    ConstantBuilder::new()
        .with_delay(Duration::from_millis(40))
        .with_max_times(attempts_max.saturating_sub(1) as usize)
        .with_jitter()
}

#[cfg(test)]
mod tests {
    use backon::BackoffBuilder;

    use super::*;

    fn pauses(policy: impl BackoffBuilder) -> Vec<Duration> {
        policy.build().collect()
    }

    #[test]
    fn pauses_are_as_many_and_as_long_as_the_policy_says() {
        let sum = |pauses: &[Duration]| pauses.iter().sum::<Duration>();
        let millis = Duration::from_millis;
        for _ in 0..100 {
            let command = pauses(COMMAND_BATCH);
            assert_eq!(command.len(), 7);
            assert!((millis(4_000)..millis(8_000)).contains(&command[6]));
            assert!(sum(&command) < millis(16_000));
            let conflict = pauses(CONFLICT);
            assert_eq!(conflict.len(), 6);
            assert!((millis(48)..millis(100)).contains(&conflict[5]));
            let unavailable = pauses(unavailable_batch(4));
            assert_eq!(unavailable.len(), 3);
            assert!(
                unavailable
                    .iter()
                    .all(|pause| (millis(40)..millis(80)).contains(pause))
            );
        }
        assert!(pauses(unavailable_batch(1)).is_empty());
        assert_eq!(sum(&pauses(WHILE_LEASED)), millis(59_000));
        assert_eq!(sum(&pauses(WHILE_LOCKED)), millis(1_780));
    }
}
