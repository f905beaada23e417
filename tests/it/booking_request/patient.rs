//! UpdatePatient: what has been learned about a patient, for their open requests in one care unit
//! or in all.

use crate::worklist_user;
use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Outcome;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::{
    ChannelReason, DeliveryChannel, HoldReason, InboxReach, Protection, Warning, Worklist,
};
use tonic::{Code, Status};

use super::calls::{
    bury, contact, contacted, get_leave, hand_over_one, hold, lease_one, mask, park, planned,
    protect, release, released, update, updated,
};
use super::{
    NOW, SILENCE_ENDS, booking, created, done, lists_of, messages, record, requested, silent, state,
};
use crate::consumer::Outcomes as _;
use crate::consumer::{Consumer, answer, authorize, everything, lease, message, name, sent};
use crate::harness::{Harness, bad_fields, refusal};
use crate::make;

/// Another care unit than that of every form.
const ELSEWHERE: &str = "SE2321000131-P2";
/// Every care unit that the caller may change.
const EVERYWHERE: &str = "careUnits/-";

fn of_referral(referral_id: &str, form: v1::BookingRequest) -> v1::BookingRequest {
    v1::BookingRequest {
        origin: Some(make::wire_referral(referral_id)),
        ..form
    }
}

/// An invitation that is due at once.
pub fn due_now(referral_id: &str) -> v1::BookingRequest {
    of_referral(referral_id, make::wire_form("2026-03-09", "2026-06-12"))
}

async fn created_in(harness: &Harness, unit: &str, form: v1::BookingRequest) -> v1::BookingRequest {
    let call = v1::CreateBookingRequestRequest {
        parent: format!("careUnits/{unit}"),
        ..make::wire_create(form)
    };
    harness.create(call).await.expect("created")
}

fn everywhere(call: v1::UpdatePatientRequest) -> v1::UpdatePatientRequest {
    v1::UpdatePatientRequest {
        parent: EVERYWHERE.into(),
        ..call
    }
}

fn reach(inbox_reach: InboxReach) -> v1::UpdatePatientRequest {
    let to = v1::Patient {
        inbox_reach: inbox_reach.into(),
        ..Default::default()
    };
    update(&["inbox_reach"], to)
}

fn language(tag: &str) -> v1::UpdatePatientRequest {
    let to = v1::Patient {
        preferred_language: tag.into(),
        ..Default::default()
    };
    update(&["preferred_language"], to)
}

pub fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

pub async fn read(harness: &Harness, name: &str) -> v1::BookingRequest {
    harness.get(name).await.expect("read")
}

fn assert_reused(status: &Status, row: &str) {
    let expected = (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned());
    assert_eq!(refusal(status), expected, "{row}");
}

/// A request of the patient in each state, by name; [`SILENCE_ENDS`] has come.
pub async fn in_every_state(harness: &Harness) -> Vec<(State, String)> {
    let far = |id: &str| of_referral(id, make::wire_form("2026-05-18", "2026-06-12"));
    let mut names = vec![(State::NoResponse, silent(harness).await.name)];
    // The clock stands at 30 March; what has expired began before.
    let soon = |id: &str| of_referral(id, make::wire_form("2026-03-30", "2026-04-03"));
    for (expected, form) in [
        (
            State::Requested,
            of_referral("R-2", requested("2026-05-18", "2026-06-12")),
        ),
        (State::Invited, far("R-3")),
        (State::Booked, far("R-4")),
        (State::Declined, far("R-5")),
        (State::Cancelled, far("R-6")),
        (State::Expired, soon("R-7")),
        (
            State::Expired,
            v1::BookingRequest {
                invitation: false,
                ..soon("R-8")
            },
        ),
    ] {
        let request = created(harness, form).await.name;
        match expected {
            State::Booked => {
                let visit = booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
                harness.book(record(&request, visit)).await.expect("booked");
            }
            State::Declined => {
                let call = contact(&request, Outcome::Declined);
                contacted(harness, call).await.expect("declined");
            }
            State::Cancelled => {
                harness
                    .cancel(make::wire_cancel(&request))
                    .await
                    .expect("cancelled");
            }
            _ => {}
        }
        names.push((expected, request));
    }
    harness.advance(SILENCE_ENDS);
    for (expected, name) in &names {
        assert_eq!(state(&read(harness, name).await), *expected);
    }
    names
}

