//! What time alone brings is right to the second wherever it is asked for, and every open request
//! is on one list; the columns that lists compare say what the domain says.

use std::collections::{BTreeMap, BTreeSet};

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Contact;
use care_invitation::contract::v1::acknowledgement::Outcome;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::{HoldReason, Worklist};
use care_invitation::domain::Change;
use care_invitation::domain::booking_request::BookingRequest;
use care_invitation::domain::booking_request::cancel::{Cancel, cancel};
use care_invitation::domain::booking_request::form::Booking;
use care_invitation::domain::booking_request::form::BookingSource;
use care_invitation::domain::booking_request::form::Form;
use care_invitation::domain::booking_request::form::Origin;
use care_invitation::domain::booking_request::form::Priority;
use care_invitation::domain::booking_request::form::VisitKind;
use care_invitation::domain::booking_request::form::VisitType;
use care_invitation::domain::booking_request::record_booking::{RecordBooking, record_booking};
use care_invitation::domain::booking_request::record_patient_contact::{
    self as contact, RecordPatientContact, record_patient_contact,
};
use care_invitation::domain::booking_request::state::{CancelReason, EffectiveState};
use care_invitation::domain::calendar::{Instant, Period, add_days, civil_date, end_of};
use care_invitation::domain::care_invitation::HoldReason as HoldReasons;
use care_invitation::domain::care_units::CareUnits;
use care_invitation::domain::hsa_id::HsaId;
use care_invitation::domain::notification::Outcome as Answered;
use care_invitation::domain::notification::acknowledge::{Acknowledgement, acknowledge};
use care_invitation::domain::patient::{LetterFormat, PersonalId, PersonalIdType, Protection};
use care_invitation::domain::request_key::RequestKey;
use care_invitation::domain::worklist as domain;
use care_invitation::domain::worklist::query::{Cursor, OrderBy, Query};
use care_invitation::store::Store;
use care_invitation::store::idempotency::IdempotentCall;
use chrono::{Duration, NaiveDate};
use uuid::Uuid;

use super::watch::{Told, Watcher};
use super::{
    NOW, counts, create, decided, everything, invitation, page, protected, query, request,
};
use crate::backend::Backend;
use crate::consumer::{answer, message, sent};
use crate::harness::Harness;
use crate::make;
use crate::make::at;
use crate::worklist_user::{self, LISTS};

/// A request that time changes by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ripening {
    Requested,
    Invited,
    InvitedAndDue,
    InvitedInWinter,
    Protected,
    CalledBack,
    InTouch,
    NoSuitableTime,
    Parked,
    WaitedFor,
    WaitedForUntilTheEnd,
    Silent,
    SilentUntilTheEnd,
    SilentAfterShortPeriod,
}

impl Ripening {
    /// Makes the request; gives its name.
    async fn make(self, harness: &Harness) -> String {
        let (first, last) = ("2026-03-09", "2026-04-24");
        let form = match self {
            Self::Requested => request("R-1", first, last),
            Self::Protected => protected(invitation("R-1", first, last)),
            Self::InvitedInWinter => invitation("R-1", first, "2026-03-13"),
            // The reminders after the first fall behind its end.
            Self::SilentAfterShortPeriod => invitation("R-1", first, "2026-03-29"),
            Self::SilentUntilTheEnd => invitation("R-1", first, "2026-04-12"),
            _ => invitation("R-1", first, last),
        };
        let name = create(harness, form).await.name;
        let hand_overs: &[&str] = match self {
            Self::Silent | Self::SilentUntilTheEnd => {
                &[NOW, "2026-03-16T08:00:00Z", "2026-03-30T07:00:00Z"]
            }
            Self::SilentAfterShortPeriod => &[NOW, "2026-03-16T08:00:00Z"],
            _ => &[],
        };
        for due in hand_overs {
            harness.advance(due);
            assert_eq!(harness.hand_over_due().await.len(), 1, "{self:?} {due}");
        }
        match self {
            Self::CalledBack => {
                worklist_user::contact(harness, &name, Contact::CallBack).await;
            }
            Self::InTouch => {
                worklist_user::contact(harness, &name, Contact::Other).await;
            }
            Self::NoSuitableTime => {
                worklist_user::contact(harness, &name, Contact::NoSuitableTime).await;
            }
            Self::WaitedFor => {
                worklist_user::will_book(harness, &name, "2026-03-29").await;
            }
            Self::WaitedForUntilTheEnd => {
                worklist_user::will_book(harness, &name, "2026-04-24").await;
            }
            Self::Parked => {
                let due = harness.lease_due().await.remove(0);
                answer(harness, park(&due)).await;
            }
            _ => {}
        }
        name
    }
}

