//! The key by which a request is known.

use uuid::Uuid;

use super::hsa_id::HsaId;

/// Key of a request: the care unit that it belongs to, and its id there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey {
    /// Care unit that the request belongs to.
    pub care_unit: HsaId,
    /// Id, made by the service.
    pub id: Uuid,
}
