//! The program itself, as somebody starts it: settings, log, signals, its file.

use std::collections::HashSet;
use std::io::{BufRead, PipeReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use care_invitation::contract::sandbox_v1;
use care_invitation::contract::sandbox_v1::clock_service_client::ClockServiceClient;
use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::contract::v1::watch_worklist_response::Event;
use care_invitation::contract::v1::worklist_service_client::WorklistServiceClient;
use prost::Message;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use sea_orm::ConnectionTrait;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::backend::{Backend, Kind};
use crate::consumer::sent;
use crate::harness::{bad_fields, refusal, within};
use crate::make;
use crate::wire::{Wire, frame, strange};

const NOW: &str = "2026-03-02T09:00:00Z";

/// Path of the program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_care-invitation");

/// The program on a database in a folder of its own, with no setting from outside.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    command_by(Command::new(PROGRAM), folder, arguments)
}

/// The same by another program, which has been told to start it.
pub fn command_by(mut command: Command, folder: &Path, arguments: &[&str]) -> Command {
    let database = format!("sqlite://{}", folder.join("care.db").display());
    command
        .env_clear()
        .env("CARE_INVITATION_DATABASE_URL", database)
        .env("CARE_INVITATION_LISTEN", "127.0.0.1:0")
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs the program until it ends by itself.
pub async fn run(command: &mut Command) -> Output {
    within(command.output()).await.expect("it runs")
}

/// Makes a pipe, which nobody writes to.
pub fn make_pipe(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.expect("mkfifo").success());
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The program while it serves.
pub struct Program {
    pub child: Child,
    stdout: BufReader<ChildStdout>,
    log: PathBuf,
    /// Address that it says it listens on, with its scheme.
    pub address: String,
}

impl Program {
    /// Starts it and waits until it says that calls are accepted.
    pub async fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::run(command(folder, arguments), folder.join("log")).await
    }

    /// Runs a command that starts it, its log going to a file.
    pub async fn run(mut command: Command, log: PathBuf) -> Self {
        let file = std::fs::File::create(&log).expect("a file for the log");
        command.stdout(Stdio::piped()).stderr(file);
        let mut child = command.spawn().expect("it starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        within(stdout.read_line(&mut line)).await.expect("a line");
        let address = line.trim_end().strip_prefix("listening on ");
        let said = || std::fs::read_to_string(&log).expect("text");
        let address = address.unwrap_or_else(|| panic!("{line:?}\n{}", said()));
        let address = address.to_owned();
        Self {
            child,
            stdout,
            log,
            address,
        }
    }

    pub async fn channel(&self) -> Channel {
        let endpoint = Endpoint::try_from(self.address.clone()).expect("an address");
        within(endpoint.connect())
            .await
            .expect("calls are accepted")
    }

    /// Its address, scheme included.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn socket(&self) -> SocketAddr {
        let host = self.address.strip_prefix("http://").expect("a scheme");
        host.parse().expect("an address")
    }

    /// What it has written to its log by now.
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("text")
    }

    pub async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args([name, &pid]).status();
        assert!(within(sent).await.expect("kill").success());
    }

    /// Waits for its end; gives what it wrote to standard output since the address, and its log.
    pub async fn end(mut self) -> (ExitStatus, String, String) {
        let status = within(self.child.wait()).await.expect("it ends");
        let mut written = String::new();
        let read = self.stdout.read_to_string(&mut written);
        within(read).await.expect("text");
        let log = std::fs::read_to_string(&self.log).expect("text");
        (status, written, log)
    }
}

pub async fn create(
    channel: &Channel,
    call: v1::CreateBookingRequestRequest,
) -> Result<v1::BookingRequest, Status> {
    let mut client = BookingRequestServiceClient::new(channel.clone());
    let answer = within(client.create_booking_request(call)).await?;
    Ok(answer.into_inner().booking_request.expect("the request"))
}

pub async fn get(channel: &Channel, name: &str) -> Result<v1::BookingRequest, Status> {
    let mut client = BookingRequestServiceClient::new(channel.clone());
    let call = v1::GetBookingRequestRequest { name: name.into() };
    let answer = within(client.get_booking_request(call)).await?;
    Ok(answer.into_inner().booking_request.expect("the request"))
}

#[tokio::test]
async fn it_says_where_it_listens_and_a_signal_ends_it_well() {
    for (arguments, signal) in [(&[][..], "-TERM"), (&["serve"], "-INT")] {
        let folder = TempDir::new().expect("a folder");
        let program = Program::start(folder.path(), arguments).await;
        assert!(program.address.starts_with("http://127.0.0.1:"));
        assert!(!program.address.ends_with(":0"), "the port that was picked");
        let nobody = format!("{}/bookingRequests/{}", make::wire_unit(), make::key().id);
        let refused = get(&program.channel().await, &nobody).await;
        assert_eq!(refused.unwrap_err().code(), Code::NotFound);
        program.signal(signal).await;
        let (status, written, log) = program.end().await;
        assert!(status.success(), "{signal}: {status}\n{log}");
        assert_eq!(written, "", "the log does not go to standard output");
    }
}

