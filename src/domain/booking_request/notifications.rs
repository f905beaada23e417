//! The record's notifications: planned, held, cancelled, recomputed and displayed.

use uuid::Uuid;

use super::BookingRequest;
use super::state::{CancelReason, State};
use crate::domain::Context;
use crate::domain::calendar::Instant;
use crate::domain::care_invitation::{CareInvitation, Hold};
use crate::domain::care_unit_settings::Policy;
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::notification::name::derived_id;
use crate::domain::notification::{
    self, Cause, ChannelReason, DeliveryChannel, DisplayState, DisplayedNotification, Kind,
    Notification,
};
use crate::domain::patient::{Addressee, InboxReach, PersonalIdType};

impl BookingRequest {
    /// Begins the first round or a new one: cancels the notifications of the round before and plans the
    /// first notification. Returns the ids of those it cancelled. The request must have constraints.
    pub(in crate::domain) fn begin_round(&mut self, context: &Context) -> Vec<Uuid> {
        let start = self.form.constraints.as_ref().map(|it| it.period.first);
        let start = start.expect("an invitation has constraints");
        let cancelled = self.open_round(context);
        if let Some(invitation) = &self.care_invitation {
            let due_at = invitation.schedule.first_due_at(start, context.now);
            self.plan(Kind::Invitation, due_at, context);
        }
        cancelled
    }

    /// Begins a round in which nothing is planned yet. Returns the ids of the notifications that it cancelled.
    pub(in crate::domain) fn open_round(&mut self, context: &Context) -> Vec<Uuid> {
        let policy = context.policy.of(&self.key.care_unit);
        let schedule = policy.schedule(&self.form.visit_type.code);
        let kept = self.hold() == Some(Hold::ProtectedIdentity);
        let cancelled = self.cancel_pending(Cause::NewRound);
        let before = self.care_invitation.take();
        let opened_before = before.as_ref().is_some_and(CareInvitation::was_once_open);
        let (round, notifications) = match before {
            Some(invitation) => (invitation.round + 1, invitation.notifications),
            None => (1, Vec::new()),
        };
        let protected = self.form.patient.protection.is_some();
        self.care_invitation = Some(CareInvitation {
            round,
            invited_at: context.now,
            schedule,
            hold: (protected || kept).then_some(Hold::ProtectedIdentity),
            staff_channel: None,
            inbox_failed: false,
            withdraw_when_sent: false,
            no_response_at: None,
            will_book_at: None,
            opened_before,
            notifications,
        });
        self.state = State::Invited;
        cancelled
    }

    /// Plans a notification of the present round, and returns it.
    pub(in crate::domain) fn plan(
        &mut self,
        kind: Kind,
        due_at: Instant,
        context: &Context,
    ) -> Option<&mut Notification> {
        let (channel, channel_reason) = self.choose_channel(context.now, &context.policy);
        let invitation = self.care_invitation.as_mut()?;
        let alike = |it: &&Notification| it.round == invitation.round && it.kind == kind;
        let planned_before = invitation.notifications.iter().filter(alike).count();
        invitation.notifications.push(Notification {
            id: derived_id(&self.key, invitation.round, kind, planned_before + 1),
            round: invitation.round,
            kind,
            state: notification::State::Scheduled,
            channel,
            channel_reason,
            channel_fixed: false,
            follows_unread: false,
            replaces: None,
            due_at,
            retry_at: None,
            claimable_at: None,
            lease: None,
            attempt_count: 0,
            expired_lease_count: 0,
            retry_count: 0,
            possible_repeat: false,
            released_at: None,
            changed_since_lease: false,
            sent_at: None,
            cause: None,
            cause_detail: String::new(),
            sent_after_change: false,
            read_at: None,
            unread_at: None,
            returned_at: None,
            dispatched_at: None,
            not_produced_at: None,
        });
        invitation.notifications.last_mut()
    }

    /// Cancels notifications that are scheduled, leased or parked, and clears the hold. Returns their ids.
    pub(in crate::domain) fn cancel_pending(&mut self, cause: Cause) -> Vec<Uuid> {
        let Some(invitation) = &mut self.care_invitation else {
            return Vec::new();
        };
        invitation.hold = None;
        invitation
            .notifications
            .iter_mut()
            .filter_map(|notification| notification.cancel(cause).then_some(notification.id))
            .collect()
    }

