//! One notification to the patient, and the rounds that notifications belong to.

use care_invitation::contract::v1::NotificationCause;
use care_invitation::contract::v1::acknowledgement::Outcome;
use care_invitation::contract::v1::notification::State;
use care_invitation::contract::v1::{ChannelReason, DeliveryChannel, HoldReason, NotificationKind};
use chrono::{NaiveDate, TimeDelta};

use super::calendar::{Instant, minutes};
use super::settings::Schedule;

/// Number of leases in a row that expire before a notification is parked.
const LAPSES_MAX: u32 = 8;

#[derive(Clone, Debug)]
pub struct Message {
    /// Name, learned from the first response that shows the notification; the same ever after.
    pub name: Option<String>,
    pub round: i32,
    pub step: Step,
    pub state: State,
    /// Channel at the latest lease, or the one that the notification was planned for.
    pub channel: DeliveryChannel,
    pub channel_reason: ChannelReason,
    /// True if it was planned for one channel: a withdrawal, or a letter that follows an unread inbox
    /// notification.
    pub pinned: bool,
    /// True if it follows a notification that was handed over, and is not that kind's hand-over.
    pub follow_up: bool,
    pub due_at: Instant,
    /// Time from which it may be leased, while it is SCHEDULED, LEASED or DISPATCHING.
    pub claimable_at: Instant,
    pub sent_at: Option<Instant>,
    pub read_at: Option<Instant>,
    pub first_leased_at: Option<Instant>,
    pub attempts: i32,
    /// Number of leases in a row that have expired.
    pub lapses: u32,
    /// Number of acknowledgements with RETRY.
    pub retries: u32,
    /// True if an earlier lease ended without an acknowledgement, though not under a promise alone, or a RETRY said
    /// that it may have been sent.
    pub possible_repeat: bool,
    /// True if the consumer that leased it last has promised to ask before it hands over.
    pub promised: bool,
    /// Time of its release by staff; `None` again once a lease that lasted beyond it has ended without an
    /// acknowledgement.
    pub released_at: Option<Instant>,
    pub cause: NotificationCause,
    /// Words of the consumer about the cause.
    pub words: String,
    pub sent_after_change: bool,
    /// True if the request has changed since the latest lease.
    pub outdated: bool,
    /// Tokens of its leases, the newest last.
    pub tokens: Vec<String>,
    /// Outcome that was recorded for the newest lease.
    pub answered: Option<Outcome>,
    lease_ends_at: Option<Instant>,
    /// True if UNREAD, or RETURNED, has been reported.
    pub unread: bool,
    pub returned: bool,
    /// Times at which it was posted, or proved never to have been, as reported.
    pub posted_at: Option<Instant>,
    pub not_produced_at: Option<Instant>,
    /// Index of the notification of its kind that takes its place, because it was never posted.
    pub successor: Option<usize>,
    /// Index of the letter that has followed it.
    pub letter: Option<usize>,
    /// True if UNREAD brought it.
    pub of_unread: bool,
    /// True if an older system handed it over.
    pub imported: bool,
}

impl Message {
    pub fn planned(round: i32, step: Step, due_at: Instant) -> Self {
        Self {
            name: None,
            round,
            step,
            state: State::Scheduled,
            channel: DeliveryChannel::Unspecified,
            channel_reason: ChannelReason::Unspecified,
            pinned: false,
            follow_up: false,
            due_at,
            claimable_at: due_at,
            sent_at: None,
            read_at: None,
            first_leased_at: None,
            attempts: 0,
            lapses: 0,
            retries: 0,
            possible_repeat: false,
            promised: false,
            released_at: None,
            cause: NotificationCause::Unspecified,
            words: String::new(),
            sent_after_change: false,
            outdated: false,
            tokens: vec![],
            answered: None,
            lease_ends_at: None,
            unread: false,
            returned: false,
            posted_at: None,
            not_produced_at: None,
            successor: None,
            letter: None,
            of_unread: false,
            imported: false,
        }
    }

    /// Returns whether it is leased to a consumer, authorized or not.
    pub fn is_out(&self) -> bool {
        matches!(self.state, State::Leased | State::Dispatching)
    }

