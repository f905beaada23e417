//! How PostgreSQL, with a million rows, carries out the statements behind the calls that come often:
//! never by reading a table from end to end.
//!
//! The plans are those of the service's own statements. The server's `auto_explain` hands each plan
//! to the connection that ran it, as a notice, which sqlx passes on as an event. Whether a prepared
//! statement is planned anew for its values or once for all is PostgreSQL's choice, made after some
//! executions, so both are read.

mod access_log;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use care_invitation::domain::booking_request::BookingRequest;
use care_invitation::domain::booking_request::form::Form;
use care_invitation::domain::booking_request::replace_personal_id::{
    ReplacePersonalId, Replacement,
};
use care_invitation::domain::booking_request::state::EffectiveState;
use care_invitation::domain::calendar::Instant;
use care_invitation::domain::care_invitation::HoldReason;
use care_invitation::domain::care_units::{CareUnits, Units};
use care_invitation::domain::change_stream::Place;
use care_invitation::domain::hsa_id::HsaId;
use care_invitation::domain::notification::DeliveryChannel;
use care_invitation::domain::notification::DisplayState;
use care_invitation::domain::notification::LeaseRef;
use care_invitation::domain::notification::State;
use care_invitation::domain::notification::list::NotificationFilter;
use care_invitation::domain::patient::{PersonalId, PersonalIdType, Protection};
use care_invitation::domain::request_key::RequestKey;
use care_invitation::domain::visible::Visible;
use care_invitation::domain::worklist::Worklist;
use care_invitation::domain::worklist::query::{OrderBy, Query};
use care_invitation::store::Store;
use care_invitation::store::bucket::BUCKETS;
use care_invitation::store::notification::ClaimRequest;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use uuid::Uuid;

use crate::backend::{Backend, connect};
use crate::make;
use crate::make::at;
use crate::store_fixtures;
use crate::store_fixtures::{call, creation, referral, sent};

const NOW: &str = "2026-03-02T09:00:00Z";
/// What the tables hold: requests, each with its creation in the history, spread over the units,
/// and two or three messages for nine of ten.
const REQUESTS: usize = 300_000;
const UNITS: usize = 500;
/// The most pages that a statement of a claim looks at which names a care unit.
const CLAIM_PAGES_MAX: u64 = 200;
/// The most pages of 8 KiB that a statement may look at: those of five units' requests, 600 each and
/// few to a page, or two for each of the 1,800 requests of a list that is sorted, and some more. The
/// tables have 54,000.
const PAGES_MAX: u64 = 4_500;
/// The most that a statement looks at which goes from each of the units to the next along the due index, some for each.
const EACH_UNIT_PAGES_MAX: u64 = 30 * UNITS as u64;

#[tokio::test]
async fn no_call_that_comes_often_reads_a_table_from_end_to_end() {
    let Some((backend, database)) = filled(&FILLED, &[IDEMPOTENCY_KEYS.into()]).await else {
        return;
    };
    // In a unit each, for what the first has claimed is not due again.
    for (planning, unit) in [("force_custom_plan", 7), ("force_generic_plan", 8)] {
        let (replica, plans, _guard) = observe(&backend, &database, planning).await;
        drive(&replica.store, &plans, planning, unit).await;
        replica.store.close().await;
    }
}

