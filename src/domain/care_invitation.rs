//! The invitation: its round, its hold, and which notification comes next and when.
//!
//! A round plans an invitation and its reminders, one at a time: the next is planned when the one before
//! it has been handed over. Those still to come are projected when the request is read.

use chrono::NaiveDate;

use super::booking_request::state::State;
use super::calendar::{Instant, add_days, at_clock, civil_date, end_of, subtract_days};
use super::care_unit_settings::Schedule;
use super::notification::{self, ChannelReason, DeliveryChannel, Kind, Notification};
use super::stored_enum;

stored_enum! {
    /// Reason of a [`Hold`].
    pub enum HoldReason {
        /// [`Hold::ProtectedIdentity`].
        ProtectedIdentity = 1,
        /// [`Hold::Undeliverable`].
        Undeliverable = 2,
        /// [`Hold::Parked`].
        Parked = 3,
        /// [`Hold::NoSuitableTime`].
        NoSuitableTime = 4,
        /// [`Hold::CallBack`].
        CallBack = 5,
        /// [`Hold::WillBook`].
        WillBook = 6,
        /// [`Hold::Contacted`].
        Contacted = 7,
    }
}

/// Reason why nothing is sent for the time being, with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hold {
    /// The patient has protected identity.
    ProtectedIdentity,
    /// A notification reached the patient through no channel.
    Undeliverable,
    /// A notification was parked.
    Parked,
    /// The patient found no suitable time.
    NoSuitableTime,
    /// The patient wants to be called.
    CallBack,
    /// The patient has said that they will book.
    WillBook {
        /// Last day on which the invitation waits for them.
        until: NaiveDate,
    },
    /// The patient was in touch, and nothing is decided.
    Contacted,
}

impl Hold {
    /// Returns the reason alone.
    pub fn reason(self) -> HoldReason {
        match self {
            Self::ProtectedIdentity => HoldReason::ProtectedIdentity,
            Self::Undeliverable => HoldReason::Undeliverable,
            Self::Parked => HoldReason::Parked,
            Self::NoSuitableTime => HoldReason::NoSuitableTime,
            Self::CallBack => HoldReason::CallBack,
            Self::WillBook { .. } => HoldReason::WillBook,
            Self::Contacted => HoldReason::Contacted,
        }
    }

    /// Returns whether the hold follows from the patient's own contact.
    pub fn is_patient_initiated(self) -> bool {
        match self {
            Self::NoSuitableTime | Self::CallBack | Self::WillBook { .. } | Self::Contacted => true,
            Self::ProtectedIdentity | Self::Undeliverable | Self::Parked => false,
        }
    }

    /// Returns the instant at which the wait for the patient ends, with WILL_BOOK; `None` for other holds.
    pub fn ends_at(self) -> Option<Instant> {
        match self {
            Self::WillBook { until } => Some(end_of(until)),
            Self::ProtectedIdentity
            | Self::Undeliverable
            | Self::Parked
            | Self::NoSuitableTime
            | Self::CallBack
            | Self::Contacted => None,
        }
    }
}

/// An invitation to the patient to choose a time, with the notifications of all its rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct CareInvitation {
    /// Number of the present round within the request, from 1.
    pub round: i32,
    /// Start of the present round.
    pub invited_at: Instant,
    /// Schedule of the present round, as it was in force when the round began.
    pub schedule: Schedule,
    /// Hold on the invitation, if any.
    pub hold: Option<Hold>,
    /// Channel that staff fixed for the round.
    pub staff_channel: Option<DeliveryChannel>,
    /// True if the inbox has failed to reach the patient in this round.
    pub inbox_failed: bool,
    /// True if it was cancelled for a reason that calls for a withdrawal, should a notification of it
    /// turn out to have been handed over.
    pub withdraw_when_sent: bool,
    /// Instant at which silence becomes NO_RESPONSE; `None` until the last notification has been sent
    /// or skipped, and while the invitation is held.
    pub no_response_at: Option<Instant>,
    /// Time of the first contact WILL_BOOK of the present round that opened booking to the patient.
    pub will_book_at: Option<Instant>,
    /// True if booking was open to the patient in an earlier round.
    pub opened_before: bool,
    /// Notifications of every round, in the order in which they were planned.
    pub notifications: Vec<Notification>,
}

impl CareInvitation {
    /// Returns the invitation and the reminders of the present round.
    fn current_round(&self) -> impl DoubleEndedIterator<Item = &Notification> {
        self.notifications.iter().filter(|notification| {
            notification.round == self.round && notification.kind != Kind::Withdrawal
        })
    }

    /// Returns the instant of the latest hand-over in the present round.
    fn last_sent_at(&self) -> Option<Instant> {
        self.current_round()
            .filter_map(Notification::handed_over_at)
            .max()
    }

