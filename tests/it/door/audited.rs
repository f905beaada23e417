//! The access log behind the door: whom it names, and who may read which of it.

use care_invitation::contract::v1;
use care_invitation::contract::v1::audit_service_client::AuditServiceClient;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use serde_json::json;
use tonic::Code;
use tonic::transport::Channel;

use super::issuer::{Signer, claims, claims_with};
use super::tokens::trusting;
use super::{ask, bearing, with};
use crate::harness::within;
use crate::make;

const MINE: &str = make::CARE_UNIT;
const THEIRS: &str = "SE2321000016-P000000123457";
const PATIENT: &str = "198003012385";

/// The token of somebody who reads the access log of these care units.
fn auditor(signer: &Signer, care_units: &str) -> String {
    let mut claims = claims_with("care_units", Some(json!(care_units)));
    claims["scope"] = json!("audit.read");
    claims["sub"] = json!("auditor");
    signer.token(&claims)
}

/// Entries but those of audits, the newest first.
async fn listed(
    channel: &Channel,
    token: &str,
    query: v1::ListAccessLogRequest,
) -> Vec<v1::AccessLogEntry> {
    let mut client = AuditServiceClient::new(channel.clone());
    let answer = within(client.list_access_log(bearing(query, token))).await;
    let mut entries = answer.expect("a page").into_inner().entries;
    entries.retain(|it| it.subject != "auditor");
    entries
}

fn create(unit: &str) -> v1::CreateBookingRequestRequest {
    v1::CreateBookingRequestRequest {
        parent: format!("careUnits/{unit}"),
        ..make::wire_create(make::wire_form("2026-03-16", "2026-06-12"))
    }
}

#[tokio::test]
async fn a_call_that_is_refused_for_its_scope_names_its_caller() {
    let signer = Signer::ed("a");
    let service = trusting(&[&signer]).await;
    let channel = service.channel().await;
    let scope = json!("booking.read actor");
    let token = signer.token(&claims_with("scope", Some(scope)));
    let metadata = [
        ("authorization", format!("Bearer {token}")),
        ("actor-type", "STAFF".to_owned()),
        ("actor-id", "SE2321000131-E1".to_owned()),
    ];
    let metadata = metadata.iter().map(|(name, value)| (*name, value.as_str()));
    let mut client = BookingRequestServiceClient::new(channel.clone());
    let call = with(create(MINE), &metadata.collect::<Vec<_>>());
    let refused = within(client.create_booking_request(call)).await;
    let refused = refused.expect_err("booking.write is missing");
    assert_eq!(refused.code(), Code::PermissionDenied);
    // Nobody is known to have called.
    ask(&channel, &[]).await;

    let everything = v1::ListAccessLogRequest::default();
    let entries = listed(&channel, &auditor(&signer, "*"), everything).await;
    let [entry] = entries.as_slice() else {
        panic!("one entry, not {}", entries.len());
    };
    assert_eq!(entry.subject, "booking-system");
    assert_eq!(entry.actor, "STAFF:SE2321000131-E1");
    assert_eq!(entry.method, "BookingRequestService/CreateBookingRequest");
    assert_eq!(entry.code, i32::from(Code::PermissionDenied));
    assert_eq!(entry.care_unit, "");
    assert!(entry.patients.is_empty(), "it was not read");
}

#[tokio::test]
async fn a_call_that_is_refused_for_its_actor_names_its_caller() {
    let signer = Signer::ed("a");
    let service = trusting(&[&signer]).await;
    let channel = service.channel().await;
    let token = |scope: &str| {
        let token = signer.token(&claims_with("scope", Some(json!(scope))));
        format!("Bearer {token}")
    };
    let (acting, alone) = (token("booking.read actor"), token("booking.read"));
    let mut client = BookingRequestServiceClient::new(channel.clone());
    for metadata in [
        &[("authorization", acting.as_str())][..],
        &[("authorization", &acting), ("actor-type", "STAFF")],
        &[
            ("authorization", &alone),
            ("actor-type", "STAFF"),
            ("actor-id", "SE2321000131-E1"),
        ],
    ] {
        let call = v1::GetBookingRequestRequest {
            name: format!("careUnits/{MINE}/bookingRequests/{}", make::request_id()),
        };
        let refused = within(client.get_booking_request(with(call, metadata))).await;
        let refused = refused.expect_err("the actor is not named as it must be");
        assert_eq!(refused.code(), Code::InvalidArgument);
    }

    let everything = v1::ListAccessLogRequest::default();
    let entries = listed(&channel, &auditor(&signer, "*"), everything).await;
    assert_eq!(entries.len(), 3);
    for entry in entries {
        assert_eq!(entry.subject, "booking-system");
        assert_eq!(entry.actor, "");
        assert_eq!(entry.method, "BookingRequestService/GetBookingRequest");
        assert_eq!(entry.code, i32::from(Code::InvalidArgument));
        assert!(entry.patients.is_empty(), "it was not read");
    }
}

#[tokio::test]
async fn an_auditor_sees_the_entries_of_their_care_units_alone() {
    let signer = Signer::ed("a");
    let service = trusting(&[&signer]).await;
    let channel = service.channel().await;
    let staff = signer.token(&claims());
    let mut client = BookingRequestServiceClient::new(channel.clone());
    for unit in [MINE, THEIRS] {
        let made = within(client.create_booking_request(bearing(create(unit), &staff))).await;
        made.expect("created");
    }
    let moved = v1::ReplacePersonalIdRequest {
        old_identity: Some(identity("191212121212")),
        new_identity: Some(identity(PATIENT)),
        request_id: make::request_id(),
    };
    // Finds nothing, so that no care unit has part in it.
    within(client.replace_personal_id(bearing(moved, &staff)))
        .await
        .expect("none");

    let of_patient = v1::ListAccessLogRequest {
        identity: Some(identity(PATIENT)),
        ..Default::default()
    };
    let (mine, theirs) = (format!("careUnits/{MINE}"), format!("careUnits/{THEIRS}"));
    for query in [of_patient, v1::ListAccessLogRequest::default()] {
        for (care_units, expected) in [
            (MINE, vec![mine.as_str()]),
            ("SE2321000016-*", vec![&theirs]),
            ("SE2321000016-P2", vec![]),
            ("", vec![]),
            ("*", vec!["", &mine, &theirs]),
        ] {
            let token = auditor(&signer, care_units);
            let entries = listed(&channel, &token, query.clone()).await;
            let mut units: Vec<_> = entries.iter().map(|it| it.care_unit.as_str()).collect();
            units.sort_unstable();
            let mut expected = expected;
            expected.sort_unstable();
            assert_eq!(units, expected, "{care_units}");
        }
    }
}

fn identity(number: &str) -> v1::PatientIdentity {
    v1::PatientIdentity {
        personal_id: number.into(),
        personal_id_type: v1::PersonalIdType::Personnummer.into(),
        ..Default::default()
    }
}