fn park(due: &v1::DueNotification) -> v1::Acknowledgement {
    v1::Acknowledgement {
        outcome: Outcome::Park.into(),
        ..sent(due)
    }
}

#[tokio::test]
async fn what_time_alone_brings_is_shown_to_the_second_wherever_it_is_asked_for() {
    use Ripening as R;
    use Worklist as L;
    let expires = "2026-04-24T22:00:00Z";
    // When; the state and the list just before; the state then. All end in FOLLOW_UP.
    for (what, when, before, list, after) in [
        (
            R::Requested,
            expires,
            State::Requested,
            L::BookingRequests,
            State::Expired,
        ),
        (
            R::Invited,
            expires,
            State::Invited,
            L::CareInvitations,
            State::Expired,
        ),
        (
            R::InvitedAndDue,
            expires,
            State::Invited,
            L::CareInvitations,
            State::Expired,
        ),
        (
            R::InvitedInWinter,
            "2026-03-13T23:00:00Z",
            State::Invited,
            L::CareInvitations,
            State::Expired,
        ),
        (
            R::Protected,
            expires,
            State::Invited,
            L::ManualHandling,
            State::Expired,
        ),
        (
            R::CalledBack,
            expires,
            State::Invited,
            L::FollowUp,
            State::Expired,
        ),
        (
            R::InTouch,
            expires,
            State::Invited,
            L::FollowUp,
            State::Expired,
        ),
        (
            R::NoSuitableTime,
            expires,
            State::Invited,
            L::SlotIssues,
            State::Expired,
        ),
        (
            R::Parked,
            expires,
            State::Invited,
            L::ManualHandling,
            State::Expired,
        ),
        (
            R::WaitedFor,
            "2026-03-29T22:00:00Z",
            State::Invited,
            L::CareInvitations,
            State::Invited,
        ),
        (
            R::WaitedForUntilTheEnd,
            expires,
            State::Invited,
            L::CareInvitations,
            State::Expired,
        ),
        (
            R::Silent,
            "2026-04-13T07:00:00Z",
            State::Invited,
            L::CareInvitations,
            State::NoResponse,
        ),
        (
            R::SilentUntilTheEnd,
            "2026-04-12T22:00:00Z",
            State::Invited,
            L::CareInvitations,
            State::Expired,
        ),
        (
            R::SilentAfterShortPeriod,
            "2026-03-29T22:00:00Z",
            State::Invited,
            L::CareInvitations,
            State::Expired,
        ),
    ] {
        let harness = Harness::start(NOW).await;
        let name = what.make(&harness).await;
        let when: Instant = at(when);
        let just_before = when - Duration::microseconds(1);
        harness.clock.advance(just_before).expect("forward");
        assert_shown(&harness, &name, before, list, what).await;
        let follow_up = query(Worklist::FollowUp);
        let (mut watcher, _) = Watcher::open(&harness, follow_up).await;
        harness.clock.advance(when).expect("forward");
        let told = watcher.told().await;
        assert_eq!(told, Told::Here("R-1".to_owned(), after), "{what:?}");
        assert_shown(&harness, &name, after, Worklist::FollowUp, what).await;
    }
}

/// Get, the lists and the counts agree on where a request stands.
async fn assert_shown(harness: &Harness, name: &str, state: State, list: Worklist, what: Ripening) {
    let alone = harness.get(name).await.expect("a request");
    assert_eq!(alone.state(), state, "{what:?}: alone");
    for it in LISTS.into_iter().take(7) {
        let page = page(harness, query(it), 0, "").await.expect("a list");
        let expected = Vec::from_iter((it == list).then(|| alone.clone()));
        assert_eq!(page.booking_requests, expected, "{what:?}: {it:?}");
    }
    let all = page(harness, everything(), 0, "").await.expect("a list");
    assert_eq!(all.booking_requests, std::slice::from_ref(&alone));
    let counted = counts(harness, vec![make::wire_unit()]).await;
    let counted = counted.into_iter().take(7).filter(|(_, it)| *it > 0);
    let counted: Vec<_> = counted.collect();
    assert_eq!(counted, [(list, 1)], "{what:?}: counted");
}

