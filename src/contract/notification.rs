//! Due notifications for consumers, and the consumers' acknowledgements.

pub mod list;
pub mod report_delivery;

use chrono::Duration;
use prost_types::Duration as WireDuration;
use uuid::Uuid;

use super::batch::Batch;
use super::booking_request::constraints;
use super::booking_request::form::{render_instructions, render_visit_type};
use super::calendar::{parse_duration, parse_past_instant, render_instant};
use super::patient::render_issuer;
use super::text::{CAUSE_MAX, fit_line};
use super::v1::stream_due_notifications_response::Event;
use super::{
    Violations, care_invitation, care_unit_name, enums, parse_care_units, parse_notification_name,
    request_name, uuid, v1,
};
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::acknowledge::Acknowledgement;
use crate::domain::notification::{
    DeliveryChannel, DispatchRefusal, Kind, LeaseRef, Notification, Outcome,
};
use crate::domain::request_key::RequestKey;

/// Maximum care units that a subscription may name.
const CARE_UNITS_MAX: usize = 1_000;
/// Maximum notifications in one unary call.
const LEASES_MAX: usize = 500;
const OUTSTANDING_DEFAULT: u32 = 100;
const OUTSTANDING_MAX: u32 = 1_000;
const LEASE_DEFAULT: Duration = Duration::seconds(60);
const LEASE_MIN: Duration = Duration::seconds(10);
const LEASE_MAX: Duration = Duration::hours(1);
const RETRY_DELAY_MAX: Duration = Duration::days(1);

/// Filter and limits of a consumer's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Channels that the consumer serves, each once; never empty.
    pub channels: Vec<DeliveryChannel>,
    /// Care units, sorted and each once; `None` means all that the caller may serve.
    pub care_units: Option<Vec<HsaId>>,
    /// Maximum notifications that it may hold unacknowledged, 1 to 1,000.
    pub max_outstanding: u32,
    /// Duration of each lease, 10 seconds to 1 hour.
    pub lease_duration: Duration,
    /// True to end when nothing is due, instead of waiting.
    pub until_idle: bool,
    /// True if the consumer has promised to hand nothing over without an authorization.
    pub always_authorizes: bool,
}

/// Parses StreamDueNotifications.
///
/// # Errors
///
/// Every fault of shape.
pub fn parse_stream(
    message: v1::StreamDueNotificationsRequest,
) -> Result<Subscription, Violations> {
    Violations::collect(|violations| {
        let channels = parse_channels(&message.channels, violations);
        let care_units = parse_care_units(&message.care_units, CARE_UNITS_MAX, violations);
        let max_outstanding = parse_outstanding(message.max_outstanding, violations);
        let lease_duration = parse_lease_duration(message.lease_duration.as_ref(), violations);
        Some(Subscription {
            channels,
            care_units: (!care_units.is_empty()).then_some(care_units),
            max_outstanding,
            lease_duration: lease_duration?,
            until_idle: message.until_idle,
            always_authorizes: message.always_authorizes,
        })
    })
}

/// Parses the field `channels`: each once, all if none is named.
fn parse_channels(numbers: &[i32], violations: &mut Violations) -> Vec<DeliveryChannel> {
    let mut named: Vec<DeliveryChannel> = Vec::new();
    for (i, number) in numbers.iter().enumerate() {
        let channel = enums::parse(*number, &format!("channels[{i}]"), violations);
        named.extend(channel.filter(|channel| !named.contains(channel)));
    }
    if named.is_empty() {
        DeliveryChannel::ALL.to_vec()
    } else {
        named
    }
}

fn parse_outstanding(count: i32, violations: &mut Violations) -> u32 {
    match u32::try_from(count) {
        Ok(0) => OUTSTANDING_DEFAULT,
        Ok(count @ 1..=OUTSTANDING_MAX) => count,
        Ok(_) | Err(_) => {
            let description = format!("must be 0 to {OUTSTANDING_MAX}");
            violations.add("max_outstanding", description);
            OUTSTANDING_DEFAULT
        }
    }
}

fn parse_lease_duration(
    duration: Option<&WireDuration>,
    violations: &mut Violations,
) -> Option<Duration> {
    let Some(duration) = duration else {
        return Some(LEASE_DEFAULT);
    };
    let parsed = parse_duration(duration, "lease_duration", violations)?;
    if !(LEASE_MIN..=LEASE_MAX).contains(&parsed) {
        violations.add("lease_duration", "must be 10 seconds to 1 hour");
    }
    Some(parsed)
}

