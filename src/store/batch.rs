//! The records that a batch of units touches: loaded once, decided upon in memory, saved as sets.
//!
//! Every unit sees what the units before it in the batch have decided. What is saved is the
//! difference between what was loaded and what was decided, each row under the test that it is
//! still as it was loaded; a row that is not means that the whole batch is taken back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::connection::Lock;
use super::error::Error;
use super::recent::{CallKey, Known, Left, Recent, Remembered, call_key};
use super::row::booking_request as request;
use super::row::call::{self, Repeat};
use super::row::set::{Column, Set, Table};
use super::row::{history, notification};
use super::{Call, Committed, LeaseFate};
use crate::domain::booking_request::{BookingRequest, DuplicateKey, RequestKey};
use crate::domain::calendar::Instant;
use crate::domain::history::HistoryEntry;
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::{LeaseRef, Notification};
use crate::domain::{Change, Refusal};

/// What a batch has loaded and decided so far.
pub struct Records {
    entries: BTreeMap<RequestKey, Entry>,
    open: HashMap<DuplicateKey, Vec<RequestKey>>,
    calls: HashMap<CallKey, Remembered>,
    history: Set,
    quiet_calls: Set,
}

/// A request as it was loaded and as it stands now.
#[derive(Default)]
struct Entry {
    loaded: Option<Arc<BookingRequest>>,
    versions: Vec<i32>,
    present: Option<Arc<BookingRequest>>,
}

impl Records {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            open: HashMap::new(),
            calls: HashMap::new(),
            history: history::TABLE.new_rows(),
            quiet_calls: call::TABLE.new_rows(),
        }
    }

    /// The request as the units before have left it.
    pub fn get(&self, key: &RequestKey) -> Option<&BookingRequest> {
        self.entries.get(key)?.present.as_deref()
    }

    /// The request on which the call was carried out before, if it was.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`] when it was with other content, [`Refusal::NotFound`] when the
    /// request is not there any more.
    pub fn repeat_of(&self, scope: &HsaId, call: &Call) -> Result<Option<&BookingRequest>, Error> {
        let remembered = self.remembered(scope, call)?;
        let request = remembered.and_then(|remembered| remembered.request.as_ref());
        match request {
            None => Ok(None),
            Some(request) => self
                .get(request)
                .map(Some)
                // It has been purged, and the call not forgotten yet.
                .ok_or(Error::Refused(Refusal::NotFound)),
        }
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

    /// Loads what was done before under the calls' ids.
    pub async fn load_calls(
        &mut self,
        connection: &impl ConnectionTrait,
        mut calls: Vec<(HsaId, Call)>,
        recent: &Recent,
    ) -> Result<Vec<RequestKey>, Error> {
        let mut found = Vec::new();
        calls.retain(|(care_unit, call)| {
            let key = call_key(care_unit, call);
            let known = recent.call(&key).cloned();
            let is_known = known.is_some();
            found.extend(known.map(|known| (key, known)));
            !is_known
        });
        if !calls.is_empty() {
            for repeat in call::repeats(connection, &calls).await? {
                let Repeat {
                    place,
                    hash,
                    request,
                } = repeat;
                if let Some((care_unit, call)) = calls.get(place) {
                    found.push((call_key(care_unit, call), Remembered { hash, request }));
                }
            }
        }
        let requests = found.iter().filter_map(|(_, it)| it.request.clone());
        let requests = requests.collect();
        self.calls.extend(found);
        Ok(requests)
    }

    /// Loads requests with their messages, in the order of their keys. Gives those that another
    /// writer has locked and that were therefore passed over.
    pub async fn load(
        &mut self,
        connection: &impl ConnectionTrait,
        mut keys: Vec<RequestKey>,
        lock: Lock,
        recent: &Recent,
    ) -> Result<HashSet<RequestKey>, Error> {
        keys.retain(|key| !self.entries.contains_key(key));
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
        for (record, versions) in read(connection, &keys, lock).await? {
            let record = Arc::new(record);
            self.enter(Known { record, versions });
        }
        keys.retain(|key| !self.entries.contains_key(key));
        if lock != Lock::PassOver || keys.is_empty() {
            return Ok(HashSet::new());
        }
        // What is there all the same is locked.
        let passed_over = read(connection, &keys, Lock::None).await?;
        Ok(passed_over
            .into_iter()
            .map(|(record, _)| record.key)
            .collect())
    }

    fn enter(&mut self, Known { record, versions }: Known) {
        let entry = Entry {
            loaded: Some(Arc::clone(&record)),
            versions,
            present: Some(record),
        };
        self.entries.insert(entry.key(), entry);
    }

    /// Loads which open requests are like those that the units may open: the new ones, and those
    /// that calls have `named`. One that is open now may be closed and opened in the same batch.
    pub async fn load_duplicates(
        &mut self,
        connection: &impl ConnectionTrait,
        new: Vec<DuplicateKey>,
        named: &[RequestKey],
    ) -> Result<(), Error> {
        let named = named
            .iter()
            .filter_map(|key| Some(self.get(key)?.duplicate_key()));
        let mut keys: Vec<DuplicateKey> = new.into_iter().chain(named).collect();
        keys.sort();
        keys.dedup();
        if keys.is_empty() {
            return Ok(());
        }
        for (key, other) in request::open_like(connection, &keys).await? {
            self.open.entry(key).or_default().push(other);
        }
        Ok(())
    }

    /// What the batch leaves once it is written.
    pub fn left(&self) -> Left {
        let entries = self.entries.values();
        Left {
            requests: entries.clone().filter_map(Entry::left).collect(),
            calls: self.calls.clone(),
            moved: entries.flat_map(Entry::moved).collect(),
        }
    }

    /// What differs from what was loaded.
    pub fn changes(self) -> Changes {
        let mut sets = Sets::new();
        for entry in self.entries.values() {
            sets.add(entry);
        }
        Changes {
            committed: self.committed(),
            sets,
            history: self.history,
            quiet_calls: self.quiet_calls,
        }
    }

    fn committed(&self) -> Committed {
        let mut committed = Committed::default();
        for entry in self.entries.values() {
            if let Some(present) = &entry.present
                && entry.loaded.as_ref() != Some(present)
            {
                entry.describe(present, &mut committed);
            }
        }
        committed
    }
}

