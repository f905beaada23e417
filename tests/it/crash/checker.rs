//! The checker: compares what clients and consumers were told with what the service answers in the end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::notification::State as MessageState;
use care_invitation::contract::v1::{NotificationCause, NotificationKind};
use care_invitation::domain::calendar::{Instant, civil_date};

use super::history::{
    Acknowledgement, Action, Answer, Authorization, HandOver, History, Lease, Micros, Outcome,
    Write, request_of,
};

/// Days between two hand-overs of a round.
const GAP_DAYS: i64 = 14;
/// Leases of a message in a row that run out without an answer, before it is parked.
const EXPIRED_LEASES_MAX: usize = 8;

/// The promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    /// I1: every write answered OK is there.
    Kept,
    /// I2: at most one live lease a message.
    OneLease,
    /// I3: nothing is authorized after a settling call was answered.
    Settled,
    /// I4: every due message of a live invitation ends SENT, PARKED or SKIPPED.
    Delivered,
    /// I5: what must always hold, as far as answers show it.
    Rules,
    /// I6: the same `request_id` has the same outcome.
    Repeats,
    /// I7: no message to a patient with protected identity without a release.
    Protected,
}

/// A promise that was not kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Violation {
    pub promise: Promise,
    pub what: String,
}

impl fmt::Debug for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}: {}", self.promise, self.what)
    }
}

/// A message, as the service shows it in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub name: String,
    pub round: i32,
    pub kind: NotificationKind,
    pub sequence: i32,
    pub state: MessageState,
    pub cause: NotificationCause,
    pub due_at: Instant,
    pub sent_at: Option<Instant>,
}

/// A request, as the service shows it in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub referral: String,
    pub state: State,
    pub is_held: bool,
    pub messages: Vec<Message>,
    /// How often the history names each action.
    pub actions: BTreeMap<Action, usize>,
    /// Ids of the bookings in the history.
    pub bookings: Vec<String>,
    /// How many of the six lists it is on.
    pub lists: usize,
}

/// All that the service answers in the end, when the load is over and its clock stands at `now`.
#[derive(Clone, Debug)]
pub struct Truth {
    pub now: Instant,
    pub requests: BTreeMap<String, Shown>,
    /// How many requests the database has.
    pub rows: usize,
}

/// Returns every promise that was not kept.
pub fn check(history: &History, truth: &Truth) -> Vec<Violation> {
    let mut checker = Checker {
        history,
        truth,
        violations: Vec::new(),
    };
    checker.writes();
    checker.actions();
    checker.acknowledgements();
    checker.leases();
    checker.authorizations();
    checker.ends();
    checker.rounds();
    checker.repeats();
    checker.protected();
    checker.violations
}

/// What was seen of one message.
#[derive(Default)]
struct OfMessage<'a> {
    leases: Vec<&'a Lease>,
    permissions: Vec<&'a Authorization>,
    answers: Vec<&'a Acknowledgement>,
}

impl OfMessage<'_> {
    /// Whether a lease came after an answer that SENT is recorded. One that was given before may come late; in the same second
    /// there is one before if it was revoked.
    fn is_leased_after_it_was_known(&self, revoking: &[&Write]) -> bool {
        let recorded = self.answers.iter();
        let mut recorded = recorded.filter(|it| it.is_recorded && it.outcome == Outcome::Sent);
        recorded.any(|answer| {
            let answered = self.leases.iter().find(|it| it.token == answer.token);
            let begins = answered.map_or(0, |it| it.begins);
            let was_revoked = revoking
                .iter()
                .any(|it| it.clock >= begins && it.span.began < answer.span.began);
            let first = if was_revoked { begins + 1 } else { begins };
            let later = |it: &&Lease| it.received > answer.span.ended && it.begins >= first;
            self.leases
                .iter()
                .any(|it| it.token != answer.token && later(it))
        })
    }

    /// Whether a lease may have ended before the next began: it ran out, was answered, or was revoked by one of
    /// these writes.
    fn had_ended(&self, before: &Lease, after: &Lease, revoking: &[&Write]) -> bool {
        let of_lease = |token: &String| *token == before.token;
        let permissions = self
            .permissions
            .iter()
            .filter(|it| of_lease(&it.token) && it.span.ended < after.received);
        let ends = permissions
            .filter_map(|it| it.until)
            .fold(before.ends, i64::max);
        // After UNREACHABLE it is parked or cancelled, and what is parked comes again after a release.
        let answered = self.answers.iter().any(|it| {
            let ends_it = match it.outcome {
                Outcome::Retry | Outcome::Unreachable => true,
                Outcome::Sent => false,
            };
            ends_it && of_lease(&it.token) && it.span.began < after.received
        });
        let revoked = revoking.iter().any(|it| {
            // It may come to its consumer only after it was revoked.
            it.clock >= before.begins && it.span.began < after.received.max(before.received)
        });
        after.begins >= ends || answered || revoked
    }

    /// Whether the permission was given though the message had come again under a newer token.
    fn is_stale(&self, permission: &Authorization) -> bool {
        let of_lease = |it: &&&Lease| it.token == permission.token;
        let begins = self.leases.iter().find(of_lease).map(|it| it.begins);
        begins.is_some_and(|begins| {
            let is_newer = |it: &&Lease| begins < it.begins && it.received < permission.span.began;
            permission.until.is_some() && self.leases.iter().any(is_newer)
        })
    }

    /// The most leases in a row of which nothing was heard, with none of these writes between them.
    fn unheard_in_a_row(&self, writes: &[&Write]) -> usize {
        let (mut most, mut in_a_row) = (1, 1);
        for pair in self.leases.windows(2) {
            let [before, after] = pair else { continue };
            let is_answered = self.answers.iter().any(|it| it.token == before.token);
            let is_written = writes
                .iter()
                .any(|it| it.clock >= before.begins && it.span.began < after.received);
            in_a_row = match is_answered || is_written {
                true => 1,
                false => in_a_row + 1,
            };
            most = most.max(in_a_row);
        }
        most
    }
}

