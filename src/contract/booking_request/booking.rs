//! The booked visit.

use crate::contract::calendar::{parse_instant, render_instant};
use crate::contract::enums;
use crate::contract::text::{
    COMMENT_MAX, is_blank, parse_identifier, parse_lines, parse_optional_hsa_id,
};
use crate::contract::{Violations, v1};
use crate::domain::booking_request::form::Booking;

/// Parses a booking that is given.
pub(in crate::contract) fn parse(
    message: &v1::Booking,
    violations: &mut Violations,
) -> Option<Booking> {
    violations.within("booking", |violations| {
        let booking_id = parse_identifier(&message.booking_id, "booking_id", violations);
        let start_at = parse_instant(message.start_time.as_ref(), "start_time", violations);
        let end_at = parse_instant(message.end_time.as_ref(), "end_time", violations);
        if start_at
            .zip(end_at)
            .is_some_and(|(start, end)| end <= start)
        {
            violations.add("end_time", "must be after start_time");
        }
        let source = enums::parse(message.source, "source", violations);
        let performer_id = parse_optional_hsa_id(&message.performer_id, "performer_id", violations);
        let reason = &message.override_reason;
        let override_reason = match is_blank(reason) {
            // A blank reason overrides nothing.
            true => String::new(),
            false => parse_lines(reason, COMMENT_MAX, "override_reason", violations),
        };
        Some(Booking {
            booking_id: booking_id?,
            start_at: start_at?,
            end_at: end_at?,
            source: source?,
            performer_id,
            override_reason,
        })
    })
}

/// Renders a booking.
pub(in crate::contract) fn render(booking: &Booking) -> v1::Booking {
    v1::Booking {
        booking_id: booking.booking_id.clone(),
        start_time: Some(render_instant(booking.start_at)),
        end_time: Some(render_instant(booking.end_at)),
        source: enums::render(booking.source),
        performer_id: booking.performer_id.clone().unwrap_or_default(),
        override_reason: booking.override_reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::tests::outcome;
    use prost_types::Timestamp;

    fn at(seconds: i64, nanos: i32) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos })
    }

    fn booking() -> v1::Booking {
        v1::Booking {
            booking_id: "B-1".into(),
            start_time: at(1_779_100_000, 0),
            end_time: at(1_779_101_800, 0),
            source: v1::BookingSource::Patient.into(),
            ..Default::default()
        }
    }

    #[test]
    fn each_fault_of_a_booking_names_its_field() {
        let no_longer = at(1_779_100_000, 999);
        for (message, faults) in [
            (booking(), vec![]),
            (
                v1::Booking::default(),
                vec!["booking_id", "start_time", "end_time", "source"],
            ),
            (
                v1::Booking {
                    end_time: no_longer,
                    ..booking()
                },
                vec!["end_time"],
            ),
            (
                v1::Booking {
                    booking_id: "x".repeat(65),
                    ..booking()
                },
                vec!["booking_id"],
            ),
            (
                v1::Booking {
                    source: 9,
                    ..booking()
                },
                vec!["source"],
            ),
            (
                v1::Booking {
                    performer_id: "Anna".into(),
                    ..booking()
                },
                vec!["performer_id"],
            ),
            (
                v1::Booking {
                    override_reason: "x".repeat(2_001),
                    ..booking()
                },
                vec!["override_reason"],
            ),
        ] {
            let (_, found) = outcome(|v| parse(&message, v));
            let faults: Vec<_> = faults
                .iter()
                .map(|field| format!("booking.{field}"))
                .collect();
            assert_eq!(found, faults);
        }
    }
}
