//! The whole service on a port of its own, with real clients and a clock that the test moves.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use care_invitation::auth::Authenticator;
use care_invitation::clock::Clock;
use care_invitation::contract::v1;
use care_invitation::contract::v1::audit_service_client::AuditServiceClient;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use care_invitation::contract::v1::care_unit_settings_service_client::CareUnitSettingsServiceClient;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::contract::v1::patient_service_client::PatientServiceClient;
use care_invitation::contract::v1::stream_due_notifications_response::Event;
use care_invitation::contract::v1::worklist_service_client::WorklistServiceClient;
use care_invitation::domain::RegionPolicy;
use care_invitation::grpc::descriptors::Descriptors;
use care_invitation::grpc::middleware::Limits;
use care_invitation::server::web::Web;
use care_invitation::server::{self, Dependencies};
use care_invitation::telemetry::traces::Traces;
use http::HeaderValue;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::backend::Backend;
use crate::consumer;
use crate::make::at;

/// The longest that a test waits for a fact. Reaching it is a failure, not a measurement.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A connection, over which calls bring a token, or none.
pub type Line = InterceptedService<Channel, Bearer>;

/// The token that calls bring, if they bring one, and the member of the staff whom they name.
#[derive(Clone, Default)]
pub struct Bearer {
    token: Option<MetadataValue<Ascii>>,
    staff: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        if let Some(token) = &self.token {
            metadata.insert("authorization", token.clone());
        }
        if let Some(id) = &self.staff {
            metadata.insert("actor-type", MetadataValue::from_static("STAFF"));
            metadata.insert("actor-id", id.clone());
        }
        Ok(request)
    }
}

/// A running service.
pub struct Harness {
    pub backend: Backend,
    pub clock: Clock,
    pub address: SocketAddr,
    /// Where its metrics are.
    pub metrics: SocketAddr,
    pub channel: Channel,
    /// What the calls bring with them.
    bearer: Mutex<Bearer>,
    pub shutdown: CancellationToken,
    pub server: AbortOnDropHandle<()>,
}

impl Harness {
    /// The service on an empty database, its clock standing at `now`.
    pub async fn start(now: &str) -> Self {
        Self::with_limits(now, Limits::default()).await
    }

    pub async fn with_limits(now: &str, limits: Limits) -> Self {
        Self::on(Clock::sandbox(at(now)), limits).await
    }

    pub async fn on(clock: Clock, limits: Limits) -> Self {
        Self::over(Backend::empty().await, clock, limits).await
    }

    /// Another replica of the service: a server of its own over the same database, by the same
    /// clock. Only PostgreSQL lets more than one in.
    pub async fn replica(&self) -> Self {
        let backend = self.backend.again().await;
        Self::over(backend, self.clock.clone(), Limits::default()).await
    }

    /// The service on an empty database, which takes the calls that this lets in.
    pub async fn guarded(now: &str, authenticator: Authenticator) -> Self {
        let (backend, clock) = (Backend::empty().await, Clock::sandbox(at(now)));
        let (limits, traces) = (Limits::default(), Traces::default());
        Self::behind(authenticator, backend, clock, limits, None, traces).await
    }

    /// The service on an empty database, with traces.
    pub async fn traced(now: &str, traces: Traces) -> Self {
        let (backend, clock) = (Backend::empty().await, Clock::sandbox(at(now)));
        let (open, limits) = (Authenticator::open(), Limits::default());
        Self::behind(open, backend, clock, limits, None, traces).await
    }

    /// The service over what is there already.
    pub async fn over(backend: Backend, clock: Clock, limits: Limits) -> Self {
        let (open, traces) = (Authenticator::open(), Traces::default());
        Self::behind(open, backend, clock, limits, None, traces).await
    }

    /// The service on an empty database, which web pages of this origin may call.
    pub async fn for_pages(now: &str, limits: Limits, origin: &'static str) -> Self {
        let web = Web::of(vec![HeaderValue::from_static(origin)]);
        let (backend, clock) = (Backend::empty().await, Clock::sandbox(at(now)));
        let (open, traces) = (Authenticator::open(), Traces::default());
        Self::behind(open, backend, clock, limits, web, traces).await
    }

    async fn behind(
        authenticator: Authenticator,
        backend: Backend,
        clock: Clock,
        limits: Limits,
        web: Option<Web>,
        traces: Traces,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let page = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let metrics = page.local_addr().expect("bound");
        let shutdown = CancellationToken::new();
        let parts = Dependencies {
            descriptors: served_with(&clock),
            store: backend.store.clone(),
            clock: clock.clone(),
            policy: RegionPolicy::default(),
            limits,
            authenticator,
            tls: None,
            web,
            drain_delay: Duration::ZERO,
            heartbeat: Duration::from_secs(15),
            changes_days: 35,
            metrics: Some(page),
            traces,
        };
        let server = tokio::spawn(server::run(listener, parts, shutdown.clone()));
        let server = AbortOnDropHandle::new(server);
        let endpoint = Endpoint::try_from(format!("http://{address}")).expect("an address");
        Self {
            backend,
            clock,
            address,
            metrics,
            channel: endpoint.connect().await.expect("connected"),
            bearer: Mutex::default(),
            shutdown,
            server,
        }
    }

    /// Lets the calls that follow bring a token, on behalf of a member of the staff if one is named.
    pub fn call_with(&self, token: &str, staff: Option<&str>) {
        let token = format!("Bearer {token}").parse().expect("a token");
        let staff = staff.map(|it| it.parse().expect("an id"));
        let token = Some(token);
        *self.bearer.lock().expect("whole") = Bearer { token, staff };
    }

