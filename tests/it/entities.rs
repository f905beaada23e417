//! Entities: they have the columns of the database, and give back every record as it was stored.

use std::collections::{BTreeMap, BTreeSet};

use care_invitation::domain::Change;
use care_invitation::domain::access::{Access, AccessFilter, Concerned, Concerns, LoggedAccess};
use care_invitation::domain::booking_request::BookingRequest;
use care_invitation::domain::booking_request::field::Field;
use care_invitation::domain::booking_request::form::{
    Booking, BookingSource, Constraints, Form, Origin, PatientInstructions, Priority, VisitKind,
    VisitType,
};
use care_invitation::domain::booking_request::record_booking_cancellation::Cancellations;
use care_invitation::domain::booking_request::record_patient_contact::{
    ContactMedium, PatientContact,
};
use care_invitation::domain::booking_request::series::Series;
use care_invitation::domain::booking_request::state::{
    CancelReason, ChangeReason, EffectiveState, State,
};
use care_invitation::domain::calendar::{Instant, Period, TimeWindow, Weekdays, from_micros};
use care_invitation::domain::care_invitation::{CareInvitation, Hold, HoldReason};
use care_invitation::domain::care_unit_settings::{
    CareUnitSettings, Schedule, Settings, VisitTypeSettings,
};
use care_invitation::domain::care_units::CareUnits;
use care_invitation::domain::history::{Contact, Elapsed, Event, HistoryEntry};
use care_invitation::domain::hsa_id::HsaId;
use care_invitation::domain::notification;
use care_invitation::domain::notification::Cause;
use care_invitation::domain::notification::{
    ChannelReason, DeliveryChannel, Kind, Lease, Notification, Outcome,
};
use care_invitation::domain::patient::{
    Addressee, InboxReach, LetterFormat, Patient, PersonalId, PersonalIdType, Protection,
};
use care_invitation::store::Store;
use care_invitation::store::entity::notification::StoredKind;
use care_invitation::store::entity::{
    access_log, access_log_identity, access_log_patient, booking_request, care_unit_settings,
    change_event, history, idempotency_key, lost_interval, notification as stored_notification,
};
use chrono::{Days, NaiveDate, NaiveTime};
use sea_orm::sea_query::ColumnType;
use sea_orm::{
    ColumnTrait, ConnectionTrait, Database, DbBackend, EntityTrait, IdenStatic, Iterable,
    PrimaryKeyToColumn, Statement,
};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::backend::{Backend, Kind as Databases};
use crate::make;
use crate::model::rng::Rng;
use crate::store_fixtures::call;

/// Records of each test.
const RECORDS: u64 = 128;
/// Records that are stored at once: few enough that none waits long for a connection.
const AT_ONCE: usize = 4;
/// Changes of each record.
const CHANGES: usize = 4;

#[tokio::test]
async fn every_entity_has_the_columns_of_its_table() {
    let backend = Backend::empty().await;
    let mut tables = BTreeSet::new();
    agree::<booking_request::Entity>(&backend, &mut tables).await;
    agree::<stored_notification::Entity>(&backend, &mut tables).await;
    agree::<history::Entity>(&backend, &mut tables).await;
    agree::<idempotency_key::Entity>(&backend, &mut tables).await;
    agree::<care_unit_settings::Entity>(&backend, &mut tables).await;
    agree::<lost_interval::Entity>(&backend, &mut tables).await;
    agree::<access_log::Entity>(&backend, &mut tables).await;
    agree::<access_log_patient::Entity>(&backend, &mut tables).await;
    agree::<access_log_identity::Entity>(&backend, &mut tables).await;
    if Databases::of_this_run() == Databases::Postgres {
        agree::<change_event::Entity>(&backend, &mut tables).await;
    }
    let all = match Databases::of_this_run() {
        Databases::Sqlite => "SELECT name FROM sqlite_schema WHERE type = 'table'",
        Databases::Postgres => {
            "SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition \
             AND relnamespace = current_schema::regnamespace"
        }
    };
    let mut all: BTreeSet<String> = rows(&backend, all).await.into_iter().collect();
    assert!(all.remove("seaql_migrations"));
    assert_eq!(all, tables);
}

