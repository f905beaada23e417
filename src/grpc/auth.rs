//! Who calls. Handlers ask here and nowhere else, so that tokens can come without touching them.

/// A caller, known or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who it is: the scope of its request ids, and the actor in the history.
    pub subject: String,
}

impl Caller {
    /// Whoever it may be: nobody is asked for a token yet.
    pub fn anonymous() -> Self {
        Self {
            subject: "anonymous".to_owned(),
        }
    }
}
