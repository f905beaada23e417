//! The write set of a batch: the rows that differ from the loaded ones.

use sea_orm::ConnectionTrait;

use crate::store::access_log::chain::AccessLogWork;
use crate::store::bulk::write::{Inserts, VersionedUpdates, Write};
use crate::store::bulk::write_all;
use crate::store::change_event::ChangeEvent;
use crate::store::commit::settings::SettingsWork;
use crate::store::commit::tracked::TrackedRequest;
use crate::store::entity::booking_request as request;
use crate::store::entity::{change_event, history, idempotency_key, notification};
use crate::store::error::Error;
use crate::store::metrics::Tally;
use crate::store::placement::Shards;
use crate::store::skew::Date;

/// The rows that a batch writes.
pub struct WriteSet {
    /// Change event to publish once it is committed.
    pub event: ChangeEvent,
    /// Ends of notifications, to count once it is committed.
    pub tally: Tally,
    writes: Vec<Write>,
    date: Date,
    shards: Shards,
}

impl WriteSet {
    /// Returns the rows that differ in these requests and settings, with the history, the idempotency keys and the entries of
    /// the access log to add, and the clock by which they were decided, over these shards.
    pub fn of<'a>(
        requests: impl Iterator<Item = &'a TrackedRequest>,
        history: Inserts<history::Entity>,
        keys_without_history: Inserts<idempotency_key::Entity>,
        settings: &SettingsWork,
        access_log: AccessLogWork,
        date: Date,
        shards: Shards,
    ) -> Self {
        let mut event = ChangeEvent {
            settings: settings.changed_units(),
            ..ChangeEvent::default()
        };
        let mut rows = RowsByKind::default();
        for request in requests {
            request.add_to_event(&mut event);
            rows.add(request);
        }
        let tally = std::mem::take(&mut rows.tally);
        let mut writes = rows.into_writes();
        writes.push(history.into_write());
        writes.push(keys_without_history.into_write());
        writes.extend(settings.writes());
        writes.extend(access_log.into_writes());
        Self {
            event,
            tally,
            writes,
            date,
            shards,
        }
    }

    /// Returns true when there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.writes.iter().all(Write::is_empty)
    }

    /// Returns the bucket of one of the rows; any bucket when there are none.
    pub fn bucket(&self) -> i16 {
        self.writes.iter().find_map(Write::bucket).unwrap_or(0)
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
        outbox_row: Option<change_event::ActiveModel>,
    ) -> Result<Option<ChangeEvent>, Error> {
        let mut writes = self.writes;
        if let Some(row) = outbox_row {
            let mut outbox = Inserts::<change_event::Entity>::default();
            outbox.push(row);
            writes.push(outbox.into_write());
        }
        let written = write_all(connection, &self.shards, writes).await?;
        if let Some(database_now) = written.database_now {
            self.date.check(database_now)?;
        }
        Ok(written.is_complete.then_some(self.event))
    }
}

/// The rows that differ, by table and kind of write.
#[derive(Default)]
struct RowsByKind {
    new_requests: Inserts<request::Entity>,
    changed_requests: VersionedUpdates<request::Entity>,
    new_notifications: Inserts<notification::Entity>,
    changed_notifications: VersionedUpdates<notification::Entity>,
    tally: Tally,
}

impl RowsByKind {
    fn add(&mut self, tracked: &TrackedRequest) {
        let current = &tracked.current;
        match &tracked.original {
            None => self.new_requests.push(request::Model::of(current)),
            Some(original) if original.revision != current.revision => {
                let before = request::Model::without_document(original);
                let after = request::Model::of(current);
                self.changed_requests.push(&before, after);
            }
            Some(_) => {}
        }
        for (ordinal, stored, notification) in tracked.rows_to_write() {
            let row = |version, it| notification::Model::of(&current.key, ordinal, version, it);
            match stored {
                None => self.new_notifications.push(row(1, notification)),
                Some((before, version)) => {
                    self.tally.add(current, before, notification);
                    let (before, after) = (row(version, before), row(version + 1, notification));
                    self.changed_notifications.push(&before, after);
                }
            }
        }
    }

    /// Returns the writes in their order: requests before notifications, so that a writer of notifications has the
    /// row of their request; new rows before changed ones, as the page of this folder says.
    fn into_writes(self) -> Vec<Write> {
        let mut writes = vec![self.new_requests.into_write()];
        writes.extend(self.changed_requests.into_writes());
        writes.push(self.new_notifications.into_write());
        writes.extend(self.changed_notifications.into_writes());
        writes
    }
}
