//! Delivery of one request's notifications: lease, authorize, acknowledge, report.

use care_invitation::contract::v1;
use care_invitation::contract::v1::HistoryEvent;
use care_invitation::contract::v1::NotificationCause;
use care_invitation::contract::v1::acknowledgement::Outcome;
use care_invitation::contract::v1::booking_request::State as RequestState;
use care_invitation::contract::v1::delivery_receipt::Receipt;
use care_invitation::contract::v1::notification::State;
use care_invitation::contract::v1::{ChannelReason, DeliveryChannel, DispatchRefusal, HoldReason};
use chrono::TimeDelta;

use super::calendar::{Instant, from_timestamp, instant, local_date, local_time, plus};
use super::message::{Invitation, Message, back_off};
use super::request::Request;
use super::rules::Refusal;

/// Maximum characters that are kept of a consumer's cause.
const CAUSE_MAX: usize = 500;

impl Request {
    pub fn message(&self, index: usize) -> &Message {
        &self.invitation.as_ref().expect("it has messages").messages[index]
    }

    pub fn message_mut(&mut self, index: usize) -> &mut Message {
        &mut self.invitation.as_mut().expect("it has messages").messages[index]
    }

    pub fn messages(&self) -> &[Message] {
        self.invitation.as_ref().map_or(&[], |it| &it.messages)
    }

    fn in_present_round(&self, message: &Message) -> bool {
        self.invitation.as_ref().map(|it| it.round) == Some(message.round)
    }

    /// Returns whether the notification is still to be sent: of a live invitation, or as a withdrawal.
    pub fn wants(&self, message: &Message, now: Instant) -> bool {
        if message.is_withdrawal() {
            return self.state == RequestState::Cancelled && !self.has_died();
        }
        self.is_live(now) && self.in_present_round(message)
    }

    /// Returns whether its invitation has ended or been replaced by a new round; the end of the period does
    /// not count.
    fn has_ended(&self, message: &Message) -> bool {
        if message.is_withdrawal() {
            return self.has_died();
        }
        self.state != RequestState::Invited || !self.in_present_round(message)
    }

    /// Returns whether it is a withdrawal to a patient with protection that staff have not released.
    fn is_withheld(&self, message: &Message) -> bool {
        message.is_withdrawal() && self.hold() == HoldReason::ProtectedIdentity
    }

    /// Returns whether its kind was handed over by another notification of the round, which it does not follow.
    pub fn is_replaced(&self, message: &Message) -> bool {
        let same = |it: &&Message| it.round == message.round && it.step == message.step;
        let mut twins = self.messages().iter().filter(same);
        !message.follow_up && twins.any(|it| it.name != message.name && it.state == State::Sent)
    }

    /// Returns whether a claim parks or cancels it instead of leasing it.
    pub fn leaves_at_claim(&self, message: &Message) -> bool {
        self.is_withheld(message) || self.is_replaced(message) || message.is_worn_out()
    }

    /// Returns whether a consumer may lease it now.
    pub fn may_lease(&self, message: &Message, now: Instant) -> bool {
        let held = self.is_held() && !message.is_withdrawal();
        self.wants(message, now)
            && !held
            && !self.in_force().is_paused(now)
            && message.is_claimable(now)
    }

    /// Parks a notification whose leases expired too often, or that staff must release first. Cancels one
    /// whose kind was handed over while it was on its way.
    pub fn leave_at_claim(&mut self, index: usize, now: Instant) {
        if self.is_withheld(self.message(index)) {
            self.message_mut(index).lapse();
            let reason = HoldReason::ProtectedIdentity;
            return self.set_aside(
                index,
                reason,
                (NotificationCause::ProtectedIdentity, ""),
                now,
            );
        }
        self.message_mut(index).lapse();
        if self.is_replaced(self.message(index)) {
            return self.cancel_replaced(index, "", now);
        }
        self.message_mut(index).lapses += 1;
        self.set_aside(
            index,
            HoldReason::Parked,
            (NotificationCause::LeasesRanOut, ""),
            now,
        );
    }

