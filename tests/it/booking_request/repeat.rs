//! Repeats of a write: recognised by the caller's id and content, whatever has happened since.

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request::State;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::{NOW, booking, created, done, record, requested, state};
use crate::harness::{Harness, bad_fields, refusal, within};
use crate::make;

/// One write of each kind.
#[derive(Clone)]
enum Write {
    Create(Box<v1::CreateBookingRequestRequest>),
    Invite(v1::ChangeToInvitationRequest),
    Book(v1::RecordBookingRequest),
    Cancel(v1::CancelBookingRequestRequest),
}

impl Write {
    /// A write of each kind, with the request that it is about if there is one before.
    async fn each(harness: &Harness) -> Vec<Self> {
        let mut names = Vec::new();
        for i in 0..3 {
            let form = v1::BookingRequest {
                origin: Some(make::wire_referral(&format!("R-1{i}"))),
                ..requested("2026-05-18", "2026-06-12")
            };
            names.push(created(harness, form).await.name);
        }
        let visit = booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
        vec![
            Self::Create(Box::new(make::wire_create(requested(
                "2026-05-18",
                "2026-06-12",
            )))),
            Self::Invite(make::wire_invite(&names[0])),
            Self::Book(record(&names[1], visit)),
            Self::Cancel(make::wire_cancel(&names[2])),
        ]
    }

    fn action(&self) -> &'static str {
        match self {
            Self::Create(_) => "CREATE_BOOKING_REQUEST",
            Self::Invite(_) => "CHANGE_TO_INVITATION",
            Self::Book(_) => "RECORD_BOOKING",
            Self::Cancel(_) => "CANCEL_BOOKING_REQUEST",
        }
    }

    /// The same id with other content.
    fn altered(&self) -> Self {
        let mut altered = self.clone();
        match &mut altered {
            Self::Create(call) => call.allow_duplicate = true,
            Self::Invite(call) => call.comment = "annat".into(),
            Self::Book(call) => {
                call.booking.as_mut().expect("a booking").booking_id = "B-2".into();
            }
            Self::Cancel(call) => call.reason = v1::CancelReason::PatientRequest.into(),
        }
        altered
    }

    /// The same write as another call.
    fn anew(&self) -> Self {
        let mut anew = self.clone();
        match &mut anew {
            Self::Create(call) => call.request_id = make::request_id(),
            Self::Invite(v1::ChangeToInvitationRequest { request_id, .. })
            | Self::Book(v1::RecordBookingRequest { request_id, .. })
            | Self::Cancel(v1::CancelBookingRequestRequest { request_id, .. }) => {
                *request_id = make::request_id();
            }
        }
        anew
    }

    /// The same with the ids of unit, request and call spelled in the other case.
    fn respelled(&self) -> Self {
        let unit = make::CARE_UNIT;
        let lower = |name: &mut String| *name = name.replace(unit, &unit.to_lowercase());
        let mut respelled = self.clone();
        let request_id = match &mut respelled {
            Self::Create(call) => {
                lower(&mut call.parent);
                &mut call.request_id
            }
            Self::Invite(v1::ChangeToInvitationRequest {
                name, request_id, ..
            })
            | Self::Book(v1::RecordBookingRequest {
                name, request_id, ..
            })
            | Self::Cancel(v1::CancelBookingRequestRequest {
                name, request_id, ..
            }) => {
                lower(name);
                request_id
            }
        };
        *request_id = request_id.to_uppercase();
        respelled
    }

    async fn call(self, harness: &Harness) -> Result<v1::BookingRequest, Status> {
        match self {
            Self::Create(call) => harness.create(*call).await,
            Self::Invite(call) => harness.invite(call).await,
            Self::Book(call) => harness.book(call).await,
            Self::Cancel(call) => harness.cancel(call).await,
        }
    }
}

fn assert_reused(status: &Status, row: &str) {
    let reason = (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned());
    assert_eq!(refusal(status), reason, "{row}");
}

#[tokio::test]
async fn a_repeat_changes_nothing_and_answers_as_the_first_did() {
    let harness = Harness::start(NOW).await;
    for write in Write::each(&harness).await {
        let row = write.action();
        let first = write.clone().call(&harness).await.expect(row);
        for repeat in [write.clone(), write.respelled()] {
            let answer = repeat.call(&harness).await.expect(row);
            assert_eq!(answer, first, "{row}");
        }
        assert_eq!(
            harness.get(&first.name).await.expect("read"),
            first,
            "{row}"
        );
        let entries = harness.history(&first.name).await;
        let times = done(&entries).iter().filter(|done| **done == row).count();
        assert_eq!(times, 1, "{row}");
    }
}

