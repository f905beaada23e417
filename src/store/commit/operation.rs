//! An operation: its read set and its decision.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::store::commit::read_set::{ReadSet, Resolved};
use crate::store::commit::unit_of_work::UnitOfWork;
use crate::store::error::Error;

/// An operation, which is executed wholly or not at all.
pub trait Operation: Send {
    /// Returns the rows that it needs.
    fn read_set(&self) -> Arc<ReadSet>;
    /// Decides over the unit of work. May be called again, with another unit of work.
    fn decide(&mut self, work: &mut UnitOfWork, resolved: &Resolved);
    /// Returns true while a caller waits for the response.
    fn has_receiver(&self) -> bool;
    /// Responds to the caller, after the commit or the failure.
    fn respond(self: Box<Self>, committed: Result<(), Error>);
}

/// An operation whose decision yields a `T`.
struct TypedOperation<T, D> {
    read_set: Arc<ReadSet>,
    decide: D,
    decided: Option<Result<T, Error>>,
    reply: oneshot::Sender<Result<T, Error>>,
}

/// Returns an operation, and the receiver of its response.
pub fn operation<T, D>(
    read_set: ReadSet,
    decide: D,
) -> (Box<dyn Operation>, oneshot::Receiver<Result<T, Error>>)
where
    T: Send + 'static,
    D: FnMut(&mut UnitOfWork, &Resolved) -> Result<T, Error> + Send + 'static,
{
    let (reply, response) = oneshot::channel();
    let operation = TypedOperation {
        read_set: Arc::new(read_set),
        decide,
        decided: None,
        reply,
    };
    (Box::new(operation), response)
}

impl<T, D> Operation for TypedOperation<T, D>
where
    T: Send,
    D: FnMut(&mut UnitOfWork, &Resolved) -> Result<T, Error> + Send,
{
    fn read_set(&self) -> Arc<ReadSet> {
        Arc::clone(&self.read_set)
    }

    fn decide(&mut self, work: &mut UnitOfWork, resolved: &Resolved) {
        self.decided = Some(match work.date().fault() {
            Some(fault) if !self.read_set.tolerates_clock_fault => Err(fault.into()),
            Some(_) | None => (self.decide)(work, resolved),
        });
    }

    fn has_receiver(&self) -> bool {
        !self.reply.is_closed()
    }

    fn respond(self: Box<Self>, committed: Result<(), Error>) {
        let response = match (committed, self.decided) {
            (Ok(()), Some(decided)) => decided,
            (Ok(()), None) => Err(Error::internal("an operation was committed undecided")),
            (Err(error), _) => Err(error),
        };
        // The caller may have gone; the decision stands all the same.
        let _ = self.reply.send(response);
    }
}
