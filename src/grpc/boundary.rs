//! The outermost layer: what holds for every call, whichever service it is for.
//!
//! It keeps the caller's deadline, the limits on what is done at once, a span and a line in the
//! log for each call, and the contract's words for failures that never reach a handler. It never
//! looks into a message.

mod call;
pub mod method;

use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::status;
use call::{Call, Cut};
use method::{Method, Methods};

/// How long a call may take, or a stream to begin, when its caller would wait longer.
const CALL_TIME_MAX: Duration = Duration::from_secs(60);

/// How much is done at once, by all connections together. What comes beyond is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls that are answered at once.
    pub calls_max: usize,
    /// Streams that are open at once; they are mostly silent.
    pub streams_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls_max: 2_048,
            streams_max: 2_048,
        }
    }
}

/// Puts a [`Boundary`] around the services.
#[derive(Clone, Debug)]
pub struct BoundaryLayer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    methods: Methods,
    limits: Limits,
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    draining: CancellationToken,
}

impl BoundaryLayer {
    /// A boundary for these methods. Once `draining` is cancelled, streams of other services than
    /// ours end; ours end by themselves.
    pub fn new(methods: Methods, limits: Limits, draining: CancellationToken) -> Self {
        Self(Arc::new(Shared {
            methods,
            limits,
            calls: Arc::new(Semaphore::new(limits.calls_max)),
            streams: Arc::new(Semaphore::new(limits.streams_max)),
            draining,
        }))
    }

    /// Whether no call and no stream is under way, health checks aside.
    pub fn is_idle(&self) -> bool {
        let Shared {
            limits,
            calls,
            streams,
            ..
        } = &*self.0;
        calls.available_permits() == limits.calls_max
            && streams.available_permits() == limits.streams_max
    }
}

impl<S> Layer<S> for BoundaryLayer {
    type Service = Boundary<S>;

    fn layer(&self, services: S) -> Boundary<S> {
        Boundary {
            services,
            shared: self.0.clone(),
        }
    }
}

/// The services, seen from outside.
#[derive(Clone, Debug)]
pub struct Boundary<S> {
    services: S,
    shared: Arc<Shared>,
}

impl<S> Service<Request<Body>> for Boundary<S>
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
        let Ok(place) = self.shared.place(&method) else {
            let call = Call::begin(method, None);
            let refused = status::overloaded().into_http();
            return Box::pin(ready(Ok(call.answer(refused, None))));
        };
        let asked =
            timeout(request.headers()).and_then(|timeout| Instant::now().checked_add(timeout));
        let latest = Instant::now() + CALL_TIME_MAX;
        let deadline = asked.map_or(latest, |asked| asked.min(latest));
        let draining = (!method.is_ours).then(|| self.shared.draining.clone());
        let cut = method
            .streams
            .then(|| Box::pin(cut(asked, draining)) as Cut);
        let call = Call::begin(method, place);
        let handler = self.services.call(request);
        Box::pin(async move {
            let response = call.run(handler, deadline).await;
            Ok(call.answer(response, cut))
        })
    }
}

/// There is no place left under a limit.
struct Full;

impl Shared {
    /// A place for a call of this method. A health check is let through: an overloaded server is
    /// not a dead one.
    fn place(&self, method: &Method) -> Result<Option<OwnedSemaphorePermit>, Full> {
        let limit = match (method.streams, method.is_ours) {
            (true, _) => &self.streams,
            (false, true) => &self.calls,
            (false, false) => return Ok(None),
        };
        limit
            .clone()
            .try_acquire_owned()
            .map(Some)
            .map_err(|_| Full)
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

/// How long the caller waits, by the header `grpc-timeout`: up to eight digits and a unit. One
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