#[tokio::test]
async fn the_due_stream_goes_by_the_same_second() {
    let just_before = "2026-04-24T21:59:59.999999Z";
    for (what, now, due) in [
        (Ripening::Invited, just_before, true),
        (Ripening::Invited, "2026-04-24T22:00:00Z", false),
        // The wait for the patient runs out and releases nothing.
        (Ripening::WaitedFor, "2026-03-29T22:00:00Z", false),
        (Ripening::WaitedFor, just_before, false),
        (Ripening::Protected, just_before, false),
        (Ripening::Silent, "2026-04-13T07:00:00Z", false),
        // The second reminder would fall behind the end of the period.
        (
            Ripening::SilentAfterShortPeriod,
            "2026-03-29T21:59:59Z",
            false,
        ),
        (
            Ripening::SilentAfterShortPeriod,
            "2026-03-30T07:00:00Z",
            false,
        ),
    ] {
        let harness = Harness::start(NOW).await;
        what.make(&harness).await;
        harness.advance(now);
        let leased = harness.lease_due().await;
        assert_eq!(leased.len(), usize::from(due), "{what:?} at {now}");
    }
}

#[tokio::test]
async fn silence_when_the_rest_is_skipped_turns_to_no_response_before_the_period_ends() {
    let harness = Harness::start(NOW).await;
    // Reminders at 16 and 30 March; a period that ends on the 29th skips the last of them. A long
    // wait for a hand-over is not silence, and the gap is never shortened.
    let form = invitation("R-1", "2026-03-09", "2026-03-29");
    let name = create(&harness, form).await.name;
    harness.hand_over_due().await;
    let silence = async |name: &str| {
        let shown = harness.get(name).await.expect("a request");
        let invitation = shown.care_invitation.expect("an invitation");
        (shown.state, invitation.no_response_time)
    };
    assert_eq!(silence(&name).await.1, None, "a reminder is to come");
    harness.advance("2026-03-16T08:00:00Z");
    harness.hand_over_due().await;
    let counted = Some(make::wire_at("2026-03-30T07:00:00Z"));
    let invited: i32 = State::Invited.into();
    assert_eq!(silence(&name).await, (invited, counted));

    // One whose reminders are both skipped ends in silence after the first message.
    let form = invitation("R-2", "2026-03-18", "2026-03-29");
    let name = create(&harness, form).await.name;
    harness.hand_over_due().await;
    assert_eq!(silence(&name).await, (invited, counted));
}

#[tokio::test]
async fn no_response_goes_when_a_hold_comes_and_comes_back_when_it_is_lifted() {
    let harness = Harness::start(NOW).await;
    let name = Ripening::Silent.make(&harness).await;
    harness.advance("2026-04-13T07:00:00Z");
    let on = async |list: Worklist, state: State| {
        assert_shown(&harness, &name, state, list, Ripening::Silent).await;
    };
    on(Worklist::FollowUp, State::NoResponse).await;
    worklist_user::contact(&harness, &name, Contact::NoSuitableTime).await;
    on(Worklist::SlotIssues, State::Invited).await;
    worklist_user::release(&harness, &name, v1::DeliveryChannel::Unspecified).await;
    on(Worklist::FollowUp, State::NoResponse).await;
    worklist_user::will_book(&harness, &name, "2026-04-14").await;
    on(Worklist::CareInvitations, State::Invited).await;
    harness.advance("2026-04-14T22:00:00Z");
    on(Worklist::FollowUp, State::Invited).await;
    harness.advance("2026-04-24T22:00:00Z");
    on(Worklist::FollowUp, State::Expired).await;
    // In EXPIRED the state stays.
    worklist_user::contact(&harness, &name, Contact::NoSuitableTime).await;
    on(Worklist::FollowUp, State::Expired).await;
    worklist_user::contact(&harness, &name, Contact::Declined).await;
    on(Worklist::Declined, State::Declined).await;
}

/// The whole list that a request is on beside its own.
fn whole_list_of(request: &v1::BookingRequest) -> Option<Worklist> {
    match request.state() {
        State::Requested => Some(Worklist::AllBookingRequests),
        State::Invited | State::NoResponse => Some(Worklist::AllInvitations),
        State::Expired if request.invitation => Some(Worklist::AllInvitations),
        State::Expired => Some(Worklist::AllBookingRequests),
        _ => None,
    }
}

/// The list that docs/lifecycle.md gives a request, going by what callers see of it.
fn list_of(request: &v1::BookingRequest, now: Instant) -> Option<Worklist> {
    let invitation = request.care_invitation.as_ref();
    let hold = invitation.map_or(HoldReason::Unspecified, |it| it.hold_reason());
    match request.state() {
        State::Declined => Some(Worklist::Declined),
        State::Expired | State::NoResponse => Some(Worklist::FollowUp),
        State::Requested => Some(Worklist::BookingRequests),
        State::Booked => None,
        State::Cancelled => {
            let messages = invitation.map_or(&[][..], |it| &it.notifications);
            let parked = messages.iter().any(|it| {
                it.kind() == v1::NotificationKind::Withdrawal
                    && it.state() == v1::notification::State::Parked
            });
            parked.then_some(Worklist::ManualHandling)
        }
        State::Invited => Some(match hold {
            HoldReason::ProtectedIdentity | HoldReason::Undeliverable | HoldReason::Parked => {
                Worklist::ManualHandling
            }
            HoldReason::NoSuitableTime => Worklist::SlotIssues,
            HoldReason::CallBack | HoldReason::Contacted => Worklist::FollowUp,
            HoldReason::WillBook => {
                let until = &invitation.expect("it is held").wait_until_date;
                match end_of(make::date(until)) <= now {
                    true => Worklist::FollowUp,
                    false => Worklist::CareInvitations,
                }
            }
            HoldReason::Unspecified => Worklist::CareInvitations,
        }),
        State::Unspecified => panic!("never returned"),
    }
}

