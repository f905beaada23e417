//! Compressed messages, both ways: the same limits hold as for others.

use std::num::NonZeroU32;

use care_invitation::contract::v1;
use care_invitation::grpc::middleware::Limits;
use care_invitation::grpc::middleware::subject::SubjectLimits;
use prost::Message;
use tonic::Code;
use tonic::codec::CompressionEncoding;

use crate::harness::{Harness, refusal, within};
use crate::make;
use crate::wire::{Wire, frame};

const NOW: &str = "2026-03-02T09:00:00Z";
const GET: &str = "/careinvitation.v1.BookingRequestService/GetBookingRequest";
const LIST: &str = "/careinvitation.v1.WorklistService/ListWorklist";
const BOTH: [(CompressionEncoding, &str); 2] = [
    (CompressionEncoding::Gzip, "gzip"),
    (CompressionEncoding::Zstd, "zstd"),
];
const MIB: usize = 1_024 * 1_024;

fn list() -> v1::ListWorklistRequest {
    v1::ListWorklistRequest {
        query: Some(v1::WorklistQuery {
            care_units: vec![make::wire_unit()],
            worklists: vec![v1::Worklist::CareInvitations.into()],
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[tokio::test]
async fn calls_are_compressed_both_ways() {
    let harness = Harness::start(NOW).await;
    for (encoding, name) in BOTH {
        let mut create = make::wire_create(make::wire_form("2026-05-18", "2026-06-12"));
        create.allow_duplicate = true;
        let requests = harness.requests().send_compressed(encoding);
        let mut requests = requests.accept_compressed(encoding);
        let answer = within(requests.create_booking_request(create)).await;
        let answer = answer.expect("created");
        let created = answer.into_inner().booking_request.expect("the request");
        let worklists = harness.worklists().send_compressed(encoding);
        let mut worklists = worklists.accept_compressed(encoding);
        let listed = within(worklists.list_worklist(list()))
            .await
            .expect("a list");
        let compressed = listed.metadata().get("grpc-encoding");
        assert_eq!(compressed.expect("compressed"), name);
        let listed = listed.into_inner().booking_requests;
        assert!(listed.iter().any(|it| it.name == created.name));
    }
}

#[tokio::test]
async fn a_bomb_is_refused() {
    let harness = Harness::start(NOW).await;
    for (encoding, name) in BOTH {
        for (length, expected) in [
            (5 * MIB, "MESSAGE_MALFORMED"),
            (300 * MIB, "MESSAGE_MALFORMED"),
            (4 * MIB - 1_024, "FIELD_INVALID"),
        ] {
            let mut form = make::wire_form("2026-05-18", "2026-06-12");
            form.internal_comment = "x".repeat(length);
            let mut requests = harness.requests().send_compressed(encoding);
            let refused = requests.create_booking_request(make::wire_create(form));
            let refused = within(refused).await.expect_err("refused");
            let expected = (Code::InvalidArgument, expected.to_owned());
            assert_eq!(refusal(&refused), expected, "{name}, {length} bytes");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_decompressed_is_malformed() {
    let harness = Harness::start(NOW).await;
    let wire = Wire::connect(harness.address).await;
    for (_, name) in BOTH {
        for message in [&[1, 2, 3][..], b"198003012385"] {
            let headers = [("grpc-encoding", name)];
            let said = wire.call(GET, &headers, frame(1, message)).await;
            let malformed = (Code::InvalidArgument, "MESSAGE_MALFORMED".to_owned());
            assert_eq!(refusal(&said), malformed, "{name}");
            assert!(!said.message().contains("1980"), "{}", said.message());
        }
    }
}

#[tokio::test]
async fn a_small_answer_is_compressed_only_for_callers_who_compress() {
    let harness = Harness::start(NOW).await;
    let create = make::wire_create(make::wire_form("2026-05-18", "2026-06-12"));
    let created = harness.create(create).await.expect("created");
    let get = v1::GetBookingRequestRequest { name: created.name };
    let wire = Wire::connect(harness.address).await;
    let accepts = ("grpc-accept-encoding", "identity, deflate, gzip");
    let compresses = ("grpc-encoding", "gzip");
    for (path, headers, message, flag) in [
        (GET, &[accepts][..], get.encode_to_vec(), 0),
        (LIST, &[accepts], list().encode_to_vec(), 1),
        (LIST, &[], list().encode_to_vec(), 0),
        (GET, &[accepts, compresses], get.encode_to_vec(), 1),
        (GET, &[compresses], get.encode_to_vec(), 0),
    ] {
        let call = wire.begin(path, headers).await;
        let (answer, said) = call.answer(frame(0, &message)).await;
        assert_eq!(said.expect("an end").code(), Code::Ok);
        assert_eq!(answer[0], flag, "{path} {headers:?}");
    }
}

#[tokio::test]
async fn rows_of_compressed_answers_are_counted() {
    let subject = SubjectLimits {
        rows_per_minute: NonZeroU32::new(2),
        ..SubjectLimits::default()
    };
    let limits = Limits {
        subject,
        ..Limits::default()
    };
    for (encoding, name) in BOTH {
        let harness = Harness::with_limits(NOW, limits).await;
        let create = make::wire_create(make::wire_form("2026-05-18", "2026-06-12"));
        harness.create(create).await.expect("created");
        let mut worklists = harness.worklists().accept_compressed(encoding);
        let mut answered = 0;
        let refused = loop {
            match within(worklists.list_worklist(list())).await {
                Ok(listed) if answered < 9 => {
                    assert_eq!(listed.into_inner().booking_requests.len(), 1);
                    answered += 1;
                }
                Ok(_) => panic!("{name}: rows are not counted"),
                Err(refused) => break refused,
            }
        };
        let limited = (Code::ResourceExhausted, "RATE_LIMITED".to_owned());
        assert_eq!(refusal(&refused), limited, "{name}");
    }
}
