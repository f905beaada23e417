//! Counts of worklists that are kept for a while: many dashboards ask for the same, again and again.
//!
//! A care unit is counted when somebody asks, and the counts are kept until a commit changes one of its requests, the passing of
//! time moves one, or they are old. Every process learns of its own commits at once, and of those of others by the change
//! feed: while that is behind, nothing that was kept is given.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant as Moment;

use crate::domain::calendar::Instant;
use crate::domain::care_units::CareUnits;
use crate::domain::hsa_id::HsaId;
use crate::domain::worklist::Worklist;
use crate::domain::worklist::query::Query;
use crate::store::change_event::ChangeEvent;

/// Maximum time for which counts are kept: a purge in another process tells nobody what it deletes.
const AGE_MAX: Duration = Duration::from_secs(10);
/// Maximum time since the beginning of the last poll of the change feed. The contract promises it.
const FEED_AGE_MAX: Duration = Duration::from_secs(1);
/// Maximum care units of which counts are kept.
const UNITS_MAX: usize = 20_000;

/// The number of requests on each list; empty lists are omitted.
pub type ListCounts = BTreeMap<Worklist, i64>;

/// The kept counts. A clone is another handle to the same.
#[derive(Clone, Default)]
pub struct KeptCounts(Arc<Kept>);

#[derive(Default)]
struct Kept {
    units: Mutex<Units>,
    /// Held by who counts, so that what many ask for is counted once.
    counting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Units {
    by_unit: HashMap<HsaId, Entry>,
    /// Number of counts that have been begun.
    begun: u64,
    /// Beginning of the last poll of the change feed; none before the first.
    followed_at: Option<Moment>,
}

enum Entry {
    /// It is being counted; a commit that changes it takes the entry away.
    Begun(u64),
    Counted(Counted),
}

struct Counted {
    lists: ListCounts,
    /// Instant at which they were counted.
    at: Instant,
    /// Instant from which they may differ.
    until: Option<Instant>,
    /// Moment from which they are too old.
    old_at: Moment,
}

/// A count that has been begun.
pub struct Begun(u64);

impl KeptCounts {
    /// Returns the counts of these care units at `now`, as far as they are known. `has_others` says whether other processes
    /// write to the database.
    pub fn known(
        &self,
        care_units: &[HsaId],
        now: Instant,
        has_others: bool,
    ) -> HashMap<HsaId, ListCounts> {
        let units = self.units();
        let is_recent = |at: Moment| at.elapsed() < FEED_AGE_MAX;
        if has_others && !units.followed_at.is_some_and(is_recent) {
            return HashMap::new();
        }
        let known = |care_unit: &HsaId| {
            let Entry::Counted(counted) = units.by_unit.get(care_unit)? else {
                return None;
            };
            counted
                .is_good(now)
                .then(|| (care_unit.clone(), counted.lists.clone()))
        };
        care_units.iter().filter_map(known).collect()
    }

    /// Waits until nobody else counts.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.counting.lock().await
    }

    /// Notes that these care units are going to be counted, before the state is read of which they are.
    pub fn begin(&self, care_units: &[HsaId]) -> Begun {
        let mut units = self.units();
        if units.by_unit.len() + care_units.len() > UNITS_MAX {
            units.by_unit.clear();
        }
        units.begun += 1;
        let begun = units.begun;
        for care_unit in care_units {
            units.by_unit.insert(care_unit.clone(), Entry::Begun(begun));
        }
        Begun(begun)
    }

    /// Keeps the counts of care units that no commit has changed since the count was begun.
    pub fn keep(
        &self,
        begun: Begun,
        counts: &HashMap<HsaId, ListCounts>,
        at: Instant,
        until: Option<Instant>,
    ) {
        let mut units = self.units();
        for (care_unit, lists) in counts {
            match units.by_unit.get_mut(care_unit) {
                Some(entry @ Entry::Begun(_)) if entry.is_of(&begun) => {
                    *entry = Entry::Counted(Counted {
                        lists: lists.clone(),
                        at,
                        until,
                        old_at: Moment::now() + AGE_MAX,
                    });
                }
                Some(Entry::Begun(_) | Entry::Counted(_)) | None => {}
            }
        }
    }

    /// Forgets the counts that a commit changes.
    pub fn forget(&self, event: &ChangeEvent) {
        let mut units = self.units();
        if event.resync {
            units.by_unit.clear();
        }
        for (key, _) in &event.requests {
            units.by_unit.remove(&key.care_unit);
        }
    }

