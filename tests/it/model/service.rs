//! The calls of a walk, made on a running service.

use care_invitation::contract::v1;
use care_invitation::contract::v1::stream_due_notifications_response::Event;
use tonic::{Response, Status};
use tonic_types::StatusExt;

use super::accesses::{Fact, named_in, who};
use super::batch;
use super::call::Call;
use super::rules::Refusal;
use super::world::World;
use crate::harness::{Harness, within};

/// Response of the service.
#[derive(Debug)]
pub enum Answer {
    Nothing,
    Request(Box<v1::BookingRequest>),
    Names(Vec<String>),
    Moved(v1::ReplacePersonalIdResponse),
    Settings(Box<v1::CareUnitSettings>),
    Due(Vec<v1::DueNotification>),
    Authorized(v1::AuthorizeDispatchResponse),
    Acknowledged(v1::AcknowledgeNotificationsResponse),
    Reported(Vec<v1::DeliveryReceiptResult>),
    /// The answer to a repeat.
    Again(Box<Answer>),
    /// What came of each item.
    Batch(Vec<Result<Answer, Refusal>>),
}

impl Answer {
    /// Returns it as the answer to a repeat, if it is one.
    pub fn repeated(self, is_repeat: bool) -> Self {
        match is_repeat {
            true => Self::Again(Box::new(self)),
            false => self,
        }
    }
}

pub async fn send(harness: &Harness, call: &Call) -> Result<Answer, Refusal> {
    let answer = match call {
        Call::Advance(to) => {
            harness.clock.advance(*to).expect("forward");
            Ok(Answer::Nothing)
        }
        Call::Batch(calls) => batch::send(harness, calls).await.map(Answer::Batch),
        Call::Lease(call) => lease(harness, call).await.map(Answer::Due),
        Call::Authorize(_) | Call::Acknowledge(_) | Call::Report(_) => deliver(harness, call).await,
        Call::Settings(call) => update_settings(harness, call).await,
        call => write(harness, call).await,
    };
    answer.map_err(|status| refusal(&status))
}

async fn write(harness: &Harness, call: &Call) -> Result<Answer, Status> {
    let mut api = harness.requests();
    macro_rules! request {
        ($method:ident, $call:expr) => {{
            let answer = within(api.$method($call.clone())).await?;
            (is_repeat(&answer), answer.into_inner().booking_request)
        }};
    }
    let (repeat, request) = match call {
        Call::Create(call) => request!(create_booking_request, call),
        Call::Get(call) => request!(get_booking_request, call),
        Call::Invite(call) => request!(change_to_invitation, call),
        Call::Change(call) => request!(change_booking_request, call),
        Call::Book(call) => request!(record_booking, call),
        Call::Contact(call) => request!(record_patient_contact, call),
        Call::Cancel(call) => request!(cancel_booking_request, call),
        Call::Release(call) => request!(release_hold, call),
        Call::Unbook(call) => request!(record_booking_cancellation, call),
        Call::Revoke(call) => request!(revoke_invitation, call),
        Call::Patient(call) => {
            let answer = within(api.update_patient(call.clone())).await?;
            let repeat = is_repeat(&answer);
            let names = answer.into_inner().booking_requests;
            return Ok(Answer::Names(names).repeated(repeat));
        }
        Call::Replace(call) => {
            let answer = within(api.replace_personal_id(call.clone())).await?;
            let repeat = is_repeat(&answer);
            return Ok(Answer::Moved(answer.into_inner()).repeated(repeat));
        }
        other => unreachable!("{other:?} is no call on requests"),
    };
    let request = request.expect("the request");
    Ok(Answer::Request(Box::new(request)).repeated(repeat))
}

async fn update_settings(
    harness: &Harness,
    call: &v1::UpdateCareUnitSettingsRequest,
) -> Result<Answer, Status> {
    let answer = within(harness.settings().update_care_unit_settings(call.clone())).await?;
    let repeat = is_repeat(&answer);
    let settings = answer.into_inner().care_unit_settings;
    Ok(Answer::Settings(Box::new(settings.expect("the settings"))).repeated(repeat))
}

