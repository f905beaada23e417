//! The lines of a file of requests, CSV or NDJSON, and the create calls that they say.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use csv::StringRecord;
use prost::Message;
use prost_reflect::{DynamicMessage, EnumDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use super::super::care_units::name;
use super::super::failure::Failure;
use super::super::print::message_named;
use crate::config::client::Import;
use crate::contract::v1;

/// Message of a line.
const CALL: &str = "careinvitation.v1.CreateBookingRequestRequest";
/// Field that most columns are of, and that they may leave out.
const REQUEST: &str = "booking_request";
/// Name under which a file of refused lines says why, which an import of that file skips.
pub const REFUSED: &str = "refused";

/// A line as it was read.
pub struct Line {
    /// Its number, from 1; in CSV that of the record, without the headings.
    pub number: u64,
    /// Its text.
    pub text: Text,
    call: Option<Result<v1::CreateBookingRequestRequest, String>>,
}

/// Text of a line.
pub enum Text {
    /// A record of CSV.
    Csv(StringRecord),
    /// A line of NDJSON.
    Json(String),
}

impl Line {
    /// Takes the call that the line says, or why it says none. The reason may quote the line.
    pub fn take_call(&mut self) -> Result<v1::CreateBookingRequestRequest, String> {
        self.call.take().expect("it is taken once")
    }
}

/// The lines of a file. Empty ones are left out. They end with the first failure.
pub struct Lines {
    source: Source,
    has_failed: bool,
    number: u64,
    care_unit: Option<String>,
}

enum Source {
    Csv(Box<csv::Reader<File>>, StringRecord),
    Json(io::Lines<BufReader<File>>),
}

impl Lines {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// It cannot be read as often as an import does, or its columns are not those of a create call.
    pub fn open(asked: &Import) -> Result<Self, Failure> {
        let path = &asked.file;
        let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        if !metadata.is_file() {
            return Err(unreadable(path, &"it is no regular file"));
        }
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        let source = match asked.is_csv() {
            true => {
                let mut reader = csv::ReaderBuilder::new()
                    .delimiter(delimiter(path)?)
                    .trim(csv::Trim::All)
                    .from_reader(file);
                let headings = reader.headers().map_err(|error| unreadable(path, &error))?;
                let headings = headings.clone();
                check_headings(&headings)?;
                Source::Csv(Box::new(reader), headings)
            }
            false => Source::Json(BufReader::new(file).lines()),
        };
        Ok(Self {
            source,
            has_failed: false,
            number: 0,
            care_unit: asked.care_unit.as_deref().map(name),
        })
    }

    /// Returns the headings of CSV.
    pub fn headings(&self) -> Option<StringRecord> {
        match &self.source {
            Source::Csv(_, headings) => Some(headings.clone()),
            Source::Json(_) => None,
        }
    }

    /// Reads the next line, none after a failure: reading on may fail for ever.
    fn read(&mut self) -> Option<Result<Text, Failure>> {
        if self.has_failed {
            return None;
        }
        let read = self.read_source();
        self.has_failed = matches!(read, Some(Err(_)));
        read
    }

    fn read_source(&mut self) -> Option<Result<Text, Failure>> {
        match &mut self.source {
            Source::Csv(reader, _) => {
                let mut record = StringRecord::new();
                match reader.read_record(&mut record) {
                    Ok(true) => Some(Ok(Text::Csv(record))),
                    Ok(false) => None,
                    Err(error) => Some(Err(Failure::Input(format!("the file is no CSV: {error}")))),
                }
            }
            Source::Json(lines) => Some(
                lines
                    .next()?
                    .map(Text::Json)
                    .map_err(|error| Failure::Input(format!("the file cannot be read: {error}"))),
            ),
        }
    }

    fn call(&self, text: &Text) -> Result<v1::CreateBookingRequestRequest, String> {
        let value = match (text, &self.source) {
            (Text::Csv(record), Source::Csv(_, headings)) => of_record(headings, record)?,
            (Text::Json(text), _) => {
                serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?
            }
            (Text::Csv(_), Source::Json(_)) => unreachable!("records come from CSV"),
        };
        let mut call = of_json(value)?;
        if let (true, Some(unit)) = (call.parent.is_empty(), &self.care_unit) {
            call.parent.clone_from(unit);
        }
        call.parent = match call.parent.is_empty() {
            true => return Err("names no care unit, and --care-unit does not either".to_owned()),
            false => name(&call.parent),
        };
        Ok(call)
    }
}

impl Iterator for Lines {
    type Item = Result<Line, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let text = match self.read()? {
                Ok(text) => text,
                Err(failure) => return Some(Err(failure)),
            };
            self.number += 1;
            let is_empty = match &text {
                Text::Csv(record) => record.iter().all(str::is_empty),
                Text::Json(line) => line.trim().is_empty(),
            };
            if is_empty {
                continue;
            }
            let call = Some(self.call(&text));
            let number = self.number;
            return Some(Ok(Line { number, text, call }));
        }
    }
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::File {
        path: path.to_owned(),
        why: error.to_string(),
    }
}

