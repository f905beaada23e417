//! Batches: each item is carried out or refused by itself, as the single call would be, in order and
//! in one commit.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ErrorReason;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::{CancelReason, ContactOutcome};
use tokio::sync::broadcast::error::TryRecvError;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::calls::{cancel, contact, contacted, release};
use super::{NOBODY, NOW, created, requested, state};
use crate::consumer::element_fields;
use crate::harness::{Harness, bad_fields, refusal, within};
use crate::make;

type Results = Vec<v1::BookingRequestResult>;

/// The form of a request from a referral of its own.
fn form(number: usize) -> v1::BookingRequest {
    v1::BookingRequest {
        origin: Some(make::wire_referral(&format!("R-{number}"))),
        ..requested("2026-05-18", "2026-06-12")
    }
}

fn creations(numbers: std::ops::Range<usize>) -> Vec<v1::CreateBookingRequestRequest> {
    numbers.map(|it| make::wire_create(form(it))).collect()
}

async fn create_all(
    harness: &Harness,
    requests: Vec<v1::CreateBookingRequestRequest>,
) -> Result<Results, Status> {
    let call = v1::BatchCreateBookingRequestsRequest { requests };
    let answer = within(harness.requests().batch_create_booking_requests(call)).await?;
    Ok(answer.into_inner().results)
}

async fn invite_all(
    harness: &Harness,
    requests: Vec<v1::ChangeToInvitationRequest>,
) -> Result<Results, Status> {
    let call = v1::BatchChangeToInvitationRequest { requests };
    let answer = within(harness.requests().batch_change_to_invitation(call)).await?;
    Ok(answer.into_inner().results)
}

async fn cancel_all(
    harness: &Harness,
    requests: Vec<v1::CancelBookingRequestRequest>,
) -> Result<Results, Status> {
    let call = v1::BatchCancelBookingRequestsRequest { requests };
    let answer = within(harness.requests().batch_cancel_booking_requests(call)).await?;
    Ok(answer.into_inner().results)
}

async fn release_all(
    harness: &Harness,
    requests: Vec<v1::ReleaseHoldRequest>,
) -> Result<Results, Status> {
    let call = v1::BatchReleaseHoldRequest { requests };
    let answer = within(harness.requests().batch_release_hold(call)).await?;
    Ok(answer.into_inner().results)
}

/// The request of a result that has one.
fn request(result: &v1::BookingRequestResult) -> &v1::BookingRequest {
    assert_eq!(result.error, None);
    result.booking_request.as_ref().expect("a request")
}

fn error(result: &v1::BookingRequestResult) -> &v1::ElementError {
    assert!(result.booking_request.is_none() && !result.replayed);
    result.error.as_ref().expect("an error")
}

/// Why each item was refused; `None` for those that were not.
fn reasons(results: &Results) -> Vec<Option<ErrorReason>> {
    let reason = |it: &v1::BookingRequestResult| it.error.as_ref().map(v1::ElementError::reason);
    results.iter().map(reason).collect()
}

