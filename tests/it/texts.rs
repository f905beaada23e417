//! Texts for patients: there is one for each combination, and their page shows them as they are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

const LANGUAGES: [&str; 2] = ["sv", "en"];
const SAID: [&str; 5] = [
    "INVITATION",
    "REMINDER_1",
    "REMINDER_2",
    "FOLLOW_UP",
    "WITHDRAWAL",
];
const ADDRESSEES: [&str; 3] = ["PATIENT", "GUARDIANS", "PROXY"];
const CHANNELS: [&str; 2] = ["INBOX", "LETTER"];
const FORMS: [&str; 2] = ["STANDARD", "EASY_READ"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn texts(language: &str) -> Value {
    let path = root().join(format!("clients/texts/{language}.json"));
    let text = fs::read_to_string(path).expect("there");
    serde_json::from_str(&text).expect("JSON")
}

fn page() -> String {
    fs::read_to_string(root().join("docs/texts.md")).expect("there")
}

/// The lines of a list, none of them empty.
fn lines(list: &Value) -> Vec<String> {
    let lines = list.as_array().expect("a list").iter();
    let lines: Vec<_> = lines
        .map(|it| it.as_str().expect("a line").to_owned())
        .collect();
    assert!(!lines.is_empty() && lines.iter().all(|it| !it.trim().is_empty()));
    lines
}

/// A whole text, its heading first.
fn text(texts: &Value, said: &str, addressee: &str, channel: &str, form: &str) -> Vec<String> {
    let opening = &texts["openings"][said][addressee][form];
    let heading = opening["heading"].as_str().expect("a heading").to_owned();
    let ends = if said == "WITHDRAWAL" { said } else { "CHOOSE" };
    let closing = lines(&texts["closings"][ends][channel][form]);
    [vec![heading], lines(&opening["text"]), closing].concat()
}

/// The names between braces.
fn placeholders(text: &str) -> BTreeSet<String> {
    let parts = text.split('{').skip(1);
    let names = parts.map(|it| it.split_once('}').expect("it is closed").0.to_owned());
    names.collect()
}

#[test]
fn there_is_a_text_for_every_combination_and_the_page_names_its_placeholders() {
    let page = page();
    let mut used = BTreeSet::new();
    for language in LANGUAGES {
        let texts = texts(language);
        assert_eq!(texts["language"], language);
        assert_eq!(lines(&texts["months"]).len(), 12);
        for said in SAID {
            for addressee in ADDRESSEES {
                for (channel, form) in CHANNELS.iter().flat_map(|it| FORMS.map(|form| (it, form))) {
                    let whole = text(&texts, said, addressee, channel, form).join("\n");
                    let names = placeholders(&whole);
                    let of_others = addressee != "PATIENT";
                    assert_eq!(names.contains("name"), of_others, "{whole}");
                    assert!(
                        names.contains("phone") && names.contains("care_unit"),
                        "{whole}"
                    );
                    let has_period = names.contains("start") && names.contains("end");
                    assert_eq!(has_period, said != "WITHDRAWAL", "{whole}");
                    used.extend(names);
                }
            }
        }
    }
    for name in used {
        assert!(
            page.contains(&format!("`{{{name}}}`")),
            "{name} is not explained"
        );
    }
    for value in SAID
        .iter()
        .chain(&ADDRESSEES)
        .chain(&CHANNELS)
        .chain(&FORMS)
    {
        assert!(
            page.contains(&format!("`{value}`")),
            "{value} is not explained"
        );
    }
}

#[test]
fn the_page_shows_texts_as_they_are() {
    let (page, texts) = (page(), texts("sv"));
    for form in FORMS {
        let whole = text(&texts, "REMINDER_1", "PATIENT", "LETTER", form);
        let (heading, rest) = whole.split_first().expect("a heading");
        let shown = format!("> **{heading}**\n>\n> {}\n", rest.join("\n>\n> "));
        assert!(page.contains(&shown), "the page lacks\n{shown}");
    }
}

#[test]
fn swedish_is_written_with_its_letters() {
    let text = fs::read_to_string(root().join("clients/texts/sv.json")).expect("there");
    for letter in ['å', 'ä', 'ö'] {
        assert!(text.contains(letter), "{letter} is in its composed form");
    }
    assert!(!text.contains('\u{308}') && !text.contains('\u{30a}'));
}
