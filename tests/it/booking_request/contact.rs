//! RecordPatientContact: what each outcome makes of each state, what a hold stops, and where the
//! request is worked on meanwhile.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Outcome;
use care_invitation::contract::v1::HistoryEvent;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::notification::State as Message;
use care_invitation::contract::v1::{ContactMedium, HoldReason, Worklist};
use tonic::Code;

use super::calls::{
    contact, contacted, get_leave, hand_over_one, hold, lease_one, park, planned, protect, release,
    released, unreachable, updated,
};
use super::{NOW, SILENCE_ENDS, created, done, lists_of, messages, plan, silent, state};
use crate::consumer::Outcomes as _;
use crate::consumer::{Consumer, answer, authorize, everything, lease, name, sent};
use crate::harness::{Harness, bad_fields, refusal};
use crate::make;

const HOLDS: [(Outcome, HoldReason); 4] = [
    (Outcome::WillBook, HoldReason::WillBook),
    (Outcome::NoSuitableTime, HoldReason::NoSuitableTime),
    (Outcome::CallBack, HoldReason::CallBack),
    (Outcome::Other, HoldReason::Contacted),
];

/// An invitation that is due at once.
async fn due_now(harness: &Harness) -> v1::BookingRequest {
    created(harness, make::wire_form("2026-03-09", "2026-06-12")).await
}

/// Where a contact finds a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Found {
    NotDue,
    Invited,
    Protected,
    NoResponse,
    Expired,
}

async fn found(harness: &Harness, found: Found) -> v1::BookingRequest {
    let request = match found {
        Found::NotDue => created(harness, make::wire_form("2026-05-18", "2026-06-12")).await,
        Found::Invited | Found::Protected => {
            let request = due_now(harness).await;
            hand_over_one(harness).await;
            request
        }
        Found::NoResponse | Found::Expired => silent(harness).await,
    };
    match found {
        Found::NotDue | Found::Invited => {}
        Found::Protected => {
            updated(harness, protect()).await.expect("updated");
        }
        Found::NoResponse => harness.advance(SILENCE_ENDS),
        Found::Expired => harness.advance("2026-06-12T22:00:00Z"),
    }
    harness.get(&request.name).await.expect("read")
}

#[tokio::test]
async fn each_outcome_ends_or_holds_the_invitation_and_has_its_list() {
    use Worklist::{CareInvitations, Declined, FollowUp, ManualHandling, SlotIssues};
    for (outcome, held, list) in [
        (Outcome::WillBook, HoldReason::WillBook, CareInvitations),
        (
            Outcome::NoSuitableTime,
            HoldReason::NoSuitableTime,
            SlotIssues,
        ),
        (Outcome::CallBack, HoldReason::CallBack, FollowUp),
        (Outcome::Other, HoldReason::Contacted, FollowUp),
        (Outcome::Declined, HoldReason::Unspecified, Declined),
    ] {
        for (start, shown, list_of_state) in [
            (Found::NotDue, State::Invited, None),
            (Found::Invited, State::Invited, None),
            (Found::Protected, State::Invited, Some(ManualHandling)),
            // It has been in touch, so it is no longer silent.
            (Found::NoResponse, State::Invited, None),
            (Found::Expired, State::Expired, Some(FollowUp)),
        ] {
            let row = format!("{outcome:?} {start:?}");
            let harness = Harness::start(NOW).await;
            let before = found(&harness, start).await;
            let call = v1::RecordPatientContactRequest {
                comment: "ringde".into(),
                ..contact(&before.name, outcome)
            };
            let after = contacted(&harness, call).await.expect(&row);
            let (shown, held, list) = match (outcome, start) {
                (Outcome::Declined, _) => (State::Declined, held, list),
                (_, Found::Protected) => (shown, HoldReason::ProtectedIdentity, ManualHandling),
                _ => (shown, held, list_of_state.unwrap_or(list)),
            };
            assert_eq!((state(&after), hold(&after)), (shown, held), "{row}");
            assert_eq!(lists_of(&harness, &before.name).await, [list], "{row}");
            let invitation = after.care_invitation.as_ref().expect("an invitation");
            assert_eq!(invitation.no_response_time, None, "{row}");
            assert_eq!(
                harness.get(&before.name).await.expect("read"),
                after,
                "{row}"
            );
            let entries = harness.history(&before.name).await;
            let entry = entries
                .iter()
                .find(|it| it.event() == HistoryEvent::RecordPatientContact);
            let entry = entry.expect("an entry");
            assert_eq!(
                (entry.comment.as_str(), entry.state()),
                ("ringde", shown),
                "{row}"
            );
        }
    }
}