#[tokio::test]
async fn each_item_is_created_or_refused_by_itself_and_in_order() {
    let harness = Harness::start(NOW).await;
    let mut calls = creations(0..5);
    calls[1].booking_request = Some(form(0));
    calls[2].booking_request.as_mut().expect("a form").purpose = String::new();
    calls[3].booking_request = Some(requested("2026-03-01", "2026-03-13"));
    calls[4].parent = "careUnits/SE2321000131-P2".into();
    let results = create_all(&harness, calls.clone()).await.expect("answered");

    let first = request(&results[0]);
    assert_eq!(harness.get(&first.name).await.expect("stored"), *first);
    let duplicate = error(&results[1]);
    assert_eq!(duplicate.code, Code::AlreadyExists as i32);
    assert_eq!(duplicate.reason(), ErrorReason::DuplicateRequest);
    assert_eq!(duplicate.metadata["name"], first.name);
    let malformed = error(&results[2]);
    assert_eq!(malformed.reason(), ErrorReason::FieldInvalid);
    assert_eq!(
        element_fields(malformed),
        ["requests[2].booking_request.purpose"]
    );
    let yesterday = error(&results[3]);
    assert_eq!(yesterday.code, Code::InvalidArgument as i32);
    let start = "requests[3].booking_request.constraints.requested_period.start_date";
    assert_eq!(element_fields(yesterday), [start]);
    assert!(
        yesterday.message.starts_with(start),
        "{}",
        yesterday.message
    );
    let elsewhere = request(&results[4]);
    assert!(elsewhere.name.starts_with("careUnits/SE2321000131-P2/"));

    // A repeat does what was not done and says of the rest that it is a repeat.
    calls[2].booking_request = Some(form(2));
    let repeated = create_all(&harness, calls).await.expect("answered");
    let replayed: Vec<_> = repeated.iter().map(|it| it.replayed).collect();
    assert_eq!(replayed, [true, false, false, false, true]);
    assert_eq!(request(&repeated[0]), first);
    assert_eq!(request(&repeated[4]), elsewhere);
    assert_eq!(error(&repeated[1]), duplicate);
    assert_eq!(state(request(&repeated[2])), State::Requested);
}

#[tokio::test]
async fn an_item_does_what_its_single_call_does() {
    let harness = Harness::start(NOW).await;
    let mut names = Vec::new();
    for number in 0..2 {
        names.push(created(&harness, form(number)).await.name);
    }
    let (one, other) = (&names[0], &names[1]);
    let alike = |results: &Results, single: &v1::BookingRequest, row: &str| {
        let item = request(&results[0]);
        assert!(!results[0].replayed, "{row}");
        let same = (item.state, &item.allowed_actions, item.cancel_reason);
        let expected = (single.state, &single.allowed_actions, single.cancel_reason);
        assert_eq!(same, expected, "{row}");
    };
    let results = invite_all(&harness, vec![make::wire_invite(one)]).await;
    let single = harness.invite(make::wire_invite(other)).await;
    alike(
        &results.expect("answered"),
        &single.expect("invited"),
        "invite",
    );
    for name in &names {
        let call_back = contact(name, ContactOutcome::CallBack);
        contacted(&harness, call_back).await.expect("held");
    }
    let results = release_all(&harness, vec![release(one)]).await;
    let single = within(harness.requests().release_hold(release(other))).await;
    let single = single.expect("released").into_inner().booking_request;
    alike(
        &results.expect("answered"),
        &single.expect("shown"),
        "release",
    );
    let moved = |name: &str| cancel(name, CancelReason::PatientMoved);
    let results = cancel_all(&harness, vec![moved(one)]).await;
    let single = harness.cancel(moved(other)).await;
    alike(
        &results.expect("answered"),
        &single.expect("closed"),
        "cancel",
    );
    let actions = |entries: &[v1::HistoryEntry]| -> Vec<_> {
        entries.iter().map(v1::HistoryEntry::event).collect()
    };
    let (one, other) = (harness.history(one).await, harness.history(other).await);
    assert_eq!(actions(&one), actions(&other));
}

