//! The body of a request while it is received.
//!
//! tower-http's `RequestBodyLimit` bounds the bytes of one request; these are bounded for all requests of
//! a connection, of a caller and of everybody. Its `RequestBodyDeadline` fails within the handler, whose
//! answer would then be another one than the contract's.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::load::{Connection, Permit, Resource};
use crate::grpc::status;

/// The state of a request: received whole, or not yet.
#[derive(Clone, Debug, Default)]
pub struct Received(Arc<AtomicBool>);

impl Received {
    /// Returns whether the whole request has been received.
    pub fn is_whole(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The body of a request. Its bytes are counted until it is dropped: they have become a message then.
pub struct RequestBody {
    body: Body,
    bytes: Permit,
    received: Received,
}

impl RequestBody {
    /// Returns the body of a request on this connection.
    pub fn new(body: Body, connection: &Connection) -> Self {
        let request = Self {
            body,
            bytes: connection.acquire_unchecked(Resource::Byte, 0),
            received: Received::default(),
        };
        request.note_end();
        request
    }

    /// Returns the state of the request, for use while the body is elsewhere.
    pub fn received(&self) -> Received {
        self.received.clone()
    }

    fn note_end(&self) {
        if self.body.is_end_stream() {
            self.received.0.store(true, Ordering::Relaxed);
        }
    }
}

impl HttpBody for RequestBody {
    type Data = <Body as HttpBody>::Data;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let request = self.get_mut();
        let frame = ready!(Pin::new(&mut request.body).poll_frame(context));
        match &frame {
            None => request.received.0.store(true, Ordering::Relaxed),
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len());
                if request.bytes.grow(length).is_err() {
                    return Poll::Ready(Some(Err(status::too_many_bytes())));
                }
                request.note_end();
            }
            Some(Err(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
