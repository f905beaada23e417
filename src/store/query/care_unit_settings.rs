//! The settings of care units.

use sea_orm::sea_query::{LockBehavior, LockType};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect, Select};

use crate::domain::care_unit_settings::CareUnitSettings;
use crate::domain::hsa_id::HsaId;
use crate::store::bucket::bucket;
use crate::store::entity::care_unit_settings::{Column, Entity, Model};
use crate::store::error::Error;

/// Settings of a care unit as they were read; an error in place of those that cannot be decoded.
pub type SettingsRead = (HsaId, Result<CareUnitSettings, Error>);

/// Returns the settings of these care units, or of all, as far as any were ever set.
pub async fn of_units(
    connection: &impl ConnectionTrait,
    care_units: Option<&[HsaId]>,
) -> Result<Vec<SettingsRead>, DbErr> {
    let select = match care_units {
        Some(care_units) => select(care_units),
        None => Entity::find(),
    };
    Ok(decoded(select.all(connection).await?))
}

/// Locks the settings of these care units, as far as any were ever set, and returns them. Those that another writer has
/// locked are left out.
pub async fn locked(
    connection: &impl ConnectionTrait,
    care_units: &[HsaId],
) -> Result<Vec<SettingsRead>, DbErr> {
    let (update, skip) = (LockType::Update, LockBehavior::SkipLocked);
    let select = select(care_units).lock_with_behavior(update, skip);
    Ok(decoded(select.all(connection).await?))
}

/// Returns the query for the settings of these care units. It names their buckets, so that it goes to their shard alone.
fn select(care_units: &[HsaId]) -> Select<Entity> {
    Entity::find()
        .filter(Column::Bucket.is_in(care_units.iter().map(bucket)))
        .filter(Column::CareUnit.is_in(care_units.iter().map(HsaId::as_str)))
}

fn decoded(rows: Vec<Model>) -> Vec<SettingsRead> {
    let decode = |row: Model| {
        let care_unit = HsaId::from_stored(row.care_unit.clone());
        (care_unit, row.into_domain())
    };
    rows.into_iter().map(decode).collect()
}