/// Returns the sign between columns: a semicolon where the headings have one, as Swedish spreadsheets write it.
fn delimiter(path: &Path) -> Result<u8, Failure> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let mut headings = String::new();
    let read = BufReader::new(file).read_line(&mut headings);
    read.map_err(|error| unreadable(path, &error))?;
    Ok(match headings.contains(';') {
        true => b';',
        false => b',',
    })
}

/// Refuses columns that are no fields, all of them named.
fn check_headings(headings: &StringRecord) -> Result<(), Failure> {
    let call = message_named(CALL);
    let unknown = headings.iter().filter(|it| !it.starts_with(REFUSED));
    let unknown = unknown.filter(|it| field(&call, it).is_none());
    let unknown: Vec<&str> = unknown.collect();
    match unknown.is_empty() {
        true => Ok(()),
        false => Err(Failure::Input(format!(
            "these columns are no fields of a create call with one value: {}",
            unknown.join(", ")
        ))),
    }
}

/// Returns the kind of the field that a column is of, if it has one value.
fn field(call: &MessageDescriptor, column: &str) -> Option<Kind> {
    let mut message = call.clone();
    let path = path(column);
    let (last, above) = path.split_last()?;
    for name in above {
        let field = message.get_field_by_name(name)?;
        message = match field.kind() {
            Kind::Message(inner) if !field.is_list() => inner,
            _ => return None,
        };
    }
    let field = message.get_field_by_name(last)?;
    match field.kind() {
        _ if field.is_list() => None,
        Kind::Message(inner) if inner.full_name() != "google.protobuf.Timestamp" => None,
        kind => Some(kind),
    }
}

/// Returns the names on the way to a column's field. Those of the request itself may be left out.
fn path(column: &str) -> Vec<&str> {
    let mut path: Vec<&str> = column.split('.').collect();
    let is_of_call = matches!(
        path[0],
        REQUEST | "parent" | "request_id" | "allow_duplicate" | "repeat"
    );
    if !is_of_call {
        path.insert(0, REQUEST);
    }
    path
}

/// Returns the call that a record says, as JSON. Empty columns are not set.
fn of_record(headings: &StringRecord, record: &StringRecord) -> Result<Value, String> {
    let call = message_named(CALL);
    let mut said = Map::new();
    for (column, text) in headings.iter().zip(record) {
        if text.is_empty() || column.starts_with(REFUSED) {
            continue;
        }
        let kind = field(&call, column).expect("the headings were checked");
        let value = value(&kind, text).map_err(|why| format!("{column}: {why}"))?;
        let path = path(column);
        let (last, above) = path.split_last().expect("a name");
        let place = above.iter().try_fold(&mut said, |at, name| {
            let inner = at.entry(*name).or_insert_with(|| Value::Object(Map::new()));
            inner.as_object_mut()
        });
        let place = place.ok_or_else(|| format!("{column}: stands inside another column"))?;
        place.insert((*last).to_owned(), value);
    }
    Ok(Value::Object(said))
}

fn value(kind: &Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Bool => match text.to_lowercase().as_str() {
            "true" | "yes" | "ja" | "1" => Ok(Value::Bool(true)),
            "false" | "no" | "nej" | "0" => Ok(Value::Bool(false)),
            _ => Err("must be yes or no".to_owned()),
        },
        Kind::Enum(values) => Ok(Value::String(enum_name(values, text))),
        Kind::Int32 | Kind::Int64 => {
            let number: Result<i64, _> = text.parse();
            number
                .map(Value::from)
                .map_err(|_| "must be a number".to_owned())
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// Returns the full name of an enum's value that may be written without its prefix, in any case.
fn enum_name(values: &EnumDescriptor, text: &str) -> String {
    let text = text.to_uppercase().replace([' ', '-'], "_");
    let zero = values.get_value(0);
    let zero = zero.map(|it| it.name().to_owned()).unwrap_or_default();
    let prefix = zero.strip_suffix("UNSPECIFIED").unwrap_or_default();
    match text.starts_with(prefix) {
        true => text,
        false => format!("{prefix}{text}"),
    }
}

/// Returns the call that a JSON object says.
fn of_json(mut value: Value) -> Result<v1::CreateBookingRequestRequest, String> {
    if let Some(said) = value.as_object_mut() {
        said.remove(REFUSED);
    }
    let message = DynamicMessage::deserialize(message_named(CALL), value);
    let message = message.map_err(|error| error.to_string())?;
    let call = v1::CreateBookingRequestRequest::decode(&*message.encode_to_vec());
    Ok(call.expect("it was encoded here"))
}
