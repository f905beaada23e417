//! What the style asks of the text of `src/`: who imports whom, what stands in one place only, and
//! which words it is written in.

mod imports;
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The longest that a file may be, in lines; past 400 look for the second thing hiding in it.
const LINES_MAX: usize = 600;

/// Who may use what of ours. `main` and `lib` stand outside.
const MAY_USE: &[(&str, &[&str])] = &[
    ("auth", &["clock", "domain"]),
    ("clock", &["domain"]),
    (
        "cli",
        &[
            "auth",
            "client",
            "clock",
            "config",
            "domain",
            "grpc",
            "server",
            "store",
            "telemetry",
        ],
    ),
    ("client", &["config", "contract", "domain", "telemetry"]),
    ("config", &[]),
    ("contract", &["domain"]),
    ("dispatch", &["clock", "domain", "store", "telemetry"]),
    ("domain", &[]),
    (
        "grpc",
        &[
            "auth",
            "clock",
            "contract",
            "dispatch",
            "domain",
            "store",
            "telemetry",
        ],
    ),
    ("readiness", &["auth", "clock", "domain", "store"]),
    (
        "server",
        &[
            "auth",
            "clock",
            "dispatch",
            "domain",
            "grpc",
            "readiness",
            "store",
            "telemetry",
        ],
    ),
    ("store", &["domain", "telemetry"]),
    ("telemetry", &["config"]),
];

/// One file of `src/`, or of another root.
struct Source {
    /// From the root, as in `grpc/status.rs`.
    path: String,
    /// Its lines, comments and tests left out, with their numbers.
    code: Vec<(usize, String)>,
    text: String,
}

impl Source {
    fn read(root: &Path, file: &Path) -> Self {
        let text = fs::read_to_string(file).expect("source is text");
        let path = file.strip_prefix(root).expect("it is under src/");
        let path = path.to_str().expect("a plain name").replace('\\', "/");
        let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code = match is_test(&path) {
            true => Vec::new(),
            false => lines(shipped),
        };
        Self { path, code, text }
    }

    /// The module that the file belongs to, as in `grpc`.
    fn module(&self) -> &str {
        let top = self.path.split('/').next().unwrap_or_default();
        top.strip_suffix(".rs").unwrap_or(top)
    }

    /// How many modules lie above the items of the file.
    fn depth(&self) -> usize {
        let segments = self.path.split('/').count();
        segments - usize::from(self.path.ends_with("/mod.rs"))
    }

    /// The top modules of ours that it names.
    fn uses(&self, modules: &BTreeSet<&str>) -> BTreeSet<String> {
        let code: Vec<_> = self.code.iter().map(|(_, line)| line.trim()).collect();
        let code = code.join(" ");
        let roots = ["crate::".to_owned(), "super::".repeat(self.depth())];
        let mut used = BTreeSet::new();
        for root in roots {
            for (at, _) in code.match_indices(&root) {
                let more_above = code[..at].ends_with("::");
                if !more_above {
                    used.extend(names(&code[at + root.len()..]));
                }
            }
        }
        used.retain(|name| modules.contains(name.as_str()) && name != self.module());
        used
    }

    /// The places of a piece of code, as in `grpc/status.rs:17`.
    fn places(&self, piece: &str) -> Vec<String> {
        let found = self.code.iter().filter(|(_, line)| names_it(line, piece));
        let places = found.map(|(number, line)| format!("{}:{number}: {}", self.path, line.trim()));
        places.collect()
    }
}

/// Whether a line holds the piece as a word of its own.
fn names_it(line: &str, piece: &str) -> bool {
    line.match_indices(piece).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let within_a_word = before.is_some_and(|it| it.is_alphanumeric() || it == '_');
        !(within_a_word && piece.starts_with(char::is_alphanumeric))
    })
}

/// The names that follow a path: one, or several in braces.
fn names(rest: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        let text = text.trim_start().chars();
        text.take_while(|it| it.is_alphanumeric() || *it == '_')
            .collect()
    };
    let Some(list) = rest.strip_prefix('{') else {
        return vec![word(rest)];
    };
    let mut depth = 0;
    let mut found = vec![word(list)];
    for (at, it) in list.char_indices() {
        match it {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => found.push(word(&list[at + 1..])),
            _ => {}
        }
    }
    found
}

