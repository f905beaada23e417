//! The commands that people use: they call the real program as everybody else does.

use std::path::Path;
use std::process::{Output, Stdio};

use care_invitation::contract::v1;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::harness::within;
use crate::make;
use crate::program::{PROGRAM, Program, command_by, create, text};

const NOW: &str = "2026-03-02T09:00:00Z";
const UNIT: &str = "SE2321000131-P000000123457";
const NUMBER: &str = "198003012385";

/// A sandbox with one invitation.
struct Sandbox {
    folder: TempDir,
    program: Program,
    invited: v1::BookingRequest,
}

impl Sandbox {
    async fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let program = Program::start(folder.path(), &["--sandbox-clock", NOW]).await;
        let channel = program.channel().await;
        let mut form = make::wire_form("2026-05-18", "2026-06-12");
        let patient = form.patient.as_mut().expect("a patient");
        patient.personal_id = NUMBER.to_owned();
        form.internal_comment = "whispered".to_owned();
        form.purpose = "hidden purpose".to_owned();
        let invited = create(&channel, make::wire_create(form)).await;
        Self {
            folder,
            program,
            invited: invited.expect("created"),
        }
    }

    /// Runs a command on it, with this standard input.
    async fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = command(self.folder.path(), arguments);
        command.env("CARE_INVITATION_SERVER", self.program.address());
        run(&mut command, input).await
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, "").await
    }

    /// What a command prints that ends well.
    async fn print(&self, arguments: &[&str]) -> String {
        printed(&self.run(arguments).await)
    }
}

/// The program with these arguments, and no setting from outside.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    command_by(Command::new(PROGRAM), folder, arguments)
}

pub async fn run(command: &mut Command, input: &str) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    // A command that reads nothing has closed it.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    within(child.wait_with_output()).await.expect("it ends")
}

