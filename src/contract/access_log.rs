//! ListAccessLog: the query, the cursor of a page, and entries.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::calendar::{parse_optional_instant, render_instant};
use super::patient::{parse_identity_of, render_identity};
use super::text::parse_line;
use super::{
    Fault, Violations, care_unit_name, page_token, parse_care_unit_name, parse_page_size,
    request_name, v1,
};
use crate::domain::access::{Access, AccessFilter, AccessPlace, LoggedAccess, hexadecimal};
use crate::domain::calendar::{from_micros, micros};
use crate::domain::patient::PersonalId;

const LIST: &str = "ListAccessLog";
/// Bytes of a cursor: the time, the chain, and the number in the chain.
const CURSOR_BYTES: usize = 8 + 16 + 8;
/// Maximum characters in a subject.
const SUBJECT_MAX: usize = 255;

/// Command to list a page of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListAccessLog {
    /// Entries to list.
    pub filter: AccessFilter,
    /// Maximum number of entries.
    pub page_size: u32,
    /// Place after which the page begins; `None` for the first page.
    pub after: Option<AccessPlace>,
}

/// Parses ListAccessLog.
///
/// # Errors
///
/// Every fault of shape; then [`Fault::PageToken`].
pub fn parse_list(message: v1::ListAccessLogRequest) -> Result<ListAccessLog, Fault> {
    let (filter, page_size) = Violations::collect(|violations| {
        let identity = message.identity.as_ref();
        let patient = identity.and_then(|it| parse_identity_of(Some(it), "identity", violations));
        let subject = parse_line(&message.subject, SUBJECT_MAX, "subject", violations);
        let care_unit = match message.care_unit.as_str() {
            "" => None,
            name => parse_care_unit_name(name, "care_unit", violations),
        };
        let from = parse_optional_instant(message.start_time.as_ref(), "start_time", violations);
        let until = parse_optional_instant(message.end_time.as_ref(), "end_time", violations);
        if from.zip(until).is_some_and(|(from, until)| until <= from) {
            violations.add("end_time", "must be after start_time");
        }
        let page_size = parse_page_size(message.page_size, violations);
        let filter = AccessFilter {
            patient,
            subject: Some(subject).filter(|it| !it.is_empty()),
            care_unit,
            from,
            until,
        };
        Some((filter, page_size))
    })?;
    let after = page_token::parse(LIST, &render_filter(&filter), &message.page_token)?;
    let after = after.map(|bytes| place_of(&bytes).ok_or(Fault::PageToken));
    Ok(ListAccessLog {
        filter,
        page_size,
        after: after.transpose()?,
    })
}

/// Renders the filter in its normalised form, to which page tokens are bound.
fn render_filter(filter: &AccessFilter) -> v1::ListAccessLogRequest {
    v1::ListAccessLogRequest {
        identity: filter.patient.as_ref().map(render_identity),
        subject: filter.subject.clone().unwrap_or_default(),
        care_unit: filter
            .care_unit
            .as_ref()
            .map(care_unit_name)
            .unwrap_or_default(),
        start_time: filter.from.map(render_instant),
        end_time: filter.until.map(render_instant),
        page_size: 0,
        page_token: String::new(),
    }
}

/// Returns the token of the page that begins after the entry at this place.
pub fn next_page_token(filter: &AccessFilter, last: &AccessPlace) -> String {
    page_token::render(LIST, &render_filter(filter), &place_bytes(last))
}

fn place_bytes(place: &AccessPlace) -> [u8; CURSOR_BYTES] {
    let mut bytes = [0; CURSOR_BYTES];
    bytes[..8].copy_from_slice(&micros(place.at).to_be_bytes());
    bytes[8..24].copy_from_slice(place.chain.as_bytes());
    bytes[24..].copy_from_slice(&place.sequence.to_be_bytes());
    bytes
}

