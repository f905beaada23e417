//! What went wrong with a command, in words for a terminal, and the exit code for scripts.

use std::io;
use std::path::PathBuf;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Exit code of any other failure.
const OTHER: u8 = 1;
/// Exit code of an input that cannot be used, as of a bad flag.
const BAD_INPUT: u8 = 2;
/// Exit code when the server cannot be reached or cannot answer now: try again later.
const UNAVAILABLE: u8 = 4;
/// Exit code when the caller may not do this.
const NOT_ALLOWED: u8 = 5;
/// Exit code when there is no such thing, or the caller may not see it.
const NOT_FOUND: u8 = 6;
/// Exit code when the server refuses what was asked for.
const REFUSED: u8 = 7;

/// Reason for which a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A file that the command needs cannot be read.
    #[error("{} cannot be read: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Description of the fault.
        why: String,
    },
    /// An input that cannot be used.
    #[error("{0}")]
    Input(String),
    /// There is no connection.
    #[error("cannot reach the server: {0}")]
    Unreachable(String),
    /// The server is there and serves nothing now.
    #[error("the server is not ready: {0}")]
    NotServing(String),
    /// The call failed.
    #[error("{}", text(.0))]
    Call(Box<Status>),
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Call(Box::new(status))
    }
}

impl Failure {
    /// Returns the code with which the process ends.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::File { .. } | Self::Input(_) => BAD_INPUT,
            Self::Unreachable(_) => UNAVAILABLE,
            Self::Output(_) | Self::NotServing(_) => OTHER,
            Self::Call(status) => of_status(status.code()),
        }
    }
}

/// Returns the exit code for a call that ended so.
fn of_status(code: Code) -> u8 {
    match code {
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Cancelled => {
            UNAVAILABLE
        }
        Code::Unauthenticated | Code::PermissionDenied => NOT_ALLOWED,
        Code::NotFound => NOT_FOUND,
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::Aborted
        | Code::OutOfRange => REFUSED,
        Code::Ok | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => OTHER,
    }
}

/// Returns what a status says: reason, message, and each bad field.
pub fn text(status: &Status) -> String {
    let details = status.get_error_details();
    let reason = details.error_info().map(|it| it.reason.clone());
    let reason = reason.unwrap_or_else(|| status.code().description().to_owned());
    let fields = details.bad_request().map(|it| &it.field_violations);
    // The message names a single one already.
    let fields = fields.filter(|it| it.len() > 1).into_iter().flatten();
    let fields = fields.map(|it| format!("\n  {}: {}", it.field, it.description));
    format!(
        "{reason}: {}{}",
        status.message(),
        fields.collect::<String>()
    )
}
