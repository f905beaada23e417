//! StreamChanges: what happens to requests, told once and in order, from now on or after a cursor.

mod late;
mod replicas;
mod resume;
mod time;

use std::time::{Duration, Instant};

use care_invitation::contract::v1;
use care_invitation::contract::v1::HistoryEvent as Event;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use prost::Message;
use tonic::codegen::{Body, Bytes, StdError};
use tonic::{Code, Status, Streaming};

use crate::clock::started_again;
use crate::harness::{Harness, bad_fields, metadata, refusal, within};
use crate::make;
use crate::wire::{Wire, frame};
use crate::worklist_user;

const NOW: &str = "2026-03-02T09:00:00Z";
const STREAM: &str = "/careinvitation.v1.BookingRequestService/StreamChanges";
/// How soon after its commit a change is told.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// One who reads a stream, and keeps the cursor of what it has read.
pub struct Reader {
    messages: Streaming<v1::StreamChangesResponse>,
    /// Changes that have come and were not taken yet.
    waiting: std::collections::VecDeque<v1::Change>,
    pub cursor: String,
}

/// The call for the changes of all requests after a cursor.
pub fn after(cursor: &str) -> v1::StreamChangesRequest {
    v1::StreamChangesRequest {
        care_units: vec!["careUnits/-".into()],
        after_cursor: cursor.into(),
        until_idle: false,
    }
}

impl Reader {
    /// Opens a stream, and waits until it has caught up or has told something.
    pub async fn open<T>(
        mut client: BookingRequestServiceClient<T>,
        call: v1::StreamChangesRequest,
    ) -> Result<Self, Status>
    where
        T: tonic::client::GrpcService<tonic::body::Body>,
        T::Error: Into<StdError>,
        T::ResponseBody: Body<Data = Bytes> + Send + 'static,
        <T::ResponseBody as Body>::Error: Into<StdError> + Send,
    {
        let answer = within(client.stream_changes(call)).await?;
        let mut reader = Self {
            messages: answer.into_inner(),
            waiting: Default::default(),
            cursor: String::new(),
        };
        assert!(reader.read().await?, "no stream is without a message");
        Ok(reader)
    }

    /// Opens a stream that begins now.
    pub async fn from_now(harness: &Harness) -> Self {
        let opened = Self::open(harness.requests(), after("")).await;
        opened.expect("a stream")
    }

    /// Reads a message; false at the end.
    async fn read(&mut self) -> Result<bool, Status> {
        let Some(message) = within(self.messages.message()).await? else {
            return Ok(false);
        };
        assert!(message.changes.len() <= 100 && message.cursor.len() <= 128);
        self.waiting.extend(message.changes);
        self.cursor = message.cursor;
        Ok(true)
    }

    /// The next change. The cursor may lie after it.
    pub async fn next(&mut self) -> Result<v1::Change, Status> {
        // Messages without changes come for ever.
        within(async {
            loop {
                if let Some(change) = self.waiting.pop_front() {
                    return Ok(change);
                }
                assert!(self.read().await?, "the stream has ended");
            }
        })
        .await
    }

    /// Reads the next change, in short.
    pub async fn told(&mut self) -> (Event, State, State) {
        short(&self.next().await.expect("a change"))
    }

    /// Reads everything up to the end of a stream that ends when it is idle.
    pub async fn rest(mut self) -> (Vec<v1::Change>, String) {
        while self.read().await.expect("no failure") {}
        (self.waiting.into(), self.cursor)
    }
}

/// What a change is, and the states around it.
pub fn short(change: &v1::Change) -> (Event, State, State) {
    (change.event(), change.previous_state(), change.state())
}

/// All changes after a cursor, and the cursor after them.
pub async fn until_idle(harness: &Harness, cursor: &str) -> (Vec<v1::Change>, String) {
    let call = v1::StreamChangesRequest {
        until_idle: true,
        ..after(cursor)
    };
    let reader = Reader::open(harness.requests(), call).await;
    reader.expect("a stream").rest().await
}

/// A new invitation to a period that begins far off, for a referral of its own.
pub async fn invited(harness: &Harness, referral: &str) -> String {
    let form = v1::BookingRequest {
        origin: Some(make::wire_referral(referral)),
        ..make::wire_form("2026-05-18", "2026-06-12")
    };
    let created = harness.create(make::wire_create(form)).await;
    created.expect("created").name
}

