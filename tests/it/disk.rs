//! SQLite in trouble: a full disk, writes that fail, another process that has the lock. Nothing is answered OK
//! that is not stored, and the service recovers without a restart.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use care_invitation::contract::v1;
use care_invitation::contract::v1::watch_worklist_response::Event;
use care_invitation::contract::v1::worklist_service_client::WorklistServiceClient;
use sea_orm::{ConnectionTrait, Database};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::harness::{Harness, refusal, within};
use crate::make;
use crate::program::{
    PROGRAM, Program, acknowledge_sent, command_by, create, get, lease_due, run, text,
};

const NOW: &str = "2026-03-02T09:00:00Z";
/// Size of the disk, and of the file that fills a part of it until it is removed, in MiB.
const DISK_MIB: usize = 16;
const FILLER_MIB: usize = 12;
/// Number of calls after which the disk must be full.
const CREATES_MAX: usize = 2_000;

/// A small disk in memory, which only those see who enter the namespace of the process that has mounted it.
struct Disk {
    folder: TempDir,
    namespaces: &'static [&'static str],
    mounted_by: Child,
}

impl Disk {
    /// None, said aloud, where the system lets nobody mount; in CI that is a failure.
    async fn mount() -> Option<Self> {
        let folder = TempDir::new().expect("a folder");
        // The second is for those who are not root.
        for (unshare, namespaces) in [
            (&["--mount"][..], &["--mount"][..]),
            (
                &["--mount", "--map-root-user"],
                &["--mount", "--user", "--preserve-credentials"],
            ),
        ] {
            if let Some(mounted_by) = mount(&folder, unshare).await {
                return Some(Self {
                    folder,
                    namespaces,
                    mounted_by,
                });
            }
        }
        let missing = "no mount namespace can be made for a small disk";
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        eprintln!("SKIPPED: {missing}");
        None
    }

    fn pid(&self) -> u32 {
        self.mounted_by.id().expect("it waits")
    }

    /// A file on the disk, as those see it who have not entered.
    fn file(&self, name: &str) -> PathBuf {
        let inside = self.folder.path().strip_prefix("/");
        let inside = inside.expect("an absolute path").join(name);
        PathBuf::from(format!("/proc/{}/root", self.pid())).join(inside)
    }

    /// A program that sees the disk.
    fn enter(&self, program: &str) -> Command {
        let mut enter = Command::new("nsenter");
        enter
            .args(["--target", &self.pid().to_string()])
            .args(self.namespaces)
            .args(["--", program]);
        enter
    }

    /// The program on the disk.
    fn command(&self) -> Command {
        let enter = self.enter(PROGRAM);
        command_by(enter, self.folder.path(), &["--sandbox-clock", NOW])
    }

    /// Starts the program on the disk.
    async fn start(&self, log: PathBuf) -> Program {
        Program::run(self.command(), log).await
    }

    /// Mounts it again with these options.
    async fn remount(&self, options: &str) {
        let mut mount = self.enter("mount");
        mount.args(["-o", &format!("remount,{options}")]);
        let mounted = within(mount.arg(self.folder.path()).status()).await;
        assert!(mounted.expect("mount").success(), "{options}");
    }
}

/// The process that has mounted a small disk on a folder, in namespaces of its own; none where it may not.
async fn mount(folder: &TempDir, namespaces: &[&str]) -> Option<Child> {
    let script =
        format!("mount -t tmpfs -o size={DISK_MIB}m none \"$0\" && echo mounted && exec cat");
    let mut child = Command::new("unshare")
        .args(namespaces)
        .args(["sh", "-c", &script])
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let mut said = String::new();
    let mut stdout = BufReader::new(child.stdout.take()?);
    within(stdout.read_line(&mut said)).await.ok()?;
    (said == "mounted\n").then_some(child)
}

/// The call that creates an invitation whose first message is due at once, with so much text that a small disk is
/// soon full.
fn large_create(number: usize) -> v1::CreateBookingRequestRequest {
    let mut form = make::wire_form("2026-04-06", "2026-06-12");
    form.origin = Some(make::wire_referral(&format!("R-{number}")));
    form.internal_comment = "å".repeat(2_000);
    make::wire_create(form)
}

/// Checks that a failure says that the call may be repeated later.
fn assert_may_be_repeated(refused: &Status) {
    let reason = (Code::Unavailable, "UNAVAILABLE".to_owned());
    assert_eq!(refusal(refused), reason, "{refused:?}");
    assert!(refused.get_error_details().retry_info().is_some());
}

