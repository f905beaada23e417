//! The patient. No fault of an identity number quotes the number.

use super::enums;
use super::{Violations, v1};
use crate::domain::patient::{LetterFormat, Patient, PersonalId};

/// Language of a patient for whom none is given.
const LANGUAGE_DEFAULT: &str = "sv";
/// Maximum characters in a language tag.
const LANGUAGE_MAX: usize = 35;

/// Parses the field `patient`, which must be given.
pub(super) fn parse(message: Option<&v1::Patient>, violations: &mut Violations) -> Option<Patient> {
    let Some(message) = message else {
        return violations.require("patient");
    };
    violations.within("patient", |violations| {
        let personal_id = parse_personal_id(message, violations);
        let protection = enums::parse_optional(message.protection, "protection", violations);
        let inbox_reach = enums::parse_optional(message.inbox_reach, "inbox_reach", violations);
        let language = parse_preferred_language(&message.preferred_language, violations);
        let addressee = enums::parse_optional(message.addressee, "addressee", violations);
        let interpreter_language = parse_interpreter(&message.interpreter_language, violations);
        let letter_format = parse_letter_format(message.letter_format, violations);
        Some(Patient {
            personal_id: personal_id?,
            protection,
            inbox_reach,
            language,
            addressee,
            interpreter_language,
            letter_format,
        })
    })
}

/// Parses the fields `personal_id`, `personal_id_type` and `issuer` of a patient, who must be given.
pub(super) fn parse_personal_id(
    message: &v1::Patient,
    violations: &mut Violations,
) -> Option<PersonalId> {
    let v1::Patient {
        personal_id,
        personal_id_type,
        issuer,
        ..
    } = message;
    parse_identity(personal_id, *personal_id_type, issuer, violations)
}

/// Parses the identity in `field`, which must be given.
pub(super) fn parse_identity_of(
    message: Option<&v1::PatientIdentity>,
    field: &str,
    violations: &mut Violations,
) -> Option<PersonalId> {
    let Some(message) = message else {
        return violations.require(field);
    };
    let v1::PatientIdentity {
        personal_id,
        personal_id_type,
        issuer,
    } = message;
    violations.within(field, |violations| {
        parse_identity(personal_id, *personal_id_type, issuer, violations)
    })
}

/// Renders an identity.
pub(super) fn render_identity(personal_id: &PersonalId) -> v1::PatientIdentity {
    v1::PatientIdentity {
        personal_id: personal_id.number().to_owned(),
        personal_id_type: enums::render(personal_id.kind()),
        issuer: render_issuer(personal_id),
    }
}

/// Parses the three fields of an identity, of which no kind can do without the first two.
pub(super) fn parse_identity(
    number: &str,
    kind: i32,
    issuer: &str,
    violations: &mut Violations,
) -> Option<PersonalId> {
    if number.is_empty() {
        violations.add("personal_id", "is required");
    }
    let kind = enums::parse(kind, "personal_id_type", violations)?;
    match PersonalId::parse(kind, issuer, number) {
        Ok(personal_id) => Some(personal_id),
        Err(faults) => {
            if let Some(description) = faults.number.filter(|_| !number.is_empty()) {
                violations.add("personal_id", description);
            }
            if let Some(description) = faults.issuer {
                violations.add("issuer", description);
            }
            None
        }
    }
}

/// Parses the field `preferred_language`.
pub(super) fn parse_preferred_language(tag: &str, violations: &mut Violations) -> String {
    let parsed = parse_language(tag, "preferred_language", violations);
    parsed.unwrap_or_else(|| LANGUAGE_DEFAULT.to_owned())
}

/// Parses the field `interpreter_language`; `None` if no interpreter is needed.
pub(super) fn parse_interpreter(tag: &str, violations: &mut Violations) -> Option<String> {
    parse_language(tag, "interpreter_language", violations)
}

/// Parses the field `letter_format`.
pub(super) fn parse_letter_format(number: i32, violations: &mut Violations) -> LetterFormat {
    let parsed = enums::parse_optional(number, "letter_format", violations);
    parsed.unwrap_or(LetterFormat::Standard)
}

