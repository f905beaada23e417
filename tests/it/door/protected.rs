//! Patients with protected identity: whoever has not the scope `patient.protected` is not shown their numbers, finds
//! nothing by them, and gets no message of theirs.

use care_invitation::contract::DESCRIPTOR_SET;
use care_invitation::contract::v1::audit_service_client::AuditServiceClient;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::contract::v1::patient_service_client::PatientServiceClient;
use care_invitation::contract::v1::stream_due_notifications_response::Event as Due;
use care_invitation::contract::v1::watch_worklist_response::Event;
use care_invitation::contract::v1::worklist_service_client::WorklistServiceClient;
use care_invitation::contract::v1::{self, DispatchRefusal, Protection};
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};
use prost_types::FieldMask;
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::bearing;
use super::calls::{Calls, OTHER};
use super::care_units::{Region, SCOPES};
use super::issuer::claims_with;
use super::raw;
use crate::harness::{refusal, within};
use crate::make;

/// The number of the patient with protected identity.
const NUMBER: &str = "197302889931";
/// How deep messages are looked into.
const DEPTH_MAX: usize = 6;

/// A service, a caller with the scope, and one without it.
struct Clinic {
    region: Region,
    with: String,
    without: String,
}

fn patient(protection: Protection) -> v1::Patient {
    v1::Patient {
        personal_id: NUMBER.into(),
        personal_id_type: v1::PersonalIdType::Samordningsnummer.into(),
        protection: protection.into(),
        ..Default::default()
    }
}

fn identity(number: &str) -> v1::PatientIdentity {
    let kind = match number {
        NUMBER => v1::PersonalIdType::Samordningsnummer,
        _ => v1::PersonalIdType::Personnummer,
    };
    v1::PatientIdentity {
        personal_id: number.into(),
        personal_id_type: kind.into(),
        ..Default::default()
    }
}

/// An invitation whose first message is due.
fn form(protection: Protection) -> v1::BookingRequest {
    v1::BookingRequest {
        patient: Some(patient(protection)),
        ..make::wire_form("2026-04-06", "2026-06-12")
    }
}

fn of_patient(number: &str) -> v1::WorklistQuery {
    let identity = identity(number);
    v1::WorklistQuery {
        care_units: vec![make::wire_unit()],
        worklists: vec![v1::Worklist::All.into()],
        personal_id: identity.personal_id,
        personal_id_type: identity.personal_id_type,
        ..Default::default()
    }
}

fn everybody() -> v1::WorklistQuery {
    v1::WorklistQuery {
        care_units: vec![make::wire_unit()],
        worklists: vec![v1::Worklist::AllInvitations.into()],
        ..Default::default()
    }
}

impl Clinic {
    async fn start() -> Self {
        let region = Region::start().await;
        let token = |scope: &str| {
            region
                .signer
                .token(&claims_with("scope", Some(json!(scope))))
        };
        Self {
            with: token(&format!("{SCOPES} audit.read patient.protected")),
            without: token(&format!("{SCOPES} audit.read")),
            region,
        }
    }

    fn requests(&self) -> BookingRequestServiceClient<tonic::transport::Channel> {
        BookingRequestServiceClient::new(self.region.channel.clone())
    }

    async fn try_create(
        &self,
        token: &str,
        call: v1::CreateBookingRequestRequest,
    ) -> Result<v1::BookingRequest, Status> {
        let answer = within(self.requests().create_booking_request(bearing(call, token))).await?;
        Ok(answer.into_inner().booking_request.expect("it"))
    }

    async fn create(&self, token: &str, form: v1::BookingRequest) -> v1::BookingRequest {
        let call = make::wire_create(form);
        self.try_create(token, call).await.expect("created")
    }

    async fn get(&self, token: &str, name: &str) -> v1::BookingRequest {
        let call = v1::GetBookingRequestRequest { name: name.into() };
        let answer = within(self.requests().get_booking_request(bearing(call, token))).await;
        answer
            .expect("there")
            .into_inner()
            .booking_request
            .expect("it")
    }

    async fn release(&self, token: &str, name: &str) {
        let call = v1::ReleaseHoldRequest {
            name: name.into(),
            request_id: make::request_id(),
            comment: "it may be sent".into(),
            ..Default::default()
        };
        within(self.requests().release_hold(bearing(call, token)))
            .await
            .expect("released");
    }