/// Waits until health says so.
async fn healthy(channel: &Channel, wanted: ServingStatus) {
    let mut client = HealthClient::new(channel.clone());
    let watched = within(client.watch(HealthCheckRequest::default())).await;
    let mut watched = watched.expect("a stream").into_inner();
    let turned = async {
        while watched
            .message()
            .await
            .expect("an answer")
            .expect("no end")
            .status()
            != wanted
        {}
    };
    within(turned).await;
}

/// What staff see of all invitations of the unit.
fn query() -> v1::WorklistQuery {
    v1::WorklistQuery {
        worklists: vec![v1::Worklist::AllInvitations.into()],
        care_units: vec![make::wire_unit()],
        ..Default::default()
    }
}

/// A stream of changes to a list.
async fn watch(channel: &Channel) -> Streaming<v1::WatchWorklistResponse> {
    let mut client = WorklistServiceClient::new(channel.clone());
    let call = v1::WatchWorklistRequest {
        query: Some(query()),
        ..Default::default()
    };
    let opened = within(client.watch_worklist(call)).await;
    opened.expect("a stream").into_inner()
}

/// Reads a stream of changes until it tells of this request.
async fn told(stream: &mut Streaming<v1::WatchWorklistResponse>, name: &str) {
    loop {
        let said = within(stream.message()).await.expect("the stream is open");
        if let Some(Event::Upserted(request)) = said.expect("no end").event
            && request.name == name
        {
            return;
        }
    }
}

/// A read that needs no entry in the access log.
async fn count(channel: &Channel) {
    let mut client = WorklistServiceClient::new(channel.clone());
    let call = make::wire_count(vec![make::wire_unit()]);
    let counted = within(client.count_worklists(call)).await;
    counted.expect("reads go on");
}

/// Makes creates until one is refused; gives the names of those that were answered OK.
async fn create_until_refused(channel: &Channel) -> Vec<String> {
    let mut names = Vec::new();
    for number in 0..CREATES_MAX {
        match create(channel, large_create(number)).await {
            Ok(created) => {
                let read = get(channel, &created.name).await;
                names.push(created.name);
                match read {
                    Ok(_) => {}
                    // What is read must be logged.
                    Err(refused) if refused.code() == Code::Unavailable => return names,
                    Err(other) => panic!("number {number} is answered OK and not stored: {other}"),
                }
            }
            Err(refused) => {
                assert_may_be_repeated(&refused);
                return names;
            }
        }
    }
    panic!("nothing was refused");
}

/// Makes a create until it is answered OK, as its caller would.
async fn create_at_last(channel: &Channel, number: usize) -> String {
    let call = large_create(number);
    let created = async {
        loop {
            match create(channel, call.clone()).await {
                Ok(created) => return created.name,
                Err(refused) => assert_may_be_repeated(&refused),
            }
        }
    };
    within(created).await
}

