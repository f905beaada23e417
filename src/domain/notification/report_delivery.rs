//! ReportDelivery: receipts for a notification after it was sent.

use uuid::Uuid;

use super::{Cause, ChannelReason, DeliveryChannel, Kind, Notification, State};
use crate::domain::booking_request::{BookingRequest, state};
use crate::domain::calendar::{Instant, add_days, at_clock, civil_date, local_clock};
use crate::domain::care_invitation::Hold;
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::{Change, Context, Refusal, stored_enum};

/// Days that must remain until the next notification for a letter to follow an unread one.
const UNREAD_MARGIN_DAYS: u32 = 3;

stored_enum! {
    /// Receipt for a notification that was sent.
    pub enum Receipt {
        /// The patient has read it.
        Read = 1,
        /// The patient has left it unread for too long.
        Unread = 2,
        /// It was returned.
        Returned = 3,
        /// It was posted.
        Dispatched = 4,
        /// It was taken for print and never posted.
        NotProduced = 5,
    }
}

/// Records a receipt for a notification that was sent, and plans the letter that follows, if one does. For
/// one that was read after all, cancels the letter that UNREAD brought, if that has not left. A receipt that
/// was reported before changes nothing; a time in the future is taken as now.
///
/// # Errors
///
/// [`Refusal::NotFound`] for an unknown notification, [`Refusal::NotSent`] for one that was not sent,
/// [`Refusal::Imported`] for one that an earlier system handed over.
pub fn report_delivery(
    record: &BookingRequest,
    id: Uuid,
    receipt: Receipt,
    reported_at: Option<Instant>,
    context: &Context,
) -> Result<Change, Refusal> {
    let notification = record.notification(id).ok_or(Refusal::NotFound)?;
    let reported_before = match receipt {
        Receipt::Read => notification.read_at,
        Receipt::Unread => notification.unread_at,
        Receipt::Returned => notification.returned_at,
        Receipt::Dispatched => notification.dispatched_at,
        Receipt::NotProduced => notification.not_produced_at,
    };
    if reported_before.is_some() {
        return Ok(Change {
            record: record.clone(),
            history: Vec::new(),
        });
    }
    if notification.is_imported() {
        return Err(Refusal::Imported);
    }
    if notification.state != State::Sent {
        return Err(Refusal::NotSent);
    }
    let follows = follows(record, notification, receipt, context);
    let is_to_be_produced = record.is_to_be_produced(notification, context.now);
    let before = record;
    let mut record = before.clone();
    let reported_at = reported_at.unwrap_or(context.now).min(context.now);
    record.record_receipt(id, receipt, reported_at);
    if follows {
        record.plan_letter(id, receipt, context);
    }
    let event = match receipt {
        Receipt::Read => Event::NotificationRead,
        Receipt::Unread => Event::NotificationUnread,
        Receipt::Returned => Event::NotificationReturned,
        Receipt::Dispatched => Event::NotificationDispatched,
        Receipt::NotProduced => Event::NotificationNotProduced,
    };
    let entry = HistoryEntry {
        notification: Some(id),
        ..record.history_entry(event, context)
    };
    let mut history = vec![entry];
    match receipt {
        Receipt::Read => {
            let cancelled = record.cancel_unread_letters(id);
            history.extend(record.cancelled_entries(&cancelled, context));
        }
        Receipt::NotProduced if is_to_be_produced => {
            history.extend(record.plan_again(id, context));
        }
        Receipt::Unread | Receipt::Returned | Receipt::Dispatched | Receipt::NotProduced => {}
    }
    Ok(record.finish_change(Some(before), history, context))
}

/// Returns the notification that follows another after a receipt, if one was planned: a letter, or the same kind again
/// after one that was never posted.
pub fn follow_up(record: &BookingRequest, id: Uuid, receipt: Receipt) -> Option<&Notification> {
    let notifications = &record.care_invitation.as_ref()?.notifications;
    let index = notifications
        .iter()
        .position(|notification| notification.id == id)?;
    let notification = &notifications[index];
    notifications[index + 1..]
        .iter()
        .find(|other| match receipt {
            Receipt::Read | Receipt::Dispatched => false,
            Receipt::NotProduced => other.replaces == Some(id),
            Receipt::Unread | Receipt::Returned => {
                // Among these kinds only letters that follow a receipt have a channel of their own.
                other.round == notification.round
                    && other.kind == notification.kind
                    && other.channel_fixed
                    && !notification.channel_fixed
            }
        })
}

