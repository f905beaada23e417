//! Series: requests that are created together, at an interval.

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::{CreateBookingRequestRequest, Worklist};
use tonic::{Code, Status};

use super::{NOW, created, lists_of, messages, plan, record, requested, state};
use crate::harness::{Harness, bad_fields, metadata, refusal};
use crate::make;

/// The call that creates a form several times.
fn repeated(
    form: v1::BookingRequest,
    interval_days: i32,
    count: i32,
) -> CreateBookingRequestRequest {
    CreateBookingRequestRequest {
        repeat: Some(v1::Repeat {
            interval_days,
            count,
        }),
        ..make::wire_create(form)
    }
}

/// Every member of the series of a request.
async fn members(harness: &Harness, first: &v1::BookingRequest) -> Vec<v1::BookingRequest> {
    let mut members = Vec::new();
    for name in &first.series.as_ref().expect("a series").members {
        members.push(harness.get(name).await.expect("read"));
    }
    members
}

fn period(request: &v1::BookingRequest) -> (String, String) {
    let constraints = request.constraints.clone().expect("given");
    let period = constraints.requested_period.expect("given");
    (period.start_date, period.end_date)
}

fn is_duplicate(status: &Status) -> bool {
    refusal(status) == (Code::AlreadyExists, "DUPLICATE_REQUEST".to_owned())
}

#[tokio::test]
async fn each_member_has_its_own_period_and_plan_and_shows_all_names() {
    let harness = Harness::start(NOW).await;
    let form = make::wire_form("2026-05-18", "2026-06-12");
    let first = harness
        .create(repeated(form, 60, 3))
        .await
        .expect("created");
    let members = members(&harness, &first).await;
    let periods: Vec<_> = members.iter().map(period).collect();
    let expected = [
        ("2026-05-18", "2026-06-12"),
        ("2026-07-17", "2026-08-11"),
        ("2026-09-15", "2026-10-10"),
    ];
    assert_eq!(periods, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    let due: Vec<_> = members
        .iter()
        .map(|it| plan(messages(it))[0].clone())
        .collect();
    let expected = ["04-06T07:00Z", "06-05T07:00Z", "08-04T07:00Z"];
    assert_eq!(due, expected.map(|at| format!("SCHEDULED {at}")));
    assert_eq!(members[0].name, first.name);
    for (place, member) in (1..).zip(&members) {
        let series = member.series.as_ref().expect("a series");
        assert_eq!(series.position, place);
        assert_eq!(
            Some(series.members.clone()),
            first.series.clone().map(|it| it.members)
        );
        assert!(
            first.name.ends_with(&series.id),
            "the id is that of the first"
        );
        assert_eq!(state(member), State::Invited);
    }
    let mut names: Vec<_> = members
        .iter()
        .flat_map(messages)
        .map(|it| &it.name)
        .collect();
    names.retain(|name| !name.is_empty());
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3);
    let alone = make::wire_form("2026-05-18", "2026-06-12");
    let alone = v1::BookingRequest {
        origin: Some(make::wire_referral("R-alone")),
        ..alone
    };
    assert_eq!(created(&harness, alone).await.series, None);
}

#[tokio::test]
async fn the_first_alone_has_a_guarantee_date() {
    let harness = Harness::start(NOW).await;
    let decided = v1::booking_request::Origin::Referral(v1::Referral {
        referral_id: "R-1".into(),
        decision_date: "2026-02-20".into(),
    });
    let form = v1::BookingRequest {
        origin: Some(decided),
        ..requested("2026-03-09", "2026-03-13")
    };
    let first = harness
        .create(repeated(form, 7, 12))
        .await
        .expect("created");
    let members = members(&harness, &first).await;
    let dates: Vec<_> = members
        .iter()
        .map(|it| it.care_guarantee_date.as_str())
        .collect();
    assert_eq!(dates[0], "2026-05-21");
    assert_eq!(dates[1..], [""; 11]);
}

#[tokio::test]
async fn a_repeat_of_the_call_answers_the_first_and_the_same_names() {
    let harness = Harness::start(NOW).await;
    let call = repeated(requested("2026-05-18", "2026-06-12"), 30, 4);
    let first = harness.create(call.clone()).await.expect("created");
    harness.advance("2026-06-30T09:00:00Z");
    let again = harness.create(call.clone()).await.expect("a repeat");
    assert_eq!((&again.name, &again.series), (&first.name, &first.series));
    let listed = members(&harness, &first).await;
    assert_eq!(listed.len(), 4);
    for (repeat, row) in [
        (None, "once"),
        (
            Some(v1::Repeat {
                interval_days: 30,
                count: 3,
            }),
            "three",
        ),
        (
            Some(v1::Repeat {
                interval_days: 31,
                count: 4,
            }),
            "another interval",
        ),
    ] {
        let other = CreateBookingRequestRequest {
            repeat,
            ..call.clone()
        };
        let status = harness.create(other).await.expect_err(row);
        assert_eq!(refusal(&status).1, "REQUEST_ID_REUSED", "{row}");
    }
}

