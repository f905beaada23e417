//! The writer: units that arrive together are decided and committed together.
//!
//! A unit is all or nothing. It is handed over and whoever asked only waits, so that a call that
//! is cut off leaves nothing half done. A batch whose rows were not as they had been loaded is
//! taken back and repeated in halves, so that one bad unit takes none with it.
//!
//! Where others write too, several lanes each load, decide and write in a transaction. Where there
//! is one writer, a batch is decided ahead: over what the batch before it will have left, while
//! that is being written. Should it not be written as it was decided, what was decided ahead is
//! dropped and done again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tracing::Instrument;
use tracing::instrument::WithSubscriber;
use uuid::Uuid;

use super::batch::Records;
use super::changes::Changes;
use super::connection::{Lanes, Lock, Patience, write_options};
use super::error::Error;
use super::others::Announcer;
use super::quarantine::Quarantine;
use super::queue::{Before, Queue};
use super::recent::{Leased, Recent};
use super::row::announcement::database_now;
use super::row::booking_request::requests_of;
use super::row::notification::{Due, claimable};
use super::skew::{ClockFault, Date, Shown, Timepiece};
use super::transaction::{Pool, Transaction};
use super::unit::{Found, Needs, Unit, unit};
use super::{Call, Committed};
use crate::domain::booking_request::RequestKey;
use crate::domain::calendar::{Instant, from_micros};
use crate::domain::hsa_id::HsaId;

/// How long a unit waits at the least whose request another writer has locked: about as long as a
/// batch takes.
const POSTPONED_MIN: Duration = Duration::from_millis(5);
/// How often a unit is repeated alone before its caller is told to come again.
const SOLO_TRIES_MAX: u32 = 8;

/// Where units are handed in.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Box<dyn Unit>>,
    patience: Patience,
}

impl Writer {
    /// Starts a writer over its own connections. Its tasks end when the last handle is dropped and
    /// the queue is empty.
    pub fn start(
        connection: Pool,
        lanes: Lanes,
        patience: Patience,
        announcer: Announcer,
        leased: Arc<Leased>,
        timepiece: Timepiece,
    ) -> (Self, Vec<JoinHandle<()>>) {
        let (queue, queued) = Queue::new();
        let task = Task {
            connection,
            queue: queue.downgrade(),
            announcer,
            patience,
            leased,
            quarantine: Arc::default(),
            timepiece,
        };
        let tasks = match lanes {
            Lanes::Several(count) => {
                let queued = Arc::new(Mutex::new(queued));
                let lane = |_| on_own_thread(task.clone().run(Arc::clone(&queued)));
                (0..count).map(lane).collect()
            }
            Lanes::Ahead(reader) => vec![on_own_thread(task.run_ahead(queued, reader))],
        };
        (Self { queue, patience }, tasks)
    }

    /// Hands a unit in and waits for its commit.
    ///
    /// When the future is dropped, or the answer is too long in coming, the unit is carried out all
    /// the same, if it can be.
    pub async fn submit<T, D>(&self, needs: Needs, decide: D) -> Result<T, Error>
    where
        T: Send + 'static,
        D: FnMut(&mut Records, &Found) -> Result<T, Error> + Send + 'static,
    {
        let (unit, answer) = unit(needs, decide);
        self.queue.try_send(unit).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Error::broken("the writer has ended"),
        })?;
        let answer = tokio::time::timeout(self.patience.answer, answer);
        match answer.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::broken("the writer dropped a unit")),
            Err(_) => Err(Error::too_late()),
        }
    }
}

/// How an attempt at a batch ended.
enum Attempt {
    Committed,
    Stale,
}

#[derive(Clone)]
struct Task {
    connection: Pool,
    queue: mpsc::WeakSender<Box<dyn Unit>>,
    announcer: Announcer,
    patience: Patience,
    leased: Arc<Leased>,
    quarantine: Arc<Quarantine>,
    timepiece: Timepiece,
}

