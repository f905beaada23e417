//! The heap of one care unit, whose adapter is away, beside the messages of another: how long these take from the call that
//! creates them until their consumer has them.

use std::time::Instant;

use care_invitation::contract::v1;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use tonic::Streaming;

use crate::callers::Callers;
use crate::consumer;
use crate::database::{Database, Kind};
use crate::make::{self, Period};
use crate::number::number;
use crate::report::{Line, Report};
use crate::sample::Latencies;
use crate::server::{Clock, Server};
use crate::{Bench, Outcome, load, server};

/// The care unit that has the heap, and the other.
const HEAP_UNIT: u64 = 0;
const OTHER_UNIT: u64 = 1;
/// How many heaps are created before the other's messages, as a multiple of `--backlog`.
const HEAP_TIMES: usize = 3;
/// How many messages are awaited for each second of a measurement: one after the other.
const MESSAGES: f64 = 50.0;

/// How many messages the consumer has at once: as many as when it does not say. What it has already comes before all else.
const OUTSTANDING: i32 = 100;

/// How many it acknowledges together: some of what it has, so that there is always room.
const ACKNOWLEDGED: usize = 25;

/// Whose messages a consumer takes.
#[derive(Clone, Copy)]
enum Taken {
    /// Those of the other care unit.
    Named,
    /// Those of every care unit, the heap's too, which it acknowledges.
    Every,
}

/// Measures it on every database.
pub async fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    for kind in bench.kinds() {
        let heap = bench.settings.backlog * HEAP_TIMES;
        let empty = Database::empty(kind, bench.postgres.as_ref()).await?;
        server::migrate(&bench.settings, &empty.url()).await?;
        let heaped = heaped(bench, kind, heap).await?;
        for (taken, by) in [(Taken::Named, "names it"), (Taken::Every, "names none")] {
            let (mut quiet, mut beside) = (Vec::new(), Vec::new());
            for _ in 0..bench.settings.runs {
                quiet.push(one_run(bench, &empty, taken).await?);
                beside.push(one_run(bench, &heaped, taken).await?);
            }
            let heap = number(heap as f64);
            for (name, percent) in [("p50", 50.0), ("p99", 99.0)] {
                let at = |runs: &[Latencies]| runs.iter().map(|it| it.at(percent)).collect();
                let work =
                    format!("due beside {heap} of another unit, a consumer that {by}, {name}");
                let line = Line::new(work, kind, "ms", at(&beside));
                report.say(line.beside("without them", at(&quiet)).target("fair"));
            }
        }
    }
    Ok(())
}

/// A database in which one care unit has so many messages that are due.
async fn heaped(bench: &Bench, kind: Kind, heap: usize) -> Outcome<Database> {
    let database = Database::empty(kind, bench.postgres.as_ref()).await?;
    let server = Server::start(&bench.settings, &database.url(), Clock::Real).await?;
    let callers = Callers::connect(&server, bench.settings.callers).await?;
    let create = callers.create(HEAP_UNIT + 1, Period::at_once());
    load::each(heap, bench.settings.callers, create).await?;
    drop(callers);
    server.stop().await?;
    Ok(database)
}

/// The time from each create of the other unit until its message is there.
async fn one_run(bench: &Bench, filled: &Database, taken: Taken) -> Outcome<Latencies> {
    let database = filled.copy().await?;
    let server = Server::start(&bench.settings, &database.url(), Clock::Real).await?;
    let channel = server.channel().await?;
    let mut client = NotificationServiceClient::new(channel);
    let care_units = match taken {
        Taken::Named => vec![make::unit_name(OTHER_UNIT)],
        Taken::Every => Vec::new(),
    };
    let call = v1::StreamDueNotificationsRequest {
        care_units,
        ..make::stream(OUTSTANDING)
    };
    let mut events = client.stream_due_notifications(call).await?.into_inner();
    let callers = Callers::connect(&server, 1).await?;
    let mut latencies = Latencies::default();
    let count = (MESSAGES * bench.settings.seconds).ceil() as u64;
    // Beyond the patients of the heap.
    let first = (bench.settings.backlog * HEAP_TIMES) as u64;
    for number in first..first + count {
        let mut creating = callers.client(0);
        let unit = make::unit_name(OTHER_UNIT);
        let call = make::create(unit, number, Period::at_once());
        let began = Instant::now();
        let created = creating.create_booking_request(call).await?.into_inner();
        let name = created.booking_request.unwrap_or_default().name;
        await_message(&mut client, &mut events, &name).await?;
        latencies.record(began.elapsed());
    }
    drop(events);
    server.kill().await?;
    Ok(latencies)
}

/// Takes and acknowledges messages until that of this request has come.
async fn await_message(
    client: &mut NotificationServiceClient<tonic::transport::Channel>,
    events: &mut Streaming<v1::StreamDueNotificationsResponse>,
    request: &str,
) -> Outcome<()> {
    let mut acknowledgements = Vec::new();
    loop {
        let due = consumer::next(events).await?;
        acknowledgements.push(make::sent(&due));
        let is_it = due.booking_request == request;
        if is_it || acknowledgements.len() >= ACKNOWLEDGED {
            let acknowledgements = std::mem::take(&mut acknowledgements);
            let call = v1::AcknowledgeNotificationsRequest { acknowledgements };
            client.acknowledge_notifications(call).await?;
        }
        if is_it {
            return Ok(());
        }
    }
}
