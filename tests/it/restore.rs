//! What a restored backup, or a failover that lost commits, must not break: the names of messages, and that consumers are
//! told what may have been handed over.

use std::collections::{HashMap, HashSet};

use care_invitation::clock::Clock;
use care_invitation::contract::calendar::render_instant;
use care_invitation::contract::v1;
use care_invitation::contract::v1::delivery_receipt::Receipt;
use care_invitation::domain::calendar::ClockReading;
use care_invitation::grpc::middleware::Limits;
use care_invitation::store::after_restore::{
    AfterRestoreError, InFuture, LostInterval, after_restore,
};
use chrono::{TimeDelta, Utc};

use crate::backend::{Backend, Kind};
use crate::consumer::{
    Consumer, Outcomes, Step, answer, authorize, lease, message, name, sent, step,
};
use crate::harness::{Harness, within};
use crate::make;
use crate::make::at;
use crate::worklist_user;

const NOW: &str = "2026-03-02T09:00:00Z";

/// The service as it goes on, and the service on a copy of its database as it was at `now`.
async fn with_restored(harness: Harness, now: &str) -> [Harness; 2] {
    let Harness {
        backend,
        shutdown,
        server,
        ..
    } = harness;
    shutdown.cancel();
    within(server).await.expect("it ends");
    let (original, copy) = within(backend.with_copy()).await;
    let over =
        |backend: Backend| Harness::over(backend, Clock::sandbox(at(now)), Limits::default());
    [over(original).await, over(copy).await]
}

fn unreachable(due: &v1::DueNotification) -> v1::Acknowledgement {
    v1::Acknowledgement {
        outcome: v1::acknowledgement::Outcome::Unreachable.into(),
        ..sent(due)
    }
}

fn park(due: &v1::DueNotification) -> v1::Acknowledgement {
    v1::Acknowledgement {
        outcome: v1::acknowledgement::Outcome::Park.into(),
        ..sent(due)
    }
}

/// Everything that plans a message: a hand-over, a receipt, UNREACHABLE, a new round, a withdrawal. Returns
/// the names of all of them.
async fn lived_through(harness: &Harness, request: &str) -> Vec<String> {
    let first = harness.hand_over_due().await.remove(0);
    worklist_user::report(harness, &name(&first), Receipt::Unread).await;
    harness.hand_over_due().await;
    harness.advance("2026-03-16T08:00:00Z");
    let reminder = harness.lease_due().await.remove(0);
    answer(harness, unreachable(&reminder)).await;
    harness.hand_over_due().await;
    worklist_user::contact(harness, request, v1::ContactOutcome::CallBack).await;
    let invited = harness.invite(make::wire_invite(request)).await;
    invited.expect("a new round");
    harness.hand_over_due().await;
    let cancelled = harness.cancel(make::wire_cancel(request)).await;
    let invitation = cancelled.expect("cancelled").care_invitation;
    let planned = invitation.expect("an invitation").notifications.into_iter();
    planned.map(|it| it.name).collect()
}

#[tokio::test]
async fn a_message_that_is_planned_anew_after_a_restore_has_the_name_that_it_had() {
    let harness = Harness::start(NOW).await;
    let form = make::wire_form("2026-03-16", "2026-06-12");
    let request = harness.create(make::wire_create(form)).await;
    let request = request.expect("created").name;
    let [original, restored] = with_restored(harness, NOW).await;
    let names = lived_through(&original, &request).await;
    assert_eq!(lived_through(&restored, &request).await, names);
    // Two of the first kind, two first reminders, the second, that of the new round, its reminder, the withdrawal.
    assert_eq!(names.len(), 8);
    let distinct: HashSet<&String> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
}

/// Says that commits since then were lost, by a clock at `now`. Returns the number of marked messages.
async fn tell(url: &str, since: &str, now: &str) -> Result<u64, AfterRestoreError> {
    let interval = LostInterval::new(at(since), at(now)).expect("in the past");
    let clock = ClockReading::Sandbox(at(now));
    after_restore(url, interval, move || clock, &mut |_, _, _| {}).await
}

