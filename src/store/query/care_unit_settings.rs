//! The settings of care units.

use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};

use crate::domain::care_unit_settings::CareUnitSettings;
use crate::domain::hsa_id::HsaId;
use crate::store::bucket::bucket;
use crate::store::entity::care_unit_settings::{Column, Entity};
use crate::store::error::Error;

/// Returns the settings of these care units, or of all, as far as any were ever set; an error in place of those that cannot
/// be decoded.
pub async fn of_units(
    connection: &impl ConnectionTrait,
    care_units: Option<&[HsaId]>,
) -> Result<Vec<(HsaId, Result<CareUnitSettings, Error>)>, DbErr> {
    let mut select = Entity::find();
    if let Some(care_units) = care_units {
        select = select
            .filter(Column::Bucket.is_in(care_units.iter().map(bucket)))
            .filter(Column::CareUnit.is_in(care_units.iter().map(HsaId::as_str)));
    }
    let rows = select.all(connection).await?.into_iter();
    let decoded = rows.map(|row| {
        let care_unit = HsaId::from_stored(row.care_unit.clone());
        (care_unit, row.into_domain())
    });
    Ok(decoded.collect())
}