/// Makes every call that comes often and reads the plans behind it.
async fn drive(store: &Store, plans: &Plans, planning: &str, number: usize) {
    let check = |call: &str, tables: &[&str]| plans.check(&format!("{call}, {planning}"), tables);
    let (now, unit) = (at(NOW), unit(number));

    let created = insert(store, form(Uuid::new_v4())).await;
    let written = [
        "booking_request",
        "history",
        "notification",
        "idempotency_key",
    ];
    check("create", &written);

    let key = invited(number);
    let record = store.get(&key).await.expect("read");
    check("get", &["booking_request", "notification"]);
    assert_eq!(record.key, key);

    // All requests are listed of a subject alone.
    let lists = Worklist::ALL.iter();
    for &worklist in lists.filter(|it| **it != Worklist::All) {
        for &order_by in OrderBy::ALL {
            for care_units in [vec![unit.clone()], (0..5).map(self::unit).collect()] {
                let used = list(store, query(worklist, order_by, care_units), now).await;
                check(&format!("list {worklist:?} by {order_by:?}"), used);
            }
        }
    }

    count(store, plans, number, now, &check).await;
    lists_together(store, number, now, &check).await;
    everywhere(store, number, now, &check).await;

    store.history(&key, 0, 50).await.expect("read");
    check("history", &["booking_request", "history"]);
    changes(store, &key, now, &check).await;
    notifications(store, vec![unit.clone()], now).await;
    check("messages", &["booking_request", "notification"]);

    for care_units in [
        CareUnits::Every,
        CareUnits::These(vec![unit]),
        of_organisation(),
    ] {
        let leases = claim(store, care_units.clone()).await;
        assert!(!leases.is_empty(), "nothing was due in {care_units:?}");
        if let CareUnits::These(_) = care_units {
            plans.check_pages("notification_due", CLAIM_PAGES_MAX);
        }
        check(
            "claim",
            &["booking_request", "notification", "lost_interval"],
        );
        acknowledge(store, leases, &check).await;
    }
    for care_units in [CareUnits::Every, of_organisation(), of_many()] {
        let first = store.first_claimable(care_units, now).await.expect("read");
        assert!(first.len() >= 200 && first.values().all(|at| now < *at));
        assert!(plans.read_indexes_only(), "what is due next reads rows");
        check("next claimable", &["notification"]);
    }

    book(store, created.key).await;
    check("book", &["booking_request", "history", "notification"]);
    let personal_id = PersonalId::parse(PersonalIdType::Personnummer, "", "198003012385");
    let personal_id = personal_id.expect("a good number");
    for seen in [CareUnits::Every, of_organisation(), of_many()] {
        let seen = Visible {
            hides_protected: seen != CareUnits::Every,
            care_units: seen,
        };
        let page = store.patient_requests(&personal_id, &seen, now, None, 2);
        let page = page.await.expect("listed");
        if let Some((last, _)) = page.last() {
            let next = store.patient_requests(&personal_id, &seen, now, Some(last), 2);
            next.await.expect("listed");
        }
        check("patient's list", &["booking_request", "notification"]);
        let changed = store.update_patient(call(), None, seen, personal_id.clone(), |_| None);
        changed.await.expect("nothing to change");
        check("update patient", &["booking_request", "history"]);
    }
    let new = PersonalId::parse(PersonalIdType::Personnummer, "", "191212121212");
    let command = ReplacePersonalId {
        old: personal_id,
        new: new.expect("a good number"),
    };
    let nothing = |_: &[&BookingRequest], _: &[RequestKey]| Replacement::default();
    let moved = store.replace_personal_id(call(), &command, make::everything(), nothing);
    moved.await.expect("nothing to move");
    check("replace personal id", &["booking_request", "history"]);

    tokio::select! {
        () = store.poll_change_feed(|| None) => {}
        () = plans.arrive_over("change_event") => check("follow others", &[]),
    }
}

/// Two pages of a list.
/// Two pages. The tables that they use: messages are read where requests were found.
async fn list(store: &Store, query: Query, now: Instant) -> &'static [&'static str] {
    let page = store
        .list_worklist(&query, now, None, 50)
        .await
        .expect("listed");
    if let Some((last, _)) = page.last() {
        let next = store.list_worklist(&query, now, Some(last), 50).await;
        next.expect("listed");
    }
    match page.is_empty() {
        true => &["booking_request"],
        false => &["booking_request", "notification"],
    }
}

