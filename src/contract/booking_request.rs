//! The RPCs on one booking request, and the request as callers see it.

pub mod batch;
pub(super) mod booking;
pub mod change;
pub(super) mod constraints;
pub(super) mod field;
pub(super) mod form;
mod prior_messages;
pub mod record_booking_cancellation;
pub mod record_patient_contact;
pub mod release_hold;
pub mod replace_personal_id;
pub mod revoke_invitation;
mod series;
pub mod update_patient;

use super::calendar::{render_date, render_instant};
use super::text::{COMMENT_MAX, is_blank, parse_lines, parse_optional_identifier};
use super::{
    IdempotentCommand, Violations, care_invitation, care_unit_name, enums, parse_care_unit_name,
    parse_request_id, parse_request_name, request_name, v1,
};
use uuid::Uuid;

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::cancel::Cancel;
use crate::domain::booking_request::change_to_invitation::ChangeToInvitation;
use crate::domain::booking_request::create::Create;
use crate::domain::booking_request::create_all::CreateAll;
use crate::domain::booking_request::form::Form;
use crate::domain::booking_request::prior_messages::PriorMessage;
use crate::domain::booking_request::record_booking::RecordBooking;
use crate::domain::booking_request::series::Repeat;
use crate::domain::booking_request::state::CancelReason;
use crate::domain::booking_request::state::Warning;
use crate::domain::calendar::Instant;
use crate::domain::care_unit_settings::Policy;
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::DisplayedNotification;
use crate::domain::request_key::RequestKey;

/// A new request, before it has an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRequest {
    /// Care unit that it will belong to.
    pub care_unit: HsaId,
    /// Form that was registered.
    pub form: Form,
    /// True to create it although the patient has an open request with the same duplicate key.
    pub allow_duplicate: bool,
    /// Repetition, if it is to be created several times.
    pub repeat: Option<Repeat>,
    /// Messages that an older system handed over.
    pub prior_messages: Vec<PriorMessage>,
}

impl NewRequest {
    /// Returns the command, under fresh ids.
    pub fn into_command(self, new_id: impl Fn() -> Uuid) -> CreateAll {
        let key = RequestKey {
            care_unit: self.care_unit,
            id: new_id(),
        };
        let others = self.repeat.map_or(0, |repeat| repeat.count - 1);
        CreateAll {
            first: Create {
                key,
                form: self.form,
                allow_duplicate: self.allow_duplicate,
                series: None,
                prior_messages: self.prior_messages,
            },
            interval_days: self.repeat.map_or(0, |repeat| repeat.interval_days),
            others: std::iter::repeat_with(new_id).take(others).collect(),
        }
    }
}

/// Parses CreateBookingRequest.
///
/// # Errors
///
/// Every fault of shape.
pub fn parse_create(
    message: v1::CreateBookingRequestRequest,
) -> Result<IdempotentCommand<NewRequest>, Violations> {
    Violations::collect(|violations| {
        let care_unit = parse_care_unit_name(&message.parent, "parent", violations);
        let form = form::parse(message.booking_request.as_ref(), violations);
        let request_id = parse_request_id(&message.request_id, violations);
        let repeat = series::parse(message.repeat.as_ref(), &message, violations);
        let prior_messages = prior_messages::parse(&message, violations);
        if let Some(form) = &form {
            series::check_range(repeat.as_ref(), form, violations);
        }
        let command = NewRequest {
            care_unit: care_unit?,
            form: form?,
            allow_duplicate: message.allow_duplicate,
            repeat,
            prior_messages,
        };
        let content = v1::CreateBookingRequestRequest {
            parent: care_unit_name(&command.care_unit),
            booking_request: Some(form::render(&command.form)),
            request_id: String::new(),
            allow_duplicate: command.allow_duplicate,
            repeat: command.repeat.map(series::render_repeat),
            prior_messages: command
                .prior_messages
                .iter()
                .map(prior_messages::render)
                .collect(),
        };
        Some(IdempotentCommand::new(
            request_id?,
            "CreateBookingRequest",
            &content,
            command,
        ))
    })
}

/// Parses GetBookingRequest.
///
/// # Errors
///
/// The name is not that of a booking request.
pub fn parse_get(message: v1::GetBookingRequestRequest) -> Result<RequestKey, Violations> {
    Violations::collect(|violations| parse_request_name(&message.name, "name", violations))
}

/// Parses ChangeToInvitation.
///
/// # Errors
///
/// Every fault of shape.
pub fn parse_change_to_invitation(
    message: v1::ChangeToInvitationRequest,
) -> Result<IdempotentCommand<(RequestKey, ChangeToInvitation)>, Violations> {
    Violations::collect(|violations| {
        let key = parse_request_name(&message.name, "name", violations);
        let request_id = parse_request_id(&message.request_id, violations);
        let constraints = message
            .constraints
            .as_ref()
            .and_then(|given| constraints::parse(given, violations));
        let referral_id =
            parse_optional_identifier(&message.referral_id, "referral_id", violations);
        let comment = parse_lines(&message.comment, COMMENT_MAX, "comment", violations);
        let key = key?;
        let command = ChangeToInvitation {
            etag: message.etag,
            constraints,
            referral_id,
            comment,
        };
        let content = v1::ChangeToInvitationRequest {
            name: request_name(&key),
            request_id: String::new(),
            etag: command.etag.clone(),
            constraints: command.constraints.as_ref().map(constraints::render),
            referral_id: command.referral_id.clone().unwrap_or_default(),
            comment: command.comment.clone(),
        };
        Some(IdempotentCommand::new(
            request_id?,
            "ChangeToInvitation",
            &content,
            (key, command),
        ))
    })
}