/// What a batch has decided, as it is to be written.
pub struct Changes {
    committed: Committed,
    sets: Sets,
    history: Set,
    quiet_calls: Set,
}

impl Changes {
    /// Whether there is nothing to be written.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.history.is_empty() && self.quiet_calls.is_empty()
    }

    /// Writes them. Says what others want to know once they are committed; `None` when a row was
    /// not as it had been loaded.
    pub async fn save(self, connection: &impl ConnectionTrait) -> Result<Option<Committed>, Error> {
        let fits = self.sets.write(connection).await?
            && insert(connection, &history::TABLE, self.history).await?
            && insert(connection, &call::TABLE, self.quiet_calls).await?;
        Ok(fits.then_some(self.committed))
    }
}

impl Entry {
    fn key(&self) -> RequestKey {
        self.present
            .as_ref()
            .map(|record| record.key.clone())
            .expect("a loaded entry has its record")
    }

    /// Pairs each message with what it was when it was loaded.
    fn messages<'a>(
        &'a self,
        present: &'a BookingRequest,
    ) -> impl Iterator<Item = (Option<&'a Notification>, &'a Notification)> {
        let before = self.loaded.as_deref().map_or(&[][..], messages);
        messages(present)
            .iter()
            .enumerate()
            .map(|(ordinal, message)| (before.get(ordinal), message))
    }

    fn describe(&self, present: &BookingRequest, committed: &mut Committed) {
        for (before, after) in self.messages(present) {
            if before == Some(after) {
                continue;
            }
            committed.claimable_at = [committed.claimable_at, after.claimable_at]
                .into_iter()
                .flatten()
                .min();
            if let Some((lease, fate)) = before.and_then(|before| lease_fate(before, after)) {
                let lease = LeaseRef {
                    request: present.key.clone(),
                    notification: after.id,
                    token: lease,
                };
                committed.leases.push((lease, fate));
            }
        }
        if self.is_changed(present) {
            committed
                .requests
                .push((present.key.clone(), present.revision));
        }
    }

    /// Whether the request itself is changed.
    fn is_changed(&self, present: &BookingRequest) -> bool {
        let revision = self.loaded.as_ref().map(|loaded| loaded.revision);
        revision != Some(present.revision)
    }

    /// The messages that are to be written, each with its place and the version that it is expected
    /// to have, if it is stored.
    ///
    /// Whatever waits of a changed request is written too: a claim that has read the request as it
    /// was then finds its message changed.
    fn written<'a>(
        &'a self,
        present: &'a BookingRequest,
    ) -> impl Iterator<Item = (usize, Option<i32>, &'a Notification)> {
        let is_changed = self.is_changed(present);
        self.messages(present)
            .enumerate()
            .filter(move |(_, (before, after))| {
                *before != Some(*after) || (is_changed && after.is_pending())
            })
            .map(|(ordinal, (before, after))| {
                let version = before.and_then(|_| self.versions.get(ordinal).copied());
                (ordinal, version, after)
            })
    }

    /// The request as it is once it is written.
    fn left(&self) -> Option<Known> {
        let present = self.present.as_ref()?;
        let mut versions = self.versions.clone();
        for (ordinal, version, _) in self.written(present) {
            let next = version.map_or(1, |version| version + 1);
            match versions.get_mut(ordinal) {
                Some(version) => *version = next,
                None => versions.push(next),
            }
        }
        Some(Known {
            record: Arc::clone(present),
            versions,
        })
    }

    /// Where the messages that are changed stood in the due index.
    fn moved(&self) -> Vec<Instant> {
        let Some(present) = &self.present else {
            return Vec::new();
        };
        let changed = self
            .messages(present)
            .filter(|(before, after)| *before != Some(*after));
        changed
            .filter_map(|(before, _)| before?.claimable_at)
            .collect()
    }
}

