//! A backlog of due messages, handed to consumers and acknowledged, with the history and the next
//! reminder that follow.

use std::sync::Arc;
use std::time::Instant;

use care_invitation::contract::v1;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use sea_orm::sqlx::{Connection, PgConnection, raw_sql};
use tonic::transport::Channel;

use crate::callers::Callers;
use crate::consumer::{self, Consumers};
use crate::database::{Database, Kind};
use crate::make::{self, Period};
use crate::number::number;
use crate::raw::CONNECTIONS;
use crate::raw::deliver::{self as raw, How, Steps};
use crate::report::{Line, Report, median};
use crate::rows::{self, key_of};
use crate::server::{Clock, Server};
use crate::{Bench, Outcome};

/// How many consumers there are.
pub const CONSUMERS: usize = 4;
/// How many messages a claim of the service asks for.
const CLAIM: usize = 256;
/// How many messages are taken through their steps to see what happens to their rows.
const EXAMPLES: usize = 500;

/// Measures it on every database.
pub async fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    for kind in bench.kinds() {
        let backlog = backlog(bench, kind).await?;
        let steps = Arc::new(steps(bench, &backlog).await?);
        let (mut service, mut floor, mut batches) = (Vec::new(), Vec::new(), Vec::new());
        let mut connections = None;
        for _ in 0..bench.settings.runs {
            let (rate, batch) = one_run(bench, &backlog).await?;
            service.push(rate);
            batches.push(batch);
            let acknowledge = batch.round().max(1.0) as usize;
            let (rate, best) = raw_run(bench, &backlog, &steps, acknowledge, connections).await?;
            floor.push(rate);
            connections = Some(best);
        }
        let connections = connections.unwrap_or(1);
        let batch = median(&batches);
        let raw = format!("raw, {CLAIM} a claim, {batch:.0} an acknowledgement");
        let raw = match kind {
            Kind::Sqlite => raw,
            Kind::Postgresql => format!("{raw}, connections: {connections}"),
        };
        let count = number(bench.settings.backlog as f64);
        let work = format!("deliver {count} due messages, {CONSUMERS} consumers");
        let line = || Line::new(work.as_str(), kind, "/s", service.clone());
        report.say(line().beside(raw, floor).target("deliver, of raw"));
        if kind == Kind::Postgresql {
            report.say(line().target("deliver, on PostgreSQL"));
            let mut held = Vec::new();
            for _ in 0..bench.settings.runs {
                held.push(beside_a_snapshot(bench, &backlog).await?);
            }
            let work = format!("{work}, while a backup holds a snapshot from before");
            let line = Line::new(work, kind, "/s", held);
            report.say(line.beside("without it", service));
        }
    }
    Ok(())
}

/// A database with messages that are due at once.
pub async fn backlog(bench: &Bench, kind: Kind) -> Outcome<Database> {
    let database = Database::empty(kind, bench.postgres.as_ref()).await?;
    let server = Server::start(&bench.settings, &database.url(), Clock::Real).await?;
    let callers = Callers::connect(&server, bench.settings.callers).await?;
    callers
        .fill(bench.settings.backlog, Period::at_once())
        .await?;
    drop(callers);
    server.stop().await?;
    Ok(database)
}

/// The service and its consumers: messages a second, and how many an acknowledgement names.
async fn one_run(bench: &Bench, backlog: &Database) -> Outcome<(f64, f64)> {
    let database = backlog.copy().await?;
    let server = Server::start(&bench.settings, &database.url(), Clock::Real).await?;
    let channels = server.channels(CONSUMERS).await?;
    let measured = drain(bench, channels).await?;
    server.kill().await?;
    Ok(measured)
}

/// The same while a connection holds a snapshot that was taken before, as `pg_dump` does: nothing is cleaned up behind what is
/// delivered.
async fn beside_a_snapshot(bench: &Bench, backlog: &Database) -> Outcome<f64> {
    let database = backlog.copy().await?;
    let mut backup = PgConnection::connect(&database.url()).await?;
    raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM notification")
        .execute(&mut backup)
        .await?;
    let server = Server::start(&bench.settings, &database.url(), Clock::Real).await?;
    let (rate, _) = drain(bench, server.channels(CONSUMERS).await?).await?;
    server.kill().await?;
    backup.close().await?;
    Ok(rate)
}

/// Consumers on these channels until the backlog is acknowledged: messages a second, and how many an acknowledgement
/// names.
pub async fn drain(bench: &Bench, channels: Vec<Channel>) -> Outcome<(f64, f64)> {
    let begin = Instant::now();
    let mut consumers = Consumers::start(channels, |_, _| {});
    let progress = Arc::clone(&consumers.progress);
    let count = bench.settings.backlog as u64;
    consumers.until(progress.acknowledged(count)).await?;
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    Ok((rate, progress.batch()))
}

/// The raw database over these connections, or over those that serve it best: messages a second,
/// and over how many connections.
async fn raw_run(
    bench: &Bench,
    backlog: &Database,
    steps: &Arc<Steps>,
    acknowledge: usize,
    connections: Option<usize>,
) -> Outcome<(f64, usize)> {
    let candidates = match (backlog.kind(), connections) {
        (Kind::Sqlite, _) => vec![1],
        (Kind::Postgresql, Some(connections)) => vec![connections],
        (Kind::Postgresql, None) => CONNECTIONS.to_vec(),
    };
    let mut best = (0.0, 1);
    for connections in candidates {
        let database = backlog.copy().await?;
        let how = How {
            claim: CLAIM,
            acknowledge,
            connections,
        };
        let sample = raw::deliver(&database, Arc::clone(steps), how).await?;
        if sample.done != bench.settings.backlog as u64 {
            return Err(format!("{} were delivered by hand, not all", sample.done).into());
        }
        if sample.rate() > best.0 {
            best = (sample.rate(), connections);
        }
    }
    Ok(best)
}

/// What the service does to the rows of a message, seen on some.
async fn steps(bench: &Bench, backlog: &Database) -> Outcome<Steps> {
    let database = backlog.copy().await?;
    let server = Server::start(&bench.settings, &database.url(), Clock::Real).await?;
    let mut client = NotificationServiceClient::new(server.channel().await?);
    let mut events = consumer::open(&mut client, consumer::OUTSTANDING_MAX).await?;
    let mut due = Vec::new();
    while due.len() < EXAMPLES.min(bench.settings.backlog) {
        due.push(consumer::next(&mut events).await?);
    }
    let keys: Outcome<Vec<_>> = due.iter().map(|due| key_of(&due.booking_request)).collect();
    let keys = keys?;
    let before = rows::read(backlog, &keys).await?;
    let leased = rows::read(&database, &keys).await?;
    let call = v1::AcknowledgeNotificationsRequest {
        acknowledgements: due.iter().map(make::sent).collect(),
    };
    client.acknowledge_notifications(call).await?;
    let delivered = rows::read(&database, &keys).await?;
    drop(events);
    server.kill().await?;
    Steps::between(&before, &leased, &delivered)
}
