//! Generation of walks: random single steps, and sequences of steps that belong together in practice.

use care_invitation::contract::v1::BookingCancellationReason;
use care_invitation::contract::v1::ContactOutcome as Contact;
use care_invitation::contract::v1::acknowledgement::Outcome as Answer;
use care_invitation::contract::v1::change_booking_request_request::OnChange;
use care_invitation::contract::v1::delivery_receipt::Receipt;
use care_invitation::contract::v1::record_booking_cancellation_request::Next;
use care_invitation::contract::v1::{
    Addressee, BookingSource, CancelReason, ContactMedium, DeliveryChannel, InboxReach,
    LetterFormat, Priority, Protection,
};

use super::op::{
    Aim, Creation, Etag, Form, From, Jump, Learned, Op, Own, Referral, Setting, Slot, Span, What,
    Which, Words,
};
use super::rng::Rng;

const WORK_DAYS: &[i32] = &[1, 2, 3, 4, 5];
/// Messages that an older system handed over: on the way, overdue, complete, too many, in the future, in the
/// wrong order.
const PRIOR: [&[(DeliveryChannel, i64)]; 8] = [
    &[(DeliveryChannel::Inbox, 10)],
    &[(DeliveryChannel::Letter, 3)],
    &[(DeliveryChannel::Inbox, 40)],
    &[(DeliveryChannel::Inbox, 20), (DeliveryChannel::Letter, 5)],
    &[
        (DeliveryChannel::Letter, 30),
        (DeliveryChannel::Inbox, 20),
        (DeliveryChannel::Inbox, 8),
    ],
    &[
        (DeliveryChannel::Inbox, 9),
        (DeliveryChannel::Inbox, 8),
        (DeliveryChannel::Inbox, 7),
        (DeliveryChannel::Inbox, 6),
    ],
    &[(DeliveryChannel::Inbox, 5), (DeliveryChannel::Inbox, -1)],
    &[(DeliveryChannel::Inbox, 5), (DeliveryChannel::Inbox, 5)],
];
const WEEKDAYS: [&[i32]; 4] = [&[], &[], WORK_DAYS, &[1]];

/// Generates a walk of about `length` steps.
pub fn walk(rng: &mut Rng, length: usize) -> Vec<Op> {
    let mut ops = vec![];
    if rng.chance(50) {
        ops.push(settings(rng));
    }
    for _ in 0..=rng.below(3) {
        let form = rng.pick(&[Form::Invitation, Form::Invitation, Form::Summons]);
        let origin = rng.pick(&[From::Referral, From::VisitWithReferral]);
        ops.push(Op::Create(Creation {
            form,
            origin,
            ..creation(rng)
        }));
    }
    while ops.len() < length {
        step(rng, &mut ops);
    }
    let ops = ops.into_iter();
    ops.map(|op| match rng.chance(30) {
        true => Op::Clerk(Box::new(op)),
        false => op,
    })
    .collect()
}

/// Adds a sequence of steps that belong together in practice, with random single steps among them.
fn step(rng: &mut Rng, ops: &mut Vec<Op>) {
    match rng.below(16) {
        15 => pause(rng, ops),
        0..4 => ops.push(single(rng)),
        4..7 => deliver(rng, ops),
        7 | 8 => interrupt(rng, ops),
        9 => ops.extend([Op::LeaseAll, acknowledge(rng), acknowledge(rng)]),
        10 => ops.extend([Op::Advance(jump(rng)), lease(rng)]),
        11 => ops.push(Op::Advance(jump(rng))),
        12 if rng.chance(30) => ops.extend([book(rng), unbook(rng), single(rng), unbook(rng)]),
        12 => ops.extend([contact(rng), single(rng), release(rng)]),
        13 if rng.chance(30) => move_to_another(rng, ops),
        13 if rng.chance(50) => unknown_to_the_clerk(rng, ops),
        13 => learned_too_late(rng, ops),
        _ => match rng.below(12) {
            10.. => never_posted(rng, ops),
            0..2 => nobody_answers(ops),
            2 | 3 => sent_after_all(rng, ops),
            4..6 => ops.extend([cancel(rng), lease(rng), acknowledge(rng)]),
            6 => handed_over_before_the_lease(rng, ops),
            _ => ops.extend([report(rng), Op::LeaseAll, acknowledge(rng)]),
        },
    }
}

