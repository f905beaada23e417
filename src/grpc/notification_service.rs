//! NotificationService.

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::auth::Caller;
use super::{Service, status};
use crate::clock::Clock;
use crate::contract::v1::notification_service_server::NotificationService;
use crate::contract::{notification, notification_name, v1};
use crate::dispatch::{Event, Filter};
use crate::domain::notification::Outcome;

#[tonic::async_trait]
impl NotificationService for Service {
    type StreamDueNotificationsStream =
        Pin<Box<dyn Stream<Item = Result<v1::StreamDueNotificationsResponse, Status>> + Send>>;

    async fn stream_due_notifications(
        &self,
        request: Request<v1::StreamDueNotificationsRequest>,
    ) -> Result<Response<Self::StreamDueNotificationsStream>, Status> {
        let subscription = notification::parse_stream(request.into_inner())?;
        let feed = self.dispatch.feed(Filter {
            channels: subscription.channels,
            care_units: subscription.care_units,
            outstanding_max: subscription.max_outstanding as usize,
            lease_duration: subscription.lease_duration,
            until_idle: subscription.until_idle,
        });
        let clock = self.clock.clone();
        let events = feed.map(move |event| render(event?, &clock));
        Ok(Response::new(Box::pin(events)))
    }

    async fn authorize_dispatch(
        &self,
        request: Request<v1::AuthorizeDispatchRequest>,
    ) -> Result<Response<v1::AuthorizeDispatchResponse>, Status> {
        let leases = notification::parse_authorize(request.into_inner())?;
        let given = self
            .store
            .authorize(leases, self.context(&Caller::anonymous()))
            .await?;
        Ok(Response::new(notification::render_authorized(
            &given.authorized,
            &given.refused,
            given.expires_at,
        )))
    }

    async fn acknowledge_notifications(
        &self,
        request: Request<v1::AcknowledgeNotificationsRequest>,
    ) -> Result<Response<v1::AcknowledgeNotificationsResponse>, Status> {
        let context = self.context(&Caller::anonymous());
        let answers = notification::parse_acknowledge(request.into_inner(), context.now)?;
        if !answers.iter().all(|(_, answer)| is_served(answer.outcome)) {
            return Err(status::unimplemented());
        }
        let answers = answers
            .into_iter()
            .map(|(key, it)| (key, it, self.clock.fresh_id()));
        let lost = self.store.settle(answers.collect(), context).await?;
        Ok(Response::new(notification::render_lost(&lost)))
    }

    async fn report_delivery(
        &self,
        _request: Request<v1::ReportDeliveryRequest>,
    ) -> Result<Response<v1::ReportDeliveryResponse>, Status> {
        Err(status::unimplemented())
    }

    async fn list_notifications(
        &self,
        _request: Request<v1::ListNotificationsRequest>,
    ) -> Result<Response<v1::ListNotificationsResponse>, Status> {
        Err(status::unimplemented())
    }
}

/// Whether the outcome is recorded. To take one and forget it would be worse than to refuse it.
fn is_served(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Sent | Outcome::Retry => true,
        Outcome::Unreachable | Outcome::Park => false,
    }
}

fn render(event: Event, clock: &Clock) -> Result<v1::StreamDueNotificationsResponse, Status> {
    let now = clock.now();
    match event {
        Event::Due { record, lease } => notification::render_due(&record, lease.notification, now)
            .ok_or_else(|| {
                tracing::error!(notification = %lease.notification, "leased and not there");
                status::internal()
            }),
        Event::Revoked {
            request,
            notification,
        } => {
            let name = notification_name(&request, notification);
            Ok(notification::render_revoked(name, now))
        }
        Event::Heartbeat => Ok(notification::render_heartbeat(now)),
    }
}
