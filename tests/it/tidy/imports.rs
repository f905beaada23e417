//! The files that each file uses, and that no circle leads from a file back to itself.
//!
//! A module and the modules inside it are one thing here, as are the crate's root and all others:
//! the arrows between them are not drawn.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use super::{Source, lines, sources_in};

/// The names that lead to a module from the crate's root.
type ModulePath = Vec<String>;

/// Files, each with the files that it uses.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Returns the module that a file is, as in `["grpc", "status"]`; the crate's root is empty.
fn module_path(file: &str) -> ModulePath {
    let path = file.strip_suffix(".rs").unwrap_or(file);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    match path {
        "main" | "lib" => Vec::new(),
        path => path.split('/').map(str::to_owned).collect(),
    }
}

/// Splits code into words, `::` and single signs.
fn tokens(code: &str) -> Vec<&str> {
    let is_word = |it: char| it.is_alphanumeric() || it == '_';
    let mut found = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if is_word(first) {
            rest.find(|it| !is_word(it)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        found.push(token);
        rest = after.trim_start();
    }
    found
}

/// A path that some code names, and the name under which an import makes it known.
struct Named {
    path: ModulePath,
    name: String,
}

/// Reads the paths of one file's code.
struct Reader<'a> {
    module: &'a [String],
    tokens: &'a [&'a str],
    found: Vec<Named>,
}

impl Reader<'_> {
    fn token(&self, at: usize) -> &str {
        self.tokens.get(at).copied().unwrap_or_default()
    }

    /// Reads a path or a tree of paths below `path`; returns the position behind it.
    fn read(&mut self, mut at: usize, mut path: ModulePath) -> usize {
        loop {
            match self.token(at) {
                "{" => return self.read_group(at + 1, &path),
                "crate" => path.clear(),
                "self" if path.is_empty() => path = self.module.to_vec(),
                "super" => {
                    if path.is_empty() {
                        path = self.module.to_vec();
                    }
                    path.pop();
                }
                "self" => {}
                word if word.starts_with(|it: char| it.is_alphabetic() || it == '_') => {
                    path.push(word.to_owned());
                }
                // A glob, or the arguments of a generic.
                _ => break,
            }
            at += 1;
            if self.token(at) != "::" {
                break;
            }
            at += 1;
        }
        let mut name = path.last().cloned().unwrap_or_default();
        if self.token(at) == "as" {
            name = self.token(at + 1).to_owned();
            at += 2;
        }
        self.found.push(Named { path, name });
        at
    }

    fn read_group(&mut self, mut at: usize, path: &[String]) -> usize {
        while !matches!(self.token(at), "}" | "") {
            let next = self.read(at, path.to_vec());
            at = next.max(at + 1);
            if self.token(at) == "," {
                at += 1;
            }
        }
        at + 1
    }

    /// Reads every path that begins at the crate, above this file, or at one of these names.
    fn read_all(&mut self, names: &HashMap<String, ModulePath>) {
        let mut at = 0;
        while at < self.tokens.len() {
            let (token, before) = (self.tokens[at], at.checked_sub(1).map(|it| self.tokens[it]));
            let begins = self.token(at + 1) == "::" && !matches!(before, Some("::" | "."));
            at = match names.get(token) {
                Some(path) if begins => self.read(at + 2, path.clone()),
                None if begins && matches!(token, "crate" | "super" | "self") => {
                    self.read(at, Vec::new())
                }
                Some(_) | None => at + 1,
            };
        }
    }
}

/// Returns the paths from the crate's root that a file names.
fn named_paths(source: &Source, modules: &BTreeMap<ModulePath, String>) -> Vec<ModulePath> {
    let code: Vec<_> = source.code.iter().map(|(_, line)| line.as_str()).collect();
    let code = code.join("\n");
    let (module, tokens) = (module_path(&source.path), tokens(&code));
    let mut reader = Reader {
        module: &module,
        tokens: &tokens,
        found: Vec::new(),
    };
    reader.read_all(&HashMap::new());
    // A module that is imported is the beginning of other paths.
    let imported = reader.found.iter();
    let imported = imported.filter(|it| modules.contains_key(&it.path));
    let imported = imported
        .map(|it| (it.name.clone(), it.path.clone()))
        .collect();
    reader.read_all(&imported);
    reader.found.into_iter().map(|it| it.path).collect()
}

