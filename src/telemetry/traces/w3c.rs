//! Spans in headers, as W3C's Trace Context has them. OpenTelemetry's own parser takes ids of fewer digits than
//! they have, such as an identity number.

use http::HeaderMap;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// Header with the span that a call belongs to.
const TRACEPARENT: &str = "traceparent";
/// Header with what tracing systems of callers have added.
const TRACESTATE: &str = "tracestate";
/// Version of the header of a span.
const VERSION: &str = "00";
/// Fewest digits in a row that may be an identity number.
const NUMBER_DIGITS: usize = 10;

/// Span of a caller, which a call names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller(SpanContext);

impl Caller {
    /// Returns the span that is named in the headers of a call.
    pub fn named_in(headers: &HeaderMap) -> Option<Self> {
        parse(headers.get(TRACEPARENT)?.to_str().ok()?).map(Self)
    }

    /// Returns the id of its trace.
    pub fn trace_id(&self) -> String {
        self.0.trace_id().to_string()
    }

    /// Returns the span with the state that came with it. Entries that may hold an identity number are left out.
    pub fn with_state(&self, headers: &HeaderMap) -> SpanContext {
        let lines = headers.get_all(TRACESTATE).iter();
        let lines = lines.filter_map(|line| line.to_str().ok());
        let entries = lines.flat_map(|line| line.split(','));
        let entries: Vec<_> = entries.filter(|entry| !may_hold_number(entry)).collect();
        SpanContext::new(
            self.0.trace_id(),
            self.0.span_id(),
            self.0.trace_flags(),
            true,
            entries.join(",").parse().unwrap_or_default(),
        )
    }
}

/// Parses `00-<trace>-<span>-<flags>`: ids of 32 and 16 hexadecimal digits in lower case, not all of them zero.
fn parse(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let (span, flags) = (parts.next()?, parts.next()?);
    let is_whole = version == VERSION && parts.next().is_none();
    let is_good = is_whole && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
    if !is_good {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let state = TraceState::default();
    let parsed = SpanContext::new(trace, span, flags & TraceFlags::SAMPLED, true, state);
    Some(parsed).filter(SpanContext::is_valid)
}

/// Returns whether a text is so many hexadecimal digits in lower case.
fn is_hex(text: &str, digits: usize) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == digits && text.bytes().all(is_digit)
}

/// Returns whether so many digits follow each other as an identity number has, with whatever that is no letter
/// between them.
fn may_hold_number(text: &str) -> bool {
    let mut digits = 0;
    text.bytes().any(|byte| {
        digits = match byte {
            b'0'..=b'9' => digits + 1,
            b if b.is_ascii_alphabetic() => 0,
            _ => digits,
        };
        digits >= NUMBER_DIGITS
    })
}

/// Renders a span as the header has it.
pub fn traceparent(span: &SpanContext) -> String {
    let flags = (span.trace_flags() & TraceFlags::SAMPLED).to_u8();
    format!(
        "{VERSION}-{}-{}-{flags:02x}",
        span.trace_id(),
        span.span_id()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_span_is_rendered_as_it_was_parsed() {
        for text in [CALLER, &CALLER.replace("-01", "-00")] {
            let parsed = parse(text).expect("good");
            assert_eq!(traceparent(&parsed), text);
            assert_eq!(parsed.is_sampled(), text.ends_with('1'));
        }
        let with_more_flags = parse(&CALLER.replace("-01", "-ff")).expect("good");
        assert_eq!(traceparent(&with_more_flags), CALLER);
    }

    #[test]
    fn entries_of_the_state_are_kept_unless_they_may_hold_an_identity_number() {
        for (given, kept) in [
            (
                &["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"][..],
                "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
            ),
            (&["a=1", "b=2"], "a=1,b=2"),
            (&["a=1,b=198003012385,c=3"], "a=1,c=3"),
            (&["b=19800301-2385"], ""),
            (&["b=800301+2385"], ""),
            (&["b=8003 01 2385"], ""),
            (&["1980=03012385"], ""),
            (&["no state"], ""),
            (&[], ""),
        ] {
            let mut headers = HeaderMap::new();
            for line in given {
                headers.append(TRACESTATE, line.parse().expect("a header"));
            }
            let caller = Caller(parse(CALLER).expect("good"));
            let with_state = caller.with_state(&headers);
            assert_eq!(with_state.trace_state().header(), kept, "{given:?}");
            assert_eq!(traceparent(&with_state), CALLER);
        }
    }
}
