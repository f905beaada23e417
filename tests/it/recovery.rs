//! PostgreSQL taken back to a moment, by the commands that `docs/operations.md` shows: a base backup while the service runs, WAL in
//! an archive, a table that somebody empties by mistake, and consumers that have handed messages over since.

use std::collections::HashMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::iter::once;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use care_invitation::contract::calendar::render_instant;
use care_invitation::contract::sandbox_v1;
use care_invitation::contract::sandbox_v1::clock_service_client::ClockServiceClient;
use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use care_invitation::contract::v1::notification::State;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::domain::calendar::Instant;
use chrono::{Days, SecondsFormat, TimeDelta, Utc};
use prost_types::Timestamp;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::cluster::{initialized, program};
use crate::consumer::{Step, lease, message, name, sent, step};
use crate::harness::within;
use crate::make;
use crate::postgres;
use crate::program::{PROGRAM, Program, command, create, get, lease_due};

const OPERATIONS: &str = include_str!("../../docs/operations.md");
/// Where the document's server listens, where its backups are, the moment to which it goes back, and the time from which
/// messages may have been handed over. In the test they are others, and those are put here.
const ADDRESS: &str = "127.0.0.1:5432";
const BACKUPS: &str = "/backup";
const MOMENT: &str = "2026-03-02 10:00:00+00";
const SINCE: &str = "2026-03-02T09:00:00Z";

/// How long commands may take that copy a server and flush it to the disk.
const COMMANDS_MAX: Duration = Duration::from_secs(120);

/// Stands in for a program that is installed.
const PROGRAM_BY_NAME: &str = r#"
care-invitation() { "$PROGRAM" "$@"; }
"#;

/// Returns the block that the document shows first after a text.
fn block(after: &str) -> String {
    let (_, rest) = OPERATIONS.split_once(after).expect("the document has it");
    let mut lines = rest.lines();
    let fence = lines
        .find(|line| line.trim_start().starts_with("```"))
        .expect("a block");
    let indent = &fence[..fence.len() - fence.trim_start().len()];
    let block = lines.map(|line| line.strip_prefix(indent).unwrap_or(line));
    let block = block.take_while(|line| *line != "```");
    block.map(|line| format!("{line}\n")).collect()
}

/// Puts a text where the document has another.
fn with(text: &str, shown: &str, put: &str) -> String {
    assert!(text.contains(shown), "{shown} in {text}");
    text.replace(shown, put)
}

/// A server as its operator has it: a folder in `PGDATA`, started by `pg_ctl`. It ends with the test, however that ends.
struct Server {
    address: SocketAddr,
    data: PathBuf,
    backups: PathBuf,
    /// Stops the server when its standard input ends.
    keeper: Child,
    _folder: TempDir,
}

impl Server {
    /// One that archives its WAL as the document says.
    async fn start() -> Option<Self> {
        let folder = initialized().await?;
        let data = folder.path().join("data");
        let backups = folder.path().join("backup");
        for folder in [&backups, &backups.join("wal")] {
            fs::create_dir(folder).expect("a folder");
            fs::set_permissions(folder, Permissions::from_mode(0o777)).expect("opened");
        }
        let address = SocketAddr::from(([127, 0, 0, 1], postgres::free_port()));
        let mut keeper = postgres::as_server_user("sh");
        keeper.args([
            "-c",
            r#"cat > /dev/null; "$0" stop --pgdata "$1" --mode immediate > /dev/null 2>&1"#,
        ]);
        keeper.arg(program("pg_ctl")).arg(&data);
        let keeper = keeper.stdin(Stdio::piped()).spawn().expect("sh");
        let server = Self {
            address,
            data,
            backups,
            keeper,
            _folder: folder,
        };
        let archive = block("where its user may write to `/backup/wal`");
        let archive = server.placed(&archive);
        let port = address.port();
        let settings = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n\
             dynamic_shared_memory_type = mmap\nshared_buffers = 16MB\n{archive}"
        );
        let file = server.data.join("postgresql.conf");
        let file = OpenOptions::new().append(true).open(file);
        let written = file.expect("a file").write_all(settings.as_bytes());
        written.expect("written");
        server
            .run(r#"pg_ctl start --wait --log "$PGDATA.log""#)
            .await;
        Some(server)
    }

