//! WatchWorklist: the list as it stands, then every change to it, those that time alone brings
//! included.

use std::collections::BTreeMap;
use std::time::Duration;

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Contact;
use care_invitation::contract::v1::acknowledgement::Outcome;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::change_booking_request_request::OnChange;
use care_invitation::contract::v1::watch_worklist_response::Event;
use care_invitation::contract::v1::worklist_query::OrderBy;
use care_invitation::contract::v1::{Priority, Worklist, WorklistQuery};
use prost::Message;
use tonic::{Code, Status, Streaming};

use super::{
    NOW, create, decided, everything, invitation, listed, page, protected, query, referral_of,
    request,
};
use crate::consumer::{answer, sent};
use crate::harness::{Harness, bad_fields, refusal, within};
use crate::make;
use crate::wire::{Wire, frame};
use crate::worklist_user::{self, LISTS};

const WATCH: &str = "/careinvitation.v1.WorklistService/WatchWorklist";

/// What a watcher is told, by referral; a name where a request has gone.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    Here(String, State),
    Gone(String),
}

/// One who watches a list and has read it as it stood.
pub(super) struct Watcher {
    events: Streaming<v1::WatchWorklistResponse>,
    /// The referrals by name, of what has been on the list.
    seen: BTreeMap<String, String>,
}

impl Watcher {
    /// Opens a watch and reads the snapshot.
    pub(super) async fn open(
        harness: &Harness,
        query: WorklistQuery,
    ) -> (Self, Vec<v1::BookingRequest>) {
        let events = try_watch(harness, query).await.expect("a stream");
        let mut watcher = Self {
            events,
            seen: BTreeMap::new(),
        };
        let mut snapshot = Vec::new();
        loop {
            match watcher.next().await {
                Ok(Event::Upserted(request)) => {
                    watcher.see(&request);
                    snapshot.push(request);
                }
                Ok(Event::SnapshotComplete(_)) => return (watcher, snapshot),
                other => panic!("no part of a snapshot: {other:?}"),
            }
        }
    }

    fn see(&mut self, request: &v1::BookingRequest) {
        self.seen.insert(request.name.clone(), referral_of(request));
    }

    async fn next(&mut self) -> Result<Event, Status> {
        let said = within(self.events.message()).await?;
        let said = said.ok_or_else(|| Status::ok("the stream has ended"))?;
        Ok(said.event.expect("an event"))
    }

    /// The request that is here now, or has changed here; anything else is a failure.
    async fn upserted(&mut self) -> v1::BookingRequest {
        match self.next().await {
            Ok(Event::Upserted(request)) => {
                self.see(&request);
                request
            }
            other => panic!("a request was to come, not {other:?}"),
        }
    }

    pub(super) async fn told(&mut self) -> Told {
        match self.next().await {
            Ok(Event::Upserted(request)) => {
                self.see(&request);
                Told::Here(referral_of(&request), request.state())
            }
            Ok(Event::Removed(name)) => Told::Gone(self.seen[&name].clone()),
            other => panic!("a change was to come, not {other:?}"),
        }
    }

    /// So many changes, by referral: those of one moment come in no particular order.
    async fn changes(&mut self, count: usize) -> Vec<Told> {
        let mut told = Vec::new();
        for _ in 0..count {
            told.push(self.told().await);
        }
        told.sort_by_key(|it| match it {
            Told::Here(referral, _) | Told::Gone(referral) => referral.clone(),
        });
        told
    }

    /// Reads the end, before which nothing may come.
    async fn ends_with(&mut self, code: Code, reason: &str) {
        let status = self.next().await.expect_err("the end");
        assert_eq!(refusal(&status), (code, reason.to_owned()));
    }
}

async fn try_watch(
    harness: &Harness,
    query: WorklistQuery,
) -> Result<Streaming<v1::WatchWorklistResponse>, Status> {
    let call = v1::WatchWorklistRequest {
        query: Some(query),
        ..Default::default()
    };
    let answer = within(harness.worklists().watch_worklist(call)).await?;
    Ok(answer.into_inner())
}

fn here(referral: &str, state: State) -> Told {
    Told::Here(referral.to_owned(), state)
}

fn gone(referral: &str) -> Told {
    Told::Gone(referral.to_owned())
}

