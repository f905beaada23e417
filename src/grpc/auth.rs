//! The caller of a call. Handlers learn it here and nowhere else, so that authentication can be added
//! without touching them.

/// A caller, authenticated or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Identity: the scope of its request ids, and the actor in the history.
    pub subject: String,
}

impl Caller {
    /// Returns the anonymous caller: no call is authenticated yet.
    pub fn anonymous() -> Self {
        Self {
            subject: "anonymous".to_owned(),
        }
    }
}