/// Compares the columns of an entity with those of its table: name, type, null, and place in the key.
async fn agree<E: EntityTrait>(backend: &Backend, tables: &mut BTreeSet<String>) {
    let table = E::default().table_name().to_owned();
    let kind = Databases::of_this_run();
    let of_key: Vec<E::Column> = E::PrimaryKey::iter().map(|it| it.into_column()).collect();
    let of_entity = E::Column::iter().map(|column| {
        let def = column.def();
        let place = of_key.iter().position(|it| it.as_str() == column.as_str());
        let place = place.map_or(0, |place| place + 1);
        let null = if def.is_null() { "null" } else { "not null" };
        let of_type = match def.get_column_type() {
            ColumnType::Text => "text",
            ColumnType::Uuid => "uuid",
            ColumnType::SmallInteger => "smallint",
            ColumnType::Integer => "integer",
            // In SQLite any number is as wide as it must be.
            ColumnType::BigInteger if kind == Databases::Sqlite => "integer",
            ColumnType::BigInteger => "bigint",
            ColumnType::Boolean => "boolean",
            ColumnType::Blob | ColumnType::VarBinary(_) => "bytea",
            other => panic!("{table}.{}: {other:?}", column.as_str()),
        };
        format!("{} {of_type} {null} {place}", column.as_str())
    });
    let of_table = match kind {
        Databases::Sqlite => format!(
            "SELECT name || ' ' || CASE lower(type) WHEN 'blob(1)' THEN 'bytea' WHEN 'uuid_text' THEN 'uuid' \
             ELSE lower(type) END || CASE WHEN \"notnull\" THEN ' not null ' ELSE ' null ' END || pk \
             FROM pragma_table_info('{table}')"
        ),
        Databases::Postgres => format!(
            "SELECT attname || ' ' || format_type(atttypid, atttypmod) \
             || CASE WHEN attnotnull THEN ' not null ' ELSE ' null ' END \
             || coalesce(array_position(i.indkey::int[], attnum::int), -1) + 1 \
             FROM pg_attribute LEFT JOIN pg_index AS i ON i.indrelid = attrelid AND i.indisprimary \
             WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped"
        ),
    };
    let of_table: BTreeSet<String> = rows(backend, &of_table).await.into_iter().collect();
    assert_eq!(of_entity.collect::<BTreeSet<String>>(), of_table, "{table}");
    tables.insert(table);
}

/// Returns the texts that a query yields.
async fn rows(backend: &Backend, sql: &str) -> Vec<String> {
    let connection = Database::connect(backend.url()).await.expect("connected");
    let of_backend: DbBackend = connection.get_database_backend();
    let rows = connection.query_all_raw(Statement::from_string(of_backend, sql));
    let rows = rows.await.expect("read");
    let texts = rows
        .iter()
        .map(|row| row.try_get_by_index(0).expect("a text"));
    let texts = texts.collect();
    connection.close().await.expect("closed");
    texts
}

/// Tables without buckets: those that every server has whole, and those of the access log.
const WITHOUT_BUCKETS: [&str; 5] = [
    "access_log",
    "access_log_identity",
    "access_log_patient",
    "lost_interval",
    "seaql_migrations",
];