/// Stops the server and reads the end of a watch: nothing more had been told.
async fn nothing_more(harness: &Harness, watchers: &mut [&mut Watcher]) {
    harness.shutdown.cancel();
    for watcher in watchers {
        watcher.ends_with(Code::Unavailable, "UNAVAILABLE").await;
    }
}

/// Every list of the care unit, watched.
struct Board(Vec<(Worklist, Watcher)>);

impl Board {
    async fn watch(harness: &Harness) -> Self {
        let mut watched = Vec::new();
        for list in LISTS[..7].iter().copied() {
            let (watcher, snapshot) = Watcher::open(harness, query(list)).await;
            assert!(snapshot.is_empty());
            watched.push((list, watcher));
        }
        Self(watched)
    }

    /// Exactly these lists tell of one change each.
    async fn expect(&mut self, what: &str, changes: &[(Worklist, Told)]) {
        for (list, expected) in changes {
            let watched = self.0.iter_mut().find(|(watched, _)| watched == list);
            let (_, watcher) = watched.expect("it is watched");
            assert_eq!(watcher.told().await, *expected, "{what}: {list:?}");
        }
    }

    /// No list has told of anything else.
    async fn nothing_more(mut self, harness: &Harness) {
        harness.shutdown.cancel();
        for (list, watcher) in &mut self.0 {
            let status = watcher.next().await.expect_err(list.as_str_name());
            assert_eq!(status.code(), Code::Unavailable, "{list:?}");
        }
    }
}

#[tokio::test]
async fn the_list_comes_as_it_stands_in_its_order_and_then_its_end() {
    let harness = Harness::start(NOW).await;
    for (referral, first) in [
        ("c", "2026-06-01"),
        ("a", "2026-05-18"),
        ("b", "2026-05-25"),
    ] {
        create(&harness, request(referral, first, "2026-06-12")).await;
    }
    create(&harness, invitation("other", "2026-05-18", "2026-06-12")).await;
    for (order_by, expected) in [
        (OrderBy::Unspecified, ["a", "b", "c"]),
        (OrderBy::CreateTime, ["c", "a", "b"]),
    ] {
        let list = WorklistQuery {
            order_by: order_by.into(),
            ..query(Worklist::BookingRequests)
        };
        let (_watcher, snapshot) = Watcher::open(&harness, list.clone()).await;
        let referrals: Vec<_> = snapshot.iter().map(referral_of).collect();
        assert_eq!(referrals, expected);
        let page = page(&harness, list, 0, "").await.expect("a list");
        assert_eq!(snapshot, page.booking_requests, "as it is listed");
    }
    let (_watcher, snapshot) = Watcher::open(&harness, query(Worklist::Declined)).await;
    assert!(snapshot.is_empty());
}

#[tokio::test]
async fn a_long_list_comes_whole_and_once() {
    const REQUESTS: usize = 510;
    let harness = Harness::start(NOW).await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..REQUESTS {
        let form = request(&format!("R-{number:03}"), "2026-05-18", "2026-06-12");
        let mut client = harness.requests();
        calls.spawn(async move {
            let call = make::wire_create(form);
            within(client.create_booking_request(call))
                .await
                .expect("created");
        });
    }
    calls.join_all().await;
    let (_watcher, snapshot) = Watcher::open(&harness, query(Worklist::BookingRequests)).await;
    let mut referrals: Vec<_> = snapshot.iter().map(referral_of).collect();
    referrals.sort();
    let all = (0..REQUESTS).map(|number| format!("R-{number:03}"));
    assert_eq!(referrals, all.collect::<Vec<_>>());
}