fn is_at_risk(request: &v1::BookingRequest, now: Instant) -> bool {
    let open = match request.state() {
        State::Requested | State::Invited | State::NoResponse | State::Expired => true,
        State::Booked | State::Declined | State::Cancelled | State::Unspecified => false,
    };
    let ends = request.care_guarantee_date.parse::<NaiveDate>().ok();
    open && ends.is_some_and(|ends| ends <= add_days(civil_date(now), 14))
}

/// Requests in every situation, by name.
async fn populate(harness: &Harness) -> BTreeSet<String> {
    let periods = [
        ("2026-03-02", "2026-03-02"),
        ("2026-03-09", "2026-03-13"),
        ("2026-03-09", "2026-03-29"),
        ("2026-04-06", "2026-04-30"),
        ("2026-05-18", "2026-06-12"),
    ];
    let mut names = BTreeSet::new();
    for (number, (first, last)) in periods.into_iter().enumerate() {
        for row in [
            "requested",
            "invited",
            "protected",
            "called",
            "waited",
            "unsuited",
            "declined",
            "booked",
            "cancelled",
            "parked",
            "withdrawn",
        ] {
            let referral = format!("{row}-{number}");
            let form = match row {
                "requested" => request(&referral, first, last),
                "protected" => protected(invitation(&referral, first, last)),
                _ => invitation(&referral, first, last),
            };
            let decision = format!("2025-12-{:02}", 5 + 4 * number);
            let name = create(harness, decided(form, &decision)).await.name;
            match row {
                "called" => drop(worklist_user::contact(harness, &name, Contact::CallBack).await),
                "waited" => drop(worklist_user::will_book(harness, &name, "2026-03-10").await),
                "unsuited" => {
                    drop(worklist_user::contact(harness, &name, Contact::NoSuitableTime).await)
                }
                "declined" => drop(worklist_user::contact(harness, &name, Contact::Declined).await),
                "booked" => {
                    let call = make::wire_booking(&name, "2026-03-02T10:00:00Z");
                    harness.book(call).await.expect("booked");
                }
                "cancelled" => {
                    let call = make::wire_cancel(&name);
                    harness.cancel(call).await.expect("cancelled");
                }
                _ => {}
            }
            names.insert(name);
        }
    }
    names
}

/// Answers what is due: what is to be parked is, and the rest is handed over.
async fn answer_due(harness: &Harness) {
    for due in harness.lease_due().await {
        let shown = harness.get(&due.booking_request).await.expect("read");
        let referral = super::referral_of(&shown);
        let withdrawal = message(&due).kind() == v1::NotificationKind::Withdrawal;
        if referral.starts_with("parked") || withdrawal {
            answer(harness, park(&due)).await;
            continue;
        }
        answer(harness, sent(&due)).await;
        if referral.starts_with("withdrawn") {
            let call = make::wire_cancel(&due.booking_request);
            harness.cancel(call).await.expect("cancelled");
        }
    }
}

#[tokio::test]
async fn every_open_request_is_on_one_list_and_counts_are_lengths_while_time_goes_on() {
    let harness = Harness::start(NOW).await;
    let names = populate(&harness).await;
    let mut states_seen = BTreeSet::new();
    let mut lists_seen = BTreeSet::new();
    let instants = [
        NOW,
        "2026-03-02T22:59:59Z",
        "2026-03-02T23:00:00Z",
        "2026-03-10T22:59:59Z",
        "2026-03-10T23:00:00Z",
        "2026-03-13T22:59:59Z",
        "2026-03-13T23:00:00Z",
        "2026-03-16T08:00:00Z",
        "2026-03-29T21:59:59Z",
        "2026-03-29T22:00:00Z",
        "2026-03-30T07:00:00Z",
        "2026-04-06T07:00:00Z",
        "2026-04-13T06:59:59Z",
        "2026-04-13T07:00:00Z",
        "2026-04-20T07:00:00Z",
        "2026-04-30T21:59:59Z",
        "2026-04-30T22:00:00Z",
        "2026-05-04T07:00:00Z",
        "2026-05-18T06:59:59Z",
        "2026-05-18T07:00:00Z",
        "2026-06-12T21:59:59Z",
        "2026-06-12T22:00:00Z",
    ];
    for now in instants {
        harness.advance(now);
        assert_partition(&harness, &names, &mut states_seen, &mut lists_seen).await;
        answer_due(&harness).await;
        answer_due(&harness).await;
        assert_partition(&harness, &names, &mut states_seen, &mut lists_seen).await;
    }
    assert_eq!(states_seen.len(), 7, "every state has come by");
    assert_eq!(lists_seen.len(), LISTS.len(), "and every list");
}