    /// Takes back what is leased, because the care unit is paused; callers need not see it.
    pub fn take_back_leased(&mut self) {
        let messages = self.invitation.iter_mut().flat_map(|it| &mut it.messages);
        for message in messages.filter(|it| it.state == State::Leased) {
            message.take_back();
            self.touched = true;
        }
    }

    pub fn lease(
        &mut self,
        index: usize,
        token: &str,
        promised: bool,
        duration: TimeDelta,
        now: Instant,
    ) {
        let (channel, reason) = self.channel_for(self.message(index), now);
        let message = self.message_mut(index);
        if message.is_out() {
            message.lapses += 1;
            message.lapse();
        }
        message.channel = channel;
        message.channel_reason = reason;
        message.attempts += 1;
        message.promised = promised;
        message.first_leased_at.get_or_insert(now);
        message.outdated = false;
        message.tokens.push(token.into());
        message.answered = None;
        message.lease_until(State::Leased, now + duration);
        let opens = !message.is_withdrawal();
        let invitation = self.invitation.as_mut().expect("it has messages");
        if opens {
            invitation.bookable_since.get_or_insert(now);
        }
    }

    /// Authorizes its hand-over; returns the time at which the authorization expires, or the reason why it is refused.
    pub fn authorize(
        &mut self,
        index: usize,
        token: &str,
        now: Instant,
    ) -> Result<Instant, DispatchRefusal> {
        if let Some(refusal) = self.refusal(index, token, now) {
            return Err(refusal);
        }
        let ends_at = self.message(index).lease_ends_at().expect("leased");
        let ends_at = ends_at.max(now + TimeDelta::seconds(60));
        self.message_mut(index)
            .lease_until(State::Dispatching, ends_at);
        Ok(ends_at)
    }

    /// Returns the first reason for which a leased notification is no longer wanted, in the order of the contract.
    fn refusal(&self, index: usize, token: &str, now: Instant) -> Option<DispatchRefusal> {
        let message = self.message(index);
        let closed = match self.state {
            RequestState::Booked => Some(DispatchRefusal::Booked),
            RequestState::Declined => Some(DispatchRefusal::Declined),
            RequestState::Cancelled if !self.wants(message, now) => {
                Some(DispatchRefusal::Cancelled)
            }
            RequestState::Requested => Some(DispatchRefusal::Revoked),
            _ => None,
        };
        let held = self.is_withheld(message) || (self.is_held() && !message.is_withdrawal());
        let old_round = !message.is_withdrawal() && !self.in_present_round(message);
        // A pause takes a lease back without a change of the request.
        let paused = self.in_force().is_paused(now);
        let waits = message.state == State::Scheduled && message.answered.is_none();
        let as_leased = message.is_out() || (paused && waits);
        if message.tokens.last().is_none_or(|it| it != token) {
            Some(DispatchRefusal::Lost)
        } else if closed.is_some() {
            closed
        } else if held || message.state == State::Parked {
            Some(DispatchRefusal::Held)
        } else if !as_leased || message.outdated || old_round || self.is_replaced(message) {
            Some(DispatchRefusal::Changed)
        } else if !self.wants(message, now) {
            Some(DispatchRefusal::Expired)
        } else {
            paused.then_some(DispatchRefusal::Paused)
        }
    }

    /// Applies an acknowledgement; returns the reason if nothing is recorded.
    pub fn acknowledge(
        &mut self,
        index: usize,
        answer: &v1::Acknowledgement,
        now: Instant,
    ) -> Option<DispatchRefusal> {
        let token = &answer.lease.as_ref().expect("given").lease_token;
        let outcome = answer.outcome();
        let message = self.message(index);
        if message.tokens.last() != Some(token) {
            return Some(DispatchRefusal::Lost);
        }
        if outcome != Outcome::Sent && !message.is_out() {
            let refusal = self.refusal(index, token, now);
            return refusal.filter(|_| self.message(index).answered != Some(outcome));
        }
        self.record(index, answer, now);
        self.message_mut(index).answered = Some(outcome);
        None
    }