/// The service after that: one that ran on where the database takes several, one that was stopped elsewhere.
async fn told(harness: Harness, since: &str) -> (Harness, u64) {
    let now = harness.clock.now().to_rfc3339();
    if Kind::of_this_run() == Kind::Postgres {
        let marked = tell(&harness.backend.url(), since, &now).await;
        return (harness, marked.expect("told"));
    }
    let refused = tell(&harness.backend.url(), since, &now).await;
    let refused = refused.expect_err("the file is in use");
    assert!(matches!(refused, AfterRestoreError::InUse(_)));
    assert!(refused.to_string().contains("stop the service"));
    let Harness {
        backend,
        clock,
        shutdown,
        server,
        ..
    } = harness;
    shutdown.cancel();
    within(server).await.expect("it ends");
    let mut marked = None;
    let told = async |url: &str| {
        marked = Some(loop {
            match tell(url, since, &now).await {
                // The store lets go of its file a moment after it is closed.
                Err(AfterRestoreError::InUse(_)) => tokio::task::yield_now().await,
                done => break done.expect("told"),
            }
        });
    };
    let backend = within(backend.after(told)).await;
    let harness = Harness::over(backend, clock, Limits::default()).await;
    (harness, marked.expect("told"))
}

/// The creation of a request whose first message is due at once.
fn creation(purpose: &str) -> v1::CreateBookingRequestRequest {
    make::wire_create(v1::BookingRequest {
        origin: Some(make::wire_referral(purpose)),
        purpose: purpose.into(),
        ..make::wire_form("2026-04-01", "2026-06-26")
    })
}

async fn due_now(harness: &Harness, purpose: &str) -> String {
    let created = harness.create(creation(purpose)).await;
    created.expect("created").name
}

/// What consumers are told of the first message of each request that is due: that it may be a repeat, and that staff have
/// released it.
async fn said(harness: &Harness) -> HashMap<String, (bool, bool)> {
    let due = harness.lease_due().await.into_iter();
    due.map(|it| {
        let said = (it.possible_repeat, it.released_by_staff);
        (it.booking_request, said)
    })
    .collect()
}

#[tokio::test]
async fn what_falls_due_from_the_restored_time_to_the_run_may_have_been_handed_over() {
    let harness = Harness::start(NOW).await;
    let mut expected = HashMap::new();
    for (now, lost) in [
        (NOW, false),
        ("2026-03-02T09:30:00Z", true),
        ("2026-03-02T10:00:00Z", true),
        ("2026-03-02T10:30:00Z", true),
    ] {
        harness.advance(now);
        expected.insert(due_now(&harness, now).await, (lost, false));
    }
    let (harness, marked) = told(harness, "2026-03-02T09:30:00Z").await;
    assert_eq!(marked, 3);
    harness.advance("2026-03-02T10:30:00.000001Z");
    expected.insert(due_now(&harness, "R-later").await, (false, false));
    assert_eq!(said(&harness).await, expected);
}

#[tokio::test]
async fn a_message_keeps_the_mark_when_its_due_time_is_moved() {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness, "R-1").await;
    harness.advance("2026-03-03T09:00:00Z");
    let (harness, marked) = told(harness, NOW).await;
    assert_eq!(marked, 1);
    let unspecified = v1::change_booking_request_request::OnChange::Unspecified;
    let (start, end) = ("2026-05-18", "2026-06-12");
    worklist_user::change_period(&harness, &request, start, end, unspecified).await;
    assert_eq!(said(&harness).await, HashMap::new());
    harness.advance("2026-04-06T07:00:00Z");
    let expected = HashMap::from([(request, (true, false))]);
    assert_eq!(said(&harness).await, expected);
}

/// A patient whom the inbox does not reach.
const WITHOUT_INBOX: &str = "without inbox";

/// A consumer as the documents have it.
#[derive(Clone, Default)]
struct Adapter {
    /// When it handed over what; restored with nothing else.
    journal: HashMap<String, prost_types::Timestamp>,
    /// True if its journal may have gaps.
    has_gaps: bool,
    /// What patients got: the purpose, which is the patient's alone here, the round, and which message of it.
    handed_over: Vec<(String, i32, Step)>,
}

