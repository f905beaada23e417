//! CareUnitSettingsService: what a care unit sets for itself.

use tonic::{Request, Response, Status};

use super::Service;
use super::caller::caller;
use super::write::{response, store_call};
use crate::contract::v1::care_unit_settings_service_server::CareUnitSettingsService;
use crate::contract::{care_unit_settings, v1};
use crate::domain::care_unit_settings::{CareUnitSettings, update};

#[tonic::async_trait]
impl CareUnitSettingsService for Service {
    async fn get_care_unit_settings(
        &self,
        request: Request<v1::GetCareUnitSettingsRequest>,
    ) -> Result<Response<v1::GetCareUnitSettingsResponse>, Status> {
        let care_unit = care_unit_settings::parse_get(request.get_ref())?;
        caller(&request).require(&care_unit)?;
        let stored = self.store.read_settings(&care_unit).await?;
        Ok(Response::new(v1::GetCareUnitSettingsResponse {
            care_unit_settings: Some(care_unit_settings::render(&stored, self.policy)),
        }))
    }

    async fn update_care_unit_settings(
        &self,
        request: Request<v1::UpdateCareUnitSettingsRequest>,
    ) -> Result<Response<v1::UpdateCareUnitSettingsResponse>, Status> {
        let caller = caller(&request);
        let write = care_unit_settings::parse_update(request.into_inner())?;
        let call = store_call(&caller, &write);
        let (care_unit, command) = write.command;
        caller.require(&care_unit)?;
        let clock = self.clock.clone();
        let decide = move |stored: &CareUnitSettings| update(stored, &command, clock.now());
        let service = self.clone();
        let context = move || service.context(&caller);
        let written = self.store.update_settings(call, care_unit, decide, context);
        let written = written.await?;
        let settings = care_unit_settings::render(&written.after, self.policy);
        let message = v1::UpdateCareUnitSettingsResponse {
            care_unit_settings: Some(settings),
        };
        Ok(response(message, written.replayed))
    }
}
