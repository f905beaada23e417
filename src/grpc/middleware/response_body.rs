//! The body of an answer while it is sent: how long that may take, and how much may wait for its
//! reader.
//!
//! The transport takes what it is given and keeps it until the peer reads. An answer that is given
//! at once is therefore encoded at once, its bytes are counted until the last of them has left, and
//! it is handed on in small parts. It does not end before they have left, so that it can still be
//! cut off.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;

use super::in_flight::InFlightCall;
use super::load::{Connection, Held, Kind, LimitReached};
use super::reset::CutOff;
use crate::grpc::status;

/// The bytes of an answer that the transport is given at once; a frame's worth.
const PART_BYTES: usize = 16 * 1_024;
/// Up to this size an answer is sent though it passes the limits on bytes: writes are answered so,
/// and have been done by then.
const SMALL_BYTES_MAX: usize = 64 * 1_024;
/// Up to so many unsent bytes of a connection, answers of one part end without waiting until they
/// have left.
const LOOSE_BYTES_MAX: usize = 64 * 1_024;
/// How long the peer of a stream may take nothing of what waits for it.
const STALL_MAX: Duration = Duration::from_secs(300);

/// What ends a stream before its time, and how.
pub type Termination = Pin<Box<dyn Future<Output = Status> + Send>>;

type Data = <Body as HttpBody>::Data;
type NextFrame = Option<Result<Frame<Data>, Status>>;

/// How an answer is sent.
pub enum Sending {
    /// At once, on this connection, and until this instant.
    Whole(Arc<Connection>, Instant),
    /// As a stream, until something cuts it short. The caller may have said until when.
    Stream(Termination, Option<Instant>),
}

/// The body of an answer.
pub struct ResponseBody {
    /// None once it has ended.
    body: Option<Body>,
    sending: Sending,
    cut_off: CutOff,
    /// What has been encoded and not been handed on.
    rest: Data,
    /// For as long as some of it has not been handed on; then each part has its share.
    unread: Option<Arc<Unread>>,
    /// Ends when all that has been handed on has left; none where the end need not wait for that.
    left: Option<mpsc::Receiver<Infallible>>,
    call: InFlightCall,
}

/// Encoded bytes that have not left.
struct Unread {
    _bytes: Held,
    _left: Option<mpsc::Sender<Infallible>>,
}

