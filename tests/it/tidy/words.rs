//! The words of the source: none that the glossary has another for, and comments of functions that
//! open with a verb.

use std::ops::RangeInclusive;

use super::{Source, sources};

/// The files whose words are held to this, by how their paths begin.
const FOLDERS: &[&str] = &[
    "auth/",
    "cli",
    "client/",
    "clock",
    "config",
    "contract/",
    "dispatch/",
    "domain/",
    "grpc/",
    "lib.rs",
    "main.rs",
    "readiness.rs",
    "server",
    "store/",
    "telemetry",
];

/// Words and phrases that stand no more in code or comments. A word with a capital is a name; the
/// others are found in names too, as in `quiet_call`.
const RETIRED: &[&str] = &[
    "announcement",
    "announcements",
    "lapse_count",
    "DigitalReach",
    "digital_reach",
    "superseded",
    "OnWire",
    "Lanes",
    "Leased::Given",
    "ShownState",
    "CancelBooking",
    "Initiator",
    "PatientStatus",
    "ToRequested",
    "Reinvite",
    "carried out",
    "carries out",
    "carry out",
    "carrying out",
    "fate",
    "fates",
    "for good",
    "gave back",
    "give back",
    "given back",
    "gives back",
    "giving back",
    "gives way",
    "give way",
    "leave the house",
    "leaves the house",
    "patience",
    "quiet_call",
    "quiet_calls",
    "reworded",
    "set aside",
    "sets aside",
    "shown_state",
    "take back",
    "taken back",
    "taken into",
    "takes back",
    "took back",
];

/// First words that end as a verb does and are none.
const NO_VERBS: &[&str] = &[
    "This",
    "Its",
    "As",
    "Us",
    "Is",
    "Was",
    "Those",
    "These",
    "Always",
    "Thus",
    "Perhaps",
    "Bytes",
    "Days",
    "Details",
    "Events",
    "Fields",
    "Files",
    "Keys",
    "Lines",
    "Messages",
    "Notifications",
    "Others",
    "Ours",
    "Replicas",
    "Requests",
    "Rows",
    "Seconds",
    "Settings",
    "Texts",
    "Times",
    "Tokens",
    "Units",
    "Values",
    "Words",
    "Access",
    "Address",
    "Class",
    "Process",
    "Progress",
    "Status",
];

/// First words of clauses, where a comment should open with a verb or a noun.
const CLAUSES: &[&str] = &[
    "Who", "What", "Which", "Whether", "How", "Why", "That", "Those",
];

fn words(text: &str) -> impl Iterator<Item = &str> {
    let between = |it: char| !it.is_alphanumeric();
    text.split(between).filter(|word| !word.is_empty())
}

/// Returns where a text has a phrase, over the ends of lines too, as the lines that it is on.
fn places(text: &str, phrase: &str) -> Vec<RangeInclusive<usize>> {
    let numbered = text.lines().zip(1..);
    let all: Vec<_> = numbered
        .flat_map(|(line, number)| words(line).map(move |word| (word, number)))
        .collect();
    let phrase: Vec<_> = words(phrase).collect();
    let is_name = phrase.iter().any(|it| it.contains(char::is_uppercase));
    let same = |found: &str, word: &str| match is_name {
        true => found == word,
        false => found.eq_ignore_ascii_case(word),
    };
    let matching = all.windows(phrase.len()).filter(|found| {
        let mut pairs = found.iter().zip(&phrase);
        pairs.all(|((found, _), word)| same(found, word))
    });
    matching
        .map(|found| found[0].1..=found[found.len() - 1].1)
        .collect()
}

/// Returns the first words of comments, with their lines, and true for those that stand on functions.
fn openings(text: &str) -> Vec<(usize, String, bool)> {
    let mut found = Vec::new();
    let mut comment: Option<(usize, String)> = None;
    let mut within_attribute = false;
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if let Some(said) = line.strip_prefix("///") {
            let first = said.split_whitespace().next().unwrap_or_default();
            comment = comment.or_else(|| Some((number, first.to_owned())));
        } else if within_attribute || line.starts_with("#[") {
            within_attribute = !line.ends_with(']');
        } else if let Some((number, word)) = comment.take() {
            found.push((number, word, is_function(line)));
        }
    }
    found
}

fn is_function(line: &str) -> bool {
    let mut words = line.split([' ', '(', ')']).filter(|it| !it.is_empty());
    let before = [
        "pub", "crate", "super", "in", "const", "async", "unsafe", "extern",
    ];
    words.find(|word| !before.contains(word)) == Some("fn")
}

fn is_verb(word: &str) -> bool {
    let is_plain = word.chars().all(char::is_alphabetic);
    is_plain && word.ends_with('s') && !NO_VERBS.contains(&word)
}

fn swept() -> Vec<Source> {
    let sources = sources();
    for folder in FOLDERS {
        let is_there = sources.iter().any(|it| it.path.starts_with(folder));
        assert!(is_there, "{folder} is there");
    }
    let within = |it: &Source| FOLDERS.iter().any(|folder| it.path.starts_with(folder));
    sources.into_iter().filter(within).collect()
}

#[test]
fn no_retired_word_is_left() {
    let mut wrong = Vec::new();
    for source in swept() {
        for phrase in RETIRED {
            for lines in places(&source.text, phrase) {
                wrong.push(format!("{}:{}: {phrase}", source.path, lines.start()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_comment_of_a_function_opens_with_a_verb() {
    let mut wrong = Vec::new();
    for source in swept() {
        for (number, word, of_function) in openings(&source.text) {
            if of_function && !is_verb(&word) {
                wrong.push(format!("{}:{number}: {word}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_comment_opens_with_a_clause() {
    let mut wrong = Vec::new();
    for source in swept() {
        for (number, word, _) in openings(&source.text) {
            if CLAUSES.contains(&word.as_str()) {
                wrong.push(format!("{}:{number}: {word}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_phrase_is_found_in_names_and_over_the_ends_of_lines() {
    for (text, phrase, expected) in [
        ("/// It is taken\n    /// back.", "taken back", vec![1..=2]),
        ("fn quiet_call() {}", "quiet_call", vec![1..=1]),
        ("a\nlet PATIENCE_MAX = 1;", "patience", vec![2..=2]),
        ("let patient = 1;", "patience", vec![]),
        ("on_wire(OnWire)", "OnWire", vec![1..=1]),
        ("Leased::Given(x), Given", "Leased::Given", vec![1..=1]),
    ] {
        assert_eq!(places(text, phrase), expected, "{phrase} in {text}");
    }
}

#[test]
fn comments_are_told_apart_by_what_they_stand_on() {
    let text = "/// Locks it.\n#[inline]\npub(super) async fn a() {}\n/// The rows.\nrows: u8,\n\
                /// What it is.\n///\n/// Returns nothing.\n#[expect(\n    dead_code\n)]\nconst fn b() {}\n";
    let expected = [(1, "Locks", true), (4, "The", false), (6, "What", true)];
    let expected =
        expected.map(|(number, word, of_function)| (number, word.to_owned(), of_function));
    assert_eq!(openings(text), expected);
    for (word, expected) in [
        ("Locks", true),
        ("Rows", false),
        ("What", false),
        ("Its", false),
    ] {
        assert_eq!(is_verb(word), expected, "{word}");
    }
}
