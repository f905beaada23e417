//! Receipts of the printer: a letter was posted, or never was.

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request::State as RequestState;
use care_invitation::contract::v1::delivery_receipt::Receipt;
use care_invitation::contract::v1::{
    ErrorReason, HistoryEvent, HoldReason, InboxReach, NotificationCause,
};

use super::{NOW, State, book, create, due_now, messages, states};
use crate::consumer::{acknowledge, element_fields, message, name, sent};
use crate::harness::{Harness, refusal};
use crate::make;
use crate::worklist_user::{self, report, reports, try_report};

const FIRST_REMINDER: &str = "2026-03-16T08:00:00Z";
const SECOND_REMINDER: &str = "2026-03-30T07:00:00Z";

/// A request of which the first message has been handed over as a letter, and that letter.
async fn printed(harness: &Harness) -> (String, v1::DueNotification) {
    let mut form = due_now("R-1");
    let patient = form.patient.as_mut().expect("a patient");
    patient.inbox_reach = InboxReach::None.into();
    let request = create(harness, form).await;
    let mut due = harness.hand_over_due().await;
    (request, due.remove(0))
}

async fn hold_of(harness: &Harness, request: &str) -> HoldReason {
    let request = harness.get(request).await.expect("a request");
    request
        .care_invitation
        .expect("an invitation")
        .hold_reason()
}

/// State and cause of each message that is planned.
async fn planned(harness: &Harness, request: &str) -> Vec<(State, NotificationCause)> {
    let shown = messages(harness, request).await.into_iter();
    let planned = shown.filter(|it| !it.name.is_empty());
    planned.map(|it| (it.state(), it.cause())).collect()
}

async fn release(harness: &Harness, name: &str) {
    let call = v1::ReleaseHoldRequest {
        name: name.into(),
        request_id: make::request_id(),
        comment: "tryckt igen".into(),
        ..Default::default()
    };
    let requests = vec![call];
    let call = v1::BatchReleaseHoldRequest { requests };
    let answer = harness.requests().batch_release_hold(call).await;
    let results = answer.expect("answered").into_inner().results;
    assert_eq!(results[0].error, None);
}

#[tokio::test]
async fn a_letter_that_was_posted_shows_when_and_nothing_follows() {
    let harness = Harness::start(NOW).await;
    let (request, letter) = printed(&harness).await;
    harness.advance("2026-03-04T12:00:00Z");
    let followed = report(&harness, &name(&letter), Receipt::Dispatched).await;
    assert_eq!(followed, None);
    let shown = messages(&harness, &request).await;
    let posted = Some(make::wire_at("2026-03-04T12:00:00Z"));
    assert_eq!(shown[0].dispatch_time, posted);
    let plan = states(&harness, &request).await;
    assert_eq!(plan, [State::Sent, State::Scheduled, State::Projected]);
    let history = worklist_user::history(&harness, &request).await;
    assert_eq!(
        history.last().expect("an entry").0,
        HistoryEvent::NotificationDispatched
    );
}

#[tokio::test]
async fn a_letter_that_was_never_posted_counts_for_nothing_and_waits_for_staff() {
    let harness = Harness::start(NOW).await;
    let (request, letter) = printed(&harness).await;
    harness.advance("2026-03-10T12:00:00Z");
    let again = report(&harness, &name(&letter), Receipt::NotProduced).await;
    let again = again.expect("another letter");
    assert_ne!(again.name, name(&letter));
    assert_eq!(
        (again.kind(), again.state()),
        (message(&letter).kind(), State::Parked)
    );
    let cause = NotificationCause::NotProduced;
    assert_eq!(
        planned(&harness, &request).await,
        [
            (State::Cancelled, cause),
            (State::Cancelled, cause),
            (State::Parked, cause)
        ]
    );
    let shown = messages(&harness, &request).await;
    assert_eq!(shown.len(), 5, "two reminders are to come");
    assert!(shown[0].not_produced_time.is_some());
    assert_eq!(hold_of(&harness, &request).await, HoldReason::Undeliverable);
    let history = worklist_user::history(&harness, &request).await;
    let told: Vec<_> = history.iter().map(|(event, _, _)| *event).collect();
    assert_eq!(
        told[2..],
        [
            HistoryEvent::NotificationNotProduced,
            HistoryEvent::NotificationCancelled,
            HistoryEvent::NotificationParked
        ]
    );
    // Repeats of either report change nothing.
    let etag = harness.get(&request).await.expect("a request").etag;
    assert_eq!(
        report(&harness, &name(&letter), Receipt::NotProduced).await,
        Some(again.clone())
    );
    let repeated = acknowledge(&harness, vec![sent(&letter)]).await;
    assert!(repeated.expect("recorded").is_empty());
    assert_eq!(harness.get(&request).await.expect("a request").etag, etag);

    // The reminders count from the letter that was posted.
    harness.advance("2026-03-12T12:00:00Z");
    release(&harness, &request).await;
    let due = harness.hand_over_due().await;
    assert_eq!((due.len(), name(&due[0])), (1, again.name));
    assert_eq!(due[0].previous_send_time, None);
    for at in ["2026-03-26T08:00:00Z", "2026-04-09T07:00:00Z"] {
        assert!(harness.lease_due().await.is_empty());
        harness.advance(at);
        assert_eq!(harness.hand_over_due().await.len(), 1, "{at}");
    }
    harness.advance("2026-04-23T07:00:00Z");
    let shown = harness.get(&request).await.expect("a request");
    assert_eq!(shown.state(), RequestState::NoResponse);
}

