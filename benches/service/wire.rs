//! The bare wire: the same call over the same transport, answered with nothing behind it. Runs in
//! a process of its own, as the service does. Creates and pages can be answered so.

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

/// An answer that can be given again and again, and the call that it answers.
pub trait Answer: Message + Default + Clone + 'static {
    /// The call's message.
    type Call: Message + Default + 'static;
    /// The service that the call is one of.
    const SERVICE: &str;
    /// The name of a file that holds such an answer.
    const FILE: &str;
}

impl Answer for v1::CreateBookingRequestResponse {
    type Call = v1::CreateBookingRequestRequest;
    const SERVICE: &str = "careinvitation.v1.BookingRequestService";
    const FILE: &str = "create";
}

impl Answer for v1::ListWorklistResponse {
    type Call = v1::ListWorklistRequest;
    const SERVICE: &str = "careinvitation.v1.WorklistService";
    const FILE: &str = "page";
}

/// Serves until the process is ended: every call of a service is answered with what the file holds.
pub async fn serve(canned: &Path) -> Outcome<()> {
    let is = |name: &str| canned.file_name().is_some_and(|it| it == name);
    if is(v1::ListWorklistResponse::FILE) {
        return answer::<v1::ListWorklistResponse>(canned).await;
    }
    answer::<v1::CreateBookingRequestResponse>(canned).await
}

async fn answer<A: Answer>(canned: &Path) -> Outcome<()> {
    let canned = A::decode(&*std::fs::read(canned)?)?;
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
struct Wire<A>(A);

impl<A: Answer> NamedService for Wire<A> {
    const NAME: &'static str = A::SERVICE;
}

impl<A: Answer> UnaryService<A::Call> for Wire<A> {
    type Response = A;
    type Future = Ready<Result<tonic::Response<Self::Response>, tonic::Status>>;

    fn call(&mut self, _: tonic::Request<A::Call>) -> Self::Future {
        ready(Ok(tonic::Response::new(self.0.clone())))
    }
}

impl<A: Answer> Service<http::Request<Body>> for Wire<A> {
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
