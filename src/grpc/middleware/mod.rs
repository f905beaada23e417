//! The outermost layer around every call, whichever service it is for.
//!
//! It enforces the caller's deadline and the limits on concurrent work, authenticates each call, opens a
//! span and writes a log line for it, and turns failures that never reach a handler into errors of the contract. It
//! never reads a message.
//!
//! | file | does |
//! | --- | --- |
//! | `access` | the access log of a call |
//! | `admission` | authenticates calls before their handlers run |
//! | `compression` | which answers may be compressed |
//! | `load` | counts calls, streams, bytes and connections, by connection, by caller, by subject and in all |
//! | `subject` | the rates and the share of one subject |
//! | `rows` | counts the rows of answers |
//! | `in_flight` | one call, from its first byte to its last |
//! | `request_body` | the body of a request while it is received |
//! | `remainder` | the rest of a request that is refused before it is read |
//! | `response_body` | the body of a response while it is sent |
//! | `reset` | cuts off a stream whose peer does not read |
//! | `named` | the ids by which a caller names a call |
//! | `metrics` | the numbers of calls |
//! | `method` | the properties of a method that are known before its call is read |
//!
//! The layers of tower and tower-http do none of this: they limit one service as a whole, until its
//! response begins, and fail with errors of their own. Each file says which layer comes near, and what
//! it lacks.

pub mod access;
mod admission;
mod compression;
mod in_flight;
pub mod load;
pub mod method;
pub mod metrics;
mod named;
mod remainder;
mod request_body;
pub mod reset;
mod response_body;
pub mod rows;
pub mod subject;

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use super::status;
use crate::auth::Authenticator;
use crate::auth::caller::Caller;
use crate::auth::certificate::Certificate;
use crate::telemetry::traces::{self, Traces};
use access::{AccessLog, CallAccess};
use admission::Admission;
use in_flight::{Deadlines, InFlightCall};
use load::{Bounds, Connection, LimitReached, Permit, Resource, TotalLoad};
use method::{Method, Methods};
use metrics::CallMetrics;
use named::Named;
use remainder::Remainders;
use request_body::RequestBody;
use reset::RightsEnd;
use response_body::{Sending, Terminations, respond};
use rows::Rows;
use subject::{SubjectLimits, Subjects};

/// Longest time for a call, its request and its response included, or for the beginning of a stream,
/// when its caller would wait longer.
const CALL_TIME_MAX: Duration = Duration::from_secs(60);
/// Longest time after the end of a caller's rights in which its stream may still be read up to the status that
/// says so.
const NOTICE_MAX: Duration = Duration::from_secs(5);

/// Limits on concurrent work, and on the time that a peer may take. Anything beyond them is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bounds on unary calls in flight.
    pub calls: Bounds,
    /// Bounds on open streams, which are mostly silent.
    pub streams: Bounds,
    /// Bounds on health checks, apart from the calls: an overloaded server is not a dead one.
    pub checks: Bounds,
    /// Bounds on bytes of requests that have not been received whole, and of responses that have not
    /// been read.
    pub bytes: Bounds,
    /// Bounds on connections; the bound for one connection is not used.
    pub connections: Bounds,
    /// Limits on one subject, beside its bounds on what it has at once.
    pub subject: SubjectLimits,
    /// Longest time in which a request must be received.
    pub receive_time_max: Duration,
    /// Longest time in which a connection must send the HTTP/2 preface.
    pub preface_time_max: Duration,
    /// Longest time for which a connection may be without a call.
    pub idle_time_max: Duration,
}

impl Limits {
    fn bounds(&self, resource: Resource) -> Bounds {
        match resource {
            Resource::Call => self.calls,
            Resource::Stream => Bounds {
                subject: self.subject.streams_within(self.streams.subject),
                ..self.streams
            },
            Resource::Check => self.checks,
            Resource::Byte => self.bytes,
            Resource::Connection => self.connections,
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
                subject: 512,
                connection: 512,
            },
            streams: Bounds {
                all: 2_048,
                caller: 1_536,
                subject: 1_024,
                connection: 1_024,
            },
            checks: Bounds {
                all: 256,
                caller: 128,
                subject: 128,
                connection: 64,
            },
            bytes: Bounds {
                all: 256 * MIB,
                caller: 128 * MIB,
                subject: 64 * MIB,
                connection: 32 * MIB,
            },
            connections: Bounds {
                all: 4_096,
                caller: 3_072,
                subject: 3_072,
                connection: 1,
            },
            subject: SubjectLimits::default(),
            receive_time_max: Duration::from_secs(10),
            preface_time_max: Duration::from_secs(10),
            idle_time_max: Duration::from_secs(300),
        }
    }
}

