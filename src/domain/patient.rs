//! The patient: identity numbers, protection, and how they can be reached.
//!
//! Types that hold an identity number print their name only, so that none can reach a log.

use std::fmt;

use chrono::{Datelike, NaiveDate};

use super::{Violation, stored_enum};

stored_enum! {
    /// Kinds of patient identity number.
    pub enum PersonalIdType {
        /// Personal identity number: 12 digits, a real date, Luhn.
        Personnummer = 1,
        /// Coordination number: the same with 60 added to the day; month 00 and day 60 are not known.
        Samordningsnummer = 2,
        /// Reserve number of a series of its own, which its issuer names.
        LocalReserveNumber = 3,
        /// Reserve number of the national series: 12 digits and capital letters.
        NationalReserveNumber = 4,
    }
}

stored_enum! {
    /// Degrees of protected identity (skyddade personuppgifter).
    pub enum Protection {
        /// Confidentiality marking (sekretessmarkering).
        ConfidentialityMarked = 1,
        /// Protected registration (skyddad folkbokföring).
        ProtectedRegistration = 2,
    }
}

stored_enum! {
    /// Knowledge of the patient's use of 1177.
    pub enum InboxReach {
        /// The patient uses it.
        Inbox = 1,
        /// The patient does not use it.
        None = 2,
    }
}

stored_enum! {
    /// Person whom notifications are addressed to.
    pub enum Addressee {
        /// The patient.
        Patient = 1,
        /// The patient's guardians.
        Guardians = 2,
        /// Somebody who acts for the patient.
        Proxy = 3,
    }
}

stored_enum! {
    /// Form of a letter.
    pub enum LetterFormat {
        /// As letters usually are.
        Standard = 1,
        /// Large print.
        LargePrint = 2,
        /// Braille.
        Braille = 3,
        /// A recording.
        Audio = 4,
        /// Plain words and short sentences.
        EasyRead = 5,
    }
}

/// Maximum characters in a local reserve number.
const LOCAL_NUMBER_MAX: usize = 20;
/// Maximum characters in the OID of an issuer.
const ISSUER_MAX: usize = 64;

/// A patient identity number of the shape that its kind asks for. Two are the same when kind, issuer and
/// number are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersonalId {
    kind: PersonalIdType,
    issuer: Option<String>,
    number: String,
}

impl fmt::Debug for PersonalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PersonalId")
    }
}

/// Faults of an identity, part by part and without the number; one of them at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PersonalIdFaults {
    /// Fault of the number.
    pub number: Option<&'static str>,
    /// Fault of the issuer.
    pub issuer: Option<&'static str>,
}

impl PersonalId {
    /// Parses a number of the given kind and its issuer, which is empty where there is none; the error
    /// describes the faults, without the number.
    ///
    /// Personnummer and samordningsnummer: 12 digits, century 18 to 20, a date that exists (the
    /// day less 60 for the latter, of which month and day may be 0: not known), serial 001 to 999 and the
    /// Luhn check digit over the last ten. A date in the future is a matter for
    /// [`PersonalId::violation`], which is given today's date.
    ///
    /// Reserve numbers have a shape alone. A local one comes in either case and is kept in capitals; it
    /// has an issuer, the OID of its series. A national one is kept without its hyphen.
    pub fn parse(
        kind: PersonalIdType,
        issuer: &str,
        number: &str,
    ) -> Result<Self, PersonalIdFaults> {
        match (parse_issuer(kind, issuer), parse_number(kind, number)) {
            (Ok(issuer), Ok(number)) => Ok(Self::from_stored(kind, issuer, number)),
            (issuer, number) => Err(PersonalIdFaults {
                number: number.err(),
                issuer: issuer.err(),
            }),
        }
    }

    /// Wraps a number that [`PersonalId::parse`] accepted before it was stored.
    pub fn from_stored(kind: PersonalIdType, issuer: Option<String>, number: String) -> Self {
        Self {
            kind,
            issuer,
            number,
        }
    }

    /// Returns the kind of the number.
    pub fn kind(&self) -> PersonalIdType {
        self.kind
    }

    /// Returns the OID of the series that a local reserve number belongs to; `None` for every other kind.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// Returns the number itself. Never to be logged.
    pub fn number(&self) -> &str {
        &self.number
    }

    /// Returns a violation of `field` if the number holds a date after `today`: nobody is born in the future.
    /// Of a date that is not known whole, the year alone counts.
    pub fn violation(&self, field: &str, today: NaiveDate) -> Option<Violation> {
        let is_unborn = match self.birth_date() {
            Some(birth) => birth > today,
            None => birth_in(self.kind, &self.number).is_some_and(|it| it.year > today.year()),
        };
        is_unborn.then(|| Violation::new(field, "holds a date in the future"))
    }

