//! The constraints on a visit: period, weekdays, times of day, length and performers.

use crate::contract::calendar::{
    parse_period, parse_weekdays, parse_window, render_period, render_weekdays, render_window,
};
use crate::contract::text::parse_hsa_id;
use crate::contract::{Violations, v1};
use crate::domain::booking_request::form::Constraints;
use crate::domain::calendar::TimeWindow;

const TIME_WINDOWS_MAX: usize = 14;
const PERFORMERS_MAX: usize = 20;
const DURATION_MINUTES_MIN: u32 = 5;
const DURATION_MINUTES_MAX: u32 = 480;

/// Parses constraints that are given.
pub(in crate::contract) fn parse(
    message: &v1::BookingConstraints,
    violations: &mut Violations,
) -> Option<Constraints> {
    violations.within("constraints", |violations| {
        let period = parse_period(
            message.requested_period.as_ref(),
            "requested_period",
            violations,
        );
        let weekdays = parse_weekdays(&message.weekdays, violations);
        let time_windows = parse_windows(&message.time_windows, violations);
        let duration_minutes = parse_duration_minutes(message.duration_minutes, violations);
        let performer_ids = parse_performers(&message.performer_ids, violations);
        Some(Constraints {
            period: period?,
            weekdays,
            time_windows,
            duration_minutes,
            performer_ids,
        })
    })
}

/// Parses the field `time_windows`.
pub(super) fn parse_windows(
    windows: &[v1::TimeWindow],
    violations: &mut Violations,
) -> Vec<TimeWindow> {
    if windows.len() > TIME_WINDOWS_MAX {
        violations.add(
            "time_windows",
            format!("must be at most {TIME_WINDOWS_MAX}"),
        );
        return Vec::new();
    }
    let mut parsed: Vec<TimeWindow> = Vec::with_capacity(windows.len());
    for (i, window) in windows.iter().enumerate() {
        let field = format!("time_windows[{i}]");
        let window = violations.within(&field, |violations| parse_window(window, violations));
        let Some(window) = window else { continue };
        if parsed.iter().any(|earlier| overlap(*earlier, window)) {
            violations.add(field, "must not overlap an earlier one");
        }
        parsed.push(window);
    }
    parsed
}

fn overlap(one: TimeWindow, other: TimeWindow) -> bool {
    one.start_minute < other.end_minute && other.start_minute < one.end_minute
}

/// Parses the field `duration_minutes`.
pub(super) fn parse_duration_minutes(minutes: i32, violations: &mut Violations) -> u32 {
    match u32::try_from(minutes) {
        Ok(minutes @ (0 | DURATION_MINUTES_MIN..=DURATION_MINUTES_MAX)) => minutes,
        Ok(_) | Err(_) => {
            violations.add("duration_minutes", "must be 0 or 5 to 480");
            0
        }
    }
}

/// Parses the field `performer_ids`.
pub(super) fn parse_performers(ids: &[String], violations: &mut Violations) -> Vec<String> {
    if ids.len() > PERFORMERS_MAX {
        violations.add("performer_ids", format!("must be at most {PERFORMERS_MAX}"));
        return Vec::new();
    }
    let ids = ids.iter().enumerate();
    ids.filter_map(|(i, id)| parse_hsa_id(id, &format!("performer_ids[{i}]"), violations))
        .collect()
}

/// Renders constraints.
pub(in crate::contract) fn render(constraints: &Constraints) -> v1::BookingConstraints {
    let windows = constraints.time_windows.iter().copied();
    v1::BookingConstraints {
        requested_period: Some(render_period(constraints.period)),
        weekdays: render_weekdays(constraints.weekdays),
        time_windows: windows.map(render_window).collect(),
        duration_minutes: i32::try_from(constraints.duration_minutes)
            .expect("a visit lasts 480 minutes at most"),
        performer_ids: constraints.performer_ids.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::tests::outcome;

    fn window(start: &str, end: &str) -> v1::TimeWindow {
        v1::TimeWindow {
            start_clock: start.into(),
            end_clock: end.into(),
        }
    }

    #[test]
    fn windows_may_touch_and_must_not_overlap() {
        for (windows, faults) in [
            (vec![("08:00", "12:00"), ("12:00", "24:00")], vec![]),
            (vec![("12:00", "13:00"), ("08:00", "12:00")], vec![]),
            (
                vec![("08:00", "12:00"), ("11:59", "13:00")],
                vec!["time_windows[1]"],
            ),
            (
                vec![("09:00", "10:00"), ("08:00", "12:00")],
                vec!["time_windows[1]"],
            ),
            (
                vec![("08:00", "x"), ("08:00", "12:00")],
                vec!["time_windows[0].end_clock"],
            ),
            (vec![("08:00", "08:01"); 15], vec!["time_windows"]),
        ] {
            let windows: Vec<_> = windows.iter().map(|it| window(it.0, it.1)).collect();
            let (_, found) = outcome(|v| parse_windows(&windows, v));
            assert_eq!(found, faults, "{windows:?}");
        }
    }

    #[test]
    fn a_visit_lasts_5_to_480_minutes_or_as_long_as_its_slot() {
        for (minutes, expected) in [
            (0, Some(0)),
            (1, None),
            (4, None),
            (5, Some(5)),
            (480, Some(480)),
            (481, None),
            (700, None),
            (i32::MAX, None),
            (-5, None),
        ] {
            let (parsed, faults) = outcome(|v| parse_duration_minutes(minutes, v));
            assert_eq!(faults.is_empty(), expected.is_some(), "{minutes}");
            assert_eq!(parsed, expected.unwrap_or(0));
        }
    }

    #[test]
    fn performers_are_hsa_ids_in_capitals_at_most_20_of_them() {
        let ids = ["se2321000131-p1".into(), "Anna".into(), String::new()];
        let (parsed, faults) = outcome(|v| parse_performers(&ids, v));
        assert_eq!(parsed, ["SE2321000131-P1"]);
        assert_eq!(faults, ["performer_ids[1]", "performer_ids[2]"]);
        for (count, faults) in [(20, vec![]), (21, vec!["performer_ids"])] {
            let ids = vec!["SE2321000131-P1".to_owned(); count];
            assert_eq!(outcome(|v| parse_performers(&ids, v)).1, faults);
        }
    }
}
