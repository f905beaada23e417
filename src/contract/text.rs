//! Text: normalised to Unicode NFC and, but for the ends of lines, kept as written. Limits count the code
//! points of what is kept. Identifiers hold no character that cannot be seen: two that look the same are the
//! same.

use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use super::Violations;
use crate::domain::hsa_id::HsaId;

/// Maximum code points in an identifier of another system.
pub(super) const IDENTIFIER_MAX: usize = 64;
/// Maximum code points in a title, such as the purpose of a visit.
pub(super) const TITLE_MAX: usize = 200;
/// Maximum code points in a consumer's cause of a failure.
pub(super) const CAUSE_MAX: usize = 500;
/// Maximum code points in instructions and comments.
pub(super) const COMMENT_MAX: usize = 2_000;

/// Parses a text on one line, without control characters.
pub(super) fn parse_line(
    text: &str,
    max: usize,
    field: &str,
    violations: &mut Violations,
) -> String {
    let text: String = text.nfc().collect();
    if text.chars().any(char::is_control) {
        violations.add(field, "must not hold control characters");
    } else {
        check_length(&text, max, field, violations);
    }
    text
}

/// Parses a longer text, without control characters but line feed and tab. Lines may end as in a web form,
/// with CR LF, or with CR: both become line feeds.
pub(super) fn parse_lines(
    text: &str,
    max: usize,
    field: &str,
    violations: &mut Violations,
) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let text: String = text.nfc().collect();
    let refused = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if text.chars().any(refused) {
        let description = "must not hold control characters but line feed and tab";
        violations.add(field, description);
    } else {
        check_length(&text, max, field, violations);
    }
    text
}

/// Fits a text on one line, refusing nothing: control characters become spaces, and the text is cut off
/// after `max` code points.
pub(super) fn fit_line(text: &str, max: usize) -> String {
    let spaced = |c: char| if c.is_control() { ' ' } else { c };
    text.nfc().map(spaced).take(max).collect()
}

/// Parses a text on one line that must not be blank.
pub(super) fn parse_required_line(
    text: &str,
    max: usize,
    field: &str,
    violations: &mut Violations,
) -> Option<String> {
    if is_blank(text) {
        return violations.require(field);
    }
    Some(parse_line(text, max, field, violations))
}

/// Parses a longer text that must not be blank.
pub(super) fn parse_required_lines(
    text: &str,
    max: usize,
    field: &str,
    violations: &mut Violations,
) -> Option<String> {
    if is_blank(text) {
        return violations.require(field);
    }
    Some(parse_lines(text, max, field, violations))
}

/// Returns whether a text is empty or shows nothing: only white space and invisible format characters.
pub(super) fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || is_invisible(c))
}

/// Returns whether a character formats others and cannot be seen itself: one of general category Cf, such as
/// a zero width space or a mark of direction.
fn is_invisible(c: char) -> bool {
    c.general_category() == GeneralCategory::Format
}

fn check_length(text: &str, max: usize, field: &str, violations: &mut Violations) {
    if text.chars().count() > max {
        violations.add(field, format!("must be at most {max} characters"));
    }
}

/// Parses an identifier of another system: 1 to 64 printable characters, among them spaces inside it. One
/// that cannot be seen would make another identifier that looks the same.
pub(super) fn parse_identifier(
    text: &str,
    field: &str,
    violations: &mut Violations,
) -> Option<String> {
    if text.is_empty() {
        return violations.require(field);
    }
    let text: String = text.nfc().collect();
    let unprintable =
        |c: char| c.is_control() || is_invisible(c) || (c.is_whitespace() && c != ' ');
    if text.chars().any(unprintable) || text.starts_with(' ') || text.ends_with(' ') {
        violations.add(
            field,
            "must be printable characters, without space around them",
        );
    } else {
        check_length(&text, IDENTIFIER_MAX, field, violations);
    }
    Some(text)
}

/// Parses an identifier that may be left out.
pub(super) fn parse_optional_identifier(
    text: &str,
    field: &str,
    violations: &mut Violations,
) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    parse_identifier(text, field, violations)
}

/// Parses an HSA-id that may be left out, into capitals.
pub(super) fn parse_optional_hsa_id(
    text: &str,
    field: &str,
    violations: &mut Violations,
) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    parse_hsa_id(text, field, violations)
}

