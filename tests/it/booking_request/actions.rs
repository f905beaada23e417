//! What may be done in each state: the table of docs/lifecycle.md, held against `allowed_actions` and
//! against what the calls then do, with the message in each of its states.

use care_invitation::contract::v1;
use care_invitation::contract::v1::Action::{
    Cancel, Change, ChangeToInvitation, RecordBooking, RecordBookingCancellation,
    RecordPatientContact, ReleaseHold, RevokeInvitation,
};
use care_invitation::contract::v1::CancelReason::{self, PatientRequest, UnitRequest};
use care_invitation::contract::v1::ContactOutcome as Outcome;
use care_invitation::contract::v1::HoldReason::{self, Unspecified as NoHold};
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::delivery_receipt::Receipt;
use care_invitation::contract::v1::record_booking_cancellation_request::Next;
use care_invitation::contract::v1::{Action, InboxReach, NotificationKind};
use tonic::{Code, Status};

use super::calls::{self, assert_conflict, changed, contacted, hold, planned, released, updated};
use super::{NOW, actions, booking, created, messages, requested, state};
use crate::consumer::{answer, message, sent};
use crate::harness::{Harness, refusal};
use crate::make;

const FIRST: &str = "2026-04-06";
const LAST: &str = "2026-06-12";
/// When the period between those two is over.
const OVER: &str = "2026-06-12T22:00:00Z";

/// What may be called.
const VERBS: [Action; 8] = [
    Change,
    ChangeToInvitation,
    RecordBooking,
    RecordPatientContact,
    Cancel,
    ReleaseHold,
    RevokeInvitation,
    RecordBookingCancellation,
];

/// The table of docs/lifecycle.md. With `left` a message of the first round may have been handed over, whatever it is shown as.
fn allowed(request: &v1::BookingRequest, left: bool) -> Vec<Action> {
    let withdrawal_is_parked = messages(request).iter().any(|it| {
        it.kind() == NotificationKind::Withdrawal && it.state() == v1::notification::State::Parked
    });
    let mut allowed = match state(request) {
        State::Requested => vec![Change, ChangeToInvitation, RecordBooking, Cancel],
        State::Expired if !request.invitation => {
            vec![Change, ChangeToInvitation, RecordBooking, Cancel]
        }
        State::Invited => match hold(request) {
            NoHold => vec![Change, RecordBooking, RecordPatientContact, Cancel],
            HoldReason::ProtectedIdentity | HoldReason::Undeliverable | HoldReason::Parked => {
                vec![
                    Change,
                    RecordBooking,
                    RecordPatientContact,
                    Cancel,
                    ReleaseHold,
                ]
            }
            HoldReason::WillBook
            | HoldReason::CallBack
            | HoldReason::NoSuitableTime
            | HoldReason::Contacted => vec![
                Change,
                ChangeToInvitation,
                RecordBooking,
                RecordPatientContact,
                Cancel,
                ReleaseHold,
            ],
        },
        State::NoResponse | State::Expired => {
            vec![
                ChangeToInvitation,
                RecordBooking,
                RecordPatientContact,
                Cancel,
            ]
        }
        State::Booked => vec![
            ChangeToInvitation,
            RecordBooking,
            RecordBookingCancellation,
            Cancel,
        ],
        State::Declined => vec![ChangeToInvitation, RecordBooking, Cancel],
        State::Cancelled if withdrawal_is_parked => vec![ReleaseHold],
        State::Cancelled => vec![],
        State::Unspecified => panic!("never returned"),
    };
    let invited = matches!(state(request), State::Invited | State::Expired) && request.invitation;
    let may_have_left = left && calls::round(request) == 1;
    if invited && !may_have_left && !is_told(request) {
        allowed.push(RevokeInvitation);
    }
    allowed.sort();
    allowed
}

/// Returns whether a message of the present round is SENT or DISPATCHING.
fn is_told(request: &v1::BookingRequest) -> bool {
    use v1::notification::State;
    messages(request).iter().any(|it| {
        it.round == calls::round(request) && matches!(it.state(), State::Sent | State::Dispatching)
    })
}

