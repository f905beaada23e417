//! Requests on their way to watchers: equal ones are kept once, for however many watchers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::domain::booking_request::BookingRequest;
use crate::domain::notification::Notification;
use crate::domain::request_key::RequestKey;

/// The requests that wait for some reader. Cloning gives another handle to the same.
#[derive(Clone, Default)]
pub struct SharedRequests(Arc<Mutex<HashMap<RequestKey, Weak<BookingRequest>>>>);

impl SharedRequests {
    /// Returns the request, or the equal one that waits for another reader already.
    pub fn share(&self, record: BookingRequest) -> Arc<BookingRequest> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = known.get(&record.key).and_then(Weak::upgrade);
        if let Some(same) = same.filter(|same| **same == record) {
            return same;
        }
        if known.len() == known.capacity() {
            // Instead of growing for entries that are no longer needed.
            known.retain(|_, it| it.strong_count() > 0);
        }
        let record = Arc::new(record);
        known.insert(record.key.clone(), Arc::downgrade(&record));
        record
    }
}

/// Estimates the bytes that a request takes in memory.
pub fn estimated_bytes(record: &BookingRequest) -> usize {
    let form = &record.form;
    let instructions = &form.patient_instructions;
    let texts = [
        &form.purpose,
        &form.internal_comment,
        &form.visit_type.display_name,
        &instructions.visit_length,
        &instructions.supplementary,
        &instructions.sampling_before_visit,
        &instructions.sampling_information,
    ];
    let texts: usize = texts.iter().map(|text| text.len()).sum();
    let performers = form.constraints.iter().flat_map(|it| &it.performer_ids);
    let performers: usize = performers.map(|it| size_of::<String>() + it.len()).sum();
    let notifications = record.care_invitation.iter();
    let notifications: usize = notifications.map(|it| it.notifications.len()).sum();
    let fixed = size_of::<BookingRequest>();
    fixed + texts + performers + notifications * size_of::<Notification>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Context;
    use crate::domain::booking_request::create::{Create, create};
    use crate::domain::booking_request::form::Constraints;
    use crate::domain::booking_request::form::Form;
    use crate::domain::booking_request::form::Origin;
    use crate::domain::booking_request::form::PatientInstructions;
    use crate::domain::booking_request::form::Priority;
    use crate::domain::booking_request::form::VisitKind;
    use crate::domain::booking_request::form::VisitType;
    use crate::domain::calendar::{Instant, Period, Weekdays};
    use crate::domain::care_unit_settings::Policy;
    use crate::domain::hsa_id::HsaId;
    use crate::domain::patient::{LetterFormat, Patient, PersonalId, PersonalIdType};
    use uuid::Uuid;

    fn sample() -> BookingRequest {
        let now: Instant = "2026-03-02T09:00:00Z".parse().expect("a test instant");
        let date = |text: &str| text.parse().expect("a test date");
        let number = PersonalId::parse(PersonalIdType::Personnummer, "", "198003012385");
        let form = Form {
            patient: Patient {
                personal_id: number.expect("a good number"),
                protection: None,
                inbox_reach: None,
                language: "sv".into(),
                addressee: None,
                interpreter_language: None,
                letter_format: LetterFormat::Standard,
            },
            origin: Origin::Referral {
                referral_id: "R-1".into(),
                decision_date: None,
            },
            visit_kind: VisitKind::NewVisit,
            visit_type: VisitType {
                code: "ONH-NY".into(),
                display_name: "Nybesök".into(),
            },
            purpose: "Öron".into(),
            patient_instructions: PatientInstructions::default(),
            internal_comment: String::new(),
            summons: true,
            invitation: true,
            constraints: Some(Constraints {
                period: Period {
                    first: date("2026-05-18"),
                    last: date("2026-06-12"),
                },
                weekdays: Weekdays::default(),
                time_windows: Vec::new(),
                duration_minutes: 30,
                performer_ids: Vec::new(),
            }),
            booking: None,
            priority: Priority::Routine,
        };
        let key = RequestKey {
            care_unit: HsaId::from_stored("SE2321000131-P1".into()),
            id: Uuid::from_u128(1),
        };
        let command = Create {
            key,
            form,
            allow_duplicate: false,
            series: None,
            prior_messages: Vec::new(),
        };
        let context = Context {
            now,
            actor: String::new(),
            policy: Policy::default(),
        };
        let created = create(&command, &context);
        created.expect("a valid form").record
    }

    #[test]
    fn equal_requests_are_kept_once_and_only_while_they_are_needed() {
        let shared = SharedRequests::default();
        let first = shared.share(sample());
        assert!(Arc::ptr_eq(&first, &shared.share(sample())));
        let changed = BookingRequest {
            revision: 2,
            ..sample()
        };
        assert!(!Arc::ptr_eq(&first, &shared.share(changed)));
        drop(first);
        let known = shared.0.lock().expect("whole");
        assert!(known.values().all(|it| it.strong_count() == 0));
    }
}
