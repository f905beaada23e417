//! Which fields a call has changed, as the history has it: each verb, by path, and never a value.

use care_invitation::contract::v1;
use care_invitation::contract::v1::record_booking_cancellation_request::Next;
use care_invitation::contract::v1::{InboxReach, PersonalIdType, Protection};

use super::calls::{
    bury, change, changed, contact, contacted, move_to, protect, record_booking_cancellation,
    release, released, revoke, revoked, unbooked, update, updated,
};
use super::{NOW, booking, created, last_changed, record, requested, visit};
use crate::harness::{Harness, within};
use crate::make;

const NOTHING: [&str; 0] = [];
const START: &str = "2026-05-18T08:00:00Z";

/// Constraints between the dates of most requests here, with a length of the visit and a weekday.
fn stricter() -> v1::BookingConstraints {
    v1::BookingConstraints {
        duration_minutes: 30,
        weekdays: vec![v1::DayOfWeek::Monday.into()],
        ..make::wire_constraints("2026-03-09", "2026-06-12")
    }
}

async fn replace(harness: &Harness, old: &str, new: &str, kind: PersonalIdType) {
    let identity = |number: &str, kind: PersonalIdType| {
        Some(v1::PatientIdentity {
            personal_id: number.into(),
            personal_id_type: kind.into(),
            issuer: String::new(),
        })
    };
    let call = v1::ReplacePersonalIdRequest {
        old_identity: identity(old, PersonalIdType::Personnummer),
        new_identity: identity(new, kind),
        request_id: make::request_id(),
    };
    within(harness.requests().replace_personal_id(call))
        .await
        .expect("replaced");
}

#[tokio::test]
async fn each_call_names_what_it_has_changed_and_nothing_that_stays() {
    let harness = Harness::start(NOW).await;
    let form = v1::BookingRequest {
        origin: Some(visit("B-0", "")),
        summons: false,
        ..requested("2026-03-09", "2026-06-12")
    };
    let request = created(&harness, form.clone()).await;
    let name = &*request.name;
    let told = async || last_changed(&harness, name).await;
    assert_eq!(told().await, NOTHING, "created");

    let to = v1::BookingRequest {
        purpose: "Hals".into(),
        ..form.clone()
    };
    let paths = ["constraints", "purpose", "visit_kind"];
    let call = change(name, &paths, to);
    changed(&harness, call.clone()).await.expect("changed");
    assert_eq!(told().await, ["purpose"]);
    // A repeat is no other call.
    changed(&harness, call).await.expect("repeated");
    assert_eq!(told().await, ["purpose"]);
    let call = change(name, &["internal_comment"], form);
    changed(&harness, call).await.expect("changed");
    assert_eq!(told().await, NOTHING, "given anew");

    let call = v1::ChangeToInvitationRequest {
        constraints: Some(stricter()),
        referral_id: "R-7".into(),
        ..make::wire_invite(name)
    };
    harness.invite(call).await.expect("invited");
    let expected = [
        "previous_visit.referral_id",
        "summons",
        "invitation",
        "constraints.weekdays",
        "constraints.duration_minutes",
    ];
    assert_eq!(told().await, expected);
    revoked(&harness, revoke(name)).await.expect("revoked");
    assert_eq!(told().await, ["invitation"]);
    harness
        .invite(make::wire_invite(name))
        .await
        .expect("invited");
    assert_eq!(told().await, ["invitation"]);
    let call = contact(name, v1::ContactOutcome::CallBack);
    contacted(&harness, call).await.expect("held");
    assert_eq!(told().await, NOTHING, "held");
    released(&harness, release(name)).await.expect("released");
    assert_eq!(told().await, NOTHING, "released");

    for (start, end) in [
        (START, "2026-05-18T08:30:00Z"),
        ("2026-05-25T08:00:00Z", "2026-05-25T08:30:00Z"),
    ] {
        let call = record(name, booking("B-1", start, end));
        harness.book(call).await.expect("booked");
        assert_eq!(told().await, ["booking"], "{start}");
    }
    let call = record_booking_cancellation(name, "B-1", Next::Requested);
    unbooked(&harness, call).await.expect("off");
    assert_eq!(told().await, ["invitation", "booking"]);
    let call = move_to(name, "2026-03-09", "2026-06-19");
    changed(&harness, call).await.expect("moved");
    assert_eq!(told().await, ["constraints.requested_period"]);
    harness.cancel(make::wire_cancel(name)).await.expect("off");
    assert_eq!(told().await, NOTHING, "cancelled");
}

