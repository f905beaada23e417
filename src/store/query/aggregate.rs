//! Aggregates: requests with their notifications, each read by one statement and so from one snapshot.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::LazyLock;

use crate::domain::booking_request::BookingRequest;
use crate::domain::request_key::RequestKey;
use crate::store::bulk::{RowQuery, in_buckets, query_with};
use crate::store::entity::booking_request;
use crate::store::entity::booking_request::Column::{Bucket, CareUnit, Id};
use crate::store::entity::notification::{self, StoredNotification};
use crate::store::entity::row_reader::RowReader;
use crate::store::error::Error;
use crate::store::placement::Shards;
use crate::store::quarantine::RowKey;
use crate::store::query::request_keys::key_rows;
use sea_orm::sea_query::{Condition, Expr, Query, SelectStatement};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityName, ExprTrait, QueryResult, RelationTrait};

/// A request as it is stored.
pub struct StoredRequest {
    /// The request, with its notifications in the order in which they were planned.
    pub request: BookingRequest,
    /// Version of each of its notifications.
    pub versions: Vec<i32>,
}

/// A request that was found.
pub struct FoundRequest<T> {
    /// Key.
    pub key: RequestKey,
    /// Extra columns that were read with it.
    pub extra_columns: T,
    /// The request; none of one that cannot be decoded.
    pub record: Option<StoredRequest>,
}

/// Returns the query for the requests whose keys are in a table `k`, with extra columns of that table before them, and with
/// `in_buckets`, the condition that rows of a table are in some buckets. The table must be added to it.
fn select(
    extra_columns: &[&'static str],
    in_buckets: impl Fn(&str) -> Option<Expr>,
) -> SelectStatement {
    let extra_columns = extra_columns.iter().map(|column| ("k", *column));
    let of_request = booking_request::Model::read_columns();
    let of_notification = notification::Model::read_columns();
    let column = booking_request::Column::into_expr;
    Query::select()
        .columns(extra_columns)
        .columns(of_request.map(|column| (booking_request::Entity, column)))
        .columns(of_notification.map(|column| (notification::Entity, column)))
        // Keeps SQLite from walking the table and looking each request up among the keys.
        .cross_join(booking_request::Entity)
        .left_join(
            notification::Entity,
            Condition::from(notification::Relation::BookingRequest.def())
                .add_option(in_buckets(notification::Entity.table_name())),
        )
        .and_where(column(Bucket).equals(("k", Bucket)))
        .and_where(column(CareUnit).equals(("k", CareUnit)))
        .and_where(column(Id).equals(("k", Id)))
        .and_where_option(in_buckets(booking_request::Entity.table_name()))
        .take()
}

/// Loads the requests with these keys that exist.
pub async fn load(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    keys: &[RequestKey],
) -> Result<Vec<FoundRequest<()>>, Error> {
    static QUERY: LazyLock<RowQuery> = LazyLock::new(|| {
        RowQuery::new(|reach| select(&[], |table| reach.of(table)).from("k").take())
    });
    let rows = query_with(connection, shards, [("k", key_rows(keys))], &QUERY).await?;
    collect(&rows, |_| Ok(()))
}

/// Loads the requests whose keys `keys` selects, with extra columns of that query; they are in these buckets, or in any.
pub async fn load_selected<T>(
    connection: &impl ConnectionTrait,
    keys: SelectStatement,
    buckets: Option<Vec<i16>>,
    extra_columns: &[&'static str],
    read: impl Fn(&mut RowReader) -> Result<T, Error>,
) -> Result<Vec<FoundRequest<T>>, Error> {
    let in_these = |table: &str| Some(in_buckets(table, buckets.clone()?));
    let mut select = select(extra_columns, in_these);
    let select = select.from_subquery(keys, "k");
    let statement = connection.get_database_backend().build(select);
    collect(&connection.query_all_raw(statement).await?, read)
}

/// Collects the requests from rows of [`select`], which has a row for each notification, in any order. A request of which a
/// row cannot be decoded is quarantined, and the others are read all the same.
fn collect<T>(
    rows: &[QueryResult],
    extra_columns: impl Fn(&mut RowReader) -> Result<T, Error>,
) -> Result<Vec<FoundRequest<T>>, Error> {
    let mut read: Vec<(FoundRequest<T>, Vec<StoredNotification>)> = Vec::new();
    let mut places: HashMap<RequestKey, usize> = HashMap::new();
    for row in rows {
        let mut row_reader = RowReader::new(row);
        let extra_columns = extra_columns(&mut row_reader)?;
        let ahead = |column| column as usize - booking_request::Model::OWNER_COUNT;
        let key = (row_reader.peek(ahead(CareUnit)), row_reader.peek(ahead(Id)));
        let (Some(care_unit), Some(id)) = key else {
            return Err(Error::internal("a request without a key"));
        };
        let place = match places.entry(booking_request::key((care_unit, id))) {
            Entry::Occupied(known) => {
                row_reader.skip(booking_request::Model::READ_COUNT);
                *known.get()
            }
            Entry::Vacant(new) => {
                let key = new.key().clone();
                let found = FoundRequest {
                    record: read_request(&key, &mut row_reader),
                    key,
                    extra_columns,
                };
                read.push((found, Vec::new()));
                *new.insert(read.len() - 1)
            }
        };
        let (found, notifications) = &mut read[place];
        if found.record.is_some() {
            match read_notification(&found.key, &mut row_reader) {
                Some(notification) => notifications.extend(notification),
                None => found.record = None,
            }
        }
    }
    let whole = |(mut found, notifications): (FoundRequest<T>, Vec<StoredNotification>)| {
        found.record = found.record.map(|record| record.with(notifications));
        found
    };
    Ok(read.into_iter().map(whole).collect())
}

/// Reads the request that a row holds; none when it cannot be decoded.
fn read_request(key: &RequestKey, row_reader: &mut RowReader) -> Option<StoredRequest> {
    let request = booking_request::Model::read(row_reader);
    let request = request.and_then(booking_request::Model::into_domain);
    let row = RowKey::of(booking_request::Entity.table_name(), key, None);
    row.accept(request).map(|request| StoredRequest {
        request,
        versions: Vec::new(),
    })
}

/// Reads the notification of a request that a row holds, if it holds one; none when it cannot be decoded.
fn read_notification(
    request: &RequestKey,
    row_reader: &mut RowReader,
) -> Option<Option<StoredNotification>> {
    // Its first column, of the key.
    if row_reader.is_null::<i16>(0) {
        return Some(None);
    }
    let ordinal: Option<i16> = row_reader.peek(0);
    let notification = notification::Model::read(row_reader);
    let notification = notification.and_then(notification::Model::into_domain);
    let table = notification::Entity.table_name();
    let row = RowKey::of(table, request, ordinal.map(i64::from));
    row.accept(notification).map(Some)
}

impl StoredRequest {
    /// Returns the request with its notifications.
    fn with(mut self, mut stored: Vec<StoredNotification>) -> Self {
        stored.sort_by_key(|it| it.ordinal);
        self.versions = stored.iter().map(|it| it.version).collect();
        if let Some(invitation) = &mut self.request.care_invitation {
            let notifications = stored.into_iter().map(|it| it.notification);
            invitation.notifications = notifications.collect();
        }
        self
    }
}