async fn booked(harness: &Harness, name: &str) {
    let call = make::wire_booking(name, "2026-05-20T08:00:00Z");
    harness.book(call).await.expect("booked");
}

/// The changes that entries of a history are told as, but for their etags and the states before.
pub async fn entries_of(harness: &Harness, name: &str) -> Vec<v1::Change> {
    let entries = harness.history(name).await.into_iter();
    let changes = entries.map(|entry| v1::Change {
        booking_request: name.to_owned(),
        event: entry.event,
        state: entry.state,
        notification: entry.notification,
        booking_id: entry.booking.unwrap_or_default().booking_id,
        event_time: entry.event_time,
        ..Default::default()
    });
    changes.collect()
}

/// A change without what the history does not show.
pub fn as_entry(change: v1::Change) -> v1::Change {
    v1::Change {
        etag: String::new(),
        previous_state: 0,
        ..change
    }
}

#[tokio::test]
async fn each_change_comes_with_its_revision_its_booking_and_the_states_around_it() {
    let harness = Harness::start(NOW).await;
    let mut reader = Reader::from_now(&harness).await;
    let name = invited(&harness, "R-1").await;
    let created = reader.next().await.expect("a change");
    let expected = v1::Change {
        booking_request: name.clone(),
        etag: "r1".into(),
        event: Event::CreateBookingRequest.into(),
        state: State::Invited.into(),
        event_time: Some(make::wire_at(NOW)),
        ..Default::default()
    };
    assert_eq!(created, expected);
    harness.advance("2026-03-02T09:01:00Z");
    booked(&harness, &name).await;
    let changes = [
        reader.next().await.expect("a change"),
        reader.next().await.expect("a change"),
    ];
    let [booked, cancelled] = &changes;
    let expected = v1::Change {
        etag: "r2".into(),
        event: Event::RecordBooking.into(),
        previous_state: State::Invited.into(),
        state: State::Booked.into(),
        booking_id: "B-1".into(),
        event_time: Some(make::wire_at("2026-03-02T09:01:00Z")),
        ..expected
    };
    assert_eq!(*booked, expected);
    assert!(cancelled.notification.starts_with(&name));
    assert_eq!(cancelled.etag, "r2");
    let expected = (Event::NotificationCancelled, State::Booked, State::Booked);
    assert_eq!(short(cancelled), expected);
    let told: Vec<_> = [created].into_iter().chain(changes).map(as_entry).collect();
    assert_eq!(told, entries_of(&harness, &name).await);
}

#[tokio::test]
async fn a_change_is_told_within_two_seconds() {
    let harness = Harness::start(NOW).await;
    let mut reader = Reader::from_now(&harness).await;
    for number in 0..5 {
        invited(&harness, &format!("R-{number}")).await;
        let committed = Instant::now();
        reader.next().await.expect("a change");
        assert!(
            committed.elapsed() < TOLD_WITHIN,
            "{:?}",
            committed.elapsed()
        );
    }
}

