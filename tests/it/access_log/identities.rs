//! What the access log keeps of identity numbers, when no request says it any more.

use std::collections::BTreeSet;

use care_invitation::domain::booking_request::BookingRequest;
use care_invitation::domain::booking_request::replace_personal_id::{
    ReplacePersonalId, replace_personal_id,
};
use care_invitation::domain::booking_request::update_patient::{UpdatePatient, update_patient};
use care_invitation::domain::calendar::ClockReading;
use care_invitation::domain::patient::{PersonalId, PersonalIdType, Protection};
use care_invitation::store::Store;
use care_invitation::store::purge::{Cutoffs, Purged, purge};
use care_invitation::store::schema::Schema;
use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::chain::{NOW, access, verified};
use crate::backend::Backend;
use crate::make::{self, at};
use crate::migration::{Empty, texts};
use crate::store_fixtures::{self, call, creation, referral};

const FIRST: &str = "198003012385";
const SECOND: &str = "191212121212";
const THIRD: &str = "191500882390";
const NOBODY: &str = "191500722390";

fn number(number: &str) -> PersonalId {
    let kind = PersonalIdType::NationalReserveNumber;
    PersonalId::from_stored(kind, None, number.to_owned())
}

/// Creates a request of a patient.
async fn created(store: &Store, of: &str, protection: Option<Protection>) -> BookingRequest {
    let mut form = make::form("2026-05-18", "2026-06-12");
    form.origin = referral(&make::request_id());
    form.patient.personal_id = number(of);
    form.patient.protection = protection;
    let inserted = store_fixtures::insert(store, call(), creation(form), at(NOW)).await;
    inserted.expect("created")
}

/// Creates a request of a patient, and books it: a purge may take it.
async fn booked(store: &Store, of: &str, protection: Option<Protection>) {
    let key = created(store, of, protection).await.key;
    let booked = store_fixtures::book(store, call(), key, at(NOW)).await;
    booked.expect("booked");
}

async fn protect(store: &Store, of: &str, protection: Option<Protection>) {
    let command = UpdatePatient {
        protection: Some(protection),
        ..UpdatePatient::default()
    };
    let context = make::context(at(NOW));
    let decide = move |record: &BookingRequest| update_patient(record, &command, &context);
    let updated = store.update_patient(call(), None, make::everything(), number(of), decide);
    assert!(!updated.await.expect("updated").changed.is_empty());
}

async fn replace(store: &Store, old: &str, new: &str) {
    let command = ReplacePersonalId {
        old: number(old),
        new: number(new),
    };
    let (wanted, context) = (command.clone(), make::context(at(NOW)));
    let decide = move |records: &[&BookingRequest], before: &[_]| {
        replace_personal_id(records, before, &wanted, &make::everything(), &context)
    };
    let replaced = store.replace_personal_id(call(), &command, make::everything(), decide);
    assert!(!replaced.await.expect("replaced").answer.changed.is_empty());
}

/// Which of the numbers are masked, each asked for by itself.
async fn masked(store: &Store) -> BTreeSet<&'static str> {
    let mut masked = BTreeSet::new();
    for it in [FIRST, SECOND, THIRD, NOBODY] {
        let found = store.protected_among([number(it)].into()).await;
        masked.extend(found.expect("read").contains(&number(it)).then_some(it));
    }
    masked
}

/// Purges the requests, and the access log with `access`.
async fn purged(database: &Empty, access: bool) -> Purged {
    let later = at(NOW) + TimeDelta::days(20_000);
    let before = later - TimeDelta::days(10_000);
    let mut cutoffs = Cutoffs::new(later, before, None).expect("long ago");
    if access {
        cutoffs = cutoffs.with_access_log(later, before).expect("long ago");
    }
    let clock = move || ClockReading::Sandbox(later);
    let stop = CancellationToken::new();
    let purged = purge(&database.url, cutoffs, clock, &stop, &mut |_, _, _| ()).await;
    purged.expect("purged")
}

async fn opened(database: &Empty) -> Store {
    let store = Store::open(&database.url, Schema::Migrate).await;
    store.expect("a database")
}

