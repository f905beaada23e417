//! What adapters do: stream, look into the journal, authorize, hand over, acknowledge, at full speed.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use care_invitation::contract::calendar::render_instant;
use care_invitation::contract::v1;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::contract::v1::stream_due_notifications_response::Event;
use prost_types::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::clients::ANSWER_MAX;
use super::history::{
    Acknowledgement, Authorization, HandOver, Lease, Micros, Outcome, Recorder, Span,
};
use super::servers::Servers;
use crate::consumer::{lease, leasing_for, message, name};
use crate::model::rng::Rng;

/// How long a consumer waits before it comes again.
const PAUSE: Duration = Duration::from_millis(20);

/// All consumers, who share a journal.
pub struct Consumers {
    servers: Arc<Servers>,
    recorder: Arc<Recorder>,
    /// The names that were handed over, with the times.
    journal: Mutex<HashMap<String, Timestamp>>,
    deaths: AtomicUsize,
}

/// Habits of a consumer.
#[derive(Clone, Copy)]
pub struct Habits {
    /// Which server it goes to first.
    pub server: usize,
    /// How long its leases last.
    pub lease_seconds: i64,
    /// Whether it promises never to hand over without permission.
    pub always_authorizes: bool,
    /// How often in a hundred times it dies at each step of a delivery.
    pub deaths_percent: u64,
}

impl Consumers {
    pub fn new(servers: Arc<Servers>, recorder: Arc<Recorder>) -> Self {
        Self {
            servers,
            recorder,
            journal: Mutex::default(),
            deaths: AtomicUsize::default(),
        }
    }

    /// Takes what is due, as a consumer that is started again whenever it has died.
    pub async fn consume(self: Arc<Self>, habits: Habits, mut rng: Rng) {
        loop {
            let death = CancellationToken::new();
            let mut life = Life {
                consumers: self.clone(),
                habits,
                rng: Rng::new(rng.next()),
                death: death.clone(),
                work: JoinSet::new(),
            };
            tokio::select! {
                () = death.cancelled() => {}
                () = life.live() => {}
            }
            life.work.shutdown().await;
        }
    }

    /// How often a consumer has died.
    pub fn deaths(&self) -> usize {
        self.deaths.load(Ordering::Relaxed)
    }

    /// Writes down that a message has come.
    fn take(&self, due: &v1::DueNotification, lease_seconds: i64) {
        let ends = due.lease_expire_time.expect("an end").seconds;
        let lease = Lease {
            message: name(due),
            token: due.lease_token.clone(),
            received: self.recorder.now(),
            begins: ends - lease_seconds,
            ends,
            is_withdrawal: is_withdrawal(due),
            possible_repeat: due.possible_repeat,
            is_protected: due.protection() != v1::Protection::Unspecified,
        };
        self.recorder.add(|history| history.leases.push(lease));
    }

    /// Hands a message over, unless the journal has it. Returns the time in the journal.
    fn hand_over(&self, name: &str) -> Timestamp {
        let mut journal = self.journal.lock().expect("no test panics in here");
        if let Some(at) = journal.get(name) {
            return *at;
        }
        let now = self.servers.now();
        let clock = now.timestamp();
        let now = render_instant(now);
        journal.insert(name.to_owned(), now);
        let hand_over = HandOver {
            message: name.to_owned(),
            at: self.recorder.now(),
            clock,
        };
        self.recorder
            .add(|history| history.hand_overs.push(hand_over));
        now
    }

    fn is_handed_over(&self, name: &str) -> bool {
        let journal = self.journal.lock().expect("no test panics in here");
        journal.contains_key(name)
    }
}

/// A consumer from its start to its death.
struct Life {
    consumers: Arc<Consumers>,
    habits: Habits,
    rng: Rng,
    death: CancellationToken,
    /// What is being delivered.
    work: JoinSet<()>,
}

impl Life {
    /// Takes what is due, by one server after another.
    async fn live(&mut self) {
        let wishes = v1::StreamDueNotificationsRequest {
            max_outstanding: 20,
            always_authorizes: self.habits.always_authorizes,
            ..leasing_for(self.habits.lease_seconds)
        };
        for server in self.habits.server.. {
            let channel = self.consumers.servers.channel(server).await;
            let mut client = NotificationServiceClient::new(channel);
            let opened = client.stream_due_notifications(wishes.clone()).await;
            if let Ok(answer) = opened {
                let mut events = answer.into_inner();
                while let Ok(Some(said)) = events.message().await {
                    if let Some(Event::Due(due)) = said.event {
                        self.take(due);
                    }
                    while let Some(ended) = self.work.try_join_next() {
                        ended.expect("no panic");
                    }
                }
            }
            sleep(PAUSE).await;
        }
    }

