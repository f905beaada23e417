//! Load: calls, streams, bytes and connections, counted in all, by caller and by connection, and by subject
//! once the caller is authenticated. A permit that would pass a limit is refused at once, so that no caller
//! waits for another one's permits.
//!
//! tower's `ConcurrencyLimit` and `LoadShed` know no callers, and give a permit back when the response
//! begins, not when it has been sent. Nor would tokio's `Semaphore` do: some permits are given beyond the
//! limit, since a write that is committed has to be answered.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Limits;

/// Bits of an IPv6 network that counts as one caller: addresses within it cost nothing.
const IPV6_NETWORK_BITS: u32 = 64;

/// Maximum amounts of one resource in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Maximum of all callers together.
    pub all: usize,
    /// Maximum of one address, over all its connections. Generous, for a proxy may carry many callers.
    pub caller: usize,
    /// Maximum of one subject, over all its connections and addresses.
    pub subject: usize,
    /// Maximum on one connection.
    pub connection: usize,
}

impl Bounds {
    /// Returns the same maximum for one connection, one caller, one subject and all callers.
    pub const fn shared(max: usize) -> Self {
        Self {
            all: max,
            caller: max,
            subject: max,
            connection: max,
        }
    }
}

/// Resource of which permits are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A unary call of ours.
    Call,
    /// A stream, mostly silent.
    Stream,
    /// A health check.
    Check,
    /// A byte that is kept until the rest of its request is received, or until its response is read.
    Byte,
    /// A connection.
    Connection,
}

const RESOURCES: usize = 5;

/// A permit was refused because of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitReached;

/// The amounts in use, by resource.
#[derive(Debug, Default)]
struct Load([AtomicUsize; RESOURCES]);

impl Load {
    fn count(&self, resource: Resource) -> usize {
        self.0[resource as usize].load(Ordering::Relaxed)
    }

    fn add(&self, resource: Resource, amount: usize, max: usize) -> Result<(), LimitReached> {
        let counter = &self.0[resource as usize];
        let raised = |count: usize| count.checked_add(amount).filter(|sum| *sum <= max);
        let added = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised);
        added.map(|_| ()).map_err(|_| LimitReached)
    }

    fn subtract(&self, resource: Resource, amount: usize) {
        self.0[resource as usize].fetch_sub(amount, Ordering::Relaxed);
    }
}

/// A caller, known by its address until it is authenticated.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Caller {
    /// An address, or a network of IPv6.
    Address(IpAddr),
    /// A subject.
    Subject(Arc<str>),
}

impl fmt::Debug for Caller {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Caller")
    }
}

impl Caller {
    /// Returns the caller at an address. For IPv6 it is the network, of which one caller may have all
    /// addresses.
    fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) & (u128::MAX << (128 - IPV6_NETWORK_BITS));
                Ipv6Addr::from(network).into()
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// The load of all callers together.
#[derive(Debug)]
pub struct TotalLoad {
    limits: Limits,
    load: Load,
    callers: Mutex<HashMap<Caller, Weak<CallerLoad>>>,
}

