//! The booking request: what was registered, where it stands, and what may be done with it.
//!
//! States move only by the verbs in the folder beside, one a file. What time alone changes is
//! worked out when read, in [`BookingRequest::shown_state`].

pub mod cancel;
pub mod change;
pub mod change_to_invitation;
pub mod create;
pub mod record_booking;
pub mod record_patient_contact;
pub mod release_hold;
pub mod update_patient;

use std::fmt;

use chrono::NaiveDate;
use uuid::Uuid;

use super::calendar::{Instant, Period, TimeWindow, Weekdays, end_of};
use super::care_invitation::{CareInvitation, Hold, ShownNotification};
use super::coded;
use super::history::{Event, HistoryEntry};
use super::hsa_id::HsaId;
use super::patient::Patient;
use super::{Change, Context, Refusal, Violation};

/// Which request: the care unit that it belongs to, and its id there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey {
    /// The care unit.
    pub care_unit: HsaId,
    /// The id, made by the service.
    pub id: Uuid,
}

coded! {
    /// The stored state of a request.
    pub enum State {
        /// Waits for staff to book or invite.
        Requested = 1,
        /// The patient is invited.
        Invited = 2,
        /// The visit is booked.
        Booked = 3,
        /// The patient has declined the visit.
        Declined = 4,
        /// Closed without a visit.
        Cancelled = 5,
    }
}

/// The state with what follows from the passing of time counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShownState {
    /// Waits for staff to book or invite.
    Requested,
    /// The patient is invited.
    Invited,
    /// The visit is booked.
    Booked,
    /// The patient has declined the visit.
    Declined,
    /// Invited; the last message is 14 days old and the patient has not answered.
    NoResponse,
    /// Requested or invited, and the period has passed.
    Expired,
    /// Closed without a visit.
    Cancelled,
}

impl ShownState {
    /// The name in the contract, without its prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requested => "REQUESTED",
            Self::Invited => "INVITED",
            Self::Booked => "BOOKED",
            Self::Declined => "DECLINED",
            Self::NoResponse => "NO_RESPONSE",
            Self::Expired => "EXPIRED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

coded! {
    /// What a caller may do with a request.
    pub enum Action {
        /// ChangeBookingRequest.
        Change = 1,
        /// ChangeToInvitation.
        ChangeToInvitation = 2,
        /// RecordBooking.
        RecordBooking = 3,
        /// RecordPatientContact.
        RecordPatientContact = 4,
        /// CancelBookingRequest.
        Cancel = 5,
        /// ReleaseHold.
        ReleaseHold = 6,
    }
}

impl Action {
    /// The name in the contract, without its prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Change => "CHANGE",
            Self::ChangeToInvitation => "CHANGE_TO_INVITATION",
            Self::RecordBooking => "RECORD_BOOKING",
            Self::RecordPatientContact => "RECORD_PATIENT_CONTACT",
            Self::Cancel => "CANCEL",
            Self::ReleaseHold => "RELEASE_HOLD",
        }
    }
}

coded! {
    /// Something that staff should see, and that stops nothing.
    pub enum Warning {
        /// The period starts after the last day of the care guarantee.
        CareGuaranteeExceeded = 1,
        /// At least one reminder would fall after the period.
        RemindersSkipped = 2,
        /// Nothing is sent until staff release it.
        ProtectedIdentity = 3,
    }
}

coded! {
    /// New or return visit.
    pub enum VisitKind {
        /// Nybesök.
        NewVisit = 1,
        /// Återbesök.
        ReturnVisit = 2,
    }
}

coded! {
    /// Medical priority, the lowest first.
    pub enum Priority {
        /// Routine.
        Routine = 1,
        /// Before routine.
        Urgent = 2,
        /// Before everything else.
        Emergency = 3,
    }
}

coded! {
    /// Why a request was changed (ändringsorsak).
    pub enum ChangeReason {
        /// "Ändra begäran – vårdinbjudan"; written by ChangeToInvitation alone.
        ToCareInvitation = 1,
        /// The patient asked for it.
        PatientRequest = 2,
        /// The unit needs it.
        UnitRequest = 3,
        /// For medical reasons.
        Medical = 4,
        /// Something else.
        Other = 5,
    }
}

