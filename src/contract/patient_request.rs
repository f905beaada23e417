//! The patient's own requests, for the portal: a page of them, without what staff alone may read.

use super::booking_request::form::{render_instructions, render_visit_type};
use super::booking_request::{booking, constraints, record_patient_contact};
use super::calendar::render_instant;
use super::page_token::{self, KEY_BYTES, key_bytes, key_of};
use super::patient::{parse_identity_of, render_identity};
use super::{Fault, Violations, care_unit_name, enums, parse_page_size, request_name, v1};
use crate::domain::Context;
use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::form::Booking;
use crate::domain::patient::PersonalId;
use crate::domain::patient_request::{ClosedReason, PatientState};
use crate::domain::request_key::RequestKey;

const LIST: &str = "ListPatientRequests";

/// Command to list a page of a patient's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPatientRequests {
    /// Patient whose requests are listed.
    pub personal_id: PersonalId,
    /// Maximum number of requests.
    pub page_size: u32,
    /// Key of the request after which the page begins; `None` for the first page.
    pub after: Option<RequestKey>,
}

/// Parses ListPatientRequests.
///
/// # Errors
///
/// Every fault of shape; then [`Fault::PageToken`].
pub fn parse_list(message: v1::ListPatientRequestsRequest) -> Result<ListPatientRequests, Fault> {
    let (personal_id, page_size) = Violations::collect(|violations| {
        let personal_id = parse_identity_of(message.identity.as_ref(), "identity", violations);
        let page_size = parse_page_size(message.page_size, violations);
        Some((personal_id?, page_size))
    })?;
    let after = page_token::parse::<KEY_BYTES>(LIST, &query(&personal_id), &message.page_token)?;
    let after = after.map(|bytes| key_of(&bytes).ok_or(Fault::PageToken));
    Ok(ListPatientRequests {
        personal_id,
        page_size,
        after: after.transpose()?,
    })
}

/// Returns the token of the page that begins after this request.
pub fn next_page_token(personal_id: &PersonalId, last: &RequestKey) -> String {
    page_token::render(LIST, &query(personal_id), &key_bytes(last))
}

/// Returns the query that a token is bound to.
fn query(personal_id: &PersonalId) -> v1::ListPatientRequestsRequest {
    v1::ListPatientRequestsRequest {
        identity: Some(render_identity(personal_id)),
        ..Default::default()
    }
}

/// Renders a request as the patient is shown it at `now`; `None` if they are not shown it.
pub fn render(record: &BookingRequest, context: &Context) -> Option<v1::PatientRequest> {
    let view = record.patient_view(context)?;
    let form = &record.form;
    let wanted = form.constraints.as_ref().map(constraints::render);
    let wanted = wanted.unwrap_or_default();
    let is_booked = view.state == PatientState::Booked;
    Some(v1::PatientRequest {
        name: request_name(&record.key),
        state: render_state(view.state).into(),
        care_unit: care_unit_name(&record.key.care_unit),
        visit_type: Some(render_visit_type(&form.visit_type)),
        visit_kind: enums::render(form.visit_kind),
        purpose: form.purpose.clone(),
        patient_instructions: render_instructions(&form.patient_instructions),
        requested_period: wanted.requested_period,
        weekdays: wanted.weekdays,
        time_windows: wanted.time_windows,
        booking: form
            .booking
            .as_ref()
            .filter(|_| is_booked)
            .map(render_booking),
        expire_time: record.expires_at().map(render_instant),
        may_book: view.may_book,
        may_move: view.may_move,
        may_cancel: view.may_cancel,
        move_deadline: view.move_deadline.map(render_instant),
        duration_minutes: wanted.duration_minutes,
        performer_ids: wanted.performer_ids,
        etag: record.etag(),
        last_contact: record.last_contact.map(record_patient_contact::render),
        closed_reason: render_closed_reason(view.state).into(),
    })
}

/// Returns of a request what the patient is shown, and nothing else.
pub fn shown_of(request: v1::BookingRequest) -> v1::BookingRequest {
    let booking = request.booking.map(|booking| v1::Booking {
        override_reason: String::new(),
        ..booking
    });
    v1::BookingRequest {
        name: request.name,
        visit_kind: request.visit_kind,
        visit_type: request.visit_type,
        purpose: request.purpose,
        patient_instructions: request.patient_instructions,
        constraints: request.constraints,
        booking,
        state: request.state,
        etag: request.etag,
        last_contact: request.last_contact,
        ..Default::default()
    }
}

/// Renders a booking without the reason for which staff overrode the constraints.
fn render_booking(booked: &Booking) -> v1::Booking {
    v1::Booking {
        override_reason: String::new(),
        ..booking::render(booked)
    }
}

fn render_state(state: PatientState) -> v1::patient_request::State {
    use v1::patient_request::State;
    match state {
        PatientState::Open => State::Open,
        PatientState::Booked => State::Booked,
        PatientState::Closed(_) => State::Closed,
    }
}

fn render_closed_reason(state: PatientState) -> v1::patient_request::ClosedReason {
    use v1::patient_request::ClosedReason as Wire;
    match state {
        PatientState::Open | PatientState::Booked => Wire::Unspecified,
        PatientState::Closed(ClosedReason::Expired) => Wire::Expired,
        PatientState::Closed(ClosedReason::Declined) => Wire::Declined,
        PatientState::Closed(ClosedReason::Cancelled) => Wire::Cancelled,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fields;
    use super::*;
    use crate::contract::booking_request::samples::{invited, key, now};
    use crate::domain::care_unit_settings::Policy;

    fn page(number: &str, page_token: String) -> Result<ListPatientRequests, Fault> {
        parse_list(v1::ListPatientRequestsRequest {
            identity: Some(v1::PatientIdentity {
                personal_id: number.into(),
                personal_id_type: v1::PersonalIdType::Personnummer.into(),
                issuer: String::new(),
            }),
            page_size: 0,
            page_token,
        })
    }

    #[test]
    fn a_page_belongs_to_one_patient() {
        let first = page("198003012385", String::new()).unwrap();
        assert_eq!((first.after, first.page_size), (None, 50));
        let token = next_page_token(&first.personal_id, &key());
        let next = page("198003012385", token.clone()).unwrap();
        assert_eq!(next.after, Some(key()));
        assert!(matches!(page("191212121212", token), Err(Fault::PageToken)));
    }

    #[test]
    fn faults_of_the_identity_are_named_by_path_and_not_quoted() {
        for (message, faults) in [
            (
                v1::ListPatientRequestsRequest {
                    page_size: -1,
                    ..Default::default()
                },
                vec!["identity", "page_size"],
            ),
            (
                v1::ListPatientRequestsRequest {
                    identity: Some(v1::PatientIdentity {
                        personal_id: "196408233235".into(),
                        personal_id_type: v1::PersonalIdType::Personnummer.into(),
                        issuer: "1.2".into(),
                    }),
                    ..Default::default()
                },
                vec!["identity.personal_id", "identity.issuer"],
            ),
        ] {
            assert!(!format!("{message:?}").contains("1964"));
            let Err(Fault::Invalid(violations)) = parse_list(message) else {
                panic!("not refused");
            };
            assert_eq!(fields(violations), faults);
        }
    }

    #[test]
    fn what_is_not_open_is_not_shown() {
        let context = Context {
            now: now(),
            actor: String::new(),
            policy: Policy::default(),
        };
        assert_eq!(render(&invited(), &context), None);
    }
}
