//! Operations on messages: claimed, given leave, settled, listed.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sea_orm::DatabaseTransaction;
use uuid::Uuid;

use crate::domain::Context;
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::Channel;
use crate::domain::notification::LeaseRef;
use crate::domain::notification::acknowledge::{Acknowledgement, StaleToken, acknowledge};
use crate::domain::notification::authorize::{AUTHORIZATION_MIN, authorizable, authorize};
use crate::domain::notification::lease::{LeaseOutcome, lease, release};
use crate::domain::notification::list::NotificationCursor;
use crate::domain::notification::list::NotificationFilter;
use crate::domain::request_key::RequestKey;
use crate::store::Store;
use crate::store::booking_request::read_by_key;
use crate::store::change_event::LeaseChange;
use crate::store::commit::read_set::Claim;
use crate::store::commit::read_set::ReadSet;
use crate::store::commit::read_set::Resolved;
use crate::store::commit::tracked::lease_change;
use crate::store::commit::unit_of_work::UnitOfWork;
use crate::store::entity::notification::{self as row, Due};
use crate::store::error::Error;

/// How long to wait before leases are given back once more.
const LOST_CLAIM_PAUSE: Duration = Duration::from_secs(1);
/// How often that is tried: for about as long as a lease lasts.
const LOST_CLAIM_ATTEMPTS_MAX: u32 = 60;

/// What a consumer asks for when it claims due messages.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// Through these channels; at least one.
    pub channels: Vec<Channel>,
    /// Of these care units; none means of all.
    pub care_units: Option<Vec<HsaId>>,
    /// A fresh token for each message that it would take.
    pub tokens: Vec<Uuid>,
    /// How long each lease lasts.
    pub lease_duration: chrono::Duration,
}

/// What a claim has given.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The leased messages with their requests, the earliest first.
    pub leased: Vec<(BookingRequest, LeaseRef)>,
    /// True when there may be more to claim at once.
    pub more: bool,
}

/// Which leases were given leave.
#[derive(Clone, Debug, Default)]
pub struct Authorized {
    /// May be handed over.
    pub authorized: Vec<LeaseRef>,
    /// Must not be sent.
    pub refused: Vec<LeaseRef>,
    /// When the leave runs out; none when none was given.
    pub expires_at: Option<Instant>,
}

/// What a claim has decided, in all of its attempts: each may have been committed without the
/// answer having come.
#[derive(Default)]
struct ClaimLedger(Mutex<Decisions>);

#[derive(Default)]
struct Decisions {
    /// Those that were given.
    leases: HashSet<LeaseRef>,
    /// Nobody waits for any more of them.
    unwanted: bool,
}

impl ClaimLedger {
    fn decisions(&self) -> MutexGuard<'_, Decisions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the answer has come, or is no longer waited for. Gives the leases that are not in it.
    fn end(&self, claimed: Option<&Claimed>) -> Vec<LeaseRef> {
        let mut decisions = self.decisions();
        decisions.unwanted = true;
        for (_, lease) in claimed.iter().flat_map(|claimed| &claimed.leased) {
            decisions.leases.remove(lease);
        }
        decisions.leases.drain().collect()
    }
}

impl Store {
    /// Leases due messages to a consumer, one for each token at the most. `context` is asked again when
    /// it is decided, here and below, so that what is recorded later is never dated earlier.
    pub async fn claim(
        &self,
        claim: ClaimRequest,
        context: impl Fn() -> Context + Send + 'static,
    ) -> Result<Claimed, Error> {
        let limit = claim.tokens.len();
        let read_set = ReadSet {
            claim: Some(Claim {
                due: Due {
                    channels: claim.channels,
                    care_units: claim.care_units,
                },
                now: context().now,
                limit,
            }),
            ..ReadSet::default()
        };
        let (tokens, duration) = (claim.tokens, claim.lease_duration);
        let decided = Arc::new(ClaimLedger::default());
        let deciding = Arc::clone(&decided);
        let claim = move |records: &mut UnitOfWork, found: &Resolved| {
            let mut decisions = deciding.decisions();
            let mut leased = Vec::new();
            let context = context();
            for (request, id) in &found.messages {
                let Some(token) = tokens.get(leased.len()).filter(|_| !decisions.unwanted) else {
                    break;
                };
                let lease = LeaseRef {
                    request: request.clone(),
                    notification: *id,
                    token: *token,
                };
                if let Some(record) = lease_one(records, &lease, duration, &context)? {
                    decisions.leases.insert(lease.clone());
                    leased.push((record, lease));
                }
            }
            Ok(Claimed {
                // One that was put right may be claimable still.
                more: found.messages.len() >= limit || leased.len() < found.messages.len(),
                leased,
            })
        };
        let claimed = self.claimer()?.submit(read_set, claim).await;
        self.release_lost_claims(decided.end(claimed.as_ref().ok()));
        claimed
    }

