//! Queries as tables, and tokens that hold for their own query only.

use uuid::Uuid;

use super::super::booking_request;
use super::super::booking_request::samples::{key, now, record};
use super::super::tests::fields;
use super::query::render;
use super::*;
use crate::domain::booking_request::form::Priority;
use crate::domain::care_unit_settings::Policy;
use crate::domain::worklist::query::OrderBy;

fn query() -> v1::WorklistQuery {
    v1::WorklistQuery {
        worklists: vec![v1::Worklist::CareInvitations.into()],
        care_units: vec!["careUnits/SE2321000131-P1".into()],
        ..Default::default()
    }
}

fn watched(query: v1::WorklistQuery) -> Result<Query, Vec<String>> {
    let call = v1::WatchWorklistRequest {
        query: Some(query),
        view: 0,
    };
    let parsed = parse_watch(call).map_err(fields)?;
    assert_eq!(parsed.view, View::Full);
    Ok(parsed.query)
}

fn list(query: v1::WorklistQuery, page_token: &str) -> Result<ListWorklist, Fault> {
    parse_list(v1::ListWorklistRequest {
        query: Some(query),
        page_size: 501,
        page_token: page_token.into(),
        ..Default::default()
    })
}

fn cursor() -> Cursor {
    Cursor {
        sort_key: [i64::MIN, 20_591],
        key: RequestKey {
            care_unit: HsaId::parse("SE2321000131-123456789012345678").unwrap(),
            id: Uuid::from_u128(42),
        },
    }
}

#[test]
fn what_is_left_out_filters_nothing_and_orders_by_start() {
    let parsed = watched(query()).unwrap();
    assert_eq!(parsed.order_by, OrderBy::StartDate);
    assert_eq!(parsed.minimum_priority, Priority::Routine);
    assert!(parsed.visit_kind.is_none() && parsed.period.is_none());
    assert!(parsed.personal_id.is_none() && parsed.referral_id.is_none());
    assert_eq!(watched(render(&parsed)), Ok(parsed));
}

