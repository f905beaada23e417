//! Several servers over one PostgreSQL: what they do together, and what they cost when nothing happens.

use std::time::Duration;

use super::deliver::{CONSUMERS, backlog, drain};
use crate::callers::Callers;
use crate::database::{Database, Kind};
use crate::make::{Period, UNITS};
use crate::report::{Line, Report};
use crate::server::{Clock, Server};
use crate::{Bench, Outcome, load, process, sql};

/// How many servers there are.
const REPLICAS: [usize; 3] = [1, 2, 4];
/// How long they are left alone before it is measured what they cost.
const SETTLE: Duration = Duration::from_secs(2);

/// What was measured of so many servers, in each run.
#[derive(Default)]
struct Runs {
    delivered: Vec<f64>,
    created: Vec<f64>,
    idle: Vec<f64>,
    statements: Vec<f64>,
}

/// Measures it on PostgreSQL.
pub async fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    if !bench.kinds().contains(&Kind::Postgresql) {
        return Ok(());
    }
    let kind = Kind::Postgresql;
    let backlog = backlog(bench, kind).await?;
    let mut all: Vec<Runs> = REPLICAS.iter().map(|_| Runs::default()).collect();
    for _ in 0..bench.settings.runs {
        for (count, runs) in REPLICAS.into_iter().zip(&mut all) {
            runs.delivered
                .push(delivered(bench, &backlog, count).await?);
            let (created, idle, statements) = created(bench, count).await?;
            runs.created.push(created);
            runs.idle.push(idle);
            runs.statements.push(statements);
        }
    }
    let [one_delivers, one_creates] = [&all[0].delivered, &all[0].created].map(Vec::clone);
    for (count, runs) in REPLICAS.into_iter().zip(all) {
        let servers = match count {
            1 => "1 server".to_owned(),
            _ => format!("{count} servers"),
        };
        let beside = |line: Line, one: &Vec<f64>| match count {
            1 => line,
            _ => line.beside("1 server", one.clone()),
        };
        let line = Line::new(format!("deliver, {servers}"), kind, "/s", runs.delivered);
        report.say(beside(line, &one_delivers));
        let line = Line::new(format!("create, {servers}"), kind, "/s", runs.created);
        report.say(beside(line, &one_creates));
        let work = format!("idle, {servers}, of a core each");
        report.say(Line::new(work, kind, "%", runs.idle));
        let work = format!("idle, {servers}, transactions of the database each");
        report.say(Line::new(work, kind, "/s", runs.statements));
    }
    Ok(())
}

/// So many servers over a database.
async fn servers(bench: &Bench, database: &Database, count: usize) -> Outcome<Vec<Server>> {
    let mut servers = Vec::new();
    for _ in 0..count {
        servers.push(Server::start(&bench.settings, &database.url(), Clock::Real).await?);
    }
    Ok(servers)
}

/// How many messages a second consumers are handed by so many servers.
async fn delivered(bench: &Bench, backlog: &Database, count: usize) -> Outcome<f64> {
    let database = backlog.copy().await?;
    let servers = servers(bench, &database, count).await?;
    let mut channels = Vec::new();
    for number in 0..CONSUMERS.max(count) {
        channels.push(servers[number % count].channel().await?);
    }
    let (rate, _) = drain(bench, channels).await?;
    for server in servers {
        server.kill().await?;
    }
    Ok(rate)
}

/// How many invitations a second callers create by so many servers; then, with nothing to do, how much of a core each
/// uses, in percent, and how many transactions a second it makes.
async fn created(bench: &Bench, count: usize) -> Outcome<(f64, f64, f64)> {
    let database = Database::empty(Kind::Postgresql, bench.postgres.as_ref()).await?;
    let servers = servers(bench, &database, count).await?;
    let each = bench.settings.callers.div_ceil(count);
    let mut creates = Vec::new();
    for (number, server) in servers.iter().enumerate() {
        let first = number as u64 * 10_000_000;
        let callers = Callers::connect(server, each).await?.beginning_at(first);
        creates.push(callers.create(UNITS, Period::later()));
    }
    let all = move |caller: usize| creates[caller % creates.len()](caller);
    let rate = load::closed(bench.settings.callers, bench.settings.seconds, all).await?;
    tokio::time::sleep(SETTLE).await;
    let seconds = bench.settings.seconds.max(5.0);
    let before = (cpu(&servers)?, transactions(&database).await?);
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let after = (cpu(&servers)?, transactions(&database).await?);
    let of_each = |used: f64| used / seconds / count as f64;
    for server in servers {
        server.kill().await?;
    }
    let idle = of_each(after.0 - before.0) * 100.0;
    Ok((rate.rate(), idle, of_each(after.1 - before.1)))
}

/// For how long these servers have used a core so far, in seconds.
fn cpu(servers: &[Server]) -> Outcome<f64> {
    let mut all = 0.0;
    for server in servers {
        all += process::cpu_seconds(&server.proc()?)?;
    }
    Ok(all)
}

/// How many transactions the database has seen so far. Most are of one statement.
async fn transactions(database: &Database) -> Outcome<f64> {
    let connection = sql::connect(&database.url()).await?;
    let count = "SELECT (xact_commit + xact_rollback)::text FROM pg_stat_database \
                 WHERE datname = current_database()";
    let count = sql::texts(&connection, count).await?;
    connection.close().await?;
    Ok(count.first().ok_or("a database has statistics")?.parse()?)
}
