//! UpdatePatient: the patient, and the fields to change.

use prost_types::FieldMask;

use crate::contract::patient::{
    parse_interpreter, parse_letter_format, parse_personal_id, parse_preferred_language,
    render_issuer,
};
use crate::contract::update_mask::UpdateMask;
use crate::contract::{
    IdempotentCommand, Violations, care_unit_name, enums, parse_care_unit_name, parse_request_id,
    request_name, v1,
};
use crate::domain::booking_request::update_patient::UpdatePatient;
use crate::domain::hsa_id::HsaId;
use crate::domain::patient::PersonalId;
use crate::domain::request_key::RequestKey;

/// Parent that stands for every care unit.
const EVERY_CARE_UNIT: &str = "careUnits/-";
/// Paths that a mask may hold.
const PATHS: [&str; 6] = [
    "protection",
    "inbox_reach",
    "preferred_language",
    "addressee",
    "interpreter_language",
    "letter_format",
];

/// Command to update a patient.
#[derive(Clone, Debug, PartialEq)]
pub struct PatientUpdate {
    /// Care unit; `None` means every one that the caller may change.
    pub care_unit: Option<HsaId>,
    /// Identity number of the patient.
    pub personal_id: PersonalId,
    /// Fields to change.
    pub update: UpdatePatient,
}

/// Parses UpdatePatient. Fields that the mask does not name are ignored; with `deceased` the mask is
/// ignored too, because every request that it could change is closed.
///
/// # Errors
///
/// Every fault of shape, such as a mask that names nothing.
pub fn parse_update_patient(
    message: v1::UpdatePatientRequest,
) -> Result<IdempotentCommand<PatientUpdate>, Violations> {
    Violations::collect(|violations| {
        let care_unit = parse_parent(&message.parent, violations);
        let mask = match message.deceased {
            true => UpdateMask::default(),
            false => UpdateMask::parse(message.update_mask.as_ref(), &PATHS),
        };
        let parsed = match &message.patient {
            Some(given) => violations.within("patient", |violations| {
                let personal_id = parse_personal_id(given, violations);
                let update = parse_edit(given, &mask, violations);
                personal_id.map(|personal_id| (personal_id, update))
            }),
            None => violations.require("patient"),
        };
        mask.check(violations);
        let request_id = parse_request_id(&message.request_id, violations);
        let care_unit = care_unit?;
        let (personal_id, edit) = parsed?;
        let command = PatientUpdate {
            care_unit,
            personal_id,
            update: UpdatePatient {
                deceased: message.deceased,
                ..edit
            },
        };
        let content = render(&command);
        Some(IdempotentCommand::new(
            request_id?,
            "UpdatePatient",
            &content,
            command,
        ))
    })
}

/// Parses the field `parent`: `Some(None)` for every care unit, `None` if it is not a name.
fn parse_parent(parent: &str, violations: &mut Violations) -> Option<Option<HsaId>> {
    if parent == EVERY_CARE_UNIT {
        return Some(None);
    }
    parse_care_unit_name(parent, "parent", violations).map(Some)
}

/// Parses the new values of the fields that are named.
fn parse_edit(
    given: &v1::Patient,
    mask: &UpdateMask,
    violations: &mut Violations,
) -> UpdatePatient {
    UpdatePatient {
        protection: mask
            .names("protection")
            .then(|| enums::parse_optional(given.protection, "protection", violations)),
        inbox_reach: mask
            .names("inbox_reach")
            .then(|| enums::parse_optional(given.inbox_reach, "inbox_reach", violations)),
        language: mask
            .names("preferred_language")
            .then(|| parse_preferred_language(&given.preferred_language, violations)),
        addressee: mask
            .names("addressee")
            .then(|| enums::parse_optional(given.addressee, "addressee", violations)),
        interpreter_language: mask
            .names("interpreter_language")
            .then(|| parse_interpreter(&given.interpreter_language, violations)),
        letter_format: mask
            .names("letter_format")
            .then(|| parse_letter_format(given.letter_format, violations)),
        deceased: false,
    }
}

