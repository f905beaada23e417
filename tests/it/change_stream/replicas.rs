//! Several replicas that write at once, and a reader that goes from one to another: every entry of every history is told, and
//! those of a request in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use care_invitation::clock::Clock;
use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome;
use care_invitation::grpc::middleware::Limits;
use tokio::task::JoinSet;

use super::{Reader, TOLD_WITHIN, after, as_entry, entries_of};
use crate::backend::Backend;
use crate::harness::{Harness, PATIENCE, within};
use crate::make;
use crate::model::rng::Rng;

/// Writers, requests that each creates, and changes of each request.
const WRITERS: usize = 4;
const REQUESTS: usize = 10;
const CHANGES: usize = 5;

/// Three replicas by the machine's clock; none where there is no PostgreSQL.
async fn three() -> Option<[Harness; 3]> {
    let first = Backend::postgres().await?;
    let first = Harness::over(first, Clock::real(), Limits::default()).await;
    let (second, third) = (first.replica().await, first.replica().await);
    Some([first, second, third])
}

/// Creates requests and changes them, each time through another replica; gives their names.
async fn write(replicas: [ReplicaClient; 3], writer: usize) -> Vec<String> {
    let mut names = Vec::new();
    for number in 0..REQUESTS {
        let form = v1::BookingRequest {
            origin: Some(make::wire_referral(&format!("R-{writer}-{number}"))),
            ..make::wire_form("2099-05-18", "2099-06-12")
        };
        let mut client = replicas[number % 3].clone();
        let created = client.create_booking_request(make::wire_create(form)).await;
        let created = created.expect("created").into_inner();
        let name = created.booking_request.expect("the request").name;
        for change in 0..CHANGES {
            let call = v1::RecordPatientContactRequest {
                name: name.clone(),
                request_id: make::request_id(),
                outcome: ContactOutcome::CallBack.into(),
                ..Default::default()
            };
            let mut client = replicas[(number + change) % 3].clone();
            client.record_patient_contact(call).await.expect("recorded");
        }
        names.push(name);
    }
    names
}

type ReplicaClient =
    v1::booking_request_service_client::BookingRequestServiceClient<crate::harness::Line>;

/// The revision that an etag names.
fn revision(change: &v1::Change) -> u64 {
    let number = change.etag.strip_prefix('r').expect("an etag");
    number.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_goes_from_one_to_another_sees_every_entry_in_the_order_of_revisions() {
    let Some(replicas) = three().await else {
        return;
    };
    let clients = || [0, 1, 2].map(|it: usize| replicas[it].requests());
    let mut reader = Reader::from_now(&replicas[0]).await;
    let mut cursor = reader.cursor.clone();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(clients(), writer));
    }
    let mut rng = Rng::new(7);
    // Of each request the changes that were told, in the order in which they came first.
    let mut told: BTreeMap<String, Vec<v1::Change>> = BTreeMap::new();
    let mut count = 0;
    let begun = Instant::now();
    while count < WRITERS * REQUESTS * (CHANGES + 1) {
        assert!(begun.elapsed() < 3 * PATIENCE, "{count} were told");
        // Between two messages, for what it comes back to is told again.
        if reader.waiting.is_empty() && rng.chance(10) {
            let replica = rng.pick(&[0, 1, 2]);
            let opened = Reader::open(replicas[replica].requests(), after(&cursor)).await;
            reader = opened.expect("a stream");
        }
        let Ok(next) = tokio::time::timeout(Duration::from_secs(3), reader.next()).await else {
            // It may have told before it was left what is still wanted.
            continue;
        };
        let change = next.expect("a change");
        if reader.waiting.is_empty() {
            cursor.clone_from(&reader.cursor);
        }
        let of_request = told.entry(change.booking_request.clone()).or_default();
        if !of_request.contains(&change) {
            of_request.push(change);
            count += 1;
        }
    }
    let names: Vec<String> = within(writers.join_all()).await.concat();
    assert_eq!(told.keys().collect::<BTreeSet<_>>(), names.iter().collect());
    for (name, changes) in told {
        assert!(changes.iter().map(revision).is_sorted(), "{changes:?}");
        let changes: Vec<_> = changes.into_iter().map(as_entry).collect();
        assert_eq!(changes, entries_of(&replicas[1], &name).await);
    }
}

#[tokio::test]
async fn what_one_replica_commits_another_tells_within_two_seconds() {
    let Some(replicas) = three().await else {
        return;
    };
    let mut reader = Reader::from_now(&replicas[0]).await;
    for number in 0..6 {
        let form = v1::BookingRequest {
            origin: Some(make::wire_referral(&format!("R-{number}"))),
            ..make::wire_form("2099-05-18", "2099-06-12")
        };
        let created = replicas[number % 3].create(make::wire_create(form)).await;
        let committed = Instant::now();
        let change = reader.next().await.expect("a change");
        assert_eq!(change.booking_request, created.expect("created").name);
        assert!(
            committed.elapsed() < TOLD_WITHIN,
            "{:?}",
            committed.elapsed()
        );
    }
}
