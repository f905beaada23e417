//! The documents keep their word. The README's first steps and the tutorial are run as a reader would
//! run them, block by block in one shell, with the real grpcurl against the real program; the settings
//! are those of `--help`.
//!
//! Ids and tokens are made anew in each run, so they are compared by their order: the first one
//! seen stands for the first one shown, wherever either appears again.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::iter;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use uuid::Uuid;

use crate::harness::PATIENCE;

const README: &str = include_str!("../../README.md");
const TUTORIAL: &str = include_str!("../../docs/tutorial.md");
const SECURITY: &str = include_str!("../../docs/security.md");
const ACCESS_LOG: &str = include_str!("../../docs/access-log.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");
const COMMANDS: &str = include_str!("../../docs/commands.md");
const PROGRAM: &str = env!("CARGO_BIN_EXE_care-invitation");

/// The most lines of the README: what is longer belongs into a page for its reader.
const README_LINES_MAX: usize = 180;
/// Where the documents' service listens. In the test it listens elsewhere, and that is put here.
const ADDRESS: &str = "127.0.0.1:50051";
/// Where the documents keep their files. In the test they are kept elsewhere.
const FOLDER: &str = "/tmp/care-invitation";
/// The length of a written UUID.
const ID_LEN: usize = 36;
/// Printed after the output of each block.
const END_OF_BLOCK: &str = "\n=== end of block ===\n";

/// Stands in for cargo in the first command of a document: starts the program that is under test, on a
/// free port, in place of the shell.
const CARGO: &str = r#"
cargo() {
  [ "$1 $2 $3" = "run --release --" ] || { echo "not as expected: cargo $*" >&2; exit 1; }
  shift 3
  exec "$PROGRAM" --listen 127.0.0.1:0 "$@"
}
"#;

/// Stands in for a program that is installed.
const PROGRAM_BY_NAME: &str = r#"
care-invitation() { "$PROGRAM" "$@"; }
"#;

#[test]
fn the_first_steps_in_the_readme_go_as_they_are_told() {
    run_document("the README", README);
}

#[test]
fn the_tutorial_goes_as_it_is_told() {
    run_document("the tutorial", TUTORIAL);
}

#[test]
fn the_first_call_with_a_token_goes_as_it_is_told() {
    run_document("the page on security", SECURITY);
}

#[test]
fn who_has_seen_a_patient_is_answered_as_it_is_told() {
    run_document("the page on the access log", ACCESS_LOG);
}

#[test]
fn the_cookbook_goes_as_it_is_told() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cookbook.md");
    let text = fs::read_to_string(page).expect("a page");
    run_document("the cookbook", text.leak());
}

