//! The due timer: wakes subscriptions when notifications of theirs fall due.
//!
//! It knows for each care unit and channel when the next notification becomes claimable: from the due index, which it reads
//! now and then, and from the commits in between.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::MissedTickBehavior;

use super::router::Router;
use super::sleep_until;
use crate::clock::Clock;
use crate::domain::calendar::Instant;
use crate::domain::care_units::CareUnits;
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::DeliveryChannel;
use crate::store::change_event::ChangeEvent;
use crate::store::{Store, retry};

/// Interval at which the due index is read in any case. A wake-up may be missed, and a replica that
/// died has published nothing of the notifications whose leases it released.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

type Claimable = BTreeMap<(HsaId, DeliveryChannel), Instant>;

/// The due timer.
pub struct DueTimer {
    store: Store,
    clock: Clock,
    router: Router,
    /// Instant at which the next notification of each care unit and channel becomes claimable.
    upcoming: Claimable,
    /// The earliest of these, or the next end of a pause.
    next: Option<Instant>,
    /// The next end of a pause.
    pause_ends_at: Option<Instant>,
}

/// The care units in which the due timer looks for what has fallen due.
enum Look {
    /// Care units in which something was to fall due.
    Upcoming,
    /// All.
    Everywhere,
}

impl DueTimer {
    /// Returns a timer that knows of nothing yet.
    pub fn new(store: Store, clock: Clock, router: Router) -> Self {
        Self {
            store,
            clock,
            router,
            upcoming: Claimable::new(),
            next: None,
            pause_ends_at: None,
        }
    }

    /// Wakes subscriptions until there are no more commits.
    pub async fn run(mut self) {
        let mut commits = self.store.commits();
        let mut polls = tokio::time::interval(POLL_INTERVAL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut settings = self.store.settings_changes();
        // Until when all that has fallen due has woken its subscriptions.
        let mut woken = self.clock.now();
        loop {
            let look = tokio::select! {
                commit = commits.recv() => match commit {
                    Ok(committed) if !committed.resync => {
                        self.note_commit(&committed);
                        continue;
                    }
                    Ok(_) | Err(RecvError::Lagged(_)) => Look::Everywhere,
                    Err(RecvError::Closed) => return,
                },
                () = sleep_until(&self.clock, self.next) => Look::Upcoming,
                // A pause may have been set or lifted.
                Ok(()) = settings.changed() => Look::Everywhere,
                // A wake-up may have been missed.
                _ = polls.tick() => Look::Everywhere,
            };
            let now = self.clock.now();
            let pause_ended = self.pause_ends_at.is_some_and(|at| at <= now);
            match look {
                // What fell due before waits there.
                Look::Upcoming if pause_ended => self.look_everywhere(now).await,
                // A clock that was set back makes due again what was due before.
                Look::Upcoming => self.look_at_upcoming(woken.min(now), now).await,
                Look::Everywhere => self.look_everywhere(now).await,
            }
            woken = now;
        }
    }

    /// Wakes the subscriptions that may claim what a commit has made due, and notes what of it falls due later.
    fn note_commit(&mut self, committed: &ChangeEvent) {
        let now = self.clock.now();
        for ((care_unit, channel), at) in &committed.claimable {
            if *at <= now {
                self.router.wake(care_unit, *channel);
                continue;
            }
            self.next = [self.next, Some(*at)].into_iter().flatten().min();
            let place = (care_unit.clone(), *channel);
            let known = self.upcoming.entry(place).or_insert(*at);
            *known = (*at).min(*known);
        }
    }

    /// Looks in every care unit for what is due at `now`.
    async fn look_everywhere(&mut self, now: Instant) {
        let all = self.first_claimable(CareUnits::Every, Instant::UNIX_EPOCH);
        let all = all.await;
        self.upcoming.clear();
        self.wake_and_note(all, now).await;
    }

    /// Looks where something was to fall due for what has become claimable after `since` and until `now`.
    async fn look_at_upcoming(&mut self, since: Instant, now: Instant) {
        let fallen = self.upcoming.iter().filter(|(_, at)| **at <= now);
        let units: BTreeSet<HsaId> = fallen
            .map(|((care_unit, _), _)| care_unit.clone())
            .collect();
        self.upcoming.retain(|_, at| now < *at);
        let units = CareUnits::These(units.into_iter().collect());
        let first = self.first_claimable(units, since).await;
        self.wake_and_note(first, now).await;
    }

    /// Wakes the subscriptions that may claim what has fallen due by `now`, and notes when more does.
    async fn wake_and_note(&mut self, mut first: Claimable, now: Instant) {
        let settings = self.store.settings();
        let paused: BTreeSet<HsaId> = settings.paused_units(now).into_iter().collect();
        first.retain(|(care_unit, _), _| !paused.contains(care_unit));
        let mut fallen = BTreeSet::new();
        for ((care_unit, channel), at) in first {
            if now < at {
                self.upcoming.insert((care_unit, channel), at);
                continue;
            }
            self.router.wake(&care_unit, channel);
            fallen.insert(care_unit);
        }
        let fallen = CareUnits::These(fallen.into_iter().collect());
        self.upcoming
            .extend(self.first_claimable(fallen, now).await);
        let earliest = self.upcoming.values().copied().min();
        self.pause_ends_at = settings.next_pause_end(now);
        self.next = [earliest, self.pause_ends_at].into_iter().flatten().min();
    }

    /// Reads when the first notification becomes claimable after `since` in each of these care units.
    async fn first_claimable(&self, care_units: CareUnits, since: Instant) -> Claimable {
        let first = || self.store.first_claimable(care_units.clone(), since);
        retry::until_answered("the due notifications", first).await
    }
}