#[tokio::test]
async fn every_verb_tells_the_lists_that_a_request_comes_to_stays_on_and_leaves() {
    use Worklist as L;
    let harness = Harness::start(NOW).await;
    let mut board = Board::watch(&harness).await;
    let on = |list, state| (list, here("R-1", state));
    let off = |list| (list, gone("R-1"));

    let form = request("R-1", "2026-04-06", "2026-06-12");
    let name = create(&harness, form).await.name;
    let requested = [on(L::BookingRequests, State::Requested)];
    board.expect("created", &requested).await;
    worklist_user::change_purpose(&harness, &name, "Näsa").await;
    board.expect("changed", &requested).await;

    let call = make::wire_invite(&name);
    harness.invite(call).await.expect("invited");
    let invited = on(L::CareInvitations, State::Invited);
    let moves = [off(L::BookingRequests), invited.clone()];
    board.expect("invited", &moves).await;
    harness.hand_over_due().await;
    board
        .expect("handed over", std::slice::from_ref(&invited))
        .await;

    worklist_user::contact(&harness, &name, Contact::NoSuitableTime).await;
    let moves = [off(L::CareInvitations), on(L::SlotIssues, State::Invited)];
    board.expect("no suitable time", &moves).await;
    worklist_user::contact(&harness, &name, Contact::CallBack).await;
    let moves = [off(L::SlotIssues), on(L::FollowUp, State::Invited)];
    board.expect("call back", &moves).await;
    worklist_user::contact(&harness, &name, Contact::WillBook).await;
    let moves = [off(L::FollowUp), invited.clone()];
    board.expect("will book", &moves).await;
    worklist_user::set_protection(&harness, v1::Protection::ConfidentialityMarked).await;
    let moves = [
        off(L::CareInvitations),
        on(L::ManualHandling, State::Invited),
    ];
    board.expect("protected", &moves).await;
    worklist_user::release(&harness, &name, v1::DeliveryChannel::Unspecified).await;
    let moves = [off(L::ManualHandling), invited.clone()];
    board.expect("released", &moves).await;
    worklist_user::set_protection(&harness, v1::Protection::Unspecified).await;
    board
        .expect("unprotected", std::slice::from_ref(&invited))
        .await;

    harness.advance("2026-03-16T08:00:00Z");
    let due = harness.lease_due().await.remove(0);
    let park = v1::Acknowledgement {
        outcome: Outcome::Park.into(),
        ..sent(&due)
    };
    answer(&harness, park).await;
    let moves = [
        off(L::CareInvitations),
        on(L::ManualHandling, State::Invited),
    ];
    board.expect("parked", &moves).await;
    answer(&harness, sent(&due)).await;
    let stays = [on(L::ManualHandling, State::Invited)];
    board.expect("sent after all", &stays).await;

    worklist_user::contact(&harness, &name, Contact::Declined).await;
    let moves = [off(L::ManualHandling), on(L::Declined, State::Declined)];
    board.expect("declined", &moves).await;
    let call = make::wire_invite(&name);
    harness.invite(call).await.expect("invited");
    let moves = [off(L::Declined), invited.clone()];
    board.expect("invited again", &moves).await;
    let call = make::wire_booking(&name, "2026-06-01T08:00:00Z");
    harness.book(call).await.expect("booked");
    board.expect("booked", &[off(L::CareInvitations)]).await;
    let call = make::wire_invite(&name);
    harness.invite(call).await.expect("invited");
    board
        .expect("invited anew", std::slice::from_ref(&invited))
        .await;
    harness.hand_over_due().await;
    board.expect("handed over", &[invited]).await;
    let call = make::wire_cancel(&name);
    harness.cancel(call).await.expect("cancelled");
    board.expect("cancelled", &[off(L::CareInvitations)]).await;

    // Only a parked withdrawal brings a closed request back.
    let withdrawal = harness.lease_due().await.remove(0);
    let park = v1::Acknowledgement {
        outcome: Outcome::Park.into(),
        ..sent(&withdrawal)
    };
    answer(&harness, park).await;
    let back = [on(L::ManualHandling, State::Cancelled)];
    board.expect("a parked withdrawal", &back).await;
    worklist_user::release(&harness, &name, v1::DeliveryChannel::Unspecified).await;
    board.expect("released", &[off(L::ManualHandling)]).await;
    board.nothing_more(&harness).await;
}

#[tokio::test]
async fn what_is_told_is_the_request_as_it_is_shown_then() {
    let harness = Harness::start(NOW).await;
    let (mut watcher, _) = Watcher::open(&harness, query(Worklist::CareInvitations)).await;
    let created = create(&harness, invitation("R-1", "2026-04-06", "2026-06-12")).await;
    assert_eq!(watcher.upserted().await, created);
    let changed = worklist_user::change_priority(&harness, &created.name, Priority::Urgent).await;
    assert_eq!(watcher.upserted().await, changed);
    harness.hand_over_due().await;
    let told = watcher.upserted().await;
    assert_eq!(told, harness.get(&created.name).await.expect("read"));
}

