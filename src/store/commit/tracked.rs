//! A request as a batch has original it and as it has decided that it be.

use std::sync::Arc;

use uuid::Uuid;

use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::notification::{LeaseRef, Notification};
use crate::domain::request_key::RequestKey;
use crate::store::change_event::ChangeEvent;
use crate::store::change_event::LeaseChange;

/// A request as it was original and as it stands now.
#[derive(Default)]
pub struct TrackedRequest {
    /// As it was original; none of a new one.
    pub original: Option<Arc<BookingRequest>>,
    /// The versions that its messages were original with.
    pub versions: Vec<i32>,
    /// As it stands now.
    pub current: Option<Arc<BookingRequest>>,
}

impl TrackedRequest {
    /// Pairs each message with what it was when it was original.
    fn messages<'a>(
        &'a self,
        current: &'a BookingRequest,
    ) -> impl Iterator<Item = (Option<&'a Notification>, &'a Notification)> {
        let before = self.original.as_deref().map_or(&[][..], messages);
        messages(current)
            .iter()
            .enumerate()
            .map(|(ordinal, message)| (before.get(ordinal), message))
    }

    /// Adds what the difference means to others.
    pub fn add_to_event(&self, committed: &mut ChangeEvent) {
        let Some(current) = &self.current else {
            return;
        };
        for (before, after) in self.messages(current) {
            if before == Some(after) {
                continue;
            }
            committed.claimable_at = [committed.claimable_at, after.claimable_at]
                .into_iter()
                .flatten()
                .min();
            if let Some((lease, lease_change)) =
                before.and_then(|before| lease_change_of(before, after))
            {
                let lease = LeaseRef {
                    request: current.key.clone(),
                    notification: after.id,
                    token: lease,
                };
                committed.leases.push((lease, lease_change));
            }
        }
        if self.is_changed() {
            committed
                .requests
                .push((current.key.clone(), current.revision));
        }
    }

    /// Returns whether the request itself is changed.
    pub fn is_changed(&self) -> bool {
        let revision = |record: &Option<Arc<BookingRequest>>| record.as_ref().map(|it| it.revision);
        revision(&self.original) != revision(&self.current)
    }

    /// Returns the messages that are to be rows_to_write, each with its place and, if it is stored, as it was original
    /// with the version that it is expected to have.
    ///
    /// Whatever waits of a changed request is rows_to_write too: a claim that has read the request as it
    /// was then finds its message changed.
    pub fn rows_to_write<'a>(
        &'a self,
        current: &'a BookingRequest,
    ) -> impl Iterator<Item = (usize, Option<(&'a Notification, i32)>, &'a Notification)> {
        let is_changed = self.is_changed();
        self.messages(current)
            .enumerate()
            .filter(move |(_, (before, after))| {
                *before != Some(*after) || (is_changed && after.is_pending())
            })
            .map(|(ordinal, (before, after))| {
                let stored = before.zip(self.versions.get(ordinal).copied());
                (ordinal, stored, after)
            })
    }

    /// Returns the request as it is once it is rows_to_write.
    pub fn post_state(&self) -> Option<Snapshot> {
        let current = self.current.as_ref()?;
        let mut versions = self.versions.clone();
        for (ordinal, stored, _) in self.rows_to_write(current) {
            let next = stored.map_or(1, |(_, version)| version + 1);
            match versions.get_mut(ordinal) {
                Some(version) => *version = next,
                None => versions.push(next),
            }
        }
        Some(Snapshot {
            record: Arc::clone(current),
            versions,
        })
    }

    /// Returns where the messages that are changed stood in the due index.
    pub fn moved_due_entries(&self) -> Vec<Instant> {
        let Some(current) = &self.current else {
            return Vec::new();
        };
        let changed = self
            .messages(current)
            .filter(|(before, after)| *before != Some(*after));
        changed
            .filter_map(|(before, _)| before?.claimable_at)
            .collect()
    }
}

fn messages(record: &BookingRequest) -> &[Notification] {
    match &record.care_invitation {
        Some(invitation) => &invitation.notifications,
        None => &[],
    }
}

/// A request, and the versions of its messages.
#[derive(Clone)]
pub struct Snapshot {
    /// The request.
    pub record: Arc<BookingRequest>,
    /// The version of each of its messages.
    pub versions: Vec<i32>,
}

impl Snapshot {
    pub fn with_key(self) -> (RequestKey, Self) {
        (self.record.key.clone(), self)
    }
}

/// Returns the token of the lease that `before` shows, and what has become of it in `after`.
fn lease_change_of(before: &Notification, after: &Notification) -> Option<(Uuid, LeaseChange)> {
    let lease = before.lease.as_ref().filter(|_| before.is_leased())?;
    Some((
        lease.token,
        lease_change(after, lease.token, lease.expires_at)?,
    ))
}

/// Returns what has become of a lease that was to run until `expires_at`; `None` when it stands.
pub fn lease_change(
    message: &Notification,
    token: Uuid,
    expires_at: Instant,
) -> Option<LeaseChange> {
    match message.lease.as_ref().filter(|lease| lease.token == token) {
        None => Some(LeaseChange::Ended),
        Some(lease) if lease.answer.is_some() => Some(LeaseChange::Ended),
        Some(_) if !message.is_leased() => Some(LeaseChange::Revoked),
        Some(lease) => {
            (lease.expires_at != expires_at).then_some(LeaseChange::Renewed(lease.expires_at))
        }
    }
}
