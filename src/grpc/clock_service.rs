//! ClockService, which is served with a sandbox clock only.

use tonic::{Request, Response, Status};

use super::Service;
use crate::contract::sandbox_v1::clock_service_server::ClockService;
use crate::contract::{clock, sandbox_v1};

#[tonic::async_trait]
impl ClockService for Service {
    async fn get_time(
        &self,
        _request: Request<sandbox_v1::GetTimeRequest>,
    ) -> Result<Response<sandbox_v1::GetTimeResponse>, Status> {
        Ok(Response::new(clock::render_time(self.clock.now())))
    }

    async fn advance_time(
        &self,
        request: Request<sandbox_v1::AdvanceTimeRequest>,
    ) -> Result<Response<sandbox_v1::AdvanceTimeResponse>, Status> {
        let to = clock::parse_advance(request.into_inner())?;
        let now = self.clock.advance(to)?;
        Ok(Response::new(clock::render_advanced(now)))
    }
}
