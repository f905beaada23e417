//! ReportDelivery: receipts for a notification after it was sent.

use uuid::Uuid;

use super::LEASES_MAX;
use crate::contract::batch::Batch;
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
/// A number of receipts that is not accepted.
pub fn parse_reports(message: &v1::ReportDeliveryRequest) -> Result<Batch<Report>, Violations> {
    let name = |given: &v1::DeliveryReceipt| given.name.clone();
    Batch::parse(
        &message.receipts,
        "receipts",
        LEASES_MAX,
        name,
        parse_report,
    )
}

fn parse_report(given: &v1::DeliveryReceipt, violations: &mut Violations) -> Option<Report> {
    let named = parse_notification_name(&given.name, "name", violations);
    let receipt = enums::parse(given.receipt, "receipt", violations);
    let event_time = parse_past_instant(given.event_time.as_ref(), "event_time", violations);
    let (request, notification) = named?;
    Some(Report {
        request,
        notification,
        receipt: receipt?,
        event_time,
    })
}

/// Renders the response of ReportDelivery.
pub fn render_reported(
    results: impl IntoIterator<Item = (String, Result<Option<v1::Notification>, v1::ElementError>)>,
) -> v1::ReportDeliveryResponse {
    let result = |(name, result)| {
        let (follow_up, error) = match result {
            Ok(follow_up) => (follow_up, None),
            Err(error) => (None, Some(error)),
        };
        v1::DeliveryReceiptResult {
            name,
            follow_up,
            error,
        }
    };
    v1::ReportDeliveryResponse {
        results: results.into_iter().map(result).collect(),
    }
}

/// Renders the notification that follows from a report, if one does. `record` is the request after the report.
pub fn render_follow_up(
    record: &BookingRequest,
    id: Uuid,
    receipt: Receipt,
    now: Instant,
) -> Option<v1::Notification> {
    let displayed =
        follow_up(record, id, receipt).map(|notification| record.show(notification, now));
    displayed.map(|it| care_invitation::render_notification(&record.key, &it))
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
    use v1::delivery_receipt::Receipt as Wire;

    fn report(receipt: Wire, event_time: Option<Timestamp>) -> v1::DeliveryReceipt {
        v1::DeliveryReceipt {
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
                v1::DeliveryReceipt {
                    name: "x".into(),
                    receipt: 6,
                    event_time: None,
                },
                vec!["name", "receipt"],
            ),
        ] {
            let parsed = Violations::collect(|it| parse_report(&message, it));
            assert_eq!(parsed.map_or_else(fields, |_| vec![]), faults);
        }
    }

    #[test]
    fn a_report_is_of_one_notification() {
        let returned = report(Wire::Returned, None);
        let parsed = Violations::collect(|it| parse_report(&returned, it)).unwrap();
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
        let nothing = render_follow_up(&record, first.id, Receipt::Unread, now());
        assert_eq!(nothing, None);
        let invitation = record.care_invitation.as_mut().unwrap();
        invitation.notifications.push(letter);
        for (receipt, follows) in [
            (Receipt::Read, false),
            (Receipt::Dispatched, false),
            (Receipt::Unread, true),
            (Receipt::Returned, true),
        ] {
            let follow_up = render_follow_up(&record, first.id, receipt, now());
            let name = follow_up.map(|message| message.name);
            let letter = notification_name(&key(), Uuid::from_u128(9));
            assert_eq!(name, follows.then_some(letter), "{receipt:?}");
        }
    }
}