#[tokio::test]
async fn a_connection_that_never_spoke_does_not_hold_it_beyond_twenty_seconds() {
    let folder = TempDir::new().expect("a folder");
    let program = Program::start(folder.path(), &[]).await;
    let silent = TcpStream::connect(program.socket()).await.expect("open");
    let signalled = Instant::now();
    program.signal("-TERM").await;
    // As long as a test may wait is as long as it may take.
    let (status, _, log) = program.end().await;
    assert!(
        status.success(),
        "{status} after {:?}\n{log}",
        signalled.elapsed()
    );
    drop(silent);
}

/// The program by a shell that has set a limit for it.
fn limited(folder: &Path, limit: &str, arguments: &[&str]) -> Command {
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        &format!("ulimit {limit}; exec \"$0\" \"$@\""),
        PROGRAM,
    ]);
    let mut shell = command_by(shell, folder, arguments);
    // Where a dump of its memory would go.
    shell.current_dir(folder);
    shell
}

#[tokio::test]
async fn one_address_cannot_take_all_file_handles() {
    let folder = TempDir::new().expect("a folder");
    let limited = limited(folder.path(), "-n 256", &[]);
    let program = Program::run(limited, folder.path().join("log")).await;
    let address = program.socket();
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(strange(address).await);
    }
    let nobody = format!("{}/bookingRequests/{}", make::wire_unit(), make::key().id);
    let refused = get(&program.channel().await, &nobody).await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    program.signal("-TERM").await;
    let (_, _, log) = program.end().await;
    assert!(log.contains("too many connections"), "{log}");
    drop(silent);
}

