//! RecordPatientContact: the outcome of a contact, and the last day of waiting for the patient.

use chrono::NaiveDate;

use crate::contract::calendar::{parse_instant, parse_optional_date, render_date, render_instant};
use crate::contract::enums::{self, WireEnum};
use crate::contract::text::{COMMENT_MAX, parse_lines};
use crate::contract::{
    IdempotentCommand, Violations, parse_request_id, parse_request_name, request_name, v1,
};
use crate::domain::booking_request::record_patient_contact::{
    Outcome, PatientContact, RecordPatientContact,
};
use crate::domain::request_key::RequestKey;

/// Converts the outcome without the day of WILL_BOOK, which is a field of its own.
impl WireEnum for Outcome {
    type Wire = v1::ContactOutcome;

    fn from_wire(wire: Self::Wire) -> Option<Self> {
        use v1::ContactOutcome as Wire;
        match wire {
            Wire::Unspecified => None,
            Wire::WillBook => Some(Self::WillBook(None)),
            Wire::Declined => Some(Self::Declined),
            Wire::NoSuitableTime => Some(Self::NoSuitableTime),
            Wire::CallBack => Some(Self::CallBack),
            Wire::Other => Some(Self::Other),
        }
    }

    fn to_wire(self) -> Self::Wire {
        use v1::ContactOutcome as Wire;
        match self {
            Self::WillBook(_) => Wire::WillBook,
            Self::Declined => Wire::Declined,
            Self::NoSuitableTime => Wire::NoSuitableTime,
            Self::CallBack => Wire::CallBack,
            Self::Other => Wire::Other,
        }
    }
}

/// Parses RecordPatientContact.
///
/// # Errors
///
/// Every fault of shape, such as a day to wait until with an outcome other than WILL_BOOK.
pub fn parse_contact(
    message: v1::RecordPatientContactRequest,
) -> Result<IdempotentCommand<(RequestKey, RecordPatientContact)>, Violations> {
    Violations::collect(|violations| {
        let key = parse_request_name(&message.name, "name", violations);
        let request_id = parse_request_id(&message.request_id, violations);
        let outcome = enums::parse(message.outcome, "outcome", violations);
        let outcome = parse_wait(outcome, &message.wait_until_date, violations);
        let comment = parse_lines(&message.comment, COMMENT_MAX, "comment", violations);
        let contact_at = message
            .contact_time
            .as_ref()
            .and_then(|contact_time| parse_instant(Some(contact_time), "contact_time", violations));
        let medium = enums::parse_optional(message.medium, "medium", violations);
        let key = key?;
        let command = RecordPatientContact {
            etag: message.etag,
            outcome: outcome?,
            contact_at,
            medium,
            comment,
        };
        let content = v1::RecordPatientContactRequest {
            name: request_name(&key),
            request_id: String::new(),
            etag: command.etag.clone(),
            outcome: enums::render(command.outcome),
            wait_until_date: waits_until(command.outcome)
                .map(render_date)
                .unwrap_or_default(),
            comment: command.comment.clone(),
            contact_time: command.contact_at.map(render_instant),
            medium: enums::render_optional(command.medium),
        };
        Some(IdempotentCommand::new(
            request_id?,
            "RecordPatientContact",
            &content,
            (key, command),
        ))
    })
}

/// Parses the field `wait_until_date` into the outcome, if it is WILL_BOOK.
fn parse_wait(
    outcome: Option<Outcome>,
    wait_until_date: &str,
    violations: &mut Violations,
) -> Option<Outcome> {
    match outcome {
        Some(Outcome::WillBook(_)) | None => {
            let until = parse_optional_date(wait_until_date, "wait_until_date", violations);
            outcome.map(|_| Outcome::WillBook(until))
        }
        Some(Outcome::Declined | Outcome::NoSuitableTime | Outcome::CallBack | Outcome::Other) => {
            if !wait_until_date.is_empty() {
                violations.add(
                    "wait_until_date",
                    "goes with CONTACT_OUTCOME_WILL_BOOK alone",
                );
            }
            outcome
        }
    }
}

