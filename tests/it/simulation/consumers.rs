//! The consumers of a schedule: each takes what is due and goes on with one message at a time, by a journal that all share.

use std::collections::HashMap;

use care_invitation::contract::calendar::render_instant;
use care_invitation::contract::v1;
use care_invitation::contract::v1::notification_service_server::NotificationService;
use care_invitation::contract::v1::stream_due_notifications_response::Event;
use care_invitation::domain::hsa_id::HsaId;
use care_invitation::domain::notification::LeaseRef;
use care_invitation::domain::request_key::RequestKey;
use prost_types::Timestamp;
use tokio_stream::StreamExt;
use uuid::Uuid;

use super::region::asked;
use super::schedule::World;
use crate::consumer::{lease, leasing_for, message, name};
use crate::crash::history::{
    Acknowledgement, Authorization, HandOver, Lease, Micros, Outcome, Span,
};
use crate::harness::within;
use crate::model::rng::Rng;

/// Consumers of a schedule.
const CONSUMERS: i64 = 3;
/// More than a schedule has messages: a stream that ends when nothing is due takes all that is.
const OUTSTANDING_MAX: i32 = 1_000;

/// How often in a hundred times consumers forget a message of whom nothing is heard.
const SILENT: u64 = 100;

/// A message that a consumer has leased.
struct Held {
    due: v1::DueNotification,
    /// When the permission to hand over ends, in seconds, if it has one.
    permitted_until: Option<i64>,
    /// What it says of the message, with the number of that in the history, until it has been answered.
    says: Option<(Outcome, usize)>,
}

/// A consumer.
struct Consumer {
    /// How long its leases last.
    lease_seconds: i64,
    /// Whether it promises never to hand over without permission.
    always_authorizes: bool,
    held: Vec<Held>,
}

/// All consumers.
pub struct Consumers {
    consumers: Vec<Consumer>,
    /// The names that were handed over, with the times.
    journal: HashMap<String, Timestamp>,
    /// Leases that have not reached their consumer, and that a replica is about to release.
    undelivered: Vec<LeaseRef>,
    /// How often in a hundred times a message is forgotten: in some schedules a little, in some always.
    forgotten_percent: u64,
}

impl Consumers {
    pub fn new(rng: &mut Rng) -> Self {
        let consumer = |number: i64| Consumer {
            lease_seconds: 10 + 20 * number,
            always_authorizes: number % 2 == 0,
            held: Vec::new(),
        };
        Self {
            consumers: (0..CONSUMERS).map(consumer).collect(),
            journal: HashMap::new(),
            undelivered: Vec::new(),
            forgotten_percent: rng.weighted(&[(6, 2), (3, 20), (1, SILENT)]),
        }
    }

    /// Whether nothing is ever heard of what they take.
    pub fn are_silent(&self) -> bool {
        self.forgotten_percent == SILENT
    }

    /// A consumer takes what is due from a replica; or that is lost on its way, and the replica may know.
    pub async fn take(&mut self, world: &mut World) {
        let count = self.consumers.len() as u64;
        let number = usize::try_from(world.rng.below(count)).expect("a small number");
        let replica = world.any_replica();
        let taken = self.leased(world, number, replica).await;
        if !world.is_lost() {
            return self.hold(world, number, taken);
        }
        if world.rng.chance(50) {
            self.undelivered.extend(taken.iter().map(reference));
        }
        world.log.add("lost on the way");
    }

    /// Leases all that is due, by a stream that ends then.
    async fn leased(
        &self,
        world: &mut World,
        number: usize,
        replica: usize,
    ) -> Vec<v1::DueNotification> {
        let wishes = v1::StreamDueNotificationsRequest {
            care_units: vec![world.care_unit.clone()],
            until_idle: true,
            max_outstanding: OUTSTANDING_MAX,
            always_authorizes: self.consumers[number].always_authorizes,
            ..leasing_for(self.consumers[number].lease_seconds)
        };
        let service = &world.replicas[replica].service;
        let opened = service.stream_due_notifications(asked(wishes)).await;
        let mut events = opened.expect("a stream").into_inner();
        let mut taken = Vec::new();
        while let Some(event) = within(events.next()).await {
            if let Some(Event::Due(due)) = event.expect("it ends well").event {
                taken.push(due);
            }
        }
        let labels: Vec<_> = taken.iter().map(|it| world.log.message(it)).collect();
        world
            .log
            .add(format!("{number} takes from {replica}: {labels:?}"));
        taken
    }

