//! The invitation: its round, what holds it, which message comes next and when.
//!
//! A round plans three messages, one at a time: the next is planned for good when the one before
//! it has been handed over. Those still to come are projected when the request is read.

use chrono::NaiveDate;
use uuid::Uuid;

use super::booking_request::{BookingRequest, CancelReason, State};
use super::calendar::{Instant, add_days, at_clock, civil_date, end_of, subtract_days};
use super::history::{Event, HistoryEntry};
use super::notification::{self, Channel, ChannelReason, Kind, Notification};
use super::patient::{DigitalReach, PersonalIdType};
use super::{Context, Rules};

/// Days before the start of the period on which the first message falls due.
pub const LEAD_DAYS: u32 = 42;
/// Days from one hand-over to the next message, and from the last to NO_RESPONSE.
pub const GAP_DAYS: u32 = 14;

/// The cause of a message that falls after the period.
pub const AFTER_PERIOD: &str = "AFTER_PERIOD";

/// Why nothing is sent for the time being.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hold {
    /// The patient has protected identity.
    ProtectedIdentity,
    /// A message reached the patient through no channel.
    Undeliverable,
    /// A message was set aside.
    Parked,
    /// The patient found no suitable time.
    NoSuitableTime,
    /// The patient wants to be called.
    CallBack,
    /// The patient has said that they will book.
    WillBook {
        /// The last day on which they are waited for.
        until: NaiveDate,
    },
}

impl Hold {
    /// Whether the patient's own contact holds the invitation.
    pub fn is_the_patients(self) -> bool {
        match self {
            Self::NoSuitableTime | Self::CallBack | Self::WillBook { .. } => true,
            Self::ProtectedIdentity | Self::Undeliverable | Self::Parked => false,
        }
    }

    /// When the patient is no longer waited for, with WILL_BOOK.
    pub fn ends_at(self) -> Option<Instant> {
        match self {
            Self::WillBook { until } => Some(end_of(until)),
            Self::ProtectedIdentity
            | Self::Undeliverable
            | Self::Parked
            | Self::NoSuitableTime
            | Self::CallBack => None,
        }
    }
}

/// An invitation to the patient to choose a time, with the messages of all its rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct CareInvitation {
    /// Which invitation of the request this is, from 1.
    pub round: i32,
    /// When the present round began.
    pub invited_at: Instant,
    /// What holds it.
    pub hold: Option<Hold>,
    /// The channel that staff fixed for the round.
    pub staff_channel: Option<Channel>,
    /// Whether the inbox has failed to reach the patient in this round.
    pub inbox_failed: bool,
    /// True when it was cancelled in a way that the patient is to be told of, should they turn
    /// out to have had a message of it.
    pub withdraw_when_sent: bool,
    /// When silence turns to NO_RESPONSE; none until the last message is out, or while held.
    pub no_response_at: Option<Instant>,
    /// The messages of every round, in the order in which they were planned.
    pub notifications: Vec<Notification>,
}

impl CareInvitation {
    /// The messages of the present round that belong to its three.
    fn of_round(&self) -> impl DoubleEndedIterator<Item = &Notification> {
        self.notifications
            .iter()
            .filter(|message| message.round == self.round && message.kind != Kind::Withdrawal)
    }

    /// The latest hand-over in the present round.
    fn last_sent_at(&self) -> Option<Instant> {
        self.of_round().filter_map(|message| message.sent_at).max()
    }

    /// The kind of the present round that was planned last.
    fn last_kind(&self) -> Kind {
        self.of_round()
            .map(|message| message.kind)
            .max()
            .unwrap_or(Kind::Invitation)
    }

    /// The message that the round waits for: the last kind planned, as long as none of that kind
    /// has been handed over.
    pub fn awaited(&self) -> Option<&Notification> {
        let kind = self.last_kind();
        if self.has_sent(self.round, kind) {
            return None;
        }
        self.of_round().rfind(|message| {
            let waits = message.is_pending() || message.state == notification::State::Parked;
            message.kind == kind && waits
        })
    }

