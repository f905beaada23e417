//! ReplacePersonalId: the requests of a patient who has got another identity number.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Outcome;
use care_invitation::contract::v1::PersonalIdType::{
    LocalReserveNumber, Personnummer, Samordningsnummer,
};
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::{
    ChannelReason, DeliveryChannel, DispatchRefusal, HoldReason, Protection, Worklist,
};
use tonic::{Code, Status};

use super::calls::{
    cancel, contact, contacted, get_leave, hand_over_one, hold, lease_one, planned, protect,
    release, released, update, updated,
};
use super::patient::{due_now, in_every_state, read, sorted};
use super::{NOW, SILENCE_ENDS, booking, created, done, record, requested, state};
use crate::consumer::{Consumer, authorize, everything, lease, message};
use crate::harness::{Harness, bad_fields, metadata, refusal, within};
use crate::logged::Log;
use crate::make;

/// The patient of every form.
const FORM: &str = "198003012385";
const OTHER: &str = "191212121212";
/// A coordination number, to which 1177 does not write.
const COORDINATION: &str = "197302889931";
const OID: &str = "1.2.752.97.3.1.3";
const OTHER_OID: &str = "1.2.752.74.9.2";
const ELSEWHERE: &str = "careUnits/SE2321000131-P2";

fn identity(kind: v1::PersonalIdType, number: &str, issuer: &str) -> v1::PatientIdentity {
    v1::PatientIdentity {
        personal_id: number.into(),
        personal_id_type: kind.into(),
        issuer: issuer.into(),
    }
}

fn personnummer(number: &str) -> v1::PatientIdentity {
    identity(Personnummer, number, "")
}

fn of(identity: &v1::PatientIdentity, form: v1::BookingRequest) -> v1::BookingRequest {
    v1::BookingRequest {
        patient: Some(v1::Patient {
            personal_id: identity.personal_id.clone(),
            personal_id_type: identity.personal_id_type,
            issuer: identity.issuer.clone(),
            ..form.patient.expect("a patient")
        }),
        ..form
    }
}

fn protected(protection: Protection, form: v1::BookingRequest) -> v1::BookingRequest {
    v1::BookingRequest {
        patient: form.patient.map(|it| v1::Patient {
            protection: protection.into(),
            ..it
        }),
        ..form
    }
}

fn replace(old: v1::PatientIdentity, new: v1::PatientIdentity) -> v1::ReplacePersonalIdRequest {
    v1::ReplacePersonalIdRequest {
        old_identity: Some(old),
        new_identity: Some(new),
        request_id: make::request_id(),
    }
}

/// The call that gives the patient of every form another number.
pub fn to_other() -> v1::ReplacePersonalIdRequest {
    replace(personnummer(FORM), personnummer(OTHER))
}

/// Names of what moved, and of the duplicates among them.
async fn replaced(
    harness: &Harness,
    call: v1::ReplacePersonalIdRequest,
) -> Result<(Vec<String>, Vec<String>), Status> {
    let answer = within(harness.requests().replace_personal_id(call)).await?;
    let answer = answer.into_inner();
    Ok((answer.booking_requests, answer.with_open_duplicate))
}

async fn listed(harness: &Harness, identity: v1::PatientIdentity) -> Vec<String> {
    let list = v1::ListWorklistRequest {
        query: Some(v1::WorklistQuery {
            worklists: vec![Worklist::All.into()],
            care_units: vec!["careUnits/-".into()],
            personal_id: identity.personal_id,
            personal_id_type: identity.personal_id_type,
            issuer: identity.issuer,
            ..Default::default()
        }),
        page_size: 500,
        ..Default::default()
    };
    let page = within(harness.worklists().list_worklist(list)).await;
    let listed = page.expect("a page").into_inner().booking_requests;
    sorted(listed.into_iter().map(|it| it.name).collect())
}

fn protection(request: &v1::BookingRequest) -> Protection {
    request.patient.as_ref().expect("a patient").protection()
}

