//! The settings of a care unit: their names, ranges and what is in force.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use chrono::NaiveTime;
use prost_types::FieldMask;

use super::calendar::{parse_optional_instant, parse_time_of_day, render_instant};
use super::text::parse_identifier;
use super::update_mask::UpdateMask;
use super::{
    IdempotentCommand, Violations, parse_request_id, parse_settings_name, settings_name, v1,
};
use crate::domain::RegionPolicy;
use crate::domain::care_unit_settings::{
    CareUnitSettings, Field, Schedule, Settings, UnitPolicy, UpdateSettings, VisitTypeSettings,
};
use crate::domain::hsa_id::HsaId;

/// Maximum visit types with settings of their own.
const VISIT_TYPES_MAX: usize = 500;

const LEAD_DAYS: RangeInclusive<i32> = 0..=180;
const REMINDER_COUNT: RangeInclusive<i32> = 0..=5;
const STEP_DAYS: RangeInclusive<i32> = 1..=60;
const GUARANTEE_DAYS: RangeInclusive<i32> = 1..=365;
const AGE: RangeInclusive<i32> = 0..=18;
const MOVE_DEADLINE_HOURS: RangeInclusive<i32> = 0..=336;

/// Parses GetCareUnitSettings.
///
/// # Errors
///
/// Every fault of shape.
pub fn parse_get(message: &v1::GetCareUnitSettingsRequest) -> Result<HsaId, Violations> {
    Violations::collect(|violations| parse_settings_name(&message.name, "name", violations))
}

/// Parses UpdateCareUnitSettings. Settings that the mask does not name are ignored.
///
/// # Errors
///
/// Every fault of shape.
pub fn parse_update(
    message: v1::UpdateCareUnitSettingsRequest,
) -> Result<IdempotentCommand<(HsaId, UpdateSettings)>, Violations> {
    Violations::collect(|violations| {
        let mask = UpdateMask::parse(
            message.update_mask.as_ref(),
            &Field::ALL.map(|field| field.name()),
        );
        let named = Field::ALL.into_iter();
        let named: BTreeSet<_> = named.filter(|field| mask.names(field.name())).collect();
        let parsed = match &message.care_unit_settings {
            Some(given) => violations.within("care_unit_settings", |violations| {
                let care_unit = parse_settings_name(&given.name, "name", violations);
                let given = parse_settings(given, &named, violations);
                care_unit.map(|care_unit| (care_unit, given))
            }),
            None => violations.require("care_unit_settings"),
        };
        mask.check(violations);
        let request_id = parse_request_id(&message.request_id, violations);
        let (care_unit, given) = parsed?;
        let command = UpdateSettings {
            etag: message.etag,
            fields: named,
            given,
        };
        let content = render_update(&care_unit, &command);
        Some(IdempotentCommand::new(
            request_id?,
            "UpdateCareUnitSettings",
            &content,
            (care_unit, command),
        ))
    })
}

fn parse_settings(
    given: &v1::CareUnitSettings,
    named: &BTreeSet<Field>,
    violations: &mut Violations,
) -> Settings {
    let general = v1::VisitTypeSettings {
        visit_type_code: String::new(),
        lead_days: given.lead_days,
        reminder_count: given.reminder_count,
        reminder_gap_days: given.reminder_gap_days,
        no_response_days: given.no_response_days,
        guarantee_days: given.guarantee_days,
        effective: None,
    };
    let names = |field| named.contains(&field);
    let general = parse_by_visit_type(&general, names, violations);
    let mut number = |field: Field, given, range| match names(field) {
        true => parse_number(field, given, range, violations),
        false => None,
    };
    let letter_until_age = number(Field::LetterUntilAge, given.letter_until_age, AGE);
    let guardian_until_age = number(Field::GuardianUntilAge, given.guardian_until_age, AGE);
    let hours = given.move_deadline_hours;
    let move_deadline_hours = number(Field::MoveDeadlineHours, hours, MOVE_DEADLINE_HOURS);
    let send_clock = given.send_clock.as_deref();
    let send_clock = send_clock.filter(|_| names(Field::SendClock));
    let send_time = send_clock.and_then(|clock| parse_send_clock(clock, violations));
    let paused_until = given.paused_until.as_ref();
    let paused_until = paused_until.filter(|_| names(Field::PausedUntil));
    let name = Field::PausedUntil.name();
    let paused_until = parse_optional_instant(paused_until, name, violations);
    let visit_types = match names(Field::VisitTypes) {
        true => parse_visit_types(&given.visit_types, violations),
        false => BTreeMap::new(),
    };
    Settings {
        general,
        send_time,
        letter_until_age,
        guardian_until_age,
        move_deadline_hours,
        paused_until,
        visit_types,
    }
}

/// Parses the settings that may differ by visit type, as far as they are named.
fn parse_by_visit_type(
    given: &v1::VisitTypeSettings,
    names: impl Fn(Field) -> bool,
    violations: &mut Violations,
) -> VisitTypeSettings {
    let mut number = |field: Field, given, range| match names(field) {
        true => parse_number(field, given, range, violations),
        false => None,
    };
    let gap_days = given.reminder_gap_days;
    VisitTypeSettings {
        lead_days: number(Field::LeadDays, given.lead_days, LEAD_DAYS),
        reminder_count: number(Field::ReminderCount, given.reminder_count, REMINDER_COUNT),
        reminder_gap_days: number(Field::ReminderGapDays, gap_days, STEP_DAYS),
        no_response_days: number(Field::NoResponseDays, given.no_response_days, STEP_DAYS),
        guarantee_days: number(Field::GuaranteeDays, given.guarantee_days, GUARANTEE_DAYS),
    }
}

