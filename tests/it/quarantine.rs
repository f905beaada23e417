//! Rows that cannot be decoded: each is set aside, and everything else goes on.

use std::time::Duration;

use care_invitation::clock::Clock;
use care_invitation::contract::v1;
use care_invitation::contract::v1::Worklist;
use care_invitation::contract::v1::booking_request::Origin;
use care_invitation::contract::v1::stream_due_notifications_response::Event as DueEvent;
use care_invitation::contract::v1::watch_worklist_response::Event;
use care_invitation::grpc::middleware::Limits;
use prost_types::FieldMask;
use sea_orm::{ConnectionTrait, Database};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::backend::Kind;
use crate::consumer::{Consumer, at_most, everything, name, results, sent};
use crate::harness::{Harness, refusal, within};
use crate::make::{self, at};
use crate::worklist_user;

const NOW: &str = "2026-03-02T09:00:00Z";
/// For so long a claim does not read again what could not be decoded.
const PASSED_OVER: Duration = Duration::from_secs(30);

/// An invitation whose first message is due.
async fn invite(harness: &Harness, referral: &str) -> v1::BookingRequest {
    let mut form = make::wire_form("2026-04-06", "2026-06-12");
    form.origin = Some(make::wire_referral(referral));
    let created = harness.create(make::wire_create(form)).await;
    created.expect("created")
}

async fn invite_all(harness: &Harness, referrals: &[&str]) -> Vec<v1::BookingRequest> {
    let mut created = Vec::new();
    for referral in referrals {
        created.push(invite(harness, referral).await);
    }
    created
}

/// Alters the database beside the service.
async fn alter(harness: &Harness, sql: &str) {
    let database = Database::connect(harness.backend.url()).await;
    let database = database.expect("a connection");
    let altered = database.execute_unprepared(sql).await.expect(sql);
    assert!(altered.rows_affected() > 0, "{sql}");
    database.close().await.expect("closed");
}

/// The service started again, so that it knows nothing but what is stored.
async fn restarted(harness: Harness) -> Harness {
    harness.shutdown.cancel();
    within(harness.server).await.expect("it ends");
    let now = harness.clock.now().to_rfc3339();
    let backend = within(harness.backend.reopened()).await;
    Harness::over(backend, Clock::sandbox(at(&now)), Limits::default()).await
}

fn invitations() -> v1::WorklistQuery {
    v1::WorklistQuery {
        worklists: vec![Worklist::CareInvitations.into()],
        care_units: vec![make::wire_unit()],
        ..Default::default()
    }
}

fn referral_of(request: &v1::BookingRequest) -> String {
    match &request.origin {
        Some(Origin::Referral(referral)) => referral.referral_id.clone(),
        _ => panic!("all have a referral"),
    }
}

fn referrals<'a>(requests: impl IntoIterator<Item = &'a v1::BookingRequest>) -> Vec<String> {
    let mut named: Vec<_> = requests.into_iter().map(referral_of).collect();
    named.sort();
    named
}

/// The list as pages of this size give it.
async fn listed(harness: &Harness, page_size: i32) -> Vec<String> {
    let mut all = Vec::new();
    let mut call = v1::ListWorklistRequest {
        query: Some(invitations()),
        page_size,
        ..Default::default()
    };
    loop {
        let page = within(harness.worklists().list_worklist(call.clone())).await;
        let page = page.expect("a page").into_inner();
        all.extend(page.booking_requests);
        if page.next_page_token.is_empty() {
            return referrals(&all);
        }
        call.page_token = page.next_page_token;
    }
}

/// How many messages are listed, page by page.
async fn listed_messages(harness: &Harness, page_size: i32) -> usize {
    let mut count = 0;
    let mut call = v1::ListNotificationsRequest {
        care_units: vec![make::wire_unit()],
        page_size,
        ..Default::default()
    };
    loop {
        let page = within(harness.notifications().list_notifications(call.clone())).await;
        let page = page.expect("a page").into_inner();
        count += page.notifications.len();
        if page.next_page_token.is_empty() {
            return count;
        }
        call.page_token = page.next_page_token;
    }
}