#[tokio::test]
async fn requests_in_every_state_and_every_care_unit_move_and_nothing_else_of_them_changes() {
    let harness = Harness::start(NOW).await;
    let states = in_every_state(&harness).await;
    let mut mine: Vec<String> = states.into_iter().map(|(_, name)| name).collect();
    let call = v1::CreateBookingRequestRequest {
        parent: ELSEWHERE.into(),
        ..make::wire_create(requested("2026-05-18", "2026-06-12"))
    };
    mine.push(harness.create(call).await.expect("created").name);
    let mine = sorted(mine);
    let coordination = identity(Samordningsnummer, COORDINATION, "");
    let stranger = of(&coordination, requested("2026-05-18", "2026-06-12"));
    let stranger = created(&harness, stranger).await;
    harness.advance(SILENCE_ENDS);
    let mut before = Vec::new();
    for name in &mine {
        before.push(read(&harness, name).await);
    }
    let stranger = read(&harness, &stranger.name).await;

    let (moved, duplicates) = replaced(&harness, to_other()).await.expect("replaced");
    assert_eq!((moved, duplicates), (mine.clone(), vec![]));
    assert_eq!(read(&harness, &stranger.name).await, stranger);
    for before in before {
        let after = read(&harness, &before.name).await;
        assert_ne!(after.etag, before.etag);
        let expected = v1::BookingRequest {
            etag: after.etag.clone(),
            update_time: after.update_time,
            ..of(&personnummer(OTHER), before)
        };
        assert_eq!(after, expected);
        let entries = harness.history(&after.name).await;
        let last = entries.last().expect("entries");
        assert_eq!(last.event(), v1::HistoryEvent::PersonalIdReplaced);
        assert_eq!(last.state, after.state);
        for number in [FORM, OTHER] {
            assert!(!format!("{entries:?}").contains(number));
        }
    }
    assert_eq!(listed(&harness, personnummer(FORM)).await, [""; 0]);
    assert_eq!(listed(&harness, personnummer(OTHER)).await, mine);
    // What is learned of them from now on finds them, in the one care unit.
    let language = v1::Patient {
        preferred_language: "fi".into(),
        ..Default::default()
    };
    let old = updated(&harness, update(&["preferred_language"], language.clone())).await;
    assert_eq!(old.expect("nobody's"), [""; 0]);
    let mut call = update(&["preferred_language"], language);
    call.patient.as_mut().expect("given").personal_id = OTHER.into();
    let changed = updated(&harness, call).await.expect("updated");
    // One is cancelled, and the one elsewhere is another care unit's.
    assert_eq!(changed.len(), mine.len() - 2);
}

#[tokio::test]
async fn a_patient_is_kind_number_and_issuer() {
    let harness = Harness::start(NOW).await;
    let local = |issuer| identity(LocalReserveNumber, "R-1", issuer);
    let mine = created(&harness, of(&local(OID), due_now("R-1"))).await;
    let theirs = created(&harness, of(&local(OTHER_OID), due_now("R-1"))).await;
    // A lower case letter is the same number.
    let call = replace(
        identity(LocalReserveNumber, "r-1", OID),
        personnummer(OTHER),
    );
    let (moved, _) = replaced(&harness, call).await.expect("replaced");
    assert_eq!(moved, [mine.name.as_str()]);
    let after = read(&harness, &mine.name).await.patient.expect("a patient");
    assert_eq!(
        (after.personal_id.as_str(), after.issuer.as_str()),
        (OTHER, "")
    );
    assert_eq!(read(&harness, &theirs.name).await, theirs);
    // Between two issuers of one number.
    let call = replace(local(OTHER_OID), local(OID));
    let (moved, _) = replaced(&harness, call).await.expect("replaced");
    assert_eq!(moved, [theirs.name.as_str()]);
    assert_eq!(listed(&harness, local(OTHER_OID)).await, [""; 0]);
    assert_eq!(listed(&harness, local(OID)).await, [theirs.name]);
}

