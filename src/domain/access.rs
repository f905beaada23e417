//! Accesses to patients' data: whom the messages of a call are about, and the entries of the access log that
//! follow from it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use uuid::Uuid;

use super::calendar::Instant;
use super::hsa_id::HsaId;
use super::patient::PersonalId;
use super::request_key::RequestKey;

/// One thing that a message is about, as far as the message says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Concern {
    /// Place among the elements of a batch; 0 elsewhere.
    pub element: usize,
    /// Patient.
    pub patient: Option<PersonalId>,
    /// Care unit.
    pub care_unit: Option<HsaId>,
    /// Request.
    pub request: Option<Uuid>,
    /// Outcome of this alone, as a status code; none if it is that of the call.
    pub outcome: Option<i32>,
}

impl Concern {
    /// Returns the key of the request.
    fn key(&self) -> Option<RequestKey> {
        Some(RequestKey {
            care_unit: self.care_unit.clone()?,
            id: self.request?,
        })
    }
}

/// A patient whom a call has concerned, with those of their requests that were named or shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concerned {
    /// Patient; none if the messages name requests alone.
    pub patient: Option<PersonalId>,
    /// Requests, in the order of their ids.
    pub requests: Vec<Uuid>,
}

/// Concerns of a call in one care unit with one outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concerns {
    /// Care unit; none if the messages name a patient alone.
    pub care_unit: Option<HsaId>,
    /// Outcome, as a status code.
    pub outcome: i32,
    /// Patients, in the order of their identities.
    pub concerned: Vec<Concerned>,
}

impl Concerns {
    /// Returns each patient, or none, with the keys of the requests; none where the care unit is not known.
    pub fn keys(&self) -> impl Iterator<Item = (Option<&PersonalId>, Vec<RequestKey>)> {
        self.concerned.iter().map(|it| {
            let key = |id: &Uuid| {
                Some(RequestKey {
                    care_unit: self.care_unit.clone()?,
                    id: *id,
                })
            };
            (
                it.patient.as_ref(),
                it.requests.iter().filter_map(key).collect(),
            )
        })
    }
}

/// A call, or a message of a stream, as an entry of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Time.
    pub at: Instant,
    /// Caller as it was authenticated.
    pub subject: String,
    /// Kind and identifier of the one on whose behalf the subject called.
    pub actor: Option<String>,
    /// Service and RPC.
    pub method: String,
    /// Trace id.
    pub trace_id: Option<String>,
    /// Care unit, outcome, patients and requests.
    pub concerns: Concerns,
}

/// An entry of the access log as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedAccess {
    /// Call.
    pub access: Access,
    /// Place of the entry.
    pub place: AccessPlace,
    /// SHA-256 over the entry and the hash of the one before.
    pub hash: [u8; 32],
}

impl LoggedAccess {
    /// Returns the patients whom the entry names.
    pub fn patients(&self) -> impl Iterator<Item = &PersonalId> {
        let concerned = self.access.concerns.concerned.iter();
        concerned.filter_map(|it| it.patient.as_ref())
    }
}

/// The place of an entry in the access log, in which entries are ordered by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccessPlace {
    /// Time.
    pub at: Instant,
    /// Chain.
    pub chain: Uuid,
    /// Number in the chain, from 1.
    pub sequence: i64,
}

/// The entries that are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessFilter {
    /// Patient whom they concern.
    pub patient: Option<PersonalId>,
    /// Caller.
    pub subject: Option<String>,
    /// Care unit.
    pub care_unit: Option<HsaId>,
    /// Earliest time.
    pub from: Option<Instant>,
    /// Time that they are before.
    pub until: Option<Instant>,
}

/// A row of a chain of the access log, as log lines and the operator's command name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// Chain.
    pub chain: Uuid,
    /// Number in the chain.
    pub sequence: i64,
    /// Hash.
    pub hash: [u8; 32],
}

