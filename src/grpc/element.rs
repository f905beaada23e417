//! The elements of a batch: each has the answer, or the error, that a call with it alone would have had.

use crate::contract::batch::Batch;
use crate::contract::{Violations, v1};
use crate::grpc::status::ErrorStatus;
use crate::store::error::Error;

/// The elements of a batch, each of which is refused or waits for its answer.
pub struct Places<E>(Vec<Result<(), E>>);

/// Divides elements into those that wait for their answers, in order, and the places of all of them.
pub fn divide<T, E>(elements: Vec<Result<T, E>>) -> (Vec<T>, Places<E>) {
    let mut wanted = Vec::with_capacity(elements.len());
    let place = |element: Result<T, E>| element.map(|it| wanted.push(it));
    let places = elements.into_iter().map(place).collect();
    (wanted, Places(places))
}

impl<E> Places<E> {
    /// Puts the answers, whose order is that of the elements, in their places, and those of refused elements between.
    pub fn fill<A>(self, answers: Vec<A>, refused: impl Fn(E) -> A) -> Vec<A> {
        let mut answers = answers.into_iter();
        let answer = |place: Result<(), E>| match place {
            Ok(()) => answers.next().expect("one for each that waited"),
            Err(refusal) => refused(refusal),
        };
        self.0.into_iter().map(answer).collect()
    }
}

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
