//! Group commit: operations that arrive together are decided in order over one unit of work and committed in one
//! transaction.
//!
//! # Batching and linger
//!
//! An operation is handed to the queue and its caller only waits, so that a call that is cancelled leaves nothing half
//! done. A committer takes a batch of operations from the queue. Interactive and bulk operations take turns when both
//! wait, so that neither starves. A large interactive batch is followed by more calls a moment later, because callers
//! that were answered together come back one after the other: the committer then lingers for a few milliseconds
//! before it takes the next batch, since a few large commits do more than many small ones.
//!
//! # A batch
//!
//! The committer resolves the read sets of the operations (due notifications, the requests of a patient), loads the
//! requests with their notifications, looks up idempotency keys and duplicates, and lets each operation decide over
//! the unit of work, where it sees the decisions of those before it; claims decide last. The difference between the
//! loaded and the decided state is the write set. It is written and committed together with a change event for other
//! replicas; then the event is published here, and only then do the operations respond.
//!
//! # Optimistic concurrency
//!
//! Every row is updated on condition that it still has the version with which it was loaded: the revision of a
//! request, the version of a notification. If fewer rows are written than the write set has, that is a conflict and the
//! committer rolls back. When a request changes, each of its pending notifications is written too, with the next
//! version, even if the notification itself is the same. A claim does not lock the requests that it leases from: if
//! another writer changes such a request, it must write the notification that the claim has locked or will write, so
//! that one of the two finds a row changed or locked.
//!
//! # Locks and requeue
//!
//! PostgreSQL has several writers. The committer locks the requests of a batch in the order of their keys before it
//! looks up idempotency keys, so that it sees the keys of a writer that had the lock before. It locks with
//! `SKIP LOCKED` and never waits there: an operation whose request is locked elsewhere leaves the batch and is
//! requeued after a short random pause, unless its caller has gone. A claim skips notifications that are locked. A
//! batch of nothing but claims locks no requests. On SQLite the committer is the only writer and locks no rows.
//!
//! # Conflict and bisect
//!
//! A version conflict, a serialization failure, a deadlock, a lock timeout and a violated unique key are all treated
//! as a conflict. The batch is bisected: each half is executed as a batch of its own, the first before the second, until
//! the operation that cannot go with the others is alone. So is a batch in which a decision panics or the database
//! reports an error. A single operation with a conflict is tried again with exponential back-off and jitter before its
//! caller is told of contention. When the database is unavailable the whole batch is tried a few times and then
//! fails; its operations may be tried again, because idempotency keys and lease tokens make a second execution harmless.
//!
//! New rows are inserted before old rows are updated. An open request may not have the same entry in the unique index
//! of duplicates as another, so a batch that closes a request and opens its duplicate meets the index, conflicts, and
//! is committed in two transactions after it was bisected. The other order would not spare that: PostgreSQL gets the
//! whole write set as one statement and does not promise an order of its parts.
//!
//! # Pipelining
//!
//! SQLite has one writer. While one batch is being written, the committer decides the next over a connection of its
//! own, which may not see that batch yet; an overlay shows the state that it leaves behind. Requests and idempotency
//! keys of the overlay take precedence over the rows that are read. At most one batch is in flight, so the batches
//! before it are committed and seen. Should it not be committed as decided, the next batch is executed anew, with
//! nothing in flight.
//!
//! The overlay also keeps the leased requests of batches that are committed, up to a limit: an acknowledgement follows
//! each lease, and reads it no more. A row that was deleted or changed beside the committer meets the version with which
//! it is written, and the batch is executed anew from what is stored.

pub mod committer;
pub mod operation;
pub mod overlay;
pub mod queue;
pub mod read_set;
pub mod settings;
pub mod tracked;
pub mod unit_of_work;
pub mod write_set;

mod resolve;
