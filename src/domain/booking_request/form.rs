//! The form: the fields that were registered, and what makes two of them duplicates.

use std::fmt;

use chrono::NaiveDate;

use crate::domain::calendar::{Instant, Period, TimeWindow, Weekdays};
use crate::domain::hsa_id::HsaId;
use crate::domain::patient::{Patient, PersonalId};
use crate::domain::{Violation, stored_enum};

stored_enum! {
    /// New or return visit.
    pub enum VisitKind {
        /// Nybesök.
        NewVisit = 1,
        /// Återbesök.
        ReturnVisit = 2,
    }
}

stored_enum! {
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

stored_enum! {
    /// Source of a booking.
    pub enum BookingSource {
        /// The patient, in 1177.
        Patient = 1,
        /// Staff.
        Staff = 2,
    }
}

/// Origin of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A referral (remiss).
    Referral {
        /// Identifier in the system that holds it.
        referral_id: String,
        /// Day of the decision on it; starts the care guarantee.
        decision_date: Option<NaiveDate>,
    },
    /// An earlier visit.
    PreviousVisit {
        /// Identifier in the system that holds it.
        visit_id: String,
        /// Referral that it was made under.
        referral_id: Option<String>,
        /// Day of the decision on the new visit; starts the care guarantee.
        decision_date: Option<NaiveDate>,
    },
}

impl Origin {
    /// Returns the referral that the request rests on, if it names one.
    pub fn referral_id(&self) -> Option<&str> {
        match self {
            Self::Referral { referral_id, .. } => Some(referral_id),
            Self::PreviousVisit { referral_id, .. } => referral_id.as_deref(),
        }
    }

    /// Returns the day of the decision, if it is known.
    pub fn decision_date(&self) -> Option<NaiveDate> {
        match self {
            Self::Referral { decision_date, .. } | Self::PreviousVisit { decision_date, .. } => {
                *decision_date
            }
        }
    }

    /// Returns the earlier visit that the request comes of, if it does.
    pub fn visit_id(&self) -> Option<&str> {
        match self {
            Self::Referral { .. } => None,
            Self::PreviousVisit { visit_id, .. } => Some(visit_id),
        }
    }
}

/// A bookable visit type of the unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisitType {
    /// Code in the unit.
    pub code: String,
    /// Name for people; may be empty.
    pub display_name: String,
}

/// Texts that the patient may read; each may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatientInstructions {
    /// Length of the visit, in words.
    pub visit_length: String,
    /// Supplementary information.
    pub supplementary: String,
    /// Samples to be taken before the visit.
    pub sampling_before_visit: String,
    /// Information on the sampling.
    pub sampling_information: String,
}

/// Constraints on the time and performer of the visit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraints {
    /// Dates between which the visit takes place.
    pub period: Period,
    /// Acceptable weekdays.
    pub weekdays: Weekdays,
    /// Acceptable times of day; empty means all day.
    pub time_windows: Vec<TimeWindow>,
    /// Length of the visit in minutes; zero means the slot's own.
    pub duration_minutes: u32,
    /// Acceptable performers by HSA-id; empty means anyone.
    pub performer_ids: Vec<String>,
}

impl Constraints {
    /// Returns the violations that today's date makes of these constraints, with field paths below `path`.
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
    /// Identifier of the visit in the booking system.
    pub booking_id: String,
    /// Start, included.
    pub start_at: Instant,
    /// End, not included.
    pub end_at: Instant,
    /// Source of the booking.
    pub source: BookingSource,
    /// HSA-id of the performer.
    pub performer_id: Option<String>,
    /// Reason why staff booked outside the constraints; may be empty.
    pub override_reason: String,
}

/// The form that was registered.
#[derive(Clone, PartialEq, Eq)]
pub struct Form {
    /// Patient whom the visit is for.
    pub patient: Patient,
    /// Origin of the request.
    pub origin: Origin,
    /// New or return visit.
    pub visit_kind: VisitKind,
    /// Bookable visit type of the unit.
    pub visit_type: VisitType,
    /// Reason why the unit wants to see the patient.
    pub purpose: String,
    /// Texts for the patient.
    pub patient_instructions: PatientInstructions,
    /// Note among staff.
    pub internal_comment: String,
    /// "Kallelse".
    pub summons: bool,
    /// "Vårdinbjudan".
    pub invitation: bool,
    /// Constraints on the visit; only a booked visit may lack them.
    pub constraints: Option<Constraints>,
    /// Booked visit.
    pub booking: Option<Booking>,
    /// Medical priority.
    pub priority: Priority,
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Form")
    }
}

/// Key that two open requests in a care unit share if they are duplicates of each other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DuplicateKey {
    /// Care unit of the request.
    pub care_unit: HsaId,
    /// Kind, number and issuer of the patient's identity, kind and identifier of the origin, and the
    /// code of the visit type.
    pub parts: [String; 6],
}

impl fmt::Debug for DuplicateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DuplicateKey")
    }
}

impl DuplicateKey {
    /// Returns the key of a request in `care_unit` with this form.
    pub fn of(care_unit: &HsaId, form: &Form) -> Self {
        Self::of_patient(care_unit, form, &form.patient.personal_id)
    }

    /// Returns the key that the request has if its patient has this identity number.
    pub fn of_patient(care_unit: &HsaId, form: &Form, patient: &PersonalId) -> Self {
        let (origin, identifier) = match &form.origin {
            Origin::Referral { referral_id, .. } => ("referral", referral_id),
            Origin::PreviousVisit { visit_id, .. } => ("visit", visit_id),
        };
        Self {
            care_unit: care_unit.clone(),
            parts: [
                patient.kind().code().to_string(),
                patient.number().to_owned(),
                patient.issuer().unwrap_or_default().to_owned(),
                origin.to_owned(),
                identifier.clone(),
                form.visit_type.code.clone(),
            ],
        }
    }

    /// Returns the key of the same request with another visit type.
    pub fn with_visit_type(mut self, code: &str) -> Self {
        let [.., visit_type] = &mut self.parts;
        code.clone_into(visit_type);
        self
    }

    /// Returns the key that all requests of patients with protected identity share that are alike but for the patient.
    /// It is no request's own.
    pub fn of_any_protected(mut self) -> Self {
        let [kind, number, issuer, ..] = &mut self.parts;
        for part in [kind, number, issuer] {
            part.clear();
        }
        self
    }
}