impl Adapter {
    /// Takes what is due, and what becomes due because of it. Returns, of each message, whether it was known and whether
    /// it was said to be a possible repeat.
    async fn take(&mut self, harness: &Harness) -> Vec<(bool, bool)> {
        let mut taken = Vec::new();
        loop {
            let due = harness.lease_due().await;
            if due.is_empty() {
                return taken;
            }
            for due in due {
                taken.push((self.journal.contains_key(&name(&due)), due.possible_repeat));
                let acknowledgement = self.deliver(harness, &due).await;
                answer(harness, acknowledgement).await;
            }
        }
    }

    async fn deliver(
        &mut self,
        harness: &Harness,
        due: &v1::DueNotification,
    ) -> v1::Acknowledgement {
        if let Some(handed_over_at) = self.journal.get(&name(due)) {
            return v1::Acknowledgement {
                send_time: Some(*handed_over_at),
                ..sent(due)
            };
        }
        if due.possible_repeat && !due.released_by_staff && self.has_gaps {
            return park(due);
        }
        let asked = authorize(harness, vec![lease(due)]).await;
        assert_eq!(asked.expect("asked").authorized(), [name(due)]);
        let message = message(due);
        if due.purpose == WITHOUT_INBOX && message.channel() == v1::DeliveryChannel::Inbox {
            return unreachable(due);
        }
        let now = render_instant(harness.clock.now());
        self.journal.insert(name(due), now);
        let what = (due.purpose.clone(), message.round, step(message));
        self.handed_over.push(what);
        sent(due)
    }
}

#[tokio::test]
async fn a_message_that_is_planned_after_the_run_is_told_and_a_journal_keeps_it_from_going_out_again()
 {
    let harness = Harness::start(NOW).await;
    due_now(&harness, "R-1").await;
    let [original, restored] = with_restored(harness, NOW).await;
    let mut adapter = Adapter::default();
    assert_eq!(adapter.take(&original).await, [(false, false)]);
    original.advance("2026-03-16T08:00:00Z");
    assert_eq!(adapter.take(&original).await, [(false, false)]);
    restored.advance("2026-03-20T09:00:00Z");
    let (restored, marked) = told(restored, NOW).await;
    assert_eq!(marked, 1, "the reminder is not planned");
    assert_eq!(adapter.take(&restored).await, [(true, true), (true, true)]);
    assert_eq!(adapter.handed_over.len(), 2, "nothing was handed over");
    // The next is due after the run, two weeks after the hand-over that the journal knows of.
    restored.advance("2026-03-30T07:00:00Z");
    assert_eq!(adapter.take(&restored).await, [(false, false)]);
}

#[tokio::test]
async fn what_is_in_hand_or_parked_is_told_and_what_was_sent_stays_so() {
    let harness = Harness::start(NOW).await;
    let handed_over = due_now(&harness, "R-1").await;
    harness.hand_over_due().await;
    let leased = due_now(&harness, "R-2").await;
    // Its consumer keeps its promise, so that the end of the lease alone says nothing.
    let call = v1::StreamDueNotificationsRequest {
        until_idle: true,
        always_authorizes: true,
        ..Default::default()
    };
    let mut consumer = Consumer::open(&harness, call).await;
    let in_hand = consumer.due().await;
    assert!(!in_hand.possible_repeat);
    consumer.ended().await;
    let parked = due_now(&harness, "R-3").await;
    let due = harness.lease_due().await.remove(0);
    answer(&harness, park(&due)).await;
    harness.advance("2026-03-02T10:00:00Z");
    let (harness, marked) = told(harness, NOW).await;
    assert_eq!(marked, 2);
    let expected = HashMap::from([(leased, (true, false))]);
    assert_eq!(said(&harness).await, expected);
    // Its journal may have gaps: it leaves the message to staff, who release it.
    worklist_user::release(&harness, &parked, v1::DeliveryChannel::Unspecified).await;
    let expected = HashMap::from([(parked, (true, true))]);
    assert_eq!(said(&harness).await, expected);
    let stored = harness.get(&handed_over).await.expect("read");
    let invitation = stored.care_invitation.expect("an invitation");
    let first = &invitation.notifications[0];
    assert_eq!(first.state(), v1::notification::State::Sent);
}

