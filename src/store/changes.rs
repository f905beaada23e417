//! What a batch has decided, as it is to be written.

use sea_orm::ConnectionTrait;

use super::Committed;
use super::entry::Entry;
use super::error::Error;
use super::row::booking_request as request;
use super::row::set::Set;
use super::row::write::{Write, write_all};
use super::row::{call, history, notification};
use super::skew::Date;

/// What a batch has decided, as it is to be written.
pub struct Changes {
    /// What it means to others once it is committed.
    pub committed: Committed,
    writes: Vec<Write>,
    date: Date,
}

impl Changes {
    /// What differs in these requests, with the history and the calls that are to be added, and by
    /// which clock that was decided.
    pub fn of<'a>(
        entries: impl Iterator<Item = &'a Entry>,
        history: Set,
        quiet_calls: Set,
        date: Date,
    ) -> Self {
        let mut committed = Committed::default();
        let mut sets = Sets::new();
        for entry in entries {
            entry.describe(&mut committed);
            sets.add(entry);
        }
        let mut writes = sets.writes();
        writes.push(Write::new(&history::TABLE, history));
        writes.push(Write::new(&call::TABLE, quiet_calls));
        Self {
            committed,
            writes,
            date,
        }
    }

    /// Whether there is nothing to be written.
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
    ) -> Result<Option<Committed>, Error> {
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
    new_requests: Set,
    changed_requests: Set,
    /// Changed in [`request::PLAIN`] alone.
    plainly_changed_requests: Set,
    new_messages: Set,
    changed_messages: Set,
    /// Changed in [`notification::DELIVERY`] alone.
    delivered_messages: Set,
}

impl Sets {
    fn new() -> Self {
        Self {
            new_requests: request::TABLE.new_rows(),
            changed_requests: request::TABLE.changed_rows(request::TABLE.mutable),
            plainly_changed_requests: request::TABLE.changed_rows(request::PLAIN),
            new_messages: notification::TABLE.new_rows(),
            changed_messages: notification::TABLE.changed_rows(notification::TABLE.mutable),
            delivered_messages: notification::TABLE.changed_rows(notification::DELIVERY),
        }
    }

    fn add(&mut self, entry: &Entry) {
        let Some(present) = &entry.present else {
            return;
        };
        match &entry.loaded {
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
                    true => &mut self.plainly_changed_requests,
                    false => {
                        values.extend(indexed);
                        &mut self.changed_requests
                    }
                };
                values.extend(request::plain_values(present));
                values.push(loaded.revision.into());
                set.push(values);
            }
            Some(_) => {}
        }
        for (ordinal, stored, message) in entry.written(present) {
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
            values.extend(notification::delivery_values(message, version + 1));
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
            by_revision(request::PLAIN, self.plainly_changed_requests),
            Write::new(messages, self.new_messages),
            by_version(messages.mutable, self.changed_messages),
            by_version(notification::DELIVERY, self.delivered_messages),
        ]
    }
}