/// The list as a watch begins.
async fn watched(harness: &Harness) -> Vec<String> {
    let call = v1::WatchWorklistRequest {
        query: Some(invitations()),
        ..Default::default()
    };
    let events = within(harness.worklists().watch_worklist(call)).await;
    let mut events = events.expect("a stream").into_inner();
    let mut all = Vec::new();
    loop {
        let said = within(events.message()).await.expect("an event");
        match said.expect("an event").event {
            Some(Event::Upserted(request)) => all.push(request),
            Some(Event::SnapshotComplete(_)) => return referrals(&all),
            other => panic!("{other:?}"),
        }
    }
}

async fn assert_serving(harness: &Harness) {
    let mut health = HealthClient::new(harness.channel.clone());
    let said = within(health.check(HealthCheckRequest::default())).await;
    let status = said.expect("an answer").into_inner().status();
    assert_eq!(status, ServingStatus::Serving);
}

fn internal() -> (Code, String) {
    (Code::Internal, "INTERNAL".to_owned())
}

fn assert_internal<T: std::fmt::Debug>(answer: Result<T, Status>, what: &str) {
    let refused = answer.expect_err(what);
    assert_eq!(refusal(&refused), internal(), "{what}");
}

/// What spoils the request with referral "bad", one way at a time.
const SPOILT: [&str; 12] = [
    "UPDATE booking_request SET priority = 77 WHERE referral_id = 'bad'",
    "UPDATE booking_request SET state = 77 WHERE referral_id = 'bad'",
    "UPDATE booking_request SET start_day = 2147483647 WHERE referral_id = 'bad'",
    "UPDATE booking_request SET created_at = 9223372036854775807 WHERE referral_id = 'bad'",
    "UPDATE booking_request SET document = '{' WHERE referral_id = 'bad'",
    "UPDATE booking_request SET document = '{\"language\":198003012385}' WHERE referral_id = 'bad'",
    "UPDATE booking_request SET document = '{\"cancel_reason\":77}' WHERE referral_id = 'bad'",
    "UPDATE booking_request SET document = '{\"constraints\":{\"duration_minutes\":4000000000}}' \
     WHERE referral_id = 'bad'",
    "UPDATE booking_request SET document = '{\"care_invitation\":{\"round\":1,\"invited_at\":0,\
     \"hold\":77}}' WHERE referral_id = 'bad'",
    "UPDATE notification SET state = 77 WHERE booking_request = \
     (SELECT id FROM booking_request WHERE referral_id = 'bad')",
    "UPDATE notification SET kind = 77 WHERE booking_request = \
     (SELECT id FROM booking_request WHERE referral_id = 'bad')",
    "UPDATE notification SET due_at = 9223372036854775807 WHERE booking_request = \
     (SELECT id FROM booking_request WHERE referral_id = 'bad')",
];

#[tokio::test]
async fn everything_goes_on_without_a_request_that_cannot_be_decoded() {
    for spoil in SPOILT {
        let harness = Harness::start(NOW).await;
        let all = invite_all(&harness, &["bad", "one", "two"]).await;
        alter(&harness, spoil).await;
        let harness = restarted(harness).await;
        let others = ["one", "two"];
        assert_eq!(listed(&harness, 50).await, others, "{spoil}");
        assert_eq!(watched(&harness).await, others, "{spoil}");
        assert_eq!(listed_messages(&harness, 50).await, 2, "{spoil}");
        let call = make::wire_count(vec![make::wire_unit()]);
        within(harness.worklists().count_worklists(call))
            .await
            .expect(spoil);

        // Calls about that very request, among others that arrive with them.
        let (bad, book) = (
            &all[0].name,
            make::wire_booking(&all[0].name, "2026-05-18T08:00:00Z"),
        );
        assert_internal(harness.get(bad).await, spoil);
        let (refused, changed) = tokio::join!(
            harness.book(book),
            worklist_user::change_purpose(&harness, &all[1].name, "Näsa"),
        );
        assert_internal(refused, spoil);
        assert_eq!(changed.purpose, "Näsa", "{spoil}");
        // The patient's other requests take what is learned; the call fails, since this one does not.
        let mut client = harness.requests();
        let updated = within(client.update_patient(finnish_from_now_on())).await;
        assert_internal(updated.map(tonic::Response::into_inner), spoil);
        let mut expected: Vec<_> = all[1..].iter().map(|it| it.name.clone()).collect();
        expected.sort();
        for name in &expected {
            let patient = harness.get(name).await.expect(spoil).patient;
            assert_eq!(patient.expect("a patient").preferred_language, "fi");
        }

        let due = harness.lease_due().await;
        let leased = due.iter().map(|it| it.booking_request.clone());
        let mut leased: Vec<_> = leased.collect();
        leased.sort();
        assert_eq!(leased, expected, "{spoil}");
        harness.acknowledge_sent(&due).await;
        assert_serving(&harness).await;
    }
}

