//! Every operation of the store: what it keeps, what it refuses, and what races leave behind.

use std::collections::HashSet;

use care_invitation::clock::Clock;
use care_invitation::domain::booking_request;
use care_invitation::domain::booking_request::BookingRequest;
use care_invitation::domain::booking_request::create::{Create, create};
use care_invitation::domain::booking_request::form::Form;
use care_invitation::domain::booking_request::form::Origin;
use care_invitation::domain::booking_request::record_booking::record_booking;
use care_invitation::domain::booking_request::replace_personal_id::{
    ReplacePersonalId, replace_personal_id,
};
use care_invitation::domain::booking_request::update_patient::{UpdatePatient, update_patient};
use care_invitation::domain::calendar::Instant;
use care_invitation::domain::care_units::CareUnits;
use care_invitation::domain::history::Event;
use care_invitation::domain::hsa_id::HsaId;
use care_invitation::domain::notification::{DeliveryChannel, DispatchRefusal, LeaseRef, State};
use care_invitation::domain::patient::{InboxReach, PersonalId, PersonalIdType, Protection};
use care_invitation::domain::request_key::RequestKey;
use care_invitation::domain::worklist::Worklist;
use care_invitation::domain::worklist::query::Query;
use care_invitation::domain::{Change, Refusal};
use care_invitation::store::Store;
use care_invitation::store::change_event::LeaseChange;
use care_invitation::store::error::{Error, OpenError};
use care_invitation::store::idempotency::IdempotentCall;
use care_invitation::store::notification::{ClaimRequest, Claimed};
use care_invitation::store::schema::Schema;
use care_invitation::store::write::Write;
use futures_util::future::join_all;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::backend::Backend;
use crate::harness::within;
use crate::make;
use crate::make::at;
use crate::store_fixtures;
use crate::store_fixtures::{booking, call, creation, referral, refusals, sent};

const NOW: &str = "2026-03-02T09:00:00Z";

pub async fn insert(
    store: &Store,
    call: IdempotentCall,
    form: Form,
) -> Result<BookingRequest, Error> {
    store_fixtures::insert(store, call, creation(form), at(NOW)).await
}

/// A form for another patient's referral, so that it is no duplicate.
pub fn form(number: usize) -> Form {
    let mut form = make::form("2026-03-02", "2026-05-29");
    form.origin = referral(&format!("R-{number}"));
    form
}

async fn book(store: &Store, key: &RequestKey) -> Result<BookingRequest, Error> {
    book_by(store, call(), key).await
}

pub async fn book_by(
    store: &Store,
    call: IdempotentCall,
    key: &RequestKey,
) -> Result<BookingRequest, Error> {
    store_fixtures::book(store, call, key.clone(), at(NOW)).await
}

pub fn claim_request(count: usize) -> ClaimRequest {
    ClaimRequest {
        channels: DeliveryChannel::ALL.to_vec(),
        care_units: CareUnits::Every,
        tokens: (0..count).map(|_| Uuid::new_v4()).collect(),
        lease_duration: chrono::Duration::seconds(60),
        always_authorizes: false,
        hides_protected: false,
    }
}

pub async fn claim(store: &Store, count: usize, now: Instant) -> Claimed {
    let claimed = store
        .claim(claim_request(count), move || make::context(now))
        .await;
    claimed.expect("a claim")
}

#[tokio::test]
async fn what_is_stored_is_read_back_whole_by_another_process() {
    let backend = Backend::empty().await;
    let stored = insert(&backend.store, call(), form(1))
        .await
        .expect("stored");
    assert_eq!(backend.store.get(&stored.key).await.expect("read"), stored);
    // What a message has no value for when it is planned.
    let fill = |stored: Option<&BookingRequest>| {
        let mut record = stored.expect("stored").clone();
        record.revision += 1;
        let invitation = record.care_invitation.as_mut().expect("invited");
        let message = &mut invitation.notifications[0];
        message.read_at = Some(at("2026-03-02T09:00:01Z"));
        message.unread_at = Some(at("2026-03-02T09:00:02Z"));
        message.returned_at = Some(at("2026-03-02T09:00:03Z"));
        message.dispatched_at = Some(at("2026-03-02T09:00:05Z"));
        message.not_produced_at = Some(at("2026-03-02T09:00:06Z"));
        message.released_at = Some(at("2026-03-02T09:00:04Z"));
        let history = vec![];
        Ok(Change { record, history })
    };
    let stored = backend.store.update(call(), stored.key, fill).await;
    let stored = stored.expect("stored").record;
    assert_eq!(backend.store.get(&stored.key).await.expect("read"), stored);
    backend.store.close().await;
    // The lock of a file goes with the last handle.
    let reopened = within(backend.reopened()).await;
    assert_eq!(reopened.store.get(&stored.key).await.expect("read"), stored);
}

#[tokio::test]
async fn a_second_process_on_the_same_file_is_refused() {
    let backend = Backend::empty().await;
    let refused = Store::open(&backend.url(), Schema::Migrate).await;
    assert!(matches!(refused, Err(OpenError::Locked(_))));
}

