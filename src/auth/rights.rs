//! A subject and its rights, whoever names them: a token, or the settings for certificates.

use std::fmt;

use super::care_units::VisibleUnits;
use super::scope::Scopes;
use crate::domain::patient::PersonalId;

/// Maximum characters in a subject.
const SUBJECT_MAX: usize = 255;

/// A subject and what it may do, as its token or the settings say.
#[derive(Clone, PartialEq, Eq)]
pub struct Rights {
    /// Subject: a system, or a person.
    pub subject: String,
    /// Scopes of the subject.
    pub scopes: Scopes,
    /// Care units that it may see.
    pub care_units: VisibleUnits,
    /// Patient that it is, with the scope `patient.self`.
    pub patient: Option<PersonalId>,
}

impl Rights {
    /// Returns the rights of everybody when no call is authenticated: all of them.
    pub fn anonymous() -> Self {
        Self {
            subject: "anonymous".to_owned(),
            scopes: Scopes::all(),
            care_units: VisibleUnits::All,
            patient: None,
        }
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Rights")
    }
}

/// Returns whether a text may be a subject: 1 to 255 printable ASCII characters, as OpenID Connect has it.
pub fn is_subject(text: &str) -> bool {
    let is_printable = |it: u8| (b' '..=b'~').contains(&it);
    (1..=SUBJECT_MAX).contains(&text.len()) && text.bytes().all(is_printable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_printable_and_not_long() {
        let long = "x".repeat(256);
        for (text, good) in [
            ("portal", true),
            ("CN=a portal", true),
            (&long[1..], true),
            (&long, false),
            ("", false),
            ("a\nb", false),
            ("\u{1b}[31m", false),
            ("\u{e5}sa", false),
        ] {
            assert_eq!(is_subject(text), good, "{text:?}");
        }
    }
}
