//! Worklists: which list a request is in, and the instant at which time moves it.
//!
//! The store keeps both beside the record, so that a list is a comparison of columns with the
//! present time and the rule stands here alone.

use chrono::NaiveDate;

use super::booking_request::BookingRequest;
use super::booking_request::form::Priority;
use super::booking_request::form::VisitKind;
use super::booking_request::state::State;
use super::calendar::{Instant, Period, civil_date, end_of};
use super::care_invitation::Hold;
use super::hsa_id::HsaId;
use super::patient::PersonalId;
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
    }
}

/// Worklist of a request, until time moves it to [`Worklist::FollowUp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// List that the request is in, if any.
    pub worklist: Option<Worklist>,
    /// Instant at which it moves to [`Worklist::FollowUp`] by itself.
    pub follow_up_at: Option<Instant>,
}

impl Placement {
    /// Returns the list at `now`.
    pub fn at(self, now: Instant) -> Option<Worklist> {
        match self.follow_up_at {
            Some(follow_up_at) if follow_up_at <= now => Some(Worklist::FollowUp),
            _ => self.worklist,
        }
    }
}

impl BookingRequest {
    /// Returns the list that the request is in, and the instant at which time moves it.
    pub fn placement(&self) -> Placement {
        let expires_at = self.expires_at();
        let (worklist, follow_up_at) = match self.state {
            State::Requested => (Some(Worklist::BookingRequests), expires_at),
            State::Invited => {
                let (worklist, moves_at) = self.invited_placement();
                let first = [moves_at, expires_at].into_iter().flatten().min();
                (Some(worklist), first)
            }
            State::Declined => (Some(Worklist::Declined), None),
            State::Booked => (None, None),
            State::Cancelled if self.has_parked_withdrawal() => {
                (Some(Worklist::ManualHandling), None)
            }
            State::Cancelled => (None, None),
        };
        Placement {
            worklist,
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

    fn invited_placement(&self) -> (Worklist, Option<Instant>) {
        let no_response_at = self
            .care_invitation
            .as_ref()
            .and_then(|it| it.no_response_at);
        match self.hold() {
            Some(Hold::ProtectedIdentity | Hold::Undeliverable | Hold::Parked) => {
                (Worklist::ManualHandling, None)
            }
            Some(Hold::NoSuitableTime) => (Worklist::SlotIssues, None),
            Some(Hold::CallBack | Hold::Contacted) => (Worklist::FollowUp, None),
            Some(hold @ Hold::WillBook { .. }) => (Worklist::CareInvitations, hold.ends_at()),
            None => (Worklist::CareInvitations, no_response_at),
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

stored_enum! {
    /// The order of a worklist.
    pub enum OrderBy {
        /// Earliest requested start first.
        StartDate = 1,
        /// Oldest creation first.
        CreateTime = 2,
        /// Soonest next notification first, those without one last.
        NextNotification = 3,
        /// Highest priority first, then oldest creation.
        Priority = 4,
        /// Soonest end of the guarantee first, those without one last.
        CareGuarantee = 5,
    }
}

/// Query for the requests of a list, in an order. An empty filter matches all.
#[derive(Clone, PartialEq, Eq)]
pub struct Query {
    /// List to read.
    pub worklist: Worklist,
    /// Care units, 1 to 50.
    pub care_units: Vec<HsaId>,
    /// Kind of visit: new or return visits only.
    pub visit_kind: Option<VisitKind>,
    /// Codes of visit types.
    pub visit_type_codes: Vec<String>,
    /// One patient.
    pub personal_id: Option<PersonalId>,
    /// One referral.
    pub referral_id: Option<String>,
    /// Period with which the requested period must share a day.
    pub period: Option<Period>,
    /// Lowest priority to include.
    pub minimum_priority: Priority,
    /// Order of the list; ties are broken by care unit and id.
    pub order_by: OrderBy,
}

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Query")
    }
}

impl Query {
    /// Returns whether a request is on the list at `now`: the same as the store's query by columns, for
    /// one loaded record.
    pub fn matches(&self, record: &BookingRequest, now: Instant) -> bool {
        let form = &record.form;
        let period = form.constraints.as_ref().map(|it| it.period);
        let in_worklist = match self.worklist {
            Worklist::BookingRequests
            | Worklist::CareInvitations
            | Worklist::FollowUp
            | Worklist::ManualHandling
            | Worklist::SlotIssues
            | Worklist::Declined => record.placement().at(now) == Some(self.worklist),
            Worklist::GuaranteeAtRisk => record.guarantee_is_at_risk(civil_date(now)),
            Worklist::All => true,
        };
        let code = &form.visit_type.code;
        let patient = &form.patient.personal_id;
        in_worklist
            && self.care_units.contains(&record.key.care_unit)
            && self.visit_kind.is_none_or(|kind| kind == form.visit_kind)
            && (self.visit_type_codes.is_empty() || self.visit_type_codes.contains(code))
            && self.personal_id.as_ref().is_none_or(|it| it == patient)
            && (self.referral_id.is_none()
                || self.referral_id.as_deref() == form.origin.referral_id())
            && self
                .period
                .is_none_or(|wanted| period.is_some_and(|it| it.overlaps(wanted)))
            && self.minimum_priority <= form.priority
    }

    /// Returns the start of the day after `now`, if a new day alone may change the list.
    pub fn next_day_at(&self, now: Instant) -> Option<Instant> {
        (self.worklist == Worklist::GuaranteeAtRisk).then(|| end_of(civil_date(now)))
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

/// Position in the order of a list, as held by a page token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Values that the order compares, first and second; the second is zero where it compares one.
    pub sort_key: [i64; 2],
    /// Request, which breaks ties.
    pub key: super::request_key::RequestKey,
}
