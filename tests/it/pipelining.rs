//! Pipelining: operations that are decided while the batch before them is being written.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use care_invitation::domain::booking_request::BookingRequest;
use care_invitation::domain::booking_request::create::Create;
use care_invitation::domain::{Change, Refusal};
use care_invitation::store::Store;
use care_invitation::store::error::Error;
use sea_orm::{ConnectionTrait, Database};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::backend::Backend;
use crate::consumer::{lost, name, results, sent};
use crate::harness::Harness;
use crate::make::{self, at};
use crate::store::{book_by, claim, form, insert};
use crate::store_fixtures::{self, call, creation};

const NOW: &str = "2026-03-02T09:00:00Z";
/// How many times something overlaps, each time a little later: a batch takes some milliseconds.
const ROUNDS: usize = 12;
/// How much later each time.
const STEP: Duration = Duration::from_micros(250);

/// Waits for so many steps: a sleep is not as short.
async fn later(steps: usize) {
    let began = Instant::now();
    while began.elapsed() < STEP * u32::try_from(steps).expect("few") {
        tokio::task::yield_now().await;
    }
}

/// Creates requests, each with a message that is due.
async fn fill(store: &Store, count: usize) {
    let mut inserts = JoinSet::new();
    for number in 0..count {
        let store = store.clone();
        inserts.spawn(async move { insert(&store, call(), form(number)).await });
    }
    for created in inserts.join_all().await {
        created.expect("created");
    }
}

#[tokio::test]
async fn a_claim_beside_another_gets_what_comes_after() {
    const EACH: usize = 40;
    let backend = Backend::empty().await;
    fill(&backend.store, 2 * ROUNDS * EACH).await;
    let mut leased = HashSet::new();
    for round in 0..ROUNDS {
        let another = async {
            later(round).await;
            claim(&backend.store, EACH, at(NOW)).await
        };
        let (one, other) = tokio::join!(claim(&backend.store, EACH, at(NOW)), another);
        for claimed in [one, other] {
            assert_eq!(claimed.leased.len(), EACH, "in round {round}");
            let messages = claimed.leased.iter().map(|(_, it)| it.notification);
            leased.extend(messages);
        }
    }
    assert_eq!(leased.len(), 2 * ROUNDS * EACH);
    let after = claim(&backend.store, EACH, at(NOW)).await;
    assert!(after.leased.is_empty() && after.open.is_empty());
}

#[tokio::test]
async fn a_repeat_beside_the_call_itself_is_answered_as_a_repeat() {
    let backend = Backend::empty().await;
    for round in 0..ROUNDS {
        let created = insert(&backend.store, call(), form(round)).await;
        let key = created.expect("created").key;
        let the_call = call();
        let call_it = async || {
            let comment = "once".to_owned();
            let once = move |stored: Option<&BookingRequest>| once(stored, &comment);
            backend
                .store
                .update(the_call.clone(), key.clone(), once)
                .await
        };
        let repeat = async {
            later(round).await;
            call_it().await
        };
        let (first, repeat) = tokio::join!(call_it(), repeat);
        let (first, repeat) = (first.expect("carried out"), repeat.expect("answered"));
        assert_eq!(repeat.record, first.record, "in round {round}");
        // Under load either may come first.
        assert_ne!(repeat.replayed, first.replayed, "in round {round}");
    }
}

/// A change that is refused when it has been made.
fn once(stored: Option<&BookingRequest>, comment: &str) -> Result<Change, Refusal> {
    let mut record = stored.cloned().ok_or(Refusal::NotFound)?;
    if record.form.internal_comment == comment {
        return Err(Refusal::EtagMismatch);
    }
    comment.clone_into(&mut record.form.internal_comment);
    record.revision += 1;
    Ok(Change {
        record,
        history: Vec::new(),
    })
}

/// On PostgreSQL two transactions may both create one, as the second is allowed to.
#[tokio::test]
async fn a_duplicate_of_what_is_being_written_is_refused_though_that_was_allowed_to_be_one() {
    let backend = Backend::sqlite().await;
    for round in 0..ROUNDS {
        let allowed = Create {
            allow_duplicate: true,
            ..creation(form(round))
        };
        let first = store_fixtures::insert(&backend.store, call(), allowed, at(NOW));
        let second = async {
            later(round).await;
            insert(&backend.store, call(), form(round)).await
        };
        let (first, second) = tokio::join!(first, second);
        let key = first.expect("created").key;
        let refused = second.expect_err("a duplicate");
        assert!(
            matches!(&refused, Error::Refused(Refusal::Duplicate(other)) if *other == key),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn what_is_booked_beside_a_claim_is_leased_before_or_never() {
    let backend = Backend::empty().await;
    fill(&backend.store, 1).await;
    for round in 0..ROUNDS {
        let created = insert(&backend.store, call(), form(100 + round)).await;
        let key = created.expect("created").key;
        let claim = async {
            later(round).await;
            claim(&backend.store, 100, at(NOW)).await
        };
        let (booked, claimed) = tokio::join!(book_by(&backend.store, call(), &key), claim);
        let booked = booked.expect("booked");
        let stored = backend.store.get(&key).await.expect("read");
        assert_eq!(
            stored, booked,
            "nothing has changed it since, in round {round}"
        );
        let handed_out: Vec<Uuid> = claimed
            .leased
            .iter()
            .filter(|(_, lease)| lease.request == key)
            .map(|(_, lease)| lease.notification)
            .collect();
        for message in handed_out {
            let message = booked.notification(message).expect("its message");
            assert!(
                message.lease.is_some() && !message.is_leased(),
                "{message:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_answer_is_decided_on_what_is_stored_though_its_lease_is_still_known() {
    let harness = Harness::start(NOW).await;
    let form = make::wire_form("2026-04-06", "2026-06-12");
    let created = harness.create(make::wire_create(form)).await;
    let created = created.expect("created");
    let due = harness.lease_due().await;
    let database = Database::connect(harness.backend.url()).await;
    let database = database.expect("a connection");
    let beside = async |sql: &str| {
        let done = database.execute_unprepared(sql).await.expect(sql);
        assert!(done.rows_affected() > 0, "{sql}");
    };

    beside("UPDATE notification SET version = version + 1, attempt_count = 7").await;
    let answered = results(&harness, vec![sent(&due[0])]).await;
    assert!(answered.expect("answered").results[0].recorded);
    let stored = harness.get(&created.name).await.expect("read");
    let first = &stored.care_invitation.expect("invited").notifications[0];
    assert_eq!(first.name, name(&due[0]));
    assert!(first.send_time.is_some(), "it is stored: {first:?}");
    assert_eq!(first.delivery_attempt, 7, "as it was beside the service");

    harness.advance("2026-04-20T07:00:00Z");
    let due = harness.lease_due().await;
    beside("DELETE FROM notification").await;
    beside("DELETE FROM booking_request").await;
    let answered = results(&harness, vec![sent(&due[0])]).await;
    assert_eq!(lost(&answered.expect("answered")), [name(&due[0])]);
    database.close().await.expect("closed");
}
