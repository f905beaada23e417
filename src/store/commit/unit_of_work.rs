//! The unit of work of a batch: an identity map of the requests that its operations touch, loaded once and decided
//! upon in memory.
//!
//! Every operation sees the decisions of the operations before it in the batch. The difference between the loaded and
//! the decided state is the write set; each row is written on condition that it still has the version with which it
//! was loaded, and a conflict means that the committer rolls the whole batch back.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use sea_orm::ConnectionTrait;

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::form::DuplicateKey;
use crate::domain::history::HistoryEntry;
use crate::domain::hsa_id::HsaId;
use crate::domain::patient::PersonalId;
use crate::domain::request_key::RequestKey;
use crate::domain::{Change, Refusal};
use crate::store::access_log::chain::AccessLogWork;
use crate::store::bulk::write::Inserts;
use crate::store::commit::overlay::{Overlay, PostState};
use crate::store::commit::settings::SettingsWork;
use crate::store::commit::tracked::TrackedRequest;
use crate::store::commit::tracked::VersionedRequest;
use crate::store::commit::write_set::WriteSet;
use crate::store::database::connection::RowLock;
use crate::store::entity::access_log_identity::no_longer_said;
use crate::store::entity::history;
use crate::store::entity::idempotency_key;
use crate::store::error::Error;
use crate::store::idempotency::IdempotencyKey;
use crate::store::idempotency::IdempotencyRecord;
use crate::store::idempotency::IdempotentCall;
use crate::store::idempotency::StoredAnswer;
use crate::store::idempotency::idempotency_key;
use crate::store::placement::Shards;
use crate::store::query::aggregate;
use crate::store::query::lookup::{LookupResult, look_up};
use crate::store::query::request_keys::existing;
use crate::store::skew::Date;

/// Everything that a batch has loaded and decided so far.
#[derive(Default)]
pub struct UnitOfWork {
    requests: BTreeMap<RequestKey, TrackedRequest>,
    /// Requests that exist and cannot be decoded.
    undecodable: HashSet<RequestKey>,
    /// Open requests by duplicate key.
    open: HashMap<DuplicateKey, Vec<RequestKey>>,
    idempotency_records: HashMap<IdempotencyKey, IdempotencyRecord>,
    /// New rows of the history.
    history: Inserts<history::Entity>,
    /// New rows of idempotency keys that no row of the history carries.
    keys_without_history: Inserts<idempotency_key::Entity>,
    date: Date,
    shards: Shards,
    /// Settings of care units.
    pub settings: SettingsWork,
    /// New entries of the access log.
    pub access_log: AccessLogWork,
}

impl UnitOfWork {
    /// Returns a unit of work that has loaded nothing yet, over these shards.
    pub fn over(shards: Shards) -> Self {
        Self {
            shards,
            ..Self::default()
        }
    }

    /// Returns the shards that it is over.
    pub fn shards(&self) -> &Shards {
        &self.shards
    }

    /// Returns the clock by which it is decided.
    pub fn date(&self) -> &Date {
        &self.date
    }

    /// Sets the clock by which it is decided from now on.
    pub fn decide_by(&mut self, date: Date) {
        self.date = date;
    }

    /// Returns the request as the operations before have left it; `None` when it does not exist or cannot be decoded.
    pub fn get(&self, key: &RequestKey) -> Option<&BookingRequest> {
        Some(&self.requests.get(key)?.current)
    }

    /// Returns the requests of these identity numbers that are loaded, or that operations before have created.
    pub fn of_patient(&self, personal_ids: &[PersonalId]) -> impl Iterator<Item = &BookingRequest> {
        let records = self.requests.values().map(|it| it.current.as_ref());
        records.filter(|it| personal_ids.contains(&it.form.patient.personal_id))
    }

    /// Returns the request like [`UnitOfWork::get`], for an operation that is about this request.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] when it cannot be decoded: it exists, and must not be reported as missing.
    pub fn require(&self, key: &RequestKey) -> Result<Option<&BookingRequest>, Error> {
        match self.undecodable.contains(key) {
            true => Err(Error::undecodable()),
            false => Ok(self.get(key)),
        }
    }

    /// Returns true when a request exists and cannot be decoded.
    pub fn is_undecodable(&self, key: &RequestKey) -> bool {
        self.undecodable.contains(key)
    }