coded! {
    /// Why a request was closed without a visit.
    pub enum CancelReason {
        /// The referral was withdrawn or returned.
        ReferralWithdrawn = 1,
        /// The patient no longer wants or needs the visit.
        PatientRequest = 2,
        /// The unit no longer offers the visit.
        UnitRequest = 3,
        /// The patient has died.
        PatientDeceased = 4,
        /// Registered by mistake.
        EnteredInError = 5,
        /// Something else.
        Other = 6,
    }
}

coded! {
    /// Who made a booking.
    pub enum BookingSource {
        /// The patient, in 1177.
        Patient = 1,
        /// Staff.
        Staff = 2,
    }
}

/// Where a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A referral (remiss).
    Referral {
        /// Its identifier in the system that holds it.
        referral_id: String,
        /// Day of the decision on it; starts the care guarantee.
        decision_date: Option<NaiveDate>,
    },
    /// An earlier visit.
    PreviousVisit {
        /// Its identifier in the system that holds it.
        visit_id: String,
        /// The referral that it was made under.
        referral_id: Option<String>,
    },
}

impl Origin {
    /// The referral that the request rests on, if it names one.
    pub fn referral_id(&self) -> Option<&str> {
        match self {
            Self::Referral { referral_id, .. } => Some(referral_id),
            Self::PreviousVisit { referral_id, .. } => referral_id.as_deref(),
        }
    }
}

/// A bookable visit type of the unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisitType {
    /// The unit's code.
    pub code: String,
    /// What people call it; may be empty.
    pub display_name: String,
}

/// Texts that the patient may read; each may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatientInstructions {
    /// How long the visit takes.
    pub visit_length: String,
    /// Supplementary information.
    pub supplementary: String,
    /// Samples to be taken before the visit.
    pub sampling_before_visit: String,
    /// Information on the sampling.
    pub sampling_information: String,
}

/// When the visit may take place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraints {
    /// Dates between which the visit takes place.
    pub period: Period,
    /// Acceptable weekdays.
    pub weekdays: Weekdays,
    /// Acceptable times of day; none means all day.
    pub time_windows: Vec<TimeWindow>,
    /// Length of the visit in minutes; zero means the slot's own.
    pub duration_minutes: u32,
    /// Acceptable performers by HSA-id; none means anyone.
    pub performer_ids: Vec<String>,
}

impl Constraints {
    /// Says what of these constraints today's date forbids, with field paths below `path`.
    ///
    /// The start is today or later, or `kept_start`, which the request had before; and some
    /// acceptable weekday occurs from today on.
    pub fn violations(
        &self,
        path: &str,
        today: NaiveDate,
        kept_start: Option<NaiveDate>,
    ) -> Vec<Violation> {
        let mut violations = Vec::new();
        if self.period.first < today && kept_start != Some(self.period.first) {
            violations.push(Violation::new(
                format!("{path}.requested_period.start_date"),
                "must be today or later",
            ));
        }
        if self.period.last < today {
            violations.push(Violation::new(
                format!("{path}.requested_period.end_date"),
                "must be today or later",
            ));
        } else if !self.weekdays.occur_in(self.period, today) {
            violations.push(Violation::new(
                format!("{path}.weekdays"),
                "none of them occurs in the requested period from today on",
            ));
        }
        violations
    }
}

/// A booked visit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booking {
    /// The visit's identifier in the booking system.
    pub booking_id: String,
    /// Start, included.
    pub start_at: Instant,
    /// End, not included.
    pub end_at: Instant,
    /// Who booked.
    pub source: BookingSource,
    /// HSA-id of the performer.
    pub performer_id: Option<String>,
    /// Why staff booked outside the constraints; may be empty.
    pub override_reason: String,
}

