//! Identity numbers: which are taken, and that none is ever told.

use care_invitation::contract::v1;
use care_invitation::contract::v1::PersonalIdType::{
    LocalReserveNumber, NationalReserveNumber, Personnummer, Samordningsnummer,
};
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::{ChannelReason, DeliveryChannel};
use tonic::{Code, Status};

use super::calls::updated;
use super::{NOW, booking, created, messages, record};
use crate::harness::{Harness, bad_fields, metadata, refusal, within};
use crate::make;

/// Two regions' series of reserve numbers.
const OID: &str = "1.2.752.97.3.1.3";
const OTHER_OID: &str = "1.2.752.74.9.2";

/// Nothing of a failure may hold the number: not its text, its details or its metadata.
fn assert_silent_about(number: &str, status: &Status) {
    assert!(!status.message().contains(number));
    let details = String::from_utf8_lossy(status.details());
    assert!(!details.contains(number));
    let metadata = format!("{:?}", status.metadata());
    assert!(!metadata.contains(number));
}

#[tokio::test]
async fn identity_numbers_are_checked_by_their_kind_and_never_repeated() {
    let harness = Harness::start(NOW).await;
    for (kind, number, good) in [
        (Personnummer, "198003012385", true),
        (Personnummer, "191212121212", true),
        (Personnummer, "189912311231", true),
        (Personnummer, "200002291235", true),  // a leap day
        (Personnummer, "196408233235", false), // check digit
        (Personnummer, "201509160006", false), // serial 000
        (Personnummer, "190002291235", false), // no leap day
        (Personnummer, "198702001234", false), // no day
        (Personnummer, "179912311231", false), // century
        (Personnummer, "210003011236", false), // century
        (Personnummer, "202603031234", false), // tomorrow
        (Personnummer, "8003012385", false),
        (Personnummer, "19800301-2385", false),
        (Personnummer, "198003012385 ", false),
        (Personnummer, "1980030123850", false),
        (Personnummer, "１９８００３０１２３８５", false),
        (Personnummer, "197302889931", false), // a coordination number
        (Samordningsnummer, "197302889931", true),
        (Samordningsnummer, "191500882392", true), // no month
        (Samordningsnummer, "191500722390", true), // no month
        (Samordningsnummer, "197302609925", true), // no day
        (Samordningsnummer, "202600609925", true), // neither, this year
        (Samordningsnummer, "202700609924", false), // next year
        (Samordningsnummer, "197302909929", false), // 30 February
        (Samordningsnummer, "197300929929", false), // day 92
        (Samordningsnummer, "197313619921", false), // month 13
        (Samordningsnummer, "197210869924", false), // check digit
        (Samordningsnummer, "202603631231", false), // tomorrow
        (Samordningsnummer, "198003012385", false), // a personnummer
        (NationalReserveNumber, "19A8003012BX", true),
        (NationalReserveNumber, "999999999999", true),
        (NationalReserveNumber, "19a8003012bx", false),
        (NationalReserveNumber, "19A8003012B", false),
        (NationalReserveNumber, "19A8003012B-", false),
        (NationalReserveNumber, "19A80030-1-BX", false),
        (NationalReserveNumber, "19A8003012BÅ", false),
    ] {
        let mut form = make::wire_form("2026-05-18", "2026-06-12");
        form.patient = Some(v1::Patient {
            personal_id: number.into(),
            personal_id_type: kind.into(),
            ..Default::default()
        });
        match harness.create(make::wire_create(form)).await {
            Ok(request) => {
                assert!(good, "{number}");
                assert_eq!(request.patient.expect("a patient").personal_id, number);
            }
            Err(status) => {
                assert!(!good, "{number}: {status:?}");
                let reason = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
                assert_eq!(refusal(&status), reason, "{number}");
                assert_eq!(bad_fields(&status), ["booking_request.patient.personal_id"]);
                assert_silent_about(number, &status);
            }
        }
    }
}

/// A patient with a local reserve number.
fn local(issuer: &str, number: &str) -> v1::Patient {
    v1::Patient {
        personal_id: number.into(),
        personal_id_type: LocalReserveNumber.into(),
        issuer: issuer.into(),
        ..Default::default()
    }
}

fn form_of(patient: v1::Patient) -> v1::BookingRequest {
    v1::BookingRequest {
        patient: Some(patient),
        ..make::wire_form("2026-05-18", "2026-06-12")
    }
}

