//! Logs and the progress of a command, to standard error. What is logged is ids and outcomes,
//! never what a call carried.

use std::io::{self, IsTerminal, Write};
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
        // What is not understood of an address is a warning there, with its value.
        .with_target("sqlx_postgres::options", LevelFilter::OFF)
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
    // For all layers at once: a filter of one layer's own remembers the answer that a library got
    // when it merely asked whether it would be heard, and takes it for that of our next line.
    tracing_subscriber::registry()
        .with(heard)
        .with(lines)
        .init();
    panic::set_hook(Box::new(|panicked| {
        // The message is left out: that of a text cut in the wrong place quotes the text.
        let place = panicked.location().map(ToString::to_string);
        tracing::error!(place, "panicked");
    }));
}

/// How many characters wide the bar is.
const BAR_WIDTH: u64 = 30;

/// How far a command is: a bar on a terminal, elsewhere a line for every tenth.
#[derive(Debug, Default)]
pub struct Progress {
    what: &'static str,
    tenths: u64,
}

impl Progress {
    /// Shows that so much is done, out of so much where that is known.
    pub fn show(&mut self, what: &'static str, done: u64, total: Option<u64>) {
        let mut stderr = io::stderr();
        let total = total.map(|total| total.max(done));
        let amount = total.map_or(String::new(), |total| format!(" of {total}"));
        let part = |parts: u64| total.map_or(0, |total| done * parts / total.max(1));
        let fresh = self.what != what;
        let was = std::mem::replace(&mut self.tenths, part(10));
        // Whoever closed standard error does not want to see it.
        let _ = if stderr.is_terminal() {
            let line_end = if fresh && !self.what.is_empty() {
                "\n"
            } else {
                "\r"
            };
            let filled = "#".repeat(usize::try_from(part(BAR_WIDTH)).unwrap_or(0));
            let width = if total.is_some() { 30 } else { 0 };
            write!(
                stderr,
                "{line_end}{what:<12} {filled:.<width$} {done}{amount}"
            )
        } else if fresh || was < self.tenths {
            writeln!(stderr, "{what}: {done}{amount}")
        } else {
            Ok(())
        };
        self.what = what;
    }

    /// Leaves the bar as it is.
    pub fn end(&mut self) {
        if io::stderr().is_terminal() && !self.what.is_empty() {
            // As above.
            let _ = writeln!(io::stderr());
        }
    }
}
