//! AcknowledgeNotifications: what became of a leased message.

use chrono::Duration;
use uuid::Uuid;

use super::{Outcome, State, backoff};
use crate::domain::booking_request::{self, BookingRequest};
use crate::domain::calendar::Instant;
use crate::domain::care_invitation::following_due_at;
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::{Change, Context};

/// A consumer's answer for one message.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The message.
    pub id: Uuid,
    /// The lease under which it was handled.
    pub token: Uuid,
    /// What became of it.
    pub outcome: Outcome,
    /// For SENT: when it was handed over; none means now.
    pub sent_at: Option<Instant>,
    /// For RETRY: how long to wait; none means a minute that doubles up to an hour.
    pub retry_delay: Option<Duration>,
    /// What went wrong; may be empty.
    pub cause: String,
}

/// The message is unknown or has been leased anew: the answer counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

/// Takes a consumer's answer. `context.fresh_id` is for the message that may follow. `None` when
/// the answer is recorded already, or the message is no longer out and only SENT would count.
///
/// # Errors
///
/// [`Lost`].
pub fn acknowledge(
    record: &BookingRequest,
    answer: &Answer,
    context: &Context,
) -> Result<Option<Change>, Lost> {
    let message = record.notification(answer.id).ok_or(Lost)?;
    if !message.has_lease(answer.token) {
        return Err(Lost);
    }
    Ok(match (answer.outcome, message.is_out()) {
        (Outcome::Sent, _) if message.state != State::Sent => Some(sent(record, answer, context)),
        (Outcome::Retry, true) => Some(retry(record, answer, context)),
        (Outcome::Sent, _)
        | (Outcome::Retry, false)
        | (Outcome::Unreachable | Outcome::Park, _) => None,
    })
}

/// The message has left the house: that is recorded whatever has happened meanwhile, and the next
/// message of its round counts from it.
fn sent(record: &BookingRequest, answer: &Answer, context: &Context) -> Change {
    let mut record = record.clone();
    let live = record.state == booking_request::State::Invited;
    let round = record.care_invitation.as_ref().map(|it| it.round);
    let expires_at = record.expires_at();
    let Some(message) = record.notification_mut(answer.id) else {
        unreachable!("the caller has looked the message up");
    };
    // A message cannot have left before anyone had it, whatever a consumer's clock says.
    let first_at = message.lease.as_ref().map_or(context.now, |it| it.first_at);
    let sent_at = answer.sent_at.unwrap_or(context.now).max(first_at);
    let current = live && round == Some(message.round);
    message.state = State::Sent;
    message.sent_at = Some(sent_at);
    message.claimable_at = None;
    message.cause = None;
    message.superseded = !current || message.stale || expires_at.is_some_and(|end| end <= sent_at);
    if let Some(lease) = &mut message.lease {
        lease.answer = Some(Outcome::Sent);
    }
    let kind = message.kind;
    if current {
        record.plan_after(kind, sent_at, context);
    }
    let entry = HistoryEntry {
        notification: Some(answer.id),
        ..record.entry(Event::NotificationSent, context)
    };
    record.conclude(vec![entry], context)
}

/// The message waits and is tried again; the count of lapsed leases starts anew. It ends instead
/// when the invitation has ended since it was given leave.
fn retry(record: &BookingRequest, answer: &Answer, context: &Context) -> Change {
    if record.has_ended(answer.id) {
        return ended(record, answer, context);
    }
    let mut change = record.with(answer.id, |message| {
        message.retry_count += 1;
        let delay = answer
            .retry_delay
            .unwrap_or_else(|| backoff(message.retry_count + 1));
        message.state = State::Scheduled;
        message.lapse_count = 0;
        message.retry_at = Some(context.now + delay);
        message.cause = (!answer.cause.is_empty()).then(|| answer.cause.clone());
        if let Some(lease) = &mut message.lease {
            lease.answer = Some(Outcome::Retry);
        }
    });
    change.record.refresh(&context.rules);
    change
}

/// A message that was on its way when the invitation ended has not left after all.
fn ended(record: &BookingRequest, answer: &Answer, context: &Context) -> Change {
    let mut record = record.clone();
    if let Some(message) = record.notification_mut(answer.id) {
        message.state = State::Cancelled;
        message.cause = Some("NOT_SENT".to_owned());
        if let Some(lease) = &mut message.lease {
            lease.answer = Some(answer.outcome);
        }
    }
    let entry = HistoryEntry {
        notification: Some(answer.id),
        comment: answer.cause.clone(),
        ..record.entry(Event::NotificationCancelled, context)
    };
    record.conclude(vec![entry], context)
}

impl BookingRequest {
    /// Whether the invitation that a message belongs to has ended or given way to a new round.
    fn has_ended(&self, id: Uuid) -> bool {
        let live = self.state == booking_request::State::Invited;
        let round = self.care_invitation.as_ref().map(|it| it.round);
        self.notification(id)
            .is_some_and(|message| match message.kind {
                super::Kind::Withdrawal => false,
                super::Kind::Invitation
                | super::Kind::FirstReminder
                | super::Kind::SecondReminder => !live || round != Some(message.round),
            })
    }

    /// Plans the message that follows a hand-over in the present round, unless one is planned.
    fn plan_after(&mut self, kind: super::Kind, sent_at: Instant, context: &Context) {
        let planned = self.care_invitation.as_ref().is_some_and(|invitation| {
            invitation.notifications.iter().any(|message| {
                message.round == invitation.round
                    && message.kind > kind
                    && message.kind != super::Kind::Withdrawal
            })
        });
        if let (Some(next), false) = (kind.next(), planned) {
            let due_at = following_due_at(sent_at, &context.rules);
            self.plan(next, due_at, context.fresh_id);
        }
    }
}