/// Hands over the next due notification, and may report on it.
fn deliver(rng: &mut Rng, ops: &mut Vec<Op>) {
    ops.push(Op::Advance(Jump::Next(0, rng.pick(&[0, 0, 0, 1]))));
    ops.push(Op::LeaseAll);
    ops.push(Op::AcknowledgeAll {
        outcome: Answer::Sent,
    });
    if rng.chance(30) {
        ops.push(report(rng));
    }
}

/// Lets something happen while a consumer has a notification leased.
fn interrupt(rng: &mut Rng, ops: &mut Vec<Op>) {
    ops.extend([Op::Advance(Jump::Next(0, 0)), Op::LeaseAll]);
    if rng.chance(40) {
        ops.push(Op::AuthorizeAll);
    }
    ops.push(single(rng));
    if rng.chance(30) {
        ops.push(Op::AuthorizeAll);
    }
    ops.push(acknowledge(rng));
}

/// Lets lease after lease expire.
fn nobody_answers(ops: &mut Vec<Op>) {
    ops.push(Op::Advance(Jump::Next(0, 0)));
    for _ in 0..9 {
        ops.extend([Op::LeaseAll, Op::Advance(Jump::Lapse)]);
    }
    ops.push(Op::LeaseAll);
}

/// Reports SENT for a notification that its consumer has acknowledged as unreachable: days later, when
/// others have followed it.
fn sent_after_all(rng: &mut Rng, ops: &mut Vec<Op>) {
    ops.extend([Op::Advance(Jump::Next(0, 0)), Op::LeaseAll]);
    ops.push(Op::AcknowledgeAll {
        outcome: Answer::Unreachable,
    });
    for _ in 0..=rng.below(2) {
        deliver(rng, ops);
    }
    ops.push(Op::Advance(Jump::Days(signed(rng, 0, 10))));
    for _ in 0..3 {
        ops.push(Op::Acknowledge {
            which: Which::Any(index(rng)),
            outcome: Answer::Sent,
            seconds_ago: 0,
            delay: None,
            words: Words::Nothing,
            may_have_left: false,
        });
    }
    deliver(rng, ops);
}

/// Reports SENT from before the first lease, under a later one: a consumer's journal may know more than a
/// database that was restored.
fn handed_over_before_the_lease(rng: &mut Rng, ops: &mut Vec<Op>) {
    ops.push(Op::Advance(Jump::Next(0, 0)));
    let late = Jump::Seconds(rng.pick(&[60, 7_200, 200_000]));
    ops.extend([Op::Advance(late), Op::LeaseAll]);
    ops.extend([Op::Advance(Jump::Lapse), Op::LeaseAll]);
    for _ in 0..2 {
        ops.push(Op::Acknowledge {
            which: Which::Out(index(rng)),
            outcome: Answer::Sent,
            seconds_ago: rng.pick(&[3_600, 86_400]),
            delay: None,
            words: Words::Nothing,
            may_have_left: false,
        });
    }
}

/// Reports that a patient has protection, or has died, after their request has ended: while its
/// withdrawal is being sent, or before they are invited again.
fn learned_too_late(rng: &mut Rng, ops: &mut Vec<Op>) {
    let at = Aim::Any(index(rng));
    let etag = Etag::Unsaid;
    let learned = |what| Op::Patient {
        at,
        everywhere: false,
        what,
    };
    let reason = CancelReason::UnitRequest;
    let outcome = rng.pick(&[Answer::Sent, Answer::Sent, Answer::Park]);
    ops.extend([Op::Advance(Jump::Next(0, 0)), Op::LeaseAll]);
    match rng.below(4) {
        0 => ops.push(Op::Cancel { at, reason, etag }),
        1 => ops.extend([Op::AcknowledgeAll { outcome }, book(rng), contact(rng)]),
        _ => ops.extend([
            Op::AcknowledgeAll { outcome },
            Op::Cancel { at, reason, etag },
            Op::LeaseAll,
        ]),
    }
    if rng.chance(60) {
        ops.push(Op::AuthorizeAll);
    }
    ops.push(learned(rng.pick(&[
        Learned::Protection(Protection::ConfidentialityMarked),
        Learned::Protection(Protection::ProtectedRegistration),
        Learned::Death,
    ])));
    if rng.chance(20) {
        ops.push(learned(Learned::Protection(Protection::Unspecified)));
    }
    if rng.chance(70) {
        let outcome = rng.pick(&[
            Answer::Sent,
            Answer::Retry,
            Answer::Unreachable,
            Answer::Park,
        ]);
        ops.push(Op::AcknowledgeAll { outcome });
    }
    ops.extend([invite(rng), Op::Advance(Jump::Lapse), Op::LeaseAll]);
    let channel = DeliveryChannel::Unspecified;
    ops.extend([Op::Release { at, channel, etag }, Op::LeaseAll]);
}