#[tokio::test]
async fn a_stream_of_some_care_units_tells_of_no_others() {
    let harness = Harness::start(NOW).await;
    let call = v1::StreamChangesRequest {
        care_units: vec!["careUnits/SE2321000016-P1".into()],
        ..after("")
    };
    let mut other = Reader::open(harness.requests(), call)
        .await
        .expect("a stream");
    let mut every = Reader::from_now(&harness).await;
    let here = invited(&harness, "R-1").await;
    let there = v1::CreateBookingRequestRequest {
        parent: "careUnits/SE2321000016-P1".into(),
        ..make::wire_create(make::wire_form("2026-05-18", "2026-06-12"))
    };
    let there = harness.create(there).await.expect("created").name;
    assert_eq!(other.next().await.expect("a change").booking_request, there);
    let mut told = Vec::new();
    for _ in 0..2 {
        told.push(every.next().await.expect("a change").booking_request);
    }
    told.sort();
    let mut expected = [here, there];
    expected.sort();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn bad_calls_name_their_fields_and_bad_cursors_are_refused() {
    let harness = Harness::start(NOW).await;
    let refused = async |care_units: &[&str], cursor: &str| {
        let call = v1::StreamChangesRequest {
            care_units: care_units.iter().map(ToString::to_string).collect(),
            ..after(cursor)
        };
        let opened = Reader::open(harness.requests(), call).await;
        opened.err().expect("a refusal")
    };
    for (units, field) in [
        (&[][..], "care_units"),
        (&["x"], "care_units[0]"),
        (&["careUnits/-", "careUnits/SE2321000016-P1"], "care_units"),
    ] {
        assert_eq!(bad_fields(&refused(units, "").await), [field]);
    }
    let expected = (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned());
    for cursor in ["1", "x", "00"] {
        assert_eq!(refusal(&refused(&["careUnits/-"], cursor).await), expected);
    }
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_cut_off_and_holds_nobody_back() {
    const REQUESTS: usize = 60;
    const ROUNDS: usize = 40;
    let harness = Harness::start(NOW).await;
    for number in 0..REQUESTS {
        invited(&harness, &format!("R-{number}")).await;
    }
    harness.advance("2026-03-02T09:01:00Z");
    let mut reader = Reader::from_now(&harness).await;
    // It reads nothing of the 600 KB that are told here.
    let wire = Wire::connect(harness.address).await;
    let mut slow = wire.begin(STREAM, &[]).await;
    slow.send_last(frame(0, &after("").encode_to_vec()));
    let mut told = 0;
    for round in 0..ROUNDS {
        let language = ["fi", "en"][round % 2];
        let changed = worklist_user::set_language(&harness, language).await;
        assert_eq!(changed.len(), REQUESTS);
        while told < (round + 1) * REQUESTS {
            let change = reader.next().await.expect("a change");
            told += usize::from(change.event() == Event::UpdatePatient);
        }
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    let end = slow.end().await;
    let expected = (Code::ResourceExhausted, "OVERLOADED".to_owned());
    assert_eq!(refusal(&end), expected);
    let name = invited(&harness, "after").await;
    let change = reader.next().await.expect("a change");
    assert_eq!(change.booking_request, name);
}

#[tokio::test]
async fn streams_end_when_the_server_stops() {
    let harness = Harness::start(NOW).await;
    let mut reader = Reader::from_now(&harness).await;
    harness.shutdown.cancel();
    let end = within(reader.messages.message())
        .await
        .expect_err("the end");
    assert_eq!(refusal(&end), (Code::Unavailable, "UNAVAILABLE".to_owned()));
}

#[tokio::test]
async fn an_old_cursor_has_expired_and_says_for_how_long_changes_are_kept() {
    let harness = Harness::start(NOW).await;
    let (_, cursor) = until_idle(&harness, "").await;
    harness.advance("2026-04-06T08:58:00Z");
    until_idle(&harness, &cursor).await;
    harness.advance("2026-04-06T09:02:00Z");
    assert_expired(&harness, &cursor).await;
}

/// Checks that a stream is refused to one who comes with this cursor.
async fn assert_expired(harness: &Harness, cursor: &str) {
    let opened = Reader::open(harness.requests(), after(cursor)).await;
    let status = opened.err().expect("a refusal");
    let expected = (Code::FailedPrecondition, "CURSOR_EXPIRED".to_owned());
    assert_eq!(refusal(&status), expected);
    assert_eq!(metadata(&status, "kept_days"), "35");
}

#[tokio::test]
async fn a_cursor_from_the_future_has_expired() {
    let harness = Harness::start(NOW).await;
    harness.advance("2026-03-02T10:00:00Z");
    let (_, cursor) = until_idle(&harness, "").await;
    let harness = started_again(harness, NOW).await;
    assert_expired(&harness, &cursor).await;
    harness.advance("2026-03-02T10:00:00Z");
    until_idle(&harness, &cursor).await;
}

#[tokio::test]
async fn a_clock_that_was_set_back_a_little_passes_nothing_over() {
    let harness = Harness::start(NOW).await;
    harness.advance("2026-03-02T09:00:03Z");
    let (_, cursor) = until_idle(&harness, "").await;
    let harness = started_again(harness, NOW).await;
    let mut reader = Reader::open(harness.requests(), after(&cursor))
        .await
        .expect("a stream");
    for referral in ["R-1", "R-2"] {
        let name = invited(&harness, referral).await;
        let change = within(reader.next()).await.expect("a change");
        assert_eq!(change.booking_request, name);
    }
}