/// Each list holds what it should, each request as it is shown alone, and as many as are counted.
async fn assert_partition(
    harness: &Harness,
    names: &BTreeSet<String>,
    states_seen: &mut BTreeSet<i32>,
    lists_seen: &mut BTreeSet<i32>,
) {
    let now = harness.clock.now();
    let mut expected: BTreeMap<Worklist, BTreeMap<String, v1::BookingRequest>> = BTreeMap::new();
    for name in names {
        let shown = harness.get(name).await.expect("a request");
        states_seen.insert(shown.state);
        let at_risk = is_at_risk(&shown, now).then_some(Worklist::GuaranteeAtRisk);
        let whole = whole_list_of(&shown);
        for list in list_of(&shown, now).into_iter().chain(at_risk).chain(whole) {
            lists_seen.insert(list.into());
            let on_it = expected.entry(list).or_default();
            on_it.insert(name.clone(), shown.clone());
        }
    }
    let mut counted = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for list in LISTS {
        let on_it = page(harness, query(list), 500, "").await.expect("a list");
        let on_it = on_it.booking_requests.into_iter();
        let on_it: BTreeMap<_, _> = on_it.map(|it| (it.name.clone(), it)).collect();
        counted.push((list, i64::try_from(on_it.len()).expect("a few")));
        if LISTS[..6].contains(&list) {
            for name in on_it.keys() {
                *places.entry(name.clone()).or_default() += 1;
            }
        }
        let expected = expected.remove(&list).unwrap_or_default();
        assert!(on_it == expected, "{list:?} at {now}: {:?}", on_it.keys());
    }
    assert!(
        places.values().all(|count| *count == 1),
        "{now}: {places:?}"
    );
    let told = counts(harness, vec![make::wire_unit()]).await;
    assert_eq!(told, counted, "{now}");
}

/// Numbers that look random and are the same at every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        let length = u64::try_from(values.len()).expect("a few");
        values[usize::try_from(self.below(length)).expect("below")]
    }

    /// One of these, or none.
    fn maybe<T: Copy>(&mut self, values: &[T]) -> Option<T> {
        (self.below(3) == 0).then(|| self.one_of(values))
    }

    /// None of these mostly, otherwise half of them.
    fn some_of<T: Copy>(&mut self, values: &[T]) -> Vec<T> {
        if self.below(3) > 0 {
            return Vec::new();
        }
        let values = values.iter().copied();
        values.filter(|_| self.below(2) == 0).collect()
    }

    fn day(&mut self) -> NaiveDate {
        let days = u32::try_from(self.below(90)).expect("below");
        add_days(make::date("2026-03-02"), days)
    }

    /// An instant at which something may turn: a midnight, the sending clock, or just before.
    fn instant(&mut self) -> Instant {
        let midnight = end_of(self.day());
        let micro = Duration::microseconds(1);
        let offset = self.one_of(&[
            Duration::zero(),
            -micro,
            micro,
            Duration::hours(9),
            Duration::hours(9) - micro,
            Duration::minutes(777),
        ]);
        midnight + offset
    }
}

const UNITS: [&str; 3] = ["SE2321000131-P1", "SE2321000131-P2", "SE2321000131-P10"];
/// Two who share a number that two issuers gave, and somebody else.
const PEOPLE: [(PersonalIdType, &str, &str); 3] = [
    (PersonalIdType::Personnummer, "", "198003012385"),
    (PersonalIdType::LocalReserveNumber, "1.2.752.1", "R-1"),
    (PersonalIdType::LocalReserveNumber, "1.2.752.2", "R-1"),
];
const REFERRALS: [&str; 3] = ["R-1", "R-2", "R-3"];
const CODES: [&str; 3] = ["ONH-NY", "HUD", "ÖNH-ÅB"];

fn person((kind, issuer, number): (PersonalIdType, &str, &str)) -> PersonalId {
    PersonalId::parse(kind, issuer, number).expect("a good number")
}