#[tokio::test]
async fn every_request_that_is_not_cancelled_is_changed_whatever_time_shows() {
    let harness = Harness::start(NOW).await;
    let requests = in_every_state(&harness).await;
    let mut before = Vec::new();
    for (_, name) in &requests {
        before.push(read(&harness, name).await);
    }
    let changed = updated(&harness, language("fi")).await.expect("updated");
    let mut expected = Vec::new();
    for ((shown, name), before) in requests.iter().zip(before) {
        let after = read(&harness, name).await;
        match shown {
            State::Cancelled => assert_eq!(after, before),
            _ => {
                let patient = after.patient.as_ref().expect("a patient");
                assert_eq!(patient.preferred_language, "fi", "{shown:?}");
                assert_ne!(after.etag, before.etag, "{shown:?}");
                assert_eq!(after.state(), *shown, "a language changes no state");
                expected.push(name.clone());
                let entries = harness.history(name).await;
                let last = entries.last().expect("an entry");
                assert_eq!(
                    (worklist_user::event(last), last.state()),
                    ("UPDATE_PATIENT", *shown)
                );
            }
        }
    }
    assert_eq!(changed, sorted(expected), "in order");
}

#[tokio::test]
async fn one_care_unit_or_every_one_and_one_patient_alone() {
    for (everywhere_at_once, expected) in [(false, 2), (true, 3)] {
        let harness = Harness::start(NOW).await;
        let here = created(&harness, due_now("R-1")).await.name;
        let too = created(
            &harness,
            of_referral("R-2", requested("2026-05-18", "2026-06-12")),
        );
        let too = too.await.name;
        let elsewhere = created_in(&harness, ELSEWHERE, due_now("R-1")).await.name;
        let mut stranger = due_now("R-1");
        stranger.patient = Some(v1::Patient {
            personal_id: "191212121212".into(),
            ..stranger.patient.expect("a patient")
        });
        let stranger = created(&harness, stranger).await;

        let call = match everywhere_at_once {
            true => everywhere(language("fi")),
            false => language("fi"),
        };
        let changed = updated(&harness, call).await.expect("updated");
        let names = sorted(vec![here, too, elsewhere.clone()]);
        let changed_names: Vec<_> = names
            .into_iter()
            .filter(|it| everywhere_at_once || *it != elsewhere)
            .collect();
        assert_eq!(changed_names.len(), expected);
        assert_eq!(changed, changed_names);
        for name in changed {
            let patient = read(&harness, &name).await.patient.expect("a patient");
            assert_eq!(patient.preferred_language, "fi");
        }
        assert_eq!(read(&harness, &stranger.name).await, stranger);
    }
}

#[tokio::test]
async fn what_is_named_is_changed_or_cleared_and_the_rest_is_not_looked_at() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, due_now("R-1")).await;
    let all = ["protection", "inbox_reach", "preferred_language"];
    let to = v1::Patient {
        protection: Protection::ProtectedRegistration.into(),
        inbox_reach: InboxReach::None.into(),
        preferred_language: "fi".into(),
        ..Default::default()
    };
    let known = async || {
        read(&harness, &request.name)
            .await
            .patient
            .expect("a patient")
    };
    let shown = |it: &v1::Patient| {
        (
            it.protection(),
            it.inbox_reach(),
            it.preferred_language.clone(),
        )
    };
    let mut expected = shown(&known().await);
    assert_eq!(expected.2, "sv");
    for (path, value) in all.iter().zip([&to; 3]) {
        updated(&harness, update(&[path], value.clone()))
            .await
            .expect("updated");
        match *path {
            "protection" => expected.0 = value.protection(),
            "inbox_reach" => expected.1 = value.inbox_reach(),
            _ => expected.2 = "fi".into(),
        }
        assert_eq!(shown(&known().await), expected, "{path}");
    }
    let cleared = update(&all, v1::Patient::default());
    updated(&harness, cleared).await.expect("updated");
    let expected = (
        Protection::Unspecified,
        InboxReach::Unspecified,
        "sv".to_owned(),
    );
    assert_eq!(shown(&known().await), expected);
}

