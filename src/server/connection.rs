//! Connections: taken on within their limits, told to speak HTTP/2 or go, and closed when nothing
//! has been asked on them for long.

use std::io::{self, Cursor, ErrorKind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, join};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt;
use tracing::{debug, info, warn};

use crate::grpc::middleware::load::{Bounds, LimitReached};
use crate::grpc::middleware::{Limits, Middleware, MiddlewareLayer, reset};

/// The first bytes of every connection.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Calls and streams on one connection at once; more wait on the caller's side.
const CONCURRENT_STREAMS_MAX: u32 = 1_024;
/// The headers of one call, in bytes: a token fits.
const HEADER_BYTES_MAX: u32 = 16 * 1_024;
/// Bytes of one answer that wait in the transport for their peer, beside one part of it.
const SEND_BYTES_MAX: usize = 64 * 1_024;
/// Calls that the peer took back before they were looked at; a connection with more is closed.
const PENDING_RESETS_MAX: usize = 20;
/// Calls that ended with an error of the peer's in the protocol; a connection with more is closed.
const ERROR_RESETS_MAX: usize = 1_024;
/// After this long in silence a peer is asked whether it is there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long it has to answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection that is to end stays for after the last call on it, while its peer reads
/// the end of that.
const LINGER: Duration = Duration::from_secs(3);
/// The pause after a connection could not be accepted, as when there are no file handles left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often the log says that connections are refused.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);
/// File handles that are kept for the database, the log and the listener.
const HANDLES_KEPT: usize = 128;

/// Returns the limits, with no more connections than the process may have file handles for.
pub fn within_handles(limits: Limits) -> Limits {
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
        "the limit on open files leaves room for fewer connections"
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

/// Returns how many connections there is room for beside the rest.
fn room_within(handles: usize) -> usize {
    handles.saturating_sub(HANDLES_KEPT).max(handles / 4)
}

/// Serves on `listener` until `stop` is done; then no connection is taken on any more, calls under
/// way finish, and those that are open end. Cut off when dropped.
pub async fn serve(
    listener: TcpListener,
    boundary: MiddlewareLayer,
    limits: Limits,
    services: Routes,
    stop: impl Future<Output = ()>,
) {
    let open = TaskTracker::new();
    let (closing, cut) = (CancellationToken::new(), CancellationToken::new());
    let _cut = cut.clone().drop_guard();
    let take_on = async {
        let mut complaint = Complaint::default();
        loop {
            let (stream, address) = accept(&listener).await;
            // The connection is closed at once: a caller may try another server then.
            match boundary.connect(address.ip(), services.clone()) {
                Err(LimitReached) => complaint.refused(),
                Ok(services) => {
                    let talk = converse(stream, services, limits, closing.clone());
                    let cut = cut.clone();
                    open.spawn(async move { cut.run_until_cancelled_owned(talk).await });
                }
            }
        }
    };
    tokio::select! {
        () = stop => {}
        () = take_on => {}
    }
    drop(listener);
    closing.cancel();
    open.close();
    open.wait().await;
}

/// Returns the next connection. While there is none to be had, as without a file handle, it is tried again.
async fn accept(listener: &TcpListener) -> (TcpStream, std::net::SocketAddr) {
    let mut failed = false;
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                if failed {
                    info!("connections are accepted again");
                }
                return accepted;
            }
            // It is about that connection alone.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !failed {
                    warn!(%error, "connections cannot be accepted");
                }
                failed = true;
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What is said of refused connections, and not of each.
#[derive(Default)]
struct Complaint {
    count: u64,
    said_at: Option<Instant>,
}

impl Complaint {
    fn refused(&mut self) {
        self.count += 1;
        let recently = |at: Instant| at.elapsed() < COMPLAINT_INTERVAL;
        if !self.said_at.is_some_and(recently) {
            warn!(
                count = self.count,
                "too many connections, new ones are closed"
            );
            self.count = 0;
            self.said_at = Some(Instant::now());
        }
    }
}

/// Serves one connection until its peer goes, nothing has been asked for long, or `closing`.
async fn converse(
    stream: TcpStream,
    services: Middleware<Routes>,
    limits: Limits,
    closing: CancellationToken,
) {
    let opened = timeout(limits.preface_time_max, open(stream));
    let io = match closing.run_until_cancelled(opened).await {
        Some(Ok(Ok(io))) => io,
        Some(Ok(Err(error))) => return debug!(%error, "a connection does not speak HTTP/2"),
        Some(Err(_)) => return debug!("a connection said nothing in time"),
        None => return,
    };
    let streams = Streams::default();
    let service = service_fn(move |request: Request<Incoming>| {
        services.clone().oneshot(request.map(Body::new))
    });
    let talk = http2(streams.clone()).serve_connection(TokioIo::new(io), service);
    let mut talk = pin!(talk);
    tokio::select! {
        ended = &mut talk => return log_end(ended),
        () = closing.cancelled() => {}
        () = streams.idle_for(limits.idle_time_max) => {}
    }
    talk.as_mut().graceful_shutdown();
    tokio::select! {
        ended = talk => log_end(ended),
        // A peer that does not let go is not waited for.
        () = streams.idle_for(LINGER) => {}
    }
}

fn log_end(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        debug!(%error, "a connection broke");
    }
}

/// Reads the preface; gives the connection as if it had not been read.
async fn open(mut stream: TcpStream) -> io::Result<impl AsyncRead + AsyncWrite + Unpin> {
    stream.set_nodelay(true)?;
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await?;
    if preface != *PREFACE {
        return Err(ErrorKind::InvalidData.into());
    }
    let (reader, writer) = stream.into_split();
    Ok(join(Cursor::new(preface).chain(reader), writer))
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

/// Runs the HTTP/2 streams of one connection, which are its calls, and knows how many there are.
#[derive(Clone, Debug, Default)]
struct Streams(Arc<Turns>);

/// How many have begun and ended.
#[derive(Debug, Default)]
struct Turns {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Turns {
    fn get(&self) -> (u64, u64) {
        let ended = self.ended.load(Ordering::Acquire);
        (self.begun.load(Ordering::Acquire), ended)
    }
}

impl Streams {
    /// Waits until there has been no call for this long.
    async fn idle_for(&self, time: Duration) {
        loop {
            let before = self.0.get();
            sleep(time).await;
            let (begun, ended) = self.0.get();
            if begun == ended && before == (begun, ended) {
                return;
            }
        }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.begun.fetch_add(1, Ordering::AcqRel);
        let turns = Ended(self.0.clone());
        tokio::spawn(async move {
            let _turns = turns;
            reset::run(stream).await;
        });
    }
}

/// Counts an end, however it comes.
struct Ended(Arc<Turns>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::AcqRel);
    }
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

    #[tokio::test(start_paused = true)]
    async fn idle_is_without_a_call_for_the_whole_time() {
        let streams = Streams::default();
        let second = Duration::from_secs(1);
        let began = Instant::now();
        streams.execute(sleep(5 * second));
        streams.idle_for(2 * second).await;
        assert_eq!(began.elapsed(), 8 * second);
    }
}