#[tokio::test]
async fn the_stream_revokes_a_leased_message_whose_channel_is_then_chosen_anew() {
    let harness = Harness::start(NOW).await;
    let old = identity(Samordningsnummer, COORDINATION, "");
    let request = created(&harness, of(&old, due_now("R-1"))).await.name;
    let mut consumer = Consumer::open(&harness, everything()).await;
    let due = consumer.due().await;
    let way = |due: &v1::DueNotification| (message(due).channel(), message(due).channel_reason());
    let letter = (DeliveryChannel::Letter, ChannelReason::IdentityNumber);
    assert_eq!(way(&due), letter);

    let call = replace(old, personnummer(OTHER));
    replaced(&harness, call).await.expect("replaced");
    let again = consumer.due_again(&due).await;
    let inbox = (DeliveryChannel::Inbox, ChannelReason::Default);
    assert_eq!(way(&again), inbox);
    assert_eq!(again.personal_id, OTHER);
    let shown = read(&harness, &request).await;
    assert_eq!(planned(&shown), "LEASED");
}

#[tokio::test]
async fn a_leased_message_is_not_authorized_for_the_old_number() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, due_now("R-1")).await.name;
    let due = lease_one(&harness).await;
    replaced(&harness, to_other()).await.expect("replaced");
    assert_eq!(planned(&read(&harness, &request).await), "SCHEDULED");
    let refused = authorize(&harness, vec![lease(&due)]).await;
    let refused = refused.expect("an answer").results;
    assert_eq!(refused[0].refusal(), DispatchRefusal::Changed);
    assert_eq!(hand_over_one(&harness).await.personal_id, OTHER);
}

#[tokio::test]
async fn a_message_that_is_being_handed_over_runs_its_course() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, due_now("R-1")).await.name;
    let due = lease_one(&harness).await;
    get_leave(&harness, &due).await;
    replaced(&harness, to_other()).await.expect("replaced");
    assert_eq!(planned(&read(&harness, &request).await), "DISPATCHING");
    harness.acknowledge_sent(&[due]).await;
    assert_eq!(planned(&read(&harness, &request).await), "SENT SCHEDULED");
}

#[tokio::test]
async fn protection_of_either_number_holds_the_requests_of_both() {
    use Protection::{ConfidentialityMarked, ProtectedRegistration, Unspecified};
    for (old, new, all) in [
        (ConfidentialityMarked, Unspecified, ConfidentialityMarked),
        (Unspecified, ProtectedRegistration, ProtectedRegistration),
        (
            ProtectedRegistration,
            ConfidentialityMarked,
            ProtectedRegistration,
        ),
    ] {
        let harness = Harness::start(NOW).await;
        let other = |form| of(&personnummer(OTHER), form);
        // What is protected stands in one request, which has ended: it is known all the same.
        let known = created(&harness, protected(old, due_now("R-1"))).await.name;
        let theirs = created(&harness, protected(new, other(due_now("R-2")))).await;
        for name in [&known, &theirs.name] {
            let call = contact(name, Outcome::Declined);
            contacted(&harness, call).await.expect("declined");
        }
        let mine = created(&harness, due_now("R-3")).await.name;
        let others = created(&harness, other(due_now("R-4"))).await.name;
        let booked = created(&harness, due_now("R-5")).await.name;
        let visit = booking("B-1", "2026-03-09T08:00:00Z", "2026-03-09T08:30:00Z");
        harness.book(record(&booked, visit)).await.expect("booked");

        let (moved, _) = replaced(&harness, to_other()).await.expect("replaced");
        assert_eq!(
            moved,
            sorted(vec![known.clone(), mine.clone(), booked.clone()])
        );
        for name in [&known, &mine, &others, &booked, &theirs.name] {
            assert_eq!(
                protection(&read(&harness, name).await),
                all,
                "{old:?} {new:?}"
            );
        }
        assert!(harness.lease_due().await.is_empty());
        for (name, action) in [(&mine, "PERSONAL_ID_REPLACED"), (&others, "UPDATE_PATIENT")] {
            let request = read(&harness, name).await;
            assert_eq!(hold(&request), HoldReason::ProtectedIdentity);
            let entries = harness.history(name).await;
            assert_eq!(done(&entries).last(), Some(&action));
            released(&harness, release(name)).await.expect("released");
        }
        assert_eq!(harness.lease_due().await.len(), 2);
    }
}

