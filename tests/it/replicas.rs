//! Several replicas of the service over one PostgreSQL: whoever is asked, the answer is the same,
//! and what one does the others notice.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::{Duration, Instant};

use care_invitation::clock::Clock;
use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use care_invitation::contract::v1::notification::State;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::contract::v1::stream_due_notifications_response::Event as DueEvent;
use care_invitation::contract::v1::watch_worklist_response::Event;
use care_invitation::domain::Context;
use care_invitation::domain::care_unit_settings::Policy;
use care_invitation::domain::care_units::CareUnits;
use care_invitation::domain::notification::DeliveryChannel;
use care_invitation::grpc::middleware::Limits;
use care_invitation::store::notification::ClaimRequest;
use sea_orm::ConnectionTrait;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::backend::{Backend, connect};
use crate::care_unit_settings;
use crate::consumer::{
    Consumer, acknowledge, answer, at_most, everything, message, name, retry, sent,
};
use crate::harness::{Harness, metadata, refusal, within};
use crate::make;
use crate::make::at;

const NOW: &str = "2026-03-02T09:00:00Z";
/// When the lease of a message that fell due at [`NOW`] has run out, and the patience after it.
const LATER: &str = "2026-03-02T09:05:00Z";
/// How soon a consumer has a message that another replica has made.
const DUE_WITHIN: Duration = Duration::from_secs(1);
/// How soon a watcher knows what another replica has done.
const SEEN_WITHIN: Duration = Duration::from_secs(2);

/// Three replicas by one clock; none where there is no PostgreSQL.
async fn three() -> Option<[Harness; 3]> {
    let first = Backend::postgres().await?;
    let first = Harness::over(first, Clock::sandbox(at(NOW)), Limits::default()).await;
    let (second, third) = (first.replica().await, first.replica().await);
    Some([first, second, third])
}

/// The call for an invitation that is due at once.
fn due_now(number: usize) -> v1::CreateBookingRequestRequest {
    later(number, "2026-04-06")
}

/// The call for an invitation to a period that begins then, for a referral of its own.
fn later(number: usize, first: &str) -> v1::CreateBookingRequestRequest {
    make::wire_create(v1::BookingRequest {
        origin: Some(make::wire_referral(&format!("R-{number}"))),
        ..make::wire_form(first, "2026-06-12")
    })
}

/// Creates what the call says; gives the request's name.
async fn create(harness: &Harness, call: v1::CreateBookingRequestRequest) -> String {
    harness.create(call).await.expect("created").name
}

/// Makes calls at once, each through the replica beside it; their answers with the call's number.
async fn create_at_once(
    calls: impl IntoIterator<Item = (&Harness, usize, v1::CreateBookingRequestRequest)>,
) -> Vec<(usize, Result<String, Status>)> {
    let mut under_way = JoinSet::new();
    for (replica, number, call) in calls {
        let channel = replica.channel.clone();
        under_way.spawn(async move { (number, create_through(channel, call).await) });
    }
    within(under_way.join_all()).await
}

async fn create_through(
    channel: Channel,
    call: v1::CreateBookingRequestRequest,
) -> Result<String, Status> {
    let mut client = BookingRequestServiceClient::new(channel);
    let answer = client.create_booking_request(call).await?.into_inner();
    Ok(answer.booking_request.expect("the request").name)
}

fn all() -> v1::WorklistQuery {
    v1::WorklistQuery {
        worklists: vec![v1::Worklist::All.into()],
        care_units: vec![make::wire_unit()],
        personal_id: "198003012385".into(),
        personal_id_type: v1::PersonalIdType::Personnummer.into(),
        ..Default::default()
    }
}

