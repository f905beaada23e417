//! Care units that a query, a claim or a change is about.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::hsa_id::HsaId;

/// Care units that a query, a claim or a change is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CareUnits {
    /// Every care unit.
    Every,
    /// Some that were named; of these, those that the caller may see.
    These(Vec<HsaId>),
    /// All that a caller may see who does not see every one.
    Within(Arc<Units>),
}

/// Care units, one by one or all of an organisation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// Care units that are named one by one.
    pub named: BTreeSet<HsaId>,
    /// The beginnings of the HSA-ids of organisations, up to and including the hyphen, in capitals.
    pub organisations: BTreeSet<String>,
}

impl CareUnits {
    /// Returns whether a care unit is among them.
    pub fn contains(&self, care_unit: &HsaId) -> bool {
        match self {
            Self::Every => true,
            Self::These(care_units) => care_units.contains(care_unit),
            Self::Within(units) => units.contain(care_unit),
        }
    }

    /// Returns them when each is named; none when they are every one, or all of an organisation.
    pub fn named(&self) -> Option<Vec<&HsaId>> {
        match self {
            Self::These(care_units) => Some(care_units.iter().collect()),
            Self::Within(units) if units.organisations.is_empty() => {
                Some(units.named.iter().collect())
            }
            Self::Every | Self::Within(_) => None,
        }
    }
}

impl Units {
    /// Returns whether a care unit is among them.
    pub fn contain(&self, care_unit: &HsaId) -> bool {
        let is_of = |organisation: &String| care_unit.as_str().starts_with(organisation);
        self.named.contains(care_unit) || self.organisations.iter().any(is_of)
    }
}
