//! Keys of requests: as rows to query with, those that exist, and those of a patient.

use std::sync::LazyLock;

use sea_orm::sea_query::{Condition, LockBehavior, LockType, Order, Query, SelectStatement};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityName, EntityTrait, ExprTrait, QueryFilter, QueryOrder,
    QueryResult, QuerySelect,
};
use uuid::Uuid;

use crate::domain::care_units::CareUnits;
use crate::domain::patient::PersonalId;
use crate::domain::request_key::RequestKey;
use crate::store::bucket::bucket;
use crate::store::bulk::rows::{RowColumn, Rows};
use crate::store::bulk::{Reach, RowQuery, in_buckets, query_with};
use crate::store::database::connection::RowLock;
use crate::store::entity::booking_request::{Column, Entity, key};
use crate::store::entity::notification;
use crate::store::error::Error;
use crate::store::placement::Shards;
use crate::store::query::care_units::in_units;

/// Returns keys as rows, with the columns of a request.
pub fn key_rows(keys: &[RequestKey]) -> Rows {
    let columns = [Column::Bucket, Column::CareUnit, Column::Id];
    rows(keys, columns.map(RowColumn::of::<Entity>))
}

/// Returns keys as rows, with the columns of a notification.
pub fn notification_key_rows(keys: &[RequestKey]) -> Rows {
    use notification::Column::{BookingRequest, Bucket, CareUnit};
    let columns = [Bucket, CareUnit, BookingRequest];
    rows(keys, columns.map(RowColumn::of::<notification::Entity>))
}

fn rows(keys: &[RequestKey], columns: [RowColumn; 3]) -> Rows {
    let mut rows = Rows::new(columns.to_vec());
    for key in keys {
        let RequestKey { care_unit, id } = key;
        rows.push([
            bucket(care_unit).into(),
            care_unit.as_str().into(),
            (*id).into(),
        ]);
    }
    rows
}

/// Returns the keys of those requests that exist. Where the database locks rows they may be locked; those that another
/// writer has locked are then left out.
pub async fn existing(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    keys: &[RequestKey],
    lock: RowLock,
) -> Result<Vec<RequestKey>, Error> {
    static QUERY: LazyLock<RowQuery> = LazyLock::new(|| RowQuery::new(select_existing));
    static LOCKING: LazyLock<RowQuery> = LazyLock::new(|| {
        let (update, skip) = (LockType::Update, LockBehavior::SkipLocked);
        RowQuery::new(|reach| {
            let mut select = select_existing(reach);
            select
                .lock_with_tables_behavior(update, [Entity], skip)
                .take()
        })
    });
    let query = match lock {
        RowLock::None => &QUERY,
        RowLock::SkipLocked => &LOCKING,
    };
    let rows = query_with(connection, shards, [("k", key_rows(keys))], query).await?;
    let key = |row: &QueryResult| Ok(key((row.try_get_by_index(0)?, row.try_get_by_index(1)?)));
    rows.iter().map(key).collect()
}

/// Returns the condition for the requests of a patient: kind, issuer and number are the same.
pub fn is_patient(personal_id: &PersonalId) -> Condition {
    let of_issuer = match personal_id.issuer() {
        Some(issuer) => Column::Issuer.eq(issuer),
        None => Column::Issuer.is_null(),
    };
    Condition::all()
        .add(Column::PersonalId.eq(personal_id.number()))
        .add(Column::PersonalIdType.eq(personal_id.kind().code()))
        .add(of_issuer)
}

/// Returns the query for the keys of those requests of the table `k` that exist, in the order of the keys.
fn select_existing(reach: Reach) -> SelectStatement {
    Query::select()
        .columns([Column::CareUnit, Column::Id].map(|column| (Entity, column)))
        .from("k")
        .cross_join(Entity)
        .and_where(Column::Bucket.into_expr().equals(("k", Column::Bucket)))
        .and_where(Column::CareUnit.into_expr().equals(("k", Column::CareUnit)))
        .and_where(Column::Id.into_expr().equals(("k", Column::Id)))
        .and_where_option(reach.of(Entity.table_name()))
        .order_by((Entity, Column::Bucket), Order::Asc)
        .order_by((Entity, Column::CareUnit), Order::Asc)
        .order_by((Entity, Column::Id), Order::Asc)
        .take()
}

/// Returns the requests of a patient, closed ones included, in the order of their keys.
pub async fn requests_of(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    personal_id: &PersonalId,
    care_units: &CareUnits,
) -> Result<Vec<RequestKey>, Error> {
    let mut select = Entity::find()
        .select_only()
        .columns([Column::CareUnit, Column::Id])
        .filter(is_patient(personal_id))
        .order_by_asc(Column::CareUnit)
        .order_by_asc(Column::Id);
    if let Some(in_units) = in_units(Column::CareUnit.into_expr(), care_units) {
        select = select.filter(in_units);
    }
    if let Some(buckets) = shards.named(care_units) {
        select = select.filter(in_buckets(Entity.table_name(), buckets));
    }
    let keys: Vec<(String, Uuid)> = select.into_tuple().all(connection).await?;
    Ok(keys.into_iter().map(key).collect())
}
