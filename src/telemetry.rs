//! Logs and the progress of a command, to standard error, and traces. Log lines have ids and outcomes, never the
//! contents of a call.
//!
//! Standard error may be a pipe that nobody reads. Logging never blocks on it: lines wait in a bounded
//! buffer for a thread of their own, and lines that find it full are dropped and counted.

pub mod seldom;
pub mod traces;

use std::io::{self, IsTerminal, Write};
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use crate::config::LogFormat;

/// Maximum lines that wait for standard error.
const WAITING_LINES_MAX: usize = 4_096;
/// Longest time for which a program that ends, or that has one line to report, waits for its reader.
const READER_MAX: Duration = Duration::from_secs(1);
/// Pause before another attempt to log the count of dropped lines.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// The log of the process, until it ends.
#[must_use]
pub struct Log {
    worker: WorkerGuard,
    dropped: Arc<Dropped>,
}

impl Log {
    /// Writes the lines that still wait, for as long as they are read and for a second at most.
    pub fn end(self) {
        let Self { worker, dropped } = self;
        within_reader_time(move || {
            while !dropped.log_new() {
                thread::sleep(RETRY_PAUSE);
            }
            drop(worker);
        });
    }
}

/// The count of dropped lines.
#[derive(Default)]
struct Dropped {
    counter: OnceLock<ErrorCounter>,
    logged: AtomicUsize,
}

impl Dropped {
    /// Logs the number of lines that were dropped since the last time. Returns false when that line was
    /// dropped too.
    fn log_new(&self) -> bool {
        let count = || self.counter.get().map_or(0, ErrorCounter::dropped_lines);
        let (dropped, logged) = (count(), self.logged.load(Ordering::Relaxed));
        if dropped == logged {
            return true;
        }
        let lines = dropped - logged;
        tracing::warn!(
            lines,
            "log lines dropped: standard error is read too slowly"
        );
        let found_room = count() == dropped;
        if found_room {
            self.logged.store(dropped, Ordering::Relaxed);
        }
        found_room
    }
}

/// Standard error, as the thread that writes the log has it. Once it has taken a line, the buffer has
/// room again for the count of dropped lines.
struct Output(Arc<Dropped>);

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let written = io::stderr().write(line)?;
        self.0.log_new();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Runs work that may block for ever on a thread of its own, and stops waiting for it after a second.
fn within_reader_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || done.send(work()));
    outcome.recv_timeout(READER_MAX).ok()
}

/// Writes a line that is not part of the log. A reader who does not take it blocks the program for a
/// second at most.
///
/// # Errors
///
/// The output is closed.
pub fn report(mut output: impl Write + Send + 'static, line: String) -> io::Result<()> {
    within_reader_time(move || writeln!(output, "{line}")).unwrap_or(Ok(()))
}

/// Starts logging for the whole process. To be called once.
///
/// `level` is for the service's own lines. Lines of libraries are logged from the level of warnings on:
/// at lower levels some print statements and frames, which hold patients' data.
pub fn start(format: LogFormat, level: LevelFilter) -> Log {
    let dropped = Arc::new(Dropped::default());
    let (writer, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING_LINES_MAX)
        .thread_name("log")
        .finish(Output(Arc::clone(&dropped)));
    dropped.counter.get_or_init(|| writer.error_counter());
    let lines = fmt::layer()
        .with_writer(writer)
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
    // when it merely asked whether a line would be logged, and takes it for that of our next line.
    tracing_subscriber::registry()
        .with(filter(level))
        .with(lines)
        .init();
    log_panics();
    Log { worker, dropped }
}

/// Returns the filter of what is logged at a level. Libraries print headers, frames and statements at their
/// lower levels: they are logged from warnings on, whatever the level.
pub fn filter(level: LevelFilter) -> Targets {
    Targets::new()
        .with_default(LevelFilter::WARN.min(level))
        // Slow statements are warnings there, with their text.
        .with_target("sqlx::query", LevelFilter::OFF)
        // Unknown parameters of an address are warnings there, with their values.
        .with_target("sqlx_postgres::options", LevelFilter::OFF)
        .with_target(env!("CARGO_CRATE_NAME"), level)
}

/// Makes panics lines of the log, by their places alone.
pub fn log_panics() {
    panic::set_hook(Box::new(|panicked| {
        // The message is left out: a panic about slicing a text in the wrong place quotes the text.
        let location = panicked.location().map(ToString::to_string);
        tracing::error!(location, "panicked");
    }));
}

/// The progress of a command: a bar on a terminal, elsewhere a line for every tenth. The command waits
/// for its reader, as with its result: an operator runs it to see that.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bar of the kind that is shown; hidden by itself where standard error is no terminal.
    bar: Option<ProgressBar>,
    what: &'static str,
    tenths: u64,
}

impl Progress {
    /// Shows the amount that is done, out of the total where that is known.
    pub fn show(&mut self, what: &'static str, done: u64, total: Option<u64>) {
        let total = total.map(|total| total.max(done));
        let is_new = self.what != what;
        if is_new {
            self.end();
            self.what = what;
        }
        let bar = self.bar.get_or_insert_with(|| bar(what, total));
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
        let tenths = total.map_or(0, |total| done * 10 / total.max(1));
        let was = std::mem::replace(&mut self.tenths, tenths);
        if bar.is_hidden() && (is_new || was < tenths) {
            let amount = total.map_or(String::new(), |total| format!(" of {total}"));
            // An operator who has closed standard error does not want to see it.
            let _ = writeln!(io::stderr(), "{what}: {done}{amount}");
        }
    }

    /// Leaves the bar as it is.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.abandon();
        }
    }
}

/// Returns an empty bar, or a mere count where there is no total.
fn bar(what: &'static str, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{msg:16} {bar:30} {pos} of {len}"),
        None => (ProgressBar::no_length(), "{msg:16} {pos}"),
    };
    let style = ProgressStyle::with_template(template).expect("its placeholders are known");
    bar.with_style(style.progress_chars("##."))
        .with_message(what)
}
