//! What a batch has decided, as it is to be written.

use sea_orm::ConnectionTrait;

use crate::store::bulk::rows::Rows;
use crate::store::bulk::write::{Write, write_all};
use crate::store::change_event::ChangeEvent;
use crate::store::commit::tracked::TrackedRequest;
use crate::store::entity::booking_request as request;
use crate::store::entity::{history, idempotency_key, notification};
use crate::store::error::Error;
use crate::store::skew::Date;

/// What a batch has decided, as it is to be written.
pub struct WriteSet {
    /// What it means to others once it is committed.
    pub committed: ChangeEvent,
    writes: Vec<Write>,
    date: Date,
}

impl WriteSet {
    /// Returns what differs in these requests, with the history and the calls that are to be added, and by
    /// which clock that was decided.
    pub fn of<'a>(
        entries: impl Iterator<Item = &'a TrackedRequest>,
        history: Rows,
        idempotency_keys: Rows,
        date: Date,
    ) -> Self {
        let mut committed = ChangeEvent::default();
        let mut sets = Sets::new();
        for entry in entries {
            entry.add_to_event(&mut committed);
            sets.add(entry);
        }
        let mut writes = sets.writes();
        writes.push(Write::new(&history::TABLE, history));
        writes.push(Write::new(&idempotency_key::TABLE, idempotency_keys));
        Self {
            committed,
            writes,
            date,
        }
    }

    /// Returns whether there is nothing to be written.
    pub fn is_empty(&self) -> bool {
        self.writes.iter().all(Write::is_empty)
    }

    /// Writes them, and one more thing. Says what others want to know once they are committed; `None`
    /// when a row was not as it had been loaded.
    ///
    /// # Errors
    ///
    /// What befalls the database, and [`Error::Clock`] when its clock shows that the one by which
    /// they were decided is wrong.
    pub async fn save(
        self,
        connection: &impl ConnectionTrait,
        announcement: Option<Write>,
    ) -> Result<Option<ChangeEvent>, Error> {
        let writes = self.writes.into_iter().chain(announcement).collect();
        let written = write_all(connection, writes).await?;
        if let Some(database_now) = written.database_now {
            self.date.check(database_now)?;
        }
        Ok(written.is_complete.then_some(self.committed))
    }
}

/// The rows that differ, by what is to be done with them.
struct Sets {
    new_requests: Rows,
    changed_requests: Rows,
    /// Changed in [`request::HOT_COLUMNS`] alone.
    hot_updates: Rows,
    new_messages: Rows,
    changed_messages: Rows,
    /// Changed in [`notification::LEASE_COLUMNS`] alone.
    delivered_messages: Rows,
}

impl Sets {
    fn new() -> Self {
        Self {
            new_requests: request::TABLE.new_rows(),
            changed_requests: request::TABLE.changed_rows(request::TABLE.mutable),
            hot_updates: request::TABLE.changed_rows(request::HOT_COLUMNS),
            new_messages: notification::TABLE.new_rows(),
            changed_messages: notification::TABLE.changed_rows(notification::TABLE.mutable),
            delivered_messages: notification::TABLE.changed_rows(notification::LEASE_COLUMNS),
        }
    }

    fn add(&mut self, entry: &TrackedRequest) {
        let Some(present) = &entry.current else {
            return;
        };
        match &entry.original {
            None => {
                let values = [
                    request::key_values(&present.key),
                    request::mutable_values(present),
                    request::fixed_values(present),
                ];
                self.new_requests.push(values.concat());
            }
            Some(loaded) if loaded.revision != present.revision => {
                let mut values = request::key_values(&present.key);
                let indexed = request::indexed_values(present);
                let plainly = indexed == request::indexed_values(loaded);
                let set = match plainly {
                    true => &mut self.hot_updates,
                    false => {
                        values.extend(indexed);
                        &mut self.changed_requests
                    }
                };
                values.extend(request::hot_values(present));
                values.push(loaded.revision.into());
                set.push(values);
            }
            Some(_) => {}
        }
        for (ordinal, stored, message) in entry.rows_to_write(present) {
            let mut values = notification::key_values(&present.key, ordinal);
            let Some((before, version)) = stored else {
                values.extend(notification::mutable_values(message, 1));
                values.extend(notification::fixed_values(message));
                self.new_messages.push(values);
                continue;
            };
            let lasting = notification::lasting_values(message);
            let set = match lasting == notification::lasting_values(before) {
                true => &mut self.delivered_messages,
                false => {
                    values.extend(lasting);
                    &mut self.changed_messages
                }
            };
            values.extend(notification::lease_values(message, version + 1));
            values.push(version.into());
            set.push(values);
        }
    }

    /// Requests first, so that whoever writes messages has the request's row.
    fn writes(self) -> Vec<Write> {
        let (requests, messages) = (&request::TABLE, &notification::TABLE);
        let by_revision = |columns, rows| Write::change(requests, columns, "revision", rows);
        let by_version = |columns, rows| Write::change(messages, columns, "version", rows);
        vec![
            Write::new(requests, self.new_requests),
            by_revision(requests.mutable, self.changed_requests),
            by_revision(request::HOT_COLUMNS, self.hot_updates),
            Write::new(messages, self.new_messages),
            by_version(messages.mutable, self.changed_messages),
            by_version(notification::LEASE_COLUMNS, self.delivered_messages),
        ]
    }
}
