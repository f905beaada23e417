//! What time alone changes: told at its instant, and to those who come later, once, also when the request has been changed
//! since.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome;
use care_invitation::contract::v1::HistoryEvent as Event;
use care_invitation::contract::v1::booking_request::State;

use super::{NOW, Reader, booked, short, until_idle};
use crate::harness::Harness;
use crate::make;
use crate::worklist_user;

/// When nobody has answered three messages, and when the period is over.
const NO_RESPONSE: &str = "2026-05-18T07:00:00Z";
const EXPIRES: &str = "2026-06-12T22:00:00Z";

/// An invitation all of whose messages have been handed over, and the last of which nobody has answered yet.
async fn unanswered(harness: &Harness) -> String {
    let form = make::wire_form("2026-05-18", "2026-06-12");
    let created = harness.create(make::wire_create(form)).await;
    for due in ["2026-04-06", "2026-04-20", "2026-05-04"] {
        harness.advance(&format!("{due}T07:00:00Z"));
        assert_eq!(harness.hand_over_due().await.len(), 1);
    }
    created.expect("created").name
}

/// Those of some changes that time alone has made, each with its etag and its instant.
fn by_time(changes: &[v1::Change]) -> Vec<(Event, State, State, String, String)> {
    let events = [Event::Expired, Event::NoResponse, Event::WillBookOver];
    let changes = changes.iter().filter(|it| events.contains(&it.event()));
    let told = changes.map(|it| {
        let (event, before, after) = short(it);
        let at = it.event_time.expect("an instant");
        (event, before, after, it.etag.clone(), at.to_string())
    });
    told.collect()
}

fn no_response(etag: &str) -> (Event, State, State, String, String) {
    let (before, after) = (State::Invited, State::NoResponse);
    (
        Event::NoResponse,
        before,
        after,
        etag.into(),
        NO_RESPONSE.into(),
    )
}

fn expired(before: State, etag: &str) -> (Event, State, State, String, String) {
    let after = State::Expired;
    (Event::Expired, before, after, etag.into(), EXPIRES.into())
}

#[tokio::test]
async fn it_is_told_to_whoever_opens_a_stream_at_its_very_instant() {
    let harness = Harness::start(NOW).await;
    unanswered(&harness).await;
    let (_, cursor) = until_idle(&harness, "0").await;
    harness.advance(NO_RESPONSE);
    let (whole, _) = until_idle(&harness, "0").await;
    assert_eq!(by_time(&whole), [no_response("r4")]);
    let (changes, next) = until_idle(&harness, &cursor).await;
    assert_eq!(by_time(&changes), [no_response("r4")]);
    harness.advance(EXPIRES);
    let (changes, _) = until_idle(&harness, &next).await;
    assert_eq!(by_time(&changes), [expired(State::NoResponse, "r4")]);
}

#[tokio::test]
async fn it_is_told_when_its_instant_comes() {
    let harness = Harness::start(NOW).await;
    let name = unanswered(&harness).await;
    harness.advance("2026-05-05T07:00:00Z");
    let mut reader = Reader::from_now(&harness).await;
    let mut told = Vec::new();
    for at in ["2026-05-18T06:59:59Z", NO_RESPONSE, EXPIRES] {
        harness.advance(at);
        if at.starts_with("2026-05-18T06") {
            continue;
        }
        let change = reader.next().await.expect("a change");
        assert_eq!(
            (&change.booking_request, change.notification.as_str()),
            (&name, "")
        );
        told.push(change);
    }
    // The creation, and a hand-over each.
    let expected = [no_response("r4"), expired(State::NoResponse, "r4")];
    assert_eq!(by_time(&told), expected);
    // A change afterwards says no more than itself.
    harness
        .cancel(make::wire_cancel(&name))
        .await
        .expect("cancelled");
    let expected = (
        Event::CancelBookingRequest,
        State::Expired,
        State::Cancelled,
    );
    assert_eq!(reader.told().await, expected);
}

