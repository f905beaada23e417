//! TLS: versions and protocols, files that change, and peers that speak something else.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use care_invitation::auth::Authenticator;
use care_invitation::contract::v1;
use care_invitation::contract::v1::worklist_service_client::WorklistServiceClient;
use care_invitation::grpc::middleware::Limits;
use care_invitation::server::tls::{Protocols, Tls, TlsFiles};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
};
use tonic::transport::{Channel, Endpoint};

use super::host::{Ca, Pair, local_names};
use super::{Guarded, ask, is_admitted};
use crate::harness::within;
use crate::logged::Log;
use crate::make;
use crate::wire::Wire;

/// End of a certificate in seconds since 1970, in September 2020.
const OVER: i64 = 1_600_000_000;

/// A service with TLS, and its files.
pub struct Secured {
    pub service: Guarded,
    pub ca: Ca,
    pub folder: TempDir,
}

impl Secured {
    pub async fn start() -> Self {
        Self::with(Authenticator::open(), None, Limits::default()).await
    }

    pub async fn with(
        authenticator: Authenticator,
        client_ca: Option<&Ca>,
        limits: Limits,
    ) -> Self {
        let (ca, folder) = (Ca::new(), TempDir::new().expect("a folder"));
        let path = |name: &str| folder.path().join(name);
        write(&folder, &ca.local());
        if let Some(clients) = client_ca {
            fs::write(path("clients.pem"), clients.pem()).expect("written");
        }
        let files = TlsFiles {
            certificate: path("server.pem"),
            key: path("server.key"),
            client_ca: client_ca.map(|_| path("clients.pem")),
        };
        let tls = Tls::open(files, Protocols::Http2);
        let tls = Some(tls.expect("good files"));
        let service = Guarded::within_limits(authenticator, tls, limits).await;
        Self {
            service,
            ca,
            folder,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.service.address
    }

    /// Replaces one of the files.
    pub fn replace(&self, name: &str, content: &str) {
        replace(&self.folder, name, content);
    }

    /// A connection of a client, with this certificate or without.
    pub async fn channel(&self, pair: Option<&Pair>) -> Result<Channel, tonic::transport::Error> {
        channel(self.address(), &self.ca, pair).await
    }
}

/// A connection to an address whose certificate this CA has issued, with this certificate or without.
pub async fn channel(
    address: SocketAddr,
    ca: &Ca,
    pair: Option<&Pair>,
) -> Result<Channel, tonic::transport::Error> {
    let config = Arc::new(client(&[ca], pair, &[&TLS13, &TLS12], &[b"h2"]));
    let connect = tower::service_fn(move |_| {
        let config = config.clone();
        async move { secured(address, config).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::try_from(format!("http://{address}")).expect("an address");
    within(endpoint.connect_with_connector(connect)).await
}

/// Writes the files of a server.
pub fn write(folder: &TempDir, pair: &Pair) {
    for (name, content) in [("server.pem", &pair.certificate), ("server.key", &pair.key)] {
        replace(folder, name, content);
    }
}

/// Replaces a file, which is never written over.
fn replace(folder: &TempDir, name: &str, content: &str) {
    let new = folder.path().join("new");
    fs::write(&new, content).expect("written");
    fs::rename(new, folder.path().join(name)).expect("replaced");
}

/// A client that trusts these CAs.
fn client(
    cas: &[&Ca],
    pair: Option<&Pair>,
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&[u8]],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        let certificate = Pair {
            certificate: ca.pem(),
            key: String::new(),
        };
        roots.add_parsable_certificates(certificate.chain());
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match pair {
        Some(pair) => builder
            .with_client_auth_cert(pair.chain(), pair.private())
            .expect("a pair"),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
    config
}

async fn secured(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = "localhost".try_into().expect("a name");
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(config).connect(name, stream).await
}

#[tokio::test]
async fn calls_are_made_over_tls_1_2_and_1_3() {
    let secured_service = Secured::start().await;
    let channel = secured_service.channel(None).await.expect("connected");
    assert!(is_admitted(&ask(&channel, &[]).await));
    for (version, expected) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let config = client(
            &[&secured_service.ca],
            None,
            &[version],
            &[b"http/1.1", b"h2"],
        );
        let stream = secured(secured_service.address(), Arc::new(config)).await;
        let stream = stream.expect("a handshake");
        let (_, session) = stream.get_ref();
        assert_eq!(session.protocol_version(), Some(expected));
        assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
    }
    let config = client(&[&secured_service.ca], None, &[&TLS13], &[b"http/1.1"]);
    let refused = secured(secured_service.address(), Arc::new(config)).await;
    assert!(refused.is_err(), "HTTP/2 or nothing");
}

/// A stream that stays open.
async fn watch(channel: &Channel) -> tonic::Streaming<v1::WatchWorklistResponse> {
    let call = v1::WatchWorklistRequest {
        query: Some(v1::WorklistQuery {
            care_units: vec![make::wire_unit()],
            worklists: vec![v1::Worklist::AllBookingRequests.into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut client = WorklistServiceClient::new(channel.clone());
    let answer = within(client.watch_worklist(call)).await;
    answer.expect("a stream").into_inner()
}

#[tokio::test]
async fn certificates_are_read_again_and_streams_go_on() {
    let log = Log::default();
    let listening = log.listen();
    let secured_service = Secured::start().await;
    let channel = secured_service.channel(None).await.expect("connected");
    let mut watched = watch(&channel).await;
    let first = within(watched.message()).await.expect("open");
    assert!(first.is_some());
    let seen = || async {
        let config = client(&[&secured_service.ca], None, &[&TLS13], &[b"h2"]);
        let stream = secured(secured_service.address(), Arc::new(config)).await;
        let stream = stream.expect("a handshake");
        let (_, session) = stream.get_ref();
        session.peer_certificates().expect("a certificate")[0].clone()
    };
    let until_logged = |text: &'static str, times: usize| {
        let log = log.clone();
        within(async move {
            while log.lines(text).len() < times {
                sleep(Duration::from_millis(20)).await;
            }
        })
    };
    let before = seen().await;
    fs::write(secured_service.folder.path().join("server.pem"), "torn").expect("written");
    until_logged("changed files of TLS cannot be used: those before stay", 1).await;
    assert_eq!(seen().await, before);
    let next = secured_service.ca.local();
    write(&secured_service.folder, &next);
    until_logged("the files of TLS have been read again", 1).await;
    assert_eq!(seen().await, next.chain()[0]);
    assert_ne!(seen().await, before);
    let is_over = "the server's certificate is not valid any more";
    assert!(log.lines(is_over).is_empty());
    let over = secured_service.ca.issue_until(local_names(), OVER);
    write(&secured_service.folder, &over);
    until_logged(is_over, 1).await;
    assert!(
        is_admitted(&ask(&channel, &[]).await),
        "the open connection goes on"
    );
    let ended = tokio::time::timeout(Duration::from_millis(200), async {
        loop {
            watched
                .message()
                .await
                .expect("it goes on")
                .expect("no end");
        }
    });
    assert!(ended.await.is_err(), "the open stream goes on");
    let key = secured_service.folder.path().join("server.key");
    let secret = fs::read_to_string(key)
        .expect("text")
        .lines()
        .nth(1)
        .expect("a line")
        .to_owned();
    assert!(log.lines(&secret).is_empty());
    drop(listening);
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_any_more_is_a_warning_at_the_start() {
    let log = Log::default();
    let listening = log.listen();
    let (ca, folder) = (Ca::new(), TempDir::new().expect("a folder"));
    write(&folder, &ca.issue_until(local_names(), OVER));
    let files = TlsFiles {
        certificate: folder.path().join("server.pem"),
        key: folder.path().join("server.key"),
        client_ca: None,
    };
    let opened = Tls::open(files, Protocols::Http2);
    assert_eq!(
        opened.expect("they can be used").certificate_end(),
        Some(OVER)
    );
    let said = log.lines("the server's certificate is not valid any more");
    assert!(said.len() == 1 && said[0].contains("WARN"), "{said:?}");
    drop(listening);
}

#[tokio::test]
async fn a_peer_that_speaks_something_else_is_told_of_in_one_line() {
    let log = Log::default();
    let listening = log.listen();
    let secured_service = Secured::start().await;
    let plain = Guarded::start(Authenticator::open()).await;
    let config = Arc::new(client(&[&secured_service.ca], None, &[&TLS13], &[b"h2"]));
    for _ in 0..3 {
        let mut stream = TcpStream::connect(secured_service.address())
            .await
            .expect("open");
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .expect("sent");
        let read = within(stream.read(&mut [0; 64])).await;
        assert!(matches!(read, Ok(0) | Err(_)), "it is closed: {read:?}");
        let refused = within(secured(plain.address, config.clone())).await;
        assert!(refused.is_err());
    }
    for line in [
        "a client in plain text is refused: this port speaks TLS",
        "a client with TLS is refused: this port is in plain text",
    ] {
        assert_eq!(log.lines(line).len(), 1, "{line}");
    }
    // Somebody who looks whether the port is open is no client.
    drop(
        TcpStream::connect(secured_service.address())
            .await
            .expect("open"),
    );
    Wire::connect(plain.address).await;
    drop(listening);
}

#[tokio::test]
async fn handshakes_that_fail_are_told_of_in_one_line() {
    let log = Log::default();
    let listening = log.listen();
    let clients = Ca::new();
    let limits = Limits::default();
    let service = Secured::with(Authenticator::open(), Some(&clients), limits).await;
    for _ in 0..3 {
        // In TLS 1.2 the client learns of it within the handshake.
        let config = client(&[&service.ca], None, &[&TLS12], &[b"h2"]);
        let refused = within(secured(service.address(), Arc::new(config))).await;
        assert!(refused.is_err(), "it has no certificate");
    }
    let lines = log.lines("handshakes of TLS have failed");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("peer sent no certificates"), "{lines:?}");
    drop(listening);
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_given_up() {
    let limits = Limits {
        preface_time_max: Duration::from_millis(300),
        ..Limits::default()
    };
    let secured_service = Secured::with(Authenticator::open(), None, limits).await;
    for begun in [&b""[..], &[0x16], &[0x16, 3, 1, 2, 0, 1]] {
        let mut stream = TcpStream::connect(secured_service.address())
            .await
            .expect("open");
        let began = Instant::now();
        stream.write_all(begun).await.expect("sent");
        let read = within(stream.read(&mut [0; 64])).await;
        assert!(matches!(read, Ok(0) | Err(_)), "it is closed: {read:?}");
        assert!(limits.preface_time_max <= began.elapsed(), "{begun:?}");
    }
    // The handshake is done, and the preface of HTTP/2 never comes.
    let config = client(&[&secured_service.ca], None, &[&TLS13], &[b"h2"]);
    let stream = secured(secured_service.address(), Arc::new(config)).await;
    let mut stream = stream.expect("a handshake");
    let read = within(stream.read(&mut [0; 64])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "it is closed: {read:?}");
}