/// The names of all requests.
async fn stored(harness: &Harness) -> BTreeSet<String> {
    let call = v1::ListWorklistRequest {
        query: Some(all()),
        page_size: 500,
        page_token: String::new(),
        ..Default::default()
    };
    let page = within(harness.worklists().list_worklist(call)).await;
    let page = page.expect("a list").into_inner();
    assert_eq!(page.next_page_token, "");
    let names = page.booking_requests.into_iter().map(|it| it.name);
    names.collect()
}

#[tokio::test]
async fn a_message_is_leased_once_among_consumers_on_three_replicas() {
    let Some(replicas) = three().await else {
        return;
    };
    let (lease, mut leases) = mpsc::unbounded_channel();
    let mut consumers = JoinSet::new();
    for replica in replicas.iter().cycle().take(9) {
        let mut consumer = Consumer::open(replica, everything()).await;
        let lease = lease.clone();
        consumers.spawn(async move { while lease.send(name(&consumer.due().await)).is_ok() {} });
    }
    let count = 120;
    let calls = (0..count).map(|number| (&replicas[number % 3], number, due_now(number)));
    for (_, created) in create_at_once(calls).await {
        created.expect("created");
    }
    let mut leased = BTreeSet::new();
    // One more, after which every consumer has had its chance to be given what another has.
    for number in 0..=count {
        if number == count {
            create(&replicas[0], due_now(number)).await;
        }
        let name = within(leases.recv()).await.expect("a consumer");
        assert!(leased.insert(name.clone()), "{name} is leased twice");
    }
    for replica in &replicas {
        assert!(replica.lease_due().await.is_empty());
    }
    assert!(leases.try_recv().is_err());
}

#[tokio::test]
async fn a_call_that_is_made_on_two_replicas_at_once_makes_one_request() {
    let Some([a, b, _]) = three().await else {
        return;
    };
    let mut created = BTreeMap::<usize, BTreeSet<String>>::new();
    for start in (0..100).step_by(25) {
        let pairs = (start..start + 25).flat_map(|number| {
            let call = due_now(number);
            [(&a, number, call.clone()), (&b, number, call)]
        });
        for (number, name) in create_at_once(pairs).await {
            let names = created.entry(number).or_default();
            names.insert(name.unwrap_or_else(|status| panic!("pair {number}: {status}")));
        }
    }
    assert_eq!(created.len(), 100);
    for (number, names) in &created {
        assert_eq!(names.len(), 1, "pair {number} was answered with {names:?}");
    }
    let created = created.into_values().flatten().collect();
    assert_eq!(stored(&a).await, created);
}

#[tokio::test]
async fn one_of_many_duplicates_on_three_replicas_is_created_and_the_others_name_it() {
    let Some(replicas) = three().await else {
        return;
    };
    for number in 0..20 {
        let calls = (0..6).map(|call| (&replicas[call % 3], call, due_now(number)));
        let answers = create_at_once(calls).await;
        let created = answers
            .iter()
            .filter_map(|(_, answer)| answer.as_ref().ok());
        let created: Vec<_> = created.collect();
        assert_eq!(created.len(), 1, "of {answers:?}");
        let refused = answers
            .iter()
            .filter_map(|(_, answer)| answer.as_ref().err());
        for status in refused {
            let duplicate = (Code::AlreadyExists, "DUPLICATE_REQUEST".to_owned());
            assert_eq!(refusal(status), duplicate);
            assert_eq!(metadata(status, "name"), *created[0]);
        }
    }
    assert_eq!(stored(&replicas[0]).await.len(), 20);
}

#[tokio::test]
async fn a_booking_on_one_takes_a_lease_on_another_back_and_sent_is_recorded_all_the_same() {
    let Some([a, b, c]) = three().await else {
        return;
    };
    let request = create(&a, due_now(1)).await;
    let mut consumer = Consumer::open(&b, everything()).await;
    let due = consumer.due().await;
    let booking = make::wire_booking(&request, "2026-06-01T08:00:00Z");
    a.book(booking).await.expect("booked");
    let booked = Instant::now();
    assert_eq!(consumer.revoked().await, name(&due));
    assert!(booked.elapsed() < DUE_WITHIN, "{:?}", booked.elapsed());

    answer(&b, sent(&due)).await;
    for replica in [&a, &b, &c] {
        let shown = replica.get(&request).await.expect("a request");
        let messages = shown.care_invitation.expect("an invitation").notifications;
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].state(), State::Sent);
        assert!(messages[0].sent_after_change);
    }
}

