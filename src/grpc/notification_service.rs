//! NotificationService: due notifications for consumers, and their acknowledgements and receipts.

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::caller::caller;
use super::{Service, element, fill_page, status};
use crate::clock::Clock;
use crate::contract::notification::list;
use crate::contract::notification::report_delivery::{
    Report, parse_reports, render_follow_up, render_reported,
};
use crate::contract::v1::notification_service_server::NotificationService;
use crate::contract::{notification, notification_name, v1};
use crate::dispatch::{Event, Filter};
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::{Instant, TimesAhead, times_ahead};
use crate::domain::care_units::CareUnits;
use crate::domain::notification::report_delivery::report_delivery;
use crate::domain::notification::{DispatchRefusal, LeaseRef};
use crate::store::error::Error;

#[tonic::async_trait]
impl NotificationService for Service {
    type StreamDueNotificationsStream =
        Pin<Box<dyn Stream<Item = Result<v1::StreamDueNotificationsResponse, Status>> + Send>>;

    async fn stream_due_notifications(
        &self,
        request: Request<v1::StreamDueNotificationsRequest>,
    ) -> Result<Response<Self::StreamDueNotificationsStream>, Status> {
        let caller = caller(&request);
        let filter = notification::parse_stream(request.into_inner())?;
        let named = filter.care_units.map_or(CareUnits::Every, CareUnits::These);
        let mut subscription = self.dispatch.subscribe(Filter {
            channels: filter.channels,
            care_units: caller.visible(named),
            outstanding_max: filter.max_outstanding as usize,
            lease_duration: filter.lease_duration,
            until_idle: filter.until_idle,
            always_authorizes: filter.always_authorizes,
            hides_protected: caller.hides_protected(),
        })?;
        let (clock, unsent) = (self.clock.clone(), subscription.keep_unsent());
        let events = subscription.map(move |event| render(event?, &clock));
        let mut response: Response<Self::StreamDueNotificationsStream> =
            Response::new(Box::pin(events));
        response.extensions_mut().insert(unsent);
        Ok(response)
    }

    async fn authorize_dispatch(
        &self,
        request: Request<v1::AuthorizeDispatchRequest>,
    ) -> Result<Response<v1::AuthorizeDispatchResponse>, Status> {
        let caller = caller(&request);
        let (leases, batch) = notification::parse_authorize(request.get_ref())?.split();
        let seen = |lease: LeaseRef| match caller.may_see(&lease.request.care_unit) {
            true => Ok(lease),
            false => Err(DispatchRefusal::Lost),
        };
        let (leases, places) = element::divide(leases.into_iter().map(seen).collect());
        let (service, hides_protected) = (self.clone(), caller.hides_protected());
        let context = move || service.context(&caller);
        let outcome = self.store.authorize(leases, hides_protected, context);
        let outcome = outcome.await?;
        let results = places.fill(outcome.results, |refusal| Ok(Some(refusal)));
        Ok(Response::new(notification::render_authorized(
            element::results(batch, results),
            outcome.expires_at,
            self.clock.now(),
        )))
    }

    async fn acknowledge_notifications(
        &self,
        request: Request<v1::AcknowledgeNotificationsRequest>,
    ) -> Result<Response<v1::AcknowledgeNotificationsResponse>, Status> {
        let caller = caller(&request);
        let (acknowledgements, batch) = notification::parse_acknowledge(request.get_ref())?.split();
        self.log_times_ahead(acknowledgements.iter().filter_map(|(_, it)| it.sent_at));
        let service = self.clone();
        let context = move || service.context(&caller);
        let acknowledged = self.store.acknowledge(acknowledgements, context).await?;
        Ok(Response::new(notification::render_acknowledged(
            element::results(batch, acknowledged),
        )))
    }

    async fn report_delivery(
        &self,
        request: Request<v1::ReportDeliveryRequest>,
    ) -> Result<Response<v1::ReportDeliveryResponse>, Status> {
        let caller = caller(&request);
        let (reports, batch) = parse_reports(request.get_ref())?.split();
        let seen = |it: Report| caller.require(&it.request.care_unit).map(|()| it);
        let (reports, places) = element::divide(reports.into_iter().map(seen).collect());
        self.log_times_ahead(reports.iter().filter_map(|it| it.event_time));
        let keys = reports.iter().map(|it| it.request.clone()).collect();
        let (service, decided) = (self.clone(), reports.clone());
        let decide = move |place: usize, record: &BookingRequest| {
            let it: &Report = &decided[place];
            let context = service.context(&caller);
            report_delivery(record, it.notification, it.receipt, it.event_time, &context)
        };
        let records = self.store.update_each(keys, decide).await?;
        let now = self.clock.now();
        let follow_up = |(it, record): (&Report, Result<BookingRequest, _>)| {
            record.map(|record| render_follow_up(&record, it.notification, it.receipt, now))
        };
        let follow_ups = reports.iter().zip(records).map(follow_up).collect();
        let follow_ups = places.fill(follow_ups, |refusal| Err(Error::Refused(refusal)));
        Ok(Response::new(render_reported(element::results(
            batch, follow_ups,
        ))))
    }

    async fn list_notifications(
        &self,
        request: Request<v1::ListNotificationsRequest>,
    ) -> Result<Response<v1::ListNotificationsResponse>, Status> {
        let caller = caller(&request);
        let page = list::parse_list(request.into_inner())?;
        let now = self.clock.now();
        let (after, limit) = (page.after.as_ref(), page.page_size + 1);
        let mut visible = page.filter.clone();
        visible.care_units.retain(|it| caller.may_see(it));
        let found = self
            .store
            .list_notifications(&visible, now, after, limit)
            .await?;
        let rendered = found.into_iter().map(|(cursor, record)| {
            let message = record.and_then(|it| list::render(&it, cursor.notification, now));
            (cursor, message)
        });
        let (notifications, last) = fill_page(rendered, page.page_size);
        let next = last.map(|cursor| list::next_page_token(&page.filter, &cursor));
        Ok(Response::new(v1::ListNotificationsResponse {
            notifications,
            next_page_token: next.unwrap_or_default(),
        }))
    }
}

impl Service {
    /// Logs times that are ahead of this server's clock: that clock, or the consumer's, is wrong.
    fn log_times_ahead(&self, times: impl Iterator<Item = Instant>) {
        let Some(TimesAhead { count, furthest }) = times_ahead(times, self.clock.now()) else {
            return;
        };
        let ahead_seconds = furthest.num_seconds();
        tracing::warn!(
            count,
            ahead_seconds,
            "times from a consumer are ahead of this server's clock and are taken as now"
        );
    }
}

fn render(event: Event, clock: &Clock) -> Result<v1::StreamDueNotificationsResponse, Status> {
    let now = clock.now();
    match event {
        Event::Due {
            record,
            lease,
            traceparent,
        } => {
            let notification = lease.notification;
            let due = notification::render_due(&record, notification, traceparent.as_deref(), now);
            due.ok_or_else(|| {
                tracing::error!(%notification, "leased notification missing from its request");
                status::internal()
            })
        }
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
