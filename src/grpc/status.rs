//! What goes wrong, as the contract says it: the only file with status codes.
//!
//! A failure has a reason of `ErrorReason`, and the reason decides the code, in one table. Nothing
//! here repeats what a caller wrote; what is broken inside is logged and not told.

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};
use tracing::{error, warn};

use crate::clock;
use crate::contract::v1::ErrorReason;
use crate::contract::{Fault, Violations, request_name};
use crate::dispatch::StreamEnd;
use crate::domain::booking_request::state::Action;
use crate::domain::booking_request::state::EffectiveState;
use crate::domain::{Refusal, Violation};
use crate::store;

/// The domain of every `google.rpc.ErrorInfo` of ours.
const DOMAIN: &str = "careinvitation";

/// After how long a caller should try again when there was too much at once, or the store was away.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Returns the code that goes with a reason.
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
        | ErrorReason::StateConflict
        | ErrorReason::OutsideConstraints => Code::FailedPrecondition,
        ErrorReason::PermissionDenied => Code::PermissionDenied,
        ErrorReason::Unauthenticated => Code::Unauthenticated,
        ErrorReason::Overloaded => Code::ResourceExhausted,
        ErrorReason::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorReason::Unimplemented => Code::Unimplemented,
        ErrorReason::Unspecified | ErrorReason::Internal => Code::Internal,
    }
}

/// Returns the reason's name in `google.rpc.ErrorInfo`.
fn name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

/// A failure that is being put together.
struct ErrorStatus {
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

    /// Fields that are not valid. The text names the first, for those who see nothing else.
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

    fn with_retry_info(mut self) -> Self {
        self.retry_delay = Some(RETRY_DELAY);
        self
    }

    fn status(self) -> Status {
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

impl From<Violations> for Status {
    fn from(violations: Violations) -> Self {
        Fault::Invalid(violations).into()
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let text = fault.to_string();
        match fault {
            Fault::Invalid(violations) => ErrorStatus::invalid(violations.into_vec()),
            Fault::PageToken => ErrorStatus::new(ErrorReason::PageTokenInvalid, text),
        }
        .status()
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::Invalid(violations) => ErrorStatus::invalid(violations),
            Refusal::NotFound => ErrorStatus::new(ErrorReason::ResourceNotFound, text),
            Refusal::EtagMismatch => ErrorStatus::new(ErrorReason::EtagMismatch, text),
            Refusal::AlreadyInvitation => ErrorStatus::new(ErrorReason::AlreadyInvitation, text),
            Refusal::ReferralRequired => ErrorStatus::new(ErrorReason::ReferralRequired, text),
            Refusal::PeriodPassed => ErrorStatus::new(ErrorReason::PeriodPassed, text),
            Refusal::StateConflict { state, allowed } => state_conflict(text, state, &allowed),
            Refusal::NotSent => ErrorStatus::new(ErrorReason::StateConflict, text),
            Refusal::OutsideConstraints(verdict) => {
                ErrorStatus::new(ErrorReason::OutsideConstraints, text)
                    .with("verdict", verdict.name())
            }
            Refusal::AlreadyBooked { booking_id } => {
                ErrorStatus::new(ErrorReason::AlreadyBooked, text).with("booking_id", booking_id)
            }
            Refusal::Duplicate(other) => ErrorStatus::new(ErrorReason::DuplicateRequest, text)
                .with("name", request_name(&other)),
        }
        .status()
    }
}

fn state_conflict(text: String, state: EffectiveState, allowed: &[Action]) -> ErrorStatus {
    let allowed: BTreeSet<_> = allowed.iter().map(|action| action.name()).collect();
    let allowed: Vec<_> = allowed.into_iter().collect();
    ErrorStatus::new(ErrorReason::StateConflict, text)
        .with("state", state.name())
        .with("allowed_actions", allowed.join(","))
}

/// Logs what the caller is not told: the causes of a store that is away or broken.
impl From<store::error::Error> for Status {
    fn from(error: store::error::Error) -> Self {
        let text = error.to_string();
        match &error {
            store::error::Error::Refused(refusal) => return refusal.clone().into(),
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
                warn!(cause = error_chain(&error), "the store is away");
                ErrorStatus::new(ErrorReason::Unavailable, text).with_retry_info()
            }
            store::error::Error::Internal(_) => {
                error!(cause = error_chain(&error), "the store failed");
                return internal();
            }
        }
        .status()
    }
}