#[tokio::test]
async fn every_bad_field_of_an_update_is_named() {
    let harness = Harness::start(NOW).await;
    for (call, fields) in [
        (update(&[], v1::Patient::default()), vec!["update_mask"]),
        (
            update(&["*"], v1::Patient::default()),
            vec!["update_mask.paths[0]"],
        ),
        (
            update(&["protection", "personal_id"], v1::Patient::default()),
            vec!["update_mask.paths[1]"],
        ),
        (
            v1::UpdatePatientRequest {
                parent: "careUnits/".into(),
                ..protect()
            },
            vec!["parent"],
        ),
        (
            v1::UpdatePatientRequest {
                patient: None,
                request_id: "x".into(),
                ..bury()
            },
            vec!["patient", "request_id"],
        ),
        (language("sv_SE"), vec!["patient.preferred_language"]),
    ] {
        let status = updated(&harness, call).await.expect_err("refused");
        let reason = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
        assert_eq!(refusal(&status), reason, "{fields:?}");
        assert_eq!(bad_fields(&status), fields);
    }
    // Of one who has died the mask and what it could name are not looked at.
    let call = v1::UpdatePatientRequest {
        update_mask: Some(mask(&["x"])),
        ..bury()
    };
    assert_eq!(updated(&harness, call).await.expect("taken"), [""; 0]);
}

#[tokio::test]
async fn new_protection_holds_at_once_and_takes_back_what_is_leased() {
    for protection in [
        Protection::ConfidentialityMarked,
        Protection::ProtectedRegistration,
    ] {
        let harness = Harness::start(NOW).await;
        let request = created(&harness, due_now("R-1")).await;
        let mut consumer = Consumer::open(&harness, everything()).await;
        let due = consumer.due().await;
        let to = v1::Patient {
            protection: protection.into(),
            ..Default::default()
        };
        let call = update(&["protection"], to);
        assert_eq!(
            updated(&harness, call).await.expect("updated"),
            [request.name.as_str()]
        );
        assert_eq!(consumer.revoked().await, name(&due));
        let leave = authorize(&harness, vec![lease(&due)])
            .await
            .expect("answered");
        assert_eq!(leave.refused(), [name(&due)]);
        let after = read(&harness, &request.name).await;
        assert_eq!(
            (state(&after), planned(&after).as_str()),
            (State::Invited, "SCHEDULED")
        );
        assert_eq!(hold(&after), HoldReason::ProtectedIdentity);
        assert_eq!(
            lists_of(&harness, &request.name).await,
            [Worklist::ManualHandling]
        );
        assert!(after.warnings().any(|it| it == Warning::ProtectedIdentity));
        harness.advance("2026-03-20T09:00:00Z");
        assert!(harness.lease_due().await.is_empty());
    }
}

#[tokio::test]
async fn new_protection_holds_every_open_invitation_the_silent_and_the_expired_too() {
    let harness = Harness::start(NOW).await;
    let requests = in_every_state(&harness).await;
    updated(&harness, protect()).await.expect("updated");
    for (before, name) in requests {
        let after = read(&harness, &name).await;
        let (shown, held) = match before {
            State::NoResponse => (State::Invited, HoldReason::ProtectedIdentity),
            State::Invited => (before, HoldReason::ProtectedIdentity),
            State::Expired if after.care_invitation.is_some() => {
                (before, HoldReason::ProtectedIdentity)
            }
            _ => (before, HoldReason::Unspecified),
        };
        assert_eq!((state(&after), hold(&after)), (shown, held), "{before:?}");
    }
}