/// The call by which the patient of [`make::wire_form`] is to be addressed in Finnish.
fn finnish_from_now_on() -> v1::UpdatePatientRequest {
    let form = make::wire_form("2026-01-01", "2026-01-01");
    v1::UpdatePatientRequest {
        parent: make::wire_unit(),
        patient: Some(v1::Patient {
            preferred_language: "fi".into(),
            ..form.patient.expect("a patient")
        }),
        update_mask: Some(FieldMask {
            paths: vec!["preferred_language".into()],
        }),
        deceased: false,
        request_id: make::request_id(),
    }
}

#[tokio::test]
async fn an_update_of_a_patient_that_met_a_bad_request_goes_on_when_it_is_repeated() {
    for names in [&["bad"][..], &["bad", "one", "two"]] {
        let harness = Harness::start(NOW).await;
        let mut all: Vec<String> = Vec::new();
        for request in invite_all(&harness, names).await {
            all.push(request.name);
        }
        alter(&harness, SPOILT[0]).await;
        let harness = restarted(harness).await;
        let update = finnish_from_now_on();
        let make = async || {
            let mut client = harness.requests();
            let answer = within(client.update_patient(update.clone())).await;
            answer.map(|it| it.into_inner().booking_requests)
        };
        for _ in 0..2 {
            assert_internal(make().await, "it is not complete");
        }
        let mend = "UPDATE booking_request SET priority = 1 WHERE referral_id = 'bad'";
        alter(&harness, mend).await;
        let harness = &restarted(harness).await;
        let mut client = harness.requests();
        let done = within(client.update_patient(update.clone())).await;
        let mut done = done.expect("complete").into_inner().booking_requests;
        done.sort();
        all.sort();
        assert_eq!(done, all);
        for name in &all {
            let read = harness.get(name).await.expect("read");
            assert_eq!(read.patient.expect("a patient").preferred_language, "fi");
            let etag = read.etag;
            let again = within(client.update_patient(update.clone())).await;
            let again = again.expect("a replay").into_inner().booking_requests;
            assert_eq!(again.len(), all.len());
            assert_eq!(harness.get(name).await.expect("read").etag, etag);
        }
    }
}

/// The call that gives the patient of every form another number.
fn to_another_number() -> v1::ReplacePersonalIdRequest {
    let identity = |number: &str| v1::PatientIdentity {
        personal_id: number.into(),
        personal_id_type: v1::PersonalIdType::Personnummer.into(),
        issuer: String::new(),
    };
    v1::ReplacePersonalIdRequest {
        old_identity: Some(identity("198003012385")),
        new_identity: Some(identity("191212121212")),
        request_id: make::request_id(),
    }
}

#[tokio::test]
async fn a_replacement_of_a_number_that_met_a_bad_request_goes_on_when_it_is_repeated() {
    let harness = Harness::start(NOW).await;
    let mut all: Vec<String> = Vec::new();
    for request in invite_all(&harness, &["bad", "one", "two"]).await {
        all.push(request.name);
    }
    all.sort();
    alter(&harness, SPOILT[0]).await;
    let harness = restarted(harness).await;
    let call = to_another_number();
    let make = async |harness: &Harness| {
        let mut client = harness.requests();
        let answer = within(client.replace_personal_id(call.clone())).await;
        answer.map(|it| it.into_inner().booking_requests)
    };
    for _ in 0..2 {
        assert_internal(make(&harness).await, "it is not complete");
    }
    let mend = "UPDATE booking_request SET priority = 1 WHERE referral_id = 'bad'";
    alter(&harness, mend).await;
    let harness = restarted(harness).await;
    for _ in 0..2 {
        assert_eq!(make(&harness).await.expect("complete"), all);
    }
    for name in &all {
        let read = harness.get(name).await.expect("read");
        assert_eq!(read.patient.expect("a patient").personal_id, "191212121212");
        let moves = harness.history(name).await.into_iter();
        let moves = moves.filter(|it| it.event() == v1::HistoryEvent::PersonalIdReplaced);
        assert_eq!(moves.count(), 1);
    }
}

