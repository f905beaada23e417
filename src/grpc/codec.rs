//! The codec of our services: protobuf, and on the way whom each message is about, for the access log, and how many rows
//! answers have. Every message of every RPC passes here before it is compressed, those of streams too, so that none is
//! forgotten.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prost::Message;
use prost::bytes::BufMut;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use super::middleware::rows::Rows;
use crate::contract::concerns::{Audited, concerns_of, named_in_refusal};
use crate::domain::access::Concern;

tokio::task_local! {
    /// Concerns of the call whose handler runs.
    static CONCERNS: Arc<CallConcerns>;
}

/// Whom the messages of a call are about, and the rows of its answers.
#[derive(Debug, Default)]
pub struct CallConcerns {
    recorded: Mutex<Recorded>,
    rows: Arc<Rows>,
    /// Rows of answers since they were last taken.
    row_count: AtomicUsize,
}

/// Whom the request has named, and the answers since they were last taken have shown.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Concerns of the request, and of a refusal.
    pub named: Vec<Concern>,
    /// Concerns of answers.
    pub shown: Vec<Concern>,
}

impl CallConcerns {
    /// Makes the record of a call with such rows.
    pub fn of(rows: Arc<Rows>) -> Self {
        Self {
            rows,
            ..Self::default()
        }
    }

    /// Runs a handler, the messages of which are recorded here.
    pub async fn record<T>(self: Arc<Self>, handler: impl Future<Output = T>) -> T {
        CONCERNS.scope(self, handler).await
    }

    /// Takes what was recorded.
    pub fn take(&self) -> Recorded {
        std::mem::take(&mut *self.lock())
    }

    /// Takes the number of rows that answers had.
    pub fn take_rows(&self) -> usize {
        self.row_count.swap(0, Ordering::Relaxed)
    }

    fn count_rows(&self, message: &[u8]) {
        let count = self.rows.count(message);
        self.row_count.fetch_add(count, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records the request that the refusal of the call whose handler runs names: an error is no message, and passes no codec.
pub fn record_refusal(name: &str) {
    // Outside any handler nothing is recorded.
    let _ = CONCERNS.try_with(|it| it.lock().named.extend(named_in_refusal(name)));
}

/// The codec of a call. That of a client, outside any handler, records nothing.
pub struct RecordingCodec<T, U> {
    concerns: Option<Arc<CallConcerns>>,
    messages: PhantomData<(T, U)>,
}

impl<T, U> Default for RecordingCodec<T, U> {
    fn default() -> Self {
        Self {
            concerns: CONCERNS.try_with(Arc::clone).ok(),
            messages: PhantomData,
        }
    }
}

impl<T, U> Codec for RecordingCodec<T, U>
where
    T: Message + Audited + Send + 'static,
    U: Message + Audited + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = RecordingEncoder<T>;
    type Decoder = RecordingDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        RecordingEncoder {
            encoder: ProstCodec::<T, U>::default().encoder(),
            concerns: self.concerns.clone(),
        }
    }

    fn decoder(&mut self) -> Self::Decoder {
        RecordingDecoder {
            decoder: ProstCodec::<T, U>::default().decoder(),
            concerns: self.concerns.clone(),
        }
    }
}

/// Encoder of answers.
pub struct RecordingEncoder<T> {
    encoder: ProstEncoder<T>,
    concerns: Option<Arc<CallConcerns>>,
}

impl<T: Message + Audited> Encoder for RecordingEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let Some(concerns) = &self.concerns else {
            return self.encoder.encode(item, buffer);
        };
        concerns.lock().shown.extend(concerns_of(&item));
        let message = item.encode_to_vec();
        concerns.count_rows(&message);
        buffer.put_slice(&message);
        Ok(())
    }
}

/// Decoder of requests.
pub struct RecordingDecoder<U> {
    decoder: ProstDecoder<U>,
    concerns: Option<Arc<CallConcerns>>,
}

impl<U: Message + Audited + Default> Decoder for RecordingDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let decoded = self.decoder.decode(buffer)?;
        if let (Some(concerns), Some(item)) = (&self.concerns, &decoded) {
            concerns.lock().named.extend(concerns_of(item));
        }
        Ok(decoded)
    }
}
