//! One call from its first byte to its last: its span, its place under the limits, and how it ended.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use http::Response;
use tokio::time::{Instant, sleep_until};
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::{Span, debug, info, info_span};

use super::load::Held;
use super::method::Method;
use super::request_body::Received;
use super::response_body::{ResponseBody, Sending, write};
use crate::grpc::status;

/// Until when a call may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// By then the whole request has come.
    pub received_by: Instant,
    /// By then the answer is there.
    pub deadline: Instant,
}

/// A call while it lasts. Says in the log how it ended when it is dropped.
#[derive(Debug)]
pub struct InFlightCall {
    /// The method that is called.
    pub method: Arc<Method>,
    /// Around all that is done for it.
    pub span: Span,
    began: Instant,
    /// None while the answer is under way; it stays so when the caller goes away.
    pub outcome: Option<Code>,
    /// Its place under the limits; none when it is refused for want of one.
    _place: Option<Held>,
}

impl InFlightCall {
    /// Begins a call. The caller's own words are not looked at, and so reach no log.
    pub fn begin(method: Arc<Method>, place: Option<Held>) -> Self {
        Self {
            span: info_span!("call", method = method.path),
            method,
            began: Instant::now(),
            outcome: None,
            _place: place,
        }
    }

    /// Runs the handler until it answers, its time is over, or its request does not come in time. A
    /// handler that panics answers that the fault is ours.
    pub async fn run(
        &self,
        handler: impl Future<Output = Result<Response<Body>, Infallible>>,
        received: &Received,
        times: Times,
    ) -> Response<Body> {
        let Times {
            received_by,
            deadline,
        } = times;
        let mut handler = pin!(handler);
        let mut over = pin!(sleep_until(received_by.min(deadline)));
        poll_fn(|context| {
            let _entered = self.span.enter();
            match catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(context))) {
                // The clock is asked beside the timer: it rings up to a millisecond late, when the
                // answer may be there.
                Ok(_) if deadline <= Instant::now() => {
                    Poll::Ready(status::deadline_exceeded().into_http())
                }
                Ok(Poll::Ready(Ok(response))) => Poll::Ready(response),
                Ok(Poll::Ready(Err(never))) => match never {},
                Ok(Poll::Pending) => {
                    ready!(over.as_mut().poll(context));
                    if !received.is_whole() {
                        return Poll::Ready(status::not_received().into_http());
                    }
                    over.as_mut().reset(deadline);
                    over.as_mut()
                        .poll(context)
                        .map(|()| status::deadline_exceeded().into_http())
                }
                Err(_panic) => Poll::Ready(status::internal().into_http()),
            }
        })
        .await
    }

    /// Sends the answer, in the contract's words if it is a failure.
    pub async fn answer(
        mut self,
        mut response: Response<Body>,
        sending: Sending,
    ) -> Response<Body> {
        if let Some(said) = Status::from_header_map(response.headers()) {
            self.outcome = Some(said.code());
            if let Some(normalize_transport_status) =
                status::normalize_transport_status(&said).filter(|_| self.method.is_ours)
            {
                self.outcome = Some(normalize_transport_status.code());
                write(&normalize_transport_status, response.headers_mut());
            }
        }
        let (head, body) = response.into_parts();
        let mut answer = ResponseBody::new(body, sending, self);
        match answer.encode().await {
            Ok(()) => Response::from_parts(head, Body::new(answer)),
            Err(status) => {
                answer.failed(&status);
                status.into_http()
            }
        }
    }
}

impl Drop for InFlightCall {
    fn drop(&mut self) {
        let _entered = self.span.enter();
        let seconds = self.began.elapsed().as_secs_f64();
        let code = self.outcome.map(tracing::field::debug);
        // Streams are few and live long; calls are many, and a caller knows how its own went.
        if self.method.streams && self.method.is_ours {
            info!(code, seconds, "ended");
        } else {
            debug!(code, seconds, "ended");
        }
    }
}