/// Counts, of which those without filters read nothing but indexes, and what time moves.
async fn count(
    store: &Store,
    plans: &Plans,
    number: usize,
    now: Instant,
    check: &impl Fn(&str, &[&str]),
) {
    let unit = CareUnits::These(vec![unit(number)]);
    let lists = Worklist::ALL.iter().copied();
    let all = lists.filter(|it| *it != Worklist::All).collect();
    let query = Query::of(all, unit.clone());
    let counts = store.counts(&query, now).await.expect("counted");
    assert!(!counts.is_empty());
    assert!(plans.read_indexes_only(), "counts read rows");
    check("count", &["booking_request"]);
    let filtered = Query {
        states: vec![EffectiveState::Invited],
        ..query.clone()
    };
    store.counts(&filtered, now).await.expect("counted");
    check("count some", &["booking_request"]);
    for list in Worklist::ALL {
        let query = Query::of(vec![*list], unit.clone());
        store.total(&query, now).await.expect("counted");
        check(&format!("total of {list:?}"), &["booking_request"]);
    }
    let since = now - chrono::Duration::seconds(2);
    store
        .timed_transitions(&query, since, now)
        .await
        .expect("read");
    check("moved by time", &["booking_request"]);
    store.next_transition_at(&query, now).await.expect("read");
    check("next move", &["booking_request"]);
}

/// Several lists as one: a board, and with filters.
async fn lists_together(
    store: &Store,
    number: usize,
    now: Instant,
    check: &impl Fn(&str, &[&str]),
) {
    let board = &Worklist::ALL[..7];
    for (what, lists) in [("board", board), ("some", &board[..2])] {
        for units in [1, 5, 50] {
            let named = (number..number + units).map(unit).collect();
            let query = Query::of(lists.to_vec(), CareUnits::These(named));
            let used = list(store, query.clone(), now).await;
            check(&format!("list {what}"), used);
            if units > 5 {
                // A filter looks at every request of the units.
                continue;
            }
            let held = Query {
                hold_reasons: vec![HoldReason::CallBack],
                states: vec![EffectiveState::Invited, EffectiveState::NoResponse],
                ..query
            };
            list(store, held, now).await;
            check(&format!("list {what}, held"), &["booking_request"]);
        }
    }
}

/// All of an organisation, as a caller may see them.
fn of_organisation() -> CareUnits {
    CareUnits::Within(Arc::new(Units {
        organisations: BTreeSet::from(["SE2321000131-".to_owned()]),
        ..Units::default()
    }))
}

/// Many, as a caller may see them.
fn of_many() -> CareUnits {
    CareUnits::Within(Arc::new(Units {
        named: (0..300).map(unit).collect(),
        ..Units::default()
    }))
}

/// Every care unit that the caller may see: of one subject, or of manual handling.
async fn everywhere(store: &Store, number: usize, now: Instant, check: &impl Fn(&str, &[&str])) {
    for seen in [CareUnits::Every, of_organisation(), of_many()] {
        everywhere_in(store, &seen, number, now, check).await;
    }
}

