//! Metrics as Prometheus reads them: each moves with what is done, the documents name them all, and nothing of a patient is in
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use care_invitation::contract::v1;
use care_invitation::contract::v1::acknowledgement::Outcome;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::backend::Kind;
use crate::consumer::{self, Consumer};
use crate::door::host::{Ca, dns};
use crate::harness::{Harness, within};
use crate::make;
use crate::program::{PROGRAM, Program, command_by};

const NOW: &str = "2026-03-02T09:00:00Z";
const CREATE: &str = "careinvitation.v1.BookingRequestService/CreateBookingRequest";
const GET: &str = "careinvitation.v1.BookingRequestService/GetBookingRequest";
const DUE: &str = "careinvitation.v1.NotificationService/StreamDueNotifications";

/// What was read at one time.
struct Scrape {
    text: String,
    /// Types by name.
    types: BTreeMap<String, String>,
    /// Values by name and labels, as they are written.
    values: BTreeMap<String, f64>,
}

impl Scrape {
    /// Reads the text format, of which each line must be understood.
    fn of(text: String) -> Self {
        let (mut types, mut values) = (BTreeMap::new(), BTreeMap::new());
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (what, name) = (words.next(), words.next().expect("a name"));
                let said = words.next().expect("a help or a type");
                if what == Some("TYPE") {
                    let before = types.insert(name.to_owned(), said.to_owned());
                    assert_eq!(before, None, "{name} is there twice");
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect("a series and its value");
            let value = value.parse().expect("a number");
            let before = values.insert(series.to_owned(), value);
            assert_eq!(before, None, "{series} is there twice");
        }
        Self {
            text,
            types,
            values,
        }
    }

    /// The sum of the series of a name whose labels have all of these.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |series: &str| {
            let (of, rest) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels.iter();
            let mut wanted = labels.map(|(label, value)| format!("{label}=\"{value}\""));
            of == name && wanted.all(|it| rest.contains(&it))
        };
        let found = self.values.iter().filter(|(series, _)| has(series));
        found.map(|(_, value)| value).sum()
    }
}

/// What a GET is answered.
async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = within(TcpStream::connect(address)).await.expect("open");
    let request = format!("GET {path} HTTP/1.1\r\nhost: here\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer))
        .await
        .expect("text");
    answer
}

async fn scrape(address: SocketAddr) -> Scrape {
    let answer = get(address, "/metrics").await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    Scrape::of(body.to_owned())
}