    /// Gives back leases that the database may have, though its answer was lost. If that fails for
    /// too long they run out by themselves.
    fn release_lost_claims(&self, leases: Vec<LeaseRef>) {
        if leases.is_empty() {
            return;
        }
        let store = self.clone();
        tokio::spawn(async move {
            for _ in 0..LOST_CLAIM_ATTEMPTS_MAX {
                match store.release_leases(leases.clone()).await {
                    Err(
                        Error::Unavailable(_)
                        | Error::Contention
                        | Error::Overloaded
                        | Error::Clock(_),
                    ) => {
                        tokio::time::sleep(LOST_CLAIM_PAUSE).await;
                    }
                    Ok(()) | Err(_) => return,
                }
            }
        });
    }

    /// Gives leave to hand messages over now.
    pub async fn authorize(
        &self,
        leases: Vec<LeaseRef>,
        context: impl Fn() -> Context + Send + 'static,
    ) -> Result<Authorized, Error> {
        let read_set = ReadSet {
            requests: leases.iter().map(|lease| lease.request.clone()).collect(),
            ..ReadSet::default()
        };
        let authorize = move |records: &mut UnitOfWork, _: &Resolved| {
            let now = context().now;
            let expiry = |lease: &LeaseRef| {
                let record = records.get(&lease.request)?;
                authorizable(record, lease.notification, lease.token, now)
            };
            let (authorized, refused): (Vec<_>, Vec<_>) = leases
                .iter()
                .cloned()
                .partition(|lease| expiry(lease).is_some());
            let earliest = authorized.iter().filter_map(expiry).min();
            let expires_at = earliest.map(|earliest| earliest.max(now + AUTHORIZATION_MIN));
            for lease in &authorized {
                if let (Some(record), Some(until)) = (records.get(&lease.request), expires_at) {
                    let change = authorize(record, lease.notification, until);
                    records.apply(change, None)?;
                }
            }
            Ok(Authorized {
                authorized,
                refused,
                expires_at,
            })
        };
        self.writer()?.submit(read_set, authorize).await
    }

    /// UnitOfWork what became of leased messages; each answer comes with an id for the message that
    /// may follow. Says which leases are lost. That is done by a clock that is wrong too, and dated
    /// by the database then.
    pub async fn acknowledge(
        &self,
        answers: Vec<(RequestKey, Acknowledgement, Uuid)>,
        context: impl Fn() -> Context + Send + 'static,
    ) -> Result<Vec<(RequestKey, Uuid)>, Error> {
        let read_set = ReadSet {
            requests: answers
                .iter()
                .map(|(request, ..)| request.clone())
                .collect(),
            answers: true,
            at_all_times: true,
            ..ReadSet::default()
        };
        let settle = move |records: &mut UnitOfWork, _: &Resolved| {
            let mut lost = Vec::new();
            let context = context();
            let context = Context {
                now: records.date().correct(context.now),
                ..context
            };
            for (request, answer, new_id) in &answers {
                let context = Context {
                    new_id: *new_id,
                    ..context.clone()
                };
                let acknowledged = match records.get(request) {
                    Some(record) => acknowledge(record, answer, &context),
                    None => Err(StaleToken),
                };
                match acknowledged {
                    Ok(Some(change)) => records.apply(change, None)?,
                    Ok(None) => {}
                    Err(StaleToken) => lost.push((request.clone(), answer.id)),
                }
            }
            Ok(lost)
        };
        self.writer()?.submit(read_set, settle).await
    }