fn parse_number(
    field: Field,
    given: Option<i32>,
    range: RangeInclusive<i32>,
    violations: &mut Violations,
) -> Option<u32> {
    let given = given?;
    if !range.contains(&given) {
        let description = format!("must be {} to {}", range.start(), range.end());
        violations.add(field.name(), description);
    }
    u32::try_from(given).ok()
}

fn parse_send_clock(clock: &str, violations: &mut Violations) -> Option<NaiveTime> {
    let time = parse_time_of_day(clock).filter(|time| RegionPolicy::may_send_at(*time));
    if time.is_none() {
        let description = "must be HH:MM, 06:00 to 22:00";
        violations.add(Field::SendClock.name(), description);
    }
    time
}

fn parse_visit_types(
    given: &[v1::VisitTypeSettings],
    violations: &mut Violations,
) -> BTreeMap<String, VisitTypeSettings> {
    let mut parsed = BTreeMap::new();
    if given.len() > VISIT_TYPES_MAX {
        violations.add("visit_types", format!("must be at most {VISIT_TYPES_MAX}"));
        return parsed;
    }
    for (i, given) in given.iter().enumerate() {
        violations.within(format!("visit_types[{i}]"), |violations| {
            let code = parse_identifier(&given.visit_type_code, "visit_type_code", violations);
            let settings = parse_by_visit_type(given, |_| true, violations);
            if let Some(code) = code
                && parsed.insert(code, settings).is_some()
            {
                violations.add("visit_type_code", "must occur once");
            }
        });
    }
    parsed
}

/// Renders the message in its normalised form, without its request id.
fn render_update(care_unit: &HsaId, command: &UpdateSettings) -> v1::UpdateCareUnitSettingsRequest {
    let paths = command.fields.iter().map(|field| field.name().to_owned());
    v1::UpdateCareUnitSettingsRequest {
        care_unit_settings: Some(v1::CareUnitSettings {
            name: settings_name(care_unit),
            ..render_settings(&command.given)
        }),
        update_mask: Some(FieldMask {
            paths: paths.collect(),
        }),
        request_id: String::new(),
        etag: command.etag.clone(),
    }
}

/// Renders the settings of a care unit, with what is in force over those of the region.
pub fn render(stored: &CareUnitSettings, region: RegionPolicy) -> v1::CareUnitSettings {
    let policy = UnitPolicy::of(region, Some(&stored.settings));
    let mut message = render_settings(&stored.settings);
    for visit_type in &mut message.visit_types {
        let effective = render_effective(&policy, &visit_type.visit_type_code);
        visit_type.effective = Some(effective);
    }
    v1::CareUnitSettings {
        name: settings_name(&stored.care_unit),
        // No visit type has the empty code.
        effective: Some(render_effective(&policy, "")),
        etag: stored.etag(),
        update_time: stored.updated_at.map(render_instant),
        ..message
    }
}

/// Renders settings as they are set.
fn render_settings(settings: &Settings) -> v1::CareUnitSettings {
    let general = render_by_visit_type("", &settings.general);
    let visit_types = settings.visit_types.iter();
    v1::CareUnitSettings {
        lead_days: general.lead_days,
        reminder_count: general.reminder_count,
        reminder_gap_days: general.reminder_gap_days,
        no_response_days: general.no_response_days,
        guarantee_days: general.guarantee_days,
        send_clock: settings.send_time.map(render_clock),
        letter_until_age: settings.letter_until_age.map(render_number),
        guardian_until_age: settings.guardian_until_age.map(render_number),
        move_deadline_hours: settings.move_deadline_hours.map(render_number),
        paused_until: settings.paused_until.map(render_instant),
        visit_types: visit_types
            .map(|(code, settings)| render_by_visit_type(code, settings))
            .collect(),
        ..v1::CareUnitSettings::default()
    }
}

/// Renders the settings that may differ by visit type, as they are set for one.
fn render_by_visit_type(code: &str, settings: &VisitTypeSettings) -> v1::VisitTypeSettings {
    v1::VisitTypeSettings {
        visit_type_code: code.to_owned(),
        lead_days: settings.lead_days.map(render_number),
        reminder_count: settings.reminder_count.map(render_number),
        reminder_gap_days: settings.reminder_gap_days.map(render_number),
        no_response_days: settings.no_response_days.map(render_number),
        guarantee_days: settings.guarantee_days.map(render_number),
        effective: None,
    }
}

fn render_effective(policy: &UnitPolicy<'_>, visit_type_code: &str) -> v1::EffectiveSettings {
    v1::EffectiveSettings {
        schedule: Some(render_schedule(&policy.schedule(visit_type_code))),
        guarantee_days: render_number(policy.guarantee_days(visit_type_code)),
        letter_until_age: render_number(policy.ages().letter_until_age),
        guardian_until_age: render_number(policy.ages().guardian_until_age),
        move_deadline_hours: render_number(policy.move_deadline_hours()),
    }
}

/// Renders the schedule of a round.
pub(super) fn render_schedule(schedule: &Schedule) -> v1::Schedule {
    v1::Schedule {
        lead_days: render_number(schedule.lead_days),
        reminder_count: render_number(schedule.reminder_count),
        reminder_gap_days: render_number(schedule.reminder_gap_days),
        no_response_days: render_number(schedule.no_response_days),
        send_clock: render_clock(schedule.send_time),
    }
}

fn render_number(number: u32) -> i32 {
    i32::try_from(number).expect("settings have ranges far below")
}

fn render_clock(time: NaiveTime) -> String {
    time.format("%H:%M").to_string()
}

#[cfg(test)]
mod tests;
