//! The withdrawal: a patient who has had a message of an invitation is told that it is cancelled.

use super::Context;
use super::booking_request::{BookingRequest, CancelReason, State};
use super::care_invitation::CareInvitation;
use super::notification::{self, Kind, Notification};

impl BookingRequest {
    /// Plans the withdrawal of a cancelled invitation, due at once, by the channel last used.
    pub(super) fn plan_withdrawal(&mut self, context: &Context) {
        let last = self
            .care_invitation
            .as_ref()
            .and_then(CareInvitation::last_channel);
        self.plan(Kind::Withdrawal, context.now, context.fresh_id);
        if let (Some(last), Some(withdrawal)) = (last, self.notification_mut(context.fresh_id)) {
            (withdrawal.channel, withdrawal.channel_reason) = last;
            withdrawal.channel_fixed = true;
        }
    }

    /// Whether it is closed and its withdrawal waits for staff.
    pub fn has_parked_withdrawal(&self) -> bool {
        self.state == State::Cancelled
            && self.care_invitation.as_ref().is_some_and(|invitation| {
                invitation.notifications.iter().any(|message| {
                    message.kind == Kind::Withdrawal && message.state == notification::State::Parked
                })
            })
    }

    /// Whether it is closed and its withdrawal has not left.
    pub(super) fn withdrawal_can_be_stopped(&self) -> bool {
        self.state == State::Cancelled
            && self.cancel_reason != Some(CancelReason::PatientDeceased)
            && self.care_invitation.as_ref().is_some_and(|invitation| {
                let waits = |message: &Notification| match message.state {
                    notification::State::Scheduled
                    | notification::State::Leased
                    | notification::State::Dispatching
                    | notification::State::Parked => true,
                    notification::State::Sent | notification::State::Cancelled => false,
                };
                let withdrawals = |message: &&Notification| message.kind == Kind::Withdrawal;
                invitation.withdraw_when_sent
                    || invitation
                        .notifications
                        .iter()
                        .filter(withdrawals)
                        .any(waits)
            })
    }
}
