//! ChangeToInvitation: from which states, with which constraints and referral, and what it leaves.

use crate::worklist_user;
use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request::{Origin, State};
use care_invitation::contract::v1::{ChangeReason, Worklist};
use tonic::{Code, Status};

use super::{
    NOW, SILENCE_ENDS, booking, created, done, lists_of, messages, plan, record, requested, silent,
    state, visit,
};
use crate::harness::{Harness, bad_fields, metadata, refusal};
use crate::make;

fn with_constraints(name: &str, first: &str, last: &str) -> v1::ChangeToInvitationRequest {
    v1::ChangeToInvitationRequest {
        constraints: Some(make::wire_constraints(first, last)),
        ..make::wire_invite(name)
    }
}

fn assert_invalid(status: &Status, fields: &[&str]) {
    let reason = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
    assert_eq!(refusal(status), reason, "{fields:?}");
    assert_eq!(bad_fields(status), fields);
}

fn assert_precondition(status: &Status, reason: &str) {
    let expected = (Code::FailedPrecondition, reason.to_owned());
    assert_eq!(refusal(status), expected);
}

#[tokio::test]
async fn a_request_becomes_an_invitation_as_if_it_had_been_created_as_one() {
    let harness = Harness::start(NOW).await;
    let form = v1::BookingRequest {
        summons: false,
        ..requested("2026-05-18", "2026-06-12")
    };
    let request = created(&harness, form).await;
    harness.advance("2026-03-03T09:00:00Z");
    let call = v1::ChangeToInvitationRequest {
        comment: "Vårdinbjudan i stället".into(),
        ..make::wire_invite(&request.name)
    };
    let invited = harness.invite(call).await.expect("invited");
    assert_eq!(state(&invited), State::Invited);
    assert!(invited.summons && invited.invitation);
    assert_eq!(invited.constraints, request.constraints);
    assert_eq!(invited.create_time, request.create_time);
    let now = Some(make::wire_at("2026-03-03T09:00:00Z"));
    assert_eq!(invited.update_time, now);
    let invitation = invited.care_invitation.as_ref().expect("an invitation");
    assert_eq!((invitation.round, invitation.invite_time), (1, now));
    let expected = [
        "SCHEDULED 04-06T07:00Z",
        "PROJECTED 04-20T07:00Z",
        "PROJECTED 05-04T07:00Z",
    ];
    assert_eq!(plan(messages(&invited)), expected);
    assert_eq!(
        lists_of(&harness, &invited.name).await,
        [Worklist::CareInvitations]
    );

    let entries = harness.history(&request.name).await;
    assert_eq!(
        done(&entries),
        ["CREATE_BOOKING_REQUEST", "CHANGE_TO_INVITATION"]
    );
    let entry = &entries[1];
    assert_eq!(entry.change_reason(), ChangeReason::ToCareInvitation);
    assert_eq!(entry.comment, "Vårdinbjudan i stället");
    assert_eq!((entry.state(), entry.event_time), (State::Invited, now));
    assert_eq!(entry.constraints, None);
    assert!(!entry.actor.is_empty());
}

#[tokio::test]
async fn new_constraints_replace_all_the_present_ones() {
    let harness = Harness::start(NOW).await;
    let mut form = requested("2026-05-18", "2026-06-12");
    let present = form.constraints.as_mut().expect("constraints");
    present.weekdays = vec![v1::DayOfWeek::Monday.into()];
    present.duration_minutes = 30;
    let request = created(&harness, form).await;
    let call = with_constraints(&request.name, "2026-06-15", "2026-07-03");
    let given = call.constraints.clone();
    let invited = harness.invite(call).await.expect("invited");
    assert_eq!(invited.constraints, given);
    assert_eq!(plan(messages(&invited))[0], "SCHEDULED 05-04T07:00Z");
    let entries = harness.history(&request.name).await;
    assert_eq!(entries[1].constraints, given);
}

#[tokio::test]
async fn an_invitation_is_not_changed_to_one_again() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-03-09", "2026-06-12")).await;
    let call = || with_constraints(&request.name, "2026-05-18", "2026-06-12");
    let status = harness
        .invite(call())
        .await
        .expect_err("before the first message");
    assert_precondition(&status, "ALREADY_INVITATION");
    harness.hand_over_due().await;
    let status = harness.invite(call()).await.expect_err("after it");
    assert_precondition(&status, "ALREADY_INVITATION");
    let read = harness.get(&request.name).await.expect("read");
    assert_eq!(plan(messages(&read))[1], "SCHEDULED 03-16T08:00Z");

    // Nor while something else than the patient's own contact holds it.
    let mut form = make::wire_form("2026-05-18", "2026-06-12");
    form.origin = Some(make::wire_referral("R-2"));
    form.patient.as_mut().expect("a patient").protection = 1;
    let protected = created(&harness, form).await;
    let status = harness.invite(make::wire_invite(&protected.name)).await;
    assert_precondition(&status.expect_err("held"), "ALREADY_INVITATION");
}

