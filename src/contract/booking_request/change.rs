//! ChangeBookingRequest: the fields to change, and their new values.

use std::iter;

use prost_types::FieldMask;

use super::constraints::{parse_duration_minutes, parse_performers, parse_windows};
use super::field;
use super::form::{parse_instructions, parse_visit_type, render_instructions, render_visit_type};
use crate::contract::calendar::{
    parse_optional_date, parse_period, parse_weekdays, render_date, render_period, render_weekdays,
    render_window,
};
use crate::contract::text::{COMMENT_MAX, TITLE_MAX, is_blank, parse_lines, parse_required_line};
use crate::contract::update_mask::UpdateMask;
use crate::contract::v1::booking_request::Origin as WireOrigin;
use crate::contract::{
    IdempotentCommand, Violations, enums, parse_request_id, parse_request_name, request_name, v1,
};
use crate::domain::booking_request::change::{ChangeBookingRequest, ConstraintsEdit};
use crate::domain::booking_request::field::Field;
use crate::domain::booking_request::form::PatientInstructions;
use crate::domain::booking_request::form::Priority;
use crate::domain::booking_request::state::ChangeReason;
use crate::domain::booking_request::visit_edit::{DecisionDate, VisitEdit};
use crate::domain::request_key::RequestKey;

/// Path of all constraints at once.
const CONSTRAINTS: &str = "constraints";
/// Fields of the constraints, which [`CONSTRAINTS`] names together.
const OF_CONSTRAINTS: [Field; 5] = [
    Field::Period,
    Field::Weekdays,
    Field::TimeWindows,
    Field::DurationMinutes,
    Field::PerformerIds,
];
/// Other fields that a mask may name.
const OTHERS: [Field; 8] = [
    Field::Purpose,
    Field::PatientInstructions,
    Field::InternalComment,
    Field::Priority,
    Field::VisitKind,
    Field::VisitType,
    Field::ReferralDecision,
    Field::VisitDecision,
];

/// Parses ChangeBookingRequest. Fields that the mask does not name are ignored.
///
/// # Errors
///
/// Every fault of shape, such as a mandatory field that is named and not set.
pub fn parse_change(
    message: v1::ChangeBookingRequestRequest,
) -> Result<IdempotentCommand<(RequestKey, ChangeBookingRequest)>, Violations> {
    Violations::collect(|violations| {
        let mask = parse_mask(message.update_mask.as_ref());
        let parsed = match &message.booking_request {
            Some(given) => violations.within("booking_request", |violations| {
                let key = parse_request_name(&given.name, "name", violations);
                let edit = parse_edit(given, &mask, violations);
                key.map(|key| (key, edit))
            }),
            None => violations.require("booking_request"),
        };
        mask.check(violations);
        let request_id = parse_request_id(&message.request_id, violations);
        let reason = parse_reason(message.reason, violations);
        let comment = parse_lines(&message.comment, COMMENT_MAX, "comment", violations);
        if reason == Some(ChangeReason::Other) && is_blank(&comment) {
            violations.add("comment", "is required with this reason");
        }
        let on_change = enums::parse_optional(message.on_change, "on_change", violations);
        let (key, edit) = parsed?;
        let command = ChangeBookingRequest {
            etag: message.etag,
            constraints: edit.constraints,
            visit: edit.visit,
            purpose: edit.purpose,
            patient_instructions: edit.patient_instructions,
            internal_comment: edit.internal_comment,
            priority: edit.priority,
            reason: reason?,
            comment,
            on_change,
        };
        let content = render(&key, &command);
        Some(IdempotentCommand::new(
            request_id?,
            "ChangeBookingRequest",
            &content,
            (key, command),
        ))
    })
}

/// Parses the field `update_mask`.
fn parse_mask(mask: Option<&FieldMask>) -> UpdateMask {
    let changeable = OF_CONSTRAINTS.iter().chain(&OTHERS);
    let paths = changeable.map(|field| field::path(*field));
    let known: Vec<_> = iter::once(CONSTRAINTS).chain(paths).collect();
    let mut mask = UpdateMask::parse(mask, &known);
    let dates = [Field::ReferralDecision, Field::VisitDecision];
    if dates.iter().all(|field| names(&mask, *field)) {
        mask.add_fault("update_mask", "names the decision dates of two origins");
    }
    mask
}

