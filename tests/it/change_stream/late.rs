//! A transaction that commits late: what it records is dated before what others have recorded and committed since.

use care_invitation::clock::Clock;
use care_invitation::contract::v1;
use care_invitation::grpc::middleware::Limits;
use sea_orm::{ConnectionTrait, DatabaseConnection, TransactionTrait};

use super::{NOW, Reader, after, entries_of, invited, until_idle};
use crate::backend::{Backend, connect, somebody_waits};
use crate::harness::{Harness, within};
use crate::make::{self, at};
use crate::proxy::Proxy;
use crate::replica::Replica;

fn form(referral: &str) -> v1::BookingRequest {
    v1::BookingRequest {
        origin: Some(make::wire_referral(referral)),
        ..make::wire_form("2099-05-18", "2099-06-12")
    }
}

/// Attempts at holding a commit back: on a busy machine it takes longer, and the batch is decided again.
const ATTEMPTS_MAX: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_late_is_told_to_a_reader_who_has_gone_past_it() {
    let Some(backend) = Backend::in_one_place().await else {
        return;
    };
    let (database, waiting) = (connect(&backend.url()).await, connect(&backend.url()).await);
    let first = Harness::over(backend, Clock::real(), Limits::default()).await;
    let second = first.replica().await;
    for attempt in 0..ATTEMPTS_MAX {
        if commits_late([&database, &waiting], [&first, &second], attempt).await {
            return;
        }
    }
    panic!("no commit could be held back");
}

/// Holds a commit of the first replica back, while the second commits. Returns whether it was decided before.
async fn commits_late(
    [database, waiting]: [&DatabaseConnection; 2],
    [first, second]: [&Harness; 2],
    attempt: usize,
) -> bool {
    let mut reader = Reader::from_now(second).await;

    // Another has begun to write the same idempotency key, so that the first replica's batch waits with its row decided.
    let late = make::wire_create(form(&format!("late {attempt}")));
    let blocker = database.begin().await.expect("a transaction");
    let insert = format!(
        "INSERT INTO history (bucket, care_unit, booking_request, ordinal, recorded_at, actor, event, request_id, document) \
         VALUES (get_byte(sha256('{unit}'), 0) % 64, '{unit}', gen_random_uuid(), 1, 0, 'anonymous', 1, '{id}', '{{}}')",
        unit = make::CARE_UNIT,
        id = late.request_id,
    );
    blocker.execute_unprepared(&insert).await.expect("written");
    let creating = {
        let mut client = first.requests();
        tokio::spawn(async move { client.create_booking_request(late).await })
    };
    within(somebody_waits(waiting)).await;

    // Meanwhile the second commits what is dated later, and a reader sees that and goes.
    let meanwhile = make::wire_create(form(&format!("meanwhile {attempt}")));
    let meanwhile = second.create(meanwhile).await.expect("created").name;
    while reader.next().await.expect("a change").booking_request != meanwhile {}
    let cursor = reader.cursor.clone();
    blocker.rollback().await.expect("undone");
    let created = within(creating).await.expect("no panic").expect("created");
    let created = created.into_inner().booking_request.expect("it").name;

    // Both who stayed and who comes back are told.
    while reader.next().await.expect("a change").booking_request != created {}
    let back = Reader::open(second.requests(), after(&cursor)).await;
    let mut back = back.expect("a stream");
    while back.next().await.expect("a change").booking_request != created {}
    let dated = async |name: &str| entries_of(first, name).await[0].event_time;
    let (late, later) = (dated(&created).await, dated(&meanwhile).await);
    let order = |it: Option<prost_types::Timestamp>| it.map(|it| (it.seconds, it.nanos));
    order(late) < order(later)
}

/// When as much time has passed since [`NOW`] as a batch may take, its commit included.
const AT_LAST: &str = "2026-03-02T09:01:10Z";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_as_long_as_it_may_until_it_is_committed_is_not_passed_over() {
    let Some(backend) = Backend::postgres().await else {
        return;
    };
    let (proxy, _, url) = Proxy::before(&backend.url()).await;
    let clock = Clock::sandbox(at(NOW));
    let slow = Replica::start(&url, clock.clone()).await;
    let quick = Harness::over(backend, clock, Limits::default()).await;
    let mut reader = Reader::from_now(&quick).await;
    proxy.hold_commits();
    let late = make::wire_create(form("late"));
    let creating = tokio::spawn(async move { slow.create(late).await.name });
    proxy.holds_a_commit().await;

    // Meanwhile one reads on, and another has come, read everything and gone.
    quick.advance(AT_LAST);
    let meanwhile = invited(&quick, "meanwhile").await;
    while reader.next().await.expect("a change").booking_request != meanwhile {}
    let (_, cursor) = until_idle(&quick, &reader.cursor).await;
    assert!(!creating.is_finished(), "it waits");
    proxy.pass_commits_on();
    let late = within(creating).await.expect("no panic");
    let dated = entries_of(&quick, &late).await[0].event_time;
    assert_eq!(dated, Some(make::wire_at(NOW)));

    while reader.next().await.expect("a change").booking_request != late {}
    let (told, _) = until_idle(&quick, &cursor).await;
    assert!(told.iter().any(|it| it.booking_request == late), "{told:?}");
}
