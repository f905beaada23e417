//! AcknowledgeNotifications: what became of a leased message.

use chrono::Duration;
use uuid::Uuid;

use super::{Channel, Outcome, State, backoff};
use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::state;
use crate::domain::booking_request::state::CancelReason;
use crate::domain::calendar::Instant;
use crate::domain::care_invitation::{Hold, following_due_at};
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::withdrawal::WITHHELD;
use crate::domain::{Change, Context};

/// The cause of a message that reached nobody.
const UNREACHABLE: &str = "UNREACHABLE";
/// The cause of a message that a consumer set aside without saying why.
const PARKED: &str = "PARKED";
/// The cause of a message that had not left when its invitation ended.
const NOT_SENT: &str = "NOT_SENT";
/// The cause of a message whose kind was handed over otherwise.
const HANDED_OVER: &str = "HANDED_OVER";

/// A consumer's answer for one message.
#[derive(Clone, Debug, PartialEq)]
pub struct Acknowledgement {
    /// The message.
    pub id: Uuid,
    /// The lease under which it was handled.
    pub token: Uuid,
    /// What became of it.
    pub outcome: Outcome,
    /// For SENT: when it was handed over; none, and what is to come, mean now.
    pub sent_at: Option<Instant>,
    /// For RETRY: how long to wait; none means a minute that doubles up to an hour.
    pub retry_delay: Option<Duration>,
    /// What went wrong; may be empty.
    pub cause: String,
}

/// The message is unknown or has been leased anew: the answer counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleToken;

/// Takes a consumer's answer. `context.new_id` is for the message that may follow. `None` when
/// the answer is recorded already, or the message is no longer out and only SENT would count.
///
/// # Errors
///
/// [`StaleToken`].
pub fn acknowledge(
    record: &BookingRequest,
    answer: &Acknowledgement,
    context: &Context,
) -> Result<Option<Change>, StaleToken> {
    let message = record.notification(answer.id).ok_or(StaleToken)?;
    if !message.has_lease(answer.token) {
        return Err(StaleToken);
    }
    Ok(match (answer.outcome, message.is_leased()) {
        (Outcome::Sent, _) if message.state != State::Sent => Some(sent(record, answer, context)),
        (Outcome::Sent, _) | (Outcome::Retry | Outcome::Unreachable | Outcome::Park, false) => None,
        (Outcome::Retry | Outcome::Unreachable | Outcome::Park, true)
            if record.has_ended(answer.id) =>
        {
            Some(ended(record, answer, context))
        }
        (Outcome::Retry, true) if record.is_withheld(message) => Some(park_and_hold(
            record,
            answer,
            Hold::ProtectedIdentity,
            context,
        )),
        (Outcome::Retry, true) => Some(retry(record, answer, context)),
        (Outcome::Unreachable, true) => Some(unreachable(record, answer, context)),
        (Outcome::Park, true) => Some(park_and_hold(record, answer, Hold::Parked, context)),
    })
}

/// Returns the message has left the house: that is recorded whatever has happened meanwhile, and the next
/// message of its round counts from it.
fn sent(record: &BookingRequest, answer: &Acknowledgement, context: &Context) -> Change {
    let mut record = record.clone();
    let live = record.state == state::State::Invited;
    let round = record.care_invitation.as_ref().map(|it| it.round);
    let expires_at = record.expires_at();
    let Some(message) = record.notification_mut(answer.id) else {
        unreachable!("the caller has looked the message up");
    };
    // It has left by now and not before anyone had it, whatever a consumer's clock says.
    let first_at = message.lease.as_ref().map_or(context.now, |it| it.first_at);
    let sent_at = answer.sent_at.unwrap_or(context.now);
    let sent_at = sent_at.min(context.now).max(first_at);
    let is_withdrawal = message.kind == super::Kind::Withdrawal;
    let is_follow_up = message.channel_fixed && !is_withdrawal;
    let current = live && round == Some(message.round);
    let ended_meanwhile = !current || expires_at.is_some_and(|end| end <= sent_at);
    message.state = State::Sent;
    message.sent_at = Some(sent_at);
    message.claimable_at = None;
    message.cause = None;
    message.superseded = !is_withdrawal && (ended_meanwhile || message.changed_since_lease);
    if let Some(lease) = &mut message.lease {
        lease.answer = Some(Outcome::Sent);
    }
    let (kind, current_round) = (message.kind, round == Some(message.round));
    let (mut ended, mut parked) = (Vec::new(), Vec::new());
    if current {
        ended = record.cancel_siblings(answer.id, kind);
        // Beside a letter that follows a receipt, reminders keep their dates.
        if !is_follow_up {
            record.plan_after(kind, sent_at, context);
        }
    } else if is_withdrawal {
        ended = record.cancel_siblings(answer.id, kind);
    } else if current_round {
        parked = record.plan_deferred_withdrawal(context);
    }
    let entry = HistoryEntry {
        notification: Some(answer.id),
        ..record.history_entry(Event::NotificationSent, context)
    };
    let mut history = vec![entry];
    history.extend(record.cancelled_entries(&ended, context));
    history.extend(record.withheld_entries(&parked, context));
    record.finish_change(history, context)
}

