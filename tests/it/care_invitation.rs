//! When messages are due, projected and skipped: every worked date, both changes of clocks, and
//! late hand-overs.

use care_invitation::domain::booking_request::BookingRequest;
use care_invitation::domain::booking_request::state::EffectiveState;
use care_invitation::domain::booking_request::state::Warning;
use care_invitation::domain::calendar::Instant;
use care_invitation::domain::care_unit_settings::Policy;
use care_invitation::domain::notification::Cause;
use care_invitation::domain::notification::DisplayState;
use care_invitation::domain::notification::State;

use crate::make;
use crate::make::at;

const NOW: &str = "2026-03-02T09:00:00Z";

/// Due times with the states S(cheduled), (se)N(t), P(rojected), K (skipped).
fn plan(record: &BookingRequest, now: Instant) -> Vec<String> {
    record
        .displayed_notifications(now, &Policy::default())
        .iter()
        .map(|message| {
            let state = match message.state {
                DisplayState::Planned(State::Scheduled) => "S",
                DisplayState::Planned(State::Sent) => "N",
                DisplayState::Planned(_) => "?",
                DisplayState::Projected => "P",
                DisplayState::Skipped => "K",
            };
            format!("{state} {}", message.due_at.format("%m-%dT%H:%MZ"))
        })
        .collect()
}

/// Hands every message over at the instant at which it may be claimed.
fn lived_through(mut record: BookingRequest) -> BookingRequest {
    while let Some((_, due_at)) = make::claimable(&record) {
        record = make::handed_over(&record, due_at);
    }
    record
}

#[test]
fn every_worked_date_is_planned_and_kept() {
    for (first, last, planned, lived) in [
        (
            "2026-05-18",
            "2026-06-12",
            ["S 04-06T07:00Z", "P 04-20T07:00Z", "P 05-04T07:00Z"],
            ["N 04-06T07:00Z", "N 04-20T07:00Z", "N 05-04T07:00Z"],
        ),
        (
            "2026-04-13",
            "2026-05-29",
            ["S 03-02T09:00Z", "P 03-16T08:00Z", "P 03-30T07:00Z"],
            ["N 03-02T09:00Z", "N 03-16T08:00Z", "N 03-30T07:00Z"],
        ),
        (
            "2026-04-14",
            "2026-05-29",
            ["S 03-03T08:00Z", "P 03-17T08:00Z", "P 03-31T07:00Z"],
            ["N 03-03T08:00Z", "N 03-17T08:00Z", "N 03-31T07:00Z"],
        ),
        (
            "2026-03-09",
            "2026-03-13",
            ["S 03-02T09:00Z", "K 03-16T08:00Z", "K 03-30T07:00Z"],
            ["N 03-02T09:00Z", "K 03-16T08:00Z", "K 03-30T07:00Z"],
        ),
        (
            // The autumn change: 09:00 is 07:00Z before 25 October and 08:00Z from it on.
            "2026-11-22",
            "2026-12-18",
            ["S 10-11T07:00Z", "P 10-25T08:00Z", "P 11-08T08:00Z"],
            ["N 10-11T07:00Z", "N 10-25T08:00Z", "N 11-08T08:00Z"],
        ),
    ] {
        let record = make::invited(first, last, at(NOW));
        assert_eq!(plan(&record, at(NOW)), planned, "{first}");
        let record = lived_through(record);
        assert_eq!(plan(&record, at(NOW)), lived, "{first}");
    }
}

#[test]
fn a_start_of_exactly_42_days_waits_for_the_sending_clock_and_not_a_second_longer() {
    for (now, due_at) in [
        ("2026-03-02T07:59:59Z", "2026-03-02T08:00:00Z"),
        ("2026-03-02T08:00:00Z", "2026-03-02T08:00:00Z"),
        ("2026-03-02T22:59:59Z", "2026-03-02T22:59:59Z"),
    ] {
        let record = make::invited("2026-04-13", "2026-05-29", at(now));
        let (_, claimable_at) = make::claimable(&record).expect("planned");
        assert_eq!(claimable_at, at(due_at), "{now}");
    }
}

