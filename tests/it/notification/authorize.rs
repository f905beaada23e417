//! Leave to hand messages over: when it is given, for how long, and what it means.

use care_invitation::contract::v1;
use chrono::Duration;
use tonic::Code;

use super::{NOW, State, book, create, due_now, messages, states};
use crate::consumer::Outcomes as _;
use crate::consumer::{
    Consumer, acknowledge, answer, authorize, element_fields, everything, lease, lease_one,
    leasing_for, name, retry, sent,
};
use crate::harness::{Harness, bad_fields, refusal, within};
use crate::make;
use crate::make::at;

/// A request of which the first message is leased for so many seconds.
async fn leased(harness: &Harness, referral_id: &str, seconds: i64) -> v1::DueNotification {
    create(harness, due_now(referral_id)).await;
    lease_one(harness, seconds).await
}

#[tokio::test]
async fn leave_runs_for_a_minute_or_to_the_end_of_the_earliest_lease_where_that_is_later() {
    for (now, leases, expires) in [
        (NOW, vec![60], "2026-03-02T09:01:00Z"),
        (NOW, vec![10], "2026-03-02T09:01:00Z"),
        (NOW, vec![600], "2026-03-02T09:10:00Z"),
        (NOW, vec![600, 300], "2026-03-02T09:05:00Z"),
        (NOW, vec![600, 30], "2026-03-02T09:01:00Z"),
        ("2026-03-02T09:00:30Z", vec![60], "2026-03-02T09:01:30Z"),
        ("2026-03-02T09:00:30Z", vec![120], "2026-03-02T09:02:00Z"),
    ] {
        let harness = Harness::start(NOW).await;
        let mut held = Vec::new();
        for (number, seconds) in leases.iter().enumerate() {
            held.push(leased(&harness, &format!("R-{number}"), *seconds).await);
        }
        harness.advance(now);
        let given = authorize(&harness, held.iter().map(lease).collect()).await;
        let given = given.expect("answered");
        assert_eq!(
            given.authorized(),
            held.iter().map(name).collect::<Vec<_>>()
        );
        assert!(given.refused().is_empty());
        let expires = Some(make::wire_at(expires));
        assert_eq!(given.expire_time, expires, "{leases:?} at {now}");
    }
}

#[tokio::test]
async fn leave_renews_the_lease_and_repeating_it_renews_the_leave() {
    let harness = Harness::start(NOW).await;
    let due = leased(&harness, "R-1", 10).await;
    let request = &due.booking_request;
    for (now, expires) in [
        ("2026-03-02T09:00:05Z", "2026-03-02T09:01:05Z"),
        ("2026-03-02T09:01:00Z", "2026-03-02T09:02:00Z"),
        ("2026-03-02T09:01:59Z", "2026-03-02T09:02:59Z"),
    ] {
        harness.advance(now);
        assert!(harness.lease_due().await.is_empty(), "{now}");
        let given = authorize(&harness, vec![lease(&due)]).await;
        let given = given.expect("answered");
        assert_eq!(given.expire_time, Some(make::wire_at(expires)));
        assert_eq!(
            messages(&harness, request).await[0].state(),
            State::Dispatching
        );
    }
    let just_before = at("2026-03-02T09:02:59Z") - Duration::microseconds(1);
    harness.clock.advance(just_before).expect("forward");
    assert!(harness.lease_due().await.is_empty());
    harness.advance("2026-03-02T09:02:59Z");
    let again = harness.lease_due().await.remove(0);
    assert_eq!(name(&again), name(&due));
    assert!(again.possible_repeat);
    let refused = authorize(&harness, vec![lease(&due)]).await;
    assert_eq!(refused.expect("answered").refused(), [name(&due)]);
}

#[tokio::test]
async fn renewed_leave_keeps_a_place_under_max_outstanding() {
    let harness = Harness::start(NOW).await;
    create(&harness, due_now("R-1")).await;
    create(&harness, due_now("R-2")).await;
    let wishes = v1::StreamDueNotificationsRequest {
        max_outstanding: 1,
        ..leasing_for(10)
    };
    let mut consumer = Consumer::open(&harness, wishes).await;
    let first = consumer.due().await;
    authorize(&harness, vec![lease(&first)])
        .await
        .expect("given");
    harness.advance("2026-03-02T09:00:30Z");
    let shown = states(&harness, &first.booking_request).await;
    assert_eq!(shown[0], State::Dispatching);
    harness.advance("2026-03-02T09:00:40Z");
    answer(&harness, sent(&first)).await;
    let second = consumer.due().await;
    assert_eq!(
        second.lease_expire_time,
        Some(make::wire_at("2026-03-02T09:00:50Z")),
        "it is leased when the first is answered"
    );
}

