//! Who sees which care units: what a caller may not see is as if it were not there, whatever the call.

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::contract::v1::patient_service_client::PatientServiceClient;
use care_invitation::contract::v1::stream_due_notifications_response::Event as Due;
use care_invitation::contract::v1::watch_worklist_response::Event;
use care_invitation::contract::v1::worklist_service_client::WorklistServiceClient;
use prost::Message;
use prost_types::FieldMask;
use serde_json::json;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::issuer::{Signer, claims_with};
use super::scopes::required;
use super::tokens::trusting;
use super::{Guarded, bearing, raw};
use crate::harness::{refusal, within};
use crate::make;

/// The care unit of one caller, that of another, of another organisation, and one that has nothing.
const MINE: &str = make::CARE_UNIT;
const THEIRS: &str = "SE2321000016-P000000123457";
const EMPTY: &str = "SE2321000016-P000000999999";
/// The id of no request, nor of any message.
const NOBODYS: &str = "5f5b0c3e-7d0a-4c37-9d3e-1d1f4f3f8a11";
pub const SCOPES: &str =
    "booking.read booking.write worklist.read notification.deliver settings.write audit.read";

/// A service, and callers who see some care units each.
pub struct Region {
    _service: Guarded,
    pub signer: Signer,
    pub channel: Channel,
}

/// What a call is about.
#[derive(Clone)]
struct Target {
    unit: String,
    request: String,
    notification: String,
}

impl Target {
    /// Nothing, as if it were in this care unit.
    fn nothing_in(unit: &str) -> Self {
        let unit = format!("careUnits/{unit}");
        let request = format!("{unit}/bookingRequests/{NOBODYS}");
        let notification = format!("{request}/notifications/{NOBODYS}");
        Self {
            unit,
            request,
            notification,
        }
    }

    /// An answer with the names of this in place of those of another.
    fn renamed(&self, other: &Self, answer: &[u8]) -> Vec<u8> {
        let names = |it: &Self| [&it.notification, &it.request, &it.unit].map(String::clone);
        let mut answer = answer.to_vec();
        for (from, to) in names(other).iter().zip(names(self)) {
            assert_eq!(from.len(), to.len(), "names of the same length");
            while let Some(at) = answer
                .windows(from.len())
                .position(|it| it == from.as_bytes())
                && from.as_bytes() != to.as_bytes()
            {
                answer[at..at + from.len()].copy_from_slice(to.as_bytes());
            }
        }
        answer
    }
}

impl Region {
    pub async fn start() -> Self {
        let signer = Signer::ed("a");
        let service = trusting(&[&signer]).await;
        let channel = service.channel().await;
        Self {
            _service: service,
            signer,
            channel,
        }
    }

    /// The token of a caller who sees these care units.
    pub fn token(&self, care_units: &str) -> String {
        let mut claims = claims_with("care_units", Some(json!(care_units)));
        claims["scope"] = json!(SCOPES);
        self.signer.token(&claims)
    }

    /// An invitation in a care unit, whose first message is due.
    pub async fn invite(&self, unit: &str) -> v1::BookingRequest {
        let call = v1::CreateBookingRequestRequest {
            parent: format!("careUnits/{unit}"),
            allow_duplicate: true,
            ..make::wire_create(make::wire_form("2026-03-16", "2026-06-12"))
        };
        let mut client = BookingRequestServiceClient::new(self.channel.clone());
        let created = client.create_booking_request(bearing(call, &self.token(unit)));
        let created = within(created).await.expect("created").into_inner();
        created.booking_request.expect("it")
    }

    async fn target(&self, unit: &str) -> Target {
        let request = self.invite(unit).await;
        let invitation = request.care_invitation.expect("invited");
        Target {
            unit: format!("careUnits/{unit}"),
            request: request.name,
            notification: invitation.notifications[0].name.clone(),
        }
    }

    async fn answer(
        &self,
        path: &str,
        target: &Target,
        token: &str,
    ) -> Result<Option<Vec<u8>>, (Code, String, String)> {
        let call = bearing(message(path, target), token);
        let answer = raw::call(&self.channel, path, call).await;
        answer.map_err(|status: Status| {
            let (code, reason) = refusal(&status);
            (code, reason, status.message().to_owned())
        })
    }

