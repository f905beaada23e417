//! What a purge goes by: when a request was settled, and when a quiet call was made.

use sea_orm::{DbBackend, DbErr};
use sea_orm_migration::prelude::*;

/// The second schema.
pub struct AddRetention;

impl MigrationName for AddRetention {
    fn name(&self) -> &str {
        "m0002_add_retention"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for AddRetention {
    /// Wholly or not at all, on SQLite too.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let texts = match manager.get_database_backend() {
            DbBackend::Postgres => [SETTLED_POSTGRES, CALLS_POSTGRES],
            _ => [SETTLED_SQLITE, CALLS_SQLITE],
        };
        for text in texts.into_iter().flatten().copied().chain([SETTLED_INDEX]) {
            manager.get_connection().execute_unprepared(text).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for text in DOWN {
            manager.get_connection().execute_unprepared(text).await?;
        }
        Ok(())
    }
}

/// The statements of one step.
type Step = &'static [&'static str];

/// When a settled request was last changed; null while it is open, so that the index holds what
/// may be purged some day and nothing else.
const SETTLED_INDEX: &str = "CREATE INDEX booking_request_settled \
     ON booking_request (settled_at) WHERE settled_at IS NOT NULL";
const SETTLED_POSTGRES: Step = &[
    "ALTER TABLE booking_request ADD COLUMN settled_at bigint",
    "UPDATE booking_request SET settled_at = (document::json->>'updated_at')::bigint \
     WHERE state IN (3, 4, 5)",
];
const SETTLED_SQLITE: Step = &[
    "ALTER TABLE booking_request ADD COLUMN settled_at bigint",
    "UPDATE booking_request SET settled_at = document->>'updated_at' WHERE state IN (3, 4, 5)",
];

/// When a call was made, by the database's clock. Calls from before the column count as new.
const CALLS_POSTGRES: Step = &[
    "ALTER TABLE quiet_call ADD COLUMN recorded_at bigint NOT NULL \
     DEFAULT (extract(epoch FROM now()) * 1000000)::bigint",
];
/// SQLite adds no column whose default is worked out, so the rows move to a new table.
const CALLS_SQLITE: Step = &[
    "ALTER TABLE quiet_call RENAME TO quiet_call_old",
    "CREATE TABLE quiet_call ( care_unit text NOT NULL, actor text NOT NULL, \
     request_id uuid_text NOT NULL, content_hash blob NOT NULL, booking_request uuid_text, \
     recorded_at bigint NOT NULL DEFAULT (unixepoch() * 1000000), \
     PRIMARY KEY (care_unit, actor, request_id) ) WITHOUT ROWID",
    "INSERT INTO quiet_call (care_unit, actor, request_id, content_hash, booking_request) \
     SELECT care_unit, actor, request_id, content_hash, booking_request FROM quiet_call_old",
    "DROP TABLE quiet_call_old",
];

const DOWN: [&str; 3] = [
    "ALTER TABLE quiet_call DROP COLUMN recorded_at",
    "DROP INDEX booking_request_settled",
    "ALTER TABLE booking_request DROP COLUMN settled_at",
];
