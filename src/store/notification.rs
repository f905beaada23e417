//! Operations on notifications: claim, authorize, acknowledge, release, list.

use std::sync::Arc;

use futures_util::future::join_all;
use sea_orm::DatabaseTransaction;
use uuid::Uuid;

use crate::domain::Context;
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::care_units::CareUnits;
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::DeliveryChannel;
use crate::domain::notification::DispatchRefusal;
use crate::domain::notification::LeaseRef;
use crate::domain::notification::acknowledge::{Acknowledgement, acknowledge};
use crate::domain::notification::authorize::{AUTHORIZATION_MIN, authorizable, authorize};
use crate::domain::notification::lease::{LeaseOutcome, Terms, lease, release};
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
use crate::store::error::Error;
use crate::store::lost_claims::ClaimLedger;
use crate::store::placement::{Part, Shards, join};
use crate::store::query::due::Due;
use crate::store::query::due_units::{Claimable, first_claimable};
use crate::store::query::notification_page;

/// Maximum care units that one claim is about. Each is a walk along the due index of its own.
pub const CLAIMED_UNITS_MAX: usize = 32;

/// A consumer's claim of due notifications.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// Channels; at least one.
    pub channels: Vec<DeliveryChannel>,
    /// Care units.
    pub care_units: CareUnits,
    /// Fresh tokens, one for each notification that it wants.
    pub tokens: Vec<Uuid>,
    /// Duration of each lease.
    pub lease_duration: chrono::Duration,
    /// True if the consumer has promised to hand nothing over without an authorization.
    pub always_authorizes: bool,
    /// True if it gets nothing of patients with protected identity.
    pub hides_protected: bool,
}

/// Result of a claim.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// Leased notifications with their requests: of each care unit the earliest first, in turns between care units.
    pub leased: Vec<(BookingRequest, LeaseRef)>,
    /// Care units in which there may be more to claim at once.
    pub open: Vec<HsaId>,
}

/// Result of an authorization.
#[derive(Clone, Debug)]
pub struct Authorized {
    /// For each lease, in order, the reason why its notification must not be handed over, if it must not be; an error of its shard.
    pub results: Vec<Result<Option<DispatchRefusal>, Error>>,
    /// Instant at which the authorization expires; none when none was given.
    pub expires_at: Option<Instant>,
}

impl Store {
    /// Leases due notifications to a consumer, at most one for each token, in turns between care units: of those that it
    /// names, or of those in which something is due. `context` is called again when the operation is decided, here and below,
    /// so that a later record never has an earlier date.
    ///
    /// Several shards are gone through one after the other, each time from another one on. One that is not
    /// available is passed over, and left out for a while; any other error is everybody's.
    pub async fn claim(
        &self,
        claim: ClaimRequest,
        context: impl Fn() -> Context + Clone + Send + 'static,
    ) -> Result<Claimed, Error> {
        let Context { now, policy, .. } = context();
        let mut care_units = self.units_to_claim(&claim, now).await?;
        let paused = policy.units.paused_units(now);
        care_units.retain(|it| !paused.contains(it));
        let count = CLAIMED_UNITS_MAX.min(claim.tokens.len());
        let mut claimed = Claimed {
            open: care_units.split_off(count.min(care_units.len())),
            ..Claimed::default()
        };
        let (shards, placement) = (self.shards(), &self.inner.placement);
        let (mut answered, mut away) = (false, None);
        let mut rest = claim;
        for shard in placement.next_turn(&shards) {
            let of_shard = |it: &&HsaId| shards.of_unit(it) == shard;
            let units: Vec<HsaId> = care_units.iter().filter(of_shard).cloned().collect();
            if units.is_empty() {
                continue;
            }
            if rest.tokens.is_empty() {
                claimed.open.extend(units);
                continue;
            }
            let buckets = shards.of_units(&units);
            let part = self.claim_in(units.clone(), buckets, rest.clone(), context.clone());
            match part.await {
                Ok(part) => {
                    answered = true;
                    rest.tokens.drain(..part.leased.len());
                    claimed.open.extend(part.open);
                    claimed.leased.extend(part.leased);
                }
                Err(error @ Error::Unavailable(_)) => {
                    placement.note_away(shard);
                    away = Some(error);
                }
                Err(error) if claimed.leased.is_empty() => return Err(error),
                // The next claim meets it, and what is leased reaches its consumer.
                Err(_) => claimed.open.extend(units),
            }
        }
        match away {
            Some(error) if !answered => Err(error),
            _ => Ok(claimed),
        }
    }

