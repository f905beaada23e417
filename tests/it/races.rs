//! Two calls on one request at the same moment, many times: one order wins, and the answers and the request say which.
//! On PostgreSQL the two come by way of two replicas.
//!
//! `CARE_INVITATION_ROUNDS` sets how many rounds each race has.

use std::collections::HashMap;
use std::time::Duration;

use care_invitation::contract::v1;
use care_invitation::contract::v1::DispatchRefusal as Refused;
use care_invitation::contract::v1::acknowledgement::Outcome;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::notification::State as Message;
use care_invitation::contract::v1::stream_due_notifications_response::Event;
use care_invitation::domain::calendar::Instant;
use tokio::time::sleep;
use tonic::{Code, Status};

use crate::backend::Kind;
use crate::booking_request::calls::{changed, contact, contacted, move_to};
use crate::consumer::{Consumer, authorize, everything, lease, message, name, results, sent};
use crate::crash::setting;
use crate::harness::{Harness, refusal};
use crate::make::{self, at};
use crate::model::rng::Rng;

const NOW: &str = "2026-03-02T09:00:00Z";
/// Rounds of each race by default.
const ROUNDS: u64 = 40;
/// Requests that are made, and messages that are leased, at a time.
const GROUP: u64 = 20;
/// Microseconds by which one of two calls comes later, at most: longer than most take.
const LATER_MAX: u64 = 4_000;

/// A race: two ways into one service, and what decides who begins.
struct Race {
    one: Harness,
    /// Another replica, where there can be one.
    other: Option<Harness>,
    rng: Rng,
    seed: u64,
    rounds: u64,
}

impl Race {
    async fn start() -> Self {
        let one = Harness::start(NOW).await;
        let other = match Kind::of_this_run() {
            Kind::Sqlite => None,
            Kind::Postgres => Some(one.replica().await),
        };
        let seed = setting("CARE_INVITATION_SEED", u64::from(std::process::id()));
        Self {
            one,
            other,
            rng: Rng::new(seed),
            seed,
            rounds: setting("CARE_INVITATION_ROUNDS", ROUNDS),
        }
    }

    fn other(&self) -> &Harness {
        self.other.as_ref().unwrap_or(&self.one)
    }

    /// Pauses before the two calls of a round: one of them begins at once.
    fn pauses(&mut self) -> (Duration, Duration) {
        let later = Duration::from_micros(self.rng.below(LATER_MAX));
        match self.rng.below(2) {
            0 => (Duration::ZERO, later),
            _ => (later, Duration::ZERO),
        }
    }

    /// Creates requests, whose first message is due now if they are invitations. Returns their names.
    async fn created(&self, count: u64, invitation: bool) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..count {
            let form = v1::BookingRequest {
                origin: Some(make::wire_referral(&make::request_id())),
                invitation,
                ..make::wire_form("2026-04-06", "2026-06-12")
            };
            let request = self.one.create(make::wire_create(form)).await;
            names.push(request.expect("created").name);
        }
        names
    }

    /// Says what is of interest about a round that failed.
    fn said(&self, round: u64) -> String {
        format!("seed {}, round {round}", self.seed)
    }
}

async fn after<T>(pause: Duration, call: impl Future<Output = T>) -> T {
    if !pause.is_zero() {
        sleep(pause).await;
    }
    call.await
}

/// The one message of a request that is not projected.
async fn first_message(harness: &Harness, name: &str) -> v1::Notification {
    let request = harness.get(name).await.expect("read");
    let invitation = request.care_invitation.expect("an invitation");
    invitation.notifications.into_iter().next().expect("one")
}

