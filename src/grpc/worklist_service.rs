//! WorklistService: pages, counts and watches of the lists that staff work from.

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::{Service, fill_page};
use crate::contract::v1::worklist_service_server::WorklistService;
use crate::contract::{booking_request, v1, worklist};
use crate::dispatch::WatchEvent;
use crate::domain::RegionPolicy;
use crate::domain::calendar::Instant;

#[tonic::async_trait]
impl WorklistService for Service {
    async fn list_worklist(
        &self,
        request: Request<v1::ListWorklistRequest>,
    ) -> Result<Response<v1::ListWorklistResponse>, Status> {
        let list = worklist::parse_list(request.into_inner())?;
        let now = self.clock.now();
        let (after, limit) = (list.after.as_ref(), list.page_size + 1);
        let found = self
            .store
            .list_worklist(&list.query, now, after, limit)
            .await?;
        let rendered = found.into_iter().map(|(cursor, record)| {
            let render = |record| booking_request::render(&record, now, &self.policy);
            (cursor, record.map(render))
        });
        let (booking_requests, last) = fill_page(rendered, list.page_size);
        let next = last.map(|cursor| worklist::next_page_token(&list.query, &cursor));
        Ok(Response::new(v1::ListWorklistResponse {
            booking_requests,
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn count_worklists(
        &self,
        request: Request<v1::CountWorklistsRequest>,
    ) -> Result<Response<v1::CountWorklistsResponse>, Status> {
        let care_units = worklist::parse_count(request.into_inner())?;
        let counts = self.store.counts(&care_units, self.clock.now()).await?;
        Ok(Response::new(worklist::render_counts(&counts)))
    }

    type WatchWorklistStream =
        Pin<Box<dyn Stream<Item = Result<v1::WatchWorklistResponse, Status>> + Send>>;

    async fn watch_worklist(
        &self,
        request: Request<v1::WatchWorklistRequest>,
    ) -> Result<Response<Self::WatchWorklistStream>, Status> {
        let query = worklist::parse_watch(request.into_inner())?;
        let watch = self.dispatch.watch(query)?;
        let (clock, policy) = (self.clock.clone(), self.policy);
        let events = watch.map(move |event| Ok(render(event?, clock.now(), &policy)));
        Ok(Response::new(Box::pin(events)))
    }
}

fn render(event: WatchEvent, now: Instant, policy: &RegionPolicy) -> v1::WatchWorklistResponse {
    match event {
        WatchEvent::Upserted(record) => worklist::render_upserted(&record, now, policy),
        WatchEvent::Removed(key) => worklist::render_removed(&key),
        WatchEvent::SnapshotComplete => worklist::render_snapshot_complete(),
        WatchEvent::Heartbeat => worklist::render_heartbeat(),
    }
}