    /// Returns the care units that a claim is to go through: the few that it names, or those in which something is due, from
    /// any of them on.
    async fn units_to_claim(
        &self,
        claim: &ClaimRequest,
        now: Instant,
    ) -> Result<Vec<HsaId>, Error> {
        match &claim.care_units {
            CareUnits::These(units) if units.len() <= CLAIMED_UNITS_MAX => {
                return Ok(units.clone());
            }
            CareUnits::Every | CareUnits::These(_) | CareUnits::Within(_) => {}
        }
        let first = self
            .first_claimable(claim.care_units.clone(), Instant::UNIX_EPOCH)
            .await?;
        let is_due = |channel, at| at <= now && claim.channels.contains(&channel);
        let due = first
            .into_iter()
            .filter(|((_, channel), at)| is_due(*channel, *at));
        let mut care_units: Vec<HsaId> = due.map(|((care_unit, _), _)| care_unit).collect();
        care_units.dedup();
        if !care_units.is_empty() {
            let first = rand::random_range(0..care_units.len());
            care_units.rotate_left(first);
        }
        Ok(care_units)
    }

    /// Leases due notifications of a few care units in these buckets, which are of one shard, or in any.
    async fn claim_in(
        &self,
        care_units: Vec<HsaId>,
        buckets: Option<Vec<i16>>,
        claim: ClaimRequest,
        context: impl Fn() -> Context + Send + 'static,
    ) -> Result<Claimed, Error> {
        let read_set = ReadSet {
            claim: Some(Claim {
                due: Due {
                    channels: claim.channels,
                    care_units,
                    hides_protected: claim.hides_protected,
                    buckets,
                },
                now: context().now,
                limit: claim.tokens.len(),
            }),
            ..ReadSet::default()
        };
        let (tokens, duration) = (claim.tokens, claim.lease_duration);
        let (always_authorizes, hides_protected) = (claim.always_authorizes, claim.hides_protected);
        let ledger = Arc::new(ClaimLedger::default());
        let decided = Arc::clone(&ledger);
        let claim = move |work: &mut UnitOfWork, resolved: &Resolved| {
            let mut decisions = decided.decisions();
            let mut leased = Vec::new();
            let mut open = resolved.open.clone();
            let context = context();
            for due in &resolved.notifications {
                // The protection may have been learned since it was found.
                let record = work.get(&due.request);
                if hides_protected && record.is_some_and(|it| it.form.patient.is_protected()) {
                    continue;
                }
                let Some(token) = tokens.get(leased.len()).filter(|_| !decisions.closed) else {
                    open.insert(due.request.care_unit.clone());
                    continue;
                };
                let lease = LeaseRef {
                    request: due.request.clone(),
                    notification: due.id,
                    token: *token,
                };
                let terms = Terms {
                    token: *token,
                    duration,
                    always_authorizes,
                    in_lost_interval: due.in_lost_interval,
                };
                match lease_one(work, &lease, terms, &context)? {
                    Some(record) => {
                        decisions.leases.insert(lease.clone());
                        leased.push((record, lease));
                    }
                    // One that was repaired may still be claimable.
                    None => {
                        open.insert(lease.request.care_unit);
                    }
                }
            }
            let open = open.into_iter().collect();
            Ok(Claimed { leased, open })
        };
        let claimed = self.claim_queue()?.submit(read_set, claim).await;
        let received = claimed.iter().flat_map(|claimed| &claimed.leased);
        self.release_lost_claims(ledger.close(received.map(|(_, lease)| lease)));
        claimed
    }

    /// Authorizes a consumer to hand leased notifications over now, those of several shards at once; with `hides_protected` none for a
    /// patient with protected identity, whose leases are not the consumer's.
    pub async fn authorize(
        &self,
        leases: Vec<LeaseRef>,
        hides_protected: bool,
        context: impl Fn() -> Context + Clone + Send + 'static,
    ) -> Result<Authorized, Error> {
        let parts = self
            .shards()
            .split(leases, |lease| &lease.request.care_unit);
        let authorized = parts.into_iter().map(|part| {
            let context = context.clone();
            async move {
                let Part { places, elements } = part;
                let authorized = self.authorize_part(elements, hides_protected, context);
                (places, authorized.await)
            }
        });
        let mut expires_at = None;
        let mut of_part = |(places, authorized): (Vec<usize>, Result<PartAuthorized, Error>)| {
            let results = authorized.map(|(results, until)| {
                expires_at = [expires_at, until].into_iter().flatten().min();
                results
            });
            (places, results)
        };
        let authorized = join_all(authorized).await.into_iter();
        let results = join(authorized.map(&mut of_part).collect())?;
        Ok(Authorized {
            results,
            expires_at,
        })
    }

