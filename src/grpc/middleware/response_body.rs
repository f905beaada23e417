//! The body of a response while it is sent, with limits on the time for that and on the bytes that wait
//! for the peer.
//!
//! The transport buffers all bytes that it is given until the peer reads them. A unary response is
//! therefore encoded at once, its bytes are counted until the last of them has been sent, and it is
//! handed to the transport in small chunks. It does not end before they have been sent, so that it can
//! still be cut off. No layer of tower-http counts the bytes that wait for a peer.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tonic::{Code, Status};

use super::access::{CallAccess, Storing};
use super::in_flight::InFlightCall;
use super::load::{Connection, LimitReached, Permit, Resource};
use super::reset::{CutOff, RightsEnd};
use crate::dispatch::unsent::UnsentLeases;
use crate::grpc::status;

/// Bytes of a response that the transport is given at once; a frame's worth.
const CHUNK_BYTES: usize = 16 * 1_024;
/// Maximum bytes of a response that is sent though it passes the limits on bytes: a write is answered
/// with so few, and is committed by then.
const SMALL_BYTES_MAX: usize = 64 * 1_024;
/// Maximum unsent bytes of a connection up to which a response of one chunk ends without waiting until
/// it has been sent.
const UNSENT_BYTES_MAX: usize = 64 * 1_024;
/// Longest time for which the peer of a stream may read nothing while events wait for it.
const STALL_MAX: Duration = Duration::from_secs(300);

/// Resolves when a stream is to be terminated early, to the status that it ends with.
pub type Termination = Pin<Box<dyn Future<Output = Status> + Send>>;

type Data = <Body as HttpBody>::Data;
type NextFrame = Option<Result<Frame<Data>, Status>>;

/// The way in which a response is sent.
pub enum Sending {
    /// A unary response on this connection, until this deadline.
    Unary(Connection, Instant),
    /// A stream, until it is terminated.
    Stream(Terminations),
}

/// The ends of a stream that come from outside.
pub struct Terminations {
    /// End at once, whatever is still to be sent.
    pub at_once: Termination,
    /// End once all that there is has been sent.
    pub when_silent: Termination,
    /// Deadline that the caller has set.
    pub deadline: Option<Instant>,
    /// End of the rights of the caller.
    pub rights_end: Option<RightsEnd>,
}

/// Returns the response to a call as it is sent: with an error of the contract if it is a failure.
pub async fn respond(
    mut call: InFlightCall,
    mut response: Response<Body>,
    sending: Sending,
    access: CallAccess,
) -> Response<Body> {
    if let Some(status) = Status::from_header_map(response.headers()) {
        call.outcome = Some(status.code());
        let normalized = status::normalize_transport_status(&status);
        if let Some(normalized) = normalized.filter(|_| call.method.is_ours) {
            call.outcome = Some(normalized.code());
            write(&normalized, response.headers_mut());
        }
    }
    let refused = call.outcome;
    let (mut head, body) = response.into_parts();
    let mut body = ResponseBody::new(body, sending, call, access);
    body.unsent_leases = head.extensions.remove();
    let encoded = body.encode().await;
    let code = refused.or(encoded.as_ref().err().map(Status::code));
    let logged = body.log(code.unwrap_or(status::ANSWERED)).await;
    match encoded.and(logged) {
        Ok(()) => Response::from_parts(head, Body::new(body)),
        Err(status) => {
            body.fail(&status);
            status.into_http()
        }
    }
}

/// The body of a response.
struct ResponseBody {
    /// Body from the handler; none once it has ended.
    body: Option<Body>,
    sending: Sending,
    cut_off: CutOff,
    /// Bytes that have been encoded and not been handed to the transport.
    rest: Data,
    /// Count of the encoded bytes, until the last chunk takes it along.
    unsent: Option<Arc<Unsent>>,
    /// Channel that closes when all chunks have been sent; none where the end need not wait for that.
    sent: Option<mpsc::Receiver<Infallible>>,
    call: InFlightCall,
    access: CallAccess,
    /// Frame of a stream that waits until its entries in the access log are stored.
    waiting: Option<(NextFrame, Storing)>,
    /// Leases on the notifications of a frame that has not been sent; none of streams that lease nothing.
    unsent_leases: Option<Arc<UnsentLeases>>,
}

/// Encoded bytes that have not been sent.
struct Unsent {
    _bytes: Permit,
    _sent: Option<mpsc::Sender<Infallible>>,
}

