//! Flow control: the leases that one consumer has outstanding. Neither waits nor stores anything.

use std::collections::HashMap;

use uuid::Uuid;

use super::router::Route;
use crate::domain::calendar::Instant;
use crate::domain::notification::LeaseRef;
use crate::store::change_event::LeaseChange;

/// The outstanding leases of one consumer, up to a limit.
pub struct FlowControl {
    outstanding_max: usize,
    /// The latest lease of each notification, by the notification's id.
    outstanding: HashMap<Uuid, Outstanding>,
}

struct Outstanding {
    lease: LeaseRef,
    expires_at: Instant,
    /// Brings its changes for as long as it is outstanding.
    _route: Route,
}

impl FlowControl {
    /// Returns flow control for up to `outstanding_max` leases, with none outstanding.
    pub fn new(outstanding_max: usize) -> Self {
        Self {
            outstanding_max,
            outstanding: HashMap::new(),
        }
    }

    /// Returns the number of notifications that may still be leased.
    pub fn available(&self) -> usize {
        self.outstanding_max.saturating_sub(self.outstanding.len())
    }

    /// Tracks a lease from now on, in place of an earlier one of the same notification, which has ended.
    pub fn track(&mut self, lease: LeaseRef, expires_at: Instant, route: Route) {
        let outstanding = Outstanding {
            lease,
            expires_at,
            _route: route,
        };
        self.outstanding
            .insert(outstanding.lease.notification, outstanding);
    }

    /// Applies a change of a lease. Returns whether its notification was revoked while the consumer had it. A lease that
    /// is not outstanding changes nothing: the consumer may have the notification by a newer one, and an earlier attempt
    /// at the same claim may have used its token for another notification.
    pub fn apply(&mut self, lease: &LeaseRef, lease_change: LeaseChange) -> bool {
        let Some(outstanding) = self
            .outstanding
            .get_mut(&lease.notification)
            .filter(|outstanding| outstanding.lease == *lease)
        else {
            return false;
        };
        match lease_change {
            LeaseChange::Renewed(until) => {
                outstanding.expires_at = until;
                false
            }
            LeaseChange::Ended | LeaseChange::Revoked => {
                self.outstanding.remove(&lease.notification);
                lease_change == LeaseChange::Revoked
            }
        }
    }

    /// Drops the leases that have expired.
    pub fn expire(&mut self, now: Instant) {
        self.outstanding.retain(|_, it| now < it.expires_at);
    }

    /// Returns the instant at which the first lease expires.
    pub fn next_expiry(&self) -> Option<Instant> {
        let expiries = self.outstanding.values().map(|it| it.expires_at);
        expiries.min()
    }

    /// Returns every outstanding lease with the instant at which it expires.
    pub fn leases(&self) -> Vec<(LeaseRef, Instant)> {
        let outstanding = self.outstanding.values();
        outstanding
            .map(|it| (it.lease.clone(), it.expires_at))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::router::{Interest, Router};
    use super::*;
    use crate::domain::calendar::from_micros;
    use crate::domain::care_units::CareUnits;
    use crate::domain::hsa_id::HsaId;
    use crate::domain::request_key::RequestKey;

    fn lease(id: u128, token: u128) -> LeaseRef {
        LeaseRef {
            request: RequestKey {
                care_unit: HsaId::from_stored("SE2321000131-P1".into()),
                id: Uuid::from_u128(1),
            },
            notification: Uuid::from_u128(id),
            token: Uuid::from_u128(token),
        }
    }

    fn track(flow: &mut FlowControl, lease: LeaseRef, expires_at: Instant) {
        let interest = Interest::Due(CareUnits::Every, Vec::new());
        let mailbox = Router::default().open(interest);
        let route = mailbox.follow(&[lease.token]).remove(&lease.token);
        flow.track(lease, expires_at, route.expect("it is followed"));
    }

    #[test]
    fn available_is_the_limit_less_what_is_outstanding() {
        let mut flow = FlowControl::new(2);
        assert_eq!(flow.available(), 2);
        track(&mut flow, lease(1, 1), from_micros(10));
        track(&mut flow, lease(2, 2), from_micros(20));
        assert_eq!(flow.available(), 0);
        assert!(!flow.apply(&lease(1, 1), LeaseChange::Ended));
        assert_eq!(flow.available(), 1);
    }

    #[test]
    fn only_an_outstanding_lease_frees_its_place() {
        let mut flow = FlowControl::new(1);
        track(&mut flow, lease(1, 7), from_micros(10));
        assert!(!flow.apply(&lease(1, 8), LeaseChange::Revoked));
        assert!(!flow.apply(&lease(2, 7), LeaseChange::Revoked));
        assert_eq!(flow.available(), 0);
        assert!(flow.apply(&lease(1, 7), LeaseChange::Revoked));
        assert_eq!(flow.available(), 1);
        assert!(!flow.apply(&lease(1, 7), LeaseChange::Revoked));
    }

    #[test]
    fn what_was_leased_again_is_not_said_to_be_revoked_by_its_earlier_lease() {
        let mut flow = FlowControl::new(3);
        for (id, token) in [(1, 7), (2, 8), (1, 9), (2, 10)] {
            track(&mut flow, lease(id, token), from_micros(10));
        }
        assert_eq!(flow.available(), 1, "an earlier lease has no place");
        assert!(!flow.apply(&lease(1, 7), LeaseChange::Revoked));
        assert!(flow.apply(&lease(1, 9), LeaseChange::Revoked));
        // It was answered before anything was heard of the end of the earlier lease.
        assert!(!flow.apply(&lease(2, 10), LeaseChange::Ended));
        assert!(!flow.apply(&lease(2, 8), LeaseChange::Revoked));
    }

    #[test]
    fn a_lease_is_dropped_at_the_instant_at_which_it_expires_unless_renewed() {
        let mut flow = FlowControl::new(2);
        track(&mut flow, lease(1, 1), from_micros(10));
        track(&mut flow, lease(2, 2), from_micros(10));
        flow.apply(&lease(2, 2), LeaseChange::Renewed(from_micros(30)));
        assert_eq!(flow.next_expiry(), Some(from_micros(10)));
        flow.expire(from_micros(9));
        assert_eq!(flow.available(), 0);
        flow.expire(from_micros(10));
        assert_eq!(flow.available(), 1);
        assert_eq!(flow.next_expiry(), Some(from_micros(30)));
    }
}