/// Returns whether a mask names a field, which may be one of the constraints as a whole.
fn names(mask: &UpdateMask, field: Field) -> bool {
    mask.names(field::path(field)) || (OF_CONSTRAINTS.contains(&field) && mask.names(CONSTRAINTS))
}

/// New values of the fields that are named.
struct Edit {
    constraints: Option<ConstraintsEdit>,
    visit: VisitEdit,
    purpose: Option<String>,
    patient_instructions: Option<PatientInstructions>,
    internal_comment: Option<String>,
    priority: Option<Priority>,
}

fn parse_edit(given: &v1::BookingRequest, mask: &UpdateMask, violations: &mut Violations) -> Edit {
    let visit = parse_visit(given, mask, violations);
    let purpose = names(mask, Field::Purpose)
        .then(|| parse_required_line(&given.purpose, TITLE_MAX, "purpose", violations));
    let patient_instructions = names(mask, Field::PatientInstructions)
        .then(|| parse_instructions(given.patient_instructions.as_ref(), violations));
    let internal_comment = names(mask, Field::InternalComment).then(|| {
        let text = &given.internal_comment;
        parse_lines(text, COMMENT_MAX, "internal_comment", violations)
    });
    let constraints = parse_constraints(given.constraints.as_ref(), mask, violations);
    let priority = names(mask, Field::Priority).then(|| {
        let priority = enums::parse_optional(given.priority, "priority", violations);
        priority.unwrap_or(Priority::Routine)
    });
    Edit {
        constraints,
        visit,
        purpose: purpose.flatten(),
        patient_instructions,
        internal_comment,
        priority,
    }
}

/// Parses the fields of the visit that are named.
fn parse_visit(
    given: &v1::BookingRequest,
    mask: &UpdateMask,
    violations: &mut Violations,
) -> VisitEdit {
    // Of an origin that is not given the date is not set.
    let (of_referral, of_visit) = match &given.origin {
        Some(WireOrigin::Referral(it)) => (it.decision_date.as_str(), ""),
        Some(WireOrigin::PreviousVisit(it)) => ("", it.decision_date.as_str()),
        None => ("", ""),
    };
    let mut date = |text: &str, origin: &'static str| {
        violations.within(origin, |violations| {
            parse_optional_date(text, "decision_date", violations)
        })
    };
    let of_referral = names(mask, Field::ReferralDecision)
        .then(|| DecisionDate::Referral(date(of_referral, "referral")));
    let of_visit = names(mask, Field::VisitDecision)
        .then(|| DecisionDate::PreviousVisit(date(of_visit, "previous_visit")));
    let kind = names(mask, Field::VisitKind)
        .then(|| enums::parse(given.visit_kind, "visit_kind", violations));
    let visit_type = names(mask, Field::VisitType)
        .then(|| parse_visit_type(given.visit_type.as_ref(), violations));
    VisitEdit {
        kind: kind.flatten(),
        visit_type: visit_type.flatten(),
        decision_date: of_referral.or(of_visit),
    }
}

/// Parses the fields of constraints that are named; `None` if none is.
fn parse_constraints(
    given: Option<&v1::BookingConstraints>,
    mask: &UpdateMask,
    violations: &mut Violations,
) -> Option<ConstraintsEdit> {
    if mask.names(CONSTRAINTS) && given.is_none() {
        return violations.require(CONSTRAINTS);
    }
    let cleared = v1::BookingConstraints::default();
    let given = given.unwrap_or(&cleared);
    let edit = violations.within(CONSTRAINTS, |violations| {
        let period = names(mask, Field::Period).then(|| {
            let period = given.requested_period.as_ref();
            parse_period(period, "requested_period", violations)
        });
        ConstraintsEdit {
            period: period.flatten(),
            weekdays: names(mask, Field::Weekdays)
                .then(|| parse_weekdays(&given.weekdays, violations)),
            time_windows: names(mask, Field::TimeWindows)
                .then(|| parse_windows(&given.time_windows, violations)),
            duration_minutes: names(mask, Field::DurationMinutes)
                .then(|| parse_duration_minutes(given.duration_minutes, violations)),
            performer_ids: names(mask, Field::PerformerIds)
                .then(|| parse_performers(&given.performer_ids, violations)),
        }
    });
    (edit != ConstraintsEdit::default()).then_some(edit)
}