/// What was registered: the fields of the form.
#[derive(Clone, PartialEq, Eq)]
pub struct Form {
    /// Who the visit is for.
    pub patient: Patient,
    /// Where the request comes from.
    pub origin: Origin,
    /// New or return visit.
    pub visit_kind: VisitKind,
    /// The unit's bookable visit type.
    pub visit_type: VisitType,
    /// Why the unit wants to see the patient.
    pub purpose: String,
    /// Texts for the patient.
    pub patient_instructions: PatientInstructions,
    /// Note among staff.
    pub internal_comment: String,
    /// "Kallelse".
    pub summons: bool,
    /// "Vårdinbjudan".
    pub invitation: bool,
    /// When the visit may take place; only a booked visit may lack it.
    pub constraints: Option<Constraints>,
    /// The booked visit.
    pub booking: Option<Booking>,
    /// Medical priority.
    pub priority: Priority,
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Form")
    }
}

/// What makes two open requests in a care unit duplicates of each other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DuplicateKey {
    /// The care unit.
    pub care_unit: HsaId,
    /// Kind and number of the patient's identity, kind and identifier of the origin, and the
    /// code of the visit type.
    pub parts: [String; 5],
}

impl fmt::Debug for DuplicateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DuplicateKey")
    }
}

/// A booking request with all that belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct BookingRequest {
    /// Which it is.
    pub key: RequestKey,
    /// What was registered.
    pub form: Form,
    /// The stored state.
    pub state: State,
    /// Present once the patient has been invited, and kept from then on.
    pub care_invitation: Option<CareInvitation>,
    /// Why it was closed.
    pub cancel_reason: Option<CancelReason>,
    /// Last day of the care guarantee.
    pub care_guarantee_date: Option<NaiveDate>,
    /// Created in the knowledge that there was another like it.
    pub allow_duplicate: bool,
    /// One more at every change that a caller could want to know of.
    pub revision: i64,
    /// How many history entries have been written.
    pub history_count: i32,
    /// When it was created.
    pub created_at: Instant,
    /// When it last changed.
    pub updated_at: Instant,
}

impl BookingRequest {
    /// Midnight after the last day of the period; none when there is no period.
    pub fn expires_at(&self) -> Option<Instant> {
        let constraints = self.form.constraints.as_ref()?;
        Some(end_of(constraints.period.last))
    }

    /// Whether the period has passed at `now`.
    pub fn period_has_passed(&self, now: Instant) -> bool {
        self.expires_at()
            .is_some_and(|expires_at| expires_at <= now)
    }

    /// The state as it is to be shown at `now`.
    pub fn shown_state(&self, now: Instant) -> ShownState {
        match self.state {
            State::Requested | State::Invited if self.period_has_passed(now) => ShownState::Expired,
            State::Requested => ShownState::Requested,
            State::Invited if self.is_unanswered(now) => ShownState::NoResponse,
            State::Invited => ShownState::Invited,
            State::Booked => ShownState::Booked,
            State::Declined => ShownState::Declined,
            State::Cancelled => ShownState::Cancelled,
        }
    }

    fn is_unanswered(&self, now: Instant) -> bool {
        self.care_invitation
            .as_ref()
            .and_then(|invitation| invitation.no_response_at)
            .is_some_and(|no_response_at| no_response_at <= now)
    }

    /// Whether it is open: not booked, declined or cancelled, whatever time shows.
    pub fn is_open(&self) -> bool {
        match self.state {
            State::Requested | State::Invited => true,
            State::Booked | State::Declined | State::Cancelled => false,
        }
    }

    /// The hold that stands, if any.
    pub fn hold(&self) -> Option<Hold> {
        self.care_invitation.as_ref()?.hold
    }

    /// What may be done with it at `now`.
    pub fn allowed_actions(&self, now: Instant) -> Vec<Action> {
        use Action::{
            Cancel, Change, ChangeToInvitation, RecordBooking, RecordPatientContact, ReleaseHold,
        };
        match self.shown_state(now) {
            ShownState::Requested => vec![Change, ChangeToInvitation, RecordBooking, Cancel],
            ShownState::Expired if self.care_invitation.is_none() => {
                vec![Change, ChangeToInvitation, RecordBooking, Cancel]
            }
            ShownState::Invited => {
                let mut actions = vec![Change, RecordBooking, RecordPatientContact, Cancel];
                if let Some(hold) = self.hold() {
                    actions.push(ReleaseHold);
                    if hold.is_the_patients() {
                        actions.insert(1, ChangeToInvitation);
                    }
                }
                actions
            }
            ShownState::NoResponse | ShownState::Expired => {
                vec![
                    ChangeToInvitation,
                    RecordBooking,
                    RecordPatientContact,
                    Cancel,
                ]
            }
            ShownState::Booked | ShownState::Declined => {
                vec![ChangeToInvitation, RecordBooking, Cancel]
            }
            ShownState::Cancelled if self.has_parked_withdrawal() => vec![ReleaseHold],
            ShownState::Cancelled => vec![],
        }
    }