/// Returns the settings of a care unit.
pub async fn settings(harness: &Harness, name: &str) -> Result<v1::CareUnitSettings, String> {
    let call = v1::GetCareUnitSettingsRequest { name: name.into() };
    let answer = within(harness.settings().get_care_unit_settings(call)).await;
    let answer = answer.map_err(|it| it.to_string())?;
    let settings = answer.into_inner().care_unit_settings;
    settings.ok_or_else(|| "no settings".into())
}

fn is_repeat<T>(answer: &Response<T>) -> bool {
    let metadata = answer.metadata().get("idempotent-replay");
    metadata.is_some_and(|it| it == "true")
}

async fn deliver(harness: &Harness, call: &Call) -> Result<Answer, Status> {
    let mut api = harness.notifications();
    Ok(match call {
        Call::Authorize(call) => {
            let answer = within(api.authorize_dispatch(call.clone())).await?;
            Answer::Authorized(answer.into_inner())
        }
        Call::Acknowledge(call) => {
            let answer = within(api.acknowledge_notifications(call.clone())).await?;
            Answer::Acknowledged(answer.into_inner())
        }
        Call::Report(call) => {
            let answer = within(api.report_delivery(call.clone())).await?;
            Answer::Reported(answer.into_inner().results)
        }
        other => unreachable!("{other:?} is no call on messages"),
    })
}

/// Leases everything that the stream delivers until it ends, or until it waits for acknowledgements.
async fn lease(
    harness: &Harness,
    call: &v1::StreamDueNotificationsRequest,
) -> Result<Vec<v1::DueNotification>, Status> {
    let most = usize::try_from(call.max_outstanding).expect("a small number");
    let stream = harness.notifications();
    let stream = within({ stream }.stream_due_notifications(call.clone())).await?;
    let mut events = stream.into_inner();
    let mut due = vec![];
    while due.len() < most
        && let Some(event) = within(events.message()).await?
    {
        if let Some(Event::Due(message)) = event.event {
            due.push(message);
        }
    }
    Ok(due)
}

/// Returns the failure in the model's terms, without its text.
fn refusal(status: &Status) -> Refusal {
    let details = status.get_error_details();
    let info = details.error_info();
    let reason = info.map_or("no reason", |it| it.reason.as_str());
    let mut refusal = Refusal::new(status.code(), reason);
    for field in details
        .bad_request()
        .iter()
        .flat_map(|it| &it.field_violations)
    {
        refusal.details.insert(field.field.clone());
    }
    for (key, value) in info.iter().flat_map(|it| &it.metadata) {
        match key.as_str() {
            "name" => refusal.names.0 = Some(value.clone()),
            _ => refusal = refusal.with(key, value),
        }
    }
    refusal
}

/// Asks for the verdicts on slots of a request.
pub async fn verdicts(
    harness: &Harness,
    world: &World,
    name: &str,
    slots: &[v1::Slot],
    source: v1::BookingSource,
) -> Result<Vec<v1::EvaluatedSlot>, String> {
    let call = v1::EvaluateSlotsRequest {
        name: name.into(),
        slots: slots.to_vec(),
        source: source.into(),
    };
    let answer = within(harness.requests().evaluate_slots(call)).await;
    let method = "BookingRequestService/EvaluateSlots";
    world.log(method, vec![Fact::request(name)], vec![], code(&answer));
    answer
        .map(|it| it.into_inner().slots)
        .map_err(|it| it.to_string())
}

/// Lists the whole history of a request.
pub async fn history(
    harness: &Harness,
    world: &World,
    name: &str,
) -> Result<Vec<v1::HistoryEntry>, String> {
    let call = v1::ListHistoryRequest {
        name: name.into(),
        page_size: 500,
        page_token: String::new(),
    };
    let answer = within(harness.requests().list_history(call)).await;
    let method = "BookingRequestService/ListHistory";
    world.log(method, vec![Fact::request(name)], vec![], code(&answer));
    answer
        .map(|it| it.into_inner().entries)
        .map_err(|it| it.to_string())
}