#[test]
fn each_fault_of_a_query_names_its_field() {
    let unit = || "careUnits/SE2321000131-P1".to_owned();
    let all = v1::Worklist::All.into();
    for (query, faults) in [
        (
            v1::WorklistQuery {
                worklists: vec![],
                ..query()
            },
            vec!["query.worklists"],
        ),
        (
            v1::WorklistQuery {
                worklists: vec![0, 11],
                ..query()
            },
            vec!["query.worklists[0]", "query.worklists[1]"],
        ),
        (
            v1::WorklistQuery {
                worklists: vec![all],
                ..query()
            },
            vec!["query.worklists"],
        ),
        (
            v1::WorklistQuery {
                worklists: vec![all, 1],
                referral_id: "R-1".into(),
                ..query()
            },
            vec!["query.worklists"],
        ),
        (
            v1::WorklistQuery {
                care_units: vec!["careUnits/-".into()],
                ..query()
            },
            vec!["query.care_units"],
        ),
        (
            v1::WorklistQuery {
                care_units: vec![unit(), "careUnits/-".into()],
                referral_id: "R-1".into(),
                ..query()
            },
            vec!["query.care_units"],
        ),
        (
            v1::WorklistQuery {
                worklists: vec![v1::Worklist::ManualHandling.into(), 6],
                care_units: vec!["careUnits/-".into()],
                ..query()
            },
            vec!["query.care_units"],
        ),
        (
            v1::WorklistQuery {
                hold_reasons: vec![0, 1, 8],
                states: vec![8; 51],
                interpreter_language: "a_b".into(),
                letter_formats: vec![6],
                booking_id: "\0".into(),
                visit_id: "\0".into(),
                ..query()
            },
            vec![
                "query.booking_id",
                "query.visit_id",
                "query.hold_reasons[0]",
                "query.hold_reasons[2]",
                "query.states",
                "query.interpreter_language",
                "query.letter_formats[0]",
            ],
        ),
        (
            v1::WorklistQuery {
                care_units: vec![],
                ..query()
            },
            vec!["query.care_units"],
        ),
        (
            v1::WorklistQuery {
                care_units: vec![unit(); 51],
                ..query()
            },
            vec!["query.care_units"],
        ),
        (
            v1::WorklistQuery {
                care_units: vec![unit(), "x".into()],
                ..query()
            },
            vec!["query.care_units[1]"],
        ),
        (
            v1::WorklistQuery {
                visit_type_codes: vec!["x".into(); 51],
                ..query()
            },
            vec!["query.visit_type_codes"],
        ),
        (
            v1::WorklistQuery {
                visit_type_codes: vec![String::new()],
                ..query()
            },
            vec!["query.visit_type_codes[0]"],
        ),
        (
            v1::WorklistQuery {
                personal_id: "19800301-2385".into(),
                personal_id_type: v1::PersonalIdType::Personnummer.into(),
                ..query()
            },
            vec!["query.personal_id"],
        ),
        (
            v1::WorklistQuery {
                personal_id: "198003012385".into(),
                ..query()
            },
            vec!["query.personal_id_type"],
        ),
        (
            v1::WorklistQuery {
                personal_id: "R-1".into(),
                personal_id_type: v1::PersonalIdType::LocalReserveNumber.into(),
                ..query()
            },
            vec!["query.issuer"],
        ),
        (
            v1::WorklistQuery {
                personal_id_type: v1::PersonalIdType::LocalReserveNumber.into(),
                issuer: "1.2.752".into(),
                ..query()
            },
            vec!["query.personal_id"],
        ),
        (
            v1::WorklistQuery {
                issuer: "1.2.752".into(),
                ..query()
            },
            vec!["query.personal_id", "query.personal_id_type"],
        ),
        (
            v1::WorklistQuery {
                referral_id: "\0".into(),
                ..query()
            },
            vec!["query.referral_id"],
        ),
        (
            v1::WorklistQuery {
                minimum_priority: 4,
                order_by: 6,
                visit_kind: 3,
                ..query()
            },
            vec![
                "query.visit_kind",
                "query.minimum_priority",
                "query.order_by",
            ],
        ),
    ] {
        assert_eq!(
            watched(query),
            Err(faults.into_iter().map(str::to_owned).collect())
        );
    }
    let missing = parse_watch(v1::WatchWorklistRequest::default());
    assert_eq!(fields(missing.unwrap_err()), ["query"]);
}

#[test]
fn a_token_is_bound_to_the_whole_identity_of_the_patient() {
    let of = |issuer: &str, number: &str| v1::WorklistQuery {
        personal_id: number.into(),
        personal_id_type: v1::PersonalIdType::LocalReserveNumber.into(),
        issuer: issuer.into(),
        ..query()
    };
    let parsed = watched(of("1.2.752.1", "r-1")).unwrap();
    assert_eq!(watched(render(&parsed)), Ok(parsed.clone()));
    let token = next_page_token(&parsed, &cursor());
    assert!(list(of("1.2.752.1", "R-1"), &token).is_ok());
    let other = list(of("1.2.752.2", "R-1"), &token);
    assert!(matches!(other, Err(Fault::PageToken)));
}

#[test]
fn a_language_is_asked_for_in_any_case_of_its_letters() {
    let asked = |language: &str| {
        watched(v1::WorklistQuery {
            interpreter_language: language.into(),
            letter_formats: vec![3, 2, 3],
            ..query()
        })
    };
    let parsed = asked("AR").unwrap();
    assert_eq!(parsed.interpreter_language.as_deref(), Some("ar"));
    assert_eq!(asked("ar"), Ok(parsed.clone()));
    assert_eq!(watched(render(&parsed)), Ok(parsed));
}