    /// The units of the requests of the one patient of this test, as a call over all care units finds them.
    async fn units_on_list(&self, token: &str) -> Vec<String> {
        let call = v1::ListWorklistRequest {
            query: Some(everywhere()),
            ..Default::default()
        };
        let mut client = WorklistServiceClient::new(self.channel.clone());
        let listed = within(client.list_worklist(bearing(call, token))).await;
        let listed = listed.expect("listed").into_inner().booking_requests;
        listed.iter().map(|it| unit_of(&it.name)).collect()
    }

    async fn units_counted(&self, token: &str) -> Vec<String> {
        let call = v1::CountWorklistsRequest {
            query: Some(everywhere()),
            by_care_unit: true,
        };
        let mut client = WorklistServiceClient::new(self.channel.clone());
        let counted = within(client.count_worklists(bearing(call, token))).await;
        let counted = counted.expect("counted").into_inner();
        let total: i64 = counted.counts.iter().map(|it| it.count).sum();
        let units = counted.care_units.iter();
        let units: Vec<_> = units.map(|it| unit_of(&it.care_unit)).collect();
        assert_eq!(total, i64::try_from(units.len()).expect("few"));
        units
    }

    async fn units_named(&self, token: &str) -> Vec<String> {
        let mut client = WorklistServiceClient::new(self.channel.clone());
        let mut call = v1::ListCareUnitsRequest {
            page_size: 1,
            ..Default::default()
        };
        let mut units = Vec::new();
        loop {
            let listed = within(client.list_care_units(bearing(call.clone(), token))).await;
            let listed = listed.expect("listed").into_inner();
            units.extend(listed.care_units.iter().map(|it| unit_of(it)));
            call.page_token = listed.next_page_token;
            if call.page_token.is_empty() {
                // Their order is fixed, and says nothing.
                units.sort();
                return units;
            }
        }
    }

