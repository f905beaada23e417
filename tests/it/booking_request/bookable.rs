//! Since when the patient may book: from the first lease of a round, or a contact WILL_BOOK in it.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Outcome;
use care_invitation::contract::v1::booking_request::State;
use chrono::{DateTime, SecondsFormat};

use super::calls::{contact, contacted, lease_one, move_to, park, release, released, unreachable};
use super::{NOW, booking, created, record, requested, state};
use crate::consumer::{answer, retry, sent};
use crate::harness::Harness;
use crate::make;

/// Ten seconds after [`NOW`], and twenty.
const LATER: &str = "2026-03-02T09:00:10Z";
const LAST: &str = "2026-03-02T09:00:20Z";

/// An invitation that is due at once.
async fn due_now(harness: &Harness) -> String {
    let form = make::wire_form("2026-03-09", "2026-06-12");
    created(harness, form).await.name
}

async fn bookable_since(harness: &Harness, name: &str) -> String {
    let read = harness.get(name).await.expect("read");
    let since = read.care_invitation.and_then(|it| it.bookable_since);
    since.map_or_else(String::new, |at| {
        let at = DateTime::from_timestamp(at.seconds, 0).expect("an instant");
        at.to_rfc3339_opts(SecondsFormat::Secs, true)
    })
}

#[tokio::test]
async fn booking_opens_with_the_first_lease_and_no_new_etag() {
    let harness = Harness::start(NOW).await;
    let name = due_now(&harness).await;
    let before = harness.get(&name).await.expect("read");
    assert_eq!(bookable_since(&harness, &name).await, "");
    harness.advance(LATER);
    assert_eq!(bookable_since(&harness, &name).await, "");
    let due = lease_one(&harness).await;
    assert_eq!(bookable_since(&harness, &name).await, LATER);
    let after = harness.get(&name).await.expect("read");
    assert_eq!(
        (after.etag, after.update_time),
        (before.etag, before.update_time)
    );
    // The acknowledgement and the reminders leave it as it is.
    harness.advance(LAST);
    answer(&harness, sent(&due)).await;
    harness.advance("2026-03-16T08:00:00Z");
    lease_one(&harness).await;
    assert_eq!(bookable_since(&harness, &name).await, LATER);
}

#[tokio::test]
async fn it_stays_open_whatever_becomes_of_that_lease() {
    for row in [
        "revoked by a change",
        "revoked by a hold",
        "expired",
        "tried again",
        "parked",
        "unreachable",
    ] {
        let harness = Harness::start(NOW).await;
        let name = due_now(&harness).await;
        let due = lease_one(&harness).await;
        match row {
            "revoked by a change" => {
                let moved = move_to(&name, "2026-03-10", "2026-06-12");
                let answer = harness.requests().change_booking_request(moved).await;
                answer.expect(row);
            }
            "revoked by a hold" => {
                let held = contacted(&harness, contact(&name, Outcome::CallBack)).await;
                held.expect(row);
                released(&harness, release(&name)).await.expect(row);
            }
            "expired" => harness.advance("2026-03-02T09:01:00Z"),
            "tried again" => answer(&harness, retry(&due)).await,
            "parked" => answer(&harness, park(&due)).await,
            "unreachable" => answer(&harness, unreachable(&due)).await,
            other => unreachable!("{other}"),
        }
        assert_eq!(bookable_since(&harness, &name).await, NOW, "{row}");
        if row != "parked" {
            harness.advance("2026-03-02T09:10:00Z");
            lease_one(&harness).await;
            assert_eq!(bookable_since(&harness, &name).await, NOW, "{row}");
        }
    }
}

