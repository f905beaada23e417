//! The limits on one subject: a client with a loop does not starve the others.

use std::fs;
use std::num::NonZeroU32;

use care_invitation::auth::keys::Source;
use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::contract::v1::stream_due_notifications_response::Event;
use care_invitation::contract::v1::worklist_service_client::WorklistServiceClient;
use care_invitation::grpc::middleware::Limits;
use care_invitation::grpc::middleware::load::Bounds;
use care_invitation::grpc::middleware::subject::SubjectLimits;
use serde_json::json;
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::issuer::{Signer, claims_with, key_set};
use super::{Guarded, admitted, ask_with, bearing, by_tokens};
use crate::harness::{metadata, refusal, within};
use crate::make;

/// A service with these limits on each subject, and the tokens of two of them.
async fn limited(subject: SubjectLimits) -> (Guarded, [String; 2]) {
    within_limits(Limits {
        subject,
        ..Limits::default()
    })
    .await
}

async fn within_limits(limits: Limits) -> (Guarded, [String; 2]) {
    let signer = Signer::ed("a");
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("keys.json");
    fs::write(&path, key_set(&[&signer])).expect("written");
    let authenticator = by_tokens(Source::File(path)).await;
    let tokens = ["loop", "other"].map(|it| signer.token(&claims_with("sub", Some(json!(it)))));
    (
        Guarded::within_limits(authenticator, None, limits).await,
        tokens,
    )
}

fn assert_limited(said: &Status, limit: &str) {
    let expected = (Code::ResourceExhausted, "RATE_LIMITED".to_owned());
    assert_eq!(refusal(said), expected);
    assert_eq!(metadata(said, "limit"), limit);
    let details = said.get_error_details();
    let retry = details.retry_info().expect("when to try again");
    assert!(retry.retry_delay.is_some_and(|delay| !delay.is_zero()));
}

#[tokio::test]
async fn a_loop_of_one_subject_is_refused_while_another_ones_calls_go_on() {
    let (service, [looping, other]) = limited(SubjectLimits {
        calls_per_second: NonZeroU32::new(5),
        ..SubjectLimits::default()
    })
    .await;
    // One connection, as behind a proxy.
    let channel = service.channel().await;
    let refused = within(async {
        loop {
            let said = ask_with(&channel, &looping).await;
            if refusal(&said) != admitted() {
                return said;
            }
        }
    })
    .await;
    assert_limited(&refused, "CALLS_PER_SECOND");
    assert_eq!(refusal(&ask_with(&channel, &other).await), admitted());
    let details = refused.get_error_details();
    let pause = details.retry_info().and_then(|it| it.retry_delay);
    tokio::time::sleep(pause.expect("a pause")).await;
    assert_eq!(refusal(&ask_with(&channel, &looping).await), admitted());
}

async fn open_stream(
    channel: &Channel,
    token: &str,
) -> Result<tonic::Streaming<v1::StreamDueNotificationsResponse>, Status> {
    let mut client = NotificationServiceClient::new(channel.clone());
    let wishes = v1::StreamDueNotificationsRequest::default();
    let opened = within(client.stream_due_notifications(bearing(wishes, token))).await;
    opened.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn the_streams_of_one_subject_leave_places_for_those_of_another() {
    let (service, [looping, other]) = limited(SubjectLimits {
        streams: NonZeroU32::new(2),
        ..SubjectLimits::default()
    })
    .await;
    let channel = service.channel().await;
    let first = open_stream(&channel, &looping).await.expect("one");
    let _second = open_stream(&channel, &looping).await.expect("two");
    let refused = open_stream(&channel, &looping).await.err();
    assert_limited(&refused.expect("two are open"), "STREAMS");
    open_stream(&channel, &other)
        .await
        .expect("another subject");
    drop(first);
    within(async { while open_stream(&channel, &looping).await.is_err() {} }).await;
}

#[tokio::test]
async fn a_stream_ends_after_the_row_that_was_one_too_many() {
    let (service, [looping, other]) = limited(SubjectLimits {
        rows_per_minute: NonZeroU32::new(1),
        ..SubjectLimits::default()
    })
    .await;
    let channel = service.channel().await;
    let mut requests = BookingRequestServiceClient::new(channel.clone());
    let create = make::wire_create(make::wire_form("2026-03-16", "2026-06-12"));
    let made = within(requests.create_booking_request(bearing(create, &other))).await;
    made.expect("created");
    let mut stream = open_stream(&channel, &looping).await.expect("a stream");
    let event = within(stream.message()).await.expect("it is sent");
    let event = event.expect("an event").event;
    assert!(
        matches!(event, Some(Event::Due(_))),
        "what is leased is sent"
    );
    let end = within(stream.message()).await;
    assert_limited(&end.expect_err("it ends"), "ROWS_PER_MINUTE");
}

#[tokio::test]
async fn the_calls_of_one_subject_leave_places_for_those_of_another() {
    let (service, [looping, other]) = within_limits(Limits {
        streams: Bounds {
            subject: 1,
            ..Limits::default().streams
        },
        ..Limits::default()
    })
    .await;
    let channel = service.channel().await;
    let _open = open_stream(&channel, &looping).await.expect("one");
    let refused = open_stream(&channel, &looping).await.err();
    assert_eq!(
        refused.expect("one is open").code(),
        Code::ResourceExhausted
    );
    open_stream(&channel, &other)
        .await
        .expect("another subject");
}

#[tokio::test]
async fn lists_of_one_subject_wait_for_what_it_has_read_while_another_reads() {
    let (service, [looping, other]) = limited(SubjectLimits {
        rows_per_minute: NonZeroU32::new(3),
        ..SubjectLimits::default()
    })
    .await;
    let channel = service.channel().await;
    let create = make::wire_create(make::wire_form("2026-05-18", "2026-06-12"));
    let mut requests = BookingRequestServiceClient::new(channel.clone());
    let made = within(requests.create_booking_request(bearing(create, &other))).await;
    made.expect("created");
    let list = async |token| {
        let call = v1::ListWorklistRequest {
            query: Some(v1::WorklistQuery {
                worklists: vec![v1::Worklist::CareInvitations.into()],
                care_units: vec![make::wire_unit()],
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut client = WorklistServiceClient::new(channel.clone());
        within(client.list_worklist(bearing(call, token))).await
    };
    for _ in 0..3 {
        let page = list(&looping).await.expect("a page").into_inner();
        assert_eq!(page.booking_requests.len(), 1);
    }
    let refused = list(&looping).await.err();
    assert_limited(&refused.expect("three are read"), "ROWS_PER_MINUTE");
    list(&other).await.expect("it has read one");
    assert_eq!(refusal(&ask_with(&channel, &looping).await), admitted());
}
