//! The visit that a request is for, as ChangeBookingRequest may change it: its kind, its type, and the day of the
//! decision on it.

use chrono::NaiveDate;

use crate::domain::booking_request::form::{Form, Origin, VisitKind, VisitType};
use crate::domain::booking_request::state::State;
use crate::domain::booking_request::{BookingRequest, TOLD};
use crate::domain::{Context, Refusal, Violation};

/// New visit, field by field; `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VisitEdit {
    /// New or return visit.
    pub kind: Option<VisitKind>,
    /// Bookable visit type of the unit.
    pub visit_type: Option<VisitType>,
    /// Day of the decision, of the origin that the caller takes the request to have.
    pub decision_date: Option<DecisionDate>,
}

/// Day of the decision of an origin, if it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DecisionDate {
    /// Of the decision on the referral.
    Referral(Option<NaiveDate>),
    /// Of the decision on the visit that follows the previous one.
    PreviousVisit(Option<NaiveDate>),
}

impl VisitEdit {
    /// Returns the violation of a decision date of another origin than the request has.
    pub(super) fn violation(&self, origin: &Origin) -> Option<Violation> {
        let (path, fault) = match (self.decision_date?, origin) {
            (DecisionDate::Referral(_), Origin::Referral { .. })
            | (DecisionDate::PreviousVisit(_), Origin::PreviousVisit { .. }) => return None,
            (DecisionDate::Referral(_), Origin::PreviousVisit { .. }) => (
                "booking_request.referral.decision_date",
                "the request comes from a previous visit",
            ),
            (DecisionDate::PreviousVisit(_), Origin::Referral { .. }) => (
                "booking_request.previous_visit.decision_date",
                "the request comes from a referral",
            ),
        };
        Some(Violation::new(path, fault))
    }

    fn apply_to(&self, form: &mut Form) {
        if let Some(kind) = self.kind {
            form.visit_kind = kind;
        }
        if let Some(visit_type) = &self.visit_type {
            form.visit_type.clone_from(visit_type);
        }
        if let Some(DecisionDate::Referral(date) | DecisionDate::PreviousVisit(date)) =
            self.decision_date
        {
            let (Origin::Referral { decision_date, .. }
            | Origin::PreviousVisit { decision_date, .. }) = &mut form.origin;
            *decision_date = date;
        }
    }
}

impl BookingRequest {
    /// Changes the visit. When anything of it is other than it was, the care guarantee is worked out anew; with
    /// another type the round takes that type's schedule. Returns whether it has another type.
    ///
    /// # Errors
    ///
    /// [`Refusal::StateConflict`] for a visit of which the patient has been told.
    pub(super) fn edit_visit(
        &mut self,
        edit: &VisitEdit,
        context: &Context,
    ) -> Result<bool, Refusal> {
        let mut form = self.form.clone();
        edit.apply_to(&mut form);
        if form == self.form {
            return Ok(false);
        }
        if !self.may_change_visit() {
            return Err(self.conflict(context.now, Some(TOLD)));
        }
        let is_new_type = form.visit_type.code != self.form.visit_type.code;
        self.form = form;
        self.care_guarantee_date = self.guarantee_date(&context.policy);
        if is_new_type {
            // What it is open beside has the type that it had.
            self.may_have_duplicate = false;
            self.take_schedule(context);
        }
        Ok(is_new_type)
    }

    /// Gives the present round, if there is one, the schedule of the visit type.
    fn take_schedule(&mut self, context: &Context) {
        let policy = context.policy.of(&self.key.care_unit);
        let schedule = policy.schedule(&self.form.visit_type.code);
        if let (State::Invited, Some(invitation)) = (self.state, &mut self.care_invitation) {
            invitation.schedule = schedule;
        }
    }

    /// Returns whether the patient has not been told of the visit in the present round.
    fn may_change_visit(&self) -> bool {
        match self.state {
            State::Requested => true,
            State::Invited => self
                .care_invitation
                .as_ref()
                .is_none_or(|invitation| !invitation.is_told()),
            State::Booked | State::Declined | State::Cancelled => false,
        }
    }
}
