//! Settings of care units as the model has them: what is set, what is in force, and the schedule of a round.

use std::collections::BTreeSet;

use care_invitation::contract::v1;
use chrono::{NaiveDate, NaiveTime, TimeDelta};
use tonic::Code;

use super::calendar::{Instant, at_clock, from_timestamp, local_date, plus, timestamp};
use super::rules::Refusal;

/// Settings of one care unit, as they are set.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What callers have set, without what is worked out from it.
    set: v1::CareUnitSettings,
    updated_at: Option<Instant>,
    /// Etags seen in responses, the present one last.
    pub etags: Vec<String>,
    /// True if it has changed since an etag was last seen.
    is_unseen: bool,
}

/// What is in force for requests of one visit type.
#[derive(Clone, Debug)]
pub struct InForce {
    pub schedule: Schedule,
    pub guarantee_days: u64,
    pub letter_until_age: i32,
    pub guardian_until_age: i32,
    pub move_deadline: TimeDelta,
    pub paused_until: Option<Instant>,
}

/// When the messages of a round fall due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub lead_days: u64,
    pub reminders: i32,
    pub gap_days: u64,
    pub silent_days: u64,
    pub clock: NaiveTime,
}

impl Schedule {
    pub fn first_due_at(&self, starts_on: NaiveDate, now: Instant) -> Instant {
        let ahead = TimeDelta::days(self.lead_days.cast_signed());
        at_clock(starts_on - ahead, self.clock).max(now)
    }

    pub fn reminder_due_at(&self, handed_over_at: Instant) -> Instant {
        at_clock(plus(local_date(handed_over_at), self.gap_days), self.clock)
    }

    pub fn no_response_at(&self, handed_over_at: Instant) -> Instant {
        let day = plus(local_date(handed_over_at), self.silent_days);
        at_clock(day, self.clock)
    }

    pub fn show(&self) -> v1::Schedule {
        let days = |it: u64| i32::try_from(it).expect("a few days");
        v1::Schedule {
            lead_days: days(self.lead_days),
            reminder_count: self.reminders,
            reminder_gap_days: days(self.gap_days),
            no_response_days: days(self.silent_days),
            send_clock: self.clock.format("%H:%M").to_string(),
        }
    }
}

impl InForce {
    pub fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    fn show(&self) -> v1::EffectiveSettings {
        v1::EffectiveSettings {
            schedule: Some(self.schedule.show()),
            guarantee_days: i32::try_from(self.guarantee_days).expect("a few days"),
            letter_until_age: self.letter_until_age,
            guardian_until_age: self.guardian_until_age,
            move_deadline_hours: i32::try_from(self.move_deadline.num_hours()).expect("a few"),
        }
    }
}

impl Settings {
    /// Returns what is in force: the setting of the visit type, else that of the unit, else the default.
    pub fn in_force(&self, code: &str) -> InForce {
        let set = &self.set;
        let mut own = set.visit_types.iter();
        let own = own.find(|it| it.visit_type_code == code).cloned();
        let own = own.unwrap_or_default();
        let days = |own: Option<i32>, unit: Option<i32>, default: i32| {
            u64::try_from(own.or(unit).unwrap_or(default)).expect("checked before")
        };
        let clock = set.send_clock.as_deref().unwrap_or("09:00");
        let move_hours = set.move_deadline_hours.unwrap_or(24);
        InForce {
            schedule: Schedule {
                lead_days: days(own.lead_days, set.lead_days, 42),
                reminders: own.reminder_count.or(set.reminder_count).unwrap_or(2),
                gap_days: days(own.reminder_gap_days, set.reminder_gap_days, 14),
                silent_days: days(own.no_response_days, set.no_response_days, 14),
                clock: NaiveTime::parse_from_str(clock, "%H:%M").expect("checked before"),
            },
            guarantee_days: days(own.guarantee_days, set.guarantee_days, 90),
            letter_until_age: set.letter_until_age.unwrap_or(0),
            guardian_until_age: set.guardian_until_age.unwrap_or(13),
            move_deadline: TimeDelta::hours(move_hours.into()),
            paused_until: set.paused_until.as_ref().map(from_timestamp),
        }
    }

