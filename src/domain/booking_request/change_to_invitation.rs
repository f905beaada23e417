//! ChangeToInvitation: "Ändra begäran – vårdinbjudan", a first round or a new one.

use uuid::Uuid;

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::form::Constraints;
use crate::domain::booking_request::form::Origin;
use crate::domain::booking_request::state::Action;
use crate::domain::booking_request::state::ChangeReason;
use crate::domain::booking_request::state::EffectiveState;
use crate::domain::calendar::{Instant, civil_date};
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::{Change, Context, Refusal, Violation};

/// Command of the caller.
#[derive(Clone, Debug)]
pub struct ChangeToInvitation {
    /// Etag that the caller saw; empty if none.
    pub etag: String,
    /// New constraints, in place of the present ones.
    pub constraints: Option<Constraints>,
    /// Referral, if the request does not name one.
    pub referral_id: Option<String>,
    /// Comment for the history; may be empty.
    pub comment: String,
}

/// Invites the patient.
///
/// # Errors
///
/// In this order: [`Refusal::Invalid`] for constraints that are missing or that today forbids and
/// for another referral than the request's; [`Refusal::EtagMismatch`];
/// [`Refusal::AlreadyInvitation`] and [`Refusal::StateConflict`]; [`Refusal::ReferralRequired`];
/// [`Refusal::PeriodPassed`].
pub fn change_to_invitation(
    stored: Option<&BookingRequest>,
    command: &ChangeToInvitation,
    context: &Context,
) -> Result<Change, Refusal> {
    let violations = violations(stored, command, context);
    if !violations.is_empty() {
        return Err(Refusal::Invalid(violations));
    }
    let record = stored.ok_or(Refusal::NotFound)?;
    record.check_etag(&command.etag)?;
    check_state(record, context)?;
    check_invitable(
        record,
        command.referral_id.as_deref(),
        command.constraints.as_ref(),
        context.now,
    )?;

    let mut record = record.clone();
    let ended_booking = record.form.booking.clone();
    if let Origin::PreviousVisit { referral_id, .. } = &mut record.form.origin
        && referral_id.is_none()
    {
        referral_id.clone_from(&command.referral_id);
    }
    let cancelled = record.invite(command.constraints.as_ref(), context);
    let mut history = vec![HistoryEntry {
        change_reason: Some(ChangeReason::ToCareInvitation),
        comment: command.comment.clone(),
        constraints: command.constraints.clone(),
        booking: ended_booking,
        ..record.history_entry(Event::ChangeToInvitation, context)
    }];
    history.extend(record.cancelled_entries(&cancelled, context));
    Ok(record.finish_change(stored, history, context))
}

fn violations(
    stored: Option<&BookingRequest>,
    command: &ChangeToInvitation,
    context: &Context,
) -> Vec<Violation> {
    let mut violations = constraints_violations(stored, command.constraints.as_ref(), context);
    let named = stored.and_then(|record| record.form.origin.referral_id());
    if let (Some(given), Some(named)) = (command.referral_id.as_deref(), named)
        && given != named
    {
        violations.push(Violation::new(
            "referral_id",
            "is not the referral that the request names",
        ));
    }
    violations
}

/// Returns what today forbids of the constraints that a request is given, or that it has none and none are
/// given.
pub(super) fn constraints_violations(
    stored: Option<&BookingRequest>,
    given: Option<&Constraints>,
    context: &Context,
) -> Vec<Violation> {
    let present = stored.and_then(|record| record.form.constraints.as_ref());
    match (given, present) {
        (Some(given), _) => given.violations(
            "constraints",
            civil_date(context.now),
            present.map(|present| present.period.first),
        ),
        (None, Some(_)) => Vec::new(),
        (None, None) if stored.is_none() => Vec::new(),
        (None, None) => vec![Violation::new(
            "constraints",
            "is required: the request has none",
        )],
    }
}

/// Checks that the request has, or is given, a referral and a period that has not passed.
pub(super) fn check_invitable(
    record: &BookingRequest,
    referral_id: Option<&str>,
    constraints: Option<&Constraints>,
    now: Instant,
) -> Result<(), Refusal> {
    if record.form.origin.referral_id().is_none() && referral_id.is_none() {
        return Err(Refusal::ReferralRequired);
    }
    if constraints.is_none() && record.period_has_passed(now) {
        return Err(Refusal::PeriodPassed);
    }
    Ok(())
}

impl BookingRequest {
    /// Makes the request an invitation and begins a round, with new constraints if they are given. Returns
    /// the ids of the notifications that it cancelled.
    pub(super) fn invite(
        &mut self,
        constraints: Option<&Constraints>,
        context: &Context,
    ) -> Vec<Uuid> {
        self.form.summons = true;
        self.form.invitation = true;
        self.form.booking = None;
        if let Some(constraints) = constraints {
            self.form.constraints = Some(constraints.clone());
        }
        self.begin_round(context)
    }
}

fn check_state(record: &BookingRequest, context: &Context) -> Result<(), Refusal> {
    match record.check_allowed(Action::ChangeToInvitation, context.now) {
        Err(_) if record.effective_state(context.now) == EffectiveState::Invited => {
            Err(Refusal::AlreadyInvitation)
        }
        checked => checked,
    }
}
