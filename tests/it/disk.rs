//! SQLite in trouble: a full disk, one that turns read-only, writes that fail, another process that has the lock. Nothing is
//! answered OK that is not stored, and the service recovers without a restart wherever the system does.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use care_invitation::contract::v1;
use care_invitation::contract::v1::watch_worklist_response::Event;
use care_invitation::contract::v1::worklist_service_client::WorklistServiceClient;
use futures_util::FutureExt;
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

/// A small disk, which only those see who enter the namespace of the process that has mounted it.
struct Disk {
    folder: TempDir,
    namespaces: &'static [&'static str],
    mounted_by: Child,
}

/// Mounts a disk in memory on a folder.
const IN_MEMORY: &str = "mount -t tmpfs -o size=\"$2\"m none \"$1\"";
/// Makes a file system in a new image, and mounts it on a folder. At an error the system makes it read-only.
const NEW_IMAGE: &str =
    "mkfs.ext4 -q \"$2\" 64M >&2 && mount -o loop,errors=remount-ro \"$2\" \"$1\"";
/// Mends that file system, and mounts it.
const MENDED_IMAGE: &str =
    "{ e2fsck -p \"$2\" >&2 || test $? = 1; } && mount -o loop \"$2\" \"$1\"";

impl Disk {
    /// A disk in memory. None, said aloud, where the system lets nobody mount; in CI that is a failure.
    async fn mount() -> Option<Self> {
        Self::mount_by(IN_MEMORY, &DISK_MIB.to_string()).await
    }

