//! Instants, civil dates, times of day and durations.
//!
//! Instants are kept in whole microseconds; finer digits are dropped. Civil dates lie in the years
//! 1900 to 2200, far inside the range of the arithmetic on them.

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Utc, Weekday};
use prost_types::{Duration, Timestamp};

use super::enums::{self, WireEnum};
use super::{Violations, v1};
use crate::domain::calendar::{Instant, Period, TimeWindow, Weekdays};

/// Range of a `google.protobuf.Timestamp`: 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
const NANOS_IN_A_SECOND: u32 = 1_000_000_000;
/// Years in which a civil date may lie.
const YEARS: std::ops::RangeInclusive<i32> = 1900..=2200;
/// Maximum days from the first day of a period to its last.
const PERIOD_DAYS_MAX: i64 = 366;

impl WireEnum for Weekday {
    type Wire = v1::DayOfWeek;

    fn from_wire(wire: v1::DayOfWeek) -> Option<Self> {
        match wire {
            v1::DayOfWeek::Unspecified => None,
            v1::DayOfWeek::Monday => Some(Self::Mon),
            v1::DayOfWeek::Tuesday => Some(Self::Tue),
            v1::DayOfWeek::Wednesday => Some(Self::Wed),
            v1::DayOfWeek::Thursday => Some(Self::Thu),
            v1::DayOfWeek::Friday => Some(Self::Fri),
            v1::DayOfWeek::Saturday => Some(Self::Sat),
            v1::DayOfWeek::Sunday => Some(Self::Sun),
        }
    }

    fn to_wire(self) -> v1::DayOfWeek {
        match self {
            Self::Mon => v1::DayOfWeek::Monday,
            Self::Tue => v1::DayOfWeek::Tuesday,
            Self::Wed => v1::DayOfWeek::Wednesday,
            Self::Thu => v1::DayOfWeek::Thursday,
            Self::Fri => v1::DayOfWeek::Friday,
            Self::Sat => v1::DayOfWeek::Saturday,
            Self::Sun => v1::DayOfWeek::Sunday,
        }
    }
}

/// Parses an instant that must be given.
pub(super) fn parse_instant(
    timestamp: Option<&Timestamp>,
    field: &str,
    violations: &mut Violations,
) -> Option<Instant> {
    if timestamp.is_none() {
        return violations.require(field);
    }
    parse_optional_instant(timestamp, field, violations)
}

/// Parses an instant that may be left out.
pub(super) fn parse_optional_instant(
    timestamp: Option<&Timestamp>,
    field: &str,
    violations: &mut Violations,
) -> Option<Instant> {
    let instant = instant_of(timestamp?);
    if instant.is_none() {
        violations.add(field, "must be an instant in the years 0001 to 9999");
    }
    instant
}

/// Parses the instant of a past event, which may be left out. An instant in the future is accepted
/// however far away it is: the domain takes it as now.
pub(super) fn parse_past_instant(
    timestamp: Option<&Timestamp>,
    field: &str,
    violations: &mut Violations,
) -> Option<Instant> {
    let Timestamp { seconds, nanos } = *timestamp?;
    let near = Timestamp {
        seconds: seconds.min(*SECONDS.end()),
        nanos,
    };
    parse_optional_instant(Some(&near), field, violations)
}

fn instant_of(timestamp: &Timestamp) -> Option<Instant> {
    let nanos = u32::try_from(timestamp.nanos).ok()?;
    if !SECONDS.contains(&timestamp.seconds) || nanos >= NANOS_IN_A_SECOND {
        return None;
    }
    DateTime::<Utc>::from_timestamp(timestamp.seconds, nanos / 1_000 * 1_000)
}

/// Renders an instant.
pub fn render_instant(at: Instant) -> Timestamp {
    let nanos = at.timestamp_subsec_micros() * 1_000;
    Timestamp {
        seconds: at.timestamp(),
        nanos: i32::try_from(nanos).expect("the nanoseconds of a second are below 2^31"),
    }
}

/// Parses a duration that is not negative, in whole microseconds. One that is too long to be kept is the
/// longest that is not.
pub(super) fn parse_duration(
    duration: &Duration,
    field: &str,
    violations: &mut Violations,
) -> Option<chrono::Duration> {
    if duration.seconds < 0 || duration.nanos < 0 {
        violations.add(field, "must not be negative");
        return None;
    }
    let nanos = u32::try_from(duration.nanos).ok();
    let Some(nanos) = nanos.filter(|nanos| *nanos < NANOS_IN_A_SECOND) else {
        violations.add(field, "must have fewer nanoseconds than make a second");
        return None;
    };
    let parsed = chrono::Duration::new(duration.seconds, nanos / 1_000 * 1_000);
    Some(parsed.unwrap_or(chrono::Duration::MAX))
}

/// Parses a civil date that must be given.
pub(super) fn parse_date(
    text: &str,
    field: &str,
    violations: &mut Violations,
) -> Option<NaiveDate> {
    if text.is_empty() {
        return violations.require(field);
    }
    let date = date_of(text);
    if date.is_none() {
        violations.add(
            field,
            "must be a date as YYYY-MM-DD in the years 1900 to 2200",
        );
    }
    date
}

