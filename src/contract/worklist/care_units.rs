//! The care units that have requests, page by page.

use super::super::{Fault, Violations, care_unit_name, page_token, parse_page_size, v1};
use crate::domain::hsa_id::{HSA_ID_MAX, HsaId};

const LIST: &str = "ListCareUnits";

/// Command to list a page of care units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListCareUnits {
    /// Maximum number of care units.
    pub page_size: u32,
    /// Care unit after which the page begins; `None` for the first page.
    pub after: Option<HsaId>,
}

/// Parses ListCareUnits.
///
/// # Errors
///
/// Every fault of shape; then [`Fault::PageToken`].
pub fn parse_list(message: v1::ListCareUnitsRequest) -> Result<ListCareUnits, Fault> {
    let page_size = Violations::collect(|v| Some(parse_page_size(message.page_size, v)))?;
    let after = page_token::parse::<HSA_ID_MAX>(LIST, &query(), &message.page_token)?;
    let after = after.map(|bytes| page_token::care_unit_of(&bytes).ok_or(Fault::PageToken));
    Ok(ListCareUnits {
        page_size,
        after: after.transpose()?,
    })
}

/// Renders a page; `found` has one care unit more than the page when another page follows.
pub fn render_list(mut found: Vec<HsaId>, page_size: u32) -> v1::ListCareUnitsResponse {
    let size = usize::try_from(page_size).unwrap_or(usize::MAX);
    let more = found.len() > size;
    found.truncate(size);
    let last = found.last().filter(|_| more);
    let token = |last| page_token::render(LIST, &query(), &page_token::care_unit_bytes(last));
    v1::ListCareUnitsResponse {
        next_page_token: last.map(token).unwrap_or_default(),
        care_units: found.iter().map(care_unit_name).collect(),
    }
}

/// Returns the query that page tokens are bound to: there is one only.
fn query() -> v1::ListCareUnitsRequest {
    v1::ListCareUnitsRequest::default()
}