fn place_of(bytes: &[u8; CURSOR_BYTES]) -> Option<AccessPlace> {
    let (at, rest) = bytes.split_first_chunk()?;
    let (chain, sequence) = rest.split_first_chunk()?;
    Some(AccessPlace {
        at: from_micros(i64::from_be_bytes(*at)),
        chain: Uuid::from_bytes(*chain),
        sequence: i64::from_be_bytes(*sequence.first_chunk()?),
    })
}

/// Renders an entry. One that is listed for a patient shows that patient alone.
///
/// Masks the identities of `hidden` patients and, if there could be some, leaves the hash out: whoever has everything
/// else of an entry, or of the next one, could find the identity by trying.
pub fn render(
    entry: &LoggedAccess,
    filter: &AccessFilter,
    hidden: Option<&BTreeSet<PersonalId>>,
) -> v1::AccessLogEntry {
    let Access {
        at,
        subject,
        actor,
        method,
        trace_id,
        concerns,
    } = &entry.access;
    let care_unit = concerns.care_unit.as_ref();
    let wanted = filter.patient.as_ref();
    let concerned = concerns.keys();
    let concerned = concerned.filter(|(patient, _)| wanted.is_none() || *patient == wanted);
    let patients = concerned.map(|(patient, keys)| {
        let shown = patient.filter(|it| hidden.is_none_or(|hidden| !hidden.contains(it)));
        v1::AccessedPatient {
            identity: shown.map(render_identity),
            booking_requests: keys.iter().map(request_name).collect(),
            identity_masked: patient.is_some() && shown.is_none(),
        }
    });
    v1::AccessLogEntry {
        event_time: Some(render_instant(*at)),
        subject: subject.clone(),
        actor: actor.clone().unwrap_or_default(),
        method: method.clone(),
        care_unit: care_unit.map(care_unit_name).unwrap_or_default(),
        patients: patients.collect(),
        code: concerns.outcome,
        trace_id: trace_id.clone().unwrap_or_default(),
        chain: entry.place.chain.to_string(),
        sequence: entry.place.sequence,
        hash: match hidden {
            Some(_) => String::new(),
            None => hexadecimal(&entry.hash),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::tests::fields;

    fn list(message: v1::ListAccessLogRequest) -> Result<ListAccessLog, Vec<String>> {
        parse_list(message).map_err(|fault| match fault {
            Fault::Invalid(violations) => fields(violations),
            Fault::PageToken => vec!["page_token".into()],
        })
    }

    fn place() -> AccessPlace {
        AccessPlace {
            at: from_micros(1_772_442_000_000_001),
            chain: Uuid::from_u128(7),
            sequence: 42,
        }
    }

    #[test]
    fn what_is_left_out_does_not_narrow_the_list_down() {
        let parsed = list(v1::ListAccessLogRequest::default()).unwrap();
        assert_eq!(parsed.filter, AccessFilter::default());
        assert_eq!((parsed.page_size, parsed.after), (50, None));
    }

    #[test]
    fn each_fault_of_a_list_names_its_field() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let message = v1::ListAccessLogRequest {
            identity: Some(v1::PatientIdentity::default()),
            subject: "a\nb".into(),
            care_unit: "careUnits/-".into(),
            start_time: at(2),
            end_time: at(2),
            page_size: -1,
            page_token: "x".into(),
        };
        let faults = [
            "identity.personal_id",
            "identity.personal_id_type",
            "subject",
            "care_unit",
            "end_time",
            "page_size",
        ];
        assert_eq!(list(message), Err(faults.map(str::to_owned).to_vec()));
    }

    #[test]
    fn a_page_begins_after_the_place_that_its_token_names() {
        let query = v1::ListAccessLogRequest {
            subject: "s".into(),
            care_unit: "careUnits/SE2321000131-P1".into(),
            ..Default::default()
        };
        let first = list(query.clone()).unwrap();
        let page_token = next_page_token(&first.filter, &place());
        let next = v1::ListAccessLogRequest {
            page_token,
            ..query
        };
        assert_eq!(list(next.clone()).unwrap().after, Some(place()));
        let other = v1::ListAccessLogRequest {
            subject: "t".into(),
            ..next
        };
        assert_eq!(list(other), Err(vec!["page_token".to_owned()]));
    }
}
