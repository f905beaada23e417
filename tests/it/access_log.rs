//! The access log: who has seen or changed which patient's data, call by call.

mod calls;
mod chain;
mod identities;
mod verify;

use care_invitation::contract::v1;

use crate::harness::{Harness, within};

/// The patient of every form.
pub const PATIENT: &str = "198003012385";

/// The identity of a patient with a personal identity number.
pub fn identity(number: &str) -> v1::PatientIdentity {
    v1::PatientIdentity {
        personal_id: number.into(),
        personal_id_type: v1::PersonalIdType::Personnummer.into(),
        issuer: String::new(),
    }
}

/// A page of the access log.
pub async fn page(harness: &Harness, query: v1::ListAccessLogRequest) -> v1::ListAccessLogResponse {
    let answer = within(harness.audit().list_access_log(query)).await;
    answer.expect("a page").into_inner()
}

/// What the access log has for a query, the newest first, but for what lists of it have left.
pub async fn listed(harness: &Harness, query: v1::ListAccessLogRequest) -> Vec<v1::AccessLogEntry> {
    let query = v1::ListAccessLogRequest {
        page_size: 500,
        ..query
    };
    let mut entries = page(harness, query).await.entries;
    entries.retain(|it| it.method != "AuditService/ListAccessLog");
    entries
}

/// All that the access log has, the newest first.
pub async fn all(harness: &Harness) -> Vec<v1::AccessLogEntry> {
    listed(harness, v1::ListAccessLogRequest::default()).await
}

/// What the access log has of a patient.
pub async fn of(harness: &Harness, number: &str) -> Vec<v1::AccessLogEntry> {
    let query = v1::ListAccessLogRequest {
        identity: Some(identity(number)),
        ..Default::default()
    };
    listed(harness, query).await
}

/// Who an entry concerned: numbers, with the names of requests.
pub fn concerned(entry: &v1::AccessLogEntry) -> Vec<(&str, Vec<&str>)> {
    let patients = entry.patients.iter();
    patients
        .map(|it| {
            let number = it.identity.as_ref().map_or("", |it| &it.personal_id);
            let requests = it.booking_requests.iter().map(String::as_str);
            (number, requests.collect())
        })
        .collect()
}
