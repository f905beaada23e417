//! One request: where it stands, its messages as a timeline, its history.

use std::io::{self, Write, stdout};

use prost_reflect::DynamicMessage;
use serde::Serialize;

use super::connect::{Connection, connect};
use super::due::{cause, channel, kind};
use super::failure::Failure;
use super::print::{Tone, full, json, local, print_pretty, print_table, table, toned, words};
use super::worklist::strip;
use crate::config::client::{Output, Server};
use crate::contract::v1;
use crate::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use crate::contract::v1::care_unit_settings_service_client::CareUnitSettingsServiceClient;

/// The request, as it is printed in JSON.
#[derive(Serialize)]
struct Shown {
    #[serde(rename = "bookingRequest")]
    request: DynamicMessage,
    history: Vec<DynamicMessage>,
}

/// Prints one request.
///
/// # Errors
///
/// A call fails, as when there is no such request.
pub async fn show(server: &Server, output: Output, name: &str) -> Result<(), Failure> {
    let connection = connect(server).await?;
    let mut client = BookingRequestServiceClient::new(connection.clone());
    let call = v1::GetBookingRequestRequest { name: full(name) };
    let answer = client.get_booking_request(call).await?.into_inner();
    let mut request = answer.booking_request.unwrap_or_default();
    let mut history = history(client, &request.name).await?;
    if !output.personal_data {
        strip(&mut request);
        history.iter_mut().for_each(strip_entry);
    }
    if output.json {
        let entries = history.iter();
        let entries = entries.map(|it| json("careinvitation.v1.HistoryEntry", it));
        let shown = Shown {
            request: json("careinvitation.v1.BookingRequest", &request),
            history: entries.collect(),
        };
        return Ok(print_pretty(&shown)?);
    }
    let paused_until = paused_until(connection, &request.name).await?;
    print_facts(output, &request, paused_until)?;
    print_messages(output, &request)?;
    Ok(print_history(output, &history)?)
}

async fn history(
    mut client: BookingRequestServiceClient<Connection>,
    name: &str,
) -> Result<Vec<v1::HistoryEntry>, Failure> {
    let (mut entries, mut page_token) = (Vec::new(), String::new());
    loop {
        let call = v1::ListHistoryRequest {
            name: name.to_owned(),
            page_size: 500,
            page_token,
        };
        let page = client.list_history(call).await?.into_inner();
        entries.extend(page.entries);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(entries);
        }
    }
}

/// Takes the texts of staff out of an entry of the history. What a consumer said about a message stays.
fn strip_entry(entry: &mut v1::HistoryEntry) {
    if entry.notification.is_empty() {
        entry.comment.clear();
    }
    if let Some(booking) = &mut entry.booking {
        booking.override_reason.clear();
    }
}

/// Returns until when the care unit of a request is paused, which stops its messages too; empty when it is not.
async fn paused_until(connection: Connection, name: &str) -> Result<String, Failure> {
    let unit = name.split("/bookingRequests/").next().unwrap_or_default();
    let call = v1::GetCareUnitSettingsRequest {
        name: format!("{unit}/settings"),
    };
    let mut client = CareUnitSettingsServiceClient::new(connection);
    let answer = client.get_care_unit_settings(call).await?.into_inner();
    let settings = answer.care_unit_settings.unwrap_or_default();
    Ok(local(settings.paused_until.as_ref()))
}

