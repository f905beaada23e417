//! BookingRequestService: booking requests, their changes and their history.

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::caller::caller;
use super::write::{response, store_call};
use super::{Service, fill_page, status};
use crate::auth::caller::Caller;
use crate::contract::booking_request::batch::parse_batch;
use crate::contract::booking_request::change::parse_change;
use crate::contract::booking_request::record_booking_cancellation::parse_record_booking_cancellation;
use crate::contract::booking_request::record_patient_contact::parse_contact;
use crate::contract::booking_request::release_hold::parse_release;
use crate::contract::booking_request::replace_personal_id::{
    parse_replace_personal_id, render_replaced,
};
use crate::contract::booking_request::revoke_invitation::parse_revoke;
use crate::contract::booking_request::update_patient::{
    PatientUpdate, parse_update_patient, render_updated,
};
use crate::contract::v1::booking_request_service_server::BookingRequestService;
use crate::contract::{booking_request, change_stream, history, patient_request, slot, v1};
use crate::dispatch::ChangeFilter;
use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::cancel::cancel;
use crate::domain::booking_request::change_to_invitation::change_to_invitation;
use crate::domain::booking_request::create::{Create, create};
use crate::domain::booking_request::form::BookingSource;
use crate::domain::booking_request::record_booking::record_booking;
use crate::domain::booking_request::record_booking_cancellation::record_booking_cancellation;
use crate::domain::booking_request::record_patient_contact::record_patient_contact;
use crate::domain::booking_request::release_hold::release_hold;
use crate::domain::booking_request::replace_personal_id::replace_personal_id;
use crate::domain::booking_request::revoke_invitation::revoke_invitation;
use crate::domain::booking_request::update_patient::{check_patient, update_patient};
use crate::domain::request_key::RequestKey;
use crate::domain::slot::evaluate_for;
use crate::store::skew::CLOCKS_APART_MAX;

#[tonic::async_trait]
impl BookingRequestService for Service {
    async fn create_booking_request(
        &self,
        request: Request<v1::CreateBookingRequestRequest>,
    ) -> Result<Response<v1::CreateBookingRequestResponse>, Status> {
        let caller = caller(&request);
        let write = booking_request::parse_create(request.into_inner())?;
        let write = self.creation(&caller, write)?;
        let written = self.store.write(write).await?;
        let booking_request = Some(self.render(&caller, &written.record));
        let message = v1::CreateBookingRequestResponse { booking_request };
        Ok(response(message, written.replayed))
    }

    async fn get_booking_request(
        &self,
        request: Request<v1::GetBookingRequestRequest>,
    ) -> Result<Response<v1::GetBookingRequestResponse>, Status> {
        let caller = caller(&request);
        let key = booking_request::parse_get(request.into_inner())?;
        caller.require(&key.care_unit)?;
        let record = self.store.get(&key).await?;
        Ok(Response::new(v1::GetBookingRequestResponse {
            booking_request: Some(self.render(&caller, &record)),
        }))
    }

    async fn change_to_invitation(
        &self,
        request: Request<v1::ChangeToInvitationRequest>,
    ) -> Result<Response<v1::ChangeToInvitationResponse>, Status> {
        let caller = caller(&request);
        let write = booking_request::parse_change_to_invitation(request.into_inner())?;
        let written = self
            .apply(caller.clone(), write, change_to_invitation)
            .await?;
        let booking_request = Some(self.render(&caller, &written.record));
        let message = v1::ChangeToInvitationResponse { booking_request };
        Ok(response(message, written.replayed))
    }

    async fn record_booking(
        &self,
        request: Request<v1::RecordBookingRequest>,
    ) -> Result<Response<v1::RecordBookingResponse>, Status> {
        let caller = caller(&request);
        let write = booking_request::parse_record_booking(request.into_inner())?;
        require_source(&caller, write.command.1.booking.source)?;
        let written = self.apply(caller.clone(), write, record_booking).await?;
        let booking_request = self.render(&caller, &written.record);
        let booking_request = Some(match caller.patient() {
            Some(_) => patient_request::shown_of(booking_request),
            None => booking_request,
        });
        let message = v1::RecordBookingResponse { booking_request };
        Ok(response(message, written.replayed))
    }

    async fn record_booking_cancellation(
        &self,
        request: Request<v1::RecordBookingCancellationRequest>,
    ) -> Result<Response<v1::RecordBookingCancellationResponse>, Status> {
        let caller = caller(&request);
        let write = parse_record_booking_cancellation(request.into_inner())?;
        let written = self
            .apply(caller.clone(), write, record_booking_cancellation)
            .await?;
        let booking_request = Some(self.render(&caller, &written.record));
        let message = v1::RecordBookingCancellationResponse { booking_request };
        Ok(response(message, written.replayed))
    }

    async fn cancel_booking_request(
        &self,
        request: Request<v1::CancelBookingRequestRequest>,
    ) -> Result<Response<v1::CancelBookingRequestResponse>, Status> {
        let caller = caller(&request);
        let write = booking_request::parse_cancel(request.into_inner())?;
        let written = self.apply(caller.clone(), write, cancel).await?;
        let booking_request = Some(self.render(&caller, &written.record));
        let message = v1::CancelBookingRequestResponse { booking_request };
        Ok(response(message, written.replayed))
    }

