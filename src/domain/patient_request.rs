//! The patient's side: which of their requests a patient is shown, for how long, and what they may do.

use chrono::NaiveDate;

use super::Context;
use super::booking_request::BookingRequest;
use super::booking_request::form::BookingSource;
use super::booking_request::state::{EffectiveState, State};
use super::calendar::{Instant, add_days, civil_date, end_of};
use super::care_invitation::{CareInvitation, Hold};
use super::slot::{move_deadline, verdict_on_request};

/// Days for which the patient is shown a request that is closed, or whose visit is over.
const SHOWN_DAYS: u32 = 90;

/// State of a request, as the patient is shown it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatientState {
    /// The patient may choose a time.
    Open,
    /// The visit is booked.
    Booked,
    /// It is closed, for this reason.
    Closed(ClosedReason),
}

/// Reason for which a request is closed, as the patient is shown it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedReason {
    /// The requested period has passed without a booking.
    Expired,
    /// The patient declined the visit.
    Declined,
    /// It was cancelled.
    Cancelled,
}

/// A request as the patient is shown it, beside its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatientView {
    /// State of the request.
    pub state: PatientState,
    /// True if the patient may book a time.
    pub may_book: bool,
    /// True if the patient may move the booked visit.
    pub may_move: bool,
    /// True if the patient may cancel the booked visit.
    pub may_cancel: bool,
    /// Instant from which the patient neither moves nor cancels the booked visit, passed or not; `None`
    /// without a booked visit, and of one without constraints.
    pub move_deadline: Option<Instant>,
}

impl BookingRequest {
    /// Returns what the patient is shown of the request now; `None` if they are not shown it.
    pub fn patient_view(&self, context: &Context) -> Option<PatientView> {
        let now = context.now;
        let state = match self.effective_state(now) {
            EffectiveState::Requested => return None,
            EffectiveState::Invited | EffectiveState::NoResponse => {
                let is_protected = self.hold() == Some(Hold::ProtectedIdentity);
                let is_open = self.bookable_since().is_some() && !is_protected;
                is_open.then_some(PatientState::Open)?
            }
            EffectiveState::Booked => PatientState::Booked,
            EffectiveState::Expired => self.closed_to_patient(ClosedReason::Expired)?,
            EffectiveState::Declined => self.closed_to_patient(ClosedReason::Declined)?,
            EffectiveState::Cancelled => self.closed_to_patient(ClosedReason::Cancelled)?,
        };
        if self.shown_until()? <= now {
            return None;
        }
        // What EvaluateSlots says of every slot decides here too.
        let is_free = verdict_on_request(self, BookingSource::Patient, context).is_none();
        let is_booked = state == PatientState::Booked;
        // Cancelling a booking asks for constraints where the request has none, and the patient gives none.
        let is_movable = is_booked && self.form.constraints.is_some();
        let deadline = move_deadline(self, &context.policy).filter(|_| is_movable);
        Some(PatientView {
            state,
            may_book: state == PatientState::Open && is_free,
            may_move: is_booked && is_free,
            may_cancel: deadline.is_some_and(|deadline| now < deadline),
            move_deadline: deadline,
        })
    }

    /// Returns the state of a request that is closed, if booking was once open to the patient.
    fn closed_to_patient(&self, reason: ClosedReason) -> Option<PatientState> {
        self.was_once_open().then_some(PatientState::Closed(reason))
    }

    /// Returns the instant until which the patient may be shown the request if nothing changes; `None` if they
    /// are not. Of an invitation it is not asked whether booking has been open: a lease opens it, and changes
    /// nothing else.
    pub fn shown_until(&self) -> Option<Instant> {
        let last = self.form.constraints.as_ref().map(|it| it.period.last);
        let last_day = match self.state {
            State::Invited => last,
            State::Requested => last.filter(|_| self.was_once_open()),
            State::Booked => self.form.booking.as_ref().map(|it| civil_date(it.end_at)),
            State::Declined | State::Cancelled => {
                self.closed_day().filter(|_| self.was_once_open())
            }
        };
        last_day.map(|day| end_of(add_days(day, SHOWN_DAYS)))
    }

    /// Returns the instant of the last change, or until which the patient is shown the request if that is later.
    pub fn settled_at(&self) -> Instant {
        let shown_until = self.shown_until();
        shown_until.map_or(self.updated_at, |it| it.max(self.updated_at))
    }

    fn closed_day(&self) -> Option<NaiveDate> {
        self.closed_at.map(civil_date)
    }

    /// Returns whether booking was open to the patient in the present round or one before.
    fn was_once_open(&self) -> bool {
        let invitation = self.care_invitation.as_ref();
        invitation.is_some_and(CareInvitation::was_once_open)
    }
}
