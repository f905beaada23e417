//! One booking request of the model, and the values derived from it at an instant.

use care_invitation::contract::v1;
use care_invitation::contract::v1::HistoryEvent;
use care_invitation::contract::v1::NotificationCause;
use care_invitation::contract::v1::booking_request::{Origin, State};
use care_invitation::contract::v1::notification::State as MessageState;
use care_invitation::contract::v1::{
    Action, Addressee, CancelReason, ChannelReason, DeliveryChannel, HoldReason, InboxReach,
    NotificationKind, PersonalIdType, Protection, VisitKind, Worklist,
};
use chrono::{Datelike, NaiveDate};

use super::calendar::{Instant, date, end_of, local_date, plus};
use super::compare::holds;
use super::message::{Invitation, Message, Step};
use super::settings::{InForce, Settings};

/// Days before the end of the care guarantee from which it is at risk.
const AT_RISK_DAYS: u64 = 14;

#[derive(Clone, Debug)]
pub struct Request {
    pub unit: String,
    /// Settings of its care unit.
    pub settings: Settings,
    /// Days of the care guarantee when it was created, or its visit last changed.
    pub guarantee_days: u64,
    /// True if it has changed since the channels of its waiting notifications were last chosen.
    pub touched: bool,
    /// Fields that callers have set, with the name and the booking.
    pub form: v1::BookingRequest,
    /// Stored state; EXPIRED and NO_RESPONSE are derived.
    pub state: State,
    /// True if it was created with `allow_duplicate`.
    pub exempt: bool,
    /// Series that it is a member of; the id and the names are learned from the first response.
    pub series: Option<v1::Series>,
    pub invitation: Option<Invitation>,
    pub cancel_reason: CancelReason,
    /// Number of bookings that the patient or the unit cancelled, and of missed visits.
    pub cancellations: [i32; 3],
    /// Contact that was recorded last.
    pub last_contact: Option<v1::PatientContact>,
    /// True if booking was ever open to the patient.
    pub once_open: bool,
    /// Time at which it was first declined or cancelled, while it is.
    pub closed_at: Option<Instant>,
    /// True if it was cancelled in INVITED or NO_RESPONSE for a reason that calls for a withdrawal.
    pub to_withdraw: bool,
    pub created_at: Instant,
    pub changed_at: Instant,
    /// Etags seen in responses, the present one last.
    pub etags: Vec<String>,
    /// Number that grows by one with each change that gives a new etag.
    pub version: u32,
    /// Version of the last of `etags`.
    pub seen_version: u32,
    pub history: Vec<Entry>,
    /// Fields that callers had set at the last entry of the history.
    pub noted: v1::BookingRequest,
}

/// An entry of the history, with the fields that the model has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub event: HistoryEvent,
    pub message: Option<usize>,
    /// Cause of what became of the notification, with the consumer's words.
    pub cause: NotificationCause,
    pub words: String,
    pub state: State,
    /// Paths of the fields that are other than at the entry before.
    pub changed: Vec<&'static str>,
}

impl Request {
    /// Returns what is in force for its care unit and visit type.
    pub fn in_force(&self) -> InForce {
        let visit_type = self.form.visit_type.as_ref().expect("given");
        self.settings.in_force(&visit_type.code)
    }

    pub fn patient(&self) -> &v1::Patient {
        self.form.patient.as_ref().expect("every request has one")
    }

    pub fn identity(&self) -> v1::PatientIdentity {
        let patient = self.patient();
        v1::PatientIdentity {
            personal_id: patient.personal_id.clone(),
            personal_id_type: patient.personal_id_type,
            issuer: patient.issuer.clone(),
        }
    }

    pub fn is_protected(&self) -> bool {
        self.patient().protection() != Protection::Unspecified
    }

    pub fn has_died(&self) -> bool {
        self.cancel_reason == CancelReason::PatientDeceased
    }

    /// Returns the first and the last day of the period.
    pub fn period(&self) -> Option<(NaiveDate, NaiveDate)> {
        period(self.form.constraints.as_ref()?)
    }

