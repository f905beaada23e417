//! Waiting: due notifications find their consumers, one subscription a consumer.
//!
//! One timer a process knows when the next notification falls due and wakes the subscriptions of its care
//! unit and channel then; a commit that makes one due, here or on another replica, wakes them too. A
//! subscription that is woken claims as many notifications as it has room for. A router takes to each
//! subscription the changes of its leases, and to each watch and each stream of changes the changed requests of its care
//! units.

mod backlog;
mod change_stream;
mod due_timer;
mod flow_control;
pub mod metrics;
mod router;
mod shared;
mod subscription;
mod turns;
pub mod unsent;
mod watch;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{self, Poll, ready};
use std::time::Duration;

use backon::Retryable;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch as changes;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::{ClockReading, Instant};
use crate::domain::care_unit_settings::Policy;
use crate::domain::care_units::CareUnits;
use crate::domain::change_stream::{Cursor, RequestChange};
use crate::domain::notification::{DeliveryChannel, LeaseRef};
use crate::domain::request_key::RequestKey;
use crate::domain::worklist::Worklist;
use crate::domain::worklist::query::Query;
use crate::domain::{Context, RegionPolicy};
use crate::store::change_event::ChangeEvent;
use crate::store::error::Error;
use crate::store::{Store, retry};
use backlog::{EventStream, TaskEnd, TotalBytes, backlog};
use due_timer::DueTimer;
use metrics::DispatchMetrics;
use router::Router;
use shared::SharedRequests;
use unsent::UnsentLeases;

/// An event of a subscription.
#[derive(Clone, Debug)]
pub enum Event {
    /// A notification to deliver, under the lease that its record shows.
    Due {
        /// The request as it was when the notification was leased.
        record: Box<BookingRequest>,
        /// The lease.
        lease: LeaseRef,
        /// Span of the claim that gave it, as W3C's header has it; none where there are no traces.
        traceparent: Option<Arc<str>>,
    },
    /// A leased notification that is revoked.
    Revoked {
        /// The request.
        request: RequestKey,
        /// The notification.
        notification: Uuid,
    },
    /// A sign of life.
    Heartbeat,
}

/// Reason for which the server ended a stream.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StreamEnd {
    /// The server is shutting down.
    #[error("the server is stopping")]
    Draining,
    /// The clock cannot be trusted, so that nothing is leased by it.
    #[error("this replica's clock cannot be trusted now")]
    ClockWrong,
    /// The consumer reads too slowly.
    #[error("the stream is read too slowly")]
    TooSlow,
    /// The store failed in a way that another attempt does not mend.
    #[error(transparent)]
    Store(#[from] Error),
}

/// The notifications that a consumer subscribes to, and the terms.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Channels that the consumer delivers through; at least one.
    pub channels: Vec<DeliveryChannel>,
    /// Care units.
    pub care_units: CareUnits,
    /// Maximum notifications that are leased and not acknowledged.
    pub outstanding_max: usize,
    /// Duration of each lease.
    pub lease_duration: chrono::Duration,
    /// True to end when nothing is due, instead of waiting.
    pub until_idle: bool,
    /// True if the consumer has promised to hand nothing over without an authorization.
    pub always_authorizes: bool,
    /// True if the consumer gets nothing of patients with protected identity.
    pub hides_protected: bool,
}

/// The changes that a stream is to tell, and the terms.
#[derive(Clone, Debug)]
pub struct ChangeFilter {
    /// Care units.
    pub care_units: CareUnits,
    /// Cursor after which it begins; none to begin now.
    pub after: Option<Cursor>,
    /// True to end when everything has been told, instead of waiting.
    pub until_idle: bool,
}

/// Opens subscriptions, watches and streams of changes. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct Dispatch {
    store: Store,
    clock: Clock,
    policy: RegionPolicy,
    /// Longest silence of a subscription or a watch, after which a heartbeat is sent.
    heartbeat: Duration,
    router: Router,
    unread: TotalBytes,
    shared: SharedRequests,
    trusts_clock: changes::Receiver<bool>,
    metrics: DispatchMetrics,
    shutdown: CancellationToken,
}

