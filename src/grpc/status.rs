//! The errors of the contract: the only file with status codes.
//!
//! An error has a reason of `ErrorReason`, and the reason decides the code, in one table. No error quotes
//! a caller's text; internal causes are logged and not sent.

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};
use tracing::{error, warn};

use crate::auth;
use crate::auth::scope::Scopes;
use crate::clock;
use crate::contract::v1::{self, ErrorReason};
use crate::contract::{Fault, Violations, request_name};
use crate::dispatch::StreamEnd;
use crate::domain::booking_request::state::Action;
use crate::domain::booking_request::state::EffectiveState;
use crate::domain::{Refusal, Violation};
use crate::grpc::codec::record_refusal;
use crate::store;

/// Domain of every `google.rpc.ErrorInfo` of ours.
const DOMAIN: &str = "careinvitation";

/// Key of the request that an error names.
const NAME: &str = "name";

/// Delay after which a caller should retry when the service was overloaded or unavailable.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Limit that one subject has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimit {
    /// Calls a second.
    CallsPerSecond,
    /// Open streams.
    Streams,
    /// Rows a minute.
    RowsPerMinute,
}

impl RateLimit {
    fn name(self) -> &'static str {
        match self {
            Self::CallsPerSecond => "CALLS_PER_SECOND",
            Self::Streams => "STREAMS",
            Self::RowsPerMinute => "ROWS_PER_MINUTE",
        }
    }
}

/// Returns the status code of a reason.
fn code(reason: ErrorReason) -> Code {
    match reason {
        ErrorReason::FieldInvalid
        | ErrorReason::PageTokenInvalid
        | ErrorReason::RequestIdReused
        | ErrorReason::MessageMalformed => Code::InvalidArgument,
        ErrorReason::ResourceNotFound => Code::NotFound,
        ErrorReason::DuplicateRequest | ErrorReason::AlreadyBooked => Code::AlreadyExists,
        ErrorReason::EtagMismatch => Code::Aborted,
        ErrorReason::Contention | ErrorReason::Unavailable => Code::Unavailable,
        ErrorReason::AlreadyInvitation
        | ErrorReason::ReferralRequired
        | ErrorReason::PeriodPassed
        | ErrorReason::BookingMismatch
        | ErrorReason::StateConflict
        | ErrorReason::TooLate
        | ErrorReason::CursorExpired
        | ErrorReason::OutsideConstraints => Code::FailedPrecondition,
        ErrorReason::PermissionDenied | ErrorReason::ScopeMissing => Code::PermissionDenied,
        ErrorReason::Unauthenticated
        | ErrorReason::TokenMissing
        | ErrorReason::TokenInvalid
        | ErrorReason::TokenExpired
        | ErrorReason::CertificateExpired => Code::Unauthenticated,
        ErrorReason::Overloaded | ErrorReason::RateLimited => Code::ResourceExhausted,
        ErrorReason::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorReason::Unimplemented => Code::Unimplemented,
        ErrorReason::Unspecified | ErrorReason::Internal => Code::Internal,
    }
}

/// Returns the name of a reason in `google.rpc.ErrorInfo`.
fn name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

/// An error of the contract, before it becomes the status of a call or the error of an element.
pub struct ErrorStatus {
    reason: ErrorReason,
    text: String,
    metadata: Vec<(&'static str, String)>,
    violations: Vec<Violation>,
    retry_delay: Option<Duration>,
}

impl ErrorStatus {
    fn new(reason: ErrorReason, text: impl ToString) -> Self {
        Self {
            reason,
            text: text.to_string(),
            metadata: Vec::new(),
            violations: Vec::new(),
            retry_delay: None,
        }
    }

    fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.metadata.push((key, value.into()));
        self
    }

    /// Returns the error of fields that are not valid. The text names the first one, for a caller who sees
    /// nothing else.
    fn invalid(violations: Vec<Violation>) -> Self {
        let text = match violations.as_slice() {
            [] => "fields are not valid".to_owned(),
            [only] => format!("{}: {}", only.field, only.description),
            [first, others @ ..] => format!(
                "{}: {}; and {} more",
                first.field,
                first.description,
                others.len()
            ),
        };
        Self {
            violations,
            ..Self::new(ErrorReason::FieldInvalid, text)
        }
    }

    /// Returns the error of an element whose fields have paths that begin with `path`.
    pub fn inside(mut self, path: &str) -> Self {
        for violation in &mut self.violations {
            violation.field = format!("{path}.{}", violation.field);
        }
        match self.violations.is_empty() {
            true => self,
            false => Self::invalid(self.violations),
        }
    }

