//! Civil dates in Europe/Stockholm, instants in UTC, and the steps between them.
//!
//! Days are added on the calendar and the clock is attached afterwards, so that 09:00 stays 09:00
//! when summer time begins or ends. Nothing here reads a clock.

use chrono::{
    DateTime, Datelike, Days, Duration, NaiveDate, NaiveTime, TimeZone, Timelike, Utc, Weekday,
};
use chrono_tz::Europe::Stockholm;

/// An instant, UTC, in whole microseconds.
pub type Instant = DateTime<Utc>;

/// A reading of a clock, and how far it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockReading {
    /// Time of a sandbox clock, which is right by definition.
    Sandbox(Instant),
    /// Time of the machine's clock.
    Machine(Instant),
    /// Time expected of the machine's clock; the clock was stepped and may be wrong.
    InDoubt(Instant),
}

impl ClockReading {
    /// Returns the time read, trusted or not.
    pub fn now(self) -> Instant {
        match self {
            Self::Sandbox(now) | Self::Machine(now) | Self::InDoubt(now) => now,
        }
    }
}

/// Returns the number of microseconds since 1970-01-01T00:00:00Z.
pub fn micros(at: Instant) -> i64 {
    at.timestamp_micros()
}

/// Returns the instant of a number that [`micros`] returned.
///
/// Clamped to the range of chrono; every instant that the service makes or accepts lies inside it.
pub fn from_micros(micros: i64) -> Instant {
    DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Tolerance for times later than the server's clock; those further ahead are reported.
const AHEAD_TOLERANCE: Duration = Duration::minutes(1);

/// Times given by callers that are ahead of the server's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimesAhead {
    /// Number of such times.
    pub count: usize,
    /// Distance from the server's clock to the latest of them.
    pub furthest: Duration,
}

/// Counts the times that are more than a minute later than `now`; `None` if there are none.
pub fn times_ahead(times: impl Iterator<Item = Instant>, now: Instant) -> Option<TimesAhead> {
    let distances = times.map(|time| time - now);
    let ahead: Vec<_> = distances.filter(|it| AHEAD_TOLERANCE < *it).collect();
    Some(TimesAhead {
        count: ahead.len(),
        furthest: ahead.into_iter().max()?,
    })
}

/// Returns the civil date of an instant in Stockholm.
pub fn civil_date(at: Instant) -> NaiveDate {
    at.with_timezone(&Stockholm).date_naive()
}

/// Returns the minute of the day of an instant in Stockholm, 0 to 1439; seconds are dropped.
pub fn minute_of_day(at: Instant) -> u32 {
    let local = at.with_timezone(&Stockholm);
    local.hour() * 60 + local.minute()
}

/// Returns the time of day of an instant in Stockholm.
pub fn local_clock(at: Instant) -> NaiveTime {
    at.with_timezone(&Stockholm).time()
}

/// Returns the instant at which the clock in Stockholm shows `clock` on `date`.
///
/// Of an hour that occurs twice the first is meant; a skipped hour gives the instant at which the
/// clocks change. Neither occurs between 06:00 and 22:00, nor at midnight.
pub fn at_clock(date: NaiveDate, clock: NaiveTime) -> Instant {
    let mut local = date.and_time(clock);
    loop {
        if let Some(at) = Stockholm.from_local_datetime(&local).earliest() {
            return at.with_timezone(&Utc);
        }
        local += Duration::minutes(1);
    }
}

/// Returns the date `days` days after `date`.
pub fn add_days(date: NaiveDate, days: u32) -> NaiveDate {
    date.checked_add_days(Days::new(days.into()))
        .unwrap_or(NaiveDate::MAX)
}

/// Returns the date `days` days before `date`.
pub fn subtract_days(date: NaiveDate, days: u32) -> NaiveDate {
    date.checked_sub_days(Days::new(days.into()))
        .unwrap_or(NaiveDate::MIN)
}

/// Returns midnight in Stockholm at the end of `date`.
pub fn end_of(date: NaiveDate) -> Instant {
    at_clock(add_days(date, 1), NaiveTime::MIN)
}

/// An interval of civil dates, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The first day.
    pub first: NaiveDate,
    /// The last day, not before the first.
    pub last: NaiveDate,
}

impl Period {
    /// Returns whether `date` lies in the period.
    pub fn contains(self, date: NaiveDate) -> bool {
        self.first <= date && date <= self.last
    }

    /// Returns whether the two periods share a day.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Acceptable days of the week. The empty set means every day. chrono's `WeekdaySet` keeps its bits, which
/// are stored, to itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weekdays(u8);

impl Weekdays {
    /// Returns the set of the given days.
    pub fn of(days: impl IntoIterator<Item = Weekday>) -> Self {
        Self(
            days.into_iter()
                .fold(0, |set, day| set | 1 << day.num_days_from_monday()),
        )
    }

