//! The keys of an issuer, kept at hand: read from a file when that changes, or fetched from a page every few
//! minutes, and once more when a token was signed with a key that is not known. Never fetched for a call, and
//! kept when the source is away.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::fetch::{self, Page};
use super::files::{self, Files};
use super::jwks::{self, KeySet};

/// Time between two fetches of a page.
const FETCH_INTERVAL: Duration = Duration::from_secs(300);
/// Time until the next fetch after one that failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// The same while there have never been keys, and every call is refused.
const FIRST_INTERVAL: Duration = Duration::from_secs(5);
/// Shortest time between two fetches for keys that are not known.
const DEMAND_INTERVAL: Duration = Duration::from_secs(60);
/// Longest time for which a call waits for such a fetch.
const DEMAND_TIME_MAX: Duration = Duration::from_millis(500);

/// The place that the keys come from.
pub enum Source {
    /// A file.
    File(PathBuf),
    /// A page.
    Page(Box<Page>),
}

/// Reason for which keys could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The page cannot be fetched.
    #[error("cannot be fetched: {0}")]
    Fetch(#[from] fetch::Error),
    /// The content cannot be used.
    #[error("cannot be used: {0}")]
    Keys(#[from] jwks::Error),
}

/// The keys of an issuer as of now.
#[derive(Debug)]
pub struct Keys {
    state: watch::Receiver<State>,
    demanded: Mutex<Option<Demand>>,
    wanted: Arc<Notify>,
}

/// Keys that were read, and how often.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Keys that were read last.
    pub set: Arc<KeySet>,
    /// Number of times that they have changed.
    pub changes: u64,
    /// Reason for which the last attempt to read them failed; none if it did not.
    pub failure: Option<String>,
    /// Number of attempts to read them.
    attempts: u64,
}

/// A fetch for a key that is not known.
#[derive(Clone, Copy, Debug)]
struct Demand {
    at: Instant,
    /// Attempts before it.
    attempts: u64,
}

impl Keys {
    /// Reads the keys, and goes on to do so. A page that cannot be fetched is logged and attempted again.
    ///
    /// # Errors
    ///
    /// There is a file that cannot be used.
    pub async fn open(source: Source) -> Result<Self, Error> {
        let is_file = matches!(source, Source::File(_));
        let (sender, state) = watch::channel(State::default());
        let wanted = Arc::new(Notify::new());
        let mut reader = Reader::new(source, sender);
        match reader.read().await {
            Err(error) if is_file => return Err(error),
            outcome => reader.log(outcome),
        }
        tokio::spawn(reader.run(wanted.clone()));
        Ok(Self {
            state,
            demanded: Mutex::new(None),
            wanted,
        })
    }

    /// Returns the keys.
    pub fn current(&self) -> State {
        self.state.borrow().clone()
    }

    /// Has the keys read again, at most once a minute, and waits for that, half a second at most.
    pub async fn refresh(&self) {
        let attempts = self.demand();
        let mut state = self.state.clone();
        let read = state.wait_for(|it| attempts < it.attempts);
        // Too late, the keys are as they were.
        let _ = timeout(DEMAND_TIME_MAX, read).await;
    }

    /// Returns the number of attempts before the fetch that was demanded last, by this call if none was for
    /// a minute.
    fn demand(&self) -> u64 {
        let mut demanded = self.demanded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = *demanded
            && last.at.elapsed() < DEMAND_INTERVAL
        {
            return last.attempts;
        }
        let attempts = self.state.borrow().attempts;
        *demanded = Some(Demand {
            at: Instant::now(),
            attempts,
        });
        self.wanted.notify_one();
        attempts
    }
}

/// The task that reads the keys.
struct Reader {
    source: Source,
    file: Files,
    state: watch::Sender<State>,
    /// Bytes that the keys were parsed from.
    bytes: Option<Vec<u8>>,
    failed: bool,
}

impl Reader {
    fn new(source: Source, state: watch::Sender<State>) -> Self {
        let path = match &source {
            Source::File(path) => Some(path.clone()),
            Source::Page(_) => None,
        };
        Self {
            source,
            file: Files::new(path),
            state,
            bytes: None,
            failed: false,
        }
    }

    /// Reads the keys for as long as somebody has them.
    async fn run(mut self, wanted: Arc<Notify>) {
        loop {
            let pause = match (self.failed, self.bytes.is_some()) {
                (true, false) => FIRST_INTERVAL,
                (true, true) => RETRY_INTERVAL,
                (false, _) => FETCH_INTERVAL,
            };
            let due = async {
                match &self.source {
                    Source::File(_) => self.file.changed().await,
                    Source::Page(_) => sleep(pause).await,
                }
            };
            tokio::select! {
                () = self.state.closed() => return,
                () = wanted.notified() => {}
                () = due => {}
            }
            let outcome = self.read().await;
            self.log(outcome);
        }
    }

    /// Reads the keys once. Returns their number when they have changed.
    async fn read(&mut self) -> Result<Option<usize>, Error> {
        let outcome = match &self.source {
            Source::File(path) => read_file(path),
            Source::Page(page) => page.fetch().await.map(Vec::from).map_err(Error::from),
        };
        let outcome = outcome.and_then(|bytes| {
            let is_new = self.bytes.as_ref() != Some(&bytes);
            let set = is_new.then(|| KeySet::parse(&bytes)).transpose()?;
            self.bytes = Some(bytes);
            Ok(set)
        });
        let (set, failure) = match outcome {
            Ok(set) => (set, None),
            Err(error) => (None, Some(error)),
        };
        let count = set.as_ref().map(KeySet::count);
        self.state.send_modify(|state| {
            state.attempts += 1;
            state.failure = failure.as_ref().map(ToString::to_string);
            if let Some(set) = set {
                state.set = Arc::new(set);
                state.changes += 1;
            }
        });
        failure.map_or(Ok(count), Err)
    }

    /// Logs keys that have changed, and the first of several failures.
    fn log(&mut self, outcome: Result<Option<usize>, Error>) {
        match outcome {
            Ok(Some(keys)) => info!(keys, "the issuer's keys have been read"),
            Ok(None) if self.failed => info!("the issuer's keys can be read again"),
            Ok(None) => {}
            Err(error) if !self.failed => {
                let error = error.to_string();
                match self.bytes.is_some() {
                    true => warn!(
                        error,
                        "the issuer's keys cannot be read: those before stay in force"
                    ),
                    false => warn!(
                        error,
                        "the issuer's keys cannot be read: until there are keys every call is refused"
                    ),
                }
                self.failed = true;
                return;
            }
            Err(_) => return,
        }
        self.failed = false;
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    Ok(files::read(path)?)
}