async fn everywhere_in(
    store: &Store,
    seen: &CareUnits,
    number: usize,
    now: Instant,
    check: &impl Fn(&str, &[&str]),
) {
    let every = |lists| Query {
        hides_protected: true,
        ..Query::of(lists, seen.clone())
    };
    let number = format!("{number:012}");
    let personal_id = PersonalId::from_stored(PersonalIdType::Personnummer, None, number.clone());
    let of_patient = Query {
        personal_id: Some(personal_id),
        ..every(vec![Worklist::All])
    };
    let of_referral = Query {
        referral_id: Some(format!("R-{number}")),
        ..every(vec![Worklist::All])
    };
    let of_visit = Query {
        visit_id: Some(format!("V-{number}")),
        ..every(vec![Worklist::AllInvitations])
    };
    let of_booking = Query {
        booking_id: Some(format!("B-{number}")),
        ..every(vec![Worklist::All])
    };
    let manual_handling = every(vec![Worklist::ManualHandling]);
    for (what, query) in [
        ("patient", of_patient),
        ("referral", of_referral),
        ("visit", of_visit),
        ("booking", of_booking),
        ("manual handling", manual_handling),
    ] {
        for &order_by in OrderBy::ALL {
            let query = Query {
                order_by,
                ..query.clone()
            };
            list(store, query.clone(), now).await;
            check(&format!("list by {what}"), &["booking_request"]);
        }
        store.counts(&query, now).await.expect("counted");
        store.total(&query, now).await.expect("counted");
        check(&format!("count by {what}"), &["booking_request"]);
        let since = now - chrono::Duration::seconds(2);
        let moved = store.timed_transitions(&query, since, now).await;
        moved.expect("read");
        store.next_transition_at(&query, now).await.expect("read");
        check(&format!("moves by {what}"), &["booking_request"]);
    }
    let first = store.care_units(seen, None, 50).await.expect("read");
    assert_eq!(first.len(), 50);
    let next = store
        .care_units(seen, first.last(), 50)
        .await
        .expect("read");
    assert_eq!(next.len(), 50);
    check("care units", &["booking_request"]);
}

/// Two pages of what was recorded in some days and of what time changes in them, of some care units or of all, and the entries
/// of a request.
async fn changes(store: &Store, key: &RequestKey, now: Instant, check: &impl Fn(&str, &[&str])) {
    let one = CareUnits::These(vec![key.care_unit.clone()]);
    for care_units in [one, CareUnits::Every, of_organisation(), of_many()] {
        let until = now + chrono::Duration::days(2);
        let mut after = Place::before(now - chrono::Duration::days(2));
        for _ in 0..2 {
            let page = store.entries_between(&care_units, after, until, 2).await;
            let page = page.expect("read");
            assert_eq!(page.items.len(), 2, "{care_units:?}");
            after = page.end.expect("more");
        }
        check("changes", &["history"]);
        let mut after = Place::before(now + chrono::Duration::days(60));
        for _ in 0..2 {
            let until = after.at + chrono::Duration::days(2);
            let page = store.transitions_between(&care_units, after, until, 2);
            after = page.await.expect("read").end.unwrap_or(after);
        }
        check("changes by time", &["booking_request"]);
    }
    store
        .entries_of(std::slice::from_ref(key), now)
        .await
        .expect("read");
    check("changes of a request", &["history"]);
}

/// Two pages of messages that may still go out.
async fn notifications(store: &Store, care_units: Vec<HsaId>, now: Instant) {
    let states = [
        State::Scheduled,
        State::Leased,
        State::Dispatching,
        State::Parked,
    ];
    let filter = NotificationFilter {
        care_units,
        states: states.map(DisplayState::Planned).to_vec(),
        channels: DeliveryChannel::ALL.to_vec(),
        due_before: None,
    };
    let page = store.list_notifications(&filter, now, None, 50).await;
    let page = page.expect("listed");
    let (last, _) = page.last().expect("some wait");
    let next = store.list_notifications(&filter, now, Some(last), 50).await;
    next.expect("listed");
}

async fn claim(store: &Store, care_units: CareUnits) -> Vec<LeaseRef> {
    let claim = ClaimRequest {
        channels: DeliveryChannel::ALL.to_vec(),
        care_units,
        tokens: (0..6).map(|_| Uuid::new_v4()).collect(),
        lease_duration: chrono::Duration::seconds(60),
        always_authorizes: false,
        hides_protected: true,
    };
    let claimed = store.claim(claim, move || make::context(at(NOW))).await;
    let leased = claimed.expect("claimed").leased;
    leased.into_iter().map(|(_, lease)| lease).collect()
}

