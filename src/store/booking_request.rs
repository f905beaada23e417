//! Operations on requests: those of a patient, changes without a key, reads.

use std::collections::HashMap;

use futures_util::future::join_all;
use sea_orm::ConnectionTrait;

use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::hsa_id::HsaId;
use crate::domain::patient::PersonalId;
use crate::domain::request_key::RequestKey;
use crate::domain::visible::Visible;
use crate::domain::{Change, Refusal};
use crate::store::Store;
use crate::store::commit::read_set::PatientScope;
use crate::store::commit::read_set::ReadSet;
use crate::store::commit::read_set::Resolved;
use crate::store::commit::unit_of_work::UnitOfWork;
use crate::store::error::Error;
use crate::store::idempotency::{IdempotentCall, StoredAnswer};
use crate::store::placement::{Part, Shards, join};
use crate::store::query::{aggregate, patient_request};

/// Result of an update of a patient.
#[derive(Clone, Debug)]
pub struct PatientUpdated {
    /// Requests that were changed, by this call or by the one that it repeats.
    pub changed: Vec<RequestKey>,
    /// True if the call was a replay and changed nothing.
    pub replayed: bool,
}

impl Store {
    /// Changes requests one after the other as `decide` says, which is also given the place in `keys`, without idempotency
    /// keys: for changes that are harmless when they are made twice. Each is done or refused by itself; the same request
    /// may come several times. Those of several shards are changed at once, by an operation for each.
    ///
    /// # Errors
    ///
    /// Errors of the database. Each request's own: refusals of `decide`, [`Refusal::NotFound`], and [`Error::Internal`]
    /// when it cannot be decoded.
    pub async fn update_each(
        &self,
        keys: Vec<RequestKey>,
        decide: impl Fn(usize, &BookingRequest) -> Result<Change, Refusal> + Clone + Send + 'static,
    ) -> Result<Vec<Result<BookingRequest, Error>>, Error> {
        let parts = self.shards().split(keys, |key| &key.care_unit);
        let updates = parts.into_iter().map(|part| {
            let decide = decide.clone();
            async { (part.places.clone(), self.update_part(part, decide).await) }
        });
        let updated = join(join_all(updates).await)?;
        Ok(updated.into_iter().map(Result::flatten).collect())
    }

    /// Changes the requests of one shard by one operation.
    async fn update_part(
        &self,
        Part { places, elements }: Part<RequestKey>,
        decide: impl Fn(usize, &BookingRequest) -> Result<Change, Refusal> + Send + 'static,
    ) -> Result<Vec<Result<BookingRequest, Error>>, Error> {
        let read_set = ReadSet {
            requests: elements.clone(),
            ..ReadSet::default()
        };
        let update = move |work: &mut UnitOfWork, _: &Resolved| {
            let mut update_one = |place: usize, key: &RequestKey| {
                let change = decide(place, work.require(key)?.ok_or(Refusal::NotFound)?)?;
                let record = change.record.clone();
                work.apply(change, None)?;
                Ok(record)
            };
            let keys = places.iter().zip(&elements);
            Ok(keys.map(|(place, key)| update_one(*place, key)).collect())
        };
        self.call_queue()?.submit(read_set, update).await
    }

    /// Changes the requests of a patient that the caller finds, in one care unit or in all, as `decide` says, and
    /// returns the keys of those that were changed. A replay of `call` returns the same keys.
    ///
    /// Changes the others when a request of the patient cannot be decoded, and fails. A repeat of the call goes on where it
    /// stopped, until all are changed.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`], [`Error::Internal`] when a request cannot be decoded, and errors of the database.
    pub async fn update_patient(
        &self,
        call: IdempotentCall,
        care_unit: Option<HsaId>,
        visible: Visible,
        personal_id: PersonalId,
        mut decide: impl FnMut(&BookingRequest) -> Option<Change> + Send + 'static,
    ) -> Result<PatientUpdated, Error> {
        let personal_ids = vec![personal_id];
        let scope = PatientScope {
            personal_ids: personal_ids.clone(),
            care_unit,
            visible: visible.care_units.clone(),
            call: call.clone(),
        };
        let (idempotency_scope, care_units) = (scope.idempotency_scope(), scope.care_units());
        let read_set = ReadSet {
            patient: Some(scope),
            ..ReadSet::default()
        };
        let update = move |work: &mut UnitOfWork, resolved: &Resolved| {
            if let Some(answer) = work.replayed_answer(&idempotency_scope, &call)? {
                let (changed, replayed) = (answer.changed, true);
                return Ok((PatientUpdated { changed, replayed }, true));
            }
            let (mut changed, is_complete) = replayed_requests(work, &call, &resolved.requests)?;
            if is_complete || work.is_replay(&idempotency_scope, &call)? {
                let replayed = true;
                return Ok((PatientUpdated { changed, replayed }, true));
            }
            let is_complete = !skips_undecodable(work, &resolved.requests);
            let before = changed.len();
            // Those that operations before have moved to the number are among them, and those that have left it are not.
            let records = work.of_patient(&personal_ids);
            let records = records.filter(|it| care_units.contains(&it.key.care_unit));
            let records = records.filter(|it| !changed.contains(&it.key));
            let records = records.filter(|it| !leaves_out(&visible, it));
            let changes: Vec<Change> = records.filter_map(&mut decide).collect();
            for change in changes {
                let key = change.record.key.clone();
                let is_first = changed[before..]
                    .iter()
                    .all(|other| other.care_unit != key.care_unit);
                // The caller's own id says that the update is complete.
                let recorded = match is_first && is_complete {
                    true => call.clone(),
                    false => call.on(&key),
                };
                work.apply(change, Some(&recorded))?;
                changed.push(key);
            }
            if is_complete && changed.len() == before {
                work.record_key_without_history(&idempotency_scope, &call, None);
            }
            if is_complete && !changed.is_empty() {
                let duplicates = Vec::new();
                let answer = StoredAnswer {
                    changed: changed.clone(),
                    duplicates,
                };
                work.record_answer(&idempotency_scope, &call, &answer);
            }
            let replayed = false;
            Ok((PatientUpdated { changed, replayed }, is_complete))
        };
        let (updated, is_complete) = self.call_queue()?.submit(read_set, update).await?;
        match is_complete {
            true => Ok(updated),
            false => Err(Error::undecodable()),
        }
    }

