//! The elements of a batch: each has the answer, or the error, that a call with it alone would have had.

use crate::contract::batch::Batch;
use crate::contract::{Violations, v1};
use crate::grpc::status::ErrorStatus;
use crate::store::error::Error;

/// Puts answers in the places of the well-formed elements, and errors in those of the others.
pub fn results<A>(
    batch: Batch<()>,
    answers: Vec<Result<A, Error>>,
) -> Vec<(String, Result<A, v1::ElementError>)> {
    let paths = batch.paths();
    let result = |((name, answer), path): ((String, Result<_, Violations>), String)| {
        let result = match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failed)) => Err(ErrorStatus::from(failed).inside(&path).element()),
            Err(violations) => Err(ErrorStatus::from(violations).element()),
        };
        (name, result)
    };
    batch
        .join(answers)
        .into_iter()
        .zip(paths)
        .map(result)
        .collect()
}
