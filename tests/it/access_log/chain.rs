//! The chain: what is durable before an answer, after restarts, when the database fails, and when entries
//! are purged.

use std::time::Duration;

use care_invitation::clock::Clock;
use care_invitation::contract::v1;
use care_invitation::contract::v1::stream_due_notifications_response::Event;
use care_invitation::domain::access::{Access, AccessFilter, Concerned, Concerns};
use care_invitation::domain::calendar::ClockReading;
use care_invitation::domain::calendar::Instant;
use care_invitation::domain::care_units::CareUnits;
use care_invitation::domain::hsa_id::HsaId;
use care_invitation::domain::patient::{PersonalId, PersonalIdType};
use care_invitation::grpc::middleware::Limits;
use care_invitation::store::Store;
use care_invitation::store::access_log::verify::{Finding, Verified, verify};
use care_invitation::store::purge::{AccessTooRecent, Cutoffs, purge};
use care_invitation::store::schema::Schema;
use chrono::TimeDelta;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_types::StatusExt;
use uuid::Uuid;

use super::{PATIENT, all};
use crate::backend::{Backend, Kind, connect};
use crate::consumer::everything;
use crate::harness::{Harness, refusal, within};
use crate::logged::Log;
use crate::make;
use crate::make::at;
use crate::migration::{Empty, texts};

pub const NOW: &str = "2026-03-02T09:00:00Z";

/// An entry about a patient and a request.
pub fn access(at: Instant, number: &str) -> Access {
    let patient = PersonalId::from_stored(PersonalIdType::Personnummer, None, number.into());
    Access {
        at,
        subject: "somebody".into(),
        actor: Some("STAFF:SE2321000131-E1".into()),
        method: "WorklistService/ListWorklist".into(),
        trace_id: None,
        concerns: Concerns {
            care_unit: HsaId::parse(make::CARE_UNIT),
            outcome: 0,
            concerned: vec![Concerned {
                patient: Some(patient),
                requests: vec![Uuid::from_u128(7)],
            }],
        },
    }
}

/// Stores so many entries, each by itself, and closes the database.
pub async fn filled(database: &Empty, count: usize) {
    let store = Store::open(&database.url, Schema::Migrate)
        .await
        .expect("a database");
    for _ in 0..count {
        store
            .log_access(vec![access(at(NOW), PATIENT)])
            .await
            .expect("stored");
    }
    store.close().await;
    drop(store);
}

/// What a verification finds.
pub async fn verified(database: &Empty) -> Verified {
    verify(&database.url, &[], &mut |_, _, _| ())
        .await
        .expect("read")
}

#[tokio::test]
async fn entries_of_concurrent_calls_form_one_chain_that_goes_on_after_a_restart() {
    for database in Empty::each().await {
        for _ in 0..2 {
            let store = Store::open(&database.url, Schema::Migrate)
                .await
                .expect("a database");
            let mut tasks = JoinSet::new();
            for _ in 0..50 {
                let store = store.clone();
                tasks.spawn(
                    async move { store.log_access(vec![access(at(NOW), PATIENT); 2]).await },
                );
            }
            for stored in tasks.join_all().await {
                stored.expect("stored");
            }
            store.close().await;
            drop(store);
        }
        let found = verified(&database).await;
        assert_eq!((found.rows, found.findings.as_slice()), (200, &[][..]));
        let lasts: Vec<i64> = found.chains.values().map(|it| it.last).collect();
        match database.url.starts_with("sqlite:") {
            true => assert_eq!(lasts, [200]),
            false => assert_eq!(lasts, [100, 100], "a chain for each replica"),
        }
    }
}

