//! Output of the commands: tables that fit the terminal, JSON, times and names as people read them.

use std::io::{self, Write, stdout};
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use comfy_table::{
    Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Table, Width, presets,
};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use prost_types::Timestamp;
use serde::Serialize;

use crate::config::client::Output;
use crate::contract::DESCRIPTOR_SET;
use crate::domain::calendar::{Instant, civil_date, local_clock};

/// The messages of the contract, by their names.
static MESSAGES: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTOR_SET).expect("it was encoded by the build"));

/// Width of a column that an id fits into, with the space after it.
const ID_WIDTH: u16 = 38;

/// Attention that a cell asks for, which its colour shows on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing.
    Plain,
    /// Done well.
    Good,
    /// Somebody should look.
    Warning,
}

/// Returns an empty table with these headings.
pub fn table(output: Output, headings: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    if !output.may_colour {
        // Without a terminal there are no colours, and no width unless it is set.
        let width = table.width();
        table.force_no_tty();
        if let Some(width) = width {
            table.set_width(width);
        }
    }
    if !headings.is_empty() {
        let cells = headings
            .iter()
            .map(|it| Cell::new(it).add_attribute(Attribute::Bold));
        table.set_header(cells);
    }
    table
}

/// Breaks the names in a column between care unit and id, where the terminal is too narrow for both.
pub fn break_names(table: &mut Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_delimiter('/');
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(ID_WIDTH)));
    }
}

/// Returns a cell in the colour of its tone.
pub fn toned(text: String, tone: Tone) -> Cell {
    match tone {
        Tone::Plain => Cell::new(text),
        Tone::Good => Cell::new(text).fg(Color::Green),
        Tone::Warning => Cell::new(text).fg(Color::Yellow),
    }
}

/// Prints a table, without the blanks at the ends of its lines.
pub fn print_table(table: &mut Table) -> io::Result<()> {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    writeln!(stdout(), "{}", table.trim_fmt())
}

/// Prints a value as one line of JSON.
pub fn print_json(value: &impl Serialize) -> io::Result<()> {
    let line = serde_json::to_string(value).map_err(io::Error::from)?;
    writeln!(stdout(), "{line}")
}

/// Prints a value as JSON over several lines.
pub fn print_pretty(value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    writeln!(stdout(), "{text}")
}

/// Returns a message of the contract in the form that protobuf gives it in JSON.
pub fn json(name: &str, message: &impl Message) -> DynamicMessage {
    let bytes = message.encode_to_vec();
    DynamicMessage::decode(message_named(name), &*bytes).expect("it was encoded here")
}

/// Returns the descriptor of a message of the contract.
pub fn message_named(name: &str) -> MessageDescriptor {
    let descriptor = MESSAGES.get_message_by_name(name);
    descriptor.expect("the contract has the message")
}

/// Returns an instant as it is on the wire.
pub fn timestamp(at: Instant) -> Timestamp {
    Timestamp {
        seconds: at.timestamp(),
        nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0),
    }
}

/// Returns an instant as local time in Sweden; empty when there is none.
pub fn local(at: Option<&Timestamp>) -> String {
    let at = at.and_then(|it| {
        let nanos = u32::try_from(it.nanos).ok()?;
        DateTime::<Utc>::from_timestamp(it.seconds, nanos)
    });
    at.map(local_instant).unwrap_or_default()
}

/// Returns an instant as local time in Sweden.
pub fn local_instant(at: Instant) -> String {
    format!("{} {}", civil_date(at), local_clock(at).format("%H:%M"))
}

/// Returns the name of an enum's value in plain words: without the prefix of its enum, in lower case. That
/// of zero, which says that there is none, is empty.
pub fn words(name: &str, prefix: &str) -> String {
    let name = name.strip_prefix(prefix).unwrap_or(name);
    match name {
        "UNSPECIFIED" => String::new(),
        name => name.to_lowercase().replace('_', " "),
    }
}

/// Returns a request's name without the names of its collections, as in `SE2321000131-1003/{uuid}`.
pub fn short(name: &str) -> String {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        ["careUnits", unit, "bookingRequests", id, ..] => format!("{unit}/{id}"),
        _ => name.to_owned(),
    }
}

/// Returns the full name of a request that is given with or without the names of its collections.
pub fn full(name: &str) -> String {
    match name.split_once('/') {
        Some((unit, id)) if !id.contains('/') => format!("careUnits/{unit}/bookingRequests/{id}"),
        Some(_) | None => name.to_owned(),
    }
}
