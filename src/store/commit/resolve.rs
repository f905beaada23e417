//! Resolving a batch: loads the rows that its operations need, and lets them decide.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use sea_orm::ConnectionTrait;

use crate::domain::booking_request::form::DuplicateKey;
use crate::domain::calendar::Instant;
use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;
use crate::store::commit::operation::Operation;
use crate::store::commit::overlay::Overlay;
use crate::store::commit::read_set::{LeasedIn, ReadSet, Resolved};
use crate::store::commit::unit_of_work::UnitOfWork;
use crate::store::database::connection::RowLock;
use crate::store::error::Error;
use crate::store::idempotency::IdempotentCall;
use crate::store::placement::Shards;
use crate::store::quarantine::Quarantine;
use crate::store::query::due::{Due, DueNotification, Found, claimable, leased_in};
use crate::store::query::request_keys::requests_of;
use crate::store::skew::Date;

/// Loads the rows that the operations need, except those of the overlay, and lets the operations decide, by the clock
/// that `date` then reads. Removes the operations that need a request, or the settings of a care unit, which another writer
/// has locked, and hands them to `requeue`. Those that want leased notifications go on without the locked ones.
pub async fn resolve(
    connection: &impl ConnectionTrait,
    shards: Shards,
    operations: &mut Vec<Box<dyn Operation>>,
    overlay: &Overlay,
    quarantine: &Quarantine,
    requeue: impl Fn(Box<dyn Operation>),
    date: impl Fn() -> Date,
) -> Result<UnitOfWork, Error> {
    let mut read_sets: Vec<Arc<ReadSet>> = operations
        .iter()
        .map(|operation| operation.read_set())
        .collect();
    let mut resolved =
        resolve_read_sets(connection, &shards, &read_sets, overlay, quarantine).await?;
    let mut work = UnitOfWork::over(shards);
    // Requests and settings are locked before the idempotency keys are looked up, so that the keys of a writer that had the
    // lock before are seen. A claim locks no requests: it is tested when it is written.
    let claims_alone = read_sets.iter().all(|read_set| read_set.claim.is_some());
    let lock = if claims_alone {
        RowLock::None
    } else {
        RowLock::SkipLocked
    };
    let locked_by_others = work
        .load(
            connection,
            request_keys(&read_sets, &resolved),
            lock,
            overlay,
        )
        .await?;
    let settings = read_sets.iter().filter_map(|it| it.settings.clone());
    let settings_of_others = work
        .settings
        .load(connection, settings.collect(), lock, overlay.settings())
        .await?;
    let due = resolved.iter().flat_map(|resolved| &resolved.notifications);
    let due = due.map(|due| &due.request);
    quarantine.add(due.filter(|key| work.is_undecodable(key)).cloned());
    if !locked_by_others.is_empty() || !settings_of_others.is_empty() {
        let by_lease = read_sets.iter().zip(&mut resolved);
        for (_, found) in by_lease.filter(|(read_set, _)| read_set.leased_in.is_some()) {
            let wanted = found.requests.len();
            found.requests.retain(|key| !locked_by_others.contains(key));
            found.has_locked = found.requests.len() < wanted;
        }
        let mut place = 0;
        while let (Some(read_set), Some(found)) = (read_sets.get(place), resolved.get(place)) {
            let mut request_keys = read_set.requests.iter().chain(&found.requests);
            let mut settings = read_set.settings.iter();
            if request_keys.any(|key| locked_by_others.contains(key))
                || settings.any(|care_unit| settings_of_others.contains(care_unit))
            {
                requeue(operations.remove(place));
                read_sets.remove(place);
                resolved.remove(place);
            } else {
                place += 1;
            }
        }
    }
    if lock.locks_rows(connection.get_database_backend()) {
        check_patients(connection, work.shards(), &read_sets, &resolved).await?;
    }
    let created = read_sets
        .iter()
        .flat_map(|read_set| read_set.creates.clone());
    let retypes = read_sets.iter().flat_map(|read_set| &read_set.retypes);
    let retyped = retypes
        .filter_map(|(key, code)| Some(work.get(key)?.duplicate_key().with_visit_type(code)));
    let moved = keys_of_moved(&read_sets, &work);
    let opened: Vec<DuplicateKey> = created.chain(retyped).chain(moved.clone()).collect();
    let changed: Vec<RequestKey> = read_sets
        .iter()
        .filter(|read_set| !read_set.calls.is_empty())
        .flat_map(|read_set| read_set.requests.clone())
        .collect();
    let idempotency_keys = idempotency_keys(&read_sets, &resolved);
    let replayed = work
        .load_duplicates_and_replays(
            connection,
            opened,
            &changed,
            read_sets.iter().any(|it| it.hides_protected),
            idempotency_keys,
            overlay,
        )
        .await?;
    // What moves is kept beside one that was opened since the patient's were found, so that one is looked at too.
    let mut seen_late = work.open_under(&moved);
    seen_late.extend(replayed);
    work.load(connection, seen_late, RowLock::None, overlay)
        .await?;
    work.decide_by(date());
    // A decision that panics fails the batch, which is then bisected: the operation fails alone.
    catch_unwind(AssertUnwindSafe(|| {
        decide_in_order(operations, &read_sets, &resolved, &mut work);
    }))
    .map_err(|_panic| Error::internal("a decision has panicked"))?;
    Ok(work)
}

