//! What the model shows a patient of their requests, and for how long.

use care_invitation::contract::v1;
use care_invitation::contract::v1::HoldReason;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::patient_request::{ClosedReason, State as Shown};
use chrono::NaiveDate;

use super::calendar::{Instant, end_of, from_timestamp, local_date, plus, timestamp};
use super::request::Request;

/// Days for which a closed request, or a visit that is over, is shown.
const SHOWN_DAYS: u64 = 90;

impl Request {
    /// Remembers that booking was open to the patient, and since when the request is closed.
    pub fn remember(&mut self, now: Instant) {
        self.once_open |= self.is_bookable();
        self.closed_at = match self.state {
            State::Declined | State::Cancelled => self.closed_at.or(Some(now)),
            _ => None,
        };
    }

    /// Returns the day from which the days are counted for which the request is shown, once it is over.
    fn over_on(&self, now: Instant) -> Option<NaiveDate> {
        match self.shown(now) {
            State::Booked => {
                let ends_at = self.form.booking.as_ref()?.end_time.as_ref()?;
                Some(local_date(from_timestamp(ends_at)))
            }
            State::Declined | State::Cancelled => self.closed_at.map(local_date),
            State::Expired => self.period().map(|(_, last)| last),
            _ => None,
        }
    }

    /// Returns the instant at which the patient is no longer shown the request.
    pub fn hidden_at(&self, now: Instant) -> Option<Instant> {
        Some(end_of(plus(self.over_on(now)?, SHOWN_DAYS)))
    }

    /// Returns the request as the patient sees it, without its etag; `None` if they do not.
    pub fn for_patient(&self, now: Instant) -> Option<v1::PatientRequest> {
        let state = match self.shown(now) {
            State::Invited | State::NoResponse => {
                let held = self.hold() == HoldReason::ProtectedIdentity;
                (self.is_bookable() && !held).then_some(Shown::Open)?
            }
            State::Booked => Shown::Booked,
            State::Expired | State::Declined | State::Cancelled => {
                self.once_open.then_some(Shown::Closed)?
            }
            State::Requested | State::Unspecified => return None,
        };
        if self.hidden_at(now).is_some_and(|at| at <= now) {
            return None;
        }
        let form = &self.form;
        let constrained = form.constraints.is_some();
        let constraints = form.constraints.clone().unwrap_or_default();
        let booked = state == Shown::Booked;
        let booking = form.booking.clone().filter(|_| booked);
        let deadline = booking.as_ref().filter(|_| constrained).map(|it| {
            let starts_at = from_timestamp(it.start_time.as_ref().expect("given"));
            starts_at - self.in_force().move_deadline
        });
        let in_time = deadline.is_some_and(|it| now < it);
        let closed_reason = match self.shown(now) {
            State::Expired => ClosedReason::Expired,
            State::Declined => ClosedReason::Declined,
            State::Cancelled => ClosedReason::Cancelled,
            _ => ClosedReason::Unspecified,
        };
        Some(v1::PatientRequest {
            name: form.name.clone(),
            state: state.into(),
            care_unit: self.unit.clone(),
            visit_type: form.visit_type.clone(),
            visit_kind: form.visit_kind,
            purpose: form.purpose.clone(),
            patient_instructions: form.patient_instructions.clone(),
            may_book: state == Shown::Open,
            may_move: in_time,
            may_cancel: in_time,
            move_deadline: deadline.map(timestamp),
            etag: String::new(),
            last_contact: self.last_contact,
            closed_reason: closed_reason.into(),
            booking: booking.map(|it| v1::Booking {
                override_reason: String::new(),
                ..it
            }),
            expire_time: self.expires_at().map(timestamp),
            requested_period: constraints.requested_period,
            weekdays: constraints.weekdays,
            time_windows: constraints.time_windows,
            duration_minutes: constraints.duration_minutes,
            performer_ids: constraints.performer_ids,
        })
    }
}