fn lines(text: &str) -> Vec<(usize, String)> {
    let numbered = text.lines().enumerate();
    let code = numbered.filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.map(|(at, line)| (at + 1, line.to_owned())).collect()
}

/// A file that is for tests alone.
fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.ends_with("/samples.rs")
}

fn sources() -> Vec<Source> {
    let sources = sources_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(sources.len() > 30, "the sources are found");
    sources
}

fn sources_in(root: &Path) -> Vec<Source> {
    let mut files = Vec::new();
    gather(root, &mut files);
    files.sort();
    let read = files.iter().map(|file| Source::read(root, file));
    read.collect()
}

fn gather(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            gather(&path, files);
        } else if path.extension().is_some_and(|it| it == "rs") {
            files.push(path);
        }
    }
}

/// Where a piece of code stands outside the files that may have it.
fn outside(allowed: &[&str], pieces: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources() {
        let may = allowed.iter().any(|it| source.path.starts_with(it));
        if !may {
            found.extend(pieces.iter().flat_map(|piece| source.places(piece)));
        }
    }
    found
}

#[test]
fn modules_use_those_below_them_and_no_others() {
    let modules: BTreeSet<_> = MAY_USE.iter().map(|(module, _)| *module).collect();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for source in sources() {
        if matches!(source.module(), "main" | "lib") {
            continue;
        }
        let rule = MAY_USE.iter().find(|(it, _)| *it == source.module());
        let (module, may) = rule.unwrap_or_else(|| panic!("{} has no rule", source.path));
        seen.insert(*module);
        for used in source.uses(&modules) {
            if !may.contains(&used.as_str()) {
                wrong.push(format!("{} uses {used}", source.path));
            }
        }
    }
    assert_eq!(seen, modules, "every module that has a rule is there");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_import_is_seen_however_it_is_written() {
    let modules = BTreeSet::from(["store", "clock", "domain"]);
    for (path, code, used) in [
        ("grpc/auth.rs", "use crate::store::Store;", vec!["store"]),
        (
            "grpc/auth.rs",
            "use crate::{domain::{RegionPolicy, clock}, store};",
            vec!["domain", "store"],
        ),
        (
            "grpc/auth.rs",
            "fn f(it: crate::clock::Clock) {}",
            vec!["clock"],
        ),
        (
            "grpc/auth.rs",
            "use super::super::store::Store;",
            vec!["store"],
        ),
        ("grpc/auth.rs", "use super::store;", vec![]),
        ("grpc/mod.rs", "use super::store;", vec!["store"]),
        (
            "domain/a/b.rs",
            "use super::super::super::store;",
            vec!["store"],
        ),
        ("domain/a/b.rs", "use crate::domain::RegionPolicy;", vec![]),
        ("config.rs", "use crate::{\n    domain,\n};", vec!["domain"]),
        ("config.rs", "// use crate::domain;", vec![]),
    ] {
        let source = Source {
            path: path.to_owned(),
            code: lines(code),
            text: String::new(),
        };
        let seen: Vec<_> = source.uses(&modules).into_iter().collect();
        assert_eq!(seen, used, "{code} in {path}");
    }
}

#[test]
fn the_machine_is_asked_for_time_and_ids_in_one_file() {
    let found = outside(
        &["clock.rs"],
        &[
            "Utc::now",
            "Local::now",
            "SystemTime",
            "std::time::Instant",
            "time::UNIX_EPOCH",
            "Uuid::now_v7",
            "Uuid::new_v4",
            "Clock::real",
        ],
    );
    // The program decides which clock it is.
    let found: Vec<_> = found
        .iter()
        .filter(|it| !it.starts_with("cli.rs"))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_rules_and_the_contract_know_no_async_and_no_log() {
    let others = everything_but(&["domain", "contract"]);
    let found = outside(&others, &["async", "tokio", "tracing"]);
    assert!(found.is_empty(), "{found:#?}");
}

/// The files outside these modules.
fn everything_but(modules: &[&str]) -> Vec<&'static str> {
    let others = MAY_USE.iter().map(|(module, _)| *module);
    let others = others.filter(|module| !modules.contains(module));
    others.chain(["main", "lib"]).collect()
}

#[test]
fn status_codes_stand_in_one_file() {
    let found = outside(
        // What a command is told about its call.
        &["client/failure.rs", "grpc/status.rs"],
        &[
            "Code::",
            "Status::new",
            "Status::with_",
            "Status::ok",
            "Status::cancelled",
            "Status::unknown",
            "Status::invalid_argument",
            "Status::deadline_exceeded",
            "Status::not_found",
            "Status::already_exists",
            "Status::permission_denied",
            "Status::resource_exhausted",
            "Status::failed_precondition",
            "Status::aborted",
            "Status::out_of_range",
            "Status::unimplemented",
            "Status::internal",
            "Status::unavailable",
            "Status::data_loss",
            "Status::unauthenticated",
            "Status::from_error",
        ],
    );
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn each_library_has_its_folder() {
    for (allowed, pieces) in [
        (&["store/"][..], &["sea_orm", "use sqlx"][..]),
        (
            &["client/", "grpc/", "server.rs"],
            &["tonic_types", "tonic_health", "tonic_reflection"],
        ),
        (
            &[
                "client/",
                "grpc/",
                "server.rs",
                "server/",
                "contract/mod.rs",
                "telemetry/traces/",
            ],
            &["tonic::"],
        ),
        (&["telemetry/"], &["opentelemetry"]),
        (
            &["auth/fetch.rs", "server/"],
            &["hyper::", "hyper_util::", "http_body_util"],
        ),
        (&["auth/", "server/"], &["tokio_rustls", "webpki::"]),
        (&["auth/"], &["jsonwebtoken", "ring::signature"]),
        (&["config", "main.rs"], &["std::env", "env::var", "clap"]),
        (&["config.rs", "main.rs", "server.rs"], &["process::exit"]),
    ] {
        let found = outside(allowed, pieces);
        assert!(found.is_empty(), "{found:#?}");
    }
}

#[test]
fn sql_stands_where_databases_differ() {
    let statements = [
        "SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH ", "PRAGMA ",
    ];
    let pieces = statements.map(|it| format!("\"{it}"));
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    let places = ["store/bulk/", "store/database/", "store/schema/"];
    let found = outside(&places, &pieces);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn nothing_is_left_to_do() {
    let pieces = [
        "todo!",
        "unimplemented!",
        "dbg!",
        "println!",
        "FIXME",
        "XXX",
    ];
    let found = outside(&[], &pieces);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_todo_has_a_number_and_a_silenced_lint_a_reason() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            let numberless = line.contains("TODO") && !line.contains("TODO(#");
            let silenced = line.contains("#[expect(") && !line.contains("reason");
            let generated = source.path == "contract/mod.rs";
            let allowed = line.contains("#[allow(") && !generated;
            if numberless || silenced || allowed {
                wrong.push(format!("{}:{}: {line}", source.path, number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_is_exported_under_another_roof() {
    let found: Vec<_> = sources()
        .iter()
        .flat_map(|source| [source.places("pub use"), source.places("pub(super) use")].concat())
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_file_says_first_what_it_is_for_and_is_not_long() {
    let mut wrong = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//!") && !source.path.ends_with("/tests.rs") {
            wrong.push(format!("{} does not say what it is for", source.path));
        }
        let length = source.text.lines().count();
        if length > LINES_MAX {
            wrong.push(format!("{} has {length} lines", source.path));
        }
        let name = source.path.rsplit('/').next().unwrap_or_default();
        if matches!(
            name,
            "util.rs" | "utils.rs" | "common.rs" | "prelude.rs" | "helpers.rs"
        ) {
            wrong.push(format!("{} says nothing by its name", source.path));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn main_is_short() {
    let main = sources().into_iter().find(|it| it.path == "main.rs");
    let length = main.expect("a main").text.lines().count();
    assert!(length < 60, "{length} lines");
}
