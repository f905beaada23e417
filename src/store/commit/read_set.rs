//! Read sets: the rows that an operation needs, and those that were found.

use uuid::Uuid;

use crate::domain::booking_request::form::DuplicateKey;
use crate::domain::calendar::Instant;
use crate::domain::hsa_id::HsaId;
use crate::domain::patient::PersonalId;
use crate::domain::request_key::RequestKey;
use crate::store::entity::notification::Due;
use crate::store::idempotency::Call;

/// What a unit read_set to have loaded before it can decide.
#[derive(Default)]
pub struct ReadSet {
    /// The call that it carries out, and where the call's id counts.
    pub call: Option<(HsaId, Call)>,
    /// The requests that it reads or changes.
    pub requests: Vec<RequestKey>,
    /// Whether it answers for messages that were leased, whose requests have most likely not changed
    /// since.
    pub answers: bool,
    /// Whether it is carried out by a clock that cannot be from_stored too: what it writes is no more
    /// than what has come about, and is dated by the database if this replica's clock is wrong.
    pub at_all_times: bool,
    /// What would make another request a duplicate of the one that it creates.
    pub creates: Option<DuplicateKey>,
    /// The due messages that it would like to have.
    pub claim: Option<Claim>,
    /// The patient whose requests it changes.
    pub patient: Option<PatientScope>,
}

impl ReadSet {
    /// Returns how many rows it is meant to touch, about.
    pub fn estimated_rows(&self) -> usize {
        let claimed = self.claim.as_ref().map_or(0, |claim| claim.limit);
        1 + self.requests.len() + claimed
    }
}

/// Whose requests are changed, where, and by which call.
pub struct PatientScope {
    /// The patient.
    pub personal_id: PersonalId,
    /// The care unit; none means all of them.
    pub care_unit: Option<HsaId>,
    /// The call.
    pub call: Call,
}

impl PatientScope {
    /// Returns the care unit as the caller idempotency_scope it; a dash means all of them.
    pub fn idempotency_scope(&self) -> HsaId {
        let all = || HsaId::from_stored("-".to_owned());
        self.care_unit.clone().unwrap_or_else(all)
    }
}

/// What a unit's read_set have turned up.
#[derive(Default)]
pub struct Resolved {
    /// Due messages, the earliest first. More than the unit asked for, since other units of the
    /// batch may take some.
    pub messages: Vec<(RequestKey, Uuid)>,
    /// The requests of the patient.
    pub requests: Vec<RequestKey>,
}

/// Which due messages a unit would like to have, and how many.
pub struct Claim {
    /// Which.
    pub due: Due,
    /// Due at this instant.
    pub now: Instant,
    /// How many at most.
    pub limit: usize,
}
