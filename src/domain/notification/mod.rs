//! One message to the patient: what it says, where it stands, and who holds it.
//!
//! A message is pending while it is scheduled, leased or dispatching. Its newest lease token is
//! kept for good, so that a late SENT is always recognised. Verbs are in the folder beside.

pub mod acknowledge;
pub mod authorize;
pub mod lease;
pub mod list;
pub mod report_delivery;

use chrono::Duration;
use uuid::Uuid;

use super::calendar::Instant;
use super::request_key::RequestKey;
use super::stored_enum;

stored_enum! {
    /// What a message says.
    pub enum Kind {
        /// It is time for a visit: choose a time.
        Invitation = 1,
        /// First reminder.
        FirstReminder = 2,
        /// Second and last reminder.
        SecondReminder = 3,
        /// The invitation is withdrawn; beside the three of a round.
        Withdrawal = 4,
    }
}

impl Kind {
    /// Returns the message that follows in the round, if one does.
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Invitation => Some(Self::FirstReminder),
            Self::FirstReminder => Some(Self::SecondReminder),
            Self::SecondReminder | Self::Withdrawal => None,
        }
    }
}

stored_enum! {
    /// How a message reaches the patient.
    pub enum Channel {
        /// The patient's inbox in 1177.
        Inbox = 1,
        /// A letter by post.
        Letter = 2,
    }
}

stored_enum! {
    /// Why a channel was chosen.
    pub enum ChannelReason {
        /// The inbox is the first choice.
        Default = 1,
        /// The patient does not use 1177.
        NoDigitalAccount = 2,
        /// The kind of identity number cannot be used in 1177.
        IdentityNumber = 3,
        /// The inbox has failed in this round.
        DigitalFailed = 4,
        /// The message lay unread for too long.
        Unread = 5,
        /// Staff chose it when they lifted a hold.
        Staff = 6,
    }
}

stored_enum! {
    /// The stored state of a message. What is only projected or skipped is worked out when read.
    pub enum State {
        /// Waits for its due time, for a consumer, or for a hold to be lifted.
        Scheduled = 1,
        /// Leased to a consumer. A lease that has run out stays here until the next claim.
        Leased = 2,
        /// A consumer has leave to hand it over.
        Dispatching = 3,
        /// Handed over.
        Sent = 4,
        /// No longer wanted.
        Cancelled = 5,
        /// Set aside until staff release it.
        Parked = 6,
    }
}

stored_enum! {
    /// What a consumer answered to a lease.
    pub enum Outcome {
        /// Handed over.
        Sent = 1,
        /// Could not be handed over now.
        Retry = 2,
        /// The channel does not reach the patient.
        Unreachable = 3,
        /// Something is wrong with the message.
        Park = 4,
    }
}

/// How many leases in a row may run out before the message is parked.
pub const LAPSES_MAX: i32 = 8;

/// One planned message.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// The same at every delivery attempt.
    pub id: Uuid,
    /// Which invitation of the request it belongs to, from 1.
    pub round: i32,
    /// What it says.
    pub kind: Kind,
    /// Where it stands.
    pub state: State,
    /// The channel as it would be chosen now, or as it was when the message left.
    pub channel: Channel,
    /// Why that channel.
    pub channel_reason: ChannelReason,
    /// True when the channel is the message's own and is never chosen anew.
    pub channel_fixed: bool,
    /// When it is to be sent.
    pub due_at: Instant,
    /// Not to be claimed before this, after a lapsed lease or a RETRY.
    pub retry_at: Option<Instant>,
    /// When it may be claimed; none while held, skipped or done. What the due index holds.
    pub claimable_at: Option<Instant>,
    /// The newest lease, kept after it has ended.
    pub lease: Option<Lease>,
    /// How many times it has been leased.
    pub attempt_count: i32,
    /// How many leases in a row have run out.
    pub expired_lease_count: i32,
    /// How many times a consumer has answered RETRY.
    pub retry_count: i32,
    /// True when an earlier lease ended without an answer.
    pub possible_repeat: bool,
    /// Time of its release by staff; none again once a lease that lasted beyond that has ended without
    /// an answer.
    pub released_at: Option<Instant>,
    /// True when the request was changed after the newest lease was given.
    pub changed_since_lease: bool,
    /// When it was handed over.
    pub sent_at: Option<Instant>,
    /// Why it was cancelled or parked, or what a consumer said.
    pub cause: Option<String>,
    /// True when it left although the invitation had ended or changed.
    pub superseded: bool,
    /// When the patient read it, if reported.
    pub read_at: Option<Instant>,
    /// When it was reported to lie unread.
    pub unread_at: Option<Instant>,
    /// When it was reported to have come back.
    pub returned_at: Option<Instant>,
}

