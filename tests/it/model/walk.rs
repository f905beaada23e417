//! One walk: the same steps on a running service and on the model, compared after each.

use std::collections::{BTreeMap, BTreeSet};

use care_invitation::contract::v1;
use care_invitation::contract::v1::{BookingRequestView, BookingSource, DeliveryChannel};

use super::accesses::Fact;
use super::batch;
use super::calendar::{from_timestamp, timestamp};
use super::call::{self, Call};
use super::caller::{CALLERS, Caller, Tokens};
use super::compare::{self, holds, same, same_request};
use super::invariants::{Invariants, came_to_an_end};
use super::lists::{self, Board};
use super::op::{Op, STARTS};
use super::rng::Rng;
use super::rules::{Refusal, verdict};
use super::service::{self, Answer, send};
use super::world::{Reply, World};
use crate::backend::Kind;
use crate::harness::Harness;
use crate::make::at;
use crate::worklist_user::LISTS;

/// Steps between two checks of the lists.
const LISTS_EVERY: usize = 10;
/// Maximum moves of the clock until nothing is left to happen.
const MOVES_MAX: usize = 120;

pub struct Walk {
    harness: Harness,
    tokens: Tokens,
    world: World,
    /// A board of each caller.
    boards: Vec<Board>,
    /// What is asked for after each step.
    rng: Rng,
    invariants: Invariants,
    /// Requests as the model rendered them after the latest step.
    shown: Vec<v1::BookingRequest>,
    /// Calls so far, printed with a failure.
    transcript: Vec<String>,
    /// Number of each outcome of each call.
    answers: Answers,
}

/// Number of each outcome of each call.
pub type Answers = BTreeMap<String, usize>;

/// Takes the steps; a failure lists the calls that led there and the difference.
pub async fn walk(start: usize, ops: &[Op]) -> Result<Answers, String> {
    let mut walk = Walk::begin(STARTS[start % STARTS.len()]).await;
    let walked = walk.steps(ops).await;
    walk.harness.shutdown.cancel();
    let steps = walk.transcript.len();
    let Walk {
        harness,
        transcript,
        answers,
        ..
    } = walk;
    let server = harness.server;
    drop(harness.channel);
    server.await.expect("served to the end");
    walked.map(|()| answers).map_err(|failure| {
        let calls = transcript.join("\n");
        format!("{calls}\n\nAFTER {steps} CALLS: {failure}")
    })
}

impl Walk {
    async fn begin(start: &str) -> Self {
        let (tokens, authenticator) = Tokens::issue().await;
        let harness = Harness::guarded(start, authenticator).await;
        let mut boards = vec![];
        for caller in CALLERS {
            tokens.call_as(caller, &harness);
            boards.push(Board::open(&harness, caller).await);
        }
        tokens.call_as(Caller::Staff, &harness);
        Self {
            tokens,
            boards,
            rng: Rng::new(1),
            harness,
            world: World::new(at(start)),
            invariants: Invariants::default(),
            shown: vec![],
            transcript: vec![],
            answers: Answers::new(),
        }
    }

    async fn steps(&mut self, ops: &[Op]) -> Result<(), String> {
        for (nth, op) in ops.iter().enumerate() {
            if let Op::Clerk(_) = op {
                self.world.caller = Caller::Clerk;
            }
            let call = call::call(op, &self.world);
            let stepped = match call {
                Some(call) => self.step(call).await,
                None => Ok(()),
            };
            self.world.caller = Caller::Staff;
            stepped?;
            if nth % LISTS_EVERY == 0 {
                self.check_lists().await?;
            }
        }
        self.check_histories().await?;
        self.check_changes().await?;
        self.settle().await?;
        self.check_lists().await?;
        self.check_changes().await?;
        let Self {
            harness,
            world,
            boards,
            rng,
            tokens,
            ..
        } = self;
        world.check_access_log(harness, boards, rng, tokens).await
    }

    /// Lets the calls that follow be those of a caller.
    fn call_as(&self, caller: Caller) {
        self.tokens.call_as(caller, &self.harness);
        self.world.accesses.call_as(caller);
    }