#[tokio::test]
async fn the_head_of_a_chain_is_in_the_log_a_minute_after_it_has_moved() {
    for database in Empty::each().await {
        let log = Log::default();
        let _listening = log.listen();
        let store = Store::open(&database.url, Schema::Migrate)
            .await
            .expect("a database");
        let heads = || log.lines("access log head=");
        let write = async || {
            let stored = store.log_access(vec![access(at(NOW), PATIENT)]).await;
            stored.expect("stored");
        };
        // The first may be shown at once.
        write().await;
        pass(&store, 65).await;
        assert_eq!(heads().len(), 1);
        for _ in 0..2 {
            write().await;
        }
        pass(&store, 40).await;
        assert_eq!(heads().len(), 1, "less than a minute after the first");
        pass(&store, 25).await;
        assert_eq!(heads().len(), 2);
        pass(&store, 65).await;
        let heads = heads();
        assert_eq!(heads.len(), 2, "it has not moved: {heads:?}");
        store.close().await;
        drop(store);
        let found = verified(&database).await;
        let (chain, walked) = found.chains.first_key_value().expect("a chain");
        let head = walked.head(*chain);
        assert!(heads[0].contains(&format!("{chain}:1:")), "{heads:?}");
        assert!(heads[1].contains(&head.to_string()), "{heads:?}");
    }
}

/// Lets seconds pass, in which nothing happens but what is due then.
async fn pass(store: &Store, seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
    // Whoever waits for the time is woken while the database is waited for.
    let all = AccessFilter::default();
    for _ in 0..3 {
        let read = store.access_log(&all, &CareUnits::Every, None, 1);
        read.await.expect("read");
    }
}

#[tokio::test]
async fn time_does_not_go_backwards_in_a_chain() {
    for database in Empty::each().await {
        let store = Store::open(&database.url, Schema::Migrate)
            .await
            .expect("a database");
        let earlier = at(NOW) - TimeDelta::hours(1);
        store
            .log_access(vec![access(at(NOW), PATIENT)])
            .await
            .expect("stored");
        store
            .log_access(vec![access(earlier, PATIENT)])
            .await
            .expect("stored");
        let found = store
            .access_log(&AccessFilter::default(), &CareUnits::Every, None, 9)
            .await
            .expect("read");
        let times: Vec<Instant> = found.iter().map(|(place, _)| place.at).collect();
        assert_eq!(times, [at(NOW); 2]);
        store.close().await;
        drop(store);
        assert!(verified(&database).await.findings.is_empty());
    }
}

#[tokio::test]
async fn an_answer_does_not_leave_when_its_entry_cannot_be_stored() {
    let harness = Harness::start(NOW).await;
    let created = harness.create(make::wire_create(make::wire_form(
        "2026-03-09",
        "2026-04-30",
    )));
    let name = created.await.expect("created").name;
    let other = Database::connect(harness.backend.url())
        .await
        .expect("a connection");
    let rename = |from: &str, to: &str| format!("ALTER TABLE {from} RENAME TO {to}");
    other
        .execute_unprepared(&rename("access_log", "away"))
        .await
        .expect("renamed");
    let refused = harness.get(&name).await.expect_err("not logged");
    assert_eq!(refusal(&refused), (Code::Unavailable, "UNAVAILABLE".into()));
    let not_found = harness.get(&format!("{}x", &name[..name.len() - 1])).await;
    assert_eq!(
        not_found.expect_err("a bad name").code(),
        Code::InvalidArgument,
        "it names nobody"
    );
    other
        .execute_unprepared(&rename("away", "access_log"))
        .await
        .expect("renamed");
    harness.get(&name).await.expect("logged");
    // What was kept meanwhile is stored with what comes next.
    let entries = all(&harness).await;
    // They have the same time, and are of two chains.
    let mut codes: Vec<i32> = entries.iter().map(|it| it.code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 0, 14]);
}

/// Until a transaction of the connection ends, no entry can be stored.
const LOCK: &str = "BEGIN; LOCK TABLE access_log IN SHARE MODE";

/// A service with one message that is due, and the connection that keeps its access log from being written; none where there
/// is no PostgreSQL.
async fn due_under_lock() -> Option<(Harness, DatabaseConnection)> {
    let backend = Backend::postgres().await?;
    let other = connect(&backend.url()).await;
    let harness = Harness::over(backend, Clock::sandbox(at(NOW)), Limits::default()).await;
    let form = make::wire_form("2026-03-09", "2026-04-30");
    let created = harness.create(make::wire_create(form)).await;
    created.expect("created");
    other.execute_unprepared(LOCK).await.expect("locked");
    Some((harness, other))
}

