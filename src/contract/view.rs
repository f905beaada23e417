//! Views: how much of a request a list shows.

use super::enums::{self, WireEnum};
use super::{Violations, booking_request, v1};
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::care_unit_settings::Policy;

/// Extent in which a request is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Without messages and texts.
    Basic,
    /// Everything.
    Full,
}

impl WireEnum for View {
    type Wire = v1::BookingRequestView;

    fn from_wire(wire: v1::BookingRequestView) -> Option<Self> {
        match wire {
            v1::BookingRequestView::Unspecified => None,
            v1::BookingRequestView::Basic => Some(Self::Basic),
            v1::BookingRequestView::Full => Some(Self::Full),
        }
    }

    fn to_wire(self) -> v1::BookingRequestView {
        match self {
            Self::Basic => v1::BookingRequestView::Basic,
            Self::Full => v1::BookingRequestView::Full,
        }
    }
}

impl View {
    /// Parses the field `view`, by default everything.
    pub(super) fn parse(number: i32, violations: &mut Violations) -> Self {
        let view = enums::parse_optional(number, "view", violations);
        view.unwrap_or(Self::Full)
    }

    /// Renders a request as it is displayed at `now`.
    pub fn render(
        self,
        record: &BookingRequest,
        now: Instant,
        policy: &Policy,
    ) -> v1::BookingRequest {
        let request = booking_request::render(record, now, policy);
        match self {
            Self::Basic => without_messages_and_texts(request),
            Self::Full => request,
        }
    }
}

fn without_messages_and_texts(request: v1::BookingRequest) -> v1::BookingRequest {
    let without_messages = |invitation| v1::CareInvitation {
        notifications: Vec::new(),
        ..invitation
    };
    v1::BookingRequest {
        purpose: String::new(),
        patient_instructions: None,
        internal_comment: String::new(),
        care_invitation: request.care_invitation.map(without_messages),
        ..request
    }
}
