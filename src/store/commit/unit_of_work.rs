//! The work that a batch of units touches: loaded once, decided upon in memory, saved as sets.
//!
//! Every unit sees what the units before it in the batch have decided. What is saved is the
//! difference between what was loaded and what was decided, each row under the test that it is
//! still as it was loaded; a row that is not means that the whole batch is moved_before back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use sea_orm::ConnectionTrait;

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::form::DuplicateKey;
use crate::domain::history::HistoryEntry;
use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;
use crate::domain::{Change, Refusal};
use crate::store::bulk::rows::Rows;
use crate::store::commit::overlay::Overlay;
use crate::store::commit::overlay::PostState;
use crate::store::commit::tracked::Snapshot;
use crate::store::commit::tracked::TrackedRequest;
use crate::store::commit::write_set::WriteSet;
use crate::store::database::connection::RowLock;
use crate::store::entity::booking_request as request;
use crate::store::entity::history;
use crate::store::entity::idempotency_key;
use crate::store::error::Error;
use crate::store::idempotency::Call;
use crate::store::idempotency::IdempotencyKey;
use crate::store::idempotency::IdempotencyRecord;
use crate::store::idempotency::idempotency_key;
use crate::store::query::aggregate;
use crate::store::query::lookup::{LookupResult, look_up};
use crate::store::skew::Date;

/// What a batch has loaded and decided so far.
pub struct UnitOfWork {
    entries: BTreeMap<RequestKey, TrackedRequest>,
    /// The requests that are there and cannot be decoded.
    undecodable: HashSet<RequestKey>,
    open: HashMap<DuplicateKey, Vec<RequestKey>>,
    calls: HashMap<IdempotencyKey, IdempotencyRecord>,
    history: Rows,
    idempotency_keys: Rows,
    date: Date,
}