/// Parses a language tag in the shape of BCP 47, with a language of 2 to 8 letters first; `None` if it is
/// empty. It need not be a registered one.
fn parse_language(tag: &str, field: &str, violations: &mut Violations) -> Option<String> {
    if tag.is_empty() {
        return None;
    }
    let mut subtags = tag.split('-');
    let language = subtags.next().unwrap_or_default();
    let shaped = tag.len() <= LANGUAGE_MAX
        && (2..=8).contains(&language.len())
        && language.bytes().all(|byte| byte.is_ascii_alphabetic())
        && subtags.all(|subtag| {
            (1..=8).contains(&subtag.len())
                && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
    if !shaped {
        violations.add(field, "must be a BCP 47 tag of at most 35 characters");
    }
    Some(in_usual_case(tag))
}

/// Returns a tag in the case of RFC 5646: lower case, but capitals for a region of two letters and a capital
/// first in a script of four, unless they stand first or after a single character.
fn in_usual_case(tag: &str) -> String {
    let mut cased: Vec<String> = Vec::new();
    for subtag in tag.to_ascii_lowercase().split('-') {
        let has_own_case = cased.last().is_some_and(|before| before.len() > 1);
        cased.push(match (has_own_case, subtag.len()) {
            (true, 2) => subtag.to_ascii_uppercase(),
            (true, 4) => format!("{}{}", subtag[..1].to_ascii_uppercase(), &subtag[1..]),
            (true | false, _) => subtag.to_owned(),
        });
    }
    cased.join("-")
}

/// Renders the patient.
pub(super) fn render(patient: &Patient) -> v1::Patient {
    v1::Patient {
        personal_id: patient.personal_id.number().to_owned(),
        personal_id_type: enums::render(patient.personal_id.kind()),
        protection: enums::render_optional(patient.protection),
        inbox_reach: enums::render_optional(patient.inbox_reach),
        preferred_language: patient.language.clone(),
        issuer: render_issuer(&patient.personal_id),
        addressee: enums::render_optional(patient.addressee),
        interpreter_language: patient.interpreter_language.clone().unwrap_or_default(),
        letter_format: enums::render(patient.letter_format),
        personal_id_masked: false,
    }
}

/// Masks the identity number of a patient with protected identity.
pub fn masked(mut request: v1::BookingRequest) -> v1::BookingRequest {
    let none = v1::Protection::Unspecified;
    if let Some(patient) = &mut request.patient
        && patient.protection() != none
    {
        patient.personal_id.clear();
        patient.personal_id_masked = true;
    }
    request
}

/// Renders the issuer of an identity: empty for every kind but local reserve numbers.
pub(super) fn render_issuer(personal_id: &PersonalId) -> String {
    personal_id.issuer().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::tests::outcome;
    use super::*;

    fn patient(kind: v1::PersonalIdType, number: &str) -> v1::Patient {
        v1::Patient {
            personal_id: number.into(),
            personal_id_type: kind.into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_patient_is_known_by_a_checked_number_and_addressed_in_swedish_unless_told() {
        let message = patient(v1::PersonalIdType::Personnummer, "198003012385");
        let (parsed, faults) = outcome(|v| parse(Some(&message), v));
        let parsed = parsed.unwrap();
        assert_eq!((parsed.language.as_str(), faults.len()), ("sv", 0));
        assert_eq!(parsed.personal_id.number(), "198003012385");
        let (again, _) = outcome(|v| parse(Some(&render(&parsed)), v));
        assert_eq!(again, Some(parsed));
    }

    #[test]
    fn no_fault_repeats_the_number() {
        use v1::PersonalIdType::{
            LocalReserveNumber, NationalReserveNumber, Personnummer, Samordningsnummer, Unspecified,
        };
        for (kind, number, faults) in [
            (Personnummer, "196408233235", vec!["patient.personal_id"]),
            (Personnummer, "201509160006", vec!["patient.personal_id"]),
            (Personnummer, "", vec!["patient.personal_id"]),
            (
                Samordningsnummer,
                "197210869924",
                vec!["patient.personal_id"],
            ),
            (
                NationalReserveNumber,
                "19a8003012bx",
                vec!["patient.personal_id"],
            ),
            (LocalReserveNumber, "R-1", vec!["patient.issuer"]),
            (
                LocalReserveNumber,
                "R_1",
                vec!["patient.personal_id", "patient.issuer"],
            ),
            (
                LocalReserveNumber,
                "",
                vec!["patient.personal_id", "patient.issuer"],
            ),
            (
                Unspecified,
                "198003012385",
                vec!["patient.personal_id_type"],
            ),
            (
                Unspecified,
                "",
                vec!["patient.personal_id", "patient.personal_id_type"],
            ),
        ] {
            let message = patient(kind, number);
            let parsed = Violations::collect(|v| parse(Some(&message), v));
            let found = parsed.unwrap_err().into_vec();
            let fields: Vec<_> = found.iter().map(|it| it.field.as_str()).collect();
            assert_eq!(fields, faults, "{kind:?}");
            let repeats = |text: &str| !number.is_empty() && text.contains(number);
            assert!(!found.iter().any(|it| repeats(&it.description)));
        }
    }

    #[test]
    fn a_language_has_the_shape_of_a_tag() {
        for (tag, good) in [
            ("sv", true),
            ("en-GB", true),
            ("zh-Hant-TW", true),
            ("sr-Latn-RS-x-private", true),
            ("s", false),
            ("svenska-och-engelska", true),
            ("swedishlanguage", false),
            ("sv_SE", false),
            ("sv-", false),
            ("-sv", false),
            ("sv--SE", false),
            ("sv-åäö", false),
            ("sv-abcdefgh-abcdefgh-abcdefgh-abcdefgh", false),
        ] {
            let faults = outcome(|v| Some(parse_preferred_language(tag, v))).1;
            assert_eq!(faults.is_empty(), good, "{tag}");
        }
    }

    #[test]
    fn a_language_is_kept_in_its_usual_case() {
        for (tag, kept) in [
            ("SV", "sv"),
            ("en-gb", "en-GB"),
            ("ZH-hant-tw", "zh-Hant-TW"),
            ("SWL", "swl"),
            ("sr-LATN-rs-X-ABCD-AB", "sr-Latn-RS-x-abcd-AB"),
            ("es-419", "es-419"),
            ("sl-ROZAJ-1994", "sl-rozaj-1994"),
            ("ABCD", "abcd"),
        ] {
            let (parsed, faults) = outcome(|v| parse_interpreter(tag, v));
            assert_eq!((parsed.as_deref(), faults.len()), (Some(kept), 0));
        }
        assert_eq!(outcome(|v| Some(parse_interpreter("", v))).0, Some(None));
    }
}
