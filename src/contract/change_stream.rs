//! The stream of changes: where it begins, its cursors, and the changes themselves.

use chrono::Datelike;

use super::calendar::render_instant;
use super::{
    Fault, Violations, enums, notification_name, page_token, parse_units_or_every, request_name, v1,
};
use crate::domain::calendar::{Instant, from_micros, micros};
use crate::domain::care_units::CareUnits;
use crate::domain::change_stream::{Beginning, Cursor, Place, RequestChange};
use uuid::Uuid;

const LIST: &str = "StreamChanges";
/// Cursor of a stream that begins with the oldest that is kept.
const OLDEST: &str = "0";
/// Bytes of a cursor: instant, request, number, and instant up to which time was told.
const CURSOR_BYTES: usize = 8 + 16 + 4 + 8;

/// Command to stream changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamChanges {
    /// Care units.
    pub care_units: CareUnits,
    /// Place at which it begins.
    pub beginning: Beginning,
    /// True to end when everything has been told, instead of waiting.
    pub until_idle: bool,
}

/// Parses StreamChanges.
///
/// # Errors
///
/// Every fault of shape; then [`Fault::PageToken`].
pub fn parse_stream(message: v1::StreamChangesRequest) -> Result<StreamChanges, Fault> {
    let care_units = Violations::collect(|violations| {
        Some(parse_units_or_every(&message.care_units, violations))
    })?;
    let beginning = match message.after_cursor.as_str() {
        OLDEST => Beginning::Oldest,
        cursor => {
            let cursor = page_token::parse(LIST, &any_stream(), cursor)?;
            let cursor = cursor.map(|bytes| cursor_of(&bytes).ok_or(Fault::PageToken));
            cursor.transpose()?.map_or(Beginning::Now, Beginning::After)
        }
    };
    Ok(StreamChanges {
        care_units,
        beginning,
        until_idle: message.until_idle,
    })
}

/// Renders changes, with the cursor after them.
pub fn render_changes(changes: &[RequestChange], cursor: &Cursor) -> v1::StreamChangesResponse {
    v1::StreamChangesResponse {
        changes: changes.iter().map(render_change).collect(),
        cursor: page_token::render(LIST, &any_stream(), &cursor_bytes(cursor)),
    }
}

/// Returns the query that every cursor is bound to: it is a place among the changes of all requests.
fn any_stream() -> v1::StreamChangesRequest {
    v1::StreamChangesRequest::default()
}

fn render_change(change: &RequestChange) -> v1::Change {
    let request = &change.request;
    let notification = change.notification;
    let notification = notification.map(|id| notification_name(request, id));
    v1::Change {
        booking_request: request_name(request),
        etag: format!("r{}", change.revision),
        event: enums::render(change.event),
        previous_state: enums::render_optional(change.before),
        state: enums::render(change.after),
        notification: notification.unwrap_or_default(),
        booking_id: change.booking_id.clone().unwrap_or_default(),
        event_time: Some(render_instant(change.at)),
    }
}

fn cursor_bytes(cursor: &Cursor) -> [u8; CURSOR_BYTES] {
    let Place {
        at,
        request,
        ordinal,
    } = cursor.after;
    let mut bytes = [0; CURSOR_BYTES];
    bytes[..8].copy_from_slice(&micros(at).to_be_bytes());
    bytes[8..24].copy_from_slice(request.as_bytes());
    bytes[24..28].copy_from_slice(&ordinal.to_be_bytes());
    bytes[28..].copy_from_slice(&micros(cursor.told_until).to_be_bytes());
    bytes
}

fn cursor_of(bytes: &[u8; CURSOR_BYTES]) -> Option<Cursor> {
    let (at, rest) = bytes.split_first_chunk()?;
    let (request, rest) = rest.split_first_chunk()?;
    let (ordinal, rest) = rest.split_first_chunk()?;
    let told_until = rest.first_chunk()?;
    Some(Cursor {
        after: Place {
            at: instant(*at)?,
            request: Uuid::from_bytes(*request),
            ordinal: i32::from_be_bytes(*ordinal),
        },
        told_until: instant(*told_until)?,
    })
}

