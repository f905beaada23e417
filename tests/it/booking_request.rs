//! Booking requests through the real client: what is created, changed, repeated and refused, and
//! what of it is shown. A verb or a concern per file in the folder.

mod actions;
mod batch;
mod bookable;
pub mod calls;
mod cancel;
mod change;
mod change_fields;
mod change_to_invitation;
mod change_visit;
mod changed_fields;
mod contact;
mod create;
mod death;
mod duplicate;
mod fields;
mod history;
mod identity;
mod later_writes;
mod order;
mod patient;
mod portal;
mod protection;
mod record_booking;
mod record_booking_cancellation;
mod release;
mod repeat;
mod replace_personal_id;
mod replay;
mod revoke;
mod rounds;
mod running;
mod series;
mod shown;
mod slots;
mod withdrawal;

use crate::worklist_user;
use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::{Action, Warning, Worklist};
use chrono::DateTime;

use crate::harness::Harness;
use crate::make;
use crate::worklist_user::LISTS;

/// A Monday, 10:00 in Stockholm.
const NOW: &str = "2026-03-02T09:00:00Z";

/// Where nobody has created anything.
const NOBODY: &str =
    "careUnits/SE2321000131-P000000123457/bookingRequests/018f3a5e-7a1b-7c3d-8e9f-0123456789ab";

/// The form of a request that nobody is invited to yet.
fn requested(first: &str, last: &str) -> v1::BookingRequest {
    v1::BookingRequest {
        invitation: false,
        ..make::wire_form(first, last)
    }
}

/// An earlier visit, with the referral that it was made under, if it is known.
fn visit(visit_id: &str, referral_id: &str) -> v1::booking_request::Origin {
    v1::booking_request::Origin::PreviousVisit(v1::PreviousVisit {
        visit_id: visit_id.into(),
        referral_id: referral_id.into(),
        ..Default::default()
    })
}

/// A booking by staff, which nothing overrides.
fn booking(booking_id: &str, start: &str, end: &str) -> v1::Booking {
    v1::Booking {
        booking_id: booking_id.into(),
        start_time: Some(make::wire_at(start)),
        end_time: Some(make::wire_at(end)),
        source: v1::BookingSource::Staff.into(),
        ..Default::default()
    }
}

/// The call that records a booking.
fn record(name: &str, booking: v1::Booking) -> v1::RecordBookingRequest {
    v1::RecordBookingRequest {
        name: name.into(),
        request_id: make::request_id(),
        booking: Some(booking),
        ..Default::default()
    }
}

/// The request that this form makes.
async fn created(harness: &Harness, form: v1::BookingRequest) -> v1::BookingRequest {
    let answer = harness.create(make::wire_create(form)).await;
    answer.expect("created")
}

/// An invitation of which all three messages have been handed over when they were due.
async fn silent(harness: &Harness) -> v1::BookingRequest {
    let form = make::wire_form("2026-03-09", "2026-06-12");
    let request = created(harness, form).await;
    for due in [NOW, "2026-03-16T08:00:00Z", "2026-03-30T07:00:00Z"] {
        harness.advance(due);
        assert_eq!(harness.hand_over_due().await.len(), 1, "{due}");
    }
    harness.get(&request.name).await.expect("read")
}

/// When [`silent`] turns to NO_RESPONSE.
const SILENCE_ENDS: &str = "2026-04-13T07:00:00Z";

fn state(request: &v1::BookingRequest) -> State {
    request.state()
}

fn actions(request: &v1::BookingRequest) -> Vec<Action> {
    request.allowed_actions().collect()
}

fn warnings(request: &v1::BookingRequest) -> Vec<Warning> {
    request.warnings().collect()
}

/// The messages of a request.
fn messages(request: &v1::BookingRequest) -> &[v1::Notification] {
    match &request.care_invitation {
        Some(invitation) => &invitation.notifications,
        None => &[],
    }
}

/// State and due time of each message, in order.
fn plan(messages: &[v1::Notification]) -> Vec<String> {
    let shown = messages.iter().map(|message| {
        let state = message.state().as_str_name();
        let due = message.due_time.as_ref().expect("every message is due");
        let due = DateTime::from_timestamp(due.seconds, 0).expect("an instant");
        let state = state.strip_prefix("STATE_").expect("a state");
        format!("{state} {}", due.format("%m-%dT%H:%MZ"))
    });
    shown.collect()
}

fn done(entries: &[v1::HistoryEntry]) -> Vec<&str> {
    entries.iter().map(worklist_user::event).collect()
}

/// The fields that a request's last call has changed, as its history has them.
async fn last_changed(harness: &Harness, name: &str) -> Vec<String> {
    let mut entries = harness.history(name).await;
    let entries = entries.drain(..).rev();
    let mut calls = entries.skip_while(|it| !it.notification.is_empty());
    calls.next().expect("the call's own entry").changed_fields
}

/// The lists that a request is on.
async fn lists_of(harness: &Harness, name: &str) -> Vec<Worklist> {
    let mut found = Vec::new();
    for list in LISTS.into_iter().take(7) {
        let call = v1::ListWorklistRequest {
            query: Some(v1::WorklistQuery {
                worklists: vec![list.into()],
                care_units: vec![make::wire_unit()],
                ..Default::default()
            }),
            page_size: 500,
            page_token: String::new(),
            ..Default::default()
        };
        let answer = harness.worklists().list_worklist(call).await;
        let requests = answer.expect("the list").into_inner().booking_requests;
        if requests.iter().any(|request| request.name == name) {
            found.push(list);
        }
    }
    found
}
