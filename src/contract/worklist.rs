//! Worklists: queries, pages, watches and counts.

use super::calendar::{parse_period, render_period};
use super::page_token::{self, KEY_BYTES, key_bytes, key_of};
use super::patient::{parse_identity, render_issuer};
use super::text::{parse_identifier, parse_optional_identifier};
use super::v1::watch_worklist_response::{Event, Heartbeat, SnapshotComplete};
use super::{
    Fault, Violations, booking_request, care_unit_name, enums, parse_listed_units, parse_page_size,
    request_name, v1,
};
use crate::domain::RegionPolicy;
use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::form::Priority;
use crate::domain::calendar::{Instant, Period};
use crate::domain::hsa_id::HsaId;
use crate::domain::patient::PersonalId;
use crate::domain::request_key::RequestKey;
use crate::domain::worklist::{Cursor, OrderBy, Query, Worklist};

const LIST: &str = "ListWorklist";
const VISIT_TYPE_CODES_MAX: usize = 50;
/// Bytes of a cursor: its sort key and the request key.
const CURSOR_BYTES: usize = 16 + KEY_BYTES;

/// Command to list a page of a worklist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListWorklist {
    /// Requests to list, and their order.
    pub query: Query,
    /// Maximum number of requests.
    pub page_size: u32,
    /// Cursor after which the page begins; `None` for the first page.
    pub after: Option<Cursor>,
}

/// Parses ListWorklist.
///
/// # Errors
///
/// Every fault of shape; then [`Fault::PageToken`].
pub fn parse_list(message: v1::ListWorklistRequest) -> Result<ListWorklist, Fault> {
    let (query, page_size) = Violations::collect(|violations| {
        let query = parse_query(message.query.as_ref(), violations);
        let page_size = parse_page_size(message.page_size, violations);
        Some((query?, page_size))
    })?;
    let after = page_token::parse(LIST, &render_query(&query), &message.page_token)?;
    let after = after.map(|bytes| cursor_of(&bytes).ok_or(Fault::PageToken));
    Ok(ListWorklist {
        query,
        page_size,
        after: after.transpose()?,
    })
}

/// Parses WatchWorklist.
///
/// # Errors
///
/// Every fault of shape.
pub fn parse_watch(message: v1::WatchWorklistRequest) -> Result<Query, Violations> {
    Violations::collect(|violations| parse_query(message.query.as_ref(), violations))
}

/// Parses CountWorklists: 1 to 50 care units, sorted and each once.
///
/// # Errors
///
/// Every fault of shape.
pub fn parse_count(message: v1::CountWorklistsRequest) -> Result<Vec<HsaId>, Violations> {
    Violations::collect(|violations| Some(parse_listed_units(&message.care_units, violations)))
}

fn parse_query(message: Option<&v1::WorklistQuery>, violations: &mut Violations) -> Option<Query> {
    let Some(message) = message else {
        return violations.require("query");
    };
    violations.within("query", |violations| parse_filters(message, violations))
}

fn parse_filters(message: &v1::WorklistQuery, violations: &mut Violations) -> Option<Query> {
    let worklist = enums::parse(message.worklist, "worklist", violations);
    let narrow = !message.personal_id.is_empty() || !message.referral_id.is_empty();
    if worklist == Some(Worklist::All) && !narrow {
        violations.add(
            "worklist",
            "needs personal_id or referral_id to list every request",
        );
    }
    let care_units = parse_listed_units(&message.care_units, violations);
    let visit_kind = enums::parse_optional(message.visit_kind, "visit_kind", violations);
    let visit_type_codes = parse_codes(&message.visit_type_codes, violations);
    let personal_id = parse_patient(message, violations);
    let period = parse_filter_period(message.requested_period.as_ref(), violations);
    let priority = enums::parse_optional(message.minimum_priority, "minimum_priority", violations);
    let order_by = enums::parse_optional(message.order_by, "order_by", violations);
    let referral_id = parse_optional_identifier(&message.referral_id, "referral_id", violations);
    Some(Query {
        worklist: worklist?,
        care_units,
        visit_kind,
        visit_type_codes,
        personal_id,
        referral_id,
        period,
        minimum_priority: priority.unwrap_or(Priority::Routine),
        order_by: order_by.unwrap_or(OrderBy::StartDate),
    })
}

/// Parses the codes of visit types, sorted and each once.
fn parse_codes(codes: &[String], violations: &mut Violations) -> Vec<String> {
    if codes.len() > VISIT_TYPE_CODES_MAX {
        let description = format!("must be at most {VISIT_TYPE_CODES_MAX}");
        violations.add("visit_type_codes", description);
        return Vec::new();
    }
    let codes = codes.iter().enumerate();
    let mut parsed: Vec<_> = codes
        .filter_map(|(i, code)| {
            parse_identifier(code, &format!("visit_type_codes[{i}]"), violations)
        })
        .collect();
    parsed.sort();
    parsed.dedup();
    parsed
}

