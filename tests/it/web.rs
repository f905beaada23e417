//! Calls of web pages: gRPC-Web in HTTP/1.1 and HTTP/2, of pages of the named origin alone, under the limits of all calls.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use care_invitation::contract::v1;
use care_invitation::grpc::middleware::Limits;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Harness, within};
use crate::make;
use crate::wire::frame;

const NOW: &str = "2026-03-02T09:00:00Z";
const ORIGIN: &str = "https://worklist.example";
const CREATE: &str = "/careinvitation.v1.BookingRequestService/CreateBookingRequest";
const GET: &str = "/careinvitation.v1.BookingRequestService/GetBookingRequest";
const STREAM: &str = "/careinvitation.v1.NotificationService/StreamDueNotifications";
const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text";
/// First byte of the frame with the trailers.
const TRAILERS: u8 = 0x80;

/// A connection that speaks HTTP/1.1.
struct Page {
    stream: TcpStream,
    read: Vec<u8>,
}

/// An answer in HTTP/1.1: its first line and headers in lower case, and its body.
struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let name = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&*name))
    }

    /// The frames of an answer in gRPC-Web: flags and contents.
    fn frames(&self) -> Vec<(u8, Vec<u8>)> {
        let (mut rest, mut frames) = (&*self.body, Vec::new());
        while let [flag, a, b, c, d, others @ ..] = rest {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            let (content, others) = others.split_at(length);
            frames.push((*flag, content.to_vec()));
            rest = others;
        }
        assert!(rest.is_empty(), "whole frames");
        frames
    }

    /// The only message, before trailers that say OK.
    fn message<M: Message + Default>(&self) -> M {
        let frames = self.frames();
        let [(0, message), (TRAILERS, trailers)] = &*frames else {
            panic!("a message and trailers, not {frames:?} after {}", self.head);
        };
        let trailers = String::from_utf8_lossy(trailers);
        assert!(trailers.contains("grpc-status:0"), "{trailers}");
        M::decode(&**message).expect("the message")
    }
}

impl Page {
    async fn open(harness: &Harness) -> Self {
        let stream = TcpStream::connect(harness.address).await.expect("open");
        Self {
            stream,
            read: Vec::new(),
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        within(self.stream.write_all(bytes)).await.expect("sent");
    }

    /// Reads more; false at the end.
    async fn more(&mut self) -> bool {
        matches!(within(self.stream.read_buf(&mut self.read)).await, Ok(1..))
    }

    /// Reads a line.
    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(2).position(|it| it == b"\r\n") {
                let line: Vec<_> = self.read.drain(..end + 2).collect();
                return String::from_utf8_lossy(&line[..end]).into_owned();
            }
            assert!(self.more().await, "an answer, not the end");
        }
    }

    async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            assert!(self.more().await, "an answer, not the end");
        }
        self.read.drain(..count).collect()
    }

    async fn answer(&mut self) -> Answer {
        let mut head = String::new();
        loop {
            let line = self.line().await;
            if line.is_empty() {
                break;
            }
            head.push_str(&line.to_lowercase());
            head.push('\n');
        }
        let mut answer = Answer {
            head,
            body: Vec::new(),
        };
        if let Some(length) = answer.header("content-length") {
            let length = length.parse().expect("a length");
            answer.body = self.bytes(length).await;
            return answer;
        }
        loop {
            let length = usize::from_str_radix(&self.line().await, 16).expect("a chunk");
            let chunk = self.bytes(length).await;
            assert!(self.line().await.is_empty());
            if chunk.is_empty() {
                return answer;
            }
            answer.body.extend(chunk);
        }
    }

    /// Makes a call in gRPC-Web.
    async fn call(&mut self, path: &str, kind: &str, message: &impl Message) -> Answer {
        let mut body = frame(0, &message.encode_to_vec());
        if kind == TEXT {
            body = BASE64_STANDARD.encode(body).into_bytes();
        }
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: care\r\norigin: {ORIGIN}\r\ncontent-type: {kind}\r\naccept: {kind}\r\n\
             x-grpc-web: 1\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.send(&[head.as_bytes(), &body].concat()).await;
        let mut answer = self.answer().await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN));
        if kind == TEXT {
            let mut decoded = Vec::new();
            let text = String::from_utf8(answer.body).expect("text");
            // Each piece ends with its own padding.
            for piece in text.split_inclusive("=").collect::<Vec<_>>() {
                let mut piece = piece.trim_start_matches('=').to_owned();
                while piece.len() % 4 != 0 {
                    piece.push('=');
                }
                decoded.extend(BASE64_STANDARD.decode(piece).expect("base64"));
            }
            answer.body = decoded;
        }
        answer
    }
}

fn create() -> v1::CreateBookingRequestRequest {
    v1::CreateBookingRequestRequest {
        allow_duplicate: true,
        ..make::wire_create(make::wire_form("2026-03-16", "2026-06-12"))
    }
}

#[tokio::test]
async fn a_page_calls_in_http_1_again_and_again_on_a_connection() {
    let harness = Harness::for_pages(NOW, Limits::default(), ORIGIN).await;
    let mut page = Page::open(&harness).await;
    for kind in [BINARY, "application/grpc-web", TEXT] {
        let answer = page.call(CREATE, kind, &create()).await;
        let created: v1::CreateBookingRequestResponse = answer.message();
        let name = created.booking_request.expect("the request").name;
        let get = v1::GetBookingRequestRequest { name: name.clone() };
        let answer = page.call(GET, kind, &get).await;
        let found: v1::GetBookingRequestResponse = answer.message();
        assert_eq!(found.booking_request.expect("the request").name, name);
    }
}

