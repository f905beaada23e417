//! A copy of a SQLite database, made while the service serves, and put back in its place.

use std::collections::BTreeSet;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::harness::within;
use crate::make;
use crate::program::{
    Program, acknowledge_sent, command, create, get, lease_due, make_pipe, run, text,
};

const NOW: &str = "2026-03-02T09:00:00Z";
/// Callers that write while a backup is made.
const CALLERS: usize = 8;

/// A request with so much text that it fills a page.
fn call(number: usize) -> care_invitation::contract::v1::CreateBookingRequestRequest {
    let mut form = make::wire_form("2026-04-06", "2026-06-12");
    form.origin = Some(make::wire_referral(&format!("R-{number}")));
    form.internal_comment = "å".repeat(2_000);
    make::wire_create(form)
}

async fn start(folder: &Path) -> Program {
    Program::start(folder, &["--sandbox-clock", NOW]).await
}

async fn stop(program: Program) {
    program.signal("-TERM").await;
    assert!(program.end().await.0.success());
}

/// Runs a command that is about a copy; gives what it prints.
async fn done(folder: &Path, what: &str, copy: &Path) -> String {
    let copy = copy.display().to_string();
    let ended = run(&mut command(folder, &[what, &copy])).await;
    let said = text(&ended.stderr);
    assert!(ended.status.success(), "{what}: {said}");
    text(&ended.stdout)
}

/// Runs one that is to fail; gives what it says.
async fn failed(folder: &Path, what: &str, copy: &Path) -> String {
    let copy = copy.display().to_string();
    let ended = run(&mut command(folder, &[what, &copy])).await;
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{what}: {said}");
    said
}

/// Names of the files in a folder.
fn files(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.expect("an entry").file_name();
        name.into_string().expect("text")
    };
    entries.map(name).collect()
}

#[tokio::test]
async fn a_backup_under_load_has_all_that_was_answered_before_and_goes_back() {
    let folder = TempDir::new().expect("a folder");
    let program = start(folder.path()).await;
    let channel = program.channel().await;
    let mut before = Vec::new();
    for number in 0..100 {
        let created = create(&channel, call(number)).await.expect("created");
        before.push(created.name);
    }
    let due = lease_due(&channel).await;
    acknowledge_sent(&channel, &due[..50]).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writing = JoinSet::new();
    for caller in 1..=CALLERS {
        let (channel, is_over) = (channel.clone(), is_over.clone());
        writing.spawn(async move {
            let mut created = 0;
            while !is_over.load(Ordering::Relaxed) {
                let call = call(caller * 100_000 + created);
                create(&channel, call).await.expect("created");
                created += 1;
            }
            created
        });
    }
    let copy = folder.path().join("copy.db");
    let said = done(folder.path(), "backup", &copy).await;
    is_over.store(true, Ordering::Relaxed);
    let meanwhile: usize = within(writing.join_all()).await.into_iter().sum();
    assert!(meanwhile > 0, "it was made under load");
    let bytes = std::fs::metadata(&copy).expect("there").len();
    let begin = format!(
        "backed up to {}: {bytes} bytes, verified, begun at 20",
        copy.display()
    );
    assert!(said.starts_with(&begin), "{said}");
    let mode = std::fs::metadata(&copy)
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600, "it holds identity numbers");
    assert!(!files(folder.path()).contains("copy.db.partial"));
    let again = failed(folder.path(), "backup", &copy).await;
    assert!(again.contains("exists, and is not written over"), "{again}");
    let refused = failed(folder.path(), "restore", &copy).await;
    assert!(refused.contains("stop the service first"), "{refused}");

    let after = create(&channel, call(99_999)).await.expect("created").name;
    stop(program).await;
    let said = done(folder.path(), "restore", &copy).await;
    assert!(said.contains("the old database is kept as "), "{said}");
    let program = start(folder.path()).await;
    let channel = program.channel().await;
    for name in &before {
        get(&channel, name).await.expect("it was answered before");
    }
    get(&channel, &after).await.expect_err("it came after");
    create(&channel, call(99_999)).await.expect("created anew");
    let again = lease_due(&channel).await;
    let handed_over = |name: &String| due[..50].iter().any(|it| it.booking_request == *name);
    assert!(again.iter().all(|it| !handed_over(&it.booking_request)));
}

/// A database of ours with one request, stopped, and a backup of it.
async fn with_backup(folder: &Path) -> (PathBuf, String) {
    let program = start(folder).await;
    let channel = program.channel().await;
    let created = create(&channel, call(0)).await.expect("created");
    let copy = folder.join("copy.db");
    done(folder, "backup", &copy).await;
    stop(program).await;
    (copy, created.name)
}