/// Runs what a document shows between its marks, and compares.
fn run_document(name: &str, text: &'static str) {
    if !has_grpcurl() {
        let missing = format!("what {name} shows was not run, for there is no grpcurl");
        assert!(env::var_os("CI").is_none(), "{missing}");
        // Past the test's captured output, which nobody sees when the test passes.
        writeln!(io::stderr(), "SKIPPED: {missing}").expect("standard error");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder for the run");
    let steps = steps(between(text, "<!-- run: from", "<!-- run: end -->"));
    let (start, steps) = steps.split_first().expect("the document has steps");

    let command = start.command.replace(FOLDER, path(folder.path()));
    let service = Service::start(&command, folder.path());
    let listening = service.listening.replace(&service.address, ADDRESS);
    assert_eq!(listening, start.shown.trim_end());

    let shown: Vec<_> = steps.iter().map(|it| it.shown.trim_end()).collect();
    let seen = run(steps, &service.address, folder.path());
    let seen = with_ids_of(&shown.join(END_OF_BLOCK), seen);
    let seen: Vec<_> = seen.split(END_OF_BLOCK).map(str::trim_end).collect();
    assert_eq!(seen.len(), steps.len() + 1, "the shell ended early");
    for ((step, shown), seen) in steps.iter().zip(shown).zip(seen) {
        assert!(
            shown == seen,
            "{name} shows something else than its command gives\n\n{}\n{}",
            step.command,
            difference(shown, seen)
        );
    }
}

#[test]
fn the_readme_is_short() {
    let length = README.lines().count();
    assert!(length <= README_LINES_MAX, "{length} lines");
}

#[test]
fn the_settings_in_the_readme_are_those_that_help_prints() {
    let help = help(&[]);
    let printed = settings(&help);
    let rows = README.lines().filter(|line| line.starts_with("| `--"));
    let rows: Vec<_> = rows.map(row).collect();
    assert!(!printed.is_empty(), "{help}");
    assert_eq!(rows, printed);
    for flag in flags(&help) {
        assert!(README.contains(flag), "the README does not name {flag}");
    }
}

#[test]
fn the_commands_flags_are_told_to_operators() {
    for subcommand in [
        &["serve"][..],
        &["migrate"],
        &["purge"],
        &["after-restore"],
        &["audit", "verify"],
        &["check"],
        &["health"],
        &["worklist"],
        &["show"],
        &["due"],
        &["import"],
        &["demo"],
        &["completions"],
        &["man"],
    ] {
        let help = help(subcommand);
        for flag in flags(&help) {
            let documents = [README, OPERATIONS, COMMANDS];
            let is_told = documents.iter().any(|it| it.contains(flag));
            assert!(is_told, "no document names {flag} of {subcommand:?}");
        }
    }
}

#[test]
fn ids_are_compared_by_their_order() {
    let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let (x, y) = (Uuid::from_u128(3), Uuid::from_u128(4));
    let shown = format!("ö/{a} {b} {a}");
    assert_eq!(with_ids_of(&shown, format!("ö/{x} {y} {x}")), shown);
    assert_ne!(with_ids_of(&shown, format!("ö/{x} {y} {y}")), shown);
    assert_ne!(with_ids_of(&shown, format!("ö/{x} {x} {x}")), shown);
}

/// A block of commands, and what the document shows as its output: nothing when no block follows.
struct Step {
    command: String,
    shown: String,
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).expect("what is run begins");
    let (marked, _) = rest.split_once(end).expect("what is run ends");
    marked
}

fn steps(marked: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = marked.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            continue;
        };
        let block = lines.by_ref().take_while(|line| *line != "```");
        let block: String = block.map(|line| format!("{line}\n")).collect();
        if language == "sh" {
            steps.push(Step {
                command: block,
                shown: String::new(),
            });
        } else {
            let step = steps.last_mut().expect("output comes after a command");
            assert_eq!(step.shown, "", "a command has one output: {block}");
            step.shown = block;
        }
    }
    steps
}

/// The program as the document starts it; killed when dropped.
struct Service {
    process: Child,
    listening: String,
    address: String,
}

impl Service {
    /// Starts it, and waits until it takes calls. Its files go into `folder`.
    fn start(command: &str, folder: &Path) -> Self {
        let log = folder.join("log");
        let mut shell = Command::new("bash");
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("CARE_INVITATION_") {
                shell.env_remove(name);
            }
        }
        let mut process = shell
            .args(["-c", &format!("{CARGO}{command}")])
            .env("PROGRAM", PROGRAM)
            .env("TMPDIR", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a file for the log"))
            .spawn()
            .expect("bash runs");
        let output = process.stdout.take().expect("piped");
        let mut service = Self {
            process,
            listening: String::new(),
            address: String::new(),
        };
        service.listening = first_line(output);
        let address = service.listening.strip_prefix("listening on ");
        let address = address.and_then(|it| it.split_once("://"));
        service.address = address
            .map(|(_, address)| address)
            .unwrap_or_else(|| panic!("not started: {}", fs::read_to_string(&log).unwrap()))
            .to_owned();
        service
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The first line, without its end; empty when there is none in time. What follows is discarded.
fn first_line(output: impl io::Read + Send + 'static) -> String {
    let (found, line) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // Only the first one is waited for.
            let _ = found.send(line);
        }
    });
    line.recv_timeout(PATIENCE).unwrap_or_default()
}

