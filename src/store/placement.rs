//! Placement of rows: the shards over which buckets are spread.
//!
//! On SQLite, and on PostgreSQL by itself, everything lies in one place, and statements name no buckets. Where there are several shards,
//! each statement that is about one of them names its buckets, so that it goes to that one alone: a batch is of one shard
//! wherever its operations allow that, and what is about several is split by them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use sea_orm::{ConnectionTrait, DbErr};
use tokio::time::Instant as Moment;

use crate::domain::care_units::CareUnits;
use crate::domain::hsa_id::HsaId;
use crate::store::bucket::{BUCKETS, bucket};
use crate::store::database::spread::{self, Spread};
use crate::store::error::Error;

/// Time for which claims leave a shard out that was not available.
const AWAY_TIME: Duration = Duration::from_secs(5);

/// The shards as they were last asked for. A clone is another handle to the same.
#[derive(Clone)]
pub struct Placement(Arc<Known>);

struct Known {
    spread: Spread,
    shards: RwLock<Shards>,
    /// Number of times that claims have gone through the shards.
    turn: AtomicUsize,
    /// Shards that were not available, each with the moment from which it is asked again.
    away: Mutex<HashMap<usize, Moment>>,
}

impl Placement {
    /// Returns the placement of a database, and asks it which buckets lie together.
    pub async fn ask(connection: &impl ConnectionTrait, spread: Spread) -> Result<Self, DbErr> {
        let placement = Self::of(spread, Shards::default());
        placement.ask_again(connection).await?;
        Ok(placement)
    }

    fn of(spread: Spread, shards: Shards) -> Self {
        Self(Arc::new(Known {
            spread,
            shards: RwLock::new(shards),
            turn: AtomicUsize::new(0),
            away: Mutex::default(),
        }))
    }

    /// Asks again which buckets lie together: a shard may have been split.
    pub async fn ask_again(&self, connection: &impl ConnectionTrait) -> Result<(), DbErr> {
        let found = spread::shards(connection, self.0.spread).await?;
        let shards = Shards::of(found);
        *self
            .0
            .shards
            .write()
            .unwrap_or_else(PoisonError::into_inner) = shards;
        Ok(())
    }

    /// Returns the shards as they were last asked for.
    pub fn shards(&self) -> Shards {
        let shards = self.0.shards.read();
        shards.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the shards to claim from, each time beginning with another one, so that none is always the last. Leaves out those that
    /// were not available a moment ago, unless that is all of them.
    pub fn next_turn(&self, shards: &Shards) -> Vec<usize> {
        let count = shards.count();
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
        let all: Vec<usize> = (0..count).map(|it| (it + turn) % count).collect();
        let now = Moment::now();
        let away = self.0.away.lock().unwrap_or_else(PoisonError::into_inner);
        let is_there = |shard: &usize| away.get(shard).is_none_or(|until| *until <= now);
        let there: Vec<usize> = all.iter().copied().filter(is_there).collect();
        if there.is_empty() { all } else { there }
    }

    /// Notes that a shard was not available.
    pub fn note_away(&self, shard: usize) {
        let mut away = self.0.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.insert(shard, Moment::now() + AWAY_TIME);
    }
}

/// The shards over which buckets are spread; none when everything lies in one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shards(Option<Arc<Map>>);

#[derive(Debug, PartialEq, Eq)]
struct Map {
    /// Buckets of each shard.
    buckets: Vec<Vec<i16>>,
    /// Shard of each bucket.
    shards: [usize; BUCKETS as usize],
}

/// Elements of one shard, with their places among all.
pub struct Part<T> {
    /// Places, one for each element.
    pub places: Vec<usize>,
    /// Elements.
    pub elements: Vec<T>,
}

impl Shards {
    /// Returns the shards of these buckets, each with the id of its shard.
    fn of(found: Vec<(i16, i64)>) -> Self {
        let mut by_id: BTreeMap<i64, Vec<i16>> = BTreeMap::new();
        for (bucket, id) in found {
            by_id.entry(id).or_default().push(bucket);
        }
        let buckets: Vec<Vec<i16>> = by_id.into_values().collect();
        if buckets.len() < 2 {
            return Self(None);
        }
        let mut shards = [0; BUCKETS as usize];
        for (shard, buckets) in buckets.iter().enumerate() {
            for bucket in buckets {
                shards[place(*bucket)] = shard;
            }
        }
        Self(Some(Arc::new(Map { buckets, shards })))
    }

