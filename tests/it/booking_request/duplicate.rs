//! A second open request for the same is refused, unless the caller knows of the first.

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request::State;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::{NOW, booking, created, record, requested, state, visit};
use crate::harness::{Harness, bad_fields, metadata, refusal, within};
use crate::make;

fn assert_duplicate_of(name: &str, status: &Status, row: &str) {
    let reason = (Code::AlreadyExists, "DUPLICATE_REQUEST".to_owned());
    assert_eq!(refusal(status), reason, "{row}");
    assert_eq!(metadata(status, "name"), name, "{row}");
}

#[tokio::test]
async fn patient_origin_and_visit_type_make_a_duplicate_and_nothing_else_does() {
    let form = || requested("2026-05-18", "2026-06-12");
    let patient = |kind: v1::PersonalIdType, number: &str| v1::Patient {
        personal_id: number.into(),
        personal_id_type: kind.into(),
        ..Default::default()
    };
    let reserve = patient(v1::PersonalIdType::NationalReserveNumber, "198003012385");
    let somebody = patient(v1::PersonalIdType::Personnummer, "191212121212");
    let visit_type = |code: &str| v1::VisitType {
        code: code.into(),
        display_name: "annat namn".into(),
    };
    let decided = v1::booking_request::Origin::Referral(v1::Referral {
        referral_id: "R-1".into(),
        decision_date: "2026-02-01".into(),
    });
    let harness = Harness::start(NOW).await;
    let first = created(&harness, form()).await;
    for (row, form, is_duplicate) in [
        ("the same", form(), true),
        (
            "an invitation",
            make::wire_form("2026-05-18", "2026-06-12"),
            true,
        ),
        (
            "another period",
            requested("2026-03-09", "2026-03-13"),
            true,
        ),
        (
            "a return visit",
            v1::BookingRequest {
                visit_kind: v1::VisitKind::ReturnVisit.into(),
                ..form()
            },
            true,
        ),
        (
            "a dated referral",
            v1::BookingRequest {
                origin: Some(decided),
                ..form()
            },
            true,
        ),
        (
            "another name of the visit type",
            v1::BookingRequest {
                visit_type: Some(visit_type("ONH-NY")),
                ..form()
            },
            true,
        ),
        (
            "another visit type",
            v1::BookingRequest {
                visit_type: Some(visit_type("ONH-ÅB")),
                ..form()
            },
            false,
        ),
        (
            "another referral",
            v1::BookingRequest {
                origin: Some(make::wire_referral("R-2")),
                ..form()
            },
            false,
        ),
        (
            "a visit of the referral",
            v1::BookingRequest {
                origin: Some(visit("R-1", "R-1")),
                ..form()
            },
            false,
        ),
        (
            "another patient",
            v1::BookingRequest {
                patient: Some(somebody),
                ..form()
            },
            false,
        ),
        (
            "another kind of number",
            v1::BookingRequest {
                patient: Some(reserve),
                ..form()
            },
            false,
        ),
    ] {
        match harness.create(make::wire_create(form)).await {
            Ok(_) => assert!(!is_duplicate, "{row}"),
            Err(status) => {
                assert!(is_duplicate, "{row}");
                assert_duplicate_of(&first.name, &status, row);
            }
        }
    }
    let elsewhere = v1::CreateBookingRequestRequest {
        parent: "careUnits/SE2321000131-P2".into(),
        ..make::wire_create(form())
    };
    harness.create(elsewhere).await.expect("another care unit");
}

#[tokio::test]
async fn an_identifier_in_nfd_is_the_same_identifier() {
    let harness = Harness::start(NOW).await;
    let form = |referral_id: &str| v1::BookingRequest {
        origin: Some(make::wire_referral(referral_id)),
        ..requested("2026-05-18", "2026-06-12")
    };
    let first = created(&harness, form("Ö-1")).await;
    let second = harness.create(make::wire_create(form("O\u{308}-1"))).await;
    assert_duplicate_of(&first.name, &second.expect_err("a duplicate"), "NFD");
}

#[tokio::test]
async fn a_character_that_cannot_be_seen_makes_no_second_invitation() {
    let harness = Harness::start(NOW).await;
    let form = |referral_id: &str| v1::BookingRequest {
        origin: Some(make::wire_referral(referral_id)),
        ..make::wire_form("2026-05-18", "2026-06-12")
    };
    created(&harness, form("R-1001")).await;
    let second = harness
        .create(make::wire_create(form("R-1001\u{200b}")))
        .await;
    let status = second.expect_err("refused");
    let reason = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
    assert_eq!(refusal(&status), reason);
    assert_eq!(
        bad_fields(&status),
        ["booking_request.referral.referral_id"]
    );
}

#[tokio::test]
async fn who_knows_of_the_other_may_create_a_second_and_a_third() {
    let harness = Harness::start(NOW).await;
    let form = || make::wire_form("2026-05-18", "2026-06-12");
    let allowed = || v1::CreateBookingRequestRequest {
        allow_duplicate: true,
        ..make::wire_create(form())
    };
    let mut names = vec![created(&harness, form()).await.name];
    for _ in 0..2 {
        names.push(harness.create(allowed()).await.expect("allowed").name);
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3);
    let status = harness.create(make::wire_create(form())).await;
    let status = status.expect_err("one of the three");
    assert_eq!(refusal(&status).1, "DUPLICATE_REQUEST");
    assert!(names.contains(&metadata(&status, "name")));
}