#[tokio::test]
async fn every_unique_key_begins_with_the_bucket() {
    let backend = Backend::empty().await;
    let keys = match Databases::of_this_run() {
        Databases::Sqlite => {
            "SELECT t.name || ' ' || i.name || ' ' || c.name FROM sqlite_schema AS t \
             JOIN pragma_index_list(t.name) AS i ON i.\"unique\" \
             JOIN pragma_index_info(i.name) AS c ON c.seqno = 0 WHERE t.type = 'table'"
        }
        Databases::Postgres => {
            "SELECT indrelid::regclass || ' ' || indexrelid::regclass || ' ' || attname FROM pg_index \
             JOIN pg_class ON oid = indrelid AND NOT relispartition AND relnamespace = current_schema::regnamespace \
             JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0] WHERE indisunique"
        }
    };
    let of_table = |key: &String, table| key.split(' ').next() == Some(table);
    let mut keys = rows(&backend, keys).await;
    for table in WITHOUT_BUCKETS {
        assert!(keys.iter().any(|key| of_table(key, table)));
        keys.retain(|key| !of_table(key, table));
    }
    assert!(keys.len() >= 7, "five tables, and two more keys: {keys:?}");
    let others = keys.iter().filter(|key| !key.ends_with(" bucket"));
    assert_eq!(others.count(), 0, "{keys:?}");
}

#[tokio::test]
async fn every_record_is_read_as_it_was_stored() {
    let backend = Backend::empty().await;
    let mut seeds = 0..RECORDS;
    let mut tasks = JoinSet::new();
    for seed in seeds.by_ref().take(AT_ONCE) {
        tasks.spawn(store_and_change(backend.store.clone(), seed));
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("as it was stored");
        if let Some(seed) = seeds.next() {
            tasks.spawn(store_and_change(backend.store.clone(), seed));
        }
    }
}

#[tokio::test]
async fn settings_of_a_care_unit_are_read_as_they_were_stored() {
    let backend = Backend::empty().await;
    let store = &backend.store;
    let care_unit = make::key().care_unit;
    let mut rng = Rng::new(0);
    let mut expected = CareUnitSettings::none(care_unit.clone());
    for revision in 1..=i64::try_from(RECORDS).expect("a few") {
        expected = CareUnitSettings {
            settings: settings(&mut rng),
            revision,
            updated_at: Some(instant(&mut rng)),
            ..expected
        };
        let next = expected.clone();
        let decide = move |_: &CareUnitSettings| Ok(next.clone());
        // Past every pause, of which there is nothing to revoke.
        let context = || make::context(Instant::MAX_UTC);
        let written = store.update_settings(call(), care_unit.clone(), decide, context);
        assert_eq!(written.await.expect("stored").after, expected);
        let read = store.read_settings(&care_unit).await.expect("read");
        assert_eq!(read, expected);
        assert_eq!(store.settings().0[&care_unit], expected);
    }
}

#[tokio::test]
async fn entries_of_the_access_log_are_read_as_they_were_stored() {
    let backend = Backend::empty().await;
    let store = &backend.store;
    let mut rng = Rng::new(0);
    let mut expected: Vec<Access> = (0..RECORDS).map(|_| access(&mut rng)).collect();
    // In a chain time never goes backwards.
    expected.sort_by_key(|it| it.at);
    for accesses in expected.chunks(5) {
        store.log_access(accesses.to_vec()).await.expect("stored");
    }
    expected.reverse();
    let read = entries(store, &AccessFilter::default()).await;
    assert_eq!(read, expected);
    let patients = |it: &Access| -> BTreeSet<PersonalId> {
        let concerned = it.concerns.concerned.iter();
        concerned.filter_map(|it| it.patient.clone()).collect()
    };
    for patient in expected.iter().flat_map(patients) {
        let filter = AccessFilter {
            patient: Some(patient.clone()),
            ..AccessFilter::default()
        };
        let mut theirs = expected.clone();
        theirs.retain(|it| patients(it).contains(&patient));
        assert_eq!(entries(store, &filter).await, theirs);
    }
}

/// The entries that a filter lets through, the newest first.
async fn entries(store: &Store, filter: &AccessFilter) -> Vec<Access> {
    let read = store.access_log(filter, &CareUnits::Every, None, 1_000);
    let read = read.await.expect("read").into_iter();
    let entry = |it: Option<LoggedAccess>| it.expect("every entry can be decoded").access;
    read.map(|(_, it)| entry(it)).collect()
}