#[tokio::test]
async fn a_patient_who_will_book_is_waited_for_14_days_from_today_unless_a_day_is_given() {
    for (now, given, until) in [
        (NOW, "", "2026-03-16"),
        // The 3rd in Stockholm.
        ("2026-03-02T23:00:00Z", "", "2026-03-17"),
        ("2026-03-02T22:59:59Z", "", "2026-03-16"),
        ("2026-03-02T23:00:00Z", "2026-03-03", "2026-03-03"),
        (NOW, "2026-03-02", "2026-03-02"),
        (NOW, "2026-09-30", "2026-09-30"),
    ] {
        let harness = Harness::start(NOW).await;
        let request = due_now(&harness).await;
        harness
            .clock
            .advance(make::at(now).max(harness.clock.now()))
            .expect("forward");
        let call = v1::RecordPatientContactRequest {
            wait_until_date: given.into(),
            ..contact(&request.name, Outcome::WillBook)
        };
        let after = contacted(&harness, call).await.expect(until);
        let invitation = after.care_invitation.expect("an invitation");
        assert_eq!(invitation.wait_until_date, until, "{now} {given}");
    }
}

#[tokio::test]
async fn a_day_to_wait_until_that_cannot_be_is_refused() {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness).await;
    harness.advance("2026-03-02T23:00:00Z");
    for (outcome, until, field) in [
        (Outcome::WillBook, "2026-03-02", "wait_until_date"),
        (Outcome::WillBook, "2026-02-30", "wait_until_date"),
        (Outcome::WillBook, "soon", "wait_until_date"),
        (Outcome::CallBack, "2026-03-20", "wait_until_date"),
        (Outcome::NoSuitableTime, "2026-03-20", "wait_until_date"),
        (Outcome::Other, "2026-03-20", "wait_until_date"),
        (Outcome::Declined, "2026-03-20", "wait_until_date"),
        (Outcome::Unspecified, "", "outcome"),
    ] {
        let row = format!("{outcome:?} {until}");
        let call = v1::RecordPatientContactRequest {
            wait_until_date: until.into(),
            ..contact(&request.name, outcome)
        };
        let status = contacted(&harness, call).await.expect_err(&row);
        let reason = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
        assert_eq!(refusal(&status), reason, "{row}");
        assert_eq!(bad_fields(&status), [field], "{row}");
    }
    let read = harness.get(&request.name).await.expect("read");
    assert_eq!(read.etag, request.etag);
}

#[tokio::test]
async fn who_said_that_they_would_book_is_followed_up_when_the_day_has_passed() {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness).await;
    hand_over_one(&harness).await;
    let call = v1::RecordPatientContactRequest {
        wait_until_date: "2026-03-28".into(),
        ..contact(&request.name, Outcome::WillBook)
    };
    let held = contacted(&harness, call).await.expect("held");
    for (now, list) in [
        ("2026-03-16T08:00:00Z", Worklist::CareInvitations),
        ("2026-03-28T22:59:59Z", Worklist::CareInvitations),
        ("2026-03-28T23:00:00Z", Worklist::FollowUp),
        ("2026-06-12T21:59:59Z", Worklist::FollowUp),
    ] {
        harness.advance(now);
        assert_eq!(lists_of(&harness, &request.name).await, [list], "{now}");
        // It is still held, and nothing is sent.
        let read = harness.get(&request.name).await.expect("read");
        let shown = (state(&read), hold(&read), &read.etag);
        let expected = (State::Invited, HoldReason::WillBook, &held.etag);
        assert_eq!(shown, expected, "{now}");
        assert!(harness.lease_due().await.is_empty(), "{now}");
    }
}

