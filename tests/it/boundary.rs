//! What holds for every call, whichever service it is for: failures below the handlers in the
//! contract's words, limits, deadlines and health.

use care_invitation::clock::Clock;
use care_invitation::contract::sandbox_v1;
use care_invitation::contract::sandbox_v1::clock_service_client::ClockServiceClient;
use care_invitation::grpc::middleware::Limits;
use care_invitation::grpc::middleware::load::Bounds;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_types::StatusExt;

use crate::consumer::{Consumer, at_most, everything};
use crate::harness::{Harness, refusal, within};
use crate::make;
use crate::wire::{Wire, frame};

const NOW: &str = "2026-03-02T09:00:00Z";
const CREATE: &str = "/careinvitation.v1.BookingRequestService/CreateBookingRequest";
const GET: &str = "/careinvitation.v1.BookingRequestService/GetBookingRequest";
const LIST: &str = "/careinvitation.v1.WorklistService/ListWorklist";
const STREAM: &str = "/careinvitation.v1.NotificationService/StreamDueNotifications";
pub const SERVICES: [&str; 6] = [
    "careinvitation.v1.AuditService",
    "careinvitation.v1.BookingRequestService",
    "careinvitation.v1.CareUnitSettingsService",
    "careinvitation.v1.NotificationService",
    "careinvitation.v1.PatientService",
    "careinvitation.v1.WorklistService",
];
pub const SANDBOX: &str = "careinvitation.sandbox.v1.ClockService";

fn malformed() -> (Code, String) {
    (Code::InvalidArgument, "MESSAGE_MALFORMED".to_owned())
}

fn unimplemented() -> (Code, String) {
    (Code::Unimplemented, "UNIMPLEMENTED".to_owned())
}

fn deadline_exceeded() -> (Code, String) {
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned())
}

#[tokio::test]
async fn bytes_that_are_not_the_message_are_malformed() {
    let harness = Harness::start(NOW).await;
    let wire = Wire::connect(harness.address).await;
    let bad_utf8 = [&[0x0a, 2][..], &[0xc3, 0x28]].concat();
    let too_deep = (0..200).fold(Vec::new(), |inner, _| {
        let mut message = vec![0x12];
        prost::encode_length_delimiter(inner.len(), &mut message).expect("room");
        [message, inner].concat()
    });
    for (what, body) in [
        ("no message at all", vec![]),
        ("half a prefix", vec![0, 0]),
        ("a field without an end", frame(0, &[0x0a, 9, b'x'])),
        ("no field number", frame(0, &[0x00])),
        ("a string that is not UTF-8", frame(0, &bad_utf8)),
        ("another wire type", frame(0, &[0x08, 1])),
        ("noise", frame(0, &[0xff; 64])),
        ("too little", frame(0, &[0x0a, 1, b'x'])[..6].to_vec()),
        ("a flag that means nothing", frame(2, &[])),
        ("compression that was not announced", frame(1, &[])),
        ("groups in groups", frame(0, &[0x0b; 200])),
        ("messages in messages", frame(0, &too_deep)),
    ] {
        for path in [CREATE, LIST] {
            let said = wire.call(path, &[], body.clone()).await;
            assert_eq!(refusal(&said), malformed(), "{what} to {path}");
        }
    }
    let said = wire.call(STREAM, &[], frame(0, &[0xff; 64])).await;
    assert_eq!(refusal(&said), malformed());
}

#[tokio::test]
async fn a_message_over_four_megabytes_is_malformed() {
    let harness = Harness::start(NOW).await;
    let wire = Wire::connect(harness.address).await;
    for size in [4 * 1_024 * 1_024 + 1, 0x7fff_ffff, u32::MAX] {
        let announced = [&[0], &size.to_be_bytes()[..], &[0; 16]].concat();
        let said = wire.call(CREATE, &[], announced).await;
        assert_eq!(refusal(&said), malformed(), "{size}");
    }
    let mut form = make::wire_form("2026-05-18", "2026-06-12");
    form.internal_comment = "x".repeat(5 * 1_024 * 1_024);
    let refused = harness.create(make::wire_create(form.clone())).await;
    assert_eq!(refusal(&refused.unwrap_err()), malformed());
    form.internal_comment = "x".repeat(4 * 1_024 * 1_024 - 1_024);
    let refused = harness.create(make::wire_create(form)).await;
    let reason = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
    assert_eq!(refusal(&refused.unwrap_err()), reason);
}

