//! The database unavailable: calls fail in time, health reports it, streams wait and go on, nothing is
//! lost and nothing doubled.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use care_invitation::clock::Clock;
use care_invitation::contract::v1;
use care_invitation::contract::v1::HistoryEvent;
use care_invitation::contract::v1::care_unit_settings_service_client::CareUnitSettingsServiceClient;
use care_invitation::contract::v1::stream_due_notifications_response::Event;
use care_invitation::contract::v1::watch_worklist_response::Event as Change;
use care_invitation::store::bucket::bucket;
use sea_orm::{ConnectionTrait, Database, QueryResult, Statement};
use tokio::process::Command;
use tokio::task::JoinSet;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::backend::{Area, connect, somebody_waits};
use crate::care_unit_settings::update;
use crate::change_stream::{Reader, after};
use crate::consumer::{everything, name, sent};
use crate::harness::{refusal, within};
use crate::make::{self, at};
use crate::postgres;
use crate::proxy::{Proxy, Way};
use crate::replica::Replica;

const NOW: &str = "2026-03-02T09:00:00Z";
/// How long a call may take, with something for a busy machine.
const CALL_MAX: Duration = Duration::from_millis(2_500);
/// Of whom health speaks.
const SERVICES: [&str; 4] = [
    "",
    "careinvitation.v1.BookingRequestService",
    "careinvitation.v1.WorklistService",
    "careinvitation.v1.NotificationService",
];

/// A service whose database may go away.
struct Remote {
    area: Area,
    server: SocketAddr,
    proxy: Proxy,
    replica: Replica,
}

impl Remote {
    /// None where there is no PostgreSQL, which is said aloud.
    async fn start() -> Option<Self> {
        Self::prepared("SELECT 1", "", Clock::sandbox(at(NOW))).await
    }

    /// On a database in which something has been done first, reached with options, by `clock`.
    async fn prepared(sql: &str, options: &str, clock: Clock) -> Option<Self> {
        let area = Area::create(postgres::server()?).await;
        let url = area.url();
        let database = Database::connect(&url).await.expect("a database");
        database.execute_unprepared(sql).await.expect("prepared");
        database.close().await.expect("closed");
        let (proxy, server, url) = Proxy::before(&url).await;
        let replica = Replica::start(&(url + options), clock).await;
        Some(Self {
            area,
            server,
            proxy,
            replica,
        })
    }

    fn restore(&self) {
        self.proxy.turn(Way::To(self.server));
    }
}

/// The call that creates a request of which a message is due at once.
fn create(number: usize) -> v1::CreateBookingRequestRequest {
    let mut form = make::wire_form("2026-04-06", "2026-06-12");
    form.origin = Some(make::wire_referral(&format!("R-{number}")));
    make::wire_create(form)
}

async fn due_stream(replica: &Replica) -> Streaming<v1::StreamDueNotificationsResponse> {
    let answer = within(
        replica
            .notifications()
            .stream_due_notifications(everything()),
    )
    .await;
    answer.expect("a stream").into_inner()
}

async fn due(stream: &mut Streaming<v1::StreamDueNotificationsResponse>) -> v1::DueNotification {
    loop {
        let said = within(stream.message()).await.expect("the stream is open");
        match said.expect("no end").event.expect("an event") {
            Event::Due(due) => return due,
            Event::Heartbeat(_) => {}
            other => panic!("a message was to come, not {other:?}"),
        }
    }
}

fn query() -> v1::WorklistQuery {
    v1::WorklistQuery {
        worklists: vec![v1::Worklist::CareInvitations.into()],
        care_units: vec![make::wire_unit()],
        ..Default::default()
    }
}

async fn watch(replica: &Replica) -> Streaming<v1::WatchWorklistResponse> {
    let call = v1::WatchWorklistRequest {
        query: Some(query()),
        ..Default::default()
    };
    let answer = within(replica.worklists().watch_worklist(call)).await;
    answer.expect("a stream").into_inner()
}

/// Reads a watch until it tells of this request.
async fn told(stream: &mut Streaming<v1::WatchWorklistResponse>, name: &str) {
    loop {
        let said = within(stream.message()).await.expect("the stream is open");
        if let Some(Change::Upserted(request)) = said.expect("no end").event
            && request.name == name
        {
            return;
        }
    }
}