#[tokio::test]
async fn a_repeat_answers_with_the_request_as_it_stands() {
    let backend = Backend::empty().await;
    let call = call();
    let created = insert(&backend.store, call.clone(), form(1))
        .await
        .expect("created");
    let booked = book(&backend.store, &created.key).await.expect("booked");
    let repeated = insert(&backend.store, call.clone(), form(1))
        .await
        .expect("repeated");
    assert_eq!(repeated, booked);

    let other = IdempotentCall {
        hash: [8; 32],
        ..call.clone()
    };
    let reused = insert(&backend.store, other, form(1)).await;
    assert!(matches!(reused, Err(Error::RequestIdReused)));

    let elsewhere = IdempotentCall {
        caller: "somebody else".into(),
        ..call
    };
    let created = insert(&backend.store, elsewhere, form(2))
        .await
        .expect("another scope");
    assert_ne!(created.key, booked.key);
}

#[tokio::test]
async fn a_hundred_repeats_at_once_make_one_request() {
    let backend = Backend::empty().await;
    let call = call();
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let (store, call) = (backend.store.clone(), call.clone());
        calls.spawn(async move { insert(&store, call, form(1)).await.expect("answered").key });
    }
    let keys: HashSet<RequestKey> = calls.join_all().await.into_iter().collect();
    assert_eq!(keys.len(), 1);
}

#[tokio::test]
async fn a_failed_call_is_not_remembered() {
    let backend = Backend::empty().await;
    let call = call();
    let command = Create {
        key: make::key(),
        form: form(1),
        allow_duplicate: false,
        series: None,
        prior_messages: Vec::new(),
    };
    let (key, form_of) = (command.key.clone(), command.form.clone());
    let refused = backend
        .store
        .create(call.clone(), key, &form_of, 1, || {
            Err(Refusal::ReferralRequired)
        })
        .await;
    assert!(matches!(
        refused,
        Err(Error::Refused(Refusal::ReferralRequired))
    ));
    let other = IdempotentCall {
        hash: [8; 32],
        ..call
    };
    assert!(insert(&backend.store, other, form(1)).await.is_ok());
}

#[tokio::test]
async fn a_decision_that_panics_fails_alone() {
    let backend = Backend::empty().await;
    let mut calls = JoinSet::new();
    for number in 0..20 {
        let store = backend.store.clone();
        calls.spawn(async move { insert(&store, call(), form(number)).await });
    }
    // More often than there are writers.
    for number in 100..105 {
        let store = backend.store.clone();
        let panics = || panic!("a decision with a fault");
        let failed = async move {
            let form = form(number);
            let created = store.create(call(), make::key(), &form, 1, panics);
            created.await.map(|written| written.record)
        };
        calls.spawn(failed);
    }
    let answers = calls.join_all().await;
    let (created, failed): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((created.len(), failed.len()), (20, 5));
    for answer in failed {
        assert!(matches!(answer, Err(Error::Internal(_))), "{answer:?}");
    }
    assert!(insert(&backend.store, call(), form(200)).await.is_ok());
}

#[tokio::test]
async fn a_write_of_a_batch_that_panics_fails_alone() {
    let backend = Backend::empty().await;
    let write = |number: usize| {
        let command = creation(form(number));
        let (key, of) = (command.key.clone(), command.form.clone());
        let context = make::context(at(NOW));
        let decide = move |_: Option<&BookingRequest>| match number {
            7 | 30 => panic!("a decision with a fault"),
            _ => create(&command, &context).map(|it| vec![it]),
        };
        Write::create(call(), key, &of, 1, decide)
    };
    let written = backend.store.write_all((0..50).map(write).collect()).await;
    for (number, written) in written.expect("carried out").into_iter().enumerate() {
        match number {
            7 | 30 => assert!(matches!(written, Err(Error::Internal(_))), "{written:?}"),
            _ => assert!(!written.expect("created").replayed),
        }
    }
}

#[tokio::test]
async fn a_replay_beside_a_decision_that_panics_is_answered_by_a_real_clock_too() {
    let backend = Backend::empty().await;
    let store = &backend.store;
    let known = call();
    let first = insert(store, known.clone(), form(1)).await;
    let first = first.expect("created");
    // What it shows is compared with the database's, where that has one.
    let clock = Clock::real();
    store.go_by(move || clock.reading());
    for number in 100..105 {
        let panics = || panic!("a decision with a fault");
        let (key, form_of) = (make::key(), form(number));
        let (failed, replayed) = tokio::join!(
            store.create(call(), key, &form_of, 1, panics),
            insert(store, known.clone(), form(1)),
        );
        assert!(matches!(failed, Err(Error::Internal(_))), "{failed:?}");
        assert_eq!(replayed.expect("a replay"), first);
    }
}