#[tokio::test]
async fn the_last_reminder_that_was_never_posted_ends_no_response() {
    let harness = Harness::start(NOW).await;
    let (request, _) = printed(&harness).await;
    let mut last = String::new();
    for at in [FIRST_REMINDER, SECOND_REMINDER] {
        harness.advance(at);
        last = name(&harness.hand_over_due().await[0]);
    }
    harness.advance("2026-04-13T07:00:00Z");
    let shown = harness.get(&request).await.expect("a request");
    assert_eq!(shown.state(), RequestState::NoResponse);
    report(&harness, &last, Receipt::NotProduced)
        .await
        .expect("another");
    let shown = harness.get(&request).await.expect("a request");
    assert_eq!(shown.state(), RequestState::Invited);
    release(&harness, &request).await;
    assert_eq!(harness.hand_over_due().await.len(), 1);
    harness.advance("2026-04-27T07:00:00Z");
    let shown = harness.get(&request).await.expect("a request");
    assert_eq!(shown.state(), RequestState::NoResponse);
}

#[tokio::test]
async fn an_invitation_that_was_never_posted_needs_no_withdrawal_and_may_be_revoked() {
    let harness = Harness::start(NOW).await;
    let (request, letter) = printed(&harness).await;
    report(&harness, &name(&letter), Receipt::NotProduced).await;
    let shown = harness.get(&request).await.expect("a request");
    let revoke = v1::Action::RevokeInvitation;
    assert!(shown.allowed_actions().any(|it| it == revoke));
    harness
        .cancel(make::wire_cancel(&request))
        .await
        .expect("cancelled");
    assert!(harness.lease_due().await.is_empty());
    assert!(
        messages(&harness, &request)
            .await
            .iter()
            .all(|it| it.state() == State::Cancelled)
    );
}

#[tokio::test]
async fn anywhere_else_it_is_recorded_only() {
    for row in [
        "not the latest",
        "dispatching",
        "booked",
        "expired",
        "new round",
    ] {
        let harness = Harness::start(NOW).await;
        let (request, letter) = printed(&harness).await;
        match row {
            "not the latest" => {
                harness.advance(FIRST_REMINDER);
                harness.hand_over_due().await;
            }
            "dispatching" => {
                harness.advance(FIRST_REMINDER);
                let due = harness.lease_due().await;
                let leases = due.iter().map(crate::consumer::lease).collect();
                let leave = crate::consumer::authorize(&harness, leases).await;
                leave.expect("answered");
            }
            "booked" => book(&harness, &request).await,
            "expired" => harness.advance("2026-06-12T22:00:00Z"),
            _ => {
                book(&harness, &request).await;
                harness
                    .invite(make::wire_invite(&request))
                    .await
                    .expect("invited");
            }
        }
        let before = states(&harness, &request).await;
        let followed = report(&harness, &name(&letter), Receipt::NotProduced).await;
        assert_eq!(followed, None, "{row}");
        assert_eq!(states(&harness, &request).await, before, "{row}");
        assert_eq!(
            hold_of(&harness, &request).await,
            HoldReason::Unspecified,
            "{row}"
        );
        let shown = messages(&harness, &request).await;
        assert!(shown[0].not_produced_time.is_some(), "{row}");
        assert_eq!(shown[0].state(), State::Sent, "{row}");
    }
}

