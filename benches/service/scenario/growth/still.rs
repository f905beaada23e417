//! The service while nobody calls: how soon it serves, what it uses when nothing happens, and how
//! much memory it has when many streams are open.

use std::time::{Duration, Instant};

use care_invitation::contract::v1;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::contract::v1::worklist_service_client::WorklistServiceClient;
use tokio::time::sleep;
use tonic::transport::Channel;

use crate::database::{Database, Kind};
use crate::number::number;
use crate::report::{Line, Report};
use crate::server::{Clock, Server};
use crate::{Bench, Outcome, consumer, make, process};

/// How long the service is watched while nothing happens, as a multiple of a measurement.
const IDLE_TIMES: f64 = 7.0;
/// How long it is left alone before that.
const SETTLE: Duration = Duration::from_secs(2);
/// How many streams are open at once, half of them for messages, half for lists.
const STREAMS: usize = 1_000;

/// Starts it again and again, and leaves it alone for a while; gives it as it runs.
pub async fn measure(
    bench: &Bench,
    report: &mut Report,
    database: &Database,
    size: usize,
) -> Outcome<Server> {
    let (kind, requests) = (database.kind(), number(size as f64));
    let mut starts = Vec::new();
    let mut running: Option<Server> = None;
    for _ in 0..bench.settings.runs {
        if let Some(server) = running.take() {
            server.stop().await?;
        }
        let began = Instant::now();
        let server = Server::start(&bench.settings, &database.url(), Clock::Real).await?;
        server.serves().await?;
        starts.push(began.elapsed().as_secs_f64() * 1_000.0);
        running = Some(server);
    }
    let server = running.ok_or("there are no runs")?;
    let work = format!("start on {requests} requests, until it serves");
    report.say(Line::new(work, kind, "ms", starts).target("start"));
    sleep(SETTLE).await;
    let seconds = bench.settings.seconds * IDLE_TIMES;
    let used = process::cpu_seconds(&server.proc()?)?;
    sleep(Duration::from_secs_f64(seconds)).await;
    let used = process::cpu_seconds(&server.proc()?)? - used;
    let percent = used / seconds * 100.0;
    let work = format!("idle with {requests} requests, of a core");
    report.say(Line::new(work, kind, "%", vec![percent]).target("idle"));
    Ok(server)
}

/// Opens many streams and says how much memory the service has, after all that it has done.
pub async fn measure_streams(
    bench: &Bench,
    report: &mut Report,
    server: &Server,
    kind: Kind,
    size: usize,
) -> Outcome<()> {
    let channels = server.channels(bench.settings.callers).await?;
    let mut open: Vec<Box<dyn Send>> = Vec::new();
    for number in 0..STREAMS / 2 {
        let channel = channels[number % channels.len()].clone();
        let mut client = NotificationServiceClient::new(channel.clone());
        open.push(Box::new(consumer::open(&mut client, 100).await?));
        open.push(Box::new(watch(channel).await?));
    }
    sleep(SETTLE).await;
    for (name, which) in [("memory", "VmRSS"), ("memory at the most", "VmHWM")] {
        let memory = process::memory(&server.proc()?, which)?;
        let requests = number(size as f64);
        let work = format!("{name}, {requests} requests, {STREAMS} streams");
        report.say(Line::new(work, kind, "MB", vec![memory]).target("memory"));
    }
    Ok(())
}

/// Watches a short list: one without requests.
async fn watch(channel: Channel) -> Outcome<tonic::Streaming<v1::WatchWorklistResponse>> {
    let mut client = WorklistServiceClient::new(channel);
    let query = make::list(vec![make::unit_name(0)], v1::Worklist::SlotIssues);
    let call = v1::WatchWorklistRequest {
        query: Some(query),
        ..Default::default()
    };
    Ok(client.watch_worklist(call).await?.into_inner())
}
