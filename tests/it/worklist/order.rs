//! The orders of a list, and what breaks ties.

use care_invitation::contract::v1::worklist_query::OrderBy;
use care_invitation::contract::v1::{self, Priority, Worklist, WorklistQuery};

use super::{
    NOW, create, decided, everything, invitation, listed, page, protected, query, request,
};
use crate::harness::Harness;
use crate::make;

fn by(order_by: OrderBy) -> WorklistQuery {
    WorklistQuery {
        order_by: order_by.into(),
        ..everything()
    }
}

fn urgent(form: v1::BookingRequest, priority: Priority) -> v1::BookingRequest {
    v1::BookingRequest {
        priority: priority.into(),
        ..form
    }
}

/// Creates these an hour apart; since names rise with creation, they are their own tie-break.
async fn create_all(harness: &Harness, forms: impl IntoIterator<Item = v1::BookingRequest>) {
    for form in forms {
        create(harness, form).await;
        let later = harness.clock.now() + chrono::Duration::hours(1);
        harness.clock.advance(later).expect("forward");
    }
}

#[tokio::test]
async fn by_start_date_the_earliest_comes_first_and_that_is_the_default() {
    let harness = Harness::start(NOW).await;
    let direct = v1::BookingRequest {
        constraints: None,
        ..request("none", "", "")
    };
    let direct = v1::BookingRequest {
        booking: make::wire_booking("", "2026-03-09T08:00:00Z").booking,
        ..direct
    };
    create_all(
        &harness,
        [
            direct,
            request("c", "2026-06-01", "2026-06-12"),
            request("a", "2026-03-09", "2026-06-12"),
            request("b1", "2026-05-18", "2026-06-12"),
            request("b2", "2026-05-18", "2026-05-22"),
        ],
    )
    .await;
    for order_by in [OrderBy::Unspecified, OrderBy::StartDate] {
        assert_eq!(
            listed(&harness, by(order_by)).await,
            ["a", "b1", "b2", "c", "none"]
        );
    }
}

#[tokio::test]
async fn by_create_time_the_longest_wait_comes_first() {
    let harness = Harness::start(NOW).await;
    create_all(
        &harness,
        [
            request("first", "2026-06-01", "2026-06-12"),
            request("second", "2026-05-18", "2026-06-12"),
            request("third", "2026-03-09", "2026-06-12"),
        ],
    )
    .await;
    let changed = page(&harness, by(OrderBy::CreateTime), 1, "")
        .await
        .expect("a page");
    let name = &changed.booking_requests[0].name;
    harness
        .invite(make::wire_invite(name))
        .await
        .expect("changed, not created");
    let order = by(OrderBy::CreateTime);
    assert_eq!(listed(&harness, order).await, ["first", "second", "third"]);
}

#[tokio::test]
async fn by_next_notification_the_soonest_comes_first_and_those_without_one_last() {
    let harness = Harness::start(NOW).await;
    create_all(
        &harness,
        [
            request("z1-none", "2026-05-18", "2026-06-12"),
            protected(invitation("z2-held", "2026-05-18", "2026-06-12")),
            invitation("z3-brief", "2026-03-09", "2026-03-13"),
            invitation("d", "2026-06-15", "2026-07-10"),
            invitation("b1", "2026-05-18", "2026-06-12"),
            invitation("b2", "2026-05-18", "2026-05-22"),
            invitation("c", "2026-03-09", "2026-06-12"),
        ],
    )
    .await;
    // Now: z3 at ten, c at four in the afternoon, b on 6 April, d on 4 May.
    let order = || by(OrderBy::NextNotification);
    let expected = ["z3-brief", "c", "b1", "b2", "d", "z1-none", "z2-held"];
    assert_eq!(listed(&harness, order()).await, expected);
    // A leased message is still to come.
    let due = harness.lease_due().await;
    assert_eq!(
        (due.len(), listed(&harness, order()).await),
        (2, expected.map(Into::into).into())
    );
    // Handed over: the reminder of z3 is skipped, that of c is due on 16 March.
    harness.acknowledge_sent(&due).await;
    let expected = ["c", "b1", "b2", "d", "z1-none", "z2-held", "z3-brief"];
    assert_eq!(listed(&harness, order()).await, expected);
    // From expiry on nothing is to come, though nobody has claimed it: not of b2 after 22 May.
    harness.advance("2026-05-22T22:00:00Z");
    let expected = ["c", "b1", "d", "z1-none", "z2-held", "z3-brief", "b2"];
    assert_eq!(listed(&harness, order()).await, expected);
}

