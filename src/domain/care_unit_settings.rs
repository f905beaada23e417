//! The settings of care units: what each has set, what is in force, and the schedule that a round copies.
//!
//! A setting that is absent is inherited: that of a visit type from the care unit, that of the care unit from
//! the region. Zero is a value.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{Duration, NaiveTime};

use super::addressee::AgeLimits;
use super::calendar::Instant;
use super::hsa_id::HsaId;
use super::{Refusal, RegionPolicy};

/// Days before the start of the period on which the first notification falls due.
pub const LEAD_DAYS: u32 = 42;
/// Number of reminders in a round.
pub const REMINDER_COUNT: u32 = 2;
/// Days from one hand-over to the next reminder.
pub const REMINDER_GAP_DAYS: u32 = 14;
/// Days from the last hand-over of a round to NO_RESPONSE.
pub const NO_RESPONSE_DAYS: u32 = 14;
/// Hours before the start of a booked visit until which the patient may move it.
pub const MOVE_DEADLINE_HOURS: u32 = 24;

/// Maximum reminders in a round.
pub const REMINDER_COUNT_MAX: u32 = 5;
/// Maximum days of any step of a schedule: the longest lead.
pub const DAYS_MAX: u32 = 180;

/// Settings that may differ by visit type; one that is `None` is inherited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VisitTypeSettings {
    /// Days before the start of the period on which the first notification falls due, 0 to 180.
    pub lead_days: Option<u32>,
    /// Number of reminders, 0 to 5.
    pub reminder_count: Option<u32>,
    /// Days from one hand-over to the next reminder, 1 to 60.
    pub reminder_gap_days: Option<u32>,
    /// Days from the last hand-over to NO_RESPONSE, 1 to 60.
    pub no_response_days: Option<u32>,
    /// Days from the decision on a referral to the end of the care guarantee, 1 to 365.
    pub guarantee_days: Option<u32>,
}

/// Settings of a care unit as they are set; one that is `None` is inherited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Settings for visit types without their own.
    pub general: VisitTypeSettings,
    /// Local time of day at which planned notifications fall due, 06:00 to 22:00.
    pub send_time: Option<NaiveTime>,
    /// Age below which patients get letters, 0 to 18.
    pub letter_until_age: Option<u32>,
    /// Age below which the patient's guardians are addressed, 0 to 18.
    pub guardian_until_age: Option<u32>,
    /// Hours before the start of a booked visit until which the patient may move it, 0 to 336.
    pub move_deadline_hours: Option<u32>,
    /// Instant before which nothing of the care unit is leased or authorized.
    pub paused_until: Option<Instant>,
    /// Settings of visit types, by their codes.
    pub visit_types: BTreeMap<String, VisitTypeSettings>,
}

/// The settings of a care unit, whether or not any were ever set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CareUnitSettings {
    /// Care unit.
    pub care_unit: HsaId,
    /// Settings as they are set.
    pub settings: Settings,
    /// Number that grows by one at every change; 0 if there never was one.
    pub revision: i64,
    /// Time of the last change, if there was one.
    pub updated_at: Option<Instant>,
}

/// A field of the settings that can be changed on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// [`VisitTypeSettings::lead_days`].
    LeadDays,
    /// [`VisitTypeSettings::reminder_count`].
    ReminderCount,
    /// [`VisitTypeSettings::reminder_gap_days`].
    ReminderGapDays,
    /// [`VisitTypeSettings::no_response_days`].
    NoResponseDays,
    /// [`VisitTypeSettings::guarantee_days`].
    GuaranteeDays,
    /// [`Settings::send_time`].
    SendClock,
    /// [`Settings::letter_until_age`].
    LetterUntilAge,
    /// [`Settings::guardian_until_age`].
    GuardianUntilAge,
    /// [`Settings::move_deadline_hours`].
    MoveDeadlineHours,
    /// [`Settings::paused_until`].
    PausedUntil,
    /// [`Settings::visit_types`], all of them.
    VisitTypes,
}

impl Field {
    /// Every field, in the order of the contract.
    pub const ALL: [Self; 11] = [
        Self::LeadDays,
        Self::ReminderCount,
        Self::ReminderGapDays,
        Self::NoResponseDays,
        Self::GuaranteeDays,
        Self::SendClock,
        Self::LetterUntilAge,
        Self::GuardianUntilAge,
        Self::MoveDeadlineHours,
        Self::PausedUntil,
        Self::VisitTypes,
    ];

