//! Patients with protected identity among those in entries.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use sea_orm::sea_query::{ExprTrait, SelectStatement};
use sea_orm::{ColumnTrait, ConnectionTrait, QueryResult};

use super::query::{of_keys, patient, select_patients};
use crate::domain::access::LoggedAccess;
use crate::domain::patient::PersonalId;
use crate::domain::request_key::RequestKey;
use crate::store::bulk::rows::{RowColumn, Rows};
use crate::store::bulk::{RowQuery, query_all_with};
use crate::store::entity::booking_request::{Column, Entity};
use crate::store::error::Error;
use crate::store::query::request_keys::key_rows;

/// Returns those of the patients in these entries of whom some request says that they have protected identity: one that
/// has their number now, or one in the entry that has another number since.
pub async fn protected_in(
    connection: &impl ConnectionTrait,
    entries: &[LoggedAccess],
) -> Result<BTreeSet<PersonalId>, Error> {
    static OF_NUMBERS: LazyLock<RowQuery> = LazyLock::new(|| {
        let of_number = Column::PersonalId.into_expr();
        let of_number = of_number.equals(("k", Column::PersonalId));
        RowQuery::new(move |_| select_protected().and_where(of_number.clone()).take())
    });
    static OF_KEYS: LazyLock<RowQuery> =
        LazyLock::new(|| RowQuery::new(|_| of_keys(select_protected())));
    let named: BTreeSet<&PersonalId> = entries.iter().flat_map(patients).map(|it| it.0).collect();
    let keys = entries.iter().flat_map(patients).flat_map(|it| it.1);
    let keys: BTreeSet<RequestKey> = keys.collect();
    let keys: Vec<RequestKey> = keys.into_iter().collect();
    let mut numbers = Rows::new(vec![RowColumn::of::<Entity>(Column::PersonalId)]);
    for number in named.iter().map(|it| it.number()).collect::<BTreeSet<_>>() {
        numbers.push([number.into()]);
    }
    let found = query_all_with(connection, [("k", numbers)], &OF_NUMBERS).await?;
    let found: Vec<(RequestKey, PersonalId)> =
        found.iter().map(patient).collect::<Result<_, Error>>()?;
    let mut protected: BTreeSet<PersonalId> = found.into_iter().map(|(_, it)| it).collect();
    let key = |row: &QueryResult| Ok(patient(row)?.0);
    let found = query_all_with(connection, [("k", key_rows(&keys))], &OF_KEYS).await?;
    let found: BTreeSet<RequestKey> = found.iter().map(key).collect::<Result<_, Error>>()?;
    for (patient, keys) in entries.iter().flat_map(patients) {
        if keys.iter().any(|it| found.contains(it)) {
            protected.insert(patient.clone());
        }
    }
    Ok(protected)
}

/// Returns the patients of an entry, each with the keys of their requests.
fn patients(entry: &LoggedAccess) -> impl Iterator<Item = (&PersonalId, Vec<RequestKey>)> {
    let keys = entry.access.concerns.keys();
    keys.filter_map(|(patient, keys)| Some((patient?, keys)))
}

/// Returns the query for requests of patients with protected identity beside the table `k`.
fn select_protected() -> SelectStatement {
    select_patients()
        .and_where(Column::IsProtected.into_expr())
        .take()
}