/// Gives a patient another number while their messages are leased, beside a request like theirs.
fn move_to_another(rng: &mut Rng, ops: &mut Vec<Op>) {
    let one = Creation {
        patient: 0,
        ..creation(rng)
    };
    let other = Creation {
        patient: 1,
        protection: rng.pick(&[Protection::Unspecified, Protection::ConfidentialityMarked]),
        ..one.clone()
    };
    ops.extend([Op::Create(one), Op::Create(other)]);
    ops.extend([Op::Advance(Jump::Next(0, 0)), Op::LeaseAll]);
    for to in [0, 1] {
        let at = Aim::Any(index(rng));
        ops.push(Op::Replace { at, to });
    }
    ops.extend([replace(rng), Op::AuthorizeAll, acknowledge(rng)]);
    // The names are the same wherever the requests are now.
    for _ in 0..2 {
        ops.push(Op::Repeat {
            nth: index(rng),
            twisted: false,
        });
    }
}

/// Lets the clerk meet a patient with protected identity: as a duplicate, by number, and by a message that is due.
fn unknown_to_the_clerk(rng: &mut Rng, ops: &mut Vec<Op>) {
    let by_clerk = |op| Op::Clerk(Box::new(op));
    let hidden = Creation {
        unit: 0,
        patient: rng.pick(&[0, 1]),
        origin: From::Referral,
        form: Form::Invitation,
        protection: rng.pick(&[
            Protection::ConfidentialityMarked,
            Protection::ProtectedRegistration,
        ]),
        prior: &[],
        ..creation(rng)
    };
    let like_it = Creation {
        patient: rng.pick(&[0, 1]),
        protection: Protection::Unspecified,
        allow_duplicate: rng.chance(20),
        ..hidden.clone()
    };
    ops.extend([Op::Create(hidden), by_clerk(Op::Create(like_it))]);
    if rng.chance(70) {
        ops.push(release(rng));
    }
    ops.push(Op::Advance(Jump::Next(0, 0)));
    for op in [Op::LeaseAll, Op::AuthorizeAll] {
        ops.extend([by_clerk(op.clone()), op.clone(), by_clerk(op)]);
    }
    for op in [patient(rng), replace(rng), acknowledge(rng)] {
        ops.push(by_clerk(op));
    }
    ops.push(by_clerk(Op::Repeat {
        nth: index(rng),
        twisted: false,
    }));
}

fn replace(rng: &mut Rng) -> Op {
    Op::Replace {
        at: aim(rng),
        to: rng.pick(&[0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8]),
    }
}

fn single(rng: &mut Rng) -> Op {
    match rng.below(132) {
        0..4 => Op::Create(creation(rng)),
        4..18 => invite(rng),
        18..34 => change(rng),
        34..43 => book(rng),
        43..53 => contact(rng),
        53..58 => cancel(rng),
        58..69 => release(rng),
        69..77 => patient(rng),
        77..82 => Op::Authorize { which: which(rng) },
        82 => Op::Stranger,
        83..92 => report(rng),
        100..105 => revoke(rng),
        105..112 => unbook(rng),
        112..120 => batch(rng),
        120..126 => replace(rng),
        126.. => settings(rng),
        92..97 => Op::Repeat {
            nth: index(rng),
            twisted: rng.chance(30),
        },
        _ => acknowledge(rng),
    }
}

/// Several steps of one kind in one call, repeats and duplicates among them.
fn batch(rng: &mut Rng) -> Op {
    let item = rng.pick(&[
        (|rng| Op::Create(creation(rng))) as fn(&mut Rng) -> Op,
        invite,
        cancel,
        release,
        release,
    ]);
    let mut ops = vec![item(rng)];
    for _ in 0..=rng.below(4) {
        ops.push(match rng.below(10) {
            0..2 => Op::Repeat {
                nth: index(rng),
                twisted: rng.chance(20),
            },
            2..4 => ops[0].clone(),
            _ => item(rng),
        });
    }
    Op::Batch(ops)
}