#[tokio::test]
async fn a_lease_and_a_call_that_changes_nothing_are_not_told() {
    let harness = Harness::start(NOW).await;
    let call = make::wire_create(invitation("R-1", "2026-04-06", "2026-06-12"));
    let name = harness.create(call.clone()).await.expect("created").name;
    let (mut watcher, _) = Watcher::open(&harness, query(Worklist::CareInvitations)).await;
    harness.lease_due().await;
    harness.create(call).await.expect("repeated");
    harness.get(&name).await.expect("read");
    create(&harness, invitation("R-2", "2026-04-06", "2026-06-12")).await;
    assert_eq!(watcher.told().await, here("R-2", State::Invited));
    nothing_more(&harness, &mut [&mut watcher]).await;
}

#[tokio::test]
async fn what_expires_is_told_at_its_midnight_and_not_before() {
    let harness = Harness::start(NOW).await;
    for (referral, last) in [("early", "2026-03-13"), ("late", "2026-03-29")] {
        create(&harness, request(referral, "2026-03-09", last)).await;
        let form = invitation(&format!("{referral}-invited"), "2026-03-09", last);
        create(&harness, form).await;
        let form = invitation(&format!("{referral}-protected"), "2026-03-09", last);
        create(&harness, protected(form)).await;
    }
    let mut watchers = Vec::new();
    for list in [
        Worklist::BookingRequests,
        Worklist::CareInvitations,
        Worklist::ManualHandling,
        Worklist::FollowUp,
    ] {
        watchers.push(Watcher::open(&harness, query(list)).await.0);
    }
    let [requested, invited, held, follow_up] = watchers.try_into().ok().expect("four");
    let mut watchers = [requested, invited, held, follow_up];
    let mut all = Watcher::open(&harness, everything()).await.0;
    for (referral, before, midnight) in [
        ("early", "2026-03-13T22:59:59Z", "2026-03-13T23:00:00Z"),
        // The clocks have changed by then.
        ("late", "2026-03-29T21:59:59Z", "2026-03-29T22:00:00Z"),
    ] {
        harness.advance(before);
        // What is told next is what comes of this, for nothing has expired yet.
        let fence = create(&harness, request("fence", "2026-05-18", "2026-06-12")).await;
        let told = watchers[0].told().await;
        assert_eq!(told, here("fence", State::Requested), "{before}");
        assert_eq!(all.told().await, told);
        let call = make::wire_cancel(&fence.name);
        harness.cancel(call).await.expect("cancelled");
        assert_eq!(watchers[0].told().await, gone("fence"));
        assert_eq!(all.told().await, here("fence", State::Cancelled));

        harness.advance(midnight);
        let names = [
            referral.to_owned(),
            format!("{referral}-invited"),
            format!("{referral}-protected"),
        ];
        for (watcher, name) in watchers.iter_mut().zip(&names) {
            assert_eq!(watcher.told().await, gone(name), "{midnight}");
        }
        let expired: Vec<_> = names.iter().map(|it| here(it, State::Expired)).collect();
        assert_eq!(watchers[3].changes(3).await, expired);
        assert_eq!(all.changes(3).await, expired);
    }
    let [requested, invited, held, follow_up] = &mut watchers;
    nothing_more(
        &harness,
        &mut [requested, invited, held, follow_up, &mut all],
    )
    .await;
}

#[tokio::test]
async fn silence_is_told_when_it_turns_to_no_response_and_when_that_expires() {
    let harness = Harness::start(NOW).await;
    create(&harness, invitation("mute", "2026-04-06", "2026-04-24")).await;
    for due in [NOW, "2026-03-16T08:00:00Z", "2026-03-30T07:00:00Z"] {
        harness.advance(due);
        assert_eq!(harness.hand_over_due().await.len(), 1);
    }
    let (mut invited, _) = Watcher::open(&harness, query(Worklist::CareInvitations)).await;
    let (mut follow_up, _) = Watcher::open(&harness, query(Worklist::FollowUp)).await;
    harness.advance("2026-04-13T06:59:59Z");
    create(&harness, invitation("fence", "2026-06-15", "2026-07-10")).await;
    assert_eq!(invited.told().await, here("fence", State::Invited));
    harness.advance("2026-04-13T07:00:00Z");
    assert_eq!(invited.told().await, gone("mute"));
    assert_eq!(follow_up.told().await, here("mute", State::NoResponse));
    harness.advance("2026-04-24T22:00:00Z");
    assert_eq!(follow_up.told().await, here("mute", State::Expired));
    nothing_more(&harness, &mut [&mut invited, &mut follow_up]).await;
}