/// Renders the message in its normalised form, without its request id.
fn render(command: &PatientUpdate) -> v1::UpdatePatientRequest {
    let update = &command.update;
    let named = [
        ("protection", update.protection.is_some()),
        ("inbox_reach", update.inbox_reach.is_some()),
        ("preferred_language", update.language.is_some()),
        ("addressee", update.addressee.is_some()),
        (
            "interpreter_language",
            update.interpreter_language.is_some(),
        ),
        ("letter_format", update.letter_format.is_some()),
    ];
    let named = named.iter().filter(|(_, is_named)| *is_named);
    let care_unit = command.care_unit.as_ref();
    v1::UpdatePatientRequest {
        parent: care_unit.map_or_else(|| EVERY_CARE_UNIT.to_owned(), care_unit_name),
        patient: Some(v1::Patient {
            personal_id: command.personal_id.number().to_owned(),
            personal_id_type: enums::render(command.personal_id.kind()),
            protection: enums::render_optional(update.protection.flatten()),
            inbox_reach: enums::render_optional(update.inbox_reach.flatten()),
            preferred_language: update.language.clone().unwrap_or_default(),
            issuer: render_issuer(&command.personal_id),
            addressee: enums::render_optional(update.addressee.flatten()),
            interpreter_language: update
                .interpreter_language
                .clone()
                .flatten()
                .unwrap_or_default(),
            letter_format: enums::render_optional(update.letter_format),
            personal_id_masked: false,
        }),
        update_mask: Some(FieldMask {
            paths: named.map(|(path, _)| (*path).to_owned()).collect(),
        }),
        deceased: update.deceased,
        request_id: String::new(),
    }
}

