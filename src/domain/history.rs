//! What has happened to a request, in the order in which it was recorded.

use uuid::Uuid;

use super::booking_request::form::Booking;
use super::booking_request::form::Constraints;
use super::booking_request::state::CancelReason;
use super::booking_request::state::ChangeReason;
use super::booking_request::state::EffectiveState;
use super::calendar::Instant;
use super::stored_enum;

stored_enum! {
    /// What was done.
    pub enum Event {
        /// Created.
        CreateBookingRequest = 1,
        /// Changed.
        ChangeBookingRequest = 2,
        /// The patient was invited.
        ChangeToInvitation = 3,
        /// A booking was recorded or moved.
        RecordBooking = 4,
        /// The patient was in touch.
        RecordPatientContact = 5,
        /// Closed without a visit.
        CancelBookingRequest = 6,
        /// A hold was lifted.
        ReleaseHold = 7,
        /// Something was learned about the patient.
        UpdatePatient = 8,
        /// A message was handed over.
        NotificationSent = 20,
        /// A message was no longer wanted.
        NotificationCancelled = 21,
        /// A message was set aside.
        NotificationParked = 22,
        /// A message reached nobody.
        NotificationUnreachable = 23,
        /// A message was read.
        NotificationRead = 24,
        /// A message lay unread.
        NotificationUnread = 25,
        /// A message came back.
        NotificationReturned = 26,
    }
}

impl Event {
    /// Returns the name in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateBookingRequest => "CREATE_BOOKING_REQUEST",
            Self::ChangeBookingRequest => "CHANGE_BOOKING_REQUEST",
            Self::ChangeToInvitation => "CHANGE_TO_INVITATION",
            Self::RecordBooking => "RECORD_BOOKING",
            Self::RecordPatientContact => "RECORD_PATIENT_CONTACT",
            Self::CancelBookingRequest => "CANCEL_BOOKING_REQUEST",
            Self::ReleaseHold => "RELEASE_HOLD",
            Self::UpdatePatient => "UPDATE_PATIENT",
            Self::NotificationSent => "NOTIFICATION_SENT",
            Self::NotificationCancelled => "NOTIFICATION_CANCELLED",
            Self::NotificationParked => "NOTIFICATION_PARKED",
            Self::NotificationUnreachable => "NOTIFICATION_UNREACHABLE",
            Self::NotificationRead => "NOTIFICATION_READ",
            Self::NotificationUnread => "NOTIFICATION_UNREAD",
            Self::NotificationReturned => "NOTIFICATION_RETURNED",
        }
    }
}

stored_enum! {
    /// What came of a contact with the patient.
    pub enum Contact {
        /// The patient will book.
        WillBook = 1,
        /// The patient declines the visit.
        Declined = 2,
        /// No offered time suits.
        NoSuitableTime = 3,
        /// The patient is_deliverable to be called.
        CallBack = 4,
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEntry {
    /// When.
    pub at: Instant,
    /// Who: the caller's subject.
    pub actor: String,
    /// What.
    pub event: Event,
    /// The state shown after it.
    pub state: EffectiveState,
    /// Why it was changed, for a change.
    pub change_reason: Option<ChangeReason>,
    /// Why it was closed, for a cancellation.
    pub cancel_reason: Option<CancelReason>,
    /// The caller's comment; empty when none.
    pub comment: String,
    /// The message concerned, if any.
    pub notification: Option<Uuid>,
    /// The constraints after it, when it changed them.
    pub constraints: Option<Constraints>,
    /// The booking that it recorded or ended.
    pub booking: Option<Booking>,
    /// What came of the contact that it recorded.
    pub contact: Option<Contact>,
}
