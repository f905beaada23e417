//! Every relative link in every Markdown file leads to a file that is there, every `#anchor` to a
//! heading, and every path of the source that a document names is there. Links to other sites are not
//! followed: no test needs the network.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// The folders of the source, as paths in the documents begin.
const FOLDERS: [&str; 4] = ["benches/", "proto/", "src/", "tests/"];

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let broken = broken(&documents());
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn what_the_documents_of_a_package_lead_to_is_in_it() {
    let script = fs::read_to_string(root().join("deploy/build")).expect("text");
    let mut lines = script.lines();
    let packed = lines.find_map(|it| it.strip_prefix("git archive HEAD -- "));
    let (packed, _) = packed.and_then(|it| it.split_once(" |")).expect("files");
    let root = root().canonicalize().expect("it is there");
    let is_packed = |file: &Path| {
        let file = file.canonicalize().expect("it is there");
        let file = file.strip_prefix(&root).expect("it is below the root");
        packed.split(' ').any(|it| match it.strip_prefix("./*") {
            Some(end) => file.components().count() == 1 && file.to_string_lossy().ends_with(end),
            None => file.starts_with(it),
        })
    };
    let mut pages = documents();
    pages.retain(|file, _| is_packed(file));
    assert!(pages.len() > 10, "documents are packed: {packed}");
    let mut missing = Vec::new();
    for (file, page) in &pages {
        let folder = file.parent().expect("a file is in a folder");
        let links = page.links.iter().filter(|it| is_relative(it));
        let targets = links.filter_map(|it| it.split('#').next());
        let targets = targets.filter(|it| !it.is_empty());
        missing.extend(targets.filter(|it| !is_packed(&folder.join(it))));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_path_that_the_documents_name_is_there() {
    let mut missing = Vec::new();
    for (file, page) in documents() {
        let paths = page.paths.iter();
        let gone = paths.filter(|path| !root().join(path).exists());
        missing.extend(gone.map(|path| format!("{}: {path}", file.display())));
    }
    missing.sort();
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The tests that a page names, as in `door::tokens::name`.
fn named_tests(text: &str) -> Vec<String> {
    let code = Parser::new_ext(text, Options::ENABLE_TABLES).filter_map(|event| match event {
        Event::Code(code) => Some(code.into_string()),
        _ => None,
    });
    code.filter(|it| it.contains("::")).collect()
}

/// Whether there is a test of this name, in the file of its module.
fn is_a_test(name: &str) -> bool {
    let (module, name) = name.rsplit_once("::").expect("a path");
    let file = module.replace("::", "/");
    let places = [
        format!("tests/it/{file}.rs"),
        format!("tests/it/{file}/mod.rs"),
        format!("src/{file}.rs"),
    ];
    let mut texts = places
        .iter()
        .filter_map(|it| fs::read_to_string(root().join(it)).ok());
    let begins = [format!("fn {name}("), format!("async fn {name}(")];
    texts.any(|text| {
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        lines.windows(2).any(|pair| {
            let is_marked = pair[0].starts_with("#[test]") || pair[0].starts_with("#[tokio::test");
            is_marked && begins.iter().any(|it| pair[1].starts_with(it))
        })
    })
}

#[test]
fn every_test_that_a_promise_names_is_there() {
    for page in ["SECURITY.md", "docs/reliability.md"] {
        let text = fs::read_to_string(root().join(page)).expect("text");
        let named = named_tests(&text);
        assert!(named.len() > 20, "{page}: tests are named: {named:?}");
        let missing: Vec<_> = named.iter().filter(|it| !is_a_test(it)).collect();
        assert!(missing.is_empty(), "{page}: {missing:#?}");
    }
    for other in ["links::is_a_test", "links::nothing", "nothing::root"] {
        assert!(!is_a_test(other), "{other} is no test");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> HashMap<PathBuf, Page> {
    let files = markdown(root());
    assert!(files.len() > 10, "the documents are found: {files:?}");
    let read = files.into_iter().map(|file| {
        let text = fs::read_to_string(&file).expect("text");
        (file, Page::read(&text))
    });
    read.collect()
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let read = |name: &str, text: &str| {
        fs::write(file(name), text).expect("written");
        (file(name), Page::read(text))
    };
    for (link, is_broken) in [
        ("b.md", false),
        ("./b.md#state-and-holds", false),
        ("#state-and-holds-1", false),
        ("b.md#vad-är-en-vårdinbjudan-1177", false),
        ("https://example.com/nothing#there", false),
        ("mailto:nobody@example.com", false),
        ("c.md", true),
        ("b.md#hold", true),
        ("#state-and-holds-2", true),
        ("../", false),
        ("b.md/", true),
    ] {
        let headings = "# State and `holds`\n\n## State and holds\n\n";
        let first = read(
            "a.md",
            &format!("{headings}| a |\n| - |\n| [b]({link}) |\n"),
        );
        let second = read(
            "b.md",
            &format!("{headings}# Vad är en *vårdinbjudan*, 1177?\n"),
        );
        let found = broken(&HashMap::from([first, second]));
        assert_eq!(!found.is_empty(), is_broken, "{link}: {found:?}");
    }
}

/// A Markdown file: where it leads, what of the source it names, and where it can be led to.
struct Page {
    links: Vec<String>,
    /// Paths in the source, without those that stand for several, as `src/<noun>.rs`.
    paths: Vec<String>,
    anchors: Vec<String>,
}

impl Page {
    fn read(text: &str) -> Self {
        let mut page = Self {
            links: Vec::new(),
            paths: Vec::new(),
            anchors: Vec::new(),
        };
        let mut heading = None;
        for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
            if let Event::Code(code) = &event {
                let is_path = FOLDERS.iter().any(|it| code.starts_with(it)) && !code.contains('<');
                page.paths.extend(is_path.then(|| code.to_string()));
            }
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.into_string());
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::Text(text) | Event::Code(text) => {
                    heading.iter_mut().for_each(|it| it.push_str(&text));
                }
                Event::End(TagEnd::Heading(_)) => {
                    let anchor = anchor(&heading.take().unwrap_or_default());
                    page.add_anchor(anchor);
                }
                _ => {}
            }
        }
        page
    }

    /// Adds the anchor of a heading, numbered when there are others like it.
    fn add_anchor(&mut self, anchor: String) {
        let numbered = (1..).map(|number| format!("{anchor}-{number}"));
        let mut free = std::iter::once(anchor.clone())
            .chain(numbered)
            .filter(|it| !self.anchors.contains(it));
        let free = free.next().expect("numbers do not end");
        self.anchors.push(free);
    }
}

/// Returns the anchor that GitHub gives to a heading.
fn anchor(heading: &str) -> String {
    let kept = |it: &char| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_');
    let lower = heading.to_lowercase();
    let kept = lower.chars().filter(kept);
    kept.map(|it| if it == ' ' { '-' } else { it }).collect()
}

/// Returns the links that lead nowhere, each with the file that it stands in.
fn broken(pages: &HashMap<PathBuf, Page>) -> Vec<String> {
    let mut broken = Vec::new();
    for (file, page) in pages {
        let links = page.links.iter();
        let relative = links.filter(|it| is_relative(it));
        for link in relative.filter(|link| !leads_somewhere(file, link, pages)) {
            broken.push(format!("{}: {link}", file.display()));
        }
    }
    broken.sort();
    broken
}

fn is_relative(link: &str) -> bool {
    !link.contains("://") && !link.starts_with("mailto:")
}

fn leads_somewhere(file: &Path, link: &str, pages: &HashMap<PathBuf, Page>) -> bool {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let folder = file.parent().expect("a file is in a folder");
    let target = match path {
        "" => file.to_owned(),
        _ => folder.join(path),
    };
    let Ok(target) = target.canonicalize() else {
        return false;
    };
    let mut others = pages.iter();
    let page = others.find(|(file, _)| file.canonicalize().is_ok_and(|it| it == target));
    anchor.is_empty() || page.is_some_and(|(_, page)| page.anchors.iter().any(|it| it == anchor))
}

/// Returns the Markdown files under a folder, but for what is built and what is hidden.
fn markdown(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        // Of what is installed or built nothing is ours.
        if name.starts_with('.') || name == "target" || name == "node_modules" {
            continue;
        }
        if path.is_dir() {
            found.extend(markdown(&path));
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
    found
}
