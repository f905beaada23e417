//! A clock that is wrong sends nothing: steps of the machine's clock, and clocks that are apart.

mod postgresql;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use care_invitation::clock::Clock;
use care_invitation::contract::v1;
use care_invitation::contract::v1::notification::State;
use care_invitation::domain::Context;
use care_invitation::domain::booking_request::create::create as domain_create;
use care_invitation::domain::calendar::{ClockReading, Instant};
use care_invitation::domain::notification::LeaseRef;
use care_invitation::domain::request_key::RequestKey;
use care_invitation::grpc::middleware::Limits;
use care_invitation::store::Store;
use care_invitation::store::error::Error;
use care_invitation::store::skew::ClockFault;
use chrono::{Days, TimeDelta, Utc};
use tonic::{Code, Status, Streaming};
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};
use tonic_types::StatusExt;

use crate::backend::Backend;
use crate::consumer::{
    Consumer, answer, authorize, everything, lease, lease_one, message, name, sent,
};
use crate::harness::{Harness, refusal, within};
use crate::make;
use crate::make::at;
use crate::replica::healthy;
use crate::store::claim_request;
use crate::store_fixtures::{self, call, creation, referral};

/// How long a step must last to be the truth, and a little more.
const SETTLED: Duration = Duration::from_millis(5_100);

/// A machine whose wall clock is the real one, set wrong by a test. Its monotonic clock moves by
/// hand, so that no test waits for a step to settle.
#[derive(Default)]
pub struct Machine {
    seconds_ahead: AtomicI64,
    passed: AtomicU64,
}

impl Machine {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn clock(self: &Arc<Self>) -> Clock {
        let (wall, monotonic) = (Arc::clone(self), Arc::clone(self));
        Clock::over(
            move || Utc::now() + TimeDelta::seconds(wall.seconds_ahead.load(Ordering::SeqCst)),
            move || Duration::from_millis(monotonic.passed.load(Ordering::SeqCst)),
        )
    }