/// Gives one lease back and answers to the others.
async fn acknowledge(store: &Store, mut leases: Vec<LeaseRef>, check: &impl Fn(&str, &[&str])) {
    let written = ["booking_request", "notification"];
    let unseen = leases.pop().into_iter().collect();
    store.release_leases(unseen).await.expect("given back");
    check("give back", &written);
    let known: Vec<_> = leases.iter().map(|it| (it.clone(), at(NOW))).collect();
    store.lease_changes(&known).await.expect("read");
    check("lease_changes", &written);
    let context = || make::context(at(NOW));
    let authorized = store.authorize(leases.clone(), false, context).await;
    let refused = authorized.expect("answered").results;
    assert!(refused.iter().all(|it| matches!(it, Ok(None))));
    check("authorize", &written);
    let answers = leases.iter().map(sent).collect();
    let results = store.acknowledge(answers, context).await.expect("settled");
    assert!(results.iter().all(|it| matches!(it, Ok(None))));
    check(
        "acknowledge",
        &["booking_request", "notification", "history"],
    );
}

async fn insert(store: &Store, form: Form) -> BookingRequest {
    let inserted = store_fixtures::insert(store, call(), creation(form), at(NOW)).await;
    inserted.expect("created")
}

async fn book(store: &Store, key: RequestKey) {
    let booked = store_fixtures::book(store, call(), key, at(NOW)).await;
    booked.expect("booked");
}

/// A form from a referral of its own, so that it is no duplicate.
fn form(referral_id: Uuid) -> Form {
    let mut form = make::form("2026-03-02", "2026-05-29");
    form.origin = referral(&referral_id.to_string());
    form
}

fn query(worklist: Worklist, order_by: OrderBy, care_units: Vec<HsaId>) -> Query {
    Query {
        order_by,
        ..Query::of(vec![worklist], CareUnits::These(care_units))
    }
}

/// A filled unit.
fn unit(number: usize) -> HsaId {
    HsaId::parse(&format!("SE2321000131-P{number:012}")).expect("a good unit")
}

/// A filled request of a unit, invited.
fn invited(number: usize) -> RequestKey {
    let place = u128::try_from(UNITS + number).expect("a small number");
    RequestKey {
        care_unit: unit(number),
        id: Uuid::from_u128(0x0195_0000_0000_7000_8000_0000_0000_0000 | place),
    }
}

/// The plans that have arrived and were not read yet.
#[derive(Clone, Default)]
pub struct Plans {
    arrived: Arc<Mutex<Vec<Value>>>,
    arrival: Arc<tokio::sync::Notify>,
}

impl<S: Subscriber> Layer<S> for Plans {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "sqlx::postgres::notice" {
            event.record(&mut self.clone());
        }
    }
}

