//! An operation: its read set and its decision.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::store::commit::read_set::{ReadSet, Resolved};
use crate::store::commit::unit_of_work::UnitOfWork;
use crate::store::error::Error;
use crate::telemetry::traces;

/// An operation, which is executed wholly or not at all.
pub trait Operation: Send {
    /// Returns the rows that it needs.
    fn read_set(&self) -> Arc<ReadSet>;
    /// Decides over the unit of work. May be called again, with another unit of work.
    fn decide(&mut self, work: &mut UnitOfWork, resolved: &Resolved);
    /// Returns true while a caller waits for the response.
    fn has_receiver(&self) -> bool;
    /// Begins a stage, and with it a span in the trace of the call, unless it has none.
    fn enter(&mut self, stage: Stage);
    /// Responds to the caller, after the commit or the failure.
    fn respond(self: Box<Self>, committed: Result<(), Error>);
}

/// Stage of an operation, of which its trace has a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits for a batch.
    Queue,
    /// It is in a batch of so many operations.
    Batch(usize),
    /// A transaction of the batch is open, in this system.
    Transaction(&'static str),
    /// The transaction is committed.
    Committed,
    /// The transaction is rolled back, for a reason of this kind.
    RolledBack(&'static str),
}

/// The spans of an operation.
struct Trace {
    call: traces::Span,
    stage: traces::Span,
    transaction: traces::Span,
}

impl Trace {
    /// Begins the spans of an operation that is submitted now.
    fn begin() -> Self {
        let call = traces::Span::current();
        Self {
            stage: call.child("queue"),
            transaction: traces::Span::default(),
            call,
        }
    }

    fn enter(&mut self, stage: Stage) {
        match stage {
            Stage::Queue => self.stage = self.call.child("queue"),
            Stage::Batch(operations) => {
                // The one before ends where this one begins.
                self.stage = traces::Span::default();
                self.stage = self.call.child("batch");
                self.stage
                    .count("care_invitation.batch.operations", operations);
            }
            Stage::Transaction(system) => {
                self.transaction = self.stage.child_in_database("transaction", system);
            }
            Stage::Committed => self.transaction = traces::Span::default(),
            Stage::RolledBack(kind) => {
                self.transaction.fail(kind);
                self.transaction = traces::Span::default();
            }
        }
    }
}

/// An operation whose decision yields a `T`.
struct TypedOperation<T, D> {
    read_set: Arc<ReadSet>,
    decide: D,
    decided: Option<Result<T, Error>>,
    reply: oneshot::Sender<Result<T, Error>>,
    trace: Trace,
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
        trace: Trace::begin(),
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

    fn enter(&mut self, stage: Stage) {
        self.trace.enter(stage);
    }

    fn respond(self: Box<Self>, committed: Result<(), Error>) {
        // Its spans end before that of the call that waits.
        drop(self.trace);
        let response = match (committed, self.decided) {
            (Ok(()), Some(decided)) => decided,
            (Ok(()), None) => Err(Error::internal("an operation was committed undecided")),
            (Err(error), _) => Err(error),
        };
        // The caller may have gone; the decision stands all the same.
        let _ = self.reply.send(response);
    }
}
