//! The claim protocol as a model, checked in every order of its steps: two replicas, consumers that share a journal, one
//! notification, a booking, a change, answers that are lost and consumers that die. See `docs/claim-protocol.md`.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model, Property};

/// Leases in a row that expire before the notification is parked. The service has eight.
const EXPIRED_LEASES_MAX: u8 = 2;
/// Leases at most: what is counted above, and those that are released or revoked.
const LEASES_MAX: usize = 5;
/// Answers that are lost, and consumers that die.
const LOSSES: u8 = 1;
const DEATHS: u8 = 1;

const ONE_LEASE: &str = "I2: at most one lease is live";
const SETTLED: &str = "I3: nothing is authorized after a booking was answered";
const ENDS: &str = "I4: the notification ends SENT, PARKED or CANCELLED";
const ONCE: &str = "it is handed over once";
const SAID: &str = "what may be a repeat says so";

/// Rules of the protocol, each of which can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// A claim writes only over the version that it has read.
    ClaimTestsVersion,
    /// A claim waits until the lease before has expired.
    ClaimWaitsForExpiry,
    /// An expired lease can be claimed.
    ExpiredIsClaimable,
    /// An authorization looks at the request.
    AuthorizationLooksAtRequest,
    /// An authorization needs the newest token.
    AuthorizationNeedsNewestToken,
    /// A booking raises the version of the notification.
    BookingRaisesVersion,
    /// An authorized lease that expires makes the notification a possible repeat.
    ExpiredPermissionIsRepeat,
    /// A consumer looks into the journal.
    JournalIsRead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Row {
    Scheduled,
    Leased,
    Dispatching,
    Sent,
    Cancelled,
    Parked,
}

/// The notification as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Stored {
    row: Row,
    /// The newest token.
    token: Option<usize>,
    expired_count: u8,
    possible_repeat: bool,
    is_booked: bool,
}

/// What a replica has read, and whether the version is still the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Read {
    stored: Stored,
    is_fresh: bool,
}