#[tokio::test]
async fn items_are_refused_for_the_reasons_of_their_single_calls() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, form(0)).await;
    let closed = make::wire_cancel(&request.name);
    let reused = v1::CancelBookingRequestRequest {
        request_id: make::request_id(),
        ..closed.clone()
    };
    harness.cancel(reused.clone()).await.expect("closed");
    let results = cancel_all(
        &harness,
        vec![
            closed,
            make::wire_cancel(NOBODY),
            v1::CancelBookingRequestRequest {
                reason: CancelReason::PatientMoved.into(),
                ..reused.clone()
            },
            v1::CancelBookingRequestRequest {
                etag: "r0".into(),
                ..make::wire_cancel(&request.name)
            },
        ],
    );
    let results = results.await.expect("answered");
    assert_eq!(
        reasons(&results),
        [
            Some(ErrorReason::StateConflict),
            Some(ErrorReason::ResourceNotFound),
            Some(ErrorReason::RequestIdReused),
            Some(ErrorReason::EtagMismatch),
        ]
    );
    assert_eq!(error(&results[0]).metadata["state"], "CANCELLED");
    // Each sees those before it.
    let other = created(&harness, form(1)).await;
    let twice = vec![
        make::wire_invite(&other.name),
        make::wire_invite(&other.name),
    ];
    let results = invite_all(&harness, twice).await.expect("answered");
    assert_eq!(
        reasons(&results),
        [None, Some(ErrorReason::AlreadyInvitation)]
    );
}

#[tokio::test]
async fn a_call_fails_whole_for_its_own_shape_alone() {
    let harness = Harness::start(NOW).await;
    let mut same = creations(0..3);
    same[2].request_id = same[0].request_id.to_uppercase();
    for (calls, fields) in [
        (vec![], vec!["requests"]),
        (creations(0..501), vec!["requests"]),
        (same, vec!["requests[2].request_id"]),
    ] {
        let status = create_all(&harness, calls).await.expect_err("refused");
        let expected = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
        assert_eq!(refusal(&status), expected);
        assert_eq!(bad_fields(&status), fields);
    }
    let malformed = v1::CreateBookingRequestRequest::default();
    let results = create_all(&harness, vec![malformed])
        .await
        .expect("answered");
    assert_eq!(reasons(&results), [Some(ErrorReason::FieldInvalid)]);
}

#[tokio::test]
async fn five_hundred_items_are_committed_together() {
    let harness = Harness::start(NOW).await;
    let mut commits = harness.backend.store.commits();
    // How many requests each commit has changed. Those that only say how far commits are known are none.
    let mut changed = || {
        let commits = std::iter::from_fn(|| match commits.try_recv() {
            Ok(commit) => Some(commit.requests.len()),
            Err(TryRecvError::Empty) => None,
            Err(error) => panic!("{error}"),
        });
        commits.filter(|it| *it > 0).collect::<Vec<_>>()
    };
    let results = create_all(&harness, creations(0..500)).await;
    let results = results.expect("answered");
    assert_eq!(reasons(&results), vec![None; 500]);
    assert_eq!(changed(), [500]);
    let names = results.iter().map(|it| request(it).name.clone());
    let invites = names.map(|name| make::wire_invite(&name)).collect();
    let results = invite_all(&harness, invites).await.expect("answered");
    assert_eq!(reasons(&results), vec![None; 500]);
    assert_eq!(changed(), [500]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_batch_many_times_at_once_is_carried_out_once() {
    let harness = Harness::start(NOW).await;
    let created = create_all(&harness, creations(0..40))
        .await
        .expect("created");
    let names: Vec<_> = created.iter().map(|it| request(it).name.clone()).collect();
    let invites: Vec<_> = names.iter().map(|it| make::wire_invite(it)).collect();
    let mut calls = JoinSet::new();
    for turn in 0..8 {
        let mut client = harness.requests();
        let mut requests = invites.clone();
        // Whoever locks them does so in one order.
        requests.rotate_left(turn * 5);
        let call = v1::BatchChangeToInvitationRequest { requests };
        calls.spawn(async move { client.batch_change_to_invitation(call).await });
    }
    let answers = within(calls.join_all()).await;
    let mut done_count = 0;
    for answer in answers {
        let results = answer.expect("answered").into_inner().results;
        assert_eq!(reasons(&results), vec![None; 40]);
        done_count += results.iter().filter(|it| !it.replayed).count();
    }
    assert_eq!(done_count, 40);
    for name in names {
        assert_eq!(harness.history(&name).await.len(), 2);
    }
}
