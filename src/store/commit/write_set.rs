//! The write set of a batch: the rows that differ from the loaded ones.

use sea_orm::ConnectionTrait;

use crate::store::bulk::rows::Rows;
use crate::store::bulk::write::{Write, write_all};
use crate::store::change_event::ChangeEvent;
use crate::store::commit::tracked::TrackedRequest;
use crate::store::entity::booking_request as request;
use crate::store::entity::{history, idempotency_key, notification};
use crate::store::error::Error;
use crate::store::skew::Date;

/// The rows that a batch writes.
pub struct WriteSet {
    /// Change event to publish once it is committed.
    pub event: ChangeEvent,
    writes: Vec<Write>,
    date: Date,
}

impl WriteSet {
    /// Returns the rows that differ in these requests, with the history and the idempotency keys to add, and the clock
    /// by which they were decided.
    pub fn of<'a>(
        requests: impl Iterator<Item = &'a TrackedRequest>,
        history: Rows,
        keys_without_history: Rows,
        date: Date,
    ) -> Self {
        let mut event = ChangeEvent::default();
        let mut rows = RowsByKind::new();
        for request in requests {
            request.add_to_event(&mut event);
            rows.add(request);
        }
        let mut writes = rows.writes();
        writes.push(Write::new(&history::TABLE, history));
        writes.push(Write::new(&idempotency_key::TABLE, keys_without_history));
        Self {
            event,
            writes,
            date,
        }
    }

    /// Returns true when there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.writes.iter().all(Write::is_empty)
    }

    /// Writes the rows, and the outbox row. Returns the change event to publish once they are committed; `None` on a
    /// conflict, when a row does not have the version with which it was loaded.
    ///
    /// # Errors
    ///
    /// Errors of the database, and [`Error::Clock`] when its clock shows that the one by which they were decided is
    /// wrong.
    pub async fn save(
        self,
        connection: &impl ConnectionTrait,
        outbox_row: Option<Write>,
    ) -> Result<Option<ChangeEvent>, Error> {
        let writes = self.writes.into_iter().chain(outbox_row).collect();
        let written = write_all(connection, writes).await?;
        if let Some(database_now) = written.database_now {
            self.date.check(database_now)?;
        }
        Ok(written.is_complete.then_some(self.event))
    }
}

/// The rows that differ, by table and kind of write.
struct RowsByKind {
    new_requests: Rows,
    changed_requests: Rows,
    /// Requests changed in [`request::HOT_COLUMNS`] alone.
    hot_updates: Rows,
    new_notifications: Rows,
    changed_notifications: Rows,
    /// Notifications changed in [`notification::LEASE_COLUMNS`] alone.
    lease_updates: Rows,
}

impl RowsByKind {
    fn new() -> Self {
        Self {
            new_requests: request::TABLE.new_rows(),
            changed_requests: request::TABLE.changed_rows(request::TABLE.mutable),
            hot_updates: request::TABLE.changed_rows(request::HOT_COLUMNS),
            new_notifications: notification::TABLE.new_rows(),
            changed_notifications: notification::TABLE.changed_rows(notification::TABLE.mutable),
            lease_updates: notification::TABLE.changed_rows(notification::LEASE_COLUMNS),
        }
    }

    fn add(&mut self, tracked: &TrackedRequest) {
        let Some(current) = &tracked.current else {
            return;
        };
        match &tracked.original {
            None => {
                let values = [
                    request::key_values(&current.key),
                    request::mutable_values(current),
                    request::fixed_values(current),
                ];
                self.new_requests.push(values.concat());
            }
            Some(original) if original.revision != current.revision => {
                let mut values = request::key_values(&current.key);
                let indexed = request::indexed_values(current);
                let is_hot = indexed == request::indexed_values(original);
                let rows = match is_hot {
                    true => &mut self.hot_updates,
                    false => {
                        values.extend(indexed);
                        &mut self.changed_requests
                    }
                };
                values.extend(request::hot_values(current));
                values.push(original.revision.into());
                rows.push(values);
            }
            Some(_) => {}
        }
        for (ordinal, stored, notification) in tracked.rows_to_write(current) {
            let mut values = notification::key_values(&current.key, ordinal);
            let Some((before, version)) = stored else {
                values.extend(notification::mutable_values(notification, 1));
                values.extend(notification::fixed_values(notification));
                self.new_notifications.push(values);
                continue;
            };
            let lasting = notification::lasting_values(notification);
            let rows = match lasting == notification::lasting_values(before) {
                true => &mut self.lease_updates,
                false => {
                    values.extend(lasting);
                    &mut self.changed_notifications
                }
            };
            values.extend(notification::lease_values(notification, version + 1));
            values.push(version.into());
            rows.push(values);
        }
    }

    /// Returns the writes in their order: requests before notifications, so that a writer of notifications has the
    /// row of their request; new rows before changed ones, as the page of this folder says.
    fn writes(self) -> Vec<Write> {
        let (requests, notifications) = (&request::TABLE, &notification::TABLE);
        let by_revision = |columns, rows| Write::update(requests, columns, "revision", rows);
        let by_version = |columns, rows| Write::update(notifications, columns, "version", rows);
        vec![
            Write::new(requests, self.new_requests),
            by_revision(requests.mutable, self.changed_requests),
            by_revision(request::HOT_COLUMNS, self.hot_updates),
            Write::new(notifications, self.new_notifications),
            by_version(notifications.mutable, self.changed_notifications),
            by_version(notification::LEASE_COLUMNS, self.lease_updates),
        ]
    }
}