    /// Returns whether it waits for its due time, for a consumer or for staff.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Scheduled | State::Parked)
    }

    /// Returns whether it was handed over or is being handed over.
    pub fn counts_as_sent(&self) -> bool {
        matches!(self.state, State::Sent | State::Dispatching)
    }

    /// Returns the time of its hand-over, unless it was never posted.
    pub fn handed_over_at(&self) -> Option<Instant> {
        self.sent_at.filter(|_| self.state == State::Sent)
    }

    pub fn is_withdrawal(&self) -> bool {
        self.step.0 == NotificationKind::Withdrawal
    }

    /// Returns whether any consumer may lease it: it is due, and no lease or back-off lasts.
    pub fn is_claimable(&self, now: Instant) -> bool {
        (self.is_out() || self.state == State::Scheduled) && self.claimable_at <= now
    }

    /// Returns whether leasing it again would be the claim after eight expired leases.
    pub fn is_worn_out(&self) -> bool {
        self.is_out() && self.lapses + 1 >= LAPSES_MAX
    }

    pub fn take_back(&mut self) {
        if self.state == State::Leased {
            self.possible_repeat |= !self.promised;
            self.state = State::Scheduled;
            self.claimable_at = self.due_at;
            self.released_at = None;
        }
    }

    /// Records that a lease has ended without an acknowledgement.
    pub fn lapse(&mut self) {
        self.possible_repeat |= !self.promised || self.state == State::Dispatching;
        let lease_ends_at = self.lease_ends_at();
        self.released_at = self.released_at.filter(|at| lease_ends_at <= Some(*at));
    }

    /// Records its release by staff, unless a lease lasts.
    pub fn release(&mut self, now: Instant) {
        let in_hand = self.lease_ends_at().is_some_and(|at| now < at);
        if self.is_waiting() || (self.state == State::Dispatching && !in_hand) {
            self.released_at = Some(now);
        }
    }

    /// Cancels it unless it was handed over or is being handed over. Returns whether it did.
    pub fn end(&mut self, cause: NotificationCause) -> bool {
        let ends = self.is_waiting() || self.state == State::Leased;
        if ends {
            self.settle(State::Cancelled, cause, "");
        }
        ends
    }

    pub fn settle(&mut self, state: State, cause: NotificationCause, words: &str) {
        self.state = state;
        self.explain(cause, words);
    }

    pub fn explain(&mut self, cause: NotificationCause, words: &str) {
        self.cause = cause;
        self.words = words.into();
    }

    /// Leases it, or authorizes its hand-over, until then.
    pub fn lease_until(&mut self, state: State, ends_at: Instant) {
        self.state = state;
        self.lease_ends_at = Some(ends_at);
        self.claimable_at = self.due_at.max(ends_at + wait_after_lapse(self.lapses + 1));
    }

    /// Returns the time at which its lease expires, while it has one.
    pub fn lease_ends_at(&self) -> Option<Instant> {
        self.lease_ends_at.filter(|_| self.is_out())
    }
}

/// Returns the back-off after expired leases: nothing after the first, then a minute that doubles up to
/// an hour.
fn wait_after_lapse(nth: u32) -> TimeDelta {
    match nth {
        0 | 1 => TimeDelta::zero(),
        later => back_off(later - 1),
    }
}

/// Returns the back-off after the `nth` failure that counts: a minute that doubles up to an hour.
pub fn back_off(nth: u32) -> TimeDelta {
    minutes((1_i64 << nth.saturating_sub(1).min(6)).min(60))
}

/// The invitation of a request, with the notifications of all its rounds.
#[derive(Clone, Debug)]
pub struct Invitation {
    pub round: i32,
    /// Schedule of the present round, as it was in force when the round began.
    pub schedule: Schedule,
    pub invited_at: Instant,
    pub messages: Vec<Message>,
    pub hold: HoldReason,
    pub wait_until: Option<NaiveDate>,
    /// Channel that ReleaseHold fixed for the round.
    pub fixed: Option<DeliveryChannel>,
    pub inbox_failed: bool,
    /// Time from which the patient may book in the present round.
    pub bookable_since: Option<Instant>,
}

