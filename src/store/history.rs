//! Operations on the history of a request: pages.

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityName, EntityTrait, FromQueryResult,
    IdenStatic, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};
use uuid::Uuid;

use crate::domain::Refusal;
use crate::domain::history::HistoryEntry;
use crate::domain::request_key::RequestKey;
use crate::store::Store;
use crate::store::bucket::bucket;
use crate::store::entity::booking_request;
use crate::store::entity::history::{Column, Entity, Model};
use crate::store::error::Error;
use crate::store::quarantine::RowKey;

impl Store {
    /// Returns the history of a request after entry number `after`, at most `limit` entries with their numbers; none in
    /// place of an entry that cannot be decoded.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFound`] when there is no such request.
    pub async fn history(
        &self,
        key: &RequestKey,
        after: i32,
        limit: u32,
    ) -> Result<Vec<(i32, Option<HistoryEntry>)>, Error> {
        let key = key.clone();
        self.read(move |snapshot| Box::pin(async move { page(snapshot, &key, after, limit).await }))
            .await
    }
}

/// Returns a page of the history from one snapshot.
async fn page(
    snapshot: &DatabaseTransaction,
    key: &RequestKey,
    after: i32,
    limit: u32,
) -> Result<Vec<(i32, Option<HistoryEntry>)>, Error> {
    let care_unit = key.care_unit.as_str();
    let bucket = bucket(&key.care_unit);
    let request = booking_request::Entity::find_by_id((bucket, care_unit.to_owned(), key.id));
    let known = request.select_only().column(booking_request::Column::Id);
    if known.into_tuple::<Uuid>().one(snapshot).await?.is_none() {
        return Err(Refusal::NotFound.into());
    }
    let entries = Entity::find()
        .filter(Column::Bucket.eq(bucket))
        .filter(Column::CareUnit.eq(care_unit))
        .filter(Column::BookingRequest.eq(key.id))
        .filter(Column::Ordinal.gt(after))
        .order_by_asc(Column::Ordinal)
        .limit(u64::from(limit))
        .build(snapshot.get_database_backend());
    let rows = snapshot.query_all_raw(entries).await?;
    rows.iter()
        .map(|row| {
            let ordinal: i32 = row.try_get("", Column::Ordinal.as_str())?;
            let decoded = Model::from_query_result(row, "").map_err(Error::from);
            let row = RowKey::of(Entity.table_name(), key, Some(ordinal.into()));
            Ok((ordinal, row.accept(decoded.and_then(Model::into_domain))))
        })
        .collect()
}
