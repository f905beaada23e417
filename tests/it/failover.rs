//! Failover, for real: the primary is killed under load, its synchronous standby is promoted, and
//! the address that both replicas know leads to it from then on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use care_invitation::clock::Clock;
use care_invitation::contract::v1;
use care_invitation::contract::v1::stream_due_notifications_response::Event;
use care_invitation::store::Store;
use care_invitation::store::error::OpenError;
use care_invitation::store::schema::{Schema, migrate};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};
use tonic_types::StatusExt;

use crate::cluster::Cluster;
use crate::consumer::{everything, name, sent};
use crate::harness::within;
use crate::make::{self, at};
use crate::proxy::{Proxy, Way};
use crate::replica::Replica;

const NOW: &str = "2026-03-02T09:00:00Z";
/// Callers that create at once, on each replica.
const CALLERS: usize = 4;
/// What each of them creates.
const EACH: usize = 40;
/// All of it.
const TOTAL: usize = 2 * CALLERS * EACH;
/// How many are created before the primary is killed.
const BEFORE: usize = TOTAL / 4;
/// Longer than any lease of this test.
const LEASE_OVER: chrono::Duration = chrono::Duration::minutes(20);
/// How long the consumers may be about what is due, before leases that nobody knows of are over.
const QUIET: Duration = Duration::from_secs(3);
/// How long all of it may take.
const TEST_MAX: Duration = Duration::from_secs(60);

/// What consumers have been given, as an adapter writes it down: by name.
#[derive(Default)]
struct Journal {
    /// The tokens under which each message has come.
    given: HashMap<String, HashSet<Vec<u8>>>,
    /// Those whose acknowledgement was taken.
    acknowledged: HashSet<String>,
}

impl Journal {
    /// A message has come, which the rules must allow.
    fn give(&mut self, due: &v1::DueNotification) {
        let name = name(due);
        let acknowledged = self.acknowledged.contains(&name);
        assert!(!acknowledged, "{name} comes after it was acknowledged");
        let tokens = self.given.entry(name.clone()).or_default();
        assert!(tokens.is_empty() || due.possible_repeat, "{name} repeats");
        let fresh = tokens.insert(due.lease_token.clone().into());
        assert!(fresh, "{name} comes twice under one lease");
    }
}

/// The call that creates a request of which a message is due at once.
fn create(referral: &str) -> v1::CreateBookingRequestRequest {
    let mut form = make::wire_form("2026-04-06", "2026-06-12");
    form.origin = Some(make::wire_referral(referral));
    make::wire_create(form)
}

/// Hands over what is due. Connects again when the stream has ended, as it may while the database is away.
async fn consume(replica: Arc<Replica>, journal: watch::Sender<Journal>) {
    loop {
        let opened = replica
            .notifications()
            .stream_due_notifications(everything())
            .await;
        let mut events = opened.expect("a stream").into_inner();
        let end = loop {
            let said = match events.message().await {
                Ok(said) => said,
                Err(end) => break end,
            };
            let Some(Event::Due(due)) = said.expect("no end").event else {
                continue;
            };
            journal.send_modify(|journal| journal.give(&due));
            let lost = replica.acknowledge(vec![sent(&due)]).await;
            if lost.is_empty() {
                journal.send_modify(|journal| {
                    journal.acknowledged.insert(name(&due));
                });
            }
        };
        assert_eq!(end.code(), Code::Unavailable, "{end:?}");
    }
}

/// Creates requests one after another; gives the calls with the names that were answered.
async fn produce(
    replica: Arc<Replica>,
    caller: String,
    count: watch::Sender<usize>,
) -> Vec<(v1::CreateBookingRequestRequest, String)> {
    let mut created = Vec::new();
    for number in 0..EACH {
        let call = create(&format!("{caller}-{number}"));
        created.push((call.clone(), replica.create(call).await.name));
        count.send_modify(|count| *count += 1);
    }
    created
}

/// Waits until every message has been acknowledged. Leases of which the answer was lost run out.
async fn all_acknowledged(journal: &watch::Sender<Journal>, clock: &Clock) {
    let mut changes = journal.subscribe();
    while changes.borrow_and_update().acknowledged.len() < TOTAL {
        // As long as something comes, leases must not run out under those who work on them.
        if timeout(QUIET, changes.changed()).await.is_err() {
            clock.advance(clock.now() + LEASE_OVER).expect("forward");
        }
    }
}

