//! The commands of the program: serve, migrate, purge, backup, restore, after-restore, audit verify, check. Those that call
//! a server stand in `client`. Settings meet the parts that they are for here.

pub mod audit;

pub mod check;

mod copies;

pub mod door;

pub mod sandbox;

use std::error::Error;
use std::io::{self, Write, stdout};
use std::net::SocketAddr;
use std::time::Duration;

use chrono::{NaiveDate, SecondsFormat};
use tokio::net::TcpListener;

use crate::client::{self, failure::Failure};
use crate::clock::Clock;
use crate::config::client::Output;
use crate::config::rates::Rates;
use crate::config::{
    self, AfterRestore, BadSetting, Command, Config, DatabaseCopy, Migrate, Purge, Serve,
};
use crate::domain::RegionPolicy;
use crate::domain::addressee::AgeLimits;
use crate::domain::calendar::{Instant, civil_date, end_of, subtract_days};
use crate::grpc::descriptors::Descriptors;
use crate::grpc::middleware::Limits;
use crate::grpc::middleware::subject::SubjectLimits;
use crate::server::web::Web;
use crate::server::{self, Dependencies};
use crate::store::Store;
use crate::store::access_log::purge as access_log;
use crate::store::after_restore::{LostInterval, after_restore as mark_lost};
use crate::store::purge::{Cutoffs, PurgeError, Purged, purge as purge_store};
use crate::store::schema::{self, Schema};
use crate::telemetry::traces::Traces;
use crate::telemetry::{self, Progress};

/// Runs the command that was given.
///
/// # Errors
///
/// That of the command.
pub async fn run(config: Config) -> Result<(), Box<dyn Error>> {
    let url = config.database_url.expose();
    match config.command {
        Command::Serve(settings) => serve(url, *settings).await,
        Command::Migrate(settings) => migrate(url, settings).await,
        Command::Purge(dates) => purge(url, dates).await,
        Command::AfterRestore(lost) => after_restore(url, lost).await,
        Command::Copy(settings) => copy(url, settings).await,
        Command::VerifyAccessLog(known) => audit::verify_access_log(url, known).await,
        Command::Check(settings, output) => check(url, &settings, output).await,
        Command::Client(call) => Ok(client::run(&call).await?),
        Command::Pages(pages) => Ok(config::pages::write(&pages, &mut stdout())?),
    }
}

/// Runs the service until a signal ends it.
///
/// # Errors
///
/// The database cannot be opened, or the address cannot be listened on.
pub async fn serve(url: &str, config: Serve) -> Result<(), Box<dyn Error>> {
    let schema = match config.migrate {
        true => Schema::Migrate,
        false => Schema::Require,
    };
    let clock = config
        .sandbox
        .map_or_else(Clock::real, |it| Clock::sandbox(it.start));
    let descriptors = Descriptors::served_with(&clock);
    let descriptors = descriptors.map_err(|why| format!("the contract cannot be served: {why}"))?;
    let (authenticator, tls) = door::open(&config.door, &clock).await?;
    let store = Store::open(url, schema).await?;
    let _ticks = sandbox::start(&clock, config.sandbox.and_then(|it| it.speed));
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.map_err(|why| format!("cannot listen on {}: {why}", config.listen))?;
    let metrics = listen_for_metrics(config.metrics_listen).await?;
    let traces = config.traces.as_ref().map(Traces::start).transpose()?;
    let shutdown = server::stop_on_signals(config.drain_delay)?;
    let address = listener.local_addr()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    telemetry::report(stdout(), format!("listening on {scheme}://{address}"))?;
    let _warning = config.door.is_insecure.then(|| door::warn_hourly(address));
    let dependencies = Dependencies {
        store,
        clock,
        descriptors,
        policy: RegionPolicy {
            send_time: config.send_clock,
            guarantee_days: config.guarantee_days,
            ages: AgeLimits::default(),
        },
        limits: limits(config.rates),
        authenticator,
        tls,
        web: Web::of(config.door.web_origins),
        drain_delay: config.drain_delay,
        heartbeat: config.streams.heartbeat,
        changes_days: config.streams.changes_days,
        metrics,
        traces: traces.unwrap_or_default(),
    };
    server::run(listener, dependencies, shutdown).await;
    Ok(())
}

/// Listens on the address of the metrics, if they have one, and logs it: with port 0 the system has picked one.
async fn listen_for_metrics(address: Option<SocketAddr>) -> Result<Option<TcpListener>, String> {
    let Some(address) = address else {
        return Ok(None);
    };
    let failed = |why| format!("cannot listen on {address} for metrics: {why}");
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(%address, "metrics are at http://{address}/metrics");
    Ok(Some(listener))
}

/// Returns the limits of the service, with these on one subject.
fn limits(rates: Rates) -> Limits {
    let Rates {
        calls_per_second,
        streams,
        rows_per_minute,
    } = rates;
    let subject = SubjectLimits {
        calls_per_second,
        streams,
        rows_per_minute,
    };
    Limits {
        subject,
        ..Limits::default()
    }
}

/// Brings the database's schema up to date and prints the migrations that were applied; with `distribute` the tables that were
/// distributed as well.
///
/// # Errors
///
/// The database cannot be opened, or cannot be changed now.
pub async fn migrate(url: &str, settings: Migrate) -> Result<(), Box<dyn Error>> {
    let applied = schema::migrate(url).await?;
    for name in &applied {
        writeln!(stdout(), "applied {name}")?;
    }
    if applied.is_empty() {
        writeln!(stdout(), "nothing to do: the schema is up to date")?;
    }
    if settings.distribute {
        let distributed = schema::distribute(url).await?;
        for table in &distributed {
            writeln!(stdout(), "distributed {table}")?;
        }
        if distributed.is_empty() {
            writeln!(stdout(), "nothing to distribute: every table is")?;
        }
    }
    Ok(())
}

