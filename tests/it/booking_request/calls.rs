//! The calls of a request's later life, each the smallest valid one, and what messages go through
//! meanwhile.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Outcome;
use care_invitation::contract::v1::HoldReason;
use care_invitation::contract::v1::acknowledgement::Outcome as Answer;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::delivery_receipt::Receipt;
use care_invitation::contract::v1::record_booking_cancellation_request::Next;
use prost_types::FieldMask;
use tonic::{Code, Status};

use super::messages;
use crate::consumer::Outcomes as _;
use crate::consumer::{authorize, lease, sent};
use crate::harness::{Harness, metadata, refusal, within};
use crate::make;
use crate::worklist_user;

pub fn mask(paths: &[&str]) -> FieldMask {
    FieldMask {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    }
}

/// The call that gives the named fields of a request the values that they have in `to`.
pub fn change(
    name: &str,
    paths: &[&str],
    to: v1::BookingRequest,
) -> v1::ChangeBookingRequestRequest {
    v1::ChangeBookingRequestRequest {
        booking_request: Some(v1::BookingRequest {
            name: name.into(),
            ..to
        }),
        update_mask: Some(mask(paths)),
        request_id: make::request_id(),
        reason: v1::ChangeReason::UnitRequest.into(),
        ..Default::default()
    }
}

/// The call that moves the requested period of a request.
pub fn move_to(name: &str, first: &str, last: &str) -> v1::ChangeBookingRequestRequest {
    let to = make::wire_form(first, last);
    change(name, &["constraints.requested_period"], to)
}

pub async fn changed(
    harness: &Harness,
    call: v1::ChangeBookingRequestRequest,
) -> Result<v1::BookingRequest, Status> {
    let answer = within(harness.requests().change_booking_request(call)).await?;
    Ok(answer.into_inner().booking_request.expect("the request"))
}

/// The call that records what came of a contact.
pub fn contact(name: &str, outcome: Outcome) -> v1::RecordPatientContactRequest {
    v1::RecordPatientContactRequest {
        name: name.into(),
        request_id: make::request_id(),
        outcome: outcome.into(),
        ..Default::default()
    }
}

pub async fn contacted(
    harness: &Harness,
    call: v1::RecordPatientContactRequest,
) -> Result<v1::BookingRequest, Status> {
    let answer = within(harness.requests().record_patient_contact(call)).await?;
    Ok(answer.into_inner().booking_request.expect("the request"))
}

/// The call that lifts a hold and leaves the choice of channel as it was.
pub fn release(name: &str) -> v1::ReleaseHoldRequest {
    v1::ReleaseHoldRequest {
        name: name.into(),
        request_id: make::request_id(),
        comment: "adressen är kontrollerad".into(),
        ..Default::default()
    }
}

pub async fn released(
    harness: &Harness,
    call: v1::ReleaseHoldRequest,
) -> Result<v1::BookingRequest, Status> {
    let answer = within(harness.requests().release_hold(call)).await?;
    Ok(answer.into_inner().booking_request.expect("the request"))
}

/// The call that says that a booking of the unit's is off.
pub fn record_booking_cancellation(
    name: &str,
    booking_id: &str,
    next: Next,
) -> v1::RecordBookingCancellationRequest {
    v1::RecordBookingCancellationRequest {
        name: name.into(),
        request_id: make::request_id(),
        booking_id: booking_id.into(),
        reason: v1::BookingCancellationReason::CareUnit.into(),
        next: next.into(),
        ..Default::default()
    }
}

pub async fn unbooked(
    harness: &Harness,
    call: v1::RecordBookingCancellationRequest,
) -> Result<v1::BookingRequest, Status> {
    let answer = within(harness.requests().record_booking_cancellation(call)).await?;
    Ok(answer.into_inner().booking_request.expect("the request"))
}

/// The call that revokes an invitation.
pub fn revoke(name: &str) -> v1::RevokeInvitationRequest {
    v1::RevokeInvitationRequest {
        name: name.into(),
        request_id: make::request_id(),
        comment: "fel remiss".into(),
        ..Default::default()
    }
}

pub async fn revoked(
    harness: &Harness,
    call: v1::RevokeInvitationRequest,
) -> Result<v1::BookingRequest, Status> {
    let answer = within(harness.requests().revoke_invitation(call)).await?;
    Ok(answer.into_inner().booking_request.expect("the request"))
}

/// The call that says of the patient of every test form what is named of `to`, in the one unit.
pub fn update(paths: &[&str], to: v1::Patient) -> v1::UpdatePatientRequest {
    v1::UpdatePatientRequest {
        parent: make::wire_unit(),
        patient: Some(v1::Patient {
            personal_id: "198003012385".into(),
            personal_id_type: v1::PersonalIdType::Personnummer.into(),
            ..to
        }),
        update_mask: Some(mask(paths)),
        deceased: false,
        request_id: make::request_id(),
    }
}