fn aim(rng: &mut Rng) -> Aim {
    if rng.chance(80) {
        Aim::Fit(index(rng))
    } else {
        Aim::Any(index(rng))
    }
}

fn index(rng: &mut Rng) -> usize {
    usize::try_from(rng.below(64)).expect("a small number")
}

fn signed(rng: &mut Rng, from: i64, to: i64) -> i64 {
    from + rng.below((to - from + 1).unsigned_abs()).cast_signed()
}

fn creation(rng: &mut Rng) -> Creation {
    Creation {
        unit: rng.pick(&[0, 0, 0, 1]),
        patient: rng.pick(&[0, 0, 0, 1, 1, 2, 3, 4, 5, 5, 6, 6, 7, 7, 8]),
        matter: rng.pick(&[1, 2, 3, 4]),
        origin: rng.weighted(&[
            (6, From::Referral),
            (1, From::DisguisedReferral),
            (4, From::DecidedReferral(60)),
            (2, From::DecidedReferral(5)),
            (3, From::VisitWithReferral),
            (2, From::Visit),
            (1, From::DecidedVisit(70)),
            (1, From::Nothing),
        ]),
        form: rng.weighted(&[
            (12, Form::Invitation),
            (3, Form::Summons),
            (2, Form::Plain),
            (2, Form::Booked),
            (1, Form::InvitationWithoutSummons),
            (1, Form::InvitationBooked),
        ]),
        span: span(rng),
        protection: rng.weighted(&[
            (10, Protection::Unspecified),
            (1, Protection::ConfidentialityMarked),
            (1, Protection::ProtectedRegistration),
        ]),
        reach: rng.weighted(&[
            (4, InboxReach::Unspecified),
            (4, InboxReach::Inbox),
            (1, InboxReach::None),
        ]),
        addressee: addressee(rng),
        interpreter: rng.pick(&["", "", "ar", "swl"]),
        format: format(rng),
        priority: rng.pick(&[Priority::Routine, Priority::Urgent, Priority::Emergency]),
        return_visit: rng.chance(30),
        visit_type: rng.pick(&[0, 0, 2]),
        allow_duplicate: rng.chance(30),
        repeat: rng.chance(25).then(|| {
            let interval = rng.pick(&[6, 7, 10, 28, 28, 61, 61, 401]);
            (interval, rng.pick(&[1, 2, 2, 3, 3, 4, 13]))
        }),
        prior: match rng.chance(25) {
            true => rng.pick(&PRIOR),
            false => &[],
        },
    }
}

fn addressee(rng: &mut Rng) -> Addressee {
    rng.weighted(&[
        (8, Addressee::Unspecified),
        (1, Addressee::Patient),
        (1, Addressee::Guardians),
        (1, Addressee::Proxy),
    ])
}

fn format(rng: &mut Rng) -> LetterFormat {
    rng.pick(&[
        LetterFormat::Standard,
        LetterFormat::Standard,
        LetterFormat::Braille,
        LetterFormat::EasyRead,
    ])
}

fn span(rng: &mut Rng) -> Span {
    let start = match rng.below(10) {
        0 | 1 => signed(rng, 0, 14),
        2 => signed(rng, -3, 2),
        3..6 => signed(rng, 40, 45),
        _ => signed(rng, 15, 90),
    };
    let days = match rng.below(10) {
        0 | 1 => signed(rng, 0, 6),
        2 => rng.pick(&[-1, 366, 367]),
        3..6 => signed(rng, 25, 45),
        _ => signed(rng, 7, 60),
    };
    Span {
        start,
        days,
        weekdays: rng.pick(&WEEKDAYS),
        mornings: rng.chance(25),
        minutes: rng.pick(&[0, 0, 30, 45]),
    }
}

fn etag(rng: &mut Rng) -> Etag {
    rng.weighted(&[(6, Etag::Unsaid), (3, Etag::Present), (1, Etag::Earlier)])
}

fn invite(rng: &mut Rng) -> Op {
    let at = aim(rng);
    Op::Invite {
        at,
        span: rng.chance(60).then(|| span(rng)),
        referral: rng.weighted(&[
            (5, Referral::Unsaid),
            (4, Referral::Right),
            (1, Referral::Wrong),
        ]),
        etag: etag(rng),
    }
}