/// Drives a service whose database can be made to fail: everything that it answers OK is there, at once and after a
/// kill, and it recovers without a restart.
async fn fail_and_recover(
    start: impl AsyncFn() -> Program,
    fail: impl AsyncFnOnce(&Program),
    mend: impl AsyncFnOnce(&Program),
) {
    let mut program = start().await;
    let channel = program.channel().await;
    let mut stored = Vec::new();
    for number in 0..20 {
        stored.push(create_at_last(&channel, CREATES_MAX + number).await);
    }
    let mut list = watch(&channel).await;
    told(&mut list, &stored[19]).await;
    fail(&program).await;
    stored.extend(create_until_refused(&channel).await);
    healthy(&channel, ServingStatus::NotServing).await;
    count(&channel).await;
    let mut refused = JoinSet::new();
    for number in 0..20 {
        let channel = channel.clone();
        refused
            .spawn(async move { create(&channel, large_create(3 * CREATES_MAX + number)).await });
    }
    for refused in within(refused.join_all()).await {
        match refused {
            Ok(created) => stored.push(created.name),
            Err(refused) => assert_may_be_repeated(&refused),
        }
    }
    // A small entry of the access log may still find room.
    if let Err(refused) = get(&channel, &stored[0]).await {
        assert_may_be_repeated(&refused);
    }

    mend(&program).await;
    for number in 0..20 {
        let name = create_at_last(&channel, 4 * CREATES_MAX + number).await;
        get(&channel, &name)
            .await
            .expect("what is answered OK is stored");
        stored.push(name);
    }
    healthy(&channel, ServingStatus::Serving).await;
    told(&mut list, stored.last().expect("some")).await;
    let due = lease_due(&channel).await;
    // What was refused may have been made all the same: only its repeat would tell.
    let mut names: Vec<&str> = due.iter().map(|it| it.booking_request.as_str()).collect();
    names.sort_unstable();
    for name in &stored {
        let times = names.iter().filter(|due| *due == name).count();
        assert_eq!(times, 1, "{name} is due once");
    }
    names.dedup();
    assert_eq!(names.len(), due.len(), "each is due once");
    for due in due.chunks(500) {
        acknowledge_sent(&channel, due).await;
    }
    within(program.child.kill()).await.expect("killed");

    let program = start().await;
    let channel = program.channel().await;
    for name in &stored {
        get(&channel, name).await.expect("it is there after a kill");
    }
    let again = lease_due(&channel).await;
    assert!(again.is_empty(), "{} were handed out again", again.len());
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_loses_nothing_that_was_answered() {
    let Some(disk) = Disk::mount().await else {
        return;
    };
    let logs = TempDir::new().expect("a folder");
    let filler = disk.file("filler");
    std::fs::write(&filler, vec![0; FILLER_MIB << 20]).expect("room for it");
    let start = async || disk.start(logs.path().join("log")).await;
    let mend = async |_: &Program| std::fs::remove_file(&filler).expect("removed");
    // It is soon full by itself.
    fail_and_recover(start, async |_: &Program| {}, mend).await;
}

#[tokio::test]
async fn a_read_only_disk_is_refused_at_the_start_and_left_as_it_is() {
    let Some(disk) = Disk::mount().await else {
        return;
    };
    let logs = TempDir::new().expect("a folder");
    let program = disk.start(logs.path().join("log")).await;
    let stored = create_at_last(&program.channel().await, 0).await;
    program.signal("-TERM").await;
    assert!(program.end().await.0.success());
    let database = || std::fs::read(disk.file("care.db")).expect("read");
    let before = database();

    disk.remount("ro").await;
    let ended = run(&mut disk.command()).await;
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("care.db"), "{said}");
    assert!(database() == before);

    disk.remount("rw").await;
    let program = disk.start(logs.path().join("log")).await;
    let read = get(&program.channel().await, &stored).await;
    read.expect("it is there");
}

#[tokio::test]
async fn writes_that_fail_are_refused_and_lose_nothing_that_was_answered() {
    let folder = TempDir::new().expect("a folder");
    let start = async || {
        // A write beyond the largest size that files may have is to fail, not to end the process.
        let mut env = Command::new("env");
        env.args(["--ignore-signal=XFSZ", PROGRAM]);
        let command = command_by(env, folder.path(), &["--sandbox-clock", NOW]);
        Program::run(command, folder.path().join("log")).await
    };
    let limit = async |program: &Program, bytes: &str| {
        let pid = program.child.id().expect("it runs").to_string();
        let limited = Command::new("prlimit")
            .args(["--pid", &pid, &format!("--fsize={bytes}:")])
            .status();
        assert!(within(limited).await.expect("prlimit").success());
    };
    let fail = async |program: &Program| limit(program, &(1 << 20).to_string()).await;
    let mend = async |program: &Program| limit(program, "unlimited").await;
    fail_and_recover(start, fail, mend).await;
}

/// Time for which another process holds the lock.
const HELD: Duration = Duration::from_secs(15);
/// Time that a refusal may take, with something for a busy machine.
const REFUSED_MAX: Duration = Duration::from_millis(2_500);

#[tokio::test]
async fn a_lock_held_by_another_process_refuses_writes_at_once() {
    let harness = Harness::start(NOW).await;
    let first = harness.create(large_create(100)).await.expect("created");
    let mut list = watch(&harness.channel).await;
    told(&mut list, &first.name).await;
    let other = Database::connect(harness.backend.url()).await;
    let other = other.expect("another connection");
    other
        .execute_unprepared("BEGIN EXCLUSIVE")
        .await
        .expect("locked");
    let held = Instant::now();
    let calls: Vec<_> = (0..5).map(large_create).collect();
    while held.elapsed() < HELD {
        let mut together = JoinSet::new();
        for call in calls.clone() {
            let channel = harness.channel.clone();
            together.spawn(async move { (create(&channel, call).await, Instant::now()) });
        }
        let begun = Instant::now();
        for (refused, at) in within(together.join_all()).await {
            assert_may_be_repeated(&refused.unwrap_err());
            assert!(at - begun < REFUSED_MAX, "{:?}", at - begun);
        }
        count(&harness.channel).await;
    }
    healthy(&harness.channel, ServingStatus::NotServing).await;
    other
        .execute_unprepared("ROLLBACK")
        .await
        .expect("released");
    healthy(&harness.channel, ServingStatus::Serving).await;
    for call in calls {
        let created = harness.create(call).await.expect("taken");
        harness.get(&created.name).await.expect("stored");
        told(&mut list, &created.name).await;
    }
}