/// Parses a civil date that may be left out.
pub(super) fn parse_optional_date(
    text: &str,
    field: &str,
    violations: &mut Violations,
) -> Option<NaiveDate> {
    if text.is_empty() {
        return None;
    }
    parse_date(text, field, violations)
}

/// Returns whether the contract has the date.
pub(super) fn is_in_range(date: NaiveDate) -> bool {
    YEARS.contains(&date.year())
}

fn date_of(text: &str) -> Option<NaiveDate> {
    let (year, rest) = text.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    let year = i32::try_from(digits(year, 4)?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, digits(month, 2)?, digits(day, 2)?)?;
    is_in_range(date).then_some(date)
}

/// Parses a number of exactly `count` digits.
fn digits(text: &str, count: usize) -> Option<u32> {
    let shaped = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if shaped { text.parse().ok() } else { None }
}

/// Renders a civil date.
pub(super) fn render_date(date: NaiveDate) -> String {
    date.to_string()
}

/// Parses the period in `field`, which must be given.
pub(super) fn parse_period(
    interval: Option<&v1::DateInterval>,
    field: &str,
    violations: &mut Violations,
) -> Option<Period> {
    let Some(interval) = interval else {
        return violations.require(field);
    };
    violations.within(field, |violations| {
        let first = parse_date(&interval.start_date, "start_date", violations);
        let last = parse_date(&interval.end_date, "end_date", violations);
        let (first, last) = first.zip(last)?;
        if last < first {
            violations.add("end_date", "must not be before start_date");
        } else if (last - first).num_days() > PERIOD_DAYS_MAX {
            violations.add("end_date", "must be at most 366 days after start_date");
        }
        Some(Period { first, last })
    })
}

/// Renders a period.
pub(super) fn render_period(period: Period) -> v1::DateInterval {
    v1::DateInterval {
        start_date: render_date(period.first),
        end_date: render_date(period.last),
    }
}

/// Parses the field `weekdays`.
pub(super) fn parse_weekdays(numbers: &[i32], violations: &mut Violations) -> Weekdays {
    Weekdays::of(numbers.iter().enumerate().filter_map(|(i, number)| {
        enums::parse::<Weekday>(*number, &format!("weekdays[{i}]"), violations)
    }))
}

/// Renders weekdays, Monday first and each once.
pub(super) fn render_weekdays(weekdays: Weekdays) -> Vec<i32> {
    weekdays.named().map(enums::render).collect()
}

/// Parses a time window of a day.
pub(super) fn parse_window(
    window: &v1::TimeWindow,
    violations: &mut Violations,
) -> Option<TimeWindow> {
    let start = minute_of(&window.start_clock).filter(|minute| *minute < 24 * 60);
    if start.is_none() {
        violations.add("start_clock", "must be HH:MM, 00:00 to 23:59");
    }
    let end = minute_of(&window.end_clock);
    if end.is_none() {
        violations.add("end_clock", "must be HH:MM, 00:01 to 24:00");
    }
    let (start_minute, end_minute) = start.zip(end)?;
    if end_minute <= start_minute {
        violations.add("end_clock", "must be after start_clock");
        return None;
    }
    Some(TimeWindow {
        start_minute,
        end_minute,
    })
}

/// Parses `HH:MM`, 00:00 to 23:59.
pub(super) fn parse_time_of_day(clock: &str) -> Option<NaiveTime> {
    NaiveTime::from_num_seconds_from_midnight_opt(minute_of(clock)? * 60, 0)
}

/// Parses `HH:MM` into the minute of the day, 0 to 1440.
fn minute_of(clock: &str) -> Option<u32> {
    let (hours, minutes) = clock.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= 24 * 60).then_some(minute)
}

