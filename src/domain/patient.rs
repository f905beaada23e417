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
        /// A region's reserve number: 12 digits and capital letters.
        Reservnummer = 3,
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
    pub enum DigitalReach {
        /// The patient uses it.
        Inbox = 1,
        /// The patient does not use it.
        None = 2,
    }
}

/// A patient identity number of the shape that its kind asks for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersonalId {
    kind: PersonalIdType,
    number: String,
}

impl fmt::Debug for PersonalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PersonalId")
    }
}

impl PersonalId {
    /// Parses a number of the given kind; the error describes the fault, without the number.
    ///
    /// Personnummer and samordningsnummer: 12 digits, century 18 to 20, a date that exists (the
    /// day less 60 for the latter, of which month and day may be 0: not known), serial 001 to 999 and the Luhn check digit over the last ten.
    /// A date in the future is a matter for [`PersonalId::violation`], which is given today's date.
    pub fn parse(kind: PersonalIdType, number: &str) -> Result<Self, &'static str> {
        match kind {
            PersonalIdType::Personnummer | PersonalIdType::Samordningsnummer => {
                check_national(kind, number)?;
            }
            PersonalIdType::Reservnummer => {
                let shaped = number.len() == 12
                    && number
                        .bytes()
                        .all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
                if !shaped {
                    return Err("must be 12 digits and capital letters");
                }
            }
        }
        Ok(Self::from_stored(kind, number.to_owned()))
    }

    /// Wraps a number that [`PersonalId::parse`] accepted before it was stored.
    pub fn from_stored(kind: PersonalIdType, number: String) -> Self {
        Self { kind, number }
    }

    /// Returns the kind of the number.
    pub fn kind(&self) -> PersonalIdType {
        self.kind
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

/// What a number holds of its bearer's birth. Month and day are 0 where they are not known.
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
            PersonalIdType::Reservnummer => false,
        }
    }
}

/// Returns the birth that a number of 12 digits holds; `None` if its day is too small for its kind.
fn birth_in(kind: PersonalIdType, number: &str) -> Option<Birth> {
    let added = match kind {
        PersonalIdType::Personnummer => 0,
        PersonalIdType::Samordningsnummer => 60,
        PersonalIdType::Reservnummer => return None,
    };
    let part = |range: std::ops::Range<usize>| number.get(range)?.parse::<u32>().ok();
    Some(Birth {
        year: i32::try_from(part(0..4)?).ok()?,
        month: part(4..6)?,
        day: part(6..8)?.checked_sub(added)?,
    })
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
    pub digital_reach: Option<DigitalReach>,
    /// BCP 47 tag of the language to address the patient in.
    pub language: String,
}

impl fmt::Debug for Patient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Patient")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PersonalIdType::{Personnummer, Reservnummer, Samordningsnummer};

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
            (Reservnummer, "19A8003012BX", true),
            (Reservnummer, "19a8003012BX", false),
            (Reservnummer, "19A8003012B", false),
            (Reservnummer, "Å9A8003012B", false),
        ] {
            let parsed = PersonalId::parse(kind, number);
            assert_eq!(parsed.is_ok(), good, "{kind:?} {number}");
            if let Err(text) = parsed {
                assert!(!text.contains(number));
            }
        }
    }

    #[test]
    fn the_date_of_birth_is_read_from_the_number() {
        let birth = |kind, number: &str| PersonalId::from_stored(kind, number.into()).birth_date();
        let march = NaiveDate::from_ymd_opt(1980, 3, 1);
        let february = NaiveDate::from_ymd_opt(1973, 2, 28);
        assert_eq!(birth(Personnummer, "198003012385"), march);
        assert_eq!(birth(Samordningsnummer, "197302889931"), february);
        assert_eq!(birth(Samordningsnummer, "191500882392"), None);
        assert_eq!(birth(Samordningsnummer, "197302609925"), None);
        assert_eq!(birth(Reservnummer, "19A8003012BX"), None);
    }

    #[test]
    fn nobody_is_born_in_the_future() {
        let on = |kind, number: &str, today: &str| {
            let personal_id = PersonalId::from_stored(kind, number.into());
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
        assert_eq!(on(Reservnummer, "19A8003012BX", "1900-01-01"), None);
    }

    #[test]
    fn a_patient_prints_no_identity_number() {
        let patient = Patient {
            personal_id: PersonalId::from_stored(Personnummer, "198003012385".into()),
            protection: None,
            digital_reach: None,
            language: "sv".into(),
        };
        assert_eq!(format!("{patient:?}"), "Patient");
        assert_eq!(format!("{:?}", patient.personal_id), "PersonalId");
    }
}
