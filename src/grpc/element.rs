//! The elements of a batch: each has the answer, or the error, that a call with it alone would have had.

use tonic::Status;
use tonic_types::StatusExt;

use crate::contract::batch::Batch;
use crate::contract::v1;
use crate::store::error::Error;

/// Puts answers in the places of the well-formed elements, and errors in those of the others.
pub fn results<A>(
    batch: Batch<()>,
    answers: Vec<Result<A, Error>>,
) -> Vec<(String, Result<A, v1::ElementError>)> {
    let result = |(name, answer): (String, Result<Result<A, Error>, _>)| {
        let result = match answer {
            Ok(answer) => answer.map_err(Status::from),
            Err(violations) => Err(Status::from(violations)),
        };
        (name, result.map_err(|status| error(&status)))
    };
    batch.join(answers).into_iter().map(result).collect()
}

/// Returns a status as the error of an element.
fn error(status: &Status) -> v1::ElementError {
    let details = status.get_error_details();
    let info = details.error_info();
    let name = info.map(|info| format!("ERROR_REASON_{}", info.reason));
    let reason = name.and_then(|name| v1::ErrorReason::from_str_name(&name));
    let fields = details.bad_request().map(|it| it.field_violations.iter());
    let field = |it: &tonic_types::FieldViolation| v1::InvalidField {
        field: it.field.clone(),
        description: it.description.clone(),
    };
    v1::ElementError {
        code: status.code().into(),
        reason: reason.unwrap_or(v1::ErrorReason::Internal).into(),
        message: status.message().to_owned(),
        metadata: info.map(|info| info.metadata.clone()).unwrap_or_default(),
        field_violations: fields.into_iter().flatten().map(field).collect(),
    }
}
