//! Running invitations: messages that an older system handed over before the request was created here.

use super::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::notification::{
    Cause, ChannelReason, DeliveryChannel, Kind, Notification, State,
};
use crate::domain::{Context, Violation};

/// A message that an older system handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriorMessage {
    /// Kind: the invitation, then the reminders in their order.
    pub kind: Kind,
    /// Channel through which it was handed over.
    pub channel: DeliveryChannel,
    /// Time at which it was handed over.
    pub sent_at: Instant,
}

/// Returns the violations of messages that are more than a round has, or were handed over after `now`.
pub(super) fn violations(
    messages: &[PriorMessage],
    reminder_count: u32,
    now: Instant,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let max = 1 + usize::try_from(reminder_count).expect("a small number");
    if messages.len() > max {
        let fault = format!("must be at most {max}: the invitation and its reminders");
        violations.push(Violation::new("prior_messages", fault));
    }
    for (place, message) in messages.iter().enumerate() {
        if message.sent_at > now {
            let field = format!("prior_messages[{place}].send_time");
            violations.push(Violation::new(field, "must not be in the future"));
        }
    }
    violations
}

impl BookingRequest {
    /// Begins the first round with messages that were handed over before, and plans the reminder that
    /// follows them, if one does. It counts from the last of them, and may be overdue.
    pub(super) fn import_round(&mut self, messages: &[PriorMessage], context: &Context) {
        self.open_round(context);
        for message in messages {
            let (chosen, reason) = self.choose_channel(context.now, &context.policy);
            let reason = match message.channel {
                channel if channel == chosen => reason,
                DeliveryChannel::Inbox => ChannelReason::Default,
                DeliveryChannel::Letter => ChannelReason::Staff,
            };
            if let Some(planned) = self.plan(message.kind, message.sent_at, context) {
                planned.import(message, reason);
            }
        }
        let schedule = self.care_invitation.as_ref().map(|it| it.schedule);
        let next = messages.last().zip(schedule).and_then(|(last, schedule)| {
            let kind = last.kind.next(schedule.reminder_count)?;
            Some((kind, schedule.reminder_due_at(last.sent_at)))
        });
        if let Some((kind, due_at)) = next {
            self.plan(kind, due_at, context);
        }
    }
}

impl Notification {
    fn import(&mut self, message: &PriorMessage, reason: ChannelReason) {
        self.state = State::Sent;
        self.channel = message.channel;
        self.channel_reason = reason;
        self.sent_at = Some(message.sent_at);
        self.explain(Cause::Imported, "");
    }
}