#[test]
fn every_request_and_every_care_unit_are_asked_for_with_a_subject() {
    let named: [fn(&mut v1::WorklistQuery); 4] = [
        |q| {
            q.personal_id = "198003012385".into();
            q.set_personal_id_type(v1::PersonalIdType::Personnummer);
        },
        |q| q.referral_id = "R-1".into(),
        |q| q.visit_id = "V-1".into(),
        |q| q.booking_id = "B-1".into(),
    ];
    for name_subject in named {
        for list in [v1::Worklist::All, v1::Worklist::FollowUp] {
            let mut asked = v1::WorklistQuery {
                worklists: vec![list.into()],
                care_units: vec!["careUnits/-".into()],
                ..query()
            };
            assert!(watched(asked.clone()).is_err());
            name_subject(&mut asked);
            let parsed = watched(asked).unwrap();
            assert_eq!(parsed.care_units, CareUnits::Every);
            assert_eq!(watched(render(&parsed)), Ok(parsed));
        }
    }
    let manual_handling = v1::WorklistQuery {
        worklists: vec![v1::Worklist::ManualHandling.into()],
        care_units: vec!["careUnits/-".into()],
        ..query()
    };
    assert!(watched(manual_handling).is_ok());
}

#[test]
fn a_page_begins_after_the_place_that_its_token_names() {
    let first = list(query(), "").unwrap();
    assert_eq!((first.after, first.page_size), (None, 500));
    let token = next_page_token(&first.query, &cursor());
    assert_eq!(list(query(), &token).unwrap().after, Some(cursor()));
}

#[test]
fn a_token_holds_for_the_same_query_however_it_is_written() {
    let units = |ids: &[&str]| v1::WorklistQuery {
        care_units: ids.iter().map(|id| format!("careUnits/{id}")).collect(),
        ..query()
    };
    let asked = units(&["SE2321000131-P2", "SE2321000131-P1"]);
    let token = next_page_token(&watched(asked).unwrap(), &cursor());
    let same = units(&["se2321000131-p1", "SE2321000131-P2", "SE2321000131-P1"]);
    assert!(list(same, &token).is_ok());
    let other = units(&["SE2321000131-P1"]);
    assert!(matches!(list(other, &token), Err(Fault::PageToken)));
    let reordered = v1::WorklistQuery {
        order_by: v1::worklist_query::OrderBy::CreateTime.into(),
        ..units(&["SE2321000131-P1", "SE2321000131-P2"])
    };
    assert!(matches!(list(reordered, &token), Err(Fault::PageToken)));
}

#[test]
fn each_list_is_counted_once_zeros_included() {
    let [one, other] = ["SE2321000131-P1", "SE2321000131-P2"].map(|id| HsaId::parse(id).unwrap());
    let counts = BTreeMap::from([
        ((one.clone(), Worklist::FollowUp), 2),
        ((other.clone(), Worklist::FollowUp), 3),
        ((other.clone(), Worklist::BookingRequests), 1),
    ]);
    let call = |worklists, care_units: &[&str]| v1::CountWorklistsRequest {
        query: Some(v1::WorklistQuery {
            worklists,
            care_units: care_units
                .iter()
                .map(|it| format!("careUnits/{it}"))
                .collect(),
            referral_id: "R-1".into(),
            ..Default::default()
        }),
        by_care_unit: true,
    };
    let shown = |counts: &[v1::WorklistCount]| -> Vec<(i32, i64)> {
        counts.iter().map(|it| (it.worklist, it.count)).collect()
    };
    let all = parse_count(call(vec![], &["SE2321000131-P1"])).unwrap();
    let rendered = render_counts(&all, &counts);
    let lists = [1, 2, 3, 4, 5, 6, 7, 9, 10];
    let expected = lists.map(|list| (list, [0, 1, 0, 5].get(list as usize).copied().unwrap_or(0)));
    assert_eq!(shown(&rendered.counts), expected);

    let some = parse_count(call(vec![3, 1, 3], &["SE2321000131-P3", "SE2321000131-P1"])).unwrap();
    let rendered = render_counts(&some, &counts);
    assert_eq!(shown(&rendered.counts), [(1, 1), (3, 5)]);
    let units = rendered.care_units.iter();
    let units: Vec<_> = units
        .map(|it| (it.care_unit.as_str(), shown(&it.counts)))
        .collect();
    let [first, third] = ["careUnits/SE2321000131-P1", "careUnits/SE2321000131-P3"];
    assert_eq!(
        units,
        [(first, vec![(1, 0), (3, 2)]), (third, vec![(1, 0), (3, 0)])]
    );
    let every = render_counts(&parse_count(call(vec![3], &["-"])).unwrap(), &counts);
    let every: Vec<_> = every
        .care_units
        .iter()
        .map(|it| it.care_unit.clone())
        .collect();
    assert_eq!(every, [one, other].map(|it| care_unit_name(&it)));
}

