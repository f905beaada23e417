//! Whom a message is addressed to, in which form, and what age and a proxy do to its channel.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Contact;
use care_invitation::contract::v1::delivery_receipt::Receipt;
use care_invitation::contract::v1::{
    Addressee, ChannelReason, DeliveryChannel, InboxReach, LetterFormat,
};
use care_invitation::domain::Context;
use care_invitation::domain::addressee::AgeLimits;
use care_invitation::domain::booking_request::BookingRequest;
use care_invitation::domain::notification;
use care_invitation::domain::notification::lease::{LeaseOutcome, lease};
use care_invitation::domain::patient::{
    Addressee as Person, InboxReach as Reach, PersonalId, PersonalIdType,
};
use uuid::Uuid;

use super::{NOW, create, due_now};
use crate::harness::{Harness, within};
use crate::make;
use crate::make::at;
use crate::worklist_user;

/// A child who turns 13 on 10 March 2026.
const CHILD: &str = "201303102386";
/// When the first reminder falls due after a first message at [`NOW`].
const FIRST_REMINDER: &str = "2026-03-16T08:00:00Z";

fn invitation_of(patient: v1::Patient) -> v1::BookingRequest {
    let form = due_now("R-1");
    let known = form.patient.clone().expect("a patient");
    let number = match patient.personal_id.is_empty() {
        true => known.personal_id,
        false => patient.personal_id,
    };
    v1::BookingRequest {
        patient: Some(v1::Patient {
            personal_id: number,
            personal_id_type: known.personal_id_type,
            ..patient
        }),
        ..form
    }
}

fn to(addressee: Addressee) -> v1::Patient {
    v1::Patient {
        addressee: addressee.into(),
        ..Default::default()
    }
}

fn child() -> v1::Patient {
    v1::Patient {
        personal_id: CHILD.into(),
        ..Default::default()
    }
}

async fn learn(harness: &Harness, paths: &[&str], learned: v1::Patient) {
    let of = due_now("R-1").patient.expect("a patient");
    let call = v1::UpdatePatientRequest {
        parent: make::wire_unit(),
        patient: Some(v1::Patient {
            personal_id: of.personal_id,
            personal_id_type: of.personal_id_type,
            ..learned
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
        deceased: false,
        request_id: make::request_id(),
    };
    let updated = within(harness.requests().update_patient(call)).await;
    let updated = updated.expect("updated").into_inner();
    assert_eq!(updated.booking_requests.len(), 1);
}

/// Leases the one message that is due.
async fn lease_only(harness: &Harness) -> v1::DueNotification {
    let mut due = harness.lease_due().await;
    assert_eq!(due.len(), 1, "{}", harness.clock.now());
    due.remove(0)
}

fn way(due: &v1::DueNotification) -> (DeliveryChannel, ChannelReason, Addressee) {
    let message = due.notification.as_ref().expect("a message");
    (message.channel(), message.channel_reason(), due.addressee())
}

#[tokio::test]
async fn guardians_are_addressed_until_the_birthday_and_the_child_from_then_on() {
    let harness = Harness::start("2026-03-09T22:00:00Z").await;
    create(&harness, invitation_of(child())).await;
    let inbox = |addressee| (DeliveryChannel::Inbox, ChannelReason::Default, addressee);
    let guardians = lease_only(&harness).await;
    assert_eq!(way(&guardians), inbox(Addressee::Guardians));
    // The lease has expired, and in Stockholm the birthday has begun.
    harness.advance("2026-03-09T23:02:00Z");
    let patient = lease_only(&harness).await;
    assert_eq!(way(&patient), inbox(Addressee::Patient));
    assert_eq!(patient.notification.expect("a message").delivery_attempt, 2);
}

#[tokio::test]
async fn the_record_says_whom_to_address_and_a_proxy_gets_letters() {
    for (patient, channel, reason, addressee) in [
        (
            v1::Patient {
                addressee: Addressee::Patient.into(),
                ..child()
            },
            DeliveryChannel::Inbox,
            ChannelReason::Default,
            Addressee::Patient,
        ),
        (
            to(Addressee::Guardians),
            DeliveryChannel::Inbox,
            ChannelReason::Default,
            Addressee::Guardians,
        ),
        (
            to(Addressee::Proxy),
            DeliveryChannel::Letter,
            ChannelReason::Proxy,
            Addressee::Proxy,
        ),
        // It comes before what is known of the inbox.
        (
            v1::Patient {
                inbox_reach: InboxReach::None.into(),
                ..to(Addressee::Proxy)
            },
            DeliveryChannel::Letter,
            ChannelReason::Proxy,
            Addressee::Proxy,
        ),
    ] {
        let harness = Harness::start(NOW).await;
        create(&harness, invitation_of(patient)).await;
        let due = lease_only(&harness).await;
        assert_eq!(way(&due), (channel, reason, addressee));
    }
}

#[tokio::test]
async fn what_staff_fixed_wins_over_a_proxy_who_is_addressed_all_the_same() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, invitation_of(to(Addressee::Proxy))).await;
    worklist_user::contact(&harness, &request, Contact::CallBack).await;
    worklist_user::release(&harness, &request, DeliveryChannel::Inbox).await;
    let expected = (
        DeliveryChannel::Inbox,
        ChannelReason::Staff,
        Addressee::Proxy,
    );
    for _ in 0..2 {
        let due = harness.hand_over_due().await;
        assert_eq!(due.iter().map(way).collect::<Vec<_>>(), [expected]);
        harness.advance(FIRST_REMINDER);
    }
}