impl Task {
    async fn run(self, queue: Arc<Mutex<Queue>>) {
        loop {
            // Let go of before the batch is carried out, so that the other lanes go on.
            let next = queue.lock().await.next_batch(Before::Ended).await;
            let Some(units) = next else { return };
            let span = tracing::debug_span!("write", units = units.len());
            self.carry_out(units).instrument(span).await;
        }
    }

    /// Decides each batch over `reader`, while the one before is being written.
    async fn run_ahead(self, mut queue: Queue, reader: DatabaseConnection) {
        let mut recent = Recent::default();
        let mut under_way: Option<JoinHandle<bool>> = None;
        while let Some(mut units) = queue.next_batch(before(&under_way)).await {
            let ahead = self.decide_ahead(&mut units, &reader, &mut recent).await;
            let is_sound = match under_way.take() {
                // A write that has panicked has written nothing that is known.
                Some(write) => write.await.unwrap_or(false),
                None => true,
            };
            match ahead {
                Ok(changes) if is_sound => {
                    under_way = Some(on_own_thread(self.clone().write(units, changes)));
                }
                _ => {
                    recent = Recent::default();
                    self.carry_out(units).await;
                }
            }
        }
        if let Some(write) = under_way {
            // Whether it was written is known to those who waited for it.
            let _ = write.await;
        }
    }

    async fn decide_ahead(
        &self,
        units: &mut Vec<Box<dyn Unit>>,
        reader: &DatabaseConnection,
        recent: &mut Recent,
    ) -> Result<Changes, Error> {
        let postpone = |unit| self.postpone(unit);
        let date = || self.timepiece.date(None);
        let records = decide(reader, units, recent, &self.quarantine, postpone, date);
        let records = tokio::time::timeout(self.patience.work, records).await;
        let records = records.unwrap_or_else(|_| Err(Error::too_late()))?;
        recent.learn(records.left());
        Ok(records.changes())
    }

    /// Writes what was decided ahead and answers. Says whether it was written as it was decided: if
    /// not, the units are carried out anew.
    async fn write(self, units: Vec<Box<dyn Unit>>, changes: Changes) -> bool {
        let span = tracing::debug_span!("write", units = units.len());
        async {
            let is_written = changes.is_empty()
                || matches!(
                    self.commit(async |_| Ok(Some(changes))).await,
                    Ok(Attempt::Committed)
                );
            match is_written {
                true => answer_all(units, Ok(())),
                false => self.carry_out(units).await,
            }
            is_written
        }
        .instrument(span)
        .await
    }

    /// Carries units out together, or in halves where that fails.
    async fn carry_out(&self, units: Vec<Box<dyn Unit>>) {
        let mut waiting = vec![units];
        while let Some(mut units) = waiting.pop() {
            match self.attempt(&mut units).await {
                Ok(Attempt::Committed) => answer_all(units, Ok(())),
                Err(error @ (Error::Unavailable(_) | Error::Clock(_))) => {
                    answer_all(units, Err(error));
                }
                Ok(Attempt::Stale) | Err(_) if units.len() > 1 => {
                    let rest = units.split_off(units.len() / 2);
                    waiting.push(rest);
                    waiting.push(units);
                }
                Ok(Attempt::Stale) => self.carry_out_alone(units).await,
                Err(error) => answer_all(units, Err(error)),
            }
        }
    }

    async fn carry_out_alone(&self, mut units: Vec<Box<dyn Unit>>) {
        for tried in 1..SOLO_TRIES_MAX {
            match self.attempt(&mut units).await {
                Ok(Attempt::Committed) => return answer_all(units, Ok(())),
                Ok(Attempt::Stale) => tokio::time::sleep(jitter(tried)).await,
                Err(error) => return answer_all(units, Err(error)),
            }
        }
        answer_all(units, Err(Error::Busy));
    }

