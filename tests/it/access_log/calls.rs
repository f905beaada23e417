//! Which calls leave entries, and what stands in them.

use std::collections::BTreeSet;

use care_invitation::contract::{DESCRIPTOR_SET, v1};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::Code;

use super::{PATIENT, all, concerned, identity, listed, of, page};
use crate::consumer::{Consumer, everything, lease_one};
use crate::harness::{Harness, within};
use crate::make;
use crate::wire::{Wire, frame};

const NOW: &str = "2026-03-02T09:00:00Z";
const OTHER: &str = "191212121212";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// RPCs that show and change no patient's data.
const ABOUT_NOBODY: [&str; 3] = [
    "CareUnitSettingsService/GetCareUnitSettings",
    "CareUnitSettingsService/UpdateCareUnitSettings",
    "WorklistService/ListCareUnits",
];

fn form() -> v1::BookingRequest {
    make::wire_form("2026-03-09", "2026-04-30")
}

async fn created(harness: &Harness, form: v1::BookingRequest) -> String {
    harness
        .create(make::wire_create(form))
        .await
        .expect("created")
        .name
}

fn of_patient(number: &str, referral: &str) -> v1::BookingRequest {
    v1::BookingRequest {
        patient: form().patient.map(|it| v1::Patient {
            personal_id: number.into(),
            ..it
        }),
        origin: Some(make::wire_referral(referral)),
        ..form()
    }
}

/// A query of every list of the unit, for one patient.
fn query() -> v1::WorklistQuery {
    v1::WorklistQuery {
        worklists: vec![v1::Worklist::All.into()],
        care_units: vec![make::wire_unit()],
        personal_id: PATIENT.into(),
        personal_id_type: v1::PersonalIdType::Personnummer.into(),
        ..Default::default()
    }
}

