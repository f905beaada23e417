//! Verification of the access log: walks all chains, from their first rows that are kept, and finds what was removed,
//! altered or inserted.

use std::collections::BTreeMap;
use std::fmt;

use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, IsolationLevel, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect, QueryTrait, TransactionOptions,
};
use uuid::Uuid;

use crate::domain::access::ChainHead;
use crate::store::access_log::chain::{HASH_BYTES, hash, stored_hash};
use crate::store::access_log::purge::{of_patient_rows, patient_keys};
use crate::store::admin::{Progress, open_admin};
use crate::store::bulk::{MEMBERS_MAX, membership};
use crate::store::entity::access_log::{Column, Entity, ReadRow};
use crate::store::entity::access_log_patient as of_patient;
use crate::store::error::{Error, OpenError};

/// Rows that are read at once.
const ROWS_MAX: u64 = 1_000;
/// Maximum findings that are kept; of more it is known that there are some.
const FINDINGS_MAX: usize = 1_000;

/// Something that is not as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Rows from one number to another are missing.
    Removed {
        /// Chain.
        chain: Uuid,
        /// First.
        first: i64,
        /// Last.
        last: i64,
    },
    /// A row has other content than when it was written.
    Altered {
        /// Chain.
        chain: Uuid,
        /// Number.
        sequence: i64,
    },
    /// A row stands where the chain has another, or none yet.
    Inserted {
        /// Chain.
        chain: Uuid,
        /// Number.
        sequence: i64,
    },
    /// A patient of a row is not found by the index of patients.
    NotFound {
        /// Chain.
        chain: Uuid,
        /// Number.
        sequence: i64,
    },
    /// So many rows have places that cannot be read.
    WithoutPlace {
        /// Number of rows.
        count: u64,
    },
    /// So many patients are found where no row names them.
    FoundElsewhere {
        /// Number of places.
        count: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed { chain, first, last } if first == last => {
                write!(f, "removed: {chain}:{first}")
            }
            Self::Removed { chain, first, last } => write!(f, "removed: {chain}:{first} to {last}"),
            Self::Altered { chain, sequence } => write!(f, "altered: {chain}:{sequence}"),
            Self::Inserted { chain, sequence } => write!(f, "inserted: {chain}:{sequence}"),
            Self::NotFound { chain, sequence } => {
                write!(f, "altered: the index of patients, of {chain}:{sequence}")
            }
            Self::WithoutPlace { count } => {
                write!(f, "altered: the places of {count} entries")
            }
            Self::FoundElsewhere { count } => {
                write!(
                    f,
                    "altered: the index of patients has {count} places too many"
                )
            }
        }
    }
}

/// A chain that was walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkedChain {
    /// Number of the first row that is kept; those before it were purged.
    pub first: i64,
    /// Number of the last row.
    pub last: i64,
    /// Hash of the last row.
    pub hash: [u8; HASH_BYTES],
}

impl WalkedChain {
    /// Returns its last row, as that of this chain.
    pub fn head(&self, chain: Uuid) -> ChainHead {
        ChainHead {
            chain,
            sequence: self.last,
            hash: self.hash,
        }
    }
}

/// Findings of a walk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Number of rows.
    pub rows: u64,
    /// Chains.
    pub chains: BTreeMap<Uuid, WalkedChain>,
    /// Findings, the first 1,000 of them; none if all is as it was written.
    pub findings: Vec<Finding>,
}

/// The reason why the access log could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The rows cannot be read.
    #[error("the access log cannot be read")]
    Read(#[from] Error),
}

/// Walks all chains, and compares them with heads that are known.
///
/// # Errors
///
/// [`VerifyError`]; nothing is known then.
pub async fn verify(
    url: &str,
    heads: &[ChainHead],
    progress: Progress<'_>,
) -> Result<Verified, VerifyError> {
    let admin = open_admin(url).await?;
    let backend = admin.connection.get_database_backend();
    // One snapshot, since rows are added meanwhile.
    let options = TransactionOptions {
        isolation_level: (backend == DbBackend::Postgres).then_some(IsolationLevel::RepeatableRead),
        ..TransactionOptions::default()
    };
    let snapshot = admin.connection.begin(options).await.map_err(Error::from)?;
    let mut walk = Walk {
        heads,
        verified: Verified::default(),
        place_count: 0,
    };
    let walked = walk.all(&snapshot, progress).await;
    snapshot.rollback().await.map_err(Error::from)?;
    // The walk is done; a connection that cannot be closed ends with the process.
    let _ = admin.connection.close_by_ref().await;
    drop(admin.file);
    walked?;
    walk.compare_heads();
    Ok(walk.verified)
}

struct Walk<'a> {
    heads: &'a [ChainHead],
    verified: Verified,
    /// Number of places of patients that the rows have.
    place_count: u64,
}