impl UnitOfWork {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            undecodable: HashSet::new(),
            open: HashMap::new(),
            calls: HashMap::new(),
            history: history::TABLE.new_rows(),
            idempotency_keys: idempotency_key::TABLE.new_rows(),
            date: Date::default(),
        }
    }

    /// By which clock it is decided.
    pub fn date(&self) -> &Date {
        &self.date
    }

    /// Has it decided by this clock from now on.
    pub fn decide_by(&mut self, date: Date) {
        self.date = date;
    }

    /// Returns the request as the units before have post_state it. One that cannot be decoded is passed over.
    pub fn get(&self, key: &RequestKey) -> Option<&BookingRequest> {
        self.entries.get(key)?.current.as_deref()
    }

    /// As [`UnitOfWork::get`], for a unit that is about this request.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] when it cannot be decoded: it is there, and must not be moved_before for missing.
    pub fn require(&self, key: &RequestKey) -> Result<Option<&BookingRequest>, Error> {
        match self.undecodable.contains(key) {
            true => Err(Error::undecodable()),
            false => Ok(self.get(key)),
        }
    }

    /// Returns whether a request is there and cannot be decoded.
    pub fn is_undecodable(&self, key: &RequestKey) -> bool {
        self.undecodable.contains(key)
    }

    /// Returns the request on which the call was carried out before, if it was.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`] when it was with other content, [`Refusal::NotFound`] when the
    /// request is not there any more, [`Error::Internal`] when it cannot be decoded.
    pub fn replayed_request(
        &self,
        scope: &HsaId,
        call: &Call,
    ) -> Result<Option<&BookingRequest>, Error> {
        match self.repeated_on(scope, call)? {
            None => Ok(None),
            Some(request) => self
                .require(request)?
                .map(Some)
                // It has been purged, and the call not forgotten yet.
                .ok_or(Error::Refused(Refusal::NotFound)),
        }
    }

    /// Returns the key of the request on which the call was carried out before, if it was.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`] when it was with other content.
    pub fn repeated_on(&self, scope: &HsaId, call: &Call) -> Result<Option<&RequestKey>, Error> {
        let idempotency_record = self.idempotency_record(scope, call)?;
        Ok(idempotency_record.and_then(|idempotency_record| idempotency_record.request.as_ref()))
    }

    /// Returns whether the call was carried out before.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`] when it was with other content.
    pub fn is_replay(&self, scope: &HsaId, call: &Call) -> Result<bool, Error> {
        Ok(self.idempotency_record(scope, call)?.is_some())
    }

    fn idempotency_record(
        &self,
        scope: &HsaId,
        call: &Call,
    ) -> Result<Option<&IdempotencyRecord>, Error> {
        match self.calls.get(&idempotency_key(scope, call)) {
            Some(idempotency_record) if idempotency_record.hash != call.hash => {
                Err(Error::RequestIdReused)
            }
            idempotency_record => Ok(idempotency_record),
        }
    }

    /// Remembers a call that changed nothing.
    pub fn record_key_without_history(
        &mut self,
        scope: &HsaId,
        call: &Call,
        request: Option<&RequestKey>,
    ) {
        self.idempotency_keys
            .push(idempotency_key::values(scope, call, request));
        self.record_key(scope, call, request);
    }

    fn record_key(&mut self, scope: &HsaId, call: &Call, request: Option<&RequestKey>) {
        let idempotency_record = IdempotencyRecord {
            hash: call.hash.to_vec(),
            request: request.cloned(),
        };
        self.calls
            .insert(idempotency_key(scope, call), idempotency_record);
    }

    /// Takes a decision over, with the call that it carries out, if one is to be idempotency_record.
    ///
    /// # Errors
    ///
    /// [`Refusal::Duplicate`] when the request has been opened and another is like it.
    pub fn apply(&mut self, change: Change, call: Option<&Call>) -> Result<(), Error> {
        let key = change.record.key.clone();
        let was_open = self.get(&key).is_some_and(BookingRequest::is_open);
        let duplicate_key = change.record.duplicate_key();
        match (was_open, change.record.is_open()) {
            (false, true) => self.claim_duplicate_key(&change.record, duplicate_key)?,
            (true, false) => {
                if let Some(others) = self.open.get_mut(&duplicate_key) {
                    others.retain(|other| *other != key);
                }
            }
            (false, false) | (true, true) => {}
        }
        self.record_history(&change.record, &change.history, call);
        self.entries.entry(key).or_default().current = Some(Arc::new(change.record));
        Ok(())
    }

    fn claim_duplicate_key(
        &mut self,
        record: &BookingRequest,
        key: DuplicateKey,
    ) -> Result<(), Error> {
        let others = self.open.entry(key).or_default();
        match others.iter().find(|other| **other != record.key) {
            Some(other) if !record.allow_duplicate => Err(Refusal::Duplicate(other.clone()).into()),
            _ => {
                others.push(record.key.clone());
                Ok(())
            }
        }
    }

    fn record_history(
        &mut self,
        record: &BookingRequest,
        history: &[HistoryEntry],
        call: Option<&Call>,
    ) {
        let written = i32::try_from(history.len()).expect("a verb writes a few entries");
        let first = record.history_count - written + 1;
        for (ordinal, entry) in (first..).zip(history) {
            // The first entry carries the call.
            let carried = call.filter(|_| ordinal == first);
            self.history
                .push(history::values(&record.key, ordinal, entry, carried));
        }
        match call {
            Some(call) if history.is_empty() => {
                self.record_key_without_history(&record.key.care_unit, call, Some(&record.key));
            }
            Some(call) => self.record_key(&record.key.care_unit, call, Some(&record.key)),
            None => {}
        }
    }

    /// Locks requests in the order of their keys, where the database locks rows, and loads them with
    /// their messages. Gives those that another writer has locked and that were therefore passed over.
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
                locked = request::lock_existing(connection, &keys, lock).await?;
                &locked
            }
            false => &keys,
        };
        for found in aggregate::load(connection, free).await? {
            let Some(read) = found.record else {
                self.undecodable.insert(found.key);
                continue;
            };
            self.track(Snapshot {
                record: Arc::new(read.request),
                versions: read.versions,
            });
        }
        keys.retain(|key| !self.is_loaded(key));
        if !locks || keys.is_empty() {
            return Ok(HashSet::new());
        }
        // What is there all the same is locked.
        let passed_over = request::lock_existing(connection, &keys, RowLock::None).await?;
        Ok(passed_over.into_iter().collect())
    }

    fn is_loaded(&self, key: &RequestKey) -> bool {
        self.entries.contains_key(key) || self.undecodable.contains(key)
    }

    fn track(&mut self, Snapshot { record, versions }: Snapshot) {
        let key = record.key.clone();
        let entry = TrackedRequest {
            original: Some(Arc::clone(&record)),
            versions,
            current: Some(record),
        };
        self.entries.insert(key, entry);
    }

    /// Looks up which of the calls were carried out before, and which open requests are like those
    /// that the units may open: the `new` ones, and those that calls have `named`, since one that is
    /// open now may be closed and opened in the same batch. Gives the requests on which calls were.
    pub async fn load_duplicates_and_replays(
        &mut self,
        connection: &impl ConnectionTrait,
        new: Vec<DuplicateKey>,
        named: &[RequestKey],
        mut calls: Vec<(HsaId, Call)>,
        overlay: &Overlay,
    ) -> Result<Vec<RequestKey>, Error> {
        let named = named
            .iter()
            .filter_map(|key| Some(self.get(key)?.duplicate_key()));
        let mut keys: Vec<DuplicateKey> = new.into_iter().chain(named).collect();
        keys.sort();
        keys.dedup();
        let mut known = Vec::new();
        calls.retain(|(care_unit, call)| {
            let key = idempotency_key(care_unit, call);
            let idempotency_record = overlay.call(&key).cloned();
            let is_known = idempotency_record.is_some();
            known.extend(idempotency_record.map(|idempotency_record| (key, idempotency_record)));
            !is_known
        });
        let LookupResult {
            duplicates,
            replays,
        } = look_up(connection, &keys, &calls).await?;
        for (key, other) in duplicates {
            if !overlay.is_closed(&other) {
                self.open.entry(key).or_default().push(other);
            }
        }
        known.extend(replays);
        let requests = known.iter().filter_map(|(_, it)| it.request.clone());
        let requests = requests.collect();
        self.calls.extend(known);
        Ok(requests)
    }

    /// Returns whether all these requests are changed, so that it is tested whether they were as they were known:
    /// with a request whatever waits of it is written.
    pub fn confirms_all(&self, overlay: &Overlay) -> bool {
        let is_changed = |key| {
            self.entries
                .get(key)
                .is_some_and(TrackedRequest::is_changed)
        };
        overlay.keys().all(is_changed)
    }

    /// Returns the requests that the batch has loaded or written, as they are once it is written.
    pub fn post_state_requests(&self) -> Vec<Snapshot> {
        self.entries
            .values()
            .filter_map(TrackedRequest::post_state)
            .collect()
    }

    /// Returns what the batch leaves once it is written.
    pub fn post_state(&self) -> PostState {
        PostState {
            requests: self.post_state_requests(),
            calls: self.calls.clone(),
            moved: self
                .entries
                .values()
                .flat_map(TrackedRequest::moved_due_entries)
                .collect(),
        }
    }

    /// Returns what differs from what was loaded.
    pub fn changes(self) -> WriteSet {
        WriteSet::of(
            self.entries.values(),
            self.history,
            self.idempotency_keys,
            self.date,
        )
    }
}
