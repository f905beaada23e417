//! Change events: what a commit means to those who wait for notifications or watch lists.

use crate::domain::calendar::Instant;
use crate::domain::notification::LeaseRef;
use crate::domain::request_key::RequestKey;

/// What a commit means to those who wait for messages or watch lists.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ChangeEvent {
    /// The first instant at which a message that was planned or freed may be claimed.
    pub claimable_at: Option<Instant>,
    /// What became of leases that consumers had.
    pub leases: Vec<(LeaseRef, LeaseChange)>,
    /// Requests that were created or changed, each with its revision since.
    pub requests: Vec<(RequestKey, i64)>,
    /// True when commits of other processes may have been missed: listeners look for themselves.
    pub resync: bool,
}

impl ChangeEvent {
    /// Tells listeners to look for themselves.
    pub fn resync() -> Self {
        Self {
            resync: true,
            ..Self::default()
        }
    }

    /// Returns whether it means nothing to anyone.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What became of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// The consumer has answered, or the message was leased anew.
    Ended,
    /// The message was taken back.
    Revoked,
    /// It now runs until then.
    Renewed(Instant),
}
