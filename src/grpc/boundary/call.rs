//! One call from its first byte to its last: its span, its place under the limit, and its answer.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::{Span, debug, info, info_span};

use super::Method;
use crate::grpc::status;

/// What ends a stream before its time, and how.
pub type Cut = Pin<Box<dyn Future<Output = Status> + Send>>;

type Data = <Body as HttpBody>::Data;
type NextFrame = Option<Result<Frame<Data>, Status>>;

/// A call while it lasts. Says in the log how it ended when it is dropped.
#[derive(Debug)]
pub struct Call {
    method: Arc<Method>,
    span: Span,
    began: Instant,
    /// None while the answer is under way; it stays so when the caller goes away.
    outcome: Option<Code>,
    /// Its place under the limit; none where there is no limit.
    _place: Option<OwnedSemaphorePermit>,
}

impl Call {
    /// Begins a call. The caller's own words are not looked at, and so reach no log.
    pub fn begin(method: Arc<Method>, place: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            span: info_span!("call", method = method.path),
            method,
            began: Instant::now(),
            outcome: None,
            _place: place,
        }
    }

    /// Runs the handler until it answers or `deadline` comes. A handler that panics answers that
    /// the fault is ours.
    pub async fn run(
        &self,
        handler: impl Future<Output = Result<Response<Body>, Infallible>>,
        deadline: Instant,
    ) -> Response<Body> {
        let mut handler = pin!(handler);
        let mut over = pin!(sleep_until(deadline));
        poll_fn(|context| {
            let _entered = self.span.enter();
            match catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(context))) {
                // The clock is asked beside the timer: it rings up to a millisecond late, when the
                // answer may be there, and tonic's own timer, which is set a moment later and
                // answers in other words, may ring before this one is seen to.
                Ok(_) if deadline <= Instant::now() => {
                    Poll::Ready(status::deadline_exceeded().into_http())
                }
                Ok(Poll::Ready(Ok(response))) => Poll::Ready(response),
                Ok(Poll::Ready(Err(never))) => match never {},
                Ok(Poll::Pending) => over
                    .as_mut()
                    .poll(context)
                    .map(|()| status::deadline_exceeded().into_http()),
                Err(_panic) => Poll::Ready(status::internal().into_http()),
            }
        })
        .await
    }

    /// Sends the answer: in the contract's words if it is a failure, and not longer than until
    /// `cut` says with which failure it ends.
    pub fn answer(mut self, mut response: Response<Body>, cut: Option<Cut>) -> Response<Body> {
        if let Some(said) = Status::from_header_map(response.headers()) {
            self.outcome = Some(said.code());
            if let Some(reworded) = status::reworded(&said).filter(|_| self.method.is_ours) {
                self.outcome = Some(reworded.code());
                write(&reworded, response.headers_mut());
            }
        }
        response.map(|body| {
            Body::new(Answer {
                body: Some(body),
                cut,
                call: self,
            })
        })
    }
}

impl Drop for Call {
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

/// The body of an answer.
struct Answer {
    /// None once it has ended.
    body: Option<Body>,
    /// Ends the answer before its time.
    cut: Option<Cut>,
    call: Call,
}

impl Answer {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<NextFrame> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let _entered = self.call.span.enter();
        match catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(context))) {
            Ok(Poll::Ready(frame)) => Poll::Ready(frame),
            Ok(Poll::Pending) => match &mut self.cut {
                Some(cut) => cut
                    .as_mut()
                    .poll(context)
                    .map(|status| Some(Ok(last(&status)))),
                None => Poll::Pending,
            },
            Err(_panic) => Poll::Ready(Some(Ok(last(&status::internal())))),
        }
    }
}

impl HttpBody for Answer {
    type Data = Data;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<NextFrame> {
        let answer = self.get_mut();
        let polled = answer.poll(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            answer.call.outcome = Status::from_header_map(trailers).map(|status| status.code());
            answer.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }
}

/// The frame that ends an answer with a failure.
fn last(status: &Status) -> Frame<Data> {
    let mut trailers = HeaderMap::new();
    write(status, &mut trailers);
    Frame::trailers(trailers)
}

fn write(status: &Status, headers: &mut HeaderMap) {
    let written = status.add_header(headers);
    written.expect("text is percent-encoded and details are base64");
}