/// How far the work under one lease has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// The claim is committed, and its answer is on its way.
    Committed,
    /// The answer was lost: the replica will release the lease.
    Unknown,
    /// The consumer has the notification.
    Held,
    /// It has asked for permission, before or after the booking was answered.
    Asking {
        after_booking: bool,
    },
    /// It may hand over.
    Permitted,
    /// It has handed over, and says SENT.
    Reporting,
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lease {
    stage: Stage,
    is_live: bool,
    /// Whether the notification came with the word that it may be a repeat.
    is_repeat: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Call {
    NotMade,
    Committed,
    Answered,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    stored: Stored,
    leases: Vec<Lease>,
    /// What each of two replicas has read, to decide its next claim.
    read: [Option<Read>; 2],
    booking: Call,
    is_changed: bool,
    in_journal: bool,
    hand_overs: u8,
    losses: u8,
    deaths: u8,
    /// Promises that a step has broken.
    authorized_late: bool,
    repeated_unsaid: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Read(usize),
    Claim(usize),
    Expire(usize),
    /// The next step of the work under a lease.
    Proceed(usize),
    /// The answer that is on its way is lost.
    Lose(usize),
    Die(usize),
    Book,
    AnswerBooking,
    Change,
}

/// The protocol, without one of its rules or with all.
struct Protocol {
    without: Option<Rule>,
}

impl Protocol {
    fn has(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    /// Whether a claim may find the notification due.
    fn is_claimable(&self, state: &State, stored: &Stored) -> bool {
        let is_live = stored.token.is_some_and(|it| state.leases[it].is_live);
        let is_free = match self.has(Rule::ClaimWaitsForExpiry) {
            true => !is_live && self.has(Rule::ExpiredIsClaimable),
            false => true,
        };
        match stored.row {
            Row::Scheduled => true,
            Row::Leased | Row::Dispatching => is_free && !stored.is_booked,
            Row::Sent | Row::Cancelled | Row::Parked => false,
        }
    }

    /// A claim as one replica has decided it over what it has read.
    fn claim(&self, state: &mut State, read: Read) {
        if self.has(Rule::ClaimTestsVersion) && !read.is_fresh {
            return;
        }
        let mut stored = read.stored;
        // That is the request's, which a claim does not write.
        stored.is_booked = state.stored.is_booked;
        if stored.row != Row::Scheduled {
            let was_authorized = stored.row == Row::Dispatching;
            stored.possible_repeat |= was_authorized && self.has(Rule::ExpiredPermissionIsRepeat);
            stored.expired_count += 1;
        }
        if stored.expired_count == EXPIRED_LEASES_MAX {
            stored.row = Row::Parked;
        } else {
            stored.row = Row::Leased;
            stored.token = Some(state.leases.len());
            state.leases.push(Lease {
                stage: Stage::Committed,
                is_live: true,
                is_repeat: stored.possible_repeat,
            });
        }
        state.stored = stored;
        state.raise_version();
    }

    fn authorize(&self, state: &mut State, token: usize, after_booking: bool) -> Stage {
        let stored = &mut state.stored;
        let is_out = matches!(stored.row, Row::Leased | Row::Dispatching);
        let is_newest =
            stored.token == Some(token) || !self.has(Rule::AuthorizationNeedsNewestToken);
        let is_wanted = !stored.is_booked || !self.has(Rule::AuthorizationLooksAtRequest);
        let may_be = is_out || !self.has(Rule::AuthorizationLooksAtRequest);
        if !(may_be && is_newest && is_wanted) {
            return Stage::Over;
        }
        stored.row = Row::Dispatching;
        state.raise_version();
        state.leases[token].is_live = true;
        state.authorized_late |= after_booking;
        Stage::Permitted
    }

    /// The next step of the work under a lease.
    fn proceed(&self, state: &mut State, token: usize) {
        let is_newest = state.stored.token == Some(token);
        let lease = state.leases[token].clone();
        let next = match lease.stage {
            // One that has expired meanwhile is not sent.
            Stage::Committed if !lease.is_live => Stage::Over,
            Stage::Committed => Stage::Held,
            Stage::Unknown => {
                if is_newest && state.stored.row == Row::Leased {
                    state.stored.row = Row::Scheduled;
                    state.raise_version();
                }
                state.leases[token].is_live = false;
                Stage::Over
            }
            Stage::Held if state.in_journal && self.has(Rule::JournalIsRead) => Stage::Reporting,
            Stage::Held => Stage::Asking {
                after_booking: state.booking == Call::Answered,
            },
            Stage::Asking { after_booking } => self.authorize(state, token, after_booking),
            Stage::Permitted if state.in_journal && self.has(Rule::JournalIsRead) => {
                Stage::Reporting
            }
            Stage::Permitted => {
                state.in_journal = true;
                state.hand_overs += 1;
                Stage::Reporting
            }
            Stage::Reporting if is_newest => {
                state.stored.row = Row::Sent;
                state.raise_version();
                state.leases[token].is_live = false;
                Stage::Over
            }
            Stage::Reporting | Stage::Over => Stage::Over,
        };
        if next == Stage::Held && state.in_journal {
            state.repeated_unsaid |= !lease.is_repeat;
        }
        state.leases[token].stage = next;
    }

    /// The next step of the work under a lease, of which the answer is lost: what was asked is asked again.
    fn proceed_unanswered(&self, state: &mut State, token: usize) {
        let stage = state.leases[token].stage;
        self.proceed(state, token);
        state.leases[token].stage = match stage {
            Stage::Committed => Stage::Unknown,
            Stage::Asking { .. } => Stage::Asking {
                after_booking: state.booking == Call::Answered,
            },
            Stage::Reporting => Stage::Reporting,
            Stage::Unknown | Stage::Held | Stage::Permitted | Stage::Over => stage,
        };
    }

    /// Whether the next step waits for an answer of the service.
    fn can_be_lost(stage: Stage) -> bool {
        match stage {
            Stage::Committed | Stage::Asking { .. } | Stage::Reporting => true,
            Stage::Unknown | Stage::Held | Stage::Permitted | Stage::Over => false,
        }
    }

    /// What a booking, or a change that keeps the invitation, does to the notification.
    fn end_lease(&self, state: &mut State, next: Row) {
        let stored = &mut state.stored;
        let pending = match next {
            Row::Cancelled => matches!(stored.row, Row::Scheduled | Row::Leased | Row::Parked),
            _ => stored.row == Row::Leased,
        };
        if pending {
            stored.row = next;
            if let Some(token) = stored.token {
                state.leases[token].is_live = false;
            }
        }
        if next != Row::Cancelled || self.has(Rule::BookingRaisesVersion) {
            state.raise_version();
        }
    }
}

impl State {
    /// What replicas have read is no longer what is stored.
    fn raise_version(&mut self) {
        for read in self.read.iter_mut().flatten() {
            read.is_fresh = false;
        }
    }

    /// Forgets what nothing follows from any more.
    fn forget(&mut self) {
        for lease in &mut self.leases {
            lease.is_repeat &= matches!(lease.stage, Stage::Committed);
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            stored: Stored {
                row: Row::Scheduled,
                token: None,
                expired_count: 0,
                possible_repeat: false,
                is_booked: false,
            },
            leases: Vec::new(),
            read: [None, None],
            booking: Call::NotMade,
            is_changed: false,
            in_journal: false,
            hand_overs: 0,
            losses: 0,
            deaths: 0,
            authorized_late: false,
            repeated_unsaid: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for replica in 0..2 {
            match &state.read[replica] {
                Some(_) => actions.push(Action::Claim(replica)),
                None if self.is_claimable(state, &state.stored)
                    && state.leases.len() < LEASES_MAX =>
                {
                    actions.push(Action::Read(replica));
                }
                None => {}
            }
        }
        for (token, lease) in state.leases.iter().enumerate() {
            if lease.is_live {
                actions.push(Action::Expire(token));
            }
            if lease.stage == Stage::Over {
                continue;
            }
            actions.push(Action::Proceed(token));
            if state.losses < LOSSES && Self::can_be_lost(lease.stage) {
                actions.push(Action::Lose(token));
            }
            let is_consumers = !matches!(lease.stage, Stage::Committed | Stage::Unknown);
            if state.deaths < DEATHS && is_consumers {
                actions.push(Action::Die(token));
            }
        }
        match state.booking {
            Call::NotMade => actions.push(Action::Book),
            Call::Committed => actions.push(Action::AnswerBooking),
            Call::Answered => {}
        }
        if !state.is_changed && !state.stored.is_booked {
            actions.push(Action::Change);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Read(replica) => {
                state.read[replica] = Some(Read {
                    stored: state.stored.clone(),
                    is_fresh: true,
                });
            }
            Action::Claim(replica) => {
                let read = state.read[replica].take()?;
                self.claim(&mut state, read);
            }
            Action::Expire(token) => state.leases[token].is_live = false,
            Action::Proceed(token) => self.proceed(&mut state, token),
            Action::Lose(token) => {
                state.losses += 1;
                self.proceed_unanswered(&mut state, token);
            }
            Action::Die(token) => {
                state.deaths += 1;
                state.leases[token].stage = Stage::Over;
            }
            Action::Book => {
                state.booking = Call::Committed;
                state.stored.is_booked = true;
                self.end_lease(&mut state, Row::Cancelled);
            }
            Action::AnswerBooking => state.booking = Call::Answered,
            Action::Change => {
                state.is_changed = true;
                self.end_lease(&mut state, Row::Scheduled);
            }
        }
        state.forget();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_LEASE, |_, state: &State| {
                state.leases.iter().filter(|it| it.is_live).count() <= 1
            }),
            Property::always(SETTLED, |_, state: &State| !state.authorized_late),
            Property::always(ENDS, |model: &Self, state: &State| {
                let mut actions = Vec::new();
                model.actions(state, &mut actions);
                // A booking may come at any time, and need not.
                let goes_on = actions
                    .iter()
                    .any(|it| !matches!(it, Action::Book | Action::Change));
                goes_on || ends_well(state)
            }),
            Property::always(ONCE, |_, state: &State| state.hand_overs <= 1),
            Property::always(SAID, |_, state: &State| !state.repeated_unsaid),
        ]
    }
}

/// Whether a notification of which nothing more becomes may stay as it is. One that was authorized when the booking came
/// counts as handed over, and is not leased again.
fn ends_well(state: &State) -> bool {
    match state.stored.row {
        Row::Sent | Row::Parked | Row::Cancelled => true,
        Row::Dispatching => state.stored.is_booked,
        Row::Scheduled | Row::Leased => false,
    }
}

#[test]
fn the_protocol_keeps_its_promises_in_every_order_of_steps() {
    let checker = Protocol { without: None }
        .checker()
        .threads(2)
        .spawn_bfs()
        .join();
    println!("{} states", checker.unique_state_count());
    checker.assert_properties();
    assert!(checker.unique_state_count() > 10_000, "it walks far");
}

#[test]
fn a_rule_that_is_left_out_is_found() {
    for (rule, promise) in [
        (Rule::ClaimTestsVersion, ONE_LEASE),
        (Rule::ClaimWaitsForExpiry, ONE_LEASE),
        (Rule::ExpiredIsClaimable, ENDS),
        (Rule::AuthorizationLooksAtRequest, SETTLED),
        (Rule::AuthorizationNeedsNewestToken, ONE_LEASE),
        (Rule::BookingRaisesVersion, ENDS),
        (Rule::ExpiredPermissionIsRepeat, SAID),
        (Rule::JournalIsRead, ONCE),
    ] {
        let without = Some(rule);
        let checker = Protocol { without }.checker();
        let checker = checker.finish_when(HasDiscoveries::AnyOf(BTreeSet::from([promise])));
        let checker = checker.threads(2).spawn_bfs().join();
        let found = checker.discovery(promise);
        assert!(found.is_some(), "without {rule:?}: {promise}");
    }
}
