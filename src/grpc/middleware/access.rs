//! The access log of a call: its entries are stored before its answer leaves.
//!
//! | the call | its entries |
//! | --- | --- |
//! | is answered, or refused | are durable before the answer leaves, which is UNAVAILABLE when they cannot be |
//! | has run out of time, or finds no database | are stored as soon as they can be: such an answer shows nothing |
//! | loses its caller | the same |
//! | is a stream | those of each message are durable before it leaves, which waits for a database that is away |

use std::pin::Pin;
use std::sync::Arc;

use backon::Retryable;
use tonic::{Code, Status};

use super::method::Method;
use super::named::Named;
use super::rows::Rows;
use crate::auth::caller::Caller;
use crate::clock::Clock;
use crate::domain::access::{Access, Concerns, gather};
use crate::grpc::codec::{CallConcerns, Recorded};
use crate::grpc::status;
use crate::store::error::Error;
use crate::store::{Store, retry};

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
    /// for as long as the message may be leased: a stream outlives a database that is away for a while.
    pub fn storing_message(&self) -> Option<Storing> {
        let store = self.log.as_ref()?.store.clone();
        let entries = self.entries(status::ANSWERED);
        if entries.is_empty() {
            return None;
        }
        Some(Box::pin(async move {
            let attempt = || store.attempt_to_log_access(entries.clone());
            let stored = attempt.retry(retry::WHILE_LEASED).when(Error::is_temporary);
            stored.await.map_err(status::access_not_logged)
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