/// A call of each RPC that is about the request of this name or about its patient.
fn calls(name: &str) -> Vec<(&'static str, Vec<u8>)> {
    let named = || v1::BookingRequest {
        name: name.into(),
        ..form()
    };
    let (name, parent) = (name.to_owned(), make::wire_unit());
    let lease = || v1::Lease {
        name: format!("{name}/notifications/{}", make::request_id()),
        lease_token: make::request_id(),
    };
    macro_rules! call {
        ($method:literal, $message:ident { $($field:ident: $value:expr),* $(,)? }) => {
            {
                let mut message = v1::$message::default();
                let it = &mut message;
                $(it.$field = $value;)*
                ($method, message.encode_to_vec())
            }
        };
    }
    vec![
        call!(
            "AuditService/ListAccessLog",
            ListAccessLogRequest {
                identity: Some(identity(PATIENT)),
            }
        ),
        call!(
            "BookingRequestService/CreateBookingRequest",
            CreateBookingRequestRequest {
                parent: parent.clone(),
                booking_request: Some(form()),
                request_id: make::request_id(),
                allow_duplicate: true,
            }
        ),
        call!(
            "BookingRequestService/GetBookingRequest",
            GetBookingRequestRequest { name: name.clone() }
        ),
        call!(
            "BookingRequestService/ChangeToInvitation",
            ChangeToInvitationRequest { name: name.clone() }
        ),
        call!(
            "BookingRequestService/RevokeInvitation",
            RevokeInvitationRequest { name: name.clone() }
        ),
        call!(
            "BookingRequestService/ChangeBookingRequest",
            ChangeBookingRequestRequest {
                booking_request: Some(named()),
            }
        ),
        call!(
            "BookingRequestService/RecordBooking",
            RecordBookingRequest { name: name.clone() }
        ),
        call!(
            "BookingRequestService/RecordBookingCancellation",
            RecordBookingCancellationRequest { name: name.clone() }
        ),
        call!(
            "BookingRequestService/RecordPatientContact",
            RecordPatientContactRequest { name: name.clone() }
        ),
        call!(
            "BookingRequestService/CancelBookingRequest",
            CancelBookingRequestRequest { name: name.clone() }
        ),
        call!(
            "BookingRequestService/ReleaseHold",
            ReleaseHoldRequest { name: name.clone() }
        ),
        call!(
            "BookingRequestService/BatchCreateBookingRequests",
            BatchCreateBookingRequestsRequest {
                requests: vec![make::wire_create(form())],
            }
        ),
        call!(
            "BookingRequestService/BatchChangeToInvitation",
            BatchChangeToInvitationRequest {
                requests: vec![make::wire_invite(&name)],
            }
        ),
        call!(
            "BookingRequestService/BatchCancelBookingRequests",
            BatchCancelBookingRequestsRequest {
                requests: vec![make::wire_cancel(&name)],
            }
        ),
        call!(
            "BookingRequestService/BatchReleaseHold",
            BatchReleaseHoldRequest {
                requests: vec![v1::ReleaseHoldRequest {
                    name: name.clone(),
                    request_id: make::request_id(),
                    ..Default::default()
                }],
            }
        ),
        call!(
            "BookingRequestService/UpdatePatient",
            UpdatePatientRequest {
                parent: parent.clone(),
                patient: form().patient,
            }
        ),
        call!(
            "BookingRequestService/ReplacePersonalId",
            ReplacePersonalIdRequest {
                old_identity: Some(identity(PATIENT)),
                new_identity: Some(identity(OTHER)),
            }
        ),
        call!(
            "BookingRequestService/PreviewNotifications",
            PreviewNotificationsRequest {
                parent: parent.clone(),
                booking_request: Some(form()),
            }
        ),
        call!(
            "BookingRequestService/EvaluateSlots",
            EvaluateSlotsRequest { name: name.clone() }
        ),
        call!(
            "BookingRequestService/ListHistory",
            ListHistoryRequest { name: name.clone() }
        ),
        call!(
            "BookingRequestService/StreamChanges",
            StreamChangesRequest {
                care_units: vec![parent.clone()],
                after_cursor: "0".into(),
                until_idle: true,
            }
        ),
        call!(
            "NotificationService/StreamDueNotifications",
            StreamDueNotificationsRequest { until_idle: true }
        ),
        call!(
            "NotificationService/AuthorizeDispatch",
            AuthorizeDispatchRequest {
                leases: vec![lease()],
            }
        ),
        call!(
            "NotificationService/AcknowledgeNotifications",
            AcknowledgeNotificationsRequest {
                acknowledgements: vec![v1::Acknowledgement {
                    lease: Some(lease()),
                    outcome: 1,
                    ..Default::default()
                }],
            }
        ),
        call!(
            "NotificationService/ReportDelivery",
            ReportDeliveryRequest {
                receipts: vec![v1::DeliveryReceipt {
                    name: lease().name,
                    receipt: 1,
                    event_time: None
                }],
            }
        ),
        call!(
            "NotificationService/ListNotifications",
            ListNotificationsRequest {
                care_units: vec![parent.clone()],
            }
        ),
        call!(
            "PatientService/ListPatientRequests",
            ListPatientRequestsRequest {
                identity: Some(identity(PATIENT)),
            }
        ),
        call!(
            "WorklistService/ListWorklist",
            ListWorklistRequest {
                query: Some(query()),
            }
        ),
        call!(
            "WorklistService/CountWorklists",
            CountWorklistsRequest {
                query: Some(query()),
            }
        ),
        call!(
            "WorklistService/WatchWorklist",
            WatchWorklistRequest {
                query: Some(query()),
            }
        ),
    ]
}

/// The RPCs of the contract, as the access log names them.
fn served() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(DESCRIPTOR_SET).expect("descriptors");
    let files = set
        .file
        .iter()
        .filter(|it| it.package() == "careinvitation.v1");
    let services = files.flat_map(|it| &it.service);
    services
        .flat_map(|service| {
            let methods = service.method.iter();
            methods.map(|it| format!("{}/{}", service.name(), it.name()))
        })
        .collect()
}

#[test]
fn every_rpc_is_known_to_leave_entries_or_to_be_about_nobody() {
    let calls = calls("").into_iter().map(|(method, _)| method);
    let known: BTreeSet<String> = calls.chain(ABOUT_NOBODY).map(str::to_owned).collect();
    assert_eq!(known, served());
}

