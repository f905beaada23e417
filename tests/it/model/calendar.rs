//! Days and instants in Sweden: days are added on the calendar, then the time of day is attached.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Europe::Stockholm;
use prost_types::Timestamp;

pub type Instant = DateTime<Utc>;

/// Returns the civil date in Sweden.
pub fn local_date(at: Instant) -> NaiveDate {
    at.with_timezone(&Stockholm).date_naive()
}

/// Returns the time of day in Sweden.
pub fn local_time(at: Instant) -> NaiveTime {
    at.with_timezone(&Stockholm).time()
}

/// Returns the sending clock on that day, in Sweden.
pub fn at_clock(day: NaiveDate, clock: NaiveTime) -> Instant {
    instant(day, clock)
}

/// Returns the midnight that ends a day in Sweden.
pub fn end_of(day: NaiveDate) -> Instant {
    instant(plus(day, 1), NaiveTime::MIN)
}

pub fn instant(day: NaiveDate, clock: NaiveTime) -> Instant {
    let local = Stockholm.from_local_datetime(&day.and_time(clock));
    local
        .earliest()
        .expect("not within a change of clocks")
        .to_utc()
}

pub fn plus(day: NaiveDate, days: u64) -> NaiveDate {
    day + Days::new(days)
}

pub fn minutes(count: i64) -> TimeDelta {
    TimeDelta::minutes(count)
}

pub fn date(text: &str) -> NaiveDate {
    text.parse().expect("a date of the walk")
}

pub fn timestamp(at: Instant) -> Timestamp {
    Timestamp {
        seconds: at.timestamp(),
        nanos: at.timestamp_subsec_nanos().cast_signed(),
    }
}

pub fn from_timestamp(at: &Timestamp) -> Instant {
    DateTime::from_timestamp(at.seconds, at.nanos.cast_unsigned()).expect("a timestamp in range")
}
