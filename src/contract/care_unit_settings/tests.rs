use super::*;
use crate::contract::tests::fields;
use uuid::Uuid;

fn full() -> v1::CareUnitSettings {
    v1::CareUnitSettings {
        name: "careUnits/SE2321000131-P1/settings".into(),
        lead_days: Some(0),
        reminder_count: Some(5),
        reminder_gap_days: Some(60),
        no_response_days: Some(1),
        guarantee_days: Some(365),
        send_clock: Some("06:00".into()),
        letter_until_age: Some(18),
        guardian_until_age: Some(0),
        move_deadline_hours: Some(336),
        paused_until: Some(prost_types::Timestamp {
            seconds: 1_782_864_000,
            nanos: 0,
        }),
        visit_types: vec![v1::VisitTypeSettings {
            visit_type_code: "ONH-NY".into(),
            lead_days: Some(180),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn all_paths() -> Vec<&'static str> {
    Field::ALL.map(Field::name).to_vec()
}

fn call(settings: v1::CareUnitSettings, paths: &[&str]) -> v1::UpdateCareUnitSettingsRequest {
    v1::UpdateCareUnitSettingsRequest {
        care_unit_settings: Some(settings),
        update_mask: Some(FieldMask {
            paths: paths.iter().map(|it| (*it).to_owned()).collect(),
        }),
        request_id: Uuid::from_u128(1).to_string(),
        etag: "r3".into(),
    }
}

#[test]
fn parsing_what_was_rendered_gives_the_same_command() {
    let parsed = parse_update(call(full(), &all_paths())).unwrap();
    let (care_unit, command) = &parsed.command;
    let mut rendered = render_update(care_unit, command);
    assert_eq!(rendered.care_unit_settings, Some(full()));
    rendered.request_id = parsed.request_id.to_string();
    let again = parse_update(rendered).unwrap();
    assert_eq!(again.content_hash, parsed.content_hash);
    assert_eq!(again.command.1.given, command.given);
}

#[test]
fn a_setting_that_is_not_named_is_not_looked_at() {
    let bad = v1::CareUnitSettings {
        lead_days: Some(181),
        send_clock: Some("9".into()),
        ..full()
    };
    let parsed = parse_update(call(bad, &["reminder_count"])).unwrap();
    let (_, command) = parsed.command;
    assert_eq!(command.fields, BTreeSet::from([Field::ReminderCount]));
    assert_eq!(command.given.general.reminder_count, Some(5));
    assert_eq!(command.given.general.lead_days, None);
}

#[test]
fn absent_and_zero_are_not_the_same() {
    let hash = |lead_days| {
        let settings = v1::CareUnitSettings {
            lead_days,
            ..full()
        };
        parse_update(call(settings, &["lead_days"]))
            .unwrap()
            .content_hash
    };
    assert_ne!(hash(None), hash(Some(0)));
    assert_eq!(hash(None), hash(None));
}

#[test]
fn each_bad_value_is_named_by_its_path() {
    let bad = v1::CareUnitSettings {
        name: "careUnits/SE2321000131-P1".into(),
        lead_days: Some(-1),
        reminder_count: Some(6),
        reminder_gap_days: Some(0),
        no_response_days: Some(61),
        guarantee_days: Some(0),
        send_clock: Some("22:01".into()),
        letter_until_age: Some(19),
        guardian_until_age: Some(-1),
        move_deadline_hours: Some(337),
        paused_until: Some(prost_types::Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        }),
        visit_types: vec![
            v1::VisitTypeSettings {
                visit_type_code: "A".into(),
                guarantee_days: Some(366),
                ..Default::default()
            },
            v1::VisitTypeSettings {
                visit_type_code: "A".into(),
                ..Default::default()
            },
            v1::VisitTypeSettings::default(),
        ],
        ..Default::default()
    };
    let message = v1::UpdateCareUnitSettingsRequest {
        request_id: String::new(),
        ..call(bad, &all_paths())
    };
    let inside = [
        "name",
        "lead_days",
        "reminder_count",
        "reminder_gap_days",
        "no_response_days",
        "guarantee_days",
        "letter_until_age",
        "guardian_until_age",
        "move_deadline_hours",
        "send_clock",
        "paused_until",
        "visit_types[0].guarantee_days",
        "visit_types[1].visit_type_code",
        "visit_types[2].visit_type_code",
    ];
    let mut expected = inside.map(|it| format!("care_unit_settings.{it}")).to_vec();
    expected.push("request_id".into());
    assert_eq!(fields(parse_update(message).unwrap_err()), expected);
}

#[test]
fn a_call_without_settings_or_with_another_mask_is_refused() {
    let found = |message| fields(parse_update(message).unwrap_err());
    let bare = v1::UpdateCareUnitSettingsRequest::default();
    assert_eq!(
        found(bare),
        ["care_unit_settings", "update_mask", "request_id"]
    );
    for path in ["*", "name", "effective", "visit_types.lead_days"] {
        let named = found(call(full(), &["lead_days", path]));
        assert_eq!(named, ["update_mask.paths[1]"]);
    }
    let many = v1::CareUnitSettings {
        visit_types: vec![v1::VisitTypeSettings::default(); VISIT_TYPES_MAX + 1],
        ..full()
    };
    assert_eq!(
        found(call(many, &["visit_types"])),
        ["care_unit_settings.visit_types"]
    );
}

#[test]
fn what_is_in_force_is_shown_beside_what_is_set() {
    let (care_unit, command) = parse_update(call(full(), &all_paths())).unwrap().command;
    let stored = CareUnitSettings {
        settings: command.given,
        revision: 7,
        ..CareUnitSettings::none(care_unit.clone())
    };
    let shown = render(&stored, RegionPolicy::default());
    assert_eq!((&*shown.etag, shown.lead_days), ("r7", Some(0)));
    let effective = shown.effective.unwrap();
    let schedule = effective.schedule.unwrap();
    assert_eq!((schedule.lead_days, effective.guarantee_days), (0, 365));
    let of_type = shown.visit_types[0].effective.clone().unwrap();
    let schedule = of_type.schedule.unwrap();
    assert_eq!((schedule.lead_days, schedule.reminder_gap_days), (180, 60));

    let shown = render(&CareUnitSettings::none(care_unit), RegionPolicy::default());
    assert_eq!((shown.lead_days, shown.update_time), (None, None));
    let effective = shown.effective.unwrap();
    let schedule = v1::Schedule {
        lead_days: 42,
        reminder_count: 2,
        reminder_gap_days: 14,
        no_response_days: 14,
        send_clock: "09:00".into(),
    };
    assert_eq!(effective.schedule, Some(schedule));
    let ages = (effective.letter_until_age, effective.guardian_until_age);
    assert_eq!((ages, effective.move_deadline_hours), ((0, 13), 24));
}
