//! ListNotifications: which messages are listed, in which order and page by page, without leasing
//! them.

use care_invitation::contract::v1::NotificationCause;
use std::collections::BTreeMap;

use care_invitation::clock::Clock;
use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Contact;
use care_invitation::contract::v1::acknowledgement::Outcome;
use care_invitation::contract::v1::{DeliveryChannel, InboxReach};
use care_invitation::grpc::middleware::Limits;
use sea_orm::{ConnectionTrait, Database};
use tonic::{Code, Status};

use super::{NOW, State, book, create, due_now, messages};
use crate::backend::Backend;
use crate::consumer::Outcomes as _;
use crate::consumer::{answer, authorize, lease, message, sent};
use crate::harness::{Harness, bad_fields, refusal, within};
use crate::make;
use crate::worklist_user;

fn all_of(states: &[State]) -> v1::ListNotificationsRequest {
    v1::ListNotificationsRequest {
        care_units: vec![make::wire_unit()],
        states: states.iter().map(|state| (*state).into()).collect(),
        ..Default::default()
    }
}

async fn list(
    harness: &Harness,
    call: v1::ListNotificationsRequest,
) -> Result<v1::ListNotificationsResponse, Status> {
    let answer = within(harness.notifications().list_notifications(call)).await?;
    Ok(answer.into_inner())
}

/// All that such a call lists, page by page.
async fn listed(harness: &Harness, call: v1::ListNotificationsRequest) -> Vec<v1::Notification> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let call = v1::ListNotificationsRequest {
            page_token,
            ..call.clone()
        };
        let page = list(harness, call).await.expect("a page");
        all.extend(page.notifications);
        if page.next_page_token.is_empty() {
            return all;
        }
        page_token = page.next_page_token;
    }
}

/// The request that a message belongs to.
fn request_of(message: &v1::Notification) -> &str {
    let (request, _) = message.name.split_once("/notifications/").expect("a name");
    request
}

/// A state, and the rows of which a message is shown in it.
type Listed = (State, &'static [&'static str]);

/// Requests by what has become of their first message.
type Population = BTreeMap<&'static str, String>;

/// One request of each kind, all due at [`NOW`] but the one that waits.
async fn populate(harness: &Harness) -> Population {
    let mut population = Population::new();
    for row in [
        "leased",
        "dispatching",
        "sent",
        "short",
        "held",
        "parked",
        "booked",
        "withdrawn",
        "lapsed",
    ] {
        let form = match row {
            "short" => v1::BookingRequest {
                origin: Some(make::wire_referral(row)),
                ..make::wire_form("2026-03-09", "2026-03-13")
            },
            _ => due_now(row),
        };
        population.insert(row, create(harness, form).await);
    }
    let due = harness.lease_due().await;
    assert_eq!(due.len(), population.len());
    for due in &due {
        let request = &due.booking_request;
        let row = population.iter().find(|(_, name)| *name == request);
        match *row.expect("one of them").0 {
            "dispatching" => {
                let given = authorize(harness, vec![lease(due)]).await;
                assert!(given.expect("answered").refused().is_empty());
            }
            "sent" | "short" => answer(harness, sent(due)).await,
            "held" => {
                worklist_user::contact(harness, request, Contact::CallBack).await;
            }
            "parked" => answer(harness, park(due)).await,
            "booked" => book(harness, request).await,
            "withdrawn" => {
                answer(harness, sent(due)).await;
                let call = make::wire_cancel(request);
                harness.cancel(call).await.expect("cancelled");
            }
            _ => {}
        }
    }
    let withdrawal = harness.lease_due().await.remove(0);
    answer(harness, park(&withdrawal)).await;
    let waiting = make::wire_form("2026-05-18", "2026-06-12");
    population.insert("waiting", create(harness, waiting).await);
    population
}

fn park(due: &v1::DueNotification) -> v1::Acknowledgement {
    v1::Acknowledgement {
        outcome: Outcome::Park.into(),
        ..sent(due)
    }
}

