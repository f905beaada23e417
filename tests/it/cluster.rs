//! A PostgreSQL server of a test's own, with a standby beside it, or with a clock that is moved.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use sea_orm::sqlx::{Connection, PgConnection, query_scalar, raw_sql};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::harness::within;
use crate::postgres;

/// A server that runs in a folder of its own; killed and deleted when dropped.
pub struct Cluster {
    pub address: SocketAddr,
    server: Child,
    folder: TempDir,
}

impl Cluster {
    /// An empty server whose commits wait for a standby; none as with [`Self::alone`].
    pub async fn primary() -> Option<Self> {
        Self::create(&["fsync=on", "synchronous_standby_names=*"]).await
    }

    /// An empty server. None, after a word about it, where the programs of PostgreSQL are not installed; with `CI`
    /// set that is a failure.
    pub async fn alone() -> Option<Self> {
        Self::create(&["fsync=on"]).await
    }

    /// One that asks everybody but its owner for a password.
    pub async fn asking_for_passwords() -> Option<Self> {
        let folder = initialized().await?;
        let rules =
            "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        let file = folder.path().join("data/pg_hba.conf");
        std::fs::write(file, rules).expect("written");
        Some(Self::start(folder, &["fsync=on"]).await)
    }

    /// One whose clock is moved: see [`Self::move_clock`]. None as with [`Self::alone`], and where libfaketime is missing.
    pub async fn with_clock_moved_by(by: &str) -> Option<Self> {
        let Some(library) = libfaketime() else {
            let said = "libfaketime is not installed";
            assert!(std::env::var_os("CI").is_none(), "{said}");
            writeln!(std::io::stderr(), "SKIPPED a cluster: {said}").expect("standard error");
            return None;
        };
        let folder = initialized().await?;
        write_clock(&folder, by);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, postgres::free_port()));
        // Only from there on, as the library's own semaphore belongs to the user who loads it first.
        let mut moved = Command::from(postgres::as_server_user("env"));
        moved
            .arg(format!("LD_PRELOAD={}", library.display()))
            .arg(format!(
                "FAKETIME_TIMESTAMP_FILE={}",
                folder.path().join(CLOCK).display()
            ))
            .args(["FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"])
            .arg(program("postgres"));
        let cluster = Self {
            address,
            server: spawn(moved, &folder, address, &["fsync=on"]),
            folder,
        };
        cluster.answers().await;
        Some(cluster)
    }

    /// Moves its clock away from the machine's, as in `-2h`.
    pub fn move_clock(&self, by: &str) {
        write_clock(&self.folder, by);
    }

    async fn create(settings: &[&str]) -> Option<Self> {
        Some(Self::start(initialized().await?, settings).await)
    }

    /// A standby that streams from this server, once every commit waits for it.
    pub async fn standby(&self) -> Self {
        let folder = folder();
        let mut backup = command("pg_basebackup");
        backup
            .args(["-d", &self.url("postgres"), "-X", "stream", "-c", "fast"])
            .args(["-R", "-D"]);
        run(backup.arg(folder.path().join("data"))).await;
        let standby = Self::start(folder, &["fsync=on"]).await;
        let synchronous = async {
            let sql = "SELECT sync_state FROM pg_stat_replication";
            while self.ask(sql).await.as_deref() != Some("sync") {}
        };
        within(synchronous).await;
        standby
    }

    async fn start(folder: TempDir, settings: &[&str]) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, postgres::free_port()));
        let server = spawn(command("postgres"), &folder, address, settings);
        let cluster = Self {
            address,
            server,
            folder,
        };
        cluster.answers().await;
        cluster
    }

    /// Ends the server with all its sessions at once, and starts it again: it recovers as after a crash.
    pub async fn restart(&mut self) {
        let pid = self.server.id().expect("it runs").to_string();
        let quit = Command::new("kill").args(["-QUIT", &pid]).status();
        assert!(within(quit).await.expect("kill").success());
        within(self.server.wait()).await.expect("it ends");
        let server = command("postgres");
        self.server = spawn(server, &self.folder, self.address, &["fsync=on"]);
        self.answers().await;
    }

    async fn answers(&self) {
        within(async { while self.ask("SELECT 'here'").await.is_none() {} }).await;
    }

    /// The address of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}", self.address)
    }

    /// The text that a statement gives; none while the server does not answer.
    pub async fn ask(&self, sql: &'static str) -> Option<String> {
        let answer = async {
            let mut connection = PgConnection::connect(&self.url("postgres")).await?;
            query_scalar(sql).fetch_one(&mut connection).await
        };
        within(answer).await.ok()
    }

    /// Carries out a statement; false when it fails.
    pub async fn run(&self, sql: &'static str) -> bool {
        let done = async {
            let mut connection = PgConnection::connect(&self.url("postgres")).await?;
            raw_sql(sql).execute(&mut connection).await
        };
        within(done).await.is_ok()
    }

    /// Kills the server, as when its machine loses power.
    pub async fn kill(&mut self) {
        within(self.server.kill()).await.expect("killed");
    }

    /// Makes a standby the primary.
    pub async fn promote(&self) {
        let mut promote = command("pg_ctl");
        promote.args(["promote", "-w", "-D"]);
        run(promote.arg(self.folder.path().join("data"))).await;
    }
}

