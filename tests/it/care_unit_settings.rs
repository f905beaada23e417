//! The settings of a care unit: how they are set, and what they do to requests.

mod ages;
mod pause;

use std::collections::BTreeMap;

use care_invitation::clock::Clock;
use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::notification::State as MessageState;
use care_invitation::grpc::middleware::Limits;
use sea_orm::{ConnectionTrait, Database};
use tonic::{Code, Response, Status};

use crate::backend::{Backend, connect, somebody_waits};
use crate::harness::{Harness, bad_fields, refusal, within};
use crate::logged::Log;
use crate::make::{self, at, wire_at};

const NOW: &str = "2026-03-02T09:00:00Z";

/// Name of the settings of the tests' care unit.
pub fn settings_name() -> String {
    format!("{}/settings", make::wire_unit())
}

/// The call that sets these settings, under an id of its own.
pub fn update(paths: &[&str], settings: v1::CareUnitSettings) -> v1::UpdateCareUnitSettingsRequest {
    v1::UpdateCareUnitSettingsRequest {
        care_unit_settings: Some(v1::CareUnitSettings {
            name: settings_name(),
            ..settings
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|it| (*it).to_owned()).collect(),
        }),
        request_id: make::request_id(),
        etag: String::new(),
    }
}

pub async fn set(
    harness: &Harness,
    call: v1::UpdateCareUnitSettingsRequest,
) -> Result<v1::CareUnitSettings, Status> {
    let answer = within(harness.settings().update_care_unit_settings(call)).await?;
    let settings = answer.into_inner().care_unit_settings;
    Ok(settings.expect("the settings"))
}

async fn get(harness: &Harness) -> v1::CareUnitSettings {
    let name = settings_name();
    let call = v1::GetCareUnitSettingsRequest { name };
    let answer = within(harness.settings().get_care_unit_settings(call)).await;
    let settings = answer.expect("answered").into_inner().care_unit_settings;
    settings.expect("the settings")
}

/// Sets the pause of the care unit, or lifts it.
pub async fn pause(harness: &Harness, until: Option<&str>) {
    let set = set(harness, paused(until)).await;
    assert_eq!(set.expect("set").paused_until, until.map(wire_at));
}

/// The call that sets the pause, or lifts it.
fn paused(until: Option<&str>) -> v1::UpdateCareUnitSettingsRequest {
    let settings = v1::CareUnitSettings {
        paused_until: until.map(wire_at),
        ..Default::default()
    };
    update(&["paused_until"], settings)
}

/// The schedule of the worked example.
fn worked() -> v1::CareUnitSettings {
    v1::CareUnitSettings {
        lead_days: Some(28),
        reminder_count: Some(1),
        reminder_gap_days: Some(7),
        no_response_days: Some(7),
        ..Default::default()
    }
}

const SCHEDULE: [&str; 4] = [
    "lead_days",
    "reminder_count",
    "reminder_gap_days",
    "no_response_days",
];

fn invitation(request: &v1::BookingRequest) -> &v1::CareInvitation {
    request.care_invitation.as_ref().expect("invited")
}

/// When each message of a request is due.
fn due_times(request: &v1::BookingRequest) -> Vec<String> {
    let messages = invitation(request).notifications.iter();
    let due = messages.map(|it| it.due_time.expect("due").to_string());
    due.collect()
}

/// An invitation to a visit from a day in May, for a referral of its own.
fn may(number: usize) -> v1::CreateBookingRequestRequest {
    make::wire_create(v1::BookingRequest {
        origin: Some(make::wire_referral(&format!("R-{number}"))),
        ..make::wire_form("2026-05-18", "2026-06-12")
    })
}

#[tokio::test]
async fn a_care_unit_without_settings_inherits_all_and_keeps_the_schedule_of_always() {
    let harness = Harness::start(NOW).await;
    let none = get(&harness).await;
    let effective = none.effective.clone().expect("in force");
    let expected = v1::CareUnitSettings {
        name: settings_name(),
        effective: Some(effective.clone()),
        etag: "r0".into(),
        ..Default::default()
    };
    assert_eq!(none, expected);
    assert_eq!(effective.guarantee_days, 90);
    let created = harness.create(may(1)).await.expect("created");
    assert_eq!(invitation(&created).schedule, effective.schedule);
    assert_eq!(
        due_times(&created),
        [
            "2026-04-06T07:00:00Z",
            "2026-04-20T07:00:00Z",
            "2026-05-04T07:00:00Z"
        ]
    );
}

