//! Resuming: a stream that is opened with a cursor tells what came after it, whatever happened meanwhile.

use std::collections::BTreeMap;

use care_invitation::contract::v1;
use care_invitation::contract::v1::HistoryEvent as Event;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use tempfile::TempDir;

use super::{NOW, Reader, after, as_entry, booked, entries_of, invited, until_idle};
use crate::harness::{Harness, within};
use crate::make;
use crate::program::{self, Program};

/// The names of the requests that were created, in the order in which that was told, each once.
fn created(changes: &[v1::Change]) -> Vec<String> {
    let created = changes
        .iter()
        .filter(|it| it.event() == Event::CreateBookingRequest);
    let mut names: Vec<String> = Vec::new();
    for change in created {
        if !names.contains(&change.booking_request) {
            names.push(change.booking_request.clone());
        }
    }
    names
}

#[tokio::test]
async fn an_empty_cursor_begins_now_and_zero_with_the_oldest_that_is_kept() {
    let harness = Harness::start(NOW).await;
    let before = invited(&harness, "R-1").await;
    harness.advance("2026-03-02T10:00:00Z");
    let mut reader = Reader::from_now(&harness).await;
    let (nothing, _) = until_idle(&harness, "").await;
    assert!(nothing.is_empty(), "{nothing:?}");
    let later = invited(&harness, "R-2").await;
    assert_eq!(
        reader.next().await.expect("a change").booking_request,
        later
    );
    let (everything, _) = until_idle(&harness, "0").await;
    assert_eq!(created(&everything), [before.clone(), later.clone()]);
    // 35 days later the first is gone.
    harness.advance("2026-04-06T09:30:00Z");
    let (kept, _) = until_idle(&harness, "0").await;
    assert_eq!(created(&kept), [later]);
}

#[tokio::test]
async fn a_job_that_runs_now_and_then_is_told_everything_once() {
    let harness = Harness::start(NOW).await;
    let (_, mut cursor) = until_idle(&harness, "").await;
    let mut told = Vec::new();
    let mut names = Vec::new();
    for run in 1..=4 {
        harness.advance(&format!("2026-03-02T{}:00:00Z", 10 + run));
        for number in 0..3 {
            names.push(invited(&harness, &format!("R-{run}-{number}")).await);
        }
        booked(&harness, &names[0]).await;
        // Longer than what may not be settled.
        harness.advance(&format!("2026-03-02T{}:30:00Z", 10 + run));
        let (changes, next) = until_idle(&harness, &cursor).await;
        cursor = next;
        told.extend(changes);
    }
    let mut expected = Vec::new();
    for name in &names {
        expected.extend(entries_of(&harness, name).await);
    }
    let key = |it: &v1::Change| {
        (
            it.booking_request.clone(),
            it.event_time.map(|it| it.seconds),
        )
    };
    let mut told: Vec<_> = told.into_iter().map(as_entry).collect();
    told.sort_by_key(key);
    expected.sort_by_key(key);
    assert_eq!(told, expected);
    let (nothing, _) = until_idle(&harness, &cursor).await;
    assert!(nothing.is_empty(), "{nothing:?}");
}

#[tokio::test]
async fn a_stream_goes_on_after_any_cursor_that_it_has_given() {
    const REQUESTS: usize = 230;
    let harness = Harness::start(NOW).await;
    for number in 0..REQUESTS {
        if number % 50 == 0 {
            harness.advance(&format!("2026-03-02T10:{:02}:00Z", number / 10));
        }
        invited(&harness, &format!("R-{number}")).await;
    }
    harness.advance("2026-03-02T12:00:00Z");
    // Each time it reads one message and comes again.
    let (mut cursor, mut told) = ("0".to_owned(), Vec::new());
    while told.len() < REQUESTS {
        let call = v1::StreamChangesRequest {
            until_idle: true,
            ..after(&cursor)
        };
        let reader = Reader::open(harness.requests(), call).await;
        let reader = reader.expect("a stream");
        assert!(!reader.waiting.is_empty(), "{} of {REQUESTS}", told.len());
        told.extend(reader.waiting);
        cursor = reader.cursor;
    }
    assert_eq!(told.len(), REQUESTS);
    assert_eq!(created(&told).len(), REQUESTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missed_when_the_program_is_killed_between() {
    const LIVES: usize = 3;
    let folder = TempDir::new().expect("a folder");
    let mut told: Vec<v1::Change> = Vec::new();
    let mut cursor = String::new();
    let mut names = Vec::new();
    for life in 0..LIVES {
        let program = Program::start(folder.path(), &[]).await;
        let channel = program.channel().await;
        let client = BookingRequestServiceClient::new(channel.clone());
        let opened = Reader::open(client, after(&cursor)).await;
        let mut reader = opened.expect("a stream");
        if life == 0 {
            // It knows where it has begun.
            cursor.clone_from(&reader.cursor);
        }
        for number in 0..20 {
            let form = v1::BookingRequest {
                origin: Some(make::wire_referral(&format!("R-{life}-{number}"))),
                ..make::wire_form("2099-05-18", "2099-06-12")
            };
            let request = program::create(&channel, make::wire_create(form)).await;
            names.push(request.expect("created").name);
            // Of the last it reads nothing before the kill.
            if number < 10 {
                told.push(reader.next().await.expect("a change"));
                told.extend(reader.waiting.drain(..));
                cursor.clone_from(&reader.cursor);
            }
        }
        let mut child = program.child;
        within(child.kill()).await.expect("killed");
    }
    let program = Program::start(folder.path(), &[]).await;
    let channel = program.channel().await;
    let call = v1::StreamChangesRequest {
        until_idle: true,
        ..after(&cursor)
    };
    let reader = Reader::open(BookingRequestServiceClient::new(channel), call).await;
    told.extend(reader.expect("a stream").rest().await.0);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for change in &told {
        *seen.entry(change.booking_request.clone()).or_default() += 1;
    }
    for name in &names {
        assert!(seen.contains_key(name), "{name} was not told");
    }
    assert_eq!(seen.len(), names.len());
}