    async fn batch_create_booking_requests(
        &self,
        request: Request<v1::BatchCreateBookingRequestsRequest>,
    ) -> Result<Response<v1::BatchCreateBookingRequestsResponse>, Status> {
        let caller = caller(&request);
        let items = request.into_inner().requests;
        let batch = parse_batch(items, |it| &it.request_id, booking_request::parse_create)?;
        let results = self.create_each(caller, batch).await?;
        Ok(Response::new(v1::BatchCreateBookingRequestsResponse {
            results,
        }))
    }

    async fn batch_change_to_invitation(
        &self,
        request: Request<v1::BatchChangeToInvitationRequest>,
    ) -> Result<Response<v1::BatchChangeToInvitationResponse>, Status> {
        let caller = caller(&request);
        let items = request.into_inner().requests;
        let parse = booking_request::parse_change_to_invitation;
        let batch = parse_batch(items, |it| &it.request_id, parse)?;
        let results = self.apply_each(caller, batch, change_to_invitation).await?;
        Ok(Response::new(v1::BatchChangeToInvitationResponse {
            results,
        }))
    }

    async fn batch_cancel_booking_requests(
        &self,
        request: Request<v1::BatchCancelBookingRequestsRequest>,
    ) -> Result<Response<v1::BatchCancelBookingRequestsResponse>, Status> {
        let caller = caller(&request);
        let items = request.into_inner().requests;
        let batch = parse_batch(items, |it| &it.request_id, booking_request::parse_cancel)?;
        let results = self.apply_each(caller, batch, cancel).await?;
        Ok(Response::new(v1::BatchCancelBookingRequestsResponse {
            results,
        }))
    }

    async fn batch_release_hold(
        &self,
        request: Request<v1::BatchReleaseHoldRequest>,
    ) -> Result<Response<v1::BatchReleaseHoldResponse>, Status> {
        let caller = caller(&request);
        let items = request.into_inner().requests;
        let batch = parse_batch(items, |it| &it.request_id, parse_release)?;
        let results = self.apply_each(caller, batch, release_hold).await?;
        Ok(Response::new(v1::BatchReleaseHoldResponse { results }))
    }

    async fn preview_notifications(
        &self,
        request: Request<v1::PreviewNotificationsRequest>,
    ) -> Result<Response<v1::PreviewNotificationsResponse>, Status> {
        let caller = caller(&request);
        let (care_unit, form) = booking_request::parse_preview(request.into_inner())?;
        caller.require(&care_unit)?;
        let context = self.context(&caller);
        let command = Create {
            key: RequestKey {
                care_unit,
                id: self.clock.new_id(),
            },
            form,
            allow_duplicate: true,
            series: None,
            prior_messages: Vec::new(),
        };
        let record = create(&command, &context)?.record;
        let preview = booking_request::render_preview(&record, context.now, &context.policy);
        Ok(Response::new(preview))
    }

    async fn list_history(
        &self,
        request: Request<v1::ListHistoryRequest>,
    ) -> Result<Response<v1::ListHistoryResponse>, Status> {
        let caller = caller(&request);
        let list = history::parse_list_history(request.into_inner())?;
        caller.require(&list.key.care_unit)?;
        let found = self
            .store
            .history(&list.key, list.after, list.page_size + 1)
            .await?;
        let rendered = found.iter().map(|(ordinal, entry)| {
            let render = |entry| history::render_history(&list.key, entry);
            (*ordinal, entry.as_ref().map(render))
        });
        let (entries, last) = fill_page(rendered, list.page_size);
        let next = last.map(|ordinal| history::next_page_token(&list.key, ordinal));
        Ok(Response::new(v1::ListHistoryResponse {
            entries,
            next_page_token: next.unwrap_or_default(),
        }))
    }

    type StreamChangesStream =
        Pin<Box<dyn Stream<Item = Result<v1::StreamChangesResponse, Status>> + Send>>;

    async fn stream_changes(
        &self,
        request: Request<v1::StreamChangesRequest>,
    ) -> Result<Response<Self::StreamChangesStream>, Status> {
        let caller = caller(&request);
        let stream = change_stream::parse_stream(request.into_inner())?;
        let after =
            stream
                .beginning
                .cursor(self.clock.now(), CLOCKS_APART_MAX, self.changes_days)?;
        let changes = self.dispatch.changes(ChangeFilter {
            care_units: caller.visible(stream.care_units),
            after,
            until_idle: stream.until_idle,
        })?;
        let rendered = changes.map(|told| {
            let told = told?;
            Ok(change_stream::render_changes(&told.changes, &told.cursor))
        });
        Ok(Response::new(Box::pin(rendered)))
    }

