//! The actions of staff on a request that exists: one call each, which must succeed.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Outcome;
use care_invitation::contract::v1::HistoryEvent;
use care_invitation::contract::v1::NotificationCause;
use care_invitation::contract::v1::Worklist;
use care_invitation::contract::v1::change_booking_request_request::OnChange;
use care_invitation::contract::v1::delivery_receipt::Receipt;
use prost_types::{FieldMask, Timestamp};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::harness::{Harness, within};
use crate::make;

/// Every list but ALL, in the order in which they are counted. An open request is on exactly one of the first six; those
/// after them come beside their own list.
pub const LISTS: [Worklist; 9] = [
    Worklist::BookingRequests,
    Worklist::CareInvitations,
    Worklist::FollowUp,
    Worklist::ManualHandling,
    Worklist::SlotIssues,
    Worklist::Declined,
    Worklist::GuaranteeAtRisk,
    Worklist::AllInvitations,
    Worklist::AllBookingRequests,
];

/// Records what came of a contact with the patient.
pub async fn contact(harness: &Harness, request: &str, outcome: Outcome) -> v1::BookingRequest {
    record_contact(harness, request, outcome, "").await
}

/// Records that the patient will book until the end of a day.
pub async fn will_book(harness: &Harness, request: &str, until: &str) -> v1::BookingRequest {
    record_contact(harness, request, Outcome::WillBook, until).await
}

async fn record_contact(
    harness: &Harness,
    request: &str,
    outcome: Outcome,
    until: &str,
) -> v1::BookingRequest {
    let call = v1::RecordPatientContactRequest {
        name: request.into(),
        request_id: make::request_id(),
        outcome: outcome.into(),
        wait_until_date: until.into(),
        ..Default::default()
    };
    let answer = within(harness.requests().record_patient_contact(call)).await;
    let answer = answer.expect("recorded").into_inner();
    answer.booking_request.expect("the request")
}

/// Lifts the hold; the unspecified channel leaves the choice as it was.
pub async fn release(
    harness: &Harness,
    request: &str,
    channel: v1::DeliveryChannel,
) -> v1::BookingRequest {
    let call = v1::ReleaseHoldRequest {
        name: request.into(),
        request_id: make::request_id(),
        etag: String::new(),
        channel: channel.into(),
        comment: "it may be sent".into(),
    };
    let answer = within(harness.requests().release_hold(call)).await;
    let answer = answer.expect("released").into_inner();
    answer.booking_request.expect("the request")
}

/// Gives the request another period.
pub async fn change_period(
    harness: &Harness,
    request: &str,
    first: &str,
    last: &str,
    on_change: OnChange,
) -> v1::BookingRequest {
    let changed = v1::BookingRequest {
        constraints: Some(make::wire_constraints(first, last)),
        ..Default::default()
    };
    let path = "constraints.requested_period";
    change(harness, request, changed, path, on_change).await
}

/// Gives the request another purpose.
pub async fn change_purpose(harness: &Harness, request: &str, purpose: &str) -> v1::BookingRequest {
    let changed = v1::BookingRequest {
        purpose: purpose.into(),
        ..Default::default()
    };
    change(harness, request, changed, "purpose", OnChange::Unspecified).await
}

/// Gives the request another priority.
pub async fn change_priority(
    harness: &Harness,
    request: &str,
    priority: v1::Priority,
) -> v1::BookingRequest {
    let changed = v1::BookingRequest {
        priority: priority.into(),
        ..Default::default()
    };
    change(harness, request, changed, "priority", OnChange::Unspecified).await
}

async fn change(
    harness: &Harness,
    request: &str,
    changed: v1::BookingRequest,
    path: &str,
    on_change: OnChange,
) -> v1::BookingRequest {
    let call = v1::ChangeBookingRequestRequest {
        booking_request: Some(v1::BookingRequest {
            name: request.into(),
            ..changed
        }),
        update_mask: Some(FieldMask {
            paths: vec![path.into()],
        }),
        request_id: make::request_id(),
        reason: v1::ChangeReason::UnitRequest.into(),
        on_change: on_change.into(),
        ..Default::default()
    };
    let answer = within(harness.requests().change_booking_request(call)).await;
    let answer = answer.expect("changed").into_inner();
    answer.booking_request.expect("the request")
}