#[tokio::test]
async fn a_message_of_a_stream_waits_until_its_entry_can_be_stored() {
    let Some((harness, other)) = due_under_lock().await else {
        return;
    };
    let open = async || {
        let mut client = harness.notifications();
        let opened = client.stream_due_notifications(everything()).await;
        opened.expect("a stream").into_inner()
    };
    let mut events = open().await;
    // Longer than a call waits.
    let silence = tokio::time::timeout(Duration::from_millis(2_500), events.message()).await;
    assert!(silence.is_err(), "{silence:?}");
    other.execute_unprepared("COMMIT").await.expect("let go");
    let event = loop {
        match within(events.message()).await {
            Ok(event) => break event.expect("an event"),
            // A busy machine lets it wait for too long.
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
        events = open().await;
    };
    assert!(matches!(event.event, Some(Event::Due(_))));
    let codes: Vec<i32> = all(&harness).await.iter().map(|it| it.code).collect();
    // An attempt whose outcome was not known may have been stored all the same.
    assert!(
        codes.len() >= 2,
        "one of the create, one of the message: {codes:?}"
    );
    assert!(codes.iter().all(|code| *code == 0), "{codes:?}");
}

/// What was given up as not answered in time is committed all the same, after entries that came later were begun.
#[tokio::test]
async fn a_database_that_answers_late_forks_no_chain() {
    let Some(database) = Empty::postgres().await else {
        return;
    };
    let store = Store::open(&database.url, Schema::Migrate)
        .await
        .expect("a database");
    // Two with one time and one number would meet.
    let entry = |second: i64| vec![access(at(NOW) + TimeDelta::seconds(second), PATIENT)];
    store.log_access(entry(0)).await.expect("stored");
    let other = database.connect().await;
    other.execute_unprepared(LOCK).await.expect("locked");
    let message = tokio::spawn({
        let (store, entry) = (store.clone(), entry(1));
        async move { store.attempt_to_log_access(entry).await }
    });
    // Longer than a caller waits.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let call = tokio::spawn({
        let (store, entry) = (store.clone(), entry(2));
        async move { store.log_access(entry).await }
    });
    tokio::time::sleep(Duration::from_millis(900)).await;
    other.execute_unprepared("COMMIT").await.expect("let go");
    // Each may be told that it is not known.
    let _ = within(message).await.expect("no panic");
    let _ = within(call).await.expect("no panic");
    let stored = async { while store.log_access(entry(3)).await.is_err() {} };
    within(stored).await;
    store.close().await;
    drop(store);

    let found = verified(&database).await;
    assert_eq!(found.findings, []);
    assert!(found.rows >= 3, "{found:?}");
}

#[tokio::test]
async fn a_message_whose_entry_cannot_be_stored_in_time_is_not_sent_and_its_lease_is_released() {
    let Some((harness, other)) = due_under_lock().await else {
        return;
    };
    let open = || {
        let call = v1::StreamDueNotificationsRequest {
            lease_duration: Some(prost_types::Duration {
                seconds: 3_600,
                nanos: 0,
            }),
            ..everything()
        };
        async { harness.notifications().stream_due_notifications(call).await }
    };
    let mut events = open().await.expect("a stream").into_inner();
    let end = within(events.message()).await.expect_err("not logged");
    assert_eq!(refusal(&end), (Code::Unavailable, "UNAVAILABLE".into()));
    let retry = end.get_error_details().retry_info().cloned();
    assert!(retry.is_some_and(|it| it.retry_delay.is_some()));

    other.execute_unprepared("COMMIT").await.expect("let go");
    let mut events = open().await.expect("a stream").into_inner();
    let event = within(events.message()).await.expect("no end");
    let Some(Event::Due(due)) = event.and_then(|it| it.event) else {
        panic!("no message");
    };
    assert!(!due.possible_repeat, "it was not sent");
    let attempts = due.notification.map(|it| it.delivery_attempt);
    assert_eq!(attempts, Some(1));
}