fn unit(name: &str) -> HsaId {
    HsaId::parse(name).expect("a test unit")
}

/// Some form.
fn random_form(dice: &mut Dice) -> Form {
    let first = dice.day();
    let length = u32::try_from(dice.below(40)).expect("below");
    let mut form = make::form("2026-03-02", "2026-03-02");
    let constraints = form.constraints.as_mut().expect("an invitation");
    constraints.period = Period {
        first,
        last: add_days(first, length),
    };
    let number = dice.one_of(&PEOPLE);
    form.patient.personal_id = person(number);
    form.patient.protection = dice.maybe(&[Protection::ConfidentialityMarked]);
    form.patient.interpreter_language = dice.maybe(&["ar", "ti"]).map(str::to_owned);
    form.patient.letter_format = dice.one_of(LetterFormat::ALL);
    let referral_id = dice.one_of(&REFERRALS).to_owned();
    form.origin = match dice.below(3) {
        0 => Origin::PreviousVisit {
            visit_id: "V-1".into(),
            referral_id: Some(referral_id),
            decision_date: None,
        },
        _ => Origin::Referral {
            referral_id,
            decision_date: dice
                .maybe(&["2025-12-01", "2025-12-20", "2026-02-01"])
                .map(make::date),
        },
    };
    form.visit_kind = dice.one_of(VisitKind::ALL);
    form.visit_type = VisitType {
        code: dice.one_of(&CODES).into(),
        display_name: String::new(),
    };
    form.priority = dice.one_of(Priority::ALL);
    form.invitation = dice.below(4) > 0;
    form
}

/// Some request, as verbs have made it.
fn random_record(dice: &mut Dice) -> BookingRequest {
    let form = random_form(dice);
    let start = end_of(make::date("2026-03-01")) + Duration::hours(9);
    let mut record = make::created(form, start);
    record.key.care_unit = unit(dice.one_of(&UNITS));
    record.allow_duplicate = true;
    let mut now = start;
    for _ in 0..dice.below(6) {
        now += Duration::days(i64::try_from(dice.below(15)).expect("below"));
        record = stepped(dice, record, now);
    }
    record
}

/// The record after one more verb, where its state allows it.
fn stepped(dice: &mut Dice, record: BookingRequest, now: Instant) -> BookingRequest {
    let context = make::context(now);
    let changed = match dice.below(12) {
        0..6 => match make::claimable(&record) {
            Some((_, due_at)) if due_at.max(now) < record.expires_at().unwrap_or(now) => {
                return make::handed_over(&record, due_at.max(now));
            }
            _ => return record,
        },
        6 => match make::claimable(&record) {
            Some((_, due_at)) if due_at.max(now) < record.expires_at().unwrap_or(now) => {
                return parked(&record, due_at.max(now));
            }
            _ => return record,
        },
        7 => {
            let command = RecordBooking {
                etag: String::new(),
                booking: Booking {
                    booking_id: "B-1".into(),
                    start_at: now,
                    end_at: now + Duration::minutes(30),
                    source: BookingSource::Staff,
                    performer_id: None,
                    override_reason: "the patient called".into(),
                },
                replaces_booking_id: None,
            };
            record_booking(Some(&record), &command, &context)
        }
        8 => {
            let command = Cancel {
                etag: String::new(),
                reason: CancelReason::UnitRequest,
                comment: String::new(),
            };
            cancel(Some(&record), &command, &context)
        }
        _ => {
            let outcome = dice.one_of(&[
                contact::Outcome::WillBook(None),
                contact::Outcome::Declined,
                contact::Outcome::NoSuitableTime,
                contact::Outcome::CallBack,
                contact::Outcome::Other,
            ]);
            let command = RecordPatientContact {
                etag: String::new(),
                outcome,
                contact_at: None,
                medium: None,
                comment: String::new(),
            };
            record_patient_contact(Some(&record), &command, &context)
        }
    };
    changed.map_or(record, |change| change.record)
}

/// The record after its next message has been leased and set aside.
fn parked(record: &BookingRequest, now: Instant) -> BookingRequest {
    let (record, id, token) = make::leased(record, now);
    let answer = Acknowledgement {
        id,
        token,
        outcome: Answered::Park,
        sent_at: None,
        retry_delay: None,
        detail: String::new(),
        may_have_been_sent: false,
    };
    match acknowledge(&record, &answer, &make::context(now)) {
        Ok(Some(change)) => change.record,
        other => panic!("not parked: {other:?}"),
    }
}