#[tokio::test]
async fn a_patient_who_was_to_book_is_told_when_the_day_has_passed() {
    let harness = Harness::start(NOW).await;
    let form = invitation("tardy", "2026-04-06", "2026-06-12");
    let name = create(&harness, form).await.name;
    let (mut invited, _) = Watcher::open(&harness, query(Worklist::CareInvitations)).await;
    let (mut follow_up, _) = Watcher::open(&harness, query(Worklist::FollowUp)).await;
    worklist_user::will_book(&harness, &name, "2026-03-02").await;
    assert_eq!(invited.told().await, here("tardy", State::Invited));
    harness.advance("2026-03-02T22:59:59Z");
    create(&harness, invitation("fence", "2026-06-15", "2026-07-10")).await;
    assert_eq!(invited.told().await, here("fence", State::Invited));
    harness.advance("2026-03-02T23:00:00Z");
    assert_eq!(invited.told().await, gone("tardy"));
    assert_eq!(follow_up.told().await, here("tardy", State::Invited));

    // A period that is cut short afterwards expires when it says now.
    let (first, last) = ("2026-03-09", "2026-03-13");
    worklist_user::change_period(&harness, &name, first, last, OnChange::Unspecified).await;
    assert_eq!(follow_up.told().await, here("tardy", State::Invited));
    harness.advance("2026-03-13T23:00:00Z");
    assert_eq!(follow_up.told().await, here("tardy", State::Expired));
    nothing_more(&harness, &mut [&mut invited, &mut follow_up]).await;
}

#[tokio::test]
async fn a_guarantee_is_told_at_the_midnight_at_which_it_is_at_risk() {
    let harness = Harness::start(NOW).await;
    let at_risk = query(Worklist::GuaranteeAtRisk);
    let (mut watcher, snapshot) = Watcher::open(&harness, at_risk).await;
    assert!(snapshot.is_empty());
    let form = request("new", "2026-05-18", "2026-06-12");
    // 90 days later is 17 March, 15 days from now; then 29 and 30 March plus 14 days.
    for (referral, decision) in [
        ("tomorrow", "2025-12-17"),
        ("change", "2026-01-12"),
        ("day-after", "2026-01-13"),
    ] {
        let form = v1::BookingRequest {
            origin: Some(make::wire_referral(referral)),
            ..form.clone()
        };
        create(&harness, decided(form, decision)).await;
    }
    for (before, midnight, referral) in [
        ("2026-03-02T22:59:59Z", "2026-03-02T23:00:00Z", "tomorrow"),
        // 29 March has 23 hours.
        ("2026-03-28T22:59:59Z", "2026-03-28T23:00:00Z", "change"),
        ("2026-03-29T21:59:59Z", "2026-03-29T22:00:00Z", "day-after"),
    ] {
        harness.advance(before);
        let form = v1::BookingRequest {
            origin: Some(make::wire_referral(&format!("fence-{referral}"))),
            ..form.clone()
        };
        let fence = create(&harness, decided(form, "2025-11-01")).await;
        let told = watcher.told().await;
        assert_eq!(told, here(&referral_of(&fence), State::Requested));
        harness.advance(midnight);
        let told = watcher.told().await;
        assert_eq!(told, here(referral, State::Requested), "{midnight}");
        let call = make::wire_booking(&fence.name, "2026-05-18T08:00:00Z");
        harness.book(call).await.expect("booked");
        assert_eq!(watcher.told().await, gone(&referral_of(&fence)));
    }
    nothing_more(&harness, &mut [&mut watcher]).await;
}

