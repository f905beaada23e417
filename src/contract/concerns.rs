//! Whom messages are about, for the access log. Every message of every RPC says so here: a new one does not compile
//! before it does.

use crate::contract::enums;
use crate::contract::{sandbox_v1, v1};
use crate::domain::access::Concern;
use crate::domain::hsa_id::HsaId;
use crate::domain::patient::PersonalId;

use super::{request_key, segments};

/// Whom a message is about.
pub trait Audited {
    /// Adds the patients, care units and requests that it names or shows.
    fn add_to(&self, about: &mut About);
}

/// Returns the request that a refusal names: one that may be of another patient than the call.
pub fn named_in_refusal(name: &str) -> Vec<Concern> {
    let mut about = About::default();
    about.request(name, None);
    about.concerns
}

/// Returns whom a message is about.
pub fn concerns_of(message: &impl Audited) -> Vec<Concern> {
    let mut about = About::default();
    message.add_to(&mut about);
    about.concerns
}

/// Concerns that are being gathered from a message.
#[derive(Default)]
pub struct About {
    concerns: Vec<Concern>,
    element: usize,
}

impl About {
    /// Adds a request, or what belongs to one, by its name, and its patient if it is known. A name that is none of
    /// ours names nothing.
    fn request(&mut self, name: &str, patient: Option<PersonalId>) {
        let key = match segments(name)[..] {
            ["careUnits", unit, "bookingRequests", id]
            | ["careUnits", unit, "bookingRequests", id, "notifications", _] => {
                request_key(unit, id)
            }
            _ => None,
        };
        let (care_unit, request) = key.map(|it| (it.care_unit, it.id)).unzip();
        self.add(patient, care_unit, request);
    }

    /// Adds the requests that were created together with one.
    fn series(&mut self, request: &v1::BookingRequest) {
        let series = request.series.iter().flat_map(|it| &it.members);
        for name in series {
            self.request(name, patient_of(request.patient.as_ref()));
        }
    }

    /// Adds a patient, in a care unit if its name is one.
    fn patient(&mut self, care_unit: &str, patient: Option<PersonalId>) {
        let care_unit = match segments(care_unit)[..] {
            ["careUnits", id] => HsaId::parse(id),
            _ => None,
        };
        self.add(patient, care_unit, None);
    }

    fn add(
        &mut self,
        patient: Option<PersonalId>,
        care_unit: Option<HsaId>,
        request: Option<uuid::Uuid>,
    ) {
        if patient.is_some() || request.is_some() {
            self.concerns.push(Concern {
                element: self.element,
                patient,
                care_unit,
                request,
                outcome: None,
            });
        }
    }

    /// Adds the elements of a batch, each in its place.
    fn elements<M: Audited>(&mut self, elements: &[M]) {
        for (place, element) in elements.iter().enumerate() {
            self.element = place;
            element.add_to(self);
        }
        self.element = 0;
    }

    /// Adds that the element failed, and the request that its error names.
    fn failed(&mut self, error: &v1::ElementError) {
        let named = error.metadata.get("name");
        let named = named.into_iter().flat_map(|name| named_in_refusal(name));
        let alone = Concern::default();
        self.concerns.extend(named.chain([alone]).map(|it| Concern {
            element: self.element,
            outcome: Some(error.code),
            ..it
        }));
    }

    /// Adds an element that is named, and its failure if there is one.
    fn result(&mut self, name: &str, error: Option<&v1::ElementError>) {
        match error {
            Some(error) => self.failed(error),
            None => self.request(name, None),
        }
    }
}

/// Parses an identity; none if it is not one, or does not name who it is.
fn identity(number: &str, kind: i32, issuer: &str) -> Option<PersonalId> {
    PersonalId::parse(enums::known(kind)?, issuer, number).ok()
}

fn identity_of(message: Option<&v1::PatientIdentity>) -> Option<PersonalId> {
    let it = message?;
    identity(&it.personal_id, it.personal_id_type, &it.issuer)
}

fn patient_of(message: Option<&v1::Patient>) -> Option<PersonalId> {
    let it = message?;
    identity(&it.personal_id, it.personal_id_type, &it.issuer)
}

