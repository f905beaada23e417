//! What narrows a list: care units and filters, and what is refused of them.

use care_invitation::contract::v1;
use care_invitation::contract::v1::Worklist;
use care_invitation::contract::v1::{Priority, VisitKind, WorklistQuery};
use tonic::{Code, Status};

use super::{NOW, counts, create, everything, listed, page, query, request, sorted};
use crate::harness::{Harness, bad_fields, refusal, within};
use crate::make;

fn interval(first: &str, last: &str) -> Option<v1::DateInterval> {
    Some(v1::DateInterval {
        start_date: first.into(),
        end_date: last.into(),
    })
}

fn assert_invalid(status: &Status, fields: &[&str]) {
    let reason = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
    assert_eq!(refusal(status), reason, "{fields:?}");
    assert_eq!(bad_fields(status), fields);
}

#[tokio::test]
async fn each_filter_narrows_the_list_and_all_together_do() {
    let harness = Harness::start(NOW).await;
    let somebody = v1::Patient {
        personal_id: "191212121212".into(),
        personal_id_type: v1::PersonalIdType::Personnummer.into(),
        ..Default::default()
    };
    let visit_type = |code: &str| {
        Some(v1::VisitType {
            code: code.into(),
            ..Default::default()
        })
    };
    for form in [
        v1::BookingRequest {
            priority: Priority::Emergency.into(),
            ..request("new", "2026-03-09", "2026-03-13")
        },
        v1::BookingRequest {
            visit_kind: VisitKind::ReturnVisit.into(),
            visit_type: visit_type("ÖNH-ÅB"),
            priority: Priority::Urgent.into(),
            ..request("again", "2026-03-13", "2026-03-20")
        },
        v1::BookingRequest {
            patient: Some(somebody),
            visit_type: visit_type("HUD"),
            ..request("other", "2026-03-21", "2026-04-10")
        },
        v1::BookingRequest {
            origin: Some(v1::booking_request::Origin::PreviousVisit(
                v1::PreviousVisit {
                    visit_id: "V-1".into(),
                    referral_id: "visited".into(),
                    ..Default::default()
                },
            )),
            ..request("", "2026-04-10", "2026-04-24")
        },
    ] {
        create(&harness, form).await;
    }
    let all = ["again", "new", "other", "visited"];
    for (row, narrow, expected) in [
        ("nothing", (|_| {}) as fn(&mut WorklistQuery), &all[..]),
        (
            "new visits",
            |q| q.visit_kind = VisitKind::NewVisit.into(),
            &["new", "other", "visited"],
        ),
        (
            "return visits",
            |q| q.visit_kind = VisitKind::ReturnVisit.into(),
            &["again"],
        ),
        (
            "a code",
            |q| q.visit_type_codes = vec!["HUD".into()],
            &["other"],
        ),
        // In NFD, and twice.
        (
            "codes",
            |q| {
                let nfd = "O\u{308}NH-A\u{30a}B";
                q.visit_type_codes = vec!["HUD".into(), nfd.into(), "HUD".into()];
            },
            &["again", "other"],
        ),
        (
            "an unknown code",
            |q| q.visit_type_codes = vec!["hud".into()],
            &[],
        ),
        (
            "a patient",
            |q| {
                q.personal_id = "191212121212".into();
                q.set_personal_id_type(v1::PersonalIdType::Personnummer);
            },
            &["other"],
        ),
        (
            "an unknown patient",
            |q| {
                q.personal_id = "191212121212".into();
                q.set_personal_id_type(v1::PersonalIdType::NationalReserveNumber);
            },
            &[],
        ),
        ("a referral", |q| q.referral_id = "again".into(), &["again"]),
        (
            "a visit's referral",
            |q| q.referral_id = "visited".into(),
            &["visited"],
        ),
        (
            "an unknown referral",
            |q| q.referral_id = "Again".into(),
            &[],
        ),
        (
            "any priority",
            |q| q.minimum_priority = Priority::Routine.into(),
            &all,
        ),
        (
            "urgent",
            |q| q.minimum_priority = Priority::Urgent.into(),
            &["again", "new"],
        ),
        (
            "emergency",
            |q| q.minimum_priority = Priority::Emergency.into(),
            &["new"],
        ),
        (
            "a shared first day",
            |q| q.requested_period = interval("2026-01-01", "2026-03-09"),
            &["new"],
        ),
        (
            "a shared last day",
            |q| q.requested_period = interval("2026-04-24", "2026-12-31"),
            &["visited"],
        ),
        (
            "a day",
            |q| q.requested_period = interval("2026-03-13", "2026-03-13"),
            &["again", "new"],
        ),
        (
            "between",
            |q| q.requested_period = interval("2026-03-14", "2026-03-20"),
            &["again"],
        ),
        (
            "before",
            |q| q.requested_period = interval("2026-01-01", "2026-03-08"),
            &[],
        ),
        (
            "after",
            |q| q.requested_period = interval("2026-04-25", "2026-05-01"),
            &[],
        ),
        (
            "around",
            |q| q.requested_period = interval("2026-01-01", "2026-12-31"),
            &all,
        ),
        (
            "two that agree",
            |q| {
                q.visit_kind = VisitKind::NewVisit.into();
                q.requested_period = interval("2026-04-10", "2026-04-10");
            },
            &["other", "visited"],
        ),
        (
            "two that do not",
            |q| {
                q.personal_id = "191212121212".into();
                q.set_personal_id_type(v1::PersonalIdType::Personnummer);
                q.referral_id = "again".into();
            },
            &[],
        ),
    ] {
        let mut query = query(Worklist::BookingRequests);
        narrow(&mut query);
        assert_eq!(sorted(&harness, query).await, expected, "{row}");
    }
}