impl Dispatch {
    /// Starts the timer, the poll of the change feed, the WAL checkpointer and what follows the settings of care
    /// units. They and every subscription and watch end when `shutdown` is cancelled. Subscriptions and watches end also when
    /// the clock is no longer trusted, and none is opened until it is.
    pub fn start(
        store: Store,
        clock: Clock,
        policy: RegionPolicy,
        heartbeat: Duration,
        trusts_clock: changes::Receiver<bool>,
        shutdown: CancellationToken,
    ) -> Self {
        let router = Router::default();
        let timer = DueTimer::new(store.clone(), clock.clone(), router.clone());
        let routing = route_commits(store.commits(), router.clone());
        let stop = shutdown.clone();
        tokio::spawn(async move { stop.run_until_cancelled(routing).await });
        let (stop, feed) = (shutdown.clone(), store.clone());
        tokio::spawn(async move { stop.run_until_cancelled(timer.run()).await });
        let stop = shutdown.clone();
        let sandbox = clock.clone();
        let sandbox = move || sandbox.is_sandbox().then(|| sandbox.now());
        let feed = async move { feed.poll_change_feed(sandbox).await };
        tokio::spawn(async move { stop.run_until_cancelled(feed).await });
        let (stop, wal) = (shutdown.clone(), store.clone());
        tokio::spawn(async move { stop.run_until_cancelled(wal.run_wal_checkpointer()).await });
        let (stop, pages) = (shutdown.clone(), store.clone());
        tokio::spawn(async move { stop.run_until_cancelled(pages.run_page_check()).await });
        let dispatch = Self {
            store,
            clock,
            policy,
            heartbeat,
            router,
            unread: TotalBytes::default(),
            shared: SharedRequests::default(),
            trusts_clock,
            metrics: DispatchMetrics::default(),
            shutdown: shutdown.clone(),
        };
        let (settings, by) = (dispatch.store.clone(), dispatch.clone());
        let follow = async move { settings.follow_settings(move || by.context()).await };
        tokio::spawn(async move { shutdown.run_until_cancelled(follow).await });
        dispatch
    }

    /// Returns the numbers of subscriptions.
    pub fn metrics(&self) -> &DispatchMetrics {
        &self.metrics
    }

    /// Opens a subscription. Leases on notifications that its consumer has not read are released when it
    /// is dropped.
    ///
    /// # Errors
    ///
    /// [`StreamEnd::ClockWrong`].
    pub fn subscribe(&self, filter: Filter) -> Result<Subscription, StreamEnd> {
        self.require_trusted_clock()?;
        let (sender, events) = backlog(&self.unread);
        tokio::spawn(subscription::SubscriptionTask::new(self.clone(), filter, sender).run());
        Ok(Subscription {
            events,
            unsent: Weak::new(),
            store: self.store.clone(),
            clock: self.clock.clone(),
        })
    }

    /// Watches worklists: yields their requests first, then their changes.
    ///
    /// # Errors
    ///
    /// [`StreamEnd::ClockWrong`].
    pub fn watch(&self, query: Query) -> Result<Watch, StreamEnd> {
        self.require_trusted_clock()?;
        let (sender, events) = backlog(&self.unread);
        tokio::spawn(watch::Watcher::new(self.clone(), query, sender).run());
        Ok(events)
    }

    /// Streams what changes in requests: what has happened since a cursor first, then what happens.
    ///
    /// # Errors
    ///
    /// [`StreamEnd::ClockWrong`].
    pub fn changes(&self, filter: ChangeFilter) -> Result<ChangeStream, StreamEnd> {
        self.require_trusted_clock()?;
        let (sender, events) = backlog(&self.unread);
        tokio::spawn(change_stream::Teller::new(self.clone(), filter, sender).run());
        Ok(events)
    }

    fn require_trusted_clock(&self) -> Result<(), StreamEnd> {
        match *self.trusts_clock.borrow()
            && !matches!(self.clock.reading(), ClockReading::InDoubt(_))
        {
            true => Ok(()),
            false => Err(StreamEnd::ClockWrong),
        }
    }

    /// Returns whether subscriptions and watches are to end.
    fn must_end(&self) -> bool {
        self.shutdown.is_cancelled() || !*self.trusts_clock.borrow()
    }

    /// Runs the task behind a watch or a stream of changes until it ends or has to, and returns the reason.
    async fn until_end(
        &self,
        task: impl Future<Output = Result<Infallible, TaskEnd>>,
    ) -> Option<StreamEnd> {
        tokio::select! {
            biased;
            end = self.end_reason() => Some(end),
            ended = task => match ended {
                Err(TaskEnd(end)) => end,
                Ok(never) => match never {},
            },
        }
    }