#[tokio::test]
async fn what_is_not_served_is_unimplemented() {
    let harness = Harness::start(NOW).await;
    let wire = Wire::connect(harness.address).await;
    for path in [
        "/careinvitation.v1.BookingRequestService/NoSuchMethod",
        "/careinvitation.v1.NoSuchService/GetBookingRequest",
        "/careinvitation.v1.BookingRequestService",
        "/careinvitation.v1.BookingRequestService/GetBookingRequest/",
        "/no.such.Service/Method",
        "/",
        "/198003012385",
    ] {
        let said = wire.call(path, &[], frame(0, &[])).await;
        assert_eq!(refusal(&said), unimplemented(), "{path}");
        assert!(!said.message().contains("1980"), "{}", said.message());
    }
}

#[tokio::test]
async fn compression_that_is_not_served_is_unimplemented() {
    let harness = Harness::start(NOW).await;
    let wire = Wire::connect(harness.address).await;
    for encoding in ["deflate", "no-such"] {
        let headers = [("grpc-encoding", encoding)];
        let said = wire.call(GET, &headers, frame(1, &[1, 2, 3])).await;
        assert_eq!(refusal(&said), unimplemented(), "{encoding}");
    }
}

#[tokio::test]
async fn a_call_whose_deadline_has_passed_says_so_and_its_repeat_succeeds() {
    let harness = Harness::start(NOW).await;
    let wire = Wire::connect(harness.address).await;
    let create = make::wire_create(make::wire_form("2026-05-18", "2026-06-12"));
    let body = frame(0, &create.encode_to_vec());
    for timeout in ["0n", "1n", "1u"] {
        let headers = [("grpc-timeout", timeout)];
        let said = wire.call(CREATE, &headers, body.clone()).await;
        assert_eq!(refusal(&said), deadline_exceeded(), "{timeout}");
    }
    let first = harness.create(create.clone()).await.expect("created");
    let again = harness.create(create).await.expect("created");
    assert_eq!(first.name, again.name);
    assert_eq!(harness.get(&first.name).await.expect("one"), again);
}