struct Checker<'a> {
    history: &'a History,
    truth: &'a Truth,
    violations: Vec<Violation>,
}

impl<'a> Checker<'a> {
    fn broken(&mut self, promise: Promise, what: String) {
        self.violations.push(Violation { promise, what });
    }

    /// I1 and I6: what was created is there, once.
    fn writes(&mut self) {
        let mut created = 0;
        for write in &self.history.writes {
            let (id, action) = (&write.request_id, write.action);
            if let Some(Answer::Faulty(said)) = write
                .answers
                .iter()
                .find(|it| matches!(it, Answer::Faulty(_)))
            {
                self.broken(
                    Promise::Rules,
                    format!("{action:?} {id} was answered {said}"),
                );
            }
            let Some(name) = write.done() else {
                continue;
            };
            match self.truth.requests.get(name) {
                None => self.broken(
                    Promise::Kept,
                    format!("{action:?} {id}: {name} is not there"),
                ),
                Some(shown) if action == Action::Create && shown.referral != write.about => {
                    let what = format!("{name} has {} for {}", shown.referral, write.about);
                    self.broken(Promise::Kept, what);
                }
                Some(_) => {}
            }
            created += usize::from(action == Action::Create);
        }
        if created != self.truth.rows {
            let rows = self.truth.rows;
            self.broken(
                Promise::Repeats,
                format!("{created} were created, and {rows} are there"),
            );
        }
    }

    /// I1 and I6: what was answered OK was done once, what was refused was not done.
    fn actions(&mut self) {
        let mut done: HashMap<&str, BTreeMap<Action, usize>> = HashMap::new();
        for write in &self.history.writes {
            if let Some(name) = write.done() {
                *done
                    .entry(name)
                    .or_default()
                    .entry(write.action)
                    .or_default() += 1;
            }
        }
        for (name, shown) in &self.truth.requests {
            for action in Action::ALL {
                let count = |of: Option<&BTreeMap<Action, usize>>| {
                    of.and_then(|it| it.get(&action)).copied().unwrap_or(0)
                };
                let told = count(done.get(name.as_str()));
                let there = count(Some(&shown.actions));
                let what =
                    format!("{name}: {action:?} is told {told} times and there {there} times");
                if told > there {
                    self.broken(Promise::Kept, what);
                } else if told < there {
                    self.broken(Promise::Repeats, what);
                }
            }
            let distinct: HashSet<_> = shown.bookings.iter().collect();
            if distinct.len() != shown.bookings.len() {
                self.broken(
                    Promise::Repeats,
                    format!("{name} was booked twice by one call"),
                );
            }
        }
    }

    /// I1: what was handed over and acknowledged is SENT.
    fn acknowledgements(&mut self) {
        let states = self.states();
        for it in &self.history.acknowledgements {
            let state = states.get(it.message.as_str());
            if it.is_recorded && it.outcome == Outcome::Sent && state != Some(&MessageState::Sent) {
                self.broken(
                    Promise::Kept,
                    format!("{} was acknowledged and is {state:?}", it.message),
                );
            }
        }
    }