/// The worked example, lived through to NO_RESPONSE.
#[tokio::test]
async fn a_round_goes_by_the_schedule_of_its_care_unit() {
    let harness = Harness::start(NOW).await;
    set(&harness, update(&SCHEDULE, worked()))
        .await
        .expect("set");
    let name = harness.create(may(1)).await.expect("created").name;
    let days = ["2026-04-20T07:00:00Z", "2026-04-27T07:00:00Z"];
    let silent = "2026-05-04T07:00:00Z";
    for (sent, day) in days.iter().enumerate() {
        let request = harness.get(&name).await.expect("found");
        assert_eq!(due_times(&request), days, "after {sent}");
        assert_eq!(invitation(&request).no_response_time, None);
        harness.advance(day);
        assert_eq!(harness.hand_over_due().await.len(), 1);
    }
    let request = harness.get(&name).await.expect("found");
    let shown = invitation(&request).no_response_time;
    assert_eq!(shown, Some(wire_at(silent)));
    assert_eq!(request.state(), State::Invited);
    harness.advance(silent);
    let request = harness.get(&name).await.expect("found");
    assert_eq!(request.state(), State::NoResponse);
}

#[tokio::test]
async fn each_setting_of_the_schedule_moves_what_it_says() {
    let by_type = |settings: v1::VisitTypeSettings| v1::CareUnitSettings {
        visit_types: vec![v1::VisitTypeSettings {
            visit_type_code: "ONH-NY".into(),
            ..settings
        }],
        ..worked()
    };
    let all = [&SCHEDULE[..], &["send_clock", "visit_types"]].concat();
    for (settings, due) in [
        (
            worked(),
            vec!["2026-04-20T07:00:00Z", "2026-04-27T07:00:00Z"],
        ),
        (
            v1::CareUnitSettings {
                reminder_count: Some(0),
                send_clock: Some("06:30".into()),
                ..worked()
            },
            vec!["2026-04-20T04:30:00Z"],
        ),
        // Another type has other settings, and this one's win where it has some.
        (
            by_type(v1::VisitTypeSettings {
                lead_days: Some(0),
                ..Default::default()
            }),
            vec!["2026-05-18T07:00:00Z", "2026-05-25T07:00:00Z"],
        ),
        (
            by_type(v1::VisitTypeSettings {
                reminder_count: Some(3),
                reminder_gap_days: Some(1),
                ..Default::default()
            }),
            vec![
                "2026-04-20T07:00:00Z",
                "2026-04-21T07:00:00Z",
                "2026-04-22T07:00:00Z",
                "2026-04-23T07:00:00Z",
            ],
        ),
    ] {
        let harness = Harness::start(NOW).await;
        set(&harness, update(&all, settings.clone()))
            .await
            .expect("set");
        let call = may(1);
        let preview = v1::PreviewNotificationsRequest {
            parent: call.parent.clone(),
            booking_request: call.booking_request.clone(),
        };
        let preview = within(harness.requests().preview_notifications(preview)).await;
        let preview = preview.expect("answered").into_inner().notifications;
        let preview: Vec<_> = preview
            .iter()
            .map(|it| it.due_time.expect("due").to_string())
            .collect();
        assert_eq!(preview, due, "{settings:?}");
        let created = harness.create(call).await.expect("created");
        assert_eq!(due_times(&created), due, "{settings:?}");
    }
}

#[tokio::test]
async fn later_settings_touch_new_rounds_only() {
    let harness = Harness::start(NOW).await;
    let name = harness.create(may(1)).await.expect("created").name;
    let before = harness.get(&name).await.expect("found");
    set(&harness, update(&SCHEDULE, worked()))
        .await
        .expect("set");
    assert_eq!(harness.get(&name).await.expect("found"), before);
    harness.advance("2026-04-06T07:00:00Z");
    assert_eq!(harness.hand_over_due().await.len(), 1);
    let request = harness.get(&name).await.expect("found");
    assert_eq!(
        due_times(&request)[1..],
        ["2026-04-20T07:00:00Z", "2026-05-04T07:00:00Z"]
    );

    // The visit is booked and cancelled, and the patient invited again.
    let booked = harness.book(make::wire_booking(&name, "2026-05-20T08:00:00Z"));
    booked.await.expect("booked");
    harness
        .invite(make::wire_invite(&name))
        .await
        .expect("invited");
    let request = harness.get(&name).await.expect("found");
    let schedule = invitation(&request).schedule.clone().expect("a schedule");
    assert_eq!((schedule.lead_days, schedule.reminder_count), (28, 1));
    let to_come = due_times(&request);
    let to_come = &to_come[to_come.len() - 2..];
    assert_eq!(to_come, ["2026-04-20T07:00:00Z", "2026-04-27T07:00:00Z"]);
}