#[tokio::test]
async fn leave_is_refused_after_a_booking() {
    let harness = Harness::start(NOW).await;
    let due = leased(&harness, "R-1", 60).await;
    book(&harness, &due.booking_request).await;
    let answer = authorize(&harness, vec![lease(&due)]).await;
    let result = v1::AuthorizeDispatchResult {
        name: name(&due),
        authorized: false,
        refusal: v1::DispatchRefusal::Booked.into(),
        error: None,
    };
    let expected = v1::AuthorizeDispatchResponse {
        results: vec![result],
        expire_time: None,
        server_time: Some(make::wire_at(NOW)),
    };
    assert_eq!(answer.expect("answered"), expected);
    let shown = states(&harness, &due.booking_request).await;
    assert_eq!(shown, [State::Cancelled]);
}

#[tokio::test]
async fn leave_is_refused_from_the_instant_at_which_the_period_ends() {
    let harness = Harness::start(NOW).await;
    create(&harness, make::wire_form("2026-03-09", "2026-03-13")).await;
    harness.advance("2026-03-13T22:30:00Z");
    let due = lease_one(&harness, 3_600).await;
    let just_before = at("2026-03-13T23:00:00Z") - Duration::microseconds(1);
    harness.clock.advance(just_before).expect("forward");
    let given = authorize(&harness, vec![lease(&due)]).await;
    assert_eq!(given.expect("answered").authorized(), [name(&due)]);
    harness.advance("2026-03-13T23:00:00Z");
    let given = authorize(&harness, vec![lease(&due)]).await;
    assert_eq!(given.expect("answered").refused(), [name(&due)]);
}

#[tokio::test]
async fn leave_is_refused_for_lost_and_unknown_leases_and_given_for_the_rest() {
    let harness = Harness::start(NOW).await;
    let old = leased(&harness, "R-1", 10).await;
    harness.advance("2026-03-02T09:00:10Z");
    let new = harness.lease_due().await.remove(0);
    let good = leased(&harness, "R-2", 60).await;
    let unknown = v1::Lease {
        name: format!(
            "{}/bookingRequests/{}/notifications/{}",
            make::wire_unit(),
            uuid::Uuid::now_v7(),
            uuid::Uuid::now_v7()
        ),
        lease_token: new.lease_token.clone(),
    };
    let call = vec![lease(&old), lease(&good), unknown.clone()];
    let given = authorize(&harness, call).await.expect("answered");
    assert_eq!(given.authorized(), [name(&good)]);
    assert_eq!(given.refused(), [name(&old), unknown.name]);
    let shown = states(&harness, &new.booking_request).await;
    assert_eq!(shown[0], State::Leased, "an old token changes nothing");
}

#[tokio::test]
async fn leave_is_given_for_a_lease_that_ran_out_and_was_not_leased_again() {
    let harness = Harness::start(NOW).await;
    let due = leased(&harness, "R-1", 10).await;
    harness.advance("2026-03-02T09:30:00Z");
    let given = authorize(&harness, vec![lease(&due)]).await;
    let given = given.expect("answered");
    assert_eq!(given.authorized(), [name(&due)]);
    let expires = Some(make::wire_at("2026-03-02T09:31:00Z"));
    assert_eq!(given.expire_time, expires);
    assert!(harness.lease_due().await.is_empty());
}

#[tokio::test]
async fn leave_is_refused_for_what_has_been_answered() {
    let harness = Harness::start(NOW).await;
    for (referral_id, outcome) in [
        ("R-1", sent as fn(&v1::DueNotification) -> _),
        ("R-2", retry),
    ] {
        let due = leased(&harness, referral_id, 60).await;
        answer(&harness, outcome(&due)).await;
        let given = authorize(&harness, vec![lease(&due)]).await;
        let given = given.expect("answered");
        assert_eq!(given.refused(), [name(&due)], "{referral_id}");
    }
}