    /// Returns true when everything lies in one place.
    pub fn is_whole(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the number of shards.
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(1, |map| map.buckets.len())
    }

    /// Returns the buckets of a shard; none when everything lies in one place.
    pub fn buckets_of(&self, shard: usize) -> Option<Vec<i16>> {
        Some(self.0.as_ref()?.buckets.get(shard)?.clone())
    }

    /// Returns the shard of a bucket.
    pub fn of_bucket(&self, bucket: i16) -> usize {
        self.0.as_ref().map_or(0, |map| map.shards[place(bucket)])
    }

    /// Returns the shard of a care unit.
    pub fn of_unit(&self, care_unit: &HsaId) -> usize {
        match &self.0 {
            Some(map) => map.shards[place(bucket(care_unit))],
            None => 0,
        }
    }

    /// Returns the buckets that a statement about these care units is to name; none when it names no buckets: when
    /// everything lies in one place, or the care units may be in any.
    pub fn named(&self, care_units: &CareUnits) -> Option<Vec<i16>> {
        self.of_units(care_units.named()?)
    }

    /// Returns the buckets of these care units; none when everything lies in one place.
    pub fn of_units<'u>(
        &self,
        care_units: impl IntoIterator<Item = &'u HsaId>,
    ) -> Option<Vec<i16>> {
        self.0.as_ref()?;
        let buckets: BTreeSet<i16> = care_units.into_iter().map(bucket).collect();
        Some(buckets.into_iter().collect())
    }

    /// Splits elements by shard, each by its care unit.
    pub fn split<T>(&self, elements: Vec<T>, care_unit: impl Fn(&T) -> &HsaId) -> Vec<Part<T>> {
        if self.is_whole() {
            let places = (0..elements.len()).collect();
            return vec![Part { places, elements }];
        }
        let mut parts: BTreeMap<usize, Part<T>> = BTreeMap::new();
        for (place, element) in elements.into_iter().enumerate() {
            let part = parts.entry(self.of_unit(care_unit(&element)));
            let part = part.or_insert_with(|| Part {
                places: Vec::new(),
                elements: Vec::new(),
            });
            part.places.push(place);
            part.elements.push(element);
        }
        parts.into_values().collect()
    }
}

/// Places of the elements of a part, and the answers about them.
pub type PartAnswer<A> = (Vec<usize>, Result<Vec<A>, Error>);

/// Puts answers about parts of a call in the places of their elements. Elements of a part that failed have its error, so that those
/// of other shards are done.
///
/// # Errors
///
/// The first error, when every part has failed.
pub fn join<A>(answers: Vec<PartAnswer<A>>) -> Result<Vec<Result<A, Error>>, Error> {
    let failed = answers
        .iter()
        .filter_map(|(_, answer)| answer.as_ref().err());
    let failed: Vec<Error> = failed.cloned().collect();
    if let Some(error) = failed.first().filter(|_| failed.len() == answers.len()) {
        return Err(error.clone());
    }
    let mut joined: Vec<(usize, Result<A, Error>)> = Vec::new();
    for (places, answer) in answers {
        match answer {
            Ok(answers) => joined.extend(places.into_iter().zip(answers.into_iter().map(Ok))),
            Err(error) => {
                joined.extend(places.into_iter().map(|place| (place, Err(error.clone()))))
            }
        }
    }
    joined.sort_by_key(|(place, _)| *place);
    Ok(joined.into_iter().map(|(_, answer)| answer).collect())
}