#[tokio::test]
async fn a_killed_primary_costs_no_acknowledged_write_and_no_due_message() {
    let began = Instant::now();
    let Some(mut primary) = Cluster::primary().await else {
        return;
    };
    let standby = primary.standby().await;
    let proxy = Proxy::start(primary.address).await;
    let url = format!("postgres://postgres@{}/postgres", proxy.address);
    let clock = Clock::sandbox(at(NOW));
    let journal = watch::Sender::new(Journal::default());
    let count = watch::Sender::new(0);
    let (mut consumers, mut producers) = (JoinSet::new(), JoinSet::new());
    let mut replicas = Vec::new();
    for letter in ["A", "B"] {
        let replica = Arc::new(Replica::start(&url, clock.clone()).await);
        consumers.spawn(consume(replica.clone(), journal.clone()));
        for caller in 0..CALLERS {
            let caller = format!("{letter}{caller}");
            producers.spawn(produce(replica.clone(), caller, count.clone()));
        }
        replicas.push(replica);
    }

    let underway = count.subscribe().wait_for(|it| *it >= BEFORE).await.is_ok();
    assert!(underway, "the sender lives");
    primary.kill().await;
    let killed_after = *count.borrow();
    standby.promote().await;
    proxy.turn(Way::To(standby.address));
    let created = within(producers.join_all()).await.concat();
    assert!(killed_after < TOTAL, "the primary was killed under load");

    tokio::select! {
        ended = consumers.join_next() => panic!("a consumer has ended: {ended:?}"),
        all = timeout(TEST_MAX, all_acknowledged(&journal, &clock)) => all.expect("in time"),
    }
    let names: HashSet<_> = created.iter().map(|(_, name)| name.clone()).collect();
    assert_eq!(names.len(), TOTAL, "every create made a request of its own");
    for replica in &replicas {
        within(replica.healthy("", Serving)).await;
        for (call, name) in &created {
            let again = replica.create(call.clone()).await;
            assert_eq!(again.name, *name, "what was answered is there");
        }
    }
    let sql = "SELECT count(*)::text FROM booking_request";
    let kept = standby.ask(sql).await.expect("the standby answers");
    assert_eq!(kept, TOTAL.to_string(), "and nothing besides");
    let given: HashSet<_> = journal.borrow().given.keys().cloned().collect();
    let requests: HashSet<_> = given
        .iter()
        .filter_map(|name| Some(name.split_once("/notifications/")?.0.to_owned()))
        .collect();
    assert_eq!(requests, names, "a message for each request");
    assert_eq!(given.len(), TOTAL, "and one only");
    assert!(began.elapsed() < TEST_MAX, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_standby_makes_a_replica_not_ready_until_it_is_promoted() {
    let Some(mut primary) = Cluster::primary().await else {
        return;
    };
    let standby = primary.standby().await;
    let proxy = Proxy::start(primary.address).await;
    let url = format!("postgres://postgres@{}/postgres", proxy.address);
    let replica = Replica::start(&url, Clock::sandbox(at(NOW))).await;
    replica.healthy("", Serving).await;

    proxy.turn(Way::To(standby.address));
    replica.healthy("", NotServing).await;
    for schema in [Schema::Require, Schema::Migrate] {
        let refused = Store::open(&url, schema).await.err();
        assert!(matches!(refused, Some(OpenError::ReadOnly)), "{refused:?}");
    }
    let refused = migrate(&url).await;
    assert!(matches!(refused, Err(OpenError::ReadOnly)), "{refused:?}");

    primary.kill().await;
    standby.promote().await;
    replica.healthy("", Serving).await;
}

/// Time within which a replica serves again once new connections lead to the primary.
const BACK_MAX: Duration = Duration::from_secs(5);

#[tokio::test]
async fn connections_to_a_server_that_takes_no_writes_are_closed_though_they_stay_open() {
    let Some(old) = Cluster::primary().await else {
        return;
    };
    let new = old.standby().await;
    let proxy = Proxy::start(old.address).await;
    let url = format!("postgres://postgres@{}/postgres", proxy.address);
    let replica = Replica::start(&url, Clock::sandbox(at(NOW))).await;
    let before = replica.create(create("before")).await;
    replica.healthy("", Serving).await;
    // As a primary that has become a standby; nobody cuts the sessions that it has.
    let set = old
        .run("ALTER SYSTEM SET default_transaction_read_only = on")
        .await;
    assert!(set && old.run("SELECT pg_reload_conf()").await);
    replica.healthy("", NotServing).await;
    new.promote().await;

    proxy.turn(Way::NewTo(new.address));
    let turned = Instant::now();
    replica.healthy("", Serving).await;
    assert!(turned.elapsed() < BACK_MAX, "{:?}", turned.elapsed());
    let after = replica.create(create("after")).await;
    for name in [before.name, after.name] {
        let get = v1::GetBookingRequestRequest { name };
        let read = within(replica.requests().get_booking_request(get)).await;
        read.expect("reads go to the new primary too");
    }
}

#[tokio::test]
async fn a_server_that_lets_nobody_in_is_waited_for() {
    let Some(server) = Cluster::alone().await else {
        return;
    };
    assert!(server.run("CREATE ROLE care LOGIN SUPERUSER").await);
    let url = format!("postgres://care@{}/postgres", server.address);
    let is_out = "ALTER ROLE care NOLOGIN";
    let is_back = "ALTER ROLE care LOGIN";
    is_waited_for(&server, &url, is_out, is_back).await;
}

#[tokio::test]
async fn a_password_that_was_changed_is_waited_for() {
    let Some(server) = Cluster::asking_for_passwords().await else {
        return;
    };
    let role = "CREATE ROLE care LOGIN SUPERUSER PASSWORD 'before'";
    assert!(server.run(role).await);
    let url = |password| format!("postgres://care:{password}@{}/postgres", server.address);
    let refused = Store::open(&url("after"), Schema::Migrate).await.err();
    assert!(refused.is_some(), "it asks for the password");
    let is_out = "ALTER ROLE care PASSWORD 'after'";
    let is_back = "ALTER ROLE care PASSWORD 'before'";
    is_waited_for(&server, &url("before"), is_out, is_back).await;
}

/// A replica at `url` is let in no more, and lets itself in when it may.
async fn is_waited_for(server: &Cluster, url: &str, is_out: &'static str, is_back: &'static str) {
    let replica = Replica::start(url, Clock::sandbox(at(NOW))).await;
    replica.create(create("before")).await;
    assert!(server.run(is_out).await);
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'care'";
    assert!(server.run(end).await);
    replica.healthy("", NotServing).await;
    for number in 0..5 {
        let call = create(&format!("meanwhile-{number}"));
        let refused = within(replica.requests().create_booking_request(call)).await;
        let refused = refused.expect_err("nobody is let in");
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        assert!(refused.get_error_details().retry_info().is_some());
    }
    assert!(server.run(is_back).await);
    replica.healthy("", Serving).await;
    replica.create(create("after")).await;
}
