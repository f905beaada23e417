//! The body of a request while it comes in.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::load::{Connection, Held, Kind};
use crate::grpc::status;

/// Whether a request has come to its end.
#[derive(Clone, Debug, Default)]
pub struct Received(Arc<AtomicBool>);

impl Received {
    /// Returns whether it has.
    pub fn is_whole(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The body, its bytes counted until it is dropped: the message is made of them then.
pub struct Incoming {
    body: Body,
    bytes: Held,
    received: Received,
}

impl Incoming {
    /// Returns the body of a request on this connection.
    pub fn new(body: Body, connection: &Arc<Connection>) -> Self {
        let incoming = Self {
            body,
            bytes: connection.take_anyway(Kind::Byte, 0),
            received: Received::default(),
        };
        incoming.note_end();
        incoming
    }

    /// Tells whether all of it has come, also when it is elsewhere.
    pub fn received(&self) -> Received {
        self.received.clone()
    }

    fn note_end(&self) {
        if self.body.is_end_stream() {
            self.received.0.store(true, Ordering::Relaxed);
        }
    }
}

impl HttpBody for Incoming {
    type Data = <Body as HttpBody>::Data;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let incoming = self.get_mut();
        let frame = ready!(Pin::new(&mut incoming.body).poll_frame(context));
        match &frame {
            None => incoming.received.0.store(true, Ordering::Relaxed),
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len());
                if incoming.bytes.take(length).is_err() {
                    return Poll::Ready(Some(Err(status::too_much_in_memory())));
                }
                incoming.note_end();
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
