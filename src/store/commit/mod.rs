//! Group commit: operations that arrive together are decided in order over one unit of work and committed together.
//!
//! The committer takes a batch from the queue, resolves the read sets of its operations, lets them decide over the unit of
//! work, writes what differs as one write set, commits, publishes the change event and only then responds. Every row is
//! written under a test of the version that it was read with; a mismatch is a conflict, and the batch is rolled back and
//! bisected, so that one bad operation fails alone.

pub mod committer;
pub mod operation;
pub mod overlay;
pub mod queue;
pub mod read_set;
pub mod tracked;
pub mod unit_of_work;
pub mod write_set;