    /// A text of the document, with the paths of the test.
    fn placed(&self, text: &str) -> String {
        with(text, BACKUPS, self.backups.to_str().expect("a plain name"))
    }

    fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address)
    }

    /// Runs commands as the document has them, the first that fails being the last. Returns what they print.
    async fn run(&self, script: &str) -> String {
        let programs = ["pg_ctl", "pg_basebackup", "pg_verifybackup", "psql"];
        let programs: String = programs.into_iter().map(as_server_user).collect();
        let mut shell = Command::new("bash");
        shell
            .args([
                "-c",
                &format!("set -euo pipefail\n{PROGRAM_BY_NAME}{programs}{script}"),
            ])
            .env("PGDATA", &self.data)
            .env("PROGRAM", PROGRAM)
            .env("CARE_INVITATION_DATABASE_URL", self.url())
            // The folder of the test may be closed to the server's user.
            .current_dir("/")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let ended = timeout(COMMANDS_MAX, shell.output()).await;
        let ended = ended.expect("in time").expect("bash runs");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{script}\n{said}");
        String::from_utf8(ended.stdout).expect("text")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // It has ended before its folder goes.
        let _ = self.keeper.wait();
    }
}

/// A function of the shell that runs one of PostgreSQL's programs as the user who may.
fn as_server_user(name: &str) -> String {
    let command = postgres::as_server_user(program(name));
    let words = once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|it| it.to_str().expect("plain")).collect();
    format!("{name}() {{ {} \"$@\"; }}\n", words.join(" "))
}

/// The service on that server, by a clock of its own or by the machine's.
async fn serve(server: &Server, folder: &Path, arguments: &[&str]) -> (Program, Channel) {
    let mut command = command(folder, arguments);
    command.env("CARE_INVITATION_DATABASE_URL", server.url());
    let program = Program::run(command, folder.join("log")).await;
    let channel = program.channel().await;
    (program, channel)
}

async fn stop(program: Program) {
    program.signal("-TERM").await;
    let (status, _, log) = program.end().await;
    assert!(status.success(), "{log}");
}

/// The creation of a request of this patient, of whom the purpose tells; its message is due at once.
fn creation(patient: &str) -> v1::CreateBookingRequestRequest {
    let today = Utc::now().date_naive();
    let [first, last] = [20, 120].map(|days| (today + Days::new(days)).to_string());
    make::wire_create(v1::BookingRequest {
        origin: Some(make::wire_referral(patient)),
        purpose: patient.into(),
        ..make::wire_form(&first, &last)
    })
}

async fn created(channel: &Channel, patient: &str) -> String {
    let created = create(channel, creation(patient)).await;
    created.expect("created").name
}

/// The state of the first message of a request.
async fn first_message(channel: &Channel, name: &str) -> State {
    let request = get(channel, name).await.expect("it is there");
    request.care_invitation.expect("invited").notifications[0].state()
}

/// A consumer as the documents have it, whose journal is whole.
#[derive(Default)]
struct Adapter {
    journal: HashMap<String, Timestamp>,
    /// What patients got: who, in which round, which message of it.
    handed_over: Vec<(String, i32, Step)>,
}