#[tokio::test]
async fn one_of_many_duplicates_at_once_is_created_and_the_others_name_it() {
    let backend = Backend::empty().await;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let store = backend.store.clone();
        calls.spawn(async move { insert(&store, call(), form(1)).await });
    }
    let answers = calls.join_all().await;
    let created: Vec<_> = answers.iter().filter_map(|it| it.as_ref().ok()).collect();
    assert_eq!(created.len(), 1);
    for answer in &answers {
        match answer {
            Ok(record) => assert_eq!(record, created[0]),
            Err(Error::Refused(Refusal::Duplicate(other))) => assert_eq!(*other, created[0].key),
            Err(other) => panic!("{other:?}"),
        }
    }
    // Once it is booked it is no longer open.
    book(&backend.store, &created[0].key).await.expect("booked");
    assert!(insert(&backend.store, call(), form(1)).await.is_ok());
}

#[tokio::test]
async fn a_duplicate_that_was_allowed_still_forbids_the_next() {
    let backend = Backend::empty().await;
    let store = &backend.store;
    let first = insert(store, call(), form(1)).await.expect("first");
    let creation = Create {
        allow_duplicate: true,
        ..creation(form(1))
    };
    let allowed = store_fixtures::insert(store, call(), creation, at(NOW))
        .await
        .expect("allowed");
    book(store, &first.key).await.expect("booked");
    let refused = insert(store, call(), form(1)).await;
    assert!(
        matches!(&refused, Err(Error::Refused(Refusal::Duplicate(other))) if *other == allowed.key)
    );
}

#[tokio::test]
async fn a_unit_that_fails_takes_none_of_its_batch_with_it() {
    let backend = Backend::empty().await;
    let mut calls = JoinSet::new();
    for number in 0..200 {
        let store = backend.store.clone();
        calls.spawn(async move {
            if number % 10 == 0 {
                let missing = book(&store, &make::key()).await;
                matches!(missing, Err(Error::Refused(Refusal::NotFound)))
            } else {
                insert(&store, call(), form(number)).await.is_ok()
            }
        });
    }
    assert!(
        calls
            .join_all()
            .await
            .into_iter()
            .all(|as_expected| as_expected)
    );
}

#[tokio::test]
async fn a_call_that_is_cut_off_is_carried_out_or_not_but_never_half() {
    let backend = Backend::empty().await;
    let call = call();
    let cut = insert(&backend.store, call.clone(), form(1));
    let cut = tokio::time::timeout(std::time::Duration::ZERO, cut).await;
    assert!(cut.is_err());
    let repeated = insert(&backend.store, call, form(1))
        .await
        .expect("repeated");
    let read = backend.store.get(&repeated.key).await.expect("read");
    assert_eq!(read, repeated);
    let history = backend
        .store
        .history(&repeated.key, 0, 500)
        .await
        .expect("history");
    assert_eq!(history.len(), 1);
}

#[tokio::test]
async fn each_due_message_is_leased_to_one_of_many_claimers() {
    let backend = Backend::empty().await;
    for number in 0..50 {
        insert(&backend.store, call(), form(number))
            .await
            .expect("created");
    }
    let mut claims = JoinSet::new();
    for _ in 0..10 {
        let store = backend.store.clone();
        claims.spawn(async move { claim(&store, 20, at(NOW)).await.leased });
    }
    let leased: Vec<LeaseRef> = claims
        .join_all()
        .await
        .into_iter()
        .flatten()
        .map(|(_, lease)| lease)
        .collect();
    let messages: HashSet<Uuid> = leased.iter().map(|lease| lease.notification).collect();
    assert_eq!((leased.len(), messages.len()), (50, 50));
}

#[tokio::test]
async fn the_earliest_due_is_leased_first_and_nothing_before_its_time() {
    let backend = Backend::empty().await;
    let mut starts = Vec::new();
    for (number, first) in ["2026-05-20", "2026-05-18", "2026-05-19"]
        .into_iter()
        .enumerate()
    {
        let mut form = form(number);
        form.constraints = Some(make::constraints(first, "2026-06-12"));
        starts.push(
            insert(&backend.store, call(), form)
                .await
                .expect("created")
                .key,
        );
    }
    let due = at("2026-04-06T07:00:00Z");
    let before = due - chrono::Duration::microseconds(1);
    assert!(claim(&backend.store, 10, before).await.leased.is_empty());
    let first = backend
        .store
        .first_claimable(CareUnits::Every, before)
        .await;
    let first: Vec<Instant> = first.expect("read").into_values().collect();
    assert_eq!(first, [due]);
    let later = at("2026-04-09T07:00:00Z");
    let order: Vec<RequestKey> = claim(&backend.store, 10, later)
        .await
        .leased
        .into_iter()
        .map(|(_, lease)| lease.request)
        .collect();
    assert_eq!(
        order,
        [starts[1].clone(), starts[2].clone(), starts[0].clone()]
    );
}

