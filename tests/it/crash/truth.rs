//! What the service answers when the load is over: every request with its messages and its history, and the lists.

use std::collections::{BTreeMap, HashMap, HashSet};

use care_invitation::contract::calendar::render_instant;
use care_invitation::contract::v1;
use care_invitation::contract::v1::HistoryEvent;
use care_invitation::contract::v1::booking_request::Origin;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use care_invitation::contract::v1::notification::State;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::contract::v1::worklist_service_client::WorklistServiceClient;
use care_invitation::domain::calendar::Instant;
use chrono::DateTime;
use prost_types::Timestamp;
use sea_orm::{ConnectionTrait, Database, Statement};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::checker::{Message, Shown, Truth};
use super::history::{Action, request_of};
use super::servers::Servers;
use crate::harness::within;
use crate::make;

/// The lists of which an open request is on exactly one.
pub const LISTS: [v1::Worklist; 6] = [
    v1::Worklist::BookingRequests,
    v1::Worklist::CareInvitations,
    v1::Worklist::FollowUp,
    v1::Worklist::ManualHandling,
    v1::Worklist::SlotIssues,
    v1::Worklist::Declined,
];
/// Requests that are read at once.
const READERS: usize = 8;
/// Largest page.
pub const PAGE: i32 = 500;

/// Reads these requests, and all that the lists hold.
pub async fn read(servers: &Servers, names: Vec<String>) -> Truth {
    let channel = servers.channel(0).await;
    let mut lists: HashMap<String, usize> = HashMap::new();
    for list in LISTS {
        for request in listed(&channel, list).await {
            *lists.entry(request.name).or_default() += 1;
        }
    }
    let mut readers = JoinSet::new();
    for part in 0..READERS {
        let names: Vec<_> = names.iter().skip(part).step_by(READERS).cloned().collect();
        let channel = channel.clone();
        readers.spawn(async move {
            let mut shown = Vec::new();
            for name in names {
                if let Some(request) = one(&channel, &name).await {
                    shown.push((name, request));
                }
            }
            shown
        });
    }
    let mut requests: BTreeMap<_, _> = readers.join_all().await.into_iter().flatten().collect();
    for (name, shown) in &mut requests {
        shown.lists = lists.get(name).copied().unwrap_or(0);
    }
    Truth {
        now: servers.now(),
        requests,
        rows: rows(servers.url()).await,
    }
}

/// Whether something is due that a consumer is to be given.
pub async fn waits(servers: &Servers) -> bool {
    let channel = servers.channel(0).await;
    let call = v1::ListNotificationsRequest {
        care_units: vec![make::wire_unit()],
        states: vec![
            State::Scheduled.into(),
            State::Leased.into(),
            State::Dispatching.into(),
        ],
        due_before_time: Some(render_instant(servers.now() + chrono::Duration::seconds(1))),
        page_size: PAGE,
        ..Default::default()
    };
    let answer =
        within(NotificationServiceClient::new(channel.clone()).list_notifications(call)).await;
    let waiting = answer.expect("a page").into_inner().notifications;
    let mut live = HashSet::new();
    if !waiting.is_empty() {
        let listed = listed(&channel, v1::Worklist::CareInvitations).await;
        live.extend(listed.into_iter().map(|it| it.name));
    }
    waiting.iter().any(|it| is_awaited(it, &live))
}

/// Whether a message that is due is to be given to a consumer, when these requests are live.
pub fn is_awaited(message: &v1::Notification, live: &HashSet<String>) -> bool {
    message.kind() == v1::NotificationKind::Withdrawal || live.contains(request_of(&message.name))
}