#[tokio::test]
async fn by_priority_the_highest_comes_first_then_the_longest_wait() {
    let harness = Harness::start(NOW).await;
    let form = |referral_id: &str| request(referral_id, "2026-05-18", "2026-06-12");
    create_all(
        &harness,
        [
            urgent(form("routine-1"), Priority::Unspecified),
            urgent(form("urgent-1"), Priority::Urgent),
            urgent(form("emergency-1"), Priority::Emergency),
            urgent(form("routine-2"), Priority::Routine),
            urgent(form("emergency-2"), Priority::Emergency),
            urgent(form("urgent-2"), Priority::Urgent),
        ],
    )
    .await;
    let expected = [
        "emergency-1",
        "emergency-2",
        "urgent-1",
        "urgent-2",
        "routine-1",
        "routine-2",
    ];
    assert_eq!(listed(&harness, by(OrderBy::Priority)).await, expected);
}

#[tokio::test]
async fn by_care_guarantee_the_soonest_end_comes_first_and_those_without_one_last() {
    let harness = Harness::start(NOW).await;
    let form = |referral_id: &str| request(referral_id, "2026-05-18", "2026-06-12");
    create_all(
        &harness,
        [
            form("none-1"),
            decided(form("late"), "2026-02-20"),
            decided(form("early-1"), "2025-02-20"),
            form("none-2"),
            decided(form("early-2"), "2025-02-20"),
            decided(form("middle"), "2026-01-20"),
        ],
    )
    .await;
    let expected = ["early-1", "early-2", "middle", "late", "none-1", "none-2"];
    assert_eq!(listed(&harness, by(OrderBy::CareGuarantee)).await, expected);
}

#[tokio::test]
async fn ties_are_broken_by_the_name_of_the_request_in_every_order() {
    let harness = Harness::start(NOW).await;
    // In capitals: P1 before P10 before P2, as their names sort.
    let units = ["P2", "P10", "P1"].map(|unit| format!("careUnits/SE2321000131-{unit}"));
    for i in 0..4 {
        for unit in &units {
            let call = v1::CreateBookingRequestRequest {
                parent: unit.clone(),
                ..make::wire_create(request(&format!("R-{i}"), "2026-05-18", "2026-06-12"))
            };
            harness.create(call).await.expect("created");
        }
    }
    for order_by in [
        OrderBy::Unspecified,
        OrderBy::StartDate,
        OrderBy::CreateTime,
        OrderBy::NextNotification,
        OrderBy::Priority,
        OrderBy::CareGuarantee,
    ] {
        let list = WorklistQuery {
            care_units: units.to_vec(),
            order_by: order_by.into(),
            ..query(Worklist::BookingRequests)
        };
        let whole = page(&harness, list.clone(), 0, "").await.expect("a list");
        let names: Vec<_> = whole
            .booking_requests
            .iter()
            .map(|it| it.name.clone())
            .collect();
        assert_eq!(names.len(), 12);
        assert!(names.is_sorted(), "{order_by:?}: {names:?}");
        // Page by page it is the same.
        let (mut paged, mut token) = (Vec::new(), String::new());
        loop {
            let page = page(&harness, list.clone(), 5, &token)
                .await
                .expect("a page");
            paged.extend(page.booking_requests.into_iter().map(|it| it.name));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(paged, names, "{order_by:?}");
    }
}