#[tokio::test]
async fn accepting_waits_for_file_handles_and_goes_on_when_there_are_some() {
    let folder = TempDir::new().expect("a folder");
    let program = Program::start(folder.path(), &[]).await;
    let pid = program.child.id().expect("it runs");
    let open = || {
        std::fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("it runs")
            .count()
    };
    let process = Pid::from_raw(i32::try_from(pid).expect("a process id"));
    let limit = |current| {
        let old = getrlimit(Resource::Nofile);
        let new = Rlimit { current, ..old };
        prlimit(process, Resource::Nofile, new).expect("limited")
    };
    let before = limit(Some(open() as u64));
    let waiting = TcpStream::connect(program.socket()).await.expect("queued");
    within(async {
        while !program.log().contains("accepting connections failed") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    limit(before.current);
    let nobody = format!("{}/bookingRequests/{}", make::wire_unit(), make::key().id);
    let refused = get(&program.channel().await, &nobody).await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    // However often it was tried. A handle that comes free for a moment lets one in and begins another time without.
    let log = program.log();
    let times = |line| log.matches(line).count();
    let failed = times("accepting connections failed");
    assert_eq!(failed, times("accepting connections again"), "{log}");
    drop(waiting);
}

#[tokio::test]
async fn every_bad_setting_is_named_at_once() {
    let folder = TempDir::new().expect("a folder");
    let mut bad = command(
        folder.path(),
        &[
            "--send-clock",
            "05:59",
            "--guarantee-days",
            "0",
            "--listen",
            "here",
        ],
    );
    bad.env("CARE_INVITATION_SANDBOX_CLOCK", "yesterday")
        .env("CARE_INVITATION_LOG_FORMAT", "xml")
        .env("CARE_INVITATION_DATABASE_URL", "mysql://user:hunter2@host");
    let ended = run(&mut bad).await;
    assert_eq!(ended.status.code(), Some(2));
    let said = text(&ended.stderr);
    for named in [
        "--send-clock",
        "--guarantee-days",
        "--listen",
        "CARE_INVITATION_SANDBOX_CLOCK",
        "CARE_INVITATION_LOG_FORMAT",
        "CARE_INVITATION_DATABASE_URL",
        "05:59",
        "yesterday",
    ] {
        assert!(said.contains(named), "{named} in {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
    assert_eq!(text(&ended.stdout), "");
}

#[tokio::test]
async fn a_date_that_is_too_recent_is_named_with_the_latest_one() {
    let folder = TempDir::new().expect("a folder");
    let arguments = [
        "purge",
        "--before",
        "2001-01-01",
        "--history-before",
        "2199-01-01",
    ];
    let ended = run(&mut command(folder.path(), &arguments)).await;
    assert_eq!(ended.status.code(), Some(2));
    let said = text(&ended.stderr);
    assert!(said.contains("\n  --history-before must be 20"), "{said}");
    assert!(said.contains(" or earlier"), "{said}");
    assert!(!said.contains("--before must"), "{said}");
    assert!(!folder.path().join("care.db").exists());
}

#[tokio::test]
async fn after_a_restore_says_what_it_has_marked_and_refuses_a_time_to_come() {
    let folder = TempDir::new().expect("a folder");
    let migrated = run(&mut command(folder.path(), &["migrate"])).await;
    assert!(migrated.status.success());
    let since = |since| ["after-restore", "--since", since];
    let ended = run(&mut command(folder.path(), &since("2199-01-01T00:00:00Z"))).await;
    assert_eq!(ended.status.code(), Some(2));
    let said = text(&ended.stderr);
    assert!(
        said.contains("\n  --since must not be in the future; it is 2199"),
        "{said}"
    );
    let ended = run(&mut command(
        folder.path(),
        &since("2026-03-02T10:00:00+01:00"),
    ))
    .await;
    let said = text(&ended.stdout);
    let begin = "marked 0 notifications as possible repeats; so is every other that falls due from 2026-03-02T09:00:00Z to 20";
    assert!(said.starts_with(begin), "{said} {}", text(&ended.stderr));
}

/// The head of the access log that a log in JSON has shown last.
fn head_in(log: &str) -> String {
    let (_, rest) = log.rsplit_once("\"head\":\"").expect("a head in the log");
    rest.split('"').next().expect("its end").to_owned()
}

#[tokio::test]
async fn a_verification_ends_with_three_when_the_access_log_is_not_as_its_head_says() {
    let folder = TempDir::new().expect("a folder");
    let arguments = ["--sandbox-clock", NOW, "--log-format", "json"];
    let program = Program::start(folder.path(), &arguments).await;
    let form = make::wire_form("2026-04-06", "2026-06-12");
    let channel = program.channel().await;
    let created = create(&channel, make::wire_create(form)).await;
    get(&channel, &created.expect("created").name)
        .await
        .expect("found");
    program.signal("-TERM").await;
    let (status, _, log) = program.end().await;
    assert!(status.success());
    let head = head_in(&log);

    let verify = ["audit", "verify", "--head", &head];
    let whole = run(&mut command(folder.path(), &verify)).await;
    let said = text(&whole.stdout);
    assert!(whole.status.success(), "{said} {}", text(&whole.stderr));
    let (chain, _) = head.split_once(':').expect("a chain");
    let expected =
        format!("chain {chain}: entries 1 to 2, head {head}\nwalked 2 entries in 1 chains\n");
    assert_eq!(said, expected);

    let url = format!("sqlite://{}", folder.path().join("care.db").display());
    let database = sea_orm::Database::connect(&url).await.expect("open");
    for (what, found) in [
        (
            "UPDATE access_log SET subject = 'nobody' WHERE sequence = 1",
            format!("altered: {chain}:1\n"),
        ),
        (
            "DELETE FROM access_log WHERE sequence = 2",
            format!("removed: {chain}:2\n"),
        ),
    ] {
        database.execute_unprepared(what).await.expect(what);
        let altered = run(&mut command(folder.path(), &verify)).await;
        let said = text(&altered.stdout);
        assert_eq!(altered.status.code(), Some(3), "{what}: {said}");
        assert!(said.contains(&found), "{what}: {said}");
    }

    let bad = ["audit", "verify", "--head", "1042"];
    let refused = run(&mut command(folder.path(), &bad)).await;
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    assert!(said.contains("--head"), "{said}");
}

#[tokio::test]
async fn the_access_log_is_kept_for_five_years() {
    let folder = TempDir::new().expect("a folder");
    let migrated = run(&mut command(folder.path(), &["migrate"])).await;
    assert!(migrated.status.success());
    let before = |date| ["purge", "--before", "2001-01-01", "--access-before", date];
    let refused = run(&mut command(folder.path(), &before("2199-01-01"))).await;
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    assert!(said.contains("\n  --access-before must be 20"), "{said}");
    let purged = run(&mut command(folder.path(), &before("2001-01-01"))).await;
    let said = text(&purged.stdout);
    assert!(purged.status.success(), "{said} {}", text(&purged.stderr));
    assert!(said.contains("0 entries of the access log"), "{said}");
}

#[tokio::test]
async fn an_unknown_flag_is_refused() {
    let folder = TempDir::new().expect("a folder");
    let ended = run(&mut command(folder.path(), &["--no-such-flag"])).await;
    assert_eq!(ended.status.code(), Some(2));
    assert!(text(&ended.stderr).contains("--no-such-flag"));
}

#[tokio::test]
async fn help_names_every_flag_and_its_variable() {
    const SETTINGS: &[&str] = &[
        "auth-audience",
        "auth-clients",
        "auth-issuer",
        "auth-jwks",
        "auth-jwks-ca",
        "cors-origin",
        "insecure",
        "subject-calls-per-second",
        "subject-rows-per-minute",
        "subject-streams",
        "tls-cert",
        "tls-client-ca",
        "tls-key",
        "listen",
        "database-url",
        "migrate",
        "sandbox-clock",
        "sandbox-speed",
        "send-clock",
        "guarantee-days",
        "log-format",
        "log-level",
        "drain-delay",
        "metrics-listen",
        "otlp-endpoint",
        "trace-ratio",
        "heartbeat",
        "changes-days",
    ];
    let folder = TempDir::new().expect("a folder");
    for (subcommand, own) in [
        (None, &[][..]),
        (Some("serve"), &[]),
        (Some("migrate"), &["distribute"]),
        (
            Some("purge"),
            &["before", "history-before", "access-before"],
        ),
        (Some("after-restore"), &["since"]),
        (Some("backup"), &[]),
        (Some("restore"), &[]),
        (Some("check"), &["json"]),
    ] {
        let arguments: Vec<_> = subcommand.into_iter().chain(["--help"]).collect();
        let ended = run(&mut command(folder.path(), &arguments)).await;
        assert!(ended.status.success());
        let said = text(&ended.stdout);
        for setting in SETTINGS {
            let variable = setting.replace('-', "_").to_uppercase();
            let variable = format!("[env: CARE_INVITATION_{variable}]");
            assert!(said.contains(&variable), "{variable} in {said}");
        }
        let named: HashSet<_> = said
            .lines()
            .filter_map(|line| line.trim().strip_prefix("--"))
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(
            named,
            SETTINGS.iter().chain(own).copied().collect(),
            "{said}"
        );
    }
    let ended = run(&mut command(folder.path(), &["--help"])).await;
    let said = text(&ended.stdout);
    for default in [
        "127.0.0.1:50051",
        "sqlite://care-invitation.db",
        "09:00",
        "90",
        "serve",
    ] {
        assert!(said.contains(default), "{default} in {said}");
    }
    assert!(
        !folder.path().join("care.db").exists(),
        "help opens nothing"
    );
}

#[tokio::test]
async fn a_second_process_on_the_same_file_is_refused() {
    let folder = TempDir::new().expect("a folder");
    let first = Program::start(folder.path(), &[]).await;
    let second = run(&mut command(folder.path(), &[])).await;
    assert_eq!(second.status.code(), Some(1));
    let said = text(&second.stderr);
    assert!(
        said.contains("another process uses the database file"),
        "{said}"
    );
    assert!(said.contains("care.db"), "{said}");
    assert_eq!(text(&second.stdout), "", "it has not listened");

    // The first goes on, and when it has gone the file is free.
    let form = make::wire_form("2026-05-18", "2026-06-12");
    let created = create(&first.channel().await, make::wire_create(later(form))).await;
    let name = created.expect("created").name;
    first.signal("-TERM").await;
    assert!(first.end().await.0.success());
    let next = Program::start(folder.path(), &[]).await;
    get(&next.channel().await, &name)
        .await
        .expect("it is there");
}

/// A form for the machine's clock: in the years to come.
pub fn later(form: v1::BookingRequest) -> v1::BookingRequest {
    v1::BookingRequest {
        constraints: Some(make::wire_constraints("2199-05-20", "2199-06-12")),
        ..form
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let folder = TempDir::new().expect("a folder");
    let arguments = ["--sandbox-clock", NOW];
    let mut program = Program::start(folder.path(), &arguments).await;
    let channel = program.channel().await;
    let mut created = Vec::new();
    for number in 0..10 {
        let mut form = make::wire_form("2026-04-06", "2026-06-12");
        form.origin = Some(make::wire_referral(&format!("R-{number}")));
        let call = make::wire_create(form);
        created.push((create(&channel, call.clone()).await.expect("created"), call));
    }
    let due = lease_due(&channel).await;
    assert_eq!(due.len(), created.len());
    acknowledge_sent(&channel, &due[..1]).await;
    within(program.child.kill()).await.expect("killed");

    let program = Program::start(folder.path(), &arguments).await;
    let channel = program.channel().await;
    let mut sent_count = 0;
    for (request, call) in created {
        let shown = get(&channel, &request.name).await.expect("it is there");
        let messages = shown.care_invitation.expect("an invitation").notifications;
        sent_count += usize::from(messages[0].send_time.is_some());
        let again = create(&channel, call).await.expect("a repeat");
        assert_eq!(again.name, request.name, "request ids survive too");
    }
    assert_eq!(sent_count, 1);
    assert!(lease_due(&channel).await.is_empty(), "leases survive too");
}

#[tokio::test]
async fn what_a_region_has_settled_is_what_messages_and_guarantees_go_by() {
    let folder = TempDir::new().expect("a folder");
    let arguments = [
        ["--sandbox-clock", NOW],
        ["--send-clock", "06:30"],
        ["--guarantee-days", "30"],
    ];
    let program = Program::start(folder.path(), arguments.as_flattened()).await;
    let channel = program.channel().await;
    let mut form = make::wire_form("2026-04-27", "2026-06-12");
    form.origin = Some(v1::booking_request::Origin::Referral(v1::Referral {
        referral_id: "R-1".into(),
        decision_date: "2026-02-20".into(),
    }));
    let created = create(&channel, make::wire_create(form)).await;
    let created = created.expect("created");
    assert_eq!(created.care_guarantee_date, "2026-03-22");
    // 06:30 is 05:30Z in winter and 04:30Z from 29 March on.
    let due = [
        "2026-03-16T05:30:00Z",
        "2026-03-30T04:30:00Z",
        "2026-04-13T04:30:00Z",
    ];
    for at in due {
        advance(&channel, at).await;
        let leased = lease_due(&channel).await;
        assert_eq!(leased.len(), 1, "{at}");
        acknowledge_sent(&channel, &leased).await;
    }
    let invitation = get(&channel, &created.name).await.expect("read");
    let invitation = invitation.care_invitation.expect("an invitation");
    let messages = invitation.notifications.iter();
    let shown: Vec<_> = messages.map(|it| it.due_time).collect();
    assert_eq!(shown, due.map(|at| Some(make::wire_at(at))));
    let silence = Some(make::wire_at("2026-04-27T04:30:00Z"));
    assert_eq!(invitation.no_response_time, silence);
}

async fn advance(channel: &Channel, to: &str) {
    let call = sandbox_v1::AdvanceTimeRequest {
        server_time: Some(make::wire_at(to)),
    };
    let mut client = ClockServiceClient::new(channel.clone());
    within(client.advance_time(call)).await.expect("moved");
}

/// Says that these messages have been handed over.
pub async fn acknowledge_sent(channel: &Channel, due: &[v1::DueNotification]) {
    let call = v1::AcknowledgeNotificationsRequest {
        acknowledgements: due.iter().map(sent).collect(),
    };
    let mut client = NotificationServiceClient::new(channel.clone());
    let answered = within(client.acknowledge_notifications(call)).await;
    answered.expect("recorded");
}

/// Leases every message that is due now.
pub async fn lease_due(channel: &Channel) -> Vec<v1::DueNotification> {
    use v1::stream_due_notifications_response::Event;
    let wishes = v1::StreamDueNotificationsRequest {
        until_idle: true,
        max_outstanding: 1_000,
        ..Default::default()
    };
    let mut client = NotificationServiceClient::new(channel.clone());
    let answer = within(client.stream_due_notifications(wishes)).await;
    let mut events = answer.expect("a stream").into_inner();
    let mut leased = Vec::new();
    while let Some(event) = within(events.message()).await.expect("an event") {
        if let Some(Event::Due(due)) = event.event {
            leased.push(due);
        }
    }
    leased
}

#[tokio::test]
async fn the_sandbox_clock_is_said_loudly_in_the_log() {
    for (arguments, said) in [(&["--sandbox-clock", NOW][..], true), (&[], false)] {
        let folder = TempDir::new().expect("a folder");
        let program = Program::start(folder.path(), arguments).await;
        program.signal("-TERM").await;
        let (_, _, log) = program.end().await;
        assert_eq!(log.contains("SANDBOX CLOCK"), said, "{log}");
    }
}

#[tokio::test]
async fn nothing_of_a_row_that_cannot_be_decoded_reaches_the_log() {
    const NUMBER: &str = "198003012385";
    const SPOILT: [&str; 4] = [
        "UPDATE booking_request SET document = '{\"language\":198003012385}'",
        "UPDATE booking_request SET document = '{\"198003012385'",
        "UPDATE booking_request SET document = '{\"constraints\":\"198003012385\"}'",
        "UPDATE booking_request SET document = '\"198003012385\"'",
    ];
    let elsewhere = match Kind::of_this_run() {
        Kind::Sqlite => None,
        Kind::Postgres => Backend::postgres().await,
    };
    let folder = TempDir::new().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("care.db").display());
    let url = elsewhere.as_ref().map_or(url, Backend::url);
    let arguments = ["--sandbox-clock", NOW, "--log-level", "trace"];
    let arguments = [&arguments[..], &["--database-url", &url]].concat();
    let first = Program::start(folder.path(), &arguments).await;
    let mut form = make::wire_form("2026-04-06", "2026-06-12");
    form.patient.get_or_insert_default().personal_id = NUMBER.into();
    let created = create(&first.channel().await, make::wire_create(form)).await;
    let name = created.expect("created").name;
    first.signal("-TERM").await;
    assert!(first.end().await.0.success());

    for spoil in SPOILT {
        let program = Program::start(folder.path(), &arguments).await;
        let database = sea_orm::Database::connect(&url).await.expect("open");
        let spoilt = database.execute_unprepared(spoil).await;
        assert_eq!(spoilt.expect(spoil).rows_affected(), 1);
        database.close().await.expect("closed");
        let channel = program.channel().await;
        for _ in 0..3 {
            let refused = get(&channel, &name).await.unwrap_err();
            assert_eq!(refused.code(), Code::Internal);
            assert_silent(&refused, NUMBER);
            assert!(lease_due(&channel).await.is_empty());
        }
        program.signal("-TERM").await;
        let (status, written, log) = program.end().await;
        assert!(status.success());
        for said in [&written, &log] {
            assert!(!said.contains(&NUMBER[2..]), "{spoil}: {said}");
        }
        let id = name.rsplit('/').next().expect("an id");
        let named = log
            .lines()
            .filter(|it| it.contains("cannot be decoded and is quarantined"));
        let named: Vec<_> = named.collect();
        assert_eq!(named.len(), 1, "once: {log}");
        for said in ["booking_request", id, "document: "] {
            assert!(named[0].contains(said), "{said} in {}", named[0]);
        }
    }
}

#[tokio::test]
async fn nothing_that_postgresql_quotes_in_an_error_reaches_the_log() {
    const NUMBER: &str = "198003012385";
    let Some(backend) = Backend::postgres().await else {
        return;
    };
    let folder = TempDir::new().expect("a folder");
    let url = backend.url();
    let arguments = ["--database-url", &url, "--log-level", "trace"];
    let program = Program::start(folder.path(), &arguments).await;
    let database = sea_orm::Database::connect(&url).await.expect("open");
    // Refused with the whole document in the message.
    let column = "ALTER TABLE booking_request ADD COLUMN spoilt integer \
                  GENERATED ALWAYS AS (document::integer) STORED";
    database.execute_unprepared(column).await.expect("altered");
    database.close().await.expect("closed");
    let mut form = later(make::wire_form("2199-05-20", "2199-06-12"));
    form.purpose = NUMBER.into();
    let refused = create(&program.channel().await, make::wire_create(form)).await;
    let refused = refused.expect_err("the database refuses");
    assert_eq!(refused.code(), Code::Internal);
    assert_silent(&refused, NUMBER);
    program.signal("-TERM").await;
    let (_, written, log) = program.end().await;
    assert!(log.contains("SQLSTATE 22P02"), "{log}");
    for said in [&written, &log] {
        assert!(!said.contains(&NUMBER[2..]), "{said}");
    }
}

/// A request that takes some 17 KB.
fn large(number: usize) -> v1::BookingRequest {
    let mut form = make::wire_form("2026-05-18", "2026-06-12");
    form.origin = Some(make::wire_referral(&format!("R-{number}")));
    form.invitation = false;
    let text = "å".repeat(2_000);
    let instructions = form.patient_instructions.get_or_insert_default();
    instructions.visit_length.clone_from(&text);
    instructions.supplementary.clone_from(&text);
    instructions.sampling_before_visit.clone_from(&text);
    instructions.sampling_information = text;
    form
}

/// The most memory that the program has in use for so long, in megabytes.
async fn most_resident(program: &Program, time: Duration) -> u64 {
    let pid = program.child.id().expect("it runs");
    let begun = Instant::now();
    let mut most = 0;
    while begun.elapsed() < time {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux");
        let resident = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
        let resident = resident.expect("its memory").trim().trim_end_matches(" kB");
        most = most.max(resident.parse::<u64>().expect("a number") / 1_000);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    most
}

#[tokio::test]
async fn streams_that_nobody_reads_take_little_memory_and_hold_nobody_back() {
    const REQUESTS: usize = 500;
    const STREAMS: usize = 100;
    let folder = TempDir::new().expect("a folder");
    let program = Program::start(folder.path(), &["--sandbox-clock", NOW]).await;
    let channel = program.channel().await;
    let mut creating = JoinSet::new();
    for number in 0..REQUESTS {
        let channel = channel.clone();
        creating.spawn(async move {
            let created = create(&channel, make::wire_create(large(number))).await;
            created.expect("created");
        });
    }
    creating.join_all().await;
    let before = most_resident(&program, Duration::from_millis(200)).await;

    let host = program.address.strip_prefix("http://").expect("a scheme");
    let wire = Wire::without_window(host.parse().expect("an address")).await;
    let query = v1::WorklistQuery {
        worklists: vec![v1::Worklist::BookingRequests.into()],
        care_units: vec![make::wire_unit()],
        ..Default::default()
    };
    let watch = v1::WatchWorklistRequest {
        query: Some(query),
        ..Default::default()
    };
    let mut unread = Vec::new();
    for _ in 0..STREAMS {
        let path = "/careinvitation.v1.WorklistService/WatchWorklist";
        let mut stream = wire.begin(path, &[]).await;
        stream.send_last(frame(0, &watch.encode_to_vec()));
        unread.push(stream);
    }
    // Longer than a watcher may be behind.
    let most = most_resident(&program, Duration::from_secs(7)).await;
    println!("{before} MB, then {most} MB");
    assert!(most < before + 150, "{before} MB, then {most} MB");

    let mut worklists = WorklistServiceClient::new(channel);
    let events = within(worklists.watch_worklist(watch)).await;
    let mut events = events.expect("a stream").into_inner();
    for _ in 0..REQUESTS {
        let said = within(events.message()).await.expect("an event");
        let event = said.expect("an event").event.expect("an event");
        assert!(matches!(event, Event::Upserted(_)), "{event:?}");
    }
}

/// The program with outputs that are read as far as the line with its address.
struct Unread {
    child: Child,
    channel: Channel,
    /// Standard error; standard output too where both are one pipe.
    log: std::io::BufReader<PipeReader>,
}

impl Unread {
    async fn start(folder: &Path, one_pipe: bool) -> Self {
        let (log, stderr) = std::io::pipe().expect("a pipe");
        let (mut said, mut stdout) = std::io::pipe().expect("a pipe");
        if one_pipe {
            said = log.try_clone().expect("another handle");
            stdout = stderr.try_clone().expect("another handle");
        }
        let mut command = command(folder, &["--log-level", "debug"]);
        let child = command.stdout(stdout).stderr(stderr).spawn();
        let child = child.expect("it starts");
        // Byte by byte, so that nothing is read beyond the line.
        let address = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            while !(text.contains("listening on ") && text.ends_with('\n')) {
                let mut byte = [0];
                said.read_exact(&mut byte).expect("a line");
                text.push(char::from(byte[0]));
            }
            let at = text.rfind("http://").expect("an address");
            text[at..].trim_end().to_owned()
        });
        let address = within(address).await.expect("read");
        let endpoint = Endpoint::try_from(address).expect("an address");
        Self {
            child,
            channel: within(endpoint.connect()).await.expect("accepted"),
            log: std::io::BufReader::new(log),
        }
    }

    /// Makes calls, some at once, each of which is a line in the log.
    async fn call(&self, count: usize) {
        const AT_ONCE: usize = 64;
        let callers = (0..AT_ONCE).map(|_| {
            let channel = self.channel.clone();
            async move {
                for _ in 0..count / AT_ONCE {
                    let refused = get(&channel, "nobody").await.expect_err("no name");
                    assert_eq!(refused.code(), Code::InvalidArgument);
                }
            }
        });
        callers.collect::<JoinSet<()>>().join_all().await;
    }

    async fn end_well(&mut self) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(within(sent).await.expect("kill").success());
        let status = within(self.child.wait()).await.expect("it ends");
        assert!(status.success(), "{status}");
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_no_call_and_not_the_end() {
    for one_pipe in [false, true] {
        let folder = TempDir::new().expect("a folder");
        let mut program = Unread::start(folder.path(), one_pipe).await;
        program.call(6_400).await;
        program.end_well().await;
    }
}

#[tokio::test]
async fn log_lines_that_found_no_room_are_counted_once_there_is_room() {
    let folder = TempDir::new().expect("a folder");
    let mut program = Unread::start(folder.path(), false).await;
    program.call(6_400).await;
    let mut log = program.log.by_ref().lines();
    let dropped = loop {
        let line = log.next().expect("a line").expect("text");
        if let Some((_, count)) = line.split_once("lines=") {
            assert!(line.contains("log lines dropped"), "{line}");
            break count.trim_end().parse::<usize>().expect("a count");
        }
    };
    assert!((1..6_400).contains(&dropped), "{dropped}");
    program.end_well().await;
}

/// Identity numbers that callers send below; the last three are bad.
const NUMBERS: [&str; 5] = [
    "198003012385",
    "191212121212",
    "196408233235",
    "197210869924",
    "201509160006",
];

#[tokio::test]
async fn no_identity_number_reaches_the_log_at_its_most_verbose_nor_what_a_crash_leaves() {
    for (format, end) in [("text", "-TERM"), ("json", "-ABRT")] {
        let folder = TempDir::new().expect("a folder");
        let arguments = [
            "--sandbox-clock",
            NOW,
            "--log-level",
            "trace",
            "--log-format",
            format,
        ];
        let dumped = limited(folder.path(), "-c unlimited", &arguments);
        let program = Program::run(dumped, folder.path().join("log")).await;
        let channel = program.channel().await;
        for number in NUMBERS {
            drive(&channel, number).await;
        }
        program.signal(end).await;
        let (status, written, log) = program.end().await;
        assert_eq!(status.success(), end == "-TERM", "{status}");
        assert!(!status.core_dumped(), "its memory is on the disk");
        assert!(
            log.contains("CreateBookingRequest"),
            "calls are logged: {log}"
        );
        for number in NUMBERS {
            for said in [&written, &log] {
                let tail = &number[2..];
                assert!(!said.contains(tail), "{number} in {said}");
            }
        }
    }
}

/// Makes the calls that carry an identity number, or that carry one where none belongs.
async fn drive(channel: &Channel, number: &str) {
    let good = NUMBERS[..2].contains(&number);
    let mut form = make::wire_form("2026-04-06", "2026-06-12");
    form.patient.get_or_insert_default().personal_id = number.into();
    let created = create(channel, make::wire_create(form.clone())).await;
    match created {
        Ok(_) => assert!(good, "a bad number was taken"),
        Err(refused) => {
            assert!(!good, "a good number was refused: {}", refused.message());
            assert_eq!(
                bad_fields(&refused),
                ["booking_request.patient.personal_id"]
            );
            assert!(!format!("{refused:?}").contains(&number[2..]));
        }
    }
    let duplicate = create(channel, make::wire_create(form.clone())).await;
    assert_silent(&duplicate.unwrap_err(), number);
    // Where it does not belong: in a name, a referral, a date, an id.
    let mut misplaced = make::wire_create(form);
    misplaced.parent = format!("careUnits/{number}");
    misplaced.request_id = number.into();
    let form = misplaced.booking_request.get_or_insert_default();
    form.origin = Some(make::wire_referral(&format!("{number}\u{0}")));
    form.constraints = Some(make::wire_constraints(number, number));
    let refused = create(channel, misplaced).await.unwrap_err();
    assert_silent(&refused, number);
    let refused = get(channel, number).await.unwrap_err();
    assert_silent(&refused, number);

    let mut worklists = WorklistServiceClient::new(channel.clone());
    let list = v1::ListWorklistRequest {
        query: Some(v1::WorklistQuery {
            worklists: vec![v1::Worklist::All.into()],
            care_units: vec![make::wire_unit()],
            personal_id: number.into(),
            personal_id_type: v1::PersonalIdType::Personnummer.into(),
            ..Default::default()
        }),
        page_token: if good { String::new() } else { number.into() },
        ..Default::default()
    };
    match within(worklists.list_worklist(list)).await {
        Ok(listed) => assert_eq!(listed.into_inner().booking_requests.len(), 1),
        Err(refused) => assert_silent(&refused, number),
    }
    let due = lease_due(channel).await;
    assert_eq!(due.len(), usize::from(good));
    let acknowledgements = due.iter().map(|due| v1::Acknowledgement {
        cause: format!("nobody at {number}"),
        ..sent(due)
    });
    let call = v1::AcknowledgeNotificationsRequest {
        acknowledgements: acknowledgements.collect(),
    };
    let mut client = NotificationServiceClient::new(channel.clone());
    let answered = within(client.acknowledge_notifications(call)).await;
    match answered {
        Ok(_) => assert!(good),
        Err(refused) => assert_silent(&refused, number),
    }
}

/// A refusal of ours that does not repeat the number.
fn assert_silent(refused: &Status, number: &str) {
    refusal(refused);
    let said = [
        refused.message().as_bytes(),
        refused.details(),
        format!("{:?}", refused.metadata()).as_bytes(),
    ]
    .concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(!said.contains(&number[2..]), "{number} in {said}");
}

#[tokio::test]
async fn a_program_that_is_told_to_stop_serves_on_while_others_look_away() {
    let folder = TempDir::new().expect("a folder");
    let program = Program::start(
        folder.path(),
        &["--sandbox-clock", NOW, "--drain-delay", "2"],
    )
    .await;
    let channel = program.channel().await;
    let mut health = HealthClient::new(channel.clone());
    let watch = health.watch(HealthCheckRequest::default());
    let mut watched = within(watch).await.expect("a stream").into_inner();
    let mut next = async || {
        let next = within(watched.message()).await.expect("an answer");
        next.expect("one").status()
    };
    assert_eq!(next().await, ServingStatus::Serving);
    program.signal("-TERM").await;
    // At the start the same may be said twice.
    while next().await != ServingStatus::NotServing {}
    // Over a new connection too.
    let form = make::wire_form("2026-03-09", "2026-06-12");
    let created = create(&program.channel().await, make::wire_create(form)).await;
    created.expect("still served");
    let (status, ..) = program.end().await;
    assert!(status.success());
}
