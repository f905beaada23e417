//! When staff released a message: consumers are told that it may be sent though it may have left.

use sea_orm::DbErr;
use sea_orm_migration::prelude::*;

/// The fifth schema. Of what was released before nothing is known, so that it is parked once more at
/// the most.
pub struct AddRelease;

impl MigrationName for AddRelease {
    fn name(&self) -> &str {
        "m0005_add_release"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for AddRelease {
    /// Wholly or not at all, on SQLite too.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(DOWN).await?;
        Ok(())
    }
}

const UP: &str = "ALTER TABLE notification ADD COLUMN released_at bigint";
const DOWN: &str = "ALTER TABLE notification DROP COLUMN released_at";