#[tokio::test]
async fn only_what_is_open_stands_in_the_way_and_what_has_expired_is_open() {
    let harness = Harness::start(NOW).await;
    let form = || requested("2026-03-09", "2026-03-13");
    let cancelled = created(&harness, form()).await;
    let cancel = make::wire_cancel(&cancelled.name);
    harness.cancel(cancel).await.expect("cancelled");
    let booked = created(&harness, form()).await;
    let visit = booking("B-1", "2026-03-09T08:00:00Z", "2026-03-09T08:30:00Z");
    harness
        .book(record(&booked.name, visit.clone()))
        .await
        .expect("booked");
    let open = created(&harness, form()).await;
    // A visit that is booked already is not open either.
    let direct = v1::BookingRequest {
        booking: Some(visit),
        ..form()
    };
    assert_eq!(state(&created(&harness, direct).await), State::Booked);

    harness.advance("2026-03-14T09:00:00Z");
    let read = harness.get(&open.name).await.expect("read");
    assert_eq!(state(&read), State::Expired);
    let status = harness
        .create(make::wire_create(requested("2026-05-18", "2026-06-12")))
        .await;
    assert_duplicate_of(&open.name, &status.expect_err("a duplicate"), "expired");
}

#[tokio::test]
async fn a_booked_request_does_not_open_again_beside_an_open_one() {
    let harness = Harness::start(NOW).await;
    let form = || make::wire_form("2026-05-18", "2026-06-12");
    let first = created(&harness, form()).await;
    let visit = booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
    let booked = harness
        .book(record(&first.name, visit))
        .await
        .expect("booked");
    let second = created(&harness, form()).await;

    let status = harness.invite(make::wire_invite(&first.name)).await;
    assert_duplicate_of(&second.name, &status.expect_err("a duplicate"), "reopened");
    let read = harness.get(&first.name).await.expect("read");
    assert_eq!(read, booked);

    harness
        .cancel(make::wire_cancel(&second.name))
        .await
        .expect("cancelled");
    let reopened = harness.invite(make::wire_invite(&first.name)).await;
    assert_eq!(
        state(&reopened.expect("nothing in the way")),
        State::Invited
    );
    let status = harness.create(make::wire_create(form())).await;
    assert_duplicate_of(&first.name, &status.expect_err("a duplicate"), "created");
}

#[tokio::test]
async fn what_was_created_in_the_knowledge_of_another_may_open_again_beside_it() {
    let harness = Harness::start(NOW).await;
    let form = || make::wire_form("2026-05-18", "2026-06-12");
    created(&harness, form()).await;
    let second = v1::CreateBookingRequestRequest {
        allow_duplicate: true,
        ..make::wire_create(form())
    };
    let second = harness.create(second).await.expect("allowed");
    let visit = booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
    harness
        .book(record(&second.name, visit))
        .await
        .expect("booked");
    let reopened = harness.invite(make::wire_invite(&second.name)).await;
    assert_eq!(state(&reopened.expect("allowed")), State::Invited);
}

#[tokio::test]
async fn a_request_is_no_duplicate_of_itself() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, requested("2026-05-18", "2026-06-12")).await;
    let invited = harness.invite(make::wire_invite(&request.name)).await;
    assert_eq!(state(&invited.expect("invited")), State::Invited);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_is_created_and_the_others_are_told_of_it() {
    let harness = Harness::start(NOW).await;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let call = make::wire_create(make::wire_form("2026-05-18", "2026-06-12"));
        let mut client = harness.requests();
        calls.spawn(async move { client.create_booking_request(call).await });
    }
    let answers = within(calls.join_all()).await;
    let (created, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((created.len(), refused.len()), (1, 19));
    let created = created.into_iter().flatten().next().expect("one");
    let name = created.into_inner().booking_request.expect("it").name;
    for status in refused.into_iter().filter_map(Result::err) {
        assert_duplicate_of(&name, &status, "at once");
    }
}

#[tokio::test]
async fn what_is_closed_and_opened_again_meets_the_open_one_one_by_one_and_at_once() {
    let harness = Harness::start(NOW).await;
    for (i, at_once) in (0..20).zip([false, true].into_iter().cycle()) {
        let form = v1::BookingRequest {
            origin: Some(make::wire_referral(&format!("R-{i}"))),
            ..make::wire_form("2026-05-18", "2026-06-12")
        };
        let first = created(&harness, form.clone()).await;
        let second = v1::CreateBookingRequestRequest {
            allow_duplicate: true,
            ..make::wire_create(form)
        };
        let second = harness.create(second).await.expect("allowed");
        let visit = booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
        let book = harness.book(record(&first.name, visit));
        let invite = harness.invite(make::wire_invite(&first.name));
        // At once, both are on their way before either is answered: one commit may hold both.
        let (booked, invited) = if at_once {
            tokio::join!(book, invite)
        } else {
            (book.await, invite.await)
        };
        booked.expect("booked");
        let row = if at_once { "at once" } else { "one by one" };
        let status = invited.expect_err(row);
        if refusal(&status).1 != "ALREADY_INVITATION" {
            assert_duplicate_of(&second.name, &status, row);
        }
    }
}
