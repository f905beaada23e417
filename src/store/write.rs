//! Writes of requests under idempotency keys, alone or in batches: which request, and what is decided about it.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::join_all;

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::form::{DuplicateKey, Form};
use crate::domain::request_key::RequestKey;
use crate::domain::{Change, Refusal};
use crate::store::Store;
use crate::store::commit::read_set::{ReadSet, Resolved};
use crate::store::commit::unit_of_work::UnitOfWork;
use crate::store::error::Error;
use crate::store::idempotency::IdempotentCall;
use crate::store::placement::{Part, join};

/// Maximum number of requests that the writes of one operation create or change: a batch of single calls stays
/// whole, and one of series is executed in parts that others need not wait for long.
const REQUESTS_MAX: usize = 500;

/// A write of one request.
pub struct Write<D> {
    call: IdempotentCall,
    key: RequestKey,
    /// Duplicate keys of the requests that it creates.
    creates: Vec<DuplicateKey>,
    /// Code of the visit type that the request is given.
    retypes: Option<String>,
    /// True if patients with protected identity are hidden from its caller.
    hides_protected: bool,
    decide: D,
}

/// The request after a write.
#[derive(Clone, Debug)]
pub struct Written {
    /// Request as the write left it or, after a replay, as it stands.
    pub record: BookingRequest,
    /// True if the call was a replay and changed nothing.
    pub replayed: bool,
}

impl<D> Write<D>
where
    D: FnMut(Option<&BookingRequest>) -> Result<Vec<Change>, Refusal> + Send + 'static,
{
    /// Returns the write that creates the `count` requests which `decide` returns, all or none. The first has `key`, and
    /// all have the duplicate key of `form`.
    pub fn create(
        call: IdempotentCall,
        key: RequestKey,
        form: &Form,
        count: usize,
        decide: D,
    ) -> Self {
        Self {
            creates: vec![DuplicateKey::of(&key.care_unit, form); count],
            ..Self::update(call, key, decide)
        }
    }

    /// Returns the write that changes a request as `decide` says, which is also called when there is no such request.
    pub fn update(call: IdempotentCall, key: RequestKey, decide: D) -> Self {
        Self {
            call,
            key,
            creates: Vec::new(),
            retypes: None,
            hides_protected: false,
            decide,
        }
    }

    /// Returns the same write, which gives the request a visit type with this code.
    pub fn retyping(self, code: Option<String>) -> Self {
        Self {
            retypes: code,
            ..self
        }
    }

    /// Returns the same write, for a caller from whom patients with protected identity are hidden or not.
    pub fn hiding_protected(self, hides_protected: bool) -> Self {
        Self {
            hides_protected,
            ..self
        }
    }

    /// Decides over the unit of work, or finds that the call is a replay.
    fn execute(&mut self, work: &mut UnitOfWork) -> Result<Written, Error> {
        if let Some(record) = work.replayed_request(&self.key.care_unit, &self.call)? {
            let record = record.clone();
            return Ok(Written {
                record,
                replayed: true,
            });
        }
        let changes = (self.decide)(work.require(&self.key)?)?;
        work.apply_all(changes, &self.call, self.hides_protected)?;
        let record = work.get(&self.key).cloned();
        Ok(Written {
            record: record.ok_or_else(|| Error::internal("a write without its request"))?,
            replayed: false,
        })
    }
}

/// Returns the request that is given a visit type, and the code of that.
fn retype<D>(write: &Write<D>) -> Option<(RequestKey, String)> {
    Some((write.key.clone(), write.retypes.clone()?))
}

/// Returns the rows that writes need.
fn read_set<D>(writes: &[Write<D>]) -> ReadSet {
    let calls = writes
        .iter()
        .map(|it| (it.key.care_unit.clone(), it.call.clone()));
    let updates = writes.iter().filter(|it| it.creates.is_empty());
    ReadSet {
        calls: calls.collect(),
        requests: updates.map(|it| it.key.clone()).collect(),
        creates: writes.iter().flat_map(|it| it.creates.clone()).collect(),
        retypes: writes.iter().filter_map(retype).collect(),
        hides_protected: writes.iter().any(|it| it.hides_protected),
        ..ReadSet::default()
    }
}

impl Store {
    /// Creates the `count` requests that `decide` returns, all or none, and returns the first, which has `key`. A replay of
    /// `call` returns it in its present state.
    ///
    /// # Errors
    ///
    /// Refusals of `decide`, [`Refusal::Duplicate`], [`Error::RequestIdReused`], and errors of the database.
    pub async fn create(
        &self,
        call: IdempotentCall,
        key: RequestKey,
        form: &Form,
        count: usize,
        mut decide: impl FnMut() -> Result<Vec<Change>, Refusal> + Send + 'static,
    ) -> Result<Written, Error> {
        let decide = move |_: Option<&BookingRequest>| decide();
        let write = Write::create(call, key, form, count, decide);
        self.write(write).await
    }

