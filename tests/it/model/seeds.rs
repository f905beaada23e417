//! Walks that have failed once, as short as found: the start of the clock, and the steps.

use care_invitation::contract::v1::acknowledgement::Outcome;
use care_invitation::contract::v1::{Addressee, InboxReach, LetterFormat, Priority, Protection};

use super::op::Op::{Acknowledge, AcknowledgeAll, Advance, Create, LeaseAll};
use super::op::{Creation, Form, From, Jump, Op, Span, Which, Words};

pub fn walks() -> Vec<(usize, Vec<Op>)> {
    vec![the_first_message_was_sent_after_the_first_reminder()]
}

fn the_first_message_was_sent_after_the_first_reminder() -> (usize, Vec<Op>) {
    let invitation = Creation {
        unit: 0,
        patient: 1,
        matter: 2,
        origin: From::Referral,
        form: Form::Invitation,
        span: Span {
            start: 45,
            days: 3,
            weekdays: &[1, 2, 3, 4, 5],
            mornings: false,
            minutes: 0,
        },
        protection: Protection::Unspecified,
        reach: InboxReach::Unspecified,
        addressee: Addressee::Unspecified,
        interpreter: "",
        format: LetterFormat::Standard,
        priority: Priority::Routine,
        return_visit: false,
        visit_type: 0,
        allow_duplicate: false,
        repeat: None,
        prior: &[],
    };
    let answer = |outcome| AcknowledgeAll { outcome };
    let steps = vec![
        Create(invitation),
        Advance(Jump::Next(0, 0)),
        LeaseAll,
        answer(Outcome::Unreachable),
        LeaseAll,
        answer(Outcome::Sent),
        Advance(Jump::Next(0, 0)),
        LeaseAll,
        answer(Outcome::Sent),
        Advance(Jump::Days(8)),
        Acknowledge {
            which: Which::Any(0),
            outcome: Outcome::Sent,
            seconds_ago: 0,
            delay: None,
            words: Words::Nothing,
            may_have_left: false,
        },
    ];
    (7, steps)
}
