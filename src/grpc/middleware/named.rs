//! The ids by which a caller names a call: a trace, as W3C's Trace Context defines it, and a request. What is not of their form is
//! ignored, so that no other text of a caller's reaches a log.

use http::HeaderMap;
use uuid::Uuid;

/// Header with the trace that a call belongs to.
const TRACEPARENT: &str = "traceparent";
/// Header with the id that the caller has given the call.
const REQUEST_ID: &str = "x-request-id";
/// Version of the header of a trace.
const VERSION: &str = "00";

/// The ids of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Id of its trace: 32 hexadecimal digits in lower case, not all of them zero.
    pub trace_id: Option<String>,
    /// Id of the request.
    pub request_id: Option<Uuid>,
}

impl Named {
    /// Reads the ids in the headers of a call.
    pub fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name)?.to_str().ok();
        Self {
            trace_id: text(TRACEPARENT).and_then(trace_id),
            request_id: text(REQUEST_ID).and_then(|it| Uuid::try_parse(it).ok()),
        }
    }
}

/// Returns the id of a trace, from `00-<trace>-<parent>-<flags>`.
fn trace_id(text: &str) -> Option<String> {
    let mut parts = text.split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let (parent, flags) = (parts.next()?, parts.next()?);
    let is_whole = version == VERSION && parts.next().is_none();
    let is_id = |id: &str, digits| is_hexadecimal(id, digits) && id.bytes().any(|it| it != b'0');
    let is_good = is_whole && is_id(trace, 32) && is_id(parent, 16) && is_hexadecimal(flags, 2);
    is_good.then(|| trace.to_owned())
}

/// Returns whether a text is so many hexadecimal digits in lower case.
fn is_hexadecimal(text: &str, digits: usize) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == digits && text.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &'static str, value: &str) -> Named {
        let mut headers = HeaderMap::new();
        let value = http::HeaderValue::from_bytes(value.as_bytes()).expect("a header");
        headers.insert(name, value);
        Named::of(&headers)
    }

    #[test]
    fn a_trace_is_named_as_its_standard_asks() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let (zeros, parent) = ("0".repeat(32), "00f067aa0ba902b7");
        for (text, expected) in [
            (format!("00-{id}-{parent}-01"), Some(id)),
            (format!("00-{zeros}-{parent}-01"), None),
            (format!("00-{}-{parent}-01", id.to_uppercase()), None),
            (format!("00-{id}-{}-01", "0".repeat(16)), None),
            (format!("00-{id}-{parent}"), None),
            (format!("00-{id}-{parent}-01-more"), None),
            (format!("00-{id}-{parent}-zz"), None),
            (format!("01-{id}-{parent}-01"), None),
            ("00-\u{e5}".to_owned(), None),
            (String::new(), None),
        ] {
            let named = named(TRACEPARENT, &text);
            assert_eq!(named.trace_id.as_deref(), expected, "{text}");
        }
        assert_eq!(Named::of(&HeaderMap::new()), Named::default());
    }

    #[test]
    fn a_request_is_named_by_a_uuid_alone() {
        let id = "3f0c8a52-6d1e-4b7a-9c35-5a1f0e7d2a01";
        let request_id = |text| named(REQUEST_ID, text).request_id;
        assert_eq!(request_id(id), Uuid::parse_str(id).ok());
        assert_eq!(request_id("198003012385"), None);
        assert_eq!(request_id("call 7"), None);
    }
}