/// Wraps the services of each connection in the middleware. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct MiddlewareLayer(Arc<Shared>);

struct Shared {
    methods: Arc<Methods>,
    limits: Limits,
    load: Arc<TotalLoad>,
    subjects: Subjects,
    admission: Admission,
    access_log: Option<AccessLog>,
    metrics: Arc<CallMetrics>,
    remainders: Remainders,
    traces: Traces,
    draining: CancellationToken,
}

impl MiddlewareLayer {
    /// Returns a layer for these methods, whose calls go into the access log, if there is one, and into traces. Once `draining` is
    /// cancelled, it ends the streams of other services than ours; ours end by themselves.
    pub fn new(
        methods: Arc<Methods>,
        limits: Limits,
        authenticator: Authenticator,
        access_log: Option<AccessLog>,
        traces: Traces,
        draining: CancellationToken,
    ) -> Self {
        Self(Arc::new(Shared {
            methods,
            limits,
            load: TotalLoad::new(limits),
            subjects: Subjects::new(limits),
            admission: Admission::new(authenticator),
            access_log,
            metrics: Arc::default(),
            remainders: Remainders::default(),
            traces,
            draining,
        }))
    }

    /// Returns the numbers of calls.
    pub fn metrics(&self) -> &CallMetrics {
        &self.0.metrics
    }

    /// Wraps the services for a connection from this address.
    ///
    /// # Errors
    ///
    /// The limits allow no further connection.
    pub fn connect<S>(&self, address: IpAddr, services: S) -> Result<Middleware<S>, LimitReached> {
        Ok(Middleware {
            services,
            shared: self.0.clone(),
            connection: self.0.load.connect(address)?,
            certificate: None,
        })
    }
}

/// The services behind the middleware, for one connection.
#[derive(Clone)]
pub struct Middleware<S> {
    services: S,
    shared: Arc<Shared>,
    connection: Connection,
    /// Certificate of the client, if it gave one.
    certificate: Option<Arc<Certificate>>,
}

impl<S> Middleware<S> {
    /// Returns the same for a connection whose client gave this certificate, or none.
    pub fn certified(self, certificate: Option<Certificate>) -> Self {
        Self {
            certificate: certificate.map(Arc::new),
            ..self
        }
    }
}

impl<S> Service<Request<Body>> for Middleware<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.services.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let method = self.shared.methods.find(request.uri().path());
        let began = Instant::now();
        let callers = timeout(request.headers()).and_then(|timeout| began.checked_add(timeout));
        let latest = began + CALL_TIME_MAX;
        let deadlines = Deadlines {
            request: began + self.shared.limits.receive_time_max,
            response: callers.map_or(latest, |callers| callers.min(latest)),
        };
        let (log, metrics) = (self.shared.access_log.clone(), self.shared.metrics.clone());
        let mut named = Named::of(request.headers());
        let trace = self.trace(&method, &mut named, request.headers());
        let rows = self.shared.methods.rows(&method);
        compression::choose(&rows, request.headers_mut());
        let mut access = CallAccess::begin(log, &method, rows.clone(), &named);
        let permit = match self.acquire_permit(&method) {
            Ok(permit) => permit,
            Err(refused) => {
                self.shared.remainders.discard(request.into_body());
                let call = InFlightCall::begin(method, None, metrics, named, trace);
                let connection = self.connection.clone();
                let sending = self.sending(connection, &call.method, callers, deadlines, None);
                let refused = refused.into_http();
                return Box::pin(async { Ok(respond(call, refused, sending, access).await) });
            }
        };
        let mut call = InFlightCall::begin(method, Some(permit), metrics, named, trace);
        let (mut head, body) = request.into_parts();
        let mut middleware = self.clone();
        Box::pin(async move {
            let authenticated = middleware.shared.admission.authenticate(
                &call.method,
                &mut head.headers,
                middleware.certificate.as_deref(),
            );
            let authenticated = authenticated.await;
            let counted = authenticated.and_then(|caller| {
                access.admit(caller.clone());
                call.caller = caller.clone();
                let admission = &middleware.shared.admission;
                let caller = admission.with_actor(caller, &head.headers);
                let caller = caller.inspect_err(|refused| access.refuse(refused.code()))?;
                access.admit(caller.clone());
                call.caller = caller.clone();
                admission::authorize(&call.method, caller.as_ref(), &mut head.extensions)?;
                middleware.count(&mut call, &rows, caller)
            });
            let (caller, response) = match counted {
                Ok(caller) => {
                    let body = RequestBody::new(body, &middleware.connection_of(&call));
                    let received = body.received();
                    let request = Request::from_parts(head, Body::new(body));
                    let handler = middleware.services.call(request);
                    let handler = access.concerns().record(handler);
                    (caller, call.run(handler, &received, deadlines).await)
                }
                Err(refused) => {
                    middleware.shared.remainders.discard(body);
                    (None, refused.into_http())
                }
            };
            let connection = middleware.connection_of(&call);
            let sending = middleware.sending(connection, &call.method, callers, deadlines, caller);
            Ok(respond(call, response, sending, access).await)
        })
    }
}