    /// Returns the name of the field in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::LeadDays => "lead_days",
            Self::ReminderCount => "reminder_count",
            Self::ReminderGapDays => "reminder_gap_days",
            Self::NoResponseDays => "no_response_days",
            Self::GuaranteeDays => "guarantee_days",
            Self::SendClock => "send_clock",
            Self::LetterUntilAge => "letter_until_age",
            Self::GuardianUntilAge => "guardian_until_age",
            Self::MoveDeadlineHours => "move_deadline_hours",
            Self::PausedUntil => "paused_until",
            Self::VisitTypes => "visit_types",
        }
    }
}

/// Command of the caller.
#[derive(Clone, Debug)]
pub struct UpdateSettings {
    /// Etag that the caller saw; empty if none.
    pub etag: String,
    /// Fields to change.
    pub fields: BTreeSet<Field>,
    /// New values of these fields; the others are not looked at.
    pub given: Settings,
}

/// Changes the settings of a care unit. The revision stays when nothing changes.
///
/// # Errors
///
/// [`Refusal::SettingsEtagMismatch`].
pub fn update(
    stored: &CareUnitSettings,
    command: &UpdateSettings,
    now: Instant,
) -> Result<CareUnitSettings, Refusal> {
    if !command.etag.is_empty() && command.etag != stored.etag() {
        return Err(Refusal::SettingsEtagMismatch);
    }
    let mut settings = stored.settings.clone();
    for field in &command.fields {
        settings.copy(*field, &command.given);
    }
    if settings == stored.settings {
        return Ok(stored.clone());
    }
    Ok(CareUnitSettings {
        care_unit: stored.care_unit.clone(),
        settings,
        revision: stored.revision + 1,
        updated_at: Some(now),
    })
}

impl CareUnitSettings {
    /// Returns the settings of a care unit that has set none.
    pub fn none(care_unit: HsaId) -> Self {
        Self {
            care_unit,
            settings: Settings::default(),
            revision: 0,
            updated_at: None,
        }
    }

    /// Returns the etag of the present revision.
    pub fn etag(&self) -> String {
        format!("r{}", self.revision)
    }
}

impl Settings {
    /// Copies one field of `given`.
    fn copy(&mut self, field: Field, given: &Self) {
        let general = &given.general;
        match field {
            Field::LeadDays => self.general.lead_days = general.lead_days,
            Field::ReminderCount => self.general.reminder_count = general.reminder_count,
            Field::ReminderGapDays => self.general.reminder_gap_days = general.reminder_gap_days,
            Field::NoResponseDays => self.general.no_response_days = general.no_response_days,
            Field::GuaranteeDays => self.general.guarantee_days = general.guarantee_days,
            Field::SendClock => self.send_time = given.send_time,
            Field::LetterUntilAge => self.letter_until_age = given.letter_until_age,
            Field::GuardianUntilAge => self.guardian_until_age = given.guardian_until_age,
            Field::MoveDeadlineHours => self.move_deadline_hours = given.move_deadline_hours,
            Field::PausedUntil => self.paused_until = given.paused_until,
            Field::VisitTypes => self.visit_types.clone_from(&given.visit_types),
        }
    }

    /// Returns the fields in which the settings differ from `before`.
    pub fn changed_since(&self, before: &Self) -> Vec<Field> {
        let differs = |field: &Field| {
            let mut copied = before.clone();
            copied.copy(*field, self);
            copied != *before
        };
        Field::ALL.into_iter().filter(differs).collect()
    }

    /// Returns whether nothing of the care unit is leased or authorized at `now`.
    pub fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }
}

/// The schedule of a round, copied into it when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Days before the start of the period on which the first notification falls due.
    pub lead_days: u32,
    /// Number of reminders.
    pub reminder_count: u32,
    /// Days from one hand-over to the next reminder.
    pub reminder_gap_days: u32,
    /// Days from the last hand-over to NO_RESPONSE.
    pub no_response_days: u32,
    /// Local time of day at which notifications fall due.
    pub send_time: NaiveTime,
}

impl Default for Schedule {
    fn default() -> Self {
        let region = RegionPolicy::default();
        UnitPolicy::of(region, None).schedule("")
    }
}

/// The settings of all care units that have set some, as they were at one moment. A clone is cheap.
#[derive(Clone, Debug, Default)]
pub struct UnitSettings(pub Arc<HashMap<HsaId, CareUnitSettings>>);

