//! ChangeBookingRequest: changes the content of a request, and its notifications accordingly.

use chrono::NaiveDate;

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::form::Constraints;
use crate::domain::booking_request::form::PatientInstructions;
use crate::domain::booking_request::form::Priority;
use crate::domain::booking_request::state::Action;
use crate::domain::booking_request::state::ChangeReason;
use crate::domain::booking_request::state::State;
use crate::domain::booking_request::visit_edit::VisitEdit;
use crate::domain::calendar::{Instant, Period, TimeWindow, Weekdays, civil_date};
use crate::domain::care_invitation::CareInvitation;
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::notification;
use crate::domain::{Change, Context, Refusal, Violation, stored_enum};

stored_enum! {
    /// Effect of a new period on an invitation whose first notification has been sent.
    pub enum OnChange {
        /// Reminders keep their dates.
        Keep = 1,
        /// A new round begins.
        Restart = 2,
    }
}

/// New constraints, field by field; `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConstraintsEdit {
    /// Requested period.
    pub period: Option<Period>,
    /// Acceptable weekdays.
    pub weekdays: Option<Weekdays>,
    /// Acceptable times of day.
    pub time_windows: Option<Vec<TimeWindow>>,
    /// Length of the visit in minutes.
    pub duration_minutes: Option<u32>,
    /// Acceptable performers.
    pub performer_ids: Option<Vec<String>>,
}

/// Command of the caller; `None` leaves a field as it is.
#[derive(Clone, Debug)]
pub struct ChangeBookingRequest {
    /// Etag that the caller saw; empty if none.
    pub etag: String,
    /// New constraints.
    pub constraints: Option<ConstraintsEdit>,
    /// New visit.
    pub visit: VisitEdit,
    /// Reason why the unit wants to see the patient.
    pub purpose: Option<String>,
    /// Texts for the patient.
    pub patient_instructions: Option<PatientInstructions>,
    /// Note among staff.
    pub internal_comment: Option<String>,
    /// Medical priority.
    pub priority: Option<Priority>,
    /// Reason for the change.
    pub reason: ChangeReason,
    /// Comment for the history; may be empty.
    pub comment: String,
    /// Effect of a new period; `None` means that reminders are kept if the old and the new period share a
    /// day, and that a new round begins if not.
    pub on_change: Option<OnChange>,
}

/// Changes the content of a request.
///
/// # Errors
///
/// In this order: [`Refusal::Invalid`] for constraints that today forbids and for the decision date of
/// another origin than the request has; [`Refusal::EtagMismatch`]; [`Refusal::StateConflict`]. The store
/// finds duplicates of a new visit type.
pub fn change_booking_request(
    stored: Option<&BookingRequest>,
    command: &ChangeBookingRequest,
    context: &Context,
) -> Result<Change, Refusal> {
    let present = stored.and_then(|record| record.form.constraints.as_ref());
    let edited = edited_constraints(present, command.constraints.as_ref());
    let mut violations = edited
        .as_ref()
        .map(|edited| violations(edited, present, context))
        .unwrap_or_default();
    violations.extend(stored.and_then(|record| command.visit.violation(&record.form.origin)));
    if !violations.is_empty() {
        return Err(Refusal::Invalid(violations));
    }
    let record = stored.ok_or(Refusal::NotFound)?;
    record.check_etag(&command.etag)?;
    record.check_allowed(Action::Change, context.now)?;

    let mut record = record.clone();
    let old_period = record.form.constraints.as_ref().map(|it| it.period);
    let is_new_type = record.edit_visit(&command.visit, context)?;
    record.edit(command, edited.clone());
    let new_period = record.form.constraints.as_ref().map(|it| it.period);
    let cancelled = match (record.state, old_period, new_period) {
        (State::Invited, Some(old), Some(new)) => {
            let is_as_planned = old == new && !is_new_type;
            record.revise_messages(old, new, is_as_planned, command.on_change, context)
        }
        (
            State::Requested | State::Invited | State::Booked | State::Declined | State::Cancelled,
            _,
            _,
        ) => Vec::new(),
    };
    let mut history = vec![HistoryEntry {
        change_reason: Some(command.reason),
        comment: command.comment.clone(),
        constraints: edited,
        ..record.history_entry(Event::ChangeBookingRequest, context)
    }];
    history.extend(record.cancelled_entries(&cancelled, context));
    Ok(record.finish_change(stored, history, context))
}