    /// Holds the invitation and revokes its leases. The latest hold replaces the one before, except that
    /// protected identity is kept, and that [`Hold::Contacted`] replaces none.
    pub(in crate::domain) fn place_on_hold(&mut self, hold: Hold) {
        let Some(invitation) = &mut self.care_invitation else {
            return;
        };
        let is_kept = match invitation.hold {
            None => false,
            Some(Hold::ProtectedIdentity) => true,
            Some(
                Hold::Undeliverable
                | Hold::Parked
                | Hold::NoSuitableTime
                | Hold::CallBack
                | Hold::WillBook { .. }
                | Hold::Contacted,
            ) => hold == Hold::Contacted,
        };
        if !is_kept {
            invitation.hold = Some(hold);
        }
        for notification in &mut invitation.notifications {
            notification.revoke();
        }
    }

    /// Returns a history entry for what became of a notification, with its cause and the consumer's words.
    pub(in crate::domain) fn explained_entry(
        &self,
        event: Event,
        id: Uuid,
        context: &Context,
    ) -> HistoryEntry {
        let explained = self.notification(id);
        HistoryEntry {
            notification: Some(id),
            cause: explained.and_then(|it| it.cause),
            comment: explained.map_or_else(String::new, |it| it.cause_detail.clone()),
            ..self.history_entry(event, context)
        }
    }

    /// Returns history entries for notifications that a verb has cancelled.
    pub(in crate::domain) fn cancelled_entries(
        &self,
        cancelled: &[Uuid],
        context: &Context,
    ) -> Vec<HistoryEntry> {
        let entry = |id: &Uuid| self.explained_entry(Event::NotificationCancelled, *id, context);
        cancelled.iter().map(entry).collect()
    }

    /// Returns the channel for the present round at `now`, and the reason for it.
    pub fn choose_channel(
        &self,
        now: Instant,
        policy: &Policy,
    ) -> (DeliveryChannel, ChannelReason) {
        let invitation = self.care_invitation.as_ref();
        if let Some(channel) = invitation.and_then(|it| it.staff_channel) {
            return (channel, ChannelReason::Staff);
        }
        let patient = &self.form.patient;
        if patient.is_minor_at(now, policy.of(&self.key.care_unit).ages()) {
            return (DeliveryChannel::Letter, ChannelReason::Minor);
        }
        if patient.addressee == Some(Addressee::Proxy) {
            return (DeliveryChannel::Letter, ChannelReason::Proxy);
        }
        if patient.inbox_reach == Some(InboxReach::None) {
            return (DeliveryChannel::Letter, ChannelReason::NoDigitalAccount);
        }
        match patient.personal_id.kind() {
            PersonalIdType::Personnummer => {}
            PersonalIdType::Samordningsnummer
            | PersonalIdType::LocalReserveNumber
            | PersonalIdType::NationalReserveNumber => {
                return (DeliveryChannel::Letter, ChannelReason::IdentityNumber);
            }
        }
        if invitation.is_some_and(|it| it.inbox_failed) {
            return (DeliveryChannel::Letter, ChannelReason::DigitalFailed);
        }
        (DeliveryChannel::Inbox, ChannelReason::Default)
    }

    /// Returns whether a pending notification may be leased to a consumer once it is due: the patient is
    /// invited, nothing holds the invitation, and the notification belongs to the present round and falls
    /// inside the period; or it is the withdrawal of a cancelled invitation that staff need not release.
    pub fn is_deliverable(&self, notification: &Notification) -> bool {
        let Some(invitation) = &self.care_invitation else {
            return false;
        };
        match (self.state, notification.kind) {
            (State::Cancelled, Kind::Withdrawal) => {
                self.cancel_reason != Some(CancelReason::PatientDeceased)
                    && !self.is_withheld(notification)
            }
            (State::Invited, Kind::Invitation | Kind::Reminder { .. }) => {
                invitation.hold.is_none()
                    && notification.round == invitation.round
                    && self
                        .expires_at()
                        .is_some_and(|end| notification.due_at < end)
            }
            (State::Invited, Kind::Withdrawal)
            | (State::Requested | State::Booked | State::Declined | State::Cancelled, _) => false,
        }
    }