#[tokio::test]
async fn a_care_unit_sees_its_own_requests_and_several_see_each_their_own() {
    let harness = Harness::start(NOW).await;
    let unit = |i: usize| format!("careUnits/SE2321000131-P{i}");
    for i in [1, 2, 10] {
        let call = v1::CreateBookingRequestRequest {
            parent: unit(i),
            ..make::wire_create(request(&format!("R-{i}"), "2026-05-18", "2026-06-12"))
        };
        harness.create(call).await.expect("created");
    }
    let lower = unit(2).replace("SE", "se").replace('P', "p");
    for (care_units, expected) in [
        (vec![unit(1)], &["R-1"][..]),
        (vec![unit(2)], &["R-2"]),
        (vec![unit(3)], &[]),
        (vec![unit(2), unit(1)], &["R-1", "R-2"]),
        // By name: P1, P10, P2. One that is named twice is listed once.
        (
            vec![unit(10), lower, unit(1), unit(2)],
            &["R-1", "R-10", "R-2"],
        ),
    ] {
        let list = WorklistQuery {
            care_units: care_units.clone(),
            ..query(Worklist::BookingRequests)
        };
        assert_eq!(listed(&harness, list).await, expected, "{care_units:?}");
        let counted = counts(&harness, care_units.clone()).await;
        let length = i64::try_from(expected.len()).expect("a few");
        assert_eq!(
            counted[0],
            (Worklist::BookingRequests, length),
            "{care_units:?}"
        );
        assert_eq!(counted[..6].iter().map(|it| it.1).sum::<i64>(), length);
    }
}

#[tokio::test]
async fn one_to_fifty_care_units_are_asked_for() {
    let harness = Harness::start(NOW).await;
    let units = |count: usize| -> Vec<String> {
        let units = (1..=count).map(|i| format!("careUnits/SE2321000131-P{i}"));
        units.collect()
    };
    let mut one_is_bad = units(3);
    one_is_bad[1] = "SE2321000131-P2".into();
    for (care_units, field) in [
        (units(1), None),
        (units(50), None),
        (units(51), Some("care_units")),
        (vec![], Some("care_units")),
        (one_is_bad, Some("care_units[1]")),
        (vec!["careUnits/-".into()], Some("care_units")),
        (
            vec!["careUnits/-".into(), make::wire_unit()],
            Some("care_units"),
        ),
        (vec![String::new()], Some("care_units[0]")),
    ] {
        let list = WorklistQuery {
            care_units: care_units.clone(),
            ..query(Worklist::BookingRequests)
        };
        let answer = page(&harness, list, 0, "").await.err();
        let counted = make::wire_count(care_units);
        let counted = within(harness.worklists().count_worklists(counted))
            .await
            .err();
        match field {
            None => assert!(answer.is_none() && counted.is_none()),
            Some(field) => {
                let field = format!("query.{field}");
                assert_invalid(&answer.expect(&field), &[&field]);
                assert_invalid(&counted.expect(&field), &[&field]);
            }
        }
    }
}