#[test]
fn care_units_are_counted_once_each() {
    let call = |care_units: &[&str]| v1::CountWorklistsRequest {
        query: Some(v1::WorklistQuery {
            care_units: care_units
                .iter()
                .map(|id| format!("careUnits/{id}"))
                .collect(),
            ..Default::default()
        }),
        by_care_unit: false,
    };
    let parsed = parse_count(call(&["SE2321000131-P1", "se2321000131-p1"])).unwrap();
    let unit = HsaId::parse("SE2321000131-P1").unwrap();
    assert_eq!(parsed.query.care_units, CareUnits::These(vec![unit]));
    assert_eq!(
        fields(parse_count(call(&[])).unwrap_err()),
        ["query.care_units"]
    );
    let none = parse_count(v1::CountWorklistsRequest::default());
    assert_eq!(fields(none.unwrap_err()), ["query"]);
}

#[test]
fn care_units_are_listed_page_by_page() {
    let list = |page_token: String| {
        care_units::parse_list(v1::ListCareUnitsRequest {
            page_size: 2,
            page_token,
        })
    };
    let ids = [
        "SE2321000131-123456789012345678",
        "SE2321000131-P2",
        "SE2321000131-P3",
    ];
    let found = ids.map(|id| HsaId::parse(id).unwrap()).to_vec();
    let whole = care_units::render_list(found[..2].to_vec(), 2);
    assert_eq!((whole.care_units.len(), &*whole.next_page_token), (2, ""));
    let first = care_units::render_list(found.clone(), 2);
    assert_eq!(first.care_units.len(), 2);
    let second = list(first.next_page_token).unwrap();
    assert_eq!(second.after.as_ref(), Some(&found[1]));
    assert!(matches!(list("x".into()), Err(Fault::PageToken)));
    let query = watched(query()).unwrap();
    let other = list(next_page_token(&query, &cursor()));
    assert!(matches!(other, Err(Fault::PageToken)));
}

#[test]
fn a_basic_view_has_everything_but_messages_and_texts() {
    let policy = Policy::default();
    let full = View::Full.render(&record(), now(), &policy);
    assert!(full == booking_request::render(&record(), now(), &policy));
    let basic = View::Basic.render(&record(), now(), &policy);
    assert!(!full.purpose.is_empty() && basic.patient_instructions.is_none());
    assert_eq!((&*basic.purpose, &*basic.internal_comment), ("", ""));
    let restored = v1::BookingRequest {
        purpose: full.purpose.clone(),
        patient_instructions: full.patient_instructions.clone(),
        internal_comment: full.internal_comment.clone(),
        care_invitation: full.care_invitation.clone(),
        ..basic
    };
    assert!(restored == full);
}

#[test]
fn a_watcher_is_told_of_requests_by_content_when_they_come_and_by_name_when_they_go() {
    let policy = Policy::default();
    let lists = [Worklist::FollowUp, Worklist::AllInvitations];
    let upserted = render_upserted(View::Full.render(&record(), now(), &policy), &lists);
    assert_eq!(upserted.worklists, [3, 9]);
    let shown = booking_request::render(&record(), now(), &policy);
    assert!(upserted.event == Some(Event::Upserted(shown)));
    let removed = render_removed(&key());
    assert!(removed.event == Some(Event::Removed(request_name(&key()))));
    let complete = Event::SnapshotComplete(SnapshotComplete {});
    assert!(render_snapshot_complete().event == Some(complete));
    let heartbeat = Event::Heartbeat(v1::Heartbeat {});
    assert!(render_heartbeat().event == Some(heartbeat));
}