#[tokio::test]
async fn what_is_learned_holds_from_the_next_lease_on() {
    let harness = Harness::start(NOW).await;
    create(&harness, invitation_of(v1::Patient::default())).await;
    let before = lease_only(&harness).await;
    let needs = |due: &v1::DueNotification| (due.interpreter_language.clone(), due.letter_format());
    assert_eq!(needs(&before), (String::new(), LetterFormat::Standard));
    let learned = v1::Patient {
        interpreter_language: "SWL".into(),
        letter_format: LetterFormat::Audio.into(),
        ..to(Addressee::Proxy)
    };
    let paths = ["addressee", "interpreter_language", "letter_format"];
    learn(&harness, &paths, learned).await;
    harness.acknowledge_sent(&[before]).await;
    harness.advance(FIRST_REMINDER);
    let after = lease_only(&harness).await;
    assert_eq!(needs(&after), ("swl".into(), LetterFormat::Audio));
    assert_eq!(
        way(&after),
        (
            DeliveryChannel::Letter,
            ChannelReason::Proxy,
            Addressee::Proxy
        )
    );
}

#[tokio::test]
async fn a_withdrawal_keeps_its_channel_and_is_addressed_anew() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, invitation_of(v1::Patient::default())).await;
    harness.hand_over_due().await;
    let learned = v1::Patient {
        letter_format: LetterFormat::Braille.into(),
        ..to(Addressee::Proxy)
    };
    learn(&harness, &["addressee", "letter_format"], learned).await;
    harness
        .cancel(make::wire_cancel(&request))
        .await
        .expect("cancelled");
    let due = lease_only(&harness).await;
    assert_eq!(
        way(&due),
        (
            DeliveryChannel::Inbox,
            ChannelReason::Default,
            Addressee::Proxy
        )
    );
    assert_eq!(due.letter_format(), LetterFormat::Braille);
}

#[tokio::test]
async fn a_letter_that_follows_keeps_its_reason_and_is_addressed_anew() {
    let harness = Harness::start(NOW).await;
    create(&harness, invitation_of(v1::Patient::default())).await;
    let sent = harness.hand_over_due().await;
    let name = sent[0].notification.clone().expect("a message").name;
    worklist_user::report(&harness, &name, Receipt::Unread)
        .await
        .expect("a letter");
    learn(&harness, &["addressee"], to(Addressee::Guardians)).await;
    let letter = lease_only(&harness).await;
    assert_eq!(
        way(&letter),
        (
            DeliveryChannel::Letter,
            ChannelReason::Unread,
            Addressee::Guardians
        )
    );
}

/// What a decision may know where patients below this age get letters.
fn letters_below(letter_until_age: u32, now: &str) -> Context {
    let mut context = make::context(at(now));
    context.policy.region.ages = AgeLimits {
        letter_until_age,
        ..AgeLimits::default()
    };
    context
}

/// Leases the message that may be claimed, again when it has to move to the other channel first.
fn leased(record: &BookingRequest, context: &Context) -> notification::Notification {
    let (id, _) = make::claimable(record).expect("something to claim");
    let attempt = |record: &BookingRequest| lease(record, id, make::terms(Uuid::new_v4()), context);
    let outcome = match attempt(record) {
        LeaseOutcome::Repaired(moved) => attempt(&moved.record),
        outcome @ (LeaseOutcome::Leased(_) | LeaseOutcome::NotAvailable) => outcome,
    };
    match outcome {
        LeaseOutcome::Leased(change) => change.record.notification(id).expect("it").clone(),
        other => panic!("not leased: {other:?}"),
    }
}

#[test]
fn the_young_get_letters_where_the_unit_says_so_until_their_birthday() {
    use notification::{ChannelReason as Reason, DeliveryChannel as Channel};
    let letter = |reason| (Channel::Letter, reason);
    let inbox = |reason| (Channel::Inbox, reason);
    let eve = "2026-03-09T22:59:59Z";
    for (row, now, limit, staff, learn, expected) in [
        ("off", eve, 0, false, None, inbox(Reason::Default)),
        ("old enough", eve, 12, false, None, inbox(Reason::Default)),
        ("too young", eve, 13, false, None, letter(Reason::Minor)),
        (
            "birthday",
            "2026-03-09T23:00:00Z",
            13,
            false,
            None,
            inbox(Reason::Default),
        ),
        ("staff first", eve, 13, true, None, inbox(Reason::Staff)),
        (
            "before a proxy",
            eve,
            13,
            false,
            Some(Person::Proxy),
            letter(Reason::Minor),
        ),
        (
            "whoever is addressed",
            eve,
            13,
            false,
            Some(Person::Patient),
            letter(Reason::Minor),
        ),
    ] {
        let mut form = make::form("2026-03-09", "2026-06-12");
        let number = PersonalId::parse(PersonalIdType::Personnummer, "", CHILD);
        form.patient.personal_id = number.expect("a good number");
        form.patient.inbox_reach = Some(Reach::Inbox);
        form.patient.addressee = learn;
        let mut record = make::created(form, at("2026-03-09T12:00:00Z"));
        if staff {
            let invitation = record.care_invitation.as_mut().expect("an invitation");
            invitation.staff_channel = Some(Channel::Inbox);
        }
        let found = leased(&record, &letters_below(limit, now));
        assert_eq!((found.channel, found.channel_reason), expected, "{row}");
        let lease = found.lease.expect("a lease");
        let by_age = match now == eve {
            true => Person::Guardians,
            false => Person::Patient,
        };
        assert_eq!(lease.addressee, learn.unwrap_or(by_age), "{row}");
    }
}