/// Reads until a number is as it should be, which may take the time for which answers of the database are kept.
async fn until(
    harness: &Harness,
    name: &str,
    labels: &[(&str, &str)],
    is_good: impl Fn(f64) -> bool,
) {
    let looking = async {
        loop {
            let seen = scrape(harness.metrics).await;
            if is_good(seen.sum(name, labels)) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(20), looking).await;
    if waited.is_err() {
        let seen = scrape(harness.metrics).await;
        panic!("{name} {labels:?} is {}", seen.sum(name, labels));
    }
}

async fn until_is(harness: &Harness, name: &str, labels: &[(&str, &str)], value: f64) {
    until(harness, name, labels, |it| it == value).await;
}

/// An invitation of which the first notification is due at once.
async fn invite(harness: &Harness, referral: &str) -> v1::BookingRequest {
    let mut form = make::wire_form("2026-03-16", "2026-06-12");
    form.origin = Some(make::wire_referral(referral));
    harness
        .create(make::wire_create(form))
        .await
        .expect("created")
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let harness = Harness::start(NOW).await;
    let count = "rpc_server_call_duration_seconds_count";
    invite(&harness, "R-1").await;
    let nobody = format!("{}/bookingRequests/{}", make::wire_unit(), make::key().id);
    let refused = harness.get(&nobody).await.expect_err("not found");
    assert_eq!(refused.code(), Code::NotFound);
    let of = |method, code| [("rpc_method", method), ("rpc_response_status_code", code)];
    until_is(&harness, count, &of(CREATE, "OK"), 1.0).await;
    until_is(&harness, count, &of(GET, "NOT_FOUND"), 1.0).await;
    let seen = scrape(harness.metrics).await;
    let buckets = "rpc_server_call_duration_seconds_bucket";
    let all = [("rpc_method", CREATE), ("le", "+Inf")];
    assert_eq!(seen.sum(buckets, &all), 1.0);
    assert!(seen.sum("rpc_server_call_duration_seconds_sum", &[]) > 0.0);
    assert_eq!(seen.sum("care_invitation_active_calls", &[]), 0.0);
}

#[tokio::test]
async fn what_is_due_leased_and_on_lists_is_counted() {
    let harness = Harness::start(NOW).await;
    let inbox = [("channel", "inbox")];
    until_is(&harness, "care_invitation_due_notifications", &inbox, 0.0).await;
    invite(&harness, "R-1").await;
    until_is(&harness, "care_invitation_due_notifications", &inbox, 1.0).await;
    let list = [("worklist", "care_invitations")];
    until_is(&harness, "care_invitation_worklist_requests", &list, 1.0).await;
    harness.advance("2026-03-02T09:10:00Z");
    let age = "care_invitation_due_oldest_age_seconds";
    until_is(&harness, age, &inbox, 600.0).await;

    let mut consumer = Consumer::open(&harness, consumer::everything()).await;
    let due = consumer.due().await;
    let leased = [("state", "leased")];
    until_is(
        &harness,
        "care_invitation_leased_notifications",
        &leased,
        1.0,
    )
    .await;
    until_is(&harness, age, &inbox, 0.0).await;
    let seen = scrape(harness.metrics).await;
    let stream = [("rpc_method", DUE)];
    assert_eq!(seen.sum("care_invitation_open_streams", &stream), 1.0);
    let sees = [("sees_protected", "true")];
    assert_eq!(seen.sum("care_invitation_due_streams", &sees), 1.0);
    let given = [("event", "given")];
    assert_eq!(seen.sum("care_invitation_leases_total", &given), 1.0);
    let authorized = consumer::authorize(&harness, vec![consumer::lease(&due)]).await;
    authorized.expect("authorized");
    let dispatching = [("state", "dispatching")];
    until_is(
        &harness,
        "care_invitation_leased_notifications",
        &dispatching,
        1.0,
    )
    .await;

    drop(consumer);
    until_is(&harness, "care_invitation_open_streams", &stream, 0.0).await;
    until_is(&harness, "care_invitation_due_streams", &[], 0.0).await;
    let cancelled = [
        ("rpc_method", DUE),
        ("rpc_response_status_code", "CANCELLED"),
    ];
    until_is(
        &harness,
        "care_invitation_ended_streams_total",
        &cancelled,
        1.0,
    )
    .await;
}

#[tokio::test]
async fn what_becomes_of_notifications_is_counted_with_how_late_it_is() {
    let harness = Harness::start(NOW).await;
    for referral in ["R-1", "R-2", "R-3"] {
        let mut form = make::wire_form("2026-03-16", "2026-06-12");
        form.origin = Some(make::wire_referral(referral));
        form.visit_type = Some(v1::VisitType {
            code: referral.into(),
            display_name: String::new(),
        });
        harness
            .create(make::wire_create(form))
            .await
            .expect("created");
    }
    harness.advance("2026-03-02T09:01:00Z");
    let due = harness.lease_due().await;
    assert_eq!(due.len(), 3);
    harness.acknowledge_sent(&due[..1]).await;
    let parked = v1::Acknowledgement {
        outcome: Outcome::Park.into(),
        ..consumer::sent(&due[1])
    };
    consumer::answer(&harness, parked).await;
    let name = consumer::name(&due[2]);
    let (request, _) = name.split_once("/notifications/").expect("a name");
    harness
        .cancel(make::wire_cancel(request))
        .await
        .expect("cancelled");
    let seen = scrape(harness.metrics).await;
    let count = |outcome| {
        let labels = [("outcome", outcome)];
        seen.sum("care_invitation_notifications_total", &labels)
    };
    assert_eq!([count("sent"), count("parked")], [1.0, 1.0]);
    assert!(count("cancelled") >= 1.0);
    let lateness = |part: &str| {
        let name = format!("care_invitation_notification_lateness_seconds_{part}");
        seen.sum(&name, &[])
    };
    assert_eq!([lateness("count"), lateness("sum")], [1.0, 60.0]);
    assert!(seen.sum("care_invitation_commit_batch_operations_count", &[]) >= 6.0);
    assert!(seen.sum("care_invitation_commit_duration_seconds_count", &[]) >= 6.0);
}

#[tokio::test]
async fn a_lease_that_expires_is_counted_when_it_is_leased_again() {
    let harness = Harness::start(NOW).await;
    invite(&harness, "R-1").await;
    consumer::lease_one(&harness, 60).await;
    harness.advance("2026-03-02T09:02:00Z");
    let expired = [("event", "expired")];
    until_is(&harness, "care_invitation_leases_total", &expired, 0.0).await;
    consumer::lease_one(&harness, 60).await;
    until_is(&harness, "care_invitation_leases_total", &expired, 1.0).await;
}

#[tokio::test]
async fn what_waits_past_its_period_is_counted_as_skipped() {
    let harness = Harness::start(NOW).await;
    invite(&harness, "R-1").await;
    harness.advance("2026-06-13T09:00:00Z");
    assert!(harness.lease_due().await.is_empty());
    let skipped = [("outcome", "skipped")];
    until_is(
        &harness,
        "care_invitation_notifications_total",
        &skipped,
        1.0,
    )
    .await;
}

#[tokio::test]
async fn messages_of_protected_patients_that_wait_are_counted_apart() {
    let harness = Harness::start(NOW).await;
    let mut form = make::wire_form("2026-03-16", "2026-06-12");
    let patient = form.patient.as_mut().expect("a patient");
    patient.protection = v1::Protection::ConfidentialityMarked.into();
    let created = harness.create(make::wire_create(form)).await;
    let name = created.expect("created").name;
    let protected = "care_invitation_due_protected_notifications";
    until_is(&harness, protected, &[], 0.0).await;
    let release = v1::ReleaseHoldRequest {
        name,
        request_id: make::request_id(),
        channel: v1::DeliveryChannel::Letter.into(),
        comment: "the address is known".into(),
        ..Default::default()
    };
    within(harness.requests().release_hold(release))
        .await
        .expect("released");
    until_is(&harness, protected, &[], 1.0).await;
    let letter = [("channel", "letter")];
    until_is(&harness, "care_invitation_due_notifications", &letter, 1.0).await;
}

#[tokio::test]
async fn the_state_of_the_process_is_shown() {
    let harness = Harness::start(NOW).await;
    invite(&harness, "R-1").await;
    let seen = scrape(harness.metrics).await;
    assert_eq!(seen.sum("care_invitation_database_up", &[]), 1.0);
    assert_eq!(seen.sum("care_invitation_readiness", &[]), 1.0);
    let ready = [("state", "ready")];
    assert_eq!(seen.sum("care_invitation_readiness", &ready), 1.0);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(seen.sum("care_invitation_build_info", &version), 1.0);
    assert!(seen.sum("db_client_connection_max", &[]) >= 4.0);
    assert!(seen.sum("db_client_connections", &[]) >= 1.0);
    assert_eq!(
        seen.sum("care_invitation_commit_queue_operations", &[]),
        0.0
    );
    match Kind::of_this_run() {
        Kind::Sqlite => assert!(seen.sum("care_invitation_sqlite_wal_bytes", &[]) > 0.0),
        Kind::Postgres => {
            let lag = "care_invitation_change_feed_lag_seconds";
            until(&harness, lag, &[], |it| it > 0.0 && it < 5.0).await;
        }
    }
}

/// The names in the table of the documents, but for those of the other database and of TLS.
fn documented() -> BTreeSet<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
    let page = fs::read_to_string(page).expect("the page");
    let (_, section) = page.split_once("\n## Metrics\n").expect("a section");
    let (section, _) = section.split_once("\n## ").expect("another section");
    let other = match Kind::of_this_run() {
        Kind::Sqlite => "on PostgreSQL alone",
        Kind::Postgres => "on SQLite alone",
    };
    // The harness has no TLS.
    let is_served = |line: &&str| !line.contains(other) && !line.contains("with TLS alone");
    let rows = section.lines().filter(is_served);
    let names = rows.filter_map(|row| Some(row.strip_prefix("| `")?.split_once('`')?.0.to_owned()));
    names.collect()
}