#[tokio::test]
async fn a_claim_takes_only_its_channels_and_care_units() {
    let backend = Backend::empty().await;
    let mut letter = form(1);
    letter.patient.inbox_reach = Some(InboxReach::None);
    let letter = insert(&backend.store, call(), letter)
        .await
        .expect("created");
    insert(&backend.store, call(), form(2))
        .await
        .expect("created");

    let elsewhere = ClaimRequest {
        care_units: CareUnits::These(HsaId::parse("SE2321000131-P2").into_iter().collect()),
        ..claim_request(10)
    };
    let claimed = backend
        .store
        .claim(elsewhere, move || make::context(at(NOW)))
        .await
        .expect("claimed");
    assert!(claimed.leased.is_empty());
    let letters = ClaimRequest {
        channels: vec![DeliveryChannel::Letter],
        care_units: CareUnits::These(HsaId::parse(make::CARE_UNIT).into_iter().collect()),
        ..claim_request(10)
    };
    let claimed = backend
        .store
        .claim(letters, move || make::context(at(NOW)))
        .await
        .expect("claimed");
    let requests: Vec<&RequestKey> = claimed.leased.iter().map(|(_, it)| &it.request).collect();
    assert_eq!(requests, [&letter.key]);
}

#[tokio::test]
async fn a_booking_takes_the_lease_back_and_sent_is_recorded_all_the_same() {
    let backend = Backend::empty().await;
    let created = insert(&backend.store, call(), form(1))
        .await
        .expect("created");
    let (_, lease) = claim(&backend.store, 1, at(NOW)).await.leased.remove(0);
    book(&backend.store, &created.key).await.expect("booked");
    assert!(
        claim(&backend.store, 1, at("2026-12-01T09:00:00Z"))
            .await
            .leased
            .is_empty()
    );

    let lost = backend
        .store
        .acknowledge(vec![sent(&lease)], move || make::context(at(NOW)))
        .await;
    assert_eq!(refusals(lost.expect("settled")), []);
    let record = backend.store.get(&created.key).await.expect("read");
    let message = record.notification(lease.notification).expect("kept");
    assert_eq!(
        (message.state, message.sent_after_change),
        (State::Sent, true)
    );
    assert_eq!(record.care_invitation.expect("kept").notifications.len(), 1);
}

#[tokio::test]
async fn an_old_token_is_lost_and_changes_nothing() {
    let backend = Backend::empty().await;
    let created = insert(&backend.store, call(), form(1))
        .await
        .expect("created");
    let (_, old) = claim(&backend.store, 1, at(NOW)).await.leased.remove(0);
    let later = at(NOW) + chrono::Duration::seconds(60);
    let (record, new) = claim(&backend.store, 1, later).await.leased.remove(0);
    assert_eq!(old.notification, new.notification);
    assert!(
        record
            .notification(new.notification)
            .expect("leased")
            .possible_repeat
    );

    let lost = backend
        .store
        .acknowledge(vec![sent(&old)], move || make::context(later))
        .await;
    assert_eq!(refusals(lost.expect("settled")), [DispatchRefusal::Lost]);
    assert_eq!(backend.store.get(&created.key).await.expect("read"), record);

    // The right token is recorded, and repeating it changes nothing.
    for _ in 0..2 {
        let lost = backend
            .store
            .acknowledge(vec![sent(&new)], move || make::context(later))
            .await;
        assert_eq!(refusals(lost.expect("settled")), []);
    }
    let record = backend.store.get(&created.key).await.expect("read");
    assert_eq!(
        record.care_invitation.expect("invited").notifications.len(),
        2
    );
}

#[tokio::test]
async fn a_lease_that_is_given_back_leaves_no_trace() {
    let backend = Backend::empty().await;
    let created = insert(&backend.store, call(), form(1))
        .await
        .expect("created");
    let (_, lease) = claim(&backend.store, 1, at(NOW)).await.leased.remove(0);
    backend
        .store
        .release_leases(vec![lease.clone()])
        .await
        .expect("given back");
    let record = backend.store.get(&created.key).await.expect("read");
    let message = record.notification(lease.notification).expect("planned");
    assert_eq!(
        (message.state, message.attempt_count),
        (State::Scheduled, 0)
    );
    let (record, again) = claim(&backend.store, 1, at(NOW)).await.leased.remove(0);
    assert!(
        !record
            .notification(again.notification)
            .expect("leased")
            .possible_repeat
    );
}

#[tokio::test]
async fn booking_is_open_from_the_first_lease_that_was_not_given_back() {
    let backend = Backend::empty().await;
    let created = insert(&backend.store, call(), form(1))
        .await
        .expect("created");
    let store = &backend.store;
    let seconds = |count| at(NOW) + chrono::Duration::seconds(count);
    let since = || async {
        store
            .get(&created.key)
            .await
            .expect("read")
            .bookable_since()
    };
    let give_back = |lease: LeaseRef| async {
        store.release_leases(vec![lease]).await.expect("given back");
    };

    // Given back, it is as if it had never been given; twice does no more.
    let (record, unseen) = claim(store, 1, seconds(0)).await.leased.remove(0);
    assert_eq!(record.bookable_since(), Some(seconds(0)));
    give_back(unseen.clone()).await;
    assert_eq!(since().await, None);
    give_back(unseen).await;
    assert_eq!(since().await, None);

    // The next one is the first, also when it expires; one that it did not depend on may go.
    let (record, _) = claim(store, 1, seconds(10)).await.leased.remove(0);
    assert_eq!(record.bookable_since(), Some(seconds(10)));
    let (record, unseen) = claim(store, 1, seconds(70)).await.leased.remove(0);
    assert_eq!(record.bookable_since(), Some(seconds(10)));
    give_back(unseen).await;
    assert_eq!(since().await, Some(seconds(10)));
    assert_eq!(
        store.get(&created.key).await.expect("read").revision,
        created.revision
    );
}