    /// Returns the set that [`Weekdays::bits`] encoded; bits above Sunday are dropped.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & 0x7f)
    }

    /// Returns the set as bits: bit 0 is Monday, bit 6 is Sunday.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Returns the days in the set, Monday first.
    pub fn named(self) -> impl Iterator<Item = Weekday> {
        (0..7u8)
            .filter(move |day| self.0 & (1 << day) != 0)
            .map(|day| Weekday::try_from(day).expect("0 to 6 are days of the week"))
    }

    /// Returns whether a visit on `date` is acceptable.
    pub fn accepts(self, date: NaiveDate) -> bool {
        self.0 == 0 || self.0 & (1 << date.weekday().num_days_from_monday()) != 0
    }

    /// Returns whether some acceptable day lies in `period` on or after `today`.
    pub fn occur_in(self, period: Period, today: NaiveDate) -> bool {
        let first = period.first.max(today);
        first
            .iter_days()
            .take(7)
            .any(|date| date <= period.last && self.accepts(date))
    }
}

/// A span of the day in minutes, local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWindow {
    /// Start, included, 0 to 1439.
    pub start_minute: u32,
    /// End, not included, after the start, 1440 at most.
    pub end_minute: u32,
}

impl TimeWindow {
    /// Returns whether a minute of the day lies in it.
    pub fn contains(self, minute: u32) -> bool {
        (self.start_minute..self.end_minute).contains(&minute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().expect("a test date")
    }

    #[test]
    fn nine_o_clock_is_local_before_and_after_each_change_of_clocks() {
        let nine = NaiveTime::from_hms_opt(9, 0, 0).expect("09:00");
        for (day, utc) in [
            ("2026-03-28", "2026-03-28T08:00:00Z"),
            ("2026-03-29", "2026-03-29T07:00:00Z"),
            ("2026-10-24", "2026-10-24T07:00:00Z"),
            ("2026-10-25", "2026-10-25T08:00:00Z"),
        ] {
            assert_eq!(at_clock(date(day), nine), utc.parse::<Instant>().unwrap());
        }
    }

    #[test]
    fn times_more_than_a_minute_ahead_are_counted_and_the_furthest_is_told() {
        let now: Instant = "2026-03-02T09:00:00Z".parse().unwrap();
        let found = |micros: &[i64]| {
            let times = micros.iter().map(|it| now + Duration::microseconds(*it));
            times_ahead(times, now).map(|it| (it.count, it.furthest))
        };
        let minute = 60_000_000;
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[-minute, 0, 1, minute]), None);
        let furthest = Duration::microseconds(3 * minute);
        assert_eq!(
            found(&[minute + 1, 3 * minute, -1, minute]),
            Some((2, furthest))
        );
    }

    #[test]
    fn a_skipped_hour_gives_the_moment_of_change_and_a_doubled_one_its_first() {
        let half_past_two = NaiveTime::from_hms_opt(2, 30, 0).expect("02:30");
        for (day, utc) in [
            ("2026-03-29", "2026-03-29T01:00:00Z"),
            ("2026-10-25", "2026-10-25T00:30:00Z"),
        ] {
            assert_eq!(
                at_clock(date(day), half_past_two),
                utc.parse::<Instant>().unwrap()
            );
        }
    }

    #[test]
    fn a_day_ends_at_midnight_in_stockholm() {
        for (day, utc) in [
            ("2026-03-13", "2026-03-13T23:00:00Z"),
            ("2026-03-29", "2026-03-29T22:00:00Z"),
            ("2026-10-25", "2026-10-25T23:00:00Z"),
        ] {
            let at = utc.parse::<Instant>().unwrap();
            assert_eq!(end_of(date(day)), at);
            assert_eq!(civil_date(at), add_days(date(day), 1));
            assert_eq!(
                civil_date(at - chrono::Duration::microseconds(1)),
                date(day)
            );
        }
    }

    #[test]
    fn weekdays_occur_only_from_today_on() {
        let mondays = Weekdays::of([Weekday::Mon]);
        let period = Period {
            first: date("2026-03-02"),
            last: date("2026-03-08"),
        };
        assert!(mondays.occur_in(period, date("2026-03-02")));
        assert!(!mondays.occur_in(period, date("2026-03-03")));
        assert!(Weekdays::default().occur_in(period, date("2026-03-08")));
        assert!(!Weekdays::default().occur_in(period, date("2026-03-09")));
        assert_eq!(
            Weekdays::of([Weekday::Sun, Weekday::Mon])
                .named()
                .collect::<Vec<_>>(),
            [Weekday::Mon, Weekday::Sun]
        );
    }
}
