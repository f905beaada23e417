//! Requests with their messages, each read by one statement and so from one state of the database.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sea_orm::{ConnectionTrait, DbErr, QueryResult, TryGetable};

use super::booking_request;
use super::notification::{self, Stored};
use crate::domain::booking_request::{BookingRequest, RequestKey};
use crate::store::error::Error;

/// A request as it is stored.
pub struct Record<T> {
    /// The request, its messages in the order in which they were planned.
    pub request: BookingRequest,
    /// The version of each of its messages.
    pub versions: Vec<i32>,
    /// What was read of it beside.
    pub beside: T,
}

/// The values of a row, taken one after the other: looked up by name, each would take longer.
pub struct Cells<'a> {
    row: &'a QueryResult,
    next: usize,
}

impl Cells<'_> {
    /// The next value.
    pub fn take<T: TryGetable>(&mut self) -> Result<T, DbErr> {
        let value = self.row.try_get_by_index(self.next)?;
        self.next += 1;
        Ok(value)
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
) -> Result<Vec<Record<()>>, Error> {
    let keys = booking_request::key_set(keys);
    let rows = keys.query(connection, |keys| sql(keys, &[])).await?;
    collect(&rows, |_| Ok(()))
}

/// The requests that rows of [`sql`] hold, a row for each of their messages, in any order.
pub fn collect<T>(
    rows: &[QueryResult],
    beside: impl Fn(&mut Cells) -> Result<T, DbErr>,
) -> Result<Vec<Record<T>>, Error> {
    let mut read: Vec<(Record<T>, Vec<Stored>)> = Vec::new();
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
                let record = Record {
                    request: booking_request::read(new.key().clone(), &mut cells)?,
                    versions: Vec::new(),
                    beside,
                };
                read.push((record, Vec::new()));
                *new.insert(read.len() - 1)
            }
        };
        read[place].1.extend(notification::read(&mut cells)?);
    }
    Ok(read
        .into_iter()
        .map(|(record, messages)| record.with(messages))
        .collect())
}

impl<T> Record<T> {
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
