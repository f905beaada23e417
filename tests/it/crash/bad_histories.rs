//! Histories made by hand, each with one promise broken: the checker finds it, and nothing in a good one.

use std::collections::BTreeMap;

use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::notification::State as MessageState;
use care_invitation::contract::v1::{NotificationCause, NotificationKind};

use super::checker::{Message, Promise, Shown, Truth, check};
use super::history::{
    Acknowledgement, Action, Answer, Authorization, HandOver, History, Lease, Outcome, Span, Write,
};
use crate::make::at;

const REQUEST: &str = "careUnits/U/bookingRequests/R";
const MESSAGE: &str = "careUnits/U/bookingRequests/R/notifications/N";

fn span(began: u64, ended: u64) -> Span {
    Span { began, ended }
}

fn write(action: Action, about: &str, span: Span) -> Write {
    Write {
        request_id: format!("{action:?}-1"),
        action,
        about: about.into(),
        protects: false,
        span,
        clock: 10,
        answers: vec![Answer::Done(REQUEST.into())],
    }
}

fn lease(token: &str, received: u64, begins: i64) -> Lease {
    Lease {
        message: MESSAGE.into(),
        token: token.into(),
        received,
        begins,
        ends: begins + 60,
        is_withdrawal: false,
        possible_repeat: false,
        is_protected: false,
    }
}

fn authorized(token: &str, span: Span, until: i64) -> Authorization {
    Authorization {
        message: MESSAGE.into(),
        token: token.into(),
        is_withdrawal: false,
        span,
        until: Some(until),
    }
}

fn answered(token: &str, outcome: Outcome, span: Span) -> Acknowledgement {
    Acknowledgement {
        message: MESSAGE.into(),
        token: token.into(),
        outcome,
        span,
        is_recorded: true,
    }
}

fn message(state: MessageState) -> Message {
    Message {
        name: MESSAGE.into(),
        round: 1,
        kind: NotificationKind::Invitation,
        sequence: 0,
        state,
        cause: NotificationCause::Unspecified,
        due_at: at("2026-03-02T09:00:00Z"),
        sent_at: (state == MessageState::Sent).then(|| at("2026-03-02T09:00:00Z")),
    }
}

/// One invitation whose message was leased, authorized, handed over and acknowledged.
fn good() -> (History, Truth) {
    let history = History {
        writes: vec![write(Action::Create, "ref", span(10, 20))],
        leases: vec![lease("A", 30, 0)],
        authorizations: vec![authorized("A", span(40, 50), 60)],
        hand_overs: vec![HandOver {
            message: MESSAGE.into(),
            at: 55,
            clock: 5,
        }],
        acknowledgements: vec![answered("A", Outcome::Sent, span(60, 70))],
    };
    let shown = Shown {
        referral: "ref".into(),
        state: State::Invited,
        is_held: false,
        messages: vec![message(MessageState::Sent)],
        actions: BTreeMap::from([(Action::Create, 1)]),
        bookings: Vec::new(),
        lists: 1,
    };
    let truth = Truth {
        now: at("2026-03-02T10:00:00Z"),
        requests: BTreeMap::from([(REQUEST.into(), shown)]),
        rows: 1,
    };
    (history, truth)
}

/// The request of a truth.
fn shown(truth: &mut Truth) -> &mut Shown {
    truth.requests.get_mut(REQUEST).expect("it is there")
}

/// The promises that are found broken, each once.
fn broken(history: &History, truth: &Truth) -> Vec<Promise> {
    let mut broken: Vec<_> = check(history, truth).iter().map(|it| it.promise).collect();
    broken.sort_unstable();
    broken.dedup();
    broken
}

/// What is found when a good history and truth are spoiled like this.
fn spoiled(spoil: impl FnOnce(&mut History, &mut Truth)) -> Vec<Promise> {
    let (mut history, mut truth) = good();
    spoil(&mut history, &mut truth);
    broken(&history, &truth)
}

#[test]
fn a_good_history_breaks_no_promise() {
    let (history, truth) = good();
    assert_eq!(check(&history, &truth), []);
}

#[test]
fn a_write_that_is_not_there_is_found() {
    let found = spoiled(|_, truth| {
        truth.requests.clear();
        truth.rows = 0;
    });
    assert!(found.contains(&Promise::Kept), "{found:?}");
    let booking = || write(Action::Book, REQUEST, span(80, 90));
    let found = spoiled(|history, _| history.writes.push(booking()));
    assert_eq!(found, [Promise::Kept], "a booking of which no history says");
    let found = spoiled(|_, truth| shown(truth).referral = "another".into());
    assert_eq!(found, [Promise::Kept], "a name that is another request's");
    let found = spoiled(|history, truth| {
        history.hand_overs.clear();
        shown(truth).messages = vec![message(MessageState::Parked)];
    });
    assert_eq!(
        found,
        [Promise::Kept],
        "an acknowledgement that is forgotten"
    );
}