    /// Recomputes the fields that follow from the rest of the record: the channel of notifications that
    /// wait, the time from which each may be claimed, and the time of NO_RESPONSE.
    pub(in crate::domain) fn recompute_derived(&mut self, context: &Context) {
        let chosen = self.choose_channel(context.now, &context.policy);
        let Some(mut invitation) = self.care_invitation.take() else {
            return;
        };
        let mut notifications = std::mem::take(&mut invitation.notifications);
        self.care_invitation = Some(invitation);
        for notification in &mut notifications {
            let is_waiting = match notification.state {
                notification::State::Scheduled | notification::State::Parked => true,
                notification::State::Leased
                | notification::State::Dispatching
                | notification::State::Sent
                | notification::State::Cancelled => false,
            };
            if is_waiting && !notification.channel_fixed {
                (notification.channel, notification.channel_reason) = chosen;
            }
            // A leased withdrawal that staff must release is parked by the claim that finds its lease
            // expired, so it stays claimable.
            let is_eligible = self.is_deliverable(notification) || self.is_withheld(notification);
            let claimable = notification.is_pending() && is_eligible;
            notification.claimable_at = claimable.then(|| match notification.retry_at {
                Some(retry_at) => retry_at.max(notification.due_at),
                None => notification.due_at,
            });
        }
        let expires_at = self.expires_at();
        if let Some(invitation) = &mut self.care_invitation {
            invitation.notifications = notifications;
            invitation.no_response_at = invitation.no_response_deadline(self.state, expires_at);
        }
    }

    /// Returns the notifications as displayed at `now`: the planned ones, then the projected ones.
    pub fn displayed_notifications(
        &self,
        now: Instant,
        policy: &Policy,
    ) -> Vec<DisplayedNotification> {
        let Some(invitation) = &self.care_invitation else {
            return Vec::new();
        };
        let expires_at = self.expires_at();
        let mut displayed: Vec<_> = invitation
            .notifications
            .iter()
            .map(|notification| self.show(notification, now))
            .collect();
        let (channel, channel_reason) = self.choose_channel(now, policy);
        let mut before = match (self.state, invitation.awaited_notification()) {
            (State::Invited, Some(pending)) => pending.due_at.max(now),
            (State::Invited, None)
            | (State::Requested | State::Booked | State::Declined | State::Cancelled, _) => {
                return displayed;
            }
        };
        let mut kind = invitation.last_kind();
        while let Some(next) = kind.next(invitation.schedule.reminder_count) {
            let due_at = invitation.schedule.reminder_due_at(before);
            let skipped = expires_at.is_some_and(|end| end <= due_at);
            displayed.push(DisplayedNotification {
                planned: None,
                round: invitation.round,
                kind: next,
                state: if skipped {
                    DisplayState::Skipped
                } else {
                    DisplayState::Projected
                },
                channel,
                channel_reason,
                due_at,
                cause: skipped.then_some(Cause::AfterPeriod),
                cause_detail: String::new(),
            });
            (kind, before) = (next, due_at);
        }
        displayed
    }

    /// Returns whether the patient is invited and some reminder of the present round falls after the period,
    /// given the notifications as they are displayed.
    pub(in crate::domain) fn skips_a_reminder(&self, displayed: &[DisplayedNotification]) -> bool {
        let round = self
            .care_invitation
            .as_ref()
            .map(|invitation| invitation.round);
        self.state == State::Invited
            && displayed.iter().any(|notification| {
                matches!(notification.kind, Kind::Reminder { .. })
                    && Some(notification.round) == round
                    && notification.state == DisplayState::Skipped
            })
    }

    /// Returns one planned notification as displayed at `now`.
    pub fn show(&self, notification: &Notification, now: Instant) -> DisplayedNotification {
        let state = self.display_state(notification, now);
        let (cause, cause_detail) = match state {
            DisplayState::Skipped => (Some(Cause::AfterPeriod), String::new()),
            DisplayState::Planned(_) | DisplayState::Projected => {
                (notification.cause, notification.cause_detail.clone())
            }
        };
        DisplayedNotification {
            planned: Some(notification.clone()),
            round: notification.round,
            kind: notification.kind,
            state,
            channel: notification.channel,
            channel_reason: notification.channel_reason,
            due_at: notification.due_at,
            cause,
            cause_detail,
        }
    }

    fn display_state(&self, notification: &Notification, now: Instant) -> DisplayState {
        use notification::State as Stored;
        let is_pending = match notification.state {
            Stored::Scheduled | Stored::Leased | Stored::Parked => true,
            // It runs its course, which nobody tells of after its lease has expired.
            Stored::Dispatching => notification.waits(now),
            Stored::Sent | Stored::Cancelled => false,
        };
        let is_over = |end| end <= now.max(notification.due_at);
        if is_pending && self.state == State::Invited && self.expires_at().is_some_and(is_over) {
            DisplayState::Skipped
        } else {
            DisplayState::Planned(notification.state)
        }
    }
}
