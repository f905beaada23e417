//! The first schema.
//!
//! The bucket, a hash of the care unit, is the first column of every primary and unique key, so that a distributed database
//! can place rows by it; the care unit is the second. Instants are microseconds since 1970 in UTC, civil dates days of the common era,
//! enums the numbers that the domain gives them. Columns that no query compares stand in `document`, as JSON.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::*;

/// Creates every table and index.
pub struct FirstSchema;

impl MigrationName for FirstSchema {
    fn name(&self) -> &str {
        "m0001_first_schema"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for FirstSchema {
    /// Applies it as a whole or not at all, on SQLite too.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_database_backend();
        manager.create_table(booking_request()).await?;
        manager.create_table(access_log(backend)).await?;
        for mut table in [
            notification(),
            history(),
            idempotency_key(backend),
            care_unit_settings(),
            lost_interval(),
            access_log_patient(backend),
            access_log_identity(),
        ] {
            if backend == DbBackend::Sqlite {
                // Small rows stand in the primary key's own tree: one tree fewer to write.
                table.extra("WITHOUT ROWID");
            }
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        for index in access_log_indexes() {
            manager.create_index(index).await?;
        }
        // SQLite has no replicas to publish to, and no partitions.
        if backend == DbBackend::Postgres {
            manager.create_table(change_event()).await?;
            manager.create_index(change_event_index()).await?;
            for text in DEFAULT_PARTITIONS.iter().chain(&TUNING) {
                manager.get_connection().execute_unprepared(text).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = [
            "access_log_identity",
            "access_log_patient",
            "access_log",
            "lost_interval",
            "care_unit_settings",
            "idempotency_key",
            "history",
            "notification",
            "booking_request",
        ];
        let change_event = match manager.get_database_backend() {
            DbBackend::Postgres => Some("change_event"),
            _ => None,
        };
        for name in change_event.into_iter().chain(tables) {
            let table = Table::drop().table(Alias::new(name)).to_owned();
            manager.drop_table(table).await?;
        }
        Ok(())
    }
}

/// Partitions for entries of months that have none of their own, so that an entry can always be written.
const DEFAULT_PARTITIONS: [&str; 2] = [
    "CREATE TABLE access_log_default PARTITION OF access_log DEFAULT",
    "CREATE TABLE access_log_patient_default PARTITION OF access_log_patient DEFAULT",
];

/// Storage settings. Rows that change leave room on their page for their next version, and dead rows are vacuumed early
/// and without pauses: a claim that wades through dead rows is slow.
const TUNING: [&str; 5] = [
    "ALTER TABLE notification SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, \
     autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)",
    "ALTER TABLE booking_request SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, \
     autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)",
    // Rows are only added: vacuumed for the sake of index-only scans.
    "ALTER TABLE history SET (autovacuum_vacuum_insert_scale_factor = 0.05)",
    "ALTER TABLE change_event SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)",
    // Read once and deleted after some minutes: compressing it took a fifteenth of the server's time at hand-overs.
    "ALTER TABLE change_event ALTER COLUMN content SET STORAGE EXTERNAL",
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
        required("bucket").small_integer().take(),
        required("care_unit").text().take(),
        required("id").uuid().take(),
        required("revision").big_integer().take(),
        required("state").small_integer().take(),
        optional("worklist_group").small_integer().take(),
        optional("follow_up_at").big_integer().take(),
        optional("expires_at").big_integer().take(),
        optional("start_day").integer().take(),
        optional("end_day").integer().take(),
        required("priority").small_integer().take(),
        optional("care_guarantee_day").integer().take(),
        optional("next_notification_at").big_integer().take(),
        optional("hold").small_integer().take(),
        optional("referral_id").text().take(),
        optional("visit_id").text().take(),
        optional("booking_id").text().take(),
        optional("duplicate_digest").binary().take(),
        optional("protected_digest").binary().take(),
        required("document").text().take(),
        required("personal_id").text().take(),
        required("personal_id_type").small_integer().take(),
        optional("issuer").text().take(),
        optional("interpreter_language").text().take(),
        required("letter_format").small_integer().take(),
        required("visit_kind").small_integer().take(),
        required("visit_type_code").text().take(),
        required("allow_duplicate").boolean().take(),
        required("may_have_duplicate").boolean().take(),
        required("created_at").big_integer().take(),
        optional("shown_until").big_integer().take(),
        required("is_protected").boolean().take(),
        // Null while the request is open, so that its index holds what may be purged some day and nothing else.
        optional("settled_at").big_integer().take(),
    ];
    table("booking_request", &["bucket", "care_unit", "id"], columns)
}

fn notification() -> TableCreateStatement {
    let columns = vec![
        required("bucket").small_integer().take(),
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
        optional("lease_addressee").small_integer().take(),
        optional("lease_answer").small_integer().take(),
        required("lease_always_authorizes").boolean().take(),
        required("lease_released").boolean().take(),
        required("attempt_count").integer().take(),
        required("expired_lease_count").integer().take(),
        required("retry_count").integer().take(),
        required("possible_repeat").boolean().take(),
        required("changed_since_lease").boolean().take(),
        optional("sent_at").big_integer().take(),
        optional("cause").small_integer().take(),
        optional("cause_detail").text().take(),
        required("sent_after_change").boolean().take(),
        optional("read_at").big_integer().take(),
        optional("unread_at").big_integer().take(),
        optional("returned_at").big_integer().take(),
        optional("dispatched_at").big_integer().take(),
        optional("not_produced_at").big_integer().take(),
        optional("released_at").big_integer().take(),
        required("id").uuid().take(),
        required("round").integer().take(),
        required("kind").small_integer().take(),
        required("sequence").small_integer().take(),
        required("channel_fixed").boolean().take(),
        required("follows_unread").boolean().take(),
        optional("replaces").uuid().take(),
    ];
    let key = ["bucket", "care_unit", "booking_request", "ordinal"];
    table("notification", &key, columns)
}

fn history() -> TableCreateStatement {
    let columns = vec![
        required("bucket").small_integer().take(),
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
    let key = ["bucket", "care_unit", "booking_request", "ordinal"];
    table("history", &key, columns)
}

/// Describes the keys of writes that changed nothing, and so have no history row to carry them.
fn idempotency_key(backend: DbBackend) -> TableCreateStatement {
    // By the database's clock, which all replicas share.
    let now = match backend {
        DbBackend::Postgres => "(extract(epoch FROM now()) * 1000000)::bigint",
        _ => "(unixepoch() * 1000000)",
    };
    let columns = vec![
        required("bucket").small_integer().take(),
        required("care_unit").text().take(),
        required("actor").text().take(),
        required("request_id").uuid().take(),
        required("content_hash").binary().take(),
        optional("booking_request").uuid().take(),
        optional("answer").text().take(),
        required("recorded_at")
            .big_integer()
            .default(Expr::cust(now))
            .take(),
    ];
    let key = ["bucket", "care_unit", "actor", "request_id"];
    table("idempotency_key", &key, columns)
}

fn care_unit_settings() -> TableCreateStatement {
    let columns = vec![
        required("bucket").small_integer().take(),
        required("care_unit").text().take(),
        required("revision").big_integer().take(),
        required("updated_at").big_integer().take(),
        required("document").text().take(),
    ];
    table("care_unit_settings", &["bucket", "care_unit"], columns)
}

/// Describes the intervals of which commits were lost: a row a restore. Its key has no bucket in front: all were restored
/// together.
fn lost_interval() -> TableCreateStatement {
    let columns = vec![
        required("since").big_integer().take(),
        required("until").big_integer().take(),
    ];
    table("lost_interval", &["since"], columns)
}

/// Describes the access log: a row for each care unit and outcome of a call. Its key has no bucket in front: rows are
/// read by time, and some have none.
fn access_log(backend: DbBackend) -> TableCreateStatement {
    let columns = vec![
        required("recorded_at").big_integer().take(),
        required("chain").uuid().take(),
        required("sequence").big_integer().take(),
        optional("care_unit").text().take(),
        required("subject").text().take(),
        optional("actor").text().take(),
        required("method").text().take(),
        required("outcome").small_integer().take(),
        optional("trace_id").text().take(),
        required("document").text().take(),
        required("previous_hash").binary().take(),
        required("hash").binary().take(),
    ];
    let key = ["recorded_at", "chain", "sequence"];
    by_month(table("access_log", &key, columns), backend)
}

/// Describes where in the access log a patient stands.
fn access_log_patient(backend: DbBackend) -> TableCreateStatement {
    let columns = vec![
        required("personal_id").text().take(),
        required("personal_id_type").small_integer().take(),
        required("issuer").text().take(),
        required("recorded_at").big_integer().take(),
        required("chain").uuid().take(),
        required("sequence").big_integer().take(),
    ];
    let key = [
        "personal_id",
        "personal_id_type",
        "issuer",
        "recorded_at",
        "chain",
        "sequence",
    ];
    by_month(table("access_log_patient", &key, columns), backend)
}

/// Describes what is known of identity numbers in the access log and requests do not say any more: a row for each
/// number that had protected identity, and for each that took the place of another.
fn access_log_identity() -> TableCreateStatement {
    let columns = vec![
        required("personal_id").text().take(),
        required("personal_id_type").small_integer().take(),
        required("issuer").text().take(),
        required("next_personal_id").text().take(),
        required("next_personal_id_type").small_integer().take(),
        required("next_issuer").text().take(),
    ];
    let key = [
        "personal_id",
        "personal_id_type",
        "issuer",
        "next_personal_id",
        "next_personal_id_type",
        "next_issuer",
    ];
    table("access_log_identity", &key, columns)
}

/// Partitions a table by time on PostgreSQL, so that purging a month is to drop a table.
fn by_month(mut table: TableCreateStatement, backend: DbBackend) -> TableCreateStatement {
    if backend == DbBackend::Postgres {
        table.extra("PARTITION BY RANGE (recorded_at)");
    }
    table
}

fn access_log_indexes() -> [IndexCreateStatement; 3] {
    let of = |column| {
        index(
            "access_log",
            &format!("access_log_{column}"),
            &[column, "recorded_at"],
        )
    };
    let next = ["next_personal_id", "next_personal_id_type", "next_issuer"];
    let next = index("access_log_identity", "access_log_identity_next", &next);
    [of("subject"), of("care_unit"), next]
}

/// Describes the outbox: a row a commit, for other replicas, every one of which reads it. It is in a bucket of the commit, so
/// that one server has all that is committed together.
fn change_event() -> TableCreateStatement {
    let now = "(extract(epoch FROM statement_timestamp()) * 1000000)::bigint";
    let columns = vec![
        required("bucket").small_integer().take(),
        required("replica").uuid().take(),
        required("number").big_integer().take(),
        required("written_at")
            .big_integer()
            .default(Expr::cust(now))
            .take(),
        required("content").text().take(),
    ];
    table("change_event", &["bucket", "replica", "number"], columns)
}

fn change_event_index() -> IndexCreateStatement {
    index("change_event", "change_event_written", &["written_at"])
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

/// Describes the index that finds the few requests of a visit or a booking in whatever care units they are.
fn of_subject(name: &str) -> IndexCreateStatement {
    let text = format!("booking_request_{}", name.trim_end_matches("_id"));
    index("booking_request", &text, &[name, "care_unit"])
        .and_where(column(name).is_not_null())
        .take()
}

/// Describes the index that finds the open requests which time alone changes at an instant.
fn time_changes(name: &str, at: &str) -> IndexCreateStatement {
    let name = format!("booking_request_{name}");
    index("booking_request", &name, &[at, "id", "care_unit"])
        .and_where(column("worklist_group").is_not_null())
        .take()
}

fn indexes() -> Vec<IndexCreateStatement> {
    let open_duplicates = index(
        "booking_request",
        "booking_request_duplicate",
        &["bucket", "care_unit", "duplicate_digest"],
    )
    .unique()
    .and_where(column("allow_duplicate").not())
    .and_where(column("may_have_duplicate").not())
    .take();
    let protected = index(
        "booking_request",
        "booking_request_protected",
        &["protected_digest"],
    )
    .and_where(column("protected_digest").is_not_null())
    .take();
    let worklist = index(
        "booking_request",
        "booking_request_worklist",
        &[
            "care_unit",
            "worklist_group",
            "start_day",
            "id",
            "follow_up_at",
        ],
    )
    .and_where(column("worklist_group").is_not_null())
    .take();
    // The one list that is read over all care units: of manual handling, 4, and parked withdrawals, 7.
    let manual_handling = index(
        "booking_request",
        "booking_request_manual_handling",
        &[
            "worklist_group",
            "start_day",
            "care_unit",
            "id",
            "follow_up_at",
        ],
    )
    .and_where(column("worklist_group").is_in([4, 7]))
    .take();
    let guarantee = index(
        "booking_request",
        "booking_request_guarantee",
        &["care_unit", "care_guarantee_day", "state"],
    )
    .and_where(column("care_guarantee_day").is_not_null())
    .take();
    let idempotency = index(
        "history",
        "history_idempotency_key",
        &["bucket", "care_unit", "actor", "request_id"],
    )
    .unique()
    .and_where(column("request_id").is_not_null())
    .take();
    // Whatever the care unit: what is read along it is the little that has been recorded lately.
    let recorded = index(
        "history",
        "history_recorded",
        &["recorded_at", "booking_request", "ordinal", "care_unit"],
    );
    let due = index(
        "notification",
        "notification_due",
        &["bucket", "care_unit", "channel", "claimable_at"],
    )
    .and_where(column("claimable_at").is_not_null())
    .take();
    let settled = index(
        "booking_request",
        "booking_request_settled",
        &["settled_at"],
    )
    .and_where(column("settled_at").is_not_null())
    .take();
    vec![
        open_duplicates,
        protected,
        worklist,
        manual_handling,
        guarantee,
        index(
            "booking_request",
            "booking_request_patient",
            &["personal_id", "personal_id_type", "issuer", "care_unit"],
        ),
        index(
            "booking_request",
            "booking_request_referral",
            &["referral_id", "care_unit"],
        ),
        of_subject("visit_id"),
        of_subject("booking_id"),
        time_changes("follow_up", "follow_up_at"),
        time_changes("expires", "expires_at"),
        idempotency,
        recorded,
        due,
        settled,
    ]
}
