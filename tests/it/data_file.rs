//! The data file of SQLite: who may open it, which files are left alone, and what health says of it.

use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::process::Output;

use rusqlite::Connection;
use tempfile::TempDir;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};
use tonic_types::StatusExt;

use crate::harness::{refusal, within};
use crate::make;
use crate::program::{Program, command, create, get, make_pipe, run, text};
use crate::replica::healthy;

const NOW: &str = "2026-03-02T09:00:00Z";
/// Size of the pages of a file that nobody has given another.
const PAGE: usize = 4_096;

/// A request with so much text that it fills a page.
fn call(number: usize) -> care_invitation::contract::v1::CreateBookingRequestRequest {
    let mut form = make::wire_form("2026-04-06", "2026-06-12");
    form.origin = Some(make::wire_referral(&format!("R-{number}")));
    form.internal_comment = "å".repeat(2_000);
    make::wire_create(form)
}

/// The program, serving on a file with some requests that are in the file itself and not in its WAL.
async fn serving(folder: &Path) -> Program {
    let first = Program::start(folder, &["--sandbox-clock", NOW]).await;
    let channel = first.channel().await;
    for number in 0..20 {
        create(&channel, call(number)).await.expect("created");
    }
    first.signal("-TERM").await;
    assert!(first.end().await.0.success());
    Program::start(folder, &["--sandbox-clock", NOW]).await
}

#[tokio::test]
async fn a_new_file_and_those_beside_it_are_for_their_owner_alone() {
    let folder = TempDir::new().expect("a folder");
    let _program = Program::start(folder.path(), &["--sandbox-clock", NOW]).await;
    for name in ["care.db", "care.db-wal", "care.db-shm"] {
        let made = std::fs::metadata(folder.path().join(name)).expect("it is there");
        assert_eq!(made.mode() & 0o777, 0o600, "{name} holds identity numbers");
    }
}

#[tokio::test]
async fn a_page_that_is_damaged_is_not_served_from_until_it_is_mended() {
    let folder = TempDir::new().expect("a folder");
    let program = serving(folder.path()).await;
    let channel = program.channel().await;
    healthy(&channel, "", Serving).await;
    let path = folder.path().join("care.db");
    let good = std::fs::read(&path).expect("read");
    let file = std::fs::File::options().write(true).open(&path);
    let file = file.expect("opened");
    // All but the first, which the service writes at times.
    let damaged = vec![0xff; good.len() - PAGE];
    file.write_all_at(&damaged, PAGE as u64).expect("written");
    healthy(&channel, "", NotServing).await;
    file.write_all_at(&good[PAGE..], PAGE as u64)
        .expect("written");
    healthy(&channel, "", Serving).await;
    create(&channel, call(20)).await.expect("created");
}

#[tokio::test]
async fn a_file_that_was_moved_or_replaced_is_not_written_until_it_is_back() {
    let folder = TempDir::new().expect("a folder");
    let program = serving(folder.path()).await;
    let channel = program.channel().await;
    let [path, aside] = ["care.db", "aside.db"].map(|name| folder.path().join(name));
    for is_replaced in [false, true] {
        healthy(&channel, "", Serving).await;
        std::fs::rename(&path, &aside).expect("moved");
        if is_replaced {
            std::fs::copy(&aside, &path).expect("copied");
        }
        for number in 100..105 {
            let refused = create(&channel, call(number)).await.unwrap_err();
            let unavailable = (Code::Unavailable, "UNAVAILABLE".to_owned());
            assert_eq!(refusal(&refused), unavailable, "{refused:?}");
            assert!(refused.get_error_details().retry_info().is_some());
        }
        healthy(&channel, "", NotServing).await;
        assert_eq!(path.exists(), is_replaced, "nothing is put there");
        std::fs::rename(&aside, &path).expect("moved back");
    }
    healthy(&channel, "", Serving).await;
    let created = create(&channel, call(100)).await.expect("created");
    get(&channel, &created.name).await.expect("stored");
}

/// What the program says that is started on a file, and ends.
async fn refused(folder: &Path, url: &str) -> String {
    let ended: Output =
        run(command(folder, &["--database-url", url]).stdin(std::process::Stdio::null())).await;
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{url}: {said}");
    assert_eq!(text(&ended.stdout), "", "it has not listened");
    said
}

