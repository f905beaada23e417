//! Consumers of due messages, as adapters are: each reads its stream, and acknowledges what has
//! come in the meantime, together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use care_invitation::contract::v1;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::contract::v1::stream_due_notifications_response::Event;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::{Outcome, make};

/// How many messages one acknowledgement names at the most.
pub const ACKNOWLEDGE_MAX: usize = 256;
/// How many messages a consumer has at once: as many as it may.
pub const OUTSTANDING_MAX: i32 = 1_000;
/// How often is looked whether consumers have come far enough.
const LOOK: Duration = Duration::from_millis(1);

/// What consumers have done so far.
#[derive(Debug, Default)]
pub struct Progress {
    received: AtomicU64,
    acknowledged: AtomicU64,
    calls: AtomicU64,
}

impl Progress {
    /// Waits until so many messages have been received.
    pub async fn received(&self, count: u64) {
        self.reach(&self.received, count).await;
    }

    /// Waits until so many messages have been acknowledged.
    pub async fn acknowledged(&self, count: u64) {
        self.reach(&self.acknowledged, count).await;
    }

    async fn reach(&self, reached: &AtomicU64, count: u64) {
        // Looked at now and then: to be told of each message would itself be load.
        while reached.load(Ordering::Relaxed) < count {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How many messages an acknowledgement has named, on average.
    pub fn batch(&self) -> f64 {
        let calls = self.calls.load(Ordering::Relaxed).max(1);
        self.acknowledged.load(Ordering::Relaxed) as f64 / calls as f64
    }
}

/// Consumers at work; they end when this is dropped.
pub struct Consumers {
    /// What they have done.
    pub progress: Arc<Progress>,
    tasks: JoinSet<Outcome<()>>,
}

impl Consumers {
    /// Starts a consumer on each of these connections. `seen` is told of each message as it comes.
    pub fn start(
        channels: Vec<Channel>,
        seen: impl Fn(&v1::DueNotification, Instant) + Clone + Send + 'static,
    ) -> Self {
        let progress = Arc::new(Progress::default());
        let mut tasks = JoinSet::new();
        for channel in channels {
            let (due, arrived) = mpsc::unbounded_channel();
            let client = NotificationServiceClient::new(channel);
            tasks.spawn(read(
                client.clone(),
                due,
                seen.clone(),
                Arc::clone(&progress),
            ));
            tasks.spawn(acknowledge(client, arrived, Arc::clone(&progress)));
        }
        Self { progress, tasks }
    }

    /// Waits for a fact that they bring about.
    ///
    /// # Errors
    ///
    /// One of them ends before.
    pub async fn until<T>(&mut self, fact: impl Future<Output = T>) -> Outcome<T> {
        tokio::select! {
            fact = fact => Ok(fact),
            ended = self.tasks.join_next() => match ended {
                Some(Ok(Err(error))) => Err(error),
                _ => Err("a consumer ended by itself".into()),
            },
        }
    }
}

/// Opens a stream of due messages.
pub async fn open(
    client: &mut NotificationServiceClient<Channel>,
    outstanding_max: i32,
) -> Outcome<Streaming<v1::StreamDueNotificationsResponse>> {
    Ok(client
        .stream_due_notifications(make::stream(outstanding_max))
        .await?
        .into_inner())
}

/// The next message on a stream.
pub async fn next(
    events: &mut Streaming<v1::StreamDueNotificationsResponse>,
) -> Outcome<v1::DueNotification> {
    loop {
        let event = events.message().await?.ok_or("the stream has ended")?;
        if let Some(Event::Due(due)) = event.event {
            return Ok(due);
        }
    }
}

async fn read(
    mut client: NotificationServiceClient<Channel>,
    arrived: mpsc::UnboundedSender<v1::Acknowledgement>,
    seen: impl Fn(&v1::DueNotification, Instant),
    progress: Arc<Progress>,
) -> Outcome<()> {
    let mut events = open(&mut client, OUTSTANDING_MAX).await?;
    loop {
        let due = next(&mut events).await?;
        seen(&due, Instant::now());
        arrived.send(make::sent(&due))?;
        progress.received.fetch_add(1, Ordering::Relaxed);
    }
}

async fn acknowledge(
    mut client: NotificationServiceClient<Channel>,
    mut arrived: mpsc::UnboundedReceiver<v1::Acknowledgement>,
    progress: Arc<Progress>,
) -> Outcome<()> {
    let mut batch = Vec::new();
    while arrived.recv_many(&mut batch, ACKNOWLEDGE_MAX).await > 0 {
        let count = batch.len() as u64;
        let call = v1::AcknowledgeNotificationsRequest {
            acknowledgements: std::mem::take(&mut batch),
        };
        let answer = client.acknowledge_notifications(call).await?.into_inner();
        let lost = answer.results.iter().filter(|it| !it.recorded).count();
        if lost > 0 {
            return Err(format!("{} leases were lost", lost).into());
        }
        progress.calls.fetch_add(1, Ordering::Relaxed);
        progress.acknowledged.fetch_add(count, Ordering::Relaxed);
    }
    Ok(())
}