    fn hold(&mut self, world: &mut World, number: usize, taken: Vec<v1::DueNotification>) {
        for due in taken {
            let ends = due.lease_expire_time.expect("an end").seconds;
            let received = world.tick();
            world.history.leases.push(Lease {
                message: name(&due),
                token: due.lease_token.clone(),
                received,
                begins: ends - self.consumers[number].lease_seconds,
                ends,
                is_withdrawal: is_withdrawal(&due),
                possible_repeat: due.possible_repeat,
                is_protected: due.protection() != v1::Protection::Unspecified,
            });
            self.consumers[number].held.push(Held {
                due,
                permitted_until: None,
                says: None,
            });
        }
    }

    /// A consumer goes on with one of its messages.
    pub async fn deliver(&mut self, world: &mut World) {
        let holding: Vec<_> = (0..self.consumers.len())
            .filter(|it| !self.consumers[*it].held.is_empty())
            .collect();
        if holding.is_empty() {
            return;
        }
        let number = world.rng.pick(&holding);
        let count = self.consumers[number].held.len() as u64;
        let at = usize::try_from(world.rng.below(count)).expect("a small number");
        let held = self.consumers[number].held.remove(at);
        let kept = self.work(world, number, held).await;
        self.consumers[number].held.extend(kept);
    }

    /// Every consumer takes what is due from every replica, and delivers all of it.
    pub async fn deliver_all(&mut self, world: &mut World) {
        for number in 0..self.consumers.len() {
            for replica in 0..world.replicas.len() {
                let taken = self.leased(world, number, replica).await;
                self.hold(world, number, taken);
                while let Some(held) = self.consumers[number].held.pop() {
                    let kept = self.work(world, number, held).await;
                    self.consumers[number].held.extend(kept);
                }
            }
        }
    }

    /// A consumer dies, with all that it has.
    pub fn die(&mut self, world: &mut World) {
        let count = self.consumers.len() as u64;
        let number = usize::try_from(world.rng.below(count)).expect("a small number");
        self.consumers[number].held.clear();
        world.log.add(format!("{number} dies"));
    }

    /// A replica releases what it could not deliver, perhaps long after.
    pub async fn release(&mut self, world: &mut World) {
        let leases = std::mem::take(&mut self.undelivered);
        if leases.is_empty() {
            return;
        }
        let replica = world.any_replica();
        world
            .log
            .add(format!("{replica} releases {}", leases.len()));
        let store = &world.replicas[replica].service.store;
        store.release_leases(leases).await.expect("released");
    }

    /// The next step with a message. Returns it, unless it is done with.
    async fn work(&mut self, world: &mut World, number: usize, mut held: Held) -> Option<Held> {
        if held.says.is_some() {
            return self.acknowledge(world, held).await;
        }
        let name = name(&held.due);
        if self.journal.contains_key(&name) {
            return self.say(world, held, Outcome::Sent).await;
        }
        if world.goes_wrong(self.forgotten_percent) {
            let label = world.log.message(&held.due);
            world.log.add(format!("{number} forgets {label}"));
            return None;
        }
        if world.goes_wrong(6) {
            return self.say(world, held, Outcome::Retry).await;
        }
        if world.goes_wrong(4) {
            return self.say(world, held, Outcome::Unreachable).await;
        }
        let asks = self.consumers[number].always_authorizes || world.goes_wrong(50);
        if asks && held.permitted_until.is_none() {
            return authorize(world, held).await;
        }
        let lease_ends = held.due.lease_expire_time.expect("an end").seconds;
        let ends = held.permitted_until.unwrap_or(lease_ends);
        let label = world.log.message(&held.due);
        if ends <= world.clock() {
            world.log.add(format!("{number} is too late for {label}"));
            return None;
        }
        world.log.add(format!("{number} hands {label} over"));
        self.journal
            .insert(name.clone(), render_instant(world.now()));
        let hand_over = HandOver {
            message: name,
            at: world.tick(),
            clock: world.clock(),
        };
        world.history.hand_overs.push(hand_over);
        held.says = Some((Outcome::Sent, begin(world, &held.due, Outcome::Sent)));
        Some(held)
    }