impl Invitation {
    pub fn is_held(&self) -> bool {
        self.hold != HoldReason::Unspecified
    }

    /// Holds the invitation. The latest reason replaces the one before, except that protection is
    /// kept, and that a contact without a decision replaces nothing.
    pub fn hold(&mut self, reason: HoldReason) {
        let stays = self.hold == HoldReason::ProtectedIdentity
            || (reason == HoldReason::Contacted && self.is_held());
        if !stays {
            self.hold = reason;
            self.wait_until = None;
        }
        self.messages.iter_mut().for_each(Message::take_back);
    }

    pub fn lift(&mut self) {
        self.hold = HoldReason::Unspecified;
        self.wait_until = None;
    }

    pub fn held_by_contact(&self) -> bool {
        matches!(
            self.hold,
            HoldReason::CallBack
                | HoldReason::WillBook
                | HoldReason::NoSuitableTime
                | HoldReason::Contacted
        )
    }

    /// Cancels notifications that were not handed over, and lifts the hold. Returns the indices of those it
    /// cancelled.
    pub fn end(&mut self, cause: NotificationCause) -> Vec<usize> {
        self.lift();
        let messages = self.messages.iter_mut().enumerate();
        let ended = messages.filter_map(|(nth, it)| it.end(cause).then_some(nth));
        ended.collect()
    }

    /// Returns the notifications of the present round, without letters that follow and withdrawals.
    pub fn chain(&self) -> impl Iterator<Item = &Message> {
        let round = self.round;
        let messages = self.messages.iter();
        messages.filter(move |it| it.round == round && !it.follow_up && !it.is_withdrawal())
    }

    /// Returns whether any message of the present round was or is being handed over.
    pub fn is_told(&self) -> bool {
        let of_round = self.messages.iter().filter(|it| it.round == self.round);
        of_round
            .filter(|it| !it.is_withdrawal())
            .any(Message::counts_as_sent)
    }

    /// Returns the steps of the present round, in order.
    pub fn steps(&self) -> Vec<Step> {
        let reminders = 1..=self.schedule.reminders;
        let reminders = reminders.map(|nth| (NotificationKind::Reminder, nth));
        [(NotificationKind::Invitation, 0)]
            .into_iter()
            .chain(reminders)
            .collect()
    }

    /// Returns the time of a step's hand-over in the present round.
    pub fn hand_over(&self, step: Step) -> Option<Instant> {
        let of_step = self.chain().filter(|it| it.step == step);
        of_step.filter_map(Message::handed_over_at).max()
    }

    /// Returns the time of the latest hand-over in the present round, letters that follow included.
    pub fn last_hand_over(&self) -> Option<Instant> {
        let of_round = self.messages.iter().filter(|it| it.round == self.round);
        let sent = of_round.filter(|it| !it.is_withdrawal());
        sent.filter_map(Message::handed_over_at).max()
    }

    /// Returns the notification of a step in the present round that is neither cancelled nor handed over.
    pub fn pending(&self, step: Step) -> Option<&Message> {
        let mut of_step = self.chain().filter(|it| it.step == step);
        of_step.find(|it| it.is_waiting() || it.is_out())
    }

    /// Returns the letters of the present round that follow receipts and are neither cancelled nor handed over.
    pub fn pending_letters(&self) -> impl Iterator<Item = &Message> {
        let of_round = self.messages.iter().filter(|it| it.round == self.round);
        let letters = of_round.filter(|it| it.follow_up && !it.is_withdrawal());
        letters.filter(|it| it.is_waiting() || it.is_out())
    }

    /// Returns the notification of the present round that was handed over last; one that is being handed
    /// over is the latest of all.
    pub fn last_used(&self) -> Option<&Message> {
        let out = self.messages.iter().filter(|it| it.counts_as_sent());
        out.filter(|it| it.round == self.round && !it.is_withdrawal())
            .max_by_key(|it| it.sent_at.unwrap_or(Instant::MAX_UTC))
    }
}

/// Kind of a notification, and which one of its round it is if it is a reminder.
pub type Step = (NotificationKind, i32);