/// Messages that are about a request by its name alone.
macro_rules! named {
    ($($message:ident)+) => {
        $(impl Audited for v1::$message {
            fn add_to(&self, about: &mut About) {
                about.request(&self.name, None);
            }
        })+
    };
}
named! {
    GetBookingRequestRequest ChangeToInvitationRequest RevokeInvitationRequest RecordBookingRequest
    RecordBookingCancellationRequest RecordPatientContactRequest CancelBookingRequestRequest ReleaseHoldRequest
    EvaluateSlotsRequest ListHistoryRequest DeliveryReceipt Lease Notification PatientRequest
}

/// Messages that hold a request.
macro_rules! holds_a_request {
    ($($message:ident)+) => {
        $(impl Audited for v1::$message {
            fn add_to(&self, about: &mut About) {
                self.booking_request.iter().for_each(|it| it.add_to(about));
            }
        })+
    };
}
holds_a_request! {
    GetBookingRequestResponse ChangeToInvitationResponse RevokeInvitationResponse
    ChangeBookingRequestRequest ChangeBookingRequestResponse RecordBookingResponse RecordBookingCancellationResponse
    RecordPatientContactResponse CancelBookingRequestResponse ReleaseHoldResponse
}

/// Messages that hold a list, of a batch or a page.
macro_rules! holds_a_list {
    ($($message:ident.$list:ident)+) => {
        $(impl Audited for v1::$message {
            fn add_to(&self, about: &mut About) {
                about.elements(&self.$list);
            }
        })+
    };
}
holds_a_list! {
    BatchCreateBookingRequestsRequest.requests
    BatchChangeToInvitationRequest.requests
    BatchChangeToInvitationResponse.results
    BatchCancelBookingRequestsRequest.requests
    BatchCancelBookingRequestsResponse.results
    BatchReleaseHoldRequest.requests
    BatchReleaseHoldResponse.results
    AuthorizeDispatchRequest.leases
    AuthorizeDispatchResponse.results
    AcknowledgeNotificationsRequest.acknowledgements
    AcknowledgeNotificationsResponse.results
    ReportDeliveryRequest.receipts
    ReportDeliveryResponse.results
    ListNotificationsResponse.notifications
    ListWorklistResponse.booking_requests
    ListPatientRequestsResponse.patient_requests
    ListAccessLogResponse.entries
    StreamChangesResponse.changes
}

/// Results that have a name, and an error if they failed.
macro_rules! named_result {
    ($($message:ident)+) => {
        $(impl Audited for v1::$message {
            fn add_to(&self, about: &mut About) {
                about.result(&self.name, self.error.as_ref());
            }
        })+
    };
}
named_result! { AuthorizeDispatchResult AcknowledgementResult DeliveryReceiptResult }

/// Messages that hold the form of a request to come.
macro_rules! holds_a_form {
    ($($message:ident)+) => {
        $(impl Audited for v1::$message {
            fn add_to(&self, about: &mut About) {
                let form = self.booking_request.as_ref();
                let patient = form.and_then(|it| patient_of(it.patient.as_ref()));
                about.patient(&self.parent, patient);
            }
        })+
    };
}
holds_a_form! { CreateBookingRequestRequest PreviewNotificationsRequest }

/// Messages that name requests.
macro_rules! holds_names {
    ($($message:ident)+) => {
        $(impl Audited for v1::$message {
            fn add_to(&self, about: &mut About) {
                let names = self.booking_requests.iter();
                names.for_each(|name| about.request(name, None));
            }
        })+
    };
}
holds_names! { UpdatePatientResponse ReplacePersonalIdResponse }

/// Messages with a query of worklists.
macro_rules! holds_a_query {
    ($($message:ident)+) => {
        $(impl Audited for v1::$message {
            fn add_to(&self, about: &mut About) {
                let Some(query) = &self.query else { return };
                let v1::WorklistQuery { personal_id, personal_id_type, issuer, .. } = query;
                about.patient("", identity(personal_id, *personal_id_type, issuer));
            }
        })+
    };
}
holds_a_query! { ListWorklistRequest CountWorklistsRequest WatchWorklistRequest }

