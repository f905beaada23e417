//! Requests and idempotency keys that need not be read, because they are known.
//!
//! On SQLite, where nobody else writes, the overlay holds the state that the last batches leave behind, so that the
//! next batch can be decided while the one before is being written. When a batch is not committed as it was decided,
//! the committer drops the overlay.
//!
//! On PostgreSQL, where others write too, the requests of notifications that consumers of this process have leased are
//! kept: most of them are unchanged when they are acknowledged. That is not certain, and is tested by the versions that
//! are written.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::domain::calendar::Instant;
use crate::domain::request_key::RequestKey;
use crate::store::commit::read_set::PatientScope;
use crate::store::commit::tracked::Snapshot;
use crate::store::idempotency::{IdempotencyKey, IdempotencyRecord};
use crate::store::query::due::Due;

/// Minimum number of requests, and of idempotency records, that are kept once there have been as many; the maximum
/// is twice that and two batches. Consumers acknowledge a notification a little while after they got it.
const KEPT: usize = 2_048;
/// The same for requests of leased notifications, which are kept only until they are acknowledged.
const LEASED_KEPT: usize = 8_192;

/// The state that the last batches leave behind.
#[derive(Default)]
pub struct Overlay {
    requests: Generations<RequestKey, Snapshot, KEPT>,
    idempotency_records: Generations<IdempotencyKey, IdempotencyRecord, KEPT>,
    moved_due_entries: Vec<Instant>,
}

/// The state that one batch leaves behind.
pub struct PostState {
    /// The requests that it has loaded or written, in their new state.
    pub requests: Vec<Snapshot>,
    /// The idempotency keys that it has recorded or looked up.
    pub idempotency_records: HashMap<IdempotencyKey, IdempotencyRecord>,
    /// The instants at which the notifications that it has changed stood in the due index.
    pub moved_due_entries: Vec<Instant>,
}

impl Overlay {
    /// Returns an overlay of these requests alone.
    fn of(requests: Vec<Snapshot>) -> Self {
        let mut overlay = Self::default();
        overlay.add_requests(requests);
        overlay
    }

    /// Adds the state that a batch leaves behind.
    pub fn absorb(&mut self, post_state: PostState) {
        self.add_requests(post_state.requests);
        self.idempotency_records.add(post_state.idempotency_records);
        self.moved_due_entries = post_state.moved_due_entries;
    }

    fn add_requests(&mut self, requests: Vec<Snapshot>) {
        self.requests
            .add(requests.into_iter().map(Snapshot::with_key));
    }

    /// Returns true when no request is known.
    pub fn is_empty(&self) -> bool {
        self.requests.values().next().is_none()
    }

    /// Returns the keys of the requests that are known.
    pub fn keys(&self) -> impl Iterator<Item = &RequestKey> {
        self.requests.values().map(|known| &known.record.key)
    }

    /// Returns a request in the state that was left behind.
    pub fn request(&self, key: &RequestKey) -> Option<&Snapshot> {
        self.requests.get(key)
    }

    /// Returns the requests of a patient that are known.
    pub fn requests_of(&self, scope: &PatientScope) -> impl Iterator<Item = RequestKey> {
        let known = self.requests.values();
        let of_patient = known.filter(|known| {
            let key = &known.record.key;
            known.record.form.patient.personal_id == scope.personal_id
                && scope
                    .care_unit
                    .as_ref()
                    .is_none_or(|it| *it == key.care_unit)
        });
        of_patient.map(|known| known.record.key.clone())
    }

    /// Returns true when a request that the database shows as open has been closed since.
    pub fn is_closed(&self, key: &RequestKey) -> bool {
        self.request(key)
            .is_some_and(|known| !known.record.is_open())
    }

    /// Returns the record of an idempotency key.
    pub fn idempotency_record(&self, key: &IdempotencyKey) -> Option<&IdempotencyRecord> {
        self.idempotency_records.get(key)
    }

    /// Returns the number of notifications that the database shows as due at `now` and that the last batch may have
    /// moved elsewhere in the due index.
    pub fn moved_before(&self, now: Instant) -> usize {
        self.moved_due_entries
            .iter()
            .filter(|at| **at <= now)
            .count()
    }

    /// Returns false when a notification that the database shows as due at `now` is known not to be due any more.
    pub fn is_due(&self, request: &RequestKey, id: Uuid, due: &Due, now: Instant) -> bool {
        let Some(known) = self.request(request) else {
            return true;
        };
        known.record.notification(id).is_some_and(|notification| {
            notification.claimable_at.is_some_and(|at| at <= now)
                && due.channels.contains(&notification.channel)
        })
    }
}

/// Requests in the state in which notifications of them were leased, until they are acknowledged.
#[derive(Default)]
pub struct Leased(Mutex<LeasedRequests>);

type LeasedRequests = Generations<RequestKey, Snapshot, LEASED_KEPT>;

impl Leased {
    /// Keeps requests for the acknowledgements.
    pub fn keep(&self, requests: Vec<Snapshot>) {
        self.requests()
            .add(requests.into_iter().map(Snapshot::with_key));
    }

    /// Removes those of these requests that are kept and returns them.
    pub fn take<'a>(&self, keys: impl Iterator<Item = &'a RequestKey>) -> Overlay {
        let mut requests = self.requests();
        Overlay::of(keys.filter_map(|key| requests.take(key)).collect())
    }

    fn requests(&self) -> MutexGuard<'_, LeasedRequests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A generational map, which drops old entries. It keeps at least the last `N` entries, and at most twice that and the
/// entries of two additions.
struct Generations<K, V, const N: usize> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V, const N: usize> Default for Generations<K, V, N> {
    fn default() -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }
}

impl<K: std::hash::Hash + Eq, V, const N: usize> Generations<K, V, N> {
    /// Adds entries that belong together: they are kept at least until there have been two more additions.
    fn add(&mut self, entries: impl IntoIterator<Item = (K, V)>) {
        if self.young.len() >= N {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.extend(entries);
    }

    /// Returns the values. A key may have two: the present value and the one before.
    fn values(&self) -> impl Iterator<Item = &V> {
        self.young.values().chain(self.old.values())
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    fn take(&mut self, key: &K) -> Option<V> {
        let old = self.old.remove(key);
        self.young.remove(key).or(old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_two_additions_are_always_kept() {
        let mut generations = Generations::<_, _, KEPT>::default();
        let batch = |number: usize| (0..KEPT).map(move |place| ((number, place), number));
        for number in 0..5 {
            generations.add(batch(number));
            for kept in number.saturating_sub(1)..=number {
                for place in [0, KEPT - 1] {
                    assert_eq!(generations.get(&(kept, place)), Some(&kept));
                }
            }
            let kept = generations.young.len() + generations.old.len();
            assert!(kept <= 3 * KEPT, "{kept}");
        }
        assert_eq!(generations.get(&(0, 0)), None);
    }

    #[test]
    fn a_later_value_replaces_an_earlier_one() {
        let mut generations = Generations::<_, _, KEPT>::default();
        generations.add((0..KEPT).map(|place| (place, "first")));
        generations.add([(0, "second")]);
        assert_eq!(generations.get(&0), Some(&"second"));
        assert_eq!(generations.get(&1), Some(&"first"));
    }
}