#[tokio::test]
async fn a_repeated_run_keeps_the_later_end() {
    let harness = Harness::start(NOW).await;
    let first = due_now(&harness, "R-1").await;
    let (harness, marked) = told(harness, NOW).await;
    assert_eq!(marked, 1);
    let (harness, marked) = told(harness, NOW).await;
    assert_eq!(marked, 0, "it is marked");
    harness.advance("2026-03-02T10:00:00Z");
    let second = due_now(&harness, "R-2").await;
    let (harness, marked) = told(harness, NOW).await;
    assert_eq!(marked, 1);
    // A clock that was ahead has run out; what it stored stays.
    let (url, early) = (harness.backend.url(), "2026-03-02T09:30:00Z");
    let harness = match Kind::of_this_run() {
        Kind::Postgres => {
            assert_eq!(tell(&url, NOW, early).await.expect("told"), 0);
            harness
        }
        Kind::Sqlite => harness,
    };
    let planned = due_now(&harness, "R-3").await;
    let expected = [first, second, planned].map(|it| (it, (true, false)));
    assert_eq!(said(&harness).await, HashMap::from(expected));
}

#[tokio::test]
async fn a_clock_that_is_apart_from_the_databases_marks_nothing() {
    let Some(backend) = Backend::postgres().await else {
        return;
    };
    for (days, told) in [(20, false), (-20, false), (0, true)] {
        let now = Utc::now() + TimeDelta::days(days);
        let interval = LostInterval::new(now - TimeDelta::days(1), now).expect("in the past");
        let clock = move || ClockReading::Machine(Utc::now() + TimeDelta::days(days));
        let done = after_restore(&backend.url(), interval, clock, &mut |_, _, _| {}).await;
        assert_eq!(done.is_ok(), told, "{days}");
        if !told {
            assert!(matches!(done, Err(AfterRestoreError::Clock(_))), "{days}");
        }
    }
    let later = at("2026-03-02T09:00:00.000001Z");
    assert_eq!(LostInterval::new(later, at(NOW)), Err(InFuture));
}

/// Writes of a time that is lost.
struct Writes {
    booking: v1::RecordBookingRequest,
    cancellation: v1::CancelBookingRequestRequest,
    contact: v1::RecordPatientContactRequest,
    round: v1::ChangeToInvitationRequest,
}

impl Writes {
    async fn make(&self, harness: &Harness) {
        let booked = harness.book(self.booking.clone()).await;
        booked.expect("booked");
        let cancelled = harness.cancel(self.cancellation.clone()).await;
        cancelled.expect("cancelled");
        let contact = self.contact.clone();
        let recorded = within(harness.requests().record_patient_contact(contact)).await;
        recorded.expect("recorded");
        let invited = harness.invite(self.round.clone()).await;
        invited.expect("a new round");
    }
}

/// What happens in the lost time: first messages, one of which follows as a letter, a booking, a cancellation with
/// its withdrawal, a contact, a new round, a creation, reminders.
struct Lived {
    restored: Harness,
    writes: Writes,
    creation: v1::CreateBookingRequestRequest,
    created: String,
    before: Adapter,
    after: Adapter,
}

