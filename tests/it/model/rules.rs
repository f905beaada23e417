//! Refusals of a call, and the checks that need today's date: periods and bookings.

use std::collections::BTreeSet;

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::{BookingSource, SlotVerdict};
use chrono::{Datelike, NaiveDate, NaiveTime};
use tonic::Code;

use super::calendar::{Instant, from_timestamp, local_date, local_time};
use super::request::{Request, period};

/// A failure: code, reason, and the bad fields or the metadata as `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub reason: String,
    pub details: BTreeSet<String>,
    /// Name of the request that it names.
    pub names: Names,
}

/// The name of a duplicate: where there are several it may be that of any, and counts for nothing in a comparison.
#[derive(Clone, Debug, Default)]
pub struct Names(pub Option<String>);

impl PartialEq for Names {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Names {}

impl Refusal {
    pub fn new(code: Code, reason: &str) -> Self {
        Self {
            code,
            reason: reason.into(),
            details: BTreeSet::new(),
            names: Names::default(),
        }
    }

    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.details.insert(format!("{key}={value}"));
        self
    }

    pub fn precondition(reason: &str) -> Self {
        Self::new(Code::FailedPrecondition, reason)
    }

    pub fn fields(fields: impl IntoIterator<Item = String>) -> Self {
        let mut refusal = Self::new(Code::InvalidArgument, "FIELD_INVALID");
        refusal.details.extend(fields);
        refusal
    }

    pub fn field(field: &str) -> Self {
        Self::fields([field.to_owned()])
    }

    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "RESOURCE_NOT_FOUND")
    }

    pub fn state(request: &Request, now: Instant) -> Self {
        let state = request.shown(now).as_str_name();
        let mut allowed: Vec<&str> = request
            .allowed(now)
            .iter()
            .map(|it| it.as_str_name().trim_start_matches("ACTION_"))
            .collect();
        allowed.sort_unstable();
        Self::precondition("STATE_CONFLICT")
            .with("state", state.trim_start_matches("STATE_"))
            .with("allowed_actions", &allowed.join(","))
    }
}

/// Checks constraints for faults that do not depend on today's date.
pub fn check_shape(constraints: &v1::BookingConstraints, at: &str) -> Result<(), Refusal> {
    let Some((first, last)) = period(constraints) else {
        return Err(Refusal::field(&format!("{at}.requested_period")));
    };
    let days = (last - first).num_days();
    if (0..=366).contains(&days) {
        return Ok(());
    }
    Err(Refusal::field(&format!("{at}.requested_period.end_date")))
}

/// Checks new constraints for faults on `today`. A changed request may keep the start that it had.
pub fn check_today(
    constraints: &v1::BookingConstraints,
    kept_start: Option<NaiveDate>,
    today: NaiveDate,
    at: &str,
) -> Result<(), Refusal> {
    let (first, last) = period(constraints).expect("checked before");
    let mut faults = vec![];
    if first < today && kept_start != Some(first) {
        faults.push(format!("{at}.requested_period.start_date"));
    }
    let mut days = first.max(today).iter_days().take_while(|day| *day <= last);
    if last < today {
        faults.push(format!("{at}.requested_period.end_date"));
    } else if !days.any(|day| accepts(constraints, day)) {
        faults.push(format!("{at}.weekdays"));
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Refusal::fields(faults))
    }
}

/// Returns whether some acceptable weekday occurs in the period.
pub fn has_day(constraints: &v1::BookingConstraints) -> bool {
    let (first, last) = period(constraints).expect("checked before");
    let mut days = first.iter_days().take_while(|day| *day <= last);
    days.any(|day| accepts(constraints, day))
}

fn accepts(constraints: &v1::BookingConstraints, day: NaiveDate) -> bool {
    let number = day.weekday().number_from_monday().cast_signed();
    constraints.weekdays.is_empty() || constraints.weekdays.contains(&number)
}

/// Returns the verdict on a slot for whoever would book it.
pub fn verdict(
    request: &Request,
    source: BookingSource,
    slot: &v1::Slot,
    now: Instant,
) -> SlotVerdict {
    let constraints = request.form.constraints.as_ref();
    let of_patient = source != BookingSource::Staff;
    let of_request = match request.shown(now) {
        State::Cancelled => Some(SlotVerdict::RequestClosed),
        State::Declined | State::Expired if of_patient => Some(SlotVerdict::RequestClosed),
        State::Requested if of_patient => Some(SlotVerdict::NotInvited),
        State::Booked if of_patient && constraints.is_none() => Some(SlotVerdict::NotInvited),
        State::Invited | State::NoResponse if of_patient && !request.is_bookable() => {
            Some(SlotVerdict::NotOpenYet)
        }
        State::Booked if of_patient && moves_too_late(request, now) => Some(SlotVerdict::TooLate),
        _ => None,
    };
    let of_slot = || constraints.and_then(|it| broken_by(it, slot, now));
    of_request.or_else(of_slot).unwrap_or(SlotVerdict::Offered)
}

/// Returns whether it is too late for the patient to move the booked visit.
fn moves_too_late(request: &Request, now: Instant) -> bool {
    let booking = request.form.booking.as_ref().expect("booked");
    let start_at = from_timestamp(booking.start_time.as_ref().expect("given"));
    start_at - request.in_force().move_deadline <= now
}

/// Returns the first reason why a slot breaks the constraints, if it does.
fn broken_by(
    constraints: &v1::BookingConstraints,
    slot: &v1::Slot,
    now: Instant,
) -> Option<SlotVerdict> {
    let start_at = from_timestamp(slot.start_time.as_ref().expect("given"));
    let end_at = from_timestamp(slot.end_time.as_ref().expect("given"));
    if start_at < now {
        return Some(SlotVerdict::Past);
    }
    let (first, last) = period(constraints)?;
    let day = local_date(start_at);
    let long = (end_at - start_at).num_minutes() >= i64::from(constraints.duration_minutes);
    let performers = &constraints.performer_ids;
    let broken = [
        (day < first || day > last, SlotVerdict::OutsidePeriod),
        (!accepts(constraints, day), SlotVerdict::Weekday),
        (!fits(constraints, start_at, end_at), SlotVerdict::TimeOfDay),
        (!long, SlotVerdict::TooShort),
        (
            !performers.is_empty() && !performers.contains(&slot.performer_id),
            SlotVerdict::Performer,
        ),
    ];
    let mut broken = broken.into_iter().filter(|(broken, _)| *broken);
    broken.next().map(|(_, verdict)| verdict)
}

fn fits(constraints: &v1::BookingConstraints, start_at: Instant, end_at: Instant) -> bool {
    let clock = |text: &str| NaiveTime::parse_from_str(text, "%H:%M").expect("a clock of the walk");
    let (start, end) = (local_time(start_at), local_time(end_at));
    let mut windows: Vec<_> = constraints
        .time_windows
        .iter()
        .map(|it| (clock(&it.start_clock), clock(&it.end_clock)))
        .collect();
    windows.sort();
    let mut joined: Vec<(NaiveTime, NaiveTime)> = Vec::new();
    for window in windows {
        match joined.last_mut() {
            Some(last) if last.1 == window.0 => last.1 = window.1,
            Some(_) | None => joined.push(window),
        }
    }
    let inside = |window: &(NaiveTime, NaiveTime)| window.0 <= start && end <= window.1;
    joined.is_empty() || joined.iter().any(inside)
}
