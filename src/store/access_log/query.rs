//! Queries of the access log: pages, and the patients of requests.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use sea_orm::sea_query::{Expr, ExprTrait, Order, Query, SelectStatement};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityName, Iterable, QueryResult};
use uuid::Uuid;

use crate::domain::access::{Access, AccessFilter, AccessPlace, Concerned, LoggedAccess};
use crate::domain::calendar::micros;
use crate::domain::care_units::CareUnits;
use crate::domain::patient::{PersonalId, PersonalIdType};
use crate::domain::request_key::RequestKey;
use crate::store::bulk::{RowQuery, query_all_with};
use crate::store::entity::access_log::{Column, Entity, Model, ReadRow};
use crate::store::entity::access_log_patient as of_patient;
use crate::store::entity::booking_request as request;
use crate::store::entity::document::code;
use crate::store::error::Error;
use crate::store::quarantine::RowKey;
use crate::store::query::care_units::in_units;
use crate::store::query::request_keys::key_rows;

/// Returns a page of the entries before `after`, the newest first.
pub async fn page(
    connection: &impl ConnectionTrait,
    filter: &AccessFilter,
    care_units: &CareUnits,
    after: Option<AccessPlace>,
    limit: u32,
) -> Result<Vec<(AccessPlace, Option<LoggedAccess>)>, Error> {
    let mut select = select_page(filter, after, limit);
    if let Some(in_units) = in_units(Expr::col((Entity, Column::CareUnit)), care_units) {
        select.and_where(in_units);
    }
    let statement = connection.get_database_backend().build(&select);
    let rows = connection.query_all_raw(statement).await?;
    rows.iter().map(entry).collect()
}

fn entry(row: &QueryResult) -> Result<(AccessPlace, Option<LoggedAccess>), Error> {
    let row = ReadRow::of(row)?;
    let place = row.place();
    let key = RowKey {
        table: Entity.table_name(),
        care_unit: None,
        id: place.chain,
        number: Some(place.sequence),
    };
    Ok((place, key.accept(row.content.and_then(Model::into_domain))))
}

/// Returns the query of a page. A patient's entries are found by the index of patients, others by the care unit, the
/// subject or the time.
fn select_page(filter: &AccessFilter, after: Option<AccessPlace>, limit: u32) -> SelectStatement {
    let mut select = Query::select();
    select
        .columns(Column::iter().map(|column| (Entity, column)))
        .limit(u64::from(limit));
    let place = match &filter.patient {
        Some(patient) => {
            join_patient(&mut select, patient);
            use of_patient::Column::{Chain, RecordedAt, Sequence};
            [RecordedAt, Chain, Sequence].map(|it| Expr::col((of_patient::Entity, it)))
        }
        None => {
            select.from(Entity);
            [Column::RecordedAt, Column::Chain, Column::Sequence].map(|it| Expr::col((Entity, it)))
        }
    };
    for column in &place {
        select.order_by_expr(column.clone(), Order::Desc);
    }
    let [at, ..] = place.clone();
    if let Some(from) = filter.from {
        select.and_where(at.clone().gte(micros(from)));
    }
    if let Some(until) = filter.until {
        select.and_where(at.lt(micros(until)));
    }
    if let Some(after) = after {
        let last = [
            Expr::val(micros(after.at)),
            Expr::val(after.chain),
            Expr::val(after.sequence),
        ];
        select.and_where(Expr::tuple(place).lt(Expr::tuple(last)));
    }
    if let Some(subject) = &filter.subject {
        select.and_where(Column::Subject.eq(subject));
    }
    if let Some(care_unit) = &filter.care_unit {
        select.and_where(Column::CareUnit.eq(care_unit.as_str()));
    }
    select
}