impl fmt::Display for ChainHead {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = hexadecimal(&self.hash);
        write!(out, "{}:{}:{hash}", self.chain, self.sequence)
    }
}

/// Returns bytes as hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns what a call has concerned, from what its request has `named` and its answer has `shown`, by care unit and
/// outcome.
///
/// A request that is named without its patient is that of the patient with whom it is shown. One that is shown without
/// its patient is that of the only patient whom the call has named, unless it is shown by the failure of an element.
pub fn gather(named: Vec<Concern>, shown: Vec<Concern>, outcome: i32) -> Vec<Concerns> {
    let of_patients: BTreeSet<_> = named.iter().filter_map(|it| it.patient.clone()).collect();
    let only = match of_patients.len() {
        1 => of_patients.first().cloned(),
        _ => None,
    };
    let failed: HashMap<usize, i32> = shown
        .iter()
        .filter_map(|it| Some((it.element, it.outcome?)))
        .collect();
    let of_shown: HashMap<RequestKey, PersonalId> = shown
        .iter()
        .filter_map(|it| Some((it.key()?, it.patient.clone()?)))
        .collect();
    let mut gathered: BTreeMap<(Option<HsaId>, i32), Patients> = BTreeMap::new();
    let named = named.into_iter().map(|mut it| {
        it.outcome = failed.get(&it.element).copied();
        it.patient = it
            .patient
            .take()
            .or_else(|| of_shown.get(&it.key()?).cloned());
        it
    });
    let shown = shown.into_iter().map(|mut it| {
        if it.outcome.is_none() {
            it.patient = it.patient.take().or_else(|| only.clone());
        }
        it
    });
    for concern in named.chain(shown) {
        if concern.patient.is_none() && concern.request.is_none() {
            continue;
        }
        let group = (concern.care_unit, concern.outcome.unwrap_or(outcome));
        let requests = gathered.entry(group).or_default();
        let requests = requests.entry(concern.patient).or_default();
        requests.extend(concern.request);
    }
    without_repeats(&mut gathered);
    let groups = gathered.into_iter();
    groups
        .map(|((care_unit, outcome), patients)| Concerns {
            care_unit,
            outcome,
            concerned: concerned(patients),
        })
        .collect()
}

/// The patients of a group, each with requests.
type Patients = BTreeMap<Option<PersonalId>, BTreeSet<Uuid>>;

fn concerned(patients: Patients) -> Vec<Concerned> {
    let patients = patients.into_iter();
    patients
        .map(|(patient, requests)| Concerned {
            patient,
            requests: requests.into_iter().collect(),
        })
        .collect()
}

