//! The router: takes what a commit changes, and what falls due, to the streams that it concerns and to no others.
//!
//! Each stream has a mailbox in which its news adds up until it looks. A lease's changes go to the stream that claimed it,
//! by the lease's token; changed requests go to the watches and the streams of changes of their care unit; what falls due goes to the subscriptions of
//! its care unit and channel.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

use crate::domain::calendar::Instant;
use crate::domain::care_units::CareUnits;
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::{DeliveryChannel, LeaseRef};
use crate::domain::request_key::RequestKey;
use crate::store::change_event::{ChangeEvent, LeaseChange};

/// Maximum changes that wait in one mailbox. Beyond it the stream reads the state anew.
const CHANGES_MAX: usize = 4_096;
/// Maximum care units that wait in one mailbox because something has fallen due there. Beyond it the stream looks
/// everywhere.
const DUE_UNITS_MAX: usize = 256;

/// The news that a stream is told, beside the changes of the leases that it follows.
#[derive(Clone, Debug)]
pub enum Interest {
    /// Notifications that fall due in these care units, through these channels.
    Due(CareUnits, Vec<DeliveryChannel>),
    /// Changed requests of these care units.
    Requests(CareUnits),
    /// Changed requests of these care units, and how far all commits are known.
    Changes(CareUnits),
}

/// All that has happened since a stream looked last.
#[derive(Debug, Default)]
pub struct News {
    /// Changes of the leases that it follows, in their order.
    pub leases: Vec<(LeaseRef, LeaseChange)>,
    /// Changed requests.
    pub requests: HashSet<RequestKey>,
    /// Care units in which something has fallen due.
    pub due: FallenDue,
    /// True when changes may have been missed, so that the state must be read anew.
    pub resync: bool,
    /// Instant until which all commits are known, if it has come: what they have changed is among this news or has been taken
    /// before.
    pub followed: Option<Instant>,
}

/// The care units in which something has fallen due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FallenDue {
    /// In these; none when nothing has.
    In(BTreeSet<HsaId>),
    /// In any.
    Anywhere,
}

impl Default for FallenDue {
    fn default() -> Self {
        Self::In(BTreeSet::new())
    }
}

impl FallenDue {
    /// Returns whether nothing has fallen due.
    pub fn is_nothing(&self) -> bool {
        match self {
            Self::In(units) => units.is_empty(),
            Self::Anywhere => false,
        }
    }

    fn add(&mut self, care_unit: &HsaId) {
        match self {
            Self::In(units) if units.len() < DUE_UNITS_MAX => {
                units.insert(care_unit.clone());
            }
            Self::In(units) if units.contains(care_unit) => {}
            Self::In(_) => *self = Self::Anywhere,
            Self::Anywhere => {}
        }
    }
}

/// The router. Cloning gives another handle to the same.
#[derive(Clone, Default)]
pub struct Router(Arc<Mutex<Routes>>);

#[derive(Default)]
struct Routes {
    opened: u64,
    streams: HashMap<u64, Stream>,
    /// Streams that named a care unit.
    by_unit: HashMap<HsaId, HashSet<u64>>,
    /// Streams of every care unit, or of all that their caller may see.
    broad: HashSet<u64>,
    /// Streams by the tokens of the leases that they follow.
    by_token: HashMap<Uuid, u64>,
}

struct Stream {
    interest: Interest,
    letters: Arc<Letters>,
}

/// News on their way to one stream.
#[derive(Default)]
struct Letters {
    news: Mutex<News>,
    arrived: Notify,
}

impl Router {
    /// Opens a mailbox, in which news adds up from now on until it is dropped.
    pub fn open(&self, interest: Interest) -> Mailbox {
        let mut routes = self.routes();
        routes.opened += 1;
        let id = routes.opened;
        match interest.care_units() {
            CareUnits::These(units) => {
                for unit in units {
                    routes.by_unit.entry(unit.clone()).or_default().insert(id);
                }
            }
            CareUnits::Every | CareUnits::Within(_) => {
                routes.broad.insert(id);
            }
        }
        let letters = Arc::<Letters>::default();
        let stream = Stream {
            interest,
            letters: Arc::clone(&letters),
        };
        routes.streams.insert(id, stream);
        Mailbox {
            router: self.clone(),
            id,
            letters,
        }
    }

    /// Takes the changes of a commit to the streams that follow them.
    pub fn route(&self, event: &ChangeEvent) {
        if event.resync {
            return self.resync();
        }
        let routes = self.routes();
        for (lease, change) in &event.leases {
            let stream = routes.by_token.get(&lease.token);
            if let Some(stream) = stream.and_then(|id| routes.streams.get(id)) {
                let change = (lease.clone(), *change);
                stream.letters.add(|news| news.leases.push(change));
            }
        }
        for (key, _) in &event.requests {
            for stream in routes.of(&key.care_unit) {
                match &stream.interest {
                    Interest::Requests(_) | Interest::Changes(_) => stream.letters.add(|news| {
                        news.requests.insert(key.clone());
                    }),
                    Interest::Due(..) => {}
                }
            }
        }
        if let Some(until) = event.followed {
            for stream in routes.streams.values() {
                match &stream.interest {
                    Interest::Changes(_) => {
                        stream.letters.add(|news| news.followed = Some(until));
                    }
                    Interest::Due(..) | Interest::Requests(_) => {}
                }
            }
        }
    }