/// Reads from the places of a patient, and the entries there.
fn join_patient(select: &mut SelectStatement, patient: &PersonalId) {
    use of_patient::Column::{Chain, Issuer, PersonalId, PersonalIdType, RecordedAt, Sequence};
    let pairs = [
        (Column::RecordedAt, RecordedAt),
        (Column::Chain, Chain),
        (Column::Sequence, Sequence),
    ];
    select.from(of_patient::Entity).cross_join(Entity);
    for (of_entry, of_place) in pairs {
        let equal = of_entry.into_expr().equals((of_patient::Entity, of_place));
        select.and_where(equal);
    }
    select
        .and_where(PersonalId.eq(patient.number()))
        .and_where(PersonalIdType.eq(patient.kind().code()))
        .and_where(Issuer.eq(patient.issuer().unwrap_or_default()));
}

/// Adds the patients of requests whose patients the messages do not name. Requests that do not exist stay without.
pub async fn add_patients(
    connection: &impl ConnectionTrait,
    accesses: &mut [Access],
) -> Result<(), Error> {
    let mut keys: Vec<RequestKey> = accesses.iter().flat_map(without_patient).collect();
    if keys.is_empty() {
        return Ok(());
    }
    keys.sort();
    keys.dedup();
    let found = patients_of(connection, &keys).await?;
    for access in accesses {
        let Some(care_unit) = access.concerns.care_unit.clone() else {
            continue;
        };
        let mut patients: BTreeMap<Option<PersonalId>, Vec<Uuid>> = BTreeMap::new();
        for Concerned { patient, requests } in std::mem::take(&mut access.concerns.concerned) {
            if patient.is_some() {
                patients.entry(patient).or_default().extend(requests);
                continue;
            }
            for id in requests {
                let care_unit = care_unit.clone();
                let patient = found.get(&RequestKey { care_unit, id }).cloned();
                patients.entry(patient).or_default().push(id);
            }
        }
        let patients = patients.into_iter();
        let concerned = patients.map(|(patient, mut requests)| {
            requests.sort();
            requests.dedup();
            Concerned { patient, requests }
        });
        access.concerns.concerned = concerned.collect();
    }
    Ok(())
}

/// Returns the requests of an entry whose patients are not named.
fn without_patient(access: &Access) -> impl Iterator<Item = RequestKey> {
    let unnamed = access
        .concerns
        .keys()
        .filter(|(patient, _)| patient.is_none());
    unnamed.flat_map(|(_, keys)| keys)
}

/// Returns the patients of those of these requests that exist.
async fn patients_of(
    connection: &impl ConnectionTrait,
    keys: &[RequestKey],
) -> Result<HashMap<RequestKey, PersonalId>, Error> {
    static QUERY: LazyLock<RowQuery> =
        LazyLock::new(|| RowQuery::new(|_| of_keys(select_patients())));
    let rows = query_all_with(connection, [("k", key_rows(keys))], &QUERY).await?;
    rows.iter().map(patient).collect()
}

/// Reads the key of a request and its patient.
pub fn patient(row: &QueryResult) -> Result<(RequestKey, PersonalId), Error> {
    let key = request::key((row.try_get_by_index(0)?, row.try_get_by_index(1)?));
    let kind = code(PersonalIdType::from_code, row.try_get_by_index(3)?)?;
    let (number, issuer) = (row.try_get_by_index(2)?, row.try_get_by_index(4)?);
    Ok((key, PersonalId::from_stored(kind, issuer, number)))
}

/// Returns the query for requests, with their patients, beside the table `k`.
pub fn select_patients() -> SelectStatement {
    use request::Column::{CareUnit, Id, Issuer, PersonalId, PersonalIdType};
    let columns = [CareUnit, Id, PersonalId, PersonalIdType, Issuer];
    Query::select()
        .columns(columns.map(|column| (request::Entity, column)))
        .from("k")
        .cross_join(request::Entity)
        .take()
}

/// Returns the query for those of its requests whose keys the table `k` has.
fn of_keys(mut select: SelectStatement) -> SelectStatement {
    for column in [
        request::Column::Bucket,
        request::Column::CareUnit,
        request::Column::Id,
    ] {
        select.and_where(column.into_expr().equals(("k", column)));
    }
    select
}