/// A message's being in the hands of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Names the lease; new at each.
    pub token: Uuid,
    /// When it runs out.
    pub expires_at: Instant,
    /// When the message was first leased to anyone: it cannot have left before.
    pub first_at: Instant,
    /// The consumer's answer, if it has given one.
    pub answer: Option<Outcome>,
}

/// One lease of one message, as a consumer names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseRef {
    /// The request that the message belongs to.
    pub request: RequestKey,
    /// The message.
    pub notification: Uuid,
    /// The lease. The nil UUID, which names none, when the consumer's text is no token of ours.
    pub token: Uuid,
}

impl Notification {
    /// Returns whether it may still go out.
    pub fn is_pending(&self) -> bool {
        match self.state {
            State::Scheduled | State::Leased | State::Dispatching => true,
            State::Sent | State::Cancelled | State::Parked => false,
        }
    }

    /// Returns whether a consumer has it in hand.
    pub fn is_leased(&self) -> bool {
        match self.state {
            State::Leased | State::Dispatching => true,
            State::Scheduled | State::Sent | State::Cancelled | State::Parked => false,
        }
    }

    /// Returns whether `token` names its newest lease.
    pub fn has_lease(&self, token: Uuid) -> bool {
        self.lease
            .as_ref()
            .is_some_and(|lease| lease.token == token)
    }

    /// Takes a leased message back into the queue; one that is dispatching runs its course.
    pub fn revoke(&mut self) {
        if self.state == State::Leased {
            self.state = State::Scheduled;
            self.retry_at = None;
            self.possible_repeat = true;
            self.released_at = None;
        }
    }

    /// Writes down that its newest lease has run out without an answer.
    pub fn end_unanswered(&mut self) {
        let expires_at = self.lease.as_ref().map(|lease| lease.expires_at);
        self.possible_repeat = true;
        self.released_at = self
            .released_at
            .filter(|released_at| expires_at <= Some(*released_at));
    }

    /// Returns true when it waits at `now`: no consumer has it in hand, or the lease of the one that was
    /// to hand it over has run out.
    pub fn waits(&self, now: Instant) -> bool {
        match self.state {
            State::Scheduled | State::Parked => true,
            State::Leased | State::Dispatching => {
                let lease = self.lease.as_ref();
                lease.is_some_and(|lease| lease.expires_at <= now)
            }
            State::Sent | State::Cancelled => false,
        }
    }

    /// Makes it CANCELLED when it is scheduled, leased or parked; says whether it did.
    pub fn cancel(&mut self, cause: &str) -> bool {
        match self.state {
            State::Scheduled | State::Leased | State::Parked => {
                self.state = State::Cancelled;
                self.cause = Some(cause.to_owned());
                true
            }
            State::Dispatching | State::Sent | State::Cancelled => false,
        }
    }
}

/// The state of a message as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DisplayState {
    /// As stored.
    Planned(State),
    /// To come; planned for good when the message before it has been handed over.
    Projected,
    /// Will not be sent, because its day lies after the period.
    Skipped,
}

/// A message as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct DisplayedNotification {
    /// The planned message; none when it is only projected.
    pub message: Option<Notification>,
    /// Which invitation of the request it belongs to.
    pub round: i32,
    /// What it says.
    pub kind: Kind,
    /// Where it stands.
    pub state: DisplayState,
    /// Through which channel.
    pub channel: Channel,
    /// Why that channel.
    pub channel_reason: ChannelReason,
    /// When it is to be sent; for a projected message the earliest such time.
    pub due_at: Instant,
    /// Why it was skipped, cancelled or parked.
    pub cause: Option<String>,
}

/// Returns the wait before the claim that follows `failures` failed tries: nothing, then a minute that
/// doubles up to an hour.
fn backoff(failures: i32) -> Duration {
    match failures {
        ..=1 => Duration::zero(),
        2..=7 => Duration::minutes(1 << (failures - 2)),
        8.. => Duration::hours(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_nothing_then_a_minute_that_doubles_up_to_an_hour() {
        let minutes: Vec<i64> = (1..=9).map(|n| backoff(n).num_minutes()).collect();
        assert_eq!(minutes, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