#[tokio::test]
async fn every_rpc_about_a_patient_leaves_entries_with_its_outcome() {
    let harness = Harness::start(NOW).await;
    let wire = Wire::connect(harness.address).await;
    for place in 0..calls("").len() {
        let referral = format!("R-{place}");
        let name = created(&harness, of_patient(PATIENT, &referral)).await;
        let (method, message) = calls(&name).swap_remove(place);
        let path = format!("/careinvitation.v1.{method}");
        let watches = method == "WorklistService/WatchWorklist";
        let headers: &[_] = match watches {
            true => &[("grpc-timeout", "300m")],
            false => &[],
        };
        let status = wire.call(&path, headers, frame(0, &message)).await;
        // A stream shows messages before it ends.
        let code = match watches {
            true => Code::Ok,
            false => status.code(),
        };
        let entries = page(
            &harness,
            v1::ListAccessLogRequest {
                page_size: 500,
                ..Default::default()
            },
        )
        .await;
        let entries = entries.entries.into_iter().filter(|it| it.method == method);
        let about: Vec<_> = entries
            .filter(|it| {
                let who = concerned(it);
                who.iter()
                    .any(|(number, requests)| *number == PATIENT || requests.contains(&&*name))
            })
            .collect();
        assert!(!about.is_empty(), "{method} leaves nothing");
        let is_batch = is_batch(method);
        assert!(
            is_batch || about.iter().any(|it| it.code == i32::from(code)),
            "{method} ended with {code:?}: {:?}",
            about.iter().map(|it| it.code).collect::<Vec<_>>()
        );
    }
}

/// Whether the elements of a call have outcomes of their own.
fn is_batch(method: &str) -> bool {
    method.contains("/Batch")
        || [
            "/AuthorizeDispatch",
            "/AcknowledgeNotifications",
            "/ReportDelivery",
        ]
        .iter()
        .any(|it| method.ends_with(it))
}

#[tokio::test]
async fn a_call_is_logged_with_caller_time_unit_request_and_trace() {
    let harness = Harness::start(NOW).await;
    let name = created(&harness, form()).await;
    let mut call = tonic::Request::new(v1::GetBookingRequestRequest { name: name.clone() });
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    call.metadata_mut()
        .insert("traceparent", traceparent.parse().expect("metadata"));
    within(harness.requests().get_booking_request(call))
        .await
        .expect("found");
    let entries = of(&harness, PATIENT).await;
    let (read, create) = (&entries[0], &entries[1]);
    assert_eq!(entries.len(), 2);
    assert_eq!(read.method, "BookingRequestService/GetBookingRequest");
    assert_eq!(create.method, "BookingRequestService/CreateBookingRequest");
    assert_eq!(
        (read.trace_id.as_str(), create.trace_id.as_str()),
        (TRACE, "")
    );
    for entry in &entries {
        assert_eq!(
            (entry.subject.as_str(), entry.actor.as_str()),
            ("anonymous", "")
        );
        assert_eq!(entry.event_time, Some(make::wire_at(NOW)));
        assert_eq!(
            (entry.care_unit.clone(), entry.code),
            (make::wire_unit(), 0)
        );
        assert_eq!(concerned(entry), [(PATIENT, vec![name.as_str()])]);
        assert_eq!(entry.hash.len(), 64);
    }
    assert_eq!((create.sequence, read.sequence), (1, 2));
}