#[tokio::test]
async fn a_hold_stops_what_is_due_and_what_falls_due_before_the_first_message_too() {
    for (outcome, _) in HOLDS {
        for start in [Found::NotDue, Found::Invited] {
            let row = format!("{outcome:?} {start:?}");
            let harness = Harness::start(NOW).await;
            let before = found(&harness, start).await;
            contacted(&harness, contact(&before.name, outcome))
                .await
                .expect("held");
            harness.advance("2026-04-06T07:00:00Z");
            assert!(harness.lease_due().await.is_empty(), "{row}");
            let after = harness.get(&before.name).await.expect("read");
            assert_eq!(planned(&after), planned(&before), "{row}");
            assert_eq!(state(&after), State::Invited, "{row}");
        }
        let harness = Harness::start(NOW).await;
        let due = due_now(&harness).await;
        contacted(&harness, contact(&due.name, outcome))
            .await
            .expect("held");
        assert!(harness.lease_due().await.is_empty(), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_leased_message_is_taken_back_by_a_hold_and_recorded_when_it_left_all_the_same() {
    for (outcome, _) in HOLDS {
        let harness = Harness::start(NOW).await;
        let request = due_now(&harness).await;
        let mut consumer = Consumer::open(&harness, everything()).await;
        let due = consumer.due().await;
        let held = contacted(&harness, contact(&request.name, outcome)).await;
        assert_eq!(planned(&held.expect("held")), "SCHEDULED", "{outcome:?}");
        assert_eq!(consumer.revoked().await, name(&due), "{outcome:?}");
        let leave = authorize(&harness, vec![lease(&due)])
            .await
            .expect("answered");
        assert_eq!(leave.refused(), [name(&due)], "{outcome:?}");
        // Not when the lease would have run out either.
        harness.advance("2026-03-03T09:00:00Z");
        assert!(harness.lease_due().await.is_empty(), "{outcome:?}");

        answer(&harness, sent(&due)).await;
        let after = harness.get(&request.name).await.expect("read");
        let expected = ["SENT 03-02T09:00Z", "SCHEDULED 03-17T08:00Z"];
        assert_eq!(plan(messages(&after))[..2], expected, "{outcome:?}");
        assert!(!messages(&after)[0].sent_after_change, "{outcome:?}");
        harness.advance("2026-03-17T08:00:00Z");
        assert!(harness.lease_due().await.is_empty(), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_message_on_its_way_runs_its_course_and_the_next_is_planned_but_held() {
    for (outcome, reason) in HOLDS {
        let harness = Harness::start(NOW).await;
        let request = due_now(&harness).await;
        let mut consumer = Consumer::open(&harness, everything()).await;
        let due = consumer.due().await;
        get_leave(&harness, &due).await;
        let held = contacted(&harness, contact(&request.name, outcome)).await;
        assert_eq!(planned(&held.expect("held")), "DISPATCHING", "{outcome:?}");
        answer(&harness, sent(&due)).await;
        let after = harness.get(&request.name).await.expect("read");
        let expected = [
            "SENT 03-02T09:00Z",
            "SCHEDULED 03-16T08:00Z",
            "PROJECTED 03-30T07:00Z",
        ];
        assert_eq!(plan(messages(&after)), expected, "{outcome:?}");
        assert_eq!(hold(&after), reason, "{outcome:?}");
        harness.advance("2026-03-16T08:00:00Z");
        // The stream has taken nothing back, and gives what is due to another instead.
        let mut form = make::wire_form("2026-03-30", "2026-06-12");
        form.origin = Some(make::wire_referral("R-2"));
        let fence = created(&harness, form).await;
        assert_eq!(
            consumer.due().await.booking_request,
            fence.name,
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_message_on_its_way_that_did_not_leave_waits_for_the_hold() {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness).await;
    let due = lease_one(&harness).await;
    get_leave(&harness, &due).await;
    let call = contact(&request.name, Outcome::CallBack);
    contacted(&harness, call).await.expect("held");
    // Its lease runs out, and with it the leave.
    harness.advance("2026-03-03T09:00:00Z");
    assert!(harness.lease_due().await.is_empty());
    released(&harness, release(&request.name))
        .await
        .expect("released");
    assert_eq!(name(&lease_one(&harness).await), name(&due));
}

#[tokio::test]
async fn the_latest_reason_stands_but_contacted_replaces_none_and_protected_identity_is_never_replaced()
 {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness).await;
    answer(&harness, park(&lease_one(&harness).await)).await;
    let read = async || harness.get(&request.name).await.expect("read");
    assert_eq!(hold(&read().await), HoldReason::Parked);
    for (outcome, reason) in HOLDS.into_iter().chain(HOLDS.into_iter().rev()) {
        let before = hold(&read().await);
        let call = contact(&request.name, outcome);
        let after = contacted(&harness, call).await.expect("held");
        // Where nothing is decided, what holds it already stays.
        let reason = match outcome {
            Outcome::Other => before,
            _ => reason,
        };
        assert_eq!((hold(&after), planned(&after).as_str()), (reason, "PARKED"));
        let until = after
            .care_invitation
            .expect("an invitation")
            .wait_until_date;
        let expected = if reason == HoldReason::WillBook {
            "2026-03-16"
        } else {
            ""
        };
        assert_eq!(until, expected, "{outcome:?}");
    }
    updated(&harness, protect()).await.expect("updated");
    assert_eq!(hold(&read().await), HoldReason::ProtectedIdentity);
    for (outcome, _) in HOLDS {
        let call = contact(&request.name, outcome);
        let after = contacted(&harness, call).await.expect("recorded");
        assert_eq!(hold(&after), HoldReason::ProtectedIdentity, "{outcome:?}");
        let until = after
            .care_invitation
            .expect("an invitation")
            .wait_until_date;
        assert_eq!(until, "", "{outcome:?}");
    }
}

#[tokio::test]
async fn what_becomes_of_a_message_takes_the_place_of_the_patients_reason_and_not_of_protection() {
    let parked = HoldReason::Parked;
    let nowhere = HoldReason::Undeliverable;
    for (protected, unreached, reason) in [
        (false, false, parked),
        (false, true, nowhere),
        (true, false, HoldReason::ProtectedIdentity),
        (true, true, HoldReason::ProtectedIdentity),
    ] {
        let harness = Harness::start(NOW).await;
        let mut form = make::wire_form("2026-03-09", "2026-06-12");
        let patient = form.patient.as_mut().expect("a patient");
        patient.inbox_reach = v1::InboxReach::None.into();
        let request = created(&harness, form).await;
        let due = lease_one(&harness).await;
        get_leave(&harness, &due).await;
        if protected {
            updated(&harness, protect()).await.expect("updated");
        }
        let call = contact(&request.name, Outcome::CallBack);
        contacted(&harness, call).await.expect("held");
        let outcome = if unreached {
            unreachable(&due)
        } else {
            park(&due)
        };
        answer(&harness, outcome).await;
        let after = harness.get(&request.name).await.expect("read");
        assert_eq!((hold(&after), planned(&after).as_str()), (reason, "PARKED"));
        assert_eq!(
            lists_of(&harness, &request.name).await,
            [Worklist::ManualHandling]
        );
    }
}

#[tokio::test]
async fn a_decline_ends_the_invitation_and_what_is_on_its_way_counts_as_handed_over() {
    let declined = |name: &str| contact(name, Outcome::Declined);
    for (dispatching, held) in [(false, false), (false, true), (true, false)] {
        let row = format!("{dispatching} {held}");
        let harness = Harness::start(NOW).await;
        let request = due_now(&harness).await;
        let mut consumer = Consumer::open(&harness, everything()).await;
        let due = consumer.due().await;
        if dispatching {
            get_leave(&harness, &due).await;
        }
        if held {
            let call = contact(&request.name, Outcome::CallBack);
            contacted(&harness, call).await.expect("held");
            assert_eq!(consumer.revoked().await, name(&due), "{row}");
        }
        let after = contacted(&harness, declined(&request.name)).await;
        let after = after.expect("declined");
        assert_eq!(
            (state(&after), hold(&after)),
            (State::Declined, HoldReason::Unspecified)
        );
        let expected = if dispatching {
            "DISPATCHING"
        } else {
            "CANCELLED"
        };
        assert_eq!(planned(&after), expected, "{row}");
        if !dispatching && !held {
            assert_eq!(consumer.revoked().await, name(&due), "{row}");
        }
        let entries = harness.history(&request.name).await;
        let cancelled = done(&entries).contains(&"NOTIFICATION_CANCELLED");
        assert_eq!(cancelled, !dispatching, "{row}");
        // Never again, whatever becomes of the lease; and what left is recorded.
        harness.advance("2026-06-30T09:00:00Z");
        assert!(harness.lease_due().await.is_empty(), "{row}");
        answer(&harness, sent(&due)).await;
        let after = harness.get(&request.name).await.expect("read");
        assert_eq!(
            (state(&after), planned(&after).as_str()),
            (State::Declined, "SENT")
        );
        let shown = &messages(&after)[0];
        assert_eq!(
            (shown.state(), shown.sent_after_change),
            (Message::Sent, true),
            "{row}"
        );
        assert!(harness.lease_due().await.is_empty(), "{row}");
        assert_eq!(
            lists_of(&harness, &request.name).await,
            [Worklist::Declined]
        );
    }
}

#[tokio::test]
async fn a_patient_who_was_in_touch_after_a_long_silence_is_invited_again_until_released() {
    let harness = Harness::start(NOW).await;
    let request = silent(&harness).await;
    harness.advance(SILENCE_ENDS);
    let call = contact(&request.name, Outcome::CallBack);
    let held = contacted(&harness, call).await.expect("held");
    assert_eq!(
        (state(&held), planned(&held).as_str()),
        (State::Invited, "SENT SENT SENT")
    );
    harness.advance("2026-05-01T09:00:00Z");
    assert_eq!(
        state(&harness.get(&request.name).await.expect("read")),
        State::Invited
    );
    // The silence that is counted is still that after the last message.
    let after = released(&harness, release(&request.name))
        .await
        .expect("released");
    let invitation = after.care_invitation.as_ref().expect("an invitation");
    assert_eq!(
        invitation.no_response_time,
        Some(make::wire_at(SILENCE_ENDS))
    );
    assert_eq!(state(&after), State::NoResponse);
}

/// The call that says when and how the patient was in touch.
fn contact_by(
    name: &str,
    outcome: Outcome,
    contact_time: Option<&str>,
    medium: ContactMedium,
) -> v1::RecordPatientContactRequest {
    v1::RecordPatientContactRequest {
        contact_time: contact_time.map(make::wire_at),
        medium: medium.into(),
        ..contact(name, outcome)
    }
}

#[tokio::test]
async fn the_contact_that_was_recorded_last_is_shown_whatever_holds_the_request() {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness).await;
    assert_eq!(request.last_contact, None);
    updated(&harness, protect()).await.expect("updated");
    for (outcome, given, medium) in [
        (Outcome::CallBack, None, ContactMedium::Unspecified),
        (Outcome::WillBook, Some(NOW), ContactMedium::Phone),
        // Recorded after another, and earlier all the same.
        (
            Outcome::Other,
            Some("2025-12-24T14:00:00Z"),
            ContactMedium::Visit,
        ),
        (Outcome::NoSuitableTime, None, ContactMedium::Other),
        (Outcome::Declined, None, ContactMedium::Letter),
    ] {
        let call = contact_by(&request.name, outcome, given, medium);
        let after = contacted(&harness, call).await.expect("recorded");
        let expected = v1::PatientContact {
            outcome: outcome.into(),
            contact_time: Some(make::wire_at(given.unwrap_or(NOW))),
            medium: medium.into(),
        };
        assert_eq!(after.last_contact, Some(expected), "{outcome:?}");
        let read = harness.get(&request.name).await.expect("read");
        assert_eq!(read.last_contact, after.last_contact, "{outcome:?}");
    }
    // A new round keeps it.
    let before = harness.get(&request.name).await.expect("read");
    let after = harness.invite(make::wire_invite(&request.name)).await;
    assert_eq!(after.expect("invited").last_contact, before.last_contact);
}

#[tokio::test]
async fn a_contact_in_the_future_is_refused_and_no_rule_counts_from_its_time() {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness).await;
    let future = Some("2026-03-02T09:00:00.000001Z");
    let call = v1::RecordPatientContactRequest {
        wait_until_date: "2026-03-01".into(),
        ..contact_by(
            &request.name,
            Outcome::WillBook,
            future,
            ContactMedium::Phone,
        )
    };
    let status = contacted(&harness, call).await.expect_err("refused");
    let reason = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
    assert_eq!(refusal(&status), reason);
    assert_eq!(bad_fields(&status), ["wait_until_date", "contact_time"]);

    let past = Some("2026-02-01T09:00:00Z");
    let call = contact_by(
        &request.name,
        Outcome::WillBook,
        past,
        ContactMedium::Portal,
    );
    let after = contacted(&harness, call).await.expect("recorded");
    let invitation = after.care_invitation.expect("an invitation");
    assert_eq!(invitation.wait_until_date, "2026-03-16");
}
