//! The caller of a call. Handlers learn it here and nowhere else, so that authentication can be added
//! without touching them.

use crate::domain::worklist::query::CareUnits;

/// A caller, authenticated or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Identity: the scope of its request ids, and the actor in the history.
    pub subject: String,
}

impl Caller {
    /// Returns those of some care units that the caller may see: all of them, as long as no call is
    /// authenticated. Every list that is of more than one care unit asks here, anew for each page.
    pub fn visible(&self, care_units: CareUnits) -> CareUnits {
        care_units
    }

    /// Returns the anonymous caller: no call is authenticated yet.
    pub fn anonymous() -> Self {
        Self {
            subject: "anonymous".to_owned(),
        }
    }
}
