//! ListNotifications: the filter, and the cursor of a page.

use uuid::Uuid;

use super::parse_channels;
use crate::contract::calendar::{parse_optional_instant, render_instant};
use crate::contract::page_token::{self, KEY_BYTES, key_bytes, key_of};
use crate::contract::{
    Fault, Violations, care_invitation, care_unit_name, enums, parse_listed_units, parse_page_size,
    v1,
};
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::{Instant, from_micros, micros};
use crate::domain::notification::DisplayState;
use crate::domain::notification::State;
use crate::domain::notification::list::NotificationCursor;
use crate::domain::notification::list::NotificationFilter;

const LIST: &str = "ListNotifications";
/// Bytes of a cursor: the due time, the request key and the notification's id.
const CURSOR_BYTES: usize = 8 + KEY_BYTES + 16;
/// States that are listed if none are named: those of notifications that may still be sent, or wait for
/// staff.
const STATES_DEFAULT: [DisplayState; 4] = [
    DisplayState::Planned(State::Scheduled),
    DisplayState::Planned(State::Leased),
    DisplayState::Planned(State::Dispatching),
    DisplayState::Planned(State::Parked),
];

/// Command to list a page of notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListNotifications {
    /// Notifications to list; each part of the filter is sorted.
    pub filter: NotificationFilter,
    /// Maximum number of notifications.
    pub page_size: u32,
    /// Cursor after which the page begins; `None` for the first page.
    pub after: Option<NotificationCursor>,
}

/// Parses ListNotifications.
///
/// # Errors
///
/// Every fault of shape; then [`Fault::PageToken`].
pub fn parse_list(message: v1::ListNotificationsRequest) -> Result<ListNotifications, Fault> {
    let (filter, page_size) = Violations::collect(|violations| {
        let care_units = parse_listed_units(&message.care_units, violations);
        let states = parse_states(&message.states, violations);
        let mut channels = parse_channels(&message.channels, violations);
        channels.sort();
        let due_before = message.due_before_time.as_ref();
        let due_before = parse_optional_instant(due_before, "due_before_time", violations);
        let page_size = parse_page_size(message.page_size, violations);
        let filter = NotificationFilter {
            care_units,
            states,
            channels,
            due_before,
        };
        Some((filter, page_size))
    })?;
    let after = page_token::parse(LIST, &render_filter(&filter), &message.page_token)?;
    let after = after.map(|bytes| cursor_of(&bytes).ok_or(Fault::PageToken));
    Ok(ListNotifications {
        filter,
        page_size,
        after: after.transpose()?,
    })
}

/// Parses the field `states`: in the order of their numbers, each once.
fn parse_states(numbers: &[i32], violations: &mut Violations) -> Vec<DisplayState> {
    let mut named: Vec<DisplayState> = Vec::new();
    for (i, number) in numbers.iter().enumerate() {
        let field = format!("states[{i}]");
        let state = enums::parse(*number, &field, violations);
        if state == Some(DisplayState::Projected) {
            violations.add(
                field,
                "must not be projected: such a notification is not planned",
            );
        }
        named.extend(state.filter(|state| !named.contains(state)));
    }
    named.sort_by_key(|state| enums::render(*state));
    if named.is_empty() {
        STATES_DEFAULT.to_vec()
    } else {
        named
    }
}

/// Renders the filter in its normalised form, to which page tokens are bound.
fn render_filter(filter: &NotificationFilter) -> v1::ListNotificationsRequest {
    let (states, channels) = (filter.states.iter(), filter.channels.iter());
    v1::ListNotificationsRequest {
        care_units: filter.care_units.iter().map(care_unit_name).collect(),
        states: states.copied().map(enums::render).collect(),
        channels: channels.copied().map(enums::render).collect(),
        due_before_time: filter.due_before.map(render_instant),
        page_size: 0,
        page_token: String::new(),
    }
}

/// Returns the token of the page that begins after `cursor`.
pub fn next_page_token(filter: &NotificationFilter, cursor: &NotificationCursor) -> String {
    page_token::render(LIST, &render_filter(filter), &cursor_bytes(cursor))
}

fn cursor_bytes(cursor: &NotificationCursor) -> [u8; CURSOR_BYTES] {
    let mut bytes = [0; CURSOR_BYTES];
    bytes[..8].copy_from_slice(&micros(cursor.due_at).to_be_bytes());
    bytes[8..8 + KEY_BYTES].copy_from_slice(&key_bytes(&cursor.request));
    bytes[8 + KEY_BYTES..].copy_from_slice(cursor.notification.as_bytes());
    bytes
}

fn cursor_of(bytes: &[u8; CURSOR_BYTES]) -> Option<NotificationCursor> {
    let (due_at, rest) = bytes.split_first_chunk()?;
    let (request, notification) = rest.split_first_chunk()?;
    Some(NotificationCursor {
        due_at: from_micros(i64::from_be_bytes(*due_at)),
        request: key_of(request)?,
        notification: Uuid::from_bytes(*notification.first_chunk()?),
    })
}