/// Parses RecordBooking.
///
/// # Errors
///
/// Every fault of shape.
pub fn parse_record_booking(
    message: v1::RecordBookingRequest,
) -> Result<IdempotentCommand<(RequestKey, RecordBooking)>, Violations> {
    Violations::collect(|violations| {
        let key = parse_request_name(&message.name, "name", violations);
        let request_id = parse_request_id(&message.request_id, violations);
        let booking = match &message.booking {
            Some(given) => booking::parse(given, violations),
            None => violations.require("booking"),
        };
        let replaces = &message.replaces_booking_id;
        let replaces_booking_id =
            parse_optional_identifier(replaces, "replaces_booking_id", violations);
        let key = key?;
        let command = RecordBooking {
            etag: message.etag,
            booking: booking?,
            replaces_booking_id,
        };
        let content = v1::RecordBookingRequest {
            name: request_name(&key),
            request_id: String::new(),
            etag: command.etag.clone(),
            booking: Some(booking::render(&command.booking)),
            replaces_booking_id: command.replaces_booking_id.clone().unwrap_or_default(),
        };
        Some(IdempotentCommand::new(
            request_id?,
            "RecordBooking",
            &content,
            (key, command),
        ))
    })
}

/// Parses CancelBookingRequest.
///
/// # Errors
///
/// Every fault of shape, such as a reason that needs a comment and comes without one.
pub fn parse_cancel(
    message: v1::CancelBookingRequestRequest,
) -> Result<IdempotentCommand<(RequestKey, Cancel)>, Violations> {
    Violations::collect(|violations| {
        let key = parse_request_name(&message.name, "name", violations);
        let request_id = parse_request_id(&message.request_id, violations);
        let reason = enums::parse(message.reason, "reason", violations);
        let comment = parse_lines(&message.comment, COMMENT_MAX, "comment", violations);
        if reason.is_some_and(needs_comment) && is_blank(&comment) {
            violations.add("comment", "is required with this reason");
        }
        let key = key?;
        let command = Cancel {
            etag: message.etag,
            reason: reason?,
            comment,
        };
        let content = v1::CancelBookingRequestRequest {
            name: request_name(&key),
            request_id: String::new(),
            etag: command.etag.clone(),
            reason: enums::render(command.reason),
            comment: command.comment.clone(),
        };
        Some(IdempotentCommand::new(
            request_id?,
            "CancelBookingRequest",
            &content,
            (key, command),
        ))
    })
}

fn needs_comment(reason: CancelReason) -> bool {
    match reason {
        CancelReason::EnteredInError | CancelReason::Other => true,
        CancelReason::ReferralWithdrawn
        | CancelReason::PatientRequest
        | CancelReason::UnitRequest
        | CancelReason::PatientDeceased
        | CancelReason::NoResponse
        | CancelReason::NoShow
        | CancelReason::PatientMoved
        | CancelReason::CaredForElsewhere
        | CancelReason::Transferred => false,
    }
}

/// Parses PreviewNotifications: the care unit, and the form as it would be created.
///
/// # Errors
///
/// Every fault of shape.
pub fn parse_preview(
    message: v1::PreviewNotificationsRequest,
) -> Result<(HsaId, Form), Violations> {
    Violations::collect(|violations| {
        let care_unit = parse_care_unit_name(&message.parent, "parent", violations);
        let form = form::parse(message.booking_request.as_ref(), violations);
        care_unit.zip(form)
    })
}

/// Renders the notifications and warnings of a request that has not been created. Its notifications have
/// no names.
pub fn render_preview(
    record: &BookingRequest,
    now: Instant,
    policy: &Policy,
) -> v1::PreviewNotificationsResponse {
    let displayed = record.displayed_notifications(now, policy);
    let nameless = |notification| v1::Notification {
        name: String::new(),
        ..care_invitation::render_notification(&record.key, notification)
    };
    v1::PreviewNotificationsResponse {
        notifications: displayed.iter().map(nameless).collect(),
        warnings: render_warnings(record, &displayed),
    }
}

/// Renders a request as it is displayed at `now`.
pub fn render(record: &BookingRequest, now: Instant, policy: &Policy) -> v1::BookingRequest {
    let displayed = record.displayed_notifications(now, policy);
    let actions = record.allowed_actions(now);
    v1::BookingRequest {
        name: request_name(&record.key),
        state: enums::render(record.effective_state(now)),
        care_invitation: care_invitation::render(record, &displayed),
        allowed_actions: actions.into_iter().map(enums::render).collect(),
        warnings: render_warnings(record, &displayed),
        care_guarantee_date: record
            .care_guarantee_date
            .map(render_date)
            .unwrap_or_default(),
        cancel_reason: enums::render_optional(record.cancel_reason),
        etag: record.etag(),
        patient_cancellations: record.cancellations.by_patient,
        unit_cancellations: record.cancellations.by_unit,
        no_shows: record.cancellations.no_shows,
        last_contact: record.last_contact.map(record_patient_contact::render),
        series: record
            .series
            .as_ref()
            .map(|it| series::render(&record.key, it)),
        create_time: Some(render_instant(record.created_at)),
        update_time: Some(render_instant(record.updated_at)),
        ..form::render(&record.form)
    }
}

fn render_warnings(record: &BookingRequest, displayed: &[DisplayedNotification]) -> Vec<i32> {
    let warnings = record.warnings(displayed);
    warnings.into_iter().map(enums::render::<Warning>).collect()
}

#[cfg(test)]
pub(super) mod samples;
#[cfg(test)]
mod tests;
