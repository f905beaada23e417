//! Requests with their messages, each read by one statement and so from one state of the database.

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
    /// The request, its messages in the order in which they were planned.
    pub request: BookingRequest,
    /// The version of each of its messages.
    pub versions: Vec<i32>,
}

/// A request that was found.
pub struct FoundRequest<T> {
    /// Its key.
    pub key: RequestKey,
    /// Columns that were read of it beside.
    pub extra_columns: T,
    /// The request; none of one that cannot be decoded.
    pub record: Option<StoredRequest>,
}

/// Returns what reads the requests whose keys stand in `keys`, a sub-select that the statement knows as `k`,
/// and `beside` of each.
pub fn select_sql(keys: &str, extra_columns: &[&str]) -> String {
    let of_request = [
        &["r.care_unit", "r.id"],
        extra_columns,
        booking_request::COLUMNS,
    ]
    .concat();
    let of_message: Vec<String> = notification::columns().collect();
    format!(
        "SELECT {}, {} FROM {keys} AS k CROSS JOIN booking_request AS r LEFT JOIN notification AS n \
         ON n.care_unit = r.care_unit AND n.booking_request = r.id \
         WHERE r.care_unit = k.care_unit AND r.id = k.id",
        of_request.join(", "),
        of_message.join(", ")
    )
}

/// Returns the requests with these keys that exist.
pub async fn load(
    connection: &impl ConnectionTrait,
    keys: &[RequestKey],
) -> Result<Vec<FoundRequest<()>>, Error> {
    let keys = booking_request::key_set(keys);
    let rows = keys.query(connection, |keys| select_sql(keys, &[])).await?;
    collect(&rows, |_| Ok(()))
}

/// Returns the requests that rows of [`sql`] hold, a row for each of their messages, in any order. One of
/// which some row cannot be decoded is set aside, and the others are read all the same.
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
        let (found, messages) = &mut read[place];
        if found.record.is_some() {
            match read_message(&found.key, &mut row_reader) {
                Some(message) => messages.extend(message),
                None => found.record = None,
            }
        }
    }
    let whole = |(mut found, messages): (FoundRequest<T>, Vec<StoredNotification>)| {
        found.record = found.record.map(|record| record.with(messages));
        found
    };
    Ok(read.into_iter().map(whole).collect())
}

/// Returns the message of a request that a row holds, if it holds one; none when it cannot be decoded.
fn read_message(
    request: &RequestKey,
    row_reader: &mut RowReader,
) -> Option<Option<StoredNotification>> {
    let ordinal: Option<i16> = row_reader.peek();
    let message = notification::read(row_reader).map_err(|error| row_reader.locate(error));
    let row = RowKey::of(notification::TABLE.name, request, ordinal.map(i64::from));
    row.accept(message)
}

impl StoredRequest {
    fn with(mut self, mut messages: Vec<StoredNotification>) -> Self {
        messages.sort_by_key(|stored| stored.ordinal);
        self.versions = messages.iter().map(|stored| stored.version).collect();
        if let Some(invitation) = &mut self.request.care_invitation {
            let messages = messages.into_iter().map(|stored| stored.message);
            invitation.notifications = messages.collect();
        }
        self
    }
}
