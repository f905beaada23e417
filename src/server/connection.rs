//! Connections: accepted within their limits, closed when they do not speak HTTP/2, or HTTP/1.1 where web pages
//! call, within TLS where that is on, and closed when they have been idle for long.
//!
//! hyper has no limit on the time without a call. hyper-util's `GracefulShutdown` closes all connections
//! together, and waits for each without a limit.

use std::convert::Infallible;
use std::future::pending;
use std::io::{self, Cursor, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use backon::{ConstantBuilder, Retryable};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, join, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::service::Routes;
use tower::{Service, ServiceExt};
use tracing::{debug, info, warn};

use super::streams::Streams;
use super::tls::Tls;
use super::web::{Http1Body, Web};
use crate::auth::certificate::Certificate;
use crate::clock::Clock;
use crate::grpc::middleware::load::{Bounds, LimitReached};
use crate::grpc::middleware::{Limits, Middleware, MiddlewareLayer, reset};
use crate::telemetry::seldom::Seldom;

/// First bytes of every HTTP/2 connection.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Maximum concurrent calls and streams on one connection; more wait on the caller's side.
const CONCURRENT_STREAMS_MAX: u32 = 1_024;
/// Maximum bytes in the headers of one call: a token fits, and one that is too large by much is still answered. h2
/// answers more with 431, and closes a connection for several times as many.
const HEADER_BYTES_MAX: u32 = 32 * 1_024;
/// Maximum bytes of one response that wait in the transport for their peer, beside one chunk of it.
const SEND_BYTES_MAX: usize = 64 * 1_024;
/// Maximum calls that the peer reset before they were accepted; a connection with more is closed.
const PENDING_RESETS_MAX: usize = 20;
/// Maximum calls that were reset for a protocol error of the peer; a connection with more is closed.
const ERROR_RESETS_MAX: usize = 1_024;
/// Bytes of a connection in HTTP/1.1 that are kept until they are read, headers included.
const HTTP1_BUFFER_BYTES: usize = 64 * 1_024;
/// Silence after which the peer is sent a keepalive ping.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Time that the peer has to answer the ping.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for which a connection that is being closed stays open after its last call, while the peer
/// reads the end of that.
const CLOSE_GRACE: Duration = Duration::from_secs(3);
/// Pauses after a connection could not be accepted, as when there are no file handles left.
const ACCEPT: ConstantBuilder = ConstantBuilder::new()
    .with_delay(Duration::from_millis(100))
    .without_max_times();
/// Shortest interval between two log lines about refused connections.
const REFUSALS_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Shortest interval between two log lines about connections that are in plain text, or are not.
const MISMATCHES_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Shortest interval between two log lines about handshakes of TLS that failed.
const HANDSHAKES_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// First byte of a connection that speaks TLS.
const TLS_HANDSHAKE: u8 = 0x16;
/// File handles that are reserved for the database, the log and the listener.
const RESERVED_HANDLES: usize = 128;

/// Returns the limits, with no more connections than the process may have file handles for.
pub fn within_open_files_limit(limits: Limits) -> Limits {
    let handles = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let handles = usize::try_from(handles).unwrap_or(usize::MAX);
    let Bounds { all, caller, .. } = limits.connections;
    let room = room_within(handles);
    if all <= room {
        return limits;
    }
    warn!(
        file_handles = handles,
        connections_max = room,
        "the limit on open files allows fewer connections than configured"
    );
    let caller = caller.min(room - room / 4);
    Limits {
        connections: Bounds {
            all: room,
            caller,
            ..limits.connections
        },
        ..limits
    }
}

/// Returns the number of connections that fit into so many file handles, beside the reserved ones.
fn room_within(handles: usize) -> usize {
    handles.saturating_sub(RESERVED_HANDLES).max(handles / 4)
}

/// Serves on `listener` until `stop` is done; then accepts no more connections, lets the calls in
/// flight finish, and closes the open connections. Cancels all of them when dropped.
pub async fn serve(
    listener: TcpListener,
    doorway: Doorway,
    middleware: MiddlewareLayer,
    limits: Limits,
    services: Routes,
    stop: impl Future<Output = ()>,
) {
    let open = TaskTracker::new();
    let (closing, cancelled) = (CancellationToken::new(), CancellationToken::new());
    let _cancel_on_drop = cancelled.clone().drop_guard();
    let accept_all = async {
        let refusals = Seldom::new(REFUSALS_LOG_INTERVAL);
        let doorway = Arc::new(doorway);
        loop {
            let (stream, address) = accept(&listener).await;
            // A refused connection is closed at once: its caller may try another server then.
            match middleware.connect(address.ip(), services.clone()) {
                Err(LimitReached) => {
                    if let Some(count) = refusals.count() {
                        warn!(count, "too many connections, new ones are closed");
                    }
                }
                Ok(services) => {
                    let doorway = doorway.clone();
                    let closing = closing.clone();
                    let serving = serve_connection(stream, doorway, services, limits, closing);
                    let cancelled = cancelled.clone();
                    open.spawn(async move { cancelled.run_until_cancelled_owned(serving).await });
                }
            }
        }
    };
    tokio::select! {
        () = stop => {}
        () = accept_all => {}
    }
    drop(listener);
    closing.cancel();
    open.close();
    open.wait().await;
}

/// Accepts the next connection. Attempts it again after a failure, as when there are no file handles left.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut failed = false;
    let accepted = (|| listener.accept())
        .retry(ACCEPT)
        .adjust(|error, pause| match error.kind() {
            // The error concerns that connection alone.
            ErrorKind::ConnectionAborted => Some(Duration::ZERO),
            _ => pause,
        })
        .notify(|error, pause| {
            if !failed && !pause.is_zero() {
                warn!(%error, "accepting connections failed");
                failed = true;
            }
        })
        .await;
    if failed {
        info!("accepting connections again");
    }
    accepted.expect("it is attempted until a connection is accepted")
}