/// Parses AuthorizeDispatch.
///
/// # Errors
///
/// A number of leases that is not accepted.
pub fn parse_authorize(
    message: &v1::AuthorizeDispatchRequest,
) -> Result<Batch<LeaseRef>, Violations> {
    let name = |lease: &v1::Lease| lease.name.clone();
    Batch::parse(&message.leases, "leases", LEASES_MAX, name, parse_lease)
}

/// Parses AcknowledgeNotifications. Fields that do not apply to the outcome are ignored: the time unless it is
/// SENT, the delay and `may_have_been_sent` unless it is RETRY, the cause if it is SENT.
///
/// # Errors
///
/// A number of acknowledgements that is not accepted.
pub fn parse_acknowledge(
    message: &v1::AcknowledgeNotificationsRequest,
) -> Result<Batch<(RequestKey, Acknowledgement)>, Violations> {
    let name = |given: &v1::Acknowledgement| {
        let lease = given.lease.as_ref();
        lease.map_or(String::new(), |lease| lease.name.clone())
    };
    Batch::parse(
        &message.acknowledgements,
        "acknowledgements",
        LEASES_MAX,
        name,
        parse_acknowledgement,
    )
}

/// Parses a lease. A token that is not a UUID cannot be one of ours: it is unknown, not malformed.
fn parse_lease(lease: &v1::Lease, violations: &mut Violations) -> Option<LeaseRef> {
    let named = parse_notification_name(&lease.name, "name", violations);
    if lease.lease_token.is_empty() {
        violations.add("lease_token", "is required");
    }
    let (request, notification) = named?;
    Some(LeaseRef {
        request,
        notification,
        token: uuid(&lease.lease_token).unwrap_or(Uuid::nil()),
    })
}

fn parse_acknowledgement(
    given: &v1::Acknowledgement,
    violations: &mut Violations,
) -> Option<(RequestKey, Acknowledgement)> {
    let lease = match &given.lease {
        Some(lease) => violations.within("lease", |violations| parse_lease(lease, violations)),
        None => violations.require("lease"),
    };
    let outcome = enums::parse(given.outcome, "outcome", violations);
    let outcome = outcome?;
    let (sent_at, retry_delay) = match outcome {
        Outcome::Sent => (parse_sent_at(given, violations), None),
        Outcome::Retry => (None, parse_retry_delay(given, violations)),
        Outcome::Unreachable | Outcome::Park => (None, None),
    };
    let detail = match outcome {
        Outcome::Sent => String::new(),
        Outcome::Retry | Outcome::Unreachable | Outcome::Park => fit_line(&given.cause, CAUSE_MAX),
    };
    let lease = lease?;
    let acknowledgement = Acknowledgement {
        id: lease.notification,
        token: lease.token,
        outcome,
        sent_at,
        retry_delay,
        detail,
        may_have_been_sent: outcome == Outcome::Retry && given.may_have_been_sent,
    };
    Some((lease.request, acknowledgement))
}

fn parse_sent_at(given: &v1::Acknowledgement, violations: &mut Violations) -> Option<Instant> {
    parse_past_instant(given.send_time.as_ref(), "send_time", violations)
}

/// Parses the delay of RETRY. One above the maximum is taken as that, so that it does not spoil the answer.
fn parse_retry_delay(given: &v1::Acknowledgement, violations: &mut Violations) -> Option<Duration> {
    let delay = given.retry_delay.as_ref()?;
    let parsed = parse_duration(delay, "retry_delay", violations)?;
    Some(parsed.min(RETRY_DELAY_MAX))
}

