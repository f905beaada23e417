//! The settings of care units in a unit of work: as a batch has loaded them, and as it leaves them behind.

use std::collections::{BTreeMap, HashMap, HashSet};

use sea_orm::{ConnectionTrait, EntityName};

use crate::domain::care_unit_settings::CareUnitSettings;
use crate::domain::hsa_id::HsaId;
use crate::store::bulk::write::{Inserts, VersionedUpdates, Write};
use crate::store::database::connection::RowLock;
use crate::store::entity::care_unit_settings::{Entity, Model};
use crate::store::error::Error;
use crate::store::quarantine::RowKey;
use crate::store::query::care_unit_settings::{locked, of_units};

/// The settings that a batch has loaded and decided so far.
#[derive(Default)]
pub struct SettingsWork(BTreeMap<HsaId, Tracked>);

/// Settings with their original and their current state; none that cannot be decoded.
struct Tracked {
    original: Option<CareUnitSettings>,
    current: Option<CareUnitSettings>,
}

impl SettingsWork {
    /// Locks the settings of these care units, where the database locks rows, and loads them, except those that the batch in
    /// flight leaves behind. Returns the care units whose settings were skipped because another writer has locked them.
    pub async fn load(
        &mut self,
        connection: &impl ConnectionTrait,
        mut care_units: Vec<HsaId>,
        lock: RowLock,
        in_flight: &HashMap<HsaId, CareUnitSettings>,
    ) -> Result<HashSet<HsaId>, Error> {
        care_units.retain(|care_unit| {
            let known = in_flight.get(care_unit);
            known
                .map(|it| self.track(care_unit.clone(), Some(it.clone())))
                .is_none()
        });
        if care_units.is_empty() {
            return Ok(HashSet::new());
        }
        for care_unit in &care_units {
            self.track(
                care_unit.clone(),
                Some(CareUnitSettings::none(care_unit.clone())),
            );
        }
        let locks = lock.locks_rows(connection.get_database_backend());
        let rows = match locks {
            true => locked(connection, &care_units).await?,
            false => of_units(connection, Some(&care_units)).await?,
        };
        for (care_unit, read) in rows {
            let row = RowKey::of_unit(Entity.table_name(), &care_unit);
            let decoded = row.accept(read);
            care_units.retain(|it| *it != care_unit);
            self.track(care_unit, decoded);
        }
        if !locks || care_units.is_empty() {
            return Ok(HashSet::new());
        }
        // Those that are set all the same are locked.
        let skipped = of_units(connection, Some(&care_units)).await?;
        Ok(skipped
            .into_iter()
            .map(|(care_unit, _)| care_unit)
            .collect())
    }

    fn track(&mut self, care_unit: HsaId, loaded: Option<CareUnitSettings>) {
        let tracked = Tracked {
            original: loaded.clone(),
            current: loaded,
        };
        self.0.insert(care_unit, tracked);
    }

    /// Returns the settings of a care unit as the operations before have left them.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] when they cannot be decoded.
    pub fn get(&self, care_unit: &HsaId) -> Result<&CareUnitSettings, Error> {
        let tracked = self.0.get(care_unit);
        tracked
            .and_then(|it| it.current.as_ref())
            .ok_or_else(Error::undecodable)
    }

    /// Applies a decision.
    pub fn apply(&mut self, changed: CareUnitSettings) {
        if let Some(tracked) = self.0.get_mut(&changed.care_unit) {
            tracked.current = Some(changed);
        }
    }

    /// Returns the settings that differ, each with its original.
    fn changed(&self) -> impl Iterator<Item = (&CareUnitSettings, &CareUnitSettings)> {
        let tracked = self.0.values();
        let pairs = tracked.filter_map(|it| it.original.as_ref().zip(it.current.as_ref()));
        pairs.filter(|(original, current)| original.revision != current.revision)
    }

    /// Returns the care units whose settings differ.
    pub fn changed_units(&self) -> Vec<HsaId> {
        self.changed().map(|(_, it)| it.care_unit.clone()).collect()
    }

    /// Returns the settings that the batch leaves behind.
    pub fn post_state(&self) -> HashMap<HsaId, CareUnitSettings> {
        let changed = self.changed();
        changed
            .map(|(_, it)| (it.care_unit.clone(), it.clone()))
            .collect()
    }

    /// Returns the writes of the rows that differ.
    pub fn writes(&self) -> Vec<Write> {
        let mut new = Inserts::<Entity>::default();
        let mut updated = VersionedUpdates::<Entity>::default();
        for (original, current) in self.changed() {
            match original.revision {
                0 => new.push(Model::of(current)),
                _ => updated.push(&Model::of(original), Model::of(current)),
            }
        }
        let mut writes = vec![new.into_write()];
        writes.extend(updated.into_writes());
        writes
    }
}