    async fn step(&mut self, call: Call) -> Result<(), String> {
        let (now, caller) = (self.world.now, self.world.caller);
        self.transcript.push(format!("{now} {caller:?} {call:?}"));
        if let Call::Create(call) = &call {
            let form = call.booking_request.as_ref().expect("given");
            self.transcript
                .push(format!("    {}", compare::request(form).join(" | ")));
        }
        self.warn_invariants(&call);
        self.call_as(caller);
        let actual = send(&self.harness, &call).await;
        self.count(&call, &actual);
        let before = self.world.requests.len();
        let expected = self.world.apply(&call);
        if let (Ok(expected), Ok(actual)) = (&expected, &actual) {
            self.learn_names(before, expected, actual);
        }
        // A refusal in a batch may name a request that the same batch has created.
        self.world.log_step(&call, &actual);
        self.call_as(Caller::Staff);
        let expected = match (expected, &actual) {
            (Ok(expected), Ok(_)) => expected,
            (Err(expected), Err(actual)) => return same("the refusal", &expected, actual),
            (expected, actual) => {
                return Err(format!("model: {expected:?}\nservice: {actual:?}"));
            }
        };
        let actual = actual.expect("seen above");
        self.world.keep_numbers();
        if let (Call::Lease(call), Answer::Due(due)) = (&call, &actual) {
            self.world.take_leases(call, due)?;
        }
        self.check_requests().await?;
        self.check_slots().await?;
        for board in &mut self.boards {
            board.comes_to(&self.world).await?;
        }
        self.call_as(caller);
        lists::check_query(&self.harness, &self.world, &mut self.rng).await?;
        self.call_as(Caller::Staff);
        self.check_reply(&expected, &actual)?;
        self.tell_invariants(&call, &actual).await?;
        self.keep_writes(call, &actual);
        Ok(())
    }

    /// Learns the names of requests that were created: those from the index `before` on.
    fn learn_names(&mut self, before: usize, expected: &Reply, actual: &Answer) {
        match (expected, actual) {
            (Reply::Request(index), Answer::Request(created)) if *index >= before => {
                self.world.learn_names(*index, created);
            }
            (Reply::Batch(expected), Answer::Batch(actual)) => {
                for item in expected.iter().zip(actual) {
                    if let (Ok(expected), Ok(actual)) = item {
                        self.learn_names(before, expected, actual);
                    }
                }
            }
            _ => {}
        }
    }

    /// Keeps the writes that have succeeded, to be repeated.
    fn keep_writes(&mut self, call: Call, answer: &Answer) {
        match (call, answer) {
            (Call::Batch(calls), Answer::Batch(answers)) => {
                let done = calls.into_iter().zip(answers).filter(|(_, it)| it.is_ok());
                self.world.writes.extend(done.map(|(call, _)| call));
            }
            (call, _) if is_write(&call) => self.world.writes.push(call),
            _ => {}
        }
    }

    /// Checks what came of each receipt. One that a later receipt may have changed is compared by its name.
    fn check_reported(
        &self,
        expected: &[Result<Option<(usize, usize)>, Refusal>],
        actual: &[v1::DeliveryReceiptResult],
    ) -> Result<(), String> {
        let actual_count = actual.len();
        same("the number of results", &expected.len(), &actual_count)?;
        for (place, (expected, actual)) in expected.iter().zip(actual).enumerate() {
            let refusal = actual.error.as_ref();
            let refusal = refusal.map(|it| batch::refusal(it, &format!("receipts[{place}].")));
            same("the error", &expected.as_ref().err(), &refusal.as_ref())?;
            let Ok(Some((at, nth))) = expected else {
                same("what follows", &None, &actual.follow_up)?;
                continue;
            };
            let request = &self.world.requests[*at];
            let shown = request.show_message(request.message(*nth), self.world.now);
            let named = |it: &v1::Notification| match actual_count {
                1 => it.clone(),
                _ => v1::Notification {
                    name: it.name.clone(),
                    ..Default::default()
                },
            };
            let follow_up = actual.follow_up.as_ref().map(named);
            same("what follows", &Some(named(&shown)), &follow_up)?;
        }
        Ok(())
    }