#[tokio::test]
async fn a_wal_that_a_kill_has_left_is_not_taken_into_what_is_restored() {
    let folder = TempDir::new().expect("a folder");
    let (copy, first) = with_backup(folder.path()).await;
    let mut program = start(folder.path()).await;
    let channel = program.channel().await;
    let lost = create(&channel, call(1)).await.expect("created").name;
    within(program.child.kill()).await.expect("killed");
    let path = folder.path().join("care.db");
    let owner = |path: &Path| {
        let metadata = std::fs::metadata(path).expect("there");
        (
            metadata.uid(),
            metadata.gid(),
            metadata.permissions().mode(),
        )
    };
    let old = owner(&path);

    let said = done(folder.path(), "restore", &copy).await;
    let kept = said
        .lines()
        .find_map(|it| it.strip_prefix("the old database is kept as "));
    let kept = PathBuf::from(kept.expect("kept"));
    assert_eq!(owner(&path), old, "whoever ran the service runs it again");
    assert!(!folder.path().join("care.db-wal").exists());
    let program = start(folder.path()).await;
    let channel = program.channel().await;
    get(&channel, &first).await.expect("it was backed up");
    get(&channel, &lost).await.expect_err("it was not");
    stop(program).await;

    // The old one has what its WAL had, and may be put back as well.
    let said = done(folder.path(), "restore", &kept).await;
    assert!(said.contains("is kept as "), "{said}");
    let program = start(folder.path()).await;
    let channel = program.channel().await;
    get(&channel, &lost).await.expect("it is there");
}

#[tokio::test]
async fn a_backup_that_cannot_be_used_is_refused_and_the_database_is_what_it_was() {
    let folder = TempDir::new().expect("a folder");
    let (copy, _) = with_backup(folder.path()).await;
    let good = std::fs::read(&copy).expect("read");
    let sql = |sql: &str| {
        let connection = Connection::open(&copy).expect("open");
        connection.execute_batch(sql).expect(sql);
    };
    let database = std::fs::read(folder.path().join("care.db")).expect("read");
    for what in [
        "damaged", "foreign", "newer", "empty", "text", "wal", "missing", "pipe",
    ] {
        std::fs::write(&copy, &good).expect("written");
        let expected = match what {
            "damaged" => {
                let file = std::fs::File::options()
                    .write(true)
                    .open(&copy)
                    .expect("open");
                file.write_all_at(&[0xff; 64], 3 * 4_096).expect("written");
                "is damaged"
            }
            "foreign" => {
                std::fs::write(&copy, "").expect("written");
                sql("CREATE TABLE notes (text)");
                "belongs to another program"
            }
            "newer" => {
                sql("INSERT INTO seaql_migrations VALUES ('m9999_from_a_newer_version', 0)");
                "m9999_from_a_newer_version"
            }
            "empty" => {
                std::fs::write(&copy, "").expect("written");
                "without tables"
            }
            "text" => {
                std::fs::write(&copy, "not a database, but a letter\n").expect("written");
                "is not a database of SQLite"
            }
            "wal" => {
                std::fs::write(folder.path().join("copy.db-wal"), "frames").expect("written");
                "has a write-ahead log beside it"
            }
            "missing" => {
                std::fs::remove_file(folder.path().join("copy.db-wal")).expect("removed");
                std::fs::remove_file(&copy).expect("removed");
                "copy.db"
            }
            _ => {
                std::fs::remove_file(&copy).expect("removed");
                make_pipe(&copy);
                "it is no regular file"
            }
        };
        let before = files(folder.path());
        let said = failed(folder.path(), "restore", &copy).await;
        assert!(said.contains(expected), "{what}: {said}");
        assert_eq!(files(folder.path()), before, "{what} leaves nothing behind");
        let now = std::fs::read(folder.path().join("care.db")).expect("read");
        assert!(now == database, "{what}");
    }
    let elsewhere = TempDir::new().expect("a folder");
    failed(elsewhere.path(), "restore", &copy).await;
    assert!(files(elsewhere.path()).is_empty());
}

#[tokio::test]
async fn a_damaged_database_is_not_backed_up_and_is_replaced() {
    let folder = TempDir::new().expect("a folder");
    let (copy, first) = with_backup(folder.path()).await;
    let path = folder.path().join("care.db");
    let file = std::fs::File::options()
        .write(true)
        .open(&path)
        .expect("open");
    file.write_all_at(&[0xff; 4_096], 2 * 4_096)
        .expect("written");
    drop(file);
    let second = folder.path().join("second.db");
    failed(folder.path(), "backup", &second).await;
    assert!(
        !files(folder.path())
            .iter()
            .any(|it| it.starts_with("second.db"))
    );
    done(folder.path(), "restore", &copy).await;
    let program = start(folder.path()).await;
    let channel = program.channel().await;
    get(&channel, &first).await.expect("it was backed up");
}