/// Renders the contact that was recorded last.
pub(in crate::contract) fn render(contact: PatientContact) -> v1::PatientContact {
    v1::PatientContact {
        outcome: enums::render(contact.outcome),
        contact_time: Some(render_instant(contact.at)),
        medium: enums::render_optional(contact.medium),
    }
}

fn waits_until(outcome: Outcome) -> Option<NaiveDate> {
    match outcome {
        Outcome::WillBook(until) => until,
        Outcome::Declined | Outcome::NoSuitableTime | Outcome::CallBack | Outcome::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::booking_request::samples::key;
    use crate::contract::tests::fields;
    use uuid::Uuid;
    use v1::ContactOutcome as Wire;

    fn contact(outcome: Wire) -> v1::RecordPatientContactRequest {
        v1::RecordPatientContactRequest {
            name: request_name(&key()),
            request_id: Uuid::from_u128(5).to_string(),
            outcome: outcome.into(),
            ..Default::default()
        }
    }

    fn outcome(given: Wire, wait_until_date: &str) -> Result<Outcome, Vec<String>> {
        let parsed = parse_contact(v1::RecordPatientContactRequest {
            wait_until_date: wait_until_date.into(),
            ..contact(given)
        });
        parsed.map(|it| it.command.1.outcome).map_err(fields)
    }

    #[test]
    fn only_who_will_book_is_waited_for() {
        let fault = || Err(vec!["wait_until_date".to_owned()]);
        let until = "2026-03-20".parse().unwrap();
        for (given, date, expected) in [
            (Wire::WillBook, "", Ok(Outcome::WillBook(None))),
            (
                Wire::WillBook,
                "2026-03-20",
                Ok(Outcome::WillBook(Some(until))),
            ),
            (Wire::WillBook, "20 mars", fault()),
            (Wire::Declined, "", Ok(Outcome::Declined)),
            (Wire::Declined, "2026-03-20", fault()),
            (Wire::NoSuitableTime, "", Ok(Outcome::NoSuitableTime)),
            (Wire::NoSuitableTime, "x", fault()),
            (Wire::CallBack, "", Ok(Outcome::CallBack)),
            (Wire::CallBack, "2026-03-20", fault()),
            (Wire::Other, "", Ok(Outcome::Other)),
            (Wire::Other, "2026-03-20", fault()),
        ] {
            assert_eq!(outcome(given, date), expected, "{given:?} {date}");
        }
    }

    #[test]
    fn each_fault_of_a_contact_names_its_field() {
        let parsed = parse_contact(v1::RecordPatientContactRequest {
            wait_until_date: "x".into(),
            comment: "\0".into(),
            contact_time: Some(prost_types::Timestamp {
                seconds: i64::MAX,
                nanos: 0,
            }),
            medium: 8,
            ..Default::default()
        });
        assert_eq!(
            fields(parsed.unwrap_err()),
            [
                "name",
                "request_id",
                "outcome",
                "wait_until_date",
                "comment",
                "contact_time",
                "medium"
            ]
        );
        let unknown = parse_contact(v1::RecordPatientContactRequest {
            outcome: 6,
            ..contact(Wire::Declined)
        });
        assert_eq!(fields(unknown.unwrap_err()), ["outcome"]);
    }

    #[test]
    fn the_day_is_part_of_what_a_call_says() {
        let hash = |date: &str| {
            let parsed = parse_contact(v1::RecordPatientContactRequest {
                wait_until_date: date.into(),
                ..contact(Wire::WillBook)
            });
            parsed.unwrap().content_hash
        };
        assert_eq!(hash("2026-03-20"), hash("2026-03-20"));
        assert_ne!(hash("2026-03-20"), hash("2026-03-21"));
        assert_ne!(hash("2026-03-20"), hash(""));
    }
}
