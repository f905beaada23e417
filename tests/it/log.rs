//! The line that the log has for each call.

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use tonic::{Code, Request};

use crate::consumer::{self, Consumer};
use crate::harness::{Harness, within};
use crate::logged::Log;
use crate::make;

const NOW: &str = "2026-03-02T09:00:00Z";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const REQUEST: &str = "3f0c8a52-6d1e-4b7a-9c35-5a1f0e7d2a01";

/// Asks for a request that is not there, with these headers.
async fn ask(harness: &Harness, headers: &[(&'static str, &str)]) {
    let name = format!("{}/bookingRequests/{}", make::wire_unit(), make::key().id);
    let mut call = Request::new(v1::GetBookingRequestRequest { name });
    for (header, value) in headers {
        let value = value.parse().expect("a value");
        call.metadata_mut().insert(*header, value);
    }
    let mut client = BookingRequestServiceClient::new(harness.channel.clone());
    let refused = within(client.get_booking_request(call)).await;
    assert_eq!(refused.expect_err("not found").code(), Code::NotFound);
}

/// The lines of ended calls of a method, once there are so many.
async fn ended(log: &Log, method: &str, count: usize) -> Vec<String> {
    within(async {
        loop {
            let lines = log.lines("call ended").into_iter();
            let lines: Vec<_> = lines.filter(|it| it.contains(method)).collect();
            if lines.len() >= count {
                return lines;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn each_call_is_one_line_with_caller_code_duration_request_and_trace() {
    let log = Log::default();
    let _listening = log.listen();
    let harness = Harness::start(NOW).await;
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    ask(
        &harness,
        &[
            ("traceparent", &traceparent),
            ("x-request-id", REQUEST),
            ("actor-type", "STAFF"),
            ("actor-id", "SE2321000131-E000000000001"),
        ],
    )
    .await;
    let lines = ended(&log, "GetBookingRequest", 1).await;
    let [line] = &lines[..] else {
        panic!("{lines:?}");
    };
    for said in [
        "INFO",
        "rpc.method=\"careinvitation.v1.BookingRequestService/GetBookingRequest\"",
        "rpc.response.status_code=\"NOT_FOUND\"",
        "enduser.id=\"anonymous\"",
        "actor_type=\"STAFF\"",
        "duration_seconds=0.",
        &format!("request_id={REQUEST}"),
        &format!("trace_id=\"{TRACE}\""),
    ] {
        assert!(line.contains(said), "{said} in {line}");
    }
    assert!(
        !line.contains("E000000000001"),
        "the actor is no more than a type: {line}"
    );
}

#[tokio::test]
async fn ids_that_are_not_of_their_form_are_no_part_of_the_line() {
    let log = Log::default();
    let _listening = log.listen();
    let harness = Harness::start(NOW).await;
    ask(
        &harness,
        &[
            ("traceparent", "00-198003012385-00f067aa0ba902b7-01"),
            ("x-request-id", "198003012385"),
        ],
    )
    .await;
    let lines = ended(&log, "GetBookingRequest", 1).await;
    assert!(!lines[0].contains("trace_id") && !lines[0].contains("request_id"));
    assert!(log.lines("8003012385").is_empty());
}

#[tokio::test]
async fn a_stream_is_a_line_when_it_has_ended() {
    let log = Log::default();
    let _listening = log.listen();
    let harness = Harness::start(NOW).await;
    let consumer = Consumer::open(&harness, consumer::everything()).await;
    assert!(log.lines("StreamDueNotifications").is_empty());
    drop(consumer);
    let lines = ended(&log, "StreamDueNotifications", 1).await;
    let code = "rpc.response.status_code=\"CANCELLED\"";
    assert!(lines[0].contains(code), "{}", lines[0]);
}
