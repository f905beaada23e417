//! Retention: what a purge deletes, what it leaves, and that it goes in batches.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use care_invitation::domain::Refusal;
use care_invitation::domain::booking_request::BookingRequest;
use care_invitation::domain::booking_request::record_booking::record_booking;
use care_invitation::domain::calendar::{ClockReading, Instant, micros};
use care_invitation::domain::request_key::RequestKey;
use care_invitation::store::Store;
use care_invitation::store::error::{Error, OpenError};
use care_invitation::store::idempotency::IdempotentCall;
use care_invitation::store::purge::{Cutoffs, PurgeError, Purged, TooRecent, purge};
use care_invitation::store::schema::Schema;
use chrono::{TimeDelta, Utc};
use sea_orm::ConnectionTrait;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::within;
use crate::make;
use crate::make::at;
use crate::migration::{Empty, texts};
use crate::proxy::{Proxy, Way};
use crate::store_fixtures;
use crate::store_fixtures::{booking, call, creation, referral};

const EARLY: &str = "2026-03-02T09:00:00Z";
/// Long after the patient was shown what was booked at that time.
const BETWEEN: &str = "2026-12-10T00:00:00Z";
const LATE: &str = "2026-12-20T09:00:00Z";
/// Long after whatever the machine's own clock shows.
const NOW: &str = "2100-01-01T00:00:00Z";
/// A batch is 200.
const MANY: usize = 401;

pub async fn insert(
    store: &Store,
    call: IdempotentCall,
    number: usize,
) -> Result<RequestKey, Error> {
    let mut form = make::form("2026-05-18", "2026-06-12");
    form.origin = referral(&format!("R-{number}"));
    let inserted = store_fixtures::insert(store, call, creation(form), at(EARLY)).await;
    Ok(inserted?.key)
}

/// Records a booking, after the visit too.
pub async fn book(store: &Store, key: RequestKey, now: &str) {
    let (mut command, context) = (booking(), make::context(at(now)));
    command.booking.override_reason = "came without".into();
    let decide = move |stored: Option<&BookingRequest>| record_booking(stored, &command, &context);
    store.update(call(), key, decide).await.expect("booked");
}

/// Requests that were booked then.
async fn booked(store: &Store, numbers: std::ops::Range<usize>, now: &'static str) {
    let mut tasks = JoinSet::new();
    for number in numbers {
        let store = store.clone();
        tasks.spawn(async move {
            let key = insert(&store, call(), number).await.expect("created");
            book(&store, key, now).await;
        });
    }
    tasks.join_all().await;
}

fn cutoffs(history: Option<&str>) -> Cutoffs {
    Cutoffs::new(at(NOW), at(BETWEEN), history.map(at)).expect("long ago")
}

/// A clock that is compared with nothing.
fn right() -> ClockReading {
    ClockReading::Sandbox(at(NOW))
}

/// Purges, and gives what was shown of the requests.
pub async fn run(url: &str, history: Option<&str>) -> (Result<Purged, PurgeError>, Vec<u64>) {
    let mut shown = Vec::new();
    let mut show = |what: &'static str, done, total: Option<u64>| {
        if what == "requests" {
            assert!(total.is_some(), "the count is known");
            shown.push(done);
        }
    };
    let stop = CancellationToken::new();
    let purged = purge(url, cutoffs(history), right, &stop, &mut show).await;
    (purged, shown)
}

async fn count(database: &Empty, table: &str) -> usize {
    let connection = database.connect().await;
    let rows = texts(&connection, &format!("SELECT care_unit FROM {table}")).await;
    rows.len()
}

async fn execute(database: &Empty, sql: &str) {
    let connection = database.connect().await;
    connection.execute_unprepared(sql).await.expect(sql);
}

/// The store where it may stay open beside a purge.
async fn beside(database: &Empty, store: Store) -> Option<Store> {
    if !database.url.starts_with("sqlite:") {
        return Some(store);
    }
    let (refused, _) = run(&database.url, None).await;
    let refused = refused.expect_err("the file is in use");
    assert!(matches!(refused, PurgeError::InUse(_)));
    assert!(refused.to_string().contains("stop the service"));
    store.close().await;
    None
}

