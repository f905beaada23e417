//! Fixtures for tests of the store, without the service around it.

use care_invitation::domain::Context;
use care_invitation::domain::booking_request::BookingRequest;
use care_invitation::domain::booking_request::create::{Create, create};
use care_invitation::domain::booking_request::form::Booking;
use care_invitation::domain::booking_request::form::BookingSource;
use care_invitation::domain::booking_request::form::Form;
use care_invitation::domain::booking_request::form::Origin;
use care_invitation::domain::booking_request::record_booking::{RecordBooking, record_booking};
use care_invitation::domain::calendar::Instant;
use care_invitation::domain::notification::acknowledge::Acknowledgement;
use care_invitation::domain::notification::{DispatchRefusal, LeaseRef, Outcome};
use care_invitation::domain::request_key::RequestKey;
use care_invitation::store::Store;
use care_invitation::store::error::Error;
use care_invitation::store::idempotency::IdempotentCall;
use uuid::Uuid;

use crate::make;
use crate::make::at;

/// A call that nobody has made before.
pub fn call() -> IdempotentCall {
    IdempotentCall {
        caller: "tester".into(),
        id: Uuid::new_v4(),
        hash: [7; 32],
    }
}

/// That the request comes from this referral.
pub fn referral(referral_id: &str) -> Origin {
    Origin::Referral {
        referral_id: referral_id.to_owned(),
        decision_date: None,
    }
}

/// What creates a request as the form says, under a fresh key.
pub fn creation(form: Form) -> Create {
    Create {
        key: make::key(),
        form,
        allow_duplicate: false,
        series: None,
        prior_messages: Vec::new(),
    }
}

/// Creates a request.
pub async fn insert(
    store: &Store,
    call: IdempotentCall,
    command: Create,
    now: Instant,
) -> Result<BookingRequest, Error> {
    let (key, form) = (command.key.clone(), command.form.clone());
    let context = Context {
        actor: call.caller.clone(),
        ..make::context(now)
    };
    let decide = move || Ok(vec![create(&command, &context)?]);
    let written = store.create(call, key, &form, 1, decide).await?;
    Ok(written.record)
}

/// A booking by staff.
pub fn booking() -> RecordBooking {
    RecordBooking {
        etag: String::new(),
        booking: Booking {
            booking_id: "B-1".into(),
            start_at: at("2026-05-18T08:00:00Z"),
            end_at: at("2026-05-18T08:30:00Z"),
            source: BookingSource::Staff,
            performer_id: None,
            override_reason: String::new(),
        },
        replaces_booking_id: None,
    }
}

/// Records that booking.
pub async fn book(
    store: &Store,
    call: IdempotentCall,
    key: RequestKey,
    now: Instant,
) -> Result<BookingRequest, Error> {
    let (command, context) = (booking(), make::context(now));
    let decide = move |stored: Option<&BookingRequest>| record_booking(stored, &command, &context);
    let written = store.update(call, key, decide).await?;
    Ok(written.record)
}

/// Returns the refusals of acknowledgements, none of which failed.
pub fn refusals(results: Vec<Result<Option<DispatchRefusal>, Error>>) -> Vec<DispatchRefusal> {
    let results = results.into_iter().map(|it| it.expect("read"));
    results.flatten().collect()
}

/// The answer that a message was handed over now.
pub fn sent(lease: &LeaseRef) -> (RequestKey, Acknowledgement) {
    let answer = Acknowledgement {
        id: lease.notification,
        token: lease.token,
        outcome: Outcome::Sent,
        sent_at: None,
        retry_delay: None,
        detail: String::new(),
        may_have_been_sent: false,
    };
    (lease.request.clone(), answer)
}