/// Returns the constraints as changed; `None` if they are not changed, or if the request has none and
/// not all of them are given.
fn edited_constraints(
    present: Option<&Constraints>,
    edit: Option<&ConstraintsEdit>,
) -> Option<Constraints> {
    let edit = edit?.clone();
    Some(Constraints {
        period: edit.period.or(present.map(|it| it.period))?,
        weekdays: edit.weekdays.or(present.map(|it| it.weekdays))?,
        time_windows: edit
            .time_windows
            .or_else(|| Some(present?.time_windows.clone()))?,
        duration_minutes: edit
            .duration_minutes
            .or(present.map(|it| it.duration_minutes))?,
        performer_ids: edit
            .performer_ids
            .or_else(|| Some(present?.performer_ids.clone()))?,
    })
}

fn violations(
    edited: &Constraints,
    present: Option<&Constraints>,
    context: &Context,
) -> Vec<Violation> {
    edited.violations(
        "booking_request.constraints",
        civil_date(context.now),
        present.map(|present| present.period.first),
    )
}

impl BookingRequest {
    fn edit(&mut self, command: &ChangeBookingRequest, constraints: Option<Constraints>) {
        let form = &mut self.form;
        if constraints.is_some() {
            form.constraints = constraints;
        }
        if let Some(purpose) = &command.purpose {
            form.purpose.clone_from(purpose);
        }
        if let Some(instructions) = &command.patient_instructions {
            form.patient_instructions.clone_from(instructions);
        }
        if let Some(comment) = &command.internal_comment {
            form.internal_comment.clone_from(comment);
        }
        if let Some(priority) = command.priority {
            form.priority = priority;
        }
    }

    /// Adapts the notifications to a changed request. Leases are revoked, so that nothing is sent with the
    /// old content. Returns the ids of the notifications that a new round has cancelled.
    fn revise_messages(
        &mut self,
        old: Period,
        new: Period,
        is_as_planned: bool,
        on_change: Option<OnChange>,
        context: &Context,
    ) -> Vec<uuid::Uuid> {
        // The first message, or one that had been leased when the first proved not to have been produced.
        let is_told = self
            .care_invitation
            .as_ref()
            .is_some_and(CareInvitation::is_told);
        self.revoke_leased();
        if is_as_planned {
            return Vec::new();
        }
        if !is_told {
            self.reschedule_first(new.first, context.now);
            return Vec::new();
        }
        let by_default = if old.overlaps(new) {
            OnChange::Keep
        } else {
            OnChange::Restart
        };
        match on_change.unwrap_or(by_default) {
            OnChange::Keep => Vec::new(),
            OnChange::Restart => self.begin_round(context),
        }
    }

    /// Revokes what is leased, since the request has changed since.
    pub(super) fn revoke_leased(&mut self) {
        if let Some(invitation) = &mut self.care_invitation {
            for notification in &mut invitation.notifications {
                notification.changed_since_lease |= notification.lease.is_some();
                notification.revoke();
            }
        }
    }

    fn reschedule_first(&mut self, start: NaiveDate, now: Instant) {
        if let Some(invitation) = &mut self.care_invitation {
            let due_at = invitation.schedule.first_due_at(start, now);
            let round = invitation.round;
            for notification in &mut invitation.notifications {
                let is_waiting =
                    notification.is_pending() || notification.state == notification::State::Parked;
                if notification.round == round && is_waiting {
                    notification.due_at = due_at;
                    notification.retry_at = None;
                }
            }
        }
    }
}
