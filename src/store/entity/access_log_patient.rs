//! Places of patients in the access log as rows: the index by which a patient is found there.

use sea_orm::entity::prelude::*;

use crate::domain::access::Concerned;
use crate::domain::patient::PersonalId;
use crate::store::entity::access_log;
use crate::store::entity::debug_without_content;

/// A row of `access_log_patient`. All columns are its key.
#[derive(Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "access_log_patient")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub personal_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub personal_id_type: i16,
    /// Empty where there is none, since it is part of the key.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub issuer: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub recorded_at: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub chain: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub sequence: i64,
}

debug_without_content!(Model);

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Returns the rows for the patients of an entry.
pub fn rows<'a>(
    concerned: &'a [Concerned],
    entry: &'a access_log::Model,
) -> impl Iterator<Item = Model> + 'a {
    let patients = concerned.iter().filter_map(|it| it.patient.as_ref());
    patients.map(|patient| row(patient, entry))
}

fn row(patient: &PersonalId, entry: &access_log::Model) -> Model {
    Model {
        personal_id: patient.number().to_owned(),
        personal_id_type: patient.kind().code(),
        issuer: patient.issuer().unwrap_or_default().to_owned(),
        recorded_at: entry.recorded_at,
        chain: entry.chain,
        sequence: entry.sequence,
    }
}
