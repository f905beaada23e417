//! What every write has in common, for the calls of a request's later life: its id, its etag, and
//! the name of a request that is not there.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Outcome;
use tonic::{Code, Status};

use super::calls::{change, changed, contact, contacted, release, released};
use super::{NOBODY, NOW, created};
use crate::harness::{Harness, bad_fields, refusal};
use crate::make;

/// A call on a request that a contact holds.
#[derive(Clone, Debug)]
enum Write {
    Change(Box<v1::ChangeBookingRequestRequest>),
    Contact(v1::RecordPatientContactRequest),
    Release(v1::ReleaseHoldRequest),
}

impl Write {
    /// One of each kind.
    fn each(name: &str) -> [Self; 3] {
        let to = v1::BookingRequest {
            purpose: "Hals".into(),
            ..Default::default()
        };
        [
            Self::Change(Box::new(change(name, &["purpose"], to))),
            Self::Contact(contact(name, Outcome::WillBook)),
            Self::Release(release(name)),
        ]
    }

    /// The call with another comment, which is other content.
    fn otherwise(mut self) -> Self {
        let comment = match &mut self {
            Self::Change(call) => &mut call.comment,
            Self::Contact(call) => &mut call.comment,
            Self::Release(call) => &mut call.comment,
        };
        comment.push_str("annat");
        self
    }

    fn with_etag(mut self, etag: &str) -> Self {
        let given = match &mut self {
            Self::Change(call) => &mut call.etag,
            Self::Contact(call) => &mut call.etag,
            Self::Release(call) => &mut call.etag,
        };
        *given = etag.into();
        self
    }

    fn with_id(mut self, id: &str) -> Self {
        let given = match &mut self {
            Self::Change(call) => &mut call.request_id,
            Self::Contact(call) => &mut call.request_id,
            Self::Release(call) => &mut call.request_id,
        };
        *given = id.into();
        self
    }

    async fn call(&self, harness: &Harness) -> Result<v1::BookingRequest, Status> {
        match self.clone() {
            Self::Change(call) => changed(harness, *call).await,
            Self::Contact(call) => contacted(harness, call).await,
            Self::Release(call) => released(harness, call).await,
        }
    }
}

/// An invitation that the patient's wish to be called holds.
async fn held(harness: &Harness) -> v1::BookingRequest {
    let request = created(harness, make::wire_form("2026-05-18", "2026-06-12")).await;
    let call = contact(&request.name, Outcome::CallBack);
    contacted(harness, call).await.expect("held")
}

#[tokio::test]
async fn a_repeat_answers_with_the_request_as_it_stands_now_and_changes_nothing() {
    for which in 0..3 {
        let harness = Harness::start(NOW).await;
        let request = held(&harness).await;
        let write = Write::each(&request.name)[which].clone();
        let first = write.call(&harness).await.expect("done");
        assert_eq!(
            write.call(&harness).await.expect("a repeat"),
            first,
            "{write:?}"
        );
        // In whatever state it finds the request, and whenever.
        harness.advance("2026-03-20T09:00:00Z");
        let call = make::wire_cancel(&request.name);
        let closed = harness.cancel(call).await.expect("cancelled");
        assert_eq!(
            write.call(&harness).await.expect("a repeat"),
            closed,
            "{write:?}"
        );
        let entries = harness.history(&request.name).await.len();
        let status = write.clone().otherwise().call(&harness).await;
        let reused = (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned());
        assert_eq!(
            refusal(&status.expect_err("other content")),
            reused,
            "{write:?}"
        );
        assert_eq!(harness.history(&request.name).await.len(), entries);
    }
}

#[tokio::test]
async fn a_write_with_another_etag_is_aborted_and_changes_nothing() {
    let harness = Harness::start(NOW).await;
    let request = held(&harness).await;
    for write in Write::each(&request.name) {
        let status = write.with_etag("another").call(&harness).await;
        let aborted = (Code::Aborted, "ETAG_MISMATCH".to_owned());
        assert_eq!(refusal(&status.expect_err("aborted")), aborted);
    }
    assert_eq!(harness.get(&request.name).await.expect("read"), request);
    let mut etag = request.etag;
    for write in Write::each(&request.name) {
        let after = write.with_etag(&etag).call(&harness).await.expect("done");
        assert_ne!(after.etag, etag);
        etag = after.etag;
    }
}

#[tokio::test]
async fn a_request_that_is_not_there_is_not_found_and_bad_names_and_ids_are_named() {
    let harness = Harness::start(NOW).await;
    held(&harness).await;
    let paths = ["booking_request.name", "name", "name"];
    for (write, path) in Write::each(NOBODY).into_iter().zip(paths) {
        let status = write.call(&harness).await.expect_err("nobody");
        let expected = (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned());
        assert_eq!(refusal(&status), expected, "{write:?}");
        let status = write.with_id("1").call(&harness).await;
        assert_eq!(
            bad_fields(&status.expect_err("no id")),
            ["request_id"],
            "{path}"
        );
    }
    for (write, path) in Write::each("bookingRequests/1").into_iter().zip(paths) {
        let status = write.call(&harness).await.expect_err("no name");
        assert_eq!(bad_fields(&status), [path]);
    }
}
