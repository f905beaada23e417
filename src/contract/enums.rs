//! Enums: their numbers on the wire, of which zero means that the field is not set.
//!
//! Both directions are matches without a catch-all arm, so that a value that is added on one side
//! only is a compile error.

use super::{Violations, v1};
use crate::domain::booking_request::change::OnChange;
use crate::domain::booking_request::form::BookingSource;
use crate::domain::booking_request::form::Priority;
use crate::domain::booking_request::form::VisitKind;
use crate::domain::booking_request::record_booking_cancellation::{
    BookingCancellationReason, Next,
};
use crate::domain::booking_request::record_patient_contact::ContactMedium;
use crate::domain::booking_request::state::Action;
use crate::domain::booking_request::state::CancelReason;
use crate::domain::booking_request::state::ChangeReason;
use crate::domain::booking_request::state::EffectiveState;
use crate::domain::booking_request::state::Warning;
use crate::domain::care_invitation::HoldReason;
use crate::domain::history::{Contact, Event};
use crate::domain::notification::report_delivery::Receipt;
use crate::domain::notification::{
    Cause, ChannelReason, DeliveryChannel, DispatchRefusal, Outcome,
};
use crate::domain::patient::{Addressee, InboxReach, LetterFormat, PersonalIdType, Protection};
use crate::domain::slot::Verdict;
use crate::domain::worklist::Worklist;
use crate::domain::worklist::query::OrderBy;

/// An enum of the domain that has a counterpart on the wire.
pub(super) trait WireEnum: Copy {
    /// Counterpart on the wire.
    type Wire: TryFrom<i32> + Into<i32>;

    /// Returns the value of `wire`; `None` if it is unspecified.
    fn from_wire(wire: Self::Wire) -> Option<Self>;

    /// Returns the counterpart of the value.
    fn to_wire(self) -> Self::Wire;
}

/// Pairs an enum of the domain with its counterpart, whose values have the same names.
macro_rules! wire_enum {
    ($domain:ty = $wire:ty { $($value:ident)+ }) => {
        impl WireEnum for $domain {
            type Wire = $wire;

            fn from_wire(wire: $wire) -> Option<Self> {
                match wire {
                    <$wire>::Unspecified => None,
                    $(<$wire>::$value => Some(Self::$value),)+
                }
            }

            fn to_wire(self) -> $wire {
                match self {
                    $(Self::$value => <$wire>::$value,)+
                }
            }
        }
    };
}

wire_enum!(PersonalIdType = v1::PersonalIdType { Personnummer Samordningsnummer LocalReserveNumber NationalReserveNumber });
wire_enum!(Protection = v1::Protection { ConfidentialityMarked ProtectedRegistration });
wire_enum!(InboxReach = v1::InboxReach { Inbox None });
wire_enum!(Addressee = v1::Addressee { Patient Guardians Proxy });
wire_enum!(LetterFormat = v1::LetterFormat { Standard LargePrint Braille Audio EasyRead });
wire_enum!(VisitKind = v1::VisitKind { NewVisit ReturnVisit });
wire_enum!(Priority = v1::Priority { Routine Urgent Emergency });
wire_enum!(BookingSource = v1::BookingSource { Patient Staff });
wire_enum!(Action = v1::Action {
    Change ChangeToInvitation RecordBooking RecordPatientContact Cancel ReleaseHold
    RevokeInvitation RecordBookingCancellation
});
wire_enum!(BookingCancellationReason = v1::BookingCancellationReason { Patient CareUnit NoShow });
wire_enum!(Next = v1::record_booking_cancellation_request::Next { Requested Invited });
wire_enum!(EffectiveState = v1::booking_request::State {
    Requested Invited Booked Declined NoResponse Expired Cancelled
});
wire_enum!(HoldReason = v1::HoldReason {
    ProtectedIdentity Undeliverable Parked NoSuitableTime CallBack WillBook Contacted
});
wire_enum!(Warning = v1::Warning { CareGuaranteeExceeded RemindersSkipped ProtectedIdentity });
wire_enum!(ChangeReason = v1::ChangeReason {
    ToCareInvitation PatientRequest UnitRequest Medical Other
});
wire_enum!(OnChange = v1::change_booking_request_request::OnChange { Keep Restart });
wire_enum!(CancelReason = v1::CancelReason {
    ReferralWithdrawn PatientRequest UnitRequest PatientDeceased EnteredInError Other
    NoResponse NoShow PatientMoved CaredForElsewhere Transferred
});
wire_enum!(DeliveryChannel = v1::DeliveryChannel { Inbox Letter });
wire_enum!(ChannelReason = v1::ChannelReason {
    Default NoDigitalAccount IdentityNumber DigitalFailed Unread Staff Minor Proxy
});
wire_enum!(Cause = v1::NotificationCause {
    AfterPeriod Booked Declined Cancelled Revoked NewRound PatientDeceased NotSent HandedOver Read
    Unreachable Returned Retry Parked LeasesRanOut ProtectedIdentity Imported NotProduced
});
wire_enum!(Outcome = v1::acknowledgement::Outcome { Sent Retry Unreachable Park });
wire_enum!(DispatchRefusal = v1::DispatchRefusal {
    Lost Booked Declined Cancelled Revoked Held Changed Expired Paused
});
wire_enum!(Event = v1::HistoryEvent {
    CreateBookingRequest ChangeBookingRequest ChangeToInvitation RecordBooking RecordPatientContact
    CancelBookingRequest ReleaseHold UpdatePatient RevokeInvitation RecordBookingCancellation PersonalIdReplaced
    NotificationSent NotificationCancelled NotificationParked NotificationUnreachable
    NotificationRead NotificationUnread NotificationReturned NotificationDispatched NotificationNotProduced
    Expired NoResponse WillBookOver
});
wire_enum!(Contact = v1::ContactOutcome { WillBook Declined NoSuitableTime CallBack Other });
wire_enum!(ContactMedium = v1::ContactMedium { Phone Portal Letter Email TextMessage Visit Other });
wire_enum!(Receipt = v1::delivery_receipt::Receipt { Read Unread Returned Dispatched NotProduced });
wire_enum!(Verdict = v1::SlotVerdict {
    Offered RequestClosed NotInvited NotOpenYet TooLate Past OutsidePeriod Weekday TimeOfDay TooShort Performer
});
wire_enum!(Worklist = v1::Worklist {
    BookingRequests CareInvitations FollowUp ManualHandling SlotIssues Declined GuaranteeAtRisk All
    AllInvitations AllBookingRequests
});
wire_enum!(OrderBy = v1::worklist_query::OrderBy {
    StartDate CreateTime NextNotification Priority CareGuarantee
});