impl Adapter {
    /// Takes what is due by this clock. Returns, of each message, whether the journal had it and whether it was said to be a
    /// possible repeat.
    async fn take(&mut self, channel: &Channel, now: Instant) -> Vec<(bool, bool)> {
        let mut client = NotificationServiceClient::new(channel.clone());
        let due = lease_due(channel).await;
        let is_known = |due: &v1::DueNotification| self.journal.contains_key(&name(due));
        let taken = due.iter().map(|it| (is_known(it), it.possible_repeat));
        let taken = taken.collect();
        let new: Vec<_> = due.iter().filter(|it| !is_known(it)).collect();
        if !new.is_empty() {
            let leases = new.iter().map(|it| lease(it)).collect();
            let call = v1::AuthorizeDispatchRequest { leases };
            let answer = within(client.authorize_dispatch(call)).await;
            let results = answer.expect("an answer").into_inner().results;
            assert!(results.iter().all(|it| it.authorized), "{results:?}");
        }
        for due in new {
            self.journal.insert(name(due), render_instant(now));
            let (message, patient) = (message(due), due.purpose.clone());
            let what = (patient, message.round, step(message));
            self.handed_over.push(what);
        }
        let acknowledge = |due: &v1::DueNotification| v1::Acknowledgement {
            send_time: self.journal.get(&name(due)).copied(),
            ..sent(due)
        };
        if !due.is_empty() {
            let acknowledgements = due.iter().map(acknowledge).collect();
            let call = v1::AcknowledgeNotificationsRequest { acknowledgements };
            let answer = within(client.acknowledge_notifications(call)).await;
            let results = answer.expect("an answer").into_inner().results;
            assert!(results.iter().all(|it| it.recorded), "{results:?}");
        }
        taken
    }

    /// What was handed over to a patient, in the order of rounds.
    fn received(&self, patient: &str) -> Vec<(i32, Step)> {
        let of_patient = self.handed_over.iter().filter(|it| it.0 == patient);
        let mut received: Vec<_> = of_patient.map(|it| (it.1, it.2)).collect();
        received.sort();
        received
    }
}

const INVITATION: Step = (v1::NotificationKind::Invitation, 0);
const FIRST_REMINDER: Step = (v1::NotificationKind::Reminder, 1);
const SECOND_REMINDER: Step = (v1::NotificationKind::Reminder, 2);
/// Patients whose messages are handed over before the moment.
const TOLD: [&str; 3] = ["told-1", "told-2", "told-3"];
/// Those whose messages are due before it and handed over after it.
const WAITING: [&str; 4] = ["waiting-1", "waiting-2", "waiting-3", "books"];

/// How many requests are created while the base backup is made.
const MEANWHILE: usize = 100;

/// Makes a base backup while somebody writes. Returns the names of what was answered meanwhile.
async fn back_up(server: &Server, channel: &Channel) -> Vec<String> {
    let script = block("A base backup is made while the service runs");
    let script = server.placed(&with(&script, ADDRESS, &server.address.to_string()));
    let writing = async {
        let mut names = Vec::new();
        for number in 0..MEANWHILE {
            names.push(created(channel, &format!("meanwhile-{number}")).await);
        }
        names
    };
    let (names, _) = tokio::join!(writing, server.run(&script));
    names
}

/// Takes the server back to a moment.
async fn take_back(server: &Server, moment: Instant) {
    let script = block("to a moment, from [a base backup");
    let script = server.placed(&with(&script, ADDRESS, &server.address.to_string()));
    let moment = moment.format("%F %T%.6f+00").to_string();
    server.run(&with(&script, MOMENT, &moment)).await;
}