/// Renders a notification of `record` for the consumer that has just leased it, with the span of its claim if there is one; `None` if the record has
/// no such notification or it was never leased.
pub fn render_due(
    record: &BookingRequest,
    id: Uuid,
    traceparent: Option<&str>,
    server_time: Instant,
) -> Option<v1::StreamDueNotificationsResponse> {
    let notification = record.notification(id)?;
    let lease = notification.lease.as_ref()?;
    let form = &record.form;
    let constraints = form.constraints.as_ref().map(constraints::render);
    let constraints = constraints.unwrap_or_default();
    let displayed = record.show(notification, server_time);
    let due = v1::DueNotification {
        notification: Some(care_invitation::render_notification(
            &record.key,
            &displayed,
        )),
        lease_token: lease.token.to_string(),
        lease_expire_time: Some(render_instant(lease.expires_at)),
        possible_repeat: notification.possible_repeat,
        booking_request: request_name(&record.key),
        care_unit: care_unit_name(&record.key.care_unit),
        personal_id: form.patient.personal_id.number().to_owned(),
        personal_id_type: enums::render(form.patient.personal_id.kind()),
        issuer: render_issuer(&form.patient.personal_id),
        protection: enums::render_optional(form.patient.protection),
        language: form.patient.language.clone(),
        visit_kind: enums::render(form.visit_kind),
        requested_period: constraints.requested_period,
        previous_send_time: previous_sent_at(record, notification).map(render_instant),
        visit_type: Some(render_visit_type(&form.visit_type)),
        purpose: form.purpose.clone(),
        patient_instructions: render_instructions(&form.patient_instructions),
        released_by_staff: notification.released_at.is_some(),
        cancel_reason: cancel_reason(record, notification.kind),
        addressee: enums::render(lease.addressee),
        interpreter_language: form
            .patient
            .interpreter_language
            .clone()
            .unwrap_or_default(),
        letter_format: enums::render(form.patient.letter_format),
        weekdays: constraints.weekdays,
        time_windows: constraints.time_windows,
        duration_minutes: constraints.duration_minutes,
        expire_time: record.expires_at().map(render_instant),
        traceparent: traceparent.unwrap_or_default().to_owned(),
    };
    Some(render_event(Event::Due(due), server_time))
}

/// Renders the reason for closing the request, which a withdrawal alone carries.
fn cancel_reason(record: &BookingRequest, kind: Kind) -> i32 {
    match kind {
        Kind::Withdrawal => enums::render_optional(record.cancel_reason),
        Kind::Invitation | Kind::Reminder { .. } => 0,
    }
}

/// Returns the time at which the notification before this one in its round was handed over.
fn previous_sent_at(record: &BookingRequest, notification: &Notification) -> Option<Instant> {
    let invitation = record.care_invitation.as_ref()?;
    let notifications = invitation.notifications.iter();
    notifications
        .filter(|other| other.round == notification.round && other.id != notification.id)
        .filter_map(Notification::handed_over_at)
        .max()
}

/// Renders the event that the lease of the notification with this name is revoked.
pub fn render_revoked(name: String, now: Instant) -> v1::StreamDueNotificationsResponse {
    render_event(Event::Revoked(name), now)
}

/// Renders a heartbeat.
pub fn render_heartbeat(now: Instant) -> v1::StreamDueNotificationsResponse {
    render_event(Event::Heartbeat(v1::Heartbeat {}), now)
}

fn render_event(event: Event, now: Instant) -> v1::StreamDueNotificationsResponse {
    v1::StreamDueNotificationsResponse {
        event: Some(event),
        server_time: Some(render_instant(now)),
    }
}

/// Renders the response of AuthorizeDispatch; `expires_at` is the time at which the authorization expires,
/// `None` if nothing was authorized.
pub fn render_authorized(
    results: impl IntoIterator<Item = (String, ElementResult)>,
    expires_at: Option<Instant>,
    now: Instant,
) -> v1::AuthorizeDispatchResponse {
    let result = |(name, result)| {
        let (authorized, refusal, error) = render_result(result);
        v1::AuthorizeDispatchResult {
            name,
            authorized,
            refusal,
            error,
        }
    };
    v1::AuthorizeDispatchResponse {
        results: results.into_iter().map(result).collect(),
        expire_time: expires_at.map(render_instant),
        server_time: Some(render_instant(now)),
    }
}

/// Renders the response of AcknowledgeNotifications.
pub fn render_acknowledged(
    results: impl IntoIterator<Item = (String, ElementResult)>,
) -> v1::AcknowledgeNotificationsResponse {
    let result = |(name, result)| {
        let (recorded, refusal, error) = render_result(result);
        v1::AcknowledgementResult {
            name,
            recorded,
            refusal,
            error,
        }
    };
    v1::AcknowledgeNotificationsResponse {
        results: results.into_iter().map(result).collect(),
    }
}

/// The refusal of an element, if it was refused, or the error for which it was not executed.
pub type ElementResult = Result<Option<DispatchRefusal>, v1::ElementError>;

/// Renders a result: true when the element was executed, otherwise its refusal or its error.
fn render_result(result: ElementResult) -> (bool, i32, Option<v1::ElementError>) {
    match result {
        Ok(refusal) => (refusal.is_none(), enums::render_optional(refusal), None),
        Err(error) => (false, 0, Some(error)),
    }
}

#[cfg(test)]
mod tests;