#[tokio::test]
async fn a_lease_that_was_given_back_and_handed_over_all_the_same_opens_booking() {
    let backend = Backend::empty().await;
    let created = insert(&backend.store, call(), form(1))
        .await
        .expect("created");
    let store = &backend.store;
    let (_, unseen) = claim(store, 1, at(NOW)).await.leased.remove(0);
    store
        .release_leases(vec![unseen.clone()])
        .await
        .expect("given back");
    let later = at(NOW) + chrono::Duration::seconds(10);
    let lost = store
        .acknowledge(vec![sent(&unseen)], move || make::context(later))
        .await;
    assert_eq!(refusals(lost.expect("settled")), []);
    let record = store.get(&created.key).await.expect("read");
    assert_eq!(record.bookable_since(), Some(later));
}

#[tokio::test]
async fn the_history_is_numbered_and_read_in_pages() {
    let backend = Backend::empty().await;
    let created = insert(&backend.store, call(), form(1))
        .await
        .expect("created");
    book(&backend.store, &created.key).await.expect("booked");
    let all = backend
        .store
        .history(&created.key, 0, 500)
        .await
        .expect("history");
    let numbers: Vec<i32> = all.iter().map(|(number, _)| *number).collect();
    let events: Vec<Event> = all
        .iter()
        .map(|(_, entry)| entry.as_ref().expect("decoded").event)
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(
        events,
        [
            Event::CreateBookingRequest,
            Event::RecordBooking,
            Event::NotificationCancelled
        ]
    );
    let rest = backend
        .store
        .history(&created.key, 1, 1)
        .await
        .expect("history");
    assert_eq!(rest, all[1..2]);
    let missing = backend.store.history(&make::key(), 0, 1).await;
    assert!(matches!(missing, Err(Error::Refused(Refusal::NotFound))));
}

/// The patient of every form here.
fn patient() -> PersonalId {
    make::form("2026-03-02", "2026-05-29").patient.personal_id
}

async fn update_language(store: &Store, call: IdempotentCall, language: &str) -> Vec<RequestKey> {
    let updated = try_update_language(store, call, None, language).await;
    updated.expect("updated")
}

async fn try_update_language(
    store: &Store,
    call: IdempotentCall,
    care_unit: Option<HsaId>,
    language: &str,
) -> Result<Vec<RequestKey>, Error> {
    let command = UpdatePatient {
        language: Some(language.to_owned()),
        ..UpdatePatient::default()
    };
    let context = make::context(at(NOW));
    let decide = move |record: &BookingRequest| update_patient(record, &command, &context);
    let updated = store.update_patient(call, care_unit, make::everything(), patient(), decide);
    Ok(updated.await?.changed)
}

#[tokio::test]
async fn the_same_update_of_a_patient_many_times_at_once_is_carried_out_once() {
    let backend = Backend::empty().await;
    let mut keys = Vec::new();
    for number in 0..5 {
        let created = insert(&backend.store, call(), form(number)).await;
        keys.push(created.expect("created").key);
    }
    let booked = insert(&backend.store, call(), form(5))
        .await
        .expect("created");
    book(&backend.store, &booked.key).await.expect("booked");
    keys.push(booked.key.clone());
    keys.sort();
    let call = call();
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let (store, call) = (backend.store.clone(), call.clone());
        calls.spawn(async move { update_language(&store, call, "fi").await });
    }
    for named in calls.join_all().await {
        assert_eq!(named, keys, "each names them all");
    }
    for key in &keys {
        let record = backend.store.get(key).await.expect("read");
        let revision = if *key == booked.key { 3 } else { 2 };
        let learned = (record.revision, &*record.form.patient.language);
        assert_eq!(learned, (revision, "fi"));
        let history = backend.store.history(key, 0, 500).await.expect("history");
        let updates = history
            .iter()
            .map(|(_, entry)| entry.as_ref().expect("it can be decoded").event);
        let updates = updates.filter(|it| *it == Event::UpdatePatient);
        assert_eq!(updates.count(), 1);
    }
    // It answers the same when a request that it changed is closed since, and when one is new.
    book(&backend.store, &keys[0]).await.expect("booked");
    insert(&backend.store, self::call(), form(6))
        .await
        .expect("created");
    assert_eq!(update_language(&backend.store, call, "fi").await, keys);
}