#[tokio::test]
async fn an_answer_through_another_replica_makes_room_for_one_message() {
    let Some([a, b, c]) = three().await else {
        return;
    };
    for number in 0..6 {
        create(&a, due_now(number)).await;
    }
    let mut consumer = Consumer::open(&b, at_most(2)).await;
    let mut held = consumer.take(2).await;
    for answering in [&a, &c] {
        answer(answering, sent(&held.remove(0))).await;
        held.push(consumer.due().await);
    }
    // The clock stands still: nothing but an answer makes room.
    assert_eq!(c.lease_due().await.len(), 2, "it holds two of the four");
    for due in held {
        answer(&b, sent(&due)).await;
    }
}

#[tokio::test]
async fn a_retry_through_another_replica_makes_room_too() {
    let Some([a, b, _]) = three().await else {
        return;
    };
    create(&a, due_now(1)).await;
    create(&a, due_now(2)).await;
    let mut consumer = Consumer::open(&b, at_most(1)).await;
    let first = consumer.due().await;
    answer(&a, retry(&first)).await;
    // The clock stands still: the lease has not run out.
    let second = consumer.due().await;
    assert_ne!(name(&first), name(&second));
}

#[tokio::test]
async fn the_newest_token_counts_on_every_replica_and_an_old_one_on_none() {
    let Some([a, b, c]) = three().await else {
        return;
    };
    let request = create(&a, due_now(1)).await;
    let old = b.lease_due().await.remove(0);
    a.advance(LATER);
    let new = c.lease_due().await.remove(0);
    assert_eq!(name(&old), name(&new));
    assert_eq!(message(&new).delivery_attempt, 2);
    for replica in [&a, &b, &c] {
        let lost = acknowledge(replica, vec![sent(&old)]).await;
        assert_eq!(lost.expect("answered"), [name(&old)]);
    }
    answer(&a, sent(&new)).await;
    let shown = b.get(&request).await.expect("a request");
    let messages = shown.care_invitation.expect("an invitation").notifications;
    assert_eq!(messages[0].state(), State::Sent);
}

#[tokio::test]
async fn an_answer_counts_through_a_replica_that_gave_an_older_lease() {
    let Some([a, b, c]) = three().await else {
        return;
    };
    create(&a, due_now(1)).await;
    create(&a, due_now(2)).await;
    let old = b.lease_due().await;
    a.advance(LATER);
    let new = c.lease_due().await;
    assert_eq!(old.len(), new.len());
    let sent = (sent(&new[0]), State::Sent);
    let retry = (retry(&new[1]), State::Scheduled);
    for (due, (given, state)) in new.iter().zip([sent, retry]) {
        answer(&b, given).await;
        let shown = c.get(&due.booking_request).await.expect("a request");
        let messages = shown.care_invitation.expect("an invitation").notifications;
        assert_eq!(messages[0].state(), state);
    }
}

#[tokio::test]
async fn a_message_made_on_one_reaches_a_consumer_on_another_within_a_second_of_falling_due() {
    let Some([a, b, _]) = three().await else {
        return;
    };
    let mut consumer = Consumer::open(&b, everything()).await;
    for number in 0..3 {
        let request = create(&a, due_now(number)).await;
        let created = Instant::now();
        let due = consumer.due().await;
        assert_eq!(due.booking_request, request);
        assert!(created.elapsed() < DUE_WITHIN, "{:?}", created.elapsed());
    }
    // Six weeks before its first day.
    for (number, first, due_at) in [
        (3, "2026-05-18", "2026-04-06T07:00:00Z"),
        (4, "2026-05-19", "2026-04-07T07:00:00Z"),
    ] {
        let request = create(&a, later(number, first)).await;
        a.advance(due_at);
        let fallen_due = Instant::now();
        loop {
            // Leases of the messages before it have run out by now, so that they come again.
            let due = consumer.due().await;
            if due.booking_request == request {
                break;
            }
        }
        let took = fallen_due.elapsed();
        assert!(took < DUE_WITHIN, "{took:?}");
    }
}

