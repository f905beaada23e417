//! The outermost layer: what holds for every call, whichever service it is for.
//!
//! It keeps the caller's deadline, the limits on what is done at once, a span and a line in the
//! log for each call, and the contract's words for failures that never reach a handler. It never
//! looks into a message.
//!
//! | file | does |
//! | --- | --- |
//! | `load` | counts what is under way, by connection, by caller and in all |
//! | `call` | one call, from its first byte to its last |
//! | `request` | the body of a request while it comes in |
//! | `answer` | the body of an answer while it is sent |
//! | `reset` | cuts off a stream whose peer does not read |
//! | `method` | what is known of a method before its call is read |

mod in_flight;
pub mod load;
pub mod method;
mod request_body;
pub mod reset;
mod response_body;

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use super::status;
use in_flight::{InFlightCall, Times};
use load::{Bounds, Connection, Everybody, Held, Kind, LimitReached};
use method::{Method, Methods};
use request_body::Incoming;
use response_body::{Sending, Termination};

/// How long a call may take, its request and its answer included, or a stream to begin, when its
/// caller would wait longer.
const CALL_TIME_MAX: Duration = Duration::from_secs(60);

/// How much is done at once, and how long a peer may take. What comes beyond is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls that are answered at once.
    pub calls: Bounds,
    /// Streams that are open at once; they are mostly silent.
    pub streams: Bounds,
    /// Health checks, beside the calls: an overloaded server is not a dead one.
    pub checks: Bounds,
    /// Bytes of requests that have not come in whole, and of answers that have not been read.
    pub bytes: Bounds,
    /// Connections; what a connection has of them is not looked at.
    pub connections: Bounds,
    /// How long a request may take to come in.
    pub receive_time_max: Duration,
    /// How long a connection may take to say that it speaks HTTP/2.
    pub preface_time_max: Duration,
    /// How long a connection may be without a call.
    pub idle_time_max: Duration,
}

impl Limits {
    fn bounds(&self, kind: Kind) -> Bounds {
        match kind {
            Kind::Call => self.calls,
            Kind::Stream => self.streams,
            Kind::Check => self.checks,
            Kind::Byte => self.bytes,
            Kind::Connection => self.connections,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1_024 * 1_024;
        Self {
            calls: Bounds {
                all: 2_048,
                caller: 1_024,
                connection: 512,
            },
            streams: Bounds {
                all: 2_048,
                caller: 1_536,
                connection: 1_024,
            },
            checks: Bounds {
                all: 256,
                caller: 128,
                connection: 64,
            },
            bytes: Bounds {
                all: 256 * MIB,
                caller: 128 * MIB,
                connection: 32 * MIB,
            },
            connections: Bounds {
                all: 4_096,
                caller: 3_072,
                connection: 1,
            },
            receive_time_max: Duration::from_secs(10),
            preface_time_max: Duration::from_secs(10),
            idle_time_max: Duration::from_secs(300),
        }
    }
}

/// What holds for every call of all connections. Cloning gives another handle to the same.
#[derive(Clone, Debug)]
pub struct MiddlewareLayer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    methods: Methods,
    limits: Limits,
    everybody: Arc<Everybody>,
    draining: CancellationToken,
}

impl MiddlewareLayer {
    /// Returns a boundary for these methods. Once `draining` is cancelled, streams of other services than
    /// ours end; ours end by themselves.
    pub fn new(methods: Methods, limits: Limits, draining: CancellationToken) -> Self {
        Self(Arc::new(Shared {
            methods,
            limits,
            everybody: Everybody::within(limits),
            draining,
        }))
    }

    /// Puts a boundary around the services for a connection from this address.
    ///
    /// # Errors
    ///
    /// It is one too many.
    pub fn connect<S>(&self, address: IpAddr, services: S) -> Result<Middleware<S>, LimitReached> {
        Ok(Middleware {
            services,
            shared: self.0.clone(),
            connection: self.0.everybody.connect(address)?,
        })
    }
}

/// The services, seen from one connection.
#[derive(Clone, Debug)]
pub struct Middleware<S> {
    services: S,
    shared: Arc<Shared>,
    connection: Arc<Connection>,
}

impl<S> Service<Request<Body>> for Middleware<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.services.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = self.shared.methods.find(request.uri().path());
        let began = Instant::now();
        let asked = timeout(request.headers()).and_then(|timeout| began.checked_add(timeout));
        let latest = began + CALL_TIME_MAX;
        let times = Times {
            received_by: began + self.shared.limits.receive_time_max,
            deadline: asked.map_or(latest, |asked| asked.min(latest)),
        };
        let sending = match method.streams {
            true => {
                let draining = (!method.is_ours).then(|| self.shared.draining.clone());
                let cut: Termination = Box::pin(cut(asked, draining));
                Sending::Stream(cut, asked)
            }
            false => Sending::Whole(self.connection.clone(), times.deadline),
        };
        let place = match self.acquire_permit(&method) {
            Ok(place) => place,
            Err(refused) => {
                let call = InFlightCall::begin(method, None);
                let refused = refused.into_http();
                return Box::pin(async { Ok(call.answer(refused, sending).await) });
            }
        };
        let call = InFlightCall::begin(method, Some(place));
        let (head, body) = request.into_parts();
        let body = Incoming::new(body, &self.connection);
        let received = body.received();
        let handler = self
            .services
            .call(Request::from_parts(head, Body::new(body)));
        Box::pin(async move {
            let response = call.run(handler, &received, times).await;
            Ok(call.answer(response, sending).await)
        })
    }
}

impl<S> Middleware<S> {
    /// Returns a place for a call of this method, or how it is refused.
    fn acquire_permit(&self, method: &Method) -> Result<Held, Status> {
        let kind = match (method.streams, method.is_ours) {
            (true, _) => Kind::Stream,
            (false, true) => Kind::Call,
            (false, false) => Kind::Check,
        };
        // Before anything is done for it: what has been written cannot be refused any more.
        if kind == Kind::Call && self.connection.is_full(Kind::Byte) {
            return Err(status::too_much_in_memory());
        }
        let place = self.connection.take(kind, 1);
        place.map_err(|LimitReached| status::overloaded())
    }
}

/// Waits for what ends a stream from outside, and says how it ends.
async fn cut(deadline: Option<Instant>, draining: Option<CancellationToken>) -> Status {
    let over = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let stopping = async {
        match draining {
            Some(draining) => draining.cancelled_owned().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = over => status::deadline_exceeded(),
        () = stopping => status::stopping(),
    }
}

/// Returns how long the caller waits, by the header `grpc-timeout`: up to eight digits and a unit. One
/// that is not understood counts as none, as in tonic.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
