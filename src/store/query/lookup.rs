//! Lookup of replays and duplicates: calls that were executed before, and open requests with the same duplicate key. One
//! statement for both, because every batch of calls waits for it.

use std::sync::LazyLock;

use sea_orm::sea_query::{ArrayType, BinOper, Expr, Query, SelectStatement, UnionType};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityName, ExprTrait, IdenStatic, QueryResult};
use uuid::Uuid;

use crate::domain::booking_request::form::DuplicateKey;
use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;
use crate::store::bucket::bucket;
use crate::store::bulk::rows::{RowColumn, Rows};
use crate::store::bulk::{Reach, RowQuery, query_with};
use crate::store::entity::booking_request::duplicate_digest;
use crate::store::entity::{booking_request, history, idempotency_key};
use crate::store::error::Error;
use crate::store::idempotency::IdempotencyKey;
use crate::store::idempotency::IdempotencyRecord;
use crate::store::idempotency::IdempotentCall;
use crate::store::idempotency::idempotency_key;
use crate::store::placement::Shards;

/// Result of a lookup.
#[derive(Default)]
pub struct LookupResult {
    /// Open requests with their duplicate keys.
    pub duplicates: Vec<(DuplicateKey, RequestKey)>,
    /// Calls that were executed before, by idempotency key.
    pub replays: Vec<(IdempotencyKey, IdempotencyRecord)>,
}

/// Looks up the open requests that have one of these duplicate keys, and those of these calls, each in its care unit, that
/// were executed before.
///
/// Both come from one snapshot: if another writer has just executed the same call, the committer that sees its request
/// sees its idempotency key too, and replays instead of refusing a duplicate.
pub async fn look_up(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    keys: &[DuplicateKey],
    calls: &[(HsaId, IdempotentCall)],
) -> Result<LookupResult, Error> {
    static QUERY: LazyLock<RowQuery> = LazyLock::new(|| {
        let answer = || idempotency_key::Column::Answer.into_expr();
        RowQuery::new(|reach| {
            let of_history = select_replays(reach, history::Entity, no_answer());
            let of_keys = select_replays(reach, idempotency_key::Entity, answer());
            select_duplicates(reach)
                .union(UnionType::All, select_protected(reach))
                .union(UnionType::All, of_history)
                .union(UnionType::All, of_keys)
                .take()
        })
    });
    let tables = [("k", key_rows(keys)), ("c", call_rows(calls))];
    let mut result = LookupResult::default();
    for row in query_with(connection, shards, tables, &QUERY).await? {
        let place: i64 = row.try_get("", "place")?;
        let place = usize::try_from(place).map_err(Error::internal)?;
        match row.try_get("", "is_call")? {
            true => result.replays.push(replay(&row, place, calls)?),
            false => result.duplicates.push(duplicate(&row, place, keys)?),
        }
    }
    Ok(result)
}

/// Returns the query for the open requests that have a duplicate key of the table `k`.
///
/// The care unit is compared as an expression, so that no index on it is used: while the table is empty, such an index
/// would have the same cost as that on patients, and the plan would be kept.
fn select_duplicates(reach: Reach) -> SelectStatement {
    use booking_request::Column::{DuplicateDigest, PersonalId};
    select_open(reach, DuplicateDigest)
        .and_where(PersonalId.into_expr().equals(("k", PersonalId)))
        .take()
}

/// Returns the query for the open requests of patients with protected identity whose shared duplicate key is in the
/// table `k`.
fn select_protected(reach: Reach) -> SelectStatement {
    select_open(reach, booking_request::Column::ProtectedDigest)
}

/// Returns the query for the open requests whose hash in a column is that of a key of the table `k`.
fn select_open(reach: Reach, digest: booking_request::Column) -> SelectStatement {
    use booking_request::Column::{CareUnit, DuplicateDigest, Id};
    let care_unit = CareUnit
        .into_expr()
        .binary(BinOper::Custom("||"), Expr::cust("''"));
    Query::select()
        .column(("k", PLACE))
        .expr_as(Id.into_expr(), "request")
        .expr_as(Expr::col(("k", DuplicateDigest)), "hash")
        .expr_as(Expr::cust("FALSE"), "is_call")
        .expr_as(no_answer(), "answer")
        .from("k")
        .cross_join(booking_request::Entity)
        .and_where(care_unit.equals(("k", CareUnit)))
        .and_where(digest.into_expr().equals(("k", DuplicateDigest)))
        .and_where_option(reach.of(booking_request::Entity.table_name()))
        .take()
}

/// Returns the query for the calls of the table `c` that a table has recorded, whose columns have the names of those of
/// `idempotency_key`.
fn select_replays(reach: Reach, recorded: impl EntityName, answer: Expr) -> SelectStatement {
    use idempotency_key::Column::{
        Actor, BookingRequest, Bucket, CareUnit, ContentHash, RequestId,
    };
    let table = recorded.table_name();
    let matches = |column| Expr::col((table, column)).equals(("c", column));
    Query::select()
        .column(("c", PLACE))
        .expr_as(Expr::col((table, BookingRequest)), "request")
        .expr_as(Expr::col((table, ContentHash)), "hash")
        .expr_as(Expr::cust("TRUE"), "is_call")
        .expr_as(answer, "answer")
        .from("c")
        .cross_join(table)
        .and_where(matches(Bucket))
        .and_where(matches(CareUnit))
        .and_where(matches(Actor))
        .and_where(matches(RequestId))
        .and_where_option(reach.of(table))
        .take()
}

/// Returns an answer in place of one that is not stored.
fn no_answer() -> Expr {
    Expr::cust("CAST(NULL AS text)")
}

/// Name of the column with the place of a row among the keys or calls that are looked up.
const PLACE: &str = "place";

fn key_rows(keys: &[DuplicateKey]) -> Rows {
    use booking_request::Column::{Bucket, CareUnit, DuplicateDigest, PersonalId};
    let mut columns = vec![RowColumn::new(PLACE, ArrayType::BigInt)];
    columns.extend([Bucket, CareUnit, PersonalId].map(RowColumn::of::<booking_request::Entity>));
    columns.push(RowColumn::new(DuplicateDigest.as_str(), ArrayType::Bytes));
    let mut rows = Rows::new(columns);
    for (place, key) in (0_i64..).zip(keys) {
        rows.push([
            place.into(),
            bucket(&key.care_unit).into(),
            key.care_unit.as_str().into(),
            key.parts[1].clone().into(),
            duplicate_digest(key).into(),
        ]);
    }
    rows
}

fn call_rows(calls: &[(HsaId, IdempotentCall)]) -> Rows {
    use idempotency_key::Column::{Actor, Bucket, CareUnit, RequestId};
    let mut columns = vec![RowColumn::new(PLACE, ArrayType::BigInt)];
    let key = [Bucket, CareUnit, Actor, RequestId];
    columns.extend(key.map(RowColumn::of::<idempotency_key::Entity>));
    let mut rows = Rows::new(columns);
    for (place, (care_unit, call)) in (0_i64..).zip(calls) {
        rows.push([
            place.into(),
            bucket(care_unit).into(),
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
        answer: row.try_get("", "answer")?,
    };
    Ok((idempotency_key(care_unit, call), record))
}

fn out_of_range() -> Error {
    Error::internal("a place outside the keys of a lookup")
}