    /// Returns the moment up to which the commits of others are known; none before the first poll.
    pub fn followed_at(&self) -> Option<Moment> {
        self.units().followed_at
    }

    /// Notes that the commits of others up to this moment are known.
    pub fn note_followed(&self, until: Moment) {
        self.units().followed_at = Some(until);
    }

    fn units(&self) -> MutexGuard<'_, Units> {
        self.0.units.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn is_of(&self, begun: &Begun) -> bool {
        match self {
            Self::Begun(number) => *number == begun.0,
            Self::Counted(_) => false,
        }
    }
}

impl Counted {
    fn is_good(&self, now: Instant) -> bool {
        let is_before_change = self.until.is_none_or(|until| now < until);
        self.at <= now && is_before_change && Moment::now() < self.old_at
    }
}

/// Returns the care units of a query whose counts may be kept: of one that names them and has no filter.
pub fn countable_units(query: &Query) -> Option<&[HsaId]> {
    let CareUnits::These(units) = &query.care_units else {
        return None;
    };
    let unfiltered = Query {
        order_by: query.order_by,
        hides_protected: query.hides_protected,
        ..Query::of(query.worklists.clone(), query.care_units.clone())
    };
    (unfiltered == *query && !query.worklists.contains(&Worklist::All)).then_some(units)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use uuid::Uuid;

    use super::*;
    use crate::domain::request_key::RequestKey;

    fn unit(number: usize) -> HsaId {
        HsaId::from_stored(format!("SE2321000131-P{number}"))
    }

    fn now() -> Instant {
        Instant::UNIX_EPOCH + TimeDelta::days(20_000)
    }

    fn commit(care_unit: HsaId) -> ChangeEvent {
        let id = Uuid::nil();
        ChangeEvent {
            requests: vec![(RequestKey { care_unit, id }, 2)],
            ..ChangeEvent::default()
        }
    }

    /// Counts the first two care units.
    fn count(kept: &KeptCounts, meanwhile: impl FnOnce(&KeptCounts)) {
        let units = [unit(1), unit(2)];
        let begun = kept.begin(&units);
        meanwhile(kept);
        let lists = ListCounts::from([(Worklist::FollowUp, 7)]);
        let counts = units.into_iter().map(|it| (it, lists.clone())).collect();
        kept.keep(begun, &counts, now(), Some(now() + TimeDelta::hours(1)));
    }

    fn known(kept: &KeptCounts, now: Instant) -> Vec<bool> {
        let known = kept.known(&[unit(1), unit(2)], now, false);
        [1, 2].map(|it| known.contains_key(&unit(it))).to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn counts_are_kept_until_a_commit_time_or_age_changes_them() {
        let kept = KeptCounts::default();
        count(&kept, |_| {});
        assert_eq!(known(&kept, now()), [true, true]);
        assert_eq!(known(&kept, now() + TimeDelta::hours(1)), [false, false]);
        assert_eq!(known(&kept, now() - TimeDelta::seconds(1)), [false, false]);
        kept.forget(&commit(unit(1)));
        assert_eq!(known(&kept, now()), [false, true]);
        tokio::time::advance(AGE_MAX).await;
        assert_eq!(known(&kept, now()), [false, false]);
        count(&kept, |_| {});
        kept.forget(&ChangeEvent::resync());
        assert_eq!(known(&kept, now()), [false, false]);
    }

    #[test]
    fn what_a_commit_changes_while_it_is_counted_is_not_kept() {
        let kept = KeptCounts::default();
        count(&kept, |kept| kept.forget(&commit(unit(2))));
        assert_eq!(known(&kept, now()), [true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_that_was_kept_is_given_while_the_change_feed_is_behind() {
        let kept = KeptCounts::default();
        count(&kept, |_| {});
        let known = || kept.known(&[unit(1)], now(), true).len();
        assert_eq!(known(), 0);
        kept.note_followed(Moment::now());
        assert_eq!(known(), 1);
        tokio::time::advance(FEED_AGE_MAX).await;
        assert_eq!(known(), 0);
    }

    #[test]
    fn only_counts_without_filters_are_kept() {
        let units = CareUnits::These(vec![unit(1)]);
        let query = Query::of(vec![Worklist::FollowUp], units.clone());
        assert_eq!(countable_units(&query), Some(&[unit(1)][..]));
        let of_language = Query {
            interpreter_language: Some("ar".into()),
            ..query.clone()
        };
        let every = Query {
            care_units: CareUnits::Every,
            ..query.clone()
        };
        for other in [of_language, every, Query::of(vec![Worklist::All], units)] {
            assert_eq!(countable_units(&other), None);
        }
    }
}
