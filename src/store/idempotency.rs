//! Idempotency: the key by which a replay of a write is recognised, and the record that is stored of it.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;

/// The identity of a write that its caller may send again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotentCall {
    /// Subject of the caller.
    pub caller: String,
    /// Request id that the caller chose.
    pub id: Uuid,
    /// Hash of the parsed content.
    pub hash: [u8; 32],
}

impl IdempotentCall {
    /// Returns the same call on one of several requests. The first request that it changes in a care unit carries the
    /// caller's own id, the others an id that is derived from it, so that ids stay unique in the care unit.
    pub fn on(&self, request: &RequestKey) -> Self {
        let mut digest = Sha256::new();
        digest.update(self.id.as_bytes());
        digest.update(request.id.as_bytes());
        let digest = digest.finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self {
            id: uuid::Builder::from_custom_bytes(id).into_uuid(),
            ..self.clone()
        }
    }
}

/// The stored record of a call that has succeeded.
#[derive(Clone)]
pub struct IdempotencyRecord {
    /// Hash of its content.
    pub hash: Vec<u8>,
    /// Request that it was about, if it was about one.
    pub request: Option<RequestKey>,
}

/// Care unit, caller and id of a call.
pub type IdempotencyKey = (HsaId, String, Uuid);

/// Returns the idempotency key of a call in a care unit.
pub fn idempotency_key(scope: &HsaId, call: &IdempotentCall) -> IdempotencyKey {
    (scope.clone(), call.caller.clone(), call.id)
}
