//! What grows with the number of requests stored: how long calls take, how soon the service is
//! there, what it needs when nothing happens, and with many streams open.

mod still;

use std::sync::Arc;
use std::time::Instant;

use care_invitation::contract::v1;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::contract::v1::patient_service_client::PatientServiceClient;
use tonic::transport::Channel;

use super::page::{Walk, each};
use crate::callers::{Callers, Calling, FILLERS};
use crate::database::Kind;
use crate::load::Schedule;
use crate::make::{self, Period};
use crate::number::number;
use crate::report::{Line, Report, median};
use crate::server::Server;
use crate::template::REQUESTS;
use crate::{Bench, Outcome, consumer, fill, load};

/// The calls, and how many of each a second: few, so that none waits for another.
const CALLS: [(&str, f64); 5] = [
    ("create", 200.0),
    ("page of 50", 100.0),
    ("claim", 50.0),
    ("get", 400.0),
    (PATIENT, 200.0),
];
/// The name of the call that lists what a patient is shown.
const PATIENT: &str = "requests of a patient";
/// The number of the first request that is created here: beyond those that the database holds.
const FIRST: u64 = 20_000_000;
/// How many messages are made due for each that is claimed while it counts: warming up claims too.
const SPARE: f64 = 2.5;

/// The p99 of each call, in each run.
type Latencies = [Vec<f64>; 5];

/// Measures it on every database.
pub async fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    for kind in bench.kinds() {
        let mut all: Vec<(usize, Latencies)> = Vec::new();
        for &size in &bench.settings.sizes {
            all.push((size, one_size(bench, report, kind, size).await?));
        }
        say(report, kind, &all);
    }
    Ok(())
}

/// The calls at every size, and at the last beside the first.
fn say(report: &mut Report, kind: Kind, all: &[(usize, Latencies)]) {
    for (call, (name, rate)) in CALLS.iter().enumerate() {
        let point =
            |(size, latencies): &(usize, Latencies)| (*size as f64, median(&latencies[call]));
        let points = all.iter().map(point).collect();
        report.draw("growth", format!("{name}, {}", kind.title()), false, points);
        for (place, (size, latencies)) in all.iter().enumerate() {
            let requests = number(*size as f64);
            let work = format!("{name}, {requests} requests, {rate}/s, p99");
            let mut line = Line::new(work, kind, "ms", latencies[call].clone());
            if place > 0 {
                let (first, before) = &all[0];
                let what = format!("{} requests", number(*first as f64));
                line = line.beside(what, before[call].clone()).target("growth");
            }
            report.say(line);
        }
    }
}

async fn one_size(
    bench: &Bench,
    report: &mut Report,
    kind: Kind,
    size: usize,
) -> Outcome<Latencies> {
    let database = fill::filled(bench, kind, size).await?;
    let ids = fill::ids(&database).await?;
    let server = still::measure(bench, report, &database, size).await?;
    let seconds = bench.settings.seconds;
    let load = Load::prepare(&server, ids, fill::units(size)).await?;
    let claims = CALLS[2].1 * seconds * SPARE * bench.settings.runs as f64;
    load.make_due(claims.ceil() as usize).await?;
    let mut latencies = Latencies::default();
    let mut of_patient = Vec::new();
    for _ in 0..bench.settings.runs {
        for (call, (name, rate)) in CALLS.iter().enumerate() {
            let make = load.call(call);
            let schedule = Schedule::new(*rate, seconds);
            let sample = load::scheduled(schedule, move |number, _: Instant| make(number));
            let sample = sample.await?.latencies;
            latencies[call].push(sample.at(99.0));
            of_patient.extend((*name == PATIENT).then(|| sample.at(50.0)));
        }
    }
    let work = format!("{PATIENT}, {} requests, p50", number(size as f64));
    report.say(Line::new(work, kind, "ms", of_patient));
    still::measure_streams(bench, report, &server, kind, size).await?;
    server.kill().await?;
    Ok(latencies)
}

/// What makes a call, of whichever kind.
type Call = Arc<dyn Fn(usize) -> Calling + Send + Sync>;

/// Those who make the calls.
struct Load {
    callers: Callers,
    walk: Walk,
    channels: Vec<Channel>,
    ids: Arc<Vec<String>>,
    units: u64,
}

impl Load {
    async fn prepare(server: &Server, ids: Vec<String>, units: u64) -> Outcome<Self> {
        let channels = server.channels(4).await?;
        Ok(Self {
            callers: Callers::connect(server, 4).await?.beginning_at(FIRST),
            walk: Walk::over(channels.clone(), each(units)),
            channels,
            ids: Arc::new(ids),
            units,
        })
    }

    /// Has so many messages due.
    async fn make_due(&self, count: usize) -> Outcome<()> {
        let create = self.callers.create(self.units, Period::at_once());
        load::each(count, FILLERS.min(count), create).await?;
        Ok(())
    }

    /// What makes the calls of one kind.
    fn call(&self, call: usize) -> Call {
        match call {
            0 => Arc::new(self.callers.create(self.units, Period::later())),
            1 => Arc::new(self.walk.page()),
            2 => Arc::new(claim(self.channels.clone())),
            3 => Arc::new(get(self.callers.clone(), Arc::clone(&self.ids), self.units)),
            _ => Arc::new(of_patient(self.channels.clone())),
        }
    }
}

/// One due message: leased over a stream that is opened for it, and acknowledged.
fn claim(channels: Vec<Channel>) -> impl Fn(usize) -> Calling + Clone + Send + Sync + 'static {
    move |number| {
        let channel = channels[number % channels.len()].clone();
        let mut client = NotificationServiceClient::new(channel);
        Box::pin(async move {
            let mut events = consumer::open(&mut client, 1).await?;
            let due = consumer::next(&mut events).await?;
            // Before the answer makes room for another message.
            drop(events);
            let acknowledgements = vec![make::sent(&due)];
            let call = v1::AcknowledgeNotificationsRequest { acknowledgements };
            client.acknowledge_notifications(call).await?;
            Ok(())
        })
    }
}

/// One request of the many, anywhere.
fn get(
    callers: Callers,
    ids: Arc<Vec<String>>,
    units: u64,
) -> impl Fn(usize) -> Calling + Clone + Send + Sync + 'static {
    move |number| {
        let mut client = callers.client(number);
        // Far from the one before, in both.
        let place = number as u64 * 7_919;
        let unit = make::unit_name(place % units);
        let id = &ids[place as usize % ids.len()];
        let name = format!("{unit}/bookingRequests/{id}");
        Box::pin(async move {
            client
                .get_booking_request(v1::GetBookingRequestRequest { name })
                .await?;
            Ok(())
        })
    }
}

/// What one patient of the first unit is shown: those of other units have numbers that the service refuses.
fn of_patient(channels: Vec<Channel>) -> impl Fn(usize) -> Calling + Clone + Send + Sync + 'static {
    move |number| {
        let channel = channels[number % channels.len()].clone();
        let mut client = PatientServiceClient::new(channel);
        // Far from the one before.
        let call = make::of_patient((number * 7_919 % REQUESTS) as u64);
        Box::pin(async move {
            client.list_patient_requests(call).await?;
            Ok(())
        })
    }
}