    /// Records an outcome of the newest lease.
    fn record(&mut self, index: usize, answer: &v1::Acknowledgement, now: Instant) {
        let outcome = answer.outcome();
        let may_have_left = outcome == Outcome::Retry && answer.may_have_been_sent;
        self.message_mut(index).possible_repeat |= may_have_left;
        let message = self.message(index);
        if outcome == Outcome::Sent {
            if message.state != State::Sent && message.not_produced_at.is_none() {
                let said = answer.send_time.as_ref().map_or(now, from_timestamp);
                let first_leased_at = message.first_leased_at.expect("leased");
                let earliest = match message.possible_repeat {
                    true => first_leased_at.min(message.due_at),
                    false => first_leased_at,
                };
                let sent_at = said.min(now).max(earliest);
                self.record_sent(index, sent_at, now);
            }
            return;
        }
        let words = fitted(&answer.cause);
        if self.has_ended(message) {
            self.message_mut(index)
                .settle(State::Cancelled, NotificationCause::NotSent, &words);
            self.note_message(HistoryEvent::NotificationCancelled, Some(index), now);
            if !may_have_left && self.in_present_round(self.message(index)) {
                self.withdraw_nothing(now);
            }
            return;
        }
        if self.is_replaced(message) {
            return self.cancel_replaced(index, &words, now);
        }
        match outcome {
            Outcome::Retry if self.is_withheld(message) => {
                let cause = NotificationCause::ProtectedIdentity;
                self.set_aside(index, HoldReason::ProtectedIdentity, (cause, &words), now);
            }
            Outcome::Retry => self.retry(index, answer, now),
            Outcome::Unreachable => self.unreachable(index, &words, now),
            Outcome::Park => {
                let cause = NotificationCause::Parked;
                self.set_aside(index, HoldReason::Parked, (cause, &words), now);
            }
            Outcome::Sent | Outcome::Unspecified => unreachable!("seen above"),
        }
    }

    /// Cancels the withdrawal that waits if the patient proves to have had nothing.
    fn withdraw_nothing(&mut self, now: Instant) {
        let round = self.invitation.as_ref().expect("it has messages").round;
        let had = |it: &Message| {
            let left = matches!(it.state, State::Sent | State::Dispatching);
            it.round == round && !it.is_withdrawal() && left
        };
        if self.state != RequestState::Cancelled || self.messages().iter().any(had) {
            return;
        }
        for other in 0..self.messages().len() {
            let withdrawal = self.message(other);
            if withdrawal.round == round
                && withdrawal.is_withdrawal()
                && self.message_mut(other).end(NotificationCause::NotSent)
            {
                let invitation = self.invitation.as_mut().expect("it has messages");
                invitation.hold = HoldReason::Unspecified;
                self.note_message(HistoryEvent::NotificationCancelled, Some(other), now);
            }
        }
    }

    fn cancel_replaced(&mut self, index: usize, words: &str, now: Instant) {
        self.message_mut(index)
            .settle(State::Cancelled, NotificationCause::HandedOver, words);
        self.note_message(HistoryEvent::NotificationCancelled, Some(index), now);
    }

    fn retry(&mut self, index: usize, answer: &v1::Acknowledgement, now: Instant) {
        let message = self.message_mut(index);
        message.retries += 1;
        message.lapses = 0;
        let said = answer.retry_delay.map(|it| TimeDelta::seconds(it.seconds));
        message.settle(
            State::Scheduled,
            NotificationCause::Retry,
            &fitted(&answer.cause),
        );
        message.claimable_at = now + said.unwrap_or_else(|| back_off(message.retries));
        self.touched = true;
    }