    /// Changes a request as `decide` says, which is also called when there is no such request. A replay of `call` returns
    /// the request in its present state.
    ///
    /// # Errors
    ///
    /// Refusals of `decide`, [`Refusal::Duplicate`], [`Error::RequestIdReused`], [`Error::Internal`] when the request
    /// cannot be decoded, and errors of the database.
    pub async fn update(
        &self,
        call: IdempotentCall,
        key: RequestKey,
        mut decide: impl FnMut(Option<&BookingRequest>) -> Result<Change, Refusal> + Send + 'static,
    ) -> Result<Written, Error> {
        let decide = move |stored: Option<&BookingRequest>| Ok(vec![decide(stored)?]);
        self.write(Write::update(call, key, decide)).await
    }

    /// Executes a write by itself.
    ///
    /// # Errors
    ///
    /// As of [`Store::create`] and [`Store::update`].
    pub async fn write<D>(&self, mut write: Write<D>) -> Result<Written, Error>
    where
        D: FnMut(Option<&BookingRequest>) -> Result<Vec<Change>, Refusal> + Send + 'static,
    {
        let read_set = read_set(std::slice::from_ref(&write));
        let execute = move |work: &mut UnitOfWork, _: &Resolved| write.execute(work);
        self.call_queue()?.submit(read_set, execute).await
    }

    /// Executes writes, each of which is done or refused by itself. Those of one shard are decided in order and committed
    /// together, and those of several at the same time; when a shard is not available its writes fail, each by itself.
    ///
    /// # Errors
    ///
    /// The database is unavailable, the clock is wrong or the queue is full: a repeat finds what had been done.
    pub async fn write_all<D>(
        &self,
        writes: Vec<Write<D>>,
    ) -> Result<Vec<Result<Written, Error>>, Error>
    where
        D: FnMut(Option<&BookingRequest>) -> Result<Vec<Change>, Refusal> + Send + 'static,
    {
        let parts = self.shards().split(writes, |it| &it.key.care_unit);
        let written = parts.into_iter().map(|part| async {
            let Part { places, elements } = part;
            (places, self.write_shard(elements).await)
        });
        let written = join(join_all(written).await)?;
        Ok(written.into_iter().map(Result::flatten).collect())
    }

    /// Executes writes of one shard as one operation, so that they are decided in order and committed together; each is done or
    /// refused by itself. More than 500 requests are executed in several, one after another. An operation that cannot be
    /// executed as a whole is split in halves, the first before the second, until the write that cannot be executed is
    /// alone.
    ///
    /// # Errors
    ///
    /// The database is unavailable, the clock is wrong or the queue is full: a repeat finds what had been done.
    async fn write_shard<D>(
        &self,
        writes: Vec<Write<D>>,
    ) -> Result<Vec<Result<Written, Error>>, Error>
    where
        D: FnMut(Option<&BookingRequest>) -> Result<Vec<Change>, Refusal> + Send + 'static,
    {
        let mut written = Vec::with_capacity(writes.len());
        let mut waiting = parts(&writes);
        waiting.reverse();
        let writes = Arc::new(Mutex::new(writes));
        while let Some(part) = waiting.pop() {
            match self.write_part(&writes, part.clone()).await {
                Ok(results) => written.extend(results),
                Err(Error::Contention | Error::Internal(_)) if part.len() > 1 => {
                    let middle = part.start + part.len() / 2;
                    waiting.extend([middle..part.end, part.start..middle]);
                }
                Err(error @ (Error::Contention | Error::Internal(_))) => written.push(Err(error)),
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// Executes some of the writes as one operation.
    async fn write_part<D>(
        &self,
        writes: &Arc<Mutex<Vec<Write<D>>>>,
        part: Range<usize>,
    ) -> Result<Vec<Result<Written, Error>>, Error>
    where
        D: FnMut(Option<&BookingRequest>) -> Result<Vec<Change>, Refusal> + Send + 'static,
    {
        let read_set = read_set(&locked(writes)[part.clone()]);
        let writes = Arc::clone(writes);
        let execute = move |work: &mut UnitOfWork, _: &Resolved| {
            let mut writes = locked(&writes);
            let part = writes[part.clone()].iter_mut();
            Ok(part.map(|write| write.execute(work)).collect())
        };
        self.call_queue()?.submit(read_set, execute).await
    }
}

/// Cuts writes into parts of as many requests as one operation may have, or of a single write.
fn parts<D>(writes: &[Write<D>]) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let (mut start, mut requests) = (0, 0);
    for (place, write) in writes.iter().enumerate() {
        let more = write.creates.len().max(1);
        if place > start && requests + more > REQUESTS_MAX {
            parts.push(start..place);
            (start, requests) = (place, 0);
        }
        requests += more;
    }
    parts.extend((start < writes.len()).then_some(start..writes.len()));
    parts
}

/// Locks the writes, after a decision that panicked too.
fn locked<T>(writes: &Mutex<T>) -> MutexGuard<'_, T> {
    writes.lock().unwrap_or_else(|lock| lock.into_inner())
}
