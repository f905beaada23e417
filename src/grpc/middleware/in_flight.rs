//! One call from its first byte to its last: its span, its permit under the limits, and its outcome.

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

use super::load::{LimitReached, Permit};
use super::method::Method;
use super::metrics::CallMetrics;
use super::named::Named;
use super::request_body::Received;
use super::rows::Rows;
use super::subject::{Subject, no_place};
use crate::auth::caller::Caller;
use crate::domain::caller_name::for_log;
use crate::grpc::status;
use crate::telemetry::traces;

/// Deadlines of a call.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Instant by which the whole request must have been received.
    pub request: Instant,
    /// Instant by which the response must be there.
    pub response: Instant,
}

/// A call while it is in flight. Logs its outcome when it is dropped.
///
/// tower-http's `TraceLayer` is handed the span at the end of a call, not the call: it cannot tell by the
/// method at which level to log, and leaves a caller that has gone away to another layer.
#[derive(Debug)]
pub struct InFlightCall {
    /// Method that is called.
    pub method: Arc<Method>,
    /// Span around all work for the call, in the log.
    pub span: Span,
    /// The same in its trace.
    pub trace: traces::Span,
    began: Instant,
    /// Status code of the response; none until it is known, and when the caller goes away before.
    pub outcome: Option<Code>,
    /// Permit under the limits; none for a call that is refused for want of one.
    permit: Option<Permit>,
    /// Subject that calls, and the rows of what it is answered; none before it is known.
    reader: Option<Arc<Subject>>,
    metrics: Arc<CallMetrics>,
    /// Ids by which the caller names the call.
    named: Named,
    /// Caller, once it is known.
    pub caller: Option<Arc<Caller>>,
}

impl InFlightCall {
    /// Begins a call. Nothing of its request is read, so that no text of the caller's reaches the log.
    pub fn begin(
        method: Arc<Method>,
        permit: Option<Permit>,
        metrics: Arc<CallMetrics>,
        named: Named,
        trace: traces::Span,
    ) -> Self {
        metrics.begin(&method);
        Self {
            trace,
            span: info_span!("call", method = method.path),
            method,
            began: Instant::now(),
            outcome: None,
            permit,
            reader: None,
            metrics,
            named,
            caller: None,
        }
    }

    /// Counts the call as one of a subject, and from now on the rows that it is answered.
    ///
    /// # Errors
    ///
    /// The status of a call that is too much for the subject.
    pub fn charge(&mut self, subject: Arc<Subject>, rows: &Rows) -> Result<(), Status> {
        subject.begin(rows)?;
        if let Some(permit) = &mut self.permit {
            let charged = permit.charge(subject.load.clone());
            charged.map_err(|LimitReached| no_place(permit.resource()))?;
        }
        self.reader = Some(subject);
        Ok(())
    }

    /// Returns the subject that calls, if it is known.
    pub fn subject(&self) -> Option<&Subject> {
        self.reader.as_deref()
    }

    /// Counts rows of the answer.
    pub fn count_rows(&self, count: usize) {
        if let Some(subject) = &self.reader {
            subject.count_rows(count);
        }
    }

    /// Returns whether a stream may go on with more rows.
    ///
    /// # Errors
    ///
    /// The status that it ends with.
    pub fn check_rows(&self) -> Result<(), Status> {
        let checked = self.reader.as_ref().map(|subject| subject.check_rows());
        checked.unwrap_or(Ok(()))
    }

    /// Runs the handler until it responds, the deadline has passed, or the request has not been received in
    /// time. A handler that panics is answered with INTERNAL.
    ///
    /// tower's `Timeout` has one duration for all calls, and no second deadline. tower-http's `CatchPanic`
    /// does not reach into the body of a response, where streams run and `catch_unwind` is needed all the
    /// same, and boxes each body once more.
    pub async fn run(
        &self,
        handler: impl Future<Output = Result<Response<Body>, Infallible>>,
        received: &Received,
        deadlines: Deadlines,
    ) -> Response<Body> {
        let Deadlines {
            request: received_by,
            response: deadline,
        } = deadlines;
        let mut handler = pin!(handler);
        let mut timer = pin!(sleep_until(received_by.min(deadline)));
        poll_fn(|context| {
            let _entered = (self.span.enter(), self.trace.enter());
            match catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(context))) {
                // The clock is read beside the timer, which fires up to a millisecond late, when the
                // response may be there.
                Ok(_) if deadline <= Instant::now() => {
                    Poll::Ready(status::deadline_exceeded().into_http())
                }
                Ok(Poll::Ready(Ok(response))) => Poll::Ready(response),
                Ok(Poll::Ready(Err(never))) => match never {},
                Ok(Poll::Pending) => {
                    ready!(timer.as_mut().poll(context));
                    if !received.is_whole() {
                        return Poll::Ready(status::not_received().into_http());
                    }
                    timer.as_mut().reset(deadline);
                    timer
                        .as_mut()
                        .poll(context)
                        .map(|()| status::deadline_exceeded().into_http())
                }
                Err(_panic) => Poll::Ready(status::internal().into_http()),
            }
        })
        .await
    }
}

impl Drop for InFlightCall {
    fn drop(&mut self) {
        self.metrics.end(&self.method, self.began, self.outcome);
        let caller = self.caller.as_deref();
        let code = self.outcome.unwrap_or(status::CALLER_GONE);
        self.trace
            .end_call(status::code_name(code), status::is_ours_to_mend(code));
        let (code, caller, actor_type) = (
            status::code_name(code),
            caller.map(|it| for_log(it.subject())),
            caller.and_then(Caller::actor_type),
        );
        let seconds = self.began.elapsed().as_secs_f64();
        let Named {
            trace_id,
            caller: _,
            request_id,
        } = &self.named;
        let request_id = request_id.map(tracing::field::display);
        // Whoever balances the load asks for health again and again.
        match self.method.is_ours {
            true => info!(
                rpc.method = &*self.method.name,
                rpc.response.status_code = code,
                duration_seconds = seconds,
                enduser.id = caller,
                actor_type,
                request_id,
                trace_id,
                "call ended"
            ),
            false => debug!(
                rpc.method = &*self.method.name,
                rpc.response.status_code = code,
                duration_seconds = seconds,
                "call ended"
            ),
        }
    }
}
