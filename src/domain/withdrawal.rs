//! The withdrawal: a patient who has had a notification of an invitation is told that it is cancelled.
//!
//! None is sent to a patient with protected identity unless staff release it.

use uuid::Uuid;

use super::Context;
use super::booking_request::BookingRequest;
use super::booking_request::state::CancelReason;
use super::booking_request::state::State;
use super::care_invitation::{CareInvitation, Hold};
use super::history::{Event, HistoryEntry};
use super::notification::{self, Cause, Kind, Notification};

impl BookingRequest {
    /// Plans the withdrawal of a cancelled invitation, due at once, through the channel last used.
    /// Returns its id if it was parked because the patient has protected identity.
    pub(super) fn plan_withdrawal(&mut self, context: &Context) -> Vec<Uuid> {
        let last = self
            .care_invitation
            .as_ref()
            .and_then(CareInvitation::last_channel);
        let withdrawal = self.plan(Kind::Withdrawal, context.now, context);
        if let (Some(last), Some(withdrawal)) = (last, withdrawal) {
            (withdrawal.channel, withdrawal.channel_reason) = last;
            withdrawal.channel_fixed = true;
        }
        match self.form.patient.protection {
            Some(_) => self.withhold_withdrawal(),
            None => Vec::new(),
        }
    }

    /// Cancels a withdrawal that waits, since no notification of the round was handed over after all. One
    /// follows again if that proves wrong. Returns the ids of what it cancelled.
    pub(super) fn cancel_needless_withdrawal(&mut self, cause: Cause) -> Vec<Uuid> {
        let is_cancelled = self.state == State::Cancelled;
        let invitation = self.care_invitation.as_mut();
        let Some(invitation) = invitation.filter(|it| is_cancelled && !it.is_told()) else {
            return Vec::new();
        };
        let round = invitation.round;
        let withdrawals = invitation.notifications.iter_mut();
        let withdrawals = withdrawals.filter(|it| it.round == round && it.kind == Kind::Withdrawal);
        let cancelled = withdrawals.filter_map(|it| it.cancel(cause).then_some(it.id));
        let cancelled: Vec<Uuid> = cancelled.collect();
        if !cancelled.is_empty() {
            invitation.hold = None;
            invitation.withdraw_when_sent = true;
        }
        cancelled
    }

    /// Parks a withdrawal that is scheduled or leased, revoking the lease. One that is dispatching runs its
    /// course, and is parked later if its consumer did not hand it over. Returns the ids of the
    /// notifications that it parked.
    pub(super) fn withhold_withdrawal(&mut self) -> Vec<Uuid> {
        let Some(invitation) = &mut self.care_invitation else {
            return Vec::new();
        };
        let mut parked = Vec::new();
        let withdrawals = invitation.notifications.iter_mut();
        for notification in withdrawals.filter(|notification| notification.kind == Kind::Withdrawal)
        {
            notification.revoke();
            match notification.state {
                notification::State::Scheduled | notification::State::Leased => {
                    notification.state = notification::State::Parked;
                    notification.explain(Cause::ProtectedIdentity, "");
                    parked.push(notification.id);
                }
                notification::State::Dispatching | notification::State::Parked => {}
                notification::State::Sent | notification::State::Cancelled => continue,
            }
            invitation.hold = Some(Hold::ProtectedIdentity);
        }
        parked
    }

    /// Returns whether the notification is a withdrawal that staff must release before it is leased.
    pub fn is_withheld(&self, notification: &Notification) -> bool {
        self.state == State::Cancelled
            && notification.kind == Kind::Withdrawal
            && self.hold() == Some(Hold::ProtectedIdentity)
    }

    /// Returns whether the request is cancelled and its withdrawal waits for staff.
    pub fn has_parked_withdrawal(&self) -> bool {
        self.state == State::Cancelled
            && self.care_invitation.as_ref().is_some_and(|invitation| {
                invitation.notifications.iter().any(|notification| {
                    notification.kind == Kind::Withdrawal
                        && notification.state == notification::State::Parked
                })
            })
    }

    /// Returns whether the request is cancelled and a withdrawal may still be sent: one is pending or
    /// parked, or one follows if a notification turns out to have been handed over.
    pub(super) fn may_yet_withdraw(&self) -> bool {
        self.state == State::Cancelled
            && self.cancel_reason != Some(CancelReason::PatientDeceased)
            && self.care_invitation.as_ref().is_some_and(|invitation| {
                let waits = |notification: &Notification| match notification.state {
                    notification::State::Scheduled
                    | notification::State::Leased
                    | notification::State::Dispatching
                    | notification::State::Parked => true,
                    notification::State::Sent | notification::State::Cancelled => false,
                };
                let withdrawals =
                    |notification: &&Notification| notification.kind == Kind::Withdrawal;
                invitation.withdraw_when_sent
                    || invitation
                        .notifications
                        .iter()
                        .filter(withdrawals)
                        .any(waits)
            })
    }

    /// Returns history entries for withdrawals that a verb has parked.
    pub(super) fn withheld_entries(&self, parked: &[Uuid], context: &Context) -> Vec<HistoryEntry> {
        let entry = |id: &Uuid| self.explained_entry(Event::NotificationParked, *id, context);
        parked.iter().map(entry).collect()
    }
}