impl From<StreamEnd> for Status {
    fn from(stopped: StreamEnd) -> Self {
        match stopped {
            StreamEnd::Draining => stopping(),
            StreamEnd::ClockWrong => ErrorStatus::new(ErrorReason::Unavailable, stopped)
                .with_retry_info()
                .status(),
            StreamEnd::TooSlow => ErrorStatus::new(ErrorReason::Overloaded, stopped)
                .with_retry_info()
                .status(),
            StreamEnd::Store(error) => error.into(),
        }
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

/// There is no such method.
pub fn unimplemented() -> Status {
    ErrorStatus::new(ErrorReason::Unimplemented, "not served by this version").status()
}

/// Returns the time that the caller gave the call, or the service gives any call, is over.
pub fn deadline_exceeded() -> Status {
    let text = "the time for the call is over; its outcome is not known";
    ErrorStatus::new(ErrorReason::DeadlineExceeded, text).status()
}

/// Returns the request has not come in whole in the time for that; nothing was done.
pub fn not_received() -> Status {
    let text = "the request did not come in time; nothing was done";
    ErrorStatus::new(ErrorReason::DeadlineExceeded, text).status()
}

/// More bytes wait to be read, or for the rest of their requests, than the service keeps.
pub fn too_much_in_memory() -> Status {
    let text = "too much waits to be read or for the rest of its request";
    ErrorStatus::new(ErrorReason::Overloaded, text)
        .with_retry_info()
        .status()
}

/// More is being done at once than the service takes on.
pub fn overloaded() -> Status {
    let text = "too many calls at once";
    ErrorStatus::new(ErrorReason::Overloaded, text)
        .with_retry_info()
        .status()
}

/// Returns the server is stopping; another one, or this one started again, will answer.
pub fn stopping() -> Status {
    let text = "the server is stopping";
    ErrorStatus::new(ErrorReason::Unavailable, text)
        .with_retry_info()
        .status()
}

/// Returns a fault of ours, of which the log knows more.
pub fn internal() -> Status {
    ErrorStatus::new(ErrorReason::Internal, "a fault of the service").status()
}

/// Puts into the contract's words what the transport below it said of a call that never reached a
/// handler, or none if it is one of ours already.
///
/// Every failure that a handler makes has details, so one without them is tonic's. Of tonic 0.14
/// those are: INTERNAL for bytes that are not the message, too few of them, none at all, or a bad
/// compression flag; OUT_OF_RANGE for too many; RESOURCE_EXHAUSTED for too many once unpacked;
/// UNIMPLEMENTED for an unknown method and, then with `grpc-accept-encoding`, for a compression
/// that is not supported. The rest are what became of a connection that broke meanwhile.
pub fn normalize_transport_status(said: &Status) -> Option<Status> {
    if !said.details().is_empty() {
        return None;
    }
    let (reason, text) = match said.code() {
        Code::Ok => return None,
        Code::Internal
        | Code::OutOfRange
        | Code::ResourceExhausted
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DataLoss => (
            ErrorReason::MessageMalformed,
            "the bytes are not the message, or are too many",
        ),
        Code::Unimplemented if said.metadata().contains_key("grpc-accept-encoding") => (
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

/// Returns an error and all that lies beneath it, on one line.
fn error_chain(error: &dyn StdError) -> String {
    let mut line = error.to_string();
    let mut beneath = error.source();
    while let Some(cause) = beneath {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        beneath = cause.source();
    }
    line
}

#[cfg(test)]
mod tests;
