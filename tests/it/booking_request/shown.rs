//! What is shown of a request: under its name, in its state, with its etag.

use care_invitation::contract::v1;
use care_invitation::contract::v1::Action::{
    Cancel, Change, ChangeToInvitation, RecordBooking, RecordBookingCancellation,
    RecordPatientContact, ReleaseHold, RevokeInvitation,
};
use care_invitation::contract::v1::booking_request::State;
use tonic::Code;

use super::{
    NOBODY, NOW, SILENCE_ENDS, actions, booking, created, messages, plan, record, requested,
    silent, state,
};
use crate::harness::{Harness, bad_fields, refusal};
use crate::make;

#[tokio::test]
async fn a_request_is_found_in_its_care_unit_alone() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-05-18", "2026-06-12")).await;
    let elsewhere = request.name.replace(make::CARE_UNIT, "SE2321000131-P2");
    for name in [&*elsewhere, NOBODY] {
        let visit = booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
        for answer in [
            harness.get(name).await,
            harness.invite(make::wire_invite(name)).await,
            harness.book(record(name, visit)).await,
            harness.cancel(make::wire_cancel(name)).await,
        ] {
            let status = answer.expect_err("not there");
            let expected = (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned());
            assert_eq!(refusal(&status), expected, "{name}");
        }
    }
    assert_eq!(harness.get(&request.name).await.expect("read"), request);
}

#[tokio::test]
async fn a_name_that_is_none_is_refused() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-05-18", "2026-06-12")).await;
    let (unit, id) = request
        .name
        .split_once("/bookingRequests/")
        .expect("a name");
    for name in [
        "",
        "x",
        unit,
        id,
        &format!("{unit}/bookingRequests/"),
        &format!("{unit}/bookingRequests/1"),
        &format!("{unit}/bookingRequests/{}", id.replace('-', "")),
        &format!("{unit}/bookingRequests/{id}/"),
        &format!("/{unit}/bookingRequests/{id}"),
        &format!("{unit}/bookingrequests/{id}"),
        &format!("careUnits/-/bookingRequests/{id}"),
        &format!("careUnits/SE1-P1/bookingRequests/{id}"),
        &format!("{unit}\0/bookingRequests/{id}"),
        &messages(&request)[0].name,
    ] {
        let status = harness.get(name).await.expect_err(name);
        assert_eq!(
            refusal(&status),
            (Code::InvalidArgument, "FIELD_INVALID".into()),
            "{name}"
        );
        assert_eq!(bad_fields(&status), ["name"], "{name}");
    }
}

#[tokio::test]
async fn a_write_with_another_etag_is_aborted_and_changes_nothing() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, requested("2026-05-18", "2026-06-12")).await;
    let etag = || "another".to_owned();
    let visit = booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
    for answer in [
        harness
            .invite(v1::ChangeToInvitationRequest {
                etag: etag(),
                ..make::wire_invite(&request.name)
            })
            .await,
        harness
            .book(v1::RecordBookingRequest {
                etag: etag(),
                ..record(&request.name, visit.clone())
            })
            .await,
        harness
            .cancel(v1::CancelBookingRequestRequest {
                etag: etag(),
                ..make::wire_cancel(&request.name)
            })
            .await,
    ] {
        let status = answer.expect_err("aborted");
        assert_eq!(
            refusal(&status),
            (Code::Aborted, "ETAG_MISMATCH".to_owned())
        );
    }
    assert_eq!(harness.get(&request.name).await.expect("read"), request);

    // The one that was seen is taken, once.
    let invite = v1::ChangeToInvitationRequest {
        etag: request.etag.clone(),
        ..make::wire_invite(&request.name)
    };
    let invited = harness.invite(invite).await.expect("invited");
    let stale = v1::RecordBookingRequest {
        etag: request.etag,
        ..record(&request.name, visit.clone())
    };
    let status = harness.book(stale).await.expect_err("somebody was first");
    assert_eq!(refusal(&status).1, "ETAG_MISMATCH");
    let fresh = v1::RecordBookingRequest {
        etag: invited.etag,
        ..record(&request.name, visit)
    };
    assert_eq!(
        state(&harness.book(fresh).await.expect("booked")),
        State::Booked
    );
}