impl UnitSettings {
    /// Returns the care units that are paused at `now`, in order.
    pub fn paused_units(&self, now: Instant) -> Vec<HsaId> {
        let units = self.0.values();
        let paused = units.filter(|unit| unit.settings.is_paused(now));
        let mut paused: Vec<_> = paused.map(|unit| unit.care_unit.clone()).collect();
        paused.sort();
        paused
    }

    /// Returns the first instant after `now` at which a pause ends.
    pub fn next_pause_end(&self, now: Instant) -> Option<Instant> {
        let ends = self.0.values();
        let ends = ends.filter_map(|unit| unit.settings.paused_until);
        ends.filter(|end| now < *end).min()
    }
}

/// Everything that is set, by the region and by its care units. A clone is cheap.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Settings of the region, which care units inherit.
    pub region: RegionPolicy,
    /// Settings of the care units.
    pub units: UnitSettings,
}

impl Policy {
    /// Returns what is in force in a care unit.
    pub fn of(&self, care_unit: &HsaId) -> UnitPolicy<'_> {
        let stored = self.units.0.get(care_unit);
        UnitPolicy::of(self.region, stored.map(|it| &it.settings))
    }
}

/// The settings in force in a care unit.
#[derive(Clone, Copy, Debug)]
pub struct UnitPolicy<'a> {
    region: RegionPolicy,
    settings: Option<&'a Settings>,
}

impl<'a> UnitPolicy<'a> {
    /// Returns what is in force with these settings of a care unit.
    pub fn of(region: RegionPolicy, settings: Option<&'a Settings>) -> Self {
        Self { region, settings }
    }

    /// Returns a setting of the visit type if it has its own, else of the care unit.
    fn by_visit_type(
        &self,
        code: &str,
        setting: impl Fn(&VisitTypeSettings) -> Option<u32>,
    ) -> Option<u32> {
        let settings = self.settings?;
        let own = settings.visit_types.get(code).and_then(&setting);
        own.or_else(|| setting(&settings.general))
    }

    /// Returns the schedule of a round that begins now, for a visit type.
    pub fn schedule(&self, visit_type_code: &str) -> Schedule {
        let set = |setting: fn(&VisitTypeSettings) -> Option<u32>, default| {
            self.by_visit_type(visit_type_code, setting)
                .unwrap_or(default)
        };
        let send_time = self.settings.and_then(|it| it.send_time);
        Schedule {
            lead_days: set(|it| it.lead_days, LEAD_DAYS),
            reminder_count: set(|it| it.reminder_count, REMINDER_COUNT),
            reminder_gap_days: set(|it| it.reminder_gap_days, REMINDER_GAP_DAYS),
            no_response_days: set(|it| it.no_response_days, NO_RESPONSE_DAYS),
            send_time: send_time.unwrap_or(self.region.send_time),
        }
    }

    /// Returns the days from the decision on a referral to the end of the care guarantee, for a visit type.
    pub fn guarantee_days(&self, visit_type_code: &str) -> u32 {
        let set = self.by_visit_type(visit_type_code, |it| it.guarantee_days);
        set.unwrap_or(self.region.guarantee_days)
    }

    /// Returns the ages below which notifications go another way.
    pub fn ages(&self) -> AgeLimits {
        let letter = self.settings.and_then(|it| it.letter_until_age);
        let guardian = self.settings.and_then(|it| it.guardian_until_age);
        AgeLimits {
            letter_until_age: letter.unwrap_or(self.region.ages.letter_until_age),
            guardian_until_age: guardian.unwrap_or(self.region.ages.guardian_until_age),
        }
    }

    /// Returns the hours before the start of a booked visit until which the patient may move it.
    pub fn move_deadline_hours(&self) -> u32 {
        let set = self.settings.and_then(|it| it.move_deadline_hours);
        set.unwrap_or(MOVE_DEADLINE_HOURS)
    }

    /// Returns the time before the start of a booked visit until which the patient may move it.
    pub fn move_deadline(&self) -> Duration {
        Duration::hours(self.move_deadline_hours().into())
    }

