//! Who gets in: closed by default, TLS, tokens, certificates of clients.

mod audited;
pub mod calls;
mod care_units;
mod certificates;
mod commands;
pub mod host;
pub mod issuer;
mod keys;
mod patients;
mod protected;
mod rates;
pub mod raw;
pub mod scopes;
mod settings;
mod silence;
pub mod tls;
mod tokens;

use std::net::SocketAddr;
use std::time::Duration;

use care_invitation::auth::Authenticator;
use care_invitation::auth::keys::{Keys, Source};
use care_invitation::auth::token::Tokens;
use care_invitation::clock::Clock;
use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use care_invitation::domain::RegionPolicy;
use care_invitation::grpc::middleware::Limits;
use care_invitation::server::tls::Tls;
use care_invitation::server::{self, Dependencies};
use care_invitation::telemetry::traces::Traces;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::metadata::{AsciiMetadataKey, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::backend::Backend;
use crate::harness::{refusal, served_with, within};
use crate::make;

const NOW: &str = "2026-03-02T09:00:00Z";

/// A service behind its door.
pub struct Guarded {
    address: SocketAddr,
    _backend: Backend,
    _server: AbortOnDropHandle<()>,
}

impl Guarded {
    async fn start(authenticator: Authenticator) -> Self {
        Self::within_limits(authenticator, None, Limits::default()).await
    }

    async fn within_limits(authenticator: Authenticator, tls: Option<Tls>, limits: Limits) -> Self {
        Self::traced(authenticator, tls, limits, Traces::default()).await
    }

    async fn traced(
        authenticator: Authenticator,
        tls: Option<Tls>,
        limits: Limits,
        traces: Traces,
    ) -> Self {
        let backend = Backend::empty().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let clock = Clock::sandbox(make::at(NOW));
        let parts = Dependencies {
            descriptors: served_with(&clock),
            store: backend.store.clone(),
            clock,
            policy: RegionPolicy::default(),
            limits,
            authenticator,
            tls,
            web: None,
            drain_delay: Duration::ZERO,
            heartbeat: Duration::from_secs(15),
            changes_days: 35,
            metrics: None,
            traces,
        };
        let server = server::run(listener, parts, CancellationToken::new());
        Self {
            address,
            _backend: backend,
            _server: AbortOnDropHandle::new(tokio::spawn(server)),
        }
    }

    /// A connection in plain text.
    async fn channel(&self) -> Channel {
        let address = format!("http://{}", self.address);
        let endpoint = Endpoint::try_from(address).expect("an address");
        within(endpoint.connect()).await.expect("connected")
    }
}

/// Authentication by the tokens of the issuer, whose keys come from there.
pub async fn by_tokens(source: Source) -> Authenticator {
    let keys = within(Keys::open(source)).await.expect("keys");
    let (issuer, audience) = (issuer::ISSUER.to_owned(), issuer::AUDIENCE.to_owned());
    Authenticator::by_tokens(Tokens::new(issuer, audience, keys, Clock::real()))
}

/// A call with this metadata; values may be repeated.
fn with<T>(message: T, metadata: &[(&str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in metadata {
        let name = AsciiMetadataKey::from_bytes(name.as_bytes()).expect("a name");
        let value = MetadataValue::try_from(*value).expect("a value");
        request.metadata_mut().append(name, value);
    }
    request
}

/// A call with this token.
fn bearing<T>(message: T, token: &str) -> Request<T> {
    with(message, &[("authorization", &format!("Bearer {token}"))])
}

/// How a call ends that is for a request that does not exist.
async fn ask(channel: &Channel, metadata: &[(&str, &str)]) -> Status {
    let name = format!("{}/bookingRequests/{}", make::wire_unit(), make::key().id);
    let mut client = BookingRequestServiceClient::new(channel.clone());
    let call = with(v1::GetBookingRequestRequest { name }, metadata);
    let answer = within(client.get_booking_request(call)).await;
    answer.expect_err("there is no such request")
}

/// The same with this token.
async fn ask_with(channel: &Channel, token: &str) -> Status {
    ask(channel, &[("authorization", &format!("Bearer {token}"))]).await
}

fn admitted() -> (Code, String) {
    (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned())
}

fn unauthenticated(reason: &str) -> (Code, String) {
    (Code::Unauthenticated, reason.to_owned())
}

/// Whether a call got through to the handler.
fn is_admitted(status: &Status) -> bool {
    refusal(status) == admitted()
}