/// An entry with patients in their order.
fn access(rng: &mut Rng) -> Access {
    let mut patients = BTreeMap::new();
    for _ in 0..rng.below(4) {
        let kind = rng.pick(PersonalIdType::ALL);
        let patient = PersonalId::from_stored(kind, maybe(rng, name), name(rng));
        let requests: BTreeSet<Uuid> = (0..rng.below(3)).map(|_| uuid(rng)).collect();
        patients.insert(maybe(rng, |_| patient.clone()), requests);
    }
    let concerned = patients.into_iter().map(|(patient, requests)| Concerned {
        patient,
        requests: requests.into_iter().collect(),
    });
    // One without a request and a patient is about nobody.
    let concerned = concerned.filter(|it| it.patient.is_some() || !it.requests.is_empty());
    Access {
        at: instant(rng),
        subject: text(rng),
        actor: maybe(rng, text),
        method: text(rng),
        trace_id: maybe(rng, text),
        concerns: Concerns {
            care_unit: maybe(rng, |rng| HsaId::from_stored(text(rng))),
            outcome: small(rng).into(),
            concerned: concerned.collect(),
        },
    }
}

/// A text that is not empty.
fn name(rng: &mut Rng) -> String {
    format!("{}x", text(rng))
}

fn settings(rng: &mut Rng) -> Settings {
    let mut visit_types = BTreeMap::new();
    for _ in 0..rng.below(4) {
        visit_types.insert(text(rng), visit_type_settings(rng));
    }
    Settings {
        general: visit_type_settings(rng),
        send_time: maybe(rng, clock),
        letter_until_age: maybe(rng, days),
        guardian_until_age: maybe(rng, days),
        move_deadline_hours: maybe(rng, days),
        paused_until: maybe(rng, instant),
        visit_types,
    }
}

fn visit_type_settings(rng: &mut Rng) -> VisitTypeSettings {
    VisitTypeSettings {
        lead_days: maybe(rng, days),
        reminder_count: maybe(rng, days),
        reminder_gap_days: maybe(rng, days),
        no_response_days: maybe(rng, days),
        guarantee_days: maybe(rng, days),
    }
}

fn days(rng: &mut Rng) -> u32 {
    u32::try_from(rng.below(400)).expect("a few days")
}

/// Stores a random record and random changes of it, and reads each back.
async fn store_and_change(store: Store, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut expected = record(&mut rng);
    let mut entries = Vec::new();
    let key = expected.key.clone();
    for number in 0..=CHANGES {
        let written: Vec<HistoryEntry> = (0..rng.below(3)).map(|_| entry(&mut rng)).collect();
        entries.extend(written.iter().cloned());
        expected.history_count = i32::try_from(entries.len()).expect("a few");
        let change = Change {
            record: expected.clone(),
            history: written,
        };
        let stored = match number {
            0 => {
                let form = expected.form.clone();
                let decide = move || Ok(vec![change.clone()]);
                store.create(call(), key.clone(), &form, 1, decide).await
            }
            _ => {
                let decide = move |_: Option<&BookingRequest>| Ok(change.clone());
                store.update(call(), key.clone(), decide).await
            }
        };
        assert_eq!(stored.expect("stored").record, expected, "seed {seed}");
        assert_eq!(
            store.get(&key).await.expect("read"),
            expected,
            "seed {seed}"
        );
        let history = store.history(&key, 0, 1_000).await.expect("read");
        let history: Vec<HistoryEntry> = history.into_iter().filter_map(|(_, it)| it).collect();
        assert_eq!(history, entries, "seed {seed}");
        expected = changed(&mut rng, expected);
    }
}