    /// Returns the kind that was planned last in the present round. A reminder that was cancelled because the
    /// notification before it proved not to have been produced is yet to be planned.
    pub(super) fn last_kind(&self) -> Kind {
        self.current_round()
            .filter(|notification| notification.state != notification::State::Cancelled)
            .map(|notification| notification.kind)
            .max()
            .unwrap_or(Kind::Invitation)
    }

    /// Returns the notification that the round waits for: the one of the last kind planned, as long as none
    /// of that kind has been handed over.
    pub fn awaited_notification(&self) -> Option<&Notification> {
        let kind = self.last_kind();
        if self.has_sent(self.round, kind) {
            return None;
        }
        self.current_round()
            .rfind(|it| it.kind == kind && it.is_unsettled())
    }

    /// Returns the letters of the present round that follow receipts and are yet to be handed over.
    fn awaited_letters(&self) -> impl Iterator<Item = &Notification> {
        self.current_round()
            .filter(|it| it.is_follow_up() && it.is_unsettled())
    }

    /// Returns whether no notification of the present round was handed over after this one.
    pub fn is_latest(&self, notification: &Notification) -> bool {
        notification.round == self.round && notification.sent_at == self.last_sent_at()
    }

    /// Returns the channel through which a notification of the present round was last handed over or is
    /// being handed over, and the reason for it.
    pub fn last_channel(&self) -> Option<(DeliveryChannel, ChannelReason)> {
        let last = self.last_used()?;
        Some((last.channel, last.channel_reason))
    }

    /// Returns the notification of the present round that was last handed over or is being handed over.
    pub fn last_used(&self) -> Option<&Notification> {
        // By hand-over, not by planning: a letter that follows a receipt is planned after the next
        // reminder but may leave before it. A notification that is dispatching leaves last.
        let left_at =
            |notification: &&Notification| notification.sent_at.unwrap_or(Instant::MAX_UTC);
        let left = self.current_round().filter(|it| it.has_left());
        left.max_by_key(left_at)
    }

    /// Returns whether the patient has been told of the present round: a notification of it was handed over or is
    /// being handed over.
    pub fn is_told(&self) -> bool {
        self.current_round().any(Notification::has_left)
    }

    /// Returns the instant since which the patient may book in the present round: that of the first lease
    /// of one of its notifications, or of the first contact WILL_BOOK, whichever came first.
    pub fn bookable_since(&self) -> Option<Instant> {
        self.current_round()
            .filter_map(Notification::first_out_at)
            .chain(self.will_book_at)
            .min()
    }

    /// Returns whether booking was open to the patient in the present round or one before.
    pub fn was_once_open(&self) -> bool {
        self.opened_before || self.bookable_since().is_some()
    }

    /// Returns whether a consumer has leased a notification of the present round, which it may then have
    /// handed over.
    pub fn has_been_leased(&self) -> bool {
        self.current_round()
            .any(|notification| notification.lease.is_some())
    }

    /// Returns whether a notification of this kind has been handed over in `round`.
    pub fn has_sent(&self, round: i32, kind: Kind) -> bool {
        self.notifications.iter().any(|notification| {
            notification.round == round
                && notification.kind == kind
                && notification.state == notification::State::Sent
        })
    }
}

impl Schedule {
    /// Returns the time at which the first notification falls due: the lead before `start` at the sending
    /// clock, or `now` if that has passed.
    pub fn first_due_at(&self, start: NaiveDate, now: Instant) -> Instant {
        at_clock(subtract_days(start, self.lead_days), self.send_time).max(now)
    }

    /// Returns the time at which the reminder after a hand-over falls due: the gap later on the calendar, at
    /// the sending clock.
    pub fn reminder_due_at(&self, sent_at: Instant) -> Instant {
        let day = add_days(civil_date(sent_at), self.reminder_gap_days);
        at_clock(day, self.send_time)
    }

    /// Returns the time at which silence after the last hand-over becomes NO_RESPONSE.
    fn no_response_at(&self, sent_at: Instant) -> Instant {
        let day = add_days(civil_date(sent_at), self.no_response_days);
        at_clock(day, self.send_time)
    }
}

impl CareInvitation {
    /// Returns the instant at which silence becomes NO_RESPONSE, if all notifications of the round are sent
    /// or skipped and nothing holds the invitation.
    pub(super) fn no_response_deadline(
        &self,
        state: State,
        expires_at: Option<Instant>,
    ) -> Option<Instant> {
        if state != State::Invited || self.hold.is_some() {
            return None;
        }
        let last_sent_at = self.last_sent_at()?;
        let is_skipped = |it: &Notification| expires_at.is_some_and(|end| end <= it.due_at);
        let complete = match self.awaited_notification() {
            None => {
                let last = self.last_kind();
                last.next(self.schedule.reminder_count).is_none() && self.has_sent(self.round, last)
            }
            Some(awaited_notification) => is_skipped(awaited_notification),
        };
        let complete = complete && self.awaited_letters().all(is_skipped);
        complete.then(|| self.schedule.no_response_at(last_sent_at))
    }
}