#[tokio::test]
async fn it_stays_to_be_seen_when_the_invitation_has_ended() {
    for (row, expected) in [
        ("booked", State::Booked),
        ("declined", State::Declined),
        ("cancelled", State::Cancelled),
        ("expired", State::Expired),
    ] {
        let harness = Harness::start(NOW).await;
        let name = due_now(&harness).await;
        lease_one(&harness).await;
        match row {
            "booked" => {
                let visit = booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
                harness.book(record(&name, visit)).await.expect(row);
            }
            "declined" => {
                let declined = contacted(&harness, contact(&name, Outcome::Declined)).await;
                declined.expect(row);
            }
            "cancelled" => {
                harness.cancel(make::wire_cancel(&name)).await.expect(row);
            }
            _ => harness.advance("2026-06-12T22:00:00Z"),
        }
        let read = harness.get(&name).await.expect("read");
        assert_eq!(state(&read), expected, "{row}");
        assert_eq!(bookable_since(&harness, &name).await, NOW, "{row}");
    }
}

#[tokio::test]
async fn a_contact_opens_it_before_the_first_message_when_the_patient_will_book() {
    for (outcome, since) in [
        (Outcome::WillBook, NOW),
        (Outcome::CallBack, ""),
        (Outcome::NoSuitableTime, ""),
        (Outcome::Declined, ""),
    ] {
        let harness = Harness::start(NOW).await;
        let form = make::wire_form("2026-05-18", "2026-06-12");
        let name = created(&harness, form).await.name;
        let held = contacted(&harness, contact(&name, outcome)).await;
        held.expect("recorded");
        assert_eq!(bookable_since(&harness, &name).await, since, "{outcome:?}");
        if outcome != Outcome::Declined {
            // The first such contact counts, and what follows it changes nothing.
            harness.advance(LATER);
            let again = contacted(&harness, contact(&name, Outcome::WillBook)).await;
            again.expect("recorded");
            let expected = if since.is_empty() { LATER } else { since };
            released(&harness, release(&name)).await.expect("released");
            harness.advance("2026-04-06T07:00:00Z");
            lease_one(&harness).await;
            let since = bookable_since(&harness, &name).await;
            assert_eq!(since, expected, "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_contact_opens_it_of_a_protected_patient_and_not_of_an_expired_invitation() {
    let harness = Harness::start(NOW).await;
    let mut form = make::wire_form("2026-03-09", "2026-06-12");
    form.patient.as_mut().expect("a patient").protection = 2;
    let name = created(&harness, form).await.name;
    let told = contacted(&harness, contact(&name, Outcome::WillBook)).await;
    told.expect("recorded");
    assert_eq!(bookable_since(&harness, &name).await, NOW);

    let harness = Harness::start(NOW).await;
    let form = make::wire_form("2026-03-09", "2026-03-13");
    let name = created(&harness, form).await.name;
    harness.advance("2026-03-13T23:00:00Z");
    let told = contacted(&harness, contact(&name, Outcome::WillBook)).await;
    told.expect("recorded");
    assert_eq!(bookable_since(&harness, &name).await, "");
}

#[tokio::test]
async fn a_new_round_closes_it_until_its_own_first_lease_or_contact() {
    for by_contact in [false, true] {
        let harness = Harness::start(NOW).await;
        let name = due_now(&harness).await;
        let due = lease_one(&harness).await;
        let held = contacted(&harness, contact(&name, Outcome::WillBook)).await;
        held.expect("recorded");
        harness.advance(LATER);
        harness
            .invite(make::wire_invite(&name))
            .await
            .expect("invited");
        assert_eq!(bookable_since(&harness, &name).await, "");
        // A message of the round before opens nothing, not even when it has been handed over.
        answer(&harness, sent(&due)).await;
        assert_eq!(bookable_since(&harness, &name).await, "");
        harness.advance(LAST);
        if by_contact {
            let held = contacted(&harness, contact(&name, Outcome::WillBook)).await;
            held.expect("recorded");
        } else {
            lease_one(&harness).await;
        }
        assert_eq!(bookable_since(&harness, &name).await, LAST, "{by_contact}");
    }
}

#[tokio::test]
async fn a_request_without_an_invitation_is_never_open() {
    let harness = Harness::start(NOW).await;
    let request: v1::BookingRequest =
        created(&harness, requested("2026-03-09", "2026-06-12")).await;
    assert_eq!(bookable_since(&harness, &request.name).await, "");
    assert_eq!(harness.lease_due().await.len(), 0);
}