#[tokio::test]
async fn a_booking_after_leave_revokes_nothing_and_the_message_is_never_leased_again() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    let due = consumer.due().await;
    authorize(&harness, vec![lease(&due)]).await.expect("given");
    book(&harness, &request).await;
    let fence = create(&harness, due_now("R-2")).await;
    let next = consumer.due().await;
    assert_eq!(next.booking_request, fence, "nothing was revoked");
    answer(&harness, sent(&next)).await;
    assert_eq!(states(&harness, &request).await, [State::Dispatching]);

    let refused = authorize(&harness, vec![lease(&due)]).await;
    assert_eq!(refused.expect("answered").refused(), [name(&due)]);
    harness.advance("2026-03-02T12:00:00Z");
    assert!(harness.lease_due().await.is_empty());
    answer(&harness, sent(&due)).await;
    let shown = messages(&harness, &request).await;
    assert_eq!(shown.len(), 1, "no reminder is planned");
    assert_eq!(shown[0].state(), State::Sent);
    assert!(shown[0].sent_after_change);
}

#[tokio::test]
async fn what_had_leave_and_did_not_leave_is_cancelled_when_the_visit_is_booked() {
    let harness = Harness::start(NOW).await;
    let due = leased(&harness, "R-1", 60).await;
    authorize(&harness, vec![lease(&due)]).await.expect("given");
    book(&harness, &due.booking_request).await;
    answer(&harness, retry(&due)).await;
    let shown = states(&harness, &due.booking_request).await;
    assert_eq!(shown, [State::Cancelled]);
    harness.advance("2026-03-02T12:00:00Z");
    assert!(harness.lease_due().await.is_empty());
}

#[tokio::test]
async fn what_had_leave_is_recorded_as_sent() {
    let harness = Harness::start(NOW).await;
    let due = leased(&harness, "R-1", 60).await;
    authorize(&harness, vec![lease(&due)]).await.expect("given");
    let lost = acknowledge(&harness, vec![sent(&due)]).await;
    assert!(lost.expect("answered").is_empty());
    let shown = messages(&harness, &due.booking_request).await;
    assert_eq!(shown[0].state(), State::Sent);
    assert!(!shown[0].sent_after_change);
    assert_eq!(shown[1].state(), State::Scheduled);
}

#[tokio::test]
async fn a_malformed_lease_has_its_own_error_and_spoils_no_other() {
    let harness = Harness::start(NOW).await;
    let due = leased(&harness, "R-1", 60).await;
    let good = lease(&due);
    for leases in [vec![], vec![good.clone(); 501]] {
        let refused = authorize(&harness, leases).await.unwrap_err();
        let reason = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
        assert_eq!(refusal(&refused), reason);
        assert_eq!(bad_fields(&refused), ["leases"]);
    }
    let call = vec![v1::Lease::default(), good.clone(), good];
    let results = authorize(&harness, call).await.expect("answered").results;
    let error = results[0].error.as_ref().expect("an error");
    let fields = ["leases[0].lease_token", "leases[0].name"];
    assert_eq!(element_fields(error), fields);
    // A message that is named twice is answered twice.
    let given = v1::AuthorizeDispatchResult {
        name: name(&due),
        authorized: true,
        ..Default::default()
    };
    assert_eq!(results[1..], [given.clone(), given]);
}

#[tokio::test]
async fn a_refusal_says_why() {
    use v1::ContactOutcome as Outcome;
    use v1::DispatchRefusal::{Booked, Cancelled, Changed, Declined, Expired, Held, Lost};
    for refusal in [Lost, Booked, Declined, Cancelled, Held, Changed, Expired] {
        let harness = Harness::start(NOW).await;
        let due = leased(&harness, "R-1", 10).await;
        let request = due.booking_request.clone();
        let contact = async |outcome: Outcome| {
            let call = v1::RecordPatientContactRequest {
                name: request.clone(),
                outcome: outcome.into(),
                request_id: make::request_id(),
                ..Default::default()
            };
            let recorded = within(harness.requests().record_patient_contact(call)).await;
            recorded.expect("recorded");
        };
        match refusal {
            Lost => {
                harness.advance("2026-03-02T09:00:10Z");
                assert_eq!(harness.lease_due().await.len(), 1);
            }
            Booked => book(&harness, &request).await,
            Declined => contact(Outcome::Declined).await,
            Cancelled => {
                let cancelled = harness.cancel(make::wire_cancel(&request)).await;
                cancelled.expect("cancelled");
            }
            Held => contact(Outcome::CallBack).await,
            Changed => answer(&harness, sent(&due)).await,
            _ => harness.advance("2026-06-12T22:00:00Z"),
        }
        let results = authorize(&harness, vec![lease(&due)]).await;
        let results = results.expect("answered").results;
        assert_eq!(
            (results[0].authorized, results[0].refusal()),
            (false, refusal)
        );
    }
}
