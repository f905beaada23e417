//! AcknowledgeNotifications: the outcome of a leased notification.

use chrono::Duration;
use uuid::Uuid;

use super::authorize::authorizable;
use super::{Cause, DeliveryChannel, DispatchRefusal, Outcome, State, backoff};
use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::state;
use crate::domain::booking_request::state::CancelReason;
use crate::domain::calendar::Instant;
use crate::domain::care_invitation::Hold;
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::{Change, Context};

/// A consumer's acknowledgement of one notification.
#[derive(Clone, Debug, PartialEq)]
pub struct Acknowledgement {
    /// Id of the notification.
    pub id: Uuid,
    /// Token of the lease under which it was handled.
    pub token: Uuid,
    /// Outcome of the delivery.
    pub outcome: Outcome,
    /// With SENT, the time of the hand-over; `None`, or a time in the future, means now.
    pub sent_at: Option<Instant>,
    /// With RETRY, the delay before the next attempt; `None` means a minute that doubles up to an hour.
    pub retry_delay: Option<Duration>,
    /// Consumer's own words about a failure; may be empty.
    pub detail: String,
    /// With RETRY, true if the notification may have been handed over.
    pub may_have_been_sent: bool,
}

/// Applies a consumer's acknowledgement.
/// Returns `None` if the outcome is recorded already.
///
/// # Errors
///
/// [`DispatchRefusal::Lost`] when it comes too late, because the notification has been leased again, or is
/// unknown: it changes nothing (fencing). Another one when the notification is no longer leased and only SENT
/// would count.
pub fn acknowledge(
    record: &BookingRequest,
    acknowledgement: &Acknowledgement,
    context: &Context,
) -> Result<Option<Change>, DispatchRefusal> {
    let notification = record.notification(acknowledgement.id);
    let notification = notification.filter(|it| it.has_lease(acknowledgement.token));
    let notification = notification.ok_or(DispatchRefusal::Lost)?;
    let is_leased = notification.is_leased();
    Ok(match acknowledgement.outcome {
        // One that proved not to have been produced was recorded as sent before.
        Outcome::Sent if notification.not_produced_at.is_some() => None,
        Outcome::Sent if notification.state == State::Sent => None,
        Outcome::Sent => Some(record_sent(record, acknowledgement, context)),
        Outcome::Retry | Outcome::Unreachable | Outcome::Park if !is_leased => {
            let answer = notification.lease.as_ref().and_then(|lease| lease.answer);
            if answer != Some(acknowledgement.outcome) {
                return Err(refusal(record, acknowledgement, context));
            }
            None
        }
        Outcome::Retry | Outcome::Unreachable | Outcome::Park
            if record.has_ended(acknowledgement.id) =>
        {
            Some(cancel_unsent(
                record,
                acknowledgement,
                Cause::NotSent,
                context,
            ))
        }
        Outcome::Retry | Outcome::Unreachable | Outcome::Park
            if record.is_replaced(notification) =>
        {
            Some(cancel_unsent(
                record,
                acknowledgement,
                Cause::HandedOver,
                context,
            ))
        }
        Outcome::Retry if record.is_withheld(notification) => Some(park_and_hold(
            record,
            acknowledgement,
            Hold::ProtectedIdentity,
            context,
        )),
        Outcome::Retry => Some(retry(record, acknowledgement, context)),
        Outcome::Unreachable => Some(unreachable(record, acknowledgement, context)),
        Outcome::Park => Some(park_and_hold(
            record,
            acknowledgement,
            Hold::Parked,
            context,
        )),
    })
}

/// Returns the reason why a notification is no longer leased.
fn refusal(
    record: &BookingRequest,
    Acknowledgement { id, token, .. }: &Acknowledgement,
    context: &Context,
) -> DispatchRefusal {
    let refused = authorizable(record, *id, *token, context);
    refused.err().unwrap_or(DispatchRefusal::Changed)
}