    /// A disk that a script mounts. None as with [`Self::mount`].
    async fn mount_by(script: &str, what: &str) -> Option<Self> {
        let folder = TempDir::new().expect("a folder");
        // The second is for those who are not root.
        for (unshare, namespaces) in [
            (&["--mount"][..], &["--mount"][..]),
            (
                &["--mount", "--map-root-user"],
                &["--mount", "--user", "--preserve-credentials"],
            ),
        ] {
            if let Some(mounted_by) = mount(&folder, unshare, script, what).await {
                return Some(Self {
                    folder,
                    namespaces,
                    mounted_by,
                });
            }
        }
        let missing = format!("nobody may do this here: {script}");
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

    /// Mounts the disk over itself, so that those who open its files from now on meet the options of this mount.
    async fn cover(&self) {
        let mut mount = self.enter("mount");
        mount.arg("--bind");
        let mounted = mount.arg(self.folder.path()).arg(self.folder.path());
        assert!(within(mounted.status()).await.expect("mount").success());
    }

    /// Unmounts it.
    async fn unmount(self) {
        let mut umount = self.enter("umount");
        let unmounted = within(umount.arg(self.folder.path()).status()).await;
        assert!(unmounted.expect("umount").success());
    }
}

/// The process that has mounted something on a folder, in namespaces of its own; none where it may not.
async fn mount(folder: &TempDir, namespaces: &[&str], script: &str, what: &str) -> Option<Child> {
    let script = format!("{script} && echo mounted && exec cat");
    let mut child = Command::new("unshare")
        .args(namespaces)
        .args(["sh", "-c", &script, "sh"])
        .arg(folder.path())
        .arg(what)
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

/// Creates some requests, and watches their list.
async fn create_and_watch(
    channel: &Channel,
) -> (Vec<String>, Streaming<v1::WatchWorklistResponse>) {
    let mut stored = Vec::new();
    for number in 0..20 {
        stored.push(create_at_last(channel, CREATES_MAX + number).await);
    }
    let mut list = watch(channel).await;
    told(&mut list, &stored[19]).await;
    (stored, list)
}

/// Checks that a service whose database fails refuses writes, reads, and says that it is not ready; gives the names of the
/// requests that it could still store.
async fn refuse_writes(channel: &Channel, earlier: &str) -> Vec<String> {
    let mut stored = create_until_refused(channel).await;
    healthy(channel, ServingStatus::NotServing).await;
    count(channel).await;
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
    if let Err(refused) = get(channel, earlier).await {
        assert_may_be_repeated(&refused);
    }
    stored
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
    let (mut stored, mut list) = create_and_watch(&channel).await;
    fail(&program).await;
    stored.extend(refuse_writes(&channel, &stored[0]).await);

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
async fn a_full_disk_is_not_taken_for_a_damaged_file() {
    let Some(disk) = Disk::mount().await else {
        return;
    };
    let elsewhere = TempDir::new().expect("a folder");
    let log = || elsewhere.path().join("log");
    let program = disk.start(log()).await;
    let stored = create_at_last(&program.channel().await, 0).await;
    program.signal("-TERM").await;
    assert!(program.end().await.0.success());

    let filler = disk.file("filler");
    let filled = std::fs::write(&filler, vec![0; DISK_MIB << 20]);
    filled.expect_err("there is no room for all of it");
    let copy = elsewhere.path().join("copy.db");
    let copy = copy.to_str().expect("a plain name");
    for arguments in [
        &["check"][..],
        &["serve", "--sandbox-clock", NOW],
        &["backup", copy],
        &["audit", "verify"],
    ] {
        let enter = disk.enter(PROGRAM);
        let ended = run(&mut command_by(enter, disk.folder.path(), arguments)).await;
        let said = text(&ended.stdout) + &text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("make room"), "{arguments:?}: {said}");
        for wrong in ["damaged", "restore"] {
            assert!(!said.contains(wrong), "{arguments:?}: {said}");
        }
    }

    std::fs::remove_file(&filler).expect("removed");
    let program = disk.start(log()).await;
    let read = get(&program.channel().await, &stored).await;
    read.expect("it is there");
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
    let mut check = command_by(disk.enter(PROGRAM), disk.folder.path(), &["check"]);
    let checked = run(&mut check).await;
    for said in [said, text(&checked.stdout)] {
        assert!(said.contains("Read-only file system"), "{said}");
        assert!(said.contains("read and write it"), "{said}");
    }
    assert!(database() == before);

    disk.remount("rw").await;
    let program = disk.start(logs.path().join("log")).await;
    let read = get(&program.channel().await, &stored).await;
    read.expect("it is there");
}

/// The program by `env`, so that a write beyond the largest size that files may have fails and does not end the process.
fn survives_large_writes(mut env: Command, folder: &Path) -> Command {
    env.args(["--ignore-signal=XFSZ", PROGRAM]);
    command_by(env, folder, &["--sandbox-clock", NOW])
}

/// Limits the size of files that a program writes.
async fn limit_files(program: &Program, bytes: &str) {
    let pid = program.child.id().expect("it runs").to_string();
    let limited = Command::new("prlimit")
        .args(["--pid", &pid, &format!("--fsize={bytes}:")])
        .status();
    assert!(within(limited).await.expect("prlimit").success());
}

/// The largest size of files, in bytes, at which writes fail soon.
const SMALL_FILES: &str = "1048576";

#[tokio::test]
async fn writes_that_fail_are_refused_and_lose_nothing_that_was_answered() {
    let folder = TempDir::new().expect("a folder");
    let start = async || {
        let command = survives_large_writes(Command::new("env"), folder.path());
        Program::run(command, folder.path().join("log")).await
    };
    let fail = async |program: &Program| limit_files(program, SMALL_FILES).await;
    let mend = async |program: &Program| limit_files(program, "unlimited").await;
    fail_and_recover(start, fail, mend).await;
}

#[tokio::test]
async fn a_disk_that_is_read_only_for_a_while_refuses_writes_and_takes_them_again() {
    let Some(disk) = Disk::mount().await else {
        return;
    };
    let logs = TempDir::new().expect("a folder");
    let start = async || {
        let command = survives_large_writes(disk.enter("env"), disk.folder.path());
        Program::run(command, logs.path().join("log")).await
    };
    // The system makes no disk read-only at which a file is open to be written. So those that are open fail in another way,
    // and the service, which opens its file anew, may then only read it.
    let fail = async |program: &Program| {
        disk.cover().await;
        disk.remount("bind,ro").await;
        limit_files(program, SMALL_FILES).await;
    };
    let mend = async |program: &Program| {
        disk.remount("bind,rw").await;
        limit_files(program, "unlimited").await;
    };
    fail_and_recover(start, fail, mend).await;
}

#[tokio::test]
async fn a_disk_that_the_system_makes_read_only_is_read_and_loses_nothing_that_was_answered() {
    let folder = TempDir::new().expect("a folder");
    let image = folder.path().join("image");
    let image = image.to_str().expect("text");
    let Some(disk) = Disk::mount_by(NEW_IMAGE, image).await else {
        return;
    };
    let log = folder.path().join("log");
    let program = disk.start(log.clone()).await;
    let channel = program.channel().await;
    let (mut stored, mut list) = create_and_watch(&channel).await;
    // What the system does at an error of the device.
    disk.remount("abort").await;
    stored.extend(refuse_writes(&channel, &stored[0]).await);
    while let Some(said) = list.message().now_or_never() {
        said.expect("the stream is open").expect("no end");
    }
    program.signal("-TERM").await;
    let (status, _, said) = program.end().await;
    assert!(status.success(), "{said}");

    disk.unmount().await;
    let disk = Disk::mount_by(MENDED_IMAGE, image).await;
    let disk = disk.expect("a disk as before");
    let program = disk.start(log).await;
    let channel = program.channel().await;
    for name in &stored {
        get(&channel, name).await.expect("it is there");
    }
    healthy(&channel, ServingStatus::Serving).await;
    create_at_last(&channel, 5 * CREATES_MAX).await;
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