/// Writes down whether 1177 reaches the patient of [`make::wire_form`]; says of which requests.
pub async fn set_reach(harness: &Harness, inbox_reach: v1::InboxReach) -> Vec<String> {
    let known = v1::Patient {
        inbox_reach: inbox_reach.into(),
        ..the_patient()
    };
    update_patient(harness, known, "inbox_reach").await
}

/// Writes down the protection of the patient of [`make::wire_form`]; says of which requests.
pub async fn set_protection(harness: &Harness, protection: v1::Protection) -> Vec<String> {
    let known = v1::Patient {
        protection: protection.into(),
        ..the_patient()
    };
    update_patient(harness, known, "protection").await
}

/// Writes down the language of the patient of [`make::wire_form`]; says of which requests.
pub async fn set_language(harness: &Harness, language: &str) -> Vec<String> {
    let known = v1::Patient {
        preferred_language: language.into(),
        ..the_patient()
    };
    update_patient(harness, known, "preferred_language").await
}

fn the_patient() -> v1::Patient {
    let form = make::wire_form("2026-01-01", "2026-01-01");
    form.patient.expect("a patient")
}

async fn update_patient(harness: &Harness, patient: v1::Patient, path: &str) -> Vec<String> {
    let call = v1::UpdatePatientRequest {
        parent: make::wire_unit(),
        patient: Some(patient),
        update_mask: Some(FieldMask {
            paths: vec![path.into()],
        }),
        deceased: false,
        request_id: make::request_id(),
    };
    let answer = within(harness.requests().update_patient(call)).await;
    answer.expect("updated").into_inner().booking_requests
}

/// Reports what is learned about a message; gives the message that follows.
pub async fn report(
    harness: &Harness,
    message: &str,
    receipt: Receipt,
) -> Option<v1::Notification> {
    let reported = try_report(harness, message, receipt, None).await;
    reported.expect("recorded")
}

pub async fn try_report(
    harness: &Harness,
    message: &str,
    receipt: Receipt,
    event_time: Option<Timestamp>,
) -> Result<Option<v1::Notification>, Status> {
    let receipt = v1::DeliveryReceipt {
        name: message.into(),
        receipt: receipt.into(),
        event_time,
    };
    let mut results = reports(harness, vec![receipt]).await?;
    let result = results.remove(0);
    match result.error {
        Some(error) => Err(failure(&error, "receipts[0].")),
        None => Ok(result.follow_up),
    }
}

/// Reports what is learned about messages; gives what came of each receipt.
pub async fn reports(
    harness: &Harness,
    receipts: Vec<v1::DeliveryReceipt>,
) -> Result<Vec<v1::DeliveryReceiptResult>, Status> {
    let call = v1::ReportDeliveryRequest { receipts };
    let answer = within(harness.notifications().report_delivery(call)).await?;
    Ok(answer.into_inner().results)
}

/// The error of an element as a call with it alone would have failed.
fn failure(error: &v1::ElementError, path: &str) -> Status {
    let reason = error.reason().as_str_name();
    let reason = reason.trim_start_matches("ERROR_REASON_");
    let metadata = error.metadata.clone();
    let mut details = ErrorDetails::with_error_info(reason, "careinvitation", metadata);
    for violation in &error.field_violations {
        let field = violation.field.strip_prefix(path).expect("the element's");
        details.add_bad_request_violation(field, &violation.description);
    }
    Status::with_error_details(Code::from(error.code), &error.message, details)
}

/// What has happened to a request: each event with its cause and its comment.
pub async fn history(
    harness: &Harness,
    request: &str,
) -> Vec<(HistoryEvent, NotificationCause, String)> {
    let entries = harness.history(request).await.into_iter();
    entries
        .map(|it| (it.event(), it.cause(), it.comment))
        .collect()
}

/// The event of an entry, without its prefix.
pub fn event(entry: &v1::HistoryEntry) -> &'static str {
    let name = entry.event().as_str_name();
    name.strip_prefix("HISTORY_EVENT_").expect("an event")
}