#[tokio::test]
async fn a_letter_in_the_place_of_one_that_unread_brought_goes_when_the_patient_reads() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let first = name(&harness.hand_over_due().await[0]);
    harness.advance("2026-03-09T13:00:00Z");
    report(&harness, &first, Receipt::Unread)
        .await
        .expect("a letter");
    let letter = name(&harness.hand_over_due().await[0]);
    let again = report(&harness, &letter, Receipt::NotProduced).await;
    let again = again.expect("another letter");
    assert_eq!(again.channel_reason(), v1::ChannelReason::Unread);
    // The reminder counts from the message in the inbox, and stays.
    let reminder = messages(&harness, &request).await.remove(1);
    assert_eq!(reminder.state(), State::Scheduled);
    report(&harness, &first, Receipt::Read).await;
    let shown = messages(&harness, &request).await;
    let replaced = shown.iter().find(|it| it.name == again.name);
    let replaced = replaced.expect("shown");
    assert_eq!(
        (replaced.state(), replaced.cause()),
        (State::Cancelled, NotificationCause::Read)
    );
    assert_eq!(hold_of(&harness, &request).await, HoldReason::Undeliverable);
}

#[tokio::test]
async fn a_reminder_that_had_left_all_the_same_takes_the_place_of_what_waits() {
    let harness = Harness::start(NOW).await;
    let (request, letter) = printed(&harness).await;
    harness.advance(FIRST_REMINDER);
    let reminder = harness.lease_due().await.remove(0);
    report(&harness, &name(&letter), Receipt::NotProduced)
        .await
        .expect("another");
    harness
        .acknowledge_sent(std::slice::from_ref(&reminder))
        .await;
    release(&harness, &request).await;
    let plan = planned(&harness, &request).await;
    let states: Vec<_> = plan.iter().map(|(state, _)| *state).collect();
    let expected = [
        State::Cancelled,
        State::Sent,
        State::Cancelled,
        State::Scheduled,
    ];
    assert_eq!(states, expected);
    assert!(harness.lease_due().await.is_empty());
    harness.advance(SECOND_REMINDER);
    assert_eq!(harness.lease_due().await.len(), 1);
}

#[tokio::test]
async fn each_receipt_of_a_batch_is_answered_by_itself() {
    let harness = Harness::start(NOW).await;
    let (_, letter) = printed(&harness).await;
    let waiting = create(&harness, due_now("R-2")).await;
    let waiting = messages(&harness, &waiting).await.remove(0).name;
    let receipt = |name: &str, receipt: Receipt| v1::DeliveryReceipt {
        name: name.into(),
        receipt: receipt.into(),
        event_time: None,
    };
    let letter = name(&letter);
    let (request, _) = waiting.split_once("/notifications/").expect("a name");
    let unknown = format!("{request}/notifications/018f3a5e-7a1b-7c3d-8e9f-0123456789ab");
    let receipts = vec![
        receipt("x", Receipt::Unspecified),
        receipt(&letter, Receipt::Dispatched),
        receipt(&waiting, Receipt::Read),
        receipt(&unknown, Receipt::Read),
        receipt(&letter, Receipt::NotProduced),
        receipt(&letter, Receipt::NotProduced),
    ];
    let results = reports(&harness, receipts.clone()).await.expect("answered");
    let named: Vec<_> = results.iter().map(|it| it.name.as_str()).collect();
    let given: Vec<_> = receipts.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(named, given);
    let malformed = results[0].error.as_ref().expect("an error");
    assert_eq!(
        element_fields(malformed),
        ["receipts[0].name", "receipts[0].receipt"]
    );
    let reasons: Vec<_> = results
        .iter()
        .map(|it| it.error.as_ref().map(v1::ElementError::reason))
        .collect();
    assert_eq!(
        reasons,
        [
            Some(ErrorReason::FieldInvalid),
            None,
            Some(ErrorReason::StateConflict),
            Some(ErrorReason::ResourceNotFound),
            None,
            None
        ]
    );
    assert!(results[4].follow_up.is_some());
    assert_eq!(results[4].follow_up, results[5].follow_up);
    for count in [0, 501] {
        let many = vec![receipt(&letter, Receipt::Read); count];
        let status = reports(&harness, many).await.expect_err("refused");
        assert_eq!(refusal(&status).1, "FIELD_INVALID", "{count}");
    }
    let read = try_report(&harness, &letter, Receipt::Read, None).await;
    assert_eq!(
        refusal(&read.expect_err("never posted")).1,
        "STATE_CONFLICT"
    );
}
