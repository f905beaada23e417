//! One replica of the service on a database that it shares with others, or that may go away.

use std::time::Duration;

use care_invitation::auth::Authenticator;
use care_invitation::clock::Clock;
use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::contract::v1::worklist_service_client::WorklistServiceClient;
use care_invitation::domain::RegionPolicy;
use care_invitation::grpc::middleware::Limits;
use care_invitation::server::{self, Dependencies};
use care_invitation::store::Store;
use care_invitation::store::schema::Schema;
use care_invitation::telemetry::traces::Traces;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::consumer;
use crate::harness::{served_with, within};

/// How long a client waits before it comes again.
const PAUSE: Duration = Duration::from_millis(50);

/// A running replica.
pub struct Replica {
    pub channel: Channel,
    pub shutdown: CancellationToken,
    pub server: JoinHandle<()>,
}

impl Replica {
    /// On the database that `url` names, going by `clock`.
    pub async fn start(url: &str, clock: Clock) -> Self {
        let store = Store::open(url, Schema::Migrate)
            .await
            .expect("the database");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let shutdown = CancellationToken::new();
        let parts = Dependencies {
            descriptors: served_with(&clock),
            store,
            clock,
            policy: RegionPolicy::default(),
            limits: Limits::default(),
            authenticator: Authenticator::open(),
            tls: None,
            web: None,
            drain_delay: Duration::ZERO,
            heartbeat: Duration::from_secs(15),
            changes_days: 35,
            metrics: None,
            traces: Traces::default(),
        };
        let server = tokio::spawn(server::run(listener, parts, shutdown.clone()));
        let endpoint = Endpoint::try_from(format!("http://{address}")).expect("an address");
        Self {
            channel: endpoint.connect().await.expect("connected"),
            shutdown,
            server,
        }
    }

    pub fn requests(&self) -> BookingRequestServiceClient<Channel> {
        BookingRequestServiceClient::new(self.channel.clone())
    }

    pub fn worklists(&self) -> WorklistServiceClient<Channel> {
        WorklistServiceClient::new(self.channel.clone())
    }

    pub fn notifications(&self) -> NotificationServiceClient<Channel> {
        NotificationServiceClient::new(self.channel.clone())
    }

    /// Creates a request; repeats the call for as long as the answer is that it may be repeated.
    pub async fn create(&self, call: v1::CreateBookingRequestRequest) -> v1::BookingRequest {
        let created = async {
            loop {
                let answer = self.requests().create_booking_request(call.clone()).await;
                if let Some(answer) = patient(answer).await {
                    return answer;
                }
            }
        };
        within(created).await.booking_request.expect("the request")
    }

    /// Answers for messages, as [`Self::create`] does. Says which leases are lost.
    pub async fn acknowledge(&self, sent: Vec<v1::Acknowledgement>) -> Vec<String> {
        let call = v1::AcknowledgeNotificationsRequest {
            acknowledgements: sent,
        };
        let recorded = async {
            loop {
                let mut client = self.notifications();
                let answer = client.acknowledge_notifications(call.clone()).await;
                if let Some(answer) = patient(answer).await {
                    return answer;
                }
            }
        };
        consumer::lost(&within(recorded).await)
    }

    /// Waits until health says so of a service; the empty name is the whole.
    pub async fn healthy(&self, service: &str, wanted: ServingStatus) {
        healthy(&self.channel, service, wanted).await;
    }
}

/// Waits until health says so of a service; the empty name is the whole.
pub async fn healthy(channel: &Channel, service: &str, wanted: ServingStatus) {
    let watch = HealthCheckRequest {
        service: service.to_owned(),
    };
    let mut client = HealthClient::new(channel.clone());
    let watched = within(client.watch(watch)).await.expect("a stream");
    let mut watched = watched.into_inner();
    let turned = async {
        loop {
            let said = watched.message().await.expect("an answer");
            if said.expect("no end").status() == wanted {
                return;
            }
        }
    };
    within(turned).await;
}

/// The answer; none, after a pause, when the call may be repeated.
async fn patient<T>(answer: Result<tonic::Response<T>, Status>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer.into_inner()),
        Err(status) => {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
            assert!(
                status.get_error_details().retry_info().is_some(),
                "{status:?}"
            );
            sleep(PAUSE).await;
            None
        }
    }
}
