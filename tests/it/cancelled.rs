//! Calls whose clients go away at a random moment, for every method of the contract: no transaction stays open, and the
//! repeat tells the truth. SQLite has one connection that writes, PostgreSQL two.
//!
//! `CARE_INVITATION_DROPS` sets how many calls of each method are dropped.

use std::time::Duration;

use care_invitation::contract::v1;
use prost::Message;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement, TransactionTrait};
use tokio::time::{sleep, timeout};
use tonic::Request;

use crate::backend::Kind;
use crate::crash::setting;
use crate::door::calls::Calls;
use crate::door::raw::{answer, call};
use crate::door::scopes::required;
use crate::harness::{Harness, within};
use crate::make;
use crate::model::rng::Rng;

const NOW: &str = "2026-03-02T09:00:00Z";
/// Calls of each method that are dropped by default.
const DROPS: u64 = 4;
/// Microseconds after which a call is dropped, at most: longer than most take.
const DROPPED_AFTER_MAX: u64 = 12_000;
/// How long a transaction is looked at before it is taken to stay open.
const SEEN_AFTER: Duration = Duration::from_millis(300);

/// Methods whose repeat says that it is one.
const SAYS_REPLAY: [&str; 11] = [
    "CreateBookingRequest",
    "ChangeToInvitation",
    "RevokeInvitation",
    "ChangeBookingRequest",
    "RecordBooking",
    "RecordBookingCancellation",
    "RecordPatientContact",
    "CancelBookingRequest",
    "ReleaseHold",
    "UpdatePatient",
    "UpdateCareUnitSettings",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_client_goes_away_leaves_nothing_open_and_its_repeat_tells_the_truth() {
    let seed = setting("CARE_INVITATION_SEED", u64::from(std::process::id()));
    let drops = setting("CARE_INVITATION_DROPS", DROPS);
    let mut rng = Rng::new(seed);
    let harness = Harness::start(NOW).await;
    let database = Database::connect(harness.backend.url()).await;
    let database = database.expect("the database");
    // Its settings decide whether the messages of the others are due.
    let (settings, others): (Vec<_>, Vec<_>) = required()
        .into_iter()
        .partition(|(path, _)| path.ends_with("/UpdateCareUnitSettings"));
    for (path, _) in others.into_iter().chain(settings) {
        for _ in 0..drops {
            let after = Duration::from_micros(rng.below(DROPPED_AFTER_MAX));
            dropped(&harness, &path, after, seed).await;
        }
        let closed = within(nothing_is_open(&database));
        closed.await;
    }
}

#[tokio::test]
async fn a_transaction_that_stays_open_is_seen() {
    let harness = Harness::start(NOW).await;
    let url = harness.backend.url();
    let database = Database::connect(&url).await.expect("the database");
    within(nothing_is_open(&database)).await;
    let other = Database::connect(&url).await.expect("the database");
    let transaction = other.begin().await.expect("begun");
    let rows = transaction.execute_unprepared("SELECT count(*) FROM booking_request");
    rows.await.expect("it answers");
    // Something to copy into the file, which waits for who reads what was before.
    let form = make::wire_form("2026-04-06", "2026-06-12");
    harness
        .create(make::wire_create(form))
        .await
        .expect("created");
    let seen = timeout(SEEN_AFTER, nothing_is_open(&database)).await;
    assert!(seen.is_err(), "it is open");
    transaction.rollback().await.expect("ended");
    within(nothing_is_open(&database)).await;
}

/// Drops a call of a method after so long, then makes it again.
async fn dropped(harness: &Harness, path: &str, after: Duration, seed: u64) {
    let (_, method) = path.rsplit_once('/').expect("a path");
    let said = format!("seed {seed}, {method} dropped after {after:?}");
    let referral = make::request_id();
    let mut form = make::wire_form("2026-04-06", "2026-06-12");
    form.origin = Some(make::wire_referral(&referral));
    let calls = Calls {
        channel: harness.channel.clone(),
        metadata: Vec::new(),
        form,
    };
    let good = calls.good(method).await;
    let request = || Request::new(good.clone());
    // At its end the call is cancelled.
    let _ = timeout(after, call(&harness.channel, path, request())).await;

    let repeated = call(&harness.channel, path, request()).await;
    let repeated = repeated.unwrap_or_else(|status| panic!("{said}: {status:?}"));
    assert_true(method, repeated.as_deref().unwrap_or_default(), &said);
    if SAYS_REPLAY.contains(&method) {
        let again = answer(&harness.channel, path, request()).await;
        let (metadata, message) = again.unwrap_or_else(|status| panic!("{said}: {status:?}"));
        let replay = metadata.get("idempotent-replay").expect(&said);
        assert_eq!(
            (replay, &message),
            (&"true".parse().expect("text"), &repeated),
            "{said}"
        );
    }
    if method.contains("Create") {
        assert_eq!(found(harness, &referral).await, 1, "{said}");
    }
}

/// Elements of an answer are what the first try has made of them, too.
fn assert_true(method: &str, answer: &[u8], said: &str) {
    let failed = match method {
        "AuthorizeDispatch" => {
            let answer = v1::AuthorizeDispatchResponse::decode(answer).expect(said);
            answer.results.iter().any(|it| !it.authorized)
        }
        "AcknowledgeNotifications" => {
            let answer = v1::AcknowledgeNotificationsResponse::decode(answer).expect(said);
            answer.results.iter().any(|it| !it.recorded)
        }
        "BatchCreateBookingRequests"
        | "BatchChangeToInvitation"
        | "BatchCancelBookingRequests"
        | "BatchReleaseHold" => {
            let answer = v1::BatchCreateBookingRequestsResponse::decode(answer).expect(said);
            answer.results.iter().any(|it| it.error.is_some())
        }
        _ => false,
    };
    assert!(!failed, "{said}");
}

/// How many requests there are for a referral.
async fn found(harness: &Harness, referral: &str) -> usize {
    let call = v1::ListWorklistRequest {
        query: Some(v1::WorklistQuery {
            worklists: vec![v1::Worklist::All.into()],
            care_units: vec![make::wire_unit()],
            referral_id: referral.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let answer = within(harness.worklists().list_worklist(call)).await;
    answer.expect("a page").into_inner().booking_requests.len()
}

/// Waits until no transaction is open on the database.
async fn nothing_is_open(database: &DatabaseConnection) {
    let (sql, column) = match Kind::of_this_run() {
        // Busy while somebody reads or writes in a transaction.
        Kind::Sqlite => ("PRAGMA wal_checkpoint(TRUNCATE)", "busy"),
        Kind::Postgres => (
            "SELECT count(*)::int AS open FROM pg_stat_activity
             WHERE datname = current_database() AND state LIKE 'idle in transaction%'",
            "open",
        ),
    };
    loop {
        let statement = Statement::from_string(database.get_database_backend(), sql);
        let row = database.query_one_raw(statement).await;
        let row = row.expect("it answers").expect("one row");
        if row.try_get::<i32>("", column).expect("a number") == 0 {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}
