//! Calls as bytes, for what no client library would send.

use std::net::SocketAddr;

use h2::client::{self, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tonic::Status;

use crate::harness::within;

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

/// A message as gRPC frames it: whether it is compressed, how long it is, and its bytes.
pub fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a message for a test");
    [&[flag], &length.to_be_bytes()[..], message].concat()
}