/// Deletes the rows that are kept no longer and prints their numbers. A signal stops it between two
/// batches.
///
/// # Errors
///
/// A date is too recent, the database cannot be opened, a batch fails, or it was stopped.
pub async fn purge(url: &str, dates: Purge) -> Result<(), Box<dyn Error>> {
    let clock = Clock::real();
    let now = clock.now();
    validate_cutoffs(dates, civil_date(Cutoffs::latest(now)), latest_access(now))?;
    let start_of = |date| -> Instant { end_of(subtract_days(date, 1)) };
    let mut cutoffs = Cutoffs::new(
        now,
        start_of(dates.before),
        dates.history_before.map(start_of),
    )?;
    if let Some(before) = dates.access_before {
        cutoffs = cutoffs.with_access_log(now, start_of(before))?;
    }
    let stop = server::stop_on_signals(Duration::ZERO)?;
    let mut progress = Progress::default();
    let mut show = |what: &'static str, done, total| progress.show(what, done, total);
    let by_clock = move || clock.reading();
    let outcome = purge_store(url, cutoffs, by_clock, &stop, &mut show).await;
    progress.end();
    // Deleted rows are reported even when a later batch failed.
    if let Ok(purged) | Err(PurgeError::Failed(purged, _)) = &outcome {
        report(purged)?;
    }
    if outcome?.stopped {
        return Err("stopped before the end; the same command goes on from here".into());
    }
    Ok(())
}

/// Marks what may have been handed over in commits that were lost since then, and prints how much was planned already.
///
/// # Errors
///
/// The time is in the future, the database cannot be opened, or a batch fails.
pub async fn after_restore(url: &str, lost: AfterRestore) -> Result<(), Box<dyn Error>> {
    let clock = Clock::real();
    let now = clock.now();
    let interval = LostInterval::new(lost.since, now).map_err(|why| {
        config::Error::Settings(vec![BadSetting {
            flag: "since",
            why: format!("{why}; it is {}", lost.since),
        }])
    })?;
    let mut progress = Progress::default();
    let mut show = |what: &'static str, done, total| progress.show(what, done, total);
    let outcome = mark_lost(url, interval, move || clock.reading(), &mut show).await;
    progress.end();
    let marked = outcome?;
    let shown = |at: Instant| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    writeln!(
        stdout(),
        "marked {marked} notifications as possible repeats; so is every other that falls due from {} to {}",
        shown(lost.since),
        shown(now),
    )?;
    Ok(())
}

/// Makes a copy of a SQLite database, or puts one back.
///
/// # Errors
///
/// The database or the copy cannot be used.
pub async fn copy(url: &str, copy: DatabaseCopy) -> Result<(), Box<dyn Error>> {
    let now = Clock::real().now();
    match copy {
        DatabaseCopy::Backup(file) => copies::backup(url, &file, now).await,
        DatabaseCopy::Restore(file) => copies::restore(url, &file, now).await,
    }
}

/// Returns the latest date before which entries of the access log may be deleted.
fn latest_access(now: Instant) -> NaiveDate {
    civil_date(access_log::latest(now))
}

/// Checks what the service would start with.
///
/// # Errors
///
/// Something would keep it from working.
pub async fn check(url: &str, settings: &Serve, output: Output) -> Result<(), Box<dyn Error>> {
    check::check(url, settings, output, &Clock::real()).await
}

/// Returns the code with which the process ends after an error.
pub fn exit_code(error: &(dyn Error + 'static)) -> u8 {
    match error.downcast_ref::<Failure>() {
        Some(failure) => failure.exit_code(),
        None if error.is::<audit::Altered>() => audit::ALTERED,
        None => 1,
    }
}

/// Refuses the dates of a purge that lie after the latest one allowed, naming every one of them.
fn validate_cutoffs(
    dates: Purge,
    latest: NaiveDate,
    latest_access: NaiveDate,
) -> Result<(), config::Error> {
    let replays = "because younger rows answer replayed calls";
    let law = "because who has seen what must be known for five years";
    let dates = [
        ("before", Some(dates.before), latest, replays),
        ("history-before", dates.history_before, latest, replays),
        ("access-before", dates.access_before, latest_access, law),
    ];
    let bad = |(flag, date, latest, reason): (&'static str, Option<NaiveDate>, NaiveDate, &str)| {
        let date = date.filter(|date| latest < *date)?;
        let why = format!("must be {latest} or earlier, {reason}; it is {date}");
        Some(BadSetting { flag, why })
    };
    let bad: Vec<_> = dates.into_iter().filter_map(bad).collect();
    match bad.is_empty() {
        true => Ok(()),
        false => Err(config::Error::Settings(bad)),
    }
}

/// Prints the numbers of deleted rows.
fn report(purged: &Purged) -> io::Result<()> {
    let Purged {
        requests,
        notifications,
        history,
        idempotency_keys,
        access_log,
        identities,
        stopped: _,
    } = purged;
    writeln!(
        stdout(),
        "deleted {requests} requests, {notifications} notifications, {history} history entries, \
         {idempotency_keys} idempotency keys, {access_log} entries of the access log, \
         {identities} identity numbers that it no longer names"
    )
}