pub fn printed(output: &Output) -> String {
    let said = text(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    text(&output.stdout)
}

/// The lines of a text, each as JSON.
fn json_lines(text: &str) -> Vec<Value> {
    let lines = text.lines();
    let parsed = lines.map(|it| serde_json::from_str(it).expect("JSON"));
    parsed.collect()
}

#[tokio::test]
async fn a_worklist_is_counted_and_listed() {
    let sandbox = Sandbox::start().await;
    let counts = sandbox.print(&["worklist"]).await;
    let counted: Vec<_> = counts
        .lines()
        .map(|it| it.split_whitespace().collect::<Vec<_>>())
        .collect();
    assert!(counted.contains(&vec!["care-invitations", "1"]), "{counts}");
    assert!(counted.contains(&vec!["follow-up", "0"]), "{counts}");

    let listed = sandbox.print(&["worklist", "care-invitations"]).await;
    let short = sandbox
        .invited
        .name
        .replace("careUnits/", "")
        .replace("/bookingRequests", "");
    assert!(
        listed.contains(&short) && listed.contains("2026-05-18 to 2026-06-12"),
        "{listed}"
    );
    let none = sandbox
        .print(&["worklist", "declined", "--care-unit", UNIT])
        .await;
    assert_eq!(none.lines().count(), 1, "{none}");

    let json = sandbox
        .print(&["worklist", "care-invitations", "--json"])
        .await;
    let json = json_lines(&json);
    assert_eq!(json.len(), 1);
    assert_eq!(json[0]["name"], sandbox.invited.name.as_str());
    assert_eq!(json[0]["state"], "STATE_INVITED");
}

#[tokio::test]
async fn a_patient_is_looked_for_by_a_number_that_no_command_line_has() {
    let sandbox = Sandbox::start().await;
    let search = ["worklist", "all", "--patient", "--json"];
    let found = sandbox.run_with(&search, &format!("{NUMBER}\n")).await;
    assert_eq!(json_lines(&printed(&found)).len(), 1);
    let other = sandbox.run_with(&search, "191212121212\n").await;
    assert_eq!(printed(&other), "");
    let nobody = sandbox.run_with(&search, "").await;
    assert_eq!(nobody.status.code(), Some(2));
    assert!(text(&nobody.stderr).contains("standard input"));
    let wrong = sandbox.run_with(&search, "196408233235\n").await;
    assert_eq!(wrong.status.code(), Some(7));
    assert!(!text(&wrong.stderr).contains("196408233235"));
}

#[tokio::test]
async fn a_request_is_shown_with_its_messages_and_its_history() {
    let sandbox = Sandbox::start().await;
    let name = sandbox.invited.name.as_str();
    let short = name
        .replace("careUnits/", "")
        .replace("/bookingRequests", "");
    let shown = sandbox.print(&["show", name]).await;
    assert_eq!(shown, sandbox.print(&["show", &short]).await);
    for part in [
        name,
        "state    invited",
        "invitation  1      2026-04-06 09:00",
        "reminder 2  1      2026-05-04 09:00",
        "create booking request",
    ] {
        assert!(shown.contains(part), "{part:?} in\n{shown}");
    }
    let json: Value =
        serde_json::from_str(&sandbox.print(&["show", name, "--json"]).await).expect("JSON");
    assert_eq!(json["bookingRequest"]["name"], name);
    let events = &json["history"][0]["event"];
    assert_eq!(*events, "HISTORY_EVENT_CREATE_BOOKING_REQUEST");
}

#[tokio::test]
async fn what_is_due_is_listed_and_not_leased() {
    let sandbox = Sandbox::start().await;
    for (until, count) in [
        ("2026-04-05", 0),
        ("2026-04-06", 1),
        ("2026-04-06T07:00:00Z", 0),
    ] {
        let due = sandbox.print(&["due", "--until", until, "--json"]).await;
        assert_eq!(json_lines(&due).len(), count, "{until}: {due}");
    }
    let due = sandbox.print(&["due"]).await;
    assert!(
        due.contains("2026-04-06 09:00") && due.contains("scheduled"),
        "{due}"
    );
    let parked = sandbox.print(&["due", "--state", "parked", "--json"]).await;
    assert_eq!(parked, "");
    let bad = sandbox.run(&["due", "--until", "tomorrow"]).await;
    assert_eq!(bad.status.code(), Some(2));
}

#[tokio::test]
async fn numbers_and_texts_are_printed_when_they_are_asked_for() {
    let sandbox = Sandbox::start().await;
    let name = sandbox.invited.name.as_str();
    for (command, has_number, has_comment) in [
        (&["worklist", "care-invitations"][..], true, false),
        (&["worklist", "care-invitations", "--json"], true, true),
        (&["show", name], true, false),
        (&["show", name, "--json"], true, true),
        (&["due"], false, false),
        (&["due", "--json"], false, false),
    ] {
        let plain = sandbox.print(command).await;
        for hidden in [NUMBER, "whispered", "hidden purpose"] {
            assert!(!plain.contains(hidden), "{hidden} in {command:?}: {plain}");
        }
        let more = [command, &["--personal-data"]].concat();
        let more = sandbox.print(&more).await;
        assert_eq!(more.contains(NUMBER), has_number, "{command:?}: {more}");
        assert_eq!(
            more.contains("whispered"),
            has_comment,
            "{command:?}: {more}"
        );
    }
}

#[tokio::test]
async fn scripts_know_by_the_exit_code_what_became_of_it() {
    let sandbox = Sandbox::start().await;
    let nobody = format!("{UNIT}/{}", make::key().id);
    let closed = ["--server", "http://127.0.0.1:1"];
    for (arguments, code) in [
        (&["health"][..], 0),
        (&["health", "--json"], 0),
        (&["health", closed[0], closed[1]], 1),
        (&["due", closed[0], closed[1]], 4),
        (&["due", "--server", "ftp://127.0.0.1"], 2),
        (&["due", "--token-file", "/nowhere"], 2),
        (&["due", "--tls-ca", "/nowhere"], 2),
        (&["show", &nobody], 6),
        (&["show", "nothing"], 7),
        (&["worklist", "all"], 7),
        (&["worklist", "no-such-list"], 2),
    ] {
        let ended = sandbox.run(arguments).await;
        let said = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn a_check_says_what_is_wrong_and_changes_nothing() {
    let folder = TempDir::new().expect("a folder");
    let check = async |arguments: &[&str]| {
        let arguments = [&["check"], arguments].concat();
        let ended = run(&mut command(folder.path(), &arguments), "").await;
        (
            ended.status.code(),
            text(&ended.stdout) + &text(&ended.stderr),
        )
    };
    let (code, said) = check(&[]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("there is no file"), "{said}");
    assert!(!folder.path().join("care.db").exists());

    let (code, said) = check(&["--database-url", "postgres://nobody@127.0.0.1:1/none"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("BAD   database  the database cannot be reached"),
        "{said}"
    );

    let tls = [
        "--tls-cert",
        "/no/cert.pem",
        "--tls-key",
        "/no/key.pem",
        "--json",
    ];
    let (code, said) = check(&tls).await;
    assert_eq!(code, Some(1), "{said}");
    let lines = said.lines().filter(|it| it.starts_with('{'));
    let found = json_lines(&lines.collect::<Vec<_>>().join("\n"));
    let bad: Vec<_> = found.iter().filter(|it| it["verdict"] == "bad").collect();
    assert!(
        bad[0]["text"]
            .as_str()
            .expect("text")
            .contains("--tls-cert"),
        "{said}"
    );

    let (code, said) = check(&["--send-clock", "05:00"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--send-clock"), "{said}");
}

#[tokio::test]
async fn a_running_service_is_no_fault() {
    let sandbox = Sandbox::start().await;
    let listen = sandbox.program.address().replace("http://", "");
    let checked = sandbox.run(&["check", "--listen", &listen]).await;
    let said = printed(&checked);
    assert_eq!(said.matches("is in use").count(), 2, "{said}");
}

#[tokio::test]
async fn shells_and_man_have_their_pages() {
    let folder = TempDir::new().expect("a folder");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ended = run(&mut command(folder.path(), &["completions", shell]), "").await;
        let script = printed(&ended);
        assert!(script.contains("worklist"), "{shell}");
    }
    let pages = folder.path().join("man");
    let arguments = ["man", pages.to_str().expect("a plain name")];
    printed(&run(&mut command(folder.path(), &arguments), "").await);
    for page in [
        "care-invitation.1",
        "care-invitation-audit-verify.1",
        "care-invitation-show.1",
    ] {
        let page = std::fs::read_to_string(pages.join(page)).expect("a page");
        assert!(page.contains(".TH "), "{page}");
    }
}