    /// I2: a lease begins when the one before it has ended, and none after the hand-over is known; nothing is authorized under
    /// an old one. And it is parked after eight of which nothing was heard.
    fn leases(&mut self) {
        let mut seen: HashMap<&str, OfMessage> = HashMap::new();
        for lease in &self.history.leases {
            seen.entry(&lease.message).or_default().leases.push(lease);
        }
        for it in &self.history.authorizations {
            seen.entry(&it.message).or_default().permissions.push(it);
        }
        for it in &self.history.acknowledgements {
            seen.entry(&it.message).or_default().answers.push(it);
        }
        let mut written: HashMap<&str, Vec<&Write>> = HashMap::new();
        for write in &self.history.writes {
            written.entry(&write.about).or_default().push(write);
        }
        for (name, mut seen) in seen {
            seen.leases.sort_by_key(|it| (it.begins, it.received));
            let writes = written.get(request_of(name)).map_or(&[][..], Vec::as_slice);
            let revoking = writes.iter().filter(|it| it.action.revokes());
            let revoking: Vec<&Write> = revoking.copied().collect();
            for pair in seen.leases.windows(2) {
                if let [before, after] = pair
                    && !seen.had_ended(before, after, &revoking)
                {
                    let what = format!(
                        "{name} is leased at {} under {} and is leased until {} under {}",
                        after.begins, after.token, before.ends, before.token
                    );
                    self.broken(Promise::OneLease, what);
                }
            }
            for it in seen.permissions.iter().filter(|it| seen.is_stale(it)) {
                let token = &it.token;
                let what = format!("{name} is authorized under {token}, which is not the newest");
                self.broken(Promise::OneLease, what);
            }
            let in_a_row = seen.unheard_in_a_row(writes);
            if in_a_row > EXPIRED_LEASES_MAX {
                let what = format!("{name} came {in_a_row} times in a row and is not parked");
                self.broken(Promise::Rules, what);
            }
            let tokens: HashSet<_> = seen.leases.iter().map(|it| &it.token).collect();
            if tokens.len() != seen.leases.len() {
                self.broken(
                    Promise::OneLease,
                    format!("{name} came twice under one token"),
                );
            }
            if seen.is_leased_after_it_was_known(&revoking) {
                self.broken(
                    Promise::OneLease,
                    format!("{name} is leased after it was acknowledged"),
                );
            }
        }
    }

    /// I3: no permission after a settling call was answered.
    fn authorizations(&mut self) {
        let mut settled: HashMap<&str, Vec<&Write>> = HashMap::new();
        for write in &self.history.writes {
            if write.action.settles() && write.done().is_some() {
                settled.entry(&write.about).or_default().push(write);
            }
        }
        for it in &self.history.authorizations {
            if it.until.is_none() || it.is_withdrawal {
                continue;
            }
            let request = request_of(&it.message);
            for write in settled.get(request).into_iter().flatten() {
                if write.span.ended < it.span.began
                    && !self.invited_since(request, write.span.began)
                {
                    let what = format!(
                        "{} is authorized after {:?} {}",
                        it.message, write.action, write.request_id
                    );
                    self.broken(Promise::Settled, what);
                }
            }
        }
    }

    /// Returns whether a new round may have begun since.
    fn invited_since(&self, request: &str, since: Micros) -> bool {
        let mut writes = self.history.writes.iter();
        writes.any(|it| it.action == Action::Invite && it.about == request && it.span.ended > since)
    }

    /// I4: nothing that was due still waits, and what was handed over is known to be.
    fn ends(&mut self) {
        let truth = self.truth;
        for (name, shown) in &truth.requests {
            let round = shown.messages.iter().map(|it| it.round).max();
            for message in &shown.messages {
                let waits = match message.state {
                    MessageState::Scheduled | MessageState::Leased | MessageState::Dispatching => {
                        true
                    }
                    MessageState::Unspecified
                    | MessageState::Projected
                    | MessageState::Sent
                    | MessageState::Skipped
                    | MessageState::Cancelled
                    | MessageState::Parked => false,
                };
                let is_wanted = match shown.state {
                    State::Booked | State::Declined | State::Requested => false,
                    State::Cancelled => message.kind == NotificationKind::Withdrawal,
                    State::Invited | State::NoResponse | State::Expired | State::Unspecified => {
                        !shown.is_held
                    }
                };
                if waits && is_wanted && Some(message.round) == round && message.due_at <= truth.now
                {
                    self.broken(
                        Promise::Delivered,
                        format!("{} of {name} is still {:?}", message.name, message.state),
                    );
                }
                let is_lost = message.state == MessageState::Cancelled
                    && message.cause == NotificationCause::Unspecified;
                if is_lost {
                    self.broken(
                        Promise::Delivered,
                        format!("{} was cancelled without a cause", message.name),
                    );
                }
            }
            if shown.state == State::Invited && shown.messages.is_empty() {
                self.broken(
                    Promise::Delivered,
                    format!("{name} is invited and has no message"),
                );
            }
        }
        self.hand_overs();
    }

