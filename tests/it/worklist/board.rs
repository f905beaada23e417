//! Several lists as one, every care unit at once, and what staff see of a list at a glance: totals, counts by care unit,
//! the brief view, and a board of every list in one stream.

use std::collections::BTreeSet;

use care_invitation::contract::v1::watch_worklist_response::Event;
use care_invitation::contract::v1::worklist_query::OrderBy;
use care_invitation::contract::v1::{self, BookingRequestView, Worklist, WorklistQuery};
use tonic::{Code, Streaming};

use super::{NOW, create, decided, invitation, listed, page, protected, query, request, sorted};
use crate::harness::{Harness, bad_fields, refusal, within};
use crate::make;
use crate::worklist_user::{self, LISTS};

const OTHER_UNIT: &str = "careUnits/SE2321000131-P2";
const EVERY_UNIT: &str = "careUnits/-";

fn lists(lists: &[Worklist]) -> WorklistQuery {
    WorklistQuery {
        worklists: lists.iter().map(|it| (*it).into()).collect(),
        ..query(Worklist::Declined)
    }
}

async fn create_in(harness: &Harness, unit: &str, form: v1::BookingRequest) -> v1::BookingRequest {
    let call = v1::CreateBookingRequestRequest {
        parent: unit.into(),
        ..make::wire_create(form)
    };
    harness.create(call).await.expect("created")
}