    /// Says what has been learned of the patient: the protection, or the death.
    async fn learn(&self, token: &str, call: &v1::UpdatePatientRequest) -> Vec<String> {
        let answer = within(self.requests().update_patient(bearing(call.clone(), token))).await;
        answer.expect("learned").into_inner().booking_requests
    }

    async fn listed(&self, token: &str, query: v1::WorklistQuery) -> Vec<v1::BookingRequest> {
        let call = v1::ListWorklistRequest {
            query: Some(query),
            include_total_size: true,
            ..Default::default()
        };
        let mut client = WorklistServiceClient::new(self.region.channel.clone());
        let page = within(client.list_worklist(bearing(call, token)))
            .await
            .expect("listed");
        let page = page.into_inner();
        assert_eq!(
            page.total_size,
            i64::try_from(page.booking_requests.len()).ok()
        );
        assert_eq!(page.next_page_token, "");
        page.booking_requests
    }

    async fn counted(&self, token: &str, query: v1::WorklistQuery) -> i64 {
        let call = v1::CountWorklistsRequest {
            query: Some(v1::WorklistQuery {
                worklists: Vec::new(),
                ..query
            }),
            by_care_unit: false,
        };
        let mut client = WorklistServiceClient::new(self.region.channel.clone());
        let counted = within(client.count_worklists(bearing(call, token))).await;
        let counts = counted.expect("counted").into_inner().counts;
        counts.iter().map(|it| it.count).sum()
    }

    /// What a watch begins with.
    async fn watched(&self, token: &str, query: v1::WorklistQuery) -> Vec<v1::BookingRequest> {
        let call = v1::WatchWorklistRequest {
            query: Some(query),
            ..Default::default()
        };
        let mut client = WorklistServiceClient::new(self.region.channel.clone());
        let watch = within(client.watch_worklist(bearing(call, token))).await;
        let mut watch = watch.expect("watched").into_inner();
        let mut seen = Vec::new();
        loop {
            let event = within(watch.message()).await.expect("an event");
            match event.expect("no end").event.expect("one") {
                Event::Upserted(request) => seen.push(request),
                Event::SnapshotComplete(_) => return seen,
                other => panic!("{other:?}"),
            }
        }
    }

    async fn shown_to_patient(&self, token: &str) -> Vec<String> {
        let call = v1::ListPatientRequestsRequest {
            identity: Some(identity(NUMBER)),
            page_size: 1,
            ..Default::default()
        };
        let mut client = PatientServiceClient::new(self.region.channel.clone());
        let listed = within(client.list_patient_requests(bearing(call, token))).await;
        let listed = listed.expect("listed").into_inner();
        assert!(listed.next_page_token.is_empty() || !listed.patient_requests.is_empty());
        listed
            .patient_requests
            .into_iter()
            .map(|it| it.name)
            .collect()
    }

    async fn replace(&self, token: &str, old: &str, new: &str) -> v1::ReplacePersonalIdResponse {
        let call = v1::ReplacePersonalIdRequest {
            old_identity: Some(identity(old)),
            new_identity: Some(identity(new)),
            request_id: make::request_id(),
        };
        let answer = within(self.requests().replace_personal_id(bearing(call, token))).await;
        answer.expect("replaced").into_inner()
    }

    async fn logged(&self, token: &str, of: Option<&str>) -> Vec<v1::AccessLogEntry> {
        self.logged_in_pages(token, of, 50).await
    }

    /// The whole log, in pages of so many entries.
    async fn logged_in_pages(
        &self,
        token: &str,
        of: Option<&str>,
        page_size: i32,
    ) -> Vec<v1::AccessLogEntry> {
        let mut call = v1::ListAccessLogRequest {
            identity: of.map(identity),
            page_size,
            ..Default::default()
        };
        let mut client = AuditServiceClient::new(self.region.channel.clone());
        let mut entries = Vec::new();
        loop {
            let listed = within(client.list_access_log(bearing(call.clone(), token))).await;
            let page = listed.expect("listed").into_inner();
            entries.extend(page.entries);
            if page.next_page_token.is_empty() {
                break;
            }
            call.page_token = page.next_page_token;
        }
        entries.retain(|it| it.method != "AuditService/ListAccessLog");
        entries
    }

