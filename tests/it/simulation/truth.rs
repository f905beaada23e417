//! What a replica answers when a schedule is over: every request with its messages and its history, and the lists.

use std::collections::{BTreeMap, HashMap, HashSet};

use care_invitation::contract::calendar::render_instant;
use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request_service_server::BookingRequestService;
use care_invitation::contract::v1::notification::State;
use care_invitation::contract::v1::notification_service_server::NotificationService;
use care_invitation::contract::v1::worklist_service_server::WorklistService;
use care_invitation::domain::calendar::Instant;
use care_invitation::grpc::Service;

use super::region::{asked, query};
use crate::crash::checker::Shown;
use crate::crash::truth::{LISTS, PAGE, is_awaited, shown};

/// The requests of a care unit that are on a list.
async fn listed(service: &Service, care_unit: &str, list: v1::Worklist) -> Vec<v1::BookingRequest> {
    let call = v1::ListWorklistRequest {
        query: Some(query(care_unit, list)),
        page_size: PAGE,
        ..Default::default()
    };
    let page = service.list_worklist(asked(call)).await;
    let page = page.expect("a page").into_inner();
    assert_eq!(page.next_page_token, "", "one page has them all");
    page.booking_requests
}

/// Whether something is due at `now` that a consumer is to be given.
pub async fn waits(service: &Service, care_unit: &str, now: Instant) -> bool {
    let states = [State::Scheduled, State::Leased, State::Dispatching];
    let call = v1::ListNotificationsRequest {
        care_units: vec![care_unit.into()],
        states: states.map(Into::into).to_vec(),
        due_before_time: Some(render_instant(now)),
        page_size: PAGE,
        ..Default::default()
    };
    let page = service.list_notifications(asked(call)).await;
    let waiting = page.expect("a page").into_inner().notifications;
    let live = listed(service, care_unit, v1::Worklist::CareInvitations).await;
    let live: HashSet<String> = live.into_iter().map(|it| it.name).collect();
    waiting.iter().any(|it| is_awaited(it, &live))
}

/// These requests, as far as they are there.
pub async fn read(service: &Service, care_unit: &str, names: &[String]) -> BTreeMap<String, Shown> {
    let mut lists: HashMap<String, usize> = HashMap::new();
    for list in LISTS {
        for request in listed(service, care_unit, list).await {
            *lists.entry(request.name).or_default() += 1;
        }
    }
    let mut requests = BTreeMap::new();
    for name in names {
        let call = v1::GetBookingRequestRequest { name: name.clone() };
        let Ok(answer) = service.get_booking_request(asked(call)).await else {
            continue;
        };
        let request = answer.into_inner().booking_request.expect("the request");
        let call = v1::ListHistoryRequest {
            name: name.clone(),
            page_size: PAGE,
            page_token: String::new(),
        };
        let history = service.list_history(asked(call)).await;
        let history = history.expect("the history").into_inner().entries;
        let mut request = shown(request, &history);
        request.lists = lists.get(name).copied().unwrap_or(0);
        requests.insert(name.clone(), request);
    }
    requests
}