/// Records that the notification was handed over, whatever has happened meanwhile. The due time of the
/// next notification of its round counts from the hand-over.
fn record_sent(
    record: &BookingRequest,
    acknowledgement: &Acknowledgement,
    context: &Context,
) -> Change {
    let notification = record.notification(acknowledgement.id);
    let had_sent_kind = notification.is_some_and(|it| record.has_sent_kind_of(it));
    let before = record;
    let mut record = before.clone();
    let is_invited = record.state == state::State::Invited;
    let round = record.care_invitation.as_ref().map(|it| it.round);
    let expires_at = record.expires_at();
    let Some(notification) = record.notification_mut(acknowledgement.id) else {
        unreachable!("the caller has looked the notification up");
    };
    // It was handed over by now, whatever a consumer's clock says.
    let sent_at = acknowledgement.sent_at.unwrap_or(context.now);
    let sent_at = sent_at
        .min(context.now)
        .max(notification.earliest_sent_at(context.now));
    let is_withdrawal = notification.kind == super::Kind::Withdrawal;
    let is_follow_up = notification.is_follow_up();
    let current = is_invited && round == Some(notification.round);
    let ended_meanwhile = !current || expires_at.is_some_and(|end| end <= sent_at);
    notification.state = State::Sent;
    notification.sent_at = Some(sent_at);
    notification.claimable_at = None;
    notification.clear_cause();
    notification.sent_after_change =
        !is_withdrawal && (ended_meanwhile || notification.changed_since_lease);
    if let Some(lease) = &mut notification.lease {
        lease.answer = Some(Outcome::Sent);
    }
    let (kind, current_round) = (notification.kind, round == Some(notification.round));
    let (mut cancelled, mut parked) = (Vec::new(), Vec::new());
    if current {
        cancelled = record.cancel_siblings(acknowledgement.id, kind);
        // A letter that follows a receipt does not move the reminders, unless what it followed was never posted.
        if !is_follow_up || !had_sent_kind {
            record.plan_after(kind, sent_at, context);
        }
    } else if is_withdrawal {
        cancelled = record.cancel_siblings(acknowledgement.id, kind);
    } else if current_round {
        parked = record.plan_deferred_withdrawal(context);
    }
    let entry = HistoryEntry {
        notification: Some(acknowledgement.id),
        ..record.history_entry(Event::NotificationSent, context)
    };
    let mut history = vec![entry];
    history.extend(record.cancelled_entries(&cancelled, context));
    history.extend(record.withheld_entries(&parked, context));
    record.finish_change(Some(before), history, context)
}

/// Records that the channel does not reach the patient. An inbox notification is followed by a letter,
/// unless staff fixed the channel or the patient has protected identity; any other is parked.
fn unreachable(
    record: &BookingRequest,
    acknowledgement: &Acknowledgement,
    context: &Context,
) -> Change {
    let Some(notification) = record.notification(acknowledgement.id) else {
        unreachable!("the caller has looked the notification up");
    };
    let staff_fixed = record
        .care_invitation
        .as_ref()
        .is_some_and(|invitation| invitation.staff_channel.is_some());
    let protected = record.form.patient.protection.is_some();
    let withheld = record.is_withheld(notification);
    if notification.channel == DeliveryChannel::Letter || staff_fixed || protected || withheld {
        return park_and_hold(record, acknowledgement, Hold::Undeliverable, context);
    }
    let kind = notification.kind;
    let before = record;
    let mut record = before.clone();
    record.record_unsent(acknowledgement, State::Cancelled, Cause::Unreachable);
    if let Some(invitation) = &mut record.care_invitation {
        invitation.inbox_failed = true;
    }
    record.plan(kind, context.now, context);
    let entry = record.explained_entry(Event::NotificationUnreachable, acknowledgement.id, context);
    record.finish_change(Some(before), vec![entry], context)
}

/// Parks the notification and holds the invitation until staff decide.
fn park_and_hold(
    record: &BookingRequest,
    acknowledgement: &Acknowledgement,
    hold: Hold,
    context: &Context,
) -> Change {
    let cause = match acknowledgement.outcome {
        Outcome::Unreachable => Cause::Unreachable,
        Outcome::Retry => Cause::ProtectedIdentity,
        Outcome::Sent | Outcome::Park => Cause::Parked,
    };
    let mut record = record.clone();
    record.record_unsent(acknowledgement, State::Parked, cause);
    let Acknowledgement { id, detail, .. } = acknowledgement;
    record.park(*id, hold, cause, detail, context)
}

/// Schedules another attempt; the count of expired leases starts again from zero.
fn retry(record: &BookingRequest, acknowledgement: &Acknowledgement, context: &Context) -> Change {
    let mut change = record.with(acknowledgement.id, |notification| {
        notification.possible_repeat |= acknowledgement.may_have_been_sent;
        notification.retry_count += 1;
        let delay = acknowledgement
            .retry_delay
            .unwrap_or_else(|| backoff(notification.retry_count + 1));
        notification.state = State::Scheduled;
        notification.expired_lease_count = 0;
        notification.retry_at = Some(context.now + delay);
        notification.explain(Cause::Retry, &acknowledgement.detail);
        if let Some(lease) = &mut notification.lease {
            lease.answer = Some(Outcome::Retry);
        }
    });
    change.record.recompute_derived(context);
    change
}

