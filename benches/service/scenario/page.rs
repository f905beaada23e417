//! Pages of worklists, walked from the first to the last, and counts.

use std::sync::{Arc, Mutex};

use care_invitation::contract::v1;
use care_invitation::contract::v1::worklist_service_client::WorklistServiceClient;
use tonic::transport::Channel;

use super::create::MODERATE;
use crate::callers::Calling;
use crate::database::Database;
use crate::load::Schedule;
use crate::number::number;
use crate::report::{Line, Report, median};
use crate::server::{Clock, Server};
use crate::template::{self, REQUESTS};
use crate::{Bench, Outcome, fill, load, make};

/// How many callers ask for pages.
const CALLERS: usize = 16;
/// How many counts are asked for a second.
const COUNTS: f64 = 50.0;
/// Over how many units a list goes where it is not over one.
const SEVERAL: u64 = 50;

/// Measures it on every database.
pub async fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    for kind in bench.kinds() {
        let database = Database::empty(kind, bench.postgres.as_ref()).await?;
        template::fill(bench, &database).await?;
        let (mut rates, mut closed, mut rate) = (Vec::new(), Vec::new(), Vec::new());
        let (mut open, mut counts) = ([Vec::new(), Vec::new()], Vec::new());
        let mut wire = Vec::new();
        for _ in 0..bench.settings.runs {
            let server = Server::start(&bench.settings, &database.url(), Clock::Real).await?;
            let channels = server.channels(CALLERS).await?;
            let page = Walk::over(channels.clone(), each(1)).page();
            let seconds = bench.settings.seconds;
            let full = load::closed(CALLERS, seconds, page.clone()).await?;
            rates.push(full.rate());
            closed.push(full.latencies.at(99.0));
            let schedule = Schedule::new(full.rate() * MODERATE, seconds);
            rate.push(schedule.rate);
            let moderate = load::scheduled(schedule, move |number, _| page(number)).await?;
            open[0].push(moderate.latencies.at(50.0));
            open[1].push(moderate.latencies.at(99.0));
            let count = count(channels);
            let counted = load::scheduled(Schedule::new(COUNTS, seconds), move |number, _| {
                count(number)
            });
            counts.push(counted.await?.latencies.at(99.0));
            wire.push(bare(&server, seconds).await?);
            server.kill().await?;
        }
        let work = format!("page of 50, {CALLERS} callers");
        let full = Line::new(work.as_str(), kind, "/s", rates.clone()).target("page, rate");
        report.say(full.beside("nothing behind the wire", wire));
        report.say(Line::new(work + ", p99", kind, "ms", closed).target("page, p99"));
        let work = format!("page of 50 on schedule, {}/s", number(median(&rate)));
        let [p50, p99] = open;
        report.say(Line::new(format!("{work}, p50"), kind, "ms", p50));
        report.say(Line::new(format!("{work}, p99"), kind, "ms", p99).target("page, p99"));
        let requests = number(REQUESTS as f64);
        let work = format!("counts of a unit of {requests} requests, {COUNTS}/s, p99");
        report.say(Line::new(work, kind, "ms", counts).target("count, p99"));
        over_several(bench, report, &database, rates).await?;
    }
    Ok(())
}

/// Lists that go over several units, each of as many requests.
async fn over_several(
    bench: &Bench,
    report: &mut Report,
    database: &Database,
    over_one: Vec<f64>,
) -> Outcome<()> {
    fill::copy(database, SEVERAL).await?;
    let kind = database.kind();
    let (mut rates, mut latencies) = (Vec::new(), Vec::new());
    for _ in 0..bench.settings.runs {
        let server = Server::start(&bench.settings, &database.url(), Clock::Real).await?;
        let list = (0..SEVERAL).map(make::unit_name).collect();
        let page = Walk::over(server.channels(CALLERS).await?, vec![list]).page();
        let full = load::closed(CALLERS, bench.settings.seconds, page).await?;
        rates.push(full.rate());
        latencies.push(full.latencies.at(99.0));
        server.kill().await?;
    }
    let work = format!("page of 50 over {SEVERAL} units, {CALLERS} callers");
    let line = Line::new(work.as_str(), kind, "/s", rates).beside("over one", over_one);
    report.say(line.target("page over several, rate"));
    report.say(Line::new(work + ", p99", kind, "ms", latencies));
    Ok(())
}

/// How many pages a second come with nothing behind the wire: the first of the unit, each time.
async fn bare(server: &Server, seconds: f64) -> Outcome<f64> {
    let mut client = WorklistServiceClient::new(server.channel().await?);
    let first = make::page(vec![make::unit_name(0)], String::new());
    let answer = client.list_worklist(first).await?.into_inner();
    let wire = Server::start_wire(&answer).await?;
    let page = Walk::over(wire.channels(CALLERS).await?, each(1)).page();
    let rate = load::closed(CALLERS, seconds, page).await?.rate();
    wire.kill().await?;
    Ok(rate)
}

fn count(channels: Vec<Channel>) -> impl Fn(usize) -> Calling + Clone + Send + Sync + 'static {
    move |number| {
        let mut client = WorklistServiceClient::new(channels[number % channels.len()].clone());
        Box::pin(async move {
            let care_units = vec![make::unit_name(0)];
            client
                .count_worklists(v1::CountWorklistsRequest {
                    query: Some(v1::WorklistQuery {
                        care_units,
                        ..Default::default()
                    }),
                    by_care_unit: false,
                })
                .await?;
            Ok(())
        })
    }
}

/// The lists of so many units, each by itself.
pub fn each(units: u64) -> Vec<Vec<String>> {
    (0..units).map(|unit| vec![make::unit_name(unit)]).collect()
}

/// Readers who walk through lists of care units, page by page, again and again.
#[derive(Clone)]
pub struct Walk {
    clients: Vec<WorklistServiceClient<Channel>>,
    /// The care units of each list.
    lists: Arc<Vec<Vec<String>>>,
    /// Which list each reads, and the token of the next page.
    readers: Arc<Vec<Mutex<(usize, String)>>>,
}

impl Walk {
    /// Through these lists.
    pub fn over(channels: Vec<Channel>, lists: Vec<Vec<String>>) -> Self {
        let reader = |number: usize| Mutex::new((number % lists.len(), String::new()));
        Self {
            clients: channels
                .into_iter()
                .map(WorklistServiceClient::new)
                .collect(),
            readers: Arc::new((0..CALLERS).map(reader).collect()),
            lists: Arc::new(lists),
        }
    }

    /// The call for the next page.
    pub fn page(&self) -> impl Fn(usize) -> Calling + Clone + Send + Sync + 'static {
        let walk = self.clone();
        move |reader| {
            let mut client = walk.clients[reader % walk.clients.len()].clone();
            let (readers, lists) = (Arc::clone(&walk.readers), Arc::clone(&walk.lists));
            Box::pin(async move {
                let place = &readers[reader % readers.len()];
                let (list, token) = place.lock().map_err(|_| "a reader panicked")?.clone();
                let call = make::page(lists[list].clone(), token);
                let answer = client.list_worklist(call).await?.into_inner();
                if answer.booking_requests.is_empty() {
                    return Err("a page is empty".into());
                }
                let next = match answer.next_page_token.is_empty() {
                    true => ((list + CALLERS) % lists.len(), String::new()),
                    false => (list, answer.next_page_token),
                };
                *place.lock().map_err(|_| "a reader panicked")? = next;
                Ok(())
            })
        }
    }
}