#[tokio::test]
async fn reserve_numbers_are_kept_in_one_form_and_shown_with_their_issuer() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, form_of(local(OID, "sos-1"))).await;
    let shown = request.patient.expect("a patient");
    assert_eq!(
        (shown.personal_id.as_str(), shown.issuer.as_str()),
        ("SOS-1", OID)
    );
    let national = v1::Patient {
        personal_id: "19A80030-12BX".into(),
        personal_id_type: NationalReserveNumber.into(),
        ..Default::default()
    };
    let request = created(&harness, form_of(national)).await;
    let shown = request.patient.expect("a patient");
    assert_eq!(
        (shown.personal_id.as_str(), shown.issuer.as_str()),
        ("19A8003012BX", "")
    );

    let too_long = "R".repeat(21);
    let number = "booking_request.patient.personal_id";
    let issuer = "booking_request.patient.issuer";
    for (patient, fields) in [
        (local("", "R-1"), vec![issuer]),
        (local("urn:oid:1.2.752", "R-1"), vec![issuer]),
        (local(OID, &too_long), vec![number]),
        (local("x", "R_1"), vec![issuer, number]),
        (
            v1::Patient {
                personal_id_type: NationalReserveNumber.into(),
                ..local(OID, "19A8003012BX")
            },
            vec![issuer],
        ),
        (
            v1::Patient {
                personal_id_type: Personnummer.into(),
                ..local(OID, "198003012385")
            },
            vec![issuer],
        ),
    ] {
        let status = harness
            .create(make::wire_create(form_of(patient.clone())))
            .await;
        let status = status.expect_err("refused");
        let mut named = bad_fields(&status);
        named.sort();
        assert_eq!(named, fields);
        assert_silent_about(&patient.personal_id, &status);
    }
}

#[tokio::test]
async fn the_same_number_of_two_issuers_is_two_patients() {
    let harness = Harness::start(NOW).await;
    let mine = created(&harness, form_of(local(OID, "R-1"))).await;
    // Not a duplicate: somebody else.
    let theirs = created(&harness, form_of(local(OTHER_OID, "R-1"))).await;
    let again = harness.create(make::wire_create(form_of(local(OID, "r-1"))));
    let status = again.await.expect_err("a duplicate");
    assert_eq!(refusal(&status).1, "DUPLICATE_REQUEST");
    assert_eq!(metadata(&status, "name"), mine.name);

    // Due notifications say whom they are for.
    harness.advance("2026-04-06T07:00:00Z");
    let mut issuers: Vec<_> = harness
        .lease_due()
        .await
        .into_iter()
        .map(|due| (due.booking_request, due.personal_id, due.issuer))
        .collect();
    issuers.sort();
    let told = |name: &str, issuer: &str| (name.to_owned(), "R-1".to_owned(), issuer.to_owned());
    let mut expected = [told(&mine.name, OID), told(&theirs.name, OTHER_OID)];
    expected.sort();
    assert_eq!(issuers, expected);

    // A death closes the requests of the one who has died, in every care unit.
    let death = v1::UpdatePatientRequest {
        parent: "careUnits/-".into(),
        patient: Some(local(OID, "R-1")),
        deceased: true,
        request_id: make::request_id(),
        ..Default::default()
    };
    let changed = updated(&harness, death).await.expect("updated");
    assert_eq!(changed, [mine.name.as_str()]);
    let of_mine = harness.get(&mine.name).await.expect("a request");
    assert_eq!(of_mine.state(), State::Cancelled);
    let of_theirs = harness.get(&theirs.name).await.expect("a request");
    assert_eq!(of_theirs.state(), State::Invited);

    // A list of one holds nothing of the other.
    let of = |issuer: &str| v1::WorklistQuery {
        worklists: vec![v1::Worklist::All.into()],
        care_units: vec![make::wire_unit()],
        personal_id: "r-1".into(),
        personal_id_type: LocalReserveNumber.into(),
        issuer: issuer.into(),
        ..Default::default()
    };
    for (issuer, name) in [(OID, &mine.name), (OTHER_OID, &theirs.name)] {
        let list = v1::ListWorklistRequest {
            query: Some(of(issuer)),
            ..Default::default()
        };
        let listed = within(harness.worklists().list_worklist(list)).await;
        let listed = listed.expect("a page").into_inner().booking_requests;
        let names: Vec<_> = listed.iter().map(|it| &it.name).collect();
        assert_eq!(names, [name]);
    }
    let list = v1::ListWorklistRequest {
        query: Some(of("")),
        ..Default::default()
    };
    let status = within(harness.worklists().list_worklist(list)).await;
    assert_eq!(bad_fields(&status.expect_err("whose?")), ["query.issuer"]);
}

