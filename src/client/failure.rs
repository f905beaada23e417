//! Failures of commands, in words for a terminal, with exit codes for scripts.

use std::error::Error;
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

/// Exit code when all was done but for lines that were refused.
const LINES_REFUSED: u8 = 8;

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
    /// The server is none to play with.
    #[error("the server is no sandbox: it was not started with --sandbox-clock")]
    NoSandbox,
    /// So many lines of a file were refused.
    #[error("{count} lines were refused: they and the reasons are in {}", path.display())]
    RefusedLines {
        /// Number of lines.
        count: u64,
        /// File of them.
        path: PathBuf,
    },
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        // A status that was made here has a cause: there is no answer of a server.
        match status.source() {
            Some(cause) => Self::Unreachable(root(cause)),
            None => Self::Call(Box::new(status)),
        }
    }
}

impl Failure {
    /// Returns the failure of a part of a call that has this code.
    pub fn with_code(code: i32, text: &str) -> Self {
        Self::Call(Box::new(Status::new(Code::from(code), text)))
    }

    /// Returns true when the same call may succeed later.
    pub fn is_temporary(&self) -> bool {
        self.exit_code() == UNAVAILABLE
    }

    /// Returns the code with which the process ends.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::File { .. } | Self::Input(_) => BAD_INPUT,
            Self::Unreachable(_) => UNAVAILABLE,
            Self::Output(_) | Self::NotServing(_) => OTHER,
            Self::NoSandbox => REFUSED,
            Self::RefusedLines { .. } => LINES_REFUSED,
            Self::Call(status) => of_status(status.code()),
        }
    }
}

/// Returns true for a status by which a server refuses what was asked for.
pub fn is_refusal(status: &Status) -> bool {
    of_status(status.code()) == REFUSED
}

/// Returns true for a status by which a server says that it does not serve the method.
pub fn is_not_served(status: &Status) -> bool {
    status.code() == Code::Unimplemented
}

/// Returns the text of the last cause, which says most.
pub fn root(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&it| it.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
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