/// Cancels a notification that was leased when its invitation ended, or its kind was handed over by another
/// notification, and that was not handed over after all. Without any hand-over the withdrawal of the round
/// is not wanted either.
fn cancel_unsent(
    record: &BookingRequest,
    acknowledgement: &Acknowledgement,
    cause: Cause,
    context: &Context,
) -> Change {
    let before = record;
    let mut record = before.clone();
    record.record_unsent(acknowledgement, State::Cancelled, cause);
    let round = record.care_invitation.as_ref().map(|it| it.round);
    let notification = record.notification(acknowledgement.id);
    let is_of_round = notification.map(|it| it.round) == round;
    let entry = record.explained_entry(Event::NotificationCancelled, acknowledgement.id, context);
    let mut history = vec![entry];
    if is_of_round && !acknowledgement.may_have_been_sent {
        let needless = record.cancel_needless_withdrawal(Cause::NotSent);
        history.extend(record.cancelled_entries(&needless, context));
    }
    record.finish_change(Some(before), history, context)
}

impl BookingRequest {
    /// Records the outcome of a notification that was not handed over.
    fn record_unsent(&mut self, acknowledgement: &Acknowledgement, state: State, cause: Cause) {
        if let Some(notification) = self.notification_mut(acknowledgement.id) {
            notification.state = state;
            notification.explain(cause, &acknowledgement.detail);
            notification.possible_repeat |= acknowledgement.may_have_been_sent;
            if let Some(lease) = &mut notification.lease {
                lease.answer = Some(acknowledgement.outcome);
            }
        }
    }

    /// Cancels other notifications of the same kind and round that have not been handed over, because the
    /// kind now has; and of an earlier kind too, which waits because it proved not to have been produced.
    /// Returns their ids.
    fn cancel_siblings(&mut self, id: Uuid, kind: super::Kind) -> Vec<Uuid> {
        let Some(invitation) = &mut self.care_invitation else {
            return Vec::new();
        };
        let round = invitation.round;
        invitation
            .notifications
            .iter_mut()
            .filter(|other| other.id != id && other.round == round)
            .filter(|other| other.kind == kind || (other.kind < kind && !other.channel_fixed))
            .filter_map(|other| other.cancel(Cause::HandedOver).then_some(other.id))
            .collect()
    }

    /// Plans the withdrawal of an invitation that was cancelled before any notification of it was known to
    /// have been handed over. Returns its id if it was parked.
    fn plan_deferred_withdrawal(&mut self, context: &Context) -> Vec<Uuid> {
        let invitation = self.care_invitation.as_mut();
        match invitation.is_some_and(|it| std::mem::take(&mut it.withdraw_when_sent)) {
            true => self.plan_withdrawal(context),
            false => Vec::new(),
        }
    }

    /// Returns whether a notification is no longer to be sent: its round has ended or, for a withdrawal, the
    /// patient has died.
    fn has_ended(&self, id: Uuid) -> bool {
        let is_invited = self.state == state::State::Invited;
        let round = self.care_invitation.as_ref().map(|it| it.round);
        self.notification(id)
            .is_some_and(|notification| match notification.kind {
                super::Kind::Withdrawal => {
                    self.cancel_reason == Some(CancelReason::PatientDeceased)
                }
                super::Kind::Invitation | super::Kind::Reminder { .. } => {
                    !is_invited || round != Some(notification.round)
                }
            })
    }

    /// Plans the notification that follows a hand-over in the present round. If one of the following is
    /// planned already and has not left, it is postponed so that its due time counts from this hand-over.
    fn plan_after(&mut self, kind: super::Kind, sent_at: Instant, context: &Context) {
        let Some(invitation) = &mut self.care_invitation else {
            return;
        };
        let Some(next) = kind.next(invitation.schedule.reminder_count) else {
            return;
        };
        let due_at = invitation.schedule.reminder_due_at(sent_at);
        let round = invitation.round;
        let mut planned = false;
        for notification in &mut invitation.notifications {
            // What was cancelled because the notification before it proved not to have been produced is planned anew.
            let is_cancelled = notification.state == State::Cancelled;
            if notification.round != round || notification.kind < next || is_cancelled {
                continue;
            }
            planned |= notification.kind != super::Kind::Withdrawal;
            // Letters that follow a receipt are due at once, not at the dates of the round.
            if notification.channel_fixed || notification.due_at >= due_at {
                continue;
            }
            match notification.state {
                State::Scheduled | State::Leased | State::Parked => {
                    notification.revoke();
                    notification.due_at = due_at;
                }
                // It runs its course, and should it not be handed over, it waits.
                State::Dispatching => notification.due_at = due_at,
                State::Sent | State::Cancelled => {}
            }
        }
        if !planned {
            self.plan(next, due_at, context);
        }
    }
}
