//! Nine o'clock: very many messages fall due in one minute. How long until consumers have them all,
//! and what those who create and read meanwhile notice of it.

use std::sync::Arc;
use std::time::Instant;

use care_invitation::contract::sandbox_v1::AdvanceTimeRequest;
use care_invitation::contract::sandbox_v1::clock_service_client::ClockServiceClient;
use chrono::{DateTime, NaiveDate, Utc};
use tokio_util::sync::CancellationToken;

use super::deliver::CONSUMERS;
use super::page::{Walk, each};
use crate::callers::Callers;
use crate::consumer::Consumers;
use crate::database::{Database, Kind};
use crate::load::Schedule;
use crate::make::{Period, UNITS};
use crate::number::number;
use crate::report::{Line, Report};
use crate::sample::Sample;
use crate::server::{Clock, Server};
use crate::{Bench, Outcome, load};

/// When the invitations are created.
const CREATED: &str = "2026-03-02T09:00:00Z";
/// An hour before the messages are due.
const BEFORE: &str = "2026-04-06T06:00:00Z";
/// When they all are.
const NINE: &str = "2026-04-06T07:00:30Z";
/// The first day of the visits: six weeks after the messages.
const START: &str = "2026-05-18";
/// How many creates, and how many pages, a second go on meanwhile.
const RATE: f64 = 200.0;

/// What was measured in each run.
#[derive(Default)]
struct Runs {
    leased: Vec<f64>,
    /// Of creates and of pages: quiet, and meanwhile.
    p99: [[Vec<f64>; 2]; 2],
}

/// Measures it on every database.
pub async fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    for kind in bench.kinds() {
        let filled = filled(bench, kind).await?;
        let mut runs = Runs::default();
        for _ in 0..bench.settings.runs {
            one_run(bench, &filled, &mut runs).await?;
        }
        let count = number(bench.settings.at_nine as f64);
        let work = format!("{count} messages of one minute, until all are leased");
        report.say(Line::new(work, kind, "s", runs.leased).target("nine, leased"));
        for (name, [quiet, meanwhile]) in ["create", "page of 50"].iter().zip(runs.p99) {
            let line = Line::new(
                format!("{name} meanwhile, {RATE}/s, p99"),
                kind,
                "ms",
                meanwhile,
            );
            report.say(line.beside("quiet", quiet).target("nine, meanwhile"));
        }
    }
    Ok(())
}

async fn filled(bench: &Bench, kind: Kind) -> Outcome<Database> {
    let database = Database::empty(kind, bench.postgres.as_ref()).await?;
    let clock = Clock::Sandbox(CREATED);
    let server = Server::start(&bench.settings, &database.url(), clock).await?;
    let callers = Callers::connect(&server, bench.settings.callers).await?;
    let start: NaiveDate = START.parse()?;
    callers
        .fill(bench.settings.at_nine, Period::from(start, 0))
        .await?;
    drop(callers);
    server.stop().await?;
    Ok(database)
}

async fn one_run(bench: &Bench, filled: &Database, runs: &mut Runs) -> Outcome<()> {
    let database = filled.copy().await?;
    let clock = Clock::Sandbox(BEFORE);
    let server = Server::start(&bench.settings, &database.url(), clock).await?;
    let mut consumers = Consumers::start(server.channels(CONSUMERS).await?, |_, _| {});
    let others = Others::connect(&server, bench.settings.at_nine).await?;
    let quiet = others.at_work(Schedule::new(RATE, bench.settings.seconds));
    let quiet = consumers.until(quiet).await??;
    let progress = Arc::clone(&consumers.progress);
    let stop = CancellationToken::new();
    let meanwhile = others.at_work(Schedule::until(RATE, stop.clone()));
    let leased = async {
        let began = advance(&server, NINE).await?;
        let all = progress.received(bench.settings.at_nine as u64);
        consumers.until(all).await?;
        stop.cancel();
        Outcome::Ok(began.elapsed().as_secs_f64())
    };
    let (leased, meanwhile) = tokio::try_join!(leased, meanwhile)?;
    drop(consumers);
    server.kill().await?;
    runs.leased.push(leased);
    for ((runs, quiet), meanwhile) in runs.p99.iter_mut().zip(quiet).zip(meanwhile) {
        runs[0].push(quiet.latencies.at(99.0));
        runs[1].push(meanwhile.latencies.at(99.0));
    }
    Ok(())
}

/// Moves the service's clock; gives when that began.
async fn advance(server: &Server, to: &str) -> Outcome<Instant> {
    let mut clock = ClockServiceClient::new(server.channel().await?);
    let to: DateTime<Utc> = to.parse()?;
    let call = AdvanceTimeRequest {
        server_time: Some(prost_types::Timestamp {
            seconds: to.timestamp(),
            nanos: 0,
        }),
    };
    let began = Instant::now();
    clock.advance_time(call).await?;
    Ok(began)
}

/// Those who create and read whatever the hour.
struct Others {
    callers: Callers,
    walk: Walk,
}

impl Others {
    async fn connect(server: &Server, first: usize) -> Outcome<Self> {
        Ok(Self {
            callers: Callers::connect(server, 4)
                .await?
                .beginning_at(first as u64),
            walk: Walk::over(server.channels(4).await?, each(UNITS)),
        })
    }

    /// Creates and pages, on schedules of their own.
    async fn at_work(&self, schedule: Schedule) -> Outcome<[Sample; 2]> {
        let start: NaiveDate = START.parse()?;
        // Weeks later than those that fall due.
        let create = self.callers.create(UNITS, Period::from(start, 40));
        let page = self.walk.page();
        let creates = load::scheduled(schedule.clone(), move |number, _| create(number));
        let pages = load::scheduled(schedule, move |number, _| page(number));
        let (creates, pages) = tokio::try_join!(creates, pages)?;
        Ok([creates, pages])
    }
}