#[tokio::test]
async fn new_protection_takes_the_place_of_any_other_reason_and_its_end_lifts_no_hold() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, due_now("R-1")).await;
    let call = contact(&request.name, Outcome::WillBook);
    contacted(&harness, call).await.expect("held");
    updated(&harness, protect()).await.expect("updated");
    let after = read(&harness, &request.name).await;
    assert_eq!(hold(&after), HoldReason::ProtectedIdentity);
    let invitation = after.care_invitation.expect("an invitation");
    assert_eq!(invitation.wait_until_date, "");

    let ended = update(&["protection"], v1::Patient::default());
    updated(&harness, ended).await.expect("updated");
    let after = read(&harness, &request.name).await;
    assert_eq!(hold(&after), HoldReason::ProtectedIdentity);
    assert!(harness.lease_due().await.is_empty());
    // Known already, after staff have released it: nothing new, nothing is held.
    updated(&harness, protect()).await.expect("updated");
    released(&harness, release(&request.name))
        .await
        .expect("released");
    assert_eq!(
        updated(&harness, protect()).await.expect("nothing new"),
        [""; 0]
    );
    assert_eq!(
        hold(&read(&harness, &request.name).await),
        HoldReason::Unspecified
    );
    lease_one(&harness).await;
}

#[tokio::test]
async fn a_message_on_its_way_runs_its_course_under_new_protection() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, due_now("R-1")).await;
    let due = lease_one(&harness).await;
    get_leave(&harness, &due).await;
    updated(&harness, protect()).await.expect("updated");
    assert_eq!(planned(&read(&harness, &request.name).await), "DISPATCHING");
    answer(&harness, sent(&due)).await;
    let after = read(&harness, &request.name).await;
    assert_eq!(
        (planned(&after).as_str(), hold(&after)),
        ("SENT SCHEDULED", HoldReason::ProtectedIdentity)
    );
    harness.advance("2026-03-16T08:00:00Z");
    assert!(harness.lease_due().await.is_empty());
}

#[tokio::test]
async fn reach_changes_the_channel_of_what_is_pending_and_of_nothing_that_has_left() {
    const LETTER: (DeliveryChannel, ChannelReason) =
        (DeliveryChannel::Letter, ChannelReason::NoDigitalAccount);
    const INBOX: (DeliveryChannel, ChannelReason) =
        (DeliveryChannel::Inbox, ChannelReason::Default);
    let harness = Harness::start(NOW).await;
    let request = created(&harness, due_now("R-1")).await;
    let ways = async || {
        let read = read(&harness, &request.name).await;
        let ways = messages(&read)
            .iter()
            .map(|it| (it.channel(), it.channel_reason()));
        ways.collect::<Vec<_>>()
    };
    assert_eq!(ways().await, [INBOX; 3]);
    updated(&harness, reach(InboxReach::None))
        .await
        .expect("updated");
    assert_eq!(ways().await, [LETTER; 3]);
    updated(&harness, reach(InboxReach::Inbox))
        .await
        .expect("updated");
    assert_eq!(ways().await, [INBOX; 3]);
    hand_over_one(&harness).await;
    updated(&harness, reach(InboxReach::None))
        .await
        .expect("updated");
    assert_eq!(ways().await, [INBOX, LETTER, LETTER]);
    harness.advance("2026-03-16T08:00:00Z");
    let due = lease_one(&harness).await;
    assert_eq!(
        (message(&due).channel(), message(&due).channel_reason()),
        LETTER
    );
    // Parked, it waits for its channel still.
    answer(&harness, park(&due)).await;
    updated(&harness, reach(InboxReach::Unspecified))
        .await
        .expect("updated");
    assert_eq!(ways().await, [INBOX; 3]);
}

#[tokio::test]
async fn a_message_speaks_the_language_that_was_learned_last() {
    let harness = Harness::start(NOW).await;
    created(&harness, due_now("R-1")).await;
    updated(&harness, language("fi")).await.expect("updated");
    assert_eq!(hand_over_one(&harness).await.language, "fi");
    updated(&harness, language("")).await.expect("updated");
    harness.advance("2026-03-16T08:00:00Z");
    assert_eq!(hand_over_one(&harness).await.language, "sv");
}

