//! Slots: times in the booking system, and verdicts on offering them to the patient or to staff.

use chrono::Duration;

use super::booking_request::BookingRequest;
use super::booking_request::form::{BookingSource, Constraints};
use super::booking_request::state::EffectiveState;
use super::calendar::{Instant, TimeWindow, civil_date, minute_of_day};
use super::care_unit_settings::Policy;
use super::{Context, stored_enum};

stored_enum! {
    /// Verdict on a slot: offered, or the first reason in this order why it is not.
    pub enum Verdict {
        /// It may be offered.
        Offered = 1,
        /// The request is closed or has expired.
        RequestClosed = 2,
        /// The patient has not been invited to choose a time.
        NotInvited = 3,
        /// Booking is not open to the patient yet.
        NotOpenYet = 4,
        /// It is too late for the patient to move the visit.
        TooLate = 5,
        /// It starts before now.
        Past = 6,
        /// Its day lies outside the requested period.
        OutsidePeriod = 7,
        /// Its weekday is not acceptable.
        Weekday = 8,
        /// It does not lie inside an acceptable time of day.
        TimeOfDay = 9,
        /// It is shorter than the visit.
        TooShort = 10,
        /// Its performer is not acceptable.
        Performer = 11,
    }
}

impl Verdict {
    /// Returns the name in the contract, without its prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Offered => "OFFERED",
            Self::RequestClosed => "REQUEST_CLOSED",
            Self::NotInvited => "NOT_INVITED",
            Self::NotOpenYet => "NOT_OPEN_YET",
            Self::TooLate => "TOO_LATE",
            Self::Past => "PAST",
            Self::OutsidePeriod => "OUTSIDE_PERIOD",
            Self::Weekday => "WEEKDAY",
            Self::TimeOfDay => "TIME_OF_DAY",
            Self::TooShort => "TOO_SHORT",
            Self::Performer => "PERFORMER",
        }
    }
}

/// A time in the booking system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Start, included.
    pub start_at: Instant,
    /// End, not included, after the start.
    pub end_at: Instant,
    /// HSA-id of the performer, in capitals.
    pub performer_id: Option<String>,
}

/// Checks whether this request may be booked on `slot` by `source`. A booked visit is judged as one that
/// moves.
pub fn evaluate_for(
    record: &BookingRequest,
    source: BookingSource,
    slot: &Slot,
    context: &Context,
) -> Verdict {
    let constraints = record.form.constraints.as_ref();
    let now = context.now;
    verdict_on_request(record, source, context)
        .or_else(|| constraints.map(|constraints| evaluate(slot, constraints, now)))
        .unwrap_or(Verdict::Offered)
}

/// Returns the verdict that any slot of the request has, if it is not for the slot to decide.
pub(super) fn verdict_on_request(
    record: &BookingRequest,
    source: BookingSource,
    context: &Context,
) -> Option<Verdict> {
    let now = context.now;
    match (source, record.effective_state(now)) {
        (BookingSource::Patient | BookingSource::Staff, EffectiveState::Cancelled)
        | (BookingSource::Patient, EffectiveState::Declined | EffectiveState::Expired) => {
            Some(Verdict::RequestClosed)
        }
        (
            BookingSource::Staff,
            EffectiveState::Requested
            | EffectiveState::Invited
            | EffectiveState::NoResponse
            | EffectiveState::Booked
            | EffectiveState::Declined
            | EffectiveState::Expired,
        ) => None,
        (BookingSource::Patient, EffectiveState::Requested) => Some(Verdict::NotInvited),
        (BookingSource::Patient, EffectiveState::Invited | EffectiveState::NoResponse) => {
            let is_open = record.bookable_since().is_some();
            (!is_open).then_some(Verdict::NotOpenYet)
        }
        (BookingSource::Patient, EffectiveState::Booked) if record.form.constraints.is_none() => {
            Some(Verdict::NotInvited)
        }
        (BookingSource::Patient, EffectiveState::Booked) => {
            (!may_still_move(record, context)).then_some(Verdict::TooLate)
        }
    }
}

/// Returns whether the time until which the patient moves the booked visit has not passed.
fn may_still_move(record: &BookingRequest, context: &Context) -> bool {
    let deadline = move_deadline(record, &context.policy);
    deadline.is_none_or(|deadline| context.now < deadline)
}

/// Returns the instant from which the patient no longer moves the booked visit, if one is booked.
pub(super) fn move_deadline(record: &BookingRequest, policy: &Policy) -> Option<Instant> {
    let booking = record.form.booking.as_ref()?;
    Some(booking.start_at - policy.of(&record.key.care_unit).move_deadline())
}

/// Checks `slot` against the constraints of a request.
pub fn evaluate(slot: &Slot, constraints: &Constraints, now: Instant) -> Verdict {
    let day = civil_date(slot.start_at);
    if slot.start_at < now {
        Verdict::Past
    } else if !constraints.period.contains(day) {
        Verdict::OutsidePeriod
    } else if !constraints.weekdays.accepts(day) {
        Verdict::Weekday
    } else if !fits_a_window(slot, constraints) {
        Verdict::TimeOfDay
    } else if slot.end_at - slot.start_at < Duration::minutes(constraints.duration_minutes.into()) {
        Verdict::TooShort
    } else if !performer_is_acceptable(slot, constraints) {
        Verdict::Performer
    } else {
        Verdict::Offered
    }
}

/// Checks that the slot lies inside acceptable times of day from start to end.
fn fits_a_window(slot: &Slot, constraints: &Constraints) -> bool {
    // The last moment that belongs to the slot decides, so that a slot may end as a window does
    // and midnight is the end of the day before.
    let last = slot.end_at - Duration::microseconds(1);
    let same_day = civil_date(last) == civil_date(slot.start_at);
    let start = minute_of_day(slot.start_at);
    constraints.time_windows.is_empty()
        || (same_day && minute_of_day(last) < end_of_windows(start, &constraints.time_windows))
}

