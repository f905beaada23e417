//! The settings of care units as rows: what is set as a document, since no query compares it.

use std::collections::BTreeMap;

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::domain::calendar::micros;
use crate::domain::care_unit_settings::{CareUnitSettings, Settings, VisitTypeSettings};
use crate::domain::hsa_id::HsaId;
use crate::store::bucket::bucket;
use crate::store::bulk::write::VersionedEntity;
use crate::store::entity::debug_without_content;
use crate::store::entity::document::{from_json, instant};
use crate::store::entity::row_reader::Decoded;
use crate::store::entity::schedule::{minute, time};
use crate::store::error::Error;

/// A row of `care_unit_settings`.
#[derive(Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "care_unit_settings")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub bucket: i16,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub care_unit: String,
    pub revision: i64,
    pub updated_at: i64,
    /// JSON of a [`Document`].
    #[sea_orm(column_type = "Text")]
    pub document: String,
}

debug_without_content!(Model);

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl VersionedEntity for Entity {
    const VERSION: Column = Column::Revision;
    const FIXED: &'static [Column] = &[];
    const HOT: &'static [Column] = &[Column::Revision, Column::UpdatedAt, Column::Document];
}

impl Model {
    /// Returns the row of settings that were changed once at least.
    pub fn of(stored: &CareUnitSettings) -> Self {
        let document = Document::of(&stored.settings);
        Self {
            bucket: bucket(&stored.care_unit),
            care_unit: stored.care_unit.as_str().to_owned(),
            revision: stored.revision,
            updated_at: stored.updated_at.map_or(0, micros),
            document: serde_json::to_string(&document)
                .expect("a document of text and numbers is JSON"),
        }
    }

    /// Returns the settings that the row holds.
    pub fn into_domain(self) -> Result<CareUnitSettings, Error> {
        let document: Document = from_json(&self.document).of_column(Column::Document)?;
        let settings = document.into_domain().of_column(Column::Document)?;
        let updated_at = instant(self.updated_at).of_column(Column::UpdatedAt)?;
        Ok(CareUnitSettings {
            care_unit: HsaId::from_stored(self.care_unit),
            settings,
            revision: self.revision,
            updated_at: Some(updated_at),
        })
    }
}

/// Settings as they are stored.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Document {
    general: VisitTypeDocument,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_minute: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    letter_until_age: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guardian_until_age: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    move_deadline_hours: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_until: Option<i64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    visit_types: BTreeMap<String, VisitTypeDocument>,
}

/// [`VisitTypeSettings`] as they are stored.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VisitTypeDocument {
    #[serde(skip_serializing_if = "Option::is_none")]
    lead_days: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reminder_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reminder_gap_days: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_response_days: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guarantee_days: Option<u32>,
}

impl Document {
    fn of(settings: &Settings) -> Self {
        let visit_types = settings.visit_types.iter();
        Self {
            general: (&settings.general).into(),
            send_minute: settings.send_time.map(minute),
            letter_until_age: settings.letter_until_age,
            guardian_until_age: settings.guardian_until_age,
            move_deadline_hours: settings.move_deadline_hours,
            paused_until: settings.paused_until.map(micros),
            visit_types: visit_types
                .map(|(code, it)| (code.clone(), it.into()))
                .collect(),
        }
    }

    fn into_domain(self) -> Result<Settings, Error> {
        let visit_types = self.visit_types.into_iter();
        Ok(Settings {
            general: self.general.into(),
            send_time: self.send_minute.map(time).transpose()?,
            letter_until_age: self.letter_until_age,
            guardian_until_age: self.guardian_until_age,
            move_deadline_hours: self.move_deadline_hours,
            paused_until: self.paused_until.map(instant).transpose()?,
            visit_types: visit_types.map(|(code, it)| (code, it.into())).collect(),
        })
    }
}

impl From<&VisitTypeSettings> for VisitTypeDocument {
    fn from(settings: &VisitTypeSettings) -> Self {
        Self {
            lead_days: settings.lead_days,
            reminder_count: settings.reminder_count,
            reminder_gap_days: settings.reminder_gap_days,
            no_response_days: settings.no_response_days,
            guarantee_days: settings.guarantee_days,
        }
    }
}

impl From<VisitTypeDocument> for VisitTypeSettings {
    fn from(document: VisitTypeDocument) -> Self {
        Self {
            lead_days: document.lead_days,
            reminder_count: document.reminder_count,
            reminder_gap_days: document.reminder_gap_days,
            no_response_days: document.no_response_days,
            guarantee_days: document.guarantee_days,
        }
    }
}
