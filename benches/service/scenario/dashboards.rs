//! Dashboards that count the lists of a thousand care units again and again, and what callers and watchers notice of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use care_invitation::contract::v1;
use care_invitation::contract::v1::watch_worklist_response::Event;
use care_invitation::contract::v1::worklist_service_client::WorklistServiceClient;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::page::{Walk, each};
use crate::callers::Callers;
use crate::database::{Database, Kind};
use crate::load::Schedule;
use crate::make::{self, Period};
use crate::number::number;
use crate::report::{Line, Report};
use crate::sample::Latencies;
use crate::server::{Clock, Server};
use crate::template::REQUESTS;
use crate::{Bench, Outcome, fill, load};

/// How many dashboards there are, and how often each counts.
const DASHBOARDS: usize = 30;
const INTERVAL: Duration = Duration::from_secs(5);
/// How many care units a call may count.
const UNITS_OF_CALL: u64 = 50;
/// How many creates, and how many pages, a second go on meanwhile.
const RATE: f64 = 50.0;
/// The care unit that is watched.
const WATCHED_UNIT: u64 = 0;
/// The number of the first request that is created here: beyond those that the database holds.
const FIRST: u64 = 20_000_000;

/// What was measured in a run: the p50 and p99 of creates, of pages and of the events of a watcher.
type Latency = [[f64; 2]; 3];

/// Measures it on every database, of the last of `--sizes`.
pub async fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    let size = bench.settings.sizes.last().copied().unwrap_or(REQUESTS);
    for kind in bench.kinds() {
        let database = fill::filled(bench, kind, size).await?;
        let mut runs: Vec<[Latency; 2]> = Vec::new();
        for run in 0..bench.settings.runs {
            runs.push(one_run(bench, &database, run, fill::units(size)).await?);
        }
        say(report, kind, size, &runs);
    }
    Ok(())
}

fn say(report: &mut Report, kind: Kind, size: usize, runs: &[[Latency; 2]]) {
    let requests = number(size as f64);
    let of = |with: usize, what: usize, percent: usize| {
        let runs = runs.iter().map(|it| it[with][what][percent]);
        runs.collect::<Vec<f64>>()
    };
    for (what, name) in ["create", "page of 50", "event of a watcher"]
        .iter()
        .enumerate()
    {
        for (percent, percentile) in ["p50", "p99"].iter().enumerate() {
            let work =
                format!("{name} beside {DASHBOARDS} dashboards, {requests} requests, {percentile}");
            let line = Line::new(work, kind, "ms", of(1, what, percent));
            let line = line.beside("without them", of(0, what, percent));
            report.say(match percent {
                1 => line.target("dashboards"),
                _ => line,
            });
        }
    }
}

/// Callers and a watcher, first alone and then beside the dashboards.
async fn one_run(
    bench: &Bench,
    database: &Database,
    run: usize,
    units: u64,
) -> Outcome<[Latency; 2]> {
    let server = Server::start(&bench.settings, &database.url(), Clock::Real).await?;
    // Requests of one run are not those of another.
    let first = FIRST + run as u64 * 1_000_000;
    let callers = Callers::connect(&server, 4).await?;
    let seconds = bench.settings.seconds.max(INTERVAL.as_secs_f64());
    let quiet = at_work(&server, &callers, first, units, seconds).await?;
    let stop = CancellationToken::new();
    let mut dashboards = JoinSet::new();
    for number in 0..DASHBOARDS {
        let channel = server.channel().await?;
        dashboards.spawn(dashboard(channel, units, number, stop.clone()));
    }
    let beside = at_work(&server, &callers, first + 500_000, units, seconds).await;
    stop.cancel();
    while let Some(ended) = dashboards.join_next().await {
        ended??;
    }
    server.kill().await?;
    Ok([quiet, beside?])
}

/// Counts every care unit, in as many calls as it takes, again and again.
async fn dashboard(
    channel: Channel,
    units: u64,
    number: usize,
    stop: CancellationToken,
) -> Outcome<()> {
    let mut client = WorklistServiceClient::new(channel);
    let mut times = tokio::time::interval(INTERVAL);
    // They do not count all at once.
    tokio::time::sleep(INTERVAL.mul_f64(number as f64 / DASHBOARDS as f64)).await;
    while stop.run_until_cancelled(times.tick()).await.is_some() {
        let units: Vec<String> = (0..units).map(make::unit_name).collect();
        for care_units in units.chunks(UNITS_OF_CALL as usize) {
            let call = v1::CountWorklistsRequest {
                query: Some(v1::WorklistQuery {
                    care_units: care_units.to_vec(),
                    ..Default::default()
                }),
                by_care_unit: true,
            };
            client.count_worklists(call).await?;
        }
    }
    Ok(())
}