    /// Returns whether staff have fixed the channel for the round, or protection leaves the choice to them.
    fn is_channel_fixed(&self) -> bool {
        let invitation = self.invitation.as_ref();
        invitation.is_some_and(|it| it.fixed.is_some()) || self.is_protected()
    }

    /// Replaces an inbox notification by a letter; parks one that cannot be replaced.
    fn unreachable(&mut self, index: usize, words: &str, now: Instant) {
        let message = self.message(index).clone();
        let fixed = self.is_channel_fixed() || self.is_withheld(&message);
        if message.channel == DeliveryChannel::Letter || fixed {
            let cause = NotificationCause::Unreachable;
            self.set_aside(index, HoldReason::Undeliverable, (cause, words), now);
            return;
        }
        let letter = Message::planned(message.round, message.step, now);
        self.message_mut(index)
            .settle(State::Cancelled, NotificationCause::Unreachable, words);
        let invitation = self.invitation.as_mut().expect("it has messages");
        invitation.inbox_failed = true;
        invitation.messages.push(letter);
        self.note_message(HistoryEvent::NotificationUnreachable, Some(index), now);
    }

    fn set_aside(
        &mut self,
        index: usize,
        hold: HoldReason,
        (cause, words): (NotificationCause, &str),
        now: Instant,
    ) {
        self.message_mut(index).settle(State::Parked, cause, words);
        self.invitation
            .as_mut()
            .expect("it has messages")
            .hold(hold);
        self.note_message(HistoryEvent::NotificationParked, Some(index), now);
    }

    /// Records that it was handed over, whatever the model believed.
    fn record_sent(&mut self, index: usize, sent_at: Instant, now: Instant) {
        let wanted = self.wants(self.message(index), sent_at);
        let message = self.message_mut(index);
        message.sent_after_change = !message.is_withdrawal() && (!wanted || message.outdated);
        message.settle(State::Sent, NotificationCause::Unspecified, "");
        message.sent_at = Some(sent_at);
        let (withdrawal, round) = (message.is_withdrawal(), message.round);
        self.note_message(HistoryEvent::NotificationSent, Some(index), now);
        self.cancel_twins(index, now);
        let present = self.invitation.as_ref().is_some_and(|it| it.round == round);
        if present && !withdrawal {
            self.plan_next();
            self.move_later(index);
            self.withdraw(now);
        }
    }

    /// Postpones a later notification that is planned already and has not been handed over, so that its due
    /// time counts from this hand-over.
    fn move_later(&mut self, index: usize) {
        let sent = self.message(index).clone();
        let steps = self.invitation.as_ref().map(Invitation::steps);
        let steps = steps.into_iter().flatten();
        let later: Vec<_> = steps
            .skip_while(|step| *step != sent.step)
            .skip(1)
            .collect();
        let (false, Some(sent_at)) = (sent.follow_up, sent.sent_at) else {
            return;
        };
        if self.state != RequestState::Invited {
            return;
        }
        let invitation = self.invitation.as_ref().expect("it has messages");
        let due_at = invitation.schedule.reminder_due_at(sent_at);
        for other in 0..self.messages().len() {
            let message = self.message_mut(other);
            let waits = message.is_waiting() || message.is_out();
            let planned = message.round == sent.round && later.contains(&message.step) && waits;
            if planned && !message.follow_up && message.due_at < due_at {
                if message.state != State::Dispatching {
                    message.take_back();
                }
                message.due_at = due_at;
                message.claimable_at = message.claimable_at.max(due_at);
            }
        }
    }

