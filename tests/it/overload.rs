//! What one caller may do to all others: nothing. Calls that stall, answers that nobody reads,
//! connections that say nothing.

use std::time::Duration;

use care_invitation::contract::v1;
use care_invitation::grpc::middleware::Limits;
use care_invitation::grpc::middleware::load::Bounds;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{Code, Status};

use crate::consumer::{Consumer, at_most};
use crate::harness::{Harness, refusal, within};
use crate::make;
use crate::wire::{Unread, Wire, frame, strange};

const NOW: &str = "2026-03-02T09:00:00Z";
const COUNT: &str = "/careinvitation.v1.WorklistService/CountWorklists";
const LIST: &str = "/careinvitation.v1.WorklistService/ListWorklist";
const STREAM: &str = "/careinvitation.v1.NotificationService/StreamDueNotifications";
const CHECK: &str = "/grpc.health.v1.Health/Check";
/// What a connection begins with, and settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A call that is answered in a few bytes.
fn count() -> Vec<u8> {
    let call = make::wire_count(vec![make::wire_unit()]);
    frame(0, &call.encode_to_vec())
}

/// Waits until a call of another caller is let in.
async fn let_in(harness: &Harness) {
    within(async {
        while harness.get("nobody").await.unwrap_err().code() == Code::ResourceExhausted {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_stall_leave_places_for_everybody_else() {
    let harness = Harness::start(NOW).await;
    let mut stalled = Vec::new();
    for _ in 0..3 {
        let wire = Wire::stalled(harness.address, 0).await;
        for _ in 0..1_024 {
            let mut begun = wire.begin(COUNT, &[]).await;
            begun.send_last(count());
            stalled.push(begun);
        }
    }
    for _ in 0..100 {
        let said = harness.get("nobody").await.unwrap_err();
        assert_eq!(said.code(), Code::InvalidArgument, "{}", said.message());
    }
}

#[tokio::test]
async fn a_call_whose_answer_is_not_read_loses_its_place_at_its_deadline() {
    let limits = Limits {
        calls: Bounds::shared(1),
        ..Limits::default()
    };
    let harness = Harness::with_limits(NOW, limits).await;
    let wire = Wire::stalled(harness.address, 0).await;
    let mut begun = wire.begin(COUNT, &[("grpc-timeout", "500m")]).await;
    begun.send_last(count());
    let_in(&harness).await;
    begun.reset().await;
}

#[tokio::test]
async fn a_call_that_never_sends_its_body_loses_its_place_soon() {
    let limits = Limits {
        calls: Bounds::shared(1),
        receive_time_max: Duration::from_millis(500),
        ..Limits::default()
    };
    let harness = Harness::with_limits(NOW, limits).await;
    let wire = Wire::connect(harness.address).await;
    let begun = wire.begin(COUNT, &[]).await;
    let refused = wire.call(COUNT, &[], count()).await;
    assert_eq!(refused.code(), Code::ResourceExhausted, "one is in flight");
    let_in(&harness).await;
    let reason = (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned());
    assert_eq!(refusal(&begun.end().await), reason);
}

#[tokio::test]
async fn a_connection_that_does_not_finish_its_preface_is_closed() {
    let limits = Limits {
        preface_time_max: Duration::from_millis(300),
        ..Limits::default()
    };
    let harness = Harness::with_limits(NOW, limits).await;
    for said in [&b""[..], b"PRI * HTTP/2.0\r\n"] {
        let mut silent = strange(harness.address).await.expect("open");
        silent.write_all(said).await.expect("written");
        // It may be reset.
        let _ = within(silent.read_to_end(&mut Vec::new())).await;
    }
}

#[tokio::test]
async fn health_checks_are_let_in_beside_the_calls_and_not_without_end() {
    let limits = Limits {
        calls: Bounds::shared(1),
        checks: Bounds::shared(2),
        ..Limits::default()
    };
    let harness = Harness::with_limits(NOW, limits).await;
    let wire = Wire::connect(harness.address).await;
    let _call = wire.begin(COUNT, &[]).await;
    let _checks = [wire.begin(CHECK, &[]).await, wire.begin(CHECK, &[]).await];
    let refused = wire.call(CHECK, &[], frame(0, &[])).await;
    let reason = (Code::ResourceExhausted, "OVERLOADED".to_owned());
    assert_eq!(refusal(&refused), reason);
    assert_eq!(refusal(&wire.call(COUNT, &[], count()).await), reason);
}

/// Creates so many requests that take about 13 kB each.
async fn create_large(harness: &Harness, count: usize, start: &str) {
    for number in 0..count {
        let mut form = make::wire_form(start, "2026-06-12");
        form.origin = Some(make::wire_referral(&format!("R-{number}")));
        form.internal_comment = "å".repeat(2_000);
        let instructions = form.patient_instructions.get_or_insert_default();
        for text in [
            &mut instructions.visit_length,
            &mut instructions.supplementary,
        ] {
            *text = "å".repeat(2_000);
        }
        let created = harness.create(make::wire_create(form)).await;
        created.expect("created");
    }
}

/// A call for all requests of the unit.
fn list() -> Vec<u8> {
    let call = v1::ListWorklistRequest {
        query: Some(v1::WorklistQuery {
            worklists: vec![v1::Worklist::CareInvitations.into()],
            care_units: vec![make::wire_unit()],
            ..Default::default()
        }),
        page_size: 500,
        ..Default::default()
    };
    frame(0, &call.encode_to_vec())
}

#[tokio::test]
async fn pages_that_nobody_reads_are_kept_up_to_a_limit_and_others_are_served() {
    const KIB: usize = 1_024;
    let limits = Limits {
        bytes: Bounds {
            all: 2_000 * KIB,
            caller: 1_000 * KIB,
            subject: 1_000 * KIB,
            connection: 500 * KIB,
        },
        ..Limits::default()
    };
    let harness = Harness::with_limits(NOW, limits).await;
    create_large(&harness, 10, "2026-05-18").await;
    // Whether the transport may be given a little of each page or nothing.
    for window in [1, 0] {
        let wire = Wire::stalled(harness.address, window).await;
        let mut unread = Vec::new();
        let refused = within(async {
            loop {
                match begin_page(&wire).await {
                    Ok(page) => unread.push(page),
                    Err(said) => return said,
                }
            }
        })
        .await;
        let reason = (Code::ResourceExhausted, "OVERLOADED".to_owned());
        assert_eq!(refusal(&refused), reason);
        let kept = unread.len();
        assert!((2..8).contains(&kept), "{kept} pages of 120 kB");

        let other = Wire::connect(harness.address).await;
        let page = other.call(LIST, &[], list()).await;
        assert_eq!(page.code(), Code::Ok, "{}", page.message());
        // They are forgotten with their calls.
        drop(unread);
        within(async { while begin_page(&wire).await.is_err() {} }).await;
    }
}

/// Asks for a page and does not read it.
async fn begin_page(wire: &Wire) -> Result<Unread, Status> {
    let mut begun = wire.begin(LIST, &[]).await;
    begun.send_last(list());
    begun.answered().await
}

#[tokio::test]
async fn requests_that_do_not_end_are_kept_up_to_a_limit() {
    let limits = Limits {
        bytes: Bounds::shared(100_000),
        ..Limits::default()
    };
    let harness = Harness::with_limits(NOW, limits).await;
    let wire = Wire::connect(harness.address).await;
    let mut begun = wire.begin(COUNT, &[]).await;
    begun.send([&[0, 0, 3, 0, 0][..], &[0; 150_000]].concat());
    let reason = (Code::ResourceExhausted, "OVERLOADED".to_owned());
    assert_eq!(refusal(&begun.end().await), reason);
    let_in(&harness).await;
}

#[tokio::test]
async fn a_stream_of_large_pages_is_read_whole() {
    let harness = Harness::start(NOW).await;
    create_large(&harness, 40, "2026-05-18").await;
    let call = v1::ListWorklistRequest::decode(&list()[5..]).expect("a call");
    for _ in 0..20 {
        let page = within(harness.worklists().list_worklist(call.clone())).await;
        let page = page.expect("a page").into_inner();
        assert_eq!(page.booking_requests.len(), 40);
    }
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let limits = Limits {
        connections: Bounds {
            all: 8,
            caller: 4,
            subject: 4,
            connection: 1,
        },
        ..Limits::default()
    };
    let harness = Harness::with_limits(NOW, limits).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(strange(harness.address).await.expect("open"));
    }
    let mut refused = strange(harness.address).await.expect("open");
    let said = within(refused.read(&mut [0; 1])).await;
    assert!(matches!(said, Ok(0) | Err(_)), "closed at once: {said:?}");
    Wire::connect(harness.address)
        .await
        .call(COUNT, &[], count())
        .await;

    // A place is free when one has gone.
    open.pop();
    within(async {
        loop {
            let mut next = strange(harness.address).await.expect("open");
            next.write_all(PREFACE).await.expect("written");
            if matches!(next.read(&mut [0; 1]).await, Ok(1)) {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_closed_and_one_with_a_call_is_not() {
    let limits = Limits {
        idle_time_max: Duration::from_millis(200),
        ..Limits::default()
    };
    let harness = Harness::with_limits(NOW, limits).await;
    let used = Wire::connect(harness.address).await;
    let begun = used.begin(COUNT, &[]).await;
    let mut silent = strange(harness.address).await.expect("open");
    silent.write_all(PREFACE).await.expect("written");
    let _ = within(silent.read_to_end(&mut Vec::new())).await;
    let said = begun.finish(count()).await;
    assert_eq!(said.code(), Code::Ok, "{}", said.message());
    // A client whose connection was closed meanwhile opens another.
    let said = harness.get("nobody").await.unwrap_err();
    assert_eq!(said.code(), Code::InvalidArgument, "{}", said.message());
}

#[tokio::test]
async fn a_consumer_that_does_not_read_keeps_few_large_messages_from_others() {
    const COUNT: usize = 300;
    let harness = Harness::start(NOW).await;
    create_large(&harness, COUNT, "2026-03-09").await;
    let wire = Wire::stalled(harness.address, 0).await;
    let mut unread = wire.begin(STREAM, &[]).await;
    let wishes = at_most(1_000);
    unread.send_last(frame(0, &wishes.encode_to_vec()));
    let _unread = unread.answered().await.expect("a stream");
    // It has leased what it can get once nothing more is leased of what others could have.
    let mut reader = Consumer::open(&harness, at_most(1_000)).await;
    let taken = reader.take(200).await;
    assert_eq!(taken.len(), 200, "of {COUNT}; 13 kB each");
}
