//! PatientService: what a portal shows a patient of their requests.

use tonic::{Request, Response, Status};

use super::caller::caller;
use super::{Service, fill_page};
use crate::contract::v1::patient_service_server::PatientService;
use crate::contract::{patient_request, v1};

#[tonic::async_trait]
impl PatientService for Service {
    async fn list_patient_requests(
        &self,
        request: Request<v1::ListPatientRequestsRequest>,
    ) -> Result<Response<v1::ListPatientRequestsResponse>, Status> {
        let caller = caller(&request);
        let list = patient_request::parse_list(request.into_inner())?;
        let context = self.context(&caller);
        let (patient, now) = (&list.personal_id, context.now);
        let (after, limit) = (list.after.as_ref(), list.page_size + 1);
        let visible = caller.visible_of(patient);
        let found = self
            .store
            .patient_requests(patient, &visible, now, after, limit);
        let rendered = found.await?.into_iter().map(|(key, record)| {
            let render = |record| patient_request::render(&record, &context);
            (key, record.and_then(render))
        });
        let (patient_requests, last) = fill_page(rendered, list.page_size);
        let next = last.map(|key| patient_request::next_page_token(patient, &key));
        Ok(Response::new(v1::ListPatientRequestsResponse {
            patient_requests,
            next_page_token: next.unwrap_or_default(),
        }))
    }
}
