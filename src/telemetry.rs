//! Logs and the progress of a command, to standard error. What is logged is ids and outcomes,
//! never what a call carried.
//!
//! Standard error may be a pipe that nobody reads. Nobody who logs waits for it: lines wait in a
//! bounded buffer for a thread of their own, and those that find no room are dropped and counted.

use std::io::{self, IsTerminal, Write};
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use crate::config::LogFormat;

/// Maximum lines that wait for standard error.
const WAITING_LINES_MAX: usize = 4_096;
/// Longest wait of a program that ends, or that has one line to report, for whoever reads it.
const READER_MAX: Duration = Duration::from_secs(1);
/// Pause before a count of dropped lines is logged once more.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// The log of the process, until it ends.
#[must_use]
pub struct Log {
    worker: WorkerGuard,
    dropped: Arc<Dropped>,
}

impl Log {
    /// Writes the lines that still wait, for as long as somebody reads them.
    pub fn end(self) {
        let Self { worker, dropped } = self;
        within_reason(move || {
            while !dropped.tell() {
                thread::sleep(RETRY_PAUSE);
            }
            drop(worker);
        });
    }
}

/// The count of lines that found no room.
#[derive(Default)]
struct Dropped {
    counter: OnceLock<ErrorCounter>,
    told: AtomicUsize,
}

impl Dropped {
    /// Logs how many lines were dropped since the last time. Returns false when that line found no
    /// room either.
    fn tell(&self) -> bool {
        let count = || self.counter.get().map_or(0, ErrorCounter::dropped_lines);
        let (dropped, told) = (count(), self.told.load(Ordering::Relaxed));
        if dropped == told {
            return true;
        }
        let lines = dropped - told;
        tracing::warn!(
            lines,
            "log lines dropped: standard error is read too slowly"
        );
        let found_room = count() == dropped;
        if found_room {
            self.told.store(dropped, Ordering::Relaxed);
        }
        found_room
    }
}

/// Standard error, as the thread that writes the log has it. Where it takes a line there is room
/// again for the count of those that were dropped.
struct Output(Arc<Dropped>);

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let written = io::stderr().write(line)?;
        self.0.tell();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Does what may block for ever on a thread of its own, and leaves it there after a second.
fn within_reason<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || done.send(work()));
    outcome.recv_timeout(READER_MAX).ok()
}

/// Writes a line that is not part of the log. A reader who does not take it holds nobody up.
///
/// # Errors
///
/// The output is closed.
pub fn report(mut output: impl Write + Send + 'static, line: String) -> io::Result<()> {
    within_reason(move || writeln!(output, "{line}")).unwrap_or(Ok(()))
}

/// Starts logging for the whole process. To be called once.
///
/// `level` is for the service's own lines. Libraries are heard when they warn, and no further: at
/// their lower levels some print statements and frames, which hold patients' data.
pub fn start(format: LogFormat, level: LevelFilter) -> Log {
    let heard = Targets::new()
        .with_default(LevelFilter::WARN.min(level))
        // Slow statements are warnings there, with their text.
        .with_target("sqlx::query", LevelFilter::OFF)
        // What is not understood of an address is a warning there, with its value.
        .with_target("sqlx_postgres::options", LevelFilter::OFF)
        .with_target(env!("CARGO_CRATE_NAME"), level);
    let dropped = Arc::new(Dropped::default());
    let (waiting, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING_LINES_MAX)
        .thread_name("log")
        .finish(Output(Arc::clone(&dropped)));
    dropped.counter.get_or_init(|| waiting.error_counter());
    let lines = fmt::layer()
        .with_writer(waiting)
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
    Log { worker, dropped }
}

/// How many characters wide the bar is.
const BAR_WIDTH: u64 = 30;

/// How far a command is: a bar on a terminal, elsewhere a line for every tenth. The command waits for
/// whoever reads it, as for its result: it is one that somebody runs to see that.
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