fn change(rng: &mut Rng) -> Op {
    let at = aim(rng);
    let what = match rng.below(18) {
        12..15 => What::VisitType(rng.pick(&[0, 0, 1, 2, 2, 3])),
        15 => What::ReturnVisit(rng.chance(50)),
        16 | 17 => What::Decision {
            of_referral: rng.chance(60),
            days: rng.pick(&[None, Some(5), Some(60)]),
        },
        0 | 1 => What::Constraints(span(rng)),
        2..5 => What::Period(span(rng)),
        5..9 => What::Stretch(
            rng.pick(&[0, 0, -3, 7, 40]),
            rng.pick(&[0, -20, -7, 14, 30]),
        ),
        9 => What::Weekdays(rng.pick(&WEEKDAYS)),
        10 => What::Comment(rng.pick(&[0, 1, 2])),
        _ => rng.pick(&[What::NoConstraints, What::Comment(3)]),
    };
    let on_change = rng.pick(&[OnChange::Unspecified, OnChange::Keep, OnChange::Restart]);
    Op::Change {
        at,
        what,
        on_change,
        etag: etag(rng),
    }
}

fn book(rng: &mut Rng) -> Op {
    let at = aim(rng);
    Op::Book {
        at,
        by: rng.pick(&[BookingSource::Patient, BookingSource::Staff]),
        slot: Slot {
            from_period: rng.chance(70),
            day: signed(rng, -1, 12),
            hour: rng.pick(&[8, 9, 11, 14]),
            minutes: rng.pick(&[20, 30, 60]),
        },
        id: rng.pick(&[1, 1, 1, 2]),
        replaces: rng.pick(&[None, None, None, Some(1), Some(2)]),
        reason: rng.chance(50),
        etag: etag(rng),
    }
}

fn contact(rng: &mut Rng) -> Op {
    let at = aim(rng);
    let outcome = rng.weighted(&[
        (3, Contact::WillBook),
        (1, Contact::Declined),
        (2, Contact::NoSuitableTime),
        (2, Contact::CallBack),
        (2, Contact::Other),
    ]);
    let says = outcome == Contact::WillBook && rng.chance(60);
    let wait = says.then(|| signed(rng, -1, 10));
    Op::Contact {
        at,
        outcome,
        wait,
        seconds_ago: rng.pick(&[None, None, Some(0), Some(60), Some(86_400), Some(-1)]),
        medium: rng.pick(&[
            ContactMedium::Unspecified,
            ContactMedium::Phone,
            ContactMedium::Visit,
        ]),
        etag: etag(rng),
    }
}

fn cancel(rng: &mut Rng) -> Op {
    let at = aim(rng);
    let reason = rng.pick(&[
        CancelReason::ReferralWithdrawn,
        CancelReason::PatientRequest,
        CancelReason::UnitRequest,
        CancelReason::UnitRequest,
        CancelReason::PatientDeceased,
        CancelReason::EnteredInError,
        CancelReason::Other,
        CancelReason::NoResponse,
        CancelReason::NoResponse,
        CancelReason::Transferred,
    ]);
    Op::Cancel {
        at,
        reason,
        etag: etag(rng),
    }
}

fn release(rng: &mut Rng) -> Op {
    let at = aim(rng);
    let channel = rng.pick(&[
        DeliveryChannel::Unspecified,
        DeliveryChannel::Unspecified,
        DeliveryChannel::Inbox,
        DeliveryChannel::Letter,
    ]);
    Op::Release {
        at,
        channel,
        etag: etag(rng),
    }
}

fn unbook(rng: &mut Rng) -> Op {
    Op::Unbook {
        at: aim(rng),
        by: rng.pick(&[
            BookingCancellationReason::Patient,
            BookingCancellationReason::CareUnit,
            BookingCancellationReason::NoShow,
        ]),
        next: rng.pick(&[Next::Requested, Next::Requested, Next::Invited]),
        id: rng.pick(&[1, 1, 1, 2]),
        span: rng.chance(50).then(|| span(rng)),
        etag: etag(rng),
    }
}

fn revoke(rng: &mut Rng) -> Op {
    let at = aim(rng);
    let etag = etag(rng);
    Op::Revoke { at, etag }
}