/// Creates, pages and a watcher of the first care units, in which the creates are.
async fn at_work(
    server: &Server,
    callers: &Callers,
    first: u64,
    units: u64,
    seconds: f64,
) -> Outcome<Latency> {
    let created = Created::default();
    watch(server, Arc::clone(&created)).await?;
    let noted = Arc::clone(&created);
    let walk = Walk::over(server.channels(4).await?, each(units));
    let (page, create) = (walk.page(), create(callers.clone(), first, units, created));
    let schedule = Schedule::new(RATE, seconds);
    let creates = load::scheduled(schedule.clone(), create);
    let pages = load::scheduled(schedule, move |number, _| page(number));
    let (creates, pages) = tokio::try_join!(creates, pages)?;
    let events = noted.lock().map_err(|_| "a watcher panicked")?;
    let events = events.latencies.clone();
    if events.count() == 0 {
        return Err("no event has come".into());
    }
    let both = |it: &Latencies| [it.at(50.0), it.at(99.0)];
    Ok([
        both(&creates.latencies),
        both(&pages.latencies),
        both(&events),
    ])
}

/// When requests were to be created and when a watcher saw them: what comes first waits for the other. A watcher also sees
/// requests of before, which nobody asks for.
#[derive(Default)]
struct Noted {
    began: HashMap<String, Instant>,
    seen: HashMap<String, Instant>,
    latencies: Latencies,
}

impl Noted {
    fn begin(&mut self, name: String, at: Instant) {
        match self.seen.remove(&name) {
            Some(seen) => self.latencies.record(seen - at),
            None => {
                self.began.insert(name, at);
            }
        }
    }

    fn see(&mut self, name: String, at: Instant) {
        match self.began.remove(&name) {
            Some(began) => self.latencies.record(at - began),
            None => {
                self.seen.insert(name, at);
            }
        }
    }
}

type Created = Arc<Mutex<Noted>>;

/// The call that creates an invitation, and notes when that began.
fn create(
    callers: Callers,
    first: u64,
    units: u64,
    created: Created,
) -> impl Fn(usize, Instant) -> crate::callers::Calling + Clone + Send + Sync + 'static {
    let next = Arc::new(std::sync::atomic::AtomicU64::new(0));
    move |number, at| {
        let mut client = callers.client(number);
        let place = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // Every other one is in the care unit that is watched.
        let unit = match place % 2 {
            0 => WATCHED_UNIT,
            _ => place / 2 % units.min(UNITS_OF_CALL),
        };
        let call = make::create(make::unit_name(unit), first + place, Period::later());
        let created = Arc::clone(&created);
        Box::pin(async move {
            let answer = client.create_booking_request(call).await?.into_inner();
            let name = answer.booking_request.unwrap_or_default().name;
            let mut created = created.lock().map_err(|_| "a caller panicked")?;
            created.begin(name, at);
            Ok(())
        })
    }
}

/// Watches the list of invitations of a care unit: the time from each create until the watcher sees the request.
async fn watch(server: &Server, created: Created) -> Outcome<()> {
    let mut client = WorklistServiceClient::new(server.channel().await?);
    let list = v1::Worklist::CareInvitations;
    let query = make::list(vec![make::unit_name(WATCHED_UNIT)], list);
    let call = v1::WatchWorklistRequest {
        query: Some(query),
        ..Default::default()
    };
    let mut events = client.watch_worklist(call).await?.into_inner();
    // What is there already comes first.
    loop {
        let event = events.message().await?.ok_or("the watch has ended")?;
        if let Some(Event::SnapshotComplete(_)) = event.event {
            break;
        }
    }
    tokio::spawn(async move {
        while let Ok(Some(event)) = events.message().await {
            if let (Some(Event::Upserted(shown)), Ok(mut created)) = (event.event, created.lock()) {
                created.see(shown.name, Instant::now());
            }
        }
    });
    Ok(())
}