#[tokio::test]
async fn a_call_whose_caller_goes_away_is_logged() {
    let harness = Harness::start(NOW).await;
    let created = harness.create(make::wire_create(make::wire_form(
        "2026-03-09",
        "2026-04-30",
    )));
    let name = created.await.expect("created").name;
    let mut call = tonic::Request::new(make::wire_cancel(&name));
    call.set_timeout(std::time::Duration::from_micros(1));
    let answer = within(harness.requests().cancel_booking_request(call)).await;
    let late =
        answer.is_err_and(|it| it.code() == Code::DeadlineExceeded || it.code() == Code::Cancelled);
    if late {
        // The server may not have read it, and then it is about nobody.
        within(async {
            let mut shown = all(&harness).await;
            shown.retain(|it| it.code != 0);
            let codes: Vec<i32> = shown.iter().map(|it| it.code).collect();
            assert!(codes.iter().all(|code| [1, 4].contains(code)), "{codes:?}");
        })
        .await;
    }
}

/// A clock that is compared with nothing.
fn right(now: Instant) -> impl Fn() -> ClockReading + Send + Sync + 'static {
    move || ClockReading::Sandbox(now)
}

#[tokio::test]
async fn a_purge_leaves_chains_that_are_verified_from_their_first_entries() {
    for database in Empty::each().await {
        let store = Store::open(&database.url, Schema::Migrate)
            .await
            .expect("a database");
        // Of a month that has a partition on PostgreSQL, and of others.
        let now = chrono::Utc::now();
        for days in [-40, 0, 0, 1, 300, 300] {
            let at = now + TimeDelta::days(days);
            store
                .log_access(vec![access(at, PATIENT)])
                .await
                .expect("stored");
        }
        store.close().await;
        drop(store);
        let later = now + TimeDelta::days(5 * 365 + 200);
        let early = Cutoffs::new(later, now, None).expect("long ago");
        let too_late = early.with_access_log(later, later - TimeDelta::days(5 * 365));
        assert_eq!(too_late, Err(AccessTooRecent));
        let before = now + TimeDelta::days(190);
        let cutoffs = early.with_access_log(later, before).expect("long ago");
        let stop = CancellationToken::new();
        let purged = purge(
            &database.url,
            cutoffs,
            right(later),
            &stop,
            &mut |_, _, _| (),
        )
        .await;
        assert_eq!(purged.expect("purged").access_log, 4);
        let found = verified(&database).await;
        assert_eq!((found.rows, found.findings.as_slice()), (2, &[][..]));
        let chains: Vec<_> = found
            .chains
            .values()
            .map(|it| (it.first, it.last))
            .collect();
        assert_eq!(chains, [(5, 6)]);
        let connection = database.connect().await;
        let places = texts(&connection, "SELECT personal_id FROM access_log_patient").await;
        assert_eq!(places.len(), 2);
    }
}

#[tokio::test]
async fn months_are_partitions_on_postgresql() {
    let Some(database) = Empty::postgres().await else {
        return;
    };
    filled(&database, 1).await;
    let connection = database.connect().await;
    let names =
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'access_log'::regclass";
    assert_eq!(
        texts(&connection, names).await.len(),
        14,
        "13 months and the default"
    );
}

#[tokio::test]
async fn replicas_have_chains_of_their_own() {
    if Kind::of_this_run() == Kind::Sqlite {
        return;
    }
    let backend = Backend::empty().await;
    let other = backend.again().await;
    for store in [&backend.store, &other.store] {
        store
            .log_access(vec![access(at(NOW), PATIENT)])
            .await
            .expect("stored");
    }
    let found = verify(&backend.url(), &[], &mut |_, _, _| ())
        .await
        .expect("read");
    assert_eq!(
        (found.chains.len(), found.findings),
        (2, Vec::<Finding>::new())
    );
}