/// Actions as a refusal lists them.
fn listed(actions: &[Action]) -> String {
    let names = actions.iter().map(|it| it.as_str_name());
    let mut names: Vec<_> = names.map(|it| it.trim_start_matches("ACTION_")).collect();
    names.sort_unstable();
    names.join(",")
}

/// Something that happens to every request of a world.
#[derive(Clone, Copy, Debug)]
enum Step {
    At(&'static str),
    Lease,
    Leave,
    Sent,
    Park,
    Unreachable,
    Report(Receipt),
    Contact(Outcome),
    Protect,
    Book,
    Cancel(CancelReason),
    Release,
    Invite,
    Revoke,
    Unbook(Next),
}

/// Requests in the same situation, one for each verb.
struct World {
    harness: Harness,
    names: Vec<String>,
    due: Vec<v1::DueNotification>,
}

impl World {
    async fn of(form: &v1::BookingRequest) -> Self {
        let harness = Harness::start(NOW).await;
        let mut names = Vec::new();
        for verb in VERBS {
            let form = v1::BookingRequest {
                origin: Some(make::wire_referral(verb.as_str_name())),
                ..form.clone()
            };
            names.push(created(&harness, form).await.name);
        }
        Self {
            harness,
            names,
            due: Vec::new(),
        }
    }

