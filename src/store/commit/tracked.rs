//! Change tracking: a request in the state in which a batch has loaded it, and in its current state.

use std::sync::Arc;

use uuid::Uuid;

use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::{LeaseRef, Notification};
use crate::store::change_event::ChangeEvent;
use crate::store::change_event::LeaseChange;

/// A request with its original and its current state.
pub struct TrackedRequest {
    /// State in which it was loaded; none of a new request.
    pub original: Option<Arc<BookingRequest>>,
    /// Versions with which its notifications were loaded.
    pub versions: Vec<i32>,
    /// Current state.
    pub current: Arc<BookingRequest>,
}

impl TrackedRequest {
    /// Returns a request as it was loaded.
    pub fn loaded(VersionedRequest { record, versions }: VersionedRequest) -> Self {
        Self {
            original: Some(Arc::clone(&record)),
            versions,
            current: record,
        }
    }

    /// Returns a new request.
    pub fn new(record: Arc<BookingRequest>) -> Self {
        Self {
            original: None,
            versions: Vec::new(),
            current: record,
        }
    }

    /// Pairs each notification with its original state.
    fn notifications(&self) -> impl Iterator<Item = (Option<&Notification>, &Notification)> {
        let before = self.original.as_deref().map_or(&[][..], notifications);
        notifications(&self.current)
            .iter()
            .enumerate()
            .map(|(ordinal, notification)| (before.get(ordinal), notification))
    }

    /// Adds the difference to the change event.
    pub fn add_to_event(&self, event: &mut ChangeEvent) {
        let current = &self.current;
        for (before, after) in self.notifications() {
            if before == Some(after) {
                continue;
            }
            if let Some(at) = after.claimable_at {
                let place = (current.key.care_unit.clone(), after.channel);
                let first = event.claimable.entry(place).or_insert(at);
                *first = at.min(*first);
            }
            if let Some((lease, lease_change)) =
                before.and_then(|before| lease_change_of(before, after))
            {
                let lease = LeaseRef {
                    request: current.key.clone(),
                    notification: after.id,
                    token: lease,
                };
                event.leases.push((lease, lease_change));
            }
        }
        if self.is_changed() {
            event.requests.push((current.key.clone(), current.revision));
        }
    }

    /// Returns true when the request itself is changed.
    pub fn is_changed(&self) -> bool {
        let original = self.original.as_ref().map(|it| it.revision);
        original != Some(self.current.revision)
    }

    /// Returns the notifications that must be written, each with its ordinal and, if it is stored, its original state and
    /// the version that its row is expected to have.
    ///
    /// Every pending notification of a changed request is written too: a claim that has read the request in its original
    /// state then finds the notification changed.
    pub fn rows_to_write(
        &self,
    ) -> impl Iterator<Item = (usize, Option<(&Notification, i32)>, &Notification)> {
        let is_changed = self.is_changed();
        self.notifications()
            .enumerate()
            .filter(move |(_, (before, after))| {
                *before != Some(*after) || (is_changed && after.is_pending())
            })
            .map(|(ordinal, (before, after))| {
                let stored = before.zip(self.versions.get(ordinal).copied());
                (ordinal, stored, after)
            })
    }

    /// Returns the request in the state that the batch leaves behind; `None` when it writes nothing of it.
    pub fn post_state(&self) -> Option<VersionedRequest> {
        let mut is_written = self.is_changed();
        let mut versions = self.versions.clone();
        for (ordinal, stored, _) in self.rows_to_write() {
            is_written = true;
            let next = stored.map_or(1, |(_, version)| version + 1);
            match versions.get_mut(ordinal) {
                Some(version) => *version = next,
                None => versions.push(next),
            }
        }
        is_written.then(|| VersionedRequest {
            record: Arc::clone(&self.current),
            versions,
        })
    }

    /// Returns where the changed notifications stood in the due index: in which care unit, at which instants.
    pub fn moved_due_entries(&self) -> impl Iterator<Item = (HsaId, Instant)> {
        let care_unit = &self.current.key.care_unit;
        let pairs = self.notifications();
        let changed = pairs.filter(|(before, after)| *before != Some(*after));
        changed.filter_map(|(before, _)| Some((care_unit.clone(), before?.claimable_at?)))
    }
}

/// Returns the notifications of a request, which has none without an invitation.
pub fn notifications(record: &BookingRequest) -> &[Notification] {
    match &record.care_invitation {
        Some(invitation) => &invitation.notifications,
        None => &[],
    }
}

/// A request, and the versions of its notifications.
#[derive(Clone)]
pub struct VersionedRequest {
    /// The request.
    pub record: Arc<BookingRequest>,
    /// The version of each of its notifications.
    pub versions: Vec<i32>,
}

/// Returns the token of the lease in `before`, and its change in `after`; `None` when there is no lease or no change.
fn lease_change_of(before: &Notification, after: &Notification) -> Option<(Uuid, LeaseChange)> {
    let lease = before.lease.as_ref().filter(|_| before.is_leased())?;
    Some((
        lease.token,
        lease_change(after, lease.token, lease.expires_at)?,
    ))
}

/// Returns the change of a lease that was to expire at `expires_at`; `None` when it is unchanged.
pub fn lease_change(
    notification: &Notification,
    token: Uuid,
    expires_at: Instant,
) -> Option<LeaseChange> {
    match notification
        .lease
        .as_ref()
        .filter(|lease| lease.token == token)
    {
        None => Some(LeaseChange::Ended),
        Some(lease) if lease.answer.is_some() => Some(LeaseChange::Ended),
        Some(_) if !notification.is_leased() => Some(LeaseChange::Revoked),
        Some(lease) => {
            (lease.expires_at != expires_at).then_some(LeaseChange::Renewed(lease.expires_at))
        }
    }
}