    /// Checks what came of each item of a batch. A request that a later item has changed is compared by its name.
    fn check_items(
        &mut self,
        expected: &[Result<Reply, Refusal>],
        actual: &[Result<Answer, Refusal>],
    ) -> Result<(), String> {
        same("the number of results", &expected.len(), &actual.len())?;
        for (place, item) in expected.iter().zip(actual).enumerate() {
            match item {
                (Ok(expected_reply), Ok(answer)) => {
                    let (index, shown) = request_of(expected_reply, answer)?;
                    let mut later = expected[place + 1..].iter().flatten();
                    match later.any(|it| index_of(it) == Some(index)) {
                        true => same("the name", &self.world.requests[index].form.name, shown)?,
                        false => self.check_reply(expected_reply, answer)?,
                    }
                }
                (Err(expected), Err(actual)) => same("the item's error", expected, actual)?,
                (expected, actual) => {
                    return Err(format!(
                        "item {place}: model: {expected:?}\nservice: {actual:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, call: &Call, answer: &Result<Answer, Refusal>) {
        let call = format!("{call:?}");
        let (call, _) = call.split_once('(').unwrap_or((&call, ""));
        if let Ok(Answer::Batch(answers)) = answer {
            let refused = answers.iter().filter_map(|it| it.as_ref().err());
            for refusal in refused {
                *self
                    .answers
                    .entry(format!("item {}", refusal.reason))
                    .or_default() += 1;
            }
        }
        let answer = match answer {
            Ok(Answer::Again(_)) => "repeated",
            Ok(_) => "OK",
            Err(refusal) => refusal.reason.as_str(),
        };
        let by = match self.world.caller {
            Caller::Staff => "",
            Caller::Clerk => " by the clerk",
        };
        let answer = format!("{call}{by} {answer}");
        *self.answers.entry(answer).or_default() += 1;
    }

    /// Checks that the requests that the model has changed are the same in the service, and one of the
    /// others in turn. Learns names and etags on the way.
    async fn check_requests(&mut self) -> Result<(), String> {
        let requests = self.world.requests.iter();
        let expected: Vec<_> = requests.map(|it| it.show(self.world.now)).collect();
        let turn = self.transcript.len() % expected.len().max(1);
        for (index, expected) in expected.iter().enumerate() {
            let changed = self.shown.get(index) != Some(expected);
            if changed || index == turn || self.world.requests[index].is_unseen() {
                let actual = self.get(index).await?;
                self.check_request(index, actual)?;
            }
        }
        let requests = self.world.requests.iter();
        self.shown = requests.map(|it| it.show(self.world.now)).collect();
        Ok(())
    }

    /// Checks the verdicts on some slots of one request, each in its turn, for the patient and for staff.
    async fn check_slots(&self) -> Result<(), String> {
        let count = self.world.requests.len().max(1);
        let Some(request) = self.world.requests.get(self.transcript.len() % count) else {
            return Ok(());
        };
        let now = self.world.now;
        let slots = call::slots(request, now);
        for source in [BookingSource::Patient, BookingSource::Staff] {
            let name = &request.form.name;
            let actual =
                service::verdicts(&self.harness, &self.world, name, &slots, source).await?;
            let expected = slots.iter().map(|slot| v1::EvaluatedSlot {
                slot_id: slot.slot_id.clone(),
                verdict: verdict(request, source, slot, now).into(),
            });
            let what = format!("the verdicts for {source:?} on {name}");
            same(&what, &expected.collect(), &actual)?;
        }
        Ok(())
    }

    async fn get(&self, index: usize) -> Result<v1::BookingRequest, String> {
        let name = &self.world.requests[index].form.name;
        let actual = self.harness.get(name).await;
        let (named, code) = (
            Fact::request(name),
            actual.as_ref().err().map_or(0, |it| it.code().into()),
        );
        self.world.log(
            "BookingRequestService/GetBookingRequest",
            vec![named],
            vec![],
            code,
        );
        actual.map_err(|status| format!("{name} is gone: {status}"))
    }

    fn check_request(
        &mut self,
        index: usize,
        mut actual: v1::BookingRequest,
    ) -> Result<(), String> {
        let now = self.world.now;
        self.world.requests[index].learn(&actual)?;
        self.invariants.saw(&actual)?;
        actual.etag.clear();
        let expected = self.world.requests[index].show(now);
        same_request(&format!("request {index}"), &expected, &actual)
    }

    fn check_reply(&mut self, expected: &Reply, actual: &Answer) -> Result<(), String> {
        let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
        match (expected, actual) {
            (Reply::Request(index), Answer::Request(request)) => {
                let known = &self.world.requests[*index];
                let shown = self.world.caller.unmasked(known, request.as_ref().clone());
                self.check_request(*index, shown?)
            }
            (Reply::Settings(unit), Answer::Settings(actual)) => {
                self.check_settings(unit, actual.as_ref().clone())
            }
            (Reply::Requests(expected), Answer::Names(actual)) => {
                let name = |it: &usize| self.world.requests[*it].form.name.clone();
                same(
                    "the names",
                    &expected.iter().map(name).collect(),
                    &set(actual),
                )
            }
            (Reply::Moved(moved, duplicates), Answer::Moved(actual)) => {
                let name = |it: &usize| self.world.requests[*it].form.name.clone();
                let names = |of: &BTreeSet<usize>| of.iter().map(name).collect();
                let actual_moved = set(&actual.booking_requests);
                same("what has moved", &names(moved), &actual_moved)?;
                let actual_duplicates = set(&actual.with_open_duplicate);
                same("the duplicates", &names(duplicates), &actual_duplicates)
            }
            (
                Reply::Authorized {
                    results,
                    expires_at,
                },
                Answer::Authorized(actual),
            ) => {
                let answered = actual.results.iter();
                let answered = answered.map(|it| (it.name.clone(), it.refusal()));
                same("what is authorized", results, &answered.collect())?;
                same(
                    "the permission",
                    &expires_at.map(timestamp),
                    &actual.expire_time,
                )
            }
            (Reply::Acknowledged(expected), Answer::Acknowledged(actual)) => {
                let answered = actual.results.iter();
                let answered = answered.map(|it| (it.name.clone(), it.refusal()));
                same("what is recorded", expected, &answered.collect())
            }
            (Reply::Reported(expected), Answer::Reported(actual)) => {
                self.check_reported(expected, actual)
            }
            (Reply::Again(expected), Answer::Again(actual)) => self.check_reply(expected, actual),
            (Reply::Batch(expected), Answer::Batch(actual)) => self.check_items(expected, actual),
            (Reply::Nothing, Answer::Nothing | Answer::Due(_)) => Ok(()),
            (expected, actual) => Err(format!("model: {expected:?}\nservice: {actual:?}")),
        }
    }

    /// Checks the settings of a care unit, and learns their etag.
    fn check_settings(
        &mut self,
        unit: &str,
        mut actual: v1::CareUnitSettings,
    ) -> Result<(), String> {
        let settings = self.world.settings(unit);
        settings.learn(&std::mem::take(&mut actual.etag))?;
        let expected = settings.show(&format!("{unit}/settings"));
        self.invariants.set(unit, &actual);
        same("the settings", &expected, &actual)
    }

    fn warn_invariants(&mut self, call: &Call) {
        let Call::Acknowledge(call) = call else {
            return;
        };
        let sent = v1::acknowledgement::Outcome::Sent;
        for answer in call
            .acknowledgements
            .iter()
            .filter(|it| it.outcome() == sent)
        {
            let lease = answer.lease.as_ref().expect("given");
            self.invariants.reports_sent(&lease.name);
        }
    }

    async fn tell_invariants(&mut self, call: &Call, actual: &Answer) -> Result<(), String> {
        match (call, actual) {
            (Call::Contact(call), _) => self.invariants.contacted(call),
            (Call::Release(call), _) => self.invariants.released(call),
            (Call::Batch(calls), Answer::Batch(answers)) => {
                for item in calls.iter().zip(answers) {
                    if let (Call::Release(call), Ok(_)) = item {
                        self.invariants.released(call);
                    }
                }
            }
            (Call::Report(call), Answer::Reported(results)) => {
                for (receipt, result) in call.receipts.iter().zip(results) {
                    if let Some(follow_up) = &result.follow_up {
                        self.invariants.followed_by(receipt, follow_up);
                    }
                }
            }
            (_, Answer::Due(due)) => {
                for message in due {
                    let index = self.world.find(&message.booking_request);
                    let request = self.get(index.expect("seen above")).await?;
                    self.invariants.leased(message, &request, self.world.now)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Checks that every open request is on exactly one of the first six lists, in order, that counts equal lengths,
    /// and which care units have requests.
    async fn check_lists(&mut self) -> Result<(), String> {
        for unit in call::units() {
            let actual = service::settings(&self.harness, &format!("{unit}/settings")).await?;
            self.check_settings(&unit, actual)?;
        }
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for (nth, list) in LISTS.into_iter().enumerate() {
            let query = v1::WorklistQuery {
                worklists: vec![list.into()],
                care_units: call::units(),
                ..Default::default()
            };
            let full = BookingRequestView::Full;
            let counted = service::counts(&self.harness, &self.world, query.clone()).await?;
            let expected = self.world.list(&query).into_iter();
            let (actual, total) =
                service::worklist(&self.harness, &self.world, query, full).await?;
            let names: Vec<String> = actual.iter().map(|it| it.name.clone()).collect();
            let expected = expected.map(|it| self.world.requests[it].form.name.clone());
            same(list.as_str_name(), &expected.collect(), &names)?;
            for request in actual {
                if nth < 6 {
                    *places.entry(request.name.clone()).or_default() += 1;
                }
                let index = self.world.find(&request.name).expect("listed");
                let expected = self.world.requests[index].show(self.world.now);
                let etag = request.etag.clone();
                same_request(
                    "the listed request",
                    &v1::BookingRequest { etag, ..expected },
                    &request,
                )?;
            }
            let length = i64::try_from(names.len()).expect("short");
            let counted: Vec<_> = counted.counts.iter().map(|it| it.count).collect();
            same("the count", &vec![length], &counted)?;
            same("the total", &Some(length), &total)?;
        }
        self.check_partition(&places)?;
        let mut units = service::care_units(&self.harness).await?;
        units.sort();
        let expected = self.world.requests.iter().map(|it| it.unit.clone());
        let expected: BTreeSet<_> = expected.collect();
        same("the care units", &expected.into_iter().collect(), &units)?;
        for caller in CALLERS {
            self.world.caller = caller;
            self.call_as(caller);
            self.check_patients().await?;
            self.check_unsettled().await?;
        }
        self.world.caller = Caller::Staff;
        self.call_as(Caller::Staff);
        Ok(())
    }

    fn check_partition(&self, places: &BTreeMap<String, usize>) -> Result<(), String> {
        for request in &self.world.requests {
            let on = places.get(&request.form.name).copied().unwrap_or_default();
            let fits = match request.is_open() {
                true => on == 1,
                false => on <= 1,
            };
            holds(fits, || format!("{} is on {on} lists", request.form.name))?;
        }
        Ok(())
    }

    /// Checks what each patient is shown.
    async fn check_patients(&self) -> Result<(), String> {
        for patient in call::patients() {
            let actual =
                service::patient_requests(&self.harness, &self.world, patient.clone()).await?;
            let mut expected = self.world.patient_requests(&patient);
            for request in &mut expected {
                let index = self.world.find(&request.name).expect("the model has it");
                request.etag = self.get(index).await?.etag;
            }
            same("what the patient is shown", &expected, &actual)?;
        }
        Ok(())
    }

    async fn check_unsettled(&self) -> Result<(), String> {
        for channel in [
            DeliveryChannel::Unspecified,
            DeliveryChannel::Inbox,
            DeliveryChannel::Letter,
        ] {
            let actual =
                service::unsettled(&self.harness, &self.world, call::units(), channel).await?;
            let due_at = |it: &v1::Notification| it.due_time.as_ref().map(from_timestamp);
            holds(actual.is_sorted_by_key(due_at), || {
                "not in order of due time".into()
            })?;
            let mut expected = self.world.unsettled(channel);
            let mut actual = actual;
            expected.sort_by(|one, other| one.name.cmp(&other.name));
            actual.sort_by(|one, other| one.name.cmp(&other.name));
            same("the messages", &expected, &actual)?;
        }
        Ok(())
    }

    async fn check_histories(&self) -> Result<(), String> {
        for request in &self.world.requests {
            let actual = service::history(&self.harness, &self.world, &request.form.name).await?;
            let actual: Vec<_> = actual
                .into_iter()
                .map(|it| {
                    let explained = (it.event(), it.cause(), it.state());
                    let about_one = !it.notification.is_empty();
                    let words = if about_one { it.comment } else { String::new() };
                    let mut changed = it.changed_fields;
                    changed.sort();
                    (explained, words, it.notification, changed)
                })
                .collect();
            let named = |index: usize| request.message(index).name.clone();
            let expected = request.history.iter().map(|it| {
                let message = it.message.and_then(named).unwrap_or_default();
                let changed = it.changed.iter().map(|it| (*it).to_owned()).collect();
                let explained = (it.event, it.cause, it.state);
                (explained, it.words.clone(), message, changed)
            });
            same("the history", &expected.collect::<Vec<_>>(), &actual)?;
        }
        Ok(())
    }

    /// Checks what a stream of changes tells; on one database alone, for on the other it waits for what others do.
    async fn check_changes(&self) -> Result<(), String> {
        match Kind::of_this_run() {
            Kind::Sqlite => self.world.check_changes(&self.harness).await,
            Kind::Postgres => Ok(()),
        }
    }

    /// Lets time pass, handing over notifications that fall due, until nothing more can happen.
    async fn settle(&mut self) -> Result<(), String> {
        for _ in 0..MOVES_MAX {
            let outcome = v1::acknowledgement::Outcome::Sent;
            for op in [Op::LeaseAll, Op::AcknowledgeAll { outcome }] {
                if let Some(call) = call::call(&op, &self.world) {
                    self.step(call).await?;
                }
            }
            let Some(next) = self.world.next_due() else {
                break;
            };
            self.step(Call::Advance(next)).await?;
        }
        for index in 0..self.world.requests.len() {
            came_to_an_end(&self.get(index).await?)?;
        }
        Ok(())
    }
}

/// Returns the index of the request that an item is about.
fn index_of(reply: &Reply) -> Option<usize> {
    match reply {
        Reply::Request(index) => Some(*index),
        Reply::Again(reply) => index_of(reply),
        _ => None,
    }
}

/// Returns the index of the request that an item is about, and the name that the service shows.
fn request_of<'a>(reply: &Reply, answer: &'a Answer) -> Result<(usize, &'a String), String> {
    match (reply, answer) {
        (Reply::Request(index), Answer::Request(request)) => Ok((*index, &request.name)),
        (Reply::Again(reply), Answer::Again(answer)) => request_of(reply, answer),
        (reply, answer) => Err(format!("model: {reply:?}\nservice: {answer:?}")),
    }
}

fn is_write(call: &Call) -> bool {
    matches!(
        call,
        Call::Create(_)
            | Call::Invite(_)
            | Call::Change(_)
            | Call::Book(_)
            | Call::Contact(_)
            | Call::Cancel(_)
            | Call::Release(_)
            | Call::Unbook(_)
            | Call::Revoke(_)
            | Call::Patient(_)
            | Call::Replace(_)
            | Call::Settings(_)
    )
}
