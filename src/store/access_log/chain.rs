//! The chain of a process: entries become rows, each with the hash of the one before.

use std::collections::BTreeSet;
use std::sync::Arc;

use sea_orm::sea_query::{Order, Query};
use sea_orm::{ConnectionTrait, DbErr, QueryResult};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::access::Access;
use crate::domain::calendar::micros;
use crate::store::bulk::write::{Inserts, Write};
use crate::store::entity::access_log::{Column, Entity, Model};
use crate::store::entity::{access_log_identity, access_log_patient};
use crate::store::error::Error;

/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;
/// Maximum rows at the end among which the last one is looked for.
const LOOKED_AT_MAX: u64 = 100;
/// Mark of a null, in the hash.
const NULL: [u8; 1] = [0];
/// Mark of a value, in the hash.
const VALUE: [u8; 1] = [1];

/// The last row of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Chain.
    pub chain: Uuid,
    /// Number of the row; 0 of a chain without rows.
    pub sequence: i64,
    /// Hash of the row; zeros of a chain without rows.
    pub hash: [u8; HASH_BYTES],
    /// Time of the row, in microseconds.
    recorded_at: i64,
}

impl Head {
    /// Reads the last row of all chains; none where there are no rows. Rows that cannot be decoded, of which there are few, are
    /// passed over.
    pub async fn last(connection: &impl ConnectionTrait) -> Result<Option<Self>, Error> {
        // Of the other columns nothing is needed, whatever was done to them.
        let mut last = Query::select();
        last.columns([
            Column::Chain,
            Column::Sequence,
            Column::Hash,
            Column::RecordedAt,
        ])
        .from(Entity)
        .order_by(Column::RecordedAt, Order::Desc)
        .order_by(Column::Chain, Order::Desc)
        .order_by(Column::Sequence, Order::Desc)
        .limit(LOOKED_AT_MAX);
        let rows = connection.query_all(&last).await?;
        Ok(rows.iter().find_map(|row| Self::decode(row).ok()))
    }

    fn decode(row: &QueryResult) -> Result<Self, DbErr> {
        Ok(Self {
            chain: row.try_get("", "chain")?,
            sequence: row.try_get("", "sequence")?,
            hash: stored_hash(&row.try_get::<Vec<u8>>("", "hash")?),
            recorded_at: row.try_get("", "recorded_at")?,
        })
    }

    /// Returns the head of the chain that begins when it is not known whether the rows up to this one were stored. Its name
    /// is a part of the hash, which no other chain has.
    pub fn of_next_chain(&self) -> Self {
        let name = self.hash.first_chunk().copied().unwrap_or_default();
        Self::without_rows(Uuid::from_bytes(name))
    }

    /// Returns the head of a chain without rows.
    pub fn without_rows(chain: Uuid) -> Self {
        Self {
            chain,
            sequence: 0,
            hash: [0; HASH_BYTES],
            recorded_at: i64::MIN,
        }
    }

    /// Adds an entry to the chain, and returns its row. Its time is not before that of the row before, so that the order
    /// of time is the order of the chain.
    pub fn append(&mut self, access: &Access) -> Model {
        self.recorded_at = self.recorded_at.max(micros(access.at));
        self.sequence += 1;
        let mut row = Model::of(access, self.recorded_at, self.chain, self.sequence);
        row.previous_hash = self.hash.to_vec();
        self.hash = hash(&row);
        row.hash = self.hash.to_vec();
        row
    }
}

/// Returns a stored hash; zeros if it is none, which no row has.
pub fn stored_hash(bytes: &[u8]) -> [u8; HASH_BYTES] {
    bytes.try_into().unwrap_or_default()
}

/// Returns the hash of a row, from all its columns but the hash itself.
pub fn hash(row: &Model) -> [u8; HASH_BYTES] {
    let Model {
        recorded_at,
        chain,
        sequence,
        care_unit,
        subject,
        actor,
        method,
        outcome,
        trace_id,
        document,
        previous_hash,
        hash: _,
    } = row;
    let mut digest = Sha256::new();
    let mut add = |value: Option<&[u8]>| match value {
        Some(value) => {
            digest.update(VALUE);
            digest.update((value.len() as u64).to_be_bytes());
            digest.update(value);
        }
        None => digest.update(NULL),
    };
    add(Some(previous_hash));
    add(Some(&recorded_at.to_be_bytes()));
    add(Some(chain.as_bytes()));
    add(Some(&sequence.to_be_bytes()));
    add(care_unit.as_ref().map(String::as_bytes));
    add(Some(subject.as_bytes()));
    add(actor.as_ref().map(String::as_bytes));
    add(Some(method.as_bytes()));
    add(Some(&outcome.to_be_bytes()));
    add(trace_id.as_ref().map(String::as_bytes));
    add(Some(document.as_bytes()));
    digest.finalize().into()
}

/// Rows of a group.
#[derive(Default)]
pub struct Group {
    entries: Vec<Model>,
    patients: Vec<access_log_patient::Model>,
}

impl Group {
    /// Adds an entry to the chain and to the group.
    pub fn append(&mut self, head: &mut Head, access: &Access) {
        let entry = head.append(access);
        let concerned = &access.concerns.concerned;
        self.patients
            .extend(access_log_patient::rows(concerned, &entry));
        self.entries.push(entry);
    }
}

/// New rows of a batch: those of the groups in it, and what its changes of requests leave to the log.
#[derive(Default)]
pub struct AccessLogWork {
    groups: Vec<Arc<Group>>,
    identities: BTreeSet<access_log_identity::Model>,
}

impl AccessLogWork {
    /// Adds a group.
    pub fn add(&mut self, group: Arc<Group>) {
        self.groups.push(group);
    }

    /// Adds what is known of identity numbers and no request says any more.
    pub fn keep(&mut self, identities: impl Iterator<Item = access_log_identity::Model>) {
        self.identities.extend(identities);
    }

    /// Returns the writes of the rows.
    pub fn into_writes(self) -> impl Iterator<Item = Write> {
        let mut entries = Inserts::<Entity>::default();
        let mut patients = Inserts::<access_log_patient::Entity>::default();
        for group in &self.groups {
            group
                .entries
                .iter()
                .for_each(|row| entries.push(row.clone()));
            group
                .patients
                .iter()
                .for_each(|row| patients.push(row.clone()));
        }
        let mut identities = Inserts::<access_log_identity::Entity>::default();
        self.identities
            .into_iter()
            .for_each(|row| identities.push(row));
        [
            entries.into_write(),
            patients.into_write(),
            identities.into_write_of_new(),
        ]
        .into_iter()
    }
}