/// Serves one connection until its peer closes it, it has been idle for long, or `closing` is cancelled.
async fn serve_connection(
    stream: TcpStream,
    doorway: Arc<Doorway>,
    services: Middleware<Routes>,
    limits: Limits,
    closing: CancellationToken,
) {
    let opened = timeout(limits.preface_time_max, doorway.open(stream));
    let opened = match closing.run_until_cancelled(opened).await {
        Some(Ok(Ok(opened))) => opened,
        Some(Ok(Err(error))) => return debug!(%error, "connection closed: no HTTP/2 preface"),
        Some(Err(_)) => return debug!("connection closed: HTTP/2 preface timed out"),
        None => return,
    };
    let Opened {
        io,
        is_http2,
        client,
    } = opened;
    let (certificate, distrusted) = client.unzip();
    let distrusted = async {
        match distrusted {
            Some(distrusted) => distrusted.await,
            None => pending().await,
        }
    };
    let services = services.certified(certificate);
    let serving = async {
        match (&doorway.web, is_http2) {
            (None, _) => serve_http2(io, services, limits, closing).await,
            (Some(web), true) => serve_http2(io, web.wrap(services), limits, closing).await,
            // A connection has one call at a time, and is cut off with it.
            (Some(web), false) => {
                reset::run(serve_http1(io, web.wrap(services), limits, closing)).await;
            }
        }
    };
    tokio::select! {
        () = serving => {}
        () = distrusted => info!("connection closed: its certificate is not trusted any more"),
    }
}

async fn serve_http2<S>(io: Box<dyn Io>, services: S, limits: Limits, closing: CancellationToken)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let streams = Streams::default();
    let service = service_fn(move |request: Request<Incoming>| {
        services.clone().oneshot(request.map(Body::new))
    });
    let serving = http2(streams.clone()).serve_connection(TokioIo::new(io), service);
    drive(serving, streams, limits, closing).await;
}

async fn serve_http1<S>(io: Box<dyn Io>, services: S, limits: Limits, closing: CancellationToken)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let streams = Streams::default();
    let calls = streams.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let count_end = calls.begin();
        let response = services.clone().oneshot(request.map(Body::new));
        async { Ok::<_, Infallible>(response.await?.map(|body| Http1Body::new(body, count_end))) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.preface_time_max)
        .max_buf_size(HTTP1_BUFFER_BYTES);
    let serving = builder.serve_connection(TokioIo::new(io), service);
    drive(serving, streams, limits, closing).await;
}

/// Drives a connection to its end.
async fn drive<C>(serving: C, streams: Streams, limits: Limits, closing: CancellationToken)
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let mut serving = pin!(serving);
    tokio::select! {
        ended = &mut serving => return log_end(ended),
        () = closing.cancelled() => {}
        () = streams.idle_for(limits.idle_time_max) => {}
    }
    serving.as_mut().graceful_shutdown();
    tokio::select! {
        ended = serving => log_end(ended),
        // A peer that does not close its side is not waited for.
        () = streams.idle_for(CLOSE_GRACE) => {}
    }
}

