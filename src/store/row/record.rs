//! Requests with their messages, each read by one statement and so from one state of the database.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sea_orm::{ConnectionTrait, QueryResult, TryGetable};

use super::booking_request;
use super::notification::{self, Stored};
use crate::domain::booking_request::{BookingRequest, RequestKey};
use crate::store::error::Error;
use crate::store::quarantine::RowKey;

/// A request as it is stored.
pub struct Record {
    /// The request, its messages in the order in which they were planned.
    pub request: BookingRequest,
    /// The version of each of its messages.
    pub versions: Vec<i32>,
}

/// A request that was found.
pub struct Found<T> {
    /// Its key.
    pub key: RequestKey,
    /// Columns that were read of it beside.
    pub beside: T,
    /// The request; none of one that cannot be decoded.
    pub record: Option<Record>,
}

/// The values of a row, taken one after the other: looked up by name, each would take longer.
pub struct Cells<'a> {
    row: &'a QueryResult,
    next: usize,
}

impl Cells<'_> {
    /// The next value.
    pub fn take<T: TryGetable>(&mut self) -> Result<T, Error> {
        self.next += 1;
        let value = self.row.try_get_by_index(self.next - 1);
        value.map_err(|_| Error::broken("not of the column's type"))
    }

    /// Adds to an error in which column it was: that of the value that was taken last.
    fn locate(&self, error: Error) -> Error {
        let cause = match error {
            Error::Broken(cause) => cause.to_string(),
            error => error.to_string(),
        };
        let names = self.row.column_names();
        let column = self.next.checked_sub(1).and_then(|place| names.get(place));
        Error::broken(format!("{}: {cause}", column.map_or("", String::as_str)))
    }

    /// Passes over so many values.
    pub fn skip(&mut self, count: usize) {
        self.next += count;
    }
}

/// What reads the requests whose keys stand in `keys`, a sub-select that the statement knows as `k`,
/// and `beside` of each.
pub fn sql(keys: &str, beside: &[&str]) -> String {
    let of_request = [&["r.care_unit", "r.id"], beside, booking_request::COLUMNS].concat();
    let of_message: Vec<String> = notification::columns().collect();
    format!(
        "SELECT {}, {} FROM {keys} AS k CROSS JOIN booking_request AS r LEFT JOIN notification AS n \
         ON n.care_unit = r.care_unit AND n.booking_request = r.id \
         WHERE r.care_unit = k.care_unit AND r.id = k.id",
        of_request.join(", "),
        of_message.join(", ")
    )
}

/// The requests with these keys that exist.
pub async fn load(
    connection: &impl ConnectionTrait,
    keys: &[RequestKey],
) -> Result<Vec<Found<()>>, Error> {
    let keys = booking_request::key_set(keys);
    let rows = keys.query(connection, |keys| sql(keys, &[])).await?;
    collect(&rows, |_| Ok(()))
}

/// The requests that rows of [`sql`] hold, a row for each of their messages, in any order. One of
/// which some row cannot be decoded is set aside, and the others are read all the same.
pub fn collect<T>(
    rows: &[QueryResult],
    beside: impl Fn(&mut Cells) -> Result<T, Error>,
) -> Result<Vec<Found<T>>, Error> {
    let mut read: Vec<(Found<T>, Vec<Stored>)> = Vec::new();
    let mut places: HashMap<RequestKey, usize> = HashMap::new();
    for row in rows {
        let mut cells = Cells { row, next: 0 };
        let key = booking_request::key((cells.take()?, cells.take()?));
        let beside = beside(&mut cells)?;
        let place = match places.entry(key) {
            Entry::Occupied(known) => {
                cells.skip(booking_request::COLUMNS.len());
                *known.get()
            }
            Entry::Vacant(new) => {
                let key = new.key().clone();
                let request = booking_request::read(key.clone(), &mut cells);
                let request = request.map_err(|error| cells.locate(error));
                let row = RowKey::of(booking_request::TABLE.name, &key, None);
                let record = row.accept(request).map(|request| Record {
                    request,
                    versions: Vec::new(),
                });
                let found = Found {
                    key,
                    beside,
                    record,
                };
                read.push((found, Vec::new()));
                *new.insert(read.len() - 1)
            }
        };
        let (found, messages) = &mut read[place];
        if found.record.is_some() {
            match read_message(&found.key, &mut cells) {
                Some(message) => messages.extend(message),
                None => found.record = None,
            }
        }
    }
    let whole = |(mut found, messages): (Found<T>, Vec<Stored>)| {
        found.record = found.record.map(|record| record.with(messages));
        found
    };
    Ok(read.into_iter().map(whole).collect())
}

/// The message of a request that a row holds, if it holds one; none when it cannot be decoded.
fn read_message(request: &RequestKey, cells: &mut Cells) -> Option<Option<Stored>> {
    let begin = cells.next;
    let message = notification::read(cells).map_err(|error| cells.locate(error));
    let ordinal: Option<i16> = cells.row.try_get_by_index(begin).ok();
    let row = RowKey::of(notification::TABLE.name, request, ordinal.map(i64::from));
    row.accept(message)
}

impl Record {
    fn with(mut self, mut messages: Vec<Stored>) -> Self {
        messages.sort_by_key(|stored| stored.ordinal);
        self.versions = messages.iter().map(|stored| stored.version).collect();
        if let Some(invitation) = &mut self.request.care_invitation {
            let messages = messages.into_iter().map(|stored| stored.message);
            invitation.notifications = messages.collect();
        }
        self
    }
}
