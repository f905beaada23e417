//! A unit of work: what it read_set to know, and what it decides.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::store::commit::read_set::{ReadSet, Resolved};
use crate::store::commit::unit_of_work::UnitOfWork;
use crate::store::error::Error;

/// A piece of work that is done wholly or not at all.
pub trait Operation: Send {
    /// Returns what it read_set.
    fn read_set(&self) -> Arc<ReadSet>;
    /// Decides over the work. May be called again, with other work.
    fn decide(&mut self, work: &mut UnitOfWork, found: &Resolved);
    /// Returns whether anybody waits for the answer.
    fn has_receiver(&self) -> bool;
    /// Answers whoever waits, after the commit or the failure.
    fn respond(self: Box<Self>, committed: Result<(), Error>);
}

/// A unit whose decision yields a `T`.
struct TypedOperation<T, D> {
    read_set: Arc<ReadSet>,
    decide: D,
    decided: Option<Result<T, Error>>,
    reply: oneshot::Sender<Result<T, Error>>,
}

/// Returns a unit, and where its answer comes.
pub fn operation<T, D>(
    read_set: ReadSet,
    decide: D,
) -> (Box<dyn Operation>, oneshot::Receiver<Result<T, Error>>)
where
    T: Send + 'static,
    D: FnMut(&mut UnitOfWork, &Resolved) -> Result<T, Error> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let unit = TypedOperation {
        read_set: Arc::new(read_set),
        decide,
        decided: None,
        reply,
    };
    (Box::new(unit), answer)
}

impl<T, D> Operation for TypedOperation<T, D>
where
    T: Send,
    D: FnMut(&mut UnitOfWork, &Resolved) -> Result<T, Error> + Send,
{
    fn read_set(&self) -> Arc<ReadSet> {
        Arc::clone(&self.read_set)
    }

    fn decide(&mut self, work: &mut UnitOfWork, found: &Resolved) {
        self.decided = Some(match work.date().fault() {
            Some(fault) if !self.read_set.at_all_times => Err(fault.into()),
            Some(_) | None => (self.decide)(work, found),
        });
    }

    fn has_receiver(&self) -> bool {
        !self.reply.is_closed()
    }

    fn respond(self: Box<Self>, committed: Result<(), Error>) {
        let answer = match (committed, self.decided) {
            (Ok(()), Some(decided)) => decided,
            (Ok(()), None) => Err(Error::internal("a unit was committed undecided")),
            (Err(error), _) => Err(error),
        };
        // Whoever asked may have gone; what was decided stands all the same.
        let _ = self.reply.send(answer);
    }
}