#[tokio::test]
async fn protection_parks_the_withdrawal_of_a_cancelled_request() {
    let harness = Harness::start(NOW).await;
    let withdrawn = created(&harness, due_now("R-1")).await.name;
    hand_over_one(&harness).await;
    let reason = v1::CancelReason::UnitRequest;
    let call = cancel(&withdrawn, reason);
    harness.cancel(call).await.expect("cancelled");
    let other = of(&personnummer(OTHER), requested("2026-05-18", "2026-06-12"));
    created(
        &harness,
        protected(Protection::ConfidentialityMarked, other),
    )
    .await;

    replaced(&harness, to_other()).await.expect("replaced");
    let request = read(&harness, &withdrawn).await;
    assert_eq!(hold(&request), HoldReason::ProtectedIdentity);
    assert_eq!(planned(&request), "SENT CANCELLED PARKED");
    let entries = harness.history(&withdrawn).await;
    let entries = done(&entries);
    let last = &entries[entries.len() - 2..];
    assert_eq!(last, ["PERSONAL_ID_REPLACED", "NOTIFICATION_PARKED"]);
    released(&harness, release(&withdrawn))
        .await
        .expect("released");
    assert_eq!(lease_one(&harness).await.personal_id, OTHER);
}

#[tokio::test]
async fn a_duplicate_is_kept_and_named_and_counts_from_then_on() {
    let harness = Harness::start(NOW).await;
    let form = |id: &str| v1::BookingRequest {
        origin: Some(make::wire_referral(id)),
        ..requested("2026-05-18", "2026-06-12")
    };
    let theirs = |id: &str| of(&personnummer(OTHER), form(id));
    let beside = created(&harness, form("R-1")).await.name;
    created(&harness, theirs("R-1")).await;
    let alone = created(&harness, form("R-2")).await.name;
    // One of the two is over: no duplicate.
    let closed = created(&harness, form("R-3")).await.name;
    let call = make::wire_cancel(&created(&harness, theirs("R-3")).await.name);
    harness.cancel(call).await.expect("cancelled");
    let over = created(&harness, form("R-4")).await.name;
    harness
        .cancel(make::wire_cancel(&over))
        .await
        .expect("cancelled");
    created(&harness, theirs("R-4")).await;
    let declined = created(
        &harness,
        v1::BookingRequest {
            origin: Some(make::wire_referral("R-5")),
            ..due_now("R-5")
        },
    )
    .await
    .name;
    let call = contact(&declined, Outcome::Declined);
    contacted(&harness, call).await.expect("declined");
    let first = created(&harness, theirs("R-5")).await.name;
    let series = v1::CreateBookingRequestRequest {
        repeat: Some(v1::Repeat {
            interval_days: 30,
            count: 2,
        }),
        ..make::wire_create(form("R-6"))
    };
    let series = harness.create(series).await.expect("created");
    let members = series.series.expect("a series").members;

    let (moved, duplicates) = replaced(&harness, to_other()).await.expect("replaced");
    let mut expected = vec![beside.clone(), alone, closed, over, declined.clone()];
    expected.extend(members);
    assert_eq!(moved, sorted(expected));
    assert_eq!(duplicates, [beside.as_str()]);
    assert_eq!(state(&read(&harness, &beside).await), State::Requested);

    // Each open one is in the way of another, and nothing is in the way of the number that they left.
    for id in ["R-1", "R-2", "R-3", "R-4", "R-6"] {
        let status = harness.create(make::wire_create(theirs(id))).await;
        let status = status.expect_err(id);
        assert_eq!(refusal(&status).1, "DUPLICATE_REQUEST", "{id}");
    }
    let status = harness.invite(make::wire_invite(&declined)).await;
    let status = status.expect_err("a duplicate");
    assert_eq!(refusal(&status).1, "DUPLICATE_REQUEST");
    assert_eq!(metadata(&status, "name"), first);
    for id in ["R-1", "R-2", "R-6"] {
        created(&harness, form(id)).await;
    }
    // It may be changed like any other, and is refused once it has been closed.
    let call = make::wire_invite(&beside);
    harness.invite(call).await.expect("invited");
    let call = contact(&beside, Outcome::Declined);
    contacted(&harness, call).await.expect("declined");
    let status = harness.invite(make::wire_invite(&beside)).await;
    assert_eq!(
        refusal(&status.expect_err("a duplicate")).1,
        "DUPLICATE_REQUEST"
    );
}

