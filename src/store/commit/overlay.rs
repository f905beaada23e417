//! What need not be read, because it is known.
//!
//! Where nobody else writes, what the last batches have post_state, so that the next can be decided while
//! they are being written: what a batch has decided is what the database will hold once the batch is
//! written. When one could not be written as it was decided, all is forgotten.
//!
//! Where others write too, the requests of messages that consumers of this process have: most come
//! back unchanged. That is not known for certain, and is tested by what is written.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::domain::calendar::Instant;
use crate::domain::request_key::RequestKey;
use crate::store::commit::read_set::PatientScope;
use crate::store::commit::tracked::Snapshot;
use crate::store::entity::notification::Due;
use crate::store::idempotency::{IdempotencyKey, IdempotencyRecord};

/// How many requests, and how many calls, are kept at the least once there have been as many; at
/// the most it is twice that and two batches. Consumers bring back what they were given a little while
/// before.
const KEPT: usize = 2_048;
/// The same of requests of leased messages, of which only those are kept that are out.
const LEASED_KEPT: usize = 8_192;

/// What the last batches have post_state.
#[derive(Default)]
pub struct Overlay {
    requests: Generations<RequestKey, Snapshot, KEPT>,
    calls: Generations<IdempotencyKey, IdempotencyRecord, KEPT>,
    moved: Vec<Instant>,
}

/// What one batch leaves.
pub struct PostState {
    /// The requests that it has loaded or written, as they are then.
    pub requests: Vec<Snapshot>,
    /// The calls that it has carried out or looked up.
    pub calls: HashMap<IdempotencyKey, IdempotencyRecord>,
    /// Where the messages that it has changed stood in the due index.
    pub moved: Vec<Instant>,
}

impl Overlay {
    /// These requests alone.
    fn of(requests: Vec<Snapshot>) -> Self {
        let mut overlay = Self::default();
        overlay.know(requests);
        overlay
    }

    /// Takes in what a batch leaves.
    pub fn absorb(&mut self, post_state: PostState) {
        self.know(post_state.requests);
        self.calls.add(post_state.calls);
        self.moved = post_state.moved;
    }

    fn know(&mut self, requests: Vec<Snapshot>) {
        self.requests
            .add(requests.into_iter().map(Snapshot::with_key));
    }

    /// Returns whether no request is known.
    pub fn is_empty(&self) -> bool {
        self.requests.values().next().is_none()
    }

    /// Returns the keys of the requests that are known.
    pub fn keys(&self) -> impl Iterator<Item = &RequestKey> {
        self.requests.values().map(|known| &known.record.key)
    }

    /// Returns a request as it was post_state.
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

    /// Returns whether a request that the database shows as open has been closed since.
    pub fn is_closed(&self, key: &RequestKey) -> bool {
        self.request(key)
            .is_some_and(|known| !known.record.is_open())
    }

    /// Returns a call that was carried out.
    pub fn call(&self, key: &IdempotencyKey) -> Option<&IdempotencyRecord> {
        self.calls.get(key)
    }

    /// Returns how many of the messages that the database shows as due at `now` the last batch may have
    /// moved_before.
    pub fn moved_before(&self, now: Instant) -> usize {
        self.moved.iter().filter(|at| **at <= now).count()
    }

    /// Returns whether a message that the database shows as due at `now` still is, as far as is known.
    pub fn is_due(&self, request: &RequestKey, id: Uuid, due: &Due, now: Instant) -> bool {
        let Some(known) = self.request(request) else {
            return true;
        };
        known.record.notification(id).is_some_and(|message| {
            message.claimable_at.is_some_and(|at| at <= now)
                && due.channels.contains(&message.channel)
        })
    }
}

/// Requests as they were when messages of them were leased, until the consumers answer.
#[derive(Default)]
pub struct Leased(Mutex<LeasedRequests>);

type LeasedRequests = Generations<RequestKey, Snapshot, LEASED_KEPT>;

impl Leased {
    /// Keeps requests for the answers.
    pub fn keep(&self, requests: Vec<Snapshot>) {
        self.requests()
            .add(requests.into_iter().map(Snapshot::with_key));
    }

    /// Takes out those of these requests that are here.
    pub fn take<'a>(&self, keys: impl Iterator<Item = &'a RequestKey>) -> Overlay {
        let mut requests = self.requests();
        Overlay::of(keys.filter_map(|key| requests.take(key)).collect())
    }

    fn requests(&self) -> MutexGuard<'_, LeasedRequests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A map that drops what was added long ago. `N` entries are kept at the least, and twice that and what
/// is added twice at the most.
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
    /// Adds what belongs together: it is kept at least until something else is added twice.
    fn add(&mut self, entries: impl IntoIterator<Item = (K, V)>) {
        if self.young.len() >= N {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.extend(entries);
    }

    /// Returns some may come twice: as they are and as they were before.
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
    fn what_was_added_last_and_before_that_is_always_there() {
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
    fn what_was_added_later_counts() {
        let mut generations = Generations::<_, _, KEPT>::default();
        generations.add((0..KEPT).map(|place| (place, "first")));
        generations.add([(0, "second")]);
        assert_eq!(generations.get(&0), Some(&"second"));
        assert_eq!(generations.get(&1), Some(&"first"));
    }
}
