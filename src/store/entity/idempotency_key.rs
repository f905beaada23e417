//! Calls that may be repeated, and where they are idempotency_record: on the history row that they wrote,
//! or, when they changed nothing, in a table of their own.

use sea_orm::Value;

use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;
use crate::store::bulk::rows::{Kind, Table};
use crate::store::idempotency::Call;

/// The table of calls that changed nothing, for writing sets of rows.
pub const TABLE: Table = Table {
    name: "idempotency_key",
    key: &[
        ("care_unit", Kind::Text),
        ("actor", Kind::Text),
        ("request_id", Kind::Uuid),
    ],
    mutable: &[],
    fixed: &[
        ("content_hash", Kind::Bytes),
        ("booking_request", Kind::Optional(&Kind::Uuid)),
    ],
};

/// Returns a call that changed nothing, on a request or on none, as a row of a set.
pub fn values(scope: &HsaId, call: &Call, request: Option<&RequestKey>) -> Vec<Value> {
    vec![
        scope.as_str().into(),
        call.caller.clone().into(),
        call.id.into(),
        call.hash.to_vec().into(),
        request.map(|request| request.id).into(),
    ]
}