#[tokio::test]
async fn a_repeat_answers_with_the_request_as_it_stands_now() {
    let harness = Harness::start(NOW).await;
    for write in Write::each(&harness).await {
        let row = write.action();
        let first = write.clone().call(&harness).await.expect(row);
        // Something else happens to it, if anything may.
        harness
            .clock
            .advance(harness.clock.now() + chrono::Duration::hours(1))
            .expect("forward");
        let present = match &write {
            Write::Create(_) | Write::Book(_) => harness
                .invite(make::wire_invite(&first.name))
                .await
                .expect("invited"),
            Write::Invite(_) => harness
                .cancel(make::wire_cancel(&first.name))
                .await
                .expect("cancelled"),
            Write::Cancel(_) => first.clone(),
        };
        let repeated = write.call(&harness).await.expect(row);
        assert_eq!(repeated, present, "{row}");
        assert_eq!(
            harness.get(&first.name).await.expect("read"),
            present,
            "{row}"
        );
    }
}

#[tokio::test]
async fn the_same_id_with_other_content_is_refused_and_changes_nothing() {
    let harness = Harness::start(NOW).await;
    for write in Write::each(&harness).await {
        let row = write.action();
        let first = write.clone().call(&harness).await.expect(row);
        let status = write.altered().call(&harness).await.expect_err(row);
        assert_reused(&status, row);
        assert_eq!(
            harness.get(&first.name).await.expect("read"),
            first,
            "{row}"
        );
    }
}

