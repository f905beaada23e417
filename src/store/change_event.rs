//! Change events: the effects of a commit on subscriptions and watches.

use std::collections::BTreeMap;

use crate::domain::calendar::Instant;
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::{DeliveryChannel, LeaseRef};
use crate::domain::request_key::RequestKey;

/// The effects of a commit on subscriptions and watches.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ChangeEvent {
    /// For each care unit and channel, the first instant at which a notification that was planned or released may be claimed.
    pub claimable: BTreeMap<(HsaId, DeliveryChannel), Instant>,
    /// Changes of leases that consumers hold.
    pub leases: Vec<(LeaseRef, LeaseChange)>,
    /// Requests that were created or changed, each with its new revision.
    pub requests: Vec<(RequestKey, i64)>,
    /// Care units whose settings were changed.
    pub settings: Vec<HsaId>,
    /// True when change events of other replicas may have been missed: listeners read the state anew.
    pub resync: bool,
    /// Instant until which every commit has had its event before this one; none of most. It is never stored.
    pub followed: Option<Instant>,
}

impl ChangeEvent {
    /// Returns the event that makes listeners read the state anew.
    pub fn resync() -> Self {
        Self {
            resync: true,
            ..Self::default()
        }
    }

    /// Returns the event that tells listeners that they have followed all commits until then.
    pub fn followed(until: Instant) -> Self {
        Self {
            followed: Some(until),
            ..Self::default()
        }
    }

    /// Returns true when the commit has no effect on listeners.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The change of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// The consumer has acknowledged the notification, or it was leased anew.
    Ended,
    /// The notification was revoked.
    Revoked,
    /// The lease now expires at this instant.
    Renewed(Instant),
}
