//! The program: closed by default, and clear about what it lacks.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use care_invitation::cli::door::warn_hourly;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::sleep;

use super::host::Ca;
use super::issuer::{AUDIENCE, ISSUER, Signer, key_set};
use crate::harness::within;
use crate::logged::Log;
use crate::program::{PROGRAM, Program, command_by, text};

/// Runs the program until it ends; gives its exit code and what it wrote to standard error.
async fn refused(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = command_by(Command::new(PROGRAM), folder, arguments);
    let output = within(command.stdout(Stdio::null()).output())
        .await
        .expect("it runs");
    (output.status.code(), text(&output.stderr))
}

#[tokio::test]
async fn where_others_reach_it_the_program_does_not_start_open() {
    let folder = TempDir::new().expect("a folder");
    let (code, said) = refused(folder.path(), &["--listen", "0.0.0.0:0"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(
        said,
        "care-invitation: settings that cannot be used:\n  --listen (CARE_INVITATION_LISTEN) can \
         be reached by others, which needs TLS and authentication; missing: --tls-cert, --tls-key, \
         --auth-issuer, --auth-audience, --auth-jwks. --insecure does without\n"
    );
    assert!(!folder.path().join("care.db").exists(), "nothing was begun");
    let arguments = ["--listen", "0.0.0.0:0", "--insecure"];
    let program = command_by(Command::new(PROGRAM), folder.path(), &arguments);
    let program = Program::run(program, folder.path().join("log")).await;
    program.signal("-TERM").await;
    let (status, _, log) = program.end().await;
    assert!(status.success(), "{log}");
    let line = "INSECURE: others reach this service without TLS or authentication";
    assert!(log.contains(line), "{log}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_open_to_others_says_so_every_hour() {
    let log = Log::default();
    let listening = log.listen();
    let address = "192.0.2.1:50051".parse().expect("an address");
    let warning = warn_hourly(address);
    let hour = Duration::from_secs(3_600);
    let count = || {
        log.lines("WARN")
            .iter()
            .filter(|it| it.contains("INSECURE"))
            .count()
    };
    // Half a second beyond each, in which the task has its turn.
    sleep(Duration::from_millis(500)).await;
    for hours in 1..30 {
        assert_eq!(count(), hours);
        sleep(hour - Duration::from_secs(1)).await;
        assert_eq!(count(), hours, "not before the hour is over");
        sleep(Duration::from_secs(1)).await;
    }
    assert!(log.lines("INSECURE")[0].contains("192.0.2.1:50051"));
    let last = count();
    drop(warning);
    sleep(2 * hour).await;
    assert_eq!(count(), last, "not once it has ended");
    drop(listening);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_together() {
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    fs::write(path("server.pem"), "no certificate").expect("written");
    fs::write(path("keys.json"), "{\"keys\": []}").expect("written");
    let (certificate, key, keys) = (path("server.pem"), path("server.key"), path("keys.json"));
    let arguments = [
        "--tls-cert",
        &certificate,
        "--tls-key",
        &key,
        "--auth-issuer",
        ISSUER,
        "--auth-audience",
        AUDIENCE,
        "--auth-jwks",
        &keys,
    ];
    let (code, said) = refused(folder.path(), &arguments).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("--tls-cert (CARE_INVITATION_TLS_CERT) holds no"),
        "{said}"
    );
    let jwks = "--auth-jwks (CARE_INVITATION_AUTH_JWKS) cannot be used: no public key";
    assert!(said.contains(jwks), "{said}");
}

#[tokio::test]
async fn with_tls_and_authentication_it_listens_for_others() {
    let (ca, folder) = (Ca::new(), TempDir::new().expect("a folder"));
    let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let (certificate, key, keys) = (path("server.pem"), path("server.key"), path("keys.json"));
    let pair = ca.local();
    fs::write(&certificate, &pair.certificate).expect("written");
    fs::write(&key, &pair.key).expect("written");
    fs::write(&keys, key_set(&[&Signer::ec("a")])).expect("written");
    let arguments = [
        "--listen",
        "0.0.0.0:0",
        "--tls-cert",
        &certificate,
        "--tls-key",
        &key,
        "--auth-issuer",
        ISSUER,
        "--auth-audience",
        AUDIENCE,
        "--auth-jwks",
        &keys,
    ];
    let program = command_by(Command::new(PROGRAM), folder.path(), &arguments);
    let program = Program::run(program, folder.path().join("log")).await;
    program.signal("-TERM").await;
    let (status, _, log) = program.end().await;
    assert!(status.success(), "{log}");
    assert!(!log.contains("INSECURE"), "{log}");
    assert!(log.contains("calls are authenticated by tokens"), "{log}");
}