/// Returns the minute at which the time that is acceptable from `start` on ends; `start` itself if it is not
/// acceptable. Windows that touch are one window.
fn end_of_windows(start: u32, windows: &[TimeWindow]) -> u32 {
    let mut end = start;
    while let Some(window) = windows.iter().find(|it| it.contains(end)) {
        end = window.end_minute;
    }
    end
}

fn performer_is_acceptable(slot: &Slot, constraints: &Constraints) -> bool {
    constraints.performer_ids.is_empty()
        || slot
            .performer_id
            .as_ref()
            .is_some_and(|performer| constraints.performer_ids.contains(performer))
}

#[cfg(test)]
mod tests {
    use super::super::calendar::{Period, Weekdays};
    use super::*;
    use chrono::Weekday;

    fn constraints() -> Constraints {
        Constraints {
            period: Period {
                first: "2026-05-18".parse().unwrap(),
                last: "2026-06-12".parse().unwrap(),
            },
            weekdays: Weekdays::of([Weekday::Mon, Weekday::Tue]),
            time_windows: vec![TimeWindow {
                start_minute: 8 * 60,
                end_minute: 12 * 60,
            }],
            duration_minutes: 30,
            performer_ids: vec!["SE2321000131-P1".into()],
        }
    }

    fn verdict(start: &str, end: &str, performer: Option<&str>, now: &str) -> Verdict {
        let slot = Slot {
            start_at: start.parse().unwrap(),
            end_at: end.parse().unwrap(),
            performer_id: performer.map(str::to_owned),
        };
        evaluate(&slot, &constraints(), now.parse().unwrap())
    }

    #[test]
    fn the_first_reason_in_the_order_of_the_contract_is_given() {
        const NOW: &str = "2026-05-18T06:00:00Z";
        let mine = Some("SE2321000131-P1");
        for (start, end, performer, expected) in [
            (
                "2026-05-18T09:30:00Z",
                "2026-05-18T10:00:00Z",
                mine,
                Verdict::Offered,
            ),
            (
                "2026-05-18T09:45:00Z",
                "2026-05-18T10:15:00Z",
                mine,
                Verdict::TimeOfDay,
            ),
            (
                "2026-05-18T05:59:59Z",
                "2026-05-18T07:00:00Z",
                mine,
                Verdict::Past,
            ),
            (
                "2026-05-18T06:00:00Z",
                "2026-05-18T06:30:00Z",
                mine,
                Verdict::Offered,
            ),
            (
                "2026-06-15T07:00:00Z",
                "2026-06-15T08:00:00Z",
                mine,
                Verdict::OutsidePeriod,
            ),
            (
                "2026-05-20T07:00:00Z",
                "2026-05-20T08:00:00Z",
                mine,
                Verdict::Weekday,
            ),
            (
                "2026-05-18T07:00:00Z",
                "2026-05-18T07:29:59Z",
                mine,
                Verdict::TooShort,
            ),
            (
                "2026-05-18T07:00:00Z",
                "2026-05-18T07:30:00Z",
                None,
                Verdict::Performer,
            ),
            (
                "2026-05-18T07:00:00Z",
                "2026-05-18T07:30:00Z",
                Some("SE2321000131-P2"),
                Verdict::Performer,
            ),
            (
                "2026-05-18T07:00:00Z",
                "2026-05-19T08:00:00Z",
                mine,
                Verdict::TimeOfDay,
            ),
        ] {
            assert_eq!(
                verdict(start, end, performer, NOW),
                expected,
                "{start} {end}"
            );
        }
    }

    #[test]
    fn a_window_to_the_end_of_the_day_takes_a_slot_to_midnight() {
        let mut constraints = constraints();
        constraints.time_windows[0].end_minute = 24 * 60;
        let slot = Slot {
            start_at: "2026-05-18T21:00:00Z".parse().unwrap(),
            end_at: "2026-05-18T22:00:00Z".parse().unwrap(),
            performer_id: Some("SE2321000131-P1".into()),
        };
        let now = "2026-05-18T06:00:00Z".parse().unwrap();
        assert_eq!(evaluate(&slot, &constraints, now), Verdict::Offered);
    }

    #[test]
    fn windows_that_touch_are_one_in_whatever_order_they_come() {
        let window = |start_hour: u32, end_hour: u32| TimeWindow {
            start_minute: start_hour * 60,
            end_minute: end_hour * 60,
        };
        let mut constraints = constraints();
        constraints.performer_ids.clear();
        constraints.time_windows = vec![window(12, 17), window(18, 20), window(8, 12)];
        let now = "2026-05-18T04:00:00Z".parse().unwrap();
        for (start, end, expected) in [
            ("09:45:00", "10:15:00", Verdict::Offered),
            ("06:00:00", "15:00:00", Verdict::Offered),
            ("06:00:00", "15:00:01", Verdict::TimeOfDay),
            ("05:59:59", "15:00:00", Verdict::TimeOfDay),
            ("14:45:00", "16:15:00", Verdict::TimeOfDay),
            ("15:15:00", "15:45:00", Verdict::TimeOfDay),
            ("15:30:00", "16:00:00", Verdict::TimeOfDay),
            ("16:00:00", "18:00:00", Verdict::Offered),
        ] {
            let slot = Slot {
                start_at: format!("2026-05-18T{start}Z").parse().unwrap(),
                end_at: format!("2026-05-18T{end}Z").parse().unwrap(),
                performer_id: None,
            };
            let verdict = evaluate(&slot, &constraints, now);
            assert_eq!(verdict, expected, "{start} {end}");
        }
    }
}
