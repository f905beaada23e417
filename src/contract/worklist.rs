//! Worklists: pages, watches, counts, and the care units that have requests.

pub mod care_units;
mod query;

use std::collections::BTreeMap;

use super::page_token::{self, KEY_BYTES, key_bytes, key_of};
use super::v1::watch_worklist_response::{Event, SnapshotComplete};
use super::view::View;
use super::{Fault, Violations, care_unit_name, enums, parse_page_size, request_name, v1};
use crate::domain::care_units::CareUnits;
use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;
use crate::domain::worklist::Worklist;
use crate::domain::worklist::query::{Cursor, Query};

const LIST: &str = "ListWorklist";
/// Bytes of a cursor: its sort key and the request key.
const CURSOR_BYTES: usize = 16 + KEY_BYTES;

/// Command to list a page of worklists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListWorklist {
    /// Requests to list, and their order.
    pub query: Query,
    /// Maximum number of requests.
    pub page_size: u32,
    /// Cursor after which the page begins; `None` for the first page.
    pub after: Option<Cursor>,
    /// Extent in which each request is shown.
    pub view: View,
    /// True to count all that the query means.
    pub include_total_size: bool,
}

/// Command to watch worklists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchWorklist {
    /// Requests to watch.
    pub query: Query,
    /// Extent in which each request is shown.
    pub view: View,
}

/// Command to count worklists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountWorklists {
    /// Requests to count, and on which lists.
    pub query: Query,
    /// True to count each care unit by itself too.
    pub by_care_unit: bool,
}

/// Parses ListWorklist.
///
/// # Errors
///
/// Every fault of shape; then [`Fault::PageToken`].
pub fn parse_list(message: v1::ListWorklistRequest) -> Result<ListWorklist, Fault> {
    let (query, page_size, view) = Violations::collect(|violations| {
        let query = query::parse(message.query.as_ref(), &[], violations);
        let page_size = parse_page_size(message.page_size, violations);
        let view = View::parse(message.view, violations);
        Some((query?, page_size, view))
    })?;
    let after = page_token::parse(LIST, &query::render(&query), &message.page_token)?;
    let after = after.map(|bytes| cursor_of(&bytes).ok_or(Fault::PageToken));
    Ok(ListWorklist {
        query,
        page_size,
        after: after.transpose()?,
        view,
        include_total_size: message.include_total_size,
    })
}

/// Parses WatchWorklist.
///
/// # Errors
///
/// Every fault of shape.
pub fn parse_watch(message: v1::WatchWorklistRequest) -> Result<WatchWorklist, Violations> {
    Violations::collect(|violations| {
        let query = query::parse(message.query.as_ref(), &[], violations);
        let view = View::parse(message.view, violations);
        Some(WatchWorklist {
            query: query?,
            view,
        })
    })
}

/// Parses CountWorklists. Without lists it counts every one but ALL.
///
/// # Errors
///
/// Every fault of shape.
pub fn parse_count(message: v1::CountWorklistsRequest) -> Result<CountWorklists, Violations> {
    let all = Worklist::ALL.iter().copied();
    let by_default: Vec<_> = all.filter(|list| *list != Worklist::All).collect();
    Violations::collect(|violations| {
        Some(CountWorklists {
            query: query::parse(message.query.as_ref(), &by_default, violations)?,
            by_care_unit: message.by_care_unit,
        })
    })
}

/// Returns the token of the page that begins after `cursor`.
pub fn next_page_token(query: &Query, cursor: &Cursor) -> String {
    page_token::render(LIST, &query::render(query), &cursor_bytes(cursor))
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

/// Renders the event of a request that is on these lists at `now`, as new or changed.
pub fn render_upserted(
    request: v1::BookingRequest,
    worklists: &[Worklist],
) -> v1::WatchWorklistResponse {
    let worklists = worklists.iter().copied();
    v1::WatchWorklistResponse {
        worklists: worklists.map(enums::render).collect(),
        ..render_event(Event::Upserted(request))
    }
}

/// Renders the event of a request that has left the lists.
pub fn render_removed(key: &RequestKey) -> v1::WatchWorklistResponse {
    render_event(Event::Removed(request_name(key)))
}

/// Renders the event that ends the snapshot.
pub fn render_snapshot_complete() -> v1::WatchWorklistResponse {
    render_event(Event::SnapshotComplete(SnapshotComplete {}))
}

/// Renders a heartbeat.
pub fn render_heartbeat() -> v1::WatchWorklistResponse {
    render_event(Event::Heartbeat(v1::Heartbeat {}))
}

fn render_event(event: Event) -> v1::WatchWorklistResponse {
    v1::WatchWorklistResponse {
        event: Some(event),
        worklists: Vec::new(),
    }
}

/// Renders the number of requests on each list that was asked for, zeros included.
pub fn render_counts(
    command: &CountWorklists,
    counts: &BTreeMap<(HsaId, Worklist), i64>,
) -> v1::CountWorklistsResponse {
    let count = |list: Worklist, unit: Option<&HsaId>| {
        let of_list = counts.iter().filter(|((counted_unit, counted), _)| {
            *counted == list && unit.is_none_or(|unit| unit == counted_unit)
        });
        v1::WorklistCount {
            worklist: enums::render(list),
            count: of_list.map(|(_, count)| count).sum(),
        }
    };
    let each = |unit: Option<&HsaId>| {
        let lists = command.query.worklists.iter();
        lists.map(|list| count(*list, unit)).collect()
    };
    let units = match (&command.query.care_units, command.by_care_unit) {
        (_, false) => Vec::new(),
        (CareUnits::These(units), true) => units.iter().collect(),
        (CareUnits::Every | CareUnits::Within(_), true) => {
            let mut units: Vec<_> = counts.keys().map(|(unit, _)| unit).collect();
            units.dedup();
            units
        }
    };
    let of_unit = |unit: &HsaId| v1::CareUnitCounts {
        care_unit: care_unit_name(unit),
        counts: each(Some(unit)),
    };
    v1::CountWorklistsResponse {
        counts: each(None),
        care_units: units.into_iter().map(of_unit).collect(),
    }
}

#[cfg(test)]
mod tests;