/// Returns another record of the same request: other in all that may change, or in what a hand-over changes.
fn changed(rng: &mut Rng, before: BookingRequest) -> BookingRequest {
    let mut after = if rng.chance(50) {
        before.clone()
    } else {
        record(rng)
    };
    after.key = before.key;
    after.revision = before.revision + 1;
    after.allow_duplicate = before.allow_duplicate;
    after.created_at = before.created_at;
    after.form.patient.personal_id = before.form.patient.personal_id;
    let planned = before.care_invitation.map(|it| it.notifications);
    let planned = planned.unwrap_or_default();
    // What was planned stays, in its place.
    let mut invitation = after.care_invitation.take();
    if invitation.is_none() && !planned.is_empty() {
        invitation = Some(self::invitation(rng));
    }
    if let Some(invitation) = &mut invitation {
        let mut notifications: Vec<Notification> = planned
            .into_iter()
            .map(|old| match rng.below(3) {
                0 => old,
                1 => Notification {
                    lease: maybe(rng, lease),
                    attempt_count: number(rng),
                    ..old
                },
                _ => Notification {
                    id: old.id,
                    round: old.round,
                    kind: old.kind,
                    channel_fixed: old.channel_fixed,
                    follows_unread: old.follows_unread,
                    replaces: old.replaces,
                    ..notification(rng)
                },
            })
            .collect();
        notifications.extend((0..rng.below(2)).map(|_| notification(rng)));
        invitation.notifications = notifications;
    }
    after.care_invitation = invitation;
    after
}

fn record(rng: &mut Rng) -> BookingRequest {
    let origin = match rng.chance(50) {
        true => Origin::Referral {
            referral_id: text(rng),
            decision_date: maybe(rng, date),
        },
        false => Origin::PreviousVisit {
            visit_id: text(rng),
            referral_id: maybe(rng, text),
            decision_date: maybe(rng, date),
        },
    };
    let patient = Patient {
        personal_id: PersonalId::from_stored(
            rng.pick(PersonalIdType::ALL),
            maybe(rng, text),
            text(rng),
        ),
        protection: maybe(rng, |rng| rng.pick(Protection::ALL)),
        inbox_reach: maybe(rng, |rng| rng.pick(InboxReach::ALL)),
        language: text(rng),
        addressee: maybe(rng, |rng| rng.pick(Addressee::ALL)),
        interpreter_language: maybe(rng, text),
        letter_format: rng.pick(LetterFormat::ALL),
    };
    BookingRequest {
        key: make::key(),
        form: Form {
            patient,
            origin,
            visit_kind: rng.pick(VisitKind::ALL),
            visit_type: VisitType {
                code: text(rng),
                display_name: text(rng),
            },
            purpose: text(rng),
            patient_instructions: PatientInstructions {
                visit_length: text(rng),
                supplementary: text(rng),
                sampling_before_visit: text(rng),
                sampling_information: text(rng),
            },
            internal_comment: text(rng),
            summons: rng.chance(50),
            invitation: rng.chance(50),
            constraints: maybe(rng, constraints),
            booking: maybe(rng, booking),
            priority: rng.pick(Priority::ALL),
        },
        state: rng.pick(State::ALL),
        care_invitation: maybe(rng, invitation),
        cancel_reason: maybe(rng, |rng| rng.pick(CancelReason::ALL)),
        cancellations: Cancellations {
            by_patient: number(rng),
            by_unit: number(rng),
            no_shows: number(rng),
        },
        closed_at: maybe(rng, instant),
        last_contact: maybe(rng, patient_contact),
        care_guarantee_date: maybe(rng, date),
        allow_duplicate: true,
        may_have_duplicate: rng.chance(50),
        series: maybe(rng, series),
        revision: 1,
        history_count: 0,
        created_at: instant(rng),
        updated_at: instant(rng),
    }
}

fn series(rng: &mut Rng) -> Series {
    Series {
        position: number(rng),
        members: (0..rng.below(13)).map(|_| Uuid::new_v4()).collect(),
    }
}

fn patient_contact(rng: &mut Rng) -> PatientContact {
    PatientContact {
        outcome: rng.pick(Contact::ALL),
        at: instant(rng),
        medium: maybe(rng, |rng| rng.pick(ContactMedium::ALL)),
    }
}