/// Bytes that the transport keeps until they have left.
struct Part {
    bytes: Data,
    _unread: Option<Arc<Unread>>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl ResponseBody {
    /// Returns the answer to a call.
    pub fn new(body: Body, sending: Sending, call: InFlightCall) -> Self {
        let cut_off = CutOff::of_this_stream();
        if let Sending::Whole(_, deadline) = &sending {
            cut_off.set(Some(*deadline));
        }
        Self {
            body: Some(body),
            sending,
            cut_off,
            rest: Data::new(),
            unread: None,
            left: None,
            call,
        }
    }

    /// Encodes an answer that is given at once, so that what is too much is refused before it begins.
    ///
    /// # Errors
    ///
    /// It is too much, or cannot be encoded.
    pub async fn encode(&mut self) -> Result<(), Status> {
        let Sending::Whole(connection, _) = &self.sending else {
            return Ok(());
        };
        let connection = connection.clone();
        let frame = poll_fn(|context| self.poll_body(context)).await;
        match frame.transpose()?.map(Frame::into_data) {
            None => Ok(()),
            Some(Ok(bytes)) => self.hold(&connection, bytes),
            Some(Err(end)) => {
                let said = end.trailers_ref().and_then(Status::from_header_map);
                Err(said.unwrap_or_else(status::internal))
            }
        }
    }

    /// Says how the call ended of which this would have been the answer.
    pub fn failed(mut self, status: &Status) {
        self.call.outcome = Some(status.code());
    }

    /// Returns the next frame of the body as the handler gives it.
    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<NextFrame> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let _entered = self.call.span.enter();
        match catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(context))) {
            Ok(Poll::Ready(frame)) => Poll::Ready(frame),
            Ok(Poll::Pending) => match &mut self.sending {
                Sending::Stream(cut, _) => cut
                    .as_mut()
                    .poll(context)
                    .map(|status| Some(Ok(last(&status)))),
                Sending::Whole(..) => Poll::Pending,
            },
            Err(_panic) => Poll::Ready(Some(Ok(last(&status::internal())))),
        }
    }

    /// Returns the next frame of a stream. It stalls when it is not asked for the one after that.
    fn poll_stream(&mut self, context: &mut Context<'_>) -> Poll<NextFrame> {
        self.cut_off.set(None);
        let frame = ready!(self.poll_body(context));
        if let Sending::Stream(_, deadline) = &self.sending {
            let stalled = Instant::now() + STALL_MAX;
            let at = deadline.map_or(stalled, |deadline| deadline.min(stalled));
            self.cut_off.set(Some(at));
        }
        Poll::Ready(frame)
    }

    /// Returns the next part of an answer that is given at once, or its end.
    fn poll_whole(
        &mut self,
        connection: &Arc<Connection>,
        context: &mut Context<'_>,
    ) -> Poll<NextFrame> {
        if self.rest.is_empty() {
            if let Some(left) = &mut self.left {
                ready!(left.poll_recv(context));
                self.left = None;
            }
            match ready!(self.poll_body(context)).map(|frame| frame.map(Frame::into_data)) {
                None => return Poll::Ready(None),
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                Some(Ok(Err(end))) => return Poll::Ready(Some(Ok(end))),
                Some(Ok(Ok(bytes))) => {
                    if let Err(status) = self.hold(connection, bytes) {
                        return Poll::Ready(Some(Ok(last(&status))));
                    }
                }
            }
        }
        let length = self.rest.len().min(PART_BYTES);
        let bytes = self.rest.split_to(length);
        let unread = match self.rest.is_empty() {
            true => self.unread.take(),
            false => self.unread.clone(),
        };
        let part = Part {
            bytes,
            _unread: unread,
        };
        Poll::Ready(Some(Ok(Frame::data(Data::from_owner(part)))))
    }

    /// Counts encoded bytes until the last of them has left.
    fn hold(&mut self, connection: &Arc<Connection>, bytes: Data) -> Result<(), Status> {
        let held = match bytes.len() <= SMALL_BYTES_MAX {
            true => connection.take_anyway(Kind::Byte, bytes.len()),
            false => connection
                .take(Kind::Byte, bytes.len())
                .map_err(|LimitReached| status::too_much_in_memory())?,
        };
        let loose = bytes.len() <= PART_BYTES && connection.count(Kind::Byte) <= LOOSE_BYTES_MAX;
        let (leaving, left) = match loose {
            true => (None, None),
            false => {
                let (leaving, left) = mpsc::channel(1);
                (Some(leaving), Some(left))
            }
        };
        self.left = left;
        self.unread = Some(Arc::new(Unread {
            _bytes: held,
            _left: leaving,
        }));
        self.rest = bytes;
        Ok(())
    }
}

impl HttpBody for ResponseBody {
    type Data = Data;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<NextFrame> {
        let answer = self.get_mut();
        let polled = match &answer.sending {
            Sending::Whole(connection, _) => {
                let connection = connection.clone();
                answer.poll_whole(&connection, context)
            }
            Sending::Stream(..) => answer.poll_stream(context),
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            answer.call.outcome = Status::from_header_map(trailers).map(|status| status.code());
            answer.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let ended = |body: &Body| body.is_end_stream();
        self.rest.is_empty() && self.left.is_none() && self.body.as_ref().is_none_or(ended)
    }
}

/// Returns the frame that ends an answer with a failure.
fn last(status: &Status) -> Frame<Data> {
    let mut trailers = HeaderMap::new();
    write(status, &mut trailers);
    Frame::trailers(trailers)
}

/// Writes a status where the caller looks for it.
pub fn write(status: &Status, headers: &mut HeaderMap) {
    let written = status.add_header(headers);
    written.expect("text is percent-encoded and details are base64");
}