/// The requests of a list.
async fn listed(channel: &Channel, list: v1::Worklist) -> Vec<v1::BookingRequest> {
    let mut client = WorklistServiceClient::new(channel.clone());
    let (mut requests, mut page_token) = (Vec::new(), String::new());
    loop {
        let call = v1::ListWorklistRequest {
            query: Some(v1::WorklistQuery {
                worklists: vec![list.into()],
                care_units: vec![make::wire_unit()],
                ..Default::default()
            }),
            page_size: PAGE,
            page_token,
            ..Default::default()
        };
        let page = within(client.list_worklist(call))
            .await
            .expect("a page")
            .into_inner();
        requests.extend(page.booking_requests);
        if page.next_page_token.is_empty() {
            return requests;
        }
        page_token = page.next_page_token;
    }
}

/// A request, with its history.
async fn one(channel: &Channel, name: &str) -> Option<Shown> {
    let mut client = BookingRequestServiceClient::new(channel.clone());
    let call = v1::GetBookingRequestRequest { name: name.into() };
    let answer = within(client.get_booking_request(call)).await.ok()?;
    let request = answer.into_inner().booking_request.expect("the request");
    let call = v1::ListHistoryRequest {
        name: name.into(),
        page_size: PAGE,
        page_token: String::new(),
    };
    let entries = within(client.list_history(call))
        .await
        .expect("the history")
        .into_inner()
        .entries;
    Some(shown(request, &entries))
}

/// What the service shows of a request and its history, but for the lists that it is on.
pub fn shown(request: v1::BookingRequest, entries: &[v1::HistoryEntry]) -> Shown {
    let mut actions = BTreeMap::new();
    for action in entries.iter().filter_map(|it| action(it.event())) {
        *actions.entry(action).or_default() += 1;
    }
    let booked = entries
        .iter()
        .filter(|it| it.event() == HistoryEvent::RecordBooking);
    let bookings = booked
        .filter_map(|it| Some(it.booking.clone()?.booking_id))
        .collect();
    let referral = match &request.origin {
        Some(Origin::Referral(referral)) => referral.referral_id.clone(),
        Some(Origin::PreviousVisit(_)) | None => String::new(),
    };
    let invitation = request.care_invitation.clone().unwrap_or_default();
    let is_held = invitation.hold_reason() != v1::HoldReason::Unspecified;
    Shown {
        referral,
        state: request.state(),
        is_held,
        messages: invitation.notifications.iter().map(message).collect(),
        actions,
        bookings,
        lists: 0,
    }
}

fn message(shown: &v1::Notification) -> Message {
    Message {
        name: shown.name.clone(),
        round: shown.round,
        kind: shown.kind(),
        sequence: shown.sequence,
        state: shown.state(),
        cause: shown.cause(),
        due_at: instant(shown.due_time.expect("a due time")),
        sent_at: shown.send_time.map(instant),
    }
}

fn instant(at: Timestamp) -> Instant {
    let nanos = u32::try_from(at.nanos).expect("not negative");
    DateTime::from_timestamp(at.seconds, nanos).expect("an instant")
}

/// The action that an entry of the history tells of, if it is one of the load's.
fn action(event: HistoryEvent) -> Option<Action> {
    match event {
        HistoryEvent::CreateBookingRequest => Some(Action::Create),
        HistoryEvent::ChangeBookingRequest => Some(Action::Change),
        HistoryEvent::ChangeToInvitation => Some(Action::Invite),
        HistoryEvent::RecordBooking => Some(Action::Book),
        HistoryEvent::RecordPatientContact => Some(Action::Decline),
        HistoryEvent::CancelBookingRequest => Some(Action::Cancel),
        HistoryEvent::ReleaseHold => Some(Action::Release),
        _ => None,
    }
}

/// How many requests the database has.
async fn rows(url: &str) -> usize {
    let database = Database::connect(url).await.expect("the database");
    let sql = "SELECT count(*) AS count FROM booking_request";
    let statement = Statement::from_string(database.get_database_backend(), sql);
    let row = database
        .query_one_raw(statement)
        .await
        .expect("it answers")
        .expect("one row");
    let count: i64 = row.try_get("", "count").expect("a number");
    usize::try_from(count).expect("not negative")
}