fn messages(record: &BookingRequest) -> &[Notification] {
    match &record.care_invitation {
        Some(invitation) => &invitation.notifications,
        None => &[],
    }
}

/// The token of the lease that `before` shows, and what has become of it in `after`.
fn lease_fate(before: &Notification, after: &Notification) -> Option<(Uuid, LeaseFate)> {
    let lease = before.lease.as_ref().filter(|_| before.is_out())?;
    Some((lease.token, fate(after, lease.token, lease.expires_at)?))
}

/// What has become of a lease that was to run until `expires_at`; `None` when it stands.
pub fn fate(message: &Notification, token: Uuid, expires_at: Instant) -> Option<LeaseFate> {
    match message.lease.as_ref().filter(|lease| lease.token == token) {
        None => Some(LeaseFate::Ended),
        Some(lease) if lease.answer.is_some() => Some(LeaseFate::Ended),
        Some(_) if !message.is_out() => Some(LeaseFate::Revoked),
        Some(lease) => {
            (lease.expires_at != expires_at).then_some(LeaseFate::Renewed(lease.expires_at))
        }
    }
}

/// The rows that differ, by what is to be done with them.
struct Sets {
    new_requests: Set,
    changed_requests: Set,
    /// Changed in [`request::PLAIN`] alone.
    plainly_changed_requests: Set,
    new_messages: Set,
    changed_messages: Set,
}

impl Sets {
    fn new() -> Self {
        Self {
            new_requests: request::TABLE.new_rows(),
            changed_requests: request::TABLE.changed_rows(request::TABLE.mutable),
            plainly_changed_requests: request::TABLE.changed_rows(request::PLAIN),
            new_messages: notification::TABLE.new_rows(),
            changed_messages: notification::TABLE.changed_rows(notification::TABLE.mutable),
        }
    }

