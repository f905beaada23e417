//! One schedule: who takes a step next, whose answer is lost, how much time passes.

use std::sync::Arc;

use care_invitation::contract::v1;
use care_invitation::domain::calendar::{Instant, civil_date};
use chrono::{Days, SecondsFormat, TimeDelta};

use super::consumers::Consumers;
use super::log::Log;
use super::region::{Region, Replica};
use super::truth;
use crate::crash::checker::{Truth, Violation, check};
use crate::crash::clients::{Call, judged, next};
use crate::crash::history::{Action, Answer, History, Micros, Seconds, Span, Write};
use crate::make::{self, at};
use crate::model::rng::Rng;

const NOW: &str = "2026-03-02T09:00:00Z";
/// Steps of a schedule, before everything that is due is delivered.
const STEPS: usize = 80;
/// Requests of a schedule, at most.
const REQUESTS_MAX: usize = 4;
/// Of a hundred answers so many are lost.
const LOST_PERCENT: u64 = 12;
/// Milliseconds by which the clock of a replica may be apart from the right one: two seconds are a wrong clock.
const APART_MAX: u64 = 1_900;
/// Seconds by which the clock of callers and consumers is ahead of all replicas, so that what they do is never dated before
/// what they were told.
const AHEAD: i64 = 2;
/// Longer than any back-off.
const LEASE_OVER: TimeDelta = TimeDelta::minutes(61);
/// Times that leases are let run out before what still waits is a fault.
const ROUNDS_MAX: usize = 12;
/// Days from one look at what has fallen due to the next, and looks: reminders, and the end of most periods.
const DAYS: i64 = 15;
const LOOKS: usize = 4;

/// What came of a schedule.
pub struct Run {
    pub steps: Vec<String>,
    pub history: History,
    pub violations: Vec<Violation>,
}

/// Runs the schedule of a seed.
pub async fn run(region: Arc<Region>, seed: u64) -> Run {
    let mut schedule = Schedule::start(region, seed);
    for _ in 0..STEPS {
        schedule.step().await;
    }
    schedule.world.is_troubled = false;
    schedule.settle().await;
    schedule.repeat_all().await;
    let mut violations = schedule.check().await;
    for _ in 0..LOOKS {
        schedule.world.wait(TimeDelta::days(DAYS));
        schedule.settle().await;
    }
    violations.extend(schedule.check().await);
    Run {
        steps: schedule.world.log.steps,
        history: schedule.world.history,
        violations,
    }
}

/// What all share who take part in a schedule.
pub struct World {
    pub rng: Rng,
    pub replicas: Vec<Replica>,
    pub care_unit: String,
    pub history: History,
    pub log: Log,
    /// Whether anything goes wrong.
    pub is_troubled: bool,
    now: Instant,
    moment: Micros,
}

impl World {
    /// Something that goes wrong so often in a hundred times.
    pub fn goes_wrong(&mut self, percent: u64) -> bool {
        self.is_troubled && self.rng.chance(percent)
    }

    /// An answer that is lost.
    pub fn is_lost(&mut self) -> bool {
        self.goes_wrong(LOST_PERCENT)
    }

    /// The number of one of the replicas.
    pub fn any_replica(&mut self) -> usize {
        let count = self.replicas.len() as u64;
        usize::try_from(self.rng.below(count)).expect("a small number")
    }

    /// A moment after all before it.
    pub fn tick(&mut self) -> Micros {
        self.moment += 1;
        self.moment
    }

    /// What the clock of callers and consumers shows.
    pub fn now(&self) -> Instant {
        self.now + TimeDelta::seconds(AHEAD)
    }

    pub fn clock(&self) -> Seconds {
        self.now().timestamp()
    }

    /// Lets time pass.
    fn wait(&mut self, by: TimeDelta) {
        self.now += by;
        for replica in &self.replicas {
            replica.advance(by);
        }
        let now = self.now.to_rfc3339_opts(SecondsFormat::Secs, true);
        self.log.add(format!("it is {now}"));
    }
}

/// A write that has no answer yet.
struct Try {
    call: Call,
    about: String,
    protects: bool,
    began: Micros,
}

