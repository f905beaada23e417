//! The addressee: to whom a notification is addressed, and in which form a letter is produced.
//!
//! Both are read from the patient at each lease. Age is in whole years, from the date of birth that the
//! identity number holds.

use chrono::{Datelike, NaiveDate};

use super::calendar::{Instant, civil_date};
use super::patient::{Addressee, Patient, PersonalId};

/// Ages in whole years below which notifications go another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgeLimits {
    /// Age below which every notification is a letter; zero means that age does not matter.
    pub letter_until_age: u32,
    /// Age below which the guardians are addressed.
    pub guardian_until_age: u32,
}

impl Default for AgeLimits {
    fn default() -> Self {
        Self {
            letter_until_age: 0,
            guardian_until_age: 13,
        }
    }
}

impl Patient {
    /// Returns whom a notification that is leased at `now` is addressed to: as the record says, else the
    /// guardians of a child and the patient of an adult.
    pub fn addressee_at(&self, now: Instant, limits: AgeLimits) -> Addressee {
        self.addressee.unwrap_or_else(|| {
            match is_younger(&self.personal_id, limits.guardian_until_age, now) {
                true => Addressee::Guardians,
                false => Addressee::Patient,
            }
        })
    }

    /// Returns whether the patient is so young at `now` that every notification is a letter.
    pub fn is_minor_at(&self, now: Instant, limits: AgeLimits) -> bool {
        is_younger(&self.personal_id, limits.letter_until_age, now)
    }
}

/// Returns whether the bearer of the number has not reached `age` on the local date of `now`; false when the
/// number does not hold a full date.
fn is_younger(personal_id: &PersonalId, age: u32, now: Instant) -> bool {
    let birth = personal_id.birth_date();
    birth.is_some_and(|birth| age_on(civil_date(now), birth) < age)
}

/// Returns the age in whole years on `date`; zero before birth. Somebody born on 29 February counts as born
/// on 1 March.
fn age_on(date: NaiveDate, birth: NaiveDate) -> u32 {
    let counted = match (birth.month(), birth.day()) {
        (2, 29) => birth.succ_opt().unwrap_or(birth),
        _ => birth,
    };
    date.years_since(counted).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::patient::{LetterFormat, PersonalIdType};

    fn patient(kind: PersonalIdType, number: &str, addressee: Option<Addressee>) -> Patient {
        Patient {
            personal_id: PersonalId::from_stored(kind, None, number.into()),
            protection: None,
            inbox_reach: None,
            language: "sv".into(),
            addressee,
            interpreter_language: None,
            letter_format: LetterFormat::Standard,
        }
    }

    fn at(text: &str) -> Instant {
        text.parse().unwrap()
    }

    #[test]
    fn guardians_are_addressed_until_the_birthday_in_local_time() {
        use PersonalIdType::{
            LocalReserveNumber, NationalReserveNumber, Personnummer, Samordningsnummer,
        };
        let (child, adult) = (Addressee::Guardians, Addressee::Patient);
        for (kind, number, now, expected) in [
            (Personnummer, "201305182380", "2026-05-17T21:59:59Z", child),
            // Midnight in Stockholm.
            (Personnummer, "201305182380", "2026-05-17T22:00:00Z", adult),
            (Personnummer, "201301012380", "2025-12-31T22:59:59Z", child),
            (Personnummer, "201301012380", "2025-12-31T23:00:00Z", adult),
            (
                Samordningsnummer,
                "201305782380",
                "2026-05-17T21:59:59Z",
                child,
            ),
            (
                Samordningsnummer,
                "201305782380",
                "2026-05-17T22:00:00Z",
                adult,
            ),
            // Neither holds a full date, whatever the year.
            (
                Samordningsnummer,
                "202500782380",
                "2026-05-17T22:00:00Z",
                adult,
            ),
            (
                Samordningsnummer,
                "202505602380",
                "2026-05-17T22:00:00Z",
                adult,
            ),
            (
                NationalReserveNumber,
                "202505172380",
                "2026-05-17T22:00:00Z",
                adult,
            ),
            (
                LocalReserveNumber,
                "202505172380",
                "2026-05-17T22:00:00Z",
                adult,
            ),
            (Personnummer, "191212121212", "2026-05-17T22:00:00Z", adult),
        ] {
            let limits = AgeLimits::default();
            let addressee = patient(kind, number, None).addressee_at(at(now), limits);
            assert_eq!(addressee, expected, "{kind:?} {now}");
        }
    }

    #[test]
    fn the_record_says_more_than_the_age() {
        for &given in Addressee::ALL {
            let child = patient(PersonalIdType::Personnummer, "202005182380", Some(given));
            let now = at("2026-05-17T22:00:00Z");
            assert_eq!(child.addressee_at(now, AgeLimits::default()), given);
        }
    }

    #[test]
    fn born_on_29_february_counts_as_1_march() {
        let born = |text: &str| text.parse::<NaiveDate>().unwrap();
        for (birth, date, age) in [
            ("2012-02-29", "2025-02-28", 12),
            ("2012-02-29", "2025-03-01", 13),
            // In a leap year too.
            ("2012-02-29", "2028-02-29", 15),
            ("2012-02-29", "2028-03-01", 16),
            ("2012-02-28", "2025-02-28", 13),
            ("2012-03-01", "2025-02-28", 12),
            ("2012-03-01", "2025-03-01", 13),
            ("2012-12-31", "2012-12-31", 0),
            ("2012-12-31", "2012-12-30", 0),
        ] {
            assert_eq!(age_on(born(date), born(birth)), age, "{birth} {date}");
        }
    }

    #[test]
    fn age_makes_letters_where_a_limit_is_set() {
        let now = at("2026-05-17T22:00:00Z");
        for (number, letter_until_age, is_minor) in [
            ("201305182380", 13, false),
            ("201305192380", 13, true),
            ("201305192380", 0, false),
            ("202605182380", 0, false),
            ("202605182380", 1, true),
        ] {
            let limits = AgeLimits {
                letter_until_age,
                guardian_until_age: 0,
            };
            let patient = patient(PersonalIdType::Personnummer, number, None);
            let found = patient.is_minor_at(now, limits);
            assert_eq!(found, is_minor, "{number} {letter_until_age}");
            assert_eq!(patient.addressee_at(now, limits), Addressee::Patient);
        }
    }
}
