//! Identity numbers in the access log as rows, with what requests do not say of them any more: that a patient had protected
//! identity, and which number took the place of another.

use sea_orm::entity::prelude::*;

use crate::domain::patient::{Patient, PersonalId, PersonalIdType};
use crate::store::entity::debug_without_content;
use crate::store::entity::document::code;
use crate::store::error::Error;

/// A row of `access_log_identity`. All columns are its key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, DeriveEntityModel)]
#[sea_orm(table_name = "access_log_identity")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub personal_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub personal_id_type: i16,
    /// Empty where there is none, since it is part of the key.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub issuer: String,
    /// Number that took its place; empty, its type 0, when the row says that the patient had protected identity.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub next_personal_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub next_personal_id_type: i16,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub next_issuer: String,
}

debug_without_content!(Model);

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// Returns the row of a number whose patient had protected identity.
    pub fn protected(patient: &PersonalId) -> Self {
        Self {
            personal_id: patient.number().to_owned(),
            personal_id_type: patient.kind().code(),
            issuer: patient.issuer().unwrap_or_default().to_owned(),
            next_personal_id: String::new(),
            next_personal_id_type: 0,
            next_issuer: String::new(),
        }
    }

    /// Returns the row of a number that another took the place of.
    fn replaced(old: &PersonalId, new: &PersonalId) -> Self {
        Self {
            next_personal_id: new.number().to_owned(),
            next_personal_id_type: new.kind().code(),
            next_issuer: new.issuer().unwrap_or_default().to_owned(),
            ..Self::protected(old)
        }
    }

    /// Returns the number.
    pub fn identity(&self) -> Result<PersonalId, Error> {
        identity(self.personal_id_type, &self.issuer, &self.personal_id)
    }

    /// Returns the number that took its place; none when the row says that the patient had protected identity.
    pub fn next(&self) -> Result<Option<PersonalId>, Error> {
        match self.next_personal_id.as_str() {
            "" => Ok(None),
            number => identity(self.next_personal_id_type, &self.next_issuer, number).map(Some),
        }
    }
}

fn identity(kind: i16, issuer: &str, number: &str) -> Result<PersonalId, Error> {
    let kind = code(PersonalIdType::from_code, kind)?;
    let issuer = (!issuer.is_empty()).then(|| issuer.to_owned());
    Ok(PersonalId::from_stored(kind, issuer, number.to_owned()))
}

/// Returns the rows of what a request has said of its patient and no longer says after a change.
pub fn no_longer_said(before: &Patient, after: &Patient) -> impl Iterator<Item = Model> + use<> {
    let moves = before.personal_id != after.personal_id;
    let replaced = moves.then(|| Model::replaced(&before.personal_id, &after.personal_id));
    let ends = before.is_protected() && (moves || !after.is_protected());
    let protected = ends.then(|| Model::protected(&before.personal_id));
    replaced.into_iter().chain(protected)
}
