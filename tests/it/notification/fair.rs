//! How care units share streams: many messages of one do not delay those of another.

use care_invitation::contract::v1;

use super::{FIRST, LAST, NOW};
use crate::consumer::{Consumer, acknowledge, at_most, sent};
use crate::harness::Harness;
use crate::make;

const OTHER: &str = "careUnits/SE2321000131-P2";
/// Messages of one care unit, many times what a stream holds.
const HEAP: usize = 60;
const HELD: usize = 10;

/// An invitation of a care unit, due at once.
async fn due_in(harness: &Harness, care_unit: &str, number: usize) -> String {
    let form = v1::BookingRequest {
        origin: Some(make::wire_referral(&format!("R-{number}"))),
        ..make::wire_form(FIRST, LAST)
    };
    let call = v1::CreateBookingRequestRequest {
        parent: care_unit.to_owned(),
        ..make::wire_create(form)
    };
    harness.create(call).await.expect("created").name
}

async fn heap() -> Harness {
    let harness = Harness::start(NOW).await;
    for number in 0..HEAP {
        due_in(&harness, &make::wire_unit(), number).await;
    }
    harness
}

fn stream() -> v1::StreamDueNotificationsRequest {
    at_most(HELD.try_into().expect("a small number"))
}

#[tokio::test]
async fn a_stream_that_opens_begins_with_every_care_unit() {
    let harness = heap().await;
    let other = due_in(&harness, OTHER, HEAP).await;
    let taken = Consumer::open(&harness, stream()).await.take(HELD).await;
    assert!(taken.iter().any(|it| it.booking_request == other));
}

#[tokio::test]
async fn what_falls_due_goes_before_what_a_care_unit_still_has() {
    let harness = heap().await;
    let mut consumer = Consumer::open(&harness, stream()).await;
    let mut held = consumer.take(HELD).await;
    let other = due_in(&harness, OTHER, HEAP).await;
    let mut since = 0;
    // The first claim may have been made before the stream was told.
    while !held.iter().any(|it| it.booking_request == other) {
        since += 1;
        assert!(since <= 2, "it waits for the others");
        let acknowledged = acknowledge(&harness, held.iter().map(sent).collect()).await;
        assert_eq!(acknowledged.expect("recorded"), Vec::<String>::new());
        held = consumer.take(HELD).await;
    }
}

#[tokio::test]
async fn a_care_unit_with_little_leaves_its_share_to_the_others() {
    let harness = heap().await;
    for number in 0..3 {
        due_in(&harness, OTHER, HEAP + number).await;
    }
    let wishes = v1::StreamDueNotificationsRequest {
        until_idle: true,
        ..at_most(1_000)
    };
    let mut consumer = Consumer::open(&harness, wishes).await;
    consumer.take(HEAP + 3).await;
    consumer.ended().await;
}