    /// Returns the request on which the call was executed before, if this is a replay.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`] when the content was another, [`Refusal::NotFound`] when the request no longer
    /// exists, [`Error::Internal`] when it cannot be decoded.
    pub fn replayed_request(
        &self,
        scope: &HsaId,
        call: &IdempotentCall,
    ) -> Result<Option<&BookingRequest>, Error> {
        match self.replayed_request_key(scope, call)? {
            None => Ok(None),
            Some(request) => self
                .require(request)?
                .map(Some)
                // It was purged before its idempotency key was.
                .ok_or(Error::Refused(Refusal::NotFound)),
        }
    }

    /// Returns the key of the request on which the call was executed before, if this is a replay.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`] when it was with other content.
    pub fn replayed_request_key(
        &self,
        scope: &HsaId,
        call: &IdempotentCall,
    ) -> Result<Option<&RequestKey>, Error> {
        let idempotency_record = self.idempotency_record(scope, call)?;
        Ok(idempotency_record.and_then(|record| record.request.as_ref()))
    }

    /// Returns true when the call was executed before.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`] when it was with other content.
    pub fn is_replay(&self, scope: &HsaId, call: &IdempotentCall) -> Result<bool, Error> {
        Ok(self.idempotency_record(scope, call)?.is_some())
    }

    fn idempotency_record(
        &self,
        scope: &HsaId,
        call: &IdempotentCall,
    ) -> Result<Option<&IdempotencyRecord>, Error> {
        match self.idempotency_records.get(&idempotency_key(scope, call)) {
            Some(record) if record.hash != call.hash => Err(Error::RequestIdReused),
            record => Ok(record),
        }
    }

    /// Returns the answer of a call that was executed before on the requests of a patient.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`] when it was with other content, [`Error::Internal`] when the answer cannot be decoded.
    pub fn replayed_answer(
        &self,
        scope: &HsaId,
        call: &IdempotentCall,
    ) -> Result<Option<StoredAnswer>, Error> {
        let record = self.idempotency_record(scope, &call.answered())?;
        let answer = record.and_then(|record| record.answer.as_deref());
        answer.map(StoredAnswer::from_text).transpose()
    }

    /// Records the answer of a call on the requests of a patient, so that a repeat gives the same.
    pub fn record_answer(&mut self, scope: &HsaId, call: &IdempotentCall, answer: &StoredAnswer) {
        let call = call.answered();
        let text = answer.to_text();
        let row = idempotency_key::answer_row(scope, &call, &text);
        self.keys_without_history.push(row);
        let record = IdempotencyRecord {
            hash: call.hash.to_vec(),
            request: None,
            answer: Some(text),
        };
        self.idempotency_records
            .insert(idempotency_key(scope, &call), record);
    }

    /// Records the idempotency key of a call that changed nothing.
    pub fn record_key_without_history(
        &mut self,
        scope: &HsaId,
        call: &IdempotentCall,
        request: Option<&RequestKey>,
    ) {
        let row = idempotency_key::row(scope, call, request);
        self.keys_without_history.push(row);
        self.record_key(scope, call, request);
    }

    fn record_key(&mut self, scope: &HsaId, call: &IdempotentCall, request: Option<&RequestKey>) {
        let record = IdempotencyRecord {
            hash: call.hash.to_vec(),
            request: request.cloned(),
            answer: None,
        };
        self.idempotency_records
            .insert(idempotency_key(scope, call), record);
    }

    /// Applies a decision, and records the idempotency key of the call that it executes, if it has one.
    ///
    /// # Errors
    ///
    /// [`Refusal::Duplicate`] when the request has been opened and there is another open one with the same duplicate
    /// key.
    pub fn apply(&mut self, change: Change, call: Option<&IdempotentCall>) -> Result<(), Error> {
        self.apply_as(change, call, false)
    }

