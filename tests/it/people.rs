//! The commands that people use: they call the real program as everybody else does.

use std::convert::Infallible;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use care_invitation::contract::v1;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::contract::v1::stream_due_notifications_response::Event;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::collector::Collector;
use crate::harness::within;
use crate::make;
use crate::postgres::free_port;
use crate::program::{PROGRAM, Program, command_by, create, make_pipe, text};

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
        // Which server it was says the most.
        if code == 4 {
            assert!(
                said.contains("http://127.0.0.1:1/"),
                "{arguments:?}: {said}"
            );
        }
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

    let nowhere = folder.path().join("none/care.db").display().to_string();
    let (code, said) = check(&["--database-url", &format!("sqlite://{nowhere}")]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("BAD   database") && said.contains("cannot create"),
        "{said}"
    );

    let mut misspelt = command(folder.path(), &["check"]);
    misspelt.env("CARE_INVITATION_LISTN", "0.0.0.0:50051");
    let said = printed(&run(&mut misspelt, "").await);
    let look = "look  variables  no setting has this name: CARE_INVITATION_LISTN.";
    assert!(said.contains(look), "{said}");

    // Not an address of this machine.
    let (code, said) = check(&["--metrics-listen", "192.0.2.1:9464"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another --metrics-listen"), "{said}");

    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    for metrics in [&listen, &format!("0.0.0.0:{port}")] {
        let (code, said) = check(&["--listen", &listen, "--metrics-listen", metrics]).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&format!("{listen} is free")), "{said}");
        let bad = format!("BAD   metrics   cannot listen on {metrics}: --listen {listen} has it");
        assert!(said.contains(&bad), "{said}");
    }

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

    // Traces are no reason not to start.
    let collector = Collector::start().await;
    let endpoint = format!("http://{}", collector.address);
    for (endpoint, found) in [
        (&*endpoint, "can be reached"),
        ("http://127.0.0.1:1", "cannot be reached"),
    ] {
        let (code, said) = check(&["--otlp-endpoint", endpoint]).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(&format!("{endpoint}/ {found}")), "{said}");
    }

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

/// A file of the sandbox, with this content.
fn file(sandbox: &Sandbox, name: &str, content: &str) -> String {
    let path = sandbox.folder.path().join(name);
    std::fs::write(&path, content).expect("written");
    path.to_str().expect("a plain name").to_owned()
}

const HEADINGS: &str = "patient.personal_id;patient.personal_id_type;referral.referral_id;visit_kind;\
    visit_type.code;purpose;summons;invitation;constraints.requested_period.start_date;\
    constraints.requested_period.end_date";

/// A line of a file of requests.
fn record(number: &str, referral: &str) -> String {
    format!("{number};personnummer;{referral};new visit;ONH-NY;Öron;ja;ja;2026-05-18;2026-06-12")
}

#[tokio::test]
async fn a_file_is_imported_once_however_often_it_is_run() {
    let sandbox = Sandbox::start().await;
    let lines: Vec<_> = (0..450)
        .map(|at| record(NUMBER, &format!("I-{at}")))
        .collect();
    let lines = [vec![HEADINGS.to_owned()], lines].concat().join("\n");
    let path = file(&sandbox, "requests.csv", &lines);
    let import = ["import", &path, "--care-unit", UNIT, "--json"];
    for (created, before) in [(450, 0), (0, 450)] {
        let said = json_lines(&sandbox.print(&import).await);
        assert_eq!(
            said[0],
            serde_json::json!({"created": created, "doneBefore": before, "refused": 0})
        );
    }
    // The lines of another system are others, and the duplicate rule sees them.
    let other = [&import[..], &["--source", "other"]].concat();
    let refused = sandbox.run(&other).await;
    assert_eq!(refused.status.code(), Some(8), "{}", text(&refused.stderr));
}