#[tokio::test]
async fn settled_requests_go_in_batches_and_open_or_younger_ones_stay() {
    for database in Empty::each().await {
        let store = Store::open(&database.url, Schema::Migrate)
            .await
            .expect("a database");
        booked(&store, 0..MANY, EARLY).await;
        booked(&store, MANY..MANY + 1, LATE).await;
        let first = call();
        let open = insert(&store, first.clone(), MANY + 1).await.expect("open");
        let _beside = beside(&database, store).await;
        let history = count(&database, "history").await;

        let (purged, shown) = run(&database.url, None).await;
        let purged = purged.expect("purged");
        assert_eq!(purged.requests, MANY as u64);
        assert_eq!(purged.notifications, MANY as u64);
        assert_eq!((purged.history, purged.stopped), (0, false));
        assert_eq!(shown, [0, 200, 400, 401]);
        assert_eq!(count(&database, "booking_request").await, 2);
        assert_eq!(count(&database, "notification").await, 2);
        assert_eq!(count(&database, "history").await, history, "all is kept");
        let (again, shown) = run(&database.url, None).await;
        assert_eq!(again.expect("nothing to do"), Purged::default());
        assert_eq!(shown, [0]);

        drop(_beside);
        let store = reopened(&database).await;
        assert_eq!(store.get(&open).await.expect("untouched").key, open);
        assert_eq!(
            insert(&store, first, MANY + 1).await.expect("a repeat"),
            open
        );
    }
}

/// The visit is on 18 May, and the patient is shown it until 16 August.
#[tokio::test]
async fn a_booked_visit_stays_for_as_long_as_the_patient_is_shown_it() {
    for database in Empty::each().await {
        let store = Store::open(&database.url, Schema::Migrate)
            .await
            .expect("a database");
        booked(&store, 0..1, EARLY).await;
        let _beside = beside(&database, store).await;
        for (before, purged) in [
            ("2026-04-01T00:00:00Z", 0),
            ("2026-08-16T00:00:00Z", 0),
            ("2026-08-17T00:00:00Z", 1),
        ] {
            let cutoffs = Cutoffs::new(at(NOW), at(before), None).expect("long ago");
            let stop = CancellationToken::new();
            let run = purge(&database.url, cutoffs, right, &stop, &mut |_, _, _| ()).await;
            assert_eq!(run.expect("purged").requests, purged, "{before}");
        }
    }
}

