//! Rows that cannot be decoded: a newer version has written a value that this one does not know, or
//! somebody has altered a document. Each is set aside: the log names it once, by its key and never by
//! its content, and everything else goes on without it. One that is mended is taken again.

use std::collections::{HashMap, HashSet};
use std::error::Error as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant as Moment;
use uuid::Uuid;

use crate::domain::request_key::RequestKey;
use crate::store::error::Error;

/// Maximum rows that the log names.
const NAMED_MAX: usize = 10_000;
/// Maximum requests that claims pass over without reading them.
const PASSED_OVER_MAX: usize = 10_000;
/// Time after which a claim reads such a request again, since it may have been mended.
const PASSED_OVER: Duration = Duration::from_secs(30);

/// The rows that the log has named, as hashes of their keys: once a process, as the log is one.
static NAMED: LazyLock<Mutex<HashSet<u64>>> = LazyLock::new(Mutex::default);

/// The key of a row.
#[derive(Hash)]
pub struct RowKey<'a> {
    /// Its table.
    pub table: &'static str,
    /// Its care unit; none of a table without care units.
    pub care_unit: Option<&'a str>,
    /// The id of its request, or of the replica that wrote it.
    pub id: Uuid,
    /// Its number among those of the same id.
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

    /// Gives what was decoded; none, and a line in the log, where it could not be.
    pub fn accept<T>(&self, decoded: Result<T, Error>) -> Option<T> {
        decoded.map_err(|error| self.name(&error)).ok()
    }

    /// Names the row in the log, unless that has been done before.
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
            tracing::error!("more rows cannot be decoded than are named here");
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
            "row cannot be decoded and is set aside"
        );
    }
}

/// The requests that claims have met and that could not be decoded. For a while claims leave them
/// out, however many there are, so that the messages behind them come.
#[derive(Default)]
pub struct Quarantine(Mutex<HashMap<RequestKey, Moment>>);

impl Quarantine {
    /// Takes requests in.
    pub fn add(&self, requests: impl IntoIterator<Item = RequestKey>) {
        let until = Moment::now() + PASSED_OVER;
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for request in requests {
            if held.len() < PASSED_OVER_MAX {
                held.insert(request, until);
            }
        }
    }

    /// Returns the requests whose time is not over.
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
    use crate::domain::hsa_id::HsaId;

    #[tokio::test(start_paused = true)]
    async fn a_request_is_passed_over_for_a_while_and_only_so_many_are() {
        let quarantine = Quarantine::default();
        let request = |id| RequestKey {
            care_unit: HsaId::from_stored("SE2321000131-P1".into()),
            id: Uuid::from_u128(id),
        };
        quarantine.add((0..PASSED_OVER_MAX as u128 + 1).map(request));
        assert_eq!(quarantine.requests().len(), PASSED_OVER_MAX);
        tokio::time::advance(PASSED_OVER).await;
        assert_eq!(quarantine.requests(), []);
        quarantine.add([request(1)]);
        assert_eq!(quarantine.requests(), [request(1)]);
    }
}