/// The steps that can be next.
#[derive(Clone, Copy)]
enum Step {
    /// Somebody writes.
    Write,
    /// A write without an answer is made again.
    Repeat,
    /// A consumer takes what is due.
    Take,
    /// A consumer goes on with a message.
    Deliver,
    /// A replica releases leases that have not reached their consumer.
    Release,
    /// A consumer dies.
    Die,
    /// Time passes.
    Wait,
}

/// How often each comes.
const STEPS_AT_WORK: [(u64, Step); 7] = [
    (14, Step::Write),
    (6, Step::Repeat),
    (18, Step::Take),
    (40, Step::Deliver),
    (3, Step::Release),
    (2, Step::Die),
    (17, Step::Wait),
];
/// The same while consumers take messages and nothing is heard of them: their leases run out one after the other.
const STEPS_IN_SILENCE: [(u64, Step); 4] = [
    (5, Step::Write),
    (38, Step::Take),
    (20, Step::Deliver),
    (37, Step::Wait),
];

struct Schedule {
    region: Arc<Region>,
    world: World,
    consumers: Consumers,
    /// Names of requests that somebody was told of.
    known: Vec<String>,
    unanswered: Vec<Try>,
    /// The calls of the history's writes.
    calls: Vec<Call>,
}

impl Schedule {
    fn start(region: Arc<Region>, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let ahead = || {
            let apart = i64::try_from(rng.below(2 * APART_MAX + 1)).expect("a small number");
            TimeDelta::milliseconds(apart - APART_MAX as i64)
        };
        let replicas = region.replicas(at(NOW), ahead);
        let consumers = Consumers::new(&mut rng);
        let world = World {
            rng,
            replicas,
            care_unit: region.care_unit(),
            history: History::default(),
            log: Log::default(),
            is_troubled: true,
            now: at(NOW),
            moment: 0,
        };
        Self {
            region,
            world,
            consumers,
            known: Vec::new(),
            unanswered: Vec::new(),
            calls: Vec::new(),
        }
    }

    async fn step(&mut self) {
        let is_silent = self.consumers.are_silent();
        let steps = match is_silent {
            true => &STEPS_IN_SILENCE[..],
            false => &STEPS_AT_WORK,
        };
        match self.world.rng.weighted(steps) {
            Step::Write => self.write().await,
            Step::Repeat if self.unanswered.is_empty() => {}
            Step::Repeat => {
                let count = self.unanswered.len() as u64;
                let at = usize::try_from(self.world.rng.below(count)).expect("a small number");
                let waiting = self.unanswered.remove(at);
                self.attempt(waiting).await;
            }
            Step::Take => self.consumers.take(&mut self.world).await,
            Step::Deliver => self.consumers.deliver(&mut self.world).await,
            Step::Release => self.consumers.release(&mut self.world).await,
            Step::Die => self.consumers.die(&mut self.world),
            Step::Wait => {
                let rng = &mut self.world.rng;
                let by = match is_silent {
                    true => LEASE_OVER + TimeDelta::minutes(i64::from(rng.chance(50))),
                    false => time(rng),
                };
                self.world.wait(by);
            }
        }
    }

    async fn write(&mut self) {
        let rng = &mut self.world.rng;
        let count = self.known.len() + self.unanswered.len();
        let is_new = self.known.is_empty() || count < REQUESTS_MAX && rng.chance(40);
        let protects = is_new && rng.chance(15);
        let (call, about) = match is_new {
            true => {
                let call = create(rng, &self.world.care_unit, self.world.now, protects);
                let about = call.request_id.clone();
                (Call::Create(call), about)
            }
            false => {
                let name = rng.pick(&self.known);
                let visit = self.world.now + TimeDelta::days(30);
                (next(rng, &name, &visit.to_rfc3339()), name)
            }
        };
        let began = self.world.tick();
        let waiting = Try {
            call,
            about,
            protects,
            began,
        };
        self.attempt(waiting).await;
    }

