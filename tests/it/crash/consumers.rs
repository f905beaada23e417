//! What adapters do: stream, look into the journal, authorize, hand over, acknowledge, at full speed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use care_invitation::contract::v1;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::contract::v1::stream_due_notifications_response::Event;
use prost_types::Timestamp;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::history::{
    Acknowledgement, Authorization, HandOver, Lease, Micros, Outcome, Recorder, Span,
};
use super::servers::Servers;
use crate::consumer::{lease, leasing_for, message, name, sent};
use crate::model::rng::Rng;

/// How long a consumer waits before it comes again.
const PAUSE: Duration = Duration::from_millis(20);

/// All consumers, who share a journal.
pub struct Consumers {
    servers: Arc<Servers>,
    recorder: Arc<Recorder>,
    /// The names that were handed over, with the times.
    journal: Mutex<HashMap<String, Timestamp>>,
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
}

impl Consumers {
    pub fn new(servers: Arc<Servers>, recorder: Arc<Recorder>) -> Self {
        Self {
            servers,
            recorder,
            journal: Mutex::default(),
        }
    }

    /// Takes what is due for as long as it lives.
    pub async fn consume(self: Arc<Self>, habits: Habits, mut rng: Rng) {
        let wishes = v1::StreamDueNotificationsRequest {
            max_outstanding: 20,
            always_authorizes: habits.always_authorizes,
            ..leasing_for(habits.lease_seconds)
        };
        let mut work = JoinSet::new();
        for server in habits.server.. {
            let channel = self.servers.channel(server).await;
            let mut client = NotificationServiceClient::new(channel);
            let opened = client.stream_due_notifications(wishes.clone()).await;
            if let Ok(answer) = opened {
                let mut events = answer.into_inner();
                while let Ok(Some(said)) = events.message().await {
                    if let Some(Event::Due(due)) = said.event {
                        self.take(&due, habits.lease_seconds);
                        let delivery = Delivery {
                            consumers: self.clone(),
                            rng: Rng::new(rng.next()),
                            habits,
                            due,
                        };
                        work.spawn(delivery.run());
                    }
                    while let Some(ended) = work.try_join_next() {
                        ended.expect("no panic");
                    }
                }
            }
            sleep(PAUSE).await;
        }
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
        let now = care_invitation::contract::calendar::render_instant(self.servers.now());
        journal.insert(name.to_owned(), now);
        let message = name.to_owned();
        let at = self.recorder.now();
        self.recorder
            .add(|history| history.hand_overs.push(HandOver { message, at }));
        now
    }

    fn is_handed_over(&self, name: &str) -> bool {
        let journal = self.journal.lock().expect("no test panics in here");
        journal.contains_key(name)
    }
}

fn is_withdrawal(due: &v1::DueNotification) -> bool {
    message(due).kind() == v1::NotificationKind::Withdrawal
}

/// What becomes of one message.
struct Delivery {
    consumers: Arc<Consumers>,
    rng: Rng,
    habits: Habits,
    due: v1::DueNotification,
}

impl Delivery {
    async fn run(mut self) {
        let name = name(&self.due);
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
        self.consumers.hand_over(&name);
        self.acknowledge(Outcome::Sent).await;
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
        let mut acknowledgement = sent(&self.due);
        match outcome {
            Outcome::Sent => {
                acknowledgement.send_time = Some(self.consumers.hand_over(&name(&self.due)));
            }
            Outcome::Retry => {
                acknowledgement.set_outcome(v1::acknowledgement::Outcome::Retry);
                acknowledgement.retry_delay = Some(prost_types::Duration {
                    seconds: 1,
                    nanos: 0,
                });
            }
            Outcome::Unreachable => {
                acknowledgement.set_outcome(v1::acknowledgement::Outcome::Unreachable);
            }
        }
        let call = v1::AcknowledgeNotificationsRequest {
            acknowledgements: vec![acknowledgement],
        };
        let (span, answer) = self
            .answered(|mut client| {
                let call = call.clone();
                async move { client.acknowledge_notifications(call).await }
            })
            .await;
        let acknowledgement = Acknowledgement {
            message: name(&self.due),
            token: self.due.lease_token.clone(),
            outcome,
            span,
            is_recorded: answer.results[0].recorded,
        };
        self.consumers
            .recorder
            .add(|history| history.acknowledgements.push(acknowledgement));
    }

    /// Makes a call until it is answered, by any server.
    async fn answered<T, F: Future<Output = Result<Response<T>, Status>>>(
        &mut self,
        call: impl Fn(NotificationServiceClient<Channel>) -> F,
    ) -> (Span, T) {
        let began: Micros = self.consumers.recorder.now();
        loop {
            let channel = self.consumers.servers.channel(self.habits.server).await;
            if let Ok(answer) = call(NotificationServiceClient::new(channel)).await {
                let ended = self.consumers.recorder.now();
                return (Span { began, ended }, answer.into_inner());
            }
            self.habits.server += 1;
            sleep(PAUSE).await;
        }
    }
}
