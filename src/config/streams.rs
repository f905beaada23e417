//! The settings of streams.

use std::time::Duration;

use clap::Args;

use super::value::{changes_days, heartbeat};
use super::{BadSetting, take};

/// Terms of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    /// Longest silence of a stream, after which a heartbeat is sent.
    pub heartbeat: Duration,
    /// Days for which changes are kept for streams that are resumed, 1 to 35.
    pub changes_days: u32,
}

/// Flags of streams.
#[derive(Debug, Args)]
pub struct StreamArgs {
    /// Seconds of silence after which a stream sends a heartbeat, 1 to 300. Shorter than the
    /// time after which a proxy gives a silent stream up.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        verbatim_doc_comment,
        value_name = "SECONDS",
        env = "CARE_INVITATION_HEARTBEAT",
        default_value = "15"
    )]
    heartbeat: String,
    /// Days of changes that a stream of them may be resumed with, 1 to 35.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        value_name = "DAYS",
        env = "CARE_INVITATION_CHANGES_DAYS",
        default_value = "35"
    )]
    changes_days: String,
}

impl StreamArgs {
    /// Returns the terms, and adds what cannot be used to the bad settings.
    pub fn validate(&self, bad: &mut Vec<BadSetting>) -> Option<Streams> {
        let heartbeat = take(bad, "heartbeat", heartbeat(&self.heartbeat));
        let changes_days = take(bad, "changes-days", changes_days(&self.changes_days));
        Some(Streams {
            heartbeat: heartbeat?,
            changes_days: changes_days?,
        })
    }
}