    async fn due(&self, token: &str) -> Vec<v1::DueNotification> {
        let call = v1::StreamDueNotificationsRequest {
            until_idle: true,
            ..Default::default()
        };
        let mut client = NotificationServiceClient::new(self.region.channel.clone());
        let due = within(client.stream_due_notifications(bearing(call, token))).await;
        let mut due = due.expect("a stream").into_inner();
        let mut messages = Vec::new();
        while let Some(event) = within(due.message()).await.expect("an event") {
            if let Some(Due::Due(due)) = event.event {
                messages.push(due);
            }
        }
        messages
    }

    async fn authorized(&self, token: &str, due: &v1::DueNotification) -> DispatchRefusal {
        let call = v1::AuthorizeDispatchRequest {
            leases: vec![v1::Lease {
                name: due.notification.clone().expect("one").name,
                lease_token: due.lease_token.clone(),
            }],
        };
        let mut client = NotificationServiceClient::new(self.region.channel.clone());
        let answer = within(client.authorize_dispatch(bearing(call, token))).await;
        answer.expect("answered").into_inner().results[0].refusal()
    }
}

fn learned(protection: Protection) -> v1::UpdatePatientRequest {
    v1::UpdatePatientRequest {
        parent: "careUnits/-".into(),
        patient: Some(patient(protection)),
        update_mask: Some(FieldMask {
            paths: vec!["protection".into()],
        }),
        request_id: make::request_id(),
        ..Default::default()
    }
}

fn names(requests: &[v1::BookingRequest]) -> Vec<&str> {
    requests.iter().map(|it| it.name.as_str()).collect()
}

/// The same request as callers without the scope see it.
fn masked(mut request: v1::BookingRequest) -> v1::BookingRequest {
    let patient = request.patient.as_mut().expect("a patient");
    assert_eq!(patient.personal_id, NUMBER);
    assert!(!patient.personal_id_masked);
    patient.personal_id.clear();
    patient.personal_id_masked = true;
    request
}

/// Returns whether a message, or one within it, has a field for an identity number.
fn has_number(message: &MessageDescriptor, depth: usize) -> bool {
    message.fields().any(|field| match field.kind() {
        Kind::String => field.name().contains("personal_id"),
        Kind::Message(inner) => depth < DEPTH_MAX && has_number(&inner, depth + 1),
        _ => false,
    })
}

/// All that a call has been told, whatever came of it.
fn said(answer: &Result<Option<Vec<u8>>, Status>) -> Vec<u8> {
    match answer {
        Ok(message) => message.clone().unwrap_or_default(),
        Err(status) => {
            let metadata = format!("{:?}", status.metadata());
            [
                status.message().as_bytes(),
                status.details(),
                metadata.as_bytes(),
            ]
            .concat()
        }
    }
}

fn tells(answer: &Result<Option<Vec<u8>>, Status>) -> bool {
    let said = said(answer);
    said.windows(NUMBER.len()).any(|it| it == NUMBER.as_bytes())
}

#[tokio::test]
async fn no_answer_of_any_call_has_the_number_without_the_scope() {
    let clinic = Clinic::start().await;
    let calls = Calls {
        channel: clinic.region.channel.clone(),
        metadata: vec![("authorization", format!("Bearer {}", clinic.with))],
        form: form(Protection::ProtectedRegistration),
    };
    let pool = DescriptorPool::decode(DESCRIPTOR_SET).expect("descriptors");
    let methods = pool
        .services()
        .flat_map(|it| it.methods().collect::<Vec<_>>());
    for method in methods.collect::<Vec<_>>() {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let good = calls.good(method.name()).await;
        let ask = async |token: &str| {
            let call = bearing(good.clone(), token);
            raw::call(&clinic.region.channel, &path, call).await
        };
        // A write is repeated by the two that come after: who repeats it is shown what they may see.
        let first = ask(&clinic.without).await;
        assert!(!tells(&first), "{path}");
        let with = ask(&clinic.with).await;
        assert_eq!(
            tells(&with),
            has_number(&method.output(), 0),
            "{path}: {with:?}"
        );
        let again = ask(&clinic.without).await;
        assert!(!tells(&again), "{path}, a repeat");
    }
}