    /// Cancels the letter that was to replace a notification which was handed over after all.
    fn cancel_twins(&mut self, index: usize, now: Instant) {
        let sent = self.message(index).clone();
        for other in 0..self.messages().len() {
            let twin = self.message(other);
            // One of an earlier step waits because it was never posted, and comes too late.
            let earlier = !sent.is_withdrawal() && twin.step < sent.step;
            let kind = twin.step == sent.step || earlier;
            let same = twin.round == sent.round && kind && !twin.follow_up;
            if other != index && same && self.message_mut(other).end(NotificationCause::HandedOver)
            {
                self.note_message(HistoryEvent::NotificationCancelled, Some(other), now);
            }
        }
    }

    /// Records a receipt for a sent notification; returns the one that follows, if any.
    pub fn report(
        &mut self,
        index: usize,
        receipt: &v1::DeliveryReceipt,
        now: Instant,
    ) -> Result<Option<usize>, Refusal> {
        let message = self.message(index);
        let known = match receipt.receipt() {
            Receipt::Read => message.read_at.is_some(),
            Receipt::Unread => message.unread,
            Receipt::Returned => message.returned,
            Receipt::Dispatched => message.posted_at.is_some(),
            Receipt::NotProduced => message.not_produced_at.is_some(),
            Receipt::Unspecified => unreachable!("the walk gives a receipt"),
        };
        if !known && (message.state != State::Sent || message.imported) {
            return Err(Refusal::precondition("STATE_CONFLICT"));
        }
        if !known {
            let said = receipt.event_time.as_ref().map_or(now, from_timestamp);
            let event_at = said.min(now).max(message.sent_at.expect("sent"));
            self.learn_receipt(index, receipt.receipt(), event_at, now);
        }
        let message = self.message(index);
        Ok(match receipt.receipt() {
            Receipt::Unread | Receipt::Returned => message.letter,
            Receipt::NotProduced => message.successor,
            Receipt::Read | Receipt::Dispatched | Receipt::Unspecified => None,
        })
    }

    fn learn_receipt(&mut self, index: usize, receipt: Receipt, event_at: Instant, now: Instant) {
        match receipt {
            Receipt::Read => {
                self.message_mut(index).read_at = Some(event_at);
                self.note_message(HistoryEvent::NotificationRead, Some(index), now);
                let mut next = self.message(index).letter;
                while let Some(letter) = next {
                    if self.message(letter).of_unread
                        && self.message_mut(letter).end(NotificationCause::Read)
                    {
                        self.note_message(HistoryEvent::NotificationCancelled, Some(letter), now);
                    }
                    next = self.message(letter).successor;
                }
            }
            Receipt::Unread => {
                self.message_mut(index).unread = true;
                self.follow_with_letter(index, ChannelReason::Unread, now);
                self.note_message(HistoryEvent::NotificationUnread, Some(index), now);
            }
            Receipt::Returned => {
                self.returned(index, now);
                self.note_message(HistoryEvent::NotificationReturned, Some(index), now);
            }
            Receipt::Dispatched => {
                self.message_mut(index).posted_at = Some(event_at);
                self.note_message(HistoryEvent::NotificationDispatched, Some(index), now);
            }
            Receipt::NotProduced => {
                self.message_mut(index).not_produced_at = Some(event_at);
                self.not_produced(index, now);
            }
            Receipt::Unspecified => unreachable!("the walk gives a receipt"),
        }
    }

