//! What a portal may do for the patient by what it is shown: the calls that `may_book`, `may_move` and
//! `may_cancel` promise are taken as they are.

use care_invitation::contract::v1;
use care_invitation::contract::v1::BookingCancellationReason;
use care_invitation::contract::v1::record_booking_cancellation_request::Next;
use care_invitation::contract::v1::{BookingSource, PersonalIdType, Protection};
use tonic::Status;

use super::calls::{record_booking_cancellation, unbooked};
use super::slots::{FREE, brought, moment};
use super::{NOW, booking, record};
use crate::harness::{Harness, refusal, within};
use crate::make;
use crate::worklist_user;

/// What the patient is shown.
async fn shown(harness: &Harness) -> Vec<v1::PatientRequest> {
    let call = v1::ListPatientRequestsRequest {
        identity: Some(v1::PatientIdentity {
            personal_id: "198003012385".into(),
            personal_id_type: PersonalIdType::Personnummer.into(),
            issuer: String::new(),
        }),
        ..Default::default()
    };
    let answer = within(harness.patients().list_patient_requests(call)).await;
    answer.expect("a page").into_inner().patient_requests
}

/// What the patient is shown of a request in the state of a row, and its name.
async fn shown_in(harness: &Harness, row: &str) -> (String, Option<v1::PatientRequest>) {
    let name = match row {
        "protected since" => {
            let name = brought(harness, "invited").await;
            worklist_user::set_protection(harness, Protection::ConfidentialityMarked).await;
            name
        }
        _ => brought(harness, row).await,
    };
    if harness.clock.now() < make::at(moment(row)) {
        harness.advance(moment(row));
    }
    let shown = shown(harness).await;
    (name, shown.into_iter().next())
}

fn said(answer: Result<v1::BookingRequest, Status>) -> String {
    answer.map_or_else(|status| refusal(&status).1, |_| "OK".into())
}

#[tokio::test]
async fn what_the_patient_may_do_is_taken_without_further_input() {
    const STATE: &str = "STATE_CONFLICT";
    // May book, may move, may cancel; what RecordBooking says, and RecordBookingCancellation.
    for (row, may, books, cancels) in [
        ("requested", None, STATE, STATE),
        ("not told yet", None, STATE, STATE),
        ("held and not told", None, STATE, STATE),
        ("invited", Some((true, false, false)), "OK", STATE),
        ("held", Some((true, false, false)), "OK", STATE),
        // Hidden, and still open to the patient who holds the link of the message.
        ("protected since", None, "OK", STATE),
        ("no response", Some((true, false, false)), "OK", STATE),
        ("booked", Some((false, true, true)), "OK", "OK"),
        (
            "booked directly",
            Some((false, false, false)),
            STATE,
            "FIELD_INVALID",
        ),
        (
            "booked, a day before",
            Some((false, true, true)),
            "OK",
            "OK",
        ),
        // The portal keeps to the deadline: RecordBookingCancellation serves staff too.
        (
            "booked, less than a day before",
            Some((false, false, false)),
            "TOO_LATE",
            "OK",
        ),
        ("declined", Some((false, false, false)), STATE, STATE),
        ("cancelled", Some((false, false, false)), STATE, STATE),
        ("expired", Some((false, false, false)), STATE, STATE),
        ("expired and never invited", None, STATE, STATE),
    ] {
        let harness = Harness::start(NOW).await;
        let (name, shown) = shown_in(&harness, row).await;
        let found = shown
            .as_ref()
            .map(|it| (it.may_book, it.may_move, it.may_cancel));
        assert_eq!(found, may, "{row}");
        let etag = shown.map(|it| it.etag).unwrap_or_default();
        let visit = v1::Booking {
            source: BookingSource::Patient.into(),
            ..booking("B-1", FREE.0, FREE.1)
        };
        let book = v1::RecordBookingRequest {
            etag: etag.clone(),
            ..record(&name, visit)
        };
        assert_eq!(said(harness.book(book).await), books, "{row}");

        let harness = Harness::start(NOW).await;
        let (name, shown) = shown_in(&harness, row).await;
        let cancel = v1::RecordBookingCancellationRequest {
            reason: BookingCancellationReason::Patient.into(),
            etag: shown.map(|it| it.etag).unwrap_or_default(),
            ..record_booking_cancellation(&name, "B-1", Next::Requested)
        };
        assert_eq!(said(unbooked(&harness, cancel).await), cancels, "{row}");
    }
}

#[tokio::test]
async fn a_request_whose_booking_is_cancelled_is_shown_no_longer() {
    for next in [Next::Requested, Next::Invited] {
        let harness = Harness::start(NOW).await;
        let (name, _) = shown_in(&harness, "booked").await;
        let call = v1::RecordBookingCancellationRequest {
            reason: BookingCancellationReason::Patient.into(),
            ..record_booking_cancellation(&name, "B-1", next)
        };
        unbooked(&harness, call).await.expect("cancelled");
        assert_eq!(shown(&harness).await, [], "{next:?}");
        // A new round shows it again once its first message is out.
        let leased = harness.lease_due().await.len();
        let names: Vec<_> = shown(&harness)
            .await
            .into_iter()
            .map(|it| it.name)
            .collect();
        match next {
            Next::Invited => assert_eq!((leased, names), (1, vec![name])),
            Next::Requested | Next::Unspecified => assert_eq!((leased, names), (0, vec![])),
        }
    }
}