#[tokio::test]
async fn a_request_is_shown_without_the_number_and_with_everything_else() {
    let clinic = Clinic::start().await;
    let (with, without) = (&*clinic.with, &*clinic.without);
    for protection in [
        Protection::ConfidentialityMarked,
        Protection::ProtectedRegistration,
    ] {
        let call = v1::CreateBookingRequestRequest {
            allow_duplicate: true,
            ..make::wire_create(form(protection))
        };
        let shown = clinic
            .try_create(without, call.clone())
            .await
            .expect("created");
        let whole = clinic.try_create(with, call).await.expect("a repeat");
        assert!(shown == masked(whole.clone()));
        assert_eq!(shown.patient.expect("a patient").protection(), protection);
        let shown = clinic.get(without, &whole.name).await;
        assert!(shown == masked(whole));
    }
    // A list shows that there are some.
    let query = v1::WorklistQuery {
        worklists: vec![v1::Worklist::ManualHandling.into()],
        ..everybody()
    };
    let whole: Vec<_> = clinic.listed(with, query.clone()).await;
    assert_eq!(whole.len(), 2);
    let expected: Vec<_> = whole.into_iter().map(masked).collect();
    assert!(clinic.listed(without, query.clone()).await == expected);
    assert_eq!(
        clinic.counted(without, query.clone()).await,
        clinic.counted(with, query.clone()).await
    );
    let watched = clinic.watched(without, query).await;
    assert!(names(&watched) == names(&expected) && watched.iter().all(|it| expected.contains(it)));
    // Others are shown as ever.
    let other = clinic
        .create(with, make::wire_form("2026-04-06", "2026-06-12"))
        .await;
    assert!(other == clinic.get(without, &other.name).await);
}

#[tokio::test]
async fn nothing_is_found_by_the_number_without_the_scope() {
    let clinic = Clinic::start().await;
    let (with, without) = (&*clinic.with, &*clinic.without);
    let request = clinic.create(with, form(Protection::Unspecified)).await;
    clinic.due(with).await;
    for token in [with, without] {
        assert_eq!(
            names(&clinic.listed(token, of_patient(NUMBER)).await),
            [&*request.name]
        );
        assert_eq!(clinic.shown_to_patient(token).await, [&*request.name]);
    }
    let protect = learned(Protection::ConfidentialityMarked);
    assert_eq!(clinic.learn(without, &protect).await, [&*request.name]);
    // Whoever said it is answered the same again.
    assert_eq!(clinic.learn(without, &protect).await, [&*request.name]);
    clinic.release(with, &request.name).await;
    let all = v1::WorklistQuery {
        care_units: vec!["careUnits/-".into()],
        ..of_patient(NUMBER)
    };
    for (token, found) in [(with, vec![&*request.name]), (without, vec![])] {
        for query in [of_patient(NUMBER), all.clone()] {
            assert_eq!(names(&clinic.listed(token, query.clone()).await), found);
            assert_eq!(names(&clinic.watched(token, query.clone()).await), found);
            assert_eq!(clinic.counted(token, query).await > 0, !found.is_empty());
        }
        assert_eq!(clinic.shown_to_patient(token).await, found);
    }
    // Its referral, which is no identity number, finds it.
    let of_referral = v1::WorklistQuery {
        personal_id: String::new(),
        personal_id_type: 0,
        referral_id: "R-1".into(),
        ..of_patient(NUMBER)
    };
    assert_eq!(
        names(&clinic.listed(without, of_referral).await),
        [&*request.name]
    );
}

#[tokio::test]
async fn what_is_learned_without_the_scope_changes_nothing_as_if_nobody_had_the_number() {
    let died = v1::UpdatePatientRequest {
        deceased: true,
        update_mask: None,
        ..learned(Protection::Unspecified)
    };
    for call in [learned(Protection::Unspecified), died] {
        let clinic = Clinic::start().await;
        let (with, without) = (&*clinic.with, &*clinic.without);
        let request = clinic
            .create(with, form(Protection::ProtectedRegistration))
            .await;
        assert_eq!(clinic.learn(without, &call).await, [""; 0]);
        assert!(clinic.get(with, &request.name).await == request);
        let by_others = v1::UpdatePatientRequest {
            request_id: make::request_id(),
            ..call
        };
        assert_eq!(clinic.learn(with, &by_others).await, [&*request.name]);
    }
}

