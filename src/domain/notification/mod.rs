//! One notification to the patient: its kind, its state and its lease.
//!
//! A notification is pending while it is scheduled, leased or dispatching. Its newest lease token is
//! kept for ever, so that a late SENT is always recognised. Verbs are in the files beside this one.

pub mod acknowledge;
pub mod authorize;
pub mod lease;
pub mod list;
pub mod name;
mod not_produced;
pub mod pause;
pub mod report_delivery;

use chrono::Duration;
use uuid::Uuid;

use super::calendar::Instant;
use super::patient::Addressee;
use super::request_key::RequestKey;
use super::stored_enum;

/// Kind of a notification: what it tells the patient. The order is that of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It is time for a visit: choose a time.
    Invitation,
    /// A reminder of the invitation.
    Reminder {
        /// Number of the reminder within its round, from 1.
        sequence: i16,
    },
    /// The invitation is withdrawn; beside those of a round.
    Withdrawal,
}

impl Kind {
    /// Returns the kind that follows in a round with `reminder_count` reminders, if one does.
    pub fn next(self, reminder_count: u32) -> Option<Self> {
        let sequence = match self {
            Self::Invitation => 1,
            Self::Reminder { sequence } => sequence + 1,
            Self::Withdrawal => return None,
        };
        (i64::from(sequence) <= i64::from(reminder_count)).then_some(Self::Reminder { sequence })
    }

    /// Returns the number of a reminder within its round; 0 for other kinds.
    pub fn sequence(self) -> i16 {
        match self {
            Self::Reminder { sequence } => sequence,
            Self::Invitation | Self::Withdrawal => 0,
        }
    }
}

stored_enum! {
    /// Channel through which a notification reaches the patient.
    pub enum DeliveryChannel {
        /// The patient's inbox in 1177.
        Inbox = 1,
        /// A letter by post.
        Letter = 2,
    }
}

stored_enum! {
    /// Reason why a channel was chosen.
    pub enum ChannelReason {
        /// The inbox is the first choice.
        Default = 1,
        /// The patient does not use 1177.
        NoDigitalAccount = 2,
        /// The kind of identity number cannot be used in 1177.
        IdentityNumber = 3,
        /// The inbox has failed in this round.
        DigitalFailed = 4,
        /// The notification was left unread for too long.
        Unread = 5,
        /// Staff chose it when they lifted a hold.
        Staff = 6,
        /// The patient is younger than the care unit has set for letters.
        Minor = 7,
        /// Somebody who acts for the patient is addressed.
        Proxy = 8,
    }
}

stored_enum! {
    /// Stored state of a notification. Projected and skipped are derived when it is read.
    pub enum State {
        /// Waits for its due time, for a consumer, or for a hold to be lifted.
        Scheduled = 1,
        /// Leased to a consumer. A notification whose lease has expired stays here until the next claim.
        Leased = 2,
        /// A consumer is authorized to hand it over.
        Dispatching = 3,
        /// Handed over.
        Sent = 4,
        /// Not to be sent any more.
        Cancelled = 5,
        /// Parked until staff release it.
        Parked = 6,
    }
}

stored_enum! {
    /// Outcome with which a consumer acknowledges a lease.
    pub enum Outcome {
        /// Handed over.
        Sent = 1,
        /// Could not be handed over now.
        Retry = 2,
        /// The channel does not reach the patient.
        Unreachable = 3,
        /// Something is wrong with the notification.
        Park = 4,
    }
}

/// Reason why a leased notification is no longer wanted, the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DispatchRefusal {
    /// It is unknown, or has been leased anew.
    Lost,
    /// The patient has booked.
    Booked,
    /// The patient has declined.
    Declined,
    /// The invitation has been cancelled.
    Cancelled,
    /// The request waits for staff again.
    Revoked,
    /// The invitation is held, or the notification is parked.
    Held,
    /// It is not as it was leased.
    Changed,
    /// The period has passed.
    Expired,
    /// The care unit is paused.
    Paused,
}

stored_enum! {
    /// Cause of a notification's being skipped, cancelled, parked, returned, tried again or imported.
    pub enum Cause {
        /// Its day lies after the period.
        AfterPeriod = 1,
        /// A booking was recorded.
        Booked = 2,
        /// The patient declined.
        Declined = 3,
        /// The request was cancelled.
        Cancelled = 4,
        /// The invitation was revoked.
        Revoked = 5,
        /// A new round began.
        NewRound = 6,
        /// The patient has died.
        PatientDeceased = 7,
        /// It had not been handed over when its invitation ended.
        NotSent = 8,
        /// Its kind was handed over by another notification.
        HandedOver = 9,
        /// It is the letter after a notification that was read after all.
        Read = 10,
        /// Its channel does not reach the patient.
        Unreachable = 11,
        /// It was returned.
        Returned = 12,
        /// A consumer could not hand it over for the time being.
        Retry = 13,
        /// A consumer parked it.
        Parked = 14,
        /// Its leases expired, [`EXPIRED_LEASES_MAX`] in a row.
        LeasesRanOut = 15,
        /// It is a withdrawal, and the patient has protected identity.
        ProtectedIdentity = 16,
        /// An older system handed it over before the request was created.
        Imported = 17,
        /// It, the one that it counted from, or the one whose place it takes was never posted.
        NotProduced = 18,
    }
}

