//! CreateBookingRequest: a request, an invitation, or a visit booked directly.

use chrono::NaiveDate;

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::form::Form;
use crate::domain::booking_request::form::VisitKind;
use crate::domain::booking_request::prior_messages;
use crate::domain::booking_request::prior_messages::PriorMessage;
use crate::domain::booking_request::record_booking_cancellation::Cancellations;
use crate::domain::booking_request::series::Series;
use crate::domain::booking_request::state::State;
use crate::domain::calendar::{add_days, civil_date};
use crate::domain::care_unit_settings::Policy;
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::request_key::RequestKey;
use crate::domain::{Change, Context, Refusal, Violation};

/// Command to create a request; the shape of its fields has been checked.
#[derive(Clone, Debug)]
pub struct Create {
    /// Key that the request will have.
    pub key: RequestKey,
    /// Form that was registered.
    pub form: Form,
    /// True to create it although the patient has an open request with the same duplicate key.
    pub allow_duplicate: bool,
    /// Place in the series that it is a member of, if it is one.
    pub series: Option<Series>,
    /// Messages of the invitation that an older system handed over; empty unless it is running already.
    pub prior_messages: Vec<PriorMessage>,
}

/// Creates a request.
///
/// # Errors
///
/// [`Refusal::Invalid`] for what today's date forbids, [`Refusal::ReferralRequired`] for an
/// invitation without a referral, [`Refusal::OutsideConstraints`] for a booking that breaks the
/// constraints it comes with. The store finds duplicates.
pub fn create(command: &Create, context: &Context) -> Result<Change, Refusal> {
    let form = &command.form;
    let violations = violations(command, context);
    if !violations.is_empty() {
        return Err(Refusal::Invalid(violations));
    }
    if form.invitation && form.origin.referral_id().is_none() {
        return Err(Refusal::ReferralRequired);
    }
    if let Some(booking) = &form.booking {
        booking.check_against(form.constraints.as_ref(), context.now)?;
    }

    let mut record = BookingRequest {
        key: command.key.clone(),
        form: form.clone(),
        state: if form.booking.is_some() {
            State::Booked
        } else {
            State::Requested
        },
        care_invitation: None,
        cancel_reason: None,
        cancellations: Cancellations::default(),
        closed_at: None,
        last_contact: None,
        care_guarantee_date: None,
        allow_duplicate: command.allow_duplicate,
        may_have_duplicate: false,
        series: command.series.clone(),
        revision: 0,
        history_count: 0,
        created_at: context.now,
        updated_at: context.now,
    };
    record.care_guarantee_date = record.guarantee_date(&context.policy);
    if form.invitation {
        match command.prior_messages.as_slice() {
            [] => drop(record.begin_round(context)),
            messages => record.import_round(messages, context),
        }
    }
    let created = HistoryEntry {
        constraints: form.constraints.clone(),
        booking: form.booking.clone(),
        ..record.history_entry(Event::CreateBookingRequest, context)
    };
    Ok(record.finish_change(None, vec![created], context))
}

/// Returns the violations that today's date makes of a request that is created.
pub(super) fn violations(command: &Create, context: &Context) -> Vec<Violation> {
    let (form, today) = (&command.form, civil_date(context.now));
    // The start of an invitation that is running may have passed.
    let is_running = !command.prior_messages.is_empty();
    let mut violations = match &form.constraints {
        Some(constraints) => {
            let kept_start = is_running.then_some(constraints.period.first);
            constraints.violations("booking_request.constraints", today, kept_start)
        }
        None => Vec::new(),
    };
    let personal_id = &form.patient.personal_id;
    violations.extend(personal_id.violation("booking_request.patient.personal_id", today));
    let policy = context.policy.of(&command.key.care_unit);
    let reminder_count = policy.schedule(&form.visit_type.code).reminder_count;
    violations.extend(prior_messages::violations(
        &command.prior_messages,
        reminder_count,
        context.now,
    ));
    violations
}

impl BookingRequest {
    /// Returns the last day of the care guarantee, by the decision date and the visit kind. Of a series the
    /// first member alone has one.
    pub(super) fn guarantee_date(&self, policy: &Policy) -> Option<NaiveDate> {
        let is_first = self.series.as_ref().is_none_or(Series::is_first);
        match (self.form.visit_kind, self.form.origin.decision_date()) {
            (VisitKind::NewVisit, Some(decided)) if is_first => {
                let policy = policy.of(&self.key.care_unit);
                let days = policy.guarantee_days(&self.form.visit_type.code);
                Some(add_days(decided, days))
            }
            (VisitKind::NewVisit | VisitKind::ReturnVisit, _) => None,
        }
    }
}