#[tokio::test]
async fn a_number_is_replaced_without_the_scope_where_it_is_found_and_protection_is_taken_all_the_same()
 {
    let clinic = Clinic::start().await;
    let (with, without) = (&*clinic.with, &*clinic.without);
    let hidden = clinic
        .create(with, form(Protection::ProtectedRegistration))
        .await;
    let nothing = v1::ReplacePersonalIdResponse::default();
    assert!(clinic.replace(without, NUMBER, OTHER).await == nothing);
    assert!(clinic.get(with, &hidden.name).await == hidden);

    // Somebody else's request moves to the number, beside one like it that the caller does not find.
    let mut found = make::wire_form("2026-04-06", "2026-06-12");
    found.patient.as_mut().expect("a patient").personal_id = OTHER.into();
    let call = v1::CreateBookingRequestRequest {
        allow_duplicate: true,
        ..make::wire_create(found)
    };
    let found = clinic.try_create(without, call).await.expect("created");
    let moved = clinic.replace(without, OTHER, NUMBER).await;
    assert_eq!(moved.booking_requests, [&*found.name]);
    assert_eq!(moved.with_open_duplicate, [""; 0]);
    let moved = clinic
        .get(with, &found.name)
        .await
        .patient
        .expect("a patient");
    assert_eq!(moved.personal_id, NUMBER);
    assert_eq!(moved.protection(), Protection::ProtectedRegistration);
    assert!(clinic.get(with, &hidden.name).await == hidden);
    assert!(clinic.due(with).await.is_empty());
}

/// The call that creates a request of the patient with this number, without protection.
fn create_of(number: &str) -> v1::CreateBookingRequestRequest {
    let mut form = form(Protection::Unspecified);
    let patient = form.patient.as_mut().expect("a patient");
    patient.personal_id = number.into();
    patient.personal_id_type = identity(number).personal_id_type;
    make::wire_create(form)
}

#[tokio::test]
async fn a_duplicate_is_refused_without_the_scope_whoever_the_patient_is() {
    let clinic = Clinic::start().await;
    let (with, without) = (&*clinic.with, &*clinic.without);
    let hidden = clinic
        .create(with, form(Protection::ConfidentialityMarked))
        .await;
    // The same for the right number and for any other: the answer tells no more than the list does.
    for number in [NUMBER, "198003012385", OTHER] {
        let refused = clinic
            .try_create(without, create_of(number))
            .await
            .expect_err("a duplicate");
        let duplicate = (Code::AlreadyExists, "DUPLICATE_REQUEST".to_owned());
        assert_eq!(refusal(&refused), duplicate);
        let details = refused.get_error_details();
        assert_eq!(
            details.error_info().expect("a reason").metadata["name"],
            hidden.name
        );
        let allowed = v1::CreateBookingRequestRequest {
            allow_duplicate: true,
            ..create_of(number)
        };
        clinic.try_create(without, allowed).await.expect("allowed");
    }
    // With the scope it is the patient that counts.
    let clinic = Clinic::start().await;
    let (with, without) = (&*clinic.with, &*clinic.without);
    clinic
        .create(with, form(Protection::ConfidentialityMarked))
        .await;
    clinic
        .try_create(with, create_of(OTHER))
        .await
        .expect("another patient");
    clinic
        .try_create(with, create_of(NUMBER))
        .await
        .expect_err("a duplicate");
    // Another referral is another matter.
    let mut call = create_of(NUMBER);
    let form = call.booking_request.as_mut().expect("a form");
    form.origin = Some(make::wire_referral("R-2"));
    clinic
        .try_create(without, call)
        .await
        .expect("another referral");
}

#[tokio::test]
async fn a_duplicate_that_a_refusal_names_is_logged_for_its_patient() {
    let clinic = Clinic::start().await;
    let (with, without) = (&*clinic.with, &*clinic.without);
    let hidden = clinic
        .create(with, form(Protection::ConfidentialityMarked))
        .await;
    clinic
        .try_create(without, create_of(OTHER))
        .await
        .expect_err("a duplicate");
    let mut elsewhere = create_of(OTHER);
    let form = elsewhere.booking_request.as_mut().expect("a form");
    form.origin = Some(make::wire_referral("R-2"));
    let batch = v1::BatchCreateBookingRequestsRequest {
        requests: vec![create_of(OTHER), elsewhere],
    };
    let call = bearing(batch, without);
    let answer = within(clinic.requests().batch_create_booking_requests(call)).await;
    let results = answer.expect("answered").into_inner().results;
    let error = results[0].error.as_ref().expect("a duplicate");
    assert_eq!(error.metadata["name"], hidden.name);
    let found = clinic.logged(with, Some(NUMBER)).await;
    let found: Vec<_> = found
        .iter()
        .map(|it| {
            let method = it.method.rsplit('/').next().expect("an RPC");
            (method, it.code, it.patients[0].booking_requests.as_slice())
        })
        .collect();
    let named = std::slice::from_ref(&hidden.name);
    let refused = i32::from(Code::AlreadyExists);
    assert_eq!(
        found,
        [
            ("BatchCreateBookingRequests", refused, named),
            ("CreateBookingRequest", refused, named),
            ("CreateBookingRequest", 0, named),
        ]
    );
    // It is not taken for one of the patient whom the call has named.
    let of_other = clinic.logged(with, Some(OTHER)).await;
    let names = of_other.iter().flat_map(|it| &it.patients);
    let mut names = names.flat_map(|it| &it.booking_requests);
    assert!(of_other.len() >= 3 && names.all(|it| *it != hidden.name));
}