    fn line(&self) -> Line {
        let bearer = self.bearer.lock().expect("whole").clone();
        InterceptedService::new(self.channel.clone(), bearer)
    }

    pub fn audit(&self) -> AuditServiceClient<Line> {
        AuditServiceClient::new(self.line())
    }

    pub fn requests(&self) -> BookingRequestServiceClient<Line> {
        BookingRequestServiceClient::new(self.line())
    }

    pub fn worklists(&self) -> WorklistServiceClient<Line> {
        WorklistServiceClient::new(self.line())
    }

    pub fn settings(&self) -> CareUnitSettingsServiceClient<Line> {
        CareUnitSettingsServiceClient::new(self.line())
    }

    pub fn notifications(&self) -> NotificationServiceClient<Line> {
        NotificationServiceClient::new(self.line())
    }

    pub fn patients(&self) -> PatientServiceClient<Line> {
        PatientServiceClient::new(self.line())
    }

    pub async fn create(
        &self,
        call: v1::CreateBookingRequestRequest,
    ) -> Result<v1::BookingRequest, Status> {
        let answer = within(self.requests().create_booking_request(call)).await?;
        Ok(answer.into_inner().booking_request.expect("the request"))
    }

    pub async fn get(&self, name: &str) -> Result<v1::BookingRequest, Status> {
        let call = v1::GetBookingRequestRequest { name: name.into() };
        let answer = within(self.requests().get_booking_request(call)).await?;
        Ok(answer.into_inner().booking_request.expect("the request"))
    }

    pub async fn invite(
        &self,
        call: v1::ChangeToInvitationRequest,
    ) -> Result<v1::BookingRequest, Status> {
        let answer = within(self.requests().change_to_invitation(call)).await?;
        Ok(answer.into_inner().booking_request.expect("the request"))
    }

    pub async fn book(&self, call: v1::RecordBookingRequest) -> Result<v1::BookingRequest, Status> {
        let answer = within(self.requests().record_booking(call)).await?;
        Ok(answer.into_inner().booking_request.expect("the request"))
    }

    pub async fn cancel(
        &self,
        call: v1::CancelBookingRequestRequest,
    ) -> Result<v1::BookingRequest, Status> {
        let answer = within(self.requests().cancel_booking_request(call)).await?;
        Ok(answer.into_inner().booking_request.expect("the request"))
    }

    /// What has happened to a request, its first 500 entries.
    pub async fn history(&self, name: &str) -> Vec<v1::HistoryEntry> {
        let call = v1::ListHistoryRequest {
            name: name.into(),
            page_size: 500,
            page_token: String::new(),
        };
        let answer = within(self.requests().list_history(call)).await;
        answer.expect("the history").into_inner().entries
    }

    /// Leases every message that is due now.
    pub async fn lease_due(&self) -> Vec<v1::DueNotification> {
        let call = v1::StreamDueNotificationsRequest {
            until_idle: true,
            max_outstanding: 1_000,
            ..Default::default()
        };
        let answer = within(self.notifications().stream_due_notifications(call)).await;
        let mut events = answer.expect("a stream").into_inner();
        let mut due = Vec::new();
        while let Some(event) = within(events.message()).await.expect("an event") {
            if let Some(Event::Due(message)) = event.event {
                due.push(message);
            }
        }
        due
    }

    /// Leases every message that is due now and hands it over.
    pub async fn hand_over_due(&self) -> Vec<v1::DueNotification> {
        let due = self.lease_due().await;
        self.acknowledge_sent(&due).await;
        due
    }

    /// Says that these messages have been handed over now.
    pub async fn acknowledge_sent(&self, due: &[v1::DueNotification]) {
        let sent = due.iter().map(|message| v1::Acknowledgement {
            lease: Some(v1::Lease {
                name: message.notification.clone().expect("a message").name,
                lease_token: message.lease_token.clone(),
            }),
            outcome: v1::acknowledgement::Outcome::Sent.into(),
            ..Default::default()
        });
        let call = v1::AcknowledgeNotificationsRequest {
            acknowledgements: sent.collect(),
        };
        if !call.acknowledgements.is_empty() {
            let answer = within(self.notifications().acknowledge_notifications(call)).await;
            assert!(consumer::lost(answer.expect("recorded").get_ref()).is_empty());
        }
    }

    /// Moves the service's clock forward.
    pub fn advance(&self, to: &str) {
        self.clock.advance(at(to)).expect("forward");
    }
}

/// The services that are served with this clock.
pub fn served_with(clock: &Clock) -> Descriptors {
    Descriptors::served_with(clock).expect("every method has its scopes")
}

/// Waits for a fact, for as long as a test may.
pub async fn within<T>(fact: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, fact)
        .await
        .expect("the fact came about in time")
}

/// The answer of a call that is repeated for as long as a busy machine keeps it from being answered in time.
pub async fn repeated<T, F>(call: impl Fn() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let answer = async {
        loop {
            match call().await {
                Err(status) if status.code() == Code::Unavailable => {}
                answer => break answer,
            }
        }
    };
    within(answer).await
}

/// Code and reason of a failure that the service itself made.
pub fn refusal(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    let info = details.error_info().expect("a reason");
    assert_eq!(info.domain, "careinvitation");
    (status.code(), info.reason.clone())
}

/// What a failure says of itself under `key`; empty when nothing.
pub fn metadata(status: &Status, key: &str) -> String {
    let details = status.get_error_details();
    let info = details.error_info().expect("a reason");
    info.metadata.get(key).cloned().unwrap_or_default()
}

/// The paths of the bad fields that a failure names, in its order.
pub fn bad_fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = details
        .bad_request()
        .map(|it| it.field_violations.clone())
        .unwrap_or_default();
    violations.into_iter().map(|it| it.field).collect()
}