#[tokio::test]
async fn the_guarantee_and_the_time_to_move_a_visit_are_the_care_units() {
    let harness = Harness::start(NOW).await;
    let settings = v1::CareUnitSettings {
        guarantee_days: Some(30),
        move_deadline_hours: Some(0),
        ..Default::default()
    };
    let paths = ["guarantee_days", "move_deadline_hours"];
    let origin = v1::booking_request::Origin::Referral(v1::Referral {
        referral_id: "R-9".into(),
        decision_date: "2026-03-01".into(),
    });
    let create = |number: usize| {
        let mut call = may(number);
        let form = call.booking_request.as_mut().expect("given");
        form.origin = Some(origin.clone());
        form.constraints = Some(make::wire_constraints("2026-05-19", "2026-06-12"));
        form.visit_type.as_mut().expect("given").code = format!("T-{number}");
        call
    };
    let before = harness.create(create(1)).await.expect("created");
    assert_eq!(before.care_guarantee_date, "2026-05-30");
    let name = before.name;
    let start = "2026-05-20T08:00:00Z";
    let booked = harness.book(make::wire_booking(&name, start));
    booked.await.expect("booked");
    harness.advance("2026-05-19T09:00:00Z");
    let moved = || v1::RecordBookingRequest {
        request_id: make::request_id(),
        booking: Some(v1::Booking {
            source: v1::BookingSource::Patient.into(),
            override_reason: String::new(),
            ..make::wire_booking(&name, "2026-05-21T08:00:00Z")
                .booking
                .expect("given")
        }),
        ..make::wire_booking(&name, start)
    };
    let late = harness.book(moved()).await.expect_err("too late");
    assert_eq!(
        refusal(&late),
        (Code::FailedPrecondition, "TOO_LATE".into())
    );
    set(&harness, update(&paths, settings)).await.expect("set");
    harness.book(moved()).await.expect("in time");
    let after = harness.create(create(2)).await.expect("created");
    assert_eq!(after.care_guarantee_date, "2026-03-31");
    let before = harness.get(&name).await.expect("found");
    assert_eq!(before.care_guarantee_date, "2026-05-30");
}

fn is_replay(response: &Response<v1::UpdateCareUnitSettingsResponse>) -> bool {
    response.metadata().get("idempotent-replay").is_some()
}

#[tokio::test]
async fn an_update_changes_what_its_mask_names_and_a_repeat_changes_nothing() {
    let harness = Harness::start(NOW).await;
    let first = update(&SCHEDULE, worked());
    let answer = within(harness.settings().update_care_unit_settings(first.clone())).await;
    assert!(!is_replay(&answer.expect("set")));
    let after = get(&harness).await;
    assert_eq!((after.lead_days, &*after.etag), (Some(28), "r1"));
    assert_eq!(after.update_time, Some(wire_at(NOW)));

    harness.advance("2026-03-02T10:00:00Z");
    let cleared = update(&["lead_days"], v1::CareUnitSettings::default());
    let cleared = set(&harness, cleared).await.expect("set");
    assert_eq!((cleared.lead_days, cleared.reminder_count), (None, Some(1)));
    let schedule = cleared.effective.clone().expect("in force").schedule;
    assert_eq!(schedule.expect("in force").lead_days, 42);

    let answer = within(harness.settings().update_care_unit_settings(first.clone())).await;
    let answer = answer.expect("repeated");
    assert!(is_replay(&answer));
    assert_eq!(
        answer.into_inner().care_unit_settings,
        Some(cleared.clone())
    );
    let other = v1::UpdateCareUnitSettingsRequest {
        request_id: first.request_id,
        ..update(&["lead_days"], worked())
    };
    let reused = set(&harness, other).await.expect_err("another content");
    let reason = (Code::InvalidArgument, "REQUEST_ID_REUSED".into());
    assert_eq!(refusal(&reused), reason);

    let seen = |etag: &str| v1::UpdateCareUnitSettingsRequest {
        etag: etag.into(),
        ..update(&["lead_days"], v1::CareUnitSettings::default())
    };
    let old = set(&harness, seen("r1")).await.expect_err("an old etag");
    assert_eq!(refusal(&old), (Code::Aborted, "ETAG_MISMATCH".into()));
    assert_eq!(
        old.message(),
        "the settings have changed since they were read"
    );
    // Nothing changes, so the etag stays.
    assert_eq!(set(&harness, seen("r2")).await.expect("set"), cleared);
}