fn patient(rng: &mut Rng) -> Op {
    let at = aim(rng);
    let (addressee, format) = (addressee(rng), format(rng));
    let interpreter = rng.pick(&["", "ar"]);
    let what = rng.pick(&[
        Learned::Protection(Protection::Unspecified),
        Learned::Protection(Protection::ConfidentialityMarked),
        Learned::Protection(Protection::ProtectedRegistration),
        Learned::Reach(InboxReach::None),
        Learned::Reach(InboxReach::None),
        Learned::Reach(InboxReach::Inbox),
        Learned::Reach(InboxReach::Unspecified),
        Learned::Language("en"),
        Learned::Addressee(addressee),
        Learned::Addressee(Addressee::Proxy),
        Learned::Interpreter(interpreter),
        Learned::Format(format),
        Learned::Death,
    ]);
    Op::Patient {
        at,
        everywhere: rng.chance(40),
        what,
    }
}

/// Pauses a care unit while a consumer has notifications leased, and waits or lifts the pause.
fn pause(rng: &mut Rng, ops: &mut Vec<Op>) {
    let unit = rng.pick(&[0, 0, 0, 1]);
    let paused = |seconds| Op::Settings {
        unit,
        what: vec![Setting::PausedFor(seconds)],
        etag: Etag::Unsaid,
    };
    ops.push(Op::Advance(Jump::Next(0, 0)));
    ops.push(lease(rng));
    if rng.chance(40) {
        ops.push(Op::Authorize { which: which(rng) });
    }
    let seconds = rng.pick(&[1, 3_600, 86_400, 300_000, 1_800_000]);
    ops.push(paused(Some(seconds)));
    if rng.chance(50) {
        ops.extend([single(rng), release(rng)]);
    }
    if rng.chance(50) {
        ops.push(Op::AuthorizeAll);
        ops.push(Op::Authorize {
            which: Which::Any(index(rng)),
        });
    }
    ops.extend([acknowledge(rng), cancel(rng), lease(rng)]);
    ops.push(Op::Advance(Jump::Seconds(rng.pick(&[1, 60, seconds]))));
    ops.extend([lease(rng), single(rng)]);
    if rng.chance(60) {
        ops.push(paused(rng.pick(&[None, Some(0), Some(-60)])));
    }
    ops.extend([lease(rng), acknowledge(rng)]);
}

/// Sets some settings of a care unit, or inherits them again; few are out of range.
fn settings(rng: &mut Rng) -> Op {
    let what: Vec<_> = (0..=rng.below(4)).map(|_| setting(rng)).collect();
    let mut distinct: Vec<Setting> = vec![];
    for setting in what {
        let kind = std::mem::discriminant(&setting);
        if distinct.iter().all(|it| std::mem::discriminant(it) != kind) {
            distinct.push(setting);
        }
    }
    Op::Settings {
        unit: rng.pick(&[0, 0, 0, 1]),
        what: distinct,
        etag: etag(rng),
    }
}

fn setting(rng: &mut Rng) -> Setting {
    let own = own(rng);
    match rng.below(13) {
        0 => Setting::LeadDays(own.lead_days),
        1 | 2 => Setting::ReminderCount(own.reminder_count),
        3 => Setting::GapDays(own.gap_days),
        4 => Setting::NoResponseDays(own.no_response_days),
        5 => Setting::GuaranteeDays(own.guarantee_days),
        6 => Setting::SendClock(rng.pick(&[
            None,
            Some("06:00"),
            Some("07:30"),
            Some("22:00"),
            Some("22:01"),
        ])),
        7 => Setting::LetterAge(age(rng)),
        8 => Setting::GuardianAge(age(rng)),
        9 => Setting::MoveHours(rng.pick(&[None, Some(0), Some(48), Some(336), Some(337)])),
        10 => Setting::PausedFor(rng.pick(&[None, None, Some(0), Some(60), Some(200_000)])),
        _ => {
            let other = self::own(rng);
            Setting::VisitTypes(rng.pick(&[
                vec![],
                vec![own],
                vec![
                    Own {
                        visit_type: 0,
                        ..own
                    },
                    Own {
                        visit_type: 2,
                        ..other
                    },
                ],
            ]))
        }
    }
}

fn age(rng: &mut Rng) -> Option<i32> {
    rng.pick(&[None, Some(0), Some(12), Some(13), Some(18), Some(19)])
}

