//! Calls by their paths, with messages as bytes: for tests that go through all methods of the contract.

use prost::bytes::{Buf, BufMut};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::harness::within;

/// Leaves messages as they are.
#[derive(Clone, Copy, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}

/// The first message of the answer to a call, if it has one.
pub async fn call(
    channel: &Channel,
    path: &str,
    request: Request<Vec<u8>>,
) -> Result<Option<Vec<u8>>, Status> {
    let (_, message) = answer(channel, path, request).await?;
    Ok(message)
}

/// The same with the metadata that the answer begins with.
pub async fn answer(
    channel: &Channel,
    path: &str,
    request: Request<Vec<u8>>,
) -> Result<(MetadataMap, Option<Vec<u8>>), Status> {
    let (metadata, mut messages) = begun(channel, path, request).await?;
    Ok((metadata, within(messages.message()).await?))
}

/// The answer to a call, once it has begun.
pub async fn begun(
    channel: &Channel,
    path: &str,
    request: Request<Vec<u8>>,
) -> Result<(MetadataMap, Streaming<Vec<u8>>), Status> {
    let mut grpc = Grpc::new(channel.clone());
    within(grpc.ready()).await.expect("connected");
    let path = path.parse().expect("a path");
    let answer = within(grpc.server_streaming(request, path, Bytes)).await?;
    let (metadata, messages, _) = answer.into_parts();
    Ok((metadata, messages))
}
