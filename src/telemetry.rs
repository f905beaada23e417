//! Logs, to standard error. What is logged is ids and outcomes, never what a call carried.

use std::io::{self, IsTerminal};
use std::panic;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use crate::config::LogFormat;

/// Starts logging for the whole process. To be called once.
///
/// `level` is for the service's own lines. Libraries are heard when they warn, and no further: at
/// their lower levels some print statements and frames, which hold patients' data.
pub fn start(format: LogFormat, level: LevelFilter) {
    let heard = Targets::new()
        .with_default(LevelFilter::WARN.min(level))
        // Slow statements are warnings there, with their text.
        .with_target("sqlx::query", LevelFilter::OFF)
        .with_target(env!("CARGO_CRATE_NAME"), level);
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(heard))
        .init();
    panic::set_hook(Box::new(|panicked| {
        // The message is left out: that of a text cut in the wrong place quotes the text.
        let place = panicked.location().map(ToString::to_string);
        tracing::error!(place, "panicked");
    }));
}
