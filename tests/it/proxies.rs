//! The service behind nginx and HAProxy, with the files of `deploy/proxy`: calls keep their status, streams outlive the time-outs of
//! the proxy by their heartbeats, and nobody comes through without a certificate.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use care_invitation::contract::v1;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::contract::v1::stream_due_notifications_response::Event;
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use tonic_types::StatusExt;

use crate::alerts::is_installed;
use crate::door::host::{Ca, Pair};
use crate::door::tls::channel;
use crate::harness::within;
use crate::program::{PROGRAM, Program, command_by, get};

/// Time-out in the files, and the one that the tests give the proxies in its place.
const TIMEOUTS: (&str, &str) = ("60s", "3s");

/// A program that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The service, and a proxy before it.
struct Behind {
    program: Program,
    _proxy: Running,
    address: SocketAddr,
    /// CA of the proxy and of the service.
    servers: Ca,
    client: Pair,
    folder: TempDir,
}

#[derive(Clone, Copy)]
enum Proxy {
    Nginx,
    Haproxy,
    Passthrough,
}

impl Proxy {
    const ALL: [Self; 3] = [Self::Nginx, Self::Haproxy, Self::Passthrough];

    fn is_installed(self) -> bool {
        is_installed(self.program(), "-v")
    }

    fn program(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy | Self::Passthrough => "haproxy",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Nginx => "nginx.conf",
            Self::Haproxy => "haproxy.cfg",
            Self::Passthrough => "haproxy-passthrough.cfg",
        }
    }

    /// Starts it with its file, in which addresses, folders and time-outs are those of the test.
    fn start(self, folder: &Path, front: SocketAddr, back: SocketAddr) -> Running {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(root.join("deploy/proxy").join(self.file()));
        let here = folder.display().to_string();
        let text = text
            .expect("it is there")
            .replace("127.0.0.1:8443", &front.to_string())
            .replace("127.0.0.1:50051", &back.to_string())
            .replace("/etc/nginx/tls", &here)
            .replace("/etc/haproxy/tls", &here)
            .replace("/run/nginx.pid", &format!("{here}/nginx.pid"))
            .replace(TIMEOUTS.0, TIMEOUTS.1);
        let path = folder.join(self.file());
        fs::write(&path, text).expect("written");
        let mut command = Command::new(self.program());
        match self {
            Self::Nginx => {
                let more = format!("daemon off; master_process off; error_log {here}/nginx.log;");
                command.arg("-c").arg(&path).args(["-g", &more])
            }
            Self::Haproxy | Self::Passthrough => command.arg("-db").arg("-f").arg(&path),
        };
        let log = fs::File::create(folder.join("proxy.log")).expect("a file");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Running(command.spawn().expect("it starts"))
    }
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound")
}

impl Behind {
    async fn start(proxy: Proxy, heartbeat: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let (servers, clients) = (Ca::new(), Ca::new());
        let write = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).expect("written");
        };
        let (service, front, back) = (servers.local(), servers.local(), clients.local());
        write("service-ca.pem", &servers.pem());
        write("clients-ca.pem", &clients.pem());
        write("service.pem", &service.certificate);
        write("service.key", &service.key);
        write("proxy.pem", &(front.certificate + &front.key));
        write("proxy.key", &front.key);
        write("proxy-client.pem", &(back.certificate + &back.key));
        write("proxy-client.key", &back.key);
        let path = |name: &str| -> String { folder.path().join(name).display().to_string() };
        let arguments = [
            "--tls-cert",
            &path("service.pem"),
            "--tls-key",
            &path("service.key"),
            "--tls-client-ca",
            &path("clients-ca.pem"),
            "--heartbeat",
            heartbeat,
        ];
        let command = tokio::process::Command::new(PROGRAM);
        let command = command_by(command, folder.path(), &arguments);
        let program = Program::run(command, folder.path().join("log")).await;
        let service = program.address.strip_prefix("https://").expect("TLS");
        let service = service.parse().expect("an address");
        let address = free_port();
        let running = proxy.start(folder.path(), address, service);
        Self {
            program,
            _proxy: running,
            address,
            servers,
            client: clients.local(),
            folder,
        }
    }

    /// A connection through the proxy, once it is there and has found the service.
    async fn channel(&self) -> Channel {
        let begun = Instant::now();
        loop {
            if let Ok(channel) = channel(self.address, &self.servers, Some(&self.client)).await {
                let refused = get(&channel, "nobody").await.expect_err("no name");
                if refused.code() != Code::Unavailable {
                    return channel;
                }
            }
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(20), "{log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("proxy.log")
    }

    async fn stream(&self) -> Streaming<v1::StreamDueNotificationsResponse> {
        let mut client = NotificationServiceClient::new(self.channel().await);
        let wishes = v1::StreamDueNotificationsRequest::default();
        let answer = within(client.stream_due_notifications(wishes)).await;
        answer.expect("a stream").into_inner()
    }

    async fn end(self) {
        self.program.signal("-TERM").await;
        let (status, ..) = self.program.end().await;
        assert!(status.success());
    }
}

#[tokio::test]
async fn the_status_of_a_call_comes_through_with_its_details() {
    for proxy in Proxy::ALL {
        if !proxy.is_installed() {
            continue;
        }
        let behind = Behind::start(proxy, "15").await;
        let channel = behind.channel().await;
        let refused = get(&channel, "nobody").await.expect_err("no name");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        let details = refused.get_details_error_info().expect("a reason");
        assert_eq!(details.reason, "FIELD_INVALID");
        behind.end().await;
    }
}

#[tokio::test]
async fn a_silent_stream_outlives_the_time_out_of_the_proxy_by_its_heartbeats_alone() {
    for proxy in [Proxy::Nginx, Proxy::Haproxy] {
        if !proxy.is_installed() {
            continue;
        }
        let behind = Behind::start(proxy, "1").await;
        let mut events = behind.stream().await;
        // More than twice the time-out.
        for _ in 0..7 {
            let said = within(events.message()).await.expect("it is open");
            let event = said.and_then(|it| it.event);
            assert_eq!(event, Some(Event::Heartbeat(v1::Heartbeat {})));
        }
        drop(events);
        behind.end().await;

        let behind = Behind::start(proxy, "300").await;
        let mut events = behind.stream().await;
        within(events.message()).await.expect_err("it is cut");
        drop(events);
        behind.end().await;
    }
}

#[tokio::test]
async fn nobody_comes_through_without_a_certificate() {
    for proxy in Proxy::ALL {
        if !proxy.is_installed() {
            continue;
        }
        let behind = Behind::start(proxy, "15").await;
        behind.channel().await;
        if let Ok(channel) = channel(behind.address, &behind.servers, None).await {
            let refused = get(&channel, "nobody").await.expect_err("refused");
            assert_ne!(refused.code(), Code::InvalidArgument, "{refused:?}");
        }
        behind.end().await;
    }
}