/// Renders a notification of `record` as displayed at `now`; `None` if the record has no such notification.
pub fn render(record: &BookingRequest, id: Uuid, now: Instant) -> Option<v1::Notification> {
    let displayed = record.show(record.notification(id)?, now);
    Some(care_invitation::render_notification(
        &record.key,
        &displayed,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::booking_request::samples::{invited, now};
    use crate::contract::tests::fields;
    use crate::domain::hsa_id::HsaId;
    use crate::domain::notification::DeliveryChannel;
    use crate::domain::request_key::RequestKey;
    use prost_types::Timestamp;
    use v1::notification::State as Wire;

    fn request() -> v1::ListNotificationsRequest {
        v1::ListNotificationsRequest {
            care_units: vec!["careUnits/SE2321000131-P1".into()],
            ..Default::default()
        }
    }

    fn list(message: v1::ListNotificationsRequest) -> Result<ListNotifications, Vec<String>> {
        parse_list(message).map_err(|fault| match fault {
            Fault::Invalid(violations) => fields(violations),
            Fault::PageToken => vec!["page_token".into()],
        })
    }

    fn cursor() -> NotificationCursor {
        NotificationCursor {
            due_at: now(),
            request: RequestKey {
                care_unit: HsaId::parse("SE2321000131-123456789012345678").unwrap(),
                id: Uuid::from_u128(42),
            },
            notification: Uuid::from_u128(43),
        }
    }

    #[test]
    fn what_is_left_out_lists_what_may_still_go_out() {
        let parsed = list(request()).unwrap();
        assert_eq!(parsed.filter.states, STATES_DEFAULT);
        assert_eq!(
            parsed.filter.channels,
            [DeliveryChannel::Inbox, DeliveryChannel::Letter]
        );
        assert_eq!((parsed.filter.due_before, parsed.page_size), (None, 50));
        assert_eq!(parsed.after, None);
    }

    #[test]
    fn every_state_but_projected_can_be_listed() {
        for number in 0..=9 {
            let parsed = list(v1::ListNotificationsRequest {
                states: vec![Wire::Sent.into(), number],
                ..request()
            });
            let good = (2..=8).contains(&number);
            let expected = good.then_some(()).ok_or(vec!["states[1]".to_owned()]);
            assert_eq!(parsed.map(|_| ()), expected, "{number}");
        }
    }

    #[test]
    fn each_fault_of_a_list_names_its_field() {
        let unit = || "careUnits/SE2321000131-P1".to_owned();
        let broken = Timestamp {
            seconds: 0,
            nanos: -1,
        };
        for (message, faults) in [
            (v1::ListNotificationsRequest::default(), vec!["care_units"]),
            (
                v1::ListNotificationsRequest {
                    care_units: vec![unit(); 51],
                    ..request()
                },
                vec!["care_units"],
            ),
            (
                v1::ListNotificationsRequest {
                    care_units: vec![unit(), "careUnits/-".into()],
                    states: vec![Wire::Projected.into()],
                    channels: vec![1, 0],
                    due_before_time: Some(broken),
                    page_size: -1,
                    page_token: "x".into(),
                },
                vec![
                    "care_units[1]",
                    "states[0]",
                    "channels[1]",
                    "due_before_time",
                    "page_size",
                ],
            ),
            (
                v1::ListNotificationsRequest {
                    page_token: "x".into(),
                    ..request()
                },
                vec!["page_token"],
            ),
        ] {
            assert_eq!(list(message).map_or_else(|found| found, |_| vec![]), faults);
        }
    }

    #[test]
    fn a_page_begins_after_the_place_that_its_token_names() {
        let first = list(request()).unwrap();
        let page_token = next_page_token(&first.filter, &cursor());
        let next = list(v1::ListNotificationsRequest {
            page_token,
            ..request()
        });
        assert_eq!(next.unwrap().after, Some(cursor()));
    }

    #[test]
    fn a_token_holds_for_the_same_filter_however_it_is_written() {
        let token = next_page_token(&list(request()).unwrap().filter, &cursor());
        let same = v1::ListNotificationsRequest {
            care_units: vec!["careUnits/se2321000131-p1".into(); 2],
            states: vec![8, 4, 3, 2, 2],
            channels: vec![2, 1],
            page_size: 7,
            page_token: token.clone(),
            ..Default::default()
        };
        assert_eq!(list(same).unwrap().after, Some(cursor()));
        for other in [
            v1::ListNotificationsRequest {
                states: vec![2],
                ..request()
            },
            v1::ListNotificationsRequest {
                channels: vec![1],
                ..request()
            },
            v1::ListNotificationsRequest {
                due_before_time: Some(render_instant(now())),
                ..request()
            },
        ] {
            let other = v1::ListNotificationsRequest {
                page_token: token.clone(),
                ..other
            };
            assert_eq!(list(other), Err(vec!["page_token".to_owned()]));
        }
    }

    #[test]
    fn a_notification_is_shown_as_it_is_in_its_request() {
        let record = invited();
        let id = record.care_invitation.as_ref().unwrap().notifications[0].id;
        let displayed = render(&record, id, now()).unwrap();
        assert_eq!(displayed.state(), Wire::Scheduled);
        let expired = render(&record, id, record.expires_at().unwrap()).unwrap();
        assert_eq!(expired.state(), Wire::Skipped);
        assert_eq!(render(&record, Uuid::nil(), now()), None);
    }
}