    /// Waits until subscriptions and watches are to end, and returns the reason.
    async fn end_reason(&self) -> StreamEnd {
        let mut trusts_clock = self.trusts_clock.clone();
        let distrusted = async {
            if trusts_clock.wait_for(|trusted| !trusted).await.is_err() {
                // The sender is gone: the server has stopped.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.shutdown.cancelled() => StreamEnd::Draining,
            () = distrusted => StreamEnd::ClockWrong,
        }
    }

    /// Returns the context of a claim's decision, as of now. Its actor is empty: no caller asked for it.
    fn context(&self) -> Context {
        Context {
            now: self.clock.now(),
            actor: String::new(),
            policy: Policy {
                region: self.policy,
                units: self.store.settings(),
            },
        }
    }
}

/// An event of a watch.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// A request is on these of the lists, or has changed while on them.
    Upserted(Arc<BookingRequest>, Vec<Worklist>),
    /// A request has left all of the lists.
    Removed(RequestKey),
    /// The lists have been sent whole; changes follow.
    SnapshotComplete,
    /// A sign of life.
    Heartbeat,
}

/// The events of one watcher.
pub type Watch = EventStream<WatchEvent>;

/// Changes that are told together.
#[derive(Clone, Debug)]
pub struct Changes {
    /// Changes in their order; none when there is only a cursor to tell.
    pub changes: Vec<RequestChange>,
    /// Cursor after them.
    pub cursor: Cursor,
}

/// The changes of one stream.
pub type ChangeStream = EventStream<Changes>;

/// The events of one consumer.
pub struct Subscription {
    events: EventStream<Event>,
    /// Leases on what was taken and has not been sent, if the sender keeps them.
    unsent: Weak<UnsentLeases>,
    store: Store,
    clock: Clock,
}

impl Subscription {
    /// Returns the leases on what is taken from now on and is not sent, for the sender to keep.
    pub fn keep_unsent(&mut self) -> Arc<UnsentLeases> {
        let unsent = Arc::new(UnsentLeases::new(self.store.clone()));
        self.unsent = Arc::downgrade(&unsent);
        unsent
    }
}

impl Stream for Subscription {
    type Item = Result<Event, StreamEnd>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Self::Item>> {
        loop {
            let polled = ready!(Pin::new(&mut self.events).poll_next(context));
            if let Some(Ok(Event::Due { record, lease, .. })) = &polled {
                let expires_at = expiry(record, lease);
                if expires_at.is_some_and(|at| at <= self.clock.now()) {
                    // Its commit was answered late, or it has waited for a slow reader: another consumer may have it by
                    // now, and what the record says of repeats is not true any more.
                    continue;
                }
                if let Some(unsent) = self.unsent.upgrade() {
                    unsent.add(lease.clone(), expires_at);
                }
            }
            return Poll::Ready(polled);
        }
    }
}

/// Returns the end of a lease as its record shows it.
fn expiry(record: &BookingRequest, lease: &LeaseRef) -> Option<Instant> {
    let notification = record.notification(lease.notification);
    notification
        .and_then(|it| it.lease.as_ref())
        .map(|it| it.expires_at)
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let unread = self.events.close().filter_map(|event| match event {
            Event::Due { lease, .. } => Some(lease),
            Event::Revoked { .. } | Event::Heartbeat => None,
        });
        release_undelivered(&self.store, unread.collect());
    }
}

/// Asks the store until it answers, or reports an error that another attempt would meet too.
async fn ask<T, F>(question: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    question
        .retry(retry::ANSWER)
        .when(Error::is_temporary)
        .await
}

/// Releases leases that no consumer has seen. If that fails for too long they expire by themselves.
fn release_undelivered(store: &Store, leases: Vec<LeaseRef>) {
    if leases.is_empty() {
        return;
    }
    let store = store.clone();
    tokio::spawn(async move {
        let release = || store.release_leases(leases.clone());
        let released = release.retry(retry::WHILE_LEASED);
        if let Err(error) = released.when(Error::is_temporary).await {
            tracing::warn!(%error, "releasing undelivered leases failed");
        }
    });
}

/// Releases leases that no consumer has seen, and waits until that is stored.
async fn release(store: &Store, leases: Vec<LeaseRef>) {
    if let Err(error) = store.release_leases(leases).await {
        tracing::warn!(%error, "releasing undelivered leases failed");
    }
}

/// Routes the change events of all commits, until there are no more.
async fn route_commits(mut commits: broadcast::Receiver<Arc<ChangeEvent>>, router: Router) {
    loop {
        match commits.recv().await {
            Ok(event) => router.route(&event),
            Err(RecvError::Lagged(_)) => router.resync(),
            Err(RecvError::Closed) => return,
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