/// Number of leases in a row that expire before the notification is parked.
pub const EXPIRED_LEASES_MAX: i32 = 8;

/// One planned notification.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// Id, derived from what it is; the same at every delivery attempt, and when it is planned anew after a restore.
    pub id: Uuid,
    /// Round of the request that it belongs to, from 1.
    pub round: i32,
    /// Kind: what it tells the patient.
    pub kind: Kind,
    /// State of the notification.
    pub state: State,
    /// Channel as it would be chosen now, or as it was when the notification was handed over.
    pub channel: DeliveryChannel,
    /// Reason for the channel.
    pub channel_reason: ChannelReason,
    /// True if the channel is the notification's own and is never chosen again.
    pub channel_fixed: bool,
    /// True if it is the letter that follows a notification which was left unread.
    pub follows_unread: bool,
    /// Notification whose place it takes, because that was never posted.
    pub replaces: Option<Uuid>,
    /// Time at which it is to be sent.
    pub due_at: Instant,
    /// Earliest time of the next claim, after a lease or a RETRY.
    pub retry_at: Option<Instant>,
    /// Time from which it may be claimed, as held by the due index; `None` while held, skipped or done.
    pub claimable_at: Option<Instant>,
    /// Newest lease, kept after it has ended.
    pub lease: Option<Lease>,
    /// Number of times that it has been leased, without leases that were released.
    pub attempt_count: i32,
    /// Number of leases in a row that have expired.
    pub expired_lease_count: i32,
    /// Number of times that a consumer has acknowledged with RETRY.
    pub retry_count: i32,
    /// True if it may have been handed over: an earlier lease ended without an acknowledgement, or a consumer or an
    /// operator said so.
    pub possible_repeat: bool,
    /// Time of its release by staff; `None` again once a lease that lasted beyond it has ended without an
    /// acknowledgement.
    pub released_at: Option<Instant>,
    /// True if the request was changed after the newest lease was granted.
    pub changed_since_lease: bool,
    /// Time at which it was handed over.
    pub sent_at: Option<Instant>,
    /// Cause of its state, where there is something to explain.
    pub cause: Option<Cause>,
    /// Consumer's own words about the cause; empty if none.
    pub cause_detail: String,
    /// True if it was handed over although the invitation had ended or changed.
    pub sent_after_change: bool,
    /// Time at which the patient read it, if reported.
    pub read_at: Option<Instant>,
    /// Time at which it was found unread, if reported.
    pub unread_at: Option<Instant>,
    /// Time at which it was returned, if reported.
    pub returned_at: Option<Instant>,
    /// Time at which it was posted, if reported.
    pub dispatched_at: Option<Instant>,
    /// Time at which it proved not to have been posted, if reported. What was cancelled because of it was never handed
    /// over, whatever `sent_at` says.
    pub not_produced_at: Option<Instant>,
}

/// A consumer's exclusive right to a notification for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Token of the lease, new for each.
    pub token: Uuid,
    /// Time at which it expires.
    pub expires_at: Instant,
    /// Time of the notification's first lease that was not released, or of this one if all before it were. Unless it
    /// may be a repeat, it cannot have been handed over earlier.
    pub first_at: Instant,
    /// Person whom the notification is addressed to under this lease.
    pub addressee: Addressee,
    /// Outcome that the consumer has acknowledged, if any.
    pub answer: Option<Outcome>,
    /// True if the consumer has promised to hand nothing over without an authorization.
    pub always_authorizes: bool,
    /// True if it was released because it never reached its consumer, and nothing has revoked it since.
    pub released: bool,
}

/// Reference to one lease of one notification, as a consumer gives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseRef {
    /// Request that the notification belongs to.
    pub request: RequestKey,
    /// Id of the notification.
    pub notification: Uuid,
    /// Token of the lease; the nil UUID, which no lease has, if the consumer's text is not one of ours.
    pub token: Uuid,
}

impl Notification {
    /// Returns whether it may still be sent.
    pub fn is_pending(&self) -> bool {
        match self.state {
            State::Scheduled | State::Leased | State::Dispatching => true,
            State::Sent | State::Cancelled | State::Parked => false,
        }
    }

    /// Returns whether it may still be sent, or once staff release it.
    pub fn is_unsettled(&self) -> bool {
        self.is_pending() || self.state == State::Parked
    }

    /// Returns whether it is leased to a consumer, authorized or not.
    pub fn is_leased(&self) -> bool {
        match self.state {
            State::Leased | State::Dispatching => true,
            State::Scheduled | State::Sent | State::Cancelled | State::Parked => false,
        }
    }