#[tokio::test]
async fn a_repeat_answers_the_same_names_wherever_the_requests_are_now() {
    let harness = Harness::start(NOW).await;
    let theirs = of(&personnummer(OTHER), due_now("R-1"));
    created(&harness, theirs).await;
    let beside = created(&harness, due_now("R-1")).await.name;
    let alone = created(&harness, due_now("R-2")).await.name;
    // What was learned before they moved is answered as before, too.
    let learned = [
        protect(),
        v1::UpdatePatientRequest {
            parent: "careUnits/-".into(),
            ..update(
                &["preferred_language"],
                v1::Patient {
                    preferred_language: "fi".into(),
                    ..Default::default()
                },
            )
        },
    ];
    let mut told = Vec::new();
    for call in &learned {
        told.push(updated(&harness, call.clone()).await.expect("updated"));
    }
    assert_eq!(told[0], sorted(vec![beside.clone(), alone.clone()]));
    assert_eq!(told[1], told[0]);

    let call = to_other();
    let first = replaced(&harness, call.clone()).await.expect("replaced");
    assert_eq!(first, (told[0].clone(), vec![beside.clone()]));
    let onward = replace(
        personnummer(OTHER),
        identity(Samordningsnummer, COORDINATION, ""),
    );
    let (moved, _) = replaced(&harness, onward).await.expect("replaced");
    assert_eq!(moved.len(), 3);
    harness
        .cancel(make::wire_cancel(&beside))
        .await
        .expect("cancelled");
    created(&harness, due_now("R-3")).await;
    let before = read(&harness, &alone).await;

    let again = replaced(&harness, call.clone()).await.expect("a repeat");
    assert_eq!(again, first);
    for (call, told) in learned.iter().zip(&told) {
        let again = updated(&harness, call.clone()).await.expect("a repeat");
        assert_eq!(again, *told);
    }
    assert_eq!(read(&harness, &alone).await, before);
    // Nor is another taken for it.
    for other in [
        v1::ReplacePersonalIdRequest {
            new_identity: Some(identity(Samordningsnummer, COORDINATION, "")),
            ..call.clone()
        },
        v1::ReplacePersonalIdRequest {
            request_id: learned[1].request_id.clone(),
            ..call
        },
    ] {
        let status = replaced(&harness, other).await.expect_err("reused");
        let expected = (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned());
        assert_eq!(refusal(&status), expected);
    }
    assert_eq!(listed(&harness, personnummer(FORM)).await.len(), 1);
}