/// Lets the operations decide: claims last, so that a notification which a booking of the same batch cancels is not
/// leased.
fn decide_in_order(
    operations: &mut [Box<dyn Operation>],
    read_sets: &[Arc<ReadSet>],
    resolved: &[Resolved],
    work: &mut UnitOfWork,
) {
    for claims in [false, true] {
        for ((operation, read_set), resolved) in operations.iter_mut().zip(read_sets).zip(resolved)
        {
            if read_set.claim.is_some() == claims {
                operation.decide(work, resolved);
            }
        }
    }
}

/// Returns the rows for the read set of each operation. Claims of a batch that want the same notifications share one
/// query, and each is offered as many as all of them could take.
async fn resolve_read_sets(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    read_sets: &[Arc<ReadSet>],
    overlay: &Overlay,
    quarantine: &Quarantine,
) -> Result<Vec<Resolved>, Error> {
    let mut due: Vec<(&Due, Found)> = Vec::new();
    let mut all = Vec::with_capacity(read_sets.len());
    for read_set in read_sets {
        let mut resolved = Resolved::default();
        if let Some(claim) = &read_set.claim {
            let known = due.iter().find(|(known, _)| **known == claim.due);
            let found = match known {
                Some((_, found)) => found.clone(),
                None => {
                    let found =
                        load_due(connection, &claim.due, read_sets, overlay, quarantine).await?;
                    due.push((&claim.due, found.clone()));
                    found
                }
            };
            resolved.notifications = found.notifications;
            resolved.open = found.open;
        }
        if let Some(scope) = &read_set.patient {
            let care_units = scope.care_units();
            for personal_id in &scope.personal_ids {
                let found = requests_of(connection, shards, personal_id, &care_units).await?;
                resolved.requests.extend(found);
            }
            resolved.requests.extend(overlay.requests_of(scope));
            resolved.requests.sort();
            resolved.requests.dedup();
        }
        if let Some(leased) = &read_set.leased_in {
            let LeasedIn {
                care_unit,
                now,
                limit,
            } = leased;
            resolved.requests = leased_in(connection, care_unit, *now, *limit).await?;
            resolved.is_cut = resolved.requests.len() >= *limit;
            resolved.requests.extend(overlay.leased_in(care_unit));
            resolved.requests.sort();
            resolved.requests.dedup();
        }
        all.push(resolved);
    }
    Ok(all)
}