#[tokio::test]
async fn a_booked_visit_that_was_cancelled_goes_to_the_history() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-03-09", "2026-06-12")).await;
    harness.hand_over_due().await;
    let visit = booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
    let booked = harness
        .book(record(&request.name, visit))
        .await
        .expect("booked");
    harness.advance("2026-03-20T12:00:00Z");
    let invited = harness
        .invite(make::wire_invite(&request.name))
        .await
        .expect("invited");
    assert_eq!((state(&invited), &invited.booking), (State::Invited, &None));
    let expected = [
        "SENT 03-02T09:00Z",
        "CANCELLED 03-16T08:00Z",
        "SCHEDULED 03-20T12:00Z",
        "PROJECTED 04-03T07:00Z",
        "PROJECTED 04-17T07:00Z",
    ];
    assert_eq!(plan(messages(&invited)), expected);
    let rounds: Vec<_> = messages(&invited).iter().map(|it| it.round).collect();
    assert_eq!(rounds, [1, 1, 2, 2, 2]);
    assert_eq!(
        invited
            .care_invitation
            .as_ref()
            .expect("an invitation")
            .round,
        2
    );
    let entries = harness.history(&request.name).await;
    let last = entries.last().expect("an entry");
    assert_eq!(
        (worklist_user::event(last), &last.booking),
        ("CHANGE_TO_INVITATION", &booked.booking)
    );

    // The new round runs like any other, and another visit may be booked.
    assert_eq!(harness.hand_over_due().await.len(), 1);
    let other = v1::Booking {
        source: v1::BookingSource::Patient.into(),
        ..booking("B-2", "2026-05-19T08:00:00Z", "2026-05-19T08:30:00Z")
    };
    let booked = harness
        .book(record(&request.name, other))
        .await
        .expect("booked");
    assert_eq!(state(&booked), State::Booked);
}

#[tokio::test]
async fn an_expired_request_needs_a_new_period() {
    let harness = Harness::start(NOW).await;
    let never = created(&harness, requested("2026-03-09", "2026-03-13")).await;
    let mut form = make::wire_form("2026-03-09", "2026-03-13");
    form.origin = Some(make::wire_referral("R-2"));
    let once = created(&harness, form).await;
    harness.hand_over_due().await;
    harness.advance("2026-03-13T23:00:00Z");
    for (request, round) in [(never, 1), (once, 2)] {
        let status = harness.invite(make::wire_invite(&request.name)).await;
        assert_precondition(&status.expect_err("passed"), "PERIOD_PASSED");
        // The period that it had is as much in the past when it is given.
        let status = harness
            .invite(with_constraints(&request.name, "2026-03-09", "2026-03-13"))
            .await;
        let end = "constraints.requested_period.end_date";
        assert_invalid(&status.expect_err("passed"), &[end]);
        let call = with_constraints(&request.name, "2026-05-18", "2026-06-12");
        let invited = harness.invite(call).await.expect("invited");
        assert_eq!(state(&invited), State::Invited);
        let invitation = invited.care_invitation.as_ref().expect("an invitation");
        assert_eq!(invitation.round, round);
        let first = plan(messages(&invited))
            .into_iter()
            .find(|it| it.starts_with("SCHEDULED"));
        assert_eq!(first.as_deref(), Some("SCHEDULED 04-06T07:00Z"));
    }
}

#[tokio::test]
async fn a_booked_request_whose_period_has_passed_needs_a_new_one_too() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, requested("2026-03-09", "2026-03-13")).await;
    let visit = booking("B-1", "2026-03-09T08:00:00Z", "2026-03-09T08:30:00Z");
    harness
        .book(record(&request.name, visit))
        .await
        .expect("booked");
    harness.advance("2026-03-14T09:00:00Z");
    let status = harness.invite(make::wire_invite(&request.name)).await;
    assert_precondition(&status.expect_err("passed"), "PERIOD_PASSED");
    let call = with_constraints(&request.name, "2026-05-18", "2026-06-12");
    assert_eq!(
        state(&harness.invite(call).await.expect("invited")),
        State::Invited
    );
}

#[tokio::test]
async fn a_start_that_has_passed_with_an_end_to_come_means_now() {
    let harness = Harness::start(NOW).await;
    let mut names = Vec::new();
    for i in 0..3 {
        let form = v1::BookingRequest {
            origin: Some(make::wire_referral(&format!("R-{i}"))),
            ..requested("2026-03-09", "2026-04-24")
        };
        names.push(created(&harness, form).await.name);
    }
    harness.advance("2026-03-20T20:15:00Z");
    // As it stands, and with the start that it had; but with no other start that has passed.
    let kept = harness
        .invite(make::wire_invite(&names[0]))
        .await
        .expect("invited");
    let given = with_constraints(&names[1], "2026-03-09", "2026-05-29");
    let given = harness.invite(given).await.expect("invited");
    for invited in [kept, given] {
        assert_eq!(plan(messages(&invited))[0], "SCHEDULED 03-20T20:15Z");
    }
    let other = with_constraints(&names[2], "2026-03-10", "2026-05-29");
    let status = harness.invite(other).await.expect_err("another start");
    assert_invalid(&status, &["constraints.requested_period.start_date"]);
    assert_eq!(harness.hand_over_due().await.len(), 2);
}

