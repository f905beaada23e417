//! One care unit with its requests as they are after some weeks, made by the service itself: most
//! are invited, with a first message sent and a reminder to come; some wait, some are booked.

use care_invitation::contract::v1;

use crate::callers::{Callers, FILLERS};
use crate::consumer::Consumers;
use crate::database::{Database, Kind};
use crate::make::{self, Period};
use crate::server::{Clock, Server};
use crate::{Bench, Outcome, load, sql};

/// How many requests the unit has.
pub const REQUESTS: usize = 10_000;
/// Of ten: how many are invited and have had their first message.
const SENT: usize = 6;
/// How many consumers hand the first messages over.
const CONSUMERS: usize = 4;

/// Fills an empty database with the requests of unit 0.
pub async fn fill(bench: &Bench, database: &Database) -> Outcome<()> {
    let server = Server::start(&bench.settings, &database.url(), Clock::Real).await?;
    let callers = Callers::connect(&server, FILLERS).await?;
    load::each(REQUESTS, FILLERS, move |number| {
        one(callers.clone(), number as u64)
    })
    .await?;
    let mut consumers = Consumers::start(server.channels(CONSUMERS).await?, |_, _| {});
    let progress = std::sync::Arc::clone(&consumers.progress);
    let sent = (REQUESTS / 10 * SENT) as u64;
    consumers.until(progress.acknowledged(sent)).await?;
    drop(consumers);
    server.stop().await?;
    if database.kind() == Kind::Postgresql {
        // As it does itself within a minute.
        let connection = sql::connect(&database.url()).await?;
        sql::run(&connection, "VACUUM ANALYZE").await?;
        connection.close().await?;
    }
    Ok(())
}

async fn one(callers: Callers, number: u64) -> Outcome<()> {
    let mut client = callers.client(number as usize);
    // Lists are in the order of the first day, which is not the same for all.
    let days = number / 10 % 25;
    let period = match number % 10 {
        // Waiting to be booked, or with their first message to come.
        1 | 8 | 9 => Period::later().delayed(days),
        _ => Period::at_once().delayed(days),
    };
    let mut call = make::create(make::unit_name(0), number, period);
    if let (1, Some(request)) = (number % 10, &mut call.booking_request) {
        request.invitation = false;
    }
    let created = client.create_booking_request(call).await?.into_inner();
    if number.is_multiple_of(10) {
        let v1::BookingRequest { name, .. } = created.booking_request.unwrap_or_default();
        client
            .record_booking(make::book(name, number, period))
            .await?;
    }
    Ok(())
}
