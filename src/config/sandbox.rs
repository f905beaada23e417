//! The settings of a sandbox: a server to try out, whose clock is not the machine's.

use chrono::{DateTime, Utc};
use clap::Args;

use super::value::{instant, sandbox_speed};
use super::{BadSetting, take};

/// The clock of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Instant at which it starts.
    pub start: DateTime<Utc>,
    /// Seconds that pass on it in a second; none when it stands still.
    pub speed: Option<u32>,
}

/// Flags of a sandbox.
#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// For trying out, never for patients: the clock starts here, as in
    /// 2026-03-02T09:00:00Z, and stands still until it is moved through
    /// careinvitation.sandbox.v1.ClockService.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        verbatim_doc_comment,
        value_name = "RFC 3339",
        env = "CARE_INVITATION_SANDBOX_CLOCK"
    )]
    sandbox_clock: Option<String>,
    /// Let the sandbox clock run, so many seconds a second, 1 to 86400. Without it, it
    /// stands still until it is moved.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        verbatim_doc_comment,
        value_name = "SECONDS",
        env = "CARE_INVITATION_SANDBOX_SPEED"
    )]
    sandbox_speed: Option<String>,
}

impl SandboxArgs {
    /// Returns the clock, and adds what cannot be used to the bad settings.
    pub fn validate(&self, bad: &mut Vec<BadSetting>) -> Option<Option<Sandbox>> {
        let start = self.sandbox_clock.as_deref().map(instant).transpose();
        let start = take(bad, "sandbox-clock", start);
        let is_sandbox = self.sandbox_clock.is_some();
        let speed = self.sandbox_speed.as_deref();
        let speed = speed.map(|it| sandbox_speed(it, is_sandbox)).transpose();
        let speed = take(bad, "sandbox-speed", speed)?;
        Some(start?.map(|start| Sandbox { start, speed }))
    }
}
