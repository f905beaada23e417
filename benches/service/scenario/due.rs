//! From the call that creates an invitation that is due at once until a consumer has its message:
//! one of the same server, or one of another replica.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::callers::Callers;
use crate::consumer::Consumers;
use crate::database::{Database, Kind};
use crate::load::Schedule;
use crate::make::{self, Period, UNITS};
use crate::report::{Line, Report};
use crate::sample::Latencies;
use crate::server::{Clock, Server};
use crate::{Bench, Outcome, load};

/// How many invitations are created a second.
const RATE: f64 = 50.0;
/// How long is warmed up.
const WARM_UP: Duration = Duration::from_secs(1);

/// Measures it on every database.
pub async fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    for kind in bench.kinds() {
        measure(bench, report, kind, false).await?;
        if kind == Kind::Postgresql {
            measure(bench, report, kind, true).await?;
        }
    }
    Ok(())
}

async fn measure(bench: &Bench, report: &mut Report, kind: Kind, elsewhere: bool) -> Outcome<()> {
    let mut latencies = Vec::new();
    for _ in 0..bench.settings.runs {
        latencies.push(one_run(bench, kind, elsewhere).await?);
    }
    let (of, target) = match elsewhere {
        true => (" of another replica", "due, other replica"),
        false => ("", "due"),
    };
    for (name, percent) in [("p50", 50.0), ("p99", 99.0)] {
        let work = format!("created and due until a consumer{of} has it, {name}");
        let runs = latencies.iter().map(|it| it.at(percent)).collect();
        let line = Line::new(work, kind, "ms", runs);
        report.say(if percent > 50.0 {
            line.target(target)
        } else {
            line
        });
    }
    Ok(())
}

/// When the invitations were to be created that no consumer has yet, by their patients.
type Waiting = Arc<Mutex<HashMap<String, Instant>>>;

async fn one_run(bench: &Bench, kind: Kind, elsewhere: bool) -> Outcome<Latencies> {
    let database = Database::empty(kind, bench.postgres.as_ref()).await?;
    let server = Server::start(&bench.settings, &database.url(), Clock::Real).await?;
    let other = match elsewhere {
        true => Some(Server::start(&bench.settings, &database.url(), Clock::Real).await?),
        false => None,
    };
    let waiting = Waiting::default();
    let latencies = Arc::new(Mutex::new(Latencies::default()));
    let (awaited, taken) = (Arc::clone(&waiting), Arc::clone(&latencies));
    let measured_from = Instant::now() + WARM_UP;
    let consumer = other.as_ref().unwrap_or(&server).channel().await?;
    let mut consumers = Consumers::start(vec![consumer], move |due, now| {
        let began = awaited
            .lock()
            .ok()
            .and_then(|mut it| it.remove(&due.personal_id));
        if let (Some(began), Ok(mut taken)) = (began, taken.lock())
            && began >= measured_from
        {
            taken.record(now - began);
        }
    });
    let callers = Callers::connect(&server, 1).await?;
    let create = move |number: usize, at: Instant| {
        let mut client = callers.client(number);
        let number = number as u64;
        let call = make::create(make::unit_name(number % UNITS), number, Period::at_once());
        let patient = call
            .booking_request
            .as_ref()
            .and_then(|it| it.patient.clone());
        let patient = patient.unwrap_or_default().personal_id;
        let waiting = Arc::clone(&waiting);
        async move {
            waiting
                .lock()
                .map_err(|_| "a caller panicked")?
                .insert(patient, at);
            client.create_booking_request(call).await?;
            Ok(())
        }
    };
    let schedule = Schedule::new(RATE, bench.settings.seconds);
    let created = load::scheduled(schedule, create).await?.done;
    let progress = Arc::clone(&consumers.progress);
    // Those of the warm-up may be more than none.
    consumers.until(progress.acknowledged(created)).await?;
    consumers
        .until(async { tokio::time::sleep(WARM_UP).await })
        .await?;
    drop(consumers);
    for server in [Some(server), other].into_iter().flatten() {
        server.kill().await?;
    }
    let latencies = latencies.lock().map_err(|_| "a consumer panicked")?.clone();
    match latencies.count() {
        0 => Err("no message has come".into()),
        _ => Ok(latencies),
    }
}