#[tokio::test]
async fn a_server_that_is_taken_back_to_a_moment_has_what_was_answered_and_nobody_is_written_to_twice()
 {
    let Some(server) = Server::start().await else {
        return;
    };
    let folder = TempDir::new().expect("a folder");
    let (program, channel) = serve(&server, folder.path(), &["--migrate"]).await;
    let mut adapter = Adapter::default();
    let mut kept = Vec::new();
    let mut told = vec![created(&channel, TOLD[0]).await];
    adapter.take(&channel, Utc::now()).await;
    kept.extend(back_up(&server, &channel).await);
    // These are in the WAL alone.
    for patient in &TOLD[1..] {
        told.push(created(&channel, patient).await);
    }
    adapter.take(&channel, Utc::now()).await;
    let mut waiting = Vec::new();
    for patient in WAITING {
        waiting.push(created(&channel, patient).await);
    }
    let moment = Utc::now();

    adapter.take(&channel, Utc::now()).await;
    let creation = creation("later");
    let later = create(&channel, creation.clone()).await.expect("created");
    adapter.take(&channel, Utc::now()).await;
    let visit = (Utc::now() + TimeDelta::days(30)).to_rfc3339();
    let booking = make::wire_booking(&waiting[3], &visit);
    let mut client = BookingRequestServiceClient::new(channel.clone());
    let booked = within(client.record_booking(booking.clone())).await;
    booked.expect("booked");
    let mistake = format!("psql {} -qc 'TRUNCATE notification, history'", server.url());
    server.run(&mistake).await;
    stop(program).await;
    let handed_over = adapter.handed_over.len();

    take_back(&server, moment).await;
    let (program, channel) = serve(&server, folder.path(), &[]).await;
    for name in &told {
        assert_eq!(first_message(&channel, name).await, State::Sent, "{name}");
    }
    for name in kept.iter().chain(&waiting) {
        get(&channel, name).await.expect("it was answered before");
    }
    for name in &waiting {
        let state = first_message(&channel, name).await;
        assert_eq!(state, State::Scheduled, "{name}: that was after");
    }
    get(&channel, &later.name).await.expect_err("it came after");

    // What callers repeat: bookings as they were, and creations with what the journal has of them.
    let mut client = BookingRequestServiceClient::new(channel.clone());
    let booked = within(client.record_booking(booking)).await;
    booked.expect("booked again");
    let known = adapter.journal.iter();
    let known = known.filter(|(name, _)| name.starts_with(&later.name));
    let prior_messages = known.map(|(_, at)| v1::PriorMessage {
        kind: v1::NotificationKind::Invitation.into(),
        channel: v1::DeliveryChannel::Inbox.into(),
        send_time: Some(*at),
        ..Default::default()
    });
    let anew = v1::CreateBookingRequestRequest {
        prior_messages: prior_messages.collect(),
        ..creation
    };
    create(&channel, anew).await.expect("created anew");
    let since = (moment - TimeDelta::hours(1)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let script = with(&block("Run this, once, with T"), SINCE, &since);
    let said = server.run(&script).await;
    assert!(said.starts_with("marked "), "{said}");

    let now = Utc::now();
    let taken = adapter.take(&channel, now).await;
    // The booking has ended one of those that waited.
    assert_eq!(taken, [(true, true); WAITING.len() - 1]);
    assert_eq!(adapter.handed_over.len(), handed_over, "known is known");
    stop(program).await;
    goes_on(&server, folder.path(), &mut adapter).await;
    let all = [INVITATION, FIRST_REMINDER, SECOND_REMINDER].map(|it| (1, it));
    for patient in TOLD.iter().chain(&WAITING[..3]).chain(&["later"]) {
        assert_eq!(adapter.received(patient), all, "{patient}");
    }
    assert_eq!(adapter.received("books"), [(1, INVITATION)]);
    assert_eq!(adapter.received("afterwards"), all);
}

/// Lets the service go on by a clock that is moved, until nothing is left to come.
async fn goes_on(server: &Server, folder: &Path, adapter: &mut Adapter) {
    let mut now = Utc::now();
    let (program, channel) = serve(server, folder, &["--sandbox-clock", &now.to_rfc3339()]).await;
    created(&channel, "afterwards").await;
    adapter.take(&channel, now).await;
    for _ in 0..3 {
        now += TimeDelta::days(15);
        let to = sandbox_v1::AdvanceTimeRequest {
            server_time: Some(render_instant(now)),
        };
        let mut client = ClockServiceClient::new(channel.clone());
        within(client.advance_time(to)).await.expect("forward");
        adapter.take(&channel, now).await;
    }
    stop(program).await;
}
