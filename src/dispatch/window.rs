//! Which messages one consumer has in hand: bookkeeping without waiting or storing.

use std::collections::HashMap;

use uuid::Uuid;

use crate::domain::calendar::Instant;
use crate::domain::notification::LeaseRef;
use crate::store::LeaseFate;

/// The leases of one consumer, up to a limit.
#[derive(Debug)]
pub struct Window {
    outstanding_max: usize,
    /// By their tokens, each with when it runs out.
    held: HashMap<Uuid, (LeaseRef, Instant)>,
}

impl Window {
    /// An empty window for `outstanding_max` leases.
    pub fn new(outstanding_max: usize) -> Self {
        Self {
            outstanding_max,
            held: HashMap::new(),
        }
    }

    /// How many more messages may be leased.
    pub fn room(&self) -> usize {
        self.outstanding_max.saturating_sub(self.held.len())
    }

    /// Takes a lease in.
    pub fn hold(&mut self, lease: LeaseRef, expires_at: Instant) {
        self.held.insert(lease.token, (lease, expires_at));
    }

    /// Follows what has become of a lease; says whether the consumer is to be told that its
    /// message was taken back. A lease that is not held changes nothing: a claim that was repeated may
    /// have given its tokens to other messages before.
    pub fn follow(&mut self, lease: &LeaseRef, fate: LeaseFate) -> bool {
        let Some((_, runs_until)) = self
            .held
            .get_mut(&lease.token)
            .filter(|(held, _)| held == lease)
        else {
            return false;
        };
        match fate {
            LeaseFate::Renewed(expires_at) => {
                *runs_until = expires_at;
                false
            }
            LeaseFate::Ended | LeaseFate::Revoked => {
                self.held.remove(&lease.token);
                fate == LeaseFate::Revoked
            }
        }
    }

    /// Lets go of leases that have run out.
    pub fn expire(&mut self, now: Instant) {
        self.held.retain(|_, (_, expires_at)| now < *expires_at);
    }

    /// When the first lease runs out.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.held.values().map(|(_, expires_at)| *expires_at).min()
    }

    /// Every lease, and until when it runs.
    pub fn leases(&self) -> Vec<(LeaseRef, Instant)> {
        self.held.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::booking_request::RequestKey;
    use crate::domain::calendar::from_micros;
    use crate::domain::hsa_id::HsaId;

    fn lease(id: u128, token: u128) -> LeaseRef {
        LeaseRef {
            request: RequestKey {
                care_unit: HsaId::trusted("SE2321000131-P1".into()),
                id: Uuid::from_u128(1),
            },
            notification: Uuid::from_u128(id),
            token: Uuid::from_u128(token),
        }
    }

    #[test]
    fn room_is_what_is_not_held() {
        let mut window = Window::new(2);
        assert_eq!(window.room(), 2);
        window.hold(lease(1, 1), from_micros(10));
        window.hold(lease(2, 2), from_micros(20));
        assert_eq!(window.room(), 0);
        assert!(!window.follow(&lease(1, 1), LeaseFate::Ended));
        assert_eq!(window.room(), 1);
    }

    #[test]
    fn only_the_lease_that_is_held_frees_its_place() {
        let mut window = Window::new(1);
        window.hold(lease(1, 7), from_micros(10));
        assert!(!window.follow(&lease(1, 8), LeaseFate::Revoked));
        assert!(!window.follow(&lease(2, 7), LeaseFate::Revoked));
        assert_eq!(window.room(), 0);
        assert!(window.follow(&lease(1, 7), LeaseFate::Revoked));
        assert_eq!(window.room(), 1);
        assert!(!window.follow(&lease(1, 7), LeaseFate::Revoked));
    }

    #[test]
    fn a_lease_is_let_go_at_the_instant_at_which_it_runs_out_unless_renewed() {
        let mut window = Window::new(2);
        window.hold(lease(1, 1), from_micros(10));
        window.hold(lease(2, 2), from_micros(10));
        window.follow(&lease(2, 2), LeaseFate::Renewed(from_micros(30)));
        assert_eq!(window.next_expiry(), Some(from_micros(10)));
        window.expire(from_micros(9));
        assert_eq!(window.room(), 0);
        window.expire(from_micros(10));
        assert_eq!(window.room(), 1);
        assert_eq!(window.next_expiry(), Some(from_micros(30)));
    }
}