/// Decodes an instant. Its year is one that the contract has, so that days can be counted from it.
fn instant(bytes: [u8; 8]) -> Option<Instant> {
    let at = from_micros(i64::from_be_bytes(bytes));
    (1..=9_999).contains(&at.year()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::super::tests::fields;
    use super::*;
    use crate::domain::booking_request::state::EffectiveState;
    use crate::domain::history::Event;
    use crate::domain::hsa_id::HsaId;
    use crate::domain::request_key::RequestKey;

    fn request(care_units: &[&str], after_cursor: &str) -> v1::StreamChangesRequest {
        v1::StreamChangesRequest {
            care_units: care_units.iter().map(ToString::to_string).collect(),
            after_cursor: after_cursor.into(),
            until_idle: false,
        }
    }

    fn cursor() -> Cursor {
        Cursor {
            after: Place {
                at: from_micros(1_772_442_000_123_456),
                request: Uuid::from_u128(7),
                ordinal: 70_000,
            },
            told_until: from_micros(1_772_442_000_000_001),
        }
    }

    #[test]
    fn a_cursor_is_read_as_it_was_rendered() {
        let of = |names: &[&str], cursor: &str| parse_stream(request(names, cursor));
        let rendered = render_changes(&[], &cursor()).cursor;
        assert!(rendered.len() <= 128);
        for names in [&["careUnits/-"][..], &["careUnits/se2321000131-p2"]] {
            let parsed = of(names, &rendered).expect("a cursor");
            assert_eq!(parsed.beginning, Beginning::After(cursor()));
            let now = of(names, "").expect("none");
            assert_eq!(now.beginning, Beginning::Now);
        }
        let every = of(&["careUnits/-"], "0").expect("good");
        let expected = (CareUnits::Every, Beginning::Oldest);
        assert_eq!((every.care_units, every.beginning), expected);
        for bad in ["1", "x", &rendered[1..], &format!("{rendered}A")] {
            let refused = of(&["careUnits/-"], bad);
            assert!(matches!(refused, Err(Fault::PageToken)), "{bad}");
        }
    }

    #[test]
    fn care_units_are_named_or_all_that_there_are() {
        for names in [&[][..], &["careUnits/-", "careUnits/SE2321000131-P1"]] {
            match parse_stream(request(names, "x")) {
                Err(Fault::Invalid(violations)) => assert_eq!(fields(violations), ["care_units"]),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_change_names_its_request_and_what_it_is_about() {
        let change = RequestChange {
            request: RequestKey {
                care_unit: HsaId::parse("SE2321000131-P1").expect("good"),
                id: Uuid::from_u128(1),
            },
            revision: 3,
            event: Event::RecordBooking,
            before: Some(EffectiveState::NoResponse),
            after: EffectiveState::Booked,
            notification: Some(Uuid::from_u128(2)),
            booking_id: Some("B-1".into()),
            at: from_micros(1),
        };
        let created = RequestChange {
            before: None,
            notification: None,
            booking_id: None,
            ..change.clone()
        };
        let key = change.request.clone();
        let rendered = render_changes(&[change, created], &cursor());
        let [change, created] = &rendered.changes[..] else {
            panic!("two")
        };
        assert_eq!(change.booking_request, request_name(&key));
        assert_eq!(
            (change.etag.as_str(), change.booking_id.as_str()),
            ("r3", "B-1")
        );
        assert_eq!(change.event(), v1::HistoryEvent::RecordBooking);
        assert_eq!(
            change.previous_state(),
            v1::booking_request::State::NoResponse
        );
        assert_eq!(
            change.notification,
            notification_name(&key, Uuid::from_u128(2))
        );
        let unset = v1::booking_request::State::Unspecified;
        assert_eq!(
            (created.previous_state(), created.notification.as_str()),
            (unset, "")
        );
    }
}