#[tokio::test]
async fn a_watcher_on_one_sees_within_two_seconds_what_another_does() {
    let Some([a, b, _]) = three().await else {
        return;
    };
    let query = v1::WorklistQuery {
        worklists: vec![v1::Worklist::CareInvitations.into()],
        care_units: vec![make::wire_unit()],
        ..Default::default()
    };
    let call = v1::WatchWorklistRequest {
        query: Some(query),
        ..Default::default()
    };
    let watched = within(b.worklists().watch_worklist(call)).await;
    let mut watched = watched.expect("a stream").into_inner();
    let mut next = async || {
        let said = within(watched.message()).await.expect("an event");
        said.expect("no end").event.expect("an event")
    };
    assert!(matches!(next().await, Event::SnapshotComplete(_)));

    for number in 0..3 {
        let request = create(&a, due_now(number)).await;
        let done = Instant::now();
        match next().await {
            Event::Upserted(shown) => assert_eq!(shown.name, request),
            other => panic!("not created: {other:?}"),
        }
        assert!(done.elapsed() < SEEN_WITHIN, "{:?}", done.elapsed());

        let cancelled = a.cancel(make::wire_cancel(&request)).await;
        cancelled.expect("cancelled");
        let done = Instant::now();
        assert_eq!(next().await, Event::Removed(request));
        assert!(done.elapsed() < SEEN_WITHIN, "{:?}", done.elapsed());
    }
}

#[tokio::test]
async fn a_count_on_one_is_a_second_old_at_most() {
    let Some([a, b, _]) = three().await else {
        return;
    };
    let counted = async || {
        let count = make::wire_count(vec![make::wire_unit()]);
        let answer = within(b.worklists().count_worklists(count)).await;
        let counts = answer.expect("counted").into_inner().counts;
        let invitations = v1::Worklist::CareInvitations;
        let of_list = counts.iter().find(|it| it.worklist() == invitations);
        of_list.expect("every list").count
    };
    let mut consumer = Consumer::open(&b, everything()).await;
    for number in 0..3 {
        let before = counted().await;
        create(&a, due_now(number)).await;
        let done = Instant::now();
        while counted().await == before {
            assert!(done.elapsed() < SEEN_WITHIN, "{:?}", done.elapsed());
        }
        // It follows the other replica by now, so that counts are kept.
        consumer.due().await;
    }
}

/// A replica that is a process of its own.
struct Process {
    child: Child,
    channel: Channel,
}

