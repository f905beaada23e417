//! ReportDelivery: receipts for a notification after it was sent.

use uuid::Uuid;

use super::{ChannelReason, DeliveryChannel, Kind, Notification, State};
use crate::domain::booking_request::{BookingRequest, state};
use crate::domain::calendar::{Instant, add_days, at_clock, civil_date, local_clock};
use crate::domain::care_invitation::Hold;
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::{Change, Context, Refusal, stored_enum};

/// Cause of a letter that is not sent, because the notification that it follows was read after all.
const READ: &str = "READ";

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
    }
}

/// Records a receipt for a notification that was sent, and plans the letter that follows, if one does. For
/// one that was read after all, cancels the letter that UNREAD brought, if that has not left. A receipt that
/// was reported before changes nothing; a time in the future is taken as now.
///
/// # Errors
///
/// [`Refusal::NotFound`] for an unknown notification, [`Refusal::NotSent`] for one that was not sent, or not by
/// this service.
pub fn report_delivery(
    record: &BookingRequest,
    id: Uuid,
    receipt: Receipt,
    reported_at: Option<Instant>,
    context: &Context,
) -> Result<Change, Refusal> {
    let notification = record.notification(id).ok_or(Refusal::NotFound)?;
    if notification.state != State::Sent || notification.is_imported() {
        return Err(Refusal::NotSent);
    }
    let reported_before = match receipt {
        Receipt::Read => notification.read_at,
        Receipt::Unread => notification.unread_at,
        Receipt::Returned => notification.returned_at,
    };
    if reported_before.is_some() {
        return Ok(Change {
            record: record.clone(),
            history: Vec::new(),
        });
    }
    let follows = follows(record, notification, receipt, context);
    let mut record = record.clone();
    let reported_at = reported_at.unwrap_or(context.now).min(context.now);
    record.record_receipt(id, receipt, reported_at);
    if follows {
        record.plan_letter(id, receipt, context);
    }
    let cancelled = match receipt {
        Receipt::Read => record.cancel_unread_letter(id),
        Receipt::Unread | Receipt::Returned => None,
    };
    let event = match receipt {
        Receipt::Read => Event::NotificationRead,
        Receipt::Unread => Event::NotificationUnread,
        Receipt::Returned => Event::NotificationReturned,
    };
    let entry = HistoryEntry {
        notification: Some(id),
        ..record.history_entry(event, context)
    };
    let mut history = vec![entry];
    history.extend(record.cancelled_entries(cancelled.as_slice(), context));
    Ok(record.finish_change(history, context))
}

/// Returns the letter that follows a notification after a receipt, if one was planned.
pub fn follow_up(record: &BookingRequest, id: Uuid) -> Option<&Notification> {
    let notifications = &record.care_invitation.as_ref()?.notifications;
    let index = notifications
        .iter()
        .position(|notification| notification.id == id)?;
    let notification = &notifications[index];
    notifications[index + 1..].iter().find(|other| {
        // Among these kinds only letters that follow a receipt have a channel of their own.
        other.round == notification.round && other.kind == notification.kind && other.channel_fixed
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
        Receipt::Read => false,
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
        && follow_up(record, notification.id).is_none()
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
            Receipt::Returned => {
                notification.returned_at = Some(reported_at);
                notification.cause = Some("RETURNED".to_owned());
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

    /// Cancels the letter that UNREAD brought for a notification, unless it has left or is leaving. Returns its
    /// id if it did. A hold stays.
    fn cancel_unread_letter(&mut self, id: Uuid) -> Option<Uuid> {
        let letter = follow_up(self, id).filter(|letter| letter.follows_unread)?;
        let letter = letter.id;
        self.notification_mut(letter)?
            .cancel(READ)
            .then_some(letter)
    }

    /// Plans the same notification as a letter, due at once.
    fn plan_letter(&mut self, id: Uuid, receipt: Receipt, context: &Context) {
        let Some(kind) = self.notification(id).map(|notification| notification.kind) else {
            return;
        };
        let reason = match receipt {
            Receipt::Returned => ChannelReason::DigitalFailed,
            Receipt::Read | Receipt::Unread => ChannelReason::Unread,
        };
        if let Some(letter) = self.plan(kind, context.now, context) {
            letter.channel = DeliveryChannel::Letter;
            letter.channel_reason = reason;
            letter.channel_fixed = true;
            letter.follows_unread = receipt == Receipt::Unread;
        }
    }
}