#[tokio::test]
async fn a_clock_that_passes_many_moments_at_once_tells_how_things_stand_then() {
    let harness = Harness::start(NOW).await;
    for (referral, last) in [
        ("a", "2026-03-13"),
        ("b", "2026-03-20"),
        ("c", "2026-06-12"),
    ] {
        create(&harness, request(referral, "2026-03-09", last)).await;
    }
    let (mut requests, _) = Watcher::open(&harness, query(Worklist::BookingRequests)).await;
    let (mut follow_up, _) = Watcher::open(&harness, query(Worklist::FollowUp)).await;
    harness.advance("2026-04-01T09:00:00Z");
    assert_eq!(requests.changes(2).await, [gone("a"), gone("b")]);
    let expired = [here("a", State::Expired), here("b", State::Expired)];
    assert_eq!(follow_up.changes(2).await, expired);
    harness.advance("2026-06-12T22:00:00Z");
    assert_eq!(requests.told().await, gone("c"));
    assert_eq!(follow_up.told().await, here("c", State::Expired));
}

#[tokio::test]
async fn only_what_the_query_asks_for_is_told_and_what_leaves_it_is_gone() {
    let harness = Harness::start(NOW).await;
    let form = request("R-1", "2026-05-18", "2026-06-12");
    let name = create(&harness, form).await.name;
    let urgent = WorklistQuery {
        minimum_priority: Priority::Urgent.into(),
        ..query(Worklist::BookingRequests)
    };
    let in_june = WorklistQuery {
        requested_period: make::wire_constraints("2026-06-01", "2026-06-30").requested_period,
        ..query(Worklist::BookingRequests)
    };
    let others = WorklistQuery {
        personal_id: "191212121212".into(),
        personal_id_type: v1::PersonalIdType::Personnummer.into(),
        ..query(Worklist::BookingRequests)
    };
    let (mut urgent, snapshot) = Watcher::open(&harness, urgent).await;
    assert!(snapshot.is_empty());
    let (mut in_june, snapshot) = Watcher::open(&harness, in_june).await;
    assert_eq!(snapshot.len(), 1);
    let (mut others, _) = Watcher::open(&harness, others).await;

    let requested = here("R-1", State::Requested);
    worklist_user::change_priority(&harness, &name, Priority::Emergency).await;
    assert_eq!(urgent.told().await, requested);
    assert_eq!(in_june.told().await, requested);
    let (first, last) = ("2026-05-18", "2026-05-31");
    worklist_user::change_period(&harness, &name, first, last, OnChange::Unspecified).await;
    assert_eq!(urgent.told().await, requested);
    assert_eq!(in_june.told().await, gone("R-1"));
    worklist_user::change_priority(&harness, &name, Priority::Routine).await;
    assert_eq!(urgent.told().await, gone("R-1"));
    let (first, last) = ("2026-05-18", "2026-06-01");
    worklist_user::change_period(&harness, &name, first, last, OnChange::Unspecified).await;
    assert_eq!(in_june.told().await, requested);
    // Time takes what does not match no less silently.
    harness.advance("2026-06-01T22:00:00Z");
    assert_eq!(in_june.told().await, gone("R-1"));
    nothing_more(&harness, &mut [&mut urgent, &mut in_june, &mut others]).await;
}

#[tokio::test]
async fn what_happens_in_other_care_units_is_not_told() {
    let harness = Harness::start(NOW).await;
    let unit = |number: usize| format!("careUnits/SE2321000131-P{number}");
    let of = |units: Vec<String>| WorklistQuery {
        care_units: units,
        ..query(Worklist::BookingRequests)
    };
    let (mut one, _) = Watcher::open(&harness, of(vec![unit(1)])).await;
    let (mut two, _) = Watcher::open(&harness, of(vec![unit(2)])).await;
    let (mut both, _) = Watcher::open(&harness, of(vec![unit(2), unit(1)])).await;
    for (number, last) in [(1, "2026-03-13"), (2, "2026-03-20"), (3, "2026-03-13")] {
        let call = v1::CreateBookingRequestRequest {
            parent: unit(number),
            ..make::wire_create(request(&format!("R-{number}"), "2026-03-09", last))
        };
        harness.create(call).await.expect("created");
    }
    let of_one = here("R-1", State::Requested);
    let of_two = here("R-2", State::Requested);
    assert_eq!(one.told().await, of_one);
    assert_eq!(two.told().await, of_two);
    assert_eq!(both.changes(2).await, [of_one, of_two]);
    harness.advance("2026-03-13T23:00:00Z");
    assert_eq!(one.told().await, gone("R-1"));
    assert_eq!(both.told().await, gone("R-1"));
    harness.advance("2026-03-20T23:00:00Z");
    assert_eq!(two.told().await, gone("R-2"));
    assert_eq!(both.told().await, gone("R-2"));
    nothing_more(&harness, &mut [&mut one, &mut two, &mut both]).await;
}