    /// Applies a decision, for a caller from whom patients with protected identity are hidden or not.
    fn apply_as(
        &mut self,
        mut change: Change,
        call: Option<&IdempotentCall>,
        hides_protected: bool,
    ) -> Result<(), Error> {
        let key = change.record.key.clone();
        let open_as = |record: &BookingRequest| match record.is_open() {
            true => record.found_by(),
            false => Vec::new(),
        };
        let before = self.get(&key).map(open_as).unwrap_or_default();
        let after = open_as(&change.record);
        if before.first() != after.first() && !after.is_empty() {
            self.check_duplicates(&mut change.record, hides_protected)?;
        }
        for left in before.iter().filter(|it| !after.contains(it)) {
            if let Some(others) = self.open.get_mut(left) {
                others.retain(|other| *other != key);
            }
        }
        for new in after.into_iter().filter(|it| !before.contains(it)) {
            self.open.entry(new).or_default().push(key.clone());
        }
        if let Some(before) = self.requests.get(&key) {
            let (before, after) = (&before.current.form.patient, &change.record.form.patient);
            self.access_log.keep(no_longer_said(before, after));
        }
        self.record_history(&change.record, &change.history, call);
        let record = Arc::new(change.record);
        match self.requests.entry(key) {
            Entry::Occupied(known) => known.into_mut().current = record,
            Entry::Vacant(new) => {
                new.insert(TrackedRequest::new(record));
            }
        }
        Ok(())
    }

    /// Applies the creation of one request or of a series, and records the idempotency key with the first.
    ///
    /// # Errors
    ///
    /// [`Refusal::Duplicate`], before anything is applied: members of a series have one duplicate key, and are no
    /// duplicates of each other, so that the first alone can be refused.
    pub fn apply_all(
        &mut self,
        changes: Vec<Change>,
        call: &IdempotentCall,
        hides_protected: bool,
    ) -> Result<(), Error> {
        let mut call = Some(call);
        for change in changes {
            self.apply_as(change, call.take(), hides_protected)?;
        }
        Ok(())
    }

    /// Checks that no other open request has the duplicate key. Beside members of its own series the request is opened,
    /// and kept out of the unique index while it is open.
    ///
    /// A refusal must not tell a caller from whom patients with protected identity are hidden which of them has a
    /// request: one of theirs is in the way, and is named first, whoever the patient is.
    fn check_duplicates(
        &self,
        record: &mut BookingRequest,
        hides_protected: bool,
    ) -> Result<(), Error> {
        let own = record.duplicate_key();
        let shared = hides_protected.then(|| own.clone().of_any_protected());
        let keys = shared.into_iter().chain([own]);
        let open: Vec<RequestKey> = keys
            .filter_map(|key| self.open.get(&key))
            .flatten()
            .cloned()
            .collect();
        let others = open.iter().filter(|other| **other != record.key);
        let (fellows, strangers): (Vec<_>, Vec<_>) = others.partition(|other| {
            let series = record.series.as_ref();
            series.is_some_and(|series| series.members.contains(&other.id))
        });
        match strangers.first() {
            Some(other) if !record.is_exempt_from_duplicates() => {
                Err(Refusal::Duplicate((*other).clone()).into())
            }
            Some(_) | None => {
                record.may_have_duplicate |= !fellows.is_empty();
                Ok(())
            }
        }
    }

    /// Returns the requests that are open under these duplicate keys.
    pub fn open_under(&self, keys: &[DuplicateKey]) -> Vec<RequestKey> {
        let open = keys.iter().filter_map(|key| self.open.get(key));
        open.flatten().cloned().collect()
    }

    /// Returns whether the request is open and another one is under its duplicate key.
    pub fn has_open_duplicate(&self, record: &BookingRequest) -> bool {
        let open = self.open_under(&[record.duplicate_key()]);
        record.is_open() && open.iter().any(|other| *other != record.key)
    }

    fn record_history(
        &mut self,
        record: &BookingRequest,
        history: &[HistoryEntry],
        call: Option<&IdempotentCall>,
    ) {
        let written = i32::try_from(history.len()).expect("a verb writes a few entries");
        let first = record.history_count - written + 1;
        for (ordinal, entry) in (first..).zip(history) {
            // The first entry carries the idempotency key.
            let carried = call.filter(|_| ordinal == first);
            let row = history::Model::of(&record.key, ordinal, entry, carried);
            self.history.push(row);
        }
        match call {
            Some(call) if history.is_empty() => {
                self.record_key_without_history(&record.key.care_unit, call, Some(&record.key));
            }
            Some(call) => self.record_key(&record.key.care_unit, call, Some(&record.key)),
            None => {}
        }
    }