#[tokio::test]
async fn the_etag_changes_with_calls_and_hand_overs_and_not_with_leases_or_time() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, requested("2026-03-09", "2026-03-13")).await;
    let name = &request.name;
    let etag = async || harness.get(name).await.expect("read").etag;
    let mut seen = vec![etag().await];
    assert_eq!(seen[0], request.etag);

    let invited = harness
        .invite(make::wire_invite(name))
        .await
        .expect("invited");
    assert_eq!(etag().await, invited.etag);
    seen.push(invited.etag.clone());
    // Leased, and leased again after the lease has run out.
    harness.lease_due().await;
    assert_eq!(etag().await, invited.etag);
    harness.advance("2026-03-02T09:01:00Z");
    let due = harness.lease_due().await;
    assert_eq!((due.len(), etag().await), (1, invited.etag.clone()));
    // Refused, repeated or recognised as nothing new.
    harness
        .invite(make::wire_invite(name))
        .await
        .expect_err("an invitation already");
    assert_eq!(etag().await, invited.etag);

    harness.acknowledge_sent(&due).await;
    seen.push(etag().await);
    harness.acknowledge_sent(&due).await;
    assert_eq!(etag().await, seen[2], "the same acknowledgement again");
    // Time makes it expire and skips what was planned.
    harness.advance("2026-03-14T09:00:00Z");
    assert_eq!(harness.lease_due().await.len(), 0);
    let expired = harness.get(name).await.expect("read");
    assert_eq!((state(&expired), &expired.etag), (State::Expired, &seen[2]));

    let visit = v1::Booking {
        override_reason: "ledig tid".into(),
        ..booking("B-1", "2026-03-16T08:00:00Z", "2026-03-16T08:30:00Z")
    };
    harness
        .book(record(name, visit.clone()))
        .await
        .expect("booked");
    seen.push(etag().await);
    harness
        .book(record(name, visit))
        .await
        .expect("the same booking");
    assert_eq!(etag().await, seen[3]);
    harness
        .cancel(make::wire_cancel(name))
        .await
        .expect("cancelled");
    seen.push(etag().await);
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!((count, seen.len()), (5, 5), "each is another: {seen:?}");
}

#[tokio::test]
async fn a_request_expires_at_its_last_midnight_to_the_second() {
    for (first, last, expires) in [
        ("2026-03-09", "2026-03-13", "2026-03-13T23:00:00Z"),
        ("2026-03-09", "2026-03-28", "2026-03-28T23:00:00Z"),
        // The days on which the clocks change.
        ("2026-03-09", "2026-03-29", "2026-03-29T22:00:00Z"),
        ("2026-10-19", "2026-10-25", "2026-10-25T23:00:00Z"),
    ] {
        let harness = Harness::start(NOW).await;
        let mut names = Vec::new();
        for invitation in [false, true] {
            let form = v1::BookingRequest {
                origin: Some(make::wire_referral(&format!("R-{invitation}"))),
                invitation,
                ..make::wire_form(first, last)
            };
            names.push(created(&harness, form).await.name);
        }
        let expires = make::at(expires);
        harness
            .clock
            .advance(expires - chrono::Duration::seconds(1))
            .expect("forward");
        for (name, expected) in names.iter().zip([State::Requested, State::Invited]) {
            let read = harness.get(name).await.expect("read");
            assert_eq!(state(&read), expected, "{last}");
        }
        harness.clock.advance(expires).expect("forward");
        for name in &names {
            let read = harness.get(name).await.expect("read");
            assert_eq!(state(&read), State::Expired, "{last}");
            let pending = plan(messages(&read));
            assert!(
                pending.iter().all(|it| it.starts_with("SKIPPED")),
                "{last} {pending:?}"
            );
        }
        assert_eq!(harness.lease_due().await.len(), 0);
    }
}

