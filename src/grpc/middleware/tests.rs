use std::future::{pending, poll_fn};
use std::num::NonZeroU32;
use std::sync::Mutex;

use http_body::{Body as HttpBody, Frame};
use prost::Message;
use tonic::codec::{Codec, EncodeBody, SingleMessageCompressionOverride};
use tonic_types::StatusExt;
use tower::{ServiceExt, service_fn};

use super::*;
use crate::contract::DESCRIPTOR_SET;
use crate::contract::concerns::Audited;
use crate::contract::v1::stream_due_notifications_response::Event;
use crate::contract::v1::{
    BookingRequest, DueNotification, ListWorklistResponse, StreamDueNotificationsResponse,
};
use crate::grpc::codec::RecordingCodec;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const CALL: &str = "/careinvitation.v1.BookingRequestService/GetBookingRequest";
const LIST: &str = "/careinvitation.v1.WorklistService/ListWorklist";
const STREAM: &str = "/careinvitation.v1.NotificationService/StreamDueNotifications";
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";

/// A body that gives `frames` frames and then nothing more, without ending.
struct Silent {
    frames: usize,
}

impl HttpBody for Silent {
    type Data = <Body as HttpBody>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        if self.frames == 0 {
            return Poll::Pending;
        }
        self.frames -= 1;
        Poll::Ready(Some(Ok(Frame::data("frame".into()))))
    }
}

/// A body that always has one more frame.
struct Busy;

impl HttpBody for Busy {
    type Data = <Body as HttpBody>::Data;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        Poll::Ready(Some(Ok(Frame::data("frame".into()))))
    }
}

/// A body of one frame.
struct Once(Option<Vec<u8>>);

impl HttpBody for Once {
    type Data = <Body as HttpBody>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes.into()))))
    }
}

fn layer_with(limits: Limits, draining: &CancellationToken) -> MiddlewareLayer {
    let sets = [DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET];
    let methods = Arc::new(Methods::of(sets).expect("descriptors"));
    let authenticator = Authenticator::open();
    let traces = Traces::default();
    MiddlewareLayer::new(
        methods,
        limits,
        authenticator,
        None,
        traces,
        draining.clone(),
    )
}

fn request(path: &str, timeout: Option<&str>) -> Request<Body> {
    let mut request = Request::builder().uri(path);
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", timeout);
    }
    request.body(Body::empty()).expect("a request")
}

/// Returns the response to a call whose handler runs `handle`.
async fn call<F>(layer: &MiddlewareLayer, request: Request<Body>, handle: F) -> Response<Body>
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let handle = Arc::new(Mutex::new(Some(handle)));
    let handler = service_fn(move |_: Request<Body>| {
        let handle = handle.lock().expect("no panic").take();
        let handle = handle.expect("a call is made once");
        async { Ok::<_, Infallible>(handle.await) }
    });
    let connected = layer.connect(HERE, handler).expect("room");
    let Ok(response) = connected.oneshot(request).await;
    response
}

/// Returns a response with these messages, as our services encode them. To be called by a handler.
fn encoded<T: Message + Audited + Default + Send + 'static>(messages: Vec<T>) -> Response<Body> {
    let encoder = RecordingCodec::<T, T>::default().encoder();
    let messages = futures_util::stream::iter(messages.into_iter().map(Ok));
    let compression = SingleMessageCompressionOverride::default();
    let body = EncodeBody::new_server(encoder, messages, None, compression, None);
    Response::new(Body::new(body))
}

fn reason(headers: &HeaderMap) -> String {
    let status = Status::from_header_map(headers).expect("a failure");
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone());
    reason.unwrap_or_else(|| format!("{:?} without details", status.code()))
}