    /// Wakes the subscriptions that may claim what has fallen due in a care unit, through a channel.
    pub fn wake(&self, care_unit: &HsaId, channel: DeliveryChannel) {
        for stream in self.routes().of(care_unit) {
            stream.wake(care_unit, channel);
        }
    }

    /// Tells every stream to read the state anew.
    pub fn resync(&self) {
        for stream in self.routes().streams.values() {
            stream.letters.add(|news| {
                news.due = FallenDue::Anywhere;
                news.resync = true;
            });
        }
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Routes {
    /// Returns the streams with an interest in a care unit.
    fn of(&self, care_unit: &HsaId) -> impl Iterator<Item = &Stream> {
        let named = self.by_unit.get(care_unit).into_iter().flatten();
        let streams = named.chain(&self.broad);
        let streams = streams.filter_map(|id| self.streams.get(id));
        streams.filter(|stream| stream.interest.care_units().contains(care_unit))
    }
}

impl Interest {
    fn care_units(&self) -> &CareUnits {
        match self {
            Self::Due(care_units, _) | Self::Requests(care_units) | Self::Changes(care_units) => {
                care_units
            }
        }
    }
}

impl Stream {
    /// Wakes a subscription to this channel, one of whose care units this is.
    fn wake(&self, care_unit: &HsaId, channel: DeliveryChannel) {
        match &self.interest {
            Interest::Due(_, channels) if channels.contains(&channel) => {
                self.letters.add(|news| news.due.add(care_unit));
            }
            Interest::Due(..) | Interest::Requests(_) | Interest::Changes(_) => {}
        }
    }
}

impl Letters {
    /// Adds to the news, and wakes the stream.
    fn add(&self, add: impl FnOnce(&mut News)) {
        let mut news = self.news();
        add(&mut news);
        if news.resync || news.leases.len() + news.requests.len() > CHANGES_MAX {
            // What the stream reads anew has these changes.
            *news = News {
                due: mem::take(&mut news.due),
                followed: news.followed,
                resync: true,
                ..News::default()
            };
        }
        drop(news);
        self.arrived.notify_one();
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mailbox of one stream.
pub struct Mailbox {
    router: Router,
    id: u64,
    letters: Arc<Letters>,
}

impl Mailbox {
    /// Follows the leases with these tokens, from before they are made: no change of one is missed. Each is followed until
    /// its route is dropped.
    pub fn follow(&self, tokens: &[Uuid]) -> HashMap<Uuid, Route> {
        let mut routes = self.router.routes();
        let follow = |token: &Uuid| {
            routes.by_token.insert(*token, self.id);
            let route = Route {
                router: self.router.clone(),
                token: *token,
            };
            (*token, route)
        };
        tokens.iter().map(follow).collect()
    }

    /// Takes the news out. What has fallen due stays unless it is asked for, with `with_due`.
    pub fn take(&self, with_due: bool) -> News {
        let mut news = self.letters.news();
        let mut taken = mem::take(&mut *news);
        if !with_due {
            news.due = mem::take(&mut taken.due);
        }
        taken
    }

    /// Waits until there is news; with `with_due` also until something has fallen due.
    pub async fn arrived(&self, with_due: bool) {
        loop {
            let is_there = {
                let news = self.letters.news();
                let changes = !news.leases.is_empty() || !news.requests.is_empty();
                changes
                    || news.resync
                    || news.followed.is_some()
                    || with_due && !news.due.is_nothing()
            };
            if is_there {
                return;
            }
            self.letters.arrived.notified().await;
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        let mut routes = self.router.routes();
        routes.broad.remove(&self.id);
        let Some(stream) = routes.streams.remove(&self.id) else {
            return;
        };
        if let CareUnits::These(units) = stream.interest.care_units() {
            for unit in units {
                let Some(streams) = routes.by_unit.get_mut(unit) else {
                    continue;
                };
                streams.remove(&self.id);
                if streams.is_empty() {
                    routes.by_unit.remove(unit);
                }
            }
        }
    }
}

/// The way of a lease's changes to the stream that follows it, until it is dropped.
pub struct Route {
    router: Router,
    token: Uuid,
}

impl Drop for Route {
    fn drop(&mut self) {
        self.router.routes().by_token.remove(&self.token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str) -> HsaId {
        HsaId::from_stored(format!("SE2321000131-{name}"))
    }

    fn lease(token: u128) -> LeaseRef {
        LeaseRef {
            request: key("P1", 1),
            notification: Uuid::from_u128(2),
            token: Uuid::from_u128(token),
        }
    }

    fn key(name: &str, id: u128) -> RequestKey {
        RequestKey {
            care_unit: unit(name),
            id: Uuid::from_u128(id),
        }
    }

    fn due(care_units: CareUnits) -> Interest {
        Interest::Due(care_units, vec![DeliveryChannel::Letter])
    }

    #[test]
    fn what_falls_due_wakes_those_of_its_care_unit_and_channel_alone() {
        let router = Router::default();
        let mine = router.open(due(CareUnits::These(vec![unit("P1"), unit("P3")])));
        let other = router.open(due(CareUnits::These(vec![unit("P2")])));
        let every = router.open(due(CareUnits::Every));
        let watch = router.open(Interest::Requests(CareUnits::Every));
        router.wake(&unit("P1"), DeliveryChannel::Letter);
        let woken = [&mine, &other, &every, &watch].map(|it| it.take(true).due);
        let there = FallenDue::In(BTreeSet::from([unit("P1")]));
        let nothing = FallenDue::default();
        assert_eq!(woken, [there.clone(), nothing.clone(), there, nothing]);
        router.wake(&unit("P1"), DeliveryChannel::Inbox);
        assert!(mine.take(true).due.is_nothing() && every.take(true).due.is_nothing());
    }

    #[test]
    fn a_stream_for_which_too_much_has_fallen_due_looks_everywhere() {
        let router = Router::default();
        let every = router.open(due(CareUnits::Every));
        for number in 0..DUE_UNITS_MAX {
            router.wake(&unit(&format!("P{number}")), DeliveryChannel::Letter);
        }
        router.wake(&unit("P1"), DeliveryChannel::Letter);
        assert!(
            matches!(every.take(true).due, FallenDue::In(units) if units.len() == DUE_UNITS_MAX)
        );
        for number in 0..=DUE_UNITS_MAX {
            router.wake(&unit(&format!("P{number}")), DeliveryChannel::Letter);
        }
        assert_eq!(every.take(true).due, FallenDue::Anywhere);
    }

    #[test]
    fn the_changes_of_a_lease_go_to_the_stream_that_follows_it() {
        let router = Router::default();
        let (mine, other) = (
            router.open(due(CareUnits::Every)),
            router.open(due(CareUnits::Every)),
        );
        let mut routes = mine.follow(&[Uuid::from_u128(7), Uuid::from_u128(8)]);
        let event = |tokens: &[u128]| ChangeEvent {
            leases: tokens
                .iter()
                .map(|it| (lease(*it), LeaseChange::Ended))
                .collect(),
            ..ChangeEvent::default()
        };
        router.route(&event(&[7, 8, 9]));
        let told: Vec<_> = mine.take(false).leases.into_iter().map(|it| it.0).collect();
        assert_eq!(told, [lease(7), lease(8)]);
        assert!(other.take(false).leases.is_empty());
        routes.remove(&Uuid::from_u128(7));
        router.route(&event(&[7, 8]));
        assert_eq!(mine.take(false).leases, [(lease(8), LeaseChange::Ended)]);
        drop((routes, mine, other));
        let left = router.routes();
        assert!(left.by_token.is_empty() && left.streams.is_empty() && left.broad.is_empty());
    }

    #[test]
    fn what_is_due_stays_until_it_is_asked_for() {
        let router = Router::default();
        let mailbox = router.open(due(CareUnits::Every));
        router.wake(&unit("P1"), DeliveryChannel::Letter);
        assert!(mailbox.take(false).due.is_nothing());
        assert!(!mailbox.take(true).due.is_nothing());
        assert!(mailbox.take(true).due.is_nothing());
    }

    #[test]
    fn how_far_commits_are_known_comes_after_what_they_have_changed() {
        let router = Router::default();
        let changes = router.open(Interest::Changes(CareUnits::Every));
        let watch = router.open(Interest::Requests(CareUnits::Every));
        let event = |count: u128| ChangeEvent {
            requests: (0..count).map(|id| (key("P1", id), 1)).collect(),
            ..ChangeEvent::default()
        };
        let until = crate::domain::calendar::from_micros(7);
        router.route(&event(3));
        router.route(&ChangeEvent::followed(until));
        let news = changes.take(false);
        assert_eq!((news.requests.len(), news.followed), (3, Some(until)));
        assert_eq!(changes.take(false).followed, None);
        assert_eq!(watch.take(false).followed, None);
        // It is known all the same when there was too much to keep.
        router.route(&ChangeEvent::followed(until));
        router.route(&event(CHANGES_MAX as u128 + 1));
        let news = changes.take(false);
        assert_eq!((news.resync, news.followed), (true, Some(until)));
    }

    #[test]
    fn too_many_changes_become_one_look_at_everything() {
        let router = Router::default();
        let watch = router.open(Interest::Requests(CareUnits::These(vec![unit("P1")])));
        let event = |count: u128| ChangeEvent {
            requests: (0..count).map(|id| (key("P1", id), 1)).collect(),
            ..ChangeEvent::default()
        };
        router.route(&event(3));
        router.route(&event(2));
        let news = watch.take(false);
        assert_eq!((news.requests.len(), news.resync), (3, false));
        router.route(&event(CHANGES_MAX as u128 + 1));
        let news = watch.take(false);
        assert_eq!((news.requests.len(), news.resync), (0, true));
    }
}