/// Renders the response of UpdatePatient with the requests that were changed.
pub fn render_updated(changed: &[RequestKey]) -> v1::UpdatePatientResponse {
    v1::UpdatePatientResponse {
        booking_requests: changed.iter().map(request_name).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::booking_request::samples::key;
    use crate::contract::tests::fields;
    use crate::domain::patient::{Addressee, InboxReach, LetterFormat, Protection};
    use uuid::Uuid;

    fn update(paths: &[&str]) -> v1::UpdatePatientRequest {
        v1::UpdatePatientRequest {
            parent: "careUnits/SE2321000131-P1".into(),
            patient: Some(v1::Patient {
                personal_id: "198003012385".into(),
                personal_id_type: v1::PersonalIdType::Personnummer.into(),
                protection: v1::Protection::ConfidentialityMarked.into(),
                inbox_reach: v1::InboxReach::None.into(),
                preferred_language: "fi".into(),
                issuer: String::new(),
                addressee: v1::Addressee::Proxy.into(),
                interpreter_language: "AR".into(),
                letter_format: v1::LetterFormat::Braille.into(),
                personal_id_masked: false,
            }),
            update_mask: Some(FieldMask {
                paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            }),
            deceased: false,
            request_id: Uuid::from_u128(5).to_string(),
        }
    }

    fn parsed(message: v1::UpdatePatientRequest) -> Result<PatientUpdate, Vec<String>> {
        let parsed = parse_update_patient(message);
        parsed.map(|it| it.command).map_err(fields)
    }

    #[test]
    fn only_what_is_named_is_changed() {
        let none = UpdatePatient::default;
        let marked = UpdatePatient {
            protection: Some(Some(Protection::ConfidentialityMarked)),
            ..none()
        };
        for (paths, expected) in [
            (&["protection"][..], marked.clone()),
            (
                &["inbox_reach"],
                UpdatePatient {
                    inbox_reach: Some(Some(InboxReach::None)),
                    ..none()
                },
            ),
            (
                &["preferred_language", "protection", "protection"],
                UpdatePatient {
                    language: Some("fi".into()),
                    ..marked
                },
            ),
            (
                &["addressee"],
                UpdatePatient {
                    addressee: Some(Some(Addressee::Proxy)),
                    ..none()
                },
            ),
            (
                &["letter_format", "interpreter_language"],
                UpdatePatient {
                    interpreter_language: Some(Some("ar".into())),
                    letter_format: Some(LetterFormat::Braille),
                    ..none()
                },
            ),
        ] {
            assert_eq!(parsed(update(paths)).unwrap().update, expected, "{paths:?}");
        }
    }

    #[test]
    fn what_is_named_and_not_set_is_cleared() {
        let mut message = update(&[
            "protection",
            "inbox_reach",
            "preferred_language",
            "addressee",
            "interpreter_language",
            "letter_format",
        ]);
        let patient = message.patient.as_mut().unwrap();
        patient.addressee = 0;
        patient.interpreter_language.clear();
        patient.letter_format = 0;
        patient.protection = 0;
        patient.inbox_reach = 0;
        patient.preferred_language.clear();
        let expected = UpdatePatient {
            protection: Some(None),
            inbox_reach: Some(None),
            language: Some("sv".into()),
            addressee: Some(None),
            interpreter_language: Some(None),
            letter_format: Some(LetterFormat::Standard),
            deceased: false,
        };
        assert_eq!(parsed(message).unwrap().update, expected);
    }

    #[test]
    fn each_fault_of_an_update_names_its_field() {
        let altered = |alter: fn(&mut v1::Patient)| {
            let mut message = update(&[
                "protection",
                "inbox_reach",
                "preferred_language",
                "addressee",
                "interpreter_language",
                "letter_format",
            ]);
            alter(message.patient.as_mut().unwrap());
            message
        };
        let unnamed = v1::UpdatePatientRequest {
            update_mask: None,
            ..update(&[])
        };
        for (message, faults) in [
            (update(&[]), vec!["update_mask"]),
            (unnamed, vec!["update_mask"]),
            (update(&["personal_id"]), vec!["update_mask.paths[0]"]),
            (update(&["*"]), vec!["update_mask.paths[0]"]),
            (
                update(&["protection", "Protection", "x"]),
                vec!["update_mask.paths[1]", "update_mask.paths[2]"],
            ),
            (
                altered(|it| {
                    it.protection = 9;
                    it.inbox_reach = -1;
                    it.preferred_language = "sv_SE".into();
                    it.addressee = 4;
                    it.interpreter_language = "ar_SY".into();
                    it.letter_format = 6;
                }),
                vec![
                    "patient.protection",
                    "patient.inbox_reach",
                    "patient.preferred_language",
                    "patient.addressee",
                    "patient.interpreter_language",
                    "patient.letter_format",
                ],
            ),
            (
                altered(|it| it.personal_id = "196408233235".into()),
                vec!["patient.personal_id"],
            ),
            (
                v1::UpdatePatientRequest::default(),
                vec!["parent", "patient", "update_mask", "request_id"],
            ),
        ] {
            let found = parsed(message).map_or_else(|found| found, |_| vec![]);
            assert_eq!(found, faults);
        }
    }

    #[test]
    fn a_field_that_is_not_named_is_not_looked_at() {
        let mut message = update(&["protection"]);
        message.patient.as_mut().unwrap().inbox_reach = 9;
        assert!(parsed(message).is_ok());
    }

    #[test]
    fn of_one_who_has_died_nothing_else_matters() {
        let hash = |paths: &[&str]| {
            let message = v1::UpdatePatientRequest {
                deceased: true,
                ..update(paths)
            };
            let parsed = parse_update_patient(message).unwrap();
            let expected = UpdatePatient {
                deceased: true,
                ..Default::default()
            };
            assert_eq!(parsed.command.update, expected, "{paths:?}");
            parsed.content_hash
        };
        assert_eq!(hash(&[]), hash(&["protection", "x"]));
    }

    #[test]
    fn one_care_unit_is_meant_or_every_one() {
        let unit = |parent: &str| {
            let message = v1::UpdatePatientRequest {
                parent: parent.into(),
                ..update(&["protection"])
            };
            parsed(message).map(|it| it.care_unit)
        };
        assert_eq!(unit("careUnits/se2321000131-p1"), Ok(Some(key().care_unit)));
        assert_eq!(unit("careUnits/-"), Ok(None));
        for bad in ["", "careUnits/", "careUnits/--", "-", "careUnits/-/"] {
            assert_eq!(unit(bad), Err(vec!["parent".into()]), "{bad}");
        }
    }

    #[test]
    fn a_replay_may_be_spelled_otherwise_and_may_not_say_anything_else() {
        let hash = |message| parse_update_patient(message).unwrap().content_hash;
        let first = update(&["protection", "preferred_language"]);
        let mut respelled = update(&["preferred_language", "protection"]);
        respelled.parent = "careUnits/se2321000131-p1".into();
        respelled.patient.as_mut().unwrap().inbox_reach = 1;
        assert_eq!(hash(first.clone()), hash(respelled));
        let others = [
            update(&["protection"]),
            v1::UpdatePatientRequest {
                parent: "careUnits/-".into(),
                ..first.clone()
            },
            v1::UpdatePatientRequest {
                deceased: true,
                ..first.clone()
            },
        ];
        for other in others {
            assert_ne!(hash(first.clone()), hash(other));
        }
    }

    #[test]
    fn what_was_changed_is_answered_by_name() {
        let answer = render_updated(&[key()]);
        assert_eq!(answer.booking_requests, [request_name(&key())]);
    }
}
