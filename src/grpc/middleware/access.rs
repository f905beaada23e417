//! The access log of a call: its entries are stored before its answer leaves.
//!
//! | the call | its entries |
//! | --- | --- |
//! | is answered, or refused | are durable before the answer leaves, which is UNAVAILABLE when they cannot be |
//! | has run out of time, or finds no database | are stored as soon as they can be: such an answer shows nothing |
//! | loses its caller | the same |
//! | is a stream | those of each message are durable before it leaves; it waits, and the stream ends with UNAVAILABLE when it has to wait for too long |

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use backon::Retryable;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::method::Method;
use super::named::Named;
use super::rows::Rows;
use crate::auth::caller::Caller;
use crate::clock::Clock;
use crate::domain::access::{Access, Concerns, gather};
use crate::domain::calendar::Instant;
use crate::grpc::codec::{CallConcerns, Recorded};
use crate::grpc::status;
use crate::store::error::Error;
use crate::store::{Store, retry};

/// Longest time for which a message of a stream waits for its entries; half of the shortest lease.
const MESSAGE_WAIT_MAX: Duration = Duration::from_secs(5);

/// The access log, for all calls.
#[derive(Clone)]
pub struct AccessLog {
    /// Store of the entries.
    pub store: Store,
    /// Clock that dates them.
    pub clock: Clock,
}

/// Entries that are being stored.
pub type Storing = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

/// The access log of a call. What has been recorded when it is dropped is of a call that has lost its caller.
pub struct CallAccess {
    log: Option<AccessLog>,
    method: Arc<Method>,
    caller: Option<Arc<Caller>>,
    /// Code with which the call is refused for its actor.
    refused: Option<Code>,
    trace_id: Option<String>,
    concerns: Arc<CallConcerns>,
}

impl CallAccess {
    /// Begins the log of a call, before its message is read. Without an access log, as for other services than ours,
    /// nothing is logged.
    pub fn begin(
        log: Option<AccessLog>,
        method: &Arc<Method>,
        rows: Arc<Rows>,
        named: &Named,
    ) -> Self {
        Self {
            log: log.filter(|_| method.is_ours),
            method: method.clone(),
            caller: None,
            refused: None,
            trace_id: named.trace_id.clone(),
            concerns: Arc::new(CallConcerns::of(rows)),
        }
    }

    /// Takes the caller of a call that is authenticated; nothing is logged of others.
    pub fn admit(&mut self, caller: Option<Arc<Caller>>) {
        self.caller = caller;
    }

    /// Takes note that the call is refused for its actor, before it is read.
    pub fn refuse(&mut self, code: Code) {
        self.refused = Some(code);
    }

    /// Returns the record of the messages of the call.
    pub fn concerns(&self) -> Arc<CallConcerns> {
        self.concerns.clone()
    }

    /// Begins to store the entries of what was recorded; none when there is nothing to store, or nothing to wait for.
    pub fn storing(&self, code: Code) -> Option<Storing> {
        let store = self.log.as_ref()?.store.clone();
        let entries = self.entries(code);
        if entries.is_empty() {
            return None;
        }
        if status::shows_nothing(code) {
            store.log_access_later(entries);
            return None;
        }
        Some(Box::pin(async move {
            let stored = store.log_access(entries).await;
            stored.map_err(status::access_not_logged)
        }))
    }

    /// Begins to store the entries of the next message of a stream; none when there is nothing to store. Attempted again
    /// for a while, which a stream outlives, but not for longer than what it brings is leased.
    pub fn storing_message(&self, leased_until: Option<Instant>) -> Option<Storing> {
        let log = self.log.as_ref()?;
        let entries = self.entries(status::ANSWERED);
        if entries.is_empty() {
            return None;
        }
        let (store, wait_max) = (log.store.clone(), wait_max(leased_until, log.clock.now()));
        Some(Box::pin(async move {
            let attempt = || store.attempt_to_log_access(entries.clone());
            let stored = attempt.retry(retry::ANSWER).when(Error::is_temporary);
            let stored = timeout(wait_max, stored).await;
            let stored = stored.unwrap_or_else(|_| Err(Error::timed_out()));
            stored.map_err(status::access_not_logged)
        }))
    }

    /// Takes what was recorded as entries.
    fn entries(&self, code: Code) -> Vec<Access> {
        let (Some(log), Some(caller)) = (&self.log, &self.caller) else {
            return Vec::new();
        };
        let Recorded { named, shown } = self.concerns.take();
        let mut concerns = gather(named, shown, code.into());
        let is_refused = status::is_forbidden(code) || self.refused == Some(code);
        if concerns.is_empty() && is_refused {
            // A call that is refused before it is read.
            concerns.push(Concerns {
                care_unit: None,
                outcome: code.into(),
                concerned: Vec::new(),
            });
        }
        let at = log.clock.now();
        let (subject, actor) = caller.who();
        let method = self.method.path.rsplit('.').next().unwrap_or_default();
        let concerns = concerns.into_iter();
        concerns
            .map(|concerns| Access {
                at,
                subject: subject.to_owned(),
                actor: actor.clone(),
                method: method.to_owned(),
                trace_id: self.trace_id.clone(),
                concerns,
            })
            .collect()
    }
}

impl Drop for CallAccess {
    fn drop(&mut self) {
        // Of a call that was answered nothing is left.
        drop(self.storing(status::CALLER_GONE));
    }
}

/// Returns the time for which a message may wait for its entries from `now` on.
fn wait_max(leased_until: Option<Instant>, now: Instant) -> Duration {
    let left = leased_until.map(|at| (at - now).to_std().unwrap_or_default());
    left.map_or(MESSAGE_WAIT_MAX, |it| it.min(MESSAGE_WAIT_MAX))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn a_message_waits_for_five_seconds_at_the_most_and_never_for_longer_than_its_lease() {
        let now = Instant::UNIX_EPOCH;
        let seconds = Duration::from_secs;
        assert_eq!(wait_max(None, now), seconds(5));
        for (left, expected) in [(3_600, 5), (10, 5), (2, 2), (0, 0), (-1, 0)] {
            let leased_until = Some(now + TimeDelta::seconds(left));
            assert_eq!(wait_max(leased_until, now), seconds(expected), "{left}");
        }
    }
}