#[test]
fn two_live_leases_of_one_message_are_found() {
    let unanswered = |history: &mut History| {
        history.acknowledgements.clear();
        history.hand_overs.clear();
        history.authorizations.clear();
    };
    for (begins, expected) in [
        (30, &[Promise::OneLease][..]),
        (59, &[Promise::OneLease]),
        (60, &[]),
    ] {
        let found = spoiled(|history, _| {
            unanswered(history);
            history.leases.push(lease("B", 100, begins));
        });
        assert_eq!(found, expected, "the next begins at {begins}");
    }
    let found = spoiled(|history, _| {
        unanswered(history);
        history
            .authorizations
            .push(authorized("A", span(40, 50), 90));
        history.leases.push(lease("B", 100, 70));
    });
    assert_eq!(
        found,
        [Promise::OneLease],
        "a permission has renewed the first"
    );
    let found = spoiled(|history, _| {
        unanswered(history);
        history
            .acknowledgements
            .push(answered("A", Outcome::Retry, span(60, 70)));
        history.leases.push(lease("B", 100, 30));
    });
    assert_eq!(found, [], "RETRY has ended the first");
    let found = spoiled(|history, truth| {
        unanswered(history);
        history
            .writes
            .push(write(Action::Change, REQUEST, span(80, 90)));
        shown(truth).actions.insert(Action::Change, 1);
        history.leases.push(lease("B", 100, 30));
    });
    assert_eq!(found, [], "a change has revoked the first");
    let found = spoiled(|history, truth| {
        unanswered(history);
        history
            .writes
            .push(write(Action::Change, REQUEST, span(5, 9)));
        shown(truth).actions.insert(Action::Change, 1);
        history.leases[0] = lease("A", 30, 20);
        history.leases.push(lease("B", 100, 30));
    });
    assert_eq!(found, [Promise::OneLease], "a change before it has not");
    let found = spoiled(|history, _| {
        let again = lease("B", 100, 90);
        history.leases.push(Lease {
            possible_repeat: true,
            ..again
        });
    });
    assert_eq!(found, [Promise::OneLease], "it was acknowledged");
    for (span, expected) in [
        (span(35, 50), &[][..]),
        (span(80, 90), &[Promise::OneLease]),
    ] {
        let found = spoiled(|history, truth| {
            history.writes.push(write(Action::Change, REQUEST, span));
            shown(truth).actions.insert(Action::Change, 1);
            history.leases.push(lease("B", 100, 0));
        });
        assert_eq!(found, expected, "revoked in the same second: {span:?}");
    }
    let found = spoiled(|history, _| {
        unanswered(history);
        history.leases.push(lease("B", 100, 60));
        let late = authorized("A", span(110, 120), 180);
        history.authorizations.push(late);
    });
    assert_eq!(found, [Promise::OneLease], "a permission under the first");
}

#[test]
fn a_message_that_is_not_parked_after_eight_leases_is_found() {
    for (count, expected) in [(8, &[][..]), (9, &[Promise::Rules])] {
        let unheard = |history: &mut History| {
            history.acknowledgements.clear();
            history.hand_overs.clear();
            history.authorizations.clear();
            let again = |number: u64| lease(&format!("{number}"), number, 100 * number as i64);
            history.leases = (0..count).map(again).collect();
        };
        let found = spoiled(|history, _| unheard(history));
        assert_eq!(found, expected, "{count} in a row");
        let found = spoiled(|history, _| {
            unheard(history);
            let retry = answered("4", Outcome::Retry, span(4, 5));
            history.acknowledgements.push(retry);
        });
        assert_eq!(found, [], "{count}, and an answer between them");
    }
}

#[test]
fn a_permission_after_a_booking_was_answered_is_found() {
    let booked = |history: &mut History, truth: &mut Truth, span: Span| {
        history.writes.push(write(Action::Book, REQUEST, span));
        let shown = shown(truth);
        shown.actions.insert(Action::Book, 1);
        shown.bookings.push("B-1".into());
        shown.state = State::Booked;
        shown.lists = 0;
    };
    let found = spoiled(|history, truth| booked(history, truth, span(31, 39)));
    assert_eq!(found, [Promise::Settled]);
    let found = spoiled(|history, truth| booked(history, truth, span(31, 45)));
    assert_eq!(found, [], "either may have been first");
    let found = spoiled(|history, truth| {
        booked(history, truth, span(31, 39));
        history.authorizations[0].until = None;
    });
    assert_eq!(found, [], "it was refused");
}

