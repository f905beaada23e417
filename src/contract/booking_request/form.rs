//! The form that was registered: its fields, and the rules on which of them go together.

use super::{booking, constraints};
use crate::contract::calendar::{parse_optional_date, render_date};
use crate::contract::text::{
    COMMENT_MAX, TITLE_MAX, parse_identifier, parse_line, parse_lines, parse_optional_identifier,
    parse_required_line,
};
use crate::contract::v1::booking_request::Origin as WireOrigin;
use crate::contract::{Violations, enums, patient, v1};
use crate::domain::booking_request::form::Constraints;
use crate::domain::booking_request::form::Form;
use crate::domain::booking_request::form::Origin;
use crate::domain::booking_request::form::PatientInstructions;
use crate::domain::booking_request::form::Priority;
use crate::domain::booking_request::form::VisitType;

/// Parses the field `booking_request`, which must be given. Output-only fields are ignored.
pub(super) fn parse(
    message: Option<&v1::BookingRequest>,
    violations: &mut Violations,
) -> Option<Form> {
    let Some(message) = message else {
        return violations.require("booking_request");
    };
    violations.within("booking_request", |violations| {
        parse_fields(message, violations)
    })
}

fn parse_fields(message: &v1::BookingRequest, violations: &mut Violations) -> Option<Form> {
    let patient = patient::parse(message.patient.as_ref(), violations);
    let origin = parse_origin(message.origin.as_ref(), violations);
    let visit_kind = enums::parse(message.visit_kind, "visit_kind", violations);
    let visit_type = parse_visit_type(message.visit_type.as_ref(), violations);
    let purpose = parse_required_line(&message.purpose, TITLE_MAX, "purpose", violations);
    let patient_instructions =
        parse_instructions(message.patient_instructions.as_ref(), violations);
    let internal_comment = parse_lines(
        &message.internal_comment,
        COMMENT_MAX,
        "internal_comment",
        violations,
    );
    check_invitation(message, violations);
    let constraints = parse_constraints(message, violations);
    let booking = message
        .booking
        .as_ref()
        .and_then(|it| booking::parse(it, violations));
    let priority = enums::parse_optional(message.priority, "priority", violations);
    Some(Form {
        patient: patient?,
        origin: origin?,
        visit_kind: visit_kind?,
        visit_type: visit_type?,
        purpose: purpose?,
        patient_instructions,
        internal_comment,
        summons: message.summons,
        invitation: message.invitation,
        constraints,
        booking,
        priority: priority.unwrap_or(Priority::Routine),
    })
}

fn parse_origin(origin: Option<&WireOrigin>, violations: &mut Violations) -> Option<Origin> {
    match origin {
        Some(WireOrigin::Referral(referral)) => violations.within("referral", |violations| {
            let referral_id = parse_identifier(&referral.referral_id, "referral_id", violations);
            let decision_date =
                parse_optional_date(&referral.decision_date, "decision_date", violations);
            Some(Origin::Referral {
                referral_id: referral_id?,
                decision_date,
            })
        }),
        Some(WireOrigin::PreviousVisit(visit)) => {
            violations.within("previous_visit", |violations| {
                let visit_id = parse_identifier(&visit.visit_id, "visit_id", violations);
                let referral_id =
                    parse_optional_identifier(&visit.referral_id, "referral_id", violations);
                let decision_date =
                    parse_optional_date(&visit.decision_date, "decision_date", violations);
                Some(Origin::PreviousVisit {
                    visit_id: visit_id?,
                    referral_id,
                    decision_date,
                })
            })
        }
        None => violations.require("origin"),
    }
}

/// Parses the field `visit_type`, which must be given.
pub(super) fn parse_visit_type(
    message: Option<&v1::VisitType>,
    violations: &mut Violations,
) -> Option<VisitType> {
    let Some(message) = message else {
        return violations.require("visit_type");
    };
    violations.within("visit_type", |violations| {
        let code = parse_identifier(&message.code, "code", violations);
        let display_name = parse_line(&message.display_name, TITLE_MAX, "display_name", violations);
        Some(VisitType {
            code: code?,
            display_name,
        })
    })
}

/// Parses the field `patient_instructions`, which may be left out.
pub(super) fn parse_instructions(
    message: Option<&v1::PatientInstructions>,
    violations: &mut Violations,
) -> PatientInstructions {
    let Some(message) = message else {
        return PatientInstructions::default();
    };
    violations.within("patient_instructions", |violations| {
        let mut text = |text, field| parse_lines(text, COMMENT_MAX, field, violations);
        PatientInstructions {
            visit_length: text(&message.visit_length, "visit_length"),
            supplementary: text(&message.supplementary, "supplementary"),
            sampling_before_visit: text(&message.sampling_before_visit, "sampling_before_visit"),
            sampling_information: text(&message.sampling_information, "sampling_information"),
        }
    })
}

fn check_invitation(message: &v1::BookingRequest, violations: &mut Violations) {
    if message.invitation && !message.summons {
        violations.add("invitation", "needs summons");
    } else if message.invitation && message.booking.is_some() {
        violations.add("invitation", "must be false for a visit that is booked");
    }
}

fn parse_constraints(
    message: &v1::BookingRequest,
    violations: &mut Violations,
) -> Option<Constraints> {
    match &message.constraints {
        Some(given) => constraints::parse(given, violations),
        None if message.booking.is_some() => None,
        None => violations.require("constraints"),
    }
}

/// Renders the form; output-only fields are left unset.
pub(super) fn render(form: &Form) -> v1::BookingRequest {
    v1::BookingRequest {
        patient: Some(patient::render(&form.patient)),
        origin: Some(render_origin(&form.origin)),
        visit_kind: enums::render(form.visit_kind),
        visit_type: Some(render_visit_type(&form.visit_type)),
        purpose: form.purpose.clone(),
        patient_instructions: render_instructions(&form.patient_instructions),
        internal_comment: form.internal_comment.clone(),
        summons: form.summons,
        invitation: form.invitation,
        constraints: form.constraints.as_ref().map(constraints::render),
        booking: form.booking.as_ref().map(booking::render),
        priority: enums::render(form.priority),
        ..Default::default()
    }
}

fn render_origin(origin: &Origin) -> WireOrigin {
    match origin {
        Origin::Referral {
            referral_id,
            decision_date,
        } => WireOrigin::Referral(v1::Referral {
            referral_id: referral_id.clone(),
            decision_date: decision_date.map(render_date).unwrap_or_default(),
        }),
        Origin::PreviousVisit {
            visit_id,
            referral_id,
            decision_date,
        } => WireOrigin::PreviousVisit(v1::PreviousVisit {
            visit_id: visit_id.clone(),
            referral_id: referral_id.clone().unwrap_or_default(),
            decision_date: decision_date.map(render_date).unwrap_or_default(),
        }),
    }
}

/// Renders a visit type.
pub(in crate::contract) fn render_visit_type(visit_type: &VisitType) -> v1::VisitType {
    v1::VisitType {
        code: visit_type.code.clone(),
        display_name: visit_type.display_name.clone(),
    }
}

/// Renders the texts for the patient.
pub(in crate::contract) fn render_instructions(
    instructions: &PatientInstructions,
) -> Option<v1::PatientInstructions> {
    (*instructions != PatientInstructions::default()).then(|| v1::PatientInstructions {
        visit_length: instructions.visit_length.clone(),
        supplementary: instructions.supplementary.clone(),
        sampling_before_visit: instructions.sampling_before_visit.clone(),
        sampling_information: instructions.sampling_information.clone(),
    })
}
