//! How much is under way: counted for everybody together, for each caller, and for each connection.
//! What would pass a limit is refused at once, so that nobody waits for another's places.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Limits;

/// One address of IPv6 is as cheap as another in a network of this many bits.
const IPV6_NETWORK_BITS: u32 = 64;

/// The most of one kind that may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// By all callers together.
    pub all: usize,
    /// By one caller, over all its connections. Generous, for a proxy may carry many callers.
    pub caller: usize,
    /// On one connection.
    pub connection: usize,
}

impl Bounds {
    /// Returns the same limit for one connection as for all.
    pub const fn shared(max: usize) -> Self {
        Self {
            all: max,
            caller: max,
            connection: max,
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A call of ours that is answered at once.
    Call,
    /// A stream, mostly silent.
    Stream,
    /// A health check.
    Check,
    /// A byte that is kept until the rest of its request has come, or until its answer is read.
    Byte,
    /// A connection.
    Connection,
}

const KINDS: usize = 5;

/// There is no room left under a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitReached;

/// How much of each kind there is.
#[derive(Debug, Default)]
struct Load([AtomicUsize; KINDS]);

impl Load {
    fn count(&self, kind: Kind) -> usize {
        self.0[kind as usize].load(Ordering::Relaxed)
    }

    fn add(&self, kind: Kind, amount: usize, max: usize) -> Result<(), LimitReached> {
        let counter = &self.0[kind as usize];
        let raised = |count: usize| count.checked_add(amount).filter(|sum| *sum <= max);
        let added = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised);
        added.map(|_| ()).map_err(|_| LimitReached)
    }

    fn subtract(&self, kind: Kind, amount: usize) {
        self.0[kind as usize].fetch_sub(amount, Ordering::Relaxed);
    }
}

/// Who is counted as one; by the address until there is something better to go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Caller {
    Address(IpAddr),
}

