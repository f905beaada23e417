//! Invariants that must always hold, checked on the service's responses alone.
//!
//! A consumer of the walk hands a notification over when it is leased, by the facts that it was given.
//! A consumer that reports SENT for a revoked lease is believed: later due times count from that
//! hand-over too.

use std::collections::{HashMap, HashSet};

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::notification::State as MessageState;
use care_invitation::contract::v1::{HoldReason, NotificationKind};
use chrono::{NaiveDate, TimeDelta};

use super::calendar::{Instant, from_timestamp, local_date};
use super::compare::holds;
use crate::consumer::step;

#[derive(Default)]
pub struct Invariants {
    stories: HashMap<String, Story>,
    /// Ends of the pauses of care units.
    pauses: HashMap<String, Instant>,
    /// Request ids of calls that have succeeded; a replay does nothing.
    done: HashSet<String>,
}

/// History of a request, as seen in responses.
#[derive(Default)]
struct Story {
    handed_over: Vec<HandOver>,
    /// True if a contact was recorded and neither ReleaseHold nor a new round came after it.
    in_touch: bool,
    round: i32,
    /// Schedule of the round, and the visit type, as shown last.
    schedule: Option<v1::Schedule>,
    visit_type: String,
    /// True if the patient has protection and staff have released nothing since it was recorded, the
    /// round began or the withdrawal was planned.
    unreleased: bool,
    protection: i32,
    is_withdrawn: bool,
    /// Letters that ReportDelivery returned as follow-ups.
    follow_ups: HashSet<String>,
    /// Notifications that had not been handed over in the latest response.
    not_sent: HashSet<String>,
    /// Names of those that a consumer has reported as sent.
    on_their_way: HashSet<String>,
}

struct HandOver {
    message: String,
    round: i32,
    step: (NotificationKind, i32),
    day: NaiveDate,
}

impl Invariants {
    pub fn contacted(&mut self, call: &v1::RecordPatientContactRequest) {
        if self.done.insert(call.request_id.clone()) {
            self.stories.entry(call.name.clone()).or_default().in_touch = true;
        }
    }

    pub fn released(&mut self, call: &v1::ReleaseHoldRequest) {
        if self.done.insert(call.request_id.clone()) {
            let story = self.stories.entry(call.name.clone()).or_default();
            story.in_touch = false;
            story.unreleased = false;
        }
    }

    /// Records a letter that follows a notification that was handed over, or one that takes the place of a notification
    /// that was never posted: a letter too if that was one.
    pub fn followed_by(&mut self, receipt: &v1::DeliveryReceipt, follow_up: &v1::Notification) {
        let (request, _) = receipt.name.split_once("/notifications/").expect("a name");
        let story = self.stories.get_mut(request).expect("seen before");
        let again = receipt.receipt() == v1::delivery_receipt::Receipt::NotProduced;
        if again {
            let lost = |it: &HandOver| it.message == receipt.name;
            story.handed_over.retain(|it| !lost(it));
        }
        if !again || story.follow_ups.contains(&receipt.name) {
            story.follow_ups.insert(follow_up.name.clone());
        }
    }

    /// Records the settings of a care unit.
    pub fn set(&mut self, unit: &str, settings: &v1::CareUnitSettings) {
        match &settings.paused_until {
            Some(until) => self.pauses.insert(unit.into(), from_timestamp(until)),
            None => self.pauses.remove(unit),
        };
    }

    /// Checks any response that shows the request.
    pub fn saw(&mut self, request: &v1::BookingRequest) -> Result<(), String> {
        let story = self.stories.entry(request.name.clone()).or_default();
        let protection = request.patient.as_ref().map_or(0, |it| it.protection);
        story.unreleased |= protection != story.protection;
        story.protection = protection;
        let Some(invitation) = &request.care_invitation else {
            return Ok(());
        };
        let mut messages = invitation.notifications.iter();
        let is_withdrawn = messages.any(|it| it.kind() == NotificationKind::Withdrawal);
        story.unreleased |= invitation.round != story.round || is_withdrawn != story.is_withdrawn;
        story.is_withdrawn = is_withdrawn;
        if invitation.round != story.round {
            story.round = invitation.round;
            story.in_touch = false;
            story.schedule.clone_from(&invitation.schedule);
        }
        // Another visit type brings another schedule, until a notification of the round is out.
        let visit_type = &request.visit_type.as_ref().expect("given").code;
        if story.visit_type != *visit_type {
            story.visit_type.clone_from(visit_type);
            story.schedule.clone_from(&invitation.schedule);
        }
        holds(story.schedule == invitation.schedule, || {
            format!("the schedule of {} has changed in its round", request.name)
        })?;
        let names = invitation.notifications.iter().map(|it| &it.name);
        let named: Vec<&String> = names.filter(|name| !name.is_empty()).collect();
        let distinct: HashSet<&&String> = named.iter().collect();
        holds(distinct.len() == named.len(), || {
            format!("two messages of {} have one name", request.name)
        })?;
        story.take_stock(invitation);
        let live = [State::Invited, State::NoResponse, State::Expired];
        let waits = |it: &&v1::Notification| {
            let waiting = [
                MessageState::Scheduled,
                MessageState::Leased,
                MessageState::Parked,
            ];
            waiting.contains(&it.state()) && it.kind() != NotificationKind::Withdrawal
        };
        let mut messages = invitation.notifications.iter();
        let stray = messages.find(|it| {
            waits(it) && (it.round != invitation.round || !live.contains(&request.state()))
        });
        holds(stray.is_none(), || {
            format!("{stray:?} waits in an ended round")
        })
    }

