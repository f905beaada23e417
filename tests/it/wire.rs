//! Calls as bytes, for what no client library would send.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use h2::client::{self, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;
use tonic::Status;

use crate::harness::within;

/// Another address of this machine, and any port.
const STRANGER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 0);

/// A connection that speaks HTTP/2 and knows nothing of gRPC.
pub struct Wire {
    requests: SendRequest<Bytes>,
    address: SocketAddr,
}

type Bytes = std::io::Cursor<Vec<u8>>;

/// A call of which not all has been sent yet.
pub struct Begun {
    answer: client::ResponseFuture,
    rest: SendStream<Bytes>,
}

/// An answer that has begun and is not read; given up when dropped.
pub struct Unread {
    _body: RecvStream,
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::with(address, client::Builder::new()).await
    }

    /// One whose calls take no byte of an answer.
    pub async fn without_window(address: SocketAddr) -> Self {
        let mut builder = client::Builder::new();
        builder.initial_window_size(0);
        Self::with(address, builder).await
    }

    async fn with(address: SocketAddr, builder: client::Builder) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        Self::over(stream, address, &builder).await
    }

    /// A connection from the stranger's address that lets `window` bytes of each answer through.
    pub async fn stalled(address: SocketAddr, window: u32) -> Self {
        let mut builder = client::Builder::new();
        builder
            .initial_window_size(window)
            .initial_max_send_streams(1_024);
        Self::over(strange(address).await.expect("open"), address, &builder).await
    }

    async fn over(stream: TcpStream, address: SocketAddr, builder: &client::Builder) -> Self {
        let (requests, connection) = builder.handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        Self { requests, address }
    }

    /// Sends the headers of a call and no more.
    pub async fn begin(&self, path: &str, headers: &[(&str, &str)]) -> Begun {
        let mut request = Request::post(format!("http://{}{path}", self.address))
            .header("te", "trailers")
            .header("content-type", "application/grpc");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("headers");
        let mut requests = within(self.requests.clone().ready()).await.expect("open");
        let (answer, rest) = requests.send_request(request, false).expect("sent");
        Begun { answer, rest }
    }

    /// Makes a call whose body is these bytes; how it ends, whatever it answers before.
    pub async fn call(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Status {
        self.begin(path, headers).await.finish(body).await
    }
}

impl Begun {
    /// Sends these bytes and no more.
    pub fn send(&mut self, body: Vec<u8>) {
        let sent = self.rest.send_data(Bytes::new(body), false);
        sent.expect("the call is open");
    }

    /// Sends the rest of the body, and reads nothing of the answer yet.
    pub fn send_last(&mut self, body: Vec<u8>) {
        let sent = self.rest.send_data(Bytes::new(body), true);
        sent.expect("the call is open");
    }

    /// Sends the rest of the body; how the call ends.
    pub async fn finish(mut self, body: Vec<u8>) -> Status {
        // Who answers before all has come may close the call.
        let _ = self.rest.send_data(Bytes::new(body), true);
        self.end().await
    }

    /// Waits for the beginning of the answer and reads nothing of it; how the call ended if it has.
    pub async fn answered(mut self) -> Result<Unread, Status> {
        let (head, body) = within(&mut self.answer)
            .await
            .expect("an answer")
            .into_parts();
        match Status::from_header_map(&head.headers) {
            Some(said) => Err(said),
            None => Ok(Unread { _body: body }),
        }
    }

    /// Waits until the server has cut the call off.
    pub async fn reset(mut self) {
        let cut = within(poll_fn(|context| self.rest.poll_reset(context))).await;
        cut.expect("the connection stays");
    }

    /// The bytes of the answer, and how the call ends; no status when the server has cut it off.
    pub async fn answer(mut self, body: Vec<u8>) -> (Vec<u8>, Option<Status>) {
        let _ = self.rest.send_data(Bytes::new(body), true);
        let (head, mut body) = within(self.answer).await.expect("an answer").into_parts();
        let mut read = Vec::new();
        while let Some(Ok(bytes)) = within(body.data()).await {
            read.extend_from_slice(&bytes);
            let _ = body.flow_control().release_capacity(bytes.len());
        }
        let trailers = within(body.trailers()).await.ok().flatten();
        let said = Status::from_header_map(&head.headers);
        (read, said.or_else(|| Status::from_header_map(&trailers?)))
    }

    /// Sends the rest of the body and reads the answer, with this pause after each piece; how the call ends, if not by
    /// being cut off.
    pub async fn read_slowly(mut self, body: Vec<u8>, pause: Duration) -> Option<Status> {
        self.send_last(body);
        let (_, mut body) = within(self.answer).await.expect("an answer").into_parts();
        while let Some(Ok(bytes)) = within(body.data()).await {
            sleep(pause).await;
            let _ = body.flow_control().release_capacity(bytes.len());
        }
        let trailers = within(body.trailers()).await.ok().flatten();
        Status::from_header_map(&trailers?)
    }

    /// How the call ends.
    pub async fn end(self) -> Status {
        let (head, body) = within(self.answer).await.expect("an answer").into_parts();
        let said = Status::from_header_map(&head.headers);
        let trailers = last_headers(body).await;
        let said = said.or_else(|| Status::from_header_map(&trailers?));
        said.unwrap_or_else(|| panic!("an end without a status: {head:?}"))
    }
}

/// What follows the body of an answer, which is not looked at.
async fn last_headers(mut body: RecvStream) -> Option<HeaderMap> {
    while let Some(read) = within(body.data()).await {
        let length = read.ok()?.len();
        let _ = body.flow_control().release_capacity(length);
    }
    within(body.trailers()).await.ok()?
}

/// Opens a connection from an address that is not the one of other callers in the test.
pub async fn strange(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(STRANGER)?;
    socket.connect(address).await
}

/// A message as gRPC frames it: whether it is compressed, how long it is, and its bytes.
pub fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a message for a test");
    [&[flag], &length.to_be_bytes()[..], message].concat()
}
