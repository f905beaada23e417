//! More creates than the service can bear: how many it takes, how soon it refuses the rest, and how long it needs afterwards.
//!
//! Calls are begun on a schedule, whatever has become of those before. Latencies count from the sending of a call, since
//! beyond some rate it is the load that is late.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tonic::Code;

use crate::callers::Callers;
use crate::database::{Database, Kind};
use crate::load::Schedule;
use crate::make::{self, Period, UNITS};
use crate::report::{Line, Report, median};
use crate::sample::Latencies;
use crate::server::{Clock, Server};
use crate::{Bench, Outcome, load};

/// How many times as many creates are sent as the service can bear.
const TIMES: [f64; 4] = [1.0, 2.0, 4.0, 10.0];
/// The part of what it can bear that is quiet.
const QUIET: f64 = 0.3;
/// Calls under way at once: far beyond what the service lets in.
const UNDER_WAY_MAX: usize = 8_192;
/// After the load, calls are looked at in pieces of so many seconds; it is over when the slowest hundredth of a piece takes
/// no longer than so many times what it takes in quiet.
const PIECE: f64 = 0.25;
const QUIET_TIMES: f64 = 1.5;
/// Pieces after which it is not waited for any longer.
const PIECES_MAX: usize = 80;

/// What became of calls.
#[derive(Clone, Default)]
struct Taken {
    done: Latencies,
    refused: Latencies,
}

/// What was measured at one load, once in each run.
#[derive(Default)]
struct Runs {
    sent: Vec<f64>,
    rate: Vec<f64>,
    refused: Vec<f64>,
    refused_p99: Vec<f64>,
    done_p99: Vec<f64>,
    back: Vec<f64>,
}

/// Measures it on every database.
pub async fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    for kind in bench.kinds() {
        let (mut best, mut quiet) = (Vec::new(), Vec::new());
        let mut runs = TIMES.map(|_| Runs::default());
        for _ in 0..bench.settings.runs {
            one_run(bench, kind, &mut best, &mut quiet, &mut runs).await?;
        }
        say(report, kind, best, quiet, &runs);
    }
    Ok(())
}

async fn one_run(
    bench: &Bench,
    kind: Kind,
    best: &mut Vec<f64>,
    quiet: &mut Vec<f64>,
    runs: &mut [Runs],
) -> Outcome<()> {
    let (callers, seconds) = (bench.settings.callers, bench.settings.seconds);
    let database = Database::empty(kind, bench.postgres.as_ref()).await?;
    let server = Server::start(&bench.settings, &database.url(), Clock::Real).await?;
    let connected = Callers::connect(&server, callers).await?;
    let create = connected.create(UNITS, Period::later());
    let bears = load::closed(callers, seconds, create).await?.rate();
    let quiet_rate = bears * QUIET;
    let still = at_rate(&connected, quiet_rate, seconds).await?;
    let quiet_p99 = still.done.at(99.0);
    best.push(bears);
    quiet.push(quiet_p99);
    for (times, runs) in TIMES.iter().zip(runs) {
        let begun = Instant::now();
        let taken = at_rate(&connected, bears * times, seconds).await?;
        let lasted = begun.elapsed().as_secs_f64();
        let (done, refused) = (taken.done.count() as f64, taken.refused.count() as f64);
        runs.sent.push((done + refused) / lasted);
        runs.rate.push(done / lasted);
        runs.refused.push(100.0 * refused / (done + refused));
        runs.done_p99.push(taken.done.at(99.0));
        if refused > 0.0 {
            runs.refused_p99.push(taken.refused.at(99.0));
        }
        let back = until_quiet(&connected, quiet_rate, quiet_p99 * QUIET_TIMES).await?;
        runs.back.push(back);
    }
    server.kill().await
}

/// Creates at a rate for a time, all of which counts.
async fn at_rate(callers: &Callers, rate: f64, seconds: f64) -> Outcome<Taken> {
    let taken = Arc::new(Mutex::new(Taken::default()));
    let schedule = Schedule {
        warm_up: Duration::ZERO,
        under_way_max: UNDER_WAY_MAX,
        ..Schedule::new(rate, seconds)
    };
    let (callers, of_each) = (callers.clone(), Arc::clone(&taken));
    load::scheduled(schedule, move |number, _| {
        let mut client = callers.client(number);
        let number = callers.next();
        let call = make::create(make::unit_name(number % UNITS), number, Period::later());
        let taken = Arc::clone(&of_each);
        async move {
            let begun = Instant::now();
            let answer = client.create_booking_request(call).await;
            let latency = begun.elapsed();
            let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(_) => taken.done.record(latency),
                Err(status) if status.code() == Code::ResourceExhausted => {
                    taken.refused.record(latency);
                }
                Err(status) => return Err(status.into()),
            }
            Ok(())
        }
    })
    .await?;
    let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(taken.clone())
}

/// Seconds until calls at the quiet rate are as fast as this again.
async fn until_quiet(callers: &Callers, rate: f64, p99: f64) -> Outcome<f64> {
    let ended = Instant::now();
    for _ in 0..PIECES_MAX {
        let begun = ended.elapsed().as_secs_f64();
        let piece = at_rate(callers, rate, PIECE).await?;
        if piece.refused.count() == 0 && piece.done.at(99.0) <= p99 {
            return Ok(begun);
        }
    }
    Ok(ended.elapsed().as_secs_f64())
}

fn say(report: &mut Report, kind: Kind, best: Vec<f64>, quiet: Vec<f64>, runs: &[Runs]) {
    let points = TIMES.iter().zip(runs);
    let points = points.map(|(times, runs)| (*times, median(&runs.rate)));
    report.draw("overload", kind.title().to_owned(), false, points.collect());
    for (times, runs) in TIMES.iter().zip(runs) {
        let work = format!("create at {times} times of what it can bear");
        let line = |what: &str, unit: &str, runs: &[f64]| {
            Line::new(format!("{work}, {what}"), kind, unit, runs.to_vec())
        };
        report.say(line("sent", "/s", &runs.sent));
        let rate = line("done", "/s", &runs.rate).beside("as fast as answered", best.clone());
        report.say(rate.target("overload, rate"));
        report.say(line("refused", "%", &runs.refused));
        if runs.refused_p99.len() == runs.refused.len() {
            report.say(line("refused, p99", "ms", &runs.refused_p99));
        }
        let done = line("done, p99", "ms", &runs.done_p99);
        report.say(done.beside("quiet, p99", quiet.clone()));
        let back = line("until the quiet p99 is back", "s", &runs.back);
        report.say(back.target("overload, back"));
    }
}