#[tokio::test]
async fn a_due_message_of_one_goes_to_whoever_has_the_scope_alone() {
    let clinic = Clinic::start().await;
    let (with, without) = (&*clinic.with, &*clinic.without);
    let request = clinic
        .create(with, form(Protection::ProtectedRegistration))
        .await;
    clinic.release(without, &request.name).await;
    let other = clinic
        .create(with, make::wire_form("2026-04-06", "2026-06-12"))
        .await;
    let got = clinic.due(without).await;
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].booking_request, other.name);
    let due = clinic.due(with).await;
    assert_eq!(due.len(), 1);
    assert_eq!(
        (&due[0].booking_request, &*due[0].personal_id),
        (&request.name, NUMBER)
    );
    // The token of a lease does not help whoever has not the scope.
    assert_eq!(
        clinic.authorized(without, &due[0]).await,
        DispatchRefusal::Lost
    );
    assert_eq!(
        clinic.authorized(with, &due[0]).await,
        DispatchRefusal::Unspecified
    );
}

#[tokio::test]
async fn a_message_whose_patient_becomes_protected_is_not_handed_over_under_its_lease() {
    let clinic = Clinic::start().await;
    let (with, without) = (&*clinic.with, &*clinic.without);
    let request = clinic.create(with, form(Protection::Unspecified)).await;
    let due = clinic.due(without).await;
    assert_eq!(due.len(), 1);
    clinic
        .learn(with, &learned(Protection::ConfidentialityMarked))
        .await;
    assert_eq!(
        clinic.authorized(without, &due[0]).await,
        DispatchRefusal::Held
    );
    clinic.release(with, &request.name).await;
    assert_eq!(
        clinic.authorized(without, &due[0]).await,
        DispatchRefusal::Changed
    );
    assert!(clinic.due(without).await.is_empty());
    assert_eq!(clinic.due(with).await.len(), 1);
}

#[tokio::test]
async fn an_open_stream_is_told_of_no_message_that_is_not_for_it() {
    let clinic = Clinic::start().await;
    let (with, without) = (&*clinic.with, &*clinic.without);
    let call = v1::StreamDueNotificationsRequest::default();
    let mut client = NotificationServiceClient::new(clinic.region.channel.clone());
    let stream = within(client.stream_due_notifications(bearing(call, without))).await;
    let mut stream = stream.expect("a stream").into_inner();
    let hidden = clinic
        .create(with, form(Protection::ProtectedRegistration))
        .await;
    clinic.release(with, &hidden.name).await;
    let other = clinic
        .create(with, make::wire_form("2026-04-06", "2026-06-12"))
        .await;
    let event = within(stream.message())
        .await
        .expect("an event")
        .expect("no end");
    match event.event.expect("one") {
        Due::Due(due) => assert_eq!(due.booking_request, other.name),
        event => panic!("{event:?}"),
    }
    assert_eq!(clinic.due(with).await.len(), 1);
}

