//! Imports of files of requests: each line is a create call. Batches, and single lines, are repeated while the server cannot
//! answer, and a file can be imported again: the id of each call follows from what its line says.

pub mod line;
mod refused;

use std::collections::HashSet;
use std::io::{Write, stdout};
use std::time::Duration;

use prost::Message;
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use super::connect::{Connection, connect};
use super::failure::Failure;
use super::print::{print_json, words};
use crate::config::client::{Import, Output, Server};
use crate::contract::v1;
use crate::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use crate::telemetry::Progress;
use line::{Line, Lines};
use refused::RefusedFile;

/// Most requests of a call.
const BATCH_MAX: usize = 200;
/// Most bytes of a call, below the server's limit of 4 MB.
const BATCH_BYTES_MAX: usize = 3_000_000;
/// Pauses before another attempt at a call that the server could not answer, or at those of its lines.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// Counts of lines, by their outcomes.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Imported {
    created: u64,
    done_before: u64,
    refused: u64,
}

/// Creates what the lines of a file say, and writes those that are refused into another.
///
/// # Errors
///
/// The file cannot be read, the server cannot be reached or does not answer: the same command goes on from there. Or lines
/// were refused.
pub async fn import(server: &Server, output: Output, asked: &Import) -> Result<(), Failure> {
    let total = Lines::open(asked)?.count();
    let lines = Lines::open(asked)?;
    let mut run = Run {
        client: BookingRequestServiceClient::new(connect(server).await?),
        source: asked.source.clone(),
        seen: HashSet::new(),
        batch: Vec::new(),
        batch_bytes: 0,
        refused: RefusedFile::new(asked, lines.headings())?,
        imported: Imported::default(),
        progress: Progress::default(),
        total: u64::try_from(total).unwrap_or(u64::MAX),
    };
    let outcome = run.all(lines).await;
    run.progress.end();
    // What was done is said even when the rest failed.
    let Imported {
        created,
        done_before,
        refused,
    } = run.imported;
    match output.json {
        true => print_json(&run.imported)?,
        false => writeln!(
            stdout(),
            "created {created} requests, {done_before} were there from an import before, refused {refused} lines"
        )?,
    }
    outcome?;
    match run.refused.path() {
        Some(path) => Err(Failure::RefusedLines {
            count: refused,
            path,
        }),
        None => Ok(()),
    }
}

/// A line and its call.
type Entry = (Line, v1::CreateBookingRequestRequest);

/// An import that runs.
struct Run {
    client: BookingRequestServiceClient<Connection>,
    source: String,
    /// Ids of the calls so far.
    seen: HashSet<Uuid>,
    batch: Vec<Entry>,
    batch_bytes: usize,
    refused: RefusedFile,
    imported: Imported,
    progress: Progress,
    total: u64,
}

impl Run {
    async fn all(&mut self, lines: Lines) -> Result<(), Failure> {
        for line in lines {
            let mut line = line?;
            match line.take_call() {
                Ok(call) => self.add(line, call).await?,
                Err(reason) => self.refuse(&line, &reason)?,
            }
        }
        self.send().await
    }

    /// Adds a call to the batch, which is sent when it is full.
    async fn add(
        &mut self,
        line: Line,
        mut call: v1::CreateBookingRequestRequest,
    ) -> Result<(), Failure> {
        let (id, repeated) = match call.request_id.is_empty() {
            true => {
                let id = request_id(&self.source, &call);
                call.request_id = id.to_string();
                (Some(id), "an earlier line says the same")
            }
            // The server says what is wrong with one that is none.
            false => (
                Uuid::try_parse(&call.request_id).ok(),
                "an earlier line has the same request_id",
            ),
        };
        if id.is_some_and(|it| !self.seen.insert(it)) {
            return self.refuse(&line, repeated);
        }
        let bytes = call.encoded_len();
        if self.batch.len() == BATCH_MAX || BATCH_BYTES_MAX < self.batch_bytes + bytes {
            self.send().await?;
        }
        self.batch_bytes += bytes;
        self.batch.push((line, call));
        Ok(())
    }

    /// Sends the batch, and counts what came of its lines. While the server cannot answer it is repeated, and so are those
    /// of its lines for which it could not.
    async fn send(&mut self) -> Result<(), Failure> {
        let mut batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let mut pauses = PAUSES.iter();
        while !batch.is_empty() {
            let failure = match self.call(&batch).await {
                Ok(results) => self.count(&mut batch, results)?,
                Err(failure) => Some(failure),
            };
            self.show();
            let Some(failure) = failure else {
                break;
            };
            match pauses.next() {
                Some(pause) if failure.is_temporary() => tokio::time::sleep(*pause).await,
                Some(_) | None => return Err(failure),
            }
        }
        Ok(())
    }

    async fn call(&mut self, batch: &[Entry]) -> Result<Vec<v1::BookingRequestResult>, Failure> {
        let requests = batch.iter().map(|(_, call)| call.clone());
        let call = v1::BatchCreateBookingRequestsRequest {
            requests: requests.collect(),
        };
        let answer = self.client.batch_create_booking_requests(call).await?;
        Ok(answer.into_inner().results)
    }

    /// Counts what came of the lines of a batch, and leaves those in it for which the server could not answer. Returns
    /// the failure of the last of these.
    fn count(
        &mut self,
        batch: &mut Vec<Entry>,
        results: Vec<v1::BookingRequestResult>,
    ) -> Result<Option<Failure>, Failure> {
        let mut failure = None;
        for ((line, call), result) in std::mem::take(batch).into_iter().zip(results) {
            match result.error {
                Some(error) => {
                    let reason = reason(&error);
                    let failed = Failure::with_code(error.code, &reason);
                    match failed.is_temporary() {
                        true => {
                            failure = Some(failed);
                            batch.push((line, call));
                        }
                        false => self.refuse(&line, &reason)?,
                    }
                }
                None if result.replayed => self.imported.done_before += 1,
                None => self.imported.created += 1,
            }
        }
        Ok(failure)
    }

    fn refuse(&mut self, line: &Line, reason: &str) -> Result<(), Failure> {
        self.imported.refused += 1;
        self.refused.add(line, reason)?;
        self.show();
        Ok(())
    }

    fn show(&mut self) {
        let Imported {
            created,
            done_before,
            refused,
        } = self.imported;
        let done = created + done_before + refused;
        self.progress.show("lines", done, Some(self.total));
    }
}

/// Returns the id of a call, which follows from its source and from what it says.
fn request_id(source: &str, call: &v1::CreateBookingRequestRequest) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(source.as_bytes());
    hash.update([0]);
    hash.update(call.encode_to_vec());
    let hash = hash.finalize();
    let bytes = hash.first_chunk().expect("a hash has 32 bytes");
    Builder::from_random_bytes(*bytes).into_uuid()
}

/// Returns why an item was refused. Paths begin at the line's own call.
fn reason(error: &v1::ElementError) -> String {
    let name = words(error.reason().as_str_name(), "ERROR_REASON_");
    let fields = error.field_violations.iter().map(|it| {
        let path = it
            .field
            .split_once("].")
            .map_or(&*it.field, |(_, path)| path);
        format!("{path}: {}", it.description)
    });
    let fields: Vec<String> = fields.collect();
    match fields.is_empty() {
        true => format!("{name}: {}", error.message),
        false => format!("{name}: {}", fields.join("; ")),
    }
}