#[tokio::test]
async fn a_watch_that_is_opened_among_writes_misses_nothing() {
    const REQUESTS: usize = 120;
    let harness = Harness::start(NOW).await;
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..REQUESTS {
        let mut client = harness.requests();
        writes.spawn(async move {
            let form = request(&format!("R-{number:03}"), "2026-05-18", "2026-06-12");
            let call = make::wire_create(form);
            let created = within(client.create_booking_request(call)).await;
            let created = created.expect("created").into_inner().booking_request;
            let name = created.expect("the request").name;
            if number % 2 == 0 {
                let call = make::wire_cancel(&name);
                within(client.cancel_booking_request(call))
                    .await
                    .expect("cancelled");
            }
        });
    }
    let list = query(Worklist::BookingRequests);
    let (mut watcher, snapshot) = Watcher::open(&harness, list.clone()).await;
    let mut here: BTreeMap<String, String> = BTreeMap::new();
    for request in &snapshot {
        here.insert(request.name.clone(), referral_of(request));
    }
    writes.join_all().await;
    let last = create(&harness, request("last", "2026-05-18", "2026-06-12")).await;
    let mut expected = listed(&harness, list).await;
    expected.sort();
    assert_eq!(expected.len(), REQUESTS / 2 + 1);
    while here.len() != expected.len() || !here.contains_key(&last.name) {
        match watcher.next().await {
            Ok(Event::Upserted(request)) => {
                here.insert(request.name.clone(), referral_of(&request));
            }
            Ok(Event::Removed(name)) => {
                here.remove(&name);
            }
            other => panic!("a change was to come, not {other:?}"),
        }
    }
    let mut told: Vec<_> = here.into_values().collect();
    told.sort();
    assert_eq!(told, expected);
    nothing_more(&harness, &mut [&mut watcher]).await;
}

#[tokio::test]
async fn watches_end_with_unavailable_when_the_server_drains() {
    let harness = Harness::start(NOW).await;
    create(&harness, request("R-1", "2026-05-18", "2026-06-12")).await;
    let (mut busy, _) = Watcher::open(&harness, query(Worklist::BookingRequests)).await;
    let (mut idle, _) = Watcher::open(&harness, query(Worklist::Declined)).await;
    nothing_more(&harness, &mut [&mut busy, &mut idle]).await;
    within(harness.server).await.expect("it ends");
}

#[tokio::test]
async fn a_silent_watch_gives_a_sign_of_life_after_its_time() {
    let harness = Harness::start(NOW).await;
    let (mut watcher, _) = Watcher::open(&harness, query(Worklist::Declined)).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(15)).await;
    tokio::time::resume();
    let said = watcher.next().await.expect("an event");
    assert_eq!(said, Event::Heartbeat(v1::Heartbeat {}));
}

#[tokio::test]
async fn a_query_is_refused_for_what_a_list_is_refused_for() {
    let harness = Harness::start(NOW).await;
    let nothing = v1::WatchWorklistRequest::default();
    let refused = within(harness.worklists().watch_worklist(nothing)).await;
    assert_eq!(bad_fields(&refused.expect_err("no query")), ["query"]);
    let refused = try_watch(&harness, query(Worklist::All)).await;
    let refused = refused.expect_err("neither patient nor referral");
    let reason = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
    assert_eq!(refusal(&refused), reason);
    assert_eq!(bad_fields(&refused), ["query.worklists"]);
    let nowhere = WorklistQuery {
        care_units: vec![],
        order_by: 9,
        ..query(Worklist::Declined)
    };
    let refused = try_watch(&harness, nowhere).await.expect_err("refused");
    let mut named = bad_fields(&refused);
    named.sort();
    assert_eq!(named, ["query.care_units", "query.order_by"]);
}

