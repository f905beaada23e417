//! Numbers that are worked out when somebody looks, under their names.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::contents::Seen;
use crate::domain::worklist::Worklist;
use crate::readiness::Readiness;
use crate::store::metrics::channel_label;
use crate::store::observe::State;

type Real = Gauge<f64, AtomicU64>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Version {
    version: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfChannel {
    channel: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfQueue {
    queue: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfWorklist {
    worklist: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPool {
    db_client_connection_pool_name: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfConnections {
    db_client_connection_pool_name: &'static str,
    db_client_connection_state: &'static str,
}

/// Registers which build it is.
pub fn register_build(registry: &mut Registry) {
    let build: Family<Version, Gauge> = Family::default();
    let version = env!("CARGO_PKG_VERSION");
    build.get_or_create(&Version { version }).set(1);
    let help = "1, with the version of the program";
    registry.register("care_invitation_build_info", help, build);
}

/// Adds whether the replica is ready, and if not why.
pub fn add_readiness(registry: &mut Registry, readiness: Readiness) {
    let states: Family<OfState, Gauge> = Family::default();
    for state in Readiness::ALL {
        let label = OfState {
            state: readiness_label(state),
        };
        states
            .get_or_create(&label)
            .set(i64::from(state == readiness));
    }
    let help = "1 for the state of readiness that the replica is in, 0 for the others";
    registry.register("care_invitation_readiness", help, states);
    let is_up = readiness != Readiness::DatabaseUnavailable;
    let help = "1 while the database answers, 0 otherwise";
    gauge(
        registry,
        "care_invitation_database_up",
        help,
        i64::from(is_up),
    );
}

fn readiness_label(state: Readiness) -> &'static str {
    match state {
        Readiness::Ready => "ready",
        Readiness::DatabaseUnavailable => "database_unavailable",
        Readiness::ReadOnly => "read_only",
        Readiness::ClockStepped => "clock_stepped",
        Readiness::ClockSkew => "clock_skew",
        Readiness::KeysMissing => "keys_missing",
    }
}

/// Adds the connections and queues of this process.
pub fn add_state(registry: &mut Registry, state: &State) {
    add_pools(registry, state);
    let queues: Family<OfQueue, Gauge> = Family::default();
    for (queue, waiting) in &state.queues {
        queues
            .get_or_create(&OfQueue { queue })
            .set(count(*waiting));
    }
    let help = "Operations that wait for a commit";
    registry.register("care_invitation_commit_queue_operations", help, queues);
    gauge(
        registry,
        "care_invitation_access_log_waiting_calls",
        "Calls whose entries of the access log wait to be stored",
        count(state.access_log_waiting),
    );
    if let Some(lag) = state.change_feed_lag {
        real(
            registry,
            "care_invitation_change_feed_lag_seconds",
            "Time since the commits of other replicas were last looked at",
            lag,
        );
    }
    if let Some(bytes) = state.wal_bytes {
        gauge(
            registry,
            "care_invitation_sqlite_wal_bytes",
            "Size of the write-ahead log of SQLite",
            i64::try_from(bytes).unwrap_or(i64::MAX),
        );
    }
}

/// Adds the end of the server's certificate, in seconds since 1970.
pub fn add_certificate(registry: &mut Registry, end: i64) {
    gauge(
        registry,
        "care_invitation_certificate_expiry_timestamp_seconds",
        "End of the certificate of the server or of one beside it, in seconds since 1970",
        end,
    );
}

fn add_pools(registry: &mut Registry, state: &State) {
    let connections: Family<OfConnections, Gauge> = Family::default();
    let max: Family<OfPool, Gauge> = Family::default();
    for pool in &state.pools {
        let name = pool.name;
        for (state, number) in [("used", pool.busy), ("idle", pool.idle)] {
            let labels = OfConnections {
                db_client_connection_pool_name: name,
                db_client_connection_state: state,
            };
            connections.get_or_create(&labels).set(count(number));
        }
        let labels = OfPool {
            db_client_connection_pool_name: name,
        };
        max.get_or_create(&labels).set(count(pool.max));
    }
    let help = "Open connections to the database that read";
    registry.register("db_client_connections", help, connections);
    let help = "Maximum open connections of the pool";
    registry.register("db_client_connection_max", help, max);
}

/// Adds what the database has said.
pub fn add_contents(registry: &mut Registry, seen: &Seen) {
    let contents = &seen.contents;
    add_waiting(registry, seen);
    gauge(
        registry,
        "care_invitation_due_protected_notifications",
        "Notifications among those that are due for patients with protected identity",
        contents.waiting_protected,
    );
    let leased: Family<OfState, Gauge> = Family::default();
    let states = [
        ("leased", contents.leased),
        ("dispatching", contents.dispatching),
    ];
    for (state, number) in states {
        leased.get_or_create(&OfState { state }).set(number);
    }
    let help =
        "Notifications that consumers have leased, and those that they are authorized to hand over";
    registry.register("care_invitation_leased_notifications", help, leased);
    let lists: Family<OfWorklist, Gauge> = Family::default();
    for (list, number) in &contents.worklists {
        if let Some(worklist) = worklist_label(*list) {
            lists.get_or_create(&OfWorklist { worklist }).set(*number);
        }
    }
    let help = "Requests on a worklist, of all care units together";
    registry.register("care_invitation_worklist_requests", help, lists);
    real(
        registry,
        "care_invitation_contents_age_seconds",
        "Time since the database was asked for what is due, leased and on worklists",
        seen.at.elapsed().as_secs_f64(),
    );
}

fn add_waiting(registry: &mut Registry, seen: &Seen) {
    let due: Family<OfChannel, Gauge> = Family::default();
    let age: Family<OfChannel, Real> = Family::default();
    for waiting in &seen.contents.waiting {
        let labels = OfChannel {
            channel: channel_label(waiting.channel),
        };
        due.get_or_create(&labels).set(waiting.count);
        let waited = waiting
            .since
            .map_or(0.0, |since| (seen.now - since).as_seconds_f64());
        age.get_or_create(&labels).set(waited.max(0.0));
    }
    let help =
        "Notifications that are due and wait for a consumer, without those of paused care units";
    registry.register("care_invitation_due_notifications", help, due);
    let help = "Time for which the first of them has waited; 0 when there are none";
    registry.register("care_invitation_due_oldest_age_seconds", help, age);
}

/// Returns the label of a list; none for the one that stands alone.
fn worklist_label(list: Worklist) -> Option<&'static str> {
    match list {
        Worklist::BookingRequests => Some("booking_requests"),
        Worklist::CareInvitations => Some("care_invitations"),
        Worklist::SlotIssues => Some("slot_issues"),
        Worklist::ManualHandling => Some("manual_handling"),
        Worklist::FollowUp => Some("follow_up"),
        Worklist::Declined => Some("declined"),
        Worklist::GuaranteeAtRisk => Some("guarantee_at_risk"),
        Worklist::AllInvitations => Some("all_invitations"),
        Worklist::AllBookingRequests => Some("all_booking_requests"),
        Worklist::All => None,
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn real(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Real::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
