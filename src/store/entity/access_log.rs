//! Entries of the access log as rows. The document holds identity numbers, which is what the table is for.

use sea_orm::FromQueryResult;
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::domain::access::{Access, AccessPlace, Concerned, Concerns, LoggedAccess};
use crate::domain::calendar::from_micros;
use crate::domain::hsa_id::HsaId;
use crate::domain::patient::{PersonalId, PersonalIdType};
use crate::store::entity::debug_without_content;
use crate::store::entity::document::{code, from_json};
use crate::store::entity::row_reader::Decoded;
use crate::store::error::Error;

/// A row of `access_log`. Rows are never changed.
#[derive(Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "access_log")]
pub struct Model {
    /// Time of the call; never before that of the row before in the chain.
    #[sea_orm(primary_key, auto_increment = false)]
    pub recorded_at: i64,
    /// Replica that wrote it; nil on SQLite, where there is one.
    #[sea_orm(primary_key, auto_increment = false)]
    pub chain: Uuid,
    /// Number in the chain, from 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub sequence: i64,
    #[sea_orm(column_type = "Text", nullable)]
    pub care_unit: Option<String>,
    #[sea_orm(column_type = "Text")]
    pub subject: String,
    #[sea_orm(column_type = "Text", nullable)]
    pub actor: Option<String>,
    #[sea_orm(column_type = "Text")]
    pub method: String,
    /// Status code of gRPC.
    pub outcome: i16,
    #[sea_orm(column_type = "Text", nullable)]
    pub trace_id: Option<String>,
    /// JSON of the patients and their requests.
    #[sea_orm(column_type = "Text")]
    pub document: String,
    /// Hash of the row before in the chain; zeros in the first.
    pub previous_hash: Vec<u8>,
    /// SHA-256 over the hash of the row before and all columns of this one.
    pub hash: Vec<u8>,
}

debug_without_content!(Model);

/// A row as it was read. SQLite stores values of any type, so that of an altered row some columns may not be readable.
pub struct ReadRow {
    /// Time of its place, in microseconds.
    pub recorded_at: i64,
    /// Chain of its place.
    pub chain: Uuid,
    /// Number of its place.
    pub sequence: i64,
    /// Its own hash, if that can be read.
    pub hash: Option<Vec<u8>>,
    /// All of it; an error if a column cannot be read.
    pub content: Result<Model, Error>,
}

impl ReadRow {
    /// Reads a row that has all columns.
    ///
    /// # Errors
    ///
    /// Its place cannot be read.
    pub fn of(row: &QueryResult) -> Result<Self, Error> {
        Ok(Self {
            recorded_at: row.try_get("", Column::RecordedAt.as_str())?,
            chain: row.try_get("", Column::Chain.as_str())?,
            sequence: row.try_get("", Column::Sequence.as_str())?,
            hash: row.try_get("", Column::Hash.as_str()).ok(),
            content: Model::from_query_result(row, "").map_err(Error::from),
        })
    }

    /// Returns the place of the row.
    pub fn place(&self) -> AccessPlace {
        AccessPlace {
            at: from_micros(self.recorded_at),
            chain: self.chain,
            sequence: self.sequence,
        }
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A patient with requests, as the document holds them.
#[derive(Serialize, Deserialize)]
struct StoredConcerned(Option<StoredIdentity>, Vec<uuid::fmt::Simple>);

/// Number, kind and issuer.
type StoredIdentity = (String, i16, Option<String>);

impl Model {
    /// Returns the row of an entry at a place, without its hash.
    pub fn of(access: &Access, recorded_at: i64, chain: Uuid, sequence: i64) -> Self {
        let Concerns {
            care_unit,
            outcome,
            concerned,
        } = &access.concerns;
        Self {
            recorded_at,
            chain,
            sequence,
            care_unit: care_unit.as_ref().map(|it| it.as_str().to_owned()),
            subject: access.subject.clone(),
            actor: access.actor.clone(),
            method: access.method.clone(),
            outcome: i16::try_from(*outcome).unwrap_or(i16::MAX),
            trace_id: access.trace_id.clone(),
            document: document(concerned),
            previous_hash: Vec::new(),
            hash: Vec::new(),
        }
    }

    /// Returns the patients that the document holds, with their requests.
    pub fn concerned(&self) -> Result<Vec<Concerned>, Error> {
        let stored: Vec<StoredConcerned> = from_json(&self.document)?;
        let concerned = |StoredConcerned(identity, requests)| {
            let requests = requests.into_iter().map(uuid::fmt::Simple::into_uuid);
            Ok(Concerned {
                patient: identity.map(into_patient).transpose()?,
                requests: requests.collect(),
            })
        };
        stored.into_iter().map(concerned).collect()
    }

    /// Returns the entry that the row holds.
    pub fn into_domain(self) -> Result<LoggedAccess, Error> {
        let concerned = self.concerned().of_column(Column::Document)?;
        let hash = self.hash.as_slice().try_into();
        let hash = hash
            .map_err(|_| Error::internal("not 32 bytes"))
            .of_column(Column::Hash)?;
        let place = AccessPlace {
            at: from_micros(self.recorded_at),
            chain: self.chain,
            sequence: self.sequence,
        };
        Ok(LoggedAccess {
            access: Access {
                at: place.at,
                subject: self.subject,
                actor: self.actor,
                method: self.method,
                trace_id: self.trace_id,
                concerns: Concerns {
                    care_unit: self.care_unit.map(HsaId::from_stored),
                    outcome: self.outcome.into(),
                    concerned,
                },
            },
            place,
            hash,
        })
    }
}

fn document(concerned: &[Concerned]) -> String {
    let stored = concerned.iter().map(|it| {
        let identity = it.patient.as_ref().map(|it| {
            let issuer = it.issuer().map(str::to_owned);
            (it.number().to_owned(), it.kind().code(), issuer)
        });
        StoredConcerned(identity, it.requests.iter().map(|id| id.simple()).collect())
    });
    let stored: Vec<StoredConcerned> = stored.collect();
    serde_json::to_string(&stored).expect("a document of text and numbers is JSON")
}

fn into_patient((number, kind, issuer): StoredIdentity) -> Result<PersonalId, Error> {
    let kind = code(PersonalIdType::from_code, kind)?;
    Ok(PersonalId::from_stored(kind, issuer, number))
}
