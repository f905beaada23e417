//! Idempotency: the key by which a replay of a write is recognised, and the record that is stored of it.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;
use crate::store::error::Error;

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
        self.derived(request.id.as_bytes())
    }

    /// Returns the call under whose id the answer is stored.
    pub fn answered(&self) -> Self {
        self.derived(b"answer")
    }

    fn derived(&self, part: &[u8]) -> Self {
        let mut digest = Sha256::new();
        digest.update(self.id.as_bytes());
        digest.update(part);
        let digest = digest.finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self {
            id: uuid::Builder::from_custom_bytes(id).into_uuid(),
            ..self.clone()
        }
    }
}

/// The answer of a call on the requests of a patient. Which these are may change, so it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredAnswer {
    /// Requests that were changed.
    pub changed: Vec<RequestKey>,
    /// Requests among them that were open and had an open duplicate.
    pub duplicates: Vec<RequestKey>,
}

/// Care units and ids of requests, changed ones and duplicates, as they are stored.
type AnswerDocument = [Vec<(String, Uuid)>; 2];

impl StoredAnswer {
    /// Returns the answer as JSON.
    pub fn to_text(&self) -> String {
        let pairs = |keys: &[RequestKey]| {
            let pairs = keys.iter();
            let pairs = pairs.map(|key| (key.care_unit.as_str().to_owned(), key.id));
            pairs.collect()
        };
        let document: AnswerDocument = [pairs(&self.changed), pairs(&self.duplicates)];
        serde_json::to_string(&document).expect("texts and ids are JSON")
    }

    /// Returns the answer that [`StoredAnswer::to_text`] encoded.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] when it is none.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        let document: AnswerDocument = serde_json::from_str(text).map_err(Error::internal)?;
        let [changed, duplicates] = document.map(|pairs| {
            let keys = pairs.into_iter().map(|(care_unit, id)| RequestKey {
                care_unit: HsaId::from_stored(care_unit),
                id,
            });
            keys.collect()
        });
        Ok(Self {
            changed,
            duplicates,
        })
    }
}

/// The stored record of a call that has succeeded.
#[derive(Clone)]
pub struct IdempotencyRecord {
    /// Hash of its content.
    pub hash: Vec<u8>,
    /// Request that it was about, if it was about one.
    pub request: Option<RequestKey>,
    /// Answer, of a call on the requests of a patient.
    pub answer: Option<String>,
}

/// Care unit, caller and id of a call.
pub type IdempotencyKey = (HsaId, String, Uuid);

/// Returns the idempotency key of a call in a care unit.
pub fn idempotency_key(scope: &HsaId, call: &IdempotentCall) -> IdempotencyKey {
    (scope.clone(), call.caller.clone(), call.id)
}