#[tokio::test]
async fn silence_turns_to_no_response_to_the_second_and_expiry_comes_before_it() {
    let harness = Harness::start(NOW).await;
    let request = silent(&harness).await;
    let invitation = request.care_invitation.as_ref().expect("an invitation");
    assert_eq!(
        invitation.no_response_time,
        Some(make::wire_at(SILENCE_ENDS))
    );
    for (now, expected) in [
        ("2026-04-13T06:59:59Z", State::Invited),
        (SILENCE_ENDS, State::NoResponse),
        ("2026-06-12T21:59:59Z", State::NoResponse),
        ("2026-06-12T22:00:00Z", State::Expired),
    ] {
        harness.advance(now);
        let read = harness.get(&request.name).await.expect("read");
        assert_eq!(state(&read), expected, "{now}");
    }
}

#[tokio::test]
async fn each_state_says_what_may_be_done() {
    let to_invitation = [Change, ChangeToInvitation, RecordBooking, Cancel];
    let invited = [
        Change,
        RecordBooking,
        RecordPatientContact,
        Cancel,
        RevokeInvitation,
    ];
    let held = [
        Change,
        RecordBooking,
        RecordPatientContact,
        Cancel,
        ReleaseHold,
        RevokeInvitation,
    ];
    let unanswered = [
        ChangeToInvitation,
        RecordBooking,
        RecordPatientContact,
        Cancel,
    ];
    let untold = [
        ChangeToInvitation,
        RecordBooking,
        RecordPatientContact,
        Cancel,
        RevokeInvitation,
    ];
    let booked = [
        ChangeToInvitation,
        RecordBooking,
        Cancel,
        RecordBookingCancellation,
    ];

    let harness = Harness::start(NOW).await;
    let form = |referral_id: &str, invitation: bool| v1::BookingRequest {
        origin: Some(make::wire_referral(referral_id)),
        invitation,
        ..make::wire_form("2026-05-18", "2026-06-12")
    };
    let plain = created(&harness, form("R-2", false)).await;
    let open = created(&harness, form("R-3", true)).await;
    let mut protected = form("R-4", true);
    protected.patient.as_mut().expect("a patient").protection = 1;
    let protected = created(&harness, protected).await;
    let settled = created(&harness, form("R-5", true)).await;
    let visit = booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
    harness
        .book(record(&settled.name, visit))
        .await
        .expect("booked");
    let closed = created(&harness, form("R-6", true)).await;
    harness
        .cancel(make::wire_cancel(&closed.name))
        .await
        .expect("cancelled");
    let mute = silent(&harness).await;
    harness.advance(SILENCE_ENDS);
    let shown = async |name: &str| {
        let read = harness.get(name).await.expect("read");
        let mut allowed = actions(&read);
        allowed.sort();
        (state(&read), allowed)
    };
    for (name, expected, allowed) in [
        (&plain.name, State::Requested, &to_invitation[..]),
        (&open.name, State::Invited, &invited),
        (&protected.name, State::Invited, &held),
        (&settled.name, State::Booked, &booked),
        (&closed.name, State::Cancelled, &[]),
        (&mute.name, State::NoResponse, &unanswered),
    ] {
        assert_eq!(shown(name).await, (expected, allowed.to_vec()));
    }
    harness.advance("2026-06-12T22:00:00Z");
    for (name, allowed) in [
        (&plain.name, &to_invitation[..]),
        (&open.name, &untold),
        (&protected.name, &untold),
        (&mute.name, &unanswered),
    ] {
        assert_eq!(shown(name).await, (State::Expired, allowed.to_vec()));
    }
}
