//! Invented patients, their requests, and what they answer. The identity numbers are of the series that the Swedish Tax Agency
//! keeps for tests, serials 980 to 989: no person has one.

use chrono::{Datelike, NaiveDate};
use uuid::Builder;

use crate::contract::v1;
use crate::domain::calendar::{add_days, subtract_days};

/// Random numbers that are the same for the same seed.
pub struct Draws(u64);

impl Draws {
    /// Returns draws of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number, by SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below this one.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn days(&mut self, limit: u32) -> u32 {
        u32::try_from(self.below(limit.into())).unwrap_or(0)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let count = u64::try_from(from.len()).unwrap_or(1);
        from[usize::try_from(self.below(count)).unwrap_or(0)]
    }

    /// Returns an id.
    pub fn id(&mut self) -> String {
        let halves = [self.next().to_be_bytes(), self.next().to_be_bytes()];
        let bytes = *halves.concat().first_chunk().expect("two halves");
        Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
}

/// Answer of a patient to a message.
pub enum Answer {
    /// Book a time.
    Book,
    /// Be in touch without booking.
    Contact(v1::ContactOutcome),
}

impl Answer {
    /// Draws an answer; none of a patient who does nothing.
    pub fn drawn(draws: &mut Draws) -> Option<Self> {
        match draws.below(100) {
            0..45 => Some(Self::Book),
            45..49 => Some(Self::Contact(v1::ContactOutcome::Declined)),
            49..52 => Some(Self::Contact(v1::ContactOutcome::CallBack)),
            52..54 => Some(Self::Contact(v1::ContactOutcome::NoSuitableTime)),
            54..57 => Some(Self::Contact(v1::ContactOutcome::WillBook)),
            _ => None,
        }
    }
}

/// Returns a request of an invented patient.
pub fn request(draws: &mut Draws, today: NaiveDate) -> v1::BookingRequest {
    let (kind, code, name, purpose) = draws.pick(&[
        (
            v1::VisitKind::NewVisit,
            "ONH-NY",
            "ÖNH läkare nybesök",
            "Öron",
        ),
        (
            v1::VisitKind::NewVisit,
            "ONH-SOMN",
            "Sömnutredning",
            "Sömnapné",
        ),
        (
            v1::VisitKind::ReturnVisit,
            "ONH-ATER",
            "ÖNH läkare återbesök",
            "Uppföljning",
        ),
        (
            v1::VisitKind::ReturnVisit,
            "AUD-HOR",
            "Audionom hörselprov",
            "Hörsel",
        ),
    ]);
    let start = add_days(today, 14 + draws.days(80));
    let end = add_days(start, 30 + draws.days(60));
    let is_invitation = draws.below(100) < 85;
    let period = v1::DateInterval {
        start_date: start.to_string(),
        end_date: end.to_string(),
    };
    v1::BookingRequest {
        patient: Some(patient(draws, today)),
        origin: Some(v1::booking_request::Origin::Referral(v1::Referral {
            referral_id: format!("DEMO-{}", draws.below(1_000_000_000)),
            decision_date: subtract_days(today, draws.days(20)).to_string(),
        })),
        visit_kind: kind.into(),
        visit_type: Some(v1::VisitType {
            code: code.to_owned(),
            display_name: name.to_owned(),
        }),
        purpose: purpose.to_owned(),
        summons: true,
        invitation: is_invitation,
        constraints: Some(v1::BookingConstraints {
            requested_period: Some(period),
            ..v1::BookingConstraints::default()
        }),
        priority: match draws.below(10) {
            0 => v1::Priority::Urgent.into(),
            _ => v1::Priority::Routine.into(),
        },
        ..v1::BookingRequest::default()
    }
}

fn patient(draws: &mut Draws, today: NaiveDate) -> v1::Patient {
    let birth = subtract_days(today, 365 + draws.days(90 * 365));
    let mut patient = v1::Patient {
        personal_id: personal_id(birth, 980 + draws.days(10)),
        personal_id_type: v1::PersonalIdType::Personnummer.into(),
        ..v1::Patient::default()
    };
    match draws.below(100) {
        0..2 => patient.protection = v1::Protection::ConfidentialityMarked.into(),
        2..14 => patient.inbox_reach = v1::InboxReach::None.into(),
        14..18 => "ar".clone_into(&mut patient.interpreter_language),
        _ => {}
    }
    patient
}

/// Returns the identity number of this birth and serial, with its check digit.
fn personal_id(birth: NaiveDate, serial: u32) -> String {
    let digits = format!(
        "{:04}{:02}{:02}{serial:03}",
        birth.year(),
        birth.month(),
        birth.day()
    );
    // Luhn over the last nine, of which the first counts twice.
    let sum: u32 = digits
        .chars()
        .skip(2)
        .filter_map(|it| it.to_digit(10))
        .enumerate()
        .map(|(at, digit)| match at % 2 {
            0 => digit * 2 / 10 + digit * 2 % 10,
            _ => digit,
        })
        .sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invented_numbers_have_their_check_digit() {
        let birth = NaiveDate::from_ymd_opt(1890, 1, 1).expect("a date");
        assert_eq!(personal_id(birth, 980), "189001019802");
    }
}