    fn add(&mut self, entry: &Entry) {
        let Some(present) = &entry.present else {
            return;
        };
        match &entry.loaded {
            None => {
                let values = [
                    request::key_values(&present.key),
                    request::mutable_values(present),
                    request::fixed_values(present),
                ];
                self.new_requests.push(values.concat());
            }
            Some(loaded) if loaded.revision != present.revision => {
                let mut values = request::key_values(&present.key);
                let indexed = request::indexed_values(present);
                let plainly = indexed == request::indexed_values(loaded);
                let set = match plainly {
                    true => &mut self.plainly_changed_requests,
                    false => {
                        values.extend(indexed);
                        &mut self.changed_requests
                    }
                };
                values.extend(request::plain_values(present));
                values.push(loaded.revision.into());
                set.push(values);
            }
            Some(_) => {}
        }
        for (ordinal, version, message) in entry.written(present) {
            let mut values = notification::key_values(&present.key, ordinal);
            match version {
                Some(version) => {
                    values.extend(notification::mutable_values(message, version + 1));
                    values.push(version.into());
                    self.changed_messages.push(values);
                }
                None => {
                    values.extend(notification::mutable_values(message, 1));
                    values.extend(notification::fixed_values(message));
                    self.new_messages.push(values);
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        let sets = [
            &self.new_requests,
            &self.changed_requests,
            &self.plainly_changed_requests,
            &self.new_messages,
            &self.changed_messages,
        ];
        sets.into_iter().all(Set::is_empty)
    }

    /// Requests first, so that whoever writes messages has the request's row.
    async fn write(self, connection: &impl ConnectionTrait) -> Result<bool, Error> {
        let (requests, messages) = (&request::TABLE, &notification::TABLE);
        let by_revision = |columns| (requests, columns, "revision");
        let changed = update(
            connection,
            by_revision(requests.mutable),
            self.changed_requests,
        );
        let plainly = update(
            connection,
            by_revision(request::PLAIN),
            self.plainly_changed_requests,
        );
        let by_version = (messages, messages.mutable, "version");
        Ok(insert(connection, requests, self.new_requests).await?
            && changed.await?
            && plainly.await?
            && insert(connection, messages, self.new_messages).await?
            && update(connection, by_version, self.changed_messages).await?)
    }
}

/// Says whether every row was new.
async fn insert(
    connection: &impl ConnectionTrait,
    table: &Table,
    rows: Set,
) -> Result<bool, Error> {
    let expected = rows.len() as u64;
    let written = rows.execute(connection, |rows| table.insert_sql(rows));
    Ok(written.await? == expected)
}

/// Says whether every row was as it had been loaded.
async fn update(
    connection: &impl ConnectionTrait,
    (table, columns, version): (&Table, &[Column], &str),
    rows: Set,
) -> Result<bool, Error> {
    let expected = rows.len() as u64;
    let written = rows.execute(connection, |rows| table.update_sql(columns, version, rows));
    Ok(written.await? == expected)
}

/// Reads requests with their messages and the messages' versions.
pub async fn read(
    connection: &impl ConnectionTrait,
    keys: &[RequestKey],
    lock: Lock,
) -> Result<Vec<(BookingRequest, Vec<i32>)>, Error> {
    let requests = request::load(connection, keys, lock).await?;
    let mut messages: HashMap<RequestKey, Vec<notification::Model>> = HashMap::new();
    for message in notification::load(connection, keys).await? {
        messages.entry(message.request()).or_default().push(message);
    }
    requests
        .into_iter()
        .map(|row| {
            let own = messages.remove(&row.key()).unwrap_or_default();
            let versions = own.iter().map(|message| message.version).collect();
            Ok((row.into_domain(own)?, versions))
        })
        .collect()
}
