//! Idempotency keys as rows. A key is stored on the history row that its call wrote, or, when the call changed nothing, in
//! this table.

use sea_orm::Value;

use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;
use crate::store::bulk::rows::{Kind, Table};
use crate::store::idempotency::IdempotentCall;

/// The table of the keys of calls that changed nothing, for bulk writes.
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

/// Returns the row of a call that changed nothing, on a request or on none.
pub fn values(scope: &HsaId, call: &IdempotentCall, request: Option<&RequestKey>) -> Vec<Value> {
    vec![
        scope.as_str().into(),
        call.caller.clone().into(),
        call.id.into(),
        call.hash.to_vec().into(),
        request.map(|request| request.id).into(),
    ]
}
