//! The metadata by which an answer says that it repeats an earlier one.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome;
use care_invitation::contract::v1::record_booking_cancellation_request::Next;
use tonic::{Response, Status};

use super::calls::{contact, mask, move_to, protect, record_booking_cancellation, release, revoke};
use super::{NOW, booking, created, record, replace_personal_id, requested};
use crate::harness::{Harness, within};
use crate::make;

/// Whether an answer says that it is a repeat.
async fn is_repeat<M>(answer: impl Future<Output = Result<Response<M>, Status>>) -> bool {
    let answer = within(answer).await.expect("carried out");
    match answer.metadata().get("idempotent-replay") {
        Some(value) => value == "true",
        None => false,
    }
}

/// Makes a call twice: only the second answer says that it is a repeat.
macro_rules! repeat {
    ($harness:expr, $method:ident, $call:expr) => {
        let call = $call;
        let first = is_repeat($harness.requests().$method(call.clone())).await;
        let second = is_repeat($harness.requests().$method(call)).await;
        assert_eq!((first, second), (false, true), stringify!($method));
    };
}

#[tokio::test]
async fn an_answer_to_a_repeat_says_that_it_is_one() {
    let harness = Harness::start(NOW).await;
    let form = requested("2026-05-18", "2026-06-12");
    repeat!(
        harness,
        create_booking_request,
        make::wire_create(form.clone())
    );
    let other = v1::BookingRequest {
        origin: Some(make::wire_referral("R-2")),
        ..form
    };
    let name = created(&harness, other).await.name;
    let moved = move_to(&name, "2026-05-19", "2026-06-12");
    repeat!(harness, change_booking_request, moved);
    repeat!(harness, change_to_invitation, make::wire_invite(&name));
    repeat!(harness, revoke_invitation, revoke(&name));
    repeat!(harness, change_to_invitation, make::wire_invite(&name));
    let call_back = contact(&name, ContactOutcome::CallBack);
    repeat!(harness, record_patient_contact, call_back);
    repeat!(harness, release_hold, release(&name));
    let visit = booking("B-1", "2026-05-19T08:00:00Z", "2026-05-19T08:30:00Z");
    repeat!(harness, record_booking, record(&name, visit.clone()));
    // A booking that is recorded already changes nothing, and is no repeat of a call.
    repeat!(harness, record_booking, record(&name, visit));
    let off = record_booking_cancellation(&name, "B-1", Next::Requested);
    repeat!(harness, record_booking_cancellation, off);
    repeat!(harness, update_patient, protect());
    // An update that changes nothing is remembered too.
    let unchanged = v1::UpdatePatientRequest {
        parent: "careUnits/-".into(),
        update_mask: Some(mask(&["protection"])),
        ..protect()
    };
    repeat!(harness, update_patient, unchanged);
    let replacement = replace_personal_id::to_other();
    repeat!(harness, replace_personal_id, replacement.clone());
    // So is a replacement that finds nothing.
    let again = v1::ReplacePersonalIdRequest {
        request_id: make::request_id(),
        ..replacement
    };
    repeat!(harness, replace_personal_id, again);
    repeat!(harness, cancel_booking_request, make::wire_cancel(&name));
}