#[tokio::test]
async fn a_number_without_requests_moves_nothing_and_that_is_remembered() {
    let harness = Harness::start(NOW).await;
    // Two requests of the new number, of which one alone has protection.
    let theirs = of(&personnummer(OTHER), due_now("R-1"));
    let marked = protected(Protection::ConfidentialityMarked, theirs.clone());
    let marked = created(&harness, marked).await;
    let theirs = created(
        &harness,
        v1::BookingRequest {
            origin: Some(make::wire_referral("R-2")),
            ..theirs
        },
    )
    .await;
    let call = to_other();
    let nothing = (vec![], vec![]);
    let first = replaced(&harness, call.clone()).await;
    assert_eq!(first.expect("nothing"), nothing);
    let mine = created(&harness, due_now("R-1")).await;
    let again = replaced(&harness, call).await;
    assert_eq!(again.expect("a repeat"), nothing);
    for request in [marked, theirs, mine] {
        assert_eq!(read(&harness, &request.name).await, request);
    }
}

#[tokio::test]
async fn two_numbers_that_are_one_and_bad_ones_are_refused_and_never_told() {
    let harness = Harness::start(NOW).await;
    let log = Log::default();
    let listening = log.listen();
    let request = created(&harness, due_now("R-1")).await;
    let local = |number: &str| identity(LocalReserveNumber, number, OID);
    let tomorrow = "202603031234";
    for (old, new, fields) in [
        (personnummer(FORM), personnummer(FORM), vec!["new_identity"]),
        (local("r-1"), local("R-1"), vec!["new_identity"]),
        (
            personnummer("196408233235"),
            identity(LocalReserveNumber, "R-1", ""),
            vec!["new_identity.issuer", "old_identity.personal_id"],
        ),
        (
            personnummer(FORM),
            personnummer(tomorrow),
            vec!["new_identity.personal_id"],
        ),
        (
            personnummer(tomorrow),
            personnummer(FORM),
            vec!["old_identity.personal_id"],
        ),
    ] {
        let numbers = [old.personal_id.clone(), new.personal_id.clone()];
        let status = replaced(&harness, replace(old, new)).await;
        let status = status.expect_err("refused");
        let reason = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
        assert_eq!(refusal(&status), reason);
        let named = sorted(bad_fields(&status));
        assert_eq!(named, fields);
        let told = format!("{status:?}{}", String::from_utf8_lossy(status.details()));
        for number in numbers {
            assert!(!told.contains(&number), "{fields:?}");
        }
    }
    assert_eq!(read(&harness, &request.name).await, request);
    replaced(&harness, to_other()).await.expect("replaced");
    drop(listening);
    for number in [FORM, OTHER, tomorrow, "196408233235"] {
        assert_eq!(log.lines(number), [""; 0]);
    }
}

/// More than one statement changes. On a busy machine that may take longer than a caller waits, who then repeats it.
#[tokio::test]
async fn many_requests_move_at_once() {
    let harness = Harness::start(NOW).await;
    let mut names = Vec::new();
    for hundred in 0..3 {
        let requests = (0..100).map(|it| {
            make::wire_create(v1::BookingRequest {
                origin: Some(make::wire_referral(&format!("R-{hundred}-{it}"))),
                ..requested("2026-05-18", "2026-06-12")
            })
        });
        let call = v1::BatchCreateBookingRequestsRequest {
            requests: requests.collect(),
        };
        let answer = within(harness.requests().batch_create_booking_requests(call)).await;
        let results = answer.expect("an answer").into_inner().results;
        let created = results.into_iter().filter_map(|it| it.booking_request);
        names.extend(created.map(|it| it.name));
    }
    assert_eq!(names.len(), 300);
    let call = to_other();
    let repeated = async || {
        loop {
            match replaced(&harness, call.clone()).await {
                Err(status) if status.code() == Code::Unavailable => {}
                answer => return answer.expect("replaced"),
            }
        }
    };
    let first = within(repeated()).await;
    assert_eq!(first, (sorted(names.clone()), vec![]));
    assert_eq!(within(repeated()).await, first);
    assert_eq!(listed(&harness, personnummer(FORM)).await, [""; 0]);
    for name in names.iter().step_by(97) {
        let patient = read(&harness, name).await.patient.expect("a patient");
        assert_eq!(patient.personal_id, OTHER);
    }
}