    pub fn expires_at(&self) -> Option<Instant> {
        self.period().map(|(_, last)| end_of(last))
    }

    pub fn has_expired(&self, now: Instant) -> bool {
        self.expires_at().is_some_and(|at| at <= now)
    }

    /// Returns whether it is requested or invited, even if it has expired.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Requested | State::Invited)
    }

    /// Returns the effective state: the stored state with the passing of time counted in.
    pub fn shown(&self, now: Instant) -> State {
        match self.state {
            State::Requested | State::Invited if self.has_expired(now) => State::Expired,
            State::Invited if self.no_response_at(now).is_some_and(|at| at <= now) => {
                State::NoResponse
            }
            stored => stored,
        }
    }

    /// Returns whether notifications may be sent: it is invited and has not expired.
    pub fn is_live(&self, now: Instant) -> bool {
        self.state == State::Invited && !self.has_expired(now)
    }

    pub fn hold(&self) -> HoldReason {
        let invitation = self.invitation.as_ref();
        invitation.map_or(HoldReason::Unspecified, |it| it.hold)
    }

    pub fn is_held(&self) -> bool {
        self.hold() != HoldReason::Unspecified
    }

    /// Returns whether the patient has been told that they may book, or has said that they will.
    pub fn is_bookable(&self) -> bool {
        let invitation = self.invitation.as_ref();
        invitation.is_some_and(|it| it.bookable_since.is_some())
    }

    pub fn no_response_at(&self, now: Instant) -> Option<Instant> {
        let invitation = self.invitation.as_ref()?;
        if self.state != State::Invited || invitation.is_held() {
            return None;
        }
        let last = invitation.last_hand_over()?;
        let expires_at = self.expires_at()?;
        // A notification that is skipped only because the period is over does not count.
        let steps = invitation.steps().into_iter();
        let waits = steps.filter_map(|step| invitation.pending(step));
        let mut waits = waits.chain(invitation.pending_letters());
        let waiting = waits.any(|it| it.due_at < expires_at);
        let complete = !waiting && self.to_come(now).iter().all(|it| it.skipped);
        complete.then(|| invitation.schedule.no_response_at(last))
    }

    /// Returns whether it waits, but is due after the period, or the period is over.
    pub fn shows_as_skipped(&self, message: &Message, now: Instant) -> bool {
        let Some(expires_at) = self.expires_at() else {
            return false;
        };
        let present = self.invitation.as_ref().map(|it| it.round) == Some(message.round);
        let pending = message.is_waiting() || message.state == MessageState::Leased;
        let ended = message.lease_ends_at().is_some_and(|end| end <= now);
        let unanswered = message.state == MessageState::Dispatching && ended;
        let waits = (pending && present) || unanswered;
        let message_end = message.due_at.max(now);
        self.state == State::Invited
            && waits
            && !message.is_withdrawal()
            && message_end >= expires_at
    }

    pub fn has_parked_withdrawal(&self) -> bool {
        let parked = v1::notification::State::Parked;
        let messages = self.invitation.iter().flat_map(|it| &it.messages);
        let mut withdrawals = messages.filter(|it| it.is_withdrawal());
        self.state == State::Cancelled && withdrawals.any(|it| it.state == parked)
    }

    pub fn guarantee_date(&self) -> Option<NaiveDate> {
        let decided = match &self.form.origin {
            Some(Origin::Referral(it)) => &it.decision_date,
            Some(Origin::PreviousVisit(it)) => &it.decision_date,
            None => return None,
        };
        let is_first = self.series.as_ref().is_none_or(|it| it.position == 1);
        let counts = self.form.visit_kind() == VisitKind::NewVisit && is_first;
        (counts && !decided.is_empty()).then(|| plus(date(decided), self.guarantee_days))
    }

    /// Returns the referral that the request names.
    pub fn referral_id(&self) -> &str {
        match &self.form.origin {
            Some(Origin::Referral(it)) => &it.referral_id,
            Some(Origin::PreviousVisit(it)) => &it.referral_id,
            None => "",
        }
    }

    /// Returns whether the two are of one series.
    pub fn is_fellow_of(&self, other: &Self) -> bool {
        let id = |it: &Self| it.series.as_ref().map(|it| it.id.clone());
        id(self).is_some_and(|it| Some(it) == id(other))
    }

    /// Returns whether the two are duplicates: the same origin and visit type, patient and care unit.
    pub fn is_like(&self, other: &Self) -> bool {
        same_person(self.patient(), other.patient()) && self.is_like_but_for_patient(other)
    }

    /// Returns whether it has the care unit, the origin and the visit type of another.
    pub fn is_like_but_for_patient(&self, other: &Self) -> bool {
        let origin = |it: &Self| match &it.form.origin {
            Some(Origin::Referral(it)) => ('r', it.referral_id.clone()),
            Some(Origin::PreviousVisit(it)) => ('v', it.visit_id.clone()),
            None => ('-', String::new()),
        };
        let visit_type = |it: &Self| it.form.visit_type.clone().map(|it| it.code);
        self.unit == other.unit
            && origin(self) == origin(other)
            && visit_type(self) == visit_type(other)
    }

    pub fn allowed(&self, now: Instant) -> Vec<Action> {
        use Action::{Cancel, Change, ChangeToInvitation, RecordBooking, RecordPatientContact};
        let invitation = self.invitation.as_ref();
        let mut allowed = match self.shown(now) {
            State::Requested => vec![Change, ChangeToInvitation, RecordBooking, Cancel],
            State::Expired if self.state == State::Requested => {
                vec![Change, ChangeToInvitation, RecordBooking, Cancel]
            }
            State::Invited => vec![Change, RecordBooking, RecordPatientContact, Cancel],
            State::NoResponse | State::Expired => {
                vec![
                    ChangeToInvitation,
                    RecordBooking,
                    RecordPatientContact,
                    Cancel,
                ]
            }
            State::Booked => {
                vec![
                    ChangeToInvitation,
                    RecordBooking,
                    Action::RecordBookingCancellation,
                    Cancel,
                ]
            }
            State::Declined => vec![ChangeToInvitation, RecordBooking, Cancel],
            State::Cancelled | State::Unspecified => vec![],
        };
        let invited = self.shown(now) == State::Invited;
        if invited && invitation.is_some_and(Invitation::held_by_contact) {
            allowed.push(ChangeToInvitation);
        }
        if (invited && self.is_held()) || self.has_parked_withdrawal() {
            allowed.push(Action::ReleaseHold);
        }
        let live = self.state == State::Invited;
        if live && !invitation.is_some_and(Invitation::is_told) {
            allowed.push(Action::RevokeInvitation);
        }
        allowed.sort_unstable();
        allowed
    }

    pub fn allows(&self, action: Action, now: Instant) -> bool {
        self.allowed(now).contains(&action)
    }

    pub fn warnings(&self, now: Instant) -> Vec<v1::Warning> {
        let starts = self.period().map(|(first, _)| first);
        let late = starts
            .zip(self.guarantee_date())
            .is_some_and(|(a, b)| a > b);
        let reminder = |it: &Message| it.step.0 != NotificationKind::Invitation;
        let skips = |it: &Message| reminder(it) && self.shows_as_skipped(it, now);
        let invitation = self.invitation.as_ref();
        let skipped =
            self.messages().iter().any(skips) || self.to_come(now).iter().any(|it| it.skipped);
        let unreleased = self.state == State::Requested
            || invitation.is_none_or(|it| it.hold == HoldReason::ProtectedIdentity);
        let warnings = [
            (late && self.is_open(), v1::Warning::CareGuaranteeExceeded),
            (skipped, v1::Warning::RemindersSkipped),
            (
                self.is_protected() && self.is_open() && unreleased,
                v1::Warning::ProtectedIdentity,
            ),
        ];
        let stands = warnings.into_iter().filter(|(stands, _)| *stands);
        stands.map(|(_, warning)| warning).collect()
    }

    /// Returns the worklist that it is in, if any.
    pub fn list(&self, now: Instant) -> Option<Worklist> {
        let over = |day| local_date(now) > day;
        match (self.shown(now), self.hold()) {
            (State::Booked | State::Unspecified, _) => None,
            (State::Cancelled, _) => self
                .has_parked_withdrawal()
                .then_some(Worklist::ManualHandling),
            (State::Declined, _) => Some(Worklist::Declined),
            (State::Expired, _) => Some(Worklist::FollowUp),
            (State::Requested, _) => Some(Worklist::BookingRequests),
            (_, HoldReason::ProtectedIdentity | HoldReason::Undeliverable | HoldReason::Parked) => {
                Some(Worklist::ManualHandling)
            }
            (_, HoldReason::NoSuitableTime) => Some(Worklist::SlotIssues),
            (State::NoResponse, _) | (_, HoldReason::CallBack | HoldReason::Contacted) => {
                Some(Worklist::FollowUp)
            }
            (_, HoldReason::WillBook) if self.wait_until().is_some_and(over) => {
                Some(Worklist::FollowUp)
            }
            (State::Invited, HoldReason::WillBook | HoldReason::Unspecified) => {
                Some(Worklist::CareInvitations)
            }
        }
    }

    pub fn is_at_risk(&self, now: Instant) -> bool {
        let soon = plus(local_date(now), AT_RISK_DAYS);
        self.is_open() && self.guarantee_date().is_some_and(|day| day <= soon)
    }

    pub fn wait_until(&self) -> Option<NaiveDate> {
        self.invitation.as_ref()?.wait_until
    }

    /// Returns whom a notification that is leased now is addressed to.
    pub fn addressee(&self, now: Instant) -> Addressee {
        let patient = self.patient();
        let is_child = is_younger(patient, self.in_force().guardian_until_age, now);
        match patient.addressee() {
            Addressee::Unspecified if is_child => Addressee::Guardians,
            Addressee::Unspecified => Addressee::Patient,
            given => given,
        }
    }

    /// Returns the channel under which a notification would be leased now.
    pub fn channel_for(&self, message: &Message, now: Instant) -> (DeliveryChannel, ChannelReason) {
        let invitation = self.invitation.as_ref();
        let fixed = invitation.and_then(|it| it.fixed);
        let number = self.patient().personal_id_type();
        match fixed {
            _ if message.pinned => (message.channel, message.channel_reason),
            Some(channel) => (channel, ChannelReason::Staff),
            None if is_younger(self.patient(), self.in_force().letter_until_age, now) => {
                (DeliveryChannel::Letter, ChannelReason::Minor)
            }
            None if self.patient().addressee() == Addressee::Proxy => {
                (DeliveryChannel::Letter, ChannelReason::Proxy)
            }
            None if self.patient().inbox_reach() == InboxReach::None => {
                (DeliveryChannel::Letter, ChannelReason::NoDigitalAccount)
            }
            None if number != PersonalIdType::Personnummer => {
                (DeliveryChannel::Letter, ChannelReason::IdentityNumber)
            }
            None if invitation.is_some_and(|it| it.inbox_failed) => {
                (DeliveryChannel::Letter, ChannelReason::DigitalFailed)
            }
            None => (DeliveryChannel::Inbox, ChannelReason::Default),
        }
    }

    /// Sets the channel of each waiting notification to that under which it would be leased now, if the request has
    /// changed. Age is read again at the lease.
    pub fn choose_channels(&mut self, now: Instant) {
        if !std::mem::take(&mut self.touched) {
            return;
        }
        for nth in 0..self.messages().len() {
            if self.message(nth).is_waiting() {
                let (channel, reason) = self.channel_for(self.message(nth), now);
                let message = self.message_mut(nth);
                message.channel = channel;
                message.channel_reason = reason;
            }
        }
    }

    /// Returns the notifications of the present round that are not planned yet.
    pub fn to_come(&self, now: Instant) -> Vec<ToCome> {
        let (Some(invitation), Some(expires_at)) = (&self.invitation, self.expires_at()) else {
            return vec![];
        };
        if self.state != State::Invited {
            return vec![];
        }
        let mut to_come = vec![];
        let mut before: Option<Instant> = None;
        for step in invitation.steps() {
            if let Some(pending) = invitation.pending(step) {
                before = Some(pending.due_at.max(now));
            } else if let Some(handed_over_at) = invitation.hand_over(step) {
                before = Some(handed_over_at);
            } else if let Some(handed_over_at) = before {
                let due_at = invitation.schedule.reminder_due_at(handed_over_at);
                let skipped = due_at.max(now) >= expires_at;
                to_come.push(ToCome {
                    step,
                    due_at,
                    skipped,
                });
                before = Some(due_at);
            }
        }
        to_come
    }
}