fn own(rng: &mut Rng) -> Own {
    Own {
        visit_type: rng.pick(&[0, 0, 2, 3]),
        lead_days: rng.pick(&[None, None, Some(0), Some(7), Some(28), Some(180)]),
        reminder_count: rng.pick(&[None, Some(0), Some(1), Some(3), Some(5)]),
        gap_days: rng.pick(&[None, Some(1), Some(2), Some(7), Some(60)]),
        no_response_days: rng.pick(&[None, Some(1), Some(5), Some(60)]),
        guarantee_days: match rng.chance(5) {
            true => Some(366),
            false => rng.pick(&[None, Some(1), Some(30), Some(365)]),
        },
    }
}

fn lease(rng: &mut Rng) -> Op {
    Op::Lease {
        most: rng.pick(&[1, 2, 1_000, 1_000]),
        seconds: rng.pick(&[10, 60, 60, 3_600]),
        channel: rng.weighted(&[
            (6, DeliveryChannel::Unspecified),
            (1, DeliveryChannel::Inbox),
            (1, DeliveryChannel::Letter),
        ]),
        promises: rng.chance(50),
    }
}

fn which(rng: &mut Rng) -> Which {
    match rng.below(10) {
        0..7 => Which::Out(index(rng)),
        7 | 8 => Which::Any(index(rng)),
        _ => Which::Stale(index(rng)),
    }
}

fn acknowledge(rng: &mut Rng) -> Op {
    let outcome = rng.weighted(&[
        (4, Answer::Sent),
        (2, Answer::Retry),
        (3, Answer::Unreachable),
        (2, Answer::Park),
    ]);
    if rng.chance(30) {
        return Op::AcknowledgeAll { outcome };
    }
    Op::Acknowledge {
        which: which(rng),
        outcome,
        seconds_ago: rng.pick(&[0, 0, 0, 30, 86_400, -1, -86_400]),
        delay: rng.chance(40).then(|| rng.pick(&[0, 5, 600, 86_400])),
        words: rng.pick(&[Words::Nothing, Words::OneLine, Words::Lines, Words::Long]),
        may_have_left: rng.chance(30),
    }
}

fn report(rng: &mut Rng) -> Op {
    let receipt = |rng: &mut Rng| {
        let receipt = rng.pick(&[
            Receipt::Read,
            Receipt::Unread,
            Receipt::Unread,
            Receipt::Returned,
            Receipt::Dispatched,
            Receipt::NotProduced,
            Receipt::NotProduced,
        ]);
        (aim(rng), receipt, rng.pick(&[0, 0, 60, -60]))
    };
    let count = rng.pick(&[1, 1, 2, 3]);
    Op::Report((0..count).map(|_| receipt(rng)).collect())
}

/// Finds that a letter was never posted, which staff then send again.
fn never_posted(rng: &mut Rng, ops: &mut Vec<Op>) {
    ops.extend([Op::Advance(Jump::Next(0, 0)), Op::LeaseAll]);
    let outcome = Answer::Sent;
    ops.push(Op::AcknowledgeAll { outcome });
    if rng.chance(40) {
        // The next has been leased meanwhile.
        ops.extend([Op::Advance(Jump::Next(0, 0)), Op::LeaseAll]);
    }
    let last = Aim::Fit(index(rng));
    let first = rng.pick(&[Receipt::Dispatched, Receipt::Unread, Receipt::NotProduced]);
    ops.push(Op::Report(vec![
        (last, first, 0),
        (last, Receipt::NotProduced, 0),
    ]));
    if rng.chance(50) {
        ops.push(Op::AcknowledgeAll { outcome });
    }
    if rng.chance(30) {
        ops.push(single(rng));
    }
    ops.extend([release(rng), Op::LeaseAll, acknowledge(rng)]);
}

fn jump(rng: &mut Rng) -> Jump {
    match rng.below(10) {
        0..5 => {
            let nudge = rng.pick(&[0, 0, -1, 1, 1_000_000, -1_000_000]);
            Jump::Next(rng.pick(&[0, 0, 0, 1, 2]), nudge)
        }
        5..7 => Jump::Seconds(rng.pick(&[1, 10, 60, 61, 3_600])),
        7 | 8 => Jump::Days(signed(rng, 1, 5)),
        _ => Jump::Days(signed(rng, 10, 40)),
    }
}
