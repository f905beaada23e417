//! The record's notifications: planned, held, cancelled, recomputed and displayed.

use uuid::Uuid;

use super::BookingRequest;
use super::state::{CancelReason, State};
use crate::domain::calendar::Instant;
use crate::domain::care_invitation::{
    AFTER_PERIOD, CareInvitation, Hold, first_due_at, following_due_at,
};
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::notification::{
    self, Channel, ChannelReason, DisplayState, DisplayedNotification, Kind, Notification,
};
use crate::domain::patient::{DigitalReach, PersonalIdType};
use crate::domain::{Context, RegionPolicy};

impl BookingRequest {
    /// Begins the first round or a new one: ends the messages of the one before and plans the
    /// first message. Says which messages it ended. The request must have constraints.
    pub(in crate::domain) fn begin_round(&mut self, context: &Context) -> Vec<Uuid> {
        let start = self.form.constraints.as_ref().map(|it| it.period.first);
        let start = start.expect("an invitation has constraints");
        let kept = self.hold() == Some(Hold::ProtectedIdentity);
        let ended = self.cancel_pending("NEW_ROUND");
        let (round, notifications) = match self.care_invitation.take() {
            Some(invitation) => (invitation.round + 1, invitation.notifications),
            None => (1, Vec::new()),
        };
        let protected = self.form.patient.protection.is_some();
        self.care_invitation = Some(CareInvitation {
            round,
            invited_at: context.now,
            hold: (protected || kept).then_some(Hold::ProtectedIdentity),
            staff_channel: None,
            inbox_failed: false,
            withdraw_when_sent: false,
            no_response_at: None,
            notifications,
        });
        self.state = State::Invited;
        let due_at = first_due_at(start, context.now, &context.policy);
        self.plan(Kind::Invitation, due_at, context.new_id);
        ended
    }

    /// Plans a message of the present round.
    pub(in crate::domain) fn plan(&mut self, kind: Kind, due_at: Instant, id: Uuid) {
        let (channel, channel_reason) = self.choose_channel();
        let Some(invitation) = &mut self.care_invitation else {
            return;
        };
        invitation.notifications.push(Notification {
            id,
            round: invitation.round,
            kind,
            state: notification::State::Scheduled,
            channel,
            channel_reason,
            channel_fixed: false,
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
            superseded: false,
            read_at: None,
            unread_at: None,
            returned_at: None,
        });
    }

    /// Cancels what is scheduled, leased or parked, and clears the hold. Says which messages
    /// ended.
    pub(in crate::domain) fn cancel_pending(&mut self, cause: &str) -> Vec<Uuid> {
        let Some(invitation) = &mut self.care_invitation else {
            return Vec::new();
        };
        invitation.hold = None;
        invitation
            .notifications
            .iter_mut()
            .filter_map(|message| message.cancel(cause).then_some(message.id))
            .collect()
    }

    /// Holds the invitation: what is leased is taken back. The latest reason stands, but protected
    /// identity gives way to none.
    pub(in crate::domain) fn place_on_hold(&mut self, hold: Hold) {
        let Some(invitation) = &mut self.care_invitation else {
            return;
        };
        if invitation.hold != Some(Hold::ProtectedIdentity) {
            invitation.hold = Some(hold);
        }
        for message in &mut invitation.notifications {
            message.revoke();
        }
    }

    /// History entries for messages that a verb has ended.
    pub(in crate::domain) fn cancelled_entries(
        &self,
        ended: &[Uuid],
        context: &Context,
    ) -> Vec<HistoryEntry> {
        ended
            .iter()
            .map(|id| HistoryEntry {
                notification: Some(*id),
                ..self.history_entry(Event::NotificationCancelled, context)
            })
            .collect()
    }

    /// Returns the channel for the present round, and why.
    pub fn choose_channel(&self) -> (Channel, ChannelReason) {
        let invitation = self.care_invitation.as_ref();
        if let Some(channel) = invitation.and_then(|it| it.staff_channel) {
            return (channel, ChannelReason::Staff);
        }
        if self.form.patient.digital_reach == Some(DigitalReach::None) {
            return (Channel::Letter, ChannelReason::NoDigitalAccount);
        }
        match self.form.patient.personal_id.kind() {
            PersonalIdType::Personnummer => {}
            PersonalIdType::Samordningsnummer | PersonalIdType::Reservnummer => {
                return (Channel::Letter, ChannelReason::IdentityNumber);
            }
        }
        if invitation.is_some_and(|it| it.inbox_failed) {
            return (Channel::Letter, ChannelReason::DigitalFailed);
        }
        (Channel::Inbox, ChannelReason::Default)
    }

