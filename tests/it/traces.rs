//! Traces of calls: what a collector is given of them, what consumers are told, and that nobody waits for the collector.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use care_invitation::telemetry::traces::Traces;
use http::HeaderMap;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tonic::{Code, Request};

use crate::backend::Kind;
use crate::collector::{Collector, attribute, hex, traces_to};
use crate::consumer::{self, Consumer};
use crate::harness::{Harness, within};
use crate::logged::Log;
use crate::make;

const NOW: &str = "2026-03-02T09:00:00Z";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const CREATE: &str = "careinvitation.v1.BookingRequestService/CreateBookingRequest";
const GET: &str = "careinvitation.v1.BookingRequestService/GetBookingRequest";
const DUE: &str = "careinvitation.v1.NotificationService/StreamDueNotifications";

/// A time in which nobody has waited for a collector.
const SOON: Duration = Duration::from_secs(3);

/// The header of a caller that samples, or does not.
fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

/// A call with these headers.
fn with<T>(message: T, headers: &[(&'static str, &str)]) -> Request<T> {
    let mut call = Request::new(message);
    for (name, value) in headers {
        let value = value.parse().expect("a value");
        call.metadata_mut().insert(*name, value);
    }
    call
}

/// Creates an invitation whose first message is due at once.
async fn invite(harness: &Harness, headers: &[(&'static str, &str)]) -> v1::BookingRequest {
    let mut form = make::wire_form("2026-03-16", "2026-06-12");
    form.origin = Some(make::wire_referral(&make::request_id()));
    let call = with(make::wire_create(form), headers);
    let mut client = BookingRequestServiceClient::new(harness.channel.clone());
    let answer = within(client.create_booking_request(call)).await;
    let created = answer.expect("created").into_inner();
    created.booking_request.expect("the request")
}

/// Asks for a request that is not there.
async fn miss(harness: &Harness, headers: &[(&'static str, &str)]) {
    let name = format!("{}/bookingRequests/{}", make::wire_unit(), make::key().id);
    let call = with(v1::GetBookingRequestRequest { name }, headers);
    let mut client = BookingRequestServiceClient::new(harness.channel.clone());
    let refused = within(client.get_booking_request(call)).await;
    assert_eq!(refused.expect_err("not found").code(), Code::NotFound);
}

/// Stops the service, which exports what has ended.
async fn stop(harness: Harness) {
    harness.shutdown.cancel();
    within(harness.server).await.expect("it ends");
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|it| it.name == name).collect()
}

/// The one span of this name.
fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    match named(spans, name)[..] {
        [span] => span,
        ref others => panic!("{name}: {others:#?}"),
    }
}

#[tokio::test]
async fn a_call_is_a_span_by_the_conventions_below_its_callers() {
    let collector = Collector::start().await;
    let harness = Harness::traced(NOW, collector.traces()).await;
    let parent = traceparent("01");
    let state = ("tracestate", "rojo=00f067aa0ba902b7,pnr=198003012385");
    invite(&harness, &[("traceparent", &parent), state]).await;
    miss(&harness, &[]).await;
    stop(harness).await;
    let spans = collector.spans();

    let create = one(&spans, CREATE);
    assert_eq!(hex(&create.trace_id), TRACE);
    assert_eq!(hex(&create.parent_span_id), CALLER);
    assert_eq!(create.kind(), SpanKind::Server);
    assert_eq!(create.trace_state, "rojo=00f067aa0ba902b7");
    assert!(create.start_time_unix_nano < create.end_time_unix_nano);
    for (key, value) in [
        ("rpc.system.name", "grpc"),
        ("rpc.method", CREATE),
        ("rpc.response.status_code", "OK"),
        ("error.type", ""),
    ] {
        assert_eq!(attribute(&create.attributes, key), value, "{key}");
    }

    let get = one(&spans, GET);
    assert!(get.parent_span_id.is_empty(), "it begins here");
    assert_ne!(hex(&get.trace_id), TRACE);
    let code = attribute(&get.attributes, "rpc.response.status_code");
    assert_eq!(code, "NOT_FOUND");
    let failed = |span: &Span| {
        span.status
            .clone()
            .is_some_and(|it| it.code() == StatusCode::Error)
    };
    assert!(
        !failed(get),
        "a caller's mistake is no failure of the service"
    );

    assert_eq!(collector.resource("service.name"), "care-invitation");
    let version = collector.resource("service.version");
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    assert!(!collector.text().contains("8003012385"));
}

#[tokio::test]
async fn what_a_call_waits_for_are_spans_below_it() {
    let collector = Collector::start().await;
    let harness = Harness::traced(NOW, collector.traces()).await;
    let created = invite(&harness, &[]).await;
    harness.get(&created.name).await.expect("there");
    stop(harness).await;
    let spans = collector.spans();
    let below = |above: &Span| -> BTreeSet<&str> {
        let is_below =
            |it: &&Span| it.parent_span_id == above.span_id && it.trace_id == above.trace_id;
        spans.iter().filter(is_below).map(|it| &*it.name).collect()
    };
    let create = one(&spans, CREATE);
    let waits = ["access log", "batch", "queue"];
    assert_eq!(below(create), BTreeSet::from(waits));
    let is_of = |it: &&Span| it.parent_span_id == create.span_id && it.name == "batch";
    let batch = spans.iter().find(is_of).expect("a batch");
    let operations = attribute(&batch.attributes, "care_invitation.batch.operations");
    assert_eq!(operations, "1");
    assert_eq!(below(batch), BTreeSet::from(["transaction"]));
    let get = one(&spans, GET);
    assert_eq!(below(get), BTreeSet::from(["access log", "read"]));
    let system = match Kind::of_this_run() {
        Kind::Sqlite => "sqlite",
        Kind::Postgres => "postgresql",
    };
    for name in ["transaction", "read"] {
        for asked in named(&spans, name) {
            assert_eq!(asked.kind(), SpanKind::Client);
            assert_eq!(attribute(&asked.attributes, "db.system.name"), system);
        }
    }
}

#[tokio::test]
async fn callers_decide_which_of_their_traces_are_sampled_and_a_ratio_which_of_ours() {
    let collector = Collector::start().await;
    for (ratio, flags, sampled) in [
        (1_000_000, None, true),
        (1_000_000, Some("00"), false),
        (0, None, false),
        (0, Some("01"), true),
    ] {
        let harness = Harness::traced(NOW, traces_to(collector.address, ratio)).await;
        let parent = flags.map(traceparent);
        let headers = parent.iter().map(|it| ("traceparent", &**it));
        let before = collector.spans().len();
        miss(&harness, &headers.collect::<Vec<_>>()).await;
        stop(harness).await;
        let spans = collector.spans().len() - before;
        assert_eq!(spans > 0, sampled, "{ratio} {flags:?}: {spans}");
    }
}

#[tokio::test]
async fn the_line_of_a_call_names_the_trace_that_begins_with_it() {
    let log = Log::default();
    let _listening = log.listen();
    let collector = Collector::start().await;
    let harness = Harness::traced(NOW, collector.traces()).await;
    miss(&harness, &[]).await;
    stop(harness).await;
    let spans = collector.spans();
    let trace = format!("trace_id=\"{}\"", hex(&one(&spans, GET).trace_id));
    let lines = log.lines("call ended");
    assert!(
        lines.iter().any(|it| it.contains(&trace)),
        "{trace} in {lines:?}"
    );
}

#[tokio::test]
async fn a_due_message_names_the_span_of_its_claim_which_is_linked_to_the_stream() {
    let collector = Collector::start().await;
    let harness = Harness::traced(NOW, collector.traces()).await;
    invite(&harness, &[]).await;
    let mut consumer = Consumer::open(&harness, consumer::everything()).await;
    let given = consumer.due().await.traceparent;
    drop(consumer);
    stop(harness).await;
    let spans = collector.spans();
    let stream = one(&spans, DUE);
    let claims = named(&spans, "claim");
    let header = |it: &Span| format!("00-{}-{}-01", hex(&it.trace_id), hex(&it.span_id));
    let claim = claims.iter().find(|it| header(it) == given);
    let claim = claim.unwrap_or_else(|| panic!("{given} among {claims:#?}"));
    assert_ne!(
        claim.trace_id, stream.trace_id,
        "a stream goes on for hours"
    );
    assert_eq!(claim.kind(), SpanKind::Producer);
    assert_eq!(claim.links[0].span_id, stream.span_id);
    let leased = attribute(&claim.attributes, "care_invitation.claim.notifications");
    assert_eq!(leased, "1");
    let batch = |it: &&Span| it.name == "batch" && it.parent_span_id == claim.span_id;
    assert_eq!(spans.iter().filter(batch).count(), 1);
}

#[tokio::test]
async fn without_traces_a_due_message_names_none() {
    let harness = Harness::start(NOW).await;
    invite(&harness, &[("traceparent", &traceparent("01"))]).await;
    let mut consumer = Consumer::open(&harness, consumer::everything()).await;
    assert_eq!(consumer.due().await.traceparent, "");
}

/// So many spans have come to this end.
fn spans(registry: &Registry, outcome: &str) -> u64 {
    let mut text = String::new();
    encode(&mut text, registry).expect("a text");
    let series = format!("care_invitation_spans_total{{outcome=\"{outcome}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&series));
    value.expect("the series").parse().expect("a number")
}

/// The numbers of spans.
fn numbers(traces: &Traces) -> Registry {
    let mut registry = Registry::default();
    traces.register(&mut registry);
    registry
}

/// Waits for a fact about the numbers.
async fn until(is_so: impl Fn() -> bool) {
    within(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn neither_a_call_nor_the_end_waits_for_a_collector_that_hangs() {
    let log = Log::default();
    let _listening = log.listen();
    // One that takes connections and says nothing, and one that answers no call.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let hanging = Collector::hanging().await;
    for address in [silent.local_addr().expect("bound"), hanging.address] {
        let harness = Harness::traced(NOW, traces_to(address, 1_000_000)).await;
        let begun = Instant::now();
        miss(&harness, &[]).await;
        // The batch is on its way.
        match address == hanging.address {
            true => until(|| hanging.is_asked()).await,
            false => drop(within(silent.accept()).await.expect("a connection")),
        }
        let connected = begun.elapsed();
        miss(&harness, &[]).await;
        assert!(begun.elapsed() - connected < SOON, "no call waits");
        let stopping = Instant::now();
        stop(harness).await;
        assert!(stopping.elapsed() < SOON, "nor does the end");
    }
    let lines = log.lines("the last spans were not exported");
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[tokio::test]
async fn spans_that_find_the_queue_full_are_dropped_and_told_of_once() {
    let log = Log::default();
    let _listening = log.listen();
    let hanging = Collector::hanging().await;
    let traces = hanging.traces();
    let numbers = numbers(&traces);
    let begun = Instant::now();
    for _ in 0..10_000 {
        let call = traces.begin_call(&GET.into(), None, &HeaderMap::new());
        call.end_call("OK", false);
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let dropped = spans(&numbers, "dropped");
    assert!((100..2_000).contains(&dropped), "{dropped}");
    assert_eq!(spans(&numbers, "exported"), 0);
    let lines = log.lines("spans dropped");
    assert_eq!(lines.len(), 1, "{lines:?}");
    traces.end().await;
}

#[tokio::test]
async fn a_collector_that_is_away_is_told_of_once() {
    let away: SocketAddr = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("bound")
    };
    let log = Log::default();
    let _listening = log.listen();
    let traces = traces_to(away, 1_000_000);
    let numbers = numbers(&traces);
    let harness = Harness::traced(NOW, traces).await;
    for _ in 0..2 {
        let before = spans(&numbers, "failed");
        miss(&harness, &[]).await;
        until(|| spans(&numbers, "failed") > before).await;
    }
    let lines = log.lines("spans lost");
    assert_eq!(lines.len(), 1, "{lines:?}");
    let stopping = Instant::now();
    stop(harness).await;
    assert!(stopping.elapsed() < SOON, "{:?}", stopping.elapsed());
}
