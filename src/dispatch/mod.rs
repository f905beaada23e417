//! Waiting: due messages find their consumers, one feed a consumer.
//!
//! One pulse a process knows when the next message falls due and wakes all feeds then; a commit
//! that makes something due, here or on another replica, wakes them too. A feed that is woken
//! claims what it has room for.

mod backlog;
mod feed;
mod shared;
mod watch;
mod window;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch as changes;
use tokio::time::MissedTickBehavior;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::booking_request::{BookingRequest, RequestKey};
use crate::domain::calendar::{ClockReading, Instant};
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::{Channel, LeaseRef};
use crate::domain::worklist::Query;
use crate::domain::{Context, Rules};
use crate::store::{self, Store};
use backlog::{Told, Total, backlog};
use shared::Shared;

/// How often the due index is looked at all the same. A wake may be missed, and a replica that died
/// has announced nothing of the messages that it let go of.
const POLL: Duration = Duration::from_secs(5);
/// How long to wait before the store is asked again when it could not answer.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// What a consumer is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message to deliver, under the lease that its record shows.
    Due {
        /// The request as it was when the message was leased.
        record: Box<BookingRequest>,
        /// The lease.
        lease: LeaseRef,
    },
    /// A message that is taken back.
    Revoked {
        /// The request.
        request: RequestKey,
        /// The message.
        notification: Uuid,
    },
    /// A sign of life.
    Heartbeat,
}

/// Why a feed ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Stopped {
    /// The server drains.
    #[error("the server is stopping")]
    Draining,
    /// The clock cannot be trusted, so that nothing is leased by it.
    #[error("this replica's clock cannot be trusted now")]
    ClockWrong,
    /// The consumer reads too slowly.
    #[error("the stream is read too slowly")]
    TooSlow,
    /// The store failed in a way that waiting does not mend.
    #[error(transparent)]
    Store(#[from] store::error::Error),
}

/// What a consumer asks for.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Through these channels; at least one.
    pub channels: Vec<Channel>,
    /// Of these care units; `None` means of all.
    pub care_units: Option<Vec<HsaId>>,
    /// How many messages may be leased and unanswered.
    pub outstanding_max: usize,
    /// How long each lease lasts.
    pub lease_duration: chrono::Duration,
    /// End when nothing is due, instead of waiting.
    pub until_idle: bool,
}

/// Where feeds are opened. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct Dispatch {
    store: Store,
    clock: Clock,
    rules: Rules,
    beats: changes::Receiver<()>,
    unread: Total,
    shared: Shared,
    trusts_clock: changes::Receiver<bool>,
    shutdown: CancellationToken,
}

impl Dispatch {
    /// Starts the pulse; it and every feed and watch end when `shutdown` is cancelled. Feeds and
    /// watches end also when the clock is no longer trusted, and none is opened until it is.
    pub fn start(
        store: Store,
        clock: Clock,
        rules: Rules,
        trusts_clock: changes::Receiver<bool>,
        shutdown: CancellationToken,
    ) -> Self {
        let (beat, beats) = changes::channel(());
        let pulse = Pulse {
            store: store.clone(),
            clock: clock.clone(),
            beat,
        };
        let (stop, others) = (shutdown.clone(), store.clone());
        tokio::spawn(async move { stop.run_until_cancelled(pulse.run()).await });
        let stop = shutdown.clone();
        tokio::spawn(async move { stop.run_until_cancelled(others.follow_others()).await });
        let (stop, log) = (shutdown.clone(), store.clone());
        tokio::spawn(async move { stop.run_until_cancelled(log.keep_log_short()).await });
        Self {
            store,
            clock,
            rules,
            beats,
            unread: Total::default(),
            shared: Shared::default(),
            trusts_clock,
            shutdown,
        }
    }

    /// Opens a feed. Messages that its consumer has not read are given back when it is dropped.
    ///
    /// # Errors
    ///
    /// [`Stopped::ClockWrong`].
    pub fn feed(&self, filter: Filter) -> Result<Feed, Stopped> {
        self.require_clock()?;
        let (events, told) = backlog(&self.unread);
        tokio::spawn(feed::Consumer::new(self.clone(), filter, events).run());
        Ok(Feed {
            told,
            store: self.store.clone(),
        })
    }

    /// Watches a worklist: as it stands, then its changes.
    ///
    /// # Errors
    ///
    /// [`Stopped::ClockWrong`].
    pub fn watch(&self, query: Query) -> Result<Watch, Stopped> {
        self.require_clock()?;
        let (events, told) = backlog(&self.unread);
        tokio::spawn(watch::Watcher::new(self.clone(), query, events).run());
        Ok(told)
    }