fn parse_reason(number: i32, violations: &mut Violations) -> Option<ChangeReason> {
    let reason = enums::parse(number, "reason", violations)?;
    match reason {
        ChangeReason::ToCareInvitation => {
            violations.add("reason", "is for ChangeToInvitation alone");
        }
        ChangeReason::PatientRequest
        | ChangeReason::UnitRequest
        | ChangeReason::Medical
        | ChangeReason::Other => {}
    }
    Some(reason)
}

/// Renders the message in its normalised form, without its request id.
fn render(key: &RequestKey, command: &ChangeBookingRequest) -> v1::ChangeBookingRequestRequest {
    let edit = command.constraints.clone().unwrap_or_default();
    let visit = &command.visit;
    let named = [
        (Field::Period, edit.period.is_some()),
        (Field::Weekdays, edit.weekdays.is_some()),
        (Field::TimeWindows, edit.time_windows.is_some()),
        (Field::DurationMinutes, edit.duration_minutes.is_some()),
        (Field::PerformerIds, edit.performer_ids.is_some()),
        (Field::Purpose, command.purpose.is_some()),
        (
            Field::PatientInstructions,
            command.patient_instructions.is_some(),
        ),
        (Field::InternalComment, command.internal_comment.is_some()),
        (Field::Priority, command.priority.is_some()),
        (Field::VisitKind, visit.kind.is_some()),
        (Field::VisitType, visit.visit_type.is_some()),
        (
            Field::ReferralDecision,
            matches!(visit.decision_date, Some(DecisionDate::Referral(_))),
        ),
        (
            Field::VisitDecision,
            matches!(visit.decision_date, Some(DecisionDate::PreviousVisit(_))),
        ),
    ];
    let named = named.iter().filter(|(_, is_named)| *is_named);
    let instructions = command.patient_instructions.as_ref();
    v1::ChangeBookingRequestRequest {
        booking_request: Some(v1::BookingRequest {
            name: request_name(key),
            purpose: command.purpose.clone().unwrap_or_default(),
            patient_instructions: instructions.and_then(render_instructions),
            internal_comment: command.internal_comment.clone().unwrap_or_default(),
            constraints: command.constraints.as_ref().map(render_constraints),
            priority: enums::render_optional(command.priority),
            visit_kind: enums::render_optional(visit.kind),
            visit_type: visit.visit_type.as_ref().map(render_visit_type),
            origin: visit.decision_date.map(render_decision_date),
            ..Default::default()
        }),
        update_mask: Some(FieldMask {
            paths: named.map(|(it, _)| field::path(*it).to_owned()).collect(),
        }),
        request_id: String::new(),
        etag: command.etag.clone(),
        reason: enums::render(command.reason),
        comment: command.comment.clone(),
        on_change: enums::render_optional(command.on_change),
    }
}

fn render_decision_date(date: DecisionDate) -> WireOrigin {
    let text = |date: Option<_>| date.map(render_date).unwrap_or_default();
    match date {
        DecisionDate::Referral(date) => WireOrigin::Referral(v1::Referral {
            decision_date: text(date),
            ..Default::default()
        }),
        DecisionDate::PreviousVisit(date) => WireOrigin::PreviousVisit(v1::PreviousVisit {
            decision_date: text(date),
            ..Default::default()
        }),
    }
}

fn render_constraints(edit: &ConstraintsEdit) -> v1::BookingConstraints {
    let windows = edit.time_windows.iter().flatten();
    v1::BookingConstraints {
        requested_period: edit.period.map(render_period),
        weekdays: edit.weekdays.map(render_weekdays).unwrap_or_default(),
        time_windows: windows.copied().map(render_window).collect(),
        duration_minutes: edit.duration_minutes.map_or(0, |minutes| {
            i32::try_from(minutes).expect("a visit lasts 480 minutes at most")
        }),
        performer_ids: edit.performer_ids.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
