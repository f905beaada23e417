//! A good call of every RPC, each about a request of its own.

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::contract::v1::stream_due_notifications_response::Event;
use prost::Message;
use prost_types::FieldMask;
use tonic::transport::Channel;

use super::with;
use crate::harness::within;
use crate::make;

/// The number that a patient gets instead of theirs.
pub const OTHER: &str = "191212121212";

/// A caller with its metadata, and the form that its calls are about.
pub struct Calls {
    pub channel: Channel,
    pub metadata: Vec<(&'static str, String)>,
    pub form: v1::BookingRequest,
}

/// Returns true when a call changes what another one would be about.
pub fn is_used_up(method: &str) -> bool {
    [
        "Change",
        "Revoke",
        "Record",
        "Cancel",
        "Batch",
        "Release",
        "Authorize",
        "Acknowledge",
    ]
    .iter()
    .any(|verb| method.starts_with(verb))
}

impl Calls {
    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let metadata = self.metadata.iter().map(|(name, value)| (*name, &**value));
        with(message, &metadata.collect::<Vec<_>>())
    }

    fn patient(&self) -> v1::Patient {
        self.form.patient.clone().expect("a patient")
    }

    fn identity(&self) -> v1::PatientIdentity {
        let patient = self.patient();
        v1::PatientIdentity {
            personal_id: patient.personal_id,
            personal_id_type: patient.personal_id_type,
            issuer: patient.issuer,
        }
    }

    fn is_protected(&self) -> bool {
        self.patient().protection() != v1::Protection::Unspecified
    }

    /// A query that finds them: by their number, unless they are found by it only for some.
    fn query(&self) -> v1::WorklistQuery {
        let query = v1::WorklistQuery {
            worklists: vec![v1::Worklist::AllInvitations.into()],
            care_units: vec![make::wire_unit()],
            ..Default::default()
        };
        let identity = self.identity();
        match self.is_protected() {
            true => query,
            false => v1::WorklistQuery {
                personal_id: identity.personal_id,
                personal_id_type: identity.personal_id_type,
                ..query
            },
        }
    }

    fn create(&self) -> v1::CreateBookingRequestRequest {
        v1::CreateBookingRequestRequest {
            allow_duplicate: true,
            ..make::wire_create(self.form.clone())
        }
    }

    /// The name of a new request.
    async fn created(&self) -> String {
        let mut client = BookingRequestServiceClient::new(self.channel.clone());
        let answer = within(client.create_booking_request(self.request(self.create()))).await;
        let answer = answer.expect("created").into_inner();
        answer.booking_request.expect("the request").name
    }

    /// The name of a new request that waits for its patient to be invited.
    async fn waiting(&self) -> String {
        let mut call = self.create();
        call.booking_request.get_or_insert_default().invitation = false;
        let mut client = BookingRequestServiceClient::new(self.channel.clone());
        let answer = within(client.create_booking_request(self.request(call))).await;
        let answer = answer.expect("created").into_inner();
        answer.booking_request.expect("the request").name
    }

    /// The name of a new request with a booking.
    async fn booked(&self) -> String {
        let name = self.created().await;
        let call = make::wire_booking(&name, "2026-04-20T08:00:00Z");
        let mut client = BookingRequestServiceClient::new(self.channel.clone());
        let answer = within(client.record_booking(self.request(call))).await;
        answer.expect("booked");
        name
    }

    /// The name of a new request of which a notification is due.
    async fn due(&self) -> String {
        let name = self.created().await;
        if self.is_protected() {
            let mut client = BookingRequestServiceClient::new(self.channel.clone());
            let release = self.request(release_of(name.clone()));
            within(client.release_hold(release))
                .await
                .expect("released");
        }
        name
    }

    /// The lease of a notification of a new request.
    async fn lease(&self) -> v1::Lease {
        self.due().await;
        let call = v1::StreamDueNotificationsRequest {
            until_idle: true,
            max_outstanding: 1_000,
            ..Default::default()
        };
        let mut client = NotificationServiceClient::new(self.channel.clone());
        let answer = within(client.stream_due_notifications(self.request(call))).await;
        let mut events = answer.expect("a stream").into_inner();
        let mut lease = v1::Lease::default();
        while let Some(event) = within(events.message()).await.expect("an event") {
            if let Some(Event::Due(due)) = event.event {
                lease = v1::Lease {
                    name: due.notification.expect("a notification").name,
                    lease_token: due.lease_token,
                };
            }
        }
        lease
    }