#[tokio::test]
async fn every_bad_value_is_named_and_nothing_is_set() {
    let harness = Harness::start(NOW).await;
    let bad = v1::CareUnitSettings {
        lead_days: Some(181),
        send_clock: Some("22:01".into()),
        visit_types: vec![v1::VisitTypeSettings::default()],
        ..Default::default()
    };
    let call = update(&["lead_days", "send_clock", "visit_types"], bad);
    let refused = set(&harness, call).await.expect_err("bad values");
    assert_eq!(
        bad_fields(&refused),
        [
            "care_unit_settings.lead_days",
            "care_unit_settings.send_clock",
            "care_unit_settings.visit_types[0].visit_type_code"
        ]
    );
    assert_eq!(get(&harness).await.etag, "r0");
}

#[tokio::test]
async fn a_change_is_one_line_of_the_log_with_its_actor() {
    let log = Log::default();
    let listening = log.listen();
    let harness = Harness::start(NOW).await;
    let call = update(&SCHEDULE, worked());
    set(&harness, call.clone()).await.expect("set");
    set(&harness, call).await.expect("repeated");
    set(&harness, update(&SCHEDULE, worked()))
        .await
        .expect("unchanged");
    let lines = log.lines("settings of the care unit changed");
    drop(listening);
    let [line] = &lines[..] else {
        panic!("one line, not {lines:?}");
    };
    for told in ["anonymous", make::CARE_UNIT, &SCHEDULE.join(",")] {
        assert!(line.contains(told), "{told} in {line}");
    }
}

/// The table is taken away: whatever reads it fails.
#[tokio::test]
async fn no_call_reads_the_settings_from_the_database() {
    let harness = Harness::start(NOW).await;
    set(&harness, update(&SCHEDULE, worked()))
        .await
        .expect("set");
    let database = Database::connect(harness.backend.url()).await;
    let database = database.expect("connected");
    let away = "ALTER TABLE care_unit_settings RENAME TO elsewhere";
    database.execute_unprepared(away).await.expect("renamed");

    let created = harness.create(may(1)).await.expect("created");
    let schedule = invitation(&created).schedule.clone().expect("a schedule");
    assert_eq!(schedule.lead_days, 28);
    harness.advance("2026-04-20T07:00:00Z");
    assert_eq!(harness.hand_over_due().await.len(), 1);
    let name = &created.name;
    let request = harness.get(name).await.expect("found");
    let states: BTreeMap<_, _> = invitation(&request)
        .notifications
        .iter()
        .map(|it| (it.due_time.expect("due").to_string(), it.state()))
        .collect();
    assert_eq!(states["2026-04-20T07:00:00Z"], MessageState::Sent);
    let booked = harness.book(make::wire_booking(name, "2026-05-20T08:00:00Z"));
    booked.await.expect("booked");
    let call = v1::GetCareUnitSettingsRequest {
        name: settings_name(),
    };
    let read = within(harness.settings().get_care_unit_settings(call)).await;
    assert_eq!(read.expect_err("this reads it").code(), Code::Internal);
    database.close().await.expect("closed");
}

/// The first try is committed after a batch has read the settings for its repeat, and before it looks for calls.
#[tokio::test]
async fn a_repeat_answers_the_settings_as_they_stand_when_its_first_try_ends_beside_it() {
    let Some(backend) = Backend::postgres().await else {
        return;
    };
    let (other, waiting) = (connect(&backend.url()).await, connect(&backend.url()).await);
    let execute = async |sql: &str| {
        let done = other.execute_unprepared(sql).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    };
    let harness = Harness::over(backend, Clock::sandbox(at(NOW)), Limits::default()).await;
    let call = update(&SCHEDULE, worked());
    let first = set(&harness, call.clone()).await.expect("set");
    for table in ["care_unit_settings", "idempotency_key"] {
        execute(&format!(
            "CREATE TEMPORARY TABLE kept_{table} AS SELECT * FROM {table}"
        ))
        .await;
        execute(&format!("DELETE FROM {table}")).await;
    }
    execute("BEGIN; LOCK TABLE idempotency_key IN ACCESS EXCLUSIVE MODE").await;
    let ends = async {
        somebody_waits(&waiting).await;
        for table in ["care_unit_settings", "idempotency_key"] {
            execute(&format!("INSERT INTO {table} SELECT * FROM kept_{table}")).await;
        }
        execute("COMMIT").await;
    };
    let (repeat, ()) = tokio::join!(set(&harness, call), within(ends));
    assert_eq!(repeat.expect("a repeat"), first);
}
