//! The caller of a call: the subject with its rights, and the actor on whose behalf it calls.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::Refusal;
use super::actor::Actor;
use super::certificate::Clients;
use super::rights::Rights;
use super::scope::{Scope, Scopes};
use crate::domain;
use crate::domain::booking_request::BookingRequest;
use crate::domain::care_units::CareUnits;
use crate::domain::hsa_id::HsaId;
use crate::domain::patient::PersonalId;
use crate::domain::request_key::RequestKey;
use crate::domain::visible::Visible;

/// End of a caller's rights.
#[derive(Clone, Debug)]
pub enum Validity {
    /// They do not end.
    Unlimited,
    /// They end with the token.
    Until(Instant),
    /// They end when the settings give the subject others, or none.
    WhileListed(Clients),
}

/// The caller of a call.
#[derive(Clone, Debug)]
pub struct Caller {
    rights: Arc<Rights>,
    actor: Option<Actor>,
    validity: Validity,
    /// End of the certificate of the caller's connection, if it has one.
    certified_until: Option<Instant>,
}

impl Caller {
    /// Makes the caller of a call.
    pub fn new(rights: Arc<Rights>, actor: Option<Actor>, validity: Validity) -> Self {
        Self {
            rights,
            actor,
            validity,
            certified_until: None,
        }
    }

    /// Returns the same over a connection whose certificate is valid until then, if it has one.
    pub fn certified_until(self, certified_until: Option<Instant>) -> Self {
        Self {
            certified_until,
            ..self
        }
    }

    /// Returns the same on behalf of an actor, if there is one.
    pub fn on_behalf_of(self, actor: Option<Actor>) -> Self {
        Self { actor, ..self }
    }

    /// Returns the subject: the scope of its request ids.
    pub fn subject(&self) -> &str {
        &self.rights.subject
    }

    /// Returns whether the subject is known by more than its word.
    pub fn is_authenticated(&self) -> bool {
        match self.validity {
            Validity::Unlimited => false,
            Validity::Until(_) | Validity::WhileListed(_) => true,
        }
    }

    /// Returns the name of whoever did it, for the history: the actor, or the subject by itself.
    pub fn name(&self) -> String {
        match &self.actor {
            Some(actor) => actor.name(),
            None => self.rights.subject.clone(),
        }
    }

    /// Returns the subject, and the one on whose behalf it calls, for the access log.
    pub fn who(&self) -> (&str, Option<String>) {
        (self.subject(), self.actor.as_ref().map(Actor::name))
    }

