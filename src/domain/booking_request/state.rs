//! States of a request, stored and effective, and the actions, warnings and reasons that go with them.

use crate::domain::stored_enum;

stored_enum! {
    /// Stored state of a request.
    pub enum State {
        /// Waits for staff to book or invite.
        Requested = 1,
        /// The patient is invited.
        Invited = 2,
        /// The visit is booked.
        Booked = 3,
        /// The patient has declined the visit.
        Declined = 4,
        /// Closed without a visit.
        Cancelled = 5,
    }
}

stored_enum! {
    /// The stored state with the passing of time counted in.
    pub enum EffectiveState {
        /// Waits for staff to book or invite.
        Requested = 1,
        /// The patient is invited.
        Invited = 2,
        /// The visit is booked.
        Booked = 3,
        /// The patient has declined the visit.
        Declined = 4,
        /// Invited; the last notification was sent 14 days ago and the patient has not answered.
        NoResponse = 5,
        /// Requested or invited, and the period has passed.
        Expired = 6,
        /// Closed without a visit.
        Cancelled = 7,
    }
}

impl EffectiveState {
    /// Returns the name in the contract, without its prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requested => "REQUESTED",
            Self::Invited => "INVITED",
            Self::Booked => "BOOKED",
            Self::Declined => "DECLINED",
            Self::NoResponse => "NO_RESPONSE",
            Self::Expired => "EXPIRED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// Returns whether the patient is invited and it is theirs to answer, in time or late.
    pub fn awaits_patient(self) -> bool {
        match self {
            Self::Invited | Self::NoResponse => true,
            Self::Requested | Self::Booked | Self::Declined | Self::Expired | Self::Cancelled => {
                false
            }
        }
    }
}

stored_enum! {
    /// Action of a caller on a request.
    pub enum Action {
        /// ChangeBookingRequest.
        Change = 1,
        /// ChangeToInvitation.
        ChangeToInvitation = 2,
        /// RecordBooking.
        RecordBooking = 3,
        /// RecordPatientContact.
        RecordPatientContact = 4,
        /// CancelBookingRequest.
        Cancel = 5,
        /// ReleaseHold.
        ReleaseHold = 6,
        /// RevokeInvitation.
        RevokeInvitation = 7,
        /// RecordBookingCancellation.
        RecordBookingCancellation = 8,
    }
}

impl Action {
    /// Returns the name in the contract, without its prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Change => "CHANGE",
            Self::ChangeToInvitation => "CHANGE_TO_INVITATION",
            Self::RecordBooking => "RECORD_BOOKING",
            Self::RecordPatientContact => "RECORD_PATIENT_CONTACT",
            Self::Cancel => "CANCEL",
            Self::ReleaseHold => "RELEASE_HOLD",
            Self::RevokeInvitation => "REVOKE_INVITATION",
            Self::RecordBookingCancellation => "RECORD_BOOKING_CANCELLATION",
        }
    }
}

stored_enum! {
    /// Something that staff should see, and that stops nothing.
    pub enum Warning {
        /// The period starts after the last day of the care guarantee.
        CareGuaranteeExceeded = 1,
        /// At least one reminder would fall after the period.
        RemindersSkipped = 2,
        /// Nothing is sent until staff release it.
        ProtectedIdentity = 3,
    }
}

stored_enum! {
    /// Reason for changing a request (ändringsorsak).
    pub enum ChangeReason {
        /// "Ändra begäran – vårdinbjudan"; written by ChangeToInvitation, and by RecordBookingCancellation with a new round.
        ToCareInvitation = 1,
        /// The patient asked for it.
        PatientRequest = 2,
        /// The unit needs it.
        UnitRequest = 3,
        /// For medical reasons.
        Medical = 4,
        /// Something else.
        Other = 5,
    }
}

stored_enum! {
    /// Reason for closing a request without a visit.
    pub enum CancelReason {
        /// The referral was withdrawn or returned.
        ReferralWithdrawn = 1,
        /// The patient no longer wants or needs the visit.
        PatientRequest = 2,
        /// The unit no longer offers the visit.
        UnitRequest = 3,
        /// The patient has died.
        PatientDeceased = 4,
        /// Registered by mistake.
        EnteredInError = 5,
        /// Something else.
        Other = 6,
        /// The patient has not answered the invitation.
        NoResponse = 7,
        /// The patient did not come to a visit.
        NoShow = 8,
        /// The patient has moved.
        PatientMoved = 9,
        /// The patient gets the care elsewhere.
        CaredForElsewhere = 10,
        /// Handed on to another unit.
        Transferred = 11,
    }
}
