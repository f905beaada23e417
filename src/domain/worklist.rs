//! Worklists: the lists that a request is on, and the instant at which time moves it.
//!
//! A request belongs to a group, until time moves it to FOLLOW_UP, and most lists are made of groups. The
//! store keeps the group and the instant beside the record, so that a list is a comparison of columns with
//! the present time and the rule stands here alone.

pub mod query;

use chrono::NaiveDate;

use super::booking_request::BookingRequest;
use super::booking_request::state::State;
use super::calendar::{Instant, civil_date};
use super::care_invitation::Hold;
use super::stored_enum;

/// Days before the end of the care guarantee from which a request is at risk.
pub const GUARANTEE_WARNING_DAYS: u32 = 14;

stored_enum! {
    /// A named list of work.
    pub enum Worklist {
        /// Requests that wait for staff.
        BookingRequests = 1,
        /// Patients who are invited and have not answered.
        CareInvitations = 2,
        /// Expired, unanswered, to be called, in touch without a decision, waited for in vain.
        FollowUp = 3,
        /// Held until staff decide.
        ManualHandling = 4,
        /// The patient found no suitable time.
        SlotIssues = 5,
        /// The patient declined.
        Declined = 6,
        /// Open, and the guarantee ends within 14 days or has ended.
        GuaranteeAtRisk = 7,
        /// Every request.
        All = 8,
        /// Every invitation.
        AllInvitations = 9,
        /// Every request that waits for staff, expired ones included.
        AllBookingRequests = 10,
    }
}

stored_enum! {
    /// A group of requests, of which lists are made. A request is in one at most.
    pub enum Group {
        /// Requests that wait for staff.
        BookingRequests = 1,
        /// Invitations that the patient may answer, or has said that they will.
        CareInvitations = 2,
        /// Invitations that call for staff: to be called, in touch without a decision.
        FollowUp = 3,
        /// Invitations that are held until staff decide.
        ManualHandling = 4,
        /// Invitations for which the patient found no suitable time.
        SlotIssues = 5,
        /// Declined.
        Declined = 6,
        /// Cancelled, with a withdrawal that is parked.
        ParkedWithdrawals = 7,
    }
}

impl Group {
    /// Returns whether time may move its requests to FOLLOW_UP.
    pub fn is_moved_by_time(self) -> bool {
        match self {
            Self::BookingRequests
            | Self::CareInvitations
            | Self::FollowUp
            | Self::ManualHandling
            | Self::SlotIssues => true,
            Self::Declined | Self::ParkedWithdrawals => false,
        }
    }

    /// Returns whether its requests are on a list that is made of groups: those that time has moved to
    /// FOLLOW_UP, or the others.
    pub fn is_on(self, list: Worklist, moved: bool) -> bool {
        match list {
            Worklist::BookingRequests => !moved && self == Self::BookingRequests,
            Worklist::CareInvitations => !moved && self == Self::CareInvitations,
            Worklist::FollowUp => moved || self == Self::FollowUp,
            Worklist::ManualHandling => {
                !moved && matches!(self, Self::ManualHandling | Self::ParkedWithdrawals)
            }
            Worklist::SlotIssues => !moved && self == Self::SlotIssues,
            Worklist::Declined => self == Self::Declined,
            Worklist::AllInvitations => match self {
                Self::CareInvitations
                | Self::FollowUp
                | Self::ManualHandling
                | Self::SlotIssues => true,
                Self::BookingRequests | Self::Declined | Self::ParkedWithdrawals => false,
            },
            Worklist::AllBookingRequests => self == Self::BookingRequests,
            Worklist::GuaranteeAtRisk | Worklist::All => false,
        }
    }
}

/// Group of a request, and when time moves it to [`Worklist::FollowUp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Group that the request is in, if any.
    pub group: Option<Group>,
    /// Instant at which it moves to [`Worklist::FollowUp`] by itself.
    pub follow_up_at: Option<Instant>,
}

impl Placement {
    /// Returns whether the request is on a list that is made of groups, at `now`.
    fn is_on(self, list: Worklist, now: Instant) -> bool {
        let moved = self.follow_up_at.is_some_and(|moves_at| moves_at <= now);
        self.group.is_some_and(|group| group.is_on(list, moved))
    }
}

impl BookingRequest {
    /// Returns whether the request is on a list at `now`.
    pub fn is_on(&self, list: Worklist, now: Instant) -> bool {
        match list {
            Worklist::BookingRequests
            | Worklist::CareInvitations
            | Worklist::FollowUp
            | Worklist::ManualHandling
            | Worklist::SlotIssues
            | Worklist::Declined
            | Worklist::AllInvitations
            | Worklist::AllBookingRequests => self.placement().is_on(list, now),
            Worklist::GuaranteeAtRisk => self.guarantee_is_at_risk(civil_date(now)),
            Worklist::All => true,
        }
    }

    /// Returns the group that the request is in, and the instant at which time moves it.
    pub fn placement(&self) -> Placement {
        let expires_at = self.expires_at();
        let (group, follow_up_at) = match self.state {
            State::Requested => (Some(Group::BookingRequests), expires_at),
            State::Invited => {
                let (group, moves_at) = self.invited_placement();
                let first = [moves_at, expires_at].into_iter().flatten().min();
                (Some(group), first)
            }
            State::Declined => (Some(Group::Declined), None),
            State::Cancelled if self.has_parked_withdrawal() => {
                (Some(Group::ParkedWithdrawals), None)
            }
            State::Booked | State::Cancelled => (None, None),
        };
        Placement {
            group,
            follow_up_at,
        }
    }

    /// Returns the next instant after `now` at which time alone changes its list or its effective state.
    pub fn next_transition_at(&self, now: Instant) -> Option<Instant> {
        let expires_at = self.expires_at().filter(|_| self.is_open());
        [self.placement().follow_up_at, expires_at]
            .into_iter()
            .flatten()
            .filter(|moves_at| now < *moves_at)
            .min()
    }

    fn invited_placement(&self) -> (Group, Option<Instant>) {
        let no_response_at = self
            .care_invitation
            .as_ref()
            .and_then(|it| it.no_response_at);
        match self.hold() {
            Some(Hold::ProtectedIdentity | Hold::Undeliverable | Hold::Parked) => {
                (Group::ManualHandling, None)
            }
            Some(Hold::NoSuitableTime) => (Group::SlotIssues, None),
            Some(Hold::CallBack | Hold::Contacted) => (Group::FollowUp, None),
            Some(hold @ Hold::WillBook { .. }) => (Group::CareInvitations, hold.ends_at()),
            None => (Group::CareInvitations, no_response_at),
        }
    }

    /// Returns the due time of its next claimable notification, if there is one.
    pub fn next_notification_at(&self) -> Option<Instant> {
        self.care_invitation
            .as_ref()?
            .notifications
            .iter()
            .filter(|notification| notification.claimable_at.is_some())
            .map(|notification| notification.due_at)
            .min()
    }
}

impl BookingRequest {
    /// Returns whether the request is open and its guarantee ends soon, or has ended, on `today`.
    fn guarantee_is_at_risk(&self, today: NaiveDate) -> bool {
        let ends = self.care_guarantee_date;
        self.is_open() && ends.is_some_and(|ends| ends <= guarantee_at_risk_until(today))
    }
}

/// Returns the last guarantee date that is at risk on `today`.
pub fn guarantee_at_risk_until(today: NaiveDate) -> NaiveDate {
    super::calendar::add_days(today, GUARANTEE_WARNING_DAYS)
}