    /// Returns the date of birth that the number holds; `None` for a reserve number, and for a
    /// coordination number without the month or the day.
    pub fn birth_date(&self) -> Option<NaiveDate> {
        birth_in(self.kind, &self.number)?.date()
    }
}

/// Birth of the bearer, as far as a number holds it. Month and day are 0 where they are not known.
#[derive(Clone, Copy)]
struct Birth {
    year: i32,
    month: u32,
    day: u32,
}

impl Birth {
    fn date(self) -> Option<NaiveDate> {
        NaiveDate::from_ymd_opt(self.year, self.month, self.day)
    }

    /// Returns whether a number of this kind may hold it.
    fn is_possible(self, kind: PersonalIdType) -> bool {
        match kind {
            PersonalIdType::Samordningsnummer if self.month == 0 || self.day == 0 => {
                self.month <= 12 && self.day <= 31
            }
            PersonalIdType::Personnummer | PersonalIdType::Samordningsnummer => {
                self.date().is_some()
            }
            PersonalIdType::LocalReserveNumber | PersonalIdType::NationalReserveNumber => false,
        }
    }
}

/// Returns the birth that a number of 12 digits holds; `None` if its day is too small for its kind.
fn birth_in(kind: PersonalIdType, number: &str) -> Option<Birth> {
    let added = match kind {
        PersonalIdType::Personnummer => 0,
        PersonalIdType::Samordningsnummer => 60,
        PersonalIdType::LocalReserveNumber | PersonalIdType::NationalReserveNumber => return None,
    };
    let part = |range: std::ops::Range<usize>| number.get(range)?.parse::<u32>().ok();
    Some(Birth {
        year: i32::try_from(part(0..4)?).ok()?,
        month: part(4..6)?,
        day: part(6..8)?.checked_sub(added)?,
    })
}

fn parse_number(kind: PersonalIdType, number: &str) -> Result<String, &'static str> {
    match kind {
        PersonalIdType::Personnummer | PersonalIdType::Samordningsnummer => {
            check_national(kind, number)?;
            Ok(number.to_owned())
        }
        PersonalIdType::LocalReserveNumber => {
            let number = number.to_ascii_uppercase();
            let shaped = (1..=LOCAL_NUMBER_MAX).contains(&number.len())
                && number.bytes().all(|byte| is_reserve(byte) || byte == b'-');
            let fault = "must be 1 to 20 digits, letters A to Z and hyphens";
            shaped.then_some(number).ok_or(fault)
        }
        PersonalIdType::NationalReserveNumber => {
            let number = number.replacen('-', "", 1);
            let shaped = number.len() == 12 && number.bytes().all(is_reserve);
            let fault = "must be 12 digits and capital letters, with a hyphen among them at most";
            shaped.then_some(number).ok_or(fault)
        }
    }
}

fn is_reserve(byte: u8) -> bool {
    byte.is_ascii_digit() || byte.is_ascii_uppercase()
}

fn parse_issuer(kind: PersonalIdType, issuer: &str) -> Result<Option<String>, &'static str> {
    match kind {
        PersonalIdType::LocalReserveNumber if issuer.is_empty() => {
            Err("is required for a local reserve number")
        }
        PersonalIdType::LocalReserveNumber if !is_oid(issuer) => {
            Err("must be an OID of at most 64 characters")
        }
        PersonalIdType::LocalReserveNumber => Ok(Some(issuer.to_owned())),
        PersonalIdType::Personnummer
        | PersonalIdType::Samordningsnummer
        | PersonalIdType::NationalReserveNumber => match issuer.is_empty() {
            true => Ok(None),
            false => Err("is for local reserve numbers alone"),
        },
    }
}

/// Returns whether a text is an OID with dots: two numbers or more, without leading zeros, the first 0 to 2.
fn is_oid(text: &str) -> bool {
    let is_number = |arc: &str| {
        let is_padded = arc.len() > 1 && arc.starts_with('0');
        !arc.is_empty() && !is_padded && arc.bytes().all(|byte| byte.is_ascii_digit())
    };
    let has_root = text
        .split_once('.')
        .is_some_and(|(root, _)| matches!(root, "0" | "1" | "2"));
    text.len() <= ISSUER_MAX && has_root && text.split('.').all(is_number)
}

