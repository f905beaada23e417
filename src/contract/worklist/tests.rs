//! Queries as tables, and tokens that hold for their own query only.

use uuid::Uuid;

use super::super::booking_request::samples::{key, now, record};
use super::super::tests::fields;
use super::*;

fn query() -> v1::WorklistQuery {
    v1::WorklistQuery {
        worklist: v1::Worklist::CareInvitations.into(),
        care_units: vec!["careUnits/SE2321000131-P1".into()],
        ..Default::default()
    }
}

fn watched(query: v1::WorklistQuery) -> Result<Query, Vec<String>> {
    parse_watch(v1::WatchWorklistRequest { query: Some(query) }).map_err(fields)
}

fn list(query: v1::WorklistQuery, page_token: &str) -> Result<ListWorklist, Fault> {
    parse_list(v1::ListWorklistRequest {
        query: Some(query),
        page_size: 501,
        page_token: page_token.into(),
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
    assert_eq!(watched(render_query(&parsed)), Ok(parsed));
}

#[test]
fn each_fault_of_a_query_names_its_field() {
    let unit = || "careUnits/SE2321000131-P1".to_owned();
    let all = v1::Worklist::All.into();
    for (query, faults) in [
        (
            v1::WorklistQuery {
                worklist: 0,
                ..query()
            },
            vec!["query.worklist"],
        ),
        (
            v1::WorklistQuery {
                worklist: 9,
                ..query()
            },
            vec!["query.worklist"],
        ),
        (
            v1::WorklistQuery {
                worklist: all,
                ..query()
            },
            vec!["query.worklist"],
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
    assert_eq!(watched(render_query(&parsed)), Ok(parsed.clone()));
    let token = next_page_token(&parsed, &cursor());
    assert!(list(of("1.2.752.1", "R-1"), &token).is_ok());
    let other = list(of("1.2.752.2", "R-1"), &token);
    assert!(matches!(other, Err(Fault::PageToken)));
}

#[test]
fn every_request_is_listed_only_of_a_patient_or_a_referral() {
    let all = || v1::WorklistQuery {
        worklist: v1::Worklist::All.into(),
        ..query()
    };
    let of_patient = v1::WorklistQuery {
        personal_id: "198003012385".into(),
        personal_id_type: v1::PersonalIdType::Personnummer.into(),
        ..all()
    };
    assert!(watched(of_patient).is_ok());
    let of_referral = v1::WorklistQuery {
        referral_id: "R-1".into(),
        ..all()
    };
    assert!(watched(of_referral).is_ok());
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
    let rendered = render_counts(&[(Worklist::FollowUp, 2), (Worklist::BookingRequests, 1)]);
    let counts: Vec<_> = rendered
        .counts
        .iter()
        .map(|it| (it.worklist, it.count))
        .collect();
    assert_eq!(
        counts,
        [(1, 1), (2, 0), (3, 2), (4, 0), (5, 0), (6, 0), (7, 0)]
    );
}

#[test]
fn care_units_are_counted_once_each() {
    let care_units = ["SE2321000131-P1", "se2321000131-p1"];
    let care_units = care_units.map(|id| format!("careUnits/{id}")).to_vec();
    let parsed = parse_count(v1::CountWorklistsRequest { care_units }).unwrap();
    assert_eq!(parsed, [HsaId::parse("SE2321000131-P1").unwrap()]);
    let none = parse_count(v1::CountWorklistsRequest::default());
    assert_eq!(fields(none.unwrap_err()), ["care_units"]);
}

#[test]
fn a_watcher_is_told_of_requests_by_content_when_they_come_and_by_name_when_they_go() {
    let policy = RegionPolicy::default();
    let upserted = render_upserted(&record(), now(), &policy);
    let shown = booking_request::render(&record(), now(), &policy);
    assert!(upserted.event == Some(Event::Upserted(shown)));
    let removed = render_removed(&key());
    assert!(removed.event == Some(Event::Removed(request_name(&key()))));
    let complete = Event::SnapshotComplete(SnapshotComplete {});
    assert!(render_snapshot_complete().event == Some(complete));
    assert!(render_heartbeat().event == Some(Event::Heartbeat(Heartbeat {})));
}