    /// Checks a lease that the service has just granted, with the request as it stands.
    pub fn leased(
        &self,
        due: &v1::DueNotification,
        request: &v1::BookingRequest,
        now: Instant,
    ) -> Result<(), String> {
        let message = due.notification.as_ref().expect("a message");
        let story = self.stories.get(&request.name).expect("seen before");
        let say = |what: &str| format!("{what}: {} of {}", message.name, request.name);
        let pause = self.pauses.get(&due.care_unit);
        holds(pause.is_none_or(|until| *until <= now), || {
            say("sent though paused")
        })?;
        let protected = due.protection() != v1::Protection::Unspecified;
        holds(!protected || !story.unreleased, || {
            say("sent to a protected patient though not released")
        })?;
        if message.kind() == NotificationKind::Withdrawal {
            holds(request.state() == State::Cancelled, || {
                say("withdrawn though not cancelled")
            })?;
            return story.is_first(message, 0, now, "withdrawn twice");
        }
        let invitation = request.care_invitation.as_ref().expect("invited");
        let unheld = invitation.hold_reason() == HoldReason::Unspecified;
        let before_end = from_timestamp(invitation.expire_time.as_ref().expect("invited")) > now;
        let invited = matches!(request.state(), State::Invited | State::NoResponse);
        holds(invited, || say("sent though not invited"))?;
        holds(unheld, || say("sent though held"))?;
        holds(before_end, || say("sent after the period"))?;
        holds(!story.in_touch, || say("sent after a contact"))?;
        holds(message.round == invitation.round, || {
            say("sent for an earlier round")
        })?;
        let schedule = invitation.schedule.as_ref().expect("every round has one");
        let gap = schedule.reminder_gap_days;
        story.is_first(message, gap, now, "sent twice or too soon")
    }

    /// Records that the consumer is about to report this notification as sent.
    pub fn reports_sent(&mut self, message: &str) {
        for story in self.stories.values_mut() {
            if story.not_sent.remove(message) {
                story.on_their_way.insert(message.into());
            }
        }
    }
}

impl Story {
    fn take_stock(&mut self, invitation: &v1::CareInvitation) {
        self.not_sent.clear();
        for message in &invitation.notifications {
            match message.state() {
                MessageState::Sent if self.on_their_way.remove(&message.name) => {
                    let sent_at = message.send_time.as_ref().expect("sent");
                    self.handed_over.push(HandOver {
                        message: message.name.clone(),
                        round: message.round,
                        step: step(message),
                        day: local_date(from_timestamp(sent_at)),
                    });
                }
                MessageState::Sent => {}
                _ => {
                    self.not_sent.insert(message.name.clone());
                }
            }
        }
    }

    /// Checks that each kind is handed over once a round, the gap of the round's schedule after the others, follow-up
    /// letters aside, and nothing twice.
    fn is_first(
        &self,
        message: &v1::Notification,
        gap_days: i32,
        now: Instant,
        what: &str,
    ) -> Result<(), String> {
        let today = local_date(now);
        let follows = |name: &String| self.follow_ups.contains(name);
        for earlier in self
            .handed_over
            .iter()
            .filter(|it| it.round == message.round)
        {
            let aside = follows(&message.name) || follows(&earlier.message);
            let soon = today < earlier.day + TimeDelta::days(gap_days.into());
            let again = earlier.message == message.name;
            holds(
                !again && (aside || (earlier.step != step(message) && !soon)),
                || {
                    format!(
                        "{what}: {} after {} on {}",
                        message.name, earlier.message, earlier.day
                    )
                },
            )?;
        }
        Ok(())
    }
}

/// Checks that nothing of a live invitation waits when everything that could happen has happened.
pub fn came_to_an_end(request: &v1::BookingRequest) -> Result<(), String> {
    let live = [State::Invited, State::NoResponse, State::Expired];
    let Some(invitation) = &request.care_invitation else {
        return Ok(());
    };
    if !live.contains(&request.state()) {
        return Ok(());
    }
    let ended = [
        MessageState::Sent,
        MessageState::Skipped,
        MessageState::Parked,
        MessageState::Cancelled,
    ];
    let present = invitation
        .notifications
        .iter()
        .filter(|it| it.round == invitation.round);
    let left: Vec<_> = present.filter(|it| !ended.contains(&it.state())).collect();
    holds(left.is_empty(), || format!("never sent: {left:#?}"))
}
