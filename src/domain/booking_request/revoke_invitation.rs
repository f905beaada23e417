//! RevokeInvitation: an invitation of which the patient has not been told ends, and is a request again.

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::state::Action;
use crate::domain::booking_request::state::State;
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::notification::Cause;
use crate::domain::{Change, Context, Refusal};

/// Command of the caller.
#[derive(Clone, Debug)]
pub struct RevokeInvitation {
    /// Etag that the caller saw; empty if none.
    pub etag: String,
    /// Comment for the history; may be empty.
    pub comment: String,
}

/// Revokes an invitation. A notification of it that is reported SENT later is recorded, and nothing
/// follows from it.
///
/// # Errors
///
/// [`Refusal::EtagMismatch`], then [`Refusal::StateConflict`] if the request is no invitation or a
/// notification of the present round is sent or dispatching.
pub fn revoke_invitation(
    stored: Option<&BookingRequest>,
    command: &RevokeInvitation,
    context: &Context,
) -> Result<Change, Refusal> {
    let record = stored.ok_or(Refusal::NotFound)?;
    record.check_etag(&command.etag)?;
    record.check_allowed(Action::RevokeInvitation, context.now)?;

    let mut record = record.clone();
    record.form.invitation = false;
    record.state = State::Requested;
    let cancelled = record.cancel_pending(Cause::Revoked);
    let mut history = vec![HistoryEntry {
        comment: command.comment.clone(),
        ..record.history_entry(Event::RevokeInvitation, context)
    }];
    history.extend(record.cancelled_entries(&cancelled, context));
    Ok(record.finish_change(stored, history, context))
}
