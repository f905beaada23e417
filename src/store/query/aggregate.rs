//! Aggregates: requests with their notifications, each read by one statement and so from one snapshot.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sea_orm::{ConnectionTrait, QueryResult};

use crate::domain::booking_request::BookingRequest;
use crate::domain::request_key::RequestKey;
use crate::store::entity::booking_request;
use crate::store::entity::notification::{self, StoredNotification};
use crate::store::entity::row_reader::RowReader;
use crate::store::error::Error;
use crate::store::quarantine::RowKey;

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

/// Returns the statement that reads the requests whose keys are in `keys`, a sub-select that the statement calls `k`, and
/// the extra columns of each.
pub fn select_sql(keys: &str, extra_columns: &[&str]) -> String {
    let of_request = [
        &["r.care_unit", "r.id"],
        extra_columns,
        booking_request::COLUMNS,
    ]
    .concat();
    let of_notification: Vec<String> = notification::columns().collect();
    format!(
        "SELECT {}, {} FROM {keys} AS k CROSS JOIN booking_request AS r LEFT JOIN notification AS n \
         ON n.care_unit = r.care_unit AND n.booking_request = r.id \
         WHERE r.care_unit = k.care_unit AND r.id = k.id",
        of_request.join(", "),
        of_notification.join(", ")
    )
}

/// Loads the requests with these keys that exist.
pub async fn load(
    connection: &impl ConnectionTrait,
    keys: &[RequestKey],
) -> Result<Vec<FoundRequest<()>>, Error> {
    let keys = booking_request::key_rows(keys);
    let rows = keys.query(connection, |keys| select_sql(keys, &[])).await?;
    collect(&rows, |_| Ok(()))
}

/// Collects the requests from rows of [`select_sql`], which have a row for each notification, in any order. A request of
/// which a row cannot be decoded is quarantined, and the others are read all the same.
pub fn collect<T>(
    rows: &[QueryResult],
    extra_columns: impl Fn(&mut RowReader) -> Result<T, Error>,
) -> Result<Vec<FoundRequest<T>>, Error> {
    let mut read: Vec<(FoundRequest<T>, Vec<StoredNotification>)> = Vec::new();
    let mut places: HashMap<RequestKey, usize> = HashMap::new();
    for row in rows {
        let mut row_reader = RowReader::new(row);
        let key = booking_request::key((row_reader.take()?, row_reader.take()?));
        let extra_columns = extra_columns(&mut row_reader)?;
        let place = match places.entry(key) {
            Entry::Occupied(known) => {
                row_reader.skip(booking_request::COLUMNS.len());
                *known.get()
            }
            Entry::Vacant(new) => {
                let key = new.key().clone();
                let request = booking_request::read(key.clone(), &mut row_reader);
                let request = request.map_err(|error| row_reader.locate(error));
                let row = RowKey::of(booking_request::TABLE.name, &key, None);
                let record = row.accept(request).map(|request| StoredRequest {
                    request,
                    versions: Vec::new(),
                });
                let found = FoundRequest {
                    key,
                    extra_columns,
                    record,
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

/// Reads the notification of a request that a row holds, if it holds one; none when it cannot be decoded.
fn read_notification(
    request: &RequestKey,
    row_reader: &mut RowReader,
) -> Option<Option<StoredNotification>> {
    let ordinal: Option<i16> = row_reader.peek();
    let notification = notification::read(row_reader).map_err(|error| row_reader.locate(error));
    let row = RowKey::of(notification::TABLE.name, request, ordinal.map(i64::from));
    row.accept(notification)
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
