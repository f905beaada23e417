//! Quarantine of rows that cannot be decoded: a newer version has written a value that this one does not know, or
//! somebody has altered a document. The log names each of them once, by its key and never by its content, and everything
//! else goes on without it. A row that is repaired is used again.
//!
//! | where it is met | then |
//! | --- | --- |
//! | page of a list, history | it is left out; a notification takes its request along |
//! | operation on that request alone | INTERNAL |
//! | claim | its request is skipped, for a while without being read |
//! | acknowledgement, authorization | INTERNAL as its own error, refused as lost |
//! | update of a patient | the other requests are changed, then INTERNAL |
//! | change event | listeners resync |
//! | settings of a care unit | those known before stay in force; a call about them is INTERNAL |

use std::collections::{HashMap, HashSet};
use std::error::Error as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant as Moment;
use uuid::Uuid;

use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;
use crate::store::error::Error;

/// Maximum rows that the log names.
const NAMED_MAX: usize = 10_000;
/// Maximum requests in quarantine, which claims skip without reading them.
const QUARANTINED_MAX: usize = 10_000;
/// Time after which a claim reads such a request again, since it may have been repaired.
const QUARANTINE_TIME: Duration = Duration::from_secs(30);

/// Hashes of the keys of the rows that the log has named. One set for the process, as there is one log.
static NAMED: LazyLock<Mutex<HashSet<u64>>> = LazyLock::new(Mutex::default);

/// The key of a row.
#[derive(Hash)]
pub struct RowKey<'a> {
    /// Table.
    pub table: &'static str,
    /// Care unit; none in a table without care units.
    pub care_unit: Option<&'a str>,
    /// Id of its request, or of the replica that wrote it; nil in a table with one row a care unit.
    pub id: Uuid,
    /// Number among the rows of the same id.
    pub number: Option<i64>,
}

impl<'a> RowKey<'a> {
    /// Returns the key of a row that belongs to a request, or is one.
    pub fn of(table: &'static str, request: &'a RequestKey, number: Option<i64>) -> Self {
        Self {
            table,
            care_unit: Some(request.care_unit.as_str()),
            id: request.id,
            number,
        }
    }

    /// Returns the key of the one row of a care unit.
    pub fn of_unit(table: &'static str, care_unit: &'a HsaId) -> Self {
        Self {
            table,
            care_unit: Some(care_unit.as_str()),
            id: Uuid::nil(),
            number: None,
        }
    }

    /// Returns the decoded value; if it could not be decoded, names the row in the log and returns none.
    pub fn accept<T>(&self, decoded: Result<T, Error>) -> Option<T> {
        decoded.map_err(|error| self.name(&error)).ok()
    }

    /// Names the row in the log, unless the log has named it before.
    fn name(&self, error: &Error) {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        if named.len() > NAMED_MAX || !named.insert(hasher.finish()) {
            return;
        }
        let is_last = named.len() > NAMED_MAX;
        drop(named);
        if is_last {
            tracing::error!("too many rows cannot be decoded: no more of them are named");
            return;
        }
        let Self {
            table,
            care_unit,
            id,
            number,
        } = self;
        let cause = error.source().map(ToString::to_string);
        tracing::error!(
            table, care_unit, %id, number, cause,
            "row cannot be decoded and is quarantined"
        );
    }
}

/// The requests that claims have met and that could not be decoded. For a while claims skip them, however many there are,
/// so that the notifications behind them are leased.
#[derive(Default)]
pub struct Quarantine(Mutex<HashMap<RequestKey, Moment>>);

impl Quarantine {
    /// Adds requests.
    pub fn add(&self, requests: impl IntoIterator<Item = RequestKey>) {
        let until = Moment::now() + QUARANTINE_TIME;
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for request in requests {
            if held.len() < QUARANTINED_MAX {
                held.insert(request, until);
            }
        }
    }

    /// Returns the requests whose time is not over, and removes the others.
    pub fn requests(&self) -> Vec<RequestKey> {
        let now = Moment::now();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, until| now < *until);
        held.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_is_skipped_for_a_while_and_only_so_many_are() {
        let quarantine = Quarantine::default();
        let request = |id| RequestKey {
            care_unit: HsaId::from_stored("SE2321000131-P1".into()),
            id: Uuid::from_u128(id),
        };
        quarantine.add((0..QUARANTINED_MAX as u128 + 1).map(request));
        assert_eq!(quarantine.requests().len(), QUARANTINED_MAX);
        tokio::time::advance(QUARANTINE_TIME).await;
        assert_eq!(quarantine.requests(), []);
        quarantine.add([request(1)]);
        assert_eq!(quarantine.requests(), [request(1)]);
    }
}
