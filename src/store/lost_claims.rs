//! Lost claims: leases that may have been committed although the response to their claim was lost. They are released, so
//! that no notification waits for a consumer that does not know of it.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use backon::Retryable;

use crate::domain::notification::LeaseRef;
use crate::store::Store;
use crate::store::error::Error;
use crate::store::retry;

/// The leases that a claim has decided, in all of its attempts: each may have been committed although its response
/// was lost.
#[derive(Default)]
pub struct ClaimLedger(Mutex<Decisions>);

/// Decisions of the attempts at a claim.
#[derive(Default)]
pub struct Decisions {
    /// Leases that may have been committed.
    pub leases: HashSet<LeaseRef>,
    /// True once the caller no longer waits, so that nothing more is leased.
    pub closed: bool,
}

impl ClaimLedger {
    /// Locks the decisions.
    pub fn decisions(&self) -> MutexGuard<'_, Decisions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the ledger, once the response has come or is no longer waited for. Returns the leases that were not
    /// `received` with it.
    pub fn close<'a>(&self, received: impl Iterator<Item = &'a LeaseRef>) -> Vec<LeaseRef> {
        let mut decisions = self.decisions();
        decisions.closed = true;
        for lease in received {
            decisions.leases.remove(lease);
        }
        decisions.leases.drain().collect()
    }
}

impl Store {
    /// Releases leases that may have been committed although the response was lost. If that fails for too long they
    /// expire by themselves.
    pub(super) fn release_lost_claims(&self, leases: Vec<LeaseRef>) {
        if leases.is_empty() {
            return;
        }
        let store = self.clone();
        tokio::spawn(async move {
            let release = || store.release_leases(leases.clone());
            let released = release.retry(retry::WHILE_LEASED);
            let _ = released.when(Error::is_temporary).await;
        });
    }
}