    /// An attempt at a batch, repeated when the database was lost in it: units can be, since what
    /// they did is recognised. What another writer's being there has spoilt may be tried again.
    /// Units whose requests another writer has just locked are taken out and come back later. When the
    /// clock by which it was decided proves to be wrong it is decided anew by the database's: what
    /// needs a clock is refused then, and the rest is carried out.
    async fn attempt(&self, units: &mut Vec<Box<dyn Unit>>) -> Result<Attempt, Error> {
        let mut tried = 0;
        let mut apart = None;
        loop {
            tried += 1;
            let leased = self.take_leased(units);
            let attempt = match self.attempt_once(units, &leased, apart).await {
                Err(error) if error.is_contention() => Ok(Attempt::Stale),
                attempt => attempt,
            };
            match attempt {
                // They are taken out, and read next time.
                Ok(Attempt::Stale) if !leased.is_empty() => {}
                Err(Error::Unavailable(_)) if tried < self.patience.attempts_max => {
                    tokio::time::sleep(jitter(6)).await;
                }
                Err(Error::Clock(ClockFault::Apart { database }))
                    if tried < self.patience.attempts_max =>
                {
                    apart = Some(Shown::at_present(database));
                }
                attempt => return attempt,
            }
        }
    }

    /// The requests that answers name, as far as they are known.
    fn take_leased(&self, units: &[Box<dyn Unit>]) -> Recent {
        let needs: Vec<Arc<Needs>> = units.iter().map(|unit| unit.needs()).collect();
        let answers = needs.iter().filter(|needs| needs.answers);
        self.leased.take(answers.flat_map(|needs| &needs.requests))
    }

    async fn attempt_once(
        &self,
        units: &mut Vec<Box<dyn Unit>>,
        leased: &Recent,
        apart: Option<Shown>,
    ) -> Result<Attempt, Error> {
        let postpone = |unit| self.postpone(unit);
        let date = || self.timepiece.date(apart);
        let mut claimed = Vec::new();
        let attempt = self.commit(async |transaction| {
            let records =
                decide(transaction, units, leased, &self.quarantine, postpone, date).await?;
            if units.iter().any(|unit| unit.needs().claim.is_some()) {
                claimed = records.left_requests();
            }
            let is_tested = records.tests(leased);
            let date = *records.date();
            let changes = records.changes();
            if changes.is_empty() && relies_on_time(units) && date.is_to_be_proved() {
                // Nothing will be written that the clocks could be compared in.
                date.check(from_micros(database_now(transaction).await?))?;
            }
            Ok(is_tested.then_some(changes))
        });
        let attempt = attempt.await?;
        if let Attempt::Committed = attempt {
            self.leased.keep(claimed);
        }
        Ok(attempt)
    }

    /// Writes `changes`, which may be decided in the transaction, commits them and tells others;
    /// stale when there are none to be had, or a row was not as it had been loaded.
    async fn commit(
        &self,
        changes: impl AsyncFnOnce(&DatabaseTransaction) -> Result<Option<Changes>, Error>,
    ) -> Result<Attempt, Error> {
        let prepared = tokio::time::timeout(self.patience.work, self.prepare(changes)).await;
        let Some((transaction, committed)) = prepared.unwrap_or_else(|_| Err(Error::too_late()))?
        else {
            return Ok(Attempt::Stale);
        };
        // Given up later than anything else: a server that waits for its standby goes on waiting
        // when nobody listens any more, and keeps the connection.
        let commit = tokio::time::timeout(self.patience.commit, transaction.commit()).await;
        commit.map_err(|_| Error::too_late())??;
        self.announcer.tell(committed);
        Ok(Attempt::Committed)
    }

    /// Everything but the commit.
    async fn prepare(
        &self,
        changes: impl AsyncFnOnce(&DatabaseTransaction) -> Result<Option<Changes>, Error>,
    ) -> Result<Option<(Transaction, Committed)>, Error> {
        let options = write_options(self.connection.get_database_backend());
        let transaction = self.connection.begin(options).await?;
        let saved = async {
            let Some(changes) = changes(&transaction).await? else {
                return Ok(None);
            };
            let announcement = self.announcer.announcement(&changes.committed);
            changes.save(&*transaction, announcement).await
        };
        match saved.await {
            Ok(Some(committed)) => Ok(Some((transaction, committed))),
            Ok(None) => {
                transaction.rollback().await?;
                Ok(None)
            }
            Err(error) => {
                // The first error is the one that says what is wrong.
                let _ = transaction.rollback().await;
                Err(error)
            }
        }
    }