impl Visit for Plans {
    fn record_str(&mut self, _: &Field, value: &str) {
        if let Some((_, plan)) = value.split_once("plan:\n") {
            let plan = serde_json::from_str(plan).expect("a plan as JSON");
            self.arrived
                .lock()
                .expect("no thread has panicked")
                .push(plan);
            self.arrival.notify_one();
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl Plans {
    /// Leaves out what has arrived so far.
    pub fn forget(&self) {
        self.arrived.lock().expect("no thread has panicked").clear();
    }

    /// Takes what has arrived so far.
    pub fn take(&self) -> Vec<Value> {
        std::mem::take(&mut *self.arrived.lock().expect("no thread has panicked"))
    }

    /// Waits for a plan over a table.
    async fn arrive_over(&self, table: &str) {
        loop {
            self.arrival.notified().await;
            let arrived = self.arrived.lock().expect("no thread has panicked");
            if arrived.iter().any(|it| tables(it).contains(&table)) {
                return;
            }
        }
    }

    /// Whether what a call has brought reads nothing but indexes.
    fn read_indexes_only(&self) -> bool {
        let arrived = self.arrived.lock().expect("no thread has panicked");
        let mut nodes = arrived.iter().flat_map(nodes);
        nodes.all(|it| it["Relation Name"].is_null() || it["Node Type"] == "Index Only Scan")
    }

    /// Reads how many pages those have looked at which walk an index; one has.
    fn check_pages(&self, index: &str, pages_max: u64) {
        let arrived = self.arrived.lock().expect("no thread has panicked");
        let walks = |it: &&Value| nodes(it).iter().any(|node| node["Index Name"] == index);
        let walking: Vec<&Value> = arrived.iter().filter(walks).collect();
        assert!(!walking.is_empty(), "{index} was not seen to be walked");
        for plan in walking {
            let pages = pages(plan);
            assert!(pages <= pages_max, "{index}: {pages} pages: {plan:#}");
        }
    }

    /// Reads what a call has brought: over these tables at least, and nothing from end to end.
    fn check(&self, call: &str, used: &[&str]) {
        let plans = self.take();
        for plan in &plans {
            let mut whole = wholes(plan);
            // The index has nothing but the list that is asked for.
            whole.retain(|it| {
                *it != "booking_request_manual_handling" || !call.contains("manual handling")
            });
            // It is read in its order, until the page is full: the pages of the database tell how far.
            whole.retain(|it| !(it.starts_with("access_log_") && it.ends_with("_pkey")));
            assert!(whole.is_empty(), "{call} reads all of {whole:?}: {plan:#}");
            let pages = pages(plan);
            let pages_max = match call.contains("claim") {
                true => EACH_UNIT_PAGES_MAX,
                false => PAGES_MAX,
            };
            assert!(pages <= pages_max, "{call} reads {pages} pages: {plan:#}");
        }
        let seen: Vec<&str> = plans.iter().flat_map(tables).collect();
        for table in used {
            assert!(seen.contains(table), "{call} was not seen to use {table}");
        }
    }
}

/// Every node of a plan.
pub fn nodes(plan: &Value) -> Vec<&Value> {
    let mut all = vec![&plan["Plan"]];
    let mut read = 0;
    while let Some(node) = all.get(read) {
        all.extend(node["Plans"].as_array().into_iter().flatten());
        read += 1;
    }
    all
}

/// The tables that a plan reads or writes.
fn tables(plan: &Value) -> Vec<&str> {
    let nodes = nodes(plan).into_iter();
    nodes
        .filter_map(|it| it["Relation Name"].as_str())
        .map(table)
        .collect()
}

/// The table that a partition is of.
fn table(partition: &str) -> &str {
    let tables = ["access_log_identity", "access_log_patient", "access_log"];
    let table = tables.into_iter().find(|it| partition.starts_with(it));
    table.unwrap_or(partition)
}

/// What a plan reads from end to end: tables, and indexes for which it has no condition.
fn wholes(plan: &Value) -> Vec<&str> {
    nodes(plan).into_iter().filter_map(whole).collect()
}

fn whole(node: &Value) -> Option<&str> {
    match node["Node Type"].as_str()? {
        "Seq Scan" => node["Relation Name"].as_str(),
        "Index Scan" | "Index Only Scan" | "Bitmap Index Scan" if node["Index Cond"].is_null() => {
            node["Index Name"].as_str()
        }
        _ => None,
    }
}

/// How many pages a plan has looked at.
fn pages(plan: &Value) -> u64 {
    let counts = ["Shared Hit Blocks", "Shared Read Blocks"];
    let counts = counts.iter().filter_map(|it| plan["Plan"][it].as_u64());
    counts.sum()
}

/// A database of its own with copies of the seeds in these tables, and more rows; none where there is no PostgreSQL.
async fn filled(
    tables: &[(&str, &str, Altered)],
    more: &[String],
) -> Option<(Backend, DatabaseConnection)> {
    let backend = Backend::in_one_place().await?;
    seed(&backend.store).await;
    // One, for temporary tables are the connection's own.
    let database = connect(&backend.url()).await;
    run(&database, &copies()).await;
    // Indexes are built sooner when the rows are there.
    let indexes = texts(&database, INDEXES).await;
    for index in &indexes {
        let name = index.split(' ').skip_while(|it| *it != "INDEX").nth(1);
        run(&database, &format!("DROP INDEX {}", name.expect("a name"))).await;
    }
    for (table, on, altered) in tables {
        fill(&database, table, on, altered).await;
    }
    for insert in more {
        run(&database, insert).await;
    }
    for index in &indexes {
        run(&database, index).await;
    }
    run(&database, "VACUUM ANALYZE").await;
    Some((backend, database))
}

/// Opens the database once more, with statements planned in this way. Their plans arrive for as long as the guard is kept.
pub async fn observe(
    backend: &Backend,
    database: &DatabaseConnection,
    planning: &str,
) -> (Backend, Plans, DefaultGuard) {
    explain(database, planning).await;
    // Before the store is opened: what writes has threads of its own from then on.
    let plans = Plans::default();
    let subscriber = tracing_subscriber::registry().with(plans.clone());
    let guard = tracing::subscriber::set_default(subscriber);
    let replica = backend.again().await;
    plans.forget();
    (replica, plans, guard)
}

/// Has the plans of later connections handed over, with statements planned in this way.
async fn explain(database: &DatabaseConnection, planning: &str) {
    for (setting, value) in [
        ("session_preload_libraries", "auto_explain"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_analyze", "on"),
        ("auto_explain.log_buffers", "on"),
        ("auto_explain.log_format", "json"),
        ("auto_explain.log_level", "notice"),
        ("plan_cache_mode", planning),
    ] {
        let set = format!("ALTER DATABASE %I SET {setting} = %L");
        let set = format!("format('{set}', current_database(), '{value}')");
        run(
            database,
            &format!("DO 'BEGIN EXECUTE {}; END'", set.replace('\'', "''")),
        )
        .await;
    }
}

async fn run(connection: &DatabaseConnection, sql: &str) {
    let done = connection.execute_unprepared(sql).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Four requests by the service itself, of which the others are copies: one that waits for staff,
/// one whose invitation was sent, one that is booked, and one in a hundred that is held.
async fn seed(store: &Store) {
    let mut waiting = form(Uuid::new_v4());
    waiting.invitation = false;
    insert(store, waiting).await;
    insert(store, form(Uuid::new_v4())).await;
    let booked = insert(store, form(Uuid::new_v4())).await;
    let leases = claim(store, CareUnits::Every).await;
    assert_eq!(leases.len(), 2);
    let answers = leases.iter().map(sent).collect();
    let settled = store
        .acknowledge(answers, move || make::context(at(NOW)))
        .await;
    let settled = settled.expect("settled");
    assert!(settled.iter().all(|it| matches!(it, Ok(None))));
    book(store, booked.key).await;
    let mut held = form(Uuid::new_v4());
    held.patient.protection = Some(Protection::ConfidentialityMarked);
    insert(store, held).await;
}

/// Where the copies of the seeds go: units interleaved, as they are in life, days spread over 600.
fn copies() -> String {
    format!(
        "CREATE TEMPORARY TABLE copy AS SELECT *, \
         get_byte(sha256(convert_to(care_unit, 'UTF8')), 0) % {BUCKETS} AS bucket FROM (SELECT i, s.id AS seed, \
         i / {UNITS} - 20 AS days, (i / {UNITS} - 20) * 86400000000 AS later, \
         'SE2321000131-P' || lpad((i % {UNITS})::text, 12, '0') AS care_unit, \
         ('01950000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid AS id \
         FROM generate_series(0, {REQUESTS} - 1) AS i JOIN \
         (SELECT row_number() OVER (ORDER BY id) AS kind, id FROM booking_request) AS s \
         ON s.kind = CASE WHEN i / {UNITS} % 100 = 99 THEN 4 \
         ELSE (ARRAY[1, 2, 2, 2, 2, 3, 3, 3, 3, 3])[i / {UNITS} % 10 + 1] END) AS copies",
    )
}

/// The statements that make the indexes that are no primary keys.
const INDEXES: &str = "SELECT pg_get_indexdef(indexrelid) AS text FROM pg_index \
     WHERE NOT indisprimary AND indrelid IN \
     ('booking_request'::regclass, 'notification'::regclass, 'history'::regclass)";

/// Calls that changed nothing.
const IDEMPOTENCY_KEYS: &str = "INSERT INTO idempotency_key (bucket, care_unit, actor, request_id, content_hash) \
     SELECT bucket, care_unit, 'tester', md5('quiet ' || i)::uuid, '' FROM copy WHERE i % 10 = 0";

/// Columns of a copy that are not as the seed's.
type Altered = &'static [(&'static str, &'static str)];

/// The tables, with what is copied and what differs between a seed `s` and its
/// copy `c`.
const FILLED: [(&str, &str, Altered); 3] = [
    (
        "booking_request",
        "s.id = c.seed",
        &[
            ("bucket", "c.bucket"),
            ("care_unit", "c.care_unit"),
            ("id", "c.id"),
            ("personal_id", "lpad(c.i::text, 12, '0')"),
            ("referral_id", "'R-' || c.i"),
            ("visit_id", "'V-' || c.i"),
            ("booking_id", "'B-' || c.i"),
            ("start_day", "s.start_day + c.days"),
            ("end_day", "s.end_day + c.days"),
            ("care_guarantee_day", "s.care_guarantee_day + c.days"),
            ("created_at", "s.created_at + c.later"),
            ("follow_up_at", "s.follow_up_at + c.later"),
            ("expires_at", "s.expires_at + c.later"),
            ("next_notification_at", "s.next_notification_at + c.later"),
            (
                "duplicate_digest",
                "CASE WHEN s.duplicate_digest IS NOT NULL THEN decode(md5(c.i::text), 'hex') END",
            ),
        ],
    ),
    (
        "notification",
        "s.booking_request = c.seed",
        &[
            ("bucket", "c.bucket"),
            ("care_unit", "c.care_unit"),
            ("booking_request", "c.id"),
            ("id", "md5(c.i || ' ' || s.ordinal)::uuid"),
            ("due_at", "s.due_at + c.later"),
            // A fifth of the units have heaps that have been due for long, before all that the others have.
            (
                "claimable_at",
                "s.claimable_at + CASE WHEN c.i % 5 = 4 THEN -86400000000000 ELSE c.later END",
            ),
        ],
    ),
    (
        "history",
        "s.booking_request = c.seed AND s.ordinal = 1",
        &[
            ("bucket", "c.bucket"),
            ("care_unit", "c.care_unit"),
            ("booking_request", "c.id"),
            ("recorded_at", "s.recorded_at + c.later"),
            (
                "request_id",
                "CASE WHEN s.ordinal = 1 THEN md5(c.i::text)::uuid END",
            ),
        ],
    ),
];

/// Copies what the seeds have in a table.
async fn fill(database: &DatabaseConnection, table: &str, on: &str, altered: Altered) {
    let columns = format!(
        "SELECT attname::text AS text FROM pg_attribute \
         WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped",
    );
    let columns = texts(database, &columns).await;
    let value = |column: &String| {
        let altered = altered.iter().find(|(name, _)| name == column);
        altered.map_or(format!("s.{column}"), |(_, value)| (*value).to_owned())
    };
    let values: Vec<String> = columns.iter().map(value).collect();
    let copy = format!(
        "INSERT INTO {table} ({}) SELECT {} FROM copy AS c JOIN {table} AS s ON {on}",
        columns.join(", "),
        values.join(", "),
    );
    run(database, &copy).await;
}

async fn texts(database: &DatabaseConnection, sql: &str) -> Vec<String> {
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    let rows = database.query_all_raw(statement).await.expect("read");
    let text = |row: &sea_orm::QueryResult| row.try_get("", "text").expect("text");
    rows.iter().map(text).collect()
}