    /// Gives back leases that never reached their consumer.
    pub async fn release_leases(&self, leases: Vec<LeaseRef>) -> Result<(), Error> {
        let read_set = ReadSet {
            requests: leases.iter().map(|lease| lease.request.clone()).collect(),
            at_all_times: true,
            ..ReadSet::default()
        };
        let give_back = move |records: &mut UnitOfWork, _: &Resolved| {
            for lease in &leases {
                let record = records.get(&lease.request);
                let change =
                    record.and_then(|record| release(record, lease.notification, lease.token));
                if let Some(change) = change {
                    records.apply(change, None)?;
                }
            }
            Ok(())
        };
        self.writer()?.submit(read_set, give_back).await
    }

    /// Returns what has become of leases, for those who may have missed it. Leases that stand as they were
    /// `known` are left out.
    pub async fn lease_changes(
        &self,
        known: &[(LeaseRef, Instant)],
    ) -> Result<Vec<(LeaseRef, LeaseChange)>, Error> {
        let keys: Vec<RequestKey> = known.iter().map(|(it, _)| it.request.clone()).collect();
        let records = self.get_many(&keys).await?;
        let lease_change = |(lease, expires_at): &(LeaseRef, Instant)| {
            let message = records
                .get(&lease.request)?
                .notification(lease.notification)?;
            Some((
                lease.clone(),
                lease_change(message, lease.token, *expires_at)?,
            ))
        };
        Ok(known.iter().filter_map(lease_change).collect())
    }

    /// Messages in the order in which they are due at `now`: what comes after `after`, `limit` at
    /// most, each with its request; none in place of one that cannot be decoded.
    pub async fn list_notifications(
        &self,
        filter: &NotificationFilter,
        now: Instant,
        after: Option<&NotificationCursor>,
        limit: u32,
    ) -> Result<Vec<(NotificationCursor, Option<BookingRequest>)>, Error> {
        let (filter, after) = (filter.clone(), after.cloned());
        self.read(move |snapshot| {
            Box::pin(async move { page(snapshot, &filter, now, after.as_ref(), limit).await })
        })
        .await
    }

    /// Returns the first instant after `now` at which some message becomes claimable.
    pub async fn next_claimable_at(&self, now: Instant) -> Result<Option<Instant>, Error> {
        self.read(move |snapshot| Box::pin(row::next_claimable_at(snapshot, now)))
            .await
    }
}

fn lease_one(
    records: &mut UnitOfWork,
    given: &LeaseRef,
    duration: chrono::Duration,
    context: &Context,
) -> Result<Option<BookingRequest>, Error> {
    let Some(record) = records.get(&given.request) else {
        return Ok(None);
    };
    match lease(record, given.notification, given.token, duration, context) {
        LeaseOutcome::Leased(change) => {
            let record = change.record.clone();
            records.apply(change, None)?;
            Ok(Some(record))
        }
        LeaseOutcome::Repaired(change) => {
            records.apply(change, None)?;
            Ok(None)
        }
        LeaseOutcome::NotAvailable => Ok(None),
    }
}

async fn page(
    snapshot: &DatabaseTransaction,
    filter: &NotificationFilter,
    now: Instant,
    after: Option<&NotificationCursor>,
    limit: u32,
) -> Result<Vec<(NotificationCursor, Option<BookingRequest>)>, Error> {
    let page = row::page(snapshot, filter, now, after, limit).await?;
    let keys = page.iter().map(|it| it.request.clone()).collect();
    let records = read_by_key(snapshot, keys).await?;
    let with_record = |position: NotificationCursor| {
        let record = records.get(&position.request)?.clone();
        Some((position, record))
    };
    Ok(page.into_iter().filter_map(with_record).collect())
}