#[tokio::test]
async fn the_documents_name_every_metric_and_no_other() {
    let harness = Harness::start(NOW).await;
    invite(&harness, "R-1").await;
    harness.hand_over_due().await;
    // Those of the database and of its feed come a moment later.
    until_is(&harness, "care_invitation_due_notifications", &[], 0.0).await;
    if Kind::of_this_run() == Kind::Postgres {
        let lag = "care_invitation_change_feed_lag_seconds";
        until(&harness, lag, &[], |it| it > 0.0).await;
    }
    let types = scrape(harness.metrics).await.types;
    let served: BTreeSet<String> = types.into_keys().collect();
    assert_eq!(served, documented());
}

#[tokio::test]
async fn no_patient_care_unit_or_caller_is_in_them() {
    let harness = Harness::start(NOW).await;
    invite(&harness, "R-19800301").await;
    let unit = "careUnits/198003012385/bookingRequests/198003012385";
    let refused = harness.get(unit).await.expect_err("no such request");
    assert_ne!(refused.code(), Code::Ok);
    // A path that is not served.
    get(harness.metrics, "/198003012385").await;
    harness.lease_due().await;
    until_is(
        &harness,
        "care_invitation_leased_notifications",
        &[("state", "leased")],
        1.0,
    )
    .await;
    let text = scrape(harness.metrics).await.text;
    let unit = make::wire_unit();
    let unit = unit.strip_prefix("careUnits/").expect("a name");
    for personal in [
        "8003012385",
        "R-1980",
        unit,
        "SE2321",
        "anonymous",
        "127.0.0.1",
    ] {
        assert!(!text.contains(personal), "{personal} in {text}");
    }
}