fn check_national(kind: PersonalIdType, number: &str) -> Result<(), &'static str> {
    if number.len() != 12 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("must be 12 digits");
    }
    if !matches!(&number[..2], "18" | "19" | "20") {
        return Err("must begin with a century from 18 to 20");
    }
    if !birth_in(kind, number).is_some_and(|birth| birth.is_possible(kind)) {
        return Err("does not hold a date that exists");
    }
    if &number[8..11] == "000" {
        return Err("has a serial number outside 001 to 999");
    }
    if !luhn(&number.as_bytes()[2..]) {
        return Err("has a wrong check digit");
    }
    Ok(())
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, byte)| {
            let digit = u32::from(byte - b'0');
            match (index % 2, digit) {
                (0, _) => digit,
                (_, 0..=4) => digit * 2,
                _ => digit * 2 - 9,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// The person that a visit is for.
#[derive(Clone, PartialEq, Eq)]
pub struct Patient {
    /// Identity number.
    pub personal_id: PersonalId,
    /// Protected identity; nothing is sent until staff release it.
    pub protection: Option<Protection>,
    /// Use of 1177; `None` if not known.
    pub inbox_reach: Option<InboxReach>,
    /// BCP 47 tag of the language to address the patient in.
    pub language: String,
    /// Person whom notifications are addressed to; `None` leaves it to the patient's age.
    pub addressee: Option<Addressee>,
    /// BCP 47 tag of the language for which the visit needs an interpreter, if it needs one.
    pub interpreter_language: Option<String>,
    /// Form in which the patient can read a letter.
    pub letter_format: LetterFormat,
}

impl Patient {
    /// Returns whether the patient has protected identity, whatever its degree.
    pub fn is_protected(&self) -> bool {
        self.protection.is_some()
    }
}

impl fmt::Debug for Patient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Patient")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PersonalIdType::{
        LocalReserveNumber, NationalReserveNumber, Personnummer, Samordningsnummer,
    };

    #[test]
    fn identity_numbers_are_checked_by_kind() {
        for (kind, number, good) in [
            (Personnummer, "198003012385", true),
            (Personnummer, "191212121212", true),
            (Personnummer, "196408233235", false), // check digit
            (Personnummer, "201509160006", false), // serial 000
            (Personnummer, "198002302385", false), // 30 February
            (Personnummer, "178003012385", false), // century
            (Personnummer, "19800301238", false),
            (Personnummer, "19800301-2385", false),
            (Personnummer, "１98003012", false),
            (Personnummer, "197302889931", false), // a coordination number
            (Samordningsnummer, "197302889931", true),
            (Samordningsnummer, "191500882392", true), // no month
            (Samordningsnummer, "191500722390", true), // no month
            (Samordningsnummer, "197302609925", true), // no day
            (Samordningsnummer, "197300609927", true), // neither
            (Samordningsnummer, "197210869924", false),
            (Samordningsnummer, "197302909929", false), // 30 February
            (Samordningsnummer, "197300599920", false), // day 59
            (Samordningsnummer, "197300929929", false), // day 92
            (Samordningsnummer, "197313619921", false), // month 13
            (Samordningsnummer, "198003012385", false),
            (NationalReserveNumber, "19A8003012BX", true),
            (NationalReserveNumber, "19A80030-12BX", true),
            (NationalReserveNumber, "19A80030-12-X", false),
            (NationalReserveNumber, "19A80030--12BX", false),
            (NationalReserveNumber, "19a8003012BX", false),
            (NationalReserveNumber, "19A8003012B", false),
            (NationalReserveNumber, "Å9A8003012B", false),
        ] {
            let parsed = PersonalId::parse(kind, "", number);
            assert_eq!(parsed.is_ok(), good, "{kind:?} {number}");
            if let Err(faults) = parsed {
                assert_eq!(faults.issuer, None, "{kind:?}");
                assert!(!format!("{faults:?}").contains(number));
            }
        }
    }

    #[test]
    fn a_local_reserve_number_has_an_issuer_and_no_other_has() {
        const OID: &str = "1.2.752.97.3.1.3";
        let long_oid = format!("1.2.{}", "7".repeat(60));
        for (kind, issuer, number, faults) in [
            (LocalReserveNumber, OID, "r-1", (false, false)),
            (
                LocalReserveNumber,
                OID,
                "ABCDEFGHIJ-123456789",
                (false, false),
            ),
            (LocalReserveNumber, "2.999", "-", (false, false)),
            (LocalReserveNumber, &long_oid, "R", (false, false)),
            (
                LocalReserveNumber,
                OID,
                "ABCDEFGHIJ-1234567890",
                (true, false),
            ),
            (LocalReserveNumber, OID, "", (true, false)),
            (LocalReserveNumber, OID, "R 1", (true, false)),
            (LocalReserveNumber, OID, "Ä1", (true, false)),
            (LocalReserveNumber, OID, "R1\u{200b}", (true, false)),
            (LocalReserveNumber, "", "R-1", (false, true)),
            (LocalReserveNumber, "", "", (true, true)),
            (LocalReserveNumber, "3.1", "R-1", (false, true)),
            (LocalReserveNumber, "1", "R-1", (false, true)),
            (LocalReserveNumber, "1.2.", "R-1", (false, true)),
            (LocalReserveNumber, "1..2", "R-1", (false, true)),
            (LocalReserveNumber, "1.02", "R-1", (false, true)),
            (LocalReserveNumber, "1.2.a", "R-1", (false, true)),
            (LocalReserveNumber, " 1.2", "R-1", (false, true)),
            (
                LocalReserveNumber,
                &format!("{long_oid}7"),
                "R",
                (false, true),
            ),
            (NationalReserveNumber, OID, "19A8003012BX", (false, true)),
            (Personnummer, OID, "198003012385", (false, true)),
            (Samordningsnummer, OID, "1", (true, true)),
        ] {
            let parsed = PersonalId::parse(kind, issuer, number);
            let found = parsed.as_ref().map_or_else(
                |it| (it.number.is_some(), it.issuer.is_some()),
                |_| (false, false),
            );
            assert_eq!(found, faults, "{kind:?} {issuer} {number}");
        }
        let parsed = |kind, issuer, number| PersonalId::parse(kind, issuer, number).unwrap();
        let local = parsed(LocalReserveNumber, OID, "r-1a");
        assert_eq!((local.issuer(), local.number()), (Some(OID), "R-1A"));
        assert!(local != parsed(LocalReserveNumber, "2.999", "R-1A"));
        let national = parsed(NationalReserveNumber, "", "19A80030-12BX");
        assert_eq!(
            (national.issuer(), national.number()),
            (None, "19A8003012BX")
        );
    }

    #[test]
    fn the_date_of_birth_is_read_from_the_number() {
        let birth =
            |kind, number: &str| PersonalId::from_stored(kind, None, number.into()).birth_date();
        let march = NaiveDate::from_ymd_opt(1980, 3, 1);
        let february = NaiveDate::from_ymd_opt(1973, 2, 28);
        assert_eq!(birth(Personnummer, "198003012385"), march);
        assert_eq!(birth(Samordningsnummer, "197302889931"), february);
        assert_eq!(birth(Samordningsnummer, "191500882392"), None);
        assert_eq!(birth(Samordningsnummer, "197302609925"), None);
        assert_eq!(birth(NationalReserveNumber, "19A8003012BX"), None);
    }

    #[test]
    fn nobody_is_born_in_the_future() {
        let on = |kind, number: &str, today: &str| {
            let personal_id = PersonalId::from_stored(kind, None, number.into());
            let violation = personal_id.violation("field", today.parse().unwrap());
            violation.map(|it| it.field)
        };
        let field = Some("field".to_owned());
        assert_eq!(on(Personnummer, "198003012385", "1980-03-01"), None);
        assert_eq!(on(Personnummer, "198003012385", "1980-02-29"), field);
        assert_eq!(on(Samordningsnummer, "197302889931", "1973-02-27"), field);
        // Of a date that is not known whole, the year alone can lie in the future.
        assert_eq!(on(Samordningsnummer, "191500882392", "1915-01-01"), None);
        assert_eq!(on(Samordningsnummer, "191500882392", "1914-12-31"), field);
        assert_eq!(on(Samordningsnummer, "197312609923", "1973-01-01"), None);
        assert_eq!(on(Samordningsnummer, "197312609923", "1972-12-31"), field);
        assert_eq!(
            on(NationalReserveNumber, "19A8003012BX", "1900-01-01"),
            None
        );
    }

    #[test]
    fn a_patient_prints_no_identity_number() {
        let patient = Patient {
            personal_id: PersonalId::from_stored(Personnummer, None, "198003012385".into()),
            protection: None,
            inbox_reach: None,
            language: "sv".into(),
            addressee: None,
            interpreter_language: None,
            letter_format: LetterFormat::Standard,
        };
        assert_eq!(format!("{patient:?}"), "Patient");
        assert_eq!(format!("{:?}", patient.personal_id), "PersonalId");
    }
}