/// Returns the winner's answer and the loser's, which is a refusal.
fn one_of(answers: [Result<v1::BookingRequest, Status>; 2], said: &str) -> (usize, Status) {
    match answers {
        [Ok(_), Err(refused)] => (0, refused),
        [Err(refused), Ok(_)] => (1, refused),
        other => panic!("{said}: one is to win: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_settling_call_and_a_permission_one_is_first_and_the_message_shows_which() {
    let mut race = Race::start().await;
    let mut seen = HashMap::from([(true, 0), (false, 0)]);
    for group in 0..race.rounds.div_ceil(GROUP) {
        race.created(GROUP, true).await;
        let mut consumer = Consumer::open(&race.one, everything()).await;
        for place in 0..GROUP {
            let due = loop {
                // What was cancelled beside a permission is withdrawn.
                let due = consumer.due().await;
                if message(&due).kind() == v1::NotificationKind::Invitation {
                    break due;
                }
            };
            let said = race.said(group * GROUP + place);
            let request = due.booking_request.clone();
            let (first, second) = race.pauses();
            let settles = async {
                let other = race.other();
                match place % 3 {
                    0 => {
                        let call = make::wire_booking(&request, "2026-04-20T08:00:00Z");
                        (other.book(call).await, Refused::Booked)
                    }
                    1 => {
                        let call = contact(&request, v1::ContactOutcome::Declined);
                        (contacted(other, call).await, Refused::Declined)
                    }
                    _ => {
                        let call = make::wire_cancel(&request);
                        (other.cancel(call).await, Refused::Cancelled)
                    }
                }
            };
            let asks = authorize(&race.one, vec![lease(&due)]);
            let ((settled, expected), leave) =
                tokio::join!(after(first, settles), after(second, asks));
            settled.unwrap_or_else(|status| panic!("{said}: {status:?}"));
            let leave = leave.expect(&said).results.remove(0);
            let stored = first_message(&race.one, &request).await.state();
            let (state, refused) = match leave.authorized {
                true => (Message::Dispatching, Refused::Unspecified),
                false => (Message::Cancelled, expected),
            };
            assert_eq!((stored, leave.refusal()), (state, refused), "{said}");
            *seen.get_mut(&leave.authorized).expect("either") += 1;

            let again = authorize(&race.one, vec![lease(&due)]).await;
            let again = again.expect(&said).results.remove(0);
            let now = (again.authorized, again.refusal());
            assert_eq!(now, (false, expected), "{said}");
        }
    }
    println!("authorized before the settling call, or not: {seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_invite_one_does_and_the_other_is_told_that_it_is_an_invitation() {
    let mut race = Race::start().await;
    for (round, name) in (0..).zip(race.created(race.rounds, false).await) {
        let said = race.said(round);
        let (first, second) = race.pauses();
        let (one, other) = tokio::join!(
            after(first, race.one.invite(make::wire_invite(&name))),
            after(second, race.other().invite(make::wire_invite(&name))),
        );
        let (_, refused) = one_of([one, other], &said);
        let expected = (Code::FailedPrecondition, "ALREADY_INVITATION".to_owned());
        assert_eq!(refusal(&refused), expected, "{said}");
        let stored = race.one.get(&name).await.expect(&said);
        let invitation = stored.care_invitation.expect("an invitation");
        assert_eq!(invitation.round, 1, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_bookings_one_is_recorded_and_the_other_is_told_of_it() {
    let mut race = Race::start().await;
    for (round, name) in (0..).zip(race.created(race.rounds, true).await) {
        let said = race.said(round);
        let (first, second) = race.pauses();
        let calls = ["B-one", "B-other"].map(|id| {
            let mut call = make::wire_booking(&name, "2026-04-20T08:00:00Z");
            call.booking.as_mut().expect("a booking").booking_id = id.into();
            call
        });
        let [one, other] = calls;
        let (one, other) = tokio::join!(
            after(first, race.one.book(one)),
            after(second, race.other().book(other)),
        );
        let (winner, refused) = one_of([one, other], &said);
        let expected = (Code::AlreadyExists, "ALREADY_BOOKED".to_owned());
        assert_eq!(refusal(&refused), expected, "{said}");
        let booked = ["B-one", "B-other"][winner];
        let stored = race.one.get(&name).await.expect(&said);
        assert_eq!(stored.state(), State::Booked, "{said}");
        assert_eq!(stored.booking.expect("booked").booking_id, booked, "{said}");
        let told = crate::harness::metadata(&refused, "booking_id");
        assert_eq!(told, booked, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_answer_and_the_next_lease_after_the_first_has_run_out_one_counts() {
    let mut race = Race::start().await;
    let mut seen: HashMap<_, u64> = HashMap::new();
    let mut now: Instant = at(NOW);
    for round in 0..race.rounds {
        let said = race.said(round);
        let request = race.created(1, true).await.remove(0);
        let due = crate::consumer::lease_one(&race.one, 60).await;
        let outcome = match round % 2 {
            0 => Outcome::Sent,
            _ => Outcome::Retry,
        };
        let answer = v1::Acknowledgement {
            outcome: outcome.into(),
            retry_delay: Some(prost_types::Duration {
                seconds: 600,
                nanos: 0,
            }),
            ..sent(&due)
        };
        now += chrono::Duration::seconds(60);
        let (first, second) = race.pauses();
        let leased_again = async {
            race.one.clock.advance(now).expect("forward");
            race.other().lease_due().await
        };
        let (answered, again) = tokio::join!(
            after(first, results(&race.one, vec![answer])),
            after(second, leased_again),
        );
        let answered = answered.expect(&said).results.remove(0);
        assert_ne!(answered.recorded, !again.is_empty(), "{said}: {answered:?}");
        *seen.entry((outcome, answered.recorded)).or_default() += 1;
        let (state, refused) = match (answered.recorded, outcome) {
            (true, Outcome::Sent) => (Message::Sent, Refused::Unspecified),
            (true, _) => (Message::Scheduled, Refused::Unspecified),
            (false, _) => (Message::Leased, Refused::Lost),
        };
        let stored = first_message(&race.one, &request).await.state();
        assert_eq!((stored, answered.refusal()), (state, refused), "{said}");
        for again in &again {
            assert_eq!(again.booking_request, request, "{said}");
            // The first was not said to have been handed over, and may have been.
            assert!(again.possible_repeat, "{said}");
        }
        // It would come again in another round.
        let ends = make::wire_booking(&request, "2026-04-20T08:00:00Z");
        let ends = race.one.book(ends).await;
        ends.unwrap_or_else(|status| panic!("{said}: {status:?}"));
    }
    println!("outcome, and recorded before it was leased again: {seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_leased_beside_a_change_goes_out_with_what_is_true() {
    let mut race = Race::start().await;
    let mut seen = HashMap::from([(true, 0), (false, 0)]);
    let mut consumer = Consumer::open(&race.one, everything()).await;
    for round in 0..race.rounds {
        // What were revoked late, of an earlier round whose message has been handed over, would be found in this one.
        let said = race.said(round);
        let (_, pause) = race.pauses();
        let request = race.created(1, true).await.remove(0);
        let call = move_to(&request, "2026-04-07", "2026-06-12");
        let moves = after(pause, changed(race.other(), call));
        let mut before = None;
        let reads = async {
            loop {
                match consumer.next().await.expect(&said) {
                    Some(Event::Due(due)) => {
                        assert_eq!(due.booking_request, request, "{said}");
                        let period = due.requested_period.clone().expect("a period");
                        match period.start_date.as_str() {
                            "2026-04-07" => return due,
                            _ => assert!(before.replace(due).is_none(), "{said}: once"),
                        }
                    }
                    Some(Event::Revoked(revoked)) => {
                        assert_eq!(before.as_ref().map(name), Some(revoked), "{said}");
                    }
                    other => panic!("{said}: {other:?}"),
                }
            }
        };
        let (moved, due) = tokio::join!(moves, reads);
        moved.unwrap_or_else(|status| panic!("{said}: {status:?}"));
        *seen.get_mut(&before.is_some()).expect("either") += 1;
        if let Some(before) = before {
            assert_eq!(message(&before).name, message(&due).name, "{said}");
            let old = authorize(&race.one, vec![lease(&before)]).await;
            let old = old.expect(&said).results.remove(0);
            let expected = (false, Refused::Lost);
            assert_eq!((old.authorized, old.refusal()), expected, "{said}");
        }
        let new = authorize(&race.one, vec![lease(&due)]).await;
        assert!(new.expect(&said).results[0].authorized, "{said}");
        race.one.acknowledge_sent(&[due]).await;
    }
    println!("leased before the change, or not: {seen:?}");
}
