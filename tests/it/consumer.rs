//! A consumer of due messages, written as an adapter would be: opens a stream, reads, answers.

use care_invitation::contract::v1;
use care_invitation::contract::v1::acknowledgement::Outcome;
use care_invitation::contract::v1::stream_due_notifications_response::Event;
use prost_types::Duration;
use tonic::{Status, Streaming};

use crate::harness::{Harness, within};

/// One open stream.
pub struct Consumer {
    events: Streaming<v1::StreamDueNotificationsResponse>,
}

impl Consumer {
    /// Opens a stream; it must be taken on.
    pub async fn open(harness: &Harness, wishes: v1::StreamDueNotificationsRequest) -> Self {
        Self::try_open(harness, wishes).await.expect("a stream")
    }

    pub async fn try_open(
        harness: &Harness,
        wishes: v1::StreamDueNotificationsRequest,
    ) -> Result<Self, Status> {
        let answer = within(harness.notifications().stream_due_notifications(wishes)).await?;
        let events = answer.into_inner();
        Ok(Self { events })
    }

    /// What comes next; none at an end with OK.
    pub async fn next(&mut self) -> Result<Option<Event>, Status> {
        let said = within(self.events.message()).await?;
        Ok(said.map(|said| {
            assert!(said.server_time.is_some(), "every event says when");
            said.event.expect("an event")
        }))
    }

    /// The message that comes next; anything else is a failure.
    pub async fn due(&mut self) -> v1::DueNotification {
        match self.next().await {
            Ok(Some(Event::Due(due))) => due,
            other => panic!("a message was to come, not {other:?}"),
        }
    }

    /// The same message as before, leased again at once. That its earlier lease was revoked is said first, or
    /// not at all.
    pub async fn due_again(&mut self, before: &v1::DueNotification) -> v1::DueNotification {
        let again = match self.next().await {
            Ok(Some(Event::Due(due))) => due,
            Ok(Some(Event::Revoked(revoked))) => {
                assert_eq!(revoked, name(before));
                self.due().await
            }
            other => panic!("a message was to come again, not {other:?}"),
        };
        assert_eq!(name(&again), name(before));
        again
    }

    /// So many messages, in the order in which they come.
    pub async fn take(&mut self, count: usize) -> Vec<v1::DueNotification> {
        let mut taken = Vec::new();
        for _ in 0..count {
            taken.push(self.due().await);
        }
        taken
    }

    /// The name of the message that is taken back next; anything else is a failure.
    pub async fn revoked(&mut self) -> String {
        match self.next().await {
            Ok(Some(Event::Revoked(name))) => name,
            other => panic!("a message was to be taken back, not {other:?}"),
        }
    }

    /// Reads the end, which must come next and be OK.
    pub async fn ended(mut self) {
        match self.next().await {
            Ok(None) => {}
            other => panic!("the stream was to end, not to give {other:?}"),
        }
    }
}

/// A stream of everything that waits for more.
pub fn everything() -> v1::StreamDueNotificationsRequest {
    v1::StreamDueNotificationsRequest::default()
}

/// A stream that holds so many unanswered.
pub fn at_most(max_outstanding: i32) -> v1::StreamDueNotificationsRequest {
    v1::StreamDueNotificationsRequest {
        max_outstanding,
        ..Default::default()
    }
}

/// A stream whose leases last so long.
pub fn leasing_for(seconds: i64) -> v1::StreamDueNotificationsRequest {
    v1::StreamDueNotificationsRequest {
        lease_duration: Some(Duration { seconds, nanos: 0 }),
        ..Default::default()
    }
}

/// The one message that is due, leased for so many seconds by a consumer that then goes.
pub async fn lease_one(harness: &Harness, seconds: i64) -> v1::DueNotification {
    let wishes = v1::StreamDueNotificationsRequest {
        until_idle: true,
        ..leasing_for(seconds)
    };
    let mut consumer = Consumer::open(harness, wishes).await;
    let due = consumer.due().await;
    // Its end is awaited, for a stream that is still open would lease the message again.
    consumer.ended().await;
    due
}