#[tokio::test]
async fn updates_of_a_patient_race_with_creation_and_booking_and_leave_nothing_half_done() {
    let backend = Backend::empty().await;
    let mut first = Vec::new();
    for number in 0..10 {
        let created = insert(&backend.store, call(), form(number)).await;
        first.push(created.expect("created").key);
    }
    let mut race: JoinSet<()> = JoinSet::new();
    for number in 0..30 {
        let (store, booked) = (backend.store.clone(), first[number % 10].clone());
        race.spawn(async move {
            match number % 3 {
                0 => drop(book(&store, &booked).await.expect("booked")),
                1 => drop(
                    insert(&store, call(), form(100 + number))
                        .await
                        .expect("created"),
                ),
                _ => {
                    let language = ["fi", "en", "de"][number / 3 % 3];
                    update_language(&store, call(), language).await;
                }
            }
        });
    }
    race.join_all().await;
    let named = update_language(&backend.store, call(), "ar").await;
    assert_eq!(named.len(), 20, "ten at first, and ten that came meanwhile");
    for key in &first {
        let record = backend.store.get(key).await.expect("read");
        assert_eq!(record.state, booking_request::state::State::Booked);
    }
    for key in &named {
        let record = backend.store.get(key).await.expect("read");
        assert_eq!(record.form.patient.language, "ar");
        let history = backend.store.history(key, 0, 500).await.expect("history");
        let numbers: Vec<i32> = history.iter().map(|(number, _)| *number).collect();
        let all: Vec<i32> = (1..=record.history_count).collect();
        assert_eq!(numbers, all, "no entry is lost or written twice");
    }
}

#[tokio::test]
async fn moves_to_another_number_race_with_creation_and_booking_and_keep_every_duplicate() {
    let backend = Backend::empty().await;
    let new = PersonalId::parse(PersonalIdType::Personnummer, "", "191212121212");
    let new = new.expect("a good number");
    let command = ReplacePersonalId {
        old: patient(),
        new: new.clone(),
    };
    let mut first = Vec::new();
    for number in 0..10 {
        let created = insert(&backend.store, call(), form(number)).await;
        first.push(created.expect("created").key);
    }
    first.sort();
    let mut race: JoinSet<()> = JoinSet::new();
    for number in 0..40 {
        let (store, key) = (backend.store.clone(), first[number % 10].clone());
        let (command, mut same) = (command.clone(), form(number % 10));
        same.patient.personal_id = new.clone();
        race.spawn(async move {
            match number % 4 {
                0 => drop(book(&store, &key).await.expect("booked")),
                // Refused when the other has come under the number first; kept beside it otherwise.
                1 | 2 => match insert(&store, call(), same).await {
                    Ok(_) | Err(Error::Refused(Refusal::Duplicate(_))) => {}
                    Err(error) => panic!("{error}"),
                },
                _ => {
                    let moved = replace(&store, call(), &command).await;
                    moved.expect("replaced");
                }
            }
        });
    }
    race.join_all().await;
    let left = replace(&backend.store, call(), &command).await;
    assert_eq!(left.expect("replaced"), []);
    for key in &first {
        let record = backend.store.get(key).await.expect("read");
        assert_eq!(record.form.patient.personal_id, new);
        let history = backend.store.history(key, 0, 500).await.expect("history");
        let moves = history.iter().filter(|(_, entry)| {
            let entry = entry.as_ref().expect("it can be decoded");
            entry.event == Event::PersonalIdReplaced
        });
        assert_eq!(moves.count(), 1);
    }
}

/// Protection that is recorded reaches what is moved to the number at the same time, whichever comes first.
#[tokio::test]
async fn an_update_of_a_patient_and_a_move_to_the_number_leave_no_request_without_protection() {
    let backend = Backend::empty().await;
    for round in 0..40 {
        let number = |suffix: usize| {
            let id = PersonalId::parse(
                PersonalIdType::LocalReserveNumber,
                "1.2.752.97.3.1.3",
                &format!("RES{round}X{suffix}"),
            );
            id.expect("a good number")
        };
        let (old, new) = (number(0), number(1));
        let command = ReplacePersonalId {
            old: old.clone(),
            new: new.clone(),
        };
        let mut keys = Vec::new();
        for (place, personal_id) in [old, new.clone()].into_iter().enumerate() {
            let mut theirs = form(round * 2 + place);
            theirs.patient.personal_id = personal_id;
            let created = insert(&backend.store, call(), theirs).await;
            keys.push(created.expect("created").key);
        }
        let (store, protected) = (&backend.store, new.clone());
        let protect = async {
            let command = UpdatePatient {
                protection: Some(Some(Protection::ConfidentialityMarked)),
                ..UpdatePatient::default()
            };
            let context = make::context(at(NOW));
            let decide = move |record: &BookingRequest| update_patient(record, &command, &context);
            let everything = make::everything();
            let updated = store.update_patient(call(), None, everything, protected, decide);
            updated.await.expect("updated");
        };
        // Those before keep the committer busy, so that the two are decided together.
        let before = (0..5).map(|extra| insert(store, call(), form(1_000 + round * 5 + extra)));
        let (created, moved, ()) =
            tokio::join!(join_all(before), replace(store, call(), &command), protect);
        assert!(created.iter().all(Result::is_ok));
        moved.expect("moved");
        for key in &keys {
            let record = store.get(key).await.expect("read");
            assert_eq!(record.form.patient.personal_id, new);
            let protection = record.form.patient.protection;
            assert_eq!(
                protection,
                Some(Protection::ConfidentialityMarked),
                "round {round}"
            );
        }
    }
}

