//! A request as a batch has loaded it and as it has decided that it be.

use std::sync::Arc;

use uuid::Uuid;

use super::recent::Known;
use super::{Committed, LeaseFate};
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::notification::{LeaseRef, Notification};

/// A request as it was loaded and as it stands now.
#[derive(Default)]
pub struct Entry {
    /// As it was loaded; none of a new one.
    pub loaded: Option<Arc<BookingRequest>>,
    /// The versions that its messages were loaded with.
    pub versions: Vec<i32>,
    /// As it stands now.
    pub present: Option<Arc<BookingRequest>>,
}

impl Entry {
    /// Pairs each message with what it was when it was loaded.
    fn messages<'a>(
        &'a self,
        present: &'a BookingRequest,
    ) -> impl Iterator<Item = (Option<&'a Notification>, &'a Notification)> {
        let before = self.loaded.as_deref().map_or(&[][..], messages);
        messages(present)
            .iter()
            .enumerate()
            .map(|(ordinal, message)| (before.get(ordinal), message))
    }

    /// Adds what the difference means to others.
    pub fn describe(&self, committed: &mut Committed) {
        let Some(present) = &self.present else {
            return;
        };
        for (before, after) in self.messages(present) {
            if before == Some(after) {
                continue;
            }
            committed.claimable_at = [committed.claimable_at, after.claimable_at]
                .into_iter()
                .flatten()
                .min();
            if let Some((lease, fate)) = before.and_then(|before| lease_fate(before, after)) {
                let lease = LeaseRef {
                    request: present.key.clone(),
                    notification: after.id,
                    token: lease,
                };
                committed.leases.push((lease, fate));
            }
        }
        if self.is_changed() {
            committed
                .requests
                .push((present.key.clone(), present.revision));
        }
    }

    /// Whether the request itself is changed.
    pub fn is_changed(&self) -> bool {
        let revision = |record: &Option<Arc<BookingRequest>>| record.as_ref().map(|it| it.revision);
        revision(&self.loaded) != revision(&self.present)
    }

    /// The messages that are to be written, each with its place and, if it is stored, as it was loaded
    /// with the version that it is expected to have.
    ///
    /// Whatever waits of a changed request is written too: a claim that has read the request as it
    /// was then finds its message changed.
    pub fn written<'a>(
        &'a self,
        present: &'a BookingRequest,
    ) -> impl Iterator<Item = (usize, Option<(&'a Notification, i32)>, &'a Notification)> {
        let is_changed = self.is_changed();
        self.messages(present)
            .enumerate()
            .filter(move |(_, (before, after))| {
                *before != Some(*after) || (is_changed && after.is_pending())
            })
            .map(|(ordinal, (before, after))| {
                let stored = before.zip(self.versions.get(ordinal).copied());
                (ordinal, stored, after)
            })
    }

    /// The request as it is once it is written.
    pub fn left(&self) -> Option<Known> {
        let present = self.present.as_ref()?;
        let mut versions = self.versions.clone();
        for (ordinal, stored, _) in self.written(present) {
            let next = stored.map_or(1, |(_, version)| version + 1);
            match versions.get_mut(ordinal) {
                Some(version) => *version = next,
                None => versions.push(next),
            }
        }
        Some(Known {
            record: Arc::clone(present),
            versions,
        })
    }

    /// Where the messages that are changed stood in the due index.
    pub fn moved(&self) -> Vec<Instant> {
        let Some(present) = &self.present else {
            return Vec::new();
        };
        let changed = self
            .messages(present)
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

/// The token of the lease that `before` shows, and what has become of it in `after`.
fn lease_fate(before: &Notification, after: &Notification) -> Option<(Uuid, LeaseFate)> {
    let lease = before.lease.as_ref().filter(|_| before.is_out())?;
    Some((lease.token, fate(after, lease.token, lease.expires_at)?))
}

/// What has become of a lease that was to run until `expires_at`; `None` when it stands.
pub fn fate(message: &Notification, token: Uuid, expires_at: Instant) -> Option<LeaseFate> {
    match message.lease.as_ref().filter(|lease| lease.token == token) {
        None => Some(LeaseFate::Ended),
        Some(lease) if lease.answer.is_some() => Some(LeaseFate::Ended),
        Some(_) if !message.is_out() => Some(LeaseFate::Revoked),
        Some(lease) => {
            (lease.expires_at != expires_at).then_some(LeaseFate::Renewed(lease.expires_at))
        }
    }
}