impl TotalLoad {
    /// Returns an empty load with these limits.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            load: Load::default(),
            callers: Mutex::default(),
        })
    }

    /// Counts a connection from this address.
    ///
    /// # Errors
    ///
    /// The limits allow no further connection.
    pub fn connect(self: &Arc<Self>, address: IpAddr) -> Result<Connection, LimitReached> {
        let caller = self.caller(Caller::at(address));
        let Bounds {
            all, caller: each, ..
        } = self.limits.connections;
        caller.load.add(Resource::Connection, 1, each)?;
        if let Err(full) = self.load.add(Resource::Connection, 1, all) {
            caller.load.subtract(Resource::Connection, 1);
            return Err(full);
        }
        let load = Load::default();
        Ok(Connection {
            line: Arc::new(Line { load, caller }),
            subject: None,
        })
    }

    fn caller(self: &Arc<Self>, key: Caller) -> Arc<CallerLoad> {
        let mut callers = self.callers();
        if let Some(known) = callers.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let caller = Arc::new(CallerLoad {
            key: key.clone(),
            load: Load::default(),
            total: self.clone(),
        });
        callers.insert(key, Arc::downgrade(&caller));
        caller
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<Caller, Weak<CallerLoad>>> {
        // Nothing that could panic runs under the lock.
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The load of one caller.
#[derive(Debug)]
struct CallerLoad {
    key: Caller,
    load: Load,
    total: Arc<TotalLoad>,
}

impl Drop for CallerLoad {
    fn drop(&mut self) {
        let mut callers = self.total.callers();
        // The same caller may have connected again since its last permit was dropped.
        if callers
            .get(&self.key)
            .is_some_and(|it| it.strong_count() == 0)
        {
            callers.remove(&self.key);
        }
    }
}

/// The load of one subject.
#[derive(Debug)]
pub struct SubjectLoad {
    load: Load,
    limits: Limits,
}

impl SubjectLoad {
    /// Returns an empty load with these limits.
    pub fn new(limits: Limits) -> Arc<Self> {
        let load = Load::default();
        Arc::new(Self { load, limits })
    }

    /// Returns the load, and its limit for a resource.
    fn level(&self, resource: Resource) -> (&Load, usize) {
        (&self.load, self.limits.bounds(resource).subject)
    }
}

/// A connection, which counts as one itself until it and every permit on it is dropped.
#[derive(Debug)]
struct Line {
    load: Load,
    caller: Arc<CallerLoad>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.caller.load.subtract(Resource::Connection, 1);
        self.caller.total.load.subtract(Resource::Connection, 1);
    }
}

/// A connection, as it or one subject on it uses it. Clones are the same.
#[derive(Clone, Debug)]
pub struct Connection {
    line: Arc<Line>,
    subject: Option<Arc<SubjectLoad>>,
}

impl Connection {
    /// Returns the same connection for calls of a subject.
    pub fn of(&self, subject: Option<Arc<SubjectLoad>>) -> Self {
        Self {
            line: self.line.clone(),
            subject,
        }
    }

    /// Returns the caller at the other end, by its address.
    pub fn caller(&self) -> &Caller {
        &self.line.caller.key
    }

    /// Acquires a permit for an amount of a resource.
    ///
    /// # Errors
    ///
    /// It would pass the limit of this connection, of its caller, of its subject, or of all callers.
    pub fn acquire(&self, resource: Resource, amount: usize) -> Result<Permit, LimitReached> {
        let mut permit = self.acquire_unchecked(resource, 0);
        permit.grow(amount)?;
        Ok(permit)
    }

    /// Acquires a permit though it may pass a limit.
    pub fn acquire_unchecked(&self, resource: Resource, amount: usize) -> Permit {
        for (load, _) in self.levels(resource) {
            load.0[resource as usize].fetch_add(amount, Ordering::Relaxed);
        }
        Permit {
            connection: self.clone(),
            resource,
            amount,
        }
    }

    /// Returns whether one more of a resource would be refused.
    pub fn is_full(&self, resource: Resource) -> bool {
        self.levels(resource)
            .any(|(load, max)| load.count(resource) >= max)
    }

    /// Returns the amount of a resource in use on this connection alone.
    pub fn count(&self, resource: Resource) -> usize {
        self.line.load.count(resource)
    }

    /// Returns the loads in which a resource is counted, the narrowest first, each with its limit.
    fn levels(&self, resource: Resource) -> impl Iterator<Item = (&Load, usize)> {
        let total = &self.line.caller.total;
        let Bounds {
            all,
            caller,
            connection,
            subject: _,
        } = total.limits.bounds(resource);
        let subject = self.subject.as_ref().map(|it| it.level(resource));
        let levels = [
            Some((&self.line.load, connection)),
            subject,
            Some((&self.line.caller.load, caller)),
            Some((&total.load, all)),
        ];
        levels.into_iter().flatten()
    }
}

/// A permit for an amount of a resource, which is counted until the permit is dropped.
#[derive(Debug)]
pub struct Permit {
    connection: Connection,
    resource: Resource,
    amount: usize,
}

impl Permit {
    /// Adds an amount to the permit.
    ///
    /// # Errors
    ///
    /// It would pass a limit; the permit stays as it was.
    pub fn grow(&mut self, amount: usize) -> Result<(), LimitReached> {
        let levels = || self.connection.levels(self.resource);
        for (at, (load, max)) in levels().enumerate() {
            if let Err(full) = load.add(self.resource, amount, max) {
                for (load, _) in levels().take(at) {
                    load.subtract(self.resource, amount);
                }
                return Err(full);
            }
        }
        self.amount += amount;
        Ok(())
    }

    /// Counts the permit as one of a subject too.
    ///
    /// # Errors
    ///
    /// It would pass the limit of the subject; the permit stays as it was.
    pub fn charge(&mut self, subject: Arc<SubjectLoad>) -> Result<(), LimitReached> {
        let (load, max) = subject.level(self.resource);
        load.add(self.resource, self.amount, max)?;
        self.connection.subject = Some(subject);
        Ok(())
    }

    /// Returns what the permit is for.
    pub fn resource(&self) -> Resource {
        self.resource
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        for (load, _) in self.connection.levels(self.resource) {
            load.subtract(self.resource, self.amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn total() -> Arc<TotalLoad> {
        let bounds = Bounds {
            all: 4,
            caller: 3,
            subject: 1,
            connection: 2,
        };
        TotalLoad::new(Limits {
            calls: bounds,
            connections: bounds,
            ..Limits::default()
        })
    }

    #[test]
    fn each_limit_holds_and_what_is_refused_counts_nowhere() {
        let total = total();
        let connect = |address| total.connect(address).expect("room");
        let (first, second, other) = (connect(HERE), connect(HERE), connect(THERE));
        let take = |it: &Connection| it.acquire(Resource::Call, 1);
        let mut permit = vec![take(&first).expect("one"), take(&first).expect("two")];
        assert_eq!(take(&first).err(), Some(LimitReached), "on one connection");
        permit.push(take(&second).expect("three"));
        assert_eq!(take(&second).err(), Some(LimitReached), "of one caller");
        permit.push(take(&other).expect("four"));
        assert_eq!(take(&other).err(), Some(LimitReached), "of all");
        assert!(other.is_full(Resource::Call) && !other.is_full(Resource::Stream));
        for _ in 0..9 {
            take(&other).unwrap_err();
        }
        permit.truncate(0);
        take(&first).expect("they were released");
        assert_eq!(
            first.count(Resource::Call) + second.count(Resource::Call),
            0
        );
    }

    #[test]
    fn a_permit_grows_and_is_released_at_once() {
        let total = total();
        let connection = total.connect(HERE).expect("room");
        let mut permit = connection.acquire(Resource::Call, 1).expect("room");
        permit.grow(1).expect("room");
        assert_eq!(permit.grow(1), Err(LimitReached));
        assert_eq!(connection.count(Resource::Call), 2);
        drop(permit);
        assert_eq!(connection.count(Resource::Call), 0);
        drop(connection.acquire_unchecked(Resource::Call, 9));
        assert!(!connection.is_full(Resource::Call));
    }

    #[test]
    fn a_caller_has_its_share_of_the_connections_and_is_forgotten_with_the_last() {
        let total = total();
        let mut open: Vec<_> = (0..3).map(|_| total.connect(HERE)).collect();
        assert!(open.iter().all(Result::is_ok));
        assert!(total.connect(HERE).is_err());
        let other = total.connect(THERE).expect("others have room");
        assert!(total.connect(THERE).is_err(), "all are four");
        let permit = other.acquire(Resource::Call, 1).expect("room");
        drop(other);
        assert_eq!(total.callers().len(), 2, "a call is still on it");
        drop(permit);
        open.clear();
        assert!(total.callers().is_empty());
        assert_eq!(total.load.count(Resource::Connection), 0);
    }

    #[test]
    fn a_subject_has_its_share_over_all_its_connections() {
        let total = total();
        let connect = |address| total.connect(address).expect("room");
        let (first, second) = (connect(HERE), connect(THERE));
        let one = SubjectLoad::new(total.limits);
        let other = SubjectLoad::new(total.limits);
        let mut permit = first.acquire(Resource::Call, 1).expect("room");
        permit.charge(one.clone()).expect("the first");
        let mut further = second.acquire(Resource::Call, 1).expect("room");
        assert_eq!(further.charge(one.clone()), Err(LimitReached));
        further.charge(other).expect("another subject");
        let by_one = second.of(Some(one.clone()));
        assert!(by_one.is_full(Resource::Call) && !second.is_full(Resource::Call));
        assert!(by_one.acquire(Resource::Call, 1).is_err());
        drop(permit);
        assert_eq!(one.load.count(Resource::Call), 0);
        assert!(by_one.acquire(Resource::Call, 1).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_caller() {
        let caller = |text: &str| Caller::at(text.parse().expect("an address"));
        assert_eq!(caller("2001:db8::1"), caller("2001:db8::ffff:1"));
        assert_ne!(caller("2001:db8::1"), caller("2001:db8:0:1::1"));
        assert_eq!(caller("::ffff:192.0.2.1"), caller("192.0.2.1"));
        assert_ne!(caller("192.0.2.2"), caller("192.0.2.1"));
    }
}