    fn take(&mut self, due: v1::DueNotification) {
        self.consumers.take(&due, self.habits.lease_seconds);
        let delivery = Delivery {
            consumers: self.consumers.clone(),
            rng: Rng::new(self.rng.next()),
            habits: self.habits,
            death: self.death.clone(),
            due,
        };
        self.work.spawn(delivery.run());
    }
}

fn is_withdrawal(due: &v1::DueNotification) -> bool {
    message(due).kind() == v1::NotificationKind::Withdrawal
}

/// What becomes of one message.
struct Delivery {
    consumers: Arc<Consumers>,
    rng: Rng,
    death: CancellationToken,
    habits: Habits,
    due: v1::DueNotification,
}

impl Delivery {
    async fn run(mut self) {
        let name = name(&self.due);
        self.may_die().await;
        if self.consumers.is_handed_over(&name) {
            return self.acknowledge(Outcome::Sent).await;
        }
        let what = self.rng.below(100);
        match what {
            // The consumer forgets it, and the lease runs out.
            0..2 => return,
            2..8 => return self.acknowledge(Outcome::Retry).await,
            8..11 => return self.acknowledge(Outcome::Unreachable).await,
            _ => {}
        }
        let asks = self.habits.always_authorizes || self.rng.chance(50);
        if asks && !self.authorize().await {
            return;
        }
        self.may_die().await;
        self.consumers.hand_over(&name);
        self.may_die().await;
        self.acknowledge(Outcome::Sent).await;
    }

    /// Ends the consumer with all that it delivers, or not.
    async fn may_die(&mut self) {
        if self.rng.chance(self.habits.deaths_percent) {
            self.consumers.deaths.fetch_add(1, Ordering::Relaxed);
            self.death.cancel();
            pending::<()>().await;
        }
    }

    async fn authorize(&mut self) -> bool {
        let call = v1::AuthorizeDispatchRequest {
            leases: vec![lease(&self.due)],
        };
        let (span, answer) = self
            .answered(|mut client| {
                let call = call.clone();
                async move { client.authorize_dispatch(call).await }
            })
            .await;
        let until = answer.results[0]
            .authorized
            .then(|| answer.expire_time.expect("an end").seconds);
        let authorization = Authorization {
            message: name(&self.due),
            token: self.due.lease_token.clone(),
            is_withdrawal: is_withdrawal(&self.due),
            span,
            until,
        };
        self.consumers
            .recorder
            .add(|history| history.authorizations.push(authorization));
        until.is_some()
    }

    async fn acknowledge(&mut self, outcome: Outcome) {
        let hand_over = || Some(self.consumers.hand_over(&name(&self.due)));
        let acknowledgement = outcome.acknowledgement(&self.due, hand_over);
        let call = v1::AcknowledgeNotificationsRequest {
            acknowledgements: vec![acknowledgement],
        };
        let began = self.consumers.recorder.now();
        let unanswered = Acknowledgement {
            message: name(&self.due),
            token: self.due.lease_token.clone(),
            outcome,
            span: Span {
                began,
                ended: Micros::MAX,
            },
            is_recorded: false,
        };
        let number = self.consumers.recorder.add(|history| {
            history.acknowledgements.push(unanswered);
            history.acknowledgements.len() - 1
        });
        if self.rng.chance(self.habits.deaths_percent) {
            // It dies with the call on its way.
            self.death.cancel();
        }
        let (span, answer) = self
            .answered(|mut client| {
                let call = call.clone();
                async move { client.acknowledge_notifications(call).await }
            })
            .await;
        self.consumers.recorder.add(|history| {
            let answered = &mut history.acknowledgements[number];
            (answered.span, answered.is_recorded) = (span, answer.results[0].recorded);
        });
    }

    /// Makes a call until it is answered, by any server.
    async fn answered<T, F: Future<Output = Result<Response<T>, Status>>>(
        &mut self,
        call: impl Fn(NotificationServiceClient<Channel>) -> F,
    ) -> (Span, T) {
        let began: Micros = self.consumers.recorder.now();
        loop {
            let channel = self.consumers.servers.channel(self.habits.server).await;
            let called = call(NotificationServiceClient::new(channel));
            if let Ok(Ok(answer)) = timeout(ANSWER_MAX, called).await {
                let ended = self.consumers.recorder.now();
                return (Span { began, ended }, answer.into_inner());
            }
            self.habits.server += 1;
            sleep(PAUSE).await;
        }
    }
}