#[tokio::test]
async fn an_id_belongs_to_one_call_of_any_kind_in_its_care_unit() {
    let harness = Harness::start(NOW).await;
    let call = make::wire_create(requested("2026-05-18", "2026-06-12"));
    let request = harness.create(call.clone()).await.expect("created");
    let request_id = call.request_id.clone();
    let invite = v1::ChangeToInvitationRequest {
        request_id: request_id.clone(),
        ..make::wire_invite(&request.name)
    };
    assert_reused(&harness.invite(invite).await.expect_err("reused"), "invite");
    let cancel = v1::CancelBookingRequestRequest {
        request_id: request_id.clone(),
        ..make::wire_cancel(&request.name)
    };
    assert_reused(&harness.cancel(cancel).await.expect_err("reused"), "cancel");

    // In another care unit it is another id.
    let elsewhere = v1::CreateBookingRequestRequest {
        parent: "careUnits/SE2321000131-P2".into(),
        ..call.clone()
    };
    let other = harness.create(elsewhere.clone()).await.expect("created");
    assert!(other.name.starts_with("careUnits/SE2321000131-P2/"));
    for (call, name) in [(call, &request.name), (elsewhere, &other.name)] {
        let repeated = harness.create(call).await.expect("a repeat");
        assert_eq!(&repeated.name, name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_at_once_do_it_once() {
    let harness = Harness::start(NOW).await;
    for write in Write::each(&harness).await {
        let row = write.action();
        let mut calls = JoinSet::new();
        for _ in 0..100 {
            let (write, mut client) = (write.clone(), harness.requests());
            calls.spawn(async move {
                let answer = match write {
                    Write::Create(call) => {
                        let answer = client.create_booking_request(*call).await?;
                        answer.into_inner().booking_request
                    }
                    Write::Invite(call) => {
                        let answer = client.change_to_invitation(call).await?;
                        answer.into_inner().booking_request
                    }
                    Write::Book(call) => {
                        let answer = client.record_booking(call).await?;
                        answer.into_inner().booking_request
                    }
                    Write::Cancel(call) => {
                        let answer = client.cancel_booking_request(call).await?;
                        answer.into_inner().booking_request
                    }
                };
                Ok::<_, Status>(answer.expect("the request"))
            });
        }
        let answers = within(calls.join_all()).await;
        let mut requests = answers.into_iter().map(|answer| answer.expect(row));
        let first = requests.next().expect("a hundred");
        assert!(requests.all(|request| request == first), "{row}");
        let entries = harness.history(&first.name).await;
        let times = done(&entries).iter().filter(|done| **done == row).count();
        assert_eq!(times, 1, "{row}");
    }
    let count = make::wire_count(vec![make::wire_unit()]);
    let answer = within(harness.worklists().count_worklists(count)).await;
    let counts = answer.expect("counts").into_inner().counts;
    // One created and requested, one invited; the others are booked and cancelled.
    assert_eq!(counts[..6].iter().map(|it| it.count).sum::<i64>(), 2);
}

#[tokio::test]
async fn a_repeat_is_recognised_when_its_dates_have_passed() {
    let harness = Harness::start(NOW).await;
    let create = make::wire_create(requested("2026-03-02", "2026-03-13"));
    let request = harness.create(create.clone()).await.expect("created");
    let invite = v1::ChangeToInvitationRequest {
        constraints: Some(make::wire_constraints("2026-03-03", "2026-03-06")),
        ..make::wire_invite(&request.name)
    };
    harness.invite(invite.clone()).await.expect("invited");
    let visit = booking("B-1", "2026-03-03T08:00:00Z", "2026-03-03T08:30:00Z");
    let book = record(&request.name, visit);
    let booked = harness.book(book.clone()).await.expect("booked");

    harness.advance("2026-04-01T09:00:00Z");
    for write in [
        Write::Create(Box::new(create)),
        Write::Invite(invite),
        Write::Book(book),
    ] {
        let row = write.action();
        let repeated = write.clone().call(&harness).await.expect(row);
        assert_eq!(repeated, booked, "{row}");
        if let Write::Create(_) = write {
            let status = write.anew().call(&harness).await.expect_err("too late");
            assert_eq!(refusal(&status).1, "FIELD_INVALID");
            assert!(!bad_fields(&status).is_empty());
        }
    }
}

#[tokio::test]
async fn a_repeat_is_recognised_when_its_etag_is_no_longer_the_present_one() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, requested("2026-05-18", "2026-06-12")).await;
    let invite = v1::ChangeToInvitationRequest {
        etag: request.etag.clone(),
        ..make::wire_invite(&request.name)
    };
    let invited = harness.invite(invite.clone()).await.expect("invited");
    assert_ne!(invited.etag, request.etag);
    assert_eq!(harness.invite(invite).await.expect("a repeat"), invited);
}

#[tokio::test]
async fn text_in_nfc_and_in_nfd_is_the_same_content() {
    let harness = Harness::start(NOW).await;
    let mut create = make::wire_create(requested("2026-05-18", "2026-06-12"));
    let form = create.booking_request.as_mut().expect("a form");
    form.purpose = "O\u{308}ron".into();
    let first = harness.create(create.clone()).await.expect("created");
    let form = create.booking_request.as_mut().expect("a form");
    form.purpose = "Öron".into();
    // What is output only is no content either.
    form.etag = "mine".into();
    assert_eq!(harness.create(create).await.expect("a repeat"), first);

    let mut invite = make::wire_invite(&first.name);
    invite.comment = "a\u{30a}ter".into();
    let invited = harness.invite(invite.clone()).await.expect("invited");
    invite.comment = "åter".into();
    assert_eq!(harness.invite(invite).await.expect("a repeat"), invited);
}

#[tokio::test]
async fn a_call_that_failed_is_not_remembered() {
    let harness = Harness::start(NOW).await;
    // For its dates, for its duplicate, for its etag, for its state: each id may be used again.
    let mut create = make::wire_create(requested("2026-03-01", "2026-03-13"));
    let status = harness.create(create.clone()).await.expect_err("yesterday");
    assert_eq!(refusal(&status).1, "FIELD_INVALID");
    create.booking_request = Some(requested("2026-05-18", "2026-06-12"));
    let request = harness.create(create).await.expect("created");

    let mut second = make::wire_create(requested("2026-05-18", "2026-06-12"));
    let status = harness
        .create(second.clone())
        .await
        .expect_err("a duplicate");
    assert_eq!(refusal(&status).1, "DUPLICATE_REQUEST");
    second.allow_duplicate = true;
    let second = harness.create(second).await.expect("created");
    assert_ne!(second.name, request.name);

    let mut invite = make::wire_invite(&request.name);
    invite.etag = "r0".into();
    let status = harness
        .invite(invite.clone())
        .await
        .expect_err("another etag");
    assert_eq!(refusal(&status).1, "ETAG_MISMATCH");
    invite.etag = request.etag;
    let invited = harness.invite(invite).await.expect("invited");

    let visit = booking("B-1", "2026-06-15T08:00:00Z", "2026-06-15T08:30:00Z");
    let mut book = record(&invited.name, visit);
    let status = harness.book(book.clone()).await.expect_err("outside");
    assert_eq!(refusal(&status).1, "OUTSIDE_CONSTRAINTS");
    book.booking.as_mut().expect("a booking").override_reason = "semester".into();
    assert_eq!(
        state(&harness.book(book).await.expect("booked")),
        State::Booked
    );
}

#[tokio::test]
async fn a_call_that_found_nothing_to_change_is_remembered_too() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, requested("2026-05-18", "2026-06-12")).await;
    let visit = booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
    let first = record(&request.name, visit.clone());
    let booked = harness.book(first).await.expect("booked");
    let second = record(&request.name, visit);
    let again = harness
        .book(second.clone())
        .await
        .expect("the same booking");
    assert_eq!(again, booked);

    // The visit is cancelled and the patient invited again; then the answer to the second call is
    // asked for once more, because it was lost.
    let invited = harness
        .invite(make::wire_invite(&request.name))
        .await
        .expect("invited");
    let repeated = harness.book(second.clone()).await.expect("a repeat");
    assert_eq!(repeated, invited, "the repeat has booked the visit again");
    let status = Write::Book(second)
        .altered()
        .call(&harness)
        .await
        .expect_err("other content");
    assert_reused(&status, "nothing changed");
}