    /// Hands a unit in again after a while, if it is still waited for. Meanwhile the lane is for
    /// others.
    fn postpone(&self, unit: Box<dyn Unit>) {
        let queue = self.queue.clone();
        tokio::spawn(async move {
            tokio::time::sleep(POSTPONED_MIN + jitter(6)).await;
            match queue.upgrade() {
                Some(queue) if unit.is_awaited() => {
                    if let Err(mpsc::error::SendError(unit)) = queue.send(unit).await {
                        unit.answer(Err(Error::Busy));
                    }
                }
                Some(_) | None => unit.answer(Err(Error::Busy)),
            }
        });
    }
}

fn before(write: &Option<JoinHandle<bool>>) -> Before {
    match write {
        Some(write) if !write.is_finished() => Before::UnderWay,
        Some(_) | None => Before::Ended,
    }
}

/// Runs a future on a thread of its own. Among the tasks that answer calls, each answer of the
/// database would wait for all calls that are ready to go on; and all calls wait for a batch.
fn on_own_thread<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let runtime = tokio::runtime::Handle::current();
    let future = future.with_current_subscriber();
    tokio::task::spawn_blocking(move || runtime.block_on(future))
}

/// The pause after a unit has been spoilt so many times: random, and longer each time.
fn jitter(tried: u32) -> Duration {
    Duration::from_micros(random() % (2_000 << tried.min(6)))
}

/// A random number.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn answer_all(units: Vec<Box<dyn Unit>>, committed: Result<(), Error>) {
    for unit in units {
        unit.answer(committed.clone());
    }
}

/// Whether some unit answers by the clock though it changes nothing. A claim that finds nothing gives
/// nothing.
fn relies_on_time(units: &[Box<dyn Unit>]) -> bool {
    units.iter().any(|unit| {
        let needs = unit.needs();
        !needs.at_all_times && needs.claim.is_none()
    })
}

/// Loads what the units need, but for what is `recent`, and lets them decide in the order of their
/// arrival, by what the clock shows then. Units that need what another writer has locked are taken
/// out and postponed.
async fn decide(
    connection: &impl ConnectionTrait,
    units: &mut Vec<Box<dyn Unit>>,
    recent: &Recent,
    quarantine: &Quarantine,
    postpone: impl Fn(Box<dyn Unit>),
    date: impl Fn() -> Date,
) -> Result<Records, Error> {
    let mut needs: Vec<Arc<Needs>> = units.iter().map(|unit| unit.needs()).collect();
    let mut found = find(connection, &needs, recent, quarantine).await?;
    let mut records = Records::new();
    // What is to be changed is locked before the calls are looked up, so that what another writer
    // has carried out is seen. A claim takes what it can have, and tests it when it writes.
    let claims_alone = needs.iter().all(|needs| needs.claim.is_some());
    let lock = if claims_alone {
        Lock::None
    } else {
        Lock::PassOver
    };
    let locked_by_others = records
        .load(connection, named(&needs, &found), lock, recent)
        .await?;
    let due = found.iter().flat_map(|found| &found.messages);
    let due = due.map(|(request, _)| request);
    quarantine.add(due.filter(|key| records.is_undecodable(key)).cloned());
    if !locked_by_others.is_empty() {
        let mut place = 0;
        while let (Some(needed), Some(turned_up)) = (needs.get(place), found.get(place)) {
            let mut named = needed.requests.iter().chain(&turned_up.requests);
            if named.any(|key| locked_by_others.contains(key)) {
                postpone(units.remove(place));
                needs.remove(place);
                found.remove(place);
            } else {
                place += 1;
            }
        }
    }
    let created = needs.iter().filter_map(|needs| needs.creates.clone());
    let changed: Vec<RequestKey> = needs
        .iter()
        .filter(|needs| needs.call.is_some())
        .flat_map(|needs| needs.requests.clone())
        .collect();
    let calls = calls(&needs, &found);
    let repeated = records
        .look_up(connection, created.collect(), &changed, calls, recent)
        .await?;
    records
        .load(connection, repeated, Lock::None, recent)
        .await?;
    records.decide_by(date());
    // One that panics spoils the batch, which is then repeated in halves: it fails alone.
    catch_unwind(AssertUnwindSafe(|| {
        decide_in_order(units, &needs, &found, &mut records);
    }))
    .map_err(|_panic| Error::broken("a decision has panicked"))?;
    Ok(records)
}

