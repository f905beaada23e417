//! Idempotency keys as rows. A key is stored on the history row that its call wrote, or, when the call changed nothing, in
//! this table.

use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::entity::prelude::*;

use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;
use crate::store::bucket::bucket;
use crate::store::entity::debug_without_content;
use crate::store::idempotency::IdempotentCall;

/// A row of `idempotency_key`.
#[derive(Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "idempotency_key")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub bucket: i16,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub care_unit: String,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub actor: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub request_id: Uuid,
    pub content_hash: Vec<u8>,
    /// Request that the call was about; none when it was about none.
    pub booking_request: Option<Uuid>,
    /// Answer of a call on the requests of a patient, as JSON; none of other calls.
    #[sea_orm(column_type = "Text", nullable)]
    pub answer: Option<String>,
    /// Time by the database's clock, which all replicas share.
    pub recorded_at: i64,
}

debug_without_content!(Model);

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Returns the row of a call that changed nothing, on a request or on none. The database dates it.
pub fn row(scope: &HsaId, call: &IdempotentCall, request: Option<&RequestKey>) -> ActiveModel {
    ActiveModel {
        bucket: Set(bucket(scope)),
        care_unit: Set(scope.as_str().to_owned()),
        actor: Set(call.caller.clone()),
        request_id: Set(call.id),
        content_hash: Set(call.hash.to_vec()),
        booking_request: Set(request.map(|request| request.id)),
        answer: Set(None),
        recorded_at: NotSet,
    }
}

/// Returns the row of the answer of a call on the requests of a patient.
pub fn answer_row(scope: &HsaId, call: &IdempotentCall, answer: &str) -> ActiveModel {
    ActiveModel {
        answer: Set(Some(answer.to_owned())),
        ..row(scope, call, None)
    }
}