    /// A good call of a method, encoded.
    pub async fn good(&self, method: &str) -> Vec<u8> {
        let request_id = make::request_id();
        match method {
            "CreateBookingRequest" => self.create().encode_to_vec(),
            "GetBookingRequest" => v1::GetBookingRequestRequest {
                name: self.created().await,
            }
            .encode_to_vec(),
            "ChangeToInvitation" => make::wire_invite(&self.waiting().await).encode_to_vec(),
            "RevokeInvitation" => v1::RevokeInvitationRequest {
                name: self.created().await,
                request_id,
                ..Default::default()
            }
            .encode_to_vec(),
            "ChangeBookingRequest" => v1::ChangeBookingRequestRequest {
                booking_request: Some(v1::BookingRequest {
                    name: self.created().await,
                    ..self.form.clone()
                }),
                update_mask: Some(FieldMask {
                    paths: vec!["purpose".into()],
                }),
                request_id,
                reason: v1::ChangeReason::UnitRequest.into(),
                ..Default::default()
            }
            .encode_to_vec(),
            "RecordBooking" => {
                make::wire_booking(&self.created().await, "2026-04-20T08:00:00Z").encode_to_vec()
            }
            "RecordBookingCancellation" => v1::RecordBookingCancellationRequest {
                name: self.booked().await,
                request_id,
                booking_id: "B-1".into(),
                reason: v1::BookingCancellationReason::Patient.into(),
                next: v1::record_booking_cancellation_request::Next::Requested.into(),
                ..Default::default()
            }
            .encode_to_vec(),
            "RecordPatientContact" => v1::RecordPatientContactRequest {
                name: self.created().await,
                request_id,
                outcome: v1::ContactOutcome::WillBook.into(),
                wait_until_date: "2026-04-01".into(),
                ..Default::default()
            }
            .encode_to_vec(),
            "CancelBookingRequest" => make::wire_cancel(&self.created().await).encode_to_vec(),
            "BatchCreateBookingRequests" => v1::BatchCreateBookingRequestsRequest {
                requests: vec![self.create()],
            }
            .encode_to_vec(),
            "BatchChangeToInvitation" => v1::BatchChangeToInvitationRequest {
                requests: vec![make::wire_invite(&self.waiting().await)],
            }
            .encode_to_vec(),
            "BatchCancelBookingRequests" => v1::BatchCancelBookingRequestsRequest {
                requests: vec![make::wire_cancel(&self.created().await)],
            }
            .encode_to_vec(),
            "BatchReleaseHold" => v1::BatchReleaseHoldRequest {
                requests: vec![self.release().await],
            }
            .encode_to_vec(),
            "ReleaseHold" => self.release().await.encode_to_vec(),
            "UpdatePatient" => {
                self.created().await;
                v1::UpdatePatientRequest {
                    parent: make::wire_unit(),
                    patient: Some(v1::Patient {
                        preferred_language: "sv".into(),
                        ..self.patient()
                    }),
                    update_mask: Some(FieldMask {
                        paths: vec!["preferred_language".into()],
                    }),
                    request_id,
                    ..Default::default()
                }
                .encode_to_vec()
            }
            "ReplacePersonalId" => v1::ReplacePersonalIdRequest {
                old_identity: Some(self.identity()),
                new_identity: Some(v1::PatientIdentity {
                    personal_id: OTHER.into(),
                    ..self.identity()
                }),
                request_id,
            }
            .encode_to_vec(),
            "PreviewNotifications" => v1::PreviewNotificationsRequest {
                parent: make::wire_unit(),
                booking_request: Some(self.form.clone()),
            }
            .encode_to_vec(),
            "EvaluateSlots" => v1::EvaluateSlotsRequest {
                name: self.created().await,
                slots: vec![v1::Slot {
                    slot_id: "S-1".into(),
                    start_time: Some(make::wire_at("2026-04-20T08:00:00Z")),
                    end_time: Some(make::wire_at("2026-04-20T08:30:00Z")),
                    performer_id: String::new(),
                }],
                source: v1::BookingSource::Staff.into(),
            }
            .encode_to_vec(),
            "ListHistory" => v1::ListHistoryRequest {
                name: self.created().await,
                ..Default::default()
            }
            .encode_to_vec(),
            "GetCareUnitSettings" => v1::GetCareUnitSettingsRequest {
                name: format!("{}/settings", make::wire_unit()),
            }
            .encode_to_vec(),
            "UpdateCareUnitSettings" => v1::UpdateCareUnitSettingsRequest {
                care_unit_settings: Some(v1::CareUnitSettings {
                    name: format!("{}/settings", make::wire_unit()),
                    // Another one each time, for a change to be logged.
                    lead_days: Some(i32::from(uuid::Uuid::new_v4().as_bytes()[0] % 181)),
                    ..Default::default()
                }),
                update_mask: Some(FieldMask {
                    paths: vec!["lead_days".into()],
                }),
                request_id,
                ..Default::default()
            }
            .encode_to_vec(),
            "StreamDueNotifications" => {
                self.due().await;
                v1::StreamDueNotificationsRequest {
                    care_units: vec![make::wire_unit()],
                    until_idle: true,
                    ..Default::default()
                }
                .encode_to_vec()
            }
            "AuthorizeDispatch" => v1::AuthorizeDispatchRequest {
                leases: vec![self.lease().await],
            }
            .encode_to_vec(),
            "AcknowledgeNotifications" => v1::AcknowledgeNotificationsRequest {
                acknowledgements: vec![v1::Acknowledgement {
                    lease: Some(self.lease().await),
                    outcome: v1::acknowledgement::Outcome::Retry.into(),
                    cause: format!("nobody there {}", self.form.purpose),
                    ..Default::default()
                }],
            }
            .encode_to_vec(),
            "ReportDelivery" => v1::ReportDeliveryRequest {
                receipts: vec![v1::DeliveryReceipt {
                    name: self.lease().await.name,
                    receipt: v1::delivery_receipt::Receipt::Read.into(),
                    event_time: None,
                }],
            }
            .encode_to_vec(),
            "ListNotifications" => v1::ListNotificationsRequest {
                care_units: vec![make::wire_unit()],
                ..Default::default()
            }
            .encode_to_vec(),
            "ListPatientRequests" => v1::ListPatientRequestsRequest {
                identity: Some(self.identity()),
                ..Default::default()
            }
            .encode_to_vec(),
            "ListWorklist" => v1::ListWorklistRequest {
                query: Some(self.query()),
                ..Default::default()
            }
            .encode_to_vec(),
            "CountWorklists" => v1::CountWorklistsRequest {
                query: Some(v1::WorklistQuery {
                    worklists: Vec::new(),
                    ..self.query()
                }),
                by_care_unit: true,
            }
            .encode_to_vec(),
            "ListCareUnits" => v1::ListCareUnitsRequest::default().encode_to_vec(),
            "WatchWorklist" => v1::WatchWorklistRequest {
                query: Some(self.query()),
                ..Default::default()
            }
            .encode_to_vec(),
            "StreamChanges" => {
                self.created().await;
                v1::StreamChangesRequest {
                    care_units: vec![make::wire_unit()],
                    after_cursor: "0".into(),
                    until_idle: true,
                }
                .encode_to_vec()
            }
            "ListAccessLog" => {
                self.created().await;
                v1::ListAccessLogRequest {
                    identity: Some(self.identity()),
                    ..Default::default()
                }
                .encode_to_vec()
            }
            "GetTime" => Vec::new(),
            "AdvanceTime" => care_invitation::contract::sandbox_v1::AdvanceTimeRequest {
                server_time: Some(make::wire_at(super::NOW)),
            }
            .encode_to_vec(),
            other => panic!("a new RPC, {other}: drive it here with a good call"),
        }
    }

    /// The call that releases a new request that is held: for its patient, or since its notification was parked.
    async fn release(&self) -> v1::ReleaseHoldRequest {
        if self.is_protected() {
            return release_of(self.created().await);
        }
        let lease = self.lease().await;
        let (name, _) = lease
            .name
            .split_once("/notifications/")
            .expect("its request");
        let name = name.to_owned();
        let parked = v1::AcknowledgeNotificationsRequest {
            acknowledgements: vec![v1::Acknowledgement {
                lease: Some(lease),
                outcome: v1::acknowledgement::Outcome::Park.into(),
                ..Default::default()
            }],
        };
        let mut client = NotificationServiceClient::new(self.channel.clone());
        let answer = within(client.acknowledge_notifications(self.request(parked))).await;
        answer.expect("parked");
        v1::ReleaseHoldRequest {
            comment: format!("asked {}", self.form.purpose),
            ..release_of(name)
        }
    }
}

fn release_of(name: String) -> v1::ReleaseHoldRequest {
    v1::ReleaseHoldRequest {
        name,
        request_id: make::request_id(),
        comment: "it may be sent".into(),
        ..Default::default()
    }
}