async fn listed(replica: &Replica) -> usize {
    let call = v1::ListWorklistRequest {
        query: Some(query()),
        page_size: 500,
        ..Default::default()
    };
    let answer = within(replica.worklists().list_worklist(call)).await;
    answer
        .expect("the list")
        .into_inner()
        .booking_requests
        .len()
}

/// A call fails as one that may be repeated, in time.
async fn refused<T: std::fmt::Debug>(call: impl Future<Output = Result<T, Status>>) {
    let began = Instant::now();
    let status = within(call).await.expect_err("the database is away");
    let took = began.elapsed();
    let unavailable = (Code::Unavailable, "UNAVAILABLE".to_owned());
    assert_eq!(refusal(&status), unavailable, "{status:?}");
    assert!(status.get_error_details().retry_info().is_some());
    assert!(took < CALL_MAX, "{took:?}");
}

async fn calls_are_refused(
    replica: &Replica,
    name: &str,
    creates: &v1::CreateBookingRequestRequest,
) {
    let get = v1::GetBookingRequestRequest { name: name.into() };
    let list = v1::ListWorklistRequest {
        query: Some(query()),
        ..Default::default()
    };
    let (mut requests, mut worklists) = (replica.requests(), replica.worklists());
    let mut writes = replica.requests();
    tokio::join!(
        refused(requests.get_booking_request(get)),
        refused(worklists.list_worklist(list)),
        refused(writes.create_booking_request(creates.clone())),
    );
}