#[tokio::test]
async fn a_number_that_1177_does_not_know_is_written_to_by_letter() {
    for (kind, number, channel, reason) in [
        (
            Personnummer,
            "198003012385",
            DeliveryChannel::Inbox,
            ChannelReason::Default,
        ),
        (
            Samordningsnummer,
            "197302889931",
            DeliveryChannel::Letter,
            ChannelReason::IdentityNumber,
        ),
        (
            NationalReserveNumber,
            "19A8003012BX",
            DeliveryChannel::Letter,
            ChannelReason::IdentityNumber,
        ),
        (
            LocalReserveNumber,
            "R-1",
            DeliveryChannel::Letter,
            ChannelReason::IdentityNumber,
        ),
    ] {
        let harness = Harness::start(NOW).await;
        let mut form = make::wire_form("2026-05-18", "2026-06-12");
        let patient = form.patient.as_mut().expect("a patient");
        patient.personal_id = number.into();
        patient.personal_id_type = kind.into();
        if kind == LocalReserveNumber {
            patient.issuer = OID.into();
        }
        let request = created(&harness, form).await;
        for message in messages(&request) {
            assert_eq!(
                (message.channel(), message.channel_reason()),
                (channel, reason)
            );
        }
    }
}

#[tokio::test]
async fn no_refusal_of_a_call_holds_the_number_that_stands_in_it_or_that_is_stored() {
    const NUMBER: &str = "198003012385";
    let harness = Harness::start(NOW).await;
    let form = make::wire_form("2026-05-18", "2026-06-12");
    let call = make::wire_create(form.clone());
    let request = harness.create(call.clone()).await.expect("created");
    let name = &request.name;

    let mut refused: Vec<Status> = Vec::new();
    // The number in every field where somebody may put it by mistake.
    let misplaced = v1::CreateBookingRequestRequest {
        parent: format!("careUnits/{NUMBER}"),
        request_id: NUMBER.into(),
        booking_request: Some(v1::BookingRequest {
            patient: Some(v1::Patient {
                personal_id: NUMBER.into(),
                personal_id_type: Samordningsnummer.into(),
                preferred_language: NUMBER.into(),
                ..Default::default()
            }),
            origin: Some(make::wire_referral(&format!("{NUMBER}\0"))),
            purpose: format!("{NUMBER}\0"),
            internal_comment: format!("{NUMBER}\0"),
            visit_type: Some(v1::VisitType {
                code: format!("{NUMBER}\0"),
                display_name: format!("{NUMBER}\0"),
            }),
            constraints: Some(v1::BookingConstraints {
                time_windows: vec![v1::TimeWindow {
                    start_clock: NUMBER.into(),
                    end_clock: NUMBER.into(),
                }],
                performer_ids: vec![NUMBER.into()],
                ..make::wire_constraints(NUMBER, NUMBER)
            }),
            ..form.clone()
        }),
        ..Default::default()
    };
    refused.extend(harness.create(misplaced).await.err());
    refused.extend(harness.get(NUMBER).await.err());
    refused.extend(harness.cancel(make::wire_cancel(NUMBER)).await.err());
    // A duplicate, a reused id, a wrong etag, a state that does not allow it.
    refused.extend(harness.create(make::wire_create(form.clone())).await.err());
    let other = v1::CreateBookingRequestRequest {
        allow_duplicate: true,
        ..call
    };
    refused.extend(harness.create(other).await.err());
    refused.extend(harness.invite(make::wire_invite(name)).await.err());
    let outdated = v1::CancelBookingRequestRequest {
        etag: NUMBER.into(),
        ..make::wire_cancel(name)
    };
    refused.extend(harness.cancel(outdated).await.err());
    let late = booking("B-1", "2026-06-15T08:00:00Z", "2026-06-15T08:30:00Z");
    refused.extend(harness.book(record(name, late)).await.err());
    let query = v1::WorklistQuery {
        worklists: vec![v1::Worklist::All.into()],
        care_units: vec![format!("careUnits/{NUMBER}")],
        personal_id: format!("{NUMBER}0"),
        referral_id: format!("{NUMBER}\0"),
        visit_type_codes: vec![format!("{NUMBER}\0")],
        ..Default::default()
    };
    let list = v1::ListWorklistRequest {
        query: Some(query.clone()),
        ..Default::default()
    };
    refused.extend(within(harness.worklists().list_worklist(list)).await.err());
    let paged = v1::ListWorklistRequest {
        query: Some(v1::WorklistQuery {
            worklists: vec![v1::Worklist::All.into()],
            care_units: vec![make::wire_unit()],
            personal_id: NUMBER.into(),
            personal_id_type: Personnummer.into(),
            ..Default::default()
        }),
        page_size: 0,
        page_token: NUMBER.into(),
        ..Default::default()
    };
    refused.extend(within(harness.worklists().list_worklist(paged)).await.err());

    assert_eq!(refused.len(), 10);
    for status in &refused {
        refusal(status);
        assert_silent_about(NUMBER, status);
    }
}
