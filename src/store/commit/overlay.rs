//! The overlay: the state that a batch in flight leaves behind once it is committed.
//!
//! On SQLite, where nobody else writes, the next batch is decided while this one is being written. Requests and idempotency
//! keys of the overlay take precedence over rows that are read, which may be older. When the batch is not committed as it
//! was decided, so is not what was decided over it. On PostgreSQL no batch is decided ahead, and the overlay is empty.
//!
//! Beside them it keeps the leased requests of the batches before, as they were committed: their acknowledgements come
//! soon, and need not read them again. Each row is still written on condition of its version.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use lru::LruCache;
use uuid::Uuid;

use crate::domain::booking_request::form::DuplicateKey;
use crate::domain::calendar::Instant;
use crate::domain::care_unit_settings::CareUnitSettings;
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::{Notification, State};
use crate::domain::request_key::RequestKey;
use crate::store::commit::read_set::PatientScope;
use crate::store::commit::tracked::{VersionedRequest, notifications};
use crate::store::idempotency::{IdempotencyKey, IdempotencyRecord};
use crate::store::query::due::Due;

/// Maximum number of leased requests that are kept: as many as eight streams hold at most. With usual texts about
/// 20 MB.
const LEASED_MAX: NonZeroUsize = NonZeroUsize::new(8_000).unwrap();

/// The state that a batch leaves behind.
#[derive(Default)]
pub struct PostState {
    /// The requests that it writes, in their new state.
    pub requests: HashMap<RequestKey, VersionedRequest>,
    /// The settings that it writes, in their new state.
    pub settings: HashMap<HsaId, CareUnitSettings>,
    /// The idempotency keys that it has recorded or looked up.
    pub idempotency_records: HashMap<IdempotencyKey, IdempotencyRecord>,
    /// The places in the due index of the notifications that it changes: care units and instants.
    pub moved_due_entries: Vec<(HsaId, Instant)>,
}

/// State that takes precedence over rows that are read.
pub struct Overlay {
    in_flight: PostState,
    /// Leased requests of committed batches.
    leased: LruCache<RequestKey, VersionedRequest>,
}

impl Overlay {
    /// Returns an overlay of nothing, for a batch that reads all rows.
    pub fn none() -> Self {
        Self {
            in_flight: PostState::default(),
            leased: LruCache::unbounded(),
        }
    }

    /// Returns the overlay of a pipeline before its first batch.
    pub fn new() -> Self {
        Self {
            in_flight: PostState::default(),
            leased: LruCache::new(LEASED_MAX),
        }
    }

    /// Replaces the state of the batch in flight, which has been committed, by that of the next one.
    pub fn advance(&mut self, next: PostState) {
        let committed = std::mem::replace(&mut self.in_flight, next);
        for (key, known) in committed.requests {
            if notifications(&known.record)
                .iter()
                .any(Notification::is_leased)
            {
                self.leased.push(key, known);
            } else {
                self.leased.pop(&key);
            }
        }
    }

    /// Returns a request in its new state.
    pub fn request(&self, key: &RequestKey) -> Option<&VersionedRequest> {
        let in_flight = self.in_flight.requests.get(key);
        in_flight.or_else(|| self.leased.peek(key))
    }

    /// Returns the requests of a patient, whatever number of theirs they have.
    pub fn requests_of(&self, scope: &PatientScope) -> impl Iterator<Item = RequestKey> {
        let care_units = scope.care_units();
        self.in_flight
            .requests
            .iter()
            .filter_map(move |(key, known)| {
                let personal_id = &known.record.form.patient.personal_id;
                let is_of_patient = scope.personal_ids.contains(personal_id);
                (is_of_patient && care_units.contains(&key.care_unit)).then(|| key.clone())
            })
    }

    /// Returns the requests of a care unit with a leased notification.
    pub fn leased_in(&self, care_unit: &HsaId) -> impl Iterator<Item = RequestKey> {
        let written = self.in_flight.requests.iter();
        let of_unit = written.filter(|(key, _)| key.care_unit == *care_unit);
        of_unit.filter_map(|(key, known)| {
            let mut notifications = notifications(&known.record).iter();
            let has_leased = notifications.any(|it| it.state == State::Leased);
            has_leased.then(|| key.clone())
        })
    }

    /// Returns the settings that the batch in flight writes, in their new state.
    pub fn settings(&self) -> &HashMap<HsaId, CareUnitSettings> {
        &self.in_flight.settings
    }

    /// Returns true when a request that the database may show as open with this duplicate key is closed, or has another.
    pub fn has_left(&self, duplicate_key: &DuplicateKey, key: &RequestKey) -> bool {
        self.request(key).is_some_and(|known| {
            !known.record.is_open() || !known.record.found_by().contains(duplicate_key)
        })
    }

    /// Returns the open requests that the batch in flight leaves with one of these duplicate keys, which are sorted.
    pub fn open_duplicates(
        &self,
        keys: &[DuplicateKey],
    ) -> impl Iterator<Item = (DuplicateKey, RequestKey)> {
        // Most batches look for none.
        let written = self
            .in_flight
            .requests
            .values()
            .filter(|_| !keys.is_empty());
        let open = written.filter(|known| known.record.is_open());
        open.flat_map(|known| {
            let found_by = known.record.found_by().into_iter();
            let wanted = found_by.filter(|key| keys.binary_search(key).is_ok());
            wanted.map(|key| (key, known.record.key.clone()))
        })
    }

    /// Returns the record of an idempotency key.
    pub fn idempotency_record(&self, key: &IdempotencyKey) -> Option<&IdempotencyRecord> {
        self.in_flight.idempotency_records.get(key)
    }

    /// Returns the number of notifications that the database may show as due at `now` and that stand elsewhere in the due
    /// index: of the care unit that has most of them.
    pub fn moved_before(&self, now: Instant) -> usize {
        let mut by_unit: HashMap<&HsaId, usize> = HashMap::new();
        for (care_unit, at) in &self.in_flight.moved_due_entries {
            if *at <= now {
                *by_unit.entry(care_unit).or_default() += 1;
            }
        }
        by_unit.into_values().max().unwrap_or(0)
    }

    /// Returns false when a notification that the database may show as due at `now` is not due any more.
    pub fn is_due(&self, request: &RequestKey, id: Uuid, due: &Due, now: Instant) -> bool {
        let Some(known) = self.request(request) else {
            return true;
        };
        known.record.notification(id).is_some_and(|notification| {
            notification.claimable_at.is_some_and(|at| at <= now)
                && due.channels.contains(&notification.channel)
                && !(due.hides_protected && known.record.form.patient.is_protected())
        })
    }
}