#[tokio::test]
async fn a_call_whose_body_never_comes_ends_at_its_deadline() {
    let harness = Harness::start(NOW).await;
    let wire = Wire::connect(harness.address).await;
    for path in [GET, STREAM] {
        let begun = wire.begin(path, &[("grpc-timeout", "50m")]).await;
        assert_eq!(refusal(&begun.end().await), deadline_exceeded(), "{path}");
    }
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline() {
    let harness = Harness::start(NOW).await;
    let wire = Wire::connect(harness.address).await;
    let headers = [("grpc-timeout", "50m")];
    let said = wire.call(STREAM, &headers, frame(0, &[])).await;
    assert_eq!(refusal(&said), deadline_exceeded());
}

#[tokio::test]
async fn a_deadline_that_is_not_understood_counts_as_none() {
    let harness = Harness::start(NOW).await;
    let wire = Wire::connect(harness.address).await;
    for timeout in ["", "m", "soon", "-1S", "123456789n", "5", "1å"] {
        let headers = [("grpc-timeout", timeout)];
        let said = wire.call(GET, &headers, frame(0, &[])).await;
        let reason = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
        assert_eq!(refusal(&said), reason, "{timeout:?}");
    }
}

#[tokio::test]
async fn too_many_calls_at_once_are_refused_until_a_place_is_free() {
    let limits = Limits {
        calls: Bounds::shared(1),
        streams: Bounds::shared(1),
        ..Limits::default()
    };
    let harness = Harness::with_limits(NOW, limits).await;
    let wire = Wire::connect(harness.address).await;
    // A call that has not ended, because its body has not.
    let begun = wire.begin(GET, &[]).await;
    // On the same connection, so that it comes after that one.
    let refused = wire.call(GET, &[], frame(0, &[])).await;
    assert_overloaded(&refused);
    let mut health = HealthClient::new(harness.channel.clone());
    let checked = within(health.check(HealthCheckRequest::default())).await;
    assert_eq!(checked.expect("healthy").into_inner(), serving());

    let ended = begun.finish(frame(0, &[])).await;
    assert_eq!(ended.code(), Code::InvalidArgument, "it was in flight");
    within(async {
        loop {
            let said = wire.call(GET, &[], frame(0, &[])).await;
            if said.code() == Code::InvalidArgument {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn too_many_streams_at_once_are_refused_until_a_place_is_free() {
    let limits = Limits {
        calls: Bounds::shared(1),
        streams: Bounds::shared(1),
        ..Limits::default()
    };
    let harness = Harness::with_limits(NOW, limits).await;
    let open = Consumer::open(&harness, everything()).await;
    let refused = Consumer::try_open(&harness, at_most(1)).await.err();
    assert_overloaded(&refused.expect("one is open"));
    let created = make::wire_create(make::wire_form("2026-05-18", "2026-06-12"));
    harness.create(created).await.expect("calls go on");
    drop(open);
    within(async { while Consumer::try_open(&harness, at_most(1)).await.is_err() {} }).await;
}

fn assert_overloaded(said: &Status) {
    let reason = (Code::ResourceExhausted, "OVERLOADED".to_owned());
    assert_eq!(refusal(said), reason);
    let details = said.get_error_details();
    let retry = details.retry_info().expect("when to try again");
    assert!(retry.retry_delay.is_some_and(|delay| !delay.is_zero()));
}

#[tokio::test]
async fn a_connection_that_speaks_something_else_disturbs_nobody() {
    let harness = Harness::start(NOW).await;
    for noise in [
        &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff",
        b"\x16\x03\x01\x00\x00",
    ] {
        let mut stream = TcpStream::connect(harness.address).await.expect("open");
        stream.write_all(noise).await.expect("written");
        stream.shutdown().await.expect("ended");
        let mut said = Vec::new();
        // Whatever it says, it ends.
        let _ = within(stream.read_to_end(&mut said)).await;
    }
    let nobody = format!("{}/bookingRequests/{}", make::wire_unit(), make::key().id);
    let refused = harness.get(&nobody).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn the_clock_service_does_not_exist_without_a_sandbox_clock() {
    let harness = Harness::on(Clock::real(), Limits::default()).await;
    let mut clock = ClockServiceClient::new(harness.channel.clone());
    let asked = within(clock.get_time(sandbox_v1::GetTimeRequest {})).await;
    assert_eq!(refusal(&asked.unwrap_err()), unimplemented());
    let move_on = sandbox_v1::AdvanceTimeRequest {
        server_time: Some(make::wire_at("2126-01-01T00:00:00Z")),
    };
    let moved = within(clock.advance_time(move_on)).await;
    assert_eq!(refusal(&moved.unwrap_err()), unimplemented());
    let mut health = HealthClient::new(harness.channel.clone());
    let checked = within(health.check(health_of(SANDBOX))).await;
    assert_eq!(checked.unwrap_err().code(), Code::NotFound);
}

fn health_of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

fn serving() -> HealthCheckResponse {
    HealthCheckResponse {
        status: ServingStatus::Serving.into(),
    }
}

#[tokio::test]
async fn health_is_told_for_the_whole_and_for_each_service() {
    let harness = Harness::start(NOW).await;
    let mut health = HealthClient::new(harness.channel.clone());
    for service in SERVICES.into_iter().chain([SANDBOX, ""]) {
        let checked = within(health.check(health_of(service))).await;
        let checked = checked.expect("a service").into_inner();
        assert_eq!(checked, serving(), "{service:?}");
        let watched = within(health.watch(health_of(service))).await;
        let mut watched = watched.expect("a stream").into_inner();
        let first = within(watched.message()).await.expect("an answer");
        assert_eq!(first, Some(serving()), "{service:?}");
    }
    let unknown = within(health.check(health_of("no.such.Service"))).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
}
