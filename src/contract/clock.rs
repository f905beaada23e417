//! Time in the sandbox.

use super::calendar::{parse_instant, render_instant};
use super::{Violations, sandbox_v1};
use crate::domain::calendar::Instant;

/// Parses AdvanceTime into the new time. The clock checks that it is not before the present time.
///
/// # Errors
///
/// The time is missing or out of range.
pub fn parse_advance(message: sandbox_v1::AdvanceTimeRequest) -> Result<Instant, Violations> {
    Violations::collect(|violations| {
        parse_instant(message.server_time.as_ref(), "server_time", violations)
    })
}

/// Renders the response of GetTime.
pub fn render_time(now: Instant) -> sandbox_v1::GetTimeResponse {
    sandbox_v1::GetTimeResponse {
        server_time: Some(render_instant(now)),
    }
}

/// Renders the response of AdvanceTime.
pub fn render_advanced(now: Instant) -> sandbox_v1::AdvanceTimeResponse {
    sandbox_v1::AdvanceTimeResponse {
        server_time: Some(render_instant(now)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fields;
    use super::*;

    #[test]
    fn the_new_time_must_be_given() {
        let now: Instant = "2026-03-02T09:00:00.000001Z".parse().unwrap();
        let server_time = render_time(now).server_time;
        let message = sandbox_v1::AdvanceTimeRequest { server_time };
        assert_eq!(parse_advance(message).unwrap(), now);
        assert_eq!(render_advanced(now).server_time, server_time);
        let missing = parse_advance(sandbox_v1::AdvanceTimeRequest::default());
        assert_eq!(fields(missing.unwrap_err()), ["server_time"]);
    }
}