/// The call that says that this patient has got a protected identity.
pub fn protect() -> v1::UpdatePatientRequest {
    let to = v1::Patient {
        protection: v1::Protection::ConfidentialityMarked.into(),
        ..Default::default()
    };
    update(&["protection"], to)
}

/// The call that says that this patient has died.
pub fn bury() -> v1::UpdatePatientRequest {
    v1::UpdatePatientRequest {
        deceased: true,
        update_mask: None,
        ..update(&[], v1::Patient::default())
    }
}

/// Updates a patient; the names of the requests that were changed.
pub async fn updated(
    harness: &Harness,
    call: v1::UpdatePatientRequest,
) -> Result<Vec<String>, Status> {
    let answer = within(harness.requests().update_patient(call)).await?;
    Ok(answer.into_inner().booking_requests)
}

/// The call that closes a request for this reason.
pub fn cancel(name: &str, reason: v1::CancelReason) -> v1::CancelBookingRequestRequest {
    v1::CancelBookingRequestRequest {
        reason: reason.into(),
        comment: "se journalen".into(),
        ..make::wire_cancel(name)
    }
}

/// The call that invites anew between two dates.
pub fn invite_between(name: &str, first: &str, last: &str) -> v1::ChangeToInvitationRequest {
    v1::ChangeToInvitationRequest {
        constraints: Some(make::wire_constraints(first, last)),
        ..make::wire_invite(name)
    }
}

/// Leases the one message that is due.
pub async fn lease_one(harness: &Harness) -> v1::DueNotification {
    let mut due = harness.lease_due().await;
    assert_eq!(due.len(), 1, "one message is due");
    due.remove(0)
}

/// Hands over the one message that is due.
pub async fn hand_over_one(harness: &Harness) -> v1::DueNotification {
    let due = lease_one(harness).await;
    harness.acknowledge_sent(std::slice::from_ref(&due)).await;
    due
}

/// Gets leave to hand a message over.
pub async fn get_leave(harness: &Harness, due: &v1::DueNotification) {
    let answer = authorize(harness, vec![lease(due)])
        .await
        .expect("an answer");
    assert_eq!(answer.refused(), [""; 0]);
}

/// The answer that the channel does not reach the patient.
pub fn unreachable(due: &v1::DueNotification) -> v1::Acknowledgement {
    v1::Acknowledgement {
        outcome: Answer::Unreachable.into(),
        ..sent(due)
    }
}

/// The answer that something is wrong with the message.
pub fn park(due: &v1::DueNotification) -> v1::Acknowledgement {
    v1::Acknowledgement {
        outcome: Answer::Park.into(),
        ..sent(due)
    }
}

/// Reports what was learned about a message; the one that follows, if one does.
pub async fn reported(harness: &Harness, name: &str, receipt: Receipt) -> Option<v1::Notification> {
    worklist_user::report(harness, name, receipt).await
}

/// What holds a request.
pub fn hold(request: &v1::BookingRequest) -> HoldReason {
    let invitation = request.care_invitation.as_ref();
    invitation.map_or(HoldReason::Unspecified, |it| it.hold_reason())
}

/// Which round a request is in.
pub fn round(request: &v1::BookingRequest) -> i32 {
    request.care_invitation.as_ref().map_or(0, |it| it.round)
}

/// The states of the messages that are planned, those only projected left out.
pub fn planned(request: &v1::BookingRequest) -> String {
    let planned = messages(request).iter().filter(|it| !it.name.is_empty());
    let states = planned.map(|it| it.state().as_str_name().trim_start_matches("STATE_"));
    states.collect::<Vec<_>>().join(" ")
}

/// Kind, channel and its reason of the message of this name.
pub fn way(
    request: &v1::BookingRequest,
    name: &str,
) -> (v1::NotificationKind, v1::DeliveryChannel, v1::ChannelReason) {
    let found = messages(request).iter().find(|it| it.name == name);
    let found = found.expect("a message of the request");
    (found.kind(), found.channel(), found.channel_reason())
}

/// Asserts that a verb was refused in this state, of which the oracle allows these actions.
pub fn assert_conflict(status: &Status, state: State, allowed: &str, row: &str) {
    let expected = (Code::FailedPrecondition, "STATE_CONFLICT".to_owned());
    assert_eq!(refusal(status), expected, "{row}");
    let state = state.as_str_name().trim_start_matches("STATE_");
    assert_eq!(metadata(status, "state"), state, "{row}");
    assert_eq!(metadata(status, "allowed_actions"), allowed, "{row}");
}