    /// Returns whether a pending message may be handed to a consumer, its time aside: the invitation
    /// lives, nothing holds it, and the message belongs to the present round and falls inside the
    /// period; or it is the withdrawal of a cancelled invitation, and staff need not release it.
    pub fn is_deliverable(&self, message: &Notification) -> bool {
        let Some(invitation) = &self.care_invitation else {
            return false;
        };
        match (self.state, message.kind) {
            (State::Cancelled, Kind::Withdrawal) => {
                self.cancel_reason != Some(CancelReason::PatientDeceased)
                    && !self.is_withheld(message)
            }
            (State::Invited, Kind::Invitation | Kind::FirstReminder | Kind::SecondReminder) => {
                invitation.hold.is_none()
                    && message.round == invitation.round
                    && self.expires_at().is_some_and(|end| message.due_at < end)
            }
            (State::Invited, Kind::Withdrawal)
            | (State::Requested | State::Booked | State::Declined | State::Cancelled, _) => false,
        }
    }

    /// Brings up to date what follows from the rest of the record: the channel of what has not
    /// left, when it may be claimed, and when silence turns to NO_RESPONSE.
    pub(in crate::domain) fn recompute_derived(&mut self, policy: &RegionPolicy) {
        let chosen = self.choose_channel();
        let Some(mut invitation) = self.care_invitation.take() else {
            return;
        };
        let mut notifications = std::mem::take(&mut invitation.notifications);
        self.care_invitation = Some(invitation);
        for message in &mut notifications {
            let waits = match message.state {
                notification::State::Scheduled | notification::State::Parked => true,
                notification::State::Leased
                | notification::State::Dispatching
                | notification::State::Sent
                | notification::State::Cancelled => false,
            };
            if waits && !message.channel_fixed {
                (message.channel, message.channel_reason) = chosen;
            }
            // A withdrawal on its way that staff must release is parked by the claim that finds its
            // lease run out.
            let wanted = self.is_deliverable(message) || self.is_withheld(message);
            let claimable = message.is_pending() && wanted;
            message.claimable_at = claimable.then(|| match message.retry_at {
                Some(retry_at) => retry_at.max(message.due_at),
                None => message.due_at,
            });
        }
        let expires_at = self.expires_at();
        if let Some(invitation) = &mut self.care_invitation {
            invitation.notifications = notifications;
            invitation.no_response_at =
                invitation.no_response_deadline(self.state, expires_at, policy);
        }
    }

    /// Returns the messages as they are to be shown at `now`: those planned, then those to come.
    pub fn displayed_notifications(
        &self,
        now: Instant,
        policy: &RegionPolicy,
    ) -> Vec<DisplayedNotification> {
        let Some(invitation) = &self.care_invitation else {
            return Vec::new();
        };
        let expires_at = self.expires_at();
        let mut shown: Vec<_> = invitation
            .notifications
            .iter()
            .map(|message| self.show(message, now))
            .collect();
        let (channel, channel_reason) = self.choose_channel();
        let mut before = match (self.state, invitation.awaited_notification()) {
            (State::Invited, Some(pending)) => pending.due_at.max(now),
            (State::Invited, None)
            | (State::Requested | State::Booked | State::Declined | State::Cancelled, _) => {
                return shown;
            }
        };
        let mut kind = invitation.last_kind();
        while let Some(next) = kind.next() {
            let due_at = following_due_at(before, policy);
            let skipped = expires_at.is_some_and(|end| end <= due_at);
            shown.push(DisplayedNotification {
                message: None,
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
                cause: skipped.then(|| AFTER_PERIOD.to_owned()),
            });
            (kind, before) = (next, due_at);
        }
        shown
    }

    /// Returns whether some reminder of the present round, among the messages `shown`, falls after the
    /// period of an invitation that lives.
    pub(in crate::domain) fn skips_a_reminder(&self, shown: &[DisplayedNotification]) -> bool {
        let round = self
            .care_invitation
            .as_ref()
            .map(|invitation| invitation.round);
        self.state == State::Invited
            && shown.iter().any(|message| {
                matches!(message.kind, Kind::FirstReminder | Kind::SecondReminder)
                    && Some(message.round) == round
                    && message.state == DisplayState::Skipped
            })
    }

    /// Returns one planned message as it is to be shown at `now`.
    pub fn show(&self, message: &Notification, now: Instant) -> DisplayedNotification {
        let state = self.display_state(message, now);
        DisplayedNotification {
            message: Some(message.clone()),
            round: message.round,
            kind: message.kind,
            state,
            channel: message.channel,
            channel_reason: message.channel_reason,
            due_at: message.due_at,
            cause: match state {
                DisplayState::Skipped => Some(AFTER_PERIOD.to_owned()),
                DisplayState::Planned(_) | DisplayState::Projected => message.cause.clone(),
            },
        }
    }

    fn display_state(&self, message: &Notification, now: Instant) -> DisplayState {
        use notification::State as Message;
        let skipped = match message.state {
            Message::Scheduled | Message::Leased | Message::Parked => {
                self.state == State::Invited
                    && self
                        .expires_at()
                        .is_some_and(|end| end <= now.max(message.due_at))
            }
            Message::Dispatching | Message::Sent | Message::Cancelled => false,
        };
        if skipped {
            DisplayState::Skipped
        } else {
            DisplayState::Planned(message.state)
        }
    }
}
