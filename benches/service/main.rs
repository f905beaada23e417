//! Measures the service beside what the disk and the wire allow. `benches/README.md` says how, and
//! what each number means.
#![warn(missing_docs)]

mod callers;
mod consumer;
mod database;
mod draw;
mod fill;
mod folder;
mod load;
mod machine;
mod make;
mod number;
mod postgres;
mod process;
mod raw;
mod report;
mod rows;
mod sample;
mod scenario;
mod server;
mod settings;
mod sql;
mod targets;
mod template;
mod wire;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::database::Kind;
use crate::machine::Machine;
use crate::postgres::Postgres;
use crate::report::Report;
use crate::settings::{Scenario, Settings};

/// What came of something that may fail for any reason; whatever it is ends the run.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What every scenario is handed.
struct Bench {
    settings: Settings,
    postgres: Option<Postgres>,
}

impl Bench {
    /// The databases to measure on.
    fn kinds(&self) -> Vec<Kind> {
        let is_there = |kind: &Kind| *kind == Kind::Sqlite || self.postgres.is_some();
        self.settings
            .databases
            .iter()
            .copied()
            .filter(is_there)
            .collect()
    }
}

fn main() -> ExitCode {
    let settings = Settings::parse();
    let runtime = tokio::runtime::Runtime::new().expect("the system gives threads");
    let outcome = runtime.block_on(async {
        match &settings.wire {
            Some(canned) => wire::serve(canned).await,
            None if settings.bench => run(settings).await,
            None => {
                println!("nothing is measured without --bench, which `cargo bench` adds");
                Ok(())
            }
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the measurement failed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: Settings) -> Outcome<()> {
    let mut postgres = None;
    if settings.databases.contains(&Kind::Postgresql) {
        postgres = Postgres::of_this_run(settings.postgresql.as_deref(), settings.keep)?;
        if postgres.is_none() {
            eprintln!("SKIPPED PostgreSQL: none is named, and its programs are not installed");
        }
    }
    let machine = Machine::describe(&settings, postgres.as_ref()).await?;
    println!("{machine}");
    let bench = Bench { settings, postgres };
    let mut failed = Vec::new();
    for scenario in bench.settings.chosen() {
        let settings = scenario::settings(scenario, &bench.settings);
        let mut report = Report::begin(scenario.name(), &machine, settings);
        match scenario::run(scenario, &bench, &mut report).await {
            Ok(()) => publish(&bench.settings.results, &report)?,
            Err(error) => {
                eprintln!("{} failed: {error}", scenario.name());
                failed.push(scenario.name());
            }
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(failed.join(", ").into()),
    }
}

/// Writes a report, and the page anew that shows all of them.
fn publish(folder: &Path, report: &Report) -> Outcome<()> {
    if folder == Path::new("-") {
        return Ok(());
    }
    report.write(folder)?;
    let all = Scenario::value_variants().iter().map(|it| it.name());
    let all = report::read(folder, &all.collect::<Vec<_>>())?;
    report::write_page(folder, &all)?;
    draw::draw(folder, &all)
}
