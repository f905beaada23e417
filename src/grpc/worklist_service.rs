//! WorklistService.

use tokio_stream::Empty;
use tonic::{Request, Response, Status};

use super::{Service, fill_page, status};
use crate::contract::v1::worklist_service_server::WorklistService;
use crate::contract::{booking_request, v1, worklist};

#[tonic::async_trait]
impl WorklistService for Service {
    async fn list_worklist(
        &self,
        request: Request<v1::ListWorklistRequest>,
    ) -> Result<Response<v1::ListWorklistResponse>, Status> {
        let list = worklist::parse_list(request.into_inner())?;
        let now = self.clock.now();
        let (after, limit) = (list.after.as_ref(), list.page_size + 1);
        let found = self.store.list(&list.query, now, after, limit).await?;
        let rendered = found.into_iter().map(|(position, record)| {
            (position, booking_request::render(&record, now, &self.rules))
        });
        let (booking_requests, last) = fill_page(rendered, list.page_size);
        let next = last.map(|position| worklist::next_page_token(&list.query, &position));
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

    type WatchWorklistStream = Empty<Result<v1::WatchWorklistResponse, Status>>;

    async fn watch_worklist(
        &self,
        _request: Request<v1::WatchWorklistRequest>,
    ) -> Result<Response<Self::WatchWorklistStream>, Status> {
        Err(status::unimplemented())
    }
}