    async fn say(&mut self, world: &mut World, mut held: Held, outcome: Outcome) -> Option<Held> {
        held.says = Some((outcome, begin(world, &held.due, outcome)));
        self.acknowledge(world, held).await
    }

    /// Acknowledges; keeps the message for another time if the answer is lost.
    async fn acknowledge(&mut self, world: &mut World, held: Held) -> Option<Held> {
        let (outcome, number) = held.says.expect("it has something to say");
        let journal = || self.journal.get(&name(&held.due)).copied();
        let acknowledgement = outcome.acknowledgement(&held.due, journal);
        let call = v1::AcknowledgeNotificationsRequest {
            acknowledgements: vec![acknowledgement],
        };
        let replica = world.any_replica();
        let service = &world.replicas[replica].service;
        let answer = service.acknowledge_notifications(asked(call)).await;
        let result = answer.expect("an answer").into_inner().results.remove(0);
        let label = world.log.message(&held.due);
        if world.is_lost() {
            world
                .log
                .add(format!("{outcome:?} of {label} at {replica}: lost"));
            return Some(held);
        }
        let refusal = result.refusal().as_str_name();
        world
            .log
            .add(format!("{outcome:?} of {label} at {replica}: {refusal}"));
        let ended = world.tick();
        let answered = &mut world.history.acknowledgements[number];
        (answered.span.ended, answered.is_recorded) = (ended, result.recorded);
        None
    }
}

/// Writes down that a consumer is about to say this of a message.
fn begin(world: &mut World, due: &v1::DueNotification, outcome: Outcome) -> usize {
    let began = world.tick();
    let unanswered = Acknowledgement {
        message: name(due),
        token: due.lease_token.clone(),
        outcome,
        span: Span {
            began,
            ended: Micros::MAX,
        },
        is_recorded: false,
    };
    world.history.acknowledgements.push(unanswered);
    world.history.acknowledgements.len() - 1
}

/// Asks for permission. A message that may not be handed over is done with.
async fn authorize(world: &mut World, mut held: Held) -> Option<Held> {
    let began = world.tick();
    let call = v1::AuthorizeDispatchRequest {
        leases: vec![lease(&held.due)],
    };
    let replica = world.any_replica();
    let service = &world.replicas[replica].service;
    let answer = service.authorize_dispatch(asked(call)).await;
    let answer = answer.expect("an answer").into_inner();
    let label = world.log.message(&held.due);
    if world.is_lost() {
        world
            .log
            .add(format!("permission for {label} at {replica}: lost"));
        return Some(held);
    }
    let result = &answer.results[0];
    let refusal = result.refusal().as_str_name();
    world
        .log
        .add(format!("permission for {label} at {replica}: {refusal}"));
    let until = result
        .authorized
        .then(|| answer.expire_time.expect("an end").seconds);
    let ended = world.tick();
    world.history.authorizations.push(Authorization {
        message: name(&held.due),
        token: held.due.lease_token.clone(),
        is_withdrawal: is_withdrawal(&held.due),
        span: Span { began, ended },
        until,
    });
    held.permitted_until = Some(until?);
    Some(held)
}

fn is_withdrawal(due: &v1::DueNotification) -> bool {
    message(due).kind() == v1::NotificationKind::Withdrawal
}

/// The lease of a message, as the store has it.
fn reference(due: &v1::DueNotification) -> LeaseRef {
    let name = name(due);
    let parts: Vec<&str> = name.split('/').collect();
    let [_, care_unit, _, request, _, notification] = parts[..] else {
        panic!("not the name of a message: {name}");
    };
    let id = |text: &str| text.parse::<Uuid>().expect("an id");
    LeaseRef {
        request: RequestKey {
            care_unit: HsaId::parse(care_unit).expect("a care unit"),
            id: id(request),
        },
        notification: id(notification),
        token: id(&due.lease_token),
    }
}