/// Parses the identity of one patient, which may be left out, but not in part.
fn parse_patient(message: &v1::WorklistQuery, violations: &mut Violations) -> Option<PersonalId> {
    let v1::WorklistQuery {
        personal_id,
        personal_id_type,
        issuer,
        ..
    } = message;
    if personal_id.is_empty() && *personal_id_type == 0 && issuer.is_empty() {
        return None;
    }
    parse_identity(personal_id, *personal_id_type, issuer, violations)
}

fn parse_filter_period(
    interval: Option<&v1::DateInterval>,
    violations: &mut Violations,
) -> Option<Period> {
    interval?;
    parse_period(interval, "requested_period", violations)
}

/// Renders the query in its normalised form, to which page tokens are bound.
fn render_query(query: &Query) -> v1::WorklistQuery {
    let personal_id = query.personal_id.as_ref();
    v1::WorklistQuery {
        worklist: enums::render(query.worklist),
        care_units: query.care_units.iter().map(care_unit_name).collect(),
        visit_kind: enums::render_optional(query.visit_kind),
        visit_type_codes: query.visit_type_codes.clone(),
        personal_id: personal_id.map_or_else(String::new, |it| it.number().to_owned()),
        personal_id_type: enums::render_optional(personal_id.map(PersonalId::kind)),
        issuer: personal_id.map_or_else(String::new, render_issuer),
        requested_period: query.period.map(render_period),
        minimum_priority: enums::render(query.minimum_priority),
        order_by: enums::render(query.order_by),
        referral_id: query.referral_id.clone().unwrap_or_default(),
    }
}

/// Returns the token of the page that begins after `cursor`.
pub fn next_page_token(query: &Query, cursor: &Cursor) -> String {
    page_token::render(LIST, &render_query(query), &cursor_bytes(cursor))
}

fn cursor_bytes(cursor: &Cursor) -> [u8; CURSOR_BYTES] {
    let [first, second] = cursor.sort_key.map(i64::to_be_bytes);
    let mut bytes = [0; CURSOR_BYTES];
    bytes[..8].copy_from_slice(&first);
    bytes[8..16].copy_from_slice(&second);
    bytes[16..].copy_from_slice(&key_bytes(&cursor.key));
    bytes
}

fn cursor_of(bytes: &[u8; CURSOR_BYTES]) -> Option<Cursor> {
    let (first, rest) = bytes.split_first_chunk()?;
    let (second, key) = rest.split_first_chunk()?;
    Some(Cursor {
        sort_key: [i64::from_be_bytes(*first), i64::from_be_bytes(*second)],
        key: key_of(key.first_chunk()?)?,
    })
}

/// Renders the event of a request that is on the list at `now`, as new or changed.
pub fn render_upserted(
    record: &BookingRequest,
    now: Instant,
    policy: &RegionPolicy,
) -> v1::WatchWorklistResponse {
    render_event(Event::Upserted(booking_request::render(
        record, now, policy,
    )))
}

/// Renders the event of a request that has left the list.
pub fn render_removed(key: &RequestKey) -> v1::WatchWorklistResponse {
    render_event(Event::Removed(request_name(key)))
}

/// Renders the event that ends the snapshot.
pub fn render_snapshot_complete() -> v1::WatchWorklistResponse {
    render_event(Event::SnapshotComplete(SnapshotComplete {}))
}

/// Renders a heartbeat.
pub fn render_heartbeat() -> v1::WatchWorklistResponse {
    render_event(Event::Heartbeat(Heartbeat {}))
}

fn render_event(event: Event) -> v1::WatchWorklistResponse {
    v1::WatchWorklistResponse { event: Some(event) }
}

/// Renders the number of requests in each list, zeros included. WORKLIST_ALL is not counted.
pub fn render_counts(counts: &[(Worklist, i64)]) -> v1::CountWorklistsResponse {
    let lists = Worklist::ALL.iter().filter(|list| **list != Worklist::All);
    let count_of = |list: Worklist| {
        let counted = counts.iter().filter(|(counted, _)| *counted == list);
        v1::WorklistCount {
            worklist: enums::render(list),
            count: counted.map(|(_, count)| count).sum(),
        }
    };
    v1::CountWorklistsResponse {
        counts: lists.copied().map(count_of).collect(),
    }
}

#[cfg(test)]
mod tests;
