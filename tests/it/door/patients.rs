//! Patients who call by themselves: their own requests, and nothing else.

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use care_invitation::contract::v1::patient_service_client::PatientServiceClient;
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::bearing;
use super::care_units::Region;
use super::issuer::claims_with;
use crate::harness::{metadata, refusal, within};
use crate::make;

const PATIENT: &str = "198003012385";
const STRANGER: &str = "191212121212";

impl Region {
    /// The token of a patient, of an app that all patients share.
    fn patient(&self, number: &str, care_units: &str) -> String {
        let mut claims = claims_with("scope", Some(json!("patient.self booking.read")));
        claims["care_units"] = json!(care_units);
        claims["personal_id"] = json!(number);
        claims["personal_id_type"] = json!("PERSONNUMMER");
        self.signer.token(&claims)
    }

    async fn shown(&self, token: &str, number: &str) -> Vec<String> {
        let call = v1::ListPatientRequestsRequest {
            identity: Some(v1::PatientIdentity {
                personal_id: number.into(),
                personal_id_type: v1::PersonalIdType::Personnummer.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut client = PatientServiceClient::new(self.channel.clone());
        let listed = within(client.list_patient_requests(bearing(call, token))).await;
        let listed = listed.expect("listed").into_inner().patient_requests;
        listed.into_iter().map(|it| it.name).collect()
    }

    async fn verdict(&self, token: &str, call: &v1::RecordBookingRequest) -> Result<i32, Status> {
        let booking = call.booking.clone().expect("a booking");
        let slot = v1::Slot {
            start_time: booking.start_time,
            end_time: booking.end_time,
            ..Default::default()
        };
        let call = v1::EvaluateSlotsRequest {
            name: call.name.clone(),
            slots: vec![slot],
            source: booking.source,
        };
        let mut client = BookingRequestServiceClient::new(self.channel.clone());
        let answer = within(client.evaluate_slots(bearing(call, token))).await?;
        Ok(answer.into_inner().slots[0].verdict)
    }

    async fn book(
        &self,
        token: &str,
        call: &v1::RecordBookingRequest,
    ) -> Result<v1::BookingRequest, Status> {
        let mut client = BookingRequestServiceClient::new(self.channel.clone());
        let answer = within(client.record_booking(bearing(call.clone(), token))).await?;
        Ok(answer.into_inner().booking_request.expect("it"))
    }
}

#[tokio::test]
async fn a_patient_sees_and_books_their_own_requests_and_nothing_else() {
    let region = Region::start().await;
    let invited = region.invite(make::CARE_UNIT).await;
    region.units_due(&region.token("*")).await;
    let mut call = make::wire_booking(&invited.name, "2026-03-20T09:00:00Z");
    let booking = call.booking.as_mut().expect("a booking");
    booking.source = v1::BookingSource::Patient.into();
    booking.override_reason = String::new();
    let as_staff = v1::RecordBookingRequest {
        booking: make::wire_booking("", "2026-03-20T09:00:00Z").booking,
        ..call.clone()
    };
    let not_found = (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned());
    let denied = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());

    let stranger = region.patient(STRANGER, "*");
    assert_eq!(region.shown(&stranger, PATIENT).await, [""; 0]);
    let elsewhere = region.patient(PATIENT, "SE2321000016-*");
    assert_eq!(region.shown(&elsewhere, PATIENT).await, [""; 0]);
    let patient = region.patient(PATIENT, "SE2321000131-*");
    assert_eq!(
        region.shown(&patient, PATIENT).await,
        std::slice::from_ref(&invited.name)
    );
    for token in [&stranger, &elsewhere] {
        let refused = region.verdict(token, &call).await.expect_err("not theirs");
        assert_eq!(refusal(&refused), not_found);
        let refused = region.book(token, &call).await.expect_err("not theirs");
        assert_eq!(refusal(&refused), not_found);
    }
    let refused = region.verdict(&patient, &as_staff).await;
    assert_eq!(refusal(&refused.expect_err("no staff")), denied);
    let refused = region.book(&patient, &as_staff).await;
    assert_eq!(refusal(&refused.expect_err("no staff")), denied);

    let offered = v1::SlotVerdict::Offered;
    let verdict = region.verdict(&patient, &call).await.expect("judged");
    assert_eq!(verdict, i32::from(offered));
    let booked = region.book(&patient, &call).await.expect("booked");
    let shown = v1::BookingRequest {
        name: invited.name,
        visit_kind: invited.visit_kind,
        visit_type: invited.visit_type,
        purpose: invited.purpose,
        constraints: invited.constraints,
        state: v1::booking_request::State::Booked.into(),
        booking: call.booking.clone(),
        etag: booked.etag.clone(),
        ..Default::default()
    };
    assert!(booked == shown, "no more than a patient is shown");
    // The same app, the same call, another patient.
    let refused = region.book(&stranger, &call).await.expect_err("not theirs");
    assert_eq!(refusal(&refused), not_found);
    assert!(region.book(&patient, &call).await.expect("a repeat") == booked);
}

#[tokio::test]
async fn a_refusal_tells_a_patient_the_verdict_and_nothing_that_staff_see() {
    let region = Region::start().await;
    // A hold keeps it from the patient.
    let mut form = make::wire_form("2026-03-16", "2026-06-12");
    let patient = form.patient.as_mut().expect("a patient");
    patient.protection = v1::Protection::ConfidentialityMarked.into();
    let mut client = BookingRequestServiceClient::new(region.channel.clone());
    let create = bearing(make::wire_create(form), &region.token("*"));
    let created = within(client.create_booking_request(create)).await;
    let held = created.expect("created").into_inner();
    let held = held.booking_request.expect("it");
    let patient = region.patient(PATIENT, "*");
    assert_eq!(region.shown(&patient, PATIENT).await, [""; 0]);
    let mut call = make::wire_booking(&held.name, "2026-03-20T09:00:00Z");
    let booking = call.booking.as_mut().expect("a booking");
    booking.source = v1::BookingSource::Patient.into();
    booking.override_reason = String::new();
    let refused = region.book(&patient, &call).await.expect_err("not open");
    let conflict = (Code::FailedPrecondition, "STATE_CONFLICT".to_owned());
    assert_eq!(refusal(&refused), conflict);
    assert_eq!(metadata(&refused, "verdict"), "NOT_OPEN_YET");
    let told = refused.get_error_details();
    let told = told.error_info().expect("a reason");
    assert_eq!(told.metadata.len(), 1, "{:?}", told.metadata);
    call.request_id = make::request_id();
    let staff = region.book(&region.token("*"), &call).await;
    let staff = staff.expect_err("not open");
    assert!(metadata(&staff, "allowed_actions").contains("RELEASE_HOLD"));
}