#[tokio::test]
async fn refused_lines_are_written_with_their_reasons_and_can_be_mended() {
    let sandbox = Sandbox::start().await;
    let lines = [
        HEADINGS.to_owned(),
        record("196408233235", "I-1"),
        record(NUMBER, "I-2"),
        record(NUMBER, "I-2"),
        record(NUMBER, "I-3").replace(";ja;ja;", ";perhaps;ja;"),
    ];
    let path = file(&sandbox, "requests.csv", &lines.join("\n"));
    let import = ["import", &path, "--care-unit", UNIT];
    let ended = sandbox.run(&import).await;
    assert_eq!(ended.status.code(), Some(8), "{}", text(&ended.stderr));
    assert!(
        text(&ended.stdout).contains("created 1 requests"),
        "{}",
        text(&ended.stdout)
    );
    let said = text(&ended.stderr) + &text(&ended.stdout);
    assert!(!said.contains("196408233235"), "{said}");

    let refused = sandbox.folder.path().join("requests.refused.csv");
    let written = std::fs::read_to_string(&refused).expect("refused lines");
    let reasons: Vec<_> = written
        .lines()
        .map(|it| it.rsplit(',').next().unwrap_or_default())
        .collect();
    assert_eq!(reasons.len(), 4, "{written}");
    assert!(
        written.contains("booking_request.patient.personal_id: "),
        "{written}"
    );
    assert!(
        written.contains("an earlier line says the same"),
        "{written}"
    );
    assert!(written.contains("summons: must be yes or no"), "{written}");
    let mended = written
        .replace("196408233235", "191212121212")
        .replace("perhaps", "ja");
    let path = file(&sandbox, "mended.csv", &mended);
    let ended = sandbox.run(&["import", &path, "--care-unit", UNIT]).await;
    let said = text(&ended.stdout);
    assert!(
        said.contains("created 2 requests, 1 were there"),
        "{said} {}",
        text(&ended.stderr)
    );
}