    /// Changes what the mask names.
    pub fn update(
        &mut self,
        call: &v1::UpdateCareUnitSettingsRequest,
        now: Instant,
    ) -> Result<(), Refusal> {
        let seen = self.etags.last().filter(|_| !self.is_unseen);
        if !call.etag.is_empty() && seen != Some(&call.etag) {
            return Err(Refusal::new(Code::Aborted, "ETAG_MISMATCH"));
        }
        let given = call.care_unit_settings.clone().expect("given");
        let before = self.set.clone();
        let set = &mut self.set;
        set.name.clone_from(&given.name);
        for path in call.update_mask.iter().flat_map(|it| &it.paths) {
            match path.as_str() {
                "lead_days" => set.lead_days = given.lead_days,
                "reminder_count" => set.reminder_count = given.reminder_count,
                "reminder_gap_days" => set.reminder_gap_days = given.reminder_gap_days,
                "no_response_days" => set.no_response_days = given.no_response_days,
                "guarantee_days" => set.guarantee_days = given.guarantee_days,
                "send_clock" => set.send_clock.clone_from(&given.send_clock),
                "letter_until_age" => set.letter_until_age = given.letter_until_age,
                "guardian_until_age" => set.guardian_until_age = given.guardian_until_age,
                "move_deadline_hours" => set.move_deadline_hours = given.move_deadline_hours,
                "paused_until" => set.paused_until = given.paused_until,
                "visit_types" => {
                    set.visit_types.clone_from(&given.visit_types);
                    let code = |it: &v1::VisitTypeSettings| it.visit_type_code.clone();
                    set.visit_types.sort_by_key(code);
                }
                other => unreachable!("the walk names no {other}"),
            }
        }
        let name = before.name.clone();
        let unnamed = |it: &v1::CareUnitSettings| v1::CareUnitSettings {
            name: name.clone(),
            ..it.clone()
        };
        if unnamed(&self.set) != before {
            self.updated_at = Some(now);
            self.is_unseen = true;
        }
        Ok(())
    }

    /// Returns what GetCareUnitSettings shows, without the etag.
    pub fn show(&self, name: &str) -> v1::CareUnitSettings {
        let mut shown = v1::CareUnitSettings {
            name: name.into(),
            effective: Some(self.in_force("").show()),
            update_time: self.updated_at.map(timestamp),
            ..self.set.clone()
        };
        for own in &mut shown.visit_types {
            own.effective = Some(self.in_force(&own.visit_type_code).show());
        }
        shown
    }

    /// Learns the etag, which must be new if the model has changed the settings and the same if it has not.
    pub fn learn(&mut self, etag: &str) -> Result<(), String> {
        let known = self.etags.iter().any(|it| it == etag);
        let fits = match self.is_unseen {
            true => !known,
            false => self.etags.last().is_none_or(|it| it == etag),
        };
        self.is_unseen = false;
        if !known {
            self.etags.push(etag.into());
        }
        super::compare::holds(fits, || format!("the etag of the settings is {etag}"))
    }
}

/// Checks settings for values out of range, each by its path.
pub fn check_ranges(call: &v1::UpdateCareUnitSettingsRequest) -> Result<(), Refusal> {
    let set = call.care_unit_settings.as_ref().expect("given");
    let mut faults = BTreeSet::new();
    let mut check = |path: String, value: Option<i32>, first: i32, last: i32| {
        if value.is_some_and(|it| it < first || last < it) {
            faults.insert(path);
        }
    };
    let at = "care_unit_settings";
    let mut figures = |at: &str, own: &v1::VisitTypeSettings| {
        check(format!("{at}.lead_days"), own.lead_days, 0, 180);
        check(format!("{at}.reminder_count"), own.reminder_count, 0, 5);
        let gap = own.reminder_gap_days;
        check(format!("{at}.reminder_gap_days"), gap, 1, 60);
        check(
            format!("{at}.no_response_days"),
            own.no_response_days,
            1,
            60,
        );
        check(format!("{at}.guarantee_days"), own.guarantee_days, 1, 365);
    };
    let general = v1::VisitTypeSettings {
        lead_days: set.lead_days,
        reminder_count: set.reminder_count,
        reminder_gap_days: set.reminder_gap_days,
        no_response_days: set.no_response_days,
        guarantee_days: set.guarantee_days,
        ..Default::default()
    };
    figures(at, &general);
    for (nth, own) in set.visit_types.iter().enumerate() {
        figures(&format!("{at}.visit_types[{nth}]"), own);
    }
    check(
        format!("{at}.letter_until_age"),
        set.letter_until_age,
        0,
        18,
    );
    let guardian = set.guardian_until_age;
    check(format!("{at}.guardian_until_age"), guardian, 0, 18);
    let hours = set.move_deadline_hours;
    check(format!("{at}.move_deadline_hours"), hours, 0, 336);
    if let Some(clock) = &set.send_clock
        && !("06:00"..="22:00").contains(&clock.as_str())
    {
        faults.insert(format!("{at}.send_clock"));
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Refusal::fields(faults))
    }
}