fn schedule(rng: &mut Rng) -> Schedule {
    let mut days = || u32::try_from(rng.below(181)).expect("a few days");
    Schedule {
        lead_days: days(),
        reminder_gap_days: days(),
        no_response_days: days(),
        reminder_count: u32::try_from(rng.below(6)).expect("a small number"),
        send_time: clock(rng),
    }
}

fn clock(rng: &mut Rng) -> NaiveTime {
    let minute = u32::try_from(rng.below(24 * 60)).expect("a minute of a day");
    NaiveTime::from_hms_opt(minute / 60, minute % 60, 0).expect("a time of day")
}

fn invitation(rng: &mut Rng) -> CareInvitation {
    let hold = |rng: &mut Rng| match rng.pick(HoldReason::ALL) {
        HoldReason::ProtectedIdentity => Hold::ProtectedIdentity,
        HoldReason::Undeliverable => Hold::Undeliverable,
        HoldReason::Parked => Hold::Parked,
        HoldReason::NoSuitableTime => Hold::NoSuitableTime,
        HoldReason::CallBack => Hold::CallBack,
        HoldReason::Contacted => Hold::Contacted,
        HoldReason::WillBook => Hold::WillBook { until: date(rng) },
    };
    CareInvitation {
        round: number(rng),
        invited_at: instant(rng),
        schedule: schedule(rng),
        hold: maybe(rng, hold),
        staff_channel: maybe(rng, |rng| rng.pick(DeliveryChannel::ALL)),
        inbox_failed: rng.chance(50),
        withdraw_when_sent: rng.chance(50),
        no_response_at: maybe(rng, instant),
        will_book_at: maybe(rng, instant),
        opened_before: rng.chance(50),
        notifications: (0..rng.below(4)).map(|_| notification(rng)).collect(),
    }
}

fn kind(rng: &mut Rng) -> Kind {
    match rng.pick(StoredKind::ALL) {
        StoredKind::Invitation => Kind::Invitation,
        StoredKind::Reminder => Kind::Reminder {
            sequence: small(rng),
        },
        StoredKind::Withdrawal => Kind::Withdrawal,
    }
}

fn notification(rng: &mut Rng) -> Notification {
    Notification {
        id: uuid(rng),
        round: number(rng),
        kind: kind(rng),
        state: rng.pick(notification::State::ALL),
        channel: rng.pick(DeliveryChannel::ALL),
        channel_reason: rng.pick(ChannelReason::ALL),
        channel_fixed: rng.chance(50),
        follows_unread: rng.chance(50),
        due_at: instant(rng),
        retry_at: maybe(rng, instant),
        claimable_at: maybe(rng, instant),
        lease: maybe(rng, lease),
        attempt_count: number(rng),
        expired_lease_count: number(rng),
        retry_count: number(rng),
        possible_repeat: rng.chance(50),
        released_at: maybe(rng, instant),
        changed_since_lease: rng.chance(50),
        sent_at: maybe(rng, instant),
        cause: maybe(rng, |rng| rng.pick(Cause::ALL)),
        cause_detail: text(rng),
        sent_after_change: rng.chance(50),
        read_at: maybe(rng, instant),
        unread_at: maybe(rng, instant),
        returned_at: maybe(rng, instant),
        dispatched_at: maybe(rng, instant),
        not_produced_at: maybe(rng, instant),
        replaces: maybe(rng, uuid),
    }
}

fn lease(rng: &mut Rng) -> Lease {
    Lease {
        token: uuid(rng),
        expires_at: instant(rng),
        first_at: instant(rng),
        addressee: rng.pick(Addressee::ALL),
        answer: maybe(rng, |rng| rng.pick(Outcome::ALL)),
        always_authorizes: rng.chance(50),
        released: rng.chance(50),
    }
}