/// Serves batches of creates, the answers of which this makes.
async fn serve_batches(
    answer: impl Fn(v1::BatchCreateBookingRequestsRequest) -> Vec<v1::BookingRequestResult>
    + Clone
    + Send
    + Sync
    + 'static,
) -> (String, AbortOnDropHandle<()>) {
    let service = service_fn(move |call: http::Request<Body>| {
        let answer = answer.clone();
        let batch = service_fn(move |call: Request<_>| {
            let results = answer(call.into_inner());
            let answer = v1::BatchCreateBookingRequestsResponse { results };
            std::future::ready(Ok::<_, Status>(Response::new(answer)))
        });
        async { Ok::<_, Infallible>(Grpc::new(ProstCodec::default()).unary(batch, call).await) }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let incoming = TcpListenerStream::new(listener);
    let serving = Server::builder().serve_with_incoming(service, incoming);
    let serving = tokio::spawn(async { serving.await.expect("it serves") });
    (format!("http://{address}"), AbortOnDropHandle::new(serving))
}

#[tokio::test]
async fn a_line_for_which_the_server_cannot_answer_is_repeated_and_not_refused() {
    // Of the first batch the second and the third line meet others; then the third is wrong.
    let failed = |code: Code, reason: v1::ErrorReason| v1::BookingRequestResult {
        error: Some(v1::ElementError {
            code: code.into(),
            reason: reason.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let contention = move || failed(Code::Unavailable, v1::ErrorReason::Contention);
    let duplicate = move || failed(Code::AlreadyExists, v1::ErrorReason::DuplicateRequest);
    let batches: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
    let seen = batches.clone();
    let (address, _server) = serve_batches(move |batch| {
        let ids = batch.requests.into_iter().map(|it| it.request_id);
        let mut seen = seen.lock().expect("whole");
        seen.push(ids.collect());
        match seen.len() {
            1 => vec![
                v1::BookingRequestResult::default(),
                contention(),
                contention(),
            ],
            _ => vec![v1::BookingRequestResult::default(), duplicate()],
        }
    })
    .await;
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("requests.csv");
    let lines = [
        HEADINGS.to_owned(),
        record(NUMBER, "I-1"),
        record(NUMBER, "I-2"),
        record(NUMBER, "I-3"),
    ];
    std::fs::write(&path, lines.join("\n")).expect("written");
    let path = path.display().to_string();
    let import = ["import", &path, "--care-unit", UNIT, "--server", &address];
    let ended = run(&mut command(folder.path(), &import), "").await;
    let said = text(&ended.stdout) + &text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(8), "{said}");
    assert!(
        said.contains("created 2 requests, 0 were there from an import before, refused 1 lines"),
        "{said}"
    );
    let batches = batches.lock().expect("whole");
    assert_eq!(batches.len(), 2);
    assert_eq!(
        batches[1],
        batches[0][1..],
        "the same ids, of the two alone"
    );
    let refused = std::fs::read_to_string(folder.path().join("requests.refused.csv"));
    let refused = refused.expect("refused lines");
    assert!(
        refused.contains("I-3") && !refused.contains("I-2"),
        "{refused}"
    );
}

#[tokio::test]
async fn the_file_that_is_imported_is_not_written_over_by_any_name() {
    let sandbox = Sandbox::start().await;
    let lines = [HEADINGS.to_owned(), record("196408233235", "I-1")].join("\n");
    let path = file(&sandbox, "requests.csv", &lines);
    let beside = |name: &str| sandbox.folder.path().join(name).display().to_string();
    let (linked, other_name) = (beside("linked.csv"), beside("other.csv"));
    std::os::unix::fs::symlink(&path, &linked).expect("a link");
    std::fs::hard_link(&path, &other_name).expect("a second name");
    let dotted = beside("./requests.csv");
    for refused in [&path, &dotted, &linked, &other_name] {
        let import = ["import", &path, "--care-unit", UNIT, "--refused", refused];
        let ended = sandbox.run(&import).await;
        let left = std::fs::read_to_string(&path).expect("the file");
        assert_eq!(left, lines, "{refused}");
        assert_eq!(ended.status.code(), Some(2), "{}", text(&ended.stderr));
    }
    // Any other is written over, and only its owner can read it from then on.
    let refused = file(&sandbox, "refused.csv", &"old\n".repeat(100));
    let import = ["import", &path, "--care-unit", UNIT, "--refused", &refused];
    assert_eq!(sandbox.run(&import).await.status.code(), Some(8));
    let written = std::fs::read_to_string(&refused).expect("refused lines");
    assert!(!written.contains("old"), "{written}");
    let mode = std::fs::metadata(&refused).expect("a file").mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn nothing_but_a_file_is_imported() {
    let sandbox = Sandbox::start().await;
    let folder = sandbox.folder.path().display().to_string();
    let pipe = sandbox.folder.path().join("pipe");
    make_pipe(&pipe);
    let pipe = pipe.display().to_string();
    for (path, format) in [(&folder, "ndjson"), (&folder, "csv"), (&pipe, "ndjson")] {
        let ended = sandbox.run(&["import", path, "--format", format]).await;
        let said = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains("it is no regular file"), "{said}");
    }
}

#[tokio::test]
async fn a_request_id_that_comes_twice_refuses_the_second_line_alone() {
    let sandbox = Sandbox::start().await;
    let id = "0190f5a4-7c1e-7000-8000-00000000000a";
    let lines = [
        format!("request_id;{HEADINGS}"),
        format!("{id};{}", record(NUMBER, "I-1")),
        format!("{};{}", id.to_uppercase(), record(NUMBER, "I-2")),
        format!(";{}", record(NUMBER, "I-3")),
    ];
    let path = file(&sandbox, "requests.csv", &lines.join("\n"));
    let ended = sandbox.run(&["import", &path, "--care-unit", UNIT]).await;
    let said = text(&ended.stdout) + &text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(8), "{said}");
    assert!(said.contains("created 2 requests"), "{said}");
    let refused = std::fs::read_to_string(sandbox.folder.path().join("requests.refused.csv"));
    let refused = refused.expect("refused lines");
    assert!(
        refused.contains("I-2") && refused.contains("an earlier line has the same request_id"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_file_of_json_says_all_that_a_call_can_say() {
    let sandbox = Sandbox::start().await;
    let call = serde_json::json!({
        "parent": format!("careUnits/{UNIT}"),
        "bookingRequest": {
            "patient": {"personalId": NUMBER, "personalIdType": "PERSONAL_ID_TYPE_PERSONNUMMER"},
            "referral": {"referralId": "J-1"},
            "visitKind": "VISIT_KIND_NEW_VISIT",
            "visitType": {"code": "ONH-NY"},
            "purpose": "Öron",
            "summons": true,
            "invitation": true,
            "constraints": {
                "requestedPeriod": {"startDate": "2026-03-16", "endDate": "2026-06-12"},
                "weekdays": ["DAY_OF_WEEK_MONDAY", "DAY_OF_WEEK_TUESDAY"],
            },
        },
        "priorMessages": [{
            "kind": "NOTIFICATION_KIND_INVITATION",
            "channel": "DELIVERY_CHANNEL_LETTER",
            "sendTime": "2026-02-20T08:00:00Z",
        }],
    });
    let path = file(
        &sandbox,
        "requests.ndjson",
        &format!("{call}\n\nnot json\n{{\"parnt\": 1}}\n"),
    );
    let ended = sandbox.run(&["import", &path]).await;
    assert_eq!(ended.status.code(), Some(8), "{}", text(&ended.stderr));
    assert!(
        text(&ended.stdout).contains("created 1 requests"),
        "{}",
        text(&ended.stdout)
    );
    let refused = std::fs::read_to_string(sandbox.folder.path().join("requests.refused.ndjson"));
    let refused = json_lines(&refused.expect("refused lines"));
    assert_eq!(refused.len(), 2);
    assert_eq!(
        (&refused[0]["text"], &refused[0]["refused"]["line"]),
        (&"not json".into(), &3.into())
    );
    assert_eq!(refused[1]["parnt"], 1);
    let due = sandbox.print(&["due", "--until", "2026-03-06"]).await;
    assert!(due.contains("reminder 1"), "{due}");
}

#[tokio::test]
async fn columns_that_are_no_fields_are_named() {
    let sandbox = Sandbox::start().await;
    let path = file(
        &sandbox,
        "requests.csv",
        "patient.personal_id,shoe_size,constraints.weekdays\n1,2,3\n",
    );
    let ended = sandbox.run(&["import", &path]).await;
    assert_eq!(ended.status.code(), Some(2));
    let said = text(&ended.stderr);
    assert!(said.contains("shoe_size, constraints.weekdays"), "{said}");
}

#[tokio::test]
async fn a_year_is_played_in_a_sandbox_alone() {
    let sandbox = Sandbox::start().await;
    let demo = ["demo", "--days", "70", "--requests", "30", "--json"];
    let played = json_lines(&sandbox.print(&demo).await);
    assert_eq!(played[0]["requests"], 30);
    assert_eq!(played[0]["now"], "2026-05-11 12:00");
    for what in ["handedOver", "booked"] {
        assert!(played[0][what].as_u64() > Some(0), "{what} in {played:?}");
    }
    let counts = sandbox
        .print(&["worklist", "--care-unit", "TSTNMT2321000156-1003"])
        .await;
    assert!(counts.contains("care-invitations"), "{counts}");
    // Again, on what is there.
    sandbox
        .print(&["demo", "--days", "3", "--requests", "3"])
        .await;

    let folder = TempDir::new().expect("a folder");
    let real = Program::start(folder.path(), &[]).await;
    let mut command = command(folder.path(), &["demo"]);
    command.env("CARE_INVITATION_SERVER", real.address());
    let refused = run(&mut command, "").await;
    assert_eq!(refused.status.code(), Some(7));
    assert!(text(&refused.stderr).contains("no sandbox"));
}

#[tokio::test]
async fn a_sandbox_clock_runs_when_it_is_told_to() {
    let folder = TempDir::new().expect("a folder");
    let day_a_second = ["--sandbox-clock", NOW, "--sandbox-speed", "86400"];
    let program = Program::start(folder.path(), &day_a_second).await;
    let channel = program.channel().await;
    let form = make::wire_form("2026-04-16", "2026-06-12");
    let request = create(&channel, make::wire_create(form))
        .await
        .expect("created");
    // The invitation falls due a few days later, which is a few seconds.
    let mut command = command(folder.path(), &["due", "--json"]);
    command.env("CARE_INVITATION_SERVER", program.address());
    printed(&run(&mut command, "").await);
    let mut client = NotificationServiceClient::new(channel);
    let call = v1::StreamDueNotificationsRequest::default();
    let mut stream = within(client.stream_due_notifications(call))
        .await
        .expect("a stream")
        .into_inner();
    let message = within(stream.message())
        .await
        .expect("a message")
        .expect("one");
    let Some(Event::Due(due)) = message.event else {
        panic!("it is due");
    };
    assert_eq!(due.booking_request, request.name);

    for arguments in [
        &["--sandbox-speed", "60"][..],
        &["--sandbox-clock", NOW, "--sandbox-speed", "0"],
        &["--sandbox-clock", NOW, "--sandbox-speed", "fast"],
    ] {
        let folder = TempDir::new().expect("a folder");
        let refused = run(&mut self::command(folder.path(), arguments), "").await;
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        assert!(text(&refused.stderr).contains("--sandbox-speed"));
    }
}
