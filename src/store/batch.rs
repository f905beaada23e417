//! The records that a batch of units touches: loaded once, decided upon in memory, saved as sets.
//!
//! Every unit sees what the units before it in the batch have decided. What is saved is the
//! difference between what was loaded and what was decided, each row under the test that it is
//! still as it was loaded; a row that is not means that the whole batch is taken back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use sea_orm::ConnectionTrait;

use super::Call;
use super::changes::Changes;
use super::connection::Lock;
use super::entry::Entry;
use super::error::Error;
use super::recent::{CallKey, Known, Left, Recent, Remembered, call_key};
use super::row::booking_request as request;
use super::row::call;
use super::row::history;
use super::row::lookup::{Looked, look_up};
use super::row::record;
use super::row::set::Set;
use super::skew::Date;
use crate::domain::booking_request::{BookingRequest, DuplicateKey, RequestKey};
use crate::domain::history::HistoryEntry;
use crate::domain::hsa_id::HsaId;
use crate::domain::{Change, Refusal};

/// What a batch has loaded and decided so far.
pub struct Records {
    entries: BTreeMap<RequestKey, Entry>,
    /// The requests that are there and cannot be decoded.
    undecodable: HashSet<RequestKey>,
    open: HashMap<DuplicateKey, Vec<RequestKey>>,
    calls: HashMap<CallKey, Remembered>,
    history: Set,
    quiet_calls: Set,
    date: Date,
}

impl Records {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            undecodable: HashSet::new(),
            open: HashMap::new(),
            calls: HashMap::new(),
            history: history::TABLE.new_rows(),
            quiet_calls: call::TABLE.new_rows(),
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

    /// The request as the units before have left it. One that cannot be decoded is passed over.
    pub fn get(&self, key: &RequestKey) -> Option<&BookingRequest> {
        self.entries.get(key)?.present.as_deref()
    }

    /// As [`Records::get`], for a unit that is about this request.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] when it cannot be decoded: it is there, and must not be taken for missing.
    pub fn require(&self, key: &RequestKey) -> Result<Option<&BookingRequest>, Error> {
        match self.undecodable.contains(key) {
            true => Err(Error::undecodable()),
            false => Ok(self.get(key)),
        }
    }

    /// Whether a request is there and cannot be decoded.
    pub fn is_undecodable(&self, key: &RequestKey) -> bool {
        self.undecodable.contains(key)
    }

    /// The request on which the call was carried out before, if it was.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`] when it was with other content, [`Refusal::NotFound`] when the
    /// request is not there any more, [`Error::Broken`] when it cannot be decoded.
    pub fn repeat_of(&self, scope: &HsaId, call: &Call) -> Result<Option<&BookingRequest>, Error> {
        match self.repeated_on(scope, call)? {
            None => Ok(None),
            Some(request) => self
                .require(request)?
                .map(Some)
                // It has been purged, and the call not forgotten yet.
                .ok_or(Error::Refused(Refusal::NotFound)),
        }
    }

    /// The key of the request on which the call was carried out before, if it was.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`] when it was with other content.
    pub fn repeated_on(&self, scope: &HsaId, call: &Call) -> Result<Option<&RequestKey>, Error> {
        let remembered = self.remembered(scope, call)?;
        Ok(remembered.and_then(|remembered| remembered.request.as_ref()))
    }

    /// Whether the call was carried out before.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`] when it was with other content.
    pub fn is_repeat(&self, scope: &HsaId, call: &Call) -> Result<bool, Error> {
        Ok(self.remembered(scope, call)?.is_some())
    }

    fn remembered(&self, scope: &HsaId, call: &Call) -> Result<Option<&Remembered>, Error> {
        match self.calls.get(&call_key(scope, call)) {
            Some(remembered) if remembered.hash != call.hash => Err(Error::RequestIdReused),
            remembered => Ok(remembered),
        }
    }

    /// Remembers a call that changed nothing.
    pub fn remember(&mut self, scope: &HsaId, call: &Call, request: Option<&RequestKey>) {
        self.quiet_calls.push(call::values(scope, call, request));
        self.note(scope, call, request);
    }

    fn note(&mut self, scope: &HsaId, call: &Call, request: Option<&RequestKey>) {
        let remembered = Remembered {
            hash: call.hash.to_vec(),
            request: request.cloned(),
        };
        self.calls.insert(call_key(scope, call), remembered);
    }

