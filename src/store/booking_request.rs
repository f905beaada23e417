//! Operations on requests: stored, changed, read.

use std::collections::HashMap;

use sea_orm::ConnectionTrait;
use sha2::{Digest, Sha256};

use super::batch::Records;
use super::error::Error;
use super::row::record;
use super::unit::{Found, Needs, PatientScope};
use super::{Call, Store};
use crate::domain::booking_request::{BookingRequest, DuplicateKey, Form, RequestKey};
use crate::domain::hsa_id::HsaId;
use crate::domain::patient::PersonalId;
use crate::domain::{Change, Refusal};

impl Store {
    /// Stores the request that `decide` creates under `key`. A repeat of `call` answers with the
    /// request as it stands.
    ///
    /// # Errors
    ///
    /// What `decide` refuses, [`Refusal::Duplicate`], [`Error::RequestIdReused`], and what befalls
    /// the database.
    pub async fn insert(
        &self,
        call: Call,
        key: RequestKey,
        form: &Form,
        mut decide: impl FnMut() -> Result<Change, Refusal> + Send + 'static,
    ) -> Result<BookingRequest, Error> {
        let needs = Needs {
            call: Some((key.care_unit.clone(), call.clone())),
            creates: Some(DuplicateKey::of(&key.care_unit, form)),
            ..Needs::default()
        };
        let insert = move |records: &mut Records, _: &Found| {
            if let Some(record) = records.repeat_of(&key.care_unit, &call)? {
                return Ok(record.clone());
            }
            let change = decide()?;
            let record = change.record.clone();
            records.apply(change, Some(&call))?;
            Ok(record)
        };
        self.writer()?.submit(needs, insert).await
    }

    /// Changes a request as `decide` says, which also says what it means that there is none. A repeat of `call` answers with the request as it
    /// stands.
    ///
    /// # Errors
    ///
    /// As [`Store::insert`].
    pub async fn update(
        &self,
        call: Call,
        key: RequestKey,
        mut decide: impl FnMut(Option<&BookingRequest>) -> Result<Change, Refusal> + Send + 'static,
    ) -> Result<BookingRequest, Error> {
        let needs = Needs {
            call: Some((key.care_unit.clone(), call.clone())),
            requests: vec![key.clone()],
            ..Needs::default()
        };
        let update = move |records: &mut Records, _: &Found| {
            if let Some(record) = records.repeat_of(&key.care_unit, &call)? {
                return Ok(record.clone());
            }
            let change = decide(records.require(&key)?)?;
            let record = change.record.clone();
            records.apply(change, Some(&call))?;
            Ok(record)
        };
        self.writer()?.submit(needs, update).await
    }

    /// Changes a request as `decide` says, where a repeat is harmless by itself.
    ///
    /// # Errors
    ///
    /// What `decide` refuses, [`Refusal::NotFound`], and what befalls the database.
    pub async fn report(
        &self,
        key: RequestKey,
        mut decide: impl FnMut(&BookingRequest) -> Result<Change, Refusal> + Send + 'static,
    ) -> Result<BookingRequest, Error> {
        let needs = Needs {
            requests: vec![key.clone()],
            ..Needs::default()
        };
        let report = move |records: &mut Records, _: &Found| {
            let change = decide(records.require(&key)?.ok_or(Refusal::NotFound)?)?;
            let record = change.record.clone();
            records.apply(change, None)?;
            Ok(record)
        };
        self.writer()?.submit(needs, report).await
    }