    /// I4: what was handed over is SENT. When its consumer died before it said so, it may have been parked after many
    /// leases; and nobody knows of it when its round has ended meanwhile.
    fn hand_overs(&mut self) {
        let truth = self.truth;
        for it in &self.history.hand_overs {
            let shown = truth.requests.get(request_of(&it.message));
            let messages = shown.map_or(&[][..], |it| &it.messages);
            let round = messages.iter().map(|it| it.round).max();
            let message = messages.iter().find(|message| message.name == it.message);
            let is_over = shown.is_some_and(|it| match it.state {
                State::Booked | State::Declined | State::Cancelled => true,
                State::Requested
                | State::Invited
                | State::NoResponse
                | State::Expired
                | State::Unspecified => false,
            }) || message.map(|it| it.round) != round;
            let state = message.map(|it| it.state);
            let is_known = match state {
                Some(MessageState::Sent | MessageState::Parked) => true,
                Some(_) => is_over,
                None => false,
            };
            if !is_known {
                self.broken(
                    Promise::Delivered,
                    format!("{} was handed over and is {state:?}", it.message),
                );
            }
        }
    }

    /// I5: one hand-over a kind, the gap, the lists, and no repeat without a word.
    fn rounds(&mut self) {
        let truth = self.truth;
        for (name, shown) in &truth.requests {
            let mut kinds = HashSet::new();
            let mut dates: HashMap<i32, Vec<_>> = HashMap::new();
            for message in &shown.messages {
                let Some(sent_at) = message
                    .sent_at
                    .filter(|_| message.state == MessageState::Sent)
                else {
                    continue;
                };
                let (round, kind, sequence) = (message.round, message.kind, message.sequence);
                if !kinds.insert((round, kind, sequence)) {
                    self.broken(
                        Promise::Rules,
                        format!(
                            "{name}: {kind:?} {sequence} of round {round} was handed over twice"
                        ),
                    );
                }
                if kind != NotificationKind::Withdrawal {
                    dates.entry(round).or_default().push(civil_date(sent_at));
                }
            }
            for dates in dates.values_mut() {
                dates.sort_unstable();
                let close = dates
                    .windows(2)
                    .any(|it| (it[1] - it[0]).num_days() < GAP_DAYS);
                if close {
                    self.broken(Promise::Rules, format!("{name}: handed over on {dates:?}"));
                }
            }
            let is_open = match shown.state {
                State::Booked | State::Cancelled | State::Unspecified => false,
                State::Requested
                | State::Invited
                | State::Declined
                | State::NoResponse
                | State::Expired => true,
            };
            if is_open && shown.lists != 1 {
                self.broken(
                    Promise::Rules,
                    format!("{name} is on {} lists", shown.lists),
                );
            }
        }
        let mut handed_over: HashMap<&str, &HandOver> = HashMap::new();
        for it in &self.history.hand_overs {
            if handed_over.insert(&it.message, it).is_some() {
                self.broken(
                    Promise::Rules,
                    format!("{} was handed over twice", it.message),
                );
            }
        }
        for lease in &self.history.leases {
            let before = handed_over.get(lease.message.as_str());
            if before.is_some_and(|it| it.clock < lease.begins) && !lease.possible_repeat {
                self.broken(
                    Promise::Rules,
                    format!(
                        "{} comes again, and nothing says that it may be a repeat",
                        lease.message
                    ),
                );
            }
        }
    }

    /// I6: all answers of a write are the same.
    fn repeats(&mut self) {
        for write in &self.history.writes {
            if let [first, rest @ ..] = &write.answers[..]
                && let Some(other) = rest.iter().find(|it| *it != first)
            {
                let what = format!(
                    "{:?} {}: {first:?}, then {other:?}",
                    write.action, write.request_id
                );
                self.broken(Promise::Repeats, what);
            }
        }
    }

    /// I7: a message for a patient with protected identity follows a release.
    fn protected(&mut self) {
        let done = || {
            let writes = self.history.writes.iter();
            writes.filter_map(|it| Some((it, it.done()?)))
        };
        let protected = done().filter(|(write, _)| write.protects);
        let protected: HashSet<_> = protected.map(|(_, name)| name).collect();
        let mut released: HashMap<&str, Micros> = HashMap::new();
        for (write, name) in done().filter(|(write, _)| write.action == Action::Release) {
            let first = released.entry(name).or_insert(Micros::MAX);
            *first = (*first).min(write.span.began);
        }
        for lease in &self.history.leases {
            let request = request_of(&lease.message);
            let is_protected = lease.is_protected || protected.contains(request);
            let is_released = released
                .get(request)
                .is_some_and(|began| *began < lease.received);
            if is_protected && !is_released {
                self.broken(
                    Promise::Protected,
                    format!("{} is leased and nobody has released it", lease.message),
                );
            }
        }
    }

    fn states(&self) -> HashMap<&'a str, MessageState> {
        let messages = self.truth.requests.values().flat_map(|it| &it.messages);
        messages.map(|it| (it.name.as_str(), it.state)).collect()
    }
}