impl Walk<'_> {
    async fn all(
        &mut self,
        snapshot: &DatabaseTransaction,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let mut last: Option<ReadRow> = None;
        let mut unplaced = 0;
        loop {
            let mut rows = page(snapshot, last.as_ref()).await?;
            let is_last = (rows.len() as u64) < ROWS_MAX;
            if !is_last && rows.iter().any(Option::is_some) {
                // The next page begins after the last place that can be read.
                let after = rows.iter().rposition(Option::is_some);
                rows.truncate(after.map_or(0, |it| it + 1));
            }
            self.verified.rows += rows.len() as u64;
            unplaced += rows.iter().filter(|it| it.is_none()).count() as u64;
            let rows: Vec<ReadRow> = rows.into_iter().flatten().collect();
            rows.iter().for_each(|row| self.visit(row));
            self.look_up(snapshot, &rows).await?;
            progress("entries", self.verified.rows, None);
            last = rows.into_iter().next_back();
            if is_last || last.is_none() {
                break;
            }
        }
        if unplaced > 0 {
            self.note(Finding::WithoutPlace { count: unplaced });
        }
        let stored = of_patient::Entity::find().count(snapshot).await?;
        if let Some(count) = stored.checked_sub(self.place_count).filter(|it| *it > 0) {
            self.note(Finding::FoundElsewhere { count });
        }
        Ok(())
    }

    /// Compares a row with its own hash, with the row before it in its chain, and with the heads.
    fn visit(&mut self, row: &ReadRow) {
        let (chain, sequence) = (row.chain, row.sequence);
        let hashed = stored_hash(row.hash.as_deref().unwrap_or_default());
        let content = row.content.as_ref().ok();
        let previous = content.map(|it| stored_hash(&it.previous_hash));
        let mut is_altered = content.is_none_or(|it| hash(it) != hashed);
        let known = self
            .heads
            .iter()
            .filter(|it| it.chain == chain && it.sequence == sequence);
        is_altered |= known.into_iter().any(|it| it.hash != hashed);
        if is_altered {
            self.note(Finding::Altered { chain, sequence });
        }
        let before = self.verified.chains.get(&chain).copied();
        if let Some(before) = before {
            if sequence <= before.last {
                self.note(Finding::Inserted { chain, sequence });
                return;
            }
            let (first, last) = (before.last + 1, sequence - 1);
            if first <= last {
                self.note(Finding::Removed { chain, first, last });
            } else if !is_altered && previous != Some(before.hash) {
                let sequence = before.last;
                self.note(Finding::Altered { chain, sequence });
            }
        } else if !is_altered && (sequence == 1) != (previous == Some([0; HASH_BYTES])) {
            // The first row of all has no hash before it, and no other is without.
            self.note(Finding::Altered { chain, sequence });
        }
        let walked = WalkedChain {
            first: before.map_or(sequence, |it| it.first),
            last: sequence,
            hash: hashed,
        };
        self.verified.chains.insert(chain, walked);
    }

    /// Looks the patients of rows up in the index of patients.
    async fn look_up(
        &mut self,
        snapshot: &DatabaseTransaction,
        rows: &[ReadRow],
    ) -> Result<(), Error> {
        let keys = patient_keys(rows);
        self.place_count += keys.len() as u64;
        let backend = snapshot.get_database_backend();
        for keys in keys.chunks(MEMBERS_MAX) {
            let of_keys = membership("access_log_patient", of_patient_rows(keys), backend);
            let found = of_patient::Entity::find().filter(of_keys);
            if found.clone().count(snapshot).await? == keys.len() as u64 {
                continue;
            }
            let found = found.all(snapshot).await?;
            for missing in keys.iter().filter(|key| !found.contains(key)) {
                let (chain, sequence) = (missing.chain, missing.sequence);
                self.note(Finding::NotFound { chain, sequence });
            }
        }
        Ok(())
    }

    /// Finds the rows at the ends of chains that are missing. Of what was purged nothing can be said.
    fn compare_heads(&mut self) {
        for head in self.heads {
            let walked = self.verified.chains.get(&head.chain);
            let last = walked.map_or(0, |it| it.last);
            if last < head.sequence {
                self.note(Finding::Removed {
                    chain: head.chain,
                    first: last + 1,
                    last: head.sequence,
                });
            }
        }
    }

    fn note(&mut self, finding: Finding) {
        let findings = &mut self.verified.findings;
        if findings.len() < FINDINGS_MAX && !findings.contains(&finding) {
            findings.push(finding);
        }
    }
}

/// Returns the rows after one, in the order of time, which is that of each chain; none for a row whose place cannot be read.
async fn page(
    snapshot: &DatabaseTransaction,
    after: Option<&ReadRow>,
) -> Result<Vec<Option<ReadRow>>, Error> {
    let mut rows = Entity::find()
        .order_by_asc(Column::RecordedAt)
        .order_by_asc(Column::Chain)
        .order_by_asc(Column::Sequence)
        .limit(ROWS_MAX);
    if let Some(after) = after {
        let place = [Column::RecordedAt, Column::Chain, Column::Sequence].map(Expr::col);
        let last = [
            Expr::val(after.recorded_at),
            Expr::val(after.chain),
            Expr::val(after.sequence),
        ];
        rows = rows.filter(Expr::tuple(place).gt(Expr::tuple(last)));
    }
    let rows = rows.build(snapshot.get_database_backend());
    let rows = snapshot.query_all_raw(rows).await?;
    Ok(rows.iter().map(|row| ReadRow::of(row).ok()).collect())
}