#[tokio::test]
async fn a_call_that_is_refused_leaves_an_entry_with_its_code() {
    let harness = Harness::start(NOW).await;
    let name = created(&harness, form()).await;
    let duplicate = harness
        .create(make::wire_create(form()))
        .await
        .expect_err("a duplicate");
    let missing = format!(
        "{}/bookingRequests/{}",
        make::wire_unit(),
        make::request_id()
    );
    let not_found = harness.get(&missing).await.expect_err("not found");
    let bad = v1::RecordBookingRequest {
        name: name.clone(),
        ..Default::default()
    };
    let invalid = harness.book(bad).await.expect_err("invalid");
    let codes = [invalid.code(), not_found.code(), duplicate.code(), Code::Ok];
    assert_eq!(
        codes,
        [
            Code::InvalidArgument,
            Code::NotFound,
            Code::AlreadyExists,
            Code::Ok
        ]
    );
    let entries = all(&harness).await;
    let logged: Vec<_> = entries.iter().map(|it| (it.code, concerned(it))).collect();
    assert_eq!(
        logged,
        [
            (3, vec![(PATIENT, vec![name.as_str()])]),
            (5, vec![("", vec![missing.as_str()])]),
            // The refusal names the other request.
            (6, vec![(PATIENT, vec![name.as_str()])]),
            (0, vec![(PATIENT, vec![name.as_str()])]),
        ]
    );
    // A number that is none names nobody.
    let nobody = harness
        .create(make::wire_create(of_patient("198003012386", "R-2")))
        .await;
    assert_eq!(nobody.expect_err("no number").code(), Code::InvalidArgument);
    assert_eq!(all(&harness).await.len(), 4);
}

#[tokio::test]
async fn elements_of_a_batch_have_their_own_outcomes() {
    let harness = Harness::start(NOW).await;
    let name = created(&harness, form()).await;
    let missing = format!(
        "{}/bookingRequests/{}",
        make::wire_unit(),
        make::request_id()
    );
    let call = v1::BatchCancelBookingRequestsRequest {
        requests: vec![make::wire_cancel(&missing), make::wire_cancel(&name)],
    };
    within(harness.requests().batch_cancel_booking_requests(call))
        .await
        .expect("answered");
    let entries = all(&harness).await;
    let batch = entries
        .iter()
        .filter(|it| it.method.ends_with("BatchCancelBookingRequests"));
    let batch: BTreeSet<_> = batch.map(|it| (it.code, concerned(it))).collect();
    let expected = [
        (0, vec![(PATIENT, vec![name.as_str()])]),
        (5, vec![("", vec![missing.as_str()])]),
    ];
    assert_eq!(batch, BTreeSet::from(expected));
}

#[tokio::test]
async fn a_page_leaves_one_entry_for_all_whom_it_shows() {
    let harness = Harness::start(NOW).await;
    let one = created(&harness, of_patient(PATIENT, "R-1")).await;
    let two = created(&harness, of_patient(PATIENT, "R-2")).await;
    let other = created(&harness, of_patient(OTHER, "R-3")).await;
    let list = v1::ListWorklistRequest {
        query: Some(v1::WorklistQuery {
            personal_id: String::new(),
            personal_id_type: 0,
            worklists: vec![v1::Worklist::CareInvitations.into()],
            ..query()
        }),
        ..Default::default()
    };
    within(harness.worklists().list_worklist(list))
        .await
        .expect("a page");
    let entries = all(&harness).await;
    assert_eq!(entries[0].method, "WorklistService/ListWorklist");
    let mut of_patient = [one.as_str(), two.as_str()];
    of_patient.sort_unstable();
    let mut shown = concerned(&entries[0]);
    shown.sort();
    assert_eq!(
        shown,
        [
            (OTHER, vec![other.as_str()]),
            (PATIENT, of_patient.to_vec())
        ]
    );
    // Who asks for one of them is not shown the other.
    let entries = of(&harness, OTHER).await;
    assert_eq!(concerned(&entries[0]), [(OTHER, vec![other.as_str()])]);
}

#[tokio::test]
async fn each_message_of_a_stream_leaves_an_entry_before_it_leaves() {
    let harness = Harness::start(NOW).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    let name = created(&harness, form()).await;
    consumer.due().await;
    let methods = |entries: Vec<v1::AccessLogEntry>| -> Vec<String> {
        entries.into_iter().map(|it| it.method).collect()
    };
    let logged = methods(of(&harness, PATIENT).await);
    assert!(
        logged.contains(&"NotificationService/StreamDueNotifications".to_owned()),
        "{logged:?}"
    );
    harness
        .cancel(make::wire_cancel(&name))
        .await
        .expect("cancelled");
    consumer.revoked().await;
    let streamed = methods(of(&harness, PATIENT).await);
    let streamed = streamed
        .iter()
        .filter(|it| it.ends_with("StreamDueNotifications"));
    assert_eq!(streamed.count(), 2);
}

