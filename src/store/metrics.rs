//! Metrics of the store: commits, and what becomes of notifications in them. Counted once a commit is durable, so that a
//! batch that is decided twice counts once.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::domain::booking_request::BookingRequest;
use crate::domain::notification::{DeliveryChannel, Notification, State};

/// Upper bounds of the buckets of batch sizes, in operations.
const OPERATIONS: [f64; 7] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0];
/// Upper bounds of the buckets of the time that a commit takes, in seconds.
const COMMIT_SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];
/// Upper bounds of the buckets of lateness, from a second to a day, in seconds.
const LATENESS_SECONDS: [f64; 9] = [
    1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0,
];

/// Name of the pool for reads by one statement.
pub const READERS: &str = "readers";
/// Name of the pool for reads in a transaction.
pub const SNAPSHOTS: &str = "snapshots";

/// The numbers that the store keeps. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    commit_operations: Histogram,
    commit_seconds: Histogram,
    notifications: Family<EndLabels, Counter>,
    lateness: Histogram,
    leases: Family<LeaseLabels, Counter>,
    exhausted: Family<PoolLabels, Counter>,
    unstored_entries: Gauge,
    lost_entries: Counter,
}

/// The end of a notification, and the channel through which it was to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    outcome: &'static str,
    channel: &'static str,
}

/// The beginning of a lease, or its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeaseLabels {
    event: &'static str,
}

/// A pool of connections as a label, as OpenTelemetry names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PoolLabels {
    /// Pool: readers, snapshots, writers.
    pub db_client_connection_pool_name: &'static str,
}

/// Returns the label of a channel.
pub fn channel_label(channel: DeliveryChannel) -> &'static str {
    match channel {
        DeliveryChannel::Inbox => "inbox",
        DeliveryChannel::Letter => "letter",
    }
}

/// The ends of notifications and leases in a write set.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    ends: Vec<EndLabels>,
    lateness: Vec<f64>,
    leases_given: u64,
    leases_expired: u64,
}

impl Tally {
    /// Adds a notification of a request as it was and as it is after the write. One that is new has become nothing yet: those
    /// of an older system were handed over there.
    pub fn add(&mut self, request: &BookingRequest, before: &Notification, after: &Notification) {
        let token = |it: &Notification| it.lease.as_ref().map(|lease| lease.token);
        if after.state == State::Leased && token(before) != token(after) {
            self.leases_given += 1;
        }
        if before.expired_lease_count < after.expired_lease_count {
            self.leases_expired += 1;
        }
        let Some(outcome) = end(request, before, after) else {
            return;
        };
        self.ends.push(EndLabels {
            outcome,
            channel: channel_label(after.channel),
        });
        if let Some(sent_at) = after.sent_at.filter(|_| after.state == State::Sent) {
            let late = (sent_at - after.due_at).as_seconds_f64();
            self.lateness.push(late.max(0.0));
        }
    }
}

/// Returns what has become of a notification by a write, if anything has.
fn end(
    request: &BookingRequest,
    before: &Notification,
    after: &Notification,
) -> Option<&'static str> {
    let was_claimable = before.claimable_at.is_some() && after.claimable_at.is_none();
    match after.state {
        // It leaves the index of what is due when a claim meets it after its period.
        State::Scheduled => (was_claimable && request.hold().is_none()).then_some("skipped"),
        State::Leased | State::Dispatching => None,
        state if state == before.state => None,
        State::Sent => Some("sent"),
        State::Cancelled => Some("cancelled"),
        State::Parked => Some("parked"),
    }
}

impl Default for StoreMetrics {
    fn default() -> Self {
        let metrics = Self {
            commit_operations: Histogram::new(OPERATIONS),
            commit_seconds: Histogram::new(COMMIT_SECONDS),
            notifications: Family::default(),
            lateness: Histogram::new(LATENESS_SECONDS),
            leases: Family::default(),
            exhausted: Family::default(),
            unstored_entries: Gauge::default(),
            lost_entries: Counter::default(),
        };
        metrics.begin();
        metrics
    }
}

impl StoreMetrics {
    /// Shows every series from the start: a series that comes with its first event has a rate from the second on.
    fn begin(&self) {
        for outcome in ["sent", "parked", "skipped", "cancelled"] {
            for channel in DeliveryChannel::ALL {
                let channel = channel_label(*channel);
                drop(
                    self.notifications
                        .get_or_create(&EndLabels { outcome, channel }),
                );
            }
        }
        for event in ["given", "expired"] {
            drop(self.leases.get_or_create(&LeaseLabels { event }));
        }
        for pool in [READERS, SNAPSHOTS] {
            let labels = PoolLabels {
                db_client_connection_pool_name: pool,
            };
            drop(self.exhausted.get_or_create(&labels));
        }
    }

    /// Counts a batch of so many operations that is committed.
    pub fn count_batch(&self, operations: usize) {
        self.commit_operations.observe(operations as f64);
    }

    /// Counts a commit, with what it has made of notifications.
    pub fn count_commit(&self, took: Duration, tally: &Tally) {
        self.commit_seconds.observe(took.as_secs_f64());
        for labels in &tally.ends {
            self.notifications.get_or_create(labels).inc();
        }
        for late in &tally.lateness {
            self.lateness.observe(*late);
        }
        let events = [
            ("given", tally.leases_given),
            ("expired", tally.leases_expired),
        ];
        for (event, count) in events {
            self.leases
                .get_or_create(&LeaseLabels { event })
                .inc_by(count);
        }
    }

    /// Counts a read that finds every connection of its pool in use.
    pub fn count_exhausted(&self, pool: &'static str) {
        let labels = PoolLabels {
            db_client_connection_pool_name: pool,
        };
        self.exhausted.get_or_create(&labels).inc();
    }

    /// Notes how many entries of the access log could not be stored yet.
    pub fn note_unstored_entries(&self, count: usize) {
        self.unstored_entries
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts entries of the access log that are lost.
    pub fn count_lost_entries(&self, count: usize) {
        self.lost_entries.inc_by(count as u64);
    }

    /// Returns the number of entries of the access log that are lost.
    #[cfg(test)]
    pub fn lost_entries(&self) -> u64 {
        self.lost_entries.get()
    }

    /// Registers the numbers under their names.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "care_invitation_commit_batch_operations",
            "Operations that were committed together",
            self.commit_operations.clone(),
        );
        registry.register(
            "care_invitation_commit_duration_seconds",
            "Time from the beginning of a commit's transaction to its end",
            self.commit_seconds.clone(),
        );
        registry.register(
            "care_invitation_notifications",
            "Notifications that were sent, parked, skipped or cancelled",
            self.notifications.clone(),
        );
        registry.register(
            "care_invitation_notification_lateness_seconds",
            "Time from the due time of a notification to its hand-over",
            self.lateness.clone(),
        );
        registry.register(
            "care_invitation_leases",
            "Leases that were given, and those that were found expired",
            self.leases.clone(),
        );
        registry.register(
            "care_invitation_database_pool_exhausted",
            "Reads that found every connection of their pool in use",
            self.exhausted.clone(),
        );
        registry.register(
            "care_invitation_access_log_unstored_entries",
            "Entries of the access log that could not be stored and wait for another attempt",
            self.unstored_entries.clone(),
        );
        registry.register(
            "care_invitation_access_log_lost_entries",
            "Entries of the access log that are lost",
            self.lost_entries.clone(),
        );
    }
}