/// Runs the steps in one shell and returns all that they print, errors included.
fn run(steps: &[Step], address: &str, folder: &Path) -> String {
    let end = END_OF_BLOCK.escape_default();
    let script = steps.iter().map(|step| {
        let command = step.command.replace(ADDRESS, address);
        let command = command.replace(FOLDER, path(folder));
        format!("{command}printf '{end}'\n")
    });
    let script = iter::once(PROGRAM_BY_NAME.to_owned()).chain(script);
    let transcript = folder.join("transcript");
    let output = File::create(&transcript).expect("a file for the transcript");
    let mut shell = Command::new("bash")
        .args(["-c", &script.collect::<String>()])
        .env("PROGRAM", PROGRAM)
        .env("CARE_INVITATION_SERVER", format!("http://{address}"))
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a second handle"))
        .stderr(output)
        .spawn()
        .expect("bash runs");
    let (ended, end) = mpsc::channel();
    thread::spawn(move || ended.send(shell.wait()));
    let in_time = end.recv_timeout(PATIENCE).is_ok();
    let seen = fs::read_to_string(&transcript).expect("a transcript");
    // The service ends with the test, and with it a command that hangs.
    assert!(in_time, "the steps did not end; they got so far:\n{seen}");
    seen
}

fn path(folder: &Path) -> &str {
    folder.to_str().expect("a plain name")
}

fn has_grpcurl() -> bool {
    Command::new("grpcurl").arg("-version").output().is_ok()
}

/// The text with its ids replaced by those of `model`: the first by the first, and so on.
fn with_ids_of(model: &str, text: String) -> String {
    let found: Vec<_> = ids(&text).into_iter().map(str::to_owned).collect();
    let pairs = found.iter().zip(ids(model));
    pairs.fold(text, |text, (found, shown)| text.replace(found, shown))
}

/// The UUIDs in a text, each once, in the order of their first appearance.
fn ids(text: &str) -> Vec<&str> {
    let mut ids = Vec::new();
    for start in 0..text.len() {
        let id = text.get(start..start + ID_LEN);
        let id = id.filter(|id| Uuid::try_parse(id).is_ok());
        ids.extend(id.filter(|id| !ids.contains(id)));
    }
    ids
}

/// The lines that differ, with three around them: `-` is what the document shows, `+` what was seen.
fn difference(shown: &str, seen: &str) -> String {
    let shown: Vec<_> = shown.lines().collect();
    let seen: Vec<_> = seen.lines().collect();
    let same = |(a, b): &(&&str, &&str)| a == b;
    let before = shown.iter().zip(&seen).take_while(same).count();
    let (shown_rest, seen_rest) = (&shown[before..], &seen[before..]);
    let backwards = shown_rest.iter().rev().zip(seen_rest.iter().rev());
    let after = backwards.take_while(same).count();
    let mark = |mark: &str, lines: &[&str]| -> String {
        let lines = lines.iter().map(|line| format!("{mark} {line}\n"));
        lines.collect()
    };
    [
        mark(" ", &shown[before.saturating_sub(3)..before]),
        mark("-", &shown[before..shown.len() - after]),
        mark("+", &seen[before..seen.len() - after]),
        mark(" ", &shown[shown.len() - after..][..after.min(3)]),
    ]
    .concat()
}

/// Returns what a command prints of itself.
fn help(command: &[&str]) -> String {
    let help = Command::new(PROGRAM).args(command).arg("--help").output();
    String::from_utf8(help.expect("the program runs").stdout).expect("text")
}

/// Returns the flags that a help text names.
fn flags(help: &str) -> impl Iterator<Item = &str> {
    let words = help.split_whitespace();
    let words = words.map(|it| it.trim_matches(|it: char| !it.is_alphanumeric() && it != '-'));
    words.filter(|it| it.starts_with("--"))
}

/// A flag, its variable and its default.
type Setting = [String; 3];

/// The settings that a help text lists.
fn settings(help: &str) -> Vec<Setting> {
    let mut settings: Vec<Setting> = Vec::new();
    for line in help.lines().map(str::trim) {
        if let Some(flag) = line.split(' ').next().filter(|it| it.starts_with("--")) {
            settings.push([flag.to_owned(), String::new(), String::new()]);
        } else if let Some([_, variable, default]) = settings.last_mut() {
            let value = |name| line.strip_prefix(name)?.strip_suffix(']');
            if let Some(value) = value("[env: ") {
                *variable = value.to_owned();
            } else if let Some(value) = value("[default: ") {
                *default = value.to_owned();
            }
        }
    }
    settings
}

/// The first three cells of a row of the README's table.
fn row(line: &str) -> Setting {
    let mut cells = line.split('|').skip(1);
    [(); 3].map(|()| {
        let cell = cells.next().expect("three cells and a remark");
        cell.trim().trim_matches('`').to_owned()
    })
}
