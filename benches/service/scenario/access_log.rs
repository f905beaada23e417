//! What the access log costs a reader: requests read one by one, and pages of a list, each with its entry. Another build
//! of the service, by `--server`, gives the same lines without.

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use tonic::transport::Channel;

use super::page::{Walk, each};
use crate::callers::Calling;
use crate::database::Database;
use crate::report::{Line, Report};
use crate::server::{Clock, Server};
use crate::{Bench, Outcome, fill, load, make, template};

/// How many callers read one request after the other.
const READERS: usize = 64;
/// How many callers ask for pages.
const CALLERS: usize = 16;

/// Measures it on every database.
pub async fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    for kind in bench.kinds() {
        let database = Database::empty(kind, bench.postgres.as_ref()).await?;
        template::fill(bench, &database).await?;
        let names = names(&database).await?;
        let (mut reads, mut pages) = (Vec::new(), Vec::new());
        let (mut read_latencies, mut page_latencies) = (Vec::new(), Vec::new());
        for _ in 0..bench.settings.runs {
            let server = Server::start(&bench.settings, &database.url(), Clock::Real).await?;
            let seconds = bench.settings.seconds;
            let read = read(server.channels(READERS).await?, names.clone());
            let full = load::closed(READERS, seconds, read).await?;
            reads.push(full.rate());
            read_latencies.push(full.latencies.at(99.0));
            let page = Walk::over(server.channels(CALLERS).await?, each(1)).page();
            let full = load::closed(CALLERS, seconds, page).await?;
            pages.push(full.rate());
            page_latencies.push(full.latencies.at(99.0));
            server.kill().await?;
        }
        let read = format!("read of a request, {READERS} callers");
        report.say(Line::new(read.as_str(), kind, "/s", reads));
        report.say(Line::new(read + ", p99", kind, "ms", read_latencies));
        let page = format!("page of 50, {CALLERS} callers");
        report.say(Line::new(page.as_str(), kind, "/s", pages));
        report.say(Line::new(page + ", p99", kind, "ms", page_latencies));
    }
    Ok(())
}

/// The names of the requests of the unit.
async fn names(database: &Database) -> Outcome<Vec<String>> {
    let ids = fill::ids(database).await?.into_iter();
    let unit = make::unit_name(0);
    Ok(ids
        .map(|id| format!("{unit}/bookingRequests/{id}"))
        .collect())
}

/// The call that reads a request, another one each time.
fn read(
    channels: Vec<Channel>,
    names: Vec<String>,
) -> impl Fn(usize) -> Calling + Clone + Send + Sync + 'static {
    let names = std::sync::Arc::new(names);
    let next = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    move |caller| {
        let mut client =
            BookingRequestServiceClient::new(channels[caller % channels.len()].clone());
        let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = names[number % names.len()].clone();
        Box::pin(async move {
            let call = v1::GetBookingRequestRequest { name };
            client.get_booking_request(call).await?;
            Ok(())
        })
    }
}
