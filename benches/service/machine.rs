//! On what was measured: the machine, and the versions of everything that took part.

use std::fmt;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::folder::FOLDER;
use crate::postgres::Postgres;
use crate::server;
use crate::settings::Settings;

/// A machine and what runs on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The model of its processor.
    pub processor: String,
    /// How many cores there are.
    pub cores: usize,
    /// Its memory, in GiB.
    pub memory_gib: u64,
    /// The kernel.
    pub kernel: String,
    /// The file system that the databases lie on.
    pub file_system: String,
    /// How many wanted to run in the minute before: much more than nought means that others were
    /// at work.
    pub load_before: String,
    /// The service's version, and which build it was.
    pub service: String,
    /// The commit of the work tree; `+` when it was changed.
    pub commit: String,
    /// The compiler.
    pub rustc: String,
    /// SQLite.
    pub sqlite: String,
    /// PostgreSQL and its settings; empty when there is none.
    pub postgresql: Vec<(String, String)>,
}

impl Machine {
    /// This one.
    pub async fn describe(settings: &Settings, postgres: Option<&Postgres>) -> Outcome<Self> {
        let build = match settings.server {
            Some(_) => "another build",
            None => "this build",
        };
        let memory = value_in("/proc/meminfo", "MemTotal");
        let memory = memory
            .split(' ')
            .next()
            .and_then(|it| it.parse::<u64>().ok());
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Ok(Self {
            processor: value_in("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: memory.unwrap_or_default().div_ceil(1_024 * 1_024),
            kernel: kernel.trim().to_owned(),
            file_system: said("df", &["--output=fstype", FOLDER])
                .lines()
                .last()
                .unwrap_or("")
                .into(),
            load_before: load.split(' ').next().unwrap_or_default().to_owned(),
            service: format!("{}, {build}", server::version(settings).await?),
            commit: commit(),
            rustc: said("rustc", &["--version"]),
            sqlite: rusqlite::version().to_owned(),
            postgresql: match postgres {
                Some(server) => server.describe().await?,
                None => Vec::new(),
            },
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            processor,
            cores,
            memory_gib,
            kernel,
            file_system,
            load_before,
            service,
            commit,
            rustc,
            sqlite,
            postgresql,
        } = self;
        write!(
            out,
            "{processor}, {cores} cores, {memory_gib} GiB, Linux {kernel}, {file_system}, \
             load before {load_before}; {service}, commit {commit}, {rustc}; SQLite {sqlite}"
        )?;
        for (name, value) in postgresql {
            match name.as_str() {
                "server_version" => write!(out, "; PostgreSQL {value}")?,
                _ => write!(out, "; {name} {value}")?,
            }
        }
        Ok(())
    }
}

/// The first value that a file of names and values has under a name.
fn value_in(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_once(':'));
    value.map_or_else(|| "unknown".into(), |(_, value)| value.trim().to_owned())
}

/// What a program says; nothing when it is not there.
fn said(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let said = command.output().map(|it| it.stdout).unwrap_or_default();
    String::from_utf8_lossy(&said).trim().to_owned()
}

fn commit() -> String {
    let commit = said("git", &["rev-parse", "--short", "HEAD"]);
    let changed = said(
        "git",
        &[
            "status",
            "--porcelain",
            "--",
            "src",
            "Cargo.lock",
            "Cargo.toml",
        ],
    );
    match changed.is_empty() {
        true => commit,
        false => commit + "+",
    }
}
