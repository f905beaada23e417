//! ListHistory: what has happened, in order, page by page.

use crate::worklist_user;
use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request::State;
use tonic::{Code, Status};

use super::{NOBODY, NOW, booking, created, done, messages, record, requested};
use crate::harness::{Harness, bad_fields, refusal, within};
use crate::make;

async fn page(
    harness: &Harness,
    name: &str,
    page_size: i32,
    page_token: &str,
) -> Result<v1::ListHistoryResponse, Status> {
    let call = v1::ListHistoryRequest {
        name: name.into(),
        page_size,
        page_token: page_token.into(),
    };
    let answer = within(harness.requests().list_history(call)).await?;
    Ok(answer.into_inner())
}

/// A request that has been through all that can happen to one in this step.
async fn eventful(harness: &Harness) -> v1::BookingRequest {
    let request = created(harness, requested("2026-03-09", "2026-06-12")).await;
    let name = &request.name;
    harness.advance("2026-03-03T09:00:00Z");
    harness
        .invite(make::wire_invite(name))
        .await
        .expect("invited");
    harness.advance("2026-03-04T09:00:00Z");
    assert_eq!(harness.hand_over_due().await.len(), 1);
    harness.advance("2026-03-05T09:00:00Z");
    let visit = |start, end| booking("B-1", start, end);
    let first = visit("2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
    harness.book(record(name, first)).await.expect("booked");
    let moved = visit("2026-05-19T08:00:00Z", "2026-05-19T08:30:00Z");
    harness.book(record(name, moved)).await.expect("moved");
    harness.advance("2026-03-06T09:00:00Z");
    harness
        .invite(make::wire_invite(name))
        .await
        .expect("invited");
    harness
        .cancel(make::wire_cancel(name))
        .await
        .expect("cancelled")
}

#[tokio::test]
async fn what_happened_is_told_in_order_with_who_when_and_the_state_after_it() {
    let harness = Harness::start(NOW).await;
    let request = eventful(&harness).await;
    let entries = harness.history(&request.name).await;
    let days: Vec<_> = entries
        .iter()
        .map(|entry| {
            let seconds = entry.event_time.expect("a time").seconds;
            let day = (seconds - make::wire_at(NOW).seconds) / 86_400 + 2;
            (day, worklist_user::event(entry), entry.state())
        })
        .collect();
    assert_eq!(
        days,
        [
            (2, "CREATE_BOOKING_REQUEST", State::Requested),
            (3, "CHANGE_TO_INVITATION", State::Invited),
            (4, "NOTIFICATION_SENT", State::Invited),
            (5, "RECORD_BOOKING", State::Booked),
            (5, "NOTIFICATION_CANCELLED", State::Booked),
            (5, "RECORD_BOOKING", State::Booked),
            (6, "CHANGE_TO_INVITATION", State::Invited),
            (6, "CANCEL_BOOKING_REQUEST", State::Cancelled),
            (6, "NOTIFICATION_CANCELLED", State::Cancelled),
        ]
    );
    // Nobody is asked who they are yet, so it is the same for all.
    assert!(entries.iter().all(|entry| entry.actor == "anonymous"));
    let messages = messages(&request);
    let about = |i: usize| entries[i].notification.as_str();
    assert_eq!(
        (about(2), about(4)),
        (&*messages[0].name, &*messages[1].name)
    );
    assert_eq!(about(8), messages[2].name);
    assert!([0, 1, 3, 5, 6, 7].iter().all(|i| about(*i).is_empty()));
    assert_eq!(entries[0].constraints, request.constraints);
    // The booking that was recorded, moved, and ended by the new invitation.
    let start = |i: usize| entries[i].booking.as_ref().and_then(|it| it.start_time);
    let (first, second) = ("2026-05-18T08:00:00Z", "2026-05-19T08:00:00Z");
    assert_eq!(start(3), Some(make::wire_at(first)));
    assert_eq!(start(5), Some(make::wire_at(second)));
    assert_eq!(start(6), Some(make::wire_at(second)));
    assert_eq!(start(7), None);
}

#[tokio::test]
async fn leases_and_reading_are_no_history() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-03-09", "2026-06-12")).await;
    harness.lease_due().await;
    harness.advance("2026-03-02T09:02:00Z");
    harness.lease_due().await;
    harness.get(&request.name).await.expect("read");
    let entries = harness.history(&request.name).await;
    assert_eq!(done(&entries), ["CREATE_BOOKING_REQUEST"]);
}

