//! The invitation and its notifications as callers see them.

use super::calendar::{render_date, render_instant};
use super::care_unit_settings::render_schedule;
use super::enums::{self, WireEnum};
use super::{notification_name, v1};
use crate::domain::booking_request::BookingRequest;
use crate::domain::care_invitation::Hold;
use crate::domain::notification;
use crate::domain::notification::DisplayState;
use crate::domain::notification::DisplayedNotification;
use crate::domain::notification::Kind;
use crate::domain::request_key::RequestKey;

/// Renders the invitation of a request, if there has been one, with its notifications as displayed.
pub(super) fn render(
    record: &BookingRequest,
    displayed: &[DisplayedNotification],
) -> Option<v1::CareInvitation> {
    let invitation = record.care_invitation.as_ref()?;
    let (hold_reason, wait_until_date) = render_hold(invitation.hold);
    Some(v1::CareInvitation {
        round: invitation.round,
        invite_time: Some(render_instant(invitation.invited_at)),
        notifications: displayed
            .iter()
            .map(|notification| render_notification(&record.key, notification))
            .collect(),
        hold_reason,
        wait_until_date,
        no_response_time: invitation.no_response_at.map(render_instant),
        expire_time: record.expires_at().map(render_instant),
        bookable_since: record.bookable_since().map(render_instant),
        schedule: Some(render_schedule(&invitation.schedule)),
    })
}

/// Renders the hold: its reason, and the last day of waiting for the patient.
fn render_hold(hold: Option<Hold>) -> (i32, String) {
    let until = match hold {
        Some(Hold::WillBook { until }) => render_date(until),
        Some(
            Hold::ProtectedIdentity
            | Hold::Undeliverable
            | Hold::Parked
            | Hold::NoSuitableTime
            | Hold::CallBack
            | Hold::Contacted,
        )
        | None => String::new(),
    };
    (enums::render_optional(hold.map(Hold::reason)), until)
}

/// Renders a notification of the request `key`. A projected one has no name.
pub fn render_notification(
    key: &RequestKey,
    displayed: &DisplayedNotification,
) -> v1::Notification {
    let planned = displayed.planned.as_ref();
    v1::Notification {
        name: planned
            .map(|it| notification_name(key, it.id))
            .unwrap_or_default(),
        round: displayed.round,
        kind: render_kind(displayed.kind).into(),
        channel: enums::render(displayed.channel),
        channel_reason: enums::render(displayed.channel_reason),
        due_time: Some(render_instant(displayed.due_at)),
        state: enums::render(displayed.state),
        send_time: planned.and_then(|it| it.sent_at).map(render_instant),
        delivery_attempt: planned.map_or(0, |it| it.attempt_count),
        cause: enums::render_optional(displayed.cause),
        cause_detail: displayed.cause_detail.clone(),
        sent_after_change: planned.is_some_and(|it| it.sent_after_change),
        read_time: planned.and_then(|it| it.read_at).map(render_instant),
        sequence: displayed.kind.sequence().into(),
        dispatch_time: planned.and_then(|it| it.dispatched_at).map(render_instant),
        not_produced_time: planned
            .and_then(|it| it.not_produced_at)
            .map(render_instant),
    }
}

/// Renders a kind; the number of a reminder has a field of its own.
pub(super) fn render_kind(kind: Kind) -> v1::NotificationKind {
    match kind {
        Kind::Invitation => v1::NotificationKind::Invitation,
        Kind::Reminder { .. } => v1::NotificationKind::Reminder,
        Kind::Withdrawal => v1::NotificationKind::Withdrawal,
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
