//! Patients with protected identity in the access log. Who has or had it under a number is decided by the number alone, so
//! that neither the other entries of a page nor a purge of requests changes it.
//!
//! Requests say it as long as they exist and keep the number. A change or a purge after which a request no longer says so
//! writes it to `access_log_identity` in the same transaction, and a change of the number the one that took its place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use sea_orm::sea_query::{ExprTrait, Query};
use sea_orm::{ColumnTrait, ConnectionTrait, FromQueryResult, Iterable};

use super::query::{patient, select_patients};
use crate::domain::patient::PersonalId;
use crate::store::bulk::rows::{RowColumn, Rows};
use crate::store::bulk::{RowQuery, query_all_with};
use crate::store::entity::access_log_identity::{Column, Entity, Model};
use crate::store::entity::booking_request as request;
use crate::store::error::Error;

/// Returns those of these patients who have or had protected identity, under this number or one that took its place.
pub async fn protected_among(
    connection: &impl ConnectionTrait,
    patients: BTreeSet<PersonalId>,
) -> Result<BTreeSet<PersonalId>, Error> {
    let mut known = patients.clone();
    let mut protected = BTreeSet::new();
    let mut replaced: BTreeMap<PersonalId, BTreeSet<PersonalId>> = BTreeMap::new();
    let mut asked = patients;
    // Each number is asked for once, however they took each other's place.
    while !asked.is_empty() {
        let mut next = BTreeSet::new();
        for row in rows_of(connection, &asked).await? {
            let of = row.identity()?;
            let Some(by) = row.next()? else {
                protected.insert(of);
                continue;
            };
            if known.insert(by.clone()) {
                next.insert(by.clone());
            }
            replaced.entry(by).or_default().insert(of);
        }
        asked = next;
    }
    protected.extend(protected_now(connection, &known).await?);
    let mut later: Vec<PersonalId> = protected.iter().cloned().collect();
    while let Some(number) = later.pop() {
        for before in replaced.remove(&number).into_iter().flatten() {
            if protected.insert(before.clone()) {
                later.push(before);
            }
        }
    }
    Ok(protected)
}

/// Returns what is kept of these numbers.
async fn rows_of(
    connection: &impl ConnectionTrait,
    patients: &BTreeSet<PersonalId>,
) -> Result<Vec<Model>, Error> {
    const KEY: [Column; 3] = [Column::PersonalId, Column::PersonalIdType, Column::Issuer];
    static QUERY: LazyLock<RowQuery> = LazyLock::new(|| {
        RowQuery::new(|_| {
            let mut select = Query::select();
            select
                .columns(Column::iter().map(|column| (Entity, column)))
                .from("k")
                .cross_join(Entity);
            for column in KEY {
                select.and_where(column.into_expr().equals(("k", column)));
            }
            select
        })
    });
    let mut numbers = Rows::new(KEY.map(RowColumn::of::<Entity>).to_vec());
    for patient in patients {
        numbers.push([
            patient.number().into(),
            patient.kind().code().into(),
            patient.issuer().unwrap_or_default().into(),
        ]);
    }
    let found = query_all_with(connection, [("k", numbers)], &QUERY).await?;
    let rows = found.iter().map(|row| Model::from_query_result(row, ""));
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns the patients with these numbers of whom some request says that they have protected identity, and others whose
/// numbers read the same.
async fn protected_now(
    connection: &impl ConnectionTrait,
    patients: &BTreeSet<PersonalId>,
) -> Result<Vec<PersonalId>, Error> {
    use request::Column::{IsProtected, PersonalId};
    static QUERY: LazyLock<RowQuery> = LazyLock::new(|| {
        RowQuery::new(|_| {
            let of_number = PersonalId.into_expr().equals(("k", PersonalId));
            select_patients()
                .and_where(IsProtected.into_expr())
                .and_where(of_number)
                .take()
        })
    });
    let mut numbers = Rows::new(vec![RowColumn::of::<request::Entity>(PersonalId)]);
    for number in patients
        .iter()
        .map(|it| it.number())
        .collect::<BTreeSet<_>>()
    {
        numbers.push([number.into()]);
    }
    let found = query_all_with(connection, [("k", numbers)], &QUERY).await?;
    found.iter().map(|row| Ok(patient(row)?.1)).collect()
}
