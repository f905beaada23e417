//! What was there before: calls that were carried out, and open requests that are duplicates. Asked for
//! in one statement, which every batch of calls waits for.

use sea_orm::{ConnectionTrait, QueryResult};
use uuid::Uuid;

use crate::domain::booking_request::form::DuplicateKey;
use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;
use crate::store::bulk::rows::{Column, Kind, Rows, query_both};
use crate::store::entity::booking_request::duplicate_digest;
use crate::store::entity::idempotency_key;
use crate::store::error::Error;
use crate::store::idempotency::Call;
use crate::store::idempotency::IdempotencyKey;
use crate::store::idempotency::IdempotencyRecord;
use crate::store::idempotency::idempotency_key;

/// What was found.
#[derive(Default)]
pub struct LookupResult {
    /// Open requests, each with the duplicate key that it has.
    pub duplicates: Vec<(DuplicateKey, RequestKey)>,
    /// Calls that were carried out.
    pub replays: Vec<(IdempotencyKey, IdempotencyRecord)>,
}

const KEYS: &[Column] = &[
    ("place", Kind::Integer),
    ("care_unit", Kind::Text),
    ("personal_id", Kind::Text),
    ("digest", Kind::Bytes),
];
const CALLS: &[Column] = &[
    ("place", Kind::Integer),
    ("care_unit", Kind::Text),
    ("actor", Kind::Text),
    ("request_id", Kind::Uuid),
];

/// Returns which open requests have one of these duplicate keys, and which of these calls, each in its care
/// unit, were carried out before.
///
/// From one state of the database: when another writer has meanwhile carried out the same call,
/// whoever sees the request that it made sees the call too, and answers instead of refusing.
///
/// The care unit is compared in such a way that no index on it helps: while the table is empty, one of
/// those would look as good as that on patients, and the plan would be kept.
pub async fn look_up(
    connection: &impl ConnectionTrait,
    keys: &[DuplicateKey],
    calls: &[(HsaId, Call)],
) -> Result<LookupResult, Error> {
    let among = |table: &str| {
        format!(
            "SELECT c.place AS place, t.booking_request AS request, t.content_hash AS hash, \
             TRUE AS is_call FROM c CROSS JOIN {table} AS t WHERE t.care_unit = c.care_unit \
             AND t.actor = c.actor AND t.request_id = c.request_id"
        )
    };
    let (history, quiet) = (among("history"), among(idempotency_key::TABLE.name));
    let sql = |keys: &str, calls: &str| {
        format!(
            "WITH k AS {keys}, c AS {calls} \
             SELECT k.place AS place, r.id AS request, k.digest AS hash, FALSE AS is_call \
             FROM k CROSS JOIN booking_request AS r WHERE r.personal_id = k.personal_id \
             AND r.care_unit || '' = k.care_unit AND r.duplicate_digest = k.digest \
             UNION ALL {history} UNION ALL {quiet}"
        )
    };
    let mut looked = LookupResult::default();
    for row in query_both(connection, key_set(keys), call_set(calls), sql).await? {
        let place: i64 = row.try_get("", "place")?;
        let place = usize::try_from(place).map_err(Error::internal)?;
        match row.try_get("", "is_call")? {
            true => looked.replays.push(repeat(&row, place, calls)?),
            false => looked.duplicates.push(duplicates(&row, place, keys)?),
        }
    }
    Ok(looked)
}

fn key_set(keys: &[DuplicateKey]) -> Rows {
    let mut set = Rows::new(KEYS.to_vec());
    for (place, key) in (0_i64..).zip(keys) {
        set.push([
            place.into(),
            key.care_unit.as_str().into(),
            key.parts[1].clone().into(),
            duplicate_digest(key).into(),
        ]);
    }
    set
}

fn call_set(calls: &[(HsaId, Call)]) -> Rows {
    let mut set = Rows::new(CALLS.to_vec());
    for (place, (care_unit, call)) in (0_i64..).zip(calls) {
        set.push([
            place.into(),
            care_unit.as_str().into(),
            call.caller.clone().into(),
            call.id.into(),
        ]);
    }
    set
}

fn duplicates(
    row: &QueryResult,
    place: usize,
    keys: &[DuplicateKey],
) -> Result<(DuplicateKey, RequestKey), Error> {
    let key = keys.get(place).ok_or_else(outside)?;
    let other = RequestKey {
        care_unit: key.care_unit.clone(),
        id: row.try_get("", "request")?,
    };
    Ok((key.clone(), other))
}

fn repeat(
    row: &QueryResult,
    place: usize,
    calls: &[(HsaId, Call)],
) -> Result<(IdempotencyKey, IdempotencyRecord), Error> {
    let (care_unit, call) = calls.get(place).ok_or_else(outside)?;
    let id: Option<Uuid> = row.try_get("", "request")?;
    let idempotency_record = IdempotencyRecord {
        hash: row.try_get("", "hash")?,
        request: id.map(|id| RequestKey {
            care_unit: care_unit.clone(),
            id,
        }),
    };
    Ok((idempotency_key(care_unit, call), idempotency_record))
}

fn outside() -> Error {
    Error::internal("a place outside the set")
}
