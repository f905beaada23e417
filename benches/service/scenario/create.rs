//! Invitations created by many callers at once: durable before they are answered.

use std::sync::Arc;

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;

use crate::callers::Callers;
use crate::database::{Database, Kind};
use crate::load::Schedule;
use crate::make::{self, Period, UNITS};
use crate::raw::CONNECTIONS;
use crate::raw::create::{self as raw, How};
use crate::report::{Line, Report, median};
use crate::rows::{self, Contents, key_of};
use crate::sample::{Latencies, Sample};
use crate::server::{self, Clock, Server};
use crate::{Bench, Outcome, load};

/// The part of the throughput at which latencies are taken.
pub const MODERATE: f64 = 0.7;
/// How many callers have a transaction for each call, as a server without a writer would.
const EACH_ITS_OWN: usize = 16;
/// How many callers create in batches: one batch is decided while another is written and a third is on the wire.
const BATCH_CALLERS: usize = 4;
/// How many invitations of the service the floor takes its rows from.
const WRITTEN: usize = 2_000;
/// The percentiles of the picture of latencies.
const PERCENTILES: [f64; 14] = [
    0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.8, 99.9, 99.95, 99.99,
];

/// What was measured in each run.
#[derive(Default)]
struct Runs {
    service: Vec<f64>,
    raw: Vec<f64>,
    wire: Vec<f64>,
    batches: Vec<f64>,
    each_its_own: Vec<f64>,
    rates: Vec<f64>,
    percentiles: [Vec<f64>; 3],
    latencies: Latencies,
}

/// Measures it on every database.
pub async fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    for kind in bench.kinds() {
        let written = Arc::new(written(bench, kind).await?);
        let (callers, seconds) = (bench.settings.callers, bench.settings.seconds);
        let connections = best(bench, kind, &written).await?;
        let mut runs = Runs::default();
        for _ in 0..bench.settings.runs {
            one_run(bench, kind, &mut runs).await?;
            let how = shared(callers, connections, seconds);
            runs.raw
                .push(floor(bench, kind, &written, how).await?.rate());
            if kind == Kind::Postgresql {
                let how = How {
                    batch: 1,
                    connections: EACH_ITS_OWN,
                    seconds,
                };
                let alone = floor(bench, kind, &written, how).await?;
                runs.each_its_own.push(alone.rate());
            }
            runs.wire.push(wire(bench, callers).await?.rate());
            runs.batches.push(batches(bench, kind).await?);
        }
        let sizes = (callers, bench.settings.batch);
        say(report, kind, sizes, connections, runs);
        curve(bench, report, kind, &written, connections).await?;
    }
    Ok(())
}

fn say(
    report: &mut Report,
    kind: Kind,
    (callers, batch): (usize, u64),
    connections: usize,
    runs: Runs,
) {
    let work = format!("create, {callers} callers");
    let line = || Line::new(work.as_str(), kind, "/s", runs.service.clone());
    let raw = match kind {
        Kind::Sqlite => format!("raw, {callers} a commit"),
        Kind::Postgresql => format!("raw, {callers} under way, connections: {connections}"),
    };
    report.say(
        line()
            .beside(raw, runs.raw.clone())
            .target("create, of raw"),
    );
    if kind == Kind::Postgresql {
        let alone = format!("raw, a transaction each, connections: {EACH_ITS_OWN}");
        let line = line().beside(alone, runs.each_its_own.clone());
        report.say(line.target("create, of a transaction per call"));
    }
    report.say(line().beside("nothing behind the wire", runs.wire.clone()));
    let work = format!("create in batches of {batch}, {BATCH_CALLERS} callers");
    let line = Line::new(work, kind, "/s", runs.batches.clone());
    let single = format!("create, {callers} callers");
    let line = line.beside(single, runs.service.clone());
    report.say(line.target("create in batches, of single"));
    let rate = crate::number::number(median(&runs.rates));
    for (name, percentile) in ["p50", "p99", "p99.9"].iter().zip(runs.percentiles) {
        let work = format!("create on schedule, {rate}/s, {name}");
        report.say(Line::new(work, kind, "ms", percentile));
    }
    let points = PERCENTILES.map(|percent| (percent, runs.latencies.at(percent)));
    report.draw(
        "latency",
        format!("create, {}", kind.title()),
        false,
        points.to_vec(),
    );
}

/// The service: first as fast as the callers are answered, then on a schedule.
async fn one_run(bench: &Bench, kind: Kind, runs: &mut Runs) -> Outcome<()> {
    let database = Database::empty(kind, bench.postgres.as_ref()).await?;
    let server = Server::start(&bench.settings, &database.url(), Clock::Real).await?;
    let callers = Callers::connect(&server, bench.settings.callers).await?;
    let (seconds, create) = (
        bench.settings.seconds,
        callers.create(UNITS, Period::later()),
    );
    let closed = load::closed(bench.settings.callers, seconds, create.clone()).await?;
    runs.service.push(closed.rate());
    let rate = closed.rate() * MODERATE;
    let open = load::scheduled(Schedule::new(rate, seconds), move |number, _| {
        create(number)
    })
    .await?;
    runs.rates.push(rate);
    for (runs, percent) in runs.percentiles.iter_mut().zip([50.0, 99.0, 99.9]) {
        runs.push(open.latencies.at(percent));
    }
    runs.latencies.add(&open.latencies);
    server.kill().await
}