/// Returns whether the same kind is to follow as a letter.
fn follows(
    record: &BookingRequest,
    notification: &Notification,
    receipt: Receipt,
    context: &Context,
) -> bool {
    let calls_for_letter = match receipt {
        Receipt::Read | Receipt::Dispatched | Receipt::NotProduced => false,
        // Receipts may come out of order.
        Receipt::Unread => notification.read_at.is_none() && next_is_far(record, context.now),
        Receipt::Returned => true,
    };
    let Some(invitation) = &record.care_invitation else {
        return false;
    };
    let free = invitation.staff_channel.is_none() && record.form.patient.protection.is_none();
    let invited = record.effective_state(context.now) == state::EffectiveState::Invited;
    calls_for_letter
        && free
        && invited
        && invitation.hold.is_none()
        && notification.channel == DeliveryChannel::Inbox
        && notification.kind != Kind::Withdrawal
        && invitation.is_latest(notification)
        && follow_up(record, notification.id, receipt).is_none()
}

/// Returns whether the next notification is due in more than three days, or there is none.
fn next_is_far(record: &BookingRequest, now: Instant) -> bool {
    let margin = at_clock(
        add_days(civil_date(now), UNREAD_MARGIN_DAYS),
        local_clock(now),
    );
    record
        .next_notification_at()
        .is_none_or(|next| margin < next)
}

impl BookingRequest {
    /// Records a receipt. A returned notification also shows that its channel does not reach the patient.
    fn record_receipt(&mut self, id: Uuid, receipt: Receipt, reported_at: Instant) {
        let is_invited = self.state == state::State::Invited;
        let Some(notification) = self.notification_mut(id) else {
            return;
        };
        // It cannot have been read or returned before it was sent.
        let reported_at = notification
            .sent_at
            .map_or(reported_at, |sent_at| reported_at.max(sent_at));
        match receipt {
            Receipt::Read => notification.read_at = Some(reported_at),
            Receipt::Unread => notification.unread_at = Some(reported_at),
            Receipt::Dispatched => notification.dispatched_at = Some(reported_at),
            Receipt::NotProduced => notification.not_produced_at = Some(reported_at),
            Receipt::Returned => {
                notification.returned_at = Some(reported_at);
                notification.explain(Cause::Returned, "");
            }
        }
        let (round, channel, kind) = (notification.round, notification.channel, notification.kind);
        let current = self
            .care_invitation
            .as_ref()
            .is_some_and(|it| it.round == round);
        if receipt != Receipt::Returned || !is_invited || !current || kind == Kind::Withdrawal {
            return;
        }
        match channel {
            DeliveryChannel::Inbox => {
                if let Some(invitation) = &mut self.care_invitation {
                    invitation.inbox_failed = true;
                }
            }
            DeliveryChannel::Letter => {
                self.place_on_hold(Hold::Undeliverable);
            }
        }
    }

    /// Cancels the letter that UNREAD brought for a notification, or the one that takes its place, unless it has left or
    /// is leaving. Returns the ids of those that it cancelled. A hold stays.
    fn cancel_unread_letters(&mut self, id: Uuid) -> Vec<Uuid> {
        let Some(read) = self.notification(id).cloned() else {
            return Vec::new();
        };
        let invitation = self.care_invitation.iter_mut();
        let letters = invitation.flat_map(|invitation| &mut invitation.notifications);
        letters
            .filter(|it| it.round == read.round && it.kind == read.kind && it.follows_unread)
            .filter_map(|letter| letter.cancel(Cause::Read).then_some(letter.id))
            .collect()
    }

    /// Plans the same notification as a letter, due at once.
    fn plan_letter(&mut self, id: Uuid, receipt: Receipt, context: &Context) {
        let Some(kind) = self.notification(id).map(|notification| notification.kind) else {
            return;
        };
        let reason = match receipt {
            Receipt::Returned => ChannelReason::DigitalFailed,
            Receipt::Read | Receipt::Unread | Receipt::Dispatched | Receipt::NotProduced => {
                ChannelReason::Unread
            }
        };
        if let Some(letter) = self.plan(kind, context.now, context) {
            letter.channel = DeliveryChannel::Letter;
            letter.channel_reason = reason;
            letter.channel_fixed = true;
            letter.follows_unread = receipt == Receipt::Unread;
        }
    }
}
