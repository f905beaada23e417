//! AuditService: who has seen or changed which patient's data.

use tonic::{Request, Response, Status};

use super::caller::caller;
use super::{Service, fill_page};
use crate::contract::v1::audit_service_server::AuditService;
use crate::contract::{access_log, v1};
use crate::domain::access::LoggedAccess;
use crate::domain::care_units::CareUnits;

#[tonic::async_trait]
impl AuditService for Service {
    async fn list_access_log(
        &self,
        request: Request<v1::ListAccessLogRequest>,
    ) -> Result<Response<v1::ListAccessLogResponse>, Status> {
        let caller = caller(&request);
        let care_units = caller.visible(CareUnits::Every);
        let list = access_log::parse_list(request.into_inner())?;
        let (filter, limit) = (&list.filter, list.page_size + 1);
        let hides = caller.hides_protected();
        if let Some(patient) = filter.patient.as_ref().filter(|_| hides) {
            let hidden = self.store.protected_among([patient.clone()].into()).await?;
            if hidden.contains(patient) {
                return Ok(Response::new(v1::ListAccessLogResponse::default()));
            }
        }
        let found = self
            .store
            .access_log(filter, &care_units, list.after, limit);
        let found = found.await?;
        let hidden = match hides {
            true => {
                let entries = found.iter().filter_map(|(_, entry)| entry.as_ref());
                let patients = entries.flat_map(LoggedAccess::patients).cloned();
                Some(self.store.protected_among(patients.collect()).await?)
            }
            false => None,
        };
        let rendered = found.into_iter().map(|(place, entry)| {
            let message = entry.map(|entry| access_log::render(&entry, filter, hidden.as_ref()));
            (place, message)
        });
        let (entries, last) = fill_page(rendered, list.page_size);
        let next = last.map(|place| access_log::next_page_token(filter, &place));
        Ok(Response::new(v1::ListAccessLogResponse {
            entries,
            next_page_token: next.unwrap_or_default(),
        }))
    }
}