#[tokio::test]
async fn only_metrics_are_served_and_only_with_get() {
    let harness = Harness::start(NOW).await;
    let other = get(harness.metrics, "/198003012385").await;
    assert!(other.starts_with("HTTP/1.1 404"), "{other}");
    assert!(!other.contains("8003012385"), "{other}");
    let mut stream = TcpStream::connect(harness.metrics).await.expect("open");
    let post = b"POST /metrics HTTP/1.1\r\nhost: here\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(post).await.expect("sent");
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer))
        .await
        .expect("text");
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    assert!(answer.contains("allow: GET"), "{answer}");
}

/// The address that the log of the program says.
async fn where_logged(log: &Path) -> SocketAddr {
    within(async {
        loop {
            let log = fs::read_to_string(log).expect("text");
            let line = log.split_once("metrics are at http://");
            if let Some((address, _)) = line.and_then(|(_, it)| it.split_once("/metrics")) {
                return address.parse().expect("an address");
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn the_end_of_the_certificate_is_shown_of_the_one_that_is_in_force() {
    let (ca, folder) = (Ca::new(), TempDir::new().expect("a folder"));
    let path = |name: &str| folder.path().join(name).display().to_string();
    // The key last: with it the files can be used.
    let write = |end| {
        let pair = ca.issue_until(vec![dns("localhost")], end);
        fs::write(path("server.pem"), pair.certificate).expect("written");
        fs::write(path("server.key"), pair.key).expect("written");
    };
    write(2_000_000_000);
    let (certificate, key) = (path("server.pem"), path("server.key"));
    let arguments = [
        "--metrics-listen",
        "127.0.0.1:0",
        "--tls-cert",
        &certificate,
        "--tls-key",
        &key,
    ];
    let command = command_by(
        tokio::process::Command::new(PROGRAM),
        folder.path(),
        &arguments,
    );
    let log = folder.path().join("log");
    let _program = Program::run(command, log.clone()).await;
    let address = where_logged(&log).await;
    let end = async || {
        let name = "care_invitation_certificate_expiry_timestamp_seconds";
        scrape(address).await.sum(name, &[])
    };
    assert_eq!(end().await, 2e9);
    write(2_100_000_000);
    within(async {
        while end().await != 2.1e9 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_program_serves_them_where_it_is_told_to_and_prometheus_understands_them() {
    let folder = TempDir::new().expect("a folder");
    let arguments = ["--metrics-listen", "127.0.0.1:0", "--sandbox-clock", NOW];
    let command = command_by(
        tokio::process::Command::new(PROGRAM),
        folder.path(),
        &arguments,
    );
    let log = folder.path().join("log");
    let program = Program::run(command, log.clone()).await;
    let seen = scrape(where_logged(&log).await).await;
    assert_eq!(seen.sum("care_invitation_database_up", &[]), 1.0);
    program.signal("-TERM").await;
    let (status, ..) = program.end().await;
    assert!(status.success());
    if let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    {
        use std::io::Write;
        let stdin = promtool.stdin.take();
        let mut stdin = stdin.expect("it is piped");
        stdin.write_all(seen.text.as_bytes()).expect("taken");
        drop(stdin);
        let judged = promtool.wait_with_output().expect("it ends");
        assert!(judged.status.success(), "{judged:?}");
    }
}
