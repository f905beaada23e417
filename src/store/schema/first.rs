//! The schema, and how it came to be.
//!
//! The care unit is the first column of every primary and unique key, so that a distributed
//! database can place rows by it. Instants are microseconds since 1970 in UTC, civil dates days of
//! the common era, enums the numbers that the domain gives them. What no query looks at stands in
//! `document`, as JSON.

use sea_orm_migration::prelude::*;

/// Every migration, in order.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(CreateTables),
            Box::new(crate::store::schema::retention::AddRetention),
            Box::new(crate::store::schema::announcement::AddAnnouncement),
            Box::new(crate::store::schema::announcement::KeepAnnouncementsPlain),
            Box::new(crate::store::schema::release::AddRelease),
        ]
    }
}

/// The first schema.
struct CreateTables;

impl MigrationName for CreateTables {
    fn name(&self) -> &str {
        "m0001_create_tables"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for CreateTables {
    /// Wholly or not at all, on SQLite too.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(booking_request()).await?;
        for mut table in [notification(), history(), quiet_call()] {
            if manager.get_database_backend() == sea_orm::DbBackend::Sqlite {
                // Small rows stand in the primary key's own tree: one tree fewer to write.
                table.extra("WITHOUT ROWID");
            }
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        if manager.get_database_backend() == sea_orm::DbBackend::Postgres {
            let connection = manager.get_connection();
            connection.execute_unprepared(TOUCHED).await?;
            for text in TUNING {
                connection.execute_unprepared(text).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for name in ["quiet_call", "history", "notification", "booking_request"] {
            let table = Table::drop().table(Alias::new(name)).to_owned();
            manager.drop_table(table).await?;
        }
        Ok(())
    }
}

/// When a request was last written, by the one clock that all replicas share, and how they find it.
/// Not `clock_timestamp()`: it is volatile, which Citus refuses in an UPDATE.
const TOUCHED: &str = "ALTER TABLE booking_request ADD COLUMN touched_at bigint NOT NULL \
     DEFAULT (extract(epoch FROM statement_timestamp()) * 1000000)::bigint; \
     CREATE INDEX booking_request_touched ON booking_request (touched_at)";

/// Rows that change leave room on their page for the next version of themselves, and what is dead
/// is swept early and without pauses: a claim that wades through dead rows is slow.
const TUNING: [&str; 3] = [
    "ALTER TABLE notification SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, \
     autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)",
    "ALTER TABLE booking_request SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, \
     autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)",
    // Only ever added to: swept for the sake of what reads the index alone.
    "ALTER TABLE history SET (autovacuum_vacuum_insert_scale_factor = 0.05)",
];

fn required(name: &str) -> ColumnDef {
    let mut column = ColumnDef::new(Alias::new(name));
    column.not_null();
    column
}

fn optional(name: &str) -> ColumnDef {
    ColumnDef::new(Alias::new(name))
}

fn table(name: &str, key: &[&str], columns: Vec<ColumnDef>) -> TableCreateStatement {
    let mut primary_key = Index::create();
    for column in key {
        primary_key.col(Alias::new(*column));
    }
    let mut table = Table::create();
    table.table(Alias::new(name));
    for column in columns {
        table.col(column);
    }
    table.primary_key(&mut primary_key);
    table
}

fn booking_request() -> TableCreateStatement {
    let columns = vec![
        required("care_unit").text().take(),
        required("id").uuid().take(),
        required("revision").big_integer().take(),
        required("state").small_integer().take(),
        optional("worklist").small_integer().take(),
        optional("follow_up_at").big_integer().take(),
        optional("expires_at").big_integer().take(),
        optional("start_day").integer().take(),
        optional("end_day").integer().take(),
        required("priority").small_integer().take(),
        optional("care_guarantee_day").integer().take(),
        optional("next_notification_at").big_integer().take(),
        optional("referral_id").text().take(),
        optional("duplicate_digest").binary().take(),
        required("document").text().take(),
        required("personal_id").text().take(),
        required("personal_id_type").small_integer().take(),
        required("visit_kind").small_integer().take(),
        required("visit_type_code").text().take(),
        required("allow_duplicate").boolean().take(),
        required("created_at").big_integer().take(),
    ];
    table("booking_request", &["care_unit", "id"], columns)
}

fn notification() -> TableCreateStatement {
    let columns = vec![
        required("care_unit").text().take(),
        required("booking_request").uuid().take(),
        required("ordinal").small_integer().take(),
        required("version").integer().take(),
        required("state").small_integer().take(),
        required("channel").small_integer().take(),
        required("channel_reason").small_integer().take(),
        required("due_at").big_integer().take(),
        optional("retry_at").big_integer().take(),
        optional("claimable_at").big_integer().take(),
        optional("lease_token").uuid().take(),
        optional("lease_expires_at").big_integer().take(),
        optional("lease_first_at").big_integer().take(),
        optional("lease_answer").small_integer().take(),
        required("attempt_count").integer().take(),
        required("lapse_count").integer().take(),
        required("retry_count").integer().take(),
        required("possible_repeat").boolean().take(),
        required("changed_since_lease").boolean().take(),
        optional("sent_at").big_integer().take(),
        optional("cause").text().take(),
        required("superseded").boolean().take(),
        optional("read_at").big_integer().take(),
        optional("unread_at").big_integer().take(),
        optional("returned_at").big_integer().take(),
        required("id").uuid().take(),
        required("round").integer().take(),
        required("kind").small_integer().take(),
        required("channel_fixed").boolean().take(),
    ];
    let key = ["care_unit", "booking_request", "ordinal"];
    table("notification", &key, columns)
}

fn history() -> TableCreateStatement {
    let columns = vec![
        required("care_unit").text().take(),
        required("booking_request").uuid().take(),
        required("ordinal").integer().take(),
        required("recorded_at").big_integer().take(),
        required("actor").text().take(),
        required("event").small_integer().take(),
        optional("request_id").uuid().take(),
        optional("content_hash").binary().take(),
        required("document").text().take(),
    ];
    let key = ["care_unit", "booking_request", "ordinal"];
    table("history", &key, columns)
}

/// Calls that succeeded and left nothing in the history to carry their id.
fn quiet_call() -> TableCreateStatement {
    let columns = vec![
        required("care_unit").text().take(),
        required("actor").text().take(),
        required("request_id").uuid().take(),
        required("content_hash").binary().take(),
        optional("booking_request").uuid().take(),
    ];
    let key = ["care_unit", "actor", "request_id"];
    table("quiet_call", &key, columns)
}

fn index(table: &str, name: &str, columns: &[&str]) -> IndexCreateStatement {
    let mut index = Index::create();
    index.table(Alias::new(table)).name(name);
    for column in columns {
        index.col(Alias::new(*column));
    }
    index
}

fn column(name: &str) -> Expr {
    Expr::col(Alias::new(name))
}

fn indexes() -> Vec<IndexCreateStatement> {
    let open_duplicates = index(
        "booking_request",
        "booking_request_duplicate",
        &["care_unit", "duplicate_digest"],
    )
    .unique()
    .and_where(column("allow_duplicate").not())
    .take();
    let worklist = index(
        "booking_request",
        "booking_request_worklist",
        &["care_unit", "worklist", "start_day", "id", "follow_up_at"],
    )
    .and_where(column("worklist").is_not_null())
    .take();
    let guarantee = index(
        "booking_request",
        "booking_request_guarantee",
        &["care_unit", "care_guarantee_day", "state"],
    )
    .and_where(column("care_guarantee_day").is_not_null())
    .take();
    let calls = index(
        "history",
        "history_call",
        &["care_unit", "actor", "request_id"],
    )
    .unique()
    .and_where(column("request_id").is_not_null())
    .take();
    let due = index(
        "notification",
        "notification_due",
        &["channel", "claimable_at"],
    )
    .and_where(column("claimable_at").is_not_null())
    .take();
    vec![
        open_duplicates,
        worklist,
        guarantee,
        index(
            "booking_request",
            "booking_request_patient",
            &["personal_id", "care_unit"],
        ),
        index(
            "booking_request",
            "booking_request_referral",
            &["care_unit", "referral_id"],
        ),
        calls,
        due,
    ]
}
