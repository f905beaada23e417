//! EvaluateSlots: which times a patient may be offered, and the first reason why not.

use care_invitation::contract::v1;
use care_invitation::contract::v1::BookingSource;
use care_invitation::contract::v1::ContactOutcome as Outcome;
use care_invitation::contract::v1::SlotVerdict::{
    self, NotInvited, NotOpenYet, Offered, OutsidePeriod, Past, Performer, RequestClosed,
    TimeOfDay, TooLate, TooShort, Weekday,
};
use tonic::{Code, Status};

use super::calls::{contact, contacted};
use super::{NOBODY, NOW, SILENCE_ENDS, booking, created, record, requested, silent};
use crate::harness::{Harness, bad_fields, metadata, refusal, within};
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

async fn judged(
    harness: &Harness,
    name: &str,
    slots: Vec<v1::Slot>,
    source: BookingSource,
) -> Result<Vec<SlotVerdict>, Status> {
    let call = v1::EvaluateSlotsRequest {
        name: name.into(),
        slots,
        source: source.into(),
    };
    let answer = within(harness.requests().evaluate_slots(call)).await?;
    let slots = answer.into_inner().slots;
    Ok(slots.iter().map(v1::EvaluatedSlot::verdict).collect())
}

/// The verdicts for staff, who ask whether the constraints allow it.
async fn evaluated(
    harness: &Harness,
    name: &str,
    slots: Vec<v1::Slot>,
) -> Result<Vec<SlotVerdict>, Status> {
    judged(harness, name, slots, BookingSource::Staff).await
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

/// A Tuesday morning in the period of the requests below.
pub const FREE: (&str, &str) = ("2026-05-19T08:00:00Z", "2026-05-19T08:30:00Z");

/// Brings a request into the state that the row names; its name.
pub async fn brought(harness: &Harness, row: &str) -> String {
    let (first, last) = ("2026-04-13", "2026-06-12");
    let form = match row {
        "requested" | "expired and never invited" => requested(first, last),
        "not told yet" | "held and not told" => make::wire_form("2026-05-18", last),
        "no response" => return silent(harness).await.name,
        "booked directly" => v1::BookingRequest {
            booking: Some(booking(
                "B-1",
                "2026-05-20T08:00:00Z",
                "2026-05-20T08:30:00Z",
            )),
            constraints: None,
            ..requested(first, last)
        },
        _ => make::wire_form(first, last),
    };
    let name = created(harness, form).await.name;
    match row {
        "requested" | "booked directly" | "not told yet" | "expired and never invited" => {}
        "held and not told" => {
            let held = contacted(harness, contact(&name, Outcome::CallBack)).await;
            held.expect(row);
        }
        _ => assert_eq!(harness.lease_due().await.len(), 1, "{row}"),
    }
    let visit = booking("B-1", "2026-05-20T08:00:00Z", "2026-05-20T08:30:00Z");
    match row {
        "held" => drop(
            contacted(harness, contact(&name, Outcome::CallBack))
                .await
                .expect(row),
        ),
        "declined" => drop(
            contacted(harness, contact(&name, Outcome::Declined))
                .await
                .expect(row),
        ),
        "cancelled" => drop(harness.cancel(make::wire_cancel(&name)).await.expect(row)),
        "booked" | "booked, a day before" | "booked, less than a day before" => {
            harness.book(record(&name, visit)).await.expect(row);
        }
        _ => {}
    }
    name
}

/// When a row of the table below is judged.
pub fn moment(row: &str) -> &str {
    match row {
        "no response" => SILENCE_ENDS,
        "expired" | "expired and never invited" => "2026-06-12T22:00:00Z",
        "booked, a day before" => "2026-05-19T07:59:59Z",
        "booked, less than a day before" => "2026-05-19T08:00:00Z",
        _ => NOW,
    }
}

#[tokio::test]
async fn each_state_has_its_verdict_for_the_patient_and_for_staff() {
    for (row, patient, staff) in [
        ("requested", NotInvited, Offered),
        ("not told yet", NotOpenYet, Offered),
        ("held and not told", NotOpenYet, Offered),
        ("invited", Offered, Offered),
        ("held", Offered, Offered),
        ("no response", Offered, Offered),
        ("booked", Offered, Offered),
        ("booked directly", NotInvited, Offered),
        ("booked, a day before", Offered, Offered),
        ("booked, less than a day before", TooLate, Offered),
        ("declined", RequestClosed, Offered),
        ("cancelled", RequestClosed, RequestClosed),
        ("expired", RequestClosed, Past),
        ("expired and never invited", RequestClosed, Past),
    ] {
        for (source, verdict) in [
            (BookingSource::Patient, patient),
            (BookingSource::Staff, staff),
        ] {
            let harness = Harness::start(NOW).await;
            let name = brought(&harness, row).await;
            if harness.clock.now() < make::at(moment(row)) {
                harness.advance(moment(row));
            }
            let slots = || vec![slot(FREE.0, FREE.1, "")];
            let verdicts = judged(&harness, &name, slots(), source).await;
            assert_eq!(verdicts.expect("a verdict"), [verdict], "{row} {source:?}");
            if source == BookingSource::Patient {
                let unsaid = judged(&harness, &name, slots(), BookingSource::Unspecified).await;
                assert_eq!(unsaid.expect("a verdict"), [verdict], "{row}");
            }
            let visit = v1::Booking {
                source: source.into(),
                ..booking("B-1", FREE.0, FREE.1)
            };
            let answer = harness.book(record(&name, visit)).await;
            let said = answer.map_or_else(|status| refusal(&status).1, |_| "OFFERED".into());
            let expected = match verdict {
                Offered => "OFFERED",
                RequestClosed | NotInvited | NotOpenYet => "STATE_CONFLICT",
                TooLate => "TOO_LATE",
                _ => "OUTSIDE_CONSTRAINTS",
            };
            assert_eq!(said, expected, "{row} {source:?}");
        }
    }
}

#[tokio::test]
async fn a_refusal_of_the_state_names_its_verdict_and_what_is_allowed() {
    for (row, state, verdict, allowed) in [
        (
            "requested",
            "REQUESTED",
            "NOT_INVITED",
            "CANCEL,CHANGE,CHANGE_TO_INVITATION,RECORD_BOOKING",
        ),
        (
            "not told yet",
            "INVITED",
            "NOT_OPEN_YET",
            "CANCEL,CHANGE,RECORD_BOOKING,RECORD_PATIENT_CONTACT,REVOKE_INVITATION",
        ),
        ("cancelled", "CANCELLED", "REQUEST_CLOSED", ""),
    ] {
        let harness = Harness::start(NOW).await;
        let name = brought(&harness, row).await;
        let visit = v1::Booking {
            source: BookingSource::Patient.into(),
            ..booking("B-1", FREE.0, FREE.1)
        };
        let answer = harness.book(record(&name, visit)).await;
        let status = answer.expect_err(row);
        assert_eq!(
            refusal(&status),
            (Code::FailedPrecondition, "STATE_CONFLICT".to_owned())
        );
        for (key, value) in [
            ("verdict", verdict),
            ("state", state),
            ("allowed_actions", allowed),
        ] {
            assert_eq!(metadata(&status, key), value, "{row}");
        }
    }
}

#[tokio::test]
async fn a_verdict_comes_under_the_identifier_of_its_slot() {
    let harness = Harness::start(NOW).await;
    let name = brought(&harness, "invited").await;
    let slots = [
        ("later", FREE),
        ("å", ("2026-03-01T08:00:00Z", NOW)),
        ("later", FREE),
    ];
    let call = v1::EvaluateSlotsRequest {
        name,
        slots: slots
            .iter()
            .map(|(id, (start, end))| v1::Slot {
                slot_id: (*id).into(),
                ..slot(start, end, "")
            })
            .collect(),
        source: 0,
    };
    let answer = within(harness.requests().evaluate_slots(call)).await;
    let slots = answer.expect("verdicts").into_inner().slots;
    let answered: Vec<_> = slots
        .iter()
        .map(|it| (&*it.slot_id, it.verdict()))
        .collect();
    assert_eq!(
        answered,
        [("later", Offered), ("å", Past), ("later", Offered)]
    );
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