    /// What staff should see, with the messages as they are `shown`.
    pub fn warnings(&self, shown: &[ShownNotification]) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let start = self.form.constraints.as_ref().map(|it| it.period.first);
        if self.is_open()
            && start
                .zip(self.care_guarantee_date)
                .is_some_and(|(s, g)| s > g)
        {
            warnings.push(Warning::CareGuaranteeExceeded);
        }
        if self.skips_a_reminder(shown) {
            warnings.push(Warning::RemindersSkipped);
        }
        let unreleased = match &self.care_invitation {
            None => true,
            Some(invitation) => invitation.hold == Some(Hold::ProtectedIdentity),
        };
        if self.is_open() && self.form.patient.protection.is_some() && unreleased {
            warnings.push(Warning::ProtectedIdentity);
        }
        warnings
    }

    /// Names the present revision to callers.
    pub fn etag(&self) -> String {
        format!("r{}", self.revision)
    }

    /// What makes another open request a duplicate of this one.
    pub fn duplicate_key(&self) -> DuplicateKey {
        DuplicateKey::of(&self.key.care_unit, &self.form)
    }

    fn check_etag(&self, etag: &str) -> Result<(), Refusal> {
        if etag.is_empty() || etag == self.etag() {
            Ok(())
        } else {
            Err(Refusal::EtagMismatch)
        }
    }

    fn check_allowed(&self, action: Action, now: Instant) -> Result<(), Refusal> {
        let allowed = self.allowed_actions(now);
        if allowed.contains(&action) {
            Ok(())
        } else {
            Err(self.conflict(now))
        }
    }

    /// The refusal of a verb that the state at `now` does not allow.
    fn conflict(&self, now: Instant) -> Refusal {
        Refusal::StateConflict {
            state: self.shown_state(now),
            allowed: self.allowed_actions(now),
        }
    }

    /// An entry for the history, with the state that the record is shown in now.
    pub(super) fn entry(&self, event: Event, context: &Context) -> HistoryEntry {
        HistoryEntry {
            at: context.now,
            actor: context.actor.clone(),
            event,
            state: self.shown_state(context.now),
            change_reason: None,
            cancel_reason: None,
            comment: String::new(),
            notification: None,
            constraints: None,
            booking: None,
            contact: None,
        }
    }

    /// Ends a verb that changed something: counts the revision, brings what is derived up to
    /// date, and fills the shown state into the history.
    pub(super) fn conclude(mut self, mut history: Vec<HistoryEntry>, context: &Context) -> Change {
        self.revision += 1;
        self.updated_at = context.now;
        self.refresh(&context.rules);
        let state = self.shown_state(context.now);
        for entry in &mut history {
            entry.state = state;
        }
        self.history_count += i32::try_from(history.len()).expect("a verb writes a few entries");
        Change {
            record: self,
            history,
        }
    }
}

impl DuplicateKey {
    /// The key of a request in `care_unit` with this form.
    pub fn of(care_unit: &HsaId, form: &Form) -> Self {
        let patient = &form.patient.personal_id;
        let (origin, identifier) = match &form.origin {
            Origin::Referral { referral_id, .. } => ("referral", referral_id),
            Origin::PreviousVisit { visit_id, .. } => ("visit", visit_id),
        };
        Self {
            care_unit: care_unit.clone(),
            parts: [
                patient.kind().code().to_string(),
                patient.number().to_owned(),
                origin.to_owned(),
                identifier.clone(),
                form.visit_type.code.clone(),
            ],
        }
    }
}
