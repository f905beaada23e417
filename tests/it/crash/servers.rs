//! The program, one process or several over one database: killed, started again, with one clock for all that only
//! goes forward.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use care_invitation::contract::calendar::render_instant;
use care_invitation::contract::sandbox_v1;
use care_invitation::contract::sandbox_v1::clock_service_client::ClockServiceClient;
use care_invitation::domain::calendar::Instant;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::program::{PROGRAM, Program, command_by};

/// After so long without an answer a process may have been stopped.
const STOPPED_AFTER: Duration = Duration::from_millis(100);

/// The processes, all over one database.
pub struct Servers {
    url: String,
    folder: TempDir,
    now: Mutex<Instant>,
    processes: Vec<Process>,
}

/// One process and the way to it.
struct Process {
    is_stopped: AtomicBool,
    program: AsyncMutex<Option<Program>>,
    channel: watch::Sender<Option<Channel>>,
    starts: Mutex<usize>,
}

impl Servers {
    /// So many, over this database; with none, a SQLite file of their own.
    pub async fn start(count: usize, url: Option<String>, now: Instant) -> Self {
        let folder = TempDir::new().expect("a folder");
        let file = || format!("sqlite://{}", folder.path().join("care.db").display());
        let process = || Process {
            is_stopped: AtomicBool::new(false),
            program: AsyncMutex::default(),
            channel: watch::Sender::default(),
            starts: Mutex::default(),
        };
        let servers = Self {
            url: url.unwrap_or_else(file),
            folder,
            now: Mutex::new(now),
            processes: (0..count).map(|_| process()).collect(),
        };
        for at in 0..count {
            servers.start_again(at).await;
        }
        servers
    }

    pub fn count(&self) -> usize {
        self.processes.len()
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the clock shows.
    pub fn now(&self) -> Instant {
        *self.now.lock().expect("no test panics in here")
    }

    /// A connection to one of them: this one or the next that runs, or this one once it runs again.
    pub async fn channel(&self, at: usize) -> Channel {
        let count = self.count();
        let running =
            (at..at + count).find_map(|at| self.processes[at % count].channel.borrow().clone());
        if let Some(running) = running {
            return running;
        }
        let mut channel = self.processes[at % count].channel.subscribe();
        let running = channel.wait_for(Option::is_some).await;
        running
            .expect("the sender lives")
            .clone()
            .expect("it is there")
    }

    /// Stops one with SIGSTOP: it keeps its connections and says nothing.
    pub async fn stop(&self, at: usize) {
        let process = &self.processes[at];
        process.is_stopped.store(true, Ordering::Relaxed);
        process.signal("-STOP").await;
    }

    /// Lets one go on that was stopped.
    pub async fn go_on(&self, at: usize) {
        let process = &self.processes[at];
        process.signal("-CONT").await;
        process.is_stopped.store(false, Ordering::Relaxed);
    }

    /// Kills one with SIGKILL.
    pub async fn kill(&self, at: usize) {
        let process = &self.processes[at];
        let program = process.program.lock().await.take().expect("it runs");
        program.signal("-KILL").await;
        process.channel.send_replace(None);
        program.end().await;
    }

    /// Starts one that was killed.
    pub async fn start_again(&self, at: usize) {
        let process = &self.processes[at];
        let now = self.now().to_rfc3339();
        let log = self.log_of(at);
        let arguments = ["--sandbox-clock", &now];
        let mut command = command_by(Command::new(PROGRAM), self.folder.path(), &arguments);
        command.env("CARE_INVITATION_DATABASE_URL", &self.url);
        let program = Program::run(command, log).await;
        process.channel.send_replace(Some(program.channel().await));
        *process.program.lock().await = Some(program);
    }

    /// Moves the clock of all that run forward.
    pub async fn advance(&self, by: chrono::Duration) {
        let now = {
            let mut now = self.now.lock().expect("no test panics in here");
            *now += by;
            *now
        };
        let to = sandbox_v1::AdvanceTimeRequest {
            server_time: Some(render_instant(now)),
        };
        for process in &self.processes {
            process.advance(to).await;
        }
    }

    /// The lines of all logs that no run may leave.
    pub fn faults(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.folder.path()).expect("the folder");
        let logs = files.map(|file| file.expect("a file").path());
        let logs = logs.filter(|it| it.extension().is_some_and(|it| it == "log"));
        let texts = logs.map(|it| std::fs::read_to_string(it).expect("text"));
        let lines = texts.flat_map(|it| it.lines().map(str::to_owned).collect::<Vec<_>>());
        let faulty = lines.filter(|it| it.contains("panicked") || it.contains(" ERROR "));
        faulty.collect()
    }

    /// A file of its own for each start.
    fn log_of(&self, at: usize) -> PathBuf {
        let mut starts = self.processes[at]
            .starts
            .lock()
            .expect("no test panics in here");
        *starts += 1;
        self.folder.path().join(format!("{at}-{starts}.log"))
    }
}

impl Process {
    /// Moves its clock forward, if it runs. One that is being killed starts with the time, and one that is stopped takes
    /// the next.
    async fn advance(&self, to: sandbox_v1::AdvanceTimeRequest) {
        loop {
            let channel = self.channel.borrow().clone();
            let Some(channel) = channel else {
                return;
            };
            let mut client = ClockServiceClient::new(channel);
            let answered = timeout(STOPPED_AFTER, client.advance_time(to))
                .await
                .is_ok();
            if answered || self.is_stopped.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    async fn signal(&self, name: &str) {
        let program = self.program.lock().await;
        program.as_ref().expect("it runs").signal(name).await;
    }
}