#[tokio::test]
async fn a_request_moves_beside_a_duplicate_that_cannot_be_decoded() {
    let harness = Harness::start(NOW).await;
    let mut moves: Vec<String> = Vec::new();
    for request in invite_all(&harness, &["one", "same", "two"]).await {
        moves.push(request.name);
    }
    let same = moves[1].clone();
    moves.sort();
    let mut form = make::wire_form("2026-04-06", "2026-06-12");
    form.origin = Some(make::wire_referral("same"));
    let patient = form.patient.as_mut().expect("a patient");
    patient.personal_id = "191212121212".into();
    harness
        .create(make::wire_create(form))
        .await
        .expect("one there");
    let with_priority = |priority: i32| {
        format!(
            "UPDATE booking_request SET priority = {priority} WHERE personal_id = '191212121212' AND referral_id = 'same'"
        )
    };
    alter(&harness, &with_priority(99)).await;
    let harness = restarted(harness).await;
    let call = to_another_number();
    let make = async |harness: &Harness| {
        let mut client = harness.requests();
        let answer = within(client.replace_personal_id(call.clone())).await;
        answer.map(tonic::Response::into_inner)
    };
    for _ in 0..2 {
        assert_internal(make(&harness).await, "it is not complete");
        for name in &moves {
            let read = harness.get(name).await.expect("read");
            assert_eq!(read.patient.expect("a patient").personal_id, "191212121212");
        }
    }
    alter(
        &harness,
        &with_priority(1).replace("referral_id = 'same'", "priority = 99"),
    )
    .await;
    let harness = restarted(harness).await;
    let complete = make(&harness).await.expect("complete");
    assert_eq!(complete.booking_requests, moves);
    assert_eq!(complete.with_open_duplicate, [same]);
}

#[tokio::test]
async fn what_is_mended_is_taken_again_without_a_restart() {
    let harness = Harness::start(NOW).await;
    let name = invite(&harness, "bad").await.name;
    alter(&harness, SPOILT[0]).await;
    let harness = restarted(harness).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    // It has been met and passed over when one that is due later has come.
    invite(&harness, "one").await;
    consumer.due().await;
    assert_internal(harness.get(&name).await, "bad");

    let mend = "UPDATE booking_request SET priority = 1 WHERE referral_id = 'bad'";
    alter(&harness, mend).await;
    harness.get(&name).await.expect("it can be read");
    assert_eq!(listed(&harness, 50).await, ["bad", "one"]);
    tokio::time::pause();
    tokio::time::advance(PASSED_OVER).await;
    tokio::time::resume();
    let due = loop {
        match consumer.next().await {
            Ok(Some(DueEvent::Heartbeat(_))) => {}
            Ok(Some(DueEvent::Due(due))) => break due,
            other => panic!("it was to be due, not {other:?}"),
        }
    };
    assert_eq!(due.booking_request, name);
}

#[tokio::test]
async fn pages_go_on_beyond_requests_that_cannot_be_decoded() {
    let harness = Harness::start(NOW).await;
    let all = ["a", "b", "c", "d", "e", "f", "g"];
    invite_all(&harness, &all).await;
    let spoil = "UPDATE booking_request SET priority = 77 \
                 WHERE referral_id IN ('a', 'b', 'c', 'e', 'g')";
    alter(&harness, spoil).await;
    for page_size in [1, 2, 3, 50] {
        assert_eq!(listed(&harness, page_size).await, ["d", "f"], "{page_size}");
        assert_eq!(listed_messages(&harness, page_size).await, 2, "{page_size}");
    }
    assert_eq!(watched(&harness).await, ["d", "f"]);
}

#[tokio::test]
async fn messages_behind_many_that_cannot_be_decoded_are_due_all_the_same() {
    const BAD: usize = 300;
    let harness = Harness::start(NOW).await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..BAD {
        let mut client = harness.requests();
        calls.spawn(async move {
            let mut form = make::wire_form("2026-04-06", "2026-06-12");
            form.origin = Some(make::wire_referral(&format!("R-{number}")));
            let call = make::wire_create(form);
            within(client.create_booking_request(call))
                .await
                .expect("created");
        });
    }
    calls.join_all().await;
    alter(&harness, "UPDATE booking_request SET priority = 77").await;
    let harness = restarted(harness).await;
    harness
        .clock
        .advance(at("2026-03-02T10:00:00Z"))
        .expect("moved");
    for max_outstanding in [1, 1_000] {
        let good = invite(&harness, &format!("good for {max_outstanding}")).await;
        let mut consumer = Consumer::open(&harness, at_most(max_outstanding)).await;
        let due = consumer.due().await;
        assert_eq!(due.booking_request, good.name, "{max_outstanding}");
        harness.acknowledge_sent(&[due]).await;
    }
    invite(&harness, "good").await;
    // Nor does a stream that is to end then wait for them.
    assert_eq!(harness.lease_due().await.len(), 1);
}