#[tokio::test]
async fn several_lists_are_one_with_each_request_once_in_one_order() {
    let harness = Harness::start(NOW).await;
    let (june, april) = ("2026-06-12", "2026-04-24");
    create(&harness, request("c", "2026-05-20", june)).await;
    create(
        &harness,
        decided(invitation("a", "2026-03-16", june), "2025-12-01"),
    )
    .await;
    create(&harness, protected(invitation("b", "2026-04-06", june))).await;
    create(&harness, invitation("d", "2026-06-01", june)).await;
    let declined = create(&harness, invitation("e", "2026-04-06", april)).await;
    worklist_user::contact(&harness, &declined.name, v1::ContactOutcome::Declined).await;
    let all = lists(&LISTS);
    for (asked, expected) in [
        (lists(&[Worklist::CareInvitations]), &["a", "d"][..]),
        (
            lists(&[Worklist::BookingRequests, Worklist::CareInvitations]),
            &["a", "c", "d"],
        ),
        (
            lists(&[Worklist::GuaranteeAtRisk, Worklist::CareInvitations]),
            &["a", "d"],
        ),
        (
            lists(&[Worklist::Declined, Worklist::GuaranteeAtRisk]),
            &["a", "e"],
        ),
        (lists(&[Worklist::AllInvitations]), &["a", "b", "d"]),
        (
            lists(&[Worklist::AllInvitations, Worklist::AllBookingRequests]),
            &["a", "b", "c", "d"],
        ),
        (all.clone(), &["a", "b", "e", "c", "d"]),
    ] {
        assert_eq!(
            listed(&harness, asked.clone()).await,
            expected,
            "{:?}",
            asked.worklists
        );
        // Page by page it is the same.
        let mut paged = Vec::new();
        let mut token = String::new();
        loop {
            let next = page(&harness, asked.clone(), 1, &token)
                .await
                .expect("a page");
            paged.extend(next.booking_requests.iter().map(super::referral_of));
            token = next.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(paged, expected, "{:?}", asked.worklists);
    }
    let by_creation = WorklistQuery {
        order_by: OrderBy::CreateTime.into(),
        ..all
    };
    assert_eq!(
        listed(&harness, by_creation).await,
        ["c", "a", "b", "d", "e"]
    );
}

#[tokio::test]
async fn every_care_unit_is_asked_for_one_subject_or_for_manual_handling() {
    let harness = Harness::start(NOW).await;
    let (first, last) = ("2026-05-18", "2026-06-12");
    let (here, there) = (make::wire_unit(), OTHER_UNIT);
    create_in(&harness, &here, protected(invitation("R-1", first, last))).await;
    let other = create_in(
        &harness,
        there,
        protected(invitation("R-2", "2026-04-06", last)),
    )
    .await;
    let stranger = v1::BookingRequest {
        patient: Some(v1::Patient {
            personal_id: "191212121212".into(),
            ..make::wire_form(first, last).patient.expect("a patient")
        }),
        ..request("R-1", first, last)
    };
    create_in(&harness, there, stranger).await;
    let everywhere = |list| WorklistQuery {
        care_units: vec![EVERY_UNIT.into()],
        ..query(list)
    };
    let of_patient = |list| WorklistQuery {
        personal_id: "198003012385".into(),
        personal_id_type: v1::PersonalIdType::Personnummer.into(),
        ..everywhere(list)
    };
    let of_referral = WorklistQuery {
        referral_id: "R-1".into(),
        ..everywhere(Worklist::All)
    };
    assert_eq!(
        sorted(&harness, of_patient(Worklist::All)).await,
        ["R-1", "R-2"]
    );
    assert_eq!(
        sorted(&harness, of_patient(Worklist::BookingRequests)).await,
        [""; 0]
    );
    assert_eq!(sorted(&harness, of_referral).await, ["R-1", "R-1"]);
    assert_eq!(
        listed(&harness, everywhere(Worklist::ManualHandling)).await,
        ["R-2", "R-1"]
    );
    // What comes between two pages in a care unit that had nothing is seen.
    let third = "careUnits/SE2321000131-P3";
    let opened = page(&harness, everywhere(Worklist::ManualHandling), 1, "")
        .await
        .expect("a page");
    create_in(
        &harness,
        third,
        protected(invitation("R-3", "2026-05-11", last)),
    )
    .await;
    let token = opened.next_page_token;
    let rest = page(&harness, everywhere(Worklist::ManualHandling), 5, &token).await;
    let rest: Vec<_> = rest
        .expect("a page")
        .booking_requests
        .iter()
        .map(super::referral_of)
        .collect();
    assert_eq!(rest, ["R-3", "R-1"]);

    let booking = "B-77";
    let mut book = make::wire_booking(&other.name, "2026-05-18T08:00:00Z");
    book.booking.as_mut().expect("given").booking_id = booking.into();
    harness.book(book).await.expect("booked");
    let of_booking = WorklistQuery {
        booking_id: booking.into(),
        ..everywhere(Worklist::All)
    };
    assert_eq!(sorted(&harness, of_booking).await, ["R-2"]);

    let refused = page(&harness, everywhere(Worklist::FollowUp), 0, "").await;
    assert_eq!(
        bad_fields(&refused.expect_err("too many")),
        ["query.care_units"]
    );
}

#[tokio::test]
async fn a_page_says_how_many_there_are_when_asked_to() {
    let harness = Harness::start(NOW).await;
    for referral in ["a", "b", "c"] {
        create(&harness, request(referral, "2026-05-18", "2026-06-12")).await;
    }
    for (include_total_size, expected) in [(false, None), (true, Some(3))] {
        let call = v1::ListWorklistRequest {
            query: Some(query(Worklist::BookingRequests)),
            page_size: 2,
            include_total_size,
            ..Default::default()
        };
        let answer = within(harness.worklists().list_worklist(call)).await;
        let answer = answer.expect("a page").into_inner();
        assert_eq!(
            (answer.booking_requests.len(), answer.total_size),
            (2, expected)
        );
    }
}

#[tokio::test]
async fn the_brief_view_leaves_messages_and_texts_out() {
    let harness = Harness::start(NOW).await;
    let form = v1::BookingRequest {
        internal_comment: "Ring först".into(),
        ..invitation("R-1", "2026-03-16", "2026-06-12")
    };
    let full = create(&harness, form).await;
    let messages = |request: &v1::BookingRequest| {
        let invitation = request.care_invitation.as_ref();
        invitation.expect("an invitation").notifications.len()
    };
    assert_eq!(messages(&full), 3);
    let mut call = v1::ListWorklistRequest {
        query: Some(query(Worklist::CareInvitations)),
        ..Default::default()
    };
    for view in [BookingRequestView::Unspecified, BookingRequestView::Full] {
        call.view = view.into();
        let answer = within(harness.worklists().list_worklist(call.clone())).await;
        assert!(answer.expect("a page").into_inner().booking_requests == [full.clone()]);
    }
    call.view = BookingRequestView::Basic.into();
    let answer = within(harness.worklists().list_worklist(call.clone())).await;
    let mut brief = answer
        .expect("a page")
        .into_inner()
        .booking_requests
        .remove(0);
    assert_eq!(
        (messages(&brief), &*brief.purpose, &*brief.internal_comment),
        (0, "", "")
    );
    assert!(brief.patient_instructions.is_none());
    brief.care_invitation.clone_from(&full.care_invitation);
    brief.purpose.clone_from(&full.purpose);
    brief.internal_comment.clone_from(&full.internal_comment);
    brief
        .patient_instructions
        .clone_from(&full.patient_instructions);
    assert!(brief == full, "all else is there");
    call.view = 9;
    let answer = within(harness.worklists().list_worklist(call)).await;
    assert_eq!(bad_fields(&answer.expect_err("no view")), ["view"]);
}

#[tokio::test]
async fn lists_are_counted_by_care_unit_and_under_the_filters_of_a_query() {
    let harness = Harness::start(NOW).await;
    let (first, last) = ("2026-05-18", "2026-06-12");
    create(&harness, request("R-1", first, last)).await;
    create_in(&harness, OTHER_UNIT, request("R-1", first, last)).await;
    create_in(&harness, OTHER_UNIT, request("R-2", first, last)).await;
    let count = async |query: WorklistQuery| {
        let call = v1::CountWorklistsRequest {
            query: Some(query),
            by_care_unit: true,
        };
        let answer = within(harness.worklists().count_worklists(call)).await;
        let answer = answer.expect("counts").into_inner();
        let sum = |counts: &[v1::WorklistCount]| counts.iter().map(|it| it.count).sum::<i64>();
        let units = answer.care_units.iter();
        let units: Vec<_> = units
            .map(|it| (it.care_unit.clone(), sum(&it.counts)))
            .collect();
        (sum(&answer.counts), units)
    };
    let both = WorklistQuery {
        care_units: vec![OTHER_UNIT.into(), make::wire_unit()],
        ..query(Worklist::BookingRequests)
    };
    let (total, units) = count(both.clone()).await;
    let [here, there] = [make::wire_unit(), OTHER_UNIT.to_owned()];
    assert_eq!(
        (total, units),
        (3, vec![(here.clone(), 1), (there.clone(), 2)])
    );
    let of_referral = WorklistQuery {
        referral_id: "R-2".into(),
        ..both
    };
    let (total, units) = count(of_referral.clone()).await;
    assert_eq!((total, units), (1, vec![(here, 0), (there.clone(), 1)]));
    let everywhere = WorklistQuery {
        care_units: vec![EVERY_UNIT.into()],
        ..of_referral
    };
    assert_eq!(count(everywhere).await, (1, vec![(there, 1)]));
}

#[tokio::test]
async fn the_care_units_that_have_requests_are_listed_page_by_page() {
    let harness = Harness::start(NOW).await;
    let mut expected = BTreeSet::new();
    for number in 0..5 {
        let unit = format!("careUnits/SE2321000131-P{number}");
        for referral in ["R-1", "R-2"] {
            create_in(
                &harness,
                &unit,
                request(referral, "2026-05-18", "2026-06-12"),
            )
            .await;
        }
        expected.insert(unit);
    }
    let mut call = v1::ListCareUnitsRequest {
        page_size: 2,
        ..Default::default()
    };
    let mut pages = Vec::new();
    loop {
        let answer = within(harness.worklists().list_care_units(call.clone())).await;
        let answer = answer.expect("a page").into_inner();
        pages.push(answer.care_units);
        call.page_token = answer.next_page_token;
        if call.page_token.is_empty() {
            break;
        }
    }
    let lengths: Vec<_> = pages.iter().map(Vec::len).collect();
    assert_eq!(lengths, [2, 2, 1]);
    assert_eq!(
        pages.concat().into_iter().collect::<BTreeSet<_>>(),
        expected
    );

    call.page_token = "x".into();
    let refused = within(harness.worklists().list_care_units(call.clone())).await;
    let reason = (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned());
    assert_eq!(refusal(&refused.expect_err("no token")), reason);
    call.page_size = -1;
    let refused = within(harness.worklists().list_care_units(call)).await;
    assert_eq!(bad_fields(&refused.expect_err("no size")), ["page_size"]);
}

/// What a board is told next: a request by its lists, or its name when it is on none.
async fn told(events: &mut Streaming<v1::WatchWorklistResponse>) -> Result<Vec<Worklist>, String> {
    let said = within(events.message())
        .await
        .expect("a stream")
        .expect("an event");
    let lists = said.worklists().collect();
    match said.event.expect("an event") {
        Event::Upserted(_) => Ok(lists),
        Event::Removed(name) => Err(name),
        other => panic!("a change was to come, not {other:?}"),
    }
}

#[tokio::test]
async fn a_board_of_every_list_is_one_stream_in_which_a_move_is_told_once() {
    use Worklist as L;
    let harness = Harness::start(NOW).await;
    let form = decided(request("R-1", "2026-03-09", "2026-03-13"), "2025-12-01");
    let name = create(&harness, form).await.name;
    let call = v1::WatchWorklistRequest {
        query: Some(lists(&LISTS)),
        ..Default::default()
    };
    let events = within(harness.worklists().watch_worklist(call)).await;
    let events = &mut events.expect("a stream").into_inner();
    let requested = vec![
        L::BookingRequests,
        L::GuaranteeAtRisk,
        L::AllBookingRequests,
    ];
    assert_eq!(told(events).await, Ok(requested.clone()));
    let complete = within(events.message())
        .await
        .expect("a stream")
        .expect("an event");
    assert!(matches!(complete.event, Some(Event::SnapshotComplete(_))));

    harness
        .invite(make::wire_invite(&name))
        .await
        .expect("invited");
    let invited = vec![L::CareInvitations, L::GuaranteeAtRisk, L::AllInvitations];
    assert_eq!(told(events).await, Ok(invited));
    worklist_user::contact(&harness, &name, v1::ContactOutcome::NoSuitableTime).await;
    let held = vec![L::GuaranteeAtRisk, L::AllInvitations, L::SlotIssues];
    let mut now_on = told(events).await.expect("it stays");
    now_on.sort();
    let mut expected = held;
    expected.sort();
    assert_eq!(now_on, expected);
    harness.advance("2026-03-13T23:00:00Z");
    let expired = vec![L::FollowUp, L::GuaranteeAtRisk, L::AllInvitations];
    assert_eq!(told(events).await, Ok(expired));
    let book = make::wire_booking(&name, "2026-03-16T08:00:00Z");
    harness.book(book).await.expect("booked");
    assert_eq!(told(events).await, Err(name));
}

#[tokio::test]
async fn manual_handling_of_every_care_unit_is_watched() {
    let harness = Harness::start(NOW).await;
    let call = v1::WatchWorklistRequest {
        query: Some(WorklistQuery {
            care_units: vec![EVERY_UNIT.into()],
            ..query(Worklist::ManualHandling)
        }),
        ..Default::default()
    };
    let events = within(harness.worklists().watch_worklist(call)).await;
    let events = &mut events.expect("a stream").into_inner();
    let complete = within(events.message())
        .await
        .expect("a stream")
        .expect("an event");
    assert!(matches!(complete.event, Some(Event::SnapshotComplete(_))));
    create_in(
        &harness,
        OTHER_UNIT,
        invitation("R-1", "2026-03-09", "2026-03-13"),
    )
    .await;
    let form = protected(invitation("R-2", "2026-03-09", "2026-03-13"));
    let name = create_in(&harness, OTHER_UNIT, form).await.name;
    assert_eq!(told(events).await, Ok(vec![Worklist::ManualHandling]));
    harness.advance("2026-03-13T23:00:00Z");
    assert_eq!(told(events).await, Err(name));
}