    /// Changes the requests of a patient, in one care unit or in all, as `decide` says, and names
    /// those that were changed. A repeat of `call` names them again.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`] and what befalls the database.
    pub async fn update_patient(
        &self,
        call: Call,
        care_unit: Option<HsaId>,
        personal_id: PersonalId,
        mut decide: impl FnMut(&BookingRequest) -> Option<Change> + Send + 'static,
    ) -> Result<Vec<RequestKey>, Error> {
        let scope = PatientScope {
            personal_id,
            care_unit,
            call: call.clone(),
        };
        let named = scope.named();
        let needs = Needs {
            patient: Some(scope),
            ..Needs::default()
        };
        let update = move |records: &mut Records, found: &Found| {
            let done = carried_out(records, &call, &found.requests)?;
            if !done.is_empty() || records.is_repeat(&named, &call)? {
                return Ok(done);
            }
            let mut changed: Vec<RequestKey> = Vec::new();
            for key in &found.requests {
                if records.is_undecodable(key) {
                    // The rest of what is known of the patient must not wait for this one.
                    let RequestKey { care_unit, id } = key;
                    tracing::error!(
                        care_unit = care_unit.as_str(), %id,
                        "request cannot be decoded: update of its patient passed over it"
                    );
                }
                let Some(change) = records.get(key).and_then(&mut decide) else {
                    continue;
                };
                let first = changed.iter().all(|other| other.care_unit != key.care_unit);
                let carried = if first { call.clone() } else { call.on(key) };
                records.apply(change, Some(&carried))?;
                changed.push(key.clone());
            }
            if changed.is_empty() {
                records.remember(&named, &call, None);
            }
            Ok(changed)
        };
        self.writer()?.submit(needs, update).await
    }

    /// A request with its messages.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFound`] when there is none, [`Error::Broken`] when it cannot be decoded.
    pub async fn get(&self, key: &RequestKey) -> Result<BookingRequest, Error> {
        let mut found = self.find(std::slice::from_ref(key)).await?;
        let found = found.remove(key).ok_or(Refusal::NotFound)?;
        found.ok_or_else(Error::undecodable)
    }

    /// The requests with these keys that exist and can be decoded.
    pub async fn get_many(
        &self,
        keys: &[RequestKey],
    ) -> Result<HashMap<RequestKey, BookingRequest>, Error> {
        let found = self.find(keys).await?.into_iter();
        Ok(found.filter_map(|(key, it)| Some((key, it?))).collect())
    }

    async fn find(&self, keys: &[RequestKey]) -> Result<ByKey, Error> {
        let keys = keys.to_vec();
        self.read_at_once(move |readers| Box::pin(async move { read_by_key(readers, keys).await }))
            .await
    }
}

impl Call {
    /// The same call on one of several requests. The first that it changes in a care unit carries
    /// the caller's own id, the others one that follows from it, so that ids stay unique there.
    pub(super) fn on(&self, request: &RequestKey) -> Self {
        let mut digest = Sha256::new();
        digest.update(self.id.as_bytes());
        digest.update(request.id.as_bytes());
        let digest = digest.finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self {
            id: uuid::Builder::from_custom_bytes(id).into_uuid(),
            ..self.clone()
        }
    }
}

/// The requests on which a call was carried out before.
fn carried_out(
    records: &Records,
    call: &Call,
    requests: &[RequestKey],
) -> Result<Vec<RequestKey>, Error> {
    let mut done = Vec::new();
    for request in requests {
        let by_own_id = records.repeated_on(&request.care_unit, call)?;
        let derived = records.repeated_on(&request.care_unit, &call.on(request))?;
        if derived.is_some() || by_own_id == Some(request) {
            done.push(request.clone());
        }
    }
    Ok(done)
}

/// Requests by their keys; none in place of one that cannot be decoded.
pub type ByKey = HashMap<RequestKey, Option<BookingRequest>>;

/// The requests with these keys that exist.
pub async fn read_by_key(
    connection: &impl ConnectionTrait,
    mut keys: Vec<RequestKey>,
) -> Result<ByKey, Error> {
    keys.sort();
    keys.dedup();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let read = record::load(connection, &keys).await?.into_iter();
    let keyed = |found: record::Found<()>| (found.key, found.record.map(|it| it.request));
    Ok(read.map(keyed).collect())
}