    /// Authorizes a consumer to hand over leased notifications of one shard.
    async fn authorize_part(
        &self,
        leases: Vec<LeaseRef>,
        hides_protected: bool,
        context: impl Fn() -> Context + Send + 'static,
    ) -> Result<PartAuthorized, Error> {
        let read_set = ReadSet {
            requests: leases.iter().map(|lease| lease.request.clone()).collect(),
            ..ReadSet::default()
        };
        let authorize = move |work: &mut UnitOfWork, _: &Resolved| {
            let context = context();
            let now = context.now;
            let expiries: Vec<Result<Instant, DispatchRefusal>> = leases
                .iter()
                .map(|lease| {
                    let record = work.get(&lease.request).ok_or(DispatchRefusal::Lost)?;
                    let until = authorizable(record, lease.notification, lease.token, &context)?;
                    match hides_protected && record.form.patient.is_protected() {
                        true => Err(DispatchRefusal::Lost),
                        false => Ok(until),
                    }
                })
                .collect();
            let earliest = expiries.iter().flatten().copied().min();
            let expires_at = earliest.map(|earliest| earliest.max(now + AUTHORIZATION_MIN));
            for (lease, expiry) in leases.iter().zip(&expiries) {
                if let (Some(record), Some(until)) = (work.get(&lease.request), expires_at)
                    && expiry.is_ok()
                {
                    let change = authorize(record, lease.notification, until);
                    work.apply(change, None)?;
                }
            }
            let refusals = expiries.into_iter().map(Result::err).collect();
            Ok((refusals, expires_at))
        };
        self.call_queue()?.submit(read_set, authorize).await
    }

    /// Records the outcome of leased notifications, of those of several shards at once. Returns for each, in order, the reason why
    /// nothing was recorded, if nothing was, and an error when its request cannot be decoded, or its shard is not available. Works while
    /// the clock is wrong too, and is then dated by the database.
    pub async fn acknowledge(
        &self,
        acknowledgements: Vec<(RequestKey, Acknowledgement)>,
        context: impl Fn() -> Context + Clone + Send + 'static,
    ) -> Result<Vec<Result<Option<DispatchRefusal>, Error>>, Error> {
        let shards = self.shards();
        let parts = shards.split(acknowledgements, |(request, _)| &request.care_unit);
        let acknowledged = parts.into_iter().map(|part| {
            let context = context.clone();
            async {
                (
                    part.places,
                    self.acknowledge_part(part.elements, context).await,
                )
            }
        });
        let acknowledged = join(join_all(acknowledged).await)?;
        Ok(acknowledged.into_iter().map(Result::flatten).collect())
    }

    /// Records the outcome of leased notifications of one shard.
    async fn acknowledge_part(
        &self,
        acknowledgements: Vec<(RequestKey, Acknowledgement)>,
        context: impl Fn() -> Context + Send + 'static,
    ) -> Result<Vec<Result<Option<DispatchRefusal>, Error>>, Error> {
        let read_set = ReadSet {
            requests: acknowledgements
                .iter()
                .map(|(request, _)| request.clone())
                .collect(),
            tolerates_clock_fault: true,
            ..ReadSet::default()
        };
        let acknowledge = move |work: &mut UnitOfWork, _: &Resolved| {
            let mut results = Vec::new();
            let context = context();
            let context = Context {
                now: work.date().correct(context.now),
                ..context
            };
            for (request, acknowledgement) in &acknowledgements {
                let acknowledged = work.require(request).map(|record| {
                    let record = record.ok_or(DispatchRefusal::Lost)?;
                    acknowledge(record, acknowledgement, &context)
                });
                results.push(match acknowledged {
                    Ok(Ok(Some(change))) => {
                        work.apply(change, None)?;
                        Ok(None)
                    }
                    Ok(Ok(None)) => Ok(None),
                    Ok(Err(refusal)) => Ok(Some(refusal)),
                    Err(undecodable) => Err(undecodable),
                });
            }
            Ok(results)
        };
        self.call_queue()?.submit(read_set, acknowledge).await
    }

    /// Releases leases that never reached their consumer, those of several shards at once.
    pub async fn release_leases(&self, leases: Vec<LeaseRef>) -> Result<(), Error> {
        let parts = self
            .shards()
            .split(leases, |lease| &lease.request.care_unit);
        let released = parts
            .into_iter()
            .map(|part| self.release_part(part.elements));
        join_all(released).await.into_iter().collect()
    }

