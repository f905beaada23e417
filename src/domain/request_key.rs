//! The name by which a request is known.

use uuid::Uuid;

use super::hsa_id::HsaId;

/// Which request: the care unit that it belongs to, and its id there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey {
    /// The care unit.
    pub care_unit: HsaId,
    /// The id, made by the service.
    pub id: Uuid,
}