    async fn units_of_patient(&self, token: &str) -> Vec<String> {
        let call = v1::ListPatientRequestsRequest {
            identity: Some(v1::PatientIdentity {
                personal_id: "198003012385".into(),
                personal_id_type: v1::PersonalIdType::Personnummer.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut client = PatientServiceClient::new(self.channel.clone());
        let listed = within(client.list_patient_requests(bearing(call, token))).await;
        let listed = listed.expect("listed").into_inner().patient_requests;
        let mut units: Vec<_> = listed.iter().map(|it| unit_of(&it.name)).collect();
        units.sort();
        units
    }

    async fn units_watched(&self, token: &str) -> Vec<String> {
        let call = v1::WatchWorklistRequest {
            query: Some(everywhere()),
            ..Default::default()
        };
        let mut client = WorklistServiceClient::new(self.channel.clone());
        let watch = within(client.watch_worklist(bearing(call, token))).await;
        let mut watch = watch.expect("watched").into_inner();
        let mut units = Vec::new();
        loop {
            let event = within(watch.message())
                .await
                .expect("an event")
                .expect("no end");
            match event.event.expect("one") {
                Event::Upserted(request) => units.push(unit_of(&request.name)),
                Event::SnapshotComplete(_) => break,
                other => panic!("{other:?}"),
            }
        }
        units.sort();
        units
    }

    /// The same of messages that are due. Whoever gets them keeps them until their leases run out.
    pub async fn units_due(&self, token: &str) -> Vec<String> {
        let call = v1::StreamDueNotificationsRequest {
            until_idle: true,
            ..Default::default()
        };
        let mut client = NotificationServiceClient::new(self.channel.clone());
        let due = within(client.stream_due_notifications(bearing(call, token))).await;
        let mut due = due.expect("a stream").into_inner();
        let mut units = Vec::new();
        while let Some(event) = within(due.message()).await.expect("an event") {
            if let Some(Due::Due(due)) = event.event {
                units.push(unit_of(&due.booking_request));
            }
        }
        units.sort();
        units
    }
}

/// The one patient, in all care units.
fn everywhere() -> v1::WorklistQuery {
    v1::WorklistQuery {
        care_units: vec!["careUnits/-".into()],
        worklists: vec![v1::Worklist::AllInvitations.into()],
        personal_id: "198003012385".into(),
        personal_id_type: v1::PersonalIdType::Personnummer.into(),
        ..Default::default()
    }
}

fn unit_of(name: &str) -> String {
    name.split('/').nth(1).expect("a unit").to_owned()
}

/// A good message of a method about a target.
fn message(path: &str, target: &Target) -> Vec<u8> {
    let (name, parent) = (target.request.clone(), target.unit.clone());
    let invite = make::wire_invite(&name);
    let cancel = make::wire_cancel(&name);
    let create = v1::CreateBookingRequestRequest {
        parent: parent.clone(),
        allow_duplicate: true,
        ..make::wire_create(make::wire_form("2026-03-16", "2026-06-12"))
    };
    let release = v1::ReleaseHoldRequest {
        name: name.clone(),
        request_id: make::request_id(),
        comment: "they asked for it".into(),
        ..Default::default()
    };
    let booking = make::wire_booking(&name, "2026-03-20T09:00:00Z");
    let identity = |number: &str| v1::PatientIdentity {
        personal_id: number.into(),
        personal_id_type: v1::PersonalIdType::Personnummer.into(),
        ..Default::default()
    };
    let lease = v1::Lease {
        name: target.notification.clone(),
        lease_token: NOBODYS.into(),
    };
    let query = v1::WorklistQuery {
        care_units: vec![parent.clone()],
        worklists: vec![v1::Worklist::AllInvitations.into()],
        ..Default::default()
    };
    let mask = |path: &str| {
        Some(FieldMask {
            paths: vec![path.to_owned()],
        })
    };
    match path.rsplit_once('/').expect("a path").1 {
        "CreateBookingRequest" => create.encode_to_vec(),
        "GetBookingRequest" => v1::GetBookingRequestRequest { name }.encode_to_vec(),
        "ChangeToInvitation" => invite.encode_to_vec(),
        "RevokeInvitation" => v1::RevokeInvitationRequest {
            name,
            request_id: make::request_id(),
            ..Default::default()
        }
        .encode_to_vec(),
        "ChangeBookingRequest" => v1::ChangeBookingRequestRequest {
            booking_request: Some(v1::BookingRequest {
                name,
                purpose: "Näsa".into(),
                ..Default::default()
            }),
            update_mask: mask("purpose"),
            request_id: make::request_id(),
            reason: v1::ChangeReason::Medical.into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "RecordBooking" => booking.encode_to_vec(),
        "RecordBookingCancellation" => v1::RecordBookingCancellationRequest {
            name,
            request_id: make::request_id(),
            booking_id: "B-1".into(),
            reason: v1::BookingCancellationReason::CareUnit.into(),
            next: v1::record_booking_cancellation_request::Next::Requested.into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "RecordPatientContact" => v1::RecordPatientContactRequest {
            name,
            request_id: make::request_id(),
            outcome: v1::ContactOutcome::Other.into(),
            ..Default::default()
        }
        .encode_to_vec(),
        "CancelBookingRequest" => cancel.encode_to_vec(),
        "BatchCreateBookingRequests" => v1::BatchCreateBookingRequestsRequest {
            requests: vec![create],
        }
        .encode_to_vec(),
        "BatchChangeToInvitation" => v1::BatchChangeToInvitationRequest {
            requests: vec![invite],
        }
        .encode_to_vec(),
        "BatchCancelBookingRequests" => v1::BatchCancelBookingRequestsRequest {
            requests: vec![cancel],
        }
        .encode_to_vec(),
        "BatchReleaseHold" => v1::BatchReleaseHoldRequest {
            requests: vec![release],
        }
        .encode_to_vec(),
        "ReleaseHold" => release.encode_to_vec(),
        "UpdatePatient" => v1::UpdatePatientRequest {
            parent,
            patient: Some(v1::Patient {
                preferred_language: "fi".into(),
                ..make::wire_form("", "").patient.expect("a patient")
            }),
            update_mask: mask("preferred_language"),
            request_id: make::request_id(),
            ..Default::default()
        }
        .encode_to_vec(),
        "ReplacePersonalId" => v1::ReplacePersonalIdRequest {
            old_identity: Some(identity("198003012385")),
            new_identity: Some(identity("191212121212")),
            request_id: make::request_id(),
        }
        .encode_to_vec(),
        "PreviewNotifications" => v1::PreviewNotificationsRequest {
            parent,
            booking_request: create.booking_request,
        }
        .encode_to_vec(),
        "EvaluateSlots" => {
            let booking = booking.booking.expect("a booking");
            let slot = v1::Slot {
                start_time: booking.start_time,
                end_time: booking.end_time,
                ..Default::default()
            };
            let slots = vec![slot];
            let source = v1::BookingSource::Staff.into();
            v1::EvaluateSlotsRequest {
                name,
                slots,
                source,
            }
            .encode_to_vec()
        }
        "ListHistory" => v1::ListHistoryRequest {
            name,
            ..Default::default()
        }
        .encode_to_vec(),
        "ListWorklist" => v1::ListWorklistRequest {
            query: Some(query),
            include_total_size: true,
            ..Default::default()
        }
        .encode_to_vec(),
        "CountWorklists" => v1::CountWorklistsRequest {
            query: Some(query),
            by_care_unit: true,
        }
        .encode_to_vec(),
        "WatchWorklist" => v1::WatchWorklistRequest {
            query: Some(query),
            ..Default::default()
        }
        .encode_to_vec(),
        "StreamChanges" => v1::StreamChangesRequest {
            care_units: vec![parent],
            after_cursor: "0".into(),
            until_idle: true,
        }
        .encode_to_vec(),
        "StreamDueNotifications" => v1::StreamDueNotificationsRequest {
            care_units: vec![parent],
            until_idle: true,
            ..Default::default()
        }
        .encode_to_vec(),
        "AuthorizeDispatch" => v1::AuthorizeDispatchRequest {
            leases: vec![lease],
        }
        .encode_to_vec(),
        "AcknowledgeNotifications" => v1::AcknowledgeNotificationsRequest {
            acknowledgements: vec![v1::Acknowledgement {
                lease: Some(lease),
                outcome: v1::acknowledgement::Outcome::Sent.into(),
                ..Default::default()
            }],
        }
        .encode_to_vec(),
        "ReportDelivery" => v1::ReportDeliveryRequest {
            receipts: vec![v1::DeliveryReceipt {
                name: target.notification.clone(),
                receipt: v1::delivery_receipt::Receipt::Read.into(),
                event_time: None,
            }],
        }
        .encode_to_vec(),
        "ListNotifications" => v1::ListNotificationsRequest {
            care_units: vec![parent],
            ..Default::default()
        }
        .encode_to_vec(),
        "ListAccessLog" => v1::ListAccessLogRequest {
            care_unit: parent,
            ..Default::default()
        }
        .encode_to_vec(),
        "GetCareUnitSettings" => v1::GetCareUnitSettingsRequest {
            name: format!("{parent}/settings"),
        }
        .encode_to_vec(),
        "UpdateCareUnitSettings" => v1::UpdateCareUnitSettingsRequest {
            care_unit_settings: Some(v1::CareUnitSettings {
                name: format!("{parent}/settings"),
                lead_days: Some(28),
                ..Default::default()
            }),
            update_mask: mask("lead_days"),
            request_id: make::request_id(),
            ..Default::default()
        }
        .encode_to_vec(),
        other => {
            panic!("{other}: a new method needs a message here, about a request or a care unit")
        }
    }
}

/// How a method speaks of what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    /// By the name of a request or a message.
    Thing,
    /// By that of a care unit, in which it does or reads something.
    Unit,
    /// By care units among which it looks.
    Filter,
    /// Not at all.
    Nothing,
}

fn names(path: &str) -> Names {
    match path.rsplit_once('/').expect("a path").1 {
        "CreateBookingRequest"
        | "BatchCreateBookingRequests"
        | "PreviewNotifications"
        | "UpdatePatient"
        | "GetCareUnitSettings"
        | "UpdateCareUnitSettings" => Names::Unit,
        "ListWorklist"
        | "CountWorklists"
        | "WatchWorklist"
        | "StreamChanges"
        | "StreamDueNotifications"
        | "ListNotifications"
        | "ListAccessLog" => Names::Filter,
        "ListCareUnits"
        | "ListPatientRequests"
        | "ReplacePersonalId"
        | "GetTime"
        | "AdvanceTime" => Names::Nothing,
        _ => Names::Thing,
    }
}

#[tokio::test]
async fn what_a_caller_may_not_see_is_answered_like_what_is_not_there() {
    let region = Region::start().await;
    let (my_token, their_token) = (region.token(MINE), region.token(THEIRS));
    for (path, _) in required() {
        let named = names(&path);
        if named == Names::Nothing {
            continue;
        }
        let theirs = region.target(THEIRS).await;
        let said = region.answer(&path, &theirs, &my_token).await;
        match &said {
            Err((code, reason, _)) => {
                let expected = (Code::NotFound, "RESOURCE_NOT_FOUND");
                assert_eq!((*code, reason.as_str()), expected, "{path}");
            }
            Ok(_) => assert!(named != Names::Unit || path.contains("Batch"), "{path}"),
        }
        for unit in [MINE, THEIRS, EMPTY] {
            if unit == MINE && named != Names::Thing {
                continue;
            }
            let other = Target::nothing_in(unit);
            let renamed = said.clone();
            let renamed = renamed.map(|it| it.map(|it| other.renamed(&theirs, &it)));
            let said_of_other = region.answer(&path, &other, &my_token).await;
            assert_eq!(renamed, said_of_other, "{path} in {unit}");
        }
        // A lease that nobody has is lost to everybody.
        let is_by_lease = path.ends_with("Dispatch") || path.ends_with("AcknowledgeNotifications");
        let seen = region.answer(&path, &theirs, &their_token).await;
        assert_eq!(
            seen == said,
            is_by_lease,
            "{path} finds it for who may see it"
        );
    }
}

#[tokio::test]
async fn what_is_of_all_care_units_is_of_those_that_the_caller_may_see() {
    let also_theirs = "SE2321000016-P2";
    for (care_units, expected) in [
        ("*", vec![THEIRS, also_theirs, MINE]),
        (MINE, vec![MINE]),
        ("SE2321000016-*", vec![THEIRS, also_theirs]),
        ("SE2321000016-P2 SE2321000131-*", vec![also_theirs, MINE]),
        ("SE2321000016-P", vec![]),
        ("", vec![]),
    ] {
        let region = Region::start().await;
        for unit in [MINE, THEIRS, also_theirs] {
            region.invite(unit).await;
        }
        let token = region.token(care_units);
        assert_eq!(region.units_due(&token).await, expected, "{care_units}");
        let mut listed = region.units_on_list(&token).await;
        listed.sort();
        assert_eq!(listed, expected, "{care_units}");
        assert_eq!(region.units_counted(&token).await, expected, "{care_units}");
        assert_eq!(region.units_named(&token).await, expected, "{care_units}");
        // Whom no consumer has leased anything for is not invited yet.
        region.units_due(&region.token("*")).await;
        assert_eq!(
            region.units_of_patient(&token).await,
            expected,
            "{care_units}"
        );
        assert_eq!(region.units_watched(&token).await, expected, "{care_units}");
    }
}

#[tokio::test]
async fn a_patient_is_changed_where_the_caller_may_see_them() {
    let region = Region::start().await;
    for unit in [MINE, THEIRS] {
        region.invite(unit).await;
    }
    let (mine, all) = (region.token(MINE), region.token("*"));
    let mut client = BookingRequestServiceClient::new(region.channel.clone());
    let everywhere = Target {
        unit: "careUnits/-".into(),
        ..Target::nothing_in(MINE)
    };
    let call = message("/UpdatePatient", &everywhere);
    let call = v1::UpdatePatientRequest::decode(&*call).expect("as it was made");
    let updated = within(client.update_patient(bearing(call.clone(), &mine))).await;
    let updated = updated.expect("updated").into_inner().booking_requests;
    assert_eq!(
        updated.iter().map(|it| unit_of(it)).collect::<Vec<_>>(),
        [MINE]
    );
    let again = within(client.update_patient(bearing(call, &mine))).await;
    assert_eq!(
        again.expect("a repeat").into_inner().booking_requests,
        updated
    );

    let call = message("/ReplacePersonalId", &everywhere);
    let call = v1::ReplacePersonalIdRequest::decode(&*call).expect("as it was made");
    let moved = within(client.replace_personal_id(bearing(call, &mine))).await;
    let moved = moved.expect("moved").into_inner().booking_requests;
    assert_eq!(moved, updated);
    assert_eq!(region.units_on_list(&all).await, [THEIRS]);
}