    /// Makes a write at one of the replicas, and keeps it for another time if the answer is lost.
    async fn attempt(&mut self, waiting: Try) {
        let world = &mut self.world;
        let replica = world.any_replica();
        let answer = match world.replicas[replica].write(&waiting.call).await {
            Ok(name) => Some(Answer::Done(name)),
            Err(status) => judged(&status),
        };
        let what = waiting.call.action();
        let Some(answer) = answer.filter(|_| !world.is_lost()) else {
            world.log.add(format!("{what:?} at {replica}: lost"));
            self.unanswered.push(waiting);
            return;
        };
        if let (Action::Create, Answer::Done(name)) = (what, &answer) {
            self.known.push(name.clone());
        }
        let said = said(&mut world.log, &answer);
        world.log.add(format!("{what:?} at {replica}: {said}"));
        let span = Span {
            began: waiting.began,
            ended: world.tick(),
        };
        world.history.writes.push(Write {
            request_id: waiting.call.request_id().to_owned(),
            action: what,
            about: waiting.about,
            protects: waiting.protects,
            span,
            clock: world.clock(),
            answers: vec![answer],
        });
        self.calls.push(waiting.call);
    }

    /// Lets callers have their answers and consumers deliver what is due. Leases of which nobody knows run out meanwhile.
    async fn settle(&mut self) {
        while let Some(waiting) = self.unanswered.pop() {
            self.attempt(waiting).await;
        }
        for _ in 0..ROUNDS_MAX {
            self.consumers.deliver_all(&mut self.world).await;
            let world = &mut self.world;
            let service = &world.replicas[0].service;
            if !truth::waits(service, &world.care_unit, world.now).await {
                return;
            }
            world.wait(LEASE_OVER);
        }
    }

    /// Makes every write once more that was done.
    async fn repeat_all(&mut self) {
        for (at, call) in self.calls.iter().enumerate() {
            let world = &mut self.world;
            if world.history.writes[at].done().is_none() {
                continue;
            }
            let replica = world.any_replica();
            let answer = match world.replicas[replica].write(call).await {
                Ok(name) => Some(Answer::Done(name)),
                Err(status) => judged(&status),
            };
            world.history.writes[at].answers.extend(answer);
        }
    }

    async fn check(&self) -> Vec<Violation> {
        let done = self.world.history.writes.iter();
        let mut names: Vec<_> = done.filter_map(|it| Some(it.done()?.to_owned())).collect();
        names.sort_unstable();
        names.dedup();
        let (service, care_unit) = (&self.world.replicas[0].service, &self.world.care_unit);
        let truth = Truth {
            now: self.world.now,
            requests: truth::read(service, care_unit, &names).await,
            rows: self.region.rows(care_unit).await,
        };
        check(&self.world.history, &truth)
    }
}

/// An answer as text.
fn said(log: &mut Log, answer: &Answer) -> String {
    match answer {
        Answer::Done(name) => format!("done on {}", log.request(name)),
        Answer::Refused(reason) => reason.clone(),
        Answer::Faulty(what) => format!("faulty: {what}"),
    }
}

/// How much time passes: within a lease, beyond it, beyond a back-off, a day, a reminder.
fn time(rng: &mut Rng) -> TimeDelta {
    let (least, more, unit) = rng.weighted(&[
        (30, (1, 5, 1)),
        (25, (6, 60, 1)),
        (22, (2, 61, 60)),
        (6, (1, 3, 86_400)),
        (6, (14, 2, 86_400)),
        (1, (45, 1, 86_400)),
    ]);
    let count: i64 = least + i64::try_from(rng.below(more)).expect("a small number");
    TimeDelta::seconds(count * unit)
}

/// A creation of a request, or of an invitation whose first message is due at once or later, under a referral of its own.
fn create(
    rng: &mut Rng,
    care_unit: &str,
    now: Instant,
    is_protected: bool,
) -> v1::CreateBookingRequestRequest {
    let first = civil_date(now) + Days::new(1 + rng.below(46));
    let last = first + Days::new(rng.pick(&[1, 20, 60, 100]));
    let mut form = make::wire_form(&first.to_string(), &last.to_string());
    let call_id = make::request_id();
    form.origin = Some(make::wire_referral(&call_id));
    if rng.chance(20) && !is_protected {
        form.invitation = false;
    }
    if is_protected {
        let patient = form.patient.as_mut().expect("a patient");
        patient.set_protection(v1::Protection::ConfidentialityMarked);
    }
    v1::CreateBookingRequestRequest {
        parent: care_unit.into(),
        request_id: call_id,
        ..make::wire_create(form)
    }
}
