//! A backlog handed over while many streams are open: beside those that idle, and by many at once.

use care_invitation::contract::v1;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use tonic::Streaming;
use tonic::transport::Channel;

use super::deliver::{CONSUMERS, backlog, drain};
use crate::consumer::OUTSTANDING_MAX;
use crate::database::Database;
use crate::number::number;
use crate::report::{Line, Report};
use crate::server::{Clock, Server};
use crate::{Bench, Outcome, make};

/// How many streams are open at once.
const STREAMS: [usize; 2] = [100, 1_000];
/// How many of them share a connection.
const STREAMS_OF_CONNECTION: usize = 100;
/// The first of the care units in which nothing is due.
const IDLE_UNIT: u64 = 1_000_000;

/// Measures it on every database.
pub async fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    for kind in bench.kinds() {
        let backlog = backlog(bench, kind).await?;
        let mut few = Vec::new();
        let (mut beside, mut at_work) = (vec![Vec::new(); 2], vec![Vec::new(); 2]);
        for _ in 0..bench.settings.runs {
            few.push(rate(bench, &backlog, CONSUMERS, 0).await?);
            for (place, streams) in STREAMS.into_iter().enumerate() {
                beside[place].push(rate(bench, &backlog, CONSUMERS, streams).await?);
                at_work[place].push(rate(bench, &backlog, streams, 0).await?);
            }
        }
        let name = format!("deliver, {CONSUMERS} streams");
        report.say(Line::new(name.as_str(), kind, "/s", few.clone()));
        let lines = STREAMS.into_iter().zip(beside.into_iter().zip(at_work));
        for (streams, (beside, at_work)) in lines {
            let streams = number(streams as f64);
            let work = format!("{name} beside {streams} that idle");
            let line = Line::new(work, kind, "/s", beside).beside(name.as_str(), few.clone());
            report.say(line.target("streams, idle"));
            let work = format!("deliver, {streams} streams");
            let line = Line::new(work, kind, "/s", at_work).beside(name.as_str(), few.clone());
            report.say(line.target("streams, at work"));
        }
    }
    Ok(())
}

/// How many messages a second so many consumers are handed beside streams of care units in which nothing is due.
async fn rate(bench: &Bench, backlog: &Database, consumers: usize, idle: usize) -> Outcome<f64> {
    let database = backlog.copy().await?;
    let server = Server::start(&bench.settings, &database.url(), Clock::Real).await?;
    let mut open = Vec::new();
    for (channel, unit) in shared(&server, idle).await?.into_iter().zip(IDLE_UNIT..) {
        open.push(idle_in(channel, make::unit_name(unit)).await?);
    }
    let channels = match consumers {
        CONSUMERS => server.channels(CONSUMERS).await?,
        many => shared(&server, many).await?,
    };
    let (rate, _) = drain(bench, channels).await?;
    drop(open);
    server.kill().await?;
    Ok(rate)
}

/// So many channels, many of which share a connection.
async fn shared(server: &Server, count: usize) -> Outcome<Vec<Channel>> {
    let mut channels = Vec::new();
    while channels.len() < count {
        let channel = server.channel().await?;
        let left = count - channels.len();
        channels.extend(vec![channel; left.min(STREAMS_OF_CONNECTION)]);
    }
    Ok(channels)
}

/// An open stream of a care unit.
async fn idle_in(
    channel: Channel,
    care_unit: String,
) -> Outcome<Streaming<v1::StreamDueNotificationsResponse>> {
    let call = v1::StreamDueNotificationsRequest {
        care_units: vec![care_unit],
        ..make::stream(OUTSTANDING_MAX)
    };
    let mut client = NotificationServiceClient::new(channel);
    Ok(client.stream_due_notifications(call).await?.into_inner())
}