#[test]
fn a_due_message_that_still_waits_is_found() {
    for state in [
        MessageState::Scheduled,
        MessageState::Leased,
        MessageState::Dispatching,
    ] {
        let waits = |history: &mut History, truth: &mut Truth| {
            history.hand_overs.clear();
            history.acknowledgements.clear();
            shown(truth).messages = vec![message(state)];
        };
        assert_eq!(spoiled(waits), [Promise::Delivered], "{state:?}");
        let held = |history: &mut History, truth: &mut Truth| {
            waits(history, truth);
            shown(truth).is_held = true;
        };
        assert_eq!(spoiled(held), [], "{state:?} of a held invitation");
    }
    let found = spoiled(|history, truth| {
        history.hand_overs.clear();
        history.acknowledgements.clear();
        shown(truth).messages = vec![message(MessageState::Dispatching)];
        shown(truth).state = State::Expired;
    });
    assert_eq!(
        found,
        [Promise::Delivered],
        "authorized, and unanswered when the period has passed"
    );
    let found = spoiled(|_, truth| shown(truth).messages.clear());
    assert!(found.contains(&Promise::Delivered), "{found:?}");
    for (state, expected) in [
        (MessageState::Skipped, &[Promise::Delivered][..]),
        (MessageState::Parked, &[]),
    ] {
        let found = spoiled(|history, truth| {
            history.acknowledgements.clear();
            shown(truth).messages = vec![message(state)];
        });
        assert_eq!(
            found, expected,
            "handed over by a consumer that died, and {state:?}"
        );
    }
}

#[test]
fn a_rule_that_is_broken_is_found() {
    let found = spoiled(|_, truth| {
        let again = Message {
            name: format!("{MESSAGE}2"),
            sent_at: Some(at("2026-03-20T09:00:00Z")),
            ..message(MessageState::Sent)
        };
        shown(truth).messages.push(again);
    });
    assert_eq!(found, [Promise::Rules], "two hand-overs of a kind");
    let found = spoiled(|_, truth| {
        let reminder = Message {
            name: format!("{MESSAGE}2"),
            kind: NotificationKind::Reminder,
            sequence: 1,
            sent_at: Some(at("2026-03-15T22:59:59Z")),
            ..message(MessageState::Sent)
        };
        shown(truth).messages.push(reminder);
    });
    assert_eq!(found, [Promise::Rules], "a reminder after 13 days");
    let found = spoiled(|_, truth| shown(truth).lists = 0);
    assert_eq!(found, [Promise::Rules], "an open request on no list");
    let found = spoiled(|history, _| {
        history.acknowledgements[0].span = span(200, 210);
        history.leases.push(lease("B", 100, 90));
    });
    assert_eq!(found, [Promise::Rules], "a repeat without a word");
    let found = spoiled(|history, _| {
        history.acknowledgements[0].span = span(200, 210);
        history.leases[0] = lease("A", 30, 95);
        history.hand_overs[0].clock = 95;
        history.leases.push(lease("B", 100, 10));
    });
    assert_eq!(
        found,
        [],
        "a lease that came late, given before the hand-over"
    );
    let found = spoiled(|history, _| history.hand_overs.push(history.hand_overs[0].clone()));
    assert_eq!(found, [Promise::Rules], "the same message twice");
    let found = spoiled(|history, _| {
        let answers = vec![Answer::Faulty("Internal".into())];
        history.writes.push(Write {
            answers,
            ..write(Action::Book, REQUEST, span(80, 90))
        });
    });
    assert_eq!(
        found,
        [Promise::Rules],
        "an answer that nobody may be given"
    );
}

#[test]
fn a_repeat_with_another_outcome_is_found() {
    let found = spoiled(|history, _| {
        let other = Answer::Done("careUnits/U/bookingRequests/S".into());
        history.writes[0].answers.push(other);
    });
    assert_eq!(found, [Promise::Repeats], "another name");
    let found = spoiled(|history, _| {
        history.writes[0]
            .answers
            .push(Answer::Refused("DUPLICATE_REQUEST".into()));
    });
    assert_eq!(found, [Promise::Repeats], "a refusal");
    let found = spoiled(|_, truth| truth.rows = 2);
    assert_eq!(
        found,
        [Promise::Repeats],
        "a request that no call was told of"
    );
    let found = spoiled(|_, truth| {
        shown(truth).actions.insert(Action::Change, 1);
    });
    assert_eq!(
        found,
        [Promise::Repeats],
        "a change that was refused, or made twice"
    );
}

#[test]
fn a_message_to_a_protected_patient_without_a_release_is_found() {
    let found = spoiled(|history, _| history.writes[0].protects = true);
    assert_eq!(found, [Promise::Protected]);
    let found = spoiled(|history, _| history.leases[0].is_protected = true);
    assert_eq!(found, [Promise::Protected]);
    for (began, expected) in [(25, &[][..]), (35, &[Promise::Protected])] {
        let found = spoiled(|history, truth| {
            history.writes[0].protects = true;
            history
                .writes
                .push(write(Action::Release, REQUEST, span(began, began + 5)));
            shown(truth).actions.insert(Action::Release, 1);
        });
        assert_eq!(found, expected, "released at {began}");
    }
}