#[tokio::test]
async fn members_are_no_duplicates_of_each_other_but_others_are() {
    let harness = Harness::start(NOW).await;
    let form = || requested("2026-05-18", "2026-06-12");
    let first = harness
        .create(repeated(form(), 30, 3))
        .await
        .expect("created");
    let names = first.series.clone().expect("a series").members;
    let refused = async |row: &str| {
        let status = harness
            .create(make::wire_create(form()))
            .await
            .expect_err(row);
        assert!(is_duplicate(&status), "{row}");
        assert!(names.contains(&metadata(&status, "name")), "{row}");
    };
    refused("beside all").await;
    // One after the other is booked; as long as any is open it stands in the way.
    for (nth, name) in names.iter().enumerate() {
        refused("beside those that are left").await;
        let visit = make::wire_booking(name, "2026-05-19T08:00:00Z");
        harness.book(visit).await.expect("booked");
        if nth == 0 {
            // The first opens again beside the others.
            let call = make::wire_invite(name);
            let again = harness
                .invite(call)
                .await
                .expect("no duplicate of its fellows");
            assert_eq!(state(&again), State::Invited);
            let visit = make::wire_booking(name, "2026-05-19T08:00:00Z");
            harness.book(visit).await.expect("booked");
        }
    }
    let stranger = created(&harness, form()).await;
    // A member that opens again is a duplicate of the stranger.
    for name in &names {
        let status = harness
            .invite(make::wire_invite(name))
            .await
            .expect_err("a duplicate");
        assert!(is_duplicate(&status));
        assert_eq!(metadata(&status, "name"), stranger.name);
    }
    let status = harness
        .create(repeated(form(), 30, 3))
        .await
        .expect_err("a duplicate");
    assert!(is_duplicate(&status));
}

#[tokio::test]
async fn a_series_is_created_wholly_or_not_at_all() {
    let harness = Harness::start(NOW).await;
    let on_mondays = |first: &str, last: &str| {
        let mut form = requested(first, last);
        form.constraints.as_mut().expect("given").weekdays = vec![1];
        form
    };
    let booked = v1::BookingRequest {
        booking: Some(super::booking(
            "B-1",
            "2026-03-09T08:00:00Z",
            "2026-03-09T08:30:00Z",
        )),
        ..requested("2026-03-09", "2026-03-13")
    };
    for (row, call, fields) in [
        (
            "too soon",
            repeated(requested("2026-05-18", "2026-06-12"), 6, 2),
            vec!["repeat.interval_days"],
        ),
        (
            "too late",
            repeated(requested("2026-05-18", "2026-06-12"), 401, 2),
            vec!["repeat.interval_days"],
        ),
        (
            "one",
            repeated(requested("2026-05-18", "2026-06-12"), 7, 1),
            vec!["repeat.count"],
        ),
        (
            "thirteen",
            repeated(requested("2026-05-18", "2026-06-12"), 7, 13),
            vec!["repeat.count"],
        ),
        (
            "nothing",
            repeated(requested("2026-05-18", "2026-06-12"), 0, -1),
            vec!["repeat.interval_days", "repeat.count"],
        ),
        ("booked", repeated(booked, 7, 2), vec!["repeat"]),
        // Ten days after a Monday to Thursday come Thursday to Sunday.
        (
            "no Monday",
            repeated(on_mondays("2026-05-18", "2026-05-21"), 10, 2),
            vec!["repeat.interval_days"],
        ),
        (
            "the last alone",
            repeated(on_mondays("2026-05-18", "2026-05-23"), 8, 12),
            vec!["repeat.interval_days"],
        ),
        (
            "the first too",
            repeated(on_mondays("2026-05-19", "2026-05-20"), 7, 2),
            vec![
                "booking_request.constraints.weekdays",
                "repeat.interval_days",
            ],
        ),
        (
            "beyond the calendar",
            repeated(requested("2189-05-18", "2189-06-12"), 400, 12),
            vec!["repeat.interval_days"],
        ),
    ] {
        let status = harness.create(call).await.expect_err(row);
        assert_eq!(refusal(&status).0, Code::InvalidArgument, "{row}");
        assert_eq!(bad_fields(&status), fields, "{row}");
    }
    // Nothing is open: none of those before has left a member behind.
    let weekly = repeated(on_mondays("2026-05-18", "2026-05-21"), 7, 12);
    let first = harness.create(weekly).await.expect("created");
    assert_eq!(
        lists_of(&harness, &first.name).await,
        [Worklist::BookingRequests]
    );
    let call = record(
        &first.name,
        super::booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z"),
    );
    harness
        .book(call)
        .await
        .expect("each is a request of its own");
    let members = members(&harness, &first).await;
    assert_eq!(state(&members[0]), State::Booked);
    assert!(members[1..].iter().all(|it| state(it) == State::Requested));
}

#[tokio::test]
async fn an_item_of_a_batch_is_a_series_and_refuses_the_next() {
    let harness = Harness::start(NOW).await;
    let form = || make::wire_form("2026-05-18", "2026-06-12");
    let series = repeated(form(), 30, 12);
    let call = v1::BatchCreateBookingRequestsRequest {
        requests: vec![series.clone(), make::wire_create(form()), series],
    };
    let status = harness.requests().batch_create_booking_requests(call).await;
    assert!(status.is_err(), "the same request id twice");
    let call = v1::BatchCreateBookingRequestsRequest {
        requests: vec![repeated(form(), 30, 12), make::wire_create(form())],
    };
    let answer = harness.requests().batch_create_booking_requests(call).await;
    let results = answer.expect("carried out").into_inner().results;
    let first = results[0].booking_request.as_ref().expect("created");
    assert_eq!(members(&harness, first).await.len(), 12);
    let error = results[1].error.as_ref().expect("a duplicate");
    assert_eq!(error.reason(), v1::ErrorReason::DuplicateRequest);
    assert_eq!(error.metadata["name"], first.name);
}