/// Messages that are about no patient. Slots, verdicts and entries of the history are those of the request that the
/// call has named; a preview shows nothing but what the call has brought.
macro_rules! about_nobody {
    ($($module:ident::$message:ident)+) => {
        $(impl Audited for $module::$message {
            fn add_to(&self, _about: &mut About) {}
        })+
    };
}
about_nobody! {
    v1::PreviewNotificationsResponse v1::EvaluateSlotsResponse v1::ListHistoryResponse
    v1::GetCareUnitSettingsRequest v1::GetCareUnitSettingsResponse
    v1::UpdateCareUnitSettingsRequest v1::UpdateCareUnitSettingsResponse
    v1::StreamDueNotificationsRequest v1::ListNotificationsRequest v1::StreamChangesRequest
    v1::CountWorklistsResponse v1::ListCareUnitsRequest v1::ListCareUnitsResponse
    sandbox_v1::GetTimeRequest sandbox_v1::GetTimeResponse
    sandbox_v1::AdvanceTimeRequest sandbox_v1::AdvanceTimeResponse
}

impl Audited for v1::BookingRequest {
    fn add_to(&self, about: &mut About) {
        about.request(&self.name, patient_of(self.patient.as_ref()));
    }
}

impl Audited for v1::Change {
    fn add_to(&self, about: &mut About) {
        about.request(&self.booking_request, None);
    }
}

impl Audited for v1::CreateBookingRequestResponse {
    fn add_to(&self, about: &mut About) {
        self.booking_request.iter().for_each(|it| {
            it.add_to(about);
            about.series(it);
        });
    }
}

impl Audited for v1::BatchCreateBookingRequestsResponse {
    fn add_to(&self, about: &mut About) {
        about.elements(&self.results);
        for (place, result) in self.results.iter().enumerate() {
            about.element = place;
            result
                .booking_request
                .iter()
                .for_each(|it| about.series(it));
        }
        about.element = 0;
    }
}

impl Audited for v1::BookingRequestResult {
    fn add_to(&self, about: &mut About) {
        match &self.error {
            Some(error) => about.failed(error),
            None => self.booking_request.iter().for_each(|it| it.add_to(about)),
        }
    }
}

impl Audited for v1::UpdatePatientRequest {
    fn add_to(&self, about: &mut About) {
        about.patient(&self.parent, patient_of(self.patient.as_ref()));
    }
}

impl Audited for v1::ReplacePersonalIdRequest {
    fn add_to(&self, about: &mut About) {
        about.patient("", identity_of(self.old_identity.as_ref()));
        about.patient("", identity_of(self.new_identity.as_ref()));
    }
}

impl Audited for v1::Acknowledgement {
    fn add_to(&self, about: &mut About) {
        self.lease.iter().for_each(|it| it.add_to(about));
    }
}

impl Audited for v1::StreamDueNotificationsResponse {
    fn add_to(&self, about: &mut About) {
        use v1::stream_due_notifications_response::Event;
        match &self.event {
            Some(Event::Due(due)) => {
                let v1::DueNotification {
                    booking_request,
                    personal_id,
                    personal_id_type,
                    issuer,
                    ..
                } = due;
                let patient = identity(personal_id, *personal_id_type, issuer);
                about.request(booking_request, patient);
            }
            Some(Event::Revoked(name)) => about.request(name, None),
            Some(Event::Heartbeat(_)) | None => {}
        }
    }
}

impl Audited for v1::WatchWorklistResponse {
    fn add_to(&self, about: &mut About) {
        use v1::watch_worklist_response::Event;
        match &self.event {
            Some(Event::Upserted(request)) => request.add_to(about),
            Some(Event::Removed(name)) => about.request(name, None),
            Some(Event::SnapshotComplete(_) | Event::Heartbeat(_)) | None => {}
        }
    }
}

impl Audited for v1::ListPatientRequestsRequest {
    fn add_to(&self, about: &mut About) {
        about.patient("", identity_of(self.identity.as_ref()));
    }
}

impl Audited for v1::ListAccessLogRequest {
    fn add_to(&self, about: &mut About) {
        about.patient(&self.care_unit, identity_of(self.identity.as_ref()));
    }
}

impl Audited for v1::AccessLogEntry {
    fn add_to(&self, about: &mut About) {
        for accessed in &self.patients {
            let patient = identity_of(accessed.identity.as_ref());
            about.patient(&self.care_unit, patient.clone());
            for name in &accessed.booking_requests {
                about.request(name, patient.clone());
            }
        }
    }
}
