//! Where tables are spread over shards, a statement about one of them goes to that one alone: the plans of the service's own
//! statements over partitioned tables look into one partition.

use std::collections::BTreeSet;
use std::sync::Mutex;

use care_invitation::domain::booking_request::BookingRequest;
use care_invitation::domain::booking_request::form::Form;
use care_invitation::domain::calendar::Instant;
use care_invitation::domain::care_unit_settings::CareUnitSettings;
use care_invitation::domain::care_units::CareUnits;
use care_invitation::domain::notification::list::NotificationFilter;
use care_invitation::domain::notification::{DeliveryChannel, DisplayState, LeaseRef, State};
use care_invitation::domain::worklist::Worklist;
use care_invitation::domain::worklist::query::{OrderBy, Query};
use care_invitation::store::Store;
use care_invitation::store::notification::ClaimRequest;
use serde_json::Value;
use uuid::Uuid;

use crate::backend::{Backend, connect};
use crate::make::{self, at};
use crate::plan::{Plans, nodes, observe};
use crate::store_fixtures::{self, call, creation, referral, sent};

const NOW: &str = "2026-03-02T09:00:00Z";
/// Tables that a statement reads beside those that are spread.
const WHOLE: [&str; 1] = ["lost_interval"];

/// Partitions that a plan has, whether or not it has looked into them: PostgreSQL passes over some as it goes, and a router does
/// not.
fn partitions(plan: &Value) -> BTreeSet<String> {
    let nodes = nodes(plan).into_iter();
    let tables = nodes.filter_map(|it| it["Relation Name"].as_str());
    let tables = tables.filter(|it| !WHOLE.contains(it));
    let part = |table: &str| Some(table.rsplit_once('_')?.1.parse::<u8>().ok()?.to_string());
    tables.filter_map(part).collect()
}

/// Notes a call of which a statement did not go to one partition, all to the same.
fn check(plans: &Plans, call: &str) {
    let plans = plans.take();
    let mut seen = BTreeSet::new();
    for plan in &plans {
        let of_plan = partitions(plan);
        if of_plan.len() > 1 {
            note(format!(
                "{call} goes to {of_plan:?}: {}",
                plan["Query Text"]
            ));
        }
        seen.extend(of_plan);
    }
    if seen.len() != 1 {
        note(format!("{call} goes to {seen:?} by {} plans", plans.len()));
    }
}

/// What is wrong.
static WRONG: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note(wrong: String) {
    WRONG.lock().expect("no thread has panicked").push(wrong);
}

#[tokio::test]
async fn each_statement_of_a_call_about_one_care_unit_looks_into_one_partition() {
    let Some(backend) = Backend::partitioned().await else {
        return;
    };
    let database = connect(&backend.url()).await;
    let (replica, plans, _guard) = observe(&backend, &database, "force_custom_plan").await;
    drive(&replica.store, &plans).await;
    read(&replica.store, &plans).await;
    replica.store.close().await;
    let wrong = WRONG.lock().expect("no thread has panicked");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Makes the calls that write.
async fn drive(store: &Store, plans: &Plans) {
    let mut forms = (0..4).map(|_| form());
    let mut created = Vec::new();
    for form in forms.by_ref() {
        created.push(insert(store, form).await);
        check(plans, "create");
    }
    let claimed = claim(store).await;
    assert_eq!(claimed.len(), 4);
    check(plans, "claim");
    let context = || make::context(at(NOW));
    let authorized = store.authorize(claimed.clone(), false, context).await;
    assert_eq!(authorized.expect("answered").results.len(), 4);
    check(plans, "authorize");
    let known: Vec<(LeaseRef, Instant)> = claimed.iter().map(|it| (it.clone(), at(NOW))).collect();
    store.lease_changes(&known).await.expect("read");
    check(plans, "lease changes");
    let unseen = claimed[..1].to_vec();
    store.release_leases(unseen).await.expect("released");
    check(plans, "release");
    let answers = claimed[1..].iter().map(sent).collect();
    store.acknowledge(answers, context).await.expect("recorded");
    check(plans, "acknowledge");
    let booked = store_fixtures::book(store, call(), created[0].key.clone(), at(NOW)).await;
    booked.expect("booked");
    check(plans, "book");
    let unit = make::key().care_unit;
    let patient = created[0].form.patient.personal_id.clone();
    let seen = make::everything();
    let updated = store.update_patient(call(), Some(unit.clone()), seen, patient, |_| None);
    updated.await.expect("nothing to change");
    check(plans, "update patient");
    let decide = |before: &CareUnitSettings| {
        Ok(CareUnitSettings {
            revision: before.revision + 1,
            updated_at: Some(at(NOW)),
            ..before.clone()
        })
    };
    let changed = store.update_settings(call(), unit, decide, context).await;
    changed.expect("changed");
    check(plans, "update settings");
}

/// Makes the calls that read.
async fn read(store: &Store, plans: &Plans) {
    let unit = make::key().care_unit;
    let key = insert(store, form()).await.key;
    plans.forget();
    store.get(&key).await.expect("read");
    check(plans, "get");
    store.history(&key, 0, 50).await.expect("read");
    check(plans, "history");
    store.read_settings(&unit).await.expect("read");
    check(plans, "settings");
    let lists = [Worklist::CareInvitations, Worklist::GuaranteeAtRisk];
    for (list, &order_by) in lists
        .iter()
        .flat_map(|list| OrderBy::ALL.iter().map(move |it| (list, it)))
    {
        let query = Query {
            order_by,
            ..Query::of(vec![*list], CareUnits::These(vec![unit.clone()]))
        };
        store
            .list_worklist(&query, at(NOW), None, 50)
            .await
            .expect("listed");
        check(plans, "list");
        store.counts(&query, at(NOW)).await.expect("counted");
        check(plans, "count");
        store.total(&query, at(NOW)).await.expect("counted");
        check(plans, "total");
        store
            .next_transition_at(&query, at(NOW))
            .await
            .expect("read");
        check(plans, "next move");
    }
    let filter = NotificationFilter {
        care_units: vec![unit],
        states: vec![DisplayState::Planned(State::Scheduled)],
        channels: DeliveryChannel::ALL.to_vec(),
        due_before: None,
    };
    let page = store.list_notifications(&filter, at(NOW), None, 50).await;
    page.expect("listed");
    check(plans, "notifications");
}

async fn claim(store: &Store) -> Vec<LeaseRef> {
    let claim = ClaimRequest {
        channels: DeliveryChannel::ALL.to_vec(),
        care_units: CareUnits::These(vec![make::key().care_unit]),
        tokens: (0..6).map(|_| Uuid::new_v4()).collect(),
        lease_duration: chrono::Duration::seconds(60),
        always_authorizes: false,
        hides_protected: true,
    };
    let claimed = store.claim(claim, || make::context(at(NOW))).await;
    let leased = claimed.expect("claimed").leased;
    leased.into_iter().map(|(_, lease)| lease).collect()
}

async fn insert(store: &Store, form: Form) -> BookingRequest {
    let inserted = store_fixtures::insert(store, call(), creation(form), at(NOW)).await;
    inserted.expect("created")
}

/// A form from a referral of its own, so that it is no duplicate.
fn form() -> Form {
    let mut form = make::form("2026-03-02", "2026-05-29");
    form.origin = referral(&Uuid::new_v4().to_string());
    form
}