/// Parses a value that must be set.
pub(super) fn parse<E: WireEnum>(
    number: i32,
    field: &str,
    violations: &mut Violations,
) -> Option<E> {
    if number == 0 {
        return violations.require(field);
    }
    parse_optional(number, field, violations)
}

/// Parses a value that may be left out.
pub(super) fn parse_optional<E: WireEnum>(
    number: i32,
    field: &str,
    violations: &mut Violations,
) -> Option<E> {
    match E::Wire::try_from(number) {
        Ok(wire) => E::from_wire(wire),
        Err(_) => {
            violations.add(field, "is not a known value");
            None
        }
    }
}

/// Returns the value of a number; `None` if it is unspecified or not known.
pub(super) fn known<E: WireEnum>(number: i32) -> Option<E> {
    E::from_wire(E::Wire::try_from(number).ok()?)
}

/// Renders a value as its number.
pub(super) fn render<E: WireEnum>(value: E) -> i32 {
    value.to_wire().into()
}

/// Renders a value as its number, and `None` as zero.
pub(super) fn render_optional<E: WireEnum>(value: Option<E>) -> i32 {
    value.map_or(0, render)
}

#[cfg(test)]
mod tests {
    use super::super::tests::outcome;
    use super::*;

    #[test]
    fn only_the_numbers_of_the_contract_are_known() {
        for (number, required, optional) in [
            (1, Ok(VisitKind::NewVisit), Ok(Some(VisitKind::NewVisit))),
            (
                2,
                Ok(VisitKind::ReturnVisit),
                Ok(Some(VisitKind::ReturnVisit)),
            ),
            (0, Err("is required"), Ok(None)),
            (3, Err("is not a known value"), Err("is not a known value")),
            (-1, Err("is not a known value"), Err("is not a known value")),
        ] {
            let parsed = Violations::collect(|v| parse(number, "visit_kind", v));
            assert_eq!(
                parsed.map_err(first_description),
                required.map_err(str::to_owned)
            );
            let parsed = Violations::collect(|v| Some(parse_optional(number, "visit_kind", v)));
            assert_eq!(
                parsed.map_err(first_description),
                optional.map_err(str::to_owned)
            );
        }
    }

    fn first_description(violations: Violations) -> String {
        violations.into_vec().remove(0).description
    }

    #[test]
    fn every_value_survives_the_wire() {
        fn survives<E: WireEnum + PartialEq + std::fmt::Debug>(values: &[E]) {
            for value in values {
                let (parsed, faults) = outcome(|v| parse(render(*value), "field", v));
                assert_eq!((parsed, faults.len()), (Some(*value), 0));
            }
        }
        survives(PersonalIdType::ALL);
        survives(Protection::ALL);
        survives(InboxReach::ALL);
        survives(Addressee::ALL);
        survives(LetterFormat::ALL);
        survives(VisitKind::ALL);
        survives(Priority::ALL);
        survives(BookingSource::ALL);
        survives(BookingCancellationReason::ALL);
        survives(Next::ALL);
        survives(CancelReason::ALL);
        survives(ChangeReason::ALL);
        survives(OnChange::ALL);
        survives(DeliveryChannel::ALL);
        survives(Contact::ALL);
        survives(ContactMedium::ALL);
        survives(Receipt::ALL);
        survives(Verdict::ALL);
        survives(Outcome::ALL);
        survives(Worklist::ALL);
        survives(EffectiveState::ALL);
        survives(HoldReason::ALL);
        survives(OrderBy::ALL);
        assert_eq!(render_optional::<VisitKind>(None), 0);
    }
}