fn constraints(rng: &mut Rng) -> Constraints {
    let window = |rng: &mut Rng| TimeWindow {
        start_minute: minutes(rng),
        end_minute: minutes(rng),
    };
    Constraints {
        period: Period {
            first: date(rng),
            last: date(rng),
        },
        weekdays: Weekdays::from_bits(rng.next().to_be_bytes()[0]),
        time_windows: (0..rng.below(3)).map(|_| window(rng)).collect(),
        duration_minutes: minutes(rng),
        performer_ids: (0..rng.below(3)).map(|_| text(rng)).collect(),
    }
}

fn booking(rng: &mut Rng) -> Booking {
    Booking {
        booking_id: text(rng),
        start_at: instant(rng),
        end_at: instant(rng),
        source: rng.pick(BookingSource::ALL),
        performer_id: maybe(rng, text),
        override_reason: text(rng),
    }
}

fn entry(rng: &mut Rng) -> HistoryEntry {
    HistoryEntry {
        at: instant(rng),
        actor: text(rng),
        event: rng.pick(Event::ALL),
        revision: i64::try_from(rng.below(1_000)).expect("a small number"),
        state_before: maybe(rng, |rng| rng.pick(EffectiveState::ALL)),
        state: rng.pick(EffectiveState::ALL),
        elapsed: (0..rng.below(3)).map(|_| elapsed(rng)).collect(),
        next_transition_at: maybe(rng, instant),
        change_reason: maybe(rng, |rng| rng.pick(ChangeReason::ALL)),
        cancel_reason: maybe(rng, |rng| rng.pick(CancelReason::ALL)),
        comment: text(rng),
        notification: maybe(rng, uuid),
        constraints: maybe(rng, constraints),
        booking: maybe(rng, booking),
        contact: maybe(rng, |rng| rng.pick(Contact::ALL)),
        cause: maybe(rng, |rng| rng.pick(Cause::ALL)),
        changed_fields: (0..rng.below(4)).map(|_| rng.pick(Field::ALL)).collect(),
    }
}

fn elapsed(rng: &mut Rng) -> Elapsed {
    Elapsed {
        at: instant(rng),
        event: rng.pick(Event::ALL),
        before: rng.pick(EffectiveState::ALL),
        after: rng.pick(EffectiveState::ALL),
    }
}

fn maybe<T>(rng: &mut Rng, value: impl Fn(&mut Rng) -> T) -> Option<T> {
    rng.chance(50).then(|| value(rng))
}

/// Returns a text with characters that SQL, JSON and arrays write in a special way.
fn text(rng: &mut Rng) -> String {
    const CHARACTERS: [char; 16] = [
        'a',
        'Å',
        'ö',
        ' ',
        '\'',
        '"',
        '\\',
        '{',
        '}',
        ',',
        '\n',
        '$',
        '?',
        '%',
        '\u{1F600}',
        '0',
    ];
    (0..rng.below(12)).map(|_| rng.pick(&CHARACTERS)).collect()
}

fn uuid(rng: &mut Rng) -> Uuid {
    Uuid::from_u64_pair(rng.next(), rng.next())
}

fn number(rng: &mut Rng) -> i32 {
    i32::try_from(rng.below(1 << 31)).expect("less than the maximum")
}

fn small(rng: &mut Rng) -> i16 {
    i16::try_from(rng.below(1 << 15)).expect("less than the maximum")
}

fn minutes(rng: &mut Rng) -> u32 {
    u32::try_from(rng.below(1_441)).expect("of a day")
}

/// Returns a day from the year 1 on.
fn date(rng: &mut Rng) -> NaiveDate {
    let first = NaiveDate::from_ymd_opt(1, 1, 1).expect("a date");
    first + Days::new(rng.below(3_652_000))
}

/// Returns an instant of the years 1900 to 9000.
fn instant(rng: &mut Rng) -> Instant {
    const SECOND: u64 = 1_000_000;
    let micros = rng.below(224_000_000_000 * SECOND);
    from_micros(i64::try_from(micros).expect("less than the maximum") - 2_208_988_800_000_000)
}