fn log_end(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        debug!(%error, "connection failed");
    }
}

/// A connection, with TLS or without.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Certificate of a client, and the end of the trust in it.
type Client = (Certificate, BoxFuture<'static, ()>);

/// A connection that has begun.
struct Opened {
    /// The connection, as if nothing had been read of it.
    io: Box<dyn Io>,
    /// False where it speaks HTTP/1.1.
    is_http2: bool,
    /// Certificate of the client, and the end of the trust in it; none if it gave none.
    client: Option<Client>,
}

/// The beginning of connections: the handshake of TLS where that is on, and the preface of HTTP/2.
pub struct Doorway {
    tls: Option<Tls>,
    web: Option<Web>,
    clock: Clock,
    mismatches: Seldom,
    failed_handshakes: Seldom,
}

impl Doorway {
    /// Makes the beginning of connections, with TLS or in plain text, of web pages too or not.
    pub fn new(tls: Option<Tls>, web: Option<Web>, clock: Clock) -> Self {
        Self {
            tls,
            web,
            clock,
            mismatches: Seldom::new(MISMATCHES_LOG_INTERVAL),
            failed_handshakes: Seldom::new(HANDSHAKES_LOG_INTERVAL),
        }
    }

    /// Opens a connection.
    async fn open(&self, stream: TcpStream) -> io::Result<Opened> {
        stream.set_nodelay(true)?;
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let speaks_tls = first == [TLS_HANDSHAKE];
        match &self.tls {
            Some(tls) if speaks_tls => {
                let stream = tls.accept(stream).await;
                let stream = stream.inspect_err(|error| self.note_handshake(error))?;
                let (_, session) = stream.get_ref();
                let client = session.peer_certificates().map(|chain| {
                    let certificate = Certificate::of(chain, self.clock.machine_now());
                    let chain = chain.iter().map(|it| it.clone().into_owned()).collect();
                    let certificate = certificate.ok_or(ErrorKind::InvalidData)?;
                    Ok::<_, ErrorKind>((certificate, tls.clone().distrusts(chain).boxed()))
                });
                let client = client.transpose().map_err(io::Error::from)?;
                let (reader, writer) = split(stream);
                self.begun(reader, writer, client).await
            }
            None if !speaks_tls => {
                let (reader, writer) = stream.into_split();
                self.begun(reader, writer, None).await
            }
            Some(_) => {
                Err(self.mismatch("a client in plain text is refused: this port speaks TLS"))
            }
            None => Err(self.mismatch("a client with TLS is refused: this port is in plain text")),
        }
    }

    /// Reads the preface and checks it; where web pages call, HTTP/1.1 may stand in its place. hyper-util tells them
    /// apart too, but waits without a limit.
    async fn begun<R, W>(
        &self,
        mut reader: R,
        writer: W,
        client: Option<Client>,
    ) -> io::Result<Opened>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let mut first = Vec::with_capacity(PREFACE.len());
        while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
            let rest = PREFACE.len() - first.len();
            let mut limited = (&mut reader).take(rest as u64);
            if limited.read_buf(&mut first).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let is_http2 = first == PREFACE;
        if !is_http2 && self.web.is_none() {
            return Err(ErrorKind::InvalidData.into());
        }
        let io = Box::new(join(Cursor::new(first).chain(reader), writer));
        Ok(Opened {
            io,
            is_http2,
            client,
        })
    }

    /// Logs a handshake that failed, unless the peer just left.
    fn note_handshake(&self, error: &io::Error) {
        if error.kind() == ErrorKind::InvalidData
            && let Some(count) = self.failed_handshakes.count()
        {
            warn!(count, latest = %error, "handshakes of TLS have failed");
        }
    }

    /// Logs a client that speaks TLS where it should not, or the reverse.
    fn mismatch(&self, line: &'static str) -> io::Error {
        if let Some(count) = self.mismatches.count() {
            warn!(count, "{line}");
        }
        ErrorKind::InvalidData.into()
    }
}

fn http2(streams: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(CONCURRENT_STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(SEND_BYTES_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_handles_are_left_for_the_database() {
        for (handles, room) in [(1_024, 896), (20_000, 19_872), (100, 25), (0, 0)] {
            assert_eq!(room_within(handles), room, "{handles}");
        }
    }
}