    /// Takes a decision over, with the call that it carries out, if one is to be remembered.
    ///
    /// # Errors
    ///
    /// [`Refusal::Duplicate`] when the request has been opened and another is like it.
    pub fn apply(&mut self, change: Change, call: Option<&Call>) -> Result<(), Error> {
        let key = change.record.key.clone();
        let was_open = self.get(&key).is_some_and(BookingRequest::is_open);
        let duplicate_key = change.record.duplicate_key();
        match (was_open, change.record.is_open()) {
            (false, true) => self.open(&change.record, duplicate_key)?,
            (true, false) => {
                if let Some(others) = self.open.get_mut(&duplicate_key) {
                    others.retain(|other| *other != key);
                }
            }
            (false, false) | (true, true) => {}
        }
        self.record_history(&change.record, &change.history, call);
        self.entries.entry(key).or_default().present = Some(Arc::new(change.record));
        Ok(())
    }

    fn open(&mut self, record: &BookingRequest, key: DuplicateKey) -> Result<(), Error> {
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
                self.remember(&record.key.care_unit, call, Some(&record.key));
            }
            Some(call) => self.note(&record.key.care_unit, call, Some(&record.key)),
            None => {}
        }
    }

    /// Locks requests in the order of their keys, where the database locks rows, and loads them with
    /// their messages. Gives those that another writer has locked and that were therefore passed over.
    pub async fn load(
        &mut self,
        connection: &impl ConnectionTrait,
        mut keys: Vec<RequestKey>,
        lock: Lock,
        recent: &Recent,
    ) -> Result<HashSet<RequestKey>, Error> {
        keys.retain(|key| !self.is_loaded(key));
        keys.sort();
        keys.dedup();
        keys.retain(|key| match recent.request(key) {
            Some(known) => {
                self.enter(known.clone());
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
                locked = request::existing(connection, &keys, lock).await?;
                &locked
            }
            false => &keys,
        };
        for found in record::load(connection, free).await? {
            let Some(read) = found.record else {
                self.undecodable.insert(found.key);
                continue;
            };
            self.enter(Known {
                record: Arc::new(read.request),
                versions: read.versions,
            });
        }
        keys.retain(|key| !self.is_loaded(key));
        if !locks || keys.is_empty() {
            return Ok(HashSet::new());
        }
        // What is there all the same is locked.
        let passed_over = request::existing(connection, &keys, Lock::None).await?;
        Ok(passed_over.into_iter().collect())
    }

    fn is_loaded(&self, key: &RequestKey) -> bool {
        self.entries.contains_key(key) || self.undecodable.contains(key)
    }

    fn enter(&mut self, Known { record, versions }: Known) {
        let key = record.key.clone();
        let entry = Entry {
            loaded: Some(Arc::clone(&record)),
            versions,
            present: Some(record),
        };
        self.entries.insert(key, entry);
    }

    /// Looks up which of the calls were carried out before, and which open requests are like those
    /// that the units may open: the `new` ones, and those that calls have `named`, since one that is
    /// open now may be closed and opened in the same batch. Gives the requests on which calls were.
    pub async fn look_up(
        &mut self,
        connection: &impl ConnectionTrait,
        new: Vec<DuplicateKey>,
        named: &[RequestKey],
        mut calls: Vec<(HsaId, Call)>,
        recent: &Recent,
    ) -> Result<Vec<RequestKey>, Error> {
        let named = named
            .iter()
            .filter_map(|key| Some(self.get(key)?.duplicate_key()));
        let mut keys: Vec<DuplicateKey> = new.into_iter().chain(named).collect();
        keys.sort();
        keys.dedup();
        let mut known = Vec::new();
        calls.retain(|(care_unit, call)| {
            let key = call_key(care_unit, call);
            let remembered = recent.call(&key).cloned();
            let is_known = remembered.is_some();
            known.extend(remembered.map(|remembered| (key, remembered)));
            !is_known
        });
        let Looked { alike, repeats } = look_up(connection, &keys, &calls).await?;
        for (key, other) in alike {
            if !recent.is_closed(&other) {
                self.open.entry(key).or_default().push(other);
            }
        }
        known.extend(repeats);
        let requests = known.iter().filter_map(|(_, it)| it.request.clone());
        let requests = requests.collect();
        self.calls.extend(known);
        Ok(requests)
    }

    /// Whether all these requests are changed, so that it is tested whether they were as they were known:
    /// with a request whatever waits of it is written.
    pub fn tests(&self, recent: &Recent) -> bool {
        let is_changed = |key| self.entries.get(key).is_some_and(Entry::is_changed);
        recent.keys().all(is_changed)
    }

    /// The requests that the batch has loaded or written, as they are once it is written.
    pub fn left_requests(&self) -> Vec<Known> {
        self.entries.values().filter_map(Entry::left).collect()
    }

    /// What the batch leaves once it is written.
    pub fn left(&self) -> Left {
        Left {
            requests: self.left_requests(),
            calls: self.calls.clone(),
            moved: self.entries.values().flat_map(Entry::moved).collect(),
        }
    }

    /// What differs from what was loaded.
    pub fn changes(self) -> Changes {
        Changes::of(
            self.entries.values(),
            self.history,
            self.quiet_calls,
            self.date,
        )
    }
}