    fn with_retry_info(mut self) -> Self {
        self.retry_delay = Some(RETRY_DELAY);
        self
    }

    fn internal() -> Self {
        Self::new(ErrorReason::Internal, "internal error")
    }

    /// Returns the error of one element of a batch.
    pub fn element(self) -> v1::ElementError {
        let metadata = self.metadata.into_iter();
        let violations = self.violations.into_iter();
        let violations = violations.map(|it| v1::InvalidField {
            field: it.field,
            description: it.description,
        });
        v1::ElementError {
            code: code(self.reason).into(),
            reason: self.reason.into(),
            message: self.text,
            metadata: metadata
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
            field_violations: violations.collect(),
        }
    }

    fn status(self) -> Status {
        for (_, name) in self.metadata.iter().filter(|(key, _)| *key == NAME) {
            record_refusal(name);
        }
        let metadata = self
            .metadata
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value));
        let metadata: std::collections::HashMap<_, _> = metadata.collect();
        let mut details = ErrorDetails::with_error_info(name(self.reason), DOMAIN, metadata);
        if !self.violations.is_empty() {
            let violations = self.violations.into_iter();
            let violations = violations.map(|it| FieldViolation::new(it.field, it.description));
            details.set_bad_request(violations.collect::<Vec<_>>());
        }
        if self.retry_delay.is_some() {
            details.set_retry_info(self.retry_delay);
        }
        Status::with_error_details(code(self.reason), self.text, details)
    }
}

impl From<Violations> for ErrorStatus {
    fn from(violations: Violations) -> Self {
        Self::invalid(violations.into_vec())
    }
}

impl From<Violations> for Status {
    fn from(violations: Violations) -> Self {
        ErrorStatus::from(violations).status()
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let text = fault.to_string();
        match fault {
            Fault::Invalid(violations) => violations.into(),
            Fault::PageToken => ErrorStatus::new(ErrorReason::PageTokenInvalid, text),
        }
        .status()
    }
}

impl From<Refusal> for ErrorStatus {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::Invalid(violations) => ErrorStatus::invalid(violations),
            Refusal::NotFound => ErrorStatus::new(ErrorReason::ResourceNotFound, text),
            Refusal::EtagMismatch | Refusal::SettingsEtagMismatch => {
                ErrorStatus::new(ErrorReason::EtagMismatch, text)
            }
            Refusal::AlreadyInvitation => ErrorStatus::new(ErrorReason::AlreadyInvitation, text),
            Refusal::ReferralRequired => ErrorStatus::new(ErrorReason::ReferralRequired, text),
            Refusal::PeriodPassed => ErrorStatus::new(ErrorReason::PeriodPassed, text),
            Refusal::StateConflict {
                state,
                allowed,
                why: _,
            } => state_conflict(text, state, &allowed),
            Refusal::NotBookable {
                verdict,
                state,
                allowed,
            } => state_conflict(text, state, &allowed).with("verdict", verdict.name()),
            Refusal::NotOpen(verdict) => {
                ErrorStatus::new(ErrorReason::StateConflict, text).with("verdict", verdict.name())
            }
            Refusal::TooLate => ErrorStatus::new(ErrorReason::TooLate, text),
            Refusal::NotSent | Refusal::Imported => {
                ErrorStatus::new(ErrorReason::StateConflict, text)
            }
            Refusal::OutsideConstraints(verdict) => {
                ErrorStatus::new(ErrorReason::OutsideConstraints, text)
                    .with("verdict", verdict.name())
            }
            Refusal::AlreadyBooked { booking_id } => {
                ErrorStatus::new(ErrorReason::AlreadyBooked, text).with("booking_id", booking_id)
            }
            Refusal::BookingMismatch { booking_id } => {
                let status = ErrorStatus::new(ErrorReason::BookingMismatch, text);
                match booking_id {
                    Some(booking_id) => status.with("booking_id", booking_id),
                    None => status,
                }
            }
            Refusal::CursorExpired { kept_days } => {
                ErrorStatus::new(ErrorReason::CursorExpired, text)
                    .with("kept_days", kept_days.to_string())
            }
            Refusal::Duplicate(other) => ErrorStatus::new(ErrorReason::DuplicateRequest, text)
                .with(NAME, request_name(&other)),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        ErrorStatus::from(refusal).status()
    }
}

