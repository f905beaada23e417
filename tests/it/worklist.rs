//! Worklists through the real client: which requests are on which, narrowed, in order and page by
//! page; and that the counts are the lengths.

mod board;
mod derived;
mod kept;
mod narrow;
mod order;
mod page;
mod watch;

use care_invitation::contract::v1;
use care_invitation::contract::v1::Worklist;
use care_invitation::contract::v1::booking_request::{Origin, State};
use care_invitation::domain::calendar::Instant;
use tonic::Status;

use crate::harness::{Harness, within};
use crate::make;
use crate::worklist_user::LISTS;

const NOW: &str = "2026-03-02T09:00:00Z";

/// A list of the care unit that most tests have.
fn query(worklist: Worklist) -> v1::WorklistQuery {
    v1::WorklistQuery {
        worklists: vec![worklist.into()],
        care_units: vec![make::wire_unit()],
        ..Default::default()
    }
}

/// Every request of the patient that most tests have.
fn everything() -> v1::WorklistQuery {
    v1::WorklistQuery {
        personal_id: "198003012385".into(),
        personal_id_type: v1::PersonalIdType::Personnummer.into(),
        ..query(Worklist::All)
    }
}

async fn page(
    harness: &Harness,
    query: v1::WorklistQuery,
    page_size: i32,
    page_token: &str,
) -> Result<v1::ListWorklistResponse, Status> {
    let call = v1::ListWorklistRequest {
        query: Some(query),
        page_size,
        page_token: page_token.into(),
        ..Default::default()
    };
    let answer = within(harness.worklists().list_worklist(call)).await?;
    Ok(answer.into_inner())
}

/// The referrals of the requests on a list, in its order.
async fn listed(harness: &Harness, query: v1::WorklistQuery) -> Vec<String> {
    let page = page(harness, query, 500, "").await.expect("a list");
    assert_eq!(page.next_page_token, "");
    page.booking_requests.iter().map(referral_of).collect()
}

fn referral_of(request: &v1::BookingRequest) -> String {
    match &request.origin {
        Some(Origin::Referral(referral)) => referral.referral_id.clone(),
        Some(Origin::PreviousVisit(visit)) => visit.referral_id.clone(),
        None => String::new(),
    }
}

async fn sorted(harness: &Harness, query: v1::WorklistQuery) -> Vec<String> {
    let mut listed = listed(harness, query).await;
    listed.sort();
    listed
}

async fn counts(harness: &Harness, care_units: Vec<String>) -> Vec<(Worklist, i64)> {
    let call = make::wire_count(care_units);
    let answer = within(harness.worklists().count_worklists(call)).await;
    let counts = answer.expect("counts").into_inner().counts;
    counts.iter().map(|it| (it.worklist(), it.count)).collect()
}

/// An invitation by this referral.
fn invitation(referral_id: &str, first: &str, last: &str) -> v1::BookingRequest {
    v1::BookingRequest {
        origin: Some(make::wire_referral(referral_id)),
        ..make::wire_form(first, last)
    }
}

/// A request by this referral to which nobody is invited yet.
fn request(referral_id: &str, first: &str, last: &str) -> v1::BookingRequest {
    v1::BookingRequest {
        invitation: false,
        ..invitation(referral_id, first, last)
    }
}

/// The form with a decision on its referral.
fn decided(mut form: v1::BookingRequest, decision: &str) -> v1::BookingRequest {
    if let Some(Origin::Referral(referral)) = &mut form.origin {
        referral.decision_date = decision.into();
    }
    form
}

fn protected(mut form: v1::BookingRequest) -> v1::BookingRequest {
    let patient = form.patient.as_mut().expect("a patient");
    patient.protection = v1::Protection::ConfidentialityMarked.into();
    form
}

async fn create(harness: &Harness, form: v1::BookingRequest) -> v1::BookingRequest {
    let answer = harness.create(make::wire_create(form)).await;
    answer.expect("created")
}

/// The referrals of the requests on the first five lists that are open, and invitations or not.
async fn open(harness: &Harness, invitation: bool) -> Vec<String> {
    let lists = LISTS[..5].iter().map(|list| (*list).into());
    let query = v1::WorklistQuery {
        worklists: lists.collect(),
        ..query(Worklist::Declined)
    };
    let all = page(harness, query, 500, "").await.expect("a list");
    let all = all.booking_requests.iter();
    let open = all.filter(|it| it.invitation == invitation && it.state() != State::Cancelled);
    let mut open: Vec<_> = open.map(referral_of).collect();
    open.sort();
    open
}