    /// Locks requests in the order of their keys, where the database locks rows, and loads them with their
    /// notifications. Returns the requests that were skipped because another writer has locked them.
    pub async fn load(
        &mut self,
        connection: &impl ConnectionTrait,
        mut keys: Vec<RequestKey>,
        lock: RowLock,
        overlay: &Overlay,
    ) -> Result<HashSet<RequestKey>, Error> {
        keys.retain(|key| !self.is_loaded(key));
        keys.sort();
        keys.dedup();
        keys.retain(|key| match overlay.request(key) {
            Some(known) => {
                self.track(known.clone());
                false
            }
            None => true,
        });
        if keys.is_empty() {
            return Ok(HashSet::new());
        }
        let locks = lock.locks_rows(connection.get_database_backend());
        let locked;
        let free = match locks {
            true => {
                locked = existing(connection, &self.shards, &keys, lock).await?;
                &locked
            }
            false => &keys,
        };
        for found in aggregate::load(connection, &self.shards, free).await? {
            let Some(read) = found.record else {
                self.undecodable.insert(found.key);
                continue;
            };
            self.track(VersionedRequest {
                record: Arc::new(read.request),
                versions: read.versions,
            });
        }
        keys.retain(|key| !self.is_loaded(key));
        if !locks || keys.is_empty() {
            return Ok(HashSet::new());
        }
        // Those that exist all the same are locked.
        let skipped = existing(connection, &self.shards, &keys, RowLock::None).await?;
        Ok(skipped.into_iter().collect())
    }

    fn is_loaded(&self, key: &RequestKey) -> bool {
        self.requests.contains_key(key) || self.undecodable.contains(key)
    }

    fn track(&mut self, loaded: VersionedRequest) {
        let key = loaded.record.key.clone();
        self.requests.insert(key, TrackedRequest::loaded(loaded));
    }

    /// Loads the idempotency records of the calls, and the open duplicates of the requests that the operations may
    /// open, or keep open under another key: the `new` keys, and those of requests that calls have `named`, since a request
    /// that is open now may be closed and opened again in the same batch; with `also_protected` also those by which requests
    /// of any patient with protected identity are found. Returns the requests on which calls were executed before.
    pub async fn load_duplicates_and_replays(
        &mut self,
        connection: &impl ConnectionTrait,
        new: Vec<DuplicateKey>,
        named: &[RequestKey],
        also_protected: bool,
        mut calls: Vec<(HsaId, IdempotentCall)>,
        overlay: &Overlay,
    ) -> Result<Vec<RequestKey>, Error> {
        let named = named
            .iter()
            .filter_map(|key| Some(self.get(key)?.duplicate_key()));
        let mut keys: Vec<DuplicateKey> = new.into_iter().chain(named).collect();
        if also_protected {
            let shared = keys.iter().map(|it| it.clone().of_any_protected());
            keys.extend(shared.collect::<Vec<_>>());
        }
        keys.sort();
        keys.dedup();
        let mut known = Vec::new();
        calls.retain(|(care_unit, call)| {
            let key = idempotency_key(care_unit, call);
            let record = overlay.idempotency_record(&key).cloned();
            let is_known = record.is_some();
            known.extend(record.map(|record| (key, record)));
            !is_known
        });
        let LookupResult {
            duplicates,
            replays,
        } = look_up(connection, &self.shards, &keys, &calls).await?;
        for (key, other) in duplicates {
            if !overlay.has_left(&key, &other) {
                self.open.entry(key).or_default().push(other);
            }
        }
        for (key, other) in overlay.open_duplicates(&keys) {
            let others = self.open.entry(key).or_default();
            if !others.contains(&other) {
                others.push(other);
            }
        }
        known.extend(replays);
        let requests = known.iter().filter_map(|(_, it)| it.request.clone());
        let requests = requests.collect();
        self.idempotency_records.extend(known);
        Ok(requests)
    }

    /// Returns the state that the batch leaves behind once it is committed.
    pub fn post_state(&self) -> PostState {
        let requests = self.requests.iter();
        let tracked = self.requests.values();
        PostState {
            requests: requests
                .filter_map(|(key, tracked)| Some((key.clone(), tracked.post_state()?)))
                .collect(),
            settings: self.settings.post_state(),
            idempotency_records: self.idempotency_records.clone(),
            moved_due_entries: tracked
                .flat_map(TrackedRequest::moved_due_entries)
                .collect(),
        }
    }

    /// Returns the difference from the loaded state.
    pub fn into_write_set(self) -> WriteSet {
        WriteSet::of(
            self.requests.values(),
            self.history,
            self.keys_without_history,
            &self.settings,
            self.access_log,
            self.date,
            self.shards,
        )
    }
}
