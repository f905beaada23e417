//! ReleaseHold: the channel, and the reason.

use crate::contract::text::{COMMENT_MAX, parse_required_lines};
use crate::contract::{
    IdempotentCommand, Violations, enums, parse_request_id, parse_request_name, request_name, v1,
};
use crate::domain::booking_request::release_hold::ReleaseHold;
use crate::domain::request_key::RequestKey;

/// Parses ReleaseHold.
///
/// # Errors
///
/// Every fault of shape, such as a missing comment.
pub fn parse_release(
    message: v1::ReleaseHoldRequest,
) -> Result<IdempotentCommand<(RequestKey, ReleaseHold)>, Violations> {
    Violations::collect(|violations| {
        let key = parse_request_name(&message.name, "name", violations);
        let request_id = parse_request_id(&message.request_id, violations);
        let channel = enums::parse_optional(message.channel, "channel", violations);
        let comment = parse_required_lines(&message.comment, COMMENT_MAX, "comment", violations);
        let key = key?;
        let command = ReleaseHold {
            etag: message.etag,
            channel,
            comment: comment?,
        };
        let content = v1::ReleaseHoldRequest {
            name: request_name(&key),
            request_id: String::new(),
            etag: command.etag.clone(),
            channel: enums::render_optional(command.channel),
            comment: command.comment.clone(),
        };
        Some(IdempotentCommand::new(
            request_id?,
            "ReleaseHold",
            &content,
            (key, command),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::booking_request::samples::key;
    use crate::contract::tests::fields;
    use crate::domain::notification::DeliveryChannel;
    use uuid::Uuid;

    fn release() -> v1::ReleaseHoldRequest {
        v1::ReleaseHoldRequest {
            name: request_name(&key()),
            request_id: Uuid::from_u128(5).to_string(),
            comment: "Talat med patienten".into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_channel_may_be_fixed_and_a_comment_must_say_why() {
        for (channel, comment, expected) in [
            (0, "Ja", Ok(None)),
            (1, "rad\nrad", Ok(Some(DeliveryChannel::Inbox))),
            (2, "Ja", Ok(Some(DeliveryChannel::Letter))),
            (3, "Ja", Err("channel")),
            (0, "", Err("comment")),
            (0, " \n", Err("comment")),
            (0, "Ja\0", Err("comment")),
        ] {
            let parsed = parse_release(v1::ReleaseHoldRequest {
                channel,
                comment: comment.into(),
                ..release()
            });
            let found = parsed.map(|it| it.command.1.channel).map_err(fields);
            let expected = expected.map_err(|field| vec![field.to_owned()]);
            assert_eq!(found, expected, "{channel} {comment:?}");
        }
        let nothing = parse_release(v1::ReleaseHoldRequest::default());
        assert_eq!(
            fields(nothing.unwrap_err()),
            ["name", "request_id", "comment"]
        );
    }

    #[test]
    fn the_channel_is_part_of_what_a_call_says() {
        let hash = |channel| {
            let message = v1::ReleaseHoldRequest {
                channel,
                ..release()
            };
            parse_release(message).unwrap().content_hash
        };
        assert_ne!(hash(0), hash(1));
        assert_ne!(hash(1), hash(2));
    }
}