    /// Takes back a hand-over that never was, if it is the latest of the present round and the patient is invited.
    fn not_produced(&mut self, index: usize, now: Instant) {
        let invited = matches!(
            self.shown(now),
            RequestState::Invited | RequestState::NoResponse
        );
        let invitation = self.invitation.as_ref().expect("it has messages");
        let last = invitation.last_used().and_then(|it| it.name.clone());
        let lost = self.message(index).clone();
        if !invited || last != lost.name || !self.in_present_round(&lost) {
            self.note_message(HistoryEvent::NotificationNotProduced, Some(index), now);
            return;
        }
        self.message_mut(index)
            .settle(State::Cancelled, NotificationCause::NotProduced, "");
        let mut ended = vec![];
        for other in 0..self.messages().len() {
            let message = self.message(other);
            let chained = message.round == lost.round && !message.is_withdrawal();
            let later = message.step > lost.step || Some(other) == lost.letter;
            if chained
                && later
                && !lost.follow_up
                && self.message_mut(other).end(NotificationCause::NotProduced)
            {
                ended.push(other);
            }
        }
        if let Some(letter) = lost.letter {
            // Should it have left all the same, it is that kind's hand-over.
            self.message_mut(letter).follow_up = false;
        }
        let mut again = Message::planned(lost.round, lost.step, now);
        again.follow_up = lost.follow_up;
        again.pinned = lost.pinned;
        again.of_unread = lost.of_unread;
        (again.channel, again.channel_reason) = (lost.channel, lost.channel_reason);
        again.settle(State::Parked, NotificationCause::NotProduced, "");
        let place = self.messages().len();
        self.message_mut(index).successor = Some(place);
        let invitation = self.invitation.as_mut().expect("it has messages");
        invitation.messages.push(again);
        invitation.hold(HoldReason::Undeliverable);
        self.note_message(HistoryEvent::NotificationNotProduced, Some(index), now);
        for other in ended {
            self.note_message(HistoryEvent::NotificationCancelled, Some(other), now);
        }
        self.note_message(HistoryEvent::NotificationParked, Some(place), now);
    }

    fn returned(&mut self, index: usize, now: Instant) {
        let message = self.message_mut(index);
        message.returned = true;
        message.explain(NotificationCause::Returned, "");
        let (channel, round) = (message.channel, message.round);
        let unheld = !self.is_held();
        let live = self.state == RequestState::Invited;
        let invitation = self.invitation.as_mut().expect("it has messages");
        let present = invitation.round == round;
        if channel == DeliveryChannel::Letter {
            if live && present {
                invitation.hold(HoldReason::Undeliverable);
            }
            return;
        }
        invitation.inbox_failed |= present;
        if unheld {
            self.follow_with_letter(index, ChannelReason::DigitalFailed, now);
        }
    }

    /// Plans the same kind again as a letter, in addition to the reminders.
    fn follow_with_letter(&mut self, index: usize, reason: ChannelReason, now: Instant) {
        let message = self.message(index).clone();
        let invitation = self.invitation.as_ref().expect("it has messages");
        let latest = invitation.last_hand_over() == message.sent_at;
        let fixed = self.is_channel_fixed();
        let unread = reason == ChannelReason::Unread;
        let needless = unread && (message.read_at.is_some() || self.next_is_soon(now));
        let wanted = self.shown(now) == RequestState::Invited
            && self.in_present_round(&message)
            && !self.is_held()
            && latest
            && message.letter.is_none()
            && message.channel == DeliveryChannel::Inbox
            && !message.is_withdrawal();
        if !wanted || fixed || needless {
            return;
        }
        let mut letter = Message::planned(message.round, message.step, now);
        letter.follow_up = true;
        letter.pinned = true;
        letter.channel = DeliveryChannel::Letter;
        letter.channel_reason = reason;
        letter.of_unread = unread;
        self.message_mut(index).letter = Some(self.messages().len());
        let invitation = self.invitation.as_mut().expect("it has messages");
        invitation.messages.push(letter);
    }

    fn next_is_soon(&self, now: Instant) -> bool {
        let invitation = self.invitation.as_ref().expect("it has messages");
        let steps = invitation.steps().into_iter();
        let mut pending = steps.filter_map(|it| invitation.pending(it));
        let next = pending.find(|it| !self.shows_as_skipped(it, now));
        let margin = instant(plus(local_date(now), 3), local_time(now));
        next.is_some_and(|it| it.due_at <= margin)
    }
}

/// Returns the consumer's cause as it is kept.
fn fitted(cause: &str) -> String {
    let spaced = |it: char| if it.is_control() { ' ' } else { it };
    cause.chars().map(spaced).take(CAUSE_MAX).collect()
}
