//! The invitation and its messages as callers see them.

use super::calendar::{render_date, render_instant};
use super::enums::{self, WireEnum};
use super::{notification_name, v1};
use crate::domain::booking_request::BookingRequest;
use crate::domain::care_invitation::Hold;
use crate::domain::notification;
use crate::domain::notification::DisplayState;
use crate::domain::notification::DisplayedNotification;
use crate::domain::request_key::RequestKey;

/// Returns the invitation of a request, if there has been one; `shown` is what it shows of its messages.
pub(super) fn render(
    record: &BookingRequest,
    shown: &[DisplayedNotification],
) -> Option<v1::CareInvitation> {
    let invitation = record.care_invitation.as_ref()?;
    let (hold_reason, wait_until_date) = render_hold(invitation.hold);
    let messages = shown.iter();
    Some(v1::CareInvitation {
        round: invitation.round,
        invite_time: Some(render_instant(invitation.invited_at)),
        notifications: messages
            .map(|message| render_notification(&record.key, message))
            .collect(),
        hold_reason: hold_reason.into(),
        wait_until_date,
        no_response_time: invitation.no_response_at.map(render_instant),
        expire_time: record.expires_at().map(render_instant),
    })
}

/// Returns why nothing is sent, and the day until which the patient is waited for.
fn render_hold(hold: Option<Hold>) -> (v1::HoldReason, String) {
    let reason = match hold {
        None => v1::HoldReason::Unspecified,
        Some(Hold::ProtectedIdentity) => v1::HoldReason::ProtectedIdentity,
        Some(Hold::Undeliverable) => v1::HoldReason::Undeliverable,
        Some(Hold::Parked) => v1::HoldReason::Parked,
        Some(Hold::NoSuitableTime) => v1::HoldReason::NoSuitableTime,
        Some(Hold::CallBack) => v1::HoldReason::CallBack,
        Some(Hold::WillBook { until }) => return (v1::HoldReason::WillBook, render_date(until)),
    };
    (reason, String::new())
}

/// Returns a message of the request `key`; one that is only projected has no name.
pub fn render_notification(key: &RequestKey, shown: &DisplayedNotification) -> v1::Notification {
    let message = shown.message.as_ref();
    v1::Notification {
        name: message
            .map(|it| notification_name(key, it.id))
            .unwrap_or_default(),
        round: shown.round,
        kind: enums::render(shown.kind),
        channel: enums::render(shown.channel),
        channel_reason: enums::render(shown.channel_reason),
        due_time: Some(render_instant(shown.due_at)),
        state: enums::render(shown.state),
        send_time: message.and_then(|it| it.sent_at).map(render_instant),
        delivery_attempt: message.map_or(0, |it| it.attempt_count),
        cause: shown.cause.clone().unwrap_or_default(),
        superseded: message.is_some_and(|it| it.superseded),
        read_time: message.and_then(|it| it.read_at).map(render_instant),
    }
}

impl WireEnum for DisplayState {
    type Wire = v1::notification::State;

    fn from_wire(wire: v1::notification::State) -> Option<Self> {
        use notification::State as Stored;
        use v1::notification::State;
        match wire {
            State::Unspecified => None,
            State::Projected => Some(Self::Projected),
            State::Skipped => Some(Self::Skipped),
            State::Scheduled => Some(Self::Planned(Stored::Scheduled)),
            State::Leased => Some(Self::Planned(Stored::Leased)),
            State::Dispatching => Some(Self::Planned(Stored::Dispatching)),
            State::Sent => Some(Self::Planned(Stored::Sent)),
            State::Cancelled => Some(Self::Planned(Stored::Cancelled)),
            State::Parked => Some(Self::Planned(Stored::Parked)),
        }
    }

    fn to_wire(self) -> v1::notification::State {
        use notification::State as Stored;
        use v1::notification::State;
        match self {
            Self::Projected => State::Projected,
            Self::Skipped => State::Skipped,
            Self::Planned(Stored::Scheduled) => State::Scheduled,
            Self::Planned(Stored::Leased) => State::Leased,
            Self::Planned(Stored::Dispatching) => State::Dispatching,
            Self::Planned(Stored::Sent) => State::Sent,
            Self::Planned(Stored::Cancelled) => State::Cancelled,
            Self::Planned(Stored::Parked) => State::Parked,
        }
    }
}
