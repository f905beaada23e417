use uuid::Uuid;

use super::*;
use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;
use crate::domain::slot::Verdict;

/// Returns code, reason and metadata (`key=value`, sorted) of a status.
fn read(status: &Status) -> (Code, String, Vec<String>) {
    let details = status.get_error_details();
    let info = details.error_info().expect("every failure says its reason");
    assert_eq!(info.domain, DOMAIN);
    let mut metadata: Vec<_> = info
        .metadata
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    metadata.sort();
    (status.code(), info.reason.clone(), metadata)
}

#[test]
fn every_reason_has_a_name_without_its_prefix() {
    for number in 0..=28 {
        let reason = ErrorReason::try_from(number).expect("a reason");
        assert!(!name(reason).starts_with("ERROR_REASON"), "{reason:?}");
    }
    assert!(
        ErrorReason::try_from(29).is_err(),
        "a new reason: name it here"
    );
}

#[test]
fn a_call_that_is_not_authenticated_is_told_so_by_its_kind() {
    for (refusal, code, reason) in [
        (
            auth::Refusal::TokenMissing,
            Code::Unauthenticated,
            "TOKEN_MISSING",
        ),
        (
            auth::Refusal::TokenInvalid("it is of another issuer"),
            Code::Unauthenticated,
            "TOKEN_INVALID",
        ),
        (
            auth::Refusal::TokenExpired,
            Code::Unauthenticated,
            "TOKEN_EXPIRED",
        ),
        (
            auth::Refusal::CertificateUnknown,
            Code::Unauthenticated,
            "UNAUTHENTICATED",
        ),
        (
            auth::Refusal::CertificateExpired,
            Code::Unauthenticated,
            "CERTIFICATE_EXPIRED",
        ),
        (
            auth::Refusal::Actor(vec![Violation::new("actor-id", "is missing")]),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
    ] {
        let status = Status::from(refusal);
        let details = status.get_error_details();
        let info = details.error_info().expect("a reason");
        assert_eq!((status.code(), info.reason.as_str()), (code, reason));
    }
}

#[test]
fn every_refusal_has_its_code_reason_and_metadata() {
    let key = RequestKey {
        care_unit: HsaId::from_stored("SE2321000131-P1".into()),
        id: Uuid::nil(),
    };
    let conflict = Refusal::StateConflict {
        state: EffectiveState::Booked,
        allowed: vec![
            Action::RecordBooking,
            Action::ChangeToInvitation,
            Action::Cancel,
        ],
        why: None,
    };
    let closed = Refusal::NotBookable {
        verdict: Verdict::RequestClosed,
        state: EffectiveState::Cancelled,
        allowed: vec![],
    };
    let booked = Refusal::AlreadyBooked {
        booking_id: "B-1".into(),
    };
    let precondition = Code::FailedPrecondition;
    for (refusal, code, reason, metadata) in [
        (
            Refusal::Invalid(vec![]),
            Code::InvalidArgument,
            "FIELD_INVALID",
            vec![],
        ),
        (
            Refusal::NotFound,
            Code::NotFound,
            "RESOURCE_NOT_FOUND",
            vec![],
        ),
        (
            Refusal::SettingsEtagMismatch,
            Code::Aborted,
            "ETAG_MISMATCH",
            vec![],
        ),
        (
            Refusal::EtagMismatch,
            Code::Aborted,
            "ETAG_MISMATCH",
            vec![],
        ),
        (
            Refusal::AlreadyInvitation,
            precondition,
            "ALREADY_INVITATION",
            vec![],
        ),
        (
            Refusal::ReferralRequired,
            precondition,
            "REFERRAL_REQUIRED",
            vec![],
        ),
        (Refusal::PeriodPassed, precondition, "PERIOD_PASSED", vec![]),
        (
            conflict,
            precondition,
            "STATE_CONFLICT",
            vec![
                "allowed_actions=CANCEL,CHANGE_TO_INVITATION,RECORD_BOOKING",
                "state=BOOKED",
            ],
        ),
        (
            closed,
            precondition,
            "STATE_CONFLICT",
            vec![
                "allowed_actions=",
                "state=CANCELLED",
                "verdict=REQUEST_CLOSED",
            ],
        ),
        (
            Refusal::NotOpen(Verdict::RequestClosed),
            precondition,
            "STATE_CONFLICT",
            vec!["verdict=REQUEST_CLOSED"],
        ),
        (Refusal::TooLate, precondition, "TOO_LATE", vec![]),
        (Refusal::NotSent, precondition, "STATE_CONFLICT", vec![]),
        (Refusal::Imported, precondition, "STATE_CONFLICT", vec![]),
        (
            Refusal::OutsideConstraints(Verdict::Weekday),
            precondition,
            "OUTSIDE_CONSTRAINTS",
            vec!["verdict=WEEKDAY"],
        ),
        (
            booked,
            Code::AlreadyExists,
            "ALREADY_BOOKED",
            vec!["booking_id=B-1"],
        ),
        (
            Refusal::BookingMismatch {
                booking_id: Some("B-1".into()),
            },
            precondition,
            "BOOKING_MISMATCH",
            vec!["booking_id=B-1"],
        ),
        (
            Refusal::BookingMismatch { booking_id: None },
            precondition,
            "BOOKING_MISMATCH",
            vec![],
        ),
        (
            Refusal::Duplicate(key),
            Code::AlreadyExists,
            "DUPLICATE_REQUEST",
            vec![
                "name=careUnits/SE2321000131-P1/bookingRequests/\
                 00000000-0000-0000-0000-000000000000",
            ],
        ),
    ] {
        let status = Status::from(refusal);
        let metadata = metadata.into_iter().map(str::to_owned).collect();
        assert_eq!(read(&status), (code, reason.to_owned(), metadata));
        let text = status.message();
        assert!(
            text.starts_with(char::is_lowercase) && !text.ends_with('.'),
            "{text}"
        );
    }
}

#[test]
fn a_missing_scope_is_named() {
    let status = scope_missing(Scopes::parse("patient.self booking.read"));
    let metadata = vec!["scope=booking.read patient.self".to_owned()];
    let expected = (Code::PermissionDenied, "SCOPE_MISSING".to_owned(), metadata);
    assert_eq!(read(&status), expected);
}

#[test]
fn every_bad_field_is_named() {
    let bad = [("a.b", "is required"), ("c[1]", "must be today or later")];
    let violations = bad.map(|(field, why)| Violation::new(field, why));
    let status = Status::from(Refusal::Invalid(violations.to_vec()));
    let details = status.get_error_details();
    let named = &details
        .bad_request()
        .expect("fields are named")
        .field_violations;
    let named: Vec<_> = named
        .iter()
        .map(|it| (&*it.field, &*it.description))
        .collect();
    assert_eq!(named, bad);
    let status = Status::from(clock::Error::Backwards);
    let details = status.get_error_details();
    let named = &details
        .bad_request()
        .expect("fields are named")
        .field_violations;
    assert_eq!(named[0].field, "server_time");
}

#[test]
fn the_store_and_the_limits_say_when_to_try_again() {
    use store::error::Error;
    for (status, code, reason, retried) in [
        (
            Error::RequestIdReused.into(),
            Code::InvalidArgument,
            "REQUEST_ID_REUSED",
            false,
        ),
        (
            Error::Contention.into(),
            Code::Unavailable,
            "CONTENTION",
            false,
        ),
        (
            Error::Overloaded.into(),
            Code::ResourceExhausted,
            "OVERLOADED",
            true,
        ),
        (
            Error::Refused(Refusal::NotFound).into(),
            Code::NotFound,
            "RESOURCE_NOT_FOUND",
            false,
        ),
        (
            StreamEnd::Draining.into(),
            Code::Unavailable,
            "UNAVAILABLE",
            true,
        ),
        (
            StreamEnd::ClockWrong.into(),
            Code::Unavailable,
            "UNAVAILABLE",
            true,
        ),
        (
            Error::Clock(store::skew::ClockFault::Stepped).into(),
            Code::Unavailable,
            "UNAVAILABLE",
            true,
        ),
        (
            StreamEnd::TooSlow.into(),
            Code::ResourceExhausted,
            "OVERLOADED",
            true,
        ),
        (
            Fault::PageToken.into(),
            Code::InvalidArgument,
            "PAGE_TOKEN_INVALID",
            false,
        ),
        (overloaded(), Code::ResourceExhausted, "OVERLOADED", true),
        (unimplemented(), Code::Unimplemented, "UNIMPLEMENTED", false),
        (
            deadline_exceeded(),
            Code::DeadlineExceeded,
            "DEADLINE_EXCEEDED",
            false,
        ),
        (internal(), Code::Internal, "INTERNAL", false),
    ] {
        let status: Status = status;
        assert_eq!(read(&status), (code, reason.to_owned(), vec![]));
        let delay = status
            .get_error_details()
            .retry_info()
            .and_then(|it| it.retry_delay);
        assert_eq!(delay, retried.then_some(RETRY_DELAY), "{reason}");
    }
}

#[test]
fn who_has_reached_a_limit_is_told_which_and_for_how_long() {
    for (limit, name, pause, told) in [
        (RateLimit::CallsPerSecond, "CALLS_PER_SECOND", 1, 1),
        (RateLimit::Streams, "STREAMS", 1_000_000, 1),
        (RateLimit::RowsPerMinute, "ROWS_PER_MINUTE", 2_000_001, 3),
    ] {
        let status = rate_limited(limit, Duration::from_nanos(pause));
        let (code, reason) = (Code::ResourceExhausted, "RATE_LIMITED".to_owned());
        assert_eq!(read(&status), (code, reason, vec![format!("limit={name}")]));
        let details = status.get_error_details();
        let delay = details.retry_info().and_then(|it| it.retry_delay);
        assert_eq!(delay, Some(Duration::from_millis(told)));
    }
}

#[test]
fn what_the_transport_says_is_put_into_the_contracts_words() {
    for (said, code, reason) in [
        (
            Status::internal("wire type"),
            Code::InvalidArgument,
            "MESSAGE_MALFORMED",
        ),
        (
            Status::out_of_range("5 MB"),
            Code::InvalidArgument,
            "MESSAGE_MALFORMED",
        ),
        (
            Status::resource_exhausted("bomb"),
            Code::InvalidArgument,
            "MESSAGE_MALFORMED",
        ),
        (
            Status::unimplemented(""),
            Code::Unimplemented,
            "UNIMPLEMENTED",
        ),
        (
            Status::cancelled("Timeout expired"),
            Code::DeadlineExceeded,
            "DEADLINE_EXCEEDED",
        ),
        (
            Status::unavailable("ping"),
            Code::Unavailable,
            "UNAVAILABLE",
        ),
    ] {
        let normalized = normalize_transport_status(&said).expect("it is not one of ours");
        assert_eq!(read(&normalized), (code, reason.to_owned(), vec![]));
    }
    assert!(normalize_transport_status(&Status::ok("")).is_none());
    assert!(normalize_transport_status(&internal()).is_none());
}
