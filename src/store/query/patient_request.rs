//! Query for the requests of a patient that they may be shown, page by page.

use std::cmp::Reverse;

use sea_orm::sea_query::{Condition, Expr, ExprTrait, Order, Query, SelectStatement};
use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend, EntityName};

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::state::State;
use crate::domain::calendar::{Instant, micros};
use crate::domain::patient::PersonalId;
use crate::domain::request_key::RequestKey;
use crate::domain::visible::Visible;
use crate::store::bulk::in_buckets;
use crate::store::entity::booking_request::{Column, Entity};
use crate::store::error::Error;
use crate::store::placement::Shards;
use crate::store::query::care_units::in_units;
use crate::store::query::request_keys::is_patient;
use crate::store::query::{aggregate, in_byte_order};

/// Returns a page of the requests that a patient may be shown at `now` and that the caller finds, those with the newest ids
/// first; none in place of one that cannot be decoded. Invitations that are not open to the patient are among them: a lease
/// opens them without a change of the request.
pub async fn page(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    personal_id: &PersonalId,
    visible: &Visible,
    now: Instant,
    after: Option<&RequestKey>,
    limit: u32,
) -> Result<Vec<(RequestKey, Option<BookingRequest>)>, Error> {
    let backend = connection.get_database_backend();
    let buckets = shards.named(&visible.care_units);
    let mut keys = keys(backend, personal_id, visible, now, after, limit);
    if let Some(buckets) = &buckets {
        keys.and_where(in_buckets(Entity.table_name(), buckets.clone()));
    }
    let found = aggregate::load_selected(connection, keys, buckets, &[], |_| Ok(())).await?;
    let keyed = found.into_iter().map(|found| {
        let record = found.record.map(|record| record.request);
        (found.key, record)
    });
    let mut page: Vec<(RequestKey, Option<BookingRequest>)> = keyed.collect();
    page.sort_by(|(one, _), (other, _)| {
        let order = |key: &RequestKey| Reverse((key.id, key.care_unit.as_str().to_owned()));
        order(one).cmp(&order(other))
    });
    Ok(page)
}

/// Returns the query for the keys of a page, by the index on patients.
fn keys(
    backend: DbBackend,
    personal_id: &PersonalId,
    visible: &Visible,
    now: Instant,
    after: Option<&RequestKey>,
    limit: u32,
) -> SelectStatement {
    let unit = || in_byte_order(backend, Expr::col(Column::CareUnit));
    // Time alone shows what waits for staff again: as expired.
    let is_past_request = Condition::any()
        .add(Column::State.ne(State::Requested.code()))
        .add(Column::ExpiresAt.lte(micros(now)));
    let found = visible
        .hides_protected
        .then(|| Column::IsProtected.eq(false));
    let mut keys = Query::select()
        .columns([Column::Bucket, Column::CareUnit, Column::Id])
        .from(Entity)
        .cond_where(is_patient(personal_id))
        .and_where_option(in_units(Column::CareUnit.into_expr(), &visible.care_units))
        .and_where_option(found)
        .and_where(Column::ShownUntil.gt(micros(now)))
        .cond_where(is_past_request)
        .order_by(Column::Id, Order::Desc)
        .order_by_expr(unit(), Order::Desc)
        .limit(u64::from(limit))
        .take();
    if let Some(after) = after {
        let place = Expr::tuple([Expr::col(Column::Id), unit()]);
        let last = [Expr::val(after.id), Expr::val(after.care_unit.as_str())];
        keys.and_where(place.lt(Expr::tuple(last)));
    }
    keys
}