/// Returns the channel does not reach the patient. An inbox message is followed by a letter; what can
/// follow no further is set aside.
fn unreachable(record: &BookingRequest, answer: &Acknowledgement, context: &Context) -> Change {
    let Some(message) = record.notification(answer.id) else {
        unreachable!("the caller has looked the message up");
    };
    let staff_fixed = record
        .care_invitation
        .as_ref()
        .is_some_and(|invitation| invitation.staff_channel.is_some());
    let protected = record.form.patient.protection.is_some();
    let withheld = record.is_withheld(message);
    if message.channel == Channel::Letter || staff_fixed || protected || withheld {
        return park_and_hold(record, answer, Hold::Undeliverable, context);
    }
    let kind = message.kind;
    let mut record = record.clone();
    record.answered(answer, State::Cancelled, UNREACHABLE);
    if let Some(invitation) = &mut record.care_invitation {
        invitation.inbox_failed = true;
    }
    record.plan(kind, context.now, context.new_id);
    let entry = HistoryEntry {
        notification: Some(answer.id),
        comment: answer.cause.clone(),
        ..record.history_entry(Event::NotificationUnreachable, context)
    };
    record.finish_change(vec![entry], context)
}

/// Returns the message is parked and the invitation held until staff decide.
fn park_and_hold(
    record: &BookingRequest,
    answer: &Acknowledgement,
    hold: Hold,
    context: &Context,
) -> Change {
    let cause = match answer.outcome {
        _ if !answer.cause.is_empty() => &answer.cause,
        Outcome::Unreachable => UNREACHABLE,
        Outcome::Retry => WITHHELD,
        Outcome::Sent | Outcome::Park => PARKED,
    };
    let mut record = record.clone();
    record.answered(answer, State::Parked, cause);
    record.park(answer.id, hold, cause, context)
}

/// Returns the message waits and is tried again; the count of lapsed leases starts anew.
fn retry(record: &BookingRequest, answer: &Acknowledgement, context: &Context) -> Change {
    let mut change = record.with(answer.id, |message| {
        message.retry_count += 1;
        let delay = answer
            .retry_delay
            .unwrap_or_else(|| backoff(message.retry_count + 1));
        message.state = State::Scheduled;
        message.expired_lease_count = 0;
        message.retry_at = Some(context.now + delay);
        message.cause = (!answer.cause.is_empty()).then(|| answer.cause.clone());
        if let Some(lease) = &mut message.lease {
            lease.answer = Some(Outcome::Retry);
        }
    });
    change.record.recompute_derived(&context.policy);
    change
}

/// Returns a message that was on its way when the invitation ended has not left after all.
fn ended(record: &BookingRequest, answer: &Acknowledgement, context: &Context) -> Change {
    let mut record = record.clone();
    record.answered(answer, State::Cancelled, NOT_SENT);
    let entry = HistoryEntry {
        notification: Some(answer.id),
        comment: answer.cause.clone(),
        ..record.history_entry(Event::NotificationCancelled, context)
    };
    record.finish_change(vec![entry], context)
}

impl BookingRequest {
    /// Writes down what a consumer answered, where the message did not leave.
    fn answered(&mut self, answer: &Acknowledgement, state: State, cause: &str) {
        if let Some(message) = self.notification_mut(answer.id) {
            message.state = state;
            message.cause = Some(cause.to_owned());
            if let Some(lease) = &mut message.lease {
                lease.answer = Some(answer.outcome);
            }
        }
    }

    /// Ends other messages of the same kind and round that have not left: the kind has been handed
    /// over. Says which.
    fn cancel_siblings(&mut self, id: Uuid, kind: super::Kind) -> Vec<Uuid> {
        let Some(invitation) = &mut self.care_invitation else {
            return Vec::new();
        };
        let round = invitation.round;
        invitation
            .notifications
            .iter_mut()
            .filter(|other| other.id != id && other.round == round && other.kind == kind)
            .filter_map(|other| other.cancel(HANDED_OVER).then_some(other.id))
            .collect()
    }

    /// Plans the withdrawal of an invitation that was cancelled before any message of it was known
    /// to have left. Returns it if it was parked.
    fn plan_deferred_withdrawal(&mut self, context: &Context) -> Vec<Uuid> {
        let invitation = self.care_invitation.as_mut();
        match invitation.is_some_and(|it| std::mem::take(&mut it.withdraw_when_sent)) {
            true => self.plan_withdrawal(context),
            false => Vec::new(),
        }
    }

    /// Returns whether the invitation that a message belongs to has ended or given way to a new round.
    fn has_ended(&self, id: Uuid) -> bool {
        let live = self.state == state::State::Invited;
        let round = self.care_invitation.as_ref().map(|it| it.round);
        self.notification(id)
            .is_some_and(|message| match message.kind {
                super::Kind::Withdrawal => {
                    self.cancel_reason == Some(CancelReason::PatientDeceased)
                }
                super::Kind::Invitation
                | super::Kind::FirstReminder
                | super::Kind::SecondReminder => !live || round != Some(message.round),
            })
    }

    /// Sees to the message that follows a hand-over in the present round: plans it, or, where the next
    /// or the one after it waits already, moves that so that it counts from this hand-over too.
    fn plan_after(&mut self, kind: super::Kind, sent_at: Instant, context: &Context) {
        let (Some(next), Some(invitation)) = (kind.next(), &mut self.care_invitation) else {
            return;
        };
        let due_at = following_due_at(sent_at, &context.policy);
        let round = invitation.round;
        let mut planned = false;
        for message in &mut invitation.notifications {
            if message.round != round || message.kind < next {
                continue;
            }
            planned |= message.kind != super::Kind::Withdrawal;
            let waits = match message.state {
                State::Scheduled | State::Leased | State::Parked => true,
                State::Dispatching | State::Sent | State::Cancelled => false,
            };
            // Letters that follow a receipt keep to no dates.
            if waits && !message.channel_fixed && message.due_at < due_at {
                message.revoke();
                message.due_at = due_at;
            }
        }
        if !planned {
            self.plan(next, due_at, context.new_id);
        }
    }
}
