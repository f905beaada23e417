//! Series: the repetition of a request that is created, and the place of a request among the members.

use crate::contract::calendar::is_in_range;
use crate::contract::{Violations, request_name, v1};
use crate::domain::booking_request::form::Form;
use crate::domain::booking_request::series::{Repeat, Series, moved};
use crate::domain::request_key::RequestKey;

/// Days from one period of a series to the next.
const INTERVAL_DAYS: std::ops::RangeInclusive<i32> = 7..=400;
/// Members of a series.
const COUNT: std::ops::RangeInclusive<i32> = 2..=12;

/// Parses the field `repeat`, which may be left out.
pub(super) fn parse(
    message: Option<&v1::Repeat>,
    creation: &v1::CreateBookingRequestRequest,
    violations: &mut Violations,
) -> Option<Repeat> {
    let message = message?;
    let form = creation.booking_request.as_ref();
    if form.is_some_and(|form| form.booking.is_some()) {
        violations.add("repeat", "must be absent for a visit that is booked");
    }
    violations.within("repeat", |violations| {
        let mut number = |number, range: std::ops::RangeInclusive<i32>, field: &str| {
            let (first, last) = (range.start(), range.end());
            if !range.contains(&number) {
                violations.add(field, format!("must be {first} to {last}"));
            }
            u32::try_from(number)
                .ok()
                .filter(|_| range.contains(&(number)))
        };
        let interval_days = number(message.interval_days, INTERVAL_DAYS, "interval_days");
        let count = number(message.count, COUNT, "count");
        Some(Repeat {
            interval_days: interval_days?,
            count: usize::try_from(count?).expect("12 at most"),
        })
    })
}

/// Checks that the last period of the series is one that the contract has.
pub(super) fn check_range(repeat: Option<&Repeat>, form: &Form, violations: &mut Violations) {
    let period = form.constraints.as_ref().map(|it| it.period);
    let (Some(repeat), Some(period)) = (repeat, period) else {
        return;
    };
    let steps = u32::try_from(repeat.count - 1).expect("11 at most");
    if !is_in_range(moved(period, steps * repeat.interval_days).last) {
        let fault = "moves a period to where it ends after the year 2200";
        violations.add("repeat.interval_days", fault);
    }
}

/// Renders the field `repeat`.
pub(super) fn render_repeat(repeat: Repeat) -> v1::Repeat {
    let number = |number| i32::try_from(number).expect("a number that was parsed");
    v1::Repeat {
        interval_days: repeat.interval_days.cast_signed(),
        count: number(repeat.count),
    }
}

/// Renders the place of the request `key` in its series.
pub(super) fn render(key: &RequestKey, series: &Series) -> v1::Series {
    let member = |id| request_name(&RequestKey { id, ..key.clone() });
    v1::Series {
        id: series.id().to_string(),
        position: series.position,
        members: series.members.iter().copied().map(member).collect(),
    }
}