/// Checks that the requests of a patient are still those that were found before they were locked: from then on, no other
/// writer moves more to the number of a patient who has some.
async fn check_patients(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    read_sets: &[Arc<ReadSet>],
    resolved: &[Resolved],
) -> Result<(), Error> {
    for (read_set, found) in read_sets.iter().zip(resolved) {
        let Some(scope) = &read_set.patient else {
            continue;
        };
        for personal_id in &scope.personal_ids {
            let present = requests_of(connection, shards, personal_id, &scope.care_units()).await?;
            if present.iter().any(|key| !found.requests.contains(key)) {
                return Err(Error::Contention);
            }
        }
    }
    Ok(())
}

/// Loads the due notifications for all claims that want these.
async fn load_due(
    connection: &impl ConnectionTrait,
    due: &Due,
    read_sets: &[Arc<ReadSet>],
    overlay: &Overlay,
    quarantine: &Quarantine,
) -> Result<Found, Error> {
    let claims = read_sets
        .iter()
        .filter_map(|read_set| read_set.claim.as_ref());
    let claims = claims.filter(|claim| claim.due == *due);
    let (now, limit) = claims.fold((Instant::UNIX_EPOCH, 0), |(now, limit), claim| {
        (now.max(claim.now), limit + claim.limit)
    });
    // Each care unit has the same share, which what the batch in flight takes comes before.
    let share = (limit / due.care_units.len().max(1)).max(1);
    let share = share + overlay.moved_before(now);
    let mut found = claimable(connection, due, now, share, &quarantine.requests()).await?;
    let is_due = |it: &DueNotification| overlay.is_due(&it.request, it.id, due, now);
    found.notifications.retain(is_due);
    let left = found
        .notifications
        .drain(limit.min(found.notifications.len())..);
    let left: Vec<HsaId> = left.map(|it| it.request.care_unit).collect();
    found.open.extend(left);
    Ok(found)
}

/// Returns the requests that the operations name or that were found for them.
fn request_keys(read_sets: &[Arc<ReadSet>], resolved: &[Resolved]) -> Vec<RequestKey> {
    let mut request_keys: Vec<RequestKey> = read_sets
        .iter()
        .flat_map(|read_set| read_set.requests.clone())
        .collect();
    for resolved in resolved {
        let notifications = resolved.notifications.iter();
        request_keys.extend(notifications.map(|due| due.request.clone()));
        request_keys.extend(resolved.requests.iter().cloned());
    }
    request_keys
}

/// Returns the duplicate keys of requests that may move from one identity number to another, since one that has moved may
/// be opened in the same batch.
fn keys_of_moved(read_sets: &[Arc<ReadSet>], work: &UnitOfWork) -> Vec<DuplicateKey> {
    let scopes = read_sets.iter().filter_map(|it| it.patient.as_ref());
    let mut keys = Vec::new();
    for personal_ids in scopes.map(|it| &it.personal_ids) {
        for record in work.of_patient(personal_ids) {
            let with = |it| DuplicateKey::of_patient(&record.key.care_unit, &record.form, it);
            keys.extend(personal_ids.iter().map(with));
        }
    }
    keys
}

/// Returns the calls that the operations execute, each with the care unit in which its idempotency key is unique.
fn idempotency_keys(
    read_sets: &[Arc<ReadSet>],
    resolved: &[Resolved],
) -> Vec<(HsaId, IdempotentCall)> {
    let mut idempotency_keys = Vec::new();
    for (read_set, resolved) in read_sets.iter().zip(resolved) {
        idempotency_keys.extend(read_set.calls.iter().cloned());
        if let Some(scope) = &read_set.patient {
            idempotency_keys.push((scope.idempotency_scope(), scope.call.clone()));
            idempotency_keys.push((scope.idempotency_scope(), scope.call.answered()));
            for request in &resolved.requests {
                idempotency_keys.push((request.care_unit.clone(), scope.call.clone()));
                idempotency_keys.push((request.care_unit.clone(), scope.call.on(request)));
            }
        }
    }
    idempotency_keys
}