#[tokio::test]
async fn an_unanswered_invitation_begins_a_new_round() {
    let harness = Harness::start(NOW).await;
    let request = silent(&harness).await;
    harness.advance(SILENCE_ENDS);
    let unanswered = harness.get(&request.name).await.expect("read");
    assert_eq!(state(&unanswered), State::NoResponse);
    let invited = harness
        .invite(make::wire_invite(&request.name))
        .await
        .expect("invited");
    assert_eq!(state(&invited), State::Invited);
    let expected = [
        "SENT 03-02T09:00Z",
        "SENT 03-16T08:00Z",
        "SENT 03-30T07:00Z",
        "SCHEDULED 04-13T07:00Z",
        "PROJECTED 04-27T07:00Z",
        "PROJECTED 05-11T07:00Z",
    ];
    assert_eq!(plan(messages(&invited)), expected);
    let invitation = invited.care_invitation.as_ref().expect("an invitation");
    assert_eq!((invitation.round, invitation.no_response_time), (2, None));
}

#[tokio::test]
async fn a_cancelled_request_stays_closed() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-05-18", "2026-06-12")).await;
    harness
        .cancel(make::wire_cancel(&request.name))
        .await
        .expect("cancelled");
    for call in [
        make::wire_invite(&request.name),
        with_constraints(&request.name, "2026-06-15", "2026-07-03"),
    ] {
        let status = harness.invite(call).await.expect_err("closed");
        assert_precondition(&status, "STATE_CONFLICT");
        assert_eq!(metadata(&status, "state"), "CANCELLED");
        assert_eq!(metadata(&status, "allowed_actions"), "");
    }
}

#[tokio::test]
async fn a_request_without_constraints_needs_some() {
    let harness = Harness::start(NOW).await;
    let form = v1::BookingRequest {
        constraints: None,
        booking: Some(booking(
            "B-1",
            "2026-05-18T08:00:00Z",
            "2026-05-18T08:30:00Z",
        )),
        ..requested("", "")
    };
    let request = created(&harness, form).await;
    let status = harness.invite(make::wire_invite(&request.name)).await;
    assert_invalid(&status.expect_err("none"), &["constraints"]);
    let call = with_constraints(&request.name, "2026-05-18", "2026-06-12");
    let invited = harness.invite(call).await.expect("invited");
    assert_eq!((state(&invited), invited.booking), (State::Invited, None));
}

#[tokio::test]
async fn an_invitation_rests_on_one_referral_that_is_named_once() {
    const REFERRAL: Option<&str> = Some("R-1");
    for (origin, given, kept) in [
        // What the request names, what the caller gives, what it rests on; else why not.
        (make::wire_referral("R-1"), "", Ok(REFERRAL)),
        (make::wire_referral("R-1"), "R-1", Ok(REFERRAL)),
        (make::wire_referral("R-1"), "R-2", Err("FIELD_INVALID")),
        (visit("V-1", "R-1"), "", Ok(REFERRAL)),
        (visit("V-1", "R-1"), "R-1", Ok(REFERRAL)),
        (visit("V-1", "R-1"), "R-2", Err("FIELD_INVALID")),
        (visit("V-1", ""), "", Err("REFERRAL_REQUIRED")),
        (visit("V-1", ""), "R-1", Ok(REFERRAL)),
    ] {
        let harness = Harness::start(NOW).await;
        let form = v1::BookingRequest {
            origin: Some(origin),
            ..requested("2026-05-18", "2026-06-12")
        };
        let request = created(&harness, form).await;
        let call = v1::ChangeToInvitationRequest {
            referral_id: given.into(),
            ..make::wire_invite(&request.name)
        };
        match (harness.invite(call).await, kept) {
            (Ok(_), Ok(kept)) => {
                let read = harness.get(&request.name).await.expect("read");
                let referral_id = match &read.origin {
                    Some(Origin::Referral(referral)) => Some(referral.referral_id.as_str()),
                    Some(Origin::PreviousVisit(visit)) => Some(visit.referral_id.as_str()),
                    None => None,
                };
                assert_eq!(referral_id, kept);
            }
            (Err(status), Err("FIELD_INVALID")) => assert_invalid(&status, &["referral_id"]),
            (Err(status), Err(reason)) => assert_precondition(&status, reason),
            (answer, _) => panic!("{given}: {}", answer.is_ok()),
        }
    }
}

#[tokio::test]
async fn what_today_forbids_of_new_constraints_is_named_all_at_once() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, requested("2026-05-18", "2026-06-12")).await;
    let mut call = with_constraints(&request.name, "2026-03-01", "2026-03-05");
    let constraints = call.constraints.as_mut().expect("constraints");
    constraints.weekdays = vec![v1::DayOfWeek::Sunday.into()];
    call.referral_id = "R-2".into();
    let status = harness.invite(call).await.expect_err("refused");
    let fields = [
        "constraints.requested_period.start_date",
        "constraints.weekdays",
        "referral_id",
    ];
    assert_invalid(&status, &fields);
}
