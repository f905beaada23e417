//! The command line of a purge.

use clap::Args;

use super::value::civil_date;
use super::{BadSetting, Purge, take};

/// Flags of a purge.
#[derive(Debug, Args)]
pub struct PurgeDates {
    /// Delete what was settled, last changed, and last shown to the patient, before this
    /// date, as in 2025-01-31.
    #[arg(long, verbatim_doc_comment, value_name = "DATE")]
    before: String,
    /// Delete the history too that was written before this date, of requests that
    /// have been deleted. Without it all history is kept.
    #[arg(long, verbatim_doc_comment, value_name = "DATE")]
    history_before: Option<String>,
    /// Delete what the access log has from before this date, which is five years ago at
    /// least. Without it all of it is kept.
    #[arg(long, verbatim_doc_comment, value_name = "DATE")]
    access_before: Option<String>,
}

impl PurgeDates {
    /// Returns the dates, and adds what cannot be used to the bad settings.
    pub fn validate(&self, bad: &mut Vec<BadSetting>) -> Option<Purge> {
        let before = take(bad, "before", civil_date(&self.before));
        let history_before = self.history_before.as_deref().map(civil_date).transpose();
        let history_before = take(bad, "history-before", history_before);
        let access_before = self.access_before.as_deref().map(civil_date).transpose();
        let access_before = take(bad, "access-before", access_before);
        Some(Purge {
            before: before?,
            history_before: history_before?,
            access_before: access_before?,
        })
    }
}