async fn lose_a_week() -> Lived {
    let harness = Harness::start(NOW).await;
    let mut adapter = Adapter::default();
    due_now(&harness, "told").await;
    let booked = due_now(&harness, "booked").await;
    let cancelled = due_now(&harness, "cancelled").await;
    adapter.take(&harness).await;
    harness.advance("2026-03-10T09:00:00Z");
    due_now(&harness, "waiting").await;
    due_now(&harness, WITHOUT_INBOX).await;
    let called = due_now(&harness, "called").await;
    let [original, restored] = with_restored(harness, "2026-03-10T09:00:00Z").await;
    let before = adapter.clone();
    original.advance("2026-03-10T09:05:00Z");
    adapter.take(&original).await;
    original.advance("2026-03-11T09:00:00Z");
    let creation = creation("created");
    let created = original.create(creation.clone()).await;
    let writes = Writes {
        booking: make::wire_booking(&booked, "2026-03-25T09:00:00Z"),
        cancellation: make::wire_cancel(&cancelled),
        contact: v1::RecordPatientContactRequest {
            name: called.clone(),
            request_id: make::request_id(),
            outcome: v1::ContactOutcome::CallBack.into(),
            ..Default::default()
        },
        round: make::wire_invite(&called),
    };
    writes.make(&original).await;
    adapter.take(&original).await;
    original.advance("2026-03-16T08:00:00Z");
    adapter.take(&original).await;
    Lived {
        restored,
        writes,
        creation,
        created: created.expect("created").name,
        before,
        after: adapter,
    }
}

/// The steps that the documents have after a restore, and then time until nothing is left to come.
async fn go_on(lived: Lived, mut adapter: Adapter) -> Adapter {
    let Lived {
        restored,
        writes,
        mut creation,
        created,
        ..
    } = lived;
    restored.advance("2026-03-20T09:00:00Z");
    writes.make(&restored).await;
    let known = adapter.journal.iter();
    let known = known.filter(|(name, _)| name.starts_with(&created));
    creation.prior_messages = known
        .map(|(_, handed_over_at)| v1::PriorMessage {
            kind: v1::NotificationKind::Invitation.into(),
            channel: v1::DeliveryChannel::Inbox.into(),
            send_time: Some(*handed_over_at),
            ..Default::default()
        })
        .collect();
    restored.create(creation).await.expect("created");
    let (restored, marked) = told(restored, "2026-03-10T08:00:00Z").await;
    assert!(marked > 0);
    adapter.take(&restored).await;
    for day in 0..60 {
        let now = at("2026-03-21T09:00:00Z") + TimeDelta::days(day);
        restored.advance(&now.to_rfc3339());
        adapter.take(&restored).await;
    }
    adapter
}

/// What was handed over to a patient, in the order of rounds.
fn received(adapter: &Adapter, patient: &str) -> Vec<(i32, Step)> {
    let of_patient = adapter.handed_over.iter().filter(|it| it.0 == patient);
    let mut received: Vec<_> = of_patient.map(|it| (it.1, it.2)).collect();
    received.sort();
    received
}

const INVITATION: Step = (v1::NotificationKind::Invitation, 0);
const FIRST_REMINDER: Step = (v1::NotificationKind::Reminder, 1);
const SECOND_REMINDER: Step = (v1::NotificationKind::Reminder, 2);
const WITHDRAWAL: Step = (v1::NotificationKind::Withdrawal, 0);

#[tokio::test]
async fn a_consumer_with_a_whole_journal_writes_to_nobody_twice_and_leaves_nobody_out() {
    let mut lived = lose_a_week().await;
    let adapter = std::mem::take(&mut lived.after);
    let adapter = go_on(lived, adapter).await;
    let round = |round: i32| [INVITATION, FIRST_REMINDER, SECOND_REMINDER].map(|it| (round, it));
    for patient in ["told", "waiting", WITHOUT_INBOX, "created"] {
        assert_eq!(received(&adapter, patient), round(1), "{patient}");
    }
    let called: Vec<_> = [(1, INVITATION)].into_iter().chain(round(2)).collect();
    assert_eq!(received(&adapter, "called"), called);
    assert_eq!(received(&adapter, "booked"), [(1, INVITATION)]);
    let withdrawn = [(1, INVITATION), (1, WITHDRAWAL)];
    assert_eq!(received(&adapter, "cancelled"), withdrawn);
}

#[tokio::test]
async fn a_consumer_whose_journal_was_restored_too_writes_to_nobody_twice() {
    let mut lived = lose_a_week().await;
    let got = std::mem::take(&mut lived.after.handed_over);
    let adapter = Adapter {
        has_gaps: true,
        handed_over: got.clone(),
        ..std::mem::take(&mut lived.before)
    };
    let adapter = go_on(lived, adapter).await;
    assert_eq!(adapter.handed_over, got, "all waits for staff");
}