#[tokio::test]
async fn a_watcher_that_reads_too_slowly_is_cut_off_and_holds_nobody_back() {
    const REQUESTS: usize = 100;
    const ROUNDS: usize = 16;
    let harness = Harness::start(NOW).await;
    for number in 0..REQUESTS {
        let mut form = request(&format!("R-{number}"), "2026-05-18", "2026-06-12");
        let instructions = form.patient_instructions.get_or_insert_default();
        instructions.supplementary = "å".repeat(2_000);
        create(&harness, form).await;
    }
    let list = query(Worklist::BookingRequests);
    let (mut reader, _) = Watcher::open(&harness, list.clone()).await;
    // It opens the watch and reads nothing of it. Of what is told, 6 MB here, its window takes
    // 64 KiB and the connection some more; the service keeps 1,024 events.
    let wire = Wire::connect(harness.address).await;
    let call = v1::WatchWorklistRequest {
        query: Some(list),
        ..Default::default()
    };
    let mut slow = wire.begin(WATCH, &[]).await;
    slow.send_last(frame(0, &call.encode_to_vec()));
    for round in 0..ROUNDS {
        let language = ["fi", "en"][round % 2];
        let changed = worklist_user::set_language(&harness, language).await;
        assert_eq!(changed.len(), REQUESTS);
        for _ in 0..REQUESTS {
            let told = reader.upserted().await;
            let patient = told.patient.expect("a patient");
            assert_eq!(patient.preferred_language, language, "{round}");
        }
    }
    // The service waits for the slow one, and meanwhile serves the others.
    create(&harness, request("meanwhile", "2026-05-18", "2026-06-12")).await;
    let told = reader.told().await;
    assert_eq!(told, here("meanwhile", State::Requested));
    tokio::time::sleep(Duration::from_secs(6)).await;
    let end = slow.end().await;
    let reason = (Code::ResourceExhausted, "OVERLOADED".to_owned());
    assert_eq!(refusal(&end), reason);
    create(&harness, request("after", "2026-05-18", "2026-06-12")).await;
    assert_eq!(reader.told().await, here("after", State::Requested));
}

#[tokio::test]
async fn a_request_that_moves_to_another_number_goes_from_one_list_to_the_other() {
    let harness = Harness::start(NOW).await;
    create(&harness, request("R-1", "2026-05-18", "2026-06-12")).await;
    let new = WorklistQuery {
        personal_id: "191212121212".into(),
        ..everything()
    };
    let (mut old, _) = Watcher::open(&harness, everything()).await;
    let (mut other, _) = Watcher::open(&harness, new).await;
    let (mut staff, _) = Watcher::open(&harness, query(Worklist::BookingRequests)).await;
    let identity = |number: &str| v1::PatientIdentity {
        personal_id: number.into(),
        personal_id_type: v1::PersonalIdType::Personnummer.into(),
        issuer: String::new(),
    };
    let call = v1::ReplacePersonalIdRequest {
        old_identity: Some(identity("198003012385")),
        new_identity: Some(identity("191212121212")),
        request_id: make::request_id(),
    };
    let answer = within(harness.requests().replace_personal_id(call)).await;
    answer.expect("replaced");
    assert_eq!(old.told().await, Told::Gone("R-1".into()));
    for watcher in [&mut other, &mut staff] {
        let told = watcher.upserted().await;
        assert_eq!(told.patient.expect("a patient").personal_id, "191212121212");
    }
}

#[tokio::test]
async fn a_watcher_that_goes_leaves_nothing_behind() {
    let harness = Harness::start(NOW).await;
    let (gone_soon, _) = Watcher::open(&harness, query(Worklist::BookingRequests)).await;
    let (mut stays, _) = Watcher::open(&harness, query(Worklist::BookingRequests)).await;
    drop(gone_soon);
    for number in 0..3 {
        let referral = format!("R-{number}");
        create(&harness, request(&referral, "2026-05-18", "2026-06-12")).await;
        assert_eq!(stays.told().await, here(&referral, State::Requested));
    }
}