/// Lets units decide: claims last, so that what a booking in the same batch ends is not handed out.
fn decide_in_order(
    units: &mut [Box<dyn Unit>],
    needs: &[Arc<Needs>],
    found: &[Found],
    records: &mut Records,
) {
    for claims in [false, true] {
        for ((unit, needs), found) in units.iter_mut().zip(needs).zip(found) {
            if needs.claim.is_some() == claims {
                unit.decide(records, found);
            }
        }
    }
}

/// What each unit's needs turn up. Claims in a batch that want the same messages are asked for
/// together, and each is offered as many as all of them could take.
async fn find(
    connection: &impl ConnectionTrait,
    needs: &[Arc<Needs>],
    recent: &Recent,
    quarantine: &Quarantine,
) -> Result<Vec<Found>, Error> {
    let mut due: Vec<(&Due, Vec<(RequestKey, Uuid)>)> = Vec::new();
    let mut all = Vec::with_capacity(needs.len());
    for needs_of_one in needs {
        let mut found = Found::default();
        if let Some(claim) = &needs_of_one.claim {
            let known = due.iter().find(|(known, _)| **known == claim.due);
            found.messages = match known {
                Some((_, messages)) => messages.clone(),
                None => {
                    let messages =
                        find_due(connection, &claim.due, needs, recent, quarantine).await?;
                    due.push((&claim.due, messages.clone()));
                    messages
                }
            };
        }
        if let Some(scope) = &needs_of_one.patient {
            let unit = scope.care_unit.as_ref();
            found.requests = requests_of(connection, &scope.personal_id, unit).await?;
            found.requests.extend(recent.requests_of(scope));
            found.requests.sort();
            found.requests.dedup();
        }
        all.push(found);
    }
    Ok(all)
}

/// The messages for all claims that want these.
async fn find_due(
    connection: &impl ConnectionTrait,
    due: &Due,
    needs: &[Arc<Needs>],
    recent: &Recent,
    quarantine: &Quarantine,
) -> Result<Vec<(RequestKey, Uuid)>, Error> {
    let claims = needs.iter().filter_map(|needs| needs.claim.as_ref());
    let claims = claims.filter(|claim| claim.due == *due);
    let (now, limit) = claims.fold((Instant::UNIX_EPOCH, 0), |(now, limit), claim| {
        (now.max(claim.now), limit + claim.limit)
    });
    let asked = limit + recent.taken(now);
    let mut found = claimable(connection, due, now, asked, &quarantine.requests()).await?;
    found.retain(|(request, id)| recent.is_due(request, *id, due, now));
    found.truncate(limit);
    Ok(found)
}

/// The requests that the units name or have turned up.
fn named(needs: &[Arc<Needs>], found: &[Found]) -> Vec<RequestKey> {
    let mut named: Vec<RequestKey> = needs.iter().flat_map(|it| it.requests.clone()).collect();
    for found in found {
        named.extend(found.messages.iter().map(|(request, _)| request.clone()));
        named.extend(found.requests.iter().cloned());
    }
    named
}

/// The calls that the units carry out, each with the care unit in which its id counts.
fn calls(needs: &[Arc<Needs>], found: &[Found]) -> Vec<(HsaId, Call)> {
    let mut calls = Vec::new();
    for (needs, found) in needs.iter().zip(found) {
        calls.extend(needs.call.clone());
        if let Some(scope) = &needs.patient {
            calls.push((scope.named(), scope.call.clone()));
            for request in &found.requests {
                calls.push((request.care_unit.clone(), scope.call.clone()));
                calls.push((request.care_unit.clone(), scope.call.on(request)));
            }
        }
    }
    calls
}