#[test]
fn a_short_period_expires_at_its_last_midnight_and_warns_of_skipped_reminders() {
    let record = make::invited("2026-03-09", "2026-03-13", at(NOW));
    let record = make::handed_over(&record, at(NOW));
    assert_eq!(record.expires_at(), Some(at("2026-03-13T23:00:00Z")));
    let before = at("2026-03-13T22:59:59.999999Z");
    assert_eq!(record.effective_state(before), EffectiveState::Invited);
    assert_eq!(
        record.effective_state(at("2026-03-13T23:00:00Z")),
        EffectiveState::Expired
    );
    let shown = record.displayed_notifications(at(NOW), &Policy::default());
    let skipped = &shown[1];
    assert_eq!(skipped.cause, Some(Cause::AfterPeriod));
    assert_eq!(make::claimable(&record), None);
    assert_eq!(record.warnings(&shown), [Warning::RemindersSkipped]);
}

#[test]
fn a_late_hand_over_moves_what_follows_and_messages_never_bunch_up() {
    let record = make::invited("2026-05-18", "2026-06-12", at(NOW));
    // Due on 6 April; the adapter was down until the evening of the 9th, local time the 10th.
    let late = at("2026-04-09T22:30:00Z");
    assert_eq!(
        plan(&record, late),
        ["S 04-06T07:00Z", "P 04-24T07:00Z", "P 05-08T07:00Z"]
    );
    let record = make::handed_over(&record, late);
    assert_eq!(
        plan(&record, late),
        ["N 04-06T07:00Z", "S 04-24T07:00Z", "P 05-08T07:00Z"]
    );
}

#[test]
fn silence_turns_to_no_response_14_days_after_the_last_message() {
    let record = lived_through(make::invited("2026-05-18", "2026-06-12", at(NOW)));
    let turns = at("2026-05-18T07:00:00Z");
    let invitation = record.care_invitation.as_ref().expect("invited");
    assert_eq!(invitation.no_response_at, Some(turns));
    let second = chrono::Duration::seconds(1);
    assert_eq!(
        record.effective_state(turns - second),
        EffectiveState::Invited
    );
    assert_eq!(record.effective_state(turns), EffectiveState::NoResponse);
    let expires_at = record.expires_at().expect("a period");
    assert_eq!(
        record.effective_state(expires_at - second),
        EffectiveState::NoResponse
    );
    assert_eq!(record.effective_state(expires_at), EffectiveState::Expired);
}

#[test]
fn what_is_pending_when_the_period_ends_is_shown_as_skipped() {
    let record = make::invited("2026-05-18", "2026-06-12", at(NOW));
    let expires_at = record.expires_at().expect("a period");
    let states: Vec<DisplayState> = record
        .displayed_notifications(expires_at, &Policy::default())
        .iter()
        .map(|message| message.state)
        .collect();
    assert_eq!(states, [DisplayState::Skipped; 3]);
}

#[test]
fn a_round_has_as_many_reminders_as_it_says_and_silence_counts_from_the_last_message() {
    let dates = [
        "04-06T07:00Z",
        "04-20T07:00Z",
        "05-04T07:00Z",
        "05-18T07:00Z",
        "06-01T07:00Z",
        "06-15T07:00Z",
    ];
    for count in 0..=5 {
        let mut record = make::invited("2026-05-18", "2026-09-30", at(NOW));
        let invitation = record.care_invitation.as_mut().expect("invited");
        invitation.schedule.reminder_count = count;
        let of_round = &dates[..=usize::try_from(count).expect("a small number")];
        let in_state = |planned: &[&str], first: &str, rest: &str| -> Vec<String> {
            let states = [first].into_iter().chain(std::iter::repeat(rest));
            let dated = states.zip(planned);
            dated.map(|(state, at)| format!("{state} {at}")).collect()
        };
        assert_eq!(plan(&record, at(NOW)), in_state(of_round, "S", "P"));
        let record = lived_through(record);
        assert_eq!(plan(&record, at(NOW)), in_state(of_round, "N", "N"));
        let invitation = record.care_invitation.as_ref().expect("invited");
        let sequences = invitation.notifications.iter();
        let sequences: Vec<u32> = sequences
            .map(|it| u32::try_from(it.kind.sequence()).expect("a small number"))
            .collect();
        assert_eq!(sequences, (0..=count).collect::<Vec<_>>());
        let last = invitation.notifications.last().expect("sent").sent_at;
        let silent_until = last.expect("sent") + chrono::Duration::days(14);
        assert_eq!(invitation.no_response_at, Some(silent_until), "{count}");
    }
}