async fn replace(
    store: &Store,
    call: IdempotentCall,
    command: &ReplacePersonalId,
) -> Result<Vec<RequestKey>, Error> {
    let (wanted, context) = (command.clone(), make::context(at(NOW)));
    let decide = move |records: &[&BookingRequest], moved_before: &[RequestKey]| {
        replace_personal_id(
            records,
            moved_before,
            &wanted,
            &make::everything(),
            &context,
        )
    };
    let replaced = store
        .replace_personal_id(call, command, make::everything(), decide)
        .await?;
    Ok(replaced.answer.changed)
}

#[tokio::test]
async fn an_update_stays_within_the_care_unit_that_it_names() {
    let backend = Backend::empty().await;
    let here = insert(&backend.store, call(), form(1))
        .await
        .expect("created");
    let elsewhere = HsaId::parse("SE2321000131-P2").expect("a unit");
    let there = try_update_language(&backend.store, call(), Some(elsewhere), "fi").await;
    assert_eq!(there.expect("updated"), []);
    let unit = Some(here.key.care_unit.clone());
    let named = try_update_language(&backend.store, call(), unit, "fi").await;
    assert_eq!(named.expect("updated"), [here.key]);
}

#[tokio::test]
async fn a_call_that_changed_nothing_is_remembered_too() {
    let backend = Backend::empty().await;
    let store = &backend.store;
    // No request of the patient: nothing is changed, and nothing is when one has come since.
    let quiet = call();
    assert_eq!(update_language(store, quiet.clone(), "fi").await, []);
    let created = insert(store, call(), form(1)).await.expect("created");
    assert_eq!(update_language(store, quiet.clone(), "fi").await, []);
    assert_eq!(store.get(&created.key).await.expect("read"), created);
    let other = IdempotentCall {
        hash: [8; 32],
        ..quiet.clone()
    };
    let reused = try_update_language(store, other, None, "fi").await;
    assert!(matches!(reused, Err(Error::RequestIdReused)));

    // A booking that is recorded already, many times at once and again after it has moved.
    book(store, &created.key).await.expect("booked");
    let again = call();
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let (store, key, again) = (store.clone(), created.key.clone(), again.clone());
        calls.spawn(async move { book_by(&store, again, &key).await.expect("answered") });
    }
    for answer in calls.join_all().await {
        assert_eq!(answer.revision, 2);
    }
    let history = store.history(&created.key, 0, 500).await.expect("history");
    assert_eq!(history.len(), 3, "created, booked, its message cancelled");
    let other = IdempotentCall {
        hash: [8; 32],
        ..again
    };
    let reused = book_by(store, other, &created.key).await;
    assert!(matches!(reused, Err(Error::RequestIdReused)));
}

#[tokio::test]
async fn the_fates_of_leases_say_what_has_become_of_them() {
    let backend = Backend::empty().await;
    let store = &backend.store;
    for number in 0..6 {
        insert(store, call(), form(number)).await.expect("created");
    }
    let leased = claim(store, 6, at(NOW)).await.leased;
    let mut leases: Vec<LeaseRef> = leased.into_iter().map(|(_, lease)| lease).collect();
    let expires_at = at(NOW) + chrono::Duration::seconds(60);
    let known = |leases: &[LeaseRef]| -> Vec<(LeaseRef, Instant)> {
        leases.iter().map(|it| (it.clone(), expires_at)).collect()
    };
    assert_eq!(
        store.lease_changes(&known(&leases)).await.expect("read"),
        []
    );
    assert_eq!(store.lease_changes(&[]).await.expect("read"), []);

    book(store, &leases[0].request).await.expect("booked");
    let settled = store.acknowledge(vec![sent(&leases[1])], move || make::context(at(NOW)));
    assert_eq!(refusals(settled.await.expect("settled")), []);
    let later = at(NOW) + chrono::Duration::seconds(30);
    let given = store.authorize(vec![leases[2].clone()], false, move || make::context(later));
    let given = given.await.expect("given").results;
    assert!(matches!(given[..], [Ok(None)]));
    store
        .release_leases(vec![leases[3].clone()])
        .await
        .expect("back");
    let unknown = LeaseRef {
        request: make::key(),
        ..leases[4].clone()
    };
    leases.push(unknown);
    let renewed = later + chrono::Duration::seconds(60);
    let expected = [
        (leases[0].clone(), LeaseChange::Revoked),
        (leases[1].clone(), LeaseChange::Ended),
        (leases[2].clone(), LeaseChange::Renewed(renewed)),
        (leases[3].clone(), LeaseChange::Revoked),
    ];
    assert_eq!(
        store.lease_changes(&known(&leases)).await.expect("read"),
        expected
    );

    // What was leased anew is somebody else's.
    let again = claim(store, 10, expires_at).await.leased;
    assert_eq!(again.len(), 3);
    let lease_changes = store
        .lease_changes(&known(&leases[3..]))
        .await
        .expect("read");
    let ended = leases[3..6]
        .iter()
        .cloned()
        .map(|it| (it, LeaseChange::Ended));
    assert_eq!(lease_changes, ended.collect::<Vec<_>>());
}

