//! Read sets: the rows that an operation needs, and the rows that were found for it.

use std::collections::BTreeSet;

use crate::domain::booking_request::form::DuplicateKey;
use crate::domain::calendar::Instant;
use crate::domain::care_units::CareUnits;
use crate::domain::hsa_id::HsaId;
use crate::domain::patient::PersonalId;
use crate::domain::request_key::RequestKey;
use crate::store::idempotency::IdempotentCall;
use crate::store::placement::Shards;
use crate::store::query::due::{Due, DueNotification};

/// The rows that an operation needs before it can decide.
#[derive(Default)]
pub struct ReadSet {
    /// The idempotent calls that it executes, each with the care unit in which its key is unique.
    pub calls: Vec<(HsaId, IdempotentCall)>,
    /// The requests that it reads or changes.
    pub requests: Vec<RequestKey>,
    /// True of an operation that is executed even while the clock cannot be trusted: it records no more than has
    /// already happened, and is dated by the database if this replica's clock is wrong.
    pub tolerates_clock_fault: bool,
    /// Duplicate keys of the requests that it creates, one for each, so that those of a series are counted.
    pub creates: Vec<DuplicateKey>,
    /// True of an operation for a caller from whom patients with protected identity are hidden.
    pub hides_protected: bool,
    /// The requests whose visit type it changes, each with the code of the new one.
    pub retypes: Vec<(RequestKey, String)>,
    /// The due notifications that it wants to lease.
    pub claim: Option<Claim>,
    /// The patient whose requests it changes.
    pub patient: Option<PatientScope>,
    /// The care unit whose settings it changes.
    pub settings: Option<HsaId>,
    /// The leased notifications whose requests it changes.
    pub leased_in: Option<LeasedIn>,
}

impl ReadSet {
    /// Returns about the number of rows that it will touch.
    pub fn estimated_rows(&self) -> usize {
        let claimed = self.claim.as_ref().map_or(0, |claim| claim.limit);
        let leased = self.leased_in.as_ref().map_or(0, |leased| leased.limit);
        self.creates.len().max(1) + self.requests.len() + claimed + leased
    }

    /// Returns the shard that all of it is in; none when it is in several, or may be.
    pub fn shard(&self, shards: &Shards) -> Option<usize> {
        let claimed = match &self.claim {
            Some(claim) => Some(*claim.due.buckets.as_ref()?.first()?),
            None => None,
        };
        let of_patient = match &self.patient {
            Some(scope) => Some(scope.care_unit.as_ref()?),
            None => None,
        };
        let calls = self.calls.iter().map(|(care_unit, _)| care_unit);
        let requests = self.requests.iter().map(|key| &key.care_unit);
        let creates = self.creates.iter().map(|key| &key.care_unit);
        let leased = self.leased_in.iter().map(|leased| &leased.care_unit);
        let care_units = calls.chain(requests).chain(creates).chain(leased);
        let care_units = care_units.chain(&self.settings).chain(of_patient);
        let mut found = claimed.map(|bucket| shards.of_bucket(bucket));
        for care_unit in care_units {
            let shard = shards.of_unit(care_unit);
            if *found.get_or_insert(shard) != shard {
                return None;
            }
        }
        found
    }
}

/// The patient whose requests are changed, the care unit, and the idempotent call.
pub struct PatientScope {
    /// Identity numbers of the patient.
    pub personal_ids: Vec<PersonalId>,
    /// The care unit; none means all that the caller may see.
    pub care_unit: Option<HsaId>,
    /// The care units that the caller may see.
    pub visible: CareUnits,
    /// The idempotent call.
    pub call: IdempotentCall,
}

impl PatientScope {
    /// Returns the care unit in which the caller's idempotency key is unique; a dash means all of them.
    pub fn idempotency_scope(&self) -> HsaId {
        let all = || HsaId::from_stored("-".to_owned());
        self.care_unit.clone().unwrap_or_else(all)
    }

    /// Returns the care units whose requests are changed.
    pub fn care_units(&self) -> CareUnits {
        match &self.care_unit {
            Some(care_unit) if self.visible.contains(care_unit) => {
                CareUnits::These(vec![care_unit.clone()])
            }
            Some(_) => CareUnits::These(Vec::new()),
            None => self.visible.clone(),
        }
    }
}

/// The rows that were found for the read set of an operation.
#[derive(Default)]
pub struct Resolved {
    /// Due notifications, in turns between care units. More than the operation asked for, since other operations of
    /// the batch may take some.
    pub notifications: Vec<DueNotification>,
    /// Care units that may have more of them.
    pub open: BTreeSet<HsaId>,
    /// The requests of the patient, or those with leased notifications.
    pub requests: Vec<RequestKey>,
    /// True if there may be more requests with leased notifications than were wanted.
    pub is_cut: bool,
    /// True if another writer has locked some of the requests with leased notifications: these are left out.
    pub has_locked: bool,
}

/// The leased notifications of a care unit, as far as their leases end within a time after `now` that no lease exceeds.
pub struct LeasedIn {
    /// The care unit.
    pub care_unit: HsaId,
    /// Present instant.
    pub now: Instant,
    /// Maximum number of requests.
    pub limit: usize,
}

/// The due notifications that an operation wants to lease, and their number.
pub struct Claim {
    /// Channels and care units.
    pub due: Due,
    /// Instant at which they are due.
    pub now: Instant,
    /// Maximum number.
    pub limit: usize,
}