fn random_query(dice: &mut Dice) -> Query {
    let mut care_units: Vec<HsaId> = UNITS.map(unit).to_vec();
    care_units.retain(|_| dice.below(3) > 0);
    if care_units.is_empty() {
        care_units.push(unit(UNITS[0]));
    }
    let mut visit_type_codes: Vec<String> = CODES.map(str::to_owned).to_vec();
    visit_type_codes.retain(|_| dice.below(2) == 0);
    if dice.below(2) == 0 {
        visit_type_codes.clear();
    }
    let first = dice.day();
    let length = u32::try_from(dice.below(20)).expect("below");
    let period = Period {
        first,
        last: add_days(first, length),
    };
    let mut worklists = vec![dice.one_of(domain::Worklist::ALL)];
    while worklists != [domain::Worklist::All] && dice.below(2) == 0 {
        worklists.push(dice.one_of(&domain::Worklist::ALL[..7]));
    }
    worklists.sort();
    worklists.dedup();
    // The store looks through all care units for one list alone, or a few requests.
    let named = Query {
        personal_id: dice.maybe(&PEOPLE).map(person),
        referral_id: dice.maybe(&REFERRALS).map(str::to_owned),
        visit_id: dice.below(8).eq(&0).then(|| "V-1".to_owned()),
        booking_id: dice.below(8).eq(&0).then(|| "B-1".to_owned()),
        ..Query::of(worklists, CareUnits::These(care_units))
    };
    let broad = named.worklists != [domain::Worklist::ManualHandling] && !named.names_its_subject();
    Query {
        care_units: match broad || dice.below(3) > 0 {
            true => named.care_units,
            false => CareUnits::Every,
        },
        visit_kind: dice.maybe(VisitKind::ALL),
        visit_type_codes,
        period: dice.maybe(&[period]),
        minimum_priority: dice.one_of(Priority::ALL),
        hold_reasons: dice.some_of(HoldReasons::ALL),
        states: dice.some_of(EffectiveState::ALL),
        interpreter_language: dice.below(8).eq(&0).then(|| "ar".to_owned()),
        letter_formats: dice.some_of(LetterFormat::ALL),
        order_by: dice.one_of(OrderBy::ALL),
        ..named
    }
}

/// The whole of some lists.
fn whole(worklists: Vec<domain::Worklist>, care_units: CareUnits, order_by: OrderBy) -> Query {
    Query {
        order_by,
        ..Query::of(worklists, care_units)
    }
}

/// Whether a record is what a query asks for.
fn matches(query: &Query, record: &BookingRequest, now: Instant) -> bool {
    !query.lists_of(record, now).is_empty()
}

async fn keep(store: &Store, record: &BookingRequest) {
    let call = IdempotentCall {
        caller: "tester".into(),
        id: Uuid::new_v4(),
        hash: [7; 32],
    };
    let change = Change {
        record: record.clone(),
        history: Vec::new(),
    };
    let (key, form) = (record.key.clone(), record.form.clone());
    let kept = store
        .create(call, key, &form, 1, move || Ok(vec![change.clone()]))
        .await;
    assert_eq!(kept.expect("kept").record, *record);
}

/// Random records on a store, the same at every run.
async fn filled(dice: &mut Dice, count: usize) -> (Backend, Vec<BookingRequest>) {
    let backend = Backend::empty().await;
    let mut records = Vec::new();
    for _ in 0..count {
        let record = random_record(dice);
        keep(&backend.store, &record).await;
        records.push(record);
    }
    (backend, records)
}

/// A list from page to page, each of so many requests.
async fn walked(store: &Store, query: &Query, now: Instant, limit: usize) -> Vec<RequestKey> {
    let mut keys = Vec::new();
    let mut last: Option<Cursor> = None;
    loop {
        let rows = u32::try_from(limit).expect("few");
        let page = store.list_worklist(query, now, last.as_ref(), rows).await;
        let page = page.expect("a page");
        keys.extend(page.iter().map(|(position, _)| position.key.clone()));
        if page.len() < limit {
            return keys;
        }
        last = page.into_iter().next_back().map(|(position, _)| position);
    }
}