    async fn take(&mut self, step: Step) {
        let harness = &self.harness;
        match step {
            Step::At(now) => harness.advance(now),
            Step::Lease => {
                self.due = harness.lease_due().await;
                assert_eq!(self.due.len(), self.names.len());
            }
            Step::Protect => {
                let names = updated(harness, calls::protect()).await;
                assert_eq!(names.expect("updated").len(), self.names.len());
            }
            Step::Leave | Step::Sent | Step::Park | Step::Unreachable | Step::Report(_) => {
                for due in &self.due {
                    pass_on(harness, due, step).await;
                }
            }
            Step::Contact(_)
            | Step::Book
            | Step::Cancel(_)
            | Step::Release
            | Step::Invite
            | Step::Revoke
            | Step::Unbook(_) => {
                for name in &self.names {
                    done(harness, name, step)
                        .await
                        .expect("a step that is allowed");
                }
            }
        }
    }
}

/// What a consumer does with a message.
async fn pass_on(harness: &Harness, due: &v1::DueNotification, step: Step) {
    match step {
        Step::Leave => calls::get_leave(harness, due).await,
        Step::Sent => answer(harness, sent(due)).await,
        Step::Park => answer(harness, calls::park(due)).await,
        Step::Unreachable => answer(harness, calls::unreachable(due)).await,
        Step::Report(receipt) => {
            calls::reported(harness, &message(due).name, receipt).await;
        }
        other => panic!("{other:?} is not a consumer's"),
    }
}

/// What staff do with a request.
async fn done(harness: &Harness, name: &str, step: Step) -> Result<v1::BookingRequest, Status> {
    match step {
        Step::Contact(outcome) => contacted(harness, calls::contact(name, outcome)).await,
        Step::Book => {
            harness
                .book(make::wire_booking(name, "2026-06-01T08:00:00Z"))
                .await
        }
        Step::Cancel(reason) => harness.cancel(calls::cancel(name, reason)).await,
        Step::Release => released(harness, calls::release(name)).await,
        Step::Invite => harness.invite(make::wire_invite(name)).await,
        Step::Revoke => calls::revoked(harness, calls::revoke(name)).await,
        Step::Unbook(next) => {
            let call = calls::record_booking_cancellation(name, "B-1", next);
            calls::unbooked(harness, call).await
        }
        other => panic!("{other:?} is not done by staff"),
    }
}

/// A verb, called in a way that nothing but the state can stand against.
async fn tried(harness: &Harness, name: &str, verb: Action) -> Result<v1::BookingRequest, Status> {
    let to = v1::BookingRequest {
        purpose: "Hals".into(),
        ..Default::default()
    };
    match verb {
        Change => changed(harness, calls::change(name, &["purpose"], to)).await,
        ChangeToInvitation => {
            let call = calls::invite_between(name, "2026-08-03", "2026-09-11");
            harness.invite(call).await
        }
        RecordBooking => {
            harness
                .book(make::wire_booking(name, "2026-06-02T08:00:00Z"))
                .await
        }
        RecordPatientContact => contacted(harness, calls::contact(name, Outcome::CallBack)).await,
        Cancel => harness.cancel(make::wire_cancel(name)).await,
        ReleaseHold => released(harness, calls::release(name)).await,
        RevokeInvitation => calls::revoked(harness, calls::revoke(name)).await,
        RecordBookingCancellation => {
            let call = v1::RecordBookingCancellationRequest {
                constraints: Some(make::wire_constraints("2026-08-03", "2026-09-11")),
                ..calls::record_booking_cancellation(name, "B-1", Next::Requested)
            };
            calls::unbooked(harness, call).await
        }
        Action::Unspecified => panic!("no verb"),
    }
}

/// The state, what holds it, and the states of its messages.
type Shown = (State, HoldReason, &'static str);

/// Brings a request for each verb into a situation and tries a verb on each.
async fn assert_table(form: &v1::BookingRequest, steps: &[Step], shown: Shown) {
    let row = format!("{shown:?} after {steps:?}");
    let mut world = World::of(form).await;
    for step in steps {
        world.take(*step).await;
    }
    let harness = &world.harness;
    let done = steps.iter().rfind(|it| !matches!(it, Step::At(_)));
    let left = matches!(done, Some(Step::Leave));
    for (name, verb) in world.names.iter().zip(VERBS) {
        let before = harness.get(name).await.expect("read");
        let reached = (state(&before), hold(&before), planned(&before));
        assert_eq!(reached, (shown.0, shown.1, shown.2.to_owned()), "{row}");
        let expected = allowed(&before, left);
        let mut offered = actions(&before);
        offered.sort();
        assert_eq!(offered, expected, "{row}");

        let row = format!("{verb:?} on {row}");
        match tried(harness, name, verb).await {
            Ok(after) => {
                assert!(expected.contains(&verb), "{row}: not refused");
                let mut offered = actions(&after);
                offered.sort();
                assert_eq!(offered, allowed(&after, left), "after {row}");
            }
            Err(status) => {
                assert!(!expected.contains(&verb), "{row}: {status:?}");
                if verb == ChangeToInvitation && shown.0 == State::Invited {
                    let reason = (Code::FailedPrecondition, "ALREADY_INVITATION".to_owned());
                    assert_eq!(refusal(&status), reason, "{row}");
                } else {
                    assert_conflict(&status, shown.0, &listed(&expected), &row);
                }
                assert_eq!(harness.get(name).await.expect("read"), before, "{row}");
            }
        }
    }
}

/// How a first message gets into each of its states.
const PENDING: [&[Step]; 5] = [
    &[],
    &[Step::Lease],
    &[Step::Lease, Step::Leave],
    &[Step::Lease, Step::Sent],
    &[Step::Lease, Step::Park],
];

/// What the messages become when the invitation is held: what is leased is taken back.
const HELD: [&str; 5] = [
    "SCHEDULED",
    "SCHEDULED",
    "DISPATCHING",
    "SENT SCHEDULED",
    "PARKED",
];

/// What they become when it ends.
const ENDED: [&str; 5] = [
    "CANCELLED",
    "CANCELLED",
    "DISPATCHING",
    "SENT CANCELLED",
    "CANCELLED",
];

/// Tries every verb after these steps, with the first message in each of its states before.
async fn assert_each_pending(
    steps: &[Step],
    state: State,
    hold: HoldReason,
    states: [&'static str; 5],
) {
    for (pending, states) in PENDING.into_iter().zip(states) {
        let steps = [pending, steps].concat();
        assert_table(&make::wire_form(FIRST, LAST), &steps, (state, hold, states)).await;
    }
}

#[tokio::test]
async fn a_request_that_was_never_invited() {
    let form = requested(FIRST, LAST);
    assert_table(&form, &[], (State::Requested, NoHold, "")).await;
    assert_table(&form, &[Step::Protect], (State::Requested, NoHold, "")).await;
    assert_table(&form, &[Step::At(OVER)], (State::Expired, NoHold, "")).await;
    assert_table(&form, &[Step::Book], (State::Booked, NoHold, "")).await;
    let cancelled = (State::Cancelled, NoHold, "");
    assert_table(&form, &[Step::Cancel(UnitRequest)], cancelled).await;
    let direct = v1::BookingRequest {
        booking: Some(booking(
            "B-1",
            "2026-06-01T08:00:00Z",
            "2026-06-01T08:30:00Z",
        )),
        ..form
    };
    assert_table(&direct, &[], (State::Booked, NoHold, "")).await;
    assert_table(&direct, &[Step::At(OVER)], (State::Booked, NoHold, "")).await;
}

#[tokio::test]
async fn an_invitation_that_nothing_holds_or_that_is_parked() {
    let form = make::wire_form(FIRST, LAST);
    let states = [
        "SCHEDULED",
        "LEASED",
        "DISPATCHING",
        "SENT SCHEDULED",
        "PARKED",
    ];
    let holds = [NoHold, NoHold, NoHold, NoHold, HoldReason::Parked];
    for ((steps, states), hold) in PENDING.into_iter().zip(states).zip(holds) {
        assert_table(&form, steps, (State::Invited, hold, states)).await;
    }
    // Released again; and parked, but handed over all the same.
    let released = [Step::Lease, Step::Park, Step::Release];
    assert_table(&form, &released, (State::Invited, NoHold, "SCHEDULED")).await;
    let late = [Step::Lease, Step::Park, Step::Sent];
    let parked = (State::Invited, HoldReason::Parked, "SENT SCHEDULED");
    assert_table(&form, &late, parked).await;
}

#[tokio::test]
async fn an_invitation_that_the_patients_contact_holds() {
    for (outcome, hold) in [
        (Outcome::WillBook, HoldReason::WillBook),
        (Outcome::CallBack, HoldReason::CallBack),
        (Outcome::NoSuitableTime, HoldReason::NoSuitableTime),
    ] {
        let steps = [Step::Contact(outcome)];
        assert_each_pending(&steps, State::Invited, hold, HELD).await;
    }
    // A contact without a decision replaces no other hold.
    let form = make::wire_form(FIRST, LAST);
    for (pending, states) in PENDING.into_iter().zip(HELD) {
        let hold = match states {
            "PARKED" => HoldReason::Parked,
            _ => HoldReason::Contacted,
        };
        let steps = [pending, &[Step::Contact(Outcome::Other)]].concat();
        assert_table(&form, &steps, (State::Invited, hold, states)).await;
    }
}

#[tokio::test]
async fn an_invitation_to_a_patient_who_will_book_and_whose_day_has_passed() {
    let steps = [
        Step::Contact(Outcome::WillBook),
        Step::At("2026-03-17T09:00:00Z"),
    ];
    let held = (State::Invited, HoldReason::WillBook, "SCHEDULED");
    assert_table(&make::wire_form(FIRST, LAST), &steps, held).await;
}

#[tokio::test]
async fn an_invitation_that_protected_identity_holds() {
    let hold = HoldReason::ProtectedIdentity;
    assert_each_pending(&[Step::Protect], State::Invited, hold, HELD).await;
    let both = [Step::Protect, Step::Contact(Outcome::CallBack)];
    assert_each_pending(&both, State::Invited, hold, HELD).await;
}

#[tokio::test]
async fn an_invitation_that_reaches_nobody() {
    let mut form = make::wire_form(FIRST, LAST);
    let patient = form.patient.as_mut().expect("a patient");
    patient.inbox_reach = InboxReach::None.into();
    let reminded = "2026-03-16T08:00:00Z";
    for (steps, states) in [
        (&[Step::Lease, Step::Unreachable][..], "PARKED"),
        (
            &[Step::Lease, Step::Sent, Step::Report(Receipt::Returned)],
            "SENT SCHEDULED",
        ),
        (
            &[
                Step::Lease,
                Step::Unreachable,
                Step::At(reminded),
                Step::Sent,
            ],
            "SENT SCHEDULED",
        ),
        (&[Step::Lease, Step::Leave, Step::Unreachable], "PARKED"),
    ] {
        let held = (State::Invited, HoldReason::Undeliverable, states);
        assert_table(&form, steps, held).await;
    }
}

/// The steps of a patient who stays silent, to the last message's hand-over.
const SILENT: [Step; 8] = [
    Step::Lease,
    Step::Sent,
    Step::At("2026-03-16T08:00:00Z"),
    Step::Lease,
    Step::Sent,
    Step::At("2026-03-30T07:00:00Z"),
    Step::Lease,
    Step::Sent,
];

#[tokio::test]
async fn an_invitation_without_an_answer() {
    let form = make::wire_form(FIRST, LAST);
    let turned = Step::At("2026-04-13T07:00:00Z");
    // A letter follows, and is waited for.
    let unread = Step::Report(Receipt::Unread);
    for (steps, shown) in [
        (&[turned][..], (State::NoResponse, NoHold, "SENT SENT SENT")),
        (
            &[unread, turned],
            (State::Invited, NoHold, "SENT SENT SENT SCHEDULED"),
        ),
        (
            &[unread, turned, Step::Lease],
            (State::Invited, NoHold, "SENT SENT SENT LEASED"),
        ),
        (
            &[unread, turned, Step::Lease, Step::Leave],
            (State::Invited, NoHold, "SENT SENT SENT DISPATCHING"),
        ),
        (
            &[turned, Step::Protect],
            (
                State::Invited,
                HoldReason::ProtectedIdentity,
                "SENT SENT SENT",
            ),
        ),
        (
            &[turned, Step::Contact(Outcome::WillBook)],
            (State::Invited, HoldReason::WillBook, "SENT SENT SENT"),
        ),
        (
            &[turned, Step::Contact(Outcome::WillBook), Step::Release],
            (State::NoResponse, NoHold, "SENT SENT SENT"),
        ),
        (
            &[turned, Step::Invite],
            (State::Invited, NoHold, "SENT SENT SENT SCHEDULED"),
        ),
    ] {
        assert_table(&form, &[&SILENT, steps].concat(), shown).await;
    }
}

#[tokio::test]
async fn an_invitation_whose_period_has_passed() {
    let form = make::wire_form(FIRST, LAST);
    let states = ["SKIPPED", "SKIPPED", "SKIPPED", "SENT SKIPPED", "SKIPPED"];
    let holds = [NoHold, NoHold, NoHold, NoHold, HoldReason::Parked];
    for ((pending, states), hold) in PENDING.into_iter().zip(states).zip(holds) {
        let steps = [pending, &[Step::At(OVER)]].concat();
        assert_table(&form, &steps, (State::Expired, hold, states)).await;
    }
    for steps in [
        [Step::Contact(Outcome::CallBack), Step::At(OVER)],
        [Step::At(OVER), Step::Contact(Outcome::CallBack)],
    ] {
        let held = (State::Expired, HoldReason::CallBack, "SKIPPED");
        assert_table(&form, &steps, held).await;
    }
}

#[tokio::test]
async fn a_request_that_is_booked_or_declined() {
    let declined = Step::Contact(Outcome::Declined);
    assert_each_pending(&[Step::Book], State::Booked, NoHold, ENDED).await;
    assert_each_pending(&[declined], State::Declined, NoHold, ENDED).await;
    for (step, state) in [(Step::Book, State::Booked), (declined, State::Declined)] {
        // Whatever held it, and whatever time shows.
        let form = make::wire_form(FIRST, LAST);
        for before in [Step::Protect, Step::Contact(Outcome::CallBack)] {
            let steps = [before, step, Step::At(OVER)];
            assert_table(&form, &steps, (state, NoHold, "CANCELLED")).await;
        }
        let steps = [Step::At(OVER), step];
        assert_table(&form, &steps, (state, NoHold, "CANCELLED")).await;
    }
}

#[tokio::test]
async fn a_request_that_is_cancelled() {
    let asked = [Step::Cancel(PatientRequest)];
    assert_each_pending(&asked, State::Cancelled, NoHold, ENDED).await;
    let withdrawn = [
        "CANCELLED",
        "CANCELLED",
        "DISPATCHING SCHEDULED",
        "SENT CANCELLED SCHEDULED",
        "CANCELLED",
    ];
    let steps = [Step::Cancel(UnitRequest)];
    assert_each_pending(&steps, State::Cancelled, NoHold, withdrawn).await;
}

#[tokio::test]
async fn a_cancelled_request_with_a_withdrawal() {
    use Step::{Lease, Leave, Park, Release, Sent, Unreachable};
    let form = make::wire_form(FIRST, LAST);
    let parked = HoldReason::Parked;
    let nowhere = HoldReason::Undeliverable;
    for (steps, hold, states) in [
        (&[Lease][..], NoHold, "SENT CANCELLED LEASED"),
        (&[Lease, Leave], NoHold, "SENT CANCELLED DISPATCHING"),
        (&[Lease, Sent], NoHold, "SENT CANCELLED SENT"),
        (
            &[Lease, Unreachable],
            NoHold,
            "SENT CANCELLED CANCELLED SCHEDULED",
        ),
        (&[Lease, Park], parked, "SENT CANCELLED PARKED"),
        (&[Lease, Leave, Park], parked, "SENT CANCELLED PARKED"),
        (
            &[Lease, Unreachable, Lease, Unreachable],
            nowhere,
            "SENT CANCELLED CANCELLED PARKED",
        ),
        (
            &[Lease, Park, Step::At(OVER)],
            parked,
            "SENT CANCELLED PARKED",
        ),
        (&[Lease, Park, Release], NoHold, "SENT CANCELLED SCHEDULED"),
    ] {
        let cancelled = [Lease, Sent, Step::Cancel(UnitRequest)];
        let steps = [&cancelled, steps].concat();
        assert_table(&form, &steps, (State::Cancelled, hold, states)).await;
    }
}

#[tokio::test]
async fn a_request_whose_invitation_was_revoked() {
    use Step::{Contact, Lease, Park, Protect, Revoke, Sent};
    let form = make::wire_form(FIRST, LAST);
    for steps in [
        &[Revoke][..],
        &[Lease, Revoke],
        &[Lease, Park, Revoke],
        &[Protect, Revoke],
        &[Contact(Outcome::CallBack), Revoke],
        &[Revoke, Protect],
    ] {
        let requested = (State::Requested, NoHold, "CANCELLED");
        assert_table(&form, steps, requested).await;
        let steps = [steps, &[Step::At(OVER)]].concat();
        assert_table(&form, &steps, (State::Expired, NoHold, "CANCELLED")).await;
    }
    let expired = [Step::At(OVER), Revoke];
    assert_table(&form, &expired, (State::Expired, NoHold, "CANCELLED")).await;
    // Sent all the same.
    let late = [Lease, Revoke, Sent];
    assert_table(&form, &late, (State::Requested, NoHold, "SENT")).await;
    let again = [Lease, Revoke, Sent, Step::Invite];
    assert_table(&form, &again, (State::Invited, NoHold, "SENT SCHEDULED")).await;
    let twice = [
        Lease,
        Sent,
        Contact(Outcome::CallBack),
        Step::Invite,
        Revoke,
    ];
    let both = (State::Requested, NoHold, "SENT CANCELLED CANCELLED");
    assert_table(&form, &twice, both).await;
}

#[tokio::test]
async fn a_request_whose_booking_was_cancelled() {
    use Step::{At, Book, Lease, Leave, Sent, Unbook};
    let form = make::wire_form(FIRST, LAST);
    let back = Unbook(Next::Requested);
    let requested = requested(FIRST, LAST);
    let waits = (State::Requested, NoHold, "");
    assert_table(&requested, &[Book, back], waits).await;
    let over = (State::Expired, NoHold, "");
    assert_table(&requested, &[Book, At(OVER), back], over).await;
    for (before, states) in [
        (&[][..], "CANCELLED"),
        (&[Lease, Leave], "DISPATCHING"),
        (&[Lease, Sent], "SENT CANCELLED"),
    ] {
        let steps = [before, &[Book, back]].concat();
        assert_table(&form, &steps, (State::Requested, NoHold, states)).await;
        let steps = [before, &[Book, Unbook(Next::Invited)]].concat();
        let again: &'static str = match states {
            "CANCELLED" => "CANCELLED SCHEDULED",
            "DISPATCHING" => "DISPATCHING SCHEDULED",
            _ => "SENT CANCELLED SCHEDULED",
        };
        assert_table(&form, &steps, (State::Invited, NoHold, again)).await;
    }
}
