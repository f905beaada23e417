//! EvaluateSlots: which times a patient may be offered, and the first reason why not.

use care_invitation::contract::v1;
use care_invitation::contract::v1::SlotVerdict::{
    self, Offered, OutsidePeriod, Past, Performer, RequestClosed, TimeOfDay, TooShort, Weekday,
};
use care_invitation::contract::v1::record_patient_contact_request::Outcome;
use tonic::{Code, Status};

use super::calls::{contact, contacted};
use super::{NOBODY, NOW, SILENCE_ENDS, booking, created, record, requested, silent};
use crate::harness::{Harness, bad_fields, refusal, within};
use crate::make;

const PERFORMER: &str = "SE2321000131-P1";

fn slot(start: &str, end: &str, performer_id: &str) -> v1::Slot {
    v1::Slot {
        slot_id: String::new(),
        start_time: Some(make::wire_at(start)),
        end_time: Some(make::wire_at(end)),
        performer_id: performer_id.into(),
    }
}

async fn evaluated(
    harness: &Harness,
    name: &str,
    slots: Vec<v1::Slot>,
) -> Result<Vec<SlotVerdict>, Status> {
    let call = v1::EvaluateSlotsRequest {
        name: name.into(),
        slots,
    };
    let answer = within(harness.requests().evaluate_slots(call)).await?;
    Ok(answer.into_inner().verdicts().collect())
}

/// A form that allows Mondays and Tuesdays of three weeks, 08:00 to 12:00, half an hour, one
/// performer.
fn narrow() -> v1::BookingRequest {
    let mut form = requested("2026-03-09", "2026-03-31");
    form.constraints = Some(v1::BookingConstraints {
        weekdays: vec![v1::DayOfWeek::Monday.into(), v1::DayOfWeek::Tuesday.into()],
        time_windows: vec![v1::TimeWindow {
            start_clock: "08:00".into(),
            end_clock: "12:00".into(),
        }],
        duration_minutes: 30,
        performer_ids: vec![PERFORMER.into()],
        ..make::wire_constraints("2026-03-09", "2026-03-31")
    });
    form
}

#[tokio::test]
async fn each_slot_has_its_verdict_in_the_order_given_and_the_first_reason_counts() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, narrow()).await;
    harness.advance("2026-03-10T08:00:00Z");
    const P2: &str = "SE2321000131-P2";
    // Until 29 March local time is one hour ahead, from then on two.
    let rows = [
        // The example of the rules: 11:30–12:00 is offered, 11:45–12:15 is not.
        (
            "2026-03-16T10:30:00Z",
            "2026-03-16T11:00:00Z",
            PERFORMER,
            Offered,
        ),
        (
            "2026-03-16T10:45:00Z",
            "2026-03-16T11:15:00Z",
            PERFORMER,
            TimeOfDay,
        ),
        (
            "2026-03-30T09:30:00Z",
            "2026-03-30T10:00:00Z",
            PERFORMER,
            Offered,
        ),
        (
            "2026-03-30T10:30:00Z",
            "2026-03-30T11:00:00Z",
            PERFORMER,
            TimeOfDay,
        ),
        (
            "2026-03-16T07:00:00Z",
            "2026-03-16T11:00:00Z",
            PERFORMER,
            Offered,
        ),
        (
            "2026-03-16T06:59:59Z",
            "2026-03-16T11:00:00Z",
            PERFORMER,
            TimeOfDay,
        ),
        (
            "2026-03-16T07:00:00Z",
            "2026-03-16T11:00:01Z",
            PERFORMER,
            TimeOfDay,
        ),
        // From now on.
        (
            "2026-03-10T08:00:00Z",
            "2026-03-10T08:30:00Z",
            PERFORMER,
            Offered,
        ),
        (
            "2026-03-10T07:59:59Z",
            "2026-03-10T08:30:00Z",
            PERFORMER,
            Past,
        ),
        // Each row breaks what its verdict says and all that comes after.
        ("2026-03-01T03:00:00Z", "2026-03-01T03:01:00Z", "", Past),
        (
            "2026-04-01T03:00:00Z",
            "2026-04-01T03:01:00Z",
            "",
            OutsidePeriod,
        ),
        ("2026-03-18T03:00:00Z", "2026-03-18T03:01:00Z", "", Weekday),
        (
            "2026-03-17T03:00:00Z",
            "2026-03-17T03:01:00Z",
            "",
            TimeOfDay,
        ),
        ("2026-03-17T08:00:00Z", "2026-03-17T08:29:59Z", "", TooShort),
        (
            "2026-03-17T08:00:00Z",
            "2026-03-17T08:30:00Z",
            "",
            Performer,
        ),
        (
            "2026-03-17T08:00:00Z",
            "2026-03-17T08:30:00Z",
            P2,
            Performer,
        ),
        (
            "2026-03-17T08:00:00Z",
            "2026-03-17T08:30:00Z",
            "se2321000131-p1",
            Offered,
        ),
        // The day is the local one: midnight comes an hour or two before.
        (
            "2026-03-31T21:59:59Z",
            "2026-03-31T22:30:00Z",
            PERFORMER,
            TimeOfDay,
        ),
        (
            "2026-03-31T22:00:00Z",
            "2026-03-31T22:30:00Z",
            PERFORMER,
            OutsidePeriod,
        ),
        (
            "2026-03-15T22:59:59Z",
            "2026-03-15T23:30:00Z",
            PERFORMER,
            Weekday,
        ),
        (
            "2026-03-15T23:00:00Z",
            "2026-03-15T23:30:00Z",
            PERFORMER,
            TimeOfDay,
        ),
    ];
    let slots = rows.iter().map(|row| slot(row.0, row.1, row.2)).collect();
    let verdicts = evaluated(&harness, &request.name, slots)
        .await
        .expect("verdicts");
    let expected: Vec<_> = rows.iter().map(|row| row.3).collect();
    for (row, verdict) in rows.iter().zip(&verdicts) {
        assert_eq!(*verdict, row.3, "{} {} {}", row.0, row.1, row.2);
    }
    assert_eq!(verdicts.len(), expected.len());
}

