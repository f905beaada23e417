//! A collector of traces, as operators run one: it takes spans by OTLP, or hangs.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use care_invitation::config::traces::Traces as Settings;
use care_invitation::telemetry::traces::Traces;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status};

/// Takes spans until it is dropped.
pub struct Collector {
    pub address: SocketAddr,
    taken: Taken,
    _server: AbortOnDropHandle<()>,
}

/// What was taken, as it came.
#[derive(Clone, Default)]
struct Taken {
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    hangs: bool,
    is_asked: Arc<AtomicBool>,
}

#[tonic::async_trait]
impl TraceService for Taken {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.is_asked.store(true, Ordering::Relaxed);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let mut requests = self.requests.lock().expect("whole");
        requests.push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub async fn start() -> Self {
        Self::with(Taken::default()).await
    }

    /// One that never answers.
    pub async fn hanging() -> Self {
        let hangs = true;
        Self::with(Taken {
            hangs,
            ..Taken::default()
        })
        .await
    }

    async fn with(taken: Taken) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let service = TraceServiceServer::new(taken.clone());
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        let serving = async move { serving.await.expect("it serves") };
        Self {
            address,
            taken,
            _server: AbortOnDropHandle::new(tokio::spawn(serving)),
        }
    }

    /// Whether it was asked to take something.
    pub fn is_asked(&self) -> bool {
        self.taken.is_asked.load(Ordering::Relaxed)
    }

    /// Traces that go to it, of which every one is sampled that begins with the service.
    pub fn traces(&self) -> Traces {
        traces_to(self.address, 1_000_000)
    }

    /// All that it has taken, as text.
    pub fn text(&self) -> String {
        format!("{:?}", self.taken.requests.lock().expect("whole"))
    }

    /// The spans that it has taken.
    pub fn spans(&self) -> Vec<Span> {
        let requests = self.taken.requests.lock().expect("whole");
        let resources = requests.iter().flat_map(|it| &it.resource_spans);
        let scopes = resources.flat_map(|it| &it.scope_spans);
        scopes.flat_map(|it| &it.spans).cloned().collect()
    }

    /// What it knows of the service.
    pub fn resource(&self, key: &str) -> String {
        let requests = self.taken.requests.lock().expect("whole");
        let resource = requests[0].resource_spans[0].resource.clone();
        attribute(&resource.expect("a resource").attributes, key)
    }
}

/// Traces that go to this address, of which so many of a million are sampled.
pub fn traces_to(address: SocketAddr, sampled_per_million: u32) -> Traces {
    let endpoint = format!("http://{address}").parse().expect("an address");
    let settings = Settings {
        endpoint,
        sampled_per_million,
    };
    Traces::start(&settings).expect("a good endpoint")
}

/// The value of an attribute; empty when there is none.
pub fn attribute(
    attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue],
    key: &str,
) -> String {
    let found = attributes.iter().find(|it| it.key == key);
    let value = found
        .and_then(|it| it.value.clone())
        .and_then(|it| it.value);
    match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

/// An id as headers have it.
pub fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