/// Invitations a second, created in batches.
async fn batches(bench: &Bench, kind: Kind) -> Outcome<f64> {
    let settings = &bench.settings;
    let database = Database::empty(kind, bench.postgres.as_ref()).await?;
    let server = Server::start(settings, &database.url(), Clock::Real).await?;
    let callers = Callers::connect(&server, BATCH_CALLERS).await?;
    let create = callers.create_batch(settings.batch, UNITS, Period::later());
    let closed = load::closed(BATCH_CALLERS, settings.seconds, create).await?;
    server.kill().await?;
    Ok(closed.rate() * settings.batch as f64)
}

/// Throughput over the number of callers, and the floor with as many in a commit.
async fn curve(
    bench: &Bench,
    report: &mut Report,
    kind: Kind,
    written: &Arc<Contents>,
    connections: usize,
) -> Outcome<()> {
    let (mut service, mut raw) = (Vec::new(), Vec::new());
    let seconds = bench.settings.seconds / 2.0;
    for &callers in bench.settings.curve.iter().filter(|callers| **callers > 0) {
        let database = Database::empty(kind, bench.postgres.as_ref()).await?;
        let server = Server::start(&bench.settings, &database.url(), Clock::Real).await?;
        let create = Callers::connect(&server, callers)
            .await?
            .create(UNITS, Period::later());
        let closed = load::closed(callers, seconds, create).await?;
        server.kill().await?;
        service.push((callers as f64, closed.rate()));
        let how = shared(callers, connections, seconds);
        let floor = floor(bench, kind, written, how).await?;
        raw.push((callers as f64, floor.rate()));
    }
    report.draw("create", kind.title().to_owned(), false, service);
    report.draw("create", format!("{}, raw", kind.title()), true, raw);
    Ok(())
}

/// As many invitations under way as there are callers, over so many connections.
fn shared(callers: usize, connections: usize, seconds: f64) -> How {
    let connections = connections.min(callers);
    How {
        batch: callers / connections,
        connections,
        seconds,
    }
}

/// Over how many connections the raw database writes most.
async fn best(bench: &Bench, kind: Kind, written: &Arc<Contents>) -> Outcome<usize> {
    let mut best = (1, 0.0);
    if kind == Kind::Postgresql {
        for connections in CONNECTIONS {
            let settings = &bench.settings;
            let how = shared(settings.callers, connections, settings.seconds / 2.0);
            let rate = floor(bench, kind, written, how).await?.rate();
            if rate > best.1 {
                best = (connections, rate);
            }
        }
    }
    Ok(best.0)
}

/// The raw database, empty at the beginning.
pub async fn floor(
    bench: &Bench,
    kind: Kind,
    written: &Arc<Contents>,
    how: How,
) -> Outcome<Sample> {
    let database = Database::empty(kind, bench.postgres.as_ref()).await?;
    server::migrate(&bench.settings, &database.url()).await?;
    raw::create(&database, Arc::clone(written), how).await
}

/// Rows of invitations that the service has written.
pub async fn written(bench: &Bench, kind: Kind) -> Outcome<Contents> {
    let database = Database::empty(kind, bench.postgres.as_ref()).await?;
    let server = Server::start(&bench.settings, &database.url(), Clock::Real).await?;
    let callers = Callers::connect(&server, bench.settings.callers).await?;
    let names = callers.fill(WRITTEN, Period::later()).await?;
    server.stop().await?;
    let keys: Outcome<Vec<_>> = names.iter().map(|name| key_of(name)).collect();
    rows::read(&database, &keys?).await
}

/// The same call answered with nothing behind it.
async fn wire(bench: &Bench, callers: usize) -> Outcome<Sample> {
    let server = Server::start_wire(&answer(bench).await?).await?;
    let create = Callers::connect(&server, callers)
        .await?
        .create(UNITS, Period::later());
    let sample = load::closed(callers, bench.settings.seconds, create).await?;
    server.kill().await?;
    Ok(sample)
}

/// An answer of the service.
async fn answer(bench: &Bench) -> Outcome<v1::CreateBookingRequestResponse> {
    let database = Database::empty(Kind::Sqlite, None).await?;
    let server = Server::start(&bench.settings, &database.url(), Clock::Real).await?;
    let mut client = BookingRequestServiceClient::new(server.channel().await?);
    let answer = client
        .create_booking_request(make::create(make::unit_name(0), 0, Period::later()))
        .await?;
    server.kill().await?;
    Ok(answer.into_inner())
}
