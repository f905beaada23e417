//! Messages that an older system handed over, on the creation of a running invitation.

use crate::contract::calendar::{parse_instant, render_instant};
use crate::contract::care_invitation::render_kind;
use crate::contract::{Violations, enums, v1};
use crate::domain::booking_request::prior_messages::PriorMessage;
use crate::domain::calendar::Instant;
use crate::domain::notification::Kind;

/// Maximum of messages in a round, whatever its settings: the invitation and five reminders.
const MESSAGES_MAX: usize = 6;

/// Parses the field `prior_messages`, which may be empty.
pub(super) fn parse(
    creation: &v1::CreateBookingRequestRequest,
    violations: &mut Violations,
) -> Vec<PriorMessage> {
    let messages = &creation.prior_messages;
    let form = creation.booking_request.as_ref();
    if messages.is_empty() {
        return Vec::new();
    }
    if form.is_some_and(|form| !form.invitation) {
        violations.add("prior_messages", "must be empty without an invitation");
    }
    if creation.repeat.is_some() {
        violations.add("repeat", "must be absent with prior messages");
    }
    if messages.len() > MESSAGES_MAX {
        violations.add("prior_messages", format!("must be at most {MESSAGES_MAX}"));
    }
    let mut parsed = Vec::with_capacity(messages.len());
    let mut before: Option<Instant> = None;
    for (sequence, message) in (0..).zip(messages.iter().take(MESSAGES_MAX)) {
        let field = format!("prior_messages[{sequence}]");
        violations.within(field, |violations| {
            let sent_at = parse_instant(message.send_time.as_ref(), "send_time", violations);
            if sent_at.is_some_and(|sent_at| before.is_some_and(|before| sent_at <= before)) {
                violations.add("send_time", "must be later than that of the message before");
            }
            before = sent_at.or(before);
            parsed.extend(parse_one(message, sequence, sent_at, violations));
        });
    }
    parsed
}

/// Parses the message with this place in the round, which was handed over at `sent_at`.
fn parse_one(
    message: &v1::PriorMessage,
    sequence: i16,
    sent_at: Option<Instant>,
    violations: &mut Violations,
) -> Option<PriorMessage> {
    let kind = match sequence {
        0 => Kind::Invitation,
        sequence => Kind::Reminder { sequence },
    };
    if message.kind() != render_kind(kind) {
        let fault = "must be INVITATION of the first, and REMINDER of those after it";
        violations.add("kind", fault);
    }
    if message.sequence != i32::from(kind.sequence()) {
        let fault = "must be 0 of the invitation, and 1, 2 and so on of the reminders";
        violations.add("sequence", fault);
    }
    let channel = enums::parse(message.channel, "channel", violations);
    Some(PriorMessage {
        kind,
        channel: channel?,
        sent_at: sent_at?,
    })
}

/// Renders a message.
pub(super) fn render(message: &PriorMessage) -> v1::PriorMessage {
    v1::PriorMessage {
        kind: render_kind(message.kind).into(),
        sequence: message.kind.sequence().into(),
        channel: enums::render(message.channel),
        send_time: Some(render_instant(message.sent_at)),
    }
}