    /// Whether no message of the present round was handed over after this one.
    pub fn is_latest(&self, message: &Notification) -> bool {
        message.round == self.round && message.sent_at == self.last_sent_at()
    }

    /// The channel by which a message of the present round last left or is leaving, and why.
    pub fn last_channel(&self) -> Option<(Channel, ChannelReason)> {
        let left = |message: &&Notification| match message.state {
            notification::State::Sent | notification::State::Dispatching => true,
            notification::State::Scheduled
            | notification::State::Leased
            | notification::State::Cancelled
            | notification::State::Parked => false,
        };
        // A letter that followed was planned after the reminder that left later than it, and what is
        // on its way leaves last.
        let left_at = |message: &&Notification| message.sent_at.unwrap_or(Instant::MAX_UTC);
        let last = self.of_round().filter(left).max_by_key(left_at)?;
        Some((last.channel, last.channel_reason))
    }

    /// Whether a consumer has had a message of the present round, which may then have left.
    pub fn has_been_leased(&self) -> bool {
        self.of_round().any(|message| message.lease.is_some())
    }

    /// Whether a message of this kind has been handed over in this round.
    pub fn has_sent(&self, round: i32, kind: Kind) -> bool {
        self.notifications.iter().any(|message| {
            message.round == round
                && message.kind == kind
                && message.state == notification::State::Sent
        })
    }
}

/// When the first message is due: 42 days before `start` at the sending clock, or `now` when that
/// has passed.
pub fn first_due_at(start: NaiveDate, now: Instant, rules: &Rules) -> Instant {
    at_clock(subtract_days(start, LEAD_DAYS), rules.send_clock).max(now)
}

/// When what follows a hand-over is due: 14 days later on the calendar, at the sending clock.
pub fn following_due_at(sent_at: Instant, rules: &Rules) -> Instant {
    at_clock(add_days(civil_date(sent_at), GAP_DAYS), rules.send_clock)
}

impl BookingRequest {
    /// Begins the first round or a new one: ends the messages of the one before and plans the
    /// first message. Says which messages it ended. The request must have constraints.
    pub(super) fn begin_round(&mut self, context: &Context) -> Vec<Uuid> {
        let start = self.form.constraints.as_ref().map(|it| it.period.first);
        let start = start.expect("an invitation has constraints");
        let kept = self.hold() == Some(Hold::ProtectedIdentity);
        let ended = self.end_messages("NEW_ROUND");
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
        let due_at = first_due_at(start, context.now, &context.rules);
        self.plan(Kind::Invitation, due_at, context.fresh_id);
        ended
    }

