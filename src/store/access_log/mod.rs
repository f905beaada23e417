//! The access log: who has seen or changed which patient's data.
//!
//! Calls hand their entries to one writer task for each process, which gathers those of concurrent calls into groups. A
//! group is one operation of the group commit, so that it shares a transaction with the writes that wait beside it. The
//! next group is begun when it is committed, so that the rows form a chain without forks; when that is not known, with a
//! chain of its own. Each row has the hash of the one before.
//!
//! | file | does |
//! | --- | --- |
//! | `writer` | gathers entries, and logs the head of the chain |
//! | `chain` | makes rows of entries, with their hashes |
//! | `query` | pages |
//! | `protected` | patients who have or had protected identity |
//! | `verify` | walks the chains and finds what was altered |
//! | `purge` | deletes entries that are kept no longer |

pub mod chain;
pub mod purge;
pub mod verify;
pub mod writer;

mod protected;
pub mod query;

use std::collections::BTreeSet;

use crate::domain::access::{Access, AccessFilter, AccessPlace, LoggedAccess};
use crate::domain::care_units::CareUnits;
use crate::domain::patient::PersonalId;
use crate::store::Store;
use crate::store::error::Error;

impl Store {
    /// Stores entries of the access log. They are durable when it returns.
    ///
    /// # Errors
    ///
    /// They could not be stored, or it is not known. The writer then tries to store them later all the same, as of calls
    /// that were answered UNAVAILABLE; but those that find no room are lost, which a metric and the log of the process
    /// tell.
    pub async fn log_access(&self, accesses: Vec<Access>) -> Result<(), Error> {
        let queue = self.queues()?.access_log;
        queue.log(accesses).await
    }

    /// Stores entries of the access log as [`Store::log_access`] does, but keeps none that could not be stored: the caller
    /// attempts it again, or does not show what they are about.
    pub async fn attempt_to_log_access(&self, accesses: Vec<Access>) -> Result<(), Error> {
        let queue = self.queues()?.access_log;
        queue.log_message(accesses).await
    }

    /// Hands over entries of the access log for which nobody waits. Those that find no room are lost, which a metric and the
    /// log of the process tell.
    pub fn log_access_later(&self, accesses: Vec<Access>) {
        match self.queues() {
            Ok(queues) => queues.access_log.log_later(accesses),
            Err(_) => tracing::warn!(
                count = accesses.len(),
                "entries of the access log are lost: the store is closed"
            ),
        }
    }

    /// Returns those of these patients who have or had protected identity as far as the access log knows, and perhaps
    /// others.
    pub async fn protected_among(
        &self,
        patients: BTreeSet<PersonalId>,
    ) -> Result<BTreeSet<PersonalId>, Error> {
        self.read(move |snapshot| {
            Box::pin(async move { protected::protected_among(snapshot, patients).await })
        })
        .await
    }

    /// Returns a page of the access log of these care units before the place `after`, the newest entries first; none in
    /// place of an entry that cannot be decoded. Entries without a care unit are shown with all of them alone.
    pub async fn access_log(
        &self,
        filter: &AccessFilter,
        care_units: &CareUnits,
        after: Option<AccessPlace>,
        limit: u32,
    ) -> Result<Vec<(AccessPlace, Option<LoggedAccess>)>, Error> {
        let (filter, care_units) = (filter.clone(), care_units.clone());
        self.read_statement(move |readers| {
            Box::pin(async move { query::page(readers, &filter, &care_units, after, limit).await })
        })
        .await
    }
}