impl Caller {
    /// Returns the caller at an address, or in its network where addresses are given out by the network.
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

/// All that is under way.
#[derive(Debug)]
pub struct Everybody {
    limits: Limits,
    load: Load,
    callers: Mutex<HashMap<Caller, Weak<OneCaller>>>,
}

impl Everybody {
    /// Nothing under way yet.
    pub fn within(limits: Limits) -> Arc<Self> {
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
    /// It is one too many.
    pub fn connect(self: &Arc<Self>, address: IpAddr) -> Result<Arc<Connection>, LimitReached> {
        let caller = self.caller(Caller::at(address));
        let Bounds {
            all, caller: each, ..
        } = self.limits.connections;
        caller.load.add(Kind::Connection, 1, each)?;
        if let Err(full) = self.load.add(Kind::Connection, 1, all) {
            caller.load.subtract(Kind::Connection, 1);
            return Err(full);
        }
        Ok(Arc::new(Connection {
            load: Load::default(),
            caller,
        }))
    }

    fn caller(self: &Arc<Self>, key: Caller) -> Arc<OneCaller> {
        let mut callers = self.callers();
        if let Some(known) = callers.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let caller = Arc::new(OneCaller {
            key,
            load: Load::default(),
            everybody: self.clone(),
        });
        callers.insert(key, Arc::downgrade(&caller));
        caller
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<Caller, Weak<OneCaller>>> {
        // Nothing that could panic is done under the lock.
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one caller has under way.
#[derive(Debug)]
struct OneCaller {
    key: Caller,
    load: Load,
    everybody: Arc<Everybody>,
}

impl Drop for OneCaller {
    fn drop(&mut self) {
        let mut callers = self.everybody.callers();
        // The same caller may have come back between its last count and this.
        if callers
            .get(&self.key)
            .is_some_and(|it| it.strong_count() == 0)
        {
            callers.remove(&self.key);
        }
    }
}

/// What one connection has under way. Counted itself until it, and all on it, has ended.
#[derive(Debug)]
pub struct Connection {
    load: Load,
    caller: Arc<OneCaller>,
}

impl Connection {
    /// Counts more of a kind for as long as what is returned is kept.
    ///
    /// # Errors
    ///
    /// It is more than there is room for here, for the caller, or for all.
    pub fn take(self: &Arc<Self>, kind: Kind, amount: usize) -> Result<Held, LimitReached> {
        let mut held = Held {
            connection: self.clone(),
            kind,
            amount: 0,
        };
        held.take(amount)?;
        Ok(held)
    }

    /// Counts more of a kind, though it may pass a limit.
    pub fn take_anyway(self: &Arc<Self>, kind: Kind, amount: usize) -> Held {
        for (load, _) in self.levels(kind) {
            load.0[kind as usize].fetch_add(amount, Ordering::Relaxed);
        }
        Held {
            connection: self.clone(),
            kind,
            amount,
        }
    }

    /// Returns whether one more of a kind would be refused.
    pub fn is_full(&self, kind: Kind) -> bool {
        self.levels(kind)
            .iter()
            .any(|(load, max)| load.count(kind) >= *max)
    }

    /// Returns how much of a kind there is on this connection alone.
    pub fn count(&self, kind: Kind) -> usize {
        self.load.count(kind)
    }

    /// Returns where a kind is counted, the narrowest first, and how much of it may be there.
    fn levels(&self, kind: Kind) -> [(&Load, usize); 3] {
        let everybody = &self.caller.everybody;
        let Bounds {
            all,
            caller,
            connection,
        } = everybody.limits.bounds(kind);
        [
            (&self.load, connection),
            (&self.caller.load, caller),
            (&everybody.load, all),
        ]
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.caller.load.subtract(Kind::Connection, 1);
        self.caller.everybody.load.subtract(Kind::Connection, 1);
    }
}

/// So much of a kind, counted until it is dropped.
#[derive(Debug)]
pub struct Held {
    connection: Arc<Connection>,
    kind: Kind,
    amount: usize,
}

impl Held {
    /// Counts more of the same.
    ///
    /// # Errors
    ///
    /// There is no room for it; what was held before is held on.
    pub fn take(&mut self, amount: usize) -> Result<(), LimitReached> {
        let levels = self.connection.levels(self.kind);
        for (at, (load, max)) in levels.iter().enumerate() {
            if let Err(full) = load.add(self.kind, amount, *max) {
                for (load, _) in &levels[..at] {
                    load.subtract(self.kind, amount);
                }
                return Err(full);
            }
        }
        self.amount += amount;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for (load, _) in self.connection.levels(self.kind) {
            load.subtract(self.kind, self.amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn everybody() -> Arc<Everybody> {
        let bounds = Bounds {
            all: 4,
            caller: 3,
            connection: 2,
        };
        Everybody::within(Limits {
            calls: bounds,
            connections: bounds,
            ..Limits::default()
        })
    }

    #[test]
    fn each_limit_holds_and_what_is_refused_counts_nowhere() {
        let everybody = everybody();
        let connect = |address| everybody.connect(address).expect("room");
        let (first, second, other) = (connect(HERE), connect(HERE), connect(THERE));
        let take = |it: &Arc<Connection>| it.take(Kind::Call, 1);
        let mut held = vec![take(&first).expect("one"), take(&first).expect("two")];
        assert_eq!(take(&first).err(), Some(LimitReached), "on one connection");
        held.push(take(&second).expect("three"));
        assert_eq!(take(&second).err(), Some(LimitReached), "of one caller");
        held.push(take(&other).expect("four"));
        assert_eq!(take(&other).err(), Some(LimitReached), "of all");
        assert!(other.is_full(Kind::Call) && !other.is_full(Kind::Stream));
        for _ in 0..9 {
            take(&other).unwrap_err();
        }
        held.truncate(0);
        take(&first).expect("they were given back");
        assert_eq!(first.count(Kind::Call) + second.count(Kind::Call), 0);
    }

    #[test]
    fn more_is_held_as_it_comes_and_given_back_at_once() {
        let everybody = everybody();
        let connection = everybody.connect(HERE).expect("room");
        let mut held = connection.take(Kind::Call, 1).expect("room");
        held.take(1).expect("room");
        assert_eq!(held.take(1), Err(LimitReached));
        assert_eq!(connection.count(Kind::Call), 2);
        drop(held);
        assert_eq!(connection.count(Kind::Call), 0);
        drop(connection.take_anyway(Kind::Call, 9));
        assert!(!connection.is_full(Kind::Call));
    }

    #[test]
    fn a_caller_has_its_share_of_the_connections_and_is_forgotten_with_the_last() {
        let everybody = everybody();
        let mut open: Vec<_> = (0..3).map(|_| everybody.connect(HERE)).collect();
        assert!(open.iter().all(Result::is_ok));
        assert!(everybody.connect(HERE).is_err());
        let other = everybody.connect(THERE).expect("others have room");
        assert!(everybody.connect(THERE).is_err(), "all are four");
        let held = other.take(Kind::Call, 1).expect("room");
        drop(other);
        assert_eq!(everybody.callers().len(), 2, "a call is still on it");
        drop(held);
        open.clear();
        assert!(everybody.callers().is_empty());
        assert_eq!(everybody.load.count(Kind::Connection), 0);
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
