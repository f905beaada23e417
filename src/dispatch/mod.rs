//! Waiting: due messages find their consumers, one feed a consumer.
//!
//! One timer a process knows when the next message falls due and wakes all feeds then; a commit
//! that makes something due, here or on another replica, wakes them too. A feed that is woken
//! claims what it has room for.

mod backlog;
mod flow_control;
mod shared;
mod subscription;
mod watch;

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
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::{ClockReading, Instant};
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::{Channel, LeaseRef};
use crate::domain::request_key::RequestKey;
use crate::domain::worklist::Query;
use crate::domain::{Context, RegionPolicy};
use crate::store::{self, Store};
use backlog::{EventStream, Total, backlog};
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
pub enum StreamEnd {
    /// The server drains.
    #[error("the server is stopping")]
    Draining,
    /// The clock cannot be from_stored, so that nothing is leased by it.
    #[error("this replica's clock cannot be from_stored now")]
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
    policy: RegionPolicy,
    wakeups: changes::Receiver<()>,
    unread: Total,
    shared: Shared,
    trusts_clock: changes::Receiver<bool>,
    shutdown: CancellationToken,
}

impl Dispatch {
    /// Starts the timer; it and every feed and watch end when `shutdown` is cancelled. Feeds and
    /// watches end also when the clock is no longer from_stored, and none is opened until it is.
    pub fn start(
        store: Store,
        clock: Clock,
        policy: RegionPolicy,
        trusts_clock: changes::Receiver<bool>,
        shutdown: CancellationToken,
    ) -> Self {
        let (wake_all, wakeups) = changes::channel(());
        let timer = DueTimer {
            store: store.clone(),
            clock: clock.clone(),
            wake_all,
        };
        let (stop, others) = (shutdown.clone(), store.clone());
        tokio::spawn(async move { stop.run_until_cancelled(timer.run()).await });
        let stop = shutdown.clone();
        tokio::spawn(async move { stop.run_until_cancelled(others.poll_change_feed()).await });
        let (stop, log) = (shutdown.clone(), store.clone());
        tokio::spawn(async move { stop.run_until_cancelled(log.run_wal_checkpointer()).await });
        Self {
            store,
            clock,
            policy,
            wakeups,
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
    /// [`StreamEnd::ClockWrong`].
    pub fn subscribe(&self, filter: Filter) -> Result<Subscription, StreamEnd> {
        self.require_clock()?;
        let (events, told) = backlog(&self.unread);
        tokio::spawn(subscription::SubscriptionTask::new(self.clone(), filter, events).run());
        Ok(Subscription {
            events: told,
            store: self.store.clone(),
        })
    }

    /// Watches a worklist: as it stands, then its changes.
    ///
    /// # Errors
    ///
    /// [`StreamEnd::ClockWrong`].
    pub fn watch(&self, query: Query) -> Result<Watch, StreamEnd> {
        self.require_clock()?;
        let (events, told) = backlog(&self.unread);
        tokio::spawn(watch::Watcher::new(self.clone(), query, events).run());
        Ok(told)
    }

    fn require_clock(&self) -> Result<(), StreamEnd> {
        match *self.trusts_clock.borrow()
            && !matches!(self.clock.reading(), ClockReading::InDoubt(_))
        {
            true => Ok(()),
            false => Err(StreamEnd::ClockWrong),
        }
    }

    /// Returns whether feeds and watches are to end.
    fn is_over(&self) -> bool {
        self.shutdown.is_cancelled() || !*self.trusts_clock.borrow()
    }

    /// Waits until feeds and watches are to end, and says why.
    async fn over(&self) -> StreamEnd {
        let mut trusts_clock = self.trusts_clock.clone();
        let distrusted = async {
            if trusts_clock
                .wait_for(|from_stored| !from_stored)
                .await
                .is_err()
            {
                // Nobody says so any more: the server has stopped.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.shutdown.cancelled() => StreamEnd::Draining,
            () = distrusted => StreamEnd::ClockWrong,
        }
    }

    /// Returns what a claim's decision may know, as of now. Nobody has called for it.
    fn context(&self) -> Context {
        Context {
            now: self.clock.now(),
            actor: String::new(),
            policy: self.policy,
            new_id: self.clock.new_id(),
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
pub type Watch = EventStream<WatchEvent>;

/// The events of one consumer.
pub struct Subscription {
    events: EventStream<Event>,
    store: Store,
}

impl Stream for Subscription {
    type Item = Result<Event, StreamEnd>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.events).poll_next(context)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let leases = self.events.close().filter_map(|event| match event {
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
        if let Err(error) = store.release_leases(leases).await {
            tracing::warn!(%error, "unread messages could not be given back");
        }
    });
}

/// Knows when the next message falls due.
struct DueTimer {
    store: Store,
    clock: Clock,
    wake_all: changes::Sender<()>,
}

impl DueTimer {
    async fn run(self) {
        let mut commits = self.store.commits();
        let mut polls = tokio::time::interval(POLL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next = self.next_after(self.clock.now()).await;
        loop {
            tokio::select! {
                commit = commits.recv() => match commit {
                    Ok(committed) if !committed.resync && !self.is_due(committed.claimable_at) => {
                        next = [next, committed.claimable_at].into_iter().flatten().min();
                    }
                    Ok(_) | Err(RecvError::Lagged(_)) => next = self.wake_all().await,
                    Err(RecvError::Closed) => return,
                },
                () = sleep_until(&self.clock, next) => next = self.wake_all().await,
                _ = polls.tick() => {
                    next = self.next_after(Instant::UNIX_EPOCH).await;
                    if self.is_due(next) {
                        next = self.wake_all().await;
                    }
                }
            }
        }
    }

    fn is_due(&self, at: Option<Instant>) -> bool {
        at.is_some_and(|at| at <= self.clock.now())
    }

    /// Wakes the feeds; gives the first instant after that at which something falls due.
    async fn wake_all(&self) -> Option<Instant> {
        // Read first: what falls due meanwhile is seen by the feeds, or is what comes next.
        let now = self.clock.now();
        self.wake_all.send_replace(());
        self.next_after(now).await
    }

    /// Returns the first instant after `since` at which something falls due; asks until the store answers.
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