/// Parses an HSA-id of a person, into capitals.
pub(super) fn parse_hsa_id(text: &str, field: &str, violations: &mut Violations) -> Option<String> {
    let parsed = HsaId::parse(text);
    if parsed.is_none() {
        violations.add(field, "must be an HSA-id");
    }
    parsed.map(|id| id.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::tests::outcome;
    use super::*;

    #[test]
    fn text_is_kept_in_nfc_and_counted_after_it() {
        let decomposed = "o\u{308}".repeat(5);
        let (text, faults) = outcome(|v| parse_line(&decomposed, 5, "purpose", v));
        assert_eq!((text.as_str(), faults.len()), ("ööööö", 0));
        assert_eq!(
            outcome(|v| parse_line(&decomposed, 4, "purpose", v)).1,
            ["purpose"]
        );
        let outside_the_plane = "\u{1f9e1}".repeat(5);
        assert!(
            outcome(|v| parse_line(&outside_the_plane, 5, "purpose", v))
                .1
                .is_empty()
        );
    }

    #[test]
    fn control_characters_are_refused_but_line_feed_and_tab_in_longer_texts() {
        for (text, line, lines) in [
            ("en rad", true, true),
            (" kant ", true, true),
            ("två\nrader", false, true),
            ("en\ttabb", false, true),
            ("två\r\nrader", false, true),
            ("två\rrader", false, true),
            ("nul\0", false, false),
            ("del\u{7f}", false, false),
            ("nel\u{85}", false, false),
        ] {
            let faults = outcome(|v| parse_line(text, 20, "field", v)).1;
            assert_eq!(faults.is_empty(), line, "{text:?}");
            let faults = outcome(|v| parse_lines(text, 20, "field", v)).1;
            assert_eq!(faults.is_empty(), lines, "{text:?}");
        }
    }

    #[test]
    fn ends_of_lines_become_line_feeds_before_anything_is_counted() {
        let (text, faults) = outcome(|v| parse_lines("a\r\n\rb\r\n", 5, "comment", v));
        assert_eq!((text.as_str(), faults.len()), ("a\n\nb\n", 0));
    }

    #[test]
    fn what_cannot_be_seen_is_refused_in_identifiers_and_is_blank_alone() {
        for invisible in ['\u{200b}', '\u{ad}', '\u{200f}', '\u{feff}', '\u{e0001}'] {
            let text = format!("R-1{invisible}");
            assert_eq!(
                outcome(|v| parse_identifier(&text, "referral_id", v)).1,
                ["referral_id"],
                "{invisible:?}"
            );
            for parsed in [
                outcome(|v| parse_line(&text, 4, "purpose", v)),
                outcome(|v| parse_lines(&text, 4, "comment", v)),
            ] {
                assert_eq!(parsed, (text.clone(), vec![]), "{invisible:?}");
            }
            assert!(is_blank(&format!(" {invisible}\n")), "{invisible:?}");
        }
    }

    #[test]
    fn what_is_made_to_fit_is_in_nfc_without_control_characters_and_cut_off() {
        for (text, fitted) in [
            ("en rad", "en rad"),
            ("två\r\nrader\t\u{85}\0", "två  rader   "),
            ("o\u{308}", "ö"),
            (" kant ", " kant "),
            ("", ""),
        ] {
            assert_eq!(fit_line(text, 20), fitted, "{text:?}");
        }
        assert_eq!(fit_line(&"o\u{308}".repeat(21), 20), "ö".repeat(20));
    }

    #[test]
    fn an_identifier_is_1_to_64_printable_characters() {
        let (longest, too_long) = ("å".repeat(64), "å".repeat(65));
        for (text, good) in [
            ("R-1", true),
            ("ÖNH LÄK SÄSB nybesök", true),
            (longest.as_str(), true),
            (too_long.as_str(), false),
            ("", false),
            (" R-1", false),
            ("R-1 ", false),
            ("R\n1", false),
            ("R\u{a0}1", false),
            ("R\u{0}1", false),
        ] {
            let faults = outcome(|v| parse_identifier(text, "field", v)).1;
            assert_eq!(faults.is_empty(), good, "{text:?}");
        }
        assert_eq!(
            outcome(|v| parse_optional_identifier("", "field", v)),
            (None, vec![])
        );
    }

    #[test]
    fn a_required_text_says_something() {
        for (text, good) in [("Öron", true), ("", false), ("  ", false)] {
            let (lines, _) = outcome(|v| parse_required_lines(text, 200, "field", v));
            assert_eq!(lines.is_some(), good, "{text:?}");
            let (parsed, faults) = outcome(|v| parse_required_line(text, 200, "field", v));
            assert_eq!(
                (parsed.is_some(), faults.is_empty()),
                (good, good),
                "{text:?}"
            );
        }
    }

    #[test]
    fn an_hsa_id_comes_in_capitals() {
        let (parsed, _) = outcome(|v| parse_hsa_id("se2321000131-p1", "performer_id", v));
        assert_eq!(parsed.as_deref(), Some("SE2321000131-P1"));
        let left_out = outcome(|v| parse_optional_hsa_id("", "performer_id", v));
        assert_eq!(left_out, (None, vec![]));
        assert_eq!(
            outcome(|v| parse_hsa_id("", "performer_id", v)).1,
            ["performer_id"]
        );
        assert_eq!(
            outcome(|v| parse_hsa_id("P1", "performer_id", v)).1,
            ["performer_id"]
        );
    }
}