    async fn change_booking_request(
        &self,
        request: Request<v1::ChangeBookingRequestRequest>,
    ) -> Result<Response<v1::ChangeBookingRequestResponse>, Status> {
        let caller = caller(&request);
        let write = parse_change(request.into_inner())?;
        let written = self.change(caller.clone(), write).await?;
        let booking_request = Some(self.render(&caller, &written.record));
        let message = v1::ChangeBookingRequestResponse { booking_request };
        Ok(response(message, written.replayed))
    }

    async fn record_patient_contact(
        &self,
        request: Request<v1::RecordPatientContactRequest>,
    ) -> Result<Response<v1::RecordPatientContactResponse>, Status> {
        let caller = caller(&request);
        let write = parse_contact(request.into_inner())?;
        let written = self
            .apply(caller.clone(), write, record_patient_contact)
            .await?;
        let booking_request = Some(self.render(&caller, &written.record));
        let message = v1::RecordPatientContactResponse { booking_request };
        Ok(response(message, written.replayed))
    }

    async fn release_hold(
        &self,
        request: Request<v1::ReleaseHoldRequest>,
    ) -> Result<Response<v1::ReleaseHoldResponse>, Status> {
        let caller = caller(&request);
        let write = parse_release(request.into_inner())?;
        let written = self.apply(caller.clone(), write, release_hold).await?;
        let booking_request = Some(self.render(&caller, &written.record));
        let message = v1::ReleaseHoldResponse { booking_request };
        Ok(response(message, written.replayed))
    }

    async fn revoke_invitation(
        &self,
        request: Request<v1::RevokeInvitationRequest>,
    ) -> Result<Response<v1::RevokeInvitationResponse>, Status> {
        let caller = caller(&request);
        let write = parse_revoke(request.into_inner())?;
        let written = self.apply(caller.clone(), write, revoke_invitation).await?;
        let booking_request = Some(self.render(&caller, &written.record));
        let message = v1::RevokeInvitationResponse { booking_request };
        Ok(response(message, written.replayed))
    }

    async fn update_patient(
        &self,
        request: Request<v1::UpdatePatientRequest>,
    ) -> Result<Response<v1::UpdatePatientResponse>, Status> {
        let caller = caller(&request);
        let write = parse_update_patient(request.into_inner())?;
        let call = store_call(&caller, &write);
        let PatientUpdate {
            care_unit,
            personal_id,
            update,
        } = write.command;
        if let Some(care_unit) = &care_unit {
            caller.require(care_unit)?;
        }
        check_patient("patient.personal_id", &personal_id, self.clock.now())?;
        let (service, seen) = (self.clone(), caller.clone());
        let visible = caller.visible_of(&personal_id);
        let decide = move |record: &BookingRequest| {
            update_patient(record, &update, &service.context(&caller))
        };
        let updated = self
            .store
            .update_patient(call, care_unit, visible, personal_id, decide)
            .await?;
        let changed = seen.seen(updated.changed);
        Ok(response(render_updated(&changed), updated.replayed))
    }

    async fn replace_personal_id(
        &self,
        request: Request<v1::ReplacePersonalIdRequest>,
    ) -> Result<Response<v1::ReplacePersonalIdResponse>, Status> {
        let caller = caller(&request);
        let write = parse_replace_personal_id(request.into_inner())?;
        let call = store_call(&caller, &write);
        let command = write.command;
        command.check(self.clock.now())?;
        let (service, wanted) = (self.clone(), command.clone());
        let (seen, visible) = (caller.clone(), caller.visible_of(&command.old));
        let found = visible.clone();
        let decide = move |records: &[&BookingRequest], moved_before: &[RequestKey]| {
            let context = service.context(&caller);
            replace_personal_id(records, moved_before, &wanted, &found, &context)
        };
        let replaced = self
            .store
            .replace_personal_id(call, &command, visible, decide)
            .await?;
        let answer = replaced.answer;
        let message = render_replaced(&seen.seen(answer.changed), &seen.seen(answer.duplicates));
        Ok(response(message, replaced.replayed))
    }

    async fn evaluate_slots(
        &self,
        request: Request<v1::EvaluateSlotsRequest>,
    ) -> Result<Response<v1::EvaluateSlotsResponse>, Status> {
        let caller = caller(&request);
        let call = slot::parse_slots(request.into_inner())?;
        caller.require(&call.request.care_unit)?;
        require_source(&caller, call.source)?;
        let record = self.store.get(&call.request).await?;
        caller.require_request(&record)?;
        let (source, context) = (call.source, self.context(&caller));
        let judge = |(slot_id, slot)| (slot_id, evaluate_for(&record, source, &slot, &context));
        let verdicts = call.slots.into_iter().map(judge);
        Ok(Response::new(slot::render_verdicts(verdicts)))
    }
}

/// Checks that the caller may book, or ask for times, as this source: a patient is no staff.
fn require_source(caller: &Caller, source: BookingSource) -> Result<(), Status> {
    match (caller.patient(), source) {
        (Some(_), BookingSource::Staff) => Err(status::not_as_staff()),
        (Some(_), BookingSource::Patient) | (None, _) => Ok(()),
    }
}
