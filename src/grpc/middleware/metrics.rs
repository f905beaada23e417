//! Metrics of calls, under the names that OpenTelemetry has for them. Labels are methods of the contract and codes of
//! gRPC, so that their number is bounded whatever callers send.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;
use tonic::Code;

use super::method::Method;
use crate::grpc::status;

/// Upper bounds of the buckets of durations, in seconds: OpenTelemetry's, with two below them, where most calls are.
const SECONDS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
/// Name of the system of calls.
const GRPC: &str = "grpc";

/// The numbers of calls.
#[derive(Debug)]
pub struct CallMetrics {
    duration: Family<CallLabels, Histogram, fn() -> Histogram>,
    active: Family<MethodLabels, Gauge>,
    open_streams: Family<MethodLabels, Gauge>,
    ended_streams: Family<CallLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    rpc_system_name: &'static str,
    rpc_method: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    rpc_system_name: &'static str,
    rpc_method: Arc<str>,
    rpc_response_status_code: &'static str,
}

impl Default for CallMetrics {
    fn default() -> Self {
        Self {
            duration: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            active: Family::default(),
            open_streams: Family::default(),
            ended_streams: Family::default(),
        }
    }
}

impl CallMetrics {
    /// Counts a call that begins.
    pub fn begin(&self, method: &Method) {
        self.in_flight(method).get_or_create(&of(method)).inc();
    }

    /// Counts a call that ends with a code; without one when its caller went away.
    pub fn end(&self, method: &Method, began: Instant, code: Option<Code>) {
        self.in_flight(method).get_or_create(&of(method)).dec();
        let labels = CallLabels {
            rpc_system_name: GRPC,
            rpc_method: method.name.clone(),
            rpc_response_status_code: status::code_name(code.unwrap_or(status::CALLER_GONE)),
        };
        // How long a stream was open says nothing of how fast the service is.
        match method.streams {
            true => drop(self.ended_streams.get_or_create(&labels).inc()),
            false => {
                let duration = self.duration.get_or_create(&labels);
                duration.observe(began.elapsed().as_secs_f64());
            }
        }
    }

    fn in_flight(&self, method: &Method) -> &Family<MethodLabels, Gauge> {
        match method.streams {
            true => &self.open_streams,
            false => &self.active,
        }
    }

    /// Registers the numbers under their names.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "rpc_server_call_duration_seconds",
            "Time from the first byte of a call to the last of its answer, without streams",
            self.duration.clone(),
        );
        registry.register(
            "care_invitation_active_calls",
            "Calls in flight, without streams",
            self.active.clone(),
        );
        registry.register(
            "care_invitation_open_streams",
            "Open streams",
            self.open_streams.clone(),
        );
        registry.register(
            "care_invitation_ended_streams",
            "Streams that have ended",
            self.ended_streams.clone(),
        );
    }
}

fn of(method: &Method) -> MethodLabels {
    MethodLabels {
        rpc_system_name: GRPC,
        rpc_method: method.name.clone(),
    }
}