    /// Returns whether nothing of the care unit is leased or authorized at `now`.
    pub fn is_paused(&self, now: Instant) -> bool {
        self.settings.is_some_and(|it| it.is_paused(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Instant {
        text.parse().expect("a test instant")
    }

    fn unit() -> HsaId {
        HsaId::parse("SE2321000131-P1").expect("an HSA-id")
    }

    fn all_set() -> Settings {
        Settings {
            general: VisitTypeSettings {
                lead_days: Some(0),
                reminder_count: Some(0),
                reminder_gap_days: Some(7),
                no_response_days: Some(8),
                guarantee_days: Some(30),
            },
            send_time: NaiveTime::from_hms_opt(6, 30, 0),
            letter_until_age: Some(18),
            guardian_until_age: Some(0),
            move_deadline_hours: Some(0),
            paused_until: Some(at("2026-07-01T00:00:00Z")),
            visit_types: BTreeMap::from([(
                "ONH-NY".to_owned(),
                VisitTypeSettings {
                    lead_days: Some(28),
                    ..VisitTypeSettings::default()
                },
            )]),
        }
    }

    #[test]
    fn what_is_absent_is_inherited_and_zero_is_a_value() {
        let region = RegionPolicy::default();
        let nothing = UnitPolicy::of(region, None);
        let all_set = all_set();
        let unit = UnitPolicy::of(region, Some(&all_set));
        let figures = |it: Schedule| {
            [
                it.lead_days,
                it.reminder_count,
                it.reminder_gap_days,
                it.no_response_days,
            ]
        };
        assert_eq!(figures(nothing.schedule("ONH-NY")), [42, 2, 14, 14]);
        assert_eq!(figures(unit.schedule("ONH-ATER")), [0, 0, 7, 8]);
        assert_eq!(figures(unit.schedule("ONH-NY")), [28, 0, 7, 8]);
        let others = |it: UnitPolicy<'_>| {
            [
                it.guarantee_days("ONH-NY"),
                it.ages().letter_until_age,
                it.ages().guardian_until_age,
                it.move_deadline_hours(),
            ]
        };
        assert_eq!(others(nothing), [90, 0, 13, 24]);
        assert_eq!(others(unit), [30, 18, 0, 0]);
        let clock = |it: UnitPolicy<'_>| it.schedule("").send_time.to_string();
        assert_eq!(
            [nothing, unit].map(clock),
            ["09:00:00".to_owned(), "06:30:00".to_owned()]
        );
    }

    #[test]
    fn a_pause_ends_at_its_instant() {
        let settings = all_set();
        assert!(settings.is_paused(at("2026-06-30T23:59:59Z")));
        assert!(!settings.is_paused(at("2026-07-01T00:00:00Z")));
        let mut stored = CareUnitSettings::none(unit());
        stored.settings = settings;
        let units = UnitSettings(Arc::new(HashMap::from([(unit(), stored)])));
        let policy = Policy {
            units: units.clone(),
            ..Policy::default()
        };
        let before = at("2026-06-01T00:00:00Z");
        let end = at("2026-07-01T00:00:00Z");
        assert!(policy.of(&unit()).is_paused(before));
        assert!(!policy.of(&unit()).is_paused(end));
        assert_eq!(units.paused_units(before), [unit()]);
        assert_eq!(units.next_pause_end(before), Some(end));
        assert!(units.paused_units(end).is_empty());
        assert_eq!(units.next_pause_end(end), None);
    }

    #[test]
    fn each_field_is_changed_by_its_name_alone_and_cleared_when_it_is_not_given() {
        let now = at("2026-03-02T09:00:00Z");
        let none = CareUnitSettings::none(unit());
        for field in Field::ALL {
            let command = |given| UpdateSettings {
                etag: String::new(),
                fields: BTreeSet::from([field]),
                given,
            };
            let set = update(&none, &command(all_set()), now).expect("set");
            assert_eq!(set.settings.changed_since(&none.settings), [field]);
            assert_eq!((set.revision, set.updated_at), (1, Some(now)));
            let again = update(&set, &command(all_set()), at("2026-03-03T09:00:00Z"));
            assert_eq!(again.as_ref(), Ok(&set), "nothing changes");
            let cleared = update(&set, &command(Settings::default()), now).expect("cleared");
            assert_eq!(
                (cleared.settings, cleared.revision),
                (none.settings.clone(), 2)
            );
        }
    }

    #[test]
    fn another_etag_is_refused() {
        let none = CareUnitSettings::none(unit());
        let command = |etag: &str| UpdateSettings {
            etag: etag.to_owned(),
            fields: BTreeSet::new(),
            given: Settings::default(),
        };
        let now = at("2026-03-02T09:00:00Z");
        assert!(update(&none, &command("r0"), now).is_ok());
        assert_eq!(
            update(&none, &command("r1"), now),
            Err(Refusal::SettingsEtagMismatch)
        );
    }
}