/// Returns the graph of these files.
fn graph(sources: &[Source]) -> Graph {
    let modules = sources
        .iter()
        .map(|it| (module_path(&it.path), it.path.clone()));
    let modules: BTreeMap<_, _> = modules.filter(|(module, _)| !module.is_empty()).collect();
    let mut graph = Graph::new();
    for source in sources {
        let own = module_path(&source.path);
        if own.is_empty() {
            continue;
        }
        let mut used = BTreeSet::new();
        for path in named_paths(source, &modules) {
            let lengths = (1..=path.len()).rev();
            let mut prefixes = lengths.map(|length| &path[..length]);
            let Some(module) = prefixes.find(|it| modules.contains_key(*it)) else {
                continue;
            };
            if !own.starts_with(module) && !module.starts_with(&own) {
                used.insert(modules[module].clone());
            }
        }
        graph.insert(source.path.clone(), used);
    }
    graph
}

/// Returns the files of one circle, the first again at its end; none where there is none.
fn circle(mut graph: Graph) -> Option<Vec<String>> {
    // A file that uses none of those that are left is on no circle.
    loop {
        let left: BTreeSet<_> = graph.keys().cloned().collect();
        graph.retain(|_, used| used.iter().any(|it| left.contains(it)));
        if graph.len() == left.len() {
            break;
        }
    }
    let mut walked = vec![graph.keys().next()?.clone()];
    loop {
        let used = &graph[walked.last()?];
        let next = used.iter().find(|it| graph.contains_key(*it))?.clone();
        let met = walked.iter().position(|it| *it == next);
        walked.push(next);
        if let Some(met) = met {
            return Some(walked.split_off(met));
        }
    }
}

#[test]
fn no_file_is_needed_by_those_that_it_uses() {
    for folder in ["src", "benches/service"] {
        let sources = sources_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
        let graph = graph(&sources);
        let arrows: usize = graph.values().map(BTreeSet::len).sum();
        assert!(arrows > graph.len(), "the arrows of {folder} are seen");
        let circle = circle(graph).map(|files| files.join(" -> "));
        assert_eq!(circle, None, "a circle in {folder}");
    }
}

fn made_up(files: &[(&str, &str)]) -> Graph {
    let sources = files.iter().map(|(path, code)| Source {
        path: (*path).to_owned(),
        code: lines(code),
        text: String::new(),
    });
    graph(&sources.collect::<Vec<_>>())
}

#[test]
fn a_circle_is_found_however_long_it_is() {
    let straight = [
        ("lib.rs", "pub mod a; use crate::a::b::c::D;"),
        ("a/mod.rs", "mod b; use b::c::D; use crate::e;"),
        ("a/b.rs", "use super::{X, f::Y};"),
        ("a/b/c.rs", "use super::super::f;\nuse crate::lib_type;"),
        ("a/f.rs", "use super::X;\n// use super::b;"),
        ("e.rs", "fn g(it: Vec<std::f64>) {}"),
    ];
    assert_eq!(circle(made_up(&straight)), None);
    for (path, code, expected) in [
        (
            "a/f.rs",
            "use crate::a::b::Z;",
            "a/b.rs -> a/f.rs -> a/b.rs",
        ),
        (
            "a/f.rs",
            "use super::b::{self, c::*};",
            "a/b.rs -> a/f.rs -> a/b.rs",
        ),
        (
            "a/f.rs",
            "fn g() { super::b::c::h::<u8>() }",
            "a/f.rs -> a/b/c.rs -> a/f.rs",
        ),
        (
            "e.rs",
            "use crate::{a as other};\nfn g() {}",
            "a/mod.rs -> e.rs -> a/mod.rs",
        ),
        ("e.rs", "use super::a;", "a/mod.rs -> e.rs -> a/mod.rs"),
    ] {
        let mut files = straight;
        let changed = files.iter_mut().find(|(it, _)| *it == path);
        *changed.expect("one of them") = (path, code);
        let found = circle(made_up(&files)).map(|files| files.join(" -> "));
        assert_eq!(found.as_deref(), Some(expected), "{code} in {path}");
    }
    let long = [
        ("a.rs", "use crate::b::B;"),
        ("b.rs", "use crate::{c as see};\nfn f() { see::d::g() }"),
        ("c/mod.rs", "pub mod d;"),
        ("c/d.rs", "use crate::a::A;"),
    ];
    let found = circle(made_up(&long)).expect("there is one");
    assert_eq!(found.join(" -> "), "a.rs -> b.rs -> c/d.rs -> a.rs");
}