/// Lists and counts agree with what is expected of each list, and with each other.
async fn assert_lists(harness: &Harness, expected: &[(Worklist, &[&str])]) {
    let mut lengths = Vec::new();
    for list in LISTS {
        let on_it = sorted(harness, query(list)).await;
        let named = expected.iter().find(|(named, _)| *named == list);
        let expected = named.map_or(&[][..], |(_, names)| names);
        let expected: Vec<String> = match list {
            Worklist::AllInvitations => open(harness, true).await,
            Worklist::AllBookingRequests => open(harness, false).await,
            _ => expected.iter().map(|it| (*it).to_owned()).collect(),
        };
        assert_eq!(on_it, expected, "{list:?} at {}", harness.clock.now());
        lengths.push((list, i64::try_from(on_it.len()).expect("a few")));
    }
    let counted = counts(harness, vec![make::wire_unit()]).await;
    assert_eq!(counted, lengths, "at {}", harness.clock.now());
}

#[tokio::test]
async fn an_empty_care_unit_has_empty_lists_that_are_counted() {
    let harness = Harness::start(NOW).await;
    assert_lists(&harness, &[]).await;
    assert_eq!(sorted(&harness, everything()).await, [""; 0]);
}

#[tokio::test]
async fn every_request_is_on_the_list_that_its_state_and_its_hold_call_for() {
    let harness = Harness::start(NOW).await;
    for form in [
        request("requested", "2026-05-18", "2026-06-12"),
        request("brief", "2026-03-09", "2026-03-13"),
        invitation("invited", "2026-06-15", "2026-07-10"),
        invitation("brief-invited", "2026-03-09", "2026-03-13"),
        invitation("mute", "2026-03-09", "2026-06-12"),
        protected(invitation("protected", "2026-06-15", "2026-07-10")),
        protected(invitation("brief-protected", "2026-03-09", "2026-03-13")),
        protected(request("protected-requested", "2026-05-18", "2026-06-12")),
    ] {
        create(&harness, form).await;
    }
    let closed = create(&harness, invitation("closed", "2026-05-18", "2026-06-12")).await;
    let cancel = make::wire_cancel(&closed.name);
    harness.cancel(cancel).await.expect("closed");
    let settled = create(&harness, invitation("settled", "2026-05-18", "2026-06-12")).await;
    let book = make::wire_booking(&settled.name, "2026-05-18T08:00:00Z");
    harness.book(book).await.expect("booked");

    assert_lists(
        &harness,
        &[
            (
                Worklist::BookingRequests,
                &["brief", "protected-requested", "requested"],
            ),
            (
                Worklist::CareInvitations,
                &["brief-invited", "invited", "mute"],
            ),
            (Worklist::ManualHandling, &["brief-protected", "protected"]),
        ],
    )
    .await;
    assert_eq!(sorted(&harness, everything()).await.len(), 10);

    for now in [NOW, "2026-03-16T08:00:00Z", "2026-03-30T07:00:00Z"] {
        harness.advance(now);
        assert!(!harness.hand_over_due().await.is_empty(), "{now}");
    }
    // Expiry comes before the hold; silence counts from the last message.
    harness.advance("2026-04-13T06:59:59Z");
    let expired = ["brief", "brief-invited", "brief-protected"];
    assert_lists(
        &harness,
        &[
            (
                Worklist::BookingRequests,
                &["protected-requested", "requested"],
            ),
            (Worklist::CareInvitations, &["invited", "mute"]),
            (Worklist::FollowUp, &expired),
            (Worklist::ManualHandling, &["protected"]),
        ],
    )
    .await;
    harness.advance("2026-04-13T07:00:00Z");
    assert_lists(
        &harness,
        &[
            (
                Worklist::BookingRequests,
                &["protected-requested", "requested"],
            ),
            (Worklist::CareInvitations, &["invited"]),
            (
                Worklist::FollowUp,
                &["brief", "brief-invited", "brief-protected", "mute"],
            ),
            (Worklist::ManualHandling, &["protected"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_is_done_with_a_request_moves_it_from_list_to_list() {
    let harness = Harness::start(NOW).await;
    let form = request("R-1", "2026-03-09", "2026-03-13");
    let name = create(&harness, form).await.name;
    let on = |list| [(list, &["R-1"][..])];
    assert_lists(&harness, &on(Worklist::BookingRequests)).await;
    harness
        .invite(make::wire_invite(&name))
        .await
        .expect("invited");
    assert_lists(&harness, &on(Worklist::CareInvitations)).await;
    harness.advance("2026-03-13T23:00:00Z");
    assert_lists(&harness, &on(Worklist::FollowUp)).await;
    let renewed = v1::ChangeToInvitationRequest {
        constraints: Some(make::wire_constraints("2026-05-18", "2026-06-12")),
        ..make::wire_invite(&name)
    };
    harness.invite(renewed).await.expect("invited anew");
    assert_lists(&harness, &on(Worklist::CareInvitations)).await;
    let book = make::wire_booking(&name, "2026-05-18T08:00:00Z");
    harness.book(book).await.expect("booked");
    assert_lists(&harness, &[]).await;
    harness
        .invite(make::wire_invite(&name))
        .await
        .expect("invited again");
    assert_lists(&harness, &on(Worklist::CareInvitations)).await;
    harness
        .cancel(make::wire_cancel(&name))
        .await
        .expect("closed");
    assert_lists(&harness, &[]).await;
}

#[tokio::test]
async fn a_request_moves_to_follow_up_at_the_second_of_its_expiry() {
    let second = chrono::Duration::seconds(1);
    for (last, expires) in [
        ("2026-03-13", "2026-03-13T23:00:00Z"),
        ("2026-03-29", "2026-03-29T22:00:00Z"),
    ] {
        let harness = Harness::start(NOW).await;
        create(&harness, request("requested", "2026-03-09", last)).await;
        create(&harness, invitation("invited", "2026-03-09", last)).await;
        create(
            &harness,
            protected(invitation("protected", "2026-03-09", last)),
        )
        .await;
        let expires: Instant = make::at(expires);
        harness.clock.advance(expires - second).expect("forward");
        assert_lists(
            &harness,
            &[
                (Worklist::BookingRequests, &["requested"]),
                (Worklist::CareInvitations, &["invited"]),
                (Worklist::ManualHandling, &["protected"]),
            ],
        )
        .await;
        harness.clock.advance(expires).expect("forward");
        let all = ["invited", "protected", "requested"];
        assert_lists(&harness, &[(Worklist::FollowUp, &all)]).await;
        let page = page(&harness, query(Worklist::FollowUp), 0, "")
            .await
            .expect("a list");
        assert!(
            page.booking_requests
                .iter()
                .all(|it| it.state() == State::Expired)
        );
    }
}

#[tokio::test]
async fn the_guarantee_is_at_risk_from_fourteen_days_before_its_end_while_the_request_is_open() {
    let harness = Harness::start(NOW).await;
    let form = |referral_id: &str| request(referral_id, "2026-03-09", "2026-03-20");
    // 90 days later are 16 March, 14 days from now, and so on.
    for (referral_id, decision) in [
        ("ends-in-13", "2025-12-15"),
        ("ends-in-14", "2025-12-16"),
        ("ends-in-15", "2025-12-17"),
        ("has-ended", "2025-06-01"),
        ("booked", "2025-12-01"),
        ("closed", "2025-12-01"),
    ] {
        create(&harness, decided(form(referral_id), decision)).await;
    }
    let again = v1::BookingRequest {
        visit_kind: v1::VisitKind::ReturnVisit.into(),
        ..decided(form("return-visit"), "2025-12-01")
    };
    create(&harness, again).await;
    create(&harness, form("undecided")).await;
    let invited = decided(
        invitation("invited", "2026-05-18", "2026-06-12"),
        "2025-12-10",
    );
    create(&harness, invited).await;
    let names = page(&harness, everything(), 500, "")
        .await
        .expect("all")
        .booking_requests;
    for request in names {
        match referral_of(&request).as_str() {
            "booked" => {
                let book = make::wire_booking(&request.name, "2026-03-09T08:00:00Z");
                harness.book(book).await.expect("booked");
            }
            "closed" => {
                let cancel = make::wire_cancel(&request.name);
                harness.cancel(cancel).await.expect("closed");
            }
            _ => {}
        }
    }
    let at_risk = query(Worklist::GuaranteeAtRisk);
    let mut expected = vec!["ends-in-13", "ends-in-14", "has-ended", "invited"];
    assert_eq!(sorted(&harness, at_risk.clone()).await, expected);
    // It comes beside the list that the request is on.
    let requests = sorted(&harness, query(Worklist::BookingRequests)).await;
    assert!(requests.contains(&"ends-in-13".to_owned()));

    // The day is the one in Stockholm.
    harness.advance("2026-03-02T22:59:59Z");
    assert_eq!(sorted(&harness, at_risk.clone()).await, expected);
    harness.advance("2026-03-02T23:00:00Z");
    expected.insert(2, "ends-in-15");
    assert_eq!(sorted(&harness, at_risk.clone()).await, expected);
    // What has expired is open still.
    harness.advance("2026-03-20T23:00:00Z");
    assert_eq!(sorted(&harness, at_risk).await, expected);
    let counted = counts(&harness, vec![make::wire_unit()]).await;
    assert!(
        counted.contains(&(Worklist::GuaranteeAtRisk, 5)),
        "{counted:?}"
    );
    assert!(counted.contains(&(Worklist::FollowUp, 6)), "{counted:?}");
}

#[tokio::test]
async fn a_list_shows_requests_as_they_are_shown_alone() {
    let harness = Harness::start(NOW).await;
    let form = decided(invitation("R-1", "2026-03-09", "2026-03-27"), "2025-06-01");
    let name = create(&harness, form).await.name;
    harness.hand_over_due().await;
    for now in [NOW, "2026-03-16T09:00:00Z", "2026-03-28T09:00:00Z"] {
        harness.advance(now);
        let alone = harness.get(&name).await.expect("read");
        let page = page(&harness, everything(), 0, "").await.expect("a list");
        assert_eq!(page.booking_requests, [alone], "{now}");
    }
}