impl<S> Middleware<S> {
    /// Begins the span of a call, and names the call by its trace. Whoever balances the load asks for health again and again, which no
    /// trace needs.
    fn trace(&self, method: &Method, named: &mut Named, headers: &HeaderMap) -> traces::Span {
        if !method.is_ours {
            return traces::Span::default();
        }
        let traces = &self.shared.traces;
        let span = traces.begin_call(&method.name, named.caller.as_ref(), headers);
        named.trace_id = span.trace_id().or(named.trace_id.take());
        span
    }

    /// Returns the way in which the response to a call is sent. A stream ends with its caller's rights.
    fn sending(
        &self,
        connection: Connection,
        method: &Method,
        callers: Option<Instant>,
        deadlines: Deadlines,
        caller: Option<Arc<Caller>>,
    ) -> Sending {
        if !method.streams {
            return Sending::Unary(connection, deadlines.response);
        }
        let draining = (!method.is_ours).then(|| self.shared.draining.clone());
        let rights_end = caller.clone().map(|caller| -> RightsEnd {
            Box::pin(async move {
                Caller::clone(&caller).expired().await;
                sleep(NOTICE_MAX).await;
            })
        });
        Sending::Stream(Terminations {
            at_once: Box::pin(terminated(callers, caller)),
            when_silent: Box::pin(stopped(draining)),
            deadline: callers,
            rights_end,
        })
    }

    /// Counts a call as one of its subject, or of its address where nobody is authenticated and that is limited.
    fn count(
        &self,
        call: &mut InFlightCall,
        rows: &Rows,
        caller: Option<Arc<Caller>>,
    ) -> Result<Option<Arc<Caller>>, Status> {
        let Some(admitted) = &caller else {
            return Ok(caller);
        };
        let known_by = match admitted.is_authenticated() {
            true => load::Caller::Subject(admitted.subject().into()),
            false if self.shared.limits.subject == SubjectLimits::default() => return Ok(caller),
            false => self.connection.caller().clone(),
        };
        call.charge(self.shared.subjects.find(known_by), rows)?;
        Ok(caller)
    }

    /// Returns the connection as the subject of a call uses it.
    fn connection_of(&self, call: &InFlightCall) -> Connection {
        self.connection.of(call.subject().map(|it| it.load.clone()))
    }

    /// Acquires a permit for a call of this method, or returns the status with which it is refused.
    fn acquire_permit(&self, method: &Method) -> Result<Permit, Status> {
        let resource = match (method.streams, method.is_ours) {
            (true, _) => Resource::Stream,
            (false, true) => Resource::Call,
            (false, false) => Resource::Check,
        };
        // Before the handler runs: the response to a write that is committed cannot be refused any more.
        if resource == Resource::Call && self.connection.is_full(Resource::Byte) {
            return Err(status::too_many_bytes());
        }
        let permit = self.connection.acquire(resource, 1);
        permit.map_err(|LimitReached| status::overloaded())
    }
}

/// Waits until the server drains where that ends a stream, and returns the status that it ends with.
async fn stopped(draining: Option<CancellationToken>) -> Status {
    match draining {
        Some(draining) => draining.cancelled_owned().await,
        None => std::future::pending().await,
    }
    status::stopping()
}

/// Waits until the deadline or the rights of a stream's caller end, and returns the status that it ends with.
async fn terminated(deadline: Option<Instant>, caller: Option<Arc<Caller>>) -> Status {
    let passed = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let expired = async {
        match caller {
            Some(caller) => Caller::clone(&caller).expired().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        refusal = expired => refusal.into(),
        () = passed => status::deadline_exceeded(),
    }
}

/// Returns the caller's timeout from the header `grpc-timeout`: up to eight digits and a unit. A value
/// that is not understood counts as none, as in tonic, whose own parser is private.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
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