#[tokio::test]
async fn who_had_protected_identity_is_known_after_the_requests_are_purged() {
    for database in Empty::each().await {
        let store = opened(&database).await;
        // More than one batch of a purge deletes, of the same patient.
        for protection in [None, Some(Protection::ConfidentialityMarked)] {
            booked(&store, FIRST, protection).await;
            booked(&store, FIRST, protection).await;
        }
        booked(&store, SECOND, None).await;
        assert_eq!(masked(&store).await, BTreeSet::from([FIRST]));
        store.close().await;
        drop(store);
        for requests in [5, 0] {
            assert_eq!(purged(&database, false).await.requests, requests);
            let store = opened(&database).await;
            assert_eq!(masked(&store).await, BTreeSet::from([FIRST]));
            store.close().await;
        }
    }
}

#[tokio::test]
async fn a_number_is_masked_for_what_is_learned_after_another_has_taken_its_place() {
    let backend = Backend::empty().await;
    let store = &backend.store;
    created(store, FIRST, None).await;
    created(store, FIRST, None).await;
    replace(store, FIRST, SECOND).await;
    replace(store, SECOND, THIRD).await;
    assert_eq!(masked(store).await, BTreeSet::new());
    protect(store, THIRD, Some(Protection::ConfidentialityMarked)).await;
    let all = BTreeSet::from([FIRST, SECOND, THIRD]);
    assert_eq!(masked(store).await, all);
    // Back where it was, and without protection.
    replace(store, THIRD, FIRST).await;
    protect(store, FIRST, None).await;
    assert_eq!(masked(store).await, all);
    created(store, FIRST, Some(Protection::ConfidentialityMarked)).await;
    replace(store, FIRST, THIRD).await;
    assert_eq!(masked(store).await, all);
}

#[tokio::test]
async fn a_number_stays_masked_when_its_requests_move_to_another() {
    let backend = Backend::empty().await;
    let store = &backend.store;
    created(store, FIRST, Some(Protection::ProtectedRegistration)).await;
    replace(store, FIRST, SECOND).await;
    assert_eq!(masked(store).await, BTreeSet::from([FIRST, SECOND]));
    protect(store, SECOND, None).await;
    assert_eq!(masked(store).await, BTreeSet::from([FIRST, SECOND]));
    // A number that is the same in another series is another's.
    let kind = PersonalIdType::LocalReserveNumber;
    let other = PersonalId::from_stored(kind, Some("1.2.3".into()), FIRST.to_owned());
    let found = store.protected_among([other.clone()].into()).await;
    assert!(!found.expect("read").contains(&other));
}

#[tokio::test]
async fn what_is_kept_of_a_number_goes_with_its_last_entry() {
    for database in Empty::each().await {
        let store = opened(&database).await;
        booked(&store, FIRST, None).await;
        replace(&store, FIRST, SECOND).await;
        replace(&store, SECOND, THIRD).await;
        protect(&store, THIRD, Some(Protection::ConfidentialityMarked)).await;
        let far = at(NOW) + TimeDelta::days(15_000);
        for time in [at(NOW), far] {
            let mut access = access(time, FIRST);
            access.concerns.concerned[0].patient = Some(number(FIRST));
            store.log_access(vec![access]).await.expect("stored");
        }
        store.close().await;
        drop(store);
        let kept = async || {
            let connection = database.connect().await;
            let rows = "SELECT personal_id FROM access_log_identity ORDER BY 1";
            texts(&connection, rows).await
        };
        let purged_first = purged(&database, true).await;
        assert_eq!((purged_first.access_log, purged_first.identities), (1, 0));
        assert_eq!(
            kept().await,
            [SECOND, THIRD, FIRST],
            "the later entry leads to them all"
        );
        let connection = database.connect().await;
        for table in ["access_log", "access_log_patient"] {
            texts(&connection, &format!("DELETE FROM {table} RETURNING 'x'")).await;
        }
        // From the oldest number to the newest, run by run.
        for left in [vec![SECOND, THIRD], vec![THIRD], vec![]] {
            assert_eq!(purged(&database, true).await.identities, 1);
            assert_eq!(kept().await, left);
        }
        assert!(verified(&database).await.findings.is_empty());
    }
}