fn state_conflict(text: String, state: EffectiveState, allowed: &[Action]) -> ErrorStatus {
    let allowed: BTreeSet<_> = allowed.iter().map(|action| action.name()).collect();
    let allowed: Vec<_> = allowed.into_iter().collect();
    ErrorStatus::new(ErrorReason::StateConflict, text)
        .with("state", state.name())
        .with("allowed_actions", allowed.join(","))
}

/// Logs the causes that the caller is not told: those of an unavailable database and of internal errors.
impl From<store::error::Error> for ErrorStatus {
    fn from(error: store::error::Error) -> Self {
        let text = error.to_string();
        match &error {
            store::error::Error::Refused(refusal) => refusal.clone().into(),
            store::error::Error::RequestIdReused => {
                ErrorStatus::new(ErrorReason::RequestIdReused, text)
            }
            store::error::Error::Contention => ErrorStatus::new(ErrorReason::Contention, text),
            store::error::Error::Overloaded => {
                ErrorStatus::new(ErrorReason::Overloaded, text).with_retry_info()
            }
            store::error::Error::Clock(_) => {
                ErrorStatus::new(ErrorReason::Unavailable, text).with_retry_info()
            }
            store::error::Error::Unavailable(_) => {
                warn!(cause = error_chain(&error), "database unavailable");
                ErrorStatus::new(ErrorReason::Unavailable, text).with_retry_info()
            }
            store::error::Error::Internal(_) => {
                error!(cause = error_chain(&error), "store operation failed");
                ErrorStatus::internal()
            }
        }
    }
}

impl From<store::error::Error> for Status {
    fn from(error: store::error::Error) -> Self {
        ErrorStatus::from(error).status()
    }
}

impl From<StreamEnd> for Status {
    fn from(end: StreamEnd) -> Self {
        match end {
            StreamEnd::Draining => stopping(),
            StreamEnd::ClockWrong => ErrorStatus::new(ErrorReason::Unavailable, end)
                .with_retry_info()
                .status(),
            StreamEnd::TooSlow => ErrorStatus::new(ErrorReason::Overloaded, end)
                .with_retry_info()
                .status(),
            StreamEnd::Store(error) => error.into(),
        }
    }
}

impl From<auth::Refusal> for Status {
    fn from(refusal: auth::Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            auth::Refusal::TokenMissing => ErrorStatus::new(ErrorReason::TokenMissing, text),
            auth::Refusal::TokenInvalid(_) => ErrorStatus::new(ErrorReason::TokenInvalid, text),
            auth::Refusal::TokenExpired => ErrorStatus::new(ErrorReason::TokenExpired, text),
            auth::Refusal::CertificateUnknown => {
                ErrorStatus::new(ErrorReason::Unauthenticated, text)
            }
            auth::Refusal::CertificateExpired => {
                ErrorStatus::new(ErrorReason::CertificateExpired, text)
            }
            auth::Refusal::Actor(violations) => ErrorStatus::invalid(violations),
        }
        .status()
    }
}

impl From<clock::Error> for Status {
    fn from(error: clock::Error) -> Self {
        match error {
            clock::Error::Backwards => {
                Refusal::Invalid(vec![Violation::new("server_time", error.to_string())]).into()
            }
            clock::Error::Real => unimplemented(),
        }
    }
}

/// Returns the error of a caller who has none of the scopes that a call needs.
pub fn scope_missing(needed: Scopes) -> Status {
    let needed = needed.names();
    let text = format!("the caller has none of the scopes: {}", needed.join(", "));
    ErrorStatus::new(ErrorReason::ScopeMissing, text)
        .with("scope", needed.join(" "))
        .status()
}

/// Returns the error of a patient who books, or asks for times, as staff.
pub fn not_as_staff() -> Status {
    let text = "a patient books with the source PATIENT alone";
    ErrorStatus::new(ErrorReason::PermissionDenied, text).status()
}

/// Returns the error of a method that is not served.
pub fn unimplemented() -> Status {
    ErrorStatus::new(ErrorReason::Unimplemented, "not served by this version").status()
}

/// Returns the error of a call whose deadline has passed: the caller's, or the one that the service has for
/// any call.
pub fn deadline_exceeded() -> Status {
    let text = "deadline exceeded; the outcome of the call is unknown";
    ErrorStatus::new(ErrorReason::DeadlineExceeded, text).status()
}

/// Returns the error of a request that was not received whole in time and was not executed.
pub fn not_received() -> Status {
    let text = "the request was not received in time; nothing was executed";
    ErrorStatus::new(ErrorReason::DeadlineExceeded, text).status()
}