    /// Returns the kind of the one on whose behalf the subject calls, if it names one.
    pub fn actor_type(&self) -> Option<&'static str> {
        self.actor.as_ref().map(|it| it.kind().name())
    }

    /// Returns whether the caller has a scope.
    pub fn has(&self, scope: Scope) -> bool {
        self.rights.scopes.contains(scope)
    }

    /// Returns whether the caller may make a call that needs one of these scopes. One who is a patient is
    /// nothing else, whatever other scopes there are; and nobody is a patient who is not named.
    pub fn may(&self, needed: Scopes) -> bool {
        match self.patient() {
            Some(_) => needed.contains(Scope::PatientSelf),
            None => {
                let needed = needed.without(Scope::PatientSelf);
                self.rights.scopes.meets(needed)
            }
        }
    }

    /// Returns the patient that the caller is, with the scope `patient.self`.
    pub fn patient(&self) -> Option<&PersonalId> {
        self.rights.patient.as_ref()
    }

    /// Returns whether the caller may see a care unit.
    pub fn may_see(&self, care_unit: &HsaId) -> bool {
        self.rights.care_units.contains(care_unit)
    }

    /// Checks that the caller may see a care unit. Every call that names one, or something in one, asks here.
    ///
    /// # Errors
    ///
    /// [`domain::Refusal::NotFound`], as if there were nothing.
    pub fn require(&self, care_unit: &HsaId) -> Result<(), domain::Refusal> {
        match self.may_see(care_unit) {
            true => Ok(()),
            false => Err(domain::Refusal::NotFound),
        }
    }

    /// Returns whether the caller may see a patient's requests: a patient sees their own.
    pub fn may_see_those_of(&self, patient: &PersonalId) -> bool {
        self.patient().is_none_or(|it| it == patient)
    }

    /// Returns what a patient's identity number finds for the caller.
    pub fn visible_of(&self, patient: &PersonalId) -> Visible {
        let care_units = match self.may_see_those_of(patient) {
            true => self.visible(CareUnits::Every),
            false => CareUnits::These(Vec::new()),
        };
        Visible {
            care_units,
            hides_protected: self.hides_protected(),
        }
    }

    /// Checks that the caller may see a request.
    ///
    /// # Errors
    ///
    /// [`domain::Refusal::NotFound`], as if there were none.
    pub fn require_request(&self, record: &BookingRequest) -> Result<(), domain::Refusal> {
        self.require(&record.key.care_unit)?;
        match self.may_see_those_of(&record.form.patient.personal_id) {
            true => Ok(()),
            false => Err(domain::Refusal::NotFound),
        }
    }

    /// Returns a refusal as the caller is told it: a patient is not told what staff alone see of a request.
    pub fn told(&self, refusal: domain::Refusal) -> domain::Refusal {
        match (self.patient(), refusal) {
            (Some(_), domain::Refusal::NotBookable { verdict, .. }) => {
                domain::Refusal::NotOpen(verdict)
            }
            (Some(_) | None, refusal) => refusal,
        }
    }

    /// Returns whether patients with protected identity are hidden from the caller: their identity numbers are not
    /// shown, and find nothing. A patient knows their own.
    pub fn hides_protected(&self) -> bool {
        !self.has(Scope::PatientProtected) && self.patient().is_none()
    }

    /// Returns those of some requests whose care units the caller may see.
    pub fn seen(&self, mut requests: Vec<RequestKey>) -> Vec<RequestKey> {
        requests.retain(|it| self.may_see(&it.care_unit));
        requests
    }

    /// Returns those of some care units that the caller may see. Every list that is of more than one care
    /// unit asks here, anew for each page.
    pub fn visible(&self, care_units: CareUnits) -> CareUnits {
        self.rights.care_units.among(care_units)
    }

    /// Waits until the rights of the caller end, and returns the reason. A stream must not outlive them.
    pub async fn expired(self) -> Refusal {
        let Self {
            rights,
            actor: _,
            validity,
            certified_until,
        } = self;
        let ended = async {
            match validity {
                Validity::Unlimited => std::future::pending().await,
                Validity::Until(at) => {
                    sleep_until(at).await;
                    Refusal::TokenExpired
                }
                Validity::WhileListed(clients) => {
                    clients.changed(&rights).await;
                    Refusal::CertificateUnknown
                }
            }
        };
        let certificate_ended = async {
            match certified_until {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            refusal = ended => refusal,
            () = certificate_ended => Refusal::CertificateExpired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::actor::Given;
    use super::*;
    use crate::domain::patient::PersonalIdType;

    #[test]
    fn the_history_names_the_actor_or_else_the_subject() {
        let rights = Arc::new(Rights::anonymous());
        let alone = Caller::new(rights.clone(), None, Validity::Unlimited);
        assert_eq!(
            (alone.name(), alone.subject()),
            ("anonymous".into(), "anonymous")
        );
        let actor = Actor::parse(Given::Text("STAFF"), Given::Text("e-1")).expect("good");
        let acting = Caller::new(rights, actor, Validity::Unlimited);
        assert_eq!(
            (acting.name(), acting.subject()),
            ("STAFF:e-1".into(), "anonymous")
        );
    }

    #[test]
    fn a_patient_makes_the_calls_of_patients_and_no_others() {
        let number = PersonalId::parse(PersonalIdType::Personnummer, "", "198003012385").ok();
        let caller = |scopes, patient: Option<PersonalId>| {
            let rights = Rights {
                scopes: Scopes::parse(scopes),
                patient,
                ..Rights::anonymous()
            };
            Caller::new(Arc::new(rights), None, Validity::Unlimited)
        };
        for (scopes, patient, needed, admitted) in [
            ("booking.read", false, "booking.read", true),
            ("booking.read", false, "booking.read patient.self", true),
            ("booking.read actor", false, "booking.write", false),
            ("", false, "booking.write", false),
            ("patient.self", true, "booking.read patient.self", true),
            ("patient.self", true, "booking.read", false),
            ("patient.self booking.read", true, "booking.read", false),
            ("patient.self", false, "booking.read patient.self", false),
        ] {
            let caller = caller(scopes, number.clone().filter(|_| patient));
            let may = caller.may(Scopes::parse(needed));
            assert_eq!(may, admitted, "{scopes} for {needed}");
        }
    }

    #[test]
    fn neither_rights_nor_actor_are_shown() {
        let rights = Rights {
            subject: "198003012385".to_owned(),
            ..Rights::anonymous()
        };
        let actor = Actor::parse(Given::Text("PATIENT"), Given::Text("198003012385"));
        let actor = actor.expect("good metadata");
        let caller = Caller::new(Arc::new(rights), actor, Validity::Unlimited);
        assert!(!format!("{caller:?}").contains("1980"));
    }
}