    fn require_clock(&self) -> Result<(), Stopped> {
        match *self.trusts_clock.borrow()
            && !matches!(self.clock.reading(), ClockReading::InDoubt(_))
        {
            true => Ok(()),
            false => Err(Stopped::ClockWrong),
        }
    }

    /// Whether feeds and watches are to end.
    fn is_over(&self) -> bool {
        self.shutdown.is_cancelled() || !*self.trusts_clock.borrow()
    }

    /// Waits until feeds and watches are to end, and says why.
    async fn over(&self) -> Stopped {
        let mut trusts_clock = self.trusts_clock.clone();
        let distrusted = async {
            if trusts_clock.wait_for(|trusted| !trusted).await.is_err() {
                // Nobody says so any more: the server has stopped.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.shutdown.cancelled() => Stopped::Draining,
            () = distrusted => Stopped::ClockWrong,
        }
    }

    /// What a claim's decision may know, as of now. Nobody has called for it.
    fn context(&self) -> Context {
        Context {
            now: self.clock.now(),
            actor: String::new(),
            rules: self.rules,
            fresh_id: self.clock.fresh_id(),
        }
    }
}

/// What a watcher of a worklist is told.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// A request is on the list, or has changed while on it.
    Upserted(Arc<BookingRequest>),
    /// A request has left the list.
    Removed(RequestKey),
    /// What follows are changes.
    SnapshotComplete,
    /// A sign of life.
    Heartbeat,
}

/// The events of one watcher.
pub type Watch = Told<WatchEvent>;

/// The events of one consumer.
pub struct Feed {
    told: Told<Event>,
    store: Store,
}

impl Stream for Feed {
    type Item = Result<Event, Stopped>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.told).poll_next(context)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let leases = self.told.close().filter_map(|event| match event {
            Event::Due { lease, .. } => Some(lease),
            Event::Revoked { .. } | Event::Heartbeat => None,
        });
        give_back(&self.store, leases.collect());
    }
}

/// Gives leases back that no consumer has seen. If that fails they run out by themselves.
fn give_back(store: &Store, leases: Vec<LeaseRef>) {
    if leases.is_empty() {
        return;
    }
    let store = store.clone();
    tokio::spawn(async move {
        if let Err(error) = store.give_back(leases).await {
            tracing::warn!(%error, "unread messages could not be given back");
        }
    });
}

/// Knows when the next message falls due.
struct Pulse {
    store: Store,
    clock: Clock,
    beat: changes::Sender<()>,
}

impl Pulse {
    async fn run(self) {
        let mut commits = self.store.commits();
        let mut polls = tokio::time::interval(POLL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next = self.next_after(self.clock.now()).await;
        loop {
            tokio::select! {
                commit = commits.recv() => match commit {
                    Ok(committed) if !committed.gap && !self.is_due(committed.claimable_at) => {
                        next = [next, committed.claimable_at].into_iter().flatten().min();
                    }
                    Ok(_) | Err(RecvError::Lagged(_)) => next = self.beat().await,
                    Err(RecvError::Closed) => return,
                },
                () = sleep_until(&self.clock, next) => next = self.beat().await,
                _ = polls.tick() => {
                    next = self.next_after(Instant::UNIX_EPOCH).await;
                    if self.is_due(next) {
                        next = self.beat().await;
                    }
                }
            }
        }
    }

    fn is_due(&self, at: Option<Instant>) -> bool {
        at.is_some_and(|at| at <= self.clock.now())
    }

    /// Wakes the feeds; gives the first instant after that at which something falls due.
    async fn beat(&self) -> Option<Instant> {
        // Read first: what falls due meanwhile is seen by the feeds, or is what comes next.
        let now = self.clock.now();
        self.beat.send_replace(());
        self.next_after(now).await
    }

    /// The first instant after `since` at which something falls due; asks until the store answers.
    async fn next_after(&self, since: Instant) -> Option<Instant> {
        loop {
            match self.store.next_claimable_at(since).await {
                Ok(next) => return next,
                Err(error) => {
                    tracing::warn!(%error, "the due index could not be read");
                    tokio::time::sleep(STORE_PAUSE).await;
                }
            }
        }
    }
}

/// Sleeps until `at` by the service's clock; for ever when there is nothing to wait for.
async fn sleep_until(clock: &Clock, at: Option<Instant>) {
    match at {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}