/// The message itself.
pub fn message(due: &v1::DueNotification) -> &v1::Notification {
    due.notification.as_ref().expect("a message")
}

/// Kind of a message, and which one of its round it is if it is a reminder.
pub type Step = (v1::NotificationKind, i32);

pub fn step(message: &v1::Notification) -> Step {
    (message.kind(), message.sequence)
}

/// The name by which a repeat is recognised.
pub fn name(due: &v1::DueNotification) -> String {
    message(due).name.clone()
}

pub fn lease(due: &v1::DueNotification) -> v1::Lease {
    v1::Lease {
        name: name(due),
        lease_token: due.lease_token.clone(),
    }
}

/// The answer that a message was handed over now.
pub fn sent(due: &v1::DueNotification) -> v1::Acknowledgement {
    v1::Acknowledgement {
        lease: Some(lease(due)),
        outcome: Outcome::Sent.into(),
        ..Default::default()
    }
}

/// The answer that a message is to be tried again.
pub fn retry(due: &v1::DueNotification) -> v1::Acknowledgement {
    v1::Acknowledgement {
        outcome: Outcome::Retry.into(),
        ..sent(due)
    }
}

/// The names of an answer, by what came of them.
pub trait Outcomes {
    fn authorized(&self) -> Vec<String>;
    fn refused(&self) -> Vec<String>;
}

impl Outcomes for v1::AuthorizeDispatchResponse {
    fn authorized(&self) -> Vec<String> {
        let named = self.results.iter().filter(|it| it.authorized);
        named.map(|it| it.name.clone()).collect()
    }

    fn refused(&self) -> Vec<String> {
        let named = self.results.iter().filter(|it| !it.authorized);
        named.map(|it| it.name.clone()).collect()
    }
}

/// Returns the paths of the bad fields of an element, in alphabetical order.
pub fn element_fields(error: &v1::ElementError) -> Vec<&str> {
    let fields = error.field_violations.iter();
    let mut fields: Vec<_> = fields.map(|it| it.field.as_str()).collect();
    fields.sort_unstable();
    fields
}

/// Returns the names of those that are lost.
pub fn lost(answer: &v1::AcknowledgeNotificationsResponse) -> Vec<String> {
    let lost = answer.results.iter();
    let lost = lost.filter(|it| it.refusal() == v1::DispatchRefusal::Lost);
    lost.map(|it| it.name.clone()).collect()
}

/// Answers for messages; says which are lost.
pub async fn acknowledge(
    harness: &Harness,
    acknowledgements: Vec<v1::Acknowledgement>,
) -> Result<Vec<String>, Status> {
    Ok(lost(&results(harness, acknowledgements).await?))
}

/// Acknowledges messages; returns what came of each.
pub async fn results(
    harness: &Harness,
    acknowledgements: Vec<v1::Acknowledgement>,
) -> Result<v1::AcknowledgeNotificationsResponse, Status> {
    let call = v1::AcknowledgeNotificationsRequest { acknowledgements };
    let answer = within(harness.notifications().acknowledge_notifications(call)).await?;
    Ok(answer.into_inner())
}

/// Answers for one message, of which the lease must not be lost.
pub async fn answer(harness: &Harness, acknowledgement: v1::Acknowledgement) {
    let lost = acknowledge(harness, vec![acknowledgement]).await;
    assert!(lost.expect("taken").is_empty(), "the lease is lost");
}

/// Asks leave to hand messages over.
pub async fn authorize(
    harness: &Harness,
    leases: Vec<v1::Lease>,
) -> Result<v1::AuthorizeDispatchResponse, Status> {
    let call = v1::AuthorizeDispatchRequest { leases };
    let answer = within(harness.notifications().authorize_dispatch(call)).await?;
    Ok(answer.into_inner())
}