#[tokio::test]
async fn an_answer_for_a_request_that_cannot_be_decoded_fails_alone() {
    let harness = Harness::start(NOW).await;
    let all = invite_all(&harness, &["bad", "one"]).await;
    let due = harness.lease_due().await;
    alter(&harness, SPOILT[0]).await;
    let harness = restarted(harness).await;
    let of_bad = due.iter().find(|it| it.booking_request == all[0].name);
    let answer = results(&harness, due.iter().map(sent).collect()).await;
    let results = answer.expect("recorded").results;
    let failed: Vec<_> = results.iter().filter(|it| !it.recorded).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].name, name(of_bad.expect("it was due")));
    let error = failed[0].error.as_ref().expect("an error of its own");
    assert_eq!(error.reason(), v1::ErrorReason::Internal);
    let one = harness.get(&all[1].name).await.expect("read");
    let messages = one.care_invitation.expect("an invitation").notifications;
    assert!(messages[0].send_time.is_some(), "the other is recorded");
}

#[tokio::test]
async fn the_history_goes_on_beyond_an_entry_that_cannot_be_decoded() {
    for spoil in [
        "UPDATE history SET event = 77 WHERE ordinal = 2",
        "UPDATE history SET document = '{\"state\":\"198003012385\"}' WHERE ordinal = 2",
    ] {
        let harness = Harness::start(NOW).await;
        let name = invite(&harness, "R-1").await.name;
        for purpose in ["a", "b", "c"] {
            worklist_user::change_purpose(&harness, &name, purpose).await;
        }
        let all = harness.history(&name).await;
        alter(&harness, spoil).await;
        for page_size in [1, 2, 500] {
            let mut entries = Vec::new();
            let mut call = v1::ListHistoryRequest {
                name: name.clone(),
                page_size,
                page_token: String::new(),
            };
            loop {
                let page = within(harness.requests().list_history(call.clone())).await;
                let page = page.expect("a page").into_inner();
                entries.extend(page.entries);
                if page.next_page_token.is_empty() {
                    break;
                }
                call.page_token = page.next_page_token;
            }
            let expected = [&all[..1], &all[2..]].concat();
            assert_eq!(entries, expected, "{spoil}, {page_size} a page");
        }
    }
}

#[tokio::test]
async fn a_list_that_means_nothing_is_not_counted_and_the_others_are() {
    let harness = Harness::start(NOW).await;
    invite_all(&harness, &["bad", "one"]).await;
    alter(
        &harness,
        "UPDATE booking_request SET worklist_group = 77 WHERE referral_id = 'bad'",
    )
    .await;
    let call = make::wire_count(vec![make::wire_unit()]);
    let counts = within(harness.worklists().count_worklists(call)).await;
    let counts = counts.expect("counts").into_inner().counts;
    let invitations = counts
        .iter()
        .find(|it| it.worklist() == Worklist::CareInvitations);
    assert_eq!(invitations.expect("a count").count, 1);
    assert_eq!(listed(&harness, 50).await, ["one"]);
}

#[tokio::test]
async fn an_announcement_that_cannot_be_decoded_makes_listeners_look_for_themselves() {
    if Kind::of_this_run() == Kind::Sqlite {
        return;
    }
    let harness = Harness::start(NOW).await;
    let name = invite(&harness, "R-1").await.name;
    let mut commits = harness.backend.store.commits();
    let spoilt = "INSERT INTO change_event (bucket, replica, number, content) \
                  VALUES (0, '00000000-0000-0000-0000-000000000001', 1, '{\"requests\":\"198003012385\"}')";
    alter(&harness, spoilt).await;
    let gap = async {
        loop {
            if commits.recv().await.expect("a commit").resync {
                return;
            }
        }
    };
    within(gap).await;
    harness.get(&name).await.expect("it goes on");
}