#[tokio::test]
async fn the_store_lists_and_counts_exactly_what_the_domain_matches() {
    let mut dice = Dice(3);
    let (backend, records) = filled(&mut dice, 120).await;
    let mut found = 0;
    for round in 0..600 {
        let (query, now) = (random_query(&mut dice), dice.instant());
        let listed = walked(&backend.store, &query, now, 500).await;
        let unique: BTreeSet<_> = listed.iter().cloned().collect();
        assert_eq!(unique.len(), listed.len(), "{round}: each once");
        let filters = records.iter().filter(|record| matches(&query, record, now));
        let filters: BTreeSet<_> = filters.map(|record| record.key.clone()).collect();
        assert_eq!(unique, filters, "{round}: {:?} at {now}", query.worklists);
        let total = backend.store.total(&query, now).await.expect("a total");
        assert_eq!(usize::try_from(total), Ok(unique.len()), "{round}");
        found += filters.len();

        let every = Query {
            worklists: domain::Worklist::ALL.to_vec(),
            ..query.clone()
        };
        for query in [&query, &every] {
            let broad = query.care_units == CareUnits::Every && !query.names_its_subject();
            if broad && query.worklists.len() > 1 {
                continue;
            }
            let counted = backend.store.counts(query, now).await.expect("counts");
            let mut expected = BTreeMap::new();
            for record in &records {
                for list in query.lists_of(record, now) {
                    let place = (record.key.care_unit.clone(), list);
                    *expected.entry(place).or_default() += 1;
                }
            }
            assert_eq!(counted, expected, "{round} at {now}");
        }
    }
    assert!(found > 600, "the queries find something: {found}");
}

#[tokio::test]
async fn pages_of_several_units_together_are_the_whole_list() {
    let mut dice = Dice(7);
    let (backend, records) = filled(&mut dice, 120).await;
    let mut pages = 0;
    for round in 0..300 {
        let (some, now) = (random_query(&mut dice), dice.instant());
        // Two of three times the order that goes along an index, unit by unit.
        let order_by = match round % 3 {
            0 => some.order_by,
            _ => OrderBy::StartDate,
        };
        let mut query = whole(some.worklists, some.care_units, order_by);
        let others: Vec<HsaId> = (0..30)
            .map(|it| unit(&format!("{}{it}", UNITS[1])))
            .collect();
        // Every other time among many that have nothing.
        match &mut query.care_units {
            CareUnits::These(units) if round % 2 == 0 => units.extend(others),
            CareUnits::These(_) | CareUnits::Every | CareUnits::Within(_) => {}
        }
        let listed = walked(&backend.store, &query, now, 500).await;
        let limit = usize::try_from(1 + dice.below(12)).expect("few");
        let walked = walked(&backend.store, &query, now, limit).await;
        assert_eq!(walked, listed, "{round}: {:?} by {limit}", query.order_by);
        if order_by == OrderBy::StartDate && query.care_units != CareUnits::Every {
            let mut expected: Vec<_> = records
                .iter()
                .filter(|record| matches(&query, record, now))
                .map(|record| {
                    let first = record.form.constraints.as_ref().map(|it| it.period.first);
                    (first.is_none(), first, record.key.clone())
                })
                .collect();
            expected.sort();
            let expected: Vec<_> = expected.into_iter().map(|(_, _, key)| key).collect();
            assert_eq!(listed, expected, "{round}: {:?}", query.worklists);
        }
        pages += walked.len() / limit;
    }
    assert!(pages > 200, "there is more than a page: {pages}");
}

#[tokio::test]
async fn the_store_knows_what_time_moves_and_when_it_moves_next() {
    let mut dice = Dice(5);
    let (backend, records) = filled(&mut dice, 120).await;
    let mut moves = 0;
    for round in 0..400 {
        let (one, other) = (dice.instant(), dice.instant());
        let (since, now) = (one.min(other), one.max(other));
        let units = vec![unit(dice.one_of(&UNITS)), unit(UNITS[0])];
        let of_lists = |lists| Query::of(lists, CareUnits::These(units.clone()));
        let query = of_lists(vec![domain::Worklist::FollowUp]);
        let every = of_lists(domain::Worklist::ALL.to_vec());
        let own = || {
            records
                .iter()
                .filter(|it| units.contains(&it.key.care_unit))
        };
        let shown = |record: &BookingRequest, now: Instant| {
            (every.lists_of(record, now), record.effective_state(now))
        };
        let moved = backend.store.timed_transitions(&query, since, now).await;
        let moved: BTreeSet<_> = moved.expect("read").into_iter().collect();
        for record in own() {
            let turned = shown(record, since) != shown(record, now);
            if turned {
                assert!(moved.contains(&record.key), "{round}: {since} to {now}");
                moves += 1;
            }
        }
        assert!(moved.iter().all(|key| units.contains(&key.care_unit)));

        let next = backend.store.next_transition_at(&query, since).await;
        let next = next.expect("read");
        let expected = own()
            .filter_map(|record| record.next_transition_at(since))
            .min();
        // It may be early for a request that is settled, never late.
        let in_time = |moves: Instant| next.is_some_and(|next| next <= moves);
        assert!(expected.is_none_or(in_time), "{round}: {since}");
        assert!(next.is_none_or(|next| since < next), "{round}");
    }
    assert!(moves > 400, "time moves something: {moves}");
}