#[tokio::test]
async fn it_is_told_to_those_who_were_away_when_its_instant_came() {
    let harness = Harness::start(NOW).await;
    unanswered(&harness).await;
    let (_, cursor) = until_idle(&harness, "").await;
    harness.advance("2026-05-20T07:00:00Z");
    let (changes, next) = until_idle(&harness, &cursor).await;
    assert_eq!(by_time(&changes), [no_response("r4")]);
    let (again, _) = until_idle(&harness, &next).await;
    assert_eq!(by_time(&again), []);
    let (whole, _) = until_idle(&harness, "0").await;
    assert_eq!(by_time(&whole), [no_response("r4")]);
}

#[tokio::test]
async fn it_is_told_before_the_change_that_came_after_it() {
    let harness = Harness::start(NOW).await;
    let name = unanswered(&harness).await;
    let (_, cursor) = until_idle(&harness, "").await;
    harness.advance("2026-05-20T07:00:00Z");
    booked(&harness, &name).await;
    harness.advance("2026-05-21T07:00:00Z");
    for cursor in [&*cursor, "0"] {
        let (changes, _) = until_idle(&harness, cursor).await;
        assert_eq!(by_time(&changes), [no_response("r4")], "{cursor}");
        let booked = (Event::RecordBooking, State::NoResponse, State::Booked);
        let place = |wanted: &dyn Fn(&v1::Change) -> bool| changes.iter().position(wanted);
        let silence = place(&|it| it.event() == Event::NoResponse).expect("told");
        let booking = place(&|it| short(it) == booked).expect("told");
        assert!(silence < booking);
    }
}

#[tokio::test]
async fn those_who_were_told_are_not_told_again_with_the_next_change() {
    let harness = Harness::start(NOW).await;
    let name = unanswered(&harness).await;
    let (_, cursor) = until_idle(&harness, "").await;
    harness.advance("2026-05-20T07:00:00Z");
    let (told, cursor) = until_idle(&harness, &cursor).await;
    assert_eq!(by_time(&told), [no_response("r4")]);
    harness.advance("2026-05-21T07:00:00Z");
    booked(&harness, &name).await;
    harness.advance("2026-05-22T07:00:00Z");
    let (told, _) = until_idle(&harness, &cursor).await;
    let events: Vec<_> = told.iter().map(short).collect();
    assert_eq!(
        events[0],
        (Event::RecordBooking, State::NoResponse, State::Booked)
    );
    assert_eq!(by_time(&told), []);
}

#[tokio::test]
async fn a_patient_who_would_book_and_has_not_is_told_of_and_the_state_stays() {
    let harness = Harness::start(NOW).await;
    let form = make::wire_form("2026-05-18", "2026-06-12");
    let name = harness.create(make::wire_create(form)).await;
    let name = name.expect("created").name;
    worklist_user::will_book(&harness, &name, "2026-03-10").await;
    harness.advance("2026-03-03T09:00:00Z");
    let mut reader = Reader::from_now(&harness).await;
    harness.advance("2026-03-10T23:00:00Z");
    let change = reader.next().await.expect("a change");
    let (state, at) = (State::Invited, "2026-03-10T23:00:00Z".to_owned());
    let expected = (Event::WillBookOver, state, state, "r2".to_owned(), at);
    assert_eq!(by_time(&[change]), [expected]);
    worklist_user::contact(&harness, &name, ContactOutcome::CallBack).await;
    let expected = (Event::RecordPatientContact, State::Invited, State::Invited);
    assert_eq!(reader.told().await, expected);
    harness.advance(EXPIRES);
    let change = reader.next().await.expect("a change");
    assert_eq!(by_time(&[change]), [expired(State::Invited, "r3")]);
}

#[tokio::test]
async fn a_request_that_waits_for_staff_expires_too() {
    let harness = Harness::start(NOW).await;
    let form = v1::BookingRequest {
        invitation: false,
        ..make::wire_form("2026-05-18", "2026-06-12")
    };
    harness
        .create(make::wire_create(form))
        .await
        .expect("created");
    harness.advance("2026-03-03T09:00:00Z");
    let mut reader = Reader::from_now(&harness).await;
    harness.advance(EXPIRES);
    let change = reader.next().await.expect("a change");
    assert_eq!(by_time(&[change]), [expired(State::Requested, "r1")]);
}
