//! How replicas tell each other what they have committed: a row a commit, instead of a time on
//! each request, whose index made every change of a request a change of all its indexes.

use sea_orm::{DbBackend, DbErr};
use sea_orm_migration::prelude::*;

/// The third schema. SQLite has no replicas.
pub struct AddAnnouncement;

impl MigrationName for AddAnnouncement {
    fn name(&self) -> &str {
        "m0003_add_announcement"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for AddAnnouncement {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &DOWN).await
    }
}

/// The fourth schema. To compress what is read once and deleted after some minutes takes a fifteenth
/// of the server's time when messages are handed over.
pub struct KeepAnnouncementsPlain;

impl MigrationName for KeepAnnouncementsPlain {
    fn name(&self) -> &str {
        "m0004_keep_announcements_plain"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for KeepAnnouncementsPlain {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &[HOT_COLUMNS]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &[COMPRESSED]).await
    }
}

async fn run(manager: &SchemaManager<'_>, texts: &[&str]) -> Result<(), DbErr> {
    if manager.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    for text in texts {
        manager.get_connection().execute_unprepared(text).await?;
    }
    Ok(())
}

/// The key has no care unit in front: what a commit has changed may be of several, and every replica
/// reads every row.
const UP: [&str; 4] = [
    "DROP INDEX booking_request_touched",
    "ALTER TABLE booking_request DROP COLUMN touched_at",
    "CREATE TABLE announcement (replica uuid NOT NULL, number bigint NOT NULL, \
     written_at bigint NOT NULL DEFAULT (extract(epoch FROM statement_timestamp()) * 1000000)::bigint, \
     content text NOT NULL, PRIMARY KEY (replica, number)) \
     WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)",
    "CREATE INDEX announcement_written ON announcement (written_at)",
];

const DOWN: [&str; 3] = [
    "DROP TABLE announcement",
    "ALTER TABLE booking_request ADD COLUMN touched_at bigint NOT NULL \
     DEFAULT (extract(epoch FROM statement_timestamp()) * 1000000)::bigint",
    "CREATE INDEX booking_request_touched ON booking_request (touched_at)",
];

const HOT_COLUMNS: &str = "ALTER TABLE announcement ALTER COLUMN content SET STORAGE EXTERNAL";
const COMPRESSED: &str = "ALTER TABLE announcement ALTER COLUMN content SET STORAGE EXTENDED";
