//! ReportDelivery: what is learned about a message after it was sent.

use uuid::Uuid;

use super::{Channel, ChannelReason, Kind, Notification, State};
use crate::domain::booking_request::{BookingRequest, state};
use crate::domain::calendar::{Instant, add_days, at_clock, civil_date, local_clock};
use crate::domain::care_invitation::Hold;
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::{Change, Context, Refusal, stored_enum};

/// A letter follows an unread message only when the next one is more than this many days away.
const UNREAD_MARGIN_DAYS: u32 = 3;

stored_enum! {
    /// What was learned.
    pub enum Receipt {
        /// The patient has read it.
        Read = 1,
        /// The patient has left it unread for too long.
        Unread = 2,
        /// It came back.
        Returned = 3,
    }
}

/// Records a receipt for a message that was sent, and plans the letter that follows, if one does.
/// A receipt that was reported before changes nothing, and one that is to come was learned now.
///
/// # Errors
///
/// [`Refusal::NotFound`] for an unknown message, [`Refusal::NotSent`] for one that was not sent.
pub fn report_delivery(
    record: &BookingRequest,
    id: Uuid,
    receipt: Receipt,
    reported_at: Option<Instant>,
    context: &Context,
) -> Result<Change, Refusal> {
    let message = record.notification(id).ok_or(Refusal::NotFound)?;
    if message.state != State::Sent {
        return Err(Refusal::NotSent);
    }
    let known = match receipt {
        Receipt::Read => message.read_at,
        Receipt::Unread => message.unread_at,
        Receipt::Returned => message.returned_at,
    };
    if known.is_some() {
        return Ok(Change {
            record: record.clone(),
            history: Vec::new(),
        });
    }
    let follows = follows(record, message, receipt, context);
    let mut record = record.clone();
    let reported_at = reported_at.unwrap_or(context.now).min(context.now);
    record.note(id, receipt, reported_at);
    if follows {
        record.plan_letter(id, receipt, context);
    }
    let event = match receipt {
        Receipt::Read => Event::NotificationRead,
        Receipt::Unread => Event::NotificationUnread,
        Receipt::Returned => Event::NotificationReturned,
    };
    let entry = HistoryEntry {
        notification: Some(id),
        ..record.history_entry(event, context)
    };
    Ok(record.finish_change(vec![entry], context))
}

/// Returns the letter that follows a message of which a receipt was reported, if one was planned.
pub fn follow_up(record: &BookingRequest, id: Uuid) -> Option<&Notification> {
    let messages = &record.care_invitation.as_ref()?.notifications;
    let place = messages.iter().position(|message| message.id == id)?;
    let message = &messages[place];
    messages[place + 1..].iter().find(|other| {
        // Only letters that follow a receipt have a channel of their own here.
        other.round == message.round && other.kind == message.kind && other.channel_fixed
    })
}

/// Returns whether the same kind follows as a letter.
fn follows(
    record: &BookingRequest,
    message: &Notification,
    receipt: Receipt,
    context: &Context,
) -> bool {
    let wanted = match receipt {
        Receipt::Read => false,
        // Receipts may come out of order.
        Receipt::Unread => message.read_at.is_none() && next_is_far(record, context.now),
        Receipt::Returned => true,
    };
    let Some(invitation) = &record.care_invitation else {
        return false;
    };
    let free = invitation.staff_channel.is_none() && record.form.patient.protection.is_none();
    let invited = record.effective_state(context.now) == state::EffectiveState::Invited;
    wanted
        && free
        && invited
        && invitation.hold.is_none()
        && message.channel == Channel::Inbox
        && message.kind != Kind::Withdrawal
        && invitation.is_latest(message)
        && follow_up(record, message.id).is_none()
}

/// Returns whether the next message is more than three days away, or none is to come.
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
    /// Writes a receipt down. A message that came back also says something about its channel.
    fn note(&mut self, id: Uuid, receipt: Receipt, reported_at: Instant) {
        let live = self.state == state::State::Invited;
        let Some(message) = self.notification_mut(id) else {
            return;
        };
        // It cannot have been read or come back before it was sent.
        let reported_at = message
            .sent_at
            .map_or(reported_at, |sent_at| reported_at.max(sent_at));
        match receipt {
            Receipt::Read => message.read_at = Some(reported_at),
            Receipt::Unread => message.unread_at = Some(reported_at),
            Receipt::Returned => {
                message.returned_at = Some(reported_at);
                message.cause = Some("RETURNED".to_owned());
            }
        }
        let (round, channel, kind) = (message.round, message.channel, message.kind);
        let current = self
            .care_invitation
            .as_ref()
            .is_some_and(|it| it.round == round);
        if receipt != Receipt::Returned || !live || !current || kind == Kind::Withdrawal {
            return;
        }
        match channel {
            Channel::Inbox => {
                if let Some(invitation) = &mut self.care_invitation {
                    invitation.inbox_failed = true;
                }
            }
            Channel::Letter => {
                self.place_on_hold(Hold::Undeliverable);
            }
        }
    }

    /// Plans the same message as a letter, due at once.
    fn plan_letter(&mut self, id: Uuid, receipt: Receipt, context: &Context) {
        let Some(kind) = self.notification(id).map(|message| message.kind) else {
            return;
        };
        self.plan(kind, context.now, context.new_id);
        let reason = match receipt {
            Receipt::Returned => ChannelReason::DigitalFailed,
            Receipt::Read | Receipt::Unread => ChannelReason::Unread,
        };
        if let Some(letter) = self.notification_mut(context.new_id) {
            letter.channel = Channel::Letter;
            letter.channel_reason = reason;
            letter.channel_fixed = true;
        }
    }
}