/// A notification that is not planned yet.
#[derive(Clone, Copy, Debug)]
pub struct ToCome {
    pub step: Step,
    pub due_at: Instant,
    pub skipped: bool,
}

/// Returns whether the patient has not reached that age on the local date.
fn is_younger(patient: &v1::Patient, age: i32, now: Instant) -> bool {
    born(patient).is_some_and(|birth| {
        // Somebody born on 29 February counts as born on 1 March.
        let leap_day = (birth.month(), birth.day()) == (2, 29);
        let birth = if leap_day { plus(birth, 1) } else { birth };
        let birthday = birth.with_year(birth.year() + age);
        local_date(now) < birthday.expect("not on 29 February")
    })
}

/// Returns the date of birth that the identity number holds, if it holds a full one.
fn born(patient: &v1::Patient) -> Option<NaiveDate> {
    let part = |from: usize, to: usize| patient.personal_id[from..to].parse::<u32>().ok();
    let day_added = match patient.personal_id_type() {
        PersonalIdType::Personnummer => 0,
        PersonalIdType::Samordningsnummer => 60,
        PersonalIdType::LocalReserveNumber
        | PersonalIdType::NationalReserveNumber
        | PersonalIdType::Unspecified => return None,
    };
    let year = part(0, 4)?.cast_signed();
    NaiveDate::from_ymd_opt(year, part(4, 6)?, part(6, 8)? - day_added)
}