    /// Returns a page of the requests that a patient may be shown at `now` and that the caller finds, the newest first:
    /// those after `after`, at most `limit`; none in place of one that cannot be decoded.
    pub async fn patient_requests(
        &self,
        personal_id: &PersonalId,
        visible: &Visible,
        now: Instant,
        after: Option<&RequestKey>,
        limit: u32,
    ) -> Result<Vec<(RequestKey, Option<BookingRequest>)>, Error> {
        let (personal_id, after) = (personal_id.clone(), after.cloned());
        let (visible, shards) = (visible.clone(), self.shards());
        self.read_statement(move |readers| {
            Box::pin(async move {
                let (of, after) = (&personal_id, after.as_ref());
                patient_request::page(readers, &shards, of, &visible, now, after, limit).await
            })
        })
        .await
    }

    /// Returns a request with its notifications.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFound`] when there is none, [`Error::Internal`] when it cannot be decoded.
    pub async fn get(&self, key: &RequestKey) -> Result<BookingRequest, Error> {
        let mut found = self.find(std::slice::from_ref(key)).await?;
        let found = found.remove(key).ok_or(Refusal::NotFound)?;
        found.ok_or_else(Error::undecodable)
    }

    /// Returns the requests with these keys that exist and can be decoded.
    pub async fn get_many(
        &self,
        keys: &[RequestKey],
    ) -> Result<HashMap<RequestKey, BookingRequest>, Error> {
        let found = self.find(keys).await?.into_iter();
        Ok(found.filter_map(|(key, it)| Some((key, it?))).collect())
    }

    /// Reads the requests with these keys by one statement, or one for each shard.
    async fn find(&self, keys: &[RequestKey]) -> Result<ByKey, Error> {
        let (keys, shards) = (keys.to_vec(), self.shards());
        self.read_statement(move |readers| {
            Box::pin(async move { read_by_key(readers, &shards, keys).await })
        })
        .await
    }
}

/// Returns whether a request of a patient is hidden from the caller, and names it in the log then: what the caller has
/// learned must come from one who finds it.
pub fn leaves_out(visible: &Visible, record: &BookingRequest) -> bool {
    let is_hidden = visible.hides(record);
    if is_hidden {
        let RequestKey { care_unit, id } = &record.key;
        tracing::warn!(
            care_unit = care_unit.as_str(), %id,
            "protected identity: a change of a patient left out this request, since the caller has no scope patient.protected"
        );
    }
    is_hidden
}

/// Returns whether some of a patient's requests cannot be decoded, and names them in the log: the others must not wait for
/// them.
pub fn skips_undecodable(work: &UnitOfWork, requests: &[RequestKey]) -> bool {
    let mut skipped = false;
    for key in requests.iter().filter(|key| work.is_undecodable(key)) {
        let RequestKey { care_unit, id } = key;
        tracing::error!(
            care_unit = care_unit.as_str(), %id,
            "request cannot be decoded: update of its patient skipped it"
        );
        skipped = true;
    }
    skipped
}

/// Returns those of the requests on which the call was executed before, and true when nothing of it is left to do.
pub fn replayed_requests(
    work: &UnitOfWork,
    call: &IdempotentCall,
    requests: &[RequestKey],
) -> Result<(Vec<RequestKey>, bool), Error> {
    let mut replayed = Vec::new();
    let mut is_complete = false;
    for request in requests {
        let by_own_id = work.replayed_request_key(&request.care_unit, call)?;
        let derived = work.replayed_request_key(&request.care_unit, &call.on(request))?;
        is_complete |= by_own_id == Some(request);
        if derived.is_some() || by_own_id == Some(request) {
            replayed.push(request.clone());
        }
    }
    Ok((replayed, is_complete))
}

/// Requests by their keys; none in place of one that cannot be decoded.
pub type ByKey = HashMap<RequestKey, Option<BookingRequest>>;

/// Returns the requests with these keys that exist.
pub async fn read_by_key(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    mut keys: Vec<RequestKey>,
) -> Result<ByKey, Error> {
    keys.sort();
    keys.dedup();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let read = aggregate::load(connection, shards, &keys)
        .await?
        .into_iter();
    let keyed = |found: aggregate::FoundRequest<()>| (found.key, found.record.map(|it| it.request));
    Ok(read.map(keyed).collect())
}