/// The program's last words when it serves there, which it cannot.
async fn last_words(url: &str) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_care-invitation"));
    program
        .env_clear()
        .args(["--database-url", url, "--listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ended = within(program.output()).await.expect("it runs");
    assert_eq!(ended.status.code(), Some(1));
    String::from_utf8(ended.stderr).expect("text")
}

#[tokio::test]
async fn a_start_without_a_database_says_once_and_plainly_what_is_wrong() {
    let Some(remote) = Remote::start().await else {
        return;
    };
    let url = |host: SocketAddr, database: &str| {
        format!("postgres://postgres:s3cret@{host}/{database}?sslmode=disable")
    };
    let proxy = remote.proxy.address;
    let nowhere = SocketAddr::from(([127, 0, 0, 1], postgres::free_port()));
    let zero = SocketAddr::from(([127, 0, 0, 1], 0));
    remote.proxy.turn(Way::Swallow);
    for (url, cause) in [
        (url(nowhere, "care"), "connection refused"),
        (url(zero, "care"), "connection refused"),
        (url(proxy, "care"), "no answer within 5 seconds"),
        (
            url(remote.server, "care_nobody"),
            "database \"care_nobody\" does not exist",
        ),
    ] {
        let said = last_words(&url).await.to_lowercase();
        let expected = "care-invitation: the database cannot be reached: ";
        assert!(said.starts_with(expected), "{said}");
        assert_eq!(said.matches(cause).count(), 1, "{cause} in {said}");
        assert!(!said.contains("pool") && !said.contains("s3cret"), "{said}");
    }
}

#[tokio::test]
async fn a_database_that_would_log_identity_numbers_is_warned_of() {
    let Some(server) = postgres::server() else {
        return;
    };
    let area = Area::create(server).await;
    care_invitation::store::schema::migrate(&area.url())
        .await
        .expect("migrated");
    let mark = if area.url().contains('?') { '&' } else { '?' };
    for (settings, warned) in [
        (&["log_min_duration_statement=250"][..], true),
        (&["log_statement=mod"], true),
        (&["log_parameter_max_length_on_error=64"], true),
        (&["log_statement=mod", "log_parameter_max_length=0"], false),
        (&["log_statement=ddl"], false),
    ] {
        let settings = settings.iter().map(|it| it.replacen('=', "]=", 1));
        let settings: Vec<_> = settings.map(|it| format!("options[{it}")).collect();
        let url = format!("{}{mark}{}", area.url(), settings.join("&"));
        // Nobody may listen there, so that it ends after it has opened the database.
        let mut program = Command::new(env!("CARGO_BIN_EXE_care-invitation"));
        program
            .env_clear()
            .args(["--insecure", "--database-url", &url])
            .args(["--listen", "192.0.2.1:1"])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let ended = within(program.output()).await.expect("it runs");
        let said = String::from_utf8(ended.stderr).expect("text");
        assert!(said.contains("cannot listen"), "{said}");
        assert_eq!(
            said.contains("logs statement parameters"),
            warned,
            "{url}: {said}"
        );
    }
}

/// Reads wait no longer for others than writes do, and are not the service's fault either.
#[tokio::test]
async fn reads_of_a_table_that_is_locked_fail_in_time_and_a_watch_goes_on() {
    let Some(remote) = Remote::start().await else {
        return;
    };
    let replica = &remote.replica;
    let first = replica.create(create(1)).await;
    let mut list = watch(replica).await;
    told(&mut list, &first.name).await;
    let other = connect(&remote.area.url()).await;
    let lock = "BEGIN; LOCK TABLE booking_request IN ACCESS EXCLUSIVE MODE";
    other.execute_unprepared(lock).await.expect("locked");

    let mut requests = replica.requests();
    let (mut lists, mut counts) = (replica.worklists(), replica.worklists());
    let get = v1::GetBookingRequestRequest {
        name: first.name.clone(),
    };
    let listed = v1::ListWorklistRequest {
        query: Some(query()),
        ..Default::default()
    };
    let counted = make::wire_count(vec![make::wire_unit()]);
    let opened = watch(replica).await;
    tokio::join!(
        refused(requests.get_booking_request(get)),
        refused(lists.list_worklist(listed)),
        refused(counts.count_worklists(counted)),
    );
    other.execute_unprepared("COMMIT").await.expect("let go");

    let second = replica.create(create(2)).await;
    for mut list in [list, opened] {
        told(&mut list, &second.name).await;
    }
}

/// More callers of one request than batches are under way at once.
const CALLERS: usize = 8;
/// Calls about other requests that come through while a lock is held: more than would if each of them waited for it.
const OTHERS: usize = 4;

#[tokio::test]
async fn a_request_that_is_locked_keeps_those_who_call_it_waiting_and_nobody_else() {
    let Some(remote) = Remote::start().await else {
        return;
    };
    let replica = &remote.replica;
    let locked = replica.create(create(0)).await.name;
    let other = connect(&remote.area.url()).await;
    let lock = "BEGIN; SELECT 1 FROM booking_request FOR UPDATE";
    other.execute_unprepared(lock).await.expect("locked");

    let calls: Vec<_> = (0..CALLERS).map(|_| make::wire_cancel(&locked)).collect();
    let mut waiting = JoinSet::new();
    for call in calls.clone() {
        let mut client = replica.requests();
        waiting.spawn(async move { refused(client.cancel_booking_request(call)).await });
    }
    for number in 1..=OTHERS {
        replica.create(create(number)).await;
    }
    assert!(
        waiting.try_join_next().is_none(),
        "they were to wait for longer than the others take"
    );
    within(waiting.join_all()).await;

    other.execute_unprepared("COMMIT").await.expect("let go");
    // One of the calls that were refused may have come through since: its repeat is told so.
    let mut cancelled = 0;
    for call in calls {
        let said = replica.requests().cancel_booking_request(call).await;
        match said {
            Ok(_) => cancelled += 1,
            Err(status) => assert_eq!(refusal(&status).1, "STATE_CONFLICT", "{status:?}"),
        }
    }
    assert_eq!(cancelled, 1, "one cancels once it is free");
}

#[tokio::test]
async fn settings_that_are_locked_keep_those_who_change_them_waiting_and_nobody_else() {
    let Some(remote) = Remote::start().await else {
        return;
    };
    let replica = &remote.replica;
    let set = async |call: v1::UpdateCareUnitSettingsRequest| {
        let mut client = CareUnitSettingsServiceClient::new(replica.channel.clone());
        client.update_care_unit_settings(call).await
    };
    let lead = |days| {
        let settings = v1::CareUnitSettings {
            lead_days: Some(days),
            ..Default::default()
        };
        update(&["lead_days"], settings)
    };
    within(set(lead(28))).await.expect("set");
    let other = connect(&remote.area.url()).await;
    let lock = "BEGIN; SELECT 1 FROM care_unit_settings FOR UPDATE";
    other.execute_unprepared(lock).await.expect("locked");

    let calls: Vec<_> = (0..CALLERS).map(|_| lead(35)).collect();
    let mut waiting = JoinSet::new();
    for call in calls.clone() {
        let mut client = CareUnitSettingsServiceClient::new(replica.channel.clone());
        waiting.spawn(async move { refused(client.update_care_unit_settings(call)).await });
    }
    for number in 1..=OTHERS {
        replica.create(create(number)).await;
    }
    assert!(
        waiting.try_join_next().is_none(),
        "they were to wait for longer than the others take"
    );
    within(waiting.join_all()).await;

    other.execute_unprepared("COMMIT").await.expect("let go");
    for call in calls {
        let set = within(set(call)).await.expect("set once it is free");
        let settings = set.into_inner().care_unit_settings.expect("the settings");
        assert_eq!(settings.lead_days, Some(35));
    }
}

/// Rows that a batch writes without locking them before are waited for in its transaction.
#[tokio::test]
async fn a_write_that_waits_for_others_ends_soon_after_its_caller_has_gone() {
    let Some(remote) = Remote::start().await else {
        return;
    };
    let replica = &remote.replica;
    let mut locked = Vec::new();
    for number in 0..2 {
        locked.push(replica.create(create(number)).await.name);
    }
    let other = connect(&remote.area.url()).await;
    let lock = "BEGIN; SELECT 1 FROM notification FOR UPDATE";
    other.execute_unprepared(lock).await.expect("locked");

    // As many as batches are under way at once.
    let calls: Vec<_> = locked.iter().map(|it| make::wire_cancel(it)).collect();
    let mut waiting = JoinSet::new();
    for call in calls.clone() {
        let mut client = replica.requests();
        waiting.spawn(async move { refused(client.cancel_booking_request(call)).await });
        within(somebody_waits(&connect(&remote.area.url()).await)).await;
    }
    within(waiting.join_all()).await;
    let mut refusals = 0;
    for number in 2..2 + OTHERS {
        let (mut client, call) = (replica.requests(), create(number));
        while within(client.create_booking_request(call.clone()))
            .await
            .is_err()
        {
            refusals += 1;
        }
    }
    assert!(refusals <= 1, "{refusals} creates wait for them");

    other.execute_unprepared("COMMIT").await.expect("let go");
    for call in calls {
        let mut client = replica.requests();
        within(client.cancel_booking_request(call))
            .await
            .expect("cancelled once it is free");
    }
}

#[tokio::test]
async fn a_batch_that_waits_keeps_no_other_lane_waiting() {
    let Some(remote) = Remote::start().await else {
        return;
    };
    let replica = &remote.replica;
    let other = connect(&remote.area.url()).await;
    // What another has written and not committed: the same entry of the history waits for it.
    let call = create(0);
    let entry = format!(
        "BEGIN; INSERT INTO history (bucket, care_unit, booking_request, ordinal, recorded_at, actor, \
         event, request_id, document) VALUES ({}, '{}', gen_random_uuid(), 1, 0, 'anonymous', 1, '{}', '{{}}')",
        bucket(&make::key().care_unit),
        make::CARE_UNIT,
        call.request_id
    );
    other.execute_unprepared(&entry).await.expect("written");

    let (mut client, waits) = (replica.requests(), call);
    let waiting = tokio::spawn(async move { client.create_booking_request(waits).await });
    within(somebody_waits(&connect(&remote.area.url()).await)).await;
    for number in 1..=OTHERS {
        replica.create(create(number)).await;
    }
    assert!(
        !waiting.is_finished(),
        "it was to wait for longer than the others take"
    );

    other.execute_unprepared("ROLLBACK").await.expect("let go");
    let said = within(waiting).await.expect("no panic");
    said.expect("created once the other has let go");
}

async fn goes_away_and_comes_back(way: Way) {
    let Some(remote) = Remote::start().await else {
        return;
    };
    let replica = &remote.replica;
    let first = replica.create(create(1)).await;
    let mut feed = due_stream(replica).await;
    let leased = due(&mut feed).await;
    let mut list = watch(replica).await;
    told(&mut list, &first.name).await;

    remote.proxy.turn(way);
    let second = create(2);
    // At first over connections that were open, then over new ones.
    for _ in 0..3 {
        calls_are_refused(replica, &first.name, &second).await;
    }
    for service in SERVICES {
        replica.healthy(service, NotServing).await;
    }

    remote.restore();
    for service in SERVICES {
        replica.healthy(service, Serving).await;
    }
    let second = replica.create(second).await;
    let next = due(&mut feed).await;
    assert!(name(&next).starts_with(&second.name), "{}", name(&next));
    assert!(!next.possible_repeat, "nobody has had it before");
    told(&mut list, &second.name).await;
    assert_eq!(listed(replica).await, 2, "none lost, none doubled");
    let lost = replica.acknowledge(vec![sent(&leased), sent(&next)]).await;
    assert_eq!(lost, Vec::<String>::new(), "leases outlast it");
}

#[tokio::test]
async fn a_database_that_refuses_is_waited_for() {
    goes_away_and_comes_back(Way::Cut).await;
}

#[tokio::test]
async fn a_database_that_swallows_everything_is_waited_for() {
    goes_away_and_comes_back(Way::Swallow).await;
}

/// Longer than connections are idle before they are pinged.
const IDLE: Duration = Duration::from_millis(700);
/// Time that a call may take which meets connections that are forgotten, with something for a busy machine.
const FORGOTTEN_MAX: Duration = Duration::from_millis(1_500);

#[tokio::test]
async fn idle_connections_that_a_firewall_has_forgotten_cost_a_caller_a_second_at_most() {
    let Some(remote) = Remote::start().await else {
        return;
    };
    let replica = &remote.replica;
    let first = replica.create(create(1)).await;
    // Opens as many as may read at once.
    let lists = (0..8).map(|_| listed(replica));
    futures_util::future::join_all(lists).await;
    tokio::time::sleep(IDLE).await;
    remote.proxy.turn(Way::Forget(remote.server));
    let get = v1::GetBookingRequestRequest {
        name: first.name.clone(),
    };
    let began = Instant::now();
    let (mut reads, mut writes) = (replica.requests(), replica.requests());
    let (read, written, counted) = tokio::join!(
        within(reads.get_booking_request(get)),
        within(writes.create_booking_request(create(2))),
        listed(replica),
    );
    let took = began.elapsed();
    read.expect("read");
    written.expect("written");
    assert!(counted > 0);
    assert!(took < FORGOTTEN_MAX, "{took:?}");
}

#[tokio::test]
async fn a_replica_that_drains_stays_out_whatever_its_database_does() {
    let Some(remote) = Remote::start().await else {
        return;
    };
    remote.proxy.turn(Way::Cut);
    remote.replica.healthy("", NotServing).await;
    let _feed = due_stream(&remote.replica).await;
    let mut health = HealthClient::new(remote.replica.channel.clone());
    let watched = within(health.watch(HealthCheckRequest::default())).await;
    let mut watched = watched.expect("a stream").into_inner();
    remote.replica.shutdown.cancel();
    remote.restore();
    loop {
        match within(watched.message()).await {
            Ok(said) => assert_eq!(said.expect("an answer").status(), NotServing),
            Err(end) => break assert_eq!(end.code(), Code::Unavailable),
        }
    }
    within(remote.replica.server).await.expect("it ends");
}

#[tokio::test]
async fn clocks_that_are_apart_make_a_replica_not_ready() {
    // The database's own clock is hidden behind one that the test moves.
    let clock = "CREATE TABLE public.shift AS SELECT interval '0' AS by; \
         CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS \
         $$ SELECT pg_catalog.clock_timestamp() + by FROM public.shift $$";
    let options = "?options[search_path]=public,pg_catalog";
    let Some(remote) = Remote::prepared(clock, options, Clock::real()).await else {
        return;
    };
    let replica = &remote.replica;
    replica.healthy("", Serving).await;
    let database = Database::connect(remote.area.url()).await;
    let database = database.expect("a database");
    for (shift, health) in [
        ("3 seconds", NotServing),
        ("1 second", Serving),
        ("-3 seconds", NotServing),
        ("-1 second", Serving),
    ] {
        let sql = format!("UPDATE public.shift SET by = interval '{shift}'");
        database.execute_unprepared(&sql).await.expect("moved");
        for service in SERVICES {
            replica.healthy(service, health).await;
        }
    }
    database.close().await.expect("closed");
}

/// What notes the session of every commit that stores a request, and makes it fail, as on a disk that is full, as long
/// as `full_disk` has a row.
const WATCHED_COMMITS: &str = "
    CREATE TABLE full_disk (since int);
    CREATE TABLE committer (pid int);
    CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF EXISTS (SELECT 1 FROM full_disk) THEN RAISE EXCEPTION 'no room' USING ERRCODE = '53100'; END IF;
      INSERT INTO committer VALUES (pg_backend_pid());
      RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON booking_request
      DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION at_commit()";

#[tokio::test]
async fn a_commit_that_fails_is_refused_and_its_connection_is_not_used_again() {
    let Some(remote) = Remote::start().await else {
        return;
    };
    let database = Database::connect(remote.area.url()).await;
    let database = database.expect("a database");
    let run = async |sql: &str| {
        let done = database.execute_unprepared(sql).await;
        done.expect("done");
    };
    let committers = async || -> BTreeSet<i32> {
        let query = "DELETE FROM committer RETURNING pid";
        let query = Statement::from_string(database.get_database_backend(), query);
        let rows = database.query_all_raw(query).await.expect("sessions");
        let pid = |row: &QueryResult| row.try_get("", "pid").expect("a number");
        rows.iter().map(pid).collect()
    };
    run(WATCHED_COMMITS).await;
    for number in 0..5 {
        remote.replica.create(create(number)).await;
    }
    let before = committers().await;
    assert!(!before.is_empty());

    run("INSERT INTO full_disk VALUES (1)").await;
    let call = create(5);
    refused(
        remote
            .replica
            .requests()
            .create_booking_request(call.clone()),
    )
    .await;
    run("DELETE FROM full_disk").await;
    for call in (6..11).map(create).chain([call]) {
        let created = remote.replica.create(call).await;
        let get = v1::GetBookingRequestRequest { name: created.name };
        let read = within(remote.replica.requests().get_booking_request(get)).await;
        read.expect("what is answered OK is stored");
    }
    let after = committers().await;
    assert!(!after.is_empty());
    assert!(after.is_disjoint(&before), "{before:?}, then {after:?}");
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_told_to_all_who_listen() {
    let Some(remote) = Remote::start().await else {
        return;
    };
    let replica = &remote.replica;
    let mut watch = watch(replica).await;
    let mut changes = Reader::open(replica.requests(), after(""))
        .await
        .expect("a stream");
    let mut consumer = due_stream(replica).await;
    for number in 0..2 {
        remote.proxy.cut_next_commit();
        let created = replica.create(create(number)).await;
        assert!(remote.proxy.has_cut_commit());
        within(told(&mut watch, &created.name)).await;
        within(follows(
            &mut changes,
            &created.name,
            HistoryEvent::CreateBookingRequest,
        ))
        .await;
        let due = within(due(&mut consumer)).await;
        assert_eq!(due.booking_request, created.name);
        remote.proxy.cut_next_commit();
        let book = make::wire_booking(&created.name, "2026-05-20T08:00:00Z");
        let booked = within(replica.requests().record_booking(book)).await;
        booked.expect("booked");
        assert!(remote.proxy.has_cut_commit());
        within(revoked(&mut consumer, &name(&due))).await;
        within(follows(
            &mut changes,
            &created.name,
            HistoryEvent::RecordBooking,
        ))
        .await;
    }
}

/// Reads changes until one is told.
async fn follows(changes: &mut Reader, request: &str, event: HistoryEvent) {
    loop {
        let change = changes.next().await.expect("a change");
        if change.booking_request == request && change.event() == event {
            return;
        }
    }
}

/// Reads a stream until it tells that the lease of this message is revoked.
async fn revoked(stream: &mut Streaming<v1::StreamDueNotificationsResponse>, message: &str) {
    loop {
        let said = within(stream.message()).await.expect("the stream is open");
        match said.expect("no end").event.expect("an event") {
            Event::Revoked(revoked) if revoked == message => return,
            Event::Heartbeat(_) => {}
            other => panic!("the lease was to be revoked, not {other:?}"),
        }
    }
}
