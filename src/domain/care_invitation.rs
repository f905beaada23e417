//! The invitation: its round, what holds it, which message comes next and when.
//!
//! A round plans three messages, one at a time: the next is planned for good when the one before
//! it has been handed over. Those still to come are projected when the request is read.

use chrono::NaiveDate;

use super::RegionPolicy;
use super::booking_request::state::State;
use super::calendar::{Instant, add_days, at_clock, civil_date, end_of, subtract_days};
use super::notification::{self, Channel, ChannelReason, Kind, Notification};

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
    /// The patient is_deliverable to be called.
    CallBack,
    /// The patient has said that they will book.
    WillBook {
        /// The last day on which they are waited for.
        until: NaiveDate,
    },
}

impl Hold {
    /// Returns whether the patient's own contact holds the invitation.
    pub fn is_patient_initiated(self) -> bool {
        match self {
            Self::NoSuitableTime | Self::CallBack | Self::WillBook { .. } => true,
            Self::ProtectedIdentity | Self::Undeliverable | Self::Parked => false,
        }
    }

    /// Returns when the patient is no longer waited for, with WILL_BOOK.
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
    /// Returns the messages of the present round that belong to its three.
    fn current_round(&self) -> impl DoubleEndedIterator<Item = &Notification> {
        self.notifications
            .iter()
            .filter(|message| message.round == self.round && message.kind != Kind::Withdrawal)
    }

    /// Returns the latest hand-over in the present round.
    fn last_sent_at(&self) -> Option<Instant> {
        self.current_round()
            .filter_map(|message| message.sent_at)
            .max()
    }

    /// Returns the kind of the present round that was planned last.
    pub(super) fn last_kind(&self) -> Kind {
        self.current_round()
            .map(|message| message.kind)
            .max()
            .unwrap_or(Kind::Invitation)
    }

    /// Returns the message that the round waits for: the last kind planned, as long as none of that kind
    /// has been handed over.
    pub fn awaited_notification(&self) -> Option<&Notification> {
        let kind = self.last_kind();
        if self.has_sent(self.round, kind) {
            return None;
        }
        self.current_round().rfind(|message| {
            let waits = message.is_pending() || message.state == notification::State::Parked;
            message.kind == kind && waits
        })
    }

    /// Returns whether no message of the present round was handed over after this one.
    pub fn is_latest(&self, message: &Notification) -> bool {
        message.round == self.round && message.sent_at == self.last_sent_at()
    }

    /// Returns the channel by which a message of the present round last left or is leaving, and why.
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
        let last = self.current_round().filter(left).max_by_key(left_at)?;
        Some((last.channel, last.channel_reason))
    }

    /// Returns whether a consumer has had a message of the present round, which may then have left.
    pub fn has_been_leased(&self) -> bool {
        self.current_round().any(|message| message.lease.is_some())
    }

    /// Returns whether a message of this kind has been handed over in this round.
    pub fn has_sent(&self, round: i32, kind: Kind) -> bool {
        self.notifications.iter().any(|message| {
            message.round == round
                && message.kind == kind
                && message.state == notification::State::Sent
        })
    }
}

/// Returns when the first message is due: 42 days before `start` at the sending clock, or `now` when that
/// has passed.
pub fn first_due_at(start: NaiveDate, now: Instant, policy: &RegionPolicy) -> Instant {
    at_clock(subtract_days(start, LEAD_DAYS), policy.send_time).max(now)
}

/// Returns when what follows a hand-over is due: 14 days later on the calendar, at the sending clock.
pub fn following_due_at(sent_at: Instant, policy: &RegionPolicy) -> Instant {
    at_clock(add_days(civil_date(sent_at), GAP_DAYS), policy.send_time)
}

impl CareInvitation {
    /// Returns when silence turns to NO_RESPONSE, if all three messages are sent or skipped and nothing
    /// holds the invitation.
    pub(super) fn no_response_deadline(
        &self,
        state: State,
        expires_at: Option<Instant>,
        policy: &RegionPolicy,
    ) -> Option<Instant> {
        if state != State::Invited || self.hold.is_some() {
            return None;
        }
        let last_sent_at = self.last_sent_at()?;
        let complete = match self.awaited_notification() {
            None => self.has_sent(self.round, Kind::SecondReminder),
            Some(awaited_notification) => {
                expires_at.is_some_and(|end| end <= awaited_notification.due_at)
            }
        };
        complete.then(|| following_due_at(last_sent_at, policy))
    }
}