/// File in a server's folder that says by how much its clock is moved.
const CLOCK: &str = "clock";

/// Says by how much the clock of a server is moved.
fn write_clock(folder: &TempDir, by: &str) {
    // It is read at every look at the clock, so that it has to be there all the time.
    let [new, file] = ["clock.new", CLOCK].map(|it| folder.path().join(it));
    std::fs::write(&new, by).expect("written");
    std::fs::rename(new, file).expect("in its place");
}

/// The library that moves a program's clock, for programs with several threads.
fn libfaketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let mut libraries = folders.map(|it| it.path().join("faketime/libfaketimeMT.so.1"));
    libraries.find(|it| it.is_file())
}

/// Starts a server on its folder.
fn spawn(mut server: Command, folder: &TempDir, address: SocketAddr, settings: &[&str]) -> Child {
    let log = std::fs::File::create(folder.path().join("log")).expect("a file for the log");
    server
        .arg("-D")
        .arg(folder.path().join("data"))
        .args(["-p", &address.port().to_string()])
        .args(["-c", "listen_addresses=127.0.0.1"])
        .args(["-c", "unix_socket_directories="])
        // Goes with the folder even when the server is killed.
        .args(["-c", "dynamic_shared_memory_type=mmap"])
        .args(["-c", "shared_buffers=16MB"]);
    for setting in settings {
        server.args(["-c", setting]);
    }
    server
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    server.kill_on_drop(true).spawn().expect("it starts")
}

/// A folder with the files of an empty server in `data`. None, after a word about it, where the programs of PostgreSQL
/// are not installed; with `CI` set that is a failure.
pub async fn initialized() -> Option<TempDir> {
    if postgres::programs().is_none() {
        let said = "PostgreSQL's programs are not installed";
        assert!(std::env::var_os("CI").is_none(), "{said}");
        writeln!(std::io::stderr(), "SKIPPED a cluster: {said}").expect("standard error");
        return None;
    }
    let folder = folder();
    let mut initdb = command("initdb");
    initdb
        .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"])
        .args(["--no-sync", "-D"]);
    run(initdb.arg(folder.path().join("data"))).await;
    Some(folder)
}

/// A folder that the server may use, which is not ours where the test runs as root.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder for the server");
    let everyone = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder.path(), everyone).expect("opened");
    folder
}

/// Path of one of PostgreSQL's programs.
pub fn program(name: &str) -> PathBuf {
    let folder = postgres::programs().expect("it is installed");
    // A link to one of them may stand where the others do not.
    let initdb = folder.join("initdb").canonicalize().expect("it is there");
    initdb.with_file_name(name)
}

/// One of PostgreSQL's programs, as a user under whom it runs.
fn command(name: &str) -> Command {
    let mut command = Command::from(postgres::as_server_user(program(name)));
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn run(command: &mut Command) {
    let Output { status, stderr, .. } = within(command.output()).await.expect("it runs");
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {said}");
}
