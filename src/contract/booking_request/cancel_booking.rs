//! CancelBooking: which booking, who cancelled it, and what becomes of the request.

use crate::contract::booking_request::constraints;
use crate::contract::text::{COMMENT_MAX, parse_identifier, parse_lines};
use crate::contract::{
    IdempotentCommand, Violations, enums, parse_request_id, parse_request_name, request_name, v1,
};
use crate::domain::booking_request::cancel_booking::CancelBooking;
use crate::domain::request_key::RequestKey;

/// Parses CancelBooking.
///
/// # Errors
///
/// Every fault of shape.
pub fn parse_cancel_booking(
    message: v1::CancelBookingRequest,
) -> Result<IdempotentCommand<(RequestKey, CancelBooking)>, Violations> {
    Violations::collect(|violations| {
        let key = parse_request_name(&message.name, "name", violations);
        let request_id = parse_request_id(&message.request_id, violations);
        let booking_id = parse_identifier(&message.booking_id, "booking_id", violations);
        let initiator = enums::parse(message.initiator, "initiator", violations);
        let next = enums::parse(message.next, "next", violations);
        let constraints = message
            .constraints
            .as_ref()
            .and_then(|given| constraints::parse(given, violations));
        let comment = parse_lines(&message.comment, COMMENT_MAX, "comment", violations);
        let key = key?;
        let command = CancelBooking {
            etag: message.etag,
            booking_id: booking_id?,
            initiator: initiator?,
            next: next?,
            constraints,
            comment,
        };
        let content = v1::CancelBookingRequest {
            name: request_name(&key),
            request_id: String::new(),
            etag: command.etag.clone(),
            booking_id: command.booking_id.clone(),
            initiator: enums::render(command.initiator),
            next: enums::render(command.next),
            constraints: command.constraints.as_ref().map(constraints::render),
            comment: command.comment.clone(),
        };
        Some(IdempotentCommand::new(
            request_id?,
            "CancelBooking",
            &content,
            (key, command),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::booking_request::samples::key;
    use crate::contract::tests::fields;
    use uuid::Uuid;

    fn cancel_booking() -> v1::CancelBookingRequest {
        v1::CancelBookingRequest {
            name: request_name(&key()),
            request_id: Uuid::from_u128(5).to_string(),
            booking_id: "B-1".into(),
            initiator: 1,
            next: 1,
            ..Default::default()
        }
    }

    #[test]
    fn each_fault_of_a_cancellation_names_its_field() {
        let nothing = v1::CancelBookingRequest {
            constraints: Some(v1::BookingConstraints::default()),
            comment: "\0".into(),
            ..Default::default()
        };
        let all = [
            "name",
            "request_id",
            "booking_id",
            "initiator",
            "next",
            "constraints.requested_period",
            "comment",
        ];
        let unknown = v1::CancelBookingRequest {
            initiator: 4,
            next: 3,
            ..cancel_booking()
        };
        for (message, faults) in [
            (cancel_booking(), &[][..]),
            (nothing, &all),
            (unknown, &["initiator", "next"]),
        ] {
            let parsed = parse_cancel_booking(message);
            let found = parsed.err().map(fields).unwrap_or_default();
            assert_eq!(found, faults);
        }
    }

    #[test]
    fn every_field_is_part_of_what_a_call_says() {
        let hash = |message| parse_cancel_booking(message).unwrap().content_hash;
        let other = |change: fn(&mut v1::CancelBookingRequest)| {
            let mut message = cancel_booking();
            change(&mut message);
            message
        };
        assert_eq!(hash(cancel_booking()), hash(cancel_booking()));
        for changed in [
            other(|it| it.booking_id = "B-2".into()),
            other(|it| it.initiator = 2),
            other(|it| it.next = 2),
            other(|it| it.etag = "r1".into()),
            other(|it| it.comment = "sjuk".into()),
        ] {
            assert_ne!(hash(cancel_booking()), hash(changed));
        }
    }
}