/// Removes patients without a care unit who are in one with the same outcome: the call has named them alone, and found
/// requests of theirs.
fn without_repeats(gathered: &mut BTreeMap<(Option<HsaId>, i32), Patients>) {
    let of_units = gathered.iter().filter(|((unit, _), _)| unit.is_some());
    let known: BTreeSet<(i32, Option<PersonalId>)> = of_units
        .flat_map(|((_, outcome), patients)| patients.keys().map(|it| (*outcome, it.clone())))
        .collect();
    for ((unit, outcome), patients) in gathered.iter_mut() {
        patients
            .retain(|patient, _| unit.is_some() || !known.contains(&(*outcome, patient.clone())));
    }
    gathered.retain(|_, patients| !patients.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::patient::PersonalIdType;

    fn patient(number: &str) -> Option<PersonalId> {
        let kind = PersonalIdType::NationalReserveNumber;
        Some(PersonalId::from_stored(kind, None, number.to_owned()))
    }

    fn unit(id: &str) -> Option<HsaId> {
        Some(HsaId::from_stored(id.to_owned()))
    }

    fn request(number: u128) -> Option<Uuid> {
        Some(Uuid::from_u128(number))
    }

    fn about(
        patient: Option<PersonalId>,
        care_unit: Option<HsaId>,
        request: Option<Uuid>,
    ) -> Concern {
        Concern {
            patient,
            care_unit,
            request,
            ..Concern::default()
        }
    }

    fn entry(
        care_unit: Option<HsaId>,
        outcome: i32,
        of: &[(Option<PersonalId>, &[u128])],
    ) -> Concerns {
        let concerned = of.iter().map(|(patient, requests)| Concerned {
            patient: patient.clone(),
            requests: requests.iter().map(|it| Uuid::from_u128(*it)).collect(),
        });
        Concerns {
            care_unit,
            outcome,
            concerned: concerned.collect(),
        }
    }

    #[test]
    fn a_request_that_is_named_is_of_the_patient_with_whom_it_is_shown() {
        let named = vec![about(None, unit("U"), request(1))];
        let shown = vec![about(patient("A"), unit("U"), request(1))];
        let expected = [entry(unit("U"), 0, &[(patient("A"), &[1])])];
        assert_eq!(gather(named.clone(), shown, 0), expected);
        let refused = [entry(unit("U"), 5, &[(None, &[1])])];
        assert_eq!(gather(named, Vec::new(), 5), refused);
    }

    #[test]
    fn requests_that_are_shown_without_a_patient_are_of_the_only_one_named() {
        let named = vec![about(patient("A"), None, None)];
        let shown = vec![
            about(None, unit("U"), request(1)),
            about(None, unit("V"), request(2)),
        ];
        let expected = [
            entry(unit("U"), 0, &[(patient("A"), &[1])]),
            entry(unit("V"), 0, &[(patient("A"), &[2])]),
        ];
        assert_eq!(gather(named.clone(), shown, 0), expected);
        let nothing_found = [entry(None, 0, &[(patient("A"), &[])])];
        assert_eq!(gather(named, Vec::new(), 0), nothing_found);
        let named = vec![
            about(patient("A"), None, None),
            about(patient("B"), None, None),
        ];
        let shown = vec![about(None, unit("U"), request(1))];
        let expected = [
            entry(None, 0, &[(patient("A"), &[]), (patient("B"), &[])]),
            entry(unit("U"), 0, &[(None, &[1])]),
        ];
        assert_eq!(gather(named, shown, 0), expected);
    }

    #[test]
    fn a_page_is_one_entry_for_each_care_unit() {
        let shown = vec![
            about(patient("B"), unit("U"), request(3)),
            about(patient("A"), unit("U"), request(2)),
            about(patient("A"), unit("U"), request(1)),
            about(patient("A"), unit("V"), request(4)),
        ];
        let expected = [
            entry(
                unit("U"),
                0,
                &[(patient("A"), &[1, 2]), (patient("B"), &[3])],
            ),
            entry(unit("V"), 0, &[(patient("A"), &[4])]),
        ];
        assert_eq!(gather(Vec::new(), shown, 0), expected);
        assert!(gather(Vec::new(), Vec::new(), 0).is_empty());
    }

    #[test]
    fn an_element_of_a_batch_that_failed_has_an_outcome_of_its_own() {
        let at = |element, concern| Concern { element, ..concern };
        let named = vec![
            at(0, about(None, unit("U"), request(1))),
            at(1, about(None, unit("U"), request(2))),
        ];
        let failed = Concern {
            element: 1,
            outcome: Some(5),
            ..Concern::default()
        };
        let shown = vec![at(0, about(patient("A"), unit("U"), request(1))), failed];
        let expected = [
            entry(unit("U"), 0, &[(patient("A"), &[1])]),
            entry(unit("U"), 5, &[(None, &[2])]),
        ];
        assert_eq!(gather(named, shown, 0), expected);
    }

    #[test]
    fn a_request_that_a_failure_names_may_be_of_another_patient() {
        let named = vec![about(patient("A"), unit("U"), None)];
        let failed = Concern {
            outcome: Some(6),
            ..about(None, unit("U"), request(7))
        };
        let expected = [entry(unit("U"), 6, &[(None, &[7]), (patient("A"), &[])])];
        assert_eq!(gather(named, vec![failed], 0), expected);
    }
}