impl Process {
    async fn start(url: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_care-invitation"));
        command
            .env_clear()
            .args(["--database-url", url])
            .args(["--listen", "127.0.0.1:0", "--sandbox-clock", NOW])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("it starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut line = String::new();
        let said = within(BufReader::new(stdout).read_line(&mut line)).await;
        said.expect("a line");
        let address = line.trim_end().strip_prefix("listening on ");
        let address = address.unwrap_or_else(|| panic!("{line:?}")).to_owned();
        let endpoint = Endpoint::try_from(address).expect("an address");
        let channel = within(endpoint.connect()).await.expect("it listens");
        Self { child, channel }
    }
}

#[tokio::test]
async fn a_replica_that_is_killed_loses_nothing() {
    let Some([survivor, ..]) = three().await else {
        return;
    };
    let mut killed = Process::start(&survivor.backend.url()).await;
    // It has leased messages that nobody has answered for, and goes on being written to.
    let mut requests = BTreeSet::new();
    for number in 0..10 {
        requests.insert(create(&survivor, due_now(number)).await);
    }
    let mut notifications = NotificationServiceClient::new(killed.channel.clone());
    let stream = within(notifications.stream_due_notifications(everything())).await;
    let mut stream = stream.expect("a stream").into_inner();
    within(stream.message()).await.expect("a message");
    let (answer, mut answers) = mpsc::unbounded_channel();
    let mut callers = JoinSet::new();
    for caller in 1..=20 {
        let (channel, answer) = (killed.channel.clone(), answer.clone());
        callers.spawn(async move {
            let mut numbers = (caller * 1_000)..;
            loop {
                let call = due_now(numbers.next().expect("it never ends"));
                match create_through(channel.clone(), call.clone()).await {
                    Ok(name) => answer.send(name).expect("the test goes on"),
                    Err(_) => return call,
                }
            }
        });
    }
    for _ in 0..100 {
        requests.insert(within(answers.recv()).await.expect("a caller"));
    }
    within(killed.child.kill()).await.expect("killed");
    let unanswered = within(callers.join_all()).await;
    while let Ok(name) = answers.try_recv() {
        requests.insert(name);
    }

    for name in &requests {
        survivor.get(name).await.expect("it was answered for");
    }
    for call in unanswered {
        assert!(requests.insert(create(&survivor, call).await));
    }
    assert_eq!(stored(&survivor).await, requests);
    // What the killed one had leased is leased anew once that has run out.
    survivor.advance(LATER);
    let mut due = BTreeSet::new();
    while due.len() < requests.len() {
        let leased = survivor.hand_over_due().await;
        due.extend(leased.into_iter().map(|due| due.booking_request));
    }
    assert_eq!(due, requests);
}

/// Waits until a replica goes by a lead of so many days, which it must within [`SEEN_WITHIN`].
async fn follows(replica: &Harness, lead_days: i32) {
    let form = make::wire_form("2026-05-18", "2026-06-12");
    let call = v1::PreviewNotificationsRequest {
        parent: make::wire_unit(),
        booking_request: Some(form),
    };
    let due = at("2026-05-18T07:00:00Z") - chrono::Duration::days(lead_days.into());
    let due = care_invitation::contract::calendar::render_instant(due);
    let seen = async {
        loop {
            let preview = replica.requests().preview_notifications(call.clone()).await;
            let messages = preview.expect("answered").into_inner().notifications;
            if messages[0].due_time == Some(due) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SEEN_WITHIN, seen)
        .await
        .expect("in time");
}

/// Waits until the first message of a request is in a state.
async fn reaches(replica: &Harness, request: &str, state: State) {
    let reached = async {
        loop {
            let request = replica.get(request).await.expect("found");
            let messages = request.care_invitation.expect("invited").notifications;
            if messages[0].state() == state {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(reached).await;
}

#[tokio::test]
async fn a_change_of_settings_is_followed_by_every_replica_in_time() {
    let Some(replicas) = three().await else {
        return;
    };
    let [first, ..] = &replicas;
    for lead_days in [28, 7] {
        let settings = v1::CareUnitSettings {
            lead_days: Some(lead_days),
            ..Default::default()
        };
        let call = care_unit_settings::update(&["lead_days"], settings);
        care_unit_settings::set(first, call).await.expect("set");
        for replica in &replicas {
            follows(replica, lead_days).await;
        }
    }
    // One that starts later knows them from the start.
    follows(&first.replica().await, 7).await;
}

#[tokio::test]
async fn a_pause_revokes_what_other_replicas_have_leased() {
    let Some([first, second, _third]) = three().await else {
        return;
    };
    let mut consumer = Consumer::open(&second, everything()).await;
    let mut requests = BTreeSet::new();
    for number in 0..3 {
        requests.insert(create(&first, due_now(number)).await);
    }
    let mut held: BTreeSet<_> = consumer.take(3).await.iter().map(name).collect();
    let settings = v1::CareUnitSettings {
        lead_days: Some(49),
        paused_until: Some(make::wire_at("2026-03-20T08:00:00Z")),
        ..Default::default()
    };
    let call = care_unit_settings::update(&["lead_days", "paused_until"], settings);
    care_unit_settings::set(&first, call).await.expect("set");
    // Until it has heard of the pause, that replica may lease one again, and revokes it then.
    while !held.is_empty() {
        match consumer.next().await {
            Ok(Some(DueEvent::Revoked(name))) => drop(held.remove(&name)),
            Ok(Some(DueEvent::Due(_) | DueEvent::Heartbeat(_))) => {}
            Ok(None) | Err(_) => panic!("the stream has ended"),
        }
    }
    follows(&second, 49).await;
    for request in &requests {
        reaches(&first, request, State::Scheduled).await;
    }
    // What falls due from now on, wherever it is made, waits.
    requests.insert(create(&second, due_now(9)).await);
    assert!(second.lease_due().await.is_empty() && first.lease_due().await.is_empty());
    care_unit_settings::pause(&first, None).await;
    for request in &requests {
        reaches(&first, request, State::Leased).await;
    }
}

/// The other replica has not heard of the pause when it leases: its copy is older.
#[tokio::test]
async fn a_replica_that_learns_of_a_pause_revokes_what_it_has_leased_until_then() {
    let Some(backend) = Backend::postgres().await else {
        return;
    };
    let late = backend.again().await;
    let first = Harness::over(backend, Clock::sandbox(at(NOW)), Limits::default()).await;
    care_unit_settings::pause(&first, Some("2026-03-20T08:00:00Z")).await;
    let request = create(&first, due_now(1)).await;
    // A store without a service follows nothing.
    let (store, wanted) = (late.store.clone(), claim_of_one());
    let context = move || Context {
        policy: Policy {
            units: store.settings(),
            ..Policy::default()
        },
        ..make::context(at(NOW))
    };
    let claimed = late.store.claim(wanted, context).await.expect("claimed");
    assert_eq!(claimed.leased.len(), 1);
    let second = Harness::over(late, first.clock.clone(), Limits::default()).await;
    reaches(&first, &request, State::Scheduled).await;
    assert!(second.lease_due().await.is_empty());
}

fn claim_of_one() -> ClaimRequest {
    ClaimRequest {
        channels: DeliveryChannel::ALL.to_vec(),
        care_units: CareUnits::Every,
        tokens: vec![Uuid::new_v4()],
        lease_duration: chrono::Duration::seconds(600),
        always_authorizes: false,
        hides_protected: false,
    }
}

/// Nothing can be written for longer than the claim is waited for, and the claim is committed after that.
#[tokio::test]
async fn a_claim_that_is_committed_when_nobody_waits_for_it_leaves_no_lease() {
    let Some(backend) = Backend::postgres().await else {
        return;
    };
    let other = connect(&backend.url()).await;
    let harness = Harness::over(backend, Clock::sandbox(at(NOW)), Limits::default()).await;
    create(&harness, due_now(1)).await;
    let lock = "BEGIN; LOCK TABLE notification IN SHARE MODE";
    other.execute_unprepared(lock).await.expect("locked");

    let store = &harness.backend.store;
    let context = || make::context(at(NOW));
    let refused = store.claim(claim_of_one(), context).await;
    refused.expect_err("it is not answered in time");
    // The release has begun, while the claim still waits.
    tokio::time::sleep(Duration::from_millis(100)).await;
    other.execute_unprepared("COMMIT").await.expect("let go");

    let claimed = async {
        loop {
            match store.claim(claim_of_one(), context).await {
                Ok(claimed) if !claimed.leased.is_empty() => break,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    within(claimed).await;
}
