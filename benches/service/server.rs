//! A server process: the service, or the one with nothing behind it. Ends with its handle.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::wire::Answer;
use crate::{Outcome, settings::Settings};

/// How many connections callers share at the most. Few share one, as callers in different
/// processes would.
const CONNECTIONS_MAX: usize = 8;
/// How long a server may take to be there before that has failed.
const START_MAX: Duration = Duration::from_secs(120);

/// Which clock the service goes by.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The machine's.
    Real,
    /// One that stands still here until it is moved.
    Sandbox(&'static str),
}

/// A running server.
pub struct Server {
    child: Child,
    address: String,
    _log: tempfile::TempDir,
}

impl Server {
    /// Starts the service over a database and waits until it listens.
    pub async fn start(settings: &Settings, url: &str, clock: Clock) -> Outcome<Self> {
        let mut command = service(settings, url);
        command.args(["--listen", "127.0.0.1:0", "--migrate"]);
        if let Clock::Sandbox(start) = clock {
            command.args(["--sandbox-clock", start]);
        }
        Self::spawn(command).await
    }

    /// Starts the server that answers every call with `canned`.
    pub async fn start_wire<A: Answer>(canned: &A) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join(A::FILE);
        std::fs::write(&file, canned.encode_to_vec())?;
        // Whatever has become of the program's file meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg("--wire").arg(file);
        Self::spawn(command).await
    }

    async fn spawn(mut command: Command) -> Outcome<Self> {
        let log = tempfile::tempdir()?;
        let file = log_file(log.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&file)?)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(not_started)?;
        let stdout = child.stdout.take().ok_or("standard output is piped")?;
        let mut line = String::new();
        let mut stdout = BufReader::new(stdout);
        tokio::time::timeout(START_MAX, stdout.read_line(&mut line)).await??;
        let address = line.trim_end().strip_prefix("listening on ");
        let address = address.map(str::to_owned);
        let address = address.ok_or_else(|| {
            let said = std::fs::read_to_string(&file).unwrap_or_default();
            format!("the server did not start: {line}{said}")
        })?;
        Ok(Self {
            child,
            address,
            _log: log,
        })
    }

    /// A connection.
    pub async fn channel(&self) -> Outcome<Channel> {
        let endpoint = Endpoint::try_from(self.address.clone())?;
        Ok(endpoint.tcp_nodelay(true).connect().await?)
    }

    /// Connections for so many callers to share.
    pub async fn channels(&self, callers: usize) -> Outcome<Vec<Channel>> {
        let mut channels = Vec::new();
        for _ in 0..callers.clamp(1, CONNECTIONS_MAX) {
            channels.push(self.channel().await?);
        }
        Ok(channels)
    }

    /// Waits until it says of itself that it serves.
    pub async fn serves(&self) -> Outcome<()> {
        let mut health = HealthClient::new(self.channel().await?);
        loop {
            let check = health.check(HealthCheckRequest::default()).await?;
            if check.into_inner().status() == ServingStatus::Serving {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The folder in which the system tells about the process.
    pub fn proc(&self) -> Outcome<PathBuf> {
        let id = self.child.id().ok_or("the server has ended")?;
        Ok(PathBuf::from(format!("/proc/{id}")))
    }

    /// Ends it as an operator would, so that its database is left in order.
    pub async fn stop(mut self) -> Outcome<()> {
        let id = self.child.id().ok_or("the server has ended by itself")?;
        let sent = Command::new("kill").arg(id.to_string()).status().await?;
        let ended = self.child.wait().await?;
        match sent.success() && ended.success() {
            true => Ok(()),
            false => Err(format!("the server did not stop well: {ended}").into()),
        }
    }

    /// Ends it at once; its database is not looked at again, or is safe whatever happens.
    pub async fn kill(mut self) -> Outcome<()> {
        Ok(self.child.kill().await?)
    }
}

/// Gives an empty database the service's schema.
pub async fn migrate(settings: &Settings, url: &str) -> Outcome<()> {
    let done = service(settings, url).arg("migrate").output().await;
    let done = done.map_err(not_started)?;
    match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&done.stderr).into()),
    }
}

/// The service's version, as it says it.
pub async fn version(settings: &Settings) -> Outcome<String> {
    let said = service(settings, "").arg("--version").output().await;
    let said = said.map_err(not_started)?;
    Ok(String::from_utf8(said.stdout)?.trim().to_owned())
}

fn not_started(error: std::io::Error) -> String {
    format!("the server cannot be started: {error}")
}

/// The program, with no setting from outside.
fn service(settings: &Settings, url: &str) -> Command {
    let own = Path::new(env!("CARGO_BIN_EXE_care-invitation")).to_owned();
    let mut command = Command::new(settings.server.clone().unwrap_or(own));
    command
        .env_clear()
        .env("CARE_INVITATION_DATABASE_URL", url)
        .args(["--log-level", "warn"]);
    command
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("log")
}