/// Renders a time window of a day.
pub(super) fn render_window(window: TimeWindow) -> v1::TimeWindow {
    let clock = |minute: u32| format!("{:02}:{:02}", minute / 60, minute % 60);
    v1::TimeWindow {
        start_clock: clock(window.start_minute),
        end_clock: clock(window.end_minute),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::outcome;
    use super::*;

    #[test]
    fn an_instant_is_taken_in_whole_microseconds_within_the_years_of_protobuf() {
        for (seconds, nanos, expected) in [
            (1_772_442_000, 0, Some("2026-03-02T09:00:00Z")),
            (1_772_442_000, 1_999, Some("2026-03-02T09:00:00.000001Z")),
            (-1, 999_999_999, Some("1969-12-31T23:59:59.999999Z")),
            (-62_135_596_800, 0, Some("0001-01-01T00:00:00Z")),
            (
                253_402_300_799,
                999_999_999,
                Some("9999-12-31T23:59:59.999999Z"),
            ),
            (253_402_300_800, 0, None),
            (-62_135_596_801, 0, None),
            (0, -1, None),
            (0, 1_000_000_000, None),
            (i64::MAX, i32::MAX, None),
        ] {
            let given = Timestamp { seconds, nanos };
            let (parsed, faults) = outcome(|v| parse_instant(Some(&given), "start_time", v));
            let expected: Option<Instant> = expected.map(|text| text.parse().unwrap());
            assert_eq!(parsed, expected, "{given:?}");
            assert_eq!(faults.is_empty(), expected.is_some(), "{given:?}");
            if let Some(at) = parsed {
                let (again, _) = outcome(|v| parse_instant(Some(&render_instant(at)), "t", v));
                assert_eq!(again, Some(at));
            }
        }
        assert_eq!(
            outcome(|v| parse_instant(None, "start_time", v)).1,
            ["start_time"]
        );
        assert_eq!(
            outcome(|v| parse_optional_instant(None, "t", v)),
            (None, vec![])
        );
    }

    #[test]
    fn a_civil_date_has_one_form() {
        for text in ["1900-01-01", "2026-02-28", "2028-02-29", "2200-12-31"] {
            let (date, _) = outcome(|v| parse_date(text, "start_date", v));
            assert_eq!(date.map(render_date).as_deref(), Some(text));
        }
        for text in [
            "",
            "1899-12-31",
            "2201-01-01",
            "2026-02-29",
            "2026-13-01",
            "2026-2-28",
            "20260228",
            "2026-02-28 ",
            "+026-02-28",
            "2026-02-28T00:00:00Z",
            "26-02-28",
            "2026/02/28",
            "２026-02-28",
            "2026-02-2８",
        ] {
            let (date, faults) = outcome(|v| parse_date(text, "start_date", v));
            assert_eq!((date, faults), (None, vec!["start_date".into()]), "{text}");
        }
    }

    #[test]
    fn a_period_ends_0_to_366_days_after_its_start() {
        for (start, end, faults) in [
            ("2026-05-18", "2026-05-18", vec![]),
            ("2026-05-18", "2027-05-19", vec![]),
            ("2026-05-18", "2027-05-20", vec!["period.end_date"]),
            ("2026-05-18", "2026-05-17", vec!["period.end_date"]),
            ("", "x", vec!["period.start_date", "period.end_date"]),
        ] {
            let interval = v1::DateInterval {
                start_date: start.into(),
                end_date: end.into(),
            };
            let (_, found) = outcome(|v| parse_period(Some(&interval), "period", v));
            assert_eq!(found, faults, "{start} {end}");
        }
        assert_eq!(outcome(|v| parse_period(None, "period", v)).1, ["period"]);
    }

    #[test]
    fn a_window_is_not_empty_and_24_00_is_only_an_end() {
        for (start, end, expected) in [
            ("00:00", "24:00", Ok((0, 1440))),
            ("08:00", "12:30", Ok((480, 750))),
            ("23:59", "24:00", Ok((1439, 1440))),
            ("08:00", "08:00", Err(vec!["end_clock"])),
            ("12:00", "08:00", Err(vec!["end_clock"])),
            ("24:00", "24:00", Err(vec!["start_clock"])),
            ("08:60", "24:01", Err(vec!["start_clock", "end_clock"])),
            ("8:00", "12:0", Err(vec!["start_clock", "end_clock"])),
            ("", "12:00:00", Err(vec!["start_clock", "end_clock"])),
            ("-1:00", "99:99", Err(vec!["start_clock", "end_clock"])),
        ] {
            let window = v1::TimeWindow {
                start_clock: start.into(),
                end_clock: end.into(),
            };
            let (parsed, faults) = outcome(|v| parse_window(&window, v));
            match (parsed, expected) {
                (Some(parsed), Ok(minutes)) => {
                    assert_eq!((parsed.start_minute, parsed.end_minute), minutes);
                    assert_eq!(render_window(parsed), window);
                }
                (parsed, expected) => {
                    assert_eq!((parsed, Err(faults)), (None, expected.map_err(strings)));
                }
            }
        }
    }

    fn strings(texts: Vec<&str>) -> Vec<String> {
        texts.into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_weekday_may_be_repeated_and_must_be_known() {
        let (weekdays, faults) = outcome(|v| parse_weekdays(&[7, 1, 7], v));
        assert_eq!((render_weekdays(weekdays), faults.len()), (vec![1, 7], 0));
        let (_, faults) = outcome(|v| parse_weekdays(&[1, 0, 8], v));
        assert_eq!(faults, ["weekdays[1]", "weekdays[2]"]);
    }

    #[test]
    fn a_span_is_never_negative() {
        for (seconds, nanos, expected) in [
            (0, 0, Some(chrono::Duration::zero())),
            (
                1,
                500_000_999,
                Some(chrono::Duration::microseconds(1_500_000)),
            ),
            (i64::MAX, 999_999_999, Some(chrono::Duration::MAX)),
            (-1, 0, None),
            (0, -1, None),
            (1, -1, None),
            (1, 1_000_000_000, None),
        ] {
            let given = Duration { seconds, nanos };
            let (parsed, faults) = outcome(|v| parse_duration(&given, "retry_delay", v));
            assert_eq!(parsed, expected, "{given:?}");
            assert_eq!(faults.is_empty(), expected.is_some(), "{given:?}");
        }
    }
}