#[tokio::test]
async fn a_page_reads_a_stream_and_errors_with_their_details() {
    let harness = Harness::for_pages(NOW, Limits::default(), ORIGIN).await;
    for _ in 0..3 {
        harness.create(create()).await.expect("created");
    }
    let mut page = Page::open(&harness).await;
    let all = v1::StreamDueNotificationsRequest {
        until_idle: true,
        ..Default::default()
    };
    let frames = page.call(STREAM, BINARY, &all).await.frames();
    let kinds: Vec<_> = frames.iter().map(|(flag, _)| *flag).collect();
    assert_eq!(kinds, [0, 0, 0, TRAILERS]);
    let nothing = v1::GetBookingRequestRequest::default();
    let answer = page.call(GET, BINARY, &nothing).await;
    let trailers = answer.frames().pop().map(|(_, it)| it).unwrap_or_default();
    let said = format!("{}{}", answer.head, String::from_utf8_lossy(&trailers));
    assert!(
        said.contains("grpc-status:3") || said.contains("grpc-status: 3"),
        "{said}"
    );
    assert!(said.contains("grpc-status-details-bin"), "{said}");
}

#[tokio::test]
async fn a_preflight_is_answered_for_the_named_origin_alone() {
    let harness = Harness::for_pages(NOW, Limits::default(), ORIGIN).await;
    for (origin, allowed) in [
        (ORIGIN, true),
        ("https://worklist.example:444", false),
        ("http://worklist.example", false),
        ("https://evil.example", false),
        ("null", false),
    ] {
        let mut page = Page::open(&harness).await;
        let preflight = format!(
            "OPTIONS {GET} HTTP/1.1\r\nhost: care\r\norigin: {origin}\r\naccess-control-request-method: POST\r\n\
             access-control-request-headers: authorization,content-type,grpc-timeout,x-grpc-web\r\n\r\n"
        );
        page.send(preflight.as_bytes()).await;
        let answer = page.answer().await;
        let origin = answer.header("access-control-allow-origin");
        assert_eq!(origin.is_some(), allowed, "{}", answer.head);
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        let headers = answer
            .header("access-control-allow-headers")
            .unwrap_or_default();
        assert!(headers.contains("authorization") && !headers.contains('*'));
    }
}

#[tokio::test]
async fn other_calls_go_on_as_before_where_pages_call() {
    let harness = Harness::for_pages(NOW, Limits::default(), ORIGIN).await;
    harness.create(create()).await.expect("gRPC over HTTP/2");
    for (method, kind) in [
        ("POST", "application/grpc"),
        ("POST", "application/json"),
        ("GET", BINARY),
        ("GET", "text/html"),
    ] {
        let mut page = Page::open(&harness).await;
        let call = format!(
            "{method} {GET} HTTP/1.1\r\nhost: care\r\ncontent-type: {kind}\r\ncontent-length: 0\r\n\r\n"
        );
        page.send(call.as_bytes()).await;
        let answer = page.answer().await;
        assert!(answer.head.starts_with("http/1.1 40"), "{}", answer.head);
    }
}

#[tokio::test]
async fn without_an_origin_nothing_speaks_http_1() {
    let harness = Harness::start(NOW).await;
    let mut page = Page::open(&harness).await;
    let call = format!(
        "POST {GET} HTTP/1.1\r\nhost: care\r\ncontent-type: {BINARY}\r\ncontent-length: 0\r\n\r\n"
    );
    page.send(call.as_bytes()).await;
    assert!(!page.more().await);
    assert!(page.read.is_empty());
}

#[tokio::test]
async fn connections_of_pages_have_the_limits_of_others() {
    let limits = Limits {
        preface_time_max: Duration::from_millis(300),
        receive_time_max: Duration::from_millis(300),
        ..Limits::default()
    };
    let harness = Harness::for_pages(NOW, limits, ORIGIN).await;
    // Headers that do not end.
    let mut page = Page::open(&harness).await;
    page.send(b"POST /").await;
    while page.more().await {}
    let mut page = Page::open(&harness).await;
    page.send(b"POST / HTTP/1.1\r\nhost: care\r\nx: ").await;
    while page.more().await {}
    // A body that does not end.
    let mut page = Page::open(&harness).await;
    let head = format!(
        "POST {GET} HTTP/1.1\r\nhost: care\r\ncontent-type: {BINARY}\r\ncontent-length: 100\r\n\r\nx"
    );
    page.send(head.as_bytes()).await;
    let answer = page.answer().await;
    assert!(!answer.head.contains("grpc-status: 0"), "{}", answer.head);
    assert!(answer.head.contains("grpc-status"), "{}", answer.head);
    // Headers without measure.
    let mut page = Page::open(&harness).await;
    let head = format!(
        "POST {GET} HTTP/1.1\r\nhost: care\r\nx: {}\r\n\r\n",
        "x".repeat(1 << 20)
    );
    let _ = page.stream.write_all(head.as_bytes()).await;
    while page.more().await {}
    assert!(!String::from_utf8_lossy(&page.read).contains(" 200 "));
}

#[tokio::test]
async fn a_connection_goes_on_after_the_deadline_of_an_earlier_call() {
    let harness = Harness::for_pages(NOW, Limits::default(), ORIGIN).await;
    let mut page = Page::open(&harness).await;
    let get = v1::GetBookingRequestRequest {
        name: format!("{}/bookingRequests/{}", make::wire_unit(), make::key().id),
    };
    let body = frame(0, &get.encode_to_vec());
    let head = format!(
        "POST {GET} HTTP/1.1\r\nhost: care\r\norigin: {ORIGIN}\r\ncontent-type: {BINARY}\r\ngrpc-timeout: 500m\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    for _ in 0..2 {
        page.send(&[head.as_bytes(), &body].concat()).await;
        assert!(page.answer().await.head.starts_with("http/1.1 200"));
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
}
