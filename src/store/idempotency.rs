//! Idempotency: the key under which a write is known, and what is stored of it.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;

/// The identity of a write that may be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The caller's subject.
    pub caller: String,
    /// The id that the caller made.
    pub id: Uuid,
    /// A hash of the parsed content.
    pub hash: [u8; 32],
}

impl Call {
    /// Returns the same call on one of several requests. The first that it changes in a care unit carries
    /// the caller's own id, the others one that follows from it, so that ids stay unique there.
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

/// A call that has succeeded before.
#[derive(Clone)]
pub struct IdempotencyRecord {
    /// The hash of its content.
    pub hash: Vec<u8>,
    /// The request on which it was, if it was on one.
    pub request: Option<RequestKey>,
}

/// A call's id, with where and whose it is.
pub type IdempotencyKey = (HsaId, String, Uuid);

/// Returns the key of a call in a care unit.
pub fn idempotency_key(scope: &HsaId, call: &Call) -> IdempotencyKey {
    (scope.clone(), call.caller.clone(), call.id)
}
