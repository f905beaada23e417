//! Calls of web pages: gRPC-Web, in HTTP/1.1 too, which is all that browsers speak without TLS. Off unless origins are
//! named, whose pages alone may call.
//!
//! tonic-web and tower-http's CORS stand outside the middleware: what comes in there are calls like all others, under
//! the same limits, authentication and deadlines. A preflight is answered before that; it reaches no service.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::Layer;
use tower_http::cors::{Cors, CorsLayer};

use super::streams::CountEnd;
use crate::grpc::middleware::reset::CutOff;

/// Time for which a browser may keep the answer to a preflight.
const PREFLIGHT_AGE: Duration = Duration::from_secs(7_200);
/// Headers that pages may send.
const ALLOWED: [HeaderName; 12] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    HeaderName::from_static("actor-id"),
    HeaderName::from_static("actor-type"),
    HeaderName::from_static("grpc-accept-encoding"),
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-grpc-web"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-user-agent"),
];
/// Headers of answers that pages may read.
const EXPOSED: [HeaderName; 5] = [
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-status-details-bin"),
    HeaderName::from_static("idempotent-replay"),
];

/// The way in for web pages. Clones are the same.
#[derive(Clone, Debug)]
pub struct Web(CorsLayer);

impl Web {
    /// Makes the way in for pages of these origins; none where there are none.
    pub fn of(origins: Vec<HeaderValue>) -> Option<Self> {
        let cors = CorsLayer::new()
            .allow_methods([Method::POST])
            .allow_headers(ALLOWED)
            .expose_headers(EXPOSED)
            .max_age(PREFLIGHT_AGE);
        (!origins.is_empty()).then(|| Self(cors.allow_origin(origins)))
    }

    /// Wraps services so that they are called by pages, too.
    pub fn wrap<S>(&self, services: S) -> Cors<GrpcWebService<S>> {
        self.0.layer(GrpcWebLayer::new().layer(services))
    }
}

/// The body of a response in HTTP/1.1, where calls follow each other on a connection: what was set for one call must not
/// last into the next.
pub struct Http1Body {
    body: Body,
    _count_end: CountEnd,
}

impl Http1Body {
    /// Makes the body of a call that has been counted.
    pub fn new(body: Body, count_end: CountEnd) -> Self {
        Self {
            body,
            _count_end: count_end,
        }
    }
}

impl Drop for Http1Body {
    fn drop(&mut self) {
        CutOff::of_this_stream().clear();
    }
}

impl HttpBody for Http1Body {
    type Data = <Body as HttpBody>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