    /// Returns the time of its hand-over; `None` if there was none, or it proved not to have been one.
    pub fn handed_over_at(&self) -> Option<Instant> {
        match self.state {
            State::Sent => self.sent_at,
            State::Scheduled
            | State::Leased
            | State::Dispatching
            | State::Cancelled
            | State::Parked => None,
        }
    }

    /// Returns the time from which the patient may have it: that of its first lease that was not released,
    /// or of its hand-over under one that was.
    pub fn first_out_at(&self) -> Option<Instant> {
        match (self.attempt_count, &self.lease) {
            (1.., Some(lease)) => Some(lease.first_at),
            (..=0, _) | (1.., None) => self.sent_at,
        }
    }

    /// Returns the earliest time at which it can have been handed over: that of its first lease or, if it may be a
    /// repeat, that at which it was due, since a restored database does not know all leases.
    pub fn earliest_sent_at(&self, now: Instant) -> Instant {
        let first_at = self.lease.as_ref().map_or(now, |it| it.first_at);
        match self.possible_repeat {
            true => first_at.min(self.due_at),
            false => first_at,
        }
    }

    /// Returns whether an older system handed it over.
    pub fn is_imported(&self) -> bool {
        self.state == State::Sent && self.cause == Some(Cause::Imported)
    }

    /// Returns whether `token` is that of its newest lease.
    pub fn has_lease(&self, token: Uuid) -> bool {
        self.lease
            .as_ref()
            .is_some_and(|lease| lease.token == token)
    }

    /// Revokes the lease of a leased notification, which is scheduled again; one that is dispatching runs its
    /// course.
    pub fn revoke(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.released = false;
        }
        if self.state == State::Leased {
            self.possible_repeat |= self.may_have_left();
            self.state = State::Scheduled;
            self.retry_at = None;
            self.released_at = None;
        }
    }

    /// Returns whether its consumer may have handed it over under the newest lease: it was authorized, or nothing
    /// was promised.
    fn may_have_left(&self) -> bool {
        let promised = self.lease.as_ref().is_some_and(|it| it.always_authorizes);
        self.state == State::Dispatching || !promised
    }

    /// Records that its newest lease has expired without an acknowledgement.
    pub fn mark_lease_expired(&mut self) {
        let expires_at = self.lease.as_ref().map(|lease| lease.expires_at);
        self.possible_repeat |= self.may_have_left();
        self.released_at = self
            .released_at
            .filter(|released_at| expires_at <= Some(*released_at));
    }

    /// Returns whether it waits at `now`: it is scheduled or parked, or its lease has expired.
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

    /// Returns whether it is a letter that follows a receipt, beside the notification that the receipt is for.
    pub fn is_follow_up(&self) -> bool {
        self.channel_fixed && self.kind != Kind::Withdrawal
    }

    /// Returns whether it was handed over or is being handed over.
    pub fn has_left(&self) -> bool {
        match self.state {
            State::Sent | State::Dispatching => true,
            State::Scheduled | State::Leased | State::Cancelled | State::Parked => false,
        }
    }

    /// Sets the cause of its state, with the consumer's own words if it gave some.
    pub fn explain(&mut self, cause: Cause, detail: &str) {
        self.cause = Some(cause);
        detail.clone_into(&mut self.cause_detail);
    }

    /// Removes the cause, with the consumer's words.
    pub fn clear_cause(&mut self) {
        self.cause = None;
        self.cause_detail.clear();
    }

    /// Cancels it if it is scheduled, leased or parked. Returns whether it did.
    pub fn cancel(&mut self, cause: Cause) -> bool {
        match self.state {
            State::Scheduled | State::Leased | State::Parked => {
                self.state = State::Cancelled;
                self.explain(cause, "");
                true
            }
            State::Dispatching | State::Sent | State::Cancelled => false,
        }
    }
}

/// State of a notification as it is displayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DisplayState {
    /// Stored state of a planned notification.
    Planned(State),
    /// To come; planned when the notification before it has been handed over.
    Projected,
    /// Will not be sent, because its day lies after the period.
    Skipped,
}

/// A notification as it is displayed.
#[derive(Clone, Debug, PartialEq)]
pub struct DisplayedNotification {
    /// Planned notification; `None` if it is only projected.
    pub planned: Option<Notification>,
    /// Round of the request that it belongs to.
    pub round: i32,
    /// Kind: what it tells the patient.
    pub kind: Kind,
    /// State of the notification.
    pub state: DisplayState,
    /// Channel through which it is sent.
    pub channel: DeliveryChannel,
    /// Reason for the channel.
    pub channel_reason: ChannelReason,
    /// Time at which it is to be sent; the earliest such time for a projected notification.
    pub due_at: Instant,
    /// Cause of its being skipped, or that of the planned notification.
    pub cause: Option<Cause>,
    /// Consumer's own words about the cause; empty if none.
    pub cause_detail: String,
}

/// Returns the back-off before the claim that follows `failures` failed attempts: nothing, then a minute
/// that doubles up to an hour.
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
