//! The ages below which notifications go another way, read anew at each lease.

use care_invitation::contract::v1;
use care_invitation::contract::v1::{Addressee, ChannelReason, DeliveryChannel};

use super::{NOW, set, update};
use crate::consumer::message;
use crate::harness::Harness;
use crate::make;

const AGES: [&str; 2] = ["letter_until_age", "guardian_until_age"];

async fn set_ages(harness: &Harness, letter: Option<i32>, guardian: Option<i32>) {
    let ages = v1::CareUnitSettings {
        letter_until_age: letter,
        guardian_until_age: guardian,
        ..Default::default()
    };
    set(harness, update(&AGES, ages)).await.expect("set");
}

/// Hands over the one notification that is due; returns how it goes, and to whom.
async fn goes(harness: &Harness) -> (DeliveryChannel, ChannelReason, Addressee) {
    let due = harness.hand_over_due().await;
    let [due] = &due[..] else {
        panic!("one is due, not {}", due.len());
    };
    let sent = message(due);
    (sent.channel(), sent.channel_reason(), due.addressee())
}

/// The patient is thirteen on 10 March. What a change of the settings or a birthday finds planned follows.
#[tokio::test]
async fn ages_are_those_of_the_care_unit_and_the_day_of_each_lease() {
    let harness = Harness::start(NOW).await;
    let mut form = make::wire_form("2026-03-16", "2026-06-12");
    form.patient.as_mut().expect("given").personal_id = "201303102386".into();
    let created = harness.create(make::wire_create(form)).await;
    let created = created.expect("created").care_invitation.expect("invited");
    let planned = &created.notifications[0];
    assert_eq!(planned.channel(), DeliveryChannel::Inbox);

    set_ages(&harness, Some(13), None).await;
    let as_child = (
        DeliveryChannel::Letter,
        ChannelReason::Minor,
        Addressee::Guardians,
    );
    assert_eq!(goes(&harness).await, as_child);

    // Planned as a letter, and thirteen when it is leased.
    harness.advance("2026-03-16T08:00:00Z");
    let as_adult = (
        DeliveryChannel::Inbox,
        ChannelReason::Default,
        Addressee::Patient,
    );
    assert_eq!(goes(&harness).await, as_adult);

    set_ages(&harness, Some(0), Some(14)).await;
    harness.advance("2026-03-30T07:00:00Z");
    let with_guardians = (
        DeliveryChannel::Inbox,
        ChannelReason::Default,
        Addressee::Guardians,
    );
    assert_eq!(goes(&harness).await, with_guardians);
}