async fn next_frame(body: &mut Body) -> Frame<<Body as HttpBody>::Data> {
    let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
    frame.expect("the body goes on").expect("the body is whole")
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_its_deadline_and_within_a_minute() {
    let layer = layer_with(Limits::default(), &CancellationToken::new());
    for (timeout, waited) in [
        (Some("20m"), Duration::from_millis(20)),
        (Some("2S"), Duration::from_secs(2)),
        (Some("99999999H"), CALL_TIME_MAX),
        (None, CALL_TIME_MAX),
    ] {
        let began = Instant::now();
        let response = call(&layer, request(CALL, timeout), pending()).await;
        assert_eq!(
            reason(response.headers()),
            "DEADLINE_EXCEEDED",
            "{timeout:?}"
        );
        assert_eq!(began.elapsed(), waited, "{timeout:?}");
    }
}

#[tokio::test]
async fn an_answer_after_the_deadline_is_none() {
    let layer = layer_with(Limits::default(), &CancellationToken::new());
    let fine = || async { Response::new(Body::empty()) };
    let response = call(&layer, request(CALL, Some("0n")), fine()).await;
    assert_eq!(reason(response.headers()), "DEADLINE_EXCEEDED");
    let response = call(&layer, request(CALL, Some("9S")), fine()).await;
    assert!(response.headers().get("grpc-status").is_none());
}

#[tokio::test]
async fn what_lies_beyond_a_limit_is_refused_until_a_place_is_free() {
    let limits = Limits {
        calls: Bounds::shared(1),
        streams: Bounds::shared(1),
        ..Limits::default()
    };
    let layer = layer_with(limits, &CancellationToken::new());
    let fine = || async { Response::new(Body::empty()) };
    for path in [CALL, STREAM] {
        let silent = async { Response::new(Body::new(Silent { frames: 1 })) };
        let open = call(&layer, request(path, None), silent).await;
        let refused = call(&layer, request(path, None), fine()).await;
        assert_eq!(reason(refused.headers()), "OVERLOADED");
        drop(open);
        let taken = call(&layer, request(path, None), fine()).await;
        assert!(taken.headers().is_empty());
    }
    let silent = async { Response::new(Body::new(Silent { frames: 1 })) };
    let _open = call(&layer, request(CALL, None), silent).await;
    let healthy = call(&layer, request(HEALTH_CHECK, None), fine()).await;
    assert!(healthy.headers().is_empty(), "health answers under load");
}

#[tokio::test]
async fn failures_below_the_handlers_get_details_and_those_of_others_stay() {
    let layer = layer_with(Limits::default(), &CancellationToken::new());
    for (path, said, told) in [
        (CALL, Status::internal("bytes"), "MESSAGE_MALFORMED"),
        (CALL, Status::unimplemented(""), "UNIMPLEMENTED"),
        (CALL, status::overloaded(), "OVERLOADED"),
        (
            "/no.such.Service/Method",
            Status::unimplemented(""),
            "UNIMPLEMENTED",
        ),
        (
            HEALTH_CHECK,
            Status::not_found("service"),
            "NotFound without details",
        ),
        (
            HEALTH_CHECK,
            Status::internal("bytes"),
            "Internal without details",
        ),
    ] {
        let response = call(&layer, request(path, None), async { said.into_http() }).await;
        assert_eq!(reason(response.headers()), told, "{path}");
        assert!(response.body().is_end_stream());
    }
}

#[tokio::test]
async fn a_handler_that_panics_answers_that_the_fault_is_ours() {
    let layer = layer_with(Limits::default(), &CancellationToken::new());
    let panics = async { panic!("198003012385") };
    let response = call(&layer, request(CALL, None), panics).await;
    assert_eq!(reason(response.headers()), "INTERNAL");
    let text = Status::from_header_map(response.headers()).expect("a failure");
    assert!(!text.message().contains("198003012385"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_at_its_deadline_and_not_before() {
    let layer = layer_with(Limits::default(), &CancellationToken::new());
    let silent = async { Response::new(Body::new(Silent { frames: 1 })) };
    let began = Instant::now();
    let mut body = call(&layer, request(STREAM, Some("1H")), silent)
        .await
        .into_body();
    assert!(next_frame(&mut body).await.is_data());
    let last = next_frame(&mut body).await;
    let trailers = last.trailers_ref().expect("the end");
    assert_eq!(reason(trailers), "DEADLINE_EXCEEDED");
    assert_eq!(began.elapsed(), Duration::from_secs(3_600));
    assert!(body.is_end_stream());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_takes_is_cut_off() {
    let five_minutes = Duration::from_secs(300);
    for (path, timeout, waited) in [
        (CALL, Some("2S"), Duration::from_secs(2)),
        (CALL, None, CALL_TIME_MAX),
        (HEALTH_CHECK, None, CALL_TIME_MAX),
        (STREAM, None, five_minutes),
        (STREAM, Some("1H"), five_minutes),
        (STREAM, Some("2S"), Duration::from_secs(2)),
    ] {
        let began = Instant::now();
        reset::run(async {
            let layer = layer_with(Limits::default(), &CancellationToken::new());
            let silent = async { Response::new(Body::new(Silent { frames: 2 })) };
            let mut body = call(&layer, request(path, timeout), silent)
                .await
                .into_body();
            assert!(next_frame(&mut body).await.is_data());
            // The transport waits for its peer before it asks for more.
            pending().await
        })
        .await;
        assert_eq!(began.elapsed(), waited, "{path} {timeout:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_read_is_not_cut_off() {
    let day = Duration::from_secs(86_400);
    reset::run(async {
        let layer = layer_with(Limits::default(), &CancellationToken::new());
        let silent = async { Response::new(Body::new(Silent { frames: 1 })) };
        let mut body = call(&layer, request(STREAM, None), silent)
            .await
            .into_body();
        assert!(next_frame(&mut body).await.is_data());
        let more = tokio::time::timeout(day, next_frame(&mut body)).await;
        assert!(more.is_err(), "there is no more");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_goes_in_parts_and_ends_when_they_have_left() {
    let layer = layer_with(Limits::default(), &CancellationToken::new());
    let large = async { Response::new(Body::new(Once(Some(vec![7; 40_000])))) };
    let mut body = call(&layer, request(CALL, None), large).await.into_body();
    let mut parts = Vec::new();
    for length in [16_384, 16_384, 7_232] {
        let part = next_frame(&mut body).await.into_data().expect("data");
        assert_eq!(part.len(), length);
        parts.push(part);
    }
    let mut next = async || poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
    let early = tokio::time::timeout(CALL_TIME_MAX, next()).await;
    assert!(early.is_err(), "nothing has left");
    parts.clear();
    assert!(next().await.is_none());
}

#[tokio::test]
async fn a_draining_server_ends_the_streams_of_others_after_their_last_word() {
    let draining = CancellationToken::new();
    let layer = layer_with(Limits::default(), &draining);
    let silent = async { Response::new(Body::new(Silent { frames: 1 })) };
    let mut body = call(&layer, request(HEALTH_WATCH, None), silent)
        .await
        .into_body();
    draining.cancel();
    assert!(next_frame(&mut body).await.is_data());
    let last = next_frame(&mut body).await;
    assert_eq!(reason(last.trailers_ref().expect("the end")), "UNAVAILABLE");
}

/// Returns the pause that a refused caller is told.
fn pause(headers: &HeaderMap) -> Duration {
    let status = Status::from_header_map(headers).expect("a failure");
    let details = status.get_error_details();
    let retry = details.retry_info().and_then(|it| it.retry_delay);
    retry.expect("a pause")
}

#[tokio::test(start_paused = true)]
async fn a_loop_of_one_caller_is_refused_while_others_go_on() {
    let limits = Limits {
        subject: SubjectLimits {
            calls_per_second: NonZeroU32::new(5),
            ..SubjectLimits::default()
        },
        ..Limits::default()
    };
    let layer = layer_with(limits, &CancellationToken::new());
    let there = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    let answered = |address| {
        let fine =
            service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::empty())));
        let connected = layer.connect(address, fine).expect("room");
        async { connected.oneshot(request(CALL, None)).await }
    };
    for _ in 0..5 {
        let Ok(response) = answered(HERE).await;
        assert!(response.headers().is_empty());
    }
    for _ in 0..10 {
        let Ok(refused) = answered(HERE).await;
        assert_eq!(reason(refused.headers()), "RATE_LIMITED");
        let Ok(other) = answered(there).await;
        assert!(other.headers().is_empty());
        tokio::time::advance(pause(refused.headers())).await;
        let Ok(response) = answered(HERE).await;
        assert!(response.headers().is_empty(), "the pause was true");
    }
}

/// Returns a page of so many requests.
fn page(count: usize) -> ListWorklistResponse {
    ListWorklistResponse {
        booking_requests: vec![BookingRequest::default(); count],
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_are_read_are_owed_and_lists_wait_for_that() {
    let limits = Limits {
        subject: SubjectLimits {
            rows_per_minute: NonZeroU32::new(60),
            ..SubjectLimits::default()
        },
        ..Limits::default()
    };
    let layer = layer_with(limits, &CancellationToken::new());
    let list = async || {
        let answer = async { encoded(vec![page(90)]) };
        call(&layer, request(LIST, None), answer).await
    };
    assert!(list().await.headers().is_empty());
    let refused = list().await;
    assert_eq!(reason(refused.headers()), "RATE_LIMITED");
    assert_eq!(pause(refused.headers()), Duration::from_secs(31));
    let one = call(&layer, request(CALL, None), async {
        Response::new(Body::empty())
    })
    .await;
    assert!(one.headers().is_empty(), "it is no list");
    tokio::time::advance(pause(refused.headers())).await;
    assert!(list().await.headers().is_empty(), "the pause was true");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_after_too_many_rows() {
    let limits = Limits {
        subject: SubjectLimits {
            rows_per_minute: NonZeroU32::new(60),
            ..SubjectLimits::default()
        },
        ..Limits::default()
    };
    let layer = layer_with(limits, &CancellationToken::new());
    let due = StreamDueNotificationsResponse {
        event: Some(Event::Due(DueNotification::default())),
        ..Default::default()
    };
    let answer = async { encoded(vec![due; 90]) };
    let mut body = call(&layer, request(STREAM, None), answer)
        .await
        .into_body();
    assert!(next_frame(&mut body).await.is_data());
    let last = next_frame(&mut body).await;
    let trailers = last.trailers_ref().expect("the end");
    assert_eq!(reason(trailers), "RATE_LIMITED");
    assert_eq!(pause(trailers), Duration::from_secs(31));
    assert!(body.is_end_stream());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_always_has_more_to_send_ends_all_the_same() {
    let layer = layer_with(Limits::default(), &CancellationToken::new());
    let answer = async { Response::new(Body::new(Busy)) };
    let mut body = call(&layer, request(STREAM, Some("3S")), answer)
        .await
        .into_body();
    for _ in 0..3 {
        assert!(next_frame(&mut body).await.is_data());
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let last = next_frame(&mut body).await;
    let end = Status::from_header_map(last.trailers_ref().expect("the end"));
    assert_eq!(end.expect("a status").code(), tonic::Code::DeadlineExceeded);
}

#[test]
fn a_timeout_is_up_to_eight_digits_and_a_unit() {
    for (text, expected) in [
        ("3H", Some(Duration::from_secs(3 * 3_600))),
        ("2M", Some(Duration::from_secs(120))),
        ("42S", Some(Duration::from_secs(42))),
        ("13m", Some(Duration::from_millis(13))),
        ("7u", Some(Duration::from_micros(7))),
        ("99999999n", Some(Duration::from_nanos(99_999_999))),
        ("123456789S", None),
        ("5", None),
        ("S", None),
        ("", None),
        ("1.5S", None),
        ("5s", None),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().expect("a header"));
        assert_eq!(timeout(&headers), expected, "{text}");
    }
    assert_eq!(timeout(&HeaderMap::new()), None);
}