    /// Steps the wall clock.
    pub fn step(&self, by: TimeDelta) {
        let seconds = by.num_seconds();
        self.seconds_ahead.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Lets a step settle, which the replica must have seen.
    fn settle(&self) {
        let passed = SETTLED.as_millis().try_into().expect("a short time");
        self.passed.fetch_add(passed, Ordering::SeqCst);
    }
}

/// The call for an invitation to a visit in so many days, whose first message is due six weeks
/// before.
fn visit_in(days: u64) -> v1::CreateBookingRequestRequest {
    let today = Utc::now().date_naive();
    let first = today + Days::new(days);
    let last = first + Days::new(60);
    make::wire_create(v1::BookingRequest {
        origin: Some(make::wire_referral(&format!("R-{days}"))),
        ..make::wire_form(&first.to_string(), &last.to_string())
    })
}

/// One whose message is due at once.
fn due_now() -> v1::CreateBookingRequestRequest {
    visit_in(35)
}

/// One whose message is due in 18 days.
fn due_later() -> v1::CreateBookingRequestRequest {
    visit_in(60)
}

async fn create(harness: &Harness, call: v1::CreateBookingRequestRequest) -> String {
    harness.create(call).await.expect("created").name
}

/// The first message of a request.
async fn first_message(harness: &Harness, request: &str) -> v1::Notification {
    let request = harness.get(request).await.expect("a request");
    let invitation = request.care_invitation.expect("an invitation");
    invitation.notifications.into_iter().next().expect("it")
}

async fn watch(harness: &Harness) -> Result<Streaming<v1::WatchWorklistResponse>, Status> {
    let call = v1::WatchWorklistRequest {
        query: Some(v1::WorklistQuery {
            worklists: vec![v1::Worklist::CareInvitations.into()],
            care_units: vec![make::wire_unit()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let answer = within(harness.worklists().watch_worklist(call)).await?;
    Ok(answer.into_inner())
}

/// Reads a watch to its end.
async fn end_of_watch(mut events: Streaming<v1::WatchWorklistResponse>) -> Status {
    loop {
        match within(events.message()).await {
            Ok(event) => assert!(event.is_some(), "it was not to end with OK"),
            Err(status) => return status,
        }
    }
}

/// A failure that says when to come again.
fn unavailable(status: &Status) {
    let expected = (Code::Unavailable, "UNAVAILABLE".to_owned());
    assert_eq!(refusal(status), expected, "{status:?}");
    assert!(status.get_error_details().retry_info().is_some());
}

/// Nothing is leased, authorized or written, and no stream is opened.
async fn refuses(harness: &Harness, due: &v1::DueNotification) {
    let opened = Consumer::try_open(harness, everything()).await;
    unavailable(&opened.err().expect("no stream of due messages"));
    unavailable(&watch(harness).await.expect_err("no watch"));
    let authorized = authorize(harness, vec![lease(due)]).await;
    unavailable(&authorized.expect_err("no leave"));
    let created = harness.create(visit_in(90)).await;
    unavailable(&created.expect_err("no request"));
}

/// An instant of the service lies near one of the test.
fn is_near(at: Instant, other: Instant) -> bool {
    (at - other).abs() < TimeDelta::minutes(1)
}

async fn was_sent_now(harness: &Harness, request: &str) {
    let message = first_message(harness, request).await;
    assert_eq!(message.state(), State::Sent);
    let sent_at = message.send_time.expect("when");
    let age = Utc::now().timestamp() - sent_at.seconds;
    assert!((0..60).contains(&age), "sent {age} seconds ago");
}

#[tokio::test]
async fn a_jump_that_is_taken_back_sends_nothing_and_leaves_nothing_behind() {
    for by in [TimeDelta::days(70), TimeDelta::days(3), TimeDelta::hours(2)] {
        jump_and_back(by).await;
    }
}

async fn jump_and_back(by: TimeDelta) {
    let machine = Machine::new();
    let harness = Harness::on(machine.clock(), Limits::default()).await;
    let request = create(&harness, due_now()).await;
    let due = lease_one(&harness, 600).await;
    create(&harness, due_later()).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    let watched = watch(&harness).await.expect("a watch");

    machine.step(by);
    unavailable(&consumer.next().await.expect_err("its end"));
    unavailable(&end_of_watch(watched).await);
    healthy(&harness.channel, "", NotServing).await;
    refuses(&harness, &due).await;
    answer(&harness, sent(&due)).await;
    was_sent_now(&harness, &request).await;

    machine.step(-by);
    healthy(&harness.channel, "", Serving).await;
    assert!(is_near(harness.clock.now(), Utc::now()));
    assert!(harness.lease_due().await.is_empty());
    let soon = create(&harness, visit_in(36)).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    assert!(name(&consumer.due().await).starts_with(&soon));
    let id = soon.rsplit('/').next().expect("an id");
    let id: uuid::Uuid = id.parse().expect("an id");
    let (made, _) = id.get_timestamp().expect("a time").to_unix();
    let age = Utc::now().timestamp() - i64::try_from(made).expect("a time");
    assert!((0..60).contains(&age), "ids are not dated ahead: {age}");
}

#[tokio::test]
async fn a_step_that_lasts_is_the_truth_in_either_direction() {
    let machine = Machine::new();
    let backend = Backend::sqlite().await;
    let harness = Harness::over(backend, machine.clock(), Limits::default()).await;
    let request = create(&harness, due_later()).await;
    assert!(harness.lease_due().await.is_empty());

    machine.step(TimeDelta::days(20));
    healthy(&harness.channel, "", NotServing).await;
    assert!(is_near(harness.clock.now(), Utc::now()), "not yet");
    machine.settle();
    healthy(&harness.channel, "", Serving).await;
    assert!(is_near(
        harness.clock.now(),
        Utc::now() + TimeDelta::days(20)
    ));
    let due = harness.hand_over_due().await;
    assert_eq!(due.len(), 1);
    assert!(name(&due[0]).starts_with(&request));

    machine.step(TimeDelta::days(-20));
    healthy(&harness.channel, "", NotServing).await;
    machine.settle();
    healthy(&harness.channel, "", Serving).await;
    assert!(is_near(harness.clock.now(), Utc::now()));
    let soon = create(&harness, due_now()).await;
    let due = harness.lease_due().await;
    assert_eq!(due.len(), 1);
    assert!(name(&due[0]).starts_with(&soon));
}

#[tokio::test]
async fn of_two_replicas_the_one_whose_clock_is_wrong_sends_nothing() {
    for by in [TimeDelta::days(20), TimeDelta::hours(2)] {
        let Some(backend) = Backend::postgres().await else {
            return;
        };
        one_is_wrong(backend, by).await;
    }
}

async fn one_is_wrong(backend: Backend, by: TimeDelta) {
    let machine = Machine::new();
    let right = Harness::over(backend, Clock::real(), Limits::default()).await;
    let again = right.backend.again().await;
    let wrong = Harness::over(again, machine.clock(), Limits::default()).await;
    let leased = create(&right, due_now()).await;
    let due = lease_one(&right, 60).await;
    let later = create(&right, due_later()).await;
    let mut consumer = Consumer::open(&wrong, everything()).await;
    let watched = watch(&wrong).await.expect("a watch");

    machine.step(by);
    unavailable(&consumer.next().await.expect_err("its end"));
    unavailable(&end_of_watch(watched).await);
    healthy(&wrong.channel, "", NotServing).await;
    machine.settle();
    assert!(is_near(wrong.clock.now(), Utc::now() + by));
    refuses(&wrong, &due).await;
    for request in [&leased, &later] {
        let attempts = first_message(&right, request).await.delivery_attempt;
        assert_eq!(
            attempts,
            i32::from(request == &leased),
            "leased by one alone"
        );
    }
    answer(&wrong, sent(&due)).await;
    was_sent_now(&right, &leased).await;

    machine.step(-by);
    assert!(
        !is_near(wrong.clock.now(), Utc::now()),
        "it has seen the step"
    );
    machine.settle();
    healthy(&wrong.channel, "", Serving).await;
    assert!(wrong.lease_due().await.is_empty());
    let soon = create(&wrong, visit_in(36)).await;
    let due = wrong.lease_due().await;
    assert_eq!(due.len(), 1);
    assert!(name(&due[0]).starts_with(&soon));
}

/// The service on the same database, started again by a clock that shows `now`.
pub async fn started_again(harness: Harness, now: &str) -> Harness {
    let Harness {
        backend,
        shutdown,
        server,
        ..
    } = harness;
    shutdown.cancel();
    within(server).await.expect("it ends");
    let backend = within(backend.reopened()).await;
    Harness::over(backend, Clock::sandbox(at(now)), Limits::default()).await
}

/// Hands over what is due. Returns the kind of message that each patient gets, which is one.
async fn handed_over(harness: &Harness) -> HashMap<String, v1::NotificationKind> {
    let due = harness.hand_over_due().await;
    let of_each: HashMap<_, _> = due
        .iter()
        .map(|it| (it.booking_request.clone(), message(it).kind()))
        .collect();
    assert_eq!(of_each.len(), due.len(), "one message each");
    of_each
}

#[tokio::test]
async fn after_forty_days_without_the_service_each_patient_gets_one_message_and_the_next_counts_from_it()
 {
    let harness = Harness::start("2026-03-02T09:00:00Z").await;
    let invite = async |referral: &str, first: &str, last: &str| {
        let form = v1::BookingRequest {
            origin: Some(make::wire_referral(referral)),
            ..make::wire_form(first, last)
        };
        create(&harness, make::wire_create(form)).await
    };
    let told = invite("told", "2026-03-30", "2026-06-30").await;
    let over_soon = invite("over soon", "2026-03-09", "2026-04-10").await;
    harness.hand_over_due().await;
    // Due on the third day, and with both reminders in the forty.
    let untold = invite("untold", "2026-04-16", "2026-06-30").await;
    let over = invite("over", "2026-04-16", "2026-04-17").await;
    assert!(harness.lease_due().await.is_empty());

    let harness = started_again(harness, "2026-04-11T09:00:00Z").await;
    let (first, reminder) = (
        v1::NotificationKind::Invitation,
        v1::NotificationKind::Reminder,
    );
    let expected = [
        (told.clone(), reminder),
        (untold.clone(), first),
        (over.clone(), first),
    ];
    assert_eq!(handed_over(&harness).await, HashMap::from(expected));
    let ended = harness.get(&over_soon).await.expect("a request");
    assert_eq!(ended.state(), v1::booking_request::State::Expired);
    assert!(harness.lease_due().await.is_empty(), "nothing comes twice");
    // Half a month later, at nine in Sweden, and not a moment before.
    harness.advance("2026-04-25T06:59:59.999999Z");
    assert!(harness.lease_due().await.is_empty());
    harness.advance("2026-04-25T07:00:00Z");
    let expected = [(told, reminder), (untold.clone(), reminder)];
    assert_eq!(handed_over(&harness).await, HashMap::from(expected));
    harness.advance("2026-05-09T07:00:00Z");
    let expected = [(untold, reminder)];
    assert_eq!(handed_over(&harness).await, HashMap::from(expected));
    harness.advance("2026-06-30T09:00:00Z");
    assert!(harness.lease_due().await.is_empty());
}

/// The clock of a store, set wrong by a test.
#[derive(Clone, Default)]
struct Skew(Arc<AtomicI64>);

impl Skew {
    fn now(&self) -> Instant {
        Utc::now() + TimeDelta::seconds(self.0.load(Ordering::SeqCst))
    }

    fn set(&self, seconds: i64) {
        self.0.store(seconds, Ordering::SeqCst);
    }

    fn context(&self) -> impl Fn() -> Context + Clone + Send + 'static {
        let skew = self.clone();
        move || make::context(skew.now())
    }

    /// Creates a request of which a message is due at once.
    async fn insert(&self, store: &Store, number: usize) -> Result<RequestKey, Error> {
        let today = Utc::now().date_naive();
        let [first, last] = [30, 90].map(|days| (today + Days::new(days)).to_string());
        let mut form = make::form(&first, &last);
        form.origin = referral(&format!("R-{number}"));
        let command = creation(form);
        let (key, form) = (command.key.clone(), command.form.clone());
        let context = self.context();
        let decide = move || Ok(vec![domain_create(&command, &context())?]);
        let created = store.create(call(), key, &form, 1, decide).await?;
        Ok(created.record.key)
    }

    async fn claim(&self, store: &Store) -> Result<Vec<LeaseRef>, Error> {
        let claimed = store.claim(claim_request(100), self.context()).await?;
        Ok(claimed.leased.into_iter().map(|(_, lease)| lease).collect())
    }
}

fn is_apart<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::Clock(ClockFault::Apart { .. })))
}

#[tokio::test]
async fn what_is_decided_is_compared_with_the_database_where_it_is_written() {
    let Some(backend) = Backend::postgres().await else {
        return;
    };
    let store = &backend.store;
    let skew = Skew::default();
    let shown = skew.clone();
    store.go_by(move || ClockReading::Machine(shown.now()));
    const DAYS_20: i64 = 20 * 86_400;
    for (number, seconds) in [0, 1, -1, 3, -3, DAYS_20, -DAYS_20].into_iter().enumerate() {
        let is_right = seconds.abs() < 2;
        skew.set(0);
        skew.insert(store, 10 * number).await.expect("created");
        let leases = skew.claim(store).await.expect("a claim");
        let waiting = skew.insert(store, 10 * number + 1).await.expect("created");

        skew.set(seconds);
        let claimed = skew.claim(store).await;
        let given = store.authorize(leases.clone(), false, skew.context()).await;
        assert_eq!(is_apart(&given), !is_right, "{seconds}");
        // Perhaps in one batch with what is refused.
        let handed_over = Utc::now();
        let mut sent = store_fixtures::sent(&leases[0]);
        sent.1.sent_at = Some(handed_over);
        let settle = store.acknowledge(vec![sent], skew.context());
        let (settled, created) = tokio::join!(settle, skew.insert(store, 10 * number + 2));
        assert_eq!(is_apart(&created), !is_right, "{seconds}");
        let settled = settled.expect("recorded at all times");
        assert_eq!(store_fixtures::refusals(settled), [], "{seconds}");

        skew.set(0);
        let record = store.get(&leases[0].request).await.expect("read");
        let message = record.notification(leases[0].notification).expect("it");
        let off = message.sent_at.expect("sent") - handed_over;
        assert!(off.abs() < TimeDelta::seconds(2), "{seconds}: {off}");
        let record = store.get(&waiting).await.expect("read");
        let message = &record.care_invitation.expect("invited").notifications[0];
        // By a clock that is behind it is not due yet, so that there is nothing to be refused.
        let leased = claimed.as_ref().is_ok_and(|it| !it.is_empty());
        assert_eq!(leased, message.attempt_count == 1, "{seconds}");
        assert_eq!(leased, is_right && 0 <= seconds, "{seconds}");
        assert_eq!(is_apart(&claimed), 1 < seconds, "{seconds}");
        for lease in skew.claim(store).await.expect("a claim") {
            let sent = vec![store_fixtures::sent(&lease)];
            store
                .acknowledge(sent, skew.context())
                .await
                .expect("recorded");
        }
    }
}
