//! Writes of requests: from parsed commands to the store, alone or in batches, and their answers.

use std::sync::Arc;

use tonic::metadata::MetadataValue;
use tonic::{Response, Status};

use super::{Service, element};
use crate::auth::caller::Caller;
use crate::contract::batch::Batch;
use crate::contract::booking_request::batch::render_results;
use crate::contract::booking_request::{self, NewRequest};
use crate::contract::{IdempotentCommand, patient, v1};
use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::change::{ChangeBookingRequest, change_booking_request};
use crate::domain::booking_request::create_all::create_all;
use crate::domain::request_key::RequestKey;
use crate::domain::{Change, Context, Refusal};
use crate::store::error::Error;
use crate::store::idempotency::IdempotentCall;
use crate::store::write::{Write, Written};

/// Metadata of a response that answers a replay.
const REPLAY: &str = "idempotent-replay";

/// A verb of the domain that changes a request.
pub type Verb<C> = fn(Option<&BookingRequest>, &C, &Context) -> Result<Change, Refusal>;

/// A decision of a verb. The clock is read when it is executed, so that a change that is recorded later never has an
/// earlier time.
pub type Decision =
    Box<dyn FnMut(Option<&BookingRequest>) -> Result<Vec<Change>, Refusal> + Send + 'static>;

impl Service {
    /// Returns the write that creates a request, or those of a series.
    ///
    /// # Errors
    ///
    /// The caller may not see the care unit.
    pub fn creation(
        &self,
        caller: &Arc<Caller>,
        write: IdempotentCommand<NewRequest>,
    ) -> Result<Write<Decision>, Refusal> {
        let call = store_call(caller, &write);
        let command = write.command.into_command(|| self.clock.new_id());
        let (key, form) = (command.first.key.clone(), command.first.form.clone());
        caller.require(&key.care_unit)?;
        let count = command.count();
        let hides_protected = caller.hides_protected();
        let (service, caller) = (self.clone(), caller.clone());
        let decide: Decision = Box::new(move |_| create_all(&command, &service.context(&caller)));
        let write = Write::create(call, key, &form, count, decide);
        Ok(write.hiding_protected(hides_protected))
    }

    /// Returns the write that applies a verb to a stored request.
    ///
    /// # Errors
    ///
    /// The caller may not see the care unit.
    pub fn update<C: Send + 'static>(
        &self,
        caller: &Arc<Caller>,
        write: IdempotentCommand<(RequestKey, C)>,
        verb: Verb<C>,
    ) -> Result<Write<Decision>, Refusal> {
        let call = store_call(caller, &write);
        let (key, command) = write.command;
        caller.require(&key.care_unit)?;
        let hides_protected = caller.hides_protected();
        let (service, caller) = (self.clone(), caller.clone());
        let decide: Decision = Box::new(move |stored| {
            let seen = stored.filter(|it| caller.require_request(it).is_ok());
            let change = verb(seen, &command, &service.context(&caller));
            Ok(vec![change.map_err(|it| caller.told(it))?])
        });
        let write = Write::update(call, key, decide);
        Ok(write.hiding_protected(hides_protected))
    }

    /// Applies a verb to a stored request.
    pub async fn apply<C: Send + 'static>(
        &self,
        caller: Arc<Caller>,
        write: IdempotentCommand<(RequestKey, C)>,
        verb: Verb<C>,
    ) -> Result<Written, Status> {
        let write = self.update(&caller, write, verb)?;
        let written = self.store.write(write).await?;
        // A repeat may be of a call that others have made.
        caller.require_request(&written.record)?;
        Ok(written)
    }

    /// Changes a stored request.
    pub async fn change(
        &self,
        caller: Arc<Caller>,
        write: IdempotentCommand<(RequestKey, ChangeBookingRequest)>,
    ) -> Result<Written, Status> {
        let (_, command) = &write.command;
        let visit_type = command.visit.visit_type.as_ref();
        let code = visit_type.map(|it| it.code.clone());
        let write = self.update(&caller, write, change_booking_request)?;
        Ok(self.store.write(write.retyping(code)).await?)
    }

    /// Applies a verb to each item of a batch.
    pub async fn apply_each<C: Send + 'static>(
        &self,
        caller: Arc<Caller>,
        batch: Batch<IdempotentCommand<(RequestKey, C)>>,
        verb: Verb<C>,
    ) -> Result<Vec<v1::BookingRequestResult>, Status> {
        let (commands, batch) = batch.split();
        let writes = commands.into_iter();
        let writes = writes.map(|write| self.update(&caller, write, verb));
        self.write_each(&caller, batch, writes.collect()).await
    }

    /// Creates a request for each item of a batch.
    pub async fn create_each(
        &self,
        caller: Arc<Caller>,
        batch: Batch<IdempotentCommand<NewRequest>>,
    ) -> Result<Vec<v1::BookingRequestResult>, Status> {
        let (commands, batch) = batch.split();
        let writes = commands.into_iter();
        let writes = writes.map(|write| self.creation(&caller, write));
        self.write_each(&caller, batch, writes.collect()).await
    }

    /// Executes the writes of the well-formed items of a batch, those aside that are refused already, and renders the
    /// results.
    async fn write_each(
        &self,
        caller: &Caller,
        batch: Batch<()>,
        writes: Vec<Result<Write<Decision>, Refusal>>,
    ) -> Result<Vec<v1::BookingRequestResult>, Status> {
        let (writes, places) = element::divide(writes);
        let written = self.store.write_all(writes).await?;
        let written = places.fill(written, |refusal| Err(Error::Refused(refusal)));
        let results = element::results(batch, written).into_iter();
        let shown = |it: Written| (self.render(caller, &it.record), it.replayed);
        Ok(render_results(results.map(|(_, it)| it.map(shown))))
    }

    /// Renders a request as of now, for a caller.
    pub fn render(&self, caller: &Caller, record: &BookingRequest) -> v1::BookingRequest {
        shown_to(
            caller,
            booking_request::render(record, self.clock.now(), &self.policy()),
        )
    }
}

/// Returns a request without the identity number of a patient with protected identity, unless the caller may see
/// it. Every answer with a request passes here.
pub fn shown_to(caller: &Caller, request: v1::BookingRequest) -> v1::BookingRequest {
    match caller.hides_protected() {
        true => patient::masked(request),
        false => request,
    }
}

/// Returns a response; that of a replay says that it is one.
pub fn response<M>(message: M, replayed: bool) -> Response<M> {
    let mut response = Response::new(message);
    if replayed {
        let metadata = response.metadata_mut();
        metadata.insert(REPLAY, MetadataValue::from_static("true"));
    }
    response
}

/// Returns the idempotency key of a command, as the store takes it.
pub fn store_call<C>(caller: &Caller, write: &IdempotentCommand<C>) -> IdempotentCall {
    IdempotentCall {
        caller: caller.subject().to_owned(),
        id: write.request_id,
        hash: write.content_hash,
    }
}