#[tokio::test]
async fn a_file_is_locked_whatever_its_path() {
    let folder = TempDir::new().expect("a folder");
    let first = Program::start(folder.path(), &[]).await;
    let file = folder.path().join("care.db");
    symlink(&file, folder.path().join("soft.db")).expect("a link");
    std::fs::hard_link(&file, folder.path().join("hard.db")).expect("a link");
    for name in [
        "care.db",
        "soft.db",
        "hard.db",
        "./care.db",
        "c%61re.db",
        "care.db?mode=rwc",
    ] {
        let url = format!("sqlite://{}/{name}", folder.path().display());
        let said = refused(folder.path(), &url).await;
        assert!(
            said.contains("another process uses the database file"),
            "{name}: {said}"
        );
    }
    first.signal("-TERM").await;
    assert!(first.end().await.0.success());
}

/// Makes a database of ours, as a clean stop leaves it.
async fn ours(folder: &Path) {
    let migrated = run(&mut command(folder, &["migrate"])).await;
    assert!(migrated.status.success(), "{}", text(&migrated.stderr));
}

#[tokio::test]
async fn a_file_that_is_foreign_newer_or_damaged_is_refused_and_left_as_it_is() {
    let sql = |path: &Path, sql: &str| {
        let connection = Connection::open(path).expect("open");
        connection.execute_batch(sql).expect(sql);
    };
    for what in ["text", "foreign", "newer", "damaged", "short"] {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("care.db");
        let expected = match what {
            "text" => {
                std::fs::write(&path, "not a database, but a letter\n").expect("written");
                "is not a database of SQLite"
            }
            "foreign" => {
                sql(
                    &path,
                    "CREATE TABLE notes (text); INSERT INTO notes VALUES ('mine')",
                );
                "belongs to another program"
            }
            "newer" => {
                ours(folder.path()).await;
                sql(
                    &path,
                    "PRAGMA journal_mode = DELETE;
                    INSERT INTO seaql_migrations VALUES ('m9999_from_a_newer_version', 0)",
                );
                "m9999_from_a_newer_version"
            }
            "damaged" => {
                ours(folder.path()).await;
                let file = std::fs::File::options()
                    .write(true)
                    .open(&path)
                    .expect("open");
                file.write_all_at(&[0xff; 64], 3 * PAGE as u64)
                    .expect("written");
                "is damaged"
            }
            _ => {
                ours(folder.path()).await;
                let file = std::fs::File::options()
                    .write(true)
                    .open(&path)
                    .expect("open");
                file.set_len(2 * PAGE as u64).expect("cut");
                "is damaged"
            }
        };
        let before = std::fs::read(&path).expect("read");
        for arguments in [
            &[][..],
            &["migrate"],
            &["after-restore", "--since", "2026-01-01T00:00:00Z"],
        ] {
            let ended = run(&mut command(folder.path(), arguments)).await;
            let said = text(&ended.stderr);
            assert_eq!(ended.status.code(), Some(1), "{what} {arguments:?}: {said}");
            assert!(said.contains(expected), "{what}: {said}");
            assert!(
                std::fs::read(&path).expect("read") == before,
                "{what} {arguments:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_pipe_is_no_database() {
    let folder = TempDir::new().expect("a folder");
    let pipe = folder.path().join("pipe");
    make_pipe(&pipe);
    let said = refused(folder.path(), &format!("sqlite://{}", pipe.display())).await;
    assert!(said.contains("is not a database of SQLite"), "{said}");
}

#[tokio::test]
async fn a_start_after_a_kill_finds_everything() {
    let folder = TempDir::new().expect("a folder");
    let mut program = Program::start(folder.path(), &["--sandbox-clock", NOW]).await;
    let channel = program.channel().await;
    let created = create(&channel, call(0)).await.expect("created");
    within(program.child.kill()).await.expect("killed");
    let again = Program::start(folder.path(), &["--sandbox-clock", NOW]).await;
    let channel = again.channel().await;
    get(&channel, &created.name).await.expect("it is there");
}
