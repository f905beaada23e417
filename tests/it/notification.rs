//! Messages on their way, through the whole service: the prose on `notification_service.proto`,
//! sentence by sentence.

mod acknowledge;
mod addressee;
mod authorize;
mod channel;
mod fair;
mod late;
mod lease;
mod listing;
mod not_produced;
mod planning;
mod promised;
mod read;
mod receipt;
mod released;
mod stream;

use care_invitation::contract::v1;
use care_invitation::contract::v1::notification::State;

use crate::harness::Harness;
use crate::make;

/// Six weeks before [`FIRST`] have passed, so that an invitation created now is due now.
const NOW: &str = "2026-03-02T09:00:00Z";
const FIRST: &str = "2026-04-06";
const LAST: &str = "2026-06-12";

/// An invitation for a referral of its own, due at once.
fn due_now(referral_id: &str) -> v1::BookingRequest {
    v1::BookingRequest {
        origin: Some(make::wire_referral(referral_id)),
        ..make::wire_form(FIRST, LAST)
    }
}

/// Creates what the form says; gives the request's name.
async fn create(harness: &Harness, form: v1::BookingRequest) -> String {
    let created = harness.create(make::wire_create(form)).await;
    created.expect("created").name
}

/// The messages of a request, those to come included.
async fn messages(harness: &Harness, request: &str) -> Vec<v1::Notification> {
    let request = harness.get(request).await.expect("a request");
    request
        .care_invitation
        .expect("an invitation")
        .notifications
}

/// Where a request's messages stand.
async fn states(harness: &Harness, request: &str) -> Vec<State> {
    let messages = messages(harness, request).await;
    messages.iter().map(v1::Notification::state).collect()
}

async fn book(harness: &Harness, request: &str) {
    let booking = make::wire_booking(request, "2026-06-01T08:00:00Z");
    harness.book(booking).await.expect("booked");
}