#[tokio::test]
async fn pages_of_any_size_make_the_whole() {
    let harness = Harness::start(NOW).await;
    let request = eventful(&harness).await;
    let whole = harness.history(&request.name).await;
    for page_size in [1, 2, 4, 8, 9, 10, 0, 501, i32::MAX] {
        let mut told = Vec::new();
        let mut token = String::new();
        loop {
            let page = page(&harness, &request.name, page_size, &token)
                .await
                .expect("a page");
            assert!(!page.entries.is_empty(), "{page_size}");
            if page_size > 0 {
                assert!(page.entries.len() <= usize::try_from(page_size).expect("positive"));
            }
            told.extend(page.entries);
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(told, whole, "{page_size}");
    }
    let status = page(&harness, &request.name, -1, "")
        .await
        .expect_err("negative");
    assert_eq!(
        refusal(&status),
        (Code::InvalidArgument, "FIELD_INVALID".into())
    );
    assert_eq!(bad_fields(&status), ["page_size"]);
}

#[tokio::test]
async fn what_happens_between_two_pages_is_on_the_later_one() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, requested("2026-05-18", "2026-06-12")).await;
    harness
        .invite(make::wire_invite(&request.name))
        .await
        .expect("invited");
    let first = page(&harness, &request.name, 1, "").await.expect("a page");
    harness
        .cancel(make::wire_cancel(&request.name))
        .await
        .expect("cancelled");
    let rest = page(&harness, &request.name, 0, &first.next_page_token)
        .await
        .expect("a page");
    let expected = [
        "CHANGE_TO_INVITATION",
        "CANCEL_BOOKING_REQUEST",
        "NOTIFICATION_CANCELLED",
    ];
    assert_eq!(done(&rest.entries), expected);
    assert_eq!(rest.next_page_token, "");
}

#[tokio::test]
async fn a_page_token_belongs_to_its_request_and_is_taken_as_it_was_given() {
    let harness = Harness::start(NOW).await;
    let request = eventful(&harness).await;
    let other = v1::BookingRequest {
        origin: Some(make::wire_referral("R-2")),
        ..requested("2026-05-18", "2026-06-12")
    };
    let other = created(&harness, other).await;
    let token = page(&harness, &request.name, 1, "")
        .await
        .expect("a page")
        .next_page_token;
    // Another size and another spelling of the name are the same list.
    let lower = request
        .name
        .replace(make::CARE_UNIT, &make::CARE_UNIT.to_lowercase());
    let rest = page(&harness, &lower, 500, &token).await.expect("a page");
    assert_eq!(rest.entries.len(), 8);

    let query = v1::WorklistQuery {
        worklists: vec![v1::Worklist::All.into()],
        care_units: vec![make::wire_unit()],
        personal_id: "198003012385".into(),
        personal_id_type: v1::PersonalIdType::Personnummer.into(),
        ..Default::default()
    };
    let list = v1::ListWorklistRequest {
        query: Some(query),
        page_size: 1,
        page_token: String::new(),
        ..Default::default()
    };
    let list = within(harness.worklists().list_worklist(list))
        .await
        .expect("a list");
    let of_a_worklist = list.into_inner().next_page_token;
    assert!(!of_a_worklist.is_empty());
    let cut = &token[..token.len() - 1];
    let mut altered = token.clone().into_bytes();
    altered[3] ^= 1;
    let altered = String::from_utf8(altered).expect("still text");
    for (row, name, token) in [
        ("another request", &other.name, &*token),
        ("another list", &request.name, &*of_a_worklist),
        ("garbage", &request.name, "x"),
        ("no base64", &request.name, "åäö\u{0}"),
        ("cut", &request.name, cut),
        ("altered", &request.name, &*altered),
        ("too long", &request.name, &*"A".repeat(100_000)),
    ] {
        let status = page(&harness, name, 0, token).await.expect_err(row);
        let expected = (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned());
        assert_eq!(refusal(&status), expected, "{row}");
    }
}

#[tokio::test]
async fn there_is_no_history_of_a_request_that_does_not_exist() {
    let harness = Harness::start(NOW).await;
    let status = page(&harness, NOBODY, 0, "").await.expect_err("nobody");
    assert_eq!(
        refusal(&status),
        (Code::NotFound, "RESOURCE_NOT_FOUND".into())
    );
    let status = page(&harness, "x", -1, "x").await.expect_err("no name");
    assert_eq!(bad_fields(&status), ["name", "page_size"]);
}
