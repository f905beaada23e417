//! The rest of a request that is refused before it is read.
//!
//! A response that ends before its request resets their stream. The transport remembers fifty of those for a second, and
//! counts what still arrives for others as faults of the peer, of which a connection may have few. A client that makes many
//! calls at once sends headers before messages: it would lose its connection, with the calls that are being answered.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body::Body as HttpBody;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tonic::body::Body;

/// Maximum requests of which the rest is received at once; the streams of others are reset.
const REQUESTS_MAX: usize = 4_096;
/// Maximum bytes of a request that are received after it was refused.
const BYTES_MAX: usize = 64 * 1_024;
/// Longest time for which they are waited for: they are on their way already.
const TIME_MAX: Duration = Duration::from_secs(1);

/// Receives the rest of refused requests, and throws it away.
pub struct Remainders(Arc<Semaphore>);

impl Default for Remainders {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(REQUESTS_MAX)))
    }
}

impl Remainders {
    /// Receives the rest of a request while its response is sent.
    pub fn discard(&self, body: Body) {
        if body.is_end_stream() {
            return;
        }
        let Ok(place) = self.0.clone().try_acquire_owned() else {
            return;
        };
        tokio::spawn(async move {
            let _ = timeout(TIME_MAX, receive(body)).await;
            drop(place);
        });
    }
}

/// Receives a body to its end, or until it has too many bytes.
async fn receive(mut body: Body) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        bytes += frame.data_ref().map_or(0, |data| data.len());
        if bytes > BYTES_MAX {
            return;
        }
    }
}