#[tokio::test]
async fn a_query_names_a_list_and_its_bad_fields_are_named_at_once() {
    let harness = Harness::start(NOW).await;
    let status = within(
        harness
            .worklists()
            .list_worklist(v1::ListWorklistRequest::default()),
    )
    .await;
    assert_invalid(&status.expect_err("no query"), &["query"]);
    let declined = Worklist::Declined as i32;
    for (worklists, field) in [
        (vec![], "query.worklists"),
        (vec![Worklist::Unspecified as i32], "query.worklists[0]"),
        (vec![declined, 11], "query.worklists[1]"),
        (vec![-1, declined], "query.worklists[0]"),
        (vec![declined; 51], "query.worklists"),
        (vec![declined, Worklist::All as i32], "query.worklists"),
    ] {
        let unknown = WorklistQuery {
            worklists,
            ..query(Worklist::Declined)
        };
        let status = page(&harness, unknown, 0, "").await.expect_err("no list");
        assert_invalid(&status, &[field]);
    }
    let bad = WorklistQuery {
        worklists: vec![Worklist::Declined.into()],
        care_units: vec!["x".into()],
        visit_kind: 9,
        visit_type_codes: vec!["HUD".into(), String::new()],
        personal_id: "1".into(),
        personal_id_type: v1::PersonalIdType::Samordningsnummer.into(),
        issuer: "1.2.752".into(),
        requested_period: interval("2026-05-18", "2026-05-17"),
        minimum_priority: 9,
        order_by: 9,
        referral_id: "\0".into(),
        booking_id: "\0".into(),
        visit_id: "\0".into(),
        hold_reasons: vec![1, 9],
        states: vec![1, 9],
        interpreter_language: "a_b".into(),
        letter_formats: vec![6],
    };
    let status = page(&harness, bad, -1, "").await.expect_err("refused");
    let mut named = bad_fields(&status);
    named.sort();
    assert_eq!(
        named,
        [
            "page_size",
            "query.booking_id",
            "query.care_units[0]",
            "query.hold_reasons[1]",
            "query.interpreter_language",
            "query.issuer",
            "query.letter_formats[0]",
            "query.minimum_priority",
            "query.order_by",
            "query.personal_id",
            "query.referral_id",
            "query.requested_period.end_date",
            "query.states[1]",
            "query.visit_id",
            "query.visit_kind",
            "query.visit_type_codes[1]",
        ]
    );
    for (count, fields) in [(50, None), (51, Some("query.visit_type_codes"))] {
        let many = WorklistQuery {
            visit_type_codes: vec!["HUD".into(); count],
            ..query(Worklist::Declined)
        };
        let refused = page(&harness, many, 0, "").await.err();
        assert_eq!(refused.is_some(), fields.is_some(), "{count}");
        if let (Some(status), Some(field)) = (refused, fields) {
            assert_invalid(&status, &[field]);
        }
    }
}

#[tokio::test]
async fn all_requests_are_listed_for_one_patient_or_one_referral_settled_ones_included() {
    let harness = Harness::start(NOW).await;
    let status = page(&harness, query(Worklist::All), 0, "").await;
    assert_invalid(&status.expect_err("neither"), &["query.worklists"]);
    let other_filters = WorklistQuery {
        visit_kind: VisitKind::NewVisit.into(),
        visit_type_codes: vec!["ONH-NY".into()],
        ..query(Worklist::All)
    };
    let status = page(&harness, other_filters, 0, "").await;
    assert_invalid(&status.expect_err("neither"), &["query.worklists"]);

    create(&harness, request("open", "2026-05-18", "2026-06-12")).await;
    let booked = create(&harness, request("booked", "2026-05-18", "2026-06-12")).await;
    let book = make::wire_booking(&booked.name, "2026-05-18T08:00:00Z");
    harness.book(book).await.expect("booked");
    let closed = create(&harness, request("closed", "2026-05-18", "2026-06-12")).await;
    harness
        .cancel(make::wire_cancel(&closed.name))
        .await
        .expect("closed");
    assert_eq!(
        sorted(&harness, everything()).await,
        ["booked", "closed", "open"]
    );
    let by_referral = WorklistQuery {
        referral_id: "closed".into(),
        ..query(Worklist::All)
    };
    assert_eq!(sorted(&harness, by_referral).await, ["closed"]);
}
