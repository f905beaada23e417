//! Which messages one consumer has in hand: bookkeeping without waiting or storing.

use std::collections::HashMap;

use uuid::Uuid;

use crate::domain::calendar::Instant;
use crate::domain::notification::LeaseRef;
use crate::store::change_event::LeaseChange;

/// The leases of one consumer, up to a limit.
#[derive(Debug)]
pub struct FlowControl {
    outstanding_max: usize,
    /// By their tokens, each with when it runs out.
    held: HashMap<Uuid, (LeaseRef, Instant)>,
}

impl FlowControl {
    /// Returns an empty flow for `outstanding_max` leases.
    pub fn new(outstanding_max: usize) -> Self {
        Self {
            outstanding_max,
            held: HashMap::new(),
        }
    }

    /// Returns how many more messages may be leased.
    pub fn available(&self) -> usize {
        self.outstanding_max.saturating_sub(self.held.len())
    }

    /// Takes a lease in.
    pub fn track(&mut self, lease: LeaseRef, expires_at: Instant) {
        self.held.insert(lease.token, (lease, expires_at));
    }

    /// Follows what has become of a lease; says whether the consumer is to be told that its
    /// message was taken back. A lease that is not held changes nothing: a claim that was repeated may
    /// have given its tokens to other messages before.
    pub fn apply(&mut self, lease: &LeaseRef, lease_change: LeaseChange) -> bool {
        let Some((_, runs_until)) = self
            .held
            .get_mut(&lease.token)
            .filter(|(held, _)| held == lease)
        else {
            return false;
        };
        match lease_change {
            LeaseChange::Renewed(expires_at) => {
                *runs_until = expires_at;
                false
            }
            LeaseChange::Ended | LeaseChange::Revoked => {
                self.held.remove(&lease.token);
                lease_change == LeaseChange::Revoked
            }
        }
    }

    /// Lets go of leases that have run out.
    pub fn expire(&mut self, now: Instant) {
        self.held.retain(|_, (_, expires_at)| now < *expires_at);
    }

    /// Returns when the first lease runs out.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.held.values().map(|(_, expires_at)| *expires_at).min()
    }

    /// Returns every lease, and until when it runs.
    pub fn leases(&self) -> Vec<(LeaseRef, Instant)> {
        self.held.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::calendar::from_micros;
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

    #[test]
    fn room_is_what_is_not_held() {
        let mut flow = FlowControl::new(2);
        assert_eq!(flow.available(), 2);
        flow.track(lease(1, 1), from_micros(10));
        flow.track(lease(2, 2), from_micros(20));
        assert_eq!(flow.available(), 0);
        assert!(!flow.apply(&lease(1, 1), LeaseChange::Ended));
        assert_eq!(flow.available(), 1);
    }

    #[test]
    fn only_the_lease_that_is_held_frees_its_place() {
        let mut flow = FlowControl::new(1);
        flow.track(lease(1, 7), from_micros(10));
        assert!(!flow.apply(&lease(1, 8), LeaseChange::Revoked));
        assert!(!flow.apply(&lease(2, 7), LeaseChange::Revoked));
        assert_eq!(flow.available(), 0);
        assert!(flow.apply(&lease(1, 7), LeaseChange::Revoked));
        assert_eq!(flow.available(), 1);
        assert!(!flow.apply(&lease(1, 7), LeaseChange::Revoked));
    }

    #[test]
    fn a_lease_is_let_go_at_the_instant_at_which_it_runs_out_unless_renewed() {
        let mut flow = FlowControl::new(2);
        flow.track(lease(1, 1), from_micros(10));
        flow.track(lease(2, 2), from_micros(10));
        flow.apply(&lease(2, 2), LeaseChange::Renewed(from_micros(30)));
        assert_eq!(flow.next_expiry(), Some(from_micros(10)));
        flow.expire(from_micros(9));
        assert_eq!(flow.available(), 0);
        flow.expire(from_micros(10));
        assert_eq!(flow.available(), 1);
        assert_eq!(flow.next_expiry(), Some(from_micros(30)));
    }
}