pub fn same_person(one: &v1::Patient, other: &v1::Patient) -> bool {
    let identity = |it: &v1::Patient| {
        let v1::Patient {
            personal_id,
            personal_id_type,
            issuer,
            ..
        } = it.clone();
        (personal_id_type, issuer, personal_id)
    };
    identity(one) == identity(other)
}

/// Returns the first and the last day of the requested period.
pub fn period(constraints: &v1::BookingConstraints) -> Option<(NaiveDate, NaiveDate)> {
    let period = constraints.requested_period.as_ref()?;
    Some((date(&period.start_date), date(&period.end_date)))
}

impl Request {
    /// Returns whether it has changed since it was last compared.
    pub fn is_unseen(&self) -> bool {
        self.seen_version != self.version
    }

    /// Learns the values that only the service makes: the names of new notifications and the etag, which
    /// must be new if the model has changed the request and the same if it has not.
    pub fn learn(&mut self, actual: &v1::BookingRequest) -> Result<(), String> {
        let shown = actual
            .care_invitation
            .iter()
            .flat_map(|it| &it.notifications);
        let messages = self.invitation.iter_mut().flat_map(|it| &mut it.messages);
        for (message, shown) in messages.zip(shown) {
            if message.name.is_none() && !shown.name.is_empty() {
                message.name = Some(shown.name.clone());
            }
        }
        let known = self.etags.contains(&actual.etag);
        if !self.is_unseen() {
            let present = self.etags.last();
            return holds(present == Some(&actual.etag), || {
                "the etag has changed".into()
            });
        }
        self.seen_version = self.version;
        self.etags.push(actual.etag.clone());
        holds(!known, || "the etag has not changed".into())
    }
}