/// Returns the place of a bucket among all.
fn place(bucket: i16) -> usize {
    usize::from(bucket.unsigned_abs()) % usize::from(BUCKETS)
}

#[cfg(test)]
impl Placement {
    /// Returns the placement of a database in which everything lies in one place.
    pub fn whole() -> Self {
        Self::of(Spread::Whole, Shards::default())
    }

    /// Returns the placement of so many shards.
    pub fn over(count: i16) -> Self {
        let buckets = 0..i16::from(BUCKETS);
        let shards = Shards::of(buckets.map(|it| (it, i64::from(it % count))).collect());
        Self::of(Spread::Partitioned, shards)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(number: usize) -> HsaId {
        HsaId::from_stored(format!("SE2321000131-P{number}"))
    }

    #[test]
    fn elements_are_split_by_shard_and_their_answers_joined_in_order() {
        let shards = Placement::over(8).shards();
        let units: Vec<HsaId> = (0..100).map(unit).collect();
        let parts = shards.split(units.clone(), |it| it);
        assert_eq!(parts.len(), 8);
        for part in &parts {
            let mut of_part = part.elements.iter().map(|it| shards.of_unit(it));
            let first = of_part.next().expect("some are in each");
            assert!(of_part.all(|shard| shard == first));
        }
        let lost = shards.of_unit(&unit(0));
        let answer = |part: Part<HsaId>| match shards.of_unit(&part.elements[0]) == lost {
            true => (part.places, Err(Error::timed_out())),
            false => (part.places, Ok(part.elements)),
        };
        let joined = join(parts.into_iter().map(answer).collect()).expect("most have answered");
        for (expected, answer) in units.iter().zip(joined) {
            assert_eq!(answer.is_err(), shards.of_unit(expected) == lost);
            assert!(answer.is_err() || answer.as_ref().ok() == Some(expected));
        }
        let none: PartAnswer<HsaId> = (vec![0], Err(Error::timed_out()));
        assert!(join(vec![none]).is_err());
    }

    #[test]
    fn where_everything_lies_in_one_place_nothing_is_split_or_named() {
        let shards = Placement::whole().shards();
        assert_eq!(shards.split((0..9).map(unit).collect(), |it| it).len(), 1);
        assert_eq!(shards.of_units(&[unit(1)]), None);
        assert_eq!(shards.buckets_of(0), None);
        assert_eq!(
            Shards::of((0..64).map(|bucket| (bucket, 7)).collect()),
            shards
        );
    }

    #[test]
    fn a_statement_names_the_buckets_of_the_care_units_that_are_known() {
        let shards = Placement::over(8).shards();
        let named = shards.named(&CareUnits::These(vec![unit(1), unit(1)]));
        assert_eq!(named, Some(vec![bucket(&unit(1))]));
        assert_eq!(shards.named(&CareUnits::Every), None);
        let all: usize = (0..8)
            .map(|it| shards.buckets_of(it).map_or(0, |it| it.len()))
            .sum();
        assert_eq!(all, usize::from(BUCKETS));
    }

    #[tokio::test(start_paused = true)]
    async fn claims_begin_with_another_shard_each_time_and_leave_out_one_that_is_away() {
        let placement = Placement::over(3);
        let shards = placement.shards();
        let mut first: Vec<usize> = (0..3).map(|_| placement.next_turn(&shards)[0]).collect();
        first.sort();
        assert_eq!(first, [0, 1, 2]);
        placement.note_away(1);
        for _ in 0..3 {
            let mut turn = placement.next_turn(&shards);
            turn.sort();
            assert_eq!(turn, [0, 2]);
        }
        tokio::time::advance(AWAY_TIME).await;
        assert_eq!(placement.next_turn(&shards).len(), 3);
        for shard in 0..3 {
            placement.note_away(shard);
        }
        assert_eq!(placement.next_turn(&shards).len(), 3, "all are asked then");
    }
}
