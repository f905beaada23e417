//! The bare wire: the same call over the same transport, answered with nothing behind it. Runs in
//! a process of its own, as the service does.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::Write;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use care_invitation::contract::v1;
use prost::Message;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_prost::ProstCodec;
use tower::Service;

use crate::Outcome;

/// Serves until the process is ended: every call of the service is taken for a create, and
/// answered with what the file holds.
pub async fn serve(canned: &Path) -> Outcome<()> {
    let canned = v1::CreateBookingRequestResponse::decode(&*std::fs::read(canned)?)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(
        std::io::stdout(),
        "listening on http://{}",
        listener.local_addr()?
    )?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder().add_service(Wire(canned));
    Ok(server.serve_with_incoming(incoming).await?)
}

#[derive(Clone)]
struct Wire(v1::CreateBookingRequestResponse);

impl NamedService for Wire {
    const NAME: &'static str = "careinvitation.v1.BookingRequestService";
}

impl UnaryService<v1::CreateBookingRequestRequest> for Wire {
    type Response = v1::CreateBookingRequestResponse;
    type Future = Ready<Result<tonic::Response<Self::Response>, tonic::Status>>;

    fn call(&mut self, _: tonic::Request<v1::CreateBookingRequestRequest>) -> Self::Future {
        ready(Ok(tonic::Response::new(self.0.clone())))
    }
}

impl Service<http::Request<Body>> for Wire {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let wire = self.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(wire, request).await) })
    }
}