    /// Plans a message of the present round.
    pub(super) fn plan(&mut self, kind: Kind, due_at: Instant, id: Uuid) {
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
            lapse_count: 0,
            retry_count: 0,
            possible_repeat: false,
            released_at: None,
            stale: false,
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
    pub(super) fn end_messages(&mut self, cause: &str) -> Vec<Uuid> {
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
    pub(super) fn hold_messages(&mut self, hold: Hold) {
        let Some(invitation) = &mut self.care_invitation else {
            return;
        };
        if invitation.hold != Some(Hold::ProtectedIdentity) {
            invitation.hold = Some(hold);
        }
        for message in &mut invitation.notifications {
            message.take_back();
        }
    }

    /// History entries for messages that a verb has ended.
    pub(super) fn cancelled_entries(&self, ended: &[Uuid], context: &Context) -> Vec<HistoryEntry> {
        ended
            .iter()
            .map(|id| HistoryEntry {
                notification: Some(*id),
                ..self.entry(Event::NotificationCancelled, context)
            })
            .collect()
    }

    /// The channel for the present round, and why.
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

    /// Whether a pending message may be handed to a consumer, its time aside: the invitation
    /// lives, nothing holds it, and the message belongs to the present round and falls inside the
    /// period; or it is the withdrawal of a cancelled invitation, and staff need not release it.
    pub fn wants(&self, message: &Notification) -> bool {
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
    pub(super) fn refresh(&mut self, rules: &Rules) {
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
            let wanted = self.wants(message) || self.is_withheld(message);
            let claimable = message.is_pending() && wanted;
            message.claimable_at = claimable.then(|| match message.retry_at {
                Some(retry_at) => retry_at.max(message.due_at),
                None => message.due_at,
            });
        }
        let expires_at = self.expires_at();
        if let Some(invitation) = &mut self.care_invitation {
            invitation.notifications = notifications;
            invitation.no_response_at = invitation.silence_ends_at(self.state, expires_at, rules);
        }
    }

    /// The messages as they are to be shown at `now`: those planned, then those to come.
    pub fn shown_notifications(&self, now: Instant, rules: &Rules) -> Vec<ShownNotification> {
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
        let mut before = match (self.state, invitation.awaited()) {
            (State::Invited, Some(pending)) => pending.due_at.max(now),
            (State::Invited, None)
            | (State::Requested | State::Booked | State::Declined | State::Cancelled, _) => {
                return shown;
            }
        };
        let mut kind = invitation.last_kind();
        while let Some(next) = kind.next() {
            let due_at = following_due_at(before, rules);
            let skipped = expires_at.is_some_and(|end| end <= due_at);
            shown.push(ShownNotification {
                message: None,
                round: invitation.round,
                kind: next,
                state: if skipped {
                    ShownState::Skipped
                } else {
                    ShownState::Projected
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

    /// Whether some reminder of the present round, among the messages `shown`, falls after the
    /// period of an invitation that lives.
    pub(super) fn skips_a_reminder(&self, shown: &[ShownNotification]) -> bool {
        let round = self
            .care_invitation
            .as_ref()
            .map(|invitation| invitation.round);
        self.state == State::Invited
            && shown.iter().any(|message| {
                matches!(message.kind, Kind::FirstReminder | Kind::SecondReminder)
                    && Some(message.round) == round
                    && message.state == ShownState::Skipped
            })
    }

    /// One planned message as it is to be shown at `now`.
    pub fn show(&self, message: &Notification, now: Instant) -> ShownNotification {
        let state = self.shown_message_state(message, now);
        ShownNotification {
            message: Some(message.clone()),
            round: message.round,
            kind: message.kind,
            state,
            channel: message.channel,
            channel_reason: message.channel_reason,
            due_at: message.due_at,
            cause: match state {
                ShownState::Skipped => Some(AFTER_PERIOD.to_owned()),
                ShownState::Planned(_) | ShownState::Projected => message.cause.clone(),
            },
        }
    }

    fn shown_message_state(&self, message: &Notification, now: Instant) -> ShownState {
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
            ShownState::Skipped
        } else {
            ShownState::Planned(message.state)
        }
    }
}

impl CareInvitation {
    /// When silence turns to NO_RESPONSE, if all three messages are sent or skipped and nothing
    /// holds the invitation.
    fn silence_ends_at(
        &self,
        state: State,
        expires_at: Option<Instant>,
        rules: &Rules,
    ) -> Option<Instant> {
        if state != State::Invited || self.hold.is_some() {
            return None;
        }
        let last_sent_at = self.last_sent_at()?;
        let complete = match self.awaited() {
            None => self.has_sent(self.round, Kind::SecondReminder),
            Some(awaited) => expires_at.is_some_and(|end| end <= awaited.due_at),
        };
        complete.then(|| following_due_at(last_sent_at, rules))
    }
}

/// The state of a message as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShownState {
    /// As stored.
    Planned(notification::State),
    /// To come; planned for good when the message before it has been handed over.
    Projected,
    /// Will not be sent, because its day lies after the period.
    Skipped,
}

/// A message as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownNotification {
    /// The planned message; none when it is only projected.
    pub message: Option<Notification>,
    /// Which invitation of the request it belongs to.
    pub round: i32,
    /// What it says.
    pub kind: Kind,
    /// Where it stands.
    pub state: ShownState,
    /// Through which channel.
    pub channel: Channel,
    /// Why that channel.
    pub channel_reason: ChannelReason,
    /// When it is to be sent; for a projected message the earliest such time.
    pub due_at: Instant,
    /// Why it was skipped, cancelled or parked.
    pub cause: Option<String>,
}