#[tokio::test]
async fn what_time_moves_is_found_between_two_instants_and_the_next_is_foreseen() {
    let backend = Backend::empty().await;
    let store = &backend.store;
    let of_unit = |unit| Query::of(vec![Worklist::FollowUp], CareUnits::These(vec![unit]));
    let unit = of_unit(make::key().care_unit);
    assert_eq!(
        store
            .next_transition_at(&unit, at(NOW))
            .await
            .expect("read"),
        None
    );
    let mut keys = Vec::new();
    for (number, last) in ["2026-03-13", "2026-03-29"].into_iter().enumerate() {
        let mut form = form(number);
        form.constraints = Some(make::constraints("2026-03-09", last));
        keys.push(insert(store, call(), form).await.expect("created").key);
    }
    // 90 days after 17 December is 17 March, which is at risk from the 3rd.
    let mut decided = form(2);
    decided.origin = Origin::Referral {
        referral_id: "R-2".into(),
        decision_date: Some(make::date("2025-12-17")),
    };
    keys.push(insert(store, call(), decided).await.expect("created").key);
    let booked = insert(store, call(), form(3)).await.expect("created").key;
    book(store, &booked).await.expect("booked");

    let (winter, summer) = ("2026-03-13T23:00:00Z", "2026-03-29T22:00:00Z");
    for (since, now, moved) in [
        (NOW, NOW, &keys[..0]),
        (NOW, "2026-03-02T22:59:59Z", &[]),
        (NOW, "2026-03-02T23:00:00Z", &keys[2..]),
        ("2026-03-02T23:00:00Z", "2026-03-13T22:59:59Z", &[]),
        ("2026-03-02T23:00:00Z", winter, &keys[..1]),
        (winter, "2026-03-29T21:59:59Z", &[]),
        (winter, summer, &keys[1..2]),
        (NOW, summer, &keys[..]),
        (summer, "2026-05-29T21:59:59Z", &[]),
        (summer, "2026-05-29T22:00:00Z", &keys[2..]),
    ] {
        let found = store.timed_transitions(&unit, at(since), at(now)).await;
        let mut found = found.expect("read");
        found.sort();
        let mut moved = moved.to_vec();
        moved.sort();
        assert_eq!(found, moved, "{since} to {now}");
    }
    for (now, next) in [
        (NOW, Some(winter)),
        ("2026-03-13T22:59:59Z", Some(winter)),
        (winter, Some(summer)),
        (summer, Some("2026-05-29T22:00:00Z")),
        ("2026-05-29T22:00:00Z", None),
    ] {
        let foreseen = store
            .next_transition_at(&unit, at(now))
            .await
            .expect("read");
        assert_eq!(foreseen, next.map(at), "{now}");
    }
    let elsewhere = of_unit(HsaId::parse("SE2321000131-P2").expect("a unit"));
    let far = at("2027-01-01T00:00:00Z");
    let found = store.timed_transitions(&elsewhere, at(NOW), far).await;
    assert_eq!(found.expect("read"), []);
    let next = store.next_transition_at(&elsewhere, at(NOW)).await;
    assert_eq!(next.expect("read"), None);
}

#[tokio::test]
async fn what_has_waited_for_its_turn_is_dated_when_it_is_carried_out() {
    let backend = Backend::empty().await;
    let store = &backend.store;
    let created = insert(store, call(), form(1)).await.expect("created");
    let (_, lease) = claim(store, 1, at(NOW)).await.leased.remove(0);
    let clock = Clock::sandbox(at(NOW));
    let context = |clock: &Clock| make::context(clock.now());

    let (begun, begins) = tokio::sync::oneshot::channel();
    let (proceed, proceeds) = std::sync::mpsc::channel::<()>();
    let (mut begun, booked_at) = (Some(begun), clock.clone());
    let booking = booking();
    let decide = move |stored: Option<&BookingRequest>| {
        if let Some(begun) = begun.take() {
            begun.send(()).expect("it is waited for");
            proceeds.recv().expect("told to proceed");
        }
        record_booking(stored, &booking, &context(&booked_at))
    };
    let book = tokio::spawn({
        let (store, key) = (store.clone(), created.key.clone());
        async move { store.update(call(), key, decide).await }
    });
    within(begins).await.expect("it is being decided");
    let settled_at = clock.clone();
    let settle = tokio::spawn({
        let store = store.clone();
        let context = move || context(&settled_at);
        async move { store.acknowledge(vec![sent(&lease)], context).await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let later = at(NOW) + chrono::Duration::minutes(1);
    clock.advance(later).expect("moved");
    proceed.send(()).expect("it waits");

    within(book).await.expect("run").expect("booked");
    let settled = within(settle).await.expect("run");
    assert_eq!(refusals(settled.expect("settled")), []);
    let history = store.history(&created.key, 0, 500).await.expect("history");
    let (_, sent) = history.last().expect("entries");
    let sent = sent.as_ref().expect("decoded");
    assert_eq!((sent.event, sent.at), (Event::NotificationSent, later));
}
