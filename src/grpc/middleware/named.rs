//! The ids by which a caller names a call: a trace, as W3C's Trace Context defines it, and a request. What is not of their form is
//! ignored, so that no other text of a caller's reaches a log.

use http::HeaderMap;
use uuid::Uuid;

use crate::telemetry::traces::w3c::Caller;

/// Header with the id that the caller has given the call.
const REQUEST_ID: &str = "x-request-id";

/// The ids of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Id of its trace: 32 hexadecimal digits in lower case, not all of them zero.
    pub trace_id: Option<String>,
    /// Span of the caller, in that trace.
    pub caller: Option<Caller>,
    /// Id of the request.
    pub request_id: Option<Uuid>,
}

impl Named {
    /// Reads the ids in the headers of a call.
    pub fn of(headers: &HeaderMap) -> Self {
        let request_id = headers.get(REQUEST_ID).and_then(|it| it.to_str().ok());
        let caller = Caller::named_in(headers);
        Self {
            trace_id: caller.as_ref().map(Caller::trace_id),
            caller,
            request_id: request_id.and_then(|it| Uuid::try_parse(it).ok()),
        }
    }
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
            let named = named("traceparent", &text);
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