/// Returns the error of a call that would pass the limits on bytes of unread responses and unfinished
/// requests.
pub fn too_many_bytes() -> Status {
    let text = "too many bytes of unread responses and unfinished requests";
    ErrorStatus::new(ErrorReason::Overloaded, text)
        .with_retry_info()
        .status()
}

/// Returns the error of a call beyond the limits on concurrent calls.
pub fn overloaded() -> Status {
    let text = "too many calls at once";
    ErrorStatus::new(ErrorReason::Overloaded, text)
        .with_retry_info()
        .status()
}

/// Returns the error of a caller who has reached a limit of its own; after the pause it is worth another try.
pub fn rate_limited(limit: RateLimit, pause: Duration) -> Status {
    let text = match limit {
        RateLimit::CallsPerSecond => "too many calls a second of one subject",
        RateLimit::Streams => "too many open streams of one subject",
        RateLimit::RowsPerMinute => "too many rows a minute of one subject",
    };
    // Clients may know no fractions of a millisecond; too early is refused again.
    let millis = u64::try_from(pause.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    ErrorStatus {
        retry_delay: Some(Duration::from_millis(millis)),
        ..ErrorStatus::new(ErrorReason::RateLimited, text).with("limit", limit.name())
    }
    .status()
}

/// Returns the error of a server that shuts down; another replica, or this one after a restart, will
/// answer.
pub fn stopping() -> Status {
    let text = "the server is stopping";
    ErrorStatus::new(ErrorReason::Unavailable, text)
        .with_retry_info()
        .status()
}

/// Returns the error of a call whose entries in the access log could not be stored: its answer must not leave.
pub fn access_not_logged(error: store::error::Error) -> Status {
    warn!(cause = error_chain(&error), "access log not written");
    let text = "the access log cannot be written; the outcome of the call is unknown";
    ErrorStatus::new(ErrorReason::Unavailable, text)
        .with_retry_info()
        .status()
}

/// Code and text of reflection's answer to a question about what is not served.
pub const NOT_REFLECTED: (i32, &str) = (Code::NotFound as i32, "there is nothing of this name");
/// Code of a call whose caller went away before the answer.
pub const CALLER_GONE: Code = Code::Cancelled;
/// Code of a call that is answered with a message.
pub const ANSWERED: Code = Code::Ok;

/// Returns the name of a code as gRPC writes it, for logs and metrics.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Returns whether a call that ends with this code has failed for a reason that is the service's, by OpenTelemetry's conventions for
/// servers.
pub fn is_ours_to_mend(code: Code) -> bool {
    match code {
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => false,
    }
}

/// Returns whether an answer with this code says nothing of what is stored, so that it need not wait for the access log,
/// which may be what is not there.
pub fn shows_nothing(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted
    )
}

/// Returns whether a call with this code was refused because of who the caller is.
pub fn is_forbidden(code: Code) -> bool {
    code == Code::PermissionDenied
}

/// Returns the error of a fault of the service, whose cause is in the log.
pub fn internal() -> Status {
    ErrorStatus::internal().status()
}

/// Turns the transport's status for a call that never reached a handler into an error of the contract.
/// Returns none for a status that is one already.
///
/// Every error that a handler returns has details, so a status without them is tonic's. In tonic 0.14
/// these are: INTERNAL for bytes that are not the message, too few of them, none at all, or a bad
/// compression flag; OUT_OF_RANGE for too many; RESOURCE_EXHAUSTED for too many once decompressed;
/// UNIMPLEMENTED for an unknown method and, then with `grpc-accept-encoding`, for a compression that
/// is not supported. The others come from a connection that failed meanwhile.
pub fn normalize_transport_status(status: &Status) -> Option<Status> {
    if !status.details().is_empty() {
        return None;
    }
    let (reason, text) = match status.code() {
        Code::Ok => return None,
        Code::Internal
        | Code::OutOfRange
        | Code::ResourceExhausted
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DataLoss => (
            ErrorReason::MessageMalformed,
            "the message cannot be decoded, or is too large",
        ),
        Code::Unimplemented if status.metadata().contains_key("grpc-accept-encoding") => (
            ErrorReason::Unimplemented,
            "the message's compression is not supported",
        ),
        Code::Unimplemented => return Some(unimplemented()),
        Code::Cancelled | Code::DeadlineExceeded => return Some(deadline_exceeded()),
        Code::Unavailable | Code::Aborted => (ErrorReason::Unavailable, "the connection was lost"),
        Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition => return Some(internal()),
    };
    Some(ErrorStatus::new(reason, text).status())
}

/// Returns an error and the chain of its causes, on one line.
fn error_chain(error: &dyn StdError) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests;