#[tokio::test]
async fn the_access_log_names_them_to_whoever_has_the_scope_alone() {
    let clinic = Clinic::start().await;
    let (with, without) = (&*clinic.with, &*clinic.without);
    let request = clinic.create(with, form(Protection::Unspecified)).await;
    assert_eq!(clinic.logged(without, Some(NUMBER)).await.len(), 1);
    clinic.replace(with, NUMBER, OTHER).await;
    let mut protect = learned(Protection::ConfidentialityMarked);
    let patient = protect.patient.as_mut().expect("a patient");
    patient.personal_id = OTHER.into();
    patient.personal_id_type = v1::PersonalIdType::Personnummer.into();
    clinic.learn(with, &protect).await;
    // Shown without its number, and logged with it.
    clinic.get(without, &request.name).await;
    for number in [NUMBER, OTHER] {
        assert!(!clinic.logged(with, Some(number)).await.is_empty());
    }
    assert!(clinic.logged(without, Some(OTHER)).await.is_empty());
    // The number that they had before is theirs.
    assert!(clinic.logged(without, Some(NUMBER)).await.is_empty());
    let whole = clinic.logged(with, None).await;
    let shown = clinic.logged(without, None).await;
    assert!(whole.len() >= 4 && whole.len() == shown.len());
    for (whole, shown) in whole.iter().zip(&shown) {
        let mut expected = whole.clone();
        expected.hash.clear();
        for patient in &mut expected.patients {
            patient.identity_masked = patient.identity.take().is_some();
        }
        assert!(*shown == expected, "{}", whole.method);
        assert!(!whole.hash.is_empty());
    }
    assert_eq!(shown[0].method, "BookingRequestService/GetBookingRequest");
    assert!(shown[0].patients[0].identity_masked);
}

#[tokio::test]
async fn the_access_log_masks_a_number_in_every_entry_however_many_a_page_has() {
    let clinic = Clinic::start().await;
    let (with, without) = (&*clinic.with, &*clinic.without);
    clinic
        .create(with, form(Protection::ProtectedRegistration))
        .await;
    // An entry that names the number and no request.
    clinic.shown_to_patient(without).await;
    clinic.replace(with, NUMBER, OTHER).await;
    for page_size in [1, 50] {
        let entries = clinic.logged_in_pages(without, None, page_size).await;
        assert!(entries.len() >= 3);
        for patient in entries.iter().flat_map(|it| &it.patients) {
            assert!(patient.identity_masked, "in pages of {page_size}");
        }
        for number in [NUMBER, OTHER] {
            let found = clinic.logged_in_pages(without, Some(number), page_size);
            assert!(found.await.is_empty(), "{number} in pages of {page_size}");
            let found = clinic.logged_in_pages(with, Some(number), page_size);
            assert!(!found.await.is_empty());
        }
    }
}

#[tokio::test]
async fn who_has_had_protected_identity_stays_masked_in_the_access_log() {
    let clinic = Clinic::start().await;
    let (with, without) = (&*clinic.with, &*clinic.without);
    let request = clinic
        .create(with, form(Protection::ConfidentialityMarked))
        .await;
    clinic.learn(with, &learned(Protection::Unspecified)).await;
    let shown = clinic.get(without, &request.name).await;
    assert_eq!(shown.patient.expect("a patient").personal_id, NUMBER);
    assert!(clinic.logged(without, Some(NUMBER)).await.is_empty());
    let entries = clinic.logged(without, None).await;
    let mut patients = entries.iter().flat_map(|it| &it.patients);
    assert!(entries.len() >= 3 && patients.all(|it| it.identity_masked));
}

#[tokio::test]
async fn patients_with_protected_identity_see_their_own_requests() {
    let clinic = Clinic::start().await;
    let (with, without) = (&*clinic.with, &*clinic.without);
    let request = clinic
        .create(with, form(Protection::ProtectedRegistration))
        .await;
    clinic.release(with, &request.name).await;
    clinic.due(with).await;
    let mut claims = claims_with("scope", Some(json!("patient.self")));
    claims["personal_id"] = json!(NUMBER);
    claims["personal_id_type"] = json!("SAMORDNINGSNUMMER");
    let token = clinic.region.signer.token(&claims);
    assert_eq!(clinic.shown_to_patient(&token).await, [&*request.name]);
    assert_eq!(clinic.shown_to_patient(without).await, [""; 0]);
    let mut call = make::wire_booking(&request.name, "2026-04-20T09:00:00Z");
    let booking = call.booking.as_mut().expect("a booking");
    booking.source = v1::BookingSource::Patient.into();
    booking.override_reason = String::new();
    let booked = within(clinic.requests().record_booking(bearing(call, &token))).await;
    let booked = booked
        .expect("booked")
        .into_inner()
        .booking_request
        .expect("it");
    assert!(booked.patient.is_none());
}