/// What is listed in these states, by row, in the order of the rows.
async fn rows(harness: &Harness, population: &Population, states: &[State]) -> Vec<&'static str> {
    let listed = listed(harness, all_of(states)).await;
    let rows = listed.iter().map(|message| {
        let row = population.iter().find(|(_, it)| *it == request_of(message));
        *row.expect("one of them").0
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable();
    rows
}

#[tokio::test]
async fn each_state_lists_the_messages_that_are_shown_in_it() {
    let harness = Harness::start(NOW).await;
    let population = populate(&harness).await;
    let tables: [(&str, &[Listed]); 3] = [
        (
            NOW,
            &[
                // The reminder of what was sent is scheduled; that of a short period is skipped.
                (State::Scheduled, &["held", "sent", "waiting"]),
                (State::Leased, &["lapsed", "leased"]),
                (State::Dispatching, &["dispatching"]),
                (State::Sent, &["sent", "short", "withdrawn"]),
                (State::Skipped, &["short"]),
                (State::Cancelled, &["booked", "withdrawn"]),
                (State::Parked, &["parked", "withdrawn"]),
            ],
        ),
        (
            // A second before most periods end.
            "2026-06-12T21:59:59Z",
            &[
                (State::Scheduled, &["held", "sent", "waiting"]),
                (State::Leased, &["lapsed", "leased"]),
                (State::Dispatching, &["dispatching"]),
                (State::Sent, &["sent", "short", "withdrawn"]),
                (State::Skipped, &["short"]),
                (State::Cancelled, &["booked", "withdrawn"]),
                (State::Parked, &["parked", "withdrawn"]),
            ],
        ),
        (
            "2026-06-12T22:00:00Z",
            &[
                (State::Scheduled, &[]),
                (State::Leased, &[]),
                // Its lease has long expired, and nobody has answered.
                (State::Dispatching, &[]),
                (State::Sent, &["sent", "short", "withdrawn"]),
                (
                    State::Skipped,
                    &[
                        "dispatching",
                        "held",
                        "lapsed",
                        "leased",
                        "parked",
                        "sent",
                        "short",
                        "waiting",
                    ],
                ),
                (State::Cancelled, &["booked", "withdrawn"]),
                (State::Parked, &["withdrawn"]),
            ],
        ),
    ];
    for (now, table) in tables {
        harness.advance(now);
        for (state, expected) in table {
            let rows = rows(&harness, &population, &[*state]).await;
            assert_eq!(rows, *expected, "{state:?} at {now}");
            for message in listed(&harness, all_of(&[*state])).await {
                assert_eq!(message.state(), *state, "{now}");
                let shown = messages(&harness, request_of(&message)).await;
                assert!(shown.contains(&message), "{now}: as it is shown alone");
            }
        }
        let waits: usize = table[..3].iter().map(|(_, rows)| rows.len()).sum();
        let parked = table[6].1.len();
        let default = rows(&harness, &population, &[]).await;
        assert_eq!(default.len(), waits + parked, "{now}");
        let every: Vec<State> = table.iter().map(|(state, _)| *state).collect();
        let all = listed(&harness, all_of(&every)).await;
        let sum: usize = table.iter().map(|(_, rows)| rows.len()).sum();
        assert_eq!(all.len(), sum, "each is in one state");
    }
    assert!(harness.lease_due().await.is_empty(), "nothing was freed");
}

#[tokio::test]
async fn a_longer_period_brings_a_skipped_message_back() {
    let harness = Harness::start(NOW).await;
    let short = make::wire_form("2026-03-09", "2026-03-13");
    let request = create(&harness, short).await;
    harness.hand_over_due().await;
    let skipped = listed(&harness, all_of(&[State::Skipped])).await;
    assert_eq!(skipped.len(), 1);
    assert_eq!(skipped[0].cause(), NotificationCause::AfterPeriod);
    assert!(listed(&harness, all_of(&[])).await.is_empty());
    let keep = v1::change_booking_request_request::OnChange::Keep;
    worklist_user::change_period(&harness, &request, "2026-03-09", "2026-03-31", keep).await;
    let scheduled = listed(&harness, all_of(&[])).await;
    assert_eq!(scheduled.len(), 1);
    assert_eq!(scheduled[0].name, skipped[0].name);
    assert_eq!(scheduled[0].state(), State::Scheduled);
    assert!(listed(&harness, all_of(&[State::Skipped])).await.is_empty());
}

#[tokio::test]
async fn what_is_listed_is_not_leased() {
    let harness = Harness::start(NOW).await;
    create(&harness, due_now("R-1")).await;
    let before = listed(&harness, all_of(&[])).await;
    assert_eq!(listed(&harness, all_of(&[])).await, before);
    assert_eq!(before[0].delivery_attempt, 0);
    assert_eq!(harness.lease_due().await.len(), 1);
}

#[tokio::test]
async fn channels_and_due_times_narrow_the_list() {
    let harness = Harness::start(NOW).await;
    let by_post = |form: v1::BookingRequest| v1::BookingRequest {
        patient: form.patient.clone().map(|patient| v1::Patient {
            inbox_reach: InboxReach::None.into(),
            ..patient
        }),
        ..form
    };
    let form = |referral_id: &str, first: &str| v1::BookingRequest {
        origin: Some(make::wire_referral(referral_id)),
        ..make::wire_form(first, "2026-06-12")
    };
    // Due on 6, 7 and 8 April.
    let inbox = create(&harness, form("inbox", "2026-05-18")).await;
    let letter = create(&harness, by_post(form("letter", "2026-05-19"))).await;
    let last = create(&harness, form("last", "2026-05-20")).await;
    for (row, channels, due_before, expected) in [
        ("all", &[][..], None, &[&inbox, &letter, &last][..]),
        ("inbox", &[DeliveryChannel::Inbox], None, &[&inbox, &last]),
        ("letters", &[DeliveryChannel::Letter], None, &[&letter]),
        (
            "both, one of them twice",
            &[
                DeliveryChannel::Letter,
                DeliveryChannel::Inbox,
                DeliveryChannel::Letter,
            ],
            None,
            &[&inbox, &letter, &last],
        ),
        (
            "before the second",
            &[],
            Some("2026-04-07T07:00:00Z"),
            &[&inbox],
        ),
        (
            "just after the second",
            &[],
            Some("2026-04-07T07:00:00.000001Z"),
            &[&inbox, &letter],
        ),
        ("before the first", &[], Some("2026-04-06T07:00:00Z"), &[]),
        (
            "letters before the last",
            &[DeliveryChannel::Letter],
            Some("2026-04-08T07:00:00Z"),
            &[&letter],
        ),
    ] {
        let call = v1::ListNotificationsRequest {
            channels: channels.iter().map(|it| (*it).into()).collect(),
            due_before_time: due_before.map(make::wire_at),
            ..all_of(&[])
        };
        let listed = listed(&harness, call).await;
        let requests: Vec<_> = listed.iter().map(request_of).collect();
        assert_eq!(requests, expected, "{row}");
    }
}

#[tokio::test]
async fn pages_follow_the_due_time_and_then_the_name_without_repeats_or_gaps() {
    let harness = Harness::start(NOW).await;
    // Three due times, each shared by several.
    for number in 0..13 {
        let first = format!("2026-05-{}", 18 + number % 3);
        let form = v1::BookingRequest {
            origin: Some(make::wire_referral(&format!("R-{number}"))),
            ..make::wire_form(&first, "2026-06-12")
        };
        create(&harness, form).await;
    }
    let all = list(&harness, all_of(&[])).await.expect("a page");
    assert_eq!(all.next_page_token, "");
    let all = all.notifications;
    assert_eq!(all.len(), 13);
    let place = |it: &v1::Notification| (it.due_time.expect("a time").seconds, it.name.clone());
    assert!(all.is_sorted_by_key(place));
    for page_size in [1, 2, 4, 5, 12, 13, 14] {
        let call = v1::ListNotificationsRequest {
            page_size,
            ..all_of(&[])
        };
        assert_eq!(listed(&harness, call).await, all, "{page_size}");
    }
    // What leaves the list between two pages causes neither.
    let call = v1::ListNotificationsRequest {
        page_size: 6,
        ..all_of(&[])
    };
    let first = list(&harness, call.clone()).await.expect("a page");
    assert_eq!(first.notifications, all[..6]);
    book(&harness, request_of(&all[2])).await;
    book(&harness, request_of(&all[5])).await;
    book(&harness, request_of(&all[7])).await;
    let rest = v1::ListNotificationsRequest {
        page_size: 500,
        page_token: first.next_page_token,
        ..call
    };
    let rest = list(&harness, rest).await.expect("a page").notifications;
    assert_eq!(rest, [&all[6..7], &all[8..]].concat());
}

#[tokio::test]
async fn a_page_holds_fifty_when_none_says_how_many_and_five_hundred_at_most() {
    let harness = Harness::start(NOW).await;
    for number in 0..51 {
        create(&harness, due_now(&format!("R-{number}"))).await;
    }
    for (page_size, length) in [(0, 50), (50, 50), (51, 51), (500, 51), (i32::MAX, 51)] {
        let call = v1::ListNotificationsRequest {
            page_size,
            ..all_of(&[])
        };
        let page = list(&harness, call).await.expect("a page");
        assert_eq!(page.notifications.len(), length, "{page_size}");
        assert_eq!(page.next_page_token.is_empty(), length == 51);
    }
}

#[tokio::test]
async fn a_page_token_belongs_to_its_filters() {
    let harness = Harness::start(NOW).await;
    for number in 0..4 {
        create(&harness, due_now(&format!("R-{number}"))).await;
    }
    let call = v1::ListNotificationsRequest {
        care_units: vec![make::wire_unit(), "careUnits/SE2321000131-P1".into()],
        page_size: 1,
        ..all_of(&[])
    };
    let token = list(&harness, call.clone()).await.expect("a page");
    let call = v1::ListNotificationsRequest {
        page_token: token.next_page_token,
        ..call
    };
    // What means the same is the same.
    let same: [fn(&mut v1::ListNotificationsRequest); 4] = [
        |it| it.page_size = 3,
        |it| it.care_units.reverse(),
        |it| {
            it.channels = vec![
                DeliveryChannel::Letter.into(),
                DeliveryChannel::Inbox.into(),
            ]
        },
        |it| {
            it.states = [
                State::Parked,
                State::Dispatching,
                State::Leased,
                State::Scheduled,
                State::Leased,
            ]
            .map(Into::into)
            .to_vec();
        },
    ];
    for (i, alter) in same.into_iter().enumerate() {
        let mut call = call.clone();
        alter(&mut call);
        let page = list(&harness, call).await;
        assert!(page.is_ok(), "{i}: {:?}", page.err());
    }
    let others: [fn(&mut v1::ListNotificationsRequest); 6] = [
        |it| it.care_units.truncate(1),
        |it| it.states = vec![State::Scheduled.into()],
        |it| it.channels = vec![DeliveryChannel::Inbox.into()],
        |it| it.due_before_time = Some(make::wire_at("2026-06-12T22:00:00Z")),
        |it| it.page_token.insert(0, 'A'),
        |it| it.page_token = "x".into(),
    ];
    for (i, alter) in others.into_iter().enumerate() {
        let mut call = call.clone();
        alter(&mut call);
        let refused = list(&harness, call).await.expect_err("another query");
        let reason = (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned());
        assert_eq!(refusal(&refused), reason, "{i}");
    }
}

/// The care unit of each message.
fn units_of(messages: &[v1::Notification]) -> Vec<&str> {
    let unit = |it: &v1::Notification| it.name.find("/bookingRequests/").expect("a name");
    messages.iter().map(|it| &it.name[..unit(it)]).collect()
}

#[tokio::test]
async fn each_care_unit_has_its_own_and_several_are_listed_together() {
    let harness = Harness::start(NOW).await;
    let unit = |number: usize| format!("careUnits/SE2321000131-P{number}");
    for number in [1, 2, 10] {
        let call = v1::CreateBookingRequestRequest {
            parent: unit(number),
            ..make::wire_create(due_now("R-1"))
        };
        harness.create(call).await.expect("created");
    }
    for (care_units, expected) in [
        (vec![unit(1)], vec![unit(1)]),
        (vec![unit(3)], vec![]),
        // Due at once, so by name.
        (
            vec![unit(2), unit(10), unit(1)],
            vec![unit(1), unit(10), unit(2)],
        ),
        (
            vec![
                unit(2),
                unit(2).to_lowercase().replace("careunits", "careUnits"),
            ],
            vec![unit(2)],
        ),
    ] {
        for page_size in [0, 1] {
            let call = v1::ListNotificationsRequest {
                care_units: care_units.clone(),
                page_size,
                ..Default::default()
            };
            let listed = listed(&harness, call).await;
            assert_eq!(units_of(&listed), expected, "{care_units:?}");
        }
    }
}

#[tokio::test]
async fn ties_go_by_name_whatever_order_the_database_has() {
    let Some(backend) = Backend::postgres().await else {
        return;
    };
    let database = Database::connect(backend.url()).await.expect("a database");
    for table in ["booking_request", "notification"] {
        // In Danish AA is a letter of its own, the last.
        let danish =
            format!("ALTER TABLE {table} ALTER COLUMN care_unit TYPE text COLLATE \"da-x-icu\"");
        database.execute_unprepared(&danish).await.expect("altered");
    }
    database.close().await.expect("closed");
    let clock = Clock::sandbox(make::at(NOW));
    let harness = Harness::over(backend, clock, Limits::default()).await;
    let units = ["AA1", "B1"].map(|unit| format!("careUnits/SE2321000131-{unit}"));
    for parent in units.iter().rev() {
        let call = v1::CreateBookingRequestRequest {
            parent: parent.clone(),
            ..make::wire_create(due_now("R-1"))
        };
        harness.create(call).await.expect("created");
    }
    let call = v1::ListNotificationsRequest {
        care_units: units.to_vec(),
        page_size: 1,
        ..Default::default()
    };
    let listed = listed(&harness, call).await;
    assert_eq!(units_of(&listed), units);
}

#[tokio::test]
async fn what_is_only_projected_is_refused_and_every_bad_field_is_named() {
    let harness = Harness::start(NOW).await;
    for state in [0, State::Projected.into(), 9, -1] {
        let call = v1::ListNotificationsRequest {
            states: vec![State::Sent.into(), state],
            ..all_of(&[])
        };
        let refused = list(&harness, call).await.expect_err("no such list");
        let reason = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
        assert_eq!(refusal(&refused), reason);
        assert_eq!(bad_fields(&refused), ["states[1]"], "{state}");
    }
    let bad = v1::ListNotificationsRequest {
        care_units: vec!["careUnits/-".into()],
        states: vec![State::Projected.into()],
        channels: vec![DeliveryChannel::Inbox.into(), 0],
        due_before_time: Some(prost_types::Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        }),
        page_size: -1,
        page_token: "x".into(),
    };
    let refused = list(&harness, bad).await.expect_err("refused");
    let mut named = bad_fields(&refused);
    named.sort();
    assert_eq!(
        named,
        [
            "care_units[0]",
            "channels[1]",
            "due_before_time",
            "page_size",
            "states[0]"
        ]
    );
    for count in [0, 51] {
        let units = (0..count).map(|it| format!("careUnits/SE2321000131-P{it}"));
        let call = v1::ListNotificationsRequest {
            care_units: units.collect(),
            ..Default::default()
        };
        let refused = list(&harness, call).await.expect_err("refused");
        assert_eq!(bad_fields(&refused), ["care_units"], "{count}");
    }
}

#[tokio::test]
async fn a_parked_message_is_listed_until_staff_release_it() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let due = harness.lease_due().await.remove(0);
    answer(&harness, park(&due)).await;
    let parked = listed(&harness, all_of(&[State::Parked])).await;
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].name, message(&due).name);
    worklist_user::release(&harness, &request, DeliveryChannel::Letter).await;
    assert!(listed(&harness, all_of(&[State::Parked])).await.is_empty());
    let scheduled = listed(&harness, all_of(&[State::Scheduled])).await;
    assert_eq!(scheduled.len(), 1);
    assert_eq!(scheduled[0].channel(), DeliveryChannel::Letter);
}
