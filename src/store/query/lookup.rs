//! Lookup of replays and duplicates: calls that were executed before, and open requests with the same duplicate key. One
//! statement for both, because every batch of calls waits for it.

use sea_orm::{ConnectionTrait, QueryResult};
use uuid::Uuid;

use crate::domain::booking_request::form::DuplicateKey;
use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;
use crate::store::bulk::rows::{Column, Kind, Rows, query_both};
use crate::store::entity::booking_request::duplicate_digest;
use crate::store::entity::idempotency_key;
use crate::store::error::Error;
use crate::store::idempotency::IdempotencyKey;
use crate::store::idempotency::IdempotencyRecord;
use crate::store::idempotency::IdempotentCall;
use crate::store::idempotency::idempotency_key;

/// Result of a lookup.
#[derive(Default)]
pub struct LookupResult {
    /// Open requests with their duplicate keys.
    pub duplicates: Vec<(DuplicateKey, RequestKey)>,
    /// Calls that were executed before, by idempotency key.
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

/// Looks up the open requests that have one of these duplicate keys, and those of these calls, each in its care unit, that
/// were executed before.
///
/// Both come from one snapshot: if another writer has just executed the same call, the committer that sees its request
/// sees its idempotency key too, and replays instead of refusing a duplicate.
///
/// The care unit is compared as an expression, so that no index on it is used: while the table is empty, such an index
/// would have the same cost as that on patients, and the plan would be kept.
pub async fn look_up(
    connection: &impl ConnectionTrait,
    keys: &[DuplicateKey],
    calls: &[(HsaId, IdempotentCall)],
) -> Result<LookupResult, Error> {
    let replays_in = |table: &str| {
        format!(
            "SELECT c.place AS place, t.booking_request AS request, t.content_hash AS hash, \
             TRUE AS is_call FROM c CROSS JOIN {table} AS t WHERE t.care_unit = c.care_unit \
             AND t.actor = c.actor AND t.request_id = c.request_id"
        )
    };
    let (history, keys_alone) = (
        replays_in("history"),
        replays_in(idempotency_key::TABLE.name),
    );
    let sql = |keys: &str, calls: &str| {
        format!(
            "WITH k AS {keys}, c AS {calls} \
             SELECT k.place AS place, r.id AS request, k.digest AS hash, FALSE AS is_call \
             FROM k CROSS JOIN booking_request AS r WHERE r.personal_id = k.personal_id \
             AND r.care_unit || '' = k.care_unit AND r.duplicate_digest = k.digest \
             UNION ALL {history} UNION ALL {keys_alone}"
        )
    };
    let mut result = LookupResult::default();
    for row in query_both(connection, key_rows(keys), call_rows(calls), sql).await? {
        let place: i64 = row.try_get("", "place")?;
        let place = usize::try_from(place).map_err(Error::internal)?;
        match row.try_get("", "is_call")? {
            true => result.replays.push(replay(&row, place, calls)?),
            false => result.duplicates.push(duplicate(&row, place, keys)?),
        }
    }
    Ok(result)
}

fn key_rows(keys: &[DuplicateKey]) -> Rows {
    let mut rows = Rows::new(KEYS.to_vec());
    for (place, key) in (0_i64..).zip(keys) {
        rows.push([
            place.into(),
            key.care_unit.as_str().into(),
            key.parts[1].clone().into(),
            duplicate_digest(key).into(),
        ]);
    }
    rows
}

fn call_rows(calls: &[(HsaId, IdempotentCall)]) -> Rows {
    let mut rows = Rows::new(CALLS.to_vec());
    for (place, (care_unit, call)) in (0_i64..).zip(calls) {
        rows.push([
            place.into(),
            care_unit.as_str().into(),
            call.caller.clone().into(),
            call.id.into(),
        ]);
    }
    rows
}

/// Reads an open request with its duplicate key.
fn duplicate(
    row: &QueryResult,
    place: usize,
    keys: &[DuplicateKey],
) -> Result<(DuplicateKey, RequestKey), Error> {
    let key = keys.get(place).ok_or_else(out_of_range)?;
    let other = RequestKey {
        care_unit: key.care_unit.clone(),
        id: row.try_get("", "request")?,
    };
    Ok((key.clone(), other))
}

/// Reads the record of a call.
fn replay(
    row: &QueryResult,
    place: usize,
    calls: &[(HsaId, IdempotentCall)],
) -> Result<(IdempotencyKey, IdempotencyRecord), Error> {
    let (care_unit, call) = calls.get(place).ok_or_else(out_of_range)?;
    let id: Option<Uuid> = row.try_get("", "request")?;
    let record = IdempotencyRecord {
        hash: row.try_get("", "hash")?,
        request: id.map(|id| RequestKey {
            care_unit: care_unit.clone(),
            id,
        }),
    };
    Ok((idempotency_key(care_unit, call), record))
}

fn out_of_range() -> Error {
    Error::internal("a place outside the keys of a lookup")
}
