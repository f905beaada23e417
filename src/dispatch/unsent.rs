//! The leases on notifications that were taken from a subscription and have not been sent: they wait in a frame.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::release_undelivered;
use crate::domain::calendar::Instant;
use crate::domain::notification::LeaseRef;
use crate::store::Store;

/// The leases of one subscription whose notifications have not been sent. The sender keeps them, and takes note of what
/// it sends: the subscription may be gone before its last frame is sent. Released when dropped.
pub struct UnsentLeases {
    store: Store,
    leases: Mutex<Vec<Unsent>>,
}

struct Unsent {
    lease: LeaseRef,
    expires_at: Option<Instant>,
}

impl UnsentLeases {
    /// Returns none yet, of this store.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            leases: Mutex::default(),
        }
    }

    /// Adds a lease.
    pub fn add(&self, lease: LeaseRef, expires_at: Option<Instant>) {
        self.lock().push(Unsent { lease, expires_at });
    }

    /// Returns the instant at which the first of them expires.
    pub fn first_expiry(&self) -> Option<Instant> {
        self.lock().iter().filter_map(|it| it.expires_at).min()
    }

    /// Forgets the leases, since their notifications are sent now.
    pub fn note_sent(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Unsent>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnsentLeases {
    fn drop(&mut self) {
        let unsent = mem::take(&mut *self.lock());
        let leases = unsent.into_iter().map(|it| it.lease);
        release_undelivered(&self.store, leases.collect());
    }
}
