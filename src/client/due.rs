//! Messages that wait: due, planned or parked. They are read and never leased.

use std::io::{Write, stderr};

use prost_types::Timestamp;

use super::care_units::care_units;
use super::connect::connect;
use super::failure::Failure;
use super::print::{
    Tone, break_names, json, local, print_json, print_table, short, table, timestamp, toned, words,
};
use crate::config::client::{Due, Output, Server, Until, Waiting};
use crate::contract::v1;
use crate::contract::v1::notification_service_client::NotificationServiceClient;
use crate::domain::calendar::end_of;

/// Messages of a page.
const PAGE_SIZE: usize = 500;

/// Prints messages that wait, the earliest due first.
///
/// # Errors
///
/// A call fails.
pub async fn due(server: &Server, output: Output, asked: &Due) -> Result<(), Failure> {
    let connection = connect(server).await?;
    let units = care_units(&connection, &asked.care_units).await?;
    let headings = [
        "DUE", "REQUEST", "MESSAGE", "CHANNEL", "STATE", "ATTEMPTS", "CAUSE",
    ];
    let mut rows = table(output, &headings);
    break_names(&mut rows, 1);
    let mut client = NotificationServiceClient::new(connection);
    let (mut page_token, mut left) = (String::new(), asked.limit);
    while left > 0 && !units.is_empty() {
        let call = v1::ListNotificationsRequest {
            care_units: units.clone(),
            states: asked.states.iter().map(|it| number(*it)).collect(),
            channels: Vec::new(),
            due_before_time: asked.until.map(end),
            page_size: i32::try_from(left.min(PAGE_SIZE)).expect("it is small"),
            page_token,
        };
        let page = client.list_notifications(call).await?.into_inner();
        for message in page.notifications.into_iter().take(left) {
            left -= 1;
            match output.json {
                true => print_json(&json("careinvitation.v1.Notification", &message))?,
                false => drop(rows.add_row(row(&message))),
            }
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if !output.json {
        print_table(&mut rows)?;
    }
    if !page_token.is_empty() {
        let limit = asked.limit;
        writeln!(stderr(), "there are more: --limit prints more than {limit}")?;
    }
    Ok(())
}

fn row(message: &v1::Notification) -> Vec<comfy_table::Cell> {
    let tone = match message.state() {
        v1::notification::State::Parked => Tone::Warning,
        v1::notification::State::Sent => Tone::Good,
        v1::notification::State::Unspecified
        | v1::notification::State::Projected
        | v1::notification::State::Scheduled
        | v1::notification::State::Leased
        | v1::notification::State::Dispatching
        | v1::notification::State::Skipped
        | v1::notification::State::Cancelled => Tone::Plain,
    };
    vec![
        toned(local(message.due_time.as_ref()), Tone::Plain),
        toned(short(&message.name), Tone::Plain),
        toned(kind(message), Tone::Plain),
        toned(channel(message), Tone::Plain),
        toned(words(message.state().as_str_name(), "STATE_"), tone),
        toned(message.delivery_attempt.to_string(), Tone::Plain),
        toned(cause(message), Tone::Warning),
    ]
}

/// Returns what a message says, as in `reminder 2`.
pub fn kind(message: &v1::Notification) -> String {
    let kind = words(message.kind().as_str_name(), "NOTIFICATION_KIND_");
    match message.sequence {
        0 => kind,
        sequence => format!("{kind} {sequence}"),
    }
}

/// Returns the channel of a message.
pub fn channel(message: &v1::Notification) -> String {
    words(message.channel().as_str_name(), "DELIVERY_CHANNEL_")
}

/// Returns why a message has its state, with the consumer's own words.
pub fn cause(message: &v1::Notification) -> String {
    let cause = words(message.cause().as_str_name(), "NOTIFICATION_CAUSE_");
    match message.cause_detail.is_empty() {
        true => cause,
        false => format!("{cause}: {}", message.cause_detail),
    }
}

fn end(until: Until) -> Timestamp {
    let at = match until {
        Until::EndOf(date) => end_of(date),
        Until::Instant(at) => at,
    };
    timestamp(at)
}

fn number(state: Waiting) -> i32 {
    let state = match state {
        Waiting::Scheduled => v1::notification::State::Scheduled,
        Waiting::Leased => v1::notification::State::Leased,
        Waiting::Dispatching => v1::notification::State::Dispatching,
        Waiting::Parked => v1::notification::State::Parked,
    };
    state.into()
}
