//! RecordBookingCancellation: which booking, who cancelled it, and what becomes of the request.

use crate::contract::booking_request::constraints;
use crate::contract::text::{COMMENT_MAX, parse_identifier, parse_lines};
use crate::contract::{
    IdempotentCommand, Violations, enums, parse_request_id, parse_request_name, request_name, v1,
};
use crate::domain::booking_request::record_booking_cancellation::RecordBookingCancellation;
use crate::domain::request_key::RequestKey;

/// Parses RecordBookingCancellation.
///
/// # Errors
///
/// Every fault of shape.
pub fn parse_record_booking_cancellation(
    message: v1::RecordBookingCancellationRequest,
) -> Result<IdempotentCommand<(RequestKey, RecordBookingCancellation)>, Violations> {
    Violations::collect(|violations| {
        let key = parse_request_name(&message.name, "name", violations);
        let request_id = parse_request_id(&message.request_id, violations);
        let booking_id = parse_identifier(&message.booking_id, "booking_id", violations);
        let reason = enums::parse(message.reason, "reason", violations);
        let next = enums::parse(message.next, "next", violations);
        let constraints = message
            .constraints
            .as_ref()
            .and_then(|given| constraints::parse(given, violations));
        let comment = parse_lines(&message.comment, COMMENT_MAX, "comment", violations);
        let key = key?;
        let command = RecordBookingCancellation {
            etag: message.etag,
            booking_id: booking_id?,
            reason: reason?,
            next: next?,
            constraints,
            comment,
        };
        let content = v1::RecordBookingCancellationRequest {
            name: request_name(&key),
            request_id: String::new(),
            etag: command.etag.clone(),
            booking_id: command.booking_id.clone(),
            reason: enums::render(command.reason),
            next: enums::render(command.next),
            constraints: command.constraints.as_ref().map(constraints::render),
            comment: command.comment.clone(),
        };
        Some(IdempotentCommand::new(
            request_id?,
            "RecordBookingCancellation",
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

    fn record_booking_cancellation() -> v1::RecordBookingCancellationRequest {
        v1::RecordBookingCancellationRequest {
            name: request_name(&key()),
            request_id: Uuid::from_u128(5).to_string(),
            booking_id: "B-1".into(),
            reason: 1,
            next: 1,
            ..Default::default()
        }
    }

    #[test]
    fn each_fault_of_a_cancellation_names_its_field() {
        let nothing = v1::RecordBookingCancellationRequest {
            constraints: Some(v1::BookingConstraints::default()),
            comment: "\0".into(),
            ..Default::default()
        };
        let all = [
            "name",
            "request_id",
            "booking_id",
            "reason",
            "next",
            "constraints.requested_period",
            "comment",
        ];
        let unknown = v1::RecordBookingCancellationRequest {
            reason: 4,
            next: 3,
            ..record_booking_cancellation()
        };
        for (message, faults) in [
            (record_booking_cancellation(), &[][..]),
            (nothing, &all),
            (unknown, &["reason", "next"]),
        ] {
            let parsed = parse_record_booking_cancellation(message);
            let found = parsed.err().map(fields).unwrap_or_default();
            assert_eq!(found, faults);
        }
    }

    #[test]
    fn every_field_is_part_of_what_a_call_says() {
        let hash = |message| {
            parse_record_booking_cancellation(message)
                .unwrap()
                .content_hash
        };
        let other = |change: fn(&mut v1::RecordBookingCancellationRequest)| {
            let mut message = record_booking_cancellation();
            change(&mut message);
            message
        };
        assert_eq!(
            hash(record_booking_cancellation()),
            hash(record_booking_cancellation())
        );
        for changed in [
            other(|it| it.booking_id = "B-2".into()),
            other(|it| it.reason = 2),
            other(|it| it.next = 2),
            other(|it| it.etag = "r1".into()),
            other(|it| it.comment = "sjuk".into()),
        ] {
            assert_ne!(hash(record_booking_cancellation()), hash(changed));
        }
    }
}
