//! Changes that the passing of time alone makes in a request: derived, never decided.
//!
//! Nothing is stored at the instant itself. The next change of the request leaves what time had changed before it in
//! its first history entry, so that it can be told later too.

use super::BookingRequest;
use super::state::State;
use crate::domain::calendar::{Instant, from_micros, micros};
use crate::domain::care_invitation::Hold;
use crate::domain::history::{Elapsed, Event};

impl BookingRequest {
    /// Returns what time alone has changed since the request was last changed and until `until`, in order.
    pub fn elapsed(&self, until: Instant) -> Vec<Elapsed> {
        let expires_at = self.expires_at().filter(|_| self.is_open());
        let (event, moves_at) = self.silence();
        // Once it has expired nothing else is shown.
        let moves_at = moves_at.filter(|at| expires_at.is_none_or(|expires_at| *at < expires_at));
        let moves = moves_at.map(|at| (at, event));
        let expiry = expires_at.map(|at| (at, Event::Expired));
        let elapsed = moves.into_iter().chain(expiry);
        let elapsed = elapsed.filter(|(at, _)| self.updated_at < *at && *at <= until);
        elapsed
            .map(|(at, event)| Elapsed {
                at,
                event,
                before: self.effective_state(from_micros(micros(at) - 1)),
                after: self.effective_state(at),
            })
            .collect()
    }

    /// Returns when the patient's silence changes the request, and what that is.
    fn silence(&self) -> (Event, Option<Instant>) {
        let invitation = self.care_invitation.as_ref();
        match (self.state, self.hold()) {
            (State::Invited, Some(hold @ Hold::WillBook { .. })) => {
                (Event::WillBookOver, hold.ends_at())
            }
            (State::Invited, None) => {
                let at = invitation.and_then(|it| it.no_response_at);
                (Event::NoResponse, at)
            }
            (
                State::Requested
                | State::Invited
                | State::Booked
                | State::Declined
                | State::Cancelled,
                _,
            ) => (Event::NoResponse, None),
        }
    }
}