fn print_facts(
    output: Output,
    request: &v1::BookingRequest,
    paused_until: String,
) -> io::Result<()> {
    let mut table = table(output, &[]);
    let mut add = |name: &str, text: String, tone: Tone| {
        if !text.is_empty() {
            table.add_row([toned(name.to_owned(), Tone::Plain), toned(text, tone)]);
        }
    };
    add("request", request.name.clone(), Tone::Plain);
    add(
        "state",
        words(request.state().as_str_name(), "STATE_"),
        Tone::Plain,
    );
    let reason = words(request.cancel_reason().as_str_name(), "CANCEL_REASON_");
    add("cancelled because", reason, Tone::Plain);
    let invitation = request.care_invitation.clone().unwrap_or_default();
    let hold = words(invitation.hold_reason().as_str_name(), "HOLD_REASON_");
    add("held", hold, Tone::Warning);
    add(
        "waits for patient until",
        invitation.wait_until_date.clone(),
        Tone::Plain,
    );
    add("care unit paused until", paused_until, Tone::Warning);
    let patient = request.patient.clone().unwrap_or_default();
    add("patient", patient.personal_id.clone(), Tone::Plain);
    let protection = words(patient.protection().as_str_name(), "PROTECTION_");
    add("protection", protection, Tone::Warning);
    let visit = request.visit_type.clone().unwrap_or_default();
    let visit_kind = words(request.visit_kind().as_str_name(), "VISIT_KIND_");
    let visit = format!("{visit_kind}, {} {}", visit.code, visit.display_name);
    add("visit", visit.trim_end().to_owned(), Tone::Plain);
    add("purpose", request.purpose.clone(), Tone::Plain);
    let period = request
        .constraints
        .as_ref()
        .and_then(|it| it.requested_period.as_ref());
    let period = period.map(|it| format!("{} to {}", it.start_date, it.end_date));
    add("period", period.unwrap_or_default(), Tone::Plain);
    let booking = request.booking.clone().unwrap_or_default();
    add("booked", local(booking.start_time.as_ref()), Tone::Good);
    add(
        "may book since",
        local(invitation.bookable_since.as_ref()),
        Tone::Plain,
    );
    add(
        "no response at",
        local(invitation.no_response_time.as_ref()),
        Tone::Plain,
    );
    add(
        "care guarantee",
        request.care_guarantee_date.clone(),
        Tone::Plain,
    );
    for warning in request.warnings() {
        add(
            "warning",
            words(warning.as_str_name(), "WARNING_"),
            Tone::Warning,
        );
    }
    let actions = request.allowed_actions();
    let actions: Vec<_> = actions
        .map(|it| words(it.as_str_name(), "ACTION_"))
        .collect();
    add("may now", actions.join(", "), Tone::Plain);
    print_table(&mut table)
}

fn print_messages(output: Output, request: &v1::BookingRequest) -> io::Result<()> {
    let Some(invitation) = &request.care_invitation else {
        return Ok(());
    };
    let headings = [
        "MESSAGE",
        "ROUND",
        "DUE",
        "CHANNEL",
        "STATE",
        "HANDED OVER",
        "READ",
        "CAUSE",
    ];
    let mut table = table(output, &headings);
    for message in &invitation.notifications {
        table.add_row([
            toned(kind(message), Tone::Plain),
            toned(message.round.to_string(), Tone::Plain),
            toned(local(message.due_time.as_ref()), Tone::Plain),
            toned(channel(message), Tone::Plain),
            toned(
                words(message.state().as_str_name(), "STATE_"),
                tone(message),
            ),
            toned(local(message.send_time.as_ref()), Tone::Plain),
            toned(local(message.read_time.as_ref()), Tone::Plain),
            toned(cause(message), Tone::Plain),
        ]);
    }
    writeln!(stdout())?;
    print_table(&mut table)
}

fn tone(message: &v1::Notification) -> Tone {
    match message.state() {
        v1::notification::State::Sent => Tone::Good,
        v1::notification::State::Parked | v1::notification::State::Skipped => Tone::Warning,
        v1::notification::State::Unspecified
        | v1::notification::State::Projected
        | v1::notification::State::Scheduled
        | v1::notification::State::Leased
        | v1::notification::State::Dispatching
        | v1::notification::State::Cancelled => Tone::Plain,
    }
}

fn print_history(output: Output, history: &[v1::HistoryEntry]) -> io::Result<()> {
    let mut table = table(output, &["TIME", "WHAT HAPPENED", "BY", "STATE", "MORE"]);
    for entry in history {
        table.add_row([
            local(entry.event_time.as_ref()),
            words(entry.event().as_str_name(), "HISTORY_EVENT_"),
            entry.actor.clone(),
            words(entry.state().as_str_name(), "STATE_"),
            more(entry),
        ]);
    }
    writeln!(stdout())?;
    print_table(&mut table)
}

/// Returns what an entry says beside its event: reasons, the fields that changed, comments.
fn more(entry: &v1::HistoryEntry) -> String {
    let changed = entry.changed_fields.join(", ");
    let parts = [
        words(entry.change_reason().as_str_name(), "CHANGE_REASON_"),
        words(entry.cancel_reason().as_str_name(), "CANCEL_REASON_"),
        words(entry.contact_outcome().as_str_name(), "CONTACT_OUTCOME_"),
        words(entry.cause().as_str_name(), "NOTIFICATION_CAUSE_"),
        changed,
        entry.comment.clone(),
    ];
    let parts: Vec<String> = parts.into_iter().filter(|it| !it.is_empty()).collect();
    parts.join("; ")
}
