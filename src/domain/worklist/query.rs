//! Queries of worklists: which requests, in which order, and where a page begins.

use super::Worklist;
use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::form::Form;
use crate::domain::booking_request::form::Priority;
use crate::domain::booking_request::form::VisitKind;
use crate::domain::booking_request::state::EffectiveState;
use crate::domain::calendar::{Instant, Period, civil_date, end_of};
use crate::domain::care_invitation::{Hold, HoldReason};
use crate::domain::care_units::CareUnits;
use crate::domain::patient::{LetterFormat, PersonalId};
use crate::domain::request_key::RequestKey;
use crate::domain::stored_enum;

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

/// Query for the requests of some lists, in an order. An empty filter matches all.
#[derive(Clone, PartialEq, Eq)]
pub struct Query {
    /// Lists, of which a request must be on one; sorted, each once, and at least one.
    pub worklists: Vec<Worklist>,
    /// Care units.
    pub care_units: CareUnits,
    /// Kind of visit: new or return visits only.
    pub visit_kind: Option<VisitKind>,
    /// Codes of visit types.
    pub visit_type_codes: Vec<String>,
    /// One patient.
    pub personal_id: Option<PersonalId>,
    /// One referral.
    pub referral_id: Option<String>,
    /// One earlier visit, of which the request comes.
    pub visit_id: Option<String>,
    /// One booking, which is recorded now.
    pub booking_id: Option<String>,
    /// Period with which the requested period must share a day.
    pub period: Option<Period>,
    /// Lowest priority to include.
    pub minimum_priority: Priority,
    /// Reasons for which the request is held.
    pub hold_reasons: Vec<HoldReason>,
    /// Effective states.
    pub states: Vec<EffectiveState>,
    /// Tag of a language for which the visit needs an interpreter.
    pub interpreter_language: Option<String>,
    /// Forms in which the patient can read a letter.
    pub letter_formats: Vec<LetterFormat>,
    /// True if no identity number finds a patient with protected identity.
    pub hides_protected: bool,
    /// Order of the list; ties are broken by care unit and id.
    pub order_by: OrderBy,
}

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Query")
    }
}

impl Query {
    /// Returns the query for all requests of these lists and care units, by start date.
    pub fn of(worklists: Vec<Worklist>, care_units: CareUnits) -> Self {
        Self {
            worklists,
            care_units,
            visit_kind: None,
            visit_type_codes: Vec::new(),
            personal_id: None,
            referral_id: None,
            visit_id: None,
            booking_id: None,
            period: None,
            minimum_priority: Priority::Routine,
            hold_reasons: Vec::new(),
            states: Vec::new(),
            interpreter_language: None,
            letter_formats: Vec::new(),
            hides_protected: false,
            order_by: OrderBy::StartDate,
        }
    }

    /// Returns whether it names a patient, a referral, a visit or a booking, so that few requests are meant.
    pub fn names_its_subject(&self) -> bool {
        self.personal_id.is_some()
            || self.referral_id.is_some()
            || self.visit_id.is_some()
            || self.booking_id.is_some()
    }

    /// Returns the lists of the query that a request is on at `now`; none when it is not among what is asked
    /// for. The same as the store's query by columns, for one loaded record.
    pub fn lists_of(&self, record: &BookingRequest, now: Instant) -> Vec<Worklist> {
        if !self.lets_through(record, now) {
            return Vec::new();
        }
        let worklists = self.worklists.iter().copied();
        worklists.filter(|list| record.is_on(*list, now)).collect()
    }

    fn lets_through(&self, record: &BookingRequest, now: Instant) -> bool {
        let form = &record.form;
        let period = form.constraints.as_ref().map(|it| it.period);
        let hold = record.hold().map(Hold::reason);
        self.care_units.contains(&record.key.care_unit)
            && self.is_of_its_subject(form)
            && self.visit_kind.is_none_or(|kind| kind == form.visit_kind)
            && has(&self.visit_type_codes, Some(&form.visit_type.code))
            && self
                .period
                .is_none_or(|wanted| period.is_some_and(|it| it.overlaps(wanted)))
            && self.minimum_priority <= form.priority
            && has(&self.hold_reasons, hold.as_ref())
            && has(&self.states, Some(&record.effective_state(now)))
            && (self.interpreter_language.is_none()
                || self.interpreter_language == form.patient.interpreter_language)
            && has(&self.letter_formats, Some(&form.patient.letter_format))
    }

    fn is_of_its_subject(&self, form: &Form) -> bool {
        let patient = &form.patient.personal_id;
        let booking = form.booking.as_ref();
        let same =
            |wanted: &Option<String>, id: Option<&str>| wanted.is_none() || wanted.as_deref() == id;
        let finds = |wanted: &PersonalId| {
            wanted == patient && !(self.hides_protected && form.patient.is_protected())
        };
        self.personal_id.as_ref().is_none_or(finds)
            && same(&self.referral_id, form.origin.referral_id())
            && same(&self.visit_id, form.origin.visit_id())
            && same(&self.booking_id, booking.map(|it| it.booking_id.as_str()))
    }

    /// Returns the start of the day after `now`, if a new day alone may change the lists.
    pub fn next_day_at(&self, now: Instant) -> Option<Instant> {
        let at_risk = self.worklists.contains(&Worklist::GuaranteeAtRisk);
        at_risk.then(|| end_of(civil_date(now)))
    }
}

/// Returns whether a filter, which lets everything through when it is empty, has a value.
fn has<T: PartialEq>(wanted: &[T], value: Option<&T>) -> bool {
    wanted.is_empty() || value.is_some_and(|value| wanted.contains(value))
}

/// Position in the order of a list, as held by a page token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Values that the order compares, first and second; the second is zero where it compares one.
    pub sort_key: [i64; 2],
    /// Request, which breaks ties.
    pub key: RequestKey,
}
