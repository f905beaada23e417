//! WorklistService: pages, counts and watches of the lists that staff work from.

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::caller::caller;
use super::write::shown_to;
use super::{Service, fill_page};
use crate::auth::caller::Caller;
use crate::contract::v1::worklist_service_server::WorklistService;
use crate::contract::view::View;
use crate::contract::worklist::care_units;
use crate::contract::{v1, worklist};
use crate::dispatch::WatchEvent;
use crate::domain::care_units::CareUnits;
use crate::domain::worklist::query::Query;

#[tonic::async_trait]
impl WorklistService for Service {
    async fn list_worklist(
        &self,
        request: Request<v1::ListWorklistRequest>,
    ) -> Result<Response<v1::ListWorklistResponse>, Status> {
        let caller = caller(&request);
        let list = worklist::parse_list(request.into_inner())?;
        let (query, now) = (visible(&caller, &list.query), self.clock.now());
        let (after, limit) = (list.after.as_ref(), list.page_size + 1);
        let found = self.store.list_worklist(&query, now, after, limit).await?;
        let total_size = match list.include_total_size {
            true => Some(self.store.total(&query, now).await?),
            false => None,
        };
        let policy = self.policy();
        let rendered = found.into_iter().map(|(cursor, record)| {
            let render = |record| shown_to(&caller, list.view.render(&record, now, &policy));
            (cursor, record.map(render))
        });
        let (booking_requests, last) = fill_page(rendered, list.page_size);
        let next = last.map(|cursor| worklist::next_page_token(&list.query, &cursor));
        Ok(Response::new(v1::ListWorklistResponse {
            booking_requests,
            next_page_token: next.unwrap_or_default(),
            total_size,
        }))
    }

    async fn count_worklists(
        &self,
        request: Request<v1::CountWorklistsRequest>,
    ) -> Result<Response<v1::CountWorklistsResponse>, Status> {
        let caller = caller(&request);
        let count = worklist::parse_count(request.into_inner())?;
        let (query, now) = (visible(&caller, &count.query), self.clock.now());
        let counts = self.store.counts(&query, now).await?;
        Ok(Response::new(worklist::render_counts(&count, &counts)))
    }

    async fn list_care_units(
        &self,
        request: Request<v1::ListCareUnitsRequest>,
    ) -> Result<Response<v1::ListCareUnitsResponse>, Status> {
        let caller = caller(&request);
        let list = care_units::parse_list(request.into_inner())?;
        let seen = caller.visible(CareUnits::Every);
        let (after, limit) = (list.after.as_ref(), list.page_size + 1);
        let found = self.store.care_units(&seen, after, limit).await?;
        Ok(Response::new(care_units::render_list(
            found,
            list.page_size,
        )))
    }

    type WatchWorklistStream =
        Pin<Box<dyn Stream<Item = Result<v1::WatchWorklistResponse, Status>> + Send>>;

    async fn watch_worklist(
        &self,
        request: Request<v1::WatchWorklistRequest>,
    ) -> Result<Response<Self::WatchWorklistStream>, Status> {
        let caller = caller(&request);
        let watch = worklist::parse_watch(request.into_inner())?;
        let events = self.dispatch.watch(visible(&caller, &watch.query))?;
        let (service, view) = (self.clone(), watch.view);
        let events = events.map(move |event| Ok(service.render_event(&caller, event?, view)));
        Ok(Response::new(Box::pin(events)))
    }
}

/// Returns the query with those of its care units that the caller may see, and without patients that no identity
/// number finds for the caller.
fn visible(caller: &Caller, query: &Query) -> Query {
    let care_units = caller.visible(query.care_units.clone());
    Query {
        care_units,
        hides_protected: caller.hides_protected(),
        ..query.clone()
    }
}

impl Service {
    fn render_event(
        &self,
        caller: &Caller,
        event: WatchEvent,
        view: View,
    ) -> v1::WatchWorklistResponse {
        match event {
            WatchEvent::Upserted(record, worklists) => {
                let (now, policy) = (self.clock.now(), self.policy());
                let request = shown_to(caller, view.render(&record, now, &policy));
                worklist::render_upserted(request, &worklists)
            }
            WatchEvent::Removed(key) => worklist::render_removed(&key),
            WatchEvent::SnapshotComplete => worklist::render_snapshot_complete(),
            WatchEvent::Heartbeat => worklist::render_heartbeat(),
        }
    }
}
