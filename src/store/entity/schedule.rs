//! The schedule of a round as it is stored.

use chrono::{NaiveTime, Timelike};
use serde::{Deserialize, Serialize};

use crate::domain::care_unit_settings::{DAYS_MAX, REMINDER_COUNT_MAX, Schedule};
use crate::store::error::Error;

/// A schedule: lead, count, gap and days to NO_RESPONSE, and the minute of the day at which notifications fall due.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct ScheduleDocument(u32, u32, u32, u32, u32);

impl ScheduleDocument {
    /// Returns the document of a schedule.
    pub fn of(schedule: &Schedule) -> Self {
        Self(
            schedule.lead_days,
            schedule.reminder_count,
            schedule.reminder_gap_days,
            schedule.no_response_days,
            minute(schedule.send_time),
        )
    }

    /// Returns the schedule.
    pub fn to_domain(self) -> Result<Schedule, Error> {
        let Self(lead_days, reminder_count, reminder_gap_days, no_response_days, minute) = self;
        let days = [lead_days, reminder_gap_days, no_response_days];
        if days.iter().any(|days| *days > DAYS_MAX) || reminder_count > REMINDER_COUNT_MAX {
            return Err(Error::internal("a schedule out of range"));
        }
        Ok(Schedule {
            lead_days,
            reminder_count,
            reminder_gap_days,
            no_response_days,
            send_time: time(minute)?,
        })
    }
}

/// Returns a time of day as it is stored, in minutes.
pub fn minute(time: NaiveTime) -> u32 {
    time.num_seconds_from_midnight() / 60
}

/// Returns the time of day that [`minute`] has stored.
pub fn time(minute: u32) -> Result<NaiveTime, Error> {
    let time = minute.checked_mul(60);
    let time = time.and_then(|it| NaiveTime::from_num_seconds_from_midnight_opt(it, 0));
    time.ok_or_else(|| Error::internal("a stored minute that no day has"))
}