#[tokio::test]
async fn what_consumers_answer_is_logged_for_the_patient() {
    let harness = Harness::start(NOW).await;
    let name = created(&harness, form()).await;
    let due = lease_one(&harness, 60).await;
    harness.acknowledge_sent(&[due]).await;
    let entries = of(&harness, PATIENT).await;
    assert_eq!(
        entries[0].method,
        "NotificationService/AcknowledgeNotifications"
    );
    assert_eq!(concerned(&entries[0]), [(PATIENT, vec![name.as_str()])]);
}

#[tokio::test]
async fn the_log_is_listed_by_patient_subject_unit_and_time_in_pages() {
    let harness = Harness::start(NOW).await;
    for number in 0..5 {
        created(&harness, of_patient(PATIENT, &format!("R-{number}"))).await;
    }
    harness.advance("2026-03-02T10:00:00Z");
    created(&harness, of_patient(OTHER, "R-9")).await;
    let query = |change: fn(&mut v1::ListAccessLogRequest)| {
        let mut query = v1::ListAccessLogRequest::default();
        change(&mut query);
        query
    };
    for (what, count, query) in [
        ("all", 6, query(|_| ())),
        (
            "of a patient",
            5,
            query(|it| it.identity = Some(identity(PATIENT))),
        ),
        (
            "of the other",
            1,
            query(|it| it.identity = Some(identity(OTHER))),
        ),
        (
            "of nobody",
            0,
            query(|it| it.identity = Some(identity("197302889930"))),
        ),
        (
            "of the subject",
            6,
            query(|it| it.subject = "anonymous".into()),
        ),
        ("of another", 0, query(|it| it.subject = "somebody".into())),
        (
            "of the unit",
            6,
            query(|it| it.care_unit = make::wire_unit()),
        ),
        (
            "of another",
            0,
            query(|it| it.care_unit = "careUnits/SE2321000131-P2".into()),
        ),
        (
            "from then on",
            1,
            query(|it| it.start_time = Some(make::wire_at("2026-03-02T10:00:00Z"))),
        ),
        (
            "until then",
            5,
            query(|it| it.end_time = Some(make::wire_at("2026-03-02T10:00:00Z"))),
        ),
    ] {
        // A valid number is asked for; one that is none is refused.
        let found = match harness.audit().list_access_log(query.clone()).await {
            Ok(_) => listed(&harness, query).await.len(),
            Err(status) => {
                assert_eq!(status.code(), Code::InvalidArgument, "{what}");
                0
            }
        };
        assert_eq!(found, count, "{what}");
    }
    let of_patient = v1::ListAccessLogRequest {
        identity: Some(identity(PATIENT)),
        page_size: 3,
        end_time: Some(make::wire_at("2026-03-02T10:00:00Z")),
        ..Default::default()
    };
    let first = page(&harness, of_patient.clone()).await;
    let next = v1::ListAccessLogRequest {
        page_token: first.next_page_token.clone(),
        ..of_patient
    };
    let second = page(&harness, next).await;
    assert_eq!(second.next_page_token, "");
    let entries = [first.entries, second.entries].concat();
    let sequences: Vec<_> = entries.iter().map(|it| it.sequence).collect();
    assert_eq!(sequences, [5, 4, 3, 2, 1]);
}

#[tokio::test]
async fn a_watch_logs_what_it_shows() {
    let harness = Harness::start(NOW).await;
    let name = created(&harness, form()).await;
    let call = v1::WatchWorklistRequest {
        query: Some(query()),
        ..Default::default()
    };
    let events = within(harness.worklists().watch_worklist(call)).await;
    let mut events = events.expect("a watch").into_inner();
    let event = within(events.message())
        .await
        .expect("an event")
        .expect("the first");
    assert!(matches!(
        event.event,
        Some(v1::watch_worklist_response::Event::Upserted(_))
    ));
    let entries = of(&harness, PATIENT).await;
    let watched = entries
        .iter()
        .find(|it| it.method == "WorklistService/WatchWorklist");
    assert_eq!(
        concerned(watched.expect("logged")),
        [(PATIENT, vec![name.as_str()])]
    );
}
