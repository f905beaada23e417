//! A notification that was taken for print and never posted: it counts as never handed over, and staff send the same
//! kind again.

use uuid::Uuid;

use super::{Cause, Kind, Notification, State};
use crate::domain::Context;
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::care_invitation::{CareInvitation, Hold};
use crate::domain::history::{Event, HistoryEntry};

impl BookingRequest {
    /// Returns whether the same kind is to be sent again if this notification proves not to have been produced: it is
    /// the latest hand-over of the present round, and the patient is still invited.
    pub(super) fn is_to_be_produced(&self, notification: &Notification, now: Instant) -> bool {
        let is_invited = self.effective_state(now).awaits_patient();
        let last = self
            .care_invitation
            .as_ref()
            .and_then(CareInvitation::last_used);
        is_invited && last.is_some_and(|last| last.id == notification.id)
    }

    /// Takes a hand-over back that never was: cancels the notification and what waits because of it, and parks the same
    /// kind under a new name until staff send it. Returns entries for the history.
    pub(super) fn plan_again(&mut self, id: Uuid, context: &Context) -> Vec<HistoryEntry> {
        let Some(lost) = self.notification_mut(id) else {
            return Vec::new();
        };
        lost.state = State::Cancelled;
        lost.explain(Cause::NotProduced, "");
        let lost = lost.clone();
        let invitation = self.care_invitation.iter_mut();
        let others = invitation.flat_map(|invitation| &mut invitation.notifications);
        let cancelled: Vec<Uuid> = others
            .filter(|other| other.counts_from(&lost))
            .filter_map(|other| other.cancel(Cause::NotProduced).then_some(other.id))
            .collect();
        let mut parked = Vec::new();
        if let Some(again) = self.plan(lost.kind, context.now, context) {
            again.state = State::Parked;
            again.explain(Cause::NotProduced, "");
            if lost.channel_fixed {
                (again.channel, again.channel_reason) = (lost.channel, lost.channel_reason);
            }
            again.channel_fixed = lost.channel_fixed;
            again.follows_unread = lost.follows_unread;
            again.replaces = Some(id);
            parked.push(again.id);
        }
        self.place_on_hold(Hold::Undeliverable);
        let parked = parked
            .into_iter()
            .map(|id| self.explained_entry(Event::NotificationParked, id, context));
        let cancelled = self.cancelled_entries(&cancelled, context);
        cancelled.into_iter().chain(parked).collect()
    }
}

impl Notification {
    /// Returns whether it was planned because `other` was handed over: it follows in the round, or is the letter that
    /// follows `other` itself. Nothing counts from such a letter.
    fn counts_from(&self, other: &Self) -> bool {
        self.round == other.round
            && self.kind != Kind::Withdrawal
            && !other.channel_fixed
            && (self.kind > other.kind || (self.kind == other.kind && self.channel_fixed))
    }
}