#[tokio::test]
async fn a_slot_lies_in_one_window_from_start_to_end_and_windows_that_touch_are_one() {
    let harness = Harness::start(NOW).await;
    let mut form = requested("2026-03-09", "2026-03-27");
    let window = |start: &str, end: &str| v1::TimeWindow {
        start_clock: start.into(),
        end_clock: end.into(),
    };
    let constraints = form.constraints.as_mut().expect("constraints");
    let windows = vec![
        window("12:00", "17:00"),
        window("08:00", "10:00"),
        window("10:00", "12:00"),
        window("17:01", "18:00"),
        window("22:00", "24:00"),
        window("00:00", "01:00"),
    ];
    constraints.time_windows = windows.clone();
    let request = created(&harness, form).await;
    // They are stored and answered as given.
    let stored = request.constraints.as_ref().expect("constraints");
    assert_eq!(stored.time_windows, windows);
    for (start, end, verdict) in [
        ("2026-03-09T07:00:00Z", "2026-03-09T09:00:00Z", Offered),
        ("2026-03-09T09:00:00Z", "2026-03-09T11:00:00Z", Offered),
        ("2026-03-09T08:45:00Z", "2026-03-09T09:15:00Z", Offered),
        // The example of the rules: 11:45–12:15.
        ("2026-03-09T10:45:00Z", "2026-03-09T11:15:00Z", Offered),
        ("2026-03-09T07:00:00Z", "2026-03-09T16:00:00Z", Offered),
        ("2026-03-09T06:59:59Z", "2026-03-09T16:00:00Z", TimeOfDay),
        ("2026-03-09T07:00:00Z", "2026-03-09T16:00:01Z", TimeOfDay),
        ("2026-03-09T15:30:00Z", "2026-03-09T16:30:00Z", TimeOfDay),
        // A window ends with its day.
        ("2026-03-09T22:30:00Z", "2026-03-09T23:30:00Z", TimeOfDay),
        ("2026-03-09T22:00:00Z", "2026-03-09T23:00:00Z", Offered),
        ("2026-03-09T22:00:00Z", "2026-03-09T23:00:01Z", TimeOfDay),
    ] {
        let slots = vec![slot(start, end, "")];
        let verdicts = evaluated(&harness, &request.name, slots).await;
        assert_eq!(verdicts.expect("a verdict"), [verdict], "{start} {end}");
    }
}

#[tokio::test]
async fn without_limits_any_time_in_the_period_is_offered() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, requested("2026-03-02", "2026-03-08")).await;
    let rows = [
        (NOW, "2026-03-02T09:00:01Z", Offered),
        ("2026-03-08T22:59:59Z", "2026-03-10T09:00:00Z", Offered),
        (
            "2026-03-08T23:00:00Z",
            "2026-03-08T23:30:00Z",
            OutsidePeriod,
        ),
    ];
    for (start, end, verdict) in rows {
        let slots = vec![slot(start, end, "")];
        let verdicts = evaluated(&harness, &request.name, slots).await;
        assert_eq!(verdicts.expect("a verdict"), [verdict], "{start}");
    }
}

