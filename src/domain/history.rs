//! The history of a request, in the order in which it was recorded.

use uuid::Uuid;

use super::booking_request::field::Field;
use super::booking_request::form::Booking;
use super::booking_request::form::Constraints;
use super::booking_request::state::CancelReason;
use super::booking_request::state::ChangeReason;
use super::booking_request::state::EffectiveState;
use super::calendar::Instant;
use super::notification::Cause;
use super::stored_enum;

stored_enum! {
    /// Event in the history of a request.
    pub enum Event {
        /// The request was created.
        CreateBookingRequest = 1,
        /// The request was changed.
        ChangeBookingRequest = 2,
        /// The patient was invited.
        ChangeToInvitation = 3,
        /// A booking was recorded or moved.
        RecordBooking = 4,
        /// A contact with the patient was recorded.
        RecordPatientContact = 5,
        /// The request was closed without a visit.
        CancelBookingRequest = 6,
        /// A hold was lifted.
        ReleaseHold = 7,
        /// The patient's details were updated.
        UpdatePatient = 8,
        /// The invitation was revoked.
        RevokeInvitation = 9,
        /// The booking was cancelled.
        RecordBookingCancellation = 10,
        /// The patient's identity number was replaced.
        PersonalIdReplaced = 11,
        /// A notification was handed over.
        NotificationSent = 20,
        /// A notification was cancelled.
        NotificationCancelled = 21,
        /// A notification was parked.
        NotificationParked = 22,
        /// A notification did not reach the patient.
        NotificationUnreachable = 23,
        /// A notification was read.
        NotificationRead = 24,
        /// A notification was left unread.
        NotificationUnread = 25,
        /// A notification was returned.
        NotificationReturned = 26,
        /// A notification was posted.
        NotificationDispatched = 27,
        /// A notification was never posted.
        NotificationNotProduced = 28,
        /// Time alone: the period has passed. No entry of a history.
        Expired = 40,
        /// Time alone: the patient has not answered. No entry of a history.
        NoResponse = 41,
        /// Time alone: the patient who would book has not. No entry of a history.
        WillBookOver = 42,
    }
}

stored_enum! {
    /// Outcome of a contact with the patient.
    pub enum Contact {
        /// The patient will book.
        WillBook = 1,
        /// The patient declines the visit.
        Declined = 2,
        /// No offered time suits.
        NoSuitableTime = 3,
        /// The patient wants to be called.
        CallBack = 4,
        /// The patient was in touch, and nothing is decided.
        Other = 5,
    }
}

/// A change that time alone has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed {
    /// Instant at which it became true.
    pub at: Instant,
    /// Event: the request has expired, got no response, or waited in vain for a booking.
    pub event: Event,
    /// Effective state just before.
    pub before: EffectiveState,
    /// Effective state from then on.
    pub after: EffectiveState,
}

/// One entry in the history of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEntry {
    /// Time of the event.
    pub at: Instant,
    /// Subject of the caller.
    pub actor: String,
    /// Event that happened.
    pub event: Event,
    /// Revision of the request after the event.
    pub revision: i64,
    /// Effective state before the event; none when it created the request.
    pub state_before: Option<EffectiveState>,
    /// Effective state after the event.
    pub state: EffectiveState,
    /// Changes that time alone had made before, since the request was last changed.
    pub elapsed: Vec<Elapsed>,
    /// Instant at which time alone changes the request next, if nothing else does before.
    pub next_transition_at: Option<Instant>,
    /// Reason for a change.
    pub change_reason: Option<ChangeReason>,
    /// Reason for a cancellation.
    pub cancel_reason: Option<CancelReason>,
    /// Comment of the caller; empty if none.
    pub comment: String,
    /// Notification concerned, if any.
    pub notification: Option<Uuid>,
    /// Constraints after the event, if it changed them.
    pub constraints: Option<Constraints>,
    /// Booking that the event recorded or ended.
    pub booking: Option<Booking>,
    /// Outcome of the contact that the event recorded.
    pub contact: Option<Contact>,
    /// Cause of the notification's cancellation or parking, or of its not reaching the patient.
    pub cause: Option<Cause>,
    /// Fields of the request that the event changed.
    pub changed_fields: Vec<Field>,
}