#[tokio::test]
async fn a_new_round_after_a_booking_names_the_booking_that_it_ends() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-03-09", "2026-06-12")).await;
    let name = &*request.name;
    let visit = || booking("B-1", START, "2026-05-18T08:30:00Z");
    harness.book(record(name, visit())).await.expect("booked");
    harness
        .invite(make::wire_invite(name))
        .await
        .expect("invited");
    assert_eq!(last_changed(&harness, name).await, ["booking"]);
    harness.book(record(name, visit())).await.expect("booked");
    let call = v1::RecordBookingCancellationRequest {
        constraints: Some(stricter()),
        ..record_booking_cancellation(name, "B-1", Next::Invited)
    };
    unbooked(&harness, call).await.expect("invited again");
    let expected = [
        "constraints.weekdays",
        "constraints.duration_minutes",
        "booking",
    ];
    assert_eq!(last_changed(&harness, name).await, expected);
}

#[tokio::test]
async fn constraints_where_there_were_none_are_named_as_far_as_they_rule_something_out() {
    let harness = Harness::start(NOW).await;
    let direct = v1::BookingRequest {
        constraints: None,
        booking: Some(booking("B-1", START, "2026-05-18T08:30:00Z")),
        ..requested("2026-03-09", "2026-06-12")
    };
    let request = created(&harness, direct).await;
    let call = v1::RecordBookingCancellationRequest {
        constraints: Some(stricter()),
        ..record_booking_cancellation(&request.name, "B-1", Next::Requested)
    };
    unbooked(&harness, call).await.expect("off");
    let expected = [
        "constraints.requested_period",
        "constraints.weekdays",
        "constraints.duration_minutes",
        "booking",
    ];
    assert_eq!(last_changed(&harness, &request.name).await, expected);
}

#[tokio::test]
async fn what_is_learned_of_a_patient_is_named_below_the_patient() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-03-09", "2026-06-12")).await;
    let told = async || last_changed(&harness, &request.name).await;
    let to = v1::Patient {
        inbox_reach: InboxReach::None.into(),
        preferred_language: "fi".into(),
        addressee: v1::Addressee::Proxy.into(),
        interpreter_language: "ar".into(),
        letter_format: v1::LetterFormat::Braille.into(),
        ..Default::default()
    };
    let paths = [
        "inbox_reach",
        "preferred_language",
        "addressee",
        "interpreter_language",
        "letter_format",
    ];
    for path in paths {
        let call = update(&[path], to.clone());
        updated(&harness, call).await.expect(path);
        assert_eq!(told().await, [format!("patient.{path}")]);
    }
    let to = v1::Patient {
        protection: Protection::ProtectedRegistration.into(),
        preferred_language: "sv".into(),
        ..to
    };
    let call = update(&["protection", "preferred_language", "addressee"], to);
    updated(&harness, call).await.expect("updated");
    let expected = ["patient.protection", "patient.preferred_language"];
    assert_eq!(told().await, expected);
    updated(&harness, bury()).await.expect("updated");
    assert_eq!(told().await, NOTHING, "a death");
}

#[tokio::test]
async fn another_identity_number_is_named_and_the_protection_that_comes_with_it() {
    let harness = Harness::start(NOW).await;
    let form = make::wire_form("2026-03-09", "2026-06-12");
    let mine = created(&harness, form.clone()).await.name;
    updated(&harness, protect()).await.expect("protected");
    let others = v1::BookingRequest {
        patient: form.patient.clone().map(|it| v1::Patient {
            personal_id: "191212121212".into(),
            ..it
        }),
        ..form
    };
    let others = created(&harness, others).await.name;
    replace(
        &harness,
        "198003012385",
        "191212121212",
        PersonalIdType::Personnummer,
    )
    .await;
    assert_eq!(last_changed(&harness, &mine).await, ["patient.personal_id"]);
    assert_eq!(
        last_changed(&harness, &others).await,
        ["patient.protection"]
    );
    let coordination = PersonalIdType::Samordningsnummer;
    replace(&harness, "191212121212", "197302889931", coordination).await;
    let expected = ["patient.personal_id", "patient.personal_id_type"];
    assert_eq!(last_changed(&harness, &mine).await, expected);
}
