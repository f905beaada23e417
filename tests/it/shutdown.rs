//! The end: health says so, streams end in the contract's words, calls in flight finish.

use std::time::{Duration, Instant};

use care_invitation::contract::v1;
use care_invitation::contract::v1::stream_due_notifications_response::Event;
use care_invitation::domain::care_units::CareUnits;
use care_invitation::domain::worklist::Worklist;
use care_invitation::domain::worklist::query::Query;
use care_invitation::grpc::middleware::Limits;
use care_invitation::grpc::middleware::load::Bounds;
use care_invitation::server::{CLOSE_MAX, DRAIN_MAX};
use prost::Message;
use tokio::net::TcpStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::consumer::{Consumer, at_most, everything};
use crate::harness::{Harness, refusal, within};
use crate::make;
use crate::wire::{Wire, frame};

const NOW: &str = "2026-03-02T09:00:00Z";
const CREATE: &str = "/careinvitation.v1.BookingRequestService/CreateBookingRequest";

fn stopping() -> (Code, String) {
    (Code::Unavailable, "UNAVAILABLE".to_owned())
}

/// Creates so many invitations whose messages are due and take 8 KB each.
async fn create_long_ones(harness: &Harness, count: usize) {
    let long = "å".repeat(2_000);
    for number in 0..count {
        let mut form = make::wire_form("2026-03-09", "2026-06-12");
        form.origin = Some(make::wire_referral(&format!("R-{number}")));
        let instructions = form.patient_instructions.get_or_insert_default();
        instructions.visit_length.clone_from(&long);
        instructions.supplementary.clone_from(&long);
        let created = harness.create(make::wire_create(form)).await;
        created.expect("created");
    }
}

#[tokio::test]
async fn health_turns_not_serving_and_then_its_watchers_are_sent_away() {
    let harness = Harness::start(NOW).await;
    let mut health = HealthClient::new(harness.channel.clone());
    let mut watchers = Vec::new();
    for service in ["", "careinvitation.v1.NotificationService"] {
        let watch = HealthCheckRequest {
            service: service.to_owned(),
        };
        let watched = within(health.watch(watch)).await.expect("a stream");
        let mut watched = watched.into_inner();
        let first = within(watched.message()).await.expect("an answer");
        assert_eq!(first.expect("one").status(), ServingStatus::Serving);
        watchers.push(watched);
    }
    harness.shutdown.cancel();
    for mut watched in watchers {
        let last = within(watched.message()).await.expect("an answer");
        assert_eq!(last.expect("one").status(), ServingStatus::NotServing);
        let end = within(watched.message()).await.unwrap_err();
        assert_eq!(refusal(&end), stopping());
    }
    within(harness.server).await.expect("it ends");
}

#[tokio::test]
async fn due_streams_end_with_unavailable() {
    let harness = Harness::start(NOW).await;
    let created = make::wire_create(make::wire_form("2026-03-09", "2026-06-12"));
    harness.create(created).await.expect("created");
    let mut busy = Consumer::open(&harness, everything()).await;
    busy.due().await;
    let mut idle = Consumer::open(&harness, everything()).await;
    harness.shutdown.cancel();
    for consumer in [&mut busy, &mut idle] {
        assert_eq!(refusal(&consumer.next().await.unwrap_err()), stopping());
    }
    within(harness.server).await.expect("it ends");
}

#[tokio::test]
async fn a_slow_consumer_does_not_take_the_end_for_nothing_being_due() {
    let harness = Harness::start(NOW).await;
    create_long_ones(&harness, 450).await;
    let wishes = v1::StreamDueNotificationsRequest {
        until_idle: true,
        ..at_most(1_000)
    };
    let mut slow = Consumer::open(&harness, wishes).await;
    let mut taken = slow.take(1).await;
    // Meanwhile as many wait for it as the stream holds.
    tokio::time::sleep(Duration::from_millis(300)).await;
    harness.shutdown.cancel();
    let end = loop {
        match slow.next().await {
            Ok(Some(Event::Due(due))) => taken.push(due),
            end => break end,
        }
    };
    assert!(taken.len() < 450, "nothing was left to be read");
    assert_eq!(refusal(&end.unwrap_err()), stopping());
    within(harness.server).await.expect("it ends");
}

#[tokio::test]
async fn a_consumer_that_does_not_read_does_not_hold_the_server() {
    let harness = Harness::start(NOW).await;
    create_long_ones(&harness, 100).await;
    let wire = Wire::connect(harness.address).await;
    let path = "/careinvitation.v1.NotificationService/StreamDueNotifications";
    let mut unread = wire.begin(path, &[]).await;
    unread.send_last(frame(0, &[]));
    let stopped = Instant::now();
    harness.shutdown.cancel();
    within(harness.server).await.expect("it ends");
    assert!(stopped.elapsed() < DRAIN_MAX + CLOSE_MAX + Duration::from_secs(2));
}

#[tokio::test]
async fn a_call_in_flight_finishes_and_what_it_wrote_is_kept() {
    let limits = Limits {
        calls: Bounds::shared(1),
        ..Limits::default()
    };
    let harness = Harness::with_limits(NOW, limits).await;
    let wire = Wire::connect(harness.address).await;
    let create = make::wire_create(make::wire_form("2026-05-18", "2026-06-12"));
    let body = frame(0, &create.encode_to_vec());
    let (first, rest) = body.split_at(body.len() / 2);
    let mut begun = wire.begin(CREATE, &[]).await;
    begun.send(first.to_vec());
    // It is in flight once it has the only place.
    within(async {
        loop {
            let said = harness.get("nobody").await.unwrap_err();
            if said.code() == Code::ResourceExhausted {
                return;
            }
        }
    })
    .await;
    let mut health = HealthClient::new(harness.channel.clone());
    let watched = within(health.watch(HealthCheckRequest::default())).await;
    let mut watched = watched.expect("a stream").into_inner();
    within(watched.message()).await.expect("serving");
    harness.shutdown.cancel();
    let last = within(watched.message()).await.expect("an answer");
    assert_eq!(last.expect("one").status(), ServingStatus::NotServing);
    assert!(!harness.server.is_finished());

    let ended = begun.finish(rest.to_vec()).await;
    assert_eq!(ended.code(), Code::Ok, "{}", ended.message());
    within(harness.server).await.expect("it ends");

    let backend = within(harness.backend.reopened()).await;
    let units = CareUnits::These(vec![make::key().care_unit]);
    let query = Query::of(vec![Worklist::AllInvitations], units);
    let total = backend.store.total(&query, harness.clock.now()).await;
    assert_eq!(total.expect("a total"), 1);
}

#[tokio::test]
async fn no_call_is_taken_on_once_the_server_has_stopped() {
    let harness = Harness::start(NOW).await;
    harness.shutdown.cancel();
    within(harness.server).await.expect("it ends");
    assert!(TcpStream::connect(harness.address).await.is_err());
}

#[tokio::test]
async fn the_server_ends_in_time_whatever_a_connection_does() {
    let harness = Harness::start(NOW).await;
    let silent = TcpStream::connect(harness.address).await.expect("open");
    let wire = Wire::connect(harness.address).await;
    let begun = wire.begin(CREATE, &[]).await;
    // The frames of a connection keep their order: what was begun has come when this is answered.
    wire.call(CREATE, &[], frame(0, &[])).await;
    let stopped = Instant::now();
    harness.shutdown.cancel();
    within(harness.server).await.expect("it ends");
    assert!(stopped.elapsed() < DRAIN_MAX + CLOSE_MAX + Duration::from_secs(1));
    drop((silent, begun));
}