    /// Releases leases of one shard: after the claims that were submitted before, of which one may still be committed although
    /// it is not waited for any more.
    async fn release_part(&self, leases: Vec<LeaseRef>) -> Result<(), Error> {
        let read_set = ReadSet {
            requests: leases.iter().map(|lease| lease.request.clone()).collect(),
            tolerates_clock_fault: true,
            ..ReadSet::default()
        };
        let release_all = move |work: &mut UnitOfWork, _: &Resolved| {
            for lease in &leases {
                let record = work.get(&lease.request);
                let change =
                    record.and_then(|record| release(record, lease.notification, lease.token));
                if let Some(change) = change {
                    work.apply(change, None)?;
                }
            }
            Ok(())
        };
        self.claim_queue()?.submit(read_set, release_all).await
    }

    /// Returns the changes of leases, for consumers that may have missed them. Leases that are as they were `known` are
    /// omitted.
    pub async fn lease_changes(
        &self,
        known: &[(LeaseRef, Instant)],
    ) -> Result<Vec<(LeaseRef, LeaseChange)>, Error> {
        let keys: Vec<RequestKey> = known.iter().map(|(it, _)| it.request.clone()).collect();
        let records = self.get_many(&keys).await?;
        let lease_change = |(lease, expires_at): &(LeaseRef, Instant)| {
            let notification = records
                .get(&lease.request)?
                .notification(lease.notification)?;
            Some((
                lease.clone(),
                lease_change(notification, lease.token, *expires_at)?,
            ))
        };
        Ok(known.iter().filter_map(lease_change).collect())
    }

    /// Lists notifications in the order in which they are due: those after the cursor `after`, at most `limit`, each with
    /// its request; none in place of a request that cannot be decoded. Their state is that at `now`.
    pub async fn list_notifications(
        &self,
        filter: &NotificationFilter,
        now: Instant,
        after: Option<&NotificationCursor>,
        limit: u32,
    ) -> Result<Vec<(NotificationCursor, Option<BookingRequest>)>, Error> {
        let (filter, after, shards) = (filter.clone(), after.cloned(), self.shards());
        self.read(move |snapshot| {
            Box::pin(
                async move { page(snapshot, &shards, &filter, now, after.as_ref(), limit).await },
            )
        })
        .await
    }

    /// Returns when the first notification becomes claimable after `since` in each of these care units, through each channel;
    /// without those of shards that are not available while others are.
    pub async fn first_claimable(
        &self,
        care_units: CareUnits,
        since: Instant,
    ) -> Result<Claimable, Error> {
        let shards = self.shards();
        let mut answers = Vec::new();
        for shard in 0..shards.count() {
            let (mut units, buckets) = (care_units.clone(), shards.buckets_of(shard));
            if let CareUnits::These(units) = &mut units {
                units.retain(|it| shards.of_unit(it) == shard);
            }
            let first = self.read_statement(move |readers| {
                Box::pin(async move { first_claimable(readers, &units, since, buckets).await })
            });
            answers.push((vec![shard], first.await.map(|it| vec![it])));
        }
        let firsts = join(answers)?.into_iter().filter_map(Result::ok);
        Ok(firsts.flatten().collect())
    }
}

/// Refusals of leases of one shard, and the instant at which the authorization of the others expires.
type PartAuthorized = (Vec<Option<DispatchRefusal>>, Option<Instant>);

/// Leases one notification, and returns its request; `None` when it is not available.
fn lease_one(
    work: &mut UnitOfWork,
    wanted: &LeaseRef,
    terms: Terms,
    context: &Context,
) -> Result<Option<BookingRequest>, Error> {
    let Some(record) = work.get(&wanted.request) else {
        return Ok(None);
    };
    match lease(record, wanted.notification, terms, context) {
        LeaseOutcome::Leased(change) => {
            let record = change.record.clone();
            work.apply(change, None)?;
            Ok(Some(record))
        }
        LeaseOutcome::Repaired(change) => {
            work.apply(change, None)?;
            Ok(None)
        }
        LeaseOutcome::NotAvailable => Ok(None),
    }
}

/// Returns a page of notifications from one snapshot.
async fn page(
    snapshot: &DatabaseTransaction,
    shards: &Shards,
    filter: &NotificationFilter,
    now: Instant,
    after: Option<&NotificationCursor>,
    limit: u32,
) -> Result<Vec<(NotificationCursor, Option<BookingRequest>)>, Error> {
    let page = notification_page::page(snapshot, shards, filter, now, after, limit).await?;
    let keys = page.iter().map(|it| it.request.clone()).collect();
    let records = read_by_key(snapshot, shards, keys).await?;
    let with_record = |cursor: NotificationCursor| {
        let record = records.get(&cursor.request)?.clone();
        Some((cursor, record))
    };
    Ok(page.into_iter().filter_map(with_record).collect())
}
