//! ReportDelivery: receipts for a notification after it was sent.

use uuid::Uuid;

use crate::contract::calendar::parse_past_instant;
use crate::contract::{Violations, care_invitation, enums, parse_notification_name, v1};
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::notification::report_delivery::{Receipt, follow_up};
use crate::domain::request_key::RequestKey;

/// A report on one notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Request that the notification belongs to.
    pub request: RequestKey,
    /// Id of the notification.
    pub notification: Uuid,
    /// Receipt that is reported.
    pub receipt: Receipt,
    /// Time of the receipt; `None`, or a time in the future, means now.
    pub event_time: Option<Instant>,
}

/// Parses ReportDelivery.
///
/// # Errors
///
/// Every fault of shape.
pub fn parse_report(message: v1::ReportDeliveryRequest) -> Result<Report, Violations> {
    Violations::collect(|violations| {
        let named = parse_notification_name(&message.name, "name", violations);
        let receipt = enums::parse(message.receipt, "receipt", violations);
        let given = message.event_time.as_ref();
        let event_time = parse_past_instant(given, "event_time", violations);
        let (request, notification) = named?;
        Some(Report {
            request,
            notification,
            receipt: receipt?,
            event_time,
        })
    })
}

/// Renders the response of ReportDelivery, with the notification that follows from the report, if one
/// does. `record` is the request after the report.
pub fn render_reported(
    record: &BookingRequest,
    id: Uuid,
    receipt: Receipt,
    now: Instant,
) -> v1::ReportDeliveryResponse {
    let follow_up = match receipt {
        Receipt::Read => None,
        Receipt::Unread | Receipt::Returned => follow_up(record, id),
    };
    let displayed = follow_up.map(|notification| record.show(notification, now));
    v1::ReportDeliveryResponse {
        follow_up: displayed.map(|it| care_invitation::render_notification(&record.key, &it)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::booking_request::samples::{invited, key, now};
    use crate::contract::calendar::render_instant;
    use crate::contract::notification_name;
    use crate::contract::tests::fields;
    use chrono::Duration;
    use prost_types::Timestamp;
    use v1::report_delivery_request::Receipt as Wire;

    fn report(receipt: Wire, event_time: Option<Timestamp>) -> v1::ReportDeliveryRequest {
        v1::ReportDeliveryRequest {
            name: notification_name(&key(), Uuid::from_u128(9)),
            receipt: receipt.into(),
            event_time,
        }
    }

    #[test]
    fn each_fault_of_a_report_names_its_field() {
        let later = render_instant(now() + Duration::microseconds(1));
        let broken = Timestamp {
            seconds: 0,
            nanos: -1,
        };
        for (message, faults) in [
            (report(Wire::Read, None), vec![]),
            (report(Wire::Unread, Some(render_instant(now()))), vec![]),
            (report(Wire::Returned, Some(later)), vec![]),
            (report(Wire::Returned, Some(broken)), vec!["event_time"]),
            (report(Wire::Unspecified, None), vec!["receipt"]),
            (
                v1::ReportDeliveryRequest {
                    name: "x".into(),
                    receipt: 4,
                    event_time: None,
                },
                vec!["name", "receipt"],
            ),
        ] {
            let parsed = parse_report(message);
            assert_eq!(parsed.map_or_else(fields, |_| vec![]), faults);
        }
    }

    #[test]
    fn a_report_is_of_one_notification() {
        let parsed = parse_report(report(Wire::Returned, None)).unwrap();
        let expected = Report {
            request: key(),
            notification: Uuid::from_u128(9),
            receipt: Receipt::Returned,
            event_time: None,
        };
        assert_eq!(parsed, expected);
    }

    #[test]
    fn the_letter_that_follows_is_answered_and_nothing_follows_a_reading() {
        let mut record = invited();
        let invitation = record.care_invitation.as_mut().unwrap();
        let first = invitation.notifications[0].clone();
        let mut letter = first.clone();
        letter.id = Uuid::from_u128(9);
        letter.channel_fixed = true;
        let nothing = render_reported(&record, first.id, Receipt::Unread, now());
        assert_eq!(nothing.follow_up, None);
        let invitation = record.care_invitation.as_mut().unwrap();
        invitation.notifications.push(letter);
        for (receipt, follows) in [
            (Receipt::Read, false),
            (Receipt::Unread, true),
            (Receipt::Returned, true),
        ] {
            let answer = render_reported(&record, first.id, receipt, now());
            let name = answer.follow_up.map(|message| message.name);
            let letter = notification_name(&key(), Uuid::from_u128(9));
            assert_eq!(name, follows.then_some(letter), "{receipt:?}");
        }
    }
}