/// Lists worklists, page by page, and their total.
pub async fn worklist(
    harness: &Harness,
    world: &World,
    query: v1::WorklistQuery,
    view: v1::BookingRequestView,
) -> Result<(Vec<v1::BookingRequest>, Option<i64>), String> {
    let named = named_in(&query);
    let mut call = v1::ListWorklistRequest {
        query: Some(query),
        page_size: 3,
        view: view.into(),
        include_total_size: true,
        ..Default::default()
    };
    let mut listed = vec![];
    loop {
        let answer = within(harness.worklists().list_worklist(call.clone())).await;
        let page = answer.map_err(|it| it.to_string())?.into_inner();
        let shown = page.booking_requests.iter().map(Fact::shown).collect();
        world.log("WorklistService/ListWorklist", named.clone(), shown, 0);
        listed.extend(page.booking_requests);
        if page.next_page_token.is_empty() {
            return Ok((listed, page.total_size));
        }
        call.page_token = page.next_page_token;
    }
}

/// Lists what a patient is shown, page by page. A page may hold fewer than follow.
pub async fn patient_requests(
    harness: &Harness,
    world: &World,
    identity: v1::PatientIdentity,
) -> Result<Vec<v1::PatientRequest>, String> {
    let named = vec![Fact::patient("", Some(who(&identity)))];
    let mut call = v1::ListPatientRequestsRequest {
        identity: Some(identity),
        page_size: 2,
        page_token: String::new(),
    };
    let mut listed = vec![];
    loop {
        let answer = within(harness.patients().list_patient_requests(call.clone())).await;
        let page = answer.map_err(|it| it.to_string())?.into_inner();
        let names = page.patient_requests.iter().map(|it| &it.name);
        let shown = names.map(|it| Fact::request(it)).collect();
        let method = "PatientService/ListPatientRequests";
        world.log(method, named.clone(), shown, 0);
        listed.extend(page.patient_requests);
        if page.next_page_token.is_empty() {
            return Ok(listed);
        }
        call.page_token = page.next_page_token;
    }
}

/// Counts the requests on each worklist, and by care unit.
pub async fn counts(
    harness: &Harness,
    world: &World,
    query: v1::WorklistQuery,
) -> Result<v1::CountWorklistsResponse, String> {
    let named = named_in(&query);
    let call = v1::CountWorklistsRequest {
        query: Some(query),
        by_care_unit: true,
    };
    let answer = within(harness.worklists().count_worklists(call)).await;
    let method = "WorklistService/CountWorklists";
    world.log(method, named, vec![], code(&answer));
    answer
        .map(tonic::Response::into_inner)
        .map_err(|it| it.to_string())
}

/// Lists the care units that have requests.
pub async fn care_units(harness: &Harness) -> Result<Vec<String>, String> {
    let call = v1::ListCareUnitsRequest::default();
    let answer = within(harness.worklists().list_care_units(call)).await;
    answer
        .map(|it| it.into_inner().care_units)
        .map_err(|it| it.to_string())
}

/// Lists every notification that waits or is leased.
pub async fn unsettled(
    harness: &Harness,
    world: &World,
    care_units: Vec<String>,
    channel: v1::DeliveryChannel,
) -> Result<Vec<v1::Notification>, String> {
    let call = v1::ListNotificationsRequest {
        care_units,
        channels: match channel {
            v1::DeliveryChannel::Unspecified => vec![],
            one => vec![one.into()],
        },
        page_size: 500,
        ..Default::default()
    };
    let answer = within(harness.notifications().list_notifications(call)).await;
    let answer = answer.map_err(|it| it.to_string())?.into_inner();
    let names = answer.notifications.iter().map(|it| &it.name);
    let shown = names.map(|it| Fact::request(it)).collect();
    world.log("NotificationService/ListNotifications", vec![], shown, 0);
    Ok(answer.notifications)
}

fn code<T>(answer: &Result<T, Status>) -> i32 {
    answer.as_ref().err().map_or(0, |it| it.code().into())
}
