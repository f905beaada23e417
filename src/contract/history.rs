//! The history of a request, page by page.

use super::booking_request::{booking, constraints, field};
use super::calendar::render_instant;
use super::{
    Fault, Violations, enums, notification_name, page_token, parse_page_size, parse_request_name,
    request_name, v1,
};
use crate::domain::history::HistoryEntry;
use crate::domain::request_key::RequestKey;

const LIST: &str = "ListHistory";

/// Command to list a page of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListHistory {
    /// Request whose history is listed.
    pub key: RequestKey,
    /// Maximum number of entries.
    pub page_size: u32,
    /// Ordinal of the entry after which the page begins; entries are counted from 1, and zero means all.
    pub after: i32,
}

/// Parses ListHistory.
///
/// # Errors
///
/// Every fault of shape; then [`Fault::PageToken`].
pub fn parse_list_history(message: v1::ListHistoryRequest) -> Result<ListHistory, Fault> {
    let (key, page_size) = Violations::collect(|violations| {
        let key = parse_request_name(&message.name, "name", violations);
        let page_size = parse_page_size(message.page_size, violations);
        Some((key?, page_size))
    })?;
    let after = page_token::parse(LIST, &query(&key), &message.page_token)?;
    Ok(ListHistory {
        after: after.map_or(0, i32::from_be_bytes),
        key,
        page_size,
    })
}

/// Returns the token of the page that begins after the entry with this ordinal.
pub fn next_page_token(key: &RequestKey, ordinal: i32) -> String {
    page_token::render(LIST, &query(key), &ordinal.to_be_bytes())
}

/// Returns the query that a token is bound to.
fn query(key: &RequestKey) -> v1::ListHistoryRequest {
    v1::ListHistoryRequest {
        name: request_name(key),
        ..Default::default()
    }
}

/// Renders an entry in the history of the request `key`.
pub fn render_history(key: &RequestKey, entry: &HistoryEntry) -> v1::HistoryEntry {
    let notification = entry.notification.map(|id| notification_name(key, id));
    let changed = entry.changed_fields.iter().map(|it| field::path(*it));
    v1::HistoryEntry {
        event_time: Some(render_instant(entry.at)),
        actor: entry.actor.clone(),
        event: enums::render(entry.event),
        change_reason: enums::render_optional(entry.change_reason),
        cancel_reason: enums::render_optional(entry.cancel_reason),
        comment: entry.comment.clone(),
        state: enums::render(entry.state),
        notification: notification.unwrap_or_default(),
        constraints: entry.constraints.as_ref().map(constraints::render),
        booking: entry.booking.as_ref().map(booking::render),
        contact_outcome: enums::render_optional(entry.contact),
        cause: enums::render_optional(entry.cause),
        changed_fields: changed.map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fields;
    use super::*;
    use crate::domain::booking_request::field::Field;
    use crate::domain::booking_request::state::ChangeReason;
    use crate::domain::booking_request::state::EffectiveState;
    use crate::domain::history::Event;
    use crate::domain::hsa_id::HsaId;
    use uuid::Uuid;

    fn key(id: u128) -> RequestKey {
        RequestKey {
            care_unit: HsaId::parse("SE2321000131-P1").unwrap(),
            id: Uuid::from_u128(id),
        }
    }

    fn page(key: &RequestKey, page_token: String) -> Result<ListHistory, Fault> {
        parse_list_history(v1::ListHistoryRequest {
            name: request_name(key),
            page_size: 0,
            page_token,
        })
    }

    #[test]
    fn a_page_begins_after_the_entry_that_its_token_names() {
        assert_eq!(page(&key(1), String::new()).unwrap().after, 0);
        let token = next_page_token(&key(1), 70_000);
        let parsed = page(&key(1), token.clone()).unwrap();
        assert_eq!((parsed.after, parsed.page_size), (70_000, 50));
        assert!(matches!(page(&key(2), token), Err(Fault::PageToken)));
    }

    #[test]
    fn faults_of_shape_come_before_those_of_the_token() {
        let message = v1::ListHistoryRequest {
            name: "x".into(),
            page_size: -1,
            page_token: "x".into(),
        };
        match parse_list_history(message) {
            Err(Fault::Invalid(violations)) => {
                assert_eq!(fields(violations), ["name", "page_size"]);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_entry_names_its_notification_its_reason_and_the_fields() {
        let entry = HistoryEntry {
            at: "2026-03-02T09:00:00Z".parse().unwrap(),
            actor: "SE2321000131-P7".into(),
            event: Event::ChangeToInvitation,
            revision: 2,
            state_before: Some(EffectiveState::Expired),
            state: EffectiveState::NoResponse,
            elapsed: Vec::new(),
            next_transition_at: None,
            change_reason: Some(ChangeReason::ToCareInvitation),
            cancel_reason: None,
            comment: "Ny omgång".into(),
            notification: Some(Uuid::from_u128(9)),
            constraints: None,
            booking: None,
            contact: None,
            cause: None,
            changed_fields: vec![Field::Summons, Field::Period],
        };
        let rendered = render_history(&key(1), &entry);
        assert_eq!(rendered.event(), v1::HistoryEvent::ChangeToInvitation);
        assert_eq!(rendered.state(), v1::booking_request::State::NoResponse);
        assert_eq!(rendered.change_reason(), v1::ChangeReason::ToCareInvitation);
        assert_eq!(rendered.cancel_reason(), v1::CancelReason::Unspecified);
        assert_eq!(
            rendered.changed_fields,
            ["summons", "constraints.requested_period"]
        );
        assert_eq!(
            rendered.notification,
            notification_name(&key(1), Uuid::from_u128(9))
        );
    }
}