#[tokio::test]
async fn a_request_is_offered_times_while_it_is_open_and_has_not_expired() {
    for (row, verdict) in [
        ("requested", Offered),
        ("invited", Offered),
        ("held", Offered),
        ("no response", Offered),
        ("booked", RequestClosed),
        ("declined", RequestClosed),
        ("cancelled", RequestClosed),
        ("expired", RequestClosed),
        ("expired and never invited", RequestClosed),
    ] {
        let harness = Harness::start(NOW).await;
        let (first, last) = ("2026-05-18", "2026-06-12");
        let name = match row {
            "no response" => silent(&harness).await.name,
            "requested" | "expired and never invited" => {
                created(&harness, requested(first, last)).await.name
            }
            _ => created(&harness, make::wire_form(first, last)).await.name,
        };
        match row {
            "held" => drop(
                contacted(&harness, contact(&name, Outcome::CallBack))
                    .await
                    .expect(row),
            ),
            "declined" => {
                drop(
                    contacted(&harness, contact(&name, Outcome::Declined))
                        .await
                        .expect(row),
                );
            }
            "cancelled" => drop(harness.cancel(make::wire_cancel(&name)).await.expect(row)),
            "booked" => {
                let visit = booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
                harness.book(record(&name, visit)).await.expect(row);
            }
            "no response" => harness.advance(SILENCE_ENDS),
            "expired" | "expired and never invited" => harness.advance("2026-06-12T22:00:00Z"),
            _ => {}
        }
        let slots = vec![slot("2026-05-19T08:00:00Z", "2026-05-19T08:30:00Z", "")];
        let verdicts = evaluated(&harness, &name, slots.clone()).await;
        assert_eq!(verdicts.expect("a verdict"), [verdict], "{row}");
        if row == "requested" {
            // Until the last moment, when all its slots are past.
            harness.advance("2026-06-12T21:59:59Z");
            let verdicts = evaluated(&harness, &name, slots).await;
            assert_eq!(verdicts.expect("a verdict"), [Past]);
        }
    }
}

#[tokio::test]
async fn what_is_offered_to_the_patient_can_be_booked_by_the_patient_and_nothing_else() {
    for (start, end) in [
        ("2026-03-16T10:30:00Z", "2026-03-16T11:00:00Z"),
        ("2026-03-16T10:45:00Z", "2026-03-16T11:15:00Z"),
        ("2026-03-18T10:30:00Z", "2026-03-18T11:00:00Z"),
    ] {
        let harness = Harness::start(NOW).await;
        let form = v1::BookingRequest {
            invitation: true,
            ..narrow()
        };
        let request = created(&harness, form).await;
        let slots = vec![slot(start, end, PERFORMER)];
        let verdicts = evaluated(&harness, &request.name, slots)
            .await
            .expect("a verdict");
        let visit = v1::Booking {
            source: v1::BookingSource::Patient.into(),
            performer_id: PERFORMER.into(),
            ..booking("B-1", start, end)
        };
        let booked = harness.book(record(&request.name, visit)).await;
        assert_eq!(booked.is_ok(), verdicts == [Offered], "{start}");
    }
}

#[tokio::test]
async fn a_call_holds_1_to_1000_slots_of_a_request_that_exists() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, requested("2026-05-18", "2026-06-12")).await;
    let good = || slot("2026-05-19T08:00:00Z", "2026-05-19T08:30:00Z", "");
    for count in [0, 1_001] {
        let status = evaluated(&harness, &request.name, vec![good(); count]).await;
        assert_eq!(
            bad_fields(&status.expect_err("a number")),
            ["slots"],
            "{count}"
        );
    }
    let verdicts = evaluated(&harness, &request.name, vec![good(); 1_000]).await;
    assert_eq!(verdicts.expect("verdicts"), vec![Offered; 1_000]);
    let status = evaluated(&harness, NOBODY, vec![good()])
        .await
        .expect_err("nobody");
    assert_eq!(
        refusal(&status),
        (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned())
    );

    let bad = v1::Slot {
        slot_id: "x".repeat(65),
        start_time: None,
        end_time: good().end_time,
        performer_id: "nobody".into(),
    };
    let backwards = slot("2026-05-19T08:00:00Z", "2026-05-19T08:00:00Z", "");
    let status = evaluated(&harness, &request.name, vec![good(), bad, backwards]).await;
    let mut fields = bad_fields(&status.expect_err("bad slots"));
    fields.sort();
    let expected = [
        "slots[1].performer_id",
        "slots[1].slot_id",
        "slots[1].start_time",
        "slots[2].end_time",
    ];
    assert_eq!(fields, expected);
}
