//! Rendering of the model's requests at an instant, without the names and etags that the service makes.

use care_invitation::contract::v1;
use care_invitation::contract::v1::NotificationCause;
use care_invitation::contract::v1::booking_request::State as RequestState;
use care_invitation::contract::v1::notification::State;

use super::calendar::{Instant, timestamp};
use super::message::{Invitation, Message};
use super::request::{Request, ToCome};

impl Request {
    pub fn show(&self, now: Instant) -> v1::BookingRequest {
        let allowed = self.allowed(now).into_iter();
        let warnings = self.warnings(now).into_iter();
        let guarantee = self.guarantee_date();
        v1::BookingRequest {
            state: self.shown(now).into(),
            care_invitation: self
                .invitation
                .as_ref()
                .map(|it| self.show_invitation(it, now)),
            allowed_actions: allowed.map(Into::into).collect(),
            warnings: warnings.map(Into::into).collect(),
            care_guarantee_date: guarantee.map(|it| it.to_string()).unwrap_or_default(),
            cancel_reason: self.cancel_reason.into(),
            patient_cancellations: self.cancellations[0],
            unit_cancellations: self.cancellations[1],
            no_shows: self.cancellations[2],
            last_contact: self.last_contact,
            series: self.series.clone(),
            create_time: Some(timestamp(self.created_at)),
            update_time: Some(timestamp(self.changed_at)),
            ..self.form.clone()
        }
    }

    fn show_invitation(&self, invitation: &Invitation, now: Instant) -> v1::CareInvitation {
        let planned = invitation.messages.iter();
        let planned = planned.map(|it| self.show_message(it, now));
        let to_come = self.to_come(now);
        let to_come = to_come.iter().map(|it| self.show_to_come(*it, now));
        v1::CareInvitation {
            round: invitation.round,
            invite_time: Some(timestamp(invitation.invited_at)),
            notifications: planned.chain(to_come).collect(),
            hold_reason: invitation.hold.into(),
            wait_until_date: invitation
                .wait_until
                .map(|it| it.to_string())
                .unwrap_or_default(),
            no_response_time: self.no_response_at(now).map(timestamp),
            expire_time: self.expires_at().map(timestamp),
            bookable_since: invitation
                .bookable_since
                .filter(|_| self.state != RequestState::Requested)
                .map(timestamp),
            schedule: Some(invitation.schedule.show()),
        }
    }

    pub fn show_message(&self, message: &Message, now: Instant) -> v1::Notification {
        let skipped = self.shows_as_skipped(message, now);
        v1::Notification {
            name: message.name.clone().unwrap_or_default(),
            round: message.round,
            kind: message.step.0.into(),
            channel: message.channel.into(),
            channel_reason: message.channel_reason.into(),
            due_time: Some(timestamp(message.due_at)),
            state: if skipped {
                State::Skipped
            } else {
                message.state
            }
            .into(),
            send_time: message.sent_at.map(timestamp),
            delivery_attempt: message.attempts,
            cause: if skipped {
                NotificationCause::AfterPeriod
            } else {
                message.cause
            }
            .into(),
            cause_detail: match skipped {
                true => String::new(),
                false => message.words.clone(),
            },
            sent_after_change: message.sent_after_change,
            read_time: message.read_at.map(timestamp),
            dispatch_time: message.posted_at.map(timestamp),
            not_produced_time: message.not_produced_at.map(timestamp),
            sequence: message.step.1,
        }
    }

    fn show_to_come(&self, to_come: ToCome, now: Instant) -> v1::Notification {
        let round = self.invitation.as_ref().map_or(0, |it| it.round);
        let message = Message::planned(round, to_come.step, to_come.due_at);
        let (channel, reason) = self.channel_for(&message, now);
        let state = if to_come.skipped {
            State::Skipped
        } else {
            State::Projected
        };
        v1::Notification {
            round,
            kind: to_come.step.0.into(),
            sequence: to_come.step.1,
            channel: channel.into(),
            channel_reason: reason.into(),
            due_time: Some(timestamp(to_come.due_at)),
            state: state.into(),
            cause: match to_come.skipped {
                true => NotificationCause::AfterPeriod.into(),
                false => 0,
            },
            ..Default::default()
        }
    }
}

/// Returns the notification as its consumer gets it, without the times of the stream.
pub fn due_notification(request: &Request, index: usize, now: Instant) -> v1::DueNotification {
    let message = request.message(index);
    let patient = request.patient();
    let form = &request.form;
    let constraints = form.constraints.clone().unwrap_or_default();
    let invitation = request.invitation.as_ref().expect("it has messages");
    let handed_over = invitation
        .messages
        .iter()
        .filter(|it| it.round == message.round);
    let earlier = handed_over.filter_map(Message::handed_over_at).max();
    v1::DueNotification {
        notification: Some(request.show_message(message, now)),
        lease_token: message.tokens.last().cloned().unwrap_or_default(),
        lease_expire_time: message.lease_ends_at().map(timestamp),
        possible_repeat: message.possible_repeat,
        booking_request: form.name.clone(),
        care_unit: request.unit.clone(),
        personal_id: patient.personal_id.clone(),
        personal_id_type: patient.personal_id_type,
        issuer: patient.issuer.clone(),
        protection: patient.protection,
        language: patient.preferred_language.clone(),
        visit_kind: form.visit_kind,
        requested_period: constraints.requested_period,
        weekdays: constraints.weekdays,
        time_windows: constraints.time_windows,
        duration_minutes: constraints.duration_minutes,
        expire_time: request.expires_at().map(timestamp),
        previous_send_time: earlier.map(timestamp),
        visit_type: form.visit_type.clone(),
        purpose: form.purpose.clone(),
        patient_instructions: form.patient_instructions.clone(),
        released_by_staff: message.released_at.is_some(),
        cancel_reason: match message.is_withdrawal() {
            true => request.cancel_reason.into(),
            false => 0,
        },
        addressee: request.addressee(now).into(),
        interpreter_language: patient.interpreter_language.clone(),
        letter_format: patient.letter_format,
        traceparent: String::new(),
    }
}