async fn reopened(database: &Empty) -> Store {
    loop {
        if let Ok(store) = Store::open(&database.url, Schema::Migrate).await {
            return store;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn history_goes_by_its_own_date_once_its_request_is_gone() {
    for database in Empty::each().await {
        let store = Store::open(&database.url, Schema::Migrate)
            .await
            .expect("a database");
        let created = call();
        let key = insert(&store, created.clone(), 0).await.expect("created");
        book(&store, key.clone(), EARLY).await;
        let kept = insert(&store, call(), 1).await.expect("open");
        // Ten days.
        let late = "UPDATE history SET recorded_at = recorded_at + 864000000000 \
             WHERE 2 <= ordinal";
        let _beside = beside(&database, store).await;
        execute(&database, late).await;

        let (purged, _) = run(&database.url, Some(EARLY)).await;
        let purged = purged.expect("purged");
        assert_eq!((purged.requests, purged.history), (1, 0), "none is before");
        drop(_beside);
        // The call is remembered with its history, but there is nothing to show any more.
        let store = reopened(&database).await;
        let repeat = insert(&store, created, 0).await;
        assert!(matches!(repeat, Err(Error::Refused(Refusal::NotFound))));
        assert_eq!(store.get(&kept).await.expect("open").key, kept);
        let _beside = beside(&database, store).await;
        let (purged, _) = run(&database.url, Some("2026-03-10T00:00:00Z")).await;
        assert_eq!(purged.expect("purged").history, 1);
        let left = "history WHERE ordinal = 1";
        assert_eq!(count(&database, left).await, 1, "of the open request");
        assert_ne!(count(&database, "history").await, 1, "younger ones stay");
    }
}

#[tokio::test]
async fn what_may_still_go_out_or_waits_for_staff_is_not_purged() {
    for database in Empty::each().await {
        let store = Store::open(&database.url, Schema::Migrate)
            .await
            .expect("a database");
        booked(&store, 0..1, EARLY).await;
        let _beside = beside(&database, store).await;
        for (waits, requests) in [
            ("state = 1, claimable_at = 1", 0),
            ("state = 6, claimable_at = NULL", 0),
            ("state = 5, claimable_at = NULL", 1),
        ] {
            execute(&database, &format!("UPDATE notification SET {waits}")).await;
            let (purged, _) = run(&database.url, None).await;
            assert_eq!(purged.expect("purged").requests, requests, "{waits}");
        }
    }
}

#[tokio::test]
async fn calls_are_remembered_for_thirty_days() {
    for database in Empty::each().await {
        let store = Store::open(&database.url, Schema::Migrate)
            .await
            .expect("a database");
        let patient = make::form("2026-05-18", "2026-06-12").patient.personal_id;
        for _ in 0..3 {
            let nothing = |_: &BookingRequest| None;
            let changed =
                store.update_patient(call(), None, make::everything(), patient.clone(), nothing);
            assert!(changed.await.expect("nobody").changed.is_empty());
        }
        let _beside = beside(&database, store).await;
        let month_ago = micros(at(NOW) - chrono::Duration::days(30));
        let young = format!(
            "UPDATE idempotency_key SET recorded_at = {month_ago} \
             WHERE request_id = (SELECT max(request_id::text)::uuid FROM idempotency_key)"
        );
        let young = match database.url.starts_with("sqlite:") {
            true => young.replace("::text)::uuid", ")"),
            false => young,
        };
        execute(&database, &young).await;
        let (purged, _) = run(&database.url, None).await;
        assert_eq!(purged.expect("purged").idempotency_keys, 2);
        assert_eq!(count(&database, "idempotency_key").await, 1);
    }
    let now: Instant = at(NOW);
    let day = |days| now - chrono::Duration::days(days);
    assert_eq!(Cutoffs::new(now, day(35), None), Err(TooRecent));
    assert_eq!(Cutoffs::new(now, day(36), Some(day(35))), Err(TooRecent));
    assert!(Cutoffs::new(now, day(36), Some(day(36))).is_ok());
}

#[tokio::test]
async fn a_purge_by_a_clock_that_is_apart_from_the_databases_deletes_nothing() {
    let Some(database) = Empty::postgres().await else {
        return;
    };
    let store = Store::open(&database.url, Schema::Migrate)
        .await
        .expect("a database");
    booked(&store, 0..3, EARLY).await;
    let stop = CancellationToken::new();
    let mut show = |_: &'static str, _, _: Option<u64>| {};
    for (days, deleted) in [(20, false), (-20, false), (0, true)] {
        let clock = move || ClockReading::Machine(Utc::now() + TimeDelta::days(days));
        let purged = purge(&database.url, cutoffs(None), clock, &stop, &mut show).await;
        match purged {
            Ok(purged) => assert!(deleted && purged.requests == 3, "{days} days ahead"),
            Err(PurgeError::Clock(Error::Clock(_))) => assert!(!deleted, "{days} days ahead"),
            Err(other) => panic!("{days} days ahead: {other}"),
        }
        let left = count(&database, "booking_request").await;
        assert_eq!(left, if deleted { 0 } else { 3 }, "{days} days ahead");
    }
}

#[tokio::test]
async fn it_stops_between_two_batches_and_says_so() {
    for database in Empty::each().await {
        let store = Store::open(&database.url, Schema::Migrate)
            .await
            .expect("a database");
        booked(&store, 0..MANY, EARLY).await;
        let _beside = beside(&database, store).await;
        let stop = CancellationToken::new();
        let told = stop.clone();
        let mut show = move |_: &'static str, done, _: Option<u64>| {
            if done == 200 {
                told.cancel();
            }
        };
        let purged = purge(&database.url, cutoffs(None), right, &stop, &mut show).await;
        let purged = purged.expect("stopped well");
        assert_eq!((purged.requests, purged.stopped), (400, true));
        assert_eq!(count(&database, "booking_request").await, 1);
    }
}

/// A request that somebody changes while a purge would like to have it is passed over.
#[tokio::test]
async fn a_request_that_is_being_changed_is_passed_over() {
    let Some(database) = Empty::postgres().await else {
        return;
    };
    let store = Store::open(&database.url, Schema::Migrate)
        .await
        .expect("a database");
    booked(&store, 0..2, EARLY).await;
    let connection = database.connect().await;
    let lock = "BEGIN; SELECT id FROM booking_request ORDER BY id LIMIT 1 FOR UPDATE";
    connection.execute_unprepared(lock).await.expect("locked");
    let (purged, _) = run(&database.url, None).await;
    assert_eq!(purged.expect("purged").requests, 1);
    connection
        .execute_unprepared("COMMIT")
        .await
        .expect("let go");
    let (purged, _) = run(&database.url, None).await;
    assert_eq!(purged.expect("purged").requests, 1);
}

/// What stops a purge leaves what it has done before, and says how much that was.
#[tokio::test]
async fn a_batch_that_fails_leaves_those_before_it_which_are_counted() {
    for database in Empty::each().await {
        let store = Store::open(&database.url, Schema::Migrate)
            .await
            .expect("a database");
        booked(&store, 0..MANY, EARLY).await;
        let _beside = beside(&database, store).await;
        // The last to go is held by something that is not ours.
        let id = match database.url.starts_with("sqlite:") {
            true => "uuid_text",
            false => "uuid",
        };
        execute(
            &database,
            &format!(
                "CREATE TABLE keeps (bucket smallint, care_unit text, id {id}, \
                 FOREIGN KEY (bucket, care_unit, id) REFERENCES booking_request (bucket, care_unit, id)); \
                 INSERT INTO keeps SELECT bucket, care_unit, id FROM booking_request \
                 ORDER BY settled_at DESC, care_unit DESC, id DESC LIMIT 1; \
                 UPDATE booking_request SET settled_at = settled_at + 1 \
                 WHERE id = (SELECT id FROM keeps)"
            ),
        )
        .await;
        let (failed, shown) = run(&database.url, None).await;
        match failed {
            Err(PurgeError::Failed(purged, _)) => assert_eq!(purged.requests, 400),
            other => panic!("it fails at the last batch: {other:?}"),
        }
        assert_eq!(shown, [0, 200, 400]);
        assert_eq!(count(&database, "booking_request").await, 1);
    }
}

#[tokio::test]
async fn a_purge_waits_for_a_database_that_goes_away() {
    let Some(database) = Empty::postgres().await else {
        return;
    };
    let store = Store::open(&database.url, Schema::Migrate)
        .await
        .expect("a database");
    booked(&store, 0..MANY, EARLY).await;
    let (proxy, server, url) = Proxy::before(&database.url).await;
    let proxy = Arc::new(proxy);
    let mut show = move |_: &'static str, done, _: Option<u64>| {
        if done == 200 {
            proxy.turn(Way::Cut);
            let proxy = Arc::clone(&proxy);
            tokio::spawn(async move {
                // Longer than a connection is waited for.
                tokio::time::sleep(Duration::from_millis(1_500)).await;
                proxy.turn(Way::To(server));
            });
        }
    };
    let stop = CancellationToken::new();
    let purged = within(purge(&url, cutoffs(None), right, &stop, &mut show)).await;
    assert_eq!(purged.expect("in the end").requests, MANY as u64);
    assert_eq!(count(&database, "booking_request").await, 0);
}

#[tokio::test]
async fn a_purge_of_a_file_that_is_not_there_makes_none() {
    let database = Empty::sqlite();
    let (refused, _) = run(&database.url, None).await;
    let refused = refused.expect_err("there is none");
    assert!(
        matches!(&refused, PurgeError::Open(OpenError::NoFile(_))),
        "{refused}"
    );
    let path = database.url.trim_start_matches("sqlite://");
    let path = Path::new(path.split('?').next().expect("a path"));
    let folder = path.parent().expect("a folder").read_dir().expect("read");
    assert_eq!(folder.count(), 0, "nothing is left there");
}
