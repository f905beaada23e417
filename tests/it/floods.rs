//! Floods of frames that HTTP/2 allows and no client sends: others are served meanwhile, and memory stays bounded.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use care_invitation::grpc::middleware::Limits;
use care_invitation::grpc::middleware::load::Bounds;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Code;

use crate::harness::{Harness, within};
use crate::make;
use crate::program::{Program, get};
use crate::wire::strange;

const COUNT: &str = "/careinvitation.v1.WorklistService/CountWorklists";
/// What a connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Connections that flood at once, and bytes that each sends at the most.
const CONNECTIONS: usize = 4;
const BYTES_MAX: usize = 8 << 20;
/// Frames that are written at once.
const FRAMES: u32 = 500;
/// After so long without progress the server reads no more.
const STUCK: Duration = Duration::from_millis(300);
/// How long the call of somebody else may take meanwhile, on a busy machine.
const ANSWERED_MAX: Duration = Duration::from_secs(10);
/// By how many bytes the program may grow.
const GROWTH_MAX: u64 = 48 << 20;

/// Kinds of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame.
fn http2(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame for a test");
    [
        &length.to_be_bytes()[1..],
        &[kind, flags],
        &stream.to_be_bytes(),
        payload,
    ]
    .concat()
}

/// The headers of a call, as HPACK has them: POST, http, the path, what gRPC asks for.
fn headers() -> Vec<u8> {
    let text = |text: &str| {
        let length = u8::try_from(text.len()).expect("a short text");
        [&[length], text.as_bytes()].concat()
    };
    [
        vec![0x83, 0x86, 0x04],
        text(COUNT),
        vec![0x00],
        text("te"),
        text("trailers"),
        vec![0x0f, 0x10],
        text("application/grpc"),
    ]
    .concat()
}

/// A kind of flood: its frames, of which the first has this number, and what comes before them.
struct Flood {
    name: &'static str,
    before: Vec<u8>,
    frame: fn(u32) -> Vec<u8>,
}

/// The number of a client's stream.
fn stream(number: u32) -> u32 {
    2 * number + 1
}

fn floods() -> Vec<Flood> {
    let begun = |flags| http2(HEADERS, flags, 1, &headers());
    let flood = |name, before, frame| Flood {
        name,
        before,
        frame,
    };
    vec![
        flood("resets", Vec::new(), |number| {
            let call = http2(HEADERS, END_HEADERS, stream(number), &headers());
            let reset = http2(RST_STREAM, 0, stream(number), &8_u32.to_be_bytes());
            [call, reset].concat()
        }),
        flood("calls", Vec::new(), |number| {
            http2(HEADERS, END_HEADERS, stream(number), &headers())
        }),
        flood("continuations", begun(0), |_| {
            let header = [&[0x00, 1, b'a', 100][..], &[b'b'; 100]].concat();
            http2(CONTINUATION, 0, 1, &header.repeat(20))
        }),
        flood("empty continuations", begun(0), |_| {
            http2(CONTINUATION, 0, 1, &[])
        }),
        flood("settings", Vec::new(), |_| http2(SETTINGS, 0, 0, &[])),
        flood("pings", Vec::new(), |_| http2(PING, 0, 0, &[0; 8])),
        flood("empty data", begun(END_HEADERS), |_| http2(DATA, 0, 1, &[])),
        flood("priorities", Vec::new(), |number| {
            http2(PRIORITY, 0, stream(number), &[0, 0, 0, 0, 15])
        }),
        flood("window updates", begun(END_HEADERS), |_| {
            http2(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())
        }),
    ]
}