/// Bytes that the transport keeps until they have been sent.
struct Chunk {
    bytes: Data,
    _unsent: Option<Arc<Unsent>>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl ResponseBody {
    /// Returns the body of the response to a call.
    fn new(body: Body, mut sending: Sending, call: InFlightCall, access: CallAccess) -> Self {
        let cut_off = CutOff::of_this_stream();
        match &mut sending {
            Sending::Unary(_, deadline) => cut_off.set(Some(*deadline)),
            Sending::Stream(terminations) => {
                if let Some(end) = terminations.rights_end.take() {
                    cut_off.end_with(end);
                }
            }
        }
        Self {
            body: Some(body),
            sending,
            cut_off,
            rest: Data::new(),
            unsent: None,
            sent: None,
            call,
            access,
            waiting: None,
            unsent_leases: None,
        }
    }

    /// Stores the entries of the access log, of a call that is answered with this code: of a stream those for its
    /// beginning.
    ///
    /// # Errors
    ///
    /// The status that the call is to be answered with instead.
    async fn log(&mut self, code: Code) -> Result<(), Status> {
        let Some(storing) = self.access.storing(code) else {
            return Ok(());
        };
        let _span = self.call.trace.child("access log");
        match &self.sending {
            Sending::Unary(_, deadline) => match timeout_at(*deadline, storing).await {
                Ok(stored) => stored,
                Err(_) => Err(status::deadline_exceeded()),
            },
            Sending::Stream(..) => storing.await,
        }
    }

    /// Encodes a unary response, so that one that is too large is refused before it begins.
    ///
    /// # Errors
    ///
    /// It passes the limits on bytes, or cannot be encoded.
    async fn encode(&mut self) -> Result<(), Status> {
        let Sending::Unary(connection, _) = &self.sending else {
            return Ok(());
        };
        let connection = connection.clone();
        let frame = poll_fn(|context| self.poll_body(context)).await;
        match frame.transpose()?.map(Frame::into_data) {
            None => Ok(()),
            Some(Ok(bytes)) => self.count_unsent(&connection, bytes),
            Some(Err(end)) => {
                let status = end.trailers_ref().and_then(Status::from_header_map);
                Err(status.unwrap_or_else(status::internal))
            }
        }
    }

    /// Records the status of a call whose response this would have been.
    fn fail(mut self, status: &Status) {
        self.call.outcome = Some(status.code());
    }

    /// Polls the handler's body for its next frame.
    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<NextFrame> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let _entered = (self.call.span.enter(), self.call.trace.enter());
        match catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(context))) {
            Ok(Poll::Ready(frame)) => {
                self.call.count_rows(self.access.concerns().take_rows());
                Poll::Ready(frame)
            }
            Ok(Poll::Pending) => match &mut self.sending {
                Sending::Stream(terminations) => terminations
                    .when_silent
                    .as_mut()
                    .poll(context)
                    .map(|status| Some(Ok(last_frame(&status)))),
                Sending::Unary(..) => Poll::Pending,
            },
            Err(_panic) => Poll::Ready(Some(Ok(last_frame(&status::internal())))),
        }
    }

    /// Polls for the next frame of a stream whose entries in the access log are stored. If they cannot be stored in time the
    /// stream ends instead: leases may have expired by then, and the frame has the time at which it was made.
    fn poll_logged(&mut self, context: &mut Context<'_>) -> Poll<NextFrame> {
        if self.waiting.is_none() {
            let frame = ready!(self.poll_body(context));
            let unsent = self.unsent_leases.as_ref();
            let leased_until = unsent.and_then(|it| it.first_expiry());
            match self.access.storing_message(leased_until) {
                Some(storing) => self.waiting = Some((frame, storing)),
                None => return Poll::Ready(frame),
            }
        }
        let Some((_, storing)) = &mut self.waiting else {
            return Poll::Ready(None);
        };
        let stored = ready!(storing.as_mut().poll(context));
        let frame = self.waiting.take().and_then(|(frame, _)| frame);
        match stored {
            Ok(()) => Poll::Ready(frame),
            Err(status) => Poll::Ready(Some(Ok(last_frame(&status)))),
        }
    }

    /// Polls for the end that a stream comes to from outside. Before each frame, so that one with always more to
    /// send ends too.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        if let Sending::Stream(terminations) = &mut self.sending
            && let Poll::Ready(status) = terminations.at_once.as_mut().poll(context)
        {
            return Poll::Ready(status);
        }
        match self.call.check_rows() {
            Ok(()) => Poll::Pending,
            Err(status) => Poll::Ready(status),
        }
    }

    /// Polls for the next frame of a stream, unless it is to end before that. The stream has stalled when it is
    /// not polled for the frame after that in time.
    fn poll_stream(&mut self, context: &mut Context<'_>) -> Poll<NextFrame> {
        self.cut_off.set(None);
        // A frame that waits is counted already, and has been taken from the handler: it is sent before the end.
        if self.waiting.is_none()
            && self.body.is_some()
            && let Poll::Ready(status) = self.poll_end(context)
        {
            return Poll::Ready(Some(Ok(last_frame(&status))));
        }
        let frame = ready!(self.poll_logged(context));
        if let Some(unsent) = &self.unsent_leases
            && matches!(&frame, Some(Ok(frame)) if frame.is_data())
        {
            unsent.note_sent();
        }
        if let Sending::Stream(terminations) = &self.sending {
            let stalled = Instant::now() + STALL_MAX;
            let at = terminations
                .deadline
                .map_or(stalled, |deadline| deadline.min(stalled));
            self.cut_off.set(Some(at));
        }
        Poll::Ready(frame)
    }

    /// Polls for the next chunk of a unary response, or its end.
    fn poll_unary(
        &mut self,
        connection: &Connection,
        context: &mut Context<'_>,
    ) -> Poll<NextFrame> {
        if self.rest.is_empty() {
            if let Some(sent) = &mut self.sent {
                ready!(sent.poll_recv(context));
                self.sent = None;
            }
            match ready!(self.poll_body(context)).map(|frame| frame.map(Frame::into_data)) {
                None => return Poll::Ready(None),
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                Some(Ok(Err(end))) => return Poll::Ready(Some(Ok(end))),
                Some(Ok(Ok(bytes))) => {
                    if let Err(status) = self.count_unsent(connection, bytes) {
                        return Poll::Ready(Some(Ok(last_frame(&status))));
                    }
                }
            }
        }
        let length = self.rest.len().min(CHUNK_BYTES);
        let bytes = self.rest.split_to(length);
        let unsent = match self.rest.is_empty() {
            true => self.unsent.take(),
            false => self.unsent.clone(),
        };
        let chunk = Chunk {
            bytes,
            _unsent: unsent,
        };
        Poll::Ready(Some(Ok(Frame::data(Data::from_owner(chunk)))))
    }

    /// Counts encoded bytes until the last of them has been sent.
    fn count_unsent(&mut self, connection: &Connection, bytes: Data) -> Result<(), Status> {
        let permit = match bytes.len() <= SMALL_BYTES_MAX {
            true => connection.acquire_unchecked(Resource::Byte, bytes.len()),
            false => connection
                .acquire(Resource::Byte, bytes.len())
                .map_err(|LimitReached| status::too_many_bytes())?,
        };
        let ends_unsent =
            bytes.len() <= CHUNK_BYTES && connection.count(Resource::Byte) <= UNSENT_BYTES_MAX;
        let (sending, sent) = match ends_unsent {
            true => (None, None),
            false => {
                let (sending, sent) = mpsc::channel(1);
                (Some(sending), Some(sent))
            }
        };
        self.sent = sent;
        self.unsent = Some(Arc::new(Unsent {
            _bytes: permit,
            _sent: sending,
        }));
        self.rest = bytes;
        Ok(())
    }
}

impl HttpBody for ResponseBody {
    type Data = Data;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<NextFrame> {
        let response = self.get_mut();
        let polled = match &response.sending {
            Sending::Unary(connection, _) => {
                let connection = connection.clone();
                response.poll_unary(&connection, context)
            }
            Sending::Stream(..) => response.poll_stream(context),
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            response.call.outcome = Status::from_header_map(trailers).map(|status| status.code());
            response.body = None;
            response.unsent_leases = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let ended = |body: &Body| body.is_end_stream();
        let is_idle = self.rest.is_empty() && self.waiting.is_none();
        is_idle && self.sent.is_none() && self.body.as_ref().is_none_or(ended)
    }
}

/// Returns the frame that ends a response with this status.
fn last_frame(status: &Status) -> Frame<Data> {
    let mut trailers = HeaderMap::new();
    write(status, &mut trailers);
    Frame::trailers(trailers)
}

/// Writes a status into headers or trailers.
fn write(status: &Status, headers: &mut HeaderMap) {
    let written = status.add_header(headers);
    written.expect("text is percent-encoded and details are base64");
}