#[tokio::test]
async fn a_repeat_answers_the_same_names_and_changes_nothing() {
    for everywhere_too in [false, true] {
        let harness = Harness::start(NOW).await;
        created(&harness, due_now("R-1")).await;
        created(&harness, due_now("R-2")).await;
        created_in(&harness, ELSEWHERE, due_now("R-1")).await;
        created_in(&harness, ELSEWHERE, due_now("R-2")).await;
        let call = match everywhere_too {
            true => everywhere(protect()),
            false => protect(),
        };
        let first = updated(&harness, call.clone()).await.expect("updated");
        assert_eq!(first.len(), if everywhere_too { 4 } else { 2 });
        let name = first[0].clone();
        released(&harness, release(&name)).await.expect("released");
        let later = created(&harness, due_now("R-3")).await;
        let before = read(&harness, &name).await;

        assert_eq!(
            updated(&harness, call.clone()).await.expect("a repeat"),
            first
        );
        assert_eq!(read(&harness, &name).await, before);
        assert_eq!(read(&harness, &later.name).await, later);
        // Nor is one taken for the other.
        let other = v1::UpdatePatientRequest {
            patient: call.patient.map(|it| v1::Patient {
                protection: Protection::ProtectedRegistration.into(),
                ..it
            }),
            ..call
        };
        let status = updated(&harness, other).await.expect_err("reused");
        assert_reused(&status, "other content");
        assert_eq!(read(&harness, &later.name).await, later);
    }
}

#[tokio::test]
async fn a_call_that_found_nothing_to_change_is_remembered_too() {
    for everywhere_too in [false, true] {
        let harness = Harness::start(NOW).await;
        let call = |it| match everywhere_too {
            true => everywhere(it),
            false => it,
        };
        let call = call(protect());
        assert_eq!(
            updated(&harness, call.clone()).await.expect("nothing"),
            [""; 0]
        );
        let request = created(&harness, due_now("R-1")).await;
        assert_eq!(
            updated(&harness, call.clone()).await.expect("a repeat"),
            [""; 0]
        );
        assert_eq!(read(&harness, &request.name).await, request);
        let other = v1::UpdatePatientRequest {
            deceased: true,
            ..call
        };
        let status = updated(&harness, other).await.expect_err("reused");
        assert_reused(&status, "other content");
        assert_eq!(read(&harness, &request.name).await, request);
    }
}

#[tokio::test]
async fn an_id_is_not_used_for_another_patient_or_another_kind_of_call() {
    for everywhere_too in [false, true] {
        let harness = Harness::start(NOW).await;
        let request = created(&harness, due_now("R-1")).await;
        let stranger = v1::Patient {
            personal_id: "191212121212".into(),
            personal_id_type: v1::PersonalIdType::Personnummer.into(),
            protection: Protection::ConfidentialityMarked.into(),
            ..Default::default()
        };
        let strangers = created(
            &harness,
            v1::BookingRequest {
                patient: Some(v1::Patient {
                    protection: 0,
                    ..stranger.clone()
                }),
                ..due_now("R-2")
            },
        )
        .await;
        let call = match everywhere_too {
            true => everywhere(protect()),
            false => protect(),
        };
        updated(&harness, call.clone()).await.expect("updated");
        let other = v1::UpdatePatientRequest {
            patient: Some(stranger),
            ..call.clone()
        };
        let status = updated(&harness, other).await.expect_err("reused");
        assert_reused(&status, &format!("another patient {everywhere_too}"));
        assert_eq!(read(&harness, &strangers.name).await, strangers);
        if !everywhere_too {
            let release = v1::ReleaseHoldRequest {
                request_id: call.request_id,
                ..release(&request.name)
            };
            let status = released(&harness, release).await.expect_err("reused");
            assert_reused(&status, "another kind of call");
        }
    }
}

#[tokio::test]
async fn a_closed_request_that_is_invited_again_knows_what_was_learned_meanwhile() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, due_now("R-1")).await;
    let call = contact(&request.name, Outcome::Declined);
    contacted(&harness, call).await.expect("declined");
    for call in [reach(InboxReach::None), language("fi")] {
        let changed = updated(&harness, call).await.expect("updated");
        assert_eq!(changed, [request.name.as_str()]);
    }
    let entries = harness.history(&request.name).await;
    let learned = done(&entries).into_iter().rev().take(2);
    assert_eq!(learned.collect::<Vec<_>>(), ["UPDATE_PATIENT"; 2]);
    let again = harness.invite(make::wire_invite(&request.name)).await;
    again.expect("invited");
    let due = lease_one(&harness).await;
    assert_eq!(message(&due).channel(), DeliveryChannel::Letter);
    assert_eq!(due.language, "fi");
}