/// Sends frames until the server closes the connection, reads no more, or has had enough of them. Nothing is read. Returns
/// how many bytes were sent.
async fn send(address: SocketAddr, before: Vec<u8>, frame: fn(u32) -> Vec<u8>) -> usize {
    let mut connection = strange(address).await.expect("open");
    let begin = [PREFACE, &http2(SETTINGS, 0, 0, &[]), &before].concat();
    connection.write_all(&begin).await.expect("written");
    let mut sent = 0;
    for first in (0..).step_by(FRAMES as usize) {
        let frames: Vec<u8> = (first..first + FRAMES).flat_map(frame).collect();
        match timeout(STUCK, connection.write_all(&frames)).await {
            Ok(Ok(())) if sent < BYTES_MAX => sent += frames.len(),
            Ok(_) | Err(_) => return sent,
        }
    }
    sent
}

/// Bytes of a process in memory.
fn memory(program: &Program) -> u64 {
    let pid = program.child.id().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
    let kib = line.and_then(|it| it.split_whitespace().next());
    let kib: u64 = kib.expect("its size").parse().expect("a number");
    kib << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_leave_others_served_and_memory_bounded() {
    let folder = TempDir::new().expect("a folder");
    let program = Program::start(folder.path(), &[]).await;
    let address = program.address().strip_prefix("http://");
    let address: SocketAddr = address.expect("a scheme").parse().expect("an address");
    let channel = program.channel().await;
    let nobody = format!("{}/bookingRequests/{}", make::wire_unit(), make::key().id);
    let answered = async || {
        let begun = Instant::now();
        let said = get(&channel, &nobody).await.expect_err("there is none");
        assert_eq!(said.code(), Code::NotFound, "{said:?}");
        begun.elapsed()
    };
    for _ in 0..100 {
        answered().await;
    }
    let before = memory(&program);
    for flood in floods() {
        let mut sending = JoinSet::new();
        for _ in 0..CONNECTIONS {
            sending.spawn(send(address, flood.before.clone(), flood.frame));
        }
        let (mut sent, mut slowest, mut largest) = (0, Duration::ZERO, 0);
        loop {
            slowest = slowest.max(answered().await);
            largest = largest.max(memory(&program));
            match sending.try_join_next() {
                Some(of_one) => sent += of_one.expect("sent"),
                None if sending.is_empty() => break,
                None => {}
            }
        }
        let grown = largest.saturating_sub(before);
        println!(
            "{}: {sent} bytes, slowest answer {slowest:?}, {} MiB more",
            flood.name,
            grown >> 20
        );
        assert!(slowest < ANSWERED_MAX, "{}: {slowest:?}", flood.name);
        assert!(grown < GROWTH_MAX, "{}: {grown} bytes more", flood.name);
    }
}

/// Reads the next frame: its kind and its payload.
async fn read(connection: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 9];
    within(connection.read_exact(&mut head))
        .await
        .expect("open");
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    within(connection.read_exact(&mut payload))
        .await
        .expect("open");
    (head[3], payload)
}

#[tokio::test]
async fn a_client_whose_calls_are_refused_before_their_messages_come_keeps_its_connection() {
    let limits = Limits {
        calls: Bounds::shared(0),
        ..Limits::default()
    };
    let harness = Harness::with_limits("2026-03-02T09:00:00Z", limits).await;
    let mut connection = strange(harness.address).await.expect("open");
    let begin = [PREFACE, &http2(SETTINGS, 0, 0, &[])].concat();
    connection.write_all(&begin).await.expect("written");
    // Far more than a connection may have faults.
    for first in (0..).step_by(100).take(40) {
        let calls = || (first..first + 100).map(stream);
        let begun = calls().flat_map(|it| http2(HEADERS, END_HEADERS, it, &headers()));
        let begun: Vec<u8> = begun.collect();
        connection.write_all(&begun).await.expect("written");
        let mut refused = 0;
        while refused < 100 {
            let (kind, payload) = read(&mut connection).await;
            let why = String::from_utf8_lossy(&payload);
            assert_ne!(kind, GOAWAY, "after {first} calls: {why}");
            refused += u32::from(kind == HEADERS);
        }
        let messages = calls().flat_map(|it| http2(DATA, END_STREAM, it, &[0; 5]));
        let messages: Vec<u8> = messages.collect();
        connection.write_all(&messages).await.expect("written");
    }
}
